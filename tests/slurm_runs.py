"""Runs that are submitted to a throw-away Slurm, and a gate at which their tasks wait while something happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from slurm_cluster import Job, Slurm
from survey_runs import assert_same_results, call_here

from swimmy_scale.cluster.places import Places

STAGES_WITH_GATES = {"ingest": ("ingest_partition", "ingest_partition"), "score": ("score", "score_partition")}
"""Module and name of what performs a task of the stage."""
# Dask loads this into workers, and before that into the processes that watch them, which do no tasks.
GATE = """
import functools
import importlib
import os
import time
from pathlib import Path

JOB = os.environ["SLURM_JOB_ID"]

def behind_gate(perform, gate):
    waits, may_pass = gate / f"{{JOB}}-waits", gate / f"{{JOB}}-may-pass"

    @functools.wraps(perform)
    def wrapped(task):
        waits.write_text(str(task.index))
        while not (gate / "open").exists() or (gate / f"{{JOB}}-stays").exists():
            if may_pass.exists():
                waits.unlink()
                try:
                    may_pass.unlink()
                    break
                except FileNotFoundError:  # the permission was taken back
                    waits.write_text(str(task.index))
            time.sleep(0.1)
        waits.unlink(missing_ok=True)
        return perform(task)

    return wrapped

def dask_setup(worker):
    for stage, (home, name) in {stages}.items():
        module = importlib.import_module(f"swimmy_scale.stages.{{home}}")
        setattr(module, name, behind_gate(getattr(module, name), Path({folder!r}) / stage))
"""


class Gate:
    """Where tasks of the stages `ingest` and `score` wait: workers hold them until the test lets them pass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for stage in STAGES_WITH_GATES:
            (folder / stage).mkdir(parents=True)
        self.preload = folder / "gate.py"
        self.preload.write_text(GATE.format(stages=STAGES_WITH_GATES, folder=str(folder)))

    def waiting(self, stage: str) -> dict[str, int]:
        """Jobs whose worker is at the gate, and the index of the task that it has; also of jobs that died there."""
        found = {}
        for path in (self.folder / stage).glob("*-waits"):
            try:
                found[path.name.removesuffix("-waits")] = int(path.read_text())
            except (FileNotFoundError, ValueError):  # it has just gone on, or is just coming
                continue
        return found

    def let_pass(self, stage: str, jobs: Iterable[str]) -> None:
        """Let one task of each job pass."""
        for job in jobs:
            (self.folder / stage / f"{job}-may-pass").touch()

    def close(self, stage: str) -> None:
        """Take back what `let_pass` allowed and nobody used."""
        for path in (self.folder / stage).glob("*-may-pass"):
            path.unlink(missing_ok=True)

    def open(self, *stages: str, stays: str | None = None) -> None:
        """Let all tasks of stages pass, except those of the job that stays."""
        for stage in stages or STAGES_WITH_GATES:
            if stays is not None:
                (self.folder / stage / f"{stays}-stays").touch()
            (self.folder / stage / "open").touch()


def write_site(
    folder: Path, gate: Gate | None = None, gpu: bool = False, n_jobs: int = 2, **sections: dict[str, Any]
) -> Path:
    """A site file; ``sections`` extend the jobs of their names. Without ``gpu`` there is no Keras in scoring."""
    names = ("cpu", "gpu") if gpu else ("cpu",)
    jobs: dict[str, dict[str, Any]] = {
        "slurm": {"memory": "3GiB", "walltime": "00:20:00", "death-timeout": 30},
        "driver": {"queue": "cpu"},
        **{name: {"queue": name} for name in names},
    }
    for name, section in sections.items():
        jobs[name] |= section
    if gate is not None:
        for name in names:
            jobs[name]["worker-extra-args"] = ["--preload", str(gate.preload)]
    groups: dict[str, dict[str, int]] = {"cpu": {"jobs": n_jobs}}
    if gpu:
        groups["gpu"] = {"jobs": 1, "gpus": 1}
    site = {"kind": "slurm", "groups": groups, "poll-seconds": 0.5, "scorer": "keras" if gpu else "numba"}
    site["dashboard"] = True
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"jobqueue": jobs, "swimmy-scale": site}))
    return path


