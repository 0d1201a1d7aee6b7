"""Gives each worker process of a job with several GPUs one of its own; Dask loads it into workers by ``--preload``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any

from swimmy_scale.cluster.gpus import visible_gpus
from swimmy_scale.errors import SwimmyError

OF_SEVERAL = re.compile(r".+-\d+-(\d+)")
"""Names of workers whose job has several, such as ``gpu-123-0``: the group, the job, and which of its workers."""


def keep_one(index: int, gpus: list[str], environment: MutableMapping[str, str] = os.environ) -> None:
    """Leave this process the GPU of a number, before it loads what computes there.

    Raises
    ------
    SwimmyError
        When there are not as many.
    """
    if index >= len(gpus):
        raise SwimmyError(
            f"worker {index} of this node has no GPU of its own: there are {len(gpus)} ({', '.join(gpus) or 'none'}). "
            "Set gpus of the group, and processes of its jobs, to the GPUs that Slurm gives a job."
        )
    environment["CUDA_VISIBLE_DEVICES"] = gpus[index]


def dask_setup(worker: Any) -> None:
    """Called in each worker process as it starts; one without a GPU of its own ends, with a line in the job's log."""
    if found := OF_SEVERAL.fullmatch(str(worker.name)):
        try:
            keep_one(int(found[1]), visible_gpus())
        except SwimmyError as error:
            # Dask would only log it, and the worker would take the GPU of another.
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(1)
