"""Coadd images with world coordinates, and the cutouts at the catalogue's positions in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.cutout_files import (
    Found,
    check_pixel_scale,
    first_pixel,
    scale_into,
    zero_point_factor,
)
from swimmy_scale.ingest.pixels.file_names import band_of
from swimmy_scale.ingest.pixels.fits_pixels import check_decodable, decode_with_astropy
from swimmy_scale.ingest.pixels.fits_scan import (
    Hdu,
    Reader,
    UnusableFileError,
    card_text,
    find_image,
    is_plain,
    open_reader,
    plain_type,
    scan,
    unreadable,
    verify_checksum,
    whatever_it_raises,
)
from swimmy_scale.ingest.pixels.flux_units import AsinhScale, asinh_scale, zero_point
from swimmy_scale.ingest.pixels.mask_planes import (
    Mask,
    calls_bad,
    check_shape,
    find_masks,
    is_plain_mask,
    middle,
    without_names,
)
from swimmy_scale.ingest.pixels.sky_map import SkyMap, sky_map
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, Survey

# A whole KiDS tile of 1 square degree takes 1.3 GiB.
MAX_COADD_BYTES = 16 * 2**30
MAX_BOX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Coadd:
    """A coadd image, as far as it must be known to find objects in it.

    Attributes
    ----------
    band : int
        Position on the survey's band axis.
    shape : tuple of int
        Axes (y, x).
    zero_point_mag : float or None
        None where the file states none.
    asinh : AsinhScale or None
        None where its pixels are linear in flux.
    """

    band: int
    shape: tuple[int, int]
    sky: SkyMap
    zero_point_mag: float | None
    asinh: AsinhScale | None = None

    @property
    def grid(self) -> tuple[object, ...]:
        """Equal for the images of one patch in all bands, which lie in the same place."""
        return self.shape, *(round(value, 6) for value in self.sky.footprint(self.shape))

    def place(self, ra: DoubleArray, dec: DoubleArray, size_px: int) -> tuple[IntArray, IntArray, IntArray, BoolArray]:
        """Where the cutouts of n objects lie in the image.

        Returns
        -------
        first_y, first_x : ndarray of int64, shape (n,)
            First pixel of each cutout.
        missing : ndarray of int64, shape (n,)
            By how many pixels it crosses the edge of the image at most; 0 where it lies inside.
        inside : ndarray of bool, shape (n,)
            Whether the object itself is in the image. The other values mean nothing where it is not.
        """
        x, y = self.sky.to_pixel(ra, dec)
        n_y, n_x = self.shape
        inside = (x >= -0.5) & (x <= n_x - 0.5) & (y >= -0.5) & (y <= n_y - 0.5)
        first_y, first_x = (first_pixel(np.where(inside, pixel, 0.0), size_px) for pixel in (y, x))
        beyond = np.stack([-first_y, first_y + size_px - n_y, -first_x, first_x + size_px - n_x])
        return first_y, first_x, np.maximum(beyond.max(axis=0), 0), inside


def band_from_name(path: str, filter_card: bytes | None, survey: Survey) -> int:
    """Band of a coadd by its FILTER card, else by its name if that names exactly one band; -1 for neither."""
    band = band_of(filter_card.decode("ascii", "replace"), survey) if filter_card else -1
    if band < 0:
        named = {band_of(part, survey) for part in re.split(r"[-_.,]", Path(path).name)} - {-1}
        band = named.pop() if len(named) == 1 else -1
    return band


def inspect_coadd(path: str, survey: Survey, band: str | None = None) -> Coadd:
    """Read a coadd's headers, and check its bytes against its checksum where it has one.

    Parameters
    ----------
    path : str
        FITS image, tile-compressed or not.
    band : str, optional
        Its band; by default that of the FILTER card or of the file's name.

    Raises
    ------
    SwimmyError
        When the file cannot be read, has no image, no usable WCS, or no known band.
    """
    hdus: list[Hdu] = []
    try:
        with whatever_it_raises(), open_reader(path) as (read, status):
            hdus = scan(read, status.st_size)
            hdu = find_image(hdus)
            check_decodable(read, hdu, MAX_COADD_BYTES)
            verify_checksum(read, hdu)
    except UnusableFileError as error:
        remedy = "Fetch the file again, or leave it out."
        if error.code is Code.NO_IMAGE_HDU and any(len(item.image_shape) > 2 for item in hdus):
            remedy = (
                "Write a cube of cutouts, with its object_id, to HDF5 or Zarr; of an image with several bands, one 2-D "
                "image a band."
            )
        raise SwimmyError(f"coadd {path}: {error}. {remedy}") from None
    try:
        with whatever_it_raises():
            zero_point_mag = zero_point(hdu.cards, hdus[0].cards)
            asinh = asinh_scale(hdu.cards, hdus[0].cards)
            sky = sky_map(hdu.header)
            check_pixel_scale(sky, survey)
    except UnusableFileError as error:
        raise SwimmyError(f"coadd {path}: {error}. Correct its header or the job, or leave the file out.") from None
    if sky is None:
        raise SwimmyError(
            f"coadd {path}: HDU {hdu.index} has no usable celestial WCS, so no position can be found in it. "
            "Add CTYPE, CRVAL, CRPIX and CD cards to its header."
        )
    filter_card = card_text(hdu.cards, "FILTER") or card_text(hdus[0].cards, "FILTER")
    if band is not None and band not in survey.bands:
        raise SwimmyError(f"coadd {path}: band {band!r} is not one of {survey.bands}. Name one of those.")
    position = survey.bands.index(band) if band is not None else band_from_name(path, filter_card, survey)
    if position < 0:
        raise SwimmyError(
            f"coadd {path}: neither its FILTER card ({filter_card!r}) nor its name says which of the bands "
            f"{survey.bands} it is. Give the band."
        )
    n_y, n_x = hdu.image_shape
    return Coadd(position, (n_y, n_x), sky, zero_point_mag, asinh)


def cut_out(
    path: str, coadd: Coadd, ra: DoubleArray, dec: DoubleArray, survey: Survey, plane: Callable[[int], FloatArray]
) -> list[Found]:
    """Cut n objects out of one coadd.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees.
    plane : callable
        For the number of an object, an array of float32, axes (y, x), that receives counts at the survey's zero point.

    Returns
    -------
    list of Found, one for each object
        With an error POSITION_OUTSIDE where a cutout crosses the edge, NOT_FINITE_PIXELS, NO_DATA, UNREADABLE_FILE; the
        digest is of the pixels as the file has them.
    """
    size = survey.cutout_size_px
    first_y, first_x, missing, inside = coadd.place(ra, dec, size)
    found = [Found()] * len(ra)
    for i in np.flatnonzero((missing > 0) | ~inside).tolist():
        reason = f"the cutout of {size} x {size} px extends {missing[i]} px beyond the edge of the coadd"
        if not inside[i]:
            reason = f"RA {ra[i]:.6f}, Dec {dec[i]:.6f} is outside of the coadd"
        found[i] = Found(UnusableFileError(Code.POSITION_OUTSIDE, reason))
    waiting = np.flatnonzero((missing == 0) & inside)
    scale = zero_point_factor(coadd.zero_point_mag, survey, coadd.band)
    done: set[int] = set()
    try:
        with whatever_it_raises(), open_reader(path) as (read, status):
            hdus = scan(read, status.st_size)
            hdu = find_image(hdus)
            if hdu.image_shape != coadd.shape:
                raise unreadable(f"has changed since it was listed: {hdu.image_shape} px, was {coadd.shape}")
            for i, pixels in _regions(read, hdu, waiting, first_y, first_x, size):
                digest = hashlib.sha256(np.ascontiguousarray(pixels)).digest()
                done.add(i)
                if coadd.asinh is not None:
                    pixels = coadd.asinh.counts(pixels)
                try:
                    found[i] = Found(None, scale_into(pixels, scale, plane(i), survey), digest=digest)
                except UnusableFileError as error:
                    found[i] = Found(error, digest=digest)
            _look_at_masks(read, find_masks(hdus, hdu), coadd, (first_y, first_x), survey, found)
    except UnusableFileError as error:
        for i in waiting.tolist():
            if i not in done or found[i].error is None:
                found[i] = Found(error, digest=found[i].digest)
    return found


def _look_at_masks(
    read: Reader,
    masks: tuple[Mask, ...],
    coadd: Coadd,
    first: tuple[IntArray, IntArray],
    survey: Survey,
    found: list[Found],
) -> None:
    """Say in ``found`` of which objects with pixels the masks call one of the central aperture bad.

    ``first`` are the first row and column of each object's cutout. The digest of what was read is then of both.
    """
    objects = np.array([i for i, one in enumerate(found) if one.error is None], np.int64)
    unused = without_names(masks)
    for i in objects.tolist() if unused else ():
        found[i] = found[i]._replace(mask_unused=unused)
    top, left, aperture = middle(survey)
    for mask in masks:
        if not mask.bad:
            continue
        check_shape(mask, coadd.shape)
        # The box around the aperture, which is a circle, is a square.
        for i, pixels in _regions(read, mask.hdu, objects, first[0] + top, first[1] + left, len(aperture)):
            digest = hashlib.sha256(found[i].digest + np.ascontiguousarray(pixels).tobytes()).digest()
            masked = found[i].masked or calls_bad(mask, pixels, aperture)
            found[i] = found[i]._replace(masked=masked, digest=digest)


def _regions(
    read: Reader,
    hdu: Hdu,
    objects: IntArray,
    first_y: IntArray,
    first_x: IntArray,
    size: int,
) -> Iterator[tuple[int, AnyArray]]:
    """Each object with the pixels of its cutout; only the rows of the file that hold them are read."""
    order = objects[np.lexsort((first_x[objects], first_y[objects]))]
    if is_plain(hdu) or is_plain_mask(hdu):
        for i in order.tolist():
            yield i, _plain_region(read, hdu, int(first_y[i]), int(first_x[i]), size)
        return
    for box in _boxes(order, first_y, first_x, size):
        top, left = int(first_y[box].min()), int(first_x[box].min())
        bottom, right = int(first_y[box].max()) + size, int(first_x[box].max()) + size
        pixels = decode_with_astropy(read, hdu, (slice(top, bottom), slice(left, right)), MAX_COADD_BYTES)
        if pixels.shape != (bottom - top, right - left):
            raise unreadable(f"a region decodes to {pixels.shape} px")
        for i in box.tolist():
            y, x = int(first_y[i]) - top, int(first_x[i]) - left
            yield i, pixels[y : y + size, x : x + size]


def _plain_region(read: Reader, hdu: Hdu, y: int, x: int, size: int) -> AnyArray:
    item = abs(hdu.bitpix) // 8
    stride = hdu.shape[1] * item
    start = hdu.data_start + y * stride + x * item
    raw = b"".join(read(start + line * stride, size * item) for line in range(size))
    if len(raw) < size * size * item:
        raise unreadable("cut off while it was read")
    return np.frombuffer(raw, plain_type(hdu)).reshape(size, size)


def _boxes(order: IntArray, first_y: IntArray, first_x: IntArray, size: int) -> Iterator[IntArray]:
    """Groups of objects, sorted by y, whose common box stays below 256 MiB, so that tiles are unpacked about once."""
    lo = 0
    while lo < len(order):
        y, x = first_y[order[lo:]], first_x[order[lo:]]
        height = np.maximum.accumulate(y) - y[0] + size
        width = np.maximum.accumulate(x) - np.minimum.accumulate(x) + size
        n_fit = int(np.searchsorted(height * width * 8, MAX_BOX_BYTES, side="right"))
        yield order[lo : lo + max(n_fit, 1)]
        lo += max(n_fit, 1)
