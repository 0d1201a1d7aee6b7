"""The stages from cutouts to the weights that score: training, and the evaluation of what it kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Settings
from swimmy_scale.method.network import Network
from swimmy_scale.method.sections import ScorerName, TrainSection
from swimmy_scale.model.scoring import Model, network_for
from swimmy_scale.stages.engine import Stage
from swimmy_scale.stages.evaluate import EvaluateStage
from swimmy_scale.stages.memory import MemoryLimits
from swimmy_scale.stages.train import TrainStage
from swimmy_scale.storage.receipts import FINISHED, Ledger, Receipt


@dataclass(frozen=True)
class Campaign:
    """The training of a job, and the choice of the weights that score.

    Attributes
    ----------
    settings : Settings
    cutouts, models : Path
    ledger : callable
        Gives the receipts of a stage by its name.
    n_threads : int
        Of an evaluating process; they change the speed only.
    limits : MemoryLimits, optional
    scorer : str
        See `scoring.Scoring`.
    """

    settings: Settings
    cutouts: Path
    models: Path
    ledger: Callable[[str], Ledger]
    n_threads: int
    limits: MemoryLimits | None = None
    scorer: ScorerName = "keras"

    @property
    def _section(self) -> TrainSection:
        return self.settings.train or TrainSection()

    def stages(self) -> Iterator[Stage]:
        """Training, then the evaluation where the settings ask for it.

        Raises
        ------
        SwimmyError
            When fewer weight sets would be kept than are to score.
        """
        # A job was checked when it was read; settings of a single stage may leave all of training to the defaults.
        if problem := self._section.too_few(self.settings.score):
            raise SwimmyError(f"{self.models}: {problem}.")
        train = self._train()
        if not self._section.evaluates:
            yield train
            return
        evaluate = self._evaluate(train)
        evaluate.check()
        yield train
        yield evaluate

    def _train(self) -> TrainStage:
        section = self._section
        return TrainStage(
            ledger=self.ledger("train"),
            cutouts=self.cutouts,
            models=self.models,
            networks=tuple(network_for(self.cutouts, network) for network in section.networks),
            schedule=section.schedule,
            n_runs=section.n_runs,
            cuts=self.settings.sample,
            classes=section.classes,
            max_objects=section.max_objects,
            n_threads=section.n_threads,
            limits=self.limits,
            n_models=self.settings.score.n_models,
            one_a_run=self.settings.score.one_a_run,
            chooses=not section.evaluates,
        )

    def _evaluate(self, train: TrainStage) -> EvaluateStage:
        section, levels = self._section, self.settings.select.levels
        level = section.judged_level or next(iter(levels))
        return EvaluateStage(
            ledger=self.ledger("evaluate"),
            train=train.ledger,
            cutouts=self.cutouts,
            models=self.models,
            network_of_run=train.network_of_run,
            n_kept_epochs=section.n_kept_epochs,
            cuts=self.settings.sample,
            choose=section.choose,
            known_classes=section.known_classes,
            level=level,
            fraction=levels[level],
            threshold_objects=section.threshold_objects,
            seed=section.schedule.seed,
            n_models=self.settings.score.n_models,
            one_a_run=self.settings.score.one_a_run,
            n_threads=self.n_threads,
            batch_size=self.settings.score.batch_size,
            scorer=self.scorer,
            limits=self.limits,
            noise_floor=self.settings.score.noise_floor,
        )

    def choice(self) -> Receipt:
        """The receipt of the stage that chose the weights.

        Raises
        ------
        SwimmyError
            When it is not finished.
        """
        stage = "evaluate" if self._section.evaluates else "train"
        done = self.ledger(stage).read(FINISHED)
        if done is None:
            raise SwimmyError(f"{self.models.parent}: {stage} is not finished. Run the job again.")
        return done

    def chosen(self) -> tuple[tuple[Model, ...], Network]:
        """The weights that score, and their network.

        Raises
        ------
        SwimmyError
            When they are not chosen yet.
        """
        details = self.choice().details
        network = details.get("network")
        found = Network.from_json(network) if network else network_for(self.cutouts, self._section.networks[0])
        if self.settings.score.n_models == 1:
            return (Model(self.models / "selected.keras", str(details["model_sha256"])),), found
        return tuple(Model(self.models / item["file"], item["sha256"]) for item in details["ensemble"]), found
