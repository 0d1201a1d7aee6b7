"""A store's metadata: made again, renewed where they are damaged, refused where they are another's, and grown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from tiny_store import LAYOUT, columns, contents, make_store

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage import files
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.layout import Variable
from swimmy_scale.storage.store import open_group, read_rows, write_partition


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "s.zarr")


def test_create_again_changes_nothing(store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert all(path in before for path in create(store, LAYOUT))
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()} == before
    assert not list(store.parent.glob(".*partial"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("zarr.json", "flip"),
        ("zarr.json", "empty"),
        ("ra/zarr.json", "flip"),
        ("ra/zarr.json", "remove"),
        ("band/c/0", "empty"),
        ("band/c/0", "remove"),
    ],
)
def test_create_renews_damaged_metadata(store: Path, name: str, damage: str) -> None:
    path = store / name
    original = path.read_bytes()
    if damage == "flip":
        path.write_bytes(original.replace(b"g", b"f", 1))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    create(store, LAYOUT)
    assert path.read_bytes() == original
    assert len(read_rows(open_group(store, 1), "ra", 0, None)) == 10


@pytest.mark.parametrize("name", ["zarr.json", "image/zarr.json", "band/zarr.json", "band/c/0"])
def test_create_renews_any_flipped_bit(store: Path, name: str) -> None:
    before = contents(store)
    rng = np.random.default_rng(len(name))
    for _ in range(6):
        data = bytearray(before[Path(name)])
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (store / name).write_bytes(data)
        create(store, LAYOUT)
        assert contents(store) == before


def test_notes_may_change(store: Path) -> None:
    create(store, replace(LAYOUT, notes={"model_sha256": "1"}))
    assert open_group(store, 1).attrs["model_sha256"] == "1"
    create(store, replace(LAYOUT, notes={"model_sha256": "2"}))
    assert open_group(store, 1).attrs["model_sha256"] == "2"
    assert len(read_rows(open_group(store, 1), "ra", 0, None)) == 10


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        create(tmp_path / "s.zarr", replace(LAYOUT, variables=(Variable("ra", ("object",), "colour"),)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"n_objects": 11},
        {"partition_objects": 2},
        {"chunk_objects": 4},
        {"variables": LAYOUT.variables[:-1]},
        {"attrs": {"format_version": 1, "survey": "x"}},
        {"labels": {dim: tuple(f"{name}2" for name in names) for dim, names in LAYOUT.labels.items()}},
    ],
)
def test_another_layout_is_refused(store: Path, change: dict[str, Any]) -> None:
    before = contents(store)
    with pytest.raises(SwimmyError, match=re.escape(f"{store} exists and was made with other settings")):
        create(store, replace(LAYOUT, **change))
    assert contents(store) == before
    assert not list(store.parent.glob(".*partial"))


@pytest.mark.parametrize(("before", "after"), [(10, 13), (3, 5), (4, 9)])
@pytest.mark.parametrize("n_renewed", [None, 0, 2, 5])
def test_a_store_grows_by_its_metadata_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int, n_renewed: int | None
) -> None:
    path, short, longer = tmp_path / "s.zarr", replace(LAYOUT, n_objects=before), replace(LAYOUT, n_objects=after)
    create(path, short)
    for partition in range(short.n_partitions):
        write_partition(path, short, partition, columns(partition, short))
    with pytest.raises(SwimmyError, match="was made with other settings or from another catalogue"):
        create(path, longer)
    if n_renewed is not None:
        count = 0

        def ends(name: Path, data: bytes) -> None:
            nonlocal count
            count += 1
            if count > n_renewed:
                raise InterruptedError
            files.write_atomically(name, data)

        with monkeypatch.context() as patched:
            patched.setattr("swimmy_scale.storage.creation.write_atomically", ends)
            with pytest.raises(InterruptedError):
                create(path, longer, may_grow=True)
    create(path, longer, may_grow=True)
    # The last partition, if it was not full, is written again.
    for partition in range(before // LAYOUT.partition_objects, longer.n_partitions):
        write_partition(path, longer, partition, columns(partition, longer))
    whole = tmp_path / "whole.zarr"
    create(whole, longer)
    for partition in range(longer.n_partitions):
        write_partition(whole, longer, partition, columns(partition, longer))
    assert contents(path) == contents(whole)


@pytest.mark.parametrize(
    "change", [{"n_objects": 9}, {"n_objects": 12, "attrs": {"format_version": 2}}, {"n_objects": 12, "sizes": {}}]
)
def test_another_store_does_not_grow(store: Path, change: dict[str, Any]) -> None:
    sizes = {**LAYOUT.sizes, "band": 3}
    other = replace(LAYOUT, **{**change, **({"sizes": sizes} if "sizes" in change else {})})
    before = contents(store)
    with pytest.raises(SwimmyError, match="was made with other settings or from another catalogue"):
        create(store, other, may_grow=True)
    assert contents(store) == before


def test_damage_of_the_digest_and_of_some_arrays_is_no_other_store(store: Path) -> None:
    before, root = contents(store), store / "zarr.json"
    text = root.read_text()
    digest = json.loads(text)["attributes"]["layout_sha256"]
    other = ("0" if digest[5] != "0" else "1").join([digest[:5], digest[6:]])
    for damaged in (text.replace(digest, other), text.replace('"layout_sha256"', '"layout_sha25v"')):
        assert damaged != text
        root.write_text(damaged)
        (store / "ra/zarr.json").write_text("{}")
        create(store, LAYOUT)
        assert contents(store) == before


def test_a_store_without_a_digest_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "s.zarr"))
    with pytest.raises(SwimmyError, match="was made with other settings or from another catalogue"):
        create(tmp_path / "s.zarr", LAYOUT)


def test_metadata_that_nobody_may_read_are_written_anew(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, whose = contents(store), store / "ra/zarr.json"
    number, usual = whose.stat().st_ino, Path.read_bytes

    def refuses(path: Path) -> bytes:
        if path == whose:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuses)
        create(store, LAYOUT)
    assert contents(store) == before
    assert whose.stat().st_ino != number
