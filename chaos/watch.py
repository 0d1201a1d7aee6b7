"""The Python side of ``shim.c``: builds it, and tells the copy of it that this process was started with what to do."""

from __future__ import annotations

import ctypes
import enum
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
ENDLESS = 1 << 62


class Kind(enum.IntFlag):
    """Calls of the C library that are watched."""

    WRITE = 1
    FLUSH = 2
    RENAME = 4
    OPEN = 8
    REMOVE = 16
    MAKE_FOLDER = 32
    READ = 64
    RESIZE = 128


CHANGES = Kind.WRITE | Kind.FLUSH | Kind.RENAME | Kind.OPEN | Kind.REMOVE | Kind.MAKE_FOLDER | Kind.RESIZE
"""All calls that change something on the disk. `Kind.OPEN` is to open a file for writing."""


class Action(enum.IntEnum):
    """What is done to a call. *Within* is: half of a write, and any other call whole, then the end."""

    NOTHING = 0
    KILL_BEFORE = 1
    KILL_WITHIN = 2
    FAIL = 3
    SHORTEN = 4
    POWER_OFF_BEFORE = 5
    POWER_OFF_WITHIN = 6


def missing_compiler() -> str:
    """Why the shim cannot be built; empty if it can."""
    return "" if shutil.which("cc") else "no C compiler (cc) is installed"


def build(folder: Path) -> Path:
    """The compiled shim, in ``folder``, made anew where its source has changed."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    library = folder / f"shim-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"shim-{digest}.{os.getpid()}"
        words = ["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(part), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(words, check=True)
        part.rename(library)
    return library


def begin_again_with(library: Path, words: Sequence[str]) -> None:
    """Replace this process by the same program with the shim loaded, unless it is."""
    loaded = os.environ.get("LD_PRELOAD", "")
    if str(library) in loaded:
        return
    environment = {**os.environ, "LD_PRELOAD": f"{library} {loaded}".strip()}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *words], environment)


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def is_loaded() -> bool:
    """Whether this process was started with the shim."""
    return hasattr(_library(), "chaos_watch")


def watch(
    folder: Path,
    kinds: Kind = CHANGES,
    action: Action = Action.NOTHING,
    *,
    error: int = 0,
    first: int = 1,
    last: int | None = None,
    only: str = "",
) -> None:
    """In a child: act on calls ``first`` to ``last`` of these kinds below a folder.

    Parameters
    ----------
    last : int, optional
        By default only the call ``first`` is meddled with.
    only : str
        Count paths alone that hold this text.
    """
    numbers = (ctypes.c_long(first), ctypes.c_long(first if last is None else last))
    _library().chaos_watch(str(folder).encode(), int(kinds), int(action), error, *numbers, only.encode())


def told_to_workers(folder: Path, kinds: Kind, action: Action, first: int, only: str = "") -> dict[str, str]:
    """The environment that makes every process started with it do what `watch` says."""
    return {"CHAOS_WATCH": f"{folder}|{int(kinds)}|{int(action)}|0|{first}|{first}|{only}"}


def keep_journal(folder: Path, journal: Path) -> None:
    """In a child: write down every call that changes something below a folder (see `losses.read_journal`)."""
    watch(folder, CHANGES, Action.NOTHING)
    _library().chaos_journal(str(journal).encode())


def cut_power_of(mounted: int, flags: int) -> None:
    """In a child: which file system (an open folder of it) goes down by `Action.POWER_OFF_BEFORE` and its like."""
    _library().chaos_power(mounted, flags)
