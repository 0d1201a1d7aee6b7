"""From counts to scores on a CPU without TensorFlow: PSF match, stretch, window network and equation 6 in numba.

The numbers are those of `method.preprocess` and `keras_scorer`, up to float32 rounding, and the same on every
processor, to the last bit. The only libraries loaded are numba and NumPy. Calls share no data, so threads and
processes need no locks. The machine code of the three outer functions (`_prepare`, `_compare` and `winograd.convolve`)
is kept on disk, as `vectors.compiled` describes.
"""

# Numba infers the types when it compiles.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.descriptor import N_RINGS, ring_of_pixel
from swimmy_scale.method.limits import COUNTS_LIMIT, FLUX_LIMIT, RECONSTRUCTION_FLOOR, SERIES_LIMIT
from swimmy_scale.method.network import CACHE_BATCH_OBJECTS, Network, windows
from swimmy_scale.method.preprocess import TRUNCATE_SIGMA, flux_scale, sigma_of_cutouts
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, Survey, check_cube
from swimmy_scale.model.vectors import (
    LANES,
    compiled,
    exponential,
    fma,
    larger,
    load,
    load_part,
    logarithm,
    magnitude,
    narrowed,
    root,
    smaller,
    spread,
    spread_at,
    spread_double,
    store,
    store_part,
    widened,
    zeros,
)
from swimmy_scale.model.winograd import DOUBLE, HALVE, LAST, Convolution, convolve, plan

Folded = tuple[FloatArray, FloatArray]

_PAIR = 2 * LANES
"""Pixels that are filtered together."""


@compiled
def _fill_weights(ratio, radius, weights):
    """Half of the normalised Gaussian: exp(-k^2 / 2 sigma^2) for 0 <= k <= radius, of ratio = exp(-1 / 2 sigma^2)."""
    # exp(-k^2 / 2 sigma^2) = exp(-(k - 1)^2 / 2 sigma^2) ratio^(2 k - 1)
    weight, step, total = 1.0, ratio, 1.0
    for _ in range(radius):
        weight, step = weight * step, step * ratio * ratio
        total += 2.0 * weight
    weight, step = 1.0 / total, ratio
    for k in range(radius + 1):
        weights[k] = weight
        weight, step = weight * step, step * ratio * ratio


@compiled
def _bound(image, start, size, limit, out, stride):
    """Clip a band's pixels to +-limit, in rows of ``stride``; returns 0 where all are finite."""
    low, high, nothing = spread(-limit), spread(limit), spread(0.0)
    odd = nothing
    for y in range(size):
        for x in range(0, size, LANES):
            value = load_part(image, start + y * size + x, size - x)
            odd = fma(value, nothing, odd)  # stays 0 for finite pixels alone
            store(out, y * stride + x, smaller(high, larger(low, value)))
    store(out, size * stride, odd)
    n_bad = 0
    for k in range(LANES):
        n_bad += out[size * stride + k] != 0
    return n_bad


@compiled
def _filter_down(image, y, size, stride, weights, radius, out, at):
    """Row ``y`` of the Gaussian along y: out[x] = sum over k of weights[|k|] image[y + k, x], for |k| <= radius."""
    for x in range(0, size, _PAIR):
        weight, start = spread_at(weights, 0), y * stride + x
        a, b = weight * load(image, start), weight * load(image, start + LANES)
        for k in range(1, radius + 1):
            weight = spread_at(weights, k)
            before, behind = max(y - k, 0) * stride + x, min(y + k, size - 1) * stride + x
            a = fma(weight, load(image, before) + load(image, behind), a)
            b = fma(weight, load(image, before + LANES) + load(image, behind + LANES), b)
        store(out, at + x, a)
        store(out, at + x + LANES, b)
    # The edge pixels are repeated for the pass along x.
    for k in range(1, radius + 1):
        out[at - k], out[at + size - 1 + k] = out[at], out[at + size - 1]


@compiled
def _filter_across(row, at, n, weights, radius, out, to):
    """The same along x, of ``n`` pixels from ``at`` on."""
    for x in range(0, n, _PAIR):
        weight, start = spread_at(weights, 0), at + x
        a, b = weight * load(row, start), weight * load(row, start + LANES)
        for k in range(1, radius + 1):
            weight = spread_at(weights, k)
            a = fma(weight, load(row, start - k) + load(row, start + k), a)
            b = fma(weight, load(row, start - k + LANES) + load(row, start + k + LANES), b)
        store(out, to + x, a)
        store(out, to + x + LANES, b)


