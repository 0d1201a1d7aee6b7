"""A file system of which each mount sees late what the others do: the names in a folder, and what `stat` says.

It lives in the memory of one process, which speaks the kernel's own FUSE protocol (include/uapi/linux/fuse.h), and is
mounted as often as there are nodes. A name that one mount creates, removes or renames comes to each of the others
after a time of its own, so that they see changes in any order. An open file has the bytes of its last closing, as NFS
promises; locks are shared between mounts, or each mount's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import stat
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HEADER = struct.Struct("<IIQQIIIHH")
ANSWER = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<6Q10I")
SET = struct.Struct("<IIQQQQQQIIIIIIII")
IO = struct.Struct("<QQIIQII")
LOCK = struct.Struct("<QQQQIIII")
MAJOR, MINOR, MOST_BYTES = 7, 31, 1 << 17
BUFFER_BYTES = MOST_BYTES + 4096
SHARES_FLOCK, BIG_WRITES = 1 << 10, 1 << 5
DIRECT_IO, RELEASES_FLOCK = 1, 2
ROOT_INODE = 1
NEVER_ANSWERED = {2, 42, 36}  # FORGET, BATCH_FORGET, INTERRUPT
SETS_MODE, SETS_SIZE, SETS_MTIME, SETS_MTIME_NOW = 1, 8, 32, 256


@dataclass
class Inode:
    """A file or folder."""

    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    entries: dict[bytes, int] = field(default_factory=dict)
    mtime_ns: int = field(default_factory=time.time_ns)


class RefusedError(OSError):
    """A call that fails with an error number."""

    def __init__(self, number: int) -> None:
        super().__init__(number, os.strerror(number))


class LateFiles:
    """The file system, for all of its mounts; `serve` answers one of them."""

    def __init__(self, n_mounts: int, most_seconds: float, shares_locks: bool, only_asked: bool, seed: int) -> None:
        self._lock = threading.Condition()
        self._inodes = {ROOT_INODE: Inode(ROOT_INODE, stat.S_IFDIR | 0o755)}
        self._n_mounts, self._most, self._shares_locks = n_mounts, most_seconds, shares_locks
        self._random = random.Random(seed)
        # For each mount, names that it does not see as they are: what it sees until when.
        self._names: list[dict[tuple[int, bytes], tuple[int | None, float]]] = [{} for _ in range(n_mounts)]
        # With ``only_asked`` a mount is late about names alone that it has looked for before, as NFS is.
        self._only_asked = only_asked
        self._asked: list[set[tuple[int, bytes]]] = [set() for _ in range(n_mounts)]
        self._sizes: list[dict[int, tuple[int, int, float]]] = [{} for _ in range(n_mounts)]
        self._held: dict[int, dict[int, int]] = {}
        self._do: dict[int, Callable[[int, int, bytes], bytes]] = {
            1: self._lookup,
            3: self._getattr,
            4: self._setattr,
            5: self._readlink,
            6: self._symlink,
            8: self._mknod,
            9: self._mkdir,
            10: self._remove,
            11: self._remove,
            12: self._rename,
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._statfs,
            26: self._init,
            27: self._open,
            28: self._readdir,
            32: self._flock,
            33: self._flock,
            35: self._create,
            45: self._rename2,
            18: self._release,
            # FSYNC, FLUSH, RELEASEDIR, FSYNCDIR, GETLK, ACCESS, DESTROY
            **dict.fromkeys((20, 25, 29, 30, 31, 34, 38), self._nothing),
        }

    # ------------------------------------------------------------ what a mount sees

    def _changed(self, mount: int, folder: int, name: bytes, before: int | None) -> None:
        """Another mount sees the name as it was for a while."""
        for other in range(self._n_mounts):
            if other == mount:
                self._names[other].pop((folder, name), None)
            elif not self._only_asked or (folder, name) in self._asked[other]:
                seen = self._seen(other, folder, name, before)
                until = time.monotonic() + self._random.uniform(0, self._most)
                self._names[other][folder, name] = (seen, until)

    def _seen(self, mount: int, folder: int, name: bytes, real: int | None) -> int | None:
        late = self._names[mount].get((folder, name))
        return late[0] if late and time.monotonic() < late[1] else real

    def _resized(self, mount: int, inode: Inode, size: int, mtime_ns: int) -> None:
        """What `stat` says on other mounts is late; opening a file looks again."""
        now = time.monotonic()
        for other in range(self._n_mounts):
            known = self._sizes[other].get(inode.number)
            if other != mount and not (known and now < known[2]):
                self._sizes[other][inode.number] = (size, mtime_ns, now + self._random.uniform(0, self._most))

    def _find(self, mount: int, folder: int, name: bytes) -> Inode:
        self._asked[mount].add((folder, name))
        found = self._seen(mount, folder, name, self._inodes[folder].entries.get(name))
        if found is None:
            raise RefusedError(errno.ENOENT)
        return self._inodes[found]

    def _attributes(self, mount: int, inode: Inode) -> bytes:
        size, mtime_ns = len(inode.data), inode.mtime_ns
        late = self._sizes[mount].get(inode.number)
        if late and time.monotonic() < late[2]:
            size, mtime_ns = late[:2]
        seconds, rest = divmod(mtime_ns, 10**9)
        times = (seconds, seconds, seconds, rest, rest, rest)
        return ATTRIBUTES.pack(inode.number, size, (size + 511) // 512, *times, inode.mode, 1, 0, 0, 0, 4096, 0)

    def _entry(self, mount: int, inode: Inode) -> bytes:
        return struct.pack("<QQQQII", inode.number, 0, 0, 0, 0, 0) + self._attributes(mount, inode)

    # ------------------------------------------------------------ calls: mount, inode, arguments

    def _init(self, mount: int, number: int, body: bytes) -> bytes:
        wanted = BIG_WRITES | (SHARES_FLOCK if self._shares_locks else 0)
        (offered,) = struct.unpack_from("<I", body, 12)
        return struct.pack("<IIIIHHIIHHIIH22x", MAJOR, MINOR, 0, offered & wanted, 16, 12, MOST_BYTES, 1, 0, 0, 0, 0, 0)

    def _nothing(self, mount: int, number: int, body: bytes) -> bytes:
        return b""

    def _lookup(self, mount: int, number: int, body: bytes) -> bytes:
        return self._entry(mount, self._find(mount, number, body.rstrip(b"\0")))

    def _getattr(self, mount: int, number: int, body: bytes) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._attributes(mount, self._inodes[number])

    def _setattr(self, mount: int, number: int, body: bytes) -> bytes:
        inode, given = self._inodes[number], SET.unpack_from(body)
        if given[0] & SETS_MODE:
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(given[11])
        if given[0] & SETS_SIZE:
            self._resized(mount, inode, len(inode.data), inode.mtime_ns)
            inode.data = inode.data[: given[3]].ljust(given[3], b"\0")
        if given[0] & (SETS_SIZE | SETS_MTIME_NOW):
            inode.mtime_ns = time.time_ns()
        elif given[0] & SETS_MTIME:
            inode.mtime_ns = given[6] * 10**9 + given[9]
        return self._getattr(mount, number, b"")

    def _make(self, mount: int, folder: int, name: bytes, mode: int) -> Inode:
        if self._seen(mount, folder, name, self._inodes[folder].entries.get(name)) is not None:
            raise RefusedError(errno.EEXIST)
        if (there := self._inodes[folder].entries.get(name)) is not None:
            # The server knows better than the client: it is there already.
            self._names[mount].pop((folder, name), None)
            if stat.S_ISDIR(mode):
                raise RefusedError(errno.EEXIST)
            return self._inodes[there]
        inode = Inode(max(self._inodes) + 1, mode)
        self._inodes[inode.number] = inode
        self._inodes[folder].entries[name] = inode.number
        self._changed(mount, folder, name, None)
        return inode

    def _mknod(self, mount: int, number: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        return self._entry(mount, self._make(mount, number, body[16:].rstrip(b"\0"), mode))

    def _mkdir(self, mount: int, number: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        made = self._make(mount, number, body[8:].rstrip(b"\0"), stat.S_IFDIR | stat.S_IMODE(mode))
        return self._entry(mount, made)

    def _symlink(self, mount: int, number: int, body: bytes) -> bytes:
        name, target = body.split(b"\0")[:2]
        inode = self._make(mount, number, name, stat.S_IFLNK | 0o777)
        inode.data = bytearray(target)
        return self._entry(mount, inode)

    def _readlink(self, mount: int, number: int, body: bytes) -> bytes:
        return bytes(self._inodes[number].data)

    def _create(self, mount: int, number: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        name = body[16:].rstrip(b"\0")
        try:
            inode = self._find(mount, number, name)
            if flags & os.O_EXCL:
                raise RefusedError(errno.EEXIST)
        except RefusedError as error:
            if error.errno != errno.ENOENT:
                raise
            inode = self._make(mount, number, name, mode)
        if flags & os.O_TRUNC:
            inode.data = bytearray()
        return self._entry(mount, inode) + struct.pack("<QIi", inode.number, DIRECT_IO, 0)

    def _remove(self, mount: int, number: int, body: bytes) -> bytes:
        name, entries = body.rstrip(b"\0"), self._inodes[number].entries
        inode = self._find(mount, number, name)
        if stat.S_ISDIR(inode.mode) and inode.entries:
            raise RefusedError(errno.ENOTEMPTY)
        if name not in entries:
            # It is gone on the server, though this mount still sees it.
            self._names[mount].pop((number, name), None)
            raise RefusedError(errno.ENOENT)
        self._changed(mount, number, name, entries.pop(name))
        return b""

    def _move(self, mount: int, folder: int, target: int, names: bytes) -> bytes:
        name, to = names.split(b"\0")[:2]
        known = self._inodes[folder].entries.get(name)
        if known is None:
            raise RefusedError(errno.ENOENT)
        self._inodes[folder].entries.pop(name)
        replaced = self._inodes[target].entries.get(to)
        self._inodes[target].entries[to] = known
        self._changed(mount, folder, name, known)
        self._changed(mount, target, to, replaced)
        return b""

    def _rename(self, mount: int, number: int, body: bytes) -> bytes:
        return self._move(mount, number, struct.unpack_from("<Q", body)[0], body[8:])

    def _rename2(self, mount: int, number: int, body: bytes) -> bytes:
        if struct.unpack_from("<I", body, 8)[0]:
            raise RefusedError(errno.EINVAL)
        return self._move(mount, number, struct.unpack_from("<Q", body)[0], body[16:])

    def _open(self, mount: int, number: int, body: bytes) -> bytes:
        # Close-to-open: whoever opens a file sees all that was written before.
        self._sizes[mount].pop(number, None)
        return struct.pack("<QIi", number, 0 if self._inodes[number].entries else DIRECT_IO, 0)

    def _read(self, mount: int, number: int, body: bytes) -> bytes:
        _, offset, size, *_ = IO.unpack_from(body)
        return bytes(self._inodes[number].data[offset : offset + size])

    def _write(self, mount: int, number: int, body: bytes) -> bytes:
        _, offset, size, *_ = IO.unpack_from(body)
        inode, data = self._inodes[number], body[IO.size : IO.size + size]
        self._resized(mount, inode, len(inode.data), inode.mtime_ns)
        inode.data.extend(bytes(max(0, offset - len(inode.data))))
        inode.data[offset : offset + size] = data
        inode.mtime_ns = time.time_ns()
        return struct.pack("<II", size, 0)

    def _readdir(self, mount: int, number: int, body: bytes) -> bytes:
        _, offset, size, *_ = IO.unpack_from(body)
        entries = self._inodes[number].entries
        names = {*entries, *(name for folder, name in self._names[mount] if folder == number)}
        seen = [(name, self._seen(mount, number, name, entries.get(name))) for name in sorted(names)]
        found = b""
        for place, (name, inode) in enumerate(seen[offset:], start=offset + 1):
            if inode is None:
                continue
            kind = stat.S_IFMT(self._inodes[inode].mode) >> 12
            entry = struct.pack("<QQII", inode, place, len(name), kind) + name
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found

    def _statfs(self, mount: int, number: int, body: bytes) -> bytes:
        return struct.pack("<5Q4I24x", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, 0)

    def _flock(self, mount: int, number: int, body: bytes) -> bytes:
        """A lock of the whole file; who waits asks again."""
        _, owner, _, _, kind, *_ = LOCK.unpack_from(body)
        held = self._held.setdefault(number, {})
        others = [other for who, other in held.items() if who != owner]
        if kind == 2:  # F_UNLCK
            held.pop(owner, None)
        elif (kind == 1 and others) or 1 in others:
            raise RefusedError(errno.EAGAIN)
        else:
            held[owner] = kind
        return b""

    def _release(self, mount: int, number: int, body: bytes) -> bytes:
        """The last closing of a file ends its lock."""
        _, _, how, owner = struct.unpack_from("<QIIQ", body)
        if how & RELEASES_FLOCK:
            self._held.get(number, {}).pop(owner, None)
        return b""

    # ------------------------------------------------------------ the kernel

    def serve(self, mount: int, device: int) -> None:
        """Answer the calls of a mount until it is gone."""
        while True:
            try:
                request = os.read(device, BUFFER_BYTES)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return
            length, opcode, unique, number, *_ = HEADER.unpack_from(request)
            if opcode in NEVER_ANSWERED:
                continue
            with self._lock:
                failed, answer = self._answer(mount, opcode, number, request[HEADER.size : length])
            with contextlib.suppress(OSError):
                os.write(device, ANSWER.pack(ANSWER.size + len(answer), -failed, unique) + answer)

    def _answer(self, mount: int, opcode: int, number: int, body: bytes) -> tuple[int, bytes]:
        do = self._do.get(opcode)
        if do is None:
            return errno.ENOSYS, b""
        try:
            return 0, do(mount, number, body)
        except RefusedError as error:
            return error.errno or errno.EIO, b""
        except KeyError:
            return errno.ESTALE, b""


def mount(path: Path) -> int:
    """Mount a file system at a folder; gives the device by which its calls come."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"chaos", str(path).encode(), b"fuse.chaos", 6, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return device
