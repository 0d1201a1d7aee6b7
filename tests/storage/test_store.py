"""The partitioned store: aligned writes, checksums, and what xarray sees."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_store import BIG_ID, LAYOUT, columns, contents, make_store

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage import shards
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.store import digest_columns, n_rows, open_group, read_rows, write_partition


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "s.zarr")


@settings(deadline=None, max_examples=50)
@given(n_objects=st.integers(0, 500), chunk=st.integers(1, 20), chunks=st.integers(1, 5))
def test_partitions_cover_every_row_once(n_objects: int, chunk: int, chunks: int) -> None:
    layout = replace(LAYOUT, n_objects=n_objects, chunk_objects=chunk, partition_objects=chunk * chunks)
    for partition in range(layout.n_partitions):
        rows = layout.rows(partition)
        assert rows.start % layout.partition_objects == 0
        assert 0 < len(rows) <= layout.partition_objects
        assert layout.shape(layout.variables[0], len(rows)) == (len(rows), 2, 4, 4)
    every_row = [row for partition in range(layout.n_partitions) for row in layout.rows(partition)]
    assert every_row == list(range(n_objects))


@pytest.mark.parametrize(("partition", "chunk"), [(5, 2), (2, 4), (4, 0)])
def test_partition_of_part_chunks_is_refused(partition: int, chunk: int) -> None:
    message = f"partition_objects {partition} is not a multiple of chunk_objects {chunk}.*correct the storage section"
    with pytest.raises(SwimmyError, match=message):
        replace(LAYOUT, partition_objects=partition, chunk_objects=chunk)


@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_any_rows_come_back_whatever_the_sizes(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    n_objects, chunk = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 4))
    layout = replace(
        LAYOUT,
        n_objects=n_objects,
        chunk_objects=chunk,
        partition_objects=chunk * data.draw(st.integers(1, 3)),
        variables=LAYOUT.variables[:2],
    )
    path = tmp_path_factory.mktemp("sizes") / "s.zarr"
    create(path, layout)
    images = np.arange(n_objects * 32, dtype=np.float32).reshape(n_objects, 2, 4, 4)
    for partition in data.draw(st.permutations(range(layout.n_partitions))):
        rows = slice(layout.rows(partition).start, layout.rows(partition).stop)
        values = {"image": images[rows], "object_id": BIG_ID + np.arange(n_objects)[rows]}
        assert all(file.is_file() for file in write_partition(path, layout, partition, values))
    lo = data.draw(st.integers(0, n_objects))
    hi = data.draw(st.integers(lo, n_objects))
    group = open_group(path, 1)
    assert np.array_equal(read_rows(group, "image", lo, hi), images[lo:hi])
    assert read_rows(group, "object_id", lo, hi).tolist() == [BIG_ID + row for row in range(lo, hi)]
    assert n_rows(group, "image") == n_objects


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
        assert ds.object_id.values.tolist() == [BIG_ID + row for row in range(10)]
        assert ds.in_sample.dtype == np.bool_
        assert (ds.sample_class == "quasar").values.sum() == 3
        assert ds.ra.attrs["units"] == "deg"
        assert ds.ra.dtype == ds.dec.dtype == np.float64
        assert [str(name) for name in ds.sample_class.values[:4]] == ["quasar", "", "xelg", "é"]
        assert list(ds.band.values) == ["g", "r"]
        wanted = np.concatenate([columns(partition)["image"] for partition in range(3)])
        assert np.array_equal(ds.image.sel(band="r").values, wanted[:, 1], equal_nan=True)
        assert np.array_equal(ds.sel(band="g").image.values, wanted[:, 0], equal_nan=True)
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


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_store import LAYOUT, columns, write_partition
print("ready", flush=True)
sys.stdin.readline()
for partition in map(int, sys.argv[3:]):
    write_partition(Path(sys.argv[2]), LAYOUT, partition, columns(partition))
"""


