"""Commands to set up a machine, or files: init, doctor, schema, completion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from swimmy_scale.cli.program import EXIT_FAILED, PATH, json_option, main, print_json
from swimmy_scale.errors import SwimmyError, typed

# Those of library.start.DATA, which is not loaded for each command.
_DATA = (
    *("hsc-archive", "coadds", "cube", "mmu-hsc", "galaxiesml", "mmu-legacy", "unagi", "legacy-viewer", "panstarrs"),
    *("kids-viking", "rubin", "euclid"),
)


@main.command("init")
@click.argument("folder", type=PATH, default=Path())
@click.option("--data", type=click.Choice(_DATA), default="hsc-archive", show_default=True,
              help="What the pixels are: HSC's cutouts, whole coadds, one cube, or a public data set.")  # fmt: skip
@click.option("--site", "site_kind", type=click.Choice(["local", "slurm", "slurm-gpu"]), default="local",
              show_default=True, help="Where jobs run: this machine, or SLURM without or with GPUs.")  # fmt: skip
@click.option("--catalog", type=PATH, help="The catalogue of the objects.")
@click.option("--patch-qa", type=PATH, help="Seeing and depth of its patches.")
@click.option("--source", "sources", type=PATH, multiple=True, help="Where the pixels are; give it once for each.")
@click.option("--coadd", "coadds", metavar="BAND=PATH", multiple=True, help="The coadd of a band; once for each.")
@click.option("--train-on", "classes", metavar="CLASS", multiple=True,
              help="A class to train on. Default: every galaxy of the sample.")  # fmt: skip
def init_command(
    folder: Path,
    data: Any,
    site_kind: Any,
    catalog: Path | None,
    patch_qa: Path | None,
    sources: tuple[Path, ...],
    coadds: tuple[str, ...],
    classes: tuple[str, ...],
) -> None:
    """Write job.yaml and site.yaml to FOLDER (by default the current one), with your paths and a comment on each key.

    \b
    Example:
      swimmy-scale init demo --catalog demo/survey/catalogue.fits \\
        --patch-qa demo/survey/patch_qa.fits --source demo/survey/cutouts \\
        --train-on training
      swimmy-scale init my-survey --catalog catalogue.fits --patch-qa patch_qa.fits --source cutouts
      swimmy-scale init mmu --data mmu-hsc --source pdr3_dud_22.5
      swimmy-scale init my-survey --data coadds --coadd g=g.fits --coadd r=r.fits --site slurm
    """
    from swimmy_scale.cli.stages import assignments
    from swimmy_scale.library.start import init

    images = {band: Path(path) for band, path in assignments(coadds, "--coadd", "BAND=PATH").items()}
    files = init(
        folder, data, site_kind, catalogue=catalog, patch_qa=patch_qa, sources=sources, coadd=images, classes=classes
    )
    for path in files.values():
        click.echo(path)
    click.echo(f"Look through them, then: {typed('plan', files['job'])}", err=True)


@main.command("doctor")
@click.option("--site", "site_path", type=PATH, help="Also check this site's queues and limits (`init` writes one).")
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
      swimmy-scale doctor --site demo/site.yaml --scratch /shared/runs
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
