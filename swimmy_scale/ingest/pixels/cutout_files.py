"""From the bytes of one FITS file to the cutout of one object in one band, or the reason why there is none."""

from __future__ import annotations

import functools
import gzip
import io
import math
import zlib
from typing import NamedTuple

import numpy as np

from swimmy_scale.ingest.pixels.band_images import image_of_band, read_plane
from swimmy_scale.ingest.pixels.fits_pixels import read_pixels
from swimmy_scale.ingest.pixels.fits_scan import (
    GZIP_MAGIC,
    MAX_FILE_BYTES,
    Hdu,
    UnusableFileError,
    find_image,
    reader_of,
    scan,
    unreadable,
    verify_checksum,
)
from swimmy_scale.ingest.pixels.flux_units import asinh_scale, zero_point
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns, Headers
from swimmy_scale.ingest.pixels.mask_planes import calls_middle_bad, find_masks, without_names
from swimmy_scale.ingest.pixels.sky_map import SkyMap, sky_map
from swimmy_scale.method.no_data import without_data
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, Survey


class Found(NamedTuple):
    """What came of reading one object in one band.

    Attributes
    ----------
    error : UnusableFileError or None
        Why there is no cutout.
    partly_empty : bool
        Whether pixels outside of the central aperture hold no data.
    states_zero_point : bool
        Whether the file states its own zero point. If not, the survey's is assumed.
    digest : bytes
        SHA-256 of what was read; empty where nothing was.
    fwhm_arcsec : float
        Of the PSF that the file holds, if it was asked for; NaN otherwise.
    psf_fault : str
        Why the PSF that it holds cannot be used.
    masked : bool
        Whether the file's mask calls a pixel of the central aperture bad.
    mask_unused : str
        Why the mask that it holds is not used.
    """

    error: UnusableFileError | None = None
    partly_empty: bool = False
    states_zero_point: bool = True
    digest: bytes = b""
    fwhm_arcsec: float = math.nan
    psf_fault: str = ""
    masked: bool = False
    mask_unused: str = ""


def zero_point_factor(zero_point_mag: float | None, survey: Survey, band: int | None = None) -> np.float32:
    """Factor 10**(0.4 (survey - file)) that brings a file's counts to the survey's zero point.

    If the file states none, the survey's for files of the band is taken, or the survey's own without a band.
    """
    if zero_point_mag is None:
        zero_point_mag = survey.zero_point_mag if band is None else survey.assumed_zero_points_mag[band]
    return np.float32(10.0 ** (0.4 * (survey.zero_point_mag - zero_point_mag)))


def first_pixel(position: DoubleArray | float, size_px: int) -> IntArray:
    """First pixel, along one axis, of the cutout of ``size_px`` pixels whose centre is nearest to a position.

    The centre of the cutout is first + (size_px - 1) / 2: 31.5 for 64 px. The integer that brings it nearest to
    the position is ceil(position - size_px / 2); the lower one of two that are equally near.
    """
    # Rounded to a millionth of a pixel, so that bands of one pixel grid are not cut differently at a tie.
    return np.asarray(np.ceil(np.round(np.asarray(position) - size_px / 2.0, 6)).astype(np.int64))


