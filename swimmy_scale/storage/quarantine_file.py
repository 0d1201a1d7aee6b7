"""``quarantine.csv``: every object that is in quarantine, with the reason."""

from __future__ import annotations

import csv
import heapq
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.quarantine import Code
from swimmy_scale.storage.files import write_atomically
from swimmy_scale.storage.receipts import Ledger

COLUMNS = ("object_id", "source", "band", "stage", "code", "reason")


def write_quarantine(path: Path, ledgers: Iterable[Ledger]) -> None:
    """Write the quarantined objects of finished stages, in the order of the catalogue; without any, only the header.

    Where some have names (see `method.object_names`), these are a further column.
    """
    ledgers = list(ledgers)
    named = any(record[-1] for ledger in ledgers for _, record in _records(ledger))
    columns = (*COLUMNS, OBJECT_NAME) if named else COLUMNS
    merged = heapq.merge(*map(_records, ledgers), key=lambda item: item[0])
    write_atomically(path, map(csv_line, chain([columns], (record[: len(columns)] for _, record in merged))))


def _records(ledger: Ledger) -> Iterator[tuple[int, Sequence[Any]]]:
    """Row of the catalogue, the values of `COLUMNS`, and the object's name, empty for one that has none."""
    for receipt in ledger.parts():
        found = sorted(receipt.details["quarantined"], key=lambda item: int(item[0]))
        for row, object_id, code, band, source, reason, *name in found:
            yield row, (object_id, source, band, ledger.stage, Code(code).label, reason, *(name or [""]))


def csv_line(values: Sequence[Any]) -> bytes:
    """One line of a CSV file."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()
