"""Small whole runs that several test files share: a simulated survey, its job, and ways to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray
import yaml
from click.testing import CliRunner
from filelock import FileLock

from swimmy_scale.cli import main
from swimmy_scale.cli.progress import Watch
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.sections import ScorerName, SelectSection
from swimmy_scale.method.survey import HSC
from swimmy_scale.stages.engine import SerialExecutor, Task, Work
from swimmy_scale.stages.run import Run, run_job
from swimmy_scale.stages.select import SelectStage
from swimmy_scale.stages.verify import Verification, Verifier
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import cutouts_layout
from swimmy_scale.storage.receipts import Damage, Receipt
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder
from swimmy_scale.storage.scores import Scores, scores_layout
from swimmy_scale.storage.selection import Selection, new_selection
from swimmy_scale.storage.store import write_partition

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


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """A folder that the first process that asks for it fills, and all others share; nobody may change it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "built").exists():
            folder.mkdir()
            build(folder)
            (folder / "built").touch()
    return folder


def make_survey(folder: Path, n_objects: int = N_OBJECTS, faulty_fraction: float = 0.05) -> Path:
    """A simulated survey in ``folder``."""
    # GalSim takes a second to import, and many tests simulate nothing.
    from swimmy_scale.simulate import SimulationPlan, simulate

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
        # A store that is there already has partitions of its own.
        "storage": None if "cutouts" in sections else {"partition_objects": 32, "chunk_objects": 16},
        **sections,
    }
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def weights_of(run: Path) -> dict[str, Any]:
    """Sections of a job that takes the weights of another run."""
    digest = json.loads((run / "models/manifest.json").read_text())["files"]["selected.keras"]
    return {"train": None, "model": {"path": str(run / "models/selected.keras"), "sha256": digest, "network": NETWORK}}


def verification(path: Path) -> Verification:
    """What is wrong with a run directory or with the output of one command."""
    with Watch() as watch:
        return Verifier(Serial(), watch).output(path)


def verify(path: Path) -> list[Damage]:
    """What is damaged in it, each time anew; nothing must be unexpected or unfinished, unless something is damaged."""
    found = verification(path)
    assert found.unexpected == []
    assert found.damage or not found.unfinished
    return found.damage


def mark(path: Path) -> None:
    """Mark what is damaged, so that the command that made it does it again."""
    verification(path).mark()


def run_serially(job: Path, output: Path, scorer: ScorerName = "numba") -> tuple[dict[str, Any], Serial]:
    """Run a job in this process."""
    workers = Serial()
    with Watch() as watch:
        summary = run_job(Run(RunDirectory(output), load_job(job, Job), 1, scorer=scorer), workers, watch)
    return summary, workers


# A program, so that workers which it starts do not start it again.
ON_WORKERS = """
import sys
from pathlib import Path

from swimmy_scale.cli.progress import Watch
from swimmy_scale.cluster.executors import LocalExecutor
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.stages.run import Run, run_job
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder

if __name__ == "__main__":
    job, output, n_workers = sys.argv[1:]
    with Watch() as watch:
        run = Run(RunDirectory(Path(output)), load_job(Path(job), Job), 1)
        run_job(run, LocalExecutor(int(n_workers), seconds_here=-1.0), watch)
"""


def on_workers(job: Path, output: Path, n_workers: int = 2) -> list[str]:
    """A command line that runs a job with workers for all stages, also for those that take seconds."""
    return [sys.executable, "-c", ON_WORKERS, str(job), str(output), str(n_workers)]


def command(*arguments: object) -> list[str]:
    """A ``swimmy-scale`` command line of this interpreter."""
    return [sys.executable, "-m", "swimmy_scale", *(str(argument) for argument in arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``swimmy-scale`` and wait for it."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=280, check=False)


def call_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process: for tests of what a command does, not of how a process starts and ends."""
    words = [str(argument) for argument in arguments]
    done = CliRunner().invoke(main, words)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start ``swimmy-scale`` as the leader of its own process group."""
    return start_words(command(*arguments))


def start_words(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command line as the leader of its own process group."""
    return subprocess.Popen(
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=dict(os.environ),
    )


def assert_same_results(found: Path, expected: Path) -> None:
    """The catalogue has the same bytes and the scores have the same values."""
    for name in ("candidates.fits", "candidates.ecsv", "candidates.vot", "candidates.parquet", "quarantine.csv"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    one, other = Selection(found / "selection.zarr"), Selection(expected / "selection.zarr")
    for name in ("score", "residual", "object_id", "in_sample", "quarantine_code", "candidate"):
        assert one.read(name).tobytes() == other.read(name).tobytes(), name
    assert np.array_equal(one.read("threshold", 0, 3), other.read("threshold", 0, 3))


def opened(run: Path) -> xarray.Dataset:
    """Scores and selection of a run, joined by row."""
    with xarray.open_zarr(run / "scores.zarr") as scores, xarray.open_zarr(run / "selection.zarr") as selection:
        joined: xarray.Dataset = scores.assign(selection.variables)
        return joined


NO_CUTS = SampleCuts(
    max_fwhm_arcsec=None, use_depth=False, max_magnitude=None, flags=(), min_extendedness_mag=None, colours=()
)


def select(
    run: Path,
    output: Path,
    section: SelectSection,
    cuts: SampleCuts = NO_CUTS,
    add: Callable[[int], None] = lambda n_rows: None,
) -> dict[str, Any]:
    """Select from the scores of a run into a folder, in this process; returns the summary."""
    folder, scores = SelectionFolder(output), run / "scores.zarr"
    n_models = Scores(scores).n_models
    stage = SelectStage(folder.ledger, folder, scores, run / "cutouts.zarr", cuts, section, n_models)
    stage.finish([], add)
    return folder.read_summary()


def make_scores(
    path: Path, score: list[list[float]], flag: list[str], threshold: npt.NDArray[np.float64], first_id: int = 0
) -> Selection:
    """A small ``scores.zarr`` and a selection beside it: all with finite scores in the sample, ``flag`` its bands."""
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
            "sample_class": np.array([""] * len(rows), dtype=object),
            "quarantine_code": np.zeros(len(rows), np.uint8),
        }
        write_partition(path, layout, partition, columns)
    flags = np.zeros((n, len(LEVELS), 5), np.bool_)
    for row, bands in enumerate(flag):
        flags[row, 0, HSC.band_index(tuple(bands))] = True
    in_sample = np.isfinite(values).all(axis=1)
    return write_selection(path, LEVELS, in_sample=in_sample, threshold=threshold, candidate=flags)


def write_selection(scores: Path, levels: Sequence[str], **values: npt.NDArray[Any]) -> Selection:
    """A ``selection.zarr`` beside a ``scores.zarr``, of the given values."""
    combined = {name: name for name in values if name.startswith("combined_")}
    path = scores.parent / "selection.zarr"
    with new_selection(path, Scores(scores), levels, combined, {}) as selection:
        for name, whole in values.items():
            selection.fill(name, [(0, whole)])
    return Selection(path)
