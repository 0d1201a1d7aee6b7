"""From preprocessed cutouts to scores in one compiled call a batch (sections 3.1 and 3.2).

Equation 6 looks at the central aperture only. Behind 3x3 convolutions those pixels depend on a small window of every
layer, so the scorer computes just that window. The numbers are those of the whole reconstruction: where no window
touches the cutout's border, a convolution with 'valid' padding on the window equals one with 'same' padding on all.

A GPU does the preprocessing as well, in the same call: counts go in, scores come out. While it computes one batch, the
next one is on its way to it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.limits import RECONSTRUCTION_FLOOR
from swimmy_scale.method.network import BATCH_OBJECTS, GPU_BATCH_OBJECTS, Network, windows
from swimmy_scale.method.preprocess import check_seeing, preprocess
from swimmy_scale.method.survey import FloatArray, Survey, check_cube
from swimmy_scale.model.autoencoder import jit_compile
from swimmy_scale.model.device_preprocess import kernel_widths, preprocess_on_device
from swimmy_scale.model.devices import Fetch, compiled_call, has_gpu
from swimmy_scale.model.files import fold

# isort: split
import keras

BoolRows = npt.NDArray[np.bool_]
ScorePair = tuple[FloatArray, FloatArray]

BATCHES_AHEAD = 1
BATCH_MULTIPLE = 12
"""The network sees batches that are filled up to a multiple of it. Matrix products of CPUs take 24 or 48 rows at once.
Rows that are left over at the end may be added up otherwise, and an object's last digit would depend on its place in
the batch. Every object has a multiple of 4 rows in each layer, so 12 objects leave none over."""


class Scorer:
    """Scores cutouts with one model or several, in one pass. Calls from several threads wait for one another.

    Parameters
    ----------
    models : sequence of keras.Model
        Of `autoencoder.build` or ``load``, all of one network. Their weights are copied, with the batch
        normalisation folded into the convolutions.
    network : Network
    survey : Survey
    batch_size : int, optional
        Objects a compiled call. A shorter batch is filled up, so that the shape never changes. It decides speed and
        memory, not results. By default `network.GPU_BATCH_OBJECTS` where ``fused``, else `network.BATCH_OBJECTS`.
    fused : bool, optional
        Whether `score_counts` and `score_blocks` preprocess on Keras's device, in the network's call. ScorePair then
        differ in their last digits (see `device_preprocess.TOLERANCE`). By default where there is a GPU.

    Attributes
    ----------
    n_models, batch_size : int
    fused : bool
    windowed : bool
        Whether only the windows are computed. False where they do not fit into the cutout; then the whole cutout is
        reconstructed, for the same results in three times the time.

    Raises
    ------
    SwimmyError
        When network and survey do not agree or a weight is not finite.
    """

    def __init__(
        self,
        models: Sequence[Any],
        network: Network,
        survey: Survey,
        batch_size: int | None = None,
        fused: bool | None = None,
    ) -> None:
        if (network.n_bands, network.cutout_size_px) != (survey.n_bands, survey.cutout_size_px):
            raise SwimmyError(
                f"the network takes {network.n_bands} bands of {network.cutout_size_px} px, survey {survey.name!r} has "
                f"{survey.n_bands} bands of {survey.cutout_size_px} px. Use a model trained for this survey."
            )
        if not all(np.isfinite(value).all() for model in models for value in model.get_weights()):
            raise SwimmyError("the model has weights that are NaN or infinite. Train it again.")
        self.n_models = len(models)
        self.fused = has_gpu() if fused is None else fused
        default = GPU_BATCH_OBJECTS if self.fused else BATCH_OBJECTS
        self.batch_size = default if batch_size is None else _checked_batch_size(batch_size)
        self._survey = survey
        self._lock = threading.Lock()
        crops = windows(network, *survey.aperture_range())
        self.windowed = crops is not None
        self._model = _scoring_model(models, network, survey, crops, self.batch_size)
        self._start = compiled_call(_fused_model(self._model, survey)) if self.fused else None

    def score_counts(self, image: FloatArray, fwhm_arcsec: FloatArray) -> ScorePair:
        """Scores and residuals of cutouts as they are stored: preprocessed once, for all models.

        Parameters
        ----------
        image : ndarray of float32, shape (n, n_bands, size, size), counts
        fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec

        Returns
        -------
        score, residual : ndarray of float32, shape (n, n_models, n_bands)
            NaN for an object with a pixel that is not finite.

        Raises
        ------
        SwimmyError
            When a shape is wrong or a FWHM is refused (see `preprocess.smoothing_sigma_px`).
        """
        return next(self.score_blocks([(image, fwhm_arcsec)]))

    def score_blocks(self, blocks: Iterable[tuple[FloatArray, FloatArray]]) -> Iterator[ScorePair]:
        """`score_counts` of each block, in order; where ``fused``, the device has the next batch when one is done.

        Parameters
        ----------
        blocks : iterable of (image, fwhm_arcsec)
            As `score_counts` takes them, of any lengths. Arrays must not change until their scores are out. Blocks of
            ``batch_size`` objects are not copied.

        Yields
        ------
        score, residual : ndarray of float32, shape (n, n_models, n_bands)
        """
        if self._start is None:
            for image, fwhm_arcsec in blocks:
                yield self.score(preprocess(image, fwhm_arcsec, self._survey))
            return
        started: deque[tuple[Fetch, ScorePair, slice, bool]] = deque()
        for image, fwhm_arcsec in blocks:
            sigma, radius = self._widths(image, fwhm_arcsec)
            score = np.empty((len(image), self.n_models, image.shape[1]), np.float32)
            results = score, np.empty_like(score)
            for lo in range(0, max(len(image), 1), self.batch_size):
                rows = slice(lo, lo + self.batch_size)
                fetch = self._start(*(_filled_up(part[rows], self.batch_size) for part in (image, sigma, radius)))
                started.append((fetch, results, rows, rows.stop >= len(image)))
                if len(started) > BATCHES_AHEAD:
                    yield from _fetched(*started.popleft())
        while started:
            yield from _fetched(*started.popleft())

    def _widths(self, image: FloatArray, fwhm_arcsec: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        check_cube(image, self._survey)
        sigma, radius = kernel_widths(fwhm_arcsec, self._survey)
        check_seeing(sigma, image)
        return sigma, radius

    def score(self, source: FloatArray) -> ScorePair:
        """Anomaly score and residual of every object, model and band (equation 6; see `swimmy_scale.method.anomaly`).

        An object's result does not depend on the others in the call, to the last bit.

        Parameters
        ----------
        source : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
            Preprocessed cutouts.

        Returns
        -------
        score : ndarray of float32, shape (n, n_models, n_bands)
            NaN for an object with a NaN pixel. Reconstructions below ``RECONSTRUCTION_FLOOR`` are raised to it.
        residual : ndarray of float32, shape (n, n_models, n_bands)
            Sum over the aperture of source - reconstruction. NaN where the score is.

        Raises
        ------
        SwimmyError
            When the shape is wrong or a value lies outside [0, 1].
        """
        check_cube(source, self._survey)
        score = np.empty((len(source), self.n_models, source.shape[1]), np.float32)
        residual = np.empty_like(score)
        with self._lock:
            for rows, bad, results in _in_batches(self._model.predict_on_batch, source, self.batch_size):
                for values, result in zip((score, residual), results, strict=True):
                    values[rows] = result
                    values[rows][bad] = np.nan
        return score, residual


def reconstruct(model: Any, source: FloatArray, batch_size: int = 64) -> FloatArray:
    """The network's whole output, for pictures. ScorePair need `Scorer`, which is faster.

    Parameters
    ----------
    model : keras.Model
        Of `autoencoder.build` or ``load``.
    source : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
    batch_size : int
        Objects a compiled call.

    Returns
    -------
    ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        An object with a NaN pixel is NaN throughout.

    Raises
    ------
    SwimmyError
        When the shape is not the model's or a value lies outside [0, 1].
    """
    return Reconstructor(model, batch_size)(source)


class Reconstructor:
    """`reconstruct` for many calls: compiled once."""

    def __init__(self, model: Any, batch_size: int = 64) -> None:
        _, size, _, n_bands = model.input_shape
        self._shape, self._batch_size = (n_bands, size, size), _checked_batch_size(batch_size)
        inputs = keras.Input(self._shape, dtype="float32")
        outputs = keras.ops.transpose(model(_channels_last(inputs)), (0, 3, 1, 2))
        self._compiled = keras.Model(inputs, outputs)
        self._compiled.compile(jit_compile=jit_compile())

    def __call__(self, source: FloatArray) -> FloatArray:
        """As `reconstruct`."""
        if source.shape[1:] != self._shape:
            n_bands, size, _ = self._shape
            raise SwimmyError(
                f"cutouts have shape {source.shape}, the model takes (n_objects, {n_bands}, {size}, {size}). Use the "
                "model of this survey."
            )
        result = np.empty(source.shape, np.float32)
        for rows, bad, batch in _in_batches(self._compiled.predict_on_batch, source, self._batch_size):
            result[rows] = batch
            result[rows][bad] = np.nan
        return result


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise SwimmyError(f"batch_size {batch_size} must be 1 or more. Correct the score section of the job.")
    return batch_size


def _filled_up(values: npt.NDArray[Any], n_objects: int) -> npt.NDArray[Any]:
    """``values`` with zeros added to have ``n_objects`` rows, contiguous; no copy where it is so already."""
    if len(values) == n_objects:
        return np.ascontiguousarray(values)
    filled = np.zeros((n_objects, *values.shape[1:]), values.dtype)
    filled[: len(values)] = values
    return filled


def _fetched(fetch: Fetch, results: ScorePair, rows: slice, last: bool) -> Iterator[ScorePair]:
    """Put the results of a batch into those of its block, which is yielded with its last batch."""
    for values, result in zip(results, fetch(), strict=True):
        values[rows] = result[: len(values[rows])]
    if last:
        yield results


def _channels_last(x: Any) -> Any:
    return keras.ops.transpose(x, (0, 2, 3, 1))


def _in_batches(
    call: Callable[[FloatArray], Any], source: FloatArray, batch_size: int
) -> Iterator[tuple[slice, BoolRows, Any]]:
    """Call on batches of one size; yields the rows, which of them hold a NaN, and the results for them."""
    for start in range(0, len(source), batch_size):
        rows = slice(start, min(start + batch_size, len(source)))
        batch = np.ascontiguousarray(source[rows], dtype=np.float32)
        lowest, highest = batch.min(axis=(1, 2, 3)), batch.max(axis=(1, 2, 3))
        outside = (lowest < 0.0) | (highest > 1.0)
        if outside.any():
            index = int(np.argmax(outside))
            raise SwimmyError(
                f"cutout {start + index} has values from {lowest[index]} to {highest[index]}, needed is [0, 1]. "
                "Preprocess the counts first."
            )
        bad = np.isnan(lowest) | np.isnan(highest)
        if len(batch) < batch_size or bad.any():
            filled = np.zeros((batch_size, *batch.shape[1:]), np.float32)
            filled[: len(batch)][~bad] = batch[~bad]
            batch = filled
        results = call(batch)
        n_objects = rows.stop - rows.start
        yield rows, bad, [part[:n_objects] for part in results] if isinstance(results, list) else results[:n_objects]


def _folded(model: Any, index: int) -> tuple[FloatArray, FloatArray]:
    """Kernel and bias of convolution ``index`` with its batch normalisation folded in (see `weights.fold`)."""
    kernel, bias = (np.asarray(value, np.float64) for value in model.get_layer(f"conv_{index}").get_weights())
    if any(layer.name == f"norm_{index}" for layer in model.layers):
        norm = model.get_layer(f"norm_{index}")
        values = [np.asarray(value, np.float64) for value in norm.get_weights()]
        kernel, bias = fold(kernel, bias, values, norm.epsilon)
    return kernel.astype(np.float32), bias.astype(np.float32)


def _scoring_model(
    models: Sequence[Any], network: Network, survey: Survey, crops: list[tuple[int, int]] | None, batch_size: int
) -> Any:
    """Model from (``batch_size``, band, y, x) to score and residual, each (``batch_size``, model, band), compiled."""
    source = keras.Input((network.n_bands, network.cutout_size_px, network.cutout_size_px), dtype="float32")
    lo, hi = survey.aperture_range()
    seen = _channels_last(source[:, :, lo:hi, lo:hi])
    filled = keras.ops.pad(_channels_last(source), ((0, -batch_size % BATCH_MULTIPLE), (0, 0), (0, 0), (0, 0)))
    results = []
    for model in models:
        reconstruction = _reconstruction(filled, model, network, crops)
        reconstruction = keras.ops.slice(reconstruction, (0, 0, 0, 0), (batch_size, *reconstruction.shape[1:]))
        if crops is None:
            reconstruction = reconstruction[:, lo:hi, lo:hi]
        results.append(_equation_6(seen, reconstruction, survey.aperture()[lo:hi, lo:hi]))
    outputs = [keras.ops.stack(values, axis=1) for values in zip(*results, strict=True)]
    compiled = keras.Model(source, outputs)
    compiled.compile(jit_compile=jit_compile())
    return compiled


def _fused_model(scoring_model: Any, survey: Survey) -> Any:
    """Model from counts, sigma and radius to what ``scoring_model`` makes of them, NaN where a pixel is not finite."""
    size, n_bands = survey.cutout_size_px, survey.n_bands
    image = keras.Input((n_bands, size, size), dtype="float32")
    sigma, radius = (keras.Input((n_bands,), dtype=dtype) for dtype in ("float32", "int32"))
    source, finite = preprocess_on_device(image, sigma, radius, survey)
    outputs = [keras.ops.where(finite[:, None, None], values, np.nan) for values in scoring_model(source)]
    return keras.Model([image, sigma, radius], outputs)


def _reconstruction(x: Any, model: Any, network: Network, crops: list[tuple[int, int]] | None) -> Any:
    """The network of ``model`` over the windows ``crops``; with 'same' padding over all where there are none."""
    spatial = {"data_format": "channels_last", "dtype": "float32"}
    padding = "same" if crops is None else "valid"
    kept = iter(crops or [])

    def keep(x: Any) -> Any:
        lo, hi = next(kept, (0, x.shape[1]))
        return x[:, lo:hi, lo:hi]

    x = keep(x)
    n_convolutions = len(network.convolution_filters)
    for index, n_filters in enumerate(network.convolution_filters, start=1):
        last = index == n_convolutions
        layer = keras.layers.Conv2D(n_filters, 3, padding=padding, activation="sigmoid" if last else "relu", **spatial)
        x = layer(x)
        layer.set_weights(_folded(model, index))
        if index <= network.n_levels:
            x = keras.layers.MaxPooling2D(2, **spatial)(x)
        elif not last:
            x = keep(keras.layers.UpSampling2D(2, interpolation="nearest", **spatial)(x))
    return x


def _equation_6(seen: Any, reconstruction: Any, inside: BoolRows) -> list[Any]:
    weight = inside.astype(np.float32)[None, :, :, None]
    expected = keras.ops.maximum(reconstruction, RECONSTRUCTION_FLOOR)
    difference = seen - expected
    squared = keras.ops.square(difference / expected)
    return [keras.ops.sum(values * weight, axis=(1, 2)) for values in (squared, difference)]
