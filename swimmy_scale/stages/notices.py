"""What was noticed while pixels were read, added up over all partitions: said once, and with its number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SHOWN = 20
"""Notices of partitions that are shown; the summary and the report have all."""

_COUNTED = re.compile(r"(?P<number>\d[\d,]*) (?P<kind>.*?)(?:; the first is (?P<first>.*))?", re.DOTALL)


@dataclass
class _Notice:
    number: int
    first: str | None


def add_up(notes: Iterable[str]) -> dict[str, int]:
    """Notices of the same kind as one, and how many files or objects each is of.

    Parameters
    ----------
    notes : iterable of str
        In order of the partitions. ``3 files are odd; the first is a.fits`` has a number, a kind and an example: of
        one kind the numbers are added up, and the first example stays. A note without a number is a kind of its own,
        and counts how often it was said.

    Returns
    -------
    dict of str to int
        Notice and number, in order of the notices. The same for any number of workers.
    """
    counted: dict[str, _Notice] = {}
    said: dict[str, int] = {}
    for note in notes:
        found = _COUNTED.fullmatch(note)
        if found is None:
            said[note] = said.get(note, 0) + 1
            continue
        number = int(found["number"].replace(",", ""))
        notice = counted.setdefault(found["kind"], _Notice(0, found["first"]))
        notice.number += number
    for kind, notice in counted.items():
        example = "" if notice.first is None else f"; the first is {notice.first}"
        said[f"{notice.number:,} {kind}{example}"] = notice.number
    return dict(sorted(said.items()))


def shown(notices: Mapping[str, int]) -> list[str]:
    """The first `SHOWN` notices with their numbers, unless they say them, and how many more there are."""
    lines = [
        notice if number == 1 or _COUNTED.fullmatch(notice) else f"{notice} ({number:,} times)"
        for notice, number in notices.items()
    ]
    more = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"{more:,} more kinds of warnings; summary.json has all"] if more > 0 else [])
