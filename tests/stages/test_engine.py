"""How stages run: only what is not on disk, and finished from receipts."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.engine import Count, SerialExecutor, Stage, Task, Tasks, Work, run_stage
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt


def perform(task: Task) -> Receipt:
    path = task.ledger.root / f"{task.index}.txt"
    if task.identity == "bad":
        raise SwimmyError("this one fails. Mend it.")
    path.parent.mkdir(exist_ok=True)
    path.write_text(task.identity)
    return task.commit([path])


@dataclass
class Tally(Stage):
    """A stage of five tasks that each write one file."""

    ledger: Ledger
    identities: list[str] = field(default_factory=lambda: ["a", "b", "c", "d", "e"])
    named: str = "count"
    n_plans: int = 0
    n_finishes: int = 0
    finished_with: list[str] = field(default_factory=list)
    performing: Callable[[Any], Receipt] = perform
    counted: bool = False

    @property
    def perform(self) -> Callable[[Any], Receipt]:
        return self.performing

    @property
    def identity(self) -> str:
        return self.named

    def count(self) -> Count | None:
        return Count("files", 5, lambda: 3) if self.counted else None

    def plan(self) -> Sequence[Task]:
        self.n_plans += 1
        return [Task(self.ledger, index, identity, 10) for index, identity in enumerate(self.identities)]

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        self.n_finishes += 1
        parts = Parts()
        self.finished_with = [receipt.name for receipt in parts.count(receipts)]
        return self.ledger.finish(self.identity, parts, [])


class Told:
    """What a stage told of its progress, and which tasks were sent."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.started: tuple[int, int] = (0, 0)
        self.seen: Callable[[], int] | None = None
        self.n_added = 0
        self.n_sent: list[int] = []

    def keep_record(self, path: Path) -> None:
        pass

    def see_workers(self, describe: object) -> None:
        pass

    def prepare(self, stage: str) -> None:
        pass

    def stop(self, stage: str, note: str = "") -> None:
        pass

    def start(self, stage: str, total: int, n_done: int, unit: str, seen: Callable[[], int] | None = None) -> None:
        self.started, self.seen = (total, n_done), seen

    def add(self, n_done: int, n_quarantined: int = 0) -> None:
        self.n_added += n_done


class Backwards(SerialExecutor):
    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        yield from super().map(work, tasks[::-1])


class Forgetful(SerialExecutor):
    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        yield from super().map(work, tasks[1:])


def run(stage: Tally, executor: SerialExecutor | None = None) -> Told:
    told, executor = Told(), executor or SerialExecutor()

    class Noting(SerialExecutor):
        def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
            told.n_sent.append(len(tasks))
            for receipt in executor.map(work, tasks):
                told.done.append(receipt.name)
                yield receipt

    run_stage(stage, Noting(), told)
    return told


@pytest.fixture
def stage(tmp_path: Path) -> Tally:
    return Tally(Ledger(tmp_path / "receipts", tmp_path, "count"))


def names(*indices: int) -> list[str]:
    return [f"{index:06d}" for index in indices]


def test_tasks_are_made_when_they_are_asked_for(stage: Tally) -> None:
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


def test_no_more_than_one_receipt_is_held_at_the_finish(stage: Tally) -> None:
    held: list[weakref.ref[Receipt]] = []

    class Frugal(Tally):
        def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
            parts = Parts()
            for receipt in parts.count(receipts):
                assert sum(known() is not None for known in held) <= 1
                held.append(weakref.ref(receipt))
            return self.ledger.finish(self.identity, parts, [])

    run(Frugal(stage.ledger))
    assert len(held) == 5


def test_all_tasks_then_none(stage: Tally) -> None:
    told = run(stage)
    assert told.done == names(0, 1, 2, 3, 4)
    assert (told.started, told.n_added) == ((50, 0), 50)
    assert told.n_sent == [5]
    again = run(stage)
    assert again.done == []
    assert (again.started, again.n_added) == ((50, 50), 0)
    assert again.n_sent == [], "nothing to do needs no workers"
    assert (stage.n_plans, stage.n_finishes) == (1, 1)


def test_a_stage_may_count_in_its_own_way(stage: Tally) -> None:
    stage.counted = True
    told = run(stage)
    assert (told.started, told.n_added) == ((5, 0), 0)
    assert told.seen is not None
    assert told.seen() == 3
    assert run(stage).seen is None, "what is finished is not counted"


