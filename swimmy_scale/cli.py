"""The command line: parse, call one function, print."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

import swimmy_scale
from swimmy_scale.cluster.driver import Submission, TimeIsUpError, dashboard_help, driver_signals
from swimmy_scale.cluster.fleet import slurm_workers
from swimmy_scale.cluster.local import default_workers, local_limits, local_workers
from swimmy_scale.cluster.scripts import EXIT_TIME_IS_UP
from swimmy_scale.console import print_paths, print_summary
from swimmy_scale.errors import SwimmyError
from swimmy_scale.job import CatalogueSource, IngestSection, Job, Settings, load_job
from swimmy_scale.progress import Watch, describe_record, read_record
from swimmy_scale.simulate import SimulationPlan, simulate
from swimmy_scale.site import Site, load_site
from swimmy_scale.stages import single
from swimmy_scale.stages.carried import read_carried
from swimmy_scale.stages.engine import Session, WorkersFor
from swimmy_scale.stages.inputs import ledger_beside
from swimmy_scale.stages.run import Run, run_job, run_status
from swimmy_scale.stages.select import select as select_candidates
from swimmy_scale.stages.verify import Verifier

EXIT_FAILED = 1
EXIT_QUARANTINED = 3
PATH = click.Path(path_type=Path)


class Program(click.Group):
    """Commands whose expected failures are one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; only defects show a traceback."""
        try:
            return super().invoke(ctx)
        except SwimmyError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"swimmy-scale: {error}", err=True)
            sys.exit(EXIT_FAILED)
        except OSError as error:
            if ctx.params.get("debug") or error.strerror is None:
                raise
            where = f"{error.filename}: " if error.filename else ""
            click.echo(
                f"swimmy-scale: {where}{error.strerror}. "
                "What is done is kept: mend that, then run the same command again.",
                err=True,
            )
            sys.exit(EXIT_FAILED)
        except TimeIsUpError:
            click.echo("swimmy-scale: the time is up; what is done is kept", err=True)
            sys.exit(EXIT_TIME_IS_UP)
        except KeyboardInterrupt:
            click.echo("swimmy-scale: interrupted; what is done is kept, run the same command to go on", err=True)
            sys.exit(130)


def n_usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def worker_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--workers`` option."""
    return click.option(
        "--workers",
        "n_workers",
        type=click.IntRange(min=0),
        default=None,
        help="Worker processes on this machine; 0 does all in this process. Default: one a core, if memory allows.",
    )(function)


@click.group(cls=Program)
@click.version_option(swimmy_scale.__version__, prog_name="swimmy-scale")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Find unusual galaxies in a whole imaging survey.

    \b
    Example:
      swimmy-scale simulate demo/survey --n-objects 4000 --seed 1
      swimmy-scale run jobs/demo.yaml --output demo/run
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_time=False, show_path=False)],
    )


def settings_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``--settings`` option."""
    return click.option(
        "--settings",
        "settings_path",
        type=PATH,
        default=None,
        help="YAML with any of the sections survey, sample, train, score, select, storage of a job file.",
    )(function)


def load_settings(path: Path | None) -> Settings:
    """The settings in a file, or the defaults."""
    return Settings() if path is None else load_job(path, Settings)


def worker_pool(n_workers: int | None) -> tuple[int, WorkersFor]:
    """Number of workers, and what starts as many of them as a stage has use for."""
    number = default_workers(n_usable_cores()) if n_workers is None else n_workers
    return number, lambda stage, n_tasks: local_workers(min(number, n_tasks))


def threads_each(n_workers: int) -> int:
    """Threads for each of so many worker processes; 0 workers are this one process."""
    return max(n_usable_cores() // max(n_workers, 1), 1)


def scoring_threads(job: Job, n_workers: int) -> int:
    """Threads of a scoring process on this machine. One process for all has trained with its own, and keeps them."""
    return job.train.n_threads if n_workers == 0 and job.train else threads_each(n_workers)


def exit_with(n_quarantined: int) -> None:
    """Leave with the status that says whether objects are in quarantine."""
    sys.exit(EXIT_QUARANTINED if n_quarantined else 0)


@main.command("simulate")
@click.argument("output", type=PATH)
@click.option("--n-objects", type=click.IntRange(min=1), required=True, help="Objects in the catalogue.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--faulty-fraction",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Objects with missing, broken or wrong files.",
)
@worker_option
def simulate_command(output: Path, n_objects: int, seed: int, faulty_fraction: float, n_workers: int | None) -> None:
    """Write a synthetic survey with known truth to OUTPUT, as the HSC archive would deliver it.

    \b
    Example:
      swimmy-scale simulate demo/survey --n-objects 4000 --seed 1
    """
    plan = SimulationPlan(n_objects=n_objects, seed=seed, faulty_fraction=faulty_fraction)
    number, _ = worker_pool(n_workers)
    watch = Watch()
    counted = CountedMap(watch, number)
    watch.start("simulate", n_objects, 0)
    try:
        summary = simulate(str(output), plan, counted)
    finally:
        watch.stop("simulate")
    click.echo(f"{n_objects:,} simulated objects in {output}: catalogue {summary.catalogue}, truth {summary.truth}")


class CountedMap:
    """Maps over processes and tells a watch of each result; in this process for 0 workers."""

    def __init__(self, watch: Watch, n_workers: int) -> None:
        self._watch, self._n_workers = watch, n_workers

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of ``items``."""
        if self._n_workers == 0:
            yield from self._counted(map(function, items))
            return
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(self._n_workers, mp_context=context) as pool:
            yield from self._counted(pool.map(function, items))

    def _counted(self, results: Iterator[Any]) -> Iterator[Any]:
        for result in results:
            self._watch.add(result.n_objects)
            yield result


