"""Job scripts: what they ask Slurm for, and that any shell understands them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from swimmy_scale.cluster.driver import Submission
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.scripts import command_script, driver_script, worker_script
from swimmy_scale.cluster.site import Site, parse_site
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, parse_job

TEXT = """\
jobqueue:
  slurm: {account: galaxies, memory: 8GiB, job-script-prologue: [module load python]}
  driver: {queue: long, walltime: "2-00"}
  cpu: {queue: short, cores: 8, processes: 4, local-directory: $TMPDIR, interface: ib0}
  gpu: {queue: fast, cores: 4, python: /opt/python, job-directives-skip: [--mem], job-extra-directives: [--nice=5]}
swimmy-scale:
  kind: slurm
  groups:
    cpu: {jobs: 3}
    gpu: {jobs: 2, gpus: 1}
  signal-seconds: 90
"""
PLACES = Places(Path("/shared/run"))


def site(text: str = TEXT) -> Site:
    return parse_site(text, Path("site.yaml"))


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


def test_cpu_workers() -> None:
    script = worker_script(site().groups[0], PLACES)
    asked = directives(script)
    for line in (
        "-p short", "-A galaxies", "--cpus-per-task=8", "--mem=8G", "-t 01:00:00", "--no-requeue",
        "--output=/shared/run/log/workers/cpu-%j.log", "--chdir=/shared/run/log",
    ):  # fmt: skip
        assert line in asked
    assert not [line for line in asked if "gres" in line]
    command = script.splitlines()[-1].split()
    assert command[:3] == [sys.executable, "-m", "distributed.cli.dask_worker"]
    options = dict(itertools.pairwise(command))
    wanted = {
        "--name": "cpu-${SLURM_JOB_ID}",
        "--nworkers": "4",
        "--nthreads": "1",
        "--memory-limit": "2.00GiB",
        "--resources": "CPU=1",
        "--local-directory": "$TMPDIR",
        "--interface": "ib0",
        "--protocol": "tls://",
        "--tls-key": "/shared/run/log/tls/key.pem",
        "--scheduler-file": "/shared/run/log/scheduler.json",
    }
    assert {name: options[name] for name in wanted} == wanted
    assert "--no-dashboard" in command


def test_gpu_workers() -> None:
    script = worker_script(site().groups[1], PLACES)
    assert "--gres=gpu:1" in directives(script)
    assert "--nice=5" in directives(script)
    assert not [line for line in directives(script) if line.startswith("--mem")]
    assert "/opt/python -m distributed.cli.dask_worker" in script
    assert "--resources GPU=1" in script
    own = TEXT.replace("--nice=5", "--gpus=a100:1")
    assert "--gres=gpu:1" not in worker_script(site(own).groups[1], PLACES)


def test_a_job_with_several_gpus_has_a_process_for_each() -> None:
    text = TEXT.replace("queue: fast, cores: 4,", "queue: fast, cores: 8, processes: 4,").replace("gpus: 1", "gpus: 4")
    script = worker_script(site(text).groups[1], PLACES)
    assert "--gres=gpu:4" in directives(script)
    assert "--nworkers 4 " in script
    assert script.rstrip().endswith("--preload swimmy_scale.cluster.own_gpu")
    assert "--preload" not in worker_script(site().groups[1], PLACES)


def test_an_interpreter_may_be_a_container() -> None:
    text = TEXT.replace("python: /opt/python", "python: apptainer exec --nv '/shared/my images/a.sif' python")
    words = "apptainer exec --nv '/shared/my images/a.sif' python -m "
    group = site(text).groups[1]
    assert f"\n{words}distributed.cli.dask_worker " in worker_script(group, PLACES)
    assert f"\n{words}swimmy_scale report\n" in command_script(
        group, PLACES, "report", [*group.spec.interpreter, "-m", "swimmy_scale", "report"]
    )
    everywhere = site(TEXT.replace("account: galaxies,", "account: galaxies, python: [podman, run, image, python],"))
    job = parse_job("{cutouts: /shared/c.zarr, train: {}}", Path("job.yaml"), Job)
    scripts = Submission(job, everywhere, PLACES.run).scripts()
    assert "\npodman run image python -m swimmy_scale run /shared/run/job.yaml " in scripts["driver"]
    assert "\npodman run image python -m distributed.cli.dask_worker " in scripts["cpu"]


def test_another_command() -> None:
    words = ["python", "-m", "swimmy_scale", "report", "/shared/a run"]
    script = command_script(site().groups[0], PLACES, "report", words)
    asked = directives(script)
    for line in ("-p short", "--cpus-per-task=8", "--no-requeue", "--dependency=singleton", f"-J {PLACES.tag}.report"):
        assert line in asked
    assert "--output=/shared/run/log/report-%j.log" in asked
    assert "module load python" in script
    assert "python -m swimmy_scale report '/shared/a run'\n" in script


@pytest.mark.parametrize(("command", "status"), [("exit 0", 0), ("exit 3", 0), ("exit 1", 1), ("kill -9 $$", 137)])
def test_how_another_command_ends(command: str, status: int) -> None:
    plain = site(TEXT.replace("module load python", "date"))
    script = command_script(plain.groups[0], PLACES, "select", ["bash", "-c", command])
    assert subprocess.run(["bash"], input=script, text=True, check=False, capture_output=True).returncode == status


def test_a_prologue_that_fails_ends_the_job() -> None:
    lines = worker_script(site().groups[0], PLACES).splitlines()
    at = lines.index("module load python")
    assert lines[at - 1 : at + 2] == ["set -e", "module load python", "set +e"]


def test_the_driver() -> None:
    script = driver_script(site(), PLACES, ["python", "-m", "swimmy_scale", "run", "a b"], chained=False)
    asked = directives(script)
    for line in ("-p long", "-t 2-00", "--signal=B:USR1@90", "--requeue", "--dependency=singleton"):
        assert line in asked
    assert "python -m swimmy_scale run 'a b' &" in script
    assert "sbatch --parsable /shared/run/log/jobs/driver.sh" in script
    chained = driver_script(site(), PLACES, ["true"], chained=True)
    assert "sbatch" not in chained.replace("#SBATCH", "")
    assert f'scancel --quiet --state=PENDING --user="$(id -u)" --name={PLACES.tag}' in chained


@pytest.mark.parametrize("chained", [False, True])
def test_shells_understand_them(chained: bool) -> None:
    texts = [worker_script(group, PLACES) for group in site().groups]
    for text in [*texts, driver_script(site(), PLACES, ["true"], chained)]:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("exit 0", 0, ""),
        ("exit 3", 0, "status 3"),
        ("exit 1", 1, "status 1"),
        ("exit 2", 2, "status 2"),
        ("exit 75", 0, "submitted again as job 77"),
        ("kill -9 $$", 137, "died without getting anywhere, so it is not submitted again"),
        ("touch receipts/new; kill -9 $$", 0, "submitted again as job 77"),
        ("mkdir -p receipts/attempts/x; touch receipts/attempts/x/mark; kill -9 $$", 137, "without getting anywhere"),
        ("kill -USR1 $PPID; sleep 2", 0, "submitted again as job 77"),
        ("trap 'exit 130' TERM; kill -TERM $PPID; sleep 2 & wait", 130, "status 130"),
    ],
)
def test_how_the_driver_ends(tmp_path: Path, command: str, status: int, says: str) -> None:
    # The driver turns USR1 into status 75.
    command = f"trap 'exit 75' USR1; {command} & wait" if "USR1" in command else command
    returned, said = run_driver(tmp_path, command)
    assert returned == status, said
    assert says in said
    assert ("submitted again as" in said) == ("submitted again as" in says)


def run_driver(folder: Path, command: str, chained: bool = False, sbatch: str = "echo 77") -> tuple[int, str]:
    """Run a driver's script with stand-ins for Slurm's commands; its status and output."""
    (folder / "bin").mkdir()
    (folder / "receipts").mkdir()
    quick = 'exec /bin/sleep "$(echo "$1" | sed s/^/0.0/)"'
    for name, text in (("sbatch", sbatch), ("scancel", 'echo scancel "$@"'), ("sleep", quick)):
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    plain = site(TEXT.replace("module load python", "date"))
    text = driver_script(plain, Places(folder), ["bash", "-c", command.replace("sleep", "/bin/sleep")], chained)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "1"}
    done = subprocess.run(
        ["bash"], input=text, text=True, capture_output=True, cwd=folder, check=False, timeout=30, env=environment
    )
    return done.returncode, done.stdout + done.stderr


def test_a_busy_slurm_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "tries").mkdir()
    busy = "[ $(ls tries | wc -l) -ge 3 ] && echo 77 && exit 0; touch tries/$$; echo 'Socket timed out' >&2; exit 1"
    status, said = run_driver(tmp_path, "exit 75", sbatch=busy)
    assert (status, said.count("Socket timed out")) == (0, 3)
    assert "submitted again as job 77" in said


def test_a_driver_that_cannot_be_submitted_again_says_so(tmp_path: Path) -> None:
    status, said = run_driver(tmp_path, "exit 75", sbatch="echo 'job submit limit' >&2; exit 1")
    assert status == 1
    assert "submitted again as" not in said
    assert "it could not be submitted again: give the command swimmy-scale submit, it resumes" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "status", "ends_chain"),
    [
        ("exit 0", 0, True),
        ("exit 3", 0, True),
        ("exit 1", 1, True),
        ("exit 75", 75, False),
        ("kill -9 $$", 137, False),
        ("trap 'exit 130' TERM; kill -TERM $PPID; sleep 2 & wait", 130, True),
    ],
)
def test_a_chain_goes_on_only_where_the_next_can_do_more(
    tmp_path: Path, command: str, status: int, ends_chain: bool
) -> None:
    returned, said = run_driver(tmp_path, command, chained=True)
    assert returned == status, said
    assert (f"--name={Places(tmp_path).tag}" in said) == ends_chain
    assert ("the next job of the chain goes on" in said) != ends_chain


def test_a_users_own_dask_configuration_does_not_count() -> None:
    plain = worker_script(site().groups[0], PLACES)
    with dask.config.set({"jobqueue.slurm.queue": "other", "jobqueue.slurm.job-script-prologue": ["rm -r /"]}):
        assert worker_script(site().groups[0], PLACES) == plain


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a%j", "a;b", "a\nb"])
def test_paths_that_scripts_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(SwimmyError, match=r"a run directory for Slurm has only letters.*Choose another --output"):
        Places(Path("/shared") / name)


def test_runs_have_names_of_their_own() -> None:
    assert Places(Path("/shared/a")).tag != Places(Path("/shared/b")).tag
