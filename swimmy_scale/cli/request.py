"""The command that asks HSC's archive for pixels: request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale.cli.program import (
    PATH,
    Number,
    WholeNumber,
    column_options,
    json_option,
    main,
    print_json,
    settings_of,
    settings_option,
)
from swimmy_scale.cli.stages import catalogue_source
from swimmy_scale.method.words import counted

if TYPE_CHECKING:
    from swimmy_scale.stages.request import Asked, Requested


@main.command("request")
@click.argument("catalogue", type=PATH)
@click.option("--output", type=PATH, required=True, help="Folder for the lists.")
@click.option("--downloaded", type=PATH, multiple=True,
              help="A folder or tar of what has come; give it once for each. What it lacks is asked for.")  # fmt: skip
@click.option("--band", "bands", multiple=True, help="A band to ask for; give it once for each. Default: all of the "
              "survey.")  # fmt: skip
@click.option("--release", type=click.Choice(["pdr3", "pdr2", "dr4"]), default="pdr3", show_default=True,
              help="Release of the archive; dr4 is the collaboration's.")  # fmt: skip
@click.option("--rerun", help="Rerun of the release.  [default: pdr3_wide, pdr2_wide, s23b_wide]")
@click.option("--type", "kind", type=click.Choice(["coadd", "coadd/bg"]), default="coadd", show_default=True,
              help="coadd/bg still has its sky, which equation 1 takes as subtracted.")  # fmt: skip
@click.option("--size", "size_px", type=WholeNumber(min=1), help="Side of the cutouts in pixels.  [default: 2 more "
              "than the survey's 64]")  # fmt: skip
@click.option("--limit", "n_lines", type=WholeNumber(min=1), default=990, show_default=True,
              help="Lines of a list; the public service takes 1,000.")  # fmt: skip
@click.option("--rate", "files_per_second", type=Number(0, min_open=True), default=10.0, show_default=True,
              help="Files a second, for the time that it says: a guess, until you have timed a list.")  # fmt: skip
@column_options
@settings_option("request")
@json_option
def request_command(
    catalogue: Path,
    output: Path,
    downloaded: tuple[Path, ...],
    bands: tuple[str, ...],
    release: str,
    rerun: str | None,
    kind: str,
    size_px: int | None,
    n_lines: int,
    files_per_second: float,
    columns: tuple[str, ...],
    units: tuple[str, ...],
    hdu: str | None,
    settings_path: Path | None,
    as_json: bool,
) -> None:
    """Write upload lists for the cutout service of HSC's archive, for the objects of CATALOGUE.

    There is one list for each band of up to 990 objects, and download.sh, which sends them. With --downloaded the files
    that have come are read, and the lists are of those that are missing or damaged; missing.csv names them.

    \b
    Example:
      swimmy-scale request catalogue.fits --output lists
      swimmy-scale request catalogue.fits --downloaded lists/tars --output lists-again
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.stages.request import asked_of, write_request

    settings = settings_of("request", settings_path)
    asked = asked_of(settings.survey, bands, release, rerun, kind, size_px, n_lines)
    source = catalogue_source(catalogue, None, columns, units, hdu, (), 0.0)
    paths = [path.absolute() for path in downloaded]
    with Watch() as watch, watch.counting("request", "objects") as told:
        done = write_request(source, settings.survey, asked, output.absolute(), paths, told)
    if as_json:
        print_json(_document(done, asked, output, files_per_second))
    else:
        _say(done, asked, output, files_per_second)


def _document(done: Requested, asked: Asked, output: Path, files_per_second: float) -> dict[str, Any]:
    return {
        "output": output,
        **vars(done),
        "bytes": done.n_files * asked.file_bytes,
        "hours": done.n_files / files_per_second / 3600,
    }


def _say(done: Requested, asked: Asked, output: Path, files_per_second: float) -> None:
    from swimmy_scale.stages.request import MISSING, SCRIPT, amount

    def by_code(counts: dict[str, int]) -> str:
        return ", ".join(f"{code} {count:,}" for code, count in counts.items())

    click.echo(f"{counted(done.n_objects, 'objects')} in the bands {', '.join(asked.bands)}")
    if done.left_out:
        click.echo(f"left out, because ingest would put them in quarantine: {by_code(done.left_out)}")
    if done.n_usable is not None:
        click.echo(f"{counted(done.n_usable, 'files')} have come and are usable")
        if done.missing:
            click.echo(f"missing or damaged, and asked for: {by_code(done.missing)}; {output / MISSING} names them")
        if done.unusable:
            click.echo(
                f"not asked for again, since the same would come: {by_code(done.unusable)}; they are named there, too"
            )
    if not done.n_lists:
        click.echo("nothing is missing")
        return
    click.echo(f"{output}: {amount(done.n_files, done.n_lists, asked, files_per_second)}")
    click.echo(f"next: sh {output / SCRIPT}")
