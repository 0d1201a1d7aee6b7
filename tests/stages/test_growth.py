"""Runs that grow: further objects and late files as further partitions, with the bytes of one run of it all."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.table import Table
from survey_runs import (
    Serial,
    built_once,
    call_here,
    on_workers,
    run_serially,
    verification,
    weights_of,
    write_job,
)

from swimmy_scale import open_run
from swimmy_scale.cli.progress import Watch
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.sections import TrainSection
from swimmy_scale.stages import ingest_partition, score
from swimmy_scale.stages.engine import run_stage
from swimmy_scale.stages.prospects import prospects_of_store
from swimmy_scale.stages.run import Run
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.run_directory import RunDirectory
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.store import write_partition

pytestmark = pytest.mark.slow

N_FIRST, N_SECOND = 75, 41
IDS_APART = 10_000
LATE = {4: "grizy", 9: "i", 14: "r"}
"""Objects, by line of the catalogue, whose files in these bands come late; of the last an unreadable one is there."""
STORES = ("cutouts.zarr", "scores.zarr", "selection.zarr")
RESULTS = ("summary.json", "quarantine.csv", "candidates.fits", "candidates.ecsv", "candidates.vot")


def simulated(folder: Path, n_objects: int, seed: int) -> Path:
    from swimmy_scale.simulate import SimulationPlan, simulate

    simulate(str(folder), SimulationPlan(n_objects=n_objects, seed=seed, faulty_fraction=0.0, n_objects_per_tar=80))
    for tar in sorted((folder / "cutouts").glob("*.tar*")):
        with tarfile.open(tar) as packed:
            packed.extractall(folder / "cutouts", filter="data")
        tar.unlink()
    return folder


@pytest.fixture(scope="module")
def surveys(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """``first`` and ``second``, surveys of other objects; ``late``, files of the first; ``run``, the first alone."""

    def build(folder: Path) -> None:
        first, second = simulated(folder / "first", N_FIRST, 3), simulated(folder / "second", N_SECOND, 8)
        table = Table.read(second / "catalogue.fits")
        table["object_id"] += IDS_APART
        # One object of the first survey again, which is there; and one that waits for its files.
        known = Table.read(first / "catalogue.fits")["object_id"]
        table["object_id"][[3, 6]] = known[[20, 4]]
        table.write(second / "catalogue.fits", overwrite=True)
        assert len(np.intersect1d(table["object_id"], known)) == 2
        (folder / "late").mkdir()
        for row, bands in LATE.items():
            for band in bands:
                (path,) = list((first / "cutouts").rglob(f"{row + 2}[-_]*HSC-{band.upper()}*.fits"))[:1]
                shutil.copy(path, folder / "late" / path.name)
                path.unlink() if row != 14 else path.write_bytes(path.read_bytes()[:3000])
        run_serially(first_job(folder, folder / "first.yaml", finished), folder / "run")

    return built_once(tmp_path_factory, "growth", build)


def first_job(folder: Path, path: Path, finished: Path, **sections: Any) -> Path:
    sections = {"score": {"descriptors": True}, **sections}
    return write_job(path, folder / "first", **weights_of(finished / "run"), **sections)


def second_of(surveys: Path) -> dict[str, Any]:
    """The second survey as a section of a job."""
    second = surveys / "second"
    catalogue = {"path": str(second / "catalogue.fits"), "patch_qa": str(second / "patch_qa.fits")}
    return {"name": "night-2", "catalogue": catalogue, "ingest": {"sources": [str(second / "cutouts")]}}


def late_of(surveys: Path) -> dict[str, Any]:
    return {"name": "late", "ingest": {"sources": [str(surveys / "late")]}}


def add_second(surveys: Path, run: Path, *more: object) -> Any:
    second = surveys / "second"
    words = ("--catalog", second / "catalogue.fits", "--patch-qa", second / "patch_qa.fits")
    more = more or ("--name", "night-2")
    return call_here("add", run, *words, "--source", second / "cutouts", "--workers", "0", *more)


@pytest.fixture
def run(surveys: Path, tmp_path: Path) -> Path:
    """A copy of the run of the first survey."""
    return Path(shutil.copytree(surveys / "run", tmp_path / "run"))


@pytest.fixture(scope="module")
def at_once(surveys: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose job has the additions from the start."""

    def build(folder: Path) -> None:
        additions = [second_of(surveys), late_of(surveys)]
        run_serially(first_job(surveys, folder / "job.yaml", finished, additions=additions), folder / "run")

    return built_once(tmp_path_factory, "growth-at-once", build) / "run"


