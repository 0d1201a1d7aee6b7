"""Site files: dask-jobqueue's keys, and faults that are told with their line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.cluster.site import Site, load_site, parse_site, walltime_seconds
from swimmy_scale.errors import SwimmyError

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
jobqueue:
  slurm: {account: galaxies, memory: 8GiB}
  driver: {queue: long}
  cpu:
    queue: short
    cores: 8
    processes: 4
    walltime: "02:00:00"
  gpu: {queue: fast, cores: 4, memory: 16GiB}
swimmy-scale:
  kind: slurm
  groups:
    cpu: {jobs: 3}
    gpu: {jobs: 2, gpus: 1}
"""


def parse(text: str) -> Site:
    return parse_site(text, Path("/etc/site.yaml"))


def test_groups_and_what_they_have_in_common() -> None:
    site = parse(GOOD)
    cpu, gpu = site.groups
    assert (cpu.name, cpu.jobs, cpu.gpus, cpu.n_threads) == ("cpu", 3, 0, 2)
    assert (gpu.name, gpu.jobs, gpu.gpus, gpu.n_threads) == ("gpu", 2, 1, 4)
    assert {spec.account for spec in (site.driver, cpu.spec, gpu.spec)} == {"galaxies"}
    assert cpu.spec.memory == 8 * 1024**3
    assert gpu.spec.memory == 16 * 1024**3
    assert site.is_slurm


def test_stages_go_to_the_groups_that_suit_them() -> None:
    site = parse(GOOD)
    assert [group.name for group in site.groups_for(wants_gpu=True)] == ["gpu"]
    assert [group.name for group in site.groups_for(wants_gpu=False)] == ["cpu"]
    only = parse(GOOD.replace("    gpu: {jobs: 2, gpus: 1}\n", "").replace("  gpu: {queue", "  #"))
    assert [group.name for group in only.groups_for(wants_gpu=True)] == ["cpu"]


