"""Commands to set up a machine, or files: doctor, schema, completion."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from swimmy_scale.cli.program import EXIT_FAILED, PATH, json_option, main, print_json
from swimmy_scale.errors import SwimmyError


@main.command("doctor")
@click.option("--site", "site_path", type=PATH, help="Also check this site's queues and limits (see cluster/).")
@click.option(
    "--scratch",
    type=PATH,
    default=Path(),
    show_default="the current folder",
    help="Where runs would write; it need not exist yet.",
)
@json_option
def doctor_command(site_path: Path | None, scratch: Path, as_json: bool) -> None:
    """Say in plain words whether this machine, or a site, is fit; exit status 0 if it is, 1 if not.

    One line for each check: ok, warning (it works less well, or perhaps not) or problem (it will not work), with its
    remedy. It leaves nothing behind and submits no job.

    \b
    Example:
      swimmy-scale doctor
      swimmy-scale doctor --site cluster/slurm-cpu.yaml --scratch /shared/runs
    """
    from swimmy_scale.cluster.doctor.checks import examine
    from swimmy_scale.cluster.doctor.findings import is_fit, to_json, verdict
    from swimmy_scale.cluster.site import load_site

    site = load_site(site_path) if site_path else None
    found = []
    for finding in examine(scratch, site):
        found.append(finding)
        if not as_json:
            click.echo(finding.line())
    if as_json:
        print_json(to_json(found))
    else:
        click.echo(verdict(found))
    sys.exit(0 if is_fit(found) else EXIT_FAILED)


@main.command("schema")
@click.argument("what", metavar="job|site", type=click.Choice(["job", "site"]))
def schema_command(what: str) -> None:
    """Print the JSON schema of a job file, or of a site file.

    Editors read it to complete keys, to show what each means, and to mark what is wrong. It begins to work when the
    first line of a job file is ``# yaml-language-server: $schema=job.schema.json``.

    \b
    Example:
      swimmy-scale schema job > job.schema.json
      swimmy-scale schema site > site.schema.json
    """
    from swimmy_scale.cluster.site import SiteFile
    from swimmy_scale.method.job import Job
    from swimmy_scale.method.schema import schema_of

    root, title = (Job, "A job file of swimmy-scale") if what == "job" else (SiteFile, "A site file of swimmy-scale")
    print_json(schema_of(root, title))


@main.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the lines that make SHELL complete commands, options and files with TAB.

    \b
    Example:
      swimmy-scale completion bash >> ~/.bashrc
      swimmy-scale completion zsh >> ~/.zshrc
      swimmy-scale completion fish > ~/.config/fish/completions/swimmy-scale.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise SwimmyError(f"this version of click does not know {shell}. Install from the lock file: make setup.")
    click.echo(kind(main, {}, "swimmy-scale", "_SWIMMY_SCALE_COMPLETE").source())
