"""The layout of a FITS file: its HDUs, checked against the bytes that are really there, and which one is the image.

Cutouts come by the million and some of them are damaged, so headers are not believed: every size that a header states
is compared with the file before anything is allocated. astropy is not used here, since opening a small file with it
costs more than all the rest. Pixels are read in `fits_pixels`.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.method.quarantine import Code

# Bytes of a file: read(offset, length), fewer at its end.
Reader = Callable[[int, int], bytes]
# Keyword -> the bytes after its "=": 8 bytes -> 70, or HIERARCH, a blank and the name -> the others.
Cards = dict[bytes, bytes]

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_BYTES = 2880
CARD_BYTES = 80
# Where the value of a card begins, after keyword and "= ".
VALUE_AT = 10
MAX_FILE_BYTES = 64 * 2**20
"""Of one cutout's image, or its whole file where that is packed: 4,096 px square in float32. The memory that an ingest
declares counts with it."""
MAX_HEADER_BYTES = 4 * 2**20
MAX_HDUS = 1000
SUMMED_BLOCKS = 4096

_END = b"END" + b" " * 77
_HIERARCH = b"HIERARCH"
NOT_IMAGES = {b"MASK", b"VARIANCE", b"VAR", b"WEIGHT", b"WHT", b"ERR", b"ERROR", b"DQ", b"PSF", b"MSK"}
_IMAGE_NAMES = {b"IMAGE", b"SCI", b"SCIENCE"}


class UnusableFileError(Exception):
    """A file, or the image in it, that cannot be used.

    Attributes
    ----------
    code : Code
        What ``quarantine.csv`` shows. ``str(error)`` is the reason.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def unreadable(reason: str) -> UnusableFileError:
    """The error for a file whose bytes are missing, damaged or not FITS."""
    return UnusableFileError(Code.UNREADABLE_FILE, reason)


@contextmanager
def whatever_it_raises() -> Iterator[None]:
    """The one place where any failure to read one file becomes the fault of that file, and of nothing else.

    Damaged files fail in ways that nobody has foreseen. Only a failure that is not theirs passes: the machine fails
    (see `machine_errors`), or the user is told of something else.

    Raises
    ------
    UnusableFileError
        As it is; UNREADABLE_FILE, with the name of the exception, for every other.
    OSError, MemoryError
        When the machine fails.
    """
    try:
        yield
    except (UnusableFileError, SwimmyError):
        raise
    except Exception as error:
        pass_on(error)
        said = " ".join(str(error).split())
        raise unreadable(f"reading it fails with {type(error).__name__}{': ' if said else ''}{said}") from error


