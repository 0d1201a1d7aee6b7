"""Published tables of spectra: their columns, what counts in them, and what a catalogue gets from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table, vstack

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.spectroscopy.matching import find_counterparts
from swimmy_scale.ingest.spectroscopy.published_tables import (
    read_dr16q,
    read_gama,
    read_milliquas,
    read_mpa_jhu,
    read_sdss,
)
from swimmy_scale.method.emission_lines import LINES, throughput
from swimmy_scale.method.sections import MpaJhuSection, SpectroscopySection
from swimmy_scale.storage.counterparts import Counterparts

ARCSEC = 1.0 / 3600.0


def save(path: Path, columns: Mapping[str, Any]) -> Path:
    Table(dict(columns)).write(path)
    return path


def sdss_columns(n: int) -> dict[str, Any]:
    return {
        "PLATE": np.arange(266, 266 + n, dtype=np.int32),
        "MJD": np.full(n, 51602, np.int32),
        "FIBERID": np.arange(1, n + 1, dtype=np.int32),
        "PLUG_RA": 10.0 + np.arange(n),
        "PLUG_DEC": np.zeros(n),
        "Z": np.full(n, 0.1, np.float32),
    }


def line_columns(n: int, **widths: float) -> dict[str, Any]:
    """galSpecLine of n spectra: all lines 1 Angstrom in emission, or as given, in MPA-JHU's signs."""
    columns: dict[str, Any] = {}
    for name in LINES:
        columns[f"{name.upper()}_EQW"] = np.full(n, widths.get(name, -1.0), np.float32)
        columns[f"{name.upper()}_EQW_ERR"] = np.full(n, 0.5, np.float32)
    return columns


def mpa_files(
    folder: Path, info: Mapping[str, Any], line: Mapping[str, Any], extra: Mapping[str, Any]
) -> tuple[Path, Path, Path]:
    folder.mkdir(exist_ok=True)
    return (save(folder / "info.fits", info), save(folder / "line.fits", line), save(folder / "extra.fits", extra))


def info_columns(ids: list[int] | None, n: int) -> dict[str, Any]:
    columns: dict[str, Any] = {} if ids is None else {"SPECOBJID": np.array(ids, np.int64)}
    return columns | {
        "PLATEID": np.full(n, 266, np.int16), "MJD": np.full(n, 51602), "FIBERID": np.arange(n, dtype=np.int16),
        "RA": (10.0 + np.arange(n)).astype(np.float32), "DEC": np.zeros(n, np.float32),
        "Z": np.full(n, 0.1, np.float32), "Z_WARNING": np.zeros(n, np.int16), "RELIABLE": np.ones(n, np.int16),
    }  # fmt: skip


def extra_columns(bptclass: list[int]) -> dict[str, Any]:
    n = len(bptclass)
    return {
        "BPTCLASS": np.array(bptclass, np.int16),
        "LGM_TOT_P50": np.linspace(9.0, 11.0, n, dtype=np.float32),
        "SFR_TOT_P50": np.linspace(-1.0, 1.0, n, dtype=np.float32),
    }


def find(section: SpectroscopySection, ra: list[float], dec: list[float] | None = None) -> Counterparts:
    at = np.array(ra), np.zeros(len(ra)) if dec is None else np.array(dec)
    ids = 1000 - np.arange(len(ra))  # falling, so that sorting shows
    return find_counterparts(ids, *at, np.ones(len(ra), np.bool_), section)[0]


# ---------------------------------------------------------------- one table


@pytest.mark.parametrize("suffix", ["fits", "csv", "parquet", "ecsv"])
def test_sdss_in_any_format_with_its_published_names(suffix: str, tmp_path: Path) -> None:
    table = Table(sdss_columns(4) | {"ZWARNING": [0, 4, 0, 0], "SPECPRIMARY": [1, 1, 0, 1], "CLASS": ["GALAXY"] * 4})
    path = tmp_path / f"specObj.{suffix}"
    table.write(path, **({"format": "ascii.ecsv"} if suffix == "ecsv" else {}))
    found, repeated = read_sdss(path)
    # The second has a warning, the third is not the best spectrum of its source.
    np.testing.assert_array_equal(found.ra, [10.0, np.nan, np.nan, 13.0])
    np.testing.assert_array_equal(repeated.ra, [np.nan, np.nan, 12.0, np.nan])
    np.testing.assert_allclose(found.redshift, 0.1, rtol=1e-6)
    assert (found.plate[3], found.mjd[3], found.fiberid[3]) == (269, 51602, 4)


