"""Files of cutout services, from listing to pixels: every value is the one that was put in."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from public_fits import galaxy, legacy_cutout, panstarrs, tan_header, to_bytes

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.sources import build_index, list_source, read_rows
from swimmy_scale.method.survey import FloatArray, Survey

IDS = np.array([43158172147386000, 43158172147386001, 43158172147386002])
RAS, DECS = np.array([150.1, 150.2, 150.3]), np.array([2.0, 2.1, -2.2])
LEGACY = Survey(
    bands=("g", "r", "i", "z"),
    pixel_scale_arcsec=0.262,
    zero_point_mag=22.5,
    band_divisors=(1.0,) * 4,
    min_depth_mag=(np.nan,) * 4,
)
PS1 = Survey(pixel_scale_arcsec=0.25, zero_point_mag=30.0)


def read(
    folder: Path, files: dict[str, bytes], survey: Survey, **keys: object
) -> tuple[FloatArray, list[str], list[str]]:
    """Pixels of three objects; reasons of faults; what is said."""
    kind = str(keys.pop("kind", "auto"))
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    index = build_index([list_source(folder, survey, kind)], IDS, RAS, DECS, survey, **keys)  # type: ignore[arg-type]
    image, faults, notes, _ = read_rows(index, 0, IDS, RAS, DECS, survey)
    return image, [fault.reason for fault in faults], [*index.warnings, *notes]


class TestLegacyViewer:
    @pytest.mark.parametrize(
        ("order", "n_y", "n_x", "invvar"),
        [("griz", 64, 64, False), ("zrgi", 100, 90, False), ("izrg", 67, 66, True), ("grizY", 256, 256, False)],
    )
    def test_cubes_of_any_order_and_size(self, tmp_path: Path, order: str, n_y: int, n_x: int, invvar: bool) -> None:
        """Cut out around the object as astropy's Cutout2D does it."""
        cubes = [[galaxy(row, "grizY".index(band), n_y, n_x) for band in order] for row in range(3)]
        files = {
            f"cutout_{RAS[row]:.4f}_{DECS[row]:.4f}.fits": legacy_cutout(
                RAS[row], DECS[row], np.array(cubes[row]), order, invvar
            )
            for row in range(3)
        }
        image, faults, notes = read(tmp_path, files, LEGACY)
        y, x = ((n - 64) // 2 for n in (n_y, n_x))
        for row in range(3):
            wanted = [galaxy(row, band, n_y, n_x)[y : y + 64, x : x + 64] for band in range(4)]
            np.testing.assert_array_equal(image[row], wanted)
        assert faults == []
        assert len(notes) == 1
        assert "3 files state no zero point" in notes[0]
        assert "22.5 mag is assumed" in notes[0]

    def test_an_object_off_the_middle(self, tmp_path: Path) -> None:
        cube = np.array([galaxy(0, band, 100, 100) for band in range(4)])
        file = legacy_cutout(RAS[0], DECS[0], cube, "griz", CRPIX1=50.5 + 10, CRPIX2=50.5 - 6)
        image, _, _ = read(tmp_path, {f"{IDS[0]}.fits": file}, LEGACY)
        np.testing.assert_array_equal(image[0], cube[:, 12:76, 28:92])

    def test_one_band_a_file(self, tmp_path: Path) -> None:
        cubes = np.array([[galaxy(row, band, 64, 64) for band in range(4)] for row in range(3)])
        files = {
            f"{band}/cutout_{RAS[row]:.4f}_{DECS[row]:.4f}.fits": legacy_cutout(
                RAS[row], DECS[row], cubes[row, [number]], band
            )
            for row in range(3)
            for number, band in enumerate("griz")
        }
        image, faults, _ = read(tmp_path, files, LEGACY)
        assert faults == []
        np.testing.assert_array_equal(image, cubes)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda d: d[: len(d) // 2], "cut off"),
            (lambda d: d.replace(b"'griz    '", b"'grxz    '"), "has the bands g, r, z only"),
            (lambda d: d[:2880] + bytes(len(d) - 2880), "hold no data"),
        ],
    )  # fmt: skip
    def test_damage(self, tmp_path: Path, change: object, reason: str) -> None:
        """A broken file, one that lacks a band, and one outside of the footprint put their object into quarantine."""
        files = {
            f"{IDS[row]}.fits": legacy_cutout(
                RAS[row], DECS[row], np.array([galaxy(row, band, 64, 64) for band in range(4)]), "griz"
            )
            for row in range(3)
        }
        files[f"{IDS[1]}.fits"] = change(files[f"{IDS[1]}.fits"])  # type: ignore[operator]
        image, faults, _ = read(tmp_path, files, LEGACY)
        assert np.isfinite(image).all(axis=(1, 2, 3)).tolist() == [True, False, True]
        assert len(faults) == 1
        assert re.search(reason, faults[0])

    def test_another_pixel_scale_is_refused_at_once(self, tmp_path: Path) -> None:
        cube = np.array([galaxy(0, band, 64, 64) for band in range(4)])
        file = legacy_cutout(RAS[0], DECS[0], cube, "griz", CD1_1=-0.5 / 3600, CD2_2=0.5 / 3600)
        with pytest.raises(SwimmyError, match=r"its pixels are 0\.5 arcsec, survey\.pixel_scale_arcsec is 0\.262"):
            read(tmp_path, {f"{IDS[0]}.fits": file}, LEGACY)


