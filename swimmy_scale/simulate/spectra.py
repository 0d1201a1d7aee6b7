"""Spectra and filters in closed form: what colour a simulated galaxy has.

The filters are logistic edges around a sloping plateau, fitted to the total throughput (filter, optics, detector,
atmosphere) of Kawanomoto et al. 2018 (PASJ 70, 66) for HSC g, r, i, z and y. The two stellar populations are a black
body times a power law with a step at 4000 Angstrom; mixtures of the two follow the colours of the galaxies of Coleman,
Wu and Weedman 1980 (ApJS 43, 393) at z = 0.05 to 0.3. Wavelengths are in Angstrom and in air.

`method.emission_lines` has the measured filters and the exact wavelengths of lines. Both are here a second time because
every byte of a simulated survey depends on these numbers; tests hold the two against each other.

A band's flux is what an AB magnitude measures, with photons counted:
f_band = int f_lambda T lambda dlambda / int T / lambda dlambda, up to a factor that is the same for all bands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import DoubleArray


@dataclass(frozen=True)
class Filter:
    """One band's throughput: a sloping plateau between two logistic edges.

    Attributes
    ----------
    plateau : float
        Throughput midway between the edges.
    slope : float
        Its relative change over 1000 Angstrom.
    blue_edge, red_edge : float
        Wavelengths of half power.
    blue_width, red_width : float
        Scale of the logistic edges.
    """

    plateau: float
    slope: float
    blue_edge: float
    blue_width: float
    red_edge: float
    red_width: float

    def throughput(self, wavelength: npt.ArrayLike) -> DoubleArray:
        """Fraction of photons that are detected; float64, shape of ``wavelength`` (Angstrom)."""
        wave = np.asarray(wavelength, dtype=np.float64)
        middle = (self.blue_edge + self.red_edge) / 2.0
        plateau = np.maximum(self.plateau * (1.0 + self.slope * (wave - middle) / 1000.0), 0.0)
        # Clipped so that exp cannot overflow far from the band, where the throughput is 0 anyway.
        blue = np.clip((self.blue_edge - wave) / self.blue_width, -60.0, 60.0)
        red = np.clip((wave - self.red_edge) / self.red_width, -60.0, 60.0)
        result: DoubleArray = plateau / (1.0 + np.exp(blue)) / (1.0 + np.exp(red))
        return result


FILTERS = {
    "g": Filter(0.411, 0.442, 4002.0, 20.0, 5457.0, 18.0),
    "r": Filter(0.502, 0.021, 5478.0, 32.0, 6971.0, 31.0),
    "i": Filter(0.472, -0.087, 6940.0, 32.0, 8497.0, 49.0),
    "z": Filter(0.466, -0.230, 8531.0, 41.0, 9307.0, 35.0),
    "y": Filter(0.384, 0.113, 9331.0, 52.0, 10077.0, 185.0),
}
_WAVELENGTH = np.arange(3500.0, 11500.0, 4.0)


@dataclass(frozen=True)
class StellarPopulation:
    """Stars of one age in a galaxy: black body x power law x step at 4000 Angstrom.

    Attributes
    ----------
    temperature_k : float
    red_slope : float
        Exponent of the power law in wavelength, for the cool giants and the dust that a single black body lacks.
    break_depth : float
        Fraction of the light that is missing bluewards of 4000 Angstrom.
    """

    temperature_k: float
    red_slope: float
    break_depth: float

    def flux(self, wavelength: npt.ArrayLike) -> DoubleArray:
        """f_lambda over f_lambda(5500); float64, shape of ``wavelength`` (rest frame, Angstrom)."""
        shape: DoubleArray = self._shape(np.asarray(wavelength, np.float64)) / self._shape(np.float64(5500.0))
        return shape

    def _shape(self, wave: Any) -> Any:
        # Planck's law; 1.4388e8 Angstrom K is h c / k.
        black_body = wave**-5.0 / np.expm1(1.438777e8 / (wave * self.temperature_k))
        step = 1.0 - self.break_depth / (1.0 + np.exp(np.clip((wave - 4000.0) / 60.0, -60.0, 60.0)))
        return black_body * wave**self.red_slope * step


OLD = StellarPopulation(temperature_k=6400.0, red_slope=1.39, break_depth=0.55)
YOUNG = StellarPopulation(temperature_k=30000.0, red_slope=2.30, break_depth=0.32)

# Share of the young population at 5500 Angstrom at which the mixture looks like each type.
TYPE_YOUNG_FRACTION = {"E": 0.0, "Sbc": 0.48, "Scd": 0.68, "Im": 1.0}


@dataclass(frozen=True)
class Line:
    """An emission line of simulated galaxies.

    Attributes
    ----------
    group : str
        One of the groups whose equivalent widths section 2.2 adds up.
    wavelength : float
        At rest in air, Angstrom, rounded.
    share : float
        Its equivalent width over that of the group.
    is_weak : bool
        It has a usual ratio to the group without being part of its sum; only EW_band counts it (section 4.1).
    """

    group: str
    wavelength: float
    share: float
    is_weak: bool = False


LINES = {
    "oii_3726": Line("oii", 3726.0, 0.4),
    "oii_3729": Line("oii", 3729.0, 0.6),
    "neiii_3869": Line("hb_oiii", 3869.0, 0.06, is_weak=True),
    "h_beta": Line("hb_oiii", 4861.3, 0.2),
    "oiii_4959": Line("hb_oiii", 4958.9, 0.2),
    "oiii_5007": Line("hb_oiii", 5006.8, 0.6),
    "nii_6548": Line("ha_nii", 6548.1, 0.06),
    "h_alpha": Line("ha_nii", 6562.8, 0.76),
    "nii_6584": Line("ha_nii", 6583.5, 0.18),
    "sii_6717": Line("ha_nii", 6717.0, 0.12, is_weak=True),
    "sii_6731": Line("ha_nii", 6731.0, 0.09, is_weak=True),
}
"""Lines by their names in the MPA-JHU tables; the order is that in which their errors are drawn."""


def lines_of(group: str, weak: bool = False) -> list[Line]:
    """The lines of a group, and last its weak ones if ``weak``: sums in this order keep their bytes."""
    lines = [line for line in LINES.values() if line.group == group]
    return [line for line in lines if not line.is_weak] + [line for line in lines if weak and line.is_weak]


def excitation_ratio(nitrogen: npt.ArrayLike, young_fraction: npt.ArrayLike) -> DoubleArray:
    """Equivalent width of Hbeta + [OIII]4959,5007 over that of Halpha + [NII]6548,6584 in star-forming gas.

    [OIII]5007/Hbeta is on the locus of star-forming galaxies at redshift 0, log O3 = 1.1 + 0.61 / (log N2 + 0.08)
    (Kewley et al. 2013, equation 3), Halpha = 2.86 Hbeta (case B), and the weaker line of each doublet has a third of
    the stronger's flux:
    ratio = (1 + 4/3 O3) / (2.86 (1 + 4/3 N2)) x continuum(6563 Angstrom) / continuum(4990 Angstrom).

    ``nitrogen`` is log N2 = log([NII]6583 / Halpha), below -0.08. Float64, shape broadcast.
    """
    n2 = np.asarray(nitrogen, np.float64)
    o3 = 10.0 ** (1.1 + 0.61 / (n2 + 0.08))
    flux = (1.0 + 4.0 / 3.0 * o3) / (2.86 * (1.0 + 4.0 / 3.0 * 10.0**n2))
    return np.asarray(flux * continuum(young_fraction, 6563.0) / continuum(young_fraction, 4990.0), np.float64)


def continuum(young_fraction: npt.ArrayLike, wavelength: npt.ArrayLike) -> DoubleArray:
    """f_lambda of a mixture of old and young stars, 1 at 5500 Angstrom (rest frame); float64, shape broadcast."""
    young = np.asarray(young_fraction, dtype=np.float64)
    return (1.0 - young) * OLD.flux(wavelength) + young * YOUNG.flux(wavelength)


def power_law(wavelength: npt.ArrayLike) -> DoubleArray:
    """f_lambda of a quasar's nucleus, 1 at 5500 Angstrom (rest frame); float64, shape of ``wavelength``."""
    # f_nu ~ nu^-0.44 (Vanden Berk et al. 2001), hence f_lambda ~ lambda^(0.44 - 2).
    return np.asarray((np.asarray(wavelength, np.float64) / 5500.0) ** (0.44 - 2.0), np.float64)


