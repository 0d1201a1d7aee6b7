"""Stacked spectra: figure 15 of the paper."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.results.paper.stacking import LINES, Stack
from swimmy_scale.results.style import GREY, INK, MUTED, band_colour, new_figure, paper_style, remark, shown_level, tidy

_ZOOMS = ((("Hβ", "[OIII]"), (4800.0, 5060.0)), (("Hα", "[NII]"), (6500.0, 6640.0)))
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#4a4a4a", "#e69f00")
MAX_EXAMPLES = 12


@dataclass(frozen=True)
class BandSpectra:
    """What is drawn for one selecting band.

    Attributes
    ----------
    selected, unselected : Stack
    n_selected, n_unselected : int
        Spectra in them.
    examples : ndarray of float64, shape (m, pixel)
        Single spectra of selected objects, in units of their continuum.
    """

    selected: Stack
    unselected: Stack
    n_selected: int
    n_unselected: int
    examples: DoubleArray


@paper_style()
def stacked_spectra(wavelength: DoubleArray, parts: Sequence[BandSpectra], bands: Sequence[str], level: str) -> Figure:
    """Figure 15: for each band the stack of the selected and of the unselected, its strong lines, and single spectra.

    Parameters
    ----------
    wavelength : ndarray of float64, shape (pixel,)
        Rest frame, Angstrom.
    parts : sequence of BandSpectra
        One for each band.
    level : str
        At which the selected are selected.
    """
    figure = new_figure(2.1 * len(bands) + 2.8)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.1 * len(bands), 2.8))[:, 0]
    grid = upper.subplots(len(bands), 3, width_ratios=(3.4, 1, 1), squeeze=False)
    for k, (row, part, band) in enumerate(zip(grid, parts, bands, strict=True)):
        _draw_stacks(row[0], wavelength, part, band_colour(k))
        title = f"{band}: {part.n_selected:,} selected at {shown_level(level)}, {part.n_unselected:,} not selected"
        tidy(row[0], title, k)
        _name_lines(row[0], wavelength)
        if row[0].get_legend_handles_labels()[1]:
            row[0].legend(loc="lower right", ncols=2)
        row[0].set_ylabel("flux / continuum")
        for axes, (names, limits) in zip(row[1:], _ZOOMS, strict=True):
            _draw_stacks(axes, wavelength, part, band_colour(k), limits)
            axes.set_xlim(*limits)
            for rest in itertools.chain.from_iterable(LINES[name] for name in names):
                axes.axvline(rest, color=GREY, linewidth=0.5, linestyle=":", zorder=0)
            tidy(axes, " ".join(names))
    for axes in grid[-1]:
        axes.set_xlabel("rest wavelength (Å)")
    singles = lower.subplots(1, len(bands), squeeze=False)[0]
    for k, (axes, part, band) in enumerate(zip(singles, parts, bands, strict=True)):
        _draw_examples(axes, wavelength, part.examples)
        tidy(axes, f"{band}: single spectra", len(bands) + k)
        axes.set_xlabel("rest wavelength (Å)")
    singles[0].set_ylabel("log flux + constant")
    return figure


def _draw_stacks(
    axes: Axes, wavelength: DoubleArray, part: BandSpectra, colour: str, limits: tuple[float, float] | None = None
) -> None:
    shown = np.ones(wavelength.size, np.bool_)
    if limits is not None:
        shown = (wavelength >= limits[0]) & (wavelength <= limits[1])
    for stack, line, name in ((part.unselected, INK, "not selected"), (part.selected, colour, "selected")):
        if np.isfinite(stack.flux[shown]).any():
            x = wavelength[shown]
            axes.fill_between(x, stack.low[shown], stack.high[shown], color=line, alpha=0.15, linewidth=0)
            axes.plot(x, stack.flux[shown], color=line, linewidth=0.7, label=name)
    values = np.concatenate([part.selected.flux[shown], part.unselected.flux[shown]])
    values = values[np.isfinite(values)]
    if values.size:
        low, high = np.percentile(values, [0.2, 99.9])
        axes.set_ylim(max(min(low, 0.5), 0.0), 1.15 * max(high, 1.2))
    else:
        remark(axes, "no spectrum")
    if limits is None:
        axes.set_xlim(wavelength[0], wavelength[-1])


def _name_lines(axes: Axes, wavelength: DoubleArray) -> None:
    for name, rest in LINES.items():
        middle = float(np.mean(rest))
        if not wavelength[0] < middle < wavelength[-1]:
            continue
        axes.axvline(middle, color=GREY, linewidth=0.5, linestyle=":", zorder=0)
        # [NII] lies on both sides of Halpha, and [OIII] close to Hbeta.
        place = "left" if name in ("[OIII]", "[SII]") else "right"
        if name != "[NII]":
            axes.annotate(name, (middle, 1.0), xycoords=("data", "axes fraction"), xytext=(0, -1),
                          textcoords="offset points", ha=place, va="top", fontsize=6, color=MUTED)  # fmt: skip


def _draw_examples(axes: Axes, wavelength: DoubleArray, examples: DoubleArray) -> None:
    offset = 0.0
    for flux, colour in zip(examples[:MAX_EXAMPLES], itertools.cycle(_COLOURS), strict=False):
        level = np.log10(np.where(flux > 0, flux, np.nan))
        known = level[np.isfinite(level)]
        if known.size == 0:
            continue
        low, high = np.percentile(known, [0.5, 99.5])
        axes.plot(wavelength, level - low + offset, color=colour, linewidth=0.4)
        offset += high - low + 0.1
    axes.set_xlim(wavelength[0], wavelength[-1])
    axes.set_yticks([])
    if offset == 0.0:
        remark(axes, "no spectrum")
