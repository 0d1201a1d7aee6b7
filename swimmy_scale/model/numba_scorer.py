"""From counts to scores on a CPU without TensorFlow: PSF match, stretch, window network and equation 6 in numba.

The numbers are those of `method.preprocess` and `keras_scorer`, up to float32 rounding. The only libraries loaded are
numba and NumPy. Calls share no data, so threads and processes need no locks. The machine code of the three outer
functions (`_prepare`, `_compare` and `winograd.convolve`) is kept on disk, as `winograd.compiled` describes.
"""

# Numba infers the types when it compiles.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.limits import COUNTS_LIMIT, FLUX_LIMIT, RECONSTRUCTION_FLOOR, SERIES_LIMIT
from swimmy_scale.method.network import CACHE_BATCH_OBJECTS, Network, windows
from swimmy_scale.method.preprocess import TRUNCATE_SIGMA, flux_scale, sigma_of_cutouts
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, Survey, check_cube
from swimmy_scale.model.winograd import DOUBLE, HALVE, LAST, Convolution, compiled, convolve, plan

Folded = tuple[FloatArray, FloatArray]


@compiled
def _fill_weights(sigma_px, radius, weights):
    """Half of the normalised Gaussian: exp(-k^2 / 2 sigma^2) for 0 <= k <= radius."""
    total = 1.0
    for k in range(1, radius + 1):
        total += 2.0 * math.exp(-0.5 * (k / sigma_px) ** 2)
    weights[0] = 1.0 / total
    for k in range(1, radius + 1):
        weights[k] = math.exp(-0.5 * (k / sigma_px) ** 2) / total


@compiled
def _filter(values, weights, radius, step, start, n, out):
    """out[i] = sum over k of weights[|k|] * values[start + i + k step], for |k| <= radius and i < n."""
    center = values[start : start + n]
    for i in range(n):
        out[i] = weights[0] * center[i]
    # Two distances at a time, so that ``out`` is read and written half as often.
    for k in range(1, radius, 2):
        weight, next_weight = weights[k], weights[k + 1]
        before, behind = values[start - k * step :], values[start + k * step :]
        further_before, further_behind = values[start - (k + 1) * step :], values[start + (k + 1) * step :]
        for i in range(n):
            out[i] += weight * (before[i] + behind[i]) + next_weight * (further_before[i] + further_behind[i])
    if radius % 2:
        weight = weights[radius]
        before, behind = values[start - radius * step :], values[start + radius * step :]
        for i in range(n):
            out[i] += weight * (before[i] + behind[i])


@compiled
def _smooth(image, weights, radius, counts_limit, work, out):
    """Gaussian along y, then along x, as `preprocess.smoothing_matrix` defines it; returns the number of bad pixels."""
    size = image.shape[0]
    width, n_bad = size + 2 * radius, 0
    # The edge pixels are repeated all around, so that each pass is one long loop; what runs across rows is not used.
    for y in range(width):
        source, row = image[min(max(y - radius, 0), size - 1)], work[0, y * width : (y + 1) * width]
        middle = row[radius : radius + size]
        for x in range(size):
            n_bad += not abs(source[x]) < np.inf
            middle[x] = min(max(source[x], -counts_limit), counts_limit)
        row[:radius], row[radius + size :] = row[radius], row[radius + size - 1]
    n = size * width
    _filter(work[0], weights, radius, width, radius * width, n, work[1, radius : radius + n])
    _filter(work[1], weights, radius, 1, radius, n, work[2])
    for y in range(size):
        row, target = work[2, y * width + radius : y * width + radius + size], out[y]
        for x in range(size):
            target[x] = row[x]
    return n_bad


@compiled
def _stretch(image, per_band, alpha, beta, least, factor, lo, pad, out):
    """Equations 1 and 2 of one object, from (band, y, x) to the window that starts at ``lo`` as (y, x, band).

    x = counts * per_band, I = mean of x over the bands, f(x) = arcsinh(alpha I) / arcsinh(alpha) * x / I + beta.
    """
    n_bands, size = image.shape[0], image.shape[1]
    limit = np.float32(FLUX_LIMIT / alpha if alpha > 1.0 else FLUX_LIMIT)
    mean_alpha, height = np.float32(alpha / n_bands), np.float32(alpha / math.asinh(alpha))
    kept = out.shape[0] - 2 * pad
    for y in range(lo, lo + kept):
        factor[:] = 0.0
        for band in range(n_bands):
            row, scale = image[band, y], per_band[band]
            for x in range(size):
                row[x] = min(max(row[x] * scale, -limit), limit)
                factor[x] += row[x]
        for x in range(size):
            scaled = np.float64(max(abs(factor[x]) * mean_alpha, least))
            # arcsinh(a) = log(a + sqrt(a^2 + 1)), in float64 because of the cancellation at small a.
            factor[x] = np.float32(math.log(scaled + math.sqrt(scaled * scaled + 1.0)) / scaled) * height
        target = out[pad + y - lo]
        for band in range(n_bands):
            row = image[band, y]
            for x in range(kept):
                value = row[lo + x] * factor[lo + x] + beta
                target[pad + x, band] = min(max(value, np.float32(0.0)), np.float32(1.0))


