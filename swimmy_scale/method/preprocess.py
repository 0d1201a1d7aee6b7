"""From counts to the network's input: PSF match, flux scale and stretch (section 2.3).

Everything is float32 with axes (object, band, y, x). An object's output depends on its own pixels and FWHM alone, to
the last bit, however rows are split over calls.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.limits import COUNTS_LIMIT, FLUX_LIMIT, SERIES_LIMIT
from swimmy_scale.method.survey import DoubleArray, FloatArray, Survey, check_cube

SIGMA_PER_FWHM = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))
TRUNCATE_SIGMA = 4.0
"""Half width of the smoothing kernel in sigma. The paper does not give it; this is SciPy's default."""

_MATCH_BLOCK_OBJECTS = 128
_STRETCH_BLOCK_OBJECTS = 8


def smoothing_sigma_px(fwhm_arcsec: npt.NDArray[np.floating], survey: Survey) -> DoubleArray:
    """Width of the Gaussian that brings every band to the survey's target FWHM (section 2.3).

    sigma_px = sqrt(target^2 - FWHM^2) / (2 sqrt(2 ln 2)) / pixel_scale

    Parameters
    ----------
    fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec

    Returns
    -------
    ndarray of float64, shape (n, n_bands), px
        Zero where the FWHM equals the target.

    Raises
    ------
    SwimmyError
        When a FWHM is NaN, not positive or above ``target_fwhm_arcsec``.
    """
    fwhm = np.asarray(fwhm_arcsec, dtype=np.float64)
    if fwhm.ndim != 2 or fwhm.shape[1] != survey.n_bands:
        raise SwimmyError(
            f"fwhm_arcsec has shape {fwhm.shape}, survey {survey.name!r} needs (n_objects, {survey.n_bands}). "
            "Give one FWHM for each object and band."
        )
    limit = survey.target_fwhm_arcsec
    # Rounding to float32 may have put a FWHM that equals the limit just above it.
    fwhm = np.where(fwhm.astype(np.float32) == np.float32(limit), limit, fwhm)
    bad = ~((fwhm > 0.0) & (fwhm <= limit))
    if bad.any():
        row, band = (int(index) for index in np.argwhere(bad)[0])
        raise SwimmyError(
            f"object at row {row}, band {survey.bands[band]}: FWHM {fwhm[row, band]} arcsec must be above 0 and at "
            f"most {limit} arcsec ({int(bad.any(axis=1).sum())} of {len(fwhm)} objects fail). Remove objects of "
            "patches with worse seeing, or raise target_fwhm_arcsec."
        )
    sigma: DoubleArray = np.sqrt(limit**2 - fwhm**2) * (SIGMA_PER_FWHM / survey.pixel_scale_arcsec)
    return sigma


def flux_scale(survey: Survey) -> FloatArray:
    """Factor of the counts before the stretch (section 2.3).

    10^(-0.4 (zero_point - stretch_zero_point)) / band_divisor

    Returns
    -------
    ndarray of float32, shape (n_bands,)
    """
    scale = 10.0 ** (-0.4 * (survey.zero_point_mag - survey.stretch_zero_point_mag))
    return np.array([scale / divisor for divisor in survey.band_divisors]).astype(np.float32)


def check_seeing(sigma_px: npt.NDArray[np.floating], image: FloatArray) -> None:
    """Refuse seeing of more or fewer objects than there are cutouts."""
    if len(sigma_px) != len(image):
        raise SwimmyError(
            f"{len(image)} cutouts but {len(sigma_px)} rows of fwhm_arcsec. Give one row for each cutout."
        )


def sigma_of_cutouts(image: FloatArray, fwhm_arcsec: npt.NDArray[np.floating], survey: Survey) -> DoubleArray:
    """`smoothing_sigma_px` of these cutouts; refuses more or fewer rows of FWHM than cutouts."""
    sigma = smoothing_sigma_px(fwhm_arcsec, survey)
    check_seeing(sigma, image)
    return sigma


