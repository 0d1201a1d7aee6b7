"""Two quantities of objects against each other, and weight sets by epoch: figures 11, 12, 13 and 16 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.results.paper.statistics import Correlation, Difference
from swimmy_scale.results.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    VERMILION,
    band_colour,
    legend_below,
    new_figure,
    new_panels,
    paper_style,
    remark,
    shown_level,
    shown_probability,
    tidy,
)

_LEVELS: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")


@dataclass(frozen=True)
class ScoredPoints:
    """Objects to draw, and what they are.

    Attributes
    ----------
    x, log_score : ndarray of float64, shape (n, band)
        One column for each selecting band. What is not finite is not drawn.
    selected : ndarray of bool, shape (n, band)
    is_xelg, is_active : ndarray of bool, shape (n,)
    """

    x: DoubleArray
    log_score: DoubleArray
    selected: BoolArray
    is_xelg: BoolArray
    is_active: BoolArray


@paper_style()
def score_ew(points: ScoredPoints, threshold: DoubleArray, levels: Sequence[str], bands: Sequence[str]) -> Figure:
    """Figure 11: anomaly score against EW_band, on logarithmic axes.

    Parameters
    ----------
    points : ScoredPoints
        ``x`` is EW_band, Angstrom; widths of 0 and less have no place on the axis.
    threshold : ndarray of float64, shape (level, band)
        Solid, dashed and dotted lines.
    """
    figure, panels = _score_panels(points, threshold, levels, bands)
    seen = points.x[np.isfinite(points.x) & (points.x > 0)]
    for axes, band in zip(panels, bands, strict=True):
        axes.set_xscale("log")
        axes.set_xlim(0.01, max(1000.0, 1.3 * float(seen.max(initial=0.0))))
        axes.set_xlabel(rf"EW$_\mathrm{{{band}}}$ (Å)")
    return figure


@paper_style()
def score_magnitude(
    points: ScoredPoints,
    threshold: DoubleArray,
    levels: Sequence[str],
    bands: Sequence[str],
    correlation: Sequence[Correlation],
) -> Figure:
    """Figure 12: anomaly score against the magnitude in the same band, with Spearman's rank correlation.

    Parameters
    ----------
    points : ScoredPoints
        ``x`` is the cmodel AB magnitude.
    threshold : ndarray of float64, shape (level, band)
    correlation : sequence of Correlation
        One for each band.
    """
    figure, panels = _score_panels(points, threshold, levels, bands)
    for k, (axes, band, found) in enumerate(zip(panels, bands, correlation, strict=True)):
        known = points.x[np.isfinite(points.x[:, k]), k]
        if known.size:
            low, high = np.percentile(known, [0.1, 99.9])
            axes.set_xlim(low - 0.3, high + 0.3)
        axes.set_xlabel(rf"$m_\mathrm{{{band}}}$ (mag)")
        text = f"ρ = {found.rho:.3f}, {shown_probability(found.p)}"
        axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=7.5, color=INK)
    return figure


def _score_panels(
    points: ScoredPoints, threshold: DoubleArray, levels: Sequence[str], bands: Sequence[str]
) -> tuple[Figure, Sequence[Axes]]:
    figure, panels = new_panels(3.2, len(bands))
    styles = [_LEVELS[at % len(_LEVELS)] for at in range(len(levels))]
    seen = points.log_score[np.isfinite(points.log_score)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (-3.0, 0.0)
    for k, (axes, band) in enumerate(zip(panels, bands, strict=True)):
        x, y, chosen = points.x[:, k], points.log_score[:, k], points.selected[:, k]
        plain = ~points.is_xelg & ~points.is_active
        for member, marker, size, others in (
            (plain, "o", 1.6, GREY), (points.is_xelg, "^", 3.2, INK), (points.is_active, "x", 3.4, INK)
        ):  # fmt: skip
            for flag, face in ((member & ~chosen, others), (member & chosen, band_colour(k))):
                axes.plot(x[flag], y[flag], linestyle="", marker=marker, markersize=size, color=face,
                          markeredgewidth=0.8 if marker == "x" else 0.0, rasterized=True)  # fmt: skip
        for limit, style in zip(threshold[:, k], styles, strict=True):
            if np.isfinite(limit) and limit > 0:
                axes.axhline(np.log10(limit), color=INK, linewidth=0.8, linestyle=style)
        # Room above the points for a line of text.
        axes.set_ylim(low - 0.1, high + 0.14 * (high - low) + 0.1)
        tidy(axes, band, k)
    panels[0].set_ylabel(r"$\log_{10}\,S$")
    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=size, color=face, label=name)
        for marker, size, others, kind, selected in (
            ("o", 3, GREY, "sample", "selected"),
            ("^", 4, INK, "XELG", "selected XELG"),
            ("x", 4, INK, "AGN or quasar", "selected AGN or quasar"),
        )
        for face, name in ((others, kind), (band_colour(0), selected))
    ]
    handles += [
        Line2D([], [], color=INK, linewidth=0.8, linestyle=style, label=shown_level(name))
        for name, style in zip(levels, styles, strict=True)
    ]
    legend_below(figure, handles, 5, columnspacing=1.2, handletextpad=0.4)
    return figure, panels


def main_sequence(log_mass: DoubleArray) -> DoubleArray:
    """log10 SFR of the star-forming main sequence, 0.76 log10 M - 7.64 (Renzini and Peng 2015); solar masses a year."""
    return 0.76 * log_mass - 7.64


@paper_style()
def sfr_mass(
    log_mass: DoubleArray,
    log_sfr: DoubleArray,
    selected: BoolArray,
    most_anomalous: BoolArray,
    bands: Sequence[str],
    by_mass: Sequence[Difference],
    by_sfr: Sequence[Difference],
    level: str,
) -> Figure:
    """Figure 13: star formation rate against stellar mass; histograms of both with Kolmogorov-Smirnov tests.

    Parameters
    ----------
    log_mass, log_sfr : ndarray of float64, shape (n,)
        log10 of solar masses, and of solar masses a year.
    selected, most_anomalous : ndarray of bool, shape (n, band)
        At the lowest level, and at ``level``: dots and diamonds.
    by_mass, by_sfr : sequence of Difference
        Selected against not selected, one for each band.
    """
    figure = new_figure(3.3)
    parts = figure.subfigures(1, len(bands), squeeze=False)[0]
    for k, (part, band) in enumerate(zip(parts, bands, strict=True)):
        above, axes = _draw_sfr_mass(part, log_mass, log_sfr, selected[:, k], most_anomalous[:, k], band_colour(k))
        title = f"({chr(97 + k)}) {band}\nKS M: {_tested(by_mass[k])}\nKS SFR: {_tested(by_sfr[k])}"
        above.set_title(title, fontsize=7, loc="left", color=INK)
        axes.set_xlabel(r"$\log_{10}\,M_*$ (M$_\odot$)")
        if k == 0:
            axes.set_ylabel(r"$\log_{10}$ SFR (M$_\odot$ yr$^{-1}$)")
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=3, color=GREY, label="sample"),
        Line2D([], [], linestyle="", marker="o", markersize=3, color=band_colour(0), label="selected"),
        Line2D([], [], linestyle="", marker="D", markersize=4, color=band_colour(0), markeredgecolor=INK,
               label=f"selected at {shown_level(level)}"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="main sequence"),
    ]  # fmt: skip
    legend_below(figure, handles, 4)
    return figure


def _draw_sfr_mass(
    part: SubFigure, log_mass: DoubleArray, log_sfr: DoubleArray, chosen: BoolArray, top: BoolArray, colour: str
) -> tuple[Axes, Axes]:
    """Draw one band's plane and its two histograms; returns the axes of the upper one and of the plane."""
    mass_bins, sfr_bins = _bins(log_mass), _bins(log_sfr)
    grid = part.subplots(2, 2, sharex="col", sharey="row", width_ratios=(4, 1.1), height_ratios=(1.1, 4))
    (above, corner), (axes, aside) = grid
    corner.set_visible(False)
    axes.plot(log_mass, log_sfr, ".", markersize=1.2, color=GREY, rasterized=True)
    axes.plot(log_mass[chosen], log_sfr[chosen], ".", markersize=2.4, color=colour, rasterized=True)
    axes.plot(log_mass[top], log_sfr[top], "D", markersize=3.4, color=colour, markeredgecolor=INK, markeredgewidth=0.5)
    ends = np.array([mass_bins[0], mass_bins[-1]])
    axes.plot(ends, main_sequence(ends), color=INK, linewidth=0.9, linestyle="--")
    axes.set(xlim=(mass_bins[0], mass_bins[-1]), ylim=(sfr_bins[0], sfr_bins[-1]))
    _marginal(above, log_mass, chosen, mass_bins, colour, "vertical")
    _marginal(aside, log_sfr, chosen, sfr_bins, colour, "horizontal")
    return above, axes


