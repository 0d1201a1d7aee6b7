"""Model files: saving and loading them with Keras, and reading their weights without it.

A model file is data here, never code. Its digest is compared before anything is parsed, and then only the weights are
read. The architecture comes from the `Network` of the job. The configuration in the file, from which Keras could build
objects and so run code (``safe_mode`` has been bypassed more than once), is never read.

A .keras file is a zip whose member ``model.weights.h5`` holds the arrays. Keras numbers the layers of a kind in the
order of the network: ``layers/conv2d/vars/0`` is the kernel of the first convolution and ``1`` its bias,
``layers/batch_normalization_2/vars`` holds gamma, beta, mean and variance of the third batch normalisation.

The numba scorer needs `folded_weights` alone and runs without TensorFlow, so `save` and `load` import Keras themselves.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.method.survey import AnyArray, DoubleArray, FloatArray
from swimmy_scale.storage.files import errors_name, read_bytes, write_atomically

WEIGHTS_MEMBER = "model.weights.h5"
NORM_EPSILON = 1e-3
"""What a batch normalisation adds to its variance: the default of Keras, which `autoencoder.build` keeps."""
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


# --- with Keras ------------------------------------------------------------------------------------------------------


def save(model: Any, path: Path) -> str:
    """Write a model of `autoencoder.build` as a .keras file, atomically. Equal weights give equal bytes.

    The file holds architecture and weights, not the optimiser. Times are set to a constant. Returns the SHA-256 of the
    file, which readers must give.
    """
    from swimmy_scale.model.autoencoder import build, network_of

    plain = build(network_of(model), seed=0)
    plain.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as folder, _keras_deprecations_ignored():
        original = Path(folder) / "model.keras"
        with errors_name(original):
            plain.save(original)
        with zipfile.ZipFile(original) as archive:
            members = {name: archive.read(name) for name in sorted(archive.namelist())}
    members["config.json"] = json.dumps(_without_object_ids(json.loads(members["config.json"]))).encode()
    metadata = {**json.loads(members["metadata.json"]), "date_saved": "1980-01-01@00:00:00"}
    members["metadata.json"] = json.dumps(metadata).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    data = buffer.getvalue()
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def load(path: Path, network: Network, sha256: str) -> Any:
    """Build a network and give it the weights of a model file; the model is not compiled.

    ``sha256`` is the digest of the whole file, as recorded when it was written.

    Raises
    ------
    SwimmyError
        When the file is missing, its digest is another, its weights do not fit the network or are not finite.
    """
    from swimmy_scale.model.autoencoder import build

    data = read_model_file(path, sha256)
    model = build(network, seed=0)
    # Keras only warns of some layers that the file lacks. What it does not read stays NaN and is refused below.
    model.set_weights([np.full_like(value, np.nan) for value in model.get_weights()])
    member = _weights_member(path, network, data)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS_MEMBER
        with errors_name(weights):
            weights.write_bytes(member)
        try:
            with _keras_deprecations_ignored():
                warnings.simplefilter("error", UserWarning)
                model.load_weights(weights)
        except (OSError, KeyError, ValueError, UserWarning) as error:
            raise _other_network(path, network, error) from error
    _check_finite(path, model.get_weights())
    return model


@contextmanager
def _keras_deprecations_ignored() -> Iterator[None]:
    # Keras 3 converts TensorFlow variables in a way that NumPy 2 warns about.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield


def _without_object_ids(config: Any) -> Any:
    # Keras writes the memory addresses of shared objects into the configuration.
    if isinstance(config, dict):
        return {key: _without_object_ids(value) for key, value in config.items() if key != "shared_object_id"}
    if isinstance(config, list):
        return [_without_object_ids(value) for value in config]
    return config


# --- without Keras ---------------------------------------------------------------------------------------------------


def folded_weights(path: Path, network: Network, sha256: str) -> list[tuple[FloatArray, FloatArray]]:
    """Kernels and biases of a model file, with each batch normalisation folded in (in float64, by `fold_norm`).

    Arguments and errors are those of `load`. There is one pair for each convolution, in order: float32, shapes
    (3, 3, n_in, n_out) and (n_out,).
    """
    member = _weights_member(path, network, read_model_file(path, sha256))
    try:
        with h5py.File(io.BytesIO(member), "r") as file:
            folded = _folded_layers(file["layers"], network)
    except (OSError, KeyError, ValueError) as error:
        raise _other_network(path, network, error) from error
    _check_finite(path, (value for pair in folded for value in pair))
    return folded


def _weights_member(path: Path, network: Network, data: bytes) -> bytes:
    """The HDF5 file in the bytes of a model file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.read(WEIGHTS_MEMBER)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _other_network(path, network, error) from error


