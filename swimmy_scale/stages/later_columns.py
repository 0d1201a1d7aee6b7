"""Kept columns that a job names after the ingest: a selection reads them from the catalogue, and no pixel again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.sections import CatalogueSource, IngestSection
from swimmy_scale.method.survey import AnyArray, IntArray, Survey
from swimmy_scale.stages.deliveries import catalogue_named, read_objects
from swimmy_scale.storage.layout import column_type, is_text
from swimmy_scale.storage.selection import Selection


@dataclass(frozen=True)
class KeptColumns:
    """The columns of the catalogue that a selection keeps.

    Attributes
    ----------
    names : tuple of str
        All of them, in their order.
    catalogues : tuple of (CatalogueSource, IngestSection)
        The job's own, then those of its additions, each with its pixels: what the cutouts lack is read from them.
    survey : Survey
    """

    names: tuple[str, ...]
    catalogues: tuple[tuple[CatalogueSource, IngestSection], ...]
    survey: Survey

    @classmethod
    def of(cls, job: Job) -> KeptColumns | None:
        """What a job asks for; None if it names cutouts that are there, which bring their own."""
        if job.catalogue is None or job.ingest is None:
            return None
        later = ((addition.catalogue, addition.ingest) for addition in job.additions if addition.catalogue)
        return cls(job.catalogue.keep_columns, ((job.catalogue, job.ingest), *later), job.survey)

    def missing(self, stored: Mapping[str, str]) -> tuple[str, ...]:
        """Those that are not among the columns that the cutouts keep."""
        return tuple(name for name in self.names if name not in stored)

    def names_beside(self, stored: Mapping[str, str]) -> tuple[str, ...]:
        """All columns that a selection keeps: behind the names of objects, where the cutouts have such."""
        has_names = OBJECT_NAME in stored and OBJECT_NAME not in self.names
        return (*([OBJECT_NAME] if has_names else []), *self.names)

    def read(self, stored: Mapping[str, str]) -> LaterColumns:
        """The missing ones, from the catalogues.

        Raises
        ------
        SwimmyError
            When a catalogue is gone or lacks one, or when one is text in one catalogue and numbers in another.
        """
        names, tables = self.missing(stored), []
        for source, section in self.catalogues if names else ():
            gone = [path for path in ((source.path,) if source.path else section.sources) if not path.exists()]
            if gone:
                raise SwimmyError(
                    f"{gone[0]}: not there, and {', '.join(names)} of catalogue.keep_columns must be read from it, "
                    "because the cutouts were ingested without. Put it back, or leave them out."
                )
            tables.append(read_objects(replace(source, keep_columns=names), self.survey, section))
        columns, named = {}, catalogue_named(*self.catalogues[0])
        for name in names:
            parts = [table.kept[name] for table in tables]
            if len(set(map(is_text, parts))) > 1:
                raise SwimmyError(
                    f"{named}: its column {name} is text or numbers, and otherwise in an addition's "
                    "catalogue. Give it alike in both, or leave it out of catalogue.keep_columns."
                )
            columns[name] = np.concatenate(parts)
        ids = np.concatenate([table.object_id for table in tables]) if tables else np.zeros(0, np.int64)
        return LaterColumns(named, ids, columns)


@dataclass(frozen=True)
class LaterColumns:
    """Columns by object_id.

    Attributes
    ----------
    path : str
        The catalogue, for messages.
    object_id : ndarray of int64, shape (n,)
        As the catalogues have them; of rows that share an id the first counts, as in an ingest.
    columns : mapping of str to ndarray, shape (n,)
    """

    path: str
    object_id: IntArray
    columns: Mapping[str, AnyArray]

    @property
    def types(self) -> dict[str, str]:
        """The type of each in a store."""
        return {name: column_type(values) for name, values in self.columns.items()}

    @cached_property
    def _first_rows(self) -> tuple[IntArray, IntArray]:
        """The ids, ascending, and the first row of each."""
        ids, rows = np.unique(self.object_id, return_index=True)
        return ids, rows

    def fill(self, selection: Selection) -> None:
        """Write them all to a selection that is being made."""
        for name in self.columns:
            selection.fill(name, self._blocks(name, selection))

    def _blocks(self, name: str, selection: Selection) -> Iterator[tuple[int, AnyArray]]:
        """One column in the order of the selection, block by block: first row and values.

        Raises
        ------
        SwimmyError
            When an object is not in the catalogues any more. One whose id was lost has no value: NaN, 0 or no text.
        """
        ids, rows = self._first_rows
        values = self.columns[name]
        for lo, (object_id,) in selection.blocks("object_id"):
            place = np.minimum(np.searchsorted(ids, object_id), len(ids) - 1)
            if (absent := np.flatnonzero((ids[place] != object_id) & (object_id >= 0))).size:
                raise SwimmyError(
                    f"{self.path}: has no object_id {object_id[absent[0]]} any more, which was ingested from it "
                    f"({absent.size} are missing); {name} of catalogue.keep_columns is read from it. Put the catalogue "
                    "back as it was, or leave the column out."
                )
            found = values[rows[place]]
            if (lost := object_id < 0).any():
                found[lost] = np.nan if found.dtype.kind == "f" else np.zeros(1, found.dtype)[0]
            yield lo, found
