"""Cores and memory of this machine that its control groups let this process use: of a container, or of a batch job."""

from __future__ import annotations

import os
from pathlib import Path

from distributed.system import MEMORY_LIMIT

OWN_GROUPS, MOUNTED_GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def _group_values(name: str, own: Path = OWN_GROUPS, root: Path = MOUNTED_GROUPS) -> list[str]:
    """What limit files of this process's control groups and of those above them say; version 2 and version 1.

    Parameters
    ----------
    name : str
        Such as ``memory.max``.
    own : Path
        Where the kernel says in which groups the process is.
    root : Path
        Where the groups are mounted.
    """
    found = []
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, place = line.split(":", 2)
        mounted = root / controllers if controllers else root
        group = mounted / place.strip("/")
        for folder in [group, *group.parents]:
            if (folder / name).is_file():
                found.append((folder / name).read_text().strip())
            if folder == mounted:
                break
    return found


def memory_limit_bytes(own: Path = OWN_GROUPS, root: Path = MOUNTED_GROUPS) -> int | None:
    """The smallest memory limit of the process's control groups; None where there is none."""
    texts = [*_group_values("memory.max", own, root), *_group_values("memory.limit_in_bytes", own, root)]
    # Version 1 writes "no limit" as a number near 2^63.
    limits = [int(text) for text in texts if text.isdecimal() and int(text) < 1 << 60]
    return min(limits, default=None)


def core_quota(own: Path = OWN_GROUPS, root: Path = MOUNTED_GROUPS) -> float | None:
    """Cores that the process's control groups grant it; None where there is no limit."""
    pairs = [text.split() for text in _group_values("cpu.max", own, root)]
    periods = _group_values("cpu.cfs_period_us", own, root)
    pairs += [list(pair) for pair in zip(_group_values("cpu.cfs_quota_us", own, root), periods, strict=False)]
    quotas = [int(quota) / int(period) for quota, period in pairs if quota.isdecimal()]
    return min(quotas, default=None)


def usable_cores(own: Path = OWN_GROUPS, root: Path = MOUNTED_GROUPS) -> int:
    """Whole cores that this process may use: those that it may run on, as far as its time goes."""
    allowed = len(os.sched_getaffinity(0))
    quota = core_quota(own, root)
    return allowed if quota is None else max(min(allowed, int(quota)), 1)


def usable_memory_bytes(own: Path = OWN_GROUPS, root: Path = MOUNTED_GROUPS) -> int:
    """Memory that this process and those it starts may use together."""
    limit = memory_limit_bytes(own, root)
    return int(MEMORY_LIMIT) if limit is None else min(int(MEMORY_LIMIT), limit)
