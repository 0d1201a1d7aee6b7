"""World coordinates, against astropy."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from fits_files import DEC, RA, cards_of, wcs_header
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.ingest.pixels.sky_map import sky_map

PROJECTIONS = {
    "cd": {},
    "rotated": {"CD1_2": 2e-5, "CD2_1": 1.9e-5},
    "cdelt": {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None, "CDELT1": -4.7e-5, "CDELT2": 4.7e-5},
    "fk5": {"RADESYS": "FK5", "EQUINOX": 2000.0},
    "fk5 by equinox": {"RADESYS": None, "EQUINOX": 2000.0},
    "no frame": {"RADESYS": None},
    "sin": {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"},
    "dec first": {
        "CTYPE1": "DEC--TAN",
        "CTYPE2": "RA---TAN",
        "CRVAL1": DEC,
        "CRVAL2": RA,
        "CD1_1": 0.0,
        "CD1_2": 4.7e-5,
        "CD2_1": -4.7e-5,
        "CD2_2": 0.0,
    },
    "sip": {
        "CTYPE1": "RA---TAN-SIP",
        "CTYPE2": "DEC--TAN-SIP",
        "A_ORDER": 2,
        "B_ORDER": 2,
        "A_0_2": 1e-5,
        "B_2_0": -2e-5,
    },
    "tpv": {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0001, "PV2_1": 0.9999},
}


class TestSkyMap:
    @pytest.mark.parametrize("name", PROJECTIONS)
    @settings(max_examples=10, deadline=None)
    @given(offset=st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05)))
    def test_against_astropy(self, name: str, offset: tuple[float, float]) -> None:
        header = wcs_header(100, 120, **PROJECTIONS[name])
        sky = sky_map(cards_of(header))
        assert sky is not None
        assert sky.simple == (name in ("cd", "rotated", "no frame"))
        ra, dec = RA + offset[0], DEC + offset[1]
        expected = WCS(header).world_to_pixel(SkyCoord(ra, dec, unit="deg"))
        np.testing.assert_allclose(sky.to_pixel(ra, dec), expected, atol=1e-6)

    @pytest.mark.parametrize("dec", [-89.9, -45.0, 0.0, 89.99])
    def test_all_over_the_sky(self, dec: float) -> None:
        header = wcs_header(100, 100, CRVAL2=dec, CRVAL1=359.9999)
        sky = sky_map(cards_of(header))
        assert sky is not None
        assert sky.simple
        ra = np.array([359.99, 0.001, 10.0, 179.0])
        expected = WCS(header).world_to_pixel(SkyCoord(ra, np.full(4, dec), unit="deg"))
        x, y = sky.to_pixel(ra, np.full(4, dec))
        there = np.isfinite(x)
        assert there[:3].all()
        np.testing.assert_allclose(x[there], expected[0][there], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(y[there], expected[1][there], rtol=1e-9, atol=1e-6)

    @pytest.mark.parametrize(
        "cards",
        [
            {"CTYPE1": None},
            {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"},
            {"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"},
            {"CD1_1": 0.0},
            {"CRVAL1": "there"},
            {"CRVAL2": 1e400},
            {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 99999, "B_ORDER": 2},
        ],
    )
    def test_unusable(self, cards: dict[str, object]) -> None:
        values = {key: "1E400" if value == 1e400 else value for key, value in cards.items()}
        assert sky_map(cards_of(wcs_header(64, 64, **values))) is None

    def test_nothing_but_wcs_cards_reaches_astropy(self) -> None:
        header = wcs_header(64, 64, RADESYS="FK5", WCSAXES=9, D2IMARR1=1.0, CPDIS1="LOOKUP")
        sky = sky_map(cards_of(header))
        assert sky is not None
        assert not {"WCSAXES", "D2IMARR1", "CPDIS1"} & set(sky.values)
