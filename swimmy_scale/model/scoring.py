"""From rows of ``cutouts.zarr`` to scores, in one process that reads ahead while it computes."""

from __future__ import annotations

import functools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.descriptor import DESCRIPTOR_VERSION, N_RINGS
from swimmy_scale.method.job import Job
from swimmy_scale.method.network import BATCH_OBJECTS, Network
from swimmy_scale.method.noise import noise_score, source_and_noise
from swimmy_scale.method.score_kind import EQUATION_6, ScoreKind
from swimmy_scale.method.sections import ScorerName, TrainSection
from swimmy_scale.method.survey import BoolArray, FloatArray, IntArray, Survey
from swimmy_scale.model.processor import processor_of
from swimmy_scale.storage.arrivals import once_there
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import RunDirectory

BLOCKS_AHEAD = 2
"""Blocks that are read or being read beside those that are computed: one on a CPU, two with a GPU.

On a CPU these 3 blocks of 256 objects (5 bands of 64 px) take 63 MB; with a GPU 4 blocks of 2048 take 0.7 GB, and each
reader holds a chunk besides.
"""
READERS_FOR_GPU = 8
NUMBA_SECONDS = 0.6e-3
"""What the numba scorer takes for an object (5 bands of 64 px), a model and a core, with the reading."""
# Rows counted from the first one asked for, their pixels and seeing.
Reading = tuple[IntArray, FloatArray, FloatArray]


@dataclass(frozen=True)
class Model:
    """A model file and the SHA-256 that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Scoring:
    """How cutouts are scored.

    Attributes
    ----------
    models : tuple of Model
        All of one network. They score in one pass over the pixels.
    network : Network
    batch_size : int or None
        Objects of one model call. It changes speed and memory, and on a GPU the last digits. None leaves it to the
        scorer.
    n_threads : int
        Threads of each worker. They change the speed only.
    scorer : str
        ``numba`` for CPUs, or ``keras``, which computes on a GPU if there is one. Their scores differ in the last
        digits.
    kind : ScoreKind
        What the score is.
    descriptors : bool
        Whether the residual of each ring of the aperture is given, too, which descriptors are made of.
    """

    models: tuple[Model, ...]
    network: Network
    batch_size: int | None
    n_threads: int
    scorer: ScorerName = "numba"
    kind: ScoreKind = EQUATION_6
    descriptors: bool = False

    @property
    def sha256(self) -> str | list[str]:
        """Digest of the model, or of each where there are several."""
        return self.models[0].sha256 if len(self.models) == 1 else [model.sha256 for model in self.models]

    @property
    def core_seconds_per_object(self) -> float:
        """About how long one core takes for an object in numba; infinite for Keras, which takes longer to start."""
        return len(self.models) * NUMBA_SECONDS if self.scorer == "numba" else math.inf

    @property
    def identity(self) -> list[Any]:
        """What the scores depend on. Without descriptors it is what it was before there were any."""
        described = ["descriptor", DESCRIPTOR_VERSION] if self.descriptors else []
        return [self.sha256, asdict(self.network), self.scorer, *self.kind.identity, *described]


class CountsScorer(Protocol):
    """Scores cutouts as they are stored."""

    def score_counts(self, image: FloatArray, fwhm_arcsec: FloatArray) -> tuple[FloatArray, ...]:
        """Score and residual, float32 (n, n_models, n_bands), of counts float32 (n, n_bands, size, size).

        With `Scoring.descriptors` also the residual of each ring, float32 (n, n_models, n_bands, N_RINGS).
        """


@runtime_checkable
class BlocksScorer(CountsScorer, Protocol):
    """A scorer that takes the next block before it gives out the scores of the one before.

    Attributes
    ----------
    batch_size : int
        Objects of one call.
    fused : bool
        Whether a GPU does all the work, so that pixels should come fast and in whole batches.
    """

    batch_size: int
    fused: bool

    def score_blocks[Tag](
        self, blocks: Iterable[tuple[FloatArray, FloatArray, Tag]]
    ) -> Iterator[tuple[Tag, *tuple[FloatArray, ...]]]:
        """``score_counts`` of each block, in order, behind the tag that came with the block's pixels and seeing."""


@functools.lru_cache(maxsize=1)
def scorer_for(scoring: Scoring, survey: Survey) -> CountsScorer:
    """The scorer of this process, loaded once and not for each task."""
    if scoring.scorer == "numba":
        from swimmy_scale.model.files import folded_weights
        from swimmy_scale.model.numba_scorer import NumbaScorer

        weights = [
            once_there(partial(folded_weights, model.path, scoring.network, model.sha256)) for model in scoring.models
        ]
        return NumbaScorer(weights, scoring.network, survey, n_threads=scoring.n_threads, rings=scoring.descriptors)
    # Keras takes seconds to import: only processes that score pay for it.
    from swimmy_scale.model.devices import configure_threads
    from swimmy_scale.model.files import load
    from swimmy_scale.model.keras_scorer import Scorer

    configure_threads(scoring.n_threads, as_it_is=True)
    models = [once_there(partial(load, model.path, scoring.network, model.sha256)) for model in scoring.models]
    return Scorer(models, scoring.network, survey, scoring.batch_size, rings=scoring.descriptors)


