"""The command that makes the report of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale import __version__
from swimmy_scale.cli.program import EXIT_FAILED, PATH, main

if TYPE_CHECKING:
    from rich.console import Console

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
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.resources import usable_cores
    from swimmy_scale.results.report.gather import write_report
    from swimmy_scale.storage.run_directory import RunDirectory

    directory = RunDirectory.existing(run.absolute())
    output = output.absolute() if output else directory.report
    with Watch() as watch, watch.counting("report", "candidates") as told:
        n_shown, n_candidates = write_report(directory, output, max_candidates, told, usable_cores())
    which = f"the strongest {n_shown:,} of {n_candidates:,}" if n_shown < n_candidates else f"{n_shown:,}"
    click.echo(f"{output / 'index.html'}: {which} candidates")


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
    from swimmy_scale.results.paper.registry import FIGURES, Options, draw_figures
    from swimmy_scale.results.paper.run_data import MissingError, RunData

    if only_list:
        for name, kind in FIGURES.items():
            click.echo(f"{name:24} figure {kind.number:2}: {kind.line}")
        return
    if run is None:
        raise click.UsageError("Missing argument 'RUN'; --list alone needs none.")
    data, n_missing = RunData(run), 0
    drawn = draw_figures(data, names or FIGURES, Options(spectra, how, object_id), output or data.files.figures)
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
    from swimmy_scale.results.paper.registry import write_tables
    from swimmy_scale.results.paper.run_data import MissingError, RunData
    from swimmy_scale.results.paper.tables import TABLES, TITLES

    data, n_missing = RunData(run), 0
    if data.simulated:
        click.echo("SIMULATED data: made by `swimmy-scale simulate`, nothing here was observed")
    written = write_tables(data, names or TABLES, output or data.files.tables)
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
    from swimmy_scale.cli.progress import Watch

    found = []
    with Watch() as watch, watch.counting(what, what) as told:
        told(0, n_outcomes)
        for outcome in outcomes:
            found.append(outcome)
            told(len(found), n_outcomes)
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


@main.command("fidelity")
@click.argument("run", metavar="RUN", type=PATH)
@click.option("--output", type=PATH, help="The page to make. Default: RUN/fidelity.md.")
@click.option("--json", "json_path", type=PATH, help="Write what the page says as JSON, too.")
def fidelity_command(run: Path, output: Path | None, json_path: Path | None) -> None:
    """Write a page of the paper's numbers beside those of the run directory RUN, with a verdict on each.

    It reads what `tables` and `figures` have made of the run.

    \b
    Example:
      swimmy-scale fidelity demo/run --json numbers.json
    """
    from swimmy_scale.results.paper.fidelity import claims, measure
    from swimmy_scale.results.paper.fidelity_page import numbers_of, page
    from swimmy_scale.results.paper.run_data import RunData
    from swimmy_scale.storage.files import write_atomically, write_json

    data = RunData(run)
    path = output or data.files.fidelity_page
    facts = measure(data, __version__)
    write_atomically(path, page(facts).encode())
    if json_path is not None:
        write_json(json_path, facts)
    for words, theirs, ours, came_out in claims(numbers_of(facts)):
        click.echo(f"{'yes' if came_out else 'no ':3} {words}: {ours} (the paper: {theirs})")
    for made in (path, json_path):
        if made is not None:
            click.echo(str(made))


DEFAULT_ROWS = 20


def table_path(run: Path) -> Path:
    """The table of a run directory, or of a folder of models that `train` made alone."""
    from swimmy_scale.storage.run_directory import ModelsFolder, RunDirectory

    alone = ModelsFolder(run).table
    return alone if alone.is_file() else RunDirectory(run).models.table


@main.command("weight-sets")
@click.argument("run", type=PATH)
@click.option("--csv", "as_csv", is_flag=True, help="Every weight set and column, for programs.")
@click.option("--rows", "n_rows", type=click.IntRange(min=1), default=DEFAULT_ROWS, show_default=True,
              help="So many of the best are shown.")  # fmt: skip
def weight_sets_command(run: Path, as_csv: bool, n_rows: int) -> None:
    """Show how the weight sets of RUN were judged, the best first; where there is a grid, in table 5's form, too.

    RUN is a run directory, or a folder of models that `train` made.

    \b
    Example:
      swimmy-scale weight-sets demo/campaign
      swimmy-scale weight-sets demo/campaign --csv > weight_sets.csv
    """
    from rich.console import Console

    from swimmy_scale.storage.weight_set_table import best_first, by_network, csv_text, read_table

    table = best_first(read_table(table_path(run)))
    if as_csv:
        click.echo(csv_text(table), nl=False)
        return
    console = Console(width=None if Console().is_terminal else 160)
    _print_rows(console, table, n_rows)
    if len(by_network(table)) > 1:
        _print_grid(console, table)


def _print_rows(console: Console, table: Any, n_rows: int) -> None:
    from rich.table import Table

    known, rule = table.meta.get("known_classes", []), table.meta["choose"]
    names = ["run", "epoch", "d", "noise", "val_loss", *(f"r_sel({name})" for name in known)]
    shown = Table("rank", *names, *(["sum"] if known else []), "chosen by")
    for row in table[:n_rows]:
        values = [str(row[f"rank_by_{rule}"]), str(row["run"]), str(row["epoch"]), str(row["latent_filters"])]
        values += [f"{row['noise']:g}", f"{row['val_loss']:.6f}"]
        values += [f"{row[f'n_selected_{name}']}/{row[f'n_{name}']} = {row[f'r_sel_{name}']:.3f}" for name in known]
        values += [f"{row['r_sel_sum']:.3f}"] if known else []
        rules = [name for name in ("validation_loss", "known_classes") if f"chosen_by_{name}" in table.colnames]
        values.append(", ".join(name for name in rules if row[f"chosen_by_{name}"]))
        shown.add_row(*values)
    console.print(shown)
    judged = f", judged at {table.meta['level']} of {table.meta['n_threshold_objects']:,} objects" if known else ""
    more = f"; {len(table) - n_rows:,} more, see --rows and --csv" if len(table) > n_rows else ""
    console.print(f"{len(table):,} weight sets, chosen by {rule}{judged}{more}", highlight=False, soft_wrap=True)


def _print_grid(console: Console, table: Any) -> None:
    from rich.table import Table

    from swimmy_scale.storage.weight_set_table import by_network, tried_values

    tried = Table("parameter", "tried values", title="table 5")
    for name, values in tried_values(table).items():
        tried.add_row(name, ", ".join(f"{value:g}" for value in values))
    console.print(tried)
    networks = by_network(table)
    shown = Table(*networks.colnames, title="by network")
    for row in networks:
        shown.add_row(*(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(shown)
