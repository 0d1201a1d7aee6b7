"""The compiled convolutions against sums in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.model.winograd import DOUBLE, HALVE, LAST, convolve, plan


def make(n_objects, side, n_in, n_out, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 1.0, (n_objects, side + 2, side + 2, n_in)).astype(np.float32)
    kernel = rng.normal(0.0, np.sqrt(2 / (9 * n_in)), (3, 3, n_in, n_out)).astype(np.float32)
    return x, kernel, rng.normal(0.0, 0.2, n_out).astype(np.float32)


def plain(x, kernel, bias, grow, lo, kept):
    """A convolution by its definition, and what follows it, in float64."""
    side = x.shape[1] - 2
    result = bias.astype(np.float64) + np.zeros((len(x), side, side, 1))
    for i in range(3):
        for j in range(3):
            result += x[:, i : i + side, j : j + side].astype(np.float64) @ kernel[i, j].astype(np.float64)
    if grow != LAST:
        result = np.maximum(result, 0.0)
    if grow == HALVE:
        result = result.reshape(len(x), side // 2, 2, side // 2, 2, -1).max(axis=(2, 4))
    if grow == DOUBLE:
        result = result.repeat(2, axis=1).repeat(2, axis=2)
    return result[:, lo : lo + kept, lo : lo + kept]


def run(x, kernel, bias, grow, lo, kept, pad):
    step = plan(kernel, bias)
    out = np.full((len(x), kept + 2 * pad, kept + 2 * pad, len(bias)), np.nan, np.float32)
    convolve(x, step.kernel, step.bias, grow, lo, pad, out)
    return out


@pytest.mark.parametrize(
    ("side", "n_in", "n_out", "grow", "lo", "kept"),
    [
        (60, 5, 64, HALVE, 0, 30),  # the layers of the paper's network
        (28, 64, 32, HALVE, 0, 14),
        (12, 32, 8, HALVE, 0, 6),
        (4, 8, 8, DOUBLE, 1, 6),
        (4, 32, 64, DOUBLE, 0, 8),
        (6, 64, 5, LAST, 0, 6),
        (64, 64, 5, LAST, 0, 64),  # its last layer without windows
        (62, 5, 64, HALVE, 0, 31),  # tiles hang over the border
        (63, 5, 64, DOUBLE, 3, 121),
        (61, 64, 7, LAST, 0, 61),
        (30, 3, 400, LAST, 0, 30),
        (8, 600, 300, DOUBLE, 1, 14),
        (1, 1, 1, LAST, 0, 1),
        (16, 1, 16, HALVE, 0, 8),  # numbers of channels about one and two vectors
        (16, 2, 15, HALVE, 0, 8),
        (16, 3, 17, HALVE, 0, 8),
        (16, 4, 33, HALVE, 0, 8),
        (16, 6, 1, HALVE, 0, 8),
        (15, 7, 9, DOUBLE, 0, 30),
        (15, 8, 8, LAST, 0, 15),
        (15, 15, 3, LAST, 0, 15),
        (15, 16, 3, LAST, 0, 15),
        (15, 17, 3, LAST, 0, 15),
        (15, 31, 3, LAST, 0, 15),
        (15, 33, 3, LAST, 0, 15),
    ],
)
def test_equals_the_definition(side, n_in, n_out, grow, lo, kept):
    x, kernel, bias = make(3, side, n_in, n_out)
    out = run(x, kernel, bias, grow, lo, kept, 0)
    np.testing.assert_allclose(out, plain(x, kernel, bias, grow, lo, kept), atol=2e-5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from([LAST, DOUBLE, HALVE]), st.data())
@settings(deadline=None, max_examples=60)
def test_any_size_equals_the_definition(side, n_in, n_out, grow, data):
    side *= 2 if grow == HALVE else 1
    full = {HALVE: side // 2, LAST: side, DOUBLE: 2 * side}[grow]
    lo = data.draw(st.integers(0, full - 1)) if grow == DOUBLE else 0
    kept = data.draw(st.integers(1, full - lo)) if grow == DOUBLE else full
    pad = data.draw(st.integers(0, 1))
    x, kernel, bias = make(2, side, n_in, n_out)
    out = run(x, kernel, bias, grow, lo, kept, pad)
    inner = out[:, pad : pad + kept, pad : pad + kept]
    np.testing.assert_allclose(inner, plain(x, kernel, bias, grow, lo, kept), atol=2e-5)
    assert np.isnan(out).sum() == out.size - inner.size  # the border is not touched


@pytest.mark.parametrize(("side", "n_in", "n_out", "grow"), [(12, 5, 64, HALVE), (6, 20, 5, LAST), (4, 8, 9, DOUBLE)])
def test_an_object_does_not_depend_on_its_place_among_others(side, n_in, n_out, grow):
    x, kernel, bias = make(13, side, n_in, n_out)
    kept = {HALVE: side // 2, LAST: side, DOUBLE: 2 * side}[grow]
    together = run(x, kernel, bias, grow, 0, kept, 0)
    for first, last in ((0, 1), (3, 4), (5, 13), (12, 13)):
        assert run(x[first:last], kernel, bias, grow, 0, kept, 0).tobytes() == together[first:last].tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("grow", "n_in"), [(LAST, 40), (LAST, 5), (DOUBLE, 9), (HALVE, 5)])
def test_what_is_not_finite_stays_in_its_object(value, grow, n_in):
    x, kernel, bias = make(3, 28, n_in, 40)
    kept = {HALVE: 14, LAST: 28, DOUBLE: 56}[grow]
    expected = run(x, kernel, bias, grow, 0, kept, 0)
    x[1, 5, 5, 3] = value
    out = run(x, kernel, bias, grow, 0, kept, 0)
    assert np.isnan(out[1]).any()
    assert out[[0, 2]].tobytes() == expected[[0, 2]].tobytes()
