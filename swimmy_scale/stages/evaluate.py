"""Evaluation: every weight set of a training run scores the sample, and is judged by the known classes (appendix 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.sections import ScorerName
from swimmy_scale.method.survey import BoolArray, FloatArray
from swimmy_scale.method.weight_sets import Judgement, WeightSet, by_known_classes, by_validation_loss, judge
from swimmy_scale.model.scoring import Model, Scoring, computed_by, noise_identity, scored_blocks
from swimmy_scale.stages.choice import Choice, kept_weight_sets, run_folder, several
from swimmy_scale.stages.engine import Poll, Task
from swimmy_scale.stages.memory import MemoryLimits, models_at_once
from swimmy_scale.stages.score import check_model
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.files import digest_json, write_json
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import store_digest
from swimmy_scale.storage.scores import score_kind

EVALUATION_VERSION = 1
# Where fewer of the rows than this are scored, they are brought together into whole batches.
FEW = 0.5


@dataclass(frozen=True)
class Judged:
    """What weight sets are judged by: the same for all of them.

    Attributes
    ----------
    rule : SampleRule
        Decides who is in the sample.
    classes : tuple of str
        The known classes.
    level : str
        Name of ``fraction``.
    fraction : float
        The top fraction of the sample that each band selects.
    threshold_objects : int or None
        At most so many objects set the thresholds.
    seed : int
        Chooses them.
    """

    rule: SampleRule
    classes: tuple[str, ...]
    level: str
    fraction: float
    threshold_objects: int | None
    seed: int


@dataclass(frozen=True)
class KnownSample:
    """The objects that a weight set is judged by.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Of ``cutouts.zarr``, ascending: those that set the thresholds, and all of the known classes.
    sets_thresholds : ndarray of bool, shape (n,)
    members : dict of str to ndarray of bool, shape (n,)
        By known class.
    """

    rows: npt.NDArray[np.int64]
    sets_thresholds: BoolArray
    members: dict[str, BoolArray]


@dataclass(frozen=True)
class EvaluateTask(Task):
    """The weight sets of one training run.

    Attributes
    ----------
    passes : tuple of Scoring
        Each is a pass over the pixels, by as many of the weight sets as there is memory for; one if it suffices.
    """

    cutouts: Path
    output: Path
    passes: tuple[Scoring, ...]
    judged: Judged


def known_sample(store: Cutouts, judged: Judged) -> KnownSample:
    """The objects that set the thresholds, and those of the known classes.

    Raises
    ------
    SwimmyError
        When no object of the sample is of a known class.
    """
    sample, kinds = [], []
    for lo in range(0, store.n_objects, store.partition_objects):
        hi = min(lo + store.partition_objects, store.n_objects)
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


def evaluate_run(task: EvaluateTask) -> Receipt:
    """Score the sample with the weight sets of one run, judge each, commit the receipt."""
    store = Cutouts(task.cutouts)
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
    receipt = Receipt(
        stage=task.ledger.stage,
        name=task.name,
        identity=task.identity,
        data_digest=digest_json(content),
        files=task.ledger.record_files([task.output]),
        details={"judgements": judgements, "computed_by": computed_by(task.passes[-1], store.survey)},
    )
    task.ledger.commit(receipt)
    return receipt


def scores_of_rows(store: Cutouts, scoring: Scoring, rows: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Score and residual of some rows in the selecting bands, float32 (model, n, band).

    The score is NaN where any band's score or residual is not finite: such an object is quarantined when it is scored.
    """
    bands = store.survey.band_index(store.survey.selecting_bands)
    score = np.full((len(scoring.models), len(rows), len(bands)), np.nan, np.float32)
    residual = score.copy()
    wanted = np.zeros(store.n_objects, np.bool_)
    wanted[rows] = True
    # Where in ``rows`` a row of the store stands.
    place = np.cumsum(wanted) - 1
    pack = bool(wanted.mean() < FEW)
    for block, block_score, block_residual in scored_blocks(store, scoring, 0, store.n_objects, wanted, pack):
        keep = wanted[block]
        kept_score, kept_residual = block_score[keep], block_residual[keep]
        kept_score[~np.isfinite(kept_score + kept_residual).all(axis=2)] = np.nan
        score[:, place[block[keep]]] = kept_score[:, :, bands].swapaxes(0, 1)
        residual[:, place[block[keep]]] = kept_residual[:, :, bands].swapaxes(0, 1)
    return score, residual


