"""Weight sets of a training campaign: how much of the known classes each selects, and which is the best (appendix 1).

A weight set is the weights of one training after one epoch. It is judged by

    r_sel(class) = #{objects of the class selected in at least one band} / #{objects of the class}

at the thresholds that its own scores of the sample give. The best one has the highest sum of r_sel over the known
classes. Sums are compared as exact fractions, so that rounding breaks no tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import ANY_BAND, candidates
from swimmy_scale.method.network import Network
from swimmy_scale.method.survey import BoolArray, FloatArray
from swimmy_scale.method.thresholds import thresholds


@dataclass(frozen=True)
class WeightSet:
    """What training tells of one weight set.

    Attributes
    ----------
    run : int
        Index of the training.
    file : str
        Relative to the models' folder.
    sha256 : str
        Digest of the file.
    loss, val_loss : float
        Losses of the epoch.
    """

    run: int
    epoch: int
    file: str
    sha256: str
    loss: float
    val_loss: float
    network: Network


@dataclass(frozen=True)
class Judgement:
    """What one weight set selects.

    Attributes
    ----------
    thresholds : mapping of str to float
        By selecting band.
    n_threshold_objects : int
        Objects of the sample that set the thresholds.
    n_selected_any : int
        Those of them that are selected in at least one band.
    n_objects : mapping of str to int
        Objects of each known class in the sample.
    n_selected : mapping of str to mapping of str to int
        Those of them that are selected in each band and in at least one (``any``): by class, then band.
    """

    thresholds: Mapping[str, float]
    n_threshold_objects: int
    n_selected_any: int
    n_objects: Mapping[str, int]
    n_selected: Mapping[str, Mapping[str, int]]

    def rate(self, known_class: str) -> float:
        """r_sel of a class; NaN for an empty one."""
        n_objects = self.n_objects[known_class]
        return self.n_selected[known_class][ANY_BAND] / n_objects if n_objects else float("nan")

    def rate_sum(self) -> Fraction | None:
        """Exact sum of r_sel over the classes that have objects, or None."""
        filled = [(name, number) for name, number in self.n_objects.items() if number]
        if not filled:
            return None
        return sum((Fraction(self.n_selected[name][ANY_BAND], number) for name, number in filled), Fraction(0))


def judge(
    score: FloatArray,
    residual: FloatArray,
    sets_thresholds: BoolArray,
    members: Mapping[str, BoolArray],
    bands: Sequence[str],
    fraction: float,
) -> Judgement:
    """What one weight set selects of the known classes at the top ``fraction`` of the sample (section 3.2, appendix 1).

    An object is selected in a band when its score lies above the threshold and its residual is positive.

    Parameters
    ----------
    score, residual : ndarray of float32, shape (n, band)
        Of objects of the sample, in the selecting bands. An object with a NaN counts nowhere.
    sets_thresholds : ndarray of bool, shape (n,)
        Objects whose scores set the thresholds.
    members : mapping of str to ndarray of bool, shape (n,)
        Objects of each known class.
    fraction : float
        Within (0, 1).

    Raises
    ------
    SwimmyError
        When no object sets the thresholds, or a threshold is not finite.
    """
    shape, length = (len(score), len(bands)), (len(score),)
    masks = (sets_thresholds, *members.values())
    if score.shape != shape or residual.shape != shape or any(mask.shape != length for mask in masks):
        raise SwimmyError(
            f"scores {score.shape}, residuals {residual.shape} and masks {[mask.shape for mask in masks]} do not fit "
            f"together: need (n_objects, {len(bands)}) twice, and (n_objects,)."
        )
    usable = ~(np.isnan(score) | np.isnan(residual)).any(axis=1)
    reference = usable & sets_thresholds
    threshold = thresholds(score[reference], [fraction])
    flags = candidates(score, residual, threshold, usable, range(len(bands)))[:, 0]
    selected = {**dict(zip(bands, flags.T, strict=True)), ANY_BAND: flags.any(axis=1)}
    return Judgement(
        thresholds=dict(zip(bands, threshold[0].tolist(), strict=True)),
        n_threshold_objects=int(reference.sum()),
        n_selected_any=int((selected[ANY_BAND] & reference).sum()),
        n_objects={name: int((mask & usable).sum()) for name, mask in members.items()},
        n_selected={
            name: {band: int((mask & flag).sum()) for band, flag in selected.items()} for name, mask in members.items()
        },
    )


def by_validation_loss(weight_sets: Sequence[WeightSet]) -> list[int]:
    """Positions of the weight sets, best first: by validation loss, then training, then epoch."""
    return sorted(range(len(weight_sets)), key=lambda k: _losses(weight_sets[k]))


def by_known_classes(weight_sets: Sequence[WeightSet], judgements: Sequence[Judgement]) -> list[int]:
    """Positions of the weight sets, best first: the highest sum of r_sel over the known classes.

    Equal sums are ordered as `by_validation_loss` does. A class without objects does not count.

    Raises
    ------
    SwimmyError
        When no known class has a scored object in the sample.
    """
    sums = [judgement.rate_sum() for judgement in judgements]
    if all(total is None for total in sums):
        names = ", ".join(dict.fromkeys(name for judgement in judgements for name in judgement.n_objects))
        raise SwimmyError(
            f"no object of the known classes {names} has a score, so they cannot choose among {len(weight_sets)} "
            "weight sets. Set train.known_classes to classes that the sample has."
        )
    return sorted(range(len(weight_sets)), key=lambda k: (-(sums[k] or Fraction(0)), *_losses(weight_sets[k])))


def first_of_one_network(
    weight_sets: Sequence[WeightSet], order: Sequence[int], n_models: int, one_a_run: bool = False
) -> list[int]:
    """The first ``n_models`` positions of ``order`` that have the network of its first one: these score together.

    With ``one_a_run`` only the first of each training is among them.
    """
    network = weight_sets[order[0]].network
    fitting = [k for k in order if weight_sets[k].network == network]
    if one_a_run:
        first_of_run = {weight_sets[k].run: k for k in reversed(fitting)}
        fitting = [k for k in fitting if first_of_run[weight_sets[k].run] == k]
    return fitting[:n_models]


def too_few(n_models: int, n_runs: int, n_kept_epochs: int, one_a_run: bool = False, is_grid: bool = False) -> str:
    """Fault and remedy where a campaign keeps fewer than ``n_models`` weight sets of one network; else an empty string.

    Each of the ``n_runs`` trainings of a network keeps ``n_kept_epochs``. With ``one_a_run`` those that score must come
    from different trainings; ``is_grid`` says that several networks are trained.
    """
    if one_a_run and n_models > n_runs:
        return (
            f"score.n_models {n_models} with score.one_a_run is more than train.n_runs {n_runs}. "
            "Raise train.n_runs, or lower score.n_models"
        )
    if n_models > n_runs * n_kept_epochs:
        return (
            f"score.n_models {n_models} is more than the {n_runs * n_kept_epochs} weight sets that "
            f"train keeps{' of one network' if is_grid else ''}. Raise train.n_runs, or lower "
            "train.schedule.keep_from_epoch or score.n_models"
        )
    return ""


def _losses(weight_set: WeightSet) -> tuple[float, int, int]:
    return weight_set.val_loss, weight_set.run, weight_set.epoch
