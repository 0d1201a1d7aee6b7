"""The residual in units of its expected noise: an alternative to the score of equation 6 (section 3.2).

    T = |R| / sqrt(V + (floor * Q)^2)
    R = sum over A' of (source - reconstruction),   Q = sum over A' of reconstruction

V is the variance that the pixels' noise gives to the sum of the source over the central aperture A', carried through
the preprocessing (section 2.3) to first order. With the counts c_b' of band b', independent pixels of standard
deviation s_b', the matrix A_b' of the PSF match (`preprocess.smoothing_matrix`), the flux scale k_b',
x_b' = k_b' A_b' c_b' A_b'^T, I the mean of x over the n bands and f_b = g(I) x_b + beta (equation 1):

    g(I)             = arcsinh(alpha I) / (arcsinh(alpha) I)
    w_bb'(p)         = d f_b(p) / d x_b'(p) = g(I) [b = b'] + g'(I) x_b / n   in A', 0 elsewhere and where f is clipped
    weights_bb'      = k_b' A_b'^T w_bb' A_b'                                 of the counts of b' in the sum of band b
    V_b              = sum over b' of s_b'^2 * sum over pixels of weights_bb'^2

The last line is the variance of a linear combination: the sum of its squared weights. It therefore includes that
smoothing makes noise smaller and correlates it, and that the stretch mixes the bands.

The floor is needed because a source differs from its reconstruction by more than noise. For bright galaxies V is next
to nothing; what is left is the error of the network and of the calibration, which grows with the source. Without a
floor the brightest galaxies would be the most anomalous.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.limits import COUNTS_LIMIT, RECONSTRUCTION_FLOOR
from swimmy_scale.method.preprocess import flux_scale, sigma_of_cutouts, smoothing_matrix
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, Survey, check_cube

NOISE_VERSION = 1
"""Rises with every change of what this module computes; part of the identity of scores."""
FLOOR = 0.02
"""Error of a reconstruction that is not noise, as a fraction of it; a job may set another.

The network is trained with Gaussian noise of 0.02 on its input (section 3.1), which it learns to ignore. The value was
chosen before any result was known.
"""
SIGMA_PER_MAD = 1.482602218505602
"""Standard deviation over median absolute deviation of a Gaussian: 1 / Phi^-1(3/4)."""
FRAME_SHARE = 16
"""The frame of outer pixels is the cutout's size over this wide: 4 of 64 px, which makes 960 pixels."""
_BLOCK_OBJECTS = 64
# Below this |alpha I| the series of g and g' are taken: the difference in g' would lose its digits.
_SERIES_BELOW = 1e-2


