"""Commands that show a finished run: report, figures, tables, fidelity, weight-sets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale import __version__
from swimmy_scale.cli.batch import batch_job_option
from swimmy_scale.cli.program import (
    EXIT_FAILED,
    PATH,
    WholeNumber,
    cutouts_option,
    json_option,
    main,
    print_json,
    was_given,
)
from swimmy_scale.method.words import counted

if TYPE_CHECKING:
    from rich.console import Console

    from swimmy_scale.results.paper.run_data import MissingError

MAX_CANDIDATES = 10_000


@main.command("report")
@click.argument("run", type=PATH)
@click.option("--output", type=PATH, help="The folder to make.  [default: RUN/report]")
@cutouts_option
@click.option(
    "--max-candidates",
    type=WholeNumber(min=1),
    default=MAX_CANDIDATES,
    show_default=True,
    help="Show only this many, the strongest; each takes about 12 kB of disk.",
)
@click.option("--map", "map_kind", type=click.Choice(["pca", "umap"]), default="pca", show_default=True,
              help="The map: principal components, or UMAP, which needs umap-learn.")  # fmt: skip
@json_option
@batch_job_option
def report_command(
    run: Path, output: Path | None, cutouts: Path | None, max_candidates: int, map_kind: Any, as_json: bool
) -> None:
    """Make the report of RUN: a folder whose index.html opens in any browser, without a network.

    RUN is a run directory, or the folder of a selection from the scores of one.

    \b
    Example:
      swimmy-scale report demo/run
      swimmy-scale report demo/run/selections/strict
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.resources import usable_cores
    from swimmy_scale.results.report.gather import write_report
    from swimmy_scale.storage.selection import SelectedRun

    with Watch() as watch, watch.counting("report", "candidates") as told:
        selected = SelectedRun.at(run.absolute(), cutouts and cutouts.absolute())
        made, n_shown, n_candidates = write_report(
            selected, output and output.absolute(), max_candidates, told, usable_cores(), map_kind
        )
    page = made / "index.html"
    if as_json:
        print_json({"page": page, "n_shown": n_shown, "n_candidates": n_candidates})
        return
    strongest = f"the strongest {n_shown:,} of " if n_shown < n_candidates else ""
    click.echo(f"{page}: {strongest}{counted(n_candidates, 'candidates')}")


@main.command("figures")
@click.argument("run", metavar="[RUN]", type=PATH, required=False)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Print the figures' names, and draw nothing.")
@click.option("--spectra", type=PATH, help="Folder of SDSS spectra, spec-PLATE-MJD-FIBER.fits, for stacked-spectra.")
@click.option("--stack", "how", type=click.Choice(["median", "mean"]), default="median", show_default=True,
              help="How spectra are stacked; mean weights by inverse variance.")  # fmt: skip
