"""Whole runs from Python: what the commands `plan` and `run` do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swimmy_scale.cluster.executors import executor_for, place_for, scorer_for
from swimmy_scale.cluster.site import Site, load_site
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job
from swimmy_scale.stages.changes import Change
from swimmy_scale.stages.engine import Progress, Silent
from swimmy_scale.stages.plan import Plan, plan_job
from swimmy_scale.stages.run import Run, run_job
from swimmy_scale.stages.scorer_choice import kept_by_run
from swimmy_scale.stages.weights_of_run import load_whole_job
from swimmy_scale.storage.run_directory import RunDirectory


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def run_there(
    job: Job,
    directory: RunDirectory,
    site: Site | None,
    n_workers: int | None,
    progress: Progress,
    say: Callable[[str], None] = _say,
    try_left_out: bool = False,
) -> dict[str, Any]:
    """Do all that a job asks for on a site, or without one on this machine; returns the content of ``summary.json``.

    With ``try_left_out`` also objects that are in quarantine because they ended workers.
    """
    scorer = scorer_for(site.section.scorer if site else "auto", kept_by_run(directory), site)
    with_tensorflow = job.train is not None or scorer == "keras"
    executor = executor_for(site, n_workers, directory.path, say, with_tensorflow)
    run = Run(directory, job, executor.scoring_threads(job.train, scorer), executor.limits, scorer)
    return run_job(run, executor, progress, try_left_out)


def plan_there(
    job: Job, directory: RunDirectory, site: Site | None, n_workers: int | None, say: Callable[[str], None] = _say
) -> Plan:
    """What a job would do there, and what of an earlier job it would do again; nothing is written."""
    scorer = scorer_for(site.section.scorer if site else "auto", kept_by_run(directory), site)
    place, limits, threads = place_for(site, n_workers, job, scorer)
    before = directory.frozen_job()
    if before is not None and (change := Change.between(before, job)):
        change.check(directory, before)
        for line in change.lines(directory):
            say(line)
    return plan_job(Run(directory, job, threads, limits, scorer), place)


def run(
    job: Path | str,
    output: Path | str,
    *,
    site: Path | str | None = None,
    n_workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Do everything that a job file says, from where an earlier call stopped; the same as the command `run`.

    Parameters
    ----------
    job : Path or str
        The job file.
    output : Path or str
        The run directory.
    site : Path or str, optional
        A site file: its SLURM jobs are the workers, and this process their driver. By default this machine.
    n_workers : int, optional
        Worker processes of this machine; 0 computes in this process. By default one for each core. A site file says
        how many itself.
    progress : Progress, optional
        Told how far it is; by default nobody is.

    Returns
    -------
    dict
        The content of ``summary.json``; `open_run` opens the rest.

    Raises
    ------
    SwimmyError
        For every fault of the job, when another driver holds the directory, and when a stage fails. What is done
        stays; call again to go on.
    """
    directory = RunDirectory(Path(output).absolute())
    there = _site(site, n_workers)
    return run_there(load_whole_job(Path(job), directory), directory, there, n_workers, progress or Silent())


def plan(
    job: Path | str, output: Path | str | None = None, *, site: Path | str | None = None, n_workers: int | None = None
) -> Plan:
    """What a job file would do, need and give, before a pixel is read; the same as the command `plan`.

    Parameters
    ----------
    job, output, site, n_workers
        As `run` takes them; without ``output`` nothing is done yet.

    Returns
    -------
    Plan
        ``problems`` says why nothing would come out; ``to_json()`` gives all of it as JSON values.

    Raises
    ------
    SwimmyError
        For every fault of the job and its catalogue.
    """
    directory = RunDirectory(Path(output or "no run directory").absolute())
    there = _site(site, n_workers)
    return plan_there(load_whole_job(Path(job), directory), directory, there, n_workers)


def _site(site: Path | str | None, n_workers: Any) -> Site | None:
    if n_workers is not None and (not isinstance(n_workers, int) or n_workers < 0):
        raise SwimmyError(f"n_workers {n_workers!r} is not a whole number from 0 on. Give one, or leave it out.")
    if site is None:
        return None
    if n_workers is not None:
        raise SwimmyError(f"n_workers is for this machine, and {site} says how many itself. Leave one of them out.")
    return load_site(Path(site))
