"""Tables on the terminal, and what a finished run prints. It holds no command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from swimmy_scale.errors import interpreter, typed
from swimmy_scale.stages.notices import shown
from swimmy_scale.storage.run_directory import RunDirectory

_UNBOUNDED = 100_000
"""Columns of text that is no terminal's: nothing is cut or wrapped in files, pipes and logs."""


class Output(Console):
    """The console of stdout: as wide as the terminal, and without an end elsewhere."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False)
        if not self.is_terminal:
            self.width = _UNBOUNDED

    def on_broken_pipe(self) -> NoReturn:
        """Let the program end as it does when any other output is closed."""
        raise BrokenPipeError


def table_of(
    head: Sequence[str],
    rows: Iterable[Iterable[str]],
    title: str | None = None,
    n_left: int | None = None,
    **style: Any,
) -> Table:
    """A table in rich's style; columns after the first ``n_left``, if it is given, are flush right."""
    table = Table(title=title, title_justify="left", **style)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if n_left is None or index < n_left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def print_table(
    console: Console,
    head: Sequence[str],
    rows: Iterable[Iterable[str]],
    title: str | None = None,
    n_left: int | None = None,
    **style: Any,
) -> None:
    """Print a table of which no name or number is cut.

    What is too wide for the terminal is printed in several tables, each with the first column.
    """
    body = [list(row) for row in rows]
    for block, width in _blocks([[name, *(row[k] for row in body)] for k, name in enumerate(head)], console.width):
        cells = ([row[k] for k in block] for row in body)
        # The first column of a later block is flush left as in the first one.
        left = n_left if n_left is None else sum(k < n_left for k in block)
        table = table_of([head[k] for k in block], cells, title, left, **style)
        if width > console.width:  # rich would cut it; the terminal breaks its lines, and cuts nothing
            table.width = width
        console.print(table, crop=False)
        title = None


def _blocks(columns: Sequence[Sequence[str]], width: int) -> Iterator[tuple[list[int], int]]:
    """Numbers of the columns that fit side by side, the first one always among them, and their width."""
    widths = [max(len(line) for cell in column for line in cell.split("\n")) + 3 for column in columns]
    block, taken = [0], widths[0] + 1
    for k in range(1, len(widths)):
        if taken + widths[k] > width and len(block) > 1:
            yield block, taken
            block, taken = [0], widths[0] + 1
        block.append(k)
        taken += widths[k]
    yield block, taken


def print_summary(summary: dict[str, Any]) -> None:
    """Print what a run found: its counts, thresholds, and candidates by class."""
    console = Output()
    if summary["simulated"]:
        click.echo("SIMULATED data: made by `swimmy-scale simulate`, nothing here was observed")
    given, scored, quarantined = (summary[key] for key in ("given", "scored", "quarantined"))
    click.echo(f"{given:,} given = {scored:,} scored + {quarantined:,} quarantined")
    for code, number in summary["quarantined_by_code"].items():
        click.echo(f"  {number:,} {code}")
    for addition in summary.get("additions", ()):
        given, scored, quarantined = (addition[key] for key in ("given", "scored", "quarantined"))
        again = f", {addition['superseded']:,} of them in quarantine before" if addition["superseded"] else ""
        click.echo(
            f"  added: {addition['name']}: {given:,} given = {scored:,} scored{again} + {quarantined:,} quarantined"
        )
    click.echo(f"{summary['in_sample']:,} in the sample after the cuts")
    for notice in shown(summary.get("warnings", {})):
        click.echo(f"  warning: {notice}")
    _print_thresholds(console, summary)
    first, selected = next(iter(summary["selected"].items()))
    groups = selected["rows"]["any"]
    head = ["in band", *(f"{group}\n{count['n_objects']:,}" for group, count in groups.items())]
    cells = ([name, *(_selected_cell(counts[group]) for group in groups)] for name, counts in selected["rows"].items())
    print_table(console, head, cells, f"Candidates at {first}, of all objects in each class", n_left=1)


def _print_thresholds(console: Console, summary: dict[str, Any]) -> None:
    """Print the thresholds of this sample; those of another one with the share of this sample that is above them."""
    thresholds, levels = summary["thresholds"], summary["levels"]
    bands = list(next(iter(thresholds.values())))
    if summary["thresholds_from"] == "this sample":
        head, title = ["level", "top", *bands], "Thresholds"
        cells = [
            [level, f"{levels[level]:.4%}", *(f"{value:.5g}" for value in by_band.values())]
            for level, by_band in thresholds.items()
        ]
    else:
        head, title = ["level", *bands], "Thresholds carried over, and the share of this sample above them"
        click.echo(f"thresholds carried over from {summary['thresholds_from']}")
        above = {level: selected["percent_above"] for level, selected in summary["selected"].items()}
        cells = [
            [level, *(_carried_cell(value, above[level].get(band)) for band, value in by_band.items())]
            for level, by_band in thresholds.items()
        ]
    print_table(console, head, cells, title)


def _carried_cell(threshold: float, percent: float | None) -> str:
    return f"{threshold:.5g}" + ("" if percent is None else f" ({percent:.3g}%)")


def _selected_cell(count: dict[str, Any]) -> str:
    """How many objects of a class are candidates, and how much of the class they are."""
    return f"{count['n_selected']:,} " + ("-" if count["percent"] is None else f"{count['percent']:.1f}%")


def paths_of(run: RunDirectory, formats: Sequence[str]) -> dict[str, Any]:
    """Where a run's results are."""
    return {
        "candidates": {name: run.selection.candidates(name) for name in formats},
        "summary": run.selection.summary,
        "quarantine": run.quarantine,
        "picture": run.picture,
        "scores": run.scores,
    }


def print_paths(run: RunDirectory, formats: Sequence[str]) -> None:
    """Print where a run's results are, and how to open them."""
    first, *others = formats
    also = f" (also {', '.join('.' + name for name in others)})" if others else ""
    code = f"import swimmy_scale; print(swimmy_scale.open_run({json.dumps(str(run.path), ensure_ascii=False)}))"
    click.echo(f"candidates  {run.selection.candidates(first)}{also}")
    click.echo(f"summary     {run.selection.summary}")
    click.echo(f"quarantine  {run.quarantine}")
    click.echo(f"picture     {run.picture}")
    click.echo(f"report      {typed('report', run.path)}")
    click.echo(f"open it     {interpreter()} -c {shlex.quote(code)}")
