"""Whole runs by ``submit`` on a real Slurm, and everything that goes wrong there at 3 a.m.

A start of a driver or worker takes seconds, so few runs suffer many faults, one after the other. Their tasks wait at a
gate meanwhile: each fault meets workers in the middle of tasks, and the next comes when what was lost is done.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
from astropy.table import Table
from slurm_cluster import Slurm, running_slurm, unavailable_reason
from slurm_runs import Gate, Submitted, write_site
from survey_runs import call, call_here, command, make_survey, run_serially, weights_of, write_job

from swimmy_scale.cluster.places import Places
from swimmy_scale.storage.run_directory import STAGES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason())),
    pytest.mark.timeout(400),
]

STORAGE = {"partition_objects": 4, "chunk_objects": 4}
N_TASKS = 40  # enough for all faults of a run
ON_C1 = {"job-extra-directives": ["--nodelist=c1"]}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    # Memory for the jobs of several runs on one node.
    settings = {"NODE_MEMORY_MB": "64000"}
    with running_slurm(tmp_path_factory.mktemp("slurm"), settings) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))
        yield cluster


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("survey"), n_objects=160)


@pytest.fixture(scope="module")
def whole(slurm: Slurm, survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submitted]:
    """A run that trains and scores with Keras on a GPU; it starts while the serial ones are computed."""
    folder = tmp_path_factory.mktemp("whole")
    gate = Gate(folder / "gate")
    job = write_job(survey / "job.yaml", survey)
    run = Submitted(slurm, job, write_site(folder, gate, gpu=True), gate)
    command = ("submit", run.job, "--output", run.run, "--site", run.site)
    printed = call_here(*command, "--print-job-script")
    assert printed.returncode == 0, printed.stderr
    assert not run.run.exists()
    (folder / "printed").write_text(printed.stdout)
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit(), "the job id alone, for scripts"
    run.job_ids = [done.stdout.strip()]
    yield run
    run.cancel()


@pytest.fixture(scope="module")
def serial(survey: Path, whole: Submitted) -> Path:
    """The run that others must equal: one process, no Dask, no Slurm."""
    # By the scorer that the site's GPUs call for; they are only Slurm's, so that all compute on CPUs.
    run_serially(whole.job, survey / "serial", "keras")
    return survey / "serial"


@pytest.fixture(scope="module")
def job(survey: Path, serial: Path) -> Path:
    """A job that takes the serial run's weights, so that tests reach scoring sooner."""
    return write_job(survey / "scoring.yaml", survey, storage=STORAGE, **weights_of(serial))


@pytest.fixture(scope="module", autouse=True)
def chain(slurm: Slurm, job: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submitted]:
    """Two drivers that follow each other, with one worker, which has a minute. It goes on beside the other tests."""
    folder = tmp_path_factory.mktemp("chain")
    gate = Gate(folder / "gate")
    site = write_site(folder, gate, n_jobs=1, cpu={"walltime": "1", **ON_C1}, driver=ON_C1)
    run = Submitted(slurm, job, site, gate)
    run.submit("--chain", 2)
    yield run
    run.cancel()


@pytest.fixture(scope="module")
def serial_scoring(survey: Path, job: Path, chain: Submitted) -> Path:
    """What that job gives in one process. It scores without TensorFlow, which would start in each worker."""
    run_serially(job, survey / "serial_scoring", "numba")
    return survey / "serial_scoring"


@pytest.fixture
def prepare(slurm: Slurm, job: Path, tmp_path: Path) -> Iterator[Callable[..., Submitted]]:
    """Makes runs ready to be submitted, at sites with the given changes; ends them after the test."""
    made: list[Submitted] = []

    def prepared(folder: Path = tmp_path, **changes: Any) -> Submitted:
        gate = Gate(folder / "gate")
        made.append(Submitted(slurm, job, write_site(folder, gate, **changes), gate))
        return made[-1]

    yield prepared
    for run in made:
        run.cancel()
    slurm.heal()


