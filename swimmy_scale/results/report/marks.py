"""Marks, notes and tags that people gave to candidates: the CSV files that the report exports, one or several."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.object_names import given_id

FORMAT_VERSION = 2
READ_VERSIONS = ("1", "2")
"""Files of version 1 have no tags."""
MARKS = ("interesting", "artefact", "known")
COLUMNS = ("format_version", "object_id", "mark", "note", "tags")
TAG_SEPARATOR = ";"
# A spreadsheet takes a cell that begins with one of these as a formula; the report puts a "'" before it, and before
# one that begins so behind marks of that kind, so that each comes back as it was.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


# How many objects a message names.
NAMED_OBJECTS = 5


class Mark(NamedTuple):
    """The mark of one candidate, one of ``MARKS``, a note and tags; some of them may be empty. And where it stands.

    ``source`` is the file's name, ``line`` its line, from 1.
    """

    mark: str
    note: str
    source: str
    line: int
    tags: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The mark, and where it stands."""
        return f"{self.mark!r} in {self.source}, line {self.line}"


def parse_marks(lines: Iterable[str], source: str) -> dict[int, Mark]:
    """Read what the report exported.

    Parameters
    ----------
    source : str
        The file's name, for messages.

    Returns
    -------
    dict of int to Mark
        By object_id, in the order of the file; there may be none.

    Raises
    ------
    SwimmyError
        With the line number: for a missing column, another format version, an object_id that is neither a whole
        number nor a name or comes twice, an unknown mark, or no mark, note or tag.
    """
    reader = csv.DictReader(lines, strict=True)
    found: dict[int, Mark] = {}
    try:
        # Spreadsheets put a byte order mark before the first name.
        names = [name.strip("\ufeff ") for name in reader.fieldnames or ()]
        missing = [name for name in COLUMNS[:3] if name not in names]
        if missing:
            raise SwimmyError(
                f"{source}, line 1: no column {', '.join(missing)}; it has {', '.join(names) or 'none'}. "
                "Give the file that the report's 'Export marks' button saves."
            )
        reader.fieldnames = names
        for row in reader:
            object_id, mark = _parsed(row, source, reader.line_num)
            if object_id in found:
                raise SwimmyError(
                    f"{source}, line {mark.line}: object_id {object_id} is marked in line {found[object_id].line} "
                    "already. Keep one of the two lines."
                )
            found[object_id] = mark
    except csv.Error as error:
        raise SwimmyError(
            f"{source}, line {reader.reader.line_num}: not CSV: {error}. Export the marks again."
        ) from error
    return found


def opinions(files: Iterable[Mapping[int, Mark]]) -> dict[int, list[Mark]]:
    """What the files say of each object, by object_id in its order: the same whatever the order of the files."""
    said: dict[int, list[Mark]] = {}
    for marks in files:
        for object_id, mark in marks.items():
            said.setdefault(object_id, []).append(mark)
    return {one: sorted(said[one], key=lambda mark: (mark.source, mark.line)) for one in sorted(said)}


def marks_of(said: Iterable[Mark]) -> set[str]:
    """The different marks among some opinions; two or more are a disagreement."""
    return {mark.mark for mark in said if mark.mark}


def disagreement(object_id: int, said: Iterable[Mark]) -> str:
    """Who says what of an object, in words."""
    return f"object_id {object_id} is {', and '.join(mark.place for mark in said if mark.mark)}"


def together(said: Sequence[Mark], mark: str) -> Mark:
    """Several opinions of an object as one, with a mark: each note and tag once, in alphabetical order."""
    # What is told of the mark is told of the first file that has one.
    first = next((one for one in said if one.mark), said[0])
    notes = sorted({one.note for one in said if one.note})
    tags = sorted({tag for one in said for tag in one.tags})
    return first._replace(mark=mark, note="; ".join(notes), tags=tuple(tags))


def merge_marks(files: Iterable[Mapping[int, Mark]]) -> dict[int, Mark]:
    """The marks of several files together, which agree.

    An object has the mark that a file gives it, whichever does; different notes are joined with "; ".

    Returns
    -------
    dict of int to Mark
        By object_id, in its order; the same whatever the order of the files.

    Raises
    ------
    SwimmyError
        When two files give an object different marks, with the objects, the files and the marks.
    """
    said = opinions(files)
    contradictions = [disagreement(one, marks) for one, marks in said.items() if len(marks_of(marks)) > 1]
    if contradictions:
        more = len(contradictions) - NAMED_OBJECTS
        raise SwimmyError(
            f"{'; '.join(contradictions[:NAMED_OBJECTS])}{f'; and {more} more' if more > 0 else ''}. "
            "Choose one mark for each of these objects, and correct the other file."
        )
    return {one: together(marks, "".join(marks_of(marks))) for one, marks in said.items()}


def _parsed(row: dict[str, str | None], source: str, line: int) -> tuple[int, Mark]:
    where = f"{source}, line {line}"
    cells = {name: _unescaped(row.get(name) or "") for name in COLUMNS}
    if cells["format_version"] not in READ_VERSIONS:
        raise SwimmyError(
            f"{where}: format_version {cells['format_version']!r} is not {' or '.join(READ_VERSIONS)}, which this "
            "program reads. Use the report and the program of the same version."
        )
    text = cells["object_id"]
    try:
        object_id = given_id(text)
    except ValueError:
        raise SwimmyError(
            f"{where}: object_id {text!r} is neither a whole number nor a name. A spreadsheet may have rewritten it: "
            "export the marks again and edit them as text."
        ) from None
    if cells["mark"] not in (*MARKS, ""):
        raise SwimmyError(f"{where}: mark {cells['mark']!r} is not one of {', '.join(MARKS)}. Correct the line.")
    tags = tuple(dict.fromkeys(filter(None, (tag.strip() for tag in cells["tags"].split(TAG_SEPARATOR)))))
    if not (cells["mark"] or cells["note"] or tags):
        raise SwimmyError(f"{where}: object_id {text} has no mark, note or tag. Give it one, or remove the line.")
    return object_id, Mark(cells["mark"], cells["note"], source, line, tags)


def _unescaped(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_SIGNS) else cell
