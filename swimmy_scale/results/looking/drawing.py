"""Pictures of any objects: source, reconstruction, residuals in the selecting bands, and what is said of each."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import DoubleArray, FloatArray, Survey
from swimmy_scale.results.composites import composite, symmetric_limit
from swimmy_scale.results.looking.objects import Answer
from swimmy_scale.results.looking.pixels import Reconstruction, pixels_of, source_and_reconstruction
from swimmy_scale.results.style import (
    INK,
    MUTED,
    RESIDUAL_COLOURS,
    file_bytes,
    label_origin,
    new_figure,
    paper_style,
)
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import write_atomically

MAX_IN_ONE = 40
"""Objects that one picture has room for."""

_GAP_PX = 3
_ROW_IN, _HEAD_IN = 0.95, 0.45
_LINE_LETTERS, _MAX_LINES = 54, 9


def draw_objects(
    path: Path,
    answers: Sequence[Answer],
    store: Cutouts,
    reconstruction: Reconstruction,
    told: Callable[[int, int], None],
    *,
    simulated: bool,
) -> list[Path]:
    """Draw objects that have pixels: one below the other into a PNG, or each into ``OBJECT_ID.png`` of a folder.

    A row is the composite of the source and of the reconstruction (see `composites.composite`), and source -
    reconstruction in each selecting band, on one scale for a file; the circle is the aperture of the score. The same
    input gives the same bytes.

    Parameters
    ----------
    path : Path
        A file whose name ends in ``.png``, or a folder.
    answers : sequence of Answer
        Of objects that are not in quarantine, in the order of the picture.
    told : callable
        Told how many objects are drawn, and of how many.

    Raises
    ------
    SwimmyError
        When there are more than ``MAX_IN_ONE`` objects for one file.
    """
    is_file = path.suffix == ".png"
    if is_file and len(answers) > MAX_IN_ONE:
        raise SwimmyError(
            f"{path}: {len(answers):,} objects are too many for one picture, which has room for {MAX_IN_ONE}. "
            "Give a folder as --output: each object gets a file of its own."
        )
    told(0, len(answers))
    drawn: dict[int, tuple[FloatArray, FloatArray]] = {}
    written, by_row = [], {answer.row: answer for answer in answers}
    for done, (row, source, expected) in enumerate(_each(store, sorted(by_row), reconstruction), start=1):
        if is_file:
            drawn[row] = source, expected
        else:
            answer = by_row[row]
            file = path / f"{answer.object_id}.png"
            figure = _figure([answer], [(source, expected)], store.survey, simulated)
            write_atomically(file, file_bytes(figure, "png"))
            written.append(file)
        told(done, len(by_row))
    if is_file:
        figure = _figure(answers, [drawn[answer.row] for answer in answers], store.survey, simulated)
        write_atomically(path, file_bytes(figure, "png"))
        written.append(path)
    return written


def _each(
    store: Cutouts, rows: Sequence[int], reconstruction: Reconstruction
) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """Row, source and reconstruction of each object."""
    for pixels in pixels_of(store, np.array(rows, np.int64)):
        source, expected = source_and_reconstruction(pixels, store, reconstruction)
        yield from zip(rows[pixels.places], source, expected, strict=True)


@paper_style()
def _figure(
    answers: Sequence[Answer], cubes: Sequence[tuple[FloatArray, FloatArray]], survey: Survey, simulated: bool
) -> Figure:
    picks = survey.band_index(survey.selecting_bands)
    residuals = [source[picks] - expected[picks] for source, expected in cubes]
    limit = symmetric_limit(np.stack(residuals), survey)
    figure = new_figure(_ROW_IN * len(answers) + _HEAD_IN)
    axes = figure.subplots()
    pictures = [
        [composite(source, survey), composite(expected, survey), *(_coloured(one, limit) for one in residual)]
        for (source, expected), residual in zip(cubes, residuals, strict=True)
    ]
    names = ["source", "reconstruction", *(f"residual {band}" for band in survey.selecting_bands)]
    _draw_rows(axes, pictures, names, survey)
    for row, answer in enumerate(answers):
        _write_beside(axes, row, answer, survey)
    scale = ScalarMappable(Normalize(-limit, limit), RESIDUAL_COLOURS)
    bar = figure.colorbar(scale, ax=axes, location="bottom", fraction=0.03, pad=0.02, aspect=60, extend="both",
                          shrink=0.6)  # fmt: skip
    bar.ax.tick_params(labelsize=6)
    bar.set_label("source − reconstruction", fontsize=7)
    label_origin(figure, simulated)
    return figure


def _coloured(residual: FloatArray, limit: float) -> DoubleArray:
    colours = matplotlib.colormaps[RESIDUAL_COLOURS](Normalize(-limit, limit, clip=True)(residual))
    return np.asarray(colours, np.float64)[..., :3]


def _draw_rows(axes: Axes, pictures: Sequence[Sequence[DoubleArray]], names: Sequence[str], survey: Survey) -> None:
    """Stamps as one picture, with room for text on the right; circles show the aperture."""
    size, n_columns = survey.cutout_size_px, len(names)
    step = size + _GAP_PX
    canvas = np.ones((len(pictures) * step - _GAP_PX, (n_columns + 3) * step, 3))
    angle = np.linspace(0, 2 * np.pi, 60)
    radius = survey.aperture_diameter_px / 2
    for row, stamps in enumerate(pictures):
        for column, stamp in enumerate(stamps):
            top, left = row * step, column * step
            # The y axis of a cutout goes up, that of a picture goes down.
            canvas[top : top + size, left : left + size] = stamp[::-1]
            x, y = left + survey.center_px + radius * np.cos(angle), top + survey.center_px + radius * np.sin(angle)
            axes.plot(x, y, color="white" if column < 2 else INK, linewidth=0.5, alpha=0.8)
    axes.imshow(canvas, interpolation="auto", aspect="equal")
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    axes.set_xticks([column * step + size / 2 for column in range(n_columns)], names)
    axes.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False, labelsize=6.5)


def _write_beside(axes: Axes, row: int, answer: Answer, survey: Survey) -> None:
    step = survey.cutout_size_px + _GAP_PX
    left = (2 + len(survey.selecting_bands)) * step + 2 * _GAP_PX
    known = f", class {answer.known_class}" if answer.known_class else ""
    # "$" would begin a formula.
    head = f"{answer.name or answer.object_id}{known}".replace("$", r"\$")
    lines = textwrap.wrap(answer.words, _LINE_LETTERS, max_lines=_MAX_LINES, placeholder=" ...")
    axes.text(left, row * step, head, fontsize=6, fontweight="bold", color=INK, va="top")
    axes.text(left, row * step + step / 8, "\n".join(lines).replace("$", r"\$"), fontsize=5, color=MUTED, va="top")
