"""Filters, galaxies' colours and emission lines: checked by measured filters, published templates and integration."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from swimmy_scale.method import emission_lines
from swimmy_scale.method.survey import HSC
from swimmy_scale.simulate import spectra

BANDS = HSC.bands


def read_filter(shared_data: Path, band: str) -> tuple[np.ndarray, np.ndarray]:
    values = np.loadtxt(shared_data / "filters" / f"hsc2017-{band}.ecsv", comments=("#", "w"))
    return values[:, 0], np.maximum(values[:, 1], 0.0)


def magnitude(wave: np.ndarray, flux: np.ndarray, filter_wave: np.ndarray, response: np.ndarray) -> float:
    """AB magnitude up to a constant, by the trapezoidal rule on a fine grid."""
    fine = np.arange(filter_wave[0], filter_wave[-1], 0.5)
    through = np.interp(fine, filter_wave, response)
    counts = np.trapezoid(np.interp(fine, wave, flux) * through * fine, fine)
    return float(-2.5 * np.log10(counts / np.trapezoid(through / fine, fine)))


@pytest.mark.parametrize("band", BANDS)
def test_filters_against_measured_ones(band: str, shared_data: Path) -> None:
    wave, response = read_filter(shared_data, band)
    model = spectra.FILTERS[band].throughput(wave)
    effective = np.trapezoid(response * wave, wave) / np.trapezoid(response, wave)
    assert spectra.effective_wavelength(band) == pytest.approx(effective, rel=2e-3)
    assert np.trapezoid(model, wave) == pytest.approx(np.trapezoid(response, wave), rel=0.02)
    assert np.sqrt(np.mean((model - response) ** 2)) < 0.1 * response.max()


@pytest.mark.parametrize("band", BANDS)
def test_filters_are_those_of_the_method(band: str) -> None:
    wave = np.arange(3500.0, 11500.0, 2.0)
    ours, theirs = spectra.FILTERS[band].throughput(wave), emission_lines.throughput(band, wave)
    ours, theirs = ours / ours.sum(), theirs / theirs.sum()
    assert np.sum(ours * wave) == pytest.approx(np.sum(theirs * wave), rel=0.01)
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.1 * theirs.max()


def test_lines_are_those_of_the_method() -> None:
    assert set(spectra.LINES) == set(emission_lines.LINES)
    for name, line in spectra.LINES.items():
        assert line.wavelength == pytest.approx(emission_lines.LINES[name], abs=0.6)
        assert line.is_weak == (name not in emission_lines.GROUPS[line.group])
    for group in emission_lines.XELG_GROUPS:
        assert sum(line.share for line in spectra.lines_of(group)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", spectra.TYPE_YOUNG_FRACTION)
@pytest.mark.parametrize("redshift", [0.05, 0.1, 0.2])
def test_colours_against_coleman_wu_weedman(name: str, redshift: float, shared_data: Path) -> None:
    """Mixtures through our filters have the four colours of CWW templates through measured ones, within 0.1 mag.

    The irregular type gets 0.12: its template has emission lines, which are not part of our continuum.
    """
    template = np.loadtxt(shared_data / "seds" / f"CWW_{name}_ext.sed")
    measured = [
        magnitude(template[:, 0] * (1.0 + redshift), template[:, 1], *read_filter(shared_data, band)) for band in BANDS
    ]
    flux = spectra.stellar_flux([spectra.TYPE_YOUNG_FRACTION[name]], [redshift], BANDS)[0]
    assert np.diff(-2.5 * np.log10(flux)) == pytest.approx(np.diff(measured), abs=0.12 if name == "Im" else 0.1)


@pytest.mark.parametrize("group", emission_lines.XELG_GROUPS)
@pytest.mark.parametrize("redshift", [0.051, 0.085, 0.123, 0.199])
@pytest.mark.parametrize("young", [0.2, 0.9])
def test_line_flux_against_integration(group: str, redshift: float, young: float) -> None:
    """Each band gets the boost of narrow Gaussian lines of this equivalent width put into the spectrum."""
    width = 300.0
    fine = np.arange(3400.0, 11600.0, 0.1)
    continuum = spectra.continuum(young, fine / (1.0 + redshift))
    total = continuum.copy()
    for line in spectra.lines_of(group):
        peak = line.share * width * spectra.continuum(young, line.wavelength) / math.sqrt(2 * math.pi)
        total += peak * np.exp(-0.5 * (fine - line.wavelength * (1.0 + redshift)) ** 2)
    added = spectra.line_flux(group, [width], [redshift], lambda wave: spectra.continuum(young, wave), BANDS)[0]
    plain = spectra.stellar_flux([young], [redshift], BANDS)[0]
    for number, band in enumerate(BANDS):
        response = spectra.FILTERS[band].throughput(fine)
        boost = np.sum(total * response * fine) / np.sum(continuum * response * fine)
        assert 1.0 + added[number] / plain[number] == pytest.approx(boost, rel=2e-3)


def test_broad_lines_keep_their_flux() -> None:
    """Away from a filter's edge a broad line adds what a narrow one does; at an edge only half of it is inside."""
    flat = np.ones_like
    narrow, broad = (
        spectra.line_flux("ha_nii", [200.0], [0.15], flat, ("i",), sigma_km_s=sigma)[0, 0] for sigma in (0.0, 1500.0)
    )
    assert broad == pytest.approx(narrow, rel=0.01)
    at_edge = 6940.0 / 6562.8 - 1.0
    assert spectra.line_flux("ha_nii", [200.0], [at_edge], flat, ("i",), 1500.0)[0, 0] == pytest.approx(
        0.5 * narrow, rel=0.3
    )
