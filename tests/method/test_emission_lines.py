"""Line widths through filters, held to values by hand from the published curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.emission_lines import (
    FILTERS,
    GROUPS,
    LINES,
    band_widths,
    failed_fits,
    group_width,
    is_xelg,
    observed_widths,
    throughput,
)

BANDS = tuple(FILTERS)


def single(line: str, width: float) -> dict[str, np.ndarray]:
    """Widths of one object that has one line."""
    return {name: np.array([width if name == line else 0.0]) for name in LINES}


@pytest.fixture(scope="module")
def curves(shared_data: Path) -> dict[str, Table]:
    names = {band: FILTERS[band] for band in BANDS}
    return {band: Table.read(shared_data / "filters" / f"{name}.ecsv") for band, name in names.items()}


def test_groups_hold_known_lines_and_every_line_is_in_one_group() -> None:
    assert sorted(line for group in GROUPS.values() for line in group) == sorted(LINES)


@pytest.mark.parametrize("band", BANDS)
def test_throughput_is_the_published_curve_over_its_peak(band: str, curves: dict[str, Table]) -> None:
    curve = curves[band]
    peak = float(np.max(curve["response"]))
    wave = np.linspace(3000.0, 12000.0, 997)
    expected = [
        np.interp(w, curve["wavelength"], np.maximum(curve["response"], 0.0), left=0.0, right=0.0) / peak for w in wave
    ]
    np.testing.assert_allclose(throughput(band, wave), expected, atol=1e-12)
    assert throughput(band, curve["wavelength"][int(np.argmax(curve["response"]))]) == 1.0


def test_line_at_the_edge_of_two_filters(curves: dict[str, Table]) -> None:
    # [OIII]5007 at z = 0.0913 is seen at 5463.96 Angstrom, on the falling edge of g and the rising edge of r. There the
    # throughput is interpolated by hand between two samples of a curve, which are 10 Angstrom apart.
    redshift = 0.0913
    wave = 5006.84 * (1.0 + redshift)
    found = band_widths(single("oiii_5007", 200.0), np.array([redshift]), BANDS)
    for band in ("g", "r"):
        table = curves[band]
        row = int(np.searchsorted(table["wavelength"], wave)) - 1
        low, high = table["wavelength"][row], table["wavelength"][row + 1]
        assert low < wave < high
        part = (wave - low) / (high - low)
        response = table["response"][row] * (1.0 - part) + table["response"][row + 1] * part
        share = response / np.max(table["response"])
        assert 0.02 < share < 0.6  # an edge indeed
        assert found[band][0] == pytest.approx(200.0 * share, rel=1e-9)
    assert found["i"][0] == found["z"][0] == found["y"][0] == 0.0


def test_all_lines_add_up() -> None:
    redshift = np.array([0.1, 0.05])
    widths = {name: np.array([10.0 + k, -k]) for k, name in enumerate(LINES)}
    found = band_widths(widths, redshift, ("g", "i"))
    for band in ("g", "i"):
        expected = np.zeros(2)
        for name, rest in LINES.items():
            for row in range(2):
                expected[row] += widths[name][row] * throughput(band, rest * (1.0 + redshift[row]))
        np.testing.assert_allclose(found[band], expected, rtol=1e-12)


def test_an_unknown_line_makes_the_bands_that_see_it_unknown() -> None:
    widths = single("h_alpha", np.nan)
    found = band_widths(widths, np.array([0.1]), BANDS)  # 7219 Angstrom: in i, and not in g
    assert [band for band in BANDS if np.isnan(found[band][0])] == ["i"]
    assert all(
        np.isnan(values[0]) for values in band_widths(single("h_alpha", 5.0), np.array([np.nan]), BANDS).values()
    )


def test_band_without_a_curve_is_refused() -> None:
    with pytest.raises(SwimmyError, match="band 'u' has no filter curve, only g, r, i, z, y"):
        throughput("u", 4000.0)


@pytest.mark.parametrize(
    ("eqw", "error", "expected"),
    [
        (-30.0, 1.0, 30.0),  # emission is negative in the catalogue
        (2.0, 1.0, -2.0),
        (0.0, 1.0, 0.0),
        (0.0, -1.0, np.nan),  # not measured
        (-30.0, 0.0, np.nan),
        (-30.0, np.nan, np.nan),
        (np.nan, 1.0, np.nan),
        (-np.inf, 1.0, np.nan),
        (338.46, 33.2, np.nan),  # a failed fit: [NII] cannot be in absorption
        (-5000.0, 10.0, 5000.0),
        (-5001.0, 10.0, np.nan),
        (50.0, 10.0, -50.0),
        (51.0, 10.0, np.nan),
        (-9999.0, 1.0, np.nan),
    ],
)
def test_observed_widths(eqw: float, error: float, expected: float) -> None:
    found = observed_widths(np.array([eqw], np.float32), np.array([error], np.float32))
    np.testing.assert_array_equal(found, np.array([expected]))
    assert not np.signbit(found[0]) or found[0] < 0  # no -0


def test_widths_at_rest_are_stretched() -> None:
    rest = np.array([-10.0, -10.0])
    np.testing.assert_allclose(observed_widths(rest, np.ones(2), 1.0 + np.array([0.1, 0.2])), [11.0, 12.0])


def test_a_broad_line_spectrum_with_failed_narrow_fits_is_no_xelg(shared_data: Path) -> None:
    # Widths from SDSS's own fit of a broad-line galaxy: Halpha 654, [NII] -338 and -214. Their sum is 102.
    lines = Table.read(shared_data / "spectra" / "spec-0332-52367-0639.fits", hdu="SPZLINE")
    row = {str(name).strip(): k for k, name in enumerate(lines["LINENAME"])}
    at = {"h_alpha": "H_alpha", "nii_6548": "[N_II] 6548", "nii_6584": "[N_II] 6583"}
    eqw = {name: -np.array([lines["LINEEW"][row[theirs]]], np.float64) for name, theirs in at.items()}
    error = {name: np.array([lines["LINEEW_ERR"][row[theirs]]]) for name, theirs in at.items()}
    assert -sum(values[0] for values in eqw.values()) > 100
    widths, failed = all_lines(), {name: np.zeros(1, np.bool_) for name in LINES}
    for name in at:
        widths[name], failed[name] = observed_widths(eqw[name], error[name]), failed_fits(eqw[name], error[name])
    assert np.isnan(group_width(widths, "ha_nii")[0])
    assert [value.tolist() for value in is_xelg(widths, failed)] == [[False], [False]]
    widths["oiii_5007"] = np.array([120.0])  # no blend: it decides
    assert [value.tolist() for value in is_xelg(widths, failed)] == [[True], [True]]


def all_lines(**widths: float) -> dict[str, np.ndarray]:
    """Widths of one object, 0 where not given."""
    return {name: np.array([widths.get(name, 0.0)]) for name in LINES}


NAN = float("nan")


@pytest.mark.parametrize(
    ("widths", "expected", "is_known"),
    [
        ({"oii_3726": 50.0, "oii_3729": 50.0, "h_beta": 100.0, "h_alpha": 100.0}, False, True),
        ({"oii_3726": 50.01, "oii_3729": 50.0}, True, True),
        ({"oiii_5007": 100.01}, True, True),
        ({"h_alpha": 60.0, "nii_6584": 41.0}, True, True),
        ({"oii_3729": 60.0, "h_beta": 60.0, "h_alpha": 60.0}, False, True),
        ({"neiii_3869": 300.0, "sii_6717": 300.0}, False, True),
        ({"neiii_3869": NAN, "sii_6717": NAN}, False, True),  # these do not count
        ({"h_alpha": 990.0, "nii_6548": NAN}, True, True),
        ({"h_alpha": 150.01, "nii_6548": NAN}, True, True),
        ({"h_alpha": 150.0, "nii_6548": NAN}, False, False),
        ({"h_alpha": 200.0, "nii_6548": NAN, "nii_6584": NAN}, False, False),
        ({"nii_6548": NAN}, False, False),
        ({"nii_6548": NAN, "oiii_5007": 150.0}, True, True),
        (dict.fromkeys(LINES, NAN), False, False),
    ],
)
def test_xelg(widths: dict[str, float], expected: bool, is_known: bool) -> None:
    no_failure = {name: np.zeros(1, np.bool_) for name in LINES}
    assert [value.tolist() for value in is_xelg(all_lines(**widths), no_failure)] == [[expected], [is_known]]


@given(st.lists(st.floats(-50, 5000) | st.just(NAN), min_size=len(LINES), max_size=len(LINES)), st.data())
def test_what_is_certain_holds_whatever_the_unknown_lines_are(values: list[float], data: st.DataObject) -> None:
    no_failure = {name: np.zeros(1, np.bool_) for name in LINES}
    widths = dict(zip(LINES, values, strict=True))
    holds, is_known = is_xelg(all_lines(**widths), no_failure)
    filled = {name: data.draw(st.floats(-50, 5000)) if np.isnan(w) else w for name, w in widths.items()}
    truth = any(sum(filled[line] for line in GROUPS[group]) > 100 for group in ("oii", "hb_oiii", "ha_nii"))
    assert not is_known[0] or holds[0] == truth


def test_group_is_the_sum_of_its_lines() -> None:
    widths = {name: np.array([float(k), np.nan if name == "oiii_4959" else 1.0]) for k, name in enumerate(LINES)}
    order = list(LINES)
    expected = sum(order.index(name) for name in GROUPS["hb_oiii"])
    found = group_width(widths, "hb_oiii")
    assert found[0] == expected
    assert np.isnan(found[1])
    assert group_width(widths, "oii")[1] == 2.0
