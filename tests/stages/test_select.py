"""The progress of a selection: it goes through as many rows as it announces."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_stores import N, make_run
from survey_runs import NO_CUTS, select

from swimmy_scale.cli import main
from swimmy_scale.method.job import Settings, dump_job
from swimmy_scale.method.sections import SelectSection
from swimmy_scale.stages import select as select_module
from swimmy_scale.stages.engine import Count
from swimmy_scale.stages.select import selection_count
from swimmy_scale.storage import selection as selection_module
from swimmy_scale.storage.scores import Scores

SECTION = SelectSection(levels={"2sigma": 0.2, "3sigma": 0.1}, formats=("fits",))


@pytest.mark.parametrize(
    ("models", "rule", "streamed", "n_passes"),
    [((), "mean", False, 6), ((), "mean", True, 7), (("a", "b"), "mean", False, 8), (("a", "b"), "rank", True, 10)],
)
def test_as_many_rows_are_done_as_were_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: tuple, rule: str, streamed: bool, n_passes: int
) -> None:
    monkeypatch.setattr(selection_module, "BLOCK_OBJECTS", 8)
    if streamed:
        monkeypatch.setattr(select_module, "IN_MEMORY_OBJECTS", 0)
        monkeypatch.setattr(select_module.sample_thresholds, "__defaults__", (0,))
    run, done = make_run(tmp_path / "run", models), list[int]()
    section = SECTION.model_copy(update={"combine": rule})
    assert selection_count(Scores(run / "scores.zarr"), section) == Count("rows", n_passes * N)
    select(run, tmp_path / "out", section, add=done.append)
    assert sum(done) == n_passes * N


def test_carried_thresholds_take_a_pass_less(tmp_path: Path) -> None:
    run, done = make_run(tmp_path / "run"), list[int]()
    first = select(run, tmp_path / "out", SECTION)
    section = SECTION.model_copy(update={"thresholds_from": tmp_path / "out" / "summary.json"})
    again = select(run, tmp_path / "again", section, add=done.append)
    assert again["thresholds"] == first["thresholds"]
    assert again["selected"] == first["selected"]
    assert sum(done) == selection_count(Scores(run / "scores.zarr"), section).total == 5 * N


def test_rows_are_counted_as_blocks_are_done(tmp_path: Path) -> None:
    seen: list[int] = []
    scores = Scores(make_run(tmp_path / "run") / "scores.zarr", seen.append)
    blocks = scores.blocks("score", block_objects=8)
    next(blocks)
    assert seen == []
    next(blocks)
    assert seen == [8]
    assert len(list(blocks)) == 1
    assert seen == [8, 8, 4]


def test_the_command_says_how_far_it_is(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run") / "scores.zarr"
    settings = tmp_path / "settings.yaml"
    settings.write_text(dump_job(Settings(sample=NO_CUTS), tmp_path, {"sample"}))
    words = ["select", str(path), "--output", str(tmp_path / "out"), "--settings", str(settings)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    first, last = result.stderr.splitlines()
    assert first == "select: 120 rows"
    assert re.fullmatch(r"select: done, 120 rows in \d+ s \(.*\)", last)
