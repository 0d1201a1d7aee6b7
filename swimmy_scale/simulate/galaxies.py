"""Galaxies, active nuclei and neighbours of the simulated sky, as numbers: no pixel is drawn here.

Ordinary galaxies are a tight family, so that planted objects are unusual: one latent number, the share of young stars
in the disk, sets most of the colour, the bulge fraction and the emission lines, with modest scatter.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.simulate import colours, luminosity, spectra
from swimmy_scale.simulate.fluxes import component_fluxes
from swimmy_scale.simulate.plan import (
    CUTS,
    STREAM_OBJECT,
    SimulationPlan,
    SmallIntArray,
    allocate,
    generator,
    is_of_kind,
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


@dataclass(frozen=True)
class Galaxies:
    """Consecutive catalogue rows. All arrays have shape (n,) unless noted; float64 unless noted.

    Attributes
    ----------
    row, tract, patch_index : ndarray of int64
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
        As of `Galaxies`.
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
    kind, cut = allocate(plan).kind[rows], allocate(plan).cut[rows]
    tract, patch_index = patch_of_rows(plan, rows)
    x, y, ra, dec = positions(plan, tract, patch_index, rng)
    shape = _draw_shapes(plan, rng, kind, cut)
    widths, central = _draw_line_widths(rng, kind, shape, plan.population)
    fluxes = component_fluxes(plan, rng, kind, shape, widths, central)
    objects = Galaxies(
        row=rows,
        tract=tract,
        patch_index=patch_index,
        x=x,
        y=y,
        ra=ra,
        dec=dec,
        kind=kind,
        **{name: shape[name] for name in shape if name not in ("magnitude", "bulge_young")},
        **widths,
        **fluxes,
    )
    return objects, _draw_neighbours(plan, rng, objects, shape["magnitude"])


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
    is_main = is_of_kind(kind, "xelg", "type1_agn", "type2_agn") | (rng.uniform(size=n) < plan.training_fraction)
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
    xelg = is_of_kind(kind, "xelg")
    is_red = (rng.uniform(size=n) < 0.35) & ~xelg & ~is_of_kind(kind, "merger")
    magnitude, redshift = _draw_magnitudes(plan, rng, kind)
    magnitude = np.where(cut == CUTS.index("magnitude"), rng.uniform(20.1, 20.6, n), magnitude)
    if redshift is None:
        # Fainter galaxies lie farther away.
        redshift = 0.05 + 0.15 * rng.beta(1.3 + 0.35 * (magnitude - REDSHIFT_MAG), 1.6)
    far = cut == CUTS.index("redshift")
    redshift = np.where(far, rng.uniform(0.22, 0.4, n), redshift)
    young = _draw_young(plan.population, rng, kind, is_red, far, magnitude, redshift)
    # Earlier types have larger bulges, and bulges have older stars than disks.
    bulge_fraction = np.clip(colours.mean_bulge_fraction(young) + rng.normal(0.0, 0.08, n), 0.0, 0.95)
    bulge_young = np.where(xelg, young, np.clip(colours.mean_bulge_young(young) + rng.normal(0.0, 0.03, n), 0.0, 1.0))

    log_re = 0.18 - 0.13 * (magnitude - 19.2) + rng.normal(0.0, 0.13, n) - np.where(xelg, 0.3, 0.0)
    re = np.where(cut == CUTS.index("extendedness"), 0.03, np.clip(10.0**log_re, 0.25, 5.0))
    disk_q = rng.uniform(0.25, 1.0, n)
    nucleus = np.where(is_of_kind(kind, "quasar"), rng.uniform(0.4, 0.75, n), 0.0)
    if plan.population.type1_by_luminosity:
        type1 = luminosity.draw_type1_share(rng, magnitude, redshift)
    else:
        type1 = rng.uniform(0.1, 0.4, n)
    nucleus = np.where(is_of_kind(kind, "type1_agn"), type1, nucleus)
    wrong = is_of_kind(kind, "artefact_zero_point")
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


def _draw_young(
    population: Population,
    rng: np.random.Generator,
    kind: SmallIntArray,
    is_red: BoolArray,
    far: BoolArray,
    magnitude: DoubleArray,
    redshift: DoubleArray,
) -> DoubleArray:
    """Shares of young stars in the disks; ``far`` are the objects beyond the sample's redshifts, all of them red."""
    n, law = len(kind), population.luminosity_function
    young = np.where(is_red | far, rng.normal(0.10, 0.04, n), rng.normal(0.55, 0.08, n))
    if law is not None and population.colours_by_luminosity:
        # The law's magnitudes are M - 5 log h.
        absolute = luminosity.absolute_magnitude(law, magnitude, redshift) - 5.0 * np.log10(luminosity.COSMOLOGY.h)
        young = np.where(far, young, colours.draw_young(rng, absolute, redshift))
    young = np.where(is_of_kind(kind, "merger"), young + 0.15, young)
    return np.clip(np.where(is_of_kind(kind, "xelg"), rng.uniform(0.85, 1.0, n), young), 0.0, 1.0)


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
    narrow = is_of_kind(kind, "type2_agn")
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
    extreme = is_of_kind(kind, "xelg")
    strong = {
        "ew_oii": lead * rng.uniform(0.2, 0.45, n),
        "ew_hb_oiii": np.where(oxygen_leads, lead, second),
        "ew_ha_nii": np.where(oxygen_leads, second, lead),
    }
    widths = {name: np.where(extreme, strong[name], widths[name]) for name in widths}
    ionised = {"ew_oii": np.zeros(n), "ew_hb_oiii": active, "ew_ha_nii": 0.6 * active}
    nuclear = widths if population.fibre_arcsec is None else ionised
    return widths, {name: np.where(narrow, np.minimum(nuclear[name], widths[name]), 0.0) for name in widths}


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
    owner = np.flatnonzero(is_of_kind(objects.kind, "merger"))
    m = len(owner)
    distance = rng.uniform(0.8, 3.0, m) / plan.survey.pixel_scale_arcsec
    direction = rng.uniform(0.0, 2.0 * np.pi, m)
    fainter = rng.uniform(0.0, 1.5, m)
    young = np.clip(rng.normal(0.6, 0.2, m), 0.0, 1.0)
    stars = spectra.stellar_flux(young, objects.redshift[owner], plan.survey.bands)
    flux = _scaled(plan, stars, magnitude[owner] + fainter)
    dx, dy = distance * np.cos(direction), distance * np.sin(direction)
    re = objects.disk_re[owner] * rng.uniform(0.4, 0.9, m)
    return Neighbours(owner, dx, dy, re, rng.uniform(0.3, 1.0, m), rng.uniform(0.0, np.pi, m), flux)


def _scaled(plan: SimulationPlan, flux: DoubleArray, magnitude: DoubleArray) -> DoubleArray:
    """Band fluxes in counts, scaled to a magnitude in the survey's magnitude band."""
    survey = plan.survey
    reference = flux[:, survey.bands.index(survey.magnitude_band)]
    counts = 10.0 ** (-0.4 * (magnitude - survey.zero_point_mag)) / reference
    return np.asarray(flux * counts[:, None])
