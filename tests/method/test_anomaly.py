"""Equation 6, held to plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.anomaly import score_and_residual
from swimmy_scale.method.limits import RECONSTRUCTION_FLOOR
from swimmy_scale.method.survey import HSC, Survey

SMALL = Survey(
    bands=("g", "r", "i"), cutout_size_px=16, band_divisors=(1.0, 1.0, 1.0), min_depth_mag=(25.0, 25.0, 25.0)
)


def by_loops(source, reconstruction, survey):
    n, n_bands, size, _ = source.shape
    score = np.zeros((n, n_bands))
    residual = np.zeros((n, n_bands))
    centre = (size - 1) / 2
    for obj in range(n):
        for band in range(n_bands):
            for y in range(size):
                for x in range(size):
                    if math.hypot(y - centre, x - centre) <= survey.aperture_diameter_px / 2:
                        s = float(source[obj, band, y, x])
                        r = float(reconstruction[obj, band, y, x])
                        score[obj, band] += ((s - r) / r) ** 2
                        residual[obj, band] += s - r
    return score, residual


def cubes(survey, n=4, seed=1):
    rng = np.random.default_rng(seed)
    shape = (n, survey.n_bands, survey.cutout_size_px, survey.cutout_size_px)
    return rng.uniform(0, 1, shape).astype(np.float32), rng.uniform(1e-3, 1, shape).astype(np.float32)


@pytest.mark.parametrize("survey", [HSC, SMALL], ids=["hsc", "small"])
def test_matches_plain_loops(survey):
    source, reconstruction = cubes(survey)
    score, residual = score_and_residual(source, reconstruction, survey)
    expected_score, expected_residual = by_loops(source, reconstruction, survey)
    assert score.dtype == residual.dtype == np.float32
    np.testing.assert_allclose(score, expected_score, rtol=3e-7)
    np.testing.assert_allclose(residual, expected_residual, rtol=1e-6, atol=1e-6)


def test_is_a_sum_over_32_pixels():
    source = np.full((1, 5, 64, 64), 0.6, np.float32)
    reconstruction = np.full((1, 5, 64, 64), 0.4, np.float32)
    score, residual = score_and_residual(source, reconstruction, HSC)
    np.testing.assert_allclose(score, 32 * 0.25, rtol=1e-6)
    np.testing.assert_allclose(residual, 32 * 0.2, rtol=1e-6)


def test_pixels_outside_the_aperture_do_not_count():
    source, reconstruction = cubes(HSC, 2)
    expected = score_and_residual(source, reconstruction, HSC)
    outside = ~HSC.aperture()
    source[:, :, outside] = 0.123
    reconstruction[:, :, outside] = np.nan
    for got, want in zip(score_and_residual(source, reconstruction, HSC), expected, strict=True):
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_rows_do_not_depend_on_their_neighbours(n):
    source, reconstruction = cubes(HSC, 7)
    whole = score_and_residual(source, reconstruction, HSC)
    parts = [score_and_residual(source[i : i + n], reconstruction[i : i + n], HSC) for i in range(0, 7, n)]
    for which in (0, 1):
        assert np.concatenate([part[which] for part in parts]).tobytes() == whole[which].tobytes()


@pytest.mark.parametrize("tiny", [0.0, 1e-45, np.finfo(np.float32).tiny, 1e-13])
def test_a_vanishing_reconstruction_gives_a_finite_score(tiny):
    source = np.ones((1, 5, 64, 64), np.float32)
    score, residual = score_and_residual(source, np.full_like(source, tiny), HSC)
    np.testing.assert_allclose(score, 32 / RECONSTRUCTION_FLOOR**2, rtol=1e-5)
    np.testing.assert_allclose(residual, 32.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1], ids=["source", "reconstruction"])
def test_not_finite_in_the_aperture_is_nan_for_that_object_and_band(which, value):
    pair = cubes(HSC, 3)
    pair[which][1, 2, 31, 31] = value
    for result in score_and_residual(*pair, HSC):
        assert np.argwhere(np.isnan(result)).tolist() == [[1, 2]]
        assert np.isfinite(result).sum() == 14


def test_no_objects():
    empty = np.empty((0, 5, 64, 64), np.float32)
    assert [result.shape for result in score_and_residual(empty, empty, HSC)] == [(0, 5), (0, 5)]


def test_wrong_shapes_are_refused():
    source, reconstruction = cubes(HSC, 2)
    with pytest.raises(SwimmyError, match=r"source has shape \(2, 5, 64, 64\) and reconstruction \(1, 5, 64, 64\)"):
        score_and_residual(source, reconstruction[:1], HSC)
    with pytest.raises(SwimmyError, match=r"cutouts have shape \(2, 4, 64, 64\)"):
        score_and_residual(source[:, :4], reconstruction[:, :4], HSC)
