"""The vetted catalogue: candidates with the marks that people gave them in the report, artefacts left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import Columns
from swimmy_scale.method.thresholds import thresholds_to_json
from swimmy_scale.method.words import counted
from swimmy_scale.results.report.marks import MARKS, NAMED_OBJECTS, Mark, merge_marks, parse_marks
from swimmy_scale.storage.candidate_files import write_candidates
from swimmy_scale.storage.run_directory import SelectionFolder
from swimmy_scale.storage.selection import Selection, candidate_rows

ARTEFACT = "artefact"
ADDED = ("mark", "mark_note")
NOTED, UNMARKED = "only_noted", "unmarked"


def write_vetted(
    path: Path, marks_paths: Sequence[Path], output: Path, formats: Sequence[str], told: Callable[[int, int], None]
) -> tuple[dict[str, int], list[Path]]:
    """Write ``vetted.*``: the candidates with columns ``mark`` and ``mark_note``, without artefacts.

    Parameters
    ----------
    path : Path
        The folder of a selection: a run directory, for its own.
    marks_paths : sequence of Path
        CSV files that reports exported (see `marks.parse_marks`), of one person or of several (see `merge_marks`).
    output : Path
        Folder for the files.
    told : callable
        Told how many rows of the scores are read, and of how many.

    Returns
    -------
    dict of str to int
        ``candidates``, ``vetted``, and how many candidates have each of ``MARKS``, ``only_noted`` a note, or are
        ``unmarked``: they add up to ``candidates``.
    list of Path
        The files.

    Raises
    ------
    SwimmyError
        When nothing is selected yet, when the marks cannot be read or contradict each other, or when a marked object
        is not a candidate.
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
    marks = merge_marks(map(read_marks, marks_paths))
    levels = selection.levels
    columns = candidate_rows(selection, levels)
    clashes = sorted(set(ADDED) & set(columns))
    if clashes:
        raise SwimmyError(
            f"{path}: the catalogue has a column {clashes[0]!r} of its own, and the marks need that name. Rename it in "
            "the catalogue, then run again."
        )
    candidates = columns["object_id"].tolist()
    _check_known(marks, set(candidates))
    found = [marks.get(object_id, Mark("", "", "", 0)) for object_id in candidates]
    counts = _counts(found)
    meta = {
        "survey": selection.survey.name,
        "simulated": selection.simulated,
        **selection.kind.described,
        "marks": counts,
        "thresholds": thresholds_to_json(selection.read("threshold"), selection.survey.bands, levels),
    }
    vetted = _without_artefacts(columns, found)
    return counts, list(write_candidates(vetted, output, meta=meta, formats=formats, stem="vetted").values())


def count_lines(counts: Mapping[str, int]) -> list[str]:
    """What became of the candidates, and what was said of them, in words whose numbers add up."""
    left_out = counted(counts[ARTEFACT], "artefact")
    said = [f"{counts[name]:,} {name}" for name in MARKS]
    said += [f"{counts[NOTED]:,} only noted", f"{counts[UNMARKED]:,} without mark or note"]
    return [
        f"{counted(counts['candidates'], 'candidate')} = {counts['vetted']:,} vetted + {left_out}",
        f"{counted(counts['candidates'], 'candidate')} = {' + '.join(said)}",
    ]


def _counts(found: Sequence[Mark]) -> dict[str, int]:
    """Counts of the candidates' marks; ``found`` has an empty mark for those without one."""
    counts = {name: sum(mark.mark == name for mark in found) for name in MARKS}
    counts[NOTED] = sum(not mark.mark and bool(mark.note) for mark in found)
    counts[UNMARKED] = sum(not mark.mark and not mark.note for mark in found)
    return {"candidates": len(found), "vetted": len(found) - counts[ARTEFACT], **counts}


def _without_artefacts(columns: Columns, found: Sequence[Mark]) -> Columns:
    """Columns of the candidates that are kept, and their marks; ``found`` has an empty mark for those without one."""
    is_kept = np.array([mark.mark != ARTEFACT for mark in found], dtype=np.bool_)
    kept = [mark for mark in found if mark.mark != ARTEFACT]
    marked = {name: np.array([mark[place] for mark in kept], dtype=np.str_) for place, name in enumerate(ADDED)}
    return {name: values[is_kept] for name, values in columns.items()} | marked


def read_marks(path: Path) -> dict[int, Mark]:
    """The marks of one file (see `marks.parse_marks`)."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return parse_marks(stream, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SwimmyError(
            f"{path}: cannot read the marks ({error}). Give the file that the report exported."
        ) from error


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
