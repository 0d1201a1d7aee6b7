"""Why a run's numbers differ from the paper's, as far as it shows: how well it reconstructs, and which galaxies."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from swimmy_scale.characterise.run_data import RunData
from swimmy_scale.statistics import spearman
from swimmy_scale.survey import BoolArray

# Table 3: the selected objects that the paper prints, and their scores in the band that selects them.
TABLE_3_SCORES = {"g": "0.032, 0.051, 0.058", "r": "none", "i": "0.0071, 0.0079"}
# A training galaxy in a hundred may be fainter than the end of the training class: a wrong magnitude, say.
TRAINING_PERCENTILE = 99.0


def reconstruction_rows(run: RunData) -> list[tuple[str, ...]]:
    """Scores of the sample, and how far a pixel in the centre is from its reconstruction.

    A score is a sum over the aperture's pixels of a relative deviation squared (equation 6), so
    sqrt(score / pixels) is the root mean square deviation.

    Returns
    -------
    list of (band, median score, its deviation, threshold, its deviation, the paper's printed scores)
    """
    rows: list[tuple[str, ...]] = []
    n_pixels = int(run.survey.aperture().sum())
    for k, band in enumerate(run.survey.selecting_bands):
        median = float(np.median(run.score[run.in_sample, k].astype(np.float64)))
        threshold = float(run.threshold[0, k])
        texts = [f"{score:.2g}" for score in (median, threshold)]
        deviations = [f"{100.0 * math.sqrt(score / n_pixels):.1f}%" for score in (median, threshold)]
        printed = TABLE_3_SCORES.get(band, "none")
        rows.append((band, texts[0], deviations[0], texts[1], deviations[1], printed))
    return rows


def training_end(run: RunData) -> float | None:
    """Magnitude, in the survey's magnitude band, at which the training class ends; None without one."""
    mag = run.reference_mag[run.in_sample & (run.sample_class == "training")].astype(np.float64)
    mag = mag[np.isfinite(mag)]
    return float(np.percentile(mag, TRAINING_PERCENTILE)) if mag.size else None


def magnitude_rows(run: RunData) -> list[tuple[str, ...]]:
    """Who is selected, by magnitude: steps of 1 mag to both sides of where the training class ends.

    Returns
    -------
    list of (magnitudes, objects, percent selected in each selecting band and in any)
        Steps of fewer than 10 objects are left out.
    """
    end = training_end(run)
    if end is None:
        return []
    band = run.survey.magnitude_band
    mag = run.reference_mag.astype(np.float64)
    rows: list[tuple[str, ...]] = []
    edges = [-np.inf, *(end + step for step in (-2.0, -1.0, 0.0, 1.0)), np.inf]
    for low, high in itertools.pairwise(edges):
        inside = run.in_sample & (mag > low) & (mag <= high)
        if inside.sum() < 10:
            continue
        flags = run.selected[inside]
        shares = [*flags.mean(axis=0), flags.any(axis=1).mean()]
        words = f"{band} > {low:.1f}" if not np.isfinite(high) else f"{band} up to {high:.1f}"
        if np.isfinite(low) and np.isfinite(high):
            words = f"{band} = {low:.1f} to {high:.1f}"
        rows.append((words, f"{int(inside.sum()):,}", *(f"{100.0 * share:.1f}%" for share in shares)))
    return rows


def correlation_rows(run: RunData) -> list[tuple[str, ...]]:
    """Spearman's rank of score and magnitude of all, and on each side of where the training class ends.

    Returns
    -------
    list of (objects, one correlation a selecting band)
    """
    end = training_end(run)
    if end is None:
        return []
    mag = run.reference_mag.astype(np.float64)
    parts = (
        ("all", run.in_sample),
        ("as bright as the training class", run.in_sample & (mag <= end)),
        ("fainter", run.in_sample & (mag > end)),
    )
    return [(words, *(_rank(run, k, inside) for k in range(len(run.selecting)))) for words, inside in parts]


def _rank(run: RunData, k: int, inside: BoolArray) -> str:
    own: npt.NDArray[np.float64] = run.mag[:, run.selecting[k]].astype(np.float64)
    found = spearman(run.score[inside, k], own[inside])
    return "-" if found.rho is None else f"{found.rho:.3f}"
