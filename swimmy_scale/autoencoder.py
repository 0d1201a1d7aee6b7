"""The denoising autoencoder: the network, its training, and its files (section 3.1).

Keras 3 throughout, so TensorFlow (the default), JAX and PyTorch can run it. A model file is data here, never code:
the architecture comes from `build`, only the weights come from the file, and only after its digest was checked.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.devices import configure_threads, keras
from swimmy_scale.errors import SwimmyError
from swimmy_scale.network import Network, Schedule
from swimmy_scale.receipts import digest_file, digest_json, write_atomically, write_json
from swimmy_scale.survey import FloatArray
from swimmy_scale.weights import WEIGHTS_MEMBER, misfit, read_model_file

HISTORY_COLUMNS = ("epoch", "loss", "val_loss", "learning_rate", "n_threads", "file", "sha256")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_CHECK_BLOCK_OBJECTS = 256
_SPLIT, _SHUFFLE, _NOISE = range(3)


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch. ``file`` (a name in the training's folder) and ``sha256`` are empty where none is kept."""

    epoch: int
    loss: float
    val_loss: float
    learning_rate: float
    n_threads: int
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: its folder and one record an epoch, in order."""

    directory: Path
    epochs: tuple[EpochRecord, ...]


def build(network: Network, seed: int | None = None) -> Any:
    """The untrained network (section 3.1).

    input -> GaussianNoise -> n_levels x [Conv2D 3x3 'same' -> BatchNormalization -> ReLU -> MaxPooling2D 2x2]
    -> n_levels x [Conv2D 3x3 'same' -> BatchNormalization -> ReLU -> UpSampling2D 2x] -> Conv2D 3x3, sigmoid.

    Parameters
    ----------
    network : Network
    seed : int, optional
        Gives the same first weights each time. None draws them anew.

    Returns
    -------
    keras.Model
        float32, (n, y, x, band) -> (n, y, x, band), in (0, 1). Layers are named conv_K and norm_K, K from 1.
    """
    filters = network.convolution_filters
    seeds: list[int | None] = [None] * (len(filters) + 1)
    if seed is not None:
        seeds = [int(value) >> 1 for value in np.random.SeedSequence(seed).generate_state(len(seeds))]
    # Everything that a user's keras.json could change is spelt out.
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
    """The `Network` that a model of `build` was made from."""
    _, size, _, n_bands = model.input_shape
    filters = [layer.filters for layer in model.layers if layer.name.startswith("conv_")]
    encoder = filters[: (len(filters) - 1) // 2]
    return Network(n_bands, size, tuple(encoder[:-1]), encoder[-1], model.get_layer("noise").stddev)


def jit_compile() -> bool:
    """Whether Keras shall compile with XLA: JAX needs it, TensorFlow on a CPU is a quarter slower with it."""
    return bool(keras.backend.backend() == "jax")


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


# --- training --------------------------------------------------------------------------------------------------------


def train(
    cubes: FloatArray,
    network: Network,
    schedule: Schedule,
    directory: Path,
    n_threads: int = 1,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """Train the network by the paper's schedule: Adam, mean squared error, 25 epochs (section 3.1).

    Every epoch derives its order of objects and its noise from (seed, epoch) alone, and ends with weights and
    optimiser state on disk. So a training that was killed at any moment goes on from its last finished epoch when it
    is called again, and ends with the same files as one that was not. A damaged state or weights file is found by its
    digest and the epochs are done again.

    The folder gets ``epoch-NN.keras`` from ``keep_from_epoch`` on, ``history.csv``, ``history.json`` and
    ``state-NNN-SHA256.npz`` of the last two epochs. One process at a time may train in it.

    Equal calls give equal bytes on one kind of machine with one set of versions. The number of threads is part of
    that: TensorFlow adds gradients up in another order with 2 threads than with 1 (measured: losses differ from the
    sixth digit on), so resume with the number that the training began with. The history records it.

    Parameters
    ----------
    cubes : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        The preprocessed training class. It is not copied; batches are gathered from it.
    network : Network
    schedule : Schedule
    directory : Path
        Folder of this training; made where it is missing.
    n_threads : int
        Threads of TensorFlow, see `configure_threads`. Another number gives slightly other weights.
    on_epoch : callable, optional
        Called with the record of every epoch that this call trained, once it is on disk.

    Returns
    -------
    TrainingResult
        Records of all epochs, those before a resume included.

    Raises
    ------
    SwimmyError
        When the shape is wrong, a value is NaN or outside [0, 1], there are fewer objects than two batches to train
        on, the folder holds a training of other data or settings, or the loss is not finite.
    """
    directory = Path(directory)
    identity = digest_json(
        {"network": asdict(network), "schedule": asdict(schedule), "cubes": _digest_cubes(cubes, network)}
    )
    training_rows, validation_rows = _split(len(cubes), schedule)
    directory.mkdir(parents=True, exist_ok=True)
    model = _trainee(network, schedule, n_threads)
    records = _resume(directory, identity, model)
    _write_history(directory, network, schedule, records)
    for epoch in range(len(records) + 1, schedule.epochs + 1):
        loss = _train_epoch(model, cubes, training_rows, schedule, epoch)
        val_loss = _validate(model, cubes, validation_rows, schedule, epoch)
        file, sha256 = "", ""
        if epoch >= schedule.keep_from_epoch:
            file = f"epoch-{epoch:02d}.keras"
            sha256 = save(model, directory / file)
        records.append(EpochRecord(epoch, loss, val_loss, schedule.rate(epoch), n_threads, file, sha256))
        _save_state(directory, identity, model, records)
        _write_history(directory, network, schedule, records)
        if on_epoch is not None:
            on_epoch(records[-1])
    return TrainingResult(directory, tuple(records))


def _digest_cubes(cubes: FloatArray, network: Network) -> str:
    size = network.cutout_size_px
    if cubes.ndim != 4 or cubes.shape[1:] != (network.n_bands, size, size) or cubes.dtype != np.float32:
        raise SwimmyError(
            f"training cubes have shape {cubes.shape} and dtype {cubes.dtype}, the network needs (n_objects, "
            f"{network.n_bands}, {size}, {size}) and float32. Make network and survey agree."
        )
    digest = hashlib.sha256(str(cubes.shape).encode())
    for start in range(0, len(cubes), _CHECK_BLOCK_OBJECTS):
        block = np.ascontiguousarray(cubes[start : start + _CHECK_BLOCK_OBJECTS])
        if not (block.min() >= 0.0 and block.max() <= 1.0):
            good = ((block >= 0.0) & (block <= 1.0)).all(axis=(1, 2, 3))
            raise SwimmyError(
                f"training cube {start + int(np.argmin(good))} has values that are NaN or outside [0, 1]. "
                "Preprocess the cutouts and leave quarantined objects out."
            )
        digest.update(block)
    return digest.hexdigest()


def _random(schedule: Schedule, purpose: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([schedule.seed, purpose, epoch])


def _split(n_objects: int, schedule: Schedule) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to train on and rows to validate with, both sorted."""
    n_validation = max(1, round(n_objects * schedule.validation_fraction))
    n_training = n_objects - n_validation
    if n_training < 2 * schedule.batch_size:
        raise SwimmyError(
            f"{n_objects} training objects leave {n_training} to train on; at least two batches of "
            f"{schedule.batch_size} are needed. Widen the training class or lower batch_size."
        )
    order = _random(schedule, _SPLIT, 0).permutation(n_objects)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def _trainee(network: Network, schedule: Schedule, n_threads: int) -> Any:
    configure_threads(n_threads)
    keras.utils.set_random_seed(schedule.seed % 2**32)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    model = build(network, schedule.seed)
    model.compile(keras.optimizers.Adam(schedule.learning_rate), "mse", jit_compile=jit_compile())
    model.optimizer.build(model.trainable_variables)
    return model


