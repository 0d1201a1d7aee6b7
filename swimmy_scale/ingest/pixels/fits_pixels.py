"""Pixels of a FITS image: plain ones by NumPy, compressed ones by astropy after a check of every size in them."""

from __future__ import annotations

import io
import re
import warnings
import zlib

import numpy as np
from astropy.io import fits

from swimmy_scale.ingest.pixels.fits_scan import (
    BLOCK_BYTES,
    CARD_BYTES,
    MAX_FILE_BYTES,
    Cards,
    Hdu,
    Reader,
    card_number,
    card_text,
    is_plain,
    plain_type,
    positive_int,
    unreadable,
)
from swimmy_scale.method.survey import AnyArray, IntArray

# Without HCOMPRESS_1, whose decompressor writes beyond its memory on damaged tiles and so ends the process.
_DECODED_BY_ASTROPY = (b"RICE_1", b"RICE_ONE", b"GZIP_1", b"GZIP_2")
# Cards that say how bytes become pixels. astropy reads headers slowly, and surveys' own have hundreds of others.
_OF_PIXELS = re.compile(
    rb"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT|TFIELDS|T(TYPE|FORM|SCAL|ZERO|NULL|DIM)\d+|THEAP|BSCALE|BZERO"
    rb"|BLANK|Z[A-Z]+\d*"
)


def read_pixels(read: Reader, hdu: Hdu) -> AnyArray:
    """Pixels of an image HDU, with BSCALE, BZERO and BLANK applied.

    Returns
    -------
    ndarray, axes (y, x)
        Of the file's own type where it is plain, else float or integer as astropy gives it. NaN where the file has
        NaN or BLANK.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where the image is larger than `MAX_FILE_BYTES` or cannot be decoded.
    """
    if hdu.data_bytes > MAX_FILE_BYTES:
        raise unreadable(
            f"the image has {hdu.data_bytes} bytes, above the {MAX_FILE_BYTES} of a cutout: give coadds as such"
        )
    if is_plain(hdu):
        raw = read(hdu.data_start, hdu.data_bytes)
        if len(raw) < hdu.data_bytes:
            raise unreadable(f"cut off while it was read: {len(raw)} of {hdu.data_bytes} bytes of HDU {hdu.index}")
        return np.frombuffer(raw, plain_type(hdu)).reshape(hdu.shape)
    return decode_with_astropy(read, hdu, (slice(None), slice(None)))


def decode_with_astropy(
    read: Reader, hdu: Hdu, region: tuple[slice, slice], max_bytes: int = MAX_FILE_BYTES
) -> AnyArray:
    """Pixels of a region (y, x) of any image HDU, by astropy, from a copy of this one HDU in memory."""
    check_decodable(read, hdu, max_bytes)
    raw = _header_of_pixels(hdu) + read(hdu.data_start, hdu.end - hdu.data_start)
    raw += b"\0" * (-len(raw) % BLOCK_BYTES)
    if hdu.index:
        raw = fits.PrimaryHDU().header.tostring().encode("ascii") + raw
    try:
        # astropy warns of unusual cards, which are harmless here or were checked before.
        with warnings.catch_warnings(action="ignore"), fits.open(io.BytesIO(raw), memmap=False) as hdulist:
            image = hdulist[1 if hdu.index else 0]
            whole = region == (slice(None), slice(None))
            pixels = np.array(image.data if whole else image.section[region])
    except MemoryError:
        raise
    except Exception as error:  # on a damaged file astropy raises nearly any type
        raise unreadable(f"astropy cannot decode HDU {hdu.index}: {type(error).__name__}: {error}") from None
    if pixels.ndim != 2 or pixels.dtype.kind not in "fiu":
        raise unreadable(f"HDU {hdu.index} decodes to {pixels.dtype} of shape {pixels.shape}, not to an image")
    return pixels


def _header_of_pixels(hdu: Hdu) -> bytes:
    """A header of the cards that decoding needs."""
    cards = (hdu.header[at : at + CARD_BYTES] for at in range(0, len(hdu.header), CARD_BYTES))
    kept = b"".join(card for card in cards if _OF_PIXELS.fullmatch(card[:8].rstrip())) + b"END".ljust(CARD_BYTES)
    return kept.ljust(len(kept) + -len(kept) % BLOCK_BYTES)


