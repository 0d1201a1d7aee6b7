"""Thresholds that cut off an exact fraction of the sample, in memory and streamed in constant memory (section 3.2).

A stream is read twice. Its scores are counted by the halves of their bits, which gives any order statistic exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import DoubleArray, FloatArray, IntArray

N_BINS = 1 << 16
"""Bins of one pass, which looks at half of a float32's bits."""

_SIGN = 0x8000
_INFINITY = 0x7F80
_KEY_OF_ZERO = 0x8000
# Upper halves in the order of their keys: negative numbers backwards, then positive ones.
_UPPER_OF_KEY = np.concatenate([np.arange(N_BINS - 1, _SIGN - 1, -1), np.arange(_SIGN)])


def thresholds(score: npt.NDArray[np.floating[Any]], fractions: Iterable[float]) -> DoubleArray:
    """Score above which the top fraction of the sample lies, for each level and band (section 3.2).

    ``threshold = numpy.quantile(score, 1 - fraction)``: linear interpolation in float64.

    Parameters
    ----------
    score : ndarray of float32 or float64, shape (n, band)
        Equation 6's score of the objects *in the sample*, dimensionless.
    fractions : iterable of float, length level
        Top fraction of each level, within (0, 1).

    Returns
    -------
    ndarray of float64, shape (level, band)
        Always finite. Negative zero is read and given as zero.

    Raises
    ------
    SwimmyError
        When the sample is empty or holds a NaN, when a fraction is out of range, or when infinite scores reach down
        to a threshold. Infinite scores above the threshold do no harm.
    """
    tops = _check_fractions(fractions)
    if score.ndim != 2 or score.shape[1] == 0:
        raise SwimmyError(f"scores have shape {score.shape}, need (n_objects, n_bands).")
    _check_sample(score.shape[0], np.isnan(score).sum(axis=0))
    ordered = np.where(score == 0, 0.0, score.astype(np.float64))  # -0.0 and +0.0 have no order: keep one of them
    with np.errstate(invalid="ignore"):  # inf - inf is refused below, with a reason
        limit: DoubleArray = np.quantile(ordered, 1.0 - tops, axis=0)
    return _check_finite(limit + 0.0, tops)


