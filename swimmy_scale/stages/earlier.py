"""Earlier selections of a run: kept under names of their own before another job replaces the run's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.storage.files import digest_file, make_folder, remove, sync_path
from swimmy_scale.storage.receipts import FINISHED, Parts, Receipt
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder
from swimmy_scale.storage.selection import look_from

PREFIX = "earlier-"


def to_keep(run: RunDirectory) -> SelectionFolder | None:
    """Where the run's own selection would be kept; None if it is not finished, or is kept already."""
    done = run.selection.ledger.read(FINISHED)
    if done is None or not run.selection.ledger.intact(done):
        return None
    for folder in run.named_selections():
        kept = folder.ledger.read(FINISHED)
        if kept is not None and kept.identity == done.identity:
            return None
    names = [folder.path.name.removeprefix(PREFIX) for folder in run.named_selections()]
    number = max((int(name) for name in names if name.isdecimal()), default=0) + 1
    return run.named_selection(f"{PREFIX}{number}")


def keep(run: RunDirectory) -> None:
    """Copy the run's own selection to where `to_keep` says; the driver's lock must be held.

    The copy appears whole or not at all, and it can be called again after an end at any instant.

    Raises
    ------
    SwimmyError
        When the selection is damaged: its copy would have a new receipt, by which nobody would see that any more.
    """
    folder, own = to_keep(run), run.selection
    if folder is None:
        return
    done = own.ledger.read(FINISHED)
    if done is None:
        return
    fresh = SelectionFolder(folder.path.with_name(f".{folder.path.name}.partial"))
    remove(fresh.path)
    make_folder(fresh.path)
    for path in own.made():
        target = fresh.path / path.name
        if path.is_dir():
            shutil.copytree(path, target)
        elif path.exists():
            shutil.copy2(path, target)
    try:
        _check_copy(done, own, fresh)
    except SwimmyError:
        remove(fresh.path)
        raise
    look_from(fresh.store, folder.path, run.scores)
    files = [path for path in fresh.path.rglob("*") if path.is_file()]
    details = {**done.details, "scores": str(Path("..", "..", run.scores.name))}
    fresh.ledger.finish(done.identity, Parts(), sorted(files), details)
    fresh.path.rename(folder.path)
    sync_path(run.selections)


def _check_copy(done: Receipt, own: SelectionFolder, fresh: SelectionFolder) -> None:
    """Compare a copy with the receipt of what was copied, byte by byte: `to_keep` looks at sizes and times."""
    for copy in filter(Path.is_file, fresh.path.rglob("*")):
        key = copy.relative_to(fresh.path).as_posix()
        if key in done.files and digest_file(copy) != done.files[key].sha256:
            raise SwimmyError(
                f"{own.path / key}: damaged, and it belongs to the selection of the job before, which is kept when "
                f"another job replaces it. Run `{typed('verify', own.path, '--repair')}` first, then this again."
            )
