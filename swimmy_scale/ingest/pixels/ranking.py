"""Several files of one object and band: in which order they are taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.survey import BoolArray, IntArray


class Ranked(NamedTuple):
    """The files of each object and band, the best first.

    Attributes
    ----------
    first : ndarray of int32, shape (n_objects, n_bands)
        -1 where there is none.
    spare_cell : ndarray of int64, shape (n_spares,)
        row * n_bands + band of each further file; ascending, and of one cell the better first.
    spare_file : ndarray of int32, shape (n_spares,)
    """

    first: npt.NDArray[np.int32]
    spare_cell: IntArray
    spare_file: npt.NDArray[np.int32]


def rank_files(
    file: IntArray, cell: IntArray, origin: IntArray, is_preferred: BoolArray, n_objects: int, n_bands: int
) -> Ranked:
    """Order the files of each object and band.

    The bands of an object should be of one origin: of one tract, say. So the origin with most of its bands comes
    first; of those with as many the preferred one, then the first in the order given.

    Parameters
    ----------
    file : ndarray of int64, shape (n,)
        In the order in which equals are taken.
    cell : ndarray of int64, shape (n,)
        row * n_bands + band of each.
    origin : ndarray of int64, shape (n,)
        0 and above; files of one number belong together.
    is_preferred : ndarray of bool, shape (n,)
        Whether the origin is the one that the catalogue states for the row.
    """
    first = np.full(n_objects * n_bands, -1, np.int32)
    n_files = np.bincount(cell, minlength=n_objects * n_bands)
    is_contested = (n_files.reshape(n_objects, n_bands) > 1).any(axis=1)[cell // n_bands]
    first[cell[~is_contested]] = file[~is_contested]
    file, cell, origin = file[is_contested], cell[is_contested], origin[is_contested]
    is_preferred = is_preferred[is_contested]
    if not len(file):
        return Ranked(first.reshape(n_objects, n_bands), np.empty(0, np.int64), np.empty(0, np.int32))
    # In how many bands the file's origin has its row.
    n_origins = int(origin.max()) + 1
    by_origin = (cell // n_bands) * n_origins + origin
    different = np.unique(by_origin * n_bands + cell % n_bands)
    origins, n_in_bands = np.unique(different // n_bands, return_counts=True)
    covered = n_in_bands[np.searchsorted(origins, by_origin)]
    # The order of origins is that of their first files.
    _, earliest, which = np.unique(by_origin, return_index=True, return_inverse=True)
    order = np.lexsort((np.arange(len(file)), earliest[which], ~is_preferred, -covered, cell))
    file, cell = file[order], cell[order]
    is_first = np.diff(cell, prepend=-1) != 0
    first[cell[is_first]] = file[is_first]
    return Ranked(first.reshape(n_objects, n_bands), cell[~is_first], file[~is_first].astype(np.int32))


def origins_of(first: npt.NDArray[np.int32], origin: npt.NDArray[np.int32]) -> IntArray:
    """Origin of each object's and band's file, -1 where there is none."""
    return np.where(first >= 0, origin[first] if len(origin) else 0, -1).astype(np.int64)


def notes_of_mixed(first: npt.NDArray[np.int32], origin: npt.NDArray[np.int32], object_id: IntArray) -> list[str]:
    """What to say of objects whose bands are of several origins."""
    of_object = origins_of(first, origin)
    highest = of_object.max(axis=1, initial=-1)
    lowest = np.where(first >= 0, of_object, highest[:, None]).min(axis=1, initial=2**31)
    mixed = np.flatnonzero(lowest != highest)
    if not len(mixed):
        return []
    return [
        f"{len(mixed)} objects have their bands from several tracts, patches or reruns, as none has them all; the "
        f"first is object_id {object_id[mixed[0]]}"
    ]
