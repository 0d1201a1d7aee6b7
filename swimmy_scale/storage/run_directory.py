"""Where everything lies: in a run directory, in a folder of weights, and beside the output of a single stage.

No other module spells these file names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.job import Job, Settings, dump_job, parse_job
from swimmy_scale.method.sections import ScorerName
from swimmy_scale.storage.files import (
    digest_json,
    driver_lock,
    of_the_program,
    read_text,
    remove,
    write_atomically,
    write_json,
)
from swimmy_scale.storage.fresh_folders import WRITER, is_being_written
from swimmy_scale.storage.kept_rows import KeptRows
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt

STAGES = ("ingest", "train", "evaluate", "score", "select", "picture")
"""In the order in which a job goes through them."""

SHOWN = ("report", "figures", "tables")
"""Folders of a selection, by the commands that make them: no stages, but each has a receipt as its last step."""

FORMAT_VERSION = 4
"""Of run directories: what their receipts stand for. A run of another version can be read, and not continued."""

SCORER_VERSION = 1


class At:
    """A file or folder of a known name in a folder that has a ``path``."""

    def __init__(self, name: str, meaning: str) -> None:
        self.name, self.__doc__ = name, meaning

    def __get__(self, folder: Any, owner: type) -> Path:
        """The path in a folder."""
        path: Path = folder.path
        return path / self.name


@dataclass(frozen=True)
class LogFolder:
    """The folder ``log`` of a run directory: progress, and what belongs to batch jobs."""

    path: Path

    progress = At("progress.json", "What `status` reads, written while a driver works.")
    jobs = At("jobs", "Job scripts, the site file and Dask's configuration, as submitted.")
    site = At("jobs/site.yaml", "The site file, as submitted.")
    submitted = At("jobs/submitted.json", "Which batch jobs were submitted, and when.")
    dask_config = At("jobs/dask.yaml", "Dask's configuration for workers.")

    def script(self, name: str) -> Path:
        """The job script of the driver or of a group of workers."""
        return self.jobs / f"{name}.sh"

    workers = At("workers", "Logs of worker jobs.")
    tls = At("tls", "Keys of the running driver.")
    scheduler = At("scheduler.json", "Where workers read the address of the running driver.")


@dataclass(frozen=True)
class ModelsFolder:
    """A folder of weights: ``models`` of a run directory, or the output of `train`."""

    path: Path

    selected = At("selected.keras", "The weights that were chosen.")
    manifest = At("manifest.json", "Digests and networks of all weight sets, and which ones were chosen.")
    table = At("weight_sets.ecsv", "How the weight sets were judged.")

    def training(self, index: int) -> Path:
        """The folder of one training."""
        return self.path / f"run-{index:02d}"

    def keep_only(self, n_trainings: int) -> None:
        """Remove what a longer list of trainings left: their folders and evaluations."""
        kept = {self.training(index).name for index in range(n_trainings)}
        for path in (*self.path.glob("run-*"), *self.evaluations.glob("run-*.json")):
            if path.name.removesuffix(".json") not in kept:
                remove(path)

    def histories(self) -> Iterator[Path]:
        """The histories of all trainings that have finished an epoch."""
        return self.path.glob("run-*/history.csv")

    evaluations = At("evaluation", "How the weight sets of each training were judged.")

    def evaluation(self, index: int) -> Path:
        """How the weight sets of one training were judged."""
        return self.evaluations / f"run-{index:02d}.json"

    @classmethod
    def holding(cls, model: Path) -> Iterator[ModelsFolder]:
        """The folders of weights that a model file may belong to: its own folder and the one above."""
        return map(cls, (model.parent, model.parent.parent))


@dataclass(frozen=True)
class SelectionFolder:
    """Where a selection lies: the run directory itself, a folder in its ``selections``, or the output of `select`."""

    path: Path

    store = At("selection.zarr", "Who is in the sample, the thresholds, and who exceeds them.")
    summary = At("summary.json", "Counts, thresholds, and what they select.")
    settings = At("selection.yaml", "The settings that it was made by: the sections sample and select.")
    carried_thresholds = At("carried_thresholds.json", "A copy of the thresholds that the run takes from another run.")
    receipts = At("receipts", "The receipt of the selection, among those of its run if it is the run's own.")
    ranked = At("ranked", "What marks taught, a folder.")
    ranking = At("ranked/ranking.csv", "The order in which to look, with probabilities.")
    report = At("report", "The report, a folder.")
    figures = At("figures", "The paper's figures, a folder.")
    tables = At("tables", "The paper's tables, a folder.")
    fidelity_page = At("fidelity.md", "The paper's numbers beside the selection's.")

    def candidates(self, kind: str) -> Path:
        """The candidate catalogue in one format: ``fits``, ``ecsv``, ``vot`` or ``parquet``."""
        return self.path / f"candidates.{kind}"

    def made(self) -> list[Path]:
        """Every path that a selection may have written."""
        kinds = ("fits", "ecsv", "vot", "parquet")
        return [self.store, self.summary, self.settings, self.carried_thresholds, *map(self.candidates, kinds)]

    @property
    def ledger(self) -> Ledger:
        """The receipt of the selection."""
        return Ledger(self.receipts, self.path, "select")

    def made_shown(self, folder: Path) -> bool:
        """Whether a folder is one of `SHOWN` in its own place here, and has a receipt, be it damaged or not."""
        return self._is_shown(folder) and Ledger(self.receipts, self.path, folder.name).path(FINISHED).exists()

    def forget_shown(self, folder: Path) -> None:
        """Remove the receipt of one of `SHOWN`, whose files are about to change, if it lies in its own place here."""
        if self._is_shown(folder):
            Ledger(self.receipts, self.path, folder.name).remove(FINISHED)

    def keep_shown(self, folder: Path, files: Iterable[Path]) -> None:
        """Write the receipt of one of `SHOWN`, if it lies in its own place here; what it said of other files stays."""
        if not self._is_shown(folder):
            return
        ledger = Ledger(self.receipts, self.path, folder.name)
        before = ledger.read(FINISHED)
        recorded = {
            **(before.files if before else {}),
            **ledger.record_files(self.path / folder.name / path.relative_to(folder) for path in files),
        }
        ledger.commit(
            Receipt(
                stage=folder.name,
                name=FINISHED,
                identity=self.identity(),
                data_digest=Parts().digest(),
                files=dict(sorted(recorded.items())),
                details={"n_tasks": 0},
            )
        )

    def _is_shown(self, folder: Path) -> bool:
        return folder.absolute().parent == self.path.absolute() and folder.name in SHOWN

    def identity(self) -> str:
        """Digest of what the selection was made of; empty before it is finished."""
        done = self.ledger.read(FINISHED)
        return done.identity if done is not None else ""

    def exists(self) -> bool:
        """Whether a selection is there, be it finished or not."""
        return self.store.is_dir() or self.ledger.path(FINISHED).exists()

    def read_summary(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        with of_the_program(self.summary, self.path):
            content: dict[str, Any] = json.loads(read_text(self.summary))
            if content.get("format_version") is None:
                raise ValueError("no format_version")
        return content

    def in_job(self, job: Job) -> Job:
        """The job of the run, with the settings that this selection was made by."""
        with of_the_program(self.settings, self.path):
            text = read_text(self.settings)
        settings = parse_job(text, self.settings, Settings)
        return job.model_copy(update={"sample": settings.sample, "select": settings.select})


@dataclass(frozen=True)
class RunDirectory:
    """A run directory: all that a job made, its receipts and its logs."""

    path: Path

    job_file = At(
        "job.yaml",
        "The job, complete with defaults, and frozen; relative paths are relative to it.",
    )
    scorer = At("scorer.json", "By which scorer the run scores, from its first command on.")
    provenance = At("provenance.json", "Versions, and digests of inputs, configuration and models.")
    receipts = At("receipts", "Receipts of all stages.")
    own_cutouts = At("cutouts.zarr", "The cutouts that the run ingests; a job may name others (see `cutouts`).")
    scores = At("scores.zarr", "Scores of all objects.")
    selections = At("selections", "Further selections from the scores, each in a folder of its own.")
    quarantine = At("quarantine.csv", "Every quarantined object, with the reason.")
    picture = At("candidates.png", "Histograms and the strangest candidates.")

    @property
    def log(self) -> LogFolder:
        """Logs and what belongs to batch jobs."""
        return LogFolder(self.path / "log")

    @property
    def models(self) -> ModelsFolder:
        """The weights that the run trained."""
        return ModelsFolder(self.path / "models")

    @property
    def selection(self) -> SelectionFolder:
        """The run's own selection: candidates, thresholds and their summary."""
        return SelectionFolder(self.path)

    def named_selection(self, name: str) -> SelectionFolder:
        """A further selection from the run's scores."""
        return SelectionFolder(self.selections / name)

    def named_selections(self) -> list[SelectionFolder]:
        """All further selections, by name; not the copy of one that was never finished (see `sweep`)."""
        if not self.selections.is_dir():
            return []
        names = sorted(path.name for path in self.selections.iterdir() if not path.name.endswith(".partial"))
        return [folder for name in names if (folder := self.named_selection(name)).exists()]

    def cutouts(self, job: Job) -> Path:
        """The cutouts that the job names, or the run's own."""
        return job.cutouts or self.own_cutouts

    @classmethod
    def existing(cls, path: Path) -> RunDirectory:
        """The run directory at ``path``, which must be one."""
        if not cls(path).exists():
            said = f"{path}: no receipts folder, so this is not a run directory. Check the path."
            raise SwimmyError(cls(path).what_is_wrong() or said)
        return cls(path)

    def what_is_wrong(self) -> str:
        """Why this is no run directory any more, with the remedy; empty if nothing says that it was one."""
        if self.receipts.exists() and not self.receipts.is_dir():
            return f"{self.receipts}: not a folder, where the receipts of a run belong. Bring them back, or remove it."
        # Not the job: people keep theirs under the same name.
        ours = [path for path in (self.scorer, self.provenance) if path.exists()]
        if not ours or self.receipts.exists():
            return ""
        again = typed("run", self.job_file, "--output", self.path)
        return (
            f"{self.path}: holds {ours[0].name}, but no receipts folder, which says what the bytes of a run should be. "
            f"Bring {self.receipts} back from a copy; without it `{again}` does all again."
        )

    def exists(self) -> bool:
        """Whether a run directory is there; the folder of a selection alone is none."""
        if not self.receipts.is_dir():
            return False
        # A selection has no other receipts than its own.
        of_runs = ("job", *(stage for stage in STAGES if stage != "select"))
        return self.job_file.exists() or any(self.ledger(stage).folder_of_stage.is_dir() for stage in of_runs)

    # ------------------------------------------------------------ receipts and the driver's lock

    def ledger(self, stage: str) -> Ledger:
        """The receipts of a stage."""
        return Ledger(self.receipts, self.path, stage)

    def stage_ledger(self, stage: str, job: Job) -> Ledger:
        """The receipts of a stage of the job; those of ingest lie with the cutouts, which may be another run's."""
        return cutouts_ledger(self.cutouts(job)) if stage == "ingest" else self.ledger(stage)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run directory for one driver (see `files.driver_lock`).

        The lock lies with the receipts: people remove logs.
        """
        return driver_lock(self.receipts, self.path)

    def sweep(self) -> None:
        """Remove temporary files that interrupted writes left; the driver's lock must be held."""
        left = list(self.path.glob(".*.partial"))
        for folder in (self.receipts, self.models.path, self.log.path):
            left += folder.rglob(".*.partial")
        left += self.selections.glob(".*.partial")
        for folder in self.selections.glob("*"):
            left += folder.glob(".*.partial")
        for store in (self.own_cutouts, self.scores):
            left += store.rglob("*.partial")
        for path in left:
            # Reports are written without the driver's lock.
            if not ((path / WRITER).exists() and is_being_written(path)):
                remove(path)

    # ------------------------------------------------------------ the job

    def load_job(self) -> Job:
        """The frozen job."""
        with of_the_program(self.job_file, self.path):
            text = read_text(self.job_file)
        return parse_job(text, self.job_file, Job)

    def frozen_job(self) -> Job | None:
        """The job that the directory was last run with, from its receipt; None if there is none.

        Raises
        ------
        SwimmyError
            When another version of the program made the directory.
        """
        receipt = self.ledger("job").read(FINISHED)
        if receipt is None:
            return None
        version = receipt.details.get("format_version", 1)
        if version != FORMAT_VERSION:
            raise SwimmyError(
                f"{self.path} was made by another version of the program (format_version {version}, this one makes "
                f"{FORMAT_VERSION}), and cannot be continued. Choose another --output; it can still be read."
            )
        return parse_job(receipt.details["job"], self.job_file, Job)

    def freeze_job(self, job: Job) -> None:
        """Write ``job.yaml``, unless it says the same; its receipt, which holds the text as well, makes it the job."""
        text, ledger = dump_job(job, self.path), self.ledger("job")
        if ledger.valid(FINISHED, digest_json(text)) is None:
            write_atomically(self.job_file, text.encode())
            details = {"format_version": FORMAT_VERSION, "job": text}
            ledger.finish(digest_json(text), Parts(), [self.job_file], details)

    def discard(self, stage: str, keep: Iterable[Path] = ()) -> None:
        """Remove what a stage made: its receipts first, so that none outlives its files, then the files.

        It does nothing more when it is called again, after an end at any instant. What lies in a store of another
        stage stays: the stage replaces it. Files named by ``keep`` stay, with the folder that they lie in.
        """
        ledger = self.ledger(stage)
        for name in sorted(ledger.every_name(), key=lambda name: name != FINISHED):
            ledger.remove(name)
        for path in self._made_by(stage):
            if not any(item.is_relative_to(path) for item in keep):
                remove(path)

    def _made_by(self, stage: str) -> list[Path]:
        ledger, selection = self.ledger(stage), self.selection
        made: dict[str, list[Path]] = {
            "ingest": [self.own_cutouts, counterparts_beside(self.own_cutouts), self.quarantine]
            + [ledger.note_path(what) for what in ("notes", "tables")]
            + [KeptRows.folder_of(ledger)],
            "train": [self.models.path],
            "evaluate": [self.models.evaluations, self.models.table],
            "select": [path for path in selection.made() if path != selection.carried_thresholds],
            "picture": [self.picture],
        }
        return made.get(stage, [])

    def kept_scorer(self) -> ScorerName | None:
        """The scorer that the run began with (see `keep_scorer`); None if nothing, or damage, says it."""
        ledger = self.ledger("scorer")
        receipt = ledger.read(FINISHED)
        if receipt is None or ledger.valid(FINISHED, receipt.identity) is None:
            return None
        kept: ScorerName = receipt.details["scorer"]
        return kept

    def keep_scorer(self, scorer: ScorerName) -> None:
        """Write ``scorer.json``, unless it says the same."""
        if self.kept_scorer() != scorer:
            content = {"format_version": SCORER_VERSION, "scorer": scorer}
            write_json(self.scorer, content)
            self.ledger("scorer").finish(digest_json(content), Parts(), [self.scorer], {"scorer": scorer})

    # ------------------------------------------------------------ what happened

    def status(self) -> list[dict[str, Any]]:
        """How far each stage is, by its receipts alone.

        Returns
        -------
        list of dict
            For each stage (``evaluate`` only if the job asks for it): ``stage``, ``finished``, ``n_tasks`` that have a
            receipt, ``n_objects`` in them, ``n_quarantined``.
        """
        rows = []
        for stage in STAGES:
            ledger = self.ledger(stage)
            if stage == "evaluate" and not self._evaluates() and not ledger.names():
                continue
            finished, counts = False, {"n_tasks": 0, "n_objects": 0, "n_quarantined": 0}
            for name in ledger.every_name():
                receipt = ledger.read(name)
                if name == FINISHED:
                    finished = receipt is not None
                elif receipt is not None:
                    counts["n_tasks"] += 1
                    counts["n_objects"] += receipt.n_objects
                    counts["n_quarantined"] += int(receipt.details.get("n_quarantined", 0))
            rows.append({"stage": stage, "finished": finished, **counts})
        return rows

    def _evaluates(self) -> bool:
        """Whether the job evaluates its weights; False if it cannot be read."""
        try:
            train = parse_job(read_text(self.job_file), self.job_file, Job).train
        except (OSError, ValueError, SwimmyError):
            return False
        return train is not None and train.evaluates

    def read_summary(self) -> dict[str, Any]:
        """The content of the run's ``summary.json``."""
        return self.selection.read_summary()


