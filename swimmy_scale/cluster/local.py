"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import dask
import distributed
from distributed.security import Security

from swimmy_scale.cluster.gpus import visible_gpus
from swimmy_scale.cluster.mapping import MOST_BUNDLED, DaskWorkers
from swimmy_scale.cluster.own_gpu import keep_one
from swimmy_scale.cluster.quiet_end import quiet_end
from swimmy_scale.cluster.resources import usable_memory_bytes
from swimmy_scale.cluster.signals import interrupts_held
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.words import counted

log = logging.getLogger("swimmy_scale")

SETTINGS = {
    # Dask does not blame a task for its worker's death: marks on disk count that.
    "distributed.scheduler.allowed-failures": 100,
    # Without it a cluster that has lost all its workers would wait for ever.
    "distributed.scheduler.no-workers-timeout": "120s",
    # A nanny brings its worker back. This long after a loss the cluster looks for a worker of that name, and would
    # close the nanny of one that is just coming back.
    "distributed.deploy.lost-worker-timeout": "365 days",
    # Workers hold receipts, nothing that could be spilled; one that Dask pauses would wait for ever.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.98,
    # Both thresholds keep NumPy's and TensorFlow's large buffers from being mapped and zeroed anew each time. glibc
    # ignores a second one above 32 MiB.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 30,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,
    "distributed.nanny.pre-spawn-environ.PYTHONHASHSEED": 6640,  # Dask's own, which it sets too late for our workers
    # The scheduler remembers transitions and events for debugging: hundreds of MB if it may.
    "distributed.admin.log-length": 1000,
    # Nothing but the TLS port answers: no web server, which would have no password.
    "distributed.worker.http.routes": [],
}

MAX_STARTS = 3
"""How often workers are started anew when one of them ends while they start."""

IMPORTED_ONCE = ("distributed", "swimmy_scale.stages.run", "swimmy_scale.model.numba_scorer")
"""What any worker may need, without what it may not need, nor what starts threads: TensorFlow."""


def start_method() -> str:
    """How worker processes start.

    On Linux they start from a process that has imported what they need, once for all workers of all stages, in a tenth
    of a second in place of two. Elsewhere system libraries do not bear that.
    """
    return "forkserver" if sys.platform == "linux" else "spawn"


def _start_importing() -> None:
    """Start the process that workers start from, if it is not there; with Dask's settings in place."""
    # Else Dask would have that process import pandas too.
    distributed.utils._forkserver_preload_set = True
    forkserver.set_forkserver_preload([*IMPORTED_ONCE])
    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items():
        if value is not None:
            os.environ.setdefault(name, str(value))
    # It comes first, because its start would let interrupts through.
    resource_tracker.ensure_running()
    with interrupts_held():
        forkserver.ensure_running()


def share_of_cores(cores: Sequence[int], index: int, n_workers: int) -> list[int]:
    """The cores of worker ``index`` where ``n_workers`` share them evenly, or all cores where they cannot."""
    return list(cores) if len(cores) % n_workers else list(cores[index::n_workers])


class OwnCores(distributed.WorkerPlugin):
    """Keeps the threads of a worker on cores of its own.

    A worker reads, decompresses and scores in several threads. The system would move them about, so that one core
    scores, from a cold cache, the pixels that another has decompressed; this costs a tenth of the speed.
    """

    name = "own-cores"

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers

    def setup(self, worker: distributed.Worker) -> None:
        """Called in each worker as it starts; a worker's name is its number."""
        if not hasattr(os, "sched_setaffinity"):
            return
        share = share_of_cores(sorted(os.sched_getaffinity(0)), int(worker.name), self.n_workers)
        for thread in Path("/proc/self/task").iterdir():
            # A thread that has ended meanwhile needs no core.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), share)


