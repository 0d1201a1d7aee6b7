"""Files with several tables, and CSV with other separators than commas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import Resource, TableElement, VOTableFile
from astropy.table import Table

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.input_table import InputTable

WANTED = {"object_id": "text", "ra": "angle", "dec": "angle", "redshift": "float", "patch": "text"}
REQUIRED = ("object_id", "ra", "dec")


def objects(first: int = 1, **more: Any) -> Table:
    return Table({"object_id": [first, first + 1], "ra": [150.0, 151.0], "dec": [2.0, 3.0], **more})


HEADER = Table({"header_card": ["SIMPLE = T"]})


def write(path: Path, *tables: tuple[str, Table]) -> Path:
    if path.suffix == ".fits":
        hdus = [fits.BinTableHDU(table, name=name) for name, table in tables]
        image = fits.ImageHDU(np.zeros((2, 2), np.float32), name="MAP")
        fits.HDUList([fits.PrimaryHDU(), image, *hdus]).writeto(path)
        return path
    file, resource = VOTableFile(), Resource()
    file.resources.append(resource)
    for name, table in tables:
        element: TableElement = from_table(table).get_first_table()
        element.name = name
        resource.tables.append(element)
    file.to_xml(str(path))
    return path


def read(path: Path, **options: Any) -> InputTable:
    return InputTable.read(path, WANTED, required=REQUIRED, **options)


@pytest.mark.parametrize("suffix", ["fits", "vot"])
def test_the_table_that_has_the_columns_is_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t.{suffix}", ("LDAC_IMHEAD", HEADER), ("LDAC_OBJECTS", objects(7)))
    table = read(path)
    assert table.columns["object_id"].tolist() == [7, 8]
    label = {"fits": "HDU 3", "vot": "table 1"}[suffix]
    assert table.warnings == [f"{path}: {label} LDAC_OBJECTS is read, which has the columns"]


@pytest.mark.parametrize("suffix", ["fits", "vot"])
def test_a_table_is_named_by_number_or_name(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t.{suffix}", ("FIRST", objects(7)), ("SECOND", objects(20)))
    second = {"fits": 3, "vot": 1}[suffix]
    for hdu in ("second", "SECOND", second, str(second)):
        table = read(path, hdu=hdu)
        assert table.columns["object_id"].tolist() == [20, 21]
        assert table.warnings == []
    with pytest.raises(SwimmyError, match=r"has no table 'third', only .* FIRST \(object_id, ra, dec\); .* Name one"):
        read(path, hdu="third")


def test_of_two_tables_that_could_be_meant_one_must_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "same.fits", ("A", objects()), ("B", objects()))
    with pytest.raises(SwimmyError, match=r"several tables that could be meant: HDU 2 A .*; HDU 3 B .* --hdu"):
        read(path)
    path = write(tmp_path / "more.fits", ("A", objects()), ("B", objects(20, redshift=[0.1, 0.2])))
    assert read(path).columns["object_id"].tolist() == [20, 21]


@pytest.mark.parametrize("suffix", ["fits", "vot"])
def test_no_table_with_the_columns(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t.{suffix}", ("A", HEADER), ("B", Table({"object_id": [1], "alpha": [1.0]})))
    message = r"none of its tables has all of object_id, ra, dec: .* 'A|A \(.*\); .*B \(object_id, alpha\)"
    with pytest.raises(SwimmyError, match=message):
        read(path)
    renamed = {"object_id": "object_id", "ra": "alpha", "dec": "alpha"}
    assert read(path, renames=renamed).columns["ra"].tolist() == [1.0]


def test_other_formats_hold_one_table(tmp_path: Path) -> None:
    for name, options in (("t.csv", {}), ("t.ecsv", {"format": "ascii.ecsv"}), ("t.parquet", {})):
        objects().write(tmp_path / name, **options)
        with pytest.raises(SwimmyError, match=rf"{name} is \w+, which holds one table. Leave out hdu 2"):
            read(tmp_path / name, hdu=2)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "# ", "# made by hand\n# "])
def test_separators_of_a_csv(tmp_path: Path, separator: str, start: str) -> None:
    path = tmp_path / "t.csv"
    rows = [["object_id", "ra", "dec", "patch"], ["1", "150.5", "-2", '"4,5"'], ["2", "151.5", "", '"0,8"']]
    path.write_text(start + "\n".join(separator.join(row) for row in rows) + "\n")
    table = read(path)
    assert table.floats("ra").tolist() == [150.5, 151.5]
    np.testing.assert_array_equal(table.floats("dec"), [-2.0, np.nan])
    assert table.integers("patch").tolist() == [405, 8]


def test_decimal_commas_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("object_id;ra;dec\n1;150,5;2,5\n")
    with pytest.raises(SwimmyError, match="row 0: column ra is '150,5', which is not a number"):
        read(path).floats("ra", "deg")
