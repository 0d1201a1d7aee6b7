"""The cores and memory of this machine that a process may use: its container or batch job may limit them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ControlGroups:
    """The limits that the kernel's control groups set for this process, in version 1 or 2."""

    own: Path = Path("/proc/self/cgroup")  # in which groups the process is
    root: Path = Path("/sys/fs/cgroup")  # where the groups are mounted

    @property
    def memory_bytes(self) -> int | None:
        """The smallest memory limit, or None without one."""
        texts = [*self._values("memory.max"), *self._values("memory.limit_in_bytes")]
        # Version 1 writes "no limit" as a number near 2^63.
        limits = [int(text) for text in texts if text.isdecimal() and int(text) < 1 << 60]
        return min(limits, default=None)

    @property
    def n_cores(self) -> float | None:
        """The smallest processor time that is granted, in cores; None without a limit."""
        pairs = [text.split() for text in self._values("cpu.max")]
        periods = self._values("cpu.cfs_period_us")
        pairs += [list(pair) for pair in zip(self._values("cpu.cfs_quota_us"), periods, strict=False)]
        # No limit is "max" in version 2, and -1 in version 1.
        quotas = [int(quota) / int(period) for quota, period in pairs if quota.isdecimal()]
        return min(quotas, default=None)

    def _values(self, name: str) -> list[str]:
        """What the files of this name, such as ``memory.max``, say in the process's groups and those above them."""
        found = []
        for line in self.own.read_text().splitlines() if self.own.exists() else []:
            _, controllers, place = line.split(":", 2)
            mounted = self.root / controllers if controllers else self.root
            group = mounted / place.strip("/")
            for folder in [group, *group.parents]:
                if (folder / name).is_file():
                    found.append((folder / name).read_text().strip())
                if folder == mounted:
                    break
        return found


def usable_cores(n_allowed: int | None = None, groups: ControlGroups = ControlGroups()) -> int:
    """Whole cores that this process may use.

    It may run on ``n_allowed``, by default as the system says; ``groups`` may limit its time on them.
    """
    allowed = len(os.sched_getaffinity(0)) if n_allowed is None else n_allowed
    quota = groups.n_cores
    return allowed if quota is None else max(min(allowed, int(quota)), 1)


def usable_memory_bytes(total_bytes: int | None = None, groups: ControlGroups = ControlGroups()) -> int:
    """Memory that this process and those it starts may use together.

    The machine has ``total_bytes``, by default as the system says; ``groups`` may grant fewer.
    """
    if total_bytes is None:
        total_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = groups.memory_bytes
    return total_bytes if limit is None else min(total_bytes, limit)
