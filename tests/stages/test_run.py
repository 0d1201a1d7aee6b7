"""Whole runs: serial and on Dask, killed and resumed, damaged and repaired."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pytest
import xarray
from astropy.table import Table
from survey_runs import (
    N_OBJECTS,
    assert_same_results,
    call,
    call_here,
    mark,
    on_workers,
    opened,
    run_serially,
    start,
    start_words,
    verify,
    weights_of,
    write_job,
)

from swimmy_scale.cli.progress import Watch
from swimmy_scale.cluster.executors import LocalExecutor
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.stages.lost_workers import attempt
from swimmy_scale.stages.run import Run, run_job
from swimmy_scale.stages.score import ScoreStage
from swimmy_scale.storage.receipts import FINISHED, Ledger
from swimmy_scale.storage.run_directory import STAGES, RunDirectory
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import Selection, sample_thresholds

# NumPy warns of its new copy rules for code inside of Keras, not for ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


@pytest.fixture(scope="module")
def survey(finished: Path) -> Path:
    return finished / "survey"


@pytest.fixture(scope="module")
def job(finished: Path) -> Path:
    return finished / "job.yaml"


@pytest.fixture(scope="module")
def reference(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The serial run: what every other way of running must reproduce."""
    output = tmp_path_factory.mktemp("reference") / "run"
    subprocess.run(["cp", "-a", str(finished / "run"), str(output)], check=True)
    return output


@pytest.fixture
def copied(reference: Path, tmp_path: Path) -> Path:
    """A copy of the serial run with its times, to damage."""
    subprocess.run(["cp", "-a", str(reference), str(tmp_path / "run")], check=True)
    return tmp_path / "run"


def summary_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


# ---------------------------------------------------------------- what a run gives


def test_counts_reconcile_with_the_truth(reference: Path, survey: Path) -> None:
    summary = summary_of(reference)
    truth = Table.read(survey / "truth.fits")
    fault = np.asarray(truth["fault"]).astype(str)
    assert summary["given"] == N_OBJECTS == summary["scored"] + summary["quarantined"]
    expected = {code: int((fault == code).sum()) for code in sorted(set(fault) - {""})}
    assert summary["quarantined_by_code"] == expected
    assert summary["quarantined"] == sum(expected.values()) > 0
    records = Table.read(reference / "quarantine.csv", format="csv")
    assert len(records) == summary["quarantined"]
    assert records.colnames == ["object_id", "source", "band", "stage", "code", "reason"]


def test_thresholds_are_numpys(reference: Path) -> None:
    with opened(reference) as ds:
        sample = ds.score.values[ds.in_sample.values].astype(np.float64)
        for k, fraction in enumerate((0.05, 0.003, 0.000465)):
            expected = np.quantile(sample, 1 - fraction, axis=0)
            assert np.array_equal(ds.threshold.values[k], expected)
        above = ds.score.values[:, None, :] > ds.threshold.values[None]
        positive = (ds.residual.values > 0)[:, None, :]
        expected_flags = above & positive & ds.in_sample.values[:, None, None]
        expected_flags[:, :, 3:] = False
        assert np.array_equal(ds.candidate.values, expected_flags)
        assert np.isnan(ds.score.values).any(axis=1).tolist() == (ds.quarantine_code.values != 0).tolist()
        assert not ds.in_sample.values[ds.quarantine_code.values != 0].any()


def test_streamed_thresholds_are_the_same_number(reference: Path) -> None:
    scores = Selection(reference / "selection.zarr")
    fractions = [0.05, 0.003, 0.000465]
    streamed = sample_thresholds(scores, fractions, in_memory_objects=0)
    assert streamed.tobytes() == sample_thresholds(scores, fractions).tobytes()
    assert streamed.tobytes() == scores.read("threshold", 0, 3).tobytes()


