"""One score from the scores of several models, block by block, for the selection that cuts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.ensemble import Rule, mean, mean_rank, median, ordered
from swimmy_scale.method.survey import FloatArray
from swimmy_scale.storage.selection import COMBINED, RANKED_OBJECTS, Selection, model_block_objects

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


def combined(selection: Selection, rule: Rule) -> Iterator[tuple[str, Iterator[tuple[int, FloatArray]]]]:
    """``combined_score`` and ``combined_residual`` of a selection whose sample is known: name, and blocks of rows.

    Nothing for a single model. All rows of the scores are read once for each of the two, for ranks once more.
    """
    if selection.n_models == 1:
        return
    rows = model_block_objects(selection.n_models)
    score, residual = COMBINED
    yield score, _scores(selection, rule, rows)
    blocks = selection.blocks("residual", block_objects=rows)
    yield residual, ((lo, median(values) if rule == "median" else mean(values)) for lo, (values,) in blocks)


def _scores(selection: Selection, rule: Rule, rows: int) -> Iterator[tuple[int, FloatArray]]:
    sample = ordered(_sample(selection)) if rule == "rank" else None
    for lo, (score,) in selection.blocks("score", block_objects=rows):
        if sample is not None:
            yield lo, mean_rank(score, sample)
        else:
            yield lo, median(score) if rule == "median" else mean(score)


def _sample(selection: Selection) -> FloatArray:
    """The scores of the sample by every model, float32 (n_sample, model, band)."""
    in_sample = selection.read("in_sample")
    sample = np.empty((int(in_sample.sum()), selection.n_models, selection.survey.n_bands), np.float32)
    filled, rows = 0, model_block_objects(selection.n_models)
    for _, (score, chosen) in selection.blocks("score", "in_sample", block_objects=rows):
        part = score[chosen]
        sample[filled : filled + len(part)] = part
        filled += len(part)
    return sample
