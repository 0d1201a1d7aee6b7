"""The catalogue: the same objects from every format, exact ids, and a reason for every row that is refused."""

from __future__ import annotations

import gzip
import hashlib
import math
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.io.votable import from_table, writeto
from astropy.table import Column, MaskedColumn, QTable, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import (
    CatalogueSource,
    fwhm_from_moments,
    read_catalogue,
    tract_and_patch,
)
from swimmy_scale.ingest.catalogue.input_table import InputTable
from swimmy_scale.ingest.catalogue.objects import Objects
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.sample import (
    ALL_FLAGS,
    FLAG_NAMES,
    NOT_PRIMARY,
    QUALITY_FLAGS,
    CutCount,
    SampleColumns,
    SampleCuts,
    apply_cuts,
    column_names,
)
from swimmy_scale.method.survey import HSC, Survey

FORMS = ("fits", "fits.gz", "parquet", "csv", "csv.gz", "vot", "bin.vot", "ecsv", "comma.ecsv")
BIG = 2**53 + 1  # the first integer that a float64 cannot hold
TWO_BANDS = Survey(
    name="two",
    bands=("g", "i"),
    selecting_bands=("g",),
    band_divisors=(1.0, 1.0),
    min_depth_mag=(math.nan, math.nan),
)


def small_table(n_rows: int = 4) -> Table:
    """A good catalogue of the survey ``TWO_BANDS``."""
    rows = np.arange(n_rows)
    table = Table({"object_id": BIG + rows, "ra": 10.0 + rows / 3, "dec": -rows / 7, "tract": 8279 + rows})
    table["patch"] = [f"{row % 9},{row % 8}" for row in rows]
    for band, mag in (("g", 19.3), ("i", 18.1)):
        table[f"{band}_cmodel_mag"] = mag + rows / 8
        table[f"fwhm_arcsec_{band}"] = 0.7 + rows / 100
        table[f"depth_mag_{band}"] = 26.0 + rows / 10
        for bit, flag in enumerate(QUALITY_FLAGS):
            table[f"{band}_{flag}"] = (rows + bit + (band == "g")) % 5 == 0
    table["isprimary"] = rows % 3 != 1
    table["i_psfflux_mag"] = 18.9 + rows / 8
    table["redshift"] = 0.05 * rows
    table["sample_class"] = [("test", "training", "xelg", "")[row % 4] for row in rows]
    table["n_visits"] = rows - 2
    table["note"] = [f"row {row}" for row in rows]
    table["good"] = rows % 2 == 0
    return table


def write_table(table: Table, path: Path) -> Path:
    """Write ``table`` in the format of the suffix, without the project's own code."""
    name = path.name
    if name.endswith(".parquet"):
        columns = {
            column: pa.array(
                np.ma.getdata(table[column]).tolist(), mask=np.ma.getmaskarray(np.ma.asarray(table[column]))
            )
            for column in table.colnames
        }
        parquet.write_table(pa.table(columns), path)
    elif name.endswith(".bin.vot"):
        votable = from_table(table)
        votable.version = "1.4"
        writeto(votable, str(path), tabledata_format="binary2")
    elif name.endswith(".vot"):
        table.write(path, format="votable")
    elif name.endswith(".ecsv"):
        table.write(path, format="ascii.ecsv", delimiter="," if "comma" in name else " ")
    elif name.endswith(".csv"):
        table.write(path, format="ascii.csv", formats={c: "%r" for c in table.colnames if table[c].dtype.kind == "f"})
    elif name.endswith(".csv.gz"):
        plain = write_table(table, path.with_suffix(""))
        path.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        table.write(path, format="fits")
    return path


def read(table: Table, folder: Path, survey: Survey = TWO_BANDS, form: str = "fits", **options: Any) -> Objects:
    """Write a table and read it back through the project."""
    path = write_table(table, folder / f"catalogue.{form}")
    return read_catalogue(CatalogueSource(str(path), **options), survey)


def read_tract_and_patch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    return tract_and_patch(InputTable.read(path, dict.fromkeys(("tract", "patch", "skymap_id"), "text")))


def codes(objects: Objects) -> list[tuple[int, Code]]:
    return [(fault.row, fault.code) for fault in objects.faults]


def assert_same(left: Objects, right: Objects) -> None:
    for name, values in vars(left).items():
        if isinstance(values, np.ndarray):
            assert values.dtype == getattr(right, name).dtype, name
            np.testing.assert_array_equal(values, getattr(right, name), err_msg=name)
    assert left.kept.keys() == right.kept.keys()
    for name, values in left.kept.items():
        assert values.dtype.kind == right.kept[name].dtype.kind, name
        np.testing.assert_array_equal(values, right.kept[name], err_msg=name)
    assert codes(left) == codes(right)
    assert [fault.reason for fault in left.faults] == [fault.reason for fault in right.faults]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_objects(tmp_path: Path, form: str) -> None:
    table = small_table()
    objects = read(table, tmp_path, form=form, keep_columns=("n_visits", "note", "good", "ra"))
    assert len(objects) == 4
    assert objects.faults == []
    assert objects.warnings == []
    assert objects.object_id.dtype == np.int64
    assert objects.object_id.tolist() == [BIG, BIG + 1, BIG + 2, BIG + 3]
    np.testing.assert_array_equal(objects.ra, np.asarray(table["ra"]))
    np.testing.assert_array_equal(objects.dec, np.asarray(table["dec"]))
    for name, pattern in (("mag", "{}_cmodel_mag"), ("fwhm_arcsec", "fwhm_arcsec_{}"), ("depth_mag", "depth_mag_{}")):
        expected = np.stack([np.asarray(table[pattern.format(band)], np.float32) for band in "gi"], axis=1)
        assert getattr(objects, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(objects, name), expected)
    np.testing.assert_array_equal(objects.psf_mag, np.asarray(table["i_psfflux_mag"], np.float32))
    tract, patch = read_tract_and_patch(tmp_path / f"catalogue.{form}")
    assert tract.tolist() == [8279, 8280, 8281, 8282]
    assert patch.tolist() == [0, 101, 202, 303]
    assert objects.redshift.tolist() == table["redshift"].tolist()
    assert objects.sample_class.tolist() == ["test", "training", "xelg", ""]
    for row in range(4):
        is_set = [bool(table[f"g_{flag}"][row] or table[f"i_{flag}"][row]) for flag in QUALITY_FLAGS]
        is_set.append(row % 3 == 1)
        assert int(objects.flags[row]) == sum(2**bit for bit, flag in enumerate(is_set) if flag)
    assert objects.kept["n_visits"].tolist() == [-2, -1, 0, 1]
    assert objects.kept["n_visits"].dtype == np.int64
    assert objects.kept["note"].tolist() == ["row 0", "row 1", "row 2", "row 3"]
    assert objects.kept["good"].tolist() == [True, False, True, False]
    assert objects.kept["good"].dtype == np.bool_
    np.testing.assert_array_equal(objects.kept["ra"], objects.ra)


