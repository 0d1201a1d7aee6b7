"""Verification: every byte of a run directory, or of the output of a single stage, against its receipts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, parse_job
from swimmy_scale.stages.engine import Executor, Progress, SerialExecutor, Task
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import allow_owner, check_unlocked, read_text, remove
from swimmy_scale.storage.kept_rows import FOLDER as KEPT_ROWS
from swimmy_scale.storage.receipts import CONTRADICTION, FINISHED, Damage, Ledger, OwnedFile, Receipt, owned_files
from swimmy_scale.storage.run_directory import (
    SHOWN,
    STAGES,
    RunDirectory,
    SelectionFolder,
    cutouts_ledger,
    ledger_beside,
    stages_of,
)
from swimmy_scale.storage.scores import Scores

# In place of the name of a receipt: all of its stage.
EVERY = ""
TASK_BYTES = 256 << 20
BYTES_PER_SECOND = 500e6


@dataclass(frozen=True)
class VerifyTask(Task):
    """Some files to read and compare; ``n_objects`` is their number."""

    files: tuple[OwnedFile, ...]

    def seconds(self, n_threads: int) -> float:
        """See `Task.seconds`; one thread reads."""
        return sum(file.record.size_bytes for file in self.files) / BYTES_PER_SECOND


def verify_files(task: VerifyTask) -> Receipt:
    """Read the files of a task and write nothing; the details of the receipt list what is wrong."""
    damage, other_ids = [], []
    for file in task.files:
        if found := file.damage(task.ledger.root):
            damage.append(asdict(found))
        elif found := _other_ids(task.ledger, file):
            other_ids.append(asdict(found))
    details = {"damage": damage, "other_ids": other_ids}
    return Receipt("verify", task.name, "", len(task.files), details=details)


def _other_ids(ledger: Ledger, file: OwnedFile) -> Damage | None:
    """A partition whose first and last object_id are not those of its receipt; None for all other files."""
    store, separator, _ = file.path.rpartition("/object_id/c/")
    receipt = replace(ledger, stage=file.stage).read(file.name) if separator else None
    if receipt is None:
        return None
    try:
        stored = (Cutouts if file.stage == "ingest" else Scores)(ledger.root / store)
        first = int(file.name) * stored.partition_objects
        ids = stored.read("object_id", first, first + receipt.n_objects)
    except Exception:  # damaged metadata can fail in any way; they are listed themselves
        return None
    said = [receipt.first_object_id, receipt.last_object_id]
    there = ids[[0, -1]].tolist() if ids.size else []
    if there == said:
        return None
    words = " to ".join(map(str, there)) or "none"
    return Damage(file.stage, file.name, file.path, f"object_id {words}, its receipt says {said[0]} to {said[1]}")


class VerifyWork:
    """What workers need to know of the verification (see `Work`)."""

    perform = staticmethod(verify_files)
    probe: ClassVar[None] = None
    wants_gpu: ClassVar[bool] = False
    own_cores: ClassVar[bool] = True


def _tasks(ledger: Ledger, files: Sequence[OwnedFile]) -> list[VerifyTask]:
    """The files in tasks of about `TASK_BYTES`, so that all workers read at once."""
    parts: list[list[OwnedFile]] = []
    size_bytes = TASK_BYTES
    for file in files:
        if size_bytes >= TASK_BYTES:
            parts.append([])
            size_bytes = 0
        parts[-1].append(file)
        size_bytes += file.record.size_bytes
    return [VerifyTask(ledger, k, "", len(part), tuple(part)) for k, part in enumerate(parts)]


def _store(item: Damage) -> str:
    """The first part of the path, which is the store if there is one."""
    return item.path.partition("/")[0]


@dataclass
class Verification:
    """What is wrong with a run directory, or with the output of a single stage.

    Attributes
    ----------
    damage : list of Damage
        Files and receipts that are missing, changed or unreadable. Paths outside of what was verified are absolute.
    unexpected : list of str
        Files that no receipt names, in the stores and folders that the program fills.
    others : list of str
        Files that no receipt names elsewhere: most likely people's own. They are no fault.
    unfinished : list of str
        Stages, and selections, that have not come to their end.
    shown : list of (str, Path)
        What of `SHOWN` is damaged, and in which selection: the commands of these names make it again.
    """

    damage: list[Damage] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    shown: list[tuple[str, Path]] = field(default_factory=list)
    _marks: list[tuple[Ledger, str]] = field(default_factory=list)
    _places: list[Path] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether every file is as its receipt says, and nothing is missing or too many."""
        return not (self.damage or self.unexpected or self.unfinished)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "damaged": [asdict(item) for item in self.damage],
            "unexpected": self.unexpected,
            "others": self.others,
            "unfinished": self.unfinished,
        }

    def mark(self) -> None:
        """Remove the receipts of what is damaged, so that it is done again; the driver's lock must be held.

        What its owner may not read gets that permission back: whoever does it again may need to read it.
        """
        for path in self._places:
            allow_owner(path)
        for ledger, name in self._marks:
            if name == EVERY:
                ledger.remove_all()
            else:
                remove(ledger.path(name))

    def add(self, other: Verification, prefix: Path | None = None) -> None:
        """Take over what is wrong with a part; ``prefix`` goes before its paths."""

        def named(path: str) -> str:
            return path if prefix is None else str(prefix / path)

        self.damage += [replace(item, path=named(item.path)) for item in other.damage]
        for name in ("unexpected", "others", "unfinished"):
            getattr(self, name).extend(map(named, getattr(other, name)))
        self.shown += other.shown
        self._marks += other._marks
        self._places += other._places


