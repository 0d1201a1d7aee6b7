"""Counts with their noun, and names that were perhaps meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.method.words import alternatives, counted, did_you_mean, known_names, nearest

NOUNS = [("object", "objects"), ("class", "classes"), ("patch", "patches"), ("galaxy", "galaxies"), ("box", "boxes"),
         ("process", "processes"), ("entry", "entries"), ("weight set", "weight sets")]  # fmt: skip


@pytest.mark.parametrize(("one", "many"), NOUNS)
def test_nouns_follow_their_number(one: str, many: str) -> None:
    for noun in (one, many):
        assert [counted(n, noun) for n in (0, 1, 12_345)] == [f"0 {many}", f"1 {one}", f"12,345 {many}"]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("redshft", ["redshift"]),
        ("Redshift", ["redshift"]),
        ("red-shift", ["redshift"]),
        ("ra", ["RAJ2000"]),
        ("magnitude", []),
        ("", []),
    ],
)
def test_what_was_perhaps_meant(word: str, found: list[str]) -> None:
    assert nearest(word, ["redshift", "RAJ2000", "DEJ2000", "i_flux"]) == found


@given(st.text(max_size=10), st.lists(st.text(min_size=1, max_size=10), max_size=20))
def test_only_names_that_are_there(word: str, names: list[str]) -> None:
    found = nearest(word, names)
    assert len(found) <= 3
    assert set(found) <= set(names)
    assert did_you_mean(word, names) == (f"Did you mean {alternatives(found)}?" if found else "")


def test_the_best_is_first() -> None:
    assert nearest("max_magnitud", ["magnitude_band", "max_magnitude"]) == ["max_magnitude"]
    assert alternatives(["a", "b", "c"]) == "a, b or c"


def test_few_names_are_listed_and_many_are_counted() -> None:
    many = [f"column_{n}" for n in range(70)] + ["redshift"]
    assert known_names(["redshft"], many, "columns") == "Did you mean redshift? It has 71 columns in all."
    listed = known_names(["nothing"], many, "columns")
    assert listed.startswith("It has 71 columns: column_0, ")
    assert listed.endswith("column_11 and 59 more.")
    assert known_names(["g"], ["r", "i"], "bands", "There are") == "There are r, i."
    assert known_names(["g"], [], "columns") == "It has no columns."
