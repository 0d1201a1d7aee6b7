"""How messages name a command: as the user can type it."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from swimmy_scale.errors import SwimmyError, check_installed, interpreter, program, typed


def installed(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "swimmy-scale"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def started_as(monkeypatch: pytest.MonkeyPatch, *words: str, search: Path) -> None:
    monkeypatch.setattr(sys, "argv", [words[-1], "run"])
    monkeypatch.setattr(sys, "orig_argv", [*words, "run"])
    monkeypatch.setenv("PATH", str(search))


def test_by_its_name_where_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = installed(tmp_path / "bin")
    started_as(monkeypatch, "python", str(found), search=found.parent)
    assert program() == "swimmy-scale"


@pytest.mark.parametrize("there", ["nothing", "another"])
def test_by_its_path_elsewhere(there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = installed(tmp_path / "my venv"), tmp_path / "other"
    if there == "another":
        installed(other)
    started_as(monkeypatch, "python", str(ours), search=other)
    assert shlex.split(typed("report", "run")) == [str(ours), "report", "run"]


def test_as_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started_as(monkeypatch, ".venv/bin/python", "/x/swimmy_scale/__main__.py", search=tmp_path)
    assert typed("status", Path("runs/my run")) == ".venv/bin/python -m swimmy_scale status 'runs/my run'"


def test_from_a_notebook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started_as(monkeypatch, "python", "/x/ipykernel_launcher.py", search=tmp_path)
    assert program() == "swimmy-scale"


def test_the_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shlex.split(interpreter()) == [sys.executable]
    (tmp_path / "python").symlink_to(sys.executable)
    assert interpreter() == "python"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ((), ""),
        (("keras",), "training needs keras, which is not installed. Install: "),
        (("keras", "tensorflow"), "training needs keras and tensorflow, which are not installed. Install: "),
    ],
)
def test_libraries_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], said: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    if not missing:
        check_installed("training", "train", "keras", "tensorflow")
        return
    with pytest.raises(SwimmyError, match=re.escape(said) + r'.* -m pip install "swimmy-scale\[train\]"'):
        check_installed("training", "train", "keras", "tensorflow")


@pytest.mark.parametrize(
    ("missing", "words", "said"),
    [
        (
            "galsim",
            ["simulate", "survey", "--n-objects", "10"],
            "simulating a survey needs galsim, which is not installed",
        ),
        ("keras", ["run", "JOB", "--output", "run", "--workers", "0"], "training needs keras, which is not installed"),
    ],
)
def test_a_command_names_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str, words: list[str], said: str
) -> None:
    """In a process that cannot find the library, and with nothing begun."""
    job = tmp_path / "job.yaml"
    job.write_text("catalogue: {path: job.yaml}\ningest: {sources: [job.yaml]}\ntrain: {}\n")
    block = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['swimmy-scale', *{words!r}]; "
    code = (block + "from swimmy_scale.cli import main; main()").replace("JOB", str(job))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run/job.yaml").exists()
