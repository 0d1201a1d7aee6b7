"""The candidate catalogue, read back by the readers that astronomers use."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import parse
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import candidate_columns, level_suffix
from swimmy_scale.storage.candidate_files import FORMATS, METADATA_KEY, _ecsv_bytes, column_info, write_candidates

LEVELS = ("2sigma", "3sigma", "3.5sigma")
BANDS = ("g", "r", "i", "z", "y")
META = {
    "survey": "HSC-SSP wide",
    "simulated": True,
    "n_objects": 49_319,
    "thresholds": {"2sigma": {"g": 0.1 + 0.2, "r": 1.2345678901234567e-05}, "3.5sigma": {"g": 12.5}},
    "remark": "it's a long remark & it does not fit; " * 4,
}


def some_columns(n_objects: int = 4) -> dict[str, np.ndarray]:
    """Ids beyond float64's integers, NaN, empty and non-ASCII text, every type that a catalogue brings."""
    columns = {
        "object_id": np.array([2**53 + 1, 2**53 + 2, 2**62 + 1, 2**63 - 1], np.int64),
        "ra": np.array([0.1 + 0.2, 150.0, 359.99999999999994, 0.0]),
        "dec": np.array([-1e-17, -90.0, 2.5, 89.99999999999999]),
        "level": np.array(["2sigma", "3.5sigma", "3sigma", "2sigma"], "<U8"),
        "bands": np.array(["g", "g&r&i", "r&i", "i"], "<U5"),
        "bands_3p5sigma": np.array(["", "g", "", ""], "<U5"),
        "score_g": np.array([1.1, np.nan, 3e38, 1e-45], np.float32),
        "residual_g": np.array([0.1, np.nan, np.inf, -0.0], np.float32),
        "redshift": np.array([np.nan, 0.1, 0.2, 0.3]),
        "flag_bit": np.array([True, False, True, False]),
        "patch": np.array([1, 2, 3, 4], np.uint32),
        "tract": np.array([9813, 9814, 9815, 9816], ">i2"),
        "note": np.array(["plain", "", "été", "a 'b' & \"c\""], object),
    }
    return {name: values[:n_objects] for name, values in columns.items()}


def written(tmp_path: Path, columns: dict[str, np.ndarray], formats=FORMATS) -> dict[str, Path]:
    return write_candidates(columns, tmp_path, meta=META, formats=formats)


def as_text(values: np.ndarray) -> list[str]:
    filled = np.ma.filled(values, "")
    return [value.decode() if isinstance(value, bytes) else str(value) for value in filled.tolist()]


def read(name: str, path: Path) -> Table:
    if name == "vot":
        return Table.read(path, format="votable")
    if name == "fits":
        return Table.read(path, hdu=1, mask_invalid=False)
    return Table.read(path, format={"ecsv": "ascii.ecsv", "parquet": "parquet"}[name])


@pytest.mark.parametrize("n_objects", [0, 1, 4])
@pytest.mark.parametrize("name", FORMATS)
def test_astropy_reads_back_the_same_values(tmp_path: Path, name: str, n_objects: int) -> None:
    columns = some_columns(n_objects)
    paths = written(tmp_path, columns, [name])
    assert paths == {name: tmp_path / f"candidates.{name}"}
    table = read(name, paths[name])
    assert table.colnames == list(columns)
    assert len(table) == n_objects
    for column, expected in columns.items():
        if expected.dtype.kind in "UO":
            text = (
                [value.encode("ascii", "backslashreplace").decode() for value in expected]
                if name == "fits"
                else expected
            )
            assert as_text(table[column]) == list(text)
        else:
            found = np.ma.filled(table[column], np.nan) if expected.dtype.kind == "f" else np.ma.filled(table[column])
            assert np.array_equal(np.asarray(found), expected, equal_nan=expected.dtype.kind == "f")
    assert table["object_id"].dtype.kind == "i"
    assert table["object_id"].dtype.itemsize == 8
    assert table["score_g"].dtype.itemsize == 4


@pytest.mark.parametrize("n_objects", [0, 4])
def test_two_writes_give_the_same_bytes(tmp_path: Path, n_objects: int) -> None:
    first = {name: path.read_bytes() for name, path in written(tmp_path / "a", some_columns(n_objects)).items()}
    second = {name: path.read_bytes() for name, path in written(tmp_path / "b", some_columns(n_objects)).items()}
    assert first == second
    assert all(str(tmp_path).encode() not in data for data in first.values())


