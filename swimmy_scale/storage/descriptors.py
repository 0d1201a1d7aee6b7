"""The features of a sample, by which its objects are compared: read block by block, or all at 60 bytes an object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from swimmy_scale.method.descriptor import feature_names, features, standardise
from swimmy_scale.method.survey import BoolArray, FloatArray
from swimmy_scale.storage.selection import Selection


@dataclass(frozen=True)
class SampleFeatures:
    """What the objects of a run look like.

    Attributes
    ----------
    values : ndarray of float32, shape (n_objects, k)
        Standardised by the sample (see `method.descriptor.standardise`); NaN for quarantined objects.
    in_sample, is_candidate : ndarray of bool, shape (n_objects,)
    has_descriptors : bool
        Whether they are made of descriptors, or of scores and residuals alone.
    """

    values: FloatArray
    in_sample: BoolArray
    is_candidate: BoolArray
    has_descriptors: bool


class FeatureBlock(NamedTuple):
    """Features of some rows as they are, float32 (m, k), and who is in the sample and a candidate; the first row."""

    lo: int
    values: FloatArray
    in_sample: BoolArray
    is_candidate: BoolArray


def feature_blocks(selection: Selection) -> Iterator[FeatureBlock]:
    """Features of all objects of a run, block by block, in the order of its rows."""
    names = [selection.score_name, selection.residual_name, "in_sample", "candidate"]
    names += ["descriptor"] if selection.scores.has_descriptors else []
    for lo, (score, residual, inside, candidate, *described) in selection.blocks(*names):
        values = features(score, residual, described[0] if described else None)
        yield FeatureBlock(lo, values, inside, candidate.any(axis=(1, 2)))


def names_of_features(selection: Selection) -> tuple[str, ...]:
    """Their names, in order."""
    if selection.scores.has_descriptors:
        return feature_names(selection.survey)
    return tuple(f"{kind}_{band}" for kind in ("log_score", "residual") for band in selection.survey.bands)


def read_features(selection: Selection) -> SampleFeatures:
    """Features of all objects of a run, in the order of its rows."""
    n = selection.n_objects
    values = np.empty((n, len(names_of_features(selection))), np.float32)
    inside, is_candidate = np.empty(n, np.bool_), np.empty(n, np.bool_)
    for block in feature_blocks(selection):
        rows = slice(block.lo, block.lo + len(block.values))
        values[rows], inside[rows], is_candidate[rows] = block.values, block.in_sample, block.is_candidate
    standardise(values, inside)
    return SampleFeatures(values, inside, is_candidate, selection.scores.has_descriptors)
