"""``selection.zarr``: who is in the sample, the thresholds of its scores, and who exceeds them.

It refers to the scores that it cuts, and is read together with them. It is written whole: under another name first,
which it gives up when all of it is on disk.
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.candidates import candidate_columns
from swimmy_scale.method.job import Job
from swimmy_scale.method.survey import AnyArray, DoubleArray, FloatArray, IntArray
from swimmy_scale.method.thresholds import streamed_thresholds, thresholds
from swimmy_scale.storage.creation import add_labels, consolidate
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.decoding import opened
from swimmy_scale.storage.files import errors_name, make_folder, remove, sync_files, sync_path
from swimmy_scale.storage.fresh_folders import making
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder
from swimmy_scale.storage.scores import BLOCK_OBJECTS, Scores, read_blocks
from swimmy_scale.storage.shards import EVERY_CHUNK
from swimmy_scale.storage.store import n_rows, open_group, read_rows

FORMAT_VERSION = 1
# Objects times models for which ranks can be taken: all scores of the sample lie in memory, at 20 bytes each.
RANKED_OBJECTS = 20_000_000
# Up to this number NumPy gives the thresholds, at 130 bytes an object. Above it two passes count the scores, in the
# same memory for any survey. The thresholds are the same.
IN_MEMORY_OBJECTS = 200_000
COMBINED = ("combined_score", "combined_residual")
OWN = ("in_sample", "level", "threshold", "candidate")
LONG_NAMES = {
    "object_id": "identifier in the catalogue",
    "in_sample": "scored, and passed the sample cuts",
    "threshold": "a score above it is selected where the residual is positive",
    "candidate": "score above the threshold, residual positive, in the sample",
}


class Selection:
    """A ``selection.zarr``, opened for reading together with the ``scores.zarr`` that it cuts.

    Parameters
    ----------
    path : Path
        The ``selection.zarr``.
    scores : Path, optional
        Where its scores are now; by default where they were, seen from the selection.
    add : callable, optional
        Told of the rows of each block of `blocks` once the caller asks for the next one.

    Attributes
    ----------
    path : Path
    scores : Scores
    survey : Survey
    n_objects, n_models : int
    kept : dict of str to str
        Catalogue columns that travel along, with their types: those of the scores, unless its job named others later.
    kind : ScoreKind
        What the score is.
    simulated : bool
    score_name, residual_name : str
        The variables (object, band) that are cut: those of the one model, or those combined of several models.

    Raises
    ------
    SwimmyError
        When the store or its scores cannot be read, or are not of the same number of objects.
    """

    def __init__(
        self, path: Path, scores: Path | None = None, add: Callable[[int], None] = lambda n_rows: None
    ) -> None:
        self.path = path
        self._add = add
        self.group: zarr.Group = open_group(path, FORMAT_VERSION)
        self.attrs: dict[str, Any] = dict(self.group.attrs)
        cut = scores or scores_of(path, self.attrs)
        if not cut.is_dir():
            raise SwimmyError(
                f"{cut}: not there, and {path} is a selection of these scores. Keep both as they lay to each other."
            )
        self.scores = Scores(cut)
        self.survey, self.kind = self.scores.survey, self.scores.kind
        self.kept: dict[str, str] = dict(self.attrs.get("kept_columns", self.scores.kept))
        self.n_objects, self.n_models = self.scores.n_objects, self.scores.n_models
        self.simulated = bool(self.scores.attrs.get("simulated", False))
        self.score_name, self.residual_name = COMBINED if self.n_models > 1 else ("score", "residual")
        if (n_selected := n_rows(self.group, "in_sample")) != self.n_objects:
            raise SwimmyError(
                f"{path} has {n_selected:,} objects, {cut} has {self.n_objects:,}: they do not belong together. Select "
                "from these scores again."
            )

    @property
    def levels(self) -> list[str]:
        """Names of the levels, from low to high significance."""
        return [str(level) for level in self.read("level")]

    def read(self, name: str, lo: int = 0, hi: int | None = None) -> AnyArray:
        """Rows of a variable of the selection or of its scores, all of them by default (see `store.read_rows`)."""
        own = name in OWN or name in COMBINED or (name in self.kept and name not in self.scores.kept)
        return read_rows(self.group, name, lo, hi) if own else self.scores.read(name, lo, hi)

    def blocks(self, *names: str, block_objects: int | None = None) -> Iterator[tuple[int, tuple[AnyArray, ...]]]:
        """The named variables block by block, by default of ``BLOCK_OBJECTS`` rows: (first row, arrays)."""
        return read_blocks(self.read, names, self.n_objects, block_objects or BLOCK_OBJECTS, self._add)

    def at(self, rows: IntArray, *names: str) -> list[AnyArray]:
        """The named variables at some rows, ascending; the columns are read block by block."""
        parts = []
        for lo, arrays in self.blocks(*names):
            inside = rows[(rows >= lo) & (rows < lo + len(arrays[0]))] - lo
            parts.append([values[inside] for values in arrays])
        return [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]

    def sample_scores(self) -> Iterator[FloatArray]:
        """The scores of the sample that are cut, float32 (m, band), block by block."""
        for _, (score, in_sample) in self.blocks(self.score_name, "in_sample"):
            yield score[in_sample]

    def fill(self, name: str, blocks: Iterable[tuple[int, AnyArray]]) -> None:
        """Write a variable of a selection that is being made (see `new_selection`): first row and values of each block.

        Raises
        ------
        SwimmyError
            When a block does not read back as it was written.
        """
        array: Any = opened(self.path, "r+")[name]
        for lo, values in blocks:
            with errors_name(self.path / name):
                array.with_config(EVERY_CHUNK)[lo : lo + len(values)] = values
            found, is_float = self.read(name, lo, lo + len(values)), values.dtype.kind == "f"
            if found.dtype != values.dtype and found.dtype.kind == "U":
                values = values.astype(np.str_)
            if not np.array_equal(found, values, equal_nan=is_float):
                raise SwimmyError(
                    f"{self.path}: {name}[{lo}:{lo + len(values)}] does not read back as it was written. Check the "
                    "disk and its free space, then run again."
                )


def scores_of(path: Path, attrs: Mapping[str, Any]) -> Path:
    """The ``scores.zarr`` that a selection cuts; its attributes name it as it is seen from the selection's folder."""
    if not isinstance(attrs.get("scores"), str):
        raise SwimmyError(f"{path}: its attributes are damaged (no scores). Select again.")
    return Path(os.path.normpath(path.parent / attrs["scores"]))


