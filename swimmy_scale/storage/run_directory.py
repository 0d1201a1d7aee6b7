"""What stages read from ``cutouts.zarr``: identities of partitions, and the columns that cuts look at."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, dump_job, parse_job
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import ListDigest, digest_json, write_atomically
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, task_name

# What a run directory calls the store that it makes.
CUTOUTS_NAME = "cutouts.zarr"


def ledger_beside(output: Path, stage: str) -> Ledger:
    """Receipts of a stage that was run alone: ``NAME.receipts`` beside its output ``NAME``."""
    return Ledger(output.parent / f"{output.name}.receipts", output.parent, stage)


def cutouts_ledger(cutouts: Path) -> Ledger:
    """The receipts of the ingest that made a store: beside it, or in the run directory that it belongs to."""
    beside = ledger_beside(cutouts, "ingest")
    run = cutouts.parent / "receipts"
    if cutouts.name == CUTOUTS_NAME and (run / "ingest").is_dir() and not beside.folder.is_dir():
        return Ledger(run, cutouts.parent, "ingest")
    return beside


def partition_digest(cutouts: Path, index: int) -> str:
    """Digest of a partition's values, from the receipt of its ingest.

    Raises
    ------
    SwimmyError
        When the partition has no receipt, so that nothing vouches for its pixels.
    """
    ledger = cutouts_ledger(cutouts)
    receipt = ledger.read(task_name(index))
    if receipt is None:
        raise SwimmyError(
            f"{cutouts}: partition {index} has no readable receipt in {ledger.folder}. "
            "Its ingest did not finish or was not copied along: ingest again, it resumes."
        )
    return receipt.data_digest


def store_digest(cutouts: Path) -> str:
    """Digest over all partitions of a store."""
    n_partitions = -(-(store := Cutouts(cutouts)).n_objects // store.partition_objects)
    digest = ListDigest()
    for index in range(n_partitions):
        digest.add(partition_digest(cutouts, index))
    return digest.hexdigest()


STAGES = ("ingest", "train", "evaluate", "score", "select", "picture")


def receipts_folder(directory: Path) -> Path:
    """Where a run directory's receipts lie.

    Raises
    ------
    SwimmyError
        When ``directory`` is not a run directory.
    """
    folder = directory / "receipts"
    if not folder.is_dir():
        raise SwimmyError(f"{directory}: no receipts folder, so this is not a run directory. Check the path.")
    return folder


def run_status(directory: Path) -> list[dict[str, Any]]:
    """What a run directory says of its stages, without asking anybody.

    Returns
    -------
    list of dict
        For each stage (``evaluate`` only where the job asks for it): ``stage``, ``finished``, ``n_tasks`` with a
        receipt, ``n_objects`` in them, ``n_quarantined``.

    Raises
    ------
    SwimmyError
        When ``directory`` is not a run directory.
    """
    folder = receipts_folder(directory)
    rows = []
    for stage in STAGES:
        ledger = Ledger(folder, directory, stage)
        if stage == "evaluate" and not _evaluates(directory) and not ledger.names():
            continue
        finished, counts = False, {"n_tasks": 0, "n_objects": 0, "n_quarantined": 0}
        for name in ledger.every_name():
            receipt = ledger.read(name)
            if name == FINISHED:
                finished = receipt is not None
            elif receipt is not None:
                counts["n_tasks"] += 1
                counts["n_objects"] += receipt.n_objects
                counts["n_quarantined"] += int(receipt.details.get("n_quarantined", 0))
        rows.append({"stage": stage, "finished": finished, **counts})
    return rows


def _evaluates(directory: Path) -> bool:
    """Whether the job of a run directory evaluates its weights; False where it cannot be read."""
    path = directory / "job.yaml"
    try:
        train = parse_job(path.read_text(), path, Job).train
    except (OSError, ValueError, SwimmyError):
        return False
    return train is not None and train.evaluates


def holds_job(directory: Path, job: Job) -> bool:
    """Whether a run directory holds this job already; a run directory belongs to one job.

    Raises
    ------
    SwimmyError
        When it holds another job, naming the sections that differ.
    """
    path = directory / "job.yaml"
    ledger = Ledger(directory / "receipts", directory, "job")
    receipt = ledger.read(FINISHED)
    if receipt is None or ledger.valid(FINISHED, receipt.identity) is None:
        return False
    frozen = parse_job(path.read_text(), path, Job)
    # As text, because a limit that is NaN does not equal itself.
    differ = [name for name in Job.model_fields if repr(getattr(frozen, name)) != repr(getattr(job, name))]
    if differ:
        raise SwimmyError(
            f"{directory} holds another job: {', '.join(differ)} differ from {path}. "
            "Choose another --output, or give the job that it was made with."
        )
    return True


def freeze_job(directory: Path, job: Job) -> None:
    """Write ``job.yaml`` once.

    Raises
    ------
    SwimmyError
        When the directory holds another job.
    """
    if not holds_job(directory, job):
        text = dump_job(job)
        write_atomically(directory / "job.yaml", text.encode())
        ledger = Ledger(directory / "receipts", directory, "job")
        ledger.finish(digest_json(text), Parts(), [directory / "job.yaml"])


def sweep(directory: Path) -> None:
    """Remove what interrupted writes left under our temporary names; the driver's lock must be held."""
    left = list(directory.glob(".*.partial"))
    for name in ("receipts", "models", "log"):
        left += (directory / name).rglob(".*.partial")
    for name in (CUTOUTS_NAME, "scores.zarr"):
        left += (directory / name).rglob("*.partial")
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
