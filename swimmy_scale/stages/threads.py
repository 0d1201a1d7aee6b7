"""Several tasks at a time in one process: for a GPU, which shall not wait while a task's end is written to disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from swimmy_scale.receipts import Receipt
from swimmy_scale.stages.engine import Task, Work


class ThreadWorkers:
    """Performs tasks in ``n_threads`` threads of this process; each commits its own receipt, as in every other way.

    Reading the next task's pixels, computing and writing scores overlap. A task that fails ends the rest: those that
    run are finished, none is begun.

    Parameters
    ----------
    n_threads : int
        Tasks at a time; memory grows with it.
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads

    def map(self, stage: Work, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Perform every task; receipts come in the order of the tasks."""
        with ThreadPoolExecutor(self._n_threads, thread_name_prefix="task") as pool:
            running: deque[Future[Receipt]] = deque()
            try:
                for task in tasks:
                    running.append(pool.submit(stage.perform, task))
                    if len(running) > self._n_threads:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for waiting in running:
                    waiting.cancel()
