"""A single stage outside of a run directory: its receipts lie beside its output."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, Settings, parse_job
from swimmy_scale.method.network import Network
from swimmy_scale.method.sections import CatalogueSource, IngestSection, ScorerName, SelectSection, TrainSection
from swimmy_scale.method.words import counted
from swimmy_scale.model.scoring import Model, Scoring
from swimmy_scale.stages.choice import trusted
from swimmy_scale.stages.engine import Executor, Progress, SerialExecutor, run_stage
from swimmy_scale.stages.evaluate import campaign_stages
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.stages.later_columns import KeptColumns
from swimmy_scale.stages.lost_workers import try_again
from swimmy_scale.stages.memory import MemoryLimits, ScoringNeeds, check_ingest
from swimmy_scale.stages.score import ScoreStage
from swimmy_scale.stages.select import SelectStage
from swimmy_scale.stages.weights_of_run import weights_of_run
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import driver_lock, of_the_program, read_text, remove
from swimmy_scale.storage.quarantine_file import write_quarantine
from swimmy_scale.storage.receipts import FINISHED, Receipt
from swimmy_scale.storage.run_directory import (
    ModelsFolder,
    RunDirectory,
    SelectionFolder,
    ledger_beside,
    quarantine_beside,
    scores_ledger,
)
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import FORMAT_VERSION as SELECTION_VERSION
from swimmy_scale.storage.selection import scores_of
from swimmy_scale.storage.store import open_group


def ingest(
    sources: IngestSection,
    catalogue: CatalogueSource,
    output: Path,
    settings: Settings,
    executor: Executor,
    progress: Progress,
    limits: MemoryLimits,
    try_left_out: bool = False,
) -> Receipt:
    """Ingest into ``output``; quarantined objects go to ``NAME.quarantine.csv`` beside it.

    With ``try_left_out`` objects that are left out because they ended workers are tried again.
    """
    ledger = ledger_beside(output, "ingest")
    check_ingest(limits, settings.survey, settings.storage.partition_objects)
    with driver_lock(ledger.folder, output):
        if try_left_out:
            try_again(ledger)
        stage = IngestStage(ledger, output, settings.survey, catalogue, sources, settings.storage, limits=limits)
        receipt = run_stage(stage, executor, progress)
        write_quarantine(quarantine_beside(output), [ledger])
    return receipt


def train(
    cutouts: Path,
    output: Path,
    settings: Settings,
    executor: Executor,
    progress: Progress,
    limits: MemoryLimits,
    n_threads: int = 1,
    scorer: ScorerName = "numba",
) -> Receipt:
    """Train on ``cutouts`` and choose; weights, ``selected.keras`` and ``manifest.json`` go to ``output``.

    Threads and scorer are those of an evaluating process, if the settings evaluate. The receipt is that of the stage
    that chose: ``selected`` of its details says what and why.
    """
    ledger = partial(ledger_beside, output)
    with driver_lock(ledger("train").folder, output):
        stages = list(campaign_stages(settings, cutouts, ModelsFolder(output), ledger, n_threads, limits, scorer))
        if len(stages) == 1:
            # The files are about to change: an evaluation by earlier settings no longer vouches for them.
            for name in ledger("evaluate").names():
                ledger("evaluate").remove(name)
        return [run_stage(stage, executor, progress) for stage in stages][-1]


def recorded_model(model: Path, cutouts: Path, settings: Settings, sha256: str | None) -> tuple[Network, str]:
    """Network and digest of a model file, as its training recorded them (see `choice.trusted`).

    A given digest counts in place of the recorded one. If nothing is recorded and the digest is given, the network is
    that of the settings' ``train`` section, for the bands and the size of ``cutouts``.
    """

    def of_settings() -> Network:
        return (settings.train or TrainSection()).network.for_survey(Cutouts(cutouts).survey)

    return trusted(model, sha256, "--model-sha256", of_settings)


def recorded_scoring(
    models: Sequence[Path],
    cutouts: Path,
    settings: Settings,
    sha256s: Sequence[str],
    n_threads: int,
    scorer: ScorerName = "numba",
) -> Scoring:
    """How models given as files score together: all of one network, each once, as many as the settings say.

    A folder stands for the weights that a run, or a training, has chosen (see `weights_of_run`).

    ``sha256s`` are the digests of the models in their order, or none of them: then manifests must record them.
    """
    if not sha256s and any(model.is_dir() for model in models):
        listed = [weights_of_run(model) if model.is_dir() else (model,) for model in models]
        models = [item if isinstance(item, Path) else item.path for some in listed for item in some]
    digests: Sequence[str | None] = sha256s or [None] * len(models)
    chosen: list[Model] = []
    network: Network | None = None
    for path, given in zip(models, digests, strict=True):
        found, sha256 = recorded_model(path, cutouts, settings, given)
        network = network or found
        if found != network:
            raise SwimmyError(
                f"{path}: its network is {found}, that of {chosen[0].path} is {network}. Models of one network score "
                "together: score with this one apart."
            )
        if sha256 in (model.sha256 for model in chosen):
            raise SwimmyError(f"{path}: these weights are given twice (sha256 {sha256}). Give each model once.")
        chosen.append(Model(path, sha256))
    if network is None:
        raise SwimmyError("no model is given. Give one at least.")
    if settings.score.n_models not in (1, len(chosen)):
        raise SwimmyError(
            f"the settings say score.n_models {settings.score.n_models}, and {counted(len(chosen), 'models')} are "
            "given. Repeat --model for each, or correct the settings."
        )
    score = settings.score
    return Scoring(tuple(chosen), network, score.batch_size, n_threads, scorer, score.score_kind, score.descriptors)


def score(
    cutouts: Path,
    scoring: Scoring,
    output: Path,
    settings: Settings,
    executor: Executor,
    progress: Progress,
    limits: MemoryLimits,
    try_left_out: bool = False,
) -> Receipt:
    """Score ``cutouts`` into ``output``; with ``try_left_out`` also objects that are left out for ending workers."""
    store = Cutouts(cutouts)
    needs = ScoringNeeds(
        store.survey, scoring.network, scoring.batch_size, store.chunk_objects, scoring.scorer, scoring.n_threads
    )
    needs.check(limits, len(scoring.models))
    ledger = ledger_beside(output, "score")
    with driver_lock(ledger.folder, output):
        if try_left_out:
            try_again(ledger)
        return run_stage(ScoreStage(ledger, cutouts, output, scoring), executor, progress)


@dataclass(frozen=True)
class Given:
    """What a selection is made from.

    Attributes
    ----------
    scores, cutouts : Path
    settings : Settings
        Of the run that scored; the defaults for scores outside of a run directory.
    run : RunDirectory, optional
        Where the scores lie in one.
    """

    scores: Path
    cutouts: Path
    settings: Settings
    run: RunDirectory | None = None

    @classmethod
    def at(cls, path: Path, cutouts: Path | None = None) -> Given:
        """What lies at ``path``, a run directory or a ``scores.zarr``; ``cutouts`` is where its cutouts are now.

        Raises
        ------
        SwimmyError
            When there are no scores, their cutouts are not where they were, or their scoring is not finished.
        """
        around = RunDirectory(path if RunDirectory(path).exists() else path.parent)
        in_run = around.exists() and path in (around.path, around.scores)
        scores = around.scores if in_run else path
        attrs, done = Scores(scores).attrs, scores_ledger(scores)
        if done.read(FINISHED) is None and done.folder_of_stage.is_dir():
            raise SwimmyError(
                f"{scores}: not scored to the end, and a selection is made from all scores. Give the command that "
                "scores again: it goes on where it stopped."
            )
        settings = Settings()
        known = Path(os.path.normpath(scores.parent / str(attrs["cutouts"]))) if "cutouts" in attrs else None
        if in_run:
            settings = around.load_job()
            known = around.cutouts(settings)
        chosen = cutouts or known
        if chosen is None or not chosen.is_dir():
            raise SwimmyError(
                f"{chosen or scores}: the cutouts that were scored are not there, and the cuts look at their columns. "
                "Say where they are now with --cutouts."
            )
        return cls(scores, chosen, settings, around if in_run else None)

    def columns(self, names: Sequence[str] | None = None) -> KeptColumns | None:
        """The columns of the catalogue that candidates have: ``names``, by default those that the run's job names."""
        found = KeptColumns.of(self.settings) if isinstance(self.settings, Job) else None
        return found if found is None or names is None else replace(found, names=tuple(names))


