"""What commands load: TensorFlow only to train or on a GPU, Dask only for workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from survey_runs import NETWORK, assert_same_results, command, make_survey, on_workers, run_serially, write_job

TENSORFLOW = ("tensorflow", "keras", "jax", "torch")
DASK = ("dask", "distributed", "dask_jobqueue")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("start") / "survey", 120)


@pytest.fixture(scope="module")
def reference(survey: Path) -> Path:
    """A run that trained."""
    run_serially(write_job(survey.parent / "job.yaml", survey), survey.parent / "run")
    return survey.parent / "run"


def without(folder: Path, libraries: Sequence[str]) -> dict[str, str]:
    """Variables for processes, and those that they start, in which these libraries cannot be imported."""
    for name in libraries:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def given(run: Path) -> dict[str, Any]:
    """Sections of a job with the weights of a run."""
    digest = json.loads((run / "models/manifest.json").read_text())["files"]["selected.keras"]
    model = {"path": str(run / "models/selected.keras"), "sha256": digest, "network": NETWORK}
    return {"train": None, "model": model}


def assert_done(words: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in (0, 3), f"{words}: {done.stdout} {done.stderr}"


def test_the_libraries_cannot_be_imported(tmp_path: Path) -> None:
    environment = without(tmp_path, TENSORFLOW)
    done = subprocess.run(
        [sys.executable, "-c", "import keras"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (1, "keras was imported")


def test_small_stored_surveys_need_neither_tensorflow_nor_dask(reference: Path, tmp_path: Path) -> None:
    """Workers are allowed, and none is started: an import of Dask would end the program."""
    environment = without(tmp_path / "without", (*TENSORFLOW, *DASK))
    stored = {"catalogue": None, "ingest": None, "cutouts": str(reference / "cutouts.zarr")}
    job = write_job(tmp_path / "job.yaml", tmp_path, **given(reference), **stored)
    run, model = tmp_path / "run", reference / "models/selected.keras"
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"sample": {"colours": []}}))
    for words in (
        ("run", job, "--output", run, "--workers", 2),
        ("status", run),
        ("verify", run, "--workers", 2),
        ("report", run),
        ("figures", run, "stamps-candidates"),
        ("score", reference / "cutouts.zarr", "--model", model, "--output", tmp_path / "s.zarr", "--workers", 2),
        ("select", tmp_path / "s.zarr", "--output", tmp_path / "selected"),
    ):
        assert_done(command(*words), environment)
    assert_same_results(run, reference)
    assert json.loads((run / "provenance.json").read_text())["scorer"] == "numba"


def test_workers_that_ingest_score_and_draw_need_no_tensorflow(survey: Path, reference: Path, tmp_path: Path) -> None:
    environment = without(tmp_path / "without", TENSORFLOW)
    job = write_job(tmp_path / "job.yaml", survey, **given(reference))
    assert_done(on_workers(job, tmp_path / "run"), environment)
    assert_same_results(tmp_path / "run", reference)
    assert (tmp_path / "run/candidates.png").read_bytes() == (reference / "candidates.png").read_bytes()
