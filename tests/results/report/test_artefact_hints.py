"""Artefact hints: each by its definition, compared with loops, and what they do with what is not finite."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sample import ALL_FLAGS
from swimmy_scale.method.survey import HSC, FloatArray
from swimmy_scale.results.report.artefact_hints import HINTS, artefact_hints

SMALL = dataclasses.replace(HSC, cutout_size_px=16)


def ordinary(n: int = 1) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Counts, source and residual that show no hint."""
    random = np.random.default_rng(4)
    counts = random.normal(0, 0.1, (n, 5, 16, 16)).astype(np.float32)
    return counts, random.uniform(0, 0.9, counts.shape).astype(np.float32), np.ones((n, 5), np.float32)


def shown(counts: FloatArray, source: FloatArray, residual: FloatArray) -> list[set[str]]:
    found = artefact_hints(counts, source, residual, SMALL)
    assert list(found) == list(HINTS)
    return [{name for name, flags in found.items() if flags[row]} for row in range(len(counts))]


def test_an_ordinary_candidate_shows_none() -> None:
    assert shown(*ordinary(2)) == [set(), set()]


@pytest.mark.parametrize(("band", "value", "expected"), [
    (1, -0.1, {"green_halo"}), (1, 0.0, set()), (1, np.nan, set()), (0, -0.1, set()), (2, -9.0, set()),
])  # fmt: skip
def test_green_halo_is_a_negative_r_residual(band: int, value: float, expected: set[str]) -> None:
    counts, source, residual = ordinary()
    residual[0, band] = value
    assert shown(counts, source, residual) == [expected]


@pytest.mark.parametrize(("band", "y", "x", "value", "expected"), [
    (2, 7, 8, 1.0, {"saturated"}), (2, 7, 8, 0.999, set()), (2, 7, 8, np.nan, set()), (1, 7, 8, 1.0, set()),
    (2, 7, 2, 1.0, set()), (2, 5, 7, 1.0, {"saturated"}), (2, 5, 5, 1.0, set()),
])  # fmt: skip
def test_saturation_is_a_clipped_i_pixel_of_the_aperture(
    band: int, y: int, x: int, value: float, expected: set[str]
) -> None:
    counts, source, residual = ordinary()
    source[0, band, y, x] = value
    assert shown(counts, source, residual) == [expected]


@pytest.mark.parametrize("band", range(5))
@pytest.mark.parametrize("line", [np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]], ids=["0", "-1", ":0", ":-1"])
@pytest.mark.parametrize("value", [0.0, -3.5, np.nan, np.inf])
def test_an_edge_is_a_constant_or_unknown_border(band: int, line: tuple[int | slice, ...], value: float) -> None:
    counts, source, residual = ordinary()
    counts[(0, band, *line)] = value
    assert shown(counts, source, residual) == [{"edge"}]
    counts, source, residual = ordinary()
    counts[0, band, 5, :] = value  # inside: a bad row, not an edge, but where it reaches the border it is seen
    assert shown(counts, source, residual) == [set() if np.isfinite(value) else {"edge"}]


@given(st.integers(0, 2**32 - 1))
def test_as_loops_find_them(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 2, (3, 5, 16, 16)).astype(np.float32)
    counts[random.random(counts.shape) < 0.001] = np.nan
    source = random.uniform(0, 1.001, counts.shape).astype(np.float32).clip(0, 1)
    residual = random.normal(size=(3, 5)).astype(np.float32)
    expected = []
    for row in range(3):
        hints = {"green_halo"} if residual[row, 1] < 0 else set()
        inside = [source[row, 2, y, x] for y in range(16) for x in range(16) if (y - 7.5) ** 2 + (x - 7.5) ** 2 <= 9]
        hints |= {"saturated"} if max(inside) == 1 else set()
        for image in counts[row]:
            for line in (image[0], image[-1], image[:, 0], image[:, -1]):
                hints |= {"edge"} if np.isnan(line).any() or len(set(line.tolist())) == 1 else set()
        expected.append(hints)
    assert shown(counts, source, residual) == expected


def test_a_survey_without_the_bands_never_shows_what_needs_them() -> None:
    survey = dataclasses.replace(SMALL, bands=("a", "b", "c", "d", "e"), selecting_bands=("a",), magnitude_band="a")
    counts, source, residual = ordinary()
    source[:], residual[:] = 1.0, -1.0
    assert not any(flags.any() for flags in artefact_hints(counts, source, residual, survey).values())


def test_arrays_of_other_objects_are_refused() -> None:
    counts, source, residual = ordinary(3)
    with pytest.raises(
        SwimmyError, match=r"residual \(2, 5\) do not belong to the same objects; the residual needs \(3, 5\)"
    ):
        artefact_hints(counts, source, residual[:2], SMALL)
    with pytest.raises(SwimmyError, match="Check the survey's bands and cutout_size_px"):
        artefact_hints(counts[:, :4], source, residual, SMALL)


def test_masked_is_the_flag_of_the_store() -> None:
    counts, source, residual = ordinary(3)
    flags = np.array([0, 1 << ALL_FLAGS.index("masked_center"), (1 << ALL_FLAGS.index("masked_center")) - 1], np.uint32)
    found = artefact_hints(counts, source, residual, SMALL, flags)
    assert found["masked"].tolist() == [False, True, False]
