"""Bytes of a FITS file -> its HDUs, checked against the bytes that are really there, and the pixels of one of them.

Cutouts come by the million and some of them are damaged, so headers are not believed: every size a header states
is compared with the file before anything is allocated. Plain float images are decoded here, since opening a small
file with astropy costs more than all of the rest; everything else (integers, scaled, tile-compressed) is decoded
by astropy after the same checks.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from swimmy_scale.quarantine import Code

Reader = Callable[[int, int], bytes]
Cards = dict[bytes, bytes]

BLOCK_BYTES = 2880
CARD_BYTES = 80
MAX_FILE_BYTES = 512 * 2**20
MAX_HEADER_BYTES = 4 * 2**20
MAX_HDUS = 1000

_END = b"END" + b" " * 77
_NOT_IMAGES = {b"MASK", b"VARIANCE", b"VAR", b"WEIGHT", b"WHT", b"ERR", b"ERROR", b"DQ", b"PSF", b"MSK"}
_IMAGE_NAMES = {b"IMAGE", b"SCI", b"SCIENCE"}
# HCOMPRESS_1 is not among them: its decompressor writes beyond its memory on damaged tiles, which ends the process.
_DECODED_BY_ASTROPY = (b"RICE_1", b"RICE_ONE", b"GZIP_1", b"GZIP_2")


class UnusableFileError(Exception):
    """A file, or the image in it, that cannot be used.

    Attributes
    ----------
    code : Code
        What ``quarantine.csv`` shows. ``str(fault)`` is the reason.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _unreadable(reason: str) -> UnusableFileError:
    return UnusableFileError(Code.UNREADABLE_FILE, reason)


def parse_cards(header: bytes) -> Cards:
    """Keyword cards of a header: 8-byte keyword -> the 70 bytes after ``= ``. The first of equals counts."""
    cards: Cards = {}
    for keyword, equals, value in struct.iter_unpack("8s2s70s", header):
        if equals == b"= " and keyword not in cards:
            cards[keyword] = value
    return cards


def card_number(cards: Cards, keyword: str) -> float | None:
    """Value of a numeric card; None where the card is absent, NaN where it is not a number."""
    raw = cards.get(keyword.ljust(8).encode())
    return None if raw is None else parse_number(raw)


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


@dataclass(slots=True)
class Hdu:
    """One header and where its data lies.

    Attributes
    ----------
    index : int
    start, data_start : int
        Offsets in the file, in bytes.
    data_bytes : int
        Size of the data without padding.
    end : int
        Offset of the next HDU.
    extension : bytes
        ``b"PRIMARY"``, ``b"IMAGE"``, ``b"BINTABLE"``, ...
    bitpix : int
    shape : tuple of int
        NAXISn, last first, as numpy counts axes.
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
    _cards: Cards | None = field(default=None, repr=False)

    @property
    def cards(self) -> Cards:
        """Keyword cards, parsed when first asked for."""
        if self._cards is None:
            self._cards = parse_cards(self.header)
        return self._cards

    @property
    def compressed(self) -> bool:
        """Whether this is a tile-compressed image."""
        return self.extension == b"BINTABLE" and self.cards.get(b"ZIMAGE  ", b"").split(b"/")[0].strip() == b"T"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Axes (y, x) of the image, also of a compressed one; empty where there is no image."""
        if self.compressed:
            n_axes = _positive_int(self.cards, "ZNAXIS")
            return tuple(_positive_int(self.cards, f"ZNAXIS{axis}") for axis in range(min(n_axes, 9), 0, -1))
        return self.shape if self.extension in (b"PRIMARY", b"IMAGE") else ()


def _positive_int(cards: Cards, keyword: str) -> int:
    value = card_number(cards, keyword)
    return int(value) if value is not None and isfinite(value) and value > 0 else 0


