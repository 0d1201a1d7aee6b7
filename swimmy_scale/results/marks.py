"""Marks, notes and tags that people gave to objects: the CSV files that the report exports, one or several."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.object_names import given_id

FORMAT_VERSION = 2
READ_VERSIONS = ("1", "2")
"""Files of version 1 have no tags."""
INTERESTING, ARTEFACT, KNOWN = "interesting", "artefact", "known"
MARKS = (INTERESTING, ARTEFACT, KNOWN)
DISPUTED = "disputed"
"""The mark of an object to which several files give different marks."""
COLUMNS = ("format_version", "object_id", "mark", "note", "tags")
TAG_SEPARATOR = ";"
# A spreadsheet takes a cell that begins with one of these as a formula; the report puts a "'" before it, and before
# one that begins so behind marks of that kind, so that each comes back as it was.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


# How many objects a message names, and a command.
NAMED_OBJECTS = 5
SHOWN_DISPUTES = 20


class Mark(NamedTuple):
    """The mark of one object, one of ``MARKS``, a note and tags; some of them may be empty. And where it stands.

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


def read_marks(path: Path) -> dict[int, Mark]:
    """The marks of one file (see `parse_marks`).

    Raises
    ------
    SwimmyError
        When it cannot be read, or is not what the report exports.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return parse_marks(stream, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SwimmyError(
            f"{path}: cannot read the marks ({error}). Give the file that the report exported."
        ) from error


def read_opinions(paths: Sequence[Path]) -> dict[int, list[Mark]]:
    """What several files say of each object (see `opinions`).

    Raises
    ------
    SwimmyError
        When a file cannot be read, or is given twice.
    """
    for path, number in Counter(path.resolve() for path in paths).items():
        if number > 1:
            raise SwimmyError(f"{path}: given {number} times, so its marks would count as those of several people. "
                              "Give each file once.")  # fmt: skip
    return opinions(map(read_marks, paths))


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


def agreed(said: Mapping[int, Sequence[Mark]]) -> dict[int, Mark]:
    """The opinions of each object as one: the mark on which all agree who give one, ``DISPUTED`` where they do not.

    Notes, joined with "; ", and tags are in alphabetical order, each there once.
    """
    return {one: _together(marks, DISPUTED if _is_disputed(marks) else "".join(_marks_of(marks)))
            for one, marks in said.items()}  # fmt: skip


def disputes(said: Mapping[int, Sequence[Mark]]) -> list[str]:
    """Who says what of each object that is disputed, in words."""
    return [
        f"object_id {one} is {', and '.join(mark.place for mark in marks if mark.mark)}"
        for one, marks in said.items()
        if _is_disputed(marks)
    ]


def dispute_lines(disputes: Sequence[str]) -> list[str]:
    """What a command prints of `disputes`: the first ones, and how many more there are."""
    more = len(disputes) - SHOWN_DISPUTES
    return [*disputes[:SHOWN_DISPUTES], *([f"and {more:,} more are disputed, see --json"] if more > 0 else [])]


def _marks_of(said: Iterable[Mark]) -> set[str]:
    return {mark.mark for mark in said if mark.mark}


def _is_disputed(said: Iterable[Mark]) -> bool:
    return len(_marks_of(said)) > 1


def _together(said: Sequence[Mark], mark: str) -> Mark:
    # What is told of the mark is told of the first file that has one.
    first = next((one for one in said if one.mark), said[0])
    notes = sorted({one.note for one in said if one.note})
    tags = sorted({tag for one in said for tag in one.tags})
    return first._replace(mark=mark, note="; ".join(notes), tags=tuple(tags))


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
