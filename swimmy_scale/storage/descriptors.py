"""The features of a whole sample, by which its objects are compared: read at once, 60 bytes an object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swimmy_scale.method.descriptor import features, standardised
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


def read_features(selection: Selection) -> SampleFeatures:
    """Features of all objects of a run, in the order of its rows."""
    scores = selection.scores
    names = [selection.score_name, selection.residual_name, "in_sample", "candidate"]
    names += ["descriptor"] if scores.has_descriptors else []
    parts, in_sample, is_candidate = [], [], []
    for _, (score, residual, inside, candidate, *described) in selection.blocks(*names):
        parts.append(features(score, residual, described[0] if described else None))
        in_sample.append(inside)
        is_candidate.append(candidate.any(axis=(1, 2)))
    values, inside = np.concatenate(parts), np.concatenate(in_sample)
    scaled = standardised(values, values[inside])
    return SampleFeatures(scaled, inside, np.concatenate(is_candidate), scores.has_descriptors)
