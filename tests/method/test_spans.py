"""Rows of deliveries in partitions, against a list of all rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.method.spans import Span, first_rows, spans_of


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 7))
def test_spans_are_the_rows_of_each_partition(n_objects: list[int], partition_objects: int) -> None:
    rows = [(delivery, row) for delivery, number in enumerate(n_objects) for row in range(number)]
    for partition in range(-(-len(rows) // partition_objects)):
        spans = spans_of(n_objects, partition_objects, partition)
        found = [(span.delivery, row) for span in spans for row in range(span.lo, span.hi)]
        assert found == rows[partition * partition_objects : (partition + 1) * partition_objects]
        assert all(len(span) for span in spans)
    assert first_rows(n_objects)[-1] == len(rows)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 7))
def test_an_addition_changes_no_full_partition(n_objects: list[int], added: int, partition_objects: int) -> None:
    for partition in range(sum(n_objects) // partition_objects):
        before = spans_of(n_objects, partition_objects, partition)
        assert spans_of([*n_objects, added], partition_objects, partition) == before


def test_the_last_partition_is_shared() -> None:
    assert spans_of([5, 4], 4, 1) == [Span(0, 4, 5), Span(1, 0, 3)]
    with pytest.raises(ValueError, match="partition 3 of 4 objects: there are 9 objects"):
        spans_of([5, 4], 4, 3)