def scan(read: Reader, n_bytes: int) -> list[Hdu]:
    """Find the HDUs of a FITS file.

    Parameters
    ----------
    read : callable
        ``read(offset, length)`` returns those bytes, fewer at the end of the file.
    n_bytes : int
        Size of the file.

    Returns
    -------
    list of Hdu
        All of them; each one's data lies within the file. Padding after the last one may be absent.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where the bytes are not FITS, a header has no end or impossible sizes, or data is cut off.
    """
    if n_bytes == 0:
        raise _unreadable("the file is empty")
    if read(0, 9) != b"SIMPLE  =":
        raise _unreadable("not a FITS file: it does not begin with SIMPLE")
    hdus: list[Hdu] = []
    offset = 0
    while offset < n_bytes:
        if offset and read(offset, 9) != b"XTENSION=":
            # Some writers pad a file beyond its last block; anything else is damage.
            if read(offset, BLOCK_BYTES).strip(b"\0 "):
                raise _unreadable(f"no header where HDU {len(hdus)} should begin, at byte {offset}")
            break
        if len(hdus) == MAX_HDUS:
            raise _unreadable(f"more than {MAX_HDUS} HDUs")
        hdus.append(_read_header(read, n_bytes, offset, len(hdus)))
        offset = hdus[-1].end
    return hdus


