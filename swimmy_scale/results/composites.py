"""Colours of cutouts: three bands as one picture, and the scale of residual maps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import DoubleArray, FloatArray, Survey

# Red, green and blue of the composite, if the survey has them.
COMPOSITE_BANDS = ("i", "r", "g")


def composite(cube: FloatArray, survey: Survey) -> DoubleArray:
    """RGB of one preprocessed cube.

    i, r and g are red, green and blue. A survey without them shows its first three selecting bands, the last of them
    as red; one with fewer than three shows their mean as grey.

    Parameters
    ----------
    cube : ndarray of float32, shape (n_bands, y, x), in [0, 1]

    Returns
    -------
    ndarray of float64, shape (y, x, 3), in [0, 1]
        NaN is black.
    """
    has_gri = set(COMPOSITE_BANDS) <= set(survey.bands)
    bands = COMPOSITE_BANDS if has_gri else survey.selecting_bands[:3][::-1]
    return three_colours(cube[survey.band_index(bands)].astype(np.float64))


def three_colours[Number: np.floating](planes: Iterable[npt.NDArray[Number]]) -> npt.NDArray[Number]:
    """RGB of planes (..., y, x) in [0, 1], red first; of one or two planes, their mean as grey.

    Returns
    -------
    ndarray, shape (..., y, x, 3), in [0, 1]
        Of the planes' dtype; NaN is black.
    """
    picture: npt.NDArray[Number] = np.clip(np.nan_to_num(np.stack(list(planes), axis=-1)), 0, 1)
    if picture.shape[-1] < 3:
        picture = picture.mean(axis=-1, keepdims=True, dtype=picture.dtype).repeat(3, axis=-1)
    return picture


def symmetric_limit(residual: npt.NDArray[np.floating], survey: Survey) -> float:
    """The end of the scale of residual maps: the 99th percentile of \\|residual\\|, or 0.01 where that is less.

    Only the central half of the cutouts counts, so that neighbours do not wash the object out.

    Parameters
    ----------
    residual : ndarray of float, shape (..., size, size)
        NaN is left out.
    """
    quarter = survey.cutout_size_px // 4
    middle = np.abs(residual[..., quarter:-quarter, quarter:-quarter])
    finite = middle[np.isfinite(middle)]
    return max(float(np.percentile(finite, 99.0)) if finite.size else 0.0, 0.01)
