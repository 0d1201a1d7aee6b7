"""Published tables of spectra, read by their own column names: SDSS, GAMA, MPA-JHU, DR16Q and Milliquas.

Each function says which spectra count. The others have no position here (NaN), so that no object is matched with them.
All raise `SwimmyError` where a table cannot be read (see `InputTable.read`) or lacks a column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.input_table import InputTable, object_ids
from swimmy_scale.method.emission_lines import LINES, observed_widths
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray

# Names of columns, in lower case. Those of positions: SDSS's specObj, nearly all other tables, VizieR.
_RA, _DEC = ("plug_ra", "ra", "raj2000"), ("plug_dec", "dec", "dej2000", "decj2000")
_PLATE, _MJD, _FIBER = ("plate", "plateid"), ("mjd",), ("fiberid", "fiber")
_ZWARNING = ("zwarning", "z_warning")

LEAST_GAMA_QUALITY = 3
# Smaller logarithms of masses and rates mark missing values (-9999, -99).
_MISSING_LOG = -90.0


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra of m sources.

    Attributes
    ----------
    ra, dec : ndarray of float64, shape (m,), degrees
        NaN where unknown, or where the spectrum does not count.
    redshift : ndarray of float64, shape (m,)
        NaN where unknown.
    plate, mjd, fiberid : ndarray of int32, shape (m,)
        SDSS's name of the spectrum, -1 where unknown.
    simulated : bool
        The file says that it is simulated.
    """

    ra: DoubleArray
    dec: DoubleArray
    redshift: DoubleArray
    plate: npt.NDArray[np.int32]
    mjd: npt.NDArray[np.int32]
    fiberid: npt.NDArray[np.int32]
    simulated: bool


@dataclass(frozen=True, eq=False)
class MpaJhu:
    """The MPA-JHU measurements of m spectra.

    Attributes
    ----------
    widths : dict of str to ndarray of float64, shape (m,), Angstrom
        Observed equivalent width of each of `emission_lines.LINES`, emission positive, NaN where unknown.
    bptclass : ndarray of int16, shape (m,)
        -1 where unknown.
    log_stellar_mass, log_sfr : ndarray of float64, shape (m,)
        NaN where unknown.
    """

    spectra: Spectra
    widths: dict[str, DoubleArray]
    bptclass: npt.NDArray[np.int16]
    log_stellar_mass: DoubleArray
    log_sfr: DoubleArray


def read_sdss(path: Path) -> tuple[Spectra, Spectra]:
    """SDSS's specObj: PLUG_RA or RA, PLUG_DEC or DEC, Z, and if present ZWARNING, SPECPRIMARY, PLATE, MJD, FIBERID.

    A spectrum counts if ZWARNING is 0.

    Returns
    -------
    best, repeated : Spectra
        Those with SPECPRIMARY of 1, or all if the table has no such column; and the others.
    """
    table = _read_spectra(path, {"z": "float", "specprimary": "float"})
    counts = np.isfinite(table.floats("z")) & _no_warning(table)
    best = table.floats("specprimary") > 0 if "specprimary" in table.columns else np.ones(table.n_rows, np.bool_)
    return _spectra(table, counts & best), _spectra(table, counts & ~best)


def read_gama(path: Path) -> Spectra:
    """GAMA's SpecObj: RA, DEC, Z and NQ. A spectrum counts if NQ is 3 or more."""
    table = _read_spectra(path, {"z": "float", "nq": "float"}, ("z", "nq"))
    # Where there is no redshift GAMA writes Z of -2 and below. Its plates are not SDSS's.
    counts = (table.floats("nq") >= LEAST_GAMA_QUALITY) & (table.floats("z") > -1.0)
    return _spectra(table, counts, is_sdss=False)


def read_dr16q(path: Path) -> Spectra:
    """The quasars of SDSS's DR16Q: RA, DEC, Z, PLATE, MJD, FIBERID. All count."""
    table = _read_spectra(path, {"z": "float"})
    return _spectra(table, np.ones(table.n_rows, np.bool_))


def read_milliquas(path: Path) -> tuple[Spectra, npt.NDArray[np.str_]]:
    """Milliquas: RA, DEC and TYPE, in some versions DESCRIP. All count; redshifts are not read.

    The first letter of the type tells the kind (table 4): Q is a quasar, A a type-I AGN, N and K (narrow lines) a
    type-II AGN; all others (B for BL Lac objects, q for candidates, associations without a class) are ``other``.

    Returns
    -------
    spectra : Spectra
    kind : ndarray of str, shape (m,)
        One of `counterparts.MILLIQUAS_TYPES`.
    """
    table = _read_spectra(path, {"type": "text", "descrip": "text"}, ())
    letters = table.strings(_name(table, ("type", "descrip"))).astype(np.str_).astype("U1")
    kinds = [letters == "Q", letters == "A", np.isin(letters, ["N", "K"])]
    kind = np.select(kinds, ["quasar", "type1_agn", "type2_agn"], "other")
    return _spectra(table, np.ones(table.n_rows, np.bool_), is_sdss=False), kind


