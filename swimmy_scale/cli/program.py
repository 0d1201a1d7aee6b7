"""The program itself, and the options and exit statuses that its commands share. It holds no command.

Modules of this folder import what computes only inside their functions, so that help and completion answer at once.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

import swimmy_scale
from swimmy_scale.cli.given_once import GivenOnce
from swimmy_scale.cluster.signals import interrupts_not_lost
from swimmy_scale.errors import EXIT_TIME_IS_UP, PROGRAM, SwimmyError, TimeIsUpError, program
from swimmy_scale.method.used_settings import words_for_used

if TYPE_CHECKING:
    from swimmy_scale.method.job import Settings

EXIT_FAILED = 1
EXIT_NOTHING = 2
"""Of `plan`: the job would give nothing; as for a wrong command line, the user has to change what was asked for."""
EXIT_QUARANTINED = 3
EXIT_OUTPUT_CLOSED = 141
"""As a shell says of a program that SIGPIPE ends: who read its output, such as `head`, has read enough."""
PATH = click.Path(path_type=Path)


def _must_be(kind: str, limits: click.FloatRange | click.IntRange, value: Any) -> str:
    """What a number must be, in the words of job files."""
    lower = f"above {limits.min:g}" if limits.min_open else f"{limits.min or 0:g} or more"
    upper = "" if limits.max is None else f" and {limits.max:g} or less"
    return f"must be {kind}, {lower}{upper}, found {value!r}"


class Number(click.FloatRange):
    """A number with a lower limit, and perhaps an upper one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number that a word of the command line says."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(_must_be("a number", self, value), param, ctx)


