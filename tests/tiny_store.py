"""A store of ten objects in three partitions, written without the stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.storage.creation import create
from swimmy_scale.storage.layout import Layout, Variable
from swimmy_scale.storage.store import write_partition

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


def contents(path: Path) -> dict[Path, bytes]:
    return {item.relative_to(path): item.read_bytes() for item in path.rglob("*") if item.is_file()}


def make_store(path: Path) -> Path:
    """All of it, in another order than its own."""
    create(path, LAYOUT)
    for partition in (2, 0, 1):
        write_partition(path, LAYOUT, partition, columns(partition))
    return path
