"""Units and zero points of headers, against astropy's units and the definition of the AB magnitude."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from archive_files import Ingested, cutout, name_of, pixels_of, write
from astropy import units as u
from astropy.io import fits
from fits_files import header_bytes

from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, parse_cards
from swimmy_scale.ingest.pixels.flux_units import asinh_scale, zero_point, zero_point_of_unit
from swimmy_scale.method.quarantine import Code


def of(image: dict[str, object], primary: dict[str, object] | None = None) -> float | None:
    both = [parse_cards(header_bytes(fits.Header(cards))) for cards in (image, primary or {})]
    asinh_scale(*both)
    return zero_point(*both)


class TestUnits:
    @pytest.mark.parametrize(
        "text",
        [
            *("", "adu", "ADU", "count", "counts", "ct", "DN", "electron", "electrons/s", "e-/s", "DN / sec"),
            *("count s-1", "electron s**-1", "Unknown", "relative"),
        ],
    )
    def test_counts_say_nothing(self, text: str) -> None:
        assert zero_point_of_unit(text) is None

    @pytest.mark.parametrize(
        ("text", "jansky"),
        [("nJy", 1e-9), ("uJy", 1e-6), ("mJy", 1e-3), ("Jy", 1.0), ("10**-9 Jy", 1e-9), ("1e-6 Jy", 1e-6),
         ("erg / (s cm2 Hz)", 1e23), ("W m-2 Hz-1", 1e26), ("nanomaggy", 3631e-9), ("maggies", 3631.0)],
    )  # fmt: skip
    def test_flux_densities(self, text: str, jansky: float) -> None:
        """AB = 0 is 3631 Jy, rounded: -2.5 log10 of it with 48.6 differs by 0.0001 mag."""
        assert zero_point_of_unit(text) == pytest.approx(2.5 * np.log10(3631.0 / jansky), abs=2e-4)

    @pytest.mark.parametrize("text", ["mag", "mag(AB)", "dex(Jy)", "MJy/sr", "nJy / arcsec2", "erg / (s cm2 Angstrom)"])
    @pytest.mark.parametrize("has_zero_point", [False, True])
    def test_what_is_not_linear_in_flux_density(self, text: str, has_zero_point: bool) -> None:
        with pytest.raises(UnusableFileError, match=r"is not linear in flux density\. Convert") as caught:
            zero_point_of_unit(text, has_zero_point)
        assert caught.value.code is Code.WRONG_UNIT

    def test_of_no_size_that_a_number_holds(self) -> None:
        with pytest.raises(UnusableFileError, match=r"BUNIT '1PB\(9999\)' is no unit of any size"):
            zero_point_of_unit("1PB(9999)")

    def test_unknown(self) -> None:
        with pytest.raises(UnusableFileError, match="BUNIT 'flux units' is not known, and no zero point is stated"):
            zero_point_of_unit("flux units")
        assert zero_point_of_unit("flux units", has_zero_point=True) is None


class TestHeaders:
    @pytest.mark.parametrize(
        ("image", "primary", "expected"),
        [
            ({"BUNIT": "nJy"}, {}, 31.4),
            ({}, {"BUNIT": "nJy"}, 31.4),
            ({"BUNIT": "nJy"}, {"FLUXMAG0": 10 ** (0.4 * 31.4)}, 31.4),
            ({"BUNIT": "adu"}, {"FLUXMAG0": 10**10.8}, 27.0),
            ({"BUNIT": "odd", "MAGZERO": 25.0}, {}, 25.0),
            ({"MAGZERO": 27.0, "MAGZPT": 26.2}, {}, 27.0),
            ({"HIERARCH FPA.ZP": 25.0, "EXPTIME": 860.0}, {}, 25.0 + 2.5 * np.log10(860.0)),
            (
                {"EXPTIME": 40.0},
                {"HIERARCH FPA.ZP": 24.6, "HIERARCH FPA.FILTER": "r.00000"},
                24.6 + 2.5 * np.log10(40.0),
            ),
            ({"HIERARCH FPA.ZP": 25.0, "EXPTIME": 100.0, "MAGZERO": 30.0}, {}, 30.0),
            ({"PHOTZP": 0.0, "PHOTSYS": "AB"}, {}, 0.0),
            ({"BSOFTEN": 1.0, "BOFFSET": 2.0, "MAGZERO": 25.0}, {}, 25.0),
        ],
    )
    def test_read(self, image: dict[str, object], primary: dict[str, object], expected: float) -> None:
        assert of(image, primary) == pytest.approx(expected, abs=1e-3)

    @pytest.mark.parametrize(
        ("image", "primary", "reason"),
        [
            (
                {"BUNIT": "nJy", "MAGZERO": 27.0},
                {},
                "zero points contradict each other: MAGZERO 27.000, BUNIT 31.400 mag",
            ),
            ({"MAGZERO": 25.0}, {"FLUXMAG0": 10**10.8}, "contradict each other: FLUXMAG0 27.000, MAGZERO 25.000"),
            ({"BSOFTEN": 1.0}, {}, r"BSOFTEN 1\.0 and BOFFSET None say that its pixels are asinh of counts"),
            ({"BOFFSET": 1.0}, {}, "BSOFTEN None and BOFFSET 1.0 say"),
            ({"BSOFTEN": -1.0}, {"BOFFSET": 1.0}, "BSOFTEN -1.0 and BOFFSET 1.0 say"),
            ({"HIERARCH FPA.ZP": 25.0}, {}, "FPA.ZP . 2.5 log10.EXPTIME., and these are 25.0 and None"),
            ({"HIERARCH FPA.ZP": 25.0, "EXPTIME": 0.0}, {}, "these are 25.0 and 0.0"),
            ({"HIERARCH FPA.ZP": 25.0, "EXPTIME": 100.0, "MAGZERO": 31.0}, {}, "MAGZERO 31.000, FPA.ZP 30.000"),
            ({"PHOTZP": 23.1, "PHOTSYS": "VEGA"}, {}, "zero point is in the system VEGA"),
            ({"MAGZPT": 25.0}, {}, "MAGZPT states a zero point, which may be AB or not"),
            ({"BUNIT": "mag"}, {"FLUXMAG0": 10**10.8}, "is not linear in flux density"),
        ],
    )
    def test_refused(self, image: dict[str, object], primary: dict[str, object], reason: str) -> None:
        with pytest.raises(UnusableFileError, match=reason) as caught:
            of(image, primary)
        assert caught.value.code is Code.WRONG_UNIT


def test_cutouts_in_nanojansky(tmp_path: Path) -> None:
    """Pixels in nJy, which the header says, become counts of the survey."""
    factor = (1 * u.nJy).to_value(u.ABmag) - 27.0
    files = {}
    for band, name in enumerate("grizy"):
        data = (pixels_of(0, band) * 10 ** (0.4 * factor)).astype(np.float32)
        raw = cutout(0, band, data, BUNIT="nJy").replace(b"FLUXMAG0", b"OTHER   ")
        files[name_of("arch-1", 2, name)] = raw
    found = Ingested(write(tmp_path, files), n=1)
    assert (found.faults, found.notes) == ({}, [])
    np.testing.assert_allclose(found.image[0], [pixels_of(0, band) for band in range(5)], rtol=1e-5, atol=1e-7)
