"""What was noticed while pixels were read, added up over all partitions: said once, and with its number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swimmy_scale.method.words import counted

SHOWN = 20
"""Notices of partitions that are shown; the summary and the report have all."""

_COUNTED = re.compile(r"(?P<number>\d[\d,]*) (?P<kind>.*?)(?:; the first is (?P<first>.*))?", re.DOTALL)
_OF_ONE = re.compile(r"1 (?P<noun>\w+s) (?P<verb>have|are|hold|state|belong)\b(?P<rest>.*)", re.DOTALL)
_VERBS = {"have": "has", "are": "is", "hold": "holds", "state": "states", "belong": "belongs"}


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
    of_kind: dict[str, _Notice] = {}
    said: dict[str, int] = {}
    for note in notes:
        found = _COUNTED.fullmatch(note)
        if found is None:
            said[note] = said.get(note, 0) + 1
            continue
        number = int(found["number"].replace(",", ""))
        notice = of_kind.setdefault(found["kind"], _Notice(0, found["first"]))
        notice.number += number
    for kind, notice in of_kind.items():
        example = "" if notice.first is None else f"; the first is {notice.first}"
        said[f"{notice.number:,} {kind}{example}"] = notice.number
    return dict(sorted(said.items()))


def _of_one(notice: str) -> str:
    """``1 file is`` of a notice that says ``1 files are``: partitions write plurals, so that their notices add up."""
    found = _OF_ONE.fullmatch(notice)
    if found is None:
        return notice
    rest = found["rest"].replace(" and are left out", " and is left out")
    return f"{counted(1, found['noun'])} {_VERBS[found['verb']]}{rest}"


def shown(notices: Mapping[str, int]) -> list[str]:
    """The first `SHOWN` notices with their numbers, unless they say them, and how many more there are."""
    lines = [
        _of_one(notice) if number == 1 or _COUNTED.fullmatch(notice) else f"{notice} ({number:,} times)"
        for notice, number in notices.items()
    ]
    more = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"{more:,} more kinds of warnings; summary.json has all"] if more > 0 else [])
