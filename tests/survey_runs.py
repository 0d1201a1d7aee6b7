"""Small whole runs that several test files share: a simulated survey, its job, and ways to run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from swimmy_scale.cli.progress import Watch
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.method.sections import ScorerName
from swimmy_scale.method.survey import HSC
from swimmy_scale.simulate import SimulationPlan, simulate
from swimmy_scale.stages.engine import SerialExecutor, Task, Work
from swimmy_scale.stages.run import Run, run_job
from swimmy_scale.stages.verify import Verifier
from swimmy_scale.storage.cutouts import cutouts_layout
from swimmy_scale.storage.receipts import Damage, Receipt
from swimmy_scale.storage.run_directory import RunDirectory
from swimmy_scale.storage.scores import Scores, scores_layout, write_selection
from swimmy_scale.storage.store import create, write_partition

N_OBJECTS = 240
LEVELS = ("2sigma", "3sigma")
# The network is the paper's, only narrower: the tests are about the path, not about the science.
NETWORK = {"encoder_filters": [8, 8], "latent_filters": 4}


class Serial(SerialExecutor):
    """Performs tasks in this process, and counts those that it is asked for."""

    def __init__(self) -> None:
        self.n_tasks = 0

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        self.n_tasks += len(tasks)
        yield from super().map(work, tasks)


def make_survey(folder: Path, n_objects: int = N_OBJECTS, faulty_fraction: float = 0.05) -> Path:
    """A simulated survey in ``folder``."""
    simulate(
        str(folder),
        SimulationPlan(n_objects=n_objects, seed=3, faulty_fraction=faulty_fraction, n_objects_per_tar=80),
    )
    return folder


def write_job(path: Path, folder: Path, /, **sections: Any) -> Path:
    """A job file for a survey; ``sections`` replace its own."""
    content: dict[str, Any] = {
        "name": "test",
        "catalogue": {
            "path": str(folder / "catalogue.fits"),
            "patch_qa": str(folder / "patch_qa.fits"),
            "keep_columns": ["i_cmodel_mag"],
        },
        "ingest": {"sources": [str(folder / "cutouts")]},
        "train": {
            "network": NETWORK,
            "schedule": {"epochs": 3, "keep_from_epoch": 2, "batch_size": 16, "seed": 5},
            "n_threads": 1,
        },
        "storage": {"partition_objects": 32, "chunk_objects": 16},
        **sections,
    }
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def verify(path: Path) -> list[Damage]:
    """Verify a run directory or one stage's output in this process."""
    with Watch() as watch:
        return Verifier(Serial(), watch).output(path)


def run_serially(job: Path, output: Path, scorer: ScorerName = "keras") -> tuple[dict[str, Any], Serial]:
    """Run a job in this process."""
    workers = Serial()
    with Watch() as watch:
        summary = run_job(Run(RunDirectory(output), load_job(job, Job), 1, scorer=scorer), workers, watch)
    return summary, workers


def command(*arguments: object) -> list[str]:
    """A ``swimmy-scale`` command line of this interpreter."""
    return [sys.executable, "-m", "swimmy_scale", *(str(argument) for argument in arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``swimmy-scale`` and wait for it."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=280, check=False)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start ``swimmy-scale`` as the leader of its own process group."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=dict(os.environ),
    )


def assert_same_results(found: Path, expected: Path) -> None:
    """The catalogue has the same bytes and the scores have the same values."""
    for name in ("candidates.fits", "candidates.ecsv", "candidates.vot", "candidates.parquet", "quarantine.csv"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    one, other = Scores(found / "scores.zarr"), Scores(expected / "scores.zarr")
    for name in ("score", "residual", "object_id", "in_sample", "quarantine_code", "candidate"):
        assert one.read(name).tobytes() == other.read(name).tobytes(), name
    assert np.array_equal(one.read("threshold", 0, 3), other.read("threshold", 0, 3))


def make_scores(
    path: Path, score: list[list[float]], flag: list[str], threshold: npt.NDArray[np.float64], first_id: int = 0
) -> Scores:
    """A small ``scores.zarr`` after selection, all but its quarantined objects in the sample; ``flag``: bands."""
    values, n = np.array(score, np.float32).reshape(-1, 5), len(score)
    survey_attrs = cutouts_layout(n, HSC, {}, 8, 4, {}).attrs["survey"]
    layout = scores_layout(n, survey_attrs, HSC, {}, 8, 4, {"model_sha256": "0", "simulated": True})
    create(path, layout)
    for partition in range(layout.n_partitions):
        rows = layout.rows(partition)
        part = values[rows.start : rows.stop]
        columns = {
            "score": part,
            "residual": part,
            "object_id": first_id + np.arange(rows.start, rows.stop),
            "ra": np.zeros(len(rows)),
            "dec": np.zeros(len(rows)),
            "in_sample": np.isfinite(part).all(axis=1),
            "sample_class": np.array([""] * len(rows), dtype=object),
            "quarantine_code": np.zeros(len(rows), np.uint8),
        }
        write_partition(path, layout, partition, columns)
    flags = np.zeros((n, len(LEVELS), 5), np.bool_)
    for row, bands in enumerate(flag):
        flags[row, 0, HSC.band_index(tuple(bands))] = True
    write_selection(path, LEVELS, threshold, iter([(0, flags)]))
    return Scores(path)
