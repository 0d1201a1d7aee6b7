"""Bytes of one FITS file -> the cutout of one object in one band, in the survey's counts, or the reason why not."""

from __future__ import annotations

import gzip
import io
import math
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from swimmy_scale.ingest.fits_scan import (
    MAX_FILE_BYTES,
    Cards,
    UnusableFileError,
    card_number,
    card_text,
    find_image,
    read_pixels,
    scan,
    verify_checksum,
)
from swimmy_scale.quarantine import Code
from swimmy_scale.survey import FloatArray, Survey

Float64Array = npt.NDArray[np.float64]

ZERO_POINT_CARDS = ("FLUXMAG0", "MAGZERO", "PHOTZP")

_WCS_NUMBERS = (
    *("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2", "CROTA1", "CROTA2", "LONPOLE", "LATPOLE"),
    *("CD1_1", "CD1_2", "CD2_1", "CD2_2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "EQUINOX"),
    *(f"PV{axis}_{number}" for axis in (1, 2) for number in range(40)),
    *(f"{name}_{i}_{j}" for name in ("A", "B", "AP", "BP") for i in range(10) for j in range(10 - i)),
)
_WCS_ORDERS = ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER")
_WCS_TEXTS = ("CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "RADESYS", "RADECSYS")
# Cards that a plain TAN projection in ICRS does without.
_NOT_SIMPLE = {
    name.ljust(8).encode()
    for name in (*_WCS_ORDERS, "CROTA1", "CROTA2", "LATPOLE", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "CDELT1", "CDELT2")
}


@dataclass(frozen=True)
class SkyMap:
    """World coordinates of an image: from a position in the sky to a pixel.

    Attributes
    ----------
    values : dict of str to float or str
        The WCS cards, and none but those: nothing else of a header reaches astropy.
    simple : bool
        Whether this is a plain TAN projection with a CD matrix in ICRS, which needs no astropy.
    """

    values: dict[str, float | str]
    simple: bool

    def to_pixel(self, ra: Float64Array | float, dec: Float64Array | float) -> tuple[Float64Array, Float64Array]:
        """Pixel (x, y) of ICRS positions.

        Parameters
        ----------
        ra, dec : ndarray of float64 or float
            Degrees.

        Returns
        -------
        x, y : ndarray of float64
            0-based pixels, integers at pixel centres; NaN where a position cannot be projected.
        """
        if self.simple:
            return self._gnomonic(ra, dec)
        return self._by_astropy(ra, dec)

    def footprint(self, shape: tuple[int, int]) -> tuple[float, float, float]:
        """RA, Dec and radius, in degrees, of a circle on the sky that holds an image of axes (y, x)."""
        n_y, n_x = shape
        x = np.array([(n_x - 1) / 2, -1.0, n_x, -1.0, n_x, (n_x - 1) / 2, (n_x - 1) / 2, -1.0, n_x])
        y = np.array([(n_y - 1) / 2, -1.0, -1.0, n_y, n_y, -1.0, n_y, (n_y - 1) / 2, (n_y - 1) / 2])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sky = WCS(fits.Header(self.values)).pixel_to_world(x, y).icrs
            radius_deg = float(sky[0].separation(sky).deg.max())
        if not math.isfinite(radius_deg):
            # Part of the image is off the sky: nothing is ruled out.
            return 0.0, 0.0, 180.0
        return float(sky[0].ra.deg), float(sky[0].dec.deg), min(1.01 * radius_deg, 180.0)

    def _gnomonic(self, ra: Float64Array | float, dec: Float64Array | float) -> tuple[Float64Array, Float64Array]:
        """TAN projection (Calabretta and Greisen 2002, A&A 395, 1077, section 5.1.3, with LONPOLE = 180).

        D = sin d sin d0 + cos d cos d0 cos(a - a0),
        X = cos d sin(a - a0) / D, Y = (sin d cos d0 - cos d sin d0 cos(a - a0)) / D, in radians;
        pixel - CRPIX = CD^-1 (X, Y) in degrees.
        """
        value: dict[str, Any] = self.values
        delta = np.radians(np.asarray(ra, np.float64) - value["CRVAL1"])
        dec = np.radians(np.asarray(dec, np.float64))
        dec_0 = math.radians(value["CRVAL2"])
        sin_dec, cos_dec, cos_delta = np.sin(dec), np.cos(dec), np.cos(delta)
        depth = sin_dec * math.sin(dec_0) + cos_dec * math.cos(dec_0) * cos_delta
        # The other half of the sky has no image.
        scale = np.degrees(1.0) / np.where(depth > 0, depth, np.nan)
        x = cos_dec * np.sin(delta) * scale
        y = (sin_dec * math.cos(dec_0) - cos_dec * math.sin(dec_0) * cos_delta) * scale
        a, b, c, d = value["CD1_1"], value["CD1_2"], value["CD2_1"], value["CD2_2"]
        determinant = a * d - b * c
        return (
            (d * x - b * y) / determinant + value["CRPIX1"] - 1.0,
            (a * y - c * x) / determinant + value["CRPIX2"] - 1.0,
        )

    def _by_astropy(self, ra: Float64Array | float, dec: Float64Array | float) -> tuple[Float64Array, Float64Array]:
        shape = np.shape(ra)
        x = y = np.full(shape, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wcs = WCS(fits.Header(self.values))
                x, y = wcs.world_to_pixel(SkyCoord(ra, dec, unit="deg", frame="icrs"))
            except Exception:
                # wcslib and astropy raise many types here; all mean that there is no pixel.
                return x, y
        return np.asarray(x, np.float64), np.asarray(y, np.float64)


def sky_map(cards: Cards) -> SkyMap | None:
    """World coordinates of an image header.

    Returns
    -------
    SkyMap or None
        None where the header has no celestial WCS or one that astropy does not accept.
    """
    types = [(card_text(cards, f"CTYPE{axis}") or b"").decode("ascii", "replace") for axis in (1, 2)]
    if not all("-" in kind for kind in types):
        return None
    simple = types == ["RA---TAN", "DEC--TAN"] and _is_simple(cards)
    if simple:
        keys = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
        numbers = {key: card_number(cards, key) for key in keys}
        filled = {key: 0.0 if number is None else number for key, number in numbers.items()}
        determinant = filled["CD1_1"] * filled["CD2_2"] - filled["CD1_2"] * filled["CD2_1"]
        usable = all(map(math.isfinite, filled.values())) and abs(filled["CRVAL2"]) < 90.0
        if usable and determinant != 0.0 and math.isfinite(1.0 / determinant):
            return SkyMap({"CTYPE1": types[0], "CTYPE2": types[1], **filled}, simple=True)
        return None
    return _general_sky_map(cards)


def _is_simple(cards: Cards) -> bool:
    if b"CD1_1   " not in cards or not _NOT_SIMPLE.isdisjoint(cards):
        return False
    if card_number(cards, "LONPOLE") not in (None, 180.0) or any(key.startswith(b"PV") for key in cards):
        return False
    if any((card_text(cards, f"CUNIT{axis}") or b"deg") != b"deg" for axis in (1, 2)):
        return False
    frame = card_text(cards, "RADESYS")
    # Without RADESYS an EQUINOX means FK5 (FITS 4.0, section 8.3).
    return frame == b"ICRS" or (frame is None and b"EQUINOX " not in cards and b"RADECSYS" not in cards)


def _general_sky_map(cards: Cards) -> SkyMap | None:
    values: dict[str, float | str] = {}
    for keyword in _WCS_TEXTS:
        text = card_text(cards, keyword)
        if text is not None:
            values[keyword] = text.decode("ascii", "replace")
    for keyword in _WCS_NUMBERS + _WCS_ORDERS:
        number = card_number(cards, keyword)
        if number is not None:
            values[keyword] = number
    for keyword in _WCS_ORDERS:
        order = values.get(keyword, 0.0)
        # A distortion polynomial's order is a size that astropy would allocate.
        if not isinstance(order, float) or not 0.0 <= order <= 9.0:
            return None
        if keyword in values:
            values[keyword] = int(order)
    if not all(math.isfinite(value) for value in values.values() if not isinstance(value, str)):
        return None
    if "A_ORDER" in values or "B_ORDER" in values:
        # astropy applies the distortion with or without this suffix, but without it says so for every file.
        for keyword in ("CTYPE1", "CTYPE2"):
            values[keyword] = str(values[keyword]).removesuffix("-SIP") + "-SIP"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not WCS(fits.Header(values)).has_celestial:
                return None
    except Exception:
        # wcslib and astropy raise many types here; all mean that this is no usable WCS.
        return None
    return SkyMap(values, simple=False)


def zero_point(image_cards: Cards, primary_cards: Cards) -> float | None:
    """AB zero point that a file states for its counts.

    Returns
    -------
    float or None
        2.5 log10(FLUXMAG0), or MAGZERO, or PHOTZP, in mag: the first of these that stands in the image's
        header or the primary one. None where none does.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where the card's value cannot be a zero point.
    """
    for keyword in ZERO_POINT_CARDS:
        for cards in (image_cards, primary_cards):
            value = card_number(cards, keyword)
            if value is None:
                continue
            is_flux = keyword == "FLUXMAG0"
            if not math.isfinite(value) or (is_flux and value <= 0) or (not is_flux and abs(value) > 60):
                raise UnusableFileError(Code.UNREADABLE_FILE, f"{keyword} = {value} is not a zero point")
            return 2.5 * math.log10(value) if is_flux else value
    return None


def flux_scale(zero_point_mag: float | None, survey: Survey) -> np.float32:
    """Factor 10**(0.4 (survey - file)) that brings a file's counts to the survey's zero point; 1 for None."""
    if zero_point_mag is None:
        return np.float32(1.0)
    return np.float32(10.0 ** (0.4 * (survey.zero_point_mag - zero_point_mag)))


def first_pixel(position: Float64Array | float, size_px: int) -> npt.NDArray[np.int64]:
    """First pixel of the cutout of ``size_px`` pixels that centres a position best along one axis.

    The centre of the cutout is first + (size_px - 1) / 2: 31.5 for 64 px. The integer that brings it nearest to
    the position is ceil(position - size_px / 2); of two as near, the lower is taken.
    """
    # A millionth of a pixel: bands that share their pixel grid must not part over rounding at a tie.
    first: npt.NDArray[np.int64] = np.ceil(np.round(np.asarray(position) - size_px / 2.0, 6)).astype(np.int64)
    return first


def crop(shape: tuple[int, ...], sky: SkyMap | None, ra: float, dec: float, size_px: int) -> tuple[slice, slice]:
    """Region (y, x) of an image that is the cutout of the object.

    An axis of just ``size_px`` pixels is taken as it is. A longer one is cut around the pixel nearest to the
    object where the image has a WCS, and around its middle where not. The archive cuts at whole pixels, so a
    cutout may miss one pixel on one side: then the object lies up to 1.5 px from the centre.

    Raises
    ------
    UnusableFileError
        WRONG_SHAPE where the image or what surrounds the object in it is too small, POSITION_OUTSIDE where the
        object is not in the image.
    """
    n_y, n_x = shape
    if n_y < size_px or n_x < size_px:
        raise UnusableFileError(
            Code.WRONG_SHAPE, f"the image has {n_x} x {n_y} px (x, y), {size_px} x {size_px} are needed"
        )
    position = (math.nan, math.nan)
    if sky is not None and math.isfinite(ra) and math.isfinite(dec):
        x, y = sky.to_pixel(ra, dec)
        position = (float(x), float(y))
        if not (-0.5 <= position[0] <= n_x - 0.5 and -0.5 <= position[1] <= n_y - 0.5):
            raise UnusableFileError(
                Code.POSITION_OUTSIDE,
                f"the object at RA {ra:.6f}, Dec {dec:.6f} falls on pixel ({position[0]:.1f}, {position[1]:.1f}) "
                f"(x, y) of an image of {n_x} x {n_y} px",
            )
    region = []
    for length, pixel in ((n_y, position[1]), (n_x, position[0])):
        first = (length - size_px) // 2
        if length > size_px and math.isfinite(pixel):
            first = int(first_pixel(pixel, size_px))
            missing = max(-first, first + size_px - length)
            if missing > 1:
                raise UnusableFileError(
                    Code.WRONG_SHAPE,
                    f"the image has {n_x} x {n_y} px (x, y) with the object at ({position[0]:.1f}, {position[1]:.1f}): "
                    f"{missing} px are missing for {size_px} x {size_px} px around it",
                )
            first = min(max(first, 0), length - size_px)
        region.append(slice(first, first + size_px))
    return region[0], region[1]


def check_finite(pixels: npt.NDArray[Any]) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    UnusableFileError
        NOT_FINITE_PIXELS, with their number and the first of them.
    """
    # A sum is finite only if every term is; it costs a third of isfinite over all pixels.
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(float(np.sum(pixels, dtype=np.float64))):
            return
    finite = np.isfinite(pixels)
    if not finite.all():
        bad = np.argwhere(~finite)
        first_y, first_x = bad[0]
        raise UnusableFileError(
            Code.NOT_FINITE_PIXELS,
            f"{len(bad)} of {pixels.size} pixels are NaN or infinite, the first at ({first_x}, {first_y}) (x, y)",
        )


def unpack(data: bytes) -> bytes:
    """Bytes of a FITS file that may be gzipped.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where the gzip stream is damaged or holds more than 512 MiB.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnusableFileError(Code.UNREADABLE_FILE, f"damaged gzip: {error}") from None
    if len(unpacked) > MAX_FILE_BYTES:
        raise UnusableFileError(Code.UNREADABLE_FILE, f"unpacks to more than {MAX_FILE_BYTES} bytes")
    return unpacked


def read_cutout(data: bytes, ra: float, dec: float, survey: Survey, out: FloatArray) -> bool:
    """Bring one file's bytes into one plane of the cube.

    Parameters
    ----------
    data : bytes
        A FITS file, gzipped or not. The image HDU is chosen by `find_image`.
    ra, dec : float
        ICRS position of the object, degrees; used where the image is larger than a cutout, and to check that the
        object is in the image. NaN for unknown: then the middle is taken.
    survey : Survey
    out : ndarray of float32, shape (cutout_size_px, cutout_size_px), axes (y, x)
        Receives counts at the survey's zero point. Its content is undefined when a fault is raised.

    Returns
    -------
    bool
        Whether the file states its own zero point. Where it does not, the survey's is assumed.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE, NO_IMAGE_HDU, WRONG_SHAPE, POSITION_OUTSIDE or NOT_FINITE_PIXELS.
    """
    data = unpack(data)

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    hdus = scan(read, len(data))
    hdu = find_image(hdus)
    verify_checksum(read, hdus[0])
    if hdu.index:
        verify_checksum(read, hdu)
    region = crop(hdu.image_shape, sky_map(hdu.cards), ra, dec, survey.cutout_size_px)
    own_zero_point = zero_point(hdu.cards, hdus[0].cards)
    pixels = read_pixels(read, hdu)
    if pixels.shape != hdu.image_shape:
        raise UnusableFileError(
            Code.UNREADABLE_FILE, f"the image decodes to {pixels.shape} px, not to {hdu.image_shape}"
        )
    scale_into(pixels[region], flux_scale(own_zero_point, survey), out)
    return own_zero_point is not None


def scale_into(pixels: npt.NDArray[Any], scale: np.float32, out: FloatArray) -> None:
    """``out`` = pixels * scale in float32, finite.

    Raises
    ------
    UnusableFileError
        NOT_FINITE_PIXELS where a pixel is not finite, or is beyond float32 after scaling.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        out[...] = pixels
        if scale != 1.0:
            out *= scale
    check_finite(out)
