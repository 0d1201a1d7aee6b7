"""Small networks with known weights, and images to train them on."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from swimmy_scale.method.network import Network, Schedule
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.devices import configure_threads

TINY = Network(n_bands=2, cutout_size_px=16, encoder_filters=(4,), latent_filters=2, noise=0.1)
SHORT = Schedule(epochs=3, batch_size=8, keep_from_epoch=2, decay_after_epoch=2, seed=7)


def make_cubes(n: int = 30) -> np.ndarray:
    """Blobs for `TINY`. They are the same in every process."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:16, :16] - 7.5
    profile = np.exp(-np.hypot(x, y) / rng.uniform(1.0, 4.0, (n, 1, 1, 1)))
    noise = rng.normal(0.0, 0.02, (n, 2, 16, 16))
    return np.clip(0.05 + rng.uniform(0.1, 1.0, (n, 2, 1, 1)) * profile + noise, 0.0, 1.0).astype(np.float32)


def build_on_one_thread(network: Network, seed: int) -> Any:
    """The model, made after TensorFlow was set to one thread.

    TensorFlow keeps the number of threads of its first use. A file that built a model with the default number would
    decide it for the whole process, and all later files that train in it with one thread would fail.
    """
    configure_threads(1)
    return build(network, seed)


def like_trained(network: Network, seed: int) -> Any:
    """A model whose biases and batch normalisations are of the size that training leaves."""
    model, rng = build_on_one_thread(network, seed), np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name.startswith("norm_"):
            shape = layer.get_weights()[0].shape
            gamma, variance = rng.uniform(0.5, 1.5, shape), rng.uniform(0.05, 2.0, shape)
            layer.set_weights([gamma, rng.normal(0, 0.3, shape), rng.normal(0, 0.3, shape), variance])
        elif layer.name.startswith("conv_"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(0, 0.2, bias.shape)])
    return model


def weights_digest(model: Any) -> str:
    """SHA-256 of the names, shapes and values of a model's weights."""
    digest = hashlib.sha256()
    for weight, value in zip(model.weights, model.get_weights(), strict=True):
        digest.update(f"{weight.path} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
