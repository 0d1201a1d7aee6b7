"""One file an object, which holds all bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from archive_files import DECS, IDS, RAS, Ingested, pixels_of, write
from astropy.io import fits
from fits_files import primary, to_bytes, wcs_header


def header(row: int, **cards: object) -> fits.Header:
    return wcs_header(64, 64, CRVAL1=RAS[row], CRVAL2=DECS[row], **{"EXTTYPE": None, **cards})


def in_hdus(row: int, keyword: str, names: str = "grizy", order: tuple[int, ...] = (3, 1, 0, 4, 2)) -> bytes:
    """An image a band in any order, each with its variance beside it."""
    hdus: list[object] = [primary()]
    for band in order:
        name = {"EXTNAME": f"HSC-{names[band].upper()}"}.get(keyword, names[band])
        hdus.append(fits.ImageHDU(pixels_of(row, band), header(row, **{keyword: name})))
        hdus.append(fits.ImageHDU(np.ones((64, 64), np.float32), fits.Header({"EXTNAME": f"{names[band]}_VARIANCE"})))
    return to_bytes(*hdus)


def in_planes(row: int, **cards: object) -> bytes:
    """A cube (band, y, x) in the order z, r, g, y, i."""
    data = np.array([pixels_of(row, band) for band in (3, 1, 0, 4, 2)])
    return to_bytes(fits.PrimaryHDU(data, header(row, FLUXMAG0=10**10.8, **cards)))


FORMS = {
    "EXTNAME": lambda row: in_hdus(row, "EXTNAME"),
    "FILTER": lambda row: in_hdus(row, "FILTER"),
    "BAND": lambda row: in_hdus(row, "BAND"),
    "BANDS": lambda row: in_planes(row, BANDS="zrgyi"),
    "BANDS with commas": lambda row: in_planes(row, BANDS="HSC-Z, HSC-R, HSC-G, HSC-Y, HSC-I"),
    "BAND0": lambda row: in_planes(row, **{f"BAND{number}": name for number, name in enumerate("zrgyi")}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path: Path, form: str) -> None:
    files = {f"{IDS[row]}.fits": FORMS[form](row) for row in (0, 2)} | {"150.01000,2.00000.fits": FORMS[form](1)}
    found = Ingested(write(tmp_path, files), n=3)
    assert found.rows() == [0, 1, 2]
    assert (found.notes, found.index.warnings, found.index.unmatched) == ([], (), ())


def test_own_pattern(tmp_path: Path) -> None:
    files = {f"stamps/g{row}/all.fits": in_hdus(row, "FILTER") for row in (0, 1)}
    files = {name.replace("g0", f"g{IDS[0]}").replace("g1", f"g{IDS[1]}"): data for name, data in files.items()}
    assert Ingested(write(tmp_path, files), n=2, name_pattern=r"g(?P<object_id>\d+)/all[.]fits").rows() == [0, 1]


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (in_hdus(0, "FILTER", order=(0, 1, 2, 3)), "missing_band", "y: the file has the bands g, r, i, z only"),
        (
            in_hdus(0, "OBJECT"),
            "no_image_hdu",
            "no image among 11 HDUs says its band in EXTNAME, FILTER, BAND or BANDS",
        ),
        (in_planes(0), "no_image_hdu", "no cube those of its planes in BANDS"),
        (in_planes(0, BANDS="zrg"), "no_image_hdu", "no image among 1 HDUs"),
        (in_planes(0, BANDS="zrgyi")[:-20000], "unreadable_file", "cut off"),
        (b"broken", "unreadable_file", "not a FITS file"),
    ],
)
def test_faults(tmp_path: Path, data: bytes, code: str, reason: str) -> None:
    found = Ingested(write(tmp_path, {f"{IDS[0]}.fits": data}), n=1)
    assert (found.faults[0].code.label, np.isnan(found.image).all()) == (code, True)
    assert reason in found.faults[0].reason


def test_beside_files_of_one_band(tmp_path: Path) -> None:
    files = {
        f"{IDS[0]}.fits": in_hdus(0, "FILTER", order=(0, 1, 2, 3)),
        f"{IDS[0]}_y.fits": in_hdus(0, "X", order=(4,)),
    }
    found = Ingested(write(tmp_path, files), n=1)
    assert found.rows() == [0]
    assert found.notes == []