@pytest.mark.usefixtures("serial_scoring")  # it is computed while the first driver starts
def test_a_chain_of_drivers(slurm: Slurm, chain: Submitted) -> None:
    assert len(chain.job_ids) == 2
    first, second = chain.job_ids
    chain.do_more("the first driver has a worker")
    assert slurm.job_state(second) == "PENDING", "one driver at a time"
    slurm.command("scancel", "--batch", "--signal=USR1", first)
    chain.wait_until(lambda: chain.running() == {second}, "the second driver of the chain took over")
    assert "the next job of the chain goes on" in chain.log()
    # The worker of the second driver is left where it is, until its walltime ends: see the end of this file.
    chain.do_more("the second driver has a worker")
    (stays,) = chain.at_gate(1, "a worker of the second driver waits")
    chain.gate.open(stays=stays)


def refused(address: str, security: distributed.Security | None) -> None:
    before = dask.config.get("scheduler", None)
    with pytest.raises((OSError, TypeError, ValueError), match=r"."):
        distributed.Client(address, security=security, timeout="3s", set_as_default=False)
    assert dask.config.get("scheduler", None) == before, "a default client that failed would stay so for later tests"


def assert_private(run: Submitted) -> None:
    """Strangers reach neither the scheduler nor the dashboard, and nobody else can read the keys."""
    address = json.loads(run.places.log.scheduler.read_text())["address"]
    assert address.startswith("tls://")
    # Without a certificate, with one of another authority, in plain text.
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


def assert_in_use(run: Submitted) -> None:
    """A second driver is refused, whether as a job or here."""
    again = call_here("submit", run.job, "--output", run.run, "--site", run.site)
    assert again.returncode == 1
    assert f"has a driver already: job {run.job_ids[0]}, RUNNING" in again.stderr
    here = call_here("run", run.job, "--output", run.run, "--workers", 0)
    assert here.returncode == 1
    assert "is in use by process" in here.stderr


def assert_scripts(run: Submitted, printed: str) -> None:
    """What was printed is what was submitted."""
    for name, job_id in (("driver", run.job_ids[0]), ("cpu", run.jobs("cpu")[0].job_id)):
        script = run.places.log.script(name)
        assert f"# {script}\n{script.read_text()}" in printed
        written = run.slurm.command("scontrol", "write", "batch_script", job_id, "-")
        assert written == script.read_text().strip(), f"the script of the {name} job"
        subprocess.run(["bash", "-n", str(script)], check=True)


def lose_the_gpu(run: Submitted) -> None:
    """Cancel the worker with the GPU in the middle of scoring."""
    run.do_more("the worker with the GPU scores", stage="score")
    (lost,) = run.at_gate(1, "a worker with a GPU scores", "score")
    run.slurm.cancel(lost)
    run.at_gate(1, f"the worker with the GPU, job {lost}, was cancelled and is replaced", "score", but={lost})
    assert run.slurm.job_state(lost) == "CANCELLED"


def test_the_whole_path(slurm: Slurm, whole: Submitted, serial: Path) -> None:
    run = whole
    run.do_more("the CPU workers read")
    assert_in_use(run)
    assert_private(run)
    assert_scripts(run, (run.site.parent / "printed").read_text())

    run.gate.open("ingest")
    run.wait_until(lambda: run.receipts("train"), "a worker with a GPU has trained")
    assert not run.jobs("cpu"), "CPU workers are given back when their stages are done"
    assert [job.node for job in run.jobs("gpu")] == ["g1"]
    lose_the_gpu(run)
    run.gate.open("score")
    run.assert_complete(serial)
    verified = call_here("verify", run.run, "--workers", 0)
    assert verified.returncode == 0, verified.stderr
    told = json.loads(call_here("status", run.run, "--json").stdout)
    assert [row["stage"] for row in told["stages"] if row["finished"]] == [s for s in STAGES if s != "evaluate"]
    assert told["driver"]["state"] == "finished"
    assert [(job["what"], job["state"]) for job in told["queue"]["jobs"]] == [("driver", "COMPLETED")]
    assert slurm.job_state(run.job_ids[0]) == "COMPLETED", "objects in quarantine are no failure of the job"
    assert (run.run / "models/selected.keras").read_bytes() == (serial / "models/selected.keras").read_bytes()
    assert_report_by_a_job(slurm, run)