@pytest.mark.slow
@given(
    object_id=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6),
    data=st.data(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip_of_any_values(
    tmp_path_factory: pytest.TempPathFactory, object_id: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("forms")
    n_rows = len(object_id)
    table = small_table(n_rows)
    table["object_id"] = object_id
    floats = st.floats(-1e4, 1e4) | st.just(math.nan)
    for name in ("ra", "dec", "g_cmodel_mag", "fwhm_arcsec_g", "depth_mag_i", "redshift"):
        table[name] = data.draw(st.lists(floats, min_size=n_rows, max_size=n_rows))
    reference = read(table, folder, form="fits")
    assert reference.object_id.tolist() == object_id
    for form in ("parquet", "csv", "vot", "ecsv"):
        assert_same(reference, read(table, folder, form=form))


@pytest.mark.parametrize("form", FORMS)
def test_unknown_values_become_nan_and_faults(tmp_path: Path, form: str) -> None:
    table = small_table()
    table["object_id"] = MaskedColumn(table["object_id"], mask=[False, True, False, False])
    for name in ("ra", "i_cmodel_mag", "fwhm_arcsec_g", "redshift"):
        values = np.array(table[name])
        values[2] = np.nan
        table[name] = MaskedColumn(values, mask=[False, False, True, False])
    table["n_visits"] = MaskedColumn(table["n_visits"], mask=[False, False, False, True])
    objects = read(table, tmp_path, form=form, keep_columns=("n_visits",))
    assert objects.object_id.tolist() == [BIG, -1, BIG + 2, BIG + 3]
    assert codes(objects) == [(1, Code.OBJECT_ID_LOST), (2, Code.POSITION_MISSING), (2, Code.FWHM_MISSING)]
    assert np.isnan(objects.ra).tolist() == [False, False, True, False]
    assert np.isnan(objects.mag[:, 1]).tolist() == [False, False, True, False]
    assert np.isnan(objects.redshift).tolist() == [False, False, True, False]
    np.testing.assert_array_equal(objects.kept["n_visits"], [-2.0, -1.0, 0.0, np.nan])
    assert any("1 of 4 object_id are lost" in warning for warning in objects.warnings)


def test_content_decides_where_the_suffix_says_nothing(tmp_path: Path) -> None:
    reference = read(small_table(), tmp_path)
    for form in ("fits", "parquet", "vot", "ecsv"):
        path = write_table(small_table(), tmp_path / f"other.{form}").rename(tmp_path / f"table_{form}")
        assert_same(reference, read_catalogue(CatalogueSource(str(path)), TWO_BANDS))


def test_ecsv_under_the_suffix_csv_and_with_units(tmp_path: Path) -> None:
    table = small_table()
    table["ra"].unit = table["dec"].unit = "deg"
    path = tmp_path / "table.csv"
    QTable(table).write(path, format="ascii.ecsv", delimiter=",")
    assert_same(read(small_table(), tmp_path), read_catalogue(CatalogueSource(str(path)), TWO_BANDS))


# ---- real files


@pytest.mark.parametrize("suffix", ["csv", "fits", "pq", "votable", "astropy.csv"])
def test_real_star_catalogue_in_five_forms(shared_data: Path, suffix: str) -> None:
    folder = shared_data / "hsc_das_format_stars"
    columns = {"ra": "ira", "dec": "idec", "i_cmodel_mag": "imag_psf"}
    columns |= {
        f"i_sdssshape_psf_shape{axes}": f"ishape_sdss_psf_i{n}"
        for axes, n in (("11", "xx"), ("22", "yy"), ("12", "xy"))
    }
    source = CatalogueSource(
        str(folder / f"star_cat_correct.{suffix}"),
        columns=columns,
        keep_columns=("parent_id", "SNR", "merge_peak_i", "star_filename"),
    )
    objects = read_catalogue(source, HSC)
    lines = [line.split(",") for line in (folder / "star_cat_correct.astropy.csv").read_text().splitlines()[1:]]
    assert objects.object_id.tolist() == [int(line[0]) for line in lines]
    assert objects.object_id[0] == 36411452835238206
    assert objects.kept["parent_id"].tolist() == [int(line[1]) for line in lines]
    assert objects.ra.tolist() == [float(line[2]) for line in lines]
    assert objects.dec.tolist() == [float(line[3]) for line in lines]
    assert set(read_tract_and_patch(Path(source.path))[0].tolist()) == {8279}
    assert objects.kept["merge_peak_i"].dtype == np.bool_
    assert objects.kept["star_filename"][0] == "images/2-cutout-HSC-I-8279-pdr2_wide.fits"
    # HSC's i band: 0.6-0.8 arcsec.
    assert ((objects.fwhm_arcsec[:, 2] > 0.6) & (objects.fwhm_arcsec[:, 2] < 0.8)).all()
    assert {code for _, code in codes(objects)} == {Code.FWHM_MISSING}
    assert objects.faults[0].reason == "no PSF FWHM in g, r, z, y: no column, patch or PSF moments give it"


def test_real_catalogue_through_renames(shared_data: Path) -> None:
    path = shared_data / "catalogs" / "ladybug_hsc.fits"
    columns = {"object_id": "index", "ra": "ra_cosmos", "dec": "dec_cosmos", "redshift": "z_cosmos"}
    source = CatalogueSource(str(path), columns=columns, keep_columns=("stellar_mass", "i_cmodel_flag"))
    objects = read_catalogue(source, HSC)
    with fits.open(path) as hdus:
        data = hdus[1].data
        np.testing.assert_array_equal(objects.object_id, data["index"])
        np.testing.assert_array_equal(objects.ra, data["ra_cosmos"])
        np.testing.assert_array_equal(objects.redshift, data["z_cosmos"])
        flux = np.array(data["i_cmodel_flux"], float)
    with fits.open(path, logical_as_bytes=True) as hdus:
        edge = np.stack([np.array(hdus[1].data[f"{band}_pixelflags_edge"]) for band in HSC.bands], axis=1)
    known = flux > 0
    # The file gives both: the flux in nJy says the same as the magnitude.
    np.testing.assert_allclose(objects.mag[known, 2], -2.5 * np.log10(flux[known] * 1e-9 / 3631), atol=2e-3)
    assert np.isnan(objects.mag[~known, 2]).all()
    assert len(objects) == 252
    # Rows without a counterpart in HSC have NULL for a flag, a zero byte in the file: that is not False.
    assert (edge == b"").any()
    np.testing.assert_array_equal(objects.flags & 1, (edge != b"F").any(axis=1))
    assert any("unknown values of flags are taken as set: g_pixelflags_edge" in warning for warning in objects.warnings)
    assert objects.kept["i_cmodel_flag"].dtype == np.float64


# ---- names


def test_names_are_found_in_any_case_and_after_a_hash(tmp_path: Path) -> None:
    table = small_table()
    reference = read(table, tmp_path)
    for name in table.colnames:
        table.rename_column(name, name.upper())
    table.rename_column("OBJECT_ID", "# OBJECT_ID")
    path = tmp_path / "upper.parquet"
    write_table(table, path)
    assert_same(reference, read_catalogue(CatalogueSource(str(path)), TWO_BANDS))


@pytest.mark.parametrize("comments", ["", "# made by the archive\n", "# 4, rows, of\n#\n"])
def test_header_of_the_archives_csv(tmp_path: Path, comments: str) -> None:
    path = tmp_path / "archive.csv"
    path.write_text(f"{comments}# object_id,ra,dec,g_cmodel_mag\n{BIG},1.5,-2.5,\n{BIG + 1},2.5,-3.5,19.5\n")
    objects = read_catalogue(CatalogueSource(str(path)), TWO_BANDS)
    assert objects.object_id.tolist() == [BIG, BIG + 1]
    assert objects.dec.tolist() == [-2.5, -3.5]
    np.testing.assert_array_equal(objects.mag[:, 0], np.float32([np.nan, 19.5]))


@pytest.mark.slow
def test_csv_column_whose_kind_shows_late(tmp_path: Path) -> None:
    # A reader that looks at the first block only would take `late` for integers and fail on the last row.
    path = tmp_path / "long.csv"
    n_rows = 60_000
    lines = [f"{row},{row % 360},0,{row if row < n_rows - 1 else 0.5}" for row in range(n_rows)]
    path.write_text("\n".join(["object_id,ra,dec,late", *lines]) + "\n")
    kept = read_catalogue(CatalogueSource(str(path), keep_columns=("late",)), TWO_BANDS).kept["late"]
    assert kept.dtype == np.float64
    assert kept[-1] == 0.5


def test_rename_goes_before_our_own_name(tmp_path: Path) -> None:
    table = small_table()
    table["better_ra"] = table["ra"] + 1
    objects = read(table, tmp_path, columns={"ra": "better_RA"})
    np.testing.assert_array_equal(objects.ra, np.asarray(table["ra"]) + 1)


# ---- object ids


@pytest.mark.parametrize(
    ("values", "expected", "reasons"),
    [
        (np.array([1.0, 2.0**53 - 1]), [1, 2**53 - 1], {}),
        (
            np.array([2.0**53, 1.5, np.nan, np.inf]),
            [-1, -1, -1, -1],
            {
                0: r"float 9007199254740992.0, which is exact only below 2\*\*53",
                1: "not an integer",
                2: "unknown",
                3: "inf",
            },
        ),
        (np.array([2.0**24 - 1, 2.0**24], np.float32), [2**24 - 1, -1], {1: r"below 2\*\*24"}),
        (np.array(["9007199254740993", " -12 ", "+7", "123.0"]), [BIG, -12, 7, 123], {}),
        (
            np.array(["1.5", "3.6411452835238206e16", ""]),
            [-1] * 3,
            {0: "1.5 is not an integer", 1: "exact only below", 2: "unknown"},
        ),
        (np.array([5, -5], np.int16), [5, -5], {}),
    ],
)
@pytest.mark.parametrize("form", ["fits", "ecsv"])
def test_object_ids(tmp_path: Path, form: str, values: Any, expected: list[int], reasons: dict[int, str]) -> None:
    table = small_table(len(values))
    table["object_id"] = values
    objects = read(table, tmp_path, form=form)
    assert objects.object_id.tolist() == expected
    faults = {fault.row: fault for fault in objects.faults}
    assert faults.keys() == reasons.keys()
    for row, reason in reasons.items():
        assert faults[row].code is Code.OBJECT_ID_LOST
        with pytest.raises(ValueError, match=reason):
            raise ValueError(faults[row].reason)


@pytest.mark.parametrize("form", ["fits", "ecsv"])
@pytest.mark.parametrize(
    ("values", "names"),
    [
        (np.array([2**63, 5, 2**64 - 1], np.uint64), ["9223372036854775808", "", "18446744073709551615"]),
        (np.array(["0300m050-139", "5", "1_000"]), ["0300m050-139", "", "1_000"]),
    ],
)
def test_ids_that_are_names(tmp_path: Path, form: str, values: Any, names: list[str]) -> None:
    table = small_table(len(values))
    table["object_id"] = values
    objects = read(table, tmp_path, form=form)
    assert objects.kept["object_name"].tolist() == names
    numbers = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") // 2 for name in names]
    assert objects.object_id.tolist() == [numbers[0], 5, numbers[2]]
    assert objects.faults == []
    assert any("2 of 3 ids are no whole numbers of 64 bits" in warning for warning in objects.warnings)


def test_the_same_name_twice(tmp_path: Path) -> None:
    table = small_table(3)
    table["object_id"] = ["a-1", "a-2", "a-1"]
    objects = read(table, tmp_path)
    assert codes(objects) == [(2, Code.DUPLICATE_OBJECT_ID)]
    assert objects.faults[0].reason == "object_id a-1 is already in row 0, which is kept"


def test_duplicates_name_the_row_that_is_kept(tmp_path: Path) -> None:
    table = small_table(6)
    table["object_id"] = [5, 9, 5, 7, 9, 5]
    objects = read(table, tmp_path)
    assert codes(objects) == [(row, Code.DUPLICATE_OBJECT_ID) for row in (2, 4, 5)]
    assert [fault.reason for fault in objects.faults] == [
        "object_id 5 is already in row 0, which is kept",
        "object_id 9 is already in row 1, which is kept",
        "object_id 5 is already in row 0, which is kept",
    ]
    assert objects.faults[0].source.endswith("catalogue.fits")


def test_lost_ids_are_not_duplicates_of_each_other(tmp_path: Path) -> None:
    table = small_table(3)
    table["object_id"] = [2.0**60, 2.0**60, 4.0]
    assert codes(read(table, tmp_path)) == [(0, Code.OBJECT_ID_LOST), (1, Code.OBJECT_ID_LOST)]


# ---- positions, nulls, flags


@pytest.mark.parametrize(
    ("ra", "dec", "good"),
    [
        (0.0, -90.0, True),
        (360.0, 90.0, True),
        (-0.001, 0.0, False),
        (360.001, 0.0, False),
        (10.0, 90.001, False),
        (10.0, np.nan, False),
        (np.inf, 0.0, False),
    ],
)
def test_positions(tmp_path: Path, ra: float, dec: float, good: bool) -> None:
    table = small_table(2)
    table["ra"][1], table["dec"][1] = ra, dec
    objects = read(table, tmp_path)
    assert codes(objects) == ([] if good else [(1, Code.POSITION_MISSING)])
    if not good:
        assert "need ra in 0..360 deg and dec in -90..90 deg" in objects.faults[0].reason


def test_isnull_columns_of_the_archives_fits(tmp_path: Path) -> None:
    table = small_table()
    # The archive fills a null with zero or False and says so in a column beside it.
    for row, name in enumerate(("object_id", "dec", "g_cmodel_mag", "i_pixelflags_bad")):
        table[f"{name}_isnull"] = np.arange(4) == row
        table[name][row] = 0
    table["i_pixelflags_bad"] = False
    table["g_pixelflags_bad"] = False
    table["n_visits_isnull"] = [False, False, False, True]
    objects = read(table, tmp_path, keep_columns=("n_visits",))
    assert codes(objects) == [(0, Code.OBJECT_ID_LOST), (1, Code.POSITION_MISSING)]
    assert np.isnan(objects.mag[:, 0]).tolist() == [False, False, True, False]
    bad = 1 << FLAG_NAMES.index("pixelflags_bad")
    assert ((objects.flags & bad) != 0).tolist() == [False, False, False, True]
    assert any("taken as set: i_pixelflags_bad (1)" in warning for warning in objects.warnings)
    assert np.isnan(objects.kept["n_visits"]).tolist() == [False, False, False, True]


def test_isnull_follows_a_rename(tmp_path: Path) -> None:
    table = small_table()
    table.rename_column("ra", "i_ra")
    table["i_ra_ISNULL"] = [False, True, False, False]
    assert codes(read(table, tmp_path, columns={"ra": "i_ra"})) == [(1, Code.POSITION_MISSING)]


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False, False]),
        np.array([1, 0, 0], np.int16),
        np.array([1.0, 0.0, 0.0]),
        np.array(["t", "f", "f"]),
        np.array(["True", "False", "False"]),
        np.array(["1", "0", "0"]),
    ],
)
@pytest.mark.parametrize("form", ["fits", "csv", "ecsv"])
@pytest.mark.parametrize("name", ["g_mask_brightstar_halo", "mask_brightstar_halo"])
def test_flags_of_every_kind(tmp_path: Path, form: str, name: str, values: Any) -> None:
    table = small_table(3)[["object_id", "ra", "dec", "fwhm_arcsec_g", "fwhm_arcsec_i"]]
    table[name] = values
    objects = read(table, tmp_path, form=form)
    assert objects.flags.tolist() == [1 << FLAG_NAMES.index("mask_brightstar_halo"), 0, 0]
    assert objects.flags.dtype == np.uint32
    absent = next(warning for warning in objects.warnings if "no column for the flags" in warning)
    assert "mask_brightstar_halo" not in absent
    assert all(flag in absent for flag in FLAG_NAMES if flag != "mask_brightstar_halo")


