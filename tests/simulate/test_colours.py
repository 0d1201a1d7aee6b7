"""Colours by luminosity and lines by excitation: as in the published laws, and in the survey that uses them."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
import scipy.stats
from speclite import filters

from swimmy_scale.simulate import KINDS, colours, paper_plan, spectra
from swimmy_scale.simulate.galaxies import Galaxies, draw_objects
from swimmy_scale.simulate.population import LuminosityFunction, Population


@pytest.fixture(scope="module")
def objects() -> list[Galaxies]:
    plan = paper_plan(6000, seed=4)
    return [draw_objects(plan, part)[0] for part in range(plan.n_parts)]


def gather(objects: list[Galaxies], *names: str) -> list[np.ndarray]:
    return [np.concatenate([getattr(item, name) for item in objects]) for name in names]


# M_r - 5 log h, redshift, blue share, mean and rms of the red sequence, of the blue one: Smith et al. 2017, by hand.
LAW = [
    (-22.0, 0.1, 0.32, 0.996, 0.05, 0.8402, 0.08),
    (-20.0, 0.05, 0.46, 0.932, 0.07, 0.6251, 0.12),
    (-18.0, 0.1, 0.85, 0.868, 0.09, 0.4701, 0.15),
    (-20.0, 0.2, 0.46 + 0.12 + 0.005 - 0.06, 0.914, 0.076, 0.6001, 0.14),
    (-16.0, 0.1, 1.0, 0.804, 0.11, 0.4005, 0.15),
    (-27.0, 0.1, 0.0, 1.156, 0.0, 1.39, 0.0),
]


@pytest.mark.parametrize(("magnitude", "redshift", "share", "red", "red_rms", "blue", "blue_rms"), LAW)
def test_sequences_are_those_of_the_law(
    magnitude: float, redshift: float, share: float, red: float, red_rms: float, blue: float, blue_rms: float
) -> None:
    assert colours.blue_share([magnitude], [redshift])[0] == pytest.approx(share, abs=1e-9)
    mean, rms = colours.sequences([magnitude], [redshift])
    assert mean[:, 0] == pytest.approx([red, blue], abs=1e-4)
    assert rms[:, 0] == pytest.approx([red_rms, blue_rms], abs=1e-9)


@pytest.mark.parametrize("young", [0.05, 0.3, 0.5, 0.75, 0.95])
def test_a_galaxy_with_the_young_stars_of_a_colour_has_that_colour(young: float) -> None:
    """Through SDSS's own filters, with a galaxy that is put together here."""
    wave = np.arange(3000.0, 12000.0, 2.0)
    rest = wave / 1.1
    share = np.clip(0.72 - 0.95 * young, 0.0, 1.0)
    disk = spectra.continuum(young, rest) * 10 ** (-0.4 * 0.125 * ((wave / 7700.0) ** -0.7 - 1.0))
    bulge = spectra.continuum(0.35 * young, rest)
    at = np.argmin(abs(wave - 7700.0))
    light = (1 - share) * disk / disk[at] + share * bulge / bulge[at]
    magnitude = filters.load_filters("sdss2010-g", "sdss2010-r").get_ab_magnitudes(
        light * u.Unit("erg / (s cm2 Angstrom)"), wave * u.AA
    )
    colour = float(magnitude["sdss2010-g"][0] - magnitude["sdss2010-r"][0])
    assert colours.young_of_colour(colour) == pytest.approx(young, abs=0.01)


def test_colours_beyond_the_oldest_and_the_youngest_galaxies_count_as_theirs() -> None:
    assert colours.young_of_colour([1.5, -1.0]).tolist() == [0.0, 1.0]


def test_drawn_galaxies_are_on_the_two_sequences() -> None:
    n = 20_000
    absolute, redshift = np.full(n, -20.0), np.full(n, 0.1)
    young = colours.draw_young(np.random.default_rng(5), absolute, redshift)

    def expected(x: np.ndarray) -> np.ndarray:
        """Share of galaxies that are redder than galaxies with these shares of young stars."""
        nodes = np.linspace(0.2, 1.2, 2001)
        shares = colours.young_of_colour(nodes)
        colour = np.interp(x, shares[::-1], nodes[::-1])
        redder = [scipy.stats.norm.sf(colour, mean, rms) for mean, rms in ((0.932, 0.07), (0.6251, 0.12))]
        return np.asarray(0.54 * redder[0] + 0.46 * redder[1])

    inside = (young > 0) & (young < 1)
    found = np.searchsorted(np.sort(young), young[inside], side="right") / n
    assert abs(found - expected(young[inside])).max() < 0.015


def test_faint_galaxies_of_the_papers_survey_are_bluer(objects: list[Galaxies]) -> None:
    kind, young, flux = gather(objects, "kind", "young_fraction", "flux")
    normal, mag = kind == KINDS.index("normal"), 27.0 - 2.5 * np.log10(flux[:, 2])
    red = [float((young[normal & (mag > low) & (mag <= low + 1.0)] < 0.3).mean()) for low in (15.4, 16.4, 17.4, 18.4)]
    assert red == sorted(red, reverse=True)
    assert red[0] > 0.5
    assert red[-1] < 0.35


@pytest.mark.parametrize(
    ("nitrogen", "o3"),
    # [OIII]/Hbeta on the locus, by hand: 1.1 + 0.61 / (log N2 + 0.08).
    [(-1.5, 10 ** (1.1 - 0.61 / 1.42)), (-1.0, 10 ** (1.1 - 0.61 / 0.92)), (-0.4, 10 ** (1.1 - 0.61 / 0.32))],
)
def test_excitation_ratio_is_the_locus_over_a_continuum(nitrogen: float, o3: float) -> None:
    n2 = 10**nitrogen
    lines = (1 + o3 + o3 / 3) / (2.86 * (1 + n2 + n2 / 3))
    level = spectra.continuum(0.9, np.array([6563.0, 4990.0]))
    assert spectra.excitation_ratio(nitrogen, 0.9) == pytest.approx(lines * level[0] / level[1], rel=1e-12)
    assert level[0] < level[1]


def test_xelgs_ratios_are_between_the_ends_that_the_page_names() -> None:
    young = np.linspace(0.85, 1.0, 16)
    ends = spectra.excitation_ratio(-0.4, young).min(), spectra.excitation_ratio(-1.5, young).max()
    assert ends == pytest.approx((0.198, 1.864), abs=0.001)


def test_xelgs_of_the_papers_survey_have_lines_by_excitation(objects: list[Galaxies]) -> None:
    kind, young, oxygen, halpha = gather(objects, "kind", "young_fraction", "ew_hb_oiii", "ew_ha_nii")
    xelg = kind == KINDS.index("xelg")
    ratio = oxygen[xelg] / halpha[xelg]
    assert np.maximum(oxygen, halpha)[xelg].min() >= 100.0
    low, high = spectra.excitation_ratio(-0.4, young[xelg]), spectra.excitation_ratio(-1.5, young[xelg])
    assert ((ratio > low - 1e-9) & (ratio < high + 1e-9)).all()
    assert ratio.min() < 0.4
    assert ratio.max() > 1.0


def test_colours_by_luminosity_need_a_luminosity() -> None:
    with pytest.raises(ValueError, match="colours_by_luminosity needs a luminosity_function"):
        Population(colours_by_luminosity=True)
    law = LuminosityFunction(-21.2, -1.05, mean_colour=0.4)
    assert Population(colours_by_luminosity=True, luminosity_function=law, main_sample_mag=17.4).colours_by_luminosity