def test_nothing_but_the_catalogue_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "candidates.fits").write_bytes(b"an older one")
    written(tmp_path, some_columns())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"candidates.{name}" for name in FORMATS)
    assert fits.getdata(tmp_path / "candidates.fits").shape == (4,)


ODD = [chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029)]


def test_text_that_ends_lines_is_escaped_in_ecsv(tmp_path: Path) -> None:
    """Readers split a table at some of these characters, and rows would be lost."""
    notes = np.array([f"a{character}b" for character in ODD] + ["plain é"])
    columns = {"object_id": np.arange(len(notes)), "note": notes}
    paths = write_candidates(columns, tmp_path, meta={"survey": "".join(ODD[1:])}, formats=["ecsv", "parquet"])
    found = read("ecsv", paths["ecsv"])
    assert [text.encode().decode("unicode_escape") for text in found["note"].tolist()[:-1]] == notes.tolist()[:-1]
    assert found["note"][-1] == "plain é"
    assert found.meta["survey"] == "".join(ODD[1:])
    assert read("parquet", paths["parquet"])["note"].tolist() == notes.tolist()


def test_fits_header(tmp_path: Path) -> None:
    path = written(tmp_path, some_columns(), ["fits"])["fits"]
    with warnings.catch_warnings(), fits.open(path, checksum=True) as hdus:
        warnings.simplefilter("error")
        header = hdus[1].header
        # The time of writing stands here unless it is replaced.
        assert {hdu.header.comments["CHECKSUM"] for hdu in hdus} == {"HDU checksum"}
        assert all("DATASUM" in hdu.header and "DATE" not in hdu.header for hdu in hdus)
        assert hdus[1].name == "CANDIDATES"
        assert header["SURVEY"] == "HSC-SSP wide"
        assert header["SIMULATED"] is True
        assert header["thresholds 2sigma g"] == 0.1 + 0.2
        assert header["thresholds 3.5sigma g"] == 12.5
        assert json.loads(header[METADATA_KEY]) == META
        assert (header["TTYPE2"], header["TUNIT2"]) == ("ra", "deg")
        assert header["TCOMM2"] == "Right ascension (ICRS)"
        assert header["TFORM1"] == "K"
        assert header["TFORM4"] == "8A"
        hdus.verify("exception")


def test_fits_strings_have_the_same_width_without_rows(tmp_path: Path) -> None:
    some, none = (written(tmp_path / str(n), some_columns(n), ["fits"])["fits"] for n in (4, 0))
    formats = [
        [card.value for card in fits.getheader(path, 1).cards if card.keyword == "TFORM5"] for path in (some, none)
    ]
    assert formats == [["5A"], ["5A"]]


def test_votable_has_units_ucds_frame_and_facts(tmp_path: Path) -> None:
    document = parse(written(tmp_path, some_columns(), ["vot"])["vot"], verify="exception")
    resource = document.resources[0]
    fields = {field.name: field for field in document.get_first_table().fields}
    assert fields["object_id"].ucd == "meta.id;meta.main"
    assert fields["object_id"].datatype == "long"
    assert (fields["ra"].ucd, str(fields["ra"].unit), fields["ra"].ref) == ("pos.eq.ra;meta.main", "deg", "icrs")
    assert fields["bands"].datatype == "char"
    assert fields["note"].datatype == "unicodeChar"
    assert all(field.description for field in fields.values())
    assert [frame.system for frame in resource.coordinate_systems] == ["ICRS"]
    facts = {info.name: info.value for info in resource.infos}
    assert facts["survey"] == "HSC-SSP wide"
    assert facts["simulated"] == "true"
    assert float(facts["thresholds 2sigma r"]) == 1.2345678901234567e-05


