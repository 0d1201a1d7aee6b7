"""Another job in a run directory: what it does again, what remains, and that nothing of the other job is left."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from survey_runs import NETWORK, call_here, run_serially, verify, weights_of, write_job

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.stages.changes import Change, stage_settings
from swimmy_scale.stages.engine import Stage
from swimmy_scale.stages.evaluate import EvaluateStage
from swimmy_scale.stages.later_columns import KeptColumns
from swimmy_scale.stages.run import Run, freeze_inputs
from swimmy_scale.stages.select import SelectStage
from swimmy_scale.stages.train import TrainStage
from swimmy_scale.storage import files
from swimmy_scale.storage.run_directory import STAGES, RunDirectory

SCHEDULE = {"epochs": 3, "keep_from_epoch": 2, "batch_size": 16, "seed": 5}
TRAIN = {"network": NETWORK, "schedule": SCHEDULE, "n_threads": 1}
EVALUATED = {**TRAIN, "evaluate": True, "known_classes": ["quasar"]}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return load_job(write_job(tmp_path / "first.yaml", tmp_path), Job)


def other(tmp_path: Path, **sections: Any) -> Job:
    return load_job(write_job(tmp_path / "second.yaml", tmp_path, **sections), Job)


WEIGHTS = {"path": "m.keras", "sha256": "a" * 64, "network": NETWORK}


@pytest.mark.parametrize(
    ("sections", "settings", "again"),
    [
        ({}, (), ()),
        ({"name": "new"}, ("name",), ()),
        ({"score": {"batch_size": 7}}, ("score.batch_size",), ()),
        ({"select": {"levels": {"top": 0.1}}}, ("select.levels",), ("select", "picture")),
        ({"select": {"formats": ["fits"]}}, ("select.formats",), ("select", "picture")),
        ({"score": {"kind": "noise"}}, ("score.kind",), ("score", "select", "picture")),
        ({"score": {"descriptors": True}}, ("score.descriptors",), ("score", "select", "picture")),
        ({"score": {"n_models": 2}}, ("score.n_models",), STAGES[1:]),
        ({"sample": {"max_magnitude": 19.0}}, ("sample.max_magnitude",), STAGES[1:]),
        ({"train": {**TRAIN, "max_objects": 9}}, ("train.max_objects",), STAGES[1:]),
        ({"train": EVALUATED}, ("train.evaluate", "train.known_classes"), STAGES[1:]),
        ({"train": None, "model": WEIGHTS}, ("train", "model"), STAGES[3:]),
        ({"additions": [{"name": "more", "ingest": {"sources": ["late"]}}]}, ("additions",), STAGES[3:]),
        ({"survey": {"name": "another"}}, ("survey.name",), STAGES),
        ({"storage": {"partition_objects": 16, "chunk_objects": 16}}, ("storage.partition_objects",), STAGES),
    ],
)
def test_what_each_setting_does_again(
    tmp_path: Path, job: Job, sections: dict[str, Any], settings: tuple[str, ...], again: tuple[str, ...]
) -> None:
    changed = other(tmp_path, **sections)
    change = Change.between(job, changed)
    evaluates = changed.train is not None and changed.train.evaluates
    assert set(change.settings) == set(settings)
    assert change.again == tuple(stage for stage in again if stage != "evaluate" or evaluates)
    assert set(change.again) | set(change.remaining) == set(stage_settings(changed))
    assert bool(change) == bool(settings)


def test_cuts_of_training_keep_the_weights(tmp_path: Path, job: Job) -> None:
    cuts = {"max_magnitude": 20.0}
    first = other(tmp_path, train={**TRAIN, "sample": cuts})
    assert Change.between(job, first).again == (), "they are the default cuts"
    second = other(tmp_path, train={**TRAIN, "sample": cuts}, sample={"max_magnitude": 19.0})
    assert Change.between(first, second).again == ("select", "picture")


# ---------------------------------------------------------------- in a run directory


def made(run: Path) -> dict[str, bytes]:
    """All that a run made, without logs, receipts (they hold times), and the selections of earlier jobs."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in ("log", "receipts", "selections")
    }


@pytest.fixture(scope="module")
def weights(finished: Path) -> dict[str, Any]:
    return weights_of(finished / "run")


