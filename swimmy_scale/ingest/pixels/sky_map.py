"""World coordinates of an image: from a position on the sky to a pixel."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from swimmy_scale.ingest.pixels.fits_scan import Cards, card_number, card_text
from swimmy_scale.method.survey import DoubleArray

_DEGREES_PER_RADIAN = math.degrees(1.0)

WCS_NUMBERS = (
    *("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2", "CROTA1", "CROTA2", "LONPOLE", "LATPOLE"),
    *("CD1_1", "CD1_2", "CD2_1", "CD2_2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "EQUINOX"),
    *(f"PV{axis}_{number}" for axis in (1, 2) for number in range(40)),
    *(f"{name}_{i}_{j}" for name in ("A", "B", "AP", "BP") for i in range(10) for j in range(10 - i)),
)
WCS_ORDERS = ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER")
WCS_TEXTS = ("CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "RADESYS", "RADECSYS")
# A plain TAN projection in ICRS has none of these cards.
_NOT_SIMPLE = {
    name.ljust(8).encode()
    for name in (*WCS_ORDERS, "CROTA1", "CROTA2", "LATPOLE", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "CDELT1", "CDELT2")
}


@dataclass(frozen=True)
class SkyMap:
    """World coordinates of one image.

    Attributes
    ----------
    values : dict of str to float or str
        The WCS cards and no others: nothing else of a header reaches astropy.
    simple : bool
        Whether this is a plain TAN projection with a CD matrix in ICRS, which needs no astropy.
    """

    values: dict[str, float | str]
    simple: bool

    @overload
    def to_pixel(self, ra: float, dec: float) -> tuple[float, float]: ...
    @overload
    def to_pixel(self, ra: DoubleArray, dec: DoubleArray) -> tuple[DoubleArray, DoubleArray]: ...

    def to_pixel(
        self, ra: DoubleArray | float, dec: DoubleArray | float
    ) -> tuple[DoubleArray | float, DoubleArray | float]:
        """Pixel (x, y) of ICRS positions in degrees.

        Pixels are 0-based, integers at pixel centres; NaN where a position cannot be projected.
        """
        return self._gnomonic(ra, dec) if self.simple else self._by_astropy(ra, dec)

    def footprint(self, shape: tuple[int, int]) -> tuple[float, float, float]:
        """RA, Dec and radius, in degrees, of a circle on the sky around an image of axes (y, x)."""
        n_y, n_x = shape
        x = np.array([(n_x - 1) / 2, -1.0, n_x, -1.0, n_x, (n_x - 1) / 2, (n_x - 1) / 2, -1.0, n_x])
        y = np.array([(n_y - 1) / 2, -1.0, -1.0, n_y, n_y, -1.0, n_y, (n_y - 1) / 2, (n_y - 1) / 2])
        with warnings.catch_warnings(action="ignore"):
            sky = WCS(fits.Header(self.values)).pixel_to_world(x, y).icrs
            radius_deg = float(sky[0].separation(sky).deg.max())
        if not math.isfinite(radius_deg):
            # Part of the image is off the sky: take all of the sky.
            return 0.0, 0.0, 180.0
        return float(sky[0].ra.deg), float(sky[0].dec.deg), min(1.01 * radius_deg, 180.0)

    def _gnomonic(self, ra: Any, dec: Any) -> tuple[Any, Any]:
        """TAN projection (Calabretta and Greisen 2002, A&A 395, 1077, section 5.1.3, with LONPOLE = 180).

        D = sin d sin d0 + cos d cos d0 cos(a - a0),
        X = cos d sin(a - a0) / D, Y = (sin d cos d0 - cos d sin d0 cos(a - a0)) / D, in radians;
        pixel - CRPIX = CD^-1 (X, Y) in degrees.
        """
        value: dict[str, Any] = self.values
        # Cutouts ask for one position at a time, and NumPy would cost ten times as much as the sums.
        one = isinstance(ra, float) and isinstance(dec, float)
        sin, cos, radians = (math.sin, math.cos, math.radians) if one else (np.sin, np.cos, np.radians)
        delta, dec, dec_0 = radians(ra - value["CRVAL1"]), radians(dec), math.radians(value["CRVAL2"])
        if one and not math.isfinite(delta + dec):
            return math.nan, math.nan
        sin_dec, cos_dec, cos_delta = sin(dec), cos(dec), cos(delta)
        depth = sin_dec * math.sin(dec_0) + cos_dec * math.cos(dec_0) * cos_delta
        # Positions on the other half of the sky cannot be projected.
        depth = (depth if depth > 0 else math.nan) if one else np.where(depth > 0, depth, np.nan)
        scale = _DEGREES_PER_RADIAN / depth
        x = cos_dec * sin(delta) * scale
        y = (sin_dec * math.cos(dec_0) - cos_dec * math.sin(dec_0) * cos_delta) * scale
        a, b, c, d = value["CD1_1"], value["CD1_2"], value["CD2_1"], value["CD2_2"]
        determinant = a * d - b * c
        return (
            (d * x - b * y) / determinant + value["CRPIX1"] - 1.0,
            (a * y - c * x) / determinant + value["CRPIX2"] - 1.0,
        )

    def _by_astropy(self, ra: DoubleArray | float, dec: DoubleArray | float) -> tuple[DoubleArray, DoubleArray]:
        try:
            with warnings.catch_warnings(action="ignore"):
                wcs = WCS(fits.Header(self.values))
                x, y = wcs.world_to_pixel(SkyCoord(ra, dec, unit="deg", frame="icrs"))
        except Exception:
            # wcslib and astropy raise many types here; all mean that the position has no pixel.
            x = y = np.full(np.shape(ra), np.nan)
        return np.asarray(x, np.float64), np.asarray(y, np.float64)


def sky_map(cards: Cards) -> SkyMap | None:
    """World coordinates of an image header; None if it has no celestial WCS or one that astropy does not accept."""
    types = [(card_text(cards, f"CTYPE{axis}") or b"").decode("ascii", "replace") for axis in (1, 2)]
    if not all("-" in kind for kind in types):
        return None
    if types != ["RA---TAN", "DEC--TAN"] or not _is_simple(cards):
        return _general_sky_map(cards)
    keys = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
    numbers = {key: card_number(cards, key) or 0.0 for key in keys}
    determinant = numbers["CD1_1"] * numbers["CD2_2"] - numbers["CD1_2"] * numbers["CD2_1"]
    usable = all(map(math.isfinite, numbers.values())) and abs(numbers["CRVAL2"]) < 90.0
    if not usable or determinant == 0.0 or not math.isfinite(1.0 / determinant):
        return None
    return SkyMap({"CTYPE1": types[0], "CTYPE2": types[1], **numbers}, simple=True)


def _is_simple(cards: Cards) -> bool:
    if b"CD1_1   " not in cards or not _NOT_SIMPLE.isdisjoint(cards):
        return False
    if card_number(cards, "LONPOLE") not in (None, 180.0) or any(key.startswith(b"PV") for key in cards):
        return False
    if any((card_text(cards, f"CUNIT{axis}") or b"deg") != b"deg" for axis in (1, 2)):
        return False
    frame = card_text(cards, "RADESYS")
    # Without RADESYS an EQUINOX means FK5 (FITS 4.0, section 8.3).
    return frame == b"ICRS" or (frame is None and b"EQUINOX " not in cards and b"RADECSYS" not in cards)


def _general_sky_map(cards: Cards) -> SkyMap | None:
    values: dict[str, float | str] = {}
    for keyword in WCS_TEXTS:
        text = card_text(cards, keyword)
        if text is not None:
            values[keyword] = text.decode("ascii", "replace")
    for keyword in WCS_NUMBERS + WCS_ORDERS:
        number = card_number(cards, keyword)
        if number is not None:
            values[keyword] = number
    for keyword in WCS_ORDERS:
        order = values.get(keyword, 0.0)
        # A distortion polynomial's order is a size that astropy would allocate.
        if not isinstance(order, float) or not 0.0 <= order <= 9.0:
            return None
        if keyword in values:
            values[keyword] = int(order)
    if not all(math.isfinite(value) for value in values.values() if not isinstance(value, str)):
        return None
    if "A_ORDER" in values or "B_ORDER" in values:
        # astropy applies the distortion with or without this suffix, but without it logs a message for every file.
        for keyword in ("CTYPE1", "CTYPE2"):
            values[keyword] = str(values[keyword]).removesuffix("-SIP") + "-SIP"
    try:
        with warnings.catch_warnings(action="ignore"):
            if not WCS(fits.Header(values)).has_celestial:
                return None
    except Exception:
        # wcslib and astropy raise many types here; all mean that this is no usable WCS.
        return None
    return SkyMap(values, simple=False)
