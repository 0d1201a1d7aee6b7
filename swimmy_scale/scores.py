"""``scores.zarr``: score and residual of every object, and after selection thresholds and candidates."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from swimmy_scale.cutouts import CLASS_VARIABLE, CODE_VARIABLE, OBJECT_VARIABLES, survey_from_attrs
from swimmy_scale.errors import SwimmyError
from swimmy_scale.receipts import sync_files
from swimmy_scale.store import (
    ADDED_BY_SELECTION,
    Layout,
    Variable,
    add_labels,
    consolidate,
    n_rows,
    open_group,
    read_rows,
)
from swimmy_scale.survey import BoolArray, FloatArray, Survey

FORMAT_VERSION = 1
AnyArray = npt.NDArray[Any]
# Rows that are read or written at once where a whole column would grow with the survey.
BLOCK_OBJECTS = 1 << 18


def scores_layout(
    n_objects: int,
    survey_attrs: Mapping[str, Any],
    survey: Survey,
    kept: Mapping[str, str],
    partition_objects: int,
    chunk_objects: int,
    notes: Mapping[str, Any],
    models: tuple[str, ...] = (),
) -> Layout:
    """Layout of ``scores.zarr``; partitions are those of ``cutouts.zarr``.

    Parameters
    ----------
    models : tuple of str
        Names of the models where there are several: ``score`` and ``residual`` then have a dimension ``model``.
    """
    by_band = ("object", "model", "band") if models else ("object", "band")
    return Layout(
        n_objects=n_objects,
        partition_objects=partition_objects,
        chunk_objects=chunk_objects,
        sizes={"band": survey.n_bands, **({"model": len(models)} if models else {})},
        variables=(
            Variable("score", by_band, "float32", {"units": "1", "long_name": "anomaly score (equation 6)"}),
            Variable(
                "residual",
                by_band,
                "float32",
                {"units": "1", "long_name": "source minus reconstruction, summed over the aperture"},
            ),
            *OBJECT_VARIABLES,
            Variable("in_sample", ("object",), "bool", {"long_name": "scored, and passed the sample cuts"}),
            CLASS_VARIABLE,
            CODE_VARIABLE,
            *(Variable(name, ("object",), dtype, {"long_name": "from the catalogue"}) for name, dtype in kept.items()),
        ),
        labels={"band": survey.bands, **({"model": models} if models else {})},
        attrs={
            "format_version": FORMAT_VERSION,
            "title": "anomaly scores",
            "survey": survey_attrs,
            "kept_columns": dict(kept),
        },
        notes=notes,
    )


class Scores:
    """An existing ``scores.zarr``, opened for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group: zarr.Group = open_group(path, FORMAT_VERSION)
        self.attrs: dict[str, Any] = dict(self.group.attrs)
        self.survey = survey_from_attrs(self.attrs, path)
        try:
            self.kept: dict[str, str] = dict(self.attrs["kept_columns"])
        except (KeyError, ValueError, TypeError) as error:
            raise SwimmyError(f"{path}: its attributes are damaged ({error}). Score again.") from error
        self.n_objects = n_rows(self.group, "score")

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> AnyArray:
        """Rows of one variable, all of them by default (see `store.read_rows`)."""
        return read_rows(self.group, name, lo, hi)

    def blocks(self, *names: str) -> Iterator[tuple[int, tuple[AnyArray, ...]]]:
        """The named variables block by block: (first row, arrays)."""
        for lo in range(0, self.n_objects, BLOCK_OBJECTS):
            hi = min(lo + BLOCK_OBJECTS, self.n_objects)
            yield lo, tuple(self.read(name, lo, hi) for name in names)

    def sample_scores(self) -> Iterator[FloatArray]:
        """Scores of the sample, float32 (m, band), block by block."""
        for _, (score, in_sample) in self.blocks("score", "in_sample"):
            yield score[in_sample]


def write_selection(
    path: Path,
    levels: tuple[str, ...],
    threshold: npt.NDArray[np.float64],
    candidate_blocks: Iterator[tuple[int, BoolArray]],
) -> list[Path]:
    """Add ``level``, ``threshold`` (level, band) and ``candidate`` (object, level, band) to ``scores.zarr``.

    Writing the same selection again gives the same files; another one replaces what was there.

    Returns
    -------
    list of Path
        The files written, the root's metadata among them, on disk.
    """
    n_objects, n_bands = Scores(path).n_objects, threshold.shape[1]
    for name in ADDED_BY_SELECTION:
        # By the file system, because what is there may be too damaged to be opened.
        shutil.rmtree(path / name, ignore_errors=True)
    group = zarr.open_group(str(path), mode="r+", use_consolidated=False)
    add_labels(group, "level", levels)
    group.create_array(
        "threshold",
        shape=threshold.shape,
        chunks=threshold.shape,
        dtype="float64",
        compressors=[Crc32cCodec()],
        fill_value=float("nan"),
        config={"write_empty_chunks": True},
        attributes={"units": "1", "long_name": "a score above it is selected where the residual is positive"},
        dimension_names=("level", "band"),
    )[:] = threshold
    candidate = group.create_array(
        "candidate",
        shape=(n_objects, len(levels), n_bands),
        chunks=(max(min(BLOCK_OBJECTS, n_objects), 1), len(levels), n_bands),
        dtype="bool",
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        config={"write_empty_chunks": True},
        attributes={"long_name": "score above the threshold, residual positive, in the sample"},
        dimension_names=("object", "level", "band"),
    )
    for lo, flags in candidate_blocks:
        candidate[lo : lo + len(flags)] = flags
    consolidate(path)
    files = [path / "zarr.json"]
    for name in ADDED_BY_SELECTION:
        files += sorted(item for item in (path / name).rglob("*") if item.is_file())
    sync_files(files, path)
    if not np.array_equal(Scores(path).read("threshold", 0, len(levels)), threshold, equal_nan=True):
        raise SwimmyError(f"{path}: thresholds do not read back as written. Check the disk, then run again.")
    return files
