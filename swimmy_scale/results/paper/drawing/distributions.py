"""Histograms and rates: figures 1, 5, 9, 10 and 18 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.results.histogram import ScoreCounts
from swimmy_scale.results.paper.statistics import BinnedRates, CumulativeRates
from swimmy_scale.results.style import (
    BLUE,
    CURVE_STYLES,
    GREY,
    INK,
    MUTED,
    VERMILION,
    YELLOW,
    band_colour,
    legend_below,
    new_figure,
    new_panels,
    paper_style,
    remark,
    score_lines,
    tidy,
)

CountArray = npt.NDArray[np.int64]


@paper_style()
def redshift_histogram(
    edges: DoubleArray, counts: Mapping[str, CountArray], colours: Sequence[str] = (GREY, YELLOW, VERMILION)
) -> Figure:
    """Figure 1: redshifts of all, of the test data, and of those with MPA-JHU measurements.

    Parameters
    ----------
    edges : ndarray of float64, shape (bin + 1,)
    counts : mapping of str to ndarray of int64, shape (bin,)
        By label, the largest first; later ones are drawn over earlier ones.
    """
    figure = new_figure(3.0)
    axes = figure.subplots()
    for (label, count), colour in zip(counts.items(), colours, strict=False):
        axes.stairs(count, edges, fill=True, color=colour, label=f"{label} ({count.sum():,})")
        axes.stairs(count, edges, color=INK, linewidth=0.4)
    axes.set(xlim=(edges[0], edges[-1]), xlabel="redshift", ylabel="objects")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")
    tidy(axes)
    return figure


@paper_style()
def redshift_colour_cut(
    edges: DoubleArray, counts: Mapping[str, CountArray], limits: tuple[float, float], quality: Sequence[str]
) -> Figure:
    """Figure 18: redshifts before and after the colour cut, and how good the cut is.

    Parameters
    ----------
    edges, counts
        As for `redshift_histogram`.
    limits : tuple of two floats
        The wanted range, marked by dotted lines.
    quality : sequence of str
        Lines of text.
    """
    figure = redshift_histogram(edges, counts, (GREY, BLUE))
    axes = figure.axes[0]
    for limit in limits:
        axes.axvline(limit, color=INK, linewidth=0.8, linestyle=":")
    axes.text(0.98, 0.6, "\n".join(quality), transform=axes.transAxes, ha="right", va="top", color=INK, fontsize=7.5)
    return figure


@paper_style()
def score_histograms(
    counts: ScoreCounts, median: DoubleArray, threshold: DoubleArray, levels: Sequence[str], bands: Sequence[str]
) -> Figure:
    """Figure 5: anomaly scores of the sample (grey) and of the candidates (colour) in each selecting band.

    Parameters
    ----------
    counts : ScoreCounts
        A row for each of ``bands``.
    median : ndarray of float64, shape (band,)
        Of the scores; solid line.
    threshold : ndarray of float64, shape (level, band)
        Dotted, dashed, dash-dotted lines.
    """
    figure, panels = new_panels(2.6, len(bands))
    edges, top = counts.edges, max(int(counts.sample.max(initial=0)), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_median = np.log10(median)
    for k, (axes, band) in enumerate(zip(panels, bands, strict=True)):
        axes.stairs(counts.sample[k], edges, fill=True, color=GREY, baseline=0.5)
        axes.stairs(counts.selected[k], edges, fill=True, color=band_colour(k), baseline=0.5)
        for name, place, style in score_lines(log_median[k], threshold[:, k], levels):
            axes.axvline(place, color=INK, linewidth=0.9, linestyle=style, label=name)
        axes.set(yscale="log", ylim=(0.6, 2.5 * top), xlim=(edges[0], edges[-1]))
        axes.set_xlabel(rf"$\log_{{10}}\,S_\mathrm{{{band}}}$")
        tidy(axes)
    panels[0].set_ylabel("objects")
    handles, _ = panels[-1].get_legend_handles_labels()
    legend_below(figure, handles, len(handles))
    return figure


@paper_style()
def ew_cumulative(rates: Mapping[str, CumulativeRates], limit: float) -> Figure:
    """Figure 9: distributions of EW_band of selected and unselected XELGs, counted from the top, and selection rate.

    Parameters
    ----------
    rates : mapping of str to CumulativeRates
        By selecting band.
    limit : float
        Width that is marked by a dotted line, Angstrom.
    """
    figure, panels = new_panels(2.7, len(rates))
    left = max([500.0, *(float(np.percentile(rate.value, 90)) for rate in rates.values() if rate.value.size)])
    for k, (axes, (band, rate)) in enumerate(zip(panels, rates.items(), strict=True)):
        n_selected, n_unselected = (int(count.max(initial=0)) for count in (rate.n_selected, rate.n_unselected))
        colour = band_colour(k)
        if rate.value.size:
            x = np.append(rate.value, min(0.0, float(rate.value[-1])))
            # Fractions stay the same from the smallest value down to 0.
            selected, unselected, selection = (
                np.append(share, share[-1]) for share in (rate.selected, rate.unselected, rate.rate)
            )
            axes.fill_between(x, selected, step="post", color=colour, alpha=0.35, linewidth=0)
            axes.plot(x, selected, color=colour, linewidth=0.8, drawstyle="steps-post")
            axes.plot(x, unselected, color=INK, linewidth=1, drawstyle="steps-post")
            axes.plot(x, selection, color=colour, linewidth=1.5, linestyle="--", drawstyle="steps-post")
            axes.set_xlim(left, x[-1])
        else:
            remark(axes, "no XELG")
        axes.axvline(limit, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set_ylim(0, 1.04)
        axes.set_xlabel(rf"EW$_\mathrm{{{band}}}$ (Å)")
        tidy(axes, f"{n_selected:,} selected, {n_unselected:,} not, in {band}", k)
    panels[0].set_ylabel("fraction above")
    handles = [
        panels[0].fill_between([], [], color=band_colour(0), alpha=0.35, label="selected"),
        *panels[0].plot([], [], color=INK, linestyle="-", linewidth=1.0, label="not selected"),
        *panels[0].plot([], [], color=INK, linestyle="--", linewidth=1.5, label="selection rate above"),
    ]
    legend_below(figure, handles, 3)
    return figure


@paper_style()
def selection_rate_redshift(
    edges: DoubleArray,
    rates: BinnedRates,
    bands: Sequence[str],
    redshift: DoubleArray,
    throughput: Mapping[str, DoubleArray],
) -> Figure:
    """Figure 10: selection rate by redshift, and how much of each strong line a band lets through.

    Parameters
    ----------
    edges : ndarray of float64, shape (bin + 1,)
    rates : BinnedRates
        A column for each of ``bands``; error bars are its interval.
    redshift : ndarray of float64, shape (m,)
        Where the throughput is given.
    throughput : mapping of str to ndarray of float64, shape (m, band)
        By line, relative to the band's peak; solid, dashed, dash-dotted ...
    """
    figure, panels = new_panels(2.7, len(bands))
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    top = np.nanmax(rates.high, initial=0.0) if np.isfinite(rates.high).any() else 0.0
    others: list[Axes] = []
    for k, (axes, band) in enumerate(zip(panels, bands, strict=True)):
        error = np.abs(np.stack([rates.rate[:, k] - rates.low[:, k], rates.high[:, k] - rates.rate[:, k]]))
        axes.errorbar(middle, rates.rate[:, k], error, half, fmt="o", markersize=2.5, color=band_colour(k),
                      elinewidth=1)  # fmt: skip
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, max(top * 1.1, 0.01)))
        axes.set_xlabel("redshift")
        other = axes.twinx()
        for (name, curve), style in zip(throughput.items(), CURVE_STYLES, strict=False):
            other.plot(redshift, curve[:, k], color=MUTED, linewidth=1, linestyle=style, label=name)
        other.set_ylim(0, 1.05)
        other.tick_params(labelright=k == len(bands) - 1, right=k == len(bands) - 1)
        other.spines[["top", "left"]].set_visible(False)
        axes.set_zorder(other.get_zorder() + 1)
        axes.patch.set_visible(False)
        tidy(axes, band, k)
        others.append(other)
    panels[0].set_ylabel("selected / all")
    others[-1].set_ylabel("throughput of the line (peak = 1)")
    handles, _ = others[-1].get_legend_handles_labels()
    legend_below(figure, handles, len(handles))
    return figure
