"""Verification: every byte of a run directory, or of one stage's output, against its receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, parse_job
from swimmy_scale.stages.engine import SerialWorkers, Session, Task, Watcher, Workers
from swimmy_scale.storage.files import driver_lock
from swimmy_scale.storage.receipts import Damage, Ledger, OwnedFile, Receipt, owned_files
from swimmy_scale.storage.run_directory import STAGES, cutouts_ledger, ledger_beside

TASK_BYTES = 256 << 20


@dataclass(frozen=True)
class VerifyTask(Task):
    """Some files to read and compare; ``n_objects`` is how many."""

    root: Path
    files: tuple[OwnedFile, ...]


def verify_files(task: VerifyTask) -> Receipt:
    """Read the files of a task; what is damaged is in the details. Nothing is written."""
    found = [damage for file in task.files if (damage := file.damage(task.root)) is not None]
    return Receipt("verify", task.name, "", len(task.files), details={"damage": [asdict(item) for item in found]})


@dataclass(frozen=True)
class VerifyWork:
    """As much of a stage as workers need to know."""

    perform: Callable[[VerifyTask], Receipt] = verify_files
    probe: Callable[[Any, int, int], None] | None = None
    wants_gpu: ClassVar[bool] = False


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
    return [VerifyTask(ledger, k, "", len(part), ledger.root, tuple(part)) for k, part in enumerate(parts)]


@dataclass(frozen=True)
class Verifier:
    """Compares bytes with receipts, on many workers where there is much to read.

    Attributes
    ----------
    session : callable
        See `run.run_job`.
    watcher : Watcher
    """

    session: Session
    watcher: Watcher

    def output(self, path: Path) -> list[Damage]:
        """Compare every byte with its receipt; take back the receipts of what is damaged.

        Parameters
        ----------
        path : Path
            A run directory, with the store that its job names by ``cutouts``; or what a stage made alone
            (``cutouts.zarr``, ``models/``, ``scores.zarr``), with its receipts beside it.

        Returns
        -------
        list of Damage
            Empty when all is well. After the command that made it all of it is well again. Paths outside of
            ``path`` are absolute.

        Raises
        ------
        SwimmyError
            When nothing has receipts there, or another process works on it.
        """
        if (path / "receipts").is_dir():
            return self._run(path)
        beside = ledger_beside(path, "").folder
        if not beside.is_dir():
            raise SwimmyError(
                f"{path}: neither a run directory (no receipts folder in it) nor the output of one stage (no "
                f"{beside.name} beside it), so nothing says what its bytes should be. Check the path."
            )
        with driver_lock(beside, path):
            return self._folder(beside, path.parent, ("ingest", "train", "evaluate", "score"))

    def _run(self, directory: Path) -> list[Damage]:
        # Held until all is read: the workers of both parts have their keys and scripts in this directory.
        with driver_lock(directory / "log", directory):
            return self._locked_run(directory)

    def _locked_run(self, directory: Path) -> list[Damage]:
        stages = ("job", *STAGES, "provenance")
        damage = self._folder(directory / "receipts", directory, stages)
        try:
            job = parse_job((directory / "job.yaml").read_text(), directory / "job.yaml", Job)
        except (OSError, ValueError, SwimmyError):
            return damage  # damaged itself, and listed as such
        if job.cutouts is not None:
            found = self._cutouts(job.cutouts, directory)
            damage += [replace(item, path=str(job.cutouts.parent / item.path)) for item in found]
        return damage

    def _cutouts(self, cutouts: Path, directory: Path) -> list[Damage]:
        ledger = cutouts_ledger(cutouts)
        if not ledger.folder.is_dir():
            raise SwimmyError(
                f"{cutouts}: {directory / 'job.yaml'} names this store, and no receipts lie beside it. "
                "Copy its receipts along, or ingest again."
            )
        beside = ledger.folder == ledger_beside(cutouts, "ingest").folder
        lock = ledger.folder if beside else ledger.root / "log"
        with driver_lock(lock, cutouts):
            return self._folder(ledger.folder, ledger.root, ("ingest",))

    def _folder(self, folder: Path, root: Path, stages: tuple[str, ...]) -> list[Damage]:
        files, damage = owned_files(folder, root, stages)
        tasks = _tasks(Ledger(folder, root, "verify"), files)
        self.watcher.start("verify", len(files), 0, unit="files")
        with self._workers(len(tasks)) as pool:
            for receipt in pool.map(VerifyWork(), tasks):
                damage += [Damage(**item) for item in receipt.details["damage"]]
                self.watcher.advance(receipt)
        self.watcher.stop("verify")
        for item in damage:
            Ledger(folder, root, item.stage).remove(item.name)
        return sorted(damage, key=lambda item: (stages.index(item.stage), item.name, item.path))

    @contextmanager
    def _workers(self, n_tasks: int) -> Iterator[Workers]:
        if n_tasks < 2:
            yield SerialWorkers()
            return
        with self.session() as workers, workers(VerifyWork(), n_tasks) as pool:
            yield pool
