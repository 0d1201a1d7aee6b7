"""From the bytes of one FITS file to the cutout of one object in one band, or the reason why there is none."""

from __future__ import annotations

import gzip
import io
import math
import zlib

import numpy as np

from swimmy_scale.ingest.pixels.fits_pixels import read_pixels
from swimmy_scale.ingest.pixels.fits_scan import (
    MAX_FILE_BYTES,
    Cards,
    UnusableFileError,
    card_number,
    find_image,
    scan,
    unreadable,
    verify_checksum,
)
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns, Headers
from swimmy_scale.ingest.pixels.sky_map import SkyMap, sky_map
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray, DoubleArray, FloatArray, IntArray, Survey

ZERO_POINT_CARDS = ("FLUXMAG0", "MAGZERO", "PHOTZP")


def zero_point(image_cards: Cards, primary_cards: Cards) -> float | None:
    """AB zero point that a file states for its counts, in mag; None where it states none.

    It is 2.5 log10(FLUXMAG0), MAGZERO or PHOTZP: the first of these cards that the image's header or the primary one
    has. One whose value cannot be a zero point makes the file unreadable.
    """
    for keyword in ZERO_POINT_CARDS:
        for cards in (image_cards, primary_cards):
            value = card_number(cards, keyword)
            if value is None:
                continue
            is_flux = keyword == "FLUXMAG0"
            if not math.isfinite(value) or (is_flux and value <= 0) or (not is_flux and abs(value) > 60):
                raise unreadable(f"{keyword} = {value} is not a zero point")
            return 2.5 * math.log10(value) if is_flux else value
    return None


def zero_point_factor(zero_point_mag: float | None, survey: Survey) -> np.float32:
    """Factor 10**(0.4 (survey - file)) that brings a file's counts to the survey's zero point; 1 if it states none."""
    if zero_point_mag is None:
        return np.float32(1.0)
    return np.float32(10.0 ** (0.4 * (survey.zero_point_mag - zero_point_mag)))


def first_pixel(position: DoubleArray | float, size_px: int) -> IntArray:
    """First pixel, along one axis, of the cutout of ``size_px`` pixels whose centre is nearest to a position.

    The centre of the cutout is first + (size_px - 1) / 2: 31.5 for 64 px. The integer that brings it nearest to
    the position is ceil(position - size_px / 2); the lower one of two that are equally near.
    """
    # Rounded to a millionth of a pixel, so that bands of one pixel grid are not cut differently at a tie.
    return np.asarray(np.ceil(np.round(np.asarray(position) - size_px / 2.0, 6)).astype(np.int64))


def crop(shape: tuple[int, ...], sky: SkyMap | None, ra: float, dec: float, size_px: int) -> tuple[slice, slice]:
    """Region (y, x) of an image that is the cutout of the object.

    An axis of exactly ``size_px`` pixels is taken as it is. A longer one is cut around the pixel nearest to the
    object if the image has a WCS, else around its middle. The archive cuts at whole pixels, so a cutout may lack
    one pixel on one side: then the object lies up to 1.5 px from the centre.

    Raises
    ------
    UnusableFileError
        WRONG_SHAPE where the image, or the part of it around the object, is too small; POSITION_OUTSIDE where the
        object is not in the image.
    """
    n_y, n_x = shape
    if n_y < size_px or n_x < size_px:
        raise UnusableFileError(
            Code.WRONG_SHAPE, f"the image has {n_x} x {n_y} px (x, y), {size_px} x {size_px} are needed"
        )
    x = y = math.nan
    if sky is not None and math.isfinite(ra) and math.isfinite(dec):
        x, y = map(float, sky.to_pixel(ra, dec))
        if not (-0.5 <= x <= n_x - 0.5 and -0.5 <= y <= n_y - 0.5):
            raise UnusableFileError(
                Code.POSITION_OUTSIDE,
                f"the object at RA {ra:.6f}, Dec {dec:.6f} falls on pixel ({x:.1f}, {y:.1f}) (x, y) of an image of "
                f"{n_x} x {n_y} px",
            )
    region = []
    for length, pixel in ((n_y, y), (n_x, x)):
        first = (length - size_px) // 2
        if length > size_px and math.isfinite(pixel):
            first = int(first_pixel(pixel, size_px))
            missing = max(-first, first + size_px - length)
            if missing > 1:
                raise UnusableFileError(
                    Code.WRONG_SHAPE,
                    f"the image has {n_x} x {n_y} px (x, y) with the object at ({x:.1f}, {y:.1f}): "
                    f"{missing} px are missing for {size_px} x {size_px} px around it",
                )
            first = min(max(first, 0), length - size_px)
        region.append(slice(first, first + size_px))
    return region[0], region[1]


