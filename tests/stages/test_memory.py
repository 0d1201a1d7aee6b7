"""Bounds on memory: the sums behind them, and that what does not fit is refused before anything runs."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from public_files import write_cutana
from public_fits import galaxy
from survey_runs import Serial, call, make_survey, write_job

from swimmy_scale.cli.progress import Watch
from swimmy_scale.cluster.executors import default_workers
from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.cube import inspect_cube
from swimmy_scale.ingest.pixels.object_tables.tables import inspect_tables
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.method.network import BATCH_OBJECTS, Network
from swimmy_scale.method.sections import AdditionSection, CatalogueSource, IngestSection, StorageSection
from swimmy_scale.method.survey import HSC
from swimmy_scale.stages import memory
from swimmy_scale.stages.engine import SerialExecutor, Silent, run_stage
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.stages.memory import (
    BLOCKS_IN_FLIGHT,
    KERAS_BYTES,
    MIB,
    MODEL_BYTES,
    MemoryLimits,
    ScoringNeeds,
    activation_bytes,
    check_ingest,
    cutout_bytes,
    ingest_memory_bytes,
    judge_memory_bytes,
    numba_memory_bytes,
    score_memory_bytes,
    train_memory_bytes,
)
from swimmy_scale.stages.run import Run, check_inputs, freeze_inputs
from swimmy_scale.storage.receipts import Ledger, Parts
from swimmy_scale.storage.run_directory import RunDirectory


def test_a_cutout_is_its_pixels() -> None:
    assert cutout_bytes(HSC) == np.zeros((5, 64, 64), np.float32).nbytes == 80 * 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [Network(), Network(2, 32, (6,), 3), Network(encoder_filters=()), Network(1, 128, (4, 5, 6), 7)]
)
def test_activations_are_what_keras_puts_out(network: Network) -> None:
    from small_networks import build_on_one_thread  # Keras takes seconds to load

    layers = build_on_one_thread(network, seed=0).layers
    outputs = [layer.output for layer in layers if layer.name.startswith(("conv_", "pool_", "up_"))]
    assert activation_bytes(network) == sum(4 * int(np.prod(output.shape[1:])) for output in outputs)


def test_bounds_grow_with_what_is_held_at_once() -> None:
    network, cutout, activations = Network(), cutout_bytes(HSC), activation_bytes(Network())
    assert ingest_memory_bytes(HSC, 4096) - ingest_memory_bytes(HSC, 2048) >= 2 * 2048 * cutout
    assert train_memory_bytes(HSC, network, 1000, 32) - train_memory_bytes(HSC, network, 0, 32) == 1250 * cutout
    one = score_memory_bytes(HSC, network, 1, 256, 256)
    assert one == KERAS_BYTES + BLOCKS_IN_FLIGHT * 256 * cutout + 256 * activations
    assert score_memory_bytes(HSC, network, 5, 256, 256) - one == 4 * MODEL_BYTES
    assert score_memory_bytes(HSC, network, 1, 256, 1024) - one == BLOCKS_IN_FLIGHT * 768 * cutout


def test_chunks_that_are_unpacked_whole_are_counted() -> None:
    usual = ingest_memory_bytes(HSC, 4096)
    assert ingest_memory_bytes(HSC, 4096, 2**20) == usual, "small ones lie within what a file may take"
    assert ingest_memory_bytes(HSC, 4096, 1800 * MIB) - ingest_memory_bytes(HSC, 4096, 1000 * MIB) == 3 * 800 * MIB
    limits = MemoryLimits(usual, 0, "site.yaml", "buy more")
    check_ingest(limits, HSC, 4096)
    expected = (
        r"ingest of 4,096 objects a partition from images whose chunks of 1,800 MiB are unpacked whole needs up to "
        r".* MiB a process; site.yaml gives it .* MiB. Write the images in smaller chunks, make storage.partition_"
    )
    with pytest.raises(SwimmyError, match=expected):
        check_ingest(limits, HSC, 4096, 1800 * MIB)


def test_chunks_of_cutana_are_checked_when_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job's own, and those of an addition."""
    monkeypatch.setattr(memory, "MAX_FILE_BYTES", 0)
    for number, chunk in enumerate((2, 4)):
        images = np.array([[galaxy(row, band, 64, 64) for band in range(5)] for row in range(4)], np.float32)
        columns = {"source_id": [f"T_{number}_{row}" for row in range(4)], "ra": np.zeros(4), "dec": np.arange(4.0)}
        write_cutana(tmp_path / f"cutana-{number}", number, 1e-6 * images, columns, chunk)
    one, other = (IngestSection(sources=(tmp_path / f"cutana-{number}",)) for number in range(2))
    fwhm = CatalogueSource(fwhm_arcsec=dict.fromkeys(HSC.bands, 0.7))
    more = AdditionSection(name="more", catalogue=fwhm, ingest=other)
    storage = StorageSection(partition_objects=4, chunk_objects=2)
    of_row = 5 * 64 * 64 * 4

    def stage(n_rows: int, *additions: AdditionSection) -> IngestStage:
        limits = MemoryLimits(ingest_memory_bytes(HSC, 4) + 3 * n_rows * of_row, 0, "here", "buy more")
        parts = (Ledger(tmp_path / "receipts", tmp_path, "ingest"), tmp_path / "cutouts.zarr", HSC, fwhm, one, storage)
        return IngestStage(*parts, additions=additions, limits=limits)

    with pytest.raises(SwimmyError, match="are unpacked whole needs up to"):
        stage(1).plan()
    assert not (tmp_path / "cutouts.zarr").exists()
    run_stage(stage(2), SerialExecutor(), Silent())
    with pytest.raises(SwimmyError, match="are unpacked whole needs up to"):
        stage(3, more).plan()
    assert len(stage(4, more).plan()) > 0


