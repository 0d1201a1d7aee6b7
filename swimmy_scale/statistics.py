"""The paper's tests and significances: Spearman's rank, Kolmogorov and Smirnov's distance, the sigma of a score."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

DoubleArray = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation: ``rho`` and its two-sided p value, from ``n_objects`` pairs."""

    rho: float
    p: float
    n_objects: int


@dataclass(frozen=True)
class Difference:
    """Two-sample Kolmogorov-Smirnov test: largest distance of the two distributions, and its p value."""

    statistic: float
    p: float
    n_first: int
    n_second: int


def spearman(first: AnyFloats, second: AnyFloats) -> Correlation:
    """Spearman's rank correlation of two columns (section 4.3, figure 12).

    Parameters
    ----------
    first, second : ndarray of float, shape (n,)
        Pairs with a value that is not finite are left out.

    Returns
    -------
    Correlation
        NaN for fewer than three pairs, or when one column is constant.
    """
    known = np.isfinite(first) & np.isfinite(second)
    x, y = first[known].astype(np.float64), second[known].astype(np.float64)
    n = int(known.sum())
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(float("nan"), float("nan"), n)
    result = scipy.stats.spearmanr(x, y)
    return Correlation(float(result.statistic), float(result.pvalue), n)


def kolmogorov_smirnov(first: AnyFloats, second: AnyFloats) -> Difference:
    """Two-sided two-sample test whether both come from one distribution (section 4.3, figure 13).

    Parameters
    ----------
    first, second : ndarray of float, shapes (n,) and (m,)
        Values that are not finite are left out.

    Returns
    -------
    Difference
        NaN where a sample is empty.
    """
    x, y = (values[np.isfinite(values)].astype(np.float64) for values in (first, second))
    if x.size == 0 or y.size == 0:
        return Difference(float("nan"), float("nan"), x.size, y.size)
    # The exact distribution takes minutes for large samples; scipy's own choice for those is the asymptotic one.
    method = "exact" if max(x.size, y.size) <= 1000 else "asymp"
    with warnings.catch_warnings():
        # Where samples have ties the exact one may fail; scipy then takes the asymptotic one, and warns.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        result = scipy.stats.ks_2samp(x, y, method=method)
    return Difference(float(result.statistic), float(result.pvalue), x.size, y.size)


def sigma_excess(score: AnyFloats, reference: AnyFloats) -> DoubleArray:
    """How many sigma a score stands out of a reference sample's scores (figure 6).

    p = (1 + number of reference scores >= score) / (1 + number of reference scores)
    sigma = the width at which a Gaussian has the fraction p outside of +-sigma: 5% is 1.96, 0.27% is 3

    The ones keep it finite where no reference score is as high.

    Parameters
    ----------
    score : ndarray of float, shape (n,)
    reference : ndarray of float, shape (m,)
        Scores of the training data in the same band. NaN is left out.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 for the lowest scores. NaN for a NaN score.
    """
    ordered = np.sort(reference[np.isfinite(reference)].astype(np.float64))
    exact = score.astype(np.float64)
    n_as_high = ordered.size - np.searchsorted(ordered, exact, side="left")
    sigma: DoubleArray = scipy.stats.norm.isf((1.0 + n_as_high) / (1.0 + ordered.size) / 2.0)
    return np.where(np.isnan(exact), np.nan, np.abs(sigma))
