"""Tasks that end the process which performs them: their attempts, and the objects that are left out for it.

A worker can die of anything: its job is cancelled, its node fails, or an object makes a library crash. Dask cannot
tell these apart. So each attempt has a mark on disk while it lasts; a mark that stays means that a process ended in
the middle. After some of them the driver searches for the object at fault, piece by piece.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swimmy_scale.method.words import counted
from swimmy_scale.stages.engine import Task
from swimmy_scale.storage.files import parse_checked, with_checksum, write_json
from swimmy_scale.storage.receipts import Ledger

FORMAT_VERSION = 1
MAX_LOST_WORKERS = 3


class WorkersLostError(Exception):
    """Too many processes ended in the middle of a task, so that it is not tried on another one."""


@dataclass(frozen=True)
class Piece:
    """Rows ``lo`` to ``hi`` of a task, counted from the task's first."""

    task: Task
    lo: int
    hi: int

    @property
    def name(self) -> str:
        """Name of the folder of its marks."""
        return f"{self.task.name}.{self.lo}-{self.hi}"

    @property
    def max_lost_workers(self) -> int:
        """A single object is blamed only after several lost workers; a larger piece is cut again after one."""
        return MAX_LOST_WORKERS if self.hi - self.lo == 1 else 1


def _folder(ledger: Ledger) -> Path:
    return ledger.folder / "attempts" / ledger.stage


def clear_attempts(ledger: Ledger, name: str = "") -> None:
    """Remove the marks of one task, or of the whole stage."""
    shutil.rmtree(_folder(ledger) / name, ignore_errors=True)


def has_attempts(ledger: Ledger) -> bool:
    """Whether a process ended in the middle of a task of the stage, and none has cleared its mark since."""
    return any(path.is_file() for path in _folder(ledger).glob("*/*"))


def _marked[T](ledger: Ledger, name: str, max_lost_workers: int, work: Callable[[], T]) -> T:
    folder = _folder(ledger) / name
    folder.mkdir(parents=True, exist_ok=True)
    left = sorted(path.name.rsplit("-", 1)[0] for path in folder.iterdir())
    if len(left) >= max_lost_workers:
        raise WorkersLostError(f"{ledger.stage} {name} ended {counted(len(left), 'workers')}: {', '.join(left)}")
    mark = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
    mark.touch()
    try:
        return work()
    finally:
        mark.unlink(missing_ok=True)
        # Another attempt's mark keeps the folder.
        with contextlib.suppress(OSError):
            folder.rmdir()


def attempt[T](perform: Callable[[Any], T], task: Task) -> T:
    """Perform a task, with a mark on disk while it lasts.

    `WorkersLostError` is raised instead once `MAX_LOST_WORKERS` processes have ended in the middle of it.
    """
    return _marked(task.ledger, task.name, MAX_LOST_WORKERS, lambda: perform(task))


def attempt_piece(probe: Callable[[Any, int, int], None], piece: Piece) -> None:
    """Process a piece of a task and write nothing; `WorkersLostError` once it has ended `Piece.max_lost_workers`."""
    task = piece.task
    _marked(task.ledger, piece.name, piece.max_lost_workers, lambda: probe(task, piece.lo, piece.hi))


def _left_out_path(ledger: Ledger, name: str) -> Path:
    return ledger.folder / "left-out" / ledger.stage / f"{name}.json"


def left_out(ledger: Ledger, name: str) -> list[int]:
    """Rows of a task, counted from its first, that are not processed because they ended workers."""
    try:
        content = parse_checked(_left_out_path(ledger, name).read_text(), FORMAT_VERSION)
        return [int(row) for row in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def leave_out(ledger: Ledger, name: str, rows: Iterable[int]) -> None:
    """Leave out more rows of a task, from now on and whenever the command is given again."""
    content = {"format_version": FORMAT_VERSION, "rows": sorted({*left_out(ledger, name), *rows})}
    write_json(_left_out_path(ledger, name), with_checksum(content))


LEFT_OUT_REASON = f"processing it ended {MAX_LOST_WORKERS} workers one after the other"
