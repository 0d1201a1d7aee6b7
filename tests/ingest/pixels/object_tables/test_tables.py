"""Object tables: files of public data sets, written by their own build scripts' rules (see `public_files`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from public_files import (
    STAMP,
    around,
    galaxiesml_columns,
    hats_table,
    hsc_columns,
    legacy_columns,
    write_hats,
    write_shard,
)

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import read_catalogue
from swimmy_scale.ingest.pixels.object_tables import hdf5_objects
from swimmy_scale.ingest.pixels.object_tables.stamps import band_places, crop_for
from swimmy_scale.ingest.pixels.object_tables.tables import inspect_tables
from swimmy_scale.ingest.pixels.sources import build_index, list_source, read_rows, tables_of
from swimmy_scale.method.object_names import object_number
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.sections import CatalogueSource
from swimmy_scale.method.survey import HSC, Survey

LEGACY = replace(
    HSC,
    name="legacy",
    bands=("g", "r", "i", "z"),
    band_divisors=(1.0,) * 4,
    min_depth_mag=(20.0,) * 4,
    pixel_scale_arcsec=0.262,
    zero_point_mag=22.5,
    target_fwhm_arcsec=1.6,
)
Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module", name="hsc_parts")
def _hsc_parts() -> list[Columns]:
    return [hsc_columns(5, 0), hsc_columns(4, 1)]


@pytest.fixture(name="parts")
def _parts(hsc_parts: list[Columns]) -> list[Columns]:
    """Columns of two shards, which a test may change."""
    return [{name: values.copy() for name, values in part.items()} for part in hsc_parts]


def joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_mmu(folder: Path, parts: list[Columns]) -> Path:
    for number, part in enumerate(parts):
        write_shard(folder / f"healpix={1000 + number}" / "001-of-001.hdf5", part)
    return folder


WRITERS = {"hdf5": write_mmu, "hats": write_hats}
forms = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


class Ingested:
    """What comes of sources with the catalogue inside, or with another one."""

    def __init__(
        self, *sources: Path, survey: Survey = HSC, catalogue: CatalogueSource | None = None, **listed: Any
    ) -> None:
        given = catalogue or CatalogueSource()
        self.objects = read_catalogue(
            given, survey, () if given.path else tables_of(sources, listed.get("kind", "auto"))
        )
        o = self.objects
        listings = [list_source(path, survey, **listed) for path in sources]
        self.index = build_index(listings, o.object_id, o.ra, o.dec, survey, id_column=o.id_column)
        self.masked, self.partly_empty = np.ones((2, len(o)), np.bool_)
        out = read_rows(self.index, 0, o.object_id, o.ra, o.dec, survey, None, self.partly_empty, self.masked)
        self.image, faults, self.notes, self.digest = out
        self.faults: dict[int, Fault] = {fault.row: fault for fault in faults}

    def slices(self, step: int, survey: Survey = HSC) -> np.ndarray:
        """The same pixels, read partition by partition."""
        o, n = self.objects, len(self.objects)
        parts = []
        for lo in range(0, n, step):
            hi = min(lo + step, n)
            rows = slice(lo, hi)
            found = read_rows(self.index.slice(lo, hi), lo, o.object_id[rows], o.ra[rows], o.dec[rows], survey)
            parts.append(found[0])
        return np.concatenate(parts)


# ---------------------------------------------------------------- what comes in is what was put in


@forms
def test_multimodaluniverse_hsc(tmp_path: Path, parts: list[Columns], write: Callable[..., Path]) -> None:
    folder, given = write(tmp_path / "mmu", parts), joined(parts)
    assert list_source(folder, HSC).kind == "table"
    found = Ingested(folder)
    assert found.faults == {}
    np.testing.assert_array_equal(found.image, around(given["image_array"]))
    np.testing.assert_array_equal(found.slices(2), found.image)
    objects = found.objects
    assert objects.object_id.tolist() == given["object_id"].tolist()
    np.testing.assert_array_equal(objects.ra, given["ra"])
    np.testing.assert_array_equal(objects.dec, given["dec"])
    np.testing.assert_array_equal(objects.fwhm_arcsec, given["image_psf_fwhm"])
    for k, band in enumerate(HSC.bands):
        np.testing.assert_array_equal(objects.mag[:, k], given[f"{band}_cmodel_mag"].astype(np.float32))
    assert objects.tract.tolist() == [9813] * 9
    assert "object_name" not in objects.kept
    assert not found.masked.any()
    assert found.index.has_masks
    assert any("27.0 mag is assumed" in warning for warning in found.index.warnings)


@forms
def test_the_object_is_in_the_middle_to_half_a_pixel(
    tmp_path: Path, parts: list[Columns], write: Callable[..., Path]
) -> None:
    """The scripts cut one pixel off the middle; a crop of the middle would have the objects up to 1.5 px off."""
    image = Ingested(write(tmp_path / "mmu", parts)).image[:, 4].astype(np.float64)
    offset = np.arange(64) - 31.5
    for plane in image:
        weight = np.where((offset[:, None] ** 2 + offset**2) < 64, np.clip(plane, 0, None), 0) ** 2
        for axis in (0, 1):
            assert abs((weight.sum(axis=1 - axis) * offset).sum() / weight.sum()) < 0.56


def test_legacy_survey(tmp_path: Path) -> None:
    parts = [legacy_columns(4, 0), legacy_columns(3, 1)]
    parts[0]["image_mask"][2, 78, 79] = False  # one mask for all bands
    given = joined(parts)
    for number, part in enumerate(parts):
        write_shard(tmp_path / "dr10_south_21" / f"healpix={number}" / "001-of-001.hdf5", part, "lzf")
    flux = CatalogueSource(
        columns={f"{band}_cmodel_flux": f"FLUX_{band.upper()}" for band in "griz"},
        units={f"{band}_cmodel_flux": "nmgy" for band in "griz"},
    )
    found = Ingested(tmp_path / "dr10_south_21", survey=LEGACY, catalogue=flux)
    assert found.faults == {}
    np.testing.assert_array_equal(found.image, around(given["image_array"]))
    names = [name.decode() for name in given["object_id"].tolist()]
    assert found.objects.kept["object_name"].tolist() == names
    assert found.objects.object_id.tolist() == [object_number(name) for name in names]
    np.testing.assert_allclose(found.objects.fwhm_arcsec, given["image_psf_fwhm"], rtol=1e-7)
    expected = 22.5 - 2.5 * np.log10(given["FLUX_R"].astype(np.float64))
    np.testing.assert_allclose(found.objects.mag[:, 1], expected, atol=1e-4)
    assert found.masked.tolist() == [False, False, True, *[False] * 4]


@pytest.mark.parametrize("n_px", [64, 127])
def test_galaxiesml(tmp_path: Path, n_px: int) -> None:
    columns = galaxiesml_columns(7, n_px=n_px)
    path = write_shard(tmp_path / f"5x{n_px}x{n_px}_testing_with_morphology.hdf5", columns, None)
    fwhm = dict(zip(HSC.bands, (0.8, 0.7, 0.6, 0.65, 0.7), strict=True))
    found = Ingested(path, catalogue=CatalogueSource(fwhm_arcsec=fwhm, keep_columns=("specz_name",)))
    first = (n_px - 64) // 2
    np.testing.assert_array_equal(found.image, columns["image"][:, :, first : first + 64, first : first + 64])
    objects = found.objects
    assert objects.object_id.tolist() == columns["object_id"].tolist()
    np.testing.assert_array_equal(objects.redshift, columns["specz_redshift"])
    np.testing.assert_allclose(objects.fwhm_arcsec, np.tile(list(fwhm.values()), (7, 1)), rtol=1e-6)
    assert objects.tract.tolist() == [9813] * 7
    assert objects.kept["specz_name"].tolist() == [f"SDSS-{k}" for k in range(7)]
    assert not found.index.has_masks
    said = " ".join([*objects.warnings, *found.index.warnings])
    for assumed in (
        "fwhm_arcsec of the job stands for what nothing else gives",
        "they are assumed to be g, r, i, z, y",
        "27.0 mag is assumed",
    ):
        assert assumed in said


def test_several_files_of_one_data_set(tmp_path: Path) -> None:
    names = ("training", "validation", "testing")
    parts = [galaxiesml_columns(3 + seed, seed) for seed in range(3)]
    paths = [
        write_shard(tmp_path / f"5x64x64_{name}_with_morphology.hdf5", part, None)
        for name, part in zip(names, parts, strict=True)
    ]
    found = Ingested(*paths, catalogue=CatalogueSource(fwhm_arcsec=dict.fromkeys(HSC.bands, 0.7)))
    assert found.objects.object_id.tolist() == joined(parts)["object_id"].tolist()
    np.testing.assert_array_equal(found.image, joined(parts)["image"])
    assert found.faults == {}


# ---------------------------------------------------------------- bands, masks, PSF widths


@forms
def test_bands_in_another_order_and_more_of_them(
    tmp_path: Path, parts: list[Columns], write: Callable[..., Path]
) -> None:
    """Each row says its own bands."""
    part = parts[0]
    order = np.array([4, 1, 0, 3, 2])
    for name in ("image_band", "image_array", "image_mask", "image_psf_fwhm", "image_ivar"):
        part[name][2] = part[name][2][order]
    expected = around(parts[0]["image_array"]).copy()
    expected[2] = expected[2][np.argsort(order)]
    fwhm = part["image_psf_fwhm"].copy()
    fwhm[2] = fwhm[2][np.argsort(order)]
    found = Ingested(write(tmp_path / "mmu", parts[:1]))
    np.testing.assert_array_equal(found.image, expected)
    np.testing.assert_array_equal(found.objects.fwhm_arcsec, fwhm)
    three = replace(
        HSC, bands=("g", "r", "i"), band_divisors=(1.0,) * 3, min_depth_mag=(20.0,) * 3, selecting_bands=("g", "r")
    )
    found = Ingested(tmp_path / "mmu", survey=three)
    np.testing.assert_array_equal(found.image, expected[:, :3])


@forms
def test_a_bad_pixel_of_the_aperture_is_a_flag(
    tmp_path: Path, parts: list[Columns], write: Callable[..., Path]
) -> None:
    # The aperture of a stamp of 160 px is around pixel 78.5.
    parts[0]["image_mask"][1, 3, 78, 81] = False
    parts[0]["image_mask"][2, 0, 78, 82] = False  # outside of it
    parts[1]["image_mask"][0] = False
    found = Ingested(write(tmp_path / "mmu", parts))
    assert np.flatnonzero(found.masked).tolist() == [1, 5]
    assert found.faults == {}


@forms
def test_fwhm_of_zero_is_unknown(tmp_path: Path, parts: list[Columns], write: Callable[..., Path]) -> None:
    parts[0]["image_psf_fwhm"][3, 2] = 0
    parts[0]["i_sdssshape_psf_shape11"][3] = 0
    objects = Ingested(write(tmp_path / "mmu", parts)).objects
    assert [(fault.row, fault.code, fault.band) for fault in objects.faults] == [(3, Code.FWHM_MISSING, "i")]
    assert any("fwhm_arcsec_i 1, such as 0" in warning for warning in objects.warnings)


@forms
def test_pixels_of_another_size_are_quarantined(
    tmp_path: Path, parts: list[Columns], write: Callable[..., Path]
) -> None:
    parts[0]["image_scale"][1, 2] = 0.262
    found = Ingested(write(tmp_path / "mmu", parts))
    assert found.faults[1].code is Code.WRONG_PIXEL_SCALE
    assert "its pixels are 0.262 arcsec, survey.pixel_scale_arcsec is 0.168" in found.faults[1].reason


def test_names_of_bands() -> None:
    assert band_places(["hsc-g", "hsc-r", "hsc-i", "hsc-z", "hsc-y"], HSC) == [0, 1, 2, 3, 4]
    assert band_places(["des-z", "des-g", "u"], HSC) == [1, -1, -1, 0, -1]
    assert band_places(["HSC-I2", "g"], HSC) == [1, -1, 0, -1, -1]
    assert band_places([], HSC) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("n", "bands", "first"),
    [
        (160, ["hsc-g"], 47),
        (160, ["des-g"], 47),
        (224, ["hsc-g"], 80),
        (152, ["des-g"], 44),
        (160, ["jwst-f090w"], 48),
        (160, [], 48),
        (127, [], 31),
        (64, [], 0),
    ],
)
def test_where_cutouts_lie(n: int, bands: list[str], first: int) -> None:
    assert crop_for(HSC)(n, n, bands) == (slice(first, first + 64),) * 2


@pytest.mark.parametrize("n_px", [229, 230])
def test_stamps_of_the_earlier_script(n_px: int) -> None:
    """224 px around the middle of what the archive sends, as scripts/hsc/build_parent_sample.py cut them."""
    start = n_px // 2 - 224 // 2
    region, _ = crop_for(HSC)(224, 224, ["hsc-g"])
    assert abs((n_px - 1) / 2 - start - (region.start + 31.5)) <= 0.5


def test_a_stamp_of_the_size_of_a_cutout_is_taken_as_it_is() -> None:
    assert crop_for(HSC)(64, 64, ["hsc-g"]) == (slice(0, 64),) * 2


# ---------------------------------------------------------------- a catalogue that is given


@forms
def test_a_catalogue_is_joined_by_id(tmp_path: Path, parts: list[Columns], write: Callable[..., Path]) -> None:
    folder, given = write(tmp_path / "mmu", parts), joined(parts)
    order = np.array([7, 2, 0])
    lines = [f"{given['object_id'][row]},{given['ra'][row]},{given['dec'][row]}" for row in order]
    lines.insert(1, "77,10.0,2.0")
    (tmp_path / "cat.csv").write_text("object_id,ra,dec\n" + "\n".join(lines) + "\n")
    fwhm = dict.fromkeys(HSC.bands, 0.7)
    found = Ingested(folder, catalogue=CatalogueSource(tmp_path / "cat.csv", fwhm_arcsec=fwhm))
    np.testing.assert_array_equal(found.image[[0, 2, 3]], around(given["image_array"])[order])
    assert {row: fault.code for row, fault in found.faults.items()} == {1: Code.MISSING_BAND}
    assert found.faults[1].reason == "no row of the object tables for bands g, r, i, z, y"
    assert found.index.n_unmatched == 6
    assert any("6 of 9 rows belong to no object of the catalogue" in note for note in found.index.warnings)


def test_a_catalogue_of_other_objects_is_refused(tmp_path: Path, parts: list[Columns]) -> None:
    folder = write_mmu(tmp_path / "mmu", parts)
    (tmp_path / "cat.csv").write_text("object_id,ra,dec\n77,10.0,2.0\n")
    with pytest.raises(SwimmyError, match=r"none of 9 rows of .* belongs to an object of the catalogue: the first has"):
        Ingested(folder, catalogue=CatalogueSource(tmp_path / "cat.csv"))


def test_an_id_under_another_name(tmp_path: Path, parts: list[Columns]) -> None:
    parts[0]["TARGET"] = parts[0].pop("object_id")
    folder = write_mmu(tmp_path / "mmu", parts[:1])
    found = Ingested(folder, catalogue=CatalogueSource(columns={"object_id": "TARGET"}), kind="table")
    np.testing.assert_array_equal(found.image, around(parts[0]["image_array"]))


@forms
def test_an_object_that_comes_twice(tmp_path: Path, parts: list[Columns], write: Callable[..., Path]) -> None:
    parts[1]["object_id"][1] = parts[0]["object_id"][0]
    found = Ingested(write(tmp_path / "mmu", parts))
    assert [(f.row, f.code) for f in found.objects.faults] == [(6, Code.DUPLICATE_OBJECT_ID)]
    assert any("1 rows repeat the object of an earlier row" in note for note in found.index.warnings)
    np.testing.assert_array_equal(found.image[0], around(parts[0]["image_array"])[0])


# ---------------------------------------------------------------- files that are broken


def test_a_truncated_shard_is_refused_by_name(tmp_path: Path, parts: list[Columns]) -> None:
    folder = write_mmu(tmp_path / "mmu", parts)
    path = folder / "healpix=1001" / "001-of-001.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SwimmyError, match=r"healpix=1001/001-of-001.hdf5: cannot be opened as hdf5 .*Fetch the"):
        list_source(folder, HSC)


def test_all_broken_shards_are_named(tmp_path: Path, parts: list[Columns]) -> None:
    folder = write_mmu(tmp_path / "mmu", [*parts, parts[0]])
    for number in (0, 2):
        (folder / f"healpix={1000 + number}" / "001-of-001.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(SwimmyError, match=r"(?s)healpix=1000.*healpix=1002"):
        list_source(folder, HSC)


def test_a_shard_that_was_not_written_to_its_end_is_refused(tmp_path: Path, parts: list[Columns]) -> None:
    """The scripts append dataset by dataset: one that was stopped leaves some longer than others."""
    parts[0]["ra"] = parts[0]["ra"][:-1]
    folder = write_mmu(tmp_path / "mmu", parts)
    with pytest.raises(SwimmyError, match=r"has 5 images, but other numbers of rows in ra 4: it was not written to"):
        list_source(folder, HSC)


@forms
def test_rows_that_were_never_filled(tmp_path: Path, parts: list[Columns], write: Callable[..., Path]) -> None:
    parts[0]["image_array"][3:] = 0
    parts[1]["image_array"][2, 1, 60, 60] = np.nan
    found = Ingested(write(tmp_path / "mmu", parts))
    codes = {row: fault.code for row, fault in found.faults.items()}
    assert codes == {3: Code.NO_DATA, 4: Code.NO_DATA, 7: Code.NOT_FINITE_PIXELS}
    assert found.faults[7].band == "r"
    assert np.isnan(found.image[[3, 4, 7]]).all()
    assert np.isfinite(np.delete(found.image, [3, 4, 7], axis=0)).all()


def test_a_damaged_chunk_is_of_its_rows_alone(tmp_path: Path, parts: list[Columns]) -> None:
    path = tmp_path / "mmu" / "healpix=1000" / "001-of-001.hdf5"
    write_mmu(tmp_path / "mmu", parts)
    with h5py.File(path, "a") as file:  # in chunks of one row, so that one can be damaged
        data = file["image_array"][...]
        del file["image_array"]
        array = file.create_dataset("image_array", data=data, compression="gzip", chunks=(1, 5, 160, 160))
        where = array.id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = bytes(where.size)
    path.write_bytes(content)
    found = Ingested(tmp_path / "mmu")
    assert list(found.faults) == [2]
    assert found.faults[2].code is Code.UNREADABLE_FILE
    assert "row 2 cannot be read" in found.faults[2].reason
    np.testing.assert_array_equal(np.delete(found.image, 2, 0), np.delete(around(joined(parts)["image_array"]), 2, 0))


@forms
def test_a_shard_that_changed_since_it_was_listed(
    tmp_path: Path, parts: list[Columns], write: Callable[..., Path]
) -> None:
    """Shuffled, or gone: its objects are never taken from other rows."""
    folder = write(tmp_path / "mmu", parts)
    found = Ingested(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".hdf5", ".parquet"))
    shuffled = {name: values[[1, 0, 2, 3, 4]] for name, values in parts[0].items()}
    write(tmp_path / "new", [shuffled])
    shutil.copy(next(p for p in (tmp_path / "new").rglob("*") if p.suffix == files[0].suffix), files[0])
    files[1].unlink()
    o = found.objects
    image, faults, _, _ = read_rows(found.index, 0, o.object_id, o.ra, o.dec, HSC)
    assert [(fault.row, fault.code) for fault in faults] == [(row, Code.UNREADABLE_FILE) for row in (0, 1, 5, 6, 7, 8)]
    assert f"row 0 no longer holds object_id {o.object_id[0]}" in faults[0].reason
    np.testing.assert_array_equal(image[2:5], found.image[2:5])


def ragged(table: pa.Table) -> pa.Table:
    """Row 1 without an image, row 2 with lines of several lengths, row 3 without some pixels."""
    rows = table.column("image").to_pylist()
    rows[1] = None
    rows[2]["flux"][1][5] = rows[2]["flux"][1][5][:-1]
    rows[3]["flux"][0][70][70] = None
    image = pa.array(rows, table.schema.field("image").type)
    return table.set_column(table.schema.get_field_index("image"), "image", image)


def test_null_and_ragged_rows_of_parquet(tmp_path: Path, parts: list[Columns]) -> None:
    """Readers in the wild drop them; here they are in quarantine."""
    path = tmp_path / "hats" / "dataset" / "Norder=4" / "Dir=0" / "Npix=7.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(ragged(hats_table(parts[0])), path)
    found = Ingested(tmp_path / "hats")
    codes = {row: fault.code for row, fault in found.faults.items()}
    assert codes == {1: Code.UNREADABLE_FILE, 2: Code.WRONG_SHAPE, 3: Code.NOT_FINITE_PIXELS}
    assert "row 1 has no image" in found.faults[1].reason
    # Its PSF width was in the image as well: it comes from the moments.
    assert any("FWHM comes from the PSF's second moments in bands g (1)" in one for one in found.objects.warnings)
    np.testing.assert_array_equal(found.image[[0, 4]], around(parts[0]["image_array"])[[0, 4]])


def test_a_damaged_page_of_parquet(tmp_path: Path, parts: list[Columns]) -> None:
    path = tmp_path / "hats" / "dataset" / "Norder=4" / "Dir=0" / "Npix=7.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(hats_table(parts[0]), path, row_group_size=2, compression="gzip", use_dictionary=False)
    group = pq.read_metadata(path).row_group(1)
    flux = next(group.column(k) for k in range(group.num_columns) if "flux" in group.column(k).path_in_schema)
    content = bytearray(path.read_bytes())
    middle = flux.data_page_offset + flux.total_compressed_size // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    found = Ingested(tmp_path / "hats")
    assert {row: fault.code for row, fault in found.faults.items()} == {
        2: Code.UNREADABLE_FILE,
        3: Code.UNREADABLE_FILE,
    }
    np.testing.assert_array_equal(found.image[[0, 1, 4]], around(parts[0]["image_array"])[[0, 1, 4]])


def test_other_forms_of_lists_in_parquet(tmp_path: Path, parts: list[Columns]) -> None:
    """Of fixed size, of large offsets, and with the bands called so."""
    table = hats_table(parts[0], bands="bands")
    image = table.column("image").combine_chunks()
    line = pa.list_(pa.float32(), STAMP)
    flux = pa.array(parts[0]["image_array"].tolist(), pa.large_list(pa.list_(line, STAMP)))
    fields = {name: image.field(name) for name in ("bands", "mask", "psf_fwhm", "scale")} | {"flux": flux}
    struct = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    path = tmp_path / "x.parquet"
    pq.write_table(table.set_column(table.schema.get_field_index("image"), "image", struct), path)
    found = Ingested(path)
    np.testing.assert_array_equal(found.image, around(parts[0]["image_array"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_array": None}, r"has no images of axes .*image_array, image_flux, image, only .*image_ivar"),
        ({"image_mask": np.ones((5, 4, 4), bool)}, r"image_mask is bool of shape \(5, 4, 4\); need one value for each"),
        ({"image_array": np.zeros((5, 5, 160, 160), "S1")}, "its images hold .*, not numbers"),
        ({"image_band": np.array([[b"des-u"] * 5] * 5)}, "has the bands des-u.*needs g, r, i, z, y as well"),
    ],
)
def test_files_that_are_none_are_refused(
    tmp_path: Path, parts: list[Columns], change: dict[str, Any], message: str
) -> None:
    columns = {name: values for name, values in {**parts[0], **change}.items() if values is not None}
    path = write_shard(tmp_path / "x.hdf5", columns)
    with pytest.raises(SwimmyError, match=message):
        inspect_tables([str(path)], HSC)


# ---------------------------------------------------------------- what a source is


def test_what_auto_takes_for_a_table(tmp_path: Path, parts: list[Columns]) -> None:
    folder = write_mmu(tmp_path / "mmu", parts)
    assert list_source(folder, HSC).kind == "table"
    assert list_source(folder / "healpix=1000" / "001-of-001.hdf5", HSC).kind == "table"
    assert len(tables_of([folder])) == 2
    (folder / "notes.txt").write_text("mine")
    assert len(list_source(folder, HSC).files) == 2
    # Cutouts with a catalogue beside them, as before.
    (folder / "1_g.fits").write_bytes(b"SIMPLE  =")
    assert list_source(folder, HSC).kind == "cutouts"
    assert tables_of([folder]) == []
    # Images without ids or positions beside them are a cube in the catalogue's order, as before.
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["image"] = np.zeros((2, 5, 64, 64), np.float32)
        file["object_id"] = [1, 2]
    assert list_source(tmp_path / "cube.h5", HSC).kind == "cube"


def test_files_of_hats_that_are_no_partitions(tmp_path: Path, parts: list[Columns]) -> None:
    folder = write_hats(tmp_path / "hats", parts)
    pq.write_table(hats_table(parts[0]), folder / "dataset" / "data_thumbnail.parquet")
    names = [name.decode() for name in list_source(folder, HSC).files["name"].tolist()]
    assert [Path(name).name for name in names] == ["Npix=1000.parquet", "Npix=1001.parquet"]


def test_rows_are_read_a_few_at_a_time(tmp_path: Path, parts: list[Columns], monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks begin where chunks do: the memory of a partition is that of its cutouts, not of the file."""
    folder, given = write_mmu(tmp_path / "mmu", parts), joined(parts)
    read: list[int] = []
    own = hdf5_objects.Hdf5Objects._block

    def block(self: Any, lo: int, hi: int, region: Any) -> Any:
        read.append(hi - lo)
        return own(self, lo, hi, region)

    monkeypatch.setattr(hdf5_objects.Hdf5Objects, "_block", block)
    monkeypatch.setattr(hdf5_objects, "_BLOCK_BYTES", 2 * 5 * 64 * 64 * 4)
    with h5py.File(folder / "healpix=1000" / "001-of-001.hdf5", "a") as file:
        del file["image_array"]
        file.create_dataset("image_array", data=parts[0]["image_array"], chunks=(2, 1, 40, 40))
    found = Ingested(folder)
    assert max(read[:3]) == 2
    np.testing.assert_array_equal(found.image, around(given["image_array"]))
