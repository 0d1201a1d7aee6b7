"""Chunks in Zarr that are cut off, in both formats, against the bytes that the library wrote."""

from __future__ import annotations

from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from swimmy_scale.ingest.pixels.zarr_chunks import check_whole

SHAPE, CHUNKS = (5, 2, 9, 9), (2, 1, 9, 5)
FORMATS = {
    "v3": {"zarr_format": 3, "compressors": [zarr.codecs.BloscCodec(cname="lz4", clevel=1)]},
    "v2": {"zarr_format": 2, "compressors": [numcodecs.Blosc(cname="zstd", clevel=1)]},
    "with a checksum": {"compressors": [zarr.codecs.BloscCodec(cname="lz4"), zarr.codecs.Crc32cCodec()]},
    "zstd": {"compressors": [zarr.codecs.ZstdCodec()]},
    "shards": {"compressors": [zarr.codecs.BloscCodec()], "shards": (4, 2, 9, 10)},
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("alone", [True, False])
def test_chunks(tmp_path: Path, name: str, alone: bool) -> None:
    where = {"store": tmp_path / "a.zarr"} if alone else {"store": tmp_path / "a.zarr", "name": "images"}
    array = zarr.create_array(**where, shape=SHAPE, chunks=CHUNKS, dtype="f4", **FORMATS[name])
    array[:] = np.random.default_rng(0).normal(size=SHAPE)
    check_whole(array, 0, 5)
    if name in ("zstd", "shards"):
        return  # which know their lengths
    key = "1.0.0.1" if name == "v2" else "c/1/0/0/1"
    (chunk,) = [path for path in tmp_path.rglob("*") if path.is_file() and str(path).endswith(key)]
    whole = chunk.read_bytes()
    for n_bytes in (len(whole) // 2, 20, 3, 0):
        chunk.write_bytes(whole[:n_bytes])
        for lo, hi in ((2, 3), (3, 4), (0, 5)):
            with pytest.raises(ValueError, match=rf"chunk {key} is cut off: {n_bytes} of"):
                check_whole(array, lo, hi)
        check_whole(array, 0, 2)
        check_whole(array, 4, 5)
    chunk.unlink()
    check_whole(array, 0, 5)


def test_what_is_no_zarr_passes() -> None:
    check_whole(np.zeros((3, 4)), 0, 3)
    check_whole(zarr.create_array(store={}, shape=(3, 4), chunks=(1, 4), dtype="f4"), 0, 3)