SECONDS = {"g": 430.0, "r": 860.0, "i": 1000.0, "z": 560.0, "y": 720.0}
NAMES = r"_(?P<band>[grizy])_ra(?P<ra>[0-9.]+)_dec(?P<dec>[-+0-9.]+)_"


def panstarrs_files(**keys: object) -> dict[str, bytes]:
    """As panstamps names them."""
    return {
        f"stack_{band}_ra{RAS[row]:.6f}_dec{DECS[row]:.6f}_arcsec60_skycell1.fits": panstarrs(
            RAS[row],
            DECS[row],
            1000 * galaxy(row, number, 240, 240),
            SECONDS[band],
            **keys,  # type: ignore[arg-type]
        )
        for row in range(3)
        for number, band in enumerate("grizy")
    }


class TestPanStarrs:
    @pytest.mark.parametrize(
        ("keys", "tolerance"),
        [({}, 1e-6), ({"asinh": (12.5, 300.0)}, 2e-6), ({"asinh": (12.5, 300.0), "rice": True}, 2e-3)],
    )
    def test_each_file_has_its_zero_point(self, tmp_path: Path, keys: dict[str, object], tolerance: float) -> None:
        """Also of pixels that are asinh magnitudes, plain or compressed, which rounds them."""
        image, faults, notes = read(tmp_path, panstarrs_files(**keys), PS1, name_pattern=NAMES)
        assert (faults, notes) == ([], [])
        for row in range(3):
            for number, band in enumerate("grizy"):
                counts = 1000.0 * galaxy(row, number, 240, 240)[88:152, 88:152].astype(np.float64)
                zero_point = 25 + 2.5 * np.log10(SECONDS[band])
                wanted = counts * 10 ** (0.4 * (30.0 - zero_point))
                np.testing.assert_allclose(image[row, number], wanted, rtol=tolerance, atol=tolerance * wanted.max())

    def test_a_skycell_as_coadd(self, tmp_path: Path) -> None:
        """Whole skycells: the objects are cut out, and the asinh is undone."""
        cell = 500.0 * galaxy(0, 0, 300, 300)
        files = {
            f"rings.v3.skycell.1784.059.stk.{band}.unconv.fits": panstarrs(
                RAS[0], DECS[0], cell + k, SECONDS[band], (3.0, 100.0)
            )
            for k, band in enumerate("grizy")
        }
        image, _, _ = read(tmp_path, files, PS1, kind="coadd")
        for k, band in enumerate("grizy"):
            wanted = (cell + k)[118:182, 118:182] * 10 ** (0.4 * (5.0 - 2.5 * np.log10(SECONDS[band])))
            np.testing.assert_allclose(image[0, k], wanted, rtol=1e-5, atol=1e-5 * wanted.max())

    def test_half_of_the_scaling_is_refused(self, tmp_path: Path) -> None:
        files = {
            name: data.replace(b"BOFFSET ", b"OTHER   ") for name, data in panstarrs_files(asinh=(1.0, 9.0)).items()
        }
        with pytest.raises(SwimmyError, match="say that its pixels are asinh of counts, and not which"):
            read(tmp_path, files, PS1, name_pattern=NAMES)


def test_zero_points_that_differ_between_bands(tmp_path: Path) -> None:
    """KiDS at 0 and VIKING at 30, which some files state and others do not; DES states 30 in MAGZERO."""
    survey = replace(PS1, bands=("r", "i", "Z", "Y", "g"), selecting_bands=("r", "i", "g"), zero_point_mag=27.0,
                     file_zero_points_mag=(0.0, 0.0, 30.0, 30.0, 30.0))  # fmt: skip
    assumed = {"r": 0.0, "i": 0.0, "Z": 30.0, "Y": 30.0, "g": 30.0}
    stated = {"i": {"PHOTZP": 0.0, "PHOTSYS": "AB"}, "Z": {"MAGZERO": 30.0}}
    files = {}
    for row in range(3):
        for k, band in enumerate(survey.bands):
            counts = (galaxy(row, k, 64, 64) * 10 ** (0.4 * (assumed[band] - 27.0))).astype(np.float32)
            header = tan_header(RAS[row], DECS[row], 64, 64, 0.25, **stated.get(band, {}))
            files[f"{IDS[row]}_{band}.fits"] = to_bytes(fits.PrimaryHDU(counts, header))
    image, faults, notes = read(tmp_path, files, survey)
    assert faults == []
    for row in range(3):
        np.testing.assert_allclose(image[row], [galaxy(row, k, 64, 64) for k in range(5)], rtol=1e-6)
    assert len(notes) == 1
    assert "9 files state no zero point" in notes[0]
    assert "0.0 mag in r, i and 30.0 mag in Z, Y, g is assumed" in notes[0]