def test_order_does_not_matter(stage: Tally, tmp_path: Path) -> None:
    run(stage)
    other = Tally(Ledger(tmp_path / "b" / "receipts", tmp_path / "b", "count"))
    run(other, Backwards())
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
    stage: Tally, tmp_path: Path, damage: Callable[[Path], Any], again: tuple[int, ...] | None
) -> None:
    run(stage)
    damage(tmp_path)
    told = run(stage)
    assert told.done == names(*(again or ()))
    assert told.n_sent == ([len(again)] if again else [])
    assert stage.n_finishes == (1 if again is None else 2)
    assert sorted(path.read_text() for path in tmp_path.glob("*.txt")) == ["a", "b", "c", "d", "e"]
    assert run(stage).done == []


@pytest.mark.parametrize("name", [*names(0, 3), FINISHED])
@pytest.mark.parametrize("field", ["data_digest", "n_objects"])
def test_no_receipt_is_believed_where_they_do_not_add_up(stage: Tally, name: str, field: str) -> None:
    run(stage)
    before = {path: path.read_bytes() for path in stage.ledger.folder_of_stage.iterdir()}
    sound = stage.ledger.read(name)
    assert sound is not None
    stage.ledger.commit(replace(sound, **{field: "forged" if field == "data_digest" else 11}))
    told = run(stage)
    assert told.done == names(0, 1, 2, 3, 4)
    again = stage.ledger.read(name)
    assert again is not None
    assert (again.data_digest, again.n_objects) == (sound.data_digest, sound.n_objects)
    assert {path.name for path in before} == {path.name for path in stage.ledger.folder_of_stage.iterdir()}
    assert not stage.ledger.contradicts_itself()
    assert run(stage).done == []


@settings(deadline=None, max_examples=15)
@given(lost_files=st.sets(st.integers(0, 4)), bad_receipts=st.sets(st.integers(0, 4)), backwards=st.booleans())
def test_any_damage_ends_in_the_same_receipts(
    lost_files: set[int], bad_receipts: set[int], backwards: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("run")
    stage = Tally(Ledger(root / "receipts", root, "count"))
    run(stage)
    before = stage.ledger.read(FINISHED)
    for index in lost_files:
        (root / f"{index}.txt").unlink()
    for index in bad_receipts:
        stage.ledger.path(f"{index:06d}").write_text("broken")
    told = run(stage, Backwards() if backwards else SerialExecutor())
    assert sorted(told.done) == names(*sorted(lost_files | bad_receipts))
    assert told.started == (50, 50 - 10 * len(lost_files | bad_receipts))
    assert stage.ledger.read(FINISHED) == before


def test_the_inputs_of_a_finished_stage_may_be_gone(stage: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stage)

    def gone() -> Sequence[Task]:
        raise FileNotFoundError("the catalogue was removed")

    monkeypatch.setattr(stage, "plan", gone)
    assert run(stage).done == []


def test_a_receipt_that_does_not_hold_is_gone_before_its_task_starts(stage: Tally, tmp_path: Path) -> None:
    run(stage)
    (tmp_path / "1.txt").write_text("damaged")
    seen: list[list[str]] = []

    def look(task: Task) -> Receipt:
        seen.append(task.ledger.names())
        return perform(task)

    stage.performing = look
    run(stage)
    assert seen == [names(0, 2, 3, 4)], "neither the old receipt nor the one that closed the stage"


def test_a_smaller_plan_leaves_no_old_receipts(stage: Tally) -> None:
    run(stage)
    stage.named, stage.identities = "smaller", stage.identities[:2]
    assert run(stage).done == []
    assert stage.ledger.names() == [*names(0, 1), FINISHED]


def test_other_input_is_done_again(stage: Tally) -> None:
    run(stage)
    stage.named, stage.identities[2] = "changed", "C"
    told = run(stage)
    assert told.done == names(2)
    assert told.started == (50, 40)


def test_a_failure_keeps_what_is_done(stage: Tally) -> None:
    stage.identities[3] = "bad"
    with pytest.raises(SwimmyError, match="this one fails"):
        run(stage)
    assert stage.ledger.names() == names(0, 1, 2)
    stage.identities[3] = "d"
    assert run(stage).done == names(3, 4)


def test_a_task_without_a_receipt_stops_the_stage(stage: Tally) -> None:
    with pytest.raises(SwimmyError, match="no receipt for this task although it was performed"):
        run(stage, Forgetful())
    assert stage.ledger.read(FINISHED) is None


def test_a_receipt_of_another_length_stops_the_stage(stage: Tally) -> None:
    def short(task: Task) -> Receipt:
        receipt = replace(perform(task), n_objects=9)
        task.ledger.commit(receipt)
        return receipt

    stage.performing = short
    with pytest.raises(SwimmyError, match=r"000000.json: no receipt for this task.*run the same command again"):
        run(stage)
    assert stage.ledger.read(FINISHED) is None


def test_no_tasks_at_all(stage: Tally) -> None:
    stage.identities = []
    told = run(stage)
    assert (told.started, told.n_sent, stage.n_finishes) == ((0, 0), [], 1)
