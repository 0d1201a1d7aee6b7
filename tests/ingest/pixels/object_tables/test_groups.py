"""Object tables whose images lie in groups or beside them: unagi's HDF5 and Cutana's batches (see `public_files`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from public_files import HSC_BANDS, write_cutana, write_unagi
from public_fits import galaxy

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.sources import Index, build_index, list_source, read_rows, tables_of
from swimmy_scale.method.object_names import object_number
from swimmy_scale.method.survey import HSC, BoolArray, FloatArray, Survey

IDS = [str(43158172147386000 + k) for k in range(4)]
NAMES = {band: f"HSC-{band.upper()}" for band in HSC_BANDS}


def read(
    source: Path, object_id: list[int], survey: Survey = HSC
) -> tuple[FloatArray, dict[int, str], Index, BoolArray]:
    """Pixels of objects, what is wrong with some of them, and whether the mask calls their middle bad."""
    ids = np.array(object_id)
    nowhere = np.full(len(ids), np.nan)
    index = build_index([list_source(source, survey)], ids, nowhere, nowhere, survey)
    masked = np.zeros(len(ids), np.bool_)
    image, faults, _, _ = read_rows(index, 0, ids, nowhere, nowhere, survey, None, None, masked)
    return image, {fault.row: f"{fault.code.label}: {fault.reason}" for fault in faults}, index, masked


class TestUnagi:
    def objects(self, n_y: int = 70, n_x: int = 72) -> dict[str, dict[str, np.ndarray]]:
        return {
            name: {NAMES[band]: galaxy(row, k, n_y, n_x) for k, band in enumerate(HSC_BANDS)}
            for row, name in enumerate(IDS)
        }

    def test_bands_that_differ_by_a_pixel(self, tmp_path: Path) -> None:
        """With the archive's cards they are laid upon each other pixel by pixel: g begins a row later, i a column."""
        objects, origin = self.objects(), {"HSC-G": (1, 0), "HSC-I": (0, 1)}
        for images in objects.values():
            for band, (y, x) in origin.items():
                images[band] = images[band][y:, x:]
            images["HSC-Z"] = images["HSC-Z"][:-1]
        source = write_unagi(tmp_path / "cutouts_pdr2_wide_coadd.hdf", objects, origin)
        image, faults, index, masked = read(source, [int(name) for name in IDS])
        assert (faults, masked.any()) == ({}, False)
        # The common part has rows 1 to 68 and columns 1 to 71 of the largest.
        for row in range(4):
            wanted = [galaxy(row, k, 70, 72)[3:67, 4:68] for k in range(5)]
            np.testing.assert_array_equal(image[row], wanted)
        assert index.warnings == ()

    def test_without_cards_their_first_pixels_are_the_same(self, tmp_path: Path) -> None:
        objects = self.objects(65, 66)
        for images in objects.values():
            images["HSC-Y"] = images["HSC-Y"][:-1]
        image, faults, index, _ = read(write_unagi(tmp_path / "c.hdf", objects), [int(name) for name in IDS])
        assert faults == {}
        np.testing.assert_array_equal(image[2], [galaxy(2, k, 65, 66)[:64, 1:65] for k in range(5)])
        assert "27.0 mag is assumed" in index.warnings[0]

    def test_masks(self, tmp_path: Path) -> None:
        bad = {(IDS[1], "HSC-R"): [(35, 36)], (IDS[2], "HSC-R"): [(0, 0)]}
        source = write_unagi(tmp_path / "c.hdf", self.objects(), {}, bad=bad)
        *_, masked = read(source, [int(name) for name in IDS])
        assert masked.tolist() == [False, True, False, False]

    def test_faults(self, tmp_path: Path) -> None:
        """A band short, a stamp too small, other grids, another zero point: each object has its reason."""
        objects = self.objects()
        del objects[IDS[0]]["HSC-Y"]
        objects[IDS[1]]["HSC-Y"] = objects[IDS[1]]["HSC-Y"][:60]
        source = write_unagi(tmp_path / "c.hdf", objects, {})
        with h5py.File(source, "r+") as file:
            file[f"{IDS[2]}/HSC-Y/HDU0"].attrs["CRVAL1"] = np.array([151.0])
            file[f"{IDS[3]}/HSC-Y/PRIMARY"].attrs["FLUXMAG0"] = np.array([10**10.0])
        image, faults, *_ = read(source, [int(name) for name in IDS])
        assert np.isnan(image).all()
        assert "no image of band y: its bands are g, i, r, z" in faults[0]
        assert "its image has 72 x 60 px (x, y), 64 x 64 are needed" in faults[1]
        assert "bands on different grids of pixels" in faults[2]
        assert "has the zero point 25.0, the first objects 27.0" in faults[3]

    def test_damage(self, tmp_path: Path) -> None:
        source = write_unagi(tmp_path / "c.hdf", self.objects(), {})
        with h5py.File(source, "r+") as file:
            del file[f"{IDS[1]}/HSC-R/HDU0/DATA"]
            del file[IDS[2]]
            file.create_group(IDS[2])
        image, faults, *_ = read(source, [int(name) for name in IDS])
        assert np.isfinite(image).all(axis=(1, 2, 3)).tolist() == [True, False, False, True]
        assert ("no image of band r" in faults[1], "has no image" in faults[2]) == (True, True)
        source.write_bytes(source.read_bytes()[:20000])
        with pytest.raises(SwimmyError, match=r"c\.hdf"):
            read(source, [int(IDS[0])])

    def test_ids_in_any_order_and_too_many(self, tmp_path: Path) -> None:
        source = write_unagi(tmp_path / "c.hdf", self.objects(), {})
        image, faults, index, _ = read(source, [int(IDS[3]), 17, int(IDS[0])])
        np.testing.assert_array_equal(image[0], [galaxy(3, k, 70, 72)[3:67, 4:68] for k in range(5)])
        np.testing.assert_array_equal(image[2], [galaxy(0, k, 70, 72)[3:67, 4:68] for k in range(5)])
        assert faults == {1: "missing_band: no row of the object tables for bands g, r, i, z, y"}
        assert index.n_unmatched == 2

    def test_one_band_alone(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "c.hdf", "w") as file:
            for row, name in enumerate(IDS):
                file[f"{name}/HDU0/DATA"] = galaxy(row, 2, 64, 64)
        with pytest.raises(SwimmyError, match="has 1 image an object and does not name their bands"):
            read(tmp_path / "c.hdf", [int(IDS[0])])
        of_i = replace(HSC, bands=("i",), selecting_bands=("i",), band_divisors=(1.0,), min_depth_mag=(25.0,))
        image, faults, *_ = read(tmp_path / "c.hdf", [int(IDS[1])], of_i)
        assert faults == {}
        np.testing.assert_array_equal(image[0, 0], galaxy(1, 2, 64, 64))


