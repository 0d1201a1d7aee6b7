"""The paper's statistics: rank correlation, two-sample test, the sigma of a score, and selection rates."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
from astropy.stats import binom_conf_interval

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray

AnyFloats = npt.NDArray[np.floating[Any]]

ONE_SIGMA = math.erf(1.0 / math.sqrt(2.0))
"""Confidence of the intervals: 68.3%, the share of a Gaussian within one sigma."""


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
    # The exact distribution takes minutes for large samples; SciPy, too, takes the asymptotic one for those.
    method = "exact" if max(x.size, y.size) <= 1000 else "asymp"
    with warnings.catch_warnings():
        # Ties may defeat the exact one; SciPy then takes the asymptotic one, and warns.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        result = scipy.stats.ks_2samp(x, y, method=method)
    return Difference(float(result.statistic), float(result.pvalue), x.size, y.size)


def sigma_excess(score: AnyFloats, reference: AnyFloats) -> DoubleArray:
    """How many sigma a score lies above a reference sample's scores (figure 6).

    p = (1 + number of reference scores >= score) / (1 + number of reference scores)
    sigma = the width for which a Gaussian has the fraction p outside +-sigma: 5% is 1.96, 0.27% is 3

    The added ones keep sigma finite where no reference score is as high.

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
    known = reference[np.isfinite(reference)].astype(np.float64)
    exact = score.astype(np.float64)
    sigma: DoubleArray = scipy.stats.norm.isf((1.0 + _n_at_least(exact, known)) / (1.0 + known.size) / 2.0)
    return np.where(np.isnan(exact), np.nan, np.abs(sigma))


@dataclass(frozen=True)
class BinnedRates:
    """Selection rate in bins.

    Attributes
    ----------
    n_objects : ndarray of int64, shape (bin,)
    n_selected : ndarray of int64, shape (bin, band)
    rate, low, high : ndarray of float64, shape (bin, band)
        ``n_selected / n_objects`` and its 68.3% interval; NaN in an empty bin.
    """

    n_objects: IntArray
    n_selected: IntArray
    rate: DoubleArray
    low: DoubleArray
    high: DoubleArray


def binned_rates(value: AnyFloats, selected: BoolArray, edges: DoubleArray) -> BinnedRates:
    """Selection rate N_sel / N_all in bins of a value such as the redshift (figure 10).

    Parameters
    ----------
    value : ndarray of float, shape (n,)
        Values that are not finite or outside of the edges are left out.
    selected : ndarray of bool, shape (n, band)
    edges : ndarray of float64, shape (bin + 1,)
        A bin holds its lower edge; the last one also holds its upper edge.
    """
    _check(value, selected)
    known = np.isfinite(value)
    n_objects = np.histogram(value[known], edges)[0].astype(np.int64)
    columns = [np.histogram(value[known & flag], edges)[0] for flag in selected.T]
    n_selected = np.stack(columns, axis=-1).astype(np.int64)
    with np.errstate(invalid="ignore"):
        rate = n_selected / n_objects[:, None]
    low, high = wilson_interval(n_selected, np.broadcast_to(n_objects[:, None], n_selected.shape))
    return BinnedRates(n_objects, n_selected, rate, low, high)


def wilson_interval(n_selected: IntArray, n_objects: IntArray) -> tuple[DoubleArray, DoubleArray]:
    """Wilson's 68.3% interval of a fraction, which also holds for few objects, and where none or all are selected.

    Returns
    -------
    low, high : ndarray of float64, shape of the arguments
        NaN where there are no objects.
    """
    known = n_objects > 0
    low, high = np.full(n_objects.shape, np.nan), np.full(n_objects.shape, np.nan)
    if known.any():
        low[known], high[known] = binom_conf_interval(n_selected[known], n_objects[known], ONE_SIGMA, interval="wilson")
    return low, high


