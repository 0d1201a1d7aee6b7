"""Why an object is a candidate or none, in words (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swimmy_scale.method.candidates import band_label
from swimmy_scale.method.sample import FailedCut
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray

NO_CANDIDATE = "no candidate"
CANDIDATE = "candidate"


def of_no_row() -> str:
    """What is said of an object_id that the run does not have."""
    return f"{NO_CANDIDATE}: not in the catalogue of the run"


def of_quarantined(code: str, reasons: Sequence[str]) -> str:
    """What is said of an object in quarantine.

    Parameters
    ----------
    code : str
        As ``quarantine.csv`` shows it.
    reasons : sequence of str
        All that are known; there may be none.
    """
    return f"{NO_CANDIDATE}: in quarantine, {code}" + (f": {'; '.join(reasons)}" if reasons else "")


def of_cut(failed: Sequence[FailedCut] | None) -> str:
    """What is said of an object that is not in the sample.

    Parameters
    ----------
    failed : sequence of FailedCut or None
        The cuts that it fails; None where they cannot be told.
    """
    if failed is None:
        return f"{NO_CANDIDATE}: not in the sample; which cut took it out cannot be told without the cutouts"
    if not failed:
        return f"{NO_CANDIDATE}: not in the sample, by cuts other than the job's"
    rules = [f"{cut.rule} fails" + (f" ({cut.value})" if cut.value else "") for cut in failed]
    return f"{NO_CANDIDATE}: not in the sample: {'; '.join(rules)}"


def of_scores(
    score: FloatArray,
    residual: FloatArray,
    threshold: DoubleArray,
    candidate: BoolArray,
    levels: Sequence[str],
    bands: Sequence[str],
) -> str:
    """What is said of one object of the sample.

    Parameters
    ----------
    score, residual : ndarray of float32, shape (band,)
        Of the selecting bands. NaN is above no threshold.
    threshold : ndarray of float64, shape (level, band)
    candidate : ndarray of bool, shape (level, band)
    levels : sequence of str
        From low to high significance.
    bands : sequence of str
        The selecting bands.

    Returns
    -------
    str
        "candidate at 2sigma in g&r, at 3sigma in g"; or why it is none at the first level, with the numbers, for
        example "no candidate: above the threshold of 2sigma in g (1.5, threshold 1.2), but its residual there is not
        positive (-0.3); not above it in r (0.2, threshold 0.9)".
    """
    if candidate.any():
        labels = zip(levels, band_label(candidate, bands).tolist(), strict=True)
        return f"{CANDIDATE} " + ", ".join(f"at {level} in {label}" for level, label in labels if label)
    # Compared as selection does: in float64, because float32 would round the threshold.
    is_above = score.astype(float) > threshold[0]
    above = [
        f"{band} ({_beside(score[k], threshold[0, k])}), but its residual there is not positive ({residual[k]:.3g})"
        for k, band in enumerate(bands)
        if is_above[k]
    ]
    below = [f"{band} ({_beside(score[k], threshold[0, k])})" for k, band in enumerate(bands) if not is_above[k]]
    if not above:
        return f"{NO_CANDIDATE}: not above the threshold of {levels[0]} in any band: {', '.join(below)}"
    words = f"{NO_CANDIDATE}: above the threshold of {levels[0]} in {'; in '.join(above)}"
    return words + (f"; not above it in {', '.join(below)}" if below else "")


def _beside(score: np.float32, threshold: np.float64) -> str:
    """A score and its threshold, in as many digits as tell them apart."""
    one, other = float(score), float(threshold)
    for digits in range(4, 18):
        shown = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if shown[0] != shown[1] or one == other:
            break
    return f"{shown[0]}, threshold {shown[1]}"
