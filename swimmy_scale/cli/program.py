"""The program itself, and the options and exit statuses that its commands share. It holds no command.

Modules of this folder import what computes only inside their functions, so that help and completion answer at once.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import swimmy_scale
from swimmy_scale.cluster.signals import interrupts_not_lost
from swimmy_scale.errors import EXIT_TIME_IS_UP, SwimmyError, TimeIsUpError
from swimmy_scale.method.used_settings import words_for_used

if TYPE_CHECKING:
    from swimmy_scale.method.job import Settings

EXIT_FAILED = 1
EXIT_NOTHING = 2
"""Of `plan`: the job would give nothing; as for a wrong command line, the user has to change what was asked for."""
EXIT_QUARANTINED = 3
PATH = click.Path(path_type=Path)


class Program(click.Group):
    """Commands whose expected failures are one line on stderr, with exit status 1.

    The context's ``obj``, if it is given, is called when a command begins.
    """

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
    type=click.IntRange(min=0),
    help="Worker processes on this machine; 0 does all in this process. Default: one per core, if memory allows.",
)


def settings_option(command: str) -> Callable[[Any], Any]:
    """The option ``--settings`` of a command, whose help names what the command uses."""
    used = words_for_used(command)
    return click.option("--settings", "settings_path", type=PATH, help=f"YAML with sections of a job file: {used}.")


site_option = click.option("--site", "site_path", type=PATH, help="Where to compute: a site file (see cluster/).")
json_option = click.option("--json", "as_json", is_flag=True, help="For scripts.")


def catalogue_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how a catalogue is to be read."""
    options = (
        click.option("--patch-qa", type=PATH, help="Seeing and depth of the patches."),
        click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Rename a catalogue column."),
        click.option("--unit", "units", multiple=True, metavar="OURS=UNIT", help="Unit of a catalogue column, in place "
                     "of the one that the file declares."),
        click.option("--hdu", help="Number or name of the catalogue's table, in a file that has several."),
        click.option("--fwhm", "fwhm", multiple=True, metavar="BAND=ARCSEC", help="One FWHM of the PSF for all objects "
                     "of a survey whose FWHM nothing else gives."),
        click.option("--pair-radius", type=click.FloatRange(0, 60), default=0.5, show_default=True,
                     help="Objects closer than this to another one, in arcsec, are told and counted."),
    )  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


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
