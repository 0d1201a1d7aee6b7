"""Radial profiles of cutouts: means in rings around the object (section 4.1, figure 8)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import DoubleArray, FloatArray, Survey, check_cube


def rings(survey: Survey) -> npt.NDArray[np.int64]:
    """Number of the ring that each pixel lies in.

    Ring k holds the pixels whose centres are k <= r < k + 1 px from the cutout's geometric centre. Only rings that
    lie wholly in the cutout are counted; pixels outside of them have -1.

    Returns
    -------
    ndarray of int64, shape (cutout_size_px, cutout_size_px), axes (y, x)
    """
    offset = np.arange(survey.cutout_size_px) - survey.center_px
    ring = np.floor(np.hypot(offset[:, None], offset[None, :])).astype(np.int64)
    return np.where(ring < survey.cutout_size_px // 2, ring, -1)


def ring_radius(survey: Survey) -> DoubleArray:
    """Mean distance of a ring's pixels from the centre, float64 (ring,), in pixels."""
    offset = np.arange(survey.cutout_size_px) - survey.center_px
    return _ring_means(np.hypot(offset[:, None], offset[None, :]), survey)


def radial_profiles(image: FloatArray, survey: Survey) -> DoubleArray:
    """Mean of the pixels in each ring.

    Parameters
    ----------
    image : ndarray of float32, shape (n, n_bands, size, size)
        Preprocessed cutouts, or source - reconstruction.

    Returns
    -------
    ndarray of float64, shape (n, n_bands, size // 2)
        NaN in the rings that hold a NaN pixel.
    """
    check_cube(image, survey)
    return _ring_means(image, survey)


def _ring_means(image: npt.NDArray[np.floating], survey: Survey) -> DoubleArray:
    ring = rings(survey)
    means = [image[..., ring == k].mean(axis=-1, dtype=np.float64) for k in range(survey.cutout_size_px // 2)]
    stacked: DoubleArray = np.stack(means, axis=-1)
    return stacked
