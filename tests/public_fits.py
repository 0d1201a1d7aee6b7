"""Small FITS files of the forms in which cutout services deliver, written after their own documents and scripts.

Legacy Surveys: the viewer (dstndstn/imagine, map/views.py). Pan-STARRS: the notes on FITS images of the PS1 Image
Cutout Service. Nothing here is taken from the program.
"""

from __future__ import annotations

import io

import numpy as np
from astropy.io import fits


def tan_header(ra: float, dec: float, n_x: int, n_y: int, scale_arcsec: float, **cards: object) -> fits.Header:
    """A TAN projection with the object in the middle."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"], header["CRPIX2"] = (n_x + 1) / 2, (n_y + 1) / 2
    header["CD1_1"], header["CD1_2"] = -scale_arcsec / 3600, 0.0
    header["CD2_1"], header["CD2_2"] = 0.0, scale_arcsec / 3600
    for name, value in cards.items():
        header[name] = value
    return header


def to_bytes(*hdus: object) -> bytes:
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


def galaxy(row: int, band: int, n_y: int, n_x: int) -> np.ndarray:
    """Noise, and a galaxy in the middle whose brightness tells object and band."""
    y, x = np.mgrid[:n_y, :n_x] - np.array([(n_y - 1) / 2, (n_x - 1) / 2])[:, None, None]
    noise = np.random.default_rng([row, band]).normal(0, 0.01, (n_y, n_x))
    return (noise + (row + 1 + 0.1 * band) * np.exp(-(x**2 + y**2) / 18)).astype(np.float32)


def legacy_cutout(ra: float, dec: float, cube: np.ndarray, bands: str, invvar: bool = False, **cards: object) -> bytes:
    """As the viewer writes it: a cube of float32, or an image where one band was asked for; no zero point."""
    header = fits.Header()
    header["SURVEY"], header["VERSION"] = "LegacySurvey", "DR10"
    header["BANDS"] = bands
    for number, band in enumerate(bands):
        header[f"BAND{number}"] = band
    n_y, n_x = cube.shape[1:]
    header.update(tan_header(ra, dec, n_x, n_y, 0.262, IMAGEW=float(n_x), IMAGEH=float(n_y), **cards))
    data = cube if len(bands) > 1 else cube[0]
    hdus = [fits.PrimaryHDU(data.astype(np.float32), header)]
    if invvar:
        hdus.append(fits.ImageHDU(np.ones_like(data, np.float32), header))
    return to_bytes(*hdus)


def panstarrs(
    ra: float,
    dec: float,
    counts: np.ndarray,
    seconds: float,
    asinh: tuple[float, float] | None = None,
    rice: bool = False,
) -> bytes:
    """A cutout in counts, or with (BOFFSET, BSOFTEN) the scaled pixels of a whole skycell."""
    n_y, n_x = counts.shape
    header = tan_header(ra, dec, n_x, n_y, 0.25, EXPTIME=seconds)
    header["HIERARCH FPA.FILTER"] = "r.00000"
    header["HIERARCH FPA.ZP"] = 25.0
    header["HIERARCH CHIP.TELESCOPE"] = "PS1"
    pixels = counts
    if asinh is not None:
        header["BOFFSET"], header["BSOFTEN"] = asinh
        # Inverse of: a = 2.5 / ln 10, x = v / a, flux = BOFFSET + BSOFTEN * (exp(x) - exp(-x))
        pixels = 2.5 * np.log10(np.e) * np.arcsinh((counts.astype(np.float64) - asinh[0]) / (2 * asinh[1]))
    pixels = pixels.astype(np.float32)
    if not rice:
        return to_bytes(fits.PrimaryHDU(pixels, header))
    return to_bytes(
        fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, compression_type="RICE_1", quantize_level=2000)
    )


def rubin_exposure(
    ra: float,
    dec: float,
    pixels: np.ndarray,
    saturated: bool = False,
    first: tuple[int, int] = (0, 0),
    **primary: object,
) -> bytes:
    """An ExposureF of DP1: image, mask, variance, and tables of an archive that only Rubin's software reads.

    All pixels are detected; the one in the middle may be saturated. ``first`` is the first pixel (x, y) in the tract.
    """
    n_y, n_x = pixels.shape
    header = tan_header(ra, dec, n_x, n_y, 0.2, EXTNAME="IMAGE", BUNIT="nJy", EXTTYPE="IMAGE")
    header["CRPIX1A"], header["CRPIX2A"], header["CRVAL1A"], header["CRVAL2A"] = 1.0, 1.0, *first
    planes = {"MP_BAD": 0, "MP_SAT": 1, "HIERARCH MP_DETECTED": 5, "HIERARCH MP_NO_DATA": 8}
    bits = np.full((n_y, n_x), 1 << 5, np.int32)
    bits[n_y // 2, n_x // 2] |= 2 * saturated
    mask = fits.CompImageHDU(bits, fits.Header({"EXTNAME": "MASK", **planes}), compression_type="GZIP_2")
    variance = fits.ImageHDU(np.ones((n_y, n_x), np.float32), fits.Header({"EXTNAME": "VARIANCE"}))
    table = fits.BinTableHDU.from_columns([fits.Column("id", "J", array=[1])], name="ARCHIVE_INDEX")
    image = fits.CompImageHDU(pixels, header, compression_type="GZIP_2", quantize_level=0)
    return to_bytes(fits.PrimaryHDU(header=fits.Header(primary)), image, mask, variance, table)
