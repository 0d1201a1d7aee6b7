"""Checks of a folder that a run would write to: its space, whether files survive, locks, the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from swimmy_scale.cluster.doctor.findings import Finding, ok, problem, warning
from swimmy_scale.method.survey import HSC
from swimmy_scale.stages.memory import MIB, cutout_bytes
from swimmy_scale.storage.files import driver_lock, write_atomically

GIB = 1 << 30
LEAST_BYTES, ENOUGH_BYTES = GIB, 20 * GIB
# A run of a million objects makes 5,868 files with the default sizes (docs/storage.md).
ENOUGH_FILES = 10_000
SKEW_SECONDS = 5.0
ANOTHER = "Choose another folder with --scratch"
# Tries the driver's lock as another driver would; status 1 says that it is held.
TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "a") as stream:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(1)
"""
SHARED_SYSTEMS = {
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "cifs", "smb3", "9p", "afs"),
    *("orangefs", "panfs", "wekafs", "virtiofs", "quobyte"),
    *("fuse.glusterfs", "fuse.juicefs", "fuse.sshfs", "fuse.moosefs"),
}


def nearest(folder: Path) -> Path:
    """The folder, or if it does not exist, the nearest above it that does."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def check_space(place: Path, status: os.statvfs_result) -> Finding:
    """How many bytes and files the file system has left, by the ``status`` of ``place``."""
    free_bytes = status.f_bavail * status.f_frsize
    n_objects = free_bytes // cutout_bytes(HSC)
    text = f"{free_bytes / GIB:,.1f} GiB free in {place}, room for the pixels of about {n_objects:,} objects"
    if free_bytes < LEAST_BYTES:
        return problem("space", text, f"Make room, or: {ANOTHER}")
    if status.f_files and status.f_favail < ENOUGH_FILES:
        files = f"only {status.f_favail:,} more files can be made in {place}"
        return warning("space", files, "Ask for more, or make storage.partition_objects larger")
    if free_bytes < ENOUGH_BYTES:
        return warning("space", text, f"Enough for a demonstration; for a survey: {ANOTHER}")
    return ok("space", text)


def check_writing(folder: Path, write: Callable[[Path, bytes], None] = write_atomically) -> Finding:
    """Write, flush, rename over an older file and read back, as a run does."""
    path, data = folder / "file", os.urandom(MIB)
    try:
        write(path, b"older")
        began = time.monotonic()
        write(path, data)
        took = time.monotonic() - began
        same = path.read_bytes() == data
    except OSError as error:
        return problem("writing", f"write, flush and rename in {folder.parent}: {error.strerror}", ANOTHER)
    if not same:
        return problem("writing", f"a file in {folder.parent} does not read back as it was written", ANOTHER)
    return ok("writing", f"files are written, flushed and renamed in {folder.parent} ({took * 1000:.0f} ms for 1 MiB)")


def is_locked(path: Path, program: str = TRY_LOCK) -> bool:
    """Whether another process, which runs ``program``, finds a lock held; an OSError if it fails in another way."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-S", "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode not in (0, 1) or done.stderr:
        raise OSError(None, (done.stderr.strip().splitlines() or ["no message"])[-1])
    return done.returncode == 1


def check_lock(folder: Path, locked: Callable[[Path], bool] = is_locked) -> Finding:
    """The driver's lock, which must keep other processes out, and end with its holder."""
    remedy = f"Two drivers could write to one run at a time. {ANOTHER}, or mount this one with locks"
    try:
        with driver_lock(folder):
            held = locked(folder / "driver.lock")
        left = locked(folder / "driver.lock")
    except (OSError, NotImplementedError) as error:
        return problem("lock", f"locks do not work in {folder.parent}: {error}", remedy)
    if not held or left:
        return problem("lock", f"a lock in {folder.parent} {'does not end' if held else 'keeps nobody out'}", remedy)
    return ok("lock", f"a lock in {folder.parent} keeps other processes out, and ends")


def check_clock(folder: Path, clock: Callable[[], float] = time.time) -> Finding:
    """The file system's clock against this machine's."""
    before = clock()
    (folder / "clock").write_bytes(b"now")
    after, there = clock(), (folder / "clock").stat().st_mtime
    skew = there - min(max(there, before), after)
    if abs(skew) > SKEW_SECONDS:
        return warning(
            "clock",
            f"the file system of {folder.parent} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this "
            "machine: a driver's keys may not be valid yet on a node, and ages in status are wrong",
            "Ask who runs them to set their clocks (NTP)",
        )
    return ok("clock", f"file system and machine agree to {SKEW_SECONDS:.0f} s")


def file_system(place: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of a folder's file system, as the kernel names it."""
    best, kind = Path("/"), ""
    for line in mounts.read_text().splitlines():
        _, where, this, *_ = line.split(" ")
        mounted = Path(where.encode().decode("unicode_escape"))
        # A later mount on the same place hides an earlier one.
        if place.resolve().is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, kind = mounted, this
    return kind


def check_shared(kind: str, place: Path) -> Finding:
    """Whether other nodes are likely to see the folder, judged by the type of its file system."""
    if kind in SHARED_SYSTEMS:
        return ok("shared", f"{place} is on {kind}, which machines share")
    return warning(
        "shared",
        f"{place} is on {kind}, which looks like this machine's own disk",
        "The run directory of batch jobs must be seen by all nodes under the same path",
    )


def check_folder(folder: Path, must_be_shared: bool) -> Iterator[Finding]:
    """All checks of a folder, which need not exist yet. What they write is removed."""
    place = nearest(folder.absolute())
    yield check_space(place, os.statvfs(place))
    try:
        with tempfile.TemporaryDirectory(prefix=".swimmy-doctor-", dir=place) as name:
            for check in (check_writing, check_lock, check_clock):
                yield check(Path(name))
    except OSError as error:
        yield problem("writing", f"{place}: {error.strerror}", ANOTHER)
    if must_be_shared:
        yield check_shared(file_system(place), place)
