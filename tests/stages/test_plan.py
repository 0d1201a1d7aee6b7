"""`plan`: what it tells of a job, against what a run of it then did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from survey_runs import call_here, weights_of, write_job

from swimmy_scale.cluster.executors import place_for
from swimmy_scale.cluster.site import Site, load_site
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.stages.memory import MIB, MemoryLimits
from swimmy_scale.stages.place import Place
from swimmy_scale.stages.plan import INGEST_SECONDS, TRAIN_SECONDS, plan_job
from swimmy_scale.stages.run import Run
from swimmy_scale.storage.run_directory import RunDirectory

pytestmark = pytest.mark.slow

HERE = Place("here", 4, 2, 1, on_gpu=False)
AMPLE = MemoryLimits(1 << 40, 1 << 40, "here", "buy more")


def planned(job: Path, *words: object) -> dict[str, Any]:
    done = call_here("plan", job, "--json", *words)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_a_plan_is_what_the_run_did(finished: Path) -> None:
    before = sorted(finished.rglob("*"))
    plan = planned(finished / "job.yaml")
    assert sorted(finished.rglob("*")) == before, "a plan writes nothing"
    run, summary = finished / "run", json.loads((finished / "run/summary.json").read_text())
    assert (plan["given"], plan["problems"]) == (summary["given"], [])
    assert summary["scored"] <= plan["usable"] <= summary["given"]
    rows = {row["stage"]: row for row in RunDirectory(run).status()}
    for stage in plan["stages"]:
        assert stage["n_tasks"] == rows[stage["stage"]]["n_tasks"], stage
    files = [path for part in ("cutouts.zarr", "scores.zarr", "receipts", "models") for path in (run / part).rglob("*")]
    assert plan["files_written"] == pytest.approx(sum(path.is_file() for path in files), rel=0.35)
    stored = sum(path.stat().st_size for path in (run / "cutouts.zarr/image").rglob("*") if path.is_file())
    assert plan["disk_bytes"] == pytest.approx(stored, rel=0.15)
    assert plan["training_objects"] > 0
    assert set(plan["with_pixels"]) == set("grizy")
    by_name = {cut["name"]: cut for cut in plan["cuts"]}
    told = {cut["name"]: (cut["rule"], cut["note"]) for cut in summary["cuts"]}
    assert told == {name: (cut["rule"], cut["note"]) for name, cut in by_name.items()}


def test_words_and_a_store(finished: Path, tmp_path: Path) -> None:
    given = {"catalogue": None, "ingest": None, "cutouts": str(finished / "run/cutouts.zarr")}
    job = write_job(tmp_path / "job.yaml", tmp_path, **given, **weights_of(finished / "run"))
    done = call_here("plan", job, "--workers", 2)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line[0] != " "}
    assert lines["objects"].startswith("objects      240 given, 228 usable")
    assert "ingest" not in lines
    assert "train" not in lines
    assert "2 processes that read, 2 for the network" in lines["where"]
    assert "an estimate" in lines["time"]
    assert "docs/performance.md" in done.stdout


def test_times_grow_as_they_must(finished: Path, tmp_path: Path) -> None:
    schedule = {"epochs": 6, "keep_from_epoch": 6, "batch_size": 16}
    train = {"schedule": schedule, "n_runs": 3, "n_threads": 1, "max_objects": 20}
    job = load_job(write_job(tmp_path / "job.yaml", finished / "survey", train=train), Job)
    run = Run(RunDirectory(tmp_path / "run"), job, 1, AMPLE)
    needs = {need.stage: need for need in plan_job(run, HERE).needs}
    assert needs["ingest"].seconds == pytest.approx(240 * INGEST_SECONDS / 4)
    # Three trainings by two processes are two rounds.
    assert needs["train"].seconds == pytest.approx(2 * 20 * 6 * TRAIN_SECONDS[1])
    gpu = Run(RunDirectory(tmp_path / "run"), job, 1, AMPLE, "keras")
    found = {need.stage: need.seconds for need in plan_job(gpu, Place("site", 4, 1, 1, on_gpu=True)).needs}
    assert found["train"] is None, "no rate of a GPU was measured"
    assert found["score"] is None


def test_a_job_that_does_not_fit_is_told(finished: Path, tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path / "job.yaml", finished / "survey", score={"batch_size": 10**7}), Job)
    run = Run(RunDirectory(tmp_path / "run"), job, 1, MemoryLimits(4000 * MIB, 4000 * MIB, "here", "buy more"))
    (problem,) = plan_job(run, HERE).problems
    assert "scoring 10,000,000 objects a batch needs up to" in problem


def test_another_job_in_a_run_directory(finished: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job.yaml", finished / "survey", select={"levels": {"top": 0.1}})
    done = call_here("plan", job, "--output", finished / "run")
    assert done.returncode == 0, done.stderr
    assert "another job than before (select.levels from {" in done.stderr
    assert "Done again: select. Then, where what they read differs: picture." in done.stderr
    assert "Remains: ingest, train, score." in done.stderr


def test_the_place_of_a_site(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "swimmy-scale: {kind: slurm, groups: {cpu: {jobs: 3}, gpu: {jobs: 2, gpus: 1}}}\n"
        "jobqueue: {driver: {}, cpu: {cores: 8, processes: 4, memory: 16GiB}, gpu: {cores: 4, memory: 32GiB}}\n"
    )
    site: Site = load_site(tmp_path / "site.yaml")
    job = load_job(finished / "job.yaml", Job)
    place, limits, threads = place_for(site, None, job, "numba")
    assert (place.readers, place.network, place.on_gpu, threads) == (12, 2, True, 2)
    assert limits.reader_bytes == 4 << 30
