"""Pixels of simulated cutouts.

Profiles and PSF are circular functions of the wave number, taken once from GalSim; an image is their product on a
grid, transformed back. The bands of an object share its profiles, so that five bands cost no more than two would alone.
The PSF stands for the whole response, pixels included: no pixel window is applied (GalSim's ``no_pixel``).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import galsim
import numpy as np
import numpy.typing as npt
import scipy.fft

from swimmy_scale.method.survey import DoubleArray, FloatArray
from swimmy_scale.simulate.galaxies import Galaxies, Neighbours
from swimmy_scale.simulate.luminosity import DISK_SCALES
from swimmy_scale.simulate.plan import KINDS, SimulationPlan
from swimmy_scale.simulate.sky import PSF_BETA, Patch

# Electrons per count at zero point 27.0 in the wide layer: 10^(0.4 (zero point of 1 e-/s - 27.0)) x exposure, with
# the observatory's 28.8, 28.9, 28.5, 27.5 and 27.2 mag, and 10 min in g and r, 20 min in i, z and y.
ELECTRONS_A_COUNT = {"g": 3100.0, "r": 3450.0, "i": 4800.0, "z": 1900.0, "y": 1440.0}

# Scale length of an exponential disk over its half-light radius.
_DISK_SCALE = 1.0 / DISK_SCALES
# Above this half-light radius the wings need a larger grid, because a Fourier grid is periodic.
LARGE_RE_PX = 12.0


@functools.cache
def _profile_table(name: str) -> tuple[DoubleArray, DoubleArray]:
    """Transform of a circular profile of unit size: (k squared, value)."""
    bulge, psf = galsim.DeVaucouleurs(half_light_radius=1.0), galsim.Moffat(beta=PSF_BETA, fwhm=1.0)
    profile = {"bulge": bulge, "psf": psf}[name]
    k = np.concatenate([[0.0], np.geomspace(1e-3, 400.0, 1500)])
    values = np.array([profile.kValue(float(wave), 0.0).real for wave in k])
    return k**2, values


@functools.cache
def _wave_numbers(size: int) -> tuple[DoubleArray, DoubleArray]:
    """k_y as a column and k_x as a row, in radians per pixel, of SciPy's half-plane transform."""
    return 2.0 * np.pi * scipy.fft.fftfreq(size)[:, None], 2.0 * np.pi * scipy.fft.rfftfreq(size)[None, :]


def _elliptical_k2(size: int, re_px: float, q: float, angle: float) -> DoubleArray:
    """(k re)^2 of an ellipse. What squeezes the image by q across its major axis stretches the transform."""
    ky, kx = _wave_numbers(size)
    cosine, sine = np.cos(angle), np.sin(angle)
    along, across = kx * cosine + ky * sine, ky * cosine - kx * sine
    return np.asarray(re_px**2 * (along**2 + (q * across) ** 2))


def disk_transform(size: int, re_px: float, q: float, angle: float) -> FloatArray:
    """Transform of an exponential disk of unit flux: (1 + (k h)^2)^(-3/2); float32, shape (size, size // 2 + 1)."""
    base = 1.0 + _elliptical_k2(size, re_px * _DISK_SCALE, q, angle)
    return np.asarray(1.0 / (base * np.sqrt(base)), np.float32)


def bulge_transform(size: int, re_px: float, q: float, angle: float) -> FloatArray:
    """Transform of a de Vaucouleurs bulge of unit flux; float32, shape (size, size // 2 + 1)."""
    squares, values = _profile_table("bulge")
    return np.asarray(np.interp(_elliptical_k2(size, re_px, q, angle), squares, values), np.float32)


@functools.lru_cache(maxsize=8)
def psf_transforms(size: int, fwhm_px: tuple[float, ...]) -> FloatArray:
    """Transform of the Moffat PSF in each band; float32, shape (n_bands, size, size // 2 + 1)."""
    squares, values = _profile_table("psf")
    bands = [np.interp(_elliptical_k2(size, width, 1.0, 0.0), squares, values) for width in fwhm_px]
    return np.asarray(bands, np.float32)


def _shift(size: int, x: float, y: float) -> npt.NDArray[np.complex64]:
    """Phase that moves an object from pixel (0, 0) to (x, y)."""
    ky, kx = _wave_numbers(size)
    return np.asarray(np.exp(-1j * ky * y) * np.exp(-1j * kx * x), np.complex64)


@dataclass(frozen=True)
class Canvas:
    """Pixels around one object: its cutout and a pixel more on every side.

    Attributes
    ----------
    image : ndarray of float32, shape (n_bands, cutout_size_px + 2, cutout_size_px + 2), axes (band, y, x)
        Counts.
    origin_x, origin_y : int
        Tract pixel (0-based) of ``image[:, 0, 0]``.
    """

    image: FloatArray
    origin_x: int
    origin_y: int


