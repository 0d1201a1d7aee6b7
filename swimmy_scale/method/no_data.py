"""Pixels that hold no data: the constant that fills an image beyond the edge of the survey."""

from __future__ import annotations

import numpy as np

from swimmy_scale.method.survey import BoolArray, FloatArray

PATCH_PX = 4
"""Side of the smallest patch of one value that is no data. Noise does not repeat itself over so many pixels, not even
in images of whole numbers."""


def without_data(plane: FloatArray) -> BoolArray | None:
    """Which pixels of one band hold no data.

    These are the squares of `PATCH_PX` pixels that have exactly one value: zero, or any other filling. A patch at the
    highest value of the image is a saturated core, which is data, unless the whole image has this one value.

    Parameters
    ----------
    plane : ndarray of float32, axes (y, x)
        Finite.

    Returns
    -------
    ndarray of bool, axes (y, x), or None
        None where all pixels hold data.
    """
    step = PATCH_PX - 1
    # Every patch crosses one of these rows, and few images have as many equal neighbours there: this is quick.
    crossed = plane[step::PATCH_PX]
    if np.count_nonzero(crossed[:, 1:] == crossed[:, :-1]) < step or min(plane.shape) < PATCH_PX:
        return None
    n_y, n_x = plane.shape
    along_x = plane[:, 1:] == plane[:, :-1]
    # Rows of PATCH_PX equal pixels, then as many of these below one another, each equal to the next.
    row = np.logical_and.reduce([along_x[:, at : n_x - step + at] for at in range(step)])
    below = plane[1:, : n_x - step] == plane[:-1, : n_x - step]
    patch = np.logical_and.reduce(
        [row[at : n_y - step + at] for at in range(PATCH_PX)] + [below[at : n_y - step + at] for at in range(step)]
    )
    corner = plane[: n_y - step, : n_x - step]
    highest, lowest = plane.max(), plane.min()
    if lowest < highest:
        patch &= corner < highest
    if not patch.any():
        return None
    empty = np.zeros(plane.shape, np.bool_)
    for y in range(PATCH_PX):
        for x in range(PATCH_PX):
            empty[y : n_y - step + y, x : n_x - step + x] |= patch
    return empty