def _bins(values: DoubleArray) -> DoubleArray:
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [0.2, 99.8]) if known.size else (0.0, 1.0)
    bins: DoubleArray = np.linspace(low - 0.3, high + 0.3, 26)
    return bins


def _tested(test: Difference) -> str:
    return f"D = {test.statistic:.2f}, {shown_probability(test.p)}" if np.isfinite(test.statistic) else "no test"


def _marginal(
    axes: Axes,
    values: DoubleArray,
    chosen: BoolArray,
    bins: DoubleArray,
    colour: str,
    orientation: Literal["vertical", "horizontal"],
) -> None:
    """Shares of all and of the chosen, so that the few can be compared with the many."""
    for flag, style in ((np.ones_like(chosen), {"fill": True, "color": GREY}), (chosen, {"color": colour})):
        part = values[flag & np.isfinite(values)]
        if part.size:
            share = np.histogram(part, bins)[0] / part.size
            axes.stairs(share, bins, orientation=orientation, **style)
    axes.tick_params(labelbottom=False, labelleft=False, left=False, bottom=False)
    tidy(axes)


@paper_style()
def weight_sets(
    training: IntArray,
    epoch: IntArray,
    loss: DoubleArray,
    val_loss: DoubleArray,
    rate_quasar: DoubleArray,
    rate_xelg: DoubleArray,
) -> Figure:
    """Figure 16: losses, and selection rates of known quasars and XELGs, of all weight sets by epoch.

    Thin lines are trainings; thick lines with error bars are means and standard deviations over the trainings.

    Parameters
    ----------
    training, epoch : ndarray of int64, shape (n,)
    loss, val_loss, rate_quasar, rate_xelg : ndarray of float64, shape (n,)
    """
    figure = new_figure(2.9)
    left, right = figure.subplots(1, 2)
    for axes, title, series in (
        (left, "loss", ((loss, INK, "training"), (val_loss, GREEN, "validation"))),
        (right, "selection rate", ((rate_quasar, VERMILION, "quasars"), (rate_xelg, BLUE, "XELGs"))),
    ):
        for values, colour, name in series:
            if np.isfinite(values).any():
                _draw_trainings(axes, training, epoch, values, colour, name)
        axes.set(xlabel="epoch", ylabel=title)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.has_data():
            axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
        else:
            remark(axes, "not known")
        tidy(axes)
    return figure


def _draw_trainings(
    axes: Axes, training: IntArray, epoch: IntArray, values: DoubleArray, colour: str, name: str
) -> None:
    for number in np.unique(training):
        rows = np.flatnonzero(training == number)
        rows = rows[np.argsort(epoch[rows], kind="stable")]
        axes.plot(epoch[rows], values[rows], color=colour, linewidth=0.6, linestyle="--", alpha=0.3)
    epochs, mean, deviation = by_epoch(epoch, values)
    axes.errorbar(epochs, mean, deviation, color=colour, linewidth=1.4, elinewidth=0.9, capsize=1.5, label=name)


def by_epoch(epoch: IntArray, values: DoubleArray) -> tuple[IntArray, DoubleArray, DoubleArray]:
    """Distinct epochs, and mean and standard deviation of the known values of each; NaN where none is known."""
    epochs = np.unique(epoch)
    known = [values[(epoch == number) & np.isfinite(values)] for number in epochs]
    mean = np.array([part.mean() if part.size else np.nan for part in known])
    deviation = np.array([part.std() if part.size else np.nan for part in known])
    return epochs, mean, deviation
