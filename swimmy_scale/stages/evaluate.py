"""Evaluation: every weight set that training kept scores the sample and is judged by the known classes (appendix 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Settings
from swimmy_scale.method.network import Network
from swimmy_scale.method.sections import ScorerName, ScoreSection, TrainSection
from swimmy_scale.method.survey import BoolArray, FloatArray, IntArray
from swimmy_scale.method.weight_sets import Judgement, WeightSet, by_known_classes, by_validation_loss, judge
from swimmy_scale.model.files import read_model_file
from swimmy_scale.model.scoring import Model, Scoring, computed_by, scored_blocks
from swimmy_scale.stages.choice import Choice, kept_weight_sets
from swimmy_scale.stages.engine import Count, Stage, Task
from swimmy_scale.stages.memory import MemoryLimits, ScoringNeeds
from swimmy_scale.stages.train import TrainStage
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.files import digest_json, write_json
from swimmy_scale.storage.partitions import await_cutouts, digest_without_additions
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import ModelsFolder

EVALUATION_VERSION = 1
# If less than this fraction of the rows is scored, they are packed into whole batches.
FEW = 0.5


@dataclass(frozen=True)
class Judged:
    """What all weight sets are judged by.

    Attributes
    ----------
    rule : SampleRule
        Decides who is in the sample.
    classes : tuple of str
        The known classes.
    level, fraction : str, float
        Each band selects the top ``fraction`` of the sample, which is called ``level``.
    threshold_objects, seed : int
        The most objects that set the thresholds (None: the whole sample), which the seed chooses at random.
    """

    rule: SampleRule
    classes: tuple[str, ...]
    level: str
    fraction: float
    threshold_objects: int | None
    seed: int


@dataclass(frozen=True)
class KnownSample:
    """The objects that a weight set is judged by: those that set the thresholds, and all of the known classes.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Of ``cutouts.zarr``, ascending.
    sets_thresholds : ndarray of bool, shape (n,)
    members : dict of str to ndarray of bool, shape (n,)
        By known class.
    """

    rows: IntArray
    sets_thresholds: BoolArray
    members: dict[str, BoolArray]


@dataclass(frozen=True)
class EvaluateTask(Task):
    """The weight sets of one training, in passes over the pixels by as many of them as the memory holds."""

    cutouts: Path
    output: Path
    passes: tuple[Scoring, ...]
    judged: Judged


def known_sample(store: Cutouts, judged: Judged) -> KnownSample:
    """The objects of the sample that set the thresholds, and those of the known classes, of which there must be one."""
    sample, kinds = [], []
    for lo, hi in store.partitions():
        usable = store.read("quarantine_code", lo, hi) == 0
        in_sample, _ = judged.rule.apply(store, lo, hi, usable)
        sample.append(lo + np.flatnonzero(in_sample))
        kinds.append(store.read("sample_class", lo, hi)[in_sample].astype(str))
    rows, kind = np.concatenate(sample), np.concatenate(kinds)
    known = np.isin(kind, judged.classes)
    if not known.any():
        counts = sorted(Counter(kind.tolist()).items())
        there = ", ".join(f"{name or 'no class'} {number}" for name, number in counts) or "nothing"
        raise SwimmyError(
            f"{store.path}: no object of the known classes {', '.join(judged.classes)} is in the sample of {rows.size} "
            f"({there}), so they cannot judge weights. Set train.known_classes to classes of the catalogue's "
            "sample_class, or train.choose: validation_loss without train.evaluate."
        )
    chosen = np.ones(rows.size, np.bool_)
    if judged.threshold_objects is not None and rows.size > judged.threshold_objects:
        picked = np.random.default_rng(judged.seed).choice(rows.size, judged.threshold_objects, replace=False)
        chosen = np.isin(np.arange(rows.size), picked)
    wanted = chosen | known
    return KnownSample(rows[wanted], chosen[wanted], {name: (kind == name)[wanted] for name in judged.classes})


def evaluate_training(task: EvaluateTask) -> Receipt:
    """Score the sample with the weight sets of one training, judge each, commit the receipt."""
    await_cutouts(task.cutouts)
    store = Cutouts.without_additions(task.cutouts)
    sample = known_sample(store, task.judged)
    bands, fraction = store.survey.selecting_bands, task.judged.fraction
    judgements = []
    for scoring in task.passes:
        for model, score, residual in zip(scoring.models, *scores_of_rows(store, scoring, sample.rows), strict=True):
            judgement = judge(score, residual, sample.sets_thresholds, sample.members, bands, fraction)
            judgements.append({"sha256": model.sha256, **asdict(judgement)})
    content = {
        "format_version": EVALUATION_VERSION,
        "run": task.index,
        "level": task.judged.level,
        "fraction": task.judged.fraction,
        "weight_sets": judgements,
    }
    write_json(task.output, content)
    details = {"judgements": judgements, "computed_by": computed_by(task.passes[-1], store.survey)}
    return task.commit([task.output], digest_json(content), details)


def scores_of_rows(store: Cutouts, scoring: Scoring, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Score and residual of some rows in the selecting bands, float32 (model, n, band).

    The score is NaN if the score or residual of any band is not finite: scoring would quarantine such an object.
    """
    bands = store.survey.band_index(store.survey.selecting_bands)
    score = np.full((len(scoring.models), len(rows), len(bands)), np.nan, np.float32)
    residual = score.copy()
    wanted = np.zeros(store.n_objects, np.bool_)
    wanted[rows] = True
    # The position in ``rows`` of each row of the store.
    place = np.cumsum(wanted) - 1
    pack = bool(wanted.mean() < FEW)
    for block, *found in scored_blocks(store, scoring, 0, store.n_objects, wanted, pack):
        keep = wanted[block]
        kept_score, kept_residual = found[0][keep], found[1][keep]
        kept_score[~np.isfinite(kept_score + kept_residual).all(axis=2)] = np.nan
        score[:, place[block[keep]]] = kept_score[:, :, bands].swapaxes(0, 1)
        residual[:, place[block[keep]]] = kept_residual[:, :, bands].swapaxes(0, 1)
    return score, residual


@dataclass(frozen=True)
class EvaluateStage(Stage):
    """What every kept weight set selects of the known classes, and the choice of those that score.

    Threads and scorer are those of `Scoring`.
    """

    ledger: Ledger
    train: TrainStage
    n_threads: int
    scorer: ScorerName = "numba"
    limits: MemoryLimits | None = None

    perform = staticmethod(evaluate_training)

    @property
    def wants_gpu(self) -> bool:
        """Only the scorer of Keras computes on a GPU."""
        return self.scorer == "keras"

    @property
    def _section(self) -> TrainSection:
        return self.train.section

    @property
    def _score(self) -> ScoreSection:
        return self.train.settings.score

    @property
    def _level(self) -> tuple[str, float]:
        """The level at which weights are judged, and its fraction."""
        levels = self.train.settings.select.levels
        level = self._section.judged_level or next(iter(levels))
        return level, levels[level]

    @property
    def _settings(self) -> list[Any]:
        return [
            "evaluate",
            EVALUATION_VERSION,
            swimmy_scale.__version__,
            digest_without_additions(self.train.cutouts),
            asdict(self.train.settings.sample),
            self._section.known_classes,
            self._level,
            self._section.threshold_objects,
            self._section.schedule.seed,
            self.scorer,
            *self._score.score_kind.identity,
        ]

    @property
    def identity(self) -> str:
        """Digest of the weights, of what they are judged by, and of how they are chosen."""
        done = self.train.ledger.read(FINISHED)
        trained = [done.identity, done.data_digest] if done else []
        score = self._score
        # A single weight set is of one training anyway, so that one_a_run makes no difference.
        choice = [self._section.choose, score.n_models, score.one_a_run and score.n_models > 1]
        return digest_json([*self._settings, *trained, *choice])

    def _judged(self) -> Judged:
        section = self._section
        rule = SampleRule.of(Cutouts.without_additions(self.train.cutouts), self.train.settings.sample)
        return Judged(rule, section.known_classes, *self._level, section.threshold_objects, section.schedule.seed)

    def check(self) -> None:
        """Check that there are objects and memory to judge weights, before hours go into their training."""
        if self.ledger.read(FINISHED) is not None:
            return
        n_objects = known_sample(Cutouts.without_additions(self.train.cutouts), self._judged()).rows.size
        for network in self.train.networks:
            self._models_at_once(network, n_objects)

    def _models_at_once(self, network: Network, n_objects: int) -> int:
        """Weight sets of a training that are scored in one pass: as many as the memory holds."""
        if self.limits is None:
            return self._section.n_kept_epochs
        store = Cutouts.without_additions(self.train.cutouts)
        needs = ScoringNeeds(
            store.survey, network, self._score.batch_size, store.chunk_objects, self.scorer, self.n_threads
        )
        return needs.models_at_once(self.limits, self._section.n_kept_epochs, n_objects)

    def count(self) -> Count:
        """Trainings evaluated, from their receipts."""

        def seen() -> int:
            return sum(1 for name in self.ledger.every_name() if name != FINISHED)

        return Count("trainings", len(self.train.network_of_training), seen)

    def _weight_sets(self) -> list[WeightSet]:
        train = self.train
        return kept_weight_sets(train.models, train.ledger.parts(), train.network_of_training)

    def plan(self) -> Sequence[EvaluateTask]:
        """One task for each training; every weight file must be what its training recorded."""
        folder = self.train.models
        models: dict[int, list[Model]] = {}
        for item in self._weight_sets():
            model = Model(folder.path / item.file, item.sha256)
            read_model_file(model.path, model.sha256)
            models.setdefault(item.run, []).append(model)
        settings, judged = digest_json(self._settings), self._judged()
        n_objects = known_sample(Cutouts.without_additions(self.train.cutouts), judged).rows.size

        def task(training: int, network: Network) -> EvaluateTask:
            # The passes depend on the memory, and no score depends on them: they are not part of the identity.
            digests = [model.sha256 for model in models[training]]
            return EvaluateTask(
                ledger=self.ledger,
                index=training,
                identity=digest_json([settings, training, asdict(network), digests]),
                n_objects=0,
                cutouts=self.train.cutouts,
                output=folder.evaluation(training),
                passes=self._passes(models[training], network, n_objects),
                judged=judged,
            )

        return [task(training, network) for training, network in enumerate(self.train.network_of_training)]

    def _passes(self, models: Sequence[Model], network: Network, n_objects: int) -> tuple[Scoring, ...]:
        """The models in as few passes as the memory allows, of about equal size."""
        n_passes = -(-len(models) // self._models_at_once(network, n_objects))
        size = -(-len(models) // n_passes)
        groups = [tuple(models[lo : lo + size]) for lo in range(0, len(models), size)]
        how = (network, self._score.batch_size, self.n_threads, self.scorer, self._score.score_kind)
        return tuple(Scoring(group, *how) for group in groups)

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Choose the weights that score; write ``selected.keras``, the manifest and ``weight_sets.ecsv``."""
        parts, weight_sets = Parts(), self._weight_sets()
        judgements = [
            Judgement(**{name: value for name, value in item.items() if name != "sha256"})
            for receipt in parts.count(receipts)
            for item in receipt.details["judgements"]
        ]
        best_known = by_known_classes(weight_sets, judgements)
        rule: dict[str, Any] = {"rule": "lowest validation loss"}
        order = by_validation_loss(weight_sets)
        if self._section.choose == "known_classes":
            order, best = best_known, judgements[best_known[0]]
            rates = {name: best.rate(name) for name, number in best.n_objects.items() if number}
            words = " + ".join(f"r_sel({name})" for name in rates)
            total = float(best.rate_sum() or 0)
            rule = {"rule": f"highest {words} at {self._level[0]}", "r_sel": rates, "r_sel_sum": total}
        choice = Choice(self.train.models, self._score, self.train.is_grid)
        files, details = choice.write(weight_sets, order, rule)
        files.append(choice.write_table(weight_sets, judgements, self._section.known_classes, self._meta(judgements)))
        return self.ledger.finish(self.identity, parts, files, details)

    def _meta(self, judgements: Sequence[Judgement]) -> dict[str, Any]:
        level, fraction = self._level
        return {
            "choose": self._section.choose,
            "n_models": self._score.n_models,
            "one_a_run": self._score.one_a_run,
            "known_classes": list(self._section.known_classes),
            "level": level,
            "fraction": fraction,
            "bands": list(judgements[0].thresholds),
            "threshold_objects": self._section.threshold_objects,
            **self._score.score_kind.described,
            "n_threshold_objects": max(item.n_threshold_objects for item in judgements),
        }


def campaign_stages(
    settings: Settings,
    cutouts: Path,
    models: ModelsFolder,
    ledger: Callable[[str], Ledger],
    n_threads: int,
    limits: MemoryLimits | None = None,
    scorer: ScorerName = "numba",
) -> Iterator[Stage]:
    """Training, then the evaluation if the settings ask for it.

    ``ledger`` gives the receipts of a stage by its name; the threads are those of an evaluating process.

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