def model_block_objects(n_models: int) -> int:
    """Rows to read at once of variables (object, model, band): a block is as large as one of a single model."""
    return max(BLOCK_OBJECTS // n_models, 1)


@dataclass(frozen=True)
class SelectedRun:
    """A selection and the run whose scores it cuts, read only.

    Attributes
    ----------
    run : RunDirectory
    folder : SelectionFolder
        The run directory itself, for its own selection.
    moved_cutouts : Path, optional
        Where the run's cutouts are now, if not where its job says.
    """

    run: RunDirectory
    folder: SelectionFolder
    moved_cutouts: Path | None = None

    @classmethod
    def at(cls, path: Path, cutouts: Path | None = None) -> SelectedRun:
        """What a path names: a run directory and its own selection, or the folder of another selection.

        Raises
        ------
        SwimmyError
            When it is neither, or the scores of the selection do not lie in a run directory.
        """
        folder = SelectionFolder(path)
        if not folder.exists() or RunDirectory(path).exists():
            return cls(RunDirectory.existing(path), folder, cutouts)
        scores = scores_of(folder.store, dict(open_group(folder.store, FORMAT_VERSION).attrs))
        run = RunDirectory(scores.parent)
        if scores != run.scores or not run.exists():
            raise SwimmyError(
                f"{path}: a selection from {scores}, which lies in no run directory. This command needs the job, the "
                "models and the cutouts of one, which `run` makes."
            )
        return cls(run, folder, cutouts)

    @functools.cached_property
    def job(self) -> Job:
        """The frozen job, with the settings of the selection, and with the place where the cutouts are now."""
        job = self.folder.in_job(self.run.load_job())
        return job if self.moved_cutouts is None else job.model_copy(update={"cutouts": self.moved_cutouts})

    @functools.cached_property
    def selection(self) -> Selection:
        """The selection, with its scores.

        Raises
        ------
        SwimmyError
            When it is not finished.
        """
        if not self.folder.summary.is_file():
            raise SwimmyError(
                f"{self.folder.path}: candidates are not selected yet. Finish the run with `{typed('run')}`."
            )
        if not self.has_scores:
            raise SwimmyError(
                f"{self.folder.path}: a selection from scores that {self.run.path} no longer has: it was scored again. "
                "Its candidates and thresholds are still to be read (candidates.*, summary.json, selection.zarr); for "
                f"all else select from the present scores by its settings: "
                f"`{typed('select', self.run.path, '--settings', self.folder.settings)}`."
            )
        return Selection(self.folder.store, self.run.scores)

    @property
    def has_scores(self) -> bool:
        """Whether the run's scores are those that were cut: they may have been made again by another job."""
        said = open_group(self.folder.store, FORMAT_VERSION).attrs.get("scores_digest")
        done = self.run.ledger("score").read(FINISHED)
        return not said or done is None or done.data_digest == said

    @property
    def cutouts_path(self) -> Path:
        """Where the run's cutouts are."""
        return self.run.cutouts(self.job)

    @functools.cached_property
    def cutouts(self) -> Cutouts:
        """The run's cutouts."""
        return Cutouts(self.cutouts_path)


# ---------------------------------------------------------------- making one


@contextmanager
def new_selection(
    path: Path,
    scores: Scores,
    levels: Sequence[str],
    combined: Mapping[str, str],
    attrs: Mapping[str, Any],
    add: Callable[[int], None] = lambda n_rows: None,
    later: Mapping[str, str] | None = None,
) -> Iterator[Selection]:
    """Make a ``selection.zarr``: fill every variable of what this gives (see `Selection.fill`).

    At the end all of it is flushed to disk, then it takes the place of what was at ``path``. If anything fails, what
    was there stays. The same selection gives the same files.

    Parameters
    ----------
    combined : mapping of str to str
        What the scores combined of several models are, by the names of their variables; empty for one model.
    attrs : mapping
        More attributes.
    later : mapping of str to str, optional
        Catalogue columns that the scores lack, with their types.
    """
    make_folder(path.parent)
    fresh = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    content = {
        "format_version": FORMAT_VERSION,
        "title": "selection of unusual objects",
        "scores": os.path.relpath(scores.path, path.parent),
        "coordinates": "object_id",
        **attrs,
    }
    with making(fresh, path):
        group = zarr.create_group(str(fresh), attributes=content)
        add_labels(group, "band", scores.survey.bands)
        add_labels(group, "level", tuple(levels))
        n_bands = scores.survey.n_bands
        _by_object(group, "object_id", "int64", scores.n_objects)
        _by_object(group, "in_sample", "bool", scores.n_objects)
        for name, meaning in combined.items():
            rows = model_block_objects(scores.n_models)
            _by_object(group, name, "float32", scores.n_objects, rows, units="1", long_name=meaning, band=n_bands)
        group.create_array(
            "threshold",
            shape=(len(levels), n_bands),
            chunks=(len(levels), n_bands),
            dtype="float64",
            compressors=[Crc32cCodec()],
            fill_value=float("nan"),
            attributes={"units": "1", "long_name": LONG_NAMES["threshold"]},
            dimension_names=("level", "band"),
        )
        _by_object(group, "candidate", "bool", scores.n_objects, level=len(levels), band=n_bands)
        for name, dtype in (later or {}).items():
            _by_object(group, name, dtype, scores.n_objects, long_name="column of the catalogue")
        made = Selection(fresh, scores.path, add)
        made.fill("object_id", ((lo, ids) for lo, (ids,) in scores.blocks("object_id")))
        yield made
        consolidate(fresh)
        sync_files(files_of(fresh), fresh)
        remove(path)
        fresh.rename(path)
        sync_path(path.parent)


def look_from(path: Path, folder: Path, scores: Path) -> None:
    """Let a copy of a ``selection.zarr``, which will lie in ``folder``, name its scores as they are seen from there."""
    with errors_name(path):
        group = opened(path, "r+")
        group.attrs["scores"] = os.path.relpath(scores, folder)
        consolidate(path)


def _by_object(
    group: zarr.Group,
    name: str,
    dtype: str,
    n_objects: int,
    block_objects: int = BLOCK_OBJECTS,
    units: str | None = None,
    long_name: str | None = None,
    **sizes: int,
) -> None:
    """An array that is written in blocks of ``block_objects`` rows, which are its chunks."""
    group.create_array(
        name,
        shape=(n_objects, *sizes.values()),
        chunks=(max(min(block_objects, n_objects), 1), *sizes.values()),
        dtype=dtype,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        fill_value={"bool": False, "string": ""}.get(dtype, float("nan") if dtype.startswith("float") else 0),
        attributes={"long_name": long_name or LONG_NAMES[name], **({"units": units} if units else {})},
        dimension_names=("object", *sizes),
    )


def files_of(path: Path) -> list[Path]:
    """All files of a store, sorted."""
    return sorted(file for file in path.rglob("*") if file.is_file())


# ---------------------------------------------------------------- what is read of it


def sample_thresholds(
    selection: Selection, fractions: Sequence[float], in_memory_objects: int = IN_MEMORY_OBJECTS
) -> DoubleArray:
    """Thresholds of this sample, float64 (level, band); the same numbers in memory and streamed."""
    if selection.n_objects <= in_memory_objects:
        return thresholds(np.concatenate(list(selection.sample_scores())), fractions)
    return streamed_thresholds(selection.sample_scores, selection.survey.n_bands, fractions)


def candidate_rows(selection: Selection, levels: Sequence[str]) -> dict[str, Any]:
    """Columns of the candidate catalogue (see `candidate_columns`), of the objects that are flagged on disk."""
    parts = []
    names = ("object_id", "ra", "dec", selection.score_name, selection.residual_name, "candidate", *selection.kept)
    for _, arrays in selection.blocks(*names):
        block = dict(zip(names, arrays, strict=True))
        chosen = block["candidate"].any(axis=(1, 2))
        parts.append({name: values[chosen] for name, values in block.items()})
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    kept = {name: columns.pop(name) for name in selection.kept}
    object_id, ra, dec, score, residual, candidate = columns.values()
    bands, selecting = selection.survey.bands, selection.survey.selecting_bands
    return candidate_columns(object_id, ra, dec, score, residual, candidate, levels, bands, selecting, kept)


def strangest(selection: Selection, n_objects: int) -> IntArray:
    """Rows of the candidates that exceed a threshold of the first level by the largest factor.

    Only bands that select a candidate count for it. Memory does not grow with the survey.

    Returns
    -------
    ndarray of int64, shape (m,), m at most ``n_objects``
        Strangest first; of equal ones the lower row first.
    """
    threshold = selection.read("threshold", 0, 1)[0]
    rows, excess = np.zeros(0, np.int64), np.zeros(0, np.float64)
    for lo, (score, candidate) in selection.blocks(selection.score_name, "candidate"):
        chosen = np.flatnonzero(candidate[:, 0].any(axis=1))
        # A carried threshold may be 0; every score above it is then infinitely strange.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(candidate[chosen, 0], score[chosen] / threshold, 0.0)
        rows = np.concatenate([rows, lo + chosen])
        excess = np.concatenate([excess, ratio.max(axis=1, initial=0.0)])
        order = np.argsort(-excess, kind="stable")[:n_objects]
        rows, excess = rows[order], excess[order]
    return rows
