"""Colours of galaxies by luminosity, as in GAMA, and the stellar population that gives a colour.

The law is that of Smith et al. 2017 (MNRAS 470, 4646), fitted to GAMA's galaxies, with the numbers of their public
code for mock catalogues (hodpy). It gives SDSS's g - r by M_r - 5 log h, with both bands shifted to redshift 0.1.
"""

from __future__ import annotations

import functools

import astropy.units as u
import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.simulate import spectra

# Redshift to which the law's bands are shifted, and the grid of spectra seen at it.
_SHIFT = 0.1
_WAVELENGTH = np.arange(3300.0, 11000.0, 4.0)
# Extinction of a disk of mean inclination in the i band, and the band's mean wavelength.
_DUST, _DUST_WAVELENGTH = 0.125, 7700.0


def mean_bulge_fraction(young_fraction: DoubleArray) -> DoubleArray:
    """Mean share of the bulge in the i band, not yet limited to 0 and 0.95: earlier types have larger bulges."""
    return 0.72 - 0.95 * young_fraction


def mean_bulge_young(young_fraction: DoubleArray) -> DoubleArray:
    """Mean share of young stars in the bulge at 5500 Angstrom: bulges are older than their disks."""
    return 0.35 * young_fraction


def blue_share(absolute: npt.ArrayLike, redshift: npt.ArrayLike) -> DoubleArray:
    """Share of galaxies on the blue sequence, by M = M_r - 5 log h and z; float64 in [0, 1], shape broadcast.

    The larger of 0.46 + 0.07 (M + 20), which counts for luminous galaxies, and
    0.2 M + max(4.4 + 1.2 t + 0.5 t^2, 4.45) with t = z - 0.1.
    """
    magnitude, after = np.asarray(absolute, np.float64), np.asarray(redshift, np.float64) - _SHIFT
    faint = 0.2 * magnitude + np.maximum(4.4 + 1.2 * after + 0.5 * after**2, 4.45)
    return np.clip(np.maximum(0.46 + 0.07 * (magnitude + 20.0), faint), 0.0, 1.0)


def sequences(absolute: npt.ArrayLike, redshift: npt.ArrayLike) -> tuple[DoubleArray, DoubleArray]:
    """Mean and rms of g - r, mag, by M = M_r - 5 log h and z: float64, shape (2, n), red sequence first, then blue.

    With t = max(z - 0.1, 0); the law's own limit, constant from z = 0.4 on, is left out:

    red:  0.932 - 0.032 (M + 20) - 0.18 t,   rms 0.07 + 0.01 (M + 20) + (0.05 + 0.1 t) t
    blue: log10(10^(9 a) + 10^(9 b)) / 9 - 0.25 t with a = 0.62 - 0.11 (M + 20) and b = 0.4 - 0.0286 (M + 16),
          a smooth maximum,   rms 0.12 + 0.02 (M + 20), at least 0 and at most 0.15, + 0.2 t
    """
    magnitude, after = np.asarray(absolute, np.float64), np.maximum(np.asarray(redshift, np.float64) - _SHIFT, 0.0)
    bright, faint = 0.62 - 0.11 * (magnitude + 20.0), 0.4 - 0.0286 * (magnitude + 16.0)
    blue = np.logaddexp(9.0 * np.log(10.0) * bright, 9.0 * np.log(10.0) * faint) / (9.0 * np.log(10.0))
    mean = np.stack([0.932 - 0.032 * (magnitude + 20.0) - 0.18 * after, blue - 0.25 * after])
    red_rms = 0.07 + 0.01 * (magnitude + 20.0) + (0.05 + 0.1 * after) * after
    blue_rms = np.clip(0.12 + 0.02 * (magnitude + 20.0), 0.0, 0.15) + 0.2 * after
    return mean, np.maximum(np.stack([red_rms, blue_rms]), 0.0)


@functools.cache
def _colour_table() -> tuple[DoubleArray, DoubleArray]:
    """Colours g - r at redshift 0.1, descending, and the mean shares of young stars in the disk that give them."""
    from speclite import filters  # takes half a second, and only this law needs it

    young = np.linspace(0.0, 1.0, 101)
    rest = _WAVELENGTH / (1.0 + _SHIFT)
    dimming = 10.0 ** (-0.4 * _DUST * ((_WAVELENGTH / _DUST_WAVELENGTH) ** -0.7 - 1.0))
    disk = spectra.continuum(young[:, None], rest) * dimming
    bulge = spectra.continuum(mean_bulge_young(young)[:, None], rest)
    share = np.clip(mean_bulge_fraction(young), 0.0, 0.95)
    # Shares are set in the i band; its middle stands for the whole band.
    middle = int(np.searchsorted(_WAVELENGTH, _DUST_WAVELENGTH))
    light = (1.0 - share)[:, None] * disk / disk[:, [middle]] + share[:, None] * bulge / bulge[:, [middle]]
    bands = filters.load_filters("sdss2010-g", "sdss2010-r")
    magnitudes = bands.get_ab_magnitudes(light * u.Unit("erg / (s cm2 Angstrom)"), _WAVELENGTH * u.AA)
    colour = np.asarray(magnitudes["sdss2010-g"] - magnitudes["sdss2010-r"], np.float64)
    return colour, young


def young_of_colour(colour: npt.ArrayLike) -> DoubleArray:
    """Mean share of young stars in the disks of galaxies that have this g - r at redshift 0.1.

    0 for what is redder than the oldest galaxies, 1 for what is bluer than the youngest; float64, shape of ``colour``.
    """
    colours, young = _colour_table()
    return np.asarray(np.interp(np.asarray(colour, np.float64), colours[::-1], young[::-1]), np.float64)


def draw_young(rng: np.random.Generator, absolute: DoubleArray, redshift: DoubleArray) -> DoubleArray:
    """Shares of young stars in the disks of galaxies with these M_r - 5 log h and redshifts; all of shape (n,)."""
    is_blue = (rng.uniform(size=len(absolute)) < blue_share(absolute, redshift)).astype(np.int64)
    mean, rms = sequences(absolute, redshift)
    rows = np.arange(len(absolute))
    return young_of_colour(mean[is_blue, rows] + rms[is_blue, rows] * rng.normal(size=len(absolute)))
