"""Shards written chunk by chunk, with the bytes that Zarr would write at once and half of the memory."""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from swimmy_scale.method.survey import AnyArray
from swimmy_scale.storage.files import make_folder

log = logging.getLogger("swimmy_scale")

# Chunks of fill values are written as well, so that an absent chunk means a loss.
EVERY_CHUNK: Any = {"write_empty_chunks": True}


def write_shard(path: Path, array: zarr.Array[Any], values: AnyArray) -> None:
    """Write a shard chunk by chunk, with the bytes that Zarr would write at once.

    Zarr needs twice the shard's memory: it keeps all chunks until it has put them together. The file has the chunks
    one after the other, then an index, then a CRC-32C of the index (Zarr's extension "sharding_indexed", section
    "Binary shard format"). The index has two uint64 for each chunk, offset and length, with all bits set for a chunk
    beyond the array's end.
    """
    n_chunks = (array.shards or array.chunks)[0] // array.chunks[0]
    index = np.full((n_chunks, 2), 2**64 - 1, np.uint64)
    offset, step = 0, array.chunks[0]
    encode = _encoder(array.name, values.shape, array.chunks, array.dtype, array.compressors, array.fill_value)
    make_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with unfinished.open("wb") as stream:
            for number, lo in enumerate(range(0, len(values), step)):
                data = encode(lo, values[lo : lo + step])
                index[number] = offset, len(data)
                offset += stream.write(data)
            index_codecs = [Crc32cCodec()]
            stream.write(_encoder("index", index.shape, index.shape, index.dtype, index_codecs, 0)(0, index))
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


class _TakenAtOnce(MemoryStore):
    """Keeps what it is given without a copy: each chunk is taken out before the next one is made."""

    def __init__(self, store_dict: MutableMapping[str, Buffer], *, read_only: bool = False) -> None:
        super().__init__(store_dict, read_only=read_only)
        self._kept = store_dict

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Keep the bytes of a key."""
        self._kept[key] = value

    def set_sync(self, key: str, value: Buffer) -> None:
        """The same, for a pipeline that encodes where it is called."""
        self._kept[key] = value


@functools.cache
def gives_out_chunks() -> bool:
    """Whether `_encoder` works with this version of Zarr; where it does not a warning, once in a process.

    It relies on how Zarr uses a store, which other versions may change. One byte and its CRC-32C are known.
    """
    known = b"\0QS}R"
    try:
        found = _encoder("probe", (1,), (1,), "uint8", [Crc32cCodec()], 0)(0, np.zeros(1, np.uint8)).tobytes()
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
        found = b""
    if found != known:
        log.warning(
            "zarr %s does not give out single chunks as version 3.4 does. Zarr writes partitions by itself: the same "
            "files, but each needs the memory of its pixels once more.",
            zarr.__version__,
        )
    return found == known


def _encoder(
    name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: Any, codecs: Any, fill_value: Any
) -> Callable[[int, AnyArray], AnyArray]:
    """A function that returns a chunk's bytes as such an array stores them, given its first row and its rows."""
    kept: dict[str, Buffer] = {}
    array = zarr.create_array(
        _TakenAtOnce(kept),
        name=name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        compressors=codecs,
        fill_value=fill_value,
        config=EVERY_CHUNK,
    )

    def encode(lo: int, rows: AnyArray) -> AnyArray:
        array[lo : lo + len(rows)] = rows
        key = "/".join([array.path, "c", str(lo // chunks[0])] + ["0"] * (len(shape) - 1))
        return np.asarray(kept.pop(key).as_numpy_array())

    return encode
