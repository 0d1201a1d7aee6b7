"""What control groups of both versions limit, as their files say it, and what a run starts within the limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from swimmy_scale.cluster.executors import LocalExecutor, default_workers
from swimmy_scale.cluster.local import local_workers
from swimmy_scale.cluster.resources import ControlGroups, usable_cores, usable_memory_bytes
from swimmy_scale.method.sections import TrainSection

GIB = 1 << 30


def groups_in(tmp_path: Path, own: str, files: dict[str, str]) -> ControlGroups:
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return ControlGroups(tmp_path / "own", tmp_path / "groups")


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
    groups = groups_in(tmp_path, own, files)
    assert groups.memory_bytes == memory_bytes
    assert groups.n_cores == cores


def test_without_control_groups(tmp_path: Path) -> None:
    groups = ControlGroups(tmp_path / "none", tmp_path)
    assert groups.memory_bytes is None
    assert groups.n_cores is None
    assert usable_cores(7, groups) == 7
    assert usable_memory_bytes(5 * GIB, groups) == 5 * GIB


def test_this_machine() -> None:
    allowed, present = len(os.sched_getaffinity(0)), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 <= usable_cores() <= allowed
    assert GIB // 4 < usable_memory_bytes() <= present
    executor = LocalExecutor()
    assert executor.threads_each == usable_cores() // default_workers(usable_cores(), usable_memory_bytes())


@pytest.mark.parametrize(
    ("files", "n_workers", "each_bytes", "threads_each"),
    [
        # A worker needs 2 GiB and a little.
        ({"job/memory.max": str(4 * GIB)}, 1, 4 * GIB, 64),
        ({"job/memory.max": str(12 * GIB)}, 5, 12 * GIB // 5, 12),
        ({"job/memory.max": str(512 * GIB)}, 64, 4 * GIB, 1),
        ({"job/cpu.max": "350000 100000"}, 3, 256 * GIB // 3, 1),
        ({"job/cpu.max": "50000 100000", "memory.max": str(12 * GIB)}, 1, 12 * GIB, 1),
    ],
)
def test_a_container_starts_as_many_workers_as_fit(
    tmp_path: Path, files: dict[str, str], n_workers: int, each_bytes: int, threads_each: int
) -> None:
    """On a host of 64 cores and 256 GiB, of which the container may use what its files state."""
    groups = groups_in(tmp_path, "0::/job\n", files)
    n_cores, memory_bytes = usable_cores(64, groups), usable_memory_bytes(256 * GIB, groups)
    assert default_workers(n_cores, memory_bytes) == n_workers
    executor = LocalExecutor(n_cores=n_cores, memory_bytes=memory_bytes)
    assert executor.limits.reader_bytes == executor.limits.network_bytes == each_bytes
    assert executor.limits.where == f"this machine, with {n_workers} worker processes,"
    assert executor.threads_each == threads_each


def test_a_given_number_of_workers_is_obeyed() -> None:
    executor = LocalExecutor(3, n_cores=8, memory_bytes=4 * GIB)
    assert (executor.limits.reader_bytes, executor.threads_each) == (4 * GIB // 3, 2)
    train = TrainSection(n_threads=5)
    assert executor.scoring_threads(train, "keras") == 2
    here = LocalExecutor(0, n_cores=8, memory_bytes=4 * GIB)
    assert (here.limits.reader_bytes, here.threads_each) == (4 * GIB, 8)
    assert here.scoring_threads(None, "keras") == here.scoring_threads(train, "numba") == 8
    assert here.scoring_threads(train, "keras") == 5, "TensorFlow keeps the threads of its training"


def memory_of_worker(dask_worker: Any) -> int:
    limit: int = dask_worker.memory_manager.memory_limit
    return limit


@pytest.mark.slow
def test_a_worker_that_takes_more_than_its_share_would_be_ended() -> None:
    with local_workers(2, memory_bytes=3 * GIB) as pool:
        limits = pool._client.run(memory_of_worker)
    assert list(limits.values()) == [3 * GIB // 2] * 2
