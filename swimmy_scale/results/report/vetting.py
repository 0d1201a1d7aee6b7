"""The vetted catalogue: candidates with the marks that people gave them in the report, without artefacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import Columns
from swimmy_scale.method.thresholds import thresholds_to_json
from swimmy_scale.results.report.marks import MARKS, Mark, parse_marks
from swimmy_scale.storage.candidate_files import write_candidates
from swimmy_scale.storage.scores import SELECTED, Scores, candidate_rows

ARTEFACT = "artefact"
ADDED = ("mark", "mark_note")
# So many wrong object_ids are named in a message.
NAMED_IDS = 5


def write_vetted(
    path: Path, marks_path: Path, output: Path, formats: Sequence[str], told: Callable[[int, int], None]
) -> tuple[dict[str, int], list[Path]]:
    """Write ``vetted.*``: the candidates of a selection with columns ``mark`` and ``mark_note``, no artefacts.

    Parameters
    ----------
    path : Path
        ``scores.zarr``, selected before.
    marks_path : Path
        CSV that the report exported (see `swimmy_scale.results.report.marks`).
    output : Path
        Folder for the files.
    formats : sequence of str
    told : callable
        Told how many rows of the scores are read, and of how many.

    Returns
    -------
    dict of str to int
        ``candidates``, ``vetted``, and how many have each mark.
    list of Path
        The files.

    Raises
    ------
    SwimmyError
        When nothing is selected yet, the marks cannot be read, or one is of an object that is no candidate.
    """
    scores, n_read = Scores(path), 0

    def count(n_rows: int) -> None:
        nonlocal n_read
        n_read += n_rows
        told(n_read, scores.n_objects)

    scores = Scores(path, count)
    missing = [name for name in SELECTED if name not in scores.group]
    if missing:
        raise SwimmyError(f"{path}: no candidates are selected yet. Give `swimmy-scale select` without --marks first.")
    marks = read_marks(marks_path)
    levels = [str(level) for level in scores.read("level")]
    columns = candidate_rows(scores, levels)
    clashes = sorted(set(ADDED) & set(columns))
    if clashes:
        raise SwimmyError(
            f"{path}: the catalogue's own column {clashes[0]!r} has the name of a column of the marks. Rename it in "
            "the catalogue, then run again."
        )
    candidates = columns["object_id"].tolist()
    _check_known(marks, set(candidates), marks_path)
    found = [marks.get(object_id, Mark("", "", 0)) for object_id in candidates]
    kept = np.array([mark.mark != ARTEFACT for mark in found], dtype=np.bool_)
    vetted: Columns = {name: values[kept] for name, values in columns.items()}
    for place, name in enumerate(ADDED):
        texts = [mark[place] for mark in found if mark.mark != ARTEFACT]
        vetted[name] = np.array(texts, dtype=np.str_) if texts else np.zeros(0, "<U1")
    counts = {name: sum(mark.mark == name for mark in found) for name in MARKS}
    counts = {"candidates": len(found), "vetted": int(kept.sum()), **counts}
    meta = {
        "survey": scores.survey.name,
        "simulated": bool(scores.attrs.get("simulated", False)),
        **scores.kind.described,
        "marks": counts,
        "thresholds": thresholds_to_json(scores.read("threshold"), scores.survey.bands, levels),
    }
    return counts, list(write_candidates(vetted, output, meta=meta, formats=formats, stem="vetted").values())


def read_marks(path: Path) -> dict[int, Mark]:
    """The marks in a file.

    Raises
    ------
    SwimmyError
        When it cannot be read (see `marks.parse_marks`).
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return parse_marks(stream, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SwimmyError(
            f"{path}: cannot read the marks ({error}). Give the file that the report exported."
        ) from error


def _check_known(marks: dict[int, Mark], candidates: set[int], path: Path) -> None:
    strange = [(mark.line, object_id) for object_id, mark in marks.items() if object_id not in candidates]
    if strange:
        named = ", ".join(f"{object_id} (line {line})" for line, object_id in strange[:NAMED_IDS])
        more = f" and {len(strange) - NAMED_IDS} more" if len(strange) > NAMED_IDS else ""
        raise SwimmyError(
            f"{path}: {named}{more} of {len(marks)} marked objects are not among the {len(candidates)} candidates. "
            "Give the scores.zarr of the run whose report was marked; a spreadsheet may also have rounded long numbers."
        )
