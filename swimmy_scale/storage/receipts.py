"""The commit protocol of a run directory: receipts of what is on disk, and what is damaged since.

Work is committed in four steps: write the region; read it back and compare; fsync files and folders; write the
receipt to a temporary name, fsync it and rename it. A receipt that is there and has the identity that the plan asks
for means that the work is on disk. All other work is done again, whole. No step needs another one to have survived a
power cut.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.storage.arrivals import several_nodes, wait_until
from swimmy_scale.storage.files import (
    ListDigest,
    digest_file,
    open_plain,
    parse_checked,
    read_text,
    remove,
    sync_files,
    sync_path,
    with_checksum,
    write_json,
)

FORMAT_VERSION = 1
FINISHED = "finished"
CONTRADICTION = "the receipts of the tasks do not add up to what it says, so none of them is believed"
# What reading a receipt raises if its file is missing, damaged, or cannot be read.
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class FileRecord:
    """What a file was when it was committed."""

    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Receipt:
    """Proof that one task's output is on disk.

    Attributes
    ----------
    name : str
        Six digits for a partition or a training, ``finished`` for the end of a stage.
    identity : str
        Digest of everything that determines the output: inputs, configuration, code version, model.
    n_objects : int
        Rows of the partition.
    first_object_id, last_object_id : int
        Of the partition's rows; both 0 where a task has no rows of a store.
    data_digest : str
        SHA-256 of the values written, independent of how they are compressed.
    files : mapping of str to FileRecord
        Every file that the task owns, by its path relative to the ledger's root.
    details : mapping
        Small facts that the finish of the stage adds up: quarantined objects, counts of cuts.
    """

    stage: str
    name: str
    identity: str
    n_objects: int = 0
    first_object_id: int = 0
    last_object_id: int = 0
    data_digest: str = ""
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The receipt as it is written, with a checksum over all of it."""
        return with_checksum({"format_version": FORMAT_VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        """Read a receipt; what is wrong with it raises one of `UNREADABLE`."""
        body = parse_checked(text, FORMAT_VERSION)
        files = {path: FileRecord(**record) for path, record in body.pop("files").items()}
        return cls(files=files, **body)


def task_name(index: int) -> str:
    """Name of the receipt of partition or training ``index``."""
    return f"{index:06d}"


class Parts:
    """The receipts of a stage's tasks, added up one at a time, so that memory does not grow with their number."""

    def __init__(self) -> None:
        self.n_tasks = 0
        self.n_objects = 0
        self._digest = ListDigest()

    @classmethod
    def of(cls, receipts: Iterable[Receipt]) -> Self:
        """All of ``receipts``, added up."""
        parts = cls()
        for _ in parts.count(receipts):
            pass
        return parts

    def count(self, receipts: Iterable[Receipt]) -> Iterator[Receipt]:
        """The receipts, in order, each added up as it passes."""
        for receipt in receipts:
            self._digest.add([receipt.identity, receipt.data_digest])
            self.n_tasks += 1
            self.n_objects += receipt.n_objects
            yield receipt

    def digest(self) -> str:
        """Digest over identity and data of all of them."""
        return self._digest.hexdigest()

    def fit(self, done: Receipt) -> bool:
        """Whether they are what the end of their stage says."""
        return (self.n_objects, self.digest()) == (done.n_objects, done.data_digest)


@dataclass(frozen=True)
class Damage:
    """A file or receipt that is not what it was when it was committed."""

    stage: str
    name: str
    path: str
    reason: str


@dataclass(frozen=True)
class Ledger:
    """The receipts of one stage.

    Attributes
    ----------
    folder : Path
        Holds the receipts of all stages.
    root : Path
        What file names in receipts are relative to.
    """

    folder: Path
    root: Path
    stage: str

    @property
    def folder_of_stage(self) -> Path:
        """The folder of the stage's receipts."""
        return self.folder / self.stage

    def path(self, name: str) -> Path:
        """Where the receipt called ``name`` lies."""
        return self.folder_of_stage / f"{name}.json"

    def note_path(self, what: str) -> Path:
        """Where the stage keeps a note of its own, which is not a receipt."""
        return self.folder / f"{self.stage}.{what}.json"

    def record_files(self, paths: Iterable[Path]) -> dict[str, FileRecord]:
        """Flush files to disk; return their sizes, times and digests by path."""
        paths = list(paths)
        sync_files(paths, self.root)
        records = {}
        for path in paths:
            status = path.stat()
            key = path.relative_to(self.root).as_posix()
            records[key] = FileRecord(status.st_size, status.st_mtime_ns, digest_file(path))
        return records

    def commit(self, receipt: Receipt) -> None:
        """Write a receipt. Its files must be on disk already, as after `record_files`."""
        if receipt.stage != self.stage:
            raise ValueError(f"receipt of stage {receipt.stage!r} given to the ledger of {self.stage!r}")
        write_json(self.path(receipt.name), receipt.to_json())

    def read(self, name: str) -> Receipt | None:
        """The receipt called ``name``, or None if it is missing, damaged, or that of another task."""
        try:
            return self._parsed(name, self.read_text(name))
        except (OSError, ValueError):
            return None

    def _parsed(self, name: str, text: str) -> Receipt | None:
        """The receipt called ``name`` in a text; None where it is damaged, or that of another task."""
        try:
            receipt = Receipt.from_json(text)
        except UNREADABLE:
            return None
        return receipt if (receipt.stage, receipt.name) == (self.stage, name) else None

    def sound(self, name: str) -> Receipt | None:
        """The receipt called ``name``; None only if there is none.

        For what is made of a stage that is finished: a disk that fails for a moment must not leave out what it says.

        Raises
        ------
        SwimmyError
            When it is damaged, or cannot be read.
        """
        try:
            text = self.read_text(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            problem = f"the receipt cannot be read ({error.strerror})"
        except ValueError:
            problem = "the receipt is damaged"
        else:
            if (receipt := self._parsed(name, text)) is not None:
                return receipt
            problem = "the receipt is damaged" if text else "the receipt is empty"
        raise SwimmyError(
            f"{self.path(name)}: {problem}. Run `{typed('verify')}` on the run directory: it says what else is wrong."
        )

    def awaited(self, name: str, is_meant: Callable[[Receipt], bool] = lambda receipt: True) -> Receipt | None:
        """The receipt (see `read`), once it is seen here with all the files that it names (see `arrivals`).

        If they do not come in time, or another receipt than the one that is meant, it is what is there.
        """

        def is_there() -> bool:
            receipt = self.read(name)
            return receipt is not None and is_meant(receipt) and next(self.lacking(receipt), None) is None

        wait_until(is_there, [self.folder_of_stage])
        return self.read(name)

    def await_all(self, is_meant: Callable[[Receipt], bool] = lambda receipt: True) -> None:
        """Wait for all receipts of a finished stage, and their files (see `awaited`)."""
        if several_nodes():
            done = self.awaited(FINISHED, is_meant)
            for index in range(done.details["n_tasks"] if done else 0):
                self.awaited(task_name(index))

    def lacking(self, receipt: Receipt) -> Iterator[Path]:
        """The files that a receipt names and that are not seen here, or not with the size that it says."""
        for key, record in receipt.files.items():
            path = self.root / key
            try:
                # A file that is opened has its size of now; what `stat` says may be old.
                with open_plain(path) as stream:
                    if os.fstat(stream.fileno()).st_size != record.size_bytes:
                        yield path
            except OSError:
                yield path

    def read_text(self, name: str) -> str:
        """The text of a receipt.

        Raises
        ------
        OSError
            When it cannot be read; when something else lies in its place.
        """
        return read_text(self.path(name))

    def valid(self, name: str, identity: str) -> Receipt | None:
        """The receipt, if it has this identity and its files are unchanged; else None.

        A file with the recorded size and time counts as unchanged. One whose time differs (a copied run, a touched
        file) is read and compared by digest. ``verify`` reads every byte.
        """
        receipt = self.read(name)
        return receipt if receipt is not None and receipt.identity == identity and self.intact(receipt) else None

    def intact(self, receipt: Receipt) -> bool:
        """Whether a receipt's files are unchanged, judged as `valid` says."""
        return all(self._unchanged(key, record) for key, record in receipt.files.items())

    def _unchanged(self, key: str, record: FileRecord) -> bool:
        path = self.root / key
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != record.size_bytes:
            return False
        return status.st_mtime_ns == record.mtime_ns or digest_file(path) == record.sha256

    def names(self) -> list[str]:
        """Names of all receipts of the stage, readable or not, sorted."""
        return sorted(self.every_name())

    def every_name(self) -> Iterator[str]:
        """Names of all receipts of the stage, readable or not, as the folder lists them."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder_of_stage) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    yield entry.name.removesuffix(".json")

    def parts(self) -> Iterator[Receipt]:
        """The readable receipts of all tasks of a finished stage, in order, one at a time."""
        done = self.read(FINISHED)
        for index in range(done.details["n_tasks"] if done else 0):
            receipt = self.read(task_name(index))
            if receipt is not None:
                yield receipt

    def contradicts_itself(self) -> bool:
        """Whether all receipts of a finished stage can be read, and do not add up to what its end says."""
        done, parts = self.read(FINISHED), Parts.of(self.parts())
        is_whole = done is not None and parts.n_tasks == done.details["n_tasks"]
        return is_whole and done is not None and not parts.fit(done)

    def remove_all(self) -> None:
        """Remove all receipts of the stage at once, whenever this ends: it is not known which of them is wrong."""
        if self.folder_of_stage.is_dir():
            gone = self.folder / f".{self.stage}.{uuid.uuid4().hex}.partial"
            self.folder_of_stage.rename(gone)
            sync_path(self.folder)
            remove(gone)

    def remove(self, name: str) -> None:
        """Remove a receipt, so that its work is done again."""
        with contextlib.suppress(FileNotFoundError):
            remove(self.path(name))
            sync_path(self.path(name).parent)

    def damage(self, name: str, reason: str) -> Damage:
        """What is wrong with the receipt called ``name``."""
        return Damage(self.stage, name, self.path(name).relative_to(self.root).as_posix(), reason)

    def finish(
        self, identity: str, parts: Parts, files: Iterable[Path], details: Mapping[str, Any] | None = None
    ) -> Receipt:
        """Write the receipt that closes the stage; ``parts`` has counted the receipts of all its tasks."""
        receipt = Receipt(
            stage=self.stage,
            name=FINISHED,
            identity=identity,
            n_objects=parts.n_objects,
            data_digest=parts.digest(),
            files=self.record_files(files),
            details={"n_tasks": parts.n_tasks, **(details or {})},
        )
        self.commit(receipt)
        return receipt


@dataclass(frozen=True)
class OwnedFile:
    """A committed file, by its path below the ledger's root, and the stage and name of its receipt."""

    stage: str
    name: str
    path: str
    record: FileRecord

    def damage(self, root: Path) -> Damage | None:
        """What is wrong with the file, after reading every byte of it."""
        path = root / self.path
        try:
            if not path.exists():
                reason = "missing"
            elif not path.is_file():
                reason = "not a file"
            elif (size := path.stat().st_size) != self.record.size_bytes:
                reason = f"{size} bytes, its receipt says {self.record.size_bytes}"
            elif digest_file(path) != self.record.sha256:
                reason = "its bytes differ from its receipt"
            else:
                return None
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
        return Damage(self.stage, self.name, self.path, reason)


def owned_files(folder: Path, root: Path, stages: Iterable[str]) -> tuple[list[OwnedFile], list[Damage]]:
    """Every committed file, and what is wrong with the receipts themselves.

    A finished stage must have the receipts of all its tasks, as many as its ``n_tasks`` says, and they must add up to
    what its end says. Where several receipts
    name one file (a later stage may renew a store's metadata), the record of the last stage counts: ``stages`` are in
    the order of the job. Folder and root are those of `Ledger`.
    """
    damage: list[Damage] = []
    owned: dict[str, OwnedFile] = {}
    for stage in stages:
        ledger = Ledger(folder, root, stage)
        names, parts = ledger.names(), Parts()
        done = ledger.read(FINISHED)
        needed = {task_name(index) for index in range(done.details["n_tasks"] if done else 0)}
        sound = len(damage)
        damage += [ledger.damage(name, "the receipt is missing") for name in sorted(needed - set(names))]
        for name in names:
            try:
                receipt = Receipt.from_json(ledger.read_text(name))
            except OSError as error:
                damage.append(ledger.damage(name, f"the receipt cannot be read ({error.strerror})"))
                continue
            except UNREADABLE:
                damage.append(ledger.damage(name, "the receipt is damaged"))
                continue
            if (receipt.stage, receipt.name) != (stage, name):
                damage.append(ledger.damage(name, f"the receipt is that of {receipt.stage} {receipt.name}"))
                continue
            owned |= {key: OwnedFile(stage, name, key, record) for key, record in receipt.files.items()}
            if name in needed:
                for _ in parts.count([receipt]):
                    pass
            elif name != FINISHED and done is not None:
                damage.append(ledger.damage(name, "the receipt is of no task of the finished stage"))
        if done is not None and len(damage) == sound and not parts.fit(done):
            damage.append(ledger.damage(FINISHED, CONTRADICTION))
    return list(owned.values()), damage
