"""Headers that are like those of an earlier file: compared with it instead of parsed.

An archive writes the same cards in the same order into millions of files; only some values differ, and few of those
matter. What the parsers found in one file's headers holds for every file that agrees with it in each byte that they
look at. Such a file costs one comparison and the four numbers that place it on the sky. A file that differs anywhere
else goes through the parsers, which alone say what is wrong with a file.

For example, `HeaderPatterns.learn` is given a file with the image header below, and asks of the next file that it has
the same bytes wherever there is a ^::

    XTENSION= 'IMAGE   '        the structure of the file: keyword and value
    ^^^^^^^^^^^^^^^^^^^^
    CTYPE1  = 'RA---TAN'        a value that the parsers use
    ^^^^^^^^^^^^^^^^^^^^
    CRPIX1  =       32.5        a value that places the image: its keyword only
    ^^^^^^^^^^
    OBJECT  = 'a       '        a value that no parser looks at
    ^^^^^^^^^^

A second file with CRPIX1 = 33.0 and OBJECT = 'b' agrees, and `HeaderPatterns.find` returns the headers of the first
one, but with CRPIX1 = 33.0. A file with CTYPE1 = 'RA---SIN', with one more card, or of another length does not agree:
`find` returns None, the caller parses the file, and `learn` is given it as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swimmy_scale.ingest.pixels.fits_scan import (
    CARD_BYTES,
    VALUE_AT,
    Hdu,
    hierarch_name,
    in_capitals,
    is_plain,
    parse_number,
)
from swimmy_scale.ingest.pixels.flux_units import EXPOSURE_CARDS, EXPOSURE_ZERO_POINT, UNIT_CARDS, AsinhScale
from swimmy_scale.ingest.pixels.mask_planes import PLANE_CARDS, Mask, is_plain_mask
from swimmy_scale.ingest.pixels.sky_map import PLACING_CARDS, PLAIN_CARDS, SkyMap

MAX_PATTERNS = 16
# Where every file is unlike all others, nothing more is learnt.
MAX_PUSHED_OUT = 256

_VALUE_BYTES = CARD_BYTES - VALUE_AT
# Keywords whose values the parsers look at: in all HDUs, and in those that are used, the primary one and the image's.
_LOOKED_AT = {
    *("SIMPLE", "XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "ZIMAGE", "EXTTYPE", "EXTNAME", "END"),
    *(f"{prefix}NAXIS{number}" for prefix in ("", "Z") for number in ("", *range(1, 1000))),
}
_SCALING = ("BSCALE", "BZERO", "BLANK")
_LOOKED_AT_IF_USED = {
    *_LOOKED_AT,
    *PLAIN_CARDS,
    *_SCALING,
    *UNIT_CARDS,
}
_CHECKSUMS = {b"CHECKSUM", b"DATASUM "}


class Headers(NamedTuple):
    """What the parsers (`scan`, `find_image`, `find_masks`, `sky_map` and those of `flux_units`) found in one file."""

    primary: Hdu
    image: Hdu
    sky: SkyMap | None
    zero_point_mag: float | None
    asinh: AsinhScale | None = None
    masks: tuple[Mask, ...] = ()

    @property
    def used(self) -> list[Hdu]:
        """The HDUs whose checksums count."""
        return [self.primary, self.image, *(mask.hdu for mask in self.masks)]


class HeaderPatterns:
    """The headers of earlier files: the last `MAX_PATTERNS` kinds that were met."""

    def __init__(self) -> None:
        self._patterns: list[_Pattern] = []
        self._n_pushed_out = 0

    def find(self, data: bytes) -> Headers | None:
        """What the parsers would find in this (unpacked) file; None if only they can tell."""
        for position, pattern in enumerate(self._patterns):
            if pattern.agrees(data):
                if position:
                    self._patterns.insert(0, self._patterns.pop(position))
                return pattern.headers_of(data)
        return None

    def learn(self, data: bytes, hdus: list[Hdu], headers: Headers) -> None:
        """Take a file as a pattern for later ones, if image and masks are plain, and its sky map simple or none.

        ``data`` is the whole file, unpacked, ``hdus`` all of its HDUs, ``headers`` what the parsers found.
        """
        image, sky = headers.image, headers.sky
        if self._n_pushed_out >= MAX_PUSHED_OUT or not is_plain(image) or not (sky is None or sky.simple):
            return
        if not all(is_plain_mask(mask.hdu) for mask in headers.masks):
            return
        if hdus[-1].end < len(data):
            return  # the parsers also looked at what lies behind the last HDU
        self._n_pushed_out += len(self._patterns) == MAX_PATTERNS
        placing = {} if sky is None else _placing_offsets(image)
        masked: list[_Masked] = []
        for hdu in hdus:
            part = _masked_header(data, hdu, headers, placing)
            # Headers with no data between them are compared in one go.
            follows = bool(masked) and masked[-1].start + masked[-1].mask.nbytes == part.start
            masked.append(masked.pop().joined(part) if follows else part)
        pattern = _Pattern(
            n_bytes=len(data),
            masked=tuple(masked),
            headers=headers,
            placing=placing,
            has_checksums=any(not _CHECKSUMS.isdisjoint(hdu.cards) for hdu in (headers.primary, image)),
        )
        self._patterns = [pattern, *self._patterns[: MAX_PATTERNS - 1]]


class _Masked(NamedTuple):
    """What a header must agree in, eight bytes at a time: headers are whole blocks of 2880 bytes.

    Attributes
    ----------
    start : int
        Where the header begins in the file.
    mask : ndarray of uint64
        Ones in the bits that must agree.
    wanted : bytes
        The header under that mask.
    """

    start: int
    mask: npt.NDArray[np.uint64]
    wanted: bytes

    def joined(self, following: _Masked) -> _Masked:
        """This header and the one right behind it."""
        return _Masked(self.start, np.concatenate([self.mask, following.mask]), self.wanted + following.wanted)


@dataclass(frozen=True)
class _Pattern:
    """What the parsers found in one file, and what another file must agree in to get the same from them.

    Attributes
    ----------
    n_bytes : int
        Size of the file.
    masked : tuple of _Masked
        Of all HDUs.
    placing : dict of str to int
        Where in the file the values stand that place the image on the sky, by keyword.
    has_checksums : bool
        Whether an HDU that is used carries checksums, which differ from file to file.
    """

    n_bytes: int
    masked: tuple[_Masked, ...]
    headers: Headers
    placing: dict[str, int]
    has_checksums: bool

    def agrees(self, data: bytes) -> bool:
        """Whether the parsers would find the same in a file, but for its place on the sky."""
        return len(data) == self.n_bytes and all(
            (np.frombuffer(data, np.uint64, len(mask), start) & mask).tobytes() == wanted
            for start, mask, wanted in self.masked
        )

    def headers_of(self, data: bytes) -> Headers | None:
        """Headers of a file that agrees; None where `sky_map` would refuse its place on the sky."""
        headers = self.headers
        if headers.sky is not None:
            values = {keyword: parse_number(data[at : at + _VALUE_BYTES]) for keyword, at in self.placing.items()}
            if not all(map(math.isfinite, values.values())) or abs(values.get("CRVAL2", 0.0)) >= 90.0:
                return None
            headers = headers._replace(sky=SkyMap({**headers.sky.values, **values}))
        if self.has_checksums:
            primary, image, *masks = (
                replace(hdu, header=in_capitals(data[hdu.start : hdu.start + len(hdu.header)])) for hdu in headers.used
            )
            of_masks = tuple(mask._replace(hdu=hdu) for mask, hdu in zip(headers.masks, masks, strict=True))
            headers = headers._replace(primary=primary, image=image, masks=of_masks)
        return headers


def _masked_header(data: bytes, hdu: Hdu, headers: Headers, placing: dict[str, int]) -> _Masked:
    """All keywords and END of a header, and the values that the parsers look at, but for those of ``placing``."""
    is_image = hdu.index == headers.image.index
    looked_at = _LOOKED_AT_IF_USED if hdu.index == 0 or is_image else _LOOKED_AT
    exposure = EXPOSURE_ZERO_POINT.encode()
    if exposure in headers.primary.cards or exposure in headers.image.cards:
        looked_at = {*looked_at, *EXPOSURE_CARDS}
    is_mask = any(mask.hdu.index == hdu.index for mask in headers.masks)
    if is_mask:
        looked_at = {*looked_at, *_SCALING}
    must_agree = np.zeros(hdu.data_start - hdu.start, np.uint8)
    must_agree[: len(hdu.header) + CARD_BYTES] = 0xFF
    for at in range(0, len(hdu.header), CARD_BYTES):
        keyword, value_at = hdu.header[at : at + 8].rstrip(), VALUE_AT
        if keyword == b"HIERARCH":
            keyword, length = hierarch_name(hdu.header[at + 8 : at + CARD_BYTES])
            value_at = 8 + length if length else CARD_BYTES
        name = keyword.decode("ascii", "replace")
        if name not in looked_at and not (is_mask and name.startswith(PLANE_CARDS)):
            must_agree[at + value_at : at + CARD_BYTES] = 0
    for at in placing.values() if is_image else ():
        must_agree[at - hdu.start : at - hdu.start + _VALUE_BYTES] = 0
    mask = must_agree.view(np.uint64)
    return _Masked(hdu.start, mask, (np.frombuffer(data, np.uint64, len(mask), hdu.start) & mask).tobytes())


def _placing_offsets(hdu: Hdu) -> dict[str, int]:
    """Where in the file the values stand that place the image on the sky, by keyword; the first of equals counts."""
    offsets: dict[str, int] = {}
    for at in range(0, len(hdu.header), CARD_BYTES):
        keyword = hdu.header[at : at + 8].decode("ascii", "replace").rstrip()
        if keyword in PLACING_CARDS and hdu.header[at + 8 : at + VALUE_AT] == b"= ":
            offsets.setdefault(keyword, hdu.start + at + VALUE_AT)
    return offsets