def test_ecsv_and_parquet_metadata(tmp_path: Path) -> None:
    paths = written(tmp_path, some_columns(), ["ecsv", "parquet"])
    table = Table.read(paths["ecsv"], format="ascii.ecsv")
    assert dict(table.meta) == META
    assert str(table["dec"].unit) == "deg"
    schema = pq.read_schema(paths["parquet"])
    assert json.loads(schema.metadata[METADATA_KEY.encode()]) == META
    assert schema.field("ra").metadata == {
        b"unit": b"deg", b"ucd": b"pos.eq.ra;meta.main", b"description": b"Right ascension (ICRS)"
    }  # fmt: skip
    scores = pq.read_table(paths["parquet"])["score_g"]
    assert scores.null_count == 0
    assert np.isnan(scores.to_numpy()[1])


@given(st.lists(st.floats(width=32), min_size=1, max_size=8), st.lists(st.floats(), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_ecsv_text_keeps_every_bit_of_a_number(single: list[float], double: list[float]) -> None:
    n_objects = min(len(single), len(double))
    columns = {
        "object_id": np.arange(n_objects),
        "score_g": np.array(single[:n_objects], np.float32),
        "ra": np.array(double[:n_objects]),
    }
    table = Table.read(_ecsv_bytes(columns, {}).decode(), format="ascii.ecsv")
    for name in ("score_g", "ra"):
        assert np.array_equal(np.asarray(table[name]), columns[name], equal_nan=True)


@pytest.mark.parametrize(
    "name",
    ["object_id", "ra", "dec", "level", "bands", "bands_3p5sigma", "score_g", "residual_i", "mag_g", "psf_mag",
     "fwhm_arcsec_r", "depth_mag_y", "redshift", "sample_class", "whatever"],
)  # fmt: skip
def test_every_ucd_is_in_the_controlled_vocabulary(name: str) -> None:
    info = column_info(name)
    assert 0 < len(info.description) <= 68
    if info.ucd:
        parse_ucd(info.ucd, check_controlled_vocabulary=True)


@pytest.mark.parametrize(("level", "suffix"), [("3sigma", "3sigma"), ("3.5sigma", "3p5sigma"), ("top 1%", "top_1_")])
def test_level_names_in_column_names(level: str, suffix: str) -> None:
    assert level_suffix(level) == suffix


def test_descriptions_name_the_level() -> None:
    assert column_info("bands_3p5sigma").description == "Bands that select the object at 3.5sigma, or empty"


def test_descriptions_say_which_score_it_is() -> None:
    assert column_info("score_g", {"survey": "x"}).description == "Anomaly score in g (equation 6)"
    noise = {"score": {"kind": "noise", "floor": 0.02}}
    assert column_info("score_g", noise).description == "Anomaly score in g (residual in units of its expected noise)"
    assert column_info("residual_g", noise) == column_info("residual_g")


@pytest.mark.parametrize("name", FORMATS)
def test_names_and_facts_that_a_format_cannot_spell(tmp_path: Path, name: str) -> None:
    kept = ("g-r color", "2mass", "été", "Score_g", "score_g")
    columns = {"object_id": np.arange(3), **{column: np.arange(3.0) for column in kept}}
    meta = {"a\nb": "x\ny", "d=e": [1, 2], "sürvey": "é", "nothing": None}
    path = write_candidates(columns, tmp_path, meta=meta, formats=[name])[name]
    safe = ["object_id", "g_r_color", "column_2_2mass", "column_3__t_", "Score_g", "column_5_score_g"]
    assert read(name, path).colnames == (safe if name in ("fits", "vot") else list(columns))
    if name == "vot":
        assert [field.name for field in parse(path, verify="exception").get_first_table().fields] == list(columns)
    if name == "fits":
        assert json.loads(fits.getheader(path, 1)[METADATA_KEY]) == meta
        assert fits.getheader(path, 1)["TCOMM3"] == "2mass, from the survey's catalogue"


# ---------------------------------------------------------------- the columns


def scored(n_objects: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    object_id = rng.permutation(np.arange(n_objects, dtype=np.int64) + 2**60)
    score, residual = rng.lognormal(size=(2, n_objects, 5)).astype(np.float32)
    flags = rng.random((n_objects, 3, 5)) < 0.1
    flags[..., 3:] = False
    return object_id, rng.uniform(0, 360, n_objects), rng.uniform(-90, 90, n_objects), score, residual, flags


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_candidates_are_those_of_a_plain_loop(seed: int, n_objects: int) -> None:
    object_id, ra, dec, score, residual, flags = scored(n_objects, seed)
    kept = {"mag_i": np.arange(n_objects, dtype=np.float32)}
    columns = candidate_columns(object_id, ra, dec, score, residual, flags, LEVELS, BANDS, BANDS[:3], kept)
    assert list(columns) == [
        "object_id", "ra", "dec", "level", "bands", "bands_3sigma", "bands_3p5sigma",
        "score_g", "score_r", "score_i", "residual_g", "residual_r", "residual_i", "mag_i",
    ]  # fmt: skip
    expected = []
    for n in sorted(range(n_objects), key=lambda n: object_id[n]):
        labels = ["&".join(b for b, f in zip("gri", flags[n, level, :3], strict=True) if f) for level in range(3)]
        if any(labels):
            level = [name for name, label in zip(LEVELS, labels, strict=True) if label][-1]
            row = [object_id[n], ra[n], dec[n], level, *labels, *score[n, :3], *residual[n, :3], kept["mag_i"][n]]
            expected.append(row)
    found = list(zip(*(values.tolist() for values in columns.values()), strict=True))
    assert [list(row) for row in found] == [[getattr(v, "item", lambda v=v: v)() for v in row] for row in expected]


def test_columns_of_no_candidates_keep_their_types() -> None:
    object_id, ra, dec, score, residual, flags = scored(5)
    columns = candidate_columns(object_id, ra, dec, score, residual, flags & False, LEVELS, BANDS, BANDS[:3])
    assert {values.shape for values in columns.values()} == {(0,)}
    assert columns["object_id"].dtype == np.int64
    assert columns["bands"].dtype == np.dtype("<U5")
    assert columns["level"].dtype == np.dtype("<U8")


def test_a_flag_in_a_band_that_does_not_select_is_no_candidate() -> None:
    object_id, ra, dec, score, residual, flags = scored(5)
    flags[:] = False
    flags[2, 0, 4] = True
    columns = candidate_columns(object_id, ra, dec, score, residual, flags, LEVELS, BANDS, BANDS[:3])
    assert columns["object_id"].size == 0


# ---------------------------------------------------------------- refused


def test_candidate_columns_refuse() -> None:
    object_id, ra, dec, score, residual, flags = scored(5)
    flags[:] = True
    args = (ra, dec, score, residual, flags, LEVELS, BANDS, BANDS[:3])
    with pytest.raises(SwimmyError, match="object_id 7 is a candidate twice"):
        candidate_columns(np.full(5, 7), *args)
    with pytest.raises(SwimmyError, match="'score_g' has the name of a column"):
        candidate_columns(object_id, *args, {"score_g": ra})
    with pytest.raises(SwimmyError, match=r"kept column 'x' has shape \(4,\)"):
        candidate_columns(object_id, *args, {"x": ra[:4]})
    with pytest.raises(SwimmyError, match="do not fit 5 objects"):
        candidate_columns(object_id, ra, dec, score, residual, flags[:, :2], LEVELS, BANDS, BANDS[:3])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"object_id": np.arange(4.0)}, "object_id is float64"),
        ({"ra": np.zeros((4, 2))}, r"'ra' has shape \(4, 2\)"),
        ({"x": np.array([None, 1, 2, 3])}, "'x' is object, not numbers, flags or text"),
        ({"x": np.zeros(4, complex)}, "'x' is complex128"),
        ({"x": np.full(4, 2**64 - 1, np.uint64)}, "more than a signed 64-bit integer"),
        ({"": np.zeros(4)}, "empty name"),
    ],
)
def test_columns_that_no_file_can_hold_are_refused(tmp_path: Path, change: dict, text: str) -> None:
    with pytest.raises(SwimmyError, match=text):
        written(tmp_path, {**some_columns(), **change})


def test_unknown_formats_and_metadata_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"formats csv are unknown. Choose among fits, ecsv, vot, parquet"):
        written(tmp_path, some_columns(), ["fits", "csv"])
    with pytest.raises(SwimmyError, match="metadata is not JSON"):
        write_candidates(some_columns(), tmp_path, meta={"x": object()})
    with pytest.raises(SwimmyError, match="metadata is not JSON"):
        write_candidates(some_columns(), tmp_path, meta={"x": float("nan")})
    with pytest.raises(SwimmyError, match="object_id is missing"):
        written(tmp_path, {"ra": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []
