"""FITS files of every form that archives deliver, made for tests."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from astropy.io import fits

from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import HSC

RA, DEC = 150.0, 2.0
SIZE = HSC.cutout_size_px


def wcs_header(n_x: int, n_y: int, **cards: object) -> fits.Header:
    """A TAN header whose reference pixel, at RA and DEC, is the image's geometric centre."""
    header = fits.Header()
    values = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRPIX1": (n_x + 1) / 2,
        "CRPIX2": (n_y + 1) / 2,
        "CRVAL1": RA,
        "CRVAL2": DEC,
        "CD1_1": -0.168 / 3600,
        "CD1_2": 0.0,
        "CD2_1": 0.0,
        "CD2_2": 0.168 / 3600,
        "RADESYS": "ICRS",
        "EXTTYPE": "IMAGE",
    }
    header.update({key: value for key, value in {**values, **cards}.items() if value is not None})
    return header


def header_bytes(header: fits.Header) -> bytes:
    return header.tostring(endcard=False, padding=False).encode()


def pixels(n_y: int = SIZE, n_x: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n_y, n_x)).astype(np.float32)


def to_bytes(*hdus: object, checksum: bool = False) -> bytes:
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream, checksum=checksum)
    return stream.getvalue()


def primary(**cards: object) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU()
    hdu.header.update({"FLUXMAG0": 10**10.8, **cards})
    return hdu


def archive_file(image: np.ndarray, checksum: bool = False, bits: int = 0, **cards: object) -> bytes:
    """As the archive delivers a cutout: image, mask, variance; the mask has some bits in its middle."""
    header = wcs_header(image.shape[1], image.shape[0], **cards)
    planes = {"MP_BAD": 0, "MP_SAT": 1, "HIERARCH MP_DETECTED": 5, "HIERARCH MP_NO_DATA": 8}
    mask = fits.ImageHDU(np.zeros(image.shape, np.int32), fits.Header({"EXTTYPE": "MASK", **planes}))
    mask.data[image.shape[0] // 2, image.shape[1] // 2] = bits
    variance = fits.ImageHDU(np.ones(image.shape, np.float32), fits.Header({"EXTTYPE": "VARIANCE"}))
    return to_bytes(primary(), fits.ImageHDU(image, header), mask, variance, checksum=checksum)


def outcome(action: Callable[[], object]) -> tuple[Code | None, object]:
    """The code of the fault that an action raises, or None and what it returns."""
    try:
        return None, action()
    except UnusableFileError as fault:
        return fault.code, str(fault)


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def scaled(image: np.ndarray) -> fits.ImageHDU:
    hdu = fits.ImageHDU(image.copy())
    hdu.scale("int16", bscale=0.001, bzero=3.0)
    return hdu


FORMS = {
    "float32": fits.ImageHDU(pixels()),
    "float64": fits.ImageHDU(pixels().astype(np.float64)),
    "int16": fits.ImageHDU((1000 * pixels()).astype(np.int16)),
    "int32": fits.ImageHDU((1e6 * pixels()).astype(np.int32)),
    "uint16": fits.ImageHDU((1000 * np.abs(pixels())).astype(np.uint16)),
    "bscale": scaled(pixels()),
    "rice": fits.CompImageHDU(pixels(), compression_type="RICE_1"),
    "gzip": fits.CompImageHDU(pixels(), compression_type="GZIP_2", quantize_level=0),
    "gzip tiles": fits.CompImageHDU(pixels(), compression_type="GZIP_1", tile_shape=(16, 24)),
}