def column_renames(pairs: tuple[str, ...]) -> dict[str, str]:
    """``OURS=THEIRS`` options as a mapping."""
    renames = {}
    for pair in pairs:
        ours, separator, theirs = pair.partition("=")
        if not (ours and separator and theirs):
            raise click.BadParameter(f"{pair!r} is not of the form OURS=THEIRS", param_hint="--column")
        renames[ours] = theirs
    return renames


@main.command("ingest")
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--catalog", type=PATH, required=True, help="FITS, Parquet, CSV, VOTable or ECSV.")
@click.option("--output", type=PATH, required=True, help="The cutouts.zarr to make.")
@click.option("--patch-qa", type=PATH, help="Seeing and depth of the patches.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Rename a catalogue column.")
@click.option("--keep-column", "keep", multiple=True, metavar="NAME", help="Catalogue column that travels along.")
@click.option("--kind", type=click.Choice(["auto", "cutouts", "coadd", "cube"]), default="auto", show_default=True)
@settings_option
@worker_option
def ingest_command(
    sources: tuple[Path, ...],
    catalog: Path,
    output: Path,
    patch_qa: Path | None,
    columns: tuple[str, ...],
    keep: tuple[str, ...],
    kind: Any,
    settings_path: Path | None,
    n_workers: int | None,
) -> None:
    """Turn SOURCES (folders, tars, coadds or a cube) and a catalogue into cutouts.zarr.

    Objects that cannot be used go to NAME.quarantine.csv beside the output, with the reason.

    \b
    Example:
      swimmy-scale ingest cutouts/ --catalog catalogue.fits --patch-qa patch_qa.fits --output cutouts.zarr
    """
    section = IngestSection(sources=tuple(path.absolute() for path in sources), kind=kind)
    source = CatalogueSource(
        catalog.absolute(), column_renames(columns), patch_qa.absolute() if patch_qa else None, keep
    )
    number, pool = worker_pool(n_workers)
    settings = load_settings(settings_path)
    with Watch() as watch:
        done = single.ingest(section, source, output.absolute(), settings, pool, watch, local_limits(number))
    n_quarantined = int(done.details["n_quarantined"])
    click.echo(f"{done.n_objects} given = {done.details['n_ingested']} ingested + {n_quarantined} quarantined")
    exit_with(n_quarantined)


@main.command("train")
@click.argument("cutouts", type=PATH)
@click.option("--output", type=PATH, required=True, help="Folder for the weights.")
@settings_option
@worker_option
def train_command(cutouts: Path, output: Path, settings_path: Path | None, n_workers: int | None) -> None:
    """Train the autoencoder on the training class of CUTOUTS.

    \b
    Example:
      swimmy-scale train cutouts.zarr --output models/
    """
    number, pool = worker_pool(n_workers)
    settings = load_settings(settings_path)
    with Watch() as watch:
        done = single.train(cutouts.absolute(), output.absolute(), settings, pool, watch, local_limits(number))
    choice = done.details["selected"]
    click.echo(f"{output / 'selected.keras'}: epoch {choice['epoch']}, validation loss {choice['val_loss']:.6f}")


