"""Files: digests, atomic writes, flushing to disk, and the driver's lock."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from swimmy_scale.errors import SwimmyError, typed

SECONDS_FOR_A_LOST_NODE = 600
_NUMBER = re.compile(r"\berrno = (\d+)\b|\[Errno (\d+)\]")
# The locks that this process holds: what each holds, and the device and inode of its file.
_HELD: dict[Path, tuple[Path, tuple[int, int]]] = {}


def digest_json(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON form of ``value``: sorted keys, no spaces, shortest floats."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class ListDigest:
    """`digest_json` of a list whose items come one at a time."""

    def __init__(self) -> None:
        self._digest, self._separator = hashlib.sha256(b"["), b""

    def add(self, item: Any) -> None:
        """Append an item."""
        self._digest.update(self._separator + _canonical(item))
        self._separator = b","

    def hexdigest(self) -> str:
        """The digest of the list so far."""
        whole = self._digest.copy()
        whole.update(b"]")
        return whole.hexdigest()


def number_of(error: BaseException) -> int:
    """The number of an error of the operating system, which HDF5 says in its text alone; 0 for any other error."""
    if not isinstance(error, OSError):
        return 0
    if error.errno is not None:
        return error.errno
    said = _NUMBER.search(str(error))
    return int(said[1] or said[2]) if said else 0


@contextlib.contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Errors of the disk within name ``path``, if they name no file: those of writing, flushing and locking do not."""
    try:
        yield
    except OSError as error:
        number = number_of(error)
        if number and error.errno is None:
            raise OSError(number, os.strerror(number), str(path)) from error
        if number and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[io.BufferedReader]:
    """A plain file, open for reading; a named pipe in its place, which nobody writes to, would wait for ever.

    Raises
    ------
    OSError
        When there is none, or something else lies in its place.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def read_bytes(path: Path) -> bytes:
    """The bytes of a plain file (see `open_plain`)."""
    with errors_name(path), open_plain(path) as stream:
        return stream.read()


def read_text(path: Path) -> str:
    """The text of a plain file (see `open_plain`); ValueError where it is not UTF-8."""
    return read_bytes(path).decode()


@contextlib.contextmanager
def of_the_program(path: Path, output: Path) -> Iterator[None]:
    """Reading of ``path``, which the program wrote with ``output``: whatever is wrong with it becomes a message.

    Raises
    ------
    SwimmyError
        When it cannot be read, with the command that makes it again.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise SwimmyError(
            f"{path}: missing or damaged ({said}). Make it again by `{typed('verify', output, '--repair')}`."
        ) from error


