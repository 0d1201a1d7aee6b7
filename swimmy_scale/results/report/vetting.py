"""The vetted catalogue: candidates with the marks that people gave them in the report, artefacts left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import Columns
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.method.thresholds import thresholds_to_json
from swimmy_scale.method.words import counted
from swimmy_scale.results.marks import (
    ARTEFACT,
    DISPUTED,
    MARKS,
    NAMED_OBJECTS,
    TAG_SEPARATOR,
    Mark,
    agreed,
    disputes,
    read_opinions,
)
from swimmy_scale.storage.candidate_files import write_candidates
from swimmy_scale.storage.run_directory import SelectionFolder
from swimmy_scale.storage.selection import Selection, candidate_rows

ADDED = ("mark", "mark_note", "mark_tags")
ADDED_OF_SEVERAL = (*(f"n_{mark}" for mark in MARKS), "mark_agreement")
NOTED, UNMARKED = "only_noted", "unmarked"
NOTHING = Mark("", "", "", 0)


class Vetted(NamedTuple):
    """What became of the marks.

    Attributes
    ----------
    counts : dict of str to int
        ``candidates``, ``vetted``, and how many candidates have each of ``MARKS``, are ``disputed`` (of several files),
        have ``only_noted`` a note or tags, or are ``unmarked``: they add up to ``candidates``.
    files : list of Path
    disputes : list of str
        Who says what of each object that is disputed.
    """

    counts: dict[str, int]
    files: list[Path]
    disputes: list[str]


def write_vetted(
    path: Path, marks_paths: Sequence[Path], output: Path, formats: Sequence[str], told: Callable[[int, int], None]
) -> Vetted:
    """Write ``vetted.*``: the candidates with columns of ``ADDED``, without artefacts.

    Of several files, an object has the mark on which all agree who marked it, and ``disputed`` where they do not; only
    those are left out that all call artefacts. Columns ``n_interesting``, ``n_artefact`` and ``n_known`` then say how
    many files give each mark, and ``mark_agreement`` the share of the most common one, NaN without a mark. The order
    of the files does not matter.

    Parameters
    ----------
    path : Path
        The folder of a selection: a run directory, for its own.
    marks_paths : sequence of Path
        CSV files that reports exported (see `marks.parse_marks`), of one person or of several.
    output : Path
        Folder for the files.
    told : callable
        Told how many rows of the scores are read, and of how many.

    Raises
    ------
    SwimmyError
        When nothing is selected yet, when the marks cannot be read, a file is given twice, or a marked object is not a
        candidate.
    """
    n_read = 0

    def count(n_rows: int) -> None:
        nonlocal n_read
        n_read += n_rows
        told(n_read, selection.n_objects)

    folder = SelectionFolder(path)
    if not folder.store.is_dir():
        raise SwimmyError(f"{path}: no candidates are selected here yet. Give a finished run or a selection's folder.")
    selection = Selection(folder.store, add=count)
    said = read_opinions(marks_paths)
    levels = selection.levels
    columns = candidate_rows(selection, levels)
    added = (*ADDED, *ADDED_OF_SEVERAL) if len(marks_paths) > 1 else ADDED
    clashes = sorted(set(added) & set(columns))
    if clashes:
        raise SwimmyError(
            f"{path}: the catalogue has a column {clashes[0]!r} of its own, and the marks need that name. Rename it in "
            "the catalogue, then run again."
        )
    candidates = columns["object_id"].tolist()
    merged = agreed(said)
    _check_known(merged, set(candidates))
    found = [merged.get(object_id, NOTHING) for object_id in candidates]
    counts = _counts(found, len(marks_paths) > 1)
    meta = {
        "survey": selection.survey.name,
        "simulated": selection.simulated,
        **selection.kind.described,
        "marks": counts,
        "thresholds": thresholds_to_json(selection.read("threshold"), selection.survey.bands, levels),
    }
    agreement = _agreement([said.get(object_id, []) for object_id in candidates]) if len(marks_paths) > 1 else {}
    vetted = _without_artefacts(columns | _marked(found) | agreement)
    files = list(write_candidates(vetted, output, meta=meta, formats=formats, stem="vetted").values())
    return Vetted(counts, files, disputes(said))


def count_lines(counts: Mapping[str, int]) -> list[str]:
    """What became of the candidates, and what was said of them, in words whose numbers add up."""
    left_out = counted(counts[ARTEFACT], "artefact")
    said = [f"{counts[name]:,} {name}" for name in (*MARKS, DISPUTED) if name in counts]
    said += [f"{counts[NOTED]:,} only noted", f"{counts[UNMARKED]:,} without mark or note"]
    return [
        f"{counted(counts['candidates'], 'candidate')} = {counts['vetted']:,} vetted + {left_out}",
        f"{counted(counts['candidates'], 'candidate')} = {' + '.join(said)}",
    ]


def _agreement(said: Sequence[Sequence[Mark]]) -> dict[str, AnyArray]:
    """How many files give each mark to each candidate, and the share of the most common one."""
    numbers = [Counter(mark.mark for mark in marks if mark.mark) for marks in said]
    share = [max(one.values()) / one.total() if one else np.nan for one in numbers]
    by_mark = [np.array([one[mark] for one in numbers], np.int16) for mark in MARKS]
    return dict(zip(ADDED_OF_SEVERAL, (*by_mark, np.array(share)), strict=True))


def _counts(found: Sequence[Mark], are_several: bool) -> dict[str, int]:
    """Counts of the candidates' marks; ``found`` has an empty mark for those without one."""
    counts = {name: sum(mark.mark == name for mark in found) for name in MARKS}
    if are_several:
        counts[DISPUTED] = sum(mark.mark == DISPUTED for mark in found)
    counts[NOTED] = sum(not mark.mark and bool(mark.note or mark.tags) for mark in found)
    counts[UNMARKED] = sum(not (mark.mark or mark.note or mark.tags) for mark in found)
    return {"candidates": len(found), "vetted": len(found) - counts[ARTEFACT], **counts}


def _marked(found: Sequence[Mark]) -> dict[str, AnyArray]:
    """The marks of the candidates as columns."""
    cells = [(mark.mark, mark.note, f"{TAG_SEPARATOR} ".join(mark.tags)) for mark in found]
    return {name: np.array([cell[k] for cell in cells], dtype=np.str_) for k, name in enumerate(ADDED)}


def _without_artefacts(columns: Columns) -> Columns:
    is_kept = columns["mark"] != ARTEFACT
    return {name: values[is_kept] for name, values in columns.items()}


def _check_known(marks: dict[int, Mark], candidates: set[int]) -> None:
    unknown = [(mark, object_id) for object_id, mark in marks.items() if object_id not in candidates]
    if unknown:
        named = ", ".join(
            f"{object_id} ({mark.source}, line {mark.line})" for mark, object_id in unknown[:NAMED_OBJECTS]
        )
        more = f" and {len(unknown) - NAMED_OBJECTS} more" if len(unknown) > NAMED_OBJECTS else ""
        raise SwimmyError(
            f"{named}{more} of {counted(len(marks), 'marked object')} are not among the "
            f"{counted(len(candidates), 'candidate')}. "
            "Give the run, or the selection, whose report was marked. A spreadsheet may also have rounded long numbers."
        )
