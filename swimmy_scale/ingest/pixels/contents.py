"""The bytes of files that lie in folders and tars; each source is read from front to end."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.fits_scan import MAX_FILE_BYTES, Reader, UnusableFileError, open_reader, unreadable
from swimmy_scale.method.survey import AnyArray, IntArray

Load = Callable[[], bytes]
"""Reads all bytes of one file; raises UnusableFileError."""


def contents(path: str, packed: str, files: AnyArray, wanted: IntArray) -> Iterator[tuple[int, Load]]:
    """Each wanted file of one source with a function that reads it, in the order in which they lie there.

    Parameters
    ----------
    path, packed, files
        As in `listing.Listing`.
    wanted : ndarray of int64, shape (n,)
        Which of ``files``.
    """
    order = wanted[np.argsort(files["offset"][wanted], kind="stable")]
    with ExitStack() as stack:
        read_tar = _tar_reader(stack, path, packed) if packed else None
        for file in order.tolist():
            name, offset, size, _ = files[file].item()
            if read_tar is None:
                yield file, partial(_whole_file, str(Path(path, os.fsdecode(name))))
            else:
                yield file, partial(_read_whole, read_tar, offset, size)


def _whole_file(path: str) -> bytes:
    with open_reader(path) as (read, status):
        return _read_whole(read, 0, status.st_size)


def _read_whole(read: Reader, offset: int, size: int) -> bytes:
    """All bytes of a file that stands alone or in a tar."""
    if size > MAX_FILE_BYTES:
        raise unreadable(f"{size} bytes are above the limit of {MAX_FILE_BYTES}")
    data = read(offset, size)
    if len(data) < size:
        raise unreadable(f"cut off: {len(data)} of {size} bytes are there")
    return data


def _tar_reader(stack: ExitStack, path: str, packed: str) -> Reader:
    """Reader of the unpacked tar, open while ``stack`` is. Where it cannot be opened, each reading says so."""
    try:
        read, _ = stack.enter_context(open_reader(path))
    except UnusableFileError as error:
        reason = str(error)

        def fail(offset: int, length: int) -> bytes:
            raise unreadable(reason)

        return fail
    return _gzip_reader(stack.enter_context(gzip.GzipFile(path))) if packed == "tar.gz" else read


def _gzip_reader(stream: gzip.GzipFile) -> Reader:
    def read(offset: int, length: int) -> bytes:
        try:
            stream.seek(offset)
            return stream.read(length)
        except (OSError, EOFError, zlib.error) as error:
            pass_on(error, str(stream.name))
            raise unreadable(f"damaged gzip: {error}") from None

    return read
