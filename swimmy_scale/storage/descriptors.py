"""The features of a sample, by which its objects are compared: read block by block, or all at 60 bytes an object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from swimmy_scale.method.descriptor import feature_names, features, standardised
from swimmy_scale.method.survey import BoolArray, FloatArray
from swimmy_scale.storage.selection import Selection


@dataclass(frozen=True)
class SampleFeatures:
    """What the objects of a run look like.

    Attributes
    ----------
    values : ndarray of float32, shape (n_objects, k)
        Standardised by the sample (see `method.descriptor.standardised`); NaN for quarantined objects.
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
    blocks = list(feature_blocks(selection))
    values, inside, is_candidate = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in FeatureBlock._fields[1:]
    )
    return SampleFeatures(standardised(values, values[inside]), inside, is_candidate, selection.scores.has_descriptors)
