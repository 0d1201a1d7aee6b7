"""The network and its training as a job describes them: sizes and numbers, no Keras (section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import Survey

BATCH_OBJECTS = 256
GPU_BATCH_OBJECTS = 2048
"""Objects of one model call by default. On a GPU these are 168 MB of counts (5 bands of 64 px), which keep it busy."""
CACHE_BATCH_OBJECTS = 8
"""Objects whose layers, a quarter of a MB each, stay together in a processor core's cache."""


@dataclass(frozen=True)
class Network:
    """Architecture of the autoencoder. The defaults are the paper's (section 3.1, figures 3 and 4).

    Attributes
    ----------
    n_bands, cutout_size_px : int
        Shape of the input: (cutout_size_px, cutout_size_px, n_bands), channels last.
    encoder_filters : tuple of int
        Filters of the encoder's convolutions before the last one. The decoder mirrors them.
    latent_filters : int
        Filters of the encoder's last convolution: d in the paper.
    noise : float
        Standard deviation of the Gaussian noise on the input, in training only.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    n_bands: int = 5
    cutout_size_px: int = 64
    encoder_filters: tuple[int, ...] = (64, 32)
    latent_filters: int = 8
    noise: float = 0.02

    def __post_init__(self) -> None:
        problems = []
        for name in ("n_bands", "latent_filters"):
            if getattr(self, name) < 1:
                problems.append(f"{name} {getattr(self, name)} must be 1 or more")
        if any(filters < 1 for filters in self.encoder_filters):
            problems.append(f"encoder_filters must be 1 or more, found {', '.join(map(str, self.encoder_filters))}")
        if self.cutout_size_px < 1 or self.cutout_size_px % 2**self.n_levels:
            problems.append(f"cutout_size_px {self.cutout_size_px} must be a multiple of {2**self.n_levels}")
        if not 0.0 <= self.noise <= 1.0:
            problems.append(f"noise {self.noise} must lie in [0, 1]")
        if problems:
            raise SwimmyError(f"network: {'; '.join(problems)}. Correct the network section of the job.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The network whose ``asdict`` was written as JSON; a TypeError for unknown names."""
        known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**known)

    def check_survey(self, survey: Survey) -> None:
        """Check that the network takes the cutouts of a survey."""
        if (self.n_bands, self.cutout_size_px) != (survey.n_bands, survey.cutout_size_px):
            raise SwimmyError(
                f"the network takes {self.n_bands} bands of {self.cutout_size_px} px, survey {survey.name!r} has "
                f"{survey.n_bands} bands of {survey.cutout_size_px} px. Use a model trained for this survey."
            )

    @property
    def n_levels(self) -> int:
        """How often the encoder halves the image."""
        return len(self.encoder_filters) + 1

    @property
    def convolution_filters(self) -> tuple[int, ...]:
        """Filters of all convolutions, from input to output; the last one makes the bands."""
        encoder = (*self.encoder_filters, self.latent_filters)
        return (*encoder, *reversed(encoder), self.n_bands)


def windows(network: Network, aperture_lo_px: int, aperture_hi_px: int) -> list[tuple[int, int]] | None:
    """Pixels, layer by layer, on which the reconstruction's rows ``aperture_lo_px`` to ``aperture_hi_px`` depend.

    Going backwards, a 3x3 convolution widens [lo, hi) to [lo - 1, hi + 1), a doubling turns it into
    [floor(lo / 2), ceil(hi / 2)), a halving into [2 lo, 2 hi).

    Parameters
    ----------
    aperture_lo_px, aperture_hi_px : int
        Half-open range of rows, and of columns, 0-based.

    Returns
    -------
    list of (int, int), or None
        Half-open ranges to keep: first of the cutout, then of the array after each upsampling. With them all
        convolutions can run with 'valid' padding. None when a window would reach over the border.
    """
    size = network.cutout_size_px
    if not 0 <= aperture_lo_px < aperture_hi_px <= size:
        return None
    lo, hi = aperture_lo_px - 1, aperture_hi_px + 1
    kept: list[tuple[int, int]] = []
    inside = lo >= 0 and hi <= size
    for _ in range(network.n_levels):
        size //= 2
        first, last = lo // 2, (hi + 1) // 2
        kept.append((lo - 2 * first, hi - 2 * first))
        lo, hi = first - 1, last + 1
        inside = inside and lo >= 0 and hi <= size
    for _ in range(network.n_levels):
        size *= 2
        lo, hi = 2 * lo - 1, 2 * hi + 1
        inside = inside and lo >= 0 and hi <= size
    kept.append((lo, hi))
    return kept[::-1] if inside else None


@dataclass(frozen=True)
class Schedule:
    """How the network is trained. The defaults are the paper's (section 3.1), which does not give the batch size.

    Attributes
    ----------
    epochs : int
        Passes over the training objects.
    learning_rate : float
        Of Adam, up to and including epoch ``decay_after_epoch``.
    decayed_learning_rate : float
        Of Adam, after that epoch.
    decay_after_epoch : int
        The last epoch of the first rate. Epochs count from 1.
    batch_size : int
        Objects of one update. The paper does not give it.
    validation_fraction : float
        Part of the objects that only measures ``val_loss``; the paper splits 4 : 1.
    keep_from_epoch : int
        The weights of this and every later epoch are kept as files.
    seed : int
        Source of everything random: first weights, split, order of objects, noise.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    epochs: int = 25
    learning_rate: float = 1e-3
    decayed_learning_rate: float = 2e-4
    decay_after_epoch: int = 10
    batch_size: int = 32
    validation_fraction: float = 0.2
    keep_from_epoch: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        smallest = {"epochs": 1, "batch_size": 1, "keep_from_epoch": 1, "seed": 0, "decay_after_epoch": 0}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                problems.append(f"{name} {getattr(self, name)} must be {least} or more")
        if self.keep_from_epoch > self.epochs:
            problems.append(
                f"keep_from_epoch {self.keep_from_epoch} is above epochs {self.epochs}: nothing would be kept"
            )
        for name in ("learning_rate", "decayed_learning_rate"):
            if not 0.0 < getattr(self, name) < math.inf:
                problems.append(f"{name} {getattr(self, name)} must be positive")
        if not 0.0 < self.validation_fraction < 1.0:
            problems.append(f"validation_fraction {self.validation_fraction} must lie between 0 and 1")
        if problems:
            raise SwimmyError(f"schedule: {'; '.join(problems)}. Correct the training section of the job.")

    def of_run(self, run: int) -> Schedule:
        """The schedule of the training with index ``run``: the same, with the seed ``seed + run``."""
        return replace(self, seed=self.seed + run)

    def n_validation(self, n_objects: int) -> int:
        """How many of all objects only measure ``val_loss``."""
        return max(1, round(n_objects * self.validation_fraction))

    def too_few(self, n_objects: int) -> str:
        """What is wrong with training on so few objects; empty if they are enough."""
        n_training = n_objects - self.n_validation(n_objects)
        if n_training >= 2 * self.batch_size:
            return ""
        return (
            f"{n_objects} training objects leave {n_training} to train on; at least two batches of "
            f"{self.batch_size} are needed. Widen the training class or lower batch_size."
        )

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch; epochs count from 1."""
        return self.learning_rate if epoch <= self.decay_after_epoch else self.decayed_learning_rate
