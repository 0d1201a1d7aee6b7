"""The vetted catalogue: candidates with the marks that people gave them in the report, artefacts left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.candidates import Columns
from swimmy_scale.method.thresholds import thresholds_to_json
from swimmy_scale.method.words import counted
from swimmy_scale.results.report.marks import MARKS, Mark, parse_marks
from swimmy_scale.storage.candidate_files import write_candidates
from swimmy_scale.storage.scores import SELECTED, Scores, candidate_rows

ARTEFACT = "artefact"
ADDED = ("mark", "mark_note")
# How many wrong object_ids a message names.
NAMED_IDS = 5


def write_vetted(
    path: Path, marks_path: Path, output: Path, formats: Sequence[str], told: Callable[[int, int], None]
) -> tuple[dict[str, int], list[Path]]:
    """Write ``vetted.*``: the candidates with columns ``mark`` and ``mark_note``, without artefacts.

    Parameters
    ----------
    path : Path
        ``scores.zarr``, after selection.
    marks_path : Path
        CSV that the report exported (see `marks.parse_marks`).
    output : Path
        Folder for the files.
    told : callable
        Told how many rows of the scores are read, and of how many.

    Returns
    -------
    dict of str to int
        ``candidates``, ``vetted``, and how many candidates have each mark.
    list of Path
        The files.

    Raises
    ------
    SwimmyError
        When nothing is selected yet, when the marks cannot be read, or when a marked object is not a candidate.
    """
    n_read = 0

    def count(n_rows: int) -> None:
        nonlocal n_read
        n_read += n_rows
        told(n_read, scores.n_objects)

    scores = Scores(path, count)
    missing = [name for name in SELECTED if name not in scores.group]
    if missing:
        raise SwimmyError(f"{path}: no candidates are selected yet. Run `{typed('select')}` without --marks first.")
    marks = _read_marks(marks_path)
    levels = [str(level) for level in scores.read("level")]
    columns = candidate_rows(scores, levels)
    clashes = sorted(set(ADDED) & set(columns))
    if clashes:
        raise SwimmyError(
            f"{path}: the catalogue has a column {clashes[0]!r} of its own, and the marks need that name. Rename it in "
            "the catalogue, then run again."
        )
    candidates = columns["object_id"].tolist()
    _check_known(marks, set(candidates), marks_path)
    found = [marks.get(object_id, Mark("", "", 0)) for object_id in candidates]
    counts = {name: sum(mark.mark == name for mark in found) for name in MARKS}
    counts = {"candidates": len(found), "vetted": len(found) - counts[ARTEFACT], **counts}
    meta = {
        "survey": scores.survey.name,
        "simulated": bool(scores.attrs.get("simulated", False)),
        **scores.kind.described,
        "marks": counts,
        "thresholds": thresholds_to_json(scores.read("threshold"), scores.survey.bands, levels),
    }
    vetted = _without_artefacts(columns, found)
    return counts, list(write_candidates(vetted, output, meta=meta, formats=formats, stem="vetted").values())


def _without_artefacts(columns: Columns, found: Sequence[Mark]) -> Columns:
    """Columns of the candidates that are kept, and their marks; ``found`` has an empty mark for those without one."""
    is_kept = np.array([mark.mark != ARTEFACT for mark in found], dtype=np.bool_)
    kept = [mark for mark in found if mark.mark != ARTEFACT]
    marked = {name: np.array([mark[place] for mark in kept], dtype=np.str_) for place, name in enumerate(ADDED)}
    return {name: values[is_kept] for name, values in columns.items()} | marked


def _read_marks(path: Path) -> dict[int, Mark]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return parse_marks(stream, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SwimmyError(
            f"{path}: cannot read the marks ({error}). Give the file that the report exported."
        ) from error


def _check_known(marks: dict[int, Mark], candidates: set[int], path: Path) -> None:
    unknown = [(mark.line, object_id) for object_id, mark in marks.items() if object_id not in candidates]
    if unknown:
        named = ", ".join(f"{object_id} (line {line})" for line, object_id in unknown[:NAMED_IDS])
        more = f" and {len(unknown) - NAMED_IDS} more" if len(unknown) > NAMED_IDS else ""
        raise SwimmyError(
            f"{path}: {named}{more} of {counted(len(marks), 'marked objects')} are not among the "
            f"{counted(len(candidates), 'candidates')}. "
            "Give the scores.zarr of the run whose report was marked. A spreadsheet may also have rounded long numbers."
        )
