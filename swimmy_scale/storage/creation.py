"""A store's metadata: made at once, renewed where they are damaged, and made longer where a store grows."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.decoding import decode_in_own_threads, opened
from swimmy_scale.storage.files import make_folder, read_text, sync_files, write_atomically
from swimmy_scale.storage.fresh_folders import making
from swimmy_scale.storage.layout import PIXEL_DIMS, Layout, Variable
from swimmy_scale.storage.shards import EVERY_CHUNK
from swimmy_scale.storage.store import refuse_pipes


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
    identity = layout.identity
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
    return n_objects < layout.n_objects and attrs.get("layout_sha256") == replace(layout, n_objects=n_objects).identity


def _renew(path: Path, fresh: Path, names: list[Path], layout: Layout, may_grow: bool) -> None:
    root, identity = Path("zarr.json"), layout.identity
    wanted_attrs = dict(opened(fresh).attrs)
    # What all but the root says: if a flipped bit hit the digest itself, or the root is gone, that decides.
    arrays = {item.parent.name for item in path.glob("*/zarr.json")}
    others = [name for name in names if name != root]
    n_same = sum(_content(path / name) == _content(fresh / name) for name in others)
    same_arrays = arrays == {name.parts[0] for name in others} and n_same == len(others)
    try:
        refuse_pipes(path)
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


def _content(path: Path) -> bytes | None:
    """What a file holds; None for what is none, or cannot be read: it is written anew."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None
