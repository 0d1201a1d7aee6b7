"""The report's section of further objects, which are no part of its gallery and marks: to compare candidates with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swimmy_scale.method.survey import FloatArray, IntArray, Survey
from swimmy_scale.model.scoring import Scoring, reconstructor
from swimmy_scale.results.composites import symmetric_limit
from swimmy_scale.results.looking.groups import Group, groups
from swimmy_scale.results.looking.objects import Answer, answers_in_order
from swimmy_scale.results.looking.pixels import pixels_of, source_and_reconstruction
from swimmy_scale.results.report.tiles import Pixels, layout, rows_of_tiles, sheet
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.selection import SelectedRun

MAX_OBJECTS = 24
"""Of each group."""
SEED = 0
_COMPOSITES = ("source", "reconstruction")


@dataclass(frozen=True)
class FurtherObject:
    """One object of a group.

    Attributes
    ----------
    answer : Answer
    image : str
        File in the folder of images: source, reconstruction and residual map, side by side.
    band : str
        Of the residual map: the selecting band in which the score reaches the largest share of the threshold.
    """

    answer: Answer
    image: str
    band: str


@dataclass(frozen=True)
class FurtherGroup:
    """A group, and those of its objects that are shown."""

    group: Group
    objects: Sequence[FurtherObject]


def further_objects(selected: SelectedRun, scoring: Scoring, limit: float, folder: Path) -> list[FurtherGroup]:
    """Choose further objects and draw them: at most ``MAX_OBJECTS`` of each group of `looking.groups.groups`.

    Parameters
    ----------
    limit : float
        The end of the scale of the residual maps, that of the candidates; 0 to take one of these objects' own.
    folder : Path
        For the images.
    """
    survey = selected.selection.survey
    chosen = [group for group in groups(selected.selection, MAX_OBJECTS, SEED) if len(group.rows)]
    answers = [answers_in_order(selected, group.rows) for group in chosen]
    if not chosen:
        return []
    band_of = {answer.row: _strongest_band(answer, survey) for one in answers for answer in one}
    names = _draw(selected.cutouts, scoring, band_of, limit, folder)
    return [
        FurtherGroup(group, [FurtherObject(one, names[one.row], survey.bands[band_of[one.row]]) for one in said])
        for group, said in zip(chosen, answers, strict=True)
    ]


def _strongest_band(answer: Answer, survey: Survey) -> int:
    level = next(name for name in next(iter((answer.bands or {}).values())) if name != "score")
    shares = {}
    for band, numbers in (answer.bands or {}).items():
        threshold = numbers[level]
        shares[band] = numbers["score"] / threshold if threshold > 0 else np.inf
    return survey.bands.index(max(shares, key=lambda band: shares[band]))


def _draw(store: Cutouts, scoring: Scoring, band_of: dict[int, int], limit: float, folder: Path) -> dict[int, str]:
    """Draw the objects of some rows, each once: the file's name by row."""
    rows: IntArray = np.array(sorted(band_of), np.int64)
    reconstruction, survey = reconstructor(scoring), store.survey
    kinds = [(tile.kind, tile.bands) for tile in layout(survey)]
    composites = [next(at for at, (found, _) in enumerate(kinds) if found == kind) for kind in _COMPOSITES]
    names: dict[int, str] = {}
    for pixels in pixels_of(store, rows):
        source, expected = source_and_reconstruction(pixels, store, reconstruction)
        limit = limit or symmetric_limit(source - expected, survey)
        for row, tiles in zip(rows[pixels.places].tolist(), _by_tile(source, expected, limit, survey), strict=True):
            residual = kinds.index(("residual", (band_of[row],)))
            names[row] = f"further-{len(names):04d}.jpg"
            shown = np.concatenate([tiles[at] for at in (*composites, residual)], axis=1)
            (folder / names[row]).write_bytes(sheet(shown[None]))
    return names


def _by_tile(source: FloatArray, expected: FloatArray, limit: float, survey: Survey) -> list[list[Pixels]]:
    """The tiles of each object."""
    rows = rows_of_tiles(source, expected, limit, survey)
    return [np.split(row, len(layout(survey)), axis=1) for row in rows]
