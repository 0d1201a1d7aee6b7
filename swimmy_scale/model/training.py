"""Training of the autoencoder (section 3.1), epoch by epoch. It resumes where it was interrupted."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network, Schedule
from swimmy_scale.method.survey import FloatArray, IntArray
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.devices import configure_threads, jit_compile, keras
from swimmy_scale.model.files import save
from swimmy_scale.model.training_step import Step, training_step, validation_step
from swimmy_scale.storage.files import digest_file, digest_json, make_folder, remove, write_atomically, write_json

# What random numbers are drawn for: part of their seed.
_SPLIT, _SHUFFLE, _NOISE = range(3)
_DIGEST_BLOCK_OBJECTS = 256


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch.

    ``file``, a name in the training's folder, and ``sha256`` are empty where the weights are not kept.
    """

    epoch: int
    loss: float
    val_loss: float
    learning_rate: float
    n_threads: int
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: its folder and one record for each epoch, in order."""

    directory: Path
    epochs: tuple[EpochRecord, ...]


def train(
    cubes: FloatArray,
    network: Network,
    schedule: Schedule,
    directory: Path,
    n_threads: int = 1,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> TrainingResult:
    """Train the network by the paper's schedule: Adam, mean squared error, 25 epochs (section 3.1).

    The order of objects and the noise of an epoch derive from (seed, epoch) alone, and each epoch ends with weights
    and optimiser state on disk. So a training that was killed at any moment resumes after its last finished epoch when
    it is called again, and ends with the same files as one that was not. A damaged state or weights file is found by
    its digest, and its epochs are done again.

    The folder gets ``epoch-NN.keras`` from ``keep_from_epoch`` on, ``history.csv``, ``history.json`` and
    ``state-NNN-SHA256.npz`` of the last two epochs. One process at a time may train in it.

    Equal calls give equal bytes on one kind of machine with one set of versions and one number of threads: TensorFlow
    adds gradients up in another order with 2 threads than with 1 (measured: losses differ from the sixth digit on). So
    resume with the number of threads that the training began with; the history records it.

    Parameters
    ----------
    cubes : ndarray of float32, shape (n, n_bands, size, size), in [0, 1]
        The preprocessed training class. It is not copied as a whole, only batch by batch.
    directory : Path
        Folder of this training, made if it is missing.
    n_threads : int
        Threads of TensorFlow (see `devices.configure_threads`). Another number gives slightly other weights.
    on_epoch : callable, optional
        Called with the record of each epoch that this call trained, once it is on disk.

    Returns
    -------
    TrainingResult
        With the records of all epochs, including those before a resume.

    Raises
    ------
    SwimmyError
        When the shape is wrong, a value is NaN or outside [0, 1], fewer objects than two batches are left to train
        on, the folder holds a training of other data or settings, or the loss is not finite.
    """
    settings = {"network": asdict(network), "schedule": asdict(schedule)}
    identity = digest_json({**settings, "cubes": _digest_cubes(cubes, network)})
    training_rows, validation_rows = _split(len(cubes), schedule)
    make_folder(directory)
    trainer = _untrained(network, schedule, n_threads)
    model = trainer.model
    records = _resume(directory, identity, model)
    _write_history(directory, settings, records)
    for epoch in range(len(records) + 1, schedule.epochs + 1):
        order = _prepare_epoch(model, training_rows, schedule, epoch)
        loss = _mean_loss(trainer.step, cubes, order, schedule.batch_size, f"loss is {{}} in epoch {epoch}")
        name = f"validation loss is {{}} in epoch {epoch}"
        val_loss = _mean_loss(trainer.validate, cubes, validation_rows, schedule.batch_size, name)
        file, sha256 = "", ""
        if epoch >= schedule.keep_from_epoch:
            file = f"epoch-{epoch:02d}.keras"
            sha256 = save(model, directory / file)
        records.append(EpochRecord(epoch, loss, val_loss, schedule.rate(epoch), n_threads, file, sha256))
        _save_state(directory, identity, model, records)
        _write_history(directory, settings, records)
        if on_epoch is not None:
            on_epoch(records[-1])
    _idle.clear()
    _idle[network] = trainer
    return TrainingResult(directory, tuple(records))


# --- data ------------------------------------------------------------------------------------------------------------


def _digest_cubes(cubes: FloatArray, network: Network) -> str:
    """SHA-256 of shape and values, which are checked on the way."""
    size = network.cutout_size_px
    if cubes.ndim != 4 or cubes.shape[1:] != (network.n_bands, size, size) or cubes.dtype != np.float32:
        raise SwimmyError(
            f"training cubes have shape {cubes.shape} and dtype {cubes.dtype}, the network needs (n_objects, "
            f"{network.n_bands}, {size}, {size}) and float32. Make network and survey agree."
        )
    digest = hashlib.sha256(str(cubes.shape).encode())
    for start in range(0, len(cubes), _DIGEST_BLOCK_OBJECTS):
        block = np.ascontiguousarray(cubes[start : start + _DIGEST_BLOCK_OBJECTS])
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


def _split(n_objects: int, schedule: Schedule) -> tuple[IntArray, IntArray]:
    """Rows to train on and rows to validate with, both sorted."""
    if problem := schedule.too_few(n_objects):
        raise SwimmyError(problem)
    n_validation = schedule.n_validation(n_objects)
    order = _random(schedule, _SPLIT, 0).permutation(n_objects)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def _batches(cubes: FloatArray, rows: IntArray, batch_size: int) -> Iterator[tuple[int, FloatArray]]:
    """The number of objects in each batch, and the batch with channels last."""
    for start in range(0, len(rows), batch_size):
        batch = cubes[rows[start : start + batch_size]]
        yield len(batch), np.ascontiguousarray(batch.transpose(0, 2, 3, 1))


# --- model -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trainer:
    """A compiled model with its optimiser, and what is compiled of them when they are called first."""

    model: Any
    step: Step
    validate: Step


# That of the training which ended last. The next one of this network takes it away: compiling takes a second.
_idle: dict[Network, _Trainer] = {}


def _untrained(network: Network, schedule: Schedule, n_threads: int) -> _Trainer:
    """The network before its first epoch, compiled, with its optimiser."""
    configure_threads(n_threads)
    keras.utils.set_random_seed(schedule.seed % 2**32)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    model = build(network, schedule.seed)
    if (trainer := _idle.pop(network, None)) is not None:
        trainer.model.set_weights(model.get_weights())
        for variable in trainer.model.optimizer.variables:
            variable.assign(np.zeros_like(variable))
        return trainer
    model.compile(keras.optimizers.Adam(schedule.learning_rate), "mse", jit_compile=jit_compile())
    model.optimizer.build(model.trainable_variables)
    return _Trainer(model, training_step(model), validation_step(model))


def _prepare_epoch(model: Any, rows: IntArray, schedule: Schedule, epoch: int) -> IntArray:
    """Set the epoch's learning rate and noise; returns its order of the rows."""
    model.optimizer.learning_rate = schedule.rate(epoch)
    noise = model.get_layer("noise")
    if noise.stddev > 0:
        noise.seed_generator.state.assign([int(_random(schedule, _NOISE, epoch).integers(2**31)), 0])
    return _random(schedule, _SHUFFLE, epoch).permutation(rows)


