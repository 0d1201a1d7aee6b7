"""From rows of ``cutouts.zarr`` to scores in one process: reading runs ahead of computing."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from swimmy_scale.cutouts import Cutouts
from swimmy_scale.network import Network
from swimmy_scale.survey import FloatArray, Survey

BLOCKS_AHEAD = 2
"""Blocks in memory, read or being read, beside those that are computed, of which a GPU holds two more.

On a CPU 4 blocks of 256 objects (5 bands of 64 px) are 84 MB, beside a GPU 10 of 2048 objects at most are 1.7 GB.
"""
READERS_FOR_GPU = 8
BLOCK_OBJECTS = 256
Rows = npt.NDArray[np.bool_]
Block = tuple[FloatArray, FloatArray]
# Rows counted from the first one asked for, their pixels and seeing.
Reading = tuple[npt.NDArray[np.int64], FloatArray, FloatArray]


@dataclass(frozen=True)
class Model:
    """A model file and the SHA-256 that it must have."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """What ``scores.zarr`` calls it: the first digits of its digest."""
        return self.sha256[:12]


@dataclass(frozen=True)
class Scoring:
    """How cutouts are scored.

    Attributes
    ----------
    models : tuple of Model
        All of one network; scored in one pass over the pixels.
    network : Network
    batch_size : int or None
        Objects of one model call; changes speed and memory only. None leaves it to the scorer.
    n_threads : int
        Threads of each worker; they change the speed only.
    """

    models: tuple[Model, ...]
    network: Network
    batch_size: int | None
    n_threads: int

    @property
    def sha256(self) -> str | list[str]:
        """Digest of the model, or of each where there are several."""
        return self.models[0].sha256 if len(self.models) == 1 else [model.sha256 for model in self.models]

    @property
    def identity(self) -> list[Any]:
        """What the scores depend on."""
        return [self.sha256, asdict(self.network)]


class CountsScorer(Protocol):
    """Scores cutouts as they are stored."""

    def score_counts(self, image: FloatArray, fwhm_arcsec: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score and residual, float32 (n, n_models, n_bands), of counts float32 (n, n_bands, size, size)."""


@runtime_checkable
class BlocksScorer(CountsScorer, Protocol):
    """A scorer that takes the next block before it gives out the scores of the last one.

    Attributes
    ----------
    batch_size : int
        Objects of one call.
    fused : bool
        Whether a GPU does all of the work, so that pixels should come fast and in whole batches.
    """

    batch_size: int
    fused: bool

    def score_blocks(self, blocks: Iterable[Block]) -> Iterator[tuple[FloatArray, FloatArray]]:
        """``score_counts`` of each block, in order."""


@functools.lru_cache(maxsize=1)
def scorer_for(scoring: Scoring, survey: Survey) -> CountsScorer:
    """The scorer of this process: loaded once for its models' digests, not once a task."""
    # Keras takes seconds to import: only processes that score pay for it.
    from swimmy_scale.autoencoder import load
    from swimmy_scale.devices import configure_threads
    from swimmy_scale.scorer import Scorer

    configure_threads(scoring.n_threads, as_it_is=True)
    models = [load(model.path, scoring.network, model.sha256) for model in scoring.models]
    return Scorer(models, scoring.network, survey, scoring.batch_size)


def score_rows(
    store: Cutouts, scoring: Scoring, lo: int, hi: int, usable: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Scores and residuals of rows ``lo`` to ``hi``.

    Parameters
    ----------
    usable : ndarray of bool, shape (hi - lo,)

    Returns
    -------
    score, residual : ndarray of float32, shape (hi - lo, n_models, n_bands)
        NaN where not usable.
    """
    scorer = scorer_for(scoring, store.survey)
    score = np.full((hi - lo, len(scoring.models), store.survey.n_bands), np.nan, np.float32)
    residual = score.copy()
    fused, batch_size = False, scoring.batch_size or BLOCK_OBJECTS
    if isinstance(scorer, BlocksScorer):
        fused, batch_size = scorer.fused, scorer.batch_size
    n_readers = min(READERS_FOR_GPU, len(os.sched_getaffinity(0))) if fused else 1
    blocks = _read_ahead(_readings(store, batch_size, lo, hi, usable, whole=fused), n_readers)
    places: deque[npt.NDArray[np.int64]] = deque()

    def pixels() -> Iterator[Block]:
        for rows, image, fwhm in blocks:
            places.append(rows)
            yield image, fwhm

    in_order = (
        scorer.score_blocks if isinstance(scorer, BlocksScorer) else functools.partial(starmap, scorer.score_counts)
    )
    for results in in_order(pixels()):
        rows = places.popleft()
        score[rows], residual[rows] = results
    score[~usable] = residual[~usable] = np.nan
    return score, residual


def _readings(
    store: Cutouts, batch_size: int, lo: int, hi: int, usable: Rows, whole: bool
) -> Iterator[Callable[[], Reading]]:
    """How to read each block: whole chunks, about a batch.

    With ``whole``, objects that cannot be used stay in their block and the scorer is given a seeing that it takes:
    leaving a few out would copy all others, which takes longer than a GPU needs for the block.
    """

    def read(start: int, stop: int) -> Reading:
        wanted = usable[start - lo : stop - lo]
        rows = np.arange(start, stop) - lo
        image, fwhm = store.images(start, stop), store.read("fwhm_arcsec", start, stop)
        if whole:
            fwhm[~wanted] = store.survey.target_fwhm_arcsec
        elif not wanted.all():
            rows, image, fwhm = rows[wanted], image[wanted], fwhm[wanted]
        return rows, image, fwhm

    n_block = store.chunk_objects * max(batch_size // store.chunk_objects, 1)
    # Blocks end where chunks do, so that none is read twice.
    edges = [lo, *range(lo - lo % store.chunk_objects + n_block, hi, n_block), hi]
    for start, stop in pairwise(edges):
        if usable[start - lo : stop - lo].any():
            yield functools.partial(read, start, stop)


def _read_ahead[T](readings: Iterable[Callable[[], T]], n_readers: int) -> Iterator[T]:
    """Results of ``readings``, in order, made by ``n_readers`` threads while the caller does something else.

    Decompression and the disk do not hold Python's lock.
    """
    with ThreadPoolExecutor(n_readers, thread_name_prefix="reader") as pool:
        ahead: deque[Future[T]] = deque()
        for reading in readings:
            ahead.append(pool.submit(reading))
            if len(ahead) > max(BLOCKS_AHEAD, n_readers):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
