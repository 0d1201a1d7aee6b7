"""Columns of a FITS table, read some rows at a time: a wide catalogue has far more bytes than its wanted columns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astropy.io import fits

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.fits_scan import (
    BLOCK_BYTES,
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
    """The bytes of a plain FITS file whose checksums hold; None where astropy must read it whole, as of a packed one.

    Raises
    ------
    SwimmyError
        When a checksum fails.
    """
    hdus = []
    try:
        with open_reader(str(path)) as (read, status):
            hdus = scan(read, status.st_size)
            for hdu in hdus:
                verify_checksum(read, hdu)
            yield read
            return
    except UnusableFileError as error:
        if hdus:
            raise SwimmyError(f"{path} is damaged: {error}. Fetch the file again.") from None
    yield None


def windows(read: Reader, hdu: Any, window_bytes: int | None = None) -> Iterator[Any]:
    """A binary table in parts of successive rows, each an HDU of its own, without a heap."""
    start, row_bytes, n_rows = hdu.fileinfo()["datLoc"], hdu.header["NAXIS1"], hdu.header["NAXIS2"]
    step = max((window_bytes or WINDOW_BYTES) // max(row_bytes, 1), 1)
    header = hdu.header.copy()
    for keyword in ("CHECKSUM", "DATASUM", "THEAP"):
        header.remove(keyword, ignore_missing=True)
    primary = fits.PrimaryHDU().header.tostring().encode("ascii")
    for lo in range(0, max(n_rows, 1), step):
        n = min(step, n_rows - lo)
        header["NAXIS2"], header["PCOUNT"] = n, 0
        rows = read(start + lo * row_bytes, n * row_bytes)
        padded = rows + b"\0" * (-len(rows) % BLOCK_BYTES)
        with fits.open(io.BytesIO(primary + header.tostring().encode("ascii") + padded), logical_as_bytes=True) as part:
            yield part[1]


def in_rows(hdu: Any, place: int) -> bool:
    """Whether rows of a binary table hold a column, and not its heap."""
    return isinstance(hdu, fits.BinTableHDU) and not set(str(hdu.columns[place].format)) & set("PQ")