def dust_extinction(wavelength: npt.ArrayLike) -> DoubleArray:
    """Extinction by the dust of active nuclei, magnitudes at E(B-V) = 1: 1.39 (wavelength / 1 micron)^-1.2.

    This is the law of the Small Magellanic Cloud (Prevot et al. 1984, as Richards et al. 2003, AJ 126, 1131, use it for
    quasars). Float64, shape of ``wavelength`` (rest frame, Angstrom).
    """
    return np.asarray(1.39 * (np.asarray(wavelength, np.float64) / 1e4) ** -1.2, np.float64)


@functools.cache
def band_constants(band: str) -> tuple[float, float]:
    """Effective wavelength of a band, int T lambda / int T (Angstrom), and its norm, int T / lambda dlambda."""
    response = FILTERS[band].throughput(_WAVELENGTH)
    effective = float(np.sum(response * _WAVELENGTH) / np.sum(response))
    return effective, float(np.sum(response / _WAVELENGTH) * (_WAVELENGTH[1] - _WAVELENGTH[0]))


def effective_wavelength(band: str) -> float:
    """Mean wavelength of a band, int T lambda dlambda / int T dlambda, in Angstrom."""
    return band_constants(band)[0]


def band_flux(spectrum: Callable[[DoubleArray], DoubleArray], band: str, redshift: float) -> float:
    """Flux in a band of a rest-frame spectrum seen at a redshift, up to one factor for all bands."""
    response = FILTERS[band].throughput(_WAVELENGTH)
    step = _WAVELENGTH[1] - _WAVELENGTH[0]
    total = np.sum(spectrum(_WAVELENGTH / (1.0 + redshift)) * response * _WAVELENGTH) * step
    return float(total / band_constants(band)[1])


