"""``counterparts.fits``: redshifts, classes and lines that tables of spectra give for objects of a catalogue."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.classes import Classes
from swimmy_scale.method.survey import BoolArray, FloatArray
from swimmy_scale.storage.files import read_bytes, write_atomically

FORMAT_VERSION = 1
VERSION_KEY = "format_version"
BANDS = ("g", "r", "i", "z", "y")

MILLIQUAS_TYPES = ("quasar", "type1_agn", "type2_agn", "other")

# Format, unit and description of each column. Text has a fixed width, so that files differ in their rows alone. FITS
# has no unit for a logarithm.
_COLUMNS: dict[str, tuple[str, str, str]] = {
    "object_id": ("K", "", "Identifier in the survey's catalogue"),
    "redshift": ("D", "", "Spectroscopic redshift"),
    "redshift_source": ("4A", "", "Survey that measured it: SDSS or GAMA"),
    "plate": ("J", "", "SDSS plate, -1 unknown"),
    "mjd": ("J", "d", "SDSS modified Julian date, -1 unknown"),
    "fiberid": ("J", "", "SDSS fibre, -1 unknown"),
    "sample_class": ("13A", "", "quasar, xelg, agn_candidate, training, other; empty: unknown"),
    "is_mpa_jhu": ("L", "", "In the MPA-JHU tables"),
    "is_xelg": ("L", "", "Extreme emission-line galaxy"),
    "is_quasar": ("L", "", "In DR16Q"),
    "is_agn_candidate": ("L", "", "BPTCLASS of 3 and above"),
    "bptclass": ("I", "", "MPA-JHU BPTCLASS, -1 unknown"),
    "milliquas_type": ("9A", "", "quasar, type1_agn, type2_agn or other; empty: not in Milliquas"),
    "ew_oii": ("E", "Angstrom", "Observed width of [OII]3726,3729, emission positive"),
    "ew_neiii": ("E", "Angstrom", "Observed width of [NeIII]3869"),
    "ew_hb_oiii": ("E", "Angstrom", "Observed width of Hbeta + [OIII]4959,5007"),
    "ew_ha_nii": ("E", "Angstrom", "Observed width of Halpha + [NII]6548,6584"),
    "ew_sii": ("E", "Angstrom", "Observed width of [SII]6717,6731"),
    **{f"ew_band_{band}": ("E", "Angstrom", f"Widths of all lines through filter {band}") for band in BANDS},
    "log_stellar_mass": ("E", "", "log10 of the stellar mass in solar masses (LGM_TOT_P50)"),
    "log_sfr": ("E", "", "log10 of solar masses formed in a year (SFR_TOT_P50)"),
}


@dataclass(frozen=True, eq=False)
class Counterparts:
    """Spectroscopic facts of n objects, each with a counterpart in at least one table; sorted by ``object_id``.

    Attributes
    ----------
    object_id : ndarray of int64, shape (n,)
        No two are equal.
    redshift : ndarray of float64, shape (n,)
        NaN where no table of spectra has it.
    redshift_source : ndarray of str, shape (n,)
        ``SDSS``, ``GAMA`` or empty.
    plate, mjd, fiberid : ndarray of int32, shape (n,)
        Of the SDSS spectrum, -1 where unknown.
    sample_class : ndarray of str, shape (n,)
        One of `classes.SAMPLE_CLASSES`, or empty where what MPA-JHU measured does not decide.
    is_mpa_jhu, is_xelg, is_quasar, is_agn_candidate : ndarray of bool, shape (n,)
        See `classes.Classes`.
    bptclass : ndarray of int16, shape (n,)
        -1 where unknown.
    milliquas_type : ndarray of str, shape (n,)
        One of ``MILLIQUAS_TYPES``; empty for objects not in Milliquas.
    ew_oii, ew_neiii, ew_hb_oiii, ew_ha_nii, ew_sii : ndarray of float32, shape (n,), Angstrom
        Observed widths of `emission_lines.GROUPS`, emission positive, NaN where unknown.
    ew_band_g, ew_band_r, ew_band_i, ew_band_z, ew_band_y : ndarray of float32, shape (n,), Angstrom
        See `emission_lines.band_widths`; NaN where unknown.
    log_stellar_mass, log_sfr : ndarray of float32, shape (n,)
        log10 of solar masses, and of solar masses a year; NaN where unknown.
    """

    object_id: npt.NDArray[np.int64]
    redshift: npt.NDArray[np.float64]
    redshift_source: npt.NDArray[np.str_]
    plate: npt.NDArray[np.int32]
    mjd: npt.NDArray[np.int32]
    fiberid: npt.NDArray[np.int32]
    sample_class: npt.NDArray[np.str_]
    is_mpa_jhu: BoolArray
    is_xelg: BoolArray
    is_quasar: BoolArray
    is_agn_candidate: BoolArray
    bptclass: npt.NDArray[np.int16]
    milliquas_type: npt.NDArray[np.str_]
    ew_oii: FloatArray
    ew_neiii: FloatArray
    ew_hb_oiii: FloatArray
    ew_ha_nii: FloatArray
    ew_sii: FloatArray
    ew_band_g: FloatArray
    ew_band_r: FloatArray
    ew_band_i: FloatArray
    ew_band_z: FloatArray
    ew_band_y: FloatArray
    log_stellar_mass: FloatArray
    log_sfr: FloatArray

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.object_id)

    @property
    def classes(self) -> Classes:
        """The classes of the objects."""
        undecided = self.is_mpa_jhu & (self.sample_class == "")
        return Classes(self.is_mpa_jhu, self.is_xelg, self.is_quasar, self.is_agn_candidate, undecided)

    def take(self, rows: npt.NDArray[Any]) -> Counterparts:
        """Some of the objects: ``rows`` are indices or a mask."""
        return Counterparts(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def rows_of(self, object_id: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The row of each object, int64, in the shape of ``object_id``; -1 for one that is not here."""
        if not len(self):
            return np.full(len(object_id), -1, np.int64)
        row = np.searchsorted(self.object_id, object_id).clip(max=len(self) - 1)
        return np.where(self.object_id[row] == object_id, row, -1).astype(np.int64)


