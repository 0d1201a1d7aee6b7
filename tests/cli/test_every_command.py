"""What every command has in common: examples that parse, errors of one line with a remedy, completion after TAB."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(main.commands)
SHELL_OPERATORS = {">", ">>", "|", "2>"}


def examples(command: click.Command) -> list[list[str]]:
    """The example lines of a command's help, as words; lines that end in a backslash go on."""
    text = (command.help or "").split("Example:")[1].replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("swimmy-scale ")]
    found = []
    for words in map(shlex.split, lines):
        end = next((n for n, word in enumerate(words) if word in SHELL_OPERATORS), len(words))
        found.append(words[1:end])
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_in_the_help_parses(name: str) -> None:
    lines = examples(main.commands[name])
    assert lines
    for words in lines:
        assert words[0] == name
        # Parsing alone: nothing runs.
        context = main.commands[name].make_context(name, words[1:])
        assert context.params


def test_examples_of_the_program_parse() -> None:
    for words in examples(main):
        main.commands[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    options = [parameter for parameter in main.commands[name].params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_takes_the_last_of_two_values_in_silence(name: str) -> None:
    command = main.commands[name]
    options = [option for option in command.params if isinstance(option, click.Option)]
    single = [option for option in options if not (option.multiple or option.is_flag)]
    for option in single:
        words = [word for value in "ab" for word in (option.opts[0], *(f"{value}{k}" for k in range(option.nargs)))]
        with pytest.raises(click.UsageError) as caught:
            command.make_context(name, words)
        one, other = (" ".join(f"{value}{k}" for k in range(option.nargs)) for value in "ab")
        assert caught.value.message == f"{option.opts[0]} takes one value, and is given as {one} and {other}"


@pytest.mark.parametrize(("words", "status"), [
    (["plan", "absent.yaml", "--output", "a", "--output", "b"], 2),
    (["plan", "absent.yaml", "--output", "a", "--output=b"], 2),
    (["plan", "absent.yaml", "--output", "a", "--output", "a"], 1),  # the same value twice says one thing
    (["plan", "absent.yaml", "--json", "--json"], 1),
    (["--debug", "--debug", "status", "absent", "--json"], 1),
    (["ingest", "p", "--catalog", "c", "--output", "o", "--column", "ra=a", "--column", "ra=b"], 2),
    (["ingest", "p", "--catalog", "c", "--output", "o", "--column", "ra=a", "--column", "ra=a"], 1),
    (["ingest", "p", "--catalog", "c", "--output", "o", "--unit", "ra=deg", "--unit", "ra=rad"], 2),
    (["ingest", "p", "--catalog", "c", "--output", "o", "--fwhm", "g=0.7", "--fwhm", "g=0.8"], 2),
])  # fmt: skip
def test_an_option_with_two_values_is_wrong_usage(bad_folder: Path, words: list[str], status: int) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == status, result.output
    assert status == 1 or "is given " in result.stderr


JOB = "{catalogue: {path: c.fits}, ingest: {sources: [pixels]}, train: {}}"
# What is wrong, the command, and a part of the message; every message ends with what to do.
BAD_INPUT = [
    ("missing file", ["run", "absent.yaml", "--output", "out"], "absent.yaml: cannot read the job file"),
    ("wrong format", ["run", "text.txt", "--output", "out"], "text.txt"),
    ("a folder", ["run", "folder", "--output", "out"], "folder: cannot read the job file"),
    ("missing input", ["run", "job.yaml", "--output", "out"], "c.fits"),
    ("missing site", ["run", "job.yaml", "--output", "out", "--site", "absent.yaml"], "cannot read the site file"),
    ("local site", ["submit", "job.yaml", "--output", "out", "--site", "local.yaml"], "has no batch jobs"),
    ("missing site", ["submit", "job.yaml", "--output", "out", "--site", "absent.yaml"], "cannot read the site file"),
    ("missing file", ["ingest", "pixels", "--catalog", "absent.fits", "--output", "o.zarr"], "absent.fits"),
    ("wrong format", ["ingest", "pixels", "--catalog", "text.fits", "--output", "o.zarr"], "text.fits"),
    ("no pixels", ["ingest", "absent", "--catalog", "c.csv", "--output", "o.zarr"], "absent"),
    ("bad settings", ["ingest", "p", "--catalog", "c.csv", "--output", "o.zarr", "--settings", "text.txt"], "text.txt"),
    ("a job is there", ["init", "."], "job.yaml: there already, and not replaced"),
    ("missing folder", ["compare", "absent", "absent"], "absent: no receipts folder"),
    ("missing file", ["request", "absent.fits", "--output", "out"], "absent.fits"),
    ("wrong format", ["request", "text.txt", "--output", "out"], "text.txt"),
    ("nothing there", ["request", "c.csv", "--output", "out", "--downloaded", "absent"], "absent"),
    ("too many lines", ["request", "c.csv", "--output", "out", "--limit", "1001"], "--limit 1001"),
    ("missing file", ["plan", "absent.yaml"], "absent.yaml: cannot read the job file"),
    ("missing input", ["plan", "job.yaml"], "c.fits"),
    ("missing file", ["train", "absent.zarr", "--output", "models"], "no readable Zarr store"),
    ("wrong format", ["train", "text.txt", "--output", "models"], "no readable Zarr store"),
    ("missing file", ["score", "absent.zarr", "--model", "m.keras", "--output", "s.zarr"], "no manifest.json"),
    ("wrong format", ["select", "folder", "--output", "out"], "no readable Zarr store"),
    ("missing file", ["add", "absent", "--source", "pixels"], "not a run directory"),
    ("missing file", ["status", "absent"], "not a run directory"),
    ("wrong place", ["verify", "folder"], "neither a run directory"),
    ("missing site", ["doctor", "--site", "absent.yaml"], "cannot read the site file"),
    ("wrong format", ["doctor", "--site", "text.txt"], "text.txt"),
    ("not a folder", ["simulate", "text.txt/survey", "--n-objects", "1", "--workers", "0"], "text.txt"),
    ("not a folder", ["run", "job.yaml", "--output", "text.txt/run"], "Not a directory"),
    ("missing file", ["classify", "absent.fits", "--dr16q", "text.txt", "--output", "o.fits"], "absent.fits"),
    ("wrong format", ["classify", "c.csv", "--dr16q", "text.txt", "--output", "o.fits"], "text.txt"),
    *(
        (what, [command, path], message)
        for command in ("report", "tables", "figures", "fidelity")
        for what, path, message in (
            ("missing file", "absent", "not a run directory"),
            ("not a run", "folder", "not a run directory"),
        )
    ),
    *(
        (what, [command, path, *more, "7"], message)
        for command, more in (("show", []), ("like", []), ("rank", ["--marks"]), ("cutouts", ["--output", "out"]))
        for what, path, message in (
            ("missing file", "absent", "not a run directory"),
            ("not a run", "folder", "not a run directory"),
        )
    ),
    ("missing file", ["weight-sets", "absent"], "no readable table of weight sets"),
    ("not a run", ["weight-sets", "folder"], "no readable table of weight sets"),
]
PROGRESS = re.compile(r"\w+: [\d,]+ (object|file)s?")
# A sentence that begins with what to do, or the one that ends all failures of the operating system.
REMEDY = re.compile(
    r"[.)] (Check|Give|Correct|Choose|Use|Run|Make|See|Say|Name|Score|Ingest|What is done is kept: mend)\b"
)


@pytest.fixture
def bad_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "pixels"):
        Path(name).mkdir()
    for name in ("text.txt", "text.fits"):
        Path(name).write_text("nothing: [of the kind\n")
    seeing = ",".join(f"fwhm_arcsec_{band}" for band in "grizy")
    Path("c.csv").write_text(f"object_id,ra,dec,{seeing}\n1,10.0,1.0{',0.7' * 5}\n")
    Path("job.yaml").write_text(JOB)
    Path("local.yaml").write_text((ROOT / "cluster" / "local.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize(("what", "words", "message"), BAD_INPUT, ids=[f"{w[0]}-{what}" for what, w, _ in BAD_INPUT])
def test_bad_input_is_told_in_one_line_with_a_remedy(
    bad_folder: Path, what: str, words: list[str], message: str
) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1, (result.output, result.exception)
    (line,) = [line for line in result.stderr.splitlines() if not PROGRESS.fullmatch(line)]
    assert line.startswith("swimmy-scale: ")
    assert message in line
    assert REMEDY.search(line), line
    assert result.stdout == ""
    assert ": done" not in result.stderr


def test_every_command_is_in_the_table() -> None:
    # A command that takes no file cannot be given a bad one.
    assert {words[0] for _, words, _ in BAD_INPUT} == set(COMMANDS) - {"completion", "schema"}


def test_a_traceback_is_there_for_those_who_ask(bad_folder: Path) -> None:
    result = CliRunner().invoke(main, ["--debug", "train", "absent.zarr", "--output", "models"])
    assert isinstance(result.exception, SwimmyError)


@pytest.mark.parametrize(
    "words",
    [
        ["simulate", "locked/x", "--n-objects", "1", "--workers", "0"],
        ["run", "job.yaml", "--output", "locked/x"],
        ["status", "locked/x"],
        ["verify", "locked/x"],
    ],
)
def test_a_refused_permission_is_told_in_one_line(
    bad_folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere, so the system's refusal is a stand-in."""

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    for name in ("mkdir", "is_dir"):
        real = getattr(Path, name)
        monkeypatch.setattr(
            Path,
            name,
            lambda self, *args, _real=real, **options: (
                refuse(self) if "locked" in str(self) else _real(self, *args, **options)
            ),
        )
    real_makedirs = os.makedirs
    monkeypatch.setattr(
        os,
        "makedirs",
        lambda name, *a, **k: refuse(Path(name)) if "locked" in str(name) else real_makedirs(name, *a, **k),
    )
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1, (result.output, result.exception)
    (line,) = [line for line in result.stderr.splitlines() if not PROGRESS.fullmatch(line)]
    assert re.fullmatch(r"swimmy-scale: .*locked/x\S*: Permission denied\. .*run the same command again\.", line)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_SWIMMY_SCALE_COMPLETE" in result.stdout
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


def test_tab_completes_in_bash(tmp_path: Path) -> None:
    """A real, interactive bash in a terminal of its own."""
    program = tmp_path / "swimmy-scale"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m swimmy_scale "$@"\n')
    program.chmod(0o755)
    lines = CliRunner().invoke(main, ["completion", "bash"]).stdout
    (tmp_path / "rc").write_text(f"PS1='ready> '\nbind 'set enable-bracketed-paste off'\n{lines}")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
    }
    keyboard, terminal = pty.openpty()
    bash = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", str(tmp_path / "rc"), "-i"],
        stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    try:
        seen = read_until(keyboard, "ready> ")
        os.write(keyboard, b"swimmy-scale veri\t")
        seen = read_until(keyboard, "swimmy-scale verify ")
        os.write(keyboard, b"--wor\t")
        seen = read_until(keyboard, "--workers ")
        assert "Traceback" not in seen
    finally:
        bash.kill()
        bash.wait()
        os.close(keyboard)


def read_until(terminal: int, wanted: str) -> str:
    """What a terminal shows, up to what is wanted."""
    seen, deadline = "", time.monotonic() + 120
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"{wanted!r} did not come: {seen!r}"
        seen += os.read(terminal, 4096).decode()
    return seen
