"""Selection rates against loops over the objects, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.paper.statistics import (
    binned_rates,
    colour_cut_quality,
    cumulative_rates,
    rate_above,
    wilson_interval,
)

EDGES = np.array([0.0, 1.0, 2.0, 3.0])


def test_bins_by_hand() -> None:
    value = np.array([0.0, 0.5, 1.0, 3.0, 3.1, np.nan, -0.1], np.float32)
    selected = np.array([[1, 0], [0, 0], [1, 1], [0, 1], [1, 1], [1, 1], [1, 1]], bool)
    found = binned_rates(value, selected, EDGES)
    assert found.n_objects.tolist() == [2, 1, 1]
    assert found.n_selected.tolist() == [[1, 0], [1, 1], [0, 1]]
    assert found.rate.tolist() == [[0.5, 0.0], [1.0, 1.0], [0.0, 1.0]]


def test_an_empty_bin_has_no_rate() -> None:
    found = binned_rates(np.array([0.5]), np.array([[True]]), EDGES)
    assert found.n_objects.tolist() == [1, 0, 0]
    assert np.isnan(found.rate[1:]).all()
    assert np.isnan(found.low[1:]).all()
    assert np.isnan(found.high[1:]).all()


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (2, 9), (40, 1000)])
def test_wilsons_interval_is_scipys(k: int, n: int) -> None:
    level = scipy.stats.norm.cdf(1) - scipy.stats.norm.cdf(-1)
    expected = scipy.stats.binomtest(k, n).proportion_ci(level, method="wilson")
    low, high = wilson_interval(np.array([k]), np.array([n]))
    assert low[0] == pytest.approx(expected.low, abs=1e-12)
    assert high[0] == pytest.approx(expected.high, abs=1e-12)


@given(st.lists(st.tuples(st.integers(-3, 6), st.booleans()), max_size=30))
def test_cumulative_rates_are_those_of_a_loop(objects: list[tuple[int, bool]]) -> None:
    value = np.array([float(item[0]) for item in objects] + [np.nan])
    selected = np.array([item[1] for item in objects] + [True])
    found = cumulative_rates(value, selected)
    assert found.value.tolist() == sorted({float(item[0]) for item in objects}, reverse=True)
    n_selected = sum(flag for _, flag in objects)
    for index, limit in enumerate(found.value):
        above = [flag for width, flag in objects if width >= limit]
        assert found.n_selected[index] == sum(above)
        assert found.n_unselected[index] == len(above) - sum(above)
        assert found.rate[index] == pytest.approx(sum(above) / len(above))
        if n_selected:
            assert found.selected[index] == pytest.approx(sum(above) / n_selected)
        else:
            assert np.isnan(found.selected[index])
    if found.value.size and n_selected:
        assert found.selected[-1] == 1.0


def test_the_rate_above_a_limit_leaves_out_the_limit_and_what_is_unknown() -> None:
    value = np.array([100.0, 100.1, 300.0, np.nan])
    assert rate_above(value, np.array([True, True, False, True]), 100.0) == (1, 2)
    assert rate_above(value[:1], np.array([True]), 100.0) == (0, 0)


def test_quality_of_a_colour_cut_by_hand() -> None:
    redshift = np.array([0.1, 0.1, 0.1, 0.05, 0.2, 0.4, 0.5, np.nan])
    kept = np.array([1, 1, 0, 1, 0, 0, 1, 1], bool)
    found = colour_cut_quality(redshift, kept, (0.05, 0.2))
    assert (found.n_objects, found.n_inside, found.n_kept, found.n_inside_kept) == (7, 3, 4, 2)
    assert found.completeness == pytest.approx(2 / 3)
    assert found.removal_rate == pytest.approx(2 / 4)  # 0.2 and 0.4 of 0.05, 0.2, 0.4, 0.5
    assert found.outlier_fraction == pytest.approx(2 / 4)


def test_quality_without_objects_is_unknown() -> None:
    found = colour_cut_quality(np.zeros(0), np.zeros(0, bool), (0.05, 0.2))
    assert np.isnan([found.completeness, found.removal_rate, found.outlier_fraction]).all()


def test_the_papers_three_numbers_belong_together() -> None:
    """Completeness 96.5%, removal 88.6% and outliers 20.9% fix the share of the range among all with a redshift."""
    n_inside, n_outside = 10_000, 22_369
    kept_inside, kept_outside = round(0.965 * n_inside), round(0.114 * n_outside)
    redshift = np.repeat([0.1, 0.5], [n_inside, n_outside])
    kept = np.concatenate([np.arange(n_inside) < kept_inside, np.arange(n_outside) < kept_outside])
    found = colour_cut_quality(redshift, kept, (0.05, 0.2))
    assert found.completeness == pytest.approx(0.965)
    assert found.removal_rate == pytest.approx(0.886, abs=1e-4)
    assert found.outlier_fraction == pytest.approx(0.209, abs=5e-4)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SwimmyError, match=r"shape \(3,\) and selection flags \(2, 1\)"):
        binned_rates(np.zeros(3), np.zeros((2, 1), bool), EDGES)
    with pytest.raises(SwimmyError, match="one row for every object"):
        cumulative_rates(np.zeros(3), np.zeros(2, bool))
