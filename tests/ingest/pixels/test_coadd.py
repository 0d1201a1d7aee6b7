"""Cutouts from coadd images, against astropy."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS, FITSFixedWarning
from coadd_files import write_coadd
from fits_files import wcs_header

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels import coadd
from swimmy_scale.ingest.pixels.sources import Index, build_index, list_source, read_rows
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import HSC, Survey

ONE = Survey(bands=("g",), selecting_bands=("g",), magnitude_band="g", band_divisors=(1.0,), min_depth_mag=(25.0,))
SHAPE = (300, 260)


def image(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def sky_of(path: Path, x: np.ndarray, y: np.ndarray, hdu: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Positions of pixels, by astropy."""
    with fits.open(path) as hdulist, warnings.catch_warnings(action="ignore", category=FITSFixedWarning):
        sky = WCS(hdulist[hdu].header).pixel_to_world(x, y)
    return sky.ra.deg, sky.dec.deg


def cut(paths: list[Path], ra: np.ndarray, dec: np.ndarray, survey: Survey = ONE, lo: int = 0, hi: int | None = None):
    listings = [list_source(path, survey, kind="coadd") for path in paths]
    index = build_index(listings, np.arange(len(ra)), ra, dec, survey)
    hi = len(ra) if hi is None else hi
    return index, *read_rows(index.slice(lo, hi), lo, np.arange(lo, hi), ra[lo:hi], dec[lo:hi], survey)


