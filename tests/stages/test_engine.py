"""How stages run: only what is not on disk, and finished from receipts."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.engine import Poll, SerialWorkers, Stage, Task, Tasks, run_stage
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt


def perform(task: Task) -> Receipt:
    path = task.ledger.root / f"{task.index}.txt"
    if task.identity == "bad":
        raise SwimmyError("this one fails. Mend it.")
    path.parent.mkdir(exist_ok=True)
    path.write_text(task.identity)
    receipt = Receipt(
        task.ledger.stage, task.name, task.identity, task.n_objects, files=task.ledger.record_files([path])
    )
    task.ledger.commit(receipt)
    return receipt


@dataclass
class Count:
    """A stage of five tasks that each write one file."""

    ledger: Ledger
    identities: list[str] = field(default_factory=lambda: ["a", "b", "c", "d", "e"])
    identity: str = "count"
    n_plans: int = 0
    n_finishes: int = 0
    finished_with: list[str] = field(default_factory=list)
    perform: Callable[[Any], Receipt] = perform

    when_finished: str = "look elsewhere"
    probe: Callable[[Any, int, int], None] | None = None
    wants_gpu: bool = False

    def poll(self) -> Poll | None:
        return Poll("files", 5, lambda: 0)

    def plan(self) -> Sequence[Task]:
        self.n_plans += 1
        return [Task(self.ledger, index, identity, 10) for index, identity in enumerate(self.identities)]

    def finish(self, receipts: Iterable[Receipt]) -> Receipt:
        self.n_finishes += 1
        parts = Parts()
        self.finished_with = [receipt.name for receipt in parts.count(receipts)]
        return self.ledger.finish(self.identity, parts, [])


class Watcher:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.started: tuple[int, int] = (0, 0)
        self.polled: Poll | None = None
        self.n_workers_for: list[int] = []

    def prepare(self, stage: str) -> None:
        pass

    def start(self, stage: str, n_objects: int, n_done: int, poll: Poll | None = None, unit: str = "objects") -> None:
        self.started, self.polled = (n_objects, n_done), poll

    def advance(self, receipt: Receipt) -> None:
        self.done.append(receipt.name)

    def stop(self, stage: str, note: str = "") -> None:
        pass


class Backwards(SerialWorkers):
    def map(self, stage: Stage, tasks: Sequence[Task]) -> Iterator[Receipt]:
        yield from super().map(stage, tasks[::-1])


class Forgetful(SerialWorkers):
    def map(self, stage: Stage, tasks: Sequence[Task]) -> Iterator[Receipt]:
        yield from super().map(stage, tasks[1:])


def run(stage: Count, kind: type[SerialWorkers] = SerialWorkers) -> Watcher:
    watcher = Watcher()

    @contextmanager
    def workers(stage: Stage, n_tasks: int) -> Iterator[SerialWorkers]:
        watcher.n_workers_for.append(n_tasks)
        yield kind()

    run_stage(stage, workers, watcher)
    return watcher


@pytest.fixture
def stage(tmp_path: Path) -> Count:
    return Count(Ledger(tmp_path / "receipts", tmp_path, "count"))


def names(*indices: int) -> list[str]:
    return [f"{index:06d}" for index in indices]


def test_tasks_are_made_when_they_are_asked_for(stage: Count) -> None:
    made: list[int] = []

    def make(index: int) -> Task:
        made.append(index)
        return Task(stage.ledger, index, "id", 1)

    tasks = Tasks(range(10**9), make)
    assert len(tasks) == 10**9
    assert made == []
    assert tasks[-1].index == 10**9 - 1
    assert [task.index for task in tasks[4:10:2]] == [4, 6, 8]
    assert [task.index for task in Tasks([7, 3], make)] == [7, 3]
    assert made == [10**9 - 1, 4, 6, 8, 7, 3]
    with pytest.raises(IndexError):
        tasks[10**9]


def test_no_more_than_one_receipt_is_held_at_the_finish(stage: Count) -> None:
    held: list[weakref.ref[Receipt]] = []

    class Frugal(Count):
        def finish(self, receipts: Iterable[Receipt]) -> Receipt:
            parts = Parts()
            for receipt in parts.count(receipts):
                assert sum(known() is not None for known in held) <= 1
                held.append(weakref.ref(receipt))
            return self.ledger.finish(self.identity, parts, [])

    run(Frugal(stage.ledger))
    assert len(held) == 5


def test_all_tasks_then_none(stage: Count) -> None:
    watcher = run(stage)
    assert watcher.done == names(0, 1, 2, 3, 4)
    assert watcher.started == (50, 0)
    assert watcher.n_workers_for == [5]
    assert watcher.polled is not None
    again = run(stage)
    assert again.done == []
    assert again.started == (50, 50)
    assert again.n_workers_for == [], "nothing to do needs no workers"
    assert again.polled is None
    assert (stage.n_plans, stage.n_finishes) == (1, 1)


def test_order_does_not_matter(stage: Count, tmp_path: Path) -> None:
    run(stage)
    other = Count(Ledger(tmp_path / "b" / "receipts", tmp_path / "b", "count"))
    run(other, Backwards)
    one, two = stage.ledger.read(FINISHED), other.ledger.read(FINISHED)
    assert one is not None
    assert two is not None
    assert (one.data_digest, one.n_objects) == (two.data_digest, two.n_objects)
    assert stage.finished_with == other.finished_with == names(0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (lambda root: (root / "3.txt").unlink(), (3,)),
        (lambda root: (root / "1.txt").write_text("x"), (1,)),
        (lambda root: (root / "1.txt").write_text("xy"), (1,)),
        (lambda root: os.utime(root / "1.txt", ns=(1, 1)), None),
        (lambda root: (root / "receipts/count/000002.json").write_text("{}"), (2,)),
        (lambda root: (root / "receipts/count/000004.json").unlink(), (4,)),
        (lambda root: (root / f"receipts/count/{FINISHED}.json").unlink(), ()),
    ],
)
def test_only_what_is_damaged_is_done_again(
    stage: Count, tmp_path: Path, damage: Callable[[Path], Any], again: tuple[int, ...] | None
) -> None:
    run(stage)
    damage(tmp_path)
    watcher = run(stage)
    assert watcher.done == names(*(again or ()))
    assert watcher.n_workers_for == ([len(again)] if again else [])
    assert stage.n_finishes == (1 if again is None else 2)
    assert sorted(path.read_text() for path in tmp_path.glob("*.txt")) == ["a", "b", "c", "d", "e"]
    assert run(stage).done == []


@settings(deadline=None, max_examples=15)
@given(lost_files=st.sets(st.integers(0, 4)), bad_receipts=st.sets(st.integers(0, 4)), backwards=st.booleans())
def test_any_damage_ends_in_the_same_receipts(
    lost_files: set[int], bad_receipts: set[int], backwards: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("run")
    stage = Count(Ledger(root / "receipts", root, "count"))
    run(stage)
    before = stage.ledger.read(FINISHED)
    for index in lost_files:
        (root / f"{index}.txt").unlink()
    for index in bad_receipts:
        stage.ledger.path(f"{index:06d}").write_text("broken")
    watcher = run(stage, Backwards if backwards else SerialWorkers)
    assert sorted(watcher.done) == names(*sorted(lost_files | bad_receipts))
    assert watcher.started == (50, 50 - 10 * len(lost_files | bad_receipts))
    assert stage.ledger.read(FINISHED) == before


def test_the_inputs_of_a_finished_stage_may_be_gone(stage: Count, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stage)

    def gone() -> Sequence[Task]:
        raise FileNotFoundError("the catalogue was removed")

    monkeypatch.setattr(stage, "plan", gone)
    assert run(stage).done == []


def test_a_receipt_that_does_not_hold_is_gone_before_its_task_starts(stage: Count, tmp_path: Path) -> None:
    run(stage)
    (tmp_path / "1.txt").write_text("damaged")
    seen: list[list[str]] = []

    def look(task: Task) -> Receipt:
        seen.append(task.ledger.names())
        return perform(task)

    stage.perform = look
    run(stage)
    assert seen == [names(0, 2, 3, 4)], "neither the old receipt nor the one that closed the stage"


def test_a_smaller_plan_leaves_no_old_receipts(stage: Count) -> None:
    run(stage)
    stage.identity, stage.identities = "smaller", stage.identities[:2]
    assert run(stage).done == []
    assert stage.ledger.names() == [*names(0, 1), FINISHED]


def test_other_input_is_done_again(stage: Count) -> None:
    run(stage)
    stage.identity, stage.identities[2] = "changed", "C"
    watcher = run(stage)
    assert watcher.done == names(2)
    assert watcher.started == (50, 40)


def test_a_failure_keeps_what_is_done(stage: Count) -> None:
    stage.identities[3] = "bad"
    with pytest.raises(SwimmyError, match="this one fails"):
        run(stage)
    assert stage.ledger.names() == names(0, 1, 2)
    stage.identities[3] = "d"
    assert run(stage).done == names(3, 4)


def test_a_task_without_a_receipt_stops_the_stage(stage: Count) -> None:
    with pytest.raises(SwimmyError, match="no receipt for this task although it was performed"):
        run(stage, Forgetful)
    assert stage.ledger.read(FINISHED) is None


def test_a_receipt_of_another_length_stops_the_stage(stage: Count) -> None:
    def short(task: Task) -> Receipt:
        receipt = replace(perform(task), n_objects=9)
        task.ledger.commit(receipt)
        return receipt

    stage.perform = short
    with pytest.raises(SwimmyError, match=r"000000.json: no receipt for this task.*run the same command again"):
        run(stage)
    assert stage.ledger.read(FINISHED) is None


def test_no_tasks_at_all(stage: Count) -> None:
    stage.identities = []
    watcher = run(stage)
    assert (watcher.started, watcher.n_workers_for, stage.n_finishes) == ((0, 0), [], 1)