def smoothing_matrix(sigma_px: npt.NDArray[np.floating], size_px: int) -> FloatArray:
    """Matrices A for which ``A @ image @ A.T`` is the image smoothed by a circular Gaussian.

    The same as ``scipy.ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=4.0)``: weights
    exp(-k^2 / 2 sigma^2) for |k| <= int(4 sigma + 0.5), normalised to sum 1. The edge pixel gets the weights that fall
    outside the image.

    Parameters
    ----------
    sigma_px : ndarray of float, shape (n,), px
        Not negative. Zero gives the identity.

    Returns
    -------
    ndarray of float32, shape (n, size_px, size_px)
        Computed in float64, then rounded.
    """
    sigma = np.asarray(sigma_px, dtype=np.float64)
    if sigma.ndim != 1 or not np.isfinite(sigma).all() or (sigma < 0).any():
        raise SwimmyError(f"sigma_px {sigma} must be a list of finite values, 0 or more. Check the FWHM values.")
    if len(sigma) == 0:
        return np.empty((0, size_px, size_px), np.float32)
    radius = (TRUNCATE_SIGMA * sigma + 0.5).astype(np.int64)
    reach = np.arange(max(size_px, int(radius.max()) + 1))
    scaled = reach / np.where(radius > 0, sigma, 1.0)[:, None]
    half = np.where(reach <= radius[:, None], np.exp(-0.5 * scaled**2), 0.0)
    # A running sum adds the padding zeros last, so a row does not depend on the widths of its neighbours' kernels.
    total = 2.0 * np.cumsum(half, axis=1)[:, -1] - half[:, 0]
    half /= total[:, None]
    # tail[k], the weight at distance k and beyond, goes to the edge pixel.
    tail = np.cumsum(half[:, ::-1], axis=1)[:, ::-1][:, :size_px].astype(np.float32)
    # Row i of A is the mirrored kernel, shifted by i.
    weights = half[:, :size_px].astype(np.float32)
    mirrored = np.concatenate([weights[:, :0:-1], weights], axis=1)
    matrix: FloatArray = sliding_window_view(mirrored, size_px, axis=1)[:, ::-1].copy()
    matrix[:, :, 0] = tail
    matrix[:, :, -1] = tail[:, ::-1]
    return matrix


def match_psf(image: FloatArray, fwhm_arcsec: npt.NDArray[np.floating], survey: Survey) -> FloatArray:
    """Smooth every band of every object to the survey's target FWHM (section 2.3): the first half of `preprocess`.

    Parameters
    ----------
    image : ndarray of float32, shape (n, n_bands, size, size), counts
    fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec

    Returns
    -------
    ndarray of float32, shape (n, n_bands, size, size), counts
        An object with a NaN or infinite pixel is NaN in every band and pixel; others are not affected.

    Raises
    ------
    SwimmyError
        When a FWHM is refused (see `smoothing_sigma_px`).
    """
    image = _checked(image, survey)
    sigma = sigma_of_cutouts(image, fwhm_arcsec, survey)
    out = np.empty_like(image)
    for start in range(0, len(image), _MATCH_BLOCK_OBJECTS):
        rows = slice(start, start + _MATCH_BLOCK_OBJECTS)
        _smooth_block(image[rows], sigma[rows], out[rows])
    return out


def stretch(image: FloatArray, survey: Survey) -> FloatArray:
    """Bring counts to the common flux scale and stretch them to [0, 1] (section 2.3, equations 1 and 2).

    x = counts * 10^(-0.4 (zero_point - stretch_zero_point)) / band_divisor, I = mean of x over the bands,
    f(x) = arcsinh(alpha I) / arcsinh(alpha) * x / I + beta, clipped to [0, 1].
    The factor is even in I, so a negative I is well defined; at I = 0 it is alpha / arcsinh(alpha).

    Parameters
    ----------
    image : ndarray of float32, shape (n, n_bands, size, size), counts

    Returns
    -------
    ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        Finite for finite input. Where a pixel is not finite, all bands of that pixel are NaN.
    """
    image = _checked(image, survey)
    out = np.empty_like(image)
    for start in range(0, len(image), _STRETCH_BLOCK_OBJECTS):
        rows = slice(start, start + _STRETCH_BLOCK_OBJECTS)
        _stretch_block(image[rows], survey, out[rows])
    return out