@compiled
def _stretch(rows, stride, n, per_band, alpha, beta, least, out):
    """Equations 1 and 2 of one row of all bands, from (band, x) to (x, band).

    x = counts * per_band, I = mean of x over the bands, f(x) = arcsinh(alpha I) / arcsinh(alpha) * x / I + beta.
    """
    n_bands = len(per_band)
    limit = np.float32(FLUX_LIMIT / alpha if alpha > 1.0 else FLUX_LIMIT)
    low, high = spread(-limit), spread(limit)
    mean_alpha, height = spread(np.float32(alpha / n_bands)), spread(np.float32(alpha / math.asinh(alpha)))
    zero, one, offset, smallest = spread(0.0), spread(1.0), spread(beta), spread(least)
    for x in range(0, n, LANES):
        total = zero
        for band in range(n_bands):
            value = smaller(high, larger(low, load(rows, band * stride + x) * spread_at(per_band, band)))
            store(rows, band * stride + x, value)
            total = total + value
        scaled = widened(larger(smallest, magnitude(total) * mean_alpha))
        # arcsinh(a) = log(a + sqrt(a^2 + 1)), in float64 because of the cancellation at small a.
        inverse = logarithm(scaled + root(fma(scaled, scaled, spread_double(1.0))))
        factor = narrowed(inverse / scaled) * height
        for band in range(n_bands):
            value = fma(load(rows, band * stride + x), factor, offset)
            store(rows, band * stride + x, smaller(one, larger(zero, value)))
    for band in range(n_bands):
        row, target = rows[band * stride : band * stride + n], out[:n, band]
        for x in range(n):
            target[x] = row[x]


@compiled
def _fill_ratios(sigma_px, at, n, ratio):
    """exp(-1 / 2 sigma^2), where it is not smaller than exp(-600)."""
    for k in range(0, n, LANES):
        sigma = load_part(sigma_px, at + k, n - k)
        exponent = spread_double(-0.5) / larger(spread_double(1e-3), sigma * sigma)
        store_part(ratio, k, n - k, exponential(exponent))


def _prepare(image, sigma_px, radius, per_band, alpha, beta, counts_limit, least, lo, pad, out, bad):
    """PSF match and stretch of all objects, channels last. An object with a NaN or infinite pixel is marked as bad."""
    n_bands, size, most = image.shape[1], image.shape[2], 0
    for value in radius.flat:
        most = max(most, value)
    # Rows are whole pairs of vectors, which reach over what is used. ``halfway`` has each band's row with its edges.
    stride, kept = (size + _PAIR - 1) // _PAIR * _PAIR, out.shape[1] - 2 * pad
    padded = most + stride + most + _PAIR
    bounded = zeros(n_bands * (size * stride + LANES)).reshape(n_bands, size * stride + LANES)
    weights, ratio = np.zeros((n_bands, most + 1), np.float32), np.empty(n_bands)
    halfway, rows = zeros(n_bands * padded), zeros(n_bands * stride)
    pixels, sigma = image.reshape(-1), sigma_px.reshape(-1)
    for index in range(image.shape[0]):
        n_bad = 0
        for band in range(n_bands):
            n_bad += _bound(pixels, (index * n_bands + band) * size * size, size, counts_limit, bounded[band], stride)
        bad[index] = n_bad > 0
        if n_bad > 0:
            continue
        _fill_ratios(sigma, index * n_bands, n_bands, ratio)
        for band in range(n_bands):
            _fill_weights(ratio[band], radius[index, band], weights[band])
        for y in range(kept):
            # One loop for each pass: a pass along x right after that along y would wait for what that has written.
            for band in range(n_bands):
                at = band * padded + most
                _filter_down(bounded[band], lo + y, size, stride, weights[band], radius[index, band], halfway, at)
            for band in range(n_bands):
                at = band * padded + most + lo
                _filter_across(halfway, at, kept, weights[band], radius[index, band], rows, band * stride)
            _stretch(rows, stride, kept, per_band, alpha, beta, least, out[index, pad + y, pad : pad + kept])


