"""A labelled Zarr store that is written partition by partition: metadata once, then aligned regions only.

A partition is made of whole shards, so two tasks never share a file. Every chunk has a CRC-32C. Every chunk is
written: an absent one is an error, not a fill value. The store opens with ``xarray.open_zarr``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.storage.arrivals import once_there
from swimmy_scale.storage.decoding import opened
from swimmy_scale.storage.files import errors_name, remove, sync_path
from swimmy_scale.storage.layout import Layout, Variable
from swimmy_scale.storage.shards import EVERY_CHUNK, gives_out_chunks, write_shard


def refuse_pipes(path: Path) -> None:
    """Refuse metadata that are no plain files, with a ValueError: a named pipe would let Zarr wait for ever."""
    for item in (path / "zarr.json", *path.glob("*/zarr.json")):
        if item.exists() and not item.is_file():
            raise ValueError(f"{item.relative_to(path)} is not a plain file")


def open_group(path: Path | str, format_version: int) -> zarr.Group:
    """Open a store for reading and check its format version."""
    try:
        refuse_pipes(Path(path))
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