@dataclass(frozen=True)
class CumulativeRates:
    """Distributions of an equivalent width counted from the top, at each value that occurs.

    Attributes
    ----------
    value : ndarray of float64, shape (m,)
        Distinct values, descending.
    n_selected, n_unselected : ndarray of int64, shape (m,)
        Objects with at least this value.
    selected, unselected : ndarray of float64, shape (m,)
        The same as fractions of all selected and all unselected; NaN where there are none.
    rate : ndarray of float64, shape (m,)
        Selected among those with at least this value.
    """

    value: DoubleArray
    n_selected: IntArray
    n_unselected: IntArray
    selected: DoubleArray
    unselected: DoubleArray
    rate: DoubleArray


def cumulative_rates(value: AnyFloats, selected: BoolArray) -> CumulativeRates:
    """Cumulative distributions of selected and unselected, and the cumulative selection rate (figure 9).

    Parameters
    ----------
    value : ndarray of float, shape (n,)
        Such as EW_band, Angstrom. Values that are not finite are left out.
    selected : ndarray of bool, shape (n,)
    """
    _check(value, selected[:, None])
    known = np.isfinite(value)
    exact, flag = value[known].astype(np.float64), selected[known]
    steps = np.unique(exact)[::-1]
    n_selected, n_unselected = (_n_at_least(steps, exact[part]) for part in (flag, ~flag))
    with np.errstate(invalid="ignore"):
        return CumulativeRates(
            value=steps,
            n_selected=n_selected,
            n_unselected=n_unselected,
            selected=n_selected / np.float64(flag.sum()),
            unselected=n_unselected / np.float64((~flag).sum()),
            rate=n_selected / (n_selected + n_unselected),
        )


def _n_at_least(steps: DoubleArray, value: DoubleArray) -> IntArray:
    ordered = np.sort(value)
    return (ordered.size - np.searchsorted(ordered, steps, side="left")).astype(np.int64)


def rate_above(value: AnyFloats, selected: BoolArray, limit: float) -> tuple[int, int]:
    """Numbers of selected and of all objects with a value above a limit (section 4.1: EW_band > 100 Angstrom)."""
    _check(value, selected[:, None])
    high = value > limit
    return int((high & selected).sum()), int(high.sum())


@dataclass(frozen=True)
class ColourCutQuality:
    """How well a colour cut picks a redshift range, judged on objects with a spectroscopic redshift (appendix 3).

    Attributes
    ----------
    n_objects, n_inside, n_kept, n_inside_kept : int
        All objects with a redshift; those within the range; those that pass the cut; those that are both.
    """

    n_objects: int
    n_inside: int
    n_kept: int
    n_inside_kept: int

    @property
    def completeness(self) -> float:
        """Kept fraction of those within the range; NaN where there are none."""
        return _fraction(self.n_inside_kept, self.n_inside)

    @property
    def removal_rate(self) -> float:
        """Removed fraction of those outside of the range; NaN where there are none."""
        n_outside = self.n_objects - self.n_inside
        return _fraction(n_outside - (self.n_kept - self.n_inside_kept), n_outside)

    @property
    def outlier_fraction(self) -> float:
        """Fraction of the kept ones that lie outside of the range; NaN where none is kept."""
        return _fraction(self.n_kept - self.n_inside_kept, self.n_kept)


def colour_cut_quality(redshift: AnyFloats, kept: BoolArray, limits: tuple[float, float]) -> ColourCutQuality:
    """Completeness, removal rate and outlier fraction of a cut (appendix 3: 96.5%, 88.6% and 20.9%).

    Parameters
    ----------
    redshift : ndarray of float, shape (n,)
        Objects whose redshift is not finite are left out.
    kept : ndarray of bool, shape (n,)
        Who passes the cut.
    limits : tuple of two floats
        The range, both ends exclusive.
    """
    _check(redshift, kept[:, None])
    known = np.isfinite(redshift)
    inside = known & (redshift > limits[0]) & (redshift < limits[1])
    counts = (known, inside, known & kept, inside & kept)
    return ColourCutQuality(*(int(np.count_nonzero(flag)) for flag in counts))


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _check(value: AnyFloats, selected: BoolArray) -> None:
    if value.ndim != 1 or selected.ndim != 2 or selected.shape[0] != value.shape[0]:
        raise SwimmyError(
            f"values have shape {value.shape} and selection flags {selected.shape}; need one row for every object."
        )
