"""Which executor and which scorer a command takes; stages that are seconds of work, and what happens when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swimmy_scale.cluster import executors
from swimmy_scale.cluster.executors import LocalExecutor, executor_for, scorer_for
from swimmy_scale.cluster.fleet import SlurmExecutor
from swimmy_scale.cluster.site import parse_site
from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.engine import Task
from swimmy_scale.stages.lost_workers import has_attempts, left_out
from swimmy_scale.storage.receipts import Ledger, Receipt

pytestmark = pytest.mark.timeout(120)

SLURM = "{{jobqueue: {{driver: {{}}, a: {{}}, b: {{}}}}, swimmy-scale: {{kind: slurm, groups: {groups}}}}}"


@pytest.mark.parametrize(
    ("groups", "scorer"),
    [
        ("{a: {jobs: 1}, b: {jobs: 1}}", "numba"),
        ("{a: {jobs: 1}, b: {jobs: 1, gpus: 1}}", "keras"),
        ("{a: {jobs: 1, gpus: 1}, b: {jobs: 1, gpus: 1}}", "keras"),
    ],
)
@pytest.mark.parametrize("gpu_here", [True, False])
def test_the_groups_of_a_site_decide_and_not_this_machine(
    monkeypatch: pytest.MonkeyPatch, groups: str, scorer: str, gpu_here: bool
) -> None:
    monkeypatch.setattr(executors, "computes_on_gpu", lambda: gpu_here)
    site = parse_site(SLURM.format(groups=groups), Path("site.yaml"))
    assert site.section.scorer == "auto"
    assert scorer_for("auto", None, site) == scorer
    assert scorer_for("auto", "numba", site) == scorer_for("numba", "keras", site) == "numba"


def test_this_machine_decides_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    local = parse_site("swimmy-scale: {kind: local}", Path("site.yaml"))
    for gpu_here, scorer in ((True, "keras"), (False, "numba")):
        monkeypatch.setattr(executors, "computes_on_gpu", lambda gpu_here=gpu_here: gpu_here)
        assert scorer_for("auto", None, local) == scorer_for("auto", None) == scorer


def test_executors(tmp_path: Path) -> None:
    site = parse_site(SLURM.format(groups="{a: {jobs: 1}, b: {jobs: 1, gpus: 1}}").replace("b: {}", "b: {cores: 8}"),
                      Path("site.yaml"))  # fmt: skip
    slurm = executor_for(site, None, tmp_path, print)
    assert isinstance(slurm, SlurmExecutor)
    assert (slurm.scoring_threads(None, "keras"), slurm.scoring_threads(None, "numba")) == (8, 1)
    local = parse_site("swimmy-scale: {kind: local, workers: 7}", Path("site.yaml"))
    assert "with 7 worker processes" in executor_for(local, None, tmp_path, print).limits.where
    assert "with 3 worker processes" in executor_for(None, 3, tmp_path, print).limits.where


# ---------------------------------------------------------------- small stages


@dataclass(frozen=True)
class Counted(Task):
    """A task that says how long it takes, and with how many threads it was done."""

    core_seconds: float = 0.0
    n_threads: int = 1

    def seconds(self, n_threads: int) -> float:
        return self.core_seconds / n_threads

    def with_threads(self, n_threads: int) -> Counted:
        return Counted(self.ledger, self.index, self.identity, self.n_objects, self.core_seconds, n_threads)


def tasks_in(folder: Path, core_seconds: float = 0.0, n_tasks: int = 3) -> list[Counted]:
    ledger = Ledger(folder / "receipts", folder, "count")
    return [Counted(ledger, index, str(index), 16, core_seconds) for index in range(n_tasks)]


def succeed(task: Counted) -> Receipt:
    return Receipt("count", task.name, task.identity, details={"process": os.getpid(), "n_threads": task.n_threads})


@dataclass
class Work:
    """As much of a stage as executors need."""

    perform: Callable[[Any], Receipt]
    probe: Callable[[Any, int, int], None] | None = None
    wants_gpu: bool = False
    own_cores: bool = True


def performed(executor: LocalExecutor, work: Work, tasks: list[Counted]) -> list[dict[str, Any]]:
    """The details of the receipts, in the order of the tasks."""
    return [dict(receipt.details) for receipt in sorted(executor.map(work, tasks), key=lambda receipt: receipt.name)]


def test_no_worker_processes_means_this_process(tmp_path: Path) -> None:
    for core_seconds in (0.0, 1e9):
        found = performed(LocalExecutor(0, n_cores=4), Work(succeed), tasks_in(tmp_path, core_seconds))
        assert found == [{"process": os.getpid(), "n_threads": 1}] * 3, "the tasks as they are"


@pytest.mark.slow
def test_seconds_of_work_are_done_here_by_all_cores(tmp_path: Path) -> None:
    here = performed(LocalExecutor(2, n_cores=4, seconds_here=3.0), Work(succeed), tasks_in(tmp_path, 4.0))
    assert here == [{"process": os.getpid(), "n_threads": 4}] * 3
    there = performed(LocalExecutor(2, n_cores=4, seconds_here=3.0), Work(succeed), tasks_in(tmp_path, 4.1))
    assert os.getpid() not in {details["process"] for details in there}
    assert {details["n_threads"] for details in there} == {1}
    assert not has_attempts(tasks_in(tmp_path)[0].ledger)


def test_tasks_that_do_not_say_go_to_workers(tmp_path: Path) -> None:
    task = Task(Ledger(tmp_path / "receipts", tmp_path, "count"), 0, "0", 1)
    assert task.seconds(64) > 1e9
    assert task.with_threads(5) is task


def test_no_tasks() -> None:
    assert list(LocalExecutor(2).map(Work(succeed), [])) == []


def fail_here(task: Counted) -> Receipt:
    """Task 1 fails in the process that the tests run in."""
    if task.index == 1 and (task.ledger.root / "driver").read_text() == str(os.getpid()):
        raise OSError("the disk is away")
    return succeed(task)


def fail_always(task: Counted) -> Receipt:
    raise OSError("the disk is away")


def refuse(task: Counted) -> Receipt:
    raise SwimmyError(f"cutouts.zarr: no such file (process {os.getpid()}). Check the path.")


@pytest.mark.slow
def test_what_fails_here_is_tried_again_by_workers(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text(str(os.getpid()))
    found = performed(LocalExecutor(2), Work(fail_here), tasks_in(tmp_path))
    assert [details["process"] == os.getpid() for details in found] == [True, False, False]
    with pytest.raises(SwimmyError, match=r"count 000000 failed 3 times, last with OSError: the disk is away"):
        performed(LocalExecutor(1), Work(fail_always), tasks_in(tmp_path))
    assert not has_attempts(tasks_in(tmp_path)[0].ledger)


def test_a_refusal_needs_no_workers(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=rf"no such file \(process {os.getpid()}\)"):
        performed(LocalExecutor(2), Work(refuse), tasks_in(tmp_path))


DEADLY = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_executors import LocalExecutor, Work, tasks_in, touch_all, touch

list(LocalExecutor(2).map(Work(touch_all, touch), tasks_in(Path({place!r}))))
"""


def touch(task: Counted, lo: int, hi: int) -> None:
    """Ends the process at object 5 of task 1."""
    if task.index == 1 and 5 in {*range(lo, hi)} - {*left_out(task.ledger, task.name)}:
        os.kill(os.getpid(), 9)


def touch_all(task: Counted) -> Receipt:
    touch(task, 0, task.n_objects)
    return succeed(task)


@pytest.mark.slow
def test_an_object_that_ends_this_process_is_found_by_the_next_command(tmp_path: Path) -> None:
    """The first command dies of it, as any program would; given again, it leaves the stage to workers."""
    code = DEADLY.format(folder=str(Path(__file__).parent), place=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    ledger = tasks_in(tmp_path)[0].ledger
    assert has_attempts(ledger)
    found = performed(LocalExecutor(2), Work(touch_all, touch), tasks_in(tmp_path))
    assert len(found) == 3
    assert os.getpid() not in {details["process"] for details in found}
    assert left_out(ledger, "000001") == [5]
    assert not has_attempts(ledger)
