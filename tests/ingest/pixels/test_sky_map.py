"""World coordinates, against astropy that reads the full header."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from fits_files import DEC, RA, header_bytes, wcs_header
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError
from swimmy_scale.ingest.pixels.sky_map import SkyMap, sky_map

S = 4.7e-5
NO_CD = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_0_2": 1e-5, "B_2_0": -2e-5}
TWISTED = (-0.97 * S, 0.21 * S, 0.23 * S, 0.96 * S)


def matrix(form: str, m: tuple[float, ...] = TWISTED) -> dict[str, object]:
    """The same linear part in every form that FITS has had; of CROTA, a turn by 20 degrees."""
    names = [(1, 1), (1, 2), (2, 1), (2, 2)]
    if form == "CDi_j":
        return {f"CD{i}_{j}": value for (i, j), value in zip(names, m, strict=True)}
    if form == "CD00i00j":
        return {**NO_CD, **{f"CD{i:03}{j:03}": value for (i, j), value in zip(names, m, strict=True)}}
    scaled = {**NO_CD, "CDELT1": -S, "CDELT2": S}
    rows = [value / (-S if i == 1 else S) for (i, _), value in zip(names, m, strict=True)]
    if form == "PCi_j":
        return scaled | {f"PC{i}_{j}": value for (i, j), value in zip(names, rows, strict=True)}
    if form == "PC00i00j":
        return scaled | {f"PC{i:03}{j:03}": value for (i, j), value in zip(names, rows, strict=True)}
    return scaled | {"CROTA": {"CROTA2": 20.0}, "CDELT": {}}[form]


MATRICES = ("CDi_j", "CD00i00j", "PCi_j", "PC00i00j", "CROTA", "CDELT")
# Projections with what they need beside the name.
PROJECTIONS: dict[str, dict[str, object]] = {
    **{
        code: {} for code in ("TAN", "SIN", "ARC", "STG", "ZEA", "CAR", "MER", "CEA", "SFL", "AIT", "MOL", "TSC", "CSC")
    },
    "ZPN": {"PV2_1": 1.0, "PV2_3": 0.05},
    "SZP": {"PV2_1": 2.0, "PV2_2": 30.0, "PV2_3": 60.0},
    "AZP": {"PV2_1": 2.0},
    "COP": {"PV2_1": 45.0, "PV2_2": 25.0},
    "TPV": {"PV1_1": 1.0001, "PV2_1": 0.9999, "PV1_4": 1e-3},
    "TAN-SIP": SIP,
}
FRAMES: dict[str, dict[str, object]] = {
    "ICRS": {"RADESYS": "ICRS"},
    "none": {"RADESYS": None},
    "FK5": {"RADESYS": "FK5", "EQUINOX": 2000.0},
    "FK5 of 2015": {"RADESYS": "FK5", "EQUINOX": 2015.5},
    "FK4": {"RADESYS": "FK4", "EQUINOX": 1950.0},
    "by equinox": {"RADESYS": None, "EQUINOX": 2000.0},
    "ICRS with equinox": {"RADESYS": "ICRS", "EQUINOX": 2000.0},
    "old name": {"RADESYS": None, "RADECSYS": "FK5"},
    "galactic": {"CTYPE1": "GLON-", "CTYPE2": "GLAT-", "RADESYS": None},
    "ecliptic": {"CTYPE1": "ELON-", "CTYPE2": "ELAT-", "RADESYS": None, "EQUINOX": 2000.0},
}
UNITS = {"": 1.0, "deg": 1.0, "arcsec": 3600.0, "arcmin": 60.0, "rad": np.pi / 180}
OTHERS: dict[str, dict[str, object]] = {
    "none": {},
    "alternate": {"CTYPE1A": "LINEAR", "CTYPE2A": "LINEAR", "CRPIX1A": 0.0, "CD1_1A": 1.0},
    "more axes": {"WCSAXES": 3, "CTYPE3": "FREQ", "CRVAL3": 1.0, "CDELT3": 1.0, "CRPIX3": 1.0},
    "poles": {"LONPOLE": 75.0, "LATPOLE": 30.0},
    "lonpole": {"LONPOLE": 180.0},
    "epochs": {"MJD-OBS": 57000.0, "DATE-OBS": "2014-12-09"},
}


@st.composite
def headers(draw: st.DrawFn) -> fits.Header:
    """Headers of images of 100 x 120 px, in any combination of forms."""
    code = draw(st.sampled_from(sorted(PROJECTIONS)))
    frame = FRAMES[draw(st.sampled_from(sorted(FRAMES)))]
    unit = draw(st.sampled_from(sorted(UNITS)))
    cards: dict[str, Any] = {
        "CRVAL1": draw(st.floats(0, 360)),
        "CRVAL2": draw(st.sampled_from([0.0, 2.0, -45.0, 89.99, -90.0, 90.0])),
    }
    cards |= matrix(draw(st.sampled_from(MATRICES))) | frame
    for axis, name in ((1, "RA---"), (2, "DEC--")):
        cards[f"CTYPE{axis}"] = f"{frame.get(f'CTYPE{axis}', name)}{code}"
    for key in cards:
        if key.startswith(("CRVAL", "CDELT", "CD")) and cards[key] is not None:
            cards[key] = float(cards[key]) * UNITS[unit]
    if unit:
        cards |= {"CUNIT1": unit, "CUNIT2": unit}
    return wcs_header(100, 120, **cards, **PROJECTIONS[code], **OTHERS[draw(st.sampled_from(sorted(OTHERS)))])


def by_astropy(header: fits.Header) -> WCS:
    with warnings.catch_warnings(action="ignore"):
        wcs = WCS(header)
        return wcs.celestial if wcs.pixel_n_dim > 2 else wcs


def read(header: fits.Header) -> SkyMap:
    found = sky_map(header_bytes(header))
    assert found is not None
    return found


def assert_as_astropy(header: fits.Header, x: np.ndarray, y: np.ndarray) -> SkyMap:
    """Positions of pixels, and pixels of these positions, are astropy's."""
    wcs = by_astropy(header)
    with warnings.catch_warnings(action="ignore"):
        wanted = wcs.pixel_to_world(x, y).icrs
    sky = read(header)
    ra, dec = sky.to_sky(x, y)
    there = np.isfinite(wanted.ra.deg) & np.isfinite(wanted.dec.deg)
    np.testing.assert_array_equal(np.isfinite(ra), there)
    # Distances on the sky, as RA means nothing at a pole.
    assert (wanted[there].separation(SkyCoord(ra[there], dec[there], unit="deg")).arcsec < 1e-6).all()
    found = np.array(sky.to_pixel(wanted.ra.deg[there], wanted.dec.deg[there]))
    with warnings.catch_warnings(action="ignore"):
        expected = np.array(wcs.world_to_pixel(wanted[there]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(sky.pixel_scales_arcsec(), 3600 * proj_plane_pixel_scales(wcs), rtol=1e-9)
    return sky


class TestAgainstAstropy:
    @pytest.mark.slow
    @settings(max_examples=150, deadline=None)
    @given(header=headers(), x=st.floats(-5, 105), y=st.floats(-5, 125))
    def test_any_form_of_header(self, header: fits.Header, x: float, y: float) -> None:
        try:
            wcs = by_astropy(header)
            with warnings.catch_warnings(action="ignore"):
                wcs.pixel_to_world(x, y)
        except Exception:
            with pytest.raises(UnusableFileError):
                sky_map(header_bytes(header))
            return
        assert_as_astropy(header, np.array([x, 49.5, 10.0]), np.array([y, 59.5, 100.0]))

    @pytest.mark.parametrize("form", MATRICES)
    def test_matrix_forms(self, form: str) -> None:
        """Pan-STARRS has PC001001, older images CROTA or CD001001: a reader that leaves them out is wrong silently."""
        sky = assert_as_astropy(wcs_header(100, 120, **matrix(form)), np.array([0.0, 80.0]), np.array([0.0, 100.0]))
        assert sky.simple == (form == "CDi_j")

    @pytest.mark.parametrize("code", sorted(PROJECTIONS))
    def test_projections(self, code: str) -> None:
        cards = {"CTYPE1": f"RA---{code}", "CTYPE2": f"DEC--{code}", **PROJECTIONS[code]}
        assert_as_astropy(wcs_header(100, 120, **cards), np.array([40.0, 60.0]), np.array([50.0, 70.0]))

    @pytest.mark.parametrize("frame", sorted(FRAMES))
    def test_frames(self, frame: str) -> None:
        cards = {key: f"{value}TAN" if key.startswith("CTYPE") else value for key, value in FRAMES[frame].items()}
        sky = assert_as_astropy(wcs_header(100, 120, **cards), np.array([0.0, 80.0]), np.array([0.0, 100.0]))
        assert sky.simple == (frame in ("ICRS", "none", "ICRS with equinox"))

    @pytest.mark.parametrize("other", sorted(OTHERS))
    def test_other_cards(self, other: str) -> None:
        assert_as_astropy(wcs_header(100, 120, **OTHERS[other]), np.array([0.0, 80.0]), np.array([0.0, 100.0]))

    @pytest.mark.parametrize(
        "cards",
        [
            {
                "CTYPE1": "DEC--TAN",
                "CTYPE2": "RA---TAN",
                "CRVAL1": DEC,
                "CRVAL2": RA,
                **matrix("CDi_j", (0.0, S, -S, 0.0)),
            },
            SIP,
            {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "A_0_2": 1e-5, "B_ORDER": 2},
            {"PV1_1": 1.0001, "PV2_1": 0.9999, "PV1_0": 0.0, "PV2_0": 0.0},
            {"CDELT1": 5.0, "CDELT2": 5.0},
            {"CD1_2": None, "CD2_1": None},
        ],
        ids=["dec first", "SIP without its suffix", "SIP", "TAN of SCAMP", "CD and CDELT", "CD of the diagonal"],
    )
    def test_odd_headers(self, cards: dict[str, object]) -> None:
        assert_as_astropy(wcs_header(100, 120, **cards), np.array([0.0, 80.0]), np.array([0.0, 100.0]))

    def test_a_card_that_is_there_twice(self) -> None:
        header = wcs_header(100, 100)
        header.append(("CRPIX1", 20.0), bottom=True)
        sky = assert_as_astropy(header, np.array([0.0, 80.0]), np.array([0.0, 90.0]))
        assert not sky.simple

    @pytest.mark.parametrize("dec", [-89.9, -45.0, 0.0, 89.99])
    def test_all_over_the_sky(self, dec: float) -> None:
        header = wcs_header(100, 100, CRVAL2=dec, CRVAL1=359.9999)
        sky = read(header)
        assert sky.simple
        ra = np.array([359.99, 0.001, 10.0, 179.0])
        expected = WCS(header).world_to_pixel(SkyCoord(ra, np.full(4, dec), unit="deg"))
        x, y = sky.to_pixel(ra, np.full(4, dec))
        there = np.isfinite(x)
        assert there[:3].all()
        np.testing.assert_allclose(x[there], expected[0][there], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(y[there], expected[1][there], rtol=1e-9, atol=1e-6)

    def test_far_from_a_distorted_image(self) -> None:
        """Where astropy's iteration ends elsewhere, a position has no pixel; others are not affected."""
        sky = read(wcs_header(100, 120, **{**SIP, "A_0_2": 3e-3, "B_2_0": 3e-3}))
        x, y = sky.to_pixel(np.array([RA, RA + 3.0]), np.array([DEC, DEC + 3.0]))
        np.testing.assert_allclose([x[0], y[0]], [49.5, 59.5], atol=1e-4)
        assert np.isnan([x[1], y[1]]).all()


class TestRefused:
    @pytest.mark.parametrize("cards", [{"CTYPE1": None, "CTYPE2": None}, {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}])
    def test_no_position_at_all(self, cards: dict[str, object]) -> None:
        assert sky_map(header_bytes(wcs_header(64, 64, **cards))) is None

    @pytest.mark.parametrize(
        ("cards", "reason"),
        [
            ({"CTYPE1": None}, "only one is celestial"),
            ({"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"}, "Unrecognized projection code"),
            ({"CTYPE2": "GLAT-TAN"}, "Inconsistent projection types"),
            ({"CD1_1": 0.0}, "matrix of its world coordinates is singular"),
            ({"CRVAL1": "there"}, "CRVAL1 of its world coordinates is not a number"),
            ({"CRVAL2": "1E400"}, "CRVAL2 of its world coordinates is not a number"),
            ({"A_ORDER": 99999, "B_ORDER": 2}, "A_ORDER = 99999.0 .* is not between 0 and 9"),
            ({"WCSAXES": 1000000}, "WCSAXES = 1000000.0 .* is not between 0 and 9"),
            ({"RADESYS": "ALTAZ"}, "'ALTAZ' is no frame of the sky"),
            ({"CPDIS1": "LOOKUP", "CPDIS2": "LOOKUP"}, r"need tables in other HDUs \(CPDIS1, CPDIS2\)"),
            ({"D2IMDIS1": "LOOKUP"}, "need tables in other HDUs"),
            ({"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB"}, "need tables in other HDUs"),
        ],
    )
    def test_unusable(self, cards: dict[str, object], reason: str) -> None:
        with pytest.raises(UnusableFileError, match=reason):
            sky_map(header_bytes(wcs_header(64, 64, **cards)))