def write_counterparts(path: Path, counterparts: Counterparts, simulated: bool = False) -> None:
    """Write the table as FITS, atomically; the same content gives the same bytes.

    If it is ``simulated``, the headers say by SIMULATE = T that none of it was observed.
    """
    columns = [
        fits.Column(name, form, unit or None, array=getattr(counterparts, name), ascii=False)
        for name, (form, unit, _) in _COLUMNS.items()
    ]
    table = fits.BinTableHDU.from_columns(columns, name="COUNTERPARTS", character_as_bytes=False)
    for position, (_, _, description) in enumerate(_COLUMNS.values(), start=1):
        table.header.set(f"TCOMM{position}", description, after=f"TFORM{position}")
    table.header[f"HIERARCH {VERSION_KEY}"] = FORMAT_VERSION
    hdus = fits.HDUList([fits.PrimaryHDU(), table])
    for hdu in hdus:
        if simulated:
            hdu.header["SIMULATE"] = (True, "simulated")
        # By default astropy writes the time here, and no two files would be alike.
        hdu.add_checksum(when="HDU checksum")
    stream = io.BytesIO()
    hdus.writeto(stream)
    write_atomically(path, stream.getvalue())


def read_counterparts(path: Path) -> Counterparts:
    """Read a table of `write_counterparts`.

    Raises
    ------
    SwimmyError
        When the file is missing, damaged, or of another format version.
    """
    again = f"Make it again, by `{typed('classify')}` or the run's ingest."
    try:
        # Warnings of astropy mean damage here: a checksum that does not fit, a file that ends too early.
        stream = io.BytesIO(read_bytes(path))
        with warnings.catch_warnings(action="error"), fits.open(stream, checksum=True) as hdus:
            table = hdus["COUNTERPARTS"]
            version = table.header.get(VERSION_KEY)
            if version == FORMAT_VERSION:
                return Counterparts(**{name: _native(table.data[name]) for name in _COLUMNS})
    except (OSError, KeyError, ValueError, TypeError, Warning) as error:
        raise SwimmyError(f"{path}: not a readable table of counterparts ({error}). {again}") from error
    raise SwimmyError(f"{path}: its format_version is {version}, this program reads {FORMAT_VERSION}. {again}")


def _native(values: Any) -> npt.NDArray[Any]:
    array = np.asarray(values)
    return array.astype(np.str_) if array.dtype.kind in "SU" else array.astype(array.dtype.newbyteorder("="))
