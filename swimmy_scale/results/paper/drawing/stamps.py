"""Pixels of objects: figures 2, 6, 7, 8, 14, 17 and 19 of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from swimmy_scale.method.survey import DoubleArray, FloatArray, Survey
from swimmy_scale.results.composites import composite, symmetric_limit, three_colours
from swimmy_scale.results.style import (
    BLUE,
    INK,
    MUTED,
    RESIDUAL_COLOURS,
    SKY,
    WIDTH_IN,
    legend_below,
    new_figure,
    paper_style,
    tidy,
)

_GAP_PX = 3
# Objects of each kind that have a line of their own in figure 8.
_MAX_LINES = 60


@dataclass(frozen=True)
class StampGroup:
    """Objects that are shown side by side.

    Attributes
    ----------
    title : str
    source, reconstruction : ndarray of float32, shape (m, n_bands, y, x), in [0, 1]
    sigma : ndarray of float64, shape (m, n_bands), optional
        Printed on the residual of each band.
    """

    title: str
    source: FloatArray
    reconstruction: FloatArray
    sigma: DoubleArray | None = None


@paper_style()
def stamps(groups: Sequence[StampGroup], bands: Sequence[str], survey: Survey, *, n_columns: int) -> Figure:
    """Figures 6, 7 and 17: composites of source and reconstruction, and the residual in each band.

    Residuals are source - reconstruction, red for an excess, on one scale for the whole figure.

    Parameters
    ----------
    groups : sequence of StampGroup
        Shown one below the other.
    bands : sequence of str
        Bands whose residuals are shown.
    n_columns : int
        The page has room for this many objects of a group.
    """
    n_places = max(n_columns, 8)
    size = (WIDTH_IN - 1.3) / n_places
    index = survey.band_index(bands)
    residuals = [group.source[:, index] - group.reconstruction[:, index] for group in groups]
    limit = max((symmetric_limit(residual, survey) for residual in residuals), default=0.01)
    figure = new_figure(sum((2 + len(bands)) * size + 0.28 for _ in groups) + 0.3)
    panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, group, residual in zip(panels, groups, residuals, strict=True):
        rows = [[composite(cube, survey) for cube in cubes] for cubes in (group.source, group.reconstruction)]
        rows += [[_coloured(stamp, limit) for stamp in residual[:, k]] for k in range(len(bands))]
        names = ["source", "reconstruction", *(f"{band} residual" for band in bands)]
        _draw_mosaic(axes, rows, names, n_places, survey.cutout_size_px)
        axes.set_title(group.title, fontsize=8, loc="left", color=INK, pad=3)
        if group.sigma is not None:
            _write_sigma(axes, group.sigma[:n_columns, index], survey.cutout_size_px)
    scale = ScalarMappable(Normalize(-limit, limit), RESIDUAL_COLOURS)
    bar = figure.colorbar(scale, ax=list(panels), fraction=0.02, pad=0.01, aspect=40, extend="both")
    bar.ax.tick_params(labelsize=6)
    bar.set_label("source − reconstruction", fontsize=7)
    return figure


def _coloured(residual: npt.NDArray[np.floating], limit: float) -> DoubleArray:
    """RGB of a residual map on a symmetric scale."""
    colours = matplotlib.colormaps[RESIDUAL_COLOURS](Normalize(-limit, limit, clip=True)(residual))
    return np.asarray(colours, np.float64)[..., :3]


def _draw_mosaic(
    axes: Axes, rows: Sequence[Sequence[DoubleArray]], names: Sequence[str], n_columns: int, size: int
) -> None:
    """Stamps as one picture, since hundreds of axes would take minutes to lay out; ``names`` of rows may be empty."""
    step = size + _GAP_PX
    canvas = np.ones((len(rows) * step - _GAP_PX, n_columns * step - _GAP_PX, 3))
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures[:n_columns]):
            # The y axis of a cutout goes up, that of a picture goes down.
            canvas[row * step : row * step + size, column * step : column * step + size] = picture[::-1]
    axes.imshow(canvas, interpolation="auto", aspect="equal")
    axes.set_anchor("W")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([row * step + size / 2 for row in range(len(names))], names)
    axes.tick_params(left=False, labelsize=6.5)
    if not any(len(pictures) for pictures in rows):
        axes.text(0.02, 0.5, "none", transform=axes.transAxes, color=MUTED, va="center")


def _write_sigma(axes: Axes, sigma: DoubleArray, size: int) -> None:
    step = size + _GAP_PX
    for column, row in np.ndindex(sigma.shape):
        if np.isfinite(sigma[column, row]):
            place = (column * step + size - 2, (row + 2) * step + 3)
            axes.text(*place, f"{sigma[column, row]:.1f}", fontsize=4.5, color=INK, ha="right", va="top")


@paper_style()
def stretch(linear: DoubleArray, stretched: FloatArray, survey: Survey) -> Figure:
    """Figure 2: one object in each band, scaled linearly and stretched, and composites of neighbouring bands.

    Parameters
    ----------
    linear : ndarray of float64, shape (n_bands, y, x)
        Fluxes; each band is shown from 0 to its own 99.5th percentile in the middle of the cutout.
    stretched : ndarray of float32, shape (n_bands, y, x), in [0, 1]
        After equations 1 and 2.
    """
    n_bands, size = survey.n_bands, survey.cutout_size_px
    quarter = size // 4
    scaled = []
    for plane in linear:
        top = float(np.nanpercentile(plane[quarter:-quarter, quarter:-quarter], 99.5))
        scaled.append(np.clip(plane / max(top, np.finfo(np.float64).tiny), 0, 1))
    starts = range(max(n_bands - 2, 1))
    composites = [three_colours(stretched[start : start + 3][::-1].astype(np.float64)) for start in starts]
    names = ["".join(survey.bands[start : start + 3]) for start in starts]
    figure = new_figure(3 * min((WIDTH_IN - 0.9) / n_bands, 1.3) + 0.9)
    for axes, head, pictures, texts in zip(
        figure.subplots(3, 1),
        ("linear", "arcsinh", "composite"),
        ([_grey(plane) for plane in scaled], [_grey(plane) for plane in stretched], composites),
        (survey.bands, survey.bands, names),
        strict=True,
    ):
        _draw_mosaic(axes, [pictures], [head], n_bands, size)
        for column, text in enumerate(texts):
            middle = column * (size + _GAP_PX) + size / 2
            axes.text(middle, -2, text, ha="center", va="bottom", fontsize=8, color=INK)
    return figure


def _grey(plane: npt.NDArray[np.floating]) -> DoubleArray:
    return np.repeat(plane.astype(np.float64)[..., None], 3, axis=-1)


@paper_style()
def gallery(titles: Sequence[str], sources: Sequence[FloatArray], survey: Survey) -> Figure:
    """Figures 14 and 19: composites of the most anomalous objects, a block for each band, the strangest first.

    Parameters
    ----------
    titles : sequence of str
        One for each block.
    sources : sequence of ndarray of float32, shape (m, n_bands, y, x), in [0, 1]
    """
    longest = max((len(source) for source in sources), default=1)
    # Blocks lie side by side on a page that is about as high as it is wide.
    n_columns = max(math.ceil(math.sqrt(longest / len(titles))), 4)
    stamp = (WIDTH_IN / len(titles) - 0.15) / n_columns
    n_rows = max(math.ceil(longest / n_columns), 1)
    figure = new_figure(n_rows * stamp + 0.55)
    panels = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, title, source in zip(panels, titles, sources, strict=True):
        pictures = [composite(cube, survey) for cube in source]
        rows = [pictures[lo : lo + n_columns] for lo in range(0, len(pictures), n_columns)]
        rows += [[] for _ in range(n_rows - len(rows))]
        _draw_mosaic(axes, rows, [], n_columns, survey.cutout_size_px)
        axes.set_title(title, fontsize=8, loc="left", color=INK)
        axes.set_anchor("N")
    return figure


@paper_style()
def radial_profiles(
    radius: DoubleArray,
    source: DoubleArray,
    residual: DoubleArray,
    selected: npt.NDArray[np.bool_],
    bands: Sequence[str],
    title: str,
) -> Figure:
    """Figure 8: radial profiles of source and residual of the selected and the unselected members of a class.

    Parameters
    ----------
    radius : ndarray of float64, shape (ring,), pixels
    source, residual : ndarray of float64, shape (n, n_bands, ring)
        Thin dashed lines for the first ``_MAX_LINES`` of each kind; thick ones for the means of all.
    selected : ndarray of bool, shape (n,)
    """
    figure = new_figure(3.6)
    panels = figure.subplots(2, len(bands), sharex=True, sharey="row", squeeze=False)
    kinds = ((~selected, MUTED, INK, "not selected"), (selected, SKY, BLUE, "selected"))
    for values, row, name in ((source, panels[0], "source"), (residual, panels[1], "residual")):
        for k, (axes, band) in enumerate(zip(row, bands, strict=True)):
            for flag, thin, thick, _ in kinds:
                own = values[flag, k]
                axes.plot(radius, own[:_MAX_LINES].T, color=thin, linewidth=0.5, linestyle="--", alpha=0.5)
                if len(own):
                    axes.plot(radius, known_mean(own), color=thick, linewidth=1.6)
            tidy(axes, f"({band})" if name == "source" else "")
        row[0].set_ylabel(name)
    for axes in panels[1]:
        axes.axhline(0.0, color=MUTED, linewidth=0.6, linestyle=":")
        axes.set_xlabel("radius (px)")
    panels[0, 0].set_xlim(0, float(radius[-1]))
    handles = [
        Line2D([], [], color=thick, linewidth=1.6, label=f"{label} ({flag.sum():,})") for flag, _, thick, label in kinds
    ]
    legend_below(figure, handles, 2, title=title, title_fontsize=8)
    return figure


def known_mean(values: DoubleArray) -> DoubleArray:
    """Mean over objects, NaN left out; NaN in a ring that is NaN in every object."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: DoubleArray = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean
