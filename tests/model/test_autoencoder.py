"""The network against the paper's shape, its files against tampering, its training against crashes."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network, Schedule
from swimmy_scale.model import files as model_files
from swimmy_scale.model import training
from swimmy_scale.model.autoencoder import build, network_of
from swimmy_scale.model.devices import configure_threads
from swimmy_scale.model.files import load, save, weights_digest
from swimmy_scale.model.training import train

TINY = Network(n_bands=2, cutout_size_px=16, encoder_filters=(4,), latent_filters=2, noise=0.1)
SHORT = Schedule(epochs=3, batch_size=8, keep_from_epoch=2, decay_after_epoch=2, seed=7)


def make_cubes(n=30):
    """Blobs in 16 px. Used by the process that is killed as well, so it must not draw from shared state."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:16, :16] - 7.5
    profile = np.exp(-np.hypot(x, y) / rng.uniform(1.0, 4.0, (n, 1, 1, 1)))
    noise = rng.normal(0.0, 0.02, (n, 2, 16, 16))
    return np.clip(0.05 + rng.uniform(0.1, 1.0, (n, 2, 1, 1)) * profile + noise, 0.0, 1.0).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    configure_threads(1)


@pytest.fixture(scope="module")
def cubes():
    return make_cubes()


@pytest.fixture(scope="module")
def uninterrupted(cubes, tmp_path_factory):
    return train(cubes, TINY, SHORT, tmp_path_factory.mktemp("uninterrupted"), 1)


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- network ---------------------------------------------------------------------------------------------------------


def test_the_papers_network():
    model = build(Network())
    shapes = [
        tuple(layer.output.shape[1:]) for layer in model.layers if layer.name.startswith(("pool", "up", "conv_7"))
    ]
    assert shapes == [(32, 32, 64), (16, 16, 32), (8, 8, 8), (16, 16, 8), (32, 32, 32), (64, 64, 64), (64, 64, 5)]
    # Kernels 3 x 3 x in x out + bias, and 4 numbers a channel of each normalisation.
    filters = [5, 64, 32, 8, 8, 32, 64, 5]
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(filters))
    assert model.count_params() == convolutions + 4 * sum(filters[1:-1])
    order = [type(layer).__name__ for layer in model.layers]
    assert order[:6] == ["InputLayer", "GaussianNoise", "Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D"]
    assert order[-5:] == ["Conv2D", "BatchNormalization", "ReLU", "UpSampling2D", "Conv2D"]


