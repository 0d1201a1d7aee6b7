"""Receipts, atomic writes, verification and the driver's lock."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.files import (
    ListDigest,
    allow_owner,
    check_locks_held,
    check_unlocked,
    digest_json,
    driver_lock,
    errors_name,
    remove,
    sync_files,
    write_atomically,
)
from swimmy_scale.storage.receipts import (
    CONTRADICTION,
    FINISHED,
    Damage,
    FileRecord,
    Ledger,
    Parts,
    Receipt,
    owned_files,
)


def verify(folder: Path, root: Path, stages: list[str]) -> list[Damage]:
    """What is wrong with receipts and files, file after file."""
    files, damage = owned_files(folder, root, stages)
    return damage + [found for file in files if (found := file.damage(root)) is not None]


def commit_one(root: Path, stage: str = "score", name: str = "000000", content: bytes = b"scores") -> Ledger:
    ledger = Ledger(root / "receipts", root, stage)
    path = root / f"{stage}-{name}.bin"
    path.write_bytes(content)
    ledger.commit(Receipt(stage, name, "id", n_objects=3, files=ledger.record_files([path])))
    return ledger


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_digest_is_of_the_content() -> None:
    text = b'{"a":[1,1.5,"\\u00e9"],"b":{"c":null,"d":true}}'
    assert digest_json({"b": {"d": True, "c": None}, "a": [1, 1.5, "é"]}) == hashlib.sha256(text).hexdigest()
    assert digest_json({"a": 1, "b": [1.5]}) == digest_json({"b": [1.5], "a": 1})
    assert digest_json([1]) != digest_json([1.0])
    assert digest_json([0.1 + 0.2]) != digest_json([0.3])


@settings(deadline=None, max_examples=50)
@given(value=json_values)
def test_digest_survives_a_file(value: Any) -> None:
    assert digest_json(json.loads(json.dumps(value, indent=2))) == digest_json(value)


def test_write_replaces_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "x", b"old")
    write_atomically(tmp_path / "a" / "x", b"new")
    assert (tmp_path / "a" / "x").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "chmod"), (Path, "replace")])
def test_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    write_atomically(tmp_path / "x", b"old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


KILLED = """
import os, sys
from pathlib import Path
from swimmy_scale.storage.files import write_atomically
Path.replace = lambda self, target: os.kill(os.getpid(), 9)
write_atomically(Path(sys.argv[1]), b"new")
"""


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x", b"old")
    status = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "x")], check=False).returncode
    assert status == -signal.SIGKILL
    assert (tmp_path / "x").read_bytes() == b"old"
    left = [path.name for path in tmp_path.iterdir() if path.name != "x"]
    assert all(name.endswith(".partial") for name in left), "what a kill leaves must be recognised by the sweep"


def test_everything_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    write_atomically(tmp_path / "x", b"data")
    assert order == ["file", "rename", "folder"]
    order.clear()
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(b"1")
    sync_files([tmp_path / "a/b/c"], tmp_path)
    assert order == ["file", "folder", "folder", "folder"], "the folders a/b, a and the root hold the name"


@settings(deadline=None, max_examples=50)
@given(
    numbers=st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 3),
    details=st.dictionaries(st.text(), json_values, max_size=3),
    file_name=st.text(),
)
def test_receipts_survive_json(numbers: tuple[int, int, int], details: dict[str, Any], file_name: str) -> None:
    files = {file_name: FileRecord(3, 10**18 + 1, "0" * 64)}
    receipt = Receipt("score", "000001", "id", *numbers, data_digest="d", files=files, details=details)
    assert Receipt.from_json(json.dumps(receipt.to_json())) == receipt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "checksum does not fit"),
        ("{}", "checksum does not fit"),
        ('{"stage": "score", "checksum": "0"}', "checksum does not fit"),
    ],
)
def test_what_is_no_receipt_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Receipt.from_json(text)


def test_receipt_of_another_format_is_refused(tmp_path: Path) -> None:
    body = Receipt("score", "000000", "id").to_json() | {"format_version": 2}
    body["checksum"] = digest_json({key: value for key, value in body.items() if key != "checksum"})
    with pytest.raises(ValueError, match="format version is not 1"):
        Receipt.from_json(json.dumps(body))
    ledger = Ledger(tmp_path, tmp_path, "score")
    write_atomically(ledger.path("000000"), json.dumps(body).encode())
    assert ledger.read("000000") is None


def test_round_trip(tmp_path: Path) -> None:
    ledger = commit_one(tmp_path)
    receipt = ledger.read("000000")
    assert receipt is not None
    assert (receipt.identity, receipt.n_objects) == ("id", 3)
    assert ledger.valid("000000", "id") == receipt
    assert ledger.names() == ["000000"]
    assert ledger.read("000001") is None


@settings(deadline=None, max_examples=50)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_damages_a_receipt(position: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    ledger = commit_one(tmp_path_factory.mktemp("flip"))
    path, receipt = ledger.path("000000"), ledger.read("000000")
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    found = ledger.read("000000")
    if found is not None:  # only white space between values may change without a trace
        assert found == receipt
        assert chr(data[position % len(data)] ^ (1 << bit)) in " \n"


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ("nothing", True),
        ("touch", True),
        ("rewrite", False),
        ("copy", True),
        ("truncate", False),
        ("remove", False),
        ("identity", False),
    ],
)
def test_valid_looks_at_the_files(tmp_path: Path, change: str, stays: bool) -> None:
    ledger = commit_one(tmp_path)
    path = tmp_path / "score-000000.bin"
    assert ledger.valid("000000", "id") is not None
    if change == "touch":
        os.utime(path, ns=(1, 1))
    elif change == "rewrite":
        path.write_bytes(b"scoreS")
        os.utime(path, ns=(1, 1))
    elif change == "copy":
        path.rename(tmp_path / "moved")
        path.write_bytes((tmp_path / "moved").read_bytes())
    elif change == "truncate":
        path.write_bytes(b"")
    elif change == "remove":
        path.unlink()
    identity = "another" if change == "identity" else "id"
    assert (ledger.valid("000000", identity) is not None) == stays


def test_one_bad_file_of_many_is_enough(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "receipts", tmp_path, "score")
    paths = [tmp_path / f"{index}.bin" for index in range(4)]
    for path in paths:
        path.write_bytes(b"x")
    ledger.commit(Receipt("score", "000000", "id", files=ledger.record_files(paths)))
    assert ledger.valid("000000", "id") is not None
    paths[2].unlink()
    assert ledger.valid("000000", "id") is None


def test_a_receipt_that_is_taken_back_is_gone(tmp_path: Path) -> None:
    ledger = commit_one(tmp_path)
    ledger.remove("000000")
    ledger.remove("000000")
    ledger.path("000000").mkdir(parents=True)
    ledger.remove("000000")
    assert not ledger.path("000000").exists()
    Ledger(tmp_path, tmp_path, "absent").remove("000000")
    assert ledger.names() == []


def test_finish_adds_up_and_depends_on_its_parts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "receipts", tmp_path, "score")
    parts = [Receipt("score", f"{k:06d}", "id", n_objects=k, data_digest=str(k)) for k in (1, 2, 3)]
    done = ledger.finish("all", Parts.of(parts), [], {"more": 1})
    assert ledger.read("finished") == done
    assert (done.n_objects, done.details) == (6, {"n_tasks": 3, "more": 1})
    assert ledger.finish("all", Parts.of(iter(parts)), []).data_digest == done.data_digest
    assert ledger.finish("all", Parts.of(parts[::-1]), []).data_digest != done.data_digest


@pytest.mark.parametrize("items", [[], ["a"], ["a", 'b"ü'], [["x", 1], {"b": 2.5, "a": None}, [], 1e-300]])
def test_a_list_is_digested_item_by_item_as_it_is_whole(items: list[object]) -> None:
    digest = ListDigest()
    for item in items:
        digest.add(item)
    assert digest.hexdigest() == digest.hexdigest() == digest_json(items)


def test_parts_of_a_finished_stage_come_in_order(tmp_path: Path) -> None:
    for name in ("000002", "000000", "000001"):
        ledger = commit_one(tmp_path, name=name)
    assert list(ledger.parts()) == [], "not finished"
    ledger.finish("all", Parts.of(Receipt("score", "", "") for _ in range(3)), [])
    assert [receipt.name for receipt in ledger.parts()] == ["000000", "000001", "000002"]
    ledger.remove("000001")
    assert [receipt.name for receipt in ledger.parts()] == ["000000", "000002"]


def test_names_are_receipts_alone(tmp_path: Path) -> None:
    ledger = commit_one(tmp_path)
    (ledger.folder / "score" / ".000001.json.xyz.partial").touch()
    (ledger.folder / "score" / "notes.txt").touch()
    assert list(ledger.every_name()) == ["000000"]
    assert list(Ledger(tmp_path, tmp_path, "absent").every_name()) == []


def test_pieces_are_written_like_the_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", (piece for piece in (b"one", b"", b"two")))
    assert (tmp_path / "a").read_bytes() == b"onetwo"

    def broken():
        yield b"three"
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_atomically(tmp_path / "a", broken())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"onetwo"


def test_commit_to_another_stage_is_a_mistake(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "receipts", tmp_path, "ingest")
    with pytest.raises(ValueError, match="given to the ledger of 'ingest'"):
        ledger.commit(Receipt("score", "000000", "id"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the receipt is empty"),
        (b"{}", "the receipt is damaged"),
        (b"\xff", "the receipt is damaged"),
        (None, "the receipt cannot be read (not a plain file)"),
    ],
)
def test_what_needs_a_receipt_takes_no_damaged_one_for_none(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    ledger = commit_one(tmp_path)
    assert ledger.sound("000000") == ledger.read("000000") is not None
    assert ledger.sound("000001") is None
    assert Ledger(tmp_path / "receipts", tmp_path, "select").sound(FINISHED) is None
    path = ledger.path("000000")
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SwimmyError, match=re.escape(f"{path}: {problem}. Run `swimmy-scale verify` on the run")):
        ledger.sound("000000")
    assert ledger.read("000000") is None


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


@settings(deadline=None, max_examples=40)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7), which=st.integers(0, 2))
def test_verify_finds_any_flipped_bit(
    position: int, bit: int, which: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("run")
    for k in range(3):
        commit_one(root, name=f"{k:06d}", content=bytes(range(200)) * (k + 1))
    path = root / f"score-{which:06d}.bin"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (found,) = verify(root / "receipts", root, ["score"])
    assert found == Damage("score", f"{which:06d}", path.name, "its bytes differ from its receipt")


def test_verify_tells_a_changed_size(tmp_path: Path) -> None:
    commit_one(tmp_path)
    (tmp_path / "score-000000.bin").write_bytes(b"four")
    (found,) = verify(tmp_path / "receipts", tmp_path, ["score"])
    assert found.reason == "4 bytes, its receipt says 6"


def test_verify_misses_no_receipt_of_a_finished_stage(tmp_path: Path) -> None:
    for name in ("000000", "000001"):
        ledger = commit_one(tmp_path, name=name)
    ledger.remove("000001")
    assert verify(tmp_path / "receipts", tmp_path, ["score"]) == [], "an unfinished stage may lack receipts"
    ledger.finish("all", Parts(), [], {"n_tasks": 2})
    (found,) = verify(tmp_path / "receipts", tmp_path, ["score"])
    assert found == Damage("score", "000001", "receipts/score/000001.json", "the receipt is missing")


@pytest.mark.parametrize(("stage", "name"), [("score", "000001"), ("ingest", "000000"), ("score", "finished")])
def test_a_receipt_under_the_name_of_another_is_damage(tmp_path: Path, stage: str, name: str) -> None:
    ledger, other = commit_one(tmp_path), Ledger(tmp_path / "receipts", tmp_path, stage)
    commit_one(tmp_path, stage)
    other.path(name).write_bytes(ledger.path("000000").read_bytes())
    assert other.read(name) is None
    (found,) = verify(tmp_path / "receipts", tmp_path, ["ingest", "score"])
    assert found == Damage(stage, name, f"receipts/{stage}/{name}.json", "the receipt is that of score 000000")


def test_where_receipts_do_not_add_up_all_go_at_once(tmp_path: Path) -> None:
    for name in ("000000", "000001"):
        ledger = commit_one(tmp_path, name=name)
    part = ledger.read("000001")
    assert part is not None
    ledger.finish("all", Parts.of([replace(part, data_digest="other"), part]), [])
    assert ledger.contradicts_itself()
    (found,) = verify(tmp_path / "receipts", tmp_path, ["score"])
    assert (found.name, found.reason) == (FINISHED, CONTRADICTION)
    ledger.remove_all()
    assert [path.name for path in (tmp_path / "receipts").iterdir()] == []
    ledger.remove_all()
    assert not ledger.contradicts_itself()


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
from swimmy_scale.storage.files import driver_lock
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


def test_lock_of_an_unknown_owner_is_refused_too(tmp_path: Path) -> None:
    with driver_lock(tmp_path / "log"):
        (tmp_path / "log/driver.json").write_text("{")
        with pytest.raises(SwimmyError, match="is in use by another process"), driver_lock(tmp_path / "log"):
            pass


def test_lock_is_free_again_after_a_failure(tmp_path: Path) -> None:
    def fail_inside() -> None:
        with driver_lock(tmp_path / "log"):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_inside()
    with driver_lock(tmp_path / "log"):
        assert json.loads((tmp_path / "log/driver.json").read_text())["process_id"] == os.getpid()


@pytest.mark.parametrize("how", ["removed", "replaced", "folder removed"])
def test_a_lock_that_is_gone_is_noticed(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run/receipts"
    with driver_lock(folder):
        check_locks_held()
        if how == "folder removed":
            shutil.rmtree(folder)
        else:
            (folder / "driver.lock").unlink()
        if how == "replaced":
            (folder / "driver.lock").touch()
        said = rf"{folder}/driver.lock: somebody has removed .* work on {tmp_path}/run as well"
        with pytest.raises(SwimmyError, match=said):
            check_locks_held()
    check_locks_held()


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full(io.BytesIO):
        writelines = full

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: os.close(descriptor) or Full())
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(tmp_path / "deep/summary.json", b"{}")
    assert caught.value.filename in (str(tmp_path / "deep/summary.json"), str(tmp_path))
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(28, "No space left on device"), "file"),
        (OSError(28, "No space left on device", "other"), "other"),
        (OSError("Can't write data (file write failed: errno = 28, error message = 'No space left')"), "file"),
        (OSError("no number"), None),
    ],
)
def test_errors_of_the_disk_name_the_file(tmp_path: Path, error: OSError, named: str | None) -> None:
    with pytest.raises(OSError, match=r"No space left|no number") as caught, errors_name(Path("file")):
        raise error
    assert (caught.value.errno, caught.value.filename) == (28 if named else None, named)


def test_owners_are_allowed_what_they_were_forbidden(tmp_path: Path) -> None:
    file, folder, link = tmp_path / "file", tmp_path / "folder", tmp_path / "link"
    file.touch()
    folder.mkdir()
    link.symlink_to(file)
    for mode, expected in ((0o000, 0o600), (0o040, 0o640), (0o444, 0o444), (0o644, 0o644)):
        file.chmod(mode)
        folder.chmod(0o311)
        for path in (link, folder, tmp_path / "absent"):
            allow_owner(path)
        assert [path.stat().st_mode & 0o777 for path in (file, folder)] == [mode, 0o311]
        allow_owner(file)
        assert file.stat().st_mode & 0o777 == expected


def test_of_a_link_only_the_link_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    for to in ("folder", "folder/file", "nowhere"):
        (tmp_path / "link").symlink_to(tmp_path / to)
        remove(tmp_path / "link")
        assert not (tmp_path / "link").is_symlink()
        (tmp_path / "link").symlink_to(tmp_path / to)
        write_atomically(tmp_path / "link", b"new")
        assert not (tmp_path / "link").is_symlink()
        remove(tmp_path / "link")
    assert (tmp_path / "folder" / "file").read_bytes() == b""


def test_what_cannot_be_removed_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = tmp_path / "run" / "report" / "index.html"
    stuck.parent.mkdir(parents=True)
    stuck.touch()
    unlink = os.unlink

    def fail(path: str | Path, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(OSError, match="Input/output error") as raised:
        remove(tmp_path / "run")
    assert raised.value.filename == str(stuck)
    monkeypatch.undo()
    remove(tmp_path / "run")
    remove(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_that_goes_meanwhile_stops_no_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "marks" / "task").mkdir(parents=True)
    (tmp_path / "marks" / "task" / "mark").touch()
    unlink = os.unlink

    def gone_already(path: str | Path, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    monkeypatch.setattr(os, "unlink", gone_already)
    remove(tmp_path / "marks")
    assert not (tmp_path / "marks").exists()


def test_new_folders_are_flushed_into_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could lose a folder, with all that was flushed in it."""
    flushed, usual = [], os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        usual(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a/b/c.json", b"{}")
    assert {tmp_path, tmp_path / "a", tmp_path / "a/b"} <= {*flushed}
    flushed.clear()
    write_atomically(tmp_path / "a/b/d.json", b"{}")
    assert {path for path in flushed if path.is_dir()} == {tmp_path / "a/b"}


def test_whoever_held_a_lock_may_be_unreadable(tmp_path: Path) -> None:
    (tmp_path / "driver.json").write_bytes(b"\xff")
    assert check_unlocked(tmp_path, tmp_path) == ""
