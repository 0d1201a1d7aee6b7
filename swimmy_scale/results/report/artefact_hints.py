"""Signs that a candidate may be an artefact, not an unusual galaxy: hints for people, never cuts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sample import ALL_FLAGS, MASKED_CENTER
from swimmy_scale.method.survey import BoolArray, FloatArray, Survey, check_cube

HINTS: Mapping[str, str] = MappingProxyType(
    {
        "green_halo": "the r residual, summed over the aperture, is negative: a halo that looks green (appendix 2)",
        "saturated": "a pixel of the aperture reaches 1, the clip of equation 2, in the i band (appendix 2)",
        "edge": "a border row or column of the cutout is constant or not finite in a band, as beyond an image's edge",
        "masked": "the mask that comes with the pixels calls one of the aperture bad, in some band",
    }
)
"""What each hint means, by its public name."""

GREEN_HALO_BAND = "r"
SATURATED_BAND = "i"


def artefact_hints(
    counts: FloatArray,
    source: FloatArray,
    residual: FloatArray,
    survey: Survey,
    flags: npt.NDArray[np.uint32] | None = None,
) -> dict[str, npt.NDArray[np.bool_]]:
    """The hints that each object shows.

    green_halo: residual_r < 0, the sum over A' of source - reconstruction. Appendix 2 finds that objects selected for
    it are errors of the r band's zero point or saturated, not nuclei.
    saturated: max over A' of source_i >= 1, where equation 2 has clipped.
    masked: the flag ``masked_center`` of ``cutouts.zarr``.
    edge: any of the four border rows and columns, in any band, is constant or holds a value that is not finite.

    Parameters
    ----------
    counts : ndarray of float32, shape (n, n_bands, size, size), counts
        As they were delivered.
    source : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        The same cutouts, preprocessed. NaN counts as not saturated.
    residual : ndarray of float32, shape (n, n_bands)
        NaN counts as not negative.
    survey : Survey
        Without an r or i band the hint that needs it is never shown.
    flags : ndarray of uint32, shape (n,), optional
        Bits of `sample.ALL_FLAGS`; by default none is raised.

    Returns
    -------
    dict of str to ndarray of bool, shape (n,)
        By the names of ``HINTS``.
    """
    check_cube(counts, survey)
    check_cube(source, survey)
    n_objects = len(counts)
    if len(source) != n_objects or residual.shape != (n_objects, survey.n_bands):
        raise SwimmyError(
            f"artefact hints: counts {counts.shape}, source {source.shape} and residual {residual.shape} do not belong "
            f"to the same objects; the residual needs ({n_objects}, {survey.n_bands})."
        )
    none: BoolArray = np.zeros(n_objects, np.bool_)
    green, saturated = none, none
    if GREEN_HALO_BAND in survey.bands:
        green = residual[:, survey.bands.index(GREEN_HALO_BAND)] < 0
    if SATURATED_BAND in survey.bands:
        middle = source[:, survey.bands.index(SATURATED_BAND)][:, survey.aperture()]
        saturated = (middle >= 1.0).any(axis=1)
    masked = none if flags is None else flags & np.uint32(1 << ALL_FLAGS.index(MASKED_CENTER)) != 0
    return {"green_halo": green, "saturated": saturated, "edge": _has_dead_border(counts), "masked": masked}


def _has_dead_border(counts: FloatArray) -> BoolArray:
    """Whether a border row or column of any band is constant or not finite: bool (n,)."""
    lines = np.stack([counts[..., 0, :], counts[..., -1, :], counts[..., :, 0], counts[..., :, -1]], axis=-2)
    constant = (lines == lines[..., :1]).all(axis=-1)
    dead: BoolArray = (constant | ~np.isfinite(lines).all(axis=-1)).any(axis=(1, 2))
    return dead