class TestAgainstAstropy:
    @pytest.mark.parametrize("form", ["plain", "scaled", "RICE_1", "GZIP_2"])
    def test_pixels(self, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_coadd(tmp_path / "g.fits", image(), form)
        rng = np.random.default_rng(0)
        x, y = rng.uniform(33, 226, 40), rng.uniform(33, 266, 40)
        ra, dec = sky_of(path, x, y)
        index, found, faults, warnings_, digest = cut([path], ra, dec, lo=3, hi=31)
        assert (faults, warnings_, index.warnings) == ([], [], ())
        with fits.open(path) as hdulist:
            wcs = WCS(hdulist[1].header)
            for row in range(3, 31):
                position = SkyCoord(ra[row], dec[row], unit="deg")
                wanted = Cutout2D(hdulist[1].data, position, 64, wcs=wcs, mode="strict").data
                np.testing.assert_array_equal(found[row - 3, 0], wanted.astype(np.float32))
        # Boxes of one object each give the same.
        monkeypatch.setattr(coadd, "MAX_BOX_BYTES", 1)
        again = cut([path], ra, dec, lo=3, hi=31)
        np.testing.assert_array_equal(again[1], found)
        assert again[4] == digest

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["plain", "RICE_1"])
    def test_what_comes_in_parts_is_put_together(
        self, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Linux gives at most 2 GiB at once, and compressed coadds are larger."""
        path, usual = write_coadd(tmp_path / "g.fits", image(), form), os.pread
        ra, dec = sky_of(path, np.array([100.0]), np.array([120.0]))
        _, whole, _, _, _ = cut([path], ra, dec)
        monkeypatch.setattr(os, "pread", lambda file, n, offset: usual(file, min(n, 1000), offset))
        _, found, faults, _, _ = cut([path], ra, dec)
        assert faults == []
        assert np.isfinite(found).all()
        assert found.tobytes() == whole.tobytes()

    def test_real_bands(self, tmp_path: Path, shared_data: Path) -> None:
        scale = 0.3 / 3600
        paths = []
        for band in HSC.bands:
            with fits.open(
                shared_data / "kids_viking_quadrant" / f"{band}.fits.fz", disable_image_compression=True
            ) as file:
                # The real files have no WCS.
                cards = wcs_header(1300, 1300, CD1_1=-scale, CD2_2=scale, EXTTYPE=None)
                file[1].header.update(cards)
                file.writeto(tmp_path / f"{band}.fits.fz")
            paths.append(tmp_path / f"{band}.fits.fz")
        rng = np.random.default_rng(0)
        x, y = rng.uniform(0, 1300, 25).round(2), rng.uniform(0, 1300, 25).round(2)
        ra, dec = sky_of(paths[0], x, y)
        survey = Survey(zero_point_mag=0.0, pixel_scale_arcsec=0.3)
        _, found, faults, _, _ = cut(paths, ra, dec, survey)
        first_x, first_y = np.ceil(x - 32).astype(int), np.ceil(y - 32).astype(int)
        whole = (np.minimum(first_x, first_y) >= 0) & (np.maximum(first_x, first_y) <= 1300 - 64)
        assert 15 < whole.sum() < 25
        assert {fault.row for fault in faults} == set(np.flatnonzero(~whole).tolist())
        for band, path in enumerate(paths):
            with fits.open(path) as hdulist:
                # Zero in g, r, i (KiDS), 30 in z and y (VIKING).
                data = hdulist[1].data * np.float32(10 ** (-0.4 * hdulist[1].header["MAGZERO"]))
            for row in np.flatnonzero(whole):
                box = data[first_y[row] : first_y[row] + 64, first_x[row] : first_x[row] + 64]
                np.testing.assert_array_equal(found[row, band], box)

    def test_real_image_without_wcs_is_refused(self, shared_data: Path) -> None:
        with pytest.raises(SwimmyError, match=r"g\.fits\.fz: HDU 1 has no usable celestial WCS"):
            list_source(shared_data / "kids_viking_quadrant" / "g.fits.fz", HSC)

    @pytest.mark.parametrize(
        ("cards", "factor"),
        [
            ({"MAGZERO": 24.5}, 10.0),
            ({"MAGZERO": None, "FLUXMAG0": 10**10.8}, 1.0),
            ({"MAGZERO": None, "PHOTZP": 29.5}, 0.1),
        ],
    )
    def test_zero_points(self, tmp_path: Path, cards: dict[str, object], factor: float) -> None:
        path = write_coadd(tmp_path / "g.fits", image(), **cards)
        ra, dec = sky_of(path, np.array([131.5]), np.array([131.5]))
        _, found, _, _, _ = cut([path], ra, dec)
        np.testing.assert_allclose(found[0, 0], image()[100:164, 100:164] * factor, rtol=1e-6)

    def test_absent_zero_point_is_told(self, tmp_path: Path) -> None:
        path = write_coadd(tmp_path / "g.fits", image(), MAGZERO=None)
        index, *_ = cut([path], np.array([150.0]), np.array([2.0]))
        assert index.warnings == ("1 coadds state no zero point (FLUXMAG0, MAGZERO, PHOTZP): 27.0 mag is assumed",)


class TestEdges:
    @pytest.mark.parametrize(
        ("x", "y", "reason"),
        [
            (10.0, 150.0, "extends 22 px beyond the edge"),
            (130.0, 290.0, "extends 22 px beyond the edge"),
            (31.0, 150.0, "extends 1 px beyond the edge"),
            (-20.0, 150.0, "is in no coadd of this band"),
        ],
    )
    def test_objects_near_the_edge(self, tmp_path: Path, x: float, y: float, reason: str) -> None:
        path = write_coadd(tmp_path / "g.fits", image())
        ra, dec = sky_of(path, np.array([x, 130.2]), np.array([y, 150.0]))
        _, found, faults, _, _ = cut([path], ra, dec)
        assert [(fault.row, fault.code, fault.band) for fault in faults] == [(0, Code.POSITION_OUTSIDE, "g")]
        assert reason in faults[0].reason
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()

    def test_the_patch_that_holds_it_whole(self, tmp_path: Path) -> None:
        """Patches overlap: an object at the edge of one lies well within the next."""
        left = write_coadd(tmp_path / "a-g.fits", image())
        right = write_coadd(tmp_path / "b-g.fits", image() + 10, CRPIX1=130.5 - 200)
        ra, dec = sky_of(left, np.array([245.0, 60.0, 215.0]), np.array([150.0, 150.0, 150.0]))
        _, found, faults, _, _ = cut([right, left], ra, dec)
        assert faults == []
        # Where both hold it, at 215 and 60, the first in order of path: the left one.
        assert [abs(found[row].mean() - 10) < 1 for row in range(3)] == [True, False, False]

    def test_positions_that_are_missing(self, tmp_path: Path) -> None:
        path = write_coadd(tmp_path / "g.fits", image())
        _, found, faults, _, _ = cut([path], np.array([np.nan, 150.0]), np.array([2.0, 2.0]))
        assert [(fault.row, fault.code) for fault in faults] == [(0, Code.POSITION_MISSING)]
        assert np.isfinite(found[1]).all()

    def test_band_without_a_coadd(self, tmp_path: Path) -> None:
        paths = [write_coadd(tmp_path / f"{band}.fits", image()) for band in "gri"]
        _, _, faults, _, _ = cut(paths, np.array([150.0]), np.array([2.0]), HSC)
        assert [(fault.code, fault.reason) for fault in faults] == [(Code.MISSING_BAND, "no coadd for bands z, y")]

    def test_bands_in_slices(self, tmp_path: Path) -> None:
        """Slices tell an object outside of all coadds from a band without coadds."""
        paths = [write_coadd(tmp_path / f"{band}.fits", image()) for band in "gri"]
        _, _, faults, _, _ = cut(paths, np.array([150.0, 10.0]), np.array([2.0, 2.0]), HSC, 1, 2)
        assert [(fault.row, fault.code) for fault in faults] == [(1, Code.POSITION_OUTSIDE)]
        assert "no coadd for bands z, y" in faults[0].reason

    def test_not_finite(self, tmp_path: Path) -> None:
        data = image()
        data[150, 130] = np.nan
        path = write_coadd(tmp_path / "g.fits", data)
        ra, dec = sky_of(path, np.array([131.5, 40.0]), np.array([131.5, 40.0]))
        _, found, faults, _, _ = cut([path], ra, dec)
        assert np.isfinite(found).all(axis=(1, 2, 3)).tolist() == [False, True]
        assert [(fault.row, fault.code) for fault in faults] == [(0, Code.NOT_FINITE_PIXELS)]
        assert "1 of 4096 pixels are NaN or infinite, the first at (30, 50)" in faults[0].reason


class TestHeaders:
    @pytest.mark.parametrize(
        "cards",
        [
            {"PC001001": -1.0, "PC001002": 0.0, "PC002001": 0.0, "PC002002": 1.0},
            {"CROTA2": 180.0},
            {"PC1_1": 0.8, "PC1_2": 0.6, "PC2_1": -0.6, "PC2_2": 0.8},
        ],
        ids=["as Pan-STARRS", "CROTA", "PC"],
    )
    def test_objects_are_in_the_middle(self, tmp_path: Path, cards: dict[str, object]) -> None:
        """A reader that leaves out such cards takes mirrored or turned places, where there is only noise."""
        data = image()
        x, y = np.array([60.0, 200.0, 100.0]), np.array([50.0, 90.0, 240.0])
        data[y.astype(int), x.astype(int)] = 1000.0
        no_cd = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
        scale = 0.168 / 3600
        path = write_coadd(tmp_path / "g.fits", data, CDELT1=scale, CDELT2=scale, **no_cd, **cards)
        _, found, faults, _, _ = cut([path], *sky_of(path, x, y))
        assert faults == []
        assert (found[:, 0, 31:33, 31:33].max(axis=(1, 2)) == 1000.0).all()

    def test_flux_densities(self, tmp_path: Path) -> None:
        path = write_coadd(tmp_path / "g.fits", image(), MAGZERO=None, BUNIT="nJy")
        index, found, _, _, _ = cut([path], *sky_of(path, np.array([131.5]), np.array([131.5])))
        assert index.warnings == ()
        np.testing.assert_allclose(found[0, 0], image()[100:164, 100:164] * 10 ** (-0.4 * 4.4), rtol=1e-5)


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "card", "band"),
        [
            ("g.fits", None, "g"),
            ("calexp-HSC-I2-9813-4,4.fits", None, "i"),
            ("patch.fits", "HSC-Y", "y"),
            ("g.fits", "r", "r"),
            ("g.fits", "OCAM_g_SDSS", "g"),
        ],
    )
    def test_band(self, tmp_path: Path, name: str, card: str | None, band: str) -> None:
        path = write_coadd(tmp_path / name, image(), FILTER=card)
        assert HSC.bands[list_source(path, HSC).coadds[0].band] == band

    @pytest.mark.parametrize("name", ["patch.fits", "g-r.fits"])
    def test_unknown_band(self, tmp_path: Path, name: str) -> None:
        path = write_coadd(tmp_path / name, image())
        with pytest.raises(SwimmyError, match="neither its FILTER card"):
            list_source(path, HSC)
        assert list_source(path, HSC, band="z").coadds[0].band == 3
        with pytest.raises(SwimmyError, match="band 'u' is not one of"):
            list_source(path, HSC, band="u")

    def test_folder(self, tmp_path: Path) -> None:
        for band in "gr":
            write_coadd(tmp_path / f"{band}.fits", image())
        (tmp_path / "notes.txt").write_text("not an image")
        listing = list_source(tmp_path, HSC, kind="coadd")
        assert [image.band for image in listing.coadds] == [0, 1]
        (tmp_path / "empty").mkdir()
        with pytest.raises(SwimmyError, match="holds no FITS file"):
            list_source(tmp_path / "empty", HSC, kind="coadd")

    def test_a_cube_in_fits(self, tmp_path: Path) -> None:
        fits.PrimaryHDU(np.zeros((3, 5, 64, 64), np.float32)).writeto(tmp_path / "cube.fits")
        with pytest.raises(SwimmyError, match="Write a cube of cutouts, with its object_id, to HDF5 or Zarr"):
            list_source(tmp_path / "cube.fits", HSC)

    def test_damage_is_refused(self, tmp_path: Path) -> None:
        path = write_coadd(tmp_path / "g.fits", image())
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(SwimmyError, match=r"g\.fits: cut off: HDU 1"):
            list_source(path, HSC)

    def test_checksum(self, tmp_path: Path) -> None:
        path = tmp_path / "g.fits"
        fits.PrimaryHDU(image(), wcs_header(SHAPE[1], SHAPE[0])).writeto(path, checksum=True)
        list_source(path, HSC)
        raw = bytearray(path.read_bytes())
        raw[200_000] ^= 1
        path.write_bytes(raw)
        with pytest.raises(SwimmyError, match="checksum of HDU 0 fails"):
            list_source(path, HSC)

    @pytest.mark.parametrize("damage", ["gone", "cut", "other"])
    @pytest.mark.parametrize("form", ["plain", "RICE_1"])
    def test_damage_between_listing_and_reading(self, tmp_path: Path, damage: str, form: str) -> None:
        path = write_coadd(tmp_path / "g.fits", image(), form)
        ra, dec = sky_of(path, np.array([131.5, 100.0]), np.array([131.5, 100.0]))
        index: Index = build_index([list_source(path, ONE)], np.arange(2), ra, dec, ONE)
        raw = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(raw[: len(raw) // 2])
        elif damage == "other":
            write_coadd(path, image((80, 80)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found, faults, _, _ = read_rows(index, 0, np.arange(2), ra, dec, ONE)
        assert [fault.code for fault in faults] == [Code.UNREADABLE_FILE] * 2
        assert np.isnan(found).all()

    def test_all_sky_image(self, tmp_path: Path) -> None:
        """With corners off the sky, no position is ruled out."""
        cards = {"CTYPE1": "RA---AIT", "CTYPE2": "DEC--AIT", "CD1_1": -1.5, "CD2_2": 1.5, "CRVAL2": 0.0}
        path = write_coadd(tmp_path / "g.fits", image(), **cards)
        one = replace(ONE, pixel_scale_arcsec=5400.0)
        all_sky = list_source(path, one).coadds[0]
        assert all_sky.sky.footprint(all_sky.shape)[2] == 180.0
        _, found, faults, _, _ = cut([path], np.array([150.0]), np.array([0.0]), one)
        assert faults == []
        np.testing.assert_array_equal(found[0, 0], image()[118:182, 98:162])
