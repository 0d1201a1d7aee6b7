"""How any stage runs: plan, do what has no valid receipt, finish from receipts."""

from __future__ import annotations

import logging
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, overload

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.receipts import FINISHED, Ledger, Receipt, task_name

log = logging.getLogger("swimmy_scale")

SECONDS_UNTIL_SEEN = 90.0


@dataclass(frozen=True)
class Task:
    """One piece of a stage, small enough to send: numbers, paths and digests, no pixels.

    Attributes
    ----------
    ledger : Ledger
        Where the receipt goes.
    index : int
        Partition, or training run.
    identity : str
        Digest of everything that determines the output.
    n_objects : int
    """

    ledger: Ledger
    index: int
    identity: str
    n_objects: int

    @property
    def name(self) -> str:
        """Name of the task's receipt."""
        return task_name(self.index)


class Tasks[T: Task](Sequence[T]):
    """Tasks that are made when they are asked for, so that memory does not grow with their number.

    Parameters
    ----------
    indices : sequence of int
    make : callable
        Gives the task of an index, the same each time.
    """

    def __init__(self, indices: Sequence[int], make: Callable[[int], T]) -> None:
        self._indices, self._make = indices, make

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, position: int) -> T: ...

    @overload
    def __getitem__(self, position: slice) -> Tasks[T]: ...

    def __getitem__(self, position: int | slice) -> T | Tasks[T]:
        """The task at a position, or some of the tasks."""
        if isinstance(position, slice):
            return Tasks(self._indices[position], self._make)
        return self._make(self._indices[position])


@dataclass(frozen=True)
class Poll:
    """Progress that is seen on disk while tasks run.

    Attributes
    ----------
    unit : str
        What is counted, such as ``epochs``.
    total : int
    count : callable
        Returns how many are done.
    """

    unit: str
    total: int
    count: Callable[[], int]


class Work(Protocol):
    """What workers need to know of a stage."""

    @property
    def perform(self) -> Callable[[Any], Receipt]:
        """A module-level function that does one task, commits its receipt and returns it."""

    @property
    def probe(self) -> Callable[[Any, int, int], None] | None:
        """A module-level function that processes rows of a task, counted from its first, and writes nothing.

        None where a task cannot be cut.
        """

    @property
    def wants_gpu(self) -> bool:
        """Whether its tasks run the network."""


class Stage(Work, Protocol):
    """What the engine needs to know of a stage."""

    @property
    def ledger(self) -> Ledger:
        """The receipts of the stage."""

    @property
    def identity(self) -> str:
        """Digest of the stage's configuration and inputs."""

    @property
    def when_finished(self) -> str:
        """What to say where the stage was finished before, or nothing."""

    def poll(self) -> Poll | None:
        """How to count what is done inside of long tasks, or None where receipts tell enough."""

    def plan(self) -> Sequence[Task]:
        """All tasks, in order of their index; makes the stores that they write to."""

    def finish(self, receipts: Iterable[Receipt]) -> Receipt:
        """Close the stage from the receipts of all tasks, which come one at a time and once."""


