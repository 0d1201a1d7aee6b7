"""The members of a tar by their headers: alike ones are compared, many at once; `tarfile` reads all others."""

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
# Fields of a header: name, size, and the time and checksum that may differ between headers that are alike.
_NAME, _SIZE, _MTIME, _CHECKSUM = slice(0, 100), slice(124, 136), slice(136, 148), slice(148, 156)
# How many headers are read ahead and compared at once, at first and at most.
FEWEST_ALIKE, MOST_ALIKE = 16, 4096


class Member(NamedTuple):
    """One member of a tar.

    Attributes
    ----------
    kind : str
        ``file``, ``folder`` or ``other``: a link, a device, a file with holes.
    offset, size : int
        Where its data lie in the (unpacked) tar, in bytes.
    """

    name: bytes
    kind: str
    offset: int
    size: int


def tar_members(stream: IO[bytes]) -> Iterator[Member]:
    """Members of an (unpacked) tar, in order.

    Raises
    ------
    tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError
        Where the tar is cut off or damaged, after the members before the damage.
    """
    offset, alike = 0, b""
    n_ahead, n_alone = FEWEST_ALIKE, 0
    while True:
        # With the last byte before it: that one is missing where the tar ends within a member.
        stream.seek(max(offset - 1, 0))
        head = stream.read(BLOCK_BYTES + 1 if offset else BLOCK_BYTES)
        if offset and not head:
            raise tarfile.ReadError("unexpected end of data")
        head = head[1:] if offset else head
        if head == _END:
            return
        size = _size_of_alike(head, alike)
        if size >= 0:
            yield Member(_text(head[_NAME]), "file", offset + BLOCK_BYTES, size)
            step = BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES
            offset += step
            n_alone -= 1
            # In a packed tar, going back after looking ahead would unpack it again from its start.
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


class _HeaderReader:
    """Stream of a tar for `tarfile`, which reads only headers but would believe any size in them."""

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


def _size_of_alike(head: bytes, alike: bytes) -> int:
    """Size in a header that differs from ``alike``, a plain file's, in name, size, time and checksum only; else -1."""
    owner, rest = slice(_NAME.stop, _SIZE.start), slice(_CHECKSUM.stop, None)
    if head[owner] != alike[owner] or head[rest] != alike[rest] or _text(head[_NAME]).endswith(b"/"):
        return -1
    try:
        size, _, checksum = (int(_text(head[field]), 8) for field in (_SIZE, _MTIME, _CHECKSUM))
    except ValueError:
        return -1
    # The field of the checksum itself counts as eight blanks.
    total = _sum(head[: _CHECKSUM.start]) + 8 * 32 + _sum(head[_CHECKSUM.stop : 356]) + _sum(head[356:])
    return size if total == checksum else -1


def _names_of_alike(stream: IO[bytes], offset: int, step: int, alike: bytes, n_most: int) -> list[bytes]:
    """Names in the headers every ``step`` bytes from ``offset`` on, up to the first that is not like ``alike``.

    Headers are alike that differ only in name, time and checksum, and whose checksum is right.
    """
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
    same = (heads[:, _NAME.stop : _MTIME.start] == model[_NAME.stop : _MTIME.start]).all(axis=1)
    same &= (heads[:, _CHECKSUM.stop :] == model[_CHECKSUM.stop :]).all(axis=1)
    is_octal, _ = _octal(heads[:, _MTIME], model[_MTIME])
    same &= is_octal
    is_octal, stated = _octal(heads[:, _CHECKSUM], model[_CHECKSUM])
    blanks = 32 * (_CHECKSUM.stop - _CHECKSUM.start)
    sums = heads.sum(axis=1, dtype=np.int64) - heads[:, _CHECKSUM].sum(axis=1, dtype=np.int64) + blanks
    same &= is_octal & (stated == sums)
    n_same = len(found) if same.all() else int(np.argmin(same))
    names = [_text(head[_NAME]) for head in found[:n_same]]
    folder = next((number for number, name in enumerate(names) if name.endswith(b"/")), n_same)
    return names[:folder]


def _octal(fields: npt.NDArray[np.uint8], model: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.bool_], Any]:
    """Whether each field has octal digits where ``model`` has them and equals it elsewhere; and their numbers."""
    n_digits = len(_text(model.tobytes()).rstrip(b" "))
    digits = fields[:, :n_digits].astype(np.int64) - ord("0")
    fits = ((digits >= 0) & (digits < 8)).all(axis=1) & (fields[:, n_digits:] == model[n_digits:]).all(axis=1)
    return fits, digits @ (8 ** np.arange(n_digits - 1, -1, -1, dtype=np.int64))


def _text(field: bytes) -> bytes:
    """What stands before the first zero byte."""
    return field.split(b"\0", 1)[0]


def _sum(data: bytes) -> int:
    """Sum of up to 256 bytes: the low half of their Adler-32, less 1."""
    return (zlib.adler32(data) & 0xFFFF) - 1


def _members_by_tarfile(stream: IO[bytes]) -> Iterator[tuple[Member, bytes, int]]:
    """Members from here on, each with its header if it is a plain file (else empty), and the offset of the next one."""
    reader = _HeaderReader(stream)
    with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as tar:
        while (found := tar.next()) is not None:
            is_file = found.isreg() and not found.issparse()
            name = found.name.encode("utf-8", "surrogateescape")
            kind = "file" if is_file else "folder" if found.isdir() else "other"
            # Alone: neither an earlier header nor the field for the front part of the name says more about it.
            alone = is_file and found.offset_data == found.offset + BLOCK_BYTES and not tar.pax_headers
            alone = alone and reader.last_read[_PREFIX_AT] == 0
            member = Member(name, kind, found.offset_data, found.size)
            yield member, reader.last_read if alone else b"", int(cast("Any", tar).offset)
            # TarFile would keep every member it has met.
            cast("Any", tar).members = []
        end = int(cast("Any", tar).offset)
    # tarfile takes a damaged header for the end; the real end is a block of zeros.
    stream.seek(end)
    mark = stream.read(BLOCK_BYTES)
    if len(mark) < BLOCK_BYTES or mark.strip(b"\0"):
        raise tarfile.ReadError(f"no end mark at byte {end}")
