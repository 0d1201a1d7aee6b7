"""Commands of training campaigns: weight-sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale.cli.program import PATH, main

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_ROWS = 20


def table_path(run: Path) -> Path:
    """The table of a run directory, or of a folder of models that `train` made alone."""
    from swimmy_scale.weight_set_table import TABLE_NAME

    alone = run / TABLE_NAME
    return alone if alone.is_file() else run / "models" / TABLE_NAME


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

    from swimmy_scale.weight_set_table import best_first, by_network, csv_text, read_table

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

    from swimmy_scale.weight_set_table import by_network, tried_values

    tried = Table("parameter", "tried values", title="table 5")
    for name, values in tried_values(table).items():
        tried.add_row(name, ", ".join(f"{value:g}" for value in values))
    console.print(tried)
    networks = by_network(table)
    shown = Table(*networks.colnames, title="by network")
    for row in networks:
        shown.add_row(*(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(shown)
