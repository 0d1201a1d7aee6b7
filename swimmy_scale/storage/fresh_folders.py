"""A folder of results that appears whole: it is made under another name, which it gives up when all is on disk."""

from __future__ import annotations

import errno
import fcntl
import glob
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.files import errors_name, make_folder, remove, sync_files, sync_path

WRITER = "writer.lock"
"""In the folder that holds an unfinished one: its lock ends with the process that writes, however that ends."""
SECONDS_WITHOUT_A_LOCK = 3600.0
"""What has no such file may be a moment old; after so long it is nobody's."""


@contextmanager
def fresh_folder(output: Path) -> Iterator[Path]:
    """Give a new folder to fill; at the end it is flushed to disk and takes the place of what was at ``output``.

    If anything fails, what was there stays. What writers of the same folder left when they were killed is removed.
    """
    make_folder(output.parent)
    remove_left_over(output)
    # `run` sweeps away such a name if this process is killed.
    place = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.", suffix=".partial"))
    try:
        with (place / WRITER).open("wb") as lock:
            with errors_name(output):
                fcntl.flock(lock, fcntl.LOCK_EX)
                fresh = place / output.name
                make_folder(fresh)
                yield fresh
            sync_files([path for path in fresh.rglob("*") if path.is_file()], place)
            _take_the_place(fresh, output, place / "before")
    finally:
        remove(place)


@contextmanager
def making(fresh: Path, path: Path) -> Iterator[None]:
    """What is made as ``fresh`` and takes the place of ``path`` within; in the end ``fresh`` is removed.

    Raises
    ------
    OSError
        Of the disk, naming a file.
    SwimmyError
        When somebody has removed ``fresh`` meanwhile, as a driver does that sees no lock of this one.
    """
    try:
        with errors_name(path):
            yield
    except (KeyError, ValueError, FileNotFoundError) as error:
        if fresh.exists():
            raise
        raise SwimmyError(
            f"{fresh}: somebody has removed it while it was being written, so another command may work on "
            f"{path.parent}. See that none does, then run the same command again."
        ) from error
    finally:
        remove(fresh)


def _take_the_place(fresh: Path, output: Path, before: Path) -> None:
    while True:
        if output.exists():
            remove(before)
            output.rename(before)
        try:
            fresh.rename(output)
        except OSError as error:
            # Another process has put its own there in this moment.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        else:
            sync_path(output.parent)
            return


def remove_left_over(output: Path) -> None:
    """Remove the unfinished folders of writers of ``output`` that are no more."""
    for place in sorted(output.parent.glob(f".{glob.escape(output.name)}.*.partial")):
        if place.is_dir() and not is_being_written(place):
            remove(place)


def is_being_written(place: Path) -> bool:
    """Whether the writer of an unfinished folder lives, or may live."""
    try:
        with (place / WRITER).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        try:
            return time.time() - place.stat().st_mtime < SECONDS_WITHOUT_A_LOCK
        except FileNotFoundError:
            return False
    except OSError:
        return True
    return False
