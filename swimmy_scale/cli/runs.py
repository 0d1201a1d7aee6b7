"""Commands for whole runs: run, plan, submit, status, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale.cli.program import (
    EXIT_NOTHING,
    PATH,
    WholeNumber,
    exit_with,
    json_option,
    main,
    print_json,
    site_option,
    try_again_option,
    worker_option,
)
from swimmy_scale.errors import SwimmyError, typed

if TYPE_CHECKING:
    from swimmy_scale.cluster.site import Site
    from swimmy_scale.method.job import Job
    from swimmy_scale.stages.verify import Verification
    from swimmy_scale.storage.run_directory import RunDirectory


def site_from(path: Path | None, n_workers: int | None) -> Site | None:
    """The site that a file describes, or None without a file."""
    if path is not None and n_workers is not None:
        raise click.UsageError("--workers is for this machine without a site file; a site file says how many itself")
    from swimmy_scale.cluster.site import load_site

    return None if path is None else load_site(path)


@main.command("run")
@click.argument("job_path", metavar="JOB", type=PATH)
@click.option("--output", type=PATH, required=True, help="The run directory.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and done again, and do nothing.")
@try_again_option
@site_option
@worker_option
@json_option
@click.pass_context
def run_command(
    context: click.Context,
    job_path: Path,
    output: Path,
    only_plan: bool,
    try_left_out: bool,
    site_path: Path | None,
    n_workers: int | None,
    as_json: bool,
) -> None:
    """Do everything that the job file JOB says, here and now; run it again to resume.

    With a site file of kind slurm the workers are batch jobs, and this process is their driver; `submit` makes the
    driver a batch job as well.

    \b
    Example:
      swimmy-scale run demo/job.yaml --output demo/run
      swimmy-scale run demo/job.yaml --output demo/run --site demo/site.yaml
    """
    from swimmy_scale.stages.weights_of_run import load_whole_job
    from swimmy_scale.storage.run_directory import RunDirectory

    if only_plan:
        context.invoke(
            plan_command, job_path=job_path, output=output, site_path=site_path, n_workers=n_workers, as_json=as_json
        )
    directory = RunDirectory(output.absolute())
    job = load_whole_job(job_path, directory)
    print_end(directory, job, run_here(job, directory, site_path, n_workers, try_left_out), as_json)


def print_end(directory: RunDirectory, job: Job, summary: dict[str, Any], as_json: bool) -> None:
    """Print what came out of a run, and exit."""
    from swimmy_scale.cli.console import paths_of, print_paths, print_summary

    if as_json:
        print_json({"run": directory.path, "summary": summary, "files": paths_of(directory, job.select.formats)})
    else:
        print_summary(summary)
        print_paths(directory, job.select.formats)
    exit_with(summary["quarantined"])


def run_here(
    job: Job, directory: RunDirectory, site_path: Path | None, n_workers: int | None, try_left_out: bool = False
) -> dict[str, Any]:
    """Run a job; returns its summary."""
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.signals import driver_signals
    from swimmy_scale.library.runs import run_there

    site = site_from(site_path, n_workers)
    with Watch() as watch, driver_signals():
        return run_there(job, directory, site, n_workers, watch, say, try_left_out)


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
      swimmy-scale plan demo/job.yaml
      swimmy-scale plan demo/job.yaml --site demo/site.yaml --json
    """
    from swimmy_scale.library.runs import plan_there
    from swimmy_scale.results.words import duration
    from swimmy_scale.stages.plan import lines
    from swimmy_scale.stages.weights_of_run import load_whole_job
    from swimmy_scale.storage.run_directory import RunDirectory

    directory = RunDirectory((output or Path("no run directory")).absolute())
    job, site = load_whole_job(job_path, directory), site_from(site_path, n_workers)
    plan = plan_there(job, directory, site, n_workers, say)
    if as_json:
        print_json(plan.to_json())
    else:
        for line in lines(plan, duration):
            click.echo(line)
    for problem in plan.problems:
        say(f"nothing would come out: {problem}")
    sys.exit(EXIT_NOTHING if plan.problems else 0)


