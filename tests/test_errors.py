"""How messages name a command: as the user can type it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from swimmy_scale.errors import interpreter, program, typed


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
