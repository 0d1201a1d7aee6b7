"""Spectra in the rest frame: clean, normalise, resample, stack, and measure lines (section 4.4, figure 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import BoolArray, DoubleArray

How = Literal["median", "mean"]

BAD_BITS = (18, 22, 23, 24, 27, 28)
"""Bits of SDSS's SPPIXMASK in and_mask that make a pixel useless: FULLREJECT, NOSKY, BRIGHTSKY, NODATA, BADSKYCHI and
REDMONSTER. Others describe a whole fibre (MANYBADCOLUMNS may be set in every pixel of its blue arm) or its
neighbourhood; the flux remains usable."""
CONTINUUM_WINDOW = (5400.0, 5600.0)
"""Where spectra are normalised: rest-frame Angstrom without strong lines. The paper does not say where it does so."""
STEP_DEX = 1e-4
"""Width of the pixels of SDSS's spectra, and of the stack, in log10 of the wavelength."""
LINES = {
    "[OII]": (3727.09, 3729.88),
    "Hβ": (4862.68,),
    "[OIII]": (4960.30, 5008.24),
    "Hα": (6564.61,),
    "[NII]": (6549.85, 6585.27),
    "[SII]": (6718.29, 6732.67),
}
"""Rest-frame wavelengths in vacuum, Angstrom, as SDSS's spectra have them."""


@dataclass(frozen=True)
class LineWindow:
    """Where a group of lines is summed, and the continuum on both sides of it; rest-frame Angstrom, vacuum."""

    line: tuple[float, float]
    blue: tuple[float, float]
    red: tuple[float, float]


LINE_WINDOWS = {
    "oii": LineWindow((3710.0, 3745.0), (3650.0, 3700.0), (3750.0, 3780.0)),
    "hb_oiii": LineWindow((4835.0, 5030.0), (4760.0, 4820.0), (5060.0, 5120.0)),
    "ha_nii": LineWindow((6490.0, 6640.0), (6400.0, 6470.0), (6640.0, 6700.0)),
}
"""The groups whose equivalent widths make an XELG (section 2.2)."""


@dataclass(frozen=True)
class Spectrum:
    """One spectrum as observed.

    Attributes
    ----------
    wavelength : ndarray of float64, shape (pixel,)
        Observed, Angstrom, vacuum, ascending.
    flux : ndarray of float64, shape (pixel,)
        Per wavelength, any unit.
    ivar : ndarray of float64, shape (pixel,)
        Inverse variance; 0 where the flux is unknown.
    good : ndarray of bool, shape (pixel,)
        Pixels that can be used.
    redshift : float
    """

    wavelength: DoubleArray
    flux: DoubleArray
    ivar: DoubleArray
    good: BoolArray
    redshift: float


@dataclass(frozen=True)
class Stack:
    """A stacked spectrum.

    Attributes
    ----------
    flux : ndarray of float64, shape (pixel,)
        NaN where no spectrum reaches.
    low, high : ndarray of float64, shape (pixel,)
        16th and 84th percentile of the spectra.
    n_spectra : ndarray of int64, shape (pixel,)
        Number of spectra that reach the pixel.
    """

    flux: DoubleArray
    low: DoubleArray
    high: DoubleArray
    n_spectra: npt.NDArray[np.int64]


def good_pixels(flux: npt.NDArray[Any], ivar: npt.NDArray[Any], and_mask: npt.NDArray[Any]) -> BoolArray:
    """Pixels with a finite flux, a positive inverse variance, and none of ``BAD_BITS``; bool (pixel,)."""
    bits = sum(1 << bit for bit in BAD_BITS)
    good: BoolArray = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0) & ((and_mask.astype(np.int64) & bits) == 0)
    return good


def rest_grid(low: float = 3300.0, high: float = 8600.0) -> DoubleArray:
    """Rest-frame wavelengths of stacks, equally spaced in log10; float64 (pixel,), Angstrom.

    The default is the range that SDSS observes of objects at z = 0.05 to 0.2.
    """
    first, last = np.ceil(np.log10(low) / STEP_DEX), np.floor(np.log10(high) / STEP_DEX)
    grid: DoubleArray = 10.0 ** (np.arange(first, last + 1) * STEP_DEX)
    return grid


