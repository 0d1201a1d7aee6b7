"""Score histograms as in figure 5: counted block by block, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import BoolArray, FloatArray

LOWEST, HIGHEST, FINE_BINS = -10.0, 10.0, 2000
MAX_BINS = 60
FAR_BINS = FINE_BINS // 20  # a factor of 10: what lies beyond it is far from the others


@dataclass
class ScoreCounts:
    """Counts of log10 of the score in fine bins, for each band: all of the sample, and its candidates.

    Attributes
    ----------
    n_bands : int
    sample, selected : ndarray of int64, shape (band, FINE_BINS)
        Bins from 10^LOWEST to 10^HIGHEST; what lies outside counts in the first or last.
    """

    n_bands: int
    sample: npt.NDArray[np.int64] = field(init=False)
    selected: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.sample = np.zeros((self.n_bands, FINE_BINS), np.int64)
        self.selected = np.zeros((self.n_bands, FINE_BINS), np.int64)

    def add(self, score: FloatArray, candidate: BoolArray) -> None:
        """Count more objects of the sample.

        Parameters
        ----------
        score : ndarray of float32, shape (n, band)
            NaN is left out; 0 counts in the first bin.
        candidate : ndarray of bool, shape (n, band)
            At the lowest level.
        """
        with np.errstate(divide="ignore"):
            place = (np.log10(score, dtype=np.float64) - LOWEST) / (HIGHEST - LOWEST) * FINE_BINS  # as `_place`
        known = np.isfinite(score)
        bins = np.clip(np.nan_to_num(place, nan=0.0), 0, FINE_BINS - 1).astype(np.int64)
        for band in range(self.n_bands):
            self.sample[band] += np.bincount(bins[known[:, band], band], minlength=FINE_BINS)
            chosen = known[:, band] & candidate[:, band]
            self.selected[band] += np.bincount(bins[chosen, band], minlength=FINE_BINS)


@dataclass(frozen=True)
class Bar:
    """One bar, in the drawing's units from its upper left corner."""

    x: float
    width: float
    top: float
    height: float


@dataclass(frozen=True)
class Line:
    """A vertical line with its name at a height where it touches no other name."""

    x: float
    name: str
    value: float
    style: str
    label_y: float


@dataclass(frozen=True)
class Chart:
    """One band's histogram, ready to be drawn: counts are on a logarithmic scale."""

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


def charts(
    counts: ScoreCounts,
    bands: Sequence[str],
    selecting: Sequence[str],
    median: npt.NDArray[np.float64],
    threshold: npt.NDArray[np.float64],
    levels: Sequence[str],
) -> list[Chart]:
    """A chart for each band; all have the same axes.

    Parameters
    ----------
    median : ndarray of float64, shape (band,)
        Of the sample.
    threshold : ndarray of float64, shape (level, band)
    levels : sequence of str
    """
    edges = _edges(counts.sample, [*median, *threshold.ravel()])
    coarse = [_coarser(part, edges) for part in (counts.sample, counts.selected)]
    low, high = (LOWEST + edge * (HIGHEST - LOWEST) / FINE_BINS for edge in (edges[0], edges[-1]))
    top = max(int(coarse[0].max(initial=1)), 1) * 1.6
    drawing = _Drawing(low, high, top)
    result = []
    for place, band in enumerate(bands):
        names = [("median", float(median[place]), "median")]
        names += [(level, float(threshold[row, place]), f"level-{row}") for row, level in enumerate(levels)]
        result.append(
            Chart(
                band=band,
                selects=band in selecting,
                n_sample=int(counts.sample[place].sum()),
                n_selected=int(counts.selected[place].sum()),
                sample=drawing.bars(coarse[0][place], edges),
                selected=drawing.bars(coarse[1][place], edges),
                lines=drawing.lines(names),
                x_ticks=drawing.x_ticks(),
                y_ticks=drawing.y_ticks(),
            )
        )
    return result


def _edges(sample: npt.NDArray[np.int64], values: Iterable[float]) -> npt.NDArray[np.int64]:
    """Edges, as indices of fine bins, of some ``MAX_BINS`` wider ones: all values, and all but far outliers."""
    places = [int(_place(math.log10(value))) for value in values if math.isfinite(value) and value > 0]
    total = np.cumsum(sample.sum(axis=0))
    if total[-1]:
        low, high = np.searchsorted(total, [total[-1] * 0.0005, total[-1] * 0.9995]).tolist()
        farthest = int(np.flatnonzero(sample.any(axis=0))[-1])
        places += [low, min(high + FAR_BINS, farthest)]
    inside = [min(max(place, 0), FINE_BINS - 1) for place in places or [FINE_BINS // 2]]
    step = max(-(-(max(inside) - min(inside) + 1) // MAX_BINS), 4)
    start, stop = max(min(inside) - step, 0), min(max(inside) + 2 * step, FINE_BINS)
    return np.arange(start, stop + 1, step, dtype=np.int64)


def _place(log_score: float) -> float:
    """On the scale of fine bins."""
    return (log_score - LOWEST) / (HIGHEST - LOWEST) * FINE_BINS


def _coarser(counts: npt.NDArray[np.int64], edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts (band, bin) between the edges; what lies beyond counts in the end bins, so that no object is hidden."""
    running = np.concatenate([np.zeros((len(counts), 1), np.int64), np.cumsum(counts, axis=1)], axis=1)[:, edges]
    running[:, 0], running[:, -1] = 0, counts.sum(axis=1)
    return np.diff(running, axis=1)


@dataclass(frozen=True)
class _Drawing:
    """Places in the drawing: log10 of the score from ``low`` to ``high``, counts from 0.7 to ``top``."""

    low: float
    high: float
    top: float

    def x(self, log_score: float) -> float:
        share = (log_score - self.low) / (self.high - self.low)
        return round(LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT), 2)

    def y(self, count: float) -> float:
        share = math.log(max(count, 0.7) / 0.7) / math.log(self.top / 0.7)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 2)

    def bars(self, counts: npt.NDArray[np.int64], edges: npt.NDArray[np.int64]) -> tuple[Bar, ...]:
        scale = (HIGHEST - LOWEST) / FINE_BINS
        bars = []
        for index in np.flatnonzero(counts).tolist():
            left, right = (self.x(LOWEST + int(edge) * scale) for edge in edges[index : index + 2])
            top = self.y(int(counts[index]))
            bars.append(Bar(left, round(right - left, 2), top, round(HEIGHT - BOTTOM - top, 2)))
        return tuple(bars)

    def lines(self, names: Sequence[tuple[str, float, str]]) -> tuple[Line, ...]:
        """In order of their place; a name steps up where it would touch the one before."""
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
        whole = range(math.ceil(self.low), math.floor(self.high) + 1)
        step = max(len(whole) // 6, 1)
        return tuple((self.x(value), f"{value}".replace("-", "\N{MINUS SIGN}")) for value in whole[::step])

    def y_ticks(self) -> tuple[tuple[float, str], ...]:
        return tuple((self.y(10**power), f"{10**power:,}") for power in range(int(math.log10(self.top)) + 1))
