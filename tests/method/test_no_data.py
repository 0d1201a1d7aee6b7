"""Pixels without data, against a search of all squares one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.method.no_data import PATCH_PX, without_data
from swimmy_scale.method.survey import HSC, FloatArray


def noise(seed: int = 0, size: int = 64) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 0.03, (size, size)).astype(np.float32)


def naive(plane: FloatArray) -> np.ndarray:
    empty = np.zeros(plane.shape, np.bool_)
    for y in range(plane.shape[0] - PATCH_PX + 1):
        for x in range(plane.shape[1] - PATCH_PX + 1):
            patch = plane[y : y + PATCH_PX, x : x + PATCH_PX]
            saturated = plane.min() < plane.max() == patch[0, 0]
            if (patch == patch[0, 0]).all() and not saturated:
                empty[y : y + PATCH_PX, x : x + PATCH_PX] = True
    return empty


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_values=st.sampled_from([2, 3, 1000]),
    boxes=st.lists(st.tuples(*[st.integers(0, 20)] * 4, st.sampled_from([0.0, -99.0, 0.5, 7.0])), max_size=4),
)
def test_against_every_square(seed: int, n_values: int, boxes: list[tuple[int, int, int, int, float]]) -> None:
    """Images of few values have many equal neighbours, and chance patches."""
    plane = np.random.default_rng(seed).integers(0, n_values, (20, 17)).astype(np.float32)
    for y, x, height, width, value in boxes:
        plane[y : y + height, x : x + width] = value
    found = without_data(plane)
    np.testing.assert_array_equal(found if found is not None else np.zeros(plane.shape, np.bool_), naive(plane))


def test_data() -> None:
    assert without_data(noise()) is None
    assert without_data(np.zeros((3, 3), np.float32)) is None  # smaller than a patch


@pytest.mark.parametrize("value", [0.0, -99.0, 1e30])
def test_a_constant_image(value: float) -> None:
    assert without_data(np.full((64, 64), value, np.float32)).all()


@pytest.mark.parametrize("value", [0.0, -99.0, 0.01])
@pytest.mark.parametrize("region", [np.s_[:, :40], np.s_[:, 60:], np.s_[10:14, 20:24], np.s_[29:35, 29:35]])
def test_padding(value: float, region: tuple[slice, slice]) -> None:
    plane = noise()
    plane[region] = value
    plane[0, 0] = 1.0
    wanted = np.zeros(plane.shape, np.bool_)
    wanted[region] = True
    wanted[0, 0] = False
    found = without_data(plane)
    np.testing.assert_array_equal(found[1:, 1:], wanted[1:, 1:])


def test_a_diagonal_edge() -> None:
    """Beyond the edge of a turned exposure."""
    y, x = np.mgrid[:64, :64]
    plane = np.where(x + y < 60, 0.0, noise()).astype(np.float32)
    found = without_data(plane)
    assert found[x + y < 55].all()
    assert not found[x + y >= 60].any()


def test_a_saturated_core_is_data() -> None:
    plane = noise()
    plane[28:36, 28:36] = 500.0
    plane[10:50, 31:34] = 500.0
    assert without_data(plane) is None


def test_coarse_whole_numbers_are_data() -> None:
    """Noise of half a unit repeats itself, but not over a patch in the aperture."""
    plane = np.random.default_rng(4).normal(0, 1.0, (64, 64)).round().astype(np.float32)
    found = without_data(plane)
    assert found is None or not found[HSC.aperture()].any()
