"""Published tables of spectra, read by their own column names: SDSS, GAMA, MPA-JHU, DR16Q and Milliquas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.columns import Columns, object_ids
from swimmy_scale.method.emission_lines import LINES, observed_widths
from swimmy_scale.method.survey import BoolArray, DoubleArray

# What tables call a position: SDSS's specObj, nearly all others, VizieR.
_RA, _DEC = ("plug_ra", "ra", "raj2000"), ("plug_dec", "dec", "dej2000", "decj2000")
_PLATE, _MJD, _FIBER = ("plate", "plateid"), ("mjd",), ("fiberid", "fiber")
_ZWARNING = ("zwarning", "z_warning")

LEAST_GAMA_QUALITY = 3
# Below it, logarithms of masses and rates are marks of missing values (-9999, -99).
_MISSING_LOG = -90.0


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra of m sources with redshifts that can be relied on.

    Attributes
    ----------
    ra, dec : ndarray of float64, shape (m,), degrees
        NaN where unknown, and for spectra that do not count.
    redshift : ndarray of float64, shape (m,)
        NaN where unknown.
    plate, mjd, fiberid : ndarray of int32, shape (m,)
        SDSS's name of the spectrum, -1 where unknown.
    simulated : bool
        The file says that nothing in it was observed.
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
    spectra : Spectra
    widths : dict of str to ndarray of float64, shape (m,), Angstrom
        Observed width of each of `emission_lines.LINES`, emission positive, NaN where unknown.
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


@dataclass(frozen=True, eq=False)
class Milliquas:
    """Quasars and active nuclei of the Milliquas catalogue, m of them.

    Attributes
    ----------
    ra, dec : ndarray of float64, shape (m,), degrees
    kind : ndarray of str, shape (m,)
        One of `counterparts.MILLIQUAS_TYPES`.
    simulated : bool
    """

    ra: DoubleArray
    dec: DoubleArray
    kind: npt.NDArray[np.str_]
    simulated: bool


def read_sdss(path: Path) -> tuple[Spectra, Spectra]:
    """SDSS's specObj: PLUG_RA or RA, PLUG_DEC or DEC, Z, and where they are there ZWARNING, SPECPRIMARY, PLATE, ...

    A spectrum counts where ZWARNING is 0.

    Returns
    -------
    best, repeated : Spectra
        Those whose SPECPRIMARY is 1, or all where the table has no such column, and the others.

    Raises
    ------
    SwimmyError
        As `Columns.read`, and when a column is missing.
    """
    table = _read(path, {"z": "float", "specprimary": "float"})
    counts = np.isfinite(table.floats("z")) & _no_warning(table)
    best = table.floats("specprimary") > 0 if "specprimary" in table.columns else np.ones(table.n_rows, np.bool_)
    return _spectra(table, counts & best), _spectra(table, counts & ~best)


def read_gama(path: Path) -> Spectra:
    """GAMA's SpecObj: RA, DEC, Z and NQ. A spectrum counts where NQ is 3 and above.

    Raises
    ------
    SwimmyError
        As `Columns.read`, and when a column is missing.
    """
    table = _read(path, {"z": "float", "nq": "float"}, ("z", "nq"))
    # GAMA writes Z of -2 and below where there is none, and plates of its own or of other surveys.
    counts = (table.floats("nq") >= LEAST_GAMA_QUALITY) & (table.floats("z") > -1.0)
    return _spectra(table, counts, is_sdss=False)


def read_dr16q(path: Path) -> Spectra:
    """The quasars of SDSS's DR16Q: RA, DEC, Z, PLATE, MJD, FIBERID. All of them count.

    Raises
    ------
    SwimmyError
        As `Columns.read`, and when a column is missing.
    """
    table = _read(path, {"z": "float"})
    return _spectra(table, np.ones(table.n_rows, np.bool_))


def read_milliquas(path: Path) -> Milliquas:
    """Milliquas: RA, DEC and TYPE, in some versions DESCRIP.

    The first letter of the type tells the kind (table 4): Q is a quasar, A a type-I AGN, N and K, whose lines are
    narrow, are type-II AGN; all else (B for BL Lac objects, q for candidates, associations without a class) is other.

    Raises
    ------
    SwimmyError
        As `Columns.read`, and when a column is missing.
    """
    table = _read(path, {"type": "text", "descrip": "text"}, ())
    letters = table.strings(_name(table, ("type", "descrip"))).astype(np.str_).astype("U1")
    kinds = [letters == "Q", letters == "A", np.isin(letters, ["N", "K"])]
    kind = np.select(kinds, ["quasar", "type1_agn", "type2_agn"], "other")
    return Milliquas(*_positions(table), kind, table.simulated)


def read_mpa_jhu(info: Path, line: Path, extra: Path, widths_at_rest: bool = False) -> MpaJhu:
    """The MPA-JHU tables galSpecInfo, galSpecLine and galSpecExtra.

    Rows of the three belong together by SPECOBJID, and by their order where a table lacks it. A spectrum counts where
    its position is known; those that the pipeline has not measured have none, or the plate -1. Where RELIABLE is 0 or
    Z_WARNING is not, the spectrum counts but what was measured on it is unknown.

    Parameters
    ----------
    info, line, extra : Path
    widths_at_rest : bool
        The equivalent widths are to be multiplied by 1 + z.

    Raises
    ------
    SwimmyError
        As `Columns.read`; when a column is missing; when rows can be joined in neither way.
    """
    table = _read(info, {"z": "float", "specobjid": "text", "reliable": "float"})
    wanted = {f"{name}_eqw{error}": "float" for name in LINES for error in ("", "_err")}
    lines = _read(line, wanted | {"specobjid": "text"}, tuple(wanted), positions=False)
    more = {"bptclass": "float", "lgm_tot_p50": "float", "sfr_tot_p50": "float"}
    extras = _read(extra, more | {"specobjid": "text"}, tuple(more), positions=False)

    measured = _no_warning(table) & np.isfinite(table.floats("z"))
    if "reliable" in table.columns:
        measured &= table.floats("reliable") > 0
    at_line, at_extra = _joined(table, lines), _joined(table, extras)
    redshift = np.where(measured, table.floats("z"), np.nan)

    def value(source: Columns, name: str, rows: npt.NDArray[np.int64]) -> DoubleArray:
        return np.where(measured & (rows >= 0), source.floats(name)[rows], np.nan)

    factor = 1.0 + redshift if widths_at_rest else 1.0
    widths = {
        name: observed_widths(value(lines, f"{name}_eqw", at_line), value(lines, f"{name}_eqw_err", at_line), factor)
        for name in LINES
    }
    bptclass = np.nan_to_num(value(extras, "bptclass", at_extra), nan=-1.0).clip(min=-1.0)
    mass, rate = value(extras, "lgm_tot_p50", at_extra), value(extras, "sfr_tot_p50", at_extra)
    has_plate = _found(table, _PLATE) is not None
    counts = _integers(table, _PLATE) > 0 if has_plate else np.ones(table.n_rows, np.bool_)
    spectra = _spectra(table, counts, redshift=redshift)
    return MpaJhu(
        spectra,
        widths,
        bptclass.astype(np.int16),
        np.where(mass > 0.0, mass, np.nan),
        np.where(rate > _MISSING_LOG, rate, np.nan),
    )


# ---------------------------------------------------------------- columns of a table


def _read(path: Path, wanted: Mapping[str, str], required: Sequence[str] = ("z",), positions: bool = True) -> Columns:
    names = dict.fromkeys((*_RA, *_DEC, *_PLATE, *_MJD, *_FIBER, *_ZWARNING), "float") if positions else {}
    table = Columns.read(path, names | dict(wanted), {}, (), ())
    for alternatives in (*((_RA, _DEC) if positions else ()), *((name,) for name in required)):
        _name(table, alternatives)
    return table


def _found(table: Columns, alternatives: Sequence[str]) -> str | None:
    return next((name for name in alternatives if name in table.columns), None)


def _name(table: Columns, alternatives: Sequence[str]) -> str:
    name = _found(table, alternatives)
    if name is None:
        raise SwimmyError(
            f"{table.path} has no column {' or '.join(word.upper() for word in alternatives)}. "
            "Give the table with its published column names, in any case of letters."
        )
    return name


def _integers(table: Columns, alternatives: Sequence[str]) -> npt.NDArray[np.int32]:
    """A column of numbers from 0, shape (n,): -1 where unknown, negative or not there."""
    values = table.floats(_found(table, alternatives) or "")
    return np.nan_to_num(values, nan=-1.0).clip(-1, 2**31 - 1).astype(np.int32)


def _positions(table: Columns) -> tuple[DoubleArray, DoubleArray]:
    ra, dec = table.floats(_name(table, _RA)), table.floats(_name(table, _DEC))
    sound = (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90)
    return np.where(sound, ra, np.nan), np.where(sound, dec, np.nan)


def _no_warning(table: Columns) -> BoolArray:
    name = _found(table, _ZWARNING)
    return np.ones(table.n_rows, np.bool_) if name is None else table.floats(name) == 0


def _spectra(table: Columns, counts: BoolArray, is_sdss: bool = True, redshift: DoubleArray | None = None) -> Spectra:
    ra, dec = _positions(table)
    unknown = np.full(table.n_rows, -1, np.int32)
    return Spectra(
        ra=np.where(counts, ra, np.nan),
        dec=np.where(counts, dec, np.nan),
        redshift=table.floats("z") if redshift is None else redshift,
        plate=_integers(table, _PLATE) if is_sdss else unknown,
        mjd=_integers(table, _MJD) if is_sdss else unknown,
        fiberid=_integers(table, _FIBER) if is_sdss else unknown,
        simulated=table.simulated,
    )


def _joined(info: Columns, other: Columns) -> npt.NDArray[np.int64]:
    """Row of ``other`` that belongs to each row of ``info``, -1 for none."""
    if "specobjid" in info.columns and "specobjid" in other.columns:
        ids, theirs = (_spectrum_ids(table.columns["specobjid"]) for table in (info, other))
        if np.array_equal(ids, theirs):
            return np.arange(info.n_rows)
        order = np.argsort(theirs, kind="stable")
        row = order[np.searchsorted(theirs, ids, sorter=order).clip(max=len(order) - 1)]
        return np.where((theirs[row] == ids) & (ids > 0), row, -1)
    if info.n_rows != other.n_rows:
        raise SwimmyError(
            f"{info.path} has {info.n_rows} rows and {other.path} has {other.n_rows}, and not both have SPECOBJID, so "
            "nothing says which rows belong together. Give three files of one release."
        )
    return np.arange(info.n_rows)


def _spectrum_ids(column: Any) -> npt.NDArray[np.int64]:
    return object_ids(column)[0]
