"""Receipts, their files and whole stores that another node has written, and that come here later."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_stores import N, make_run

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage import arrivals
from swimmy_scale.storage.arrivals import once_there
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.partitions import await_cutouts, await_partition
from swimmy_scale.storage.receipts import Ledger, Parts, Receipt, task_name
from swimmy_scale.storage.run_directory import RunDirectory

LATE = 0.2


@pytest.fixture
def in_a_batch_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr(arrivals, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(arrivals, "SECONDS_UNTIL_SEEN", 0.6)


def comes_late(path: Path, before: bytes | None = None) -> None:
    """A file is gone, or has other bytes, for a while."""
    data = path.read_bytes()
    if before is None:
        path.unlink()
    else:
        path.write_bytes(before)
    threading.Timer(LATE, lambda: path.write_bytes(data)).start()


def committed(root: Path) -> tuple[Ledger, Path]:
    ledger, path = Ledger(root / "receipts", root, "score"), root / "chunk"
    path.write_bytes(b"scores")
    ledger.commit(Receipt("score", "000000", "id", files=ledger.record_files([path])))
    return ledger, path


def took(what: Callable[[], object]) -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began


@pytest.mark.usefixtures("in_a_batch_job")
@pytest.mark.parametrize("late", ["receipt", "file", "size", "pipe"])
def test_a_receipt_counts_once_its_files_are_there(tmp_path: Path, late: str) -> None:
    ledger, path = committed(tmp_path)
    if late == "pipe":
        path.unlink()
        os.mkfifo(path)

        def comes() -> None:
            path.unlink()
            path.write_bytes(b"scores")

        threading.Timer(LATE, comes).start()
    else:
        comes_late(ledger.path("000000") if late == "receipt" else path, b"sco" if late == "size" else None)
    assert took(lambda: ledger.awaited("000000")) > LATE / 2
    receipt = ledger.awaited("000000")
    assert receipt is not None
    assert list(ledger.lacking(receipt)) == []


@pytest.mark.usefixtures("in_a_batch_job")
def test_an_older_receipt_is_not_the_one_that_is_meant(tmp_path: Path) -> None:
    ledger, _ = committed(tmp_path)
    threading.Timer(LATE, lambda: ledger.commit(Receipt("score", "000000", "new"))).start()
    found = ledger.awaited("000000", lambda receipt: receipt.identity == "new")
    assert found is not None
    assert found.identity == "new"


@pytest.mark.usefixtures("in_a_batch_job")
def test_the_wait_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "SECONDS_UNTIL_SEEN", 0.1)
    ledger, path = committed(tmp_path)
    path.unlink()
    receipt = ledger.awaited("000000")
    assert receipt is not None
    assert list(ledger.lacking(receipt)) == [path]
    with pytest.raises(SwimmyError, match="no readable Zarr store"):
        once_there(lambda: Cutouts(tmp_path / "none.zarr"))


def test_outside_of_batch_jobs_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(arrivals.time, "sleep", lambda seconds: pytest.fail("it waits"))
    ledger, path = committed(tmp_path)
    path.unlink()
    assert ledger.awaited("000000") is not None
    with pytest.raises(SwimmyError, match="no readable Zarr store"):
        once_there(lambda: Cutouts(tmp_path / "none.zarr"))


def with_receipts(run: RunDirectory) -> Cutouts:
    """Receipts of an ingest that nobody has done, over the files of its store."""
    store, ledger = Cutouts(run.own_cutouts), run.ledger("ingest")
    receipts = []
    for index, (lo, hi) in enumerate(store.partitions()):
        files = [path for path in run.own_cutouts.glob(f"*/c/{index}*") if path.is_file()]
        files += [path for path in run.own_cutouts.glob(f"*/c/{index}/**/*") if path.is_file()]
        recorded, digest = ledger.record_files(files), f"data {index}"
        receipts.append(Receipt("ingest", task_name(index), "id", hi - lo, data_digest=digest, files=recorded))
        ledger.commit(receipts[-1])
    ledger.finish("id", Parts.of(receipts), sorted(run.own_cutouts.rglob("zarr.json")))
    return store


@pytest.mark.usefixtures("in_a_batch_job")
@pytest.mark.parametrize("late", ["image/c/1/0/0/0", "ra/c/1", "zarr.json", "image/zarr.json"])
def test_a_task_reads_a_partition_once_it_is_all_there(tmp_path: Path, late: str) -> None:
    run = RunDirectory(make_run(tmp_path / "run"))
    store = with_receipts(run)
    pixels = store.images(8, 16).tobytes()
    for name in ("ingest/000001.json", "ingest/finished.json"):
        comes_late(run.receipts / name)
    comes_late(run.own_cutouts / late)
    await_partition(run.own_cutouts, 1, "data 1", N)
    found = Cutouts(run.own_cutouts)
    assert found.images(8, 16).tobytes() == pixels
    assert found.read("ra", 8, 16).size == 8
    with pytest.raises(SwimmyError, match="sees no receipt of the data"):
        await_partition(run.own_cutouts, 1, "other data", N)
    comes_late(run.own_cutouts / "ra/c/2")
    await_cutouts(run.own_cutouts)
    assert found.read("ra", 0, N).size == N
