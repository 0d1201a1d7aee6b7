"""The network against the paper's shape."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from small_networks import TINY, weights_digest

from swimmy_scale.method.network import Network
from swimmy_scale.model.autoencoder import build, network_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


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


def test_noise_is_added_in_training_only():
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
