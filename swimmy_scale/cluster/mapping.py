"""The tasks of a stage on Dask workers: receipts come back, pixels stay where they are read."""

from __future__ import annotations

import itertools
import logging
import queue
import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import distributed

from swimmy_scale.cluster.search import Search
from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.engine import Task, Work
from swimmy_scale.stages.lost_workers import Piece, WorkersLostError, attempt, attempt_piece, clear_attempts, leave_out
from swimmy_scale.storage.receipts import Receipt

log = logging.getLogger("swimmy_scale")

Future = Any  # distributed.Future, which is generic in stubs alone

# Bundles at a worker, running and waiting: enough that it never idles, few enough that little is lost with it.
WINDOW_PER_WORKER = 2
MAX_FAILURES = 3
# How often the objects of a task are searched for those at fault.
MAX_SEARCHES = 2
SECONDS_BETWEEN_CHECKS = 0.5
# Short tasks go to a worker in bundles: each sending takes the scheduler milliseconds.
SECONDS_OF_BUNDLE, MOST_BUNDLED = 1.0, 256


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt, in plain values.

    Exceptions are not sent: one that cannot be unpickled at the other end would take the client down.
    ``lost`` has ended too many workers, ``refused`` has a message for the user.
    """

    kind: Literal["done", "lost", "refused", "failed"]
    receipt: Receipt | None = None
    reason: str = ""


def _attempt(function: Callable[..., Any], item: Task | Piece) -> Outcome:
    try:
        if isinstance(item, Task):
            # Dask asks again for what a worker did before it died: the receipt is on disk.
            done = item.ledger.valid(item.name, item.identity)
            return Outcome("done", done or attempt(function, item))
        attempt_piece(function, item)
        return Outcome("done")
    except WorkersLostError as error:
        return Outcome("lost", reason=str(error))
    except SwimmyError as error:
        return Outcome("refused", reason=str(error))
    except Exception as error:
        log.debug(traceback.format_exc())
        return Outcome("failed", reason=f"{type(error).__name__}: {error}")


def _attempt_all(function: Callable[..., Any], items: Sequence[Task | Piece]) -> tuple[list[Outcome], float]:
    """Perform items in turn in a worker, up to one that is refused; their outcomes, and the seconds they took."""
    started = time.perf_counter()
    outcomes = []
    for item in items:
        outcomes.append(_attempt(function, item))
        if outcomes[-1].kind == "refused":
            break
    return outcomes, time.perf_counter() - started


def _outcomes(future: Future, n_items: int) -> tuple[list[Outcome], float]:
    """The outcomes and seconds that a worker sent, or where none came, Dask's error for every item."""
    error = future.exception()
    if error is not None:
        return [Outcome("failed", reason=f"{type(error).__name__}: {error}")] * n_items, 0.0
    outcomes: tuple[list[Outcome], float] = future.result()
    return outcomes


class DaskWorkers:
    """Performs tasks on the workers of a Dask client.

    Parameters
    ----------
    n_workers : callable
        How many worker processes there are, or will be soon.
    resource : str, optional
        Dask resource that a task takes one of; each worker offers one.
    check : callable
        Called while tasks are out; raises when there is no use in waiting.
    most_bundled : int
        The most tasks that are sent to a worker together.
    """

    def __init__(
        self,
        client: distributed.Client,
        n_workers: Callable[[], int],
        resource: str | None = None,
        check: Callable[[], None] = lambda: None,
        most_bundled: int = MOST_BUNDLED,
    ) -> None:
        self._client, self.n_workers, self._check = client, n_workers, check
        self.most_bundled = most_bundled
        self._resources = {resource: 1} if resource else None

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        """Perform every task and yield receipts as they come.

        A task whose worker is lost is done by another. One that has ended `MAX_LOST_WORKERS` of them is cut into pieces
        until the objects at fault are found (see `search`); they go to quarantine, the others are done.

        Raises
        ------
        SwimmyError
            At once when a task raises it; after ``MAX_FAILURES`` when it fails in another way; when it goes on to end
            workers and no object of it is at fault.
        """
        if not tasks:
            return
        clear_attempts(tasks[0].ledger)
        yield from _Mapping(self, work, tasks).receipts()
        clear_attempts(tasks[0].ledger)

    def check(self) -> None:
        """Raise when there is no use in waiting."""
        self._check()
        self._check_connection()

    def _check_connection(self) -> None:
        if self._client.status not in ("running", "connecting"):
            raise SwimmyError(
                "the connection to Dask's scheduler is lost. What is done is kept: run the same command again."
            )

    def submit(self, function: Callable[..., Any] | None, items: Sequence[Task | Piece]) -> Future:
        """Send items to a worker, which performs them in turn."""
        self._check_connection()
        first = items[0]
        ledger = first.ledger if isinstance(first, Task) else first.task.ledger
        # A key is never used twice: the scheduler would answer with the first one's outcome.
        key = f"{ledger.stage}-{first.name}-{uuid.uuid4().hex}"
        return self._client.submit(_attempt_all, function, items, key=key, pure=False, resources=self._resources)

    def n_ended_idle(self, since: float) -> int:
        """How many workers ended since a time (Unix, s), unasked, while they had nothing to do."""
        found = 0
        for when, event in self._client.get_events("all"):
            is_removal = isinstance(event, dict) and event.get("action") == "remove-worker"
            found += is_removal and when >= since and not event["processing-tasks"] and not event["expected"]
        return found

    def cancel(self, futures: Sequence[Future]) -> None:
        """Take back what was sent, unless the connection that it was sent by is gone."""
        if futures and self._client.status == "running":
            self._client.cancel(futures)


