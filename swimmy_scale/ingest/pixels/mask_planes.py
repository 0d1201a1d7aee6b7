"""Masks that come with a FITS image: which of their planes mean that a pixel is bad, and whether one in the middle is.

Each bit of a mask is a plane, and its header names them: ``MP_BAD = 0`` in files of HSC and of Rubin's DP1, where the
number is that of the bit; ``MSKN0000 = 'BAD'`` and ``MSKM0000 = 1`` in those of DP2, where it is the bit's value.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import numpy as np

from swimmy_scale.ingest.pixels.fits_pixels import decode_with_astropy
from swimmy_scale.ingest.pixels.fits_scan import (
    NOT_IMAGES,
    Cards,
    Hdu,
    Reader,
    card_number,
    card_text,
    is_plain_of,
    plain_type,
    unreadable,
    verify_checksum,
)
from swimmy_scale.method.survey import AnyArray, BoolArray, Survey

HSC_BITS = {"BAD": 0, "SAT": 1, "NO_DATA": 8}
"""Planes that mean a bad pixel, and their bits in HSC's masks: those by which MultimodalUniverse makes its masks."""
BAD_PLANES = frozenset({*HSC_BITS, "SATURATED"})
"""Planes that mean a bad pixel, by the names of HSC and DP1, and of DP2."""
PLANE_CARDS = ("MP_", "HIERARCH MP_", "MSKN", "MSKM")
"""How the keywords begin of cards that name planes."""

_MASK_NAMES = {b"MASK", b"MSK", b"DQ"}
_BITPIX = (8, 16, 32, 64)
_MOST_BITS = 63


class Mask(NamedTuple):
    """A mask in a file.

    Attributes
    ----------
    hdu : Hdu
    bad : int or None
        Bits that mean a bad pixel; 0 where no plane does, None where the header names none.
    """

    hdu: Hdu
    bad: int | None


def find_masks(hdus: list[Hdu], image: Hdu) -> tuple[Mask, ...]:
    """The masks of an image: the HDUs called so that follow it, up to the next image.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where a plane's number is no bit.
    """
    masks = []
    for hdu in hdus[image.index + 1 :]:
        kinds = [(card_text(hdu.cards, keyword) or b"").upper() for keyword in ("EXTTYPE", "EXTNAME")]
        words = {word for kind in kinds for word in re.split(rb"[^A-Z0-9]+", kind)}
        if words & _MASK_NAMES:
            masks.append(Mask(hdu, _bad_bits(hdu)))
        elif len(hdu.image_shape) >= 2 and not words & NOT_IMAGES:
            break
    return tuple(masks)


def is_plain_mask(hdu: Hdu) -> bool:
    """Whether the bytes of an HDU are its pixels, whole numbers without scaling."""
    return is_plain_of(hdu, _BITPIX)


def without_names(masks: tuple[Mask, ...]) -> str:
    """Why masks are not used; empty where they are, and where there are none."""
    unnamed = next((mask.hdu.index for mask in masks if mask.bad is None), None)
    return "" if unnamed is None else f"no card MP_ or MSKN names the planes of the mask in HDU {unnamed}"


def calls_middle_bad(
    read: Reader, masks: tuple[Mask, ...], shape: tuple[int, ...], region: tuple[slice, slice], survey: Survey
) -> bool:
    """Whether masks call a pixel of the central aperture bad.

    Parameters
    ----------
    shape : tuple of int
        Axes (y, x) of the image.
    region : tuple of slice
        The part (y, x) of it that is the cutout.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where a mask is damaged, or not of the image's shape.
    """
    used = [mask for mask in masks if mask.bad]
    if not used:
        return False
    top, left, aperture = middle(survey)
    y, x = (
        slice(part.start + first, part.start + first + n)
        for part, first, n in zip(region, (top, left), aperture.shape, strict=True)
    )
    found = False
    for mask in used:
        check_shape(mask, shape)
        verify_checksum(read, mask.hdu)
        found |= calls_bad(mask, _pixels(read, mask.hdu, y, x), aperture)
    return found


@functools.lru_cache(maxsize=4)
def middle(survey: Survey) -> tuple[int, int, BoolArray]:
    """First row and column of the box around the central aperture of a cutout, and the aperture in that box."""
    aperture = survey.aperture()
    rows, columns = (np.flatnonzero(aperture.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    return top, left, aperture[top : rows[-1] + 1, left : columns[-1] + 1]


def check_shape(mask: Mask, shape: tuple[int, ...]) -> None:
    """Refuse a mask that is not of the shape of its image."""
    if mask.hdu.image_shape != shape:
        found = " x ".join(map(str, mask.hdu.image_shape[::-1])) or "no"
        raise unreadable(f"its mask in HDU {mask.hdu.index} has {found} px, and the image {shape[1]} x {shape[0]}")


def calls_bad(mask: Mask, pixels: AnyArray, aperture: BoolArray) -> bool:
    """Whether a pixel within the aperture has a bit that means a bad one; arrays of the same shape (y, x)."""
    if pixels.dtype.kind not in "iu" or pixels.shape != aperture.shape:
        raise unreadable(
            f"its mask in HDU {mask.hdu.index} decodes to {pixels.dtype} of shape {pixels.shape}, not to whole numbers "
            f"of shape {aperture.shape}"
        )
    return bool((pixels[aperture].astype(np.int64) & (mask.bad or 0)).any())


def _pixels(read: Reader, hdu: Hdu, y: slice, x: slice) -> AnyArray:
    """Pixels of a region of a mask; of a plain one only its rows are read."""
    if not is_plain_mask(hdu):
        return decode_with_astropy(read, hdu, (y, x))
    item = hdu.bitpix // 8
    stride = hdu.shape[1] * item
    n_bytes = (y.stop - y.start) * stride
    raw = read(hdu.data_start + y.start * stride, n_bytes)
    if len(raw) < n_bytes:
        raise unreadable(f"cut off while the mask in HDU {hdu.index} was read")
    return np.frombuffer(raw, plain_type(hdu)).reshape(-1, hdu.shape[1])[:, x]


def _bad_bits(hdu: Hdu) -> int | None:
    """Bits of the planes that mean a bad pixel; None where no card names a plane."""
    planes = _planes(hdu.cards)
    if not planes:
        return None
    bad = 0
    for name, value in planes.items():
        if name in BAD_PLANES:
            if not (0 < value < 2**_MOST_BITS and value == int(value)):
                raise unreadable(f"its mask in HDU {hdu.index} has a plane {name} that is no bit")
            bad |= int(value)
    return bad


def _planes(cards: Cards) -> dict[str, float]:
    """The value of each plane's bit, by its name; NaN where the header has no number for it."""
    planes = {}
    for keyword in cards:
        text = keyword.decode("ascii", "replace").strip()
        bare = text.removeprefix("HIERARCH ")
        if bare.startswith("MP_"):
            number = card_number(cards, text)
            is_bit = number is not None and 0 <= number < _MOST_BITS
            planes[bare[3:]] = 2.0**number if number is not None and is_bit else np.nan
        elif text.startswith("MSKN"):
            value = card_number(cards, f"MSKM{text[4:]}")
            planes[(card_text(cards, text) or b"").decode("ascii", "replace")] = np.nan if value is None else value
    return planes