@dataclass
class Hdu:
    """One header and where its data lies.

    Attributes
    ----------
    start, data_start : int
        Offsets in the file, in bytes.
    data_bytes : int
        Size of the data without padding.
    end : int
        Offset of the next HDU.
    extension : bytes
        ``b"PRIMARY"``, ``b"IMAGE"``, ``b"BINTABLE"``, ...
    shape : tuple of int
        NAXISn in NumPy's order, the last axis first.
    header : bytes
        The header's cards, without END.
    """

    index: int
    start: int
    data_start: int
    data_bytes: int
    end: int
    extension: bytes
    bitpix: int
    shape: tuple[int, ...]
    header: bytes

    @cached_property
    def cards(self) -> Cards:
        """Keyword cards."""
        return parse_cards(self.header)

    @property
    def compressed(self) -> bool:
        """Whether this is a tile-compressed image."""
        return self.extension == b"BINTABLE" and self.cards.get(b"ZIMAGE  ", b"").split(b"/")[0].strip() == b"T"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Axes (y, x) of the image, also of a compressed one; empty where there is no image."""
        if self.compressed:
            n_axes = positive_int(self.cards, "ZNAXIS")
            return tuple(positive_int(self.cards, f"ZNAXIS{axis}") for axis in range(min(n_axes, 9), 0, -1))
        return self.shape if self.extension in (b"PRIMARY", b"IMAGE") else ()


def reader_of(data: bytes) -> Reader:
    """Random access to bytes in memory."""
    return lambda offset, length: data[offset : offset + length]


@contextmanager
def open_reader(path: str) -> Iterator[tuple[Reader, os.stat_result]]:
    """Random access to the bytes of a plain file, and its status.

    Errors of the disk that are the file's are UnusableFileErrors, those of the machine stay what they are.
    """
    # Not by mmap: a file that shrinks would crash the process.
    try:
        # Without O_NONBLOCK a named pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        pass_on(error, path)
        raise unreadable(f"cannot be opened: {error}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise unreadable("is not a plain file")

        def read(offset: int, length: int) -> bytes:
            parts, left = list[bytes](), min(length, max(status.st_size - offset, 0))
            try:
                # Linux gives at most 2 GiB at once, and of a file that has become shorter nothing.
                while left and (part := os.pread(descriptor, left, offset)):
                    parts.append(part)
                    offset, left = offset + len(part), left - len(part)
                return parts[0] if len(parts) == 1 else b"".join(parts)
            except OSError as error:
                pass_on(error, path)
                raise unreadable(f"cannot be read: {error}") from None

        yield read, status
    finally:
        os.close(descriptor)


def scan(read: Reader, n_bytes: int) -> list[Hdu]:
    """Find the HDUs of a FITS file.

    Returns
    -------
    list of Hdu
        All of them, each with its data within the file of ``n_bytes``. Padding after the last one may be absent.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where the bytes are not FITS, a header has no end or impossible sizes, or data are cut off.
    """
    if n_bytes == 0:
        raise unreadable("the file is empty")
    if read(0, 9) != b"SIMPLE  =":
        raise unreadable("not a FITS file: it does not begin with SIMPLE")
    hdus: list[Hdu] = []
    offset = 0
    while offset < n_bytes:
        if offset and read(offset, 9) != b"XTENSION=":
            # Some writers pad a file beyond its last block; anything else is damage.
            if read(offset, BLOCK_BYTES).strip(b"\0 "):
                raise unreadable(f"no header where HDU {len(hdus)} should begin, at byte {offset}")
            break
        if len(hdus) == MAX_HDUS:
            raise unreadable(f"more than {MAX_HDUS} HDUs")
        hdus.append(_read_header(read, n_bytes, offset, len(hdus)))
        offset = hdus[-1].end
    return hdus


def find_image(hdus: list[Hdu]) -> Hdu:
    """Choose the HDU with the image.

    It is the first 2-D image whose EXTTYPE or EXTNAME is IMAGE, SCI or SCIENCE; without one the first 2-D image that
    is not named as a mask, variance, weight or PSF.

    Raises
    ------
    UnusableFileError
        NO_IMAGE_HDU where there is none.
    """
    second_choice = None
    for hdu in hdus:
        if len(hdu.image_shape) != 2 or 0 in hdu.image_shape:
            continue
        names = {(card_text(hdu.cards, keyword) or b"").upper() for keyword in ("EXTTYPE", "EXTNAME")}
        if names & _IMAGE_NAMES:
            return hdu
        if second_choice is None and not names & NOT_IMAGES:
            second_choice = hdu
    if second_choice is None:
        found = ", ".join(f"HDU {hdu.index} {hdu.extension.decode('ascii', 'replace')} {hdu.shape}" for hdu in hdus[:6])
        raise UnusableFileError(Code.NO_IMAGE_HDU, f"no 2-D image among {len(hdus)} HDUs ({found})")
    return second_choice


def is_plain(hdu: Hdu) -> bool:
    """Whether the image is float32 or float64 without scaling, so that its bytes are its pixels."""
    return is_plain_of(hdu, (-32, -64))


def is_plain_of(hdu: Hdu, kinds: Sequence[int]) -> bool:
    """Whether the image is of one of some BITPIX without scaling, so that its bytes are its pixels."""
    if hdu.extension not in (b"PRIMARY", b"IMAGE") or hdu.bitpix not in kinds:
        return False
    # PCOUNT and GCOUNT may state more data than the image, or less.
    if hdu.data_bytes != abs(hdu.bitpix) // 8 * prod(hdu.shape):
        return False
    return card_number(hdu.cards, "BSCALE") in (None, 1.0) and card_number(hdu.cards, "BZERO") in (None, 0.0)


def plain_type(hdu: Hdu) -> str:
    """NumPy's type of the pixels of a plain image; FITS has no signed bytes."""
    return "u1" if hdu.bitpix == 8 else f">{'f' if hdu.bitpix < 0 else 'i'}{abs(hdu.bitpix) // 8}"


