"""What Dask itself costs: empty partitions through the program's own mapping, and the driver's memory.

    python benchmarks/tasks.py --json benchmarks/results/tasks.json               # up to 10,000 partitions
    python benchmarks/tasks.py --n-tasks 10000000 --json .../tasks_many.json      # three quarters of an hour

Scheduler and driver are one process here, as in a run. Tasks do nothing, so that all that is measured is planning,
sending, scheduling and taking in; each number of partitions has a process of its own. Short tasks are sent many at a
time, and nothing is shorter than nothing; a partition that takes a second or more is sent alone. The share of a real
run is therefore the cost of those sent alone, over what the partitions of 839,908 objects take to score at the rate
that is given.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import answer_of, report, row

N_OBJECTS = 839_908
PARTITION_OBJECTS = 2048
OBJECTS_PER_SECOND = 1700.0
FEW_TASKS = 10_000
IN_MEMORY = Path("/dev/shm")  # noqa: S108


def perform_nothing(task: Any) -> Any:
    """A task whose work takes no time: its receipt alone."""
    from swimmy_scale.storage.receipts import Receipt

    return Receipt(task.ledger.stage, task.name, task.identity, task.n_objects)


@dataclass(frozen=True)
class EmptyWork:
    """A stage of empty tasks."""

    perform: Any = perform_nothing
    probe: Any = None
    wants_gpu: bool = False
    own_cores: bool = True


def measure(n_tasks: int, n_workers: int, most_bundled: int | None = None) -> dict[str, float]:
    """Seconds for so many tasks, at most ``most_bundled`` sent together, and this process's memory before and after."""
    import psutil

    from swimmy_scale.cluster.local import local_workers
    from swimmy_scale.cluster.mapping import MOST_BUNDLED
    from swimmy_scale.stages.engine import Task, Tasks
    from swimmy_scale.storage.receipts import Ledger

    me = psutil.Process()
    # Marks of attempts are the workers' work, on the file system of a cluster; here they lie in memory.
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as name:
        ledger = Ledger(Path(name) / "receipts", Path(name), "score")
        tasks = Tasks(range(n_tasks), lambda index: Task(ledger, index, f"{index:064x}", PARTITION_OBJECTS))
        with local_workers(n_workers, most_bundled=most_bundled or MOST_BUNDLED) as pool:
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


def timed(n_tasks: int, repeat: int, *options: str) -> list[dict[str, float]]:
    """`measure` in processes of their own."""
    command = [sys.executable, __file__, "--measure", str(n_tasks), *options]
    return [answer_of(command) for _ in range(repeat)]


def task_row(what: str, n_tasks: int, found: list[dict[str, float]]) -> dict[str, Any]:
    """One number of partitions as a line of the result."""
    more = {
        "n_tasks": n_tasks,
        "grown_mib": float(np.median([one["grown_bytes"] for one in found])) / 2**20,
        "cpu_ms_a_task": float(np.median([1e3 * one["cpu_seconds"] / n_tasks for one in found])),
    }
    return row(what, "ms each", [1e3 * one["seconds"] / n_tasks for one in found], **more)


def main() -> None:
    """Measure every number of partitions, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-tasks", type=int, default=FEW_TASKS, help="the largest number of partitions")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--objects-per-second", type=float, default=OBJECTS_PER_SECOND)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--most-bundled", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    n_workers = len(os.sched_getaffinity(0))
    if options.measure is not None:
        # Workers know the module by its name, not as the program that was started.
        import tasks

        print(json.dumps(tasks.measure(options.measure, n_workers, options.most_bundled)))
        return
    alone = timed(1000, options.repeat, "--most-bundled", "1")
    cost_alone = float(np.median([one["seconds"] for one in alone])) / 1000
    rows = [task_row("1,000 empty partitions, sent one at a time", 1000, alone)]
    numbers = [10**k for k in range(3, 8) if 10**k <= options.n_tasks]
    costs, grown = [], []
    for number in numbers:
        found = timed(number, options.repeat)
        costs.append(float(np.median([one["seconds"] for one in found])) / number)
        grown.append(float(np.median([one["grown_bytes"] for one in found])))
        rows.append(task_row(f"{number:,} empty partitions", number, found))
    # The few of every day do not replace the many, which take most of an hour.
    name = "tasks" if numbers[-1] <= FEW_TASKS else "tasks_many"
    if name == "tasks":
        # Partitions that take a second are sent one at a time.
        n_partitions = -(-N_OBJECTS // PARTITION_OBJECTS)
        share = 100 * n_partitions * cost_alone / (N_OBJECTS / options.objects_per_second)
        what = f"Dask's share of scoring {N_OBJECTS:,} objects at {options.objects_per_second:,.0f} objects/s"
        rows.append(row(what, "%", [share], ratio=None, target=2, met=share < 2))
    fewer = max(len(numbers) - 2, 0)
    growth = costs[-1] / costs[fewer]
    what = f"a partition's cost at {numbers[-1]:,} against {numbers[fewer]:,} (1 is linear)"
    rows.append(row(what, "", [growth], ratio=growth, target=1.25, met=growth <= 1.25))
    notes = [
        f"the driver with its scheduler grew by {grown[-1] / 2**20:,.0f} MiB over {numbers[-1]:,} partitions, "
        f"which took {costs[-1] * numbers[-1]:,.0f} s"
    ]
    report(name, rows, options.json, notes, repeat=options.repeat, n_workers=n_workers)


if __name__ == "__main__":
    main()
