"""Exact order statistics by counting bits: held to a plain sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.thresholds import RadixCount, order_statistics

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38, np.inf, -np.inf]
FLOATS = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32, allow_nan=False))


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


@given(st.permutations(range(5)))
def test_parts_merge_in_any_order_also_after_storing(order: list[int]) -> None:
    score = np.random.default_rng(4).lognormal(size=(50, 2)).astype(np.float32)
    parts = np.split(score, [3, 3, 20, 41])
    ranks = [0, 24, 25, 49]

    def merged(start: RadixCount | None) -> RadixCount:
        total = RadixCount(2, None if start is None else start.upper)
        for index in order:
            part = counted(parts[index], second=start)
            total.merge(RadixCount.from_arrays(part.to_arrays()))
        return total

    first = merged(None)
    second = merged(first.refine(ranks))
    assert first.n_objects == second.n_objects == 50
    assert np.array_equal(order_statistics(first, second, ranks), np.sort(score, axis=0)[ranks].astype(np.float64))


def test_stored_state_is_a_copy() -> None:
    first = counted(np.ones((3, 1), np.float32))
    copy = RadixCount.from_arrays(first.to_arrays())
    copy.add(np.ones((4, 1), np.float32))
    assert (first.n_objects, first.counts.sum()) == (3, 3)
    assert (copy.n_objects, copy.counts.sum()) == (7, 7)


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
        (lambda: RadixCount(1).merge(RadixCount(2)), "different passes or samples"),
        (lambda: counted(ONE).merge(counted(ONE).refine([0])), "different passes or samples"),
        (lambda: counted(ONE).refine([0]).refine([0]), "second pass already"),
        (lambda: counted(ONE).refine([4]), r"ranks \[4\] must lie within 0 and 3"),
        (lambda: counted(ONE).refine([]), "one at least"),
        (lambda: RadixCount(2, np.zeros((1, 1), np.int64)), r"needs \(2, n_upper\)"),
        (lambda: RadixCount.from_arrays({}), "lacks n_objects, n_nan, counts"),
        (lambda: RadixCount.from_arrays(dict(counted(ONE).to_arrays(), counts=np.zeros((1, 2)))), "Count this part"),
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
