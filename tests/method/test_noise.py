"""The noise-aware score, held to plain sums in float64, finite differences and simulated scatter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.noise import FRAME_SHARE, SIGMA_PER_MAD, frame, noise_score, pixel_noise, source_and_noise
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.method.survey import HSC, Survey

SMALL = Survey(
    bands=("g", "i"),
    selecting_bands=("g",),
    cutout_size_px=16,
    band_divisors=(1.0, 1.3),
    min_depth_mag=(25.0, 25.0),
    aperture_diameter_px=4.0,
)
FWHM = (0.8, 0.7, 0.6, 0.99, 1.0)
SKY = np.array([0.03, 0.04, 0.05, 0.08, 0.15])


def galaxy(survey: Survey, magnitude: float, scale_px: float = 3.0) -> np.ndarray:
    """An exponential disk, redder band by band; counts, float64 (band, y, x)."""
    size = survey.cutout_size_px
    y, x = np.mgrid[:size, :size] - survey.center_px
    profile = np.exp(-np.hypot(x, y) / scale_px)
    flux = 10 ** (-0.4 * (magnitude - 27.0)) * np.linspace(0.5, 1.6, survey.n_bands)
    return flux[:, None, None] * profile / profile.sum()


def noisy(survey: Survey, magnitude: float, n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, survey.n_bands, survey.cutout_size_px, survey.cutout_size_px))
    image = galaxy(survey, magnitude) + noise * SKY[: survey.n_bands, None, None]
    return image.astype(np.float32)


def fwhm_of(n: int, survey: Survey) -> np.ndarray:
    return np.tile(FWHM[: survey.n_bands], (n, 1))


def plain_source(counts: np.ndarray, fwhm: np.ndarray, survey: Survey) -> np.ndarray:
    """Section 2.3 in float64 for one object, written independently."""
    alpha = math.exp(10.0)
    x = np.empty(counts.shape)
    for band in range(survey.n_bands):
        sigma = math.sqrt(1.0 - float(fwhm[band]) ** 2) / (2 * math.sqrt(2 * math.log(2))) / 0.168
        x[band] = gaussian_filter(counts[band], sigma, mode="nearest", truncate=4.0) if sigma else counts[band]
        x[band] *= 10 ** (-0.4 * 8.0) / survey.band_divisors[band]
    mean = x.mean(axis=0)
    return np.clip(np.arcsinh(alpha * mean) / np.arcsinh(alpha) * x / mean + 0.05, 0.0, 1.0)


@pytest.mark.parametrize("magnitude", [17.0, 20.0])
def test_the_variance_is_the_sum_of_squared_derivatives(magnitude: float) -> None:
    """Finite differences: every pixel of every band is moved a little, and the sum over the aperture compared."""
    image, fwhm, step = noisy(SMALL, magnitude, 1)[0].astype(np.float64), fwhm_of(1, SMALL)[0], 1e-4
    inside = SMALL.aperture()
    derivative = np.empty((SMALL.n_bands, *image.shape))
    for at in np.ndindex(image.shape):
        sums = []
        for sign in (1.0, -1.0):
            moved = image.copy()
            moved[at] += sign * step
            sums.append(plain_source(moved, fwhm, SMALL)[:, inside].sum(axis=1))
        derivative[:, *at] = (sums[0] - sums[1]) / (2 * step)
    pixel = pixel_noise(image[None].astype(np.float32), SMALL)[0]
    expected = np.sqrt((derivative**2 * (pixel**2)[None, :, None, None]).sum(axis=(1, 2, 3)))
    source_sum, noise = source_and_noise(image[None].astype(np.float32), fwhm[None], SMALL)
    np.testing.assert_allclose(noise[0], expected, rtol=1e-5)
    np.testing.assert_allclose(source_sum[0], plain_source(image, fwhm, SMALL)[:, inside].sum(axis=1), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("magnitude", [19.0, 21.0])
def test_the_predicted_noise_is_the_scatter_of_simulated_cutouts(magnitude: float) -> None:
    n = 2000
    image, fwhm = noisy(HSC, magnitude, n), fwhm_of(n, HSC)
    sums = preprocess(image, fwhm, HSC)[:, :, HSC.aperture()].sum(axis=2, dtype=np.float64)
    _, noise = source_and_noise(image[:300], fwhm[:300], HSC)
    # The standard deviation of 2,000 sums is known to 1.6%.
    np.testing.assert_allclose(noise.mean(axis=0), sums.std(axis=0), rtol=0.05)


def test_smoothing_makes_noise_smaller() -> None:
    image = noisy(HSC, 20.0, 1)
    sharp, matched = (source_and_noise(image, np.full((1, 5), fwhm), HSC)[1] for fwhm in (0.6, 1.0))
    assert (sharp < matched).all()


def test_pixel_noise_is_that_of_the_sky() -> None:
    image = noisy(HSC, 20.0, 50)
    np.testing.assert_allclose(pixel_noise(image, HSC).mean(axis=0), SKY, rtol=0.02)
    image[:, :, :8, :30] = 50.0  # a neighbour over an eighth of the frame
    np.testing.assert_allclose(pixel_noise(image, HSC).mean(axis=0), SKY, rtol=0.25)
    one = image[3, 2][frame(64)].astype(np.float64)
    expected = SIGMA_PER_MAD * np.median(np.abs(one - np.median(one)))
    assert pixel_noise(image, HSC)[3, 2] == expected
    assert math.isclose(SIGMA_PER_MAD, 1.0 / norm.ppf(0.75), rel_tol=1e-12)


def test_the_frame() -> None:
    assert (FRAME_SHARE, int(frame(64).sum())) == (16, 64**2 - 56**2)
    assert int(frame(16).sum()) == 16**2 - 14**2
    assert not frame(64)[4:60, 4:60].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0, 0), (1, 8, 8)])
def test_a_bad_pixel_makes_its_object_nan_and_no_other(value: float, at: tuple[int, int, int]) -> None:
    image, fwhm = noisy(SMALL, 20.0, 3), fwhm_of(3, SMALL)
    good = source_and_noise(image, fwhm, SMALL)
    image[1, *at] = value
    for found, expected in zip(source_and_noise(image, fwhm, SMALL), good, strict=True):
        assert np.isnan(found[1]).all()
        assert found[[0, 2]].tobytes() == expected[[0, 2]].tobytes()


@pytest.mark.parametrize("fill", [0.0, -3.0, 3e38, -3e38, 1e-30])
def test_flat_and_extreme_cutouts_have_no_noise_and_finite_sums(fill: float) -> None:
    image = np.full((1, 2, 16, 16), fill, np.float32)
    source_sum, noise = source_and_noise(image, fwhm_of(1, SMALL), SMALL)
    assert (noise == 0.0).all()
    expected = preprocess(image, fwhm_of(1, SMALL), SMALL)[:, :, SMALL.aperture()].sum(axis=2)
    np.testing.assert_allclose(source_sum, expected, rtol=1e-5)
    assert np.isfinite(noise_score(np.full((1, 1, 2), 0.1, np.float32), source_sum, noise, 0.02)).all()


def test_what_is_clipped_has_no_noise() -> None:
    image = noisy(SMALL, 20.0, 1) - np.float32(2000.0)
    _, noise = source_and_noise(image, fwhm_of(1, SMALL), SMALL)
    assert (noise == 0.0).all()


@pytest.mark.parametrize("sizes", [(1, 6), (3, 4), (7,), (1,) * 7])
def test_bytes_do_not_depend_on_the_split(sizes: tuple[int, ...]) -> None:
    image, fwhm = noisy(HSC, 20.0, 7), np.random.default_rng(2).uniform(0.5, 1.0, (7, 5))
    whole = source_and_noise(image, fwhm, HSC)
    edges = np.cumsum([0, *sizes])
    parts = [source_and_noise(image[a:b], fwhm[a:b], HSC) for a, b in itertools.pairwise(edges)]
    for index in (0, 1):
        assert np.concatenate([part[index] for part in parts]).tobytes() == whole[index].tobytes()


def test_the_score_is_the_residual_over_its_expected_error() -> None:
    rng = np.random.default_rng(5)
    residual = rng.normal(0.0, 0.5, (4, 3, 2)).astype(np.float32)
    source, noise = rng.uniform(5.0, 20.0, (4, 2)), rng.uniform(0.01, 0.3, (4, 2))
    found = noise_score(residual, source, noise, 0.02)
    assert found.dtype == np.float32
    for n, model, band in np.ndindex(residual.shape):
        r = float(residual[n, model, band])
        reconstruction = source[n, band] - r
        expected = abs(r) / math.sqrt(noise[n, band] ** 2 + (0.02 * reconstruction) ** 2)
        assert found[n, model, band] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_units_of_noise() -> None:
    """Sources that differ from a reconstruction by noise alone score like the absolute value of a Gaussian."""
    n = 2000
    image, fwhm = noisy(HSC, 20.0, n), fwhm_of(n, HSC)
    truth = np.stack([plain_source(galaxy(HSC, 20.0), np.array(FWHM), HSC)])[:, :, HSC.aperture()].sum(axis=2)
    source_sum, noise = source_and_noise(image, fwhm, HSC)
    residual = (source_sum - truth).astype(np.float32)[:, None]
    score = noise_score(residual, source_sum, noise, 1e-6)
    assert np.sqrt(np.mean(score.astype(np.float64) ** 2, axis=0)) == pytest.approx(1.0, rel=0.06)
    # A floor as large as the noise makes the scores sqrt(2) smaller.
    larger = noise_score(residual, source_sum, noise, float((noise / source_sum).mean(axis=0)[1]))
    assert np.mean(larger[:, 0, 1] / score[:, 0, 1]) == pytest.approx(1 / math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_stays_nan(where: int) -> None:
    values = [np.ones((2, 1, 2), np.float32), np.full((2, 2), 9.0), np.full((2, 2), 0.1)]
    values[where][1] = np.nan
    found = noise_score(*values, 0.02)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_no_objects() -> None:
    source_sum, noise = source_and_noise(np.empty((0, 5, 64, 64), np.float32), np.empty((0, 5)), HSC)
    assert noise_score(np.empty((0, 3, 5), np.float32), source_sum, noise, 0.02).shape == (0, 3, 5)


def test_what_does_not_fit_is_refused() -> None:
    image = noisy(SMALL, 20.0, 2)
    with pytest.raises(SwimmyError, match="2 cutouts but 1 rows of fwhm_arcsec"):
        source_and_noise(image, fwhm_of(1, SMALL), SMALL)
    with pytest.raises(SwimmyError, match="cutouts have shape"):
        pixel_noise(image[:, :1], SMALL)
    with pytest.raises(SwimmyError, match=r"FWHM 1.2 arcsec must be above 0"):
        source_and_noise(image, np.full((2, 2), 1.2), SMALL)
    residual, ones = np.ones((2, 1, 2), np.float32), np.ones((2, 2))
    for bad in ((residual[:, 0], ones, ones), (residual, ones[:1], ones[:1]), (residual, ones, ones[:, :1])):
        with pytest.raises(SwimmyError, match=r"residuals have shape .* Give those of the same cutouts"):
            noise_score(*bad, 0.02)
    for floor in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(SwimmyError, match=r"floor .* must be above 0 and finite. Correct score.floor"):
            noise_score(residual, ones, ones, floor)
