"""A model file with random weights, made without Keras: for what happens to a run it need not know any galaxy."""

from __future__ import annotations

import io
import zipfile
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from swimmy_scale.method.network import Network

SMALL = Network(encoder_filters=(8, 8), latent_filters=4)
MEMBER = "model.weights.h5"


def write_model(path: Path, network: Network = SMALL, seed: int = 1) -> None:
    """Write weights where the scorer in numba looks for them in Keras's files."""
    r, stream = np.random.default_rng(seed), io.BytesIO()
    filters = (network.n_bands, *network.convolution_filters)
    with h5py.File(stream, "w") as file:
        for index, (n_in, n_out) in enumerate(pairwise(filters)):
            suffix = f"_{index}" if index else ""
            kernel = r.normal(0, (2 / (9 * n_in)) ** 0.5, (3, 3, n_in, n_out))
            layers = {f"conv2d{suffix}": [kernel, np.full(n_out, 0.05)]}
            if index + 2 < len(filters):
                layers[f"batch_normalization{suffix}"] = [np.ones(n_out), *[np.zeros(n_out)] * 2, np.ones(n_out)]
            for name, values in layers.items():
                for number, value in enumerate(values):
                    file[f"layers/{name}/vars/{number}"] = value.astype(np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), stream.getvalue())
