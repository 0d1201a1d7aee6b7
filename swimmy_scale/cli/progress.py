"""Progress that people can read: bars in a terminal, one line a minute in a log. Goes to stderr."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from swimmy_scale.method.words import counted
from swimmy_scale.results.words import duration
from swimmy_scale.storage.files import read_text, write_json

Workers = Mapping[str, Mapping[str, int]]  # by group (see `Executor.describe`)
SECONDS_UNTIL_STALE = 120.0
RECORD_VERSION = 1


@dataclass(frozen=True)
class Pace:
    """The times that a `Watch` keeps: how often it does things, and by which clock."""

    lines_s: float = 60.0  # between lines of a log
    looks_s: float = 1.0  # between looks at files that show how far a stage is
    records_s: float = 5.0  # between records for `status`
    said_after_s: float = 5.0  # until a stage that is still planning is told
    clock: Callable[[], float] = time.monotonic


class StageProgress:
    """Counts one stage: what was done before, what has been done since, and how fast."""

    def __init__(
        self, stage: str, unit: str, total: int, n_done: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stage, self.unit, self.total = stage, unit, total
        self.n_before = self.n_done = n_done
        self.n_quarantined = 0
        self._clock, self._started = clock, clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._started

    @property
    def rate(self) -> float:
        """Objects (or epochs) a second since the start; what was done before does not count."""
        return (self.n_done - self.n_before) / max(self.seconds, 1e-9)

    def describe(self) -> str:
        """The rate, remaining time and quarantined objects in words."""
        if self.n_done <= self.n_before:
            return "starting" if self.n_done < self.total else ""
        left = (self.total - self.n_done) / self.rate
        rate = f"{self.rate:,.0f} {self.unit}/s" if self.rate >= 1 else f"{1 / self.rate:.1f} s each"
        quarantined = f", {self.n_quarantined} quarantined" if self.n_quarantined else ""
        return f"{rate}, {duration(left)} left{quarantined}" if self.n_done < self.total else f"{rate}{quarantined}"


def describe_workers(groups: Workers) -> str:
    """The connected workers of each group, and its waiting jobs: ``; cpu 16 workers, 1 of 2 jobs pending``."""
    texts = []
    for name, group in groups.items():
        pending = f", {group['pending']} of {counted(group['wanted'], 'jobs')} pending" if group["pending"] else ""
        texts.append(f"{name} {counted(group['connected'], 'workers')}{pending}")
    return "; " + "; ".join(texts) if texts else ""


def write_record(path: Path, stage: StageProgress | None, workers: Workers, state: str, reason: str = "") -> None:
    """Write the record that `status` reads; ``state`` is running, finished, stopped or failed."""
    content: dict[str, Any] = {
        "format_version": RECORD_VERSION,
        "state": state,
        "reason": reason,
        "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "process_id": os.getpid(),
        "job_id": os.environ.get("SLURM_JOB_ID", ""),
        "workers": workers,
    }
    if stage is not None:
        content |= {
            "stage": stage.stage,
            "unit": stage.unit,
            "total": stage.total,
            "n_done": stage.n_done,
            "n_quarantined": stage.n_quarantined,
            "rate_per_second": round(stage.rate, 3),
            "seconds_left": round((stage.total - stage.n_done) / stage.rate) if stage.rate > 0 else None,
        }
    # A record must not end the run that it is of: if the disk is full, what needs the disk will say so.
    with contextlib.suppress(OSError):
        write_json(path, content)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record that the last driver of a run wrote, or None if none can be read."""
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("format_version") == RECORD_VERSION else None


def describe_record(record: dict[str, Any] | None, is_alive: bool | None = None) -> Iterator[str]:
    """A record in lines that people can read; ``is_alive`` says whether its job waits or runs, if somebody knows."""
    if record is None:
        yield "no driver has written its progress here"
        return
    where = f"job {record['job_id']}" if record["job_id"] else f"process {record['process_id']}"
    age = (datetime.now(UTC) - datetime.fromisoformat(record["updated"])).total_seconds()
    state = record["state"]
    ended = state == "running" and is_alive is False
    yield f"driver: {'ended without a word' if ended else state}, {where} on {record['host']}, {duration(age)} ago"
    if record["reason"]:
        yield f"  {record['reason']}"
    if state == "running":
        if ended:
            yield "  give the command again, it resumes"
        elif age > SECONDS_UNTIL_STALE:
            yield "  it has not been heard of since: if it is no longer there, give the command again, it resumes"
        if "stage" in record:
            left = f", {duration(record['seconds_left'])} left" if record["seconds_left"] is not None else ""
            yield (
                f"  {record['stage']}: {record['n_done']:,} of {counted(record['total'], record['unit'])}, "
                f"{record['rate_per_second']:,.1f} a second{left}, {record['n_quarantined']:,} quarantined"
            )
        if record["workers"]:
            yield f"  {describe_workers(record['workers']).removeprefix('; ')}"


