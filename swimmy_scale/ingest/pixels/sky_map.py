"""World coordinates of an image: from a position on the sky to a pixel, and back."""

from __future__ import annotations

import functools
import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from astropy.io import fits

from swimmy_scale.ingest.pixels.fits_scan import (
    CARD_BYTES,
    Cards,
    UnusableFileError,
    card_number,
    card_text,
    parse_cards,
    unreadable,
)
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray

# They take a fifth of a second to import, and plain projections need none of it.
if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS

_DEGREES_PER_RADIAN = math.degrees(1.0)
# The cards of a plain TAN projection: those that place it, and those that may only say what is plain.
PLACING_CARDS = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2")
_MATRIX_CARDS = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
PLAIN_CARDS = (
    *PLACING_CARDS,
    *_MATRIX_CARDS,
    "CTYPE1",
    "CTYPE2",
    "CUNIT1",
    "CUNIT2",
    "RADESYS",
    "EQUINOX",
    "WCSAXES",
    "LONPOLE",
)
_PLAIN = {name.ljust(8).encode() for name in PLAIN_CARDS}
# Keywords of the primary description that wcslib or astropy act on: of any matrix form, projection parameter,
# distortion or frame (FITS 4.0, section 8; SIP; SCAMP's PV; TNX and ZPX of IRAF; the plates of DSS). Alternate
# descriptions, whose keywords end in a letter, are not used.
_ACTED_ON = re.compile(
    rb"(?:C(?:TYPE|UNIT|RPIX|RVAL|DELT|ROTA)\d+|(?:PC|CD)(?:\d+_\d+|\d{6})|P[VS]\d+_\d+|PROJP\d+"
    rb"|(?:A|B|AP|BP)_(?:\d+_\d+|ORDER)|WCSAXES|LONPOLE|LATPOLE|RADE(?:SYS|CSYS)|EQUINOX|EPOCH|WAT\d_\d+"
    rb"|D[PQ]\d+(?:\..*)?|C[PQ]DIS\d+|CPERR\d+|CQERR\d+|D2IM.*|AXISCORR|VSOURCE|AMD[XY]\d+|PLTRA[HMS]|CNPIX[12])\s*"
)
# Distortions that lie in tables of other HDUs; astropy leaves some of them out without a word.
_ELSEWHERE = re.compile(rb"D2IM|C[PQ]DIS|AXISCORR")
_AXIS_LIMIT, _ORDER_LIMIT = 9, 9
# astropy's iteration through a distortion may end elsewhere.
_ROUND_TRIP_PX = 0.05


