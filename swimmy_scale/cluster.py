"""Workers from Dask: a local cluster that maps tasks and hands receipts back as they come."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask
import distributed
from distributed.security import Security

from swimmy_scale.errors import SwimmyError
from swimmy_scale.receipts import Receipt
from swimmy_scale.stages.engine import SerialWorkers, Task, Workers

# Tasks that wait at a worker beside the running one: enough that it never idles, few enough that a
# lost worker takes little with it.
WINDOW_PER_WORKER = 2
MAX_ATTEMPTS = 3

SETTINGS = {
    # A task is not blamed for its worker's death; MAX_ATTEMPTS is the ledger that counts.
    "distributed.scheduler.allowed-failures": 20,
    # Without it a cluster that lost all its workers waits for ever.
    "distributed.scheduler.no-workers-timeout": "120s",
    "distributed.worker.memory.terminate": 0.98,
    # Nothing but the TLS port answers: no web server, which would have no password.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Both thresholds keep NumPy's and TensorFlow's large buffers from being mapped and zeroed anew each time.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 30,
}


class DaskWorkers:
    """Maps tasks over the workers of a Dask client; pixels stay where they are read."""

    def __init__(self, client: distributed.Client, n_workers: int) -> None:
        self._client = client
        self._window = n_workers * WINDOW_PER_WORKER

    def map(self, perform: Callable[[Any], Receipt], tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Perform every task and yield receipts as they come.

        Raises
        ------
        SwimmyError
            At once when a task raises it; after ``MAX_ATTEMPTS`` when it fails in another way.
        """
        queue = deque(tasks)
        attempts: Counter[int] = Counter()
        flying: dict[Any, Task] = {}
        completed = distributed.as_completed()

        def submit() -> None:
            while queue and len(flying) < self._window:
                task = queue.popleft()
                # A key is never used twice: the scheduler would answer with what it knows of the first.
                key = f"{task.ledger.stage}-{task.name}-{uuid.uuid4().hex}"
                future = self._client.submit(perform, task, key=key, pure=False)
                flying[future] = task
                completed.add(future)

        submit()
        while flying:
            future = next(completed)
            task = flying.pop(future)
            error = future.exception()
            if error is None:
                yield future.result()
            else:
                self._refuse_or_count(task, error, attempts)
                queue.append(task)
            future.release()
            submit()

    def _refuse_or_count(self, task: Task, error: BaseException, attempts: Counter[int]) -> None:
        if isinstance(error, SwimmyError):
            raise error
        attempts[task.index] += 1
        if attempts[task.index] >= MAX_ATTEMPTS:
            raise SwimmyError(
                f"{task.ledger.stage} {task.name} failed {MAX_ATTEMPTS} times, last with "
                f"{type(error).__name__}: {error}. What is done is kept: mend that, then run the same command again."
            ) from error


@contextlib.contextmanager
def local_workers(n_workers: int) -> Iterator[Workers]:
    """Workers on this machine: ``n_workers`` processes of one task each, or this process for 0.

    Scheduler and workers speak TLS with a key that lives as long as they do: other users of the machine
    cannot reach them.
    """
    if n_workers == 0:
        yield SerialWorkers()
        return
    with (
        dask.config.set(SETTINGS),
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            security=Security.temporary(),
            # Failures come back to the driver, which says what is to be done; workers need not print them too.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield DaskWorkers(client, n_workers)