@pytest.mark.parametrize(("compression", "size"), [("gzip", 3 * 5 * 64 * 64 * 4), (None, 0)])
def test_chunks_of_hdf5(tmp_path: Path, compression: str | None, size: int) -> None:
    """Only packed ones are unpacked; those of a cube as those of a table."""
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file.create_dataset("image", (6, 5, 64, 64), "f4", chunks=(3, 5, 64, 64), compression=compression)
        file["object_id"], file["ra"], file["dec"] = np.arange(6), np.zeros(6), np.zeros(6)
    assert inspect_tables([str(tmp_path / "images.h5")], HSC)[0].unpacked_bytes == size
    assert inspect_cube(str(tmp_path / "images.h5"), "hdf5", HSC).unpacked_bytes == size


def test_as_many_models_are_evaluated_at_once_as_fit() -> None:
    one, more = judge_memory_bytes(HSC, 1, 1000), judge_memory_bytes(HSC, 16, 1000)
    assert more - one == 1000 * 15 * 3 * 2 * 4, "a score and a residual in three bands, float32"

    def at_once(n_fitting: int, spare: int = 0) -> int:
        needed = score_memory_bytes(HSC, Network(), n_fitting, 256, 256) + judge_memory_bytes(HSC, n_fitting, 1000)
        limits = MemoryLimits(0, needed + spare, "site.yaml", "buy more")
        return ScoringNeeds(HSC, Network(), None, 256, "keras").models_at_once(limits, 16, 1000)

    assert [at_once(number) for number in (1, 7, 16, 20)] == [1, 7, 16, 16]
    assert at_once(7, spare=-1) == 6
    with pytest.raises(SwimmyError, match=r"evaluating a weight set on 1,000 objects needs .*train.threshold_objects"):
        at_once(1, spare=-1)


def test_a_limit_names_both_numbers_and_the_remedy() -> None:
    limits = MemoryLimits(1000 * MIB, 2000 * MIB, "site.yaml", "buy more")
    limits.check("ingest", 1000 * MIB, False, "")
    limits.check("scoring", 2000 * MIB, True, "")
    expected = "ingest needs up to 1,001 MiB a process; site.yaml gives it 1,000 MiB. Work less, or buy more."
    with pytest.raises(SwimmyError, match=re.escape(expected)):
        limits.check("ingest", 1001 * MIB, False, "Work less")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("memory") / "survey", n_objects=128)


SCORING = "scoring 256 objects a batch needs up to .* gives it {} MiB. Make score.batch_size"


@pytest.mark.parametrize(
    ("limits", "scorer", "sections", "message"),
    [
        (
            (4000, 4000),
            "numba",
            {"storage": {"partition_objects": 65536, "chunk_objects": 256}},
            "ingest of 65,536 obj",
        ),
        ((4000, 1024), "keras", {}, SCORING.format("1,024")),
        ((600, 4000), "numba", {}, SCORING.format("600")),
        ((4000, 4000), "keras", {"score": {"batch_size": 100000}}, "scoring 100,000 objects a batch"),
        ((4000, 4000), "numba", {"score": {"batch_size": 100000}}, "scoring 100,000 objects a batch"),
    ],
)
def test_a_job_that_does_not_fit_is_refused_before_it_starts(
    tmp_path: Path, survey: Path, limits: tuple[int, int], scorer: Any, sections: dict[str, object], message: str
) -> None:
    job = load_job(write_job(tmp_path / "job.yaml", survey, **sections), Job)
    small = MemoryLimits(limits[0] * MIB, limits[1] * MIB, "site.yaml", "buy more")
    with pytest.raises(SwimmyError, match=message):
        check_inputs(Run(RunDirectory(tmp_path / "run"), job, 1, small, scorer))
    large = replace(small, reader_bytes=1 << 50, network_bytes=1 << 50)
    check_inputs(Run(RunDirectory(tmp_path / "run"), job, 1, large, scorer))


