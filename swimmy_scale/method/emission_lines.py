"""Emission lines: which galaxies are extreme (section 2.2), and how much lines add to a band (section 4.1)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import BoolArray, DoubleArray

LINES = {
    "oii_3726": 3726.03,
    "oii_3729": 3728.82,
    "neiii_3869": 3868.76,
    "h_beta": 4861.33,
    "oiii_4959": 4958.91,
    "oiii_5007": 5006.84,
    "nii_6548": 6548.05,
    "h_alpha": 6562.80,
    "nii_6584": 6583.45,
    "sii_6717": 6716.44,
    "sii_6731": 6730.82,
}
"""Lines of section 4.1 under their names in the MPA-JHU tables, and their wavelengths at rest in air, Angstrom.

The filters were measured in air. A wavelength in air times 1 + z is the observed one in air, to 0.1 Angstrom.
"""

GROUPS = {
    "oii": ("oii_3726", "oii_3729"),
    "neiii": ("neiii_3869",),
    "hb_oiii": ("h_beta", "oiii_4959", "oiii_5007"),
    "ha_nii": ("nii_6548", "h_alpha", "nii_6584"),
    "sii": ("sii_6717", "sii_6731"),
}
"""Lines whose widths add up."""

XELG_GROUPS = ("oii", "hb_oiii", "ha_nii")
XELG_WIDTH_ANGSTROM = 100.0

# The coadds mix the first r and i filters with the second ones, in use since 2016.
FILTERS = {"g": "hsc2017-g", "r": "hsc2017-r2", "i": "hsc2017-i2", "z": "hsc2017-z", "y": "hsc2017-y"}
"""HSC's filters, by band, under their names in `speclite`."""

# Widths beyond these are failed fits: no line is stronger, and there is no such absorption under a forbidden line.
MAX_EMISSION_ANGSTROM, MAX_ABSORPTION_ANGSTROM = 5000.0, 50.0
# A band does not see a line where its throughput is below this share of its peak.
SEEN_THROUGHPUT = 0.01


def observed_widths(
    eqw: npt.NDArray[np.floating[Any]], eqw_err: npt.NDArray[np.floating[Any]], factor: npt.ArrayLike = 1.0
) -> DoubleArray:
    """Observed equivalent widths, from those of a catalogue in which emission is negative.

    Parameters
    ----------
    eqw, eqw_err : ndarray of float, any shape, Angstrom
        Width and its error.
    factor : array_like
        1 + z where the widths of the catalogue are at rest.

    Returns
    -------
    ndarray of float64, shape of ``eqw``, Angstrom
        Positive for emission. NaN where the width is unknown: not finite, with an error that is not positive, or
        outside the range of galaxies (-50 to 5000 Angstrom), as failed fits of blended broad lines are.
    """
    width, fitted = _fitted_widths(eqw, eqw_err, factor)
    # Adding 0 turns the -0 of a width of 0 into 0.
    return np.where(fitted & _possible(width), width, np.nan) + 0.0


def failed_fits(
    eqw: npt.NDArray[np.floating[Any]], eqw_err: npt.NDArray[np.floating[Any]], factor: npt.ArrayLike = 1.0
) -> BoolArray:
    """Where a fit gave a width that no line has, outside of -50 to 5000 Angstrom; bool, shape of ``eqw``.

    The parameters are those of `observed_widths`. Such a fit takes from one line of a blend what it gives to another,
    so that the widths of the others say nothing either.
    """
    width, fitted = _fitted_widths(eqw, eqw_err, factor)
    return np.asarray(fitted & ~_possible(width))


def _fitted_widths(
    eqw: npt.NDArray[np.floating[Any]], eqw_err: npt.NDArray[np.floating[Any]], factor: npt.ArrayLike
) -> tuple[DoubleArray, BoolArray]:
    """Observed widths, emission positive, and whether a fit gave them."""
    width = -np.asarray(eqw, np.float64) * np.asarray(factor, np.float64)
    error = np.asarray(eqw_err, np.float64)
    return width, np.asarray(np.isfinite(width) & np.isfinite(error) & (error > 0))


def _possible(width: DoubleArray) -> BoolArray:
    return np.asarray((width <= MAX_EMISSION_ANGSTROM) & (width >= -MAX_ABSORPTION_ANGSTROM))


