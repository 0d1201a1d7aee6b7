"""Galaxies, active nuclei and neighbours of the simulated sky, as numbers: no pixel is drawn here.

Ordinary galaxies are a tight family, so that planted objects are unusual: one latent number, the share of young stars
in the disk, sets most of the colour, the bulge fraction and the emission lines, with modest scatter.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.emission_lines import XELG_GROUPS
from swimmy_scale.method.survey import DoubleArray, IntArray
from swimmy_scale.simulate import colours, luminosity, spectra
from swimmy_scale.simulate.plan import (
    CUTS,
    KINDS,
    STREAM_OBJECT,
    SimulationPlan,
    SmallIntArray,
    allocate,
    generator,
    plan_parts,
)
from swimmy_scale.simulate.population import Population
from swimmy_scale.simulate.sky import patch_of_rows, positions

# Limits of the sample (section 2.2).
REDSHIFT_LIMITS = (0.05, 0.2)
# Pivot of the law by which fainter galaxies lie farther away: the demonstration's brightest magnitude.
REDSHIFT_MAG = 16.5
# Numbers rise as 10^(0.6 m), as in Euclidean space, for a sample without luminosity function, and as 10^(0.3 m) for
# neighbours, of which there are this many per cutout.
N_NEIGHBOURS = 1.2
NEIGHBOUR_MAG = (20.0, 25.0)
# No chance neighbour is nearer than this to the centre: 2 arcsec.
NEIGHBOUR_DISTANCE_PX = 12.0
BROAD_LINE_KM_S = 1500.0


@dataclass(frozen=True)
class Galaxies:
    """Consecutive catalogue rows. All arrays have shape (n,) unless noted; float64 unless noted.

    Attributes
    ----------
    row : ndarray of int64
    tract, patch_index : ndarray of int64
        The patch index is 0 to 80, see `sky`.
    x, y : ndarray
        0-based pixels of the tract.
    ra, dec : ndarray
        Degrees.
    kind : ndarray of int8
        Index into `KINDS`.
    redshift, young_fraction, bulge_fraction, nucleus_fraction : ndarray
        Shares: of young stars in the disk at 5500 Angstrom; in the magnitude band, of the bulge in the stars' continuum
        and of the nucleus in the whole continuum.
    nucleus_ebv : ndarray
        E(B-V) of the dust in front of the nucleus, magnitudes.
    disk_re, bulge_re : ndarray
        Half-light radius along the major axis, arcsec.
    disk_q, bulge_q, angle : ndarray
        Axis ratios, and direction of the major axis from x towards y in radians.
    ew_oii, ew_hb_oiii, ew_ha_nii : ndarray
        Observed equivalent widths of the line groups over the stars' continuum, Angstrom, without the broad lines of
        active nuclei.
    zero_point_factor : ndarray
        Factor by which the calibration of the r band is wrong: 1 except for one kind of artefact.
    disk, bulge, nucleus : ndarray, shape (n, n_bands)
        Fluxes in counts, correctly calibrated.
    """

    row: IntArray
    tract: IntArray
    patch_index: IntArray
    x: DoubleArray
    y: DoubleArray
    ra: DoubleArray
    dec: DoubleArray
    kind: SmallIntArray
    redshift: DoubleArray
    young_fraction: DoubleArray
    bulge_fraction: DoubleArray
    nucleus_fraction: DoubleArray
    nucleus_ebv: DoubleArray
    disk_re: DoubleArray
    bulge_re: DoubleArray
    disk_q: DoubleArray
    bulge_q: DoubleArray
    angle: DoubleArray
    ew_oii: DoubleArray
    ew_hb_oiii: DoubleArray
    ew_ha_nii: DoubleArray
    zero_point_factor: DoubleArray
    disk: DoubleArray
    bulge: DoubleArray
    nucleus: DoubleArray

    @property
    def flux(self) -> DoubleArray:
        """Total flux in counts, shape (n, n_bands)."""
        return self.disk + self.bulge + self.nucleus


@dataclass(frozen=True)
class Neighbours:
    """What else the cutouts show. Shape (m,) and float64 unless noted.

    Attributes
    ----------
    owner : ndarray of int64
        Index, within the part, of the object in whose cutout the neighbour lies; ascending.
    dx, dy : ndarray
        Offset from that object in pixels.
    re : ndarray
        Half-light radius in arcsec; 0 for a star.
    q, angle : ndarray
    flux : ndarray, shape (m, n_bands)
        Counts.
    """

    owner: IntArray
    dx: DoubleArray
    dy: DoubleArray
    re: DoubleArray
    q: DoubleArray
    angle: DoubleArray
    flux: DoubleArray


def draw_objects(plan: SimulationPlan, part_index: int) -> tuple[Galaxies, Neighbours]:
    """All objects of one part and their neighbours; no other part is needed."""
    rows = np.array(plan_parts(plan)[part_index], dtype=np.int64)
    rng = generator(plan, STREAM_OBJECT, part_index)
    kind = allocate(plan).kind[rows]
    cut = allocate(plan).cut[rows]
    tract, patch_index = patch_of_rows(plan, rows)
    x, y, ra, dec = positions(plan, tract, patch_index, rng)
    shape = _draw_shapes(plan, rng, kind, cut)
    widths, central = _draw_line_widths(rng, kind, shape, plan.population)
    fluxes = _component_fluxes(plan, rng, kind, shape, widths, central)
    magnitude = shape.pop("magnitude")
    objects = Galaxies(
        row=rows,
        tract=tract,
        patch_index=patch_index,
        x=x,
        y=y,
        ra=ra,
        dec=dec,
        kind=kind,
        **{name: shape[name] for name in shape if name != "bulge_young"},
        **widths,
        **fluxes,
    )
    return objects, _draw_neighbours(plan, rng, objects, magnitude)


def _is(kind: SmallIntArray, *names: str) -> npt.NDArray[np.bool_]:
    return np.isin(kind, [KINDS.index(name) for name in names])


def _counts_magnitude(rng: np.random.Generator, n: int, bright: float, faint: float, slope: float) -> DoubleArray:
    """Magnitudes whose cumulative number rises as 10^(slope m)."""
    low, high = 10.0 ** (slope * bright), 10.0 ** (slope * faint)
    return np.asarray(np.log10(rng.uniform(low, high, n)) / slope)


def _draw_magnitudes(
    plan: SimulationPlan, rng: np.random.Generator, kind: SmallIntArray
) -> tuple[DoubleArray, DoubleArray | None]:
    """Magnitudes by one law of counts, or by a luminosity function that gives redshifts, too.

    A luminosity function is drawn from on each side of the main sample's faint end.
    """
    n, population = len(kind), plan.population
    edge, faint, law = population.main_sample_mag, population.faint_mag, population.luminosity_function
    if edge is None or law is None:
        return _counts_magnitude(rng, n, population.bright_mag, faint, 0.6), None
    is_main = _is(kind, "xelg", "type1_agn", "type2_agn") | (rng.uniform(size=n) < plan.training_fraction)
    drawn = [
        luminosity.draw_galaxies(rng, n, law, *limits, REDSHIFT_LIMITS)
        for limits in ((population.bright_mag, edge), (edge, faint))
    ]
    return np.where(is_main, drawn[0][0], drawn[1][0]), np.where(is_main, drawn[0][1], drawn[1][1])


def _draw_shapes(
    plan: SimulationPlan, rng: np.random.Generator, kind: SmallIntArray, cut: SmallIntArray
) -> dict[str, DoubleArray]:
    """Magnitude, redshift, structure and stellar population of each object."""
    n = len(kind)
    xelg = _is(kind, "xelg")
    is_red = (rng.uniform(size=n) < 0.35) & ~xelg & ~_is(kind, "merger")
    magnitude, redshift = _draw_magnitudes(plan, rng, kind)
    magnitude = np.where(cut == CUTS.index("magnitude"), rng.uniform(20.1, 20.6, n), magnitude)
    if redshift is None:
        # Fainter galaxies lie farther away.
        redshift = 0.05 + 0.15 * rng.beta(1.3 + 0.35 * (magnitude - REDSHIFT_MAG), 1.6)
    far = cut == CUTS.index("redshift")
    redshift = np.where(far, rng.uniform(0.22, 0.4, n), redshift)
    is_red |= far

    young = np.where(is_red, rng.normal(0.10, 0.04, n), rng.normal(0.55, 0.08, n))
    law = plan.population.luminosity_function
    if law is not None and plan.population.colours_by_luminosity:
        absolute = luminosity.absolute_magnitude(law, magnitude, redshift)
        # The law's magnitudes are M - 5 log h.
        young = np.where(
            far, young, colours.draw_young(rng, absolute - 5.0 * np.log10(luminosity.COSMOLOGY.h), redshift)
        )
    young = np.where(xelg, rng.uniform(0.85, 1.0, n), np.where(_is(kind, "merger"), young + 0.15, young))
    young = np.clip(young, 0.0, 1.0)
    # Earlier types have larger bulges, and bulges have older stars than disks.
    bulge_fraction = np.clip(colours.mean_bulge_fraction(young) + rng.normal(0.0, 0.08, n), 0.0, 0.95)
    bulge_young = np.where(xelg, young, np.clip(colours.mean_bulge_young(young) + rng.normal(0.0, 0.03, n), 0.0, 1.0))

    log_re = 0.18 - 0.13 * (magnitude - 19.2) + rng.normal(0.0, 0.13, n) - np.where(xelg, 0.3, 0.0)
    re = np.where(cut == CUTS.index("extendedness"), 0.03, np.clip(10.0**log_re, 0.25, 5.0))
    disk_q = rng.uniform(0.25, 1.0, n)
    nucleus = np.where(_is(kind, "quasar"), rng.uniform(0.4, 0.75, n), 0.0)
    type1 = (
        luminosity.draw_type1_share(rng, magnitude, redshift)
        if plan.population.type1_by_luminosity
        else rng.uniform(0.1, 0.4, n)
    )
    nucleus = np.where(_is(kind, "type1_agn"), type1, nucleus)
    wrong = _is(kind, "artefact_zero_point")
    return {
        "magnitude": magnitude,
        "zero_point_factor": np.where(wrong, rng.choice([0.7, 1.4], n), 1.0),
        "redshift": redshift,
        "young_fraction": young,
        "bulge_young": bulge_young,
        "bulge_fraction": bulge_fraction,
        "nucleus_fraction": nucleus,
        "disk_re": re * 1.1,
        "bulge_re": re * 0.5,
        "disk_q": disk_q,
        "bulge_q": 1.0 - 0.4 * (1.0 - disk_q),
        "angle": rng.uniform(0.0, np.pi, n),
    }


def _draw_line_widths(
    rng: np.random.Generator, kind: SmallIntArray, shape: dict[str, DoubleArray], population: Population
) -> tuple[dict[str, DoubleArray], dict[str, DoubleArray]]:
    """Observed equivalent widths of the line groups, Angstrom: in all, and the part that comes from the centre.

    Ordinary galaxies stay below 90, so that 100, the definition of an XELG (section 2.2), separates the kinds.
    """
    n = len(kind)
    stretch = 1.0 + shape["redshift"]
    strength = shape["young_fraction"] * 10.0 ** rng.normal(0.0, 0.15, n) * stretch
    ratio = 10.0 ** rng.normal(0.0, 0.08, n)
    widths = {
        "ew_oii": 35.0 * strength * ratio,
        "ew_hb_oiii": 25.0 * strength * shape["young_fraction"] * ratio,
        "ew_ha_nii": 45.0 * strength,
    }
    narrow = _is(kind, "type2_agn")
    active = rng.uniform(*population.type2_width, n) * stretch
    widths["ew_hb_oiii"] = np.where(narrow, active, widths["ew_hb_oiii"])
    widths["ew_ha_nii"] = np.where(narrow, widths["ew_ha_nii"] + 0.6 * active, widths["ew_ha_nii"])
    widths = {name: np.minimum(width, 90.0) for name, width in widths.items()}

    # Numbers fall as EW^-2 from 100 to the widest. The strongest group is [OIII] or, equally often, Halpha.
    lead = 1.0 / rng.uniform(1.0 / population.widest_line, 1.0 / 100.0, n)
    second = lead * rng.uniform(0.5, 1.0, n)
    oxygen_leads = rng.uniform(size=n) < 0.5
    if population.nitrogen is not None:
        ratio = spectra.excitation_ratio(rng.uniform(*population.nitrogen, n), shape["young_fraction"])
        oxygen_leads = ratio > 1.0
        second = lead * np.minimum(ratio, 1.0 / ratio)
    extreme = _is(kind, "xelg")
    strong = {
        "ew_oii": lead * rng.uniform(0.2, 0.45, n),
        "ew_hb_oiii": np.where(oxygen_leads, lead, second),
        "ew_ha_nii": np.where(oxygen_leads, second, lead),
    }
    widths = {name: np.where(extreme, strong[name], widths[name]) for name in widths}
    ionised = {"ew_oii": np.zeros(n), "ew_hb_oiii": active, "ew_ha_nii": 0.6 * active}
    nuclear = widths if population.fibre_arcsec is None else ionised
    return widths, {name: np.where(narrow, np.minimum(nuclear[name], widths[name]), 0.0) for name in widths}


def _component_fluxes(
    plan: SimulationPlan,
    rng: np.random.Generator,
    kind: SmallIntArray,
    shape: dict[str, DoubleArray],
    widths: dict[str, DoubleArray],
    central: dict[str, DoubleArray],
) -> dict[str, DoubleArray]:
    """Counts of disk, bulge and nucleus in every band, each of shape (n, n_bands), and E(B-V) of the nucleus.

    First the continua get their shares in the survey's magnitude band, then lines are added, and at last all is scaled
    so that the total has the drawn magnitude.
    """
    survey, z = plan.survey, shape["redshift"]
    bands, reference = survey.bands, survey.bands.index(survey.magnitude_band)
    waves = np.array([spectra.effective_wavelength(band) for band in bands])
    # Dust in the disk, more if seen edge-on: extinction relative to the reference band, A ~ lambda^-0.7.
    dust = np.abs(rng.normal(0.08, 0.04, len(kind))) + 0.12 * (1.0 - shape["disk_q"])
    reddening = 10.0 ** (-0.4 * dust[:, None] * ((waves / waves[reference]) ** -0.7 - 1.0))
    disk = spectra.stellar_flux(shape["young_fraction"], z, bands) * reddening
    bulge = spectra.stellar_flux(shape["bulge_young"], z, bands)
    nucleus = spectra.nuclear_flux(z, bands)

    star_light = 1.0 - shape["nucleus_fraction"]
    level_disk = star_light * (1.0 - shape["bulge_fraction"]) / disk[:, reference]
    level_bulge = star_light * shape["bulge_fraction"] / bulge[:, reference]
    level_nucleus = shape["nucleus_fraction"] / nucleus[:, reference]
    disk, bulge, nucleus = disk * level_disk[:, None], bulge * level_bulge[:, None], nucleus * level_nucleus[:, None]

    def stars(wavelength: DoubleArray) -> DoubleArray:
        of_disk = level_disk * spectra.continuum(shape["young_fraction"], wavelength)
        of_bulge = level_bulge * spectra.continuum(shape["bulge_young"], wavelength)
        return np.asarray(of_disk + of_bulge)

    def lines(of: dict[str, DoubleArray]) -> DoubleArray:
        weak = plan.population.weak_lines
        total = sum(spectra.line_flux(group, of[f"ew_{group}"], z, stars, bands, weak=weak) for group in XELG_GROUPS)
        return np.asarray(total, np.float64)

    # Stars form in the disk; the narrow lines of an active nucleus come from the centre.
    disk = disk + lines({name: widths[name] - central[name] for name in widths})
    share = _share_in_fibre(plan, shape)
    nucleus = nucleus + lines({name: central[name] * share for name in central})

    def core(wavelength: DoubleArray) -> DoubleArray:
        return np.asarray(level_nucleus * spectra.power_law(wavelength))

    # Rest-frame widths over the nuclear continuum, after Vanden Berk et al. 2001 (table 2): 195 and about 60 Angstrom.
    halpha = luminosity.BROAD_HALPHA_ANGSTROM * (1.0 + z)
    nucleus = nucleus + spectra.line_flux("ha_nii", halpha, z, core, bands, BROAD_LINE_KM_S)
    nucleus = nucleus + spectra.line_flux("hb_oiii", 60.0 * (1.0 + z), z, core, bands, BROAD_LINE_KM_S)

    ebv = np.zeros(len(kind))
    if plan.population.reddened_quasars:
        ebv = np.where(_is(kind, "quasar"), _draw_ebv(rng, z, waves, reference, nucleus / (disk + bulge)), 0.0)
        nucleus = nucleus * _reddened(ebv, z, waves, reference)
    total = (disk + bulge + nucleus)[:, reference]
    counts = (10.0 ** (-0.4 * (shape["magnitude"] - survey.zero_point_mag)) / total)[:, None]
    return {"disk": disk * counts, "bulge": bulge * counts, "nucleus": nucleus * counts, "nucleus_ebv": ebv}


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


def _draw_neighbours(
    plan: SimulationPlan, rng: np.random.Generator, objects: Galaxies, magnitude: DoubleArray
) -> Neighbours:
    """Background galaxies and stars away from the centres of cutouts, and the partners of mergers."""
    chance = _draw_chance_neighbours(plan, rng, len(objects.row))
    partners = _draw_partners(plan, rng, objects, magnitude)
    names = [field.name for field in dataclasses.fields(Neighbours)]
    both = {name: np.concatenate([getattr(chance, name), getattr(partners, name)]) for name in names}
    order = np.argsort(both["owner"], kind="stable")
    return Neighbours(**{name: values[order] for name, values in both.items()})


def _draw_chance_neighbours(plan: SimulationPlan, rng: np.random.Generator, n_objects: int) -> Neighbours:
    survey = plan.survey
    owner = np.repeat(np.arange(n_objects), rng.poisson(N_NEIGHBOURS, n_objects))
    half = survey.cutout_size_px / 2.0 + 3.0
    offset = rng.uniform(-half, half, size=(2, len(owner)))
    apart = np.hypot(offset[0], offset[1]) > NEIGHBOUR_DISTANCE_PX
    owner, (dx, dy) = owner[apart], offset[:, apart]
    m = len(owner)
    magnitude = _counts_magnitude(rng, m, *NEIGHBOUR_MAG, 0.3)
    is_star = rng.uniform(size=m) < 0.2
    young = np.where(is_star, rng.uniform(0.0, 0.5, m), rng.beta(2.0, 1.5, m))
    redshift = np.where(is_star, 0.0, rng.uniform(0.1, 0.75, m))
    re = np.where(is_star, 0.0, 0.45 * 10.0 ** (-0.08 * (magnitude - 22.5) + rng.normal(0.0, 0.15, m)))
    flux = _scaled(plan, spectra.stellar_flux(young, redshift, survey.bands), magnitude)
    return Neighbours(owner, dx, dy, re, rng.uniform(0.3, 1.0, m), rng.uniform(0.0, np.pi, m), flux)


def _draw_partners(
    plan: SimulationPlan, rng: np.random.Generator, objects: Galaxies, magnitude: DoubleArray
) -> Neighbours:
    """The second galaxy of each merger: close, comparably bright, at the same redshift."""
    owner = np.flatnonzero(_is(objects.kind, "merger"))
    m = len(owner)
    distance = rng.uniform(0.8, 3.0, m) / plan.survey.pixel_scale_arcsec
    direction = rng.uniform(0.0, 2.0 * np.pi, m)
    fainter = rng.uniform(0.0, 1.5, m)
    young = np.clip(rng.normal(0.6, 0.2, m), 0.0, 1.0)
    flux = _scaled(
        plan,
        spectra.stellar_flux(young, objects.redshift[owner], plan.survey.bands),
        magnitude[owner] + fainter,
    )
    return Neighbours(
        owner,
        distance * np.cos(direction),
        distance * np.sin(direction),
        objects.disk_re[owner] * rng.uniform(0.4, 0.9, m),
        rng.uniform(0.3, 1.0, m),
        rng.uniform(0.0, np.pi, m),
        flux,
    )


def _scaled(plan: SimulationPlan, flux: DoubleArray, magnitude: DoubleArray) -> DoubleArray:
    """Band fluxes in counts, scaled to a magnitude in the survey's magnitude band."""
    survey = plan.survey
    reference = flux[:, survey.bands.index(survey.magnitude_band)]
    counts = 10.0 ** (-0.4 * (magnitude - survey.zero_point_mag)) / reference
    return np.asarray(flux * counts[:, None])
