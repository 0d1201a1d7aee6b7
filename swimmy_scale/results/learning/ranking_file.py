"""``ranking.csv``: what `rank` found, in the order in which to look; the report sorts by it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.files import write_atomically

FORMAT_VERSION = 1
COLUMNS = ("format_version", "object_id", "probability", "uncertainty", "mark")


class Ranked(NamedTuple):
    """One object; probability and uncertainty are NaN where they are not known, the mark is empty if it has none."""

    object_id: int
    probability: float
    uncertainty: float
    mark: str


def write_ranking(path: Path, ranked: Iterable[Ranked]) -> None:
    """Write objects in their order; equal ones give equal bytes."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in ranked:
        numbers = (f"{value:.6f}" if math.isfinite(value) else "" for value in one[1:3])
        rows.writerow((FORMAT_VERSION, one.object_id, *numbers, one.mark))
    write_atomically(path, text.getvalue().encode())


def read_ranking(path: Path) -> Mapping[int, tuple[int, float, float]]:
    """Place (from 0), probability and uncertainty of each object; nothing where there is no such file.

    Raises
    ------
    SwimmyError
        When it is another file, of another version or damaged, with the line.
    """
    if not path.is_file():
        return {}
    found: dict[int, tuple[int, float, float]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        for place, row in enumerate(reader):
            if row.get("format_version") != str(FORMAT_VERSION):
                raise SwimmyError(
                    f"{path}, line {reader.line_num}: format_version {row.get('format_version')!r} is not "
                    f"{FORMAT_VERSION}. Remove the file and rank again."
                )
            try:
                numbers = (float(row[name] or "nan") for name in COLUMNS[2:4])
                found[int(row["object_id"])] = (place, *numbers)  # type: ignore[assignment]
            except (KeyError, TypeError, ValueError) as error:
                raise SwimmyError(
                    f"{path}, line {reader.line_num}: damaged ({error}). Remove the file and rank again."
                ) from error
    return found
