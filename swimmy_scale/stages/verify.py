"""Verification: every byte of a run directory, or of the output of a single stage, against its receipts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, parse_job
from swimmy_scale.stages.engine import Executor, Progress, SerialExecutor, Task
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import driver_lock
from swimmy_scale.storage.receipts import Damage, Ledger, OwnedFile, Receipt, owned_files
from swimmy_scale.storage.run_directory import STAGES, RunDirectory, cutouts_ledger, ledger_beside
from swimmy_scale.storage.scores import Scores

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


@dataclass(frozen=True)
class Verifier:
    """Compares bytes with receipts, on many workers if there is more than one task."""

    executor: Executor
    progress: Progress

    def output(self, path: Path) -> list[Damage]:
        """Compare every byte with its receipt; remove the receipts of what is damaged.

        Parameters
        ----------
        path : Path
            A run directory, and with it the store that its job names by ``cutouts``; or what a single stage made
            (``cutouts.zarr``, ``models/``, ``scores.zarr``), with its receipts beside it.

        Returns
        -------
        list of Damage
            Empty when all is well; the command that made ``path`` repairs what is listed. Paths outside of ``path``
            are absolute.

        Raises
        ------
        SwimmyError
            When nothing has receipts there, or another process works on it.
        """
        if RunDirectory(path).exists():
            return self._run(RunDirectory(path))
        beside = ledger_beside(path, "").folder
        if not beside.is_dir():
            raise SwimmyError(
                f"{path}: neither a run directory (no receipts folder in it) nor the output of one stage (no "
                f"{beside.name} beside it), so nothing says what its bytes should be. Check the path."
            )
        with driver_lock(beside, path):
            return self._folder(beside, path.parent, ("ingest", "train", "evaluate", "score", "sample"))

    def _run(self, run: RunDirectory) -> list[Damage]:
        # Held until all is read: the workers of both parts have their keys and scripts in this directory.
        with run.lock():
            damage = self._folder(run.receipts, run.path, ("job", "scorer", *STAGES, "provenance"))
            try:
                cutouts = parse_job(run.job_file.read_text(), run.job_file, Job).cutouts
            except (OSError, ValueError, SwimmyError):
                return damage  # damaged itself, and listed as such
            if cutouts is not None:
                found = self._cutouts(cutouts, run)
                damage += [replace(item, path=str(cutouts.parent / item.path)) for item in found]
            return damage

    def _cutouts(self, cutouts: Path, run: RunDirectory) -> list[Damage]:
        """Damage of the store that the job of a run names."""
        ledger = cutouts_ledger(cutouts)
        if not ledger.folder.is_dir():
            raise SwimmyError(
                f"{cutouts}: {run.job_file} names this store, and no receipts lie beside it. "
                "Copy its receipts along, or ingest again."
            )
        alone = ledger.folder == ledger_beside(cutouts, "ingest").folder
        with driver_lock(ledger.folder, cutouts) if alone else RunDirectory(ledger.root).lock():
            return self._folder(ledger.folder, ledger.root, ("ingest",))

    def _folder(self, folder: Path, root: Path, stages: tuple[str, ...]) -> list[Damage]:
        (files, damage), other_ids = owned_files(folder, root, stages), list[Damage]()
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
        for item in damage:
            Ledger(folder, root, item.stage).remove(item.name)
        return sorted(damage, key=lambda item: (stages.index(item.stage), item.name, item.path))
