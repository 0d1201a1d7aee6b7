"""The PSF in FITS files of Rubin's data previews, as the package lsst-images writes and reads them (DP2)."""

from __future__ import annotations

import importlib.util
import io

import numpy as np

from swimmy_scale.errors import PROGRAM, SwimmyError, interpreter
from swimmy_scale.ingest.pixels.fits_scan import Cards, card_number, unreadable, whatever_it_raises
from swimmy_scale.method.psf_width import fwhm_of_kernel_px

_MARK = "JSONADDR"


def check_library() -> None:
    """Refuse to go on where the package that reads these files is not installed."""
    if importlib.util.find_spec("lsst") is None or importlib.util.find_spec("lsst.images") is None:
        raise SwimmyError(
            "ingest.psf_from_files needs the package lsst-images, which is not installed. "
            f'Install: {interpreter()} -m pip install "{PROGRAM}[rubin]", or give the FWHM in the catalogue.'
        )


def psf_fwhm_px(data: bytes, primary: Cards, image: Cards, x: float, y: float) -> float | None:
    """FWHM of the PSF at a pixel of a file's image.

    Parameters
    ----------
    data : bytes
        The whole file, unpacked.
    primary, image : dict
        Cards of its first header and of the image's.
    x, y : float
        0-based pixel of the image; of a coadd in cells the cell's PSF is taken.

    Returns
    -------
    float or None
        In pixels. None where the file is not of this form.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where the PSF in it cannot be read.
    """
    if card_number(primary, _MARK) is None:
        return None
    # The alternate description A gives the pixels of the detector or tract.
    first = []
    for axis in (1, 2):
        value, reference = (card_number(image, f"{name}{axis}A") for name in ("CRVAL", "CRPIX"))
        first.append(0.0 if value is None or reference is None else value - reference + 1.0)
    with whatever_it_raises():
        from lsst.images.serialization import open_archive

        with open_archive(io.BytesIO(data)) as reader:
            psf = reader.get_component("psf")
        kernel = np.asarray(psf.compute_kernel_image(x=first[0] + x, y=first[1] + y).array, np.float64)
    fwhm = fwhm_of_kernel_px(kernel)
    if not fwhm > 0:
        raise unreadable("its PSF has no width: the image of it is not like one of a star")
    return fwhm