def test_candidate_table_agrees_with_the_flags(reference: Path) -> None:
    table = Table.read(reference / "candidates.fits")
    scores = Selection(reference / "selection.zarr")
    chosen = scores.read("candidate")[:, 0].any(axis=1)
    assert np.asarray(table["object_id"]).tolist() == sorted(scores.read("object_id")[chosen].tolist())
    rows = summary_of(reference)["selected"]["2sigma"]["rows"]
    assert rows["any"]["sample"]["n_selected"] == len(table)
    n = {name: rows[name]["sample"]["n_selected"] for name in rows}
    included = n["g"] + n["r"] + n["i"] - n["g&r"] - n["r&i"] - n["g&i"] + n["g&r&i"]
    assert n["any"] == included
    cuts = summary_of(reference)["cuts"]
    assert cuts[0]["before"] == N_OBJECTS
    assert cuts[-1]["after"] == summary_of(reference)["in_sample"]
    assert all(one["after"] == other["before"] for one, other in itertools.pairwise(cuts))


def test_contract_of_the_run_directory(reference: Path) -> None:
    for name in ("job.yaml", "provenance.json", "cutouts.zarr", "models/selected.keras", "scores.zarr", "receipts"):
        assert (reference / name).exists(), name
    for name in ("quarantine.csv", "summary.json", "candidates.png", "log"):
        assert (reference / name).exists(), name
    with xarray.open_zarr(reference / "cutouts.zarr") as ds:
        assert ds.image.dims == ("object", "band", "y", "x")
        assert ds.image.attrs["units"] == "count"
        assert ds.image.attrs["zero_point_mag"] == 27.0
        assert ds.image.attrs["pixel_scale_arcsec"] == 0.168
        assert ds.object_id.dtype == np.int64
        assert ds.ra.attrs["units"] == "deg"
        assert list(ds.band.values) == ["g", "r", "i", "z", "y"]
        assert ds.attrs["format_version"] == 1
    status = {row["stage"]: row for row in RunDirectory(reference).status()}
    assert list(status) == [stage for stage in STAGES if stage != "evaluate"]
    assert all(row["finished"] for row in status.values())
    assert status["score"]["n_objects"] == N_OBJECTS


# ---------------------------------------------------------------- resume


def test_run_again_does_nothing(reference: Path, job: Path) -> None:
    def times() -> dict[Path, int]:
        """When each file was changed, except those that say who the driver is and how far it is."""
        changing = [reference / "receipts" / name for name in ("driver.lock", "driver.json")]
        changing.append(reference / "log/progress.json")
        return {
            path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file() and path not in changing
        }

    before = times()
    _, workers = run_serially(job, reference)
    assert workers.n_tasks == 0
    assert times() == before


def test_two_drivers(reference: Path, job: Path) -> None:
    with RunDirectory(reference).lock():
        # People remove logs, while a driver works too.
        shutil.rmtree(reference / "log")
        result = call_here("run", job, "--output", reference, "--workers", 0)
        again = call_here("verify", reference)
    assert result.returncode == again.returncode == 1
    assert "is in use by process" in result.stderr
    assert "is in use by process" in again.stderr


