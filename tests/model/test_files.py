"""Model files: saved, loaded with Keras, read without it, and refused."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
from small_networks import TINY, like_trained, weights_digest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.model import files
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.files import WEIGHTS_MEMBER, folded_weights, load, save

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

both_readers = pytest.mark.parametrize("read", [load, folded_weights])


@pytest.fixture(scope="module")
def model(one_thread):
    return build(TINY, 3)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A model file, which no test changes."""
    path = tmp_path_factory.mktemp("saved") / "a.keras"
    save(model, path)
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


# --- saving and loading ----------------------------------------------------------------------------------------------


def test_a_saved_model_comes_back(model, tmp_path):
    sha256 = save(model, tmp_path / "a.keras")
    assert sha256 == digest(tmp_path / "a.keras")
    assert weights_digest(load(tmp_path / "a.keras", TINY, sha256)) == weights_digest(model)
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


def test_equal_weights_give_equal_bytes(model, saved, tmp_path):
    other = build(TINY, 4)
    other.set_weights(model.get_weights())
    assert save(other, tmp_path / "b.keras") == digest(saved)
    with zipfile.ZipFile(saved) as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "1980-01-01@00:00:00"
        assert b"shared_object_id" not in archive.read("config.json")


def test_keras_itself_can_open_the_file(model, saved):
    import keras

    opened = keras.saving.load_model(saved, compile=False, safe_mode=True)
    assert weights_digest(opened) == weights_digest(model)


def test_a_configuration_with_code_is_never_looked_at(model, saved, tmp_path):
    lambda_layer = {"class_name": "Lambda", "config": {"function": "os.system"}, "module": "keras.layers"}
    path = tmp_path / "b.keras"
    write_members(path, {**members(saved), "config.json": json.dumps(lambda_layer).encode()})
    assert weights_digest(load(path, TINY, digest(path))) == weights_digest(model)


@pytest.mark.parametrize("network", [TINY, Network(), Network(1, 16, (), 2), Network(3, 64, (4, 5, 6, 7), 2)])
def test_folding_leaves_the_network_as_it_is(tmp_path, network):
    model = like_trained(network, 3)
    folded = folded_weights(tmp_path / "a.keras", network, save(model, tmp_path / "a.keras"))
    assert all(value.dtype == np.float32 for pair in folded for value in pair)
    for index, (kernel, bias) in enumerate(folded, start=1):
        expected_kernel, expected_bias = (
            value.astype(np.float64) for value in model.get_layer(f"conv_{index}").get_weights()
        )
        if index < len(folded):
            norm = model.get_layer(f"norm_{index}")
            gamma, beta, mean, variance = (value.astype(np.float64) for value in norm.get_weights())
            scale = gamma / np.sqrt(variance + norm.epsilon)
            expected_kernel, expected_bias = expected_kernel * scale, beta + (expected_bias - mean) * scale
        np.testing.assert_allclose(kernel, expected_kernel, rtol=1e-7)
        np.testing.assert_allclose(bias, expected_bias, rtol=1e-6)


# --- refusals --------------------------------------------------------------------------------------------------------


@both_readers
def test_an_unknown_digest_is_refused_before_parsing(saved, tmp_path, monkeypatch, read):
    path, data = tmp_path / "a.keras", bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    def parsed(*_args, **_kwargs):
        raise AssertionError("the file was parsed")

    monkeypatch.setattr(files.zipfile, "ZipFile", parsed)
    recorded = digest(saved)
    message = rf"a\.keras: its sha256 is [0-9a-f]{{64}}, {recorded} was recorded.*give the right one"
    with pytest.raises(SwimmyError, match=message):
        read(path, TINY, recorded)


@both_readers
@pytest.mark.parametrize(
    "network",
    [
        replace(TINY, n_bands=3),
        replace(TINY, latent_filters=3),
        replace(TINY, encoder_filters=(4, 4)),
        replace(TINY, encoder_filters=(), latent_filters=4),
    ],
)
def test_weights_of_another_network_are_refused(saved, network, read):
    with pytest.raises(SwimmyError, match=r"a\.keras: does not hold weights of Network.*Give the job's network"):
        read(saved, network, digest(saved))


def _without_first_norm(layers):
    del layers["batch_normalization"]


def _without_second_norm(layers):
    del layers["batch_normalization_1"]


def _without_bias(layers):
    del layers["conv2d_2/vars/1"]


def _nan(layers):
    layers["conv2d/vars/0"][0, 0, 0, 0] = np.nan


def _negative_variance(layers):
    layers["batch_normalization_2/vars/3"][0] = -1.0


def _overflow(layers):
    layers["batch_normalization/vars/0"][0] = 1e30
    layers["conv2d/vars/0"][0, 0, 0, 0] = 1e30


NO_WEIGHTS, NOT_FINITE = (
    r"b\.keras: does not hold weights",
    r"b\.keras: the model has weights that are missing, NaN or inf",
)


@pytest.mark.parametrize(
    ("change", "read", "match"),
    [
        (_without_first_norm, load, f"{NO_WEIGHTS}|{NOT_FINITE}"),
        (_without_first_norm, folded_weights, NO_WEIGHTS),
        (_without_second_norm, folded_weights, NO_WEIGHTS),
        (_without_bias, folded_weights, "conv2d_2 has 1 variables in place of 2"),
        (_nan, load, NOT_FINITE),
        (_nan, folded_weights, NOT_FINITE + r"inite\. Train it again"),
        (_negative_variance, folded_weights, NOT_FINITE),
        (_overflow, folded_weights, NOT_FINITE),
    ],
)
def test_broken_weights_are_refused(saved, tmp_path, change, read, match):
    path, weights = tmp_path / "b.keras", tmp_path / WEIGHTS_MEMBER
    weights.write_bytes(members(saved)[WEIGHTS_MEMBER])
    with h5py.File(weights, "r+") as file:
        change(file["layers"])
    write_members(path, {WEIGHTS_MEMBER: weights.read_bytes()})
    with pytest.raises(SwimmyError, match=match):
        read(path, TINY, digest(path))


@both_readers
@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_model_is_refused(tmp_path, content, read):
    path = tmp_path / "a.keras"
    path.write_bytes(content)
    with pytest.raises(SwimmyError, match=r"a\.keras: does not hold weights"):
        read(path, TINY, digest(path))


@both_readers
def test_a_missing_file_is_refused(tmp_path, read):
    with pytest.raises(SwimmyError, match=r"none\.keras: the model cannot be read .*Give the path"):
        read(tmp_path / "none.keras", TINY, "0" * 64)


def test_a_model_that_is_nan_throughout_is_refused(model, tmp_path):
    broken = build(TINY, 3)
    broken.set_weights([value * np.float32("nan") for value in model.get_weights()])
    sha256 = save(broken, tmp_path / "b.keras")
    with pytest.raises(SwimmyError, match=NOT_FINITE):
        load(tmp_path / "b.keras", TINY, sha256)
