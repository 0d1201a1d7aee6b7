"""Radial profiles: rings by a plain loop over pixels, and profiles that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC
from swimmy_scale.results.paper.profiles import radial_profiles, ring_radius, rings

SMALL = replace(HSC, bands=("g", "r"), selecting_bands=("g", "r"), magnitude_band="r", band_divisors=(1.0, 1.0),
                min_depth_mag=(20.0, 20.0), cutout_size_px=16)  # fmt: skip


def by_loop(image: np.ndarray, k: int) -> tuple[float, float]:
    """Mean value and mean radius of ring k of one plane."""
    size = len(image)
    values, distances = [], []
    for y in range(size):
        for x in range(size):
            distance = ((y - (size - 1) / 2) ** 2 + (x - (size - 1) / 2) ** 2) ** 0.5
            if k <= distance < k + 1:
                values.append(float(image[y, x]))
                distances.append(distance)
    return sum(values) / len(values), sum(distances) / len(distances)


def test_profiles_are_the_means_of_a_loop_over_pixels() -> None:
    image = np.random.default_rng(1).normal(size=(3, 2, 16, 16)).astype(np.float32)
    profile, radius = radial_profiles(image, SMALL), ring_radius(SMALL)
    assert profile.shape == (3, 2, 8)
    assert profile.dtype == np.float64
    for k in range(8):
        for n, band in np.ndindex(3, 2):
            value, distance = by_loop(image[n, band], k)
            assert profile[n, band, k] == pytest.approx(value, rel=1e-6)
            assert radius[k] == pytest.approx(distance)


def test_a_linear_cone_has_its_radius_as_its_profile() -> None:
    offset = np.arange(64) - HSC.center_px
    cone = np.hypot(offset[:, None], offset[None, :]).astype(np.float32)
    profile = radial_profiles(np.broadcast_to(cone, (1, 5, 64, 64)), HSC)
    np.testing.assert_allclose(profile[0, 3], ring_radius(HSC), rtol=1e-6)


def test_the_first_ring_is_the_four_pixels_around_the_centre_and_corners_are_in_none() -> None:
    ring = rings(HSC)
    assert (ring == 0).sum() == 4
    assert ring[0, 0] == -1
    assert ring.max() == 31


def test_a_nan_pixel_spoils_its_ring_alone() -> None:
    image = np.ones((1, 2, 16, 16), np.float32)
    image[0, 1, 7, 7] = np.nan
    profile = radial_profiles(image, SMALL)
    assert np.isnan(profile[0, 1, 0])
    assert np.isfinite(profile[0, 1, 1:]).all()
    assert np.isfinite(profile[0, 0]).all()


def test_cutouts_of_another_survey_are_refused() -> None:
    with pytest.raises(SwimmyError, match="Check the survey's bands"):
        radial_profiles(np.ones((1, 2, 16, 16), np.float32), HSC)