@pytest.mark.slow
def test_two_processes_write_the_same_files(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    create(other, LAYOUT)
    start = [sys.executable, "-c", WRITER, str(Path(__file__).parents[1]), str(other)]
    # The second one does a partition of the first again: a worker that was given up but goes on.
    writers = [
        subprocess.Popen([*start, *work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for work in ("01", "21")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
        assert writer.returncode == 0
    assert contents(other) == contents(store)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ra": np.zeros(3)}, r"ra has shape \(3,\) and type float64, the store needs \(4,\) and float64"),
        ({"ra": np.zeros(4, np.float32)}, "type float32"),
        ({"ra": None}, "no values for ra"),
        ({"object_id": np.arange(4, dtype=np.float64)}, "object_id has .* type float64, the store needs .* int64"),
        ({"object_id": np.arange(4, dtype=np.int32)}, "type int32"),
        ({"in_sample": np.zeros(4, np.uint8)}, "type uint8, the store needs .* bool"),
        ({"image": np.zeros((4, 2, 4, 5), np.float32)}, r"image has shape \(4, 2, 4, 5\)"),
        ({"sample_class": np.array(["a"])}, r"sample_class has shape \(1,\)"),
    ],
)
def test_only_whole_partitions_are_written(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    create(tmp_path / "s.zarr", LAYOUT)
    values = {name: value for name, value in {**columns(0), **change}.items() if value is not None}
    with pytest.raises(SwimmyError, match=message):
        write_partition(tmp_path / "s.zarr", LAYOUT, 0, values)


def test_the_short_last_partition_is_whole_as_well(store: Path) -> None:
    before = contents(store)
    write_partition(store, LAYOUT, 2, columns(2))
    assert contents(store) == before
    with pytest.raises(SwimmyError, match=r"has shape \(4, 2, 4, 4\).*the store needs \(2, 2, 4, 4\)"):
        write_partition(store, LAYOUT, 2, columns(0))


def test_a_disk_that_does_not_keep_its_word_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "s.zarr", LAYOUT)
    write = zarr.Array.__setitem__

    def write_something_else(array: Any, region: Any, values: Any) -> None:
        write(array, region, values if array.basename == "index" else np.zeros_like(values))

    monkeypatch.setattr(zarr.Array, "__setitem__", write_something_else)
    with pytest.raises(SwimmyError, match=r"image\[0:4\] does not read back as it was written. Check the disk"):
        write_partition(tmp_path / "s.zarr", LAYOUT, 0, columns(0))


@pytest.mark.parametrize("name", ["image", "sample_class", "in_sample"])
@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_read_back_looks_at_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, row: int) -> None:
    create(tmp_path / "s.zarr", LAYOUT)
    write = zarr.Array.__setitem__

    def write_one_row_wrong(array: Any, region: Any, values: Any) -> None:
        values, at = values.copy(), row - region.start
        if array.basename == name and at in range(len(values)):
            if name == "image":
                values[at, 1, 3, 3] = -values[at, 1, 3, 3]  # of NaN as well: only the sign bit differs
            else:
                values[at] = "other" if name == "sample_class" else not values[at]
        write(array, region, values)

    monkeypatch.setattr(zarr.Array, "__setitem__", write_one_row_wrong)
    with pytest.raises(SwimmyError, match=rf"{name}\[0:4\] does not read back as it was written"):
        write_partition(tmp_path / "s.zarr", LAYOUT, 0, columns(0))


@pytest.mark.parametrize("partition", [0, 1, 2])
@pytest.mark.parametrize("change", ["none", "all NaN", "zeros", "not contiguous"])
def test_shards_are_those_that_zarr_writes(store: Path, tmp_path: Path, partition: int, change: str) -> None:
    values = columns(partition)
    image = values["image"]
    values["image"] = {
        "none": image,
        "all NaN": np.full_like(image, np.nan),
        "zeros": np.zeros_like(image),
        "not contiguous": np.asfortranarray(image),
    }[change]
    write_partition(store, LAYOUT, partition, values)
    other = tmp_path / "other.zarr"
    create(other, LAYOUT)
    rows = LAYOUT.rows(partition)
    array = zarr.open_group(str(other), mode="r+")["image"]
    assert isinstance(array, zarr.Array)
    array.with_config({"write_empty_chunks": True})[rows.start : rows.stop] = values["image"]
    shard = f"image/c/{partition}/0/0/0"
    assert (store / shard).read_bytes() == (other / shard).read_bytes()
    assert not list(store.rglob("*.partial"))


@pytest.mark.parametrize("error", [AttributeError("no attribute"), KeyError("shard/c/0"), TypeError("an argument")])
def test_another_zarr_writes_shards_by_itself(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def other_version(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(shards, "_encoder", other_version)
    shards.gives_out_chunks.cache_clear()
    try:
        create(tmp_path / "other.zarr", LAYOUT)
        for partition in range(LAYOUT.n_partitions):
            write_partition(tmp_path / "other.zarr", LAYOUT, partition, columns(partition))
    finally:
        shards.gives_out_chunks.cache_clear()
    assert contents(tmp_path / "other.zarr") == contents(store)
    assert caplog.messages == [
        f"zarr {zarr.__version__} does not give out single chunks as version 3.4 does. Zarr writes partitions by "
        "itself: the same files, but each needs the memory of its pixels once more."
    ]


def test_a_shard_that_cannot_be_written_leaves_the_one_before(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(store)

    def fail(array: Any, region: Any, values: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(zarr.Array, "__setitem__", fail)
    with pytest.raises(OSError, match="no space left"):
        write_partition(store, LAYOUT, 0, columns(0))
    assert contents(store) == before


def test_columns_need_not_be_contiguous(store: Path) -> None:
    before = contents(store)
    values = columns(1)
    values["image"] = np.asfortranarray(values["image"])
    values["ra"] = np.repeat(values["ra"], 2)[::2]
    write_partition(store, LAYOUT, 1, values)
    assert contents(store) == before


@pytest.mark.parametrize("name", [variable.name for variable in LAYOUT.variables])
def test_rows_that_were_read_are_the_readers_own(store: Path, name: str) -> None:
    group = open_group(store, 1)
    first, second = (read_rows(group, name, 1, 3) for _ in range(2))
    assert first.flags.owndata
    assert first.flags.writeable
    first[:] = first[::-1].copy()
    first[0] = np.zeros_like(first[0])
    assert np.array_equal(read_rows(group, name, 1, 3), second, equal_nan=second.dtype.kind == "f")


def test_a_missing_chunk_is_no_fill_value(store: Path) -> None:
    (store / "ra/c/1").unlink()
    group = open_group(store, 1)
    assert len(read_rows(group, "ra", 0, 4)) == 4
    with pytest.raises(SwimmyError, match=r"ra\[4:8\] is damaged or incomplete.*verify"):
        read_rows(group, "ra", 4, 8)
    with pytest.raises(SwimmyError, match="no variable colour"):
        read_rows(group, "colour", 0, 1)


def test_a_zarr_that_knows_no_missing_chunks_is_no_damage(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_config(array: Any, config: Any) -> Any:
        raise TypeError("unexpected keyword argument 'read_missing_chunks'")

    monkeypatch.setattr(zarr.Array, "with_config", with_config)
    with pytest.raises(SwimmyError, match=rf"^zarr {zarr.__version__} cannot tell .* Install zarr 3\.2 or newer\.$"):
        read_rows(open_group(store, 1), "image", 0, 2)


@pytest.mark.parametrize("damage", ["remove", "flip", "empty"])
def test_damaged_metadata_of_a_variable_are_told(store: Path, damage: str) -> None:
    path = store / "ra/zarr.json"
    data = path.read_bytes()
    path.unlink() if damage == "remove" else path.write_bytes(data.replace(b"float64", b"floaf64") * (damage == "flip"))
    with pytest.raises(SwimmyError, match=r"the metadata of ra are damaged or missing.*verify"):
        n_rows(open_group(store, 1), "ra")
    with pytest.raises(SwimmyError, match=r"no variable ra|ra\[0:4\] is damaged"):
        read_rows(open_group(store, 1), "ra", 0, 4)


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
        {**base, "a": base["a"].astype(">f4")},
        {**base, "a": base["a"].view(np.int32)},
        {**base, "s": np.array(["xy", ""])},
        {**base, "b": base["a"]},
        {"s": base["s"]},
        {"b": base["a"], "s": base["s"]},
    ):
        assert digest_columns(other) != digest_columns(base)


@settings(deadline=None, max_examples=50)
@given(
    values=hnp.arrays(np.float64, (3, 4), elements=st.floats(width=64)),
    place=st.tuples(st.integers(0, 2), st.integers(0, 3)),
    bit=st.integers(0, 63),
)
def test_digest_sees_every_bit_but_not_the_memory_order(values: Any, place: tuple[int, int], bit: int) -> None:
    digest = digest_columns({"a": values})
    assert digest_columns({"a": np.asfortranarray(values)}) == digest
    assert digest_columns({"a": np.repeat(values, 2, axis=1)[:, ::2]}) == digest
    other = values.copy()
    other.view(np.uint64)[place] ^= np.uint64(1 << bit)
    assert digest_columns({"a": other}) != digest


@settings(deadline=None, max_examples=50)
@given(first=st.lists(st.text(), min_size=2, max_size=2), second=st.lists(st.text(), min_size=2, max_size=2))
def test_digest_tells_strings_apart(first: list[str], second: list[str]) -> None:
    one, two = ({"s": np.array(names, dtype=object)} for names in (first, second))
    assert (digest_columns(one) == digest_columns(two)) == (first == second)


def test_digest_is_not_fooled_by_a_separator() -> None:
    one, two = np.array(["a\x1fb", "c"]), np.array(["a", "b\x1fc"])
    assert digest_columns({"s": one}) != digest_columns({"s": two})


@pytest.mark.parametrize("name", ["ra/c/1", "image/c/1/0/0/0"])
def test_a_pipe_in_place_of_a_chunk_is_refused_and_written_over(store: Path, name: str) -> None:
    group = open_group(store, 1)
    variable = name.partition("/")[0]
    before = read_rows(group, variable, 0, None).tobytes()
    (store / name).unlink()
    os.mkfifo(store / name)
    with pytest.raises(SwimmyError, match=rf"{variable}\[0:.*{name} is not a plain file"):
        read_rows(group, variable, 0, None)
    write_partition(store, LAYOUT, 1, columns(1))
    assert read_rows(group, variable, 0, None).tobytes() == before
