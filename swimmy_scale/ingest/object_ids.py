"""Ids of objects as tables have them, without losing a digit."""

from __future__ import annotations

from typing import Any

import numpy as np

from swimmy_scale.method.object_names import WHOLE_NUMBER, is_number, object_number
from swimmy_scale.method.survey import AnyArray, IntArray

# What tables write in place of an unknown value.
NULL_WORDS = ("", "NULL", "null", "NaN", "nan", "NAN", "None", "none", "NA", "N/A", "\\N", "--")


def object_ids(column: np.ma.MaskedArray[Any, Any]) -> tuple[IntArray, AnyArray | None, dict[int, str]]:
    """Read object ids without losing a digit.

    Integers, and text that spells one, are exact. Floats, and text that spells one, are exact only below 2^53
    (float32: 2^24): beyond, neighbouring ids have become one. Any other text is a name, and so is a whole number beyond
    64 signed bits (see `method.object_names`).

    Returns
    -------
    object_id : ndarray of int64, shape (n,)
        -1 where the id is lost.
    names : ndarray of str, shape (n,), or None
        The ids that are names, empty for all others; None where there is none.
    lost : dict of int to str
        Rows whose id cannot be trusted, and why.
    """
    values, unknown = np.ma.getdata(column), np.ma.getmaskarray(column)
    names: dict[int, str] = {}
    if values.dtype.kind in "iu":
        too_large = values > np.iinfo(np.int64).max if values.dtype.kind == "u" else np.zeros(len(values), bool)
        ids = np.where(unknown | too_large, 0, values).astype(np.int64)
        names = {row: str(values[row]) for row in np.flatnonzero(too_large & ~unknown).tolist()}
        lost: dict[int, str] = {}
    elif values.dtype.kind == "f":
        limit = 2.0 ** (np.finfo(values.dtype).nmant + 1)
        exact = np.isfinite(values) & (np.trunc(values) == values) & (np.abs(values) < limit)
        ids = np.where(exact, values, 0).astype(np.int64)
        lost = {row: _lost_float(float(values[row]), values.dtype) for row in np.flatnonzero(~exact).tolist()}
    else:
        parsed = [_parse_id(text) for text in values.tolist()]
        ids = np.array([number for number, _, _ in parsed], dtype=np.int64)
        names = {row: name for row, (_, name, _) in enumerate(parsed) if name and not unknown[row]}
        lost = {row: reason for row, (_, _, reason) in enumerate(parsed) if reason}
    lost |= dict.fromkeys(np.flatnonzero(unknown).tolist(), "object_id is unknown")
    ids[list(names)] = [object_number(name) for name in names.values()]
    ids[list(lost)] = -1
    if not names:
        return ids, None, lost
    return ids, np.array([names.get(row, "") for row in range(len(ids))], dtype=str), lost


def _parse_id(value: Any) -> tuple[int, str, str]:
    """The id that a text spells, or -1 and the name that it is, or -1 and the reason why it is neither."""
    text = str(value).strip()
    if is_number(text):
        return int(text), "", ""
    if text in NULL_WORDS:
        return -1, "", "object_id is unknown"
    number = None if WHOLE_NUMBER.fullmatch(text) else _float(text)
    if number is None:
        return -1, text, ""
    if number.is_integer() and abs(number) < 2**53:
        return int(number), "", ""
    return -1, "", _lost_float(number, np.dtype(np.float64))


def _float(text: str) -> float | None:
    """The number that a text spells; "1_000", as Python writes it, is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _lost_float(value: float, kind: np.dtype[Any]) -> str:
    """Why a float cannot be an id."""
    if np.isnan(value):
        return "object_id is unknown"
    if not value.is_integer():
        return f"object_id {value!r} is not an integer"
    bits = np.finfo(kind).nmant + 1
    return f"object_id came as the float {value!r}, which is exact only below 2**{bits}"
