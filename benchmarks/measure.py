"""What benchmarks share: commands with the peak memory of every process, tables, and JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SECONDS_BETWEEN_LOOKS = 0.2


@dataclass
class Peak:
    """The largest resident memory that a process had."""

    role: str
    memory_bytes: int = 0


@dataclass
class Measured:
    """A command that ran: how long, and the peak of each of its processes by process id."""

    seconds: float
    stdout: str
    peaks: dict[int, Peak] = field(default_factory=dict)

    def peak_bytes(self, role: str) -> int:
        """The largest peak of the processes in a role; 0 where there was none."""
        return max((peak.memory_bytes for peak in self.peaks.values() if peak.role == role), default=0)


def role_of(process: psutil.Process, root: int) -> str:
    """What a process of a run is: the driver, a worker, or something that watches over others."""
    if process.pid == root:
        return "driver"
    words = " ".join(process.cmdline())
    # Workers start from a process with the same words, or as earlier versions had it, from the driver.
    started = "multiprocessing.forkserver" in words and process.ppid() != root
    return "worker" if started or "multiprocessing.spawn" in words else "other"


def swimmy(*arguments: Any) -> list[str]:
    """A ``swimmy-scale`` command line of this interpreter."""
    return [sys.executable, "-m", "swimmy_scale", *(str(argument) for argument in arguments)]


def of_checkout(checkout: Path) -> tuple[str, dict[str, str]]:
    """Interpreter of another checkout, from its .venv, and variables by which it takes the checkout's package."""
    return str(checkout.absolute() / ".venv/bin/python"), os.environ | {"PYTHONPATH": str(checkout.absolute())}


def answer_of(command: Sequence[str], **environment: str) -> Any:
    """The JSON that another process prints as its last line."""
    variables = os.environ | environment
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def commit_of(checkout: Path) -> str:
    """The commit that a checkout holds."""
    git = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()


def run_measured(words: Sequence[str], meanwhile: Callable[[int], None] | None = None) -> Measured:
    """Run a command and look at its processes while it runs.

    Parameters
    ----------
    words : sequence of str
    meanwhile : callable, optional
        Called in a thread with the process id.
    """
    started = time.perf_counter()
    peaks: dict[int, Peak] = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
        watcher.start()
        if meanwhile is not None:
            threading.Thread(target=meanwhile, args=(process.pid,), daemon=True).start()
        stdout, stderr = process.communicate()
        ended.set()
        watcher.join()
    if process.returncode not in (0, 3):  # 3: finished, with objects in quarantine
        raise SystemExit(f"{' '.join(words)}\n{stderr}")
    return Measured(time.perf_counter() - started, stdout, peaks)


def _watch(root: int, peaks: dict[int, Peak], ended: threading.Event) -> None:
    while not ended.wait(SECONDS_BETWEEN_LOOKS):
        try:
            top = psutil.Process(root)
            for process in [top, *top.children(recursive=True)]:
                high = peak_memory_bytes(process.pid)
                peak = peaks.setdefault(process.pid, Peak(role_of(process, root)))
                peak.memory_bytes = max(peak.memory_bytes, high)
        except (psutil.Error, OSError, StopIteration):
            continue  # it ended between two looks


def peak_memory_bytes(pid: int | str = "self") -> int:
    """Largest resident memory so far of a process. ``getrusage`` would start at that of the one which started it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


@contextlib.contextmanager
def processor_seconds() -> Generator[list[float]]:
    """Processor seconds of the commands that are run within by `counted`: one number, at the end."""
    before, used = _seconds_of_children(), list[float]()
    yield used
    used.append(_seconds_of_children() - before)


def counted(words: Sequence[str]) -> list[str]:
    """A command line that runs another one and counts all that it starts (see ``counted.py``)."""
    return [sys.executable, str(Path(__file__).with_name("counted.py")), *words]


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(what: str, unit: str, values: Sequence[float], **more: Any) -> dict[str, Any]:
    """One line of a result: median, least and largest of ``values``, and ``ratio``, ``target``, ``met`` where given."""
    line = {"what": what, "unit": unit, "median": statistics.median(values), "min": min(values), "max": max(values)}
    return line | {"ratio": None, "target": None, "met": None} | more


def report(
    benchmark: str, rows: list[dict[str, Any]], path: Path | None, notes: Sequence[str] = (), **facts: Any
) -> None:
    """Print a result as a table, and write it as JSON."""
    print(f"{benchmark}: median (least - largest)")
    for line in rows:
        numbers = f"{_short(line['median'])} ({_short(line['min'])} - {_short(line['max'])}) {line['unit']}"
        ratio = "" if line["ratio"] is None else f"{line['ratio']:.3g}x"
        target = "" if line["met"] is None else f"target {line['target']:g}: {'met' if line['met'] else 'NOT MET'}"
        print(f"  {line['what']:<66} {numbers:<38} {ratio:>7} {target}")
    for note in notes:
        print(f"  {note}")
    content = {
        "benchmark": benchmark,
        "n_cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        **facts,
        "rows": rows,
        "notes": [*notes],
    }
    if path is not None:
        path.write_text(json.dumps(content, indent=1) + "\n")


def processor() -> str:
    """What the machine calls its processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Scored:
    """A run of the score stage.

    Attributes
    ----------
    objects_per_second : float
        Between the first and the last receipt, when all workers have loaded their model.
    seconds : float
        Of the command, with all that it takes to start.
    """

    objects_per_second: float
    seconds: float
    measured: Measured


def score(cutouts: Path, model: Path, n_workers: int, settings: str = "", more: Sequence[Any] = ()) -> Scored:
    """Score a store by the command line, and remove the scores again."""
    with tempfile.TemporaryDirectory(dir=cutouts.parent) as name:
        output, options = Path(name) / "scores.zarr", Path(name) / "settings.yaml"
        options.write_text("format_version: 1\n" + settings)
        sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
        words = swimmy("score", cutouts, "--model", model, "--model-sha256", sha256, "--output", output,
                       "--settings", options, "--workers", n_workers, *more)  # fmt: skip
        measured = run_measured(words)
        receipts = []
        for path in output.with_name("scores.zarr.receipts").rglob("0*.json"):
            receipts.append((path.stat().st_mtime_ns, json.loads(path.read_text())["n_objects"]))
    receipts.sort()
    # Workers begin together, so as many receipts as there are workers come before the clock starts.
    first, rest = max(n_workers, 1), receipts[max(n_workers, 1) :]
    rate = math.nan
    if rest:
        rate = sum(n_objects for _, n_objects in rest) / ((rest[-1][0] - receipts[first - 1][0]) / 1e9)
    return Scored(rate, measured.seconds, measured)


class Held:
    """An executor around workers that are there already, such as those of `local_workers`."""

    def __init__(self, workers: Any) -> None:
        self._workers = workers

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Somebody else keeps the workers."""
        return contextlib.nullcontext()

    def map(self, work: Any, tasks: Any) -> Generator[Any]:
        """Perform tasks."""
        yield from self._workers.map(work, tasks)

    def describe(self) -> dict[str, dict[str, int]]:
        """No groups."""
        return {}
