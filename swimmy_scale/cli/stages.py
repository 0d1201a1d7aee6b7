"""Commands for one step each: simulate, ingest, train, score, select, classify."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swimmy_scale.cli.batch import batch_job_option
from swimmy_scale.cli.program import (
    PATH,
    Number,
    WholeNumber,
    catalogue_options,
    cutouts_option,
    exit_with,
    json_option,
    main,
    print_json,
    settings_of,
    settings_option,
    try_again_option,
    was_given,
    worker_option,
)
from swimmy_scale.method.words import counted

if TYPE_CHECKING:
    from swimmy_scale.method.sections import CatalogueSource
    from swimmy_scale.storage.run_directory import RunDirectory


@main.command("simulate")
@click.argument("output", type=PATH)
@click.option("--n-objects", type=WholeNumber(min=1), required=True, help="Objects in the catalogue.")
@click.option("--seed", type=WholeNumber(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--faulty-fraction",
    type=Number(0, 1),
    show_default="0.01, like the paper 0.002",
    help="Share of objects with missing, broken or wrong files.",
)
@click.option("--first-tract", type=WholeNumber(min=0), default=9000, show_default=True,
              help="Where the survey begins: in other tracts are other objects.")  # fmt: skip
@click.option(
    "--like",
    type=click.Choice(["paper"]),
    help="Classes, magnitudes and depths as in the paper's text, not those of the demonstration.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["mmu-hsc", "mmu-hsc-hats", "galaxiesml", "unagi"]),
    help="In the form of a public data set, not of the archive's files; see docs/public-data.md.",
)
@worker_option
def simulate_command(
    output: Path,
    n_objects: int,
    seed: int,
    faulty_fraction: float | None,
    first_tract: int,
    like: str | None,
    form: str | None,
    n_workers: int | None,
) -> None:
    """Write a synthetic survey with known truth to OUTPUT, as the HSC archive would deliver it.

    \b
    Example:
      swimmy-scale simulate demo/survey --n-objects 4000 --seed 1
      swimmy-scale simulate fidelity/survey --n-objects 50000 --seed 1 --like paper
      swimmy-scale simulate twin --n-objects 2000 --seed 1 --as mmu-hsc
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import LocalExecutor
    from swimmy_scale.simulate import SimulationPlan, paper_plan, simulate, simulate_as

    if form is not None:
        if faulty_fraction or like:
            raise click.UsageError("--as is a form without planted faults: leave out --faulty-fraction and --like.")
        map_files, n_of = LocalExecutor(n_workers, with_tensorflow=False).map_values, attrgetter("n_objects")
        with Watch() as watch:
            watch.start("simulate", n_objects, 0)
            twin = simulate_as(
                *(form, str(output), n_objects, seed, first_tract),
                map=lambda write, parts: watch.count(map_files(write, parts), n_of),
            )
            watch.stop("simulate")
        named = ", ".join(str(output / source) for source in twin.sources)
        beside = f"; catalogue {output / twin.catalogue}" if twin.catalogue else ""
        click.echo(f"{counted(n_objects, 'simulated objects')}: ingest {named}{beside}; truth {output / twin.truth}")
        return
    given: dict[str, Any] = {} if faulty_fraction is None else {"faulty_fraction": faulty_fraction}
    given |= {"n_objects": n_objects, "seed": seed, "first_tract": first_tract}
    plan = (paper_plan if like == "paper" else SimulationPlan)(**given)
    map_values, n_of = LocalExecutor(n_workers, with_tensorflow=False).map_values, attrgetter("n_objects")
    with Watch() as watch:
        watch.start("simulate", n_objects, 0)
        summary = simulate(str(output), plan, lambda write, parts: watch.count(map_values(write, parts), n_of))
        watch.stop("simulate")
    click.echo(
        f"{counted(n_objects, 'simulated objects')} in {output}: catalogue {summary.catalogue}, truth {summary.truth}"
    )


def assignments(pairs: tuple[str, ...], option: str, form: str) -> dict[str, str]:
    """Options such as ``OURS=THEIRS`` as a mapping."""
    named: dict[str, str] = {}
    for pair in pairs:
        ours, separator, theirs = pair.partition("=")
        if not (ours and separator and theirs):
            raise click.BadParameter(f"{pair!r} is not of the form {form}", param_hint=option)
        if named.get(ours, theirs) != theirs:
            raise click.BadParameter(f"{ours!r} is given twice, as {named[ours]!r} and {theirs!r}", param_hint=option)
        named[ours] = theirs
    return named