def verify_checksum(read: Reader, hdu: Hdu) -> None:
    """Refuse an HDU that differs from its CHECKSUM and DATASUM cards, where it has them."""
    if b"CHECKSUM" not in hdu.cards and b"DATASUM " not in hdu.cards:
        return
    step = SUMMED_BLOCKS * BLOCK_BYTES
    data_sum = 0
    for offset in range(hdu.data_start, hdu.end, step):
        data_sum = _ones_complement_sum(read(offset, min(step, hdu.end - offset)), data_sum)
    stated = (card_text(hdu.cards, "DATASUM") or b"").strip()
    # Zero has two forms in ones' complement.
    if stated and not (stated.isdigit() and int(stated) % 0xFFFFFFFF == data_sum % 0xFFFFFFFF):
        raise unreadable(f"the checksum of HDU {hdu.index} fails: DATASUM is {stated!r}, the data sum is {data_sum}")
    if (card_text(hdu.cards, "CHECKSUM") or b"").strip():
        total = _ones_complement_sum(read(hdu.start, hdu.data_start - hdu.start), data_sum)
        if total % 0xFFFFFFFF:
            raise unreadable(f"the checksum of HDU {hdu.index} fails: CHECKSUM does not match header and data")


def parse_cards(header: bytes) -> Cards:
    """Keyword cards of a header: keyword of 8 bytes -> the 70 bytes after ``= ``. The first of equals counts.

    A keyword of the HIERARCH convention is the whole name: ``HIERARCH FPA.ZP``.
    """
    cards: Cards = {}
    for keyword, equals, value in struct.iter_unpack("8s2s70s", header):
        if equals == b"= ":
            cards.setdefault(keyword, value)
        elif keyword == _HIERARCH:
            name, length = hierarch_name(equals + value)
            if length:
                cards.setdefault(name, (equals + value)[length:])
    return cards


def hierarch_name(rest: bytes) -> tuple[bytes, int]:
    """Keyword of a HIERARCH card, and how many bytes of what follows HIERARCH it takes with its "="; 0 without one."""
    before, equals, _ = rest.partition(b"=")
    return _HIERARCH + b" " + b" ".join(before.split()), len(before) + 1 if equals else 0


def card_number(cards: Cards, keyword: str) -> float | None:
    """Value of a numeric card; None where the card is absent, NaN where it is not a number."""
    raw = cards.get(keyword.ljust(8).encode())
    return None if raw is None else parse_number(raw)


def first_number(headers: Sequence[Cards], keyword: str) -> float | None:
    """Value of a numeric card in the first of several headers that has it; as `card_number`."""
    return next((value for value in (card_number(cards, keyword) for cards in headers) if value is not None), None)


def parse_number(raw: bytes) -> float:
    """Number in the bytes after a card's ``= ``; NaN where they are not a number."""
    try:
        return float(raw.split(b"/", 1)[0].strip().upper().replace(b"D", b"E"))
    except ValueError:
        return float("nan")


def card_text(cards: Cards, keyword: str) -> bytes | None:
    """Value of a text card without its quotes and trailing blanks; None where absent or not text."""
    raw = cards.get(keyword.ljust(8).encode(), b"").strip()
    if not raw.startswith(b"'"):
        return None
    # '' inside a string stands for one quote.
    end = raw.replace(b"''", b"\0\0").find(b"'", 1)
    return raw[1 : end if end > 0 else None].replace(b"''", b"'").rstrip()


def positive_int(cards: Cards, keyword: str) -> int:
    """Whole number above 0 of a card; 0 where there is none."""
    value = card_number(cards, keyword)
    return int(value) if value is not None and isfinite(value) and value > 0 else 0


def in_capitals(header: bytes) -> bytes:
    """A header with its keywords in capitals: the standard has no others (FITS 4.0, 4.1.2.1), astropy reads any."""
    keywords = np.frombuffer(header, np.uint8).reshape(-1, CARD_BYTES)[:, :8]
    small = (keywords >= ord("a")) & (keywords <= ord("z"))
    if not small.any():
        return header
    cards = np.frombuffer(header, np.uint8).reshape(-1, CARD_BYTES).copy()
    cards[:, :8][small] -= ord("a") - ord("A")
    return cards.tobytes()