def frame(size_px: int) -> BoolArray:
    """The outer pixels of a cutout, from which its noise is measured.

    Returns
    -------
    ndarray of bool, shape (size_px, size_px)
        True within ``size_px // FRAME_SHARE`` pixels of the border, at least one.
    """
    width = max(size_px // FRAME_SHARE, 1)
    outside = np.ones((size_px, size_px), np.bool_)
    outside[width:-width, width:-width] = False
    return outside


def pixel_noise(image: FloatArray, survey: Survey) -> DoubleArray:
    """Standard deviation of the pixels' noise, from each cutout's own outer pixels.

    1.4826 * median(|c - median(c)|) over the `frame`. Neighbours and the outskirts of the galaxy change it little
    while they cover less than half of the frame. It does not include the photon noise of the galaxy itself.

    Parameters
    ----------
    image : ndarray of float32, shape (n, n_bands, size, size), counts

    Returns
    -------
    ndarray of float64, shape (n, n_bands), counts
        Zero where more than half of the outer pixels are equal. An object with a NaN or infinite pixel is NaN in all
        bands.
    """
    check_cube(image, survey)
    outside = frame(survey.cutout_size_px)
    noise = np.empty(image.shape[:2])
    for lo in range(0, len(image), _BLOCK_OBJECTS):
        rows = slice(lo, lo + _BLOCK_OBJECTS)
        finite = np.isfinite(image[rows]).all(axis=(1, 2, 3))
        pixels = image[rows][:, :, outside].astype(np.float64)
        pixels[~finite] = 0.0
        pixels -= np.median(pixels, axis=2, keepdims=True)
        noise[rows] = SIGMA_PER_MAD * np.median(np.abs(pixels), axis=2)
        noise[rows][~finite] = np.nan
    return noise


def source_and_noise(
    image: FloatArray, fwhm_arcsec: npt.NDArray[np.floating], survey: Survey
) -> tuple[DoubleArray, DoubleArray]:
    """The sum of the preprocessed source over the aperture A', and the standard deviation of its noise.

    An object's result depends on that object alone, to the last bit.

    Parameters
    ----------
    image : ndarray of float32, shape (n, n_bands, size, size), counts
    fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec

    Returns
    -------
    source_sum : ndarray of float64, shape (n, n_bands)
        Sum over A' of the result of `swimmy_scale.method.preprocess.preprocess`, without its rounding to float32.
    noise : ndarray of float64, shape (n, n_bands)
        sqrt(V) of this module's formula. An object with a NaN or infinite pixel is NaN in all bands of both.

    Raises
    ------
    SwimmyError
        When a FWHM is refused (see `swimmy_scale.method.preprocess.smoothing_sigma_px`).
    """
    check_cube(image, survey)
    sigma = sigma_of_cutouts(image, fwhm_arcsec, survey)
    block = slice(*survey.aperture_range())
    weight = survey.aperture()[block, block].astype(np.float64)
    variance = pixel_noise(image, survey) ** 2
    source_sum, noise = np.full(sigma.shape, np.nan), np.full(sigma.shape, np.nan)
    # The rows of A that make the pixels of the aperture; objects of one patch share them.
    unique, inverse = np.unique(sigma, return_inverse=True)
    every = smoothing_matrix(unique, survey.cutout_size_px)[:, block].astype(np.float64)
    which = inverse.reshape(sigma.shape)
    for row in np.flatnonzero(np.isfinite(variance).all(axis=1)):
        # One object at a time: in a product over stacked objects the order of summation could depend on their number.
        matrices = every[which[row]]
        counts = np.clip(image[row], -COUNTS_LIMIT, COUNTS_LIMIT).astype(np.float64)
        smooth = matrices @ counts @ matrices.transpose(0, 2, 1)
        source_sum[row], total = _propagated(smooth, matrices, weight, variance[row], survey)
        noise[row] = np.sqrt(total)
    return source_sum, noise


def _propagated(
    smooth: DoubleArray, matrices: DoubleArray, weight: DoubleArray, variance: DoubleArray, survey: Survey
) -> tuple[DoubleArray, DoubleArray]:
    """Sum of the source of one object and its variance V, by band.

    sum of (A^T w A)^2 over all pixels = sum of w * (B w B) over those of the aperture, with B = A A^T.
    """
    scale = flux_scale(survey).astype(np.float64)
    x = smooth * scale[:, None, None]
    factor, slope = _stretch_factor(x.mean(axis=0), survey.stretch_alpha)
    stretched = factor * x + survey.stretch_beta
    moves = weight * ((stretched > 0.0) & (stretched < 1.0))
    # d f_b / d x_b': axes (b, b', y, x).
    derivative = np.repeat((slope * x / survey.n_bands)[:, None], survey.n_bands, axis=1)
    derivative[np.arange(survey.n_bands), np.arange(survey.n_bands)] += factor
    derivative *= moves[:, None]
    overlap = matrices @ matrices.transpose(0, 2, 1)
    squared = (derivative * (overlap @ derivative @ overlap)).sum(axis=(2, 3))
    total = (squared * (scale**2 * variance)).sum(axis=1)
    source_sum = (np.clip(stretched, 0.0, 1.0) * weight).sum(axis=(1, 2))
    return source_sum, np.maximum(total, 0.0)


def _stretch_factor(intensity: DoubleArray, alpha: float) -> tuple[DoubleArray, DoubleArray]:
    """g(I) of equation 1 and its derivative, by their series where I is near 0.

    With a = alpha I: g = alpha / arcsinh(alpha) * arcsinh(a) / a, and
    g' = alpha^2 / arcsinh(alpha) * (1 / sqrt(1 + a^2) - arcsinh(a) / a) / a.
    """
    a = alpha * intensity
    small = np.abs(a) < _SERIES_BELOW
    safe = np.where(small, 1.0, a)
    ratio = np.where(small, 1.0 - a**2 / 6.0, np.arcsinh(safe) / safe)
    slope = np.where(small, -a / 3.0, (1.0 / np.hypot(1.0, safe) - np.arcsinh(safe) / safe) / safe)
    height = alpha / math.asinh(alpha)
    return height * ratio, alpha * height * slope


def noise_score(residual: FloatArray, source_sum: DoubleArray, noise: DoubleArray, floor: float) -> FloatArray:
    """The residual in units of its expected noise: T = |R| / sqrt(V + (floor * Q)^2).

    Parameters
    ----------
    residual : ndarray of float32, shape (n, n_models, n_bands)
        R: sum over A' of source - reconstruction, as a scorer gives it.
    source_sum, noise : ndarray of float64, shape (n, n_bands)
        As `source_and_noise` gives them. Q = source_sum - R.
    floor : float
        Error of a reconstruction that is not noise, as a fraction of it; above 0.

    Returns
    -------
    ndarray of float32, shape (n, n_models, n_bands)
        0 or above, never infinite. NaN where any of the three is.
    """
    if residual.ndim != 3 or source_sum.shape != noise.shape or residual.shape[::2] != noise.shape:
        raise SwimmyError(
            f"residuals have shape {residual.shape}, sums and noise {source_sum.shape} and {noise.shape}: need "
            "(n_objects, n_models, n_bands) and twice (n_objects, n_bands). Give those of the same cutouts."
        )
    if not 0.0 < floor < math.inf:
        raise SwimmyError(f"floor {floor} must be above 0 and finite. Correct score.floor of the job.")
    difference = residual.astype(np.float64)
    # Every reconstructed pixel is above 0; the difference of two rounded sums may not be.
    expected = np.maximum(source_sum[:, None] - difference, RECONSTRUCTION_FLOOR)
    score: FloatArray = (np.abs(difference) / np.hypot(noise[:, None], floor * expected)).astype(np.float32)
    return score