def _prepare(image, sigma_px, radius, per_band, alpha, beta, counts_limit, least, lo, pad, out, bad):
    """PSF match and stretch of all objects, channels last. An object with a NaN or infinite pixel is marked as bad."""
    n_bands, size, most = image.shape[1], image.shape[2], 0
    for value in radius.flat:
        most = max(most, value)
    weights, factor = np.empty(most + 1, np.float32), np.empty(size, np.float32)
    work = np.zeros((3, (size + 2 * most) ** 2), np.float32)
    smooth = np.empty((n_bands, size, size), np.float32)
    for index in range(image.shape[0]):
        n_bad = 0
        for band in range(n_bands):
            reach = radius[index, band]
            _fill_weights(sigma_px[index, band], reach, weights)
            n_bad += _smooth(image[index, band], weights, reach, counts_limit, work, smooth[band])
        bad[index] = n_bad > 0
        if n_bad == 0:
            _stretch(smooth, per_band, alpha, beta, least, factor, lo, pad, out[index])


def _compare(source, output, inside, source_at, output_at, floor, model, score, residual):
    """Sigmoid and equation 6 over ``inside``, whose corner is at ``source_at`` and ``output_at`` of the two arrays."""
    for index in range(source.shape[0]):
        for band in range(source.shape[3]):
            total, difference = 0.0, 0.0
            for y in range(inside.shape[0]):
                for x in range(inside.shape[1]):
                    if inside[y, x]:
                        logit = np.float64(output[index, output_at + y, output_at + x, band])
                        expected = max(1.0 / (1.0 + math.exp(-logit)), floor)
                        missing = source[index, source_at + y, source_at + x, band] - expected
                        total += (missing / expected) ** 2
                        difference += missing
            score[index, model, band], residual[index, model, band] = total, difference


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
        convolution = plan(kernel, bias, side)
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
    return [np.zeros((n_objects, k, k, n), np.float32) for k, n in zip(sides, channels, strict=True)]


def forward(layers: Sequence[Layer], source: FloatArray, outputs: Sequence[FloatArray], pad: int) -> FloatArray:
    """Fill ``outputs``, one for each layer, and return the last: the network's output before the sigmoid."""
    x = source
    for layer, out in zip(layers, outputs, strict=True):
        step = layer.convolution
        convolve(x, step.kernel, step.bias, step.n_rows, step.row_at, step.column_at, layer.grow, layer.lo, pad, out)
        x = out
    return x


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
    ) -> None:
        network.check_survey(survey)
        for name, value in (("batch_size", batch_size), ("n_threads", n_threads)):
            if value < 1:
                raise SwimmyError(f"{name} {value} must be 1 or more. Correct the score section of the job.")
        self._survey = survey
        self._batch_size = batch_size
        self._n_threads = n_threads
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

    def score_counts(self, image: FloatArray, fwhm_arcsec: npt.NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
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
        """
        check_cube(image, self._survey)
        sigma = sigma_of_cutouts(image, fwhm_arcsec, self._survey)
        score = np.empty((len(image), len(self._models), self._survey.n_bands), np.float32)
        residual = np.empty_like(score)

        # numba compiles anew for each dtype and layout, so all are brought to one.
        image = np.require(image, np.float32, ["C", "W"])

        def score_every(first: int) -> None:
            memory = self._memory(min(self._batch_size, len(image)))
            for start in range(first * self._batch_size, len(image), self._n_threads * self._batch_size):
                rows = slice(start, start + self._batch_size)
                self._score_batch(image[rows], sigma[rows], memory, score[rows], residual[rows])

        if self._n_threads == 1:
            score_every(0)
        else:
            with ThreadPoolExecutor(self._n_threads) as pool:
                list(pool.map(score_every, range(self._n_threads)))
        return score, residual

    def _memory(self, n_objects: int) -> list[FloatArray]:
        """Arrays for the cutouts and layers of one batch. Where nothing is cropped, all have a border of zeros."""
        lo, hi = self._window
        return layer_memory(self._models[0], n_objects, hi - lo, self._survey.n_bands, self._pad)

    def _score_batch(
        self, image: FloatArray, sigma: DoubleArray, memory: list[FloatArray], score: FloatArray, residual: FloatArray
    ) -> None:
        survey, pad = self._survey, self._pad
        source, *outputs = (array[: len(image)] for array in memory)
        lo = self._window[0]
        bad = prepare(image, sigma, survey, lo, pad, source)
        first, last = self._aperture
        inside = survey.aperture()[first:last, first:last].copy()
        # A windowed output is the aperture alone; a whole one begins at the cutout's corner, behind its border.
        output_at = 0 if self.windowed else first + pad
        for model, layers in enumerate(self._models):
            x = forward(layers, source, outputs, pad)
            _compare_all(source, x, inside, first - lo + pad, output_at, RECONSTRUCTION_FLOOR, model, score, residual)
        score[bad] = residual[bad] = np.nan


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
