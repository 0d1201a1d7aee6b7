"""Training against crashes, damage and bad data."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_networks import SHORT, TINY, make_cubes

from swimmy_scale.errors import SwimmyError
from swimmy_scale.model import files as model_files
from swimmy_scale.model import training
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.files import load
from swimmy_scale.model.training import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def cubes():
    return make_cubes()


@pytest.fixture(scope="module")
def uninterrupted(one_thread, cubes, tmp_path_factory):
    return train(cubes, TINY, SHORT, tmp_path_factory.mktemp("uninterrupted"), 1)


def files_in(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


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


def test_a_training_after_another_in_one_process_is_as_if_it_were_alone(cubes, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(training, "build", lambda *given: made.append(build(*given)) or made[-1])
    other, decided = replace(SHORT, seed=8), []
    for name, schedule in (("alone", SHORT), ("before", other), ("after", SHORT)):
        if name != "after":
            training._idle.clear()
        train(cubes, TINY, schedule, tmp_path / name, 1)
        decided.append([model is training._idle[TINY].model for model in made])
    assert decided == [[True], [False, True], [False, True, False]], "the third one took over what the second left"
    assert files_in(tmp_path / "after") == files_in(tmp_path / "alone")
    assert files_in(tmp_path / "after") != files_in(tmp_path / "before")
    train(cubes, replace(TINY, noise=TINY.noise + 0.01), SHORT, tmp_path / "noisier", 1)
    assert len(training._idle) == 1, "only the last one is kept"


class Crash(BaseException):
    """Stands for the end of the process, which no code of ours can catch."""


@pytest.mark.parametrize(
    ("n_writes", "last"),
    [(2, "state-001"), (7, "epoch-03.keras"), (8, "state-003")],
    ids=["first state", "kept weights not yet in a state", "state not yet in the history"],
)
def test_a_crash_at_any_write_changes_nothing(uninterrupted, cubes, tmp_path, monkeypatch, n_writes, last):
    real, done = training.write_atomically, []

    def failing(path, data):
        if len(done) == n_writes:
            raise Crash
        done.append(path.name)
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_atomically", failing)
        patch.setattr(model_files, "write_atomically", failing)
        with pytest.raises(Crash):
            train(cubes, TINY, SHORT, tmp_path, 1)
    assert done[-1].startswith(last)
    (tmp_path / ".state-002.npz.abc.partial").write_bytes(b"left by a killed process")
    assert train(cubes, TINY, SHORT, tmp_path, 1).epochs == uninterrupted.epochs
    assert files_in(tmp_path) == files_in(uninterrupted.directory)


@pytest.mark.parametrize("damaged", ["state-003", "state-00", "epoch-02", "history"])
def test_damage_is_found_and_repaired(uninterrupted, cubes, tmp_path, damaged):
    for name, data in files_in(uninterrupted.directory).items():
        broken = bytearray(data)
        if name.startswith(damaged):
            broken[len(data) // 3] ^= 4
        (tmp_path / name).write_bytes(broken)
    again = []
    assert train(cubes, TINY, SHORT, tmp_path, 1, on_epoch=again.append).epochs == uninterrupted.epochs
    expected = {"state-003": [3], "state-00": [1, 2, 3], "epoch-02": [1, 2, 3], "history": []}[damaged]
    assert [record.epoch for record in again] == expected
    assert files_in(tmp_path) == files_in(uninterrupted.directory)


def test_a_killed_training_resumes(uninterrupted, cubes, tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from small_networks import SHORT, TINY, make_cubes\n"
        "from swimmy_scale.model.training import train\n"
        "train(make_cubes(), TINY, SHORT, Path(sys.argv[2]), 1, on_epoch=lambda record: print(record, flush=True))\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent.parent), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert b"epoch=1" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    again = []
    assert train(cubes, TINY, SHORT, tmp_path, 1, on_epoch=again.append).epochs == uninterrupted.epochs
    assert len(again) < 3
    assert files_in(tmp_path) == files_in(uninterrupted.directory)


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
