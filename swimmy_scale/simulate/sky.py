"""Where simulated objects lie and under which sky: tracts, patches, seeing and depth.

Tracts are TAN projections of 36,000 px a side, cut into 9 x 9 patches of 4000 px, as in HSC-SSP (Aihara et al. 2022).
In every tract the first 78 patches are ordinary. Of the last three one is too shallow, one has a PSF above the limit,
and one is missing from the table of patches.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from astropy.wcs import WCS

from swimmy_scale.method.survey import DoubleArray, IntArray
from swimmy_scale.simulate.plan import (
    CUTS,
    FAULT_NAMES,
    FIRST_TRACT,
    N_ORDINARY_PATCHES,
    N_TRACTS_A_RING,
    STREAM_PATCH,
    SimulationPlan,
    allocate,
    generator,
)

PATCH_SIZE_PX = 4000
N_PATCHES_A_SIDE = 9
TRACT_CENTER_PX = 18000.0
SHALLOW_PATCH, BAD_SEEING_PATCH, ABSENT_PATCH = 78, 79, 80

# Moffat exponent of the PSF, which gives it wings like those of HSC's coadds.
PSF_BETA = 3.0

# Typical of HSC's wide layer: FWHM in arcsec and 5-sigma PSF depth in mag.
MEDIAN_FWHM_ARCSEC = {"g": 0.77, "r": 0.76, "i": 0.58, "z": 0.68, "y": 0.68}
MEDIAN_DEPTH_MAG = {"g": 26.5, "r": 26.1, "i": 25.9, "z": 25.1, "y": 24.4}


@dataclass(frozen=True)
class Patch:
    """Conditions in one patch, whose number is 100 x + y, as the archive writes it.

    By band: PSF FWHM, 5-sigma limiting magnitude of point sources, and standard deviation of a pixel in counts.
    """

    tract: int
    patch: int
    fwhm_arcsec: tuple[float, ...]
    depth_mag: tuple[float, ...]
    noise: tuple[float, ...]


def psf_area_px(fwhm_px: float, beta: float = PSF_BETA) -> float:
    """Noise-equivalent area of a Moffat PSF, 1 / sum(psf^2), in pixels.

    It is pi alpha^2 (2 beta - 1) / (beta - 1)^2 with alpha = FWHM / (2 sqrt(2^(1/beta) - 1)); for large beta it
    tends to the Gaussian's 4 pi sigma^2.
    """
    alpha = fwhm_px / (2.0 * math.sqrt(math.pow(2.0, 1.0 / beta) - 1.0))
    return math.pi * alpha**2 * (2.0 * beta - 1.0) / (beta - 1.0) ** 2


def pixel_noise(depth_mag: float, fwhm_px: float, zero_point_mag: float) -> float:
    """Standard deviation of a sky pixel in counts, from the depth for point sources.

    The error of an optimal PSF flux is sigma sqrt(area), and the limiting flux is five times that:
    sigma = 10^(-0.4 (depth - zero point)) / 5 / sqrt(area).
    """
    limiting_flux = math.pow(10.0, -0.4 * (depth_mag - zero_point_mag))
    return limiting_flux / 5.0 / math.sqrt(psf_area_px(fwhm_px))


@functools.lru_cache(maxsize=4096)
def patch_conditions(plan: SimulationPlan, tract: int, index: int) -> Patch:
    """Seeing, depth and noise of patch ``index`` (0 to 80) of a tract; independent of every other patch."""
    rng = generator(plan, STREAM_PATCH, tract, index)
    survey = plan.survey
    limit = survey.target_fwhm_arcsec
    scatter = rng.normal(size=survey.n_bands)
    fwhm = np.array([MEDIAN_FWHM_ARCSEC[band] for band in survey.bands]) * np.exp(0.08 * scatter)
    fwhm = np.clip(fwhm, 0.45 * limit, 0.98 * limit)
    # An ordinary patch passes the depth cut with 0.05 mag to spare.
    least = np.nan_to_num(np.array(survey.min_depth_mag), nan=-np.inf) + 0.05
    median = np.array([MEDIAN_DEPTH_MAG[band] for band in survey.bands])
    depth = median + _depth_scatter(plan, median) * rng.normal(size=survey.n_bands)
    # The paper dropped patches that are too shallow. Where the scatter is wide, such a depth is mirrored at the limit;
    # otherwise many patches would lie just there.
    depth = np.maximum(depth, least if plan.population.shallow_percent is None else 2.0 * least - depth)
    band = int(rng.integers(survey.n_bands))
    excess = float(rng.uniform(0.03, 0.3))
    if index == BAD_SEEING_PATCH:
        fwhm[band] = limit * (1.0 + excess)
    limited = np.flatnonzero(np.isfinite(survey.min_depth_mag))
    if index == SHALLOW_PATCH and len(limited):
        shallow = limited[band % len(limited)]
        depth[shallow] = least[shallow] - 0.05 - excess
    noise = [
        pixel_noise(d, f / survey.pixel_scale_arcsec, survey.zero_point_mag) for d, f in zip(depth, fwhm, strict=True)
    ]
    number = 100 * (index % N_PATCHES_A_SIDE) + index // N_PATCHES_A_SIDE
    return Patch(tract, number, tuple(fwhm.tolist()), tuple(depth.tolist()), tuple(noise))


def _depth_scatter(plan: SimulationPlan, median: DoubleArray) -> DoubleArray:
    """Standard deviation of depth in mag, shape (n_bands,): the limits are the given percentile of a Gaussian."""
    scatter = np.full(plan.survey.n_bands, 0.15)
    percent = plan.population.shallow_percent
    if percent is None:
        return scatter
    limit = np.array(plan.survey.min_depth_mag)
    return np.where(np.isfinite(limit), (limit - median) / NormalDist().inv_cdf(percent / 100.0), scatter)


def patch_of_rows(plan: SimulationPlan, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Tract number and patch index (0 to 80) of catalogue rows; int64, shape of ``rows``."""
    allocation = allocate(plan)
    block = rows // plan.n_objects_per_patch
    tract = plan.first_tract + block // N_ORDINARY_PATCHES
    index = block % N_ORDINARY_PATCHES
    fault, cut = allocation.fault[rows], allocation.cut[rows]
    index = np.where(cut == CUTS.index("depth"), SHALLOW_PATCH, index)
    index = np.where(fault == FAULT_NAMES.index("fwhm_above_target"), BAD_SEEING_PATCH, index)
    index = np.where(fault == FAULT_NAMES.index("fwhm_missing"), ABSENT_PATCH, index)
    return tract, index