def catalogue_source(
    path: Path | None,
    patch_qa: Path | None,
    columns: tuple[str, ...],
    units: tuple[str, ...],
    hdu: str | None,
    fwhm: tuple[str, ...],
    pair_radius: float,
    keep: tuple[str, ...] = (),
) -> CatalogueSource:
    """The catalogue that `catalogue_options` describe."""
    from swimmy_scale.method.sections import CatalogueSource

    fwhm_arcsec = {}
    for band, text in assignments(fwhm, "--fwhm", "BAND=ARCSEC").items():
        try:
            fwhm_arcsec[band] = float(text)
        except ValueError:
            raise click.BadParameter(f"{band}={text}: {text!r} is no number", param_hint="--fwhm") from None
        if not 0 < fwhm_arcsec[band] < 50:
            raise click.BadParameter(f"{band}={text}: need arcsec between 0 and 50", param_hint="--fwhm")
    return CatalogueSource(
        path.absolute() if path else None,
        assignments(columns, "--column", "OURS=THEIRS"),
        patch_qa.absolute() if patch_qa else None,
        keep,
        assignments(units, "--unit", "OURS=UNIT"),
        hdu,
        fwhm_arcsec,
        pair_radius,
    )


@main.command("ingest")
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--catalog", type=PATH, help="FITS, Parquet, CSV, VOTable or ECSV; object tables have one inside.")
@click.option("--output", type=PATH, required=True, help="The cutouts.zarr to make.")
@catalogue_options
@click.option("--keep-column", "keep", multiple=True, metavar="NAME", help="Catalogue column to keep.")
@click.option("--kind", type=click.Choice(["auto", "cutouts", "coadd", "cube", "table"]), default="auto",
              show_default=True, help="What SOURCES are; auto looks.")  # fmt: skip
@settings_option("ingest")
@try_again_option
@worker_option
def ingest_command(
    sources: tuple[Path, ...],
    catalog: Path | None,
    output: Path,
    keep: tuple[str, ...],
    kind: Any,
    settings_path: Path | None,
    try_left_out: bool,
    n_workers: int | None,
    **described: Any,
) -> None:
    """Turn SOURCES (folders, tars, coadds, object tables or a cube) and a catalogue into cutouts.zarr.

    Objects that cannot be used are listed in NAME.quarantine.csv beside the output, each with its reason.

    \b
    Example:
      swimmy-scale ingest cutouts/ --catalog catalogue.fits --patch-qa patch_qa.fits --output cutouts.zarr
      swimmy-scale ingest mmu/pdr3_dud_22.5/ --output cutouts.zarr
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import LocalExecutor
    from swimmy_scale.method.sections import IngestSection
    from swimmy_scale.stages import standalone

    section = IngestSection(sources=tuple(path.absolute() for path in sources), kind=kind)
    source = catalogue_source(catalog, keep=keep, **described)
    executor, settings = LocalExecutor(n_workers, with_tensorflow=False), settings_of("ingest", settings_path)
    with Watch() as watch:
        done = standalone.ingest(
            section, source, output.absolute(), settings, executor, watch, executor.limits, try_left_out
        )
    n_quarantined = int(done.details["n_quarantined"])
    click.echo(f"{done.n_objects} given = {done.details['n_ingested']} ingested + {n_quarantined} quarantined")
    exit_with(n_quarantined)


@main.command("train")
@click.argument("cutouts", type=PATH)
@click.option("--output", type=PATH, required=True, help="Folder for the weights.")
@settings_option("train")
@worker_option
def train_command(cutouts: Path, output: Path, settings_path: Path | None, n_workers: int | None) -> None:
    """Train the autoencoder on the training class of CUTOUTS.

    \b
    Example:
      swimmy-scale train cutouts.zarr --output models/
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import LocalExecutor, scorer_for
    from swimmy_scale.stages import standalone
    from swimmy_scale.stages.scorer_choice import kept_beside
    from swimmy_scale.storage.run_directory import ModelsFolder

    executor, settings, output = LocalExecutor(n_workers), settings_of("train", settings_path), output.absolute()
    scorer = scorer_for("auto", kept_beside(output))
    threads = executor.scoring_threads(settings.train, scorer)
    with Watch() as watch:
        done = standalone.train(cutouts.absolute(), output, settings, executor, watch, executor.limits, threads, scorer)
    choice = done.details["selected"]
    click.echo(
        f"{ModelsFolder(output).selected}: epoch {choice['epoch']}, validation loss {choice['val_loss']:.6f} "
        f"(run {choice['run']}, {choice['rule']})"
    )