def stages_of(job: Job) -> tuple[str, ...]:
    """The stages of a job, in order."""
    lacks = {
        *(() if job.cutouts is None else ("ingest",)),
        *(() if job.train else ("train",)),
        *(() if job.train and job.train.evaluates else ("evaluate",)),
    }
    return tuple(stage for stage in STAGES if stage not in lacks)


# ---------------------------------------------------------------- beside the output of a single stage


def ledger_beside(output: Path, stage: str) -> Ledger:
    """Receipts of a stage outside of a run directory: ``NAME.receipts`` beside its output ``NAME``."""
    return Ledger(output.parent / f"{output.name}.receipts", output.parent, stage)


def quarantine_beside(cutouts: Path) -> Path:
    """Quarantined objects of an ingest outside of a run directory."""
    return cutouts.with_name(cutouts.name.removesuffix(".zarr") + ".quarantine.csv")


# ---------------------------------------------------------------- what belongs to a cutouts.zarr, wherever it lies


def counterparts_beside(cutouts: Path) -> Path:
    """The table of spectroscopic counterparts that the ingest of a store wrote."""
    return cutouts.parent / "counterparts.fits"


def cutouts_ledger(cutouts: Path) -> Ledger:
    """The receipts of the ingest that made a store: beside it, or in the run directory around it."""
    beside = ledger_beside(cutouts, "ingest")
    run = RunDirectory(cutouts.parent)
    if cutouts == run.own_cutouts and (run.receipts / "ingest").is_dir() and not beside.folder.is_dir():
        return run.ledger("ingest")
    return beside


def scores_ledger(scores: Path) -> Ledger:
    """The receipts of the stage that made a store of scores: beside it, or in the run directory around it."""
    beside, run = ledger_beside(scores, "score"), RunDirectory(scores.parent)
    return run.ledger("score") if scores == run.scores and not beside.folder.is_dir() else beside
