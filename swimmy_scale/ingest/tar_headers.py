"""The members of a tar by its headers: one comparison a member where headers are alike, `tarfile` where not."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, cast

MAX_TAR_HEADER_BYTES = 2**20
BLOCK_BYTES = tarfile.BLOCKSIZE
_END = bytes(BLOCK_BYTES)
_PREFIX_AT = 345


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
            offset += BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES
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
