"""Small FITS files of the forms in which cutout services deliver, written after their own documents and scripts.

Legacy Surveys: the viewer (dstndstn/imagine, map/views.py). Pan-STARRS: the notes on FITS images of the PS1 Image
Cutout Service. Rubin's DP2: its package lsst-images writes them. Nothing here is taken from the program.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

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


def round_psf(sigma_px: float) -> np.ndarray:
    """A Gaussian of 25 px a side whose sum is 1."""
    y, x = np.mgrid[-12:13, -12:13]
    found = np.exp(-(x**2 + y**2) / 2 / sigma_px**2)
    return np.asarray(found / found.sum())


def write_rubin_cells(
    path: Path,
    ra: float,
    dec: float,
    pixels: np.ndarray,
    band: str,
    sigma_px: np.ndarray,
    saturated: np.ndarray | None = None,
    first: tuple[int, int] = (3000, 5000),
) -> None:
    """A coadd of DP2 in cells of 30 px, each with the PSF of its width in ``sigma_px``, rows from the bottom.

    All pixels are detected; ``first`` is the first pixel (x, y) in the tract, in the middle of a cell's side.
    """
    from astropy import units
    from astropy.wcs import WCS
    from lsst import images  # type: ignore[import-not-found,unused-ignore]
    from lsst.images import cells  # type: ignore[import-not-found,unused-ignore]
    from lsst.images.serialization import write_archive  # type: ignore[import-not-found,unused-ignore]

    (n_y, n_x), (x0, y0) = pixels.shape, first
    n_cells = [math.ceil(n_px / 30) + 1 for n_px in (n_y, n_x)]
    box = images.Box.from_shape((n_y, n_x), start=(y0, x0))
    around = images.Box.from_shape([30 * n for n in n_cells], start=(y0 - 30, x0 - 30))
    grid = cells.CellGrid(bbox=around, cell_shape={"y": 30, "x": 30})
    frame = images.TractFrame(skymap="lsst_cells_v1", tract=9813, bbox=images.Box.from_shape((30000, 30000)))
    sky: Any = WCS(tan_header(ra, dec, n_x, n_y, 0.2))
    sky = images.SkyProjection.from_fits_wcs(sky, frame, pixel_bounds=box, x0=x0, y0=y0)
    psf = cells.CellPointSpreadFunction(
        np.array([[round_psf(width) for width in line] for line in sigma_px]), cells.CellGridBounds(grid=grid, bbox=box)
    )
    planes = [images.MaskPlane(name, "as in DP2") for name in ("DETECTED", "NO_DATA", "SATURATED")]
    image = images.Image(pixels, bbox=box, unit=units.nJy, sky_projection=sky)
    coadd = cells.CellCoadd(image, mask_schema=images.MaskSchema(planes), band=band, psf=psf)
    coadd.mask.set("DETECTED", np.ones((n_y, n_x), np.bool_))
    if saturated is not None:
        coadd.mask.set("SATURATED", saturated)
    write_archive(coadd, path)