@dataclass(frozen=True)
class Verifier:
    """Compares bytes with receipts, on many workers if there is more than one task. It writes nothing."""

    executor: Executor
    progress: Progress

    def output(self, path: Path) -> Verification:
        """Compare every byte with its receipt, and find what no receipt names and what is not finished.

        Parameters
        ----------
        path : Path
            A run directory, and with it its further selections and the store that its job names by ``cutouts``; or
            what a single command made (``cutouts.zarr``, ``models/``, ``scores.zarr``, a selection's folder).

        Raises
        ------
        SwimmyError
            When nothing has receipts there, or another process works on it.
        """
        run, folder, beside = RunDirectory(path), SelectionFolder(path), ledger_beside(path, "").folder
        if run.exists():
            return self._run(run)
        if folder.exists():
            return self._unlocked(folder.receipts, path, lambda: self._selection(folder))
        if not beside.is_dir():
            said = (
                f"{path}: neither a run directory (no receipts folder in it) nor the output of one command (no "
                f"{beside.name} beside it), so nothing says what its bytes should be. Check the path."
            )
            raise SwimmyError(run.what_is_wrong() or said)
        return self._unlocked(beside, path, lambda: self._alone(beside, path))

    def _unlocked(self, folder: Path, path: Path, verify: Callable[[], Verification]) -> Verification:
        """Verify what nobody is changing; held by nothing, so that one who may only read can do it."""
        before = check_unlocked(folder, path)
        found = verify()
        if check_unlocked(folder, path) != before:
            raise SwimmyError(f"{path}: another process has worked on it meanwhile. Give the command again.")
        return found

    def _alone(self, beside: Path, path: Path) -> Verification:
        found = self._folder(beside, path.parent, ("ingest", "train", "evaluate", "score"), [path])
        ledgers = [Ledger(beside, path.parent, stage) for stage in STAGES]
        found.unfinished += [ledger.stage for ledger in ledgers if ledger.names() and FINISHED not in ledger.names()]
        return found

    def _selection(self, folder: SelectionFolder) -> Verification:
        found = self._folder(folder.receipts, folder.path, ("select", *SHOWN), [folder.store])
        if not folder.ledger.path(FINISHED).exists():
            found.unfinished.append("select")
        return found

    def _run(self, run: RunDirectory) -> Verification:
        found = self._unlocked(run.receipts, run.path, lambda: self._folder_of(run))
        for folder in run.named_selections():
            part = self._unlocked(folder.receipts, folder.path, partial(self._selection, folder))
            found.add(part, folder.path.relative_to(run.path))
        job: Job | None
        try:
            job = parse_job(read_text(run.job_file), run.job_file, Job)
        except (OSError, ValueError, SwimmyError):
            # Damaged itself, and listed as such; its receipt holds the text as well.
            job = run.frozen_job()

        def lacking(*stages: str) -> list[str]:
            return [stage for stage in stages if not run.ledger(stage).path(FINISHED).exists()]

        # What a run writes beside its stages has receipts of its own, the provenance when all of them are finished.
        stages = lacking(*(stages_of(job) if job else ()))
        found.unfinished += [*lacking("job", "scorer"), *stages, *([] if stages else lacking("provenance"))]
        if job is not None and job.cutouts is not None:
            found.add(self._cutouts(job.cutouts, run), cutouts_ledger(job.cutouts).root)
        return found

    def _folder_of(self, run: RunDirectory) -> Verification:
        filled = [run.own_cutouts, run.scores, run.selection.store, run.models.path, run.receipts]
        return self._folder(run.receipts, run.path, ("job", "scorer", *STAGES, "provenance", *SHOWN), filled)

    def _cutouts(self, cutouts: Path, run: RunDirectory) -> Verification:
        """What is wrong with the store that the job of a run names."""
        ledger = cutouts_ledger(cutouts)
        if not ledger.folder.is_dir():
            raise SwimmyError(
                f"{cutouts}: {run.job_file} names this store, and no receipts lie beside it. "
                "Copy its receipts along, or ingest again."
            )
        folder, root = ledger.folder, ledger.root
        what = cutouts if folder == ledger_beside(cutouts, "ingest").folder else root
        return self._unlocked(folder, what, lambda: self._folder(folder, root, ("ingest",), [cutouts]))

    def _folder(self, folder: Path, root: Path, stages: tuple[str, ...], filled: Sequence[Path]) -> Verification:
        # A report that somebody has removed as a whole is not missed.
        there = [stage for stage in stages if stage not in SHOWN or (root / stage).exists()]
        (files, damage), other_ids = owned_files(folder, root, there), list[Damage]()
        tasks = _tasks(Ledger(folder, root, "verify"), files)
        executor = self.executor if len(tasks) > 1 else SerialExecutor()
        self.progress.start("verify", len(files), 0, "files")
        with executor.open(), closing(executor.map(VerifyWork(), tasks)) as receipts:
            self.progress.see_workers(executor.describe)
            for receipt in receipts:
                damage += [Damage(**item) for item in receipt.details["damage"]]
                other_ids += [Damage(**item) for item in receipt.details["other_ids"]]
                self.progress.add(receipt.n_objects)
        self.progress.stop("verify")
        # Damaged metadata give the wrong rows: that is no fault of the partitions.
        unsound = {_store(item) for item in damage if item.path.endswith("zarr.json")}
        damage += [item for item in other_ids if _store(item) not in unsound]
        damage.sort(key=lambda item: (stages.index(item.stage), item.name, item.path))
        known = {file.path for file in files} | _of_receipts(folder, root, stages)
        unexpected, others = _not_named(folder, root, filled, known)
        if any((root / item.path).is_relative_to(folder) for item in damage):
            # What a damaged receipt named is not known.
            unexpected = []
        marks = [
            (Ledger(folder, root, item.stage), EVERY if item.reason == CONTRADICTION else item.name)
            for item in damage
            if item.stage not in SHOWN  # their receipts stay until their own commands make them again
        ]
        unfinished = [
            what for what in SHOWN if what in there and not Ledger(folder, root, what).path(FINISHED).exists()
        ]
        shown = [(what, root) for what in SHOWN if what in unfinished or any(item.stage == what for item in damage)]
        return Verification(damage, unexpected, others, unfinished, shown, marks, [root / item.path for item in damage])


