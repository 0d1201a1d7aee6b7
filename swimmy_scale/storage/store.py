"""A labelled Zarr store that is written partition by partition: metadata once, then aligned regions only.

A partition is made of whole shards, so two tasks never share a file. Every chunk has a CRC-32C. Every chunk is
written: an absent one is an error, not a fill value. The store opens with ``xarray.open_zarr``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.storage.arrivals import once_there
from swimmy_scale.storage.decoding import decode_in_own_threads, opened
from swimmy_scale.storage.files import (
    digest_json,
    errors_name,
    make_folder,
    read_text,
    remove,
    sync_files,
    sync_path,
    write_atomically,
)
from swimmy_scale.storage.fresh_folders import making
from swimmy_scale.storage.shards import EVERY_CHUNK, gives_out_chunks, write_shard

PIXEL_DIMS = ("y", "x")


@dataclass(frozen=True)
class Variable:
    """One array of a store.

    Attributes
    ----------
    dims : tuple of str
        The first is ``object`` for everything that tasks write.
    dtype : str
        A NumPy name, or ``string``.
    attrs : mapping
        ``units``, ``long_name`` and the like.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fill_value(self) -> Any:
        """NaN for floats, an empty string, False or 0 for the rest."""
        if self.dtype.startswith("float"):
            return float("nan")
        return {"string": "", "bool": False}.get(self.dtype, 0)


def is_text(values: AnyArray) -> bool:
    """Whether a column of a catalogue is text, of whatever type."""
    return values.dtype.kind in "TOUS"


def column_type(values: AnyArray) -> str:
    """The type in which a column of a catalogue is stored."""
    return "string" if is_text(values) else values.dtype.name


