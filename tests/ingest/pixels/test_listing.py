"""File names, folders, tars and what they are joined to."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_files import write_tar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.file_names import assign_rows, band_of, compile_pattern, parse_names
from swimmy_scale.ingest.pixels.listing import MAX_NAME_BYTES, list_folder, list_tar, make_listing, tar_form
from swimmy_scale.ingest.pixels.sources import build_index
from swimmy_scale.ingest.sphere import CatalogueRows
from swimmy_scale.method.survey import HSC

ID = 36411461425187990


def names(*items: str) -> np.ndarray:
    return np.array([item.encode() for item in items])


class TestNames:
    @pytest.mark.parametrize(
        ("name", "band", "line", "object_id", "ra", "dec"),
        [
            ("2-cutout-HSC-I-8279-pdr2_wide.fits", "i", 2, -1, None, None),
            ("arch-230101-120000/840001-cutout-HSC-G-9813-s20a_wide.fits", "g", 840001, -1, None, None),
            ("7-cutout-HSC-R2-9813-pdr3_wide.fits", "r", 7, -1, None, None),
            ("7-cutout-HSC-I2-9813-pdr3_wide.fits.gz", "i", 7, -1, None, None),
            ("12_coadd_150.1163_2.205_9813_HSC-Y.fits", "y", 12, -1, 150.1163, 2.205),
            ("12_coadd-bg_150.1163_-2.205_9813_Z.fits", "z", 12, -1, 150.1163, -2.205),
            (f"{ID}_g.fits", "g", -1, ID, None, None),
            (f"deep/er/{ID}_HSC-G.fits.fz", "g", -1, ID, None, None),
            (f"{ID}-r.fit", "r", -1, ID, None, None),
            ("222.51551376,0.09749601_300x300_g.fits", "g", -1, -1, 222.51551376, 0.09749601),
            ("222.5_-0.09_i.fits", "i", -1, -1, 222.5, -0.09),
        ],
    )
    def test_known_forms(
        self, name: str, band: str, line: int, object_id: int, ra: float | None, dec: float | None
    ) -> None:
        claims = parse_names(names(name), HSC)
        assert HSC.bands[claims.band[0]] == band
        assert claims.line[0] == line
        assert claims.object_id[0] == object_id
        np.testing.assert_equal([claims.ra[0], claims.dec[0]], [ra or np.nan, dec or np.nan])

    @pytest.mark.parametrize(
        "name",
        [
            "222.51551376,0.09749601_g_psf.fits",
            "2-psf-calexp-pdr2_wide-HSC-I-8279-0,6-30.59134--6.28237.fits",
            "star_cat_correct.fits",
            "2-cutout-HSC-NB0921-8279-pdr2_wide.fits",
            f"{ID}_u.fits",
            f"{ID}_g.txt",
            f"{ID}_g.fits.part",
            "._2-cutout-HSC-I-8279-pdr2_wide.fits",
            "README",
        ],
    )
    def test_other_files_have_no_band(self, name: str) -> None:
        assert parse_names(names(name), HSC).band[0] == -1

    def test_many_names_are_read_like_each_alone(self) -> None:
        tails = ["cutout-HSC-G-1-x.fits", "cutout-HSC-U-1-x.fits", "coadd-HSC-R-2-x.fit.gz", "r.fits", "cutout-G.fits"]
        heads = ["2", "d/3", "0004", "9" * 18, "9" * 19, "٣", "-5", ""]
        both = names(*(f"{head}-{tail}" for tail in tails for head in heads))
        claims = parse_names(both, HSC)
        alone = [parse_names(both[at : at + 1], HSC) for at in range(len(both))]
        for field in ("band", "line", "object_id"):
            assert getattr(claims, field).tolist() == [getattr(one, field)[0] for one in alone]
        assert claims.line.tolist()[:4] == [2, 3, 4, int("9" * 18)]
        assert claims.band.tolist()[:4] == [0] * 4
        assert (claims.object_id[24:27] == [2, 3, 4]).all()

    def test_number_beyond_64_bits(self) -> None:
        assert parse_names(names("9999999999999999999_g.fits"), HSC).object_id[0] == -1

    @pytest.mark.parametrize(
        ("token", "band"), [("HSC-G", "g"), ("hsc-g", "g"), ("G", "g"), ("R2", "r"), ("HSC-I2", "i"), ("g", "g")]
    )
    def test_bands(self, token: str, band: str) -> None:
        assert HSC.bands[band_of(token, HSC)] == band

    @pytest.mark.parametrize("token", ["u", "NB0816", "", "HSC-", "gg", "3"])
    def test_no_bands(self, token: str) -> None:
        assert band_of(token, HSC) == -1

    def test_own_pattern(self) -> None:
        claims = parse_names(names("f/obj7/i.fits", "f/x.fits"), HSC, r"obj(?P<object_id>\d+)/(?P<band>\w)\.fits")
        assert claims.object_id.tolist() == [7, -1]
        assert claims.band.tolist() == [2, -1]

    @pytest.mark.parametrize(
        ("pattern", "reason"),
        [
            ("(", "is not a regular expression"),
            (r"(?P<object_id>\d+)", "needs band and one of line"),
            (r"(?P<band>\w)", "needs band and one of line"),
            (r"(?P<band>\w)(?P<ra>\d)", "needs band and one of line"),
        ],
    )
    def test_bad_patterns(self, pattern: str, reason: str) -> None:
        with pytest.raises(SwimmyError, match=reason):
            compile_pattern(pattern)


class TestRows:
    object_id = np.array([ID + i for i in range(5)])
    ra = np.array([10.0, 20.0, 30.0, 359.9999, 50.0])
    dec = np.array([0.0, -1.0, 2.0, 3.0, 89.9999])

    def rows(self, *items: str, **keys: np.ndarray) -> tuple[list[int], list[str]]:
        values = {"object_id": self.object_id, "ra": self.ra, "dec": self.dec, **keys}
        rows, _, notes = assign_rows("source", names(*items), CatalogueRows(*values.values()), HSC, None, 1.0)
        return rows.tolist(), notes

    def test_lines(self) -> None:
        lines = [f"{line}-cutout-HSC-G-1-x.fits" for line in (0, 1, 2, 6, 7)]
        assert self.rows(*lines) == ([-1, -1, 0, 4, -1], [])

    def test_object_ids(self) -> None:
        assert self.rows(f"{ID + 3}_g.fits", f"{ID + 9}_g.fits") == ([3, -1], [])

    def test_object_id_is_never_a_line(self) -> None:
        """Small object_ids look like line numbers."""
        small = np.array([5, 4, 3, 2, 1])
        assert self.rows("2_g.fits", "3_g.fits", object_id=small)[0] == [3, 2]

    def test_object_id_in_place_of_a_line(self) -> None:
        ids = np.array([100, 5, 300, 2, 500])
        rows, notes = self.rows("100-cutout-HSC-G-1-x.fits", "5-cutout-HSC-G-1-x.fits", object_id=ids)
        assert rows == [0, 1]
        assert "2 names have an object_id in place of the catalogue's line number" in notes[0]
        assert self.rows("3-cutout-HSC-G-1-x.fits", "5-cutout-HSC-G-1-x.fits", object_id=ids)[0] == [1, 3]

    def test_positions(self) -> None:
        found = self.rows(
            "20.0001,-1.0001_g.fits",  # 0.5 arcsec away
            "20.001,-1.0_g.fits",  # 3.6 arcsec away
            "0.00005,3.0000_g.fits",  # across RA 0
            "230.0,89.9999_g.fits",  # 0.72 arcsec away across the pole
        )
        assert found == ([1, -1, 3, 4], [])

    def test_line_with_another_position(self) -> None:
        rows, notes = self.rows("2_coadd_30.0_2.0_1_HSC-G.fits", "3_coadd_20.0_-1.0_1_HSC-G.fits")
        assert rows == [2, 1]
        assert "1 names give another position than their line" in notes[0]

    def test_line_of_a_row_without_position(self) -> None:
        ra = self.ra.copy()
        ra[0] = np.nan
        assert self.rows("2_coadd_30.5_2.0_1_HSC-G.fits", ra=ra) == ([0], [])

    def test_empty_catalogue(self) -> None:
        empty = np.empty(0)
        found = self.rows(f"{ID}_g.fits", "1.0,2.0_g.fits", object_id=np.empty(0, np.int64), ra=empty, dec=empty)
        assert found == ([-1, -1], [])

    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        radius=st.floats(0.1, 1e4),
        dec=st.sampled_from([-60.0, -30.0, 0.0, 60.0, 89.9]),
    )
    def test_match_against_astropy(self, seed: int, radius: float, dec: float) -> None:
        rng = np.random.default_rng(seed)
        spread = radius / 3600.0

        def positions(n: int, shift: float) -> SkyCoord:
            decs = dec + rng.normal(0, spread, n)
            # Reflected at the poles, where clipping would put several into one place.
            return SkyCoord(rng.uniform(-spread, shift + spread, n), 90 - np.abs(decs - 90), unit="deg")

        catalogue, wanted = positions(20, spread), positions(9, 0.0)
        _, separation, _ = wanted.match_to_catalog_sky(catalogue)
        rows = CatalogueRows(np.arange(20), catalogue.ra.deg, catalogue.dec.deg)
        found = rows.by_position(wanted.ra.deg, wanted.dec.deg, radius)
        np.testing.assert_array_equal(found >= 0, separation <= radius * u.arcsec)
        matched = found >= 0
        own = wanted[matched].separation(catalogue[found[matched]])
        np.testing.assert_allclose(own.arcsec, separation[matched].arcsec, rtol=1e-6, atol=1e-9)


class TestFolder:
    def test_files_of_all_folders(self, tmp_path: Path) -> None:
        for name in ("b.fits", "sub/a.fits", "sub/deeper/ü.fits"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"12345")
        listing = list_folder(str(tmp_path))
        assert listing.names.tolist() == [b"b.fits", b"sub/a.fits", "sub/deeper/ü.fits".encode()]
        assert listing.size.tolist() == [5, 5, 5]
        assert listing.mtime_ns[0] == (tmp_path / "b.fits").stat().st_mtime_ns
        assert listing.notes == ()

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "2_g.fits")
        (tmp_path / "gone.fits").symlink_to(tmp_path / "nowhere")
        (tmp_path / "folder").symlink_to(tmp_path)
        listing = list_folder(str(tmp_path))
        assert len(listing.names) == 0
        assert "3 entries are links to folders, special files, or unreadable" in listing.notes[0]

    def test_empty(self, tmp_path: Path) -> None:
        assert list_folder(str(tmp_path)).names.shape == (0,)

    def test_endless_names(self) -> None:
        listing = make_listing("cutouts", "t", "tar", [(b"a" * 10**6, 0, 1, 2), (b"b", 0, 1, 2)], [])
        assert listing.names.tolist() == [b"b"]
        assert f"1 files have names longer than {MAX_NAME_BYTES} bytes" in listing.notes[0]


MEMBERS = {f"arch-1/{i}-cutout-HSC-{b}-1-x.fits": os.urandom(700 * i) for i in (2, 3, 4) for b in "GRIZY"}


class TestTar:
    @pytest.fixture(params=["tar", "tar.gz"])
    def packed(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def write(self, tmp_path: Path, packed: str, members: dict[str, bytes] | None = None) -> Path:
        return write_tar(tmp_path / f"a.{packed}", members or MEMBERS, "w:gz" if packed == "tar.gz" else "w")

    def unpacked(self, path: Path) -> bytes:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    def test_offsets(self, tmp_path: Path, packed: str) -> None:
        path = self.write(tmp_path, packed)
        listing = list_tar(str(path), packed)
        assert tar_form(str(path)) == packed
        assert listing.notes == ()
        stream = self.unpacked(path)
        found = {
            name.decode(): stream[offset : offset + size]
            for name, offset, size in zip(listing.names.tolist(), listing.offset, listing.size, strict=True)
        }
        assert found == MEMBERS
        assert listing.names.tolist() == sorted(listing.names.tolist())

    def test_long_names(self, tmp_path: Path, packed: str) -> None:
        name = "d/" * 100 + "2-cutout-HSC-G-1-x.fits"
        listing = list_tar(str(self.write(tmp_path, packed, {name: b"x"})), packed)
        assert listing.names.tolist() == [name.encode()]

    def test_links_and_folders_are_no_files(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w") as tar:
            for name, kind in (("f", tarfile.DIRTYPE), ("../../l", tarfile.SYMTYPE), ("p", tarfile.FIFOTYPE)):
                info = tarfile.TarInfo(name)
                info.type = kind
                info.linkname = "/etc/passwd"
                tar.addfile(info)
            info = tarfile.TarInfo("../../2_g.fits")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
        listing = list_tar(str(path), "tar")
        assert listing.names.tolist() == [b"../../2_g.fits"]
        assert "2 members are links or other special files" in listing.notes[0]

    @pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
    def test_cut_off(self, tmp_path: Path, packed: str, keep: float) -> None:
        path = self.write(tmp_path, packed)
        raw = path.read_bytes()
        path.write_bytes(raw[: int(keep * len(raw.rstrip(b"\0")))])
        listing = list_tar(str(path), packed)
        assert len(listing.names) < len(MEMBERS) or keep == 0.999
        assert len(listing.names) > 0 or keep < 0.5
        complete = len(listing.names) == len(MEMBERS)
        assert complete or "damaged or cut off after" in listing.notes[0]

    def test_without_an_end_mark(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "tar")
        raw = path.read_bytes().rstrip(b"\0")
        path.write_bytes(raw + b"\0" * (-len(raw) % 512))
        listing = list_tar(str(path), "tar")
        assert len(listing.names) == len(MEMBERS)
        assert "no end mark" in listing.notes[0]

    def test_damaged_header_is_not_the_end(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "tar")
        raw = bytearray(path.read_bytes())
        raw[raw.find(b"arch-1/3-cutout-HSC-I") + 150] ^= 1
        path.write_bytes(raw)
        assert "damaged or cut off after 7 members (no end mark" in list_tar(str(path), "tar").notes[0]

    def test_header_that_lies_about_its_size(self, tmp_path: Path, packed: str) -> None:
        path = tmp_path / f"a.{packed}"
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33 - 1
        raw = info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 5000
        path.write_bytes(gzip.compress(raw) if packed == "tar.gz" else raw)
        assert "a header of 8589934" in list_tar(str(path), packed).notes[0]

    def test_a_member_too_large_for_a_gzipped_tar(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tar.gz"
        info = tarfile.TarInfo("2_g.fits")
        info.size = 2**40
        path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
        assert "states 1099511627776 bytes" in list_tar(str(path), "tar.gz").notes[0]

    @settings(max_examples=60, deadline=None)
    @given(
        changes=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=5),
        keep=st.integers(0, 30_000),
    )
    def test_damage_never_raises(
        self, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], keep: int
    ) -> None:
        path = self.write(tmp_path_factory.mktemp("tar"), "tar")
        raw = bytearray(path.read_bytes())[:keep]
        for where, value in changes:
            if where < len(raw):
                raw[where] = value
        path.write_bytes(raw)
        listing = list_tar(str(path), "tar")
        assert (listing.offset >= 0).all()
        assert (listing.size >= 0).all()


class TestIndex:
    object_id = np.arange(100, 106)
    ra = np.linspace(10, 11, 6)
    dec = np.zeros(6)

    def folder(self, tmp_path: Path, *file_names: str) -> str:
        for name in file_names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        return str(tmp_path)

    def build(self, *paths: str):
        return build_index([list_folder(path) for path in paths], self.object_id, self.ra, self.dec, HSC)

    def test_members_of_rows(self, tmp_path: Path) -> None:
        index = self.build(self.folder(tmp_path, "100_g.fits", "105_y.fits", "101_i.fits"))
        present = {tuple(cell): index.names[index.file[tuple(cell)]] for cell in np.argwhere(index.file >= 0)}
        assert present == {(0, 0): b"100_g.fits", (5, 4): b"105_y.fits", (1, 2): b"101_i.fits"}
        assert index.size.sum() == 30
        assert index.warnings == ()

    def test_unmatched_is_told(self, tmp_path: Path) -> None:
        index = self.build(self.folder(tmp_path, "100_g.fits", "999_g.fits", "100_g_psf.fits", "100_u.fits"))
        assert [Path(name).name for name in index.unmatched] == ["100_g_psf.fits", "100_u.fits", "999_g.fits"]
        assert "3 of 4 files belong to no object" in index.warnings[0]

    def test_first_of_two_in_sorted_order(self, tmp_path: Path) -> None:
        one = self.folder(tmp_path / "one", "100_g.fits", "b/100_HSC-G.fits")
        two = self.folder(tmp_path / "two", "100_g.fits")
        for paths in ((one, two), (two, one)):
            index = self.build(*paths)
            assert index.describe(index.file[0, 0]) == f"{one}/100_g.fits"
            assert "2 files are not used because another holds the same object and band" in index.warnings[0]

    def test_slices(self, tmp_path: Path) -> None:
        every = [f"{i}_{b}.fits" for i in range(100, 106) for b in "griy"]
        index = self.build(self.folder(tmp_path, *every, "7_g.fits"))
        for lo, hi in ((0, 6), (2, 3), (1, 5), (4, 4)):
            part = index.slice(lo, hi)
            assert part.first_row == lo
            assert len(part) == hi - lo
            assert (part.unmatched, part.warnings) == ((), ())
            assert len(part.names) == 4 * (hi - lo)
            for row, band in np.ndindex(part.file.shape):
                whole = index.file[lo + row, band]
                if whole < 0:
                    assert part.file[row, band] == whole
                else:
                    assert part.describe(part.file[row, band]) == index.describe(whole)
        assert index.slice(1, 5).slice(2, 4).fingerprint() == index.slice(2, 4).fingerprint()
        assert len(pickle.dumps(index.slice(2, 3))) < 3000
        with pytest.raises(ValueError, match="rows 4 to 7"):
            index.slice(4, 7)

    def test_fingerprint_follows_the_files(self, tmp_path: Path) -> None:
        path = self.folder(tmp_path, "100_g.fits", "101_g.fits")
        before = self.build(path)
        assert self.build(path).fingerprint() == before.fingerprint()
        os.utime(tmp_path / "101_g.fits", ns=(0, 1))
        after = self.build(path)
        assert after.fingerprint() != before.fingerprint()
        assert after.slice(0, 1).fingerprint() == before.slice(0, 1).fingerprint()
        assert after.slice(1, 2).fingerprint() != before.slice(1, 2).fingerprint()
        (tmp_path / "100_g.fits").rename(tmp_path / "100_r.fits")
        assert self.build(path).slice(0, 1).fingerprint() != before.slice(0, 1).fingerprint()
