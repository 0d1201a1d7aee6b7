"""Upper bounds of the resident memory of a process, computed from a job before anything runs.

The constants are measured peaks of worker processes, rounded up; ``benchmarks/memory.py`` measures them again and says
how close each bound is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.fits_scan import MAX_FILE_BYTES
from swimmy_scale.method.network import BATCH_OBJECTS, CACHE_BATCH_OBJECTS, GPU_BATCH_OBJECTS, Network
from swimmy_scale.method.sections import ScorerName, StorageSection
from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.method.words import counted

MIB = 1 << 20
FLOAT32_BYTES = 4

READER_BYTES = 448 * MIB
"""Python with Dask, Zarr and Astropy, and what they keep after the first partition."""

KERAS_BYTES = 1536 * MIB
"""The same with TensorFlow and a model, before the first batch."""

INGEST_COPIES = 2.25
"""Arrays as large as a partition that ingest holds at its peak. A compressed coadd comes on top: it is read whole."""

FILE_COPIES = 2
"""Arrays as large as the image of one file that ingest holds beside its partition."""

CHUNK_COPIES = 3
"""Arrays as large as a chunk of an object table or cube that ingest holds: packed, unpacked, and what is cut out."""

NUMBA_BYTES = 192 * MIB
"""numba and its compiler."""

PICTURE_BYTES = READER_BYTES + NUMBA_BYTES
"""A process that reconstructs and draws a dozen cutouts."""

BLOCKS_IN_FLIGHT = 5
"""Blocks of cutouts in a scoring process: two read ahead, one being read, one scored, and its preprocessed copy."""

MODEL_BYTES = 64 * MIB
"""What every model after the first takes in a scoring process."""

GRADIENT_COPIES = 4
"""Arrays as large as a batch's activations that training holds: activations, their gradients, and workspace."""


def cutout_bytes(survey: Survey) -> int:
    """Bytes of one object's pixels."""
    return FLOAT32_BYTES * survey.n_bands * survey.cutout_size_px**2


def activation_bytes(network: Network) -> int:
    """Bytes of the output of all layers for one object; over whole cutouts, an upper bound for windows."""
    return FLOAT32_BYTES * sum(filters * side**2 for filters, side in _outputs(network))


def _outputs(network: Network) -> Iterator[tuple[int, int]]:
    """Filters and side of the output of every convolution, pooling and upsampling."""
    side, n_convolutions = network.cutout_size_px, len(network.convolution_filters)
    for index, filters in enumerate(network.convolution_filters, start=1):
        yield filters, side
        if index < n_convolutions:
            side = side // 2 if index <= network.n_levels else side * 2
            yield filters, side


def ingest_memory_bytes(survey: Survey, partition_objects: int, unpacked_bytes: int = 0) -> int:
    """Bound for a process that ingests partitions of ``partition_objects``, from files as large as they may be.

    ``unpacked_bytes`` are those of the largest chunk of object tables or cubes that is unpacked whole.
    """
    of_files = max(FILE_COPIES * MAX_FILE_BYTES, CHUNK_COPIES * unpacked_bytes)
    return READER_BYTES + of_files + int(INGEST_COPIES * partition_objects * cutout_bytes(survey))


def train_memory_bytes(survey: Survey, network: Network, n_objects: int, batch_size: int) -> int:
    """Bound for a process that trains on ``n_objects``: all of them lie in memory, preprocessed."""
    batch = GRADIENT_COPIES * batch_size * activation_bytes(network)
    return KERAS_BYTES + int(1.25 * n_objects * cutout_bytes(survey)) + batch


def score_memory_bytes(
    survey: Survey, network: Network, n_models: int, batch_size: int, chunk_objects: int, on_gpu: bool = False
) -> int:
    """Bound for a process that scores by ``n_models`` in one pass; it does not depend on the partition's size.

    Beside a GPU the activations lie in the GPU's own memory, which is not counted here.
    """
    block_objects = max(batch_size, chunk_objects)
    # One model follows the other, so that only one has activations at a time.
    batch = 0 if on_gpu else batch_size * activation_bytes(network) + (n_models - 1) * MODEL_BYTES
    return KERAS_BYTES + BLOCKS_IN_FLIGHT * block_objects * cutout_bytes(survey) + batch


def judge_memory_bytes(survey: Survey, n_models: int, n_objects: int) -> int:
    """Bound for the scores of ``n_objects`` by ``n_models``, all held at once, and for judging one of the models."""
    # Score and residual of every model; the quantile of one of them in float64.
    return FLOAT32_BYTES * n_objects * len(survey.selecting_bands) * (2 * n_models + 10)


def numba_memory_bytes(survey: Survey, network: Network, batch_size: int, chunk_objects: int, n_threads: int) -> int:
    """Bound for a process that scores with the numba scorer; one model follows the other in the same memory."""
    block_objects = max(batch_size, chunk_objects)
    batch = n_threads * CACHE_BATCH_OBJECTS * activation_bytes(network)
    return READER_BYTES + NUMBA_BYTES + BLOCKS_IN_FLIGHT * block_objects * cutout_bytes(survey) + batch