def test_point_sources_by_the_survey_s_own_column(tmp_path: Path) -> None:
    """An unknown value is not known to be of an extended object."""
    table = small_table(4)
    table["i_extendedness_value"] = [1.0, 0.0, np.nan, 0.987]
    objects = read(table, tmp_path)
    raised = objects.flags & np.uint32(1 << ALL_FLAGS.index("point_source")) != 0
    assert raised.tolist() == [False, True, True, False]
    assert "point_source" in objects.available
    (tmp_path / "other").mkdir()
    assert "point_source" not in read(small_table(4), tmp_path / "other").available


def test_quality_flags_are_those_of_section_2_2() -> None:
    assert len(QUALITY_FLAGS) == len(set(QUALITY_FLAGS)) == 10


# ---- magnitudes


def test_flux_in_nanojansky_becomes_ab_magnitude(tmp_path: Path) -> None:
    table = small_table()
    table.rename_column("g_cmodel_mag", "g_cmodel_flux")
    table["g_cmodel_flux"] = [363.1e9, 3.631e6, 0.0, -1.0]
    objects = read(table, tmp_path)
    # 363.1 Jy is magnitude 2.5; 31.4 is the usual rounding of 31.40006.
    np.testing.assert_allclose(objects.mag[:2, 0], [2.5, 15.0], atol=1e-4)
    assert np.isnan(objects.mag[2:, 0]).all()
    assert any("magnitudes come from g_cmodel_flux, in nJy" in warning for warning in objects.warnings)