@pytest.mark.parametrize(
    ("warning", "counts"),
    [(0, True), (16, True), (4, False), (1, False), (16 + 4, False), (128, False), (1 << 12, False), (-1, False)],
)
def test_bits_of_zwarning_decide_by_what_they_mean(warning: int, counts: bool, tmp_path: Path) -> None:
    # Of all bits only MANY_OUTLIERS, 16, usually tells of strong lines and not of an error.
    columns = sdss_columns(2) | {"ZWARNING": [0, warning]}
    best, _ = read_sdss(save(tmp_path / "t.fits", columns))
    assert np.isfinite(best.ra).tolist() == [True, counts]


def test_each_rule_says_how_many_spectra_it_dropped(tmp_path: Path) -> None:
    columns = sdss_columns(6) | {"ZWARNING": [0, 16, 4, 16 + 4 + 128, 0, 0], "SPECPRIMARY": [1, 1, 1, 1, 0, 1]}
    columns["Z"] = np.array([0.1, 0.1, 0.1, 0.1, 0.1, -9999.0])
    path = save(tmp_path / "t.fits", columns)
    said = "3 of 6 spectra do not count: no redshift 1, ZWARNING SMALL_DELTA_CHI2 2, ZWARNING UNPLUGGED 1"
    outliers = "1 of 6 spectra count although MANY_OUTLIERS is set"
    assert read_sdss(path)[0].notes == (f"{path}: {said}", f"{path}: {outliers}")
    gama = {"RA": np.arange(4.0), "DEC": np.zeros(4), "Z": [0.1, 0.1, -9.9, 0.1], "NQ": [2, 3, 4, 1]}
    path = save(tmp_path / "gama.fits", gama)
    assert read_gama(path).notes == (f"{path}: 3 of 4 spectra do not count: NQ below 3 2, no redshift 1",)
    info = info_columns(None, 4)
    info["PLATEID"][0], info["RELIABLE"][1], info["Z_WARNING"][2] = -1, 0, 16
    files = mpa_files(tmp_path / "m", info, line_columns(4), extra_columns([1] * 4))
    said = "2 of 4 spectra were not measured reliably: Z_WARNING MANY_OUTLIERS 1, RELIABLE is 0 1"
    expected = (f"{files[0]}: 1 of 4 spectra do not count: no plate 1", f"{files[0]}: {said}")
    assert read_mpa_jhu(*files).spectra.notes == expected


@pytest.mark.parametrize("mark", [-9999.0, -1.0, 99.0, np.nan])
def test_marks_of_unknown_redshifts(mark: float, tmp_path: Path) -> None:
    columns = {"RA": [10.0, 11.0], "DEC": [0.0, 0.0], "Z": [mark, 2.1]}
    found = read_dr16q(save(tmp_path / "q.fits", columns))
    np.testing.assert_array_equal(found.redshift, [np.nan, 2.1])


def test_units_of_spectra(tmp_path: Path) -> None:
    columns = Table(sdss_columns(1))
    columns["PLUG_RA"], columns["PLUG_RA"].unit = np.radians([10.0]), "rad"
    found = read_sdss(save(tmp_path / "t.fits", columns))[0]
    assert found.ra == pytest.approx([10.0], rel=1e-14)
    assert found.notes == (f"{tmp_path / 't.fits'}: plug_ra converted from rad to deg",)
    line = Table(line_columns(1, h_alpha=-12.0))
    line["H_ALPHA_EQW"].unit = line["H_ALPHA_EQW_ERR"].unit = "nm"
    files = mpa_files(tmp_path / "m", info_columns(None, 1), line, extra_columns([1]))
    assert read_mpa_jhu(*files).widths["h_alpha"][0] == pytest.approx(120.0)


