"""A map: the density of a sample along the two directions in which its features vary most, and some of its objects."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from swimmy_scale.method.descriptor import Moments, principal_axes, scaled
from swimmy_scale.method.survey import DoubleArray, FloatArray, IntArray
from swimmy_scale.storage.descriptors import feature_blocks, names_of_features
from swimmy_scale.storage.selection import Selection

N_COLUMNS, N_ROWS = 160, 100
"""Cells of the density."""
N_NAMED = 3
"""Features by which an axis is told."""
TICKS = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100)
MARGIN = 0.03
"""What is left free around the outermost objects, as a share of the range."""


class Axis(NamedTuple):
    """One axis of the map.

    Attributes
    ----------
    share : float
        Of the variance of the sample's features.
    weights : tuple of (str, float)
        The features that count most, and their weights.
    low, high : float
        Its ends, as arcsinh of the value.
    """

    share: float
    weights: tuple[tuple[str, float], ...]
    low: float
    high: float

    @property
    def ticks(self) -> list[int]:
        """Round values on it."""
        return [value for value in TICKS if self.low <= np.arcsinh(value) <= self.high]

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        return float((np.arcsinh(value) - self.low) / (self.high - self.low))


@dataclass(frozen=True)
class SampleMap:
    """A sample on two axes, drawn on an arcsinh scale, and some of its objects.

    Attributes
    ----------
    counts : ndarray of int64, shape (N_ROWS, N_COLUMNS)
        Objects of the sample in each cell; the first row has the lowest values of the second axis.
    axes : tuple of two Axis
        The abscissa and the ordinate.
    place : ndarray of float64, shape (m, 2)
        Values on the axes of the objects that were asked for, in standard deviations of a feature.
    values : ndarray of float32, shape (m, k)
        Their standardised features (see `descriptor.standardised`).
    n_sample : int
    has_descriptors : bool
        Whether features are descriptors, or scores and residuals alone.
    """

    counts: IntArray
    axes: tuple[Axis, Axis]
    place: DoubleArray
    values: FloatArray
    n_sample: int
    has_descriptors: bool


def sample_map(selection: Selection, rows: IntArray) -> SampleMap:
    """Map a sample by the principal components of its features.

    Only a block of objects is in memory at a time; the scores are read four times.

    Parameters
    ----------
    rows : ndarray of int64, shape (m,)
        Objects to place on the map, sorted, all of them in the sample.
    """
    names = names_of_features(selection)
    raw, moments = Moments(len(names)), Moments(len(names))
    for block in feature_blocks(selection):
        raw.add(block.values[block.in_sample])
    for block in feature_blocks(selection):
        moments.add(scaled(block.values[block.in_sample], raw.mean, raw.spread))
    vectors, share = principal_axes(moments.covariance, 2)
    frame = _Frame(raw, vectors)
    low, high = _ends(frame, selection)
    edges = [np.linspace(low[axis], high[axis], n + 1) for axis, n in ((1, N_ROWS), (0, N_COLUMNS))]
    counts = np.zeros((N_ROWS, N_COLUMNS), np.int64)
    values, places = [np.zeros((0, len(names)), np.float32)], [np.zeros((0, 2))]
    for block in feature_blocks(selection):
        wanted = rows[(rows >= block.lo) & (rows < block.lo + len(block.values))] - block.lo
        values.append(frame.scaled(block.values[wanted]))
        places.append(frame.place(values[-1]))
        inside = np.arcsinh(frame.place(frame.scaled(block.values[block.in_sample])))
        counts += np.histogram2d(inside[:, 1], inside[:, 0], bins=edges)[0].astype(np.int64)
    found = [
        Axis(float(share[k]), _largest(names, vectors[k]), float(low[k]), float(high[k])) for k in range(len(vectors))
    ]
    return SampleMap(
        counts=counts,
        axes=(found[0], found[1]),
        place=np.concatenate(places),
        values=np.concatenate(values),
        n_sample=raw.n_rows,
        has_descriptors=selection.scores.has_descriptors,
    )


def density_picture(counts: IntArray) -> bytes:
    """The density as a PNG: grey that is the more opaque, the more objects a cell has, by the logarithm of the number.

    One pixel a cell, the last row of ``counts`` at the top. A cell with an object is never wholly transparent.
    """
    share = np.log1p(counts) / np.log1p(max(int(counts.max(initial=0)), 1))
    opacity = np.where(counts > 0, np.round(40 + 215 * share), 0).astype(np.uint8)[::-1]
    picture = Image.fromarray(np.stack([np.full_like(opacity, 128), opacity], axis=-1), mode="LA")
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


@dataclass(frozen=True)
class _Frame:
    """Where features lie on the axes."""

    raw: Moments
    vectors: DoubleArray

    def scaled(self, values: FloatArray) -> FloatArray:
        return scaled(values, self.raw.mean, self.raw.spread)

    def place(self, values: FloatArray) -> DoubleArray:
        # Not a matrix product, whose last bits may depend on the number of threads.
        found: DoubleArray = np.einsum("ij,kj->ik", values.astype(np.float64), self.vectors)
        return found


def _ends(frame: _Frame, selection: Selection) -> tuple[DoubleArray, DoubleArray]:
    """The ends of both axes, as arcsinh: what holds the whole sample, and a margin."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for block in feature_blocks(selection):
        place = np.arcsinh(frame.place(frame.scaled(block.values[block.in_sample])))
        low = np.minimum(low, place.min(axis=0, initial=np.inf))
        high = np.maximum(high, place.max(axis=0, initial=-np.inf))
    low, high = np.where(low <= high, low, 0.0), np.where(low <= high, high, 0.0)
    margin = np.maximum(MARGIN * (high - low), 0.1)
    return low - margin, high + margin


def _largest(names: Sequence[str], weights: DoubleArray) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-np.abs(weights), kind="stable")[:N_NAMED]
    return tuple((names[k], float(weights[k])) for k in order.tolist())
