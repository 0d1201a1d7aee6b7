"""One score from the scores of several models, written block by block beside them in ``scores.zarr``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.ensemble import Rule, mean, mean_rank, median, ordered
from swimmy_scale.method.survey import FloatArray
from swimmy_scale.storage.scores import COMBINED, RANKED_OBJECTS, Scores, model_block_objects, write_combined

# The long_name of combined_score and of combined_residual.
LONG_NAMES: dict[Rule, tuple[str, str]] = {
    "mean": ("mean of the anomaly score over {} models", "mean of the residual over {} models"),
    "median": ("median of the anomaly score over {} models", "median of the residual over {} models"),
    "rank": (
        "mean over {} models of the fraction of the sample whose anomaly score is at most the object's",
        "mean of the residual over {} models",
    ),
}


def describe(rule: Rule, n_models: int) -> dict[str, str]:
    """What the combined score and residual of ``n_models`` are, by the names of their variables."""
    return {name: text.format(n_models) for name, text in zip(COMBINED, LONG_NAMES[rule], strict=True)}


def check_combine(rule: Rule, n_models: int, n_objects: int, path: Path) -> None:
    """Check that the memory suffices to combine the scores of the store ``path`` by a rule."""
    limit = RANKED_OBJECTS // n_models
    if rule == "rank" and n_models > 1 and n_objects > limit:
        raise SwimmyError(
            f"{path}: ranks of {n_objects:,} objects and {n_models} models need all scores of the sample in memory, "
            f"and {limit:,} objects is the limit for {n_models} models. Set select.combine to mean or median."
        )


def combine_scores(path: Path, rule: Rule, add: Callable[[int], None] = lambda n_rows: None) -> list[Path]:
    """Add ``combined_score`` and ``combined_residual`` to a ``scores.zarr`` of several models.

    ``add`` is told of rows that are done: all of them once, for ranks twice.

    Returns
    -------
    list of Path
        The files written; none for a single model.
    """
    scores = Scores(path, add)
    if scores.n_models == 1:
        if rule != "mean":
            raise SwimmyError(
                f"{path}: holds the scores of one model, and select.combine {rule} is for several. Leave it out."
            )
        return []
    check_combine(rule, scores.n_models, scores.n_objects, path)
    attrs = {"combine": rule, "n_models": scores.n_models}
    return write_combined(path, describe(rule, scores.n_models), _combined(scores, rule), attrs)


def _combined(scores: Scores, rule: Rule) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    sample = ordered(_sample(scores)) if rule == "rank" else None
    rows = model_block_objects(scores.n_models)
    for lo, (score, residual) in scores.blocks("score", "residual", block_objects=rows):
        if sample is not None:
            yield lo, mean_rank(score, sample), mean(residual)
        elif rule == "median":
            yield lo, median(score), median(residual)
        else:
            yield lo, mean(score), mean(residual)


def _sample(scores: Scores) -> FloatArray:
    """The scores of the sample by every model, float32 (n_sample, model, band)."""
    in_sample = scores.read("in_sample")
    sample = np.empty((int(in_sample.sum()), scores.n_models, scores.survey.n_bands), np.float32)
    filled, rows = 0, model_block_objects(scores.n_models)
    for _, (score, chosen) in scores.blocks("score", "in_sample", block_objects=rows):
        part = score[chosen]
        sample[filled : filled + len(part)] = part
        filled += len(part)
    return sample
