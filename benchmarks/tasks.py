"""What Dask itself costs: empty partitions through the program's own mapping, and the driver's memory.

    python benchmarks/tasks.py --json benchmarks/tasks.json            # up to 10,000 partitions
    python benchmarks/tasks.py --n-tasks 1000000 --json ...            # more, a quarter of an hour for a million

Scheduler and driver are one process here, as in a run. Tasks do nothing, so that all that is measured is planning,
sending, scheduling and taking in; each number of partitions has a process of its own. The share of a real run is that
cost over what the partitions of 839,908 objects take to score, at the rate that is given or measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import report, row

N_OBJECTS = 839_908
PARTITION_OBJECTS = 2048
OBJECTS_PER_SECOND = 1700.0


def perform_nothing(task: Any) -> Any:
    """A task whose work takes no time: its receipt alone."""
    from swimmy_scale.receipts import Receipt

    return Receipt(task.ledger.stage, task.name, task.identity, task.n_objects)


@dataclass(frozen=True)
class EmptyWork:
    """A stage of empty tasks."""

    perform: Any = perform_nothing
    probe: Any = None
    wants_gpu: bool = False


def measure(n_tasks: int, n_workers: int) -> dict[str, float]:
    """Seconds for so many tasks, and this process's memory before and after."""
    import psutil

    from swimmy_scale.cluster.local import local_workers
    from swimmy_scale.receipts import Ledger
    from swimmy_scale.stages.engine import Task, Tasks

    me = psutil.Process()
    with tempfile.TemporaryDirectory() as name:
        ledger = Ledger(Path(name) / "receipts", Path(name), "score")
        tasks = Tasks(range(n_tasks), lambda index: Task(ledger, index, f"{index:064x}", PARTITION_OBJECTS))
        with local_workers(n_workers) as pool:
            for _ in pool.map(EmptyWork(), tasks[:100]):
                pass
            before, cpu = me.memory_info().rss, me.cpu_times()
            started = time.perf_counter()
            n_objects = sum(receipt.n_objects for receipt in pool.map(EmptyWork(), tasks))
            seconds = time.perf_counter() - started
            after = me.cpu_times()
    if n_objects != n_tasks * PARTITION_OBJECTS:
        raise SystemExit(f"{n_objects} objects came back of {n_tasks} partitions")
    used = after.user + after.system - cpu.user - cpu.system
    return {"seconds": seconds, "cpu_seconds": used, "grown_bytes": me.memory_info().rss - before}


def main() -> None:
    """Measure every number of partitions, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-tasks", type=int, default=10_000, help="the largest number of partitions")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--objects-per-second", type=float, default=OBJECTS_PER_SECOND)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    n_workers = len(os.sched_getaffinity(0))
    if options.measure is not None:
        # Workers know the module by its name, not as the program that was started.
        import tasks

        print(json.dumps(tasks.measure(options.measure, n_workers)))
        return
    numbers = [10**k for k in range(3, 8) if 10**k <= options.n_tasks]
    rows, costs, grown = [], [], []
    for number in numbers:
        found = []
        for _ in range(options.repeat):
            command = [sys.executable, __file__, "--measure", str(number)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        each = [1e3 * one["seconds"] / number for one in found]
        costs.append(float(np.median(each)))
        grown.append(float(np.median([one["grown_bytes"] for one in found])))
        cpu = float(np.median([1e3 * one["cpu_seconds"] / number for one in found]))
        more = {"n_tasks": number, "grown_mib": grown[-1] / 2**20, "cpu_ms_a_task": cpu}
        rows.append(row(f"{number:,} empty partitions", "ms each", each, **more))
    n_partitions = -(-N_OBJECTS // PARTITION_OBJECTS)
    share = 100 * n_partitions * costs[0] / 1e3 / (N_OBJECTS / options.objects_per_second)
    what = f"Dask's share of scoring {N_OBJECTS:,} objects at {options.objects_per_second:,.0f} objects/s"
    rows.append(row(what, "%", [share], ratio=None, target=2, met=share < 2))
    growth = costs[-1] / costs[0]
    what = f"a partition's cost at {numbers[-1]:,} against {numbers[0]:,} (1 is linear)"
    rows.append(row(what, "", [growth], ratio=growth, target=1.25, met=growth <= 1.25))
    notes = [
        f"the driver with its scheduler grew by {grown[-1] / 2**20:,.0f} MiB over {numbers[-1]:,} partitions",
        f"10,000,000 partitions would take {costs[-1] * 1e4 / 3600:.1f} h of it at this rate",
    ]
    report("tasks", rows, options.json, notes, repeat=options.repeat, n_workers=n_workers)


if __name__ == "__main__":
    main()
