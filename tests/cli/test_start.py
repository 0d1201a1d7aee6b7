"""What commands load: TensorFlow only to train or on a GPU, Dask only for workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from survey_runs import assert_same_results, on_workers, weights_of, write_job

pytestmark = pytest.mark.slow

TENSORFLOW = ("tensorflow", "keras", "jax", "torch")
DASK = ("dask", "distributed", "dask_jobqueue")


# Runs commands one after the other; what one of them imports, none of them needs.
PROGRAM = """
import json, sys
from click.testing import CliRunner
from swimmy_scale.cli import main

for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(main, words)
    assert done.exit_code in (0, 3), (words, done.output, done.exception)
"""


def without(folder: Path, libraries: Sequence[str]) -> dict[str, str]:
    """Variables for processes, and those that they start, in which these libraries cannot be imported."""
    for name in libraries:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def assert_done(words: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in (0, 3), f"{words}: {done.stdout} {done.stderr}"


def test_the_libraries_cannot_be_imported(tmp_path: Path) -> None:
    environment = without(tmp_path, TENSORFLOW)
    done = subprocess.run(
        [sys.executable, "-c", "import keras"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (1, "keras was imported")


def test_small_stored_surveys_need_neither_tensorflow_nor_dask(finished: Path, tmp_path: Path) -> None:
    """Workers are allowed, and none is started: an import of Dask would end the program."""
    reference = finished / "run"
    environment = without(tmp_path / "without", (*TENSORFLOW, *DASK))
    stored = {"catalogue": None, "ingest": None, "cutouts": str(reference / "cutouts.zarr")}
    job = write_job(tmp_path / "job.yaml", tmp_path, **weights_of(reference), **stored)
    run, model = tmp_path / "run", reference / "models/selected.keras"
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"sample": {"colours": []}}))
    commands = [
        ("run", job, "--output", run, "--workers", 2),
        ("status", run),
        ("verify", run, "--workers", 2),
        ("report", run),
        ("show", run, "--group", "comparison", "--number", 2, "--output", tmp_path / "shown.png"),
        ("cutouts", run, "--candidates", "--output", tmp_path / "fits"),
        ("figures", run, "stamps-candidates"),
        ("score", reference / "cutouts.zarr", "--model", model, "--output", tmp_path / "s.zarr", "--workers", 2),
        ("select", tmp_path / "s.zarr", "--output", tmp_path / "selected"),
    ]
    words = json.dumps([[str(word) for word in words] for words in commands])
    assert_done([sys.executable, "-c", PROGRAM, words], environment)
    assert_same_results(run, reference)
    assert json.loads((run / "provenance.json").read_text())["scorer"] == "numba"


def test_workers_that_ingest_score_and_draw_need_no_tensorflow(finished: Path, tmp_path: Path) -> None:
    environment, reference = without(tmp_path / "without", TENSORFLOW), finished / "run"
    job = write_job(tmp_path / "job.yaml", finished / "survey", **weights_of(reference))
    assert_done(on_workers(job, tmp_path / "run", n_workers=1), environment)
    assert_same_results(tmp_path / "run", reference)
    assert (tmp_path / "run/candidates.png").read_bytes() == (reference / "candidates.png").read_bytes()
