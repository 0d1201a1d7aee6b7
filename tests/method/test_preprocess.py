"""PSF match and stretch, held to SciPy and to independent float64 arithmetic."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method import preprocess as module
from swimmy_scale.method.preprocess import match_psf, preprocess, smoothing_matrix, smoothing_sigma_px, stretch
from swimmy_scale.method.survey import HSC, Survey

SMALL = Survey(
    bands=("g", "i"),
    selecting_bands=("g",),
    cutout_size_px=16,
    band_divisors=(1.0, 1.3),
    min_depth_mag=(25.0, 25.0),
    aperture_diameter_px=4.0,
)


def reference_sigma(fwhm, target=1.0, scale=0.168):
    return math.sqrt(target**2 - fwhm**2) / (2 * math.sqrt(2 * math.log(2))) / scale


def reference_match(image, fwhm, survey):
    out = np.empty(image.shape)
    for obj, band in np.ndindex(image.shape[:2]):
        sigma = reference_sigma(float(fwhm[obj, band]), survey.target_fwhm_arcsec, survey.pixel_scale_arcsec)
        out[obj, band] = gaussian_filter(image[obj, band].astype(np.float64), sigma, mode="nearest", truncate=4.0)
    return out


def reference_stretch(counts, survey):
    alpha, beta = math.exp(10.0), 0.05
    x = np.asarray(counts, np.float64) * 10 ** (-0.4 * (27.0 - 19.0))
    x = x / np.array(survey.band_divisors)[:, None, None]
    intensity = x.mean(axis=1, keepdims=True)
    zero = intensity == 0
    ratio = np.where(zero, alpha, np.arcsinh(alpha * intensity) / np.where(zero, 1.0, intensity)) / np.arcsinh(alpha)
    return np.clip(ratio * x + beta, 0.0, 1.0)


def galaxies(n=12, seed=3, survey=HSC):
    """Sersic-like objects of 15 to 25 mag on noise; some are saturated, empty or on a negative sky."""
    rng = np.random.default_rng(seed)
    size = survey.cutout_size_px
    y, x = np.mgrid[:size, :size] - survey.center_px
    image = rng.normal(0.0, 0.08, (n, survey.n_bands, size, size))
    for obj in range(n):
        flux = 10 ** (-0.4 * (rng.uniform(15.0, 25.0) - 27.0)) * rng.uniform(0.3, 2.0, (survey.n_bands, 1, 1))
        radius = np.hypot(x, y / rng.uniform(0.3, 1.0)) / rng.uniform(1.0, 6.0)
        profile = np.exp(-(radius ** rng.uniform(0.4, 1.0)))
        image[obj] += flux * profile / profile.sum()
    image[1] -= 0.5
    image[2] = 0.0
    if n > 4:
        image[3, :, 30:34, 30:34] = 60_000.0
        image[4, 0] = -image[4, 1:].sum(axis=0) * 0.999
    return image.astype(np.float32), rng.uniform(0.5, 1.0, (n, survey.n_bands)).astype(np.float32)


def test_sigma_is_the_papers():
    fwhm = np.array([[0.6, 0.8, 1.0, 0.55, 0.7], [0.6, 0.1, 0.99, 1.0, 0.7]])
    expected = [[reference_sigma(value) for value in row] for row in fwhm]
    sigma = smoothing_sigma_px(fwhm, HSC)
    assert sigma.dtype == np.float64
    np.testing.assert_allclose(sigma, expected, rtol=1e-14)
    assert sigma[0, 2] == sigma[1, 3] == 0.0
    # 0.8 arcsec leaves a Gaussian of 0.6 arcsec.
    np.testing.assert_allclose(sigma[0, 1], 0.6 / 2.3548200450309493 / 0.168, rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, 0.0, -0.5, 1.0000001, 2.0, np.inf])
def test_bad_fwhm_is_refused_with_object_band_value_and_limit(value):
    fwhm = np.full((3, 5), 0.7)
    fwhm[1, 2] = value
    match = rf"row 1, band i: FWHM {value} arcsec must be above 0 and at most 1\.0 arcsec \(1 of 3"
    with pytest.raises(SwimmyError, match=match):
        smoothing_sigma_px(fwhm, HSC)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 5, 1)])
def test_fwhm_of_a_wrong_shape_is_refused(shape):
    with pytest.raises(SwimmyError, match="fwhm_arcsec has shape"):
        smoothing_sigma_px(np.full(shape, 0.7), HSC)


@pytest.mark.parametrize("size", [16, 64])
def test_matrix_is_scipys_filter(size):
    sigma = np.array([0.0, 1e-9, 1e-200, 0.124, 0.125, 0.3, 0.8, 1.7, 2.5, 5.0, 30.0])
    image = np.random.default_rng(0).normal(0, 1, (size, size))
    matrix = smoothing_matrix(sigma, size)
    assert matrix.dtype == np.float32
    assert matrix.shape == (len(sigma), size, size)
    for one, row in zip(sigma, matrix.astype(np.float64), strict=True):
        expected = gaussian_filter(image, one, mode="nearest", truncate=4.0) if one > 0 else image
        np.testing.assert_allclose(row @ image @ row.T, expected, atol=1e-6)
        np.testing.assert_allclose(row.sum(axis=1), 1.0, atol=1e-6)
    assert (matrix[0] == np.eye(size)).all()
    assert smoothing_matrix(sigma[:0], size).shape == (0, size, size)


@given(hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(0.0, 12.0)), st.data())
@settings(deadline=None, max_examples=40)
def test_a_matrix_does_not_depend_on_its_neighbours(sigma, data):
    index = data.draw(st.integers(0, len(sigma) - 1))
    alone = smoothing_matrix(sigma[index : index + 1], 32)
    assert smoothing_matrix(sigma, 32)[index].tobytes() == alone[0].tobytes()


@pytest.mark.parametrize("sigma", [np.array([-1.0]), np.array([np.nan]), np.ones((2, 2))])
def test_bad_sigma_is_refused(sigma):
    with pytest.raises(SwimmyError, match=r"sigma_px (?s:.*) 0 or more"):
        smoothing_matrix(sigma, 16)


def test_match_psf_agrees_with_scipy():
    image, fwhm = galaxies()
    expected = reference_match(image, fwhm, HSC)
    matched = match_psf(image, fwhm, HSC)
    assert matched.dtype == np.float32
    scale = np.abs(expected).max(axis=(2, 3), keepdims=True) + 1e-3
    assert (np.abs(matched - expected) / scale).max() < 1e-6


def test_target_fwhm_needs_no_kernel():
    image, fwhm = galaxies(3)
    assert match_psf(image, np.ones_like(fwhm), HSC).tobytes() == image.tobytes()


def test_preprocess_agrees_with_float64():
    image, fwhm = galaxies(24)
    expected = reference_stretch(reference_match(image, fwhm, HSC), HSC)
    result = preprocess(image, fwhm, HSC)
    assert result.dtype == np.float32
    assert result.min() >= 0.0
    assert result.max() <= 1.0
    assert np.abs(result - expected).max() < 1e-5
    assert result.tobytes() == stretch(match_psf(image, fwhm, HSC), HSC).tobytes()
    np.testing.assert_array_equal(result[2], np.float32(0.05))


def test_preprocess_agrees_with_float64_on_real_pixels(shared_data):
    with np.load(shared_data / "hsc_small_cubes" / "hsc_cosmos.npz", allow_pickle=False) as file:
        cube = np.asarray(file["images"], np.float32)
    pad = [(0, 64 - side) if side < 64 else (0, 0) for side in cube.shape[1:]]
    image = np.pad(cube, [(0, 0), *pad], mode="symmetric")[None, :, :64, :64]
    fwhm = np.array([[0.75, 0.71, 0.56, 0.62, 0.68]], np.float32)
    expected = reference_stretch(reference_match(image, fwhm, HSC), HSC)
    assert np.abs(preprocess(image, fwhm, HSC) - expected).max() < 1e-5


@pytest.mark.parametrize("counts", [0.0, 1e-30, -1e-30, 1e-4, -1e-4, 0.03, -0.03, 1.0, -1.0, 100.0, 6e4, -6e4])
def test_stretch_of_a_flat_cutout(counts):
    image = np.full((1, 5, 64, 64), counts, np.float32)
    np.testing.assert_allclose(stretch(image, HSC), reference_stretch(image, HSC), atol=2e-6)


def test_stretch_at_zero_intensity_takes_the_limit():
    """I = 0 with bands that are not 0: equation 1 tends to alpha / arcsinh(alpha) x + beta."""
    image = np.zeros((1, 5, 64, 64), np.float32)
    image[0, 0], image[0, 1] = 0.25, -0.25
    result = stretch(image, HSC)
    limit = math.exp(10) / math.asinh(math.exp(10)) * 0.25 * 10**-3.2
    np.testing.assert_allclose(result[0, 0], limit + 0.05, rtol=1e-5)
    np.testing.assert_allclose(result[0, 1], 0.0)
    np.testing.assert_allclose(result[0, 2], 0.05, rtol=1e-6)


@given(hnp.arrays(np.float32, (2, 2, 16, 16), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
@settings(deadline=None, max_examples=60)
def test_no_nan_comes_out_of_finite_input(image):
    result = preprocess(image, np.array([[0.6, 1.0], [0.9, 0.5]]), SMALL)
    assert ((result >= 0) & (result <= 1)).all()
    faint = replace(SMALL, zero_point_mag=10.0, stretch_zero_point_mag=40.0, stretch_alpha=1e12)
    assert ((stretch(image, faint) >= 0) & (stretch(image, faint) <= 1)).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=25)
def test_bytes_do_not_depend_on_the_split(sizes, seed, shared_patch):
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    image = rng.normal(0.1, 1.0, (n, 2, 16, 16)).astype(np.float32)
    fwhm = rng.choice([0.5, 0.61, 0.8, 1.0], (n, 2)) if shared_patch else rng.uniform(0.4, 1.0, (n, 2))
    whole = preprocess(image, fwhm, SMALL)
    edges = np.cumsum([0, *sizes])
    parts = [preprocess(image[a:b], fwhm[a:b], SMALL) for a, b in itertools.pairwise(edges)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize(("match_block", "stretch_block"), [(1, 1), (3, 2), (128, 8), (7, 100)])
def test_bytes_do_not_depend_on_the_block(monkeypatch, match_block, stretch_block):
    image, fwhm = galaxies(20)
    expected = preprocess(image, fwhm, HSC)
    monkeypatch.setattr(module, "_MATCH_BLOCK_OBJECTS", match_block)
    monkeypatch.setattr(module, "_STRETCH_BLOCK_OBJECTS", stretch_block)
    assert preprocess(image, fwhm, HSC).tobytes() == expected.tobytes()
    assert stretch(match_psf(image, fwhm, HSC), HSC).tobytes() == expected.tobytes()


def test_memory_layout_and_byte_order_do_not_matter():
    image, fwhm = galaxies(3)
    expected = preprocess(image, fwhm, HSC).tobytes()
    assert preprocess(np.asfortranarray(image), fwhm, HSC).tobytes() == expected
    assert preprocess(image.astype(">f4"), fwhm, HSC).tobytes() == expected
    assert preprocess(np.repeat(image, 2, axis=0)[::2], fwhm, HSC).tobytes() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_not_finite_pixel_makes_its_object_nan_and_no_other(value):
    image, fwhm = galaxies(4)
    expected = preprocess(image, fwhm, HSC)
    image[1, 3, 10, 60] = value
    result = preprocess(image, fwhm, HSC)
    assert np.isnan(result[1]).all()
    others = [0, 2, 3]
    assert result[others].tobytes() == expected[others].tobytes()
    image[1] = 1.0
    image[1, 3, 10, 60] = value
    stretched = stretch(image, HSC)
    assert np.argwhere(np.isnan(stretched)).tolist() == [[1, band, 10, 60] for band in range(5)]


def test_out_is_filled_and_input_is_left_alone():
    image, fwhm = galaxies(5)
    before = image.copy()
    out = np.empty_like(image)
    assert preprocess(image, fwhm, HSC, out=out) is out
    assert out.tobytes() == preprocess(image, fwhm, HSC).tobytes()
    assert image.tobytes() == before.tobytes()


def test_out_inside_a_larger_array_is_filled():
    image, fwhm = galaxies(5)
    room = np.zeros((5, 7, 64, 128), np.float32)
    for out in (room[:, 1:6, :, 64:], room[:, 1:6, :, ::2], np.empty_like(image.T).T):
        preprocess(image, fwhm, HSC, out=out)
        assert np.ascontiguousarray(out).tobytes() == preprocess(image, fwhm, HSC).tobytes()


def test_no_objects():
    image, fwhm = np.empty((0, 5, 64, 64), np.float32), np.empty((0, 5), np.float32)
    assert preprocess(image, fwhm, HSC).shape == (0, 5, 64, 64)


def test_wrong_shapes_are_refused():
    image, fwhm = galaxies(5)
    with pytest.raises(SwimmyError, match="5 cutouts but 4 rows"):
        preprocess(image, fwhm[:4], HSC)
    with pytest.raises(SwimmyError, match="cutouts have shape"):
        preprocess(image[:, :3], fwhm, HSC)
    with pytest.raises(SwimmyError, match="in memory of its own"):
        preprocess(image, fwhm, HSC, out=image)
    with pytest.raises(SwimmyError, match=r"out has shape .* float64"):
        preprocess(image, fwhm, HSC, out=np.empty(image.shape))


@pytest.mark.parametrize("target", [0.8, 1.0, 1.1, 1.2])
def test_seeing_equal_to_the_target_needs_no_kernel(target: float) -> None:
    """Even where float32 rounds the stored FWHM above the limit."""
    survey = Survey(target_fwhm_arcsec=target)
    fwhm = np.full((2, survey.n_bands), target, np.float32)
    assert (smoothing_sigma_px(fwhm, survey) == 0.0).all()
