"""Reading objects that have several files for a band: another file is taken where the first has no usable data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from swimmy_scale.ingest.pixels.cutout_files import Found
from swimmy_scale.ingest.pixels.index import Index
from swimmy_scale.method.survey import FloatArray, IntArray

Planes = Callable[[int], FloatArray]
Read = Callable[[IntArray, IntArray, Planes], list[Found]]
"""Reads files (numbers in the index) for cells (row * n_bands + band), each into ``planes`` of its place in them."""

GOOD, PARTLY_EMPTY, UNUSABLE = range(3)
States = dict[tuple[int, int], int]
"""How good each file is for a cell, by cell and file."""


class Taken(NamedTuple):
    """What was read.

    Attributes
    ----------
    file : ndarray of int64, shape (n_objects, n_bands)
        As `Index.file`, with the files that were taken in the end.
    found : list of Found or None
        For each cell; None where there is no file.
    notes : list of str
        One for each file that is not used, and for each object that needs to be told of.
    """

    file: IntArray
    found: list[Found | None]
    notes: list[str]


def read_best(index: Index, read: Read, out: FloatArray) -> Taken:
    """Read the first file of every object and band; where an object has a fault, judge its spare files and choose.

    The bands of an object stay with one tract (or patch, or rerun) if one has usable data in all of them; the best one
    is that whose worst band is best, the first of equals. Otherwise each band takes its best file, and that is told.

    Parameters
    ----------
    out : ndarray of float32, shape (n_objects, n_bands, y, x)
        Receives the pixels; of an object with an error in some band they mean nothing.
    """
    planes = out.reshape(-1, *out.shape[2:])
    file = index.file.astype(np.int64)
    found: list[Found | None] = [None] * file.size

    def read_into_out(cells: IntArray) -> None:
        for cell, one in zip(cells, read(file.ravel()[cells], cells, lambda k: planes[cells[k]]), strict=True):
            found[cell] = one

    read_into_out(np.flatnonzero(file.ravel() >= 0))
    if not len(index.spare_cell):
        return Taken(file, found, [])
    n_bands = file.shape[1]
    rows = np.unique(index.spare_cell // n_bands)
    waiting = [row for row in rows.tolist() if _state(found[row * n_bands : (row + 1) * n_bands]) > GOOD]
    notes: list[str] = []
    state: States = {}
    if waiting:
        spares = np.flatnonzero(np.isin(index.spare_cell // n_bands, waiting))
        # A file is judged first and read again if it is taken: held pixels would be as many as those of the partition.
        nowhere = np.empty(planes.shape[1:], np.float32)
        numbers = index.spare_file[spares].astype(np.int64)
        cells = index.spare_cell[spares]
        judged = read(numbers, cells, lambda k: nowhere)
        places = zip(cells.tolist(), numbers.tolist(), strict=True)
        state = {place: _state([one]) for place, one in zip(places, judged, strict=True)}
    changed = []
    for row in waiting:
        of_row = range(row * n_bands, (row + 1) * n_bands)
        state |= {(cell, int(file.flat[cell])): _state([found[cell]]) for cell in of_row if file.flat[cell] >= 0}
        best, is_mixed = _choose(index, row, state)
        changed += [cell for cell, number in zip(of_row, best, strict=True) if file.flat[cell] != number]
        file[row] = best
        if is_mixed:
            notes.append("an object has its bands from several tracts or reruns, as none has data in all of them")
    if changed:
        read_into_out(np.array(changed))
    return Taken(file, found, notes + _unused(index, file, state))


def _state(found: list[Found | None]) -> int:
    """How good the worst of these is."""
    return max(
        UNUSABLE if one is None or one.error is not None else PARTLY_EMPTY if one.partly_empty else GOOD
        for one in found
    )


def _choose(index: Index, row: int, state: States) -> tuple[list[int], bool]:
    """The files to take for a row, and whether they are of several origins where the first ones were not.

    ``state`` is that of the files of the row.
    """
    n_bands = index.file.shape[1]
    choices: list[list[int]] = []
    for band in range(n_bands):
        first = int(index.file[row, band])
        choices.append([first, *index.spares(row * n_bands + band)] if first >= 0 else [first])
    origins = dict.fromkeys(int(index.origin[number]) for files in choices for number in files if number >= 0)

    def state_of(band: int, number: int) -> int:
        return state.get((row * n_bands + band, number), UNUSABLE)

    def best_of(band: int, files: list[int]) -> int:
        return min(files, key=lambda number: state_of(band, number))

    def worst_of(files: list[int]) -> int:
        return max(state_of(band, number) for band, number in enumerate(files))

    sets = [[number for number, *_ in choices]]
    for origin in origins:
        of_one = [[number for number in files if number >= 0 and index.origin[number] == origin] for files in choices]
        if all(of_one):
            sets.append([best_of(band, files) for band, files in enumerate(of_one)])
    worst = [worst_of(files) for files in sets]
    best = sets[worst.index(min(worst))]
    if min(worst) < UNUSABLE:
        return best, False
    mixed = [best_of(band, files) for band, files in enumerate(choices)]
    if worst_of(mixed) < UNUSABLE:
        return mixed, True
    return sets[0], False


def _unused(index: Index, file: IntArray, state: States) -> list[str]:
    """One sentence for each file that is not used, the same for the same reason."""
    counts: Counter[str] = Counter()
    taken = set(file[file >= 0].tolist())
    for cell in np.unique(index.spare_cell).tolist():
        for number in (int(index.file.flat[cell]), *index.spares(cell)):
            if number in taken:
                continue
            if state.get((cell, number), GOOD) == UNUSABLE:
                reason = "it has no usable data"
            elif state.get((cell, number), GOOD) == PARTLY_EMPTY:
                reason = "it is partly empty"
            elif index.origin[number] == index.origin[file.flat[cell]]:
                reason = "a file of the same tract is used"
            else:
                reason = "a file of another tract is used"
            counts[f"a file of an object is not used: {reason}"] += 1
    return list(counts.elements())
