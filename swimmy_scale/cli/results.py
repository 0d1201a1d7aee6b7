"""Commands that show a finished run: report, figures, tables, fidelity, weight-sets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale import __version__
from swimmy_scale.cli.batch import batch_job_option
from swimmy_scale.cli.program import EXIT_FAILED, PATH, main, was_given

if TYPE_CHECKING:
    from rich.console import Console

    from swimmy_scale.results.paper.run_data import MissingError

MAX_CANDIDATES = 10_000


@main.command("report")
@click.argument("run", type=PATH)
@click.option("--output", type=PATH, help="The folder to make.  [default: RUN/report]")
@click.option(
    "--max-candidates",
    type=click.IntRange(min=1),
    default=MAX_CANDIDATES,
    show_default=True,
    help="Show only this many, the strongest; each takes about 13 kB of disk.",
)
@batch_job_option
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
@click.option("--object", "object_id", type=int, help="object_id of the object that stretch shows.")
@click.option("--output", type=PATH, help="Folder to write to. Default: RUN/figures.")
@batch_job_option
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

    Without a NAME all are drawn that can be; what the others lack is said on stderr.

    \b
    Example:
      swimmy-scale figures --list
      swimmy-scale figures demo/run
      swimmy-scale figures runs/paper stacked-spectra --spectra spectra/
    """
    from swimmy_scale.results.paper.registry import FIGURES, Options, draw_figures
    from swimmy_scale.results.paper.run_data import RunData

    if only_list:
        for name, kind in FIGURES.items():
            click.echo(f"{name:24} figure {kind.number:2}: {kind.line}")
        return
    if run is None:
        raise click.UsageError("Missing argument 'RUN'; --list alone needs none.")
    chosen = names or tuple(FIGURES)
    for option, figure in (("spectra", "stacked-spectra"), ("how", "stacked-spectra"), ("object_id", "stretch")):
        if was_given(option) and figure not in chosen:
            words = {"spectra": "--spectra", "how": "--stack", "object_id": "--object"}[option]
            raise click.UsageError(f"{words} is for the figure {figure}, which is not asked for")
    data = RunData(run)
    drawn = draw_figures(data, chosen, Options(spectra, how, object_id), output or data.files.figures)
    made, n_missing = _made("figures", drawn, len(chosen))
    for name, paths in made:
        click.echo(f"{name:24} {paths[0]}")
    _exit_for_missing(names, n_missing)


