"""Commands to look at any object of a finished run: show, cutouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale.cli.program import PATH, cutouts_option, json_option, main, was_given

if TYPE_CHECKING:
    from swimmy_scale.results.looking.objects import Answer
    from swimmy_scale.storage.selection import SelectedRun

GROUPS = ("known", "comparison", "below", "negative")


def ids_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--ids``, beside ids on the command line."""
    help_text = "Further ids: a text of one a line, or a table with a column object_id, such as vetted.fits."
    return click.option("--ids", "ids_path", type=PATH, help=help_text)(command)


def object_ids(words: Sequence[str], ids_path: Path | None) -> list[int]:
    """The object_ids of a command line and of a file, each once."""
    from swimmy_scale.storage.id_files import parse_id, read_ids

    given = [parse_id(word, "ID") for word in words]
    return list(dict.fromkeys([*given, *(read_ids(ids_path) if ids_path else ())]))


@main.command("show")
@click.argument("run", type=PATH)
@click.argument("words", metavar="[ID]...", nargs=-1)
@ids_option
@click.option("--group", "kinds", multiple=True, type=click.Choice(GROUPS),
              help="Also objects of the sample to compare with: of known classes, drawn by lot, just below the cut, or "
              "high but not brighter than expected.")  # fmt: skip
@click.option("--number", "n_each", type=click.IntRange(min=1), default=12, show_default=True,
              help="Objects of a group.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the lot.")
@click.option("--output", type=PATH, help="Draw them: a file that ends in .png, or a folder for one each.")
@cutouts_option
@json_option
def show_command(
    run: Path,
    words: tuple[str, ...],
    ids_path: Path | None,
    kinds: tuple[str, ...],
    n_each: int,
    seed: int,
    output: Path | None,
    cutouts: Path | None,
    as_json: bool,
) -> None:
    """Say of objects of RUN whether they are candidates, and if not, why; and draw them.

    RUN is a run directory, or the folder of a selection from the scores of one.

    \b
    Example:
      swimmy-scale show demo/run 39582418599936035 39582418599936001
      swimmy-scale show demo/run --group known --group below --output compare.png --number 5
    """
    from swimmy_scale.results.looking.groups import groups
    from swimmy_scale.results.looking.objects import answers_by_id, answers_in_order
    from swimmy_scale.storage.selection import SelectedRun

    if not kinds and (was_given("n_each") or was_given("seed")):
        raise click.UsageError("--number and --seed are of the groups that --group names, and none is asked for")
    if not (words or ids_path or kinds):
        raise click.UsageError("name objects: by their ids, by --ids, or by --group")
    selected, ids = SelectedRun.at(run.absolute(), cutouts), object_ids(words, ids_path)
    shown = [("", answers_by_id(selected, ids))] if ids else []
    for group in groups(selected.selection, n_each, seed, tuple(kinds)) if kinds else ():
        answers = answers_in_order(selected, group.rows)
        shown.append((f"{group.title}: {len(answers):,} of {group.n_objects:,}, {group.meaning}", answers))
    if as_json:
        items = [{"group": title, **answer.to_json()} for title, answers in shown for answer in answers]
        click.echo(json.dumps(items, indent=1))
    else:
        for title, answers in shown:
            _print_answers(title, answers)
    if output:
        _draw(selected, [answer for _, answers in shown for answer in answers], output.absolute(), as_json)


def _print_answers(title: str, answers: Sequence[Answer]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console

    from swimmy_scale.cli.console import table_of

    console = Console(highlight=False, markup=False, width=200)
    if title:
        click.echo(f"== {title}")
    for answer in answers:
        known = f" (class {answer.known_class})" if answer.known_class else ""
        click.echo(f"{answer.name or answer.object_id}{known}: {answer.words}")
        head, rows = answer.table()
        if rows and not answer.code:
            console.print(table_of(head, rows, n_left=1, box=SIMPLE_HEAD))


def _draw(selected: SelectedRun, answers: Sequence[Answer], output: Path, as_json: bool) -> None:
    """Draw the objects that have pixels, each once; say which have none."""
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.resources import usable_cores
    from swimmy_scale.results.looking.drawing import draw_objects
    from swimmy_scale.results.looking.objects import NO_ROW
    from swimmy_scale.results.looking.pixels import reconstruction_of

    has_pixels = {answer.row: answer for answer in answers if answer.row != NO_ROW and not answer.code}
    for answer in answers:
        if answer.row not in has_pixels:
            click.echo(f"swimmy-scale: {answer.object_id} has no pixels to draw", err=True)
    if not has_pixels:
        return
    simulated = selected.selection.simulated
    reconstruction = reconstruction_of(selected, usable_cores())
    with Watch() as watch, watch.counting("show", "objects") as told:
        paths = draw_objects(output, list(has_pixels.values()), selected.cutouts, reconstruction, told,
                             simulated=simulated)  # fmt: skip
    for path in paths:
        click.echo(str(path), err=as_json)


@main.command("cutouts")
@click.argument("run", type=PATH)
@click.argument("words", metavar="[ID]...", nargs=-1)
@ids_option
@click.option("--candidates", "of_candidates", is_flag=True, help="All candidates of the first level, in place of ids.")
@click.option("--level", help="The candidates of this level, such as 3sigma, in place of ids.")
@click.option("--reconstruction", "with_reconstruction", is_flag=True,
              help="Also what the network is given, what it makes of it, and the residual.")  # fmt: skip
@click.option("--output", type=PATH, required=True, help="The folder to make.")
@cutouts_option
def cutouts_command(
    run: Path,
    words: tuple[str, ...],
    ids_path: Path | None,
    of_candidates: bool,
    level: str | None,
    with_reconstruction: bool,
    output: Path,
    cutouts: Path | None,
) -> None:
    """Write FITS cutouts of objects of RUN, with regions for DS9 and target lists.

    RUN is a run directory, or the folder of a selection from the scores of one.

    OBJECT_ID.fits has an HDU for each band: counts, world coordinates, FWHM and zero point. Beside the files are
    candidates.reg (objects.reg of ids), targets.csv and targets.fits, with positions in degrees and in base 60.

    \b
    Example:
      swimmy-scale cutouts demo/run --candidates --output cutouts/
      swimmy-scale cutouts demo/run --ids vetted/vetted.fits --output vetted-cutouts/
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.resources import usable_cores
    from swimmy_scale.results.looking.export import candidate_rows_at, rows_with_pixels, write_cutouts
    from swimmy_scale.results.words import counted
    from swimmy_scale.storage.selection import SelectedRun

    by_level = of_candidates or level is not None
    if by_level == bool(words or ids_path):
        raise click.UsageError("name objects either by --candidates or --level, or by ids or --ids")
    selected = SelectedRun.at(run.absolute(), cutouts)
    selection = selected.selection
    rows = candidate_rows_at(selection, level) if by_level else rows_with_pixels(selection, object_ids(words, ids_path))
    name, output = "candidates" if by_level else "objects", output.absolute()
    with Watch() as watch, watch.counting("cutouts", "objects") as told:
        paths = write_cutouts(selected, rows, output, name, told, with_reconstruction=with_reconstruction,
                              n_threads=usable_cores())  # fmt: skip
    click.echo(f"{output}: {counted(len(rows), 'object')}")
    for path in paths:
        click.echo(str(path))
