"""Workers on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import dask
import distributed
from distributed.security import Security
from distributed.system import MEMORY_LIMIT

from swimmy_scale.cluster.mapping import DaskWorkers
from swimmy_scale.stages.engine import SerialWorkers, Workers
from swimmy_scale.stages.memory import MemoryLimits

WORKER_BYTES = 5 << 29
"""What a worker may need with the default sizes: 2.5 GiB, see `swimmy_scale.stages.memory`."""

SETTINGS = {
    # A task is not blamed for its worker's death: marks on disk are the ledger that counts.
    "distributed.scheduler.allowed-failures": 100,
    # Without it a cluster that lost all its workers waits for ever.
    "distributed.scheduler.no-workers-timeout": "120s",
    # A nanny brings its worker back. So long after any loss the cluster would look whether a worker of that name
    # is there, and close the nanny of one that was just being brought back again.
    "distributed.deploy.lost-worker-timeout": "365 days",
    # Workers hold receipts, nothing that could be spilled; one that is paused would wait for ever.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.98,
    # Both thresholds keep NumPy's and TensorFlow's large buffers from being mapped and zeroed anew each time. Of the
    # second, glibc takes nothing above 32 MiB: it would then go by its own.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,
    # What the scheduler remembers of transitions and events is for debugging; it would grow to hundreds of MB.
    "distributed.admin.log-length": 1000,
    # Nothing but the TLS port answers: no web server, which would have no password.
    "distributed.worker.http.routes": [],
}


def local_limits(n_workers: int) -> MemoryLimits:
    """Memory of each of so many worker processes on this machine; 0 workers are this one process."""
    each = int(MEMORY_LIMIT) // max(n_workers, 1)
    return MemoryLimits(each, each, f"this machine, with {n_workers} worker processes,", "start fewer with --workers")


def default_workers(n_cores: int) -> int:
    """Worker processes on this machine where nobody says how many: one a core, as far as its memory goes."""
    return max(min(n_cores, int(MEMORY_LIMIT) // WORKER_BYTES), 1)


def share_of_cores(cores: Sequence[int], index: int, n_workers: int) -> list[int]:
    """The cores of one worker among ``n_workers`` that share all evenly; every core where that cannot be."""
    return list(cores) if len(cores) % n_workers else list(cores[index::n_workers])


class OwnCores(distributed.WorkerPlugin):
    """Keeps the threads of a worker on cores of its own.

    A worker reads, decompresses and scores in several threads. Left alone the system moves them about, and pixels that
    one core has decompressed are scored by another, out of a cold cache: a tenth of the speed.
    """

    name = "own-cores"

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers

    def setup(self, worker: distributed.Worker) -> None:
        """Called in each worker as it starts, whose name is its number."""
        if not hasattr(os, "sched_setaffinity"):
            return
        share = share_of_cores(sorted(os.sched_getaffinity(0)), int(worker.name), self.n_workers)
        for thread in Path("/proc/self/task").iterdir():
            # One that has ended meanwhile needs no core.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), share)


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
        dask.config.set({**SETTINGS, "distributed.scheduler.http.routes": []}),
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
        client.register_plugin(OwnCores(n_workers))
        yield DaskWorkers(client, lambda: n_workers)
