"""The fleet against a Slurm that does what a test says, in no time; a real one would take minutes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.fleet import MAX_DEAD_ON_ARRIVAL, Fleet, SlurmExecutor
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.scripts import CLUSTER_SETTINGS
from swimmy_scale.cluster.site import Site, parse_site
from swimmy_scale.errors import SwimmyError

TEXT = """\
jobqueue:
  driver: {}
  cpu: {cores: 4, processes: 2}
  gpu: {death-timeout: 30}
swimmy-scale:
  kind: slurm
  groups: {cpu: {jobs: 3}, gpu: {jobs: 1, gpus: 1}}
  poll-seconds: 0.2
"""


class FakeSlurm:
    """Its jobs start, end and connect when a test says so."""

    def __init__(self) -> None:
        self.jobs: dict[str, slurm.QueuedJob] = {}
        self.workers: set[str] = set()
        self.cancelled: list[str] = []
        self.refusal: slurm.SlurmError | None = None
        self.silent = False
        self.n_submitted = 0

    def submit(self, script: Path, options: Sequence[str] = ()) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.n_submitted += 1
        job_id = str(self.n_submitted)
        self.jobs[job_id] = slurm.QueuedJob(job_id, script.stem, "PENDING", "Priority")
        return job_id

    def queued(self, prefix: str) -> dict[str, slurm.QueuedJob]:
        if self.silent:
            raise slurm.SlurmBusyError("squeue: no answer")
        return dict(self.jobs)

    def cancel(self, job_ids: Iterable[str]) -> None:
        for job_id in [*job_ids]:
            self.cancelled.append(job_id)
            self.jobs.pop(job_id, None)

    def set(self, job_id: str, state: str, reason: str = "None") -> None:
        self.jobs[job_id] = slurm.QueuedJob(job_id, self.jobs[job_id].name, state, reason)

    def connect(self, job_id: str, n_processes: int = 2) -> None:
        self.set(job_id, "RUNNING")
        self.workers |= {f"{self.jobs[job_id].name}-{job_id}-{process}" for process in range(n_processes)}

    def lose(self, job_id: str) -> None:
        self.jobs.pop(job_id, None)
        self.workers = {name for name in self.workers if f"-{job_id}" not in name}


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> FakeSlurm:
    return FakeSlurm()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site() -> Site:
    return parse_site(TEXT, Path("site.yaml"))


@pytest.fixture
def fleet(fake: FakeSlurm, clock: Clock, site: Site, tmp_path: Path) -> Fleet:
    """A fleet that looks at its jobs only when told to."""
    return Fleet(site, Places(tmp_path), lambda: fake.workers, fake, clock)


def look(fleet: Fleet) -> None:
    with fleet._lock:
        fleet._reconcile()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_as_many_jobs_as_the_tasks_need(fleet: Fleet, fake: FakeSlurm, site: Site) -> None:
    cpu, gpu = site.groups
    fleet.want((cpu,), 3)
    assert [job.name for job in fake.jobs.values()] == ["cpu", "cpu"], "two processes a job"
    assert fleet.n_workers((cpu,)) == 4
    fleet.want((cpu,), 100)
    assert len(fake.jobs) == 3
    fleet.want((gpu,), 100)
    assert [job.name for job in fake.jobs.values()] == ["gpu"], "a stage that does not need a group gives it back"
    assert fake.cancelled == ["1", "2", "3"]


def test_what_it_describes(fleet: Fleet, fake: FakeSlurm, site: Site) -> None:
    fleet.want(site.groups[:1], 6)
    fake.connect("1")
    look(fleet)
    assert fleet.describe() == {"cpu": {"wanted": 3, "pending": 2, "running": 1, "connected": 2, "replaced": 0}}


def test_lost_jobs_are_replaced_under_new_numbers(fleet: Fleet, fake: FakeSlurm, site: Site) -> None:
    fleet.want(site.groups[:1], 6)
    for job_id in ("1", "2", "3"):
        fake.connect(job_id)
    look(fleet)
    for _ in range(5 * MAX_DEAD_ON_ARRIVAL):
        oldest = min(fake.jobs, key=int)
        fake.lose(oldest)
        look(fleet)
        newest = max(fake.jobs, key=int)
        assert len(fake.jobs) == 3
        fake.connect(newest)
        look(fleet)
    fleet.check()
    assert fleet.describe()["cpu"]["replaced"] == 5 * MAX_DEAD_ON_ARRIVAL


def test_dead_on_arrival(fleet: Fleet, fake: FakeSlurm, site: Site, tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.log.workers.mkdir(parents=True)
    fleet.want(site.groups[1:], 1)
    for _ in range(2 * MAX_DEAD_ON_ARRIVAL):
        fake.lose(next(iter(fake.jobs)))
        look(fleet)
    fleet.check()  # they were cancelled while pending: nothing is wrong with the group
    for _ in range(MAX_DEAD_ON_ARRIVAL - 1):
        fake.set(next(iter(fake.jobs)), "RUNNING")
        look(fleet)
        fake.lose(next(iter(fake.jobs)))
        look(fleet)
    # A job that came and went between two looks has left its log.
    last = next(iter(fake.jobs))
    (places.log.workers / f"gpu-{last}.log").write_text("\n".join(["x"] * 99 + ["no module named tensorflow"]))
    # The job that replaces it may have begun meanwhile, without a word yet.
    (places.log.workers / f"gpu-{int(last) + 1}.log").touch()
    os.utime(places.log.workers / f"gpu-{int(last) + 1}.log", (4e9, 4e9))
    fake.lose(last)
    with pytest.raises(SwimmyError, match=r"(?s)group gpu: 3 jobs in a row.*no module named tensorflow.*Correct site"):
        look(fleet)


def test_a_job_that_will_never_start(fleet: Fleet, fake: FakeSlurm, site: Site) -> None:
    fleet.want(site.groups[1:], 1)
    for reason in ("Priority", "Resources", "ReqNodeNotAvail, UnavailableNodes:c2", "QOSMaxJobsPerUserLimit"):
        fake.set("1", "PENDING", reason)
        look(fleet)
    for reason in ("PartitionTimeLimit", "BadConstraints", "AssocMaxWallDurationPerJobLimit"):
        fake.set("1", "PENDING", reason)
        with pytest.raises(SwimmyError, match=f"group gpu: job 1 will never start, Slurm says {reason}"):
            look(fleet)


def test_a_hung_node_is_given_up(fleet: Fleet, fake: FakeSlurm, site: Site, clock: Clock) -> None:
    fleet.want(site.groups[1:], 1)
    fake.connect("1")
    look(fleet)
    fake.workers.clear()
    clock.now += 59
    look(fleet)
    assert list(fake.jobs) == ["1"]
    clock.now += 2
    look(fleet)
    assert list(fake.jobs) == ["2"]
    assert fake.cancelled == ["1"]


def test_a_worker_that_never_connects_is_given_up(fleet: Fleet, fake: FakeSlurm, site: Site, clock: Clock) -> None:
    fleet.want(site.groups[1:], 1)
    clock.now += 10_000
    look(fleet)
    assert list(fake.jobs) == ["1"], "waiting in the queue is no fault"
    fake.set("1", "RUNNING")
    look(fleet)
    clock.now += 89
    look(fleet)
    assert list(fake.jobs) == ["1"]
    clock.now += 2
    look(fleet)
    assert list(fake.jobs) == ["2"]


def test_a_limit_on_jobs_is_lived_with(
    fleet: Fleet, fake: FakeSlurm, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.want(site.groups[:1], 2)
    fake.refusal = slurm.SlurmError("sbatch failed: QOSMaxSubmitJobPerUserLimit")
    fleet.want(site.groups[:1], 6)
    assert len(fake.jobs) == 1
    look(fleet)
    assert caplog.text.count("group cpu: 1 of 3 jobs for now: sbatch failed: QOSMaxSubmitJobPerUserLimit") == 1
    fake.lose("1")
    with pytest.raises(SwimmyError, match="QOSMaxSubmitJobPerUserLimit"):
        fleet.want(site.groups[:1], 6)


def test_the_watch_tells_and_survives_a_busy_slurm(fleet: Fleet, fake: FakeSlurm, site: Site) -> None:
    fake.jobs["99"] = slurm.QueuedJob("99", "cpu", "RUNNING", "")
    with fleet:
        assert fake.cancelled == ["99"], "what an earlier driver left"
        fleet.want(site.groups[1:], 1)
        fake.silent = True
        time.sleep(0.5)
        fake.silent = False
        fleet.check()
        fake.lose("1")
        until(lambda: "2" in fake.jobs)
        fake.set("2", "PENDING", "BadConstraints")
        until(lambda: fleet._error is not None)
        with pytest.raises(SwimmyError, match="will never start"):
            fleet.check()
    assert fake.jobs == {}


def test_losses_beside_workers_that_are_well(fleet: Fleet, fake: FakeSlurm, site: Site) -> None:
    fleet.want(site.groups[:1], 6)
    fake.connect("1")
    for _ in range(2 * MAX_DEAD_ON_ARRIVAL):
        others = [job_id for job_id in fake.jobs if job_id != "1"]
        for job_id in others:
            fake.set(job_id, "RUNNING")
        look(fleet)
        for job_id in others:
            fake.lose(job_id)
        look(fleet)
    fleet.check()


def test_a_busy_slurm_at_the_start_of_a_stage(fleet: Fleet, fake: FakeSlurm, site: Site) -> None:
    with fleet:
        fake.refusal = slurm.SlurmBusyError("sbatch: Socket timed out")
        fleet.want(site.groups[1:], 1)
        assert fake.jobs == {}
        fake.refusal = None
        until(lambda: fake.jobs)
        fleet.check()
        fake.lose("1")
        fake.refusal = slurm.SlurmError("sbatch: invalid account")
        until(lambda: fleet._error is not None)
        with pytest.raises(SwimmyError, match="invalid account"):
            fleet.check()


def test_jobs_whose_number_got_lost_are_adopted_and_cancelled(
    fleet: Fleet, fake: FakeSlurm, site: Site, tmp_path: Path
) -> None:
    name = Places(tmp_path).job_name("gpu")
    with fleet:
        fake.jobs["98"] = slurm.QueuedJob("98", name, "PENDING", "Priority")
        fleet.want(site.groups[1:], 1)
        assert list(fake.jobs) == ["98"], "it is the one that is wanted"
        fake.jobs["99"] = slurm.QueuedJob("99", f"{Places(tmp_path).tag}-other", "PENDING", "Priority")
    assert fake.jobs == {}


class BrokenSlurm(FakeSlurm):
    def queued(self, prefix: str) -> dict[str, slurm.QueuedJob]:
        raise ValueError("a defect")


def test_a_watch_that_breaks_is_told(site: Site, tmp_path: Path) -> None:
    fleet = Fleet(site, Places(tmp_path), set, BrokenSlurm())
    fleet._thread.start()
    until(lambda: fleet._error is not None)
    with pytest.raises(SwimmyError, match="the watch over worker jobs failed with ValueError: a defect"):
        fleet.check()


def test_waiting_in_a_queue_is_no_failure_for_dask() -> None:
    assert CLUSTER_SETTINGS["distributed.scheduler.no-workers-timeout"] is None
    assert CLUSTER_SETTINGS["distributed.comm.require-encryption"] is True


def test_an_interface_that_the_node_has_not(tmp_path: Path) -> None:
    site = parse_site(TEXT + "  scheduler-interface: ib99\n", Path("site.yaml"))
    executor = SlurmExecutor(site, tmp_path)
    with pytest.raises(SwimmyError, match=r"^site.yaml: scheduler-interface ib99: not on .*\. Name one that"):
        executor.open().__enter__()
    assert not Places(tmp_path).log.tls.exists()
    assert not Places(tmp_path).log.scheduler.exists()
    with pytest.raises(RuntimeError, match="not open"):
        next(executor.map(NotImplemented, []))
