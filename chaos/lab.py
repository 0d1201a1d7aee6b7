"""What all campaigns share: a fork server that runs the real command line in milliseconds, and a small survey.

All modules are imported once, in this process. A trial is a fork that calls the same `main` as the console script does,
in a session and with an output file of its own. Workers that it starts are real interpreters of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from chaos.records import program_digest
from chaos.watch import Kind
from chaos.weights import write_model

N_OBJECTS = 96
ENDS_WELL = (0, 3)
SECONDS_FOR_A_COMMAND = 240.0
NETWORK = "network: {encoder_filters: [8, 8], latent_filters: 4}"
JOB = """name: chaos
catalogue: {path: survey/catalogue.fits, patch_qa: survey/patch_qa.fits, keep_columns: [i_cmodel_mag, specz_redshift]}
ingest: {sources: [survey/cutouts]}
storage: {partition_objects: 32, chunk_objects: 16}
"""
TRAIN = f"""train:
  {NETWORK}
  schedule: {{epochs: 2, batch_size: 8, keep_from_epoch: 1, seed: 1}}
  max_objects: 48
  n_threads: 1
"""
PRELOADED = (
    *("astropy.io.fits", "astropy.io.votable", "astropy.table", "astropy.wcs", "distributed", "h5py", "numba"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "pyarrow.parquet", "pyarrow.csv", "rich.table"),
    *("scipy.ndimage", "xarray", "zarr", "encodings.cp437"),
)
OF_THE_NETWORK = ("tensorflow", "keras")


@dataclass
class Trial:
    """A command that was started."""

    process_id: int
    output: Path
    status: int | None = None

    def wait(self, seconds: float = SECONDS_FOR_A_COMMAND) -> int | None:
        """The exit status, negative for a signal; None if it still runs when the time is over."""
        end = time.monotonic() + seconds
        while self.status is None:
            found, status = os.waitpid(self.process_id, os.WNOHANG)
            if found:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                return None
            else:
                time.sleep(0.003)
        return self.status

    def kill(self, whole_session: bool = False) -> None:
        """End the process, or all that it has started as well."""
        for process_id in (*(session_of(self.process_id) if whole_session else ()), self.process_id):
            kill(process_id)

    @property
    def text(self) -> str:
        """All that it has printed."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def last_line(self) -> str:
        """Its message, or the last line that it printed."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        return ([line for line in lines if line.startswith("swimmy-scale:")] or lines or [""])[-1][:300]

    @property
    def document(self) -> dict[str, Any] | None:
        """The JSON document that it printed, between lines of its log; None if there is none."""
        text = self.text
        with contextlib.suppress(ValueError):
            found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
            return found
        return None

    @property
    def has_traceback(self) -> bool:
        """Whether it printed one."""
        return "Traceback (most recent call last)" in self.text

    @property
    def faults(self) -> list[str]:
        """What no command may end in, whatever it was given: a traceback, no answer, a signal."""
        found = ["a traceback: " + self.text.strip().splitlines()[-1][:200]] if self.has_traceback else []
        if self.status is None:
            return [*found, "no answer"]
        return found if self.status in (0, 1, 2, 3) else [*found, f"status {self.status}"]


def kill(process_id: int) -> None:
    """End a process; one that has ended is no fault."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)


def processes() -> Iterator[tuple[int, int, int]]:
    """All that live: process, its parent, its session."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if fields[0] != "Z":
                    yield int(entry.name), int(fields[1]), int(fields[3])


def session_of(process_id: int) -> list[int]:
    """The processes that a command has started, and left when it was killed."""
    return [found for found, _, session in processes() if session == process_id and found != process_id]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot(run: Path) -> dict[str, str]:
    """Digests of all files of a run by their names: all bytes of the results, and receipts without times.

    The logs, and what says who drove and when, are no results.
    """
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if name.startswith("log/") or not path.is_file():
            continue
        if name.endswith(("driver.lock", "driver.json")):
            continue
        found[name] = _receipt_digest(path) if name.startswith("receipts/") else digest(path)
    return found


def _receipt_digest(path: Path) -> str:
    """Digest of a receipt without the times of files, which no two runs share."""
    try:
        body = json.loads(path.read_text())
    except ValueError:
        return "unreadable"
    if isinstance(body, dict):
        body.pop("checksum", None)
        for record in body.get("files", {}).values():
            record.pop("mtime_ns", None)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Names of files that are missing (-), too many (+), or differ."""
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    differ = [name for name in expected.keys() & found.keys() if expected[name] != found[name]]
    return sorted([*(f"-{name}" for name in missing), *(f"+{name}" for name in extra), *differ])


def copy(source: Path, target: Path) -> None:
    """A copy with all times, in place of what is there."""
    clear(target)
    shutil.copytree(source, target, symlinks=True)


