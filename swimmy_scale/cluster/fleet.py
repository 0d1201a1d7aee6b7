"""Worker jobs on a SLURM cluster: as many as each group needs, replaced when they are lost."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import dask
import distributed

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.mapping import DaskWorkers
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.quiet_end import quiet_end
from swimmy_scale.cluster.scripts import CLUSTER_SETTINGS, resource, write_scripts
from swimmy_scale.cluster.site import Group, Site
from swimmy_scale.cluster.tls import tls_files
from swimmy_scale.cluster.versions import fitting_version
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sections import ScorerName, TrainSection
from swimmy_scale.stages.engine import Task, Work
from swimmy_scale.stages.memory import MemoryLimits
from swimmy_scale.storage.files import write_atomically
from swimmy_scale.storage.receipts import Receipt

log = logging.getLogger("swimmy_scale")

# The run stops after this many jobs of a group in a row that ended before a worker of the group connected.
MAX_DEAD_ON_ARRIVAL = 3
# A job that Slurm says runs, but whose workers Dask has lost for this long, is on a hung node: it is given up.
SECONDS_UNTIL_LOST = 60.0
# How long Slurm may be silent, and how long no more jobs are submitted after one was refused.
SECONDS_OF_PATIENCE = 900.0
SECONDS_AFTER_REFUSAL = 60.0
# How long the end of a run waits for the watch. Slurm kills a cancelled driver soon after it has asked it to go.
JOIN_SECONDS = 5.0
TAIL_LINES = 15


@dataclass
class WorkerJob:
    """One worker job that was submitted. Times are those of the fleet's clock."""

    started: float | None = None  # when it was first seen to run
    seen: float | None = None  # when one of its workers was last connected


@dataclass
class GroupState:
    """A group of workers and the state of its jobs."""

    group: Group
    wanted: int = 0
    jobs: dict[str, WorkerJob] = field(default_factory=dict)
    n_dead_on_arrival: int = 0
    n_replaced: int = 0
    n_pending: int = 0
    n_connected: int = 0
    refused_at: float | None = None


class Commands(Protocol):
    """Slurm's commands, as the module `slurm` has them."""

    def submit(self, script: Path, options: Sequence[str] = ()) -> str: ...

    def queued(self, prefix: str) -> dict[str, slurm.QueuedJob]: ...

    def cancel(self, job_ids: Iterable[str]) -> None: ...