@dataclass(frozen=True)
class SkyMap:
    """World coordinates of one image.

    Attributes
    ----------
    values : dict of str to float
        The numbers of a plain TAN projection with a CD matrix in ICRS, which needs no astropy. Empty for others.
    header : str
        All cards of the image's header, for astropy. Empty for a plain projection.
    """

    values: dict[str, float]
    header: str = ""

    @property
    def simple(self) -> bool:
        """Whether this is a plain projection."""
        return not self.header

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

    def to_sky(self, x: DoubleArray | float, y: DoubleArray | float) -> tuple[DoubleArray, DoubleArray]:
        """ICRS position (RA, Dec) in degrees of pixels, 0-based; NaN where there is no sky.

        For a plain projection the inverse of TAN (Calabretta and Greisen 2002, A&A 395, 1077): with xi, eta the
        projected offsets in radians, a = a0 + atan2(xi, cos d0 - eta sin d0) and
        d = atan2(sin d0 + eta cos d0, hypot(xi, cos d0 - eta sin d0)).
        """
        if not self.simple:
            with warnings.catch_warnings(action="ignore"):
                sky = _astropy_wcs(self.header).pixel_to_world(x, y).icrs
            return np.asarray(sky.ra.deg, np.float64), np.asarray(sky.dec.deg, np.float64)
        value = self.values
        dx, dy = np.asarray(x) + 1.0 - value["CRPIX1"], np.asarray(y) + 1.0 - value["CRPIX2"]
        xi = np.radians(value["CD1_1"] * dx + value["CD1_2"] * dy)
        eta = np.radians(value["CD2_1"] * dx + value["CD2_2"] * dy)
        dec_0 = math.radians(value["CRVAL2"])
        across = math.cos(dec_0) - eta * math.sin(dec_0)
        ra = (value["CRVAL1"] + np.degrees(np.arctan2(xi, across))) % 360.0
        dec = np.degrees(np.arctan2(math.sin(dec_0) + eta * math.cos(dec_0), np.hypot(xi, across)))
        return ra, dec

    def pixel_scales_arcsec(self) -> tuple[float, float]:
        """Size of a pixel along x and y, in arcsec, at the reference point."""
        if not self.simple:
            with warnings.catch_warnings(action="ignore"):
                x, y = _scales_deg(_astropy_wcs(self.header)) * 3600.0
            return float(x), float(y)
        value = self.values
        return (
            3600.0 * math.hypot(value["CD1_1"], value["CD2_1"]),
            3600.0 * math.hypot(value["CD1_2"], value["CD2_2"]),
        )

    def footprint(self, shape: tuple[int, int]) -> tuple[float, float, float]:
        """RA, Dec and radius, in degrees, of a circle on the sky around an image of axes (y, x)."""
        n_y, n_x = shape
        x = np.array([(n_x - 1) / 2, -1.0, n_x, -1.0, n_x, (n_x - 1) / 2, (n_x - 1) / 2, -1.0, n_x])
        y = np.array([(n_y - 1) / 2, -1.0, -1.0, n_y, n_y, -1.0, n_y, (n_y - 1) / 2, (n_y - 1) / 2])
        ra, dec = self.to_sky(x, y)
        if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
            # Part of the image is off the sky: take all of the sky.
            return 0.0, 0.0, 180.0
        from astropy.coordinates import SkyCoord

        sky = SkyCoord(ra, dec, unit="deg")
        return float(ra[0]), float(dec[0]), min(1.01 * float(sky[0].separation(sky).deg.max()), 180.0)

    def _gnomonic(self, ra: Any, dec: Any) -> tuple[Any, Any]:
        """TAN projection (Calabretta and Greisen 2002, A&A 395, 1077, section 5.1.3, with LONPOLE = 180).

        D = sin d sin d0 + cos d cos d0 cos(a - a0),
        X = cos d sin(a - a0) / D, Y = (sin d cos d0 - cos d sin d0 cos(a - a0)) / D, in radians;
        pixel - CRPIX = CD^-1 (X, Y) in degrees.
        """
        value = self.values
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
        from astropy.coordinates import SkyCoord

        wcs = _astropy_wcs(self.header)
        try:
            with warnings.catch_warnings(action="ignore"):
                sky = SkyCoord(ra, dec, unit="deg", frame="icrs")
                x, y = (np.asarray(pixel, np.float64) for pixel in wcs.world_to_pixel(sky))
                if wcs.has_distortion:
                    arrives = _comes_back(wcs, x, y, sky)
                    x, y = np.where(arrives, x, np.nan), np.where(arrives, y, np.nan)
        except MemoryError:
            raise
        except Exception:
            # wcslib and astropy raise many types here; all mean that the position has no pixel.
            x = y = np.full(np.shape(ra), np.nan)
        return x, y


def sky_map(header: bytes) -> SkyMap | None:
    """World coordinates of an image, as astropy reads them from all cards of its header.

    Returns
    -------
    SkyMap or None
        None where no axis is a celestial one.

    Raises
    ------
    UnusableFileError
        UNREADABLE_FILE, with the reason, where the header has celestial axes that astropy does not accept, or that
        need other parts of the file.
    """
    cards = parse_cards(header)
    types = [(card_text(cards, f"CTYPE{axis}") or b"").decode("ascii", "replace") for axis in (1, 2)]
    if not any("-" in kind for kind in types):
        return None
    acted_on = [header[at : at + 8] for at in range(0, len(header), CARD_BYTES) if header[at + 8 : at + 10] == b"= "]
    acted_on = [keyword for keyword in acted_on if _ACTED_ON.fullmatch(keyword)]
    is_plain = types == ["RA---TAN", "DEC--TAN"] and _PLAIN.issuperset(acted_on)
    if is_plain and len(set(acted_on)) == len(acted_on) and _says_plain(cards):
        return _plain_sky_map(cards)
    return _general_sky_map(header, cards, types)


def _says_plain(cards: Cards) -> bool:
    """Whether all cards of ``PLAIN_CARDS`` are plain numbers, in degrees, of ICRS and in two axes."""
    if b"CD1_1   " not in cards or card_number(cards, "WCSAXES") not in (None, 2.0):
        return False
    if card_number(cards, "LONPOLE") not in (None, 180.0):
        return False
    if any((card_text(cards, f"CUNIT{axis}") or b"deg") != b"deg" for axis in (1, 2)):
        return False
    if any(b"CUNIT%d  " % axis in cards and card_text(cards, f"CUNIT{axis}") is None for axis in (1, 2)):
        return False
    # A reference point at a pole turns with LONPOLE, one beyond it is an error: both are left to astropy.
    if abs(card_number(cards, "CRVAL2") or 0.0) >= 90.0:
        return False
    # Without RADESYS an EQUINOX means FK4 or FK5 (FITS 4.0, section 8.3).
    return card_text(cards, "RADESYS") == b"ICRS" or cards.keys().isdisjoint({b"RADESYS ", b"EQUINOX "})