def assert_report_by_a_job(slurm: Slurm, run: Submitted) -> None:
    """What a node makes is what is made here."""
    done = call_here("report", run.run, "--site", run.site, "--max-candidates", 3)
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    assert f"queue: report: job {job_id} " in status(run)
    run.wait_until(lambda: slurm.job_state(job_id) not in ("PENDING", "RUNNING", "COMPLETING"), "the report is made")
    log = run.places.log.path / f"report-{job_id}.log"
    assert slurm.job_state(job_id) == "COMPLETED", log.read_text()
    assert f"{run.run}/report/index.html: " in log.read_text()
    made = (run.run / "report/index.html").read_bytes()
    assert call_here("report", run.run, "--max-candidates", 3).returncode == 0
    assert (run.run / "report/index.html").read_bytes() == made


# ---------------------------------------------------------------- workers are lost: what happens, and whose jobs end


def a_worker_is_cancelled(slurm: Slurm, run: Submitted, workers: dict[str, int]) -> set[str]:
    lost = min(workers)
    slurm.cancel(lost)
    run.wait_until(lambda: slurm.job_state(lost) == "CANCELLED", f"job {lost} is cancelled")
    return {lost}


def nodes_go_down(slurm: Slurm, run: Submitted, workers: dict[str, int]) -> set[str]:
    nodes = {slurm.job_node(job_id) for job_id in workers}
    for node in nodes:
        slurm.set_node(node, "down")
    run.wait_for_states(workers, "NODE_FAIL", f"nodes {nodes} went down")
    for node in nodes:
        slurm.set_node(node, "resume")
    return {*workers}


def more_urgent_jobs_come(slurm: Slurm, run: Submitted, workers: dict[str, int]) -> set[str]:
    script = "#!/bin/sh\nsleep 300\n"
    urgent = [slurm.submit(script, "--partition=cpu", "--exclusive", f"--nodelist={node}") for node in ("c2", "c3")]
    run.wait_for_states(urgent, "RUNNING", "workers made room")
    run.wait_for_states(workers, "PREEMPTED", "workers made room")
    assert not run.running("cpu"), "there is no place for those that replace them"
    for job_id in urgent:
        slurm.cancel(job_id)
    return {*workers}