class Fleet:
    """Keeps the worker jobs of a site alive; use as a context manager.

    Parameters
    ----------
    connected : callable
        Returns the names of the workers that the scheduler knows.
    clock : callable, optional
        Seconds that never go back.
    """

    def __init__(
        self,
        site: Site,
        places: Places,
        connected: Callable[[], set[str]],
        commands: Commands = slurm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site, self._places, self._connected = site, places, connected
        self._slurm, self._clock = commands, clock
        self._groups = {group.name: GroupState(group) for group in site.groups}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._error: SwimmyError | None = None
        self._thread = threading.Thread(target=self._watch, name="fleet", daemon=True)

    def __enter__(self) -> Self:
        """Remove what an earlier driver left in the queue, then watch."""
        with contextlib.suppress(slurm.SlurmError):
            self._slurm.cancel(self._slurm.queued(f"{self._places.tag}-"))
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Cancel all worker jobs."""
        self._ended.set()
        self._thread.join(JOIN_SECONDS)
        # A watch that still waits for Slurm may change these meanwhile: each is copied in one step.
        known = {job for state in self._groups.values() for job in list(state.jobs)}
        try:
            # And those in the queue: a job whose number got lost on the way is ours as well.
            self._slurm.cancel(known | set(self._slurm.queued(f"{self._places.tag}-")))
        except slurm.SlurmError as error:
            log.warning(f"worker jobs could not be cancelled: {error}. They leave by themselves within minutes.")

    def want(self, groups: tuple[Group, ...], n_tasks: int) -> None:
        """Have workers of these groups for ``n_tasks`` tasks, and none of other groups."""
        with self._lock:
            for state in self._groups.values():
                jobs = math.ceil(n_tasks / state.group.spec.processes)
                state.wanted = min(state.group.jobs, jobs) if state.group in groups else 0
            try:
                # Here, and not in the thread, so that the user hears of the first refusal at once.
                self._reconcile()
            except slurm.SlurmBusyError as error:
                log.warning(f"{error}; worker jobs are submitted when it answers")

    def n_workers(self, groups: tuple[Group, ...]) -> int:
        """Worker processes of these groups, connected or on their way."""
        return sum(self._groups[group.name].wanted * group.spec.processes for group in groups)

    def check(self) -> None:
        """Raise the error that ended the watch: nothing would replace lost jobs any more."""
        if self._error is not None:
            raise self._error

    def describe(self) -> dict[str, dict[str, int]]:
        """For each group in use: jobs wanted, pending and running, worker processes connected, jobs replaced."""
        return {
            name: {
                "wanted": state.wanted,
                "pending": state.n_pending,
                "running": len(state.jobs) - state.n_pending,
                "connected": state.n_connected,
                "replaced": state.n_replaced,
            }
            for name, state in self._groups.items()
            if state.wanted or state.jobs
        }

    def _watch(self) -> None:
        answered = self._clock()
        while not self._ended.wait(self._site.section.poll_seconds):
            try:
                with self._lock:
                    self._reconcile()
                answered = self._clock()
            except slurm.SlurmBusyError as error:
                # A busy slurmctld is no reason to give up; the next look comes soon.
                log.warning(str(error))
                if self._clock() - answered > SECONDS_OF_PATIENCE:
                    self._error = error
                    return
            except SwimmyError as error:
                self._error = error
                return
            except Exception as error:
                # Without this thread nothing would be replaced, and the run would wait for ever.
                log.debug("fleet", exc_info=True)
                self._error = SwimmyError(
                    f"the watch over worker jobs failed with {type(error).__name__}: {error}. Run the command again."
                )
                return

    def _reconcile(self) -> None:
        queue = self._slurm.queued(f"{self._places.tag}-")
        connected = self._connected()
        for state in self._groups.values():
            for job_id, job in queue.items():
                # An sbatch that timed out may have been heard all the same.
                if job.name == self._places.job_name(state.group.name) and job.state != "COMPLETING":
                    state.jobs.setdefault(job_id, WorkerJob())
            self._look(state, queue, connected)
            self._fill(state)
            if not state.wanted and state.jobs:
                self._slurm.cancel(state.jobs)
                state.jobs.clear()

    def _fill(self, state: GroupState) -> None:
        now = self._clock()
        if state.refused_at is not None and now - state.refused_at < SECONDS_AFTER_REFUSAL and state.jobs:
            return
        for _ in range(state.wanted - len(state.jobs)):
            if self._ended.is_set():
                return
            try:
                state.jobs[self._slurm.submit(self._places.log.script(state.group.name))] = WorkerJob()
                state.refused_at = None
            except slurm.SlurmBusyError:
                raise
            except slurm.SlurmError as error:
                # With fewer jobs than wanted, as under a limit for each user, the work still gets done.
                if not state.jobs:
                    raise
                if state.refused_at is None:
                    log.warning(f"group {state.group.name}: {len(state.jobs)} of {state.wanted} jobs for now: {error}")
                state.refused_at = now
                return

    def _look(self, state: GroupState, queue: dict[str, slurm.QueuedJob], connected: set[str]) -> None:
        """Forget jobs that ended, give up those that hang, stop when the group's jobs are dead on arrival."""
        now = self._clock()
        state.n_pending = state.n_connected = 0
        for job_id, job in list(state.jobs.items()):
            pattern = re.compile(rf"{re.escape(state.group.name)}-{job_id}(-\d+)?")
            n_connected = sum(pattern.fullmatch(name) is not None for name in connected)
            state.n_connected += n_connected
            if n_connected:
                job.seen, state.n_dead_on_arrival = now, 0
            found = queue.get(job_id)
            if found is None or found.state == "COMPLETING":
                self._lose(state, job_id, job)
            elif found.is_hopeless:
                raise SwimmyError(
                    f"group {state.group.name}: job {job_id} will never start, Slurm says {found.reason}. "
                    f"Correct {self._site.path} and run again."
                )
            elif not found.is_running:
                state.n_pending += 1
            else:
                job.started = job.started or now
                since = now - (job.seen or job.started)
                limit = SECONDS_UNTIL_LOST if job.seen else state.group.spec.death_timeout + SECONDS_UNTIL_LOST
                if since > limit:
                    log.warning(
                        f"group {state.group.name}: job {job_id} runs, and no worker of it was connected for "
                        f"{limit:.0f} s; it is replaced. Raise death-timeout where nodes start slowly."
                    )
                    self._slurm.cancel([job_id])
                    self._lose(state, job_id, job)
        if state.n_dead_on_arrival >= MAX_DEAD_ON_ARRIVAL and state.n_connected == 0:
            raise SwimmyError(
                f"group {state.group.name}: {state.n_dead_on_arrival} jobs in a row ended before a worker connected. "
                f"The end of the last one's log:\n{self._tail(state.group.name)}\nCorrect {self._site.path} (its "
                "python, prologue, memory) and run again."
            )

    def _lose(self, state: GroupState, job_id: str, job: WorkerJob) -> None:
        del state.jobs[job_id]
        if state.wanted:
            state.n_replaced += 1
            # A job that was cancelled while pending has no log; one that came and went between two looks has.
            its_log = self._places.log.workers / f"{state.group.name}-{job_id}.log"
            if job.seen is None and (job.started or its_log.exists()):
                state.n_dead_on_arrival += 1

    def _tail(self, group: str) -> str:
        logs = sorted(self._places.log.workers.glob(f"{group}-*.log"), key=lambda path: path.stat().st_mtime_ns)
        # One that has just been made is still empty.
        texts = filter(None, (path.read_text(errors="replace").strip() for path in reversed(logs)))
        lines = next(texts, "(it is empty)").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines)