def test_real_specobj_rows(shared_data: Path, tmp_path: Path) -> None:
    # The first is a repeated spectrum, the second the best of its source.
    files = [shared_data / "spectra" / f"spec-{name}.fits" for name in ("0266-51602-0107", "0332-52367-0639")]
    rows = vstack([Table.read(file, hdu="SPECOBJ") for file in files])
    best, repeated = read_sdss(save(tmp_path / "t.fits", {n: rows[n] for n in rows.colnames if rows[n].ndim == 1}))
    np.testing.assert_allclose(repeated.ra, [146.49052, np.nan])
    np.testing.assert_allclose(best.ra, [np.nan, 184.03066])
    np.testing.assert_allclose(best.dec, [np.nan, -2.2382793])
    np.testing.assert_allclose(best.redshift, [0.12314858, 0.10060976], rtol=1e-6)
    assert list(zip(best.plate, best.mjd, best.fiberid, strict=True)) == [(266, 51602, 107), (332, 52367, 639)]


def test_best_of_repeated_spectra_goes_before_a_nearer_one(tmp_path: Path) -> None:
    columns = sdss_columns(3) | {"SPECPRIMARY": [0, 1, 0], "Z": np.array([0.7, 0.1, 0.2])}
    columns["PLUG_RA"] = np.array([10.0, 10.0 + 0.8 * ARCSEC, 11.0])
    found = find(SpectroscopySection(sdss=save(tmp_path / "t.fits", columns)), [10.0, 11.0])
    assert found.redshift.tolist() == [0.2, 0.1]
    assert found.plate.tolist() == [268, 267]


@pytest.mark.parametrize("names", [("RA", "DEC"), ("ra", "dec"), ("RAJ2000", "DEJ2000")])
def test_other_names_of_positions(names: tuple[str, str], tmp_path: Path) -> None:
    columns = sdss_columns(1)
    columns[names[0]], columns[names[1]] = columns.pop("PLUG_RA"), columns.pop("PLUG_DEC")
    assert read_sdss(save(tmp_path / "t.fits", columns))[0].ra.tolist() == [10.0]


def test_gama_counts_from_quality_3(tmp_path: Path) -> None:
    columns = {"RA": np.arange(5.0), "DEC": np.zeros(5), "Z": [0.1, 0.1, 0.1, -9.9, 0.1], "NQ": [1, 2, 3, 4, 4]}
    found = read_gama(save(tmp_path / "gama.fits", columns))
    np.testing.assert_array_equal(found.ra, [np.nan, np.nan, 2.0, np.nan, 4.0])
    assert set(found.plate.tolist()) == {-1}


@pytest.mark.parametrize("column", ["TYPE", "Descrip"])
def test_kinds_of_milliquas(column: str, tmp_path: Path) -> None:
    letters = ["Q", "QRX", "A", "AX", "N", "NR", "K", "B", "BRX", "q", "RX", ""]
    columns = {"RA": np.arange(12.0), "DEC": np.zeros(12), column: letters}
    expected = ["quasar"] * 2 + ["type1_agn"] * 2 + ["type2_agn"] * 3 + ["other"] * 5
    assert read_milliquas(save(tmp_path / "milliquas.fits", columns))[1].tolist() == expected


@pytest.mark.parametrize(
    ("read", "columns", "message"),
    [
        (read_sdss, {"PLUG_RA": [1.0], "PLUG_DEC": [1.0]}, "no column Z"),
        (read_sdss, {"PLUG_RA": [1.0], "Z": [1.0]}, "no column PLUG_DEC or DEC or DEJ2000 or DECJ2000"),
        (read_gama, {"RA": [1.0], "DEC": [1.0], "Z": [1.0]}, "no column NQ"),
        (read_dr16q, {"DEC": [1.0], "Z": [1.0]}, "no column PLUG_RA or RA or RAJ2000"),
        (read_milliquas, {"RA": [1.0], "DEC": [1.0]}, "no column TYPE or DESCRIP"),
    ],
)
def test_missing_column_is_refused(read: Any, columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=message):
        read(save(tmp_path / "t.fits", columns))


