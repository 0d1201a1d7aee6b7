"""From preprocessed cutouts to scores, by one compiled Keras call for each batch (sections 3.1 and 3.2).

Equation 6 looks at the central aperture only. Behind 3x3 convolutions those pixels depend on a small window of each
layer, so the scorer computes just that window. The numbers are those of the whole reconstruction: where no window
touches the cutout's border, a convolution with 'valid' padding on the window equals one with 'same' padding on all.

A GPU does the preprocessing as well, in the same call: counts go in, scores come out. While it computes one batch, the
next one is already on its way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.descriptor import N_RINGS, ring_of_pixel
from swimmy_scale.method.limits import RECONSTRUCTION_FLOOR
from swimmy_scale.method.network import BATCH_OBJECTS, GPU_BATCH_OBJECTS, Network, windows
from swimmy_scale.method.preprocess import check_seeing, preprocess
from swimmy_scale.method.survey import AnyArray, BoolArray, FloatArray, IntArray, Survey, check_cube, check_source
from swimmy_scale.model.device_preprocess import kernel_widths, preprocess_on_device
from swimmy_scale.model.devices import Fetch, compiled_call, has_gpu, jit_compile, keras
from swimmy_scale.model.files import fold_norm

ScoreArrays = tuple[FloatArray, ...]
"""Score and residual of shape (n, n_models, n_bands), and if asked for the residual of each ring, with an axis more."""

BATCHES_AHEAD = 1
BATCH_MULTIPLE = 12
"""Batches are filled up to a multiple of this many objects before the network sees them.