@main.command("score")
@click.argument("cutouts", type=PATH)
@click.option(
    "--model", "models", type=PATH, multiple=True, required=True, help="A .keras file of `train`; again for more."
)
@click.option(
    "--model-sha256",
    "sha256s",
    multiple=True,
    help="Digest of the file, where no manifest.json beside it records one; of every --model in the same order.",
)
@click.option("--output", type=PATH, required=True, help="The scores.zarr to make.")
@click.option("--scorer", type=click.Choice(["keras", "numba"]), default="keras", show_default=True,
              help="numba is 1.7 times as fast on CPUs; the last digits differ.")  # fmt: skip
@settings_option
@worker_option
def score_command(
    cutouts: Path,
    models: tuple[Path, ...],
    sha256s: tuple[str, ...],
    output: Path,
    scorer: Any,
    settings_path: Path | None,
    n_workers: int | None,
) -> None:
    """Score every cutout of CUTOUTS, with several models in one pass.

    \b
    Example:
      swimmy-scale score cutouts.zarr --model models/selected.keras --output scores.zarr
      swimmy-scale score cutouts.zarr --model m/run-00/epoch-24.keras --model m/run-01/epoch-25.keras --output s.zarr
    """
    if sha256s and len(sha256s) != len(models):
        raise click.UsageError("--model-sha256 comes once for each --model, in the same order, or not at all")
    cutouts, settings = cutouts.absolute(), load_settings(settings_path)
    number, pool = worker_pool(n_workers)
    paths = [model.absolute() for model in models]
    scoring = single.recorded_scoring(paths, cutouts, settings, sha256s, threads_each(number))
    scoring = replace(scoring, scorer=scorer)
    with Watch() as watch:
        done = single.score(cutouts, scoring, output.absolute(), settings, pool, watch, local_limits(number))
    n_quarantined = int(done.details["n_quarantined"])
    click.echo(f"{done.n_objects} given = {done.details['n_scored']} scored + {n_quarantined} quarantined")
    exit_with(n_quarantined)


@main.command("select")
@click.argument("scores", type=PATH)
@click.option("--output", type=PATH, required=True, help="Folder for candidates.* and summary.json.")
@click.option("--thresholds-from", type=PATH, help="summary.json of another run whose thresholds are carried over.")
@settings_option
def select_command(scores: Path, output: Path, thresholds_from: Path | None, settings_path: Path | None) -> None:
    """Cut the sample of SCORES at its percentiles and write the candidates.

    \b
    Example:
      swimmy-scale select scores.zarr --output selection/
    """
    section = load_settings(settings_path).select
    other = thresholds_from or section.thresholds_from
    summary, _ = select_candidates(
        scores, output, section.levels, section.formats, read_carried(other) if other else None, combine=section.combine
    )
    print_summary(summary)
    exit_with(summary["quarantined"])


site_option = click.option("--site", "site_path", type=PATH, help="Where to compute: a site file (see cluster/).")


def site_from(path: Path | None, n_workers: int | None) -> Site | None:
    """The site of a file; None where there is no file."""
    if path is not None and n_workers is not None:
        raise click.UsageError("--workers is for this machine without a site file; the site file says how many")
    return None if path is None else load_site(path)


@main.command("run")
@click.argument("job_path", metavar="JOB", type=PATH)
@click.option("--output", type=PATH, required=True, help="The run directory.")
@site_option
@worker_option
def run_command(job_path: Path, output: Path, site_path: Path | None, n_workers: int | None) -> None:
    """Do everything that the job file JOB says, here and now; run it again to resume.

    With a site file of kind slurm the workers are batch jobs, and this process is their driver; `submit` makes the
    driver a batch job as well.

    \b
    Example:
      swimmy-scale run jobs/demo.yaml --output demo/run
      swimmy-scale run jobs/demo.yaml --output demo/run --site cluster/slurm-cpu.yaml
    """
    job, output = load_job(job_path, Job), output.absolute()
    site = site_from(site_path, n_workers)
    with Watch() as watch, driver_signals():
        if site is not None and site.is_slurm:
            n_threads, limits = site.scoring_threads, site.memory_limits
            session = slurm_session(site, output, watch)
        else:
            number, pool = worker_pool(site.section.workers if site else n_workers)
            n_threads, limits, session = scoring_threads(job, number), local_limits(number), local_session(pool)
        scorer = site.section.scorer if site else "keras"
        summary = run_job(Run(output, job, n_threads, limits, scorer), recorded(session, output, watch), watch)
    print_summary(summary)
    print_paths(output, job.select.formats)
    exit_with(summary["quarantined"])


