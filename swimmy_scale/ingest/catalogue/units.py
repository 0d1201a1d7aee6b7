"""Units that a table declares for its columns, and angles that it spells in base 60."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import numpy.typing as npt
from astropy.coordinates import Angle

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import BoolArray, DoubleArray

# What tables write where they mean none.
_NO_UNIT = ("", "-", "--", "---", "none", "null", "unitless", "dimensionless", "1")
# Spellings of plain and AB magnitudes that no standard has, by their letters alone. Column names say which they are.
_MAGNITUDES = ("mag", "mags", "abmag", "abmags", "magab", "magsab", "magnitude", "magnitudes", "ab")
_OTHER_SPELLINGS = {"nanomaggies": "nmgy", "nanomaggy": "nmgy", "maggies": "mgy"}
_ANGSTROM = ("a", "ang", "angstroms")
_HOURS = ("h:m:s", "hms", "hourangle", "hour", "hours", "h")
_FRAMES = ("", "icrs", "fk5", "j2000", "j2000.0", "gcrs")
_SEXAGESIMAL = re.compile(r"\s*[+-]?\d{1,3}(\s*[:hd°]\s*|\s+)\d{1,2}(\s*[:m'′]\s*|\s+)\d{1,2}(\.\d*)?\s*[s\"″]?\s*")


def converted(values: DoubleArray, declared: str, unit: str, column: str, path: Path) -> DoubleArray:
    """Values of a column in the unit that its meaning needs.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        NaN where unknown.
    declared : str
        The unit that the table declares, in any spelling that astropy reads.
    unit : str
        The one that is needed: "deg", "arcsec", "arcsec2", "pix2", "nJy", "mag" (AB), "Angstrom", or "" for none. A
        right ascension may also be in hours, and a magnitude may come as a flux, which has none where it is not
        positive.

    Returns
    -------
    ndarray of float64, shape (n,)
        ``values`` themselves where nothing is to convert.

    Raises
    ------
    SwimmyError
        When the declared unit is not understood or cannot become the needed one.
    """
    text = _bare(declared)
    if unit == "" and text.lower() in ("z", "redshift"):
        return values
    if text.lower() in _NO_UNIT or (unit == "mag" and re.sub("[^a-z]", "", text.lower()) in _MAGNITUDES):
        return values
    parsed = _parsed(text, unit)
    if parsed is not None and unit == "deg" and "ra" in column and parsed.is_equivalent(u.s):
        return np.asarray((values * parsed).to_value(u.hour) * 15.0)
    try:
        if parsed is not None and unit == "mag":
            return _magnitudes(values, parsed)
        needed = u.Unit(unit)
        if parsed == needed:
            return values
        if parsed is not None:
            return np.asarray((values * parsed).to_value(needed, u.zero_point_flux(1.0 * u.ABflux)))
    except (u.UnitConversionError, u.UnitTypeError):
        pass
    said = "which astropy does not understand" if parsed is None else f"which cannot become {_named(unit)}"
    raise SwimmyError(
        f"{path}: column {column} has the unit {declared!r}, {said}. Correct the unit in the file, give the column in "
        f"{_named(unit)}, or, for a catalogue, say its unit with --unit {column}=UNIT (catalogue.units in a job)."
    )


def check_frame(declared: str, column: str, path: Path) -> None:
    """Refuse positions that a table declares to be in another frame than ICRS, or FK5 of J2000, 0.02 arcsec from it."""
    if declared.strip().lower().removeprefix("eq_") not in _FRAMES:
        raise SwimmyError(
            f"{path}: column {column} is in {declared}, and positions are needed in ICRS, or in FK5 of J2000. Convert "
            "them, for example by astropy's SkyCoord, or correct what the file declares."
        )


def is_sexagesimal(text: npt.NDArray[np.str_]) -> BoolArray:
    """Which texts spell an angle in base 60, such as 10:00:12.5 or 10h00m12.5s; bool, shape (n,)."""
    return np.array([_SEXAGESIMAL.fullmatch(word) is not None for word in text.tolist()], np.bool_)


def sexagesimal_degrees(text: npt.NDArray[np.str_], declared: str, column: str) -> DoubleArray:
    """Degrees of angles in base 60, as astropy reads them.

    Parameters
    ----------
    text : ndarray of str, shape (n,)
        As `is_sexagesimal` knows them.
    declared : str
        The column's unit. Without one a right ascension is in hours, another angle in degrees; a text that names its
        own unit, such as 150d00m12s, has that.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError
        When there is no such angle, as 25 hours.
    """
    said = _bare(declared).lower()
    hours = said in _HOURS or ("ra" in column and said in _NO_UNIT)
    return np.asarray(Angle(text.tolist(), unit=u.hourangle if hours else u.deg).deg, np.float64)


def _bare(declared: str) -> str:
    return declared.strip().strip("\"'").strip() if len(declared.strip()) > 1 else declared.strip()


def _parsed(text: str, unit: str) -> u.UnitBase | u.FunctionUnitBase | None:
    """The unit that a text spells; None for none that is known."""
    if unit == "Angstrom" and text.lower() in _ANGSTROM:  # A is the ampere elsewhere
        return u.Angstrom
    if unit == "Angstrom" and not text.isascii():
        text = text.replace("\N{ANGSTROM SIGN}", "Angstrom").replace(
            "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}", "Angstrom"
        )
    lower = text.lower()
    # Upper case and plural last: MJy is not mJy.
    with warnings.catch_warnings(action="ignore", category=u.UnitsWarning):  # of style
        for spelling in (text, _OTHER_SPELLINGS.get(lower, text), lower, lower.removesuffix("s")):
            found = u.Unit(spelling, parse_strict="silent")
            if not isinstance(found, u.UnrecognizedUnit):
                return found
    return None


def _magnitudes(values: DoubleArray, parsed: u.UnitBase | u.FunctionUnitBase) -> DoubleArray:
    """AB magnitudes, from magnitudes or fluxes."""
    if parsed in (u.mag, u.ABmag):
        return values
    if isinstance(parsed, u.FunctionUnitBase):
        raise u.UnitConversionError
    flux = (values * parsed).to(u.nJy, u.zero_point_flux(1.0 * u.ABflux))
    return np.asarray(np.where(flux > 0, flux, np.nan * u.nJy).to_value(u.ABmag))


def _named(unit: str) -> str:
    return {"": "a number without unit", "mag": "AB magnitudes"}.get(unit, unit)
