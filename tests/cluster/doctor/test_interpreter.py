"""Interpreters of a site, which may be containers: tried where they are, and no problem where they need not be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from expected_findings import expect
from recorded_slurm import RecordedSlurm, recorded_slurm

from swimmy_scale.cluster.doctor.interpreter import check_interpreter, check_interpreters
from swimmy_scale.cluster.site import parse_site


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSlurm:
    return recorded_slurm(tmp_path / "bin", monkeypatch)


def container(slurm: RecordedSlurm, text: str) -> tuple[str, ...]:
    """A stand-in for a container's program: a shell script that is given an image and a command."""
    slurm.say("apptainer", text)
    return ("apptainer", "exec", "image.sif", "python")


def test_one_that_runs_the_program(slurm: RecordedSlurm) -> None:
    expect(check_interpreter((sys.executable,), for_driver=True), "ok", "runs this program")
    words = container(slurm, f'shift 3; exec {sys.executable} "$@"')
    expect(check_interpreter(words, for_driver=True), "ok", "apptainer exec image.sif python runs this program")


def test_a_container_without_slurms_commands_is_for_workers_only(slurm: RecordedSlurm) -> None:
    words = container(slurm, f'shift 3; PATH=/nowhere exec {sys.executable} "$@"')
    expect(check_interpreter(words, for_driver=False), "ok")
    found = check_interpreter(words, for_driver=True)
    expect(found, "problem", "has no sbatch, squeue, scancel", "Bind Slurm's commands into the container")


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        (
            "echo 'FATAL: no such image' >&2; exit 255",
            "warning",
            "does not run this program here: FATAL: no such image",
        ),
        ("exit 1", "warning", "no message"),
        ("""echo '{"version": "0.0.1", "missing": []}'""", "problem", "has swimmy-scale 0.0.1, this one is "),
        ("exec /bin/sleep 9", "warning", "does not start within"),
    ],
)
def test_those_that_do_not(slurm: RecordedSlurm, text: str, state: str, words: str) -> None:
    expect(check_interpreter(container(slurm, text), for_driver=False, timeout_seconds=0.5), state, words)


def test_each_is_tried_once(slurm: RecordedSlurm) -> None:
    container(slurm, f'echo tried >> {slurm.folder}/tries; shift 3; exec {sys.executable} "$@"')
    jobs = "{slurm: {python: apptainer exec image.sif python}, driver: {python: /no/such/python}, a: {}, b: {}}"
    groups = "{a: {jobs: 1}, b: {jobs: 1}}"
    text = f"{{jobqueue: {jobs}, swimmy-scale: {{kind: slurm, groups: {groups}}}}}"
    first, second = check_interpreters(parse_site(text, Path("site.yaml")))
    expect(first, "warning", "/no/such/python is not on this machine", "Check that the nodes have it")
    expect(second, "ok")
    assert (slurm.folder / "tries").read_text().split() == ["tried"]
