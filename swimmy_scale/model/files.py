"""The weights in a model file, read without Keras: for the CPU scorer, which needs nothing else of a model.

A .keras file is a zip whose member ``model.weights.h5`` holds the arrays. Keras numbers the layers of a kind in the
order of the network: ``layers/conv2d/vars/0`` is the kernel of the first convolution and ``1`` its bias,
``layers/batch_normalization_2/vars`` holds gamma, beta, mean and variance of the third batch normalisation.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.method.survey import DoubleArray, FloatArray
from swimmy_scale.model.autoencoder import build, network_of
from swimmy_scale.storage.files import write_atomically

WEIGHTS_MEMBER = "model.weights.h5"
NORM_EPSILON = 1e-3
"""What Keras adds to a variance by default, and `swimmy_scale.model.autoencoder.build` leaves as it is."""


def read_model_file(path: Path, sha256: str) -> bytes:
    """The bytes of a model file whose digest is the recorded one.

    Raises
    ------
    SwimmyError
        When the file cannot be read or its digest is another.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SwimmyError(f"{path}: the model cannot be read ({error}). Give the path of a trained model.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SwimmyError(
            f"{path}: sha256 is {found}, the run recorded {sha256}. The file was changed or is another model; restore "
            "it, or start a new run with it."
        )
    return data


def misfit(path: Path, network: Network, error: Exception) -> SwimmyError:
    """What to say of a model file that does not hold the weights of a network."""
    reason = " ".join(str(error).split())[:300]
    return SwimmyError(f"{path}: does not hold weights of {network} ({reason}). Give the job's network.")


def fold(
    kernel: DoubleArray, bias: DoubleArray, norm: Sequence[DoubleArray], epsilon: float
) -> tuple[DoubleArray, DoubleArray]:
    """Kernel and bias of a convolution with the batch normalisation behind it, float64 as they are given.

    gamma (w x + b - mean) / sqrt(variance + epsilon) + beta is again a convolution.

    Parameters
    ----------
    norm : sequence of ndarray of float64, shape (n_out,)
        gamma, beta, mean and variance. A negative variance gives NaN, and NumPy's warning.
    """
    gamma, beta, mean, variance = norm
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, (bias - mean) * scale + beta


def folded_weights(path: Path, network: Network, sha256: str) -> list[tuple[FloatArray, FloatArray]]:
    """Kernels and biases of a model file, with the batch normalisation folded in.

    They are folded in float64 (see `fold`). The digest is compared before anything is parsed.

    Parameters
    ----------
    path : Path
        A .keras file of `swimmy_scale.model.files.save`.
    network : Network
        What the file must hold.
    sha256 : str
        Digest of the whole file, as recorded when it was written.

    Returns
    -------
    list of (kernel, bias)
        One pair a convolution, in order: float32, shapes (3, 3, n_in, n_out) and (n_out,).

    Raises
    ------
    SwimmyError
        When the file is missing, its digest is another, its weights do not fit the network or are not finite.
    """
    path = Path(path)
    data = read_model_file(path, sha256)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.read(WEIGHTS_MEMBER)
        with h5py.File(io.BytesIO(member), "r") as file:
            folded = _folded_layers(file["layers"], network)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise misfit(path, network, error) from error
    if not all(np.isfinite(value).all() for pair in folded for value in pair):
        raise SwimmyError(f"{path}: the model has weights that are missing, NaN or infinite. Train it again.")
    return folded