@main.command("tables")
@click.argument("run", metavar="RUN", type=PATH)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--output", type=PATH, help="Folder to write to. Default: RUN/tables.")
@batch_job_option
def tables_command(run: Path, names: tuple[str, ...], output: Path | None) -> None:
    """Print the paper's tables of the run directory RUN, and write them whole as ECSV and CSV.

    The tables are table-1, table-2, table-3, table-4, table-6 and high-but-negative. Without a NAME all are made that
    can be; what the others lack is said on stderr.

    \b
    Example:
      swimmy-scale tables demo/run
      swimmy-scale tables demo/run table-2 high-but-negative
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console

    from swimmy_scale.cli.console import table_of
    from swimmy_scale.results.paper.registry import write_tables
    from swimmy_scale.results.paper.run_data import RunData
    from swimmy_scale.results.paper.tables import TABLES, TITLES

    data, chosen = RunData(run), names or tuple(TABLES)
    if data.simulated:
        click.echo("SIMULATED data: made by `swimmy-scale simulate`, nothing here was observed")
    made, n_missing = _made("tables", write_tables(data, chosen, output or data.files.tables), len(chosen))
    # A row stays one line, in a file and in a pipe as well.
    console = Console(highlight=False, markup=False, width=200)
    for name, ((head, rows), paths) in made:
        console.print(table_of(head, rows, TITLES[name], n_left=1, title_justify="left", box=SIMPLE_HEAD))
        click.echo(f"{name:24} {paths[0]} (also .csv)\n")
    _exit_for_missing(names, n_missing)


def _made[T](
    what: str, outcomes: Iterable[tuple[str, T | MissingError]], n_outcomes: int
) -> tuple[list[tuple[str, T]], int]:
    """What could be made, by name, and how many could not; shows how far it is, then says what is missing."""
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.results.paper.run_data import MissingError

    with Watch() as watch:
        watch.start(what, n_outcomes, 0, what)
        found = list(watch.count(outcomes))
        watch.stop(what)
    made = []
    for name, outcome in found:
        if isinstance(outcome, MissingError):
            click.echo(f"swimmy-scale: no {name}: {outcome}", err=True)
        else:
            made.append((name, outcome))
    return made, len(found) - len(made)


def _exit_for_missing(names: tuple[str, ...], n_missing: int) -> None:
    """Fail if something is missing that was asked for by name; without names, what a run lacks is no failure."""
    if names and n_missing:
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


@main.command("weight-sets")
@click.argument("run", type=PATH)
@click.option("--csv", "as_csv", is_flag=True, help="Every weight set and column, for programs.")
@click.option("--rows", "n_rows", type=click.IntRange(min=1), default=20, show_default=True,
              help="Show only this many, the best.")  # fmt: skip
def weight_sets_command(run: Path, as_csv: bool, n_rows: int) -> None:
    """Show how the weight sets of RUN were judged, the best first; if there is a grid, also in table 5's form.

    RUN is a run directory, or a folder of models that `train` made.

    \b
    Example:
      swimmy-scale weight-sets demo/campaign
      swimmy-scale weight-sets demo/campaign --csv > weight_sets.csv
    """
    from rich.console import Console

    from swimmy_scale.storage.weight_set_table import best_first, by_network, csv_text, read_table

    table = best_first(read_table(_weight_set_path(run)))
    if as_csv:
        click.echo(csv_text(table), nl=False)
        return
    console = Console(width=None if Console().is_terminal else 160)
    _print_weight_sets(console, table, n_rows)
    if len(by_network(table)) > 1:
        _print_grid(console, table)


def _weight_set_path(run: Path) -> Path:
    """The table of a run directory, or of a folder of models that `train` made alone."""
    from swimmy_scale.storage.run_directory import ModelsFolder, RunDirectory

    alone = ModelsFolder(run).table
    return alone if alone.is_file() else RunDirectory(run).models.table


def _print_weight_sets(console: Console, table: Any, n_rows: int) -> None:
    """Print the first rows of a `weight_set_table`, and how the whole table was judged."""
    from swimmy_scale.cli.console import table_of

    known, rule = table.meta.get("known_classes", []), table.meta["choose"]
    names = ["run", "epoch", "d", "noise", "val_loss", *(f"r_sel({name})" for name in known)]
    head = ["rank", *names, *(["sum"] if known else []), "chosen by"]
    rules = [name for name in ("validation_loss", "known_classes") if f"chosen_by_{name}" in table.colnames]

    def cells(row: Any) -> Iterator[str]:
        yield from (str(row[name]) for name in (f"rank_by_{rule}", "run", "epoch", "latent_filters"))
        yield from (f"{row['noise']:g}", f"{row['val_loss']:.6f}")
        for name in known:
            yield f"{row[f'n_selected_{name}']}/{row[f'n_{name}']} = {row[f'r_sel_{name}']:.3f}"
        if known:
            yield f"{row['r_sel_sum']:.3f}"
        yield ", ".join(name for name in rules if row[f"chosen_by_{name}"])

    console.print(table_of(head, map(cells, table[:n_rows])))
    judged = f", judged at {table.meta['level']} of {table.meta['n_threshold_objects']:,} objects" if known else ""
    more = f"; {len(table) - n_rows:,} more, see --rows and --csv" if len(table) > n_rows else ""
    console.print(f"{len(table):,} weight sets, chosen by {rule}{judged}{more}", highlight=False, soft_wrap=True)


def _print_grid(console: Console, table: Any) -> None:
    """Print the values that a grid tried, and the best of each network."""
    from swimmy_scale.cli.console import table_of
    from swimmy_scale.storage.weight_set_table import by_network, tried_values

    tried = ((name, ", ".join(f"{value:g}" for value in values)) for name, values in tried_values(table).items())
    console.print(table_of(("parameter", "tried values"), tried, "table 5"))
    networks = by_network(table)
    rows = ((f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()) for row in networks)
    console.print(table_of(networks.colnames, rows, "by network"))
