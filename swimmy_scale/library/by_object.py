"""Functions of cutouts and their seeing, on NumPy and Dask arrays and on xarray objects alike.

Whatever comes in, each object is computed from its own pixels and seeing alone, so that a lazy object is computed chunk
by chunk, by whichever Dask cluster the user has, with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray

from swimmy_scale.errors import SwimmyError
from swimmy_scale.library.given import COUNTS, check_axes, check_bands, check_dtype, numbers
from swimmy_scale.method.survey import AnyArray, BoolArray, FloatArray, Survey

OBJECT_DIMS = ("object", "band", "y", "x")
"""Names of the axes of cutouts that come without names."""

Blocks = Callable[[FloatArray, FloatArray], tuple[FloatArray, ...]]


def usable(image: FloatArray, fwhm_arcsec: FloatArray, survey: Survey) -> BoolArray:
    """Which objects can be computed: all pixels are finite, and every FWHM is above 0 and at most the target's.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    good = (fwhm_arcsec > 0) & (fwhm_arcsec.astype(np.float32) <= np.float32(survey.target_fwhm_arcsec))
    return np.asarray(np.isfinite(image).all(axis=(1, 2, 3)) & good.all(axis=1))


def by_object(compute: Blocks, image: Any, fwhm_arcsec: Any, survey: Survey, *outputs: Sequence[str]) -> list[Any]:
    """Apply a function of cutouts and seeing to what a user holds.

    Parameters
    ----------
    compute : callable
        Of NumPy arrays (n, band, y, x) float32 and (n, band) float64; gives one float32 array (n, ...) for each of
        ``outputs``. Dask sends it to its workers, so it must be one that can be pickled.
    image : array or DataArray, shape (n, band, y, x)
        Counts. A DataArray may call its axes as it likes.
    fwhm_arcsec : array or DataArray, shape (n, band) or (band,)
    outputs : sequences of str
        The axes behind the first one of each output: ``band``, ``y`` and ``x`` stand for those of the cutouts, any
        other for an axis of its own, of the length that follows ``:``.

    Returns
    -------
    list
        As many as ``outputs``, each of the kind of ``image``: NumPy arrays, lazy Dask arrays, or DataArrays.

    Raises
    ------
    SwimmyError
        When they are no numbers, or shapes, bands, units or objects do not fit the survey and each other.
    """
    named = isinstance(image, xarray.DataArray)
    if not named and not hasattr(image, "dask"):
        pixels = numbers(image, "the cutouts", np.float32, COUNTS)
        _check_shape(pixels.shape, survey)
        return list(compute(pixels, _seeing(fwhm_arcsec, pixels.shape[:2], survey)))
    check_dtype(image.dtype, "the cutouts")
    if named:
        check_axes(image)
    _check_shape(image.shape, survey)
    cutouts = image if named else xarray.DataArray(image, dims=OBJECT_DIMS)
    first, band, y, x = cutouts.dims
    check_bands(cutouts, (band,), survey, "the cutouts")
    seeing = _named_seeing(fwhm_arcsec, cutouts, survey, named)
    if cutouts.chunks is not None:
        # An object is computed as a whole.
        cutouts = cutouts.chunk({band: -1, y: -1, x: -1})
        seeing = seeing.chunk({first: cutouts.variable.chunksizes[first], band: -1})
    own = {"band": band, "y": y, "x": x}
    core, sizes = [], {}
    for axes in outputs:
        names = []
        for axis in axes:
            name, _, length = axis.partition(":")
            names.append(own.get(name, name))
            if length:
                sizes[name] = int(length)
        core.append(names)
    found = xarray.apply_ufunc(
        _Whole(compute, len(outputs)),
        cutouts,
        seeing,
        input_core_dims=[[band, y, x], [band]],
        output_core_dims=core,
        dask="parallelized",
        keep_attrs=False,
        output_dtypes=[np.float32] * len(outputs),
        dask_gufunc_kwargs={"output_sizes": sizes},
    )
    results = list(found) if len(outputs) > 1 else [found]
    if not named:
        return [result.data for result in results]
    coords = cutouts.coords.items()
    return [
        result.assign_coords({name: coord for name, coord in coords if set(result.dims) >= set(coord.dims)})
        for result in results
    ]