@compiled
def _differences(source, source_at, output, output_at, n, floor, missing, ratio):
    """Sigmoid of ``output``; source - reconstruction, and that over the reconstruction."""
    one, low, high = spread_double(1.0), spread_double(-80.0), spread_double(80.0)
    for k in range(0, n, LANES):
        logit = smaller(high, larger(low, widened(load_part(output, output_at + k, n - k))))
        expected = larger(spread_double(floor), one / (one + exponential(spread_double(0.0) - logit)))
        difference = widened(load_part(source, source_at + k, n - k)) - expected
        store(missing, k, difference)
        store(ratio, k, difference / expected)


def _compare(source, output, ring, source_at, output_at, floor, model, score, residual, ring_residual):
    """Sigmoid and equation 6 where ``ring``, whose corner is at ``source_at`` and ``output_at``, is not negative."""
    n_bands, side, n_rings = source.shape[3], ring.shape[1], ring_residual.shape[3]
    n = side * n_bands
    missing, ratio = np.empty(n + LANES), np.empty(n + LANES)
    totals, differences, in_ring = np.empty(n_bands), np.empty(n_bands), np.empty((n_rings, n_bands))
    sources, outputs = source.reshape(-1), output.reshape(-1)
    for index in range(source.shape[0]):
        totals[:] = 0.0
        differences[:] = 0.0
        in_ring[:] = 0.0
        for y in range(side):
            from_source = (index * source.shape[1] + source_at + y) * source.shape[1] + source_at
            from_output = (index * output.shape[1] + output_at + y) * output.shape[1] + output_at
            _differences(sources, from_source * n_bands, outputs, from_output * n_bands, n, floor, missing, ratio)
            for x in range(side):
                if ring[y, x] >= 0:
                    for band in range(n_bands):
                        totals[band] += ratio[x * n_bands + band] ** 2
                        differences[band] += missing[x * n_bands + band]
                        in_ring[ring[y, x], band] += missing[x * n_bands + band]
        for band in range(n_bands):
            score[index, model, band], residual[index, model, band] = totals[band], differences[band]
            for k in range(n_rings):
                ring_residual[index, model, band, k] = in_ring[k, band]


# Constants of other modules are arguments: numba would go on using the kept code after they changed.
_prepare_all = compiled(_prepare, keep=True)
_compare_all = compiled(_compare, keep=True)


def prepare(image: FloatArray, sigma_px: DoubleArray, survey: Survey, lo: int, pad: int, out: FloatArray) -> BoolArray:
    """PSF match, flux scale and stretch as in `swimmy_scale.method.preprocess.preprocess`, into the network's layout.

    Parameters
    ----------
    image : ndarray of float32, shape (n, n_bands, size, size), counts
        Contiguous and writable, as ``out`` is.
    sigma_px : ndarray of float64, shape (n, n_bands), px
        From `swimmy_scale.method.preprocess.smoothing_sigma_px`.
    lo : int
        First row and column of the window that is wanted.
    pad : int
        Border of ``out``, which is left as it is.
    out : ndarray of float32, shape (n, side + 2 pad, side + 2 pad, n_bands)
        Filled with values in [0, 1]. They differ from those of ``preprocess`` by less than 1e-6, except where bands of
        both signs cancel in I: there float32 holds x / I less well.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for an object with a NaN or infinite pixel; its rows of ``out`` are left as they are.
    """
    bad = np.empty(len(image), np.bool_)
    radius = (TRUNCATE_SIGMA * sigma_px + 0.5).astype(np.int64)
    alpha, beta = float(survey.stretch_alpha), np.float32(survey.stretch_beta)
    limits = np.float32(COUNTS_LIMIT), np.float32(SERIES_LIMIT)
    _prepare_all(image, sigma_px, radius, flux_scale(survey), alpha, beta, *limits, lo, pad, out, bad)
    return bad


@dataclass(frozen=True)
class Layer:
    """A convolution, what follows it, and the window of the result that is kept."""

    convolution: Convolution
    grow: int
    lo: int
    kept: int


