"""What figures and tables read from a run directory: columns of all objects, and pixels of the few that are shown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, Survey
from swimmy_scale.model.scoring import reconstructor, scoring_of
from swimmy_scale.storage.counterparts import Counterparts, read_counterparts
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.run_directory import counterparts_beside
from swimmy_scale.storage.selection import SelectedRun

# Values of an object without a counterpart, by the kind of the column's dtype.
_UNKNOWN: dict[str, Any] = {"b": False, "i": -1, "f": np.nan, "U": ""}
ACTIVE_TYPES = ("quasar", "type1_agn", "type2_agn")
"""Types of Milliquas that count as active nuclei; its other objects are candidates and blazars."""


class MissingError(SwimmyError):
    """The run lacks what one figure or table needs; the others can still be made."""


class RunData:
    """A selection and its run, read only. Columns have one value for each object of the run, in catalogue order.

    Parameters
    ----------
    path : Path
        A run directory, for its own selection, or the folder of another selection from the scores of a run.
    cutouts : Path, optional
        Where the run's cutouts are now; by default where its job says.

    Raises
    ------
    SwimmyError
        When ``path`` is neither, or its selection is not finished.
    """

    def __init__(self, path: Path, cutouts: Path | None = None) -> None:
        self.directory, self._selected = path, SelectedRun.at(path, cutouts)
        self.files, self.folder = self._selected.run, self._selected.folder
        self.selection = self._selected.selection
        self.survey: Survey = self.selection.survey
        self.simulated = self.selection.simulated

    # ------------------------------------------------------------ the job and its stores

    @property
    def job(self) -> Job:
        """The frozen job, with the settings of the selection."""
        return self._selected.job

    @property
    def cutouts(self) -> Cutouts:
        """The run's cutouts, which may lie elsewhere."""
        return self._selected.cutouts

    # ------------------------------------------------------------ columns

    @functools.cached_property
    def object_id(self) -> IntArray:
        """int64 (object,)."""
        return self.selection.read("object_id")

    @functools.cached_property
    def in_sample(self) -> BoolArray:
        """bool (object,): passed the cuts."""
        return self.selection.read("in_sample")

    @functools.cached_property
    def selecting(self) -> list[int]:
        """Places of the selecting bands on the band axis."""
        return self.survey.band_index(self.survey.selecting_bands)

    @functools.cached_property
    def score(self) -> FloatArray:
        """float32 (object, selecting band)."""
        return self._by_band(self.selection.score_name)

    @functools.cached_property
    def residual(self) -> FloatArray:
        """float32 (object, selecting band)."""
        return self._by_band(self.selection.residual_name)

    def _by_band(self, name: str) -> FloatArray:
        parts = [block[:, self.selecting] for _, (block,) in self.selection.blocks(name)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.selecting)), np.float32)

    @functools.cached_property
    def levels(self) -> list[str]:
        """Names of the levels, from low to high significance."""
        return self.selection.levels

    @functools.cached_property
    def threshold(self) -> DoubleArray:
        """float64 (level, selecting band)."""
        return self.selection.read("threshold")[:, self.selecting]

    def candidate(self, level: str) -> BoolArray:
        """Objects selected at a level, bool (object, selecting band); `MissingError` if the job has no such level."""
        if level not in self.levels:
            raise MissingError(
                f"{self.directory}: the job selects at {', '.join(self.levels)} and not at {level}. Set select.levels "
                "in a job of another run directory."
            )
        at = self.levels.index(level)
        parts = [block[:, at][:, self.selecting] for _, (block,) in self.selection.blocks("candidate")]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.selecting)), np.bool_)

    def order_by_score(self, rows: IntArray, k: int) -> IntArray:
        """The order in which rows have falling scores in the k-th selecting band; the first of equal ones first."""
        return np.argsort(-self.score[rows, k].astype(np.float64), kind="stable")

    @functools.cached_property
    def selected(self) -> BoolArray:
        """bool (object, selecting band): candidates at the lowest level."""
        return self.candidate(self.levels[0])

    @functools.cached_property
    def sample_class(self) -> npt.NDArray[np.str_]:
        """Class of each object, str (object,)."""
        return self.selection.read("sample_class").astype(np.str_)

    @functools.cached_property
    def mag(self) -> FloatArray:
        """cmodel magnitudes, float32 (object, band): all bands."""
        return self._cutout_column("mag")

    @property
    def reference_mag(self) -> FloatArray:
        """cmodel magnitudes in the survey's magnitude band, float32 (object,)."""
        return self.mag[:, self.survey.bands.index(self.survey.magnitude_band)]

    @functools.cached_property
    def redshift(self) -> DoubleArray:
        """Spectroscopic redshift, float64 (object,): the counterpart's, or the catalogue's where that is unknown."""
        found: DoubleArray = self._cutout_column("redshift").astype(np.float64)
        if self.has_counterparts:
            matched = self.counterpart("redshift")
            found = np.where(np.isfinite(matched), matched, found)
        return found

    def _cutout_column(self, name: str) -> AnyArray:
        return self.cutouts.read(name, 0, self.cutouts.n_objects)

    # ------------------------------------------------------------ counterparts

    @functools.cached_property
    def counterparts_path(self) -> Path:
        """Table of spectroscopic counterparts: the run's own, or that beside the cutouts it takes from another run."""
        own, other = counterparts_beside(self.files.own_cutouts), counterparts_beside(self.cutouts.path)
        return other if other.is_file() and not own.is_file() else own

    @property
    def has_counterparts(self) -> bool:
        return self.counterparts_path.is_file()

    @functools.cached_property
    def _counterparts(self) -> tuple[Counterparts, IntArray]:
        """The table, and its row of each object, -1 for objects that are not in it."""
        if not self.has_counterparts:
            raise MissingError(
                f"{self.counterparts_path}: not there, and this needs it. A job with a section `spectroscopy:` makes "
                "it: add one and run the job in another run directory."
            )
        table = read_counterparts(self.counterparts_path)
        return table, table.rows_of(self.object_id)

    def counterpart(self, name: str) -> AnyArray:
        """A column of ``counterparts.fits`` for every object of the run.

        False, -1, NaN or the empty string for objects without a counterpart; shape (object,).

        Raises
        ------
        MissingError
            When the run has no such file, or the file no such column.
        """
        table, rows = self._counterparts
        values: AnyArray | None = getattr(table, name, None)
        if values is None:
            raise MissingError(f"{self.counterparts_path}: it has no column {name}, and this needs it.")
        result = np.full(rows.size, _UNKNOWN[values.dtype.kind], values.dtype)
        result[rows >= 0] = values[rows[rows >= 0]]
        return result

    def members(self, group: str) -> BoolArray:
        """Members of a known class, bool (object,).

        For quasar, xelg and agn_candidate these are the columns ``is_quasar`` ... of the counterparts, so that an XELG
        may be a quasar as well; without counterparts, and for all other classes, it is ``sample_class``.
        """
        if self.has_counterparts and group in ("quasar", "xelg", "agn_candidate"):
            return self.counterpart(f"is_{group}").astype(np.bool_)
        member: BoolArray = self.sample_class == group
        return member

    @functools.cached_property
    def is_active(self) -> BoolArray:
        """Quasars and active nuclei, bool (object,): in DR16Q or Milliquas where known, else by ``sample_class``."""
        if self.has_counterparts:
            known: BoolArray = np.isin(self.counterpart("milliquas_type"), ACTIVE_TYPES)
            return self.members("quasar") | known
        return self.members("quasar") | self.members("agn_candidate")

    # ------------------------------------------------------------ cuts

    def passes(self, cuts: SampleCuts) -> BoolArray:
        """Objects that pass the given cuts, bool (object,)."""
        store = self.cutouts
        rule = SampleRule.of(store, cuts)
        parts = [np.zeros(0, np.bool_)]
        for lo in range(0, store.n_objects, store.partition_objects):
            hi = min(lo + store.partition_objects, store.n_objects)
            parts.append(rule.apply(store, lo, hi, store.read("quarantine_code", lo, hi) == 0)[0])
        return np.concatenate(parts)

    @functools.cached_property
    def bright(self) -> BoolArray:
        """Objects that pass all of the job's cuts but those in redshift and colour, bool (object,)."""
        return self.passes(replace(self.job.sample, redshift=None, colours=()))

    # ------------------------------------------------------------ pixels

    def source(self, rows: IntArray) -> FloatArray:
        """Preprocessed cutouts of rows, in the order of ``rows``: float32 (m, band, y, x) in [0, 1]."""
        order = np.argsort(rows, kind="stable")
        cubes = self.cutouts.sources(rows[order])
        result = np.empty_like(cubes)
        result[order] = cubes
        return result

    def reconstruction(self, source: FloatArray) -> FloatArray:
        """What the network makes of source cutouts; with several models their mean."""
        return self._reconstruct(source) if len(source) else source

    @functools.cached_property
    def _reconstruct(self) -> Callable[[FloatArray], FloatArray]:
        return reconstructor(scoring_of(self.files, self.job, n_threads=1))
