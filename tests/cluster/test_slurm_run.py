"""Whole runs by ``submit`` on a real Slurm, and everything that goes wrong there at 3 a.m."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest
import yaml
from astropy.table import Table
from slurm_cluster import Job, Slurm, running_slurm, unavailable_reason
from survey_runs import NETWORK, assert_same_results, call, make_survey, run_serially, write_job

from swimmy_scale.cluster.scripts import Places
from swimmy_scale.storage.run_directory import STAGES

pytestmark = [
    pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason())),
    pytest.mark.timeout(400),
]

# Dask loads this into workers. It makes stages last, so that something can happen while they run.
SLOW = """
import time
import swimmy_scale.stages.ingest as ingest
import swimmy_scale.stages.score as score

def slowly(function, seconds):
    def wrapped(*arguments, **more):
        time.sleep(seconds)
        return function(*arguments, **more)
    return wrapped

if not hasattr(ingest, "slow"):  # Dask may load this twice
    ingest.slow = True
    ingest.read_rows = slowly(ingest.read_rows, {seconds})
    score.score_rows = slowly(score.score_rows, min({seconds}, 0.5))
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))
        yield cluster


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("survey"), n_objects=160)


@pytest.fixture(scope="module")
def serial(survey: Path) -> Path:
    """The run that all others must equal: one process, no Dask, no Slurm."""
    # By the scorer that the site's GPUs call for; they are only Slurm's, so that all compute on CPUs.
    run_serially(write_job(survey / "job.yaml", survey), survey / "serial", "keras")
    return survey / "serial"


@pytest.fixture(scope="module")
def job(survey: Path, serial: Path) -> Path:
    """A job that takes the serial run's weights, so that tests reach scoring sooner."""
    manifest = json.loads((serial / "models/manifest.json").read_text())
    model = {
        "path": str(serial / "models/selected.keras"),
        "sha256": manifest["files"]["selected.keras"],
        "network": NETWORK,
    }
    return write_job(survey / "scoring.yaml", survey, train=None, model=model)


def write_site(folder: Path, seconds: float = 0.0, **sections: dict[str, Any]) -> Path:
    """A site file; ``sections`` extend the jobs of their names, ``seconds`` slow each task down."""
    jobs: dict[str, dict[str, Any]] = {
        "slurm": {"memory": "3GiB", "walltime": "00:20:00", "death-timeout": 30},
        "driver": {"queue": "cpu"},
        "cpu": {"queue": "cpu"},
        "gpu": {"queue": "gpu"},
    }
    for name, section in sections.items():
        jobs[name] |= section
    if seconds:
        (folder / "slow.py").write_text(SLOW.format(seconds=seconds))
        for name in ("cpu", "gpu"):
            jobs[name]["worker-extra-args"] = ["--preload", str(folder / "slow.py")]
    site = {"kind": "slurm", "groups": {"cpu": {"jobs": 2}, "gpu": {"jobs": 1, "gpus": 1}}, "poll-seconds": 0.5}
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"jobqueue": jobs, "swimmy-scale": site}))
    return path


