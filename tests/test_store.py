"""The partitioned store: aligned writes, checksums, metadata, and what xarray sees."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.store import (
    Layout,
    Variable,
    create,
    digest_columns,
    open_group,
    read_rows,
    write_partition,
)

LAYOUT = Layout(
    n_objects=10,
    partition_objects=4,
    chunk_objects=2,
    sizes={"band": 2, "y": 4, "x": 4},
    variables=(
        Variable("image", ("object", "band", "y", "x"), "float32", {"units": "count"}),
        Variable("object_id", ("object",), "int64"),
        Variable("ra", ("object",), "float64", {"units": "deg"}),
        Variable("dec", ("object",), "float64", {"units": "deg"}),
        Variable("in_sample", ("object",), "bool"),
        Variable("sample_class", ("object",), "string"),
    ),
    labels={"band": ("g", "r")},
    attrs={"format_version": 1},
)
BIG_ID = 2**53 + 1


def columns(partition: int, layout: Layout = LAYOUT) -> dict[str, Any]:
    rows = layout.rows(partition)
    rng = np.random.default_rng(partition)
    image = rng.normal(size=(len(rows), 2, 4, 4)).astype(np.float32)
    image[0] = np.nan
    return {
        "image": image,
        "object_id": BIG_ID + np.arange(rows.start, rows.stop),
        "ra": rng.uniform(0, 360, len(rows)),
        "dec": rng.uniform(-90, 90, len(rows)),
        "in_sample": np.arange(len(rows)) % 2 == 0,
        "sample_class": np.array(["quasar", "", "xelg", "é"][: len(rows)], dtype=object),
    }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s.zarr"
    create(path, LAYOUT)
    for partition in (2, 0, 1):
        write_partition(path, LAYOUT, partition, columns(partition))
    return path


@given(n_objects=st.integers(0, 500), chunk=st.integers(1, 20), chunks=st.integers(1, 5))
def test_partitions_cover_every_row_once(n_objects: int, chunk: int, chunks: int) -> None:
    layout = replace(LAYOUT, n_objects=n_objects, chunk_objects=chunk, partition_objects=chunk * chunks)
    rows = [row for partition in range(layout.n_partitions) for row in layout.rows(partition)]
    assert rows == list(range(n_objects))


def test_partition_of_part_chunks_is_refused() -> None:
    with pytest.raises(SwimmyError, match="partition_objects 5 is not a multiple of chunk_objects 2"):
        replace(LAYOUT, partition_objects=5)


def test_what_was_written_comes_back(store: Path) -> None:
    group = open_group(store, 1)
    for name in columns(0):
        wanted = np.concatenate([columns(partition)[name] for partition in range(3)])
        found = read_rows(group, name, 0, None)
        if name == "sample_class":
            assert found.tolist() == wanted.tolist()
        else:
            assert found.tobytes() == wanted.tobytes()
            assert found.dtype == wanted.dtype
    assert read_rows(group, "ra", 3, 6).tolist() == np.concatenate([columns(0)["ra"], columns(1)["ra"]])[3:6].tolist()


def test_xarray_opens_it_without_a_warning(store: Path) -> None:
    with xarray.open_zarr(store) as ds:
        assert ds.image.dims == ("object", "band", "y", "x")
        assert ds.image.attrs["units"] == "count"
        assert ds.object_id.dtype == np.int64
        assert ds.object_id.values[0] == BIG_ID
        assert ds.in_sample.dtype == np.bool_
        assert (ds.sample_class == "quasar").values.sum() == 3
        assert ds.image.sel(band="r").shape == (10, 4, 4)
        assert set(ds.coords) >= {"object_id", "ra", "dec", "band"}


def test_files_are_the_same_whatever_the_order(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    create(other, LAYOUT)
    written = [file for partition in range(3) for file in write_partition(other, LAYOUT, partition, columns(partition))]
    data = {path for path in other.rglob("c/**/*") if path.is_file() and "band" not in path.parts}
    assert set(written) == data
    for path in other.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (store / path.relative_to(other)).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ra": np.zeros(3)}, r"ra has shape \(3,\) and type float64, the store needs \(4,\) and float64"),
        ({"ra": np.zeros(4, np.float32)}, "type float32"),
        ({"ra": None}, "no values for ra"),
    ],
)
def test_only_whole_partitions_are_written(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    create(tmp_path / "s.zarr", LAYOUT)
    values = {name: value for name, value in {**columns(0), **change}.items() if value is not None}
    with pytest.raises(SwimmyError, match=message):
        write_partition(tmp_path / "s.zarr", LAYOUT, 0, values)


def test_a_missing_chunk_is_no_fill_value(store: Path) -> None:
    (store / "ra/c/1").unlink()
    group = open_group(store, 1)
    assert len(read_rows(group, "ra", 0, 4)) == 4
    with pytest.raises(SwimmyError, match=r"ra\[4:8\] is damaged or incomplete.*verify"):
        read_rows(group, "ra", 4, 8)


@pytest.mark.parametrize("name", ["image/c/1/0/0/0", "ra/c/1", "object_id/c/1", "sample_class/c/1"])
def test_flipped_bits_are_noticed(store: Path, name: str) -> None:
    path = store / name
    original = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = bytearray(original)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(SwimmyError, match="damaged or incomplete"):
            read_rows(open_group(store, 1), name.split("/")[0], 4, 8)


def test_partition_of_nothing_but_nan_is_on_disk(tmp_path: Path) -> None:
    create(tmp_path / "s.zarr", LAYOUT)
    values = {**columns(0), "image": np.full((4, 2, 4, 4), np.nan, np.float32)}
    assert all(path.is_file() for path in write_partition(tmp_path / "s.zarr", LAYOUT, 0, values))
    assert np.isnan(read_rows(open_group(tmp_path / "s.zarr", 1), "image", 0, 4)).all()


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


@pytest.mark.parametrize("change", [{"n_objects": 11}, {"attrs": {"format_version": 1, "survey": "x"}}])
def test_another_layout_is_refused(store: Path, change: dict[str, Any]) -> None:
    with pytest.raises(SwimmyError, match="exists and was made with other settings"):
        create(store, replace(LAYOUT, **change))


def test_other_formats_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match="format_version 1, this version of swimmy_scale reads 2"):
        open_group(store, 2)
    with pytest.raises(SwimmyError, match="no readable Zarr store"):
        open_group(tmp_path / "absent.zarr", 1)
    os.mkdir(tmp_path / "empty.zarr")  # noqa: PTH102
    with pytest.raises(SwimmyError, match="no readable Zarr store"):
        open_group(tmp_path / "empty.zarr", 1)


def test_digest_is_of_names_types_shapes_and_values() -> None:
    base = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "s": np.array(["x", "y"])}
    assert digest_columns(base) == digest_columns(
        {"s": np.array(["x", "y"], dtype="U9"), "a": base["a"].copy(order="F")}
    )
    for other in (
        {**base, "a": base["a"].astype(np.float64)},
        {**base, "a": base["a"].reshape(3, 2)},
        {**base, "s": np.array(["xy", ""])},
        {"b": base["a"], "s": base["s"]},
    ):
        assert digest_columns(other) != digest_columns(base)
