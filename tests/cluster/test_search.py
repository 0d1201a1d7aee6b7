"""The search for objects that end workers: who is blamed, and who is not."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.cluster.search import MAX_SUSPECTS_ALONE, Search
from swimmy_scale.stages.engine import Task
from swimmy_scale.stages.lost_workers import MAX_LOST_WORKERS, Piece
from swimmy_scale.storage.receipts import Ledger


def task_of(n_objects: int) -> Task:
    return Task(Ledger(Path("receipts"), Path(), "count"), 7, "identity", n_objects)


def searched(search: Search, ends: Callable[[Piece], bool]) -> list[Piece]:
    """Try every piece that a search asks for; those tried, in order."""
    waiting, tried = deque(search.begin()), []
    while not search.is_over:
        tried.append(waiting.popleft())
        waiting.extendleft(reversed(search.take(tried[-1], ends(tried[-1]))))
        if search.disturbed:
            search.forget(len(waiting))
            waiting.clear()
    assert not waiting
    return tried


def rows(piece: Piece) -> set[int]:
    return {*range(piece.lo, piece.hi)}


@given(st.integers(1, 70).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=7))))
def test_exactly_the_objects_at_fault_are_found(case: tuple[int, set[int]]) -> None:
    n_objects, bad = case
    search = Search(task_of(n_objects))
    tried = searched(search, lambda piece: bool(rows(piece) & bad))
    assert (search.found, search.disturbed) == (sorted(bad), "")
    alone = Counter(piece.lo for piece in tried if piece.hi - piece.lo == 1 and piece.trial)
    assert {row: alone[row] for row in bad} == dict.fromkeys(bad, MAX_LOST_WORKERS)
    for trial in range(1, MAX_LOST_WORKERS + 1) if bad else ():
        assert {row for piece in tried if piece.trial == trial for row in rows(piece)} == {*range(n_objects)}
    assert len({piece.name for piece in tried}) == len(tried), "each has marks of its own"


@given(st.integers(2, 64), st.integers(0, 2**32 - 1), st.floats(0.2, 1))
def test_workers_that_end_at_random_condemn_nobody_for_long(n_objects: int, seed: int, share: float) -> None:
    """Of a storm some object may end three workers by chance; but then all others must pass each time as well."""
    generator = np.random.default_rng(seed)
    search = Search(task_of(n_objects))
    tried = searched(search, lambda piece: bool(generator.random() < share))
    assert len(tried) <= 2 * n_objects + (1 + 2 * n_objects) * MAX_LOST_WORKERS
    if search.found:
        alone = [piece for piece in tried if piece.trial == MAX_LOST_WORKERS]
        assert {row for piece in alone for row in rows(piece)} == {*range(n_objects)}


def test_a_storm_ends_the_search_early() -> None:
    search = Search(task_of(4096))
    tried = searched(search, lambda piece: True)
    assert search.found == []
    assert search.disturbed == f"{MAX_SUSPECTS_ALONE} objects ended a worker, and nothing passed"
    assert len(tried) < 40


def test_a_worker_that_ends_at_the_neighbours_clears_the_suspect() -> None:
    search = Search(task_of(16))
    searched(search, lambda piece: 5 in rows(piece) or (piece.trial == 3 and 12 in rows(piece)))
    assert (search.found, search.disturbed) == ([], "a worker ended at objects that had passed before")


def test_a_suspect_that_passes_once_is_none() -> None:
    search = Search(task_of(16))
    searched(search, lambda piece: 5 in rows(piece) or (9 in rows(piece) and piece.trial < 2))
    assert (search.found, search.disturbed) == ([5], "")


@pytest.mark.parametrize(("n_idle", "n_trials"), [(0, 3), (1, 6), (2, 9), (50, 9)])
def test_workers_that_end_without_a_task_ask_for_more_trials(n_idle: int, n_trials: int) -> None:
    search = Search(task_of(8), lambda: n_idle)
    tried = searched(search, lambda piece: 5 in rows(piece))
    assert search.found == [5]
    assert max(piece.trial for piece in tried) == n_trials
