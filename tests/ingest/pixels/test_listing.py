"""Folders and tars: the files in them."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_files import write_tar

from swimmy_scale.ingest.pixels.listing import MAX_NAME_BYTES, list_folder, list_tar, make_listing, tar_form


class TestFolder:
    def test_files_of_all_folders(self, tmp_path: Path) -> None:
        for name in ("b.fits", "sub/a.fits", "sub/deeper/ü.fits"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"12345")
        listing = list_folder(str(tmp_path))
        assert listing.files["name"].tolist() == [b"b.fits", b"sub/a.fits", "sub/deeper/ü.fits".encode()]
        assert listing.files["size"].tolist() == [5, 5, 5]
        assert listing.files["mtime_ns"][0] == (tmp_path / "b.fits").stat().st_mtime_ns
        assert listing.notes == ()

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "2_g.fits")
        (tmp_path / "gone.fits").symlink_to(tmp_path / "nowhere")
        (tmp_path / "folder").symlink_to(tmp_path)
        listing = list_folder(str(tmp_path))
        assert len(listing.files) == 0
        assert "3 entries are links to folders, special files, or unreadable" in listing.notes[0]

    def test_empty(self, tmp_path: Path) -> None:
        assert list_folder(str(tmp_path)).files.shape == (0,)

    def test_endless_names(self) -> None:
        listing = make_listing("cutouts", "t", "tar", [(b"a" * 10**6, 0, 1, 2), (b"b", 0, 1, 2)], [])
        assert listing.files["name"].tolist() == [b"b"]
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
        found = {name.decode(): stream[offset : offset + size] for name, offset, size, _ in listing.files.tolist()}
        assert found == MEMBERS
        assert listing.files["name"].tolist() == sorted(listing.files["name"].tolist())

    def test_long_names(self, tmp_path: Path, packed: str) -> None:
        name = "d/" * 100 + "2-cutout-HSC-G-1-x.fits"
        listing = list_tar(str(self.write(tmp_path, packed, {name: b"x"})), packed)
        assert listing.files["name"].tolist() == [name.encode()]

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
        assert listing.files["name"].tolist() == [b"../../2_g.fits"]
        assert "2 members are links or other special files" in listing.notes[0]

    @pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
    def test_cut_off(self, tmp_path: Path, packed: str, keep: float) -> None:
        path = self.write(tmp_path, packed)
        raw = path.read_bytes()
        path.write_bytes(raw[: int(keep * len(raw.rstrip(b"\0")))])
        listing = list_tar(str(path), packed)
        assert len(listing.files) < len(MEMBERS) or keep == 0.999
        assert len(listing.files) > 0 or keep < 0.5
        complete = len(listing.files) == len(MEMBERS)
        assert complete or "damaged or cut off after" in listing.notes[0]

    def test_without_an_end_mark(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "tar")
        raw = path.read_bytes().rstrip(b"\0")
        path.write_bytes(raw + b"\0" * (-len(raw) % 512))
        listing = list_tar(str(path), "tar")
        assert len(listing.files) == len(MEMBERS)
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

    @pytest.mark.parametrize("size", [2**63 - 512, 2**63, 2**80, 2**87])
    def test_a_size_beyond_all_numbers(self, tmp_path: Path, packed: str, size: int) -> None:
        """In base 256 a header can state any size."""
        first, info = tarfile.TarInfo("2_g.fits"), tarfile.TarInfo("3_g.fits")
        first.size, info.size = 512, size
        raw = first.tobuf(tarfile.GNU_FORMAT) + b"x" * 512 + info.tobuf(tarfile.GNU_FORMAT) + b"y" * 5000
        path = tmp_path / f"a.{packed}"
        path.write_bytes(gzip.compress(raw) if packed == "tar.gz" else raw)
        listing = list_tar(str(path), packed)
        assert listing.files["name"].tolist() == [b"2_g.fits"]
        assert f"damaged or cut off after 1 member (member '3_g.fits' states {size} bytes" in listing.notes[0]

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
        assert (listing.files["offset"] >= 0).all()
        assert (listing.files["size"] >= 0).all()
