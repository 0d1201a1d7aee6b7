"""The picture of a run, ``candidates.png``: score histograms and a gallery of candidates."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle, Rectangle

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, IntArray, Survey
from swimmy_scale.results.composites import composite, symmetric_limit
from swimmy_scale.results.histogram import ScoreHistogram, score_histogram
from swimmy_scale.results.style import GREY, INK, MUTED, RESIDUAL_COLOURS, WARNING, band_colour, score_lines
from swimmy_scale.results.words import counted
from swimmy_scale.storage.files import write_atomically
from swimmy_scale.storage.selection import Selection

DPI = 128
MAX_GALLERY = 12
_WIDTH_IN = 11.0
_LEFT_IN, _RIGHT_IN = 0.95, 0.85
_HEAD_IN, _HISTOGRAM_IN, _BETWEEN_IN, _FOOT_IN = 1.4, 2.1, 1.2, 0.2
_STAMP_IN, _GAP_IN = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN) / MAX_GALLERY, 0.04

# Bins of the histograms, and the part of their range that stays empty at either end.
N_BINS, _MARGIN_SHARE = 70, 0.03


@dataclass(frozen=True)
class Gallery:
    """The candidates to show, the strangest first.

    Attributes
    ----------
    object_id : ndarray of int64, shape (m,)
    label : sequence of str, length m
        Selecting bands, "g&r".
    score : ndarray of float32, shape (m, band)
        One column for each selecting band.
    source, reconstruction : ndarray of float32, shape (m, n_bands, y, x), in [0, 1]
        Preprocessed cubes (equations 1 and 2) and the network's output for them; all of the survey's bands.
    """

    object_id: IntArray
    label: Sequence[str]
    score: FloatArray
    source: FloatArray
    reconstruction: FloatArray


def write_picture(
    path: Path,
    survey: Survey,
    histogram: ScoreHistogram,
    threshold: DoubleArray,
    levels: Sequence[str],
    gallery: Gallery,
    *,
    simulated: bool = False,
) -> Path:
    """Draw the picture that sums up a run: histograms as in figure 5, below them a gallery as in figures 6 and 14.

    The upper row shows log10 of the anomaly score of the sample (grey) and of the candidates (colour) in each
    selecting band, with the median (solid) and the thresholds (dotted, dashed, ...). The gallery shows composites of
    the source and of the reconstruction (see `composites.composite`), and source - reconstruction in each selecting
    band, on one scale for all; the circle is the aperture of the score. Above each candidate stand its object_id, the
    bands that select it, and its score in the band where it exceeds the lowest threshold by the largest factor. The
    same input gives the same bytes.

    Parameters
    ----------
    path : Path
        PNG file to write, atomically.
    histogram : ScoreHistogram
        Of the sample, a row for each selecting band.
    threshold : ndarray of float64, shape (level, band)
    levels : sequence of str
        Names of the levels, in the order of ``threshold``.
    gallery : Gallery
        The first ``MAX_GALLERY`` are shown; there may be none.
    simulated : bool
        Print SIMULATED DATA at the top.
    """
    _check(survey, histogram, threshold, levels, gallery)
    counts = histogram.counts
    facts = f"{counted(counts.n_objects, 'object')} in the sample, {counted(counts.n_candidates, 'candidate')}"
    n_shown = min(len(gallery.object_id), MAX_GALLERY)
    gallery_height = (2 + len(survey.selecting_bands)) * _STAMP_IN if n_shown else 0.4
    height = _HEAD_IN + _HISTOGRAM_IN + _BETWEEN_IN + gallery_height + _FOOT_IN
    # The user's own matplotlibrc must not change the picture.
    with (
        matplotlib.style.context("default"),
        matplotlib.rc_context({"font.size": 9, "axes.edgecolor": MUTED}),
    ):
        figure = Figure(figsize=(_WIDTH_IN, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        _draw_head(figure, survey.name, facts, simulated)
        _draw_histograms(figure, survey, histogram, threshold, levels)
        _draw_gallery(figure, survey, gallery, n_shown, _strongest(survey, gallery, threshold))
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None}, pil_kwargs={"compress_level": 2})
    write_atomically(path, stream.getvalue())
    return path


def sample_histogram(selection: Selection) -> ScoreHistogram:
    """The histogram that `write_picture` draws of a selected sample: a row for each selecting band."""
    selecting = selection.survey.band_index(selection.survey.selecting_bands)

    def blocks() -> Iterator[tuple[FloatArray, BoolArray]]:
        for _, (score, candidate, in_sample) in selection.blocks(selection.score_name, "candidate", "in_sample"):
            yield score[in_sample][:, selecting], candidate[in_sample, 0][:, selecting]

    return score_histogram(blocks, selection.read("threshold")[:, selecting], N_BINS, _MARGIN_SHARE)


# ---------------------------------------------------------------- the parts


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the figure's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    bottom = page_height - top - height
    return figure.add_axes((left / page_width, bottom / page_height, width / page_width, height / page_height))


def _text(figure: Figure, left: float, top: float, text: str, **style: object) -> None:
    page_width, page_height = figure.get_size_inches()
    figure.text(left / page_width, 1 - top / page_height, text, **style)  # type: ignore[arg-type]


def _draw_head(figure: Figure, name: str, facts: str, simulated: bool) -> None:
    _text(figure, 0.3, 0.22, name, fontsize=14, fontweight="bold", color=INK, va="center")
    _text(figure, 0.3, 0.47, facts, fontsize=10, color=MUTED, va="center")
    if simulated:
        badge = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": WARNING, "linewidth": 1.2}
        style = {"fontsize": 11, "fontweight": "bold", "color": WARNING, "ha": "right", "va": "center", "bbox": badge}
        _text(figure, _WIDTH_IN - 0.35, 0.32, "SIMULATED DATA", **style)


def _draw_histograms(
    figure: Figure, survey: Survey, histogram: ScoreHistogram, threshold: DoubleArray, levels: Sequence[str]
) -> None:
    bands, counts = survey.selecting_bands, histogram.counts
    left, gap = 0.8, 0.22
    width = (_WIDTH_IN - left - 0.3 - gap * (len(bands) - 1)) / len(bands)
    for position, band in enumerate(bands):
        panel = _axes(figure, left + position * (width + gap), _HEAD_IN, width, _HISTOGRAM_IN)
        sample, selected = counts.sample[position], counts.selected[position]
        panel.stairs(sample, counts.edges, fill=True, color=GREY, label=counted(int(sample.sum()), "object"))
        label = f"{counted(int(selected.sum()), 'candidate')} in {band}"
        panel.stairs(selected, counts.edges, fill=True, color=band_colour(position), label=label)
        _draw_lines(panel, score_lines(histogram.log_median[position], threshold[:, position], levels), counts.edges)
        _finish_histogram(panel, band, position == 0)
        panel.set_xlim(counts.edges[0], counts.edges[-1])
        panel.set_ylim(0.7, max(int(counts.sample.max(initial=0)), 1) * 3)


def _draw_lines(panel: Axes, lines: Sequence[tuple[str, float, str]], edges: DoubleArray) -> None:
    """Vertical lines with their names above them; a name is raised where it would touch the one before."""
    last, step = -np.inf, 0
    for name, place, style in lines:
        panel.axvline(place, color=INK, linewidth=1, linestyle=style)
        step = step + 1 if place - last < 0.1 * (edges[-1] - edges[0]) else 0
        panel.annotate(name, (place, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2 + 9 * step),
                       textcoords="offset points", ha="center", va="bottom", fontsize=7.5, color=INK)  # fmt: skip
        last = place


def _finish_histogram(panel: Axes, band: str, is_first: bool) -> None:
    panel.set_ylim(0.7, 1)  # the limits of an empty histogram do not suit a logarithmic axis
    panel.set_yscale("log")
    panel.minorticks_off()  # to place and draw them takes as long as half of all the rest
    panel.set_xlabel(rf"$\log_{{10}}\,S_\mathrm{{{band}}}$", color=INK)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(colors=MUTED, labelsize=8, labelleft=is_first, which="both")
    if is_first:
        panel.set_ylabel("objects", color=INK)
    style = {"fontsize": 8.5, "labelcolor": INK, "frameon": False, "handlelength": 1.0, "handleheight": 0.9}
    # Above the names of the lines, however many are stacked.
    panel.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.2), ncols=2, columnspacing=1.2, **style)


def _draw_gallery(figure: Figure, survey: Survey, gallery: Gallery, n_shown: int, strongest: Sequence[str]) -> None:
    top = _HEAD_IN + _HISTOGRAM_IN + _BETWEEN_IN
    if n_shown == 0:
        _text(figure, _WIDTH_IN / 2, top, "no candidates to show", fontsize=11, color=MUTED, ha="center")
        return
    bands = survey.band_index(survey.selecting_bands)
    names = ["source", "recon-\nstruction", *(f"residual {band}" for band in survey.selecting_bands)]
    residual = gallery.source[:n_shown, bands].astype(np.float64) - gallery.reconstruction[:n_shown, bands]
    limit = symmetric_limit(residual, survey)
    _draw_captions(figure, top, gallery, strongest[:n_shown])
    # One panel, in inches, for all stamps: Matplotlib takes ten times as long for a panel each.
    width, height = n_shown * _STAMP_IN, len(names) * _STAMP_IN
    panel = _axes(figure, _LEFT_IN, top, width, height)
    panel.set_axis_off()
    panel.set(xlim=(0, width), ylim=(height, 0))
    for column in range(n_shown):
        composites = [composite(cube[column], survey) for cube in (gallery.source, gallery.reconstruction)]
        stamps = [
            _draw_stamp(panel, picture, column * _STAMP_IN, row * _STAMP_IN, limit)
            for row, picture in enumerate([*composites, *residual[column]])
        ]
    _draw_outlines(panel, survey, n_shown, len(names))
    for row, name in enumerate(names):
        style = {"fontsize": 9, "color": INK, "ha": "right", "va": "center"}
        _text(figure, _LEFT_IN - 0.1, top + (row + 0.5) * _STAMP_IN, name, **style)
    # The last stamp is a residual, and all residuals have one scale.
    _draw_scale(figure, stamps[-1], _LEFT_IN + n_shown * _STAMP_IN + 0.06, top + 2 * _STAMP_IN, len(bands) * _STAMP_IN)


def _draw_scale(figure: Figure, image: AxesImage, left: float, top: float, height: float) -> None:
    bar = figure.colorbar(image, cax=_axes(figure, left, top, 0.11, height - _GAP_IN), extend="both", extendfrac=0.02)
    bar.ax.tick_params(labelsize=7.5, colors=MUTED)
    bar.set_label("source − reconstruction", fontsize=8, color=MUTED)


def _draw_captions(figure: Figure, top: float, gallery: Gallery, strongest: Sequence[str]) -> None:
    """Lines of text above each candidate, their meaning on the left; of long texts every other one is raised."""
    identifiers = [str(identifier) for identifier in gallery.object_id[: len(strongest)]]
    lines = (
        (0.43, "object_id", identifiers, 7.0, "normal"),
        (0.22, "selected in", list(gallery.label[: len(strongest)]), 9.0, "bold"),
        (0.06, "score in", strongest, 7.5, "normal"),
    )
    for above, meaning, texts, size, weight in lines:
        # Eleven characters of this size fit a column; longer texts would run into each other and into their meaning.
        raised = 0.13 if max(len(text) for text in texts) > 11 else 0.0
        _text(figure, _LEFT_IN - 0.1, top - above - raised, meaning,
              fontsize=7, color=MUTED, ha="right", va="baseline")  # fmt: skip
        for column, text in enumerate(texts):
            center = _LEFT_IN + column * _STAMP_IN + (_STAMP_IN - _GAP_IN) / 2
            lift = raised * (column % 2)
            style = {"ha": "center", "va": "baseline", "fontweight": weight}
            _text(figure, center, top - above - lift, text, fontsize=size, color=INK, **style)


def _strongest(survey: Survey, gallery: Gallery, threshold: DoubleArray) -> list[str]:
    """Band and score, "i 19.3", where each candidate exceeds the lowest threshold by the largest factor."""
    texts = []
    for label, score in zip(gallery.label, gallery.score.astype(np.float64), strict=True):
        selects = np.isin(survey.selecting_bands, label.split("&"))
        # A threshold of 0 is exceeded by an infinite factor; a band that does not select comes last.
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.where(selects, np.nan_to_num(score / threshold[0], posinf=np.inf), -1.0)
        best = int(np.argmax(excess))
        texts.append(f"{survey.selecting_bands[best]} {score[best]:.3g}")
    return texts


def _draw_stamp(panel: Axes, picture: DoubleArray, left: float, top: float, limit: float) -> AxesImage:
    """One square; a composite has three colours, a residual has a scale."""
    right, bottom = left + _STAMP_IN - _GAP_IN, top + _STAMP_IN - _GAP_IN
    image = AxesImage(panel, origin="lower", interpolation="auto", extent=(left, right, bottom, top))
    if picture.ndim == 2:
        image.set(cmap=RESIDUAL_COLOURS, norm=Normalize(-limit, limit))
    image.set_data(picture)
    panel.add_image(image)
    return image


def _draw_outlines(panel: Axes, survey: Survey, n_columns: int, n_rows: int) -> None:
    """The aperture of the score and a frame for each stamp; the first two rows are composites."""
    side = _STAMP_IN - _GAP_IN
    per_px = side / survey.cutout_size_px
    center, radius = (survey.center_px + 0.5) * per_px, survey.aperture_diameter_px / 2 * per_px
    for rows, colour in ((range(2), "white"), (range(2, n_rows), INK)):
        corners = [(column * _STAMP_IN, row * _STAMP_IN) for row in rows for column in range(n_columns)]
        frames = [Rectangle(corner, side, side) for corner in corners]
        circles = [Circle((left + center, top + side - center), radius) for left, top in corners]
        panel.add_collection(PatchCollection(circles, facecolor="none", edgecolor=colour, linewidth=0.6, alpha=0.8))
        panel.add_collection(PatchCollection(frames, facecolor="none", edgecolor=GREY, linewidth=0.5))


def _check(
    survey: Survey, histogram: ScoreHistogram, threshold: DoubleArray, levels: Sequence[str], gallery: Gallery
) -> None:
    n_selecting, n_gallery = len(survey.selecting_bands), len(gallery.object_id)
    size = survey.cutout_size_px
    cube = (n_gallery, survey.n_bands, size, size)
    for name, found, expected in (
        ("histogram", histogram.log_median.shape, (n_selecting,)),
        ("threshold", threshold.shape, (len(levels), n_selecting)),
        ("gallery's source", gallery.source.shape, cube),
        ("gallery's reconstruction", gallery.reconstruction.shape, cube),
        ("gallery's score", gallery.score.shape, (n_gallery, n_selecting)),
        ("gallery's label", (len(gallery.label),), (n_gallery,)),
    ):
        if found != expected:
            raise SwimmyError(f"picture: {name} has shape {found}, needs {expected} for survey {survey.name!r}.")