EUCLID = Survey(
    bands=("VIS", "Y", "J", "H"),
    selecting_bands=("VIS", "Y", "J"),
    magnitude_band="VIS",
    pixel_scale_arcsec=0.1,
    zero_point_mag=23.9,
    file_zero_points_mag=(8.9,) * 4,
    band_divisors=(1.0,) * 4,
    min_depth_mag=(np.nan,) * 4,
)
SOURCES = [f"TILE_102018666_{k}" for k in range(7)]


def cutana_images(rows: range) -> np.ndarray:
    """In Jy, around 20 mag."""
    return np.array([[1e-6 * galaxy(row, k, 80, 78) for k in range(4)] for row in rows], np.float32)


def columns(rows: range, scale: float = 0.1) -> dict[str, Any]:
    return {
        "source_id": [SOURCES[row] for row in rows],
        "ra": 269.0 + 0.01 * np.array(rows),
        "dec": 65.0 + 0.01 * np.array(rows),
        "pixel_scale_arcsec_per_pixel": np.full(len(rows), scale),
    }


class TestCutana:
    def write(self, folder: Path) -> Path:
        for number, rows in enumerate((range(4), range(4, 7))):
            write_cutana(folder, number, cutana_images(rows), columns(rows))
        return folder

    def test_every_value(self, tmp_path: Path) -> None:
        """Microjansky of the survey from the Jy that Cutana writes, found by the sources' names."""
        source = self.write(tmp_path / "out")
        assert [path.name for path in tables_of([source])] == ["images_metadata.parquet"] * 2
        ids = [object_number(name) for name in SOURCES]
        image, faults, index, _ = read(source, ids[::-1], EUCLID)
        assert faults == {}
        wanted = 1e6 * cutana_images(range(7))[::-1, :, 8:72, 7:71].astype(np.float64)
        # 8.9 mag is 1 Jy to 0.0001 mag, as 23.9 is 1 microjansky.
        np.testing.assert_allclose(image, wanted, rtol=1e-6)
        said = " ".join(index.warnings)
        assert "they are assumed to be VIS, Y, J, H, in this order" in said
        assert "8.9 mag is assumed" in said

    def test_change_of_the_images_is_seen(self, tmp_path: Path) -> None:
        source = self.write(tmp_path / "out")
        ids = np.array([object_number(name) for name in SOURCES])

        def fingerprint() -> str:
            where = np.full(7, np.nan)
            return build_index([list_source(source, EUCLID)], ids, where, where, EUCLID).fingerprint()

        before = fingerprint()
        assert before == fingerprint()
        chunk = sorted(path for path in source.rglob("c/0/*") if path.is_file() or path.is_dir())[0]
        file = next(path for path in [chunk, *chunk.rglob("*")] if path.is_file())
        file.write_bytes(file.read_bytes() + b"x")
        assert fingerprint() != before

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda images: images.astype(np.uint8), "its pixels are uint8, stretched for display"),
            (lambda images: images[:1], "has 2 rows, and .* 1 images"),
            (lambda images: images[:, :3], "has 3 images an object and does not name their bands"),
        ],
    )
    def test_refused(self, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], reason: str) -> None:
        source = self.write(tmp_path / "out")
        write_cutana(source, 2, change(cutana_images(range(2))), columns(range(2)))
        with pytest.raises(SwimmyError, match=reason):
            list_source(source, EUCLID)

    def test_faults_of_objects(self, tmp_path: Path) -> None:
        """Images that are stretched or resized, and a chunk that is gone."""
        images = cutana_images(range(7))
        images[0] = np.clip(images[0] / images[0].max(), 0, 1)
        scales = columns(range(7))
        scales["pixel_scale_arcsec_per_pixel"][1] = 0.17
        batch = write_cutana(tmp_path, 0, images, scales)
        next(path for path in sorted(batch.rglob("c/1/*/*/*")) if path.is_file()).unlink()
        image, faults, *_ = read(batch, [object_number(name) for name in SOURCES], EUCLID)
        assert np.isfinite(image).all(axis=(1, 2, 3)).tolist() == [False, False, True, False, False, False, True]
        assert "pixels go from 0 to 1, stretched for display. Let Cutana write normalisation_method 'none'" in faults[0]
        assert "its pixels are 0.17 arcsec" in faults[1]
        assert [faults[row].partition("(")[0] for row in (3, 4, 5)] == [
            f"unreadable_file: row {row} cannot be read " for row in (3, 4, 5)
        ]

    def test_a_folder_of_plain_tables_is_none(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"object_id": [1]}), tmp_path / "catalogue.parquet")
        assert tables_of([tmp_path]) == []
