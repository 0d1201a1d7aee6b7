"""FITS tables of a simulated survey: no time in them, and under their names only when complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
from astropy.io import fits

Columns = dict[str, npt.NDArray[Any]]

_UNITS = {"ra": "deg", "dec": "deg", "re_arcsec": "arcsec", "ew_oii": "Angstrom", "ew_hb_oiii": "Angstrom"}
_UNITS["ew_ha_nii"] = "Angstrom"


def write_table(path: Path, name: str, columns: Columns) -> None:
    """Write columns as one FITS table, under its name only when complete; no time is in it."""
    formats = {"b": "L", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(
                name=key,
                array=values,
                format=formats.get(values.dtype.kind + str(values.dtype.itemsize), formats.get(values.dtype.kind))
                or f"{max(values.dtype.itemsize // 4, 1)}A",
                unit=_UNITS.get(key, "mag" if key.endswith(("_mag", "depth")) else None),
            )
            for key, values in columns.items()
        ],
        name=name,
    )
    primary = fits.PrimaryHDU()
    for hdu in (primary, table):
        hdu.header["SIMULATE"] = (True, "simulated")
    unfinished = path.with_name(f".{path.name}.unfinished")
    fits.HDUList([primary, table]).writeto(unfinished, overwrite=True)
    unfinished.replace(path)
