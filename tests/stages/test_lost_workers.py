"""Marks of attempts, and rows that are left out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swimmy_scale.stages.engine import Task
from swimmy_scale.stages.lost_workers import (
    MAX_LOST_WORKERS,
    Piece,
    WorkersLostError,
    attempt,
    attempt_piece,
    clear_attempts,
    has_attempts,
    has_left_out,
    leave_out,
    left_out,
    left_out_files,
    try_again,
)
from swimmy_scale.storage.receipts import Ledger, Receipt


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(Ledger(tmp_path / "receipts", tmp_path, "count"), 7, "identity", 10)


def die(task: Task, code: str = "perform") -> None:
    """Start the task in another process, and kill that in the middle."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from swimmy_scale.storage.receipts import Ledger\nfrom swimmy_scale.stages.lost_workers import *\n"
        "from swimmy_scale.stages.engine import Task\nroot = Path(sys.argv[1])\n"
        "task = Task(Ledger(root / 'receipts', root, 'count'), 7, 'identity', 10)\n"
        "def perform(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        + ("attempt(perform, task)" if code == "perform" else f"attempt_piece(perform, Piece(task, {code}))")
    )
    done = subprocess.run([sys.executable, "-c", script, task.ledger.root], check=False)
    assert done.returncode == -signal.SIGKILL


def succeed(task: Task) -> Receipt:
    return Receipt("count", task.name, task.identity, n_objects=os.getpid())


def marks(task: Task) -> list[Path]:
    return list((task.ledger.folder / "attempts").rglob("*-*-*"))


def test_what_ends_by_itself_leaves_no_mark(task: Task) -> None:
    for _ in range(2 * MAX_LOST_WORKERS):
        assert attempt(succeed, task).name == "000007"

        def fail(task: Task) -> Receipt:
            assert len(marks(task)) == 1, "a mark while it lasts"
            raise OSError("the disk is away")

        with pytest.raises(OSError, match="the disk is away"):
            attempt(fail, task)
    assert marks(task) == []


def test_lost_workers_are_counted(task: Task) -> None:
    for n_lost in range(1, MAX_LOST_WORKERS + 1):
        assert attempt(succeed, task)
        die(task)
        assert len(marks(task)) == n_lost
    with pytest.raises(WorkersLostError, match=r"count 000007 ended 3 workers: \S+-\d+, \S+-\d+, \S+-\d+"):
        attempt(succeed, task)
    clear_attempts(task.ledger, task.name)
    assert attempt(succeed, task)


def test_a_piece_is_given_up_at_once_in_each_trial_anew(task: Task) -> None:
    def probe(task: Task, lo: int, hi: int) -> None:
        seen.append((lo, hi))

    seen: list[tuple[int, int]] = []
    attempt_piece(probe, Piece(task, 2, 4))
    die(task, "2, 4")
    with pytest.raises(WorkersLostError, match=r"000007.2-4.0 ended 1 worker"):
        attempt_piece(probe, Piece(task, 2, 4))
    attempt_piece(probe, Piece(task, 2, 4, 1))
    assert seen == [(2, 4), (2, 4)]
    clear_attempts(task.ledger, task.name)
    assert marks(task) == [], "those of its pieces too"


def test_rows_are_left_out_until_they_are_tried_again(task: Task) -> None:
    ledger = task.ledger
    assert left_out(ledger, task.name) == []
    assert left_out_files(ledger, task.name) == []
    leave_out(ledger, task.name, [5])
    leave_out(ledger, task.name, [2, 5])
    leave_out(ledger, "000009", [1])
    assert left_out(ledger, task.name) == [2, 5]
    assert left_out(ledger, "000008") == []
    assert ledger.names() == []
    for name in (task.name, "000008", "finished"):
        ledger.commit(Receipt("count", name, ""))
    assert has_left_out(ledger)
    assert try_again(ledger) == 3
    assert not has_left_out(ledger)
    assert left_out(ledger, task.name) == left_out(ledger, "000009") == []
    assert ledger.names() == ["000008"], "their partitions are done again, and the end of the stage"
    assert try_again(ledger) == 0
    assert ledger.names() == ["000008"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"rows": [1]}', '{"format_version": 1, "rows": [1], "checksum": ""}'])
def test_a_damaged_list_counts_as_none(task: Task, damage: str) -> None:
    leave_out(task.ledger, task.name, [5])
    path = next(path for path in (task.ledger.folder / "left-out").rglob("*.json"))
    path.write_text(damage)
    assert left_out(task.ledger, task.name) == []


def test_marks_that_are_left_are_seen_until_they_are_cleared(task: Task) -> None:
    assert not has_attempts(task.ledger)
    attempt(succeed, task)
    assert not has_attempts(task.ledger)
    die(task)
    assert has_attempts(task.ledger)
    clear_attempts(task.ledger)
    assert not has_attempts(task.ledger)
