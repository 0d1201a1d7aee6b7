"""Which scorer a command takes: the one it is told, the one that its output began with, or the one that fits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from swimmy_scale.method.sections import ScorerChoice, ScorerName
from swimmy_scale.model.scoring import scorer_that
from swimmy_scale.storage.receipts import Ledger
from swimmy_scale.storage.run_directory import RunDirectory, ledger_beside


def chosen_scorer(asked: ScorerChoice, kept: ScorerName | None, on_gpu: bool) -> ScorerName:
    """The scorer that is asked for by its name; by ``auto`` the kept one, else ``keras`` on GPUs, ``numba`` on CPUs.

    Parameters
    ----------
    kept : str or None
        What the output began with (see `kept_by_run`, `kept_beside`).
    on_gpu : bool
        Whether the processes that score have a GPU.
    """
    if asked != "auto":
        return asked
    return kept or ("keras" if on_gpu else "numba")


def kept_by_run(run: RunDirectory) -> ScorerName | None:
    """The scorer that a run began with, by its record; without one by which it has evaluated or scored already."""
    return run.kept_scorer() or _seen([run.ledger("evaluate"), run.ledger("score")])


def kept_beside(output: Path) -> ScorerName | None:
    """The scorer that a single stage with this output has evaluated or scored by."""
    return _seen([ledger_beside(output, "evaluate"), ledger_beside(output, "score")])


def _seen(ledgers: Iterable[Ledger]) -> ScorerName | None:
    """The scorer that the first readable receipt of a task names."""
    for ledger in ledgers:
        for name in ledger.every_name():
            receipt = ledger.read(name)
            said = receipt.details.get("computed_by") if receipt is not None else None
            # The receipt that closes a stage counts objects by scorer; those of its tasks name one.
            if isinstance(said, str):
                return scorer_that(said)
    return None
