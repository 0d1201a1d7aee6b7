"""How any stage runs: plan, do what has no valid receipt, finish from receipts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, overload

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.storage.arrivals import SECONDS_UNTIL_SEEN, several_nodes
from swimmy_scale.storage.files import check_locks_held
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt, task_name


@dataclass(frozen=True)
class Task:
    """One piece of a stage, small enough to send: numbers, paths and digests, no pixels.

    Attributes
    ----------
    ledger : Ledger
        Where the receipt goes.
    index : int
        Of the partition or training.
    identity : str
        See `Receipt`.
    n_objects : int
        Rows of the partition; 0 for other tasks.
    """

    ledger: Ledger
    index: int
    identity: str
    n_objects: int

    @property
    def name(self) -> str:
        """Name of the task's receipt."""
        return task_name(self.index)

    def seconds(self, n_threads: int) -> float:
        """About how long it takes a process that has so many threads to itself.

        Infinite if a process of its own should do it whatever it takes: one that trains, or reads files that nobody has
        checked yet.
        """
        return math.inf

    def with_threads(self, n_threads: int) -> Self:
        """The same task, computed by so many threads if it can be; they change the speed only."""
        return self

    def commit(
        self,
        files: Iterable[Path],
        data_digest: str = "",
        details: Mapping[str, Any] | None = None,
        object_id: AnyArray | None = None,
    ) -> Receipt:
        """Flush the task's files to disk, then write its receipt (see `Receipt`).

        Of ``object_id``, int64 (n_objects,), the receipt keeps the first and the last.
        """
        first, last = (0, 0) if object_id is None else (int(object_id[0]), int(object_id[-1]))
        receipt = Receipt(
            stage=self.ledger.stage,
            name=self.name,
            identity=self.identity,
            n_objects=self.n_objects,
            first_object_id=first,
            last_object_id=last,
            data_digest=data_digest,
            files=self.ledger.record_files(files),
            details=details or {},
        )
        self.ledger.commit(receipt)
        return receipt


class Tasks[T: Task](Sequence[T]):
    """Tasks that ``make`` makes of their indices on demand, so that memory does not grow with their number."""

    def __init__(self, indices: Sequence[int], make: Callable[[int], T]) -> None:
        self._indices, self._make = indices, make

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, position: int) -> T: ...

    @overload
    def __getitem__(self, position: slice) -> Tasks[T]: ...

    def __getitem__(self, position: int | slice) -> T | Tasks[T]:
        """The task at a position, or the tasks of a slice."""
        if isinstance(position, slice):
            return Tasks(self._indices[position], self._make)
        return self._make(self._indices[position])


@dataclass(frozen=True)
class Count:
    """How the progress of a stage is counted if the receipts of its tasks tell too little.

    Attributes
    ----------
    unit : str
        What is counted, such as ``epochs``.
    total : int
    seen : callable, optional
        Returns how many are done, as seen in files. Without it the stage's finish tells of them.
    """

    unit: str
    total: int
    seen: Callable[[], int] | None = None


class Work(Protocol):
    """The part of a stage that workers need."""

    @property
    def perform(self) -> Callable[[Any], Receipt]:
        """A module-level function that does one task, commits its receipt and returns it."""

    @property
    def probe(self) -> Callable[[Any, int, int], None] | None:
        """A module-level function that processes rows of a task, counted from its first, and writes nothing.

        None if a task cannot be cut.
        """

    @property
    def wants_gpu(self) -> bool:
        """Whether its tasks go to workers with GPUs, if there are any."""

    @property
    def own_cores(self) -> bool:
        """Whether a worker keeps to its share of the cores: right for many short tasks, which keep all workers busy.

        Else the system divides the cores among the tasks that run, and the last of them has those that are free.
        """


class Stage(ABC):
    """A stage of a job: it plans tasks, workers perform them, and it finishes from their receipts."""

    ledger: Ledger

    @property
    def perform(self) -> Callable[[Any], Receipt]:
        """The function that does one task (see `Work`)."""
        raise NotImplementedError(f"{type(self).__name__} has no tasks")

    @property
    def probe(self) -> Callable[[Any, int, int], None] | None:
        """The function that processes rows of a task (see `Work`); None if a task cannot be cut."""
        return None

    @property
    def wants_gpu(self) -> bool:
        """Whether its tasks go to workers with GPUs, if there are any."""
        return False

    @property
    def own_cores(self) -> bool:
        """Whether a worker keeps to its share of the cores (see `Work`)."""
        return True

    @property
    @abstractmethod
    def identity(self) -> str:
        """Digest of the stage's configuration and inputs."""

    @property
    def when_finished(self) -> str:
        """What to say if the stage was finished before."""
        return ""

    def count(self) -> Count | None:
        """How progress is counted; None if receipts tell enough."""
        return None

    @abstractmethod
    def plan(self) -> Sequence[Task]:
        """All tasks, in order of their index; creates the stores that they write to."""

    @abstractmethod
    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Close the stage from the receipts of all tasks, which come one at a time and once.

        ``add`` is told of progress if `count` gives no ``seen``.
        """


class Executor(Protocol):
    """Where tasks are performed: in this process, on this machine, or on a cluster."""

    def open(self) -> AbstractContextManager[object]:
        """Workers live within this context, which lies within the driver's lock: two drivers never have workers."""

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        """Perform tasks and yield receipts as they come, in any order; close it to stop."""

    def describe(self) -> Mapping[str, Mapping[str, int]]:
        """How many workers each group has; empty if there are no groups."""