def contents(run: Path, *names: str) -> dict[str, bytes]:
    """Bytes of all files of stores, and of results, but for what tells the folder or the time."""
    found = {path: path.read_bytes() for store in STORES for path in sorted((run / store).rglob("*")) if path.is_file()}
    found |= {run / name: (run / name).read_bytes() for name in names or RESULTS}
    return {path.relative_to(run).as_posix(): content for path, content in found.items()}


def assert_same(found: Path, expected: Path) -> None:
    one, other = contents(found), contents(expected)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_added_later_or_at_once_gives_the_same_bytes(
    surveys: Path, run: Path, at_once: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(run)
    done = add_second(surveys, run)
    assert done.returncode == 3, done.stderr
    said = "addition night-2: 41 objects, 39 of them new, 1 that are in quarantine so far, 1 that the run has with"
    assert said in done.stderr
    assert "Added: night-2, as further partitions. The sample's thresholds are made anew." in caplog.text
    assert "added: night-2: 41 given = 40 scored, 1 of them in quarantine before + 1 quarantined" in done.stdout
    # Partitions of 32: two full ones and one of 11 before, of which the last is written again.
    after = contents(run)
    full = [name for name in before if name.startswith(("cutouts", "scores")) and ("/c/0" in name or "/c/1" in name)]
    assert len(full) > 2 * 10
    assert all(after[name] == before[name] for name in full)
    done = call_here("add", run, "--source", surveys / "late", "--name", "late", "--workers", "0")
    assert done.returncode == 3, done.stderr
    assert "addition late: 2 objects, 0 of them new, 2 that are in quarantine so far" in done.stderr
    assert_same(run, at_once)
    assert any(name.startswith("scores.zarr/descriptor/c/3") for name in contents(run))
    described = Scores(run / "scores.zarr").read("descriptor")
    assert np.isfinite(described).all(axis=1).sum() == json.loads((run / "summary.json").read_text())["scored"]
    assert verification(run).is_sound
    assert not (run / "receipts/last-partition").exists()


def test_what_is_there_is_not_done_again(surveys: Path, run: Path, tmp_path: Path) -> None:
    folders = [run / "receipts" / stage for stage in ("ingest", "score")]
    receipts = {path: path.read_bytes() for folder in folders for path in folder.glob("0*")}
    before, first = Scores(run / "scores.zarr").read("score"), surveys / "first"
    path = grown_job(run, tmp_path / "job.yaml", second_of(surveys))
    moved = first.rename(surveys / "gone")
    try:
        summary, workers = run_serially(path, run)
    finally:
        moved.rename(first)
    # The third partition again and a fourth, both ingested and scored; and the picture.
    assert workers.n_tasks == 2 + 2 + 1
    assert [path.name for path, content in receipts.items() if path.read_bytes() != content] == ["000002.json"] * 2
    assert Scores(run / "scores.zarr").read("score")[:N_FIRST].tobytes() == before.tobytes()
    assert summary["given"] == N_FIRST + N_SECOND == summary["scored"] + summary["quarantined"]
    assert summary["additions"] == [{"name": "night-2", "given": 41, "scored": 40, "quarantined": 1, "superseded": 1}]
    provenance = json.loads((run / "provenance.json").read_text())
    assert [item["name"] for item in provenance["additions"]] == ["night-2"]
    # Given again nothing is done.
    assert run_serially(path, run)[1].n_tasks == 0
    assert verification(run).is_sound


def grown_job(run: Path, path: Path, *additions: dict[str, Any], **sections: Any) -> Path:
    """The frozen job of a run with additions."""
    content = yaml.safe_load((run / "job.yaml").read_text())
    path.write_text(yaml.safe_dump({**content, "additions": list(additions), **sections}, sort_keys=False))
    return path


def test_each_object_is_there_once(surveys: Path, at_once: Path) -> None:
    summary = json.loads((at_once / "summary.json").read_text())
    assert summary["given"] == N_FIRST + N_SECOND + 2 == summary["scored"] + summary["quarantined"]
    assert summary["superseded"] == 3
    assert summary["quarantined_by_code"] == {"duplicate_object_id": 1, "missing_band": 2, "unreadable_file": 1}
    first, second = (Table.read(surveys / name / "catalogue.fits")["object_id"] for name in ("first", "second"))
    opened = open_run(at_once)
    # No id twice, and none in quarantine: each object of both catalogues is usable in the end.
    assert sorted(opened["object_id"].values.tolist()) == sorted({*first.tolist(), *second.tolist()})
    assert not opened["quarantine_code"].values.any()
    assert np.isfinite(opened["score"].values).all()
    assert opened.attrs["n_left_out"] == 4
    listed = Table.read(at_once / "quarantine.csv")
    (duplicate,) = listed[listed["code"] == "duplicate_object_id"]
    assert duplicate["reason"] == f"object_id {first[20]} is already in row 20 of the run, which is kept"
    late = sorted(first[[4, 9, 14]].tolist())
    assert sorted(listed["object_id"][listed["code"] != "duplicate_object_id"].tolist()) == late
    assert call_here("show", at_once, *late).stdout.count("quarantine") == 0
    for words in (("status", at_once), ("report", at_once), ("plan", at_once / "job.yaml", "--output", at_once)):
        assert call_here(*words).returncode == 0, words


def test_additions_are_not_counted_where_they_do_not_count(surveys: Path, at_once: Path) -> None:
    train = TrainSection(classes=("training",), known_classes=("quasar",), evaluate=True)
    first, grown = (
        prospects_of_store(Cutouts(run / "cutouts.zarr"), SampleCuts(), train) for run in (surveys / "run", at_once)
    )
    assert grown.n_objects > first.n_objects
    assert grown.members == first.members
    assert grown.n_training == first.n_training > 0


def test_scores_are_those_of_a_run_of_its_own(surveys: Path, at_once: Path, finished: Path, tmp_path: Path) -> None:
    second = second_of(surveys)
    catalogue = {**second["catalogue"], "keep_columns": ["i_cmodel_mag"]}
    path = first_job(surveys, tmp_path / "job.yaml", finished, catalogue=catalogue, ingest=second["ingest"])
    run_serially(path, tmp_path / "run")
    alone, grown = Scores(tmp_path / "run/scores.zarr"), Scores(at_once / "scores.zarr")
    rows = slice(N_FIRST, N_FIRST + N_SECOND)
    usable = grown.read("quarantine_code")[rows] == 0
    for name in ("object_id", "score", "residual"):
        np.testing.assert_array_equal(grown.read(name)[rows][usable], alone.read(name)[usable])


class EndError(Exception):
    """In place of the end of the process."""


def ingest_only(job: Path, run: Path) -> None:
    """The ingest of a job, in this process."""
    ingest = Run(RunDirectory(run), load_job(job, Job), 1).ingest
    assert ingest is not None
    with Watch() as watch:
        for stage in ingest.in_order():
            run_stage(stage, Serial(), watch)


def files_of(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("n_writes", range(1, 40, 7))
def test_ended_at_any_write_an_ingest_goes_on_to_the_same_bytes(
    surveys: Path,
    run: Path,
    at_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_writes: int,
    written: bool,
) -> None:
    path = grown_job(run, tmp_path / "job.yaml", second_of(surveys), late_of(surveys))
    original, count = Path.replace, 0

    def ends(self: Path, target: Path) -> Path:
        nonlocal count
        if threading.current_thread() is not threading.main_thread():
            # What the progress writes.
            return original(self, target)
        count += 1
        if count == n_writes + (not written):
            raise EndError
        return original(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", ends)
        with pytest.raises(EndError):
            ingest_only(path, run)
    ingest_only(path, run)
    assert files_of(run / "cutouts.zarr") == files_of(at_once / "cutouts.zarr")
    assert not (run / "receipts/last-partition").exists()


@pytest.mark.parametrize(
    ("module", "n_tasks"), [(ingest_partition, 0), (ingest_partition, 1), (ingest_partition, 2), (score, 0), (score, 1)]
)
def test_ended_within_a_partition(
    surveys: Path,
    run: Path,
    at_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    n_tasks: int,
) -> None:
    path = grown_job(run, tmp_path / "job.yaml", second_of(surveys), late_of(surveys))
    original, count = write_partition, 0

    def ends(store: Path, layout: Layout, partition: int, columns: dict[str, Any]) -> list[Path]:
        nonlocal count
        count += 1
        if count <= n_tasks:
            return original(store, layout, partition, columns)
        # The first variable is new, and all else is as it was.
        original(store, replace(layout, variables=layout.variables[:1]), partition, columns)
        raise EndError

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_partition", ends)
        with pytest.raises(EndError):
            run_serially(path, run)
    if module is ingest_partition:
        ingest_only(path, run)
        assert files_of(run / "cutouts.zarr") == files_of(at_once / "cutouts.zarr")
    else:
        run_serially(path, run)
        assert_same(run, at_once)


def test_workers_give_the_same_bytes(surveys: Path, run: Path, at_once: Path, tmp_path: Path) -> None:
    path = grown_job(run, tmp_path / "job.yaml", second_of(surveys), late_of(surveys))
    subprocess.run(on_workers(path, run), check=True, timeout=200, capture_output=True)
    assert_same(run, at_once)


@pytest.mark.parametrize(
    "name", ["cutouts.zarr/object_id/c/2", "cutouts.zarr/image/c/0/0/0/0", "scores.zarr/score/c/2/0"]
)
def test_damage_of_a_grown_run_is_repaired_from_the_sources(
    surveys: Path, at_once: Path, tmp_path: Path, name: str
) -> None:
    run = Path(shutil.copytree(at_once, tmp_path / "run"))
    (run / name).write_bytes(b"")
    done = call_here("verify", run, "--repair", "--workers", "0")
    assert done.returncode == 3, done.stderr
    assert_same(run, at_once)
    assert verification(run).is_sound


@pytest.mark.parametrize(
    "gone", ["receipts/ingest.notes.json", "receipts/ingest/finished.json", "cutouts.zarr/zarr.json"]
)
def test_what_is_known_of_additions_can_be_lost(surveys: Path, at_once: Path, tmp_path: Path, gone: str) -> None:
    run = Path(shutil.copytree(at_once, tmp_path / "run"))
    (run / gone).write_text("{")
    done = call_here("verify", run, "--repair", "--workers", "0")
    assert done.returncode == 3, done.stderr
    assert_same(run, at_once)


def test_training_is_not_done_again(surveys: Path, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished / "run", tmp_path / "run"))
    weights = {path: path.stat().st_mtime_ns for path in (run / "models").rglob("*") if path.is_file()}
    done = add_second(surveys, run)
    assert done.returncode == 3, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (run / "models").rglob("*") if path.is_file()} == weights
    assert "train: done" in done.stderr
    assert "epochs" not in done.stderr


def test_a_run_that_reads_the_cutouts_scores_what_is_new(
    surveys: Path, run: Path, finished: Path, tmp_path: Path
) -> None:
    path = write_job(
        tmp_path / "reading.yaml", tmp_path, **weights_of(finished / "run"),
        cutouts=str(run / "cutouts.zarr"), catalogue=None, ingest=None,
    )  # fmt: skip
    reading = tmp_path / "reading"
    assert run_serially(path, reading)[1].n_tasks == 3 + 1
    before = Scores(reading / "scores.zarr").read("score")
    done = add_second(surveys, reading)
    assert done.returncode == 1
    assert f"reads {run / 'cutouts.zarr'}, which it did not ingest. Add to the run that did ({run})" in done.stderr
    assert add_second(surveys, run).returncode == 3
    summary, workers = run_serially(path, reading)
    assert workers.n_tasks == 2 + 1
    assert Scores(reading / "scores.zarr").read("score")[:N_FIRST].tobytes() == before.tobytes()
    assert summary["additions"] == json.loads((run / "summary.json").read_text())["additions"]
    assert verification(reading).is_sound


def test_add_goes_on_after_an_interruption(surveys: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ingest_partition, "write_partition", ends)
        assert add_second(surveys, run).returncode == 130
    other = call_here("add", run, "--source", surveys / "late", "--workers", "0")
    assert "the addition night-2 is not finished. Finish it first: `" in other.stderr
    done = add_second(surveys, run)
    assert done.returncode == 3, done.stderr
    assert [item["name"] for item in json.loads((run / "summary.json").read_text())["additions"]] == ["night-2"]
    assert "there is an addition night-2 already. Give another --name." in add_second(surveys, run).stderr
    again = add_second(surveys, run, "--name", "again")
    assert "all 41 objects are in the run with usable pixels. There is nothing to add." in again.stderr


def test_plan_alone_writes_nothing(surveys: Path, run: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = add_second(surveys, run, "--plan")
    assert done.returncode == 0, done.stderr
    words = "41 objects, 39 of them new, 1 that are in quarantine so far, 1 that the run has with usable pixels"
    assert f"addition addition-1: {words}" in done.stderr
    path = grown_job(run, tmp_path / "job.yaml", second_of(surveys), late_of(surveys))
    done = call_here("plan", path, "--output", run)
    assert done.returncode == 0, done.stderr
    assert f"addition     night-2: {words}" in done.stdout
    assert "addition     late: looked at once all before it is ingested" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.remove_column("isprimary"), "its catalogue has no flags not_primary, by which the run's"),
        (
            lambda table: table.meta.pop("SIMULATE"),
            "'addition-1' has observed objects, and the run has simulated",
        ),
        (lambda table: table.rename_column("i_cmodel_mag", "other"), "i_cmodel_mag"),
    ],
)
def test_what_does_not_fit_is_refused(
    surveys: Path, run: Path, tmp_path: Path, change: Callable[[Table], object], said: str
) -> None:
    before = (run / "job.yaml").read_bytes()
    table = Table.read(surveys / "second/catalogue.fits")
    change(table)
    table.write(tmp_path / "other.fits")
    words = ("--catalog", tmp_path / "other.fits", "--source", surveys / "second/cutouts", "--workers", "0")
    done = call_here("add", run, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert (run / "job.yaml").read_bytes() == before


def test_additions_that_are_ingested_stay(surveys: Path, at_once: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(at_once, tmp_path / "run"))
    second, late = yaml.safe_load((run / "job.yaml").read_text())["additions"]
    for additions in ([], [late, second], [second, {**late, "name": "other"}]):
        path = grown_job(run, tmp_path / "job.yaml", *additions)
        with pytest.raises(SwimmyError, match="which the job leaves out or gives otherwise"):
            run_serially(path, run)
    assert_same(run, at_once)


def test_late_files_of_no_object_that_waits(surveys: Path, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "useless"
    folder.mkdir()
    path = next((surveys / "first/cutouts").rglob("22[-_]*HSC-G*.fits"))
    shutil.copy(path, folder / path.name)
    done = call_here("add", run, "--source", folder)
    assert "none of its files is of one of the 3 objects" in done.stderr


def test_words_that_are_refused(surveys: Path, run: Path, tmp_path: Path) -> None:
    assert "--patch-qa belongs to --catalog" in call_here("add", run, "--source", run, "--patch-qa", run).stderr
    assert f"{tmp_path / 'none'}: not there" in call_here("add", run, "--source", tmp_path / "none").stderr
    assert "no receipts folder" in call_here("add", surveys, "--source", surveys / "late").stderr
    with pytest.raises(SwimmyError, match="additions has the same name twice"):
        load_job(grown_job(run, tmp_path / "a.yaml", late_of(surveys), late_of(surveys)), Job)
    with pytest.raises(SwimmyError, match="additions do not go with spectroscopy"):
        load_job(grown_job(run, tmp_path / "b.yaml", late_of(surveys), spectroscopy={"sdss": "a.fits"}), Job)