# ---------------------------------------------------------------- MPA-JHU


def test_mpa_jhu_joined_by_id_in_any_order(tmp_path: Path) -> None:
    ids = [7, -1, 9]
    info = info_columns(ids, 3)
    info["PLATEID"] = np.array([266, -1, 266], np.int16)
    info["RA"] = np.array([10.0, -9999.0, 12.0], np.float32)
    line = line_columns(3) | {"SPECOBJID": ["   9", "  -1", "   7"]}  # text, as specObj has it
    line["H_ALPHA_EQW"] = np.array([-90.0, 0.0, -70.0], np.float32)
    extra = extra_columns([4, 1]) | {"SPECOBJID": np.array([9, 8], np.int64)}
    found = read_mpa_jhu(*mpa_files(tmp_path / "m", info, line, extra))
    np.testing.assert_array_equal(found.spectra.ra, [10.0, np.nan, 12.0])
    assert found.widths["h_alpha"][[0, 2]].tolist() == [70.0, 90.0]
    assert found.bptclass.tolist() == [-1, -1, 4]
    np.testing.assert_array_equal(found.log_stellar_mass, [np.nan, np.nan, 9.0])


def test_mpa_jhu_joined_by_order_where_ids_are_missing(tmp_path: Path) -> None:
    info, line, extra = info_columns([1, 2], 2), line_columns(2), extra_columns([-1, 5])
    found = read_mpa_jhu(*mpa_files(tmp_path / "a", info, line, extra))
    assert found.bptclass.tolist() == [-1, 5]
    with pytest.raises(SwimmyError, match=r"has 2 rows and .* has 3, and not both have SPECOBJID"):
        read_mpa_jhu(*mpa_files(tmp_path / "b", info, line_columns(3), extra))


@pytest.mark.parametrize("mark", [-9999.0, -99.0, 99.0])
def test_marks_of_missing_values(mark: float, tmp_path: Path) -> None:
    info = info_columns(None, 4)
    info["RELIABLE"][1], info["Z_WARNING"][2] = 0, 4
    extra = extra_columns([3, 3, 3, 3])
    extra["LGM_TOT_P50"][3], extra["SFR_TOT_P50"][3] = mark, mark
    found = read_mpa_jhu(*mpa_files(tmp_path / "m", info, line_columns(4), extra))
    assert np.isfinite(found.spectra.ra).all()  # all are in MPA-JHU
    assert np.isnan(found.widths["h_beta"]).tolist() == [False, True, True, False]
    assert found.bptclass.tolist() == [3, -1, -1, 3]
    assert found.has_bptclass.tolist() == [True, False, False, True]
    assert np.isnan(found.log_stellar_mass).tolist() == np.isnan(found.log_sfr).tolist() == [False, True, True, True]


def test_widths_at_rest_are_stretched(tmp_path: Path) -> None:
    files = mpa_files(tmp_path / "m", info_columns(None, 1), line_columns(1, h_alpha=-100.0), extra_columns([1]))
    assert read_mpa_jhu(*files).widths["h_alpha"][0] == 100.0
    assert read_mpa_jhu(*files, widths_at_rest=True).widths["h_alpha"][0] == pytest.approx(110.0)


SHOC_579 = {
    "oii_3726": -61.7, "oii_3729": -48.0, "neiii_3869": -68.5, "h_beta": -252.6, "oiii_4959": -480.9,
    "oiii_5007": -1379.0, "nii_6548": -17.0, "h_alpha": -989.6, "nii_6584": -56.9, "sii_6717": -40.8,
    "sii_6731": -38.6,
}  # fmt: skip
"""Widths of a real extreme emission-line galaxy, in MPA-JHU's sign."""


