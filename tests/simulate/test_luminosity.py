"""Laws of luminosity: checked by direct integrals, SciPy and astropy, and in the survey that uses them."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from astropy import constants
from astropy.cosmology import FlatLambdaCDM

from swimmy_scale.simulate import KINDS, luminosity, paper_plan
from swimmy_scale.simulate.galaxies import draw_objects
from swimmy_scale.simulate.population import LuminosityFunction

COSMOLOGY = FlatLambdaCDM(70.0, 0.27)
LAW = LuminosityFunction(-21.2, -1.05, mean_colour=0.4)


def density(magnitude: np.ndarray, redshift: float) -> np.ndarray:
    """Schechter's function (1976) times the volume."""
    absolute = magnitude + 0.4 - COSMOLOGY.distmod(redshift).value + 2.5 * np.log10(1.1)
    x = 10.0 ** (-0.4 * (absolute + 21.2))
    return COSMOLOGY.differential_comoving_volume(redshift).value * x**-0.05 * np.exp(-x)


def test_magnitudes_and_redshifts_follow_the_luminosity_function() -> None:
    n = 40_000
    magnitude, redshift = luminosity.draw_galaxies(np.random.default_rng(3), n, LAW, 16.0, 19.4, (0.05, 0.2))
    assert (magnitude >= 16.0).all()
    assert (magnitude <= 19.4).all()
    assert (redshift >= 0.05).all()
    assert (redshift <= 0.2).all()
    mags, shifts = np.linspace(16.0, 19.4, 681), np.linspace(0.05, 0.2, 301)
    grid = np.array([density(mags, z) for z in shifts])
    for values, nodes, marginal in (
        (magnitude, mags, scipy.integrate.simpson(grid, x=shifts, axis=0)),
        (redshift, shifts, scipy.integrate.simpson(grid, x=mags, axis=1)),
    ):
        total = scipy.integrate.cumulative_trapezoid(marginal, nodes, initial=0)
        found = scipy.stats.kstest(values, lambda x, n=nodes, t=total: np.interp(x, n, t / t[-1]))
        assert found.pvalue > 1e-3
    # Near galaxies are bright: the two are drawn together.
    assert scipy.stats.spearmanr(magnitude, redshift).statistic > 0.2


def test_luminosity_is_astropys() -> None:
    magnitude, redshift = 18.0, 0.12
    flux = (magnitude * u.ABmag).to(u.erg / u.s / u.cm**2 / u.Hz)
    distance = COSMOLOGY.luminosity_distance(redshift).to(u.cm)
    expected = (4 * np.pi * distance**2 * flux * constants.c / (6600 * u.AA)).to_value(u.erg / u.s)
    assert luminosity.luminosity(magnitude, redshift) == pytest.approx(expected, rel=2e-3)


def test_type1_nuclei_are_between_the_faintest_known_and_half_of_the_light() -> None:
    n = 5000
    magnitude, redshift = np.full(n, 17.0), np.full(n, 0.1)
    share = luminosity.draw_type1_share(np.random.default_rng(1), magnitude, redshift)
    halpha = share * luminosity.luminosity(magnitude, redshift) * 195.0 / 6563.0
    assert 1e40 <= halpha.min() < 1.01e40
    assert 0.499 < share.max() <= 0.5
    ends = np.log([share.min(), 0.5])
    assert scipy.stats.kstest(np.log(share), "uniform", (ends[0], ends[1] - ends[0])).pvalue > 1e-3


def test_share_within_a_circle_is_the_profiles_integral() -> None:
    r = np.linspace(0.0, 60.0, 600_001)
    disk_re, bulge_re, radius = 2.2, 1.0, 1.5
    profiles = (np.exp(-1.6783469900166605 * r / disk_re), np.exp(-7.669 * (r / bulge_re) ** 0.25))
    inner = [scipy.integrate.trapezoid((p * r)[r <= radius], r[r <= radius]) for p in profiles]
    whole = [scipy.integrate.trapezoid(p * r, r) for p in profiles]
    expected = 0.7 * inner[0] / whole[0] + 0.3 * inner[1] / whole[1]
    found = luminosity.share_within(radius, np.array([disk_re]), np.array([bulge_re]), np.array([0.3]))
    assert found[0] == pytest.approx(expected, rel=0.01)


def test_type2_nuclei_of_the_papers_survey_have_weak_lines_at_the_centre_and_disks_have_their_own() -> None:
    plan = paper_plan(3000, seed=4)
    objects = [draw_objects(plan, part)[0] for part in range(plan.n_parts)]
    kind, z, oiii, disk, nucleus, stars = (
        np.concatenate([getattr(item, name) for item in objects])
        for name in ("kind", "redshift", "ew_hb_oiii", "disk", "nucleus", "bulge")
    )
    narrow = kind == KINDS.index("type2_agn")
    assert narrow.sum() > 20
    assert (oiii[narrow] <= 20.0 * (1 + z[narrow]) / 1.2).all()
    # A line of 20 Angstrom adds at most 1.4% to a band of 1400, and a fibre holds only a part of the galaxy.
    share = (nucleus / (nucleus + disk + stars))[narrow]
    assert (share.max(axis=0) < 0.02).all()
    assert share[:, 1].max() > 0.002
    assert (nucleus[kind == KINDS.index("normal")] == 0).all()
