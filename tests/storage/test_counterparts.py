"""counterparts.fits, read back by itself and by astropy."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.counterparts import Counterparts, read_counterparts, write_counterparts

# The contract: names and types in order.
COLUMNS = {
    "object_id": "i8", "redshift": "f8", "redshift_source": "U4", "plate": "i4", "mjd": "i4", "fiberid": "i4",
    "sample_class": "U13", "is_mpa_jhu": "?", "is_xelg": "?", "is_quasar": "?", "is_agn_candidate": "?",
    "bptclass": "i2", "milliquas_type": "U10", "ew_oii": "f4", "ew_neiii": "f4", "ew_hb_oiii": "f4",
    "ew_ha_nii": "f4", "ew_sii": "f4", "ew_band_g": "f4", "ew_band_r": "f4", "ew_band_i": "f4", "ew_band_z": "f4",
    "ew_band_y": "f4", "log_stellar_mass": "f4", "log_sfr": "f4",
}  # fmt: skip
TEXT = {
    "redshift_source": ["SDSS", "GAMA", ""],
    "sample_class": ["quasar", "agn_candidate", "other"],
    "milliquas_type": ["type1_agn", "", "other"],
}


def three() -> Counterparts:
    rng = np.random.default_rng(1)
    columns: dict[str, np.ndarray] = {}
    for name, kind in COLUMNS.items():
        if name in TEXT:
            columns[name] = np.array(TEXT[name])
        elif kind == "?":
            columns[name] = np.array([True, False, True])
        elif kind[0] == "f":
            columns[name] = np.array([*rng.normal(size=2), np.nan], kind)
        else:
            columns[name] = np.array([-1, 5, 700], kind)
    return Counterparts(**columns | {"object_id": np.array([11, 36411461425187990, 36411461425187991])})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "counterparts.fits"
    write_counterparts(path, three())
    again = read_counterparts(path)
    assert [field.name for field in fields(Counterparts)] == list(COLUMNS)
    for name, kind in COLUMNS.items():
        values, expected = getattr(again, name), getattr(three(), name)
        assert values.dtype.kind == np.dtype(kind).kind, name
        assert values.dtype.isnative
        if kind[0] != "U":
            assert values.dtype == np.dtype(kind), name
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_astropy_reads_it_with_units_and_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "counterparts.fits"
    write_counterparts(path, three(), simulated=True)
    table = Table.read(path)
    assert table.colnames == list(COLUMNS)
    assert {str(table[name].unit) for name in COLUMNS if name.startswith("ew_")} == {"Angstrom"}
    assert table.meta["format_version"] == 1
    assert table.meta["SIMULATE"] is True
    with fits.open(path, checksum=True) as hdus:
        assert hdus[1].header["TCOMM1"] == "Identifier in the survey's catalogue"


def test_same_content_gives_the_same_bytes_and_no_rows_are_fine(tmp_path: Path) -> None:
    for name in ("a.fits", "b.fits"):
        write_counterparts(tmp_path / name, three())
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()
    none = three().take(np.zeros(3, np.bool_))
    write_counterparts(tmp_path / "none.fits", none)
    assert len(read_counterparts(tmp_path / "none.fits")) == 0
    assert none.rows_of(np.array([5])).tolist() == [-1]


def test_rows_of_ids_and_classes() -> None:
    ids = np.array([36411461425187991, 12, 11, 36411461425187989, 99999999999999999])
    assert three().rows_of(ids).tolist() == [2, -1, 0, -1, -1]
    assert three().classes.is_quasar.tolist() == [True, False, True]


def test_other_versions_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counterparts.fits"
    write_counterparts(path, three())
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["format_version"] = 2
        for hdu in hdus:
            hdu.add_checksum()
    with pytest.raises(SwimmyError, match="its format_version is 2, this program reads 1"):
        read_counterparts(path)
    with pytest.raises(SwimmyError, match="not a readable table of counterparts"):
        read_counterparts(tmp_path / "absent.fits")
    Table({"a": [1]}).write(tmp_path / "other.fits")
    with pytest.raises(SwimmyError, match="not a readable table of counterparts"):
        read_counterparts(tmp_path / "other.fits")
    write_counterparts(path, three())
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"quasar", b"quazar")):
        path.write_bytes(damaged)
        with pytest.raises(SwimmyError, match="not a readable table of counterparts"):
            read_counterparts(path)
