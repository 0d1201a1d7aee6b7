"""Which executor performs the tasks of a command: this machine's, or that of a site; and by which scorer.

Dask takes a second to import, and what it starts takes longer: both wait until there is work for workers.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swimmy_scale.cluster.gpus import computes_on_gpu
from swimmy_scale.cluster.resources import usable_cores, usable_memory_bytes
from swimmy_scale.cluster.site import Site
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job
from swimmy_scale.method.sections import ScorerChoice, ScorerName, TrainSection
from swimmy_scale.stages.engine import SerialExecutor, Task, Work
from swimmy_scale.stages.lost_workers import attempt, clear_attempts, has_attempts
from swimmy_scale.stages.memory import MemoryLimits, default_worker_bytes
from swimmy_scale.stages.place import Place
from swimmy_scale.stages.scorer_choice import chosen_scorer
from swimmy_scale.storage.receipts import Receipt

if TYPE_CHECKING:
    from swimmy_scale.cluster.fleet import SlurmExecutor

log = logging.getLogger("swimmy_scale")

SECONDS_HERE = 5.0
"""A stage that takes this process less than this is done by it: workers take almost as long to start."""


def scorer_for(asked: ScorerChoice, kept: ScorerName | None, site: Site | None = None) -> ScorerName:
    """The scorer of a command (see `chosen_scorer`): by ``auto`` the GPUs of the site decide, or of this machine."""
    on_gpu = site.on_gpu if site is not None and site.is_slurm else asked == "auto" and computes_on_gpu()
    return chosen_scorer(asked, kept, on_gpu)


def executor_for(
    site: Site | None,
    n_workers: int | None,
    run: Path,
    say: Callable[[str], None],
    with_tensorflow: bool = True,
) -> LocalExecutor | SlurmExecutor:
    """The executor of a site, or without one that of this machine.

    ``n_workers`` and ``with_tensorflow`` count where no site says how many (see `LocalExecutor`). What belongs to batch
    jobs lies in the log of the folder ``run``; ``say`` takes lines for the user.
    """
    if site is not None and site.is_slurm:
        from swimmy_scale.cluster.fleet import SlurmExecutor

        return SlurmExecutor(site, run, say)
    return _here(site, n_workers, with_tensorflow)


def _here(site: Site | None, n_workers: int | None, with_tensorflow: bool) -> LocalExecutor:
    """The executor of this machine, with as many workers as a site for it says, if there is one."""
    return LocalExecutor(site.section.workers if site else n_workers, with_tensorflow=with_tensorflow)


def place_for(
    site: Site | None, n_workers: int | None, job: Job, scorer: ScorerName
) -> tuple[Place, MemoryLimits, int]:
    """Where a job would run, the memory of its worker processes, and the threads of one that scores."""
    if site is None or not site.is_slurm:
        here = _here(site, n_workers, with_tensorflow=job.train is not None or scorer == "keras")
        threads = here.scoring_threads(job.train, scorer)
        on_gpu = scorer == "keras" and computes_on_gpu()
        n_processes = max(here.n_workers, 1)
        return Place("this machine", n_processes, n_processes, threads, on_gpu), here.limits, threads

    def processes(wants_gpu: bool) -> int:
        return sum(group.jobs * group.spec.processes for group in site.groups_for(wants_gpu))

    threads = site.scoring_threads(scorer)
    place = Place(str(site.path), processes(False), processes(True), threads, site.on_gpu)
    return place, site.memory_limits, threads


def default_workers(n_cores: int, memory_bytes: int, with_tensorflow: bool = True) -> int:
    """How many worker processes to start by default: one per core, as far as the memory goes.

    ``with_tensorflow`` says whether one of them may train, or score by Keras.
    """
    needed = [size for what, size in default_worker_bytes().items() if with_tensorflow or what != "TensorFlow"]
    return max(min(n_cores, memory_bytes // max(needed)), 1)


class LocalExecutor:
    """Performs tasks in processes on this machine, which each stage starts for itself; small stages in this process.

    A stage is small if its tasks say that they take seconds (see `Task.seconds`). An object at which this process ends
    in the middle of one is found like any other: the next command leaves the stage to workers.

    Parameters
    ----------
    n_workers : int, optional
        Processes, which do one task at a time each; 0 performs all tasks in this process. By default one per core, as
        far as the memory goes.
    n_cores, memory_bytes : int, optional
        What all of them may use, by default what this machine grants (see `resources`).
    with_tensorflow : bool
        Whether a worker may need TensorFlow, so that by default fewer are started where memory is short.
    seconds_here : float
        The longest that a stage may take this process.
    """

    def __init__(
        self,
        n_workers: int | None = None,
        n_cores: int | None = None,
        memory_bytes: int | None = None,
        with_tensorflow: bool = True,
        seconds_here: float = SECONDS_HERE,
    ) -> None:
        self._n_cores = usable_cores() if n_cores is None else n_cores
        self._memory_bytes = usable_memory_bytes() if memory_bytes is None else memory_bytes
        if n_workers is None:
            n_workers = default_workers(self._n_cores, self._memory_bytes, with_tensorflow)
        self.n_workers, self._seconds_here = n_workers, seconds_here
        each = self._memory_bytes // max(self.n_workers, 1)
        where = f"this machine, with {self.n_workers} worker processes,"
        self.limits = MemoryLimits(each, each, where, "start fewer with --workers")
        self.threads_each = max(self._n_cores // max(self.n_workers, 1), 1)

    def scoring_threads(self, train: TrainSection | None, scorer: ScorerName) -> int:
        """Threads of a scoring process. TensorFlow keeps the number that it has trained with in one process for all."""
        return train.n_threads if self.n_workers == 0 and train and scorer == "keras" else self.threads_each

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Nothing lives longer than a stage."""
        return contextlib.nullcontext()

    def describe(self) -> Mapping[str, Mapping[str, int]]:
        return {}

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        if self.n_workers == 0:
            yield from SerialExecutor().map(work, tasks)
            return
        n_done = 0
        if self._is_small(tasks):
            for receipt in self._here(work, tasks):
                n_done += 1
                yield receipt
        if n_done == len(tasks):
            return
        from swimmy_scale.cluster.local import local_workers

        left = tasks[n_done:]
        n_workers = min(self.n_workers, len(left))
        with local_workers(n_workers, self._memory_bytes, own_cores=work.own_cores) as workers:
            yield from workers.map(work, left)

    def _is_small(self, tasks: Sequence[Task]) -> bool:
        """Whether this process should do them. The first task stands for all: partitions are of one size."""
        if not tasks or len(tasks) * tasks[0].seconds(self._n_cores) > self._seconds_here:
            return False
        return not has_attempts(tasks[0].ledger)

    def _here(self, work: Work, tasks: Sequence[Task]) -> Iterator[Receipt]:
        """Perform tasks in this process, up to one that fails: workers try it again, and can tell why."""
        for task in tasks:
            try:
                receipt = attempt(work.perform, task.with_threads(self._n_cores))
            except SwimmyError:
                raise
            except Exception:
                log.debug(traceback.format_exc())
                return
            yield receipt
        clear_attempts(tasks[0].ledger)

    def map_values(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Apply a function that needs no receipts; results come in the order of ``items``."""
        if self.n_workers == 0:
            yield from map(function, items)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.n_workers, mp_context=context) as pool:
            yield from pool.map(function, items)
