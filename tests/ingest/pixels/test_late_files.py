"""Rows of an index that have late files, and the index of them, against an index that was built of them alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from swimmy_scale.ingest.pixels.late_files import index_of_rows, rows_with_files_of
from swimmy_scale.ingest.pixels.listing import list_folder
from swimmy_scale.ingest.pixels.sources import Index, build_index
from swimmy_scale.method.survey import HSC

IDS = np.arange(100, 106)


def folder(path: Path, *names: str) -> str:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"x")
        os.utime(path / name, ns=(0, 0))
    return str(path)


def build(object_id: np.ndarray, *paths: str) -> Index:
    nowhere = np.full(len(object_id), np.nan)
    return build_index([list_folder(path) for path in paths], object_id, nowhere, nowhere, HSC)


@pytest.fixture
def sources(tmp_path: Path) -> tuple[str, str]:
    early = folder(tmp_path / "early", *(f"{i}_{b}.fits" for i in (100, 102, 103, 105) for b in "griz"))
    # A new object, a band that was missing, and one that was there: its file is spare.
    late = folder(tmp_path / "late", "101_g.fits", "102_y.fits", "105_r.fits")
    return early, late


def test_which_rows_have_late_files(sources: tuple[str, str]) -> None:
    early, late = sources
    index = build(IDS, early, late)
    assert rows_with_files_of(index, {late}).tolist() == [False, True, True, False, False, True]
    assert rows_with_files_of(index, {early}).tolist() == [True, False, True, True, False, True]
    assert not rows_with_files_of(index, {"elsewhere"}).any()


@pytest.mark.parametrize("rows", [[1, 2, 5], [0], [5], [], [0, 1, 2, 3, 4, 5]])
def test_the_index_of_rows_is_that_of_a_catalogue_of_them(sources: tuple[str, str], rows: list[int]) -> None:
    index, chosen = build(IDS, *sources), np.array(rows, np.int64)
    found = index_of_rows(index, chosen)
    assert len(found) == len(rows)
    for k, row in enumerate(rows):
        alone, whole = found.slice(k, k + 1), index.slice(row, row + 1)
        describe = [[part.describe(file) if file >= 0 else "" for file in part.file[0]] for part in (alone, whole)]
        assert describe[0] == describe[1]
        for band in range(HSC.n_bands):
            spares = [[part.describe(file) for file in part.spares(band)] for part in (alone, whole)]
            assert spares[0] == spares[1]
    if rows == [1, 2, 5]:
        assert found.fingerprint() == build(IDS[chosen], *sources).slice(0, 3).fingerprint()
