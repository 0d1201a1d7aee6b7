"""Files that hold all bands of an object: which image, or plane of an image, is that of a band."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

import numpy as np

from swimmy_scale.ingest.pixels.file_names import band_of
from swimmy_scale.ingest.pixels.fits_scan import (
    NOT_IMAGES,
    Hdu,
    Reader,
    UnusableFileError,
    card_text,
    find_image,
    is_plain,
    plain_type,
    unreadable,
)
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray, Survey


def image_of_band(hdus: list[Hdu], band: int, survey: Survey) -> tuple[Hdu, int | None]:
    """The HDU that holds a band, and the plane in it where it has three axes.

    A 2-D image says its band in FILTER, BAND, EXTNAME, BANDS or BAND0. An image of three axes (band, y, x) says those
    of its planes in BANDS (``grz``, or names with commas between), or in BAND0, BAND1 and so on.

    Raises
    ------
    UnusableFileError
        MISSING_BAND where no image says that it is of this band, NO_IMAGE_HDU where none says any.
    """
    said = []
    for hdu, planes in _images(hdus, survey):
        if band in planes:
            return hdu, planes.index(band) if len(hdu.image_shape) == 3 else None
        said += [survey.bands[number] for number in planes if number >= 0]
    if said:
        raise UnusableFileError(Code.MISSING_BAND, f"the file has the bands {', '.join(said)} only")
    raise UnusableFileError(
        Code.NO_IMAGE_HDU,
        f"no image among {len(hdus)} HDUs says its band in EXTNAME, FILTER, BAND or BANDS, and no cube those of its "
        "planes in BANDS",
    )


def any_image(hdus: list[Hdu], survey: Survey) -> Hdu:
    """An image of a file of one band or of several: what it says of its pixels holds for all of them.

    Raises
    ------
    UnusableFileError
        NO_IMAGE_HDU where there is none.
    """
    with_bands = (
        hdu for hdu, planes in _images(hdus, survey) if len(hdu.image_shape) == 3 and max(planes, default=-1) >= 0
    )
    return next(with_bands, None) or find_image(hdus)


def _images(hdus: list[Hdu], survey: Survey) -> Iterator[tuple[Hdu, list[int]]]:
    """Each image, and the bands of its planes; -1 for none of the survey's."""
    for hdu in hdus:
        shape = hdu.image_shape
        if 0 not in shape and len(shape) in (2, 3):
            yield hdu, _planes(hdu, survey) if len(shape) == 3 else [_band(hdu, survey)]


def read_plane(read: Reader, hdu: Hdu, plane: int) -> AnyArray:
    """Pixels, axes (y, x), of one plane of an image with three axes."""
    if not is_plain(hdu):
        raise unreadable(f"HDU {hdu.index} has three axes and is scaled or compressed: write it as floats")
    n_bytes = abs(hdu.bitpix) // 8 * prod(hdu.shape[1:])
    raw = read(hdu.data_start + plane * n_bytes, n_bytes)
    if len(raw) < n_bytes:
        raise unreadable(
            f"cut off while it was read: {len(raw)} of {n_bytes} bytes of plane {plane} in HDU {hdu.index}"
        )
    return np.frombuffer(raw, plain_type(hdu)).reshape(hdu.shape[1:])


def _band(hdu: Hdu, survey: Survey) -> int:
    """Band that a 2-D image says it is of; -1 for none, and for a mask or variance."""
    kinds = [(card_text(hdu.cards, keyword) or b"").upper() for keyword in ("EXTTYPE", "EXTNAME")]
    if any(NOT_IMAGES.intersection(re.split(rb"[^A-Z0-9]+", kind)) for kind in kinds):
        return -1
    for keyword in ("FILTER", "BAND", "EXTNAME", "BANDS", "BAND0"):
        name = (card_text(hdu.cards, keyword) or b"").decode("ascii", "replace")
        found = {band_of(part, survey) for part in (name, *re.split(r"[^A-Za-z0-9]+", name))} - {-1}
        if len(found) == 1:
            return found.pop()
    return -1


def _planes(hdu: Hdu, survey: Survey) -> list[int]:
    """Bands of the planes of an image with three axes; empty where it does not say them all."""
    n_planes = hdu.image_shape[0]
    text = (card_text(hdu.cards, "BANDS") or b"").decode("ascii", "replace")
    names = re.split(r"[,\s]+", text.strip()) if re.search(r"[,\s]", text.strip()) else list(text)
    if len(names) != n_planes:
        names = [
            (card_text(hdu.cards, f"BAND{number}") or b"").decode("ascii", "replace") for number in range(n_planes)
        ]
    return [band_of(name, survey) for name in names] if all(names) else []
