"""One score from those of several weight sets: their mean, their median, or the mean of their ranks.

Trainings of one network differ more from each other than settings do (appendix 1). With S_k the score (equation 6) of
weight set k of K, and D_k its residual, in one band:

    mean      S = sum_k S_k / K                   D = sum_k D_k / K
    median    S = median_k S_k                    D = median_k D_k
    rank      S = sum_k R_k / K                   D = sum_k D_k / K
              R_k = #{sample objects whose S_k is at most the object's S_k} / n_sample

Everything is computed in float64 and returned as float32.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import FloatArray

Rule = Literal["mean", "median", "rank"]


def mean(values: FloatArray) -> FloatArray:
    """Mean over the models.

    Parameters
    ----------
    values : ndarray of float32, shape (n, model, band)
        Scores or residuals.

    Returns
    -------
    ndarray of float32, shape (n, band)
        Summed in float64 in the order of the models. NaN where any model's value is.
    """
    _check(values)
    total = np.zeros((values.shape[0], values.shape[2]), np.float64)
    for model in range(values.shape[1]):
        total += values[:, model]
    combined: FloatArray = (total / values.shape[1]).astype(np.float32)
    return combined


def median(values: FloatArray) -> FloatArray:
    """Median over the models: the middle value, or the mean of the two middle ones where K is even.

    Parameters
    ----------
    values : ndarray of float32, shape (n, model, band)

    Returns
    -------
    ndarray of float32, shape (n, band)
        NaN where any model's value is.
    """
    _check(values)
    return np.median(values.astype(np.float64), axis=1).astype(np.float32)


def ordered(sample: FloatArray) -> FloatArray:
    """The sample's scores in ascending order, in which `mean_rank` looks up ranks.

    Parameters
    ----------
    sample : ndarray of float32, shape (n_sample, model, band)

    Returns
    -------
    ndarray of float32, shape (model, band, n_sample)

    Raises
    ------
    SwimmyError
        When the sample is empty or one of its scores is NaN.
    """
    _check(sample)
    if sample.shape[0] == 0 or np.isnan(sample).any():
        raise SwimmyError(
            f"ranks need a sample without NaN: {int(np.isnan(sample).any(axis=(1, 2)).sum())} of its {len(sample)} "
            "objects have one. Leave quarantined objects out of the sample, and loosen its cuts where it is empty."
        )
    return np.sort(sample.transpose(1, 2, 0), axis=-1)


def mean_rank(score: FloatArray, sample: FloatArray) -> FloatArray:
    """Mean over the models of an object's rank within the sample, as a fraction of the sample.

    The largest score of the sample has R_k = 1; equal scores have equal ranks. Objects outside the sample are ranked
    against it too. Float32 tells apart ranks that differ by 2**-24 or more.

    Parameters
    ----------
    score : ndarray of float32, shape (n, model, band)
    sample : ndarray of float32, shape (model, band, n_sample)
        As `ordered` gives it.

    Returns
    -------
    ndarray of float32, shape (n, band), in [0, 1]
        NaN where any model's score is.
    """
    _check(score)
    if sample.ndim != 3 or sample.shape[:2] != score.shape[1:] or sample.shape[2] == 0:
        raise SwimmyError(
            f"scores have shape {score.shape}, the ordered sample {sample.shape}: need (n_objects, n_models, n_bands) "
            "and (n_models, n_bands, n_sample). Order the sample of the same scores."
        )
    total = np.zeros((score.shape[0], score.shape[2]), np.float64)
    for model, band in np.ndindex(sample.shape[:2]):
        values = score[:, model, band]
        rank = np.searchsorted(sample[model, band], values, side="right") / sample.shape[2]
        total[:, band] += np.where(np.isnan(values), np.nan, rank)
    combined: FloatArray = (total / score.shape[1]).astype(np.float32)
    return combined


def _check(values: FloatArray) -> None:
    if values.ndim != 3 or values.shape[1] == 0:
        raise SwimmyError(
            f"values have shape {values.shape}, need (n_objects, n_models, n_bands) with at least one model."
        )