def _of_receipts(folder: Path, root: Path, stages: Sequence[str]) -> set[str]:
    """Files that belong to the receipts themselves."""
    found = []
    for stage in stages:
        ledger = Ledger(folder, root, stage)
        found += [ledger.path(name) for name in ledger.every_name()]
        found += [ledger.note_path(what) for what in ("notes", "tables")]
    # What workers leave of objects that end them, rows that are copied while a store grows, and who holds the folder.
    found += [path for name in ("attempts", "left-out", KEPT_ROWS) for path in (folder / name).rglob("*")]
    found += [folder / "driver.lock", folder / "driver.json"]
    return {path.relative_to(root).as_posix() for path in found}


def _not_named(folder: Path, root: Path, filled: Sequence[Path], known: Collection[str]) -> tuple[list[str], list[str]]:
    """Files that are not known: in what the program fills, and beside it in the root if that is all ours."""
    unexpected = []
    for path in filled:
        for item in sorted(path.rglob("*")):
            name = item.relative_to(root).as_posix()
            # What an interrupted write has left is swept away by the next one.
            is_left = any(part.endswith(".partial") for part in item.relative_to(root).parts)
            if not item.is_dir() and name not in known and not is_left:
                unexpected.append(name)
    in_root = [item for item in sorted(root.iterdir()) if item.is_file() and not item.name.endswith(".partial")]
    # Beside the output of a single command lies whatever people keep there.
    ours = folder in filled
    return unexpected, [item.name for item in in_root if ours and item.name not in known]
