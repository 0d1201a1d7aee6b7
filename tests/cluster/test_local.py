"""Worker processes on this machine: how they start, and what they know."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from swimmy_scale.cluster import local
from swimmy_scale.cluster.local import IMPORTED_ONCE, local_workers, start_method
from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.engine import Task
from swimmy_scale.storage.receipts import Ledger, Receipt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every worker starts from nothing"),
]


def tell(task: Task) -> Receipt:
    """Say what a worker process is."""
    time.sleep(0.2)  # so that every worker gets one
    details = {
        "modules": [*sys.modules],
        "GPU": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "NOTE": os.environ.get("SWIMMY_TEST_NOTE"),
        "parent": os.getppid(),
    }
    return Receipt("count", task.name, task.identity, n_objects=os.getpid(), details=details)


@dataclass
class Work:
    """As much of a stage as workers need."""

    perform: Any = tell
    probe: Any = None
    own_cores: bool = True


def told(folder: Path) -> Receipt:
    """What a worker says that starts for this."""
    with local_workers(1) as pool:
        (receipt,) = pool.map(Work(), [Task(Ledger(folder / "receipts", folder, "count"), 0, "0", 1)])
    return receipt


def test_workers_know_this_moments_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = told(tmp_path)
    assert one.details["NOTE"] is None
    monkeypatch.setenv("SWIMMY_TEST_NOTE", "set after the first worker has started")
    other = told(tmp_path)
    assert other.details["NOTE"] == "set after the first worker has started"
    assert one.n_objects != other.n_objects, "every stage has processes of its own"
    assert one.details["parent"] == other.details["parent"] != os.getpid(), "which one process starts"


@pytest.mark.parametrize(("listed", "kept"), [("3,5", {"3", "5"}), ("3", {"3"}), (None, {None})])
def test_workers_share_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str | None, kept: set[str | None]
) -> None:
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    ledger = Ledger(tmp_path / "receipts", tmp_path, "count")
    with local_workers(2) as pool:
        receipts = list(pool.map(Work(), [Task(ledger, number, str(number), 1) for number in range(4)]))
    assert {receipt.details["GPU"] for receipt in receipts} == kept


def test_what_they_start_with(tmp_path: Path) -> None:
    modules = set(told(tmp_path).details["modules"])
    assert {*IMPORTED_ONCE} <= modules
    # These start threads, which a process that others start from must not have, or are seldom needed.
    assert modules & {"tensorflow", "keras", "jax", "torch", "pandas", "matplotlib"} == set()


def test_what_they_start_from_may_be_lost(tmp_path: Path) -> None:
    starter = psutil.Process(told(tmp_path).details["parent"])
    assert starter.ppid() == os.getpid()
    starter.kill()
    assert told(tmp_path).details["parent"] != starter.pid


def test_systems_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_method() in multiprocessing.get_all_start_methods()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert start_method() == "spawn"


def served(process: psutil.Process) -> Iterator[bytes]:
    """What the ports of a process, and of its workers, answer to anybody on this machine."""
    for one in (process, *process.children(recursive=True)):
        for connection in one.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                for page in ("", "status", "info/main/workers.html", "individual-graph", "json/counts.json"):
                    address = f"http://{connection.laddr.ip}:{connection.laddr.port}/{page}"
                    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as answer:
                        yield answer.read()


def test_nothing_is_served_without_a_password() -> None:
    with local_workers(1):
        assert list(served(psutil.Process())) == []


def failing_cluster(monkeypatch: pytest.MonkeyPatch, n_failures: int) -> list[int]:
    """Let the first starts of a cluster fail as they do when a worker ends while it starts."""
    usual, starts = local._cluster, list[int]()

    def start(*given: Any) -> distributed.LocalCluster:
        starts.append(len(starts))
        if len(starts) <= n_failures:
            raise RuntimeError("Nanny failed to start.")
        return usual(*given)

    monkeypatch.setattr(local, "_cluster", start)
    return starts


def test_workers_that_end_while_they_start_are_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = failing_cluster(monkeypatch, local.MAX_STARTS - 1)
    with local_workers(1) as pool:
        assert len(pool._client.run(os.getpid)) == 1
    assert len(starts) == local.MAX_STARTS


def test_workers_that_never_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_cluster(monkeypatch, local.MAX_STARTS)
    said = r"^2 worker processes could not be started: RuntimeError: Nanny failed to start\. See what ends "
    with pytest.raises(SwimmyError, match=said), local_workers(2):
        pass
