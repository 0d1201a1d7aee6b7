"""Which row of which object table holds each object of the catalogue."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.file_names import show_name
from swimmy_scale.ingest.pixels.listing import Listing
from swimmy_scale.ingest.pixels.object_tables.tables import ids_in, notes_of
from swimmy_scale.method.survey import IntArray, Survey

MOST_NAMED = 1000


class TablePlaces(NamedTuple):
    """Where the objects lie.

    Attributes
    ----------
    file : ndarray of int32, shape (n_objects,)
        Which file, -1 for none; files of all listings count on.
    row : ndarray of int64, shape (n_objects,)
        Row of the file, -1 for none.
    unmatched : list of str
        The first `MOST_NAMED` rows that belong to no object of the catalogue.
    n_unmatched : int
    notes : list of str
    """

    file: npt.NDArray[np.int32]
    row: IntArray
    unmatched: list[str]
    n_unmatched: int
    notes: list[str]


def table_paths(listing: Listing) -> list[str]:
    """Paths of the files of a listing."""
    return [str(Path(listing.path, os.fsdecode(name))) for name in listing.files["name"].tolist()]


def find_in_tables(
    listings: Sequence[Listing], object_id: IntArray, survey: Survey, id_column: str = "object_id"
) -> TablePlaces:
    """Find each object by its id; of several rows with one id the first, in order of source, name and row.

    Raises
    ------
    SwimmyError
        When a file cannot be read or has no ids, or no row belongs to an object.
    """
    paths = [path for listing in listings for path in table_paths(listing)]
    facts = [of_file for listing in listings for of_file in listing.tables]
    ids = [ids_in(path, id_column) for path in paths]
    counts = [len(part) for part in ids]
    found = np.concatenate([*ids, np.empty(0, np.int64)])
    files = np.repeat(np.arange(len(paths)), counts)
    rows = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int64)
    order = np.argsort(found, kind="stable")
    place = np.searchsorted(found, object_id, sorter=order).clip(max=max(len(found) - 1, 0))
    at = order[place] if len(found) else np.zeros(len(object_id), np.int64)
    # -1 stands for an id that is lost, here or there.
    there = (found[at] == object_id) & (object_id != -1) if len(found) else np.zeros(len(object_id), np.bool_)
    if len(found) and not there.any():
        raise SwimmyError(
            f"none of {len(found)} rows of {paths[0]}{' and other files' if len(paths) > 1 else ''} belongs to an "
            f"object of the catalogue: the first has object_id {found[0]}, the catalogue's {object_id[0]}. Give "
            "the catalogue of these objects, or none: the files have their own."
        )
    notes = notes_of(paths, facts, survey)
    lost = np.flatnonzero(~np.isin(found, object_id[there]))
    repeated = len(found) - len(lost) - len(np.unique(found[np.isin(found, object_id[there])]))
    if repeated:
        notes.append(f"{repeated} rows repeat the object of an earlier row, which is used")
    unmatched = [f"{show_name(os.fsencode(paths[files[k]]))} row {rows[k]}" for k in lost[:MOST_NAMED].tolist()]
    if len(lost):
        more = ", ..." if len(lost) > 3 else ""
        notes.append(
            f"{len(lost)} of {len(found)} rows belong to no object of the catalogue: {', '.join(unmatched[:3])}{more}"
        )
    file = np.where(there, files[at] if len(found) else 0, -1).astype(np.int32)
    row = np.where(there, rows[at] if len(found) else 0, -1)
    return TablePlaces(file, row, unmatched, len(lost), notes)