def _names(workers: dict[str, Any]) -> set[str]:
    # The scheduler changes the mapping in another thread; its own iterators do not survive that, a plain copy does.
    return {str(worker.name) for worker in dict.copy(workers).values()}


class SlurmExecutor:
    """Performs tasks in batch jobs: while it is open, this process has a scheduler, and worker jobs around it.

    Scheduler, workers and client speak TLS with keys that only this user can read and that end with the driver.

    Parameters
    ----------
    run : Path
        The folder whose log holds scripts, keys and logs.
    say : callable
        Told how to see the dashboard.
    """

    def __init__(self, site: Site, run: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self._site, self._places, self._say = site, Places(run), say
        self._fleet: Fleet | None = None
        self._client: distributed.Client | None = None

    @property
    def limits(self) -> MemoryLimits:
        """Memory of a worker process."""
        return self._site.memory_limits

    def scoring_threads(self, train: TrainSection | None, scorer: ScorerName) -> int:
        """Threads of a scoring process, whatever training has."""
        return self._site.scoring_threads(scorer)

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """A scheduler and the watch over worker jobs; at the end all of them are gone.

        Raises
        ------
        SwimmyError
            When this node has no network interface of the site's name.
        """
        log = self._places.log
        write_scripts(self._site, self._places)
        with (
            quiet_end() as hush,
            dask.config.set(CLUSTER_SETTINGS),
            tls_files(log.tls) as security,
            distributed.LocalCluster(
                n_workers=0,
                host=_address(self._site),
                protocol="tls://",
                security=security,
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": self._site.section.dashboard},
                silence_logs=logging.CRITICAL,
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            scheduler = cluster.scheduler
            write_atomically(log.scheduler, json.dumps({"address": cluster.scheduler_address}).encode())
            try:
                with Fleet(self._site, self._places, lambda: _names(scheduler.workers)) as self._fleet:
                    self._client = client
                    if self._site.section.dashboard:
                        self._say(f"dashboard: {dashboard_help(cluster.dashboard_link)}")
                    yield
            except KeyboardInterrupt:
                hush()
                raise
            finally:
                # The fleet stays: what became of its jobs belongs to the last record of progress.
                self._client = None
                log.scheduler.unlink(missing_ok=True)

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        """Perform tasks and yield receipts as they come: those that run the network on GPU workers, if there are any.

        Raises
        ------
        SwimmyError
            When Slurm refuses a job, when a group's jobs end before they connect, and see `DaskWorkers.map`.
        """
        if self._fleet is None or self._client is None:
            raise RuntimeError("the executor is not open")
        fleet, groups = self._fleet, self._site.groups_for(work.wants_gpu)
        fleet.want(groups, len(tasks))
        workers = DaskWorkers(self._client, lambda: fleet.n_workers(groups), resource(groups[0]), fleet.check)
        yield from workers.map(work, tasks)

    def describe(self) -> Mapping[str, Mapping[str, int]]:
        return {} if self._fleet is None else self._fleet.describe()


def _address(site: Site) -> str:
    interface = site.section.scheduler_interface
    with fitting_version("distributed"):
        from distributed.utils import get_ip, get_ip_interface
    try:
        return str(get_ip_interface(interface) if interface else get_ip())
    except ValueError as error:
        raise SwimmyError(
            f"{site.path}: scheduler-interface {interface}: not on {socket.gethostname()} ({error}). Name one that the "
            "driver's node has."
        ) from error


def dashboard_help(link: str) -> str:
    """How to see the dashboard, which listens on this node's loopback address alone."""
    port = match.group(1) if (match := re.search(r":(\d+)/", link)) else "8787"
    host = socket.gethostname()
    return f"ssh -L 8787:127.0.0.1:{port} {host}, then open http://127.0.0.1:8787/status"
