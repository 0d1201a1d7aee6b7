"""Colours of stamps: three bands as one picture, and the scale of residual maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import FloatArray, Survey

# Red, green and blue of the composite, where the survey has them.
COMPOSITE_BANDS = ("i", "r", "g")


def composite(cube: FloatArray, survey: Survey) -> npt.NDArray[np.float64]:
    """RGB of one preprocessed cube.

    i, r and g are red, green and blue; a survey without them shows its first three selecting bands, the last of them
    red; one with fewer is grey.

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
    return three_colours([cube[band] for band in survey.band_index(bands)])


def three_colours(planes: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
    """RGB of planes in [0, 1], red first, shape (y, x, 3); their mean as grey where there are fewer than three."""
    exact = [plane.astype(np.float64) for plane in planes]
    if len(exact) < 3:
        exact = [np.mean(exact, axis=0)] * 3
    picture: npt.NDArray[np.float64] = np.clip(np.nan_to_num(np.stack(exact, axis=-1)), 0.0, 1.0)
    return picture


def symmetric_limit(residual: npt.NDArray[np.floating], survey: Survey) -> float:
    """Scale of the residual maps, from the central half of the cutouts: neighbours must not wash the object out."""
    quarter = survey.cutout_size_px // 4
    middle = np.abs(residual[..., quarter:-quarter, quarter:-quarter])
    finite = middle[np.isfinite(middle)]
    return max(float(np.percentile(finite, 99.0)) if finite.size else 0.0, 0.01)
