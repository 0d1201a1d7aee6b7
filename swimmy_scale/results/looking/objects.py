"""Objects of a finished run by their ids or rows: what the stores hold of them, and what is to be said of each."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidacy import of_cut, of_no_row, of_quarantined, of_scores
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray
from swimmy_scale.results.words import number
from swimmy_scale.storage.cutouts import SampleRule
from swimmy_scale.storage.files import of_the_program
from swimmy_scale.storage.scores import BLOCK_OBJECTS
from swimmy_scale.storage.selection import SelectedRun, Selection

NO_ROW = -1
# How many object_ids a message names.
NAMED_IDS = 5


def rows_of(selection: Selection, object_ids: Sequence[int]) -> IntArray:
    """The row of each object, int64 (n,); ``NO_ROW`` where the run has no such id.

    Of an id that comes twice it is the row that is not in quarantine, if there is one.
    """
    wanted = np.asarray(object_ids, np.int64)
    order = np.argsort(wanted, kind="stable")
    ranked = wanted[order]
    rows, is_usable = np.full(len(wanted), NO_ROW), np.zeros(len(wanted), np.bool_)
    for lo, (ids, code) in selection.blocks("object_id", "quarantine_code"):
        for row in np.flatnonzero(np.isin(ids, ranked)).tolist():
            same = order[np.searchsorted(ranked, ids[row]) : np.searchsorted(ranked, ids[row], side="right")]
            better = (rows[same] == NO_ROW) | (~is_usable[same] & (code[row] == 0))
            rows[same[better]] = lo + row
            is_usable[same[better]] = code[row] == 0
    return rows


def check_found(object_ids: Sequence[int], rows: IntArray, path: Path) -> None:
    """Refuse ids that the run does not have.

    Raises
    ------
    SwimmyError
        With the first of them.
    """
    missing = [object_id for object_id, row in zip(object_ids, rows.tolist(), strict=True) if row == NO_ROW]
    if missing:
        named = ", ".join(map(str, missing[:NAMED_IDS]))
        more = f" and {len(missing) - NAMED_IDS} more" if len(missing) > NAMED_IDS else ""
        raise SwimmyError(
            f"{path}: object_id {named}{more} of {len(object_ids)} are not in the catalogue of the run. Check the ids: "
            "they are whole numbers, which a spreadsheet may have rounded, or names."
        )


@dataclass(frozen=True)
class Objects:
    """Some objects of a run.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,), ascending
    object_id : ndarray of int64, shape (n,)
    ra, dec : ndarray of float64, shape (n,), degrees
        NaN where the catalogue has none.
    name : sequence of str, length n
        Empty for those whose id is a whole number.
    known_class : sequence of str, length n
    code : ndarray of uint8, shape (n,)
        `quarantine.Code`, 0 for none.
    in_sample : ndarray of bool, shape (n,)
    score, residual : ndarray of float32, shape (n, band)
        NaN where quarantined.
    candidate : ndarray of bool, shape (n, level, band)
    """

    rows: IntArray
    object_id: IntArray
    ra: DoubleArray
    dec: DoubleArray
    name: Sequence[str]
    known_class: Sequence[str]
    code: npt.NDArray[np.uint8]
    in_sample: BoolArray
    score: FloatArray
    residual: FloatArray
    candidate: BoolArray


def read_objects(selection: Selection, rows: IntArray) -> Objects:
    """What the stores hold of rows, ascending; only blocks that hold some of them are read."""
    names = ("object_id", "ra", "dec", "sample_class", "quarantine_code", "in_sample", selection.score_name,
             selection.residual_name, "candidate",
             *([OBJECT_NAME] if OBJECT_NAME in selection.kept else []))  # fmt: skip
    parts = list(_rows_by_block(selection, rows, names))
    columns = [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]
    if not parts:
        columns = [selection.read(name, 0, 0) for name in names]
    name = [str(text) for text in columns.pop()] if OBJECT_NAME in names else [""] * len(rows)
    known_class = [str(text) for text in columns.pop(3)]
    object_id, ra, dec, code, in_sample, score, residual, candidate = columns
    return Objects(rows, object_id, ra, dec, name, known_class, code, in_sample, score, residual, candidate)


def _rows_by_block(selection: Selection, rows: IntArray, names: Sequence[str]) -> Iterator[list[AnyArray]]:
    for block in np.unique(rows // BLOCK_OBJECTS).tolist():
        inside = rows[rows // BLOCK_OBJECTS == block]
        lo, hi = int(inside[0]), int(inside[-1]) + 1
        yield [selection.read(name, lo, hi)[inside - lo] for name in names]


# ---------------------------------------------------------------- what is said of them


@dataclass(frozen=True)
class Answer:
    """What is said of one object.

    Attributes
    ----------
    object_id : int
    row : int
        ``NO_ROW`` for an id that the run does not have; it has no bands then.
    words : str
        "candidate at ...", or "no candidate: ..." and why.
    is_candidate, in_sample : bool
    name : str
        Empty where the id is a whole number.
    known_class : str
    ra, dec : float, degrees
    code : str
        Code of its quarantine, or empty.
    bands : mapping of str to mapping of str to float
        Of each selecting band ``score``, ``residual`` and the threshold of each level.
    """

    object_id: int
    row: int
    words: str
    is_candidate: bool = False
    in_sample: bool = False
    name: str = ""
    known_class: str = ""
    ra: float = np.nan
    dec: float = np.nan
    code: str = ""
    bands: dict[str, dict[str, float]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; None for what is not known."""
        bands = {
            band: {name: value if np.isfinite(value) else None for name, value in values.items()}
            for band, values in (self.bands or {}).items()
        }
        place = {name: value if np.isfinite(value) else None for name, value in (("ra", self.ra), ("dec", self.dec))}
        return {
            "object_id": int(self.object_id),
            **({"object_name": self.name} if self.name else {}),
            "in_catalogue": self.row != NO_ROW,
            "is_candidate": self.is_candidate,
            "answer": self.words,
            "known_class": self.known_class,
            **place,
            "in_sample": self.in_sample,
            "quarantine_code": self.code,
            "bands": bands,
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The numbers of each band as text: the names of the columns, and a row for each band."""
        bands = self.bands or {}
        head = ["band", *next(iter(bands.values()), {})]
        return head, [[band, *map(number, values.values())] for band, values in bands.items()]


def answers_by_id(selected: SelectedRun, object_ids: Sequence[int]) -> list[Answer]:
    """What is said of each id, in their order."""
    rows = rows_of(selected.selection, object_ids)
    found = {answer.row: answer for answer in answers_by_row(selected, np.unique(rows[rows != NO_ROW]))}
    return [
        found[row] if row != NO_ROW else Answer(object_id, row, of_no_row())
        for object_id, row in zip(object_ids, rows.tolist(), strict=True)
    ]


def answers_in_order(selected: SelectedRun, rows: IntArray) -> list[Answer]:
    """What is said of the objects of some rows, in their order."""
    found = {answer.row: answer for answer in answers_by_row(selected, np.sort(rows))}
    return [found[row] for row in rows.tolist()]


def answers_by_row(selected: SelectedRun, rows: IntArray) -> list[Answer]:
    """What is said of the objects of some rows, ascending."""
    selection = selected.selection
    objects = read_objects(selection, rows)
    quarantined = rows[objects.code != 0]
    reasons = (
        _reasons(selected.run.quarantine, set(objects.object_id[objects.code != 0].tolist()))
        if len(quarantined)
        else {}
    )
    cut = rows[(objects.code == 0) & ~objects.in_sample]
    failed = dict(zip(cut.tolist(), _failed_cuts(selected, cut), strict=True))
    bands, levels = selection.survey.selecting_bands, [str(level) for level in selection.read("level")]
    picks = selection.survey.band_index(bands)
    threshold = selection.read("threshold")[:, picks]
    given = []
    for k, row in enumerate(rows.tolist()):
        score, residual, candidate = objects.score[k, picks], objects.residual[k, picks], objects.candidate[k][:, picks]
        object_id, code = int(objects.object_id[k]), int(objects.code[k])
        label = Code(code).label if code else ""
        if code:
            words = of_quarantined(label, reasons.get((object_id, label), ()))
        elif not objects.in_sample[k]:
            words = of_cut(failed[row])
        else:
            words = of_scores(score, residual, threshold, candidate, levels, bands)
        numbers = {
            band: {"score": float(score[place])}
            | {level: float(threshold[at, place]) for at, level in enumerate(levels)}
            | {"residual": float(residual[place])}
            for place, band in enumerate(bands)
        }
        given.append(
            Answer(
                object_id,
                row,
                words,
                is_candidate=bool(candidate.any()),
                in_sample=bool(objects.in_sample[k]),
                name=objects.name[k],
                known_class=objects.known_class[k],
                ra=float(objects.ra[k]),
                dec=float(objects.dec[k]),
                code=label,
                bands=numbers,
            )
        )
    return given


def _reasons(path: Path, object_ids: set[int]) -> dict[tuple[int, str], list[str]]:
    """Reasons of ``quarantine.csv`` by object_id and code, of some objects."""
    found: dict[tuple[int, str], list[str]] = {}
    if path.is_file():
        wanted = {str(object_id) for object_id in object_ids}
        with of_the_program(path, path.parent), path.open(newline="", encoding="utf-8") as stream:
            for line in csv.DictReader(stream):
                if line["object_id"] in wanted:
                    reasons = found.setdefault((int(line["object_id"]), line["code"]), [])
                    reasons += [line["reason"]] if line["reason"] not in reasons else []
    return found


def _failed_cuts(selected: SelectedRun, rows: IntArray) -> Sequence[Any]:
    """The cuts of the selection that some rows fail; None for each where the run's cutouts are not there."""
    if not len(rows) or not selected.cutouts_path.is_dir():
        return [None] * len(rows)
    store = selected.cutouts
    return SampleRule.of(store, selected.job.sample).failed(store, rows)
