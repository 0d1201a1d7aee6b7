"""Ctrl-C, as a terminal sends it: to every process of the command at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from survey_runs import call_here, command, write_job

from swimmy_scale.stages.verify import Verifier

pytestmark = pytest.mark.slow

SAID = "swimmy-scale: interrupted; what is done is kept, run the same command to go on"


def interrupted(words: list[str], seen: Callable[[int], bool]) -> tuple[int, list[str]]:
    """Exit status and lines of stderr of a command that gets Ctrl-C at a moment; nothing of it is left."""
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        limit = time.monotonic() + 120
        while not seen(process.pid):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < limit
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert psutil.wait_procs(children, timeout=30)[1] == []
    return process.returncode, stderr.splitlines()


# Stands in for a library that the command line imports.
INTERRUPTS = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('goes on'); os._exit(0)"


@pytest.mark.parametrize(
    ("handling", "ended"),
    [
        (signal.default_int_handler, (130, "", "swimmy-scale: interrupted; nothing was begun")),
        # As shells start what is to go on in the background.
        (signal.SIG_IGN, (0, "goes on", "")),
    ],
)
def test_the_first_instants(handling: Any, ended: tuple[int, str, str], tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(INTERRUPTS)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    before = signal.signal(signal.SIGINT, handling)
    try:
        done = subprocess.run(
            command("status", tmp_path),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == ended


# Stands in for a command, and for loops and threads of libraries that end after it.
ENDS_BADLY = f"""
import atexit, logging, sys, threading, time
import swimmy_scale.cli
from swimmy_scale.__main__ import start

def fails():
    time.sleep(0.2)
    logging.getLogger("asyncio").error("Future exception was never retrieved")
    raise TimeoutError("Timeout")

def main(obj):
    threading.Thread(target=fails).start()
    atexit.register(fails)
    print({SAID!r}, file=sys.stderr)
    sys.exit(int(sys.argv[1]))

swimmy_scale.cli.main = main
start()
"""


@pytest.mark.parametrize(("code", "n_failures"), [(130, 0), (1, 2)])
def test_what_ends_after_the_last_word_says_nothing(code: int, n_failures: int) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS_BADLY, str(code)], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.splitlines()[0] == SAID
    assert done.stderr.count("TimeoutError: Timeout") == n_failures
    assert done.stderr.count("never retrieved") == n_failures


def has_children(process_id: int) -> bool:
    return bool(psutil.Process(process_id).children())


def test_a_run_that_is_interrupted_at_any_moment_says_so(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = write_job(tmp_path / "job.yaml", finished / "survey")
    moments: dict[str, Callable[[int], bool]] = {
        "workers start": has_children,
        "ingest": lambda _: any((run / "receipts/ingest").glob("0*.json")),
        "train": lambda _: any(run.glob("models/run-00/state-001-*.npz")),
    }
    for moment, seen in moments.items():
        status, lines = interrupted(command("run", job, "--output", run, "--workers", 2), seen)
        assert (status, lines[-1]) == (130, SAID), (moment, lines)
        assert not [line for line in lines if "Traceback" in line or "Error" in line], (moment, lines)
    assert not (run / "summary.json").exists()


def test_commands_without_workers_say_so(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Verifier, "output", interrupt)
    done = call_here("verify", finished / "run")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, SAID)