def _batches(cubes: FloatArray, rows: npt.NDArray[np.int64], batch_size: int) -> Iterator[tuple[int, FloatArray]]:
    """Batches, channels last, each with its number of objects."""
    for start in range(0, len(rows), batch_size):
        batch = cubes[rows[start : start + batch_size]]
        yield len(batch), np.ascontiguousarray(batch.transpose(0, 2, 3, 1))


def _train_epoch(model: Any, cubes: FloatArray, rows: npt.NDArray[np.int64], schedule: Schedule, epoch: int) -> float:
    model.optimizer.learning_rate = schedule.rate(epoch)
    noise = model.get_layer("noise")
    if noise.stddev > 0:
        noise.seed_generator.state.assign([int(_random(schedule, _NOISE, epoch).integers(2**31)), 0])
    order = _random(schedule, _SHUFFLE, epoch).permutation(rows)
    total = 0.0
    for number, (n_objects, batch) in enumerate(_batches(cubes, order, schedule.batch_size), start=1):
        total += n_objects * _finite(model.train_on_batch(batch, batch), "loss", epoch, number)
    return total / len(rows)


def _validate(model: Any, cubes: FloatArray, rows: npt.NDArray[np.int64], schedule: Schedule, epoch: int) -> float:
    total = 0.0
    for number, (n_objects, batch) in enumerate(_batches(cubes, rows, schedule.batch_size), start=1):
        model.reset_metrics()
        total += n_objects * _finite(model.test_on_batch(batch, batch), "validation loss", epoch, number)
    return total / len(rows)


