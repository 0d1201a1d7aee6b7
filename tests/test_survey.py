"""What a survey is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.survey import HSC, Survey, check_cube


def test_hsc_is_the_papers() -> None:
    assert (HSC.bands, HSC.selecting_bands, HSC.cutout_size_px) == (tuple("grizy"), tuple("gri"), 64)
    assert (HSC.pixel_scale_arcsec, HSC.zero_point_mag, HSC.target_fwhm_arcsec) == (0.168, 27.0, 1.0)
    assert HSC.band_divisors == (1.0, 1.0, 1.0, 1.2, 1.5)


def test_aperture_has_32_pixels_around_the_centre() -> None:
    aperture = HSC.aperture()
    assert aperture.sum() == 32
    y, x = np.nonzero(aperture)
    assert (y.mean(), x.mean()) == (31.5, 31.5)
    inside = [(j, i) for j in range(64) for i in range(64) if ((j - 31.5) ** 2 + (i - 31.5) ** 2) ** 0.5 <= 3.0]
    assert inside == list(zip(y.tolist(), x.tolist(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": ()}, "must be distinct and not empty"),
        ({"bands": ("g", "r", "i", "z")}, "band_divisors has 5 values for 4 bands"),
        ({"selecting_bands": ("u",)}, "band 'u' is not one of"),
        ({"magnitude_band": "x"}, "band 'x' is not one of"),
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