def streamed_thresholds(
    blocks: Callable[[], Iterable[FloatArray]], n_bands: int, fractions: Iterable[float]
) -> DoubleArray:
    """`thresholds` of a sample that does not fit in memory, in two passes.

    Parameters
    ----------
    blocks : callable
        Starts a new pass each time it is called: gives the sample's scores as float32 arrays of shape (m, band), in
        any split and order.
    fractions : iterable of float, length level

    Returns
    -------
    ndarray of float64, shape (level, band)
        The same bits as `thresholds` of all blocks together. A few MB of memory are enough for any sample.

    Raises
    ------
    SwimmyError
        As `thresholds` does, and when the scores change between the two passes.
    """
    tops = _check_fractions(fractions)
    first = RadixCount(n_bands)
    for block in blocks():
        first.add(block)
    _check_sample(first.n_objects, first.n_nan)
    places = [_ranks(first.n_objects, top) for top in tops]
    ranks = [rank for below, above, _ in places for rank in (below, above)]
    second = first.refine(ranks)
    for block in blocks():
        second.add(block)
    statistics = order_statistics(first, second, ranks)
    limit = np.empty((tops.size, n_bands), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        for level, (_, _, weight) in enumerate(places):
            # The quantile of two numbers is numpy's own interpolation between them, bit for bit.
            limit[level] = np.quantile(statistics[2 * level : 2 * level + 2], np.array([weight]), axis=0)[0]
    return _check_finite(limit + 0.0, tops)


def thresholds_to_json(
    threshold: DoubleArray, bands: Sequence[str], levels: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Thresholds by level and band, as ``summary.json`` holds them: ``{"2sigma": {"g": 1.25, ...}, ...}``.

    JSON writes the shortest text that gives the same float64 back, so nothing is rounded.
    """
    names = list(levels)
    if threshold.shape != (len(names), len(bands)):
        raise SwimmyError(f"thresholds have shape {threshold.shape}, need {(len(names), len(bands))}: (level, band).")
    return {
        level: {band: float(value) for band, value in zip(bands, row, strict=True)}
        for level, row in zip(names, threshold, strict=True)
    }


def load_thresholds(summary: Mapping[str, Any], bands: Sequence[str], levels: Iterable[str]) -> DoubleArray:
    """Thresholds carried over from another run (section 3.2): read from its ``summary.json``.

    Parameters
    ----------
    summary : mapping
        The parsed file. ``summary["thresholds"][level][band]`` is a number.

    Returns
    -------
    ndarray of float64, shape (level, band)

    Raises
    ------
    SwimmyError
        When the summary has no thresholds, lacks a level or a band, or a value is not a finite number.
    """
    table = summary.get("thresholds")
    if not isinstance(table, Mapping):
        raise SwimmyError("the summary has no thresholds. Give the summary.json of a run whose select stage finished.")
    rows = []
    for level in levels:
        row = table.get(level)
        if not isinstance(row, Mapping):
            raise SwimmyError(f"the summary has no thresholds for level {level!r}, only for {_listed(table)}.")
        for band in bands:
            value = row.get(band)
            if band not in row:
                raise SwimmyError(f"the summary has no {level} threshold for band {band!r}, only for {_listed(row)}.")
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise SwimmyError(
                    f"the summary's {level} threshold for band {band!r} is {value!r}, not a finite number."
                )
        rows.append([float(row[band]) for band in bands])
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(bands))


class RadixCount:
    """Counts of scores by half of their bits; two passes give any order statistic exactly.

    A float32 maps to a uint32 key of the same order: positive numbers get their sign bit set, negative ones all bits
    flipped. The first pass counts the upper 16 bits of the keys, which shows in which upper half a wanted rank lies.
    The second pass counts the lower 16 bits, but only below these upper halves. Counts are integers, so any split of
    the sample and any order of the parts give the same result.

    Parameters
    ----------
    upper : ndarray of int64, shape (band, n_upper), optional
        Upper halves that a second pass looks below, filled up with -1. None for a first pass.

    Attributes
    ----------
    n_objects : int
        Objects added so far.
    n_nan : ndarray of int64, shape (band,)
        NaN among them; they are counted nowhere else.
    counts : ndarray of int64, shape (band, n_upper, 65536); n_upper is 1 in the first pass
    """

    def __init__(self, n_bands: int, upper: IntArray | None = None) -> None:
        if upper is not None and (upper.ndim != 2 or upper.shape[0] != n_bands):
            raise SwimmyError(
                f"upper halves have shape {upper.shape}, a count of {n_bands} bands needs ({n_bands}, n_upper)."
            )
        self.upper = None if upper is None else upper.astype(np.int64)
        self.n_objects = 0
        self.n_nan = np.zeros(n_bands, dtype=np.int64)
        self.counts = np.zeros((n_bands, 1 if upper is None else upper.shape[1], N_BINS), dtype=np.int64)

    @property
    def n_bands(self) -> int:
        return int(self.counts.shape[0])

    def add(self, score: FloatArray) -> None:
        """Count a block of scores, float32, shape (m, band); m may be 0."""
        if score.ndim != 2 or score.shape[1] != self.n_bands:
            raise SwimmyError(f"scores have shape {score.shape}, need (n_objects, {self.n_bands}).")
        if score.dtype != np.float32:
            raise SwimmyError(f"scores are {score.dtype}, the count reads float32. Give them as they were stored.")
        self.n_objects += score.shape[0]
        for band in range(self.n_bands):
            bits = np.ascontiguousarray(score[:, band]).view(np.uint32)
            if self.upper is None:
                self._add_first(band, bits)
            else:
                self._add_second(band, bits)

    def refine(self, ranks: Sequence[int]) -> RadixCount:
        """The empty second pass that finds these ranks (from 0) of this complete first pass."""
        return RadixCount(self.n_bands, self.upper_halves(ranks))

    def upper_halves(self, ranks: Sequence[int]) -> IntArray:
        """Upper halves that hold these ranks, as the second pass takes them."""
        if self.upper is not None:
            raise SwimmyError("this radix count is a second pass already. Refine a first pass.")
        wanted = np.asarray(ranks, dtype=np.int64)
        n_numbers = self.n_objects - int(self.n_nan.max())
        if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= n_numbers:
            raise SwimmyError(f"ranks {wanted.tolist()} must lie within 0 and {n_numbers - 1}, one at least.")
        found = [np.unique(_bin_of(self.counts[band, 0], wanted)) for band in range(self.n_bands)]
        upper = np.full((self.n_bands, max(item.size for item in found)), -1, dtype=np.int64)
        for band, item in enumerate(found):
            upper[band, : item.size] = item
        return upper

    def _add_first(self, band: int, bits: npt.NDArray[np.uint32]) -> None:
        # Counting raw bits and sorting the counts takes a fifth of the time of mapping every score to its key.
        found = np.bincount(np.right_shift(bits, 16, dtype=np.int64), minlength=N_BINS)
        n_nan = 0
        for infinity in (_INFINITY, _INFINITY | _SIGN):
            # Infinity shares its upper half with some NaN; the upper halves above it hold nothing but NaN.
            n_nan += int(found[infinity + 1 : (infinity | 0x7FFF) + 1].sum())
            found[infinity + 1 : (infinity | 0x7FFF) + 1] = 0
            if found[infinity]:
                n_infinite = int(np.count_nonzero(bits == np.uint32(infinity << 16)))
                n_nan += int(found[infinity]) - n_infinite
                found[infinity] = n_infinite
        if found[_SIGN]:
            n_negative_zeros = int(np.count_nonzero(bits == np.uint32(_SIGN << 16)))
            found[_SIGN] -= n_negative_zeros
            found[0] += n_negative_zeros
        self.n_nan[band] += n_nan
        self.counts[band, 0] += found[_UPPER_OF_KEY]

    def _add_second(self, band: int, bits: npt.NDArray[np.uint32]) -> None:
        high = (bits >> np.uint32(16)).astype(np.uint16)
        for slot, upper in enumerate(self.upper[band] if self.upper is not None else ()):
            if upper < 0:
                continue
            # Keys tell apart the few that share an upper half with NaN or with the other zero.
            near = high == _UPPER_OF_KEY[upper]
            if upper == _KEY_OF_ZERO:
                near |= high == _SIGN
            key = _ordered_key(bits[near].view(np.float32))
            low = key[key >> np.uint32(16) == upper] & np.uint32(0xFFFF)
            self.counts[band, slot] += np.bincount(low, minlength=N_BINS)
        self.n_nan[band] += np.count_nonzero((bits & np.uint32(0x7FFFFFFF)) > np.uint32(_INFINITY << 16))


def order_statistics(first: RadixCount, second: RadixCount, ranks: Sequence[int]) -> DoubleArray:
    """The scores at the given ranks of the ascending sample, in every band.

    Parameters
    ----------
    first : RadixCount
        First pass over the whole sample.
    second : RadixCount
        Second pass over the same sample, started by ``first.refine(ranks)``.
    ranks : sequence of int, length n_ranks
        From 0.

    Returns
    -------
    ndarray of float64, shape (n_ranks, band)
        Each is one of the sample's float32 scores; -0.0 is given as 0.0.
    """
    if second.upper is None or not np.array_equal(second.upper, first.upper_halves(ranks)):
        raise SwimmyError("the second radix count was not started for these ranks. Start it with refine().")
    wanted = np.asarray(ranks, dtype=np.int64)
    found = np.empty((wanted.size, first.n_bands), dtype=np.float64)
    for band in range(first.n_bands):
        total = first.counts[band, 0]
        _check_same_sample(first, second, second.upper[band], band)
        upper = _bin_of(total, wanted)
        before = np.cumsum(total)[upper] - total[upper]
        slot = np.searchsorted(second.upper[band][second.upper[band] >= 0], upper)
        low = [
            int(np.searchsorted(np.cumsum(second.counts[band, place]), rank, side="right"))
            for place, rank in zip(slot, wanted - before, strict=True)
        ]
        found[:, band] = _score_of_key((upper << 16 | np.array(low, dtype=np.int64)).astype(np.uint32))
    return found


def _ranks(n_objects: int, top: float) -> tuple[int, int, float]:
    """Ranks (from 0) below and above the quantile 1 - top, and the weight of the second: numpy's linear method."""
    virtual = (n_objects - 1) * (1.0 - top)
    below = math.floor(virtual)
    return below, min(below + 1, n_objects - 1), float(virtual - below)


def _check_fractions(fractions: Iterable[float]) -> DoubleArray:
    tops = np.array([float(top) for top in fractions], dtype=np.float64)
    if tops.size == 0 or not ((tops > 0) & (tops < 1)).all():
        raise SwimmyError(f"top fractions {tops.tolist()} must lie between 0 and 1, and there must be one at least.")
    return tops


def _check_sample(n_objects: int, n_nan: IntArray) -> None:
    if n_objects == 0:
        raise SwimmyError("no object is in the sample, so there is no threshold. Loosen the cuts of the sample.")
    if n_nan.any():
        raise SwimmyError(
            f"scores of the sample are NaN: {n_nan.tolist()} of {n_objects} objects, by band. "
            "Leave quarantined objects out of the sample."
        )


def _check_finite(threshold: DoubleArray, tops: DoubleArray) -> DoubleArray:
    if np.isfinite(threshold).all():
        return threshold
    level, band = (int(item[0]) for item in np.nonzero(~np.isfinite(threshold)))
    raise SwimmyError(
        f"the threshold of band {band} (from 0) for the top {tops[level]:g} of the sample is not finite: infinite "
        "scores reach down to it. Check the model, its reconstruction is zero in these objects."
    )


def _listed(table: Mapping[Any, Any]) -> str:
    return ", ".join(str(key) for key in table) or "none"


def _ordered_key(score: FloatArray) -> npt.NDArray[np.uint32]:
    """uint32 keys that sort as the scores do; NaN are left out and -0.0 counts as +0.0."""
    bits = np.ascontiguousarray(score[~np.isnan(score)]).view(np.uint32)
    bits = np.where(bits == 0x80000000, np.uint32(0), bits)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(0x80000000))


def _score_of_key(key: npt.NDArray[np.uint32]) -> FloatArray:
    """The scores whose keys these are: the inverse of ``_ordered_key``."""
    bits = np.where(key >> np.uint32(31), key & np.uint32(0x7FFFFFFF), ~key)
    return bits.view(np.float32)


def _bin_of(count: IntArray, ranks: IntArray) -> IntArray:
    """Bin in which each rank falls."""
    return np.searchsorted(np.cumsum(count), ranks, side="right").astype(np.int64)


def _check_same_sample(first: RadixCount, second: RadixCount, uppers: IntArray, band: int) -> None:
    """Compare what both passes counted: ranks mean nothing where the scores changed between them."""
    expected = [first.counts[band, 0, upper] if upper >= 0 else 0 for upper in uppers]
    if first.n_objects != second.n_objects or second.counts[band].sum(axis=1).tolist() != expected:
        raise SwimmyError(
            f"the scores of band {band} (from 0) changed between the two passes: {first.n_objects} objects, then "
            f"{second.n_objects}. Let nothing write the scores meanwhile, and start again."
        )
