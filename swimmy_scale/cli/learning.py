"""Commands that compare objects of a finished run by what they look like: rank, like."""

from __future__ import annotations

import math
from pathlib import Path

import click

from swimmy_scale.cli.program import PATH, WholeNumber, json_option, main, print_json


@main.command("rank")
@click.argument("run", type=PATH)
@click.option("--marks", type=PATH, multiple=True, required=True,
              help="CSV of the report. Several files are merged.")  # fmt: skip
@click.option("--all", "whole_sample", is_flag=True, help="Rank every object of the sample, not the candidates alone.")
@click.option("--output", type=PATH, help="Folder for ranking.csv and ranked.*.  [default: RUN/ranked]")
@click.option("-n", "n_shown", type=WholeNumber(min=0), default=20, show_default=True,
              help="Print this many objects to look at next.")  # fmt: skip
@json_option
def rank_command(
    run: Path, marks: tuple[Path, ...], whole_sample: bool, output: Path | None, n_shown: int, as_json: bool
) -> None:
    """Learn from marks which candidates of RUN are interesting, and in which order to look at them.

    RUN is a run directory, or the folder of a selection from the scores of one. What is marked as interesting is told
    from what is marked as artefact; known, only noted and disputed objects are left out. Mark some of each, export,
    rank, make the report again: it begins with what is most probably interesting. More marks make it better.

    \b
    Example:
      swimmy-scale rank demo/run --marks marks.csv
      swimmy-scale rank demo/run --marks mine.csv --marks hers.csv --all --output ranked/
    """
    from swimmy_scale.results.learning.ranking import count_lines, write_ranked
    from swimmy_scale.results.marks import dispute_lines
    from swimmy_scale.storage.selection import SelectedRun

    learning = write_ranked(SelectedRun.at(run.absolute()), marks, output and output.absolute(), whole_sample)
    unseen = learning.unseen
    if as_json:
        print_json({
            **learning.counts,
            "disputes": learning.disputes,
            "descriptors": learning.has_descriptors,
            "ranked": len(learning.ranked),
            "next": [one._asdict() for one in unseen[:n_shown]],
            "files": learning.files,
        })  # fmt: skip
        return
    for line in (*count_lines(learning), *dispute_lines(learning.disputes)):
        click.echo(line)
    marked = len(learning.ranked) - len(unseen)
    click.echo(f"{len(learning.ranked):,} ranked = {marked:,} marked + {len(unseen):,} to look at")
    for one in unseen[:n_shown]:
        said = "" if math.isnan(one.probability) else f"  {one.probability:.3f} +- {one.uncertainty:.3f}"
        click.echo(f"  {one}{said}")
    for path in learning.files:
        click.echo(str(path))


@main.command("like")
@click.argument("run", type=PATH)
@click.argument("word", metavar="OBJECT_ID")
@click.option("-n", "n_nearest", type=WholeNumber(min=1), default=24, show_default=True, help="How many.")
@click.option("--candidates", "only_candidates", is_flag=True, help="Among the candidates, not the whole sample.")
@json_option
def like_command(run: Path, word: str, n_nearest: int, only_candidates: bool, as_json: bool) -> None:
    """Find the objects of the sample of RUN that look most like one object, nearest first.

    RUN is a run directory, or the folder of a selection from the scores of one. The distance is the root of the mean
    square difference of the residuals by band and ring, each in units of its standard deviation in the sample.

    \b
    Example:
      swimmy-scale like demo/run 39582418599936035
      swimmy-scale like demo/run 39582418599936035 -n 6 --candidates
    """
    from swimmy_scale.results.looking.alike import alike
    from swimmy_scale.results.looking.objects import answers_in_order
    from swimmy_scale.storage.id_files import parse_id
    from swimmy_scale.storage.selection import SelectedRun

    selected = SelectedRun.at(run.absolute())
    found = alike(selected, parse_id(word, "OBJECT_ID"), n_nearest, only_candidates)
    answers = answers_in_order(selected, found.rows)
    pairs = list(zip(answers, found.distance.tolist(), strict=True))
    if as_json:
        print_json({
            "descriptors": found.has_descriptors,
            "like": [{"distance": distance, **answer.to_json()} for answer, distance in pairs],
        })  # fmt: skip
        return
    if not found.has_descriptors:
        click.echo("swimmy-scale: scores.zarr has no descriptors: scores and residuals are compared", err=True)
    for answer, distance in pairs:
        known = f" (class {answer.known_class})" if answer.known_class else ""
        click.echo(f"{distance:8.3f}  {answer.name or answer.object_id}{known}: {answer.words}")