class OwnGpu(distributed.WorkerPlugin):
    """Shares the GPUs of this machine among its workers: one each, or several workers at one where there are fewer."""

    name = "own-gpu"

    def __init__(self, gpus: Sequence[str]) -> None:
        self.gpus = list(gpus)

    def setup(self, worker: distributed.Worker) -> None:
        """Called in each worker as it starts, before a task of it loads what computes on a GPU."""
        keep_one(int(worker.name) % len(self.gpus), self.gpus)


def _started(
    opened: contextlib.ExitStack,
    n_workers: int,
    memory_bytes: int,
    security: Security,
    plugins: Sequence[distributed.WorkerPlugin],
) -> distributed.Client:
    """A client of workers of ``memory_bytes`` each, which end with ``opened``.

    Raises
    ------
    SwimmyError
        When processes end while they start, `MAX_STARTS` times in turn.
    """
    for number in range(1, MAX_STARTS + 1):
        with contextlib.ExitStack() as attempt:
            try:
                cluster = attempt.enter_context(_cluster(n_workers, memory_bytes, security))
                client: distributed.Client = attempt.enter_context(distributed.Client(cluster, set_as_default=False))
                for plugin in plugins:
                    client.register_plugin(plugin)
            except Exception as error:  # Dask raises many types for a process that ends while it starts
                log.debug("start of workers", exc_info=True)
                if number == MAX_STARTS:
                    said = " ".join(str(error).split()).removesuffix(".")
                    raise SwimmyError(
                        f"{counted(n_workers, 'worker processes')} could not be started: {type(error).__name__}: "
                        f"{said}. See what ends processes here, such as a limit of memory or of processes; what is "
                        "done is kept: run the same command again, with fewer --workers if need be."
                    ) from error
                continue
            opened.push(attempt.pop_all())
            break
    return client


def _cluster(n_workers: int, memory_bytes: int, security: Security) -> distributed.LocalCluster:
    return distributed.LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        # Dask itself would not see the limits of all control groups.
        memory_limit=memory_bytes,
        processes=True,
        host="127.0.0.1",
        # Dask's dashboard has no password, and every user of this machine could look at it. A server that has nothing
        # to show remains.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        security=security,
        # Failures come back to the driver, which says what to do; workers need not print them too.
        silence_logs=logging.CRITICAL,
        # As they are now, and not as they were when the first worker started.
        env=dict(os.environ),
    )


@contextlib.contextmanager
def local_workers(
    n_workers: int, memory_bytes: int | None = None, most_bundled: int = MOST_BUNDLED, own_cores: bool = True
) -> Iterator[DaskWorkers]:
    """Worker processes on this machine, which do one task at a time each.

    Scheduler and workers speak TLS with a key that lives as long as they do: other users of the machine cannot reach
    them.

    Parameters
    ----------
    memory_bytes : int, optional
        Of all workers together, by default what this machine grants. One that takes more than its share is replaced.
    most_bundled : int
        The most tasks that are sent to a worker together (see `DaskWorkers`).
    own_cores : bool
        Whether each keeps to its share of the cores (see `OwnCores`).
    """
    total_bytes = usable_memory_bytes() if memory_bytes is None else memory_bytes
    settings = {
        **SETTINGS,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.multiprocessing-method": start_method(),
    }
    with contextlib.ExitStack() as opened:
        hush = opened.enter_context(quiet_end())
        try:
            opened.enter_context(dask.config.set(settings))
            if start_method() == "forkserver":
                _start_importing()
            # What makes the keys does not bear an interruption while it is imported.
            with interrupts_held():
                security = Security.temporary()
            plugins: list[distributed.WorkerPlugin] = [OwnCores(n_workers)] if own_cores else []
            if len(gpus := visible_gpus()) > 1:
                plugins.append(OwnGpu(gpus))
            client = _started(opened, n_workers, total_bytes // n_workers, security, plugins)
            yield DaskWorkers(client, lambda: n_workers, most_bundled=most_bundled)
        except KeyboardInterrupt:
            hush()
            raise
