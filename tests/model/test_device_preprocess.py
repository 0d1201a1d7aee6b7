"""Preprocessing in keras.ops against the one in NumPy, and its matrices against SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.preprocess import SIGMA_PER_FWHM, preprocess, smoothing_matrix
from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.model.device_preprocess import (
    TOLERANCE,
    kernel_widths,
    longest_radius_px,
    preprocess_on_device,
    smoothing_matrices,
)
from swimmy_scale.model.devices import keras

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SMALL = Survey(bands=("g", "i"), selecting_bands=("g",), cutout_size_px=16, band_divisors=(1.0, 1.3),
               min_depth_mag=(25.0, 25.0))  # fmt: skip
TARGET = SMALL.target_fwhm_arcsec


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


def on_device(image, fwhm, survey):
    """What `preprocess` returns, computed by the device's functions."""
    source, finite = preprocess_on_device(image, *kernel_widths(fwhm, survey), survey)
    result, finite = numpy_of(source).copy(), numpy_of(finite)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    result[~finite] = np.nan
    return result


def counts(survey, n, noise, brightness, seed):
    """Galaxies of a peak ``brightness`` with Gaussian ``noise``, both in counts."""
    rng, size = np.random.default_rng(seed), survey.cutout_size_px
    y, x = np.mgrid[:size, :size] - survey.center_px
    profile = np.exp(-np.hypot(x, y) / rng.uniform(0.5, size / 4, (n, 1, 1, 1)))
    colour = rng.uniform(0.3, 1.0, (n, survey.n_bands, 1, 1))
    pixels = brightness * colour * profile + rng.normal(0.0, noise, (n, survey.n_bands, size, size))
    return pixels.astype(np.float32)


def fwhm_of(sigma_px, survey):
    """The seeing that needs a kernel of ``sigma_px``."""
    return np.sqrt(survey.target_fwhm_arcsec**2 - (sigma_px * survey.pixel_scale_arcsec / SIGMA_PER_FWHM) ** 2)


# --- kernels ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 12.0), min_size=1, max_size=5))
@example([0.0, 0.12, 0.125, 0.13])
@example([0.375, 0.625, 0.875, 2.375])
@example([1e-30, 1e-4, 12.0])
@settings(deadline=None, max_examples=60)
def test_matrices_smooth_like_scipy(sigmas):
    sigma = np.array(sigmas)
    radius = (4.0 * sigma + 0.5).astype(np.int32)
    matrices = numpy_of(smoothing_matrices(sigma.astype(np.float32), radius, 16, 48))
    np.testing.assert_allclose(matrices, smoothing_matrix(sigma, 16), rtol=0, atol=3e-7)
    image = np.random.default_rng(1).normal(size=(16, 16))
    for width, matrix in zip(sigmas, matrices.astype(np.float64), strict=True):
        expected = gaussian_filter(image, width, mode="nearest", truncate=4.0) if width > 0 else image
        np.testing.assert_allclose(matrix @ image @ matrix.T, expected, rtol=0, atol=3e-6)


def test_a_kernel_wider_than_the_image_collects_its_tails_at_the_edges():
    matrix = numpy_of(smoothing_matrices(np.float32([30.0]), np.int32([120]), 8, 120))[0]
    np.testing.assert_allclose(matrix, smoothing_matrix(np.array([30.0]), 8)[0], rtol=0, atol=3e-7)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("radius", [1, 2, 5, 9, 10])
def test_the_radius_is_decided_before_sigma_is_rounded(radius):
    edge = (radius - 0.5) / 4.0
    around = np.array([edge - 1e-9, edge + 1e-9])
    assert len(set(around.astype(np.float32))) == 1
    seeing = fwhm_of(around, SMALL)
    assert kernel_widths(np.column_stack([seeing, seeing]), SMALL)[1].tolist() == [[radius - 1] * 2, [radius] * 2]


def test_widths_of_seeing_at_the_target_are_0():
    sigma, radius = kernel_widths(np.array([[TARGET, np.float32(TARGET)]]), SMALL)
    assert (sigma.dtype, radius.dtype) == (np.float32, np.int32)
    assert not sigma.any()
    assert not radius.any()


@pytest.mark.parametrize("survey", [HSC, SMALL, replace(SMALL, pixel_scale_arcsec=0.01)])
def test_no_seeing_asks_for_more_than_the_longest_radius(survey):
    radius = kernel_widths(np.full((1, survey.n_bands), 1e-300), survey)[1]
    assert (radius == longest_radius_px(survey)).all()


# --- pixels ----------------------------------------------------------------------------------------------------------


@given(
    noise=st.sampled_from([0.0, 1e-30, 1e-3, 0.05, 1.0]),
    brightness=st.sampled_from([0.0, 1e-40, 1e-3, 1.0, 300.0, 1e5, 1e20, 3e38]),
    fwhm=st.lists(st.floats(0.3, TARGET), min_size=6, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
@example(noise=0.05, brightness=300.0, fwhm=[TARGET] * 6, seed=0)
@settings(deadline=None, max_examples=80)
def test_pixels_are_those_of_numpy(noise, brightness, fwhm, seed):
    image, seeing = counts(SMALL, 3, noise, brightness, seed), np.reshape(fwhm, (3, 2))
    expected = preprocess(image, seeing, SMALL)
    np.testing.assert_allclose(on_device(image, seeing, SMALL), expected, rtol=0, atol=TOLERANCE)


def test_the_papers_cutouts_are_those_of_numpy():
    image = np.concatenate([counts(HSC, 20, 0.05, 10.0**power, power) for power in range(5)])
    seeing = np.random.default_rng(2).uniform(0.4, 1.0, (100, 5))
    expected = preprocess(image, seeing, HSC)
    assert ((expected > 0.0) & (expected < 1.0)).mean() > 0.5
    np.testing.assert_allclose(on_device(image, seeing, HSC), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1e25, -1e25, 1e-45])
def test_huge_and_tiny_counts_are_those_of_numpy(value):
    image = np.full((1, 2, 16, 16), value, np.float32)
    seeing = np.array([[0.5, 0.9]])
    expected = preprocess(image, seeing, SMALL)
    np.testing.assert_allclose(on_device(image, seeing, SMALL), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_object_with_a_pixel_that_is_not_finite_is_nan_and_disturbs_no_other(value):
    image, seeing = counts(SMALL, 5, 0.05, 30.0, 3), np.full((5, 2), 0.7)
    expected = on_device(image, seeing, SMALL)
    image[1, 1, 15, 0] = value
    image[3] = value
    result = on_device(image, seeing, SMALL)
    assert np.isnan(result[[1, 3]]).all()
    assert np.isnan(preprocess(image, seeing, SMALL)[[1, 3]]).all()
    assert result[[0, 2, 4]].tobytes() == expected[[0, 2, 4]].tobytes()


def test_seeing_that_is_refused():
    with pytest.raises(SwimmyError, match=r"object at row 1, band g: FWHM 1.5 arcsec must be above 0 and at most"):
        kernel_widths(np.array([[0.7, 0.7], [1.5, 0.7]]), SMALL)
