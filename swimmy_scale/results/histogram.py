"""Histograms of the anomaly score, as in figure 5: counted block by block, in the same memory for any survey."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, IntArray
from swimmy_scale.method.thresholds import RadixCount, order_statistics

FINE_EDGES: DoubleArray = np.linspace(-10.0, 10.0, 2001)
"""For counts in one pass, before the range of the scores is known; `ScoreCounts.widened` picks the bins to show."""
MAX_WIDE_BINS, _LEAST_STEP = 60, 4
# The axis reaches at most a factor of 10 beyond the 99.95th percentile; what lies farther out is an outlier.
_FAR, _FAR_DEX = 0.0005, 1.0
_MARGIN_DEX = 0.05

ScoreBlocks = Callable[[], Iterable[tuple[FloatArray, BoolArray]]]
"""Starts a pass over the sample: blocks of any size of score, float32 (m, band), and of candidate at the lowest
level, bool (m, band)."""


@dataclass
class ScoreCounts:
    """Counts of log10 of the score in bins, for each band: the whole sample, and its candidates.

    Attributes
    ----------
    edges : ndarray of float64, shape (bin + 1,)
        In log10 of the score. Scores beyond them, 0 among them, count in the end bins, so that no object is hidden.
    sample, selected : ndarray of int64, shape (band, bin)
    n_objects, n_candidates : int
        Objects that were added, and those among them that are a candidate in any band.
    """

    n_bands: int
    edges: DoubleArray = field(default_factory=lambda: FINE_EDGES)
    sample: IntArray = field(init=False)
    selected: IntArray = field(init=False)
    n_objects: int = 0
    n_candidates: int = 0

    def __post_init__(self) -> None:
        self.sample, self.selected = np.zeros((2, self.n_bands, self.edges.size - 1), np.int64)

    def add(self, score: FloatArray, candidate: BoolArray) -> None:
        """Count more objects of the sample.

        Parameters
        ----------
        score : ndarray of float32, shape (n, band)
            Values that are not finite are left out.
        candidate : ndarray of bool, shape (n, band)
            At the lowest level.
        """
        with np.errstate(divide="ignore"):
            bins = self._bins(np.log10(np.maximum(score, 0), dtype=np.float64))
        known = np.isfinite(score)
        for counts, counted in ((self.sample, known), (self.selected, known & candidate)):
            for band in range(self.n_bands):
                counts[band] += np.bincount(bins[counted[:, band], band], minlength=counts.shape[1])
        self.n_objects += len(score)
        self.n_candidates += int(candidate.any(axis=1).sum())

    def _bins(self, log_score: npt.ArrayLike) -> IntArray:
        return np.clip(np.searchsorted(self.edges, log_score, side="right") - 1, 0, self.edges.size - 2)

    def widened(self, scores: Iterable[float]) -> ScoreCounts:
        """The same counts in wider bins that suit the sample, about ``MAX_WIDE_BINS`` at most.

        The bins reach from the 0.05th percentile of all bands to the 99.95th and a factor of 10 beyond, or to the
        largest score where that is less, and hold those of ``scores`` that are finite and above 0.
        """
        values = np.array([score for score in scores if np.isfinite(score) and score > 0])
        places = self._bins(np.log10(values)).tolist()
        total = np.cumsum(self.sample.sum(axis=0))
        if total[-1]:
            low, high = np.searchsorted(total, [total[-1] * _FAR, total[-1] * (1 - _FAR)]).tolist()
            far = round(_FAR_DEX / (self.edges[1] - self.edges[0]))
            places += [low, min(high + far, int(np.flatnonzero(self.sample.any(axis=0))[-1]))]
        n_bins = self.edges.size - 1
        first, last = min(places, default=n_bins // 2), max(places, default=n_bins // 2)
        step = max(-(-(last - first + 1) // MAX_WIDE_BINS), _LEAST_STEP)
        chosen = np.arange(max(first - step, 0), min(last + 2 * step, n_bins) + 1, step)
        wide = ScoreCounts(self.n_bands, self.edges[chosen], self.n_objects, self.n_candidates)
        starts = np.append(0, chosen[1:-1])
        wide.sample, wide.selected = (np.add.reduceat(part, starts, axis=1) for part in (self.sample, self.selected))
        return wide


@dataclass(frozen=True)
class ScoreHistogram:
    """Counts between edges that suit the sample.

    Attributes
    ----------
    counts : ScoreCounts
        Of scores above 0.
    log_median : ndarray of float64, shape (band,)
        Median of log10 of the scores above 0; NaN without any.
    """

    counts: ScoreCounts
    log_median: DoubleArray


def score_histogram(
    blocks: ScoreBlocks, threshold: DoubleArray, n_bins: int, margin_share: float = 0.0
) -> ScoreHistogram:
    """Count the sample in bins of one width, in three passes: two find the edges, the third counts.

    The edges are those that `numpy.percentile` of log10 of all scores gives, to the last bit: from the 0.05th
    percentile to the 99.95th plus 1, or to the largest where that is less, widened to hold every threshold.

    Parameters
    ----------
    blocks : callable
        Scores that are not finite or not above 0 have no logarithm: they are left out.
    threshold : ndarray of float64, shape (level, band)
        Those that are finite and above 0 lie within the edges.
    margin_share : float
        Part of the range that is added at either end, in addition to 0.05.
    """
    n_bands = threshold.shape[1]
    (low, high, largest), *medians = _log_quantiles(blocks, [(_FAR, 1 - _FAR, 1.0), *[(0.5,)] * n_bands])
    low, high = (0.0, 1.0) if np.isnan(low) else (low, min(high + _FAR_DEX, largest))
    limits = np.log10(threshold[np.isfinite(threshold) & (threshold > 0)])
    low, high = min([low, *limits]), max([high, *limits])
    margin = margin_share * (high - low) + _MARGIN_DEX
    counts = ScoreCounts(n_bands, np.linspace(low - margin, high + margin, n_bins + 1))
    for score, candidate in blocks():
        counts.add(np.where(score > 0, score, np.float32(np.nan)), candidate)
    return ScoreHistogram(counts, np.concatenate(medians))


def _log_quantiles(blocks: ScoreBlocks, fractions: Sequence[Sequence[float]]) -> list[DoubleArray]:
    """Quantiles of log10 of the scores above 0, the numbers of `numpy.quantile`: of all bands, then of each band."""
    first = [RadixCount(1) for _ in fractions]
    _count_positive(blocks, first)
    second = [
        count.refine(_ranks(count.n_objects, shares)) if count.n_objects else RadixCount(1)
        for count, shares in zip(first, fractions, strict=True)
    ]
    _count_positive(blocks, second)
    return [_quantiles(*counts) for counts in zip(first, second, fractions, strict=True)]


def _count_positive(blocks: ScoreBlocks, counts: Sequence[RadixCount]) -> None:
    """Count the finite scores above 0: those of all bands in the first of ``counts``, of each band in the others."""
    for score, _ in blocks():
        known = np.isfinite(score) & (score > 0)
        columns = [score[known], *(score[known[:, band], band] for band in range(score.shape[1]))]
        for count, values in zip(counts, columns, strict=True):
            count.add(values[:, np.newaxis])


def _ranks(n_objects: int, fractions: Sequence[float]) -> list[int]:
    """The ranks (from 0) below and above each quantile."""
    below = [math.floor((n_objects - 1) * fraction) for fraction in fractions]
    return [min(rank + more, n_objects - 1) for rank in below for more in (0, 1)]


def _quantiles(first: RadixCount, second: RadixCount, fractions: Sequence[float]) -> DoubleArray:
    n_objects = first.n_objects
    if not n_objects:
        return np.full(len(fractions), np.nan)
    pairs = np.log10(order_statistics(first, second, _ranks(n_objects, fractions))).reshape(-1, 2)
    # The quantile of two numbers is numpy's own interpolation between them.
    weights = [(n_objects - 1) * fraction % 1.0 for fraction in fractions]
    return np.array([np.quantile(pair, weight) for pair, weight in zip(pairs, weights, strict=True)])