def test_a_driver_whose_lock_is_removed_stops(reference: Path, job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    RunDirectory(run).ledger("score").remove("finished")
    plan = ScoreStage.plan

    def removed(stage: ScoreStage) -> Any:
        (run / "receipts/driver.lock").unlink()
        (run / "receipts/driver.lock").touch()
        return plan(stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoreStage, "plan", removed)
        result = call_here("run", job, "--output", run, "--workers", 0)
    assert result.returncode == 1
    assert f"{run}/receipts/driver.lock: somebody has removed the lock of this command while it worked" in result.stderr
    assert call_here("run", job, "--output", run, "--workers", 0).returncode == 3


def test_dask_gives_the_same_bytes(reference: Path, survey: Path, tmp_path: Path) -> None:
    sections = {"score": {"batch_size": 21}, **weights_of(reference)}
    job = load_job(write_job(tmp_path / "job.yaml", survey, **sections), Job)
    with Watch() as watch:
        run_job(Run(RunDirectory(tmp_path / "run"), job, 1), LocalExecutor(3, seconds_here=-1.0), watch)
    assert_same_results(tmp_path / "run", reference)
    assert (tmp_path / "run/candidates.png").read_bytes() == (reference / "candidates.png").read_bytes()


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120.0) -> bool:
    """Wait until something is seen; False when the process ended before."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if seen():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    raise AssertionError("waited too long")


def has_receipt(run: Path, stage: str) -> bool:
    return any((run / "receipts" / stage).glob("0*.json"))


def test_driver_killed_in_every_stage(reference: Path, job: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    moments: list[tuple[str, Callable[[], bool]]] = [
        ("ingest", lambda: has_receipt(run, "ingest")),
        ("train", lambda: any(run.glob("models/run-00/state-001-*.npz"))),
        ("score", lambda: has_receipt(run, "score")),
        ("select", lambda: any(run.glob(".selection.zarr.*.partial/threshold"))),
    ]
    killed = []
    for stage, seen in moments:
        process = start("run", job, "--output", run, "--workers", 2)
        if wait_for(seen, process):
            killed.append(stage)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert {"ingest", "train", "score"} <= set(killed)
    result = call("run", job, "--output", run, "--workers", 2)
    assert result.returncode == 3, result.stderr
    # Users are not to see what Dask's scheduler logs.
    assert "tls://" not in result.stderr
    assert "INFO" not in result.stderr
    assert_same_results(run, reference)
    assert verify(run) == []
    assert not list(run.rglob("*.partial"))


def test_workers_killed(reference: Path, survey: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_words(on_workers(write_job(tmp_path / "job.yaml", survey, **weights_of(reference)), run))
    for stage in ("ingest", "score"):
        assert wait_for(lambda stage=stage: has_receipt(run, stage), process)
        for child in psutil.Process(process.pid).children(recursive=True):
            # It does not matter if a worker ends by itself at this moment.
            with contextlib.suppress(psutil.Error):
                if child.ppid() != process.pid:  # it is no worker, but what they start from
                    child.kill()
                    break
    assert process.wait(timeout=200) == 0
    assert_same_results(run, reference)


# ---------------------------------------------------------------- damage and repair


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file and keep its times, as a failing disk would."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# Together what one stage has made, and alone what a damaged receipt may own.
DAMAGED = (
    (
        "cutouts.zarr/image/c/2/0/0/0",
        "cutouts.zarr/image/zarr.json",
        "cutouts.zarr/object_id/c/1",
        "cutouts.zarr/zarr.json",
    ),
    ("scores.zarr/residual/zarr.json", "scores.zarr/score/c/3/0", "scores.zarr/zarr.json"),
    (
        "candidates.fits",
        "candidates.vot",
        "quarantine.csv",
        "selection.zarr/candidate/c/0/0/0",
        "selection.zarr/candidate/zarr.json",
        "selection.zarr/level/zarr.json",
        "selection.zarr/threshold/zarr.json",
        "selection.zarr/zarr.json",
        "summary.json",
    ),
    ("models/manifest.json", "models/run-00/epoch-03.keras", "models/selected.keras"),
    ("selection.zarr/threshold/zarr.json",),
    ("receipts/ingest/000004.json",),
    (f"receipts/score/{FINISHED}.json",),
    ("candidates.png",),
    ("job.yaml",),
    ("provenance.json",),
    ("scorer.json",),
)


@pytest.mark.parametrize("names", DAMAGED, ids=lambda names: names[0])
def test_flipped_bits_are_found_and_repaired(copied: Path, reference: Path, job: Path, names: tuple[str, ...]) -> None:
    for name in names:
        flip(copied / name)
    assert sorted(item.path for item in verify(copied)) == [*names]
    mark(copied)
    before = {path: path.stat().st_mtime_ns for path in (copied / "receipts").rglob("0*.json")}
    run_serially(job, copied)
    assert verify(copied) == []
    assert_same_results(copied, reference)
    after = {path: path.stat().st_mtime_ns for path in (copied / "receipts").rglob("0*.json")}
    again = {path.parent.name for path in after if before.get(path) != after[path]}
    assert len(again) <= 1, f"more than the damaged stage was done again: {again}"


def test_missing_files_are_found(copied: Path, job: Path, reference: Path) -> None:
    (copied / "scores.zarr/score/c/0/0").unlink()
    (copied / "candidates.ecsv").unlink()
    assert sorted(item.reason for item in verify(copied)) == ["missing", "missing"]
    _, workers = run_serially(job, copied)
    assert workers.n_tasks == 1
    assert_same_results(copied, reference)


def test_damage_with_a_new_time_is_seen_without_verify(copied: Path, job: Path, reference: Path) -> None:
    path = copied / "scores.zarr/score/c/1/0"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    _, workers = run_serially(job, copied)
    assert workers.n_tasks == 1
    assert_same_results(copied, reference)


def test_changed_input_is_scored_again_and_nothing_else(survey: Path, reference: Path, tmp_path: Path) -> None:
    """One object's file breaks, its partition is ingested again: only the scores of that partition follow."""
    shutil.copytree(survey, tmp_path / "survey")
    job = write_job(tmp_path / "job.yaml", tmp_path / "survey", **weights_of(reference))
    before, workers = run_serially(job, tmp_path / "run")
    n_partitions = -(-N_OBJECTS // 32)
    assert workers.n_tasks == 2 * n_partitions + 1
    # A sound object: its line is not among those in quarantine.
    quarantined = {str(name) for name in Table.read(tmp_path / "run/quarantine.csv", format="csv")["source"]}
    sound = next(path for path in sorted((tmp_path / "survey/cutouts/saved").iterdir()) if str(path) not in quarantined)
    sound.write_bytes(b"")
    Ledger(tmp_path / "run/receipts", tmp_path / "run", "ingest").remove(FINISHED)
    after, workers = run_serially(job, tmp_path / "run")
    assert workers.n_tasks == 3, "one partition ingested, the same one scored, and the picture"
    assert after["quarantined"] == before["quarantined"] + 1
    run_serially(job, tmp_path / "fresh")
    assert_same_results(tmp_path / "run", tmp_path / "fresh")


def test_verify_refuses_another_folder(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"neither a run directory .* nor the output of one command"):
        verify(tmp_path)


@pytest.mark.parametrize("command", ["verify", "status", "report"])
def test_a_run_without_its_receipts_is_told_as_such(tmp_path: Path, command: str) -> None:
    (tmp_path / "scorer.json").touch()
    said = call_here(command, tmp_path).stderr
    assert f"{tmp_path}: holds scorer.json, but no receipts folder" in said
    assert f"run {tmp_path}/job.yaml --output {tmp_path}` does all again" in said
    (tmp_path / "receipts").touch()
    assert f"{tmp_path}/receipts: not a folder" in call_here(command, tmp_path).stderr


@pytest.mark.slow
def test_without_its_receipts_a_run_is_done_again(copied: Path, reference: Path) -> None:
    shutil.rmtree(copied / "receipts")
    assert call_here("run", copied / "job.yaml", "--output", copied, "--workers", 0).returncode == 3
    assert verify(copied) == []
    assert_same_results(copied, reference)


def test_unfinished_partitions_alone_are_done(copied: Path, job: Path, reference: Path) -> None:
    Ledger(copied / "receipts", copied, "score").remove("000002")
    Ledger(copied / "receipts", copied, "score").remove(FINISHED)
    _, workers = run_serially(job, copied)
    assert workers.n_tasks == 1
    assert_same_results(copied, reference)


# Loaded into workers by Dask: reading one object's files makes the process die, as a broken library would.
DEADLY = """
import os, signal
import swimmy_scale.stages.ingest_partition as ingest

def deadly(index, lo, object_id, *more):
    if {object_id} in object_id:
        os.kill(os.getpid(), signal.SIGKILL)
    return ingest.plain_read_rows(index, lo, object_id, *more)

if not hasattr(ingest, "plain_read_rows"):
    ingest.plain_read_rows, ingest.read_rows = ingest.read_rows, deadly
"""


def test_an_object_that_ends_workers_goes_to_quarantine(survey: Path, reference: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job.yaml", survey, **weights_of(reference))
    object_id = int(Table.read(survey / "catalogue.fits")["object_id"][50])
    assert object_id not in set(Table.read(reference / "quarantine.csv", format="csv")["object_id"])
    (tmp_path / "deadly.py").write_text(DEADLY.format(object_id=object_id))
    run = Run(RunDirectory(tmp_path / "run"), load_job(job, Job), 1)
    with dask.config.set({"distributed.worker.preload": [str(tmp_path / "deadly.py")]}), Watch() as watch:
        summary = run_job(run, LocalExecutor(1), watch)
    records = Table.read(tmp_path / "run/quarantine.csv", format="csv")
    (record,) = [row for row in records if row["code"] == "ended_workers"]
    assert (record["object_id"], record["stage"]) == (object_id, "ingest")
    reason = "processing it alone ended 3 workers or more, while the rest of its partition passed each time"
    assert record["reason"] == reason
    before = json.loads((reference / "summary.json").read_text())
    assert summary["quarantined"] == before["quarantined"] + 1
    assert summary["given"] == before["given"] == summary["scored"] + summary["quarantined"]
    # Without the fault, and in one process, the run still knows what it left out.
    Ledger(tmp_path / "run/receipts", tmp_path / "run", "ingest").remove("000001")
    Ledger(tmp_path / "run/receipts", tmp_path / "run", "ingest").remove(FINISHED)
    again, workers = run_serially(job, tmp_path / "run")
    assert again == summary
    assert workers.n_tasks == 1


def test_a_worker_lost_after_an_epoch_is_no_fault(copied: Path, job: Path, reference: Path) -> None:
    shutil.rmtree(copied / "models")
    stages = Run(RunDirectory(copied), load_job(job, Job), 1).stages()
    train = next(stage for stage in stages if stage.ledger.stage == "train")
    (task,) = train.plan()
    marks = copied / "receipts/attempts/train" / task.name
    marks.mkdir(parents=True)
    for number in (1, 2):
        (marks / f"node-{number}-x").touch()
    attempt(train.perform, task)
    assert not marks.exists(), "else training that outlasts three walltimes would be blamed for it"
    assert (copied / "models/run-00/epoch-03.keras").read_bytes() == (
        reference / "models/run-00/epoch-03.keras"
    ).read_bytes()


def test_a_run_of_another_version_is_read_and_not_continued(copied: Path, job: Path) -> None:
    ledger = RunDirectory(copied).ledger("job")
    receipt = ledger.read(FINISHED)
    assert receipt is not None
    ledger.commit(replace(receipt, details={"n_tasks": 0}))
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with pytest.raises(SwimmyError, match=r"another version of the program \(format_version 1, .*another --output"):
        run_serially(job, copied)
    assert {path: path.read_bytes() for path in before if path.parent.name != "log"} == {
        path: data for path, data in before.items() if path.parent.name != "log"
    }
    assert verify(copied) == []
    assert RunDirectory(copied).status()[-1]["finished"]


# ---------------------------------------------------------------- the scorer


def test_another_scorer_by_a_site_file(reference: Path, copied: Path, job: Path, tmp_path: Path) -> None:
    """All partitions are scored again, on Dask as serially, and the scores are the same up to their last digits."""
    site = tmp_path / "site.yaml"
    site.write_text("swimmy-scale: {kind: local, workers: 1, scorer: keras}\n")
    done = call_here("run", job, "--output", copied, "--site", site)
    assert done.returncode == 3, done.stderr
    serial = tmp_path / "serial"
    subprocess.run(["cp", "-a", str(reference), str(serial)], check=True)
    run_serially(job, serial, "keras")
    assert_same_results(copied, serial)
    ours, theirs = Scores(reference / "scores.zarr"), Scores(copied / "scores.zarr")
    assert (ours.attrs["scorer"], theirs.attrs["scorer"]) == ("numba", "keras")
    assert not np.array_equal(ours.read("score"), theirs.read("score"), equal_nan=True)
    np.testing.assert_allclose(ours.read("score"), theirs.read("score"), rtol=5e-5, atol=1e-8)
    np.testing.assert_allclose(ours.read("residual"), theirs.read("residual"), rtol=1e-4, atol=1e-4)
    flags = [Selection(run / "selection.zarr").read("candidate") for run in (reference, copied)]
    assert (flags[0] == flags[1]).all(), "no score lies that near to a threshold"
    assert verify(copied) == []
    # Without a name the run keeps what it has, also one that is older than the record.
    for name in ("scorer.json", f"receipts/scorer/{FINISHED}.json"):
        before = {path: path.stat().st_mtime_ns for path in (copied / "receipts/score").iterdir()}
        assert call_here("run", job, "--output", copied).returncode == 3
        assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing is scored again"
        assert json.loads((copied / "scorer.json").read_text())["scorer"] == "keras"
        assert json.loads((copied / "provenance.json").read_text())["scorer"] == "keras"
        (copied / name).unlink()
