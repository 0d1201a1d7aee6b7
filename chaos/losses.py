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

FOLDER = -1


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


class Disk:
    """Follows the calls of a journal that began with an empty folder."""

    def __init__(self, root_inode: int) -> None:
        self._root = root_inode
        self._files: dict[int, _File] = {}
        # Inodes come again when a file is gone: each file has a number of its own.
        self._of_inode: dict[int, int] = {}
        self._entries: dict[int, dict[str, int]] = {root_inode: {}}
        # Changes of names that are not safe yet, each with the file that it is about.
        self._later: list[tuple[Call, int]] = []

    @classmethod
    def holding(cls, root: Path) -> Disk:
        """A disk with all that is in a folder, safe, but for links."""
        disk = cls(root.stat().st_ino)
        for path in sorted(root.rglob("*")):
            if path.is_symlink():
                continue
            status, parent = path.stat(), path.parent.stat().st_ino
            entries = disk._entries.setdefault(parent, {})
            if path.is_dir():
                entries[path.name] = FOLDER - status.st_ino
                continue
            entries[path.name] = disk._of_inode[status.st_ino] = len(disk._files)
            disk._files[len(disk._files)] = _File(bytearray(path.read_bytes()), status.st_mtime_ns)
        return disk

    def follow(self, calls: Sequence[Call]) -> None:
        """Take over calls."""
        for call in calls:
            self._take(call)

    def _take(self, call: Call) -> None:
        if call.kind == "C":
            self._of_inode[call.inode] = len(self._files)
            self._files[len(self._files)] = _File()
        if call.kind in "WSF" and call.inode not in self._of_inode:
            # It was made by a call that is not watched, such as one of C's stdio.
            self._of_inode[call.inode] = len(self._files)
            self._files[len(self._files)] = _File()
        if call.kind in "WS":
            self._files[self._of_inode[call.inode]].later.append(call)
        elif call.kind == "F":
            self._files[self._of_inode[call.inode]].flush()
        elif call.kind == "D":
            self._flush_folder(call.inode)
        else:
            self._later.append((call, self._of_inode.get(call.inode, FOLDER)))

    def _flush_folder(self, folder: int) -> None:
        """Names in a folder are safe now; a rename concerns two, and is one change."""
        mine = [pair for pair in self._later if folder in (pair[0].parent, pair[0].other)]
        self._later = [pair for pair in self._later if folder not in (pair[0].parent, pair[0].other)]
        for pair in mine:
            self._change_names(*pair)

    def _change_names(self, call: Call, file: int) -> None:
        entries = self._entries.setdefault(call.parent, {})
        if call.kind == "M":
            entries[call.name] = FOLDER - call.inode
        elif call.kind == "C":
            entries[call.name] = file
        elif call.kind == "U":
            entries.pop(call.name, None)
        else:
            entries.pop(call.name, None)
            moved = file if file != FOLDER else FOLDER - call.inode
            self._entries.setdefault(call.other, {})[call.to] = moved

    def cut_power(self, rnd: random.Random, mode: Mode) -> dict[str, int]:
        """Decide what of all that was not flushed survives; says how much was lost."""
        lost = {"names": 0, "data": 0}
        moment = rnd.random()
        for place, (call, file) in enumerate(self._later):
            chance = {"worst": 0.0, "data": 1.0, "names": 0.0, "any": 0.5, "all": 1.0}
            survives = place < moment * len(self._later) if mode == "prefix" else rnd.random() < chance[mode]
            if survives:
                self._change_names(call, file)
            lost["names"] += not survives
        for content in self._files.values():
            lost["data"] += content.lose(rnd, mode)
        return lost

    def write_to(self, target: Path) -> None:
        """Make what is on the disk."""
        self._write(self._root, target)

    def _write(self, folder: int, target: Path) -> None:
        target.mkdir(parents=True)
        for name, known in self._entries.get(folder, {}).items():
            if known < 0:
                self._write(FOLDER - known, target / name)
            else:
                file = self._files[known]
                (target / name).write_bytes(file.safe)
                os.utime(target / name, ns=(file.time_ns, file.time_ns))
