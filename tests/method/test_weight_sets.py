"""Weight sets judged by known classes, held to counts by plain loops; their order, and its ties."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.method.weight_sets import (
    Judgement,
    WeightSet,
    by_known_classes,
    by_validation_loss,
    first_of_one_network,
    judge,
    too_few,
)

BANDS = ("g", "r", "i")
SMALL, LARGE = Network(latent_filters=4), Network(latent_filters=8)


def weight_set(run: int, epoch: int, val_loss: float, network: Network = SMALL) -> WeightSet:
    return WeightSet(run, epoch, f"run-{run:02d}/epoch-{epoch:02d}.keras", "", 0.1, val_loss, network)


def judgement(**counts: tuple[int, int]) -> Judgement:
    """From the numbers of selected and of all objects of each class."""
    return Judgement(
        thresholds={},
        n_threshold_objects=100,
        n_selected_any=5,
        n_objects={name: n_objects for name, (_, n_objects) in counts.items()},
        n_selected={name: {"any": n_selected} for name, (n_selected, _) in counts.items()},
    )


# ---------------------------------------------------------------- what is selected


@given(seed=st.integers(0, 2**32 - 1), fraction=st.sampled_from([0.05, 0.3, 0.9]), share=st.sampled_from([0.4, 1.0]))
def test_counts_are_those_of_numpy(seed: int, fraction: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    # Few values, so that some scores equal each other and the threshold.
    score = rng.integers(0, 6, (40, 3)).astype(np.float32)
    residual = rng.integers(-1, 2, (40, 3)).astype(np.float32)
    score[rng.uniform(size=40) < 0.1] = np.nan
    kind = rng.choice(["quasar", "xelg", "other"], 40, p=[0.1, 0.2, 0.7])
    sets_thresholds = rng.uniform(size=40) < share
    sets_thresholds[0], score[0] = True, 1.0
    members = {name: kind == name for name in ("quasar", "xelg")}
    found = judge(score, residual, sets_thresholds, members, BANDS, fraction)

    usable = [k for k in range(40) if not math.isnan(score[k, 0])]
    reference = [k for k in usable if sets_thresholds[k]]
    cut = [np.quantile([float(score[k, b]) for k in reference], 1 - fraction) for b in range(3)]
    assert list(found.thresholds.values()) == cut
    selected = {k: [score[k, b] > cut[b] and residual[k, b] > 0 for b in range(3)] for k in usable}
    for name in members:
        rows = [k for k in usable if kind[k] == name]
        expected = {band: sum(selected[k][b] for k in rows) for b, band in enumerate(BANDS)}
        assert found.n_selected[name] == {**expected, "any": sum(any(selected[k]) for k in rows)}
        assert found.n_objects[name] == len(rows)
        rate = found.rate(name)
        assert rate == found.n_selected[name]["any"] / len(rows) if rows else math.isnan(rate)
    assert found.n_threshold_objects == len(reference)
    assert found.n_selected_any == sum(any(selected[k]) for k in reference)


def test_objects_of_known_classes_count_even_where_they_set_no_threshold() -> None:
    score = np.array([[1.0], [2.0], [3.0], [9.0]], np.float32)
    sets_thresholds = np.array([True, True, True, False])
    found = judge(score, np.ones_like(score), sets_thresholds, {"quasar": ~sets_thresholds}, ("g",), 0.5)
    assert found.thresholds == {"g": 2.0}
    assert (found.n_threshold_objects, found.n_selected_any) == (3, 1)
    assert found.n_selected == {"quasar": {"g": 1, "any": 1}}


def test_an_empty_sample_is_refused() -> None:
    score = np.zeros((3, 1), np.float32)
    with pytest.raises(SwimmyError, match="sample"):
        judge(score, score, np.zeros(3, np.bool_), {}, ("g",), 0.05)


@pytest.mark.parametrize("shape", [(3, 2), (4, 1)])
def test_shapes_that_do_not_fit(shape: tuple[int, int]) -> None:
    score = np.zeros((3, 1), np.float32)
    with pytest.raises(SwimmyError, match=re.escape("do not fit together: need (n_objects, 1) twice")):
        judge(score, np.zeros(shape, np.float32), np.ones(3, np.bool_), {}, ("g",), 0.05)


# ---------------------------------------------------------------- which is the best


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        # training, epoch, validation loss, selected quasars of 4, selected XELGs of 8
        ([(0, 1, 0.5, 1, 1), (0, 2, 0.6, 2, 1), (1, 1, 0.1, 0, 2)], [1, 0, 2]),
        ([(0, 1, 0.5, 1, 0), (0, 2, 0.4, 0, 2), (1, 1, 0.3, 1, 0)], [2, 1, 0]),  # equal sums: the lower loss
        (
            [(1, 1, 0.5, 1, 0), (0, 2, 0.5, 1, 0), (0, 1, 0.5, 1, 0)],
            [2, 1, 0],
        ),  # and equal losses: training, then epoch
    ],
)
def test_the_highest_sum_is_the_best(rows: list[Any], order: list[int]) -> None:
    weight_sets = [weight_set(run, epoch, loss) for run, epoch, loss, _, _ in rows]
    judgements = [judgement(quasar=(quasars, 4), xelg=(xelgs, 8)) for *_, quasars, xelgs in rows]
    assert by_known_classes(weight_sets, judgements) == order


def test_sums_that_are_equal_but_for_rounding_are_equal() -> None:
    one, other = judgement(quasar=(1, 10), xelg=(2, 10)), judgement(quasar=(3, 10), xelg=(0, 10))
    assert 1 / 10 + 2 / 10 != 3 / 10 + 0 / 10, "in floating point they differ"
    assert one.rate_sum() == other.rate_sum() == Fraction(3, 10)
    assert by_known_classes([weight_set(0, 1, 0.5), weight_set(0, 2, 0.4)], [one, other]) == [1, 0]


def test_an_empty_class_does_not_choose() -> None:
    judgements = [judgement(quasar=(0, 0), xelg=(k, 8)) for k in (1, 3, 2)]
    assert math.isnan(judgements[0].rate("quasar"))
    assert judgements[0].rate_sum() == Fraction(1, 8)
    assert by_known_classes([weight_set(0, k, 0.1) for k in range(3)], judgements) == [1, 2, 0]


def test_no_class_with_objects() -> None:
    nothing = judgement(quasar=(0, 0), xelg=(0, 0))
    assert nothing.rate_sum() is None
    with pytest.raises(SwimmyError, match=r"no object of the known classes quasar, xelg has a score.*known_classes"):
        by_known_classes([weight_set(0, 1, 0.1)], [nothing])


def test_validation_loss() -> None:
    weight_sets = [weight_set(1, 1, 0.2), weight_set(0, 3, 0.2), weight_set(0, 2, 0.2), weight_set(2, 1, 0.1)]
    assert by_validation_loss(weight_sets) == [3, 2, 1, 0]


def test_only_one_network_is_chosen() -> None:
    weight_sets = [weight_set(k, 1, 0.1, network) for k, network in enumerate([SMALL, LARGE, LARGE, SMALL])]
    assert first_of_one_network(weight_sets, [2, 0, 3, 1], 2) == [2, 1]
    assert first_of_one_network(weight_sets, [0, 1, 2, 3], 1) == [0]


@pytest.mark.parametrize(
    ("order", "n_models", "expected"),
    [
        # Trainings of the positions: 0 0 1 1 2 2.
        ([1, 0, 3, 5, 4, 2], 3, [1, 3, 5]),
        ([1, 0, 3, 5, 4, 2], 2, [1, 3]),
        ([4, 5, 0, 1, 2, 3], 6, [4, 0, 2]),
        ([0], 1, [0]),
    ],
)
def test_the_best_of_every_training(order: list[int], n_models: int, expected: list[int]) -> None:
    weight_sets = [weight_set(run, epoch, 0.1) for run in range(3) for epoch in (1, 2)]
    assert first_of_one_network(weight_sets, order, n_models, one_a_run=True) == expected
    assert first_of_one_network(weight_sets, order, n_models) == order[:n_models]


@pytest.mark.parametrize(
    ("n_models", "n_runs", "n_kept_epochs", "one_a_run", "is_grid", "expected"),
    [
        (1, 1, 1, True, False, ""),
        (6, 3, 2, False, False, ""),
        (3, 3, 2, True, True, ""),
        (4, 3, 2, True, False, "score.n_models 4 with score.one_a_run is more than train.n_runs 3."),
        (7, 3, 2, False, False, "score.n_models 7 is more than the 6 weight sets that train keeps."),
        (7, 3, 2, False, True, "score.n_models 7 is more than the 6 weight sets that train keeps of one network."),
    ],
)
def test_too_few(n_models: int, n_runs: int, n_kept_epochs: int, one_a_run: bool, is_grid: bool, expected: str) -> None:
    found = too_few(n_models, n_runs, n_kept_epochs, one_a_run, is_grid)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_the_best_of_every_training_is_of_the_best_network() -> None:
    weight_sets = [weight_set(k // 2, k, 0.1, [SMALL, LARGE][k // 2 % 2]) for k in range(8)]
    assert first_of_one_network(weight_sets, [1, 0, 2, 5, 4, 3, 6, 7], 4, one_a_run=True) == [1, 5]
