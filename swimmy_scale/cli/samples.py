"""Commands about samples: classify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swimmy_scale.cli.program import PATH, load_settings, main, settings_option
from swimmy_scale.cli.stages import column_renames


@main.command("classify")
@click.argument("catalogue", type=PATH)
@click.option("--sdss", type=PATH, help="SDSS's specObj.")
@click.option("--gama", type=PATH, help="GAMA's SpecObj.")
@click.option(
    "--mpa-jhu", type=PATH, nargs=3, metavar="INFO LINE EXTRA", help="galSpecInfo, galSpecLine, galSpecExtra."
)
@click.option(
    "--mpa-jhu-widths",
    type=click.Choice(["observed", "rest"]),
    default="observed",
    show_default=True,
    help="What the equivalent widths of galSpecLine are.",
)
@click.option("--dr16q", type=PATH, help="The quasars of SDSS's DR16Q.")
@click.option("--milliquas", type=PATH, help="Milliquas.")
@click.option("--match-radius", type=click.FloatRange(0, 3600, min_open=True), default=1.0, show_default=True,
              help="Of a counterpart, arcsec.")  # fmt: skip
@click.option("--patch-qa", type=PATH, help="Seeing and depth of the patches.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Rename a catalogue column.")
@click.option("--output", type=PATH, required=True, help="The counterparts.fits to make.")
@settings_option
def classify_command(
    catalogue: Path,
    sdss: Path | None,
    gama: Path | None,
    mpa_jhu: tuple[Path, Path, Path] | None,
    mpa_jhu_widths: Any,
    dr16q: Path | None,
    milliquas: Path | None,
    match_radius: float,
    patch_qa: Path | None,
    columns: tuple[str, ...],
    output: Path,
    settings_path: Path | None,
) -> None:
    """Match CATALOGUE with tables of spectra, write the counterparts, and print how many objects there are of each
    class (table 1).

    The table counts objects that pass the cuts: those of the settings, or the paper's of its test data.

    \b
    Example:
      swimmy-scale classify catalogue.fits --sdss specObj.fits --gama SpecObj.fits \\
        --mpa-jhu galSpecInfo.fits galSpecLine.fits galSpecExtra.fits \\
        --dr16q DR16Q.fits --milliquas milliquas.fits --output counterparts.fits
    """
    from rich.console import Console
    from rich.table import Table

    from swimmy_scale.job import CatalogueSource, MpaJhuSection, SpectroscopySection
    from swimmy_scale.progress import Watch
    from swimmy_scale.stages.spectroscopy import PAPER_CUTS, classify

    if not (sdss or gama or mpa_jhu or dr16q or milliquas):
        raise click.UsageError("give one table at least: --sdss, --gama, --mpa-jhu, --dr16q or --milliquas")
    section = SpectroscopySection(
        sdss=sdss,
        gama=gama,
        mpa_jhu=None
        if not mpa_jhu
        else MpaJhuSection(info=mpa_jhu[0], line=mpa_jhu[1], extra=mpa_jhu[2], widths=mpa_jhu_widths),
        dr16q=dr16q,
        milliquas=milliquas,
        match_radius_arcsec=match_radius,
    )
    settings = load_settings(settings_path)
    cuts = PAPER_CUTS if settings_path is None else settings.sample
    source = CatalogueSource(catalogue, column_renames(columns), patch_qa)
    with Watch() as watch:
        rows, cut_counts = classify(source, section, settings.survey, cuts, output.absolute(), watch)
    console = Console()
    for cut in cut_counts:
        note = f" ({cut.note})" if cut.note else ""
        click.echo(f"{cut.rule}: {cut.after:,} of {cut.before:,}{note}", err=True)
    table = Table("Data", "N", title="Table 1")
    table.columns[1].justify = "right"
    for label, number in rows:
        table.add_row(label, f"{number:,}")
    console.print(table)