class _Mapping:
    """One call of `DaskWorkers.map`."""

    def __init__(self, workers: DaskWorkers, work: Work, tasks: Sequence[Task]) -> None:
        self._workers, self._work = workers, work
        self._new, self._n_new = iter(tasks), len(tasks)
        self._seconds, self._n_timed = 0.0, 0
        # These come before new tasks: pieces of a search, and tasks that failed.
        self._waiting: deque[Task | Piece] = deque()
        self._flying: dict[Future, Sequence[Task | Piece]] = {}
        self._landed: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._failures: Counter[int] = Counter()
        self._searches: dict[int, Search] = {}
        self._n_searches: Counter[int] = Counter()

    @property
    def _window(self) -> int:
        """The most bundles that may be at workers."""
        return max(self._workers.n_workers(), 1) * WINDOW_PER_WORKER

    def receipts(self) -> Iterator[Receipt]:
        try:
            self._fill()
            while self._flying:
                try:
                    future = self._landed.get(timeout=SECONDS_BETWEEN_CHECKS)
                except queue.Empty:
                    self._workers.check()
                    self._fill()
                    continue
                items = self._flying.pop(future)
                outcomes, seconds = _outcomes(future, len(items))
                self._seconds += seconds
                self._n_timed += len(outcomes)
                for item, outcome in zip(items, outcomes, strict=False):
                    if isinstance(item, Piece):
                        self._take_piece(item, outcome)
                    elif outcome.receipt is not None:
                        yield outcome.receipt
                    else:
                        self._take_failure(item, outcome)
                future.release()
                self._fill()
        finally:
            self._workers.cancel([*self._flying])

    def _fill(self) -> None:
        while len(self._flying) < self._window:
            items = [self._waiting.popleft()] if self._waiting else self._next_bundle()
            if not items:
                return
            function = self._work.perform if isinstance(items[0], Task) else self._work.probe
            future = self._workers.submit(function, items)
            self._flying[future] = items
            future.add_done_callback(self._landed.put)

    def _next_bundle(self) -> list[Task | Piece]:
        """New tasks that together take about `SECONDS_OF_BUNDLE`; fewer near the end, so that no worker waits."""
        if self._n_timed == 0:
            size = 1
        else:
            in_time = int(SECONDS_OF_BUNDLE * self._n_timed / max(self._seconds, 1e-9))
            in_turn = self._n_new // (self._window * 2)
            size = max(min(in_time, in_turn, self._workers.most_bundled), 1)
        bundle: list[Task | Piece] = list(itertools.islice(self._new, size))
        self._n_new -= len(bundle)
        return bundle

    def _take_failure(self, task: Task, outcome: Outcome) -> None:
        if outcome.kind == "refused":
            raise SwimmyError(outcome.reason)
        if outcome.kind == "lost":
            self._search(task, outcome.reason)
            return
        self._failures[task.index] += 1
        if self._failures[task.index] >= MAX_FAILURES:
            raise SwimmyError(
                f"{task.ledger.stage} {task.name} failed {MAX_FAILURES} times, last with {outcome.reason}. "
                "What is done is kept: mend that, then run the same command again."
            )
        self._waiting.append(task)

    def _search(self, task: Task, reason: str) -> None:
        if self._work.probe is None or self._n_searches[task.index] >= MAX_SEARCHES:
            before = self._searches.get(task.index)
            why = f": {before.disturbed}" if before is not None and before.disturbed else ""
            raise SwimmyError(
                f"{reason}, and no single object is at fault{why}. Something else ends workers, such as a "
                "limit, the batch system, or other programs that take the memory: the log of the workers says more. "
                "Give each worker more memory, or make partitions smaller; what is done is kept."
            )
        self._n_searches[task.index] += 1
        search = Search(task, partial(self._workers.n_ended_idle, time.time()))
        self._searches[task.index] = search
        self._waiting.extendleft(reversed(search.begin()))

    def _take_piece(self, piece: Piece, outcome: Outcome) -> None:
        task = piece.task
        search = self._searches[task.index]
        self._waiting.extendleft(reversed(search.take(piece, lost=outcome.kind == "lost")))
        if search.disturbed:
            n_waiting = len(self._waiting)
            self._waiting = deque(
                item for item in self._waiting if isinstance(item, Task) or item.task.index != task.index
            )
            search.forget(n_waiting - len(self._waiting))
        if not search.is_over:
            return
        if search.found:
            leave_out(task.ledger, task.name, search.found)
        clear_attempts(task.ledger, task.name)
        self._waiting.appendleft(task)
