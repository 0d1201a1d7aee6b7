"""Network and schedule: the paper's defaults, what is refused, and the windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network, Schedule, windows

SMALL = Network(n_bands=2, cutout_size_px=32, encoder_filters=(6,), latent_filters=3)


def test_defaults_are_the_papers():
    network, schedule = Network(), Schedule()
    assert (network.n_bands, network.cutout_size_px, network.noise) == (5, 64, 0.02)
    assert network.convolution_filters == (64, 32, 8, 8, 32, 64, 5)
    assert network.n_levels == 3
    assert [schedule.rate(epoch) for epoch in (1, 10, 11, 25)] == [1e-3, 1e-3, 2e-4, 2e-4]
    # 30 runs x 16 kept epochs = 480 weight sets.
    assert 30 * len(range(schedule.keep_from_epoch, schedule.epochs + 1)) == 480
    assert schedule.validation_fraction == 0.2


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"n_bands": 0}, "n_bands 0 must be 1 or more"),
        ({"latent_filters": 0}, "latent_filters 0"),
        ({"encoder_filters": (64, 0)}, r"encoder_filters must be 1 or more, found 64, 0"),
        ({"cutout_size_px": 60}, "cutout_size_px 60 must be a multiple of 8"),
        ({"cutout_size_px": 0}, "cutout_size_px 0"),
        ({"noise": -0.1}, r"noise -0\.1 must lie in \[0, 1\]"),
        ({"noise": float("nan")}, "noise nan"),
    ],
)
def test_bad_networks_are_refused(values, match):
    with pytest.raises(SwimmyError, match=match):
        Network(**values)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"epochs": 0}, "epochs 0 must be 1 or more"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"seed": -1}, "seed -1 must be 0 or more"),
        ({"keep_from_epoch": 26}, "keep_from_epoch 26 is above epochs 25"),
        ({"keep_from_epoch": 0}, "keep_from_epoch 0"),
        ({"decay_after_epoch": -1}, "decay_after_epoch -1"),
        ({"learning_rate": 0.0}, r"learning_rate 0\.0 must be positive"),
        ({"decayed_learning_rate": float("inf")}, "decayed_learning_rate inf"),
        ({"validation_fraction": 1.0}, r"validation_fraction 1\.0 must lie between"),
    ],
)
def test_bad_schedules_are_refused(values, match):
    with pytest.raises(SwimmyError, match=match):
        Schedule(**values)


@pytest.mark.parametrize("kind", [Network, Schedule])
def test_a_misspelt_key_in_a_job_is_refused(kind):
    with pytest.raises(ValidationError, match="batchsize"):
        TypeAdapter(kind).validate_python({"batchsize": 3})


def test_windows_of_the_paper():
    kept = windows(Network(), 29, 35)
    assert kept == [(1, 63), (1, 7), (1, 7), (0, 8)]
    # 62 -> 60 | 30 -> 28 | 14 -> 12 | 6 -> 4 | 8: 6 -> 4 | 8: 6 -> 4 | 8 -> 6 px
    (lo, hi), *after = kept
    side, sides = hi - lo, []
    for _ in range(3):
        sides += [side, side - 2]
        side = (side - 2) // 2
    for lo, hi in after:
        sides += [side, side - 2, 2 * (side - 2)]
        assert 0 <= lo < hi <= sides[-1]
        side = hi - lo
    assert [*sides, side, side - 2] == [62, 60, 30, 28, 14, 12, 6, 4, 8, 6, 4, 8, 6, 4, 8, 8, 6]


@pytest.mark.parametrize(
    ("network", "lo", "hi", "covered"),
    [
        (Network(), 29, 35, True),
        (Network(), 28, 36, True),
        (Network(), 20, 44, False),
        (Network(), 0, 64, False),
        (Network(), 0, 6, False),
        (Network(), 58, 64, False),
        (Network(), 30, 30, False),
        (Network(), -1, 5, False),
        (Network(), 60, 65, False),
        (Network(cutout_size_px=32), 13, 19, False),
        (Network(cutout_size_px=128), 61, 67, True),
        (Network(encoder_filters=()), 1, 3, False),
        (Network(encoder_filters=()), 5, 59, True),
        (SMALL, 14, 18, True),
        (replace(SMALL, cutout_size_px=16), 6, 10, False),
    ],
)
def test_windows_are_none_where_the_border_matters(network, lo, hi, covered):
    assert (windows(network, lo, hi) is not None) == covered


@given(st.integers(1, 4), st.integers(1, 16), st.data())
@settings(deadline=None, max_examples=200)
def test_windows_hold_every_pixel_that_matters(n_levels, n_blocks, data):
    """Follows the dependence of the output pixels with sets, where `windows` uses intervals."""
    size = n_blocks * 2**n_levels
    lo = data.draw(st.integers(0, size - 1))
    hi = data.draw(st.integers(lo + 1, size))
    needed = set(range(lo - 1, hi + 1))
    touched = [needed]
    for _ in range(n_levels):
        needed = {pixel // 2 + step for pixel in needed for step in (-1, 0, 1)}
        touched.append(needed)
    for _ in range(n_levels):
        needed = {2 * pixel + half + step for pixel in needed for half in (0, 1) for step in (-1, 0, 1)}
        touched.append(needed)
    sides = [size >> level for level in (*range(n_levels + 1), *range(n_levels - 1, -1, -1))]
    inside = all(min(pixels) >= 0 and max(pixels) < side for pixels, side in zip(touched, sides, strict=True))
    kept = windows(Network(1, size, (1,) * (n_levels - 1), 1), lo, hi)
    assert (kept is not None) == inside
    if kept is not None:
        assert kept[0] == (min(needed), max(needed) + 1)
