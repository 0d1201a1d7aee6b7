"""Dust in front of quasars' nuclei: as in the published law, and in the survey that has it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
from speclite import filters

from swimmy_scale.simulate import KINDS, paper_plan, spectra
from swimmy_scale.simulate.galaxies import Galaxies, draw_objects

# Effective wavelengths of HSC's bands by the tabulated filters, Angstrom.
NAMES = ("hsc2017-g", "hsc2017-r2", "hsc2017-i2", "hsc2017-z", "hsc2017-y")
WAVES = np.array([filters.load_filter(name).effective_wavelength.value for name in NAMES])


def draw(*, reddened: bool) -> Galaxies:
    """Part of a survey like the paper's, but with many quasars."""
    likely = paper_plan(2000, seed=8)
    population = dataclasses.replace(likely.population, reddened_quasars=reddened)
    plan = dataclasses.replace(likely, quasar_fraction=0.4, faulty_fraction=0.0, population=population)
    return draw_objects(plan, 0)[0]


@pytest.fixture(scope="module")
def dusty() -> Galaxies:
    return draw(reddened=True)


@pytest.fixture(scope="module")
def bare() -> Galaxies:
    return draw(reddened=False)


# Extinction at E(B-V) = 1, by hand: 1.39 lambda^-1.2, lambda in micron.
@pytest.mark.parametrize(("wavelength", "extinction"), [(10_000.0, 1.39), (5_500.0, 2.848), (4_400.0, 3.723)])
def test_extinction_is_that_of_the_small_magellanic_cloud(wavelength: float, extinction: float) -> None:
    assert spectra.dust_extinction(wavelength) == pytest.approx(extinction, abs=0.001)


def test_only_quasars_change(dusty: Galaxies, bare: Galaxies) -> None:
    others = dusty.kind != KINDS.index("quasar")
    assert others.sum() > 200
    for field in dataclasses.fields(Galaxies):
        assert getattr(dusty, field.name)[others].tobytes() == getattr(bare, field.name)[others].tobytes(), field.name
    assert (dusty.nucleus_ebv[others] == 0).all()
    assert (bare.nucleus_ebv == 0).all()


def test_nuclei_have_the_extinction_that_the_truth_names(dusty: Galaxies, bare: Galaxies) -> None:
    quasar = dusty.kind == KINDS.index("quasar")
    assert dusty.flux[quasar, 2] == pytest.approx(bare.flux[quasar, 2], rel=1e-12)
    # The share of the light in i stays; other bands follow the law relative to i.
    contrast = [(item.nucleus / (item.disk + item.bulge))[quasar] for item in (dusty, bare)]
    assert contrast[0][:, 2] == pytest.approx(contrast[1][:, 2], rel=1e-12)
    dimmed = -2.5 * np.log10(contrast[0] / contrast[1])
    rest = WAVES / 1e4 / (1.0 + dusty.redshift[quasar, None])
    law = 1.39 * (rest**-1.2 - rest[:, 2:3] ** -1.2)
    assert dimmed == pytest.approx(dusty.nucleus_ebv[quasar, None] * law, abs=0.02)
    assert (dimmed[:, 0] > 0).sum() > 150


def test_nuclei_are_of_any_colour_between_their_own_and_their_hosts(dusty: Galaxies, bare: Galaxies) -> None:
    quasar = dusty.kind == KINDS.index("quasar")

    def excess(item: Galaxies) -> np.ndarray:
        """How much brighter in g relative to i the nucleus is than its host, in magnitudes."""
        contrast = (item.nucleus / (item.disk + item.bulge))[quasar]
        return np.asarray(2.5 * np.log10(contrast[:, 0] / contrast[:, 2]))

    left = excess(dusty) / excess(bare)
    assert left.min() >= 0.0
    assert scipy.stats.kstest(left, "uniform").pvalue > 0.01
