"""The survey: the paper's defaults, the aperture, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC, Survey, check_cube


def test_hsc_is_the_papers() -> None:
    assert (HSC.bands, HSC.selecting_bands, HSC.cutout_size_px) == (tuple("grizy"), tuple("gri"), 64)
    assert (HSC.pixel_scale_arcsec, HSC.zero_point_mag, HSC.target_fwhm_arcsec) == (0.168, 27.0, 1.0)
    assert HSC.band_divisors == (1.0, 1.0, 1.0, 1.2, 1.5)
    assert (HSC.stretch_alpha, HSC.stretch_beta) == (np.exp(10.0), 0.05)
    assert (HSC.stretch_zero_point_mag, HSC.aperture_diameter_px) == (19.0, 6.0)
    assert HSC.min_depth_mag == (25.82, 25.49, 25.23, 24.47, 23.59)
    assert HSC.magnitude_band == "i"
    assert (HSC.n_bands, HSC.center_px) == (5, 31.5)


def test_bands_have_positions() -> None:
    assert HSC.band_index(("i", "g")) == [2, 0]
    assert HSC.band_index(()) == []
    with pytest.raises(ValueError, match="not in tuple"):
        HSC.band_index(("u",))


def test_a_survey_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HSC.name = "other"  # type: ignore[misc]


def test_no_depth_limit_is_nan() -> None:
    assert np.isnan(Survey(min_depth_mag=(np.nan,) * 5).min_depth_mag).all()


def test_aperture_has_32_pixels_around_the_centre() -> None:
    aperture = HSC.aperture()
    assert aperture.sum() == 32
    y, x = np.nonzero(aperture)
    assert (y.mean(), x.mean()) == (31.5, 31.5)
    inside = [(j, i) for j in range(64) for i in range(64) if ((j - 31.5) ** 2 + (i - 31.5) ** 2) ** 0.5 <= 3.0]
    assert inside == list(zip(y.tolist(), x.tolist(), strict=True))


@settings(deadline=None, max_examples=30)
@given(half=st.integers(8, 40).map(lambda eighths: 4 * eighths), diameter=st.floats(1.5, 16.0))
def test_any_aperture_is_a_centred_disc(half: int, diameter: float) -> None:
    survey = Survey(cutout_size_px=2 * half, aperture_diameter_px=diameter)
    aperture = survey.aperture()
    assert aperture.shape == (2 * half, 2 * half)
    assert aperture.dtype == np.bool_
    assert np.array_equal(aperture, aperture.T)
    assert np.array_equal(aperture, aperture[::-1, ::-1])
    # The area may differ only by the pixels that the circle crosses.
    assert abs(aperture.sum() - np.pi * diameter**2 / 4) <= np.pi * diameter * np.sqrt(2) + 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": ()}, "must be distinct and not empty"),
        ({"bands": ("g", "r", "i", "z")}, "band_divisors has 5 values for 4 bands"),
        ({"selecting_bands": ("u",)}, "band 'u' is none of bands: g, r"),
        ({"magnitude_band": "x"}, "band 'x' is none of bands: g, r"),
        ({"bands": ("g", "g", "i", "z", "y")}, "must be distinct and not empty"),
        ({"min_depth_mag": (25.0,)}, "min_depth_mag has 1 values for 5 bands"),
        ({"cutout_size_px": 8}, "cutout_size_px 8 must be a multiple of 8, at least 16"),
        ({"stretch_alpha": float("inf")}, "stretch_alpha inf must be positive"),
        ({"aperture_diameter_px": float("nan")}, "aperture_diameter_px nan must lie within 64 px"),
        ({"aperture_diameter_px": 0.0}, "aperture_diameter_px 0.0 must lie within 64 px"),
        (
            {"name": "X", "cutout_size_px": 60, "selecting_bands": ("u",)},
            "^survey 'X': band 'u' .*; cutout_size_px 60 .*Correct the survey section of the job.$",
        ),
        ({"selecting_bands": ()}, "selecting_bands must be distinct and not empty, found"),
        ({"selecting_bands": ("g", "g")}, "selecting_bands must be distinct and not empty, found"),
        ({"stretch_beta": float("nan")}, "stretch_beta nan must be finite"),
        ({"zero_point_mag": float("inf")}, "zero_point_mag inf must be finite"),
        ({"stretch_zero_point_mag": float("nan")}, "stretch_zero_point_mag nan must be finite"),
        ({"cutout_size_px": 60}, "cutout_size_px 60 must be a multiple of 8"),
        ({"pixel_scale_arcsec": 0.0}, "pixel_scale_arcsec 0.0 must be positive"),
        ({"target_fwhm_arcsec": float("nan")}, "target_fwhm_arcsec nan must be positive"),
        ({"band_divisors": (1.0, 1.0, 1.0, 1.0, -1.0)}, "must be positive"),
        ({"aperture_diameter_px": 65.0}, "aperture_diameter_px 65.0 must lie within 64 px"),
    ],
)
def test_impossible_surveys_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        Survey(**change)


def test_a_cube_of_another_shape_is_refused() -> None:
    check_cube(np.zeros((0, 5, 64, 64)), HSC)
    with pytest.raises(SwimmyError, match=r"cutouts have shape \(2, 64, 64, 5\), survey 'HSC-SSP wide' needs"):
        check_cube(np.zeros((2, 64, 64, 5)), HSC)
    for shape in ((5, 64, 64), (2, 4, 64, 64), (2, 5, 63, 64)):
        with pytest.raises(SwimmyError, match="Check the survey's bands and cutout_size_px"):
            check_cube(np.zeros(shape), HSC)