def _read_header(read: Reader, n_bytes: int, start: int, index: int) -> Hdu:
    length = 2 * BLOCK_BYTES
    while True:
        text = read(start, length)
        end = text.find(_END)
        while end % CARD_BYTES and end >= 0:
            end = text.find(_END, end + 1)
        if end >= 0:
            break
        if start + length >= n_bytes or length >= MAX_HEADER_BYTES:
            raise _unreadable(f"the header of HDU {index} has no END within {min(length, n_bytes - start)} bytes")
        length *= 4
    header = text[:end]
    data_start = start + -(-(end + CARD_BYTES) // BLOCK_BYTES) * BLOCK_BYTES
    extension = b"PRIMARY" if index == 0 else _extension_name(header)
    bitpix, shape, data_bytes = _sizes(header, extension, index)
    if data_start > n_bytes:
        raise _unreadable(f"cut off in the header of HDU {index}: it ends at byte {data_start}, the file at {n_bytes}")
    if data_bytes and data_start + data_bytes > n_bytes:
        raise _unreadable(
            f"cut off: HDU {index} needs {data_bytes} bytes of data from byte {data_start}, the file has {n_bytes}"
        )
    stop = data_start + -(-data_bytes // BLOCK_BYTES) * BLOCK_BYTES
    return Hdu(index, start, data_start, data_bytes, stop, extension, bitpix, shape, header)


def _extension_name(header: bytes) -> bytes:
    return header[10:80].split(b"'")[1].strip() if header[10:80].count(b"'") > 1 else b""


def _sizes(header: bytes, extension: bytes, index: int) -> tuple[int, tuple[int, ...], int]:
    """BITPIX, shape and data size: |BITPIX| / 8 * GCOUNT * (PCOUNT + product of NAXISn) bytes (FITS 4.0, 4.4.1)."""
    bitpix = _mandatory(header, 1, b"BITPIX", index)
    n_axes = _mandatory(header, 2, b"NAXIS", index)
    if bitpix not in (8, 16, 32, 64, -32, -64) or not 0 <= n_axes <= 999:
        raise _unreadable(f"HDU {index} has BITPIX {bitpix} and NAXIS {n_axes}")
    axes = [_mandatory(header, 3 + axis, b"NAXIS%d" % (axis + 1), index) for axis in range(n_axes)]
    n_parameters, n_groups = 0, 1
    if extension != b"PRIMARY":
        n_parameters = _mandatory(header, 3 + n_axes, b"PCOUNT", index)
        n_groups = _mandatory(header, 4 + n_axes, b"GCOUNT", index)
    if min([*axes, n_parameters, n_groups], default=0) < 0:
        raise _unreadable(f"HDU {index} has a negative size: NAXISn {axes}, PCOUNT {n_parameters}, GCOUNT {n_groups}")
    data_bytes = abs(bitpix) // 8 * n_groups * (n_parameters + prod(axes)) if n_axes else 0
    return bitpix, tuple(reversed(axes)), data_bytes


def _mandatory(header: bytes, position: int, keyword: bytes, index: int) -> int:
    """Whole number of a mandatory card, which the standard puts at a fixed position."""
    card = header[position * CARD_BYTES : (position + 1) * CARD_BYTES]
    raw: bytes | None = card[10:]
    if card[:10] != keyword.ljust(8) + b"= ":
        raw = parse_cards(header).get(keyword.ljust(8))
    try:
        return int((raw or b"").split(b"/", 1)[0])
    except ValueError:
        raise _unreadable(f"HDU {index} has no usable {keyword.decode()} card") from None


def find_image(hdus: list[Hdu]) -> Hdu:
    """Choose the HDU with the image.

    Returns
    -------
    Hdu
        The first 2-D image whose EXTTYPE is IMAGE or whose EXTNAME is IMAGE or SCI; without one the first 2-D
        image that is not named as a mask, variance, weight or PSF.

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
        if second_choice is None and not names & _NOT_IMAGES:
            second_choice = hdu
    if second_choice is None:
        found = ", ".join(f"HDU {hdu.index} {hdu.extension.decode('ascii', 'replace')} {hdu.shape}" for hdu in hdus[:6])
        raise UnusableFileError(Code.NO_IMAGE_HDU, f"no 2-D image among {len(hdus)} HDUs ({found})")
    return second_choice


def ones_complement_sum(data: bytes, total: int = 0) -> int:
    """32-bit ones' complement sum of big-endian words (FITS 4.0, appendix J)."""
    words = np.frombuffer(data + b"\0" * (-len(data) % 4), ">u4")
    total += int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def verify_checksum(read: Reader, hdu: Hdu) -> None:
    """Compare an HDU with its CHECKSUM and DATASUM cards, where it has them.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where they differ.
    """
    if b"CHECKSUM" not in hdu.cards and b"DATASUM " not in hdu.cards:
        return
    step = 2880 * 4096
    data_sum = 0
    for offset in range(hdu.data_start, hdu.end, step):
        data_sum = ones_complement_sum(read(offset, min(step, hdu.end - offset)), data_sum)
    stated = (card_text(hdu.cards, "DATASUM") or b"").strip()
    # Zero has two forms in ones' complement.
    if stated and not (stated.isdigit() and int(stated) % 0xFFFFFFFF == data_sum % 0xFFFFFFFF):
        raise _unreadable(f"the checksum of HDU {hdu.index} fails: DATASUM is {stated!r}, the data sum is {data_sum}")
    if (card_text(hdu.cards, "CHECKSUM") or b"").strip():
        total = ones_complement_sum(read(hdu.start, hdu.data_start - hdu.start), data_sum)
        if total % 0xFFFFFFFF:
            raise _unreadable(f"the checksum of HDU {hdu.index} fails: CHECKSUM does not match header and data")


def is_plain(hdu: Hdu) -> bool:
    """Whether the image is float32 or float64 without scaling, so that its bytes are its pixels."""
    if hdu.extension not in (b"PRIMARY", b"IMAGE") or hdu.bitpix not in (-32, -64):
        return False
    # PCOUNT and GCOUNT may say that there is more than the image, or less.
    if hdu.data_bytes != abs(hdu.bitpix) // 8 * prod(hdu.shape):
        return False
    return card_number(hdu.cards, "BSCALE") in (None, 1.0) and card_number(hdu.cards, "BZERO") in (None, 0.0)


def read_pixels(read: Reader, hdu: Hdu) -> npt.NDArray[Any]:
    """Pixels of an image HDU, with BSCALE, BZERO and BLANK applied.

    Parameters
    ----------
    read : callable
        As for `scan`.
    hdu : Hdu
        From `find_image`.

    Returns
    -------
    ndarray, axes (y, x)
        In the file's own type where it is plain, else float or integer as astropy gives it. NaN where the file
        says so or BLANK stands.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where the image is larger than 512 MiB or cannot be decoded.
    """
    if hdu.data_bytes > MAX_FILE_BYTES:
        raise _unreadable(f"the image of {hdu.data_bytes} bytes is above the limit of {MAX_FILE_BYTES}")
    if is_plain(hdu):
        raw = read(hdu.data_start, hdu.data_bytes)
        if len(raw) < hdu.data_bytes:
            raise _unreadable(f"cut off while it was read: {len(raw)} of {hdu.data_bytes} bytes of HDU {hdu.index}")
        return np.frombuffer(raw, ">f4" if hdu.bitpix == -32 else ">f8").reshape(hdu.shape)
    return decode_with_astropy(read, hdu, (slice(None), slice(None)))


def decode_with_astropy(
    read: Reader, hdu: Hdu, region: tuple[slice, slice], max_bytes: int = MAX_FILE_BYTES
) -> npt.NDArray[Any]:
    """Pixels of a region (y, x) of any image HDU, by astropy, from a copy of this one HDU in memory.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where astropy fails, or `check_decodable` refuses the HDU.
    """
    check_decodable(read, hdu, max_bytes)
    raw = read(hdu.start, hdu.end - hdu.start)
    raw += b"\0" * (-len(raw) % BLOCK_BYTES)
    if hdu.index:
        raw = fits.PrimaryHDU().header.tostring().encode("ascii") + raw
    try:
        with warnings.catch_warnings():
            # What astropy warns of (unusual cards) is either harmless here or was checked before.
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(raw), memmap=False) as hdulist:
                image = hdulist[1 if hdu.index else 0]
                whole = region == (slice(None), slice(None))
                pixels = np.array(image.data if whole else image.section[region])
    except Exception as error:  # astropy raises nearly every type on a damaged file
        raise _unreadable(f"astropy cannot decode HDU {hdu.index}: {type(error).__name__}: {error}") from None
    if pixels.ndim != 2 or pixels.dtype.kind not in "fiu":
        raise _unreadable(f"HDU {hdu.index} decodes to {pixels.dtype} of shape {pixels.shape}, not to an image")
    return pixels


def check_decodable(read: Reader, hdu: Hdu, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Refuse a compressed image whose header and table do not fit each other, before any decompressor sees it.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE for an unknown algorithm, more than ``max_bytes`` of pixels, tiles that do not add up, tile
        bytes that lie outside of the file, or a tile that unpacks to more than it may.
    """
    if not hdu.compressed:
        return
    cards = hdu.cards
    algorithm = card_text(cards, "ZCMPTYPE")
    n_rows, row_bytes = (*hdu.shape, 0, 0)[:2]
    n_y, n_x = (*hdu.image_shape, 0, 0)[:2]
    tile_x = _positive_int(cards, "ZTILE1") if b"ZTILE1  " in cards else n_x
    tile_y = _positive_int(cards, "ZTILE2") if b"ZTILE2  " in cards else 1
    bitpix = card_number(cards, "ZBITPIX")
    if algorithm not in _DECODED_BY_ASTROPY:
        raise _unreadable(f"HDU {hdu.index} is compressed with {algorithm!r}: re-compress with RICE_1 or GZIP_2")
    if bitpix not in (8, 16, 32, 64, -32, -64) or n_x * n_y * abs(bitpix) / 8 > max_bytes:
        raise _unreadable(f"HDU {hdu.index} unpacks to {n_x} x {n_y} px of ZBITPIX {bitpix}: above {max_bytes} bytes")
    if not (0 < tile_x <= n_x and 0 < tile_y <= n_y) or n_rows != -(-n_x // tile_x) * -(-n_y // tile_y):
        raise _unreadable(
            f"HDU {hdu.index} has {n_rows} tiles of {tile_x} x {tile_y} px for an image of {n_x} x {n_y} px"
        )
    table = read(hdu.data_start, hdu.data_bytes)
    tile_bytes = tile_x * tile_y * 8
    for name, offset, wide, item_bytes in _tile_columns(cards, row_bytes, hdu.index):
        spans = _heap_spans(table, n_rows, row_bytes, offset, wide, cards)
        spans[:, 1] *= item_bytes
        if (spans < 0).any() or (spans[:, 0] + spans[:, 1] > len(table)).any():
            raise _unreadable(f"HDU {hdu.index} has compressed tiles that lie outside of its data")
        _check_tiles(table, spans, name, algorithm, tile_bytes, hdu.index)
    _check_rice(cards, algorithm, hdu.index)


def _check_rice(cards: Cards, algorithm: bytes, index: int) -> None:
    if not algorithm.startswith(b"RICE"):
        return
    for number in range(1, 10):
        name, value = card_text(cards, f"ZNAME{number}"), card_number(cards, f"ZVAL{number}")
        if (name or b"").upper() == b"BLOCKSIZE" and value not in (16, 32, 64, 128, 256):
            raise _unreadable(f"HDU {index} has a RICE block size of {value}")
        if (name or b"").upper() == b"BYTEPIX" and value not in (1, 2, 4):
            raise _unreadable(f"HDU {index} has a RICE pixel size of {value} bytes")


def _tile_columns(cards: Cards, row_bytes: int, index: int) -> list[tuple[bytes, int, bool, int]]:
    """Variable-length columns of a compressed image: name, offset in a row, 64-bit descriptor, bytes an item."""
    widths = {b"L": 1, b"B": 1, b"A": 1, b"I": 2, b"J": 4, b"K": 8, b"E": 4, b"D": 8, b"P": 8, b"Q": 16}
    columns = []
    offset = 0
    for number in range(1, min(_positive_int(cards, "TFIELDS"), 999) + 1):
        form = card_text(cards, f"TFORM{number}") or b""
        digits = form[: len(form) - len(form.lstrip(b"0123456789"))]
        kind = form[len(digits) : len(digits) + 1]
        if kind not in widths or (kind in b"PQ" and digits not in (b"", b"1")):
            raise _unreadable(f"HDU {index} has a column of format {form!r}")
        if kind in b"PQ":
            item = widths.get(form[len(digits) + 1 : len(digits) + 2], 8)
            columns.append((card_text(cards, f"TTYPE{number}") or b"", offset, kind == b"Q", item))
        offset += widths[kind] * int(digits or b"1")
    if offset != row_bytes or not columns:
        raise _unreadable(f"HDU {index} has columns of {offset} bytes in rows of {row_bytes}")
    return columns


def _heap_spans(
    table: bytes, n_rows: int, row_bytes: int, offset: int, wide: bool, cards: Cards
) -> npt.NDArray[np.int64]:
    """Where each tile lies in the table's bytes: int64 (tile, [start in bytes, number of items])."""
    heap = _positive_int(cards, "THEAP") or n_rows * row_bytes
    rows = np.frombuffer(table, np.uint8, n_rows * row_bytes).reshape(n_rows, row_bytes)
    width = 16 if wide else 8
    descriptors = rows[:, offset : offset + width].copy().view(">i8" if wide else ">i4").astype(np.int64)
    # 2**48 lies beyond any file, yet sizes can be added to it without overflow.
    count, start = np.clip(descriptors, -(2**48), 2**48).T
    return np.stack([np.where(start < 0, start, start + min(heap, 2**48)), count], axis=1)


def _check_tiles(
    table: bytes,
    spans: npt.NDArray[np.int64],
    name: bytes,
    algorithm: bytes,
    tile_bytes: int,
    index: int,
) -> None:
    """Unpack the tiles of GZIP, the one algorithm whose tiles may unpack to any size."""
    if name == b"UNCOMPRESSED_DATA" or (name == b"COMPRESSED_DATA" and algorithm.startswith(b"RICE")):
        return
    for start, length in spans[spans[:, 1] > 0].tolist():
        tile = table[start : start + length]
        try:
            unpacker = zlib.decompressobj(31)
            unpacked = len(unpacker.decompress(tile, tile_bytes + 1))
        except zlib.error as error:
            raise _unreadable(f"HDU {index} has a damaged GZIP tile: {error}") from None
        if unpacked > tile_bytes or unpacker.unused_data:
            raise _unreadable(f"HDU {index} has a GZIP tile that unpacks to more than {tile_bytes} bytes")
