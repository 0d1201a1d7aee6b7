"""Weights read from a model file against those that Keras has."""

from __future__ import annotations

import hashlib
import io
import zipfile

import h5py
import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.files import WEIGHTS_MEMBER, folded_weights, save

TINY = Network(n_bands=2, cutout_size_px=32, encoder_filters=(6,), latent_filters=3)


def random_model(network, seed=3):
    """A network of which no weight is what Keras begins with."""
    model, rng = build(network, seed), np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.2, 1.5, value.shape).astype(np.float32) for value in model.get_weights()])
    return model


def changed(path, change):
    """Apply ``change`` to the HDF5 file in a model file; returns the new digest."""
    with zipfile.ZipFile(path) as archive:
        buffer = io.BytesIO(archive.read(WEIGHTS_MEMBER))
    with h5py.File(buffer, "r+") as file:
        change(file["layers"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(WEIGHTS_MEMBER, buffer.getvalue())
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("network", [TINY, Network(), Network(1, 16, (), 2), Network(3, 64, (4, 5, 6, 7), 2)])
def test_folding_leaves_the_network_as_it_is(tmp_path, network):
    model = random_model(network)
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


def test_an_unknown_digest_is_refused_before_parsing(tmp_path, monkeypatch):
    path = tmp_path / "a.keras"
    save(build(TINY, 0), path)

    def refuse(*_):
        raise AssertionError("parsed")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(SwimmyError, match=r"a\.keras: sha256 is [0-9a-f]{64}, the run recorded 0{64}.*restore it"):
        folded_weights(path, TINY, "0" * 64)


@pytest.mark.parametrize(
    "network",
    [
        Network(n_bands=3, cutout_size_px=32, encoder_filters=(6,), latent_filters=3),
        Network(n_bands=2, cutout_size_px=32, encoder_filters=(6,), latent_filters=4),
        Network(n_bands=2, cutout_size_px=32, encoder_filters=(6, 3), latent_filters=3),
        Network(n_bands=2, cutout_size_px=32, encoder_filters=(), latent_filters=6),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, network):
    sha256 = save(build(TINY, 0), tmp_path / "a.keras")
    with pytest.raises(SwimmyError, match=r"a\.keras: does not hold weights of Network.*Give the job's network"):
        folded_weights(tmp_path / "a.keras", network, sha256)


def _without_norm(layers):
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


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_without_norm, "does not hold weights"),
        (_without_bias, "conv2d_2 has 1 variables in place of 2"),
        (_nan, r"the model has weights that are missing, NaN or infinite\. Train it again"),
        (_negative_variance, "NaN or infinite"),
        (_overflow, "NaN or infinite"),
    ],
)
def test_broken_weights_are_refused(tmp_path, change, match):
    path = tmp_path / "a.keras"
    save(build(TINY, 0), path)
    sha256 = changed(path, change)
    with pytest.raises(SwimmyError, match=match):
        folded_weights(path, TINY, sha256)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "a.keras"
    path.write_bytes(content)
    with pytest.raises(SwimmyError, match=r"a\.keras: does not hold weights"):
        folded_weights(path, TINY, hashlib.sha256(content).hexdigest())


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SwimmyError, match=r"none\.keras: the model cannot be read .*Give the path"):
        folded_weights(tmp_path / "none.keras", TINY, "")
