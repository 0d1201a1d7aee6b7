"""A run directory: the stages of a job, one after the other, resumed where they stopped."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, dump_job
from swimmy_scale.method.network import Network
from swimmy_scale.method.sections import ScorerName
from swimmy_scale.model.scoring import Model, Scoring, network_for
from swimmy_scale.stages.campaign import Campaign
from swimmy_scale.stages.carried import CARRIED_NAME, keep_carried
from swimmy_scale.stages.combine import check_combine
from swimmy_scale.stages.engine import Session, Stage, Watcher, run_stage
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.stages.memory import KERAS_BYTES, MemoryLimits, check_ingest, check_score
from swimmy_scale.stages.picture import PictureStage
from swimmy_scale.stages.score import ScoreStage, check_model
from swimmy_scale.stages.select import SelectStage, write_quarantine
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_json, driver_lock, write_json
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts
from swimmy_scale.storage.run_directory import CUTOUTS_NAME, STAGES, cutouts_ledger, freeze_job, holds_job, sweep
from swimmy_scale.storage.scores import score_kind

PROVENANCE_VERSION = 1
PACKAGES = ("astropy", "dask", "distributed", "keras", "numba", "numpy", "scipy", "tensorflow", "xarray", "zarr")


@dataclass(frozen=True)
class Run:
    """A run directory and its job.

    Attributes
    ----------
    directory : Path
    job : Job
    n_threads : int
        Threads of a scoring process; they change the speed only.
    limits : MemoryLimits, optional
        What worker processes may take.
    scorer : str
        ``keras`` or ``numba`` (see `scoring.Scoring`).
    """

    directory: Path
    job: Job
    n_threads: int
    limits: MemoryLimits | None = None
    scorer: ScorerName = "keras"

    def ledger(self, stage: str) -> Ledger:
        """The receipts of a stage."""
        return Ledger(self.directory / "receipts", self.directory, stage)

    @property
    def cutouts(self) -> Path:
        """The run's own ``cutouts.zarr``, or the one that the job names."""
        return self.job.cutouts or self.directory / CUTOUTS_NAME

    @property
    def scores(self) -> Path:
        """The run's ``scores.zarr``."""
        return self.directory / "scores.zarr"

    def stages(self) -> Iterator[Stage]:
        """The stages of the job in order; each is made when those before it are finished."""
        job = self.job
        if job.ingest is not None and job.catalogue is not None:
            yield IngestStage(
                self.ledger("ingest"),
                self.cutouts,
                job.survey,
                job.catalogue,
                job.ingest,
                job.storage,
                job.spectroscopy,
            )
        check_combine(job.select.combine, job.n_models, Cutouts(self.cutouts).n_objects, self.cutouts)
        if job.train is not None:
            yield from self._campaign.stages()
        score = self._score()
        yield score
        score.renew_metadata()
        yield SelectStage(
            ledger=self.ledger("select"),
            scores=self.scores,
            output=self.directory,
            levels=job.select.levels,
            formats=job.select.formats,
            thresholds_from=job.select.thresholds_from,
            combine=job.select.combine,
            n_models=job.n_models,
            ingest=cutouts_ledger(self.cutouts),
            score=self.ledger("score"),
        )
        yield PictureStage(
            ledger=self.ledger("picture"),
            cutouts=self.cutouts,
            scores=self.scores,
            picture=self.directory / "candidates.png",
            scoring=self.scoring,
            select=self.ledger("select"),
        )

    @property
    def _campaign(self) -> Campaign:
        return Campaign(
            self.job, self.cutouts, self.directory / "models", self.ledger, self.n_threads, self.limits, self.scorer
        )

    @property
    def scoring(self) -> Scoring:
        """By which models the run scores, and how; after its training."""
        if self.job.weights:
            models = tuple(Model(model.path, model.sha256) for model in self.job.weights)
            network = network_for(self.cutouts, self.job.weights[0].network)
        else:
            models, network = self._campaign.chosen()
        section = self.job.score
        return Scoring(models, network, section.batch_size, self.n_threads, self.scorer, section.noise_floor)

    def _score(self) -> ScoreStage:
        return ScoreStage(
            ledger=self.ledger("score"),
            cutouts=self.cutouts,
            scores=self.scores,
            scoring=self.scoring,
            cuts=self.job.sample,
        )


