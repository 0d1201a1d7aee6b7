"""Spearman's rank, Kolmogorov and Smirnov's distance and sigmas against naive computations and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.results.paper.statistics import kolmogorov_smirnov, sigma_excess, spearman

small = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


def ranks(values: list[float]) -> list[float]:
    """Mean ranks, by comparing all pairs."""
    return [sum(b < a for b in values) + (sum(b == a for b in values) + 1) / 2 for a in values]


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=25))
def test_spearman_is_pearson_of_the_ranks(pairs: list[tuple[int, int]]) -> None:
    x, y = ([float(pair[k]) for pair in pairs] for k in (0, 1))
    found = spearman(np.array(x), np.array(y))
    assert found.n_objects == len(pairs)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found.rho)
        assert math.isnan(found.p)
        return
    assert found.rho == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1], abs=1e-12)


def test_spearman_leaves_out_what_is_unknown_and_takes_scipys_p() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=50)
    y = 0.4 * x + rng.normal(size=50)
    x32, y32 = x.astype(np.float32), y.astype(np.float32)
    expected = scipy.stats.spearmanr(x32.astype(float), y32.astype(float))
    spoiled = np.append(x32, [np.nan, 1, np.inf]), np.append(y32, [1, np.nan, 1])
    found = spearman(*spoiled)
    assert (found.rho, found.p, found.n_objects) == (expected.statistic, expected.pvalue, 50)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_spearman_of_too_few_is_nan(values: list[float]) -> None:
    found = spearman(np.array(values), np.array(values))
    assert math.isnan(found.rho)
    assert found.n_objects == len(values)


@given(small, small)
@settings(deadline=None)
def test_ks_distance_is_the_largest_gap_of_the_distributions(first: list[float], second: list[float]) -> None:
    found = kolmogorov_smirnov(np.array(first), np.array(second))
    gaps = [
        abs(sum(a <= x for a in first) / len(first) - sum(b <= x for b in second) / len(second)) for x in first + second
    ]
    assert found.statistic == pytest.approx(max(gaps), abs=1e-12)
    assert (found.n_first, found.n_second) == (len(first), len(second))


@pytest.mark.parametrize("n_objects", [900, 1200])
def test_ks_p_is_scipys(n_objects: int) -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=n_objects), rng.normal(0.1, size=60)
    expected = scipy.stats.ks_2samp(first, second)
    found = kolmogorov_smirnov(np.append(first, np.nan), second)
    assert found.p == pytest.approx(expected.pvalue, rel=0.1)
    assert found.statistic == expected.statistic


def test_ks_of_an_empty_sample_is_nan() -> None:
    found = kolmogorov_smirnov(np.array([np.nan]), np.array([1.0]))
    assert math.isnan(found.statistic)
    assert math.isnan(found.p)
    assert (found.n_first, found.n_second) == (0, 1)


def test_sigma_has_the_papers_names_for_the_fractions() -> None:
    reference = np.arange(1.0, 100_000.0)  # 99,999 scores
    # 4,999 reference scores and itself are as high as the first one: 5%, and so on.
    score = np.array([95_001.0, 99_701.0, 99_953.5, 0.0, np.nan])
    sigma = sigma_excess(score, reference)
    assert sigma[0] == pytest.approx(1.96, abs=0.005)
    assert sigma[1] == pytest.approx(2.97, abs=0.005)
    assert sigma[2] == pytest.approx(3.5, abs=0.01)
    assert sigma[3] == 0.0
    assert np.isnan(sigma[4])


def test_sigma_of_a_tie_counts_the_tie_and_the_highest_is_finite() -> None:
    reference = np.array([1.0, 2.0, 2.0, np.nan], np.float32)
    p = [(1 + sum(r >= s for r in (1, 2, 2))) / 4 for s in (2, 3)]
    expected = [scipy.stats.norm.isf(value / 2) for value in p]
    np.testing.assert_allclose(sigma_excess(np.array([2.0, 3.0]), reference), expected)