def test_absent_magnitudes_are_told(tmp_path: Path) -> None:
    table = small_table()
    table.remove_columns(["i_cmodel_mag", "i_psfflux_mag"])
    objects = read(table, tmp_path)
    assert np.isnan(objects.psf_mag).all()
    assert any("no column i_cmodel_mag, i_psfflux_mag" in warning for warning in objects.warnings)


# ---- values that are unknown


@pytest.mark.parametrize(
    ("mark", "form"),
    [
        *((mark, "fits") for mark in (-99.0, 99.0, -999.0, 9999.0, 99.99, 0.0, -1e30, math.nan, math.inf)),
        (-99.0, "csv"),
    ],
)
def test_marks_of_unknown_values_are_unknown_and_counted(tmp_path: Path, mark: float, form: str) -> None:
    table = small_table(6)
    names = ("g_cmodel_mag", "i_cmodel_mag", "i_psfflux_mag", "depth_mag_g", "fwhm_arcsec_i")
    for row, name in enumerate(names):
        table[name][row] = mark
    table["redshift"][5] = mark if mark else -9.0  # 0 is a redshift
    objects = read(table, tmp_path, form=form)
    columns = (
        objects.mag[:, 0],
        objects.mag[:, 1],
        objects.psf_mag,
        objects.depth_mag[:, 0],
        objects.fwhm_arcsec[:, 1],
    )
    for row, values in enumerate((*columns, objects.redshift)):
        assert np.flatnonzero(np.isnan(values)).tolist() == [row]
    (said,) = (warning for warning in objects.warnings if "unknown" in warning)
    assert "catalogue." + form + ": values that are unknown, of 6 rows: g_cmodel_mag 1" in said
    for name in (*names, "redshift"):
        assert f"{name} 1" in said
    n_shown = 0 if not math.isfinite(mark) else 6 if mark else 5
    assert said.count(f", such as {mark:g}") == n_shown
    assert codes(objects) == [(4, Code.FWHM_MISSING)]


