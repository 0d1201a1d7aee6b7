"""The index: which file holds which object and band."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from swimmy_scale.ingest.pixels.listing import list_folder
from swimmy_scale.ingest.pixels.sources import build_index
from swimmy_scale.method.survey import HSC


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
        present = {tuple(cell): index.files["name"][index.file[tuple(cell)]] for cell in np.argwhere(index.file >= 0)}
        assert present == {(0, 0): b"100_g.fits", (5, 4): b"105_y.fits", (1, 2): b"101_i.fits"}
        assert index.files["size"].sum() == 30
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
            assert "2 files are spare: another file holds the same object and band" in index.warnings[0]

    def test_slices(self, tmp_path: Path) -> None:
        every = [f"{i}_{b}.fits" for i in range(100, 106) for b in "griy"]
        index = self.build(self.folder(tmp_path, *every, "7_g.fits"))
        for lo, hi in ((0, 6), (2, 3), (1, 5), (4, 4)):
            part = index.slice(lo, hi)
            assert part.first_row == lo
            assert len(part) == hi - lo
            assert (part.unmatched, part.warnings) == ((), ())
            assert len(part.files) == 4 * (hi - lo)
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
