"""A run directory: the stages of a job, one after the other, resumed where they stopped."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import swimmy_scale
from swimmy_scale.errors import SwimmyError, check_installed
from swimmy_scale.method.job import Job, dump_job
from swimmy_scale.method.job_paths import written_as
from swimmy_scale.method.sections import ScorerName
from swimmy_scale.method.survey import HSC
from swimmy_scale.method.words import counted
from swimmy_scale.model.files import read_model_file
from swimmy_scale.model.scoring import Scoring, scoring_of
from swimmy_scale.stages import earlier
from swimmy_scale.stages.carried_thresholds import carried_thresholds, keep_carried, read_carried
from swimmy_scale.stages.changes import Change
from swimmy_scale.stages.deliveries import catalogue_inside
from swimmy_scale.stages.engine import Executor, Progress, Stage, run_stage
from swimmy_scale.stages.evaluate import campaign_stages
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.stages.later_columns import KeptColumns
from swimmy_scale.stages.lost_workers import has_left_out, try_again
from swimmy_scale.stages.memory import PICTURE_BYTES, MemoryLimits, ScoringNeeds, check_ingest
from swimmy_scale.stages.picture import PictureStage
from swimmy_scale.stages.score import ScoreStage
from swimmy_scale.stages.select import SelectStage
from swimmy_scale.storage.cutouts import Cutouts, check_kept
from swimmy_scale.storage.files import digest_json, write_json
from swimmy_scale.storage.quarantine_file import write_quarantine
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts
from swimmy_scale.storage.run_directory import STAGES, RunDirectory

log = logging.getLogger("swimmy_scale")

PROVENANCE_VERSION = 1
PACKAGES = ("astropy", "dask", "distributed", "keras", "numba", "numpy", "scipy", "tensorflow", "xarray", "zarr")


@dataclass(frozen=True)
class Run:
    """A run directory and its job.

    Attributes
    ----------
    n_threads : int
        Threads of a scoring process; they change the speed only.
    limits : MemoryLimits, optional
        What worker processes may take.
    scorer : str
        See `scoring.Scoring`; `scorer_choice` says which one a run keeps.
    """

    directory: RunDirectory
    job: Job
    n_threads: int
    limits: MemoryLimits | None = None
    scorer: ScorerName = "numba"

    def as_frozen(self) -> Run:
        """The same run, with the paths that the frozen job has as well written as they are there."""
        before = self.directory.frozen_job()
        return self if before is None else replace(self, job=written_as(self.job, before))

    def ledger(self, stage: str) -> Ledger:
        """The receipts of a stage."""
        return self.directory.ledger(stage)

    @property
    def cutouts(self) -> Path:
        """The run's own ``cutouts.zarr``, or the one that the job names."""
        return self.directory.cutouts(self.job)

    @property
    def scoring(self) -> Scoring:
        """The models that score, and how; known after training."""
        return scoring_of(self.directory, self.job, self.n_threads, self.scorer)

    def is_finished(self, stage: str, again: Sequence[str] = ()) -> bool:
        """Whether a receipt closes a stage, which is none of those that are done ``again``."""
        return stage not in again and self.ledger(stage).read(FINISHED) is not None

    @property
    def ingest(self) -> IngestStage | None:
        """The ingest of the job; None if its cutouts are there already."""
        job = self.job
        if job.ingest is None or job.catalogue is None:
            return None
        stage = IngestStage(
            self.ledger("ingest"),
            self.cutouts,
            job.survey,
            job.catalogue,
            job.ingest,
            job.storage,
            job.spectroscopy,
            job.sample,
            job.train,
            job.additions,
            self.limits,
        )
        return stage.as_begun()

    @property
    def n_added(self) -> int:
        """How many of the job's additions are ingested, or were begun to be."""
        return self.ingest.n_begun if self.ingest is not None and self.job.additions else 0

    def stages(self) -> Iterator[Stage]:
        """The stages of the job in order; ask for the next one when those before it are finished."""
        job, run = self.job, self.directory
        if (ingest := self.ingest) is not None:
            yield from ingest.in_order()
        select = SelectStage(
            self.ledger("select"),
            run.selection,
            run.scores,
            self.cutouts,
            job.sample,
            job.select,
            job.n_models,
            KeptColumns.of(job),
            run.quarantine,
        )
        select.check()
        if job.train is not None:
            yield from campaign_stages(
                job, self.cutouts, run.models, self.ledger, self.n_threads, self.limits, self.scorer
            )
        yield ScoreStage(self.ledger("score"), self.cutouts, run.scores, self.scoring, owned=True)
        yield select
        yield PictureStage(
            self.ledger("picture"), self.cutouts, run.selection.store, run.picture, self.scoring, select.ledger
        )


