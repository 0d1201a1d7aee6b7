"""Commands that make the paper's figures and tables of a run: figures, tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from swimmy_scale.cli.program import EXIT_FAILED, PATH, main


@main.command("figures")
@click.argument("run", metavar="[RUN]", type=PATH, required=False)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Print the figures' names, and draw nothing.")
@click.option("--spectra", type=PATH, help="Folder of SDSS spectra, spec-PLATE-MJD-FIBER.fits, for stacked-spectra.")
@click.option("--stack", "how", type=click.Choice(["median", "mean"]), default="median", show_default=True,
              help="How spectra are stacked; mean weights by inverse variance.")  # fmt: skip
@click.option("--object", "object_id", type=int, help="object_id that stretch shows.")
@click.option("--output", type=PATH, help="Folder to write to. Default: RUN/figures.")
def figures_command(
    run: Path | None,
    names: tuple[str, ...],
    only_list: bool,
    spectra: Path | None,
    how: Any,
    object_id: int | None,
    output: Path | None,
) -> None:
    """Draw the paper's figures of the run directory RUN: NAME.png, NAME.pdf, and the numbers in NAME.ecsv.

    Without a NAME all are drawn that can be: what a figure lacks is said on stderr.

    \b
    Example:
      swimmy-scale figures --list
      swimmy-scale figures demo/run
      swimmy-scale figures runs/paper stacked-spectra --spectra spectra/
    """
    from swimmy_scale.characterise.registry import FIGURES, Options, draw_figures
    from swimmy_scale.characterise.run_data import MissingError, RunData

    if only_list:
        for name, kind in FIGURES.items():
            click.echo(f"{name:24} figure {kind.number:2}: {kind.line}")
        return
    if run is None:
        raise click.UsageError("Missing argument 'RUN'; --list alone needs none.")
    folder, n_missing = output or run / "figures", 0
    drawn = draw_figures(RunData(run), names or FIGURES, Options(spectra, how, object_id), folder)
    for name, outcome in _watched("figures", drawn, len(names or FIGURES)):
        if isinstance(outcome, MissingError):
            n_missing += 1
            click.echo(f"swimmy-scale: no {name}: {outcome}", err=True)
        else:
            click.echo(f"{name:24} {outcome[0]}")
    _leave(bool(names), n_missing)


@main.command("tables")
@click.argument("run", metavar="RUN", type=PATH)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--output", type=PATH, help="Folder to write to. Default: RUN/tables.")
def tables_command(run: Path, names: tuple[str, ...], output: Path | None) -> None:
    """Print the paper's tables of the run directory RUN, and write them whole as ECSV and CSV.

    The tables are table-1, table-2, table-3, table-4, table-6 and high-but-negative. Without a NAME all are made that
    can be: what a table lacks is said on stderr.

    \b
    Example:
      swimmy-scale tables demo/run
      swimmy-scale tables demo/run table-2 high-but-negative
    """
    from swimmy_scale.characterise.registry import write_tables
    from swimmy_scale.characterise.run_data import MissingError, RunData
    from swimmy_scale.characterise.tables import TABLES, TITLES

    data, n_missing = RunData(run), 0
    if data.simulated:
        click.echo("SIMULATED data: made by `swimmy-scale simulate`, nothing here was observed")
    written = write_tables(data, names or TABLES, output or run / "tables")
    for name, outcome in _watched("tables", written, len(names or TABLES)):
        if isinstance(outcome, MissingError):
            n_missing += 1
            click.echo(f"swimmy-scale: no {name}: {outcome}", err=True)
            continue
        (head, rows), files = outcome
        _print_table(TITLES[name], head, rows)
        click.echo(f"{name:24} {files[0]} (also .csv)\n")
    _leave(bool(names), n_missing)


def _watched[T](what: str, outcomes: Iterator[T], n_outcomes: int) -> list[T]:
    """All outcomes, once they are there; until then their number is shown."""
    from swimmy_scale.progress import Watch

    found = []
    with Watch() as watch:
        watch.start(what, n_outcomes, 0, unit=what)
        for outcome in outcomes:
            found.append(outcome)
            watch.add(1)
        watch.stop(what)
    return found


def _print_table(title: str, head: list[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # A row is a line, in a file and in a pipe as well.
    Console(highlight=False, markup=False, width=200).print(table)


def _leave(asked_by_name: bool, n_missing: int) -> None:
    """What was asked for by name and is not there is a failure; what a run has not got is none."""
    if asked_by_name and n_missing:
        sys.exit(EXIT_FAILED)
