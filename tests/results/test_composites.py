"""Composites: which band has which colour; and the scale of residual maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.results.composites import composite, symmetric_limit, three_colours


@pytest.mark.parametrize(
    ("survey", "red_green_blue"),
    [
        (replace(HSC, selecting_bands=("i", "r", "g")), [0.3, 0.2, 0.1]),
        (replace(HSC, selecting_bands=("z",)), [0.3, 0.2, 0.1]),
        (replace(HSC, bands=("u", "B", "V", "R", "I"), selecting_bands=("B", "R", "I"), magnitude_band="R"),
         [0.5, 0.4, 0.2]),
        (replace(HSC, bands=("u", "B", "V", "R", "I"), selecting_bands=("B", "R"), magnitude_band="R"), [0.3] * 3),
    ],
)  # fmt: skip
def test_composites_of_other_surveys(survey: Survey, red_green_blue: list[float]) -> None:
    cube = np.tile(np.array([0.1, 0.2, 0.3, 0.4, 0.5], np.float32)[:, None, None], (1, 64, 64))
    assert composite(cube, survey)[0, 0] == pytest.approx(red_green_blue)


def test_the_reddest_selecting_band_is_red() -> None:
    cube = np.zeros((5, 64, 64), np.float32)
    cube[:, 10, 20] = [0.1, 0.2, 0.3, 0.9, 0.9]
    cube[0, 0, 0], cube[1, 0, 0], cube[2, 0, 0] = 1.5, np.nan, -0.5
    picture = composite(cube, HSC)
    assert picture.shape == (64, 64, 3)
    assert picture[10, 20] == pytest.approx([0.3, 0.2, 0.1])
    assert picture[0, 0].tolist() == [0.0, 0.0, 1.0]


def test_a_neighbour_at_the_edge_does_not_set_the_residual_scale() -> None:
    residual = np.zeros((1, 3, 64, 64))
    residual[..., 16:48, 16:48] = -0.2
    residual[..., :5, :5] = 0.9
    assert symmetric_limit(residual, HSC) == pytest.approx(0.2)
    assert symmetric_limit(residual * 0, HSC) == 0.01
    assert symmetric_limit(residual * np.nan, HSC) == 0.01
    assert symmetric_limit(residual[:0], HSC) == 0.01
    residual = residual.astype(np.float32)
    residual[0, 0, 20, 20] = np.nan
    assert symmetric_limit(residual, HSC) == pytest.approx(0.2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_colours_keep_their_dtype_and_fewer_than_three_are_grey(dtype: type[np.floating]) -> None:
    planes = np.array([0.2, 0.4, np.nan], dtype)[:, None, None, None].repeat(2, axis=1)
    picture = three_colours(planes)
    assert (picture.shape, picture.dtype) == ((2, 1, 1, 3), dtype)
    assert picture[0, 0, 0] == pytest.approx([0.2, 0.4, 0.0])
    assert three_colours(planes[:2])[1, 0, 0] == pytest.approx([0.3] * 3)
    assert three_colours(planes[:1]).dtype == dtype
