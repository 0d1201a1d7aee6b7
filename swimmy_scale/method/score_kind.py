"""What a score is: equation 6 of the paper, or the residual in units of its expected noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swimmy_scale.method.noise import NOISE_VERSION


@dataclass(frozen=True)
class ScoreKind:
    """The kind of a score; scores and thresholds of different kinds cannot be compared.

    Attributes
    ----------
    noise_floor : float or None
        The floor of the noise that the score is in units of (see `method.noise`); None for equation 6.
    """

    noise_floor: float | None = None

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> ScoreKind:
        """The kind that `described` told of; a KeyError, TypeError or ValueError if it is damaged."""
        kind = described.get("score")
        if kind is None:
            return cls()
        if kind["kind"] != "noise":
            raise ValueError(f"score.kind {kind['kind']!r} is not known")
        return cls(float(kind["floor"]))

    @property
    def described(self) -> dict[str, Any]:
        """The kind, for the attributes of a store or file: its ``score``; nothing for equation 6."""
        return {} if self.noise_floor is None else {"score": {"kind": "noise", "floor": self.noise_floor}}

    @property
    def identity(self) -> list[Any]:
        """What scores of this kind depend on."""
        return ["equation 6"] if self.noise_floor is None else ["noise", NOISE_VERSION, self.noise_floor]

    @property
    def long_name(self) -> str:
        """The kind in the words of a store's attributes."""
        if self.noise_floor is None:
            return "anomaly score (equation 6)"
        return "absolute residual in units of its expected noise"

    def __str__(self) -> str:
        """The kind in the words of a message."""
        if self.noise_floor is None:
            return "scores of equation 6"
        return f"noise scores with the floor {self.noise_floor:g}"


EQUATION_6 = ScoreKind()
"""The paper's own."""
