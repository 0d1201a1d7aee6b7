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
from swimmy_scale.results.style import BLUE, INK, MUTED, RESIDUAL_COLOURS, SKY, WIDTH_IN, new_figure, paper_style, tidy

_GAP_PX = 3


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


def stamps(
    groups: Sequence[StampGroup],
    bands: Sequence[str],
    survey: Survey,
    *,
    n_columns: int | None = None,
    simulated: bool = False,
    credit: str = "",
) -> Figure:
    """Figures 6, 7 and 17: composites of source and reconstruction, and the residual in each band.

    Residuals are source - reconstruction, red for an excess, on one scale for the whole figure.

    Parameters
    ----------
    groups : sequence of StampGroup
        One below the other.
    bands : sequence of str
        Whose residuals are shown.
    n_columns : int, optional
        Room for so many objects; else for the longest group.
    """
    columns = n_columns or max((len(group.source) for group in groups), default=1)
    size = (WIDTH_IN - 1.3) / max(columns, 8)
    index = survey.band_index(bands)
    residuals = [group.source[:, index] - group.reconstruction[:, index] for group in groups]
    limits = [symmetric_limit(residual, survey) for residual in residuals if residual.size]
    limit = max(limits, default=0.01)
    with paper_style():
        height = sum((2 + len(bands)) * size + 0.28 for _ in groups) + 0.3
        figure = new_figure(height, simulated=simulated, credit=credit)
        panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
        for axes, group, residual in zip(panels, groups, residuals, strict=True):
            rows = [[composite(cube, survey) for cube in cubes] for cubes in (group.source, group.reconstruction)]
            rows += [[_coloured(stamp, limit) for stamp in residual[:, k]] for k in range(len(bands))]
            names = ["source", "reconstruction", *(f"{band} residual" for band in bands)]
            _draw_mosaic(axes, rows, names, max(columns, 8), survey.cutout_size_px)
            axes.set_title(group.title, fontsize=8, loc="left", color=INK, pad=3)
            if group.sigma is not None:
                _write_sigma(axes, group.sigma[:columns, index], survey.cutout_size_px)
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
    """Stamps as one picture: hundreds of axes would take minutes to lay out."""
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
    axes.set_yticks(
        [row * step + size / 2 for row in range(len(rows))] if any(names) else [], names if any(names) else []
    )
    axes.tick_params(left=False, labelsize=6.5)
    if not any(len(pictures) for pictures in rows):
        axes.text(0.02, 0.5, "none", transform=axes.transAxes, color=MUTED, va="center")


def _write_sigma(axes: Axes, sigma: DoubleArray, size: int) -> None:
    step = size + _GAP_PX
    for column, row in np.ndindex(sigma.shape):
        if np.isfinite(sigma[column, row]):
            place = (column * step + size - 2, (row + 2) * step + 3)
            axes.text(*place, f"{sigma[column, row]:.1f}", fontsize=4.5, color=INK, ha="right", va="top")


def stretch(linear: DoubleArray, stretched: FloatArray, survey: Survey, *, simulated: bool = False,
            credit: str = "") -> Figure:  # fmt: skip
    """Figure 2: one object in each band with linear scaling and stretched, and composites of neighbouring bands.

    Parameters
    ----------
    linear : ndarray of float64, shape (n_bands, y, x)
        Fluxes; each band is shown from 0 to its own 99.5th percentile in the middle of the cutout.
    stretched : ndarray of float32, shape (n_bands, y, x), in [0, 1]
        After equations 1 and 2.
    """
    n_bands, size = survey.n_bands, survey.cutout_size_px
    quarter = size // 4
    first = []
    for plane in linear:
        top = float(np.nanpercentile(plane[quarter:-quarter, quarter:-quarter], 99.5))
        first.append(np.repeat(np.clip(plane / max(top, np.finfo(np.float64).tiny), 0, 1)[..., None], 3, axis=-1))
    second = [np.repeat(plane.astype(np.float64)[..., None], 3, axis=-1) for plane in stretched]
    starts = range(max(n_bands - 2, 1))
    third = [three_colours(stretched[start : start + 3][::-1].astype(np.float64)) for start in starts]
    with paper_style():
        scale = min((WIDTH_IN - 0.9) / n_bands, 1.3)
        figure = new_figure(3 * scale + 0.9, simulated=simulated, credit=credit)
        panels = figure.subplots(3, 1)
        labels = [
            list(survey.bands),
            list(survey.bands),
            ["".join(survey.bands[start : start + 3]) for start in starts],
        ]
        heads = ["linear", "arcsinh", "composite"]
        for axes, pictures, texts, head in zip(panels, (first, second, third), labels, heads, strict=True):
            _draw_mosaic(axes, [pictures], [head], n_bands, size)
            for column, text in enumerate(texts):
                axes.text(
                    column * (size + _GAP_PX) + size / 2, -2, text, ha="center", va="bottom", fontsize=8, color=INK
                )
    return figure


