"""What a few headers say before all files are read: their places, and whether they fit the survey."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archive_files import DECS, RAS, Ingested, cutout, name_of, upload, write
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from coadd_files import write_coadd
from fits_files import pixels, wcs_header
from tar_files import write_tar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.image_places import locate_images
from swimmy_scale.ingest.pixels.sources import list_source
from swimmy_scale.method.survey import HSC

WRONG = {"CD1_1": -0.396 / 3600, "CD2_2": 0.396 / 3600}


class TestPlaces:
    @pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
    def test_against_astropy(self, tmp_path: Path, form: str) -> None:
        files = {
            name_of("a", line, "g"): cutout(line - 2, 0, n=66, CRPIX1=-700.0, CRVAL2=DECS[0] + 0.1, **cards)
            for line, cards in (
                (2, {}),
                (3, {"RADESYS": "FK5", "EQUINOX": 2000.0}),
                (4, {"CTYPE1": None, "CTYPE2": None}),
            )
        } | {name_of("a", 5, "g"): b"broken"}
        source = (
            write(tmp_path / "a", files)
            if form == "folder"
            else write_tar(tmp_path / f"a.{form}", files, "w:gz" if form == "tar.gz" else "w")
        )
        listing = list_source(source, HSC)
        # In any order, and one twice.
        found = locate_images(listing, np.array([3, 1, 0, 2, 0]))
        assert np.isnan(found.ra).tolist() == [True, False, False, True, False]
        for place, row in ((1, 1), (2, 0), (4, 0)):
            header = wcs_header(66, 66, CRVAL1=RAS[row], CRVAL2=DECS[0] + 0.1, CRPIX1=-700.0, CRPIX2=33.5)
            wanted = WCS(header).pixel_to_world(32.5, 32.5)
            here = SkyCoord(found.ra[place], found.dec[place], unit="deg")
            assert wanted.separation(here).arcsec < 0.1  # FK5 and ICRS differ by 0.02 arcsec
            np.testing.assert_allclose(found.reach_arcsec[place], 33 * np.sqrt(2) * 0.168, rtol=1e-3)


class TestPixelScale:
    @pytest.mark.parametrize("n_wrong", [1, 10])
    def test_cutouts(self, tmp_path: Path, n_wrong: int) -> None:
        """A whole source is refused; a single file is a fault of its object."""
        files = upload("arch-1", [0, 1])
        for number, name in enumerate(sorted(files)):
            if number >= 10 - n_wrong:
                files[name] = cutout(number // 5, "girzy".index(name.split("HSC-")[1][0].lower()), **WRONG)
        folder = write(tmp_path, files)
        reason = r"its pixels are 0\.396 arcsec, survey\.pixel_scale_arcsec is 0\.168 and pixel_scale_tolerance 0\.02"
        if n_wrong == 10:
            with pytest.raises(SwimmyError, match=f"{reason}. Correct the survey section"):
                Ingested(folder, n=2)
            return
        found = Ingested(folder, n=2)
        assert found.rows() == [0]
        assert found.faults[1].code.label == "wrong_pixel_scale"

    @pytest.mark.parametrize(
        ("scale", "tolerance", "is_refused"),
        [(0.168, 0.0, False), (0.1712, 0.02, False), (0.1716, 0.02, True), (0.1644, 0.02, True), (0.2, 0.2, False)],
    )
    def test_tolerance(self, tmp_path: Path, scale: float, tolerance: float, is_refused: bool) -> None:
        cards = {"CD1_1": -scale / 3600, "CD2_2": scale / 3600}
        path = write_coadd(tmp_path / "g.fits", pixels(100, 100), **cards)
        survey = replace(HSC, pixel_scale_tolerance=tolerance + 1e-9)
        if not is_refused:
            assert list_source(path, survey).kind == "coadd"
            return
        with pytest.raises(SwimmyError, match=rf"coadd .* its pixels are {scale} arcsec"):
            list_source(path, survey)

    @pytest.mark.parametrize("cards", [{"CD1_1": -0.168 / 3600, "CD2_2": 0.2 / 3600}, {**WRONG, "RADESYS": "FK5"}])
    def test_oblong_pixels_and_other_frames(self, tmp_path: Path, cards: dict[str, object]) -> None:
        path = write_coadd(tmp_path / "g.fits", pixels(100, 100), **cards)
        with pytest.raises(SwimmyError, match=r"its pixels are (0\.168 x 0\.2|0\.396) arcsec"):
            list_source(path, HSC)


def test_units_that_no_file_can_be_converted_from(tmp_path: Path) -> None:
    with pytest.raises(
        SwimmyError, match=r"its pixels are in mag.*Correct the survey section of the job, or the files"
    ):
        Ingested(write(tmp_path, upload("arch-1", [0, 1], BUNIT="mag")), n=2)


class TestNamesThatFitNothing:
    @pytest.mark.parametrize(
        ("name", "pattern", "remedy"),
        [
            ("images/one.fits", None, "has a name of a known form, such as .*one.fits. Say with ingest.name_pattern"),
            (name_of("a", 2, "g"), r"id(?P<object_id>\d+)_(?P<band>g)", r"has a name that fits 'id.*Say with"),
            (
                name_of("a", 2, "u"),
                None,
                "is in a band of the survey, such as .*Name the bands of the files in survey.bands",
            ),
            ("77_g.fits", None, "belongs to an object of the catalogue, such as .*77_g.fits"),
        ],
    )
    def test_refused(self, tmp_path: Path, name: str, pattern: str | None, remedy: str) -> None:
        folder = write(tmp_path, {name: cutout(0, 0)})
        with pytest.raises(SwimmyError, match=f"none of 1 files {remedy}"):
            Ingested(folder, n=2, name_pattern=pattern)

    @pytest.mark.parametrize(
        ("name", "head", "remedy"),
        [
            ("a.zip", b"PK\x03\x04", "Unpack this zip"),
            ("a.npz", b"PK\x03\x04", r"Write the array in this \.npz to HDF5"),
        ],
    )
    def test_zips(self, tmp_path: Path, name: str, head: bytes, remedy: str) -> None:
        (tmp_path / name).write_bytes(head + bytes(100))
        with pytest.raises(SwimmyError, match=remedy):
            list_source(tmp_path / name, HSC)
