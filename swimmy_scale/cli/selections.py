"""Commands about several selections: compare."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from swimmy_scale.cli.program import PATH, json_option, main

if TYPE_CHECKING:
    from swimmy_scale.results.comparison import Comparison, Difference

MAX_SHOWN = 20


@main.command("compare")
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--level", help="Compare at this level.  [default: the first that both have]")
@click.option("--output", type=PATH, help="Write every difference to this CSV file.")
@click.option("--rows", "n_rows", type=click.IntRange(min=0), default=MAX_SHOWN, show_default=True,
              help="Print at most this many that went, and that came.")  # fmt: skip
@json_option
def compare_command(
    first: Path, second: Path, level: str | None, output: Path | None, n_rows: int, as_json: bool
) -> None:
    """Say which candidates of the selection FIRST went and which came in SECOND, and why.

    Each is a run directory, for its own selection, or the folder of a selection. Objects are told apart by their
    object_id, so that selections of different runs can be compared.

    \b
    Example:
      swimmy-scale compare demo/run/selections/earlier-1 demo/run
      swimmy-scale compare runs/wide runs/deep --level 3sigma --output differences.csv
    """
    from swimmy_scale.results.comparison import compare
    from swimmy_scale.storage.files import write_atomically
    from swimmy_scale.storage.selection import SelectedRun

    one, other = (SelectedRun.at(path.absolute()) for path in (first, second))
    found = compare(one, other, level)
    if output is not None:
        text = io.StringIO(newline="")
        columns, rows = found.table()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        write_atomically(output, text.getvalue().encode())
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    _print(found, first, second, n_rows)
    if output is not None:
        click.echo(f"all {len(found.differences):,} in {output}")


def _print(found: Comparison, first: Path, second: Path, n_rows: int) -> None:
    n_went, n_came = found.n_first - found.n_both, found.n_second - found.n_both
    click.echo(f"{first}: {found.n_first:,} candidates at {found.level} = {found.n_both:,} in both + {n_went:,} went")
    click.echo(f"{second}: {found.n_second:,} candidates at {found.level} = {found.n_both:,} in both + {n_came:,} came")
    click.echo("both cut the same scores" if found.same_scores else "they cut different scores")
    for band, (before, after) in found.thresholds.items():
        click.echo(f"threshold {band}: {before:.5g} and {after:.5g}")
    for change, path in (("went", second), ("came", first)):
        items = [item for item in found.differences if item.change == change]
        if items:
            reasons = ", ".join(f"{number:,} {kind}" for kind, number in found.counts(change).most_common())
            click.echo(f"{len(items):,} {change}; in {path}: {reasons}")
            _print_some(items, n_rows)


def _print_some(items: Sequence[Difference], n_rows: int) -> None:
    for item in items[:n_rows]:
        known = f" (class {item.row()[4]})" if item.row()[4] else ""
        click.echo(f"  {item.name or item.answer.object_id}{known}: {item.answer.words}")
    if len(items) > n_rows:
        click.echo(f"  and {len(items) - n_rows:,} more, see --rows and --output")