def test_marks_of_unknown_fluxes_and_of_patches(tmp_path: Path) -> None:
    table = small_table()
    table.rename_column("i_cmodel_mag", "i_cmodel_flux")
    table["i_cmodel_flux"] = [3.631e6, -99.0, 0.0, -99.0]
    table.remove_columns([f"{what}_{band}" for what in ("fwhm_arcsec", "depth_mag") for band in "gi"])
    qa = patch_qa_table()
    qa["gseeing"][1], qa["imag_psf_depth"][2] = -99.0, 99.0
    objects = read(table, tmp_path, patch_qa=str(write_table(qa, tmp_path / "qa.fits")))
    assert np.isnan(objects.mag[:, 1]).tolist() == [False, True, True, True]
    assert np.isnan(objects.fwhm_arcsec[:, 0]).tolist() == [True, False, False, True]
    assert np.isnan(objects.depth_mag[:, 1]).tolist() == [False, True, False, True]
    assert any("of 4 rows: i_cmodel_flux 3, such as -99, 0" in warning for warning in objects.warnings)
    expected = "qa.fits: values that are unknown, of 3 rows: gseeing 1, such as -99; imag_psf_depth 1, such as 99"
    assert any(warning.endswith(expected) for warning in objects.warnings)


def test_no_mark_of_an_unknown_value_passes_a_cut_that_needs_it(tmp_path: Path) -> None:
    rows = np.arange(8)
    table = Table({"object_id": rows, "ra": 150.0 + rows / 100, "dec": np.full(8, 2.0)})
    for k, band in enumerate(HSC.bands):
        table[f"fwhm_arcsec_{band}"], table[f"{band}_cmodel_mag"] = np.float32(0.7), np.full(8, 18 - 0.2 * k, "f4")
    table["i_psfflux_mag"] = np.full(8, 18.5, "f4")
    marks = {1: ("i_cmodel_mag", -99), 2: ("i_cmodel_mag", -999), 3: ("r_cmodel_mag", 99), 4: ("z_cmodel_mag", -99)}
    marks |= {5: ("g_cmodel_mag", -99), 6: ("i_psfflux_mag", 99), 7: ("i_cmodel_mag", 99)}
    for row, (name, value) in marks.items():
        table[name][row] = value
    objects = read(table, tmp_path, survey=HSC)
    in_sample, counts = apply_cuts(sample_columns(objects), SampleCuts(), HSC, objects.available)
    assert in_sample.tolist() == [True] + [False] * 7
    unknown = {count.name: count.unknown for count in counts if count.unknown}
    assert unknown == {"magnitude": 3, "extendedness": 1, "g-r": 2, "r-z": 1}


def sample_columns(objects: Objects) -> SampleColumns:
    names = ("fwhm_arcsec", "depth_mag", "mag", "psf_mag", "flags", "redshift")
    return SampleColumns(usable=np.ones(len(objects), bool), **{name: getattr(objects, name) for name in names})


def test_null_words_are_no_classes(tmp_path: Path) -> None:
    table = small_table()
    table["sample_class"] = ["NULL", "nan", "xelg", "--"]
    assert read(table, tmp_path, form="csv").sample_class.tolist() == ["", "", "xelg", ""]


# ---- one galaxy, several objects


@pytest.mark.parametrize("name", ["isprimary", "detect_isPrimary", "detect_is_primary"])
def test_an_object_that_is_not_primary_is_out_of_the_sample(tmp_path: Path, name: str) -> None:
    table = small_table(6)
    table.remove_columns([f"{band}_{flag}" for band in "gi" for flag in QUALITY_FLAGS])
    table["ra"], table["dec"] = 150.0 + np.arange(6) / 100, 2.0
    table["ra"][3], table["dec"][3] = table["ra"][0], table["dec"][0] + 0.02 / 3600
    table.rename_column("isprimary", name)
    table[name] = [True, True, True, False, True, True]
    objects = read(table, tmp_path)
    off = SampleCuts(None, False, None, None, FLAG_NAMES, None, None, ())
    in_sample, counts = apply_cuts(sample_columns(objects), off, TWO_BANDS, objects.available)
    assert in_sample.tolist() == [True, True, True, False, True, True]
    assert counts[-1] == CutCount("not_primary", "isprimary is True", 6, 5)
    pair = f"1 pair of objects closer than 0.5 arcsec, perhaps one galaxy measured twice, such as {BIG} and {BIG + 3}, "
    assert any(pair + "0.02 arcsec apart; in 0 of them both are primary" in warning for warning in objects.warnings)
    table.remove_column(name)
    objects = read(table, tmp_path, form="csv")
    assert apply_cuts(sample_columns(objects), off, TWO_BANDS, objects.available)[0].all()
    assert any("no column isprimary says which of the two" in warning for warning in objects.warnings)
    assert any("not_primary (isprimary): they are taken as not set" in warning for warning in objects.warnings)
    objects = read(table, tmp_path, form="ecsv", pair_radius_arcsec=0.01)
    assert not any("pair" in warning for warning in objects.warnings)


def test_an_unknown_isprimary_is_not_primary_and_a_repeated_row_is_no_pair(tmp_path: Path) -> None:
    table = small_table()
    table["isprimary"] = [True, False, True, True]
    table["isprimary_isnull"] = [False, False, True, False]
    table["object_id"][3], table["ra"][3], table["dec"][3] = table["object_id"][0], table["ra"][0], table["dec"][0]
    objects = read(table, tmp_path)
    bit = 1 << FLAG_NAMES.index(NOT_PRIMARY)
    assert ((objects.flags & bit) != 0).tolist() == [False, True, True, False]
    assert any("taken as set: isprimary (1)" in warning for warning in objects.warnings)
    assert not any("pair" in warning for warning in objects.warnings)


# ---- seeing and depth


def test_fwhm_of_a_rendered_gaussian() -> None:
    pixel_arcsec = 0.05
    for fwhm in (0.55, 0.7, 1.0):
        image = galsim.Gaussian(fwhm=fwhm).drawImage(nx=161, ny=161, scale=pixel_arcsec, method="no_pixel").array
        y, x = (np.indices(image.shape) - 80) * pixel_arcsec
        moments = (np.average(a, weights=image) for a in (x * x, y * y, x * y))
        assert fwhm_from_moments(*moments) == pytest.approx(fwhm, rel=1e-3)


