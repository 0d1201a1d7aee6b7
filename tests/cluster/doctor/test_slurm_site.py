"""What a site file asks of Slurm, against what Slurm says of its partitions; recorded from a real one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from expected_findings import expect
from recorded_slurm import RecordedSlurm, partition, recorded_slurm

from swimmy_scale.cluster.doctor import slurm_site
from swimmy_scale.cluster.doctor.findings import Finding
from swimmy_scale.cluster.site import JobSpec, Site, load_site, parse_site
from swimmy_scale.cluster.slurm import Partition
from swimmy_scale.stages.memory import MIB, default_worker_bytes

GIB = 1 << 30
SITE = Path(__file__).resolve().parents[3] / "cluster" / "slurm-gpu.yaml"
NODES = [
    Partition("cpu", True, True, "1-00:00:00", 16, 64 * GIB, ""),
    Partition("long", False, True, None, 8, 64 * GIB, ""),
    Partition("gpu", False, True, "04:00:00", 32, 128 * GIB, "gpu:a100:4"),
    Partition("old", False, False, None, 16, 64 * GIB, ""),
]


def spec(**fields: object) -> JobSpec:
    return JobSpec.model_validate({"cores": 4, "memory": "8GiB", "walltime": "04:00:00", **fields})


@pytest.mark.parametrize(
    ("asked", "gpus", "state", "words"),
    [
        ({}, 0, "ok", "queue cpu (the default) takes 4 cores and 8,192 MiB, 04:00:00"),
        ({"queue": "long", "walltime": "30-00"}, 0, "ok", "queue long"),
        ({"queue": "gpu"}, 1, "ok", "queue gpu"),
        ({"queue": "cpu,gpu", "cores": 32}, 1, "ok", "queue cpu,gpu"),
        ({"queue": "nosuch"}, 0, "problem", "no queue nosuch. Choose among cpu, gpu, long, old"),
        ({"queue": "old"}, 0, "problem", "queue old is not up"),
        ({"walltime": "2-00:00:00"}, 0, "problem", "walltime 2-00:00:00 is more than the 1-00:00:00 of queue cpu"),
        ({"cores": 20}, 0, "problem", "20 cores and 8,192 MiB, but the largest node of queue cpu (the default) has 16"),
        ({"job-cpu": 20}, 0, "problem", "20 cores"),
        ({"memory": "100GiB"}, 0, "problem", "102,400 MiB, but the largest node"),
        ({"memory": "100GiB", "job-directives-skip": ["--mem"]}, 0, "ok", "takes 4 cores, 04:00:00"),
        ({"memory": "100GiB", "job-directives-skip": ["-A", "--cpus-per-task"]}, 0, "problem", "102,400 MiB, but the"),
        ({}, 1, "problem", "no node of queue cpu (the default) has a GPU"),
        ({"queue": "gpu"}, 4, "ok", "queue gpu"),
        ({"queue": "gpu"}, 8, "problem", "8 GPUs, but no node of queue gpu has more than 4. Lower gpus of the group"),
    ],
)
def test_queues(asked: dict, gpus: int, state: str, words: str) -> None:
    expect(slurm_site.check_queue("workers", spec(**asked), gpus, NODES), state, "jobs workers", words)


def test_nodes_whose_memory_nobody_manages() -> None:
    """Slurm says 1 MiB for a node whose RealMemory is not set."""
    rows = [dataclasses.replace(row, memory_bytes=1 << 20) for row in NODES]
    expect(slurm_site.check_queue("driver", spec(), 0, rows), "problem", "1 MiB", "job-directives-skip: [--mem] in job")
    skipping = spec(**{"job-directives-skip": ["--mem"]})
    expect(slurm_site.check_queue("driver", skipping, 0, rows), "ok", "takes 4 cores, ")


def test_no_default_queue() -> None:
    rows = [dataclasses.replace(row, is_default=False) for row in NODES]
    expect(slurm_site.check_queue("driver", spec(), 0, rows), "problem", "no default queue", "one of cpu, gpu, long")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSlurm:
    return recorded_slurm(tmp_path / "bin", monkeypatch)


def site(text: str = "", **driver: object) -> Site:
    """A site with one group of workers in the default queue."""
    asked = {"walltime": "'01:00:00'", **driver}
    fields = ", ".join(f"{name.replace('_', '-')}: {value}" for name, value in asked.items())
    jobs = f"{{driver: {{{fields}}}, cpu: {{}}}}"
    return parse_site(
        f"{{jobqueue: {jobs}, swimmy-scale: {{kind: slurm, groups: {{cpu: {{jobs: 1}}}}}}}}", Path("s.yaml")
    )


def found_of(site: Site) -> list[Finding]:
    """What the checks of a site find in the queues."""
    return [finding for finding in slurm_site.check_site(site, Path("/shared/run")) if finding.name == "queue"]


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (
            {"walltime": "'24:00:00'"},
            "walltime 24:00:00 is more than the 12:00:00 of queue cpu (the default). Lower walltime",
        ),
        ({"queue": "small"}, "4,096 MiB are more than the 2,000 MiB that queue small gives a job. Change memory in"),
        ({"queue": "small", "memory": "1GiB", "cores": 4}, "4 cores are more than the 2 that queue small gives a job"),
        ({"queue": "closed", "account": "galaxies"}, "takes only the accounts stars, not galaxies. Change account"),
        (
            {"queue": "closed", "job_extra_directives": "[--qos=day]"},
            "takes only the QOS night, not day. Change --qos of",
        ),
        ({"queue": "drained"}, "queue drained is not up"),
    ],
)
def test_what_would_wait_for_ever_is_found(slurm: RecordedSlurm, driver: dict[str, object], words: str) -> None:
    """Slurm itself takes each of these, and lets the job wait."""
    first, second = found_of(site(**driver))
    expect(first, "problem", "jobs driver: ", words)
    expect(second, "ok", "jobs cpu: queue cpu (the default) takes 1 core", "would start at 2026-11-30T06:35:25")


def test_a_job_needs_only_one_of_its_queues(slurm: RecordedSlurm) -> None:
    assert found_of(site(queue="'small,cpu'"))[0].state == "ok"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("allocation failure: Requested node configuration is not available", "node configuration is not available"),
        ("allocation failure: Invalid feature specification", "Invalid feature specification. Correct jobqueue.driver"),
        (
            "sbatch: error: Memory specification can not be satisfied",
            "set job-directives-skip: [--mem] in jobqueue.driver",
        ),
    ],
)
def test_what_slurm_refuses_itself(slurm: RecordedSlurm, said: str, words: str) -> None:
    slurm.say("sbatch", f"echo '{said}' >&2; exit 1")
    expect(found_of(site())[0], "problem", words)


def test_slurm_is_asked_with_the_very_script(slurm: RecordedSlurm) -> None:
    slurm.say("sbatch", f'cat >> {slurm.folder}/asked; echo "$@" >> {slurm.folder}/asked')
    assert {finding.state for finding in found_of(site(job_extra_directives="[--constraint=haswell]"))} == {"ok"}
    asked = (slurm.folder / "asked").read_text()
    assert asked.count("--test-only") == 2
    assert "#SBATCH --constraint=haswell" in asked
    assert "#SBATCH --signal=B:USR1@120" in asked
    assert "distributed.cli.dask_worker" in asked


@pytest.mark.parametrize(
    ("command", "said", "words"),
    [
        ("sinfo", "exit 1", "limits of queues are not known: sinfo failed with status 1"),
        ("sinfo", "echo 'cpu|up'", "cannot read its line 'cpu|up'"),
        ("scontrol", "[ $1 = ping ] && echo UP && exit; exit 1", "rules of queues are not known: scontrol failed"),
        ("sbatch", "echo Socket timed out >&2; exit 1", "could not be asked whether it takes them"),
    ],
)
def test_what_cannot_be_asked_is_said_and_no_problem(slurm: RecordedSlurm, command: str, said: str, words: str) -> None:
    slurm.say(command, said)
    found = found_of(site())
    assert {finding.state for finding in found} <= {"ok", "warning"}
    assert any(words in finding.text for finding in found if finding.state == "warning"), found


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        # As the manual page of sacctmgr has it; a real one needs a database.
        ("echo 'night|00:30:00'", "problem", "walltime 01:00:00 is more than the 00:30:00 of QOS night"),
        ("echo 'night|1-00:00:00'", "ok", ""),
        ("echo 'night|'", "ok", ""),
        ("true", "warning", "the limits of QOS night are not known: there is no QOS night"),
        ("exit 1", "warning", "the limits of QOS night are not known: sacctmgr failed with status 1"),
    ],
)
def test_limits_of_a_qos(slurm: RecordedSlurm, said: str, state: str, words: str) -> None:
    slurm.say("sacctmgr", said)
    expect(found_of(site(job_extra_directives="[--qos=night]"))[0], state, words)
    (slurm.folder / "partitions").write_text(partition("cpu", qos="night") + "\n")
    # It holds for all jobs of the queue.
    found = found_of(site())
    expect(found[0], state, words)
    expect(found[1], state, "jobs cpu")


LARGE = "cpu*|up|infinite|16|65536|(null)\ngpu|up|4:00:00|32|131072|gpu:a100:4"


def test_a_site_that_fits(slurm: RecordedSlurm) -> None:
    slurm.print("sinfo", LARGE)
    found = list(slurm_site.check_site(load_site(SITE), Path("/shared/run")))
    assert [finding.name for finding in found] == ["slurm", "memory", "controller", "queue", "queue", "queue"]
    assert found[2].text == "Slurmctld(primary) at head is UP"
    # The driver of the example asks for a day, the GPU queue gives its jobs four hours.
    assert {finding.state for finding in found} == {"ok"}


@pytest.mark.parametrize(
    ("command", "text", "name", "words"),
    [
        ("scontrol", "echo 'Slurmctld(primary) at head is DOWN'", "controller", "is DOWN. Ask who runs the cluster"),
        ("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1", "controller", "Unable to contact"),
        ("sinfo", "echo 'cpu*|up|1:00:00|16|65536|(null)'", "queue", "there is no queue gpu"),
        ("sinfo", "echo 'cpu*|up|1:00:00|16|65536|(null)'", "queue", "walltime 24:00:00 is more than the 1:00:00"),
    ],
)
def test_a_slurm_that_is_ill(slurm: RecordedSlurm, command: str, text: str, name: str, words: str) -> None:
    slurm.print("sinfo", LARGE)
    slurm.say(command, text)
    checked = slurm_site.check_site(load_site(SITE), Path("/shared/run"))
    found = [finding for finding in checked if finding.state == "problem"]
    assert {finding.name for finding in found} == {name}
    assert any(words in finding.line() for finding in found), [finding.line() for finding in found]


def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    expect(slurm_site.check_commands(needed=False), "ok", "runs stay on this machine")
    found = list(slurm_site.check_site(load_site(SITE), tmp_path))
    expect(found[0], "problem", "sbatch, squeue, scancel, sinfo, scontrol not found", "login node")
    assert "queue" not in [finding.name for finding in found]


def test_a_folder_that_job_scripts_cannot_hold(slurm: RecordedSlurm) -> None:
    *_, last = slurm_site.check_site(load_site(SITE), Path("/shared/my run"))
    expect(last, "problem", "/shared/my run: a run directory for Slurm has only letters", "Choose another --scratch")


@pytest.mark.usefixtures("slurm")
def test_what_else_a_site_file_names() -> None:
    text = SITE.read_text().replace("python: null", "python: /no/such/python").replace("memory: 16GiB", "memory: 2GiB")
    text = text.replace("scheduler-interface: null", "scheduler-interface: ib99")
    lines = [finding.line() for finding in slurm_site.check_site(parse_site(text, Path("site.yaml")), Path("/r"))]
    assert any("/no/such/python is not on this machine" in line for line in lines)
    assert any("ib99 of swimmy-scale.scheduler-interface is not on this machine" in line for line in lines)
    needed = default_worker_bytes()["TensorFlow"] / MIB
    assert any(f"TensorFlow needs up to {needed:,.0f} MiB a process, site.yaml gives it 2,048 MiB" in x for x in lines)