def clear(folder: Path) -> None:
    """Remove a folder with all that is in it, whatever its permissions."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)


@dataclass
class Lab:
    """A folder with a survey and jobs, and ways to start commands there.

    `place` is where the trials of this process are. What commands leave when nothing disturbs them, the calls that they
    make, and how long they take, is known once they were given (see `scenes.Scene`).
    """

    folder: Path
    say: Callable[[str], None] = print
    undisturbed: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: dict[str, dict[Kind, int]] = field(default_factory=dict)
    commits: list[Any] = field(default_factory=list)
    journals: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def place(self) -> Path:
        """Where trials of this process may write; emptied first."""
        path = self.folder / f"trial-{os.getpid()}"
        clear(path)
        path.mkdir(parents=True)
        return path

    def a_folder(self, name: str = "folder") -> Path:
        """Where a trial may make a folder. All are equally deep, as the paths in job files are relative."""
        (self.place / "folders").mkdir(exist_ok=True)
        return self.place / "folders" / name

    def close(self) -> None:
        """Remove what trials have left."""
        if "place" in self.__dict__:
            clear(self.place)

    # ------------------------------------------------------------ the survey and its jobs

    @cached_property
    def data(self) -> Path:
        """The survey, a job that trains on it, and one that is given weights; made once for a program."""
        data = self.folder / f"data-{program_digest()}"
        if not (data / "ready").exists():
            for old in self.folder.glob("data-*"):
                clear(old)
            data.mkdir(parents=True)
            self._simulate(data)
            (data / "ready").touch()
        return data

    def _simulate(self, data: Path) -> None:
        self.say("simulating a survey")
        words = ("simulate", "survey", "--n-objects", N_OBJECTS, "--seed", 11, "--faulty-fraction", 0.06)
        trial = self.run(*words, "--workers", 0, at=data)
        assert trial.status == 0, f"simulate ended with {trial.status}: {trial.text[-2000:]}"
        write_model(data / "selected.keras")
        sha256 = digest(data / "selected.keras")
        (data / "train.yaml").write_text(JOB + TRAIN)
        (data / "model.yaml").write_text(f"{JOB}model: {{path: selected.keras, sha256: {sha256}, {NETWORK}}}\n")

    # ------------------------------------------------------------ commands

    @cached_property
    def _is_loaded(self) -> bool:
        load(PRELOADED)
        return True

    @cached_property
    def has_network(self) -> bool:
        """Import Keras as well, for jobs that train; once, and takes seconds."""
        load(OF_THE_NETWORK)
        return True

    def start(
        self,
        *words: object,
        log: str = "log",
        at: Path | None = None,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> Trial:
        """Run ``swimmy-scale WORDS`` in a fork; ``before`` is called in it first, in the folder ``at``."""
        assert self._is_loaded
        output = self.place / f"{log}.txt"
        sys.stdout.flush()
        sys.stderr.flush()
        process_id = os.fork()
        if process_id:
            return Trial(process_id, output)
        _become([str(word) for word in words], output, at or self.folder, environment or {}, before)
        raise AssertionError("unreachable")

    def run(self, *words: object, seconds: float = SECONDS_FOR_A_COMMAND, **how: Any) -> Trial:
        """Start a command and wait; one that takes too long is ended, and has no status."""
        trial = self.start(*words, **how)
        if trial.wait(seconds) is None:
            trial.kill(whole_session=True)
            os.waitpid(trial.process_id, 0)
        return trial


def load(names: tuple[str, ...]) -> None:
    """Import modules, and all modules of the program that need no Keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    for name in names:
        importlib.import_module(name)
    package = Path(importlib.import_module("swimmy_scale").__path__[0])
    for path in sorted(package.rglob("*.py")):
        dotted = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        needs = any(word in path.read_text() for word in ("import keras", "import tensorflow", "import galsim"))
        if path.name not in ("__main__.py", "seen_devices.py") and not (needs and names is PRELOADED):
            importlib.import_module(dotted.removesuffix(".__init__"))


def _become(
    words: list[str], output: Path, at: Path, environment: Mapping[str, str], before: Callable[[], object]
) -> None:
    """In a child: be the command line, and end as it does."""
    status = 99
    try:
        os.setsid()
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(at)
        os.environ.update(environment)
        # Workers import the main module of whoever starts them.
        sys.modules["__main__"] = types.ModuleType("__main__")
        sys.argv = ["swimmy-scale", *words]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        from swimmy_scale.cli import main

        try:
            main.main(args=words, prog_name="swimmy-scale", standalone_mode=True)
            status = 0
        except SystemExit as done:
            status = done.code if isinstance(done.code, int) else int(done.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 98
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