def object_ids(plan: SimulationPlan, rows: IntArray) -> IntArray:
    """Object ids of catalogue rows: 17 digits, unique except for planted duplicates; int64, shape of ``rows``.

    They are packed like the pipeline's: tract, patch x, patch y, number of the source.
    """
    lender = allocate(plan).id_row[rows]
    tract, index = patch_of_rows(plan, lender)
    x, y = index % N_PATCHES_A_SIDE, index // N_PATCHES_A_SIDE
    return (tract << 42) | (x << 37) | (y << 32) | (lender + 1)


@functools.lru_cache(maxsize=64)
def tract_wcs(tract: int, pixel_scale_arcsec: float) -> WCS:
    """TAN projection of a tract, in the tract's own pixels (centre at 18000, 18000, 1-based)."""
    ring, step = divmod(tract - FIRST_TRACT, N_TRACTS_A_RING)
    dec = -2.0 + 1.45 * ring
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix = [TRACT_CENTER_PX, TRACT_CENTER_PX]
    wcs.wcs.crval = [120.0 + 1.45 * step / math.cos(math.radians(dec)), dec]
    wcs.wcs.cd = np.diag([-pixel_scale_arcsec / 3600.0, pixel_scale_arcsec / 3600.0])
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def positions(
    plan: SimulationPlan, tract: IntArray, index: IntArray, rng: np.random.Generator
) -> tuple[DoubleArray, DoubleArray, DoubleArray, DoubleArray]:
    """Place objects at random in their patches.

    Returns
    -------
    x, y : ndarray of float64, shape (n,)
        0-based pixels of the tract, at least 150 px inside the patch's edges.
    ra, dec : ndarray of float64, shape (n,)
        Degrees.
    """
    inside = rng.uniform(150.0, PATCH_SIZE_PX - 150.0, size=(2, len(tract)))
    x = PATCH_SIZE_PX * (index % N_PATCHES_A_SIDE) + inside[0]
    y = PATCH_SIZE_PX * (index // N_PATCHES_A_SIDE) + inside[1]
    ra, dec = np.empty(len(tract)), np.empty(len(tract))
    for number in np.unique(tract):
        here = tract == number
        wcs = tract_wcs(int(number), plan.survey.pixel_scale_arcsec)
        ra[here], dec[here] = wcs.all_pix2world(x[here], y[here], 0)
    return x, y, ra, dec