def fold_norm(
    kernel: DoubleArray, bias: DoubleArray, norm: Sequence[DoubleArray], epsilon: float
) -> tuple[DoubleArray, DoubleArray]:
    """Kernel and bias of a convolution together with the batch normalisation behind it.

    gamma (w x + b - mean) / sqrt(variance + epsilon) + beta is again a convolution.

    Parameters
    ----------
    kernel : ndarray of float64, shape (3, 3, n_in, n_out)
    bias : ndarray of float64, shape (n_out,)
    norm : sequence of ndarray of float64, shape (n_out,)
        gamma, beta, mean and variance. A negative variance gives NaN, and NumPy's warning.
    """
    gamma, beta, mean, variance = norm
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, (bias - mean) * scale + beta


def _folded_layers(layers: Any, network: Network) -> list[tuple[FloatArray, FloatArray]]:
    n_convolutions = len(network.convolution_filters)
    found = sum(name.startswith("conv2d") for name in layers)
    if found != n_convolutions:
        raise ValueError(f"{found} convolutions in place of {n_convolutions}")
    folded = []
    for index, (n_in, n_out) in enumerate(pairwise((network.n_bands, *network.convolution_filters))):
        suffix = f"_{index}" if index else ""
        kernel, bias = _layer_arrays(layers, f"conv2d{suffix}", (3, 3, n_in, n_out), (n_out,))
        if index + 1 < n_convolutions:
            norm = _layer_arrays(layers, f"batch_normalization{suffix}", *[(n_out,)] * 4)
            # A negative variance, which no training makes, becomes NaN and is refused with the others.
            with np.errstate(invalid="ignore"):
                kernel, bias = fold_norm(kernel, bias, norm, NORM_EPSILON)
        with np.errstate(over="ignore"):
            folded.append((kernel.astype(np.float32), bias.astype(np.float32)))
    return folded


def _layer_arrays(layers: Any, name: str, *shapes: tuple[int, ...]) -> list[DoubleArray]:
    variables = layers[name]["vars"]
    if len(variables) != len(shapes):
        raise ValueError(f"{name} has {len(variables)} variables in place of {len(shapes)}")
    values = [np.asarray(variables[f"{k}"], np.float64) for k in range(len(shapes))]
    found = tuple(value.shape for value in values)
    if found != shapes:
        raise ValueError(f"{name} has shapes {found} in place of {shapes}")
    return values


# --- for both readers ------------------------------------------------------------------------------------------------


def read_model_file(path: Path, sha256: str) -> bytes:
    """The bytes of a model file.

    Raises
    ------
    SwimmyError
        When it cannot be read, or its digest is not the recorded one.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise SwimmyError(f"{path}: the model cannot be read ({error}). Give the path of a trained model.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SwimmyError(
            f"{path}: its sha256 is {found}, {sha256} was recorded. The file was changed or is another one; give the "
            "right one, or train again."
        )
    return data


def _other_network(path: Path, network: Network, error: Exception) -> SwimmyError:
    """The error of a model file that does not hold the weights of a network; ``error`` says why."""
    reason = " ".join(str(error).split())[:300]
    return SwimmyError(f"{path}: does not hold weights of {network} ({reason}). Give the job's network.")


def _check_finite(path: Path, weights: Iterable[AnyArray]) -> None:
    if not all(np.isfinite(value).all() for value in weights):
        raise SwimmyError(f"{path}: the model has weights that are missing, NaN or infinite. Train it again.")
