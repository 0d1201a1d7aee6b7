"""A single stage outside of a run directory: its receipts lie beside its output."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Settings
from swimmy_scale.method.network import Network
from swimmy_scale.method.sections import CatalogueSource, IngestSection, ScorerName, TrainSection
from swimmy_scale.method.words import counted
from swimmy_scale.model.scoring import Model, Scoring
from swimmy_scale.stages.choice import recorded
from swimmy_scale.stages.engine import Executor, Progress, run_stage
from swimmy_scale.stages.evaluate import campaign_stages
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.stages.memory import MemoryLimits, ScoringNeeds, check_ingest
from swimmy_scale.stages.sample import SampleStage
from swimmy_scale.stages.score import ScoreStage
from swimmy_scale.stages.weights_of_run import weights_of_run
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.files import driver_lock
from swimmy_scale.storage.quarantine_file import write_quarantine
from swimmy_scale.storage.receipts import Receipt
from swimmy_scale.storage.run_directory import ModelsFolder, ledger_beside, quarantine_beside


def ingest(
    sources: IngestSection,
    catalogue: CatalogueSource,
    output: Path,
    settings: Settings,
    executor: Executor,
    progress: Progress,
    limits: MemoryLimits,
) -> Receipt:
    """Ingest into ``output``; quarantined objects go to ``NAME.quarantine.csv`` beside it."""
    ledger = ledger_beside(output, "ingest")
    check_ingest(limits, settings.survey, settings.storage.partition_objects)
    with driver_lock(ledger.folder, output):
        stage = IngestStage(ledger, output, settings.survey, catalogue, sources, settings.storage)
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
    """Network and digest of a model file, as its training recorded them (see `choice.recorded`).

    A given digest counts in place of the recorded one. If nothing is recorded and the digest is given, the network is
    that of the settings' ``train`` section, for the bands and the size of ``cutouts``.
    """
    known = recorded(model)
    if known is not None:
        return known[0], sha256 or known[1]
    if sha256 is None:
        raise SwimmyError(
            f"{model}: no manifest.json beside it records this file, and a model file is trusted by its digest alone. "
            "Give --model-sha256 if you trust it."
        )
    return (settings.train or TrainSection()).network.for_survey(Cutouts(cutouts).survey), sha256


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
    return Scoring(tuple(chosen), network, settings.score.batch_size, n_threads, scorer, settings.score.score_kind)


def score(
    cutouts: Path,
    scoring: Scoring,
    output: Path,
    settings: Settings,
    executor: Executor,
    progress: Progress,
    limits: MemoryLimits,
) -> Receipt:
    """Score ``cutouts`` into ``output``, with the sample that the settings cut; returns the receipt of the scores."""
    store = Cutouts(cutouts)
    needs = ScoringNeeds(
        store.survey, scoring.network, scoring.batch_size, store.chunk_objects, scoring.scorer, scoring.n_threads
    )
    needs.check(limits, len(scoring.models))
    ledger = ledger_beside(output, "score")
    sample = SampleStage(ledger_beside(output, "sample"), cutouts, output, settings.sample, ledger)
    with driver_lock(ledger.folder, output):
        SampleRule.of(store, settings.sample).apply(store, 0, 0, np.zeros(0, np.bool_))
        receipt = run_stage(ScoreStage(ledger, cutouts, output, scoring), executor, progress)
        run_stage(sample, executor, progress)
    return receipt
