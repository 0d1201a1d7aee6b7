"""Chunks of other programs' Zarr that are cut off, which the library may not see."""

from __future__ import annotations

import itertools
import math
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr

_BLOSC = ("Blosc", "BloscCodec")
_HEADER_BYTES = 16
_PACKED_SIZE_AT = 12


def check_whole(array: Any, lo: int, hi: int) -> None:
    """Refuse chunks of rows ``lo`` to ``hi`` of an array that are shorter than Blosc packed them.

    Blosc is not told how many bytes there are: of a chunk that is cut off it unpacks whatever lies behind it in memory.
    What is no array of Zarr in a folder, packed by Blosc, passes; so do chunks that are not there.

    Raises
    ------
    ValueError
        When one is too short.
    """
    root = getattr(getattr(array, "store", None), "root", None)
    if not isinstance(array, zarr.Array) or root is None or array.shards is not None:
        return
    if not any(type(codec).__name__ in _BLOSC for codec in array.compressors):
        return
    chunks = array.chunks
    of_rows = range(lo // chunks[0], -(-hi // chunks[0]))
    others = (range(math.ceil(n / step)) for n, step in zip(array.shape[1:], chunks[1:], strict=True))
    for place in itertools.product(of_rows, *others):
        key = array.metadata.encode_chunk_key(place)
        with suppress(FileNotFoundError), Path(root, array.path, key).open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
            size = stream.seek(0, 2)
            packed = struct.unpack_from("<I", head, _PACKED_SIZE_AT)[0] if len(head) == _HEADER_BYTES else math.inf
            if size < packed:
                raise ValueError(f"chunk {key} is cut off: {size} of {packed} bytes are there")