def _mean_loss(step: Step, cubes: FloatArray, rows: IntArray, batch_size: int, name: str) -> float:
    total = 0.0
    for number, (n_objects, batch) in enumerate(_batches(cubes, rows, batch_size), start=1):
        loss = float(step(batch))
        if not math.isfinite(loss):
            raise SwimmyError(
                f"training: {name.format(loss)}, batch {number}. Lower learning_rate or take another seed."
            )
        total += n_objects * loss
    return total / len(rows)


# --- files of a training ---------------------------------------------------------------------------------------------


def _state_variables(model: Any) -> list[Any]:
    return [*model.weights, *model.optimizer.variables]


def _save_state(directory: Path, identity: str, model: Any, records: list[EpochRecord]) -> None:
    """Commit an epoch: everything that the next one needs, in a file named by the digest of its content."""
    header = json.dumps({"identity": identity, "records": [asdict(record) for record in records]}).encode()
    arrays = {f"v{index:03d}": variable.numpy() for index, variable in enumerate(_state_variables(model))}
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(header, np.uint8), **arrays)
    data = buffer.getvalue()
    write_atomically(directory / f"state-{len(records):03d}-{hashlib.sha256(data).hexdigest()}.npz", data)
    for path in directory.glob("state-[0-9][0-9][0-9]-*.npz"):
        if int(path.name.split("-")[1]) < len(records) - 1:
            remove(path)


def sound_states(directory: Path) -> list[Path]:
    """The states of a training, by epoch; those that are not what their names say are removed."""
    sound = []
    for path in sorted(directory.glob("state-*-*.npz")):
        if path.is_file() and digest_file(path) == path.stem.split("-")[2]:
            sound.append(path)
        else:
            remove(path)
    return sound


def _resume(directory: Path, identity: str, model: Any) -> list[EpochRecord]:
    """Put the model into the last good state on disk; returns the records of the epochs done."""
    for leftover in directory.glob(".*.partial"):
        remove(leftover)
    for path in reversed(sound_states(directory)):
        data = path.read_bytes()
        with np.load(io.BytesIO(data), allow_pickle=False) as state:
            header = json.loads(state["header"].tobytes())
            if header["identity"] != identity:
                raise SwimmyError(
                    f"{directory}: holds a training of other data, network or schedule. Give another folder, or remove "
                    "this one."
                )
            records = [EpochRecord(**record) for record in header["records"]]
            if not all(_weights_are_intact(directory, record) for record in records):
                remove(path)
                continue
            for index, variable in enumerate(_state_variables(model)):
                variable.assign(state[f"v{index:03d}"])
        return records
    return []


def _weights_are_intact(directory: Path, record: EpochRecord) -> bool:
    path = directory / record.file
    return not record.file or (path.is_file() and digest_file(path) == record.sha256)


def _write_history(directory: Path, settings: dict[str, Any], records: list[EpochRecord]) -> None:
    epochs = [asdict(record) for record in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(epochs)
    write_atomically(directory / "history.csv", text.getvalue().encode())
    write_json(directory / "history.json", {**settings, "epochs": epochs})