@main.command("score")
@click.argument("cutouts", type=PATH)
@click.option(
    "--model",
    "models",
    type=PATH,
    multiple=True,
    required=True,
    help="A .keras file of `train`; repeat it for more. Or a run, or what `train` made: the weights that it chose.",
)
@click.option(
    "--model-sha256",
    "sha256s",
    multiple=True,
    help="Digest of a model file, if no manifest.json beside it records one; for every --model, in the same order.",
)
@click.option("--output", type=PATH, required=True, help="The scores.zarr to make.")
@click.option("--scorer", type=click.Choice(["auto", "keras", "numba"]), default="auto", show_default=True,
              help="auto: keras on a GPU, else numba; or what the output began with.")  # fmt: skip
@settings_option("score")
@try_again_option
@worker_option
def score_command(
    cutouts: Path,
    models: tuple[Path, ...],
    sha256s: tuple[str, ...],
    output: Path,
    scorer: Any,
    settings_path: Path | None,
    try_left_out: bool,
    n_workers: int | None,
) -> None:
    """Score every cutout of CUTOUTS, with several models in one pass.

    \b
    Example:
      swimmy-scale score cutouts.zarr --model models/selected.keras --output scores.zarr
      swimmy-scale score cutouts.zarr --model m/run-00/epoch-24.keras --model m/run-01/epoch-25.keras --output s.zarr
    """
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.cluster.executors import LocalExecutor, scorer_for
    from swimmy_scale.stages import standalone
    from swimmy_scale.stages.scorer_choice import kept_beside

    if sha256s and len(sha256s) != len(models):
        raise click.UsageError("--model-sha256 comes once for each --model, in the same order, or not at all")
    cutouts, output, settings = cutouts.absolute(), output.absolute(), settings_of("score", settings_path)
    scorer = scorer_for(scorer, kept_beside(output))
    executor = LocalExecutor(n_workers, with_tensorflow=scorer == "keras")
    paths = [model.absolute() for model in models]
    scoring = standalone.recorded_scoring(paths, cutouts, settings, sha256s, executor.threads_each, scorer)
    with Watch() as watch:
        done = standalone.score(cutouts, scoring, output, settings, executor, watch, executor.limits, try_left_out)
    n_quarantined = int(done.details["n_quarantined"])
    click.echo(f"{done.n_objects} given = {done.details['n_scored']} scored + {n_quarantined} quarantined")
    exit_with(n_quarantined)


@main.command("select")
@click.argument("scores", metavar="RUN", type=PATH)
@click.option("--output", type=PATH, help="Folder to write the selection to.")
@click.option("--name", help="Write it to RUN/selections/NAME.")
@click.option("--thresholds-from", type=PATH, help="summary.json of another run, to take its thresholds.")
@click.option(
    "--thresholds-of-another-model",
    "of_another_model",
    is_flag=True,
    help="Take them though they were made for the scores of another model or scorer.",
)
@click.option(
    "--marks",
    type=PATH,
    multiple=True,
    help="CSV of the report: select nothing, but write the vetted candidates of RUN. Several files are merged.",
)
@cutouts_option
@settings_option("select")
@json_option
@batch_job_option
def select_command(
    scores: Path,
    output: Path | None,
    name: str | None,
    thresholds_from: Path | None,
    of_another_model: bool,
    marks: tuple[Path, ...],
    cutouts: Path | None,
    settings_path: Path | None,
    as_json: bool,
) -> None:
    """Cut the sample of RUN at its percentiles and write the candidates; nothing of RUN is changed or scored again.

    RUN is a run directory or a scores.zarr. Of a run directory the cuts and levels are those of its job, as far as
    --settings does not say others. With --marks nothing is cut: the candidates of RUN, a run directory or a
    selection's folder, go to vetted.*, each with its mark and note, but for those marked as artefacts. Files of several
    people are merged: what they disagree about is kept as `disputed`, and columns count their marks.

    \b
    Example:
      swimmy-scale select demo/run --settings strict.yaml --name strict
      swimmy-scale select scores.zarr --output selection/
      swimmy-scale select demo/run --marks marks.csv --output vetted/
      swimmy-scale select demo/run --marks mine.csv --marks hers.csv --output vetted/
    """
    from swimmy_scale.cli.console import print_summary
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.stages import standalone

    if (output is None) == (name is None):
        raise click.UsageError("give --output or --name: where the selection goes")
    if marks:
        if thresholds_from is not None or output is None:
            raise click.UsageError("--marks keeps the selection as it is, and goes with --output")
        _write_vetted(scores, marks, output, settings_of("select --marks", settings_path).select.formats, as_json)
        return
    given = standalone.Given.at(scores.absolute(), cutouts and cutouts.absolute())
    place = _named(given.run, name) if output is None else output.absolute()
    settings = standalone.selection_settings(
        given.settings,
        settings_of("select", settings_path),
        thresholds_from and thresholds_from.absolute(),
        of_another_model,
    )
    with Watch() as watch:
        folder = standalone.select(given, place, settings, watch)
    summary = folder.read_summary()
    if as_json:
        print_json({"summary": summary, "folder": folder.path})
    else:
        print_summary(summary)
        click.echo(f"candidates  {folder.candidates(settings.select.formats[0])}")
    exit_with(summary["quarantined"])


