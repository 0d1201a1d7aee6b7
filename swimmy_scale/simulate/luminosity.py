"""Magnitudes and redshifts of galaxies by a luminosity function, type-I nuclei by luminosity, and what a fibre sees.

Distances are those of the paper's cosmology (section 1: flat, H0 = 70 km/s/Mpc, Omega_m = 0.27).
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from astropy.cosmology import FlatLambdaCDM
from scipy.special import gammainc

from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.simulate.population import LuminosityFunction

COSMOLOGY = FlatLambdaCDM(H0=70.0, Om0=0.27)
# Cells in which densities are taken as constant: 0.0025 in redshift and 0.025 mag.
_N_REDSHIFTS, _CELL_MAG = 60, 0.025

# Half-light radius of an exponential disk over its scale length.
DISK_SCALES = 1.6783469900166605

# Rest-frame width of a nucleus' broad Halpha over its own continuum, Angstrom (Vanden Berk et al. 2001, table 2).
BROAD_HALPHA_ANGSTROM = 195.0
# The faintest broad Halpha of nearby type-I nuclei, erg/s (Stern and Laor 2012: 1e40 to 1e44).
LEAST_BROAD_HALPHA = 1e40
# What Milliquas calls an AGN is dominated by its host (section 4.2): the nucleus gives less than half of the light.
HOST_DOMINATED = 0.5


def distance_modulus(redshift: npt.ArrayLike) -> DoubleArray:
    """Distance modulus in mag; float64, shape of ``redshift``."""
    z = np.linspace(0.001, 0.5, 500)
    return np.asarray(np.interp(np.asarray(redshift, np.float64), z, COSMOLOGY.distmod(z).value), np.float64)


def absolute_magnitude(law: LuminosityFunction, magnitude: npt.ArrayLike, redshift: npt.ArrayLike) -> DoubleArray:
    """Absolute magnitude in the law's band, from a magnitude in the survey's magnitude band; float64, shape broadcast.

    The law's band is shifted to z = 0.1, where K = -2.5 log(1.1); K is taken as the same at all redshifts.
    """
    apparent = np.asarray(magnitude, np.float64) + law.mean_colour
    return np.asarray(apparent - distance_modulus(redshift) + 2.5 * np.log10(1.1), np.float64)


@functools.lru_cache(maxsize=8)
def _cells(
    law: LuminosityFunction, bright: float, faint: float, redshifts: tuple[float, float]
) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Lower edges of cells in redshift and in magnitude, and the cumulative number in them; all of shape (n_cells,).

    The number in a cell is dV/dz phi(M), with phi(M) ~ 10^(0.4 (alpha + 1)(M* - M)) exp(-10^(0.4 (M* - M))).
    """
    edges = np.linspace(*redshifts, _N_REDSHIFTS + 1)
    mags = np.arange(bright, faint - 1e-9, _CELL_MAG)
    middle = (edges[:-1] + edges[1:]) / 2.0
    volume = COSMOLOGY.differential_comoving_volume(middle).value
    absolute = absolute_magnitude(law, (mags + _CELL_MAG / 2.0)[None, :], middle[:, None])
    ratio = 10.0 ** (0.4 * (law.characteristic_mag - absolute))
    number = volume[:, None] * ratio ** (law.slope + 1.0) * np.exp(-ratio)
    z, m = np.meshgrid(edges[:-1], mags, indexing="ij")
    return z.ravel(), m.ravel(), np.cumsum(number.ravel())


def draw_galaxies(
    rng: np.random.Generator,
    n: int,
    law: LuminosityFunction,
    bright: float,
    faint: float,
    redshifts: tuple[float, float],
) -> tuple[DoubleArray, DoubleArray]:
    """Magnitudes and redshifts of ``n`` galaxies of a volume, whose limits are ``redshifts``; both of shape (n,).

    ``bright`` and ``faint`` limit the apparent magnitude in the survey's magnitude band.
    """
    z, m, total = _cells(law, bright, faint, redshifts)
    cell = np.minimum(np.searchsorted(total, rng.uniform(0.0, total[-1], n), side="right"), len(total) - 1)
    within_z, within_m = rng.uniform(size=(2, n))
    redshift = z[cell] + within_z * (redshifts[1] - redshifts[0]) / _N_REDSHIFTS
    return np.minimum(m[cell] + within_m * _CELL_MAG, faint), redshift


def luminosity(magnitude: npt.ArrayLike, redshift: npt.ArrayLike) -> DoubleArray:
    """lambda L_lambda near 6600 Angstrom (at rest) by the i magnitude, erg/s; float64, shape broadcast.

    L_nu = 4 pi (10 pc)^2 10^(-0.4 (M + 48.6)) and nu = c / 6600 Angstrom, with M = m - distance modulus.
    """
    absolute = np.asarray(magnitude, np.float64) - distance_modulus(redshift)
    per_hertz = 4.0 * np.pi * (10.0 * 3.0857e18) ** 2 * 10.0 ** (-0.4 * (absolute + 48.6))
    return np.asarray(per_hertz * 2.99792458e18 / 6600.0, np.float64)


def draw_type1_share(rng: np.random.Generator, magnitude: DoubleArray, redshift: DoubleArray) -> DoubleArray:
    """Share of type-I nuclei in the continuum of their objects, with as many nuclei in each decade of luminosity.

    The faintest nucleus has the weakest broad Halpha known, 1e40 erg/s = lambda L_lambda x 195 / 6563; the brightest
    gives half of the light. Float64, shape of ``magnitude``.
    """
    least = LEAST_BROAD_HALPHA * 6563.0 / BROAD_HALPHA_ANGSTROM / luminosity(magnitude, redshift)
    least = np.minimum(least, HOST_DOMINATED)
    return np.asarray(least * (HOST_DOMINATED / least) ** rng.uniform(size=len(magnitude)), np.float64)


def share_within(
    radius_arcsec: float, disk_re: DoubleArray, bulge_re: DoubleArray, bulge_share: DoubleArray
) -> DoubleArray:
    """Share of the stars' light within a circle, with profiles taken as circular; float64, shape of ``disk_re``.

    ``disk_re`` and ``bulge_re`` are half-light radii in arcsec. The share of an exponential disk is 1 - (1 + x) exp(-x)
    with x = 1.678 R / r_e, that of a de Vaucouleurs bulge the incomplete gamma function P(8, 7.669 (R / r_e)^(1/4)).
    """
    x = DISK_SCALES * radius_arcsec / disk_re
    disk = 1.0 - (1.0 + x) * np.exp(-x)
    inner = gammainc(8.0, 7.669 * (radius_arcsec / bulge_re) ** 0.25)
    return np.asarray((1.0 - bulge_share) * disk + bulge_share * inner, np.float64)
