"""Files that came late: the rows of an index that have some of them, and the index of just these rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from swimmy_scale.ingest.pixels.index import Index
from swimmy_scale.method.survey import BoolArray, IntArray


def rows_with_files_of(index: Index, paths: Collection[str]) -> BoolArray:
    """Which objects have a file, first or spare, in one of the sources; shape (n_objects,)."""
    is_late = np.isin(index.source, [k for k, path in enumerate(index.sources) if path in paths])
    n_bands = index.file.shape[1]
    # Absent files are negative: they pick the False that is appended.
    late = np.append(is_late, False)[np.maximum(index.file, -1)].any(axis=1)
    late[index.spare_cell[is_late[index.spare_file]] // n_bands] = True
    return np.asarray(late)


def index_of_rows(index: Index, rows: IntArray) -> Index:
    """The index of some rows, int64 ascending, as if the catalogue had no others; not for cubes, which have all rows.

    ``unmatched`` and ``warnings`` stay.
    """
    n_bands = index.file.shape[1]
    spare_row, band = np.divmod(index.spare_cell, n_bands)
    chosen = np.isin(spare_row, rows)
    taken = replace(
        index,
        first_row=0,
        file=index.file[rows],
        spare_cell=np.searchsorted(rows, spare_row[chosen]) * n_bands + band[chosen],
        spare_file=index.spare_file[chosen],
        table_row=index.table_row[rows] if len(index.table_row) else index.table_row,
    )
    return replace(
        taken.slice(0, len(rows)),
        unmatched=index.unmatched,
        n_unmatched=index.n_unmatched,
        warnings=index.warnings,
    )