def classes_of(
    folder: Path, info: dict[str, Any], line: dict[str, Any], bptclass: list[int]
) -> tuple[Counterparts, list[str]]:
    files = mpa_files(folder, info, line, extra_columns(bptclass))
    section = SpectroscopySection(mpa_jhu=MpaJhuSection(info=files[0], line=files[1], extra=files[2]))
    n = len(bptclass)
    ids, usable = np.arange(n), np.ones(n, np.bool_)
    found, _, notes = find_counterparts(ids, 10.0 + np.arange(n), np.zeros(n), usable, section)
    return found, notes


def test_strong_lines_decide_and_unreliable_spectra_have_no_class(tmp_path: Path) -> None:
    info, line = info_columns(None, 5), line_columns(5, **SHOC_579)
    info["RELIABLE"][2], info["Z_WARNING"][3] = 0, 16
    for name in ("NII_6548", "OIII_4959", "OII_3726"):  # one line of each group was not measured
        line[f"{name}_EQW_ERR"][1] = -1.0
    found, notes = classes_of(tmp_path / "m", info, line, [1, 1, 4, 1, 1])
    assert found.sample_class.tolist() == ["xelg", "xelg", "", "", "xelg"]
    assert np.isnan(found.ew_ha_nii).tolist() == [False, True, True, True, False]
    assert any(note.startswith("2 of 5 objects in MPA-JHU have no class") for note in notes)
    assert found.classes.is_undecided.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("change", "bptclass", "expected"),
    [
        ({}, 1, "training"),
        ({}, -1, "training"),  # lines too weak to tell, as in most early-type galaxies: the table says so
        ({}, 4, "agn_candidate"),
        ({}, 99, ""),  # no value of BPTCLASS
        ({"H_ALPHA_EQW_ERR": -1.0}, 1, ""),
        ({"H_ALPHA_EQW_ERR": -1.0}, 4, "agn_candidate"),
        ({"H_ALPHA_EQW_ERR": -1.0, "OIII_5007_EQW": -150.0}, 1, "xelg"),
        ({"SII_6717_EQW_ERR": -1.0, "NEIII_3869_EQW_ERR": -1.0}, 1, "training"),  # they do not make an XELG
        ({"H_ALPHA_EQW": -654.0, "NII_6548_EQW": 338.0}, 1, ""),  # a failed fit of a broad line
        ({"H_ALPHA_EQW": np.nan}, 1, ""),
    ],
)
def test_unknown_is_not_normal(change: dict[str, float], bptclass: int, expected: str, tmp_path: Path) -> None:
    line = line_columns(1)
    for name, value in change.items():
        line[name][0] = value
    found, _ = classes_of(tmp_path / "m", info_columns(None, 1), line, [bptclass])
    assert found.sample_class.tolist() == [expected]


def test_a_spectrum_that_a_table_lacks_has_no_class(tmp_path: Path) -> None:
    info, extra = info_columns([1, 2, 3], 3), extra_columns([1, 1]) | {"SPECOBJID": np.array([1, 2])}
    line = line_columns(2) | {"SPECOBJID": np.array([1, 3])}
    files = mpa_files(tmp_path / "m", info, line, extra)
    section = SpectroscopySection(mpa_jhu=MpaJhuSection(info=files[0], line=files[1], extra=files[2]))
    assert find(section, [10.0, 11.0, 12.0]).sample_class[::-1].tolist() == ["training", "", ""]


# ---------------------------------------------------------------- all tables together


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> SpectroscopySection:
    """Sources at RA 10, 11, ... degrees on the equator.

    10 training; 11 XELG; 12 XELG and quasar; 13 composite; 14 not in MPA-JHU; 15 GAMA only; 16 DR16Q only;
    17 Milliquas only.
    """
    folder = tmp_path_factory.mktemp("tables")
    line = line_columns(4)
    line["OIII_5007_EQW"][1:3] = -150.0
    files = mpa_files(folder / "mpa", info_columns(None, 4), line, extra_columns([1, 1, 4, 3]))
    save(folder / "specObj.fits", sdss_columns(5))
    gama = {"RA": [10.0, 15.0], "DEC": [0.0, 0.0], "Z": [0.3, 0.15], "NQ": [4, 3]}
    save(folder / "gama.fits", gama)
    quasars = {"RA": [12.0, 16.0], "DEC": [0.0, 0.0], "Z": [0.11, 0.19]}
    save(folder / "DR16Q.fits", quasars | {"PLATE": [7000, 7001], "MJD": [56000, 56001], "FIBERID": [5, 6]})
    save(folder / "milliquas.fits", {"RA": [12.0, 17.0], "DEC": [0.0, 0.0], "TYPE": ["Q", "N"]})
    return SpectroscopySection(
        sdss=folder / "specObj.fits",
        gama=folder / "gama.fits",
        mpa_jhu=MpaJhuSection(info=files[0], line=files[1], extra=files[2]),
        dr16q=folder / "DR16Q.fits",
        milliquas=folder / "milliquas.fits",
    )


