"""The driver: its keys, Slurm's commands, and what a submission refuses."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.driver import Submission
from swimmy_scale.cluster.fleet import dashboard_help
from swimmy_scale.cluster.site import parse_site
from swimmy_scale.cluster.tls import tls_files
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, parse_job

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


def test_missing_inputs_are_told_before_anything_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(tmp_path, "squeue", "", monkeypatch)
    job = parse_job(JOB, tmp_path / "job.yaml", Job)
    submission = Submission(job, parse_site(SITE, tmp_path / "site.yaml"), tmp_path / "run")
    with pytest.raises(SwimmyError, match=r"absent.fits, \S+absent.tar: not there. Correct the path in the job file"):
        submission.submit()


def test_this_machine_has_no_batch_jobs(tmp_path: Path) -> None:
    local = parse_site("swimmy-scale: {kind: local}", tmp_path / "site.yaml")
    with pytest.raises(SwimmyError, match=r"kind local has no batch jobs. Use `swimmy-scale run --site`"):
        Submission(parse_job(JOB, tmp_path / "job.yaml", Job), local, tmp_path / "run")


def test_a_hopeless_job_is_not_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(tmp_path, "squeue", "exit 0", monkeypatch)
    fake_command(tmp_path, "sbatch", f"touch {tmp_path}/submitted", monkeypatch)
    (tmp_path / "c.csv").write_text("object_id,ra,dec\n1,10.0,1.0\n2,11.0,1.0\n")
    (tmp_path / "pixels").mkdir()
    text = "{catalogue: {path: c.csv}, ingest: {sources: [pixels]}, train: {classes: []}}"
    site = parse_site(SITE, tmp_path / "site.yaml")
    submission = Submission(parse_job(text, tmp_path / "job.yaml", Job), site, tmp_path / "run")
    with pytest.raises(SwimmyError, match=r"c\.csv: all 2 objects would be in quarantine: 2 fwhm_missing"):
        submission.submit()
    assert not (tmp_path / "submitted").exists()
    assert not (tmp_path / "run/job.yaml").exists()
