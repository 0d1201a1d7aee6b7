"""The command that makes the report of a run."""

from __future__ import annotations

from pathlib import Path

import click

from swimmy_scale.cli.program import PATH, main, threads_each

MAX_CANDIDATES = 10_000


@main.command("report")
@click.argument("run", type=PATH)
@click.option("--output", type=PATH, help="The folder to make.  [default: RUN/report]")
@click.option(
    "--max-candidates",
    type=click.IntRange(min=1),
    default=MAX_CANDIDATES,
    show_default=True,
    help="Show the strongest so many; about 13 kB of disk each.",
)
def report_command(run: Path, output: Path | None, max_candidates: int) -> None:
    """Make the report of the run directory RUN: a folder whose index.html opens in any browser, without a network.

    \b
    Example:
      swimmy-scale report demo/run
    """
    from swimmy_scale.job import Job, load_job
    from swimmy_scale.progress import Watch
    from swimmy_scale.stages.report import write_report
    from swimmy_scale.stages.run import Run, receipts_folder

    run = run.absolute()
    receipts_folder(run)
    output = output.absolute() if output else run / "report"
    directory = Run(run, load_job(run / "job.yaml", Job), threads_each(0))
    with Watch() as watch:
        n_shown, n_candidates = write_report(directory, output, max_candidates, watch)
    which = f"the strongest {n_shown:,} of {n_candidates:,}" if n_shown < n_candidates else f"{n_shown:,}"
    click.echo(f"{output / 'index.html'}: {which} candidates")
