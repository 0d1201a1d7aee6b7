"""Commands for whole runs: run, plan, submit, status, verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swimmy_scale.cli.program import EXIT_NOTHING, PATH, exit_with, json_option, main, site_option, worker_option
from swimmy_scale.errors import SwimmyError

if TYPE_CHECKING:
    from swimmy_scale.cluster.site import Site


def site_from(path: Path | None, n_workers: int | None) -> Site | None:
    """The site that a file describes, or None without a file."""
    if path is not None and n_workers is not None:
        raise click.UsageError("--workers is for this machine without a site file; a site file says how many itself")
    from swimmy_scale.cluster.site import load_site

    return None if path is None else load_site(path)


@main.command("run")
@click.argument("job_path", metavar="JOB", type=PATH)
@click.option("--output", type=PATH, required=True, help="The run directory.")
@site_option
@worker_option
def run_command(job_path: Path, output: Path, site_path: Path | None, n_workers: int | None) -> None:
    """Do everything that the job file JOB says, here and now; run it again to resume.

    With a site file of kind slurm the workers are batch jobs, and this process is their driver; `submit` makes the
    driver a batch job as well.

    \b
    Example:
      swimmy-scale run jobs/demo.yaml --output demo/run
      swimmy-scale run jobs/demo.yaml --output demo/run --site cluster/slurm-cpu.yaml
    """
    from swimmy_scale.cli.console import print_paths, print_summary
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import executor_for, scorer_for
    from swimmy_scale.cluster.signals import driver_signals
    from swimmy_scale.method.job import Job, load_job
    from swimmy_scale.stages.run import Run, run_job
    from swimmy_scale.stages.scorer_choice import kept_by_run
    from swimmy_scale.storage.run_directory import RunDirectory

    job, directory = load_job(job_path, Job), RunDirectory(output.absolute())
    site = site_from(site_path, n_workers)
    with Watch() as watch, driver_signals():
        scorer = scorer_for(site.section.scorer if site else "auto", kept_by_run(directory), site)
        with_tensorflow = job.train is not None or scorer == "keras"
        executor = executor_for(site, n_workers, directory.path, say, with_tensorflow)
        run = Run(directory, job, executor.scoring_threads(job.train, scorer), executor.limits, scorer)
        summary = run_job(run, executor, watch)
    print_summary(summary)
    print_paths(directory, job.select.formats)
    exit_with(summary["quarantined"])


def say(line: str) -> None:
    """Tell the user, on stderr."""
    click.echo(line, err=True)


@main.command("plan")
@click.argument("job_path", metavar="JOB", type=PATH)
@click.option("--output", type=PATH, help="The run directory that JOB would go to: also says what it would do again.")
@site_option
@worker_option
@json_option
def plan_command(
    job_path: Path, output: Path | None, site_path: Path | None, n_workers: int | None, as_json: bool
) -> None:
    """Say what the job file JOB would do and need, before a pixel is read; exit status 2 if nothing would come out.

    It reads the catalogue and lists the files, or reads the columns of a store, and writes nothing. Times are
    estimates, by rates whose source is named.

    \b
    Example:
      swimmy-scale plan jobs/demo.yaml
      swimmy-scale plan jobs/demo.yaml --site cluster/slurm-cpu.yaml --json
    """
    from swimmy_scale.cluster.executors import place_for, scorer_for
    from swimmy_scale.method.job import Job, load_job
    from swimmy_scale.results.words import duration
    from swimmy_scale.stages.changes import Change
    from swimmy_scale.stages.plan import lines, plan_job
    from swimmy_scale.stages.run import Run
    from swimmy_scale.stages.scorer_choice import kept_by_run
    from swimmy_scale.storage.run_directory import RunDirectory

    job, site = load_job(job_path, Job), site_from(site_path, n_workers)
    directory = RunDirectory((output or Path("no run directory")).absolute())
    scorer = scorer_for(site.section.scorer if site else "auto", kept_by_run(directory), site)
    place, limits, threads = place_for(site, n_workers, job, scorer)
    before = directory.frozen_job()
    if before is not None and (change := Change.between(before, job)):
        change.check(directory, before)
        for line in change.lines(directory):
            say(line)
    plan = plan_job(Run(directory, job, threads, limits, scorer), place)
    if as_json:
        click.echo(json.dumps(plan.to_json(), indent=1))
    else:
        for line in lines(plan, duration):
            click.echo(line)
    for problem in plan.problems:
        say(f"nothing would come out: {problem}")
    sys.exit(EXIT_NOTHING if plan.problems else 0)


@main.command("submit")
@click.argument("job_path", metavar="JOB", type=PATH)
@click.option("--output", type=PATH, required=True, help="The run directory, on a file system that all nodes share.")
@click.option("--site", "site_path", type=PATH, required=True, help="A site file of kind slurm (see cluster/).")
@click.option(
    "--chain",
    "n_chained",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Submit this many drivers that follow each other, for sites where jobs may not submit jobs.",
)
@click.option("--print-job-script", is_flag=True, help="Print what would be submitted, and submit nothing.")
@click.option(
    "--unchecked", is_flag=True, help="Submit even jobs that would never start, as far as Slurm's limits say."
)
def submit_command(
    job_path: Path, output: Path, site_path: Path, n_chained: int, print_job_script: bool, unchecked: bool
) -> None:
    """Do everything that the job file JOB says in SLURM jobs; prints the driver's job id and returns at once.

    The driver's job submits the workers' jobs, replaces those that are lost, and submits itself again before its
    walltime ends. Give the command again to resume after a failure.

    Before anything is written Slurm is asked for the limits of its queues, as by `doctor --site`: jobs that could never
    start are refused, each with the limit and what to change.

    \b
    Example:
      swimmy-scale submit jobs/demo.yaml --output demo/run --site cluster/slurm-gpu.yaml
    """
    from swimmy_scale.cluster.driver import Submission
    from swimmy_scale.cluster.site import load_site
    from swimmy_scale.method.job import Job, load_job

    submission = Submission(load_job(job_path, Job), load_site(site_path), output.absolute(), n_chained, unchecked)
    if print_job_script:
        for path, text in submission.printed().items():
            click.echo(f"# {path}\n{text}")
        return
    job_ids = submission.submit()
    click.echo("\n".join(job_ids))
    click.echo(f"follow it with: swimmy-scale status {output}", err=True)


@main.command("status")
@click.argument("run", type=PATH)
@json_option
def status_command(run: Path, as_json: bool) -> None:
    """Say how far the run directory RUN is, and what became of its batch jobs.

    It asks SLURM for the jobs of a run that was submitted; elsewhere it goes by the files, wherever they can be seen.
    It changes nothing.

    \b
    Example:
      swimmy-scale status demo/run
    """
    from rich.console import Console

    from swimmy_scale.cli.console import table_of
    from swimmy_scale.cli.progress import describe_record, read_record
    from swimmy_scale.cluster.job_states import look
    from swimmy_scale.storage.run_directory import RunDirectory

    directory = RunDirectory.existing(run)
    rows, record = directory.status(), read_record(directory.log.progress)
    queue = look(directory)
    if as_json:
        click.echo(json.dumps({"stages": rows, "driver": record, "queue": queue.to_json()}))
        return
    numbers = ("n_tasks", "n_objects", "n_quarantined")
    cells = (
        (row["stage"], "yes" if row["finished"] else "no", *(f"{row[name]:,}" for name in numbers)) for row in rows
    )
    console = Console()
    console.print(table_of(("stage", "finished", "tasks", "objects", "quarantined"), cells))
    job_id = record["job_id"] if record else ""
    told_by = job_id if record and record["state"] != "running" else ""
    is_alive = queue.is_alive(job_id) if job_id else None
    record_lines = () if record is None and queue.jobs else describe_record(record, is_alive)
    for line in (*queue.lines(told_by), *record_lines):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@main.command("verify")
@click.argument("output", metavar="RUN", type=PATH)
@site_option
@worker_option
def verify_command(output: Path, site_path: Path | None, n_workers: int | None) -> None:
    """Compare every byte of RUN with its receipts: a run directory, or what `ingest`, `train` or `score` made.

    Damaged or missing files are listed, one a line; the command that made them then repairs just these.

    \b
    Example:
      swimmy-scale verify demo/run
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import executor_for
    from swimmy_scale.cluster.signals import driver_signals
    from swimmy_scale.stages.verify import Verifier
    from swimmy_scale.storage.run_directory import RunDirectory, ledger_beside

    output = output.absolute()
    site = site_from(site_path, n_workers)
    place = output if RunDirectory(output).exists() else ledger_beside(output, "").folder
    with Watch() as watch, driver_signals():
        damage = Verifier(executor_for(site, n_workers, place, say, with_tensorflow=False), watch).output(output)
    for item in damage:
        click.echo(f"{item.path}: {item.reason} ({item.stage} {item.name})")
    if damage:
        raise SwimmyError(
            f"{len(damage)} damaged or missing. Give the command that made them again: it repairs just these."
        )
    click.echo("every file is as its receipt says")
