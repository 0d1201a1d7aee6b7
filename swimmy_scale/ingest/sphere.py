"""Counterparts of objects in another table of positions: the nearest within a radius, each for one object only."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import DoubleArray, IntArray

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


ARCSEC_PER_RADIAN = 206264.80624709636
# Rounding moves a point of the unit sphere by so little; a counterpart exactly at the radius must not be lost to it.
ROUNDING_ARCSEC = 1e-9


def match(
    ra: DoubleArray, dec: DoubleArray, other_ra: DoubleArray, other_dec: DoubleArray, radius_arcsec: float
) -> tuple[IntArray, DoubleArray]:
    """Find each object's counterpart in another table.

    An object asks for its nearest counterpart within the radius. Where several objects ask for the same one, the
    nearest of them has it, the first of those that are equally near; the others have none, because their next best
    would be another source. Of counterparts with the same position the first in the table counts. Distances are those
    on the sphere, so neither the poles nor RA 0 = 360 are special.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,), degrees
        Positions of the objects; NaN or infinite where unknown.
    other_ra, other_dec : ndarray of float64, shape (m,), degrees
        Positions of the counterparts, likewise.
    radius_arcsec : float
        A counterpart at this very distance still counts.

    Returns
    -------
    index : ndarray of int64, shape (n,)
        Row of the counterpart, -1 for none. No row but -1 comes twice.
    separation_arcsec : ndarray of float64, shape (n,)
        Distance to it, NaN for none.

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
    # SciPy takes long to import: not every process that starts matches positions.
    from scipy.spatial import cKDTree

    tree = cKDTree(_unit_vectors(other_ra[other_rows], other_dec[other_rows]))
    # A chord of the unit sphere and its angle: chord = 2 sin(angle / 2).
    limit = 2.0 * np.sin((radius_arcsec + ROUNDING_ARCSEC) / ARCSEC_PER_RADIAN / 2.0)
    chord, nearest = tree.query(_unit_vectors(ra[rows], dec[rows]), distance_upper_bound=limit)
    found = np.flatnonzero(np.isfinite(chord))
    # The nearest object of each counterpart comes first; a stable order leaves equals as they are in the table.
    found = found[np.lexsort((chord[found], nearest[found]))]
    winners = found[np.unique(nearest[found], return_index=True)[1]]
    index[rows[winners]] = other_rows[nearest[winners]]
    separation[rows[winners]] = 2.0 * np.arcsin(chord[winners] / 2.0) * ARCSEC_PER_RADIAN
    return index, separation


def _known(ra: DoubleArray, dec: DoubleArray) -> IntArray:
    return np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))


def _first_of_each(ra: DoubleArray, dec: DoubleArray) -> IntArray:
    """First row of each known position: of equals a tree would return any."""
    rows = _known(ra, dec)
    rows = rows[np.lexsort((rows, dec[rows], ra[rows]))]
    new = (np.diff(ra[rows], prepend=np.nan) != 0) | (np.diff(dec[rows], prepend=np.nan) != 0)
    return np.sort(rows[new])


def _unit_vectors(ra: DoubleArray, dec: DoubleArray) -> DoubleArray:
    """x, y, z on the unit sphere, shape (n, 3); a chord of 1 arcsec is exact to 1e-10 of itself."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=1)


DegreeArray = npt.NDArray[np.float64]


class CatalogueRows:
    """The catalogue as files are looked up in it; sorted, and put on the sphere, once for all sources.

    Parameters
    ----------
    object_id : ndarray of int64, shape (n,)
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees; NaN for a row that has no position.
    """

    def __init__(self, object_id: IntArray, ra: DegreeArray, dec: DegreeArray) -> None:
        self.object_id = object_id
        self.points = unit_vectors(ra, dec)
        self.placed = np.flatnonzero(np.isfinite(self.points).all(axis=1))

    def __len__(self) -> int:
        return len(self.object_id)

    @cached_property
    def _order(self) -> IntArray:
        return np.argsort(self.object_id, kind="stable")

    @cached_property
    def _sorted_id(self) -> IntArray:
        return self.object_id[self._order]

    @cached_property
    def tree(self) -> cKDTree:
        """Search tree of the points of ``placed``."""
        # SciPy takes long to import, and most archives' names need no positions.
        from scipy.spatial import cKDTree

        return cKDTree(self.points[self.placed])

    def by_id(self, numbers: IntArray) -> IntArray:
        """Row of each number among the object_ids, the first of equals; -1 for none."""
        rows = np.full(len(numbers), -1, np.int64)
        stated = np.flatnonzero(numbers >= 0)
        if len(self) and len(stated):
            wanted = numbers[stated]
            position = np.minimum(np.searchsorted(self._sorted_id, wanted), len(self) - 1)
            rows[stated] = np.where(self._sorted_id[position] == wanted, self._order[position], -1)
        return rows

    def by_position(self, ra: DegreeArray, dec: DegreeArray, radius_arcsec: float) -> IntArray:
        """Row nearest to each position on the sphere; -1 where none lies within the radius."""
        rows = np.full(len(ra), -1, np.int64)
        if len(ra) and len(self.placed):
            distance, nearest = self.tree.query(unit_vectors(ra, dec))
            rows = np.where(distance <= chord_length(radius_arcsec), self.placed[nearest], -1)
        return rows

    def near(self, ra: float, dec: float, radius_deg: float) -> IntArray:
        """Rows within a circle on the sky, ascending."""
        if not len(self.placed):
            return self.placed
        found = self.tree.query_ball_point(unit_vectors(np.array(ra), np.array(dec)), chord_length(3600 * radius_deg))
        return self.placed[np.array(sorted(found), np.int64)]


def unit_vectors(ra: DegreeArray, dec: DegreeArray) -> DegreeArray:
    """Positions in degrees as points of the unit sphere, shape (n, 3)."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def chord_length(arcsec: float) -> float:
    """Length of the chord between two points of the unit sphere this far apart: 2 sin(angle / 2)."""
    return float(2.0 * np.sin(np.radians(min(arcsec / 3600.0, 180.0)) / 2.0))
