"""The command that lets a run grow: add."""

from __future__ import annotations

from pathlib import Path

import click

from swimmy_scale.cli.program import PATH, json_option, main, site_option, worker_option
from swimmy_scale.cli.runs import print_end, run_here, say


@main.command("add")
@click.argument("run", type=PATH)
@click.option("--catalog", type=PATH, help="The catalogue of the new objects, described as in the run's job. Without "
              "it, files for objects of the run's own catalogue that have no usable pixels yet.")  # fmt: skip
@click.option("--patch-qa", type=PATH, help="Seeing and depth of its patches. Default: that of the job.")
@click.option("--source", "sources", type=PATH, multiple=True, required=True,
              help="Where the pixels are: a folder, tar, coadd or cube; give it once for each.")  # fmt: skip
@click.option("--name", help="What the summary calls it. Default: addition-1, addition-2, ...")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would be added.")
@site_option
@worker_option
@json_option
def add_command(
    run: Path,
    catalog: Path | None,
    patch_qa: Path | None,
    sources: tuple[Path, ...],
    name: str | None,
    only_plan: bool,
    site_path: Path | None,
    n_workers: int | None,
    as_json: bool,
) -> None:
    """Add objects, or files that came late, to the run directory RUN, and select anew.

    What is there is not done again: new objects become further partitions, and are scored by the same weights. The
    thresholds of the sample are made anew. Given again after an interruption it goes on.

    \b
    Example:
      swimmy-scale add demo/run --catalog night2.fits --source night2/ --name night-2
      swimmy-scale add demo/run --source late/
    """
    from swimmy_scale.stages.grow import Addable

    if patch_qa is not None and catalog is None:
        raise click.UsageError("--patch-qa belongs to --catalog")
    addable = Addable.at(run.absolute())
    job, is_new = addable.with_addition(catalog, patch_qa, sources, name)
    if is_new:
        say(addable.look_ahead(job))
    if not only_plan:
        print_end(addable.directory, job, run_here(job, addable.directory, site_path, n_workers), as_json)