A CPU's matrix product takes 24 or 48 rows at once. It may add up the rows left over at the end in another order, and
then an object's last digit would depend on its place in the batch. Every object has a multiple of 4 rows in each layer,
so multiples of 12 objects leave none over.
"""


class _Results[Tag](NamedTuple):
    """Scores of a block whose batches are being computed."""

    tag: Tag
    arrays: ScoreArrays


def _normalises(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


class Scorer:
    """Scores cutouts with one model or several, in one pass. Calls from several threads wait for one another.

    Parameters
    ----------
    models : sequence of keras.Model
        From `autoencoder.build` or `files.load`, all of one network. Their weights are copied, with the batch
        normalisation folded into the convolutions.
    network : Network
    survey : Survey
        Where the windows do not fit into its cutouts, these are reconstructed as a whole, for the same results in
        three times the time.
    batch_size : int, optional
        Objects of one compiled call. A shorter batch is filled up, so that the shape never changes. It decides speed
        and memory, not results. By default `network.GPU_BATCH_OBJECTS` if ``fused``, else `network.BATCH_OBJECTS`.
    fused : bool, optional
        Whether `score_counts` and `score_blocks` preprocess on Keras's device, in the network's call. The scores then
        differ in their last digits (see `device_preprocess.TOLERANCE`). By default where there is a GPU.
    rings : bool
        Give the residual of each ring of the aperture, too (see `descriptor.ring_of_pixel`).

    Raises
    ------
    SwimmyError
        When network and survey do not agree, a weight is not finite or a variance is negative.
    """

    def __init__(
        self,
        models: Sequence[Any],
        network: Network,
        survey: Survey,
        batch_size: int | None = None,
        fused: bool | None = None,
        rings: bool = False,
    ) -> None:
        network.check_survey(survey)
        if not all(np.isfinite(value).all() for model in models for value in model.get_weights()):
            raise SwimmyError("the model has weights that are NaN or infinite. Train it again.")
        variances = [layer.moving_variance for model in models for layer in model.layers if _normalises(layer)]
        if any((variance.numpy() < 0).any() for variance in variances):
            raise SwimmyError("the model has batch normalisations of a negative variance. Train it again.")
        self.n_models = len(models)
        self.fused = has_gpu() if fused is None else fused
        default = GPU_BATCH_OBJECTS if self.fused else BATCH_OBJECTS
        self.batch_size = default if batch_size is None else _checked_batch_size(batch_size)
        self._survey = survey
        self._rings = rings
        self._lock = threading.Lock()
        crops = windows(network, *survey.aperture_range())
        self._model = _scoring_model(models, network, survey, crops, self.batch_size, rings)
        self._start = compiled_call(_fused_model(self._model, survey)) if self.fused else None

    def score_counts(self, image: FloatArray, fwhm_arcsec: FloatArray) -> ScoreArrays:
        """Scores and residuals of cutouts as they are stored. They are preprocessed once for all models.

        Parameters
        ----------
        image : ndarray of float32, shape (n, n_bands, size, size), counts
        fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec

        Returns
        -------
        score, residual : ndarray of float32, shape (n, n_models, n_bands)
            NaN for an object with a pixel that is not finite.
        ring_residual : ndarray of float32, shape (n, n_models, n_bands, N_RINGS)
            With ``rings`` alone.
        """
        _, *arrays = next(self.score_blocks([(image, fwhm_arcsec, None)]))
        return tuple(arrays)

    def score_blocks[Tag](
        self, blocks: Iterable[tuple[FloatArray, FloatArray, Tag]]
    ) -> Iterator[tuple[Tag, *ScoreArrays]]:
        """`score_counts` of each block, in order. If ``fused``, the device gets the next batch before it ends one.

        Parameters
        ----------
        blocks : iterable of (image, fwhm_arcsec, tag)
            As `score_counts` takes them, of any lengths. Arrays must not change until their scores are out. Blocks of
            ``batch_size`` objects are not copied. The tag, anything, comes back with the block's scores.

        Yields
        ------
        tag
        score, residual, and with ``rings`` ring_residual
            As `score_counts` gives them.
        """
        if self._start is None:
            for image, fwhm_arcsec, tag in blocks:
                yield tag, *self.score(preprocess(image, fwhm_arcsec, self._survey))
            return
        started: deque[tuple[Fetch, slice, _Results[Tag]]] = deque()
        for image, fwhm_arcsec, tag in blocks:
            check_cube(image, self._survey)
            sigma, radius = kernel_widths(fwhm_arcsec, self._survey)
            check_seeing(sigma, image)
            results = _Results(tag, self._empty(len(image)))
            for lo in range(0, max(len(image), 1), self.batch_size):
                rows = slice(lo, lo + self.batch_size)
                fetch = self._start(*(_filled_up(part[rows], self.batch_size) for part in (image, sigma, radius)))
                started.append((fetch, rows, results))
                if len(started) > BATCHES_AHEAD:
                    yield from _fetched(*started.popleft())
        while started:
            yield from _fetched(*started.popleft())

    def _empty(self, n_objects: int) -> ScoreArrays:
        shape = (n_objects, self.n_models, self._survey.n_bands)
        shapes = [shape, shape, (*shape, N_RINGS)]
        return tuple(np.empty(shape, np.float32) for shape in shapes[: 3 if self._rings else 2])

    def score(self, source: FloatArray) -> ScoreArrays:
        """Anomaly score and residual of every object, model and band (equation 6; see `swimmy_scale.method.anomaly`).

        An object's result does not depend on the others in the call, to the last bit.

        Parameters
        ----------
        source : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
            Preprocessed cutouts.

        Returns
        -------
        score : ndarray of float32, shape (n, n_models, n_bands)
            NaN for an object with a NaN pixel. Reconstructions below `limits.RECONSTRUCTION_FLOOR` are raised to it.
        residual : ndarray of float32, shape (n, n_models, n_bands)
            Sum over the aperture of source - reconstruction. NaN where the score is.
        ring_residual : ndarray of float32, shape (n, n_models, n_bands, N_RINGS)
            With ``rings`` alone: the same over each ring.
        """
        check_cube(source, self._survey)
        arrays = self._empty(len(source))
        with self._lock:
            for rows, bad, results in _in_batches(self._model.predict_on_batch, source, self.batch_size):
                for values, result in zip(arrays, results, strict=True):
                    values[rows] = result
                    values[rows][bad] = np.nan
        return arrays


def _checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise SwimmyError(f"batch_size {batch_size} must be 1 or more. Correct the score section of the job.")
    return batch_size


def _filled_up(values: AnyArray, n_objects: int) -> AnyArray:
    """``values``, contiguous, with rows of zeros added to make ``n_objects``. Copied only if that changes it."""
    if len(values) == n_objects:
        return np.ascontiguousarray(values)
    filled = np.zeros((n_objects, *values.shape[1:]), values.dtype)
    filled[: len(values)] = values
    return filled


def _fetched[Tag](fetch: Fetch, rows: slice, results: _Results[Tag]) -> Iterator[tuple[Tag, *ScoreArrays]]:
    """Put the scores of a batch into those of its block, and yield the block after its last batch."""
    for values, result in zip(results.arrays, fetch(), strict=True):
        values[rows] = result[: len(values[rows])]
    if rows.stop >= len(results.arrays[0]):
        yield results.tag, *results.arrays


def _channels_last(x: Any) -> Any:
    return keras.ops.transpose(x, (0, 2, 3, 1))


def _in_batches(
    call: Callable[[FloatArray], Any], source: FloatArray, batch_size: int
) -> Iterator[tuple[slice, BoolArray, list[Any]]]:
    """Call on batches of one size; yields the rows of each, which of them hold a NaN, and their results."""
    for start in range(0, len(source), batch_size):
        rows = slice(start, min(start + batch_size, len(source)))
        batch = np.ascontiguousarray(source[rows], dtype=np.float32)
        bad = check_source(batch, start)
        if len(batch) < batch_size or bad.any():
            filled = np.zeros((batch_size, *batch.shape[1:]), np.float32)
            filled[: len(batch)][~bad] = batch[~bad]
            batch = filled
        results = call(batch)
        n_objects = rows.stop - rows.start
        yield rows, bad, [part[:n_objects] for part in results]


def _folded(model: Any, index: int) -> tuple[FloatArray, FloatArray]:
    """Kernel and bias of convolution ``index`` with its batch normalisation folded in (see `files.fold_norm`)."""
    kernel, bias = (np.asarray(value, np.float64) for value in model.get_layer(f"conv_{index}").get_weights())
    if any(layer.name == f"norm_{index}" for layer in model.layers):
        norm = model.get_layer(f"norm_{index}")
        values = [np.asarray(value, np.float64) for value in norm.get_weights()]
        kernel, bias = fold_norm(kernel, bias, values, norm.epsilon)
    return kernel.astype(np.float32), bias.astype(np.float32)


def _scoring_model(
    models: Sequence[Any],
    network: Network,
    survey: Survey,
    crops: list[tuple[int, int]] | None,
    batch_size: int,
    rings: bool,
) -> Any:
    """Model from (``batch_size``, band, y, x) to score and residual, each (``batch_size``, model, band), compiled.

    With ``rings`` also to the residuals of (``batch_size``, model, band, ring).
    """
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
        results.append(_equation_6(seen, reconstruction, ring_of_pixel(survey)[lo:hi, lo:hi], rings))
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
    shapes = [(-1, *(1 for _ in values.shape[1:])) for values in scoring_model.outputs]
    outputs = [
        keras.ops.where(keras.ops.reshape(finite, shape), values, np.nan)
        for shape, values in zip(shapes, scoring_model(source), strict=True)
    ]
    return keras.Model([image, sigma, radius], outputs)


def _reconstruction(x: Any, model: Any, network: Network, crops: list[tuple[int, int]] | None) -> Any:
    """The network of ``model`` over the windows ``crops``; without them, with 'same' padding over whole cutouts."""
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


def _equation_6(seen: Any, reconstruction: Any, ring: IntArray, rings: bool) -> list[Any]:
    def weight_of(inside: BoolArray) -> FloatArray:
        return inside.astype(np.float32)[None, :, :, None]

    weight = weight_of(ring >= 0)
    expected = keras.ops.maximum(reconstruction, RECONSTRUCTION_FLOOR)
    difference = seen - expected
    squared = keras.ops.square(difference / expected)
    sums = [keras.ops.sum(values * weight, axis=(1, 2)) for values in (squared, difference)]
    if rings:
        parts = [keras.ops.sum(difference * weight_of(ring == k), axis=(1, 2)) for k in range(N_RINGS)]
        sums.append(keras.ops.stack(parts, axis=-1))
    return sums