@given(major=st.floats(0.1, 2.0), ratio=st.floats(0.2, 1.0), angle=st.floats(0.0, math.pi))
def test_fwhm_of_an_ellipse_is_that_of_the_circle_of_its_area(major: float, ratio: float, angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moments = turn @ np.diag([major**2, (major * ratio) ** 2]) @ turn.T
    fwhm = fwhm_from_moments(moments[:1, 0], moments[1:, 1], moments[:1, 1])
    assert fwhm == pytest.approx(2.354820045 * major * math.sqrt(ratio), rel=1e-6)


@pytest.mark.parametrize("moments", [(-1.0, -1.0, 0.0), (0.1, 0.1, 0.1), (0.1, 0.1, 0.2), (np.nan, 0.1, 0.0)])
def test_moments_of_no_ellipse_give_nan(moments: tuple[float, float, float]) -> None:
    assert np.isnan(fwhm_from_moments(*(np.array([moment]) for moment in moments))).all()


def patch_qa_table() -> Table:
    qa = Table({"tract": [8281, 8279, 8280], "patch": [202, 0, 101], "gseeing": [0.83, 0.81, 0.82]})
    qa["iseeing"] = [0.63, 0.61, 0.62]
    qa["gmag_psf_depth"] = [26.3, 26.1, 26.2]
    qa["imag_psf_depth"] = [25.3, 25.1, 25.2]
    return qa


@pytest.mark.parametrize("form", FORMS)
def test_patch_qa_is_joined_by_tract_and_patch(tmp_path: Path, form: str) -> None:
    table = small_table()
    table.remove_columns([f"{what}_{band}" for what in ("fwhm_arcsec", "depth_mag") for band in "gi"])
    qa = write_table(patch_qa_table(), tmp_path / f"patch_qa.{form}")
    objects = read(table, tmp_path, patch_qa=str(qa))
    expected = np.float32([[0.81, 0.61], [0.82, 0.62], [0.83, 0.63], [np.nan, np.nan]])
    np.testing.assert_array_equal(objects.fwhm_arcsec, expected)
    np.testing.assert_array_equal(objects.depth_mag[:3], np.float32([[26.1, 25.1], [26.2, 25.2], [26.3, 25.3]]))
    # The fourth object's patch is not in the table.
    assert codes(objects) == [(3, Code.FWHM_MISSING)]
    assert np.isnan(objects.depth_mag[3]).all()


def test_patch_by_skymap_id(tmp_path: Path) -> None:
    table = small_table(2)
    table.remove_columns(["fwhm_arcsec_g", "fwhm_arcsec_i", "tract", "patch"])
    table["skymap_id"] = [82790000, 82800101]
    qa = patch_qa_table()
    qa["skymap_id"] = qa["tract"] * 10000 + qa["patch"]
    qa.remove_columns(["tract", "patch"])
    path = write_table(qa, tmp_path / "qa.csv")
    objects = read(table, tmp_path, patch_qa=str(path))
    tract, patch = read_tract_and_patch(tmp_path / "catalogue.fits")
    assert tract.tolist() == [8279, 8280]
    assert patch.tolist() == [0, 101]
    np.testing.assert_array_equal(objects.fwhm_arcsec, np.float32([[0.81, 0.61], [0.82, 0.62]]))


def test_order_of_the_sources_of_fwhm(tmp_path: Path) -> None:
    table = small_table()
    table["fwhm_arcsec_g"] = [0.91, 0.0, np.nan, -3.0]  # not positive is not known
    table["fwhm_arcsec_i"] = [0.92, np.inf, np.nan, np.nan]
    sigma = 0.75 / 2.354820045
    for band in "gi":
        table[f"{band}_sdssshape_psf_shape11"] = table[f"{band}_sdssshape_psf_shape22"] = np.full(4, sigma**2)
        table[f"{band}_sdssshape_psf_shape12"] = 0.0
    table["i_sdssshape_psf_shape12"][3] = 5.0
    qa = patch_qa_table()
    qa["gseeing"][0] = np.nan
    path = write_table(qa, tmp_path / "qa.parquet")
    objects = read(table, tmp_path, patch_qa=str(path))
    expected = [[0.91, 0.92], [0.82, 0.62], [0.75, 0.63], [0.75, np.nan]]
    np.testing.assert_allclose(objects.fwhm_arcsec, expected, rtol=1e-6)
    assert any("second moments in bands g (2)" in warning for warning in objects.warnings)
    assert [(f.row, f.code, f.band) for f in objects.faults] == [(3, Code.FWHM_MISSING, "i")]


@pytest.mark.parametrize("unit", ["pixel**2", "pix2", None])
def test_moments_in_pixels_as_in_rubins_tables(tmp_path: Path, unit: str | None) -> None:
    """The names of the table Object in DP1 and DP2 (lsst/sdm_schemas)."""
    table = small_table()
    table.remove_columns(["fwhm_arcsec_g", "fwhm_arcsec_i"])
    # An ellipse of 2 and 3 px, turned: the area of its Gaussian counts.
    turn = np.deg2rad(30)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    (xx, xy), (_, yy) = matrix @ np.diag([4.0, 9.0]) @ matrix.T
    for band in "gi":
        for axes, value in (("xx", xx), ("yy", yy), ("xy", xy)):
            table[f"{band}_i{axes}PSF"] = Column(np.full(4, value), unit=unit)
    table["i_ixxPSF"][1] = np.nan
    table["g_sdssshape_psf_shape11"] = table["g_sdssshape_psf_shape22"] = [1.0, np.nan, np.nan, np.nan]
    table["g_sdssshape_psf_shape12"] = 0.0
    objects = read(table, tmp_path)
    wide = 2.3548200450309493 * TWO_BANDS.pixel_scale_arcsec * np.sqrt(6.0)
    expected = [[2.3548200450309493, wide], [wide, np.nan], [wide, wide], [wide, wide]]
    np.testing.assert_allclose(objects.fwhm_arcsec, expected, rtol=1e-6)
    assert any("second moments in bands g (4), i (3)" in warning for warning in objects.warnings)


@pytest.mark.parametrize("target", [0.7, 0.8, 1.0])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_fwhm_above_the_target(tmp_path: Path, target: float, kind: type[np.floating[Any]]) -> None:
    survey = Survey(**{**vars(TWO_BANDS), "target_fwhm_arcsec": target})
    table = small_table(3)
    table["fwhm_arcsec_g"] = np.array([target, target + 0.001, target + 0.25], kind)
    table["fwhm_arcsec_i"] = np.array([target, target, target + 0.5], kind)
    objects = read(table, tmp_path, survey=survey)
    assert [(f.row, f.code, f.band) for f in objects.faults] == [
        (1, Code.FWHM_ABOVE_TARGET, "g"),
        (2, Code.FWHM_ABOVE_TARGET, ""),
    ]
    expected = f"PSF FWHM is {target + 0.25} arcsec in g, {target + 0.5} arcsec in i; the limit is {target:g} arcsec"
    assert objects.faults[1].reason == expected


def test_no_source_of_fwhm(tmp_path: Path) -> None:
    table = small_table(2)
    table.remove_columns(["fwhm_arcsec_g", "fwhm_arcsec_i", "depth_mag_g"])
    objects = read(table, tmp_path)
    assert codes(objects) == [(0, Code.FWHM_MISSING), (1, Code.FWHM_MISSING)]
    assert objects.faults[0].reason.startswith("no PSF FWHM in g, i")
    assert any("the depth is unknown in bands g" in warning for warning in objects.warnings)


def test_one_seeing_a_band_for_the_whole_survey(tmp_path: Path) -> None:
    table = small_table()
    table["fwhm_arcsec_g"] = [0.9, 0.0, -99.0, np.nan]
    table.remove_column("fwhm_arcsec_i")
    objects = read(table, tmp_path, fwhm_arcsec={"g": 0.75, "i": 0.6})
    np.testing.assert_array_equal(objects.fwhm_arcsec, np.float32([[0.9, 0.6], [0.75, 0.6], [0.75, 0.6], [0.75, 0.6]]))
    assert objects.faults == []
    assert {"fwhm_arcsec_g", "fwhm_arcsec_i"} <= objects.available
    said = "fwhm_arcsec of the job stands for what nothing else gives: 0.75 in g for 3, 0.6 in i for 4"
    assert any(said in warning for warning in objects.warnings)
    objects = read(small_table(), tmp_path, form="csv", fwhm_arcsec={"g": 0.75})
    assert any("fwhm_arcsec of the job is not used in g: all objects have" in warning for warning in objects.warnings)
    with pytest.raises(SwimmyError, match="fwhm_arcsec names the bands u; survey 'two' has g, i"):
        read(table, tmp_path, form="ecsv", fwhm_arcsec={"u": 0.75})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["4,5", "0,0", "8,8"], [405, 0, 808]),
        ([405, 0, 808], [405, 0, 808]),
        ([405.0, np.nan, 808.0], [405, -1, 808]),
        (["405", "", "-1"], [405, -1, -1]),
    ],
)
@pytest.mark.parametrize("form", ["fits", "csv"])
def test_one_form_of_patch(tmp_path: Path, form: str, values: list[Any], expected: list[int]) -> None:
    table = small_table(3)
    table["patch"] = values
    _, patch = read_tract_and_patch(write_table(table, tmp_path / f"catalogue.{form}"))
    assert patch.tolist() == expected
    assert patch.dtype == np.int32