class Watch:
    """Shows stages as they run, by default on stderr: by a bar on a terminal, by lines elsewhere."""

    def __init__(self, console: Console | None = None, pace: Pace = Pace()) -> None:
        self._console, self._pace = console or Console(stderr=True), pace
        self._record: Path | None = None
        self._workers: Callable[[], Workers] = dict
        self._bars: Progress | None = None
        self._bar: TaskID | None = None
        self._stage: StageProgress | None = None
        self._seen: Callable[[], int] | None = None
        self._ended = threading.Event()
        self._looker: threading.Thread | None = None
        self._recorder: threading.Thread | None = None
        self._over = threading.Event()
        self._last_line = 0.0
        self._preparing: threading.Timer | None = None

    def prepare(self, stage: str) -> None:
        """Say after some seconds that a stage is reading what is already done."""
        text = f"{stage}: planning, reading what is already done"
        self._preparing = threading.Timer(self._pace.said_after_s, self._line, [text])
        self._preparing.daemon = True
        self._preparing.start()

    def start(
        self, stage: str, total: int, n_done: int, unit: str = "objects", seen: Callable[[], int] | None = None
    ) -> None:
        """A stage starts; ``n_done`` of ``total`` are done already. ``seen`` returns how many are done later."""
        clock = self._pace.clock
        self._end_preparing()
        n_done = n_done if seen is None else seen()
        self._seen, self._stage = seen, StageProgress(stage, unit, total, n_done, clock)
        self._last_line = clock()
        if self._console.is_terminal and (n_done < total):
            self._bars = Progress(
                TextColumn("{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bar = self._bars.add_task(stage, total=total, completed=n_done, note="starting")
            self._bars.start()
        elif n_done < total:
            self._line(
                f"{stage}: {n_done:,} of {counted(total, unit)} done before"
                if n_done
                else f"{stage}: {counted(total, unit)}"
            )
        self._ended = threading.Event()
        self._looker = threading.Thread(target=self._look, daemon=True)
        self._looker.start()

    def add(self, n_done: int, n_quarantined: int = 0) -> None:
        if self._stage is not None:
            self._stage.n_done += n_done
            self._stage.n_quarantined += n_quarantined
            self._show()

    def count[T](self, results: Iterable[T], size: Callable[[T], int] = lambda result: 1) -> Iterator[T]:
        """Pass results on, and add the size of each as it comes."""
        for result in results:
            self.add(size(result))
            yield result

    @contextlib.contextmanager
    def counting(self, what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
        """Show work without receipts; it tells what this yields how many are done, and of how many."""

        def told(n_done: int, total: int) -> None:
            if self._stage is None:
                self.start(what, total, 0, unit)
            self.add(n_done - (self._stage.n_done if self._stage else 0))

        yield told
        self.stop(what)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Leave the terminal as it was, even after a failure inside a stage."""
        self._close()
        self._over.set()
        if self._recorder is not None:
            self._recorder.join()
        if self._record is not None:
            reason = str(error) or type(error).__name__
            state = "finished" if error is None else "failed" if isinstance(error, Exception) else "stopped"
            write_record(self._record, self._stage, self._workers(), state, "" if error is None else reason)

    def keep_record(self, path: Path) -> None:
        """Write what `status` reads, from now on; only the driver that holds the run's lock may."""
        self._record = path
        self._recorder = threading.Thread(target=self._write_records, daemon=True)
        self._recorder.start()

    def _write_records(self) -> None:
        while self._record is not None:
            write_record(self._record, self._stage, self._workers(), "running")
            if self._over.wait(self._pace.records_s):
                return

    def see_workers(self, describe: Callable[[], Workers]) -> None:
        """Show the workers of each group beside the progress."""
        self._workers = describe

    def _end_preparing(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing.join()
            self._preparing = None

    def _close(self) -> None:
        self._end_preparing()
        self._ended.set()
        if self._looker is not None:
            self._looker.join()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def stop(self, stage: str, note: str = "") -> None:
        """A stage is finished; ``note`` says what to know of one that was finished before."""
        self._close()
        progress, self._stage = self._stage, None
        if progress is None:
            return
        if self._seen is not None:
            progress.n_done = progress.total
        if progress.n_done == progress.n_before:
            self._line(f"{stage}: done" + (f" ({note})" if note else ""))
        else:
            took = duration(progress.seconds)
            self._line(f"{stage}: done, {counted(progress.total, progress.unit)} in {took} ({progress.describe()})")

    def _look(self) -> None:
        while not self._ended.wait(self._pace.looks_s):
            if self._seen is not None and self._stage is not None:
                self._stage.n_done = self._seen()
            self._show()

    def _show(self) -> None:
        stage = self._stage
        if stage is None:
            return
        if self._bars is not None and self._bar is not None:
            self._bars.update(
                self._bar, completed=stage.n_done, note=stage.describe() + describe_workers(self._workers())
            )
        elif self._pace.clock() - self._last_line >= self._pace.lines_s:
            self._last_line = self._pace.clock()
            self._line(
                f"{stage.stage}: {stage.n_done:,} of {counted(stage.total, stage.unit)}, {stage.describe()}"
                + describe_workers(self._workers())
            )

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        sys.stderr.flush()
