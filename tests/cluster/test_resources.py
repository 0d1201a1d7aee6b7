"""Cores and memory of control groups, as files of both versions state them, and what a run starts in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from swimmy_scale.cluster import local, resources

GIB = 1 << 30


def groups(tmp_path: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return tmp_path / "own", tmp_path / "groups"


@pytest.mark.parametrize(
    ("own", "files", "memory_bytes", "cores"),
    [
        # Version 2: the limit of a group above counts as well.
        ("0::/jobs/1\n", {"jobs/1/memory.max": "max", "jobs/memory.max": str(3 * GIB)}, 3 * GIB, None),
        ("0::/jobs/1\n", {"jobs/1/memory.max": str(GIB), "jobs/memory.max": str(3 * GIB)}, GIB, None),
        ("0::/a\n", {"a/cpu.max": "150000 100000", "cpu.max": "max 100000"}, None, 1.5),
        ("0::/\n", {"memory.max": str(GIB)}, GIB, None),
        # Version 1.
        (
            "4:memory:/job\n3:cpu,cpuacct:/job\n",
            {
                "memory/job/memory.limit_in_bytes": str(2 * GIB),
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu,cpuacct/job/cpu.cfs_quota_us": "400000",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2 * GIB,
            4.0,
        ),
        ("0::/none\n", {}, None, None),
    ],
)
def test_control_groups(
    tmp_path: Path, own: str, files: dict[str, str], memory_bytes: int | None, cores: float | None
) -> None:
    paths = groups(tmp_path, own, files)
    assert resources.memory_limit_bytes(*paths) == memory_bytes
    assert resources.core_quota(*paths) == cores


def test_without_control_groups(tmp_path: Path) -> None:
    assert resources.memory_limit_bytes(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize(
    ("files", "n_workers"),
    [
        ({"job/memory.max": str(4 * GIB)}, 1),
        ({"job/memory.max": str(12 * GIB)}, 5),
        ({"job/memory.max": str(512 * GIB)}, 64),
        ({"job/cpu.max": "350000 100000"}, 3),
        ({"job/cpu.max": "50000 100000", "memory.max": str(12 * GIB)}, 1),
    ],
)
def test_a_container_starts_as_many_workers_as_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], n_workers: int
) -> None:
    """On a host of 64 cores and 256 GiB, of which the container may use what its files state."""
    paths = groups(tmp_path, "0::/job\n", files)
    monkeypatch.setattr(resources, "MEMORY_LIMIT", 256 * GIB)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(local, "usable_cores", lambda: resources.usable_cores(*paths))
    monkeypatch.setattr(local, "usable_memory_bytes", lambda: resources.usable_memory_bytes(*paths))
    assert local.default_workers() == n_workers
    executor = local.LocalExecutor(n_workers)
    assert executor.limits.network_bytes * n_workers <= min(resources.usable_memory_bytes(*paths), 256 * GIB)
    assert executor.threads_each == max(resources.usable_cores(*paths) // n_workers, 1)
