"""Numbers and times as people read them."""

from __future__ import annotations

import math

import pytest

from swimmy_scale.results.words import counted, duration, number


@pytest.mark.parametrize(("value", "text"), [
    (None, "–"), (math.nan, "–"), (1234567, "1,234,567"), (0.123456789, "0.12346"), (12.0, "12"),
])  # fmt: skip
def test_numbers_as_people_read_them(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (59.5, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (90000, "25 h 00 min"),
        (-1, "0 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_short_durations_with_digits() -> None:
    texts = [duration(seconds, 1) for seconds in (0.04, 59.94, 61, 3725)]
    assert texts == ["0.0 s", "59.9 s", "1 min 01 s", "1 h 02 min"]


def test_nouns_follow_their_number() -> None:
    assert [counted(n, "object") for n in (0, 1, 12_345)] == ["0 objects", "1 object", "12,345 objects"]
