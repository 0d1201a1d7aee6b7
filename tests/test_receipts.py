"""Receipts, atomic writes, verification and the driver's lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.receipts import (
    Ledger,
    Receipt,
    digest_json,
    driver_lock,
    verify,
    write_atomically,
)


def commit_one(root: Path, stage: str = "score", name: str = "000000", content: bytes = b"scores") -> Ledger:
    ledger = Ledger(root / "receipts", root, stage)
    path = root / f"{stage}-{name}.bin"
    path.write_bytes(content)
    ledger.commit(Receipt(stage, name, "id", n_objects=3, files=ledger.record_files([path])))
    return ledger


def test_digest_is_of_the_content() -> None:
    assert digest_json({"a": 1, "b": [1.5]}) == digest_json({"b": [1.5], "a": 1})
    assert digest_json([1]) != digest_json([1.0])
    assert digest_json([0.1 + 0.2]) != digest_json([0.3])


def test_write_replaces_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "x", b"old")
    write_atomically(tmp_path / "a" / "x", b"new")
    assert (tmp_path / "a" / "x").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "x", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_round_trip(tmp_path: Path) -> None:
    ledger = commit_one(tmp_path)
    receipt = ledger.read("000000")
    assert receipt is not None
    assert (receipt.identity, receipt.n_objects) == ("id", 3)
    assert ledger.valid("000000", "id") == receipt
    assert ledger.names() == ["000000"]
    assert ledger.read("000001") is None


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_damages_a_receipt(position: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    ledger = commit_one(tmp_path_factory.mktemp("flip"))
    path = ledger.path("000000")
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        same = json.loads(data) == ledger.read("000000") or json.loads(bytes(data))
    except ValueError:
        same = None
    found = ledger.read("000000")
    # Only white space between values may change without a trace.
    assert found is None or (same and found.identity == "id" and found.n_objects == 3)


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ("nothing", True),
        ("touch", True),
        ("rewrite", False),
        ("truncate", False),
        ("remove", False),
        ("identity", False),
    ],
)
def test_valid_looks_at_the_files(tmp_path: Path, change: str, stays: bool) -> None:
    ledger = commit_one(tmp_path)
    path = tmp_path / "score-000000.bin"
    if change == "touch":
        os.utime(path, ns=(1, 1))
    elif change == "rewrite":
        path.write_bytes(b"scoreS")
        os.utime(path, ns=(1, 1))
    elif change == "truncate":
        path.write_bytes(b"")
    elif change == "remove":
        path.unlink()
    identity = "another" if change == "identity" else "id"
    assert (ledger.valid("000000", identity) is not None) == stays


def test_commit_to_another_stage_is_a_mistake(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "receipts", tmp_path, "ingest")
    with pytest.raises(ValueError, match="given to the ledger of 'ingest'"):
        ledger.commit(Receipt("score", "000000", "id"))


def test_verify_names_what_is_damaged(tmp_path: Path) -> None:
    for name in ("000000", "000001", "000002"):
        commit_one(tmp_path, name=name, content=b"x" * 100)
    assert verify(tmp_path / "receipts", tmp_path, ["score"]) == []
    status = (tmp_path / "score-000000.bin").stat()
    (tmp_path / "score-000000.bin").write_bytes(b"x" * 99 + b"y")
    os.utime(tmp_path / "score-000000.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "score-000001.bin").unlink()
    (tmp_path / "receipts/score/000002.json").write_text("{}")
    found = {item.name: item.reason for item in verify(tmp_path / "receipts", tmp_path, ["score"])}
    assert found == {
        "000000": "its bytes differ from its receipt",
        "000001": "missing",
        "000002": "the receipt is damaged",
    }


def test_a_later_stage_vouches_for_a_file_that_it_renewed(tmp_path: Path) -> None:
    shared = tmp_path / "zarr.json"
    for stage, content in (("score", b"one"), ("select", b"other")):
        shared.write_bytes(content)
        ledger = Ledger(tmp_path / "receipts", tmp_path, stage)
        ledger.commit(Receipt(stage, "000000", "id", files=ledger.record_files([shared])))
    assert verify(tmp_path / "receipts", tmp_path, ["score", "select"]) == []
    assert len(verify(tmp_path / "receipts", tmp_path, ["select", "score"])) == 1


HOLDER = """
import sys, time
from pathlib import Path
from swimmy_scale.receipts import driver_lock
with driver_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_is_exclusive_and_ends_with_its_owner(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "log")], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        refused = pytest.raises(SwimmyError, match=rf"is in use by process {owner.pid} on .*run the command again")
        with refused, driver_lock(tmp_path / "log"):
            pass
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    with driver_lock(tmp_path / "log"):
        pass
