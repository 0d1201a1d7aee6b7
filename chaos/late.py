"""Several nodes on a shared file system that is late: a driver here, workers there, and two drivers at once.

Each node is a process in a mount namespace of its own, where its mount of the file system lies at the same path.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from chaos.lab import Lab, Trial
from chaos.late_files import LateFiles, mount
from chaos.power import needs_mounts
from chaos.records import Outcome
from chaos.scenes import RUN, Scene, lay_out
from swimmy_scale.cli.progress import Watch
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.stages.engine import SerialExecutor, Task, Work
from swimmy_scale.stages.run import Run, run_job
from swimmy_scale.storage.receipts import Receipt
from swimmy_scale.storage.run_directory import RunDirectory

MOST_SECONDS = 1.5
TRIES, SECONDS_BETWEEN_TRIES = 3, 1.0
NODES = 3
SECONDS = 180.0


def needs_fuse() -> str:
    """Why no such file system can be mounted here; empty if it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    return needs_mounts()


@contextmanager
def nodes(lab: Lab, shares_locks: bool, only_asked: bool, seed: int) -> Iterator[list[Path]]:
    """The mounts of a file system that a process of its own serves."""
    places = [lab.place / f"node-{number}" for number in range(NODES)]
    devices = []
    for place in places:
        place.mkdir(exist_ok=True)
        devices.append(mount(place))
    server = os.fork()
    if not server:
        files = LateFiles(NODES, MOST_SECONDS, shares_locks, only_asked, seed)
        serving = [threading.Thread(target=files.serve, args=pair) for pair in enumerate(devices)]
        for thread in serving:
            thread.start()
        for thread in serving:
            thread.join()
        os._exit(0)
    for device in devices:
        os.close(device)
    try:
        yield places
    finally:
        for place in places:
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, 9)
        os.waitpid(server, 0)


def _at_node(place: Path, shared: Path) -> Callable[[], None]:
    """In a child: see the file system at the shared path as one node does."""

    def enter() -> None:
        os.unshare(os.CLONE_NEWNS)
        subprocess.run(["mount", "--bind", place, shared], check=True)

    return enter


class Elsewhere(SerialExecutor):
    """Has each task performed on another node, and again if it fails, as the cluster does."""

    def __init__(self, others: Sequence[Connection]) -> None:
        self._others = others

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        """Perform every task once."""
        for number, task in enumerate(tasks):
            yield self._perform(work, task, number)

    def _perform(self, work: Work, task: Task, number: int) -> Receipt:
        for attempt in range(TRIES):
            node = self._others[(number + attempt) % len(self._others)]
            node.send((work.perform, task))
            receipt, error = node.recv()
            if receipt is not None:
                found: Receipt = receipt
                return found
            time.sleep(SECONDS_BETWEEN_TRIES)
        raise RuntimeError(f"{task.ledger.stage} {task.name} failed {TRIES} times, last with {error}")


def _work(place: Path, shared: Path, driver: Connection) -> None:
    """A worker on another node."""
    _at_node(place, shared)()
    os.environ["SLURM_JOB_ID"] = "2"
    with contextlib.suppress(EOFError):
        while True:
            perform, task = driver.recv()
            try:
                driver.send((perform(task), ""))
            except Exception as error:
                driver.send((None, f"{type(error).__name__}: {error}"[:400]))


def _drive(place: Path, shared: Path, workers: list[Connection], said: Connection) -> None:
    """The driver, on its node."""
    _at_node(place, shared)()
    # It waits for receipts of other nodes where it knows that there are some.
    os.environ["SLURM_JOB_ID"] = "1"
    job = load_job(shared / "folder/model.yaml", Job)
    try:
        with Watch() as watch:
            run_job(Run(RunDirectory(shared / "folder/run"), job, 1), Elsewhere(workers), watch)
        said.send("")
    except BaseException:
        said.send(traceback.format_exc()[-800:])


