"""All checks, in the order in which users see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from swimmy_scale.cluster.doctor.connections import check_connections
from swimmy_scale.cluster.doctor.findings import Finding, ok
from swimmy_scale.cluster.doctor.folders import check_folder
from swimmy_scale.cluster.doctor.machine import check_machine
from swimmy_scale.cluster.doctor.slurm_site import check_commands, check_site
from swimmy_scale.cluster.doctor.tensorflow_devices import check_tensorflow
from swimmy_scale.cluster.executors import scorer_for
from swimmy_scale.cluster.gpus import gpu_files
from swimmy_scale.cluster.site import Site


def check_scorer(site: Site | None = None) -> Finding:
    """The scorer that a new run takes here, or at a site."""
    asked = site.section.scorer if site is not None else "auto"
    scorer = scorer_for(asked, None, site)
    why = {"keras": "for a GPU", "numba": "for CPUs"}[scorer] if asked == "auto" else "as the site file says"
    return ok("scorer", f"a new run scores by {scorer}, {why}")


def examine(folder: Path, site: Site | None = None) -> Iterator[Finding]:
    """Check whether this machine is fit for a run that writes to ``folder``; each finding comes as soon as it is there.

    If ``site`` is of kind slurm, its queues and limits are checked as well.
    """
    on_slurm = site if site is not None and site.is_slurm else None
    yield from check_machine()
    yield check_tensorflow(gpu_files())
    yield check_scorer(site)
    yield from check_folder(folder, must_be_shared=on_slurm is not None)
    yield from check_connections()
    if on_slurm is None:
        yield check_commands(needed=False)
    else:
        yield from check_site(on_slurm, folder)