def network_layers(folded: Sequence[Folded], network: Network, crops: Sequence[tuple[int, int]] | None) -> list[Layer]:
    """The network's convolutions in order. Without crops each layer is kept whole, with a border of zeros around it."""
    windows_left = iter(crops or [])
    lo, hi = next(windows_left, (-1, network.cutout_size_px + 1))
    border = 0 if crops is not None else 2
    layers, side = [], hi - lo
    for index, (kernel, bias) in enumerate(folded, start=1):
        side -= 2
        convolution = plan(kernel, bias)
        lo = 0
        if index <= network.n_levels:
            grow, side = HALVE, side // 2
        elif index < len(folded):
            grow = DOUBLE
            lo, hi = next(windows_left, (0, 2 * side))
            side = hi - lo
        else:
            grow = LAST
        layers.append(Layer(convolution, grow, lo, side))
        side += border
    return layers


def layer_memory(layers: Sequence[Layer], n_objects: int, side: int, n_bands: int, pad: int) -> list[FloatArray]:
    """Arrays for cutouts of ``side`` px and for the output of each layer, all with a border of ``pad`` zeros."""
    sides = [side, *(layer.kept for layer in layers)]
    channels = [n_bands, *(len(layer.convolution.bias) for layer in layers)]
    sides = [k + 2 * pad for k in sides]
    shapes = [(n_objects, k, k, n) for k, n in zip(sides, channels, strict=True)]
    return [zeros.py_func(math.prod(shape)).reshape(shape) for shape in shapes]


def forward(layers: Sequence[Layer], source: FloatArray, outputs: Sequence[FloatArray], pad: int) -> FloatArray:
    """Fill ``outputs``, one for each layer, and return the last: the network's output before the sigmoid."""
    x = source
    for layer, out in zip(layers, outputs, strict=True):
        step = layer.convolution
        convolve(x, step.kernel, step.bias, layer.grow, layer.lo, pad, out)
        x = out
    return x


def in_batches(
    n_objects: int,
    batch_size: int,
    n_threads: int,
    memory_for: Callable[[int], list[FloatArray]],
    compute: Callable[[slice, list[FloatArray]], None],
) -> None:
    """Compute the rows of every batch, as many at the same time as there are threads; one is the calling thread.

    Each thread has memory of its own, which ``memory_for`` makes for the objects of a batch.
    """

    def compute_every(first: int) -> None:
        memory = memory_for(min(batch_size, n_objects))
        for start in range(first * batch_size, n_objects, n_threads * batch_size):
            compute(slice(start, start + batch_size), memory)

    if n_threads == 1:
        compute_every(0)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(compute_every, range(n_threads)))