# ---- slices


def test_slice_is_a_copy_with_the_catalogues_rows(tmp_path: Path) -> None:
    table = small_table(6)
    table["object_id"] = [5, 9, 5, 7, 9, 5]
    objects = read(table, tmp_path, keep_columns=("note",))
    part = objects.slice(2, 5)
    assert len(part) == 3
    assert part.object_id.tolist() == [5, 7, 9]
    assert part.kept["note"].tolist() == ["row 2", "row 3", "row 4"]
    assert [fault.row for fault in part.faults] == [2, 4]
    part.ra[:] = 0
    part.kept["note"][:] = ""
    assert objects.ra[2] != 0
    assert objects.kept["note"][2] == "row 2"
    assert len(objects.slice(4, 99)) == 2
    assert len(objects.slice(3, 3)) == 0


def test_digest_tells_rows_apart_and_not_the_catalogue_around_them(tmp_path: Path) -> None:
    table = small_table(6)
    objects = read(table, tmp_path, keep_columns=("note",))
    assert read(table, tmp_path, form="csv", keep_columns=("note",)).digest() == objects.digest()
    digests = {objects.slice(lo, lo + 2).digest() for lo in (0, 2, 4)}
    assert len(digests) == 3
    table["note"] = [*table["note"][:5], "a much longer note"]
    table["sample_class"] = [*table["sample_class"][:5], "a much longer class"]
    changed = read(table, tmp_path, form="fits.gz", keep_columns=("note",))
    assert changed.slice(0, 4).digest() == objects.slice(0, 4).digest()
    assert changed.slice(4, 6).digest() != objects.slice(4, 6).digest()
    changed.mag[0, 0] += 1
    assert changed.slice(0, 4).digest() != objects.slice(0, 4).digest()


# ---- what the catalogue says of itself


def test_available_columns(tmp_path: Path) -> None:
    table = small_table()
    every = read(table, tmp_path).available
    assert every == frozenset(column_names(TWO_BANDS))
    table.remove_columns(["g_cmodel_mag", "i_psfflux_mag", "redshift", "depth_mag_i", "fwhm_arcsec_g"])
    table.remove_columns([f"{band}_sdssshape_flag" for band in "gi"])
    table["specz_redshift"] = [0.1, 0.2, 0.3, np.nan]
    objects = read(table, tmp_path, form="csv")
    assert every - objects.available == {"mag_g", "psf_mag", "depth_mag_i", "fwhm_arcsec_g", "sdssshape_flag"}
    np.testing.assert_array_equal(objects.redshift, [0.1, 0.2, 0.3, np.nan])
    assert objects.slice(0, 1).available == objects.available


def test_simulated_objects_stay_marked(tmp_path: Path) -> None:
    assert not read(small_table(), tmp_path).simulated
    table = small_table()
    table.meta["SIMULATE"] = True
    for form in ("fits.gz", "ecsv"):
        assert read(table, tmp_path, form=form).simulated