def write_provenance(run: Run) -> None:
    """Write ``provenance.json``: versions, and digests of inputs, configuration and model."""
    ledger = run.ledger("provenance")
    digests = {}
    for stage in STAGES:
        source = cutouts_ledger(run.cutouts) if stage == "ingest" else run.ledger(stage)
        receipt = source.read(FINISHED)
        if receipt is not None:
            digests[stage] = {"identity": receipt.identity, "data": receipt.data_digest}
    content = {
        "format_version": PROVENANCE_VERSION,
        "swimmy_scale": swimmy_scale.__version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "job_sha256": digest_json(dump_job(run.job)),
        "model_sha256": run.scoring.sha256,
        "scorer": run.scorer,
        **score_kind(run.job.score.noise_floor),
        "stages": digests,
    }
    identity = digest_json(content)
    if ledger.valid(FINISHED, identity) is None:
        path = run.directory / "provenance.json"
        write_json(path, content)
        ledger.finish(identity, Parts(), [path])


def check_inputs(run: Run) -> None:
    """See that what a job names is there, before anything is started for it.

    Raises
    ------
    SwimmyError
        Naming every path that is missing. Sources of an ingest that is finished may be gone.
    """
    job = run.job
    named = [model.path for model in job.weights]
    if job.cutouts is not None:
        named.append(job.cutouts)
    if job.ingest is not None and job.catalogue is not None and run.ledger("ingest").read(FINISHED) is None:
        named += [job.catalogue.path, *([job.catalogue.patch_qa] if job.catalogue.patch_qa else [])]
        named += [*job.ingest.sources, *job.ingest.coadd.values()]
        named += job.spectroscopy.paths if job.spectroscopy else ()
    missing = [str(path) for path in named if not path.exists() and not any(mark in str(path) for mark in "*?[")]
    if missing:
        raise SwimmyError(f"{', '.join(missing)}: not there. Correct the path in the job file.")
    for model in job.weights:
        check_model(model.path, model.sha256)
    check_memory(run)


def freeze_inputs(run: Run) -> None:
    """Freeze the job, and keep a copy of the thresholds that it carries over, once all that it names is there.

    Raises
    ------
    SwimmyError
        When the directory belongs to another job, or something that the job names is missing or does not fit.
    """
    holds_job(run.directory, run.job)
    # A job that cannot be done is not frozen: else its mended form would be another job.
    check_inputs(run)
    freeze_job(run.directory, run.job)
    job = run.job
    if job.select.thresholds_from is not None:
        carried = keep_carried(job.select.thresholds_from, run.directory / CARRIED_NAME)
        carried.check(job.n_models, job.select.combine, job.score.noise_floor)


def check_memory(run: Run) -> None:
    """See that worker processes have the memory that their tasks will need, but for stages that are finished.

    Training is checked once its size is known, when its stage begins.

    Raises
    ------
    SwimmyError
        When they have less, with both numbers.
    """
    job, limits = run.job, run.limits
    if limits is None:
        return
    survey, chunk_objects = job.survey, job.storage.chunk_objects
    if job.cutouts is not None:
        store = Cutouts(job.cutouts)
        survey, chunk_objects = store.survey, store.chunk_objects
    elif run.ledger("ingest").read(FINISHED) is None:
        check_ingest(limits, survey, job.storage.partition_objects)
    if run.ledger("score").read(FINISHED) is None:
        for section in job.networks:
            network = Network(survey.n_bands, survey.cutout_size_px, **section.model_dump())
            check_score(limits, survey, network, job.n_models, job.score.batch_size, chunk_objects, run.scorer,
                        run.n_threads)  # fmt: skip
    if run.ledger("picture").read(FINISHED) is None:
        limits.check("the picture's reconstructions", KERAS_BYTES, True, "Nothing else would do")


def run_job(run: Run, session: Session, watcher: Watcher) -> dict[str, Any]:
    """Do everything that the job asks for, resuming where an earlier call stopped.

    Parameters
    ----------
    session : callable
        Returns a context manager that yields workers for each stage (see `engine.run_stage`).

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    SwimmyError
        When another driver holds the directory, the directory belongs to another job, or a stage fails.
    """
    with driver_lock(run.directory / "log", run.directory):
        # Before anything of ours writes: it must not take a file that is being written for one that was left.
        sweep(run.directory)
        freeze_inputs(run)
        with session() as workers:
            for stage in run.stages():
                run_stage(stage, workers, watcher)
                if stage.ledger.stage == "ingest" and not (run.directory / "quarantine.csv").exists():
                    # A survey that is quarantined whole ends here, and its reasons must be seen.
                    write_quarantine(run.directory / "quarantine.csv", [stage.ledger])
        write_provenance(run)
    summary: dict[str, Any] = json.loads((run.directory / "summary.json").read_text())
    return summary
