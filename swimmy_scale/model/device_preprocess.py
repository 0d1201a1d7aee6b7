"""Preprocessing on whatever device Keras computes on, in the network's own compiled call (section 2.3).

The same steps as `method.preprocess`, in ``keras.ops`` alone, so that only counts and the kernels' widths travel to a
GPU: the smoothing matrices, as large as the pixels, are made there. Everything is float32, sums included, and libraries
choose their order, so bytes differ from those of `preprocess`; pixels in [0, 1] agree to `TOLERANCE`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.limits import COUNTS_LIMIT, FLUX_LIMIT, SERIES_LIMIT
from swimmy_scale.method.preprocess import SIGMA_PER_FWHM, TRUNCATE_SIGMA, flux_scale, smoothing_sigma_px
from swimmy_scale.method.survey import FloatArray, Survey
from swimmy_scale.model.devices import keras

TOLERANCE = 2e-6
"""Largest difference from `preprocess` for pixels in [0, 1], unless bands far above the stretch cancel each other."""


def kernel_widths(fwhm_arcsec: npt.NDArray[np.floating], survey: Survey) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Sigma and radius of the smoothing kernels, which are all that the device needs to know of the seeing.

    The radius int(4 sigma + 0.5) comes from sigma in float64. Rounding sigma to float32 first could change it.

    Parameters
    ----------
    fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec
        Checked by `preprocess.smoothing_sigma_px`.

    Returns
    -------
    sigma_px : ndarray of float32, shape (n, n_bands), px
    radius_px : ndarray of int32, shape (n, n_bands), px
    """
    sigma = smoothing_sigma_px(fwhm_arcsec, survey)
    return sigma.astype(np.float32), (TRUNCATE_SIGMA * sigma + 0.5).astype(np.int32)


def longest_radius_px(survey: Survey) -> int:
    """The largest radius that any FWHM above 0 needs, px."""
    return int(TRUNCATE_SIGMA * survey.target_fwhm_arcsec * SIGMA_PER_FWHM / survey.pixel_scale_arcsec + 0.5)


def smoothing_matrices(sigma_px: Any, radius_px: Any, size_px: int, longest_px: int) -> Any:
    """Matrices A for which A X A^T is the image X smoothed, as `preprocess.smoothing_matrix` makes them.

    w_k = exp(-k^2 / 2 sigma^2) for k <= radius, normalised to w_0 + 2 (w_1 + ...) = 1; A[i, j] = w_|i-j|, but for the
    edge columns, which collect what falls outside: A[i, 0] = w_i + w_(i+1) + ..., A[i, L] = w_(L-i) + w_(L-i+1) + ...

    Parameters
    ----------
    sigma_px : tensor of float32, any shape, px
    radius_px : tensor of int32, same shape, px
    size_px : int
        Side of the image: L + 1.
    longest_px : int
        An upper limit of the radii.

    Returns
    -------
    tensor of float32, shape (..., size_px, size_px)
        The identity where sigma is 0.
    """
    ops = keras.ops
    steps = np.arange(max(size_px, longest_px + 1), dtype=np.float32)
    radius = ops.cast(radius_px, "float32")[..., None]
    # With radius 0 only w_0 = exp(0) is left, whatever it is divided by.
    scaled = ops.divide(steps, ops.where(radius > 0.0, sigma_px[..., None], 1.0))
    half = ops.where(radius >= steps, ops.exp(-0.5 * scaled * scaled), 0.0)
    half = half / (2.0 * ops.sum(half, axis=-1, keepdims=True) - half[..., :1])
    tail = ops.flip(ops.cumsum(ops.flip(half, axis=-1), axis=-1), axis=-1)[..., :size_px]
    rows = np.arange(size_px)
    inner = ops.take(half, np.abs(rows[:, None] - rows[1:-1]), axis=-1)
    return ops.concatenate([tail[..., None], inner, ops.flip(tail, axis=-1)[..., None]], axis=-1)


def preprocess_on_device(image: Any, sigma_px: Any, radius_px: Any, survey: Survey) -> tuple[Any, Any]:
    """Smooth, scale and stretch as `preprocess.preprocess` does.

    Parameters
    ----------
    image : tensor of float32, shape (n, n_bands, size, size), counts
    sigma_px : tensor of float32, shape (n, n_bands), px
    radius_px : tensor of int32, shape (n, n_bands), px
        From `kernel_widths`, as sigma is.

    Returns
    -------
    source : tensor of float32, shape (n, n_bands, size, size), in [0, 1]
        An object with a NaN or infinite pixel is computed as if it were 0 throughout.
    finite : tensor of bool, shape (n,)
        False for these objects: the caller makes their results NaN.
    """
    ops = keras.ops
    finite = ops.all(ops.isfinite(image), axis=(1, 2, 3))
    image = ops.where(finite[:, None, None, None], image, 0.0)
    # As in `preprocess`: a sum of rounded weights must not overflow at the largest float.
    image = ops.clip(image, -COUNTS_LIMIT, COUNTS_LIMIT)
    matrices = smoothing_matrices(sigma_px, radius_px, survey.cutout_size_px, longest_radius_px(survey))
    smoothed = ops.matmul(ops.matmul(matrices, image), ops.swapaxes(matrices, -1, -2))
    return _stretched(smoothed, survey), finite


def _stretched(image: Any, survey: Survey) -> Any:
    """Equations 1 and 2 (see `preprocess.stretch`)."""
    ops, alpha, n_bands = keras.ops, survey.stretch_alpha, survey.n_bands
    limit = FLUX_LIMIT / max(alpha, 1.0)
    scaled = ops.clip(image * flux_scale(survey)[:, None, None], -limit, limit)
    intensity = ops.abs(ops.sum(scaled, axis=1, keepdims=True)) * (alpha / n_bands)
    # arcsinh(a) / a is 1 to float32 below the series limit, so the floor gives the limit I -> 0 without 0 / 0.
    intensity = ops.maximum(intensity, SERIES_LIMIT)
    factor = ops.arcsinh(intensity) / intensity * (alpha / math.asinh(alpha))
    return ops.clip(scaled * factor + survey.stretch_beta, 0.0, 1.0)
