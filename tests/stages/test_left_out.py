"""Objects that are left out because they ended workers: their receipts, and a run that tries them again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from survey_runs import assert_same_results, call_here, verify

from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.lost_workers import leave_out, left_out
from swimmy_scale.stages.run import Run, freeze_inputs
from swimmy_scale.storage.run_directory import RunDirectory

pytestmark = pytest.mark.slow


def test_left_out_objects_are_tried_again_when_asked_for(finished: Path, tmp_path: Path) -> None:
    run, job = tmp_path / "run", finished / "job.yaml"
    shutil.copytree(finished / "run", run)
    before = json.loads((run / "summary.json").read_text())
    for stage, partition in (("ingest", "000001"), ("score", "000002")):
        ledger = RunDirectory(run).ledger(stage)
        leave_out(ledger, partition, [3])
        ledger.remove(partition)
        ledger.remove("finished")
    assert call_here("run", job, "--output", run, "--workers", "0").returncode == 3
    again = json.loads((run / "summary.json").read_text())
    assert again["quarantined"] == before["quarantined"] + 2
    assert (run / "quarantine.csv").read_text().count("ended_workers") == 2
    assert verify(run) == []

    # The list itself has a receipt: its partition is done again where it is damaged, and then needs no list.
    kept = run / "receipts/left-out/score/000002.json"
    text = kept.read_text()
    kept.write_text(text.replace("3", "4"))
    assert [(item.stage, item.name, item.path) for item in verify(run)] == [
        ("score", "000002", "receipts/left-out/score/000002.json")
    ]
    kept.write_text(text)

    done = call_here("run", job, "--output", run, "--workers", "0", "--try-again")
    assert done.returncode == 3
    assert json.loads((run / "summary.json").read_text()) == before
    assert_same_results(run, finished / "run")
    assert verify(run) == []


def test_objects_whose_files_are_gone_are_not_tried_again(finished: Path, tmp_path: Path) -> None:
    """Else what is ingested of their partition would be lost as well."""
    directory = RunDirectory(tmp_path / "run")
    shutil.copytree(finished / "run", directory.path)
    job = directory.load_job()
    assert job.ingest is not None
    job = job.model_copy(update={"ingest": job.ingest.model_copy(update={"sources": (tmp_path / "gone",)})})
    directory.freeze_job(job)
    ledger = directory.ledger("ingest")
    names = ledger.names()
    leave_out(ledger, "000001", [3])
    with pytest.raises(SwimmyError, match=r"/gone: not there\. Correct the path"):
        freeze_inputs(Run(directory, job, 1), try_left_out=True)
    assert ledger.names() == names
    assert left_out(ledger, "000001") == [3]
    freeze_inputs(Run(directory, job, 1))
