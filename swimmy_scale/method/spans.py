"""Which rows of a store come from which delivery, where several lie one after the other in partitions of equal size.

A delivery is what is ingested together: the catalogue and the pixels of the job itself, or of an addition to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Rows ``lo`` to ``hi`` (exclusive) of a delivery, counted from its first."""

    delivery: int
    lo: int
    hi: int

    def __len__(self) -> int:
        return self.hi - self.lo


def first_rows(n_objects: Sequence[int]) -> list[int]:
    """The first row of each delivery in the store, and at last the number of all rows."""
    rows = [0]
    for number in n_objects:
        rows.append(rows[-1] + number)
    return rows


def spans_of(n_objects: Sequence[int], partition_objects: int, partition: int) -> list[Span]:
    """The spans of one partition, in order of its rows.

    Parameters
    ----------
    n_objects : sequence of int
        Rows of each delivery.
    partition_objects : int
        Rows of every partition but the last.

    Raises
    ------
    ValueError
        When there is no such partition.
    """
    starts = first_rows(n_objects)
    lo, hi = partition * partition_objects, min((partition + 1) * partition_objects, starts[-1])
    if partition < 0 or lo >= hi:
        raise ValueError(f"partition {partition} of {partition_objects} objects: there are {starts[-1]} objects")
    found = []
    for delivery, first in enumerate(starts[:-1]):
        begin, end = max(lo, first), min(hi, starts[delivery + 1])
        if begin < end:
            found.append(Span(delivery, begin - first, end - first))
    return found