class Submitted:
    """A run that was submitted."""

    def __init__(self, slurm: Slurm, job: Path, run: Path, site: Path) -> None:
        self.slurm, self.job, self.run, self.site = slurm, job, run, site
        self.places = Places(run)
        self.job_id = self.submit()

    def submit(self) -> str:
        done = call("submit", self.job, "--output", self.run, "--site", self.site)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().isdigit(), "the job id alone, for scripts"
        return done.stdout.strip()

    def jobs(self, group: str | None = None) -> list[Job]:
        """Jobs of the run: the driver's, or a group's."""
        name = self.places.job_name(group) if group else self.places.tag
        return [job for job in self.slurm.jobs() if job.name == name]

    def status(self) -> dict[str, Any]:
        done = call("status", self.run, "--json")
        assert done.returncode == 0, done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return content

    def progress(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.places.log.progress).read_text())
        return content

    def n_receipts(self, stage: str) -> int:
        return len(list((self.run / "receipts" / stage).glob("0*.json")))

    def wait_for_receipts(self, stage: str, n_receipts: int) -> None:
        self.slurm.wait_until(lambda: self.n_receipts(stage) >= n_receipts, f"{n_receipts} tasks of {stage}", 90)

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.places.log.path.glob("driver-*.log")))

    def has_ended(self) -> bool:
        return not [job for job in self.slurm.jobs() if job.name.startswith(self.places.tag)]

    def wait(self, timeout_s: float = 180) -> None:
        try:
            self.slurm.wait_until(self.has_ended, f"the run {self.run} and all its jobs ended", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

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


@pytest.fixture
def submit(slurm: Slurm, job: Path, tmp_path: Path) -> Iterator[Callable[..., Submitted]]:
    """Submits the job to a site with the given changes."""
    made: list[Submitted] = []

    def submitted(seconds: float = 0.6, job_path: Path = job, **sections: dict[str, Any]) -> Submitted:
        made.append(Submitted(slurm, job_path, tmp_path / "run", write_site(tmp_path, seconds, **sections)))
        return made[-1]

    yield submitted
    for run in made:
        for name in (None, "cpu", "gpu"):
            for left in run.jobs(name):
                slurm.cancel(left.job_id)
    slurm.heal()


@pytest.fixture(scope="module", autouse=True)
def short_walltime(slurm: Slurm, job: Path, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """A run whose one CPU worker reaches its walltime. It mostly waits, so it runs beside the other tests."""
    folder = tmp_path_factory.mktemp("walltime")
    site = write_site(folder, 15.0, cpu={"walltime": "1"}, driver={"walltime": "01:00:00"})
    content = yaml.safe_load(site.read_text())
    content["swimmy-scale"]["groups"]["cpu"]["jobs"] = 1
    site.write_text(yaml.safe_dump(content))
    return Submitted(slurm, job, folder / "run", site)


def refused(address: str, security: distributed.Security | None) -> None:
    with pytest.raises((OSError, TypeError, ValueError), match=r"."):
        distributed.Client(address, security=security, timeout="3s")


def test_the_whole_path(slurm: Slurm, survey: Path, serial: Path, submit: Callable[..., Submitted]) -> None:
    run = submit(0.5, survey / "job.yaml")
    run.wait_for_receipts("ingest", 1)
    again = call("submit", run.job, "--output", run.run, "--site", run.site)
    assert again.returncode == 1
    assert f"has a driver already: job {run.job_id}, RUNNING" in again.stderr
    here = call("run", run.job, "--output", run.run, "--workers", 0)
    assert here.returncode == 1
    assert "is in use by process" in here.stderr

    # Strangers: without a certificate, with one of another authority, in plain text.
    address = json.loads(run.places.log.scheduler.read_text())["address"]
    assert address.startswith("tls://")
    refused(address, None)
    refused(address, distributed.Security.temporary())
    refused(address.replace("tls://", "tcp://"), None)
    assert stat.S_IMODE(run.places.log.tls.stat().st_mode) == 0o700
    keys = sorted(run.places.log.tls.iterdir())
    assert [key.name for key in keys] == ["ca.pem", "cert.pem", "key.pem"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}

    # The dashboard can be reached through ssh, but not over the network.
    (port,) = re.findall(r"dashboard: ssh -L 8787:127.0.0.1:(\d+) \S+, then open http://127.0.0.1:8787/", run.log())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=20) as page:
        assert b"Dask" in page.read()
    host = re.findall(r"tls://([\d.]+):", address)[0]
    if host != "127.0.0.1":
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"http://{host}:{port}/status", timeout=20)

    run.wait_for_receipts("train", 1)
    assert not run.jobs("cpu"), "CPU workers are given back when their stages are done"
    assert [job.node for job in run.jobs("gpu")] == ["g1"]
    run.assert_complete(serial)
    assert call("verify", run.run).returncode == 0
    finished = [row["stage"] for row in run.status()["stages"] if row["finished"]]
    assert finished == [stage for stage in STAGES if stage != "evaluate"]
    assert run.status()["driver"]["state"] == "finished"
    assert slurm.job_state(run.job_id) == "COMPLETED", "objects in quarantine are no failure of the job"
    assert (run.run / "models/selected.keras").read_bytes() == (serial / "models/selected.keras").read_bytes()


