"""The width of the PSF: measured on its image, and what is wrong with that of an object."""

from __future__ import annotations

import math

import numpy as np

from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.survey import AnyArray, FloatArray, Survey

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
_MOST_ROUNDS, _CLOSE = 200, 1e-8


def fwhm_of_kernel_px(kernel: AnyArray) -> float:
    """FWHM of the Gaussian with the adaptive second moments of a PSF's image.

    The moments are weighted with the elliptical Gaussian that has the same moments (Bernstein & Jarvis 2002, AJ 123,
    583), as those are that HSC's and Rubin's catalogues call SdssShape; the area of the ellipse counts.

    Parameters
    ----------
    kernel : ndarray of float, axes (y, x)
        Any normalisation.

    Returns
    -------
    float
        In pixels; NaN where there is no such Gaussian, or half of the image is not as wide.
    """
    image = np.asarray(kernel, np.float64)
    if image.ndim != 2 or not np.isfinite(image).all() or image.sum() <= 0:
        return math.nan
    y, x = np.indices(image.shape).astype(np.float64)
    peak = np.unravel_index(int(np.argmax(image)), image.shape)
    middle, moments = np.array(peak, np.float64), 4.0 * np.eye(2)
    for _ in range(_MOST_ROUNDS):
        place = np.stack([y - middle[0], x - middle[1]])
        weight = image * np.exp(-0.5 * np.einsum("iyx,ij,jyx->yx", place, np.linalg.inv(moments), place))
        total = weight.sum()
        step = np.einsum("iyx,yx->i", place, weight) / total
        found = 2.0 * np.einsum("iyx,jyx,yx->ij", place, place, weight) / total
        is_ellipse = np.isfinite(found).all() and np.linalg.det(found) > 0 and np.trace(found) > 0
        if total <= 0 or not is_ellipse or max(found.max(), 1.0) > max(image.shape) ** 2:
            return math.nan
        middle = middle + 2.0 * step
        change = np.abs(found - moments).max() + np.abs(step).max()
        moments = found
        if change < _CLOSE:
            break
    fwhm = float(FWHM_PER_SIGMA * np.linalg.det(moments) ** 0.25)
    # Wider than half of its image, it is cut off, or no PSF.
    return fwhm if fwhm <= min(image.shape) / 2 else math.nan


def fwhm_faults(fwhm: FloatArray, survey: Survey, source: str, may_be_missing: bool = False) -> list[Fault]:
    """Faults of a FWHM that is unknown or above the target.

    Parameters
    ----------
    fwhm : ndarray of float32, shape (n, n_bands), arcsec
        NaN where unknown.
    may_be_missing : bool
        Whether an unknown one is no fault.
    """
    # Compared in the precision that is stored: a FWHM of exactly 0.8 is not above 0.8.
    limit = np.float32(survey.target_fwhm_arcsec)
    missing = np.isnan(fwhm) & (not may_be_missing)
    faults = []
    for code, bad in ((Code.FWHM_MISSING, missing), (Code.FWHM_ABOVE_TARGET, fwhm > limit)):
        rows = np.flatnonzero(bad.any(axis=1))
        for row, is_bad, values in zip(rows.tolist(), bad[rows].tolist(), fwhm[rows].tolist(), strict=True):
            found = [(band, value) for band, wrong, value in zip(survey.bands, is_bad, values, strict=True) if wrong]
            bands = ", ".join(band for band, _ in found)
            if code is Code.FWHM_MISSING:
                reason = f"no PSF FWHM in {bands}: no column, patch or PSF moments give it"
            else:
                measured = ", ".join(f"{value:.7g} arcsec in {band}" for band, value in found)
                reason = f"PSF FWHM is {measured}; the limit is {survey.target_fwhm_arcsec:g} arcsec"
            faults.append(Fault(row, code, bands if len(found) == 1 else "", source, reason))
    return faults