def test_every_object_gets_what_its_tables_say(tables: SpectroscopySection) -> None:
    found = find(tables, [10.0 + k for k in range(9)])  # nothing is at 18
    assert found.object_id.tolist() == sorted(found.object_id.tolist())
    row = {1010 - int(number): k for k, number in enumerate(found.object_id)}
    assert sorted(row) == list(range(10, 18))
    order = [row[place] for place in range(10, 18)]
    found = found.take(np.array(order))
    assert found.sample_class.tolist() == [
        "training", "xelg", "quasar", "agn_candidate", "other", "other", "quasar", "other",
    ]  # fmt: skip
    # SDSS before GAMA, DR16Q's redshift where there is no other, none from Milliquas.
    np.testing.assert_allclose(found.redshift, [0.1, 0.1, 0.1, 0.1, 0.1, 0.15, 0.19, np.nan], rtol=1e-6)
    assert found.redshift_source.tolist() == ["SDSS"] * 5 + ["GAMA", "SDSS", ""]
    assert found.plate.tolist() == [266, 267, 268, 269, 270, -1, 7001, -1]
    assert found.milliquas_type.tolist() == ["", "", "quasar", "", "", "", "", "type2_agn"]
    # The overlap: at 12 an XELG and AGN candidate that is a quasar, too.
    assert found.is_xelg.tolist() == [False, True, True, False] + [False] * 4
    assert (found.is_quasar[2], found.is_agn_candidate[2], found.is_mpa_jhu[2]) == (True, True, True)
    assert found.bptclass.tolist() == [1, 1, 4, 3, -1, -1, -1, -1]
    np.testing.assert_allclose(found.ew_hb_oiii[:4], [3.0, 152.0, 152.0, 3.0])
    assert np.isnan(found.ew_hb_oiii[4:]).all()


def test_widths_through_filters_stand_at_the_lines_redshift(tables: SpectroscopySection) -> None:
    found = find(tables, [10.0])
    expected = sum(float(throughput("g", rest * (1.0 + np.float32(0.1)))) for rest in LINES.values())
    assert found.ew_band_g[0] == pytest.approx(expected, rel=1e-6)


def test_radius_decides(tables: SpectroscopySection) -> None:
    ra = [10.0 + 1.2 * ARCSEC, 11.0]
    assert find(tables, ra).object_id.tolist() == [999]
    assert find(tables.model_copy(update={"match_radius_arcsec": 1.5}), ra).object_id.tolist() == [999, 1000]


def test_no_counterpart_at_all_is_an_empty_table(tables: SpectroscopySection) -> None:
    assert len(find(tables, [200.0])) == 0


def test_unusable_rows_do_not_take_counterparts_away(tables: SpectroscopySection) -> None:
    ra, dec = np.array([10.0, 10.0 + 0.3 * ARCSEC]), np.zeros(2)
    found, _, _ = find_counterparts(np.array([5, 5]), ra, dec, np.array([False, True]), tables)
    assert found.object_id.tolist() == [5]


def test_class_may_be_empty(tables: SpectroscopySection) -> None:
    found = find(tables.model_copy(update={"dr16q": None, "mpa_jhu": None}), [10.0, 12.0])
    assert found.sample_class.tolist() == ["other", "other"]
    assert not np.any([found.is_quasar, found.is_xelg, found.is_mpa_jhu])
    assert np.isnan(found.ew_oii).all()
