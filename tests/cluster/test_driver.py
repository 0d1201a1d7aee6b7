"""The driver: its keys, Slurm's commands, and what a submission refuses."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest
from recorded_slurm import RecordedSlurm, recorded_slurm

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.driver import Submission
from swimmy_scale.cluster.fleet import dashboard_help
from swimmy_scale.cluster.site import load_site, parse_site
from swimmy_scale.cluster.submitted import MOST_NOTED, note_submitted, read_submitted
from swimmy_scale.cluster.tls import tls_files
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, parse_job
from swimmy_scale.storage.run_directory import RunDirectory

JOB = "{catalogue: {path: absent.fits}, ingest: {sources: [absent.tar]}, train: {}}"
SITE = "{jobqueue: {driver: {}, cpu: {}}, swimmy-scale: {kind: slurm, groups: {cpu: {jobs: 1}}}}"


def test_keys_are_private_and_gone_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "log" / "tls"
    with contextlib.suppress(OSError), tls_files(folder) as security:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert security.get_connection_args("client")["require_encryption"]
        first = (folder / "key.pem").read_bytes()
        raise OSError("the disk is away")
    assert not folder.exists()
    folder.mkdir(mode=0o755)
    (folder / "key.pem").write_bytes(first)
    with tls_files(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "key.pem").read_bytes() != first, "keys that a killed driver left are never used again"


def test_how_to_see_the_dashboard() -> None:
    assert "ssh -L 8787:127.0.0.1:40123 " in dashboard_help("http://127.0.0.1:40123/status")


def fake_command(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_squeue_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "7|swimmy-1|RUNNING|None\\n8|swimmy-1-cpu|PENDING|ReqNodeNotAvail, Unav|x\\n9|other|RUNNING|None\\nodd"
    fake_command(tmp_path, "squeue", f"printf '{lines}'", monkeypatch)
    assert slurm.queued("swimmy-1") == {
        "7": slurm.QueuedJob("7", "swimmy-1", "RUNNING", "None"),
        "8": slurm.QueuedJob("8", "swimmy-1-cpu", "PENDING", "ReqNodeNotAvail, Unav|x"),
    }
    assert list(slurm.queued("swimmy-1-")) == ["8"]


def test_a_refusal_is_told_with_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(tmp_path, "sbatch", "echo 'sbatch: error: Batch job submission failed' >&2; exit 1", monkeypatch)
    with pytest.raises(slurm.SlurmError, match=r"sbatch failed with status 1: sbatch: error: .*\(\S*/job.sh\)"):
        slurm.submit(tmp_path / "job.sh")


def test_jobs_of_jobs_do_not_inherit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_CONF", "/etc/here.conf")
    fake_command(tmp_path, "sbatch", "echo ${SLURM_MEM_PER_NODE}${SBATCH_PARTITION}$SLURM_CONF';cluster'", monkeypatch)
    assert slurm.submit(tmp_path / "job.sh") == "/etc/here.conf"


def test_a_machine_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurm.SlurmError, match=r"squeue: not found. Give the command on a machine that has Slurm"):
        slurm.queued("x")


def test_cancelling_nothing_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.cancel([])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSlurm:
    """A Slurm that would take the jobs; it notes what was submitted."""
    found = recorded_slurm(tmp_path / "bin", monkeypatch)
    found.say("sbatch", f'[ "$1" = --test-only ] || echo "$@" >> {tmp_path}/submitted; echo 7')
    return found


@pytest.mark.usefixtures("here")
def test_missing_inputs_are_told_before_anything_is_submitted(tmp_path: Path) -> None:
    job = parse_job(JOB, tmp_path / "job.yaml", Job)
    submission = Submission(job, parse_site(SITE, tmp_path / "site.yaml"), tmp_path / "run")
    with pytest.raises(SwimmyError, match=r"absent.fits, \S+absent.tar: not there. Correct the path in the job file"):
        submission.submit()


def test_this_machine_has_no_batch_jobs(tmp_path: Path) -> None:
    local = parse_site("swimmy-scale: {kind: local}", tmp_path / "site.yaml")
    with pytest.raises(SwimmyError, match=r"kind local has no batch jobs. Use a site file of kind slurm"):
        Submission(parse_job(JOB, tmp_path / "job.yaml", Job), local, tmp_path / "run")


def some_objects(folder: Path, fwhm: str) -> Job:
    """A job of a hundred objects, whose FWHM the job has to give."""
    (folder / "c.csv").write_text("object_id,ra,dec\n" + "".join(f"{n},{n}.0,1.0\n" for n in range(100)))
    (folder / "pixels").mkdir()
    text = f"{{catalogue: {{path: c.csv, fwhm_arcsec: {fwhm}}}, ingest: {{sources: [pixels]}}, train: {{classes: []}}}}"
    return parse_job(text, folder / "job.yaml", Job)


SEEING = "{g: 0.7, r: 0.7, i: 0.6, z: 0.7, y: 0.7}"


@pytest.mark.usefixtures("here")
def test_a_hopeless_job_is_not_submitted(tmp_path: Path) -> None:
    site = parse_site(SITE, tmp_path / "site.yaml")
    submission = Submission(some_objects(tmp_path, "{}"), site, tmp_path / "run")
    with pytest.raises(SwimmyError, match=r"c\.csv: all 100 objects would be in quarantine: 100 fwhm_missing"):
        submission.submit()
    assert not (tmp_path / "submitted").exists()
    assert not (tmp_path / "run/job.yaml").exists()


TOO_LONG = SITE.replace("driver: {}", "driver: {walltime: '24:00:00'}")


@pytest.mark.usefixtures("here")
def test_jobs_that_could_never_start_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    site = parse_site(TOO_LONG, tmp_path / "site.yaml")
    submission = Submission(some_objects(tmp_path, SEEING), site, tmp_path / "run")
    message = (
        r"site.yaml: jobs of this site would never start, so nothing was submitted:\n"
        r"  jobs driver: walltime 24:00:00 is more than the 12:00:00 of queue cpu .*\n"
        r"Correct \S+site.yaml and submit again; --unchecked submits all the same"
    )
    with pytest.raises(SwimmyError, match=message):
        submission.submit()
    assert not (tmp_path / "submitted").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("here")
def test_unchecked_jobs_are_submitted_and_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "site.yaml").write_text(TOO_LONG)
    site, run = load_site(tmp_path / "site.yaml"), tmp_path / "run"
    submission = Submission(some_objects(tmp_path, SEEING), site, run, n_chained=2, unchecked=True)
    assert submission.submit() == ["7", "7"]
    assert "jobs driver: walltime 24:00:00 is more than" in caplog.text
    assert (tmp_path / "submitted").read_text().splitlines() == [f"--parsable {run}/log/jobs/driver.sh"] * 2
    assert [(job.what, job.job_id) for job in read_submitted(RunDirectory(run).log)] == [("driver", "7")] * 2


def test_what_slurm_does_not_say_is_told_and_no_obstacle(
    here: RecordedSlurm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here.say("sinfo", "exit 1")
    (tmp_path / "site.yaml").write_text(SITE)
    submission = Submission(some_objects(tmp_path, SEEING), load_site(tmp_path / "site.yaml"), tmp_path / "run")
    assert submission.submit() == ["7"]
    assert "warning: limits of queues are not known: sinfo failed with status 1" in caplog.text


def test_a_note_that_is_damaged_counts_as_none(tmp_path: Path) -> None:
    log = RunDirectory(tmp_path).log
    assert read_submitted(log) == []
    for text in ("{", "[]", '{"format_version": 2, "jobs": []}', '{"format_version": 1, "jobs": [{"a": 1}]}'):
        log.submitted.parent.mkdir(parents=True, exist_ok=True)
        log.submitted.write_text(text)
        assert read_submitted(log) == []
    note_submitted(log, "report", "swimmy-1.report", ["8"])
    assert [job.job_id for job in read_submitted(log)] == ["8"]
    note_submitted(log, "driver", "swimmy-1", map(str, range(MOST_NOTED)))
    assert [job.job_id for job in read_submitted(log)] == [str(number) for number in range(MOST_NOTED)]
