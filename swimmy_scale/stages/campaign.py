"""The stages from cutouts to the weights that score: training, and the evaluation of what it kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Settings
from swimmy_scale.method.sections import ScorerName
from swimmy_scale.stages.engine import Stage
from swimmy_scale.stages.evaluate import EvaluateStage
from swimmy_scale.stages.memory import MemoryLimits
from swimmy_scale.stages.train import TrainStage
from swimmy_scale.storage.receipts import Ledger
from swimmy_scale.storage.run_directory import ModelsFolder


def campaign(
    settings: Settings,
    cutouts: Path,
    models: ModelsFolder,
    ledger: Callable[[str], Ledger],
    n_threads: int,
    limits: MemoryLimits | None = None,
    scorer: ScorerName = "keras",
) -> Iterator[Stage]:
    """Training, then the evaluation where the settings ask for it.

    Parameters
    ----------
    ledger : callable
        Gives the receipts of a stage by its name.
    n_threads : int
        Threads of an evaluating process; they change the speed only.

    Raises
    ------
    SwimmyError
        When fewer weight sets would be kept than are to score, or no object can judge them.
    """
    train = TrainStage(ledger("train"), cutouts, models, settings, limits)
    # A job was checked when it was read; settings of a single stage may leave all of training to the defaults.
    if problem := train.section.too_few(settings.score):
        raise SwimmyError(f"{models.path}: {problem}.")
    if not train.section.evaluates:
        yield train
        return
    evaluate = EvaluateStage(ledger("evaluate"), train, n_threads, scorer, limits)
    evaluate.check()
    yield train
    yield evaluate
