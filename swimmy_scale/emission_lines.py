"""What a filter lets through of an emission line (section 4.1, figure 10)."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from speclite import filters

from swimmy_scale.errors import SwimmyError

DoubleArray = npt.NDArray[np.float64]

# The coadds mix the first r and i filters with the second ones, which most nights of the wide layer had.
FILTERS = {"g": "hsc2017-g", "r": "hsc2017-r2", "i": "hsc2017-i2", "z": "hsc2017-z", "y": "hsc2017-y"}
"""Bands and the names under which `speclite` has HSC's filters."""


@functools.cache
def _curve(band: str) -> tuple[DoubleArray, DoubleArray]:
    if band not in FILTERS:
        raise SwimmyError(f"band {band!r} has no filter curve, only {', '.join(FILTERS)}. Leave it out.")
    response = filters.load_filter(FILTERS[band])
    curve = np.maximum(response.response, 0.0)
    return np.asarray(response.wavelength, np.float64), np.asarray(curve / curve.max(), np.float64)


def throughput(band: str, wavelength: npt.ArrayLike) -> DoubleArray:
    """Throughput of HSC's filter relative to its peak; 0 outside of its curve.

    Parameters
    ----------
    band : str
        Of ``FILTERS``.
    wavelength : array_like, Angstrom, in air

    Returns
    -------
    ndarray of float64, shape of ``wavelength``

    Raises
    ------
    SwimmyError
        For another band.
    """
    known, curve = _curve(band)
    return np.asarray(np.interp(np.asarray(wavelength, np.float64), known, curve, left=0.0, right=0.0))