def gallery(
    titles: Sequence[str],
    sources: Sequence[FloatArray],
    survey: Survey,
    *,
    simulated: bool = False,
    credit: str = "",
) -> Figure:
    """Figures 14 and 19: composites of the most anomalous objects, a block for each band, the strangest first.

    Parameters
    ----------
    titles : sequence of str
        One a block.
    sources : sequence of ndarray of float32, shape (m, n_bands, y, x), in [0, 1]
    """
    longest = max((len(source) for source in sources), default=1)
    # Blocks lie side by side on a page that is about as high as it is wide.
    n_columns = max(math.ceil(math.sqrt(longest / len(titles))), 4)
    with paper_style():
        stamp = (WIDTH_IN / len(titles) - 0.15) / n_columns
        n_rows = max(math.ceil(longest / n_columns), 1)
        figure = new_figure(n_rows * stamp + 0.55, simulated=simulated, credit=credit)
        panels = figure.subplots(1, len(titles), squeeze=False)[0]
        for axes, title, source in zip(panels, titles, sources, strict=True):
            pictures = [composite(cube, survey) for cube in source]
            rows = [pictures[lo : lo + n_columns] for lo in range(0, len(pictures), n_columns)]
            rows += [[] for _ in range(n_rows - len(rows))]
            _draw_mosaic(axes, rows, [""] * n_rows, n_columns, survey.cutout_size_px)
            axes.set_title(title, fontsize=8, loc="left", color=INK)
            axes.set_anchor("N")
    return figure


def radial_profiles(
    radius: DoubleArray,
    source: DoubleArray,
    residual: DoubleArray,
    selected: npt.NDArray[np.bool_],
    bands: Sequence[str],
    title: str,
    *,
    max_lines: int = 60,
    simulated: bool = False,
) -> Figure:
    """Figure 8: radial profiles of source and residual of the selected and the unselected members of a class.

    Parameters
    ----------
    radius : ndarray of float64, shape (ring,), pixels
    source, residual : ndarray of float64, shape (n, n_bands, ring)
        Thin dashed lines; their means are thick.
    selected : ndarray of bool, shape (n,)
    max_lines : int
        So many objects of each kind have a line of their own; all count in the means.
    """
    with paper_style():
        figure = new_figure(3.6, simulated=simulated)
        panels = figure.subplots(2, len(bands), sharex=True, sharey="row", squeeze=False)
        kinds = ((~selected, MUTED, INK, "not selected"), (selected, SKY, BLUE, "selected"))
        for values, row, name in ((source, panels[0], "source"), (residual, panels[1], "residual")):
            for k, (axes, band) in enumerate(zip(row, bands, strict=True)):
                for flag, thin, thick, _ in kinds:
                    own = values[flag, k]
                    axes.plot(radius, own[:max_lines].T, color=thin, linewidth=0.5, linestyle="--", alpha=0.5)
                    if len(own):
                        axes.plot(radius, known_mean(own), color=thick, linewidth=1.6)
                tidy(axes, f"({band})" if name == "source" else "")
            row[0].set_ylabel(name)
        for axes in panels[1]:
            axes.axhline(0.0, color=MUTED, linewidth=0.6, linestyle=":")
            axes.set_xlabel("radius (px)")
        panels[0, 0].set_xlim(0, float(radius[-1]))
        handles = [
            Line2D([], [], color=thick, linewidth=1.6, label=f"{label} ({flag.sum():,})")
            for flag, _, thick, label in kinds
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, title=title, title_fontsize=8)
    return figure


def known_mean(values: DoubleArray) -> DoubleArray:
    """Mean over objects of what is known; NaN in a ring that nobody knows."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: DoubleArray = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean
