"""Thresholds that are carried over from another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.score_kind import EQUATION_6, ScoreKind
from swimmy_scale.stages.carried_thresholds import keep_carried, read_carried
from swimmy_scale.storage.receipts import Parts
from swimmy_scale.storage.run_directory import SelectionFolder

TABLE = {"2sigma": {"g": 1.5, "r": 0.25}}


def summary(path: Path, **change: Any) -> Path:
    path.write_text(json.dumps({"format_version": 1, "thresholds": TABLE, **change}))
    return path


def test_the_copy_outlives_the_original(tmp_path: Path) -> None:
    original, copy = summary(tmp_path / "summary.json"), tmp_path / "copy.json"
    first = keep_carried(original, copy)
    assert first.summary["thresholds"] == TABLE
    summary(original, thresholds={"2sigma": {"g": 9.0, "r": 9.0}})
    assert keep_carried(original, copy) == first, "the run was begun with the first ones"
    original.unlink()
    assert keep_carried(original, copy) == first
    assert first.thresholds_from == str(original)


def test_a_damaged_copy_is_made_again_or_refused(tmp_path: Path) -> None:
    original, copy = summary(tmp_path / "summary.json"), tmp_path / "copy.json"
    first = keep_carried(original, copy)
    whole = copy.read_text()
    copy.write_text(whole.replace("1.5", "1.6"))
    assert keep_carried(original, copy) == first
    assert copy.read_text() == whole
    copy.write_text(whole.replace("1.5", "1.6"))
    original.unlink()
    with pytest.raises(SwimmyError, match=r"summary.json: not a readable summary .*Give another run's summary.json"):
        keep_carried(original, copy)


def test_a_summary_that_differs_from_its_receipt_is_refused(tmp_path: Path) -> None:
    original, folder = summary(tmp_path / "summary.json"), SelectionFolder(tmp_path)
    folder.ledger.finish("identity", Parts(), [original], {})
    assert read_carried(original).summary["thresholds"] == TABLE
    whole = original.read_text()
    original.write_text(whole.replace("1.5", "1.7"))
    with pytest.raises(SwimmyError, match=r"summary\.json: damaged or edited, .* verify .* --repair`; thresholds that"):
        read_carried(original)
    with pytest.raises(SwimmyError, match=r"summary\.json: damaged or edited"):
        keep_carried(original, tmp_path / "copy.json")
    assert not (tmp_path / "copy.json").exists()
    edited = original.rename(tmp_path / "mine.json")
    assert read_carried(edited).summary["thresholds"]["2sigma"]["g"] == 1.7


@pytest.mark.parametrize(("n_models", "combine"), [(1, None), (3, "mean"), (3, "rank"), (5, "mean")])
def test_the_copy_knows_whose_scores_are_cut(tmp_path: Path, n_models: int, combine: str | None) -> None:
    change = {"n_models": n_models, "combine": combine} if n_models > 1 else {}
    original, copy = summary(tmp_path / "summary.json", **change), tmp_path / "copy.json"
    keep_carried(original, copy)
    original.unlink()
    carried = keep_carried(original, copy)
    assert (carried.n_models, carried.combine) == (n_models, combine)
    assert ("n_models" in json.loads(copy.read_text())) == (n_models > 1)
    carried.check(n_models, combine or "median", EQUATION_6)
    with pytest.raises(
        SwimmyError, match=r"summary.json: its thresholds cut .*, and here they would cut the median of 4"
    ):
        carried.check(4, "median", EQUATION_6)


@pytest.mark.parametrize("floor", [None, 0.02, 0.5])
def test_the_copy_knows_which_score_is_cut(tmp_path: Path, floor: float | None) -> None:
    change = {} if floor is None else {"score": {"kind": "noise", "floor": floor}}
    original, copy = summary(tmp_path / "summary.json", **change), tmp_path / "copy.json"
    keep_carried(original, copy)
    original.unlink()
    carried = keep_carried(original, copy)
    assert carried.kind == ScoreKind(floor)
    assert json.loads(copy.read_text()).get("score") == change.get("score")
    carried.check(1, "mean", ScoreKind(floor))
    cut = "scores of equation 6" if floor is None else f"noise scores with the floor {floor}"
    with pytest.raises(SwimmyError, match=rf"summary.json: its thresholds cut {cut}, and here .* the floor 0.1. Give"):
        carried.check(1, "mean", ScoreKind(0.1))


@pytest.mark.parametrize("score", [3, {}, {"kind": "noise"}, {"kind": "other", "floor": 1}])
def test_a_score_that_is_not_understood_is_refused(tmp_path: Path, score: Any) -> None:
    path = summary(tmp_path / "summary.json", score=score)
    with pytest.raises(
        SwimmyError, match=r"summary.json: the description of its scores is damaged .*Select that run again"
    ):
        read_carried(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable summary"),
        ("[]", "not a summary.json of format_version 1"),
        ('{"format_version": 2}', "not a summary.json of format_version 1. Select that run again"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(SwimmyError, match=message):
        read_carried(tmp_path / "s.json")