def test_what_is_printed_is_what_is_submitted(slurm: Slurm, job: Path, tmp_path: Path) -> None:
    site = write_site(tmp_path)
    printed = call("submit", job, "--output", tmp_path / "run", "--site", site, "--print-job-script")
    assert printed.returncode == 0, printed.stderr
    assert not (tmp_path / "run").exists()
    run = Submitted(slurm, job, tmp_path / "run", site)
    run.wait_for_receipts("ingest", 1)
    for name, job_id in (("driver", run.job_id), ("cpu", run.jobs("cpu")[0].job_id)):
        script = run.places.log.script(name)
        assert f"# {script}\n{script.read_text()}" in printed.stdout
        assert slurm.command("scontrol", "write", "batch_script", job_id, "-") == script.read_text().strip()
        subprocess.run(["bash", "-n", str(script)], check=True)
    slurm.cancel(run.job_id)
    run.wait(60)


def test_a_worker_is_cancelled(slurm: Slurm, serial: Path, submit: Callable[..., Submitted]) -> None:
    run = submit()
    run.wait_for_receipts("ingest", 1)
    lost = run.jobs("cpu")[0].job_id
    slurm.cancel(lost)
    slurm.wait_until(lambda: len({job.job_id for job in run.jobs("cpu")} - {lost}) == 2, "it is replaced", 60)
    run.wait_for_receipts("score", 1)
    slurm.cancel(run.jobs("gpu")[0].job_id)
    run.assert_complete(serial)


def test_a_node_goes_down(slurm: Slurm, serial: Path, submit: Callable[..., Submitted]) -> None:
    run = submit(cpu={"job-extra-directives": ["--nodelist=c3"]}, driver={"job-extra-directives": ["--nodelist=c1"]})
    run.wait_for_receipts("ingest", 1)
    slurm.set_node("c3", "down")
    slurm.wait_until(lambda: not [job for job in run.jobs("cpu") if job.state == "RUNNING"], "the jobs there ended")
    slurm.set_node("c3", "resume")
    run.assert_complete(serial)


def test_a_node_crashes_and_its_zombies_work_on(slurm: Slurm, serial: Path, submit: Callable[..., Submitted]) -> None:
    run = submit(cpu={"job-extra-directives": ["--exclude=c1"]}, driver={"job-extra-directives": ["--nodelist=c1"]})
    run.wait_for_receipts("ingest", 1)
    node = run.jobs("cpu")[0].node
    # Slurm's daemon dies and nobody ends the workers: they go on writing beside those that replace them.
    daemon = slurm.node_processes(node)[0]
    os.kill(daemon, signal.SIGKILL)
    slurm.set_node(node, "down")
    run.assert_complete(serial)


def test_preemption(slurm: Slurm, serial: Path, submit: Callable[..., Submitted]) -> None:
    run = submit(
        4.0,
        cpu={"queue": "preemptible", "job-extra-directives": ["--nodelist=c2"]},
        driver={"job-extra-directives": ["--nodelist=c1"]},
    )
    run.wait_for_receipts("ingest", 1)
    more_urgent = slurm.submit("#!/bin/sh\nsleep 8\n", "--partition=cpu", "--nodelist=c2", "--exclusive")
    slurm.wait_until(lambda: slurm.job_state(more_urgent) == "RUNNING", "the workers made room", 60)
    assert not [job for job in run.jobs("cpu") if job.state == "RUNNING"]
    run.assert_complete(serial)


def test_the_driver_dies_and_is_submitted_again(slurm: Slurm, serial: Path, submit: Callable[..., Submitted]) -> None:
    run = submit()
    run.wait_for_receipts("ingest", 1)
    os.kill(json.loads((run.places.log.path / "driver.json").read_text())["process_id"], signal.SIGKILL)
    run.assert_complete(serial)
    assert "ended with status 137" in run.log()
    assert len(re.findall("submitted again as job", run.log())) == 1


