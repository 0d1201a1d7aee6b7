"""``ranking.csv``: what `rank` found, in the order in which to look; the report sorts by it."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.files import read_text, write_atomically

FORMAT_VERSION = 1
COLUMNS = ("format_version", "selection", "object_id", "probability", "uncertainty", "mark", "object_name")
# Of the digest of a selection.
N_DIGITS = 12

log = logging.getLogger("swimmy_scale")


class Ranked(NamedTuple):
    """One object; probability and uncertainty are NaN where they are not known.

    The mark is empty if it has none, and so is the name if its id is a whole number (see `method.object_names`).
    """

    object_id: int
    probability: float
    uncertainty: float
    mark: str
    name: str = ""

    def __str__(self) -> str:
        """The name, or else the id."""
        return self.name or str(self.object_id)


def write_ranking(path: Path, ranked: Iterable[Ranked], selection: str) -> None:
    """Write objects in their order; equal ones give equal bytes. ``selection`` is the digest of the candidates'."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in ranked:
        numbers = (f"{value:.6f}" if math.isfinite(value) else "" for value in one[1:3])
        rows.writerow((FORMAT_VERSION, selection[:N_DIGITS], one.object_id, *numbers, one.mark, one.name))
    write_atomically(path, text.getvalue().encode())


def read_ranking(path: Path, selection: str) -> Mapping[int, tuple[int, float, float]]:
    """Place (from 0), probability and uncertainty of each object; nothing where there is no such file.

    Nothing either where it was made of another selection than the one of the digest ``selection``, which is said.

    Raises
    ------
    SwimmyError
        When it is another file, of another version or damaged, with the line.
    """
    if not path.is_file():
        return {}
    found: dict[int, tuple[int, float, float]] = {}
    try:
        text = read_text(path)
    except ValueError as error:
        raise SwimmyError(f"{path}: not UTF-8 ({error}). Remove the file and rank again.") from error
    with io.StringIO(text, newline="") as stream:
        reader = csv.DictReader(stream)
        for place, row in enumerate(reader):
            if row.get("format_version") != str(FORMAT_VERSION):
                raise SwimmyError(
                    f"{path}, line {reader.line_num}: format_version {row.get('format_version')!r} is not "
                    f"{FORMAT_VERSION}. Remove the file and rank again."
                )
            if row.get("selection") != selection[:N_DIGITS]:
                log.warning(f"{path}: made of another selection, and left out. Rank again.")
                return {}
            try:
                probability, uncertainty = (float(row[name] or "nan") for name in ("probability", "uncertainty"))
                found[int(row["object_id"])] = (place, probability, uncertainty)
            except (KeyError, TypeError, ValueError) as error:
                raise SwimmyError(
                    f"{path}, line {reader.line_num}: damaged ({error}). Remove the file and rank again."
                ) from error
    return found