@main.command("submit")
@click.argument("job_path", metavar="JOB", type=PATH)
@click.option("--output", type=PATH, required=True, help="The run directory, on a file system that all nodes share.")
@click.option("--site", "site_path", type=PATH, required=True, help="A site file of kind slurm (`init` writes one).")
@click.option(
    "--chain",
    "n_chained",
    type=WholeNumber(min=1),
    default=1,
    show_default=True,
    help="Submit this many drivers that follow each other, for sites where jobs may not submit jobs.",
)
@click.option("--print-job-script", is_flag=True, help="Print what would be submitted, and submit nothing.")
@click.option(
    "--unchecked", is_flag=True, help="Submit even jobs that would never start, as far as Slurm's limits say."
)
@try_again_option
def submit_command(
    job_path: Path,
    output: Path,
    site_path: Path,
    n_chained: int,
    print_job_script: bool,
    unchecked: bool,
    try_left_out: bool,
) -> None:
    """Do everything that the job file JOB says in SLURM jobs; prints the driver's job id and returns at once.

    The driver's job submits the workers' jobs, replaces those that are lost, and submits itself again before its
    walltime ends. Give the command again to resume after a failure.

    Before anything is written Slurm is asked for the limits of its queues, as by `doctor --site`: jobs that could never
    start are refused, each with the limit and what to change.

    \b
    Example:
      swimmy-scale submit demo/job.yaml --output demo/run --site demo/site.yaml
    """
    from swimmy_scale.cluster.driver import Submission
    from swimmy_scale.cluster.site import load_site
    from swimmy_scale.stages.weights_of_run import load_whole_job
    from swimmy_scale.storage.run_directory import RunDirectory

    job = load_whole_job(job_path, RunDirectory(output.absolute()))
    submission = Submission(job, load_site(site_path), output.absolute(), n_chained, unchecked, try_left_out)
    if print_job_script:
        for path, text in submission.printed().items():
            click.echo(f"# {path}\n{text}")
        return
    job_ids = submission.submit()
    click.echo("\n".join(job_ids))
    say(f"follow it with: {typed('status', output)}")


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
    from swimmy_scale.cli.console import Output, print_table
    from swimmy_scale.cli.progress import describe_record, read_record
    from swimmy_scale.cluster.job_states import look
    from swimmy_scale.storage.run_directory import RunDirectory

    directory = RunDirectory.existing(run)
    rows, record = directory.status(), read_record(directory.log.progress)
    queue = look(directory)
    if as_json:
        print_json({"stages": rows, "driver": record, "queue": queue.to_json()})
        return
    numbers = ("n_tasks", "n_objects", "n_quarantined")
    cells = (
        (row["stage"], "yes" if row["finished"] else "no", *(f"{row[name]:,}" for name in numbers)) for row in rows
    )
    print_table(Output(), ("stage", "finished", "tasks", "objects", "quarantined"), cells)
    job_id = record["job_id"] if record else ""
    told_by = job_id if record and record["state"] != "running" else ""
    is_alive = queue.is_alive(job_id) if job_id else None
    record_lines = () if record is None and queue.jobs else describe_record(record, is_alive)
    for line in (*queue.lines(told_by), *record_lines):
        click.echo(line)