class WholeNumber(click.IntRange):
    """A whole number with a lower limit, and perhaps an upper one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The whole number that a word of the command line says."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(_must_be("a whole number", self, value), param, ctx)


IN_ORDER = {
    "Before a run": {
        "init": "a job and a site file to start from",
        "doctor": "whether this machine, or a site, is fit",
        "schema": "what a job or a site file may hold, for editors",
        "simulate": "a synthetic survey with known truth",
        "classify": "classes of a catalogue, from tables of spectra",
        "request": "lists for HSC's cutout service; what a download lacks",
        "plan": "what a job would do, need and give",
    },
    "A whole run": {
        "run": "all that a job says, here and now; again to resume",
        "submit": "the same in SLURM jobs",
        "status": "how far a run is",
        "add": "more objects, or late files, to a run",
        "verify": "every byte of a run against its receipts",
    },
    "What a run found": {
        "report": "a page of the candidates, to sort, filter and mark",
        "rank": "learn from marks, and say what to look at next",
        "like": "objects that look most like one object",
        "show": "any object of a run, and why it is or is no candidate",
        "cutouts": "FITS cutouts, regions and a target list",
        "tables": "the paper's tables",
        "figures": "the paper's figures",
        "compare": "who came and went between two selections",
        "weight-sets": "how all weight sets were judged",
        "fidelity": "the paper's numbers beside a run's",
    },
    "One step at a time": {
        "ingest": "cutouts.zarr from images and a catalogue",
        "train": "weights from the training class of cutouts.zarr",
        "score": "scores.zarr from cutouts.zarr and weights",
        "select": "candidates from scores.zarr",
    },
    "This program": {"completion": "lines that make a shell complete commands with TAB"},
}
"""The commands in the order of work, under headings, each with a line; see the docstring of a command for all of it."""


class Program(GivenOnce, click.Group):
    """Commands in the order of work, whose expected failures are one line on stderr, with exit status 1.

    The context's ``obj``, if it is given, is called when a command begins.
    """

    command_class = GivenOnce

    def main(self, *words: Any, **options: Any) -> Any:
        """Run the program under the name that the user can type."""
        if not options.get("prog_name"):
            options["prog_name"] = program()
        options.setdefault("complete_var", f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE")
        return super().main(*words, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of work."""
        listed = [name for names in IN_ORDER.values() for name in names if name in self.commands]
        return [*listed, *sorted(set(self.commands) - set(listed))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        listed = [name for names in IN_ORDER.values() for name in names]
        others = {name: kind.get_short_help_str() for name, kind in self.commands.items() if name not in listed}
        width = max(map(len, self.commands))
        for heading, names in {**IN_ORDER, "Others": others}.items():
            there = [name for name in names if name in self.commands]
            if there:
                with formatter.section(heading):
                    formatter.write_dl([(name.ljust(width), names[name]) for name in there])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; only a defect shows a traceback."""
        try:
            with interrupts_not_lost():
                if ctx.obj is not None:
                    ctx.obj()
                return super().invoke(ctx)
        except SwimmyError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"{PROGRAM}: {error}", err=True)
            sys.exit(EXIT_FAILED)
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _output_is_closed():
                _end_quietly()
            if ctx.params.get("debug") or error.strerror is None:
                raise
            where = f"{error.filename}: " if error.filename else ""
            click.echo(
                f"{PROGRAM}: {where}{error.strerror}. "
                "What is done is kept: mend that, then run the same command again.",
                err=True,
            )
            sys.exit(EXIT_FAILED)
        except TimeIsUpError:
            click.echo(f"{PROGRAM}: the time is up; what is done is kept", err=True)
            sys.exit(EXIT_TIME_IS_UP)
        except KeyboardInterrupt:
            click.echo(f"{PROGRAM}: interrupted; what is done is kept, run the same command to go on", err=True)
            sys.exit(130)


def _output_is_closed() -> bool:
    """Whether nobody reads stdout any more: a broken pipe may be another one, such as a worker's."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _end_quietly() -> NoReturn:
    """End the program with nothing more on stdout, not even what the interpreter would still write at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(EXIT_OUTPUT_CLOSED)


class WholeLines(logging.Handler):
    """Writes to stderr, above a bar of progress if there is one; no line is broken, so that paths can be copied."""

    def __init__(self) -> None:
        from rich.console import Console

        super().__init__()
        self._console = Console(stderr=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line."""
        # The console finds stderr anew each time: a bar of progress takes its place while it is shown.
        self._console.print(self.format(record), soft_wrap=True, markup=False, highlight=False)


worker_option = click.option(
    "--workers",
    "n_workers",
    type=WholeNumber(min=0),
    help="Worker processes on this machine; 0 does all in this process. Default: one per core, if memory allows.",
)


def settings_option(command: str) -> Callable[[Any], Any]:
    """The option ``--settings`` of a command, whose help names what the command uses."""
    used = words_for_used(command)
    return click.option("--settings", "settings_path", type=PATH, help=f"YAML with sections of a job file: {used}.")


site_option = click.option("--site", "site_path", type=PATH, help="Where to compute: a site file (`init` writes one).")
try_again_option = click.option(
    "--try-again",
    "try_left_out",
    is_flag=True,
    help="Try the objects again that are in quarantine because they ended workers.",
)
cutouts_option = click.option(
    "--cutouts", type=PATH, help="Where the cutouts are now, if they are no longer where they were scored."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="For scripts: print one JSON document, and nothing else, to stdout."
)


def print_json(content: Any) -> None:
    """Print what ``--json`` asks for; numbers that are not finite, which JSON lacks, are null."""
    click.echo(json.dumps(_finite(content), indent=1, default=str, allow_nan=False))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


_column_options = (
    click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Rename a catalogue column."),
    click.option("--unit", "units", multiple=True, metavar="OURS=UNIT", help="Unit of a catalogue column, in place "
                 "of the one that the file declares."),
    click.option("--hdu", help="Number or name of the catalogue's table, in a file that has several."),
)  # fmt: skip


def column_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how the columns of a catalogue are to be read."""
    return functools.reduce(lambda decorated, option: option(decorated), reversed(_column_options), command)


def catalogue_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how a catalogue is to be read."""
    options = (
        click.option("--patch-qa", type=PATH, help="Seeing and depth of the patches."),
        *_column_options,
        click.option("--fwhm", "fwhm", multiple=True, metavar="BAND=ARCSEC", help="One FWHM of the PSF for all objects "
                     "of a survey whose FWHM nothing else gives."),
        click.option("--pair-radius", type=Number(0, 60), default=0.5, show_default=True,
                     help="Objects closer than this to another one, in arcsec, are told and counted."),
    )  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(swimmy_scale.__version__, prog_name=PROGRAM)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(debug: bool) -> None:
    """Find unusual galaxies in a whole imaging survey.

    \b
    Example:
      swimmy-scale simulate demo/survey --n-objects 4000 --seed 1
      swimmy-scale init demo --catalog demo/survey/catalogue.fits \\
        --patch-qa demo/survey/patch_qa.fits --source demo/survey/cutouts
      swimmy-scale run demo/job.yaml --output demo/run
      swimmy-scale report demo/run
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(message)s",
        handlers=[WholeLines()],
    )
    # Dask's scheduler logs every step, and silences itself by the level of its own handler. Without one of its own it
    # would take the handler above, which is there before Dask is loaded.
    distributed = logging.getLogger("distributed")
    if not distributed.handlers:
        handler = logging.StreamHandler(sys.__stderr__)
        handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
        distributed.addHandler(handler)
        distributed.propagate = False


def was_given(name: str) -> bool:
    """Whether the user gave an option of the current command, and not its default."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def settings_of(command: str, path: Path | None) -> Settings:
    """The settings of a file for a command, or the defaults."""
    from swimmy_scale.method.job import Settings, load_settings

    return Settings() if path is None else load_settings(path, command, logging.warning)


def exit_with(n_quarantined: int) -> None:
    """End the program with the status that says whether objects are in quarantine."""
    sys.exit(EXIT_QUARANTINED if n_quarantined else 0)
