"""Which scorer a command takes, and that runs and outputs keep the one that they began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swimmy_scale.stages.scorer_choice import chosen_scorer, kept_beside, kept_by_run
from swimmy_scale.storage.receipts import Receipt, task_name
from swimmy_scale.storage.run_directory import RunDirectory, ledger_beside


@pytest.mark.parametrize(
    ("asked", "kept", "on_gpu", "expected"),
    [
        ("auto", None, False, "numba"),
        ("auto", None, True, "keras"),
        ("auto", "keras", False, "keras"),
        ("auto", "numba", True, "numba"),
        ("keras", "numba", False, "keras"),
        ("numba", "keras", True, "numba"),
    ],
)
def test_a_name_then_what_is_kept_then_what_fits(asked: Any, kept: Any, on_gpu: bool, expected: str) -> None:
    assert chosen_scorer(asked, kept, on_gpu) == expected


def test_a_run_keeps_its_record(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert kept_by_run(run) is None
    run.keep_scorer("keras")
    before = run.scorer.stat().st_mtime_ns
    run.keep_scorer("keras")
    assert run.scorer.stat().st_mtime_ns == before
    assert json.loads(run.scorer.read_text()) == {"format_version": 1, "scorer": "keras"}
    assert kept_by_run(run) == "keras"
    run.keep_scorer("numba")
    assert kept_by_run(run) == "numba"


@pytest.mark.parametrize(
    ("computed_by", "scorer"), [("CPU (keras)", "keras"), ("GPU", "keras"), ("CPU (numba)", "numba")]
)
@pytest.mark.parametrize("stage", ["score", "evaluate"])
def test_what_scored_before_there_were_records_is_kept(
    tmp_path: Path, stage: str, computed_by: str, scorer: str
) -> None:
    run, output = RunDirectory(tmp_path / "run"), tmp_path / "scores.zarr"
    run.ledger("ingest").commit(Receipt("ingest", task_name(0), ""))
    for ledger in (run.ledger(stage), ledger_beside(output, stage)):
        ledger.commit(Receipt(stage, "finished", "", details={"n_tasks": 1, "computed_by": {computed_by: 7}}))
        ledger.path(task_name(0)).write_text("damaged")
        ledger.commit(Receipt(stage, task_name(1), "", details={"computed_by": computed_by}))
    assert kept_by_run(run) == kept_beside(output) == scorer
    # A record that is there counts, unless it is damaged.
    run.keep_scorer("numba" if scorer == "keras" else "keras")
    assert kept_by_run(run) != scorer
    run.scorer.write_text("{}")
    assert kept_by_run(run) == scorer


def test_nothing_is_kept_where_nothing_is(tmp_path: Path) -> None:
    assert kept_beside(tmp_path / "scores.zarr") is None
    assert kept_by_run(RunDirectory(tmp_path)) is None
