"""Cutouts as FITS files: one file an object, one HDU a band, with world coordinates that lead to the object."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from swimmy_scale.method.survey import FloatArray, Survey

WCS_REMARK = (
    "The world coordinates are made from the catalogue's position and the survey's pixel scale: the object at the "
    "geometric centre, north up and east left. The pixels are as the survey's files have them: cut at whole pixels, so "
    "that the object may lie half a pixel off the centre, and along the files' own axes, which may be turned a little."
)


@dataclass(frozen=True)
class Cutout:
    """One object, for a file.

    Attributes
    ----------
    object_id : int
    name : str
        Empty where the id is a whole number.
    ra, dec : float, degrees
    known_class : str
    counts : ndarray of float32, shape (band, y, x), counts
    fwhm_arcsec : ndarray of float32, shape (band,)
        NaN where unknown.
    source, reconstruction : ndarray of float32, shape (band, y, x), in [0, 1], optional
        Preprocessed cutout and the network's output.
    """

    object_id: int
    name: str
    ra: float
    dec: float
    known_class: str
    counts: FloatArray
    fwhm_arcsec: FloatArray
    source: FloatArray | None = None
    reconstruction: FloatArray | None = None


def sky_cards(ra: float, dec: float, survey: Survey) -> dict[str, Any]:
    """Cards of a TAN projection whose reference point, the object, is the centre of a cutout; north up, east left."""
    # Pixels of FITS count from 1.
    middle, scale = survey.center_px + 1.0, survey.pixel_scale_arcsec / 3600.0
    return {
        "WCSAXES": 2, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
        "CRPIX1": middle, "CRPIX2": middle, "CRVAL1": ra, "CRVAL2": dec,
        "CDELT1": -scale, "CDELT2": scale, "RADESYS": "ICRS",
    }  # fmt: skip


def write_cutout(path: Path, cutout: Cutout, survey: Survey, *, simulated: bool, zero_point_mag: float) -> None:
    """Write one object: an HDU for each band, named after it, and with a reconstruction three more for each.

    The pixels of an HDU ``g`` are those of ``cutouts.zarr``, float32 in counts. ``g_SOURCE`` is what the network is
    given, in [0, 1], ``g_RECONSTRUCTION`` what it makes of it, and ``g_RESIDUAL`` their difference. The same cutout
    gives the same bytes.
    """
    about = {
        "OBJECT": (_card_text(cutout.name) or str(cutout.object_id), "object_id in the survey's catalogue"),
        "OBJ_ID": (cutout.object_id, "the same as a number"),
        "RA_OBJ": (cutout.ra, "[deg] right ascension (ICRS)"),
        "DEC_OBJ": (cutout.dec, "[deg] declination (ICRS)"),
        "SURVEY": (_card_text(survey.name), ""),
        "CLASS": (_card_text(cutout.known_class), "known beforehand; empty: unknown"),
        "SIMULATE": (simulated, "whether nothing of this was observed"),
    }
    sky = sky_cards(cutout.ra, cutout.dec, survey)
    primary = fits.PrimaryHDU()
    primary.header.update(about)
    for line in textwrap.wrap(WCS_REMARK, 72):
        primary.header["COMMENT"] = line
    hdus: list[Any] = [primary]
    for k, band in enumerate(survey.bands):
        cards = about | sky | {"BAND": (_card_text(band), "photometric band")}
        if np.isfinite(cutout.fwhm_arcsec[k]):
            cards["FWHM"] = (float(cutout.fwhm_arcsec[k]), "[arcsec] FWHM of the PSF")
        counts = {"BUNIT": ("count", ""), "MAGZERO": (zero_point_mag, "[mag] AB zero point of the counts")}
        hdus.append(_image(band, cutout.counts[k], cards | counts))
        if cutout.source is not None and cutout.reconstruction is not None:
            source, expected = cutout.source[k], cutout.reconstruction[k]
            for name, pixels in (("SOURCE", source), ("RECONSTRUCTION", expected), ("RESIDUAL", source - expected)):
                hdus.append(_image(f"{band}_{name}", pixels, cards))
    fits.HDUList(hdus).writeto(path, output_verify="exception")


def _image(name: str, pixels: FloatArray, cards: dict[str, Any]) -> fits.ImageHDU:
    named = {"EXTNAME": _card_text(name), **cards}
    header = fits.Header([(key, *(card if isinstance(card, tuple) else (card,))) for key, card in named.items()])
    return fits.ImageHDU(np.ascontiguousarray(pixels, np.float32), header)


def _card_text(text: str) -> str:
    """Text as a FITS card may have it: printable ASCII."""
    plain = text.encode("ascii", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in plain)