def to_rest_frame(
    spectrum: Spectrum, grid: DoubleArray, window: tuple[float, float] = CONTINUUM_WINDOW
) -> tuple[DoubleArray, DoubleArray]:
    """A spectrum on the rest-frame grid, divided by its continuum.

    wavelength_rest = wavelength / (1 + z); the continuum is the median of the good pixels within ``window``.
    Between pixels the flux is interpolated linearly: grid and spectrum have the same pixel width, so that no pixel
    is averaged away.

    Returns
    -------
    flux, ivar : ndarray of float64, shape (len(grid),)
        In units of the continuum. NaN and 0 where the spectrum does not reach or a neighbouring pixel is bad.

    Raises
    ------
    SwimmyError
        When the redshift is not a number above -1, or the spectrum has no positive continuum in the window.
    """
    if not (np.isfinite(spectrum.redshift) and spectrum.redshift > -1):
        raise SwimmyError(f"spectrum: its redshift is {spectrum.redshift}. Leave it out, or give its redshift.")
    rest = spectrum.wavelength / (1.0 + spectrum.redshift)
    inside = spectrum.good & (rest >= window[0]) & (rest <= window[1])
    level = float(np.median(spectrum.flux[inside])) if inside.any() else float("nan")
    if not level > 0:
        raise SwimmyError(
            f"spectrum: its continuum between {window[0]:g} and {window[1]:g} Angstrom (rest frame) is {level:g}, so "
            "it cannot be normalised. Leave it out."
        )
    usable = np.interp(grid, rest, spectrum.good.astype(np.float64), left=0.0, right=0.0) >= 1.0
    flux = np.where(usable, np.interp(grid, rest, spectrum.flux) / level, np.nan)
    ivar = np.where(usable, np.interp(grid, rest, spectrum.ivar) * level**2, 0.0)
    return flux, ivar


def stack(flux: DoubleArray, ivar: DoubleArray, how: How = "median") -> Stack:
    """Stack normalised rest-frame spectra pixel by pixel.

    The paper does not say how it stacks. The median is the default, because one bright quasar would dominate a mean
    that is weighted by inverse variance.

    Parameters
    ----------
    flux : ndarray of float64, shape (n, pixel)
        NaN where a spectrum has no data.
    ivar : ndarray of float64, shape (n, pixel)
        Weights of the mean, 0 where flux is NaN.
    how : str
        ``median``, or ``mean`` for sum(ivar flux) / sum(ivar).
    """
    if flux.ndim != 2 or flux.shape != ivar.shape:
        raise SwimmyError(f"spectra have shape {flux.shape} and inverse variances {ivar.shape}; need (n, pixel) each.")
    if how not in ("median", "mean"):
        raise SwimmyError(f"stacking by {how!r} is unknown. Choose median or mean.")
    n_spectra = np.isfinite(flux).sum(axis=0)
    stacked, low, high = (np.full(flux.shape[1], np.nan) for _ in range(3))
    some = n_spectra > 0
    if some.any():
        low[some], stacked[some], high[some] = np.nanpercentile(flux[:, some], [16.0, 50.0, 84.0], axis=0)
    if how == "mean":
        with np.errstate(invalid="ignore"):
            stacked = np.nansum(ivar * flux, axis=0) / ivar.sum(axis=0)
    return Stack(stacked, low, high, n_spectra.astype(np.int64))


def equivalent_width(wavelength: DoubleArray, flux: DoubleArray, window: LineWindow) -> float:
    """Rest-frame equivalent width of a group of lines, summed over the pixels; emission is positive.

    EW = sum (F / C - 1) dlambda, C a straight line through the medians of the two sides

    Lines are never told apart, so a broad line cannot be fitted as the difference of two huge ones, as the pipeline's
    fits of Halpha and [NII] in broad-line quasars are.

    Parameters
    ----------
    wavelength, flux : ndarray of float64, shape (pixel,)
        Rest frame, Angstrom. NaN fluxes are left out.

    Returns
    -------
    float
        Angstrom. NaN where more than half of a side or of the window is not covered, or the continuum is not positive.
    """
    width = np.gradient(wavelength)
    sides = []
    for side in (window.blue, window.red):
        inside, covered = _covered(wavelength, flux, side)
        if not covered:
            return float("nan")
        sides.append((np.mean(wavelength[inside]), float(np.median(flux[inside]))))
    inside, covered = _covered(wavelength, flux, window.line)
    (blue, blue_level), (red, red_level) = sides
    level = blue_level + (red_level - blue_level) * (wavelength[inside] - blue) / (red - blue)
    if not covered or not (level > 0).all():
        return float("nan")
    return float(np.sum((flux[inside] / level - 1.0) * width[inside]))


def _covered(wavelength: DoubleArray, flux: DoubleArray, limits: Sequence[float]) -> tuple[BoolArray, bool]:
    """Known pixels within the limits, and whether they are more than half of them."""
    within = (wavelength >= limits[0]) & (wavelength <= limits[1])
    known: BoolArray = within & np.isfinite(flux)
    return known, bool(within.any() and known.sum() > within.sum() / 2)
