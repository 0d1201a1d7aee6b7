"""Objects of a catalogue that lie so close to each other that they may be one galaxy, measured twice."""

from __future__ import annotations

import numpy as np

from swimmy_scale.ingest.sphere import nearest_other
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray


def pair_warnings(
    object_id: IntArray, ra: DoubleArray, dec: DoubleArray, primary: BoolArray | None, radius_arcsec: float
) -> list[str]:
    """What to say of the pairs of a catalogue.

    Parameters
    ----------
    object_id : ndarray of int64, shape (n,)
    ra, dec : ndarray of float64, shape (n,), degrees
        NaN for rows that are no object of their own.
    primary : ndarray of bool, shape (n,), optional
        Which objects are the primary measurement of their galaxy, if the catalogue says so.
    radius_arcsec : float
        Nearest neighbours within it are a pair; 0 looks for none.

    Returns
    -------
    list of str
        Empty without pairs, else one sentence with their number.
    """
    if radius_arcsec <= 0:
        return []
    index, separation = nearest_other(ra, dec, radius_arcsec)
    rows = np.flatnonzero(index >= 0)
    if not len(rows):
        return []
    pairs = np.unique(np.sort(np.stack([rows, index[rows]], axis=1), axis=1), axis=0)
    first, second = pairs[0].tolist()
    apart = separation[first] if index[first] == second else separation[second]
    if primary is None:
        kept = "no column isprimary says which of the two to leave out"
    else:
        kept = f"in {int(primary[pairs].all(axis=1).sum())} of them both are primary"
    number = "1 pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
    return [
        f"{number} of objects closer than {radius_arcsec:g} arcsec, perhaps one galaxy measured twice, such as "
        f"{object_id[first]} and {object_id[second]}, {apart:.2g} arcsec apart; {kept}"
    ]