def write_provenance(run: Run) -> None:
    """Write ``provenance.json``: versions, and digests of inputs, configuration and model."""
    digests = {}
    for stage in STAGES:
        receipt = run.directory.stage_ledger(stage, run.job).sound(FINISHED)
        if receipt is not None:
            digests[stage] = {"identity": receipt.identity, "data": receipt.data_digest}
    content = {
        "format_version": PROVENANCE_VERSION,
        "swimmy_scale": swimmy_scale.__version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES if find_spec(name) is not None},
        "job_sha256": digest_json(dump_job(run.job, run.directory.path)),
        "model_sha256": run.scoring.sha256,
        "scorer": run.scorer,
        **run.job.score.score_kind.described,
        "stages": digests,
        **({"additions": run.ingest.added} if run.ingest is not None and run.job.additions else {}),
    }
    ledger, identity, path = run.ledger("provenance"), digest_json(content), run.directory.provenance
    if ledger.valid(FINISHED, identity) is None:
        write_json(path, content)
        ledger.finish(identity, Parts(), [path])


def check_inputs(run: Run, change: Change | None = None, also: Sequence[str] = ()) -> None:
    """Check that all that a job names is there, and that it fits in memory, before anything is started.

    Sources of an ingest that is finished may be gone. The message names all paths that are missing. With a ``change``
    the stages that it does again count as unfinished, and so do those named by ``also``.
    """
    job, again = run.job, (*(change.again if change else ()), *also)
    named = [model.path for model in job.weights]
    if job.cutouts is not None:
        named.append(job.cutouts)
    if job.ingest is not None and job.catalogue is not None and not run.is_finished("ingest", again):
        named += [path for path in (job.catalogue.path, job.catalogue.patch_qa) if path]
        named += [*job.ingest.sources, *job.ingest.coadd.values()]
        named += job.spectroscopy.paths if job.spectroscopy else ()
    for addition in job.additions[0 if "ingest" in again else run.n_added :]:
        catalogue = addition.catalogue or job.catalogue
        named += [path for path in (catalogue.path, catalogue.patch_qa) if path] if catalogue else []
        named += [*addition.ingest.sources, *addition.ingest.coadd.values()]
    missing = [str(path) for path in named if not path.exists() and not any(mark in str(path) for mark in "*?[")]
    if missing:
        raise SwimmyError(f"{', '.join(missing)}: not there. Correct the path in the job file.")
    if job.ingest is not None and job.catalogue and not job.catalogue.path and not run.is_finished("ingest", again):
        catalogue_inside(job.ingest)
    if job.train is not None and not run.is_finished("train", again):
        check_installed("training", "train", "keras")
    _check_later_columns(run, change)
    for model in job.weights:
        read_model_file(model.path, model.sha256)
    if job.select.thresholds_from is not None:
        original, copy = job.select.thresholds_from, run.directory.selection.carried_thresholds
        others = change is not None and "select.thresholds_from" in change.settings
        carried = read_carried(original) if others else carried_thresholds(original, copy)
        carried.check(job.n_models, job.select.combine, job.score.score_kind)
        carried.check_levels(job.select.levels)
        if job.weights and not job.select.thresholds_of_another_model:
            digests = [model.sha256 for model in job.weights]
            carried.check_model(digests if len(digests) > 1 else digests[0], run.scorer)
    check_memory(run, again)


