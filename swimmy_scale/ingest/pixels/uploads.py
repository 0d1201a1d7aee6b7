"""Which rows of the catalogue the line numbers in file names mean.

The archive counts lines anew in every list that is uploaded to it, and takes about 1,000 lines in one. What a line
number means is therefore found by looking into a few files of each folder or tar: their images say where they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from swimmy_scale.ingest.sphere import CatalogueRows
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray

N_PROBES = 5
"""Lines of an upload whose files are looked into, from the first to the last. Each file is compared with its object
again when it is read."""


@dataclass
class Centres:
    """Where the images of n files lie; NaN for a file that cannot be read or has no world coordinates.

    Attributes
    ----------
    ra, dec : ndarray of float64, shape (n,)
        Middle of the image, ICRS, degrees.
    reach_arcsec : ndarray of float64, shape (n,)
        From there to the corner.
    """

    ra: DoubleArray
    dec: DoubleArray
    reach_arcsec: DoubleArray


Locate = Callable[[IntArray], Centres]
"""The centres of files of one source, by their number."""


def rows_of_lines(
    line: IntArray, catalogue: CatalogueRows, locate: Locate, radius_arcsec: float, only_one: bool
) -> tuple[IntArray, bool]:
    """Rows that the files of one upload belong to.

    Some lines are looked up on the sky. Where these agree that row = line + a number, that holds for all of them: as a
    rule row = line - 2, or the upload is a later part of the catalogue. Else a file of each line is looked up; a line
    whose files say nothing counts on from its neighbours, where these agree.

    Parameters
    ----------
    line : ndarray of int64, shape (n,)
        Of all files of the upload.
    locate : callable
        Where some of these files lie, numbered as in ``line``.
    radius_arcsec : float
        An image whose middle is not farther than this from an object shows it.
    only_one : bool
        Whether there is no other upload. Only then is a line taken at its word where images lie nowhere in the
        catalogue; reading them says what is wrong.

    Returns
    -------
    rows : ndarray of int64, shape (n,)
        -1 for none.
    located : bool
        Whether the images say where they lie. Without it row = line - 2.
    """
    lines, first, which = np.unique(line, return_index=True, return_inverse=True)
    probes = np.unique(np.linspace(0, len(lines) - 1, N_PROBES).round().astype(np.int64))
    centres, known = _locate_lines(which, probes, first, locate)
    by_line = _within(line - 2, len(catalogue))
    if not known.any():
        return by_line, False
    ra, dec, reach = (values[known] for values in (centres.ra, centres.dec, centres.reach_arcsec))
    wanted = lines[probes[known]]
    rows = catalogue.by_position(ra, dec, radius_arcsec)
    for offset in dict.fromkeys([-2, *(rows - wanted)[rows >= 0].tolist()]):
        if _holds(wanted + offset, catalogue, ra, dec, reach, radius_arcsec):
            return _within(line + offset, len(catalogue)), True
    if (rows < 0).all():
        return by_line if only_one else np.full(len(line), -1, np.int64), True
    centres, _ = _locate_lines(which, np.arange(len(lines)), first, locate)
    found = catalogue.by_position(centres.ra, centres.dec, radius_arcsec)
    return _counted_on(lines, found, np.isnan(centres.ra))[which], True


def _counted_on(lines: IntArray, rows: IntArray, is_silent: BoolArray) -> IntArray:
    """Rows of lines, those of silent ones too: row - line is that of the next lines before and behind, if it is one."""
    known = np.flatnonzero(rows >= 0)
    silent = np.flatnonzero(is_silent)
    behind = np.searchsorted(known, silent)
    silent, behind = (values[(behind > 0) & (behind < len(known))] for values in (silent, behind))
    offset = rows[known] - lines[known]
    agree = offset[behind - 1] == offset[behind]
    filled = rows.copy()
    filled[silent[agree]] = lines[silent[agree]] + offset[behind[agree]]
    return filled


def _locate_lines(which: IntArray, lines: IntArray, first: IntArray, locate: Locate) -> tuple[Centres, BoolArray]:
    """Centres of some lines, and whether each is known: by its first file, else by the first that says it."""
    centres = locate(first[lines])
    for position in np.flatnonzero(np.isnan(centres.ra)).tolist():
        others = np.flatnonzero(which == lines[position])
        for other in others[others != first[lines[position]]].tolist():
            one = locate(np.array([other]))
            if not np.isnan(one.ra[0]):
                centres.ra[position], centres.dec[position] = one.ra[0], one.dec[0]
                centres.reach_arcsec[position] = one.reach_arcsec[0]
                break
    return centres, ~np.isnan(centres.ra)


def _holds(
    rows: IntArray, catalogue: CatalogueRows, ra: DoubleArray, dec: DoubleArray, reach: DoubleArray, radius: float
) -> bool:
    """Whether all images hold their objects, and one at least has its object in the middle.

    One that is cut off at the edge of the data has its object elsewhere.
    """
    if ((rows < 0) | (rows >= len(catalogue))).any():
        return False
    away = catalogue.lie_elsewhere(rows, ra, dec, radius)
    beyond = catalogue.lie_elsewhere(rows, ra, dec, np.maximum(reach, radius))
    return not away.all() and not beyond.any()


def _within(rows: IntArray, n_rows: int) -> IntArray:
    return np.where((rows >= 0) & (rows < n_rows), rows, -1)
