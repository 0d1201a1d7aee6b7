"""Tasks that end the process which performs them: their attempts, and the objects that are left out for it.

A worker can die of anything: its job is cancelled, its node fails, or an object makes a library crash. Dask cannot
tell these apart. So each attempt has a mark on disk while it lasts; a mark that stays means that a process ended in
the middle. After some of them the driver searches for the object at fault, piece by piece (see `cluster.search`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swimmy_scale.method.words import counted
from swimmy_scale.stages.engine import Task
from swimmy_scale.storage.files import parse_checked, read_text, remove, with_checksum, write_json
from swimmy_scale.storage.receipts import FINISHED, Ledger

FORMAT_VERSION = 1
MAX_LOST_WORKERS = 3


class WorkersLostError(Exception):
    """Too many processes ended in the middle of a task, so that it is not tried on another one."""


@dataclass(frozen=True)
class Piece:
    """Rows ``lo`` to ``hi`` of a task, counted from the task's first; ``trial`` is 0 while suspects are sought."""

    task: Task
    lo: int
    hi: int
    trial: int = 0

    @property
    def name(self) -> str:
        """Name of the folder of its marks."""
        return f"{self.task.name}.{self.lo}-{self.hi}.{self.trial}"


def _folder(ledger: Ledger) -> Path:
    return ledger.folder / "attempts" / ledger.stage


def clear_attempts(ledger: Ledger, name: str = "") -> None:
    """Remove the marks of one task and of its pieces, or of the whole stage."""
    remove(_folder(ledger) / name)
    for folder in _folder(ledger).glob(f"{name}.*"):
        remove(folder)


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
    """Process a piece of a task and write nothing; `WorkersLostError` once it has ended a process."""
    task = piece.task
    _marked(task.ledger, piece.name, 1, lambda: probe(task, piece.lo, piece.hi))


def _left_out_folder(ledger: Ledger) -> Path:
    return ledger.folder / "left-out" / ledger.stage


def _left_out_path(ledger: Ledger, name: str) -> Path:
    return _left_out_folder(ledger) / f"{name}.json"


def left_out_files(ledger: Ledger, name: str) -> list[Path]:
    """The file that says which rows of a task are left out, if there is one: it belongs to the task's receipt."""
    path = _left_out_path(ledger, name)
    return [path] if path.is_file() else []


def left_out(ledger: Ledger, name: str) -> list[int]:
    """Rows of a task, counted from its first, that are not processed because they ended workers."""
    try:
        content = parse_checked(read_text(_left_out_path(ledger, name)), FORMAT_VERSION)
        return [int(row) for row in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def leave_out(ledger: Ledger, name: str, rows: Iterable[int]) -> None:
    """Leave out more rows of a task, from now on, until `try_again`."""
    content = {"format_version": FORMAT_VERSION, "rows": sorted({*left_out(ledger, name), *rows})}
    write_json(_left_out_path(ledger, name), with_checksum(content))


def has_left_out(ledger: Ledger) -> bool:
    """Whether objects of a stage are left out."""
    return any(_left_out_folder(ledger).glob("*.json"))


def try_again(ledger: Ledger) -> int:
    """Leave out no rows of a stage any more, so that its next run tries them again; the driver's lock must be held.

    Returns
    -------
    int
        How many objects that are.
    """
    n_objects = 0
    for path in sorted(_left_out_folder(ledger).glob("*.json")):
        n_objects += len(left_out(ledger, path.stem))
        # The receipt first: none may outlive what it says.
        ledger.remove(FINISHED)
        ledger.remove(path.stem)
        remove(path)
    return n_objects


LEFT_OUT_REASON = (
    f"processing it alone ended {MAX_LOST_WORKERS} workers or more, while the rest of its partition passed each time"
)
