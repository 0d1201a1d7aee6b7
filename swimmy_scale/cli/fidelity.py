"""Command that holds a run against the paper's numbers: fidelity."""

from __future__ import annotations

from pathlib import Path

import click

from swimmy_scale import __version__
from swimmy_scale.cli.program import PATH, main


@main.command("fidelity")
@click.argument("run", metavar="RUN", type=PATH)
@click.option("--output", type=PATH, help="The page to make. Default: RUN/fidelity.md.")
def fidelity_command(run: Path, output: Path | None) -> None:
    """Write a page of the paper's numbers beside those of the run directory RUN, with a verdict on each.

    It reads what `tables` and `figures` have made of the run.

    \b
    Example:
      swimmy-scale fidelity fidelity/run --output docs/fidelity.md
    """
    from swimmy_scale.characterise.fidelity import claims, found_numbers, page
    from swimmy_scale.characterise.run_data import RunData
    from swimmy_scale.receipts import write_atomically

    data, path = RunData(run), output or run / "fidelity.md"
    write_atomically(path, page(data, __version__).encode())
    for words, theirs, ours, came_out in claims(found_numbers(data)):
        click.echo(f"{'yes' if came_out else 'no ':3} {words}: {ours} (the paper: {theirs})")
    click.echo(str(path))