# ---- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"columns": {"ra": "nowhere"}},
            r"--column ra=nowhere: .*catalogue.fits has no column nowhere. It has 38 columns: object_id, ra",
        ),
        ({"columns": {"rra": "ra"}}, r"--column rra=...: no column of that name has a meaning here"),
        (
            {"keep_columns": ("nowhere",)},
            "has no column nowhere, which keep_columns asks for. It has 38 columns: object_id",
        ),
        ({"patch_qa": "nowhere.fits"}, "nowhere.fits does not exist"),
    ],
)
def test_errors_of_the_source(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        read(small_table(), tmp_path, **options)


@pytest.mark.parametrize("form", FORMS)
def test_missing_columns_are_listed_with_the_remedy(tmp_path: Path, form: str) -> None:
    table = small_table()["object_id", "ra", "tract"]
    table.rename_column("object_id", "objid")
    message = (
        r"has no column object_id, dec. It has objid, ra, tract. .*--column OURS=THEIRS, .*--column object_id=NAME"
    )
    with pytest.raises(SwimmyError, match=message):
        read(table, tmp_path, form=form)


@pytest.mark.parametrize("form", FORMS)
def test_empty_and_damaged_files(tmp_path: Path, form: str) -> None:
    with pytest.raises(SwimmyError, match=r"catalogue\.\S+ has no rows"):
        read(small_table()[:0], tmp_path, form=form)
    path = write_table(small_table(50), tmp_path / f"damaged.{form}")
    source = CatalogueSource(str(path))
    content = path.read_bytes()
    for damaged in (b"", b"not a table at all", content[: len(content) // 2] + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(SwimmyError, match=r"damaged\.\S+ (cannot be read as|has no|is damaged|is not in UTF-8)"):
            read_catalogue(source, TWO_BANDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n", "has no column object_id, ra, dec"),
        ("# object_id,ra,dec\n", "has no rows|cannot be read as CSV: Empty CSV file"),
        ("object_id,ra,dec\n1,2\n", "Expected 3 columns, got 2"),
        ("object_id,ra,dec,patch\n1,2,3,4,5\n", "Expected 4 columns, got 5"),
        ("object_id,ra,dec\n1,2,x\n", "row 0: column dec is 'x', which is not a number"),
        ("object_id,ra,dec,redshift\n1,2,3,x\n", "column redshift: CSV conversion error to double: invalid value 'x'"),
        (
            "object_id ra dec\n1 2 3\n",
            "has no column object_id, ra, dec, only one, object_id ra dec. If spaces separate",
        ),
    ],
)
def test_broken_csv(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(content)
    with pytest.raises(SwimmyError, match=message):
        read_catalogue(CatalogueSource(str(path)), TWO_BANDS)


def test_missing_file_and_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"nowhere\.fits does not exist"):
        read_catalogue(CatalogueSource(str(tmp_path / "nowhere.fits")), TWO_BANDS)
    path = tmp_path / "table.xlsx"
    path.write_bytes(b"PK\3\4")
    with pytest.raises(SwimmyError, match=r"table\.xlsx has no known table format. .*\.fits, .*\.ecsv"):
        read_catalogue(CatalogueSource(str(path)), TWO_BANDS)


def test_wrong_checksum_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "summed.fits"
    hdu = fits.BinTableHDU(small_table())
    hdu.writeto(path, checksum=True)
    assert len(read_catalogue(CatalogueSource(str(path)), TWO_BANDS)) == 4
    content = bytearray(path.read_bytes())
    content[-2880 + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(SwimmyError, match=r"is damaged: the checksum of HDU 1 fails: DATASUM"):
        read_catalogue(CatalogueSource(str(path)), TWO_BANDS)


def test_fits_without_a_table(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((4, 4), np.float32)).writeto(path)
    with pytest.raises(SwimmyError, match="has no table, only images"):
        read_catalogue(CatalogueSource(str(path)), TWO_BANDS)


@pytest.mark.parametrize("form", ["fits", "csv", "ecsv"])
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("ra", ["10.5", "12h30m"], "12h30m"),
        ("g_sdssshape_flag", ["True", "perhaps"], "perhaps"),
        ("patch", ["4,5", "north"], r"row 1: patch is '?north'?; need a number such as 405"),
        ("tract", ["1.5", "2"], r"row 0: tract is '1.5'|row 0: tract is 1.5"),
    ],
)
def test_values_of_the_wrong_kind(tmp_path: Path, form: str, name: str, values: list[str], message: str) -> None:
    table = small_table(2)
    table[name] = values
    with pytest.raises(SwimmyError, match=message):
        read(table, tmp_path, form=form)


def test_arrays_in_a_needed_column(tmp_path: Path) -> None:
    table = small_table(2)
    table["ra"] = np.zeros((2, 3))
    with pytest.raises(SwimmyError, match="column ra holds arrays"):
        read(table, tmp_path)
    parquet.write_table(pa.table({"object_id": [1], "ra": [[1.0]], "dec": [0.0]}), tmp_path / "list.parquet")
    with pytest.raises(SwimmyError, match="column ra has the type list"):
        read_catalogue(CatalogueSource(str(tmp_path / "list.parquet")), TWO_BANDS)


def test_a_name_that_occurs_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("object_id,RA,Ra,dec\n1,2,3,4\n")
    with pytest.raises(SwimmyError, match=r"has column ra more than once \(RA, Ra\)"):
        read_catalogue(CatalogueSource(str(path)), TWO_BANDS)
    assert read_catalogue(CatalogueSource(str(path), columns={"ra": "Ra"}), TWO_BANDS).ra.tolist() == [3.0]


def test_kept_integers_that_no_float_holds(tmp_path: Path) -> None:
    table = small_table(2)
    table["parent_id"] = MaskedColumn([BIG, 0], mask=[False, True])
    with pytest.raises(SwimmyError, match="kept column parent_id has unknown values beside integers"):
        read(table, tmp_path, form="parquet", keep_columns=("parent_id",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda qa: qa["tract"].__setitem__(0, 8279) or qa["patch"].__setitem__(0, 0),
            "gives tract 8279 patch 0 twice, in rows 0 and 1",
        ),
        (lambda qa: qa["patch"].__setitem__(2, -1), "row 2: tract or patch is unknown"),
        (lambda qa: qa.remove_columns(["gseeing", "iseeing"]), "has none of the columns gseeing, iseeing"),
    ],
)
def test_errors_of_patch_qa(tmp_path: Path, change: Any, message: str) -> None:
    qa = patch_qa_table()
    change(qa)
    path = write_table(qa, tmp_path / "qa.fits")
    with pytest.raises(SwimmyError, match=rf"patch_qa \S+qa\.fits {message}"):
        read(small_table(), tmp_path, patch_qa=str(path))


def test_patch_qa_without_tract_in_the_catalogue(tmp_path: Path) -> None:
    table = small_table()
    table.remove_column("tract")
    path = write_table(patch_qa_table(), tmp_path / "qa.fits")
    with pytest.raises(SwimmyError, match=r"has no tract and patch to join .*--column tract=THEIRS"):
        read(table, tmp_path, patch_qa=str(path))


REMOTE = "<VOTABLE version='1.4' xmlns='http://www.ivoa.net/xml/VOTable/v1.3'><RESOURCE><TABLE>{fields}<DATA><BINARY>"
REMOTE += "{stream}</BINARY></DATA></TABLE></RESOURCE></VOTABLE>"
FIELDS = (
    "<FIELD name='object_id' datatype='long'/><FIELD name='ra' datatype='double'/><FIELD name='dec' datatype='double'/>"
)


@pytest.mark.parametrize(
    ("prolog", "stream"),
    [
        ("", "<STREAM href='http://127.0.0.1:9/x'/>"),
        ("", "<STREAM a='>' href = \"file:///etc/hosts\"></STREAM>"),
        ("", "<STREAM\n\thref='ftp://127.0.0.1/x' encoding='base64'/>"),
        ("<!DOCTYPE V [<!ENTITY s 'href'>]>", "<STREAM/>"),
    ],
)
def test_votable_never_fetches_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prolog: str, stream: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the reader opened an address")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    path = tmp_path / "remote.vot"
    path.write_text("<?xml version='1.0'?>" + prolog + REMOTE.format(fields=FIELDS, stream=stream))
    with pytest.raises(SwimmyError, match=r"refers to data outside the file .* never fetched"):
        read_catalogue(CatalogueSource(str(path)), TWO_BANDS)
    path.write_bytes(
        ("<?xml version='1.0' encoding='utf-16'?>" + REMOTE.format(fields=FIELDS, stream=stream)).encode("utf-16")
    )
    with pytest.raises(SwimmyError, match="is not in UTF-8"):
        read_catalogue(CatalogueSource(str(path)), TWO_BANDS)


def test_a_class_may_not_be_called_as_the_whole_sample(tmp_path: Path) -> None:
    table = small_table()
    table["sample_class"] = ["test", "sample", "xelg", ""]
    with pytest.raises(SwimmyError, match=r"row 1: sample_class 'sample' names the whole sample .* Give that class"):
        read(table, tmp_path)