def _folded_layers(layers: Any, network: Network) -> list[tuple[FloatArray, FloatArray]]:
    n_convolutions = len(network.convolution_filters)
    found = sum(name.startswith("conv2d") for name in layers)
    if found != n_convolutions:
        raise ValueError(f"{found} convolutions in place of {n_convolutions}")
    folded = []
    for index, (n_in, n_out) in enumerate(pairwise((network.n_bands, *network.convolution_filters))):
        suffix = f"_{index}" if index else ""
        kernel, bias = _variables(layers, f"conv2d{suffix}", (3, 3, n_in, n_out), (n_out,))
        if index + 1 < n_convolutions:
            norm = _variables(layers, f"batch_normalization{suffix}", *[(n_out,)] * 4)
            # A negative variance, which is no variance, becomes NaN and is refused with the others.
            with np.errstate(invalid="ignore"):
                kernel, bias = fold(kernel, bias, norm, NORM_EPSILON)
        with np.errstate(over="ignore"):
            folded.append((kernel.astype(np.float32), bias.astype(np.float32)))
    return folded


def _variables(layers: Any, name: str, *shapes: tuple[int, ...]) -> list[npt.NDArray[np.float64]]:
    variables = layers[name]["vars"]
    if len(variables) != len(shapes):
        raise ValueError(f"{name} has {len(variables)} variables in place of {len(shapes)}")
    values = [np.asarray(variables[f"{k}"], np.float64) for k in range(len(shapes))]
    found = tuple(value.shape for value in values)
    if found != shapes:
        raise ValueError(f"{name} has shapes {found} in place of {shapes}")
    return values


_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


# --- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def _keras_deprecations_ignored() -> Iterator[None]:
    # Keras 3 converts TensorFlow variables in a way that numpy 2 warns about.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield


def weights_digest(model: Any) -> str:
    """SHA-256 of a model's weights: their names, shapes and values. It does not depend on any file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for weight, value in zip(model.weights, model.get_weights(), strict=True):
        digest.update(f"{weight.path} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _without_object_ids(config: Any) -> Any:
    # Keras writes the memory addresses of shared objects into the configuration.
    if isinstance(config, dict):
        return {key: _without_object_ids(value) for key, value in config.items() if key != "shared_object_id"}
    if isinstance(config, list):
        return [_without_object_ids(value) for value in config]
    return config


def save(model: Any, path: Path) -> str:
    """Write a model of `build` as a .keras file, atomically. Equal weights give equal bytes.

    The file holds architecture and weights, not the optimiser. Times are set to a constant.

    Returns
    -------
    str
        SHA-256 of the file, as `load` wants it.
    """
    plain = build(network_of(model), seed=0)
    plain.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory() as folder, _keras_deprecations_ignored():
        original = Path(folder) / "model.keras"
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
    write_atomically(Path(path), data)
    return hashlib.sha256(data).hexdigest()


def load(path: Path, network: Network, sha256: str) -> Any:
    """Read a model's weights into the architecture of `build`.

    The digest is compared before anything is parsed. Then only the member with the weights is read: they are arrays,
    and Keras checks their shapes. The configuration in the file, which Keras could turn into objects and so into code
    (``safe_mode`` has been bypassed more than once), is not looked at.

    Parameters
    ----------
    path : Path
        A .keras file.
    network : Network
        What the file must hold.
    sha256 : str
        Digest of the whole file, as recorded when it was written.

    Returns
    -------
    keras.Model
        As from `build`, not compiled.

    Raises
    ------
    SwimmyError
        When the file is missing, its digest is another, its weights do not fit the network or are not finite.
    """
    path = Path(path)
    data = read_model_file(path, sha256)
    model = build(network, seed=0)
    # Keras only warns about some layers that the file lacks; whatever it left unread stays NaN and is refused below.
    model.set_weights([np.full_like(value, np.nan) for value in model.get_weights()])
    try:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(data)) as archive:
            weights = Path(folder) / WEIGHTS_MEMBER
            weights.write_bytes(archive.read(WEIGHTS_MEMBER))
            with _keras_deprecations_ignored():
                warnings.simplefilter("error", UserWarning)
                model.load_weights(weights)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, UserWarning) as error:
        raise misfit(path, network, error) from error
    if not all(np.isfinite(value).all() for value in model.get_weights()):
        raise SwimmyError(f"{path}: the model has weights that are missing, NaN or infinite. Train it again.")
    return model
