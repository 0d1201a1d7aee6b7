"""Levels, candidate flags, their counts by band and class, and the columns of the candidate catalogue (section 3.2)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray

LEVELS: Mapping[str, float] = MappingProxyType({"2sigma": 0.05, "3sigma": 0.003, "3.5sigma": 0.000465})
"""Top fraction of the sample at each level, from low to high significance (section 3.2; 3.5 sigma is the extension's).

The fraction is what is applied; the sigma is only its name.
"""

WHOLE_SAMPLE = "sample"
ANY_BAND = "any"

Columns = dict[str, AnyArray]


class SelectionCount(TypedDict):
    """One cell of table 2: ``n_selected`` of ``n_objects``; ``percent`` is None for an empty group."""

    n_selected: int
    n_objects: int
    percent: float | None


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
    """
    _check_scored(score, residual, threshold, in_sample)
    flags = np.zeros((score.shape[0], threshold.shape[0], score.shape[1]), dtype=np.bool_)
    exact = score.astype(np.float64)  # comparing in float32 would round the threshold and move the cut
    for band in selecting_band_indices:
        eligible = in_sample & (residual[:, band] > 0)
        for level in range(threshold.shape[0]):
            flags[:, level, band] = eligible & (exact[:, band] > threshold[level, band])
    return flags


def high_but_negative(
    score: FloatArray, residual: FloatArray, threshold: DoubleArray, in_sample: BoolArray
) -> BoolArray:
    """Objects of the sample above a threshold that the residual's sign keeps out (section 3.2, appendix 2).

    Returns
    -------
    ndarray of bool, shape (n, level, band)
        Where score > threshold and residual <= 0. A NaN is nowhere.
    """
    _check_scored(score, residual, threshold, in_sample)
    eligible = in_sample[:, None] & (residual <= 0)
    flags: BoolArray = eligible[:, None, :] & (score.astype(np.float64)[:, None, :] > threshold)
    return flags


def selection_counts(
    candidate: BoolArray,
    bands: Sequence[str],
    groups: Mapping[str, BoolArray] | None = None,
    in_sample: BoolArray | None = None,
) -> dict[str, dict[str, SelectionCount]]:
    """Table 2's rows for one level: how many are selected in each band and each combination of bands.

    Parameters
    ----------
    candidate : ndarray of bool, shape (n, band)
        Flags of one level, one column for each of ``bands``.
    bands : sequence of str
        The selecting bands.
    groups : mapping of str to ndarray of bool, shape (n,), optional
        Members of the known classes, for example ``quasar`` and ``xelg``.
    in_sample : ndarray of bool, shape (n,), optional
        Objects that count; by default all.

    Returns
    -------
    dict of dict of SelectionCount
        By row ("g", "r", "i", "g&r", "r&i", "g&i", "g&r&i", "any"), then by group ("sample" is the whole sample).
        A row counts the objects selected in *at least* the bands it names.
    """
    n_objects = candidate.shape[0]
    if candidate.ndim != 2 or candidate.shape[1] != len(bands) or not bands:
        raise SwimmyError(f"candidate flags have shape {candidate.shape}, bands {tuple(bands)} need (n, {len(bands)}).")
    counted = np.ones(n_objects, dtype=np.bool_) if in_sample is None else in_sample
    members = {WHOLE_SAMPLE: counted}
    for name, mask in (groups or {}).items():
        if name == WHOLE_SAMPLE or mask.shape != (n_objects,):
            raise SwimmyError(
                f"group {name!r} has shape {mask.shape}: "
                f"give it shape ({n_objects},) and a name other than {WHOLE_SAMPLE!r}."
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
    """
    if flags.ndim != 2 or flags.shape[1] != len(bands):
        raise SwimmyError(f"band flags have shape {flags.shape}, bands {tuple(bands)} need (n, {len(bands)}).")
    label = np.zeros(flags.shape[0], dtype=f"<U{max(1, len('&'.join(bands)))}")
    code = flags @ (1 << np.arange(len(bands)))
    for value in np.unique(code):
        label[code == value] = "&".join(band for bit, band in enumerate(bands) if value >> bit & 1)
    return label


def candidate_columns(
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    score: FloatArray,
    residual: FloatArray,
    candidate: BoolArray,
    levels: Sequence[str],
    bands: Sequence[str],
    selecting: Sequence[str],
    kept: Mapping[str, AnyArray] | None = None,
) -> Columns:
    """The candidate catalogue (tables 3 and 6): one row for each object that is a candidate at any level.

    Parameters
    ----------
    object_id : ndarray of int64, shape (n,)
    ra, dec : ndarray of float64, shape (n,), degrees
    score, residual : ndarray of float32, shape (n, band)
    candidate : ndarray of bool, shape (n, level, band)
    levels : sequence of str
        From low to high significance.
    bands, selecting : sequence of str
        Names along the band axis, and those that may select; only these have columns.
    kept : mapping of str to ndarray of shape (n,), optional
        Columns of the input catalogue to carry over.

    Returns
    -------
    dict of str to ndarray, shape (n_candidates,), sorted by object_id
        ``object_id``, ``ra``, ``dec``, ``level`` (the most significant one reached), ``bands`` ("g&r", at the first
        level), ``bands_3sigma``, ``bands_3p5sigma`` ... (at the other levels, empty when none), ``score_g`` ...,
        ``residual_g`` ... for each selecting band, and the kept columns.

    Raises
    ------
    SwimmyError
        When an object_id occurs twice, or a kept column has the name of one of ours.
    """
    _check_candidate_shapes(object_id, score, residual, candidate, levels, bands)
    index = [bands.index(band) for band in selecting]
    rows = np.flatnonzero(candidate[:, :, index].any(axis=(1, 2)))
    rows = rows[np.argsort(object_id[rows], kind="stable")]
    _check_distinct(object_id[rows])
    flags = candidate[rows][:, :, index]
    level = np.zeros(rows.size, dtype=f"<U{max(len(name) for name in levels)}")
    for position, name in enumerate(levels):
        level[flags[:, position].any(axis=1)] = name
    columns: Columns = {"object_id": object_id[rows], "ra": ra[rows], "dec": dec[rows], "level": level}
    for position, name in enumerate(levels):
        column = "bands" if position == 0 else f"bands_{level_suffix(name)}"
        columns[column] = band_label(flags[:, position], selecting)
    for prefix, values in (("score", score), ("residual", residual)):
        columns.update({f"{prefix}_{band}": values[rows, at] for band, at in zip(selecting, index, strict=True)})
    for name, values in (kept or {}).items():
        if name in columns:
            raise SwimmyError(f"kept column {name!r} has the name of a column of the candidate catalogue. Rename it.")
        if values.shape[:1] != object_id.shape:
            raise SwimmyError(f"kept column {name!r} has shape {values.shape}, needs {object_id.shape}.")
        columns[name] = values[rows]
    return columns


def level_suffix(level: str) -> str:
    """A level's name as a part of column names: ``3.5sigma`` becomes ``3p5sigma``."""
    return re.sub(r"\W", "_", level.replace(".", "p"))


def _check_scored(score: FloatArray, residual: FloatArray, threshold: DoubleArray, in_sample: BoolArray) -> None:
    fits = score.ndim == 2 and score.shape == residual.shape and in_sample.shape == score.shape[:1]
    if not fits or threshold.ndim != 2 or threshold.shape[1] != score.shape[1]:
        raise SwimmyError(
            f"score {score.shape}, residual {residual.shape}, threshold {threshold.shape} and in_sample "
            f"{in_sample.shape} do not fit: need (n, band), (n, band), (level, band) and (n,)."
        )


def _combinations(n_bands: int) -> list[list[int]]:
    """Single bands, pairs, triples ...; neighbours first, as table 2 lists them: g&r, r&i, g&i."""
    found = [list(item) for size in range(1, n_bands + 1) for item in itertools.combinations(range(n_bands), size)]
    return sorted(found, key=lambda item: (len(item), item[-1] - item[0], item))


def _count(selected: BoolArray, mask: BoolArray) -> SelectionCount:
    n_selected, n_objects = int(np.count_nonzero(selected & mask)), int(np.count_nonzero(mask))
    percent = 100.0 * n_selected / n_objects if n_objects else None
    return {"n_selected": n_selected, "n_objects": n_objects, "percent": percent}


def _check_candidate_shapes(
    object_id: IntArray,
    score: FloatArray,
    residual: FloatArray,
    candidate: BoolArray,
    levels: Sequence[str],
    bands: Sequence[str],
) -> None:
    n_objects, n_bands = object_id.size, len(bands)
    fits_scores = score.shape == residual.shape == (n_objects, n_bands)
    if not fits_scores or candidate.shape != (n_objects, len(levels), n_bands) or not levels:
        raise SwimmyError(
            f"score {score.shape}, residual {residual.shape} and candidate {candidate.shape} do not fit {n_objects} "
            f"objects, levels {tuple(levels)} and bands {tuple(bands)}."
        )


def _check_distinct(object_id: IntArray) -> None:
    twice = object_id[1:][object_id[1:] == object_id[:-1]]
    if twice.size:
        raise SwimmyError(f"object_id {twice[0]} is a candidate twice. Object ids must be distinct: ingest again.")
