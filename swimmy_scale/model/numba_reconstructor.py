"""The network's whole reconstruction in numba, without TensorFlow: for the picture, the report, and figures.

For scores `numba_scorer` computes only what equation 6 sees, and is faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import CACHE_BATCH_OBJECTS, Network
from swimmy_scale.method.survey import FloatArray, check_source
from swimmy_scale.model.numba_scorer import Folded, checked_weights, forward, in_batches, layer_memory, network_layers

PAD = 1
"""Border of zeros around each layer: every convolution keeps the size of its input."""


class NumbaReconstructor:
    """Reconstructs preprocessed cutouts with one model. Calls from several threads do not disturb each other.

    Parameters
    ----------
    weights : sequence of (kernel, bias)
        Of the model's convolutions, as `NumbaScorer` takes those of each of its models.
    network : Network
    batch_size : int
        Objects that go through the network together; speed and memory depend on it, results do not.
    n_threads : int
        Batches that are computed at the same time, each by one thread. A single one is the calling thread.

    Raises
    ------
    SwimmyError
        When weights and network do not agree, or a weight is not finite.
    """

    def __init__(
        self, weights: Sequence[Folded], network: Network, batch_size: int = CACHE_BATCH_OBJECTS, n_threads: int = 1
    ) -> None:
        self._shape = (network.n_bands, network.cutout_size_px, network.cutout_size_px)
        self._batch_size, self._n_threads = batch_size, n_threads
        self._layers = network_layers(checked_weights(weights, network, 0), network, None)

    def __call__(self, source: FloatArray) -> FloatArray:
        """The reconstruction of preprocessed cutouts.

        An object's result does not depend on the others in the call, to the last bit.

        Parameters
        ----------
        source : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]

        Returns
        -------
        ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
            An object with a NaN pixel is NaN throughout.

        Raises
        ------
        SwimmyError
            When the cutouts have another shape, or a value outside of [0, 1].
        """
        n_bands, size, _ = self._shape
        if source.shape[1:] != self._shape:
            raise SwimmyError(
                f"cutouts have shape {source.shape}, the model takes (n_objects, {n_bands}, {size}, {size}). Use the "
                "model of this survey."
            )
        bad = check_source(source)
        result = np.empty(source.shape, np.float32)
        in_batches(
            len(source),
            self._batch_size,
            self._n_threads,
            lambda n_batch: layer_memory(self._layers, n_batch, size, n_bands, PAD),
            lambda rows, memory: self._reconstruct(source[rows], memory, result[rows]),
        )
        # ReLU and maximum may drop a NaN on its way through the layers.
        result[bad] = np.nan
        return result

    def _reconstruct(self, source: FloatArray, memory: list[FloatArray], result: FloatArray) -> None:
        first, *outputs = (array[: len(source)] for array in memory)
        inner = (slice(None), slice(PAD, -PAD), slice(PAD, -PAD))
        first[inner] = source.transpose(0, 2, 3, 1)
        logits = forward(self._layers, first, outputs, PAD)[inner].transpose(0, 3, 1, 2)
        # exp of a large number is infinite, and its reciprocal the 0 that is wanted.
        with np.errstate(over="ignore"):
            result[...] = 1 / (1 + np.exp(-logits))
