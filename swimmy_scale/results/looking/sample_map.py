"""A map: the density of a sample and some of its objects, by their principal components or by UMAP."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from swimmy_scale.method.descriptor import Moments, principal_axes, scaled
from swimmy_scale.method.survey import DoubleArray, FloatArray, IntArray
from swimmy_scale.results.looking.embedding import embedded
from swimmy_scale.storage.descriptors import feature_blocks, names_of_features
from swimmy_scale.storage.selection import Selection

MapKind = Literal["pca", "umap"]
N_DRAWN = 10_000
"""Objects of the sample that a UMAP is made of, beside those that it places."""
N_COLUMNS, N_ROWS = 160, 100
"""Cells of the density."""
N_NAMED = 3
"""Features by which an axis is told."""
TICKS = (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100)
LINEAR_TICKS = range(-100, 101, 5)
MARGIN = 0.03
"""What is left free around the outermost objects, as a share of the range."""


class Axis(NamedTuple):
    """One axis of the map.

    Attributes
    ----------
    share : float
        Of the variance of the sample's features; NaN for a UMAP.
    weights : tuple of (str, float)
        The features that count most, and their weights; empty for a UMAP.
    low, high : float
        Its ends, on its scale: as arcsinh of the value, or as the value.
    is_linear : bool
        The scale is that of the values, and not their arcsinh.
    """

    share: float
    weights: tuple[tuple[str, float], ...]
    low: float
    high: float
    is_linear: bool = False

    @property
    def ticks(self) -> list[int]:
        """Round values on it."""
        values = LINEAR_TICKS if self.is_linear else TICKS
        return [value for value in values if self.low <= self._scaled(value) <= self.high]

    def place(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        return (self._scaled(value) - self.low) / (self.high - self.low)

    def _scaled(self, value: float) -> float:
        return value if self.is_linear else float(np.arcsinh(value))


@dataclass(frozen=True)
class SampleMap:
    """A sample on two axes, and some of its objects.

    Attributes
    ----------
    counts : ndarray of int64, shape (N_ROWS, N_COLUMNS)
        Objects of the sample in each cell; the first row has the lowest values of the second axis. A UMAP counts some
        of them, at most ``N_DRAWN``.
    axes : tuple of two Axis
        The abscissa and the ordinate.
    place : ndarray of float64, shape (m, 2)
        Values on the axes of the objects that were asked for: in standard deviations of a feature, or UMAP's own.
    values : ndarray of float32, shape (m, k)
        Their standardised features (see `descriptor.standardise`).
    n_sample : int
    has_descriptors : bool
        Whether features are descriptors, or scores and residuals alone.
    kind : {"pca", "umap"}
    """

    counts: IntArray
    axes: tuple[Axis, Axis]
    place: DoubleArray
    values: FloatArray
    n_sample: int
    has_descriptors: bool
    kind: MapKind = "pca"

    @property
    def n_counted(self) -> int:
        """How many objects the density shows."""
        return int(self.counts.sum())


def sample_map(selection: Selection, rows: IntArray, kind: MapKind = "pca") -> SampleMap:
    """Map a sample by its features: by their principal components, or by UMAP.

    Only a block of objects is in memory at a time; the scores are read four times, for a UMAP twice. A UMAP is made of
    the objects that are asked for and of at most ``N_DRAWN`` of the sample, evenly chosen by their place in it; only
    the latter are counted in its density.

    Parameters
    ----------
    rows : ndarray of int64, shape (m,)
        Objects to place on the map, sorted, all of them in the sample.
    kind : {"pca", "umap"}
        "umap" needs what `check_embedding` checks.
    """
    raw = Moments(len(names_of_features(selection)))
    for block in feature_blocks(selection):
        raw.add(block.values[block.in_sample])
    return (_by_umap if kind == "umap" else _by_components)(selection, rows, raw)


def _by_components(selection: Selection, rows: IntArray, raw: Moments) -> SampleMap:
    names = names_of_features(selection)
    moments = Moments(len(names))
    for block in feature_blocks(selection):
        moments.add(scaled(block.values[block.in_sample], raw.mean, raw.spread))
    vectors, share = principal_axes(moments.covariance, 2)
    frame = _Frame(raw, vectors)
    low, high = _ends(frame, selection)
    counts = np.zeros((N_ROWS, N_COLUMNS), np.int64)
    values, places = [np.zeros((0, len(names)), np.float32)], [np.zeros((0, 2))]
    for block in feature_blocks(selection):
        wanted = rows[(rows >= block.lo) & (rows < block.lo + len(block.values))] - block.lo
        values.append(frame.scaled(block.values[wanted]))
        places.append(frame.place(values[-1]))
        counts += _counted(np.arcsinh(frame.place(frame.scaled(block.values[block.in_sample]))), low, high)
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


def _by_umap(selection: Selection, rows: IntArray, raw: Moments) -> SampleMap:
    n_drawn = min(raw.n_rows, N_DRAWN)
    drawn = np.arange(n_drawn) * raw.n_rows // max(n_drawn, 1)  # places in the sample, from 0
    fitted, values, is_drawn, n_before = [], [], [], 0
    for block in feature_blocks(selection):
        inside = np.flatnonzero(block.in_sample)
        chosen = inside[drawn[(drawn >= n_before) & (drawn < n_before + len(inside))] - n_before]
        n_before += len(inside)
        asked = rows[(rows >= block.lo) & (rows < block.lo + len(block.values))] - block.lo
        both = np.union1d(chosen, asked)
        fitted.append(both + block.lo)
        values.append(scaled(block.values[both], raw.mean, raw.spread))
        is_drawn.append(np.isin(both, chosen))
    features = np.concatenate(values)
    place = embedded(features)
    low, high = _with_margin(place.min(axis=0), place.max(axis=0))
    is_asked = np.isin(np.concatenate(fitted), rows)
    axes = [Axis(np.nan, (), float(low[k]), float(high[k]), is_linear=True) for k in range(2)]
    return SampleMap(
        counts=_counted(place[np.concatenate(is_drawn)], low, high),
        axes=(axes[0], axes[1]),
        place=place[is_asked],
        values=features[is_asked],
        n_sample=raw.n_rows,
        has_descriptors=selection.scores.has_descriptors,
        kind="umap",
    )


def _counted(place: DoubleArray, low: DoubleArray, high: DoubleArray) -> IntArray:
    """Objects in each cell, of places on the axes' scales."""
    edges = [np.linspace(low[axis], high[axis], n + 1) for axis, n in ((1, N_ROWS), (0, N_COLUMNS))]
    counts: IntArray = np.histogram2d(place[:, 1], place[:, 0], bins=edges)[0].astype(np.int64)
    return counts


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
    return _with_margin(np.where(low <= high, low, 0.0), np.where(low <= high, high, 0.0))


def _with_margin(low: DoubleArray, high: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    margin = np.maximum(MARGIN * (high - low), 0.1)
    return low - margin, high + margin


def _largest(names: Sequence[str], weights: DoubleArray) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-np.abs(weights), kind="stable")[:N_NAMED]
    return tuple((names[k], float(weights[k])) for k in order.tolist())
