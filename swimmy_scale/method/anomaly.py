"""The anomaly score of equation 6, and the residual whose sign tells bright from faint (section 3.2)."""

from __future__ import annotations

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.limits import RECONSTRUCTION_FLOOR
from swimmy_scale.method.survey import FloatArray, Survey, check_cube


def score_and_residual(source: FloatArray, reconstruction: FloatArray, survey: Survey) -> tuple[FloatArray, FloatArray]:
    """Anomaly score of every object and band, and how much brighter than expected it is.

    score = sum over A' of ((source - reconstruction) / reconstruction)^2        (equation 6)
    residual = sum over A' of (source - reconstruction)
    A' is the survey's central aperture. Both are sums, not means.

    The scorers compute the same numbers from counts, in one pass; this is their reference, for arrays in memory.

    Parameters
    ----------
    source : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        The preprocessed cutouts, without the noise layer.
    reconstruction : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        The network's output for them. Values below `limits.RECONSTRUCTION_FLOOR` are raised to it.

    Returns
    -------
    score : ndarray of float32, shape (n, n_bands)
        Never infinite. NaN where source or reconstruction is not finite in the aperture; the caller quarantines the
        object.
    residual : ndarray of float32, shape (n, n_bands)
        Positive when the source is brighter than the reconstruction. NaN where the score is.
    """
    check_cube(source, survey)
    if source.shape != reconstruction.shape:
        raise SwimmyError(
            f"source has shape {source.shape} and reconstruction {reconstruction.shape}; they must be the same. "
            "Reconstruct the same cutouts with the model of this survey."
        )
    inside = survey.aperture()
    seen = source[:, :, inside].astype(np.float64)
    expected = reconstruction[:, :, inside].astype(np.float64)
    finite = np.isfinite(seen).all(axis=2) & np.isfinite(expected).all(axis=2)
    seen[~finite] = expected[~finite] = np.nan
    np.maximum(expected, RECONSTRUCTION_FLOOR, out=expected)
    difference = seen - expected
    score = np.square(difference / expected).sum(axis=2).astype(np.float32)
    residual = difference.sum(axis=2).astype(np.float32)
    return score, residual