def _read_header(read: Reader, n_bytes: int, start: int, index: int) -> Hdu:
    """The HDU that begins at ``start``, its sizes checked against a file of ``n_bytes``."""
    length = 2 * BLOCK_BYTES
    while True:
        text = read(start, length)
        end = text.find(_END)
        while end % CARD_BYTES and end >= 0:
            end = text.find(_END, end + 1)
        if end >= 0:
            break
        if start + length >= n_bytes or length >= MAX_HEADER_BYTES:
            raise unreadable(f"the header of HDU {index} has no END within {min(length, n_bytes - start)} bytes")
        length *= 4
    header = in_capitals(text[:end])
    data_start = start + -(-(end + CARD_BYTES) // BLOCK_BYTES) * BLOCK_BYTES
    extension = b"PRIMARY" if index == 0 else _extension_name(header)
    bitpix, shape, data_bytes = _sizes(header, extension, index)
    if data_start > n_bytes:
        raise unreadable(f"cut off in the header of HDU {index}: it ends at byte {data_start}, the file at {n_bytes}")
    if data_bytes and data_start + data_bytes > n_bytes:
        raise unreadable(
            f"cut off: HDU {index} needs {data_bytes} bytes of data from byte {data_start}, the file has {n_bytes}"
        )
    stop = data_start + -(-data_bytes // BLOCK_BYTES) * BLOCK_BYTES
    return Hdu(index, start, data_start, data_bytes, stop, extension, bitpix, shape, header)


def _extension_name(header: bytes) -> bytes:
    """Text of XTENSION, the first card; empty where it has no two quotes."""
    parts = header[VALUE_AT:CARD_BYTES].split(b"'")
    return parts[1].strip() if len(parts) > 2 else b""


def _sizes(header: bytes, extension: bytes, index: int) -> tuple[int, tuple[int, ...], int]:
    """BITPIX, shape and data size: |BITPIX| / 8 * GCOUNT * (PCOUNT + product of NAXISn) bytes (FITS 4.0, 4.4.1)."""
    bitpix = _mandatory(header, 1, b"BITPIX", index)
    n_axes = _mandatory(header, 2, b"NAXIS", index)
    if bitpix not in (8, 16, 32, 64, -32, -64) or not 0 <= n_axes <= 999:
        raise unreadable(f"HDU {index} has BITPIX {bitpix} and NAXIS {n_axes}")
    axes = [_mandatory(header, 3 + axis, b"NAXIS%d" % (axis + 1), index) for axis in range(n_axes)]
    n_parameters, n_groups = 0, 1
    if extension != b"PRIMARY":
        n_parameters = _mandatory(header, 3 + n_axes, b"PCOUNT", index)
        n_groups = _mandatory(header, 4 + n_axes, b"GCOUNT", index)
    if min([*axes, n_parameters, n_groups], default=0) < 0:
        raise unreadable(f"HDU {index} has a negative size: NAXISn {axes}, PCOUNT {n_parameters}, GCOUNT {n_groups}")
    data_bytes = abs(bitpix) // 8 * n_groups * (n_parameters + prod(axes)) if n_axes else 0
    return bitpix, tuple(reversed(axes)), data_bytes


def _mandatory(header: bytes, position: int, keyword: bytes, index: int) -> int:
    """Whole number of a mandatory card, which should be at this position of the header.

    Readers differ in which of two such cards they believe, so the image would be another for each.
    """
    begin = keyword.ljust(8) + b"= "
    card = header[position * CARD_BYTES : (position + 1) * CARD_BYTES]
    values = [card[VALUE_AT:]]
    if not card.startswith(begin) or header.count(begin) > 1:
        cards = (header[at : at + CARD_BYTES] for at in range(0, len(header), CARD_BYTES))
        values = [one[VALUE_AT:] for one in cards if one.startswith(begin)]
    try:
        numbers = {int(value.split(b"/", 1)[0]) for value in values or [b""]}
    except ValueError:
        raise unreadable(f"HDU {index} has no usable {keyword.decode()} card") from None
    if len(numbers) > 1:
        raise unreadable(f"HDU {index} has {keyword.decode()} cards of different values, {sorted(numbers)}")
    return numbers.pop()


def _ones_complement_sum(data: bytes, total: int = 0) -> int:
    """32-bit ones' complement sum of big-endian words (FITS 4.0, appendix J)."""
    words = np.frombuffer(data + b"\0" * (-len(data) % 4), ">u4")
    total += int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
