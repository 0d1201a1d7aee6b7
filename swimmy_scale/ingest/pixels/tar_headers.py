"""The members of a tar by its headers: compared, many at once, where headers are alike; by `tarfile` where not."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

MAX_TAR_HEADER_BYTES = 2**20
BLOCK_BYTES = tarfile.BLOCKSIZE
_END = bytes(BLOCK_BYTES)
_PREFIX_AT = 345
# Where a header's time and checksum stand; both may differ between headers that are alike.
_MTIME, _CHECKSUM = slice(136, 148), slice(148, 156)
FEWEST_ALIKE, MOST_ALIKE = 16, 4096


class Member(NamedTuple):
    """One member of a tar.

    Attributes
    ----------
    name : bytes
    kind : str
        ``file``, ``folder`` or ``other``: a link, a device, a file with holes.
    offset, size : int
        Of the data in the (unpacked) tar, in bytes.
    """

    name: bytes
    kind: str
    offset: int
    size: int


class _HeaderReader:
    """A tar's stream for `tarfile`, which reads headers only and would believe any size that they state."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last_read = b""

    def read(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= MAX_TAR_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {n_bytes} bytes")
        self.last_read = self._stream.read(n_bytes)
        return self.last_read

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def tar_members(stream: IO[bytes]) -> Iterator[Member]:
    """Members of a tar in their order.

    Parameters
    ----------
    stream : file
        The (unpacked) tar, at its start.

    Raises
    ------
    tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError
        Where the tar is cut off or damaged, after all members before the damage.
    """
    offset, alike = 0, b""
    n_ahead, n_alone = FEWEST_ALIKE, 0
    while True:
        # With the last byte before it, which is missing where the tar ends within a member.
        stream.seek(max(offset - 1, 0))
        head = stream.read(BLOCK_BYTES + 1 if offset else BLOCK_BYTES)
        if offset and not head:
            raise tarfile.ReadError("unexpected end of data")
        head = head[1:] if offset else head
        if head == _END:
            return
        size = _size_of_alike(head, alike)
        if size >= 0:
            yield Member(_text(head[:100]), "file", offset + BLOCK_BYTES, size)
            step = BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES
            offset += step
            n_alone -= 1
            # A packed tar that was looked ahead in would be unpacked again from its start.
            if n_alone < 0 and not isinstance(stream, gzip.GzipFile):
                names = _names_of_alike(stream, offset, step, head, n_ahead)
                for name in names:
                    yield Member(name, "file", offset + BLOCK_BYTES, size)
                    offset += step
                n_ahead = min(2 * n_ahead, MOST_ALIKE) if len(names) == n_ahead else FEWEST_ALIKE
                n_alone = 0 if names else FEWEST_ALIKE
            continue
        stream.seek(offset)
        for member, header, next_offset in _members_by_tarfile(stream):
            yield member
            if header:
                offset, alike = next_offset, header
                break
        else:
            return


def _size_of_alike(head: bytes, alike: bytes) -> int:
    """Size in a header that differs from a plain file's only in name, size, time and checksum; else -1."""
    if head[100:124] != alike[100:124] or head[156:] != alike[156:] or _text(head[:100]).endswith(b"/"):
        return -1
    try:
        size, _, checksum = (int(_text(head[lo:hi]), 8) for lo, hi in ((124, 136), (136, 148), (148, 156)))
    except ValueError:
        return -1
    # The checksum's own field counts as blanks.
    return size if _sum(head[:148]) + 8 * 32 + _sum(head[156:356]) + _sum(head[356:]) == checksum else -1


def _names_of_alike(stream: IO[bytes], offset: int, step: int, alike: bytes, n_most: int) -> list[bytes]:
    """Names in the headers from ``offset`` on, every ``step`` bytes, as far as they differ from ``alike`` in nothing
    but name, time and checksum, and their checksum is right."""
    found = []
    for at in range(offset, offset + n_most * step, step):
        stream.seek(at)
        head = stream.read(BLOCK_BYTES)
        if len(head) < BLOCK_BYTES:
            break
        found.append(head)
    if not found:
        return []
    heads = np.frombuffer(b"".join(found), np.uint8).reshape(len(found), BLOCK_BYTES)
    model = np.frombuffer(alike, np.uint8)
    same = (heads[:, 100 : _MTIME.start] == model[100 : _MTIME.start]).all(axis=1)
    same &= (heads[:, _CHECKSUM.stop :] == model[_CHECKSUM.stop :]).all(axis=1)
    is_octal, _ = _octal(heads[:, _MTIME], model[_MTIME])
    same &= is_octal
    is_octal, stated = _octal(heads[:, _CHECKSUM], model[_CHECKSUM])
    blanks = 32 * (_CHECKSUM.stop - _CHECKSUM.start)
    sums = heads.sum(axis=1, dtype=np.int64) - heads[:, _CHECKSUM].sum(axis=1, dtype=np.int64) + blanks
    same &= is_octal & (stated == sums)
    n_same = len(found) if same.all() else int(np.argmin(same))
    names = [_text(head[:100]) for head in found[:n_same]]
    folder = next((number for number, name in enumerate(names) if name.endswith(b"/")), n_same)
    return names[:folder]


def _octal(fields: npt.NDArray[np.uint8], model: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.bool_], Any]:
    """Whether each field has octal digits where ``model`` has its number and is equal elsewhere; the numbers."""
    n_digits = len(_text(model.tobytes()).rstrip(b" "))
    digits = fields[:, :n_digits].astype(np.int64) - ord("0")
    fits = ((digits >= 0) & (digits < 8)).all(axis=1) & (fields[:, n_digits:] == model[n_digits:]).all(axis=1)
    return fits, digits @ (8 ** np.arange(n_digits - 1, -1, -1, dtype=np.int64))


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _sum(data: bytes) -> int:
    """Sum of up to 256 bytes: the low half of their Adler-32, less 1."""
    return (zlib.adler32(data) & 0xFFFF) - 1


def _members_by_tarfile(stream: IO[bytes]) -> Iterator[tuple[Member, bytes, int]]:
    """Members from here on, each with its header where it is a plain file's, and the offset of the next."""
    reader = _HeaderReader(stream)
    with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as tar:
        while (found := tar.next()) is not None:
            is_file = found.isreg() and not found.issparse()
            name = found.name.encode("utf-8", "surrogateescape")
            member = Member(
                name, "file" if is_file else "folder" if found.isdir() else "other", found.offset_data, found.size
            )
            # A header before this one, or for all members, may say more about it; so may the name's front part.
            alone = is_file and found.offset_data == found.offset + BLOCK_BYTES and not tar.pax_headers
            alone = alone and reader.last_read[_PREFIX_AT] == 0
            yield member, reader.last_read if alone else b"", int(cast("Any", tar).offset)
            # TarFile would keep every member it has met.
            cast("Any", tar).members = []
        end = int(cast("Any", tar).offset)
    # tarfile takes a damaged header for the end; the true end is a block of zeros.
    stream.seek(end)
    mark = stream.read(BLOCK_BYTES)
    if len(mark) < BLOCK_BYTES or mark.strip(b"\0"):
        raise tarfile.ReadError(f"no end mark at byte {end}")