def _unpacked(data: bytes) -> bytes:
    """Bytes of a FITS file, unpacked if they are gzipped."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(f"damaged gzip: {error}") from None
    if len(unpacked) > MAX_FILE_BYTES:
        raise unreadable(f"unpacks to more than {MAX_FILE_BYTES} bytes")
    return unpacked


def read_cutout(
    data: bytes, ra: float, dec: float, survey: Survey, out: FloatArray, patterns: HeaderPatterns | None = None
) -> bool:
    """Read one file's bytes into one plane of the cube.

    Parameters
    ----------
    data : bytes
        A FITS file, gzipped or not. The image HDU is chosen by `find_image`.
    ra, dec : float
        ICRS position of the object, degrees, to cut a larger image and to check that the object is in it. NaN where
        unknown: then the middle is cut out.
    out : ndarray of float32, shape (cutout_size_px, cutout_size_px), axes (y, x)
        Receives counts at the survey's zero point. Its content is undefined after an error.
    patterns : HeaderPatterns, optional
        Headers of earlier files, which learn from this one. They save time and change nothing else.

    Returns
    -------
    bool
        Whether the file states its own zero point. If not, the survey's is assumed.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE, NO_IMAGE_HDU, WRONG_SHAPE, POSITION_OUTSIDE or NOT_FINITE_PIXELS.
    """
    data = _unpacked(data)

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    known = patterns.find(data) if patterns is not None else None
    hdus = [] if known else scan(read, len(data))
    hdu, first = (known.image, known.primary) if known else (find_image(hdus), hdus[0])
    verify_checksum(read, first)
    if hdu.index:
        verify_checksum(read, hdu)
    sky = known.sky if known else sky_map(hdu.cards)
    region = crop(hdu.image_shape, sky, ra, dec, survey.cutout_size_px)
    own_zero_point = known.zero_point_mag if known else zero_point(hdu.cards, first.cards)
    if patterns is not None and not known:
        patterns.learn(data, hdus, Headers(first, hdu, sky, own_zero_point))
    pixels = read_pixels(read, hdu)
    if pixels.shape != hdu.image_shape:
        raise unreadable(f"the image decodes to {pixels.shape} px, not to {hdu.image_shape}")
    scale_into(pixels[region], zero_point_factor(own_zero_point, survey), out)
    return own_zero_point is not None


def scale_into(pixels: AnyArray, scale: np.float32, out: FloatArray) -> None:
    """``out`` = pixels * scale in float32; refused where one is not finite, or is beyond float32 after scaling."""
    with np.errstate(over="ignore", invalid="ignore"):
        out[...] = pixels
        if scale != 1.0:
            out *= scale
        # If the sum is finite, so is every pixel; that costs less than isfinite over all of them.
        if math.isfinite(float(out.sum())):
            return
    bad = np.argwhere(~np.isfinite(out))
    if len(bad):
        first_y, first_x = bad[0]
        raise UnusableFileError(
            Code.NOT_FINITE_PIXELS,
            f"{len(bad)} of {out.size} pixels are NaN or infinite, the first at ({first_x}, {first_y}) (x, y)",
        )