def preprocess(
    image: FloatArray, fwhm_arcsec: npt.NDArray[np.floating], survey: Survey, out: FloatArray | None = None
) -> FloatArray:
    """Smooth, scale and stretch: from counts as delivered to the network's input (section 2.3).

    The same bytes as ``stretch(match_psf(image, fwhm_arcsec, survey), survey)`` in less memory: a few MB beside input
    and output, for any number of objects.

    Parameters
    ----------
    image : ndarray of float32, shape (n, n_bands, size, size), counts
    fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec
    out : ndarray of float32, shape (n, n_bands, size, size), optional
        Where to put the result; must not share memory with ``image``.

    Returns
    -------
    ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        ``out``, or a new array. An object with a NaN or infinite pixel is NaN in every band and pixel.

    Raises
    ------
    SwimmyError
        When a FWHM is refused (see `smoothing_sigma_px`).
    """
    image = _checked(image, survey)
    sigma = sigma_of_cutouts(image, fwhm_arcsec, survey)
    if out is None:
        out = np.empty_like(image)
    elif out.shape != image.shape or out.dtype != np.float32 or np.shares_memory(out, image):
        raise SwimmyError(
            f"out has shape {out.shape} and dtype {out.dtype}; it needs {image.shape} and float32, in memory of its "
            "own. Give an array like the image, or none."
        )
    for start in range(0, len(image), _MATCH_BLOCK_OBJECTS):
        rows = slice(start, start + _MATCH_BLOCK_OBJECTS)
        _smooth_block(image[rows], sigma[rows], out[rows])
        for first in range(start, min(start + _MATCH_BLOCK_OBJECTS, len(image)), _STRETCH_BLOCK_OBJECTS):
            part = out[first : min(first + _STRETCH_BLOCK_OBJECTS, start + _MATCH_BLOCK_OBJECTS)]
            _stretch_block(part, survey, part)
    return out


def _checked(image: FloatArray, survey: Survey) -> FloatArray:
    check_cube(image, survey)
    return np.ascontiguousarray(image, dtype=np.float32)


def _smooth_block(image: FloatArray, sigma: DoubleArray, out: FloatArray) -> None:
    """Write the smoothed ``image`` to ``out``; both (n, band, y, x) and contiguous."""
    size = image.shape[-1]
    unique, inverse = np.unique(sigma, return_inverse=True)
    # One product for each object and band, always of the same shape: in a product over stacked objects the order of
    # summation could depend on their number.
    matrices = smoothing_matrix(unique, size)
    half_done = np.empty((size, size), np.float32)
    bounded = np.clip(image, -COUNTS_LIMIT, COUNTS_LIMIT)
    for (row, band), which in np.ndenumerate(inverse.reshape(sigma.shape)):
        matrix = matrices[which]
        np.matmul(matrix, bounded[row, band], out=half_done)
        np.matmul(half_done, matrix.T, out=out[row, band])
    finite = np.isfinite(image).all(axis=(1, 2, 3))
    if not finite.all():
        out[~finite] = np.nan


def _stretch_block(image: FloatArray, survey: Survey, out: FloatArray) -> None:
    """Write the stretched ``image`` to ``out``, which may be the same array."""
    per_band = flux_scale(survey)
    alpha = survey.stretch_alpha
    limit = np.float32(FLUX_LIMIT / max(alpha, 1.0))
    finite = np.isfinite(image).all(axis=1)
    with np.errstate(over="ignore"):
        np.multiply(image, per_band[:, None, None], out=out)
    np.clip(out, -limit, limit, out=out)
    intensity = out[:, 0].copy()
    for band in range(1, out.shape[1]):
        intensity += out[:, band]
    np.abs(intensity, out=intensity)
    intensity *= np.float32(alpha / out.shape[1])
    np.maximum(intensity, np.float32(SERIES_LIMIT), out=intensity)
    factor = np.arcsinh(intensity)
    factor /= intensity
    factor *= np.float32(alpha / math.asinh(alpha))
    if not finite.all():
        factor[~finite] = np.nan
    out *= factor[:, None]
    out += np.float32(survey.stretch_beta)
    np.clip(out, 0.0, 1.0, out=out)
