"""The entry point: sources of all kinds, rows with their faults, and what does not depend on how rows are sliced."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS
from coadd_files import write_coadd
from fits_files import DEC, FORMS, RA, archive_file, pixels, primary, to_bytes
from tar_files import write_tar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels import contents, sources
from swimmy_scale.ingest.pixels.sources import Index, build_index, list_source, read_rows
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.survey import HSC, FloatArray, Survey
from swimmy_scale.simulate import SimulationPlan, simulate

N = 4
IDS = np.arange(N) + 36411461425187990
RAS = np.full(N, RA)
DECS = np.full(N, DEC)
GRI = Survey(bands=("g", "r", "i"), band_divisors=(1.0, 1.0, 1.0), min_depth_mag=(25.8, 25.4, 25.2))


def pixels_of(row: int, band: int) -> FloatArray:
    return (pixels() + 10 * row + band).astype(np.float32)


def survey_files() -> dict[str, bytes]:
    """Archive files of the whole catalogue."""
    return {
        f"arch-1/{row + 2}-cutout-HSC-{band.upper()}-9813-pdr3.fits": archive_file(pixels_of(row, i))
        for row in range(N)
        for i, band in enumerate(HSC.bands)
    }


FILES = survey_files()


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write(tmp_path: Path, form: str, files: dict[str, bytes]) -> Path:
    if form == "folder":
        return write_folder(tmp_path / "folder", files)
    return write_tar(tmp_path / f"a.{form}", files, "w:gz" if form == "tar.gz" else "w")


def make_index(path: Path, survey: Survey = HSC) -> Index:
    return build_index([list_source(path, survey)], IDS, RAS, DECS, survey)


def read(index: Index, lo: int = 0, hi: int = N, survey: Survey = HSC):
    return read_rows(index.slice(lo, hi), lo, IDS[lo:hi], RAS[lo:hi], DECS[lo:hi], survey)


def _raise_once(monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException) -> None:
    """Let the third call of what reads a file fail."""
    module = contents if place == "_whole_file" else sources
    usual, calls = getattr(module, place), []

    def third(*given: object) -> object:
        calls.append(given)
        if len(calls) == 3:
            raise error
        return usual(*given)

    monkeypatch.setattr(module, place, third)


class TestRows:
    @pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
    def test_pixels(self, tmp_path: Path, form: str) -> None:
        index = make_index(write(tmp_path, form, FILES))
        assert index.warnings == ()
        for lo, hi in ((0, N), (1, 3), (3, 4)):
            image, faults, warnings, _ = read(pickle.loads(pickle.dumps(index)), lo, hi)  # noqa: S301
            assert (faults, warnings) == ([], [])
            assert image.dtype == np.float32
            for row, band in np.ndindex(image.shape[:2]):
                np.testing.assert_array_equal(image[row, band], pixels_of(lo + row, band))

    def test_digest_is_of_the_bytes_alone(self, tmp_path: Path) -> None:
        digests = {
            form: read(make_index(write(tmp_path, form, FILES)), 1, 3)[3] for form in ("folder", "tar", "tar.gz")
        }
        assert len(set(digests.values())) == 1
        changed = {**FILES, "arch-1/3-cutout-HSC-Y-9813-pdr3.fits": archive_file(pixels() + 7)}
        index = make_index(write(tmp_path / "other", "folder", changed))
        assert read(index, 1, 3)[3] != digests["tar"]
        assert read(index, 2, 3)[3] == read(make_index(tmp_path / "folder"), 2, 3)[3]

    def test_into_an_array(self, tmp_path: Path) -> None:
        index = make_index(write(tmp_path, "tar", FILES))
        out = np.full((N, 5, 64, 64), 7.0, np.float32)
        image, *_ = read_rows(index, 0, IDS, RAS, DECS, HSC, out)
        assert image is out
        np.testing.assert_array_equal(out, read(index)[0])

    def test_arguments_that_do_not_belong_together(self, tmp_path: Path) -> None:
        index = make_index(write(tmp_path, "tar", FILES))
        with pytest.raises(ValueError, match="row 1 and 4 objects for an index of 4 rows from 0"):
            read_rows(index, 1, IDS, RAS, DECS, HSC)
        with pytest.raises(ValueError, match="row 0 and 3 objects"):
            read_rows(index, 0, IDS[:3], RAS[:3], DECS[:3], HSC)
        with pytest.raises(ValueError, match="out is float64"):
            read_rows(index, 0, IDS, RAS, DECS, HSC, np.empty((N, 5, 64, 64)))

    def test_no_rows(self, tmp_path: Path) -> None:
        image, faults, _, _ = read(make_index(write(tmp_path, "tar", FILES)), 2, 2)
        assert image.shape == (0, 5, 64, 64)
        assert faults == []

    def test_gzipped_and_compressed_files(self, tmp_path: Path) -> None:
        files = {f"{IDS[0]}_{band}.fits.gz": gzip.compress(archive_file(pixels())) for band in "griz"}
        files[f"{IDS[0]}_y.fits.fz"] = to_bytes(primary(), FORMS["gzip"])
        image, faults, _, _ = read(make_index(write(tmp_path, "folder", files)), 0, 1)
        assert faults == []
        np.testing.assert_array_equal(image[0], [pixels()] * 5)

    def test_zero_point_warning_counts(self, tmp_path: Path) -> None:
        plain = {name: to_bytes(fits.PrimaryHDU(pixels())) for name in FILES}
        _, faults, warnings, _ = read(make_index(write(tmp_path, "tar", plain)), 1, 3)
        assert faults == []
        assert len(warnings) == 1
        assert warnings[0].startswith("10 files state no zero point (FLUXMAG0, MAGZERO, PHOTZP): 27.0 mag is assumed")


class TestFaults:
    def faults(self, tmp_path: Path, files: dict[str, bytes], form: str = "folder") -> list[Fault]:
        image, faults, _, _ = read(make_index(write(tmp_path, form, files)), 1, N)
        bad = {fault.row for fault in faults}
        for row in range(1, N):
            assert np.isnan(image[row - 1]).all() if row in bad else np.isfinite(image[row - 1]).all()
        return faults

    @pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
    def test_one_object_many_faults(self, tmp_path: Path, form: str) -> None:
        files = dict(FILES)
        name = "arch-1/4-cutout-HSC-{}-9813-pdr3.fits".format
        del files[name("Y")]
        files[name("G")] = b"garbage"
        files[name("R")] = archive_file(pixels(60, 64))
        files[name("I")] = to_bytes(primary())
        (fault,) = self.faults(tmp_path, files, form)
        assert (fault.row, fault.code) == (2, Code.MISSING_BAND)
        assert fault.reason == (
            "no file for band y; g: not a FITS file: it does not begin with SIMPLE; "
            "i: no 2-D image among 1 HDUs (HDU 0 PRIMARY ()); "
            "r: the image has 64 x 60 px (x, y), 64 x 64 are needed"
        )

    def test_source_names_the_member(self, tmp_path: Path) -> None:
        files = {**FILES, "arch-1/3-cutout-HSC-Z-9813-pdr3.fits": b""}
        (fault,) = self.faults(tmp_path, files, "tar")
        assert fault.source == f"{tmp_path}/a.tar:arch-1/3-cutout-HSC-Z-9813-pdr3.fits"
        assert (fault.row, fault.band, fault.code) == (1, "z", Code.UNREADABLE_FILE)
        assert fault.reason == "z: the file is empty"

    @pytest.mark.parametrize("change", ["gone", "folder", "pipe", "forbidden"])
    def test_changed_after_listing(self, tmp_path: Path, change: str) -> None:
        index = make_index(write(tmp_path, "folder", FILES))
        victim = tmp_path / "folder" / "arch-1" / "2-cutout-HSC-G-9813-pdr3.fits"
        victim.unlink()
        if change == "folder":
            victim.mkdir()
        elif change == "pipe":
            os.mkfifo(victim)
        elif change == "forbidden":
            victim.symlink_to(victim)
        _, faults, _, _ = read(index)
        assert [(fault.row, fault.code, fault.band) for fault in faults] == [(0, Code.UNREADABLE_FILE, "g")]

    @pytest.mark.parametrize("form", ["tar", "tar.gz"])
    @pytest.mark.parametrize("change", ["gone", "cut"])
    def test_tar_changed_after_listing(self, tmp_path: Path, form: str, change: str) -> None:
        path = write(tmp_path, form, FILES)
        index = make_index(path)
        raw = path.read_bytes()
        path.unlink()
        if change == "cut":
            path.write_bytes(raw[: len(raw) // 2])
        image, faults, _, _ = read(index)
        assert {fault.code for fault in faults} == {Code.UNREADABLE_FILE}
        assert len(faults) == N if change == "gone" else 0 < len(faults) < N
        assert np.isfinite(image).all(axis=(1, 2, 3)).sum() == N - len(faults)

    def test_tar_cut_off_before_listing(self, tmp_path: Path) -> None:
        path = write(tmp_path, "tar", FILES)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        index = make_index(path)
        assert "damaged or cut off after" in index.warnings[0]
        _, faults, _, _ = read(index)
        assert [fault.row for fault in faults] == [2, 3]
        assert "y: cut off" in faults[0].reason or "no file for band" in faults[0].reason

    def test_file_beyond_the_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contents, "MAX_FILE_BYTES", 1000)
        faults = self.faults(tmp_path, FILES)
        assert "are above the limit of 1000" in faults[0].reason

    @pytest.mark.parametrize("keyword", ["ZNAXIS1", "ZNAXIS2", "ZTILE1", "PCOUNT", "THEAP", "TFIELDS"])
    @pytest.mark.parametrize("value", ["1E308", "9" * 60, "1E19"])
    def test_sizes_beyond_all_numbers_cost_one_object(self, tmp_path: Path, keyword: str, value: str) -> None:
        image = fits.CompImageHDU(pixels(), compression_type="RICE_1", name="IMAGE")
        data = to_bytes(primary(), image)
        at = data.find(keyword.ljust(8).encode() + b"=")
        assert at > 0 or keyword == "THEAP"
        at = at if at > 0 else data.find(b"ZQUANTIZ")
        damaged = data[:at] + f"{keyword:8}= {value}".ljust(80).encode() + data[at + 80 :]
        files = {**FILES, "arch-1/3-cutout-HSC-Z-9813-pdr3.fits": damaged}
        (fault,) = self.faults(tmp_path, files, "tar")
        assert (fault.row, fault.band, fault.code) == (1, "z", Code.UNREADABLE_FILE)
        read(make_index(write(tmp_path, "folder", files)))

    @pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), RecursionError(), OverflowError("too\nlarge")])
    @pytest.mark.parametrize("place", ["read_cutout", "_whole_file"])
    def test_whatever_a_file_raises_costs_one_object(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
    ) -> None:
        index = make_index(write(tmp_path, "folder", FILES))
        _raise_once(monkeypatch, place, error)
        image, faults, _, _ = read(index)
        (fault,) = faults
        said = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
        assert fault.code == Code.UNREADABLE_FILE
        assert fault.reason == f"{fault.band}: reading it fails with {said}"
        assert np.isfinite(image).all(axis=(1, 2, 3)).sum() == N - 1

    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SwimmyError])
    @pytest.mark.parametrize("place", ["read_cutout", "_whole_file"])
    def test_what_is_not_the_file_s_fault_passes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], place: str
    ) -> None:
        index = make_index(write(tmp_path, "folder", FILES))
        _raise_once(monkeypatch, place, error("no memory"))
        with pytest.raises(error, match="no memory"):
            read(index)

    def test_memory_that_is_short_in_astropy_is_not_the_file_s_fault(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = to_bytes(primary(), fits.CompImageHDU(pixels(), compression_type="RICE_1", name="IMAGE"))
        index = make_index(write(tmp_path, "folder", {**FILES, "arch-1/3-cutout-HSC-Z-9813-pdr3.fits": data}))

        def no_memory(*given: object, **named: object) -> None:
            raise MemoryError("no memory")

        monkeypatch.setattr("swimmy_scale.ingest.pixels.fits_pixels.fits.open", no_memory)
        with pytest.raises(MemoryError, match="no memory"):
            read(index)

    def test_shapes_that_differ_by_a_pixel(self, tmp_path: Path) -> None:
        shapes = {"G": (64, 64), "R": (64, 65), "I": (65, 64), "Z": (65, 65), "Y": (66, 66)}
        files = {f"2-cutout-HSC-{b}-1-x.fits": archive_file(pixels(*shape)) for b, shape in shapes.items()}
        image, faults, _, _ = read(make_index(write(tmp_path, "folder", files)), 0, 1)
        assert faults == []
        np.testing.assert_array_equal(image[0, 3], pixels(65, 65)[:64, :64])
        np.testing.assert_array_equal(image[0, 4], pixels(66, 66)[1:65, 1:65])


class TestKinds:
    def test_told_apart(self, tmp_path: Path) -> None:
        folder = write(tmp_path, "folder", FILES)
        np.save(tmp_path / "cube.npy", np.zeros((N, 5, 64, 64), np.float32))
        single = tmp_path / f"{IDS[0]}_g.fits"
        single.write_bytes(archive_file(pixels()))
        patch = write_coadd(tmp_path / "patch-g.fits", pixels(100, 100))
        kinds = {
            folder: "cutouts",
            write(tmp_path, "tar", FILES): "cutouts",
            write(tmp_path, "tar.gz", FILES): "cutouts",
            tmp_path / "cube.npy": "cube",
            single: "cutouts",
            patch: "coadd",
        }
        assert {path: list_source(path, HSC).kind for path in kinds} == kinds

    def test_kind_that_is_given(self, tmp_path: Path) -> None:
        single = tmp_path / "222.5,0.1_g.fits"
        write_coadd(single, pixels(100, 100))
        assert list_source(single, HSC).kind == "cutouts"
        assert list_source(single, HSC, kind="coadd").kind == "coadd"
        assert list_source(single, HSC, kind="cutouts").kind == "cutouts"

    def test_gzipped_tar_by_another_name(self, tmp_path: Path) -> None:
        path = write(tmp_path, "tar.gz", FILES).rename(tmp_path / "download")
        listing = list_source(path, HSC)
        assert (listing.packed, len(listing.files)) == ("tar.gz", 5 * N)

    def test_damaged_single_cutout_keeps_its_name(self, tmp_path: Path) -> None:
        for band in HSC.bands:
            (tmp_path / f"{IDS[0]}_{band}.fits.gz").write_bytes(b"junk")
        listings = [list_source(tmp_path / f"{IDS[0]}_{band}.fits.gz", HSC) for band in HSC.bands]
        index = build_index(listings, IDS, RAS, DECS, HSC)
        assert read(index, 0, 1)[1][0].code is Code.UNREADABLE_FILE

    @pytest.mark.parametrize(
        ("name", "data", "kind", "reason"),
        [
            ("missing", None, "auto", "there is no such file or folder"),
            ("a.csv", b"1,2", "auto", "is no folder, tar, FITS file or cube"),
            ("a.tar.xz", b"1,2", "auto", "only plain and gzipped tars"),
            ("a.tar", b"", "coadd", "coadds are not read from a tar"),
            ("a.csv", b"1,2", "tarball", "kind 'tarball' is not one of"),
            ("patch.fits", b"junk", "auto", "does not begin with SIMPLE"),
        ],
    )
    def test_refused(self, tmp_path: Path, name: str, data: bytes | None, kind: str, reason: str) -> None:
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(SwimmyError, match=reason):
            list_source(tmp_path / name, HSC, kind=kind)

    def test_empty_tar(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(b"")
        listing = list_source(tmp_path / "a.tar", HSC)
        assert "damaged or cut off after 0 members" in listing.notes[0]
        faults = read(build_index([listing], IDS, RAS, DECS, HSC))[1]
        assert [fault.reason for fault in faults] == ["no file for bands g, r, i, z, y"] * N

    def test_mixed_and_none(self, tmp_path: Path) -> None:
        np.save(tmp_path / "cube.npy", np.zeros((N, 5, 64, 64), np.float32))
        listings = [list_source(tmp_path / "cube.npy", HSC), list_source(write(tmp_path, "tar", FILES), HSC)]
        with pytest.raises(SwimmyError, match="the sources hold cube and cutouts: give sources of one kind"):
            build_index(listings, IDS, RAS, DECS, HSC)
        with pytest.raises(SwimmyError, match="the sources hold nothing"):
            build_index([], IDS, RAS, DECS, HSC)


class TestRealData:
    def test_spiral_without_z_and_y(self, shared_data: Path) -> None:
        path = shared_data / "hsc_gri_G79635"
        ra, dec, ids = np.array([222.51551376]), np.array([0.09749601]), np.array([79635])
        index = build_index([list_source(path, HSC)], ids, ra, dec, HSC)
        assert "4 of 7 files belong to no object" in index.warnings[0]
        assert sum("psf" in name for name in index.unmatched) == 3
        image, faults, warnings, _ = read_rows(index, 0, ids, ra, dec, HSC)
        assert [(fault.code, fault.reason) for fault in faults] == [(Code.MISSING_BAND, "no file for bands z, y")]
        assert warnings == []
        assert np.isnan(image).all()

    def test_spiral_in_three_bands(self, shared_data: Path) -> None:
        path = shared_data / "hsc_gri_G79635"
        ra, dec, ids = np.array([222.51551376]), np.array([0.09749601]), np.array([79635])
        for shift in (0.0, 0.003):
            index = build_index([list_source(path, GRI)], ids, ra + shift, dec, GRI, match_radius_arcsec=20.0)
            image, faults, warnings, _ = read_rows(index, 0, ids, ra + shift, dec, GRI)
            assert (faults, warnings) == ([], [])
            for i, band in enumerate(GRI.bands):
                with fits.open(path / f"222.51551376,0.09749601_300x300_{band}.fits") as hdulist:
                    position = SkyCoord(ra[0] + shift, dec[0], unit="deg")
                    wcs = WCS(hdulist[1].header)
                    wanted = Cutout2D(hdulist[1].data, position, 64, wcs=wcs, mode="strict").data
                np.testing.assert_array_equal(image[0, i], wanted)

    def test_stars_too_small(self, shared_data: Path) -> None:
        path = shared_data / "hsc_das_format_stars"
        stars = Table.read(path / "star_cat_correct.csv", format="ascii.csv")
        ids, ra, dec = (np.asarray(stars[name]) for name in ("# object_id", "ira", "idec"))
        index = build_index([list_source(path, HSC)], ids, ra, dec, HSC)
        assert (index.file[:, 2] >= 0).all()
        assert len(index.unmatched) == 5
        _, faults, _, _ = read_rows(index, 0, ids, ra, dec, HSC)
        assert [(fault.row, fault.code) for fault in faults] == [(row, Code.MISSING_BAND) for row in range(10)]
        for fault in faults:
            assert re.fullmatch(
                r"no file for bands g, r, z, y; i: the image has 2[45] x 2[45] px \(x, y\), 64 x 64 are needed",
                fault.reason,
            )

    def test_stars_in_a_survey_of_their_size(self, shared_data: Path) -> None:
        """The WCS of each star agrees with the row of its line number."""
        survey = Survey(
            bands=("i",),
            selecting_bands=("i",),
            band_divisors=(1.0,),
            min_depth_mag=(25.0,),
            cutout_size_px=24,
        )
        path = shared_data / "hsc_das_format_stars"
        stars = Table.read(path / "star_cat_correct.csv", format="ascii.csv")
        ids, ra, dec = (np.asarray(stars[name]) for name in ("# object_id", "ira", "idec"))
        index = build_index([list_source(path, survey)], ids, ra, dec, survey)
        image, faults, _, _ = read_rows(index, 0, ids, ra, dec, survey)
        assert faults == []
        # A star is brightest where its cutout is centred.
        peaks = np.array([np.unravel_index(plane.argmax(), plane.shape) for plane in image[:, 0]])
        assert np.abs(peaks - 11.5).max() < 2
        _, faults, _, _ = read_rows(index, 0, ids, ra[::-1].copy(), dec[::-1].copy(), survey)
        assert {fault.code for fault in faults} == {Code.POSITION_OUTSIDE}
        assert len(faults) == 10


class TestSimulatedSurvey:
    @pytest.mark.slow
    def test_every_file_against_astropy(self, tmp_path: Path) -> None:
        """Tar, gzipped tar and folder; cutouts of the exact size and a pixel larger; planted faults."""
        plan = SimulationPlan(n_objects=45, seed=2, n_objects_per_tar=15, faulty_fraction=0.2, oversize_fraction=0.3)
        simulate(str(tmp_path / "survey"), plan)
        catalogue = Table.read(tmp_path / "survey" / "catalogue.fits")
        ids, ra, dec = (np.asarray(catalogue[name]) for name in ("object_id", "ra", "dec"))
        listings = [list_source(path, HSC) for path in sorted((tmp_path / "survey" / "cutouts").iterdir())]
        assert {listing.packed for listing in listings} == {"tar", "tar.gz", ""}
        index = build_index(listings, ids, ra, dec, HSC)
        image, faults, _, _ = read_rows(index, 0, ids, ra, dec, HSC)
        faulty = {fault.row for fault in faults}
        assert 0 < len(faulty) < 15
        for row in set(range(45)) - faulty:
            for band in range(5):
                np.testing.assert_array_equal(image[row, band], self.by_astropy(index, row, band, ra[row], dec[row]))

    def by_astropy(self, index: Index, row: int, band: int, ra: float, dec: float) -> FloatArray:
        file = index.file[row, band]
        source = index.source[file]
        name = index.files["name"][file].decode()
        if index.packed[source]:
            with tarfile.open(index.sources[source]) as tar:
                data = tar.extractfile(name).read()
        else:
            data = (Path(index.sources[source]) / name).read_bytes()
        with fits.open(io.BytesIO(data)) as hdulist:
            if hdulist[1].shape == (64, 64):
                return hdulist[1].data
            # In an image of 65 px the object may lie so that the best cutout lacks a pixel: then the nearest is right.
            x, y = WCS(hdulist[1].header).world_to_pixel(SkyCoord(ra, dec, unit="deg"))
            n_y, n_x = hdulist[1].shape
            first_x = min(range(n_x - 63), key=lambda first: abs(first + 31.5 - float(x)))
            first_y = min(range(n_y - 63), key=lambda first: abs(first + 31.5 - float(y)))
            return hdulist[1].data[first_y : first_y + 64, first_x : first_x + 64]
