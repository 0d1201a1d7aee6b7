"""Power cuts: of a real file system, which is shut down by ioctl in the middle of a command; and of a model of a disk.

The call is `FS_IOC_SHUTDOWN`, as xfstests uses it: what was not flushed is gone, and nothing can be written until the
file system is mounted again, which replays its journal.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chaos import watch
from chaos.kills import verified
from chaos.lab import Lab, clear, differences
from chaos.losses import MODES, Call, Disk
from chaos.records import Outcome
from chaos.scenes import SCENES, Moment, Scene, calls_in, calls_of_commits, found_in, lay_out, moment
from chaos.watch import Action, Kind

MIB = 1 << 20
# include/uapi/linux/fs.h: whether the journal is written before it goes down.
WITH_JOURNAL, WITHOUT_JOURNAL = 1, 2


@dataclass(frozen=True)
class FileSystem:
    """One that can be shut down, as it is made and mounted."""

    name: str
    make: tuple[str, ...]
    options: str
    size_bytes: int


FILE_SYSTEMS = (
    FileSystem("ext4", ("mkfs.ext4", "-q", "-F"), "loop", 96 * MIB),
    FileSystem("ext4, data=writeback", ("mkfs.ext4", "-q", "-F"), "loop,data=writeback,noauto_da_alloc", 96 * MIB),
    FileSystem("ext4, commit=1", ("mkfs.ext4", "-q", "-F"), "loop,commit=1,nodelalloc", 96 * MIB),
    FileSystem("xfs", ("mkfs.xfs", "-q", "-f"), "loop", 320 * MIB),
)


def there() -> tuple[FileSystem, ...]:
    """Those whose tools are installed."""
    return tuple(system for system in FILE_SYSTEMS if shutil.which(system.make[0]))


@cache
def needs_mounts() -> str:
    """Why no file system can be mounted here; empty if it can. From here on mounts are this process's own."""
    if os.getuid() != 0:
        return "only root may mount a file system"
    if not there():
        return "neither mkfs.ext4 nor mkfs.xfs is installed"
    try:
        os.unshare(os.CLONE_NEWNS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"mounts of its own are refused: {error}"
    return watch.missing_compiler()


class Mounted:
    """A new file system in a file, mounted; it can be unmounted and mounted again."""

    def __init__(self, lab: Lab, system: FileSystem) -> None:
        self.system, self.image, self.path = system, lab.place / "image", lab.place / "mounted"
        self.unmount()
        self.path.mkdir(exist_ok=True)
        self.image.unlink(missing_ok=True)
        with self.image.open("wb") as stream:
            stream.truncate(system.size_bytes)
        subprocess.run([*system.make, str(self.image)], check=True, capture_output=True)
        self.mount()

    def mount(self) -> None:
        """Mount it, which replays its journal."""
        words = ["mount", "-o", self.system.options, str(self.image), str(self.path)]
        subprocess.run(words, check=True, capture_output=True)

    def unmount(self) -> None:
        """Take it away; nothing if it is not there."""
        subprocess.run(["umount", str(self.path)], check=False, capture_output=True)


def cut(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """At calls of commands that are far from each other."""
    return _cut(lab, moment(lab, k), there()[k // 2 % len(there())], rnd)


def cut_at_commits(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """At each write, flush and rename of commits, one after the other; when all are done, on another file system.

    What other calls do to the disk is flushed by one of these, or not at all.
    """
    every = [now for now in calls_of_commits(lab) if now.sort in (Kind.WRITE, Kind.FLUSH, Kind.RENAME)]
    return _cut(lab, every[k % len(every)], there()[(k + k // len(every)) % len(there())], rnd)


def _cut(lab: Lab, now: Moment, system: FileSystem, rnd: random.Random) -> Outcome:
    """A real file system goes down at one call of a command; it is mounted again, and the command given again."""
    outcome = Outcome()
    flags = rnd.choice([WITHOUT_JOURNAL, WITHOUT_JOURNAL, WITH_JOURNAL])
    action = rnd.choice([Action.POWER_OFF_BEFORE, Action.POWER_OFF_WITHIN])
    details = {**now.described, "file_system": system.name, "action": action.name, "flags": flags}
    mounted = Mounted(lab, system)
    folder = mounted.path / "folder"
    try:
        now.scene.prepare(lab, folder)
        os.sync()

        def begin() -> None:
            watch.cut_power_of(os.open(mounted.path, os.O_RDONLY), flags)
            watch.watch(folder, now.kind, action, first=now.number)

        trial = now.scene.start(lab, folder, begin)
        outcome.counts["the power went before the command was done"] += trial.status == -9
        mounted.unmount()
        mounted.mount()
        outcome.counts[f"on {system.name}"] += 1
        outcome.counts[now.counted_as] += 1
        verified(lab, outcome, folder / "run", details)
        now.scene.judge(lab, outcome, folder, details)
    finally:
        mounted.unmount()
    return outcome


@dataclass(frozen=True)
class Journalled:
    """The calls of an undisturbed command, and the disk that they began with."""

    calls: list[Call]
    before: Disk
    receipts: list[int]


def journalled(lab: Lab, scene: Scene, folder: Path) -> Journalled:
    """Give a command once and keep its calls; checks that they explain what it leaves."""
    known: Journalled | None = lab.journals.get(scene.name)
    if known is None:
        scene.prepare(lab, folder)
        before = Disk.holding(folder)
        calls = calls_in(lab, scene, folder)
        whole = copy.deepcopy(before)
        whole.follow(calls)
        whole.cut_power(random.Random(0), "all")
        clear(folder)
        whole.write_to(folder)
        lay_out(lab, folder)
        if differ := differences(scene.expected(lab), found_in(folder)):
            raise SystemExit(f"{scene.name}: its calls do not explain what it leaves: {differ[:9]}")
        receipts = [place for place, call in enumerate(calls) if call.kind == "R" and call.to.endswith(".json")]
        known = lab.journals[scene.name] = Journalled(calls, before, receipts)
    return known


def lose(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """The power goes at a moment of a journalled command, and a disk by the harshest rules keeps what it must."""
    outcome, folder = Outcome(), lab.a_folder()
    scene, mode = SCENES[(0, 2, 3, 0, 4, 1, 1)[k % 7]], MODES[k % len(MODES)]
    known = journalled(lab, scene, folder)
    n_calls = len(known.calls)
    # Half of the cuts come right behind a receipt, where a lie would show.
    behind = known.receipts and rnd.random() < 0.5
    at = min(n_calls, rnd.choice(known.receipts) + 1 + rnd.randrange(3)) if behind else rnd.randint(1, n_calls)
    disk = copy.deepcopy(known.before)
    disk.follow(known.calls[:at])
    lost = disk.cut_power(rnd, mode)
    clear(folder)
    disk.write_to(folder)
    lay_out(lab, folder)
    details = {"scene": scene.name, "mode": mode, "after_call": at, "of": n_calls, "lost": lost}
    outcome.counts[f"{scene.name}: {mode}"] += 1
    outcome.counts["names that were lost"] += lost["names"]
    outcome.counts["files that lost data"] += lost["data"]
    verified(lab, outcome, folder / "run", details)
    scene.judge(lab, outcome, folder, details)
    return outcome
