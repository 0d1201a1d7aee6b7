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


def object_id_of(text: str) -> int:
    """The ``object_id`` that a text means, by the rule of this module; blanks around it do not count."""
    text = text.strip()
    if is_number(text):
        return int(text)
    return object_number(text)


def is_number(text: str) -> bool:
    """Whether a text spells a whole number of 64 signed bits."""
    return WHOLE_NUMBER.fullmatch(text) is not None and len(text) < 25 and -(2**63) <= int(text) < 2**63