def select(
    given: Given, output: Path, settings: Settings, progress: Progress, kept: Sequence[str] | None = None
) -> SelectionFolder:
    """Select from scores into the folder ``output``, which is all that is written to.

    ``settings`` say how. The same selection is not made again. ``kept`` are the columns of the catalogue that
    candidates have, by default those of the run's job.

    Raises
    ------
    SwimmyError
        When ``output`` is a run directory, whose own selection only `run` makes.
    """
    folder = SelectionFolder(output)
    if RunDirectory(output).exists():
        raise SwimmyError(
            f"{output}: a run directory, whose own selection belongs to its job. Change the job and run it again "
            "here; or choose another --output, or --name for a further selection of this run."
        )
    stage = SelectStage(
        folder.ledger,
        folder,
        given.scores,
        given.cutouts,
        settings.sample,
        settings.select,
        Scores(given.scores).n_models,
        given.columns(kept),
    )
    with driver_lock(folder.receipts, output):
        if settings.select.thresholds_from is not None:
            # What an earlier command carried over may come from another file.
            remove(folder.carried_thresholds)
        run_stage(stage, SerialExecutor(), progress)
    return folder


def selection_settings(
    of_run: Settings, given: Settings, thresholds_from: Path | None = None, of_another_model: bool = False
) -> Settings:
    """The settings of a selection: the sections that are ``given``, the others as the run has them."""
    sample = given.sample if "sample" in given.model_fields_set else of_run.sample
    select = given.select if "select" in given.model_fields_set else of_run.select
    changed: dict[str, Any] = {} if thresholds_from is None else {"thresholds_from": thresholds_from}
    changed |= {"thresholds_of_another_model": True} if of_another_model else {}
    # Validated anew: an update alone would not be.
    section = SelectSection.model_validate(select.model_dump() | changed)
    return Settings(sample=sample, select=section)


@dataclass(frozen=True)
class HowMade:
    """How a selection was made, so that it can be made again: its settings, the scores that it cuts, its columns."""

    folder: SelectionFolder
    settings: Settings
    scores: Path
    kept: Sequence[str] | None = None

    @classmethod
    def of(cls, folder: SelectionFolder) -> HowMade:
        """What the receipt says; without a readable one, what the selection says itself.

        Raises
        ------
        SwimmyError
            When both are damaged.
        """
        done = folder.ledger.read(FINISHED)
        if done is None:
            scores = scores_of(folder.store, dict(open_group(folder.store, SELECTION_VERSION).attrs))
            with of_the_program(folder.settings, folder.path):
                text = read_text(folder.settings)
            return cls(folder, parse_job(text, folder.settings, Settings), scores)
        scores = Path(os.path.normpath(folder.path / done.details["scores"]))
        settings = parse_job(done.details["settings"], folder.settings, Settings)
        return cls(folder, settings, scores, done.details.get("kept_columns"))

    def again(self, progress: Progress) -> None:
        """Make it again, unless it is whole."""
        select(Given.at(self.scores), self.folder.path, self.settings, progress, self.kept)
