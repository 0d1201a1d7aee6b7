"""What a user gives, as plain arrays: what is no number, has another unit or is masked is never taken for a number."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Settings, parse_job
from swimmy_scale.method.survey import AnyArray, Survey

COUNTS = "counts"
_OF_COUNTS = ("", "ct", "count", "adu")


def numbers(given: Any, name: str, dtype: npt.DTypeLike | None = None, unit: str | None = None) -> AnyArray:
    """Numbers that somebody gave, as an array.

    Parameters
    ----------
    given : array or list
        With a unit of its own, as those of astropy, it is converted.
    name : str
        What messages call it.
    dtype : dtype, optional
        By default float64, or as it is where it has floats.
    unit : str, optional
        In which it is returned; `COUNTS` are never converted.

    Returns
    -------
    ndarray
        NaN where a masked array is masked.

    Raises
    ------
    SwimmyError
        When it holds something else than real numbers, or its unit is of another kind.
    """
    given = given.values if isinstance(given, xarray.DataArray) else given
    try:
        values = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise SwimmyError(f"{name}: no array of numbers ({' '.join(str(error).split())}). Give one.") from error
    check_dtype(values.dtype, name)
    wanted = np.dtype(dtype or (values.dtype.newbyteorder("=") if values.dtype.kind == "f" else np.float64))
    with np.errstate(over="ignore"):  # becomes infinite, which is no usable value
        values = values.astype(wanted, copy=False)
    own = getattr(given, "unit", None)
    if unit is not None and hasattr(own, "to") and str(own) not in (_OF_COUNTS if unit == COUNTS else (unit,)):
        values = _converted(values, own, unit, name).astype(wanted, copy=False)
    mask = masked(given)
    return values if mask is None else np.where(mask, np.asarray(np.nan, wanted), values)


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Refuse what is not of real numbers."""
    if dtype.kind not in "iuf":
        raise SwimmyError(f"{name}: of type {dtype}, need real numbers. Convert them, with NaN for what is unknown.")


def masked(given: Any) -> AnyArray | None:
    """The mask of a masked array if it hides something."""
    mask = getattr(given, "mask", None)  # a method of what is of pandas
    return mask if isinstance(mask, np.ndarray) and mask.any() else None


def filled(given: Any, name: str) -> AnyArray:
    """A column of any type, with NaN or an empty text where it is masked; other types have no such value."""
    values, mask = np.asarray(given), masked(given)
    if mask is None:
        return values
    if values.dtype.kind not in "fUST":
        raise SwimmyError(
            f"column {name!r} is masked in {np.count_nonzero(mask):,} of {values.size:,} rows, and {values.dtype} has "
            "no value for what is unknown. Fill them, or make it a column of floats."
        )
    return np.where(mask, np.asarray(np.nan if values.dtype.kind == "f" else "").astype(values.dtype), values)


def named_survey(survey: Survey | str) -> Survey:
    """A survey, which may be given by its name (see `method.named_surveys`)."""
    if isinstance(survey, Survey):
        return survey
    return parse_job(json.dumps({"survey": survey}), Path("the argument survey"), Settings).survey


def check_axes(cutouts: xarray.DataArray) -> None:
    """Refuse axes that have our names and another order."""
    names = ("band", "y", "x")
    if set(names) <= set(cutouts.dims) and cutouts.dims[-3:] != names:
        raise SwimmyError(
            f"the cutouts have the axes {', '.join(map(str, cutouts.dims))}, need band, y, x as the last ones. Give "
            'image.transpose(..., "band", "y", "x").'
        )


def check_bands(labelled: xarray.DataArray, axes: Iterable[Hashable], survey: Survey, name: str) -> None:
    """Refuse what says by its coordinate that its bands are others than the survey's, or in another order."""
    for axis in axes:
        labels = labelled.coords[axis].values.tolist() if axis in labelled.coords else []
        if any(isinstance(label, str) for label in labels) and tuple(labels) != survey.bands:
            raise SwimmyError(
                f"{name}: the bands are {', '.join(map(str, labels))} by the coordinate {axis}, survey {survey.name!r} "
                f"needs {', '.join(survey.bands)}, in this order. Choose them by .sel({axis}={list(survey.bands)}), or "
                "give another survey."
            )


def _converted(values: AnyArray, own: Any, unit: str, name: str) -> AnyArray:
    if unit == COUNTS:
        raise SwimmyError(
            f"{name}: in the unit {own}, need counts of the survey's zero point. Convert them, and give numbers "
            "without a unit."
        )
    try:
        return np.asarray(own.to(unit, values))
    except (TypeError, ValueError) as error:
        raise SwimmyError(
            f"{name}: in the unit {own}, need {unit} ({' '.join(str(error).split())}). Convert it, and give numbers "
            "without a unit."
        ) from error
