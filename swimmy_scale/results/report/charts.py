"""Score histograms of the report, as in figure 5: counts placed on a drawing, for SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swimmy_scale.method.survey import DoubleArray, IntArray
from swimmy_scale.results.histogram import ScoreCounts


@dataclass(frozen=True)
class Bar:
    """One bar; places are in the drawing's units, from its upper left corner."""

    x: float
    width: float
    top: float
    height: float


@dataclass(frozen=True)
class Line:
    """A vertical line, and its name at a height where it touches no other."""

    x: float
    name: str
    value: float
    style: str
    label_y: float


@dataclass(frozen=True)
class Chart:
    """One band's histogram, ready to be drawn; counts are on a logarithmic scale."""

    band: str
    selects: bool
    n_sample: int
    n_selected: int
    sample: tuple[Bar, ...]
    selected: tuple[Bar, ...]
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 256.0, 190.0, 36.0, 8.0, 44.0, 34.0
BOX = {
    "width": WIDTH,
    "height": HEIGHT,
    "left": LEFT,
    "right": WIDTH - RIGHT,
    "top": TOP,
    "floor": HEIGHT - BOTTOM,
}
"""A drawing's size and the sides of its axes."""


def charts(
    counts: ScoreCounts,
    bands: Sequence[str],
    selecting: Sequence[str],
    median: DoubleArray,
    threshold: DoubleArray,
    levels: Sequence[str],
) -> list[Chart]:
    """A chart for each band; all have the same axes.

    Parameters
    ----------
    counts : ScoreCounts
        In fine bins; the charts show wider ones.
    median : ndarray of float64, shape (band,)
        Of the sample.
    threshold : ndarray of float64, shape (level, band)
    """
    wide = counts.widened([*median, *threshold.ravel()])
    drawing = _Drawing(wide.edges, top=max(int(wide.sample.max(initial=1)), 1) * 1.6)
    result = []
    for place, band in enumerate(bands):
        names = [("median", float(median[place]), "median")]
        names += [(level, float(threshold[row, place]), f"level-{row}") for row, level in enumerate(levels)]
        result.append(
            Chart(
                band=band,
                selects=band in selecting,
                n_sample=int(wide.sample[place].sum()),
                n_selected=int(wide.selected[place].sum()),
                sample=drawing.bars(wide.sample[place]),
                selected=drawing.bars(wide.selected[place]),
                lines=drawing.lines(names),
                x_ticks=drawing.x_ticks(),
                y_ticks=drawing.y_ticks(),
            )
        )
    return result


@dataclass(frozen=True)
class _Drawing:
    """Places on the drawing: log10 of the score between the outer ``edges``, counts from 0.7 to ``top``."""

    edges: DoubleArray
    top: float

    def x(self, log_score: float) -> float:
        low, high = float(self.edges[0]), float(self.edges[-1])
        share = (log_score - low) / (high - low)
        return round(LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 2)

    def y(self, count: float) -> float:
        share = math.log(max(count, 0.7) / 0.7) / math.log(self.top / 0.7)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 2)

    def bars(self, counts: IntArray) -> tuple[Bar, ...]:
        bars = []
        for index in np.flatnonzero(counts).tolist():
            left, right = (self.x(edge) for edge in self.edges[index : index + 2].tolist())
            top = self.y(int(counts[index]))
            bars.append(Bar(left, round(right - left, 2), top, round(HEIGHT - BOTTOM - top, 2)))
        return tuple(bars)

    def lines(self, names: Sequence[tuple[str, float, str]]) -> tuple[Line, ...]:
        """From left to right; a name steps up where it would touch the one before."""
        shown = sorted((math.log10(value), name, value, style) for name, value, style in names if value > 0)
        result: list[Line] = []
        for log_value, name, value, style in shown:
            x, label_y = self.x(log_value), TOP - 5
            if result and x - result[-1].x < 46:
                label_y = result[-1].label_y - 12
                label_y = TOP - 5 if label_y < 8 else label_y
            result.append(Line(x, name, value, style, label_y))
        return tuple(result)

    def x_ticks(self) -> tuple[tuple[float, str], ...]:
        whole = range(math.ceil(self.edges[0]), math.floor(self.edges[-1]) + 1)
        step = max(len(whole) // 6, 1)
        return tuple((self.x(value), f"{value}".replace("-", "\N{MINUS SIGN}")) for value in whole[::step])

    def y_ticks(self) -> tuple[tuple[float, str], ...]:
        return tuple((self.y(10**power), f"{10**power:,}") for power in range(int(math.log10(self.top)) + 1))