def _plain_sky_map(cards: Cards) -> SkyMap:
    numbers = {key: card_number(cards, key) or 0.0 for key in (*PLACING_CARDS, *_MATRIX_CARDS)}
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise unreadable(f"{key} of its world coordinates is not a number")
    determinant = numbers["CD1_1"] * numbers["CD2_2"] - numbers["CD1_2"] * numbers["CD2_1"]
    if determinant == 0.0 or not math.isfinite(1.0 / determinant):
        raise unreadable("the CD matrix of its world coordinates is singular")
    return SkyMap(numbers)


def _general_sky_map(header: bytes, cards: Cards, types: list[str]) -> SkyMap:
    from astropy.coordinates import SkyCoord

    if not all("-" in kind for kind in types):
        raise unreadable(f"its axes 1 and 2 are {types}: only one is celestial")
    elsewhere = sorted(key.decode().rstrip() for key in cards if _ELSEWHERE.match(key))
    if elsewhere or any(kind.endswith("-TAB") for kind in types):
        raise unreadable(
            f"its world coordinates need tables in other HDUs ({', '.join(elsewhere) or types[0]}), which are not read"
        )
    # These are sizes that astropy would allocate.
    for key, limit in (("WCSAXES", _AXIS_LIMIT), *((f"{name}_ORDER", _ORDER_LIMIT) for name in ("A", "B", "AP", "BP"))):
        number = card_number(cards, key)
        if number is not None and not 0 <= number <= limit:
            raise unreadable(f"{key} = {number} of its world coordinates is not between 0 and {limit}")
    text = header.decode("ascii", "replace").replace("\ufffd", "?")
    if b"A_ORDER " in cards or b"B_ORDER " in cards:
        # astropy applies the distortion with or without this suffix, but without it logs a message for every file.
        text = _with_sip_suffix(text, types)
    try:
        wcs = _astropy_wcs(text)
        if wcs.pixel_n_dim != 2 or not wcs.has_celestial:
            raise unreadable(f"its world coordinates have axes {list(wcs.wcs.ctype)}, not the two of the sky")
        with warnings.catch_warnings(action="ignore"):
            if not isinstance(wcs.pixel_to_world(wcs.wcs.crpix[0], wcs.wcs.crpix[1]), SkyCoord):
                raise unreadable(f"RADESYS {wcs.wcs.radesys!r} is no frame of the sky that can be brought to ICRS")
            scales = _scales_deg(wcs)
    except (UnusableFileError, MemoryError):
        raise
    except Exception as error:
        # wcslib and astropy raise many types here; all other mean that this is no usable WCS.
        said = " ".join(str(error).split()) or type(error).__name__
        raise unreadable(f"its world coordinates ({', '.join(types)}) cannot be used: {said}") from None
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise unreadable(f"its world coordinates have pixels of {scales} deg")
    return SkyMap({}, text)


def _with_sip_suffix(text: str, types: list[str]) -> str:
    suffixed = {f"CTYPE{axis}  = ": kind.removesuffix("-SIP") + "-SIP" for axis, kind in enumerate(types, start=1)}
    cards = [text[at : at + CARD_BYTES] for at in range(0, len(text), CARD_BYTES)]
    return "".join(
        f"{card[:10]}'{suffixed[card[:10]]}'".ljust(CARD_BYTES) if card[:10] in suffixed else card for card in cards
    )


@functools.lru_cache(maxsize=64)
def _astropy_wcs(header: str) -> WCS:
    """astropy's reading of a header's cards; kept, because making one takes milliseconds."""
    from astropy.wcs import WCS

    with warnings.catch_warnings(action="ignore"):
        wcs = WCS(fits.Header.fromstring(header))
        # An image may keep the axes of the cube that it was taken from.
        return wcs.celestial if wcs.pixel_n_dim > 2 and wcs.has_celestial else wcs


def _scales_deg(wcs: WCS) -> DoubleArray:
    """Size of a pixel along each axis at the reference point."""
    from astropy.wcs.utils import proj_plane_pixel_scales

    return np.asarray(proj_plane_pixel_scales(wcs), np.float64)


def _comes_back(wcs: WCS, x: AnyArray, y: AnyArray, sky: SkyCoord) -> BoolArray:
    """Whether pixels lie where they should."""
    found = wcs.pixel_to_world(x, y)
    limit = _ROUND_TRIP_PX * float(np.mean(_scales_deg(wcs)))
    return np.asarray(found.separation(sky.transform_to(found.frame)).deg <= limit)
