"""What the pixels of a file are in: how they become AB flux by its header, or why they cannot."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np
from astropy import units

from swimmy_scale.ingest.pixels.fits_scan import (
    Cards,
    UnusableFileError,
    card_number,
    card_text,
    first_number,
    unreadable,
)
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray

ZERO_POINT_CARDS = ("FLUXMAG0", "MAGZERO", "PHOTZP")
# Pan-STARRS: counts of an exposure, and pixels of stacks that are asinh of counts.
EXPOSURE_ZERO_POINT, _EXPOSURE = "HIERARCH FPA.ZP", "EXPTIME"
_OFFSET, _SOFTENING = "BOFFSET", "BSOFTEN"
_SYSTEM = "PHOTSYS"
UNIT_CARDS = (*ZERO_POINT_CARDS, "BUNIT", _SYSTEM, EXPOSURE_ZERO_POINT, _OFFSET, _SOFTENING)
"""Cards whose values are used here, and `EXPOSURE_CARDS`; of others it only matters whether they are there."""
EXPOSURE_CARDS = (_EXPOSURE,)
"""Used where there is the zero point of a second of exposure."""
# Zero points by other names are in the Vega system as often as in AB.
_OTHER_ZERO_POINTS = (
    *("MAGZPT", "MAGZP", "MAG_ZP", "MAGZEROP", "ZEROPT", "ZEROPNT", "ZP", "ZPT", "ZPAB", "PHOTZPT", "PHOT_ZP"),
)
_COUNTS = {"adu", "adus", "dn", "count", "counts", "ct", "cts", "e", "e-", "electron", "electrons", "photon", "photons"}
_UNSAID = {"", "1", "none", "unknown", "undefined", "n/a", "relative", "arbitrary"}
_PER_TIME = re.compile(r"\s*(?:/\s*s(?:ec(?:onds?)?)?|[\s.*]s(?:\*\*|\^)?\(?-1\)?)$")
_MAGGIES = {"maggy": 0.0, "maggies": 0.0, "nanomaggy": 22.5, "nanomaggies": 22.5, "nmgy": 22.5, "mgy": 0.0}
AGREEMENT_MAG = 0.01
"""By how much zero points of one file may differ."""


class AsinhScale(NamedTuple):
    """Pixels that are asinh magnitudes of counts, as Pan-STARRS writes its stacks.

    Attributes
    ----------
    offset, softening : float
        Counts.
    """

    offset: float
    softening: float

    def counts(self, pixels: AnyArray) -> AnyArray:
        """Counts, float64: offset + softening (10**(0.4 v) - 10**(-0.4 v)) of pixels v.

        Source: the notes on FITS images of the PS1 Image Cutout Service, outerspace.stsci.edu.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.offset + 2.0 * self.softening * np.sinh(pixels * np.float64(0.4 * math.log(10.0))))


def asinh_scale(image_cards: Cards, primary_cards: Cards) -> AsinhScale | None:
    """How pixels become counts where they are asinh of them, by BSOFTEN and BOFFSET; None where pixels are linear.

    Raises
    ------
    UnusableFileError
        WRONG_UNIT where only one of the two is there, or it is no number.
    """
    offset, softening = (first_number((image_cards, primary_cards), name) for name in (_OFFSET, _SOFTENING))
    if offset is None and softening is None:
        return None
    if offset is None or softening is None or not (math.isfinite(offset) and 0 < softening < math.inf):
        raise _wrong(
            f"{_SOFTENING} {softening} and {_OFFSET} {offset} say that its pixels are asinh of counts, and not which. "
            "Fetch the file again, or convert it to linear counts"
        )
    return AsinhScale(offset, softening)