def _check_later_columns(run: Run, change: Change | None) -> None:
    """Check that kept columns that the cutouts lack are to be had, before another job replaces the old one."""
    columns = KeptColumns.of(run.job)
    if columns is None or change is None or "ingest" in change.again:
        return
    if "catalogue.keep_columns" in change.settings and run.cutouts.is_dir():
        store = Cutouts(run.cutouts)
        check_kept(columns.missing(store.kept), store.survey.bands)
        columns.read(store.kept)


def freeze_inputs(run: Run, with_catalogue: bool = False, try_left_out: bool = False) -> None:
    """Freeze the job, the scorer and the thresholds that it carries over, once all that it names is there and fits.

    ``with_catalogue`` reads the catalogue as well, and refuses one of which nothing could come out. With
    ``try_left_out`` objects that are left out because they ended workers are to be tried again.

    If the directory has another job, what that job made and this one would not replace is removed (see `changes`).
    """
    directory, job = run.directory, run.job
    before = directory.frozen_job()
    change = Change.between(before or job, job)
    if before is not None:
        change.check(directory, before)
    # A job that cannot be done changes nothing.
    with_left_out = [name for name in ("ingest", "score") if try_left_out and has_left_out(run.ledger(name))]
    check_inputs(run, change, with_left_out)
    if with_catalogue and run.ingest is not None and not run.is_finished("ingest", change.again):
        run.ingest.check_catalogue()
    if change:
        for line in change.lines(directory):
            log.warning(line)
        if "select" in change.again:
            earlier.keep(directory)
        change.clear(directory, job)
    for name in with_left_out:
        log.warning(f"{name}: {counted(try_again(run.ledger(name)), 'objects')} that ended workers, tried again")
    directory.freeze_job(job)
    directory.keep_scorer(run.scorer)
    if job.select.thresholds_from is not None:
        keep_carried(job.select.thresholds_from, directory.selection.carried_thresholds)


def check_memory(run: Run, again: Sequence[str] = ()) -> None:
    """Check that worker processes have the memory for the stages that are not finished, or are done ``again``.

    Training is checked when its stage begins: only then its size is known.
    """
    job, limits = run.job, run.limits
    if limits is None:
        return
    survey, chunk_objects = job.survey, job.storage.chunk_objects
    if job.cutouts is not None:
        store = Cutouts(job.cutouts)
        # As text, because a limit that is NaN does not equal itself.
        if repr(job.survey) not in (repr(HSC), repr(store.survey)):
            raise SwimmyError(
                f"{job.cutouts}: the job's section survey differs from the survey that the store was ingested "
                "for, which counts. Leave the section out, or ingest again with it."
            )
        survey, chunk_objects = store.survey, store.chunk_objects
    elif not run.is_finished("ingest", again) or run.n_added < len(job.additions):
        check_ingest(limits, survey, job.storage.partition_objects)
    if not run.is_finished("score", again):
        for section in job.networks:
            network = section.for_survey(survey)
            needs = ScoringNeeds(survey, network, job.score.batch_size, chunk_objects, run.scorer, run.n_threads)
            needs.check(limits, job.n_models)
    if not run.is_finished("picture", again):
        limits.check("the picture's reconstructions", PICTURE_BYTES, run.scorer == "keras", "Nothing else would do")


def run_job(run: Run, executor: Executor, progress: Progress, try_left_out: bool = False) -> dict[str, Any]:
    """Do all that the job asks for, from where an earlier call stopped (``try_left_out``: see `freeze_inputs`).

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    SwimmyError
        When another driver holds the directory, the directory belongs to another job, or a stage fails.
    """
    directory = run.directory
    with directory.lock():
        # First of all: what we write ourselves later on must not be swept away.
        directory.sweep()
        run = run.as_frozen()
        freeze_inputs(run, try_left_out=try_left_out)
        progress.keep_record(directory.log.progress)
        with executor.open():
            progress.see_workers(executor.describe)
            for stage in run.stages():
                run_stage(stage, executor, progress)
                if stage.ledger.stage == "ingest" and not directory.quarantine.exists():
                    # If all objects are in quarantine the run ends here, and people must see why.
                    write_quarantine(directory.quarantine, [stage.ledger])
        write_provenance(run)
    return directory.read_summary()