class _Whole:
    """Gives what `xarray.apply_ufunc` expects: one array, not a tuple of one."""

    def __init__(self, compute: Blocks, n_outputs: int) -> None:
        self._compute, self._n_outputs = compute, n_outputs

    def __call__(self, image: AnyArray, fwhm_arcsec: AnyArray) -> Any:
        found = self._compute(
            numbers(image, "the cutouts", np.float32), numbers(fwhm_arcsec, "fwhm_arcsec", np.float64)
        )
        return found if self._n_outputs > 1 else found[0]


def _seeing(fwhm_arcsec: Any, shape: tuple[int, ...], survey: Survey) -> FloatArray:
    if isinstance(fwhm_arcsec, xarray.DataArray):
        check_bands(fwhm_arcsec, fwhm_arcsec.dims[-1:], survey, "fwhm_arcsec")
    seeing = numbers(fwhm_arcsec, "fwhm_arcsec", np.float64, "arcsec")
    _check_seeing(seeing.shape, shape)
    return np.broadcast_to(seeing, shape)


def _named_seeing(fwhm_arcsec: Any, cutouts: xarray.DataArray, survey: Survey, named: bool) -> xarray.DataArray:
    """The seeing with the axes of the cutouts, (object, band); lazy if it was."""
    first, band = cutouts.dims[:2]
    seeing = fwhm_arcsec
    if isinstance(seeing, xarray.DataArray):
        check_bands(seeing, (band,) if band in seeing.dims else seeing.dims[-1:], survey, "fwhm_arcsec")
        seeing = seeing if named else seeing.data
    elif not hasattr(seeing, "dask"):
        seeing = numbers(seeing, "fwhm_arcsec", np.float64, "arcsec")
    check_dtype(seeing.dtype, "fwhm_arcsec")
    if not isinstance(seeing, xarray.DataArray):
        _check_seeing(seeing.shape, cutouts.shape[:2])
        seeing = xarray.DataArray(seeing, dims=(first, band)[-seeing.ndim :])
    if set(seeing.dims) not in ({first, band}, {band}):
        raise SwimmyError(
            f"fwhm_arcsec has the axes {', '.join(map(str, seeing.dims))}, the cutouts have {first} and {band}. Name "
            "them alike."
        )
    seeing = seeing.transpose(..., band)
    _check_seeing(seeing.shape, cutouts.shape[:2])
    if (
        first in seeing.indexes
        and first in cutouts.indexes
        and not seeing.indexes[first].equals(cutouts.indexes[first])
    ):
        raise SwimmyError(
            f"fwhm_arcsec is of other objects than the cutouts, or in another order, by the coordinate {first}. Give "
            f"fwhm_arcsec.sel({first}=image.{first})."
        )
    # Coordinates are those of the cutouts.
    plain = cutouts.isel(dict.fromkeys(cutouts.dims[2:], 0)).reset_coords(drop=True)
    plain = plain.drop_vars(plain.coords)
    return seeing.drop_vars(seeing.coords).broadcast_like(plain).transpose(first, band)


def _check_seeing(found: Sequence[int], shape: Sequence[int]) -> None:
    if tuple(found) not in (tuple(shape), tuple(shape[1:])):
        raise SwimmyError(
            f"fwhm_arcsec has shape {tuple(found)}, {shape[0]:,} cutouts in {shape[1]} bands need {tuple(shape)}, or "
            f"{tuple(shape[1:])} for all alike."
        )


def _check_shape(shape: Sequence[int], survey: Survey) -> None:
    size = survey.cutout_size_px
    if tuple(shape[1:]) != (survey.n_bands, size, size) or len(shape) != 4:
        raise SwimmyError(
            f"the cutouts have shape {tuple(shape)}, survey {survey.name!r} needs (n_objects, {survey.n_bands}, "
            f"{size}, {size}): bands {', '.join(survey.bands)}. Crop or reorder them, or give another survey."
        )
    if np.isnan(shape[0]):
        raise SwimmyError("the cutouts do not say how many they are. Call image.compute_chunk_sizes() before.")
