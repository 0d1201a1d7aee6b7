"""Light of a galaxy's disk, bulge and nucleus in every band: continua, emission lines and dust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swimmy_scale.method.emission_lines import XELG_GROUPS
from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.simulate import luminosity, spectra
from swimmy_scale.simulate.plan import SimulationPlan, SmallIntArray, is_of_kind

# Widths at rest over the nuclear continuum, after Vanden Berk et al. 2001 (table 2), and a common velocity dispersion.
BROAD_LINES = {"ha_nii": luminosity.BROAD_HALPHA_ANGSTROM, "hb_oiii": 60.0}
BROAD_LINE_KM_S = 1500.0


@dataclass(frozen=True)
class _Continua:
    """Continua of disk, bulge and nucleus, whose shares add up to 1 in the magnitude band.

    ``flux`` holds band fluxes, shape (n, n_bands), and ``level`` f_lambda(5500, rest frame), shape (n,).
    """

    shape: dict[str, DoubleArray]
    flux: dict[str, DoubleArray]
    level: dict[str, DoubleArray]

    def stars(self, wavelength: DoubleArray) -> DoubleArray:
        """f_lambda of disk and bulge, without the disk's dust; shape (n,)."""
        disk = self.level["disk"] * spectra.continuum(self.shape["young_fraction"], wavelength)
        bulge = self.level["bulge"] * spectra.continuum(self.shape["bulge_young"], wavelength)
        return np.asarray(disk + bulge)

    def core(self, wavelength: DoubleArray) -> DoubleArray:
        """f_lambda of the nucleus; shape (n,)."""
        return np.asarray(self.level["nucleus"] * spectra.power_law(wavelength))


def component_fluxes(
    plan: SimulationPlan,
    rng: np.random.Generator,
    kind: SmallIntArray,
    shape: dict[str, DoubleArray],
    widths: dict[str, DoubleArray],
    central: dict[str, DoubleArray],
) -> dict[str, DoubleArray]:
    """Counts of disk, bulge and nucleus, each of shape (n, n_bands), and E(B-V) of the nucleus, shape (n,).

    Lines are added to the continua, and all is scaled so that the total has the drawn magnitude. ``shape`` holds
    magnitude, redshift, structure and stellar population; ``widths`` and ``central`` are the observed equivalent widths
    of the line groups, Angstrom, in all and of what comes from the centre. All have shape (n,). ``rng`` draws the dust.
    """
    survey, z = plan.survey, shape["redshift"]
    bands, reference = survey.bands, survey.bands.index(survey.magnitude_band)
    waves = np.array([spectra.effective_wavelength(band) for band in bands])
    continua = _continua(rng, shape, bands, waves, reference)

    def lines(of: dict[str, DoubleArray]) -> DoubleArray:
        weak = plan.population.weak_lines
        added = (spectra.line_flux(name, of[f"ew_{name}"], z, continua.stars, bands, weak=weak) for name in XELG_GROUPS)
        return np.asarray(sum(added), np.float64)

    # Stars form in the disk; the narrow lines of an active nucleus come from the centre.
    disk = continua.flux["disk"] + lines({name: widths[name] - central[name] for name in widths})
    bulge = continua.flux["bulge"]
    share = _share_in_fibre(plan, shape)
    nucleus = continua.flux["nucleus"] + lines({name: central[name] * share for name in central})
    for group, width in BROAD_LINES.items():
        nucleus = nucleus + spectra.line_flux(group, width * (1.0 + z), z, continua.core, bands, BROAD_LINE_KM_S)

    ebv = np.zeros(len(kind))
    if plan.population.reddened_quasars:
        drawn = _draw_ebv(rng, z, waves, reference, nucleus / (disk + bulge))
        ebv = np.where(is_of_kind(kind, "quasar"), drawn, 0.0)
        nucleus = nucleus * _reddened(ebv, z, waves, reference)
    total = (disk + bulge + nucleus)[:, reference]
    counts = (10.0 ** (-0.4 * (shape["magnitude"] - survey.zero_point_mag)) / total)[:, None]
    return {"disk": disk * counts, "bulge": bulge * counts, "nucleus": nucleus * counts, "nucleus_ebv": ebv}


def _continua(
    rng: np.random.Generator, shape: dict[str, DoubleArray], bands: tuple[str, ...], waves: DoubleArray, reference: int
) -> _Continua:
    """Continua of all components; ``waves`` are wavelengths of ``bands``, ``reference`` indexes the magnitude band."""
    z = shape["redshift"]
    # Dust in the disk, more if seen edge-on: extinction relative to the reference band, A ~ lambda^-0.7.
    dust = np.abs(rng.normal(0.08, 0.04, len(z))) + 0.12 * (1.0 - shape["disk_q"])
    reddening = 10.0 ** (-0.4 * dust[:, None] * ((waves / waves[reference]) ** -0.7 - 1.0))
    at_level_1 = {
        "disk": spectra.stellar_flux(shape["young_fraction"], z, bands) * reddening,
        "bulge": spectra.stellar_flux(shape["bulge_young"], z, bands),
        "nucleus": spectra.nuclear_flux(z, bands),
    }
    stars = 1.0 - shape["nucleus_fraction"]
    share = {
        "disk": stars * (1.0 - shape["bulge_fraction"]),
        "bulge": stars * shape["bulge_fraction"],
        "nucleus": shape["nucleus_fraction"],
    }
    level = {name: share[name] / flux[:, reference] for name, flux in at_level_1.items()}
    return _Continua(shape, {name: flux * level[name][:, None] for name, flux in at_level_1.items()}, level)


def _draw_ebv(
    rng: np.random.Generator, redshift: DoubleArray, waves: DoubleArray, reference: int, contrast: DoubleArray
) -> DoubleArray:
    """E(B-V) of nuclei, magnitudes: uniform from 0 to where the bluest band has no excess over the reference band.

    ``waves`` are the bands' wavelengths, Angstrom; ``contrast``, shape (n, n_bands), is the bare nucleus over its host.
    The draw has a random stream of its own, so that it changes no other object.
    """
    bluest = int(np.argmin(waves))
    excess = 2.5 * np.log10(np.maximum(contrast[:, bluest], 1e-30) / np.maximum(contrast[:, reference], 1e-30))
    at_one = -2.5 * np.log10(_reddened(np.ones(len(redshift)), redshift, waves, reference)[:, bluest])
    return np.asarray(rng.spawn(1)[0].uniform(0.0, 1.0, len(redshift)) * np.maximum(excess / at_one, 0.0))


def _reddened(ebv: DoubleArray, redshift: DoubleArray, waves: DoubleArray, reference: int) -> DoubleArray:
    """Factors of dust on the light of nuclei, shape (n, n_bands): 1 in the reference band, where shares are set."""
    extinction = ebv[:, None] * spectra.dust_extinction(waves / (1.0 + redshift[:, None]))
    return np.asarray(10.0 ** (-0.4 * (extinction - extinction[:, reference, None])))


def _share_in_fibre(plan: SimulationPlan, shape: dict[str, DoubleArray]) -> DoubleArray | float:
    """Share of the stars' light in the fibre that measured the widths; 1 without a fibre."""
    diameter = plan.population.fibre_arcsec
    if diameter is None:
        return 1.0
    return luminosity.share_within(diameter / 2.0, shape["disk_re"], shape["bulge_re"], shape["bulge_fraction"])
