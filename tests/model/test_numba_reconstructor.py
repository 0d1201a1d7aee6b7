"""The whole network in numba against its definition in float64, and against Keras."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import correlate
from scipy.special import expit

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.model.numba_reconstructor import NumbaReconstructor

TINY = Network(n_bands=2, cutout_size_px=16, encoder_filters=(6,), latent_filters=3)


def make_weights(network, seed):
    rng, filters = np.random.default_rng(seed), (network.n_bands, *network.convolution_filters)
    return [
        (
            rng.normal(0.0, np.sqrt(2 / (9 * n_in)), (3, 3, n_in, n_out)).astype(np.float32),
            rng.normal(0.0, 0.1, n_out).astype(np.float32),
        )
        for n_in, n_out in pairwise(filters)
    ]


def make_sources(network, n, seed=3):
    shape = (n, network.n_bands, network.cutout_size_px, network.cutout_size_px)
    sources = np.random.default_rng(seed).random(shape, np.float32)
    sources[:2] = np.array([0.0, 1.0])[: len(sources[:2]), None, None, None]
    return sources


def plain(weights, source, network):
    """The network by SciPy's correlation, channel by channel, in float64."""
    x = source.astype(np.float64)
    for index, (kernel, bias) in enumerate(weights, start=1):
        x = np.stack(
            [
                sum(
                    correlate(x[:, k], kernel[None, :, :, k, out].astype(np.float64), mode="constant")
                    for k in range(kernel.shape[2])
                )
                + bias[out]
                for out in range(kernel.shape[3])
            ],
            axis=1,
        )
        if index < len(weights):
            x = np.maximum(x, 0.0)
            if index <= network.n_levels:
                x = np.maximum(np.maximum(x[..., ::2, ::2], x[..., 1::2, ::2]),
                               np.maximum(x[..., ::2, 1::2], x[..., 1::2, 1::2]))  # fmt: skip
            else:
                x = np.kron(x, np.ones((2, 2)))
    return expit(x)


@pytest.fixture(scope="module")
def weights():
    return make_weights(TINY, 2)


@pytest.mark.parametrize(
    "network",
    [
        TINY,
        replace(TINY, encoder_filters=()),
        replace(TINY, encoder_filters=(4, 5), cutout_size_px=32),
        Network(encoder_filters=(8, 8), latent_filters=4),
        Network(n_bands=1, encoder_filters=(70, 50), latent_filters=9, cutout_size_px=24),
    ],
)
def test_any_network_is_its_definition(network):
    weights, sources = make_weights(network, 4), make_sources(network, 5)
    found = NumbaReconstructor(weights, network)(sources)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(weights, sources, network), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_papers_network_is_that_of_keras(one_thread, tmp_path):
    from small_networks import like_trained

    from swimmy_scale.model.files import folded_weights, save

    network = Network()
    model = like_trained(network, 6)
    weights = folded_weights(tmp_path / "a.keras", network, save(model, tmp_path / "a.keras"))
    sources = make_sources(network, 20)
    expected = model(sources.transpose(0, 2, 3, 1), training=False).numpy().transpose(0, 3, 1, 2)
    np.testing.assert_allclose(NumbaReconstructor(weights, network)(sources), expected, rtol=2e-5, atol=1e-6)


def test_bytes_do_not_depend_on_order_batch_or_threads(weights):
    sources = make_sources(TINY, 23)
    expected = NumbaReconstructor(weights, TINY)(sources)
    for options in ((1, 1), (7, 1), (64, 1), (2, 3), (5, 2)):
        assert NumbaReconstructor(weights, TINY, *options)(sources).tobytes() == expected.tobytes()
    order = np.random.default_rng(0).permutation(23)
    reconstruct = NumbaReconstructor(weights, TINY, 4)
    assert reconstruct(sources[order]).tobytes() == expected[order].tobytes()
    assert reconstruct(np.asfortranarray(sources)).tobytes() == expected.tobytes()
    assert reconstruct(sources[:0]).shape == (0, 2, 16, 16)


def test_an_object_with_a_nan_is_nan_throughout_and_disturbs_no_other(weights):
    sources = make_sources(TINY, 10)
    reconstruct = NumbaReconstructor(weights, TINY, 4)
    expected = reconstruct(sources)
    sources[6, 1, 3, 3] = np.nan
    found = reconstruct(sources)
    assert np.isnan(found[6]).all()
    others = [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert found[others].tobytes() == expected[others].tobytes()


def test_extreme_outputs_are_0_and_1(weights):
    last = (np.zeros_like(weights[-1][0]), np.array([-800.0, 800.0], np.float32))
    found = NumbaReconstructor([*weights[:-1], last], TINY)(make_sources(TINY, 3))
    assert (found[:, 0] == 0).all()
    assert (found[:, 1] == 1).all()


@pytest.mark.parametrize("value", [-0.001, 1.001, np.inf, -np.inf])
def test_values_outside_0_to_1_are_refused(weights, value):
    sources = make_sources(TINY, 10)
    sources[9, 1, 0, 0] = value
    with pytest.raises(SwimmyError, match=r"cutout 9 has values from .* outside \[0, 1\]\. Preprocess"):
        NumbaReconstructor(weights, TINY)(sources)


def test_what_does_not_fit_is_refused(weights):
    with pytest.raises(SwimmyError, match=r"the model takes \(n_objects, 2, 16, 16\)\. Use the model of this survey"):
        NumbaReconstructor(weights, TINY)(make_sources(TINY, 6)[:, :, :8])
    with pytest.raises(SwimmyError, match=r"model 0: kernels and biases have shapes .*Give the network that"):
        NumbaReconstructor(weights[:-1], TINY)
