"""Columns of a FITS table, read some rows at a time: a wide catalogue has far more bytes than its wanted columns."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astropy.io import fits

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.fits_scan import (
    BLOCK_BYTES,
    GZIP_MAGIC,
    MAX_HEADER_BYTES,
    Reader,
    UnusableFileError,
    open_reader,
    scan,
    verify_checksum,
)

WINDOW_BYTES = 16 << 20
"""Of the file that are in memory at once."""


@contextmanager
def checked_reader(path: Path) -> Iterator[Reader | None]:
    """The bytes of a FITS file whose checksums hold, unpacked where gzip packed it; None where astropy must read it.

    Raises
    ------
    SwimmyError
        When a checksum fails.
    """
    hdus = []
    try:
        with _reader_of(path) as (read, n_bytes):
            hdus = scan(read, n_bytes)
            for hdu in hdus:
                verify_checksum(read, hdu)
            yield read
            return
    except UnusableFileError as error:
        if hdus:
            raise SwimmyError(f"{path} is damaged: {error}. Fetch the file again.") from None
    yield None


@contextmanager
def _reader_of(path: Path) -> Iterator[tuple[Reader, int]]:
    """The bytes of a file, of a gzipped one those that it unpacks to, and how many they are.

    Of a gzipped one they are to be read from begin to end: whatever lies before is unpacked once more.
    """
    with open_reader(str(path)) as (read, status):
        if read(0, len(GZIP_MAGIC)) != GZIP_MAGIC:
            yield read, status.st_size
            return
    # Headers are looked at more than once.
    with gzip.open(path) as packed, io.BufferedReader(packed, 2 * MAX_HEADER_BYTES) as stream:

        def unpacked(offset: int, length: int) -> bytes:
            stream.seek(offset)
            return stream.read(length)

        yield unpacked, stream.seek(0, io.SEEK_END)


def windows(read: Reader, hdu: Any, window_bytes: int | None = None) -> Iterator[Any]:
    """A table in parts of successive rows, each an HDU of its own, without a heap."""
    start, row_bytes, n_rows = hdu.fileinfo()["datLoc"], hdu.header["NAXIS1"], hdu.header["NAXIS2"]
    padding = b" " if isinstance(hdu, fits.TableHDU) else b"\0"
    step = max((window_bytes or WINDOW_BYTES) // max(row_bytes, 1), 1)
    header = hdu.header.copy()
    for keyword in ("CHECKSUM", "DATASUM", "THEAP"):
        header.remove(keyword, ignore_missing=True)
    primary = fits.PrimaryHDU().header.tostring().encode("ascii")
    for lo in range(0, max(n_rows, 1), step):
        n = min(step, n_rows - lo)
        header["NAXIS2"], header["PCOUNT"] = n, 0
        rows = read(start + lo * row_bytes, n * row_bytes)
        padded = rows + padding * (-len(rows) % BLOCK_BYTES)
        with fits.open(io.BytesIO(primary + header.tostring().encode("ascii") + padded), logical_as_bytes=True) as part:
            yield part[1]


def in_rows(column: Any) -> bool:
    """Whether the rows of a table hold a column, and not its heap, where arrays of any length lie."""
    return not set(str(column.format)) & set("PQ")
