"""Commands as batch jobs: what is submitted for a command line, and where its log lies."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from recorded_slurm import RecordedSlurm, recorded_slurm
from survey_runs import call_here

from swimmy_scale.storage.run_directory import RunDirectory

SITE = "{jobqueue: {driver: {}, cpu: {python: /opt/python}}, swimmy-scale: {kind: slurm, groups: {cpu: {jobs: 1}}}}"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSlurm:
    found = recorded_slurm(tmp_path / "bin", monkeypatch)
    found.say("sbatch", f'[ "$1" = --test-only ] || echo "$2" >> {tmp_path}/submitted; echo 7')
    (tmp_path / "site.yaml").write_text(SITE)
    (tmp_path / "run/receipts/job").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return found


def submitted(folder: Path, *words: object) -> list[str]:
    """The command of the job that a command line submits, without the interpreter."""
    done = call_here(*words, "--site", "site.yaml")
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    script = folder / f"log/jobs/{words[0]}.sh"
    assert (folder.parent / "submitted").read_text().split()[-1] == str(script)
    (command,) = (line for line in script.read_text().splitlines() if line.startswith("/opt/python"))
    return shlex.split(command)[3:]


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["report", "run"], ["report", "{0}/run"]),
        (
            ["report", "--max-candidates", "5", "run", "--output", "my report"],
            ["report", "--output", "{0}/my report", "--max-candidates", "5", "{0}/run"],
        ),
        (["figures", "run", "stretch", "--object", "7"], ["figures", "--object", "7", "{0}/run", "stretch"]),
        (["figures", "run", "a", "b", "--stack", "mean"], ["figures", "--stack", "mean", "{0}/run", "a", "b"]),
        (["tables", "run/."], ["tables", "{0}/run"]),
        (["select", "run/scores.zarr", "--output", "s"], ["select", "--output", "{0}/s", "{0}/run/scores.zarr"]),
    ],
)
def test_the_job_does_what_was_asked(tmp_path: Path, given: list[str], words: list[str]) -> None:
    assert submitted(tmp_path / "run", *given) == [word.format(tmp_path) for word in words]
    told = json.loads(call_here("status", "run", "--json").stdout)["queue"]
    assert [(job["what"], job["job_id"]) for job in told["jobs"]] == [(given[0], "7")]


@pytest.mark.usefixtures("slurm")
def test_a_log_that_lies_with_the_output(tmp_path: Path) -> None:
    (tmp_path / "scores.zarr").mkdir()
    words = submitted(tmp_path / "out", "select", "scores.zarr", "--output", "out")
    assert words == ["select", "--output", f"{tmp_path}/out", f"{tmp_path}/scores.zarr"]
    done = call_here("report", "scores.zarr", "--site", "site.yaml")
    assert done.returncode == 1
    assert "no run directory that you may write to, for the job's log. Give --output" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "absent"], "absent: not there. Check the path."),
        (["figures"], "Missing argument"),
        (["report", "run", "--max-candidates", "0"], "max-candidates"),
    ],
)
@pytest.mark.usefixtures("slurm")
def test_what_is_refused_here_and_now(tmp_path: Path, words: list[str], message: str) -> None:
    done = call_here(*words, "--site", "site.yaml")
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert not (tmp_path / "submitted").exists()


def test_a_job_that_could_never_start(slurm: RecordedSlurm, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(SITE.replace("cpu: {python", "cpu: {queue: drained, python"))
    done = call_here("report", "run", "--site", "site.yaml")
    assert done.returncode == 1
    assert "jobs cpu: queue drained is not up" in done.stderr
    assert not RunDirectory(tmp_path / "run").log.path.exists()
    (tmp_path / "site.yaml").write_text("swimmy-scale: {kind: local}")
    assert "kind local has no batch jobs" in call_here("report", "run", "--site", "site.yaml").stderr
