"""Which executor performs the tasks of a command: this machine's, or that of a site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from swimmy_scale.cluster.local import LocalExecutor, default_workers
from swimmy_scale.cluster.site import Site

if TYPE_CHECKING:
    from swimmy_scale.cluster.fleet import SlurmExecutor


def local_executor(n_workers: int | None = None) -> LocalExecutor:
    """Worker processes on this machine; by default one a core, as far as the memory goes."""
    return LocalExecutor(default_workers() if n_workers is None else n_workers)


def executor_for(
    site: Site | None, n_workers: int | None, run: Path, say: Callable[[str], None]
) -> LocalExecutor | SlurmExecutor:
    """The executor of a site, or of this machine where there is none.

    Parameters
    ----------
    n_workers : int, optional
        Processes on this machine; a site file says so itself.
    run : Path
        The folder whose log holds what belongs to batch jobs.
    say : callable
        Told what people should see of it.
    """
    if site is not None and site.is_slurm:
        from swimmy_scale.cluster.fleet import SlurmExecutor  # dask-jobqueue takes a second to import

        return SlurmExecutor(site, run, say)
    return local_executor(site.section.workers if site else n_workers)
