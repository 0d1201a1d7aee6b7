"""Objects whose id is no whole number: their name stays as it is, and a number made of it stands in ``object_id``.

The one rule, for all files that come in and all that people type: an id that spells a whole number of 64 signed bits
is that number. Any other text, such as ``0001m002-1234`` or a larger number, is a name; its ``object_id`` is
`object_number` of it, and the name itself is kept in ``object_name``.
"""

from __future__ import annotations

import hashlib
import re

OBJECT_NAME = "object_name"
"""The column, and variable of the stores, that holds the names; empty for an object whose id is a number. It exists
only where some object has a name."""

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")


def object_number(name: str) -> int:
    """The ``object_id`` of an object that has a name: the first 63 bits of the SHA-256 of its UTF-8 text.

    Two of n names share a number with a probability of n^2 / 2^64: one in 20 million for a million names.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


class GivenId(int):
    """The number of a name that somebody gave; shown, it is the name."""

    name: str

    def __new__(cls, name: str) -> GivenId:
        found = super().__new__(cls, object_number(name))
        found.name = name
        return found

    def __str__(self) -> str:
        return self.name


def given_id(text: str) -> int:
    """The ``object_id`` that a text means, by the rule of this module; blanks around it do not count.

    Raises
    ------
    ValueError
        When it is empty, or a number that is not whole: a spreadsheet writes long ids as ``3.9E+16``.
    """
    text = text.strip()
    if is_number(text):
        return int(text)
    if not text or (not WHOLE_NUMBER.fullmatch(text) and _is_float(text)):
        raise ValueError(f"{text!r} is neither a whole number nor a name")
    return GivenId(text)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_number(text: str) -> bool:
    """Whether a text spells a whole number of 64 signed bits."""
    return WHOLE_NUMBER.fullmatch(text) is not None and len(text) < 25 and -(2**63) <= int(text) < 2**63