def _finite(loss: Any, name: str, epoch: int, batch: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise SwimmyError(
            f"training: {name} is {value} in epoch {epoch}, batch {batch}. Lower learning_rate or take another seed."
        )
    return value


# --- state of a training ---------------------------------------------------------------------------------------------


def _variables(model: Any) -> list[Any]:
    return [*model.weights, *model.optimizer.variables]


def _save_state(directory: Path, identity: str, model: Any, records: list[EpochRecord]) -> None:
    """Commit an epoch: everything the next one needs, under a name that carries the content's digest."""
    header = json.dumps({"identity": identity, "records": [asdict(record) for record in records]}).encode()
    arrays = {f"v{index:03d}": variable.numpy() for index, variable in enumerate(_variables(model))}
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(header, np.uint8), **arrays)
    data = buffer.getvalue()
    write_atomically(directory / f"state-{len(records):03d}-{hashlib.sha256(data).hexdigest()}.npz", data)
    for path in directory.glob("state-*.npz"):
        if int(path.name.split("-")[1]) < len(records) - 1:
            path.unlink(missing_ok=True)


def _resume(directory: Path, identity: str, model: Any) -> list[EpochRecord]:
    """Put the model where the last good state left it; the records of the epochs done."""
    for leftover in directory.glob(".*.partial"):
        leftover.unlink(missing_ok=True)
    for path in sorted(directory.glob("state-*-*.npz"), reverse=True):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.stem.split("-")[2]:
            path.unlink()
            continue
        with np.load(io.BytesIO(data), allow_pickle=False) as state:
            header = json.loads(state["header"].tobytes())
            if header["identity"] != identity:
                raise SwimmyError(
                    f"{directory}: holds a training of other data, network or schedule. Give another folder, or remove "
                    "this one."
                )
            records = [EpochRecord(**record) for record in header["records"]]
            if not all(_kept(directory, record) for record in records):
                path.unlink()
                continue
            for index, variable in enumerate(_variables(model)):
                variable.assign(state[f"v{index:03d}"])
        return records
    return []


def _kept(directory: Path, record: EpochRecord) -> bool:
    path = directory / record.file
    return not record.file or (path.is_file() and digest_file(path) == record.sha256)


def _write_history(directory: Path, network: Network, schedule: Schedule, records: list[EpochRecord]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HISTORY_COLUMNS)
    writer.writerows([getattr(record, column) for column in HISTORY_COLUMNS] for record in records)
    write_atomically(directory / "history.csv", text.getvalue().encode())
    write_json(
        directory / "history.json",
        {
            "network": asdict(network),
            "schedule": asdict(schedule),
            "epochs": [asdict(record) for record in records],
        },
    )
