"""Headers that are like those of a file before them: compared with it rather than parsed.

An archive writes the same cards in the same order into millions of files; only the values of some differ, and few of
those matter. What the parsers concluded from one file's headers holds for every file whose headers agree with it in
all that the parsers looked at, so such a file costs one comparison and the four numbers that place it on the sky.
A file that differs in anything else goes through the parsers, which alone tell what is wrong with a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swimmy_scale.ingest.pixels.fits_scan import CARD_BYTES, Hdu, is_plain, parse_number
from swimmy_scale.ingest.pixels.sky_map import WCS_NUMBERS, WCS_ORDERS, WCS_TEXTS, SkyMap

MAX_PATTERNS = 16
# Where every file is unlike all others, looking for likeness is given up.
MAX_FAILURES = 256

_PLACE = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2")
_STRUCTURE = {
    *("SIMPLE", "XTENSION", "BITPIX", "PCOUNT", "GCOUNT", "ZIMAGE", "EXTTYPE", "EXTNAME", "END"),
    *(f"{prefix}NAXIS{number}" for prefix in ("", "Z") for number in ("", *range(1, 1000))),
}
_VALUES = {*WCS_NUMBERS, *WCS_ORDERS, *WCS_TEXTS, "BSCALE", "BZERO", "BLANK", "FLUXMAG0", "MAGZERO", "PHOTZP"}
_CHECKSUMS = {b"CHECKSUM", b"DATASUM "}


class Headers(NamedTuple):
    """What the headers of one file say.

    Attributes
    ----------
    primary, image : Hdu
    sky : SkyMap or None
    zero_point_mag : float or None
    """

    primary: Hdu
    image: Hdu
    sky: SkyMap | None
    zero_point_mag: float | None


@dataclass(frozen=True)
class _Pattern:
    """Headers of one file, and which bytes of another file must agree with them.

    Attributes
    ----------
    n_bytes : int
        Of the whole file.
    blocks : tuple of (int, ndarray of uint64, bytes)
        Where a header begins, a mask with ones in the bits that must agree, and the header under that mask.
    headers : Headers
    place : tuple of (str, int)
        Keyword and position in the file of each card's value that places the image on the sky.
    has_checksums : bool
        Whether the two HDUs that are used carry checksums, which differ from file to file.
    """

    n_bytes: int
    blocks: tuple[tuple[int, npt.NDArray[np.uint64], bytes], ...]
    headers: Headers
    place: tuple[tuple[str, int], ...]
    has_checksums: bool

    def fits(self, data: bytes) -> bool:
        """Whether the parsers would conclude from a file what they concluded from this one, up to its place."""
        return len(data) == self.n_bytes and all(
            (np.frombuffer(data, np.uint64, len(mask), start) & mask).tobytes() == wanted
            for start, mask, wanted in self.blocks
        )

    def headers_of(self, data: bytes) -> Headers | None:
        """Headers of a file that fits; None where its place is none that `sky_map` takes."""
        headers = self.headers
        if headers.sky is not None:
            values = {keyword: parse_number(data[at : at + CARD_BYTES - 10]) for keyword, at in self.place}
            if not all(map(math.isfinite, values.values())) or abs(values.get("CRVAL2", 0.0)) >= 90.0:
                return None
            headers = headers._replace(sky=SkyMap({**headers.sky.values, **values}, simple=True))
        if self.has_checksums:
            primary, image = (
                replace(hdu, header=data[hdu.start : hdu.start + len(hdu.header)], _cards=None)
                for hdu in (headers.primary, headers.image)
            )
            headers = headers._replace(primary=primary, image=image)
        return headers


class HeaderPatterns:
    """Headers of the files that were met, of late."""

    def __init__(self) -> None:
        self._patterns: list[_Pattern] = []
        self._n_failures = 0

    def find(self, data: bytes) -> Headers | None:
        """Headers of a file that is like one before it.

        Parameters
        ----------
        data : bytes
            The whole file, unpacked.

        Returns
        -------
        Headers or None
            What `scan`, `find_image`, `sky_map` and `zero_point` return for it. None where only they can tell.
        """
        for position, pattern in enumerate(self._patterns):
            if pattern.fits(data):
                if position:
                    self._patterns.insert(0, self._patterns.pop(position))
                return pattern.headers_of(data)
        return None

    def learn(self, data: bytes, hdus: list[Hdu], headers: Headers) -> None:
        """Take a file as a pattern for those to come, if it has a plain image and a simple sky map or none.

        Parameters
        ----------
        data : bytes
            The whole file, unpacked.
        hdus : list of Hdu
            All of them, from `scan`.
        headers : Headers
            What the parsers said.
        """
        image, sky = headers.image, headers.sky
        if self._n_failures >= MAX_FAILURES or not is_plain(image) or not (sky is None or sky.simple):
            return
        if hdus[-1].end < len(data):
            return  # what lies behind the last HDU was looked at as well
        self._n_failures += len(self._patterns) == MAX_PATTERNS
        place = {} if sky is None else {k: at for k, at in _first_values(image) if k in _PLACE}
        blocks = tuple(_blocks(data, hdus, image, set(place.values())))
        has_checksums = any(not _CHECKSUMS.isdisjoint(hdu.cards) for hdu in (headers.primary, image))
        pattern = _Pattern(len(data), blocks, headers, tuple(place.items()), has_checksums)
        self._patterns = [pattern, *self._patterns[: MAX_PATTERNS - 1]]


def _first_values(hdu: Hdu) -> Iterator[tuple[str, int]]:
    """Keyword and position in the file of the value of each card that counts."""
    seen = set()
    for at in range(0, len(hdu.header), CARD_BYTES):
        keyword = hdu.header[at : at + 8]
        if keyword not in seen and hdu.header[at + 8 : at + 10] == b"= ":
            seen.add(keyword)
            yield keyword.decode("ascii", "replace").rstrip(), hdu.start + at + 10


def _blocks(
    data: bytes, hdus: list[Hdu], image: Hdu, free: set[int]
) -> Iterator[tuple[int, npt.NDArray[np.uint64], bytes]]:
    """Blocks of a pattern; ``free`` are the positions of values that may differ."""
    masks: dict[int, list[npt.NDArray[np.uint8]]] = {}
    start = end = 0
    for hdu in hdus:
        mask = _mask(hdu, hdu.index in (0, image.index))
        for at in free if hdu is image else ():
            mask[at - hdu.start : at - hdu.start + CARD_BYTES - 10] = 0
        # A header that follows one without data is compared together with it.
        start, end = (start if hdu.start == end else hdu.start), hdu.data_start
        masks.setdefault(start, []).append(mask)
    for start, parts in masks.items():
        words = np.concatenate(parts).view(np.uint64)
        yield start, words, (np.frombuffer(data, np.uint64, len(words), start) & words).tobytes()


def _mask(hdu: Hdu, is_used: bool) -> npt.NDArray[np.uint8]:
    """Bytes of a header that the parsers look at: all keywords, END, and the values of those that mean something."""
    mask = np.zeros(hdu.data_start - hdu.start, np.uint8)
    mask[: len(hdu.header) + CARD_BYTES] = 0xFF
    for at in range(0, len(hdu.header), CARD_BYTES):
        keyword = hdu.header[at : at + 8].decode("ascii", "replace").rstrip()
        if keyword not in _STRUCTURE and not (is_used and keyword in _VALUES):
            mask[at + 10 : at + CARD_BYTES] = 0
    return mask
