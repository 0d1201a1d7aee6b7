"""Files that name objects, in every form that the program and people write."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.candidate_files import FORMATS, write_candidates
from swimmy_scale.storage.id_files import parse_id, read_ids

IDS = [39582418599936001, -7, 5]  # a float would round the first


@pytest.mark.parametrize("kind", FORMATS)
def test_catalogues_of_the_program_name_their_objects(tmp_path: Path, kind: str) -> None:
    paths = write_candidates({"object_id": np.array(IDS)}, tmp_path, meta={}, formats=[kind])
    assert read_ids(paths[kind]) == IDS


@pytest.mark.parametrize(("name", "text"), [
    ("marks.csv", "format_version,object_id,mark,note\n1,39582418599936001,known,\n1,-7,,a\n1,5,artefact,\n"),
    ("ids.txt", "39582418599936001\n\n-7  # a quasar\n# all\n5\n5\n"),
    ("ids", "39582418599936001\r\n-7\r\n5"),
])  # fmt: skip
def test_lists_and_marks(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    assert read_ids(tmp_path / name) == IDS


@pytest.mark.parametrize(("name", "text", "message"), [
    ("ids.txt", "7\n3.9e16\n", "ids.txt, line 2: '3.9e16' is not an object_id: a whole number, or a name. Check the"),
    ("ids.txt", "# none\n", "ids.txt: names no object. Give a list of one object_id a line."),
    ("ids.csv", "id,mark\n1,known\n", "ids.csv: no column object_id; it has id, mark. Give a table that has it."),
    ("ids.csv", "object_id\n3.9E+16\n", "ids.csv: its column object_id is float64, not whole numbers. Give the"),
    ("ids.fits", "no table", "ids.fits: cannot read object_ids"),
    ("ids.parquet", "no table", "ids.parquet: cannot read object_ids"),
])  # fmt: skip
def test_what_names_no_objects_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SwimmyError) as caught:
        read_ids(tmp_path / name)
    assert message in str(caught.value)


def test_other_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"absent.txt: cannot read object_ids .*Give a list of one a line"):
        read_ids(tmp_path / "absent.txt")
    Table({"name": [1]}).write(tmp_path / "x.parquet")
    with pytest.raises(SwimmyError, match="no column object_id; it has name"):
        read_ids(tmp_path / "x.parquet")
    Table({"object_id": [1.5]}).write(tmp_path / "y.parquet")
    with pytest.raises(SwimmyError, match="its column object_id is double, not whole numbers"):
        read_ids(tmp_path / "y.parquet")


@pytest.mark.parametrize("text", ["", " ", "1.0", "3.9E+16", "٣", "nan", "-inf"])
def test_words_that_are_no_ids(text: str) -> None:
    with pytest.raises(SwimmyError, match=r"ID: .* is not an object_id"):
        parse_id(text, "ID")
    assert parse_id("-9223372036854775807", "ID") == -9223372036854775807


@pytest.mark.parametrize("name", ["0300m050-139", "9223372036854775808", "--5", "é", "1" * 5000])
def test_names_are_found_by_their_number(tmp_path: Path, name: str) -> None:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") // 2
    assert parse_id(name, "ID") == number
    assert str(parse_id(name, "ID")) == name, "messages show what was given"
    (tmp_path / "ids.txt").write_text(f"{name}\n7\n", encoding="utf-8")
    assert read_ids(tmp_path / "ids.txt") == [number, 7]
    for file in ("ids.parquet", "ids.ecsv"):
        Table({"object_id": [name, "7"]}).write(tmp_path / file)
        assert read_ids(tmp_path / file) == [number, 7]


def test_names_and_large_numbers_in_tables(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("object_id,mark\n0300m050-139,known\n7,known\n")
    assert read_ids(tmp_path / "ids.csv") == [parse_id("0300m050-139", "ID"), 7]
    for file in ("ids.parquet", "ids.fits"):
        Table({"object_id": np.array([2**63 + 5, 7], np.uint64)}).write(tmp_path / file)
        assert read_ids(tmp_path / file) == [parse_id("9223372036854775813", "ID"), 7]
