"""FITS tables of a simulated survey."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy.typing as npt
from astropy.io import fits

from swimmy_scale.storage.files import write_atomically

Columns = dict[str, npt.NDArray[Any]]

_FORMATS = {"b": "L", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}
_UNITS = {
    "ra": "deg",
    "dec": "deg",
    "re_arcsec": "arcsec",
    **dict.fromkeys(("ew_oii", "ew_hb_oiii", "ew_ha_nii"), "Angstrom"),
}


def write_table(path: Path, name: str, columns: Columns) -> None:
    """Write columns as one FITS table, atomically. It holds no time: the same columns give the same bytes."""
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(
                name=key,
                array=values,
                format=_format(values),
                unit=_UNITS.get(key, "mag" if key.endswith(("_mag", "depth")) else None),
            )
            for key, values in columns.items()
        ],
        name=name,
    )
    primary = fits.PrimaryHDU()
    for hdu in (primary, table):
        hdu.header["SIMULATE"] = (True, "simulated")
    stream = io.BytesIO()
    fits.HDUList([primary, table]).writeto(stream)
    write_atomically(path, stream.getvalue())


def _format(values: npt.NDArray[Any]) -> str:
    if values.dtype.kind == "U":
        return f"{max(values.dtype.itemsize // 4, 1)}A"
    return _FORMATS["b" if values.dtype.kind == "b" else values.dtype.kind + str(values.dtype.itemsize)]