@dataclass(frozen=True)
class EvaluateStage:
    """What every kept weight set selects of the known classes, and the choice of those that score.

    Attributes
    ----------
    train : Ledger
        Of the training that is finished.
    network_of_run : tuple of Network
    n_kept_epochs : int
        Weight sets of one run.
    choose : str
        ``known_classes``, or ``validation_loss`` where the known classes only judge.
    known_classes : tuple of str
    levels, fraction : str, float
        See `Judged`.
    n_models : int
        Weight sets that score.
    one_a_run : bool
        Whether they are of different runs.
    n_threads, batch_size, scorer, noise_floor
        See `Scoring`.
    """

    ledger: Ledger
    train: Ledger
    cutouts: Path
    models: Path
    network_of_run: tuple[Network, ...]
    n_kept_epochs: int
    cuts: SampleCuts
    choose: str
    known_classes: tuple[str, ...]
    level: str
    fraction: float
    threshold_objects: int | None
    seed: int
    n_models: int
    n_threads: int
    batch_size: int | None
    scorer: ScorerName = "keras"
    limits: MemoryLimits | None = None
    noise_floor: float | None = None
    one_a_run: bool = False

    perform: Callable[[EvaluateTask], Receipt] = evaluate_run
    probe: Callable[[Any, int, int], None] | None = None
    when_finished: ClassVar[str] = ""

    @property
    def wants_gpu(self) -> bool:
        """Whether a GPU is of use."""
        return self.scorer == "keras"

    @property
    def _settings(self) -> list[Any]:
        return [
            "evaluate",
            EVALUATION_VERSION,
            swimmy_scale.__version__,
            store_digest(self.cutouts),
            asdict(self.cuts),
            self.known_classes,
            self.level,
            self.fraction,
            self.threshold_objects,
            self.seed,
            *([] if self.scorer == "keras" else [self.scorer]),
            *noise_identity(self.noise_floor),
        ]

    @property
    def identity(self) -> str:
        """Digest of the weights, of what they are judged by, and of how they are chosen."""
        done = self.train.read(FINISHED)
        trained = [done.identity, done.data_digest] if done else []
        return digest_json([*self._settings, *trained, self.choose, *several(self.n_models, self.one_a_run)])

    def _judged(self) -> Judged:
        rule = SampleRule.of(Cutouts(self.cutouts), self.cuts)
        return Judged(rule, self.known_classes, self.level, self.fraction, self.threshold_objects, self.seed)

    def check(self) -> None:
        """See that weights can be judged at all, before hours go into their training; nothing where they are.

        Raises
        ------
        SwimmyError
            When no object of the sample is of a known class, or a process has not the memory that it needs.
        """
        if self.ledger.read(FINISHED) is not None:
            return
        n_objects = known_sample(Cutouts(self.cutouts), self._judged()).rows.size
        for network in dict.fromkeys(self.network_of_run):
            self._models_at_once(network, n_objects)

    def _models_at_once(self, network: Network, n_objects: int) -> int:
        """Weight sets of a run that are scored in one pass; all of them where the memory suffices."""
        if self.limits is None:
            return self.n_kept_epochs
        store = Cutouts(self.cutouts)
        return models_at_once(
            self.limits,
            store.survey,
            network,
            self.n_kept_epochs,
            n_objects,
            self.batch_size,
            store.chunk_objects,
            self.scorer,
            self.n_threads,
        )

    def poll(self) -> Poll:
        """Runs evaluated, from their receipts."""

        def count() -> int:
            return sum(1 for name in self.ledger.every_name() if name != FINISHED)

        return Poll("runs", len(self.network_of_run), count)

    @property
    def _folder(self) -> Path:
        return self.models / "evaluation"

    def _weight_sets(self) -> list[WeightSet]:
        return kept_weight_sets(self.train.parts(), self.network_of_run)

    def plan(self) -> Sequence[EvaluateTask]:
        """One task a training run.

        Raises
        ------
        SwimmyError
            When a weight file is not what its training recorded.
        """
        models: dict[int, list[Model]] = {}
        for item in self._weight_sets():
            check_model(self.models / item.file, item.sha256)
            models.setdefault(item.run, []).append(Model(self.models / item.file, item.sha256))
        settings, judged = digest_json(self._settings), self._judged()
        n_objects = known_sample(Cutouts(self.cutouts), judged).rows.size

        def task(run: int, network: Network) -> EvaluateTask:
            # Memory decides on the passes, and no score depends on them: they are no part of the identity.
            digests = [model.sha256 for model in models[run]]
            return EvaluateTask(
                ledger=self.ledger,
                index=run,
                identity=digest_json([settings, run, asdict(network), digests]),
                n_objects=0,
                cutouts=self.cutouts,
                output=self._folder / f"{run_folder(run)}.json",
                passes=self._passes(models[run], network, n_objects),
                judged=judged,
            )

        return [task(run, network) for run, network in enumerate(self.network_of_run)]

    def _passes(self, models: Sequence[Model], network: Network, n_objects: int) -> tuple[Scoring, ...]:
        """The models in as few groups as there is memory for, of about equal size."""
        n_passes = -(-len(models) // self._models_at_once(network, n_objects))
        size = -(-len(models) // n_passes)
        groups = [tuple(models[lo : lo + size]) for lo in range(0, len(models), size)]
        how = (network, self.batch_size, self.n_threads, self.scorer, self.noise_floor)
        return tuple(Scoring(group, *how) for group in groups)

    def finish(self, receipts: Iterable[Receipt]) -> Receipt:
        """Choose the weights that score; write ``selected.keras``, the manifest and ``weight_sets.ecsv``.

        Raises
        ------
        SwimmyError
            When fewer weight sets were kept than are to score, or no object of a known class has a score.
        """
        parts, weight_sets = Parts(), self._weight_sets()
        judgements = [
            Judgement(**{name: value for name, value in item.items() if name != "sha256"})
            for receipt in parts.count(receipts)
            for item in receipt.details["judgements"]
        ]
        best_known = by_known_classes(weight_sets, judgements)
        rule: dict[str, Any] = {"rule": "lowest validation loss"}
        order = by_validation_loss(weight_sets)
        if self.choose == "known_classes":
            order, best = best_known, judgements[best_known[0]]
            rates = {name: best.rate(name) for name, number in best.n_objects.items() if number}
            words = " + ".join(f"r_sel({name})" for name in rates)
            total = float(best.rate_sum() or 0)
            rule = {"rule": f"highest {words} at {self.level}", "r_sel": rates, "r_sel_sum": total}
        choice = Choice(self.models, self.n_models, len(set(self.network_of_run)) > 1, self.one_a_run)
        files, details = choice.write(weight_sets, order, rule)
        files.append(choice.write_table(weight_sets, judgements, self.known_classes, self._meta(judgements)))
        return self.ledger.finish(self.identity, parts, files, details)

    def _meta(self, judgements: Sequence[Judgement]) -> dict[str, Any]:
        return {
            "choose": self.choose,
            "n_models": self.n_models,
            "one_a_run": self.one_a_run,
            "known_classes": list(self.known_classes),
            "level": self.level,
            "fraction": self.fraction,
            "bands": list(judgements[0].thresholds),
            "threshold_objects": self.threshold_objects,
            **score_kind(self.noise_floor),
            "n_threshold_objects": max(item.n_threshold_objects for item in judgements),
        }
