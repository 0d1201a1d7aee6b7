"""From rows of ``cutouts.zarr`` to scores in one process: reading runs ahead of computing."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from swimmy_scale.cutouts import Cutouts
from swimmy_scale.network import Network
from swimmy_scale.survey import FloatArray, Survey

BLOCKS_AHEAD = 2


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
    batch_size : int
        Objects of one model call; changes speed and memory only.
    n_threads : int
        Threads of each worker; they change the speed only.
    scorer : str
        ``keras``, or ``numba`` for CPUs without TensorFlow; their scores differ in the last digits.
    """

    models: tuple[Model, ...]
    network: Network
    batch_size: int
    n_threads: int
    scorer: Literal["keras", "numba"] = "keras"

    @property
    def sha256(self) -> str | list[str]:
        """Digest of the model, or of each where there are several."""
        return self.models[0].sha256 if len(self.models) == 1 else [model.sha256 for model in self.models]

    @property
    def identity(self) -> list[Any]:
        """What the scores depend on."""
        return [self.sha256, asdict(self.network), *([] if self.scorer == "keras" else [self.scorer])]


class CountsScorer(Protocol):
    """Scores cutouts as they are stored."""

    def score_counts(self, image: FloatArray, fwhm_arcsec: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score and residual, float32 (n, n_models, n_bands), of counts float32 (n, n_bands, size, size)."""


@functools.lru_cache(maxsize=1)
def scorer_for(scoring: Scoring, survey: Survey) -> CountsScorer:
    """The scorer of this process: loaded once for its models' digests, not once a task."""
    if scoring.scorer == "numba":
        from swimmy_scale.numba_scorer import NumbaScorer
        from swimmy_scale.weights import folded_weights

        weights = [folded_weights(model.path, scoring.network, model.sha256) for model in scoring.models]
        return NumbaScorer(weights, scoring.network, survey, n_threads=scoring.n_threads)
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
    for rows, image, fwhm in _blocks(store, scoring.batch_size, lo, hi, usable):
        score[rows], residual[rows] = scorer.score_counts(image, fwhm)
    return score, residual


def _blocks(
    store: Cutouts, batch_size: int, lo: int, hi: int, usable: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.int64], FloatArray, FloatArray]]:
    """Usable rows counted from ``lo``, with their pixels and seeing: whole chunks, about a batch at a time.

    Threads read the next blocks while this one is scored: decompression and the disk do not hold Python's lock.
    """

    def read(start: int, stop: int) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
        rows = np.flatnonzero(usable[start - lo : stop - lo])
        image, fwhm = store.images(start, stop), store.read("fwhm_arcsec", start, stop)
        if len(rows) < stop - start:
            image, fwhm = image[rows], fwhm[rows]
        return start - lo + rows, image, fwhm

    n_block = store.chunk_objects * max(batch_size // store.chunk_objects, 1)
    # Blocks end where chunks do, so that none is read twice.
    edges = [lo, *range(lo - lo % store.chunk_objects + n_block, hi, n_block), hi]
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as pool:
        ahead: deque[Future[Any]] = deque()
        for start, stop in pairwise(edges):
            if usable[start - lo : stop - lo].any():
                ahead.append(pool.submit(read, start, stop))
            if len(ahead) > BLOCKS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