def test_noise_is_added_in_training_only(cubes):
    layer = build(replace(TINY, noise=0.5)).get_layer("noise")
    zeros = np.zeros((4, 16, 16, 2), np.float32)
    assert np.std(layer(zeros, training=True).numpy()) == pytest.approx(0.5, rel=0.1)
    assert not layer(zeros).numpy().any()


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    digests = [weights_digest(build(TINY, seed)) for seed in (1, 1, 2, None, None)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


@pytest.mark.parametrize("network", [Network(), TINY, Network(3, 32, (), 4, 0.0), Network(1, 64, (8, 6, 5), 2, 0.03)])
def test_network_of_finds_what_build_was_given(network):
    model = build(network)
    assert network_of(model) == network
    assert model.output_shape == model.input_shape


def test_weights_digest_sees_every_weight():
    model = build(TINY, 0)
    before = weights_digest(model)
    seen = {before}
    for index in range(len(model.weights)):
        values = build(TINY, 0).get_weights()
        values[index] = values[index] + np.float32(1e-3)
        model.set_weights(values)
        seen.add(weights_digest(model))
    assert len(seen) == len(model.weights) + 1


@pytest.mark.parametrize("n_threads", [0, 2])
def test_threads_cannot_change_after_first_use(n_threads):
    build(TINY)
    configure_threads(1)
    with pytest.raises(SwimmyError, match=r"n_threads 0 must be 1|already runs with 1 threads .* and 2 were asked"):
        configure_threads(n_threads)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_saved_model_comes_back(tmp_path):
    model = build(TINY, 3)
    sha256 = save(model, tmp_path / "a.keras")
    assert sha256 == hashlib.sha256((tmp_path / "a.keras").read_bytes()).hexdigest()
    loaded = load(tmp_path / "a.keras", TINY, sha256)
    assert weights_digest(loaded) == weights_digest(model)
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


def test_equal_weights_give_equal_bytes(tmp_path):
    first = save(build(TINY, 3), tmp_path / "a.keras")
    model = build(TINY, 4)
    model.set_weights(build(TINY, 3).get_weights())
    assert save(model, tmp_path / "b.keras") == first
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "1980-01-01@00:00:00"
        assert b"shared_object_id" not in archive.read("config.json")


def test_keras_itself_can_open_the_file(tmp_path):
    import keras

    model = build(TINY, 3)
    save(model, tmp_path / "a.keras")
    opened = keras.saving.load_model(tmp_path / "a.keras", compile=False, safe_mode=True)
    assert weights_digest(opened) == weights_digest(model)


def test_an_unknown_digest_is_refused_before_parsing(tmp_path, monkeypatch):
    path = tmp_path / "a.keras"
    sha256 = save(build(TINY, 3), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    def parsed(*_args, **_kwargs):
        raise AssertionError("the file was parsed")

    monkeypatch.setattr(model_files.zipfile, "ZipFile", parsed)
    with pytest.raises(SwimmyError, match=rf"a\.keras: sha256 is [0-9a-f]{{64}}, the run recorded {sha256}"):
        load(path, TINY, sha256)


def test_a_configuration_with_code_is_never_looked_at(tmp_path):
    model = build(TINY, 3)
    save(model, tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    lambda_layer = {"class_name": "Lambda", "config": {"function": "os.system"}, "module": "keras.layers"}
    members["config.json"] = json.dumps(lambda_layer).encode()
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    sha256 = hashlib.sha256((tmp_path / "b.keras").read_bytes()).hexdigest()
    assert weights_digest(load(tmp_path / "b.keras", TINY, sha256)) == weights_digest(model)


@pytest.mark.parametrize(
    "network",
    [replace(TINY, latent_filters=3), replace(TINY, encoder_filters=(4, 4)), replace(TINY, n_bands=3)],
)
def test_weights_of_another_network_are_refused(tmp_path, network):
    sha256 = save(build(TINY, 3), tmp_path / "a.keras")
    with pytest.raises(SwimmyError, match=r"a\.keras: does not hold weights of Network"):
        load(tmp_path / "a.keras", network, sha256)


def test_a_file_without_some_weights_is_refused(tmp_path):
    save(build(TINY, 3), tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        weights = tmp_path / "model.weights.h5"
        weights.write_bytes(archive.read(weights.name))
    with h5py.File(weights, "r+") as file:
        del file["layers/batch_normalization"]
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        archive.write(weights, weights.name)
    sha256 = hashlib.sha256((tmp_path / "b.keras").read_bytes()).hexdigest()
    with pytest.raises(SwimmyError, match=r"b\.keras: (does not hold weights|the model has weights that are missing)"):
        load(tmp_path / "b.keras", TINY, sha256)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "a.keras").write_bytes(content)
    with pytest.raises(SwimmyError, match="does not hold weights"):
        load(tmp_path / "a.keras", TINY, hashlib.sha256(content).hexdigest())


def test_a_missing_file_and_nan_weights_are_refused(tmp_path):
    with pytest.raises(SwimmyError, match=r"none\.keras: the model cannot be read"):
        load(tmp_path / "none.keras", TINY, "0" * 64)
    model = build(TINY, 3)
    model.set_weights([value * np.float32("nan") for value in model.get_weights()])
    sha256 = save(model, tmp_path / "nan.keras")
    with pytest.raises(SwimmyError, match=r"nan\.keras: the model has weights that are missing, NaN"):
        load(tmp_path / "nan.keras", TINY, sha256)


# --- training --------------------------------------------------------------------------------------------------------


def test_training_leaves_what_it_promises(uninterrupted, cubes):
    directory, epochs = uninterrupted.directory, uninterrupted.epochs
    assert [record.epoch for record in epochs] == [1, 2, 3]
    assert [record.file for record in epochs] == ["", "epoch-02.keras", "epoch-03.keras"]
    assert [record.learning_rate for record in epochs] == [1e-3, 1e-3, 2e-4]
    assert epochs[2].loss < epochs[0].loss
    for record in epochs[1:]:
        assert hashlib.sha256((directory / record.file).read_bytes()).hexdigest() == record.sha256
    names = sorted(path.name[:9] for path in directory.iterdir())
    assert names == ["epoch-02.", "epoch-03.", "history.c", "history.j", "state-002", "state-003"]
    with (directory / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    history = json.loads((directory / "history.json").read_text())
    for row, entry, record in zip(rows, history["epochs"], epochs, strict=True):
        assert float(row["val_loss"]) == entry["val_loss"] == record.val_loss
        assert row["sha256"] == record.sha256
    assert history["schedule"]["seed"] == 7
    # The recorded validation loss is the mean squared error of the saved weights on a fifth of the objects.
    model = load(directory / "epoch-03.keras", TINY, epochs[2].sha256)
    source = cubes.transpose(0, 2, 3, 1)
    error = np.square(model(source, training=False).numpy() - source).mean(axis=(1, 2, 3))
    order = np.random.default_rng([7, 0, 0]).permutation(30)
    assert epochs[2].val_loss == pytest.approx(error[order[:6]].mean(), rel=1e-5)


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "n_writes", [2, 6, 7], ids=["first state", "kept weights not yet in a state", "state not yet in the history"]
)
def test_a_crash_at_any_write_changes_nothing(uninterrupted, cubes, tmp_path, monkeypatch, n_writes):
    real, done = training.write_atomically, []

    def failing(path, data):
        if len(done) == n_writes:
            raise Crash
        done.append(path)
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_atomically", failing)
        with pytest.raises(Crash):
            train(cubes, TINY, SHORT, tmp_path, 1)
    (tmp_path / ".state-002.npz.abc.partial").write_bytes(b"left by a killed process")
    assert train(cubes, TINY, SHORT, tmp_path, 1).epochs == uninterrupted.epochs
    assert files(tmp_path) == files(uninterrupted.directory)


@pytest.mark.parametrize("damaged", ["state-003", "state-00", "epoch-02", "history"])
def test_damage_is_found_and_repaired(uninterrupted, cubes, tmp_path, damaged):
    for name, data in files(uninterrupted.directory).items():
        broken = bytearray(data)
        if name.startswith(damaged):
            broken[len(data) // 3] ^= 4
        (tmp_path / name).write_bytes(broken)
    again = []
    assert train(cubes, TINY, SHORT, tmp_path, 1, on_epoch=again.append).epochs == uninterrupted.epochs
    expected = {"state-003": [3], "state-00": [1, 2, 3], "epoch-02": [1, 2, 3], "history": []}[damaged]
    assert [record.epoch for record in again] == expected
    assert files(tmp_path) == files(uninterrupted.directory)


def test_a_killed_training_goes_on(uninterrupted, cubes, tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_autoencoder import *\n"
        "train(make_cubes(), TINY, SHORT, Path(sys.argv[2]), 1, on_epoch=lambda record: print(record, flush=True))\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert b"epoch=1" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    again = []
    assert train(cubes, TINY, SHORT, tmp_path, 1, on_epoch=again.append).epochs == uninterrupted.epochs
    assert len(again) < 3
    assert files(tmp_path) == files(uninterrupted.directory)


def test_another_seed_gives_other_weights_and_needs_another_folder(uninterrupted, cubes, tmp_path):
    other = replace(SHORT, seed=8, epochs=1, keep_from_epoch=1)
    assert train(cubes, TINY, other, tmp_path, 1).epochs[0].loss != uninterrupted.epochs[0].loss
    with pytest.raises(SwimmyError, match="holds a training of other data, network or schedule"):
        train(cubes, TINY, replace(other, seed=9), tmp_path, 1)
    with pytest.raises(SwimmyError, match="holds a training of other data"):
        train(cubes[:-1], TINY, other, tmp_path, 1)


def test_a_loss_that_is_not_finite_stops_the_training(cubes, tmp_path):
    wild = replace(SHORT, learning_rate=1e38)
    with pytest.raises(SwimmyError, match=r"loss is (nan|inf) in epoch 1"):
        train(cubes, TINY, wild, tmp_path, 1)
    assert not list(tmp_path.glob("state-*"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda cubes: cubes[:19], "19 training objects leave 15 to train on; at least two batches of 8"),
        (lambda cubes: cubes[:0], "0 training objects"),
        (lambda cubes: cubes[:, :1], r"shape \(30, 1, 16, 16\)"),
        (lambda cubes: cubes.astype(np.float64), "dtype float64"),
        (lambda cubes: np.where(np.arange(30)[:, None, None, None] == 4, np.float32("nan"), cubes), "training cube 4"),
        (lambda cubes: cubes * np.float32(1.01) + np.float32(0.5), "outside"),
    ],
)
def test_bad_training_data_are_refused(cubes, tmp_path, change, match):
    with pytest.raises(SwimmyError, match=match):
        train(change(cubes), TINY, SHORT, tmp_path, 1)
