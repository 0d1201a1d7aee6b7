"""Where a job would run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a job would run.

    Attributes
    ----------
    name : str
        This machine, or a site file.
    readers, network : int
        Processes that read files, and that run the network.
    threads : int
        Of a process that scores.
    on_gpu : bool
        Whether the network runs on GPUs.
    """

    name: str
    readers: int
    network: int
    threads: int
    on_gpu: bool
