"""Verification: every byte of a run directory, or of one stage's output, against its receipts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from swimmy_scale import receipts as commit
from swimmy_scale.errors import SwimmyError
from swimmy_scale.job import Job, parse_job
from swimmy_scale.receipts import Damage, Ledger
from swimmy_scale.stages.inputs import cutouts_ledger, ledger_beside
from swimmy_scale.stages.run import STAGES


def verify_output(path: Path) -> list[Damage]:
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
        return verify_run(path)
    beside = ledger_beside(path, "").folder
    if not beside.is_dir():
        raise SwimmyError(
            f"{path}: neither a run directory (no receipts folder in it) nor the output of one stage (no {beside.name} "
            "beside it), so nothing says what its bytes should be. Check the path."
        )
    return _verify_folder(beside, path.parent, ("ingest", "train", "score"), beside, path)


def verify_run(directory: Path) -> list[Damage]:
    """Verify a run directory and the store of cutouts that its job names (see `verify_output`)."""
    stages = ("job", *STAGES, "provenance")
    damage = _verify_folder(directory / "receipts", directory, stages, directory / "log", directory)
    try:
        job = parse_job((directory / "job.yaml").read_text(), directory / "job.yaml", Job)
    except (OSError, ValueError, SwimmyError):
        return damage  # damaged itself, and listed as such
    if job.cutouts is not None:
        damage += [
            replace(item, path=str(job.cutouts.parent / item.path)) for item in _verify_cutouts(job.cutouts, directory)
        ]
    return damage


def _verify_cutouts(cutouts: Path, directory: Path) -> list[Damage]:
    ledger = cutouts_ledger(cutouts)
    if not ledger.folder.is_dir():
        raise SwimmyError(
            f"{cutouts}: {directory / 'job.yaml'} names this store, and no receipts lie beside it. "
            "Copy its receipts along, or ingest again."
        )
    beside = ledger.folder == ledger_beside(cutouts, "ingest").folder
    lock = ledger.folder if beside else ledger.root / "log"
    return _verify_folder(ledger.folder, ledger.root, ("ingest",), lock, cutouts)


def _verify_folder(folder: Path, root: Path, stages: tuple[str, ...], lock: Path, what: Path) -> list[Damage]:
    with commit.driver_lock(lock, what):
        damage = commit.verify(folder, root, stages)
        for item in damage:
            Ledger(folder, root, item.stage).remove(item.name)
    return damage
