"""Positions on the sphere: rows of a catalogue near a position, and counterparts in another table.

Positions become points of the unit sphere, and distances the chords between them, so that neither the poles nor
RA 0 = 360 are special.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

ARCSEC_PER_RADIAN = 206264.80624709636
# Rounding moves a point of the unit sphere by less than this; it must not cost the counterpart exactly at the radius.
ROUNDING_ARCSEC = 1e-9


def match(
    ra: DoubleArray, dec: DoubleArray, other_ra: DoubleArray, other_dec: DoubleArray, radius_arcsec: float
) -> tuple[IntArray, DoubleArray]:
    """Find each object's counterpart in another table.

    An object asks for its nearest counterpart within the radius. Where several objects ask for the same one, the
    nearest of them gets it, or the first of those that are equally near; the others get none, because their next best
    would be another source. Where counterparts share a position, the first in the table counts.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,), degrees
        Positions of the objects; NaN or infinite where unknown.
    other_ra, other_dec : ndarray of float64, shape (m,), degrees
        Positions of the counterparts, likewise.
    radius_arcsec : float
        A counterpart at exactly this distance still counts.

    Returns
    -------
    index : ndarray of int64, shape (n,)
        Row of the counterpart, -1 for none. No row occurs twice.
    separation_arcsec : ndarray of float64, shape (n,)
        Distance to it on the sphere, NaN for none.

    Raises
    ------
    SwimmyError
        When the radius is not between 0 and 3600 arcsec.
    """
    if not 0 < radius_arcsec <= 3600:
        raise SwimmyError(f"match radius {radius_arcsec} arcsec: must be above 0 and at most 3600. Correct it.")
    index = np.full(len(ra), -1, np.int64)
    separation = np.full(len(ra), np.nan)
    rows, other_rows = _known(ra, dec), _first_of_each(other_ra, other_dec)
    if not len(rows) or not len(other_rows):
        return index, separation
    chord, nearest = _search_tree(_unit_vectors(other_ra[other_rows], other_dec[other_rows])).query(
        _unit_vectors(ra[rows], dec[rows]), distance_upper_bound=float(_chord(radius_arcsec + ROUNDING_ARCSEC))
    )
    found = np.flatnonzero(np.isfinite(chord))
    # The nearest object of each counterpart comes first; a stable order leaves equals as they are in the table.
    found = found[np.lexsort((chord[found], nearest[found]))]
    winners = found[np.unique(nearest[found], return_index=True)[1]]
    index[rows[winners]] = other_rows[nearest[winners]]
    separation[rows[winners]] = _arcsec(chord[winners])
    return index, separation


def nearest_other(ra: DoubleArray, dec: DoubleArray, radius_arcsec: float) -> tuple[IntArray, DoubleArray]:
    """Find each object's nearest neighbour in the same table.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,), degrees
        NaN where unknown.
    radius_arcsec : float
        A neighbour at exactly this distance still counts.

    Returns
    -------
    index : ndarray of int64, shape (n,)
        Row of the neighbour, -1 for none within the radius.
    separation_arcsec : ndarray of float64, shape (n,)
        Distance to it on the sphere, NaN for none.
    """
    index, separation = np.full(len(ra), -1, np.int64), np.full(len(ra), np.nan)
    rows = _known(ra, dec)
    rows = rows[np.lexsort((rows, dec[rows], ra[rows]))]
    # Objects at one position are found by sorting: a search tree takes long where very many are.
    same = np.flatnonzero((np.diff(ra[rows]) == 0) & (np.diff(dec[rows]) == 0))
    index[rows[same]], index[rows[same + 1]] = rows[same + 1], rows[same]
    separation[rows[same]] = separation[rows[same + 1]] = 0.0
    distinct = np.delete(rows, same + 1)
    if len(distinct) < 2:
        return index, separation
    points = _unit_vectors(ra[distinct], dec[distinct])
    chord, found = _search_tree(points).query(
        points, k=2, distance_upper_bound=float(_chord(radius_arcsec + ROUNDING_ARCSEC))
    )
    # The nearest point is the object's own, but for neighbours so near that rounding makes them one.
    column = (found[:, 0] == np.arange(len(distinct))).astype(np.int64)
    chord, found = chord[np.arange(len(distinct)), column], found[np.arange(len(distinct)), column]
    near = np.flatnonzero(np.isfinite(chord) & (index[distinct] < 0))
    index[distinct[near]] = distinct[found[near]]
    separation[distinct[near]] = _arcsec(chord[near])
    return index, separation


class CatalogueRows:
    """Finds rows of the catalogue by id and by position; sorted, and put on the sphere, once for all sources.

    Parameters
    ----------
    object_id : ndarray of int64, shape (n,)
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees; NaN for a row without a position.
    """

    def __init__(self, object_id: IntArray, ra: DoubleArray, dec: DoubleArray) -> None:
        self.object_id = object_id
        self._points = _unit_vectors(ra, dec)
        self._placed = _known(ra, dec)

    def __len__(self) -> int:
        return len(self.object_id)

    @cached_property
    def _order(self) -> IntArray:
        return np.argsort(self.object_id, kind="stable")

    @cached_property
    def _sorted_id(self) -> IntArray:
        return self.object_id[self._order]

    @cached_property
    def _tree(self) -> cKDTree:
        """Over the rows of ``_placed``."""
        return _search_tree(self._points[self._placed])

    @cached_property
    def _first_at_place(self) -> IntArray:
        """For each row of ``_placed``, the first row that lies at exactly the same place."""
        _, first, which = np.unique(self._points[self._placed], axis=0, return_index=True, return_inverse=True)
        return self._placed[first[which.ravel()]]

    def by_id(self, numbers: IntArray) -> IntArray:
        """Row of each number among the object_ids, the first of equals; -1 for none."""
        rows = np.full(len(numbers), -1, np.int64)
        stated = np.flatnonzero(numbers >= 0)
        if len(self) and len(stated):
            wanted = numbers[stated]
            position = np.minimum(np.searchsorted(self._sorted_id, wanted), len(self) - 1)
            rows[stated] = np.where(self._sorted_id[position] == wanted, self._order[position], -1)
        return rows

    def by_position(self, ra: DoubleArray, dec: DoubleArray, radius_arcsec: float) -> IntArray:
        """Row nearest to each position, the first of those at one place; -1 where none lies within the radius."""
        rows = np.full(len(ra), -1, np.int64)
        if len(ra) and len(self._placed):
            known = _known(ra, dec)
            chord, nearest = self._tree.query(_unit_vectors(ra[known], dec[known]))
            rows[known] = np.where(chord <= _chord(radius_arcsec), self._first_at_place[nearest], -1)
        return rows

    def lie_elsewhere(
        self, rows: IntArray, ra: DoubleArray, dec: DoubleArray, radius_arcsec: DoubleArray | float
    ) -> BoolArray:
        """Whether each row lies farther than the radius from its position here; False for a row without a position."""
        chord = np.linalg.norm(_unit_vectors(ra, dec) - self._points[rows], axis=1)
        # NaN, a row without a position, compares false.
        return np.asarray(chord > _chord(radius_arcsec))

    def near(self, ra: float, dec: float, radius_deg: float) -> IntArray:
        """Rows within a circle on the sky, ascending."""
        if not len(self._placed):
            return self._placed
        found = self._tree.query_ball_point(_unit_vectors(ra, dec), float(_chord(3600 * radius_deg)))
        return self._placed[np.array(sorted(found), np.int64)]


def _known(ra: DoubleArray, dec: DoubleArray) -> IntArray:
    """Rows whose position is known."""
    return np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))


def _first_of_each(ra: DoubleArray, dec: DoubleArray) -> IntArray:
    """First row of each known position; of equal ones a tree would return any."""
    rows = _known(ra, dec)
    rows = rows[np.lexsort((rows, dec[rows], ra[rows]))]
    new = (np.diff(ra[rows], prepend=np.nan) != 0) | (np.diff(dec[rows], prepend=np.nan) != 0)
    return np.sort(rows[new])


def _unit_vectors(ra: DoubleArray | float, dec: DoubleArray | float) -> DoubleArray:
    """x, y, z of positions in degrees on the unit sphere, shape (..., 3); a chord of 1 arcsec is exact to 1e-10."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=-1)


def _chord(arcsec: DoubleArray | float) -> DoubleArray:
    """Chord of the unit sphere between two points this far apart: 2 sin(angle / 2)."""
    return np.asarray(2.0 * np.sin(np.radians(np.minimum(np.asarray(arcsec) / 3600.0, 180.0)) / 2.0))


def _arcsec(chord: DoubleArray) -> DoubleArray:
    """Angle between two points of the unit sphere, from the chord between them; the inverse of `_chord`."""
    return np.asarray(2.0 * np.arcsin(chord / 2.0) * ARCSEC_PER_RADIAN)


def _search_tree(points: DoubleArray) -> Any:
    # SciPy takes long to import, and not every process looks up positions.
    from scipy.spatial import cKDTree

    return cKDTree(points)
