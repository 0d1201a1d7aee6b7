"""The weights that another run chose, looked up for a job that names the run: files, digests and network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.given_weights import ModelSection, WeightsOfRun
from swimmy_scale.method.job import Job, dump_job, load_job, parse_job
from swimmy_scale.method.sections import NetworkSection
from swimmy_scale.stages.choice import MANIFEST_VERSION
from swimmy_scale.storage.files import read_text
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import ModelsFolder, RunDirectory, ledger_beside


def load_whole_job(path: Path, directory: RunDirectory) -> Job:
    """The job of a file, whose weights are looked up if it names them by their run.

    Parameters
    ----------
    directory : RunDirectory
        Where the job goes to. Weights that it began with remain those of the run that the job names.

    Raises
    ------
    SwimmyError
        For every fault of the file; when the other run has not finished its training; when its weights are others than
        those that the directory began with.
    """
    job = load_job(path, Job)
    if not isinstance(job.model, WeightsOfRun):
        return job
    before = directory.frozen_job()
    weights = _looked_up(job.model.run, directory, before.weights if before is not None else ())
    several = len(weights) > 1
    update = {"model": None if several else weights[0], "models": weights if several else ()}
    # As text, so that what is asked of several weight sets is asked of these as well.
    return parse_job(dump_job(job.model_copy(update=update), path.parent), path, Job)


def _looked_up(run: Path, directory: RunDirectory, before: Sequence[ModelSection]) -> tuple[ModelSection, ...]:
    """The weights of a run; those that the directory began with, if they are of the same run."""
    kept = tuple(model for model in before if model.run == run)
    try:
        found = weights_of_run(run)
    except SwimmyError:
        if kept:  # what became of the other run does not matter, as long as the files are there
            return kept
        raise
    if kept and [model.sha256 for model in kept] != [model.sha256 for model in found]:
        raise SwimmyError(
            f"{run}: its weights are others now (sha256 {found[0].sha256}) than those that {directory.path} began with "
            f"({kept[0].sha256}). Choose another --output to score with them; or name them by path and sha256 in the "
            "job, and what they change is done again here."
        )
    return kept or found


def weights_of_run(place: Path) -> tuple[ModelSection, ...]:
    """The weights that a run directory, or a folder that `train` made, has chosen: one, or those of its ensemble.

    Those of a run that was given its weights are these.

    Raises
    ------
    SwimmyError
        When it is neither, or its training is not finished.
    """
    run = RunDirectory(place)
    if run.exists():
        job = run.frozen_job()
        if job is None:
            raise SwimmyError(f"{place}: the run has not begun, so it has no weights. Run it first.")
        if job.weights:
            return tuple(model.model_copy(update={"run": place}) for model in job.weights)
        folder, ledger = run.models, run.ledger
        needed = ["train", "evaluate"] if job.train is not None and job.train.evaluates else ["train"]
    else:
        folder, ledger = ModelsFolder(place), partial(ledger_beside, place)
        if not ledger("train").folder.is_dir():
            raise SwimmyError(
                f"{place}: neither a run directory nor a folder of weights that `train` made. Check the path."
            )
        needed = ["train", "evaluate"] if ledger("evaluate").names() else ["train"]
    done = [ledger(stage).read(FINISHED) for stage in needed]
    if any(receipt is None for receipt in done) or "model_sha256" not in done[-1].details:  # type: ignore[union-attr]
        raise SwimmyError(f"{place}: its training is not finished, so no weights are chosen. Run it again, it resumes.")
    return _of_manifest(folder, place)


def _of_manifest(folder: ModelsFolder, place: Path) -> tuple[ModelSection, ...]:
    """The chosen weights by ``manifest.json``."""
    try:
        manifest: dict[str, Any] = json.loads(read_text(folder.manifest))
        version, sizes = manifest["format_version"], manifest["network"]
        network = NetworkSection(**{name: sizes[name] for name in NetworkSection.model_fields})
        files = [(folder.path / item["file"], item["sha256"]) for item in manifest.get("ensemble", ())]
        files = files or [(folder.selected, manifest["selected"]["sha256"])]
        chosen = tuple(ModelSection(path=path, sha256=sha256, network=network, run=place) for path, sha256 in files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SwimmyError(
            f"{folder.manifest}: missing or damaged, so nothing says which weights were chosen. Run {place} again: it "
            "repairs what is damaged."
        ) from error
    if version != MANIFEST_VERSION:
        raise SwimmyError(
            f"{folder.manifest}: format_version {version}, this version of the program reads {MANIFEST_VERSION}. Name "
            "the weights by path and sha256 in the job."
        )
    return chosen
