"""More like this: the objects of a sample that look most like one object."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.descriptor import nearest
from swimmy_scale.method.survey import DoubleArray, IntArray
from swimmy_scale.results.looking.objects import check_found, rows_of
from swimmy_scale.storage.descriptors import read_features
from swimmy_scale.storage.selection import SelectedRun


class Alike(NamedTuple):
    """Rows, nearest first, and their distances (see `descriptor.nearest`); and whether descriptors were compared."""

    rows: IntArray
    distance: DoubleArray
    has_descriptors: bool


def alike(selected: SelectedRun, object_id: int, n_nearest: int, only_candidates: bool = False) -> Alike:
    """The objects of the sample, or of its candidates, that look most like an object of the run.

    Raises
    ------
    SwimmyError
        When the run has no such object, or it is in quarantine and looks like nothing.
    """
    rows = rows_of(selected.selection, [object_id])
    check_found([object_id], rows, selected.folder.path)
    known, row = read_features(selected.selection), int(rows[0])
    if not np.isfinite(known.values[row]).all():
        raise SwimmyError(
            f"{selected.folder.path}: object_id {object_id} is in quarantine and has no score, so that nothing can be "
            "like it. Give another object; `show` says why."
        )
    others = ~(known.is_candidate if only_candidates else known.in_sample)
    others[row] = False
    known.values[others] = np.nan  # like nothing
    found, distance = nearest(known.values, row, n_nearest)
    return Alike(found, distance, known.has_descriptors)
