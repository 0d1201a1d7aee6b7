"""Descriptors: rings by their definition, and the nearest objects against a plain sort of all distances."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from swimmy_scale.method import descriptor as module
from swimmy_scale.method.descriptor import (
    FAR,
    LARGEST,
    N_RINGS,
    Moments,
    descriptor,
    feature_names,
    features,
    nearest,
    nearest_of_each,
    principal_axes,
    ring_of_pixel,
    standardise,
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


@pytest.mark.parametrize("block", [1 << 16, 7])
def test_standardised_features_have_mean_0_and_deviation_1_in_the_sample(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_OBJECTS", block)
    values = np.random.default_rng(0).normal(5.0, 3.0, (500, 4)).astype(np.float32)
    values[:, 3] = 7.0  # such as a ring without pixels
    values[1::50] = [1e9, -1e9, np.nan, 7.0]
    in_sample = np.arange(500) % 50 != 1
    given, sample = values.copy(), values[in_sample].astype(float)
    standardise(values, in_sample)
    expected = (sample - sample.mean(axis=0)) / [*sample.std(axis=0)[:3], 1.0]
    np.testing.assert_allclose(values[in_sample], np.clip(expected, -FAR, FAR), rtol=1e-5, atol=1e-5)
    assert (values[in_sample, 3] == 0).all()
    np.testing.assert_array_equal(values[~in_sample], [[FAR, -FAR, np.nan, 0.0]] * 10)
    alone = given[in_sample]
    standardise(alone, np.ones(len(alone), np.bool_))
    assert alone.tobytes() == values[in_sample].tobytes(), "rows between those of the sample change no bit"
    again = given.copy()
    standardise(again, np.zeros(500, np.bool_))
    np.testing.assert_array_equal(again, given)


def test_features_are_standardised_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_OBJECTS", 1 << 9)
    values = np.random.default_rng(1).normal(0, 1, (1 << 15, 15)).astype(np.float32)
    in_sample = np.ones(len(values), np.bool_)
    tracemalloc.start()
    standardise(values, in_sample)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * values.nbytes


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


@settings(max_examples=40)
@given(data=st.data(), n=st.integers(0, 30), n_nearest=st.integers(1, 35))
def test_the_nearest_of_each_are_those_of_one_by_one(data: st.DataObject, n: int, n_nearest: int) -> None:
    numbers = data.draw(st.lists(st.sampled_from([-1.5, 0.0, 1.0, 2.0]), min_size=2 * n, max_size=2 * n))
    values = np.array(numbers, np.float32).reshape(n, 2)
    rows, distance = nearest_of_each(values, n_nearest)
    assert rows.shape == distance.shape == (n, max(min(n_nearest, n - 1), 0))
    for row in range(n):
        expected, far = nearest(values, row, n_nearest)
        assert rows[row].tolist() == expected.tolist()
        np.testing.assert_allclose(distance[row], far, rtol=1e-6)


@given(sizes=st.lists(st.integers(0, 30), max_size=6), shift=st.sampled_from([0.0, 1e4]))
def test_moments_of_blocks_are_those_of_all_rows(sizes: list[int], shift: float) -> None:
    random = np.random.default_rng(sum(sizes))
    blocks = [(shift + random.normal(0, [1, 2, 0], (n, 3))).astype(np.float32) for n in sizes]
    moments = Moments(3)
    for block in blocks:
        moments.add(block)
    rows = np.concatenate([np.zeros((0, 3), np.float32), *blocks]).astype(float)
    assert moments.n_rows == len(rows)
    if len(rows):
        np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(moments.spread, rows.std(axis=0), rtol=1e-7, atol=1e-7)
    else:
        assert not moments.covariance.any()


def test_principal_axes_are_those_of_scikit_learn() -> None:
    rows = np.random.default_rng(3).normal(0, [1, 3, 2, 0.5], (300, 4)) @ np.random.default_rng(4).normal(0, 1, (4, 4))
    axes, share = principal_axes(np.cov(rows.T), 2)
    reference = PCA(2, svd_solver="full").fit(rows)
    np.testing.assert_allclose(np.abs(np.sum(axes * reference.components_, axis=1)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(share, reference.explained_variance_ratio_, rtol=1e-9)
    assert (np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1) > 0).all()
    assert principal_axes(np.zeros((3, 3)), 2)[1].tolist() == [0.0, 0.0]
