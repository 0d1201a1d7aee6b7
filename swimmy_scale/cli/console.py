"""Tables on the terminal, and what a finished run prints. It holds no command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from swimmy_scale.stages.notices import shown
from swimmy_scale.storage.run_directory import RunDirectory


def table_of(
    head: Sequence[str],
    rows: Iterable[Iterable[str]],
    title: str | None = None,
    n_left: int | None = None,
    **style: Any,
) -> Table:
    """A table in rich's style; columns after the first ``n_left``, if it is given, are flush right."""
    table = Table(title=title, **style)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if n_left is None or index < n_left else "right")
    for row in rows:
        table.add_row(*row)
    return table


def print_summary(summary: dict[str, Any]) -> None:
    """Print what a run found: its counts, thresholds, and candidates by class."""
    console = Console(highlight=False)
    if summary["simulated"]:
        console.print("SIMULATED data: made by `swimmy-scale simulate`, nothing here was observed")
    given, scored, quarantined = (summary[key] for key in ("given", "scored", "quarantined"))
    console.print(f"{given:,} given = {scored:,} scored + {quarantined:,} quarantined")
    for code, number in summary["quarantined_by_code"].items():
        console.print(f"  {number:,} {code}")
    for addition in summary.get("additions", ()):
        given, scored, quarantined = (addition[key] for key in ("given", "scored", "quarantined"))
        again = f", {addition['superseded']:,} of them in quarantine before" if addition["superseded"] else ""
        click.echo(
            f"  added: {addition['name']}: {given:,} given = {scored:,} scored{again} + {quarantined:,} quarantined"
        )
    console.print(f"{summary['in_sample']:,} in the sample after the cuts")
    for notice in shown(summary.get("warnings", {})):
        click.echo(f"  warning: {notice}")
    thresholds, levels = summary["thresholds"], summary["levels"]
    head = ["level", "top", *next(iter(thresholds.values()))]
    cells = (
        [level, f"{levels[level]:.4%}", *(f"{value:.5g}" for value in by_band.values())]
        for level, by_band in thresholds.items()
    )
    console.print(table_of(head, cells, "Thresholds", title_justify="left"))
    first, selected = next(iter(summary["selected"].items()))
    groups = selected["rows"]["any"]
    head = ["in band", *(f"{group}\n{count['n_objects']:,}" for group, count in groups.items())]
    cells = ([name, *(_selected_cell(counts[group]) for group in groups)] for name, counts in selected["rows"].items())
    title = f"Candidates at {first}, of all objects in each class"
    console.print(table_of(head, cells, title, n_left=1, title_justify="left"))


def _selected_cell(count: dict[str, Any]) -> str:
    """How many objects of a class are candidates, and how much of the class they are."""
    return f"{count['n_selected']:,} " + ("-" if count["percent"] is None else f"{count['percent']:.1f}%")


def print_paths(run: RunDirectory, formats: Sequence[str]) -> None:
    """Print where a run's results are, and how to open them."""
    first, *others = formats
    also = f" (also {', '.join('.' + name for name in others)})" if others else ""
    click.echo(f"candidates  {run.selection.candidates(first)}{also}")
    click.echo(f"summary     {run.selection.summary}")
    click.echo(f"quarantine  {run.quarantine}")
    click.echo(f"picture     {run.picture}")
    click.echo(f"report      swimmy-scale report {run.path}")
    click.echo(f"open it     python -c \"import xarray; print(xarray.open_zarr('{run.scores}'))\"")
