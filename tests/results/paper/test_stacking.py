"""Spectra in the rest frame: planted lines and continua come back, and two real spectra behave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.paper.spectra import read_spectrum, spectrum_name
from swimmy_scale.results.paper.stacking import (
    LINE_WINDOWS,
    LineWindow,
    Spectrum,
    equivalent_width,
    good_pixels,
    rest_grid,
    stack,
    to_rest_frame,
)

GRID = rest_grid()


def planted(redshift: float, level: float, width: float, sigma: float = 3.0) -> Spectrum:
    """Flat continuum with one line at 6564.61 Angstrom, of so much rest-frame equivalent width."""
    wavelength = 10.0 ** np.arange(3.5786, 3.9634, 1e-4)
    rest = wavelength / (1 + redshift)
    line = width / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((rest - 6564.61) / sigma) ** 2)
    flux = level * (1 + line)
    return Spectrum(wavelength, flux, np.full(flux.shape, 4.0), np.ones(flux.shape, bool), redshift)


@pytest.mark.parametrize("redshift", [0.05, 0.12345, 0.2])
@pytest.mark.parametrize("width", [0.0, 30.0, 400.0])
def test_a_planted_line_is_measured_whatever_redshift_and_flux(redshift: float, width: float) -> None:
    flux, ivar = to_rest_frame(planted(redshift, 17.0, width), GRID)
    assert equivalent_width(GRID, flux, LINE_WINDOWS["ha_nii"]) == pytest.approx(width, rel=0.01, abs=1e-6)
    known = np.isfinite(flux)
    assert np.median(flux[known]) == pytest.approx(1.0)
    assert ivar[known] == pytest.approx(4.0 * 17.0**2)
    assert (ivar[~known] == 0).all()
    peak = GRID[np.nanargmax(flux)] if width else 6564.61
    assert peak == pytest.approx(6564.61, abs=0.8)


def test_the_grid_has_sdss_pixels_and_stays_within_its_limits() -> None:
    np.testing.assert_allclose(np.diff(np.log10(GRID)), 1e-4, rtol=1e-6)
    assert 3300 <= GRID[0] < GRID[-1] <= 8600


def test_bad_pixels_are_gaps_and_not_interpolated() -> None:
    spectrum = planted(0.1, 1.0, 0.0)
    rest = spectrum.wavelength / 1.1
    spoiled = np.flatnonzero((rest > 6000) & (rest < 6010))
    spectrum.good[spoiled] = False
    spectrum.flux[spoiled] = 1e9
    flux, _ = to_rest_frame(spectrum, GRID)
    assert np.isnan(flux[(GRID > 6001) & (GRID < 6009)]).all()
    assert np.nanmax(flux) == pytest.approx(1.0)


def test_which_pixels_are_good() -> None:
    flux = np.array([1, np.nan, 1, 1, 1, 1], np.float32)
    ivar = np.array([1, 1, 0, 1, 1, np.nan], np.float32)
    # MANYBADCOLUMNS describes a whole fibre; BRIGHTSKY spoils a pixel.
    mask = np.array([1 << 4, 0, 0, 1 << 23, (1 << 16) | (1 << 17), 0], np.int32)
    assert good_pixels(flux, ivar, mask).tolist() == [True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("change", "text"),
    [({"redshift": np.nan}, "its redshift is nan"), ({"redshift": -2.0}, "its redshift is -2"),
     ({"redshift": 1.0}, "cannot be normalised"), ({"level": -2.0}, r"is -2, so it cannot be normalised")],
)  # fmt: skip
def test_spectra_that_cannot_be_used_are_refused(change: dict, text: str) -> None:
    with pytest.raises(SwimmyError, match=text):
        to_rest_frame(planted(**{"redshift": 0.1, "level": 1.0, "width": 0.0, **change}), GRID)


def test_stacks_pixel_by_pixel() -> None:
    flux = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, np.nan], [8.0, np.nan, 4.0]])
    ivar = np.array([[1.0, 0.0, 3.0], [1.0, 0.0, 0.0], [2.0, 0.0, 1.0]])
    median, mean = stack(flux, ivar), stack(flux, ivar, "mean")
    assert median.n_spectra.tolist() == [3, 0, 2]
    np.testing.assert_array_equal(median.flux, [3.0, np.nan, 3.0])
    np.testing.assert_allclose(mean.flux, [(1 + 3 + 16) / 4, np.nan, (6 + 4) / 4])
    np.testing.assert_allclose(median.low[[0, 2]], [np.percentile([1, 3, 8], 16), np.percentile([2, 4], 16)])
    assert np.isnan(median.high[1])


def test_a_stack_of_nothing_is_unknown() -> None:
    empty = stack(np.zeros((0, 4)), np.zeros((0, 4)), "mean")
    assert np.isnan(empty.flux).all()
    assert empty.n_spectra.tolist() == [0] * 4


def test_stacks_refuse_what_does_not_fit() -> None:
    with pytest.raises(SwimmyError, match=r"shape \(2, 3\) and inverse variances \(2, 2\)"):
        stack(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(SwimmyError, match="stacking by 'mode' is unknown"):
        stack(np.zeros((2, 3)), np.zeros((2, 3)), "mode")  # type: ignore[arg-type]


def test_an_equivalent_width_needs_its_sides_and_a_positive_continuum() -> None:
    window = LineWindow((10.0, 20.0), (0.0, 8.0), (22.0, 30.0))
    wave = np.arange(0.0, 31.0)
    sloping = 1.0 + 0.1 * wave
    assert equivalent_width(wave, sloping, window) == pytest.approx(0.0, abs=1e-12)
    assert equivalent_width(wave, np.where(wave == 15, 2 * sloping, sloping), window) == pytest.approx(1.0)
    assert np.isnan(equivalent_width(wave, np.where(wave < 6, np.nan, sloping), window))
    assert np.isnan(equivalent_width(wave, -sloping, window))


# ---------------------------------------------------------------- real spectra


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, Spectrum]:
    folder = shared_data / "spectra"
    return {path.name: read_spectrum(path) for path in sorted(folder.glob("spec-*.fits"))}


def test_files_are_named_as_sdss_names_them(real: dict[str, Spectrum]) -> None:
    assert set(real) == {spectrum_name(266, 51602, 107), spectrum_name(332, 52367, 639)}
    assert spectrum_name(10123, 58000, 1) == "spec-10123-58000-0001.fits"


def test_most_pixels_of_a_fibre_with_bad_columns_are_kept(real: dict[str, Spectrum]) -> None:
    for spectrum in real.values():
        assert spectrum.good.mean() > 0.95


def test_widths_of_the_broad_line_quasar_are_not_those_of_the_failed_fits(
    real: dict[str, Spectrum], shared_data: Path
) -> None:
    name = spectrum_name(332, 52367, 639)
    with fits.open(shared_data / "spectra" / name) as hdus:
        fits_of_lines = hdus["SPZLINE"].data
        fitted = dict(
            zip([str(item).strip() for item in fits_of_lines["LINENAME"]], fits_of_lines["LINEEW"], strict=True)
        )
    assert fitted["H_alpha"] > 600
    assert fitted["[N_II] 6548"] < -300  # an emission line has no such absorption
    flux, _ = to_rest_frame(real[name], GRID)
    total = equivalent_width(GRID, flux, LINE_WINDOWS["ha_nii"])
    assert 40 < total < 150
    assert 10 < equivalent_width(GRID, flux, LINE_WINDOWS["hb_oiii"]) < 80


def test_the_star_forming_spectrum_agrees_with_its_fits(real: dict[str, Spectrum]) -> None:
    """Halpha and [NII] of the pipeline's fits are 27.6 + 4.1 + 12.3 Angstrom observed, at z = 0.123."""
    flux, _ = to_rest_frame(real[spectrum_name(266, 51602, 107)], GRID)
    assert equivalent_width(GRID, flux, LINE_WINDOWS["ha_nii"]) == pytest.approx(
        (27.58 + 4.14 + 12.33) / 1.1231, rel=0.15
    )


@pytest.mark.parametrize("content", ["text", "image"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "spec-0001-00001-0001.fits"
    if content == "text":
        path.write_text("no FITS")
    else:
        fits.PrimaryHDU(np.zeros((2, 2))).writeto(path)
    with pytest.raises(SwimmyError, match="not a readable SDSS spectrum"):
        read_spectrum(path)