def zero_point(image_cards: Cards, primary_cards: Cards) -> float | None:
    """AB zero point of a file's pixels, in mag; None where the file states none.

    It comes from the cards FLUXMAG0 (2.5 log10 of it), MAGZERO and PHOTZP, of the image's header before the primary
    one, from HIERARCH FPA.ZP + 2.5 log10(EXPTIME) of Pan-STARRS, and from a BUNIT that is a flux density, such as nJy.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE where a card's value cannot be a zero point. WRONG_UNIT where two that are stated differ by more
        than 0.01 mag, BUNIT is no unit of flux, PHOTSYS is not AB, or FPA.ZP is without a time of exposure.
    """
    both = (image_cards, primary_cards)
    stated = _from_cards(*both)
    unit = next((text for text in (card_text(cards, "BUNIT") for cards in both) if text is not None), b"")
    by_unit = zero_point_of_unit(unit.decode("ascii", "replace"), bool(stated))
    if by_unit is not None:
        stated["BUNIT"] = by_unit
    system = next((text for text in (card_text(cards, _SYSTEM) for cards in both) if text), b"AB")
    if stated.keys() & set(ZERO_POINT_CARDS) and system.upper().strip() not in (b"AB", b"ABMAG"):
        raise _wrong(
            f"{_SYSTEM} says that its zero point is in the system {system.decode('ascii', 'replace')}. Write the AB "
            f"zero point into MAGZERO, and AB into {_SYSTEM}"
        )
    if stated and max(stated.values()) - min(stated.values()) > AGREEMENT_MAG:
        said = ", ".join(f"{keyword} {value:.3f}" for keyword, value in stated.items())
        raise _wrong(f"its zero points contradict each other: {said} mag. Remove those that do not hold for the pixels")
    if not stated:
        others = [name for name in _OTHER_ZERO_POINTS if any(f"{name:<8}".encode() in cards for cards in both)]
        if others:
            raise _wrong(
                f"{others[0]} states a zero point, which may be AB or not. Write the AB zero point into MAGZERO"
            )
    return next(iter(stated.values()), None)


def zero_point_of_unit(text: str, has_zero_point: bool = False) -> float | None:
    """AB zero point, in mag, of a unit of flux density; None for counts, and where the text says nothing.

    ``has_zero_point``: a zero point is stated beside the unit, so that an unknown one may be of counts.

    Raises
    ------
    UnusableFileError
        WRONG_UNIT where the unit is known and not linear in flux density, or unknown and no zero point is stated.
    """
    name = " ".join(text.split())
    if name.lower() in _UNSAID or _PER_TIME.sub("", name.lower()) in _COUNTS:
        return None
    if name.lower() in _MAGGIES:
        return _MAGGIES[name.lower()]
    try:
        unit = units.Unit(name, parse_strict="raise")
    except (ValueError, TypeError):
        if has_zero_point:
            return None
        raise _wrong(
            f"BUNIT {name!r} is not known, and no zero point is stated. Write MAGZERO into its header"
        ) from None
    # Magnitudes and other logarithms of a flux density are no UnitBase, but equivalent to one.
    try:
        if isinstance(unit, units.UnitBase) and unit.is_equivalent(units.Jy):
            return float((1.0 * unit).to_value(units.ABmag))
    except OverflowError:
        raise _wrong(f"BUNIT {name!r} is no unit of any size that a number holds. Convert to counts or nJy") from None
    raise _wrong(f"its pixels are in {name}, which is not linear in flux density. Convert them to counts or nJy")


def _from_cards(image_cards: Cards, primary_cards: Cards) -> dict[str, float]:
    """Zero points in mag, by the card that states them."""
    stated: dict[str, float] = {}
    both = (image_cards, primary_cards)
    for keyword in ZERO_POINT_CARDS:
        for cards in both:
            value = card_number(cards, keyword)
            if value is None:
                continue
            is_flux = keyword == "FLUXMAG0"
            if not math.isfinite(value) or (is_flux and value <= 0) or (not is_flux and abs(value) > 60):
                raise unreadable(f"{keyword} = {value} is not a zero point")
            stated.setdefault(keyword, 2.5 * math.log10(value) if is_flux else value)
    of_a_second, seconds = (first_number(both, name) for name in (EXPOSURE_ZERO_POINT, _EXPOSURE))
    if of_a_second is not None:
        if seconds is None or not (abs(of_a_second) <= 60 and 0 < seconds < math.inf):
            raise _wrong(
                f"its zero point is FPA.ZP + 2.5 log10({_EXPOSURE}), and these are {of_a_second} and {seconds}. Write "
                "the AB zero point into MAGZERO, and leave FPA.ZP out"
            )
        stated["FPA.ZP"] = of_a_second + 2.5 * math.log10(seconds)
    return stated


def _wrong(reason: str) -> UnusableFileError:
    return UnusableFileError(Code.WRONG_UNIT, reason)