class NumbaScorer:
    """Scores counts with one model or several. Calls from several threads do not disturb each other.

    Parameters
    ----------
    weights : sequence of sequence of (kernel, bias)
        For each model the convolutions in order, as `files.folded_weights` reads them: kernel of float32, shape
        (3, 3, n_in, n_out), bias of float32, shape (n_out,).
    network : Network
    survey : Survey
    batch_size : int
        Objects that go through the network together. It decides speed and memory, not results; more than fit into the
        processor's cache are slower.
    n_threads : int
        Batches that are computed at the same time, each by one thread. A single one is the calling thread.
    rings : bool
        Give the residual of each ring of the aperture, too.

    Attributes
    ----------
    windowed : bool
        Whether only the windows are computed. Where they do not fit into the cutout, the whole cutout is
        reconstructed, for the same results in more time.

    Raises
    ------
    SwimmyError
        When network, survey and weights do not agree, a weight is not finite, or batch_size or n_threads is below 1.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[Folded]],
        network: Network,
        survey: Survey,
        batch_size: int = CACHE_BATCH_OBJECTS,
        n_threads: int = 1,
        rings: bool = False,
    ) -> None:
        network.check_survey(survey)
        for name, value in (("batch_size", batch_size), ("n_threads", n_threads)):
            if value < 1:
                raise SwimmyError(f"{name} {value} must be 1 or more. Correct the score section of the job.")
        self._survey = survey
        self._batch_size = batch_size
        self._n_threads = n_threads
        self._rings = rings
        self._aperture = survey.aperture_range()
        crops = windows(network, *self._aperture)
        self.windowed = crops is not None
        self._pad = 0 if self.windowed else 1
        self._window = crops[0] if crops is not None else (0, survey.cutout_size_px)
        self._models = [
            network_layers(checked_weights(folded, network, k), network, crops) for k, folded in enumerate(weights)
        ]
        if not self._models:
            raise SwimmyError("there is no model to score with. Give the weights of one or more.")

    def score_counts(self, image: FloatArray, fwhm_arcsec: npt.NDArray[np.floating]) -> tuple[FloatArray, ...]:
        """Anomaly score and residual of every object, model and band (sections 2.3, 3.1 and 3.2).

        An object's result does not depend on the others in the call, to the last bit.

        Parameters
        ----------
        image : ndarray of float32, shape (n, n_bands, size, size), counts
        fwhm_arcsec : ndarray of float, shape (n, n_bands), arcsec

        Returns
        -------
        score : ndarray of float32, shape (n, n_models, n_bands)
            NaN for an object with a NaN or infinite pixel. Reconstructions below `limits.RECONSTRUCTION_FLOOR` are
            raised to it.
        residual : ndarray of float32, shape (n, n_models, n_bands)
            Sum over the aperture of source - reconstruction. NaN where the score is.
        ring_residual : ndarray of float32, shape (n, n_models, n_bands, N_RINGS)
            With ``rings`` alone: the same over each ring of the aperture (see `descriptor.ring_of_pixel`).
        """
        check_cube(image, self._survey)
        sigma = sigma_of_cutouts(image, fwhm_arcsec, self._survey)
        score = np.empty((len(image), len(self._models), self._survey.n_bands), np.float32)
        residual = np.empty_like(score)
        ring_residual = np.empty((*score.shape, N_RINGS), np.float32)
        results = (score, residual, ring_residual)

        # numba compiles anew for each dtype and layout, so all are brought to one.
        image = np.require(image, np.float32, ["C", "W"])

        in_batches(
            len(image),
            self._batch_size,
            self._n_threads,
            self._memory,
            lambda rows, memory: self._score_batch(image[rows], sigma[rows], memory, [part[rows] for part in results]),
        )
        return results if self._rings else results[:2]

    def _memory(self, n_objects: int) -> list[FloatArray]:
        """Arrays for the cutouts and layers of one batch. Where nothing is cropped, all have a border of zeros."""
        lo, hi = self._window
        return layer_memory(self._models[0], n_objects, hi - lo, self._survey.n_bands, self._pad)

    def _score_batch(
        self, image: FloatArray, sigma: DoubleArray, memory: list[FloatArray], results: list[FloatArray]
    ) -> None:
        survey, pad = self._survey, self._pad
        source, *outputs = (array[: len(image)] for array in memory)
        lo = self._window[0]
        bad = prepare(image, sigma, survey, lo, pad, source)
        first, last = self._aperture
        ring = ring_of_pixel(survey)[first:last, first:last].copy()
        # A windowed output is the aperture alone; a whole one begins at the cutout's corner, behind its border.
        output_at = 0 if self.windowed else first + pad
        for model, layers in enumerate(self._models):
            x = forward(layers, source, outputs, pad)
            _compare_all(source, x, ring, first - lo + pad, output_at, RECONSTRUCTION_FLOOR, model, *results)
        for values in results:
            values[bad] = np.nan


def checked_weights(folded: Sequence[Folded], network: Network, model: int) -> Sequence[Folded]:
    """Kernels and biases as contiguous float32, once they are known to fit the network and to be finite."""
    filters = (network.n_bands, *network.convolution_filters)
    expected = [((3, 3, n_in, n_out), (n_out,)) for n_in, n_out in pairwise(filters)]
    found = [(kernel.shape, bias.shape) for kernel, bias in folded]
    if found != expected:
        raise SwimmyError(
            f"model {model}: kernels and biases have shapes {found}, {network} needs {expected}. Give the network that "
            "the model was trained with."
        )
    if not all(np.isfinite(value).all() for pair in folded for value in pair):
        raise SwimmyError(f"model {model} has weights that are NaN or infinite. Train it again.")
    return [(np.asarray(kernel, np.float32), np.ascontiguousarray(bias, np.float32)) for kernel, bias in folded]
