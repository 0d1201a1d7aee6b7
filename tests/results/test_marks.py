"""Marks as the report exports them: read back whole, or refused with the line and the remedy."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.marks import (
    COLUMNS,
    FORMULA_SIGNS,
    MARKS,
    SHOWN_DISPUTES,
    Mark,
    agreed,
    dispute_lines,
    disputes,
    opinions,
    parse_marks,
    read_marks,
    read_opinions,
)

HEADER = "format_version,object_id,mark,note\n"  # of version 1
PRINTED = st.characters(exclude_categories=["Cs", "Cc"])


def parse(text: str, source: str = "marks.csv") -> dict[int, Mark]:
    return parse_marks(io.StringIO(text, newline=""), source)


def test_marks_by_object() -> None:
    found = parse(HEADER + '1,39582418599936001,interesting,\r\n1,7,artefact,"a ""ghost"", left"\r\n1,-5,known,x\n')
    assert found == {
        39582418599936001: Mark("interesting", "", "marks.csv", 2),
        7: Mark("artefact", 'a "ghost", left', "marks.csv", 3),
        -5: Mark("known", "x", "marks.csv", 4),
    }


@pytest.mark.parametrize(
    "text", [HEADER, HEADER.strip(), "\ufeff" + HEADER, "mark,object_id,format_version\n", HEADER + "\n"]
)
def test_no_marks_are_fine(text: str) -> None:
    assert parse(text) == {}


def test_a_note_of_several_lines_keeps_the_count() -> None:
    assert parse(HEADER + '1,1,known,"a\nb"\n1,2,known,\n')[2].line == 4


@given(st.dictionaries(
    st.integers(-(1 << 63) + 1, (1 << 63) - 1),
    st.tuples(
        st.sampled_from(("", *MARKS)), st.text(PRINTED),
        st.lists(st.text(PRINTED).map(str.strip).filter(lambda tag: tag and ";" not in tag), unique=True).map(tuple),
    ).filter(any),
))  # fmt: skip
def test_what_is_written_comes_back(marks: dict[int, tuple[str, str, tuple[str, ...]]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for object_id, cells in marks.items():
        texts = ["2", str(object_id), *cells[:2], "; ".join(cells[2])]
        writer.writerow([f"'{text}" if text.lstrip("'").startswith(FORMULA_SIGNS) else text for text in texts])
    found = parse(stream.getvalue())
    assert {object_id: (*mark[:2], mark.tags) for object_id, mark in found.items()} == marks


def test_tags_stand_beside_marks_and_files_of_version_1_have_none() -> None:
    text = HEADER.strip() + ",tags\n2,7,known,,lens; blue ;;lens\n2,8,,,'=odd\n1,9,known,,\n"
    assert {one: mark.tags for one, mark in parse(text).items()} == {7: ("lens", "blue"), 8: ("=odd",), 9: ()}
    more = parse(HEADER.strip() + ",tags\n2,7,,,arc; lens\n", "hers.csv")
    assert agreed(opinions([parse(text), more]))[7].tags == ("arc", "blue", "lens")


@pytest.mark.parametrize(("text", "message"), [
    ("", "marks.csv, line 1: no column format_version, object_id, mark; it has none. Give the file"),
    ("id,mark\n", "line 1: no column format_version, object_id; it has id, mark"),
    (HEADER + "3,7,known,\n", "line 2: format_version '3' is not 1 or 2, which this program reads. Use the report"),
    (HEADER + "1,7,known,\n,8,known,\n", "line 3: format_version '' is not 1 or 2,"),
    (HEADER + "1,7,boring,\n", "line 2: mark 'boring' is not one of interesting, artefact, known. Correct the line"),
    (HEADER + "1,7\n", "line 2: object_id 7 has no mark, note or tag. Give it one, or remove the line"),
    (HEADER + "1,3.96E+16,known,\n", "object_id '3.96E+16' is neither a whole number nor a name. A spreadsheet"),
    (HEADER + "1,1.0,known,\n", "is neither a whole number nor a name"),
    (HEADER + "1,٣,known,\n", "is neither a whole number nor a name"),
    (HEADER + "1,7,known,\n1,8,known,\n1,7,artefact,\n", "line 4: object_id 7 is marked in line 2 already. Keep one"),
    (HEADER + '1,7,known,"open\n', "line 2: not CSV: unexpected end of data. Export the marks again"),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(SwimmyError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(("mine", "hers", "expected"), [
    ("1,7,known,\n", "1,8,artefact,ghost\n", {7: ("known", ""), 8: ("artefact", "ghost")}),
    ("1,7,known,\n", "1,7,known,\n", {7: ("known", "")}),
    ("1,7,known,sure\n", "1,7,known,sure\n", {7: ("known", "sure")}),
    ("1,7,known,sure\n", "1,7,known,a lens\n", {7: ("known", "a lens; sure")}),
    ("1,7,,ask\n", "1,7,artefact,\n", {7: ("artefact", "ask")}),
    ("1,7,artefact,\n", "1,7,,ask\n", {7: ("artefact", "ask")}),
    ("1,7,,ask\n", "1,7,,look\n", {7: ("", "ask; look")}),
    ("1,7,known,sure\n", "1,7,artefact,\n1,8,known,\n", {7: ("disputed", "sure"), 8: ("known", "")}),
    ("", "", {}),
])  # fmt: skip
def test_files_of_two_people_are_merged(mine: str, hers: str, expected: dict[int, tuple[str, str]]) -> None:
    files = [parse(HEADER + mine, "mine.csv"), parse(HEADER + hers, "hers.csv")]
    found = agreed(opinions(files))
    assert {object_id: mark[:2] for object_id, mark in found.items()} == expected
    assert list(agreed(opinions(files[::-1])).items()) == list(found.items())


def test_who_says_what_of_disputed_objects() -> None:
    mine = parse(HEADER + "1,7,,a note first\n1,8,known,\n1,9,known,\n", "mine.csv")
    third = parse(HEADER + "1,7,known,\n1,9,known,\n", "third.csv")
    files = [mine, parse(HEADER + "1,8,artefact,\n1,7,artefact,\n", "hers.csv"), third]
    said = disputes(opinions(files))
    assert said == [
        "object_id 7 is 'artefact' in hers.csv, line 3, and 'known' in third.csv, line 2",
        "object_id 8 is 'artefact' in hers.csv, line 2, and 'known' in mine.csv, line 3",
    ]
    assert disputes(opinions(files[::-1])) == said
    assert dispute_lines(said) == said
    many = [f"object_id {k}" for k in range(SHOWN_DISPUTES + 3)]
    assert dispute_lines(many) == [*many[:SHOWN_DISPUTES], "and 3 more are disputed, see --json"]


def test_a_file_is_read_once_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + "1,7,known,\n")
    assert read_opinions([path]) == {7: [read_marks(path)[7]]}
    with pytest.raises(SwimmyError, match=r"mine.csv: given 2 times, .* Give each file once\."):
        read_opinions([path, tmp_path / "." / "mine.csv"])
    with pytest.raises(SwimmyError, match=r"absent.csv: cannot read the marks .* Give the file that the report"):
        read_marks(tmp_path / "absent.csv")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SwimmyError, match=r"mine.csv: cannot read the marks"):
        read_marks(path)