def test_training_is_refused_once_its_size_is_known(tmp_path: Path, survey: Path) -> None:
    job = write_job(tmp_path / "job.yaml", survey)
    limits = MemoryLimits(1 << 50, KERAS_BYTES, "site.yaml", "buy more")
    stages = Run(RunDirectory(tmp_path / "run"), load_job(job, Job), 1, limits).stages()
    run_stage(next(stages), Serial(), Watch())
    expected = r"training on \d+ objects needs .* Lower train.max_objects and run again, or buy more"
    with pytest.raises(SwimmyError, match=expected):
        next(stages).plan()


def test_a_job_that_is_refused_is_not_frozen(tmp_path: Path, survey: Path) -> None:
    """A job that cannot be done changes nothing."""
    small = MemoryLimits(1 << 40, 1 << 40, "site.yaml", "buy more")
    for batch_size, fits in ((10**9, False), (64, True)):
        job = load_job(write_job(tmp_path / "job.yaml", survey, score={"batch_size": batch_size}), Job)
        run = Run(RunDirectory(tmp_path / "run"), job, 1, small)
        if not fits:
            with pytest.raises(SwimmyError, match=r"Make score\.batch_size smaller"):
                freeze_inputs(run)
        else:
            freeze_inputs(run)
        assert (tmp_path / "run" / "job.yaml").exists() == fits


@pytest.mark.parametrize("stage", ["ingest", "score", "picture"])
def test_what_is_finished_needs_no_memory(tmp_path: Path, survey: Path, stage: str) -> None:
    job = load_job(write_job(tmp_path / "job.yaml", survey), Job)
    nothing = MemoryLimits(0, 0, "site.yaml", "buy more")
    run = Run(RunDirectory(tmp_path / "run"), job, 1, nothing)
    run.directory.path.mkdir()
    for name in ("ingest", "score", "picture"):
        if name != stage:
            run.ledger(name).finish("all", Parts(), [])
    with pytest.raises(SwimmyError, match={"ingest": "ingest of", "score": "scoring", "picture": "the picture"}[stage]):
        check_inputs(run)
    run.ledger(stage).finish("all", Parts(), [])
    check_inputs(run)


PEAK = """
import pathlib, re, runpy, sys
sys.argv = ["swimmy-scale", *sys.argv[1:]]
try:
    runpy.run_module("swimmy_scale", run_name="__main__")
finally:
    # Not getrusage: its peak is at first that of the process which started this one.
    status = pathlib.Path("/proc/self/status").read_text()
    print("peak", int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) << 10)
"""


@pytest.mark.slow
def test_a_process_stays_within_its_bound(tmp_path: Path, survey: Path) -> None:
    """One process does all stages: its peak is that of the hungriest, the training or the scoring."""
    job = load_job(write_job(tmp_path / "job.yaml", survey), Job)
    command = [sys.executable, "-c", PEAK, "run", str(tmp_path / "job.yaml")]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "run"), "--workers", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    peak = int(done.stdout.split()[-1])
    network = Network(encoder_filters=(8, 8), latent_filters=4)
    score = score_memory_bytes(HSC, network, 1, job.score.batch_size or BATCH_OBJECTS, job.storage.chunk_objects)
    train = train_memory_bytes(HSC, network, 128, 16)
    assert peak <= max(score, train)
    assert ingest_memory_bytes(HSC, job.storage.partition_objects) < peak, "the bound of a leaner stage would not do"


@pytest.mark.slow
def test_this_machine_has_limits_too(tmp_path: Path, survey: Path) -> None:
    job = write_job(tmp_path / "job.yaml", survey, score={"batch_size": 10_000_000})
    done = call("run", job, "--output", tmp_path / "run", "--workers", 2)
    assert done.returncode == 1
    assert "scoring 10,000,000 objects a batch needs up to" in done.stderr
    assert "this machine, with 2 worker processes, gives it" in done.stderr
    assert "start fewer with --workers" in done.stderr


@pytest.mark.parametrize(("gib", "n_cores", "expected"), [(64, 16, 16), (15, 8, 6), (5, 8, 2), (1, 4, 1)])
def test_no_more_workers_than_memory_by_default(gib: int, n_cores: int, expected: int) -> None:
    assert default_workers(n_cores, gib << 30) == expected
    assert default_workers(n_cores, gib << 30, with_tensorflow=False) == min(n_cores, (gib << 30) // (936 * MIB))


def test_a_gpus_activations_are_not_the_hosts() -> None:
    host, gpu = (score_memory_bytes(HSC, Network(), 2, 2048, 256, on_gpu) for on_gpu in (False, True))
    assert host - gpu == 2048 * activation_bytes(Network()) + MODEL_BYTES
    assert numba_memory_bytes(HSC, Network(), 256, 256, 4) < gpu