@click.option("--object", "object_id", type=int, help="object_id of the object that stretch shows.")
@click.option("--output", type=PATH, help="Folder to write to. Default: RUN/figures.")
@cutouts_option
@json_option
@batch_job_option
def figures_command(
    run: Path | None,
    names: tuple[str, ...],
    only_list: bool,
    spectra: Path | None,
    how: Any,
    object_id: int | None,
    output: Path | None,
    cutouts: Path | None,
    as_json: bool,
) -> None:
    """Draw the paper's figures of RUN: NAME.png, NAME.pdf, and the numbers in NAME.ecsv.

    RUN is a run directory, or the folder of a selection from the scores of one.

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
        if as_json:
            print_json(
                {"figures": {name: {"number": kind.number, "line": kind.line} for name, kind in FIGURES.items()}}
            )
            return
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
    data = RunData(run, cutouts)
    drawn = draw_figures(data, chosen, Options(spectra, how, object_id), output or data.folder.figures)
    made, missing = _made("figures", drawn, len(chosen))
    if as_json:
        print_json({"figures": {name: {"files": list(paths)} for name, paths in made}, "missing": missing})
    else:
        for name, paths in made:
            click.echo(f"{name:24} {paths[0]}")
    _exit_for_missing(names, missing)


@main.command("tables")
@click.argument("run", metavar="RUN", type=PATH)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--output", type=PATH, help="Folder to write to. Default: RUN/tables.")
@cutouts_option
@json_option
@batch_job_option
def tables_command(run: Path, names: tuple[str, ...], output: Path | None, cutouts: Path | None, as_json: bool) -> None:
    """Print the paper's tables of RUN, and write them whole as ECSV and CSV.

    RUN is a run directory, or the folder of a selection from the scores of one.

    The tables are table-1, table-2, table-3, table-4, table-6 and high-but-negative. Without a NAME all are made that
    can be; what the others lack is said on stderr.

    \b
    Example:
      swimmy-scale tables demo/run
      swimmy-scale tables demo/run table-2 high-but-negative
    """
    from rich.box import SIMPLE_HEAD

    from swimmy_scale.cli.console import Output, print_table
    from swimmy_scale.results.paper.registry import write_tables
    from swimmy_scale.results.paper.run_data import RunData
    from swimmy_scale.results.paper.tables import TABLES, TITLES

    data, chosen = RunData(run, cutouts), names or tuple(TABLES)
    made, missing = _made("tables", write_tables(data, chosen, output or data.folder.tables), len(chosen))
    if as_json:
        tables = {
            name: {"title": TITLES[name], "columns": list(head), "rows": list(rows), "files": list(paths)}
            for name, ((head, rows), paths) in made
        }
        print_json({"simulated": data.simulated, "tables": tables, "missing": missing})
        _exit_for_missing(names, missing)
        return
    if data.simulated:
        click.echo("SIMULATED data: made by `swimmy-scale simulate`, nothing here was observed")
    console = Output()
    for name, ((head, rows), paths) in made:
        print_table(console, head, rows, TITLES[name], n_left=1, box=SIMPLE_HEAD)
        click.echo(f"{name:24} {paths[0]} (also .csv)\n")
    _exit_for_missing(names, missing)


def _made[T](
    what: str, outcomes: Iterable[tuple[str, T | MissingError]], n_outcomes: int
) -> tuple[list[tuple[str, T]], dict[str, str]]:
    """What could be made, by name, and why others could not; shows how far it is, then says what is missing."""
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.results.paper.run_data import MissingError

    with Watch() as watch:
        watch.start(what, n_outcomes, 0, what)
        found = list(watch.count(outcomes))
        watch.stop(what)
    made, missing = [], {}
    for name, outcome in found:
        if isinstance(outcome, MissingError):
            click.echo(f"swimmy-scale: no {name}: {outcome}", err=True)
            missing[name] = str(outcome)
        else:
            made.append((name, outcome))
    return made, missing


def _exit_for_missing(names: tuple[str, ...], missing: dict[str, str]) -> None:
    """Fail if something is missing that was asked for by name; without names, what a run lacks is no failure."""
    if names and missing:
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
    path = output or data.folder.fidelity_page
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
@click.option("--rows", "n_rows", type=WholeNumber(min=1), default=20, show_default=True,
              help="Show only this many, the best.")  # fmt: skip
def weight_sets_command(run: Path, as_csv: bool, n_rows: int) -> None:
    """Show how the weight sets of RUN were judged, the best first; if there is a grid, also in table 5's form.

    RUN is a run directory, or a folder of models that `train` made.

    \b
    Example:
      swimmy-scale weight-sets demo/campaign
      swimmy-scale weight-sets demo/campaign --csv > weight_sets.csv
    """
    from swimmy_scale.cli.console import Output
    from swimmy_scale.storage.weight_set_table import best_first, by_network, csv_text, read_table

    table = best_first(read_table(_weight_set_path(run)))
    if as_csv:
        click.echo(csv_text(table), nl=False)
        return
    console = Output()
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
    from swimmy_scale.cli.console import print_table

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

    print_table(console, head, map(cells, table[:n_rows]))
    judged = (
        f", judged at {table.meta['level']} of {counted(table.meta['n_threshold_objects'], 'objects')}" if known else ""
    )
    more = f"; {len(table) - n_rows:,} more, see --rows and --csv" if len(table) > n_rows else ""
    click.echo(f"{counted(len(table), 'weight sets')}, chosen by {rule}{judged}{more}")


def _print_grid(console: Console, table: Any) -> None:
    """Print the values that a grid tried, and the best of each network."""
    from swimmy_scale.cli.console import print_table
    from swimmy_scale.storage.weight_set_table import by_network, tried_values

    tried = ((name, ", ".join(f"{value:g}" for value in values)) for name, values in tried_values(table).items())
    print_table(console, ("parameter", "tried values"), tried, "table 5")
    networks = by_network(table)
    rows = ((f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()) for row in networks)
    print_table(console, networks.colnames, rows, "by network")
