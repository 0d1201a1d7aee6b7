"""Regions and target lists, beside what astropy makes of the same positions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from swimmy_scale.method.survey import HSC
from swimmy_scale.results.looking.target_list import sexagesimal, write_csv, write_regions

RA = np.array([0.0, 30.123456789, 359.99999999, 187.5])
DEC = np.array([-0.0001, -7.987654321, 89.9999, 0.0])


def test_positions_in_base_60_come_back_to_a_milliarcsecond() -> None:
    hours, degrees = sexagesimal(RA, DEC)
    back = SkyCoord(hours, degrees, unit=("hourangle", "deg"))
    assert back.separation(SkyCoord(RA, DEC, unit="deg")).mas.max() < 1.0
    assert hours[2] == "00:00:00.0000"
    assert degrees[0] == "-00:00:00.360"
    assert (hours[3], degrees[3]) == ("12:30:00.0000", "+00:00:00.000")
    assert sexagesimal(RA[:1], DEC[:1]) == (hours[:1], degrees[:1])
    assert sexagesimal(RA[:0], DEC[:0]) == ([], [])


def test_regions_are_circles_in_icrs(tmp_path: Path) -> None:
    columns = {"object_id": np.array([1 << 60, 2]), "ra": RA[:2], "dec": DEC[:2], "level": np.array(["2sigma", ""])}
    write_regions(tmp_path / "a.reg", columns, HSC)
    head, *_, icrs, one, other = (tmp_path / "a.reg").read_text().splitlines()
    assert (head, icrs) == ("# Region file format: DS9 version 4.1", "icrs")
    for k, (line, tail) in enumerate(((one, f"text={{{1 << 60}}} tag={{2sigma}}"), (other, "text={2}"))):
        found = re.fullmatch(r'circle\((\S+),(\S+),(\S+)"\) # (.*)', line)
        assert found
        assert float(found[1]) == pytest.approx(RA[k], abs=1e-8)
        assert float(found[2]) == pytest.approx(DEC[k], abs=1e-8)
        assert float(found[3]) == pytest.approx(64 * 0.168 / 2)
        assert found[4] == tail


def test_numbers_in_csv_are_exact_and_unknown_ones_empty(tmp_path: Path) -> None:
    columns = {"object_id": np.array([1 << 60, -2]), "ra": RA[1:3], "mag": np.array([17.157423, np.nan], np.float32),
               "file": np.array(["a,b", "c"])}  # fmt: skip
    write_csv(tmp_path / "t.csv", columns)
    assert (tmp_path / "t.csv").read_text().splitlines()[1].split(",")[2] == "17.157423"
    table = Table.read(tmp_path / "t.csv")
    for name, values in columns.items():
        assert np.array_equal(np.ma.filled(table[name].astype(values.dtype), np.nan if name == "mag" else None), values,
                              equal_nan=name == "mag")  # fmt: skip