def read_mpa_jhu(info: Path, line: Path, extra: Path, widths_at_rest: bool = False) -> MpaJhu:
    """The MPA-JHU tables galSpecInfo, galSpecLine and galSpecExtra.

    Rows of the three are joined by SPECOBJID, or by their order where a table lacks it. A spectrum counts if its
    position is known; one that the pipeline has not measured has none, or the plate -1. Where RELIABLE is 0 or
    Z_WARNING is not, the spectrum counts but what was measured on it is unknown.

    Parameters
    ----------
    widths_at_rest : bool
        Whether the equivalent widths are at rest, to be multiplied by 1 + z.

    Raises
    ------
    SwimmyError
        Also when rows can be joined in neither way.
    """
    table = _read_spectra(info, {"z": "float", "specobjid": "text", "reliable": "float"})
    lines = _read_measured(line, [f"{name}_eqw{error}" for name in LINES for error in ("", "_err")])
    extras = _read_measured(extra, ["bptclass", "lgm_tot_p50", "sfr_tot_p50"])

    measured = _no_warning(table) & np.isfinite(table.floats("z"))
    if "reliable" in table.columns:
        measured &= table.floats("reliable") > 0
    line_value, extra_value = (_measured_values(table, other, measured) for other in (lines, extras))
    redshift = np.where(measured, table.floats("z"), np.nan)
    factor = 1.0 + redshift if widths_at_rest else 1.0
    widths = {name: observed_widths(line_value(f"{name}_eqw"), line_value(f"{name}_eqw_err"), factor) for name in LINES}
    mass, rate = extra_value("lgm_tot_p50"), extra_value("sfr_tot_p50")
    has_plate = _found(table, _PLATE) is not None
    counts = _integers(table, _PLATE) > 0 if has_plate else np.ones(table.n_rows, np.bool_)
    return MpaJhu(
        spectra=_spectra(table, counts, redshift=redshift),
        widths=widths,
        bptclass=np.nan_to_num(extra_value("bptclass"), nan=-1.0).clip(min=-1.0).astype(np.int16),
        log_stellar_mass=np.where(mass > 0.0, mass, np.nan),
        log_sfr=np.where(rate > _MISSING_LOG, rate, np.nan),
    )


# ---- columns of a table


def _read_spectra(path: Path, wanted: dict[str, str], required: Sequence[str] = ("z",)) -> InputTable:
    """A table with positions and names of spectra, and with other columns and their kinds."""
    names = dict.fromkeys((*_RA, *_DEC, *_PLATE, *_MJD, *_FIBER, *_ZWARNING), "float")
    table = InputTable.read(path, names | wanted)
    for alternatives in (_RA, _DEC, *((name,) for name in required)):
        _name(table, alternatives)
    return table


def _read_measured(path: Path, names: Sequence[str]) -> InputTable:
    """A table of numbers that were measured on spectra, and SPECOBJID if it has that."""
    table = InputTable.read(path, dict.fromkeys(names, "float") | {"specobjid": "text"})
    for name in names:
        _name(table, (name,))
    return table


def _measured_values(info: InputTable, other: InputTable, measured: BoolArray) -> Callable[[str], DoubleArray]:
    """Columns of ``other``, by name, for the rows of ``info``; NaN where not ``measured``."""
    rows = _joined(info, other)
    return lambda name: np.where(measured & (rows >= 0), other.floats(name)[rows], np.nan)


def _found(table: InputTable, alternatives: Sequence[str]) -> str | None:
    """The first of these names that the table has."""
    return next((name for name in alternatives if name in table.columns), None)


def _name(table: InputTable, alternatives: Sequence[str]) -> str:
    """The first of these names that the table has; refused if it has none."""
    name = _found(table, alternatives)
    if name is None:
        raise SwimmyError(
            f"{table.path} has no column {' or '.join(word.upper() for word in alternatives)}. "
            "Give the table with its published column names, in upper or lower case."
        )
    return name


def _integers(table: InputTable, alternatives: Sequence[str]) -> npt.NDArray[np.int32]:
    """A column of whole numbers, shape (n,); -1 where unknown or negative, and if there is no such column."""
    values = table.floats(_found(table, alternatives) or "")
    return np.nan_to_num(values, nan=-1.0).clip(-1, 2**31 - 1).astype(np.int32)


def _no_warning(table: InputTable) -> BoolArray:
    """Where the redshift has no warning; everywhere if there is no column of warnings."""
    name = _found(table, _ZWARNING)
    return np.ones(table.n_rows, np.bool_) if name is None else table.floats(name) == 0


def _spectra(
    table: InputTable, counts: BoolArray, is_sdss: bool = True, redshift: DoubleArray | None = None
) -> Spectra:
    """Spectra of a table; those that do not count, or are not on the sphere, lose their position."""
    ra, dec = table.floats(_name(table, _RA)), table.floats(_name(table, _DEC))
    placed = counts & (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90)
    unknown = np.full(table.n_rows, -1, np.int32)
    return Spectra(
        ra=np.where(placed, ra, np.nan),
        dec=np.where(placed, dec, np.nan),
        redshift=table.floats("z") if redshift is None else redshift,
        plate=_integers(table, _PLATE) if is_sdss else unknown,
        mjd=_integers(table, _MJD) if is_sdss else unknown,
        fiberid=_integers(table, _FIBER) if is_sdss else unknown,
        simulated=table.simulated,
    )


def _joined(info: InputTable, other: InputTable) -> IntArray:
    """Row of ``other`` that belongs to each row of ``info``, -1 for none."""
    if "specobjid" in info.columns and "specobjid" in other.columns:
        ids, theirs = (object_ids(table.columns["specobjid"])[0] for table in (info, other))
        if np.array_equal(ids, theirs):
            return np.arange(info.n_rows)
        order = np.argsort(theirs, kind="stable")
        row = order[np.searchsorted(theirs, ids, sorter=order).clip(max=len(order) - 1)]
        return np.where((theirs[row] == ids) & (ids > 0), row, -1)
    if info.n_rows != other.n_rows:
        raise SwimmyError(
            f"{info.path} has {info.n_rows} rows and {other.path} has {other.n_rows}, and not both have SPECOBJID, so "
            "nothing says which rows belong together. Give the three files of one release."
        )
    return np.arange(info.n_rows)