def files(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Workers on other nodes, readers on another node, or two drivers on two nodes, with one lock or with two."""
    sort = (_workers, _readers, _drivers)[k % 3]
    shares_locks, only_asked = sort is not _drivers or k // 3 % 2 == 0, k // 6 % 2 == 0
    shared = lab.place / "mounted"
    shared.mkdir(exist_ok=True)
    outcome = Outcome()
    which = "names that were looked for are late" if only_asked else "all names are late"
    outcome.counts[f"{sort.__name__.strip('_')}{'' if shares_locks else ', each with locks of its own'}: {which}"] += 1
    RUN.expected(lab)
    with nodes(lab, shares_locks, only_asked, rnd.getrandbits(32)) as places:
        subprocess.run(["mount", "--bind", places[0], shared], check=True)
        try:
            folder = shared / "folder"
            folder.mkdir()
            lay_out(lab, folder)
            time.sleep(MOST_SECONDS)
            sort(lab, outcome, places, shared, rnd)
            if not shares_locks:
                # Nothing is promised while two drivers do not see each other, but that it can be put right.
                outcome.counts["drivers without a common lock, one of which ended badly"] += bool(outcome.failures)
                outcome.failures.clear()
            time.sleep(MOST_SECONDS)
            details = {"sort": sort.__name__, "shares_locks": shares_locks, "only_asked": only_asked}
            RUN.judge(lab, outcome, folder, details)
        finally:
            subprocess.run(["umount", "-l", shared], check=False, capture_output=True)
    outcome.failures = outcome.failures[:1]
    return outcome


def _workers(lab: Lab, outcome: Outcome, places: list[Path], shared: Path, rnd: random.Random) -> None:
    """A driver on one node has its tasks performed on two others."""
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in places[1:]]
    said, tells = context.Pipe()
    workers: list[Any] = [
        context.Process(target=_work, args=(place, shared, there))
        for place, (_, there) in zip(places[1:], pairs, strict=True)
    ]
    driver = context.Process(target=_drive, args=(places[0], shared, [here for here, _ in pairs], tells))
    for process in (*workers, driver):
        process.start()
    answered = said.poll(SECONDS)
    text = said.recv() if answered else "no answer"
    outcome.expect(not text, "a run whose workers are on other nodes fails", said=text)
    for process in (*workers, driver):
        process.kill()
        process.join()


def _readers(lab: Lab, outcome: Outcome, places: list[Path], shared: Path, rnd: random.Random) -> None:
    """A driver here; on another node somebody asks how far it is, and whether all is well."""
    folder = shared / "folder"
    driver = lab.start(*RUN.words(lab, folder), before=_at_node(places[0], shared), log="driver")
    while driver.wait(rnd.uniform(0, 0.4)) is None:
        words = rnd.choice([("status",), ("status", "--json"), ("verify",)])
        reader = lab.run(words[0], folder / "run", *words[1:], before=_at_node(places[1], shared), log="reader")
        outcome.expect(not reader.faults, f"{words[0]} on another node ends badly", faults=reader.faults)
    _ends(outcome, driver, RUN)


def _drivers(lab: Lab, outcome: Outcome, places: list[Path], shared: Path, rnd: random.Random) -> None:
    """Two drivers on two nodes."""
    folder = shared / "folder"
    trials = []
    for number in range(2):
        time.sleep(rnd.choice([0.0, rnd.uniform(0, RUN.seconds(lab))]) if number else 0)
        before = _at_node(places[number], shared)
        trials.append(lab.start(*RUN.words(lab, folder), before=before, log=f"driver-{number}"))
    done = [_ends(outcome, trial, RUN) for trial in trials]
    outcome.counts["two drivers that both came to an end"] += all(done)


def _ends(outcome: Outcome, trial: Trial, scene: Scene) -> bool:
    """Whether it came to its end; else it says in one line why."""
    if trial.wait(SECONDS) is None:
        trial.kill(whole_session=True)
    outcome.expect(not trial.faults, "a driver ends badly", faults=trial.faults, said=trial.text[-500:])
    return trial.status == scene.ends