def test_names_with_dashes_or_underscores() -> None:
    dashes = parse(GOOD.replace("cores: 8", 'cores: 8\n    job-script-prologue: ["module load python"]'))
    underscores = parse(GOOD.replace("cores: 8", 'cores: 8\n    job_script_prologue: ["module load python"]'))
    assert dashes.groups[0].spec == underscores.groups[0].spec
    assert dashes.groups[0].spec.job_script_prologue == ("module load python",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "cores: 8",
            "coers: 8",
            r"^/etc/site.yaml:6: jobqueue.cpu.coers: .*found 8.* cores\? Correct its name, or leave it out$",
        ),
        ("cores: 8", "cores: 0", r"site.yaml:6: jobqueue.cpu.cores: must be a whole number, 1 or more, found 0"),
        ("cores: 8", "cores: 2", r"site.yaml:4: jobqueue.cpu: 4 processes need as many cores, found cores: 2"),
        (
            "memory: 8GiB",
            "memory: much",
            r"jobqueue.cpu.memory: must be a size with its unit, such as 16GiB, found 'much'",
        ),
        ("memory: 8GiB", "memory: 2GiB", r"site.yaml:4: jobqueue.cpu: memory 2.0GiB for 4 processes: each needs 1GiB"),
        (
            '"02:00:00"',
            '"2 hours"',
            r"site.yaml:8: jobqueue.cpu.walltime: must be a time of Slurm in quotes: .*found '2 hours'",
        ),
        ('"02:00:00"', '"00:00:30"', r"jobqueue.cpu: walltime 00:00:30 is less than a minute"),
        ("queue: short", "queue: a b", r"site.yaml:5: jobqueue.cpu.queue: must be one word .*found 'a b'"),
        ("queue: short", "queue: $(id)\n    local-directory: a;b", r"jobqueue.cpu.local-directory"),
        ("cores: 4,", "cores: 4, processes: 2,", r"site.yaml:9: jobqueue.gpu.processes: .* one process; set it to 1"),
        ("gpus: 1", "gpus: 2", r"site.yaml:9: jobqueue.gpu.processes: .* 2 GPUs is 2 processes, one each; set it to 2"),
        (
            "gpus: 1",
            "gpus: -1",
            r"site.yaml:14: swimmy-scale.groups.gpu.gpus: must be a whole number, 0 or more, found -1",
        ),
        (
            "cores: 8",
            "cores: 8\n    python: ''",
            r"site.yaml:7: jobqueue.cpu.python: .*names no interpreter; leave it out",
        ),
        ("cores: 8", 'cores: 8\n    python: "\'a"', r"jobqueue.cpu.python: .*No closing quotation"),
        (
            "jobs: 3",
            "jobs: 0",
            r"site.yaml:13: swimmy-scale.groups.cpu.jobs: must be a whole number, 1 or more, found 0",
        ),
        ("    cpu: {jobs", "    cpus: {jobs", r"jobqueue: has no section cpus.*\n.*jobqueue.cpu: belongs to no group"),
        ("  driver:", "  drivers:", r"site.yaml:1: jobqueue: has no section driver"),
        ("kind: slurm", "kind: pbs", r"site.yaml:11: swimmy-scale.kind: must be local or slurm, found 'pbs'"),
        ("kind: slurm", "kind: local", r"site.yaml:12: swimmy-scale.groups: kind local has no batch jobs"),
        ("kind: slurm", "kind: slurm\n  workers: 3", r"site.yaml:12: swimmy-scale.workers: is for kind local"),
        ("kind: slurm", "kind: slurm\n  signal-seconds: 4000", r"site.yaml:3: jobqueue.driver.walltime: .* no time"),
        ("kind: slurm", "kind: slurm\n  format-version: 2", r"site.yaml:12: swimmy-scale.format-version"),
        ("cores: 8", 'cores: 8\n    job-extra-directives: ["--requeue"]', r"leave out --requeue"),
        ("cores: 8", 'cores: 8\n    job-script-prologue: ["a\\nb"]', r"a line holds a line break"),
        ("cores: 8", 'cores: 8\n    worker-extra-args: ["a\\nrm -r x"]', r"a line holds a line break: .*; make it two"),
        ("cores: 8", 'cores: 8\n    worker-extra-args: ["a\\rb"]', r"a line holds a line break"),
        ("cores: 8", "cores: 8\n    cores: 9", r"site.yaml:7: cores is there twice"),
        (
            "cores: 8",
            "cores: 8\n    death-timeout: 1",
            r"site.yaml:7: jobqueue.cpu.death-timeout: must be a number, 10 or more, found 1",
        ),
        (GOOD, "swimmy-scale: {kind: slurm}\n", r"site.yaml:1: swimmy-scale.groups: kind slurm needs at least one"),
        (GOOD, "jobqueue: {}\n", r"swimmy-scale: missing; it must be given"),
        (GOOD, "[]\n", r"a site is a mapping of sections; found a list"),
    ],
)
def test_faults_say_where_and_what(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(SwimmyError, match=message):
        parse(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    "text",
    [
        "apptainer exec --nv '/shared/my images/a.sif' python",
        "[apptainer, exec, --nv, /shared/my images/a.sif, python]",
    ],
)
def test_an_interpreter_is_a_list_of_words_or_a_line(text: str) -> None:
    spec = parse(GOOD.replace("cores: 8", f"cores: 8\n    python: {text}")).groups[0].spec
    assert spec.interpreter == ("apptainer", "exec", "--nv", "/shared/my images/a.sif", "python")
    assert parse(GOOD).driver.interpreter == (sys.executable,)


@pytest.mark.parametrize(
    ("line", "qos"),
    [
        ("--qos=night", "night"),
        ("--qos night", "night"),
        ("-q night", "night"),
        ("-qnight", "night"),
        ("--nice=5", None),
    ],
)
def test_the_qos_of_a_job(line: str, qos: str | None) -> None:
    text = GOOD.replace("cores: 8", f"cores: 8\n    job-extra-directives: [--nice=1, {line}]")
    assert parse(text).groups[0].spec.qos == qos


@pytest.mark.parametrize("path", sorted((ROOT / "cluster").glob("*.yaml")), ids=lambda path: path.name)
def test_site_files_of_the_project_are_valid(path: Path) -> None:
    assert load_site(path).is_slurm == path.name.startswith("slurm")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"absent.yaml: cannot read the site file \(No such file"):
        load_site(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    # The forms that sbatch's manual lists for --time.
    [("90", 5400), ("1:30", 90), ("01:00:00", 3600), ("2-0", 172800), ("1-02:03", 93780), ("1-02:03:04", 93784)],
)
def test_walltimes(text: str, seconds: int) -> None:
    assert walltime_seconds(text) == seconds


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_any_walltime(days: int, hours: int, minutes: int, seconds: int) -> None:
    wanted = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert walltime_seconds(f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}") == wanted
    assert walltime_seconds(f"{days * 24 + hours}:{minutes:02d}:{seconds:02d}") == wanted


def test_memory_and_scorer_of_a_site() -> None:
    limits = parse(GOOD).memory_limits
    assert (limits.reader_bytes, limits.network_bytes, limits.on_gpu) == (2 << 30, 16 << 30, True)
    assert limits.where == "/etc/site.yaml"
    assert parse(GOOD).section.scorer == "auto"
    site = parse(GOOD.replace("kind: slurm", "kind: slurm\n  scorer: numba"))
    assert site.section.scorer == "numba"
    with pytest.raises(SwimmyError, match=r"scorer: must be auto, keras or numba, found 'fast'"):
        parse(GOOD.replace("kind: slurm", "kind: slurm\n  scorer: fast"))


def test_the_leanest_group_counts() -> None:
    text = GOOD.replace("    gpu: {jobs: 2, gpus: 1}\n", "    gpu: {jobs: 2}\n")
    limits = parse(text).memory_limits
    assert (limits.reader_bytes, limits.network_bytes, limits.on_gpu) == (2 << 30, 2 << 30, False)


def test_threads_of_the_groups_that_score() -> None:
    site = parse(GOOD)
    gpu, cpu = (next(group for group in site.groups if bool(group.gpus) == on_gpu) for on_gpu in (True, False))
    assert site.on_gpu
    assert (site.scoring_threads("keras"), site.scoring_threads("numba")) == (gpu.n_threads, cpu.n_threads)
    assert not parse("swimmy-scale: {kind: local}").on_gpu
