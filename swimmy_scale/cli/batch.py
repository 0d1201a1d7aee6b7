"""The option that has a command done by a batch job of a site, in place of this process."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from swimmy_scale.cli.program import PATH
from swimmy_scale.errors import SwimmyError, typed

SITE = "site_path"


def batch_job_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--site`` of a command whose first argument is a run directory, or what lies in one.

    It stands directly above the command's function, below its other options.
    """

    @click.option("--site", SITE, type=PATH, help="Do it in one SLURM job of this site; prints its id, and returns.")
    @functools.wraps(command)
    def decorated(site_path: Path | None, **given: Any) -> Any:
        if site_path is None:
            return command(**given)
        return _submit(site_path)

    return decorated


def _submit(site_path: Path) -> None:
    from swimmy_scale.cluster.driver import CommandJob
    from swimmy_scale.cluster.site import load_site

    context = click.get_current_context()
    folder = _folder(context)
    job = CommandJob(load_site(site_path), folder, str(context.info_name), list(_words(context)))
    click.echo(job.submit())
    click.echo(f"follow it with: {typed('status', folder)}", err=True)


def _words(context: click.Context) -> Iterator[str]:
    """The words after the command's name that stand for what was given, with absolute paths, and without the site."""
    arguments = []
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name == SITE or value is None or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        # An option that may come several times has several values, each of which may be several words.
        values = value if parameter.multiple or parameter.nargs == -1 else [value]
        for one in values:
            words = one if isinstance(one, tuple) else (one,)
            texts = [str(word.absolute() if isinstance(word, Path) else word) for word in words]
            if isinstance(parameter, click.Argument):
                arguments += texts
            elif isinstance(parameter, click.Option) and parameter.is_flag:
                yield parameter.opts[0]
            else:
                yield from (parameter.opts[0], *texts)
    # An argument may look like an option.
    yield from ("--", *arguments) if any(word.startswith("-") for word in arguments) else arguments


def _folder(context: click.Context) -> Path:
    """The folder whose log gets the job's: the run directory that is read, or, if it is read-only, the output."""
    from swimmy_scale.storage.run_directory import RunDirectory

    (first, *_) = (parameter for parameter in context.command.params if isinstance(parameter, click.Argument))
    path, output = context.params[str(first.name)], context.params.get("output")
    if path is None:
        raise click.UsageError(f"Missing argument '{first.make_metavar(context).strip('[]')}'; --site needs one.")
    path = path.absolute()
    for folder in (path, *list(path.parents)[:2]):
        if RunDirectory(folder).exists() and os.access(folder, os.W_OK):
            return Path(folder)
    if not path.exists():
        raise SwimmyError(f"{path}: not there. Check the path.")
    if output is None:
        raise SwimmyError(f"{path}: no run directory that you may write to, for the job's log. Give --output.")
    return Path(output).absolute()
