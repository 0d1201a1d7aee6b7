"""What a finished run prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from swimmy_scale.storage.run_directory import RunDirectory


def print_summary(summary: dict[str, Any]) -> None:
    """The short table of a run."""
    console = Console(highlight=False)
    if summary["simulated"]:
        console.print("SIMULATED data: made by `swimmy-scale simulate`, nothing here was observed")
    given, scored, quarantined = (summary[key] for key in ("given", "scored", "quarantined"))
    console.print(f"{given:,} given = {scored:,} scored + {quarantined:,} quarantined")
    for code, number in summary["quarantined_by_code"].items():
        console.print(f"  {number:,} {code}")
    console.print(f"{summary['in_sample']:,} in the sample after the cuts")
    bands = list(next(iter(summary["thresholds"].values())))
    table = Table("level", "top", *bands, title="Thresholds", title_justify="left")
    for level, by_band in summary["thresholds"].items():
        table.add_row(level, f"{summary['levels'][level]:.4%}", *(f"{value:.5g}" for value in by_band.values()))
    console.print(table)
    first = next(iter(summary["selected"]))
    rows = summary["selected"][first]["rows"]
    sizes = {group: count["n_objects"] for group, count in rows["any"].items()}
    table = Table("in band", title=f"Candidates at {first}, of all objects in each class", title_justify="left")
    for group, size in sizes.items():
        table.add_column(f"{group}\n{size:,}", justify="right")
    for name, counts in rows.items():
        table.add_row(name, *(selected_cell(counts[group]) for group in sizes))
    console.print(table)


def selected_cell(count: dict[str, Any]) -> str:
    """One cell of the table of candidates: how many, and how much of the class."""
    return f"{count['n_selected']:,} " + ("-" if count["percent"] is None else f"{count['percent']:.1f}%")


def print_paths(run: RunDirectory, formats: Sequence[str]) -> None:
    """Where the results are and how to open them."""
    first, *others = formats
    also = f" (also {', '.join('.' + name for name in others)})" if others else ""
    click.echo(f"candidates  {run.selection.candidates(first)}{also}")
    click.echo(f"summary     {run.selection.summary}")
    click.echo(f"quarantine  {run.quarantine}")
    click.echo(f"picture     {run.picture}")
    click.echo(f"report      swimmy-scale report {run.path}")
    click.echo(f"open it     python -c \"import xarray; print(xarray.open_zarr('{run.scores}'))\"")
