"""Dask workers: failures, deaths, strangers, and a scheduler that is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distributed
import pytest

from swimmy_scale.cluster.executors import LocalExecutor
from swimmy_scale.cluster.local import local_workers, share_of_cores
from swimmy_scale.cluster.mapping import MAX_FAILURES, DaskWorkers
from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.engine import Task
from swimmy_scale.stages.lost_workers import MAX_LOST_WORKERS, left_out
from swimmy_scale.storage.receipts import Ledger, Receipt

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def workers() -> Iterator[DaskWorkers]:
    with local_workers(2) as pool:
        yield pool


@dataclass
class Work:
    """As much of a stage as workers need."""

    perform: Callable[[Any], Receipt]
    probe: Callable[[Any, int, int], None] | None = None
    own_cores: bool = True


def tasks_in(folder: Path, n_tasks: int) -> list[Task]:
    return [Task(Ledger(folder / "receipts", folder, "count"), index, str(index), 1) for index in range(n_tasks)]


def attempts(task: Task) -> int:
    """How often the task was tried before. This try is noted on disk, which outlives the worker."""
    task.ledger.root.mkdir(exist_ok=True)
    seen = sorted(task.ledger.root.glob(f"try-{task.index}-*"))
    (task.ledger.root / f"try-{task.index}-{len(seen)}").touch()
    return len(seen)


def succeed(task: Task) -> Receipt:
    return Receipt("count", task.name, task.identity, n_objects=os.getpid())


def fail_twice(task: Task) -> Receipt:
    if task.index == 1 and attempts(task) < MAX_FAILURES - 1:
        raise OSError("the disk is away")
    return succeed(task)


def fail_always(task: Task) -> Receipt:
    attempts(task)
    raise OSError("the disk is away")


def refuse(task: Task) -> Receipt:
    attempts(task)
    raise SwimmyError("cutouts.zarr: no such file. Check the path.")


def die_once(task: Task) -> Receipt:
    if task.index == 2 and attempts(task) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return succeed(task)


@pytest.mark.slow
def test_every_task_comes_back_once(workers: DaskWorkers, tmp_path: Path) -> None:
    receipts = list(workers.map(Work(succeed), tasks_in(tmp_path, 25)))
    assert sorted(receipt.name for receipt in receipts) == [f"{index:06d}" for index in range(25)]
    assert os.getpid() not in {receipt.n_objects for receipt in receipts}


def test_no_tasks(workers: DaskWorkers) -> None:
    assert list(workers.map(Work(succeed), [])) == []


def test_passing_failures_are_tried_again(workers: DaskWorkers, tmp_path: Path) -> None:
    receipts = list(workers.map(Work(fail_twice), tasks_in(tmp_path / "a", 4)))
    assert len(receipts) == 4
    assert len(list((tmp_path / "a").glob("try-1-*"))) == MAX_FAILURES


def test_lasting_failures_stop_the_stage(workers: DaskWorkers, tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"count 000000 failed 3 times, last with OSError: the disk is away"):
        list(workers.map(Work(fail_always), tasks_in(tmp_path / "b", 1)))
    assert len(list((tmp_path / "b").glob("try-0-*"))) == MAX_FAILURES


def test_refusals_are_not_tried_again(workers: DaskWorkers, tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"^cutouts.zarr: no such file. Check the path.$"):
        list(workers.map(Work(refuse), tasks_in(tmp_path / "c", 1)))
    assert len(list((tmp_path / "c").glob("try-0-*"))) == 1


def test_a_dead_worker_is_replaced_and_its_task_done(workers: DaskWorkers, tmp_path: Path) -> None:
    receipts = list(workers.map(Work(die_once), tasks_in(tmp_path / "d", 6)))
    assert sorted(receipt.name for receipt in receipts) == [f"{index:06d}" for index in range(6)]


class CountingWorkers(DaskWorkers):
    """Notes the sizes of bundles."""

    def __init__(self, workers: DaskWorkers, **more: Any) -> None:
        super().__init__(workers._client, workers.n_workers, **more)
        self.sizes: list[int] = []

    def submit(self, function: Callable[..., Any] | None, items: Sequence[Any]) -> Any:
        self.sizes.append(len(items))
        return super().submit(function, items)


@pytest.mark.slow
def test_short_tasks_are_sent_together(workers: DaskWorkers, tmp_path: Path) -> None:
    counting = CountingWorkers(workers)
    sizes = counting.sizes
    receipts = list(counting.map(Work(succeed), tasks_in(tmp_path, 1000)))
    assert sorted(receipt.name for receipt in receipts) == [f"{index:06d}" for index in range(1000)]
    assert sum(sizes) == 1000
    assert len(sizes) < 200
    assert max(sizes) <= 1000 // 4, "the last ones are spread over the workers"
    assert sizes[-1] == 1


def test_bundles_have_a_largest_size(workers: DaskWorkers, tmp_path: Path) -> None:
    alone = CountingWorkers(workers, most_bundled=1)
    assert len(list(alone.map(Work(succeed), tasks_in(tmp_path, 100)))) == 100
    assert alone.sizes == [1] * 100


def linger(task: Task) -> Receipt:
    time.sleep(0.6)
    return succeed(task)


@pytest.mark.slow
def test_long_tasks_are_sent_one_at_a_time(workers: DaskWorkers, tmp_path: Path) -> None:
    counting = CountingWorkers(workers)
    assert len(list(counting.map(Work(linger), tasks_in(tmp_path, 7)))) == 7
    assert counting.sizes == [1] * 7


@pytest.mark.slow
def test_a_consumer_that_stops_early_leaves_no_task_at_the_workers(workers: DaskWorkers, tmp_path: Path) -> None:
    receipts = workers.map(Work(linger), tasks_in(tmp_path, 50))
    next(receipts)
    receipts.close()
    # Those that run may come to their end; those that wait behind them are taken back.
    deadline = time.monotonic() + 60
    while any(workers._client.processing().values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(list(workers.map(Work(succeed), tasks_in(tmp_path, 5)))) == 5


def test_a_lost_scheduler_is_told(workers: DaskWorkers, tmp_path: Path) -> None:
    client = workers._client
    with distributed.Client(client.scheduler.address, security=client.security, set_as_default=False) as other:
        receipts = DaskWorkers(other, workers.n_workers).map(Work(linger), tasks_in(tmp_path, 20))
        next(receipts)
        other.close()
        with pytest.raises(SwimmyError, match=r"connection to Dask's scheduler is lost. .* run the same command again"):
            list(receipts)


def die_in_the_middle(task: Task) -> Receipt:
    """Commits its receipt, as tasks do, so that what a worker did before its death is known."""
    if task.index == 500 and attempts(task) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    with (task.ledger.root / f"done-{task.index}").open("a") as stream:
        stream.write("x")
    receipt = succeed(task)
    task.ledger.commit(receipt)
    return receipt


@pytest.mark.slow
def test_a_death_among_tasks_that_were_sent_together(workers: DaskWorkers, tmp_path: Path) -> None:
    counting = CountingWorkers(workers)
    receipts = list(counting.map(Work(die_in_the_middle), tasks_in(tmp_path, 1000)))
    assert sorted(receipt.name for receipt in receipts) == [f"{index:06d}" for index in range(1000)]
    assert max(counting.sizes) > 1
    assert {path.read_text() for path in tmp_path.glob("done-*")} == {"x"}, "none is done twice"


def refuse_one(task: Task) -> Receipt:
    if task.index == 500:
        raise SwimmyError("cutouts.zarr: no such file. Check the path.")
    return succeed(task)


def fail_one(task: Task) -> Receipt:
    if task.index == 500:
        raise OSError("the disk is away")
    return succeed(task)


@pytest.mark.parametrize(
    ("perform", "message"),
    [(refuse_one, r"^cutouts.zarr: no such file"), (fail_one, r"count 000500 failed 3 times, last with OSError")],
)
def test_failures_among_tasks_that_were_sent_together(
    workers: DaskWorkers, tmp_path: Path, perform: Callable[[Task], Receipt], message: str
) -> None:
    with pytest.raises(SwimmyError, match=message):
        list(workers.map(Work(perform), tasks_in(tmp_path, 1000)))


def test_strangers_are_refused(workers: DaskWorkers) -> None:
    address = workers._client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    with pytest.raises((OSError, TypeError, ValueError), match=r"."):
        distributed.Client(address.replace("tls://", "tcp://"), timeout="3s", set_as_default=False)
    with pytest.raises((OSError, TypeError, ValueError), match=r"."):
        distributed.Client(address, security=distributed.Security.temporary(), timeout="3s", set_as_default=False)


BAD_ROWS = {3: {5, 6}, 4: {0}}


def _touch(task: Task, lo: int, hi: int) -> None:
    """Dies at some objects, as if they made a library crash."""
    if BAD_ROWS.get(task.index, set()) & {*range(lo, hi)} - {*left_out(task.ledger, task.name)}:
        os.kill(os.getpid(), signal.SIGKILL)


def touch_all(task: Task) -> Receipt:
    _touch(task, 0, task.n_objects)
    return succeed(task)


def die_as_a_whole(task: Task) -> Receipt:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def touch_none(task: Task, lo: int, hi: int) -> None:
    pass


def eight_each(folder: Path, indices: list[int]) -> list[Task]:
    return [Task(Ledger(folder / "receipts", folder, "count"), index, str(index), 8) for index in indices]


@pytest.mark.slow
def test_objects_that_end_workers_are_found(tmp_path: Path) -> None:
    indices = [*range(10, 200), 3, 4, 7, *range(200, 300)]
    with local_workers(2) as pool:
        receipts = list(pool.map(Work(touch_all, _touch), eight_each(tmp_path, indices)))
    assert sorted(receipt.name for receipt in receipts) == [f"{index:06d}" for index in sorted(indices)]
    ledger = Ledger(tmp_path / "receipts", tmp_path, "count")
    assert left_out(ledger, "000003") == [5, 6]
    assert left_out(ledger, "000004") == [0]
    assert left_out(ledger, "000007") == []
    assert not list((tmp_path / "receipts/attempts").rglob("*-*"))


@pytest.mark.slow
@pytest.mark.parametrize("probe", [None, touch_none])
def test_a_task_that_ends_workers_as_a_whole(tmp_path: Path, probe: Callable[[Any, int, int], None] | None) -> None:
    with local_workers(1) as pool, pytest.raises(SwimmyError, match=r"count 000001 ended 3 workers: .* more memory"):
        list(pool.map(Work(die_as_a_whole, probe), eight_each(tmp_path, [1])))


def storm_once(task: Task) -> Receipt:
    """Ends the first three workers that have task 1, whatever is in it."""
    if task.index == 1 and attempts(task) < MAX_LOST_WORKERS:
        os.kill(os.getpid(), signal.SIGKILL)
    return succeed(task)


def storm_at_pieces(task: Task, lo: int, hi: int) -> None:
    """Ends the first worker that has object 2 alone; and one of those that try it again."""
    name = f"try-{lo}-{hi}"
    if lo <= 2 < hi and len(list(task.ledger.root.glob(f"{name}-*"))) < 1:
        (task.ledger.root / f"{name}-0").touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_objects_are_not_condemned_for_workers_that_end_otherwise(tmp_path: Path) -> None:
    with local_workers(1) as pool:
        began = time.time()
        receipts = list(pool.map(Work(storm_once, storm_at_pieces), eight_each(tmp_path, [0, 1])))
        assert pool.n_ended_idle(began) == 0
    assert sorted(receipt.name for receipt in receipts) == ["000000", "000001"]
    assert (tmp_path / "try-2-3-0").exists(), "it was suspected"
    assert not list((tmp_path / "receipts").rglob("left-out"))
    assert not list((tmp_path / "receipts/attempts").rglob("*-*"))


@pytest.mark.slow
def test_workers_that_end_without_a_task_are_counted(tmp_path: Path) -> None:
    with local_workers(1) as pool:
        began = time.time()
        (pid,) = pool._client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while pool.n_ended_idle(began) == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert pool.n_ended_idle(began) == 1
        assert pool.n_ended_idle(time.time()) == 0


@pytest.mark.parametrize(
    ("cores", "n_workers", "shares"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([0, 1], 1, [[0, 1]]),
        ([3, 4, 8, 9], 2, [[3, 8], [4, 9]]),
        ([0, 1, 2], 2, [[0, 1, 2], [0, 1, 2]]),
        ([5], 2, [[5], [5]]),
    ],
)
def test_workers_share_the_cores_evenly_or_not_at_all(
    cores: list[int], n_workers: int, shares: list[list[int]]
) -> None:
    assert [share_of_cores(cores, index, n_workers) for index in range(n_workers)] == shares


def cores_of_worker(task: Task) -> Receipt:
    """Both workers take part, because the first to come waits for a try of the other task."""
    attempts(task)
    while not list(task.ledger.root.glob(f"try-{1 - task.index}-*")):
        time.sleep(0.01)
    return Receipt("count", task.name, task.identity, n_objects=0, details={"cores": sorted(os.sched_getaffinity(0))})


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity of processes")
def test_each_worker_has_its_own_cores(workers: DaskWorkers, tmp_path: Path) -> None:
    found = [receipt.details["cores"] for receipt in workers.map(Work(cores_of_worker), tasks_in(tmp_path, 2))]
    mine = sorted(os.sched_getaffinity(0))
    assert sorted(found) == sorted(share_of_cores(mine, index, 2) for index in range(2))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity of processes")
def test_workers_of_a_stage_that_does_not_want_it_may_use_every_core(tmp_path: Path) -> None:
    work = Work(cores_of_worker, own_cores=False)
    executor = LocalExecutor(2, memory_bytes=2 << 30)
    found = [receipt.details["cores"] for receipt in executor.map(work, tasks_in(tmp_path, 2))]
    assert found == [sorted(os.sched_getaffinity(0))] * 2