def recorded(session: Session, run: Path, watch: Watch) -> Session:
    """The same session, with the run's progress kept for `status` from when the driver's lock is held."""

    @contextmanager
    def wrapped() -> Iterator[WorkersFor]:
        watch.keep_record(run / "log" / "progress.json")
        with session() as workers:
            yield workers

    return wrapped


def local_session(pool: WorkersFor) -> Session:
    """Worker processes that each stage starts for itself."""
    return lambda: nullcontext(pool)


def slurm_session(site: Site, place: Path, watch: Watch) -> Session:
    """Batch jobs as workers; scripts, keys and logs lie in ``place``."""

    @contextmanager
    def session() -> Iterator[WorkersFor]:
        with slurm_workers(site, place) as workers:
            watch.see_workers(workers.describe)
            click.echo(f"dashboard: {dashboard_help(workers.dashboard)}", err=True)
            yield workers

    return session


@main.command("submit")
@click.argument("job_path", metavar="JOB", type=PATH)
@click.option("--output", type=PATH, required=True, help="The run directory, on a file system that all nodes share.")
@click.option("--site", "site_path", type=PATH, required=True, help="A site file of kind slurm (see cluster/).")
@click.option(
    "--chain",
    "n_chained",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Submit so many drivers that follow each other, where jobs may not submit jobs.",
)
@click.option("--print-job-script", is_flag=True, help="Print what would be submitted, and submit nothing.")
def submit_command(job_path: Path, output: Path, site_path: Path, n_chained: int, print_job_script: bool) -> None:
    """Do everything that the job file JOB says as SLURM jobs; prints the driver's job id and returns at once.

    The driver's job submits the workers' jobs, replaces those that are lost, and submits itself again before its
    walltime ends. Give the command again to resume after a failure.

    \b
    Example:
      swimmy-scale submit jobs/demo.yaml --output demo/run --site cluster/slurm-gpu.yaml
    """
    submission = Submission(load_job(job_path, Job), load_site(site_path), output.absolute(), n_chained)
    if print_job_script:
        for path, text in submission.scripts().items():
            click.echo(f"# {path}\n{text}")
        return
    job_ids = submission.submit()
    click.echo("\n".join(job_ids))
    click.echo(f"follow it with: swimmy-scale status {output}", err=True)


@main.command("status")
@click.argument("run", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status_command(run: Path, as_json: bool) -> None:
    """Say how far the run directory RUN is; reads files only, so it works wherever they can be seen.

    \b
    Example:
      swimmy-scale status demo/run
    """
    rows, record = run_status(run), read_record(run / "log" / "progress.json")
    if as_json:
        click.echo(json.dumps({"stages": rows, "driver": record}))
        return
    table = Table("stage", "finished", "tasks", "objects", "quarantined")
    for row in rows:
        values = (row["n_tasks"], row["n_objects"], row["n_quarantined"])
        table.add_row(row["stage"], "yes" if row["finished"] else "no", *(f"{value:,}" for value in values))
    console = Console()
    console.print(table)
    for line in describe_record(record):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@main.command("verify")
@click.argument("output", metavar="RUN", type=PATH)
@site_option
@worker_option
def verify_command(output: Path, site_path: Path | None, n_workers: int | None) -> None:
    """Compare every byte of RUN with its receipts: a run directory, or what `ingest`, `train` or `score` made.

    What is damaged or missing is listed, one line a file; the command that made it then repairs just that.

    \b
    Example:
      swimmy-scale verify demo/run
    """
    output = output.absolute()
    site = site_from(site_path, n_workers)
    with Watch() as watch, driver_signals():
        session: Session
        if site is not None and site.is_slurm:
            is_run = (output / "receipts").is_dir()
            session = slurm_session(site, output if is_run else ledger_beside(output, "").folder, watch)
        else:
            session = local_session(worker_pool(site.section.workers if site else n_workers)[1])
        damage = Verifier(session, watch).output(output)
    for item in damage:
        click.echo(f"{item.path}: {item.reason} ({item.stage} {item.name})")
    if damage:
        raise SwimmyError(
            f"{len(damage)} damaged or missing. Give the command that made them again: it repairs just these."
        )
    click.echo("every file is as its receipt says")
