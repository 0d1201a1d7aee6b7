"""Published tables of spectra, read by their own column names: SDSS, GAMA, MPA-JHU, DR16Q and Milliquas.

Each function says which spectra count. The others have no position here (NaN), so that no object is matched with them.
All raise `SwimmyError` where a table cannot be read (see `InputTable.read`) or lacks a column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.input_table import InputTable
from swimmy_scale.ingest.object_ids import object_ids
from swimmy_scale.method.classes import BPT_CLASSES
from swimmy_scale.method.emission_lines import LINES, failed_fits, observed_widths
from swimmy_scale.method.sample import known
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray

# Names of columns, in lower case. Those of positions: SDSS's specObj, nearly all other tables, VizieR.
_RA, _DEC = ("plug_ra", "ra", "raj2000"), ("plug_dec", "dec", "dej2000", "decj2000")
_PLATE, _MJD, _FIBER = ("plate", "plateid"), ("mjd",), ("fiberid", "fiber")
_ZWARNING = ("zwarning", "z_warning")

LEAST_GAMA_QUALITY = 3
# Bits of SDSS's ZWARNING. MANY_OUTLIERS usually means a high signal-to-noise spectrum or broad emission lines in a
# galaxy, and only rarely an error, as SDSS's documentation says: such spectra count, for they are what is sought.
ZWARNING_BITS = (
    *("SKY", "LITTLE_COVERAGE", "SMALL_DELTA_CHI2", "NEGATIVE_MODEL", "MANY_OUTLIERS", "Z_FITLIMIT"),
    *("NEGATIVE_EMISSION", "UNPLUGGED", "BAD_TARGET", "NODATA"),
)
HARMLESS_BIT = ZWARNING_BITS.index("MANY_OUTLIERS")
# Logarithms of masses and rates beyond these mark missing values (-9999, -99, 99).
_MISSING_LOG = 90.0


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
    notes : tuple of str
        What the user should know: how many spectra each rule dropped.
    """

    ra: DoubleArray
    dec: DoubleArray
    redshift: DoubleArray
    plate: npt.NDArray[np.int32]
    mjd: npt.NDArray[np.int32]
    fiberid: npt.NDArray[np.int32]
    simulated: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class MpaJhu:
    """The MPA-JHU measurements of m spectra.

    Attributes
    ----------
    widths : dict of str to ndarray of float64, shape (m,), Angstrom
        Observed equivalent width of each of `emission_lines.LINES`, emission positive, NaN where unknown.
    failed : dict of str to ndarray of bool, shape (m,)
        Likewise, where its fit failed (see `emission_lines.failed_fits`).
    bptclass : ndarray of int16, shape (m,)
        -1 where unknown, or where the lines are too weak to tell.
    has_bptclass : ndarray of bool, shape (m,)
        Where the table gives one of `classes.BPT_CLASSES`.
    log_stellar_mass, log_sfr : ndarray of float64, shape (m,)
        NaN where unknown.
    """

    spectra: Spectra
    widths: dict[str, DoubleArray]
    failed: dict[str, BoolArray]
    bptclass: npt.NDArray[np.int16]
    has_bptclass: BoolArray
    log_stellar_mass: DoubleArray
    log_sfr: DoubleArray


def read_sdss(path: Path) -> tuple[Spectra, Spectra]:
    """SDSS's specObj: PLUG_RA or RA, PLUG_DEC or DEC, Z, and if present ZWARNING, SPECPRIMARY, PLATE, MJD, FIBERID.

    A spectrum counts if its redshift is known and ZWARNING has no bit but MANY_OUTLIERS.

    Returns
    -------
    best, repeated : Spectra
        Those with SPECPRIMARY of 1, or all if the table has no such column; and the others.
    """
    table = _read_spectra(path, {"z": "float", "specprimary": "float"})
    rules = {"no redshift": np.isnan(_redshift(table)), **_warned(table)}
    counts = ~_any(rules, table)
    best = table.floats("specprimary") > 0 if "specprimary" in table.columns else np.ones(table.n_rows, np.bool_)
    notes = _notes(table, rules)
    outliers = counts & (_bits(table) >> HARMLESS_BIT & 1 == 1)
    if outliers.any():
        notes += (f"{table.path}: {int(outliers.sum())} of {table.n_rows} spectra count although MANY_OUTLIERS is set",)
    return _spectra(table, counts & best, notes), _spectra(table, counts & ~best)