@pytest.fixture
def job_of(finished: Path, weights: dict[str, Any], tmp_path: Path) -> Any:
    """Makes a job file that scores the cutouts of the finished run by its weights."""

    def write(name: str, **sections: Any) -> Path:
        base = {"catalogue": None, "ingest": None, "cutouts": str(finished / "run/cutouts.zarr")}
        return write_job(tmp_path / f"{name}.yaml", finished / "survey", **(base | weights | sections))

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "n_scored"),
    [
        ({"sample": {"max_magnitude": 19.0}}, 0),
        ({"select": {"levels": {"a": 0.1, "b": 0.05}, "formats": ["ecsv"]}}, 0),
        ({"score": {"kind": "noise"}}, 8),
        ({"score": {"descriptors": True}}, 8),
    ],
)
def test_a_change_gives_the_bytes_of_a_new_run(
    tmp_path: Path, job_of: Any, sections: dict[str, Any], n_scored: int, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = job_of("first"), job_of("second", **sections)
    run_serially(first, tmp_path / "run")
    assert not caplog.messages, "a new run is no change"
    before = made(tmp_path / "run")
    _, workers = run_serially(second, tmp_path / "run")
    said, kept = caplog.messages
    assert "selections/earlier-1: the selection of the earlier job is kept there" in kept
    (section, keys), *_ = sections.items()
    assert all(f"{section}.{key}" in said for key in keys)
    assert ("Remains: score" in said) == (n_scored == 0)
    assert workers.n_tasks == n_scored + 1, "the picture is one task"
    run_serially(second, tmp_path / "fresh")
    assert made(tmp_path / "run") == made(tmp_path / "fresh") != before
    assert verify(tmp_path / "run") == []
    run_serially(first, tmp_path / "run")
    assert made(tmp_path / "run") == before


class EndedError(BaseException):
    """The end of the process, at an instant that the test chooses."""


@pytest.mark.slow
def test_ended_at_every_write_of_a_change(tmp_path: Path, job_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write is the last one, the next command with either job ends where a new run of it does."""
    jobs = [job_of("first"), job_of("second", sample={"max_magnitude": 19.0}, select={"formats": ["fits"]})]
    expected = []
    for job, name in zip(jobs, ("a", "b"), strict=True):
        run_serially(job, tmp_path / name)
        expected.append(made(tmp_path / name))
    calls = {"left": 0}

    def counted(function: Any) -> Any:
        def call(*words: Any, **named: Any) -> Any:
            calls["left"] -= 1
            if calls["left"] == 0:
                raise EndedError
            return function(*words, **named)

        return call

    n_ends, last = 0, 0
    while True:
        last += 8
        run = tmp_path / f"run-{last}"
        shutil.copytree(tmp_path / "a", run)
        with monkeypatch.context() as patched:
            for owner, name in ((files.os, "replace"), (shutil, "rmtree"), (Path, "unlink"), (Path, "rename")):
                patched.setattr(owner, name, counted(getattr(owner, name)))
            calls["left"] = last
            try:
                run_serially(jobs[1], run)
                break
            except EndedError:
                n_ends += 1
        which = n_ends % 2
        run_serially(jobs[which], run)
        assert made(run) == expected[which], last
        assert verify(run) == []
    assert n_ends > 3


@pytest.mark.slow
def test_a_finished_ingest_is_not_replaced(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run", copy_function=shutil.copy2)
    before = made(tmp_path / "run")
    changed = write_job(
        tmp_path / "job.yaml", finished / "survey", storage={"partition_objects": 16, "chunk_objects": 16}
    )
    with pytest.raises(
        SwimmyError, match=r"another ingest than .*\(storage.partition_objects from 32 to 16\).* --output; or"
    ):
        run_serially(changed, tmp_path / "run")
    assert made(tmp_path / "run") == before


@pytest.mark.slow
def test_a_job_that_failed_does_not_hold_its_output(tmp_path: Path, finished: Path) -> None:
    """A catalogue column that no output can hold is refused in the ingest; the corrected job starts there."""
    source = {"path": str(finished / "survey/catalogue.fits"), "keep_columns": ["nothing"]}
    refused = write_job(tmp_path / "refused.yaml", finished / "survey", catalogue=source)
    done = call_here("run", refused, "--output", tmp_path / "run", "--workers", 0)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "run/job.yaml").exists(), "it was refused after its start"
    corrected = load_job(write_job(tmp_path / "corrected.yaml", finished / "survey"), Job)
    freeze_inputs(Run(RunDirectory(tmp_path / "run"), corrected, 1))
    assert RunDirectory(tmp_path / "run").frozen_job() == corrected
    assert yaml.safe_load((tmp_path / "run/job.yaml").read_text())["catalogue"]["keep_columns"] == ["i_cmodel_mag"]


@pytest.mark.slow
def test_another_training_leaves_nothing_of_the_first(finished: Path, tmp_path: Path) -> None:
    """Fewer trainings, and no evaluation: folders, tables and receipts of those before are gone."""
    schedule = {"epochs": 1, "keep_from_epoch": 1, "batch_size": 16, "seed": 1}
    train = {"network": NETWORK, "schedule": schedule, "n_threads": 1, "classes": [], "max_objects": 64}
    given = {"catalogue": None, "ingest": None, "cutouts": str(finished / "run/cutouts.zarr")}
    many = {**train, "n_runs": 2, "evaluate": True}
    first = write_job(tmp_path / "first.yaml", tmp_path, **given, train=many, score={"n_models": 2})
    second = write_job(tmp_path / "second.yaml", tmp_path, **given, train=train)
    run_serially(first, tmp_path / "run")
    assert (tmp_path / "run/models/evaluation/run-01.json").exists()
    run_serially(second, tmp_path / "run")
    run_serially(second, tmp_path / "fresh")
    assert made(tmp_path / "run") == made(tmp_path / "fresh")
    assert verify(tmp_path / "run") == []
    stages = [row["stage"] for row in RunDirectory(tmp_path / "run").status()]
    assert stages == [stage for stage in STAGES if stage != "evaluate"]
    # The trained weights go on alone: they are kept, and nothing is trained or scored again.
    kept = weights_of(tmp_path / "run")
    _, workers = run_serially(write_job(tmp_path / "third.yaml", tmp_path, **given, **kept), tmp_path / "run")
    assert workers.n_tasks == 1, "the picture"
    assert (tmp_path / "run/models/selected.keras").exists()


LEVELS = {"a": 0.1, "b": 0.05}
CATALOGUE = {"path": "catalogue.fits", "keep_columns": ["i_cmodel_mag"]}
CHANGES: list[dict[str, Any]] = [
    {"name": "new"},
    {"survey": {"target_fwhm_arcsec": 1.2}},
    {"storage": {"partition_objects": 64, "chunk_objects": 16}},
    {"ingest": {"sources": ["elsewhere"]}},
    {"sample": {"max_magnitude": 19.0}},
    {"score": {"batch_size": 7}},
    {"score": {"kind": "noise"}},
    {"score": {"descriptors": True}},
    {"score": {"n_models": 2}},
    {"score": {"one_a_run": True}},
    {"select": {"levels": LEVELS}},
    {"select": {"formats": ["ecsv"]}},
    {"catalogue": {**CATALOGUE, "keep_columns": ["redshift"]}},
    {"catalogue": {**CATALOGUE, "columns": {"redshift": "z"}}},
    *({"train": {"n_threads": 2}}, {"train": {"n_runs": 2}}, {"train": {"max_objects": 7}}, {"train": {"classes": []}}),
    *({"train": {"schedule": {**SCHEDULE, name: 2}}} for name in ("epochs", "batch_size", "seed")),
    {"train": {"network": {**NETWORK, "latent_filters": 2}}},
    {"train": {"sample": {"max_magnitude": 19.0}}},
    {"train": {"grid": {"latent_filters": [2, 4]}}},
    {"train": {"evaluate": True, "known_classes": ["xelg"]}},
    {"train": {"evaluate": True, "judged_level": "3sigma"}},
    {"train": {"evaluate": True, "threshold_objects": 9}},
    {"train": {"choose": "known_classes"}},
]


def identities(finished: Path, job: Job) -> dict[str, str]:
    """The identities of the stages of a job in the finished run, whose receipts are all the same for every job."""
    run = Run(RunDirectory(finished / "run"), job, 1)
    train = TrainStage(run.ledger("train"), finished / "run/cutouts.zarr", run.directory.models, job)
    places = (run.ledger("select"), run.directory.selection, run.directory.scores, train.cutouts)
    select = SelectStage(*places, job.sample, job.select, job.n_models, KeptColumns.of(job))
    assert run.ingest is not None
    stages: dict[str, Stage] = {"ingest": run.ingest, "train": train, "select": select}
    if train.section.evaluates:
        stages["evaluate"] = EvaluateStage(run.ledger("evaluate"), train, 1)
    return {name: stage.identity for name, stage in stages.items()}


@pytest.mark.slow
@pytest.mark.parametrize("evaluate", [False, True])
@pytest.mark.parametrize("sections", CHANGES, ids=str)
def test_settings_of_a_stage_are_those_of_its_identity(
    finished: Path, tmp_path: Path, sections: dict[str, Any], evaluate: bool
) -> None:
    base = {**TRAIN, "evaluate": True} if evaluate else TRAIN
    changed = {**sections, "train": {**base, **sections.get("train", {})}}
    same = {"catalogue": CATALOGUE} if "catalogue" in sections else {}
    old, new = other(tmp_path, train=base, **same), other(tmp_path, **changed)
    before, after = identities(finished, old), identities(finished, new)
    differ = {stage for stage in after if before.get(stage) != after[stage]}
    assert set(Change.between(old, new).changed) - {"score", "picture"} == differ