@main.command("verify")
@click.argument("output", metavar="RUN", type=PATH)
@click.option("--repair", is_flag=True, help="Do again what is damaged or not finished.")
@site_option
@worker_option
@json_option
def verify_command(output: Path, repair: bool, site_path: Path | None, n_workers: int | None, as_json: bool) -> None:
    """Compare every byte of RUN with its receipts: a run directory, or what `ingest`, `train`, `score` or `select`
    made.

    It only reads. Files that are damaged, missing, unreadable or unexpected are listed, one a line, and stages that
    are not finished; the exit status is then 1.

    \b
    Example:
      swimmy-scale verify demo/run
      swimmy-scale verify demo/run --repair
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import executor_for
    from swimmy_scale.cluster.signals import driver_signals
    from swimmy_scale.stages.verify import Verifier
    from swimmy_scale.storage.run_directory import RunDirectory, ledger_beside

    output = output.absolute()
    site = site_from(site_path, n_workers)
    run = RunDirectory(output)
    place = output if run.exists() else ledger_beside(output, "").folder
    with Watch() as watch, driver_signals():
        found = Verifier(executor_for(site, n_workers, place, say, with_tensorflow=False), watch).output(output)
    if as_json:
        print_json(found.to_json())
    else:
        _print_found(found)
    if found.is_sound:
        return
    if not repair:
        raise SwimmyError(_words_for(found, typed("verify", output, "--repair")))
    _repair(found, output, site_path, n_workers, as_json)


def _print_found(found: Verification) -> None:
    for item in found.damage:
        click.echo(f"{item.path}: {item.reason} ({item.stage} {item.name})")
    for path in found.unexpected:
        click.echo(f"{path}: unexpected, no receipt names it")
    for path in found.others:
        click.echo(f"{path}: not made by the program", err=True)
    for stage in found.unfinished:
        click.echo(f"{stage}: not finished")
    if found.is_sound:
        click.echo("every file is as its receipt says")


def _again(found: Verification) -> str:
    """The commands that make damaged reports, figures and tables again; empty if there are none."""
    commands = [f"`{typed(what, folder)}`" for what, folder in found.shown]
    return (
        f"Reports, figures and tables are made again by their own commands: {', '.join(commands)}." if commands else ""
    )


def _words_for(found: Verification, command: str) -> str:
    """How much is wrong, and what to do."""
    n_damaged, n_unexpected, n_unfinished = len(found.damage), len(found.unexpected), len(found.unfinished)
    parts = [f"{n_damaged} damaged, missing or unreadable"] if n_damaged else []
    parts += [f"{n_unexpected} unexpected"] if n_unexpected else []
    parts += [f"{n_unfinished} not finished"] if n_unfinished else []
    by_themselves = {what for what, _ in found.shown}
    stages = [item.stage for item in found.damage] + [stage.rpartition("/")[2] for stage in found.unfinished]
    others = any(stage not in by_themselves for stage in stages)
    remedy = f"`{command}` does again just what is damaged or not finished." if others else ""
    remedy = f"{remedy} {_again(found)}".strip()
    if n_unexpected:
        remedy = f"{remedy} Remove what is unexpected, unless it is yours: nothing reads it.".strip()
    return f"{', '.join(parts)}. {remedy}"


def _repair(found: Verification, output: Path, site_path: Path | None, n_workers: int | None, as_json: bool) -> None:
    """Do again what is damaged or not finished; of a single command's output, say which command does it."""
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.stages import standalone
    from swimmy_scale.storage.files import driver_lock
    from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder, ledger_beside

    run, folder = RunDirectory(output), SelectionFolder(output)
    if not run.exists() and not folder.exists():
        with driver_lock(ledger_beside(output, "").folder, output):
            found.mark()
        raise SwimmyError(f"{output}: marked. Give the command that made it again: it does again just what is damaged.")
    # Before the marks, which take away the receipts that say it.
    selections = run.named_selections() if run.exists() else [folder]
    made = [standalone.HowMade.of(selection) for selection in selections]
    job = (run.frozen_job() or run.load_job()) if run.exists() else None
    with run.lock() if run.exists() else driver_lock(folder.receipts, output):
        found.mark()
    n_quarantined = 0
    if job is not None:
        from swimmy_scale.cli.console import print_paths, print_summary

        summary = run_here(job, run, site_path, n_workers)
        n_quarantined = summary["quarantined"]
        # With --json the one document is what was found.
        if not as_json:
            print_summary(summary)
            print_paths(run, job.select.formats)
    with Watch() as watch:
        for selection in made:
            selection.again(watch)
    if found.shown:
        raise SwimmyError(f"{output}: all else is done again. {_again(found)}")
    exit_with(n_quarantined)