def computed_by(scoring: Scoring, survey: Survey) -> str:
    """What computes in this process. Scores of different kinds differ in their last digits."""
    scorer = scorer_for(scoring, survey)
    if isinstance(scorer, BlocksScorer) and scorer.fused:
        return "GPU"
    return f"CPU ({scoring.scorer}, {processor_of(scoring.scorer)})"


def scorer_that(computed_by: str) -> ScorerName:
    """The scorer that says this of itself (see `computed_by`); only Keras computes on a GPU."""
    return "numba" if computed_by.startswith("CPU (numba") else "keras"


def score_rows(store: Cutouts, scoring: Scoring, lo: int, hi: int, usable: BoolArray) -> tuple[FloatArray, ...]:
    """Scores and residuals of rows ``lo`` to ``hi``; ``usable`` has shape (hi - lo,).

    Returns
    -------
    score, residual : ndarray of float32, shape (hi - lo, n_models, n_bands)
        NaN where not usable.
    ring_residual : ndarray of float32, shape (hi - lo, n_models, n_bands, N_RINGS)
        With `Scoring.descriptors` alone; NaN where not usable.
    """
    shape = (hi - lo, len(scoring.models), store.survey.n_bands)
    shapes = [shape, shape, (*shape, N_RINGS)] if scoring.descriptors else [shape, shape]
    results = tuple(np.full(shape, np.nan, np.float32) for shape in shapes)
    for rows, *block in scored_blocks(store, scoring, lo, hi, usable):
        for values, found in zip(results, block, strict=True):
            values[rows] = found
    for values in results:
        values[~usable] = np.nan
    return results


def scored_blocks(
    store: Cutouts, scoring: Scoring, lo: int, hi: int, usable: BoolArray, pack: bool = False
) -> Iterator[tuple[IntArray, *tuple[FloatArray, ...]]]:
    """Scores and residuals of rows ``lo`` to ``hi``, block by block, so that memory does not grow with them.

    Parameters
    ----------
    usable : ndarray of bool, shape (hi - lo,)
    pack : bool
        Bring usable rows together into whole batches, for when they are few among many. The scores are the same.

    Yields
    ------
    rows : ndarray of int64, shape (m,)
        Counted from ``lo``, ascending. Without ``pack``, rows that are not usable may be among them.
    score, residual : ndarray of float32, shape (m, n_models, n_bands)
    ring_residual : ndarray of float32, shape (m, n_models, n_bands, N_RINGS)
        With `Scoring.descriptors` alone.
    """
    scorer = scorer_for(scoring, store.survey)
    fused, batch_size = False, scoring.batch_size or BATCH_OBJECTS
    if isinstance(scorer, BlocksScorer):
        fused, batch_size = scorer.fused, scorer.batch_size
    blocks = _blocks(store, batch_size, lo, hi, usable, whole=fused and not pack)
    if pack:
        blocks = _packed(blocks, batch_size)
    floor = scoring.kind.noise_floor
    # The scorer hands back, with the scores of each block, what else is known of it.
    tagged = (
        (image, fwhm, (rows, None if floor is None else (*source_and_noise(image, fwhm, store.survey), floor)))
        for rows, image, fwhm in blocks
    )
    scored: Iterable[tuple[tuple[IntArray, Any], *tuple[FloatArray, ...]]]
    if isinstance(scorer, BlocksScorer):
        scored = scorer.score_blocks(tagged)
    else:
        scored = ((tag, *scorer.score_counts(image, fwhm)) for image, fwhm, tag in tagged)
    for (rows, noise), *arrays in scored:
        if noise is not None:
            arrays[0] = noise_score(arrays[1], *noise)
        yield rows, *arrays


def _packed(blocks: Iterator[Reading], n_objects: int) -> Iterator[Reading]:
    """The rows of ``blocks``, in blocks of ``n_objects``; the last may be shorter."""
    held: Reading | None = None
    for block in blocks:
        held = _joined(held, block) if held is not None else block
        while len(held[0]) >= n_objects:
            yield _cut(held, slice(n_objects))
            held = _cut(held, slice(n_objects, None))
    if held is not None and len(held[0]):
        yield held


def _joined(one: Reading, other: Reading) -> Reading:
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]]), np.concatenate([one[2], other[2]])


def _cut(block: Reading, part: slice) -> Reading:
    return block[0][part], block[1][part], block[2][part]