def check_decodable(read: Reader, hdu: Hdu, max_bytes: int = MAX_FILE_BYTES) -> None:
    """Refuse a compressed image whose header and table contradict each other, before a decompressor sees it.

    Refused are an algorithm that is not read, more than ``max_bytes`` of pixels, tiles that do not add up to the image
    or lie outside of the data, and a tile that unpacks to more than its pixels.
    """
    if not hdu.compressed:
        return
    cards = hdu.cards
    algorithm = card_text(cards, "ZCMPTYPE")
    n_rows, row_bytes = (*hdu.shape, 0, 0)[:2]
    n_y, n_x = (*hdu.image_shape, 0, 0)[:2]
    tile_x = positive_int(cards, "ZTILE1") if b"ZTILE1  " in cards else n_x
    tile_y = positive_int(cards, "ZTILE2") if b"ZTILE2  " in cards else 1
    bitpix = card_number(cards, "ZBITPIX")
    if algorithm not in _DECODED_BY_ASTROPY:
        raise unreadable(f"HDU {hdu.index} is compressed with {algorithm!r}: re-compress with RICE_1 or GZIP_2")
    if bitpix not in (8, 16, 32, 64, -32, -64) or n_x * n_y * int(abs(bitpix)) > 8 * max_bytes:
        raise unreadable(f"HDU {hdu.index} unpacks to {n_x} x {n_y} px of ZBITPIX {bitpix}: above {max_bytes} bytes")
    if not (0 < tile_x <= n_x and 0 < tile_y <= n_y) or n_rows != -(-n_x // tile_x) * -(-n_y // tile_y):
        raise unreadable(
            f"HDU {hdu.index} has {n_rows} tiles of {tile_x} x {tile_y} px for an image of {n_x} x {n_y} px"
        )
    table = read(hdu.data_start, hdu.data_bytes)
    tile_bytes = tile_x * tile_y * 8
    for name, offset, wide, item_bytes in _tile_columns(cards, row_bytes, hdu.index):
        spans = _heap_spans(table, n_rows, row_bytes, offset, wide, cards)
        spans[:, 1] *= item_bytes
        if (spans < 0).any() or (spans[:, 0] + spans[:, 1] > len(table)).any():
            raise unreadable(f"HDU {hdu.index} has compressed tiles that lie outside of its data")
        _check_tiles(table, spans, name, algorithm, tile_bytes, hdu.index)
    if algorithm.startswith(b"RICE"):
        _check_rice(cards, hdu.index)


def _check_rice(cards: Cards, index: int) -> None:
    for number in range(1, 10):
        name, value = card_text(cards, f"ZNAME{number}"), card_number(cards, f"ZVAL{number}")
        if (name or b"").upper() == b"BLOCKSIZE" and value not in (16, 32, 64, 128, 256):
            raise unreadable(f"HDU {index} has a RICE block size of {value}")
        if (name or b"").upper() == b"BYTEPIX" and value not in (1, 2, 4):
            raise unreadable(f"HDU {index} has a RICE pixel size of {value} bytes")


def _tile_columns(cards: Cards, row_bytes: int, index: int) -> list[tuple[bytes, int, bool, int]]:
    """Columns of tiles: name, offset in a row in bytes, whether the descriptor is 64-bit, and bytes of an item."""
    widths = {b"L": 1, b"B": 1, b"A": 1, b"I": 2, b"J": 4, b"K": 8, b"E": 4, b"D": 8, b"P": 8, b"Q": 16}
    columns = []
    offset = 0
    for number in range(1, min(positive_int(cards, "TFIELDS"), 999) + 1):
        form = card_text(cards, f"TFORM{number}") or b""
        digits = form[: len(form) - len(form.lstrip(b"0123456789"))]
        kind = form[len(digits) : len(digits) + 1]
        if kind not in widths or (kind in b"PQ" and digits not in (b"", b"1")):
            raise unreadable(f"HDU {index} has a column of format {form!r}")
        if kind in b"PQ":
            item = widths.get(form[len(digits) + 1 : len(digits) + 2], 8)
            columns.append((card_text(cards, f"TTYPE{number}") or b"", offset, kind == b"Q", item))
        offset += widths[kind] * int(digits or b"1")
    if offset != row_bytes or not columns:
        raise unreadable(f"HDU {index} has columns of {offset} bytes in rows of {row_bytes}")
    return columns


def _heap_spans(table: bytes, n_rows: int, row_bytes: int, offset: int, wide: bool, cards: Cards) -> IntArray:
    """Where each tile lies in the table's bytes: int64 (tile, [start in bytes, number of items])."""
    heap = positive_int(cards, "THEAP") or n_rows * row_bytes
    rows = np.frombuffer(table, np.uint8, n_rows * row_bytes).reshape(n_rows, row_bytes)
    width = 16 if wide else 8
    descriptors = rows[:, offset : offset + width].copy().view(">i8" if wide else ">i4").astype(np.int64)
    # 2**48 is beyond any file, and sizes can still be added to it without overflow.
    count, start = np.clip(descriptors, -(2**48), 2**48).T
    return np.stack([np.where(start < 0, start, start + min(heap, 2**48)), count], axis=1)


def _check_tiles(
    table: bytes,
    spans: IntArray,
    name: bytes,
    algorithm: bytes,
    tile_bytes: int,
    index: int,
) -> None:
    """Unpack GZIP tiles, which alone may unpack to any size, and refuse those above ``tile_bytes``."""
    if name == b"UNCOMPRESSED_DATA" or (name == b"COMPRESSED_DATA" and algorithm.startswith(b"RICE")):
        return
    for start, length in spans[spans[:, 1] > 0].tolist():
        tile = table[start : start + length]
        try:
            unpacker = zlib.decompressobj(31)
            unpacked = len(unpacker.decompress(tile, tile_bytes + 1))
        except zlib.error as error:
            raise unreadable(f"HDU {index} has a damaged GZIP tile: {error}") from None
        if unpacked > tile_bytes or unpacker.unused_data:
            raise unreadable(f"HDU {index} has a GZIP tile that unpacks to more than {tile_bytes} bytes")
