"""FITS tables read some rows at a time: the values that astropy reads from the whole table, in bounded memory."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue import fits_rows
from swimmy_scale.ingest.catalogue.table_files import Part, TableFile, read_table

N = 23


class All:
    """Picks columns by their places, all by default."""

    def __init__(self, *places: int) -> None:
        self.places = places

    def __call__(self, names: Sequence[str]) -> dict[int, str]:
        return dict.fromkeys(self.places or range(len(names)), "any")

    def part(self, parts: Sequence[Part]) -> int:
        return 0

    def suffices(self, part: Part) -> bool:
        return True

    def whole_file(self, form: str) -> None:
        pass


def table() -> fits.BinTableHDU:
    rng = np.random.default_rng(2)
    whole = rng.integers(-99, 99, N)
    return fits.BinTableHDU.from_columns(
        [
            fits.Column("real", "D", array=np.where(whole > 50, np.nan, rng.normal(size=N))),
            fits.Column("single", "E", array=rng.normal(size=N).astype("f4")),
            fits.Column("id", "K", array=2**53 + 1 + np.arange(N)),
            fits.Column("nulls", "J", array=whole, null=-99),
            fits.Column("unsigned", "I", bzero=2**15, array=np.arange(N, dtype=np.uint16) + 40000),
            fits.Column("flag", "L", array=whole > 0),
            fits.Column("text", "7A", array=[f"name {k}" if k % 3 else "" for k in range(N)]),
        ]
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "table.fits"
    table().writeto(path, checksum=True)
    return path


def same(found: TableFile, expected: TableFile) -> None:
    assert found.arrays.keys() == expected.arrays.keys()
    for place, column in expected.arrays.items():
        assert found.arrays[place].dtype == column.dtype
        assert np.array_equal(np.ma.getmaskarray(found.arrays[place]), np.ma.getmaskarray(column))
        assert found.arrays[place].data.tobytes() == column.data.tobytes()


@pytest.mark.parametrize("window_bytes", [1, 100, 1 << 20])
def test_windows_give_what_the_whole_table_gives(
    path: Path, monkeypatch: pytest.MonkeyPatch, window_bytes: int
) -> None:
    packed = path.with_name("packed.fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(fits_rows, "WINDOW_BYTES", window_bytes)
    found = read_table(path, All())
    same(found, read_table(packed, All()))
    with fits.open(path) as hdus:
        data = hdus[1].data
        for place, name in enumerate(data.names):
            wanted = data[name]
            assert np.array_equal(found.arrays[place].data, wanted, equal_nan=wanted.dtype.kind == "f"), name


def test_rows_of_text_are_read_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "ascii.fits", np.linspace(-1e4, 1e4, N)
    columns = [
        fits.Column("real", "D25.17", array=real, ascii=True),
        fits.Column("id", "I10", array=np.arange(N) - 3, ascii=True),
        fits.Column("text", "A7", array=[f"name {k}" for k in range(N)], ascii=True),
    ]
    fits.TableHDU.from_columns(columns).writeto(path, checksum=True)
    monkeypatch.setattr(fits_rows, "WINDOW_BYTES", 100)
    arrays = read_table(path, All()).arrays
    assert np.array_equal(arrays[0], real)
    assert arrays[1].tolist() == list(range(-3, N - 3))
    # Blanks at the end of text have no meaning; those who use text strip it.
    assert np.strings.rstrip(arrays[2].data).tolist() == [f"name {k}" for k in range(N)]


@pytest.mark.parametrize("end", [slice(None, -9), slice(None, 500)], ids=["without its sum", "cut off"])
def test_a_packed_table_that_is_cut_off_is_refused(path: Path, end: slice) -> None:
    packed = path.with_name("packed.fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes())[end])
    with pytest.raises(SwimmyError, match=r"packed\.fits\.gz cannot be read as FITS: Compressed file ended"):
        read_table(packed, All())


def test_a_packed_table_whose_checksum_fails_is_damaged(path: Path) -> None:
    packed, data = path.with_name("packed.fits.gz"), bytearray(path.read_bytes())
    data[-2880] ^= 1
    packed.write_bytes(gzip.compress(data))
    with pytest.raises(SwimmyError, match=r"packed\.fits\.gz is damaged: the checksum of HDU 1 fails"):
        read_table(packed, All())


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "empty.fits"
    fits.BinTableHDU(table().data[:0]).writeto(path)
    assert {len(column) for column in read_table(path, All()).arrays.values()} == {0}


def test_a_checksum_that_fails_is_damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2880] ^= 1
    path.write_bytes(data)
    with pytest.raises(SwimmyError, match=r"is damaged: the checksum of HDU 1 fails.*Fetch the file again"):
        read_table(path, All())


def test_a_column_in_the_heap_is_refused_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "heap.fits"
    values = np.array([np.arange(k + 1.0) for k in range(3)], dtype=object)
    fits.BinTableHDU.from_columns([fits.Column("lists", "PD()", array=values)]).writeto(path)
    with pytest.raises(SwimmyError, match="column lists holds arrays"):
        read_table(path, All())


@pytest.mark.slow
@pytest.mark.parametrize("is_packed", [False, True])
def test_memory_does_not_grow_with_columns_that_nobody_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    path, window = tmp_path / "wide.fits", 1 << 18
    columns = [fits.Column(f"c{k}", "D", array=np.arange(16_000.0)) for k in range(60)]
    fits.BinTableHDU.from_columns(columns).writeto(path, checksum=True)
    monkeypatch.setattr(fits_rows, "WINDOW_BYTES", window)
    monkeypatch.setattr("swimmy_scale.ingest.pixels.fits_scan.SUMMED_BLOCKS", 64)
    monkeypatch.setattr(fits_rows, "MAX_HEADER_BYTES", window)
    wide_bytes, read_from = path.stat().st_size, path
    if is_packed:
        read_from = tmp_path / "wide.fits.gz"
        read_from.write_bytes(gzip.compress(path.read_bytes(), 1))
    tracemalloc.start()
    try:
        found = read_table(read_from, All(3, 50))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.arrays[50].tolist() == list(range(16_000))
    assert peak < 20 * window < wide_bytes