@dataclass(frozen=True)
class Layout:
    """All that is fixed when a store is created.

    Attributes
    ----------
    partition_objects : int
        Rows of a partition, which is one shard of the pixel arrays and one chunk of the others.
    chunk_objects : int
        Rows of a chunk inside a shard; divides ``partition_objects``.
    sizes : mapping of str to int
        Length of every dimension except ``object``.
    variables : tuple of Variable
        What tasks write.
    labels : mapping of str to tuple of str
        Names of the positions along a dimension, such as the bands.
    attrs : mapping
        Group attributes, among them ``format_version``.
    notes : mapping
        More group attributes, which may change when the store is filled again: the model's digest, for example.
    """

    n_objects: int
    partition_objects: int
    chunk_objects: int
    sizes: Mapping[str, int]
    variables: tuple[Variable, ...]
    labels: Mapping[str, tuple[str, ...]]
    attrs: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chunk_objects < 1 or self.partition_objects % self.chunk_objects:
            raise SwimmyError(
                f"partition_objects {self.partition_objects} is not a multiple of chunk_objects {self.chunk_objects}. "
                "A partition must hold whole chunks: correct the storage section of the job."
            )

    @property
    def n_partitions(self) -> int:
        """Number of partitions."""
        return -(-self.n_objects // self.partition_objects)

    def rows(self, partition: int) -> range:
        """Rows of a partition."""
        lo = partition * self.partition_objects
        return range(lo, min(lo + self.partition_objects, self.n_objects))

    def shape(self, variable: Variable, n_objects: int | None = None) -> tuple[int, ...]:
        """Shape of a variable over the whole store or over ``n_objects`` rows."""
        sizes = {**self.sizes, "object": self.n_objects if n_objects is None else n_objects}
        return tuple(sizes[dim] for dim in variable.dims)

    def variable(self, name: str) -> Variable:
        """The variable called ``name``."""
        return next(variable for variable in self.variables if variable.name == name)


def _add_array(group: zarr.Group, layout: Layout, variable: Variable) -> None:
    shape = layout.shape(variable)
    rows = min(layout.partition_objects, max(layout.n_objects, 1))
    has_pixels = variable.dims[-2:] == PIXEL_DIMS
    by_object = variable.dims[0] == "object"
    outer = (layout.partition_objects if has_pixels else rows, *shape[1:]) if by_object else shape
    # Noise hardly compresses: a fast bit shuffle gains the little there is.
    compressor = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle") if has_pixels else ZstdCodec(level=3)
    group.create_array(
        variable.name,
        shape=shape,
        dtype=variable.dtype,
        chunks=(layout.chunk_objects, *shape[1:]) if has_pixels else outer,
        shards=outer if has_pixels else None,
        compressors=[compressor, Crc32cCodec()],
        fill_value=variable.fill_value,
        attributes=dict(variable.attrs),
        dimension_names=variable.dims,
    )


def add_labels(group: zarr.Group, dim: str, labels: tuple[str, ...]) -> None:
    """Write the coordinate that names the positions along ``dim``."""
    array = group.create_array(
        dim,
        shape=(len(labels),),
        chunks=(max(len(labels), 1),),
        dtype="string",
        compressors=[Crc32cCodec()],
        config=EVERY_CHUNK,
        dimension_names=(dim,),
    )
    array[:] = np.array(labels, dtype=np.dtypes.StringDType())


def consolidate(path: Path) -> None:
    """Gather the metadata of all arrays in the root, where ``xarray.open_zarr`` looks for them."""
    with warnings.catch_warnings():
        # Consolidated metadata are not in the Zarr v3 specification yet; other readers ignore them.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(path))


class OtherLayoutError(SwimmyError):
    """A store is there already, and of another layout."""


def _identity(layout: Layout) -> str:
    """Digest of all that is fixed, the number of objects among it; ``notes`` are not."""
    return digest_json(
        [layout.n_objects, layout.partition_objects, layout.chunk_objects, dict(layout.sizes), dict(layout.attrs)]
        + [[v.name, v.dims, v.dtype, dict(v.attrs)] for v in layout.variables]
        + [{dim: list(labels) for dim, labels in layout.labels.items()}]
    )


def create(path: Path, layout: Layout, may_grow: bool = False) -> list[Path]:
    """Create a store; if it exists, renew metadata that are damaged.

    With ``may_grow`` a store of the same layout but fewer objects becomes longer: only metadata change, the root last,
    so that this can end at any instant and be called again. Its last partition, if that was not full, must be written
    anew.

    Returns
    -------
    list of Path
        The files of metadata and labels, flushed to disk.

    Raises
    ------
    OtherLayoutError
        When ``path`` holds a store of another layout.
    """
    identity = _identity(layout)
    make_folder(path.parent)
    fresh = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    with making(fresh, path):
        attrs = {
            **layout.attrs,
            **layout.notes,
            "layout_sha256": identity,
            "partition_objects": layout.partition_objects,
            "chunk_objects": layout.chunk_objects,
            "coordinates": "object_id ra dec",
        }
        decode_in_own_threads()
        group = zarr.create_group(str(fresh), attributes=attrs)
        for dim, labels in layout.labels.items():
            add_labels(group, dim, labels)
        for variable in layout.variables:
            _add_array(group, layout, variable)
        consolidate(fresh)
        names = sorted(item.relative_to(fresh) for item in fresh.rglob("*") if item.is_file())
        if not path.exists():
            sync_files((fresh / name for name in names), fresh)
            fresh.rename(path)
        else:
            _renew(path, fresh, names, layout, may_grow)
    files = [path / name for name in names]
    sync_files(files, path.parent)
    return files


def _may_become(attrs: Mapping[str, Any], root: Path, layout: Layout) -> bool:
    """Whether a store with these attributes is of the layout but for its number of objects, which is smaller."""
    name = layout.variables[0].name
    try:
        # The root describes the arrays as they were when it was written, whatever was renewed since.
        described = json.loads(read_text(root))["consolidated_metadata"]["metadata"]
        n_objects = int(described[name]["shape"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False
    return n_objects < layout.n_objects and attrs.get("layout_sha256") == _identity(
        replace(layout, n_objects=n_objects)
    )


def _renew(path: Path, fresh: Path, names: list[Path], layout: Layout, may_grow: bool) -> None:
    root, identity = Path("zarr.json"), _identity(layout)
    wanted_attrs = dict(opened(fresh).attrs)
    # What all but the root says: if a flipped bit hit the digest itself, or the root is gone, that decides.
    arrays = {item.parent.name for item in path.glob("*/zarr.json")}
    others = [name for name in names if name != root]
    n_same = sum(_content(path / name) == _content(fresh / name) for name in others)
    same_arrays = arrays == {name.parts[0] for name in others} and n_same == len(others)
    try:
        _refuse_pipes(path)
        attrs = dict(opened(path).attrs)
    except Exception:  # a damaged root can fail in any way; it is renewed below
        attrs = {"layout_sha256": identity if (path / root).exists() or 2 * n_same > len(others) else None}
    same_but_digest = same_arrays and {**attrs, "layout_sha256": identity} == wanted_attrs
    # Damage befell the digest, or its name, and some arrays as well.
    found = attrs.get("layout_sha256")
    is_ours = _is_nearly(found, identity) if found is not None else 2 * n_same > len(others)
    grows = may_grow and _may_become(attrs, path / root, layout)
    if not (is_ours or same_but_digest or grows):
        raise OtherLayoutError(
            f"{path} exists and was made with other settings or from another catalogue. "
            "Choose another output, or remove it if it is not needed."
        )
    for name in sorted(names, key=lambda name: name == root):
        wanted = (fresh / name).read_bytes()
        if _content(path / name) != wanted:
            write_atomically(path / name, wanted)


def _is_nearly(digest: object, wanted: str) -> bool:
    """Whether a digest is ``wanted`` but for a few letters, which those of two layouts never are."""
    return sum(a == b for a, b in zip(str(digest), wanted, strict=False)) >= len(wanted) - 8


def _refuse_pipes(path: Path) -> None:
    """Refuse metadata that are no plain files, with a ValueError: a named pipe would let Zarr wait for ever."""
    for item in (path / "zarr.json", *path.glob("*/zarr.json")):
        if item.exists() and not item.is_file():
            raise ValueError(f"{item.relative_to(path)} is not a plain file")


def _content(path: Path) -> bytes | None:
    """What a file holds; None for what is none, or cannot be read: it is written anew."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None


def open_group(path: Path | str, format_version: int) -> zarr.Group:
    """Open a store for reading and check its format version."""
    try:
        _refuse_pipes(Path(path))
        group = opened(path)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise SwimmyError(
            f"{path}: no readable Zarr store ({error}). Check the path, or run `{typed('verify')}`."
        ) from error
    found = group.attrs.get("format_version")
    if found != format_version:
        raise SwimmyError(
            f"{path}: format_version {found!r}, this version of swimmy_scale reads {format_version}. "
            "Make the store again with this version."
        )
    return group


def write_partition(path: Path, layout: Layout, partition: int, columns: Mapping[str, AnyArray]) -> list[Path]:
    """Write one partition of every variable, read it back and compare; return its files.

    Parameters
    ----------
    columns : mapping of str to ndarray
        Every variable of the layout, over the partition's rows.

    Raises
    ------
    SwimmyError
        When a column does not read back as it was written.
    """
    rows = layout.rows(partition)
    arrays = once_there(lambda: _arrays(path, layout))
    files = []
    with ThreadPoolExecutor(1) as thread:
        flushed = []
        for variable in layout.variables:
            values = _checked(variable, layout.shape(variable, len(rows)), columns, path)
            array = arrays[variable.name]
            file = _file_of(path, variable.name, partition, len(variable.dims))
            with errors_name(file):
                if file.exists() and not file.is_file():
                    # Nothing of ours: a file belongs here.
                    remove(file)
                if array.shards is None or not gives_out_chunks():
                    array.with_config(EVERY_CHUNK)[rows.start : rows.stop] = values
                else:
                    write_shard(file, array, values)
                    # Flushed while it is read back, so that the caller's own flush has nothing to wait for.
                    flushed.append(thread.submit(sync_path, file))
                reads_back = _reads_back(array, rows, values)
            if not reads_back:
                raise SwimmyError(
                    f"{path}: {variable.name}[{rows.start}:{rows.stop}] does not read back as it was written. "
                    "Check the disk and its free space, then run again."
                )
            files.append(file)
        for one in flushed:
            one.result()
    return files


def _file_of(path: Path, name: str, partition: int, n_dims: int) -> Path:
    """Where a partition of a variable lies."""
    return path / name / "c" / "/".join([str(partition)] + ["0"] * (n_dims - 1))


def _arrays(path: Path, layout: Layout) -> dict[str, zarr.Array[Any]]:
    """The arrays of a store, open for writing."""
    group = opened(path, "r+")
    found = {}
    for variable in layout.variables:
        array = group.get(variable.name)
        if not isinstance(array, zarr.Array) or array.shape != layout.shape(variable):
            is_there = f"has shape {array.shape}" if isinstance(array, zarr.Array) else "is not an array"
            raise SwimmyError(
                f"{path}: {variable.name} {is_there}, where shape {layout.shape(variable)} is needed. "
                "Run the same command again: it renews what describes the store."
            )
        found[variable.name] = array
    return found


def _checked(variable: Variable, shape: tuple[int, ...], columns: Mapping[str, AnyArray], path: Path) -> AnyArray:
    if variable.name not in columns:
        raise SwimmyError(f"{path}: no values for {variable.name}. Every variable is written at once.")
    values = columns[variable.name]
    if variable.dtype == "string":
        values = values.astype(np.dtypes.StringDType())
    if values.shape != shape or (variable.dtype != "string" and values.dtype != np.dtype(variable.dtype)):
        raise SwimmyError(
            f"{path}: {variable.name} has shape {values.shape} and type {values.dtype}, "
            f"the store needs {shape} and {variable.dtype}. A partition is written whole."
        )
    return values


def _reads_back(array: zarr.Array[Any], rows: range, wanted: AnyArray) -> bool:
    """Whether rows read back as written; read by the chunk, so that memory never holds a second partition."""
    step = array.chunks[0]
    return all(
        _same(np.asarray(array[lo : min(lo + step, rows.stop)]), wanted[lo - rows.start : lo - rows.start + step])
        for lo in range(rows.start, rows.stop, step)
    )


def _same(found: AnyArray, wanted: AnyArray) -> bool:
    if wanted.dtype.kind in "TO":
        return bool(np.array_equal(found.astype(wanted.dtype), wanted))
    # By bytes, so that NaN equals NaN and -0.0 differs from 0.0.
    return found.dtype == wanted.dtype and np.array_equal(_bytes_of(found), _bytes_of(wanted))


def _bytes_of(values: AnyArray) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def n_rows(group: zarr.Group, name: str) -> int:
    """Length of a variable."""
    try:
        return int(group[name].shape[0])  # type: ignore[union-attr]
    except Exception as error:  # damaged metadata can fail in any way
        raise _damaged(group, f"the metadata of {name} are damaged or missing", error) from error


def _where(group: zarr.Group) -> str:
    return str(group.store_path).removeprefix("file://")


def _damaged(group: zarr.Group, what: str, error: Exception) -> SwimmyError:
    return SwimmyError(
        f"{_where(group)}: {what} ({' '.join(str(error).split())}). "
        f"Run `{typed('verify')}` on it or on its run directory, then the command that made it: that repairs it."
    )


def _refuse_other_than_files(group: zarr.Group, array: Any, name: str, lo: int, hi: int | None) -> None:
    """Refuse chunks that are no plain files: a named pipe would let Zarr wait for ever."""
    step = (array.shards or array.chunks)[0]
    for partition in range(lo // step, -(-(array.shape[0] if hi is None else hi) // step)):
        file = _file_of(Path(_where(group)), name, partition, array.ndim)
        if not file.is_file() and file.exists():
            raise ValueError(f"{file.relative_to(_where(group))} is not a plain file")


def _without_gaps(array: Any) -> Any:
    """The array, with an error in place of fill values where a chunk is missing."""
    try:
        # Set on the array, not in Zarr's settings, which all reading threads share.
        return array.with_config({"read_missing_chunks": False})
    except TypeError as error:
        raise SwimmyError(
            f"zarr {zarr.__version__} cannot tell a missing chunk from one of fill values ({error}). "
            "Install zarr 3.2 or newer."
        ) from error


def read_rows(group: zarr.Group, name: str, lo: int, hi: int | None) -> AnyArray:
    """Rows ``lo`` to ``hi`` (None: the end) of a variable, as an array that the caller owns.

    Raises
    ------
    SwimmyError
        When a chunk is missing or its checksum does not fit.
    """
    try:
        array = _without_gaps(group[name])
        _refuse_other_than_files(group, array, name, lo, hi)
        # Zarr decodes into a new array of just these rows.
        values = np.asarray(array[lo:hi])
        # NumPy's set operations and the table writers take fixed-width strings only.
        return np.array(values.tolist(), dtype=np.str_) if values.dtype.kind == "T" else values
    except KeyError as error:
        raise SwimmyError(f"{_where(group)}: no variable {name}. Make the store again.") from error
    except SwimmyError:
        raise
    except Exception as error:
        raise _damaged(group, f"{name}[{lo}:{hi}] is damaged or incomplete", error) from error


def digest_columns(columns: Mapping[str, AnyArray]) -> str:
    """SHA-256 (hex) over names, types, shapes and values of arrays, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name]
        payload: bytes | AnyArray
        if values.dtype.kind in "TOU":
            # As JSON, because a string may contain any separator.
            kind, payload = "string", json.dumps([str(value) for value in values.ravel()]).encode()
        else:
            kind, payload = values.dtype.str, np.ascontiguousarray(values)
        digest.update(f"{name}|{kind}|{values.shape}|".encode())
        digest.update(payload)
    return digest.hexdigest()
