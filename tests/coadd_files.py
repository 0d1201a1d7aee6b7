"""Coadd images made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from fits_files import wcs_header


def write_coadd(path: Path, data: np.ndarray, form: str = "plain", **cards: object) -> Path:
    """Write a coadd as a FITS image that is ``plain``, ``scaled``, or compressed by the algorithm ``form``."""
    header = wcs_header(data.shape[1], data.shape[0], **{"MAGZERO": 27.0, "EXTTYPE": None, **cards})
    if form == "plain":
        hdu: object = fits.ImageHDU(data, header)
    elif form == "scaled":
        hdu = fits.ImageHDU(data.copy(), header)
        hdu.scale("int16", bscale=0.001, bzero=1.0)
    else:
        keys = {"quantize_level": 0} if form.startswith("GZIP") else {}
        hdu = fits.CompImageHDU(data, header, compression_type=form, **keys)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path