# Redshifts at which band fluxes are tabulated; interpolated between them, a flux is good to 1e-3.
_REDSHIFT = np.arange(0.0, 0.81, 0.01)


@functools.cache
def _flux_table(source: str, band: str) -> DoubleArray:
    spectra = {"old": OLD.flux, "young": YOUNG.flux, "nucleus": power_law}
    return np.array([band_flux(spectra[source], band, z) for z in _REDSHIFT])


def stellar_flux(young_fraction: npt.ArrayLike, redshift: npt.ArrayLike, bands: tuple[str, ...]) -> DoubleArray:
    """Band fluxes of mixtures of old and young stars with f_lambda(5500, rest frame) = 1; float64, shape (n, n_bands).

    Redshifts, of shape (n,) as the shares of young stars, may be up to 0.8.
    """
    young, z = np.asarray(young_fraction, np.float64), np.asarray(redshift, np.float64)
    columns = [
        (1.0 - young) * np.interp(z, _REDSHIFT, _flux_table("old", band))
        + young * np.interp(z, _REDSHIFT, _flux_table("young", band))
        for band in bands
    ]
    return np.stack(columns, axis=-1)


def nuclear_flux(redshift: npt.ArrayLike, bands: tuple[str, ...]) -> DoubleArray:
    """Band fluxes of a quasar's continuum with f_lambda(5500, rest frame) = 1; float64, shape (n, n_bands)."""
    z = np.asarray(redshift, np.float64)
    return np.stack([np.interp(z, _REDSHIFT, _flux_table("nucleus", band)) for band in bands], axis=-1)


def line_flux(
    group: str,
    width_observed: npt.ArrayLike,
    redshift: npt.ArrayLike,
    level: Callable[[DoubleArray], DoubleArray],
    bands: tuple[str, ...],
    sigma_km_s: float = 0.0,
    weak: bool = False,
) -> DoubleArray:
    """Band fluxes that a group of emission lines adds to a continuum; float64, shape (n, n_bands).

    A line of observed equivalent width W at lambda carries the flux W f_lambda(lambda) and adds
    W f_lambda(lambda) T(lambda) lambda / int T / lambda dlambda to the band.

    Parameters
    ----------
    width_observed : array_like, shape (n,)
        Observed equivalent width of the group, Angstrom.
    level : callable
        Continuum f_lambda at rest-frame wavelengths of shape (n,), in the units of the result.
    sigma_km_s : float
        Gaussian width of the lines; 0 for lines much narrower than the filter's edges.
    weak : bool
        Add the group's weak lines, too.
    """
    width, z = np.asarray(width_observed, np.float64), np.asarray(redshift, np.float64)
    nodes, weights = np.polynomial.hermite_e.hermegauss(7 if sigma_km_s else 1)
    added = np.zeros((len(z), len(bands)))
    for line in lines_of(group, weak):
        strength = line.share * width * level(np.full(len(z), line.wavelength))
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            seen = line.wavelength * (1.0 + z) * (1.0 + node * sigma_km_s / 299792.458)
            for column, band in enumerate(bands):
                response = FILTERS[band].throughput(seen) * seen / band_constants(band)[1]
                added[:, column] += weight * strength * response
    return added


def nearest_type(young_fraction: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """Galaxy type (E, Sbc, Scd or Im) with the closest share of young stars; shape (n,)."""
    names = np.array(list(TYPE_YOUNG_FRACTION))
    values = np.array(list(TYPE_YOUNG_FRACTION.values()))
    distance = np.abs(np.asarray(young_fraction, np.float64)[:, None] - values[None, :])
    closest: npt.NDArray[np.str_] = names[np.argmin(distance, axis=1)]
    return closest