def crop(
    shape: tuple[int, ...], sky: SkyMap | None, ra: float, dec: float, size_px: int, most_off_px: float = math.inf
) -> tuple[slice, slice]:
    """Region (y, x) of an image that is the cutout of the object.

    An axis of exactly ``size_px`` pixels is taken as it is, if the object is within ``most_off_px`` of its middle. A
    longer one is cut around the pixel nearest to the object if the image has a WCS, else around its middle. The archive
    cuts at whole pixels, so a cutout may lack one pixel on one side: then the object lies up to 1.5 px from the centre.

    Raises
    ------
    UnusableFileError
        WRONG_SHAPE where the image, or the part of it around the object, is too small; POSITION_OUTSIDE where the
        object is not in the image, or off the middle of one of the right size.
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
        elif abs(pixel - (length - 1) / 2) > most_off_px and length == size_px:
            raise UnusableFileError(
                Code.POSITION_OUTSIDE,
                f"the object at RA {ra:.6f}, Dec {dec:.6f} falls on pixel ({x:.1f}, {y:.1f}) (x, y) of an image of "
                f"{n_x} x {n_y} px, outside of the central aperture",
            )
        region.append(slice(first, first + size_px))
    return region[0], region[1]


def unpacked(data: bytes) -> bytes:
    """Bytes of a FITS file, unpacked if they are gzipped."""
    if data[:2] != GZIP_MAGIC:
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(f"damaged gzip: {error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise unreadable(f"unpacks to more than {MAX_FILE_BYTES} bytes")
    return content


def read_cutout(
    data: bytes,
    ra: float,
    dec: float,
    survey: Survey,
    out: FloatArray,
    patterns: HeaderPatterns | None = None,
    band: int | None = None,
    has_all_bands: bool = True,
    reads_psf: bool = False,
) -> Found:
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
    band : int, optional
        Which of the survey's bands to read.
    has_all_bands : bool
        Whether the file has other bands as well, so that its image is to be chosen by `image_of_band`.
    reads_psf : bool
        Whether to measure the PSF that the file holds.

    Returns
    -------
    Found
        Without an error and a digest.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE, NO_IMAGE_HDU, WRONG_SHAPE, POSITION_OUTSIDE, WRONG_PIXEL_SCALE, WRONG_UNIT, NOT_FINITE_PIXELS
        or NO_DATA.
    """
    data = unpacked(data)
    read = reader_of(data)
    patterns = patterns if band is None or not has_all_bands else None
    known = patterns.find(data) if patterns is not None else None
    hdus = [] if known else scan(read, len(data))
    plane = None
    if known:
        hdu, first = known.image, known.primary
    elif band is None or not has_all_bands:
        hdu, first = find_image(hdus), hdus[0]
    else:
        (hdu, plane), first = image_of_band(hdus, band, survey), hdus[0]
    shape = hdu.image_shape[-2:]
    verify_checksum(read, first)
    if hdu.index:
        verify_checksum(read, hdu)
    sky = known.sky if known else sky_map(hdu.header)
    if not known:
        check_pixel_scale(sky, survey)
    region = crop(shape, sky, ra, dec, survey.cutout_size_px, survey.aperture_diameter_px / 2.0)
    own_zero_point = known.zero_point_mag if known else zero_point(hdu.cards, first.cards)
    asinh = known.asinh if known else asinh_scale(hdu.cards, first.cards)
    masks = known.masks if known else find_masks(hdus, hdu)
    if patterns is not None and not known:
        patterns.learn(data, hdus, Headers(first, hdu, sky, own_zero_point, asinh, masks))
    pixels = read_pixels(read, hdu) if plane is None else read_plane(read, hdu, plane)
    if pixels.shape != shape:
        raise unreadable(f"the image decodes to {pixels.shape} px, not to {shape}")
    cut = pixels[region] if asinh is None else asinh.counts(pixels[region])
    partly_empty = scale_into(cut, zero_point_factor(own_zero_point, survey, band), out, survey)
    found = Found(partly_empty=partly_empty, states_zero_point=own_zero_point is not None)
    if masks:
        masked = calls_middle_bad(read, masks, shape, region, survey)
        found = found._replace(masked=masked, mask_unused=without_names(masks))
    return _with_psf(found, data, first, hdu, region, survey) if reads_psf else found


def _with_psf(found: Found, data: bytes, first: Hdu, hdu: Hdu, region: tuple[slice, slice], survey: Survey) -> Found:
    """The same with the FWHM of the file's PSF in the middle of the cutout."""
    from swimmy_scale.ingest.pixels.rubin_psf import psf_fwhm_px

    y, x = (part.start + survey.center_px for part in region)
    try:
        fwhm = psf_fwhm_px(data, first.cards, hdu.cards, x, y)
    except UnusableFileError as error:
        return found._replace(psf_fault=str(error))
    return found if fwhm is None else found._replace(fwhm_arcsec=fwhm * survey.pixel_scale_arcsec)


def check_pixel_scale(sky: SkyMap | None, survey: Survey) -> None:
    """Refuse an image whose pixels are larger or smaller than the survey's by more than its tolerance."""
    if sky is None:
        return
    wanted = survey.pixel_scale_arcsec
    scales = sky.pixel_scales_arcsec()
    if max(abs(scale / wanted - 1.0) for scale in scales) > survey.pixel_scale_tolerance:
        x, y = scales
        found = f"{x:.4g}" if abs(x / y - 1.0) < 1e-3 else f"{x:.4g} x {y:.4g}"
        raise UnusableFileError(
            Code.WRONG_PIXEL_SCALE,
            f"its pixels are {found} arcsec, survey.pixel_scale_arcsec is {wanted:g} and pixel_scale_tolerance "
            f"{survey.pixel_scale_tolerance:g}",
        )


@functools.lru_cache(maxsize=4)
def _aperture(survey: Survey) -> BoolArray:
    return survey.aperture()


def scale_into(pixels: AnyArray, scale: np.float32, out: FloatArray, survey: Survey) -> bool:
    """``out`` = pixels * scale in float32.

    Returns
    -------
    bool
        Whether pixels outside of the central aperture hold no data (see `without_data`).

    Raises
    ------
    UnusableFileError
        NOT_FINITE_PIXELS where a pixel is not finite, or is beyond float32 after scaling; NO_DATA where one in the
        aperture holds none.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        out[...] = pixels
        if scale != 1.0:
            out *= scale
        # If the sum is finite, so is every pixel; that costs less than isfinite over all of them.
        is_finite = math.isfinite(float(out.sum()))
    bad = np.empty(0) if is_finite else np.argwhere(~np.isfinite(out))
    if len(bad):
        first_y, first_x = bad[0]
        raise UnusableFileError(
            Code.NOT_FINITE_PIXELS,
            f"{len(bad)} of {out.size} pixels are NaN or infinite, the first at ({first_x}, {first_y}) (x, y)",
        )
    empty = without_data(out)
    if empty is None:
        return False
    aperture = _aperture(survey)
    n_empty = int(np.count_nonzero(empty & aperture))
    if n_empty:
        value = out[empty & aperture][0]
        raise UnusableFileError(
            Code.NO_DATA,
            f"{n_empty} of {np.count_nonzero(aperture)} pixels of the central aperture hold no data, but {value:g} "
            f"like {np.count_nonzero(empty)} of all {out.size} pixels",
        )
    return True
