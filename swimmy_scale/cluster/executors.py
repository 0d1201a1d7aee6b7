"""Which executor performs the tasks of a command: this machine's, or that of a site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from swimmy_scale.cluster.local import LocalExecutor
from swimmy_scale.cluster.site import Site

if TYPE_CHECKING:
    from swimmy_scale.cluster.fleet import SlurmExecutor


def executor_for(
    site: Site | None, n_workers: int | None, run: Path, say: Callable[[str], None]
) -> LocalExecutor | SlurmExecutor:
    """The executor of a site, or without one that of this machine.

    ``n_workers`` counts where no site says how many (see `LocalExecutor`). What belongs to batch jobs lies in the log
    of the folder ``run``; ``say`` takes lines for the user.
    """
    if site is not None and site.is_slurm:
        from swimmy_scale.cluster.fleet import SlurmExecutor  # dask-jobqueue takes a second to import

        return SlurmExecutor(site, run, say)
    return LocalExecutor(site.section.workers if site else n_workers)