def read_gama(path: Path) -> Spectra:
    """GAMA's SpecObj: RA, DEC, Z and NQ. A spectrum counts if NQ is 3 or more."""
    table = _read_spectra(path, {"z": "float", "nq": "float"}, ("z", "nq"))
    # Where there is no redshift GAMA writes Z of -2 and below. Its plates are not SDSS's.
    rules = {
        f"NQ below {LEAST_GAMA_QUALITY}": ~(table.floats("nq") >= LEAST_GAMA_QUALITY),
        "no redshift": np.isnan(_redshift(table)),
    }
    return _spectra(table, ~_any(rules, table), _notes(table, rules), is_sdss=False)


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
    Z_WARNING is not, which the table itself calls a bad redshift, the spectrum counts but what was measured on it is
    unknown.

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

    has_plate = _found(table, _PLATE) is not None
    rules = {"no plate": _integers(table, _PLATE) <= 0 if has_plate else np.zeros(table.n_rows, np.bool_)}
    doubts = {"no redshift": np.isnan(_redshift(table)), **_warned(table, harmless=False)}
    if "reliable" in table.columns:
        doubts["RELIABLE is 0"] = ~(table.floats("reliable") > 0)
    counts, measured = ~_any(rules, table), ~_any(doubts, table)
    doubts = {rule: broken & counts for rule, broken in doubts.items()}
    line_value, extra_value = (_measured_values(table, other, measured) for other in (lines, extras))
    redshift = np.where(measured, _redshift(table), np.nan)
    factor = 1.0 + redshift if widths_at_rest else 1.0
    fits = {name: (line_value(f"{name}_eqw"), line_value(f"{name}_eqw_err"), factor) for name in LINES}
    mass, rate, bptclass = (extra_value(name) for name in ("lgm_tot_p50", "sfr_tot_p50", "bptclass"))
    has_bptclass = np.isin(bptclass, BPT_CLASSES)
    notes = _notes(table, rules) + _notes(table, doubts, "were not measured reliably")
    for other in (lines, extras):
        notes += (*other.warnings, *other.conversion_warnings)
    return MpaJhu(
        spectra=_spectra(table, counts, notes, redshift=redshift),
        widths={name: observed_widths(*fit) for name, fit in fits.items()},
        failed={name: failed_fits(*fit) for name, fit in fits.items()},
        bptclass=np.where(has_bptclass, bptclass, -1).astype(np.int16),
        has_bptclass=has_bptclass,
        log_stellar_mass=np.where((mass > 0.0) & (mass < _MISSING_LOG), mass, np.nan),
        log_sfr=np.where(np.abs(rate) < _MISSING_LOG, rate, np.nan),
    )


# ---- columns of a table


def _read_spectra(path: Path, wanted: dict[str, str], required: Sequence[str] = ("z",)) -> InputTable:
    """A table with positions and names of spectra, and with other columns and their kinds."""
    names = dict.fromkeys((*_RA, *_DEC), "angle") | dict.fromkeys((*_PLATE, *_MJD, *_FIBER, *_ZWARNING), "float")
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

    def values(name: str) -> DoubleArray:
        unit = "Angstrom" if name.endswith(("_eqw", "_eqw_err")) else None
        return np.where(measured & (rows >= 0), other.floats(name, unit)[rows], np.nan)

    return values


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


def _redshift(table: InputTable) -> DoubleArray:
    """The column Z, shape (n,); NaN where unknown, whatever number marks that."""
    z = table.floats("z", "")
    return np.where(known("redshift", z), z, np.nan)


def _warned(table: InputTable, harmless: bool = True) -> dict[str, BoolArray]:
    """Spectra of which the column of warnings, if there is one, tells a fault, by its name; each of shape (n,).

    With ``harmless`` MANY_OUTLIERS is none.
    """
    name = _found(table, _ZWARNING)
    if name is None:
        return {}
    warning, bits = table.floats(name), _bits(table)
    faults = {
        f"{name.upper()} {label}": bits >> bit & 1 == 1
        for bit, label in enumerate(ZWARNING_BITS)
        if not (harmless and bit == HARMLESS_BIT)
    }
    return faults | {
        f"{name.upper()} of another bit": bits >> len(ZWARNING_BITS) > 0,
        f"{name.upper()} unknown": ~(warning >= 0),
    }


def _bits(table: InputTable) -> IntArray:
    """The column of warnings, shape (n,); 0 where unknown, and if there is no such column."""
    warning = table.floats(_found(table, _ZWARNING) or "")
    return np.where(warning >= 0, warning, 0).astype(np.int64)


def _any(rules: Mapping[str, BoolArray], table: InputTable) -> BoolArray:
    """Which spectra any of the rules concerns, shape (n,)."""
    return np.any([np.zeros(table.n_rows, np.bool_), *rules.values()], axis=0)


def _notes(table: InputTable, rules: Mapping[str, BoolArray], said: str = "do not count") -> tuple[str, ...]:
    """How many spectra each rule concerns; nothing if none."""
    counts = ", ".join(f"{rule} {int(broken.sum())}" for rule, broken in rules.items() if broken.any())
    number = int(_any(rules, table).sum())
    return (f"{table.path}: {number} of {table.n_rows} spectra {said}: {counts}",) if counts else ()


def _spectra(
    table: InputTable,
    counts: BoolArray,
    notes: tuple[str, ...] = (),
    is_sdss: bool = True,
    redshift: DoubleArray | None = None,
) -> Spectra:
    """Spectra of a table; those that do not count, or are not on the sphere, lose their position."""
    ra, dec = table.floats(_name(table, _RA), "deg"), table.floats(_name(table, _DEC), "deg")
    placed = counts & (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90)
    unknown = np.full(table.n_rows, -1, np.int32)
    lost = int((counts & ~placed).sum())
    unplaced = (f"{table.path}: {lost} spectra have no position",) if lost else ()
    return Spectra(
        ra=np.where(placed, ra, np.nan),
        dec=np.where(placed, dec, np.nan),
        redshift=_redshift(table) if redshift is None else redshift,
        plate=_integers(table, _PLATE) if is_sdss else unknown,
        mjd=_integers(table, _MJD) if is_sdss else unknown,
        fiberid=_integers(table, _FIBER) if is_sdss else unknown,
        simulated=table.simulated,
        notes=(*table.warnings, *table.conversion_warnings, *notes, *unplaced),
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
