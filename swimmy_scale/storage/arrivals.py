"""What other nodes have written, and a shared file system shows here only after a while."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from swimmy_scale.errors import SwimmyError

SECONDS_UNTIL_SEEN = 90.0
"""NFS keeps what it knows of a folder for a minute at most, unless it is mounted with other times."""
SECONDS_BETWEEN_LOOKS = 1.0


def several_nodes() -> bool:
    """Whether this process belongs to a batch job, so that other nodes may write what it reads."""
    return bool(os.environ.get("SLURM_JOB_ID"))


def once_there[T](read: Callable[[], T]) -> T:
    """What ``read`` returns; in a batch job it is called again for `SECONDS_UNTIL_SEEN` while it fails.

    For what the driver has checked on its node already, so that here it can only be late.
    """
    found: list[T] = []

    def is_there() -> bool:
        with contextlib.suppress(SwimmyError, OSError):
            found.append(read())
        return bool(found)

    wait_until(is_there)
    return found[0] if found else read()


def wait_until(is_there: Callable[[], bool], folders: Iterable[Path] = ()) -> None:
    """Wait, in a batch job alone, until something is there; after `SECONDS_UNTIL_SEEN` the caller finds that it is not.

    Listing the ``folders`` that it should come to lets a network file system look again.
    """
    if not several_nodes():
        return
    deadline = time.monotonic() + SECONDS_UNTIL_SEEN
    while not is_there() and time.monotonic() < deadline:
        for folder in folders:
            if folder.is_dir():
                list(folder.iterdir())
        time.sleep(SECONDS_BETWEEN_LOOKS)