def test_the_time_of_the_driver_ends(slurm: Slurm, serial: Path, submit: Callable[..., Submitted]) -> None:
    run = submit()
    run.wait_for_receipts("ingest", 1)
    # What --signal=B:USR1@... makes Slurm do before the walltime's end.
    slurm.command("scancel", "--batch", "--signal=USR1", run.job_id)
    slurm.wait_until(lambda: "submitted again as job" in run.log(), "it hands over", 60)
    assert "ended with status 75" in run.log()
    run.assert_complete(serial)


def test_the_driver_is_cancelled_and_leaves_no_orphans(
    slurm: Slurm, serial: Path, submit: Callable[..., Submitted]
) -> None:
    run = submit()
    run.wait_for_receipts("ingest", 1)
    assert len(run.jobs("cpu")) == 2
    slurm.cancel(run.job_id)
    run.wait(60)
    assert "submitted again" not in run.log()
    assert not run.places.log.tls.exists()
    n_done = run.n_receipts("ingest")
    assert 0 < n_done < 5
    first = {path: path.stat().st_mtime_ns for path in (run.run / "receipts/ingest").glob("0*.json")}
    run.submit()
    run.assert_complete(serial)
    assert {path: path.stat().st_mtime_ns for path in first} == first, "what was done was not done again"


def test_a_chain_of_drivers(slurm: Slurm, job: Path, serial: Path, tmp_path: Path) -> None:
    site = write_site(tmp_path, 0.5)
    done = call("submit", job, "--output", tmp_path / "run", "--site", site, "--chain", 2)
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    assert len(ids) == 2
    run = Submitted.__new__(Submitted)
    run.slurm, run.job, run.run, run.site = slurm, job, tmp_path / "run", site
    run.places = Places(run.run)
    run.wait_for_receipts("ingest", 1)
    assert slurm.job_state(ids[1]) == "PENDING"
    slurm.command("scancel", "--batch", "--signal=USR1", ids[0])
    run.assert_complete(serial)
    assert "the next job of the chain goes on" in run.log()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"cpu": {"queue": "nosuch"}}, "(?i)invalid partition"),
        ({"driver": {"queue": "nosuch"}}, "(?i)invalid partition"),
        ({"cpu": {"memory": "900GiB"}}, "(?i)(memory|node configuration)"),
    ],
)
def test_what_slurm_refuses_is_told_at_once(
    slurm: Slurm, job: Path, tmp_path: Path, sections: dict[str, dict[str, Any]], message: str
) -> None:
    done = call("submit", job, "--output", tmp_path / "run", "--site", write_site(tmp_path, 0.0, **sections))
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert "site.yaml and submit again" in done.stderr
    assert not [item for item in slurm.jobs() if item.name.startswith(Places(tmp_path / "run").tag)]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"python": "/nonexistent/python"}, "No such file or directory"),
        ({"job-script-prologue": ["echo no scratch here >&2", "false"]}, "no scratch here"),
    ],
)
def test_workers_that_are_dead_on_arrival_stop_the_run(
    slurm: Slurm, submit: Callable[..., Submitted], section: dict[str, Any], message: str
) -> None:
    run = submit(0.0, cpu=section)
    run.wait(60)
    assert slurm.job_state(run.job_id) == "FAILED"
    assert re.search(r"group cpu: \d jobs in a row ended before a worker connected", run.log()), run.log()
    assert message in run.log()
    assert run.progress()["state"] == "failed"
    assert message in run.progress()["reason"]
    assert run.n_receipts("ingest") == 0


def test_a_worker_reaches_its_walltime(short_walltime: Submitted, serial: Path) -> None:
    short_walltime.wait(240)
    short_walltime.assert_complete(serial)
    states = {short_walltime.slurm.job_state(job_id) for job_id in worker_jobs(short_walltime, "cpu")}
    assert "TIMEOUT" in states


def worker_jobs(run: Submitted, group: str) -> set[str]:
    """Ids of all jobs that a group ever had, from the names of their logs."""
    logs = run.places.log.workers.glob(f"{group}-*.log")
    return {path.stem.rsplit("-", 1)[1] for path in logs}


def test_quarantine_is_told(serial: Path) -> None:
    assert len(Table.read(serial / "quarantine.csv", format="csv")) == 8
