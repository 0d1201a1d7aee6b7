"""Mean, median and mean rank over models, held to NumPy and SciPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.ensemble import mean, mean_rank, median, ordered

# Few values, so that many are equal; with both zeros and nearly the largest float32.
VALUES = st.sampled_from([-0.0, 0.0, 1.0, 1.0000001, 2.5, 7.0, 1e-38, 3.4e38])


@st.composite
def scored(draw: Any) -> npt.NDArray[np.float32]:
    """Scores (n, model, band); quarantined objects are NaN for every model."""
    shape = tuple(draw(st.integers(1, top)) for top in (9, 6, 3))
    values = draw(arrays(np.float32, shape, elements=VALUES.map(lambda value: float(np.float32(value)))))
    values[draw(arrays(np.bool_, shape[0]))] = np.nan
    return values


@given(scored())
def test_mean_and_median_are_numpys(values: npt.NDArray[np.float32]) -> None:
    for function, reference in ((mean, np.mean), (median, np.median)):
        found = function(values)
        assert found.dtype == np.float32
        assert found.shape == (values.shape[0], values.shape[2])
        expected = reference(values.astype(np.float64), axis=1)
        np.testing.assert_allclose(found, expected, rtol=2**-23, atol=2**-149)
        assert np.isnan(found).all(axis=1).tolist() == np.isnan(values).any(axis=(1, 2)).tolist()


@given(scored(), st.data())
def test_mean_rank_is_scipys_percentile_of_score(values: npt.NDArray[np.float32], data: st.DataObject) -> None:
    usable = np.isfinite(values).all(axis=(1, 2))
    in_sample = usable & data.draw(arrays(np.bool_, len(values)))
    if not in_sample.any():
        return
    found = mean_rank(values, ordered(values[in_sample]))
    assert found.dtype == np.float32
    for row, band in np.ndindex(found.shape):
        percents = [
            scipy.stats.percentileofscore(values[in_sample, model, band], values[row, model, band], kind="weak")
            for model in range(values.shape[1])
        ]
        np.testing.assert_allclose(found[row, band], np.mean(percents) / 100 if usable[row] else np.nan, rtol=2**-22)
    assert (found[in_sample] > 0).all()
    assert (found[usable] <= 1).all()


@pytest.mark.parametrize(
    ("function", "expected"),
    [(mean, [4.0, 2.0]), (median, [2.0, 1.0]), (lambda v: mean_rank(v, ordered(v)), [5 / 6, 4 / 6])],
)
def test_small_numbers(function: Any, expected: list[float]) -> None:
    """Two objects, three models, one band; their ranks are (1/2, 1, 1) and (1, 1/2, 1/2)."""
    values = np.array([[[1], [2], [9]], [[5], [1], [0]]], np.float32)
    assert function(values)[:, 0].tolist() == np.array(expected, np.float32).tolist()


def test_one_model_is_itself() -> None:
    values = np.random.default_rng(1).random((50, 1, 5), np.float32)
    assert mean(values).tobytes() == median(values).tobytes() == values[:, 0].tobytes()


def test_an_object_does_not_depend_on_the_others() -> None:
    values = np.random.default_rng(2).gamma(2.0, 3.0, (64, 17, 5)).astype(np.float32)
    sample = ordered(values[::2])
    for function in (mean, median, lambda part: mean_rank(part, sample)):
        alone = np.concatenate([function(values[row : row + 1]) for row in range(64)])
        assert function(values).tobytes() == alone.tobytes()


def test_the_mean_of_large_scores_is_taken_in_float64() -> None:
    top = np.finfo(np.float32).max
    values = np.full((1, 5, 1), top, np.float32)
    assert mean(values)[0, 0] == median(values)[0, 0] == top
    small = np.array([[[2.0**24], [1.0], [1.0], [1.0], [1.0]]], np.float32)
    assert mean(small)[0, 0] == np.float32((2**24 + 4) / 5), "float32 would lose the ones"


def test_no_objects() -> None:
    nothing = np.zeros((0, 3, 5), np.float32)
    sample = ordered(np.ones((2, 3, 5), np.float32))
    for found in (mean(nothing), median(nothing), mean_rank(nothing, sample)):
        assert found.shape == (0, 5)


SAMPLE = np.ones((2, 3, 5), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean(SAMPLE[0]), "values have shape (3, 5), need (n_objects, n_models, n_bands)"),
        (lambda: median(SAMPLE[:, :0]), "with at least one model"),
        (lambda: ordered(SAMPLE[:0]), "ranks need a sample without NaN: 0 of its 0 objects"),
        (lambda: ordered(np.where(SAMPLE > 1, SAMPLE, np.float32("nan"))), "2 of its 2 objects have one"),
        (lambda: mean_rank(SAMPLE, ordered(SAMPLE[:, :2])), "the ordered sample (2, 5, 2)"),
        (lambda: mean_rank(SAMPLE, SAMPLE[0]), "Order the sample of the same scores"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(SwimmyError, match=re.escape(message)):
        call()