class Workers(Protocol):
    """Something that performs tasks: this process, or a Dask cluster."""

    def map(self, stage: Work, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Perform tasks of a stage and yield receipts as they come, in any order."""


class SerialWorkers:
    """Performs tasks one after the other in this process: the specification of every other way."""

    def map(self, stage: Work, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Perform every task in order."""
        for task in tasks:
            yield stage.perform(task)


class Watcher(Protocol):
    """Told of a stage's progress."""

    def prepare(self, stage: str) -> None:
        """What there is to do is being looked at; of a large survey this takes a while."""

    def start(self, stage: str, n_objects: int, n_done: int, poll: Poll | None = None, unit: str = "objects") -> None:
        """A stage starts; ``n_done`` of its ``n_objects`` are on disk already."""

    def advance(self, receipt: Receipt) -> None:
        """One task is on disk."""

    def stop(self, stage: str, note: str = "") -> None:
        """The stage is finished; ``note`` is what to know of one that was finished before."""


class Counter(Protocol):
    """Told how far work is that has no receipts."""

    def start(self, stage: str, n_objects: int, n_done: int, poll: Poll | None = None, unit: str = "objects") -> None:
        """It starts, with so much to do."""

    def add(self, n_objects: int) -> None:
        """So much more is done."""

    def stop(self, stage: str, note: str = "") -> None:
        """It is finished."""


WorkersFor = Callable[[Work, int], AbstractContextManager[Workers]]
# Entered when the driver's lock is held, left before it is given back: two drivers never have workers at once.
Session = Callable[[], AbstractContextManager[WorkersFor]]


def finished(stage: Stage) -> Receipt | None:
    """The receipt that closes a stage, if the stage is whole on disk; else None.

    A finished stage is judged by its configuration and its own files; the inputs of the first stage may
    have been removed since.
    """
    done = stage.ledger.valid(FINISHED, stage.identity)
    if done is None:
        return None
    n_objects = 0
    for index in range(int(done.details.get("n_tasks", 0))):
        part = stage.ledger.read(task_name(index))
        if part is None or not stage.ledger.intact(part):
            return None
        n_objects += part.n_objects
    return done if done.n_objects == n_objects else None


def run_stage(
    stage: Stage,
    workers: WorkersFor,
    watcher: Watcher,
) -> Receipt:
    """Bring a stage to its end, doing only what is not on disk.

    Parameters
    ----------
    workers : callable
        Given the stage and the number of its tasks to do, returns a context manager that yields `Workers`.

    Returns
    -------
    Receipt
        The receipt that closes the stage.

    Raises
    ------
    SwimmyError
        When a task fails, or receipts do not add up.
    """
    name = stage.ledger.stage
    done = finished(stage)
    if done is not None:
        watcher.start(name, done.n_objects, done.n_objects)
        watcher.stop(name, stage.when_finished)
        return done
    watcher.prepare(name)
    tasks = stage.plan()
    stage.ledger.remove(FINISHED)
    _remove_stale(stage.ledger, len(tasks))
    pending, n_objects, n_done = array("q"), 0, 0
    for index, task in enumerate(tasks):
        n_objects += task.n_objects
        if stage.ledger.valid(task.name, task.identity) is None:
            # A receipt that does not hold any more must not outlive the files that are about to change.
            stage.ledger.remove(task.name)
            pending.append(index)
        else:
            n_done += task.n_objects
    # A stage without tasks does all of it in its finish.
    watcher.start(name, n_objects, n_done, stage.poll() if pending or not tasks else None)
    if pending:
        with workers(stage, len(pending)) as pool:
            for receipt in pool.map(stage, Tasks(pending, tasks.__getitem__)):
                watcher.advance(receipt)
    done = stage.finish(_committed(stage.ledger, task) for task in tasks)
    watcher.stop(name)
    return done


def _remove_stale(ledger: Ledger, n_tasks: int) -> None:
    """Remove receipts of a longer plan."""
    for name in ledger.every_name():
        if not (name.isdecimal() and int(name) < n_tasks and name == task_name(int(name))):
            ledger.remove(name)


def _committed(ledger: Ledger, task: Task) -> Receipt:
    receipt = ledger.read(task.name)
    deadline = time.monotonic() + SECONDS_UNTIL_SEEN
    while receipt is None and os.environ.get("SLURM_JOB_ID") and time.monotonic() < deadline:
        # Another node has written it; a shared file system may show it here only after a while.
        for _ in ledger.every_name():
            pass
        time.sleep(1.0)
        receipt = ledger.read(task.name)
    if receipt is None or receipt.identity != task.identity or receipt.n_objects != task.n_objects:
        raise SwimmyError(
            f"{ledger.path(task.name)}: no receipt for this task although it was performed. "
            "Check the disk, then run the same command again."
        )
    return receipt
