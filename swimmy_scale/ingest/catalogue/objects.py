"""The objects of a catalogue, one a row, and what is wrong with which of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.survey import AnyArray, DoubleArray, FloatArray, IntArray

# A row with one of these faults is no object of its own.
NO_OBJECT = (Code.DUPLICATE_OBJECT_ID, Code.OBJECT_ID_LOST, Code.POSITION_MISSING)


@dataclass(eq=False)
class Objects:
    """The rows of a catalogue, in its order; n is the number of rows.

    Attributes
    ----------
    object_id : ndarray of int64, shape (n,)
        -1 where it is lost (the row then has a fault).
    ra, dec : ndarray of float64, shape (n,), deg
    mag : ndarray of float32, shape (n, band)
        CModel AB magnitude; NaN where unknown, like all floats here.
    psf_mag : ndarray of float32, shape (n,)
        PSF AB magnitude in the survey's ``magnitude_band``.
    fwhm_arcsec, depth_mag : ndarray of float32, shape (n, band)
        FWHM of the PSF and 5-sigma limiting PSF magnitude. A FWHM is positive or NaN.
    flags : ndarray of uint32, shape (n,)
        Bit k is set where ``FLAG_NAMES[k]`` is True in any band, or unknown in any band. ``not_primary`` is set where
        ``isprimary`` is not True.
    redshift : ndarray of float64, shape (n,)
    sample_class : ndarray of object (str), shape (n,)
        Empty where unknown.
    kept : dict of str to ndarray, shape (n,)
        The ``keep_columns``. Numbers and bools as they came, or float64 with NaN where some are unknown; strings in
        NumPy's fixed-width type, empty where unknown.
    tract : ndarray of int32, shape (n,)
        Tract of the sky map; -1 where unknown.
    simulated : bool
        The catalogue says that its objects are simulated, in FITS by the card SIMULATE = T.
    available : frozenset of str
        What the catalogue knows: ``fwhm_arcsec_g``, ``depth_mag_g`` and ``mag_g`` for the bands, ``psf_mag``,
        ``redshift``, and names of ``FLAG_NAMES``.
    faults : list of Fault
        Sorted by row and code. A row may have several.
    warnings : list of str
        What the user should know about the whole catalogue.
    id_column : str
        What the catalogue calls the ids.
    """

    object_id: IntArray
    ra: DoubleArray
    dec: DoubleArray
    mag: FloatArray
    psf_mag: FloatArray
    fwhm_arcsec: FloatArray
    depth_mag: FloatArray
    flags: npt.NDArray[np.uint32]
    redshift: DoubleArray
    sample_class: npt.NDArray[np.object_]
    kept: dict[str, AnyArray]
    tract: npt.NDArray[np.int32]
    simulated: bool = False
    available: frozenset[str] = frozenset()
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    id_column: str = "object_id"

    def __len__(self) -> int:
        return len(self.object_id)

    @property
    def _arrays(self) -> dict[str, AnyArray]:
        return {name: values for name, values in vars(self).items() if isinstance(values, np.ndarray)}

    def name_of(self, row: int) -> list[str]:
        """The name of the object of a row, alone in a list; an empty list for one whose id is a number."""
        name = str(self.kept[OBJECT_NAME][row]) if OBJECT_NAME in self.kept else ""
        return [name] if name else []

    def slice(self, lo: int, hi: int) -> Objects:
        """A copy of rows ``lo`` to ``hi`` (exclusive); the rows of its faults count from the catalogue's start."""
        rows = range(len(self))[lo:hi]
        lo, hi = rows.start, rows.stop
        changed: dict[str, Any] = {name: values[lo:hi].copy() for name, values in self._arrays.items()}
        changed["kept"] = {name: values[lo:hi].copy() for name, values in self.kept.items()}
        changed["faults"] = [fault for fault in self.faults if lo <= fault.row < hi]
        return replace(self, **changed, warnings=list(self.warnings))

    def take(self, rows: IntArray) -> Objects:
        """A copy of some rows, int64 ascending; the rows of its faults count in what is taken."""
        changed: dict[str, Any] = {name: values[rows] for name, values in self._arrays.items()}
        changed["kept"] = {name: values[rows] for name, values in self.kept.items()}
        place = {int(row): position for position, row in enumerate(rows)}
        changed["faults"] = [replace(fault, row=place[fault.row]) for fault in self.faults if fault.row in place]
        return replace(self, **changed, warnings=list(self.warnings))

    def digest(self) -> str:
        """SHA-256 in hex over the rows, their kept columns and their faults."""
        digest = hashlib.sha256()
        for name, values in [*self._arrays.items(), *self.kept.items()]:
            # The width of text depends on the other rows of the catalogue, so it does not count.
            is_text = values.dtype.kind in "OU"
            content = json.dumps(values.tolist()).encode() if is_text else values.tobytes()
            digest.update(json.dumps([name, "text" if is_text else values.dtype.str, len(content)]).encode() + content)
        # Where the catalogue lies does not count: a project may be moved.
        faults = [astuple(replace(fault, source=Path(fault.source).name)) for fault in self.faults]
        digest.update(json.dumps(faults).encode())
        return digest.hexdigest()
