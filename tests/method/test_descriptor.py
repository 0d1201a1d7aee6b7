"""Descriptors: rings by their definition, and the nearest objects against a plain sort of all distances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.method import descriptor as module
from swimmy_scale.method.descriptor import (
    FAR,
    LARGEST,
    N_RINGS,
    descriptor,
    feature_names,
    features,
    nearest,
    ring_of_pixel,
    standardised,
)
from swimmy_scale.method.survey import HSC


@pytest.mark.parametrize(
    ("diameter", "pixels"), [(6.0, [4, 8, 20]), (2.0, [0, 0, 4]), (20.0, [32, 104, 180]), (64.0, None)]
)
def test_rings_share_the_aperture_by_distance(diameter: float, pixels: list[int] | None) -> None:
    survey = replace(HSC, aperture_diameter_px=diameter)
    ring = ring_of_pixel(survey)
    assert np.array_equal(ring >= 0, survey.aperture())
    expected = [0] * N_RINGS
    for y in range(64):
        for x in range(64):
            distance = np.hypot(y - 31.5, x - 31.5)
            if distance <= diameter / 2:
                place = min(int(distance / (diameter / 2 / N_RINGS)), N_RINGS - 1)
                expected[place] += 1
                assert ring[y, x] == place
    counts = np.bincount(ring[ring >= 0], minlength=N_RINGS).tolist()
    assert counts == expected
    if diameter <= 6:
        assert counts == pixels


def test_a_descriptor_is_the_mean_of_the_models_in_the_order_of_its_names() -> None:
    parts = np.arange(2 * 3 * 5 * N_RINGS, dtype=np.float32).reshape(2, 3, 5, N_RINGS)
    found = descriptor(parts)
    assert found.dtype == np.float16
    names = feature_names(HSC)
    assert found.shape == (2, len(names)) == (2, 15)
    assert found[1, names.index("residual_r_ring_3")] == np.float16(parts[1, :, 1, 2].mean())
    huge = np.array([1e9, -1e9, np.nan], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(descriptor(huge), [[LARGEST, -LARGEST, np.nan]])


def test_features_are_the_descriptor_or_scores_and_residuals() -> None:
    score, residual = np.array([[100.0, 0.0]], np.float32), np.array([[-1.0, 2.0]], np.float32)
    np.testing.assert_allclose(features(score, residual, None), [[2.0, -9.0, -1.0, 2.0]], rtol=1e-6)
    assert features(score, residual, np.ones((1, 3), np.float16)).tolist() == [[1.0, 1.0, 1.0]]


def test_standardised_features_have_mean_0_and_deviation_1_in_the_sample() -> None:
    values = np.random.default_rng(0).normal(5.0, 3.0, (500, 4)).astype(np.float32)
    values[:, 3] = 7.0  # such as a ring without pixels
    found = standardised(values, values)
    np.testing.assert_allclose(found[:, :3].mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(found[:, :3].std(axis=0), 1.0, atol=1e-5)
    assert (found[:, 3] == 0).all()
    odd = np.array([[1e9, -1e9, np.nan, 7.0]], np.float32)
    np.testing.assert_array_equal(standardised(odd, values), [[FAR, -FAR, np.nan, 0.0]])
    assert standardised(odd, values[:0]) is odd


@given(data=st.data(), n=st.integers(1, 40), n_nearest=st.integers(1, 45), block=st.integers(1, 50))
def test_the_nearest_are_those_of_a_plain_sort(data: st.DataObject, n: int, n_nearest: int, block: int) -> None:
    # Few values, so that many distances are equal.
    numbers = st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), min_size=n, max_size=n)
    values = np.stack([data.draw(numbers), np.arange(n) % 2], axis=1).astype(np.float32)
    row = data.draw(st.integers(0, n - 1))
    values[row, 0] = 1.0
    distance = [np.sqrt(np.square(one - values[row]).mean()) for one in values.astype(float)]
    expected = sorted((d, k) for k, d in enumerate(distance) if k != row and np.isfinite(d))[:n_nearest]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_OBJECTS", block)
        rows, found = nearest(values, row, n_nearest)
    assert rows.tolist() == [k for _, k in expected]
    np.testing.assert_allclose(found, [d for d, _ in expected], rtol=1e-6)
