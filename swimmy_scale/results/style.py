"""How figures look: colours, sizes, the label of simulated data, and files with the same bytes every time."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from swimmy_scale.method.survey import DoubleArray

INK, MUTED, GREY, WARNING = "#1c1c1e", "#6b6b70", "#c4c6cb", "#b3261e"
# From blue to red, as the bands go; readers who do not see all colours can tell them apart.
BAND_COLOURS = ("#2a7fb8", "#d98c1f", "#b5332e", "#7b4fa3", "#4a4a4a")
# For series that are not bands (Okabe and Ito's palette).
SKY, GREEN, VERMILION, BLUE, YELLOW, PURPLE = "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#f0c400", "#cc79a7"
RESIDUAL_COLOURS = "RdBu_r"
CURVE_STYLES = ("-", "--", "-.", ":")
_THRESHOLD_STYLES = (":", "--", "-.")

WIDTH_IN = 7.0  # two columns of a journal
DPI = 200
_SETTINGS: Any = {
    "font.size": 8,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Settings of the paper's figures, whatever the user's own matplotlibrc says."""
    with matplotlib.style.context("default"), matplotlib.rc_context(_SETTINGS):
        yield


def new_figure(height_in: float) -> Figure:
    """An empty figure of print size."""
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)  # type: ignore[union-attr, call-arg]
    return figure


def new_panels(height_in: float, n_panels: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure of print size with panels side by side, which share the scale of their y axes."""
    figure = new_figure(height_in)
    return figure, figure.subplots(1, n_panels, sharey=True, squeeze=False)[0]


def label_origin(figure: Figure, simulated: bool, credit: str = "") -> None:
    """Print SIMULATED DATA at the top, or else whose pixels are shown."""
    place: Any = {"x": 0.995, "ha": "right"}
    with paper_style():
        if simulated:
            figure.suptitle("SIMULATED DATA", **place, fontsize=8, fontweight="bold", color=WARNING)
        elif credit:
            figure.suptitle(credit, **place, fontsize=7, color=MUTED)


def tidy(axes: Axes, title: str = "", panel: int | None = None) -> None:
    """Remove the lines at the top and on the right; put the title, lettered by panel, above the left edge."""
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        letter = "" if panel is None else f"({chr(97 + panel)}) "
        axes.set_title(letter + title, fontsize=8, color=INK, loc="left")


def remark(axes: Axes, text: str) -> None:
    """Print in the middle of empty axes why nothing is drawn there."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=MUTED)


def legend_below(figure: Figure, handles: Sequence[Artist], n_columns: int, **style: Any) -> None:
    """One legend for all panels, below them."""
    figure.legend(handles=handles, loc="outside lower center", ncols=n_columns, **style)


def band_colour(position: int) -> str:
    """Colour of a selecting band, by its place among them."""
    return BAND_COLOURS[position % len(BAND_COLOURS)]


def shown_level(level: str, space: str = "") -> str:
    """``2sigma`` is printed with the letter, after ``space``; any other name as it is."""
    return f"{level.removesuffix('sigma')}{space}σ" if level.endswith("sigma") else level


def score_lines(log_median: float, threshold: DoubleArray, levels: Sequence[str]) -> list[tuple[str, float, str]]:
    """Name, place and style of the lines in a band's histogram of log10 of the score.

    They are the median, solid, and each level's threshold, dotted, dashed, ...; those without a place are left out.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        places = [log_median, *np.log10(threshold)]
    names = ["median", *map(shown_level, levels)]
    styles = ["-", *itertools.islice(itertools.cycle(_THRESHOLD_STYLES), len(levels))]
    return [line for line in zip(names, map(float, places), styles, strict=True) if np.isfinite(line[1])]


def shown_probability(p: float) -> str:
    """A p value as the paper prints it: ``p < 0.01``, ``p = 0.05``."""
    if not np.isfinite(p):
        return "p unknown"
    return "p < 0.01" if p < 0.01 else f"p = {p:.2f}"


def file_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``pdf``; the same figure gives the same bytes."""
    without_time = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None, "Creator": None}
    stream = io.BytesIO()
    with paper_style():
        figure.savefig(stream, format=kind, dpi=DPI, metadata=without_time)
    return stream.getvalue()
