"""Weights by run: what is looked up, frozen, kept and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from survey_runs import NETWORK, call_here, weights_of

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, dump_job, parse_job
from swimmy_scale.stages.weights_of_run import load_whole_job, weights_of_run
from swimmy_scale.storage.receipts import Parts
from swimmy_scale.storage.run_directory import ModelsFolder, RunDirectory, ledger_beside

SIZES = {"n_bands": 5, "cutout_size_px": 64, "encoder_filters": [8, 8], "latent_filters": 4, "noise": 0.02}
DIGESTS = ["a" * 64, "b" * 64, "c" * 64]


def make_folder(place: Path, n_models: int = 1, stage: str = "train", **change: Any) -> Path:
    """What `train` leaves, but for the weights themselves."""
    folder = ModelsFolder(place)
    place.mkdir()
    files = ["run-00/epoch-03.keras", "run-01/epoch-02.keras", "run-02/epoch-03.keras"]
    listed = [{"file": file, "sha256": digest} for file, digest in zip(files, DIGESTS, strict=True)][:n_models]
    manifest = {"format_version": 1, "network": SIZES, "selected": {"sha256": DIGESTS[0]}, **change}
    folder.manifest.write_text(json.dumps(manifest | ({"ensemble": listed} if n_models > 1 else {})))
    for name in {"train", stage}:
        details = {"model_sha256": DIGESTS[0]} if name == stage else {}
        ledger_beside(place, name).finish("identity", Parts(), [folder.manifest], details)
    return place


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_of_a_folder_that_train_made(stage: str, tmp_path: Path) -> None:
    place = make_folder(tmp_path / "models", stage=stage)
    (model,) = weights_of_run(place)
    assert (model.path, model.sha256, model.run) == (place / "selected.keras", DIGESTS[0], place)
    assert model.network.model_dump(mode="json") == {name: SIZES[name] for name in NETWORK | {"noise": 0}}


def test_of_an_ensemble(tmp_path: Path) -> None:
    models = weights_of_run(make_folder(tmp_path / "models", 3))
    assert [model.path.relative_to(tmp_path).as_posix() for model in models] == [
        "models/run-00/epoch-03.keras",
        "models/run-01/epoch-02.keras",
        "models/run-02/epoch-03.keras",
    ]
    assert [model.sha256 for model in models] == DIGESTS


def test_relative_paths_are_relative_to_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "models", 2)
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir("/")
    path = tmp_path / "jobs/job.yaml"
    path.write_text("cutouts: c.zarr\nmodel: {run: ../models}\nselect: {combine: rank}\n")
    job = load_whole_job(path, RunDirectory(tmp_path / "run"))
    assert (job.model, job.n_models, job.networks[0].latent_filters) == (None, 2, 4)
    assert {model.run for model in job.weights} == {tmp_path / "models"}
    # What is frozen is a job of its own: the other run is not asked again.
    folder = tmp_path / "elsewhere"
    assert parse_job(dump_job(job, folder), folder / "job.yaml", Job) == job


def test_a_job_that_is_not_looked_up_does_not_score() -> None:
    job = parse_job("cutouts: c.zarr\nmodel: {run: ../models}\n", Path("/jobs/job.yaml"), Job)
    with pytest.raises(RuntimeError, match="the weights of /models are not looked up"):
        _ = job.weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "manifest.json: format_version 9, this version .* Name the weights by path and sha256"),
        ({"network": {}}, "manifest.json: missing or damaged, so nothing says .* Run .* again"),
        ({"selected": {"sha256": "abc"}}, "manifest.json: missing or damaged"),
    ],
)
def test_damaged_folders(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=message):
        weights_of_run(make_folder(tmp_path / "models", **change))


def test_a_training_that_is_not_finished(tmp_path: Path) -> None:
    place = make_folder(tmp_path / "models")
    with pytest.raises(SwimmyError, match="nowhere: neither a run directory nor a folder of weights"):
        weights_of_run(tmp_path / "nowhere")
    # An evaluation is to choose, and has not: training alone says nothing.
    ledger_beside(place, "train").finish("identity", Parts(), [], {})
    with pytest.raises(SwimmyError, match="models: its training is not finished, so no weights are chosen"):
        weights_of_run(place)
    ledger_beside(place, "train").remove("finished")
    with pytest.raises(SwimmyError, match="its training is not finished"):
        weights_of_run(place)


def test_one_choice_scores_and_nothing_is_said_of_ensembles(tmp_path: Path) -> None:
    make_folder(tmp_path / "models")
    (tmp_path / "job.yaml").write_text("cutouts: c.zarr\nmodel: {run: models}\nselect: {combine: rank}\n")
    with pytest.raises(SwimmyError, match=r"select\.combine rank is for several models, and one scores"):
        load_whole_job(tmp_path / "job.yaml", RunDirectory(tmp_path / "run"))


@pytest.mark.parametrize("after", ["the same", "gone", "another"])
def test_a_run_keeps_to_the_weights_that_it_began_with(after: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "models")
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    (tmp_path / "job.yaml").write_text("cutouts: c.zarr\nmodel: {run: models}\n")
    first = load_whole_job(tmp_path / "job.yaml", run)
    run.freeze_job(first)
    if after != "the same":
        shutil.rmtree(tmp_path / "models")
    if after == "another":
        make_folder(tmp_path / "models", selected={"sha256": "d" * 64})
        with pytest.raises(SwimmyError, match=f"models: its weights are others now .sha256 {'d' * 64}. than those"):
            load_whole_job(tmp_path / "job.yaml", run)
        load_whole_job(tmp_path / "job.yaml", RunDirectory(tmp_path / "another run"))
    else:
        assert load_whole_job(tmp_path / "job.yaml", run) == first


@pytest.mark.slow
def test_a_run_by_run_gives_the_bytes_of_one_by_digest(finished: Path, tmp_path: Path) -> None:
    other = finished / "run"
    sections = {"cutouts": str(other / "cutouts.zarr"), "model": {"run": str(other)}}
    (tmp_path / "by-run.yaml").write_text(yaml.safe_dump(sections))
    (tmp_path / "by-digest.yaml").write_text(yaml.safe_dump(sections | {"model": weights_of(other)["model"]}))
    for name in ("by-run", "by-digest"):
        done = call_here("run", tmp_path / f"{name}.yaml", "--output", tmp_path / name, "--workers", 0)
        assert done.returncode == 3, done.stderr
    for file in ("candidates.fits", "candidates.ecsv"):
        assert (tmp_path / "by-run" / file).read_bytes() == (tmp_path / "by-digest" / file).read_bytes()
    frozen = yaml.safe_load((tmp_path / "by-run/job.yaml").read_text())["model"]
    assert frozen == {**weights_of(other)["model"], "network": {**NETWORK, "noise": 0.02}, "run": str(other)}
    # A run that was given its weights hands them on.
    (model,) = weights_of_run(tmp_path / "by-digest")
    assert (model.path, model.run) == (other / "models/selected.keras", tmp_path / "by-digest")
    scored = call_here(
        "score", other / "cutouts.zarr", "--model", other, "--output", tmp_path / "s.zarr", "--workers", 0
    )
    assert scored.returncode == 3, scored.stderr