def _blocks(store: Cutouts, batch_size: int, lo: int, hi: int, usable: BoolArray, whole: bool) -> Iterator[Reading]:
    """Blocks of whole chunks, about a batch long, in order. Threads read the next ones while this one is scored.

    With ``whole``, for a GPU, chunks of a block are read side by side. Objects that cannot be used stay in their block,
    with a seeing that the scorer accepts: leaving a few out would copy all the others, and take longer than the GPU
    needs for the block.
    """
    n_block = store.chunk_objects * max(batch_size // store.chunk_objects, 1)
    n_readers = min(READERS_FOR_GPU, len(os.sched_getaffinity(0))) if whole else 1
    start_reading = _start_chunks if whole else _start_block
    with ThreadPoolExecutor(n_readers, thread_name_prefix="reader") as pool:
        ahead: deque[Callable[[], Reading]] = deque()
        for start, stop in _aligned(lo, hi, n_block):
            wanted = usable[start - lo : stop - lo]
            if wanted.any():
                ahead.append(start_reading(pool, store, start - lo, range(start, stop), wanted))
            if len(ahead) > BLOCKS_AHEAD:
                yield ahead.popleft()()
        while ahead:
            yield ahead.popleft()()


def _aligned(lo: int, hi: int, step: int) -> Iterator[tuple[int, int]]:
    """Parts of [lo, hi) that end at multiples of ``step``, as chunks do, so that none is read twice."""
    return pairwise([lo, *range(lo - lo % step + step, hi, step), hi])


def _start_block(pool: Executor, store: Cutouts, first: int, rows: range, wanted: BoolArray) -> Callable[[], Reading]:
    """Start reading the wanted rows of a block, whose first row is ``first`` as a `Reading` counts."""

    def read() -> Reading:
        image, fwhm = store.images(rows.start, rows.stop), store.read("fwhm_arcsec", rows.start, rows.stop)
        places = first + np.flatnonzero(wanted)
        return (places, image, fwhm) if wanted.all() else (places, image[wanted], fwhm[wanted])

    return pool.submit(read).result


def _start_chunks(pool: Executor, store: Cutouts, first: int, rows: range, wanted: BoolArray) -> Callable[[], Reading]:
    """Start reading all rows of a block, chunk by chunk. Arguments as of `_start_block`."""
    survey = store.survey
    image = np.empty((len(rows), survey.n_bands, survey.cutout_size_px, survey.cutout_size_px), np.float32)

    def read_chunk(start: int, stop: int) -> None:
        image[start - rows.start : stop - rows.start] = store.images(start, stop)

    def read_seeing() -> FloatArray:
        fwhm: FloatArray = store.read("fwhm_arcsec", rows.start, rows.stop)
        fwhm[~wanted] = survey.target_fwhm_arcsec
        return fwhm

    seeing = pool.submit(read_seeing)
    chunks = [pool.submit(read_chunk, *part) for part in _aligned(rows.start, rows.stop, store.chunk_objects)]

    def result() -> Reading:
        for chunk in chunks:
            chunk.result()
        return first + np.arange(len(rows)), image, seeing.result()

    return result


# ---------------------------------------------------------------- which models score


def scoring_of(run: RunDirectory, job: Job, n_threads: int, scorer: ScorerName = "numba") -> Scoring:
    """By which models a run scores, and how.

    Raises
    ------
    SwimmyError
        When the run trains its weights and has not chosen among them yet.
    """
    if job.weights:
        models = tuple(Model(model.path, model.sha256) for model in job.weights)
        network = job.weights[0].network.for_survey(Cutouts(run.cutouts(job)).survey)
    else:
        models, network = _chosen(run, job, job.train or TrainSection())
    score = job.score
    return Scoring(models, network, score.batch_size, n_threads, scorer, score.score_kind, score.descriptors)


def _chosen(run: RunDirectory, job: Job, train: TrainSection) -> tuple[tuple[Model, ...], Network]:
    """The weights that training or evaluation chose, and their network."""
    stage = "evaluate" if train.evaluates else "train"
    done = run.ledger(stage).read(FINISHED)
    if done is None:
        raise SwimmyError(f"{run.path}: {stage} is not finished. Run the job again.")
    details = done.details
    if "network" in details:
        network = Network.from_json(details["network"])
    else:
        network = train.networks[0].for_survey(Cutouts(run.cutouts(job)).survey)
    if job.score.n_models == 1:
        return (Model(run.models.selected, str(details["model_sha256"])),), network
    return tuple(Model(run.models.path / item["file"], item["sha256"]) for item in details["ensemble"]), network


# ---------------------------------------------------------------- pictures


def reconstructor(scoring: Scoring) -> Callable[[FloatArray], FloatArray]:
    """The network's reconstruction of a source; of several models the mean, taken in float64 as by `ensemble.mean`.

    Whatever scores, numba computes it: TensorFlow takes longer to start than some thousand objects take here.
    """
    from swimmy_scale.model.files import folded_weights
    from swimmy_scale.model.numba_reconstructor import NumbaReconstructor

    weights = [folded_weights(model.path, scoring.network, model.sha256) for model in scoring.models]
    single = [NumbaReconstructor(folded, scoring.network, n_threads=scoring.n_threads) for folded in weights]

    def reconstruction(source: FloatArray) -> FloatArray:
        total = np.zeros(source.shape, np.float64)
        for one in single:
            total += one(source)
        mean: FloatArray = (total / len(single)).astype(np.float32)
        return mean

    return reconstruction
