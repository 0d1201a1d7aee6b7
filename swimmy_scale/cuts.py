"""Exact thresholds over the whole sample, in memory and streamed; candidate flags and their counts (section 3.2)."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.radix import DoubleArray, RadixCount, order_statistics
from swimmy_scale.survey import BoolArray, FloatArray

LEVELS: Mapping[str, float] = MappingProxyType({"2sigma": 0.05, "3sigma": 0.003, "3.5sigma": 0.000465})
"""Top fraction of the sample at each level, by its name (section 3.2; 3.5 sigma is the extension's).

The fraction is what is applied; the sigma is its name. Levels go from low to high significance.
"""

WHOLE_SAMPLE = "sample"
ANY_BAND = "any"


class SelectionCount(TypedDict):
    """One cell of table 2: ``n_selected`` of ``n_objects``; ``percent`` is None for an empty group."""

    n_selected: int
    n_objects: int
    percent: float | None


# ---------------------------------------------------------------- thresholds


def level_suffix(level: str) -> str:
    """A level's name as a part of column names: ``3.5sigma`` becomes ``3p5sigma``."""
    return re.sub(r"\W", "_", level.replace(".", "p"))


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
        When the sample is empty, holds a NaN, a fraction is out of range, or a threshold is not finite
        because infinite scores reach down to it. Infinite scores above the threshold do no harm.
    """
    tops = _check_fractions(fractions)
    if score.ndim != 2 or score.shape[1] == 0:
        raise SwimmyError(f"scores have shape {score.shape}, need (n_objects, n_bands).")
    _check_sample(score.shape[0], np.isnan(score).sum(axis=0))
    ordered = np.where(score == 0, 0.0, score.astype(np.float64))  # -0.0 and +0.0 have no order: one of them only
    with np.errstate(invalid="ignore"):  # inf - inf is refused below, with a reason
        limit: DoubleArray = np.quantile(ordered, 1.0 - tops, axis=0)
    return _check_finite(limit + 0.0, tops)


def refine(first: RadixCount, fractions: Iterable[float]) -> RadixCount:
    """The empty second pass that these thresholds need, from the complete first pass over the sample.

    Raises
    ------
    SwimmyError
        As ``thresholds`` does, for an empty sample, a NaN or a fraction out of range.
    """
    tops = _check_fractions(fractions)
    _check_sample(first.n_objects, first.n_nan)
    return first.refine([rank for top in tops for rank in _ranks(first.n_objects, top)[:2]])


def thresholds_from_counts(first: RadixCount, second: RadixCount, fractions: Iterable[float]) -> DoubleArray:
    """Thresholds from both complete passes: the numbers of ``thresholds``, to the last bit.

    Parameters
    ----------
    first : RadixCount
        First pass over the whole sample.
    second : RadixCount
        Second pass over the same sample, started by ``refine(first, fractions)``.
    fractions : iterable of float, length level

    Returns
    -------
    ndarray of float64, shape (level, band)

    Raises
    ------
    SwimmyError
        As ``thresholds`` does, and when the second pass did not see the sample of the first.
    """
    tops = _check_fractions(fractions)
    _check_sample(first.n_objects, first.n_nan)
    places = [_ranks(first.n_objects, top) for top in tops]
    statistics = order_statistics(first, second, [rank for place in places for rank in place[:2]])
    limit = np.empty((tops.size, first.n_bands), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        for level, (_, _, weight) in enumerate(places):
            # The quantile of two numbers is numpy's own interpolation between them, bit for bit.
            limit[level] = np.quantile(statistics[2 * level : 2 * level + 2], np.array([weight]), axis=0)[0]
    return _check_finite(limit + 0.0, tops)


def streamed_thresholds(
    blocks: Callable[[], Iterable[FloatArray]], n_bands: int, fractions: Iterable[float]
) -> DoubleArray:
    """``thresholds`` of a sample that does not fit in memory, in two passes.

    Parameters
    ----------
    blocks : callable
        Starts a new pass each time it is called: gives the sample's scores as float32 arrays of shape
        (m, band), in any split and order.
    n_bands : int
    fractions : iterable of float, length level

    Returns
    -------
    ndarray of float64, shape (level, band)
        The same bits as ``thresholds`` of all blocks together. The memory is a few MB for any sample.

    Raises
    ------
    SwimmyError
        As ``thresholds`` does, for blocks that are not float32 (m, band), and when the two passes differ.
    """
    tops = _check_fractions(fractions)
    first = RadixCount(n_bands)
    for block in blocks():
        first.add(block)
    second = refine(first, tops)
    for block in blocks():
        second.add(block)
    return thresholds_from_counts(first, second, tops)


# ---------------------------------------------------------------- candidates


def candidates(
    score: FloatArray,
    residual: FloatArray,
    threshold: DoubleArray,
    in_sample: BoolArray,
    selecting_band_indices: Sequence[int],
) -> BoolArray:
    """Candidate flags: score strictly above the threshold, residual positive, object in the sample (section 3.2).

    Parameters
    ----------
    score, residual : ndarray of float32, shape (n, band)
        Equation 6 and the sum of source - reconstruction over the aperture. NaN is never a candidate.
    threshold : ndarray of float64, shape (level, band)
    in_sample : ndarray of bool, shape (n,)
    selecting_band_indices : sequence of int
        Bands that may select; all others stay False.

    Returns
    -------
    ndarray of bool, shape (n, level, band)

    Raises
    ------
    SwimmyError
        When the shapes do not fit together.
    """
    _check_scored(score, residual, threshold, in_sample)
    flags = np.zeros((score.shape[0], threshold.shape[0], score.shape[1]), dtype=np.bool_)
    exact = score.astype(np.float64)  # a float32 comparison would round the threshold and move the cut
    for band in selecting_band_indices:
        eligible = in_sample & (residual[:, band] > 0)
        for level in range(threshold.shape[0]):
            flags[:, level, band] = eligible & (exact[:, band] > threshold[level, band])
    return flags


def high_but_negative(
    score: FloatArray, residual: FloatArray, threshold: DoubleArray, in_sample: BoolArray
) -> npt.NDArray[np.int64]:
    """Objects of the sample above the threshold that the residual's sign keeps out (section 3.2).

    Returns
    -------
    ndarray of int64, shape (level, band)
        Number of objects with score > threshold and residual <= 0. A NaN counts nowhere.

    Raises
    ------
    SwimmyError
        When the shapes do not fit together.
    """
    _check_scored(score, residual, threshold, in_sample)
    count = np.zeros(threshold.shape, dtype=np.int64)
    exact = score.astype(np.float64)
    for level, band in np.ndindex(threshold.shape):
        high = exact[:, band] > threshold[level, band]
        count[level, band] = np.count_nonzero(in_sample & high & (residual[:, band] <= 0))
    return count


def selection_counts(
    candidate: BoolArray,
    bands: Sequence[str],
    groups: Mapping[str, BoolArray] | None = None,
    in_sample: BoolArray | None = None,
) -> dict[str, dict[str, SelectionCount]]:
    """Table 2's rows for one level: who is selected in each band and each combination of bands.

    Parameters
    ----------
    candidate : ndarray of bool, shape (n, band)
        Flags of one level, one column for each of ``bands``.
    bands : sequence of str
        The selecting bands.
    groups : mapping of str to ndarray of bool, shape (n,), optional
        Members of the known classes, for example ``quasar`` and ``xelg``.
    in_sample : ndarray of bool, shape (n,), optional
        Objects that count; all of them when not given.

    Returns
    -------
    dict of dict of SelectionCount
        By row ("g", "r", "i", "g&r", "r&i", "g&i", "g&r&i", "any") and then by group ("sample" is the
        whole sample). A row counts the objects selected in *at least* the bands it names.

    Raises
    ------
    SwimmyError
        When the shapes do not fit together or a group is named "sample".
    """
    n_objects = candidate.shape[0]
    if candidate.ndim != 2 or candidate.shape[1] != len(bands) or not bands:
        raise SwimmyError(f"candidate flags have shape {candidate.shape}, bands {tuple(bands)} need (n, {len(bands)}).")
    counted = np.ones(n_objects, dtype=np.bool_) if in_sample is None else in_sample
    members = {WHOLE_SAMPLE: counted}
    for name, mask in (groups or {}).items():
        if name == WHOLE_SAMPLE or mask.shape != (n_objects,):
            raise SwimmyError(
                f"group {name!r} has shape {mask.shape}: it needs ({n_objects},), and none is named {WHOLE_SAMPLE!r}."
            )
        members[name] = mask & counted
    rows = {}
    for columns in _combinations(len(bands)):
        rows["&".join(bands[column] for column in columns)] = candidate[:, columns].all(axis=1)
    rows[ANY_BAND] = candidate.any(axis=1)
    return {row: {name: _count(flag, mask) for name, mask in members.items()} for row, flag in rows.items()}


def band_label(flags: BoolArray, bands: Sequence[str]) -> npt.NDArray[np.str_]:
    """Names of the bands that select each object, as tables 3 and 6 write them: "g", "g&r&i".

    Parameters
    ----------
    flags : ndarray of bool, shape (n, band)
    bands : sequence of str, one for each column of ``flags``

    Returns
    -------
    ndarray of str, shape (n,)
        Bands joined with "&" in the order of ``bands``; empty where no band selects.

    Raises
    ------
    SwimmyError
        When ``flags`` does not have one column for each band.
    """
    if flags.ndim != 2 or flags.shape[1] != len(bands):
        raise SwimmyError(f"band flags have shape {flags.shape}, bands {tuple(bands)} need (n, {len(bands)}).")
    label = np.zeros(flags.shape[0], dtype=f"<U{max(1, len('&'.join(bands)))}")
    code = flags @ (1 << np.arange(len(bands)))
    for value in np.unique(code):
        label[code == value] = "&".join(band for bit, band in enumerate(bands) if value >> bit & 1)
    return label


# ---------------------------------------------------------------- thresholds of another run


def thresholds_to_json(
    threshold: DoubleArray, bands: Sequence[str], levels: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Thresholds by level and band, as ``summary.json`` holds them: ``{"2sigma": {"g": 1.25, ...}, ...}``.

    JSON writes the shortest text that gives the same float64 back, so nothing is rounded.

    Raises
    ------
    SwimmyError
        When ``threshold`` does not have the shape (level, band).
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
    bands : sequence of str
    levels : iterable of str

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


# ---------------------------------------------------------------- the parts


def _ranks(n_objects: int, top: float) -> tuple[int, int, float]:
    """Ranks (from 0) below and above the quantile 1 - top, and the weight of the second: numpy's linear method."""
    virtual = (n_objects - 1) * (1.0 - top)
    below = math.floor(virtual)
    return below, min(below + 1, n_objects - 1), float(virtual - below)


def _combinations(n_bands: int) -> list[list[int]]:
    """Single bands, pairs, triples ...; neighbours first, as table 2 lists them: g&r, r&i, g&i."""
    found = [list(item) for size in range(1, n_bands + 1) for item in itertools.combinations(range(n_bands), size)]
    return sorted(found, key=lambda item: (len(item), item[-1] - item[0], item))


def _count(selected: BoolArray, mask: BoolArray) -> SelectionCount:
    n_selected, n_objects = int(np.count_nonzero(selected & mask)), int(np.count_nonzero(mask))
    percent = 100.0 * n_selected / n_objects if n_objects else None
    return {"n_selected": n_selected, "n_objects": n_objects, "percent": percent}


def _listed(table: Mapping[Any, Any]) -> str:
    return ", ".join(str(key) for key in table) or "none"


def _check_fractions(fractions: Iterable[float]) -> DoubleArray:
    tops = np.array([float(top) for top in fractions], dtype=np.float64)
    if tops.size == 0 or not ((tops > 0) & (tops < 1)).all():
        raise SwimmyError(f"top fractions {tops.tolist()} must lie between 0 and 1, and there must be one at least.")
    return tops


def _check_sample(n_objects: int, n_nan: npt.NDArray[np.int64]) -> None:
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


def _check_scored(score: FloatArray, residual: FloatArray, threshold: DoubleArray, in_sample: BoolArray) -> None:
    fits = score.ndim == 2 and score.shape == residual.shape and in_sample.shape == score.shape[:1]
    if not fits or threshold.ndim != 2 or threshold.shape[1] != score.shape[1]:
        raise SwimmyError(
            f"score {score.shape}, residual {residual.shape}, threshold {threshold.shape} and in_sample "
            f"{in_sample.shape} do not fit: need (n, band), (n, band), (level, band) and (n,)."
        )
