"""``scores.zarr``: score and residual of every object, and what the cuts and the selection add to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import candidate_columns
from swimmy_scale.method.score_kind import EQUATION_6, ScoreKind
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, Survey
from swimmy_scale.method.thresholds import streamed_thresholds, thresholds
from swimmy_scale.storage.cutouts import CLASS_VARIABLE, CODE_VARIABLE, OBJECT_VARIABLES, survey_from_attrs
from swimmy_scale.storage.files import sync_files
from swimmy_scale.storage.shards import EVERY_CHUNK
from swimmy_scale.storage.store import (
    Layout,
    Variable,
    add_labels,
    consolidate,
    n_rows,
    open_group,
    read_rows,
)

FORMAT_VERSION = 1
# Rows that are read or written at once, so that memory does not grow with the survey.
BLOCK_OBJECTS = 1 << 18
# Objects times models for which ranks can be taken: all scores of the sample lie in memory, at 20 bytes each.
RANKED_OBJECTS = 20_000_000
# Up to this number NumPy gives the thresholds, at 130 bytes an object. Above it two passes count the scores, in the
# same memory for any survey. The thresholds are the same.
IN_MEMORY_OBJECTS = 200_000
SAMPLE = "in_sample"
RESIDUAL = "source minus reconstruction, summed over the aperture"
SELECTED = ("level", "threshold", "candidate")
COMBINED = ("combined_score", "combined_residual")


def scores_layout(
    n_objects: int,
    survey_attrs: Mapping[str, Any],
    survey: Survey,
    kept: Mapping[str, str],
    partition_objects: int,
    chunk_objects: int,
    notes: Mapping[str, Any],
    models: tuple[str, ...] = (),
    kind: ScoreKind = EQUATION_6,
) -> Layout:
    """Layout of ``scores.zarr``; partitions are those of ``cutouts.zarr``, and ``notes`` are more attributes.

    If there are several ``models``, ``score`` and ``residual`` have a dimension ``model`` with their names.
    """
    by_band = ("object", "model", "band") if models else ("object", "band")
    return Layout(
        n_objects=n_objects,
        partition_objects=partition_objects,
        chunk_objects=chunk_objects,
        sizes={"band": survey.n_bands, **({"model": len(models)} if models else {})},
        variables=(
            Variable("score", by_band, "float32", {"units": "1", "long_name": kind.long_name}),
            Variable("residual", by_band, "float32", {"units": "1", "long_name": RESIDUAL}),
            *OBJECT_VARIABLES,
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
        added_later=(SAMPLE, *COMBINED, *SELECTED),
    )


class Scores:
    """An existing ``scores.zarr``, opened for reading.

    Parameters
    ----------
    add : callable, optional
        Told of the rows of each block of `blocks` once the caller asks for the next one.

    Attributes
    ----------
    path : Path
    survey : Survey
    n_objects, n_models : int
    partition_objects : int
        Rows of a partition.
    kept : dict of str to str
        Catalogue columns that travel along, with their types.
    kind : ScoreKind
        What the score is.
    score_name, residual_name : str
        The variables (object, band) that selection cuts: those of the one model, or those combined of several models,
        which exist after `write_combined`.
    """

    def __init__(self, path: Path, add: Callable[[int], None] = lambda n_rows: None) -> None:
        self.path = path
        self._add = add
        self.group: zarr.Group = open_group(path, FORMAT_VERSION)
        self.attrs: dict[str, Any] = dict(self.group.attrs)
        self.survey = survey_from_attrs(self.attrs, path)
        try:
            self.partition_objects = int(self.attrs["partition_objects"])
            self.kept: dict[str, str] = dict(self.attrs["kept_columns"])
            self.kind = ScoreKind.of(self.attrs)
        except (KeyError, ValueError, TypeError) as error:
            raise SwimmyError(f"{path}: its attributes are damaged ({error}). Score again.") from error
        self.n_objects = n_rows(self.group, "score")
        shape: tuple[int, ...] = self.group["score"].shape  # type: ignore[union-attr]
        self.n_models = shape[1] if len(shape) == 3 else 1
        self.score_name, self.residual_name = COMBINED if self.n_models > 1 else ("score", "residual")

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> AnyArray:
        """Rows of one variable, all of them by default (see `store.read_rows`)."""
        return read_rows(self.group, name, lo, hi)

    def blocks(self, *names: str, block_objects: int | None = None) -> Iterator[tuple[int, tuple[AnyArray, ...]]]:
        """The named variables block by block, by default of ``BLOCK_OBJECTS`` rows: (first row, arrays)."""
        step = block_objects or BLOCK_OBJECTS
        for lo in range(0, self.n_objects, step):
            hi = min(lo + step, self.n_objects)
            yield lo, tuple(self.read(name, lo, hi) for name in names)
            self._add(hi - lo)

    def sample_scores(self) -> Iterator[FloatArray]:
        """The scores of the sample that selection cuts, float32 (m, band), block by block."""
        for _, (score, in_sample) in self.blocks(self.score_name, "in_sample"):
            yield score[in_sample]


# ---------------------------------------------------------------- what selection adds


def model_block_objects(n_models: int) -> int:
    """Rows to read at once of variables (object, model, band): a block is as large as one of a single model."""
    return max(BLOCK_OBJECTS // n_models, 1)


def _add_by_object(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dims: tuple[str, ...],
    dtype: str,
    block_objects: int,
    **attrs: Any,
) -> zarr.Array[Any]:
    """An array that is written in blocks of ``block_objects`` rows, which are its chunks."""
    return group.create_array(
        name,
        shape=shape,
        chunks=(max(min(block_objects, shape[0]), 1), *shape[1:]),
        dtype=dtype,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        fill_value=float("nan") if dtype.startswith("float") else False,
        config=EVERY_CHUNK,
        attributes=attrs,
        dimension_names=dims,
    )


def _files_of(path: Path, names: Iterable[str]) -> list[Path]:
    return [file for name in names for file in sorted((path / name).rglob("*")) if file.is_file()]


def write_sample(path: Path, blocks: Iterable[tuple[int, BoolArray]]) -> list[Path]:
    """Add ``in_sample`` (object) to a ``scores.zarr``.

    What an earlier selection added is removed first: it cut another sample. ``blocks`` are the first row and the
    values of ``BLOCK_OBJECTS`` rows each.

    Returns
    -------
    list of Path
        The files written, flushed to disk, without the root's metadata, which a selection extends and vouches for.
    """
    n_objects = Scores(path).n_objects
    for name in (*SELECTED, *COMBINED, SAMPLE):
        shutil.rmtree(path / name, ignore_errors=True)
    group = zarr.open_group(str(path), mode="r+", use_consolidated=False)
    long_name = "scored, and passed the sample cuts"
    array = _add_by_object(group, SAMPLE, (n_objects,), ("object",), "bool", BLOCK_OBJECTS, long_name=long_name)
    for lo, in_sample in blocks:
        array[lo : lo + len(in_sample)] = in_sample
    consolidate(path)
    files = _files_of(path, (SAMPLE,))
    sync_files([path / "zarr.json", *files], path)
    return files


def write_combined(
    path: Path,
    long_names: Mapping[str, str],
    blocks: Iterator[tuple[int, FloatArray, FloatArray]],
    attrs: Mapping[str, Any],
) -> list[Path]:
    """Add ``combined_score`` and ``combined_residual`` (object, band) to a ``scores.zarr`` of several models.

    What an earlier selection added is removed first: it cut other scores. `write_selection` must follow: it renews the
    root's metadata.

    Parameters
    ----------
    long_names : mapping of str to str
        What each of the two is, by its name.
    blocks : iterator
        First row, score and residual, float32 (m, band), in blocks of `model_block_objects` rows.
    attrs : mapping
        More attributes of both.

    Returns
    -------
    list of Path
        The files written, flushed to disk.
    """
    scores = Scores(path)
    for name in (*SELECTED, *COMBINED):
        shutil.rmtree(path / name, ignore_errors=True)
    group = zarr.open_group(str(path), mode="r+", use_consolidated=False)
    shape, rows = (scores.n_objects, scores.survey.n_bands), model_block_objects(scores.n_models)
    score, residual = (
        _add_by_object(
            group, name, shape, ("object", "band"), "float32", rows, units="1", long_name=long_names[name], **attrs
        )
        for name in COMBINED
    )
    for lo, block_score, block_residual in blocks:
        score[lo : lo + len(block_score)] = block_score
        residual[lo : lo + len(block_residual)] = block_residual
    files = _files_of(path, COMBINED)
    sync_files(files, path)
    return files


def write_selection(
    path: Path,
    levels: tuple[str, ...],
    threshold: DoubleArray,
    candidate_blocks: Iterator[tuple[int, BoolArray]],
) -> list[Path]:
    """Add ``level``, ``threshold`` (level, band) and ``candidate`` (object, level, band) to ``scores.zarr``.

    The same selection gives the same files; another one replaces what was there.

    Returns
    -------
    list of Path
        The files written and the root's metadata, flushed to disk.
    """
    n_objects, n_bands = Scores(path).n_objects, threshold.shape[1]
    for name in SELECTED:
        # By the file system, because the arrays may be too damaged to be opened.
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
        config=EVERY_CHUNK,
        attributes={"units": "1", "long_name": "a score above it is selected where the residual is positive"},
        dimension_names=("level", "band"),
    )[:] = threshold
    candidate = _add_by_object(
        group,
        "candidate",
        (n_objects, len(levels), n_bands),
        ("object", "level", "band"),
        "bool",
        BLOCK_OBJECTS,
        long_name="score above the threshold, residual positive, in the sample",
    )
    for lo, flags in candidate_blocks:
        candidate[lo : lo + len(flags)] = flags
    consolidate(path)
    files = [path / "zarr.json", *_files_of(path, SELECTED)]
    sync_files(files, path)
    if not np.array_equal(Scores(path).read("threshold", 0, len(levels)), threshold, equal_nan=True):
        raise SwimmyError(f"{path}: thresholds do not read back as written. Check the disk, then run again.")
    return files


# ---------------------------------------------------------------- what selection reads


def sample_thresholds(
    scores: Scores, fractions: Sequence[float], in_memory_objects: int = IN_MEMORY_OBJECTS
) -> DoubleArray:
    """Thresholds of this sample, float64 (level, band); the same numbers in memory and streamed."""
    if scores.n_objects <= in_memory_objects:
        return thresholds(np.concatenate(list(scores.sample_scores())), fractions)
    return streamed_thresholds(scores.sample_scores, scores.survey.n_bands, fractions)


def candidate_rows(scores: Scores, levels: Sequence[str]) -> dict[str, Any]:
    """Columns of the candidate catalogue (see `candidate_columns`), of the objects that are flagged on disk."""
    parts = []
    names = ("object_id", "ra", "dec", scores.score_name, scores.residual_name, "candidate", *scores.kept)
    for _, arrays in scores.blocks(*names):
        block = dict(zip(names, arrays, strict=True))
        chosen = block["candidate"].any(axis=(1, 2))
        parts.append({name: values[chosen] for name, values in block.items()})
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    kept = {name: columns.pop(name) for name in scores.kept}
    object_id, ra, dec, score, residual, candidate = columns.values()
    bands, selecting = scores.survey.bands, scores.survey.selecting_bands
    return candidate_columns(object_id, ra, dec, score, residual, candidate, levels, bands, selecting, kept)


def strangest(scores: Scores, n_objects: int) -> IntArray:
    """Rows of the candidates that exceed a threshold of the first level by the largest factor.

    Only bands that select a candidate count for it. Memory does not grow with the survey.

    Returns
    -------
    ndarray of int64, shape (m,), m at most ``n_objects``
        Strangest first; of equal ones the lower row first.
    """
    threshold = scores.read("threshold", 0, 1)[0]
    rows, excess = np.zeros(0, np.int64), np.zeros(0, np.float64)
    for lo, (score, candidate) in scores.blocks(scores.score_name, "candidate"):
        chosen = np.flatnonzero(candidate[:, 0].any(axis=1))
        # A carried threshold may be 0; every score above it is then infinitely strange.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(candidate[chosen, 0], score[chosen] / threshold, 0.0)
        rows = np.concatenate([rows, lo + chosen])
        excess = np.concatenate([excess, ratio.max(axis=1, initial=0.0)])
        order = np.argsort(-excess, kind="stable")[:n_objects]
        rows, excess = rows[order], excess[order]
    return rows
