"""The width of a PSF's image: against Gaussians whose width is known, and GalSim's adaptive moments."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swimmy_scale.method.psf_width import fwhm_of_kernel_px


def gaussian(xx: float, yy: float, xy: float, x: float = 0.3, y: float = -0.2, n: int = 41) -> np.ndarray:
    rows, columns = np.mgrid[:n, :n] - n // 2
    place = np.stack([columns - x, rows - y])
    inverse = np.linalg.inv(np.array([[xx, xy], [xy, yy]]))
    return np.exp(-0.5 * np.einsum("iyx,ij,jyx->yx", place, inverse, place))


@pytest.mark.parametrize(("xx", "yy", "xy"), [(4.0, 4.0, 0.0), (9.0, 4.0, 0.0), (6.0, 5.0, 2.0), (2.0, 3.0, -0.5)])
def test_gaussians(xx: float, yy: float, xy: float) -> None:
    """2 sqrt(2 ln 2) det**(1/4), whatever the normalisation."""
    wanted = 2.0 * math.sqrt(2.0 * math.log(2.0)) * (xx * yy - xy**2) ** 0.25
    assert fwhm_of_kernel_px(3.0 * gaussian(xx, yy, xy)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("fwhm", [3.0, 4.5, 6.0])
def test_adaptive_moments_of_galsim(fwhm: float) -> None:
    """A Moffat profile, whose plain second moments depend on the size of the image."""
    galsim = pytest.importorskip("galsim")
    image = galsim.Moffat(beta=3.0, fwhm=fwhm).drawImage(nx=61, ny=61, scale=1.0)
    sigma = galsim.hsm.FindAdaptiveMom(image).moments_sigma
    assert fwhm_of_kernel_px(image.array) == pytest.approx(2.0 * math.sqrt(2.0 * math.log(2.0)) * sigma, rel=1e-3)


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9)), np.full((9, 9), np.nan), np.ones((21, 21)), -gaussian(2, 2, 0), np.ones(9)]
)
def test_no_width(image: np.ndarray) -> None:
    assert math.isnan(fwhm_of_kernel_px(image))
