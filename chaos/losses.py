"""What a disk may hold after the power went: every write and name that was not flushed may be lost, alone or in part.

It is built from the journal of ``shim.c``, and is harsher than any file system that we know: data of each file and
entries of each folder survive independently of each other, unless they were flushed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

type Mode = Literal["worst", "data", "names", "prefix", "any", "all"]
"""What survives of what was not flushed: nothing; the names; the data; calls up to some moment; any of them; all."""

MODES: tuple[Mode, ...] = ("worst", "data", "names", "prefix", "any")

ROOT = -1


@dataclass(frozen=True)
class Call:
    """One call that changed something.

    Attributes
    ----------
    kind : str
        C: a file comes to be, M: a folder, U: a name goes, R: it is renamed, W: data, S: a new size, F: a file is
        flushed, D: a folder is.
    parent, other : int
        Folders that the names lie in; ``other`` and ``to`` say where something is renamed to.
    """

    kind: str
    inode: int
    parent: int
    other: int
    offset: int
    length: int
    time_ns: int
    name: str
    to: str
    data: bytes


def read_journal(path: Path) -> list[Call]:
    """All calls in their order."""
    return list(_calls(path.read_bytes()))


def _calls(text: bytes) -> Iterator[Call]:
    place = 0
    while place < len(text):
        end = text.index(b"\n", place)
        kind, *numbers, name, to = text[place:end].decode().split("\t")
        inode, parent, other, offset, length, time_ns = map(int, numbers)
        place = end + 1 + (length if kind == "W" else 0)
        yield Call(kind, inode, parent, other, offset, length, time_ns, name, to, text[end + 1 : place])


@dataclass
class _File:
    """Content that is safe, and the calls since."""

    safe: bytearray = field(default_factory=bytearray)
    time_ns: int = 0
    later: list[Call] = field(default_factory=list)

    def apply(self, call: Call, part: float = 1.0) -> None:
        """Do a call, or the first part of a write."""
        if call.kind == "S":
            del self.safe[call.offset :]
            self.safe.extend(bytes(call.offset - len(self.safe)))
        else:
            data = call.data[: int(part * len(call.data))]
            self.safe.extend(bytes(max(0, call.offset + len(data) - len(self.safe))))
            self.safe[call.offset : call.offset + len(data)] = data
        self.time_ns = call.time_ns or self.time_ns

    def flush(self) -> None:
        """All of it is safe."""
        for call in self.later:
            self.apply(call)
        self.later = []

    def lose(self, rnd: random.Random, mode: Mode) -> bool:
        """Keep what survives of the calls since; whether some did not."""
        n_later = len(self.later)
        kept = {"worst": 0, "data": 0, "names": n_later, "all": n_later}.get(mode, rnd.randint(0, n_later))
        for call in self.later[:kept]:
            self.apply(call)
        if kept < n_later and mode == "data" and rnd.random() < 0.5:
            # The file has its size, and zeros where its blocks never came.
            for call in self.later:
                self.safe.extend(bytes(max(0, call.offset + call.length - len(self.safe))))
                self.time_ns = call.time_ns or self.time_ns
        elif kept < n_later and mode == "any":
            self.apply(self.later[kept], rnd.random())
        return kept < n_later


@dataclass(frozen=True)
class _Change:
    """A change of names that is not safe yet: in which folders, and about what."""

    call: Call
    folder: int
    other: int
    what: int


class Disk:
    """Follows the calls of a journal that began with an empty folder, or with one whose content is safe.

    Files have numbers from 0 up, folders from -1 down: inodes come again when what had them is gone.
    """

    def __init__(self, root_inode: int) -> None:
        self._files: dict[int, _File] = {}
        self._entries: dict[int, dict[str, int]] = {ROOT: {}}
        self._of_inode: dict[int, int] = {root_inode: ROOT}
        self._later: list[_Change] = []

    @classmethod
    def holding(cls, root: Path) -> Disk:
        """A disk with all that is in a folder, safe, but for links."""
        disk = cls(root.stat().st_ino)
        for path in sorted(root.rglob("*")):
            if path.is_symlink():
                continue
            status, parent = path.stat(), disk._of_inode[path.parent.stat().st_ino]
            if path.is_dir():
                disk._entries[parent][path.name] = disk._new_folder(status.st_ino)
            else:
                file = _File(bytearray(path.read_bytes()), status.st_mtime_ns)
                disk._entries[parent][path.name] = disk._new_file(status.st_ino, file)
        return disk

    def _new_file(self, inode: int, file: _File) -> int:
        number = self._of_inode[inode] = len(self._files)
        self._files[number] = file
        return number

    def _new_folder(self, inode: int) -> int:
        number = self._of_inode[inode] = ROOT - len(self._entries)
        self._entries[number] = {}
        return number

    def _file(self, inode: int) -> _File:
        number = self._of_inode.get(inode, ROOT)
        # One that is not known was made by a call that is not watched, such as one of C's stdio.
        return self._files[number if number >= 0 else self._new_file(inode, _File())]

    def follow(self, calls: Sequence[Call]) -> None:
        """Take over calls."""
        for call in calls:
            self._take(call)

    def _take(self, call: Call) -> None:
        if call.kind == "C":
            self._new_file(call.inode, _File())
        elif call.kind == "M":
            self._new_folder(call.inode)
        if call.kind in "WS":
            self._file(call.inode).later.append(call)
        elif call.kind == "F":
            self._file(call.inode).flush()
        elif call.kind == "D":
            self._flush_folder(self._of_inode.get(call.inode, ROOT))
        else:
            places = (self._of_inode.get(inode, ROOT) for inode in (call.parent, call.other, call.inode))
            self._later.append(_Change(call, *places))

    def _flush_folder(self, folder: int) -> None:
        """Names in a folder are safe now; a rename concerns two, and is one change."""
        mine = [change for change in self._later if folder in _folders_of(change)]
        self._later = [change for change in self._later if folder not in _folders_of(change)]
        for change in mine:
            self._change_names(change)

    def _change_names(self, change: _Change) -> None:
        call, entries = change.call, self._entries[change.folder]
        if call.kind in "MC":
            entries[call.name] = change.what
        elif call.kind == "U":
            entries.pop(call.name, None)
        else:
            entries.pop(call.name, None)
            self._entries[change.other][call.to] = change.what

    def cut_power(self, rnd: random.Random, mode: Mode) -> dict[str, int]:
        """Decide what of all that was not flushed survives; says how much was lost."""
        lost = {"names": 0, "data": 0}
        moment = rnd.random()
        for place, change in enumerate(self._later):
            chance = {"worst": 0.0, "data": 1.0, "names": 0.0, "any": 0.5, "all": 1.0}
            survives = place < moment * len(self._later) if mode == "prefix" else rnd.random() < chance[mode]
            if survives:
                self._change_names(change)
            lost["names"] += not survives
        for content in self._files.values():
            lost["data"] += content.lose(rnd, mode)
        return lost

    def write_to(self, target: Path) -> None:
        """Make what is on the disk."""
        self._write(ROOT, target)

    def _write(self, folder: int, target: Path) -> None:
        target.mkdir(parents=True)
        for name, known in self._entries[folder].items():
            if known < 0:
                self._write(known, target / name)
            else:
                file = self._files[known]
                (target / name).write_bytes(file.safe)
                os.utime(target / name, ns=(file.time_ns, file.time_ns))


def _folders_of(change: _Change) -> tuple[int, ...]:
    return (change.folder, change.other) if change.call.kind == "R" else (change.folder,)