def group_width(widths: Mapping[str, DoubleArray], group: str) -> DoubleArray:
    """Width of a group of lines: their sum; NaN where one of them is unknown.

    Parameters
    ----------
    widths : mapping of str to ndarray of float64, shape (n,), Angstrom
        For each of ``LINES``, as `observed_widths` gives them.
    group : str
        One of ``GROUPS``.
    """
    return np.sum([widths[line] for line in GROUPS[group]], axis=0, dtype=np.float64)


def is_xelg(widths: Mapping[str, DoubleArray], failed: Mapping[str, BoolArray]) -> tuple[BoolArray, BoolArray]:
    """Extreme emission-line galaxies: the observed width of any of three groups exceeds 100 Angstrom (section 2.2).

    A line that is unknown may have any width from -50 to 5000 Angstrom. So a group exceeds 100 Angstrom for certain
    where the others make up for the least of its unknown ones, and it is certain not to only where all are known. A
    group with a failed fit may have any width.

    Parameters
    ----------
    widths : mapping of str to ndarray of float64, shape (n,), Angstrom
        For each line of ``XELG_GROUPS``, as `observed_widths` gives them.
    failed : mapping of str to ndarray of bool, shape (n,)
        Likewise, as `failed_fits` gives them.

    Returns
    -------
    holds, is_known : ndarray of bool, shape (n,)
        Which are extreme for certain, and for which it is certain whether they are.
    """
    holds = may_hold = np.zeros(len(next(iter(widths.values()))), np.bool_)
    for group in XELG_GROUPS:
        lines = {name: widths[name] for name in GROUPS[group]}
        least = {name: np.where(np.isnan(width), -MAX_ABSORPTION_ANGSTROM, width) for name, width in lines.items()}
        most = {name: np.where(np.isnan(width), MAX_EMISSION_ANGSTROM, width) for name, width in lines.items()}
        lost = np.any([failed[name] for name in lines], axis=0)
        holds = holds | (group_width(least, group) > XELG_WIDTH_ANGSTROM) & ~lost
        may_hold = may_hold | (group_width(most, group) > XELG_WIDTH_ANGSTROM) | lost
    return holds, holds | ~may_hold


def throughput(band: str, wavelength: npt.ArrayLike) -> DoubleArray:
    """Throughput of one of HSC's filters relative to its peak, including atmosphere, optics and detector.

    Parameters
    ----------
    band : str
        One of ``FILTERS``.
    wavelength : array_like, Angstrom, in air

    Returns
    -------
    ndarray of float64, shape of ``wavelength``
        0 outside the filter's curve.
    """
    known, curve = _curve(band)
    return np.asarray(np.interp(np.asarray(wavelength, np.float64), known, curve, left=0.0, right=0.0))


def band_widths(
    widths: Mapping[str, DoubleArray], redshift: DoubleArray, bands: Sequence[str]
) -> dict[str, DoubleArray]:
    """EW_band (section 4.1): the observed widths of all lines, each weighted by the filter's throughput.

    EW_band = sum over lines of EW_line T_band(lambda_line (1 + z)) / max(T_band)

    Parameters
    ----------
    widths : mapping of str to ndarray of float64, shape (n,), Angstrom
        For each of ``LINES``, as `observed_widths` gives them.
    redshift : ndarray of float64, shape (n,)
    bands : sequence of str
        Of ``FILTERS``.

    Returns
    -------
    dict of str to ndarray of float64, shape (n,), Angstrom
        By band. NaN where the redshift or the width of a line that the band sees is unknown. A band sees a line where
        its throughput is 1% of its peak or more.
    """
    total = {}
    for band in bands:
        total[band] = np.where(np.isfinite(redshift), 0.0, np.nan)
        for line, rest in LINES.items():
            share = throughput(band, rest * (1.0 + np.nan_to_num(redshift)))
            unseen = np.isnan(widths[line]) & (share < SEEN_THROUGHPUT)
            total[band] += np.where(unseen, 0.0, share * widths[line])
    return total


@functools.cache
def _curve(band: str) -> tuple[DoubleArray, DoubleArray]:
    if band not in FILTERS:
        raise SwimmyError(f"band {band!r} has no filter curve, only {', '.join(FILTERS)}. Leave it out.")
    # Imported here because it loads slowly, and few processes need a filter's curve.
    from speclite import filters

    response = filters.load_filter(FILTERS[band])
    curve = np.maximum(response.response, 0.0)
    return np.asarray(response.wavelength, np.float64), np.asarray(curve / curve.max(), np.float64)