def _named(run: RunDirectory | None, name: str | None) -> Path:
    """The folder of a selection that is kept in the run directory under a name."""
    if run is None:
        raise click.UsageError("--name is for the scores of a run directory; give --output for others")
    if name is None or Path(name).name != name or name.startswith("."):
        raise click.UsageError(f"--name {name!r}: give the name of a folder, without a path")
    return run.named_selection(name).path


def _write_vetted(run: Path, marks: Sequence[Path], output: Path, formats: Sequence[str], as_json: bool) -> None:
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.results.marks import dispute_lines
    from swimmy_scale.results.report.vetting import count_lines, write_vetted

    with Watch() as watch, watch.counting("select", "rows") as told:
        vetted = write_vetted(run, marks, output, formats, told)
    if as_json:
        print_json({**vetted.counts, "disputes": vetted.disputes, "files": vetted.files})
        return
    for line in (*count_lines(vetted.counts), *dispute_lines(vetted.disputes)):
        click.echo(line)
    click.echo("\n".join(map(str, vetted.files)))


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
    help="Frame of the equivalent widths in galSpecLine.",
)
@click.option("--dr16q", type=PATH, help="The quasars of SDSS's DR16Q.")
@click.option("--milliquas", type=PATH, help="Milliquas.")
@click.option("--match-radius", type=Number(0, 3600, min_open=True), default=1.0, show_default=True,
              help="Largest distance of a counterpart, arcsec.")  # fmt: skip
@catalogue_options
@click.option("--output", type=PATH, required=True, help="The counterparts.fits to make.")
@settings_option("classify")
def classify_command(
    catalogue: Path,
    sdss: Path | None,
    gama: Path | None,
    mpa_jhu: tuple[Path, Path, Path] | None,
    mpa_jhu_widths: Any,
    dr16q: Path | None,
    milliquas: Path | None,
    match_radius: float,
    output: Path,
    settings_path: Path | None,
    **described: Any,
) -> None:
    """Match CATALOGUE with tables of spectra, write the counterparts, and print how many objects each class has
    (table 1).

    The table counts the objects that pass the cuts: those of the settings, by default the paper's for its test data.

    \b
    Example:
      swimmy-scale classify catalogue.fits --sdss specObj.fits --gama SpecObj.fits \\
        --mpa-jhu galSpecInfo.fits galSpecLine.fits galSpecExtra.fits \\
        --dr16q DR16Q.fits --milliquas milliquas.fits --output counterparts.fits
    """
    from swimmy_scale.cli.console import Output, print_table
    from swimmy_scale.cli.progress import Watch
    from swimmy_scale.method.sections import MpaJhuSection, SpectroscopySection
    from swimmy_scale.stages.spectroscopy import PAPER_CUTS, classify

    if not (sdss or gama or mpa_jhu or dr16q or milliquas):
        raise click.UsageError("give one table at least: --sdss, --gama, --mpa-jhu, --dr16q or --milliquas")
    if not mpa_jhu and was_given("mpa_jhu_widths"):
        raise click.UsageError("--mpa-jhu-widths is of the tables that --mpa-jhu names, and they are not given")
    mpa_section = None
    if mpa_jhu:
        mpa_section = MpaJhuSection(**dict(zip(("info", "line", "extra"), mpa_jhu, strict=True)), widths=mpa_jhu_widths)
    section = SpectroscopySection(
        sdss=sdss,
        gama=gama,
        mpa_jhu=mpa_section,
        dr16q=dr16q,
        milliquas=milliquas,
        match_radius_arcsec=match_radius,
    )
    settings = settings_of("classify", settings_path)
    cuts = PAPER_CUTS if settings_path is None else settings.sample
    source = catalogue_source(catalogue, **described)
    with Watch() as watch, watch.counting("classify", "files") as told:
        rows, cut_counts = classify(source, section, settings.survey, cuts, output.absolute(), told)
    for cut in cut_counts:
        notes = [cut.note, f"{cut.unknown:,} unknown" if cut.unknown else ""]
        note = f" ({', '.join(filter(None, notes))})" if any(notes) else ""
        click.echo(f"{cut.rule}: {cut.after:,} of {cut.before:,}{note}", err=True)
    cells = ((label, f"{number:,}") for label, number in rows)
    print_table(Output(), ("Data", "N"), cells, "Table 1", n_left=1)