def a_node_crashes_and_its_zombies_work_on(slurm: Slurm, run: Submitted, workers: dict[str, int]) -> set[str]:
    """Slurm's daemon dies and nobody ends the workers: they go on writing beside those that replace them."""
    node = slurm.job_node(min(workers))
    zombies = {job_id for job_id in workers if slurm.job_node(job_id) == node}
    os.kill(int((slurm.folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
    slurm.set_node(node, "down")
    run.wait_for_states(zombies, "NODE_FAIL", f"node {node} crashed")
    run.at_gate(len(workers), f"node {node} crashed: jobs {zombies} are replaced", but=zombies)
    tasks = {workers[job_id] for job_id in zombies}
    assert not tasks & {*run.receipts()}
    run.gate.let_pass("ingest", zombies)
    run.wait_until(lambda: tasks <= {*run.receipts()}, f"zombies {zombies} on {node} finish their tasks {tasks}")
    return zombies


FAULTS = (a_worker_is_cancelled, nodes_go_down, more_urgent_jobs_come, a_node_crashes_and_its_zombies_work_on)


def test_workers_are_lost(slurm: Slurm, serial_scoring: Path, prepare: Callable[..., Submitted]) -> None:
    run = prepare(cpu={"queue": "preemptible", "job-extra-directives": ["--exclude=c1"]}, driver=ON_C1)
    run.submit()
    run.do_more("two workers read")
    for fault in FAULTS:
        what = fault.__name__.replace("_", " ")
        workers = run.at_gate(2, f"before {what}: two workers are in the middle of tasks")
        lost = fault(slurm, run, workers)
        run.at_gate(2, f"{what}: jobs {lost} are replaced", but=lost)
        run.do({workers[job_id] for job_id in lost}, f"{what}: others do what jobs {lost} had")
    run.gate.open()
    run.assert_complete(serial_scoring)


# ---------------------------------------------------------------- drivers are lost


def test_drivers_are_lost(
    slurm: Slurm, tmp_path: Path, serial_scoring: Path, prepare: Callable[..., Submitted]
) -> None:
    run = prepare()
    run.submit()
    run.do_more("the first driver has workers")
    assert len(run.jobs("cpu")) == 2
    slurm.cancel(run.job_ids[0])
    run.wait_until(lambda: run.job_ids[0] not in {job.job_id for job in run.jobs()}, "the cancelled driver has ended")
    assert "submitted again" not in run.log(), "a driver that was cancelled is not submitted again"
    run.wait()  # it leaves no orphans
    assert not run.places.log.tls.exists()
    assert 0 < len(run.receipts()) < N_TASKS
    done = {path: path.stat().st_mtime_ns for path in run.receipts().values()}

    # From here on one worker is enough.
    write_site(tmp_path, run.gate, n_jobs=1)
    run.submit()
    run.do_more("the driver that was submitted after the cancelled one has a worker")

    # What --signal=B:USR1@... makes Slurm do before the walltime's end.
    slurm.command("scancel", "--batch", "--signal=USR1", run.job_ids[0])
    run.wait_until(lambda: "submitted again as job" in run.log(), "the time of a driver ends: it hands over", 60)
    assert "ended with status 75" in run.log()
    run.do_more("the driver that took over has a worker")

    workers = run.running("cpu")
    os.kill(json.loads((run.places.directory.receipts / "driver.json").read_text())["process_id"], signal.SIGKILL)
    run.wait_until(
        lambda: run.log().count("submitted again as job") == 2, "a driver was killed: it is submitted again", 60
    )
    assert "ended with status 137" in run.log()
    run.at_gate(1, "the driver after the killed one has a worker", but=workers)
    assert not run.running("cpu") & workers, "workers of the killed driver are gone"

    run.gate.open()
    run.assert_complete(serial_scoring)
    assert len(re.findall("submitted again as job", run.log())) == 2
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was done was not done again"


# ---------------------------------------------------------------- the driver is this process


def test_ctrl_c_ends_a_run_at_a_site_and_its_jobs(
    slurm: Slurm, tmp_path: Path, serial_scoring: Path, prepare: Callable[..., Submitted]
) -> None:
    # A command before the interpreter, as a container's is.
    run = prepare(cpu={"python": f"env IMAGE=galaxies.sif {sys.executable}"})
    words = command("run", run.job, "--output", run.run, "--site", run.site)

    def begun() -> bool:
        return len(run.receipts()) > 0 and len(run.gate.waiting("ingest")) == 2

    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        run.do_more("workers read")
        run.wait_until(begun, "two workers are in the middle of tasks")
        workers = run.running("cpu")
        assert "queue: cpu: job" in status(run)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    lines = stderr.splitlines()
    assert process.returncode == 130, stderr
    assert lines[-1] == "swimmy-scale: interrupted; what is done is kept, run the same command to go on"
    assert not [line for line in lines if "Traceback" in line or "Error" in line], stderr
    run.wait(60)
    assert {slurm.job_state(job_id) for job_id in workers} == {"CANCELLED"}
    assert "queue" not in status(run), "workers that were given back are no news"
    assert run.progress()["state"] == "stopped"
    done = {path: path.stat().st_mtime_ns for path in run.receipts().values()}
    environments = [Path(f"/proc/{pid}/environ") for pid in slurm.processes()]
    assert not [path for path in environments if b"galaxies.sif" in path.read_bytes()]

    run.gate.open()
    again = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 3, again.stderr
    run.assert_complete(serial_scoring)
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was done was not done again"


# ---------------------------------------------------------------- what can only fail


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cpu": {"queue": "nosuch"}}, "jobs cpu: there is no queue nosuch. Choose among cpu, gpu, preemptible"),
        ({"driver": {"queue": "nosuch"}}, "jobs driver: there is no queue nosuch"),
        ({"cpu": {"memory": "900GiB"}}, "921,600 MiB, but the largest node of queue cpu has 8 and 64,000 MiB"),
        ({"driver": {"walltime": "24:00:00"}}, "jobs driver: walltime 24:00:00 is more than the 12:00:00 of queue cpu"),
        ({"cpu": {"job-extra-directives": ["--constraint=gold"]}}, "jobs cpu: sbatch failed .*Invalid feature"),
        ({"cpu": {"job-extra-directives": ["--gres=gpu:9"]}}, "jobs cpu: sbatch failed .*node configuration"),
    ],
)
def test_what_would_never_start_is_told_at_once(
    slurm: Slurm, job: Path, tmp_path: Path, changes: dict[str, dict[str, Any]], message: str
) -> None:
    site = write_site(tmp_path, **changes)
    done = call_here("submit", job, "--output", tmp_path / "run", "--site", site)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr
    assert "site.yaml and submit again" in done.stderr
    assert not [item for item in slurm.jobs() if item.name.startswith(Places(tmp_path / "run").tag)]
    assert not (tmp_path / "run").exists()


def status(run: Submitted) -> str:
    return call_here("status", run.run).stdout


def test_the_queue_tells_what_became_of_drivers(
    slurm: Slurm, tmp_path: Path, prepare: Callable[..., Submitted]
) -> None:
    too_long = prepare(tmp_path / "long", driver={"walltime": "24:00:00"})
    too_long.submit("--unchecked")
    fails = prepare(tmp_path / "fails", driver={"job-script-prologue": ["echo no such module >&2", "false"]})
    fails.submit()
    slurm.wait_until(lambda: "it will never start, Slurm says PartitionTimeLimit" in status(too_long), "it is told")
    fails.wait_until(lambda: "which ends:" in status(fails), "the driver fails in its prologue")
    said = status(fails)
    assert f"queue: driver: job {fails.job_ids[0]} FAILED: exit status 1, ended at" in said
    assert f"  log: {fails.run}/log/driver-{fails.job_ids[0]}.log, which ends:\n    no such module\n" in said
    slurm.cancel(too_long.job_ids[0])
    slurm.wait_until(lambda: "CANCELLED: it was cancelled, ended at" in status(too_long), "its end is told")


def test_workers_that_are_dead_on_arrival_stop_the_run(
    slurm: Slurm, tmp_path: Path, prepare: Callable[..., Submitted]
) -> None:
    sections: dict[str, dict[str, Any]] = {
        "No such file or directory": {"python": "/nonexistent/python"},
        "no scratch here": {"job-script-prologue": ["echo no scratch here >&2", "false"]},
    }
    runs = {}
    for number, (message, section) in enumerate(sections.items()):
        runs[message] = prepare(tmp_path / str(number), cpu=section)
        runs[message].submit()
    for message, run in runs.items():
        run.wait(60)
        assert slurm.job_state(run.job_ids[0]) == "FAILED"
        assert re.search(r"group cpu: \d jobs in a row ended before a worker connected", run.log()), run.log()
        assert message in run.log()
        assert run.progress()["state"] == "failed"
        assert message in run.progress()["reason"]
        assert not run.receipts()
        assert re.search(r"queue: driver: job \d+ FAILED: exit status 1, ended at", status(run))
        failed = re.compile(r"queue: cpu: job \d+ FAILED: exit status \d+, ended at")
        slurm.wait_until(lambda run=run, failed=failed: failed.search(status(run)), "the end of a job is told")


def test_a_worker_reaches_its_walltime(slurm: Slurm, chain: Submitted, serial_scoring: Path) -> None:
    chain.wait(240)
    chain.assert_complete(serial_scoring)
    stayed = [path.name.removesuffix("-stays") for path in (chain.gate.folder / "ingest").glob("*-stays")]
    assert [slurm.job_state(job_id) for job_id in stayed] == ["TIMEOUT"]
    assert "submitted again" not in chain.log()


def test_quarantine_is_told(serial: Path) -> None:
    assert len(Table.read(serial / "quarantine.csv", format="csv")) == 8