def draw_noiseless(plan: SimulationPlan, patch: Patch, objects: Galaxies, index: int, neighbours: Neighbours) -> Canvas:
    """Draw object ``index`` of a part with its neighbours, without noise or artefacts."""
    survey = plan.survey
    scale = survey.pixel_scale_arcsec
    side = survey.cutout_size_px
    origin_x = int(np.floor(objects.x[index])) - side // 2
    origin_y = int(np.floor(objects.y[index])) - side // 2
    disk_re, bulge_re = objects.disk_re[index] / scale, objects.bulge_re[index] / scale
    size = 2 * side if max(disk_re, 2.0 * bulge_re) <= LARGE_RE_PX else 4 * side
    # The canvas is cut from the middle of the periodic grid.
    margin = size // 2 - side // 2
    x, y = objects.x[index] - origin_x + margin, objects.y[index] - origin_y + margin

    angle = objects.angle[index]
    weights = (objects.disk[index], objects.bulge[index], objects.nucleus[index])
    disk, bulge, nucleus = (weight.astype(np.float32)[:, None, None] for weight in weights)
    profile = disk * disk_transform(size, disk_re, objects.disk_q[index], angle)
    if objects.bulge_fraction[index] > 0.0:
        profile += bulge * bulge_transform(size, bulge_re, objects.bulge_q[index], angle)
    spectrum = (profile + nucleus) * _shift(size, x, y)

    first, last = np.searchsorted(neighbours.owner, [index, index + 1])
    for other in range(first, last):
        phase = _shift(size, x + neighbours.dx[other], y + neighbours.dy[other])
        if neighbours.re[other] > 0.0:
            re_px = neighbours.re[other] / scale
            phase *= disk_transform(size, re_px, neighbours.q[other], neighbours.angle[other])
        spectrum += neighbours.flux[other].astype(np.float32)[:, None, None] * phase

    spectrum *= psf_transforms(size, tuple(width / scale for width in patch.fwhm_arcsec))
    grid = scipy.fft.irfft2(spectrum, s=(size, size), overwrite_x=True)
    inner = slice(margin, margin + side + 2)
    return Canvas(np.ascontiguousarray(grid[:, inner, inner]), origin_x, origin_y)


def add_noise(plan: SimulationPlan, patch: Patch, image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The image with the noise of the sky and of the source's own photons, both Gaussian; shape of ``image``."""
    return image + rng.standard_normal(image.shape, dtype=np.float32) * np.sqrt(variance(plan, patch, image))


def variance(plan: SimulationPlan, patch: Patch, image: FloatArray) -> FloatArray:
    """Variance of a pixel in counts squared: sky + source / (electrons per count); shape of ``image``."""
    # At a larger zero point a count is less light.
    light_a_count = 10.0 ** (-0.4 * (plan.survey.zero_point_mag - 27.0))
    sky = np.array(patch.noise, dtype=np.float32)[:, None, None] ** 2
    gain = np.array([ELECTRONS_A_COUNT[band] * light_a_count for band in plan.survey.bands], np.float32)[:, None, None]
    return np.asarray(sky + np.maximum(image, 0.0) / gain, np.float32)


def add_artefact(plan: SimulationPlan, objects: Galaxies, index: int, image: FloatArray, level: float) -> None:
    """Spoil an image in place if its object is an artefact.

    A wrong zero point scales the whole r band, sky included. A saturated core is flat at ``level`` times its peak, in
    the magnitude band, and bleeds along the columns.
    """
    kind = KINDS[objects.kind[index]]
    if kind == "artefact_zero_point" and "r" in plan.survey.bands:
        image[plan.survey.bands.index("r")] *= np.float32(objects.zero_point_factor[index])
    if kind == "artefact_saturated":
        band = image[plan.survey.bands.index(plan.survey.magnitude_band)]
        middle = band.shape[0] // 2
        limit = np.float32(level * band[middle - 3 : middle + 4, middle - 3 : middle + 4].max())
        np.minimum(band, limit, out=band)
        band[max(middle - 14, 0) : middle + 15, middle - 1 : middle + 2] = limit


@functools.cache
def _psf_flux_table(profile: str) -> tuple[DoubleArray, DoubleArray]:
    """(re / FWHM, share of the flux that a PSF fit finds) for a circular profile.

    By Parseval's theorem a PSF fit at the centre finds int I P^2 k dk / int P^2 k dk, with the transforms I of the
    profile and P of the PSF.
    """
    ratio = np.geomspace(0.01, 30.0, 60)
    k = np.geomspace(1e-4, 30.0, 3000)
    squares, values = _profile_table("psf")
    weight = np.interp(k**2, squares, values) ** 2 * k**2  # dk = k dlog k
    share = np.empty(len(ratio))
    for position, size in enumerate(ratio):
        if profile == "disk":
            transform = (1.0 + (k * size * _DISK_SCALE) ** 2) ** -1.5
        else:
            transform = np.interp((k * size) ** 2, *_profile_table("bulge"))
        share[position] = np.sum(transform * weight) / np.sum(weight)
    return ratio, share


def psf_flux(objects: Galaxies, fwhm_arcsec: DoubleArray, band: int) -> DoubleArray:
    """Counts that a PSF fit finds in one band, with profiles taken as circular; float64, shape (n,)."""
    disk = np.interp(objects.disk_re * np.sqrt(objects.disk_q) / fwhm_arcsec, *_psf_flux_table("disk"))
    bulge = np.interp(objects.bulge_re * np.sqrt(objects.bulge_q) / fwhm_arcsec, *_psf_flux_table("bulge"))
    return np.asarray(objects.disk[:, band] * disk + objects.bulge[:, band] * bulge + objects.nucleus[:, band])