class SerialExecutor:
    """Performs tasks one after the other in this process: the specification of every other executor."""

    def open(self) -> AbstractContextManager[object]:
        """There is nothing to start."""
        return nullcontext()

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        """Perform every task in order."""
        for task in tasks:
            yield work.perform(task)

    def describe(self) -> Mapping[str, Mapping[str, int]]:
        """No groups."""
        return {}


class Progress(Protocol):
    """Told how far a run is."""

    def keep_record(self, path: Path) -> None:
        """Write to ``path`` what `status` reads, from now on; only the driver that holds the lock may."""

    def see_workers(self, describe: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """Show how many workers there are (see `Executor.describe`)."""

    def prepare(self, stage: str) -> None:
        """A stage plans: it reads what is already done, which takes a while for a large survey."""

    def start(
        self, stage: str, total: int, n_done: int, unit: str = "objects", seen: Callable[[], int] | None = None
    ) -> None:
        """A stage starts, with ``n_done`` of ``total`` done before. ``seen`` returns how many are done later on."""

    def add(self, n_done: int, n_quarantined: int = 0) -> None:
        """More is done."""

    def stop(self, stage: str, note: str = "") -> None:
        """A stage is finished; ``note`` is what to know if it was finished before."""


class Silent:
    """Progress that nobody looks at."""

    def keep_record(self, path: Path) -> None:
        """Keep none."""

    def see_workers(self, describe: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """Show none."""

    def prepare(self, stage: str) -> None:
        """Say nothing, here and below."""

    def start(
        self, stage: str, total: int, n_done: int, unit: str = "objects", seen: Callable[[], int] | None = None
    ) -> None:
        """A stage starts."""

    def add(self, n_done: int, n_quarantined: int = 0) -> None:
        """More is done."""

    def stop(self, stage: str, note: str = "") -> None:
        """A stage is finished."""


def finished(stage: Stage) -> Receipt | None:
    """The receipt that closes a stage, if the stage is whole on disk; else None.

    It is judged by its configuration and its own files: the inputs of the first stage may have been removed since.
    """
    done = stage.ledger.valid(FINISHED, stage.identity)
    if done is None:
        return None
    parts = Parts()
    for part in parts.count(stage.ledger.parts()):
        if not stage.ledger.intact(part):
            return None
    return done if parts.n_tasks == done.details["n_tasks"] and parts.fit(done) else None


def run_stage(stage: Stage, executor: Executor, progress: Progress) -> Receipt:
    """Bring a stage to its end, doing only what is not on disk yet; return the receipt that closes it.

    Raises
    ------
    SwimmyError
        When a task fails, receipts do not add up, or the driver's lock is gone.
    """
    name = stage.ledger.stage
    done = finished(stage)
    if done is not None:
        progress.start(name, done.n_objects, done.n_objects, "objects")
        progress.stop(name, stage.when_finished)
        return done
    check_locks_held()
    progress.prepare(name)
    tasks = stage.plan()
    if stage.ledger.contradicts_itself():
        stage.ledger.remove_all()
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
    # A stage without tasks does all its work in its finish.
    count = stage.count() if pending or not tasks else None
    if count is None:
        progress.start(name, n_objects, n_done, "objects")
    else:
        progress.start(name, count.total, 0, count.unit, count.seen)
    if pending:
        with closing(executor.map(stage, Tasks(pending, tasks.__getitem__))) as receipts:
            for receipt in receipts:
                check_locks_held()
                progress.add(receipt.n_objects if count is None else 0, int(receipt.details.get("n_quarantined", 0)))
    check_locks_held()
    done = stage.finish((_committed(stage.ledger, task) for task in tasks), progress.add)
    progress.stop(name)
    return done


def _remove_stale(ledger: Ledger, n_tasks: int) -> None:
    """Remove receipts of a longer plan."""
    for name in ledger.every_name():
        if not (name.isdecimal() and int(name) < n_tasks and name == task_name(int(name))):
            ledger.remove(name)


def _committed(ledger: Ledger, task: Task) -> Receipt:
    receipt = ledger.awaited(task.name, lambda receipt: receipt.identity == task.identity)
    if receipt is None or receipt.identity != task.identity or receipt.n_objects != task.n_objects:
        raise SwimmyError(
            f"{ledger.path(task.name)}: no receipt for this task although it was performed. "
            "Check the disk, then run the same command again."
        )
    if several_nodes() and (path := next(ledger.lacking(receipt), None)) is not None:
        raise SwimmyError(
            f"{path}: {SECONDS_UNTIL_SEEN:.0f} s after it was written this node does not see it with the size that "
            f"{ledger.path(task.name)} says. Check the file system, then run the same command again."
        )
    return receipt
