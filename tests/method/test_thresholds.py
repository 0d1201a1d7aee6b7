"""Thresholds held to numpy.quantile bit for bit, and order statistics held to a plain sort."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method import candidates, thresholds
from swimmy_scale.method.thresholds import RadixCount, order_statistics

FRACTIONS = list(candidates.LEVELS.values())
SPECIAL = [0.0, -0.0, 1.0, 2.0, -1.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38]
FINITE = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32, allow_nan=False, allow_infinity=False))
# Few distinct values make ties; the whole range makes everything else.
SCORES = hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=FINITE)


def naive(score: np.ndarray, fractions: list[float]) -> np.ndarray:
    return np.array([[np.quantile(score[:, b].astype(float), 1 - f) for b in range(score.shape[1])] for f in fractions])


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype == np.float64 and left.shape == right.shape and left.tobytes() == right.tobytes()


@given(SCORES, st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=4))
def test_thresholds_are_numpys_quantiles(score: np.ndarray, fractions: list[float]) -> None:
    found = thresholds.thresholds(score, fractions)
    assert found.dtype == np.float64
    assert np.array_equal(found, naive(score, fractions))


@given(SCORES, st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=4), st.data())
@settings(max_examples=200)
def test_streamed_thresholds_have_the_same_bits(score: np.ndarray, fractions: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(score))))
    edges = sorted(data.draw(st.lists(st.integers(0, len(score)), max_size=5)))
    shuffled = score[order]
    found = thresholds.streamed_thresholds(lambda: iter(np.split(shuffled, edges)), score.shape[1], fractions)
    assert same_bits(found, thresholds.thresholds(score, fractions))
    assert same_bits(found, thresholds.thresholds(shuffled, fractions))


@pytest.mark.parametrize("n_objects", [1, 2, 3, 19, 20, 21, 22, 201, 49_319])
def test_small_and_real_samples(n_objects: int) -> None:
    score = np.random.default_rng(n_objects).lognormal(sigma=2, size=(n_objects, 5)).astype(np.float32)
    expected = naive(score, FRACTIONS)
    assert same_bits(thresholds.thresholds(score, FRACTIONS), expected)
    assert same_bits(thresholds.streamed_thresholds(lambda: np.array_split(score, 7), 5, FRACTIONS), expected)


def test_a_million_heavy_tailed_scores_in_sky_order() -> None:
    """Approximate quantiles lose most of the tail here: sorted scores in small blocks are their worst case."""
    score = np.sort(np.random.default_rng(1).lognormal(sigma=2, size=(1_000_000, 1)).astype(np.float32), axis=0)
    found = thresholds.streamed_thresholds(lambda: np.array_split(score, 100), 1, FRACTIONS)
    assert same_bits(found, naive(score, FRACTIONS))
    assert [(score.astype(float) > limit).sum() for limit in found[:, 0]] == [50_000, 3_000, 465]


def test_top_five_percent_of_the_papers_test_data() -> None:
    """2469 objects lie above the 2 sigma threshold in every band: 2461 + 8 = 2147 + 322 = 2455 + 14."""
    score = np.random.default_rng(2).lognormal(size=(49_319, 3)).astype(np.float32)
    limit = thresholds.thresholds(score, FRACTIONS)
    assert abs((score.astype(float) > limit[0]).sum(axis=0) - 2469).max() <= 3


def test_the_passes_may_read_the_sample_in_different_orders() -> None:
    score = np.random.default_rng(3).lognormal(size=(5000, 3)).astype(np.float32)
    parts = np.array_split(score, 4)
    passes = iter([parts[::-1], parts])
    found = thresholds.streamed_thresholds(lambda: next(passes), 3, FRACTIONS)
    assert same_bits(found, thresholds.thresholds(score, FRACTIONS))


def test_infinite_scores_above_the_threshold_do_no_harm() -> None:
    score = np.arange(100, dtype=np.float32)[:, None]
    score[99] = np.inf
    assert thresholds.thresholds(score, [0.05]) == np.quantile(np.arange(100.0), 0.95)
    assert thresholds.streamed_thresholds(lambda: [score], 1, [0.05]) == np.quantile(np.arange(100.0), 0.95)


def bad_sample(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


@pytest.mark.parametrize(
    ("score", "fractions", "text"),
    [
        (np.zeros((0, 1), np.float32), [0.05], "no object is in the sample"),
        (bad_sample(1, np.nan, 2), [0.05], r"NaN: \[1\] of 3 objects"),
        (bad_sample(1, np.inf), [0.05], "not finite: infinite"),
        (bad_sample(np.inf, np.inf, np.inf), [0.05], "not finite: infinite"),
        (bad_sample(1), [0.0], r"\[0.0\] must lie between 0 and 1"),
        (bad_sample(1), [1.0], "must lie between 0 and 1"),
        (bad_sample(1), [np.nan], "must lie between 0 and 1"),
        (bad_sample(1), [], "one at least"),
        (np.zeros(3, np.float32), [0.05], r"shape \(3,\)"),
    ],
)
def test_samples_without_a_threshold_are_refused_by_both(score: np.ndarray, fractions: list[float], text: str) -> None:
    with pytest.raises(SwimmyError, match=text):
        thresholds.thresholds(score, fractions)
    with pytest.raises(SwimmyError, match=text):
        thresholds.streamed_thresholds(lambda: [score], 1, fractions)


def test_scores_that_change_between_the_passes_are_noticed() -> None:
    passes = iter([bad_sample(1, 2, 3), bad_sample(1, 2, 9)])
    with pytest.raises(SwimmyError, match="changed between the two passes"):
        thresholds.streamed_thresholds(lambda: [next(passes)], 1, [0.05])


# ---------------------------------------------------------------- thresholds of another run


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_thresholds_survive_json_to_the_last_bit(threshold: np.ndarray) -> None:
    levels = ["2sigma", "3.5sigma"]
    text = json.dumps({"thresholds": thresholds.thresholds_to_json(threshold, "gri", levels)})
    assert same_bits(thresholds.load_thresholds(json.loads(text), "gri", levels), threshold)


def test_a_subset_in_another_order_can_be_read() -> None:
    summary = {"thresholds": thresholds.thresholds_to_json(np.arange(6.0).reshape(2, 3), "gri", ["2sigma", "3sigma"])}
    assert thresholds.load_thresholds(summary, "ig", ["3sigma"]).tolist() == [[5.0, 3.0]]


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ({}, "has no thresholds. Give the summary.json"),
        ({"thresholds": {"3sigma": {"g": 1}}}, "no thresholds for level '2sigma', only for 3sigma"),
        ({"thresholds": {}}, "only for none"),
        ({"thresholds": {"2sigma": {"r": 1.0}}}, "no 2sigma threshold for band 'g', only for r"),
        ({"thresholds": {"2sigma": {"g": "1.0"}}}, "is '1.0', not a finite number"),
        ({"thresholds": {"2sigma": {"g": True}}}, "is True, not a finite number"),
        ({"thresholds": {"2sigma": {"g": float("nan")}}}, "is nan, not a finite number"),
        ({"thresholds": {"2sigma": {"g": None}}}, "is None, not a finite number"),
    ],
)
def test_incomplete_summaries_are_refused(summary: dict, text: str) -> None:
    with pytest.raises(SwimmyError, match=text):
        thresholds.load_thresholds(summary, "g", ["2sigma"])


def test_thresholds_of_another_shape_are_not_written() -> None:
    with pytest.raises(SwimmyError, match=r"shape \(1, 2\), need \(1, 3\)"):
        thresholds.thresholds_to_json(np.ones((1, 2)), "gri", ["2sigma"])


# ---------------------------------------------------------------- order statistics

FLOATS = st.one_of(st.sampled_from([*SPECIAL, np.inf, -np.inf]), st.floats(width=32, allow_nan=False))


def counted(*blocks: np.ndarray, second: RadixCount | None = None) -> RadixCount:
    count = RadixCount(blocks[0].shape[1], None if second is None else second.upper)
    for block in blocks:
        count.add(block)
    return count


@given(
    score=hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=FLOATS),
    data=st.data(),
)
def test_every_order_statistic_is_that_of_a_sort(score: np.ndarray, data: st.DataObject) -> None:
    ranks = data.draw(st.lists(st.integers(0, len(score) - 1), min_size=1, max_size=6))
    cut = data.draw(st.integers(0, len(score)))
    first = counted(score[cut:], score[:cut])
    second = counted(score, second=first.refine(ranks))
    found = order_statistics(first, second, ranks)
    assert np.array_equal(found, np.sort(score, axis=0)[ranks].astype(np.float64))
    assert not np.signbit(found[found == 0]).any()


def test_neighbouring_floats_across_an_upper_half_are_told_apart() -> None:
    edge = np.array([0x3F7FFFFF, 0x3F800000, 0x3F80FFFF, 0x3F810000], dtype=np.uint32).view(np.float32)[:, None]
    first = counted(edge[::-1])
    second = counted(edge, second=first.refine([0, 1, 2, 3]))
    assert np.array_equal(order_statistics(first, second, [0, 1, 2, 3])[:, 0], edge[:, 0].astype(np.float64))


@given(st.permutations(range(5)), st.permutations(range(5)))
def test_parts_may_come_in_any_order_and_another_one_in_the_second_pass(order: list[int], again: list[int]) -> None:
    score = np.random.default_rng(4).lognormal(size=(50, 2)).astype(np.float32)
    parts = np.split(score, [3, 3, 20, 41])
    ranks = [0, 24, 25, 49]
    first = counted(*(parts[index] for index in order))
    second = counted(*(parts[index] for index in again), second=first.refine(ranks))
    assert first.n_objects == second.n_objects == 50
    assert np.array_equal(order_statistics(first, second, ranks), np.sort(score, axis=0)[ranks].astype(np.float64))


def test_a_second_pass_leaves_the_first_alone() -> None:
    first = counted(np.ones((3, 1), np.float32))
    second = first.refine([0])
    second.add(np.ones((4, 1), np.float32))
    assert (first.n_objects, first.counts.sum()) == (3, 3)
    assert (second.n_objects, second.counts.sum()) == (4, 4)


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4, 5])
def test_nan_that_look_like_infinity_and_zeros_of_both_signs(rank: int) -> None:
    bits = [0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFC00000, 0x7F800000, 0xFF800000, 0, 0x80000000, 1, 0x80000001]
    score = np.array(bits * 3, np.uint32).view(np.float32)[:, None]
    numbers = np.sort(np.concatenate([score[~np.isnan(score)]]))
    first = RadixCount(1)
    first.add(score)
    second = first.refine([3 * rank + 1])
    second.add(score)
    assert first.n_nan.tolist() == second.n_nan.tolist() == [12]
    assert first.counts.sum() == 18
    assert order_statistics(first, second, [3 * rank + 1])[0, 0] == numbers[3 * rank + 1]


def test_nan_are_counted_apart() -> None:
    first = counted(np.array([[1, np.nan], [np.nan, np.nan], [2, 3]], np.float32))
    assert first.n_nan.tolist() == [1, 2]
    assert first.counts.sum(axis=(1, 2)).tolist() == [2, 1]


def test_memory_does_not_grow_with_the_sample() -> None:
    first = RadixCount(5)
    size = first.counts.nbytes
    for _ in range(3):
        first.add(np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32))
    assert first.counts.nbytes == size < 3e6


ONE = np.ones((4, 1), np.float32)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (lambda: RadixCount(2).add(ONE), r"shape \(4, 1\), need \(n_objects, 2\)"),
        (lambda: RadixCount(1).add(ONE.astype(np.float64)), "float64, the count reads float32"),
        (lambda: counted(ONE).refine([0]).refine([0]), "second pass already"),
        (lambda: counted(ONE).refine([4]), r"ranks \[4\] must lie within 0 and 3"),
        (lambda: counted(ONE).refine([]), "one at least"),
        (lambda: RadixCount(2, np.zeros((1, 1), np.int64)), r"needs \(2, n_upper\)"),
        (lambda: order_statistics(counted(ONE), counted(ONE), [0]), "not started for these ranks"),
        (lambda: order_statistics(counted(ONE), counted(ONE).refine([0]), [0]), "changed between the two passes"),
        (
            lambda: order_statistics(counted(ONE), counted(ONE * 2, second=counted(ONE).refine([0])), [0]),
            "changed between the two passes",
        ),
    ],
)
def test_errors(action, text) -> None:
    with pytest.raises(SwimmyError, match=text):
        action()
