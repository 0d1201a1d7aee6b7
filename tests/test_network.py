"""The description of network and schedule: the paper's defaults, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from swimmy_scale.errors import SwimmyError
from swimmy_scale.network import Network, Schedule


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
        ({"encoder_filters": (64, 0)}, r"encoder_filters \(64, 0\)"),
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
