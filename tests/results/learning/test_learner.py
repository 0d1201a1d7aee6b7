"""Learning from marks, against SciPy's minimum of the same posterior and its curvature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from swimmy_scale.results.learning.learner import WEIGHT_VARIANCE, rank


def some(n: int = 60, k: int = 3, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features, and who is interesting: mostly those with a large first feature."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, k)).astype(np.float32)
    return values, values[:, 0] + rng.normal(0, 0.7, n) > 0


def test_probability_and_uncertainty_are_those_of_the_posterior() -> None:
    values, truth = some()
    rows, sign = np.arange(20), np.where(truth[:20], 1.0, -1.0)
    design = np.column_stack([values.astype(float), np.ones(len(values))])

    def loss(weights: np.ndarray) -> float:
        fit = np.logaddexp(0.0, -sign * (design[:20] @ weights)).sum()
        return float(fit + np.square(weights[:-1]).sum() / (2 * WEIGHT_VARIANCE))

    best = minimize(loss, np.zeros(4), tol=1e-12).x
    chance = expit(design[:20] @ best)
    curvature = sum(c * (1 - c) * np.outer(x, x) for c, x in zip(chance, design[:20], strict=True))
    covariance = np.linalg.inv(curvature + np.diag([*[1 / WEIGHT_VARIANCE] * 3, 0.01 / WEIGHT_VARIANCE]))
    logit = design @ best
    deviation = np.sqrt([x @ covariance @ x for x in design])
    found = rank(values, rows, truth[:20], np.ones(60, bool))
    np.testing.assert_allclose(found.probability, expit(logit), atol=1e-5)
    half = (expit(logit + deviation) - expit(logit - deviation)) / 2
    np.testing.assert_allclose(found.uncertainty, half, atol=1e-5)
    assert found.order.tolist() == np.argsort(-found.probability, kind="stable").tolist()


def test_the_same_marks_in_any_order_give_the_same_bytes() -> None:
    values, truth = some(200)
    rows = np.arange(30)
    one = rank(values, rows, truth[:30], np.ones(200, bool))
    other = rank(values, rows[::-1].copy(), truth[:30][::-1].copy(), np.ones(200, bool))
    assert [part.tobytes() for part in one] == [part.tobytes() for part in other]


@pytest.mark.parametrize(("is_interesting", "order"), [(True, [0, 1, 2, 4]), (False, [4, 2, 1, 0])])
def test_marks_of_one_kind_order_by_likeness_without_a_probability(is_interesting: bool, order: list[int]) -> None:
    values = np.array([[0.0], [1.0], [2.0], [np.nan], [9.0]], np.float32)
    found = rank(values, np.array([0]), np.array([is_interesting]), np.ones(5, bool))
    assert found.order.tolist() == order
    assert np.isnan(found.probability).all()
    assert np.isnan(found.uncertainty).all()


def test_only_those_that_are_wanted_and_have_features_are_ranked() -> None:
    values, _ = some(10)
    values[4] = np.nan
    wanted = np.arange(10) < 6
    found = rank(values, np.array([7, 8, 9, 0]), np.array([True, False, True, False]), wanted)
    assert sorted(found.order.tolist()) == [0, 1, 2, 3, 5]
    assert np.isfinite(found.probability).tolist() == [True] * 4 + [False, True] + [False] * 4


def test_a_mark_of_each_kind_is_enough_and_extremes_stay_finite() -> None:
    values = np.array([[10.0], [-10.0], [0.0], [0.0]], np.float32)
    found = rank(values, np.array([0, 1]), np.array([True, False]), np.ones(4, bool))
    assert found.order.tolist() == [0, 2, 3, 1], "of equal ones the lower row comes first"
    assert found.probability[2] == pytest.approx(0.5)
    assert ((found.probability >= 0) & (found.probability <= 1) & (found.uncertainty <= 0.5)).all()