@dataclass
class Submitted:
    """A run that is submitted at a site; its directory is ``run`` beside the site file."""

    slurm: Slurm
    job: Path
    site: Path
    gate: Gate
    job_ids: list[str] = field(default_factory=list)  # of its drivers

    @property
    def run(self) -> Path:
        return self.site.parent / "run"

    @property
    def places(self) -> Places:
        return Places(self.run)

    def submit(self, *options: object) -> None:
        """Submit its drivers, or refuse; a run that has ended goes on."""
        done = call_here("submit", self.job, "--output", self.run, "--site", self.site, *options)
        assert done.returncode == 0, done.stderr
        self.job_ids = done.stdout.split()

    # --- what is there ---

    def jobs(self, group: str | None = None) -> list[Job]:
        """Jobs of the run: the drivers', or a group's."""
        name = self.places.job_name(group) if group else self.places.tag
        return [job for job in self.slurm.jobs() if job.name == name]

    def running(self, group: str | None = None) -> set[str]:
        return {job.job_id for job in self.jobs(group) if job.state == "RUNNING"}

    def progress(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.places.log.progress).read_text())
        return content

    def receipts(self, stage: str = "ingest") -> dict[int, Path]:
        """Receipts of finished tasks, by index."""
        return {int(path.stem): path for path in (self.run / "receipts" / stage).glob("0*.json")}

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.places.log.path.glob("driver-*.log")))

    def has_ended(self) -> bool:
        return not [job for job in self.slurm.jobs() if job.name.startswith(self.places.tag)]

    # --- waiting ---

    def wait_until(self, predicate: Callable[[], object], what: str, timeout_s: float = 90) -> None:
        try:
            self.slurm.wait_until(predicate, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\nThe log of the drivers:\n{self.log()}") from None

    def wait_for_states(self, job_ids: Collection[str], state: str, what: str) -> None:
        def found() -> dict[str, str]:
            return {job_id: self.slurm.job_state(job_id) for job_id in job_ids}

        self.wait_until(lambda: {*found().values()} == {state}, f"{what}: jobs {[*job_ids]} are {state}")

    def at_gate(self, n_jobs: int, what: str, stage: str = "ingest", but: Collection[str] = ()) -> dict[str, int]:
        """Wait until as many living jobs, none of them ``but``, are at the gate; these, and their tasks."""

        found: dict[str, int] = {}

        def come() -> bool:
            waiting = {job: task for job, task in self.gate.waiting(stage).items() if job not in but}
            if len(waiting) < n_jobs:
                return False
            living = {job.job_id for job in self.slurm.jobs("RUNNING")}
            found.clear()
            found.update((job, waiting[job]) for job in sorted(waiting) if job in living)
            return len(found) >= n_jobs

        self.wait_until(come, what)
        return found

    def _let_pass_until(self, predicate: Callable[[], object], what: str, stage: str) -> None:
        """Let workers pass, one task at a time."""

        def passing() -> bool:
            if predicate():
                return True
            self.gate.let_pass(stage, self.gate.waiting(stage))
            return False

        self.wait_until(passing, what)
        self.gate.close(stage)

    def do(self, tasks: set[int], what: str, stage: str = "ingest") -> None:
        """Let workers pass until these tasks are done."""
        self._let_pass_until(lambda: tasks <= {*self.receipts(stage)}, f"{what}: tasks {tasks} of {stage} done", stage)

    def do_more(self, what: str, stage: str = "ingest") -> None:
        """Let workers pass until one task more is done."""
        n_tasks = len(self.receipts(stage)) + 1
        self._let_pass_until(lambda: len(self.receipts(stage)) >= n_tasks, f"{what}: {n_tasks} of {stage} done", stage)

    def wait(self, timeout_s: float = 180) -> None:
        self.wait_until(self.has_ended, f"the run {self.run} and all its jobs ended", timeout_s)

    def assert_complete(self, serial: Path) -> None:
        """Everything is there and equals the serial run, and nothing is left over."""
        self.wait()
        assert (self.run / "summary.json").is_file(), self.log()
        summary = json.loads((self.run / "summary.json").read_text())
        assert summary["given"] == summary["scored"] + summary["quarantined"] == 160
        assert_same_results(self.run, serial)
        assert not self.places.log.tls.exists()
        assert not self.places.log.scheduler.exists()
        assert self.progress()["state"] == "finished"

    def cancel(self) -> None:
        """Cancel what is left of it."""
        for job in self.slurm.jobs():
            if job.name.startswith(self.places.tag):
                self.slurm.cancel(job.job_id)
