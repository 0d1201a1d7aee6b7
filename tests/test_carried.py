"""Thresholds that are carried over from another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.carried import keep_carried, read_carried

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