def digest_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in constant memory."""
    with errors_name(path), open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_path(path: Path) -> None:
    """Flush one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with errors_name(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, and flush the names of all that are new."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_path(folder.parent)


def sync_files(paths: Iterable[Path], root: Path) -> None:
    """Flush files, then every folder from theirs up to ``root``, so that the names survive as well."""
    folders: set[Path] = {root}
    for path in paths:
        sync_path(path)
        folders |= {parent for parent in path.parents if parent.is_relative_to(root)}
    for folder in sorted(folders, key=lambda item: len(item.parts), reverse=True):
        sync_path(folder)


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write ``data``, or its pieces one after the other, under a temporary name, fsync, rename, fsync the folder.

    A reader sees the old file or the new one, never a part of one. Equal data give equal files, permissions included.
    """
    make_folder(path.parent)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with errors_name(path), os.fdopen(descriptor, "wb") as stream:
            stream.writelines([data] if isinstance(data, bytes) else data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        if path.is_dir():
            # Nothing of ours: a file belongs here, and nothing else would ever let it in.
            remove(path)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    sync_path(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in the order given, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all in it; nothing where there is none. Errors name the file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onexc=_cannot_remove)
    else:
        path.unlink(missing_ok=True)


def _cannot_remove(function: Callable[..., object], path: str, error: BaseException) -> None:
    """Raise what stops `shutil.rmtree`, which names the last part of the path; what is gone stops nothing."""
    if isinstance(error, FileNotFoundError):
        return
    if isinstance(error, OSError) and error.errno is not None:
        raise OSError(error.errno, error.strerror, path) from error
    raise error


def allow_owner(path: Path) -> None:
    """Let the owner of a file read and write it again, where that was forbidden; nothing if it is not ours."""
    with contextlib.suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and not mode & stat.S_IRUSR:
            path.chmod(stat.S_IMODE(mode) | stat.S_IRUSR | stat.S_IWUSR)


def with_checksum(body: Mapping[str, Any]) -> dict[str, Any]:
    """``body``, which has a ``format_version``, with a checksum over all of it."""
    return {**body, "checksum": digest_json(body)}


def parse_checked(text: str, format_version: int) -> dict[str, Any]:
    """What `with_checksum` was given, without the ``format_version``.

    Raises
    ------
    ValueError
        When it is not JSON, of another format version, or its checksum does not fit.
    """
    body = json.loads(text)
    if not isinstance(body, dict) or body.pop("checksum", None) != digest_json(body):
        raise ValueError("its checksum does not fit")
    if body.pop("format_version", None) != format_version:
        raise ValueError(f"its format version is not {format_version}")
    return body


def check_unlocked(folder: Path, what: Path) -> str:
    """Check that no driver holds a lock, and write nothing.

    Returns
    -------
    str
        Who held it last: a driver that comes and goes changes it.

    Raises
    ------
    SwimmyError
        When a driver holds it, naming its host and process.
    """
    owner = folder / "driver.json"
    try:
        with open_plain(folder / "driver.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(owner, what) from None
    except OSError:
        # There was no driver yet, or the lock may not be read.
        pass
    try:
        return f"{owner.stat().st_mtime_ns} {read_text(owner)}"
    except (OSError, ValueError):
        return ""


def _in_use(owner: Path, what: Path) -> SwimmyError:
    try:
        known = json.loads(read_text(owner))
        who = f"process {known['process_id']} on {known['host']}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    return SwimmyError(f"{what} is in use by {who}. Wait for it, or end that process, then run the command again.")


@contextlib.contextmanager
def driver_lock(folder: Path, what: Path | None = None) -> Iterator[None]:
    """Hold a run directory or a stage's output for one driver.

    The lock is the operating system's, on a file in ``folder``: it ends with the process that holds it, however that
    ends. The message says that ``what`` is held, by default the parent of ``folder``.

    Raises
    ------
    SwimmyError
        When another driver holds it, naming its host and process.
    """
    make_folder(folder)
    lock = filelock.FileLock(folder / "driver.lock")
    owner = folder / "driver.json"
    try:
        # Slurm may start a driver again before the lock of its lost node is free. For a moment it may be held by
        # somebody who only looks whether it is.
        with errors_name(Path(lock.lock_file)):
            lock.acquire(timeout=SECONDS_FOR_A_LOST_NODE if os.environ.get("SLURM_RESTART_COUNT") else 0.3)
    except filelock.Timeout:
        raise _in_use(owner, what or folder.parent) from None
    path = Path(lock.lock_file)
    try:
        _HELD[path] = (what or folder.parent, _identity(path))
        write_json(owner, {"host": socket.gethostname(), "process_id": os.getpid()})
        yield
    finally:
        _HELD.pop(path, None)
        lock.release()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def check_locks_held() -> None:
    """Check that the files of this process's locks are those that it locked: another driver would lock a new one.

    Raises
    ------
    SwimmyError
        When one was removed or replaced.
    """
    for path, (what, identity) in _HELD.items():
        try:
            if _identity(path) == identity:
                continue
        except FileNotFoundError:
            pass
        raise SwimmyError(
            f"{path}: somebody has removed the lock of this command while it worked, so another one may work on {what} "
            "as well. What is done is kept: see that none does any more, then run the same command again."
        )
