"""The denoising autoencoder as a Keras model (section 3.1).

It is made of Keras 3 layers alone, so TensorFlow (the default), JAX and PyTorch run the same code; PyTorch is not
tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from swimmy_scale.method.network import Network
from swimmy_scale.model.devices import keras


def build(network: Network, seed: int | None = None) -> Any:
    """The untrained network (section 3.1).

    input -> GaussianNoise -> n_levels x [Conv2D 3x3 'same' -> BatchNormalization -> ReLU -> MaxPooling2D 2x2]
    -> n_levels x [Conv2D 3x3 'same' -> BatchNormalization -> ReLU -> UpSampling2D 2x] -> Conv2D 3x3, sigmoid.

    Equal seeds give equal first weights; without one they are different each time. The keras.Model is float32,
    (n, y, x, band) -> (n, y, x, band), in (0, 1). Its layers are named conv_K and norm_K, K from 1.
    """
    filters = network.convolution_filters
    seeds: list[int | None] = [None] * (len(filters) + 1)
    if seed is not None:
        seeds = [int(value) >> 1 for value in np.random.SeedSequence(seed).generate_state(len(seeds))]
    # Spelt out because a user's keras.json could change the defaults.
    common = {"dtype": "float32"}
    spatial = {"data_format": "channels_last", **common}
    size = network.cutout_size_px
    source = keras.Input((size, size, network.n_bands), dtype="float32", name="source")
    x = keras.layers.GaussianNoise(network.noise, seed=seeds[-1], name="noise", **common)(source)
    for index, n_filters in enumerate(filters, start=1):
        last = index == len(filters)
        kernel = keras.initializers.GlorotUniform(seed=seeds[index - 1])
        activation = "sigmoid" if last else None
        options = {"padding": "same", "activation": activation, "kernel_initializer": kernel, **spatial}
        x = keras.layers.Conv2D(n_filters, 3, name=f"conv_{index}", **options)(x)
        if last:
            break
        x = keras.layers.BatchNormalization(axis=-1, name=f"norm_{index}", **common)(x)
        x = keras.layers.ReLU(name=f"relu_{index}", **common)(x)
        if index <= network.n_levels:
            x = keras.layers.MaxPooling2D(2, name=f"pool_{index}", **spatial)(x)
        else:
            x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"up_{index}", **spatial)(x)
    return keras.Model(source, x, name="swimmy")


def network_of(model: Any) -> Network:
    """The `Network` that `build` made a model from."""
    _, size, _, n_bands = model.input_shape
    filters = [layer.filters for layer in model.layers if layer.name.startswith("conv_")]
    encoder = filters[: (len(filters) - 1) // 2]
    return Network(n_bands, size, tuple(encoder[:-1]), encoder[-1], model.get_layer("noise").stddev)