def default_worker_bytes() -> dict[str, int]:
    """Bounds for a process that ingests, for one that scores by numba, and for one that has TensorFlow for either
    training or scoring, with the default sizes.
    """
    storage = StorageSection()
    sizes = (BATCH_OBJECTS, storage.chunk_objects)
    return {
        "ingest": ingest_memory_bytes(HSC, storage.partition_objects),
        "scoring": numba_memory_bytes(HSC, Network(), *sizes, n_threads=1),
        "TensorFlow": score_memory_bytes(HSC, Network(), 1, *sizes),
    }


@dataclass(frozen=True)
class MemoryLimits:
    """The memory of a worker process.

    Attributes
    ----------
    reader_bytes, network_bytes : int
        Of a process that reads files, and of one that runs the network.
    where : str
        What sets the limit: a site file, or this machine.
    remedy : str
        How to get more of it.
    on_gpu : bool
        Whether the network runs on a GPU.
    """

    reader_bytes: int
    network_bytes: int
    where: str
    remedy: str
    on_gpu: bool = False

    def check(self, what: str, needed_bytes: int, wants_gpu: bool, remedy: str) -> None:
        """Check that a process has the memory that it needs; the message says where the limit comes from."""
        limit_bytes = self.network_bytes if wants_gpu else self.reader_bytes
        if needed_bytes > limit_bytes:
            raise SwimmyError(
                f"{what} needs up to {needed_bytes / MIB:,.0f} MiB a process; {self.where} gives it "
                f"{limit_bytes / MIB:,.0f} MiB. {remedy}, or {self.remedy}."
            )


def check_ingest(limits: MemoryLimits, survey: Survey, partition_objects: int, unpacked_bytes: int = 0) -> None:
    """Check that an ingesting process has memory for its partition, and for a chunk (see `MemoryLimits.check`)."""
    needed = ingest_memory_bytes(survey, partition_objects, unpacked_bytes)
    what = f"ingest of {counted(partition_objects, 'objects')} a partition"
    remedy = "Make storage.partition_objects smaller"
    if CHUNK_COPIES * unpacked_bytes > FILE_COPIES * MAX_FILE_BYTES:
        what += f" from images whose chunks of {unpacked_bytes / MIB:,.0f} MiB are unpacked whole"
        remedy = "Write the images in smaller chunks, make storage.partition_objects smaller"
    limits.check(what, needed, False, remedy)


@dataclass(frozen=True)
class ScoringNeeds:
    """What the memory of a scoring process depends on, except the number of models (see `Scoring`).

    ``batch_size`` None leaves it to the scorer; ``chunk_objects`` are read together.
    """

    survey: Survey
    network: Network
    batch_size: int | None
    chunk_objects: int
    scorer: ScorerName
    n_threads: int = 1

    @property
    def _on_keras(self) -> bool:
        return self.scorer == "keras"

    def memory_bytes(self, limits: MemoryLimits, n_models: int) -> int:
        """Bound for a process that scores by ``n_models``."""
        return self._bytes(limits, n_models)[1]

    def _bytes(self, limits: MemoryLimits, n_models: int) -> tuple[int, int]:
        """Objects of a batch, and the bound for a process that scores them by ``n_models``."""
        on_gpu = limits.on_gpu and self._on_keras
        batch_size = self.batch_size or (GPU_BATCH_OBJECTS if on_gpu else BATCH_OBJECTS)
        sizes = (batch_size, self.chunk_objects)
        if self._on_keras:
            return batch_size, score_memory_bytes(self.survey, self.network, n_models, *sizes, on_gpu)
        return batch_size, numba_memory_bytes(self.survey, self.network, *sizes, self.n_threads)

    def check(self, limits: MemoryLimits, n_models: int) -> None:
        """Check that a scoring process has memory for its batches (see `MemoryLimits.check`)."""
        batch_size, needed = self._bytes(limits, n_models)
        limits.check(
            f"scoring {counted(batch_size, 'objects')} a batch", needed, self._on_keras, "Make score.batch_size smaller"
        )

    def models_at_once(self, limits: MemoryLimits, n_models: int, n_objects: int) -> int:
        """How many of ``n_models`` a process can score in one pass and judge by their scores of ``n_objects``.

        Raises
        ------
        SwimmyError
            When the memory is too small for one.
        """

        def needed(n_together: int) -> int:
            _, scoring = self._bytes(limits, n_together)
            return scoring + judge_memory_bytes(self.survey, n_together, n_objects)

        limit_bytes = limits.network_bytes if self._on_keras else limits.reader_bytes
        fitting = [number for number in range(n_models, 0, -1) if needed(number) <= limit_bytes]
        if not fitting:
            remedy = "Set train.threshold_objects, or make score.batch_size smaller"
            limits.check(
                f"evaluating a weight set on {counted(n_objects, 'objects')}", needed(1), self._on_keras, remedy
            )
        return fitting[0]
