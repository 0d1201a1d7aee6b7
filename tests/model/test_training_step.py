"""The faster steps against Keras's own."""

from __future__ import annotations

import numpy as np
import pytest
from small_networks import TINY

from swimmy_scale.method.network import Network
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.devices import keras
from swimmy_scale.model.training_step import training_step, validation_step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def compiled(network: Network):
    model = build(network, seed=3)
    # Not Adam, which makes large steps of gradients that are nothing but rounding, as a bias before a norm has.
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    # Values that tell every part of the network apart from the others; fresh ones are zeros and ones.
    rng = np.random.default_rng(5)
    model.set_weights(
        [w + rng.uniform(0.1, 0.2, w.shape) * (1 if index % 2 else -1) for index, w in enumerate(model.get_weights())]
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(np.abs(layer.moving_variance.numpy()) + 0.5)
    return model


@pytest.mark.parametrize(
    "network",
    [
        TINY,
        Network(n_bands=1, cutout_size_px=8, encoder_filters=(3,), latent_filters=1),
        Network(n_bands=5, cutout_size_px=16, encoder_filters=(4, 3, 6), latent_filters=2, noise=0.1),
    ],
    ids=["tiny", "one band", "four levels"],
)
def test_steps_are_those_of_keras(network: Network) -> None:
    n, size = network.n_bands, network.cutout_size_px
    source = np.random.default_rng(1).random((9, size, size, n), np.float32)
    batches = [source[:4], source[4:8], source[8:]]  # the last batch of an epoch is smaller
    ours, theirs = compiled(network), compiled(network)
    step, validate = training_step(ours), validation_step(ours)
    for batch in (*batches, *batches):
        assert float(validate(batch)) == pytest.approx(theirs.test_on_batch(batch, batch), rel=1e-5)
        assert float(step(batch)) == pytest.approx(theirs.train_on_batch(batch, batch), rel=1e-5)
    for variable, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), rtol=1e-4, atol=1e-6, err_msg=variable.path)
    for variable, other in zip(compiled(network).trainable_variables, ours.trainable_variables, strict=True):
        is_inert = "bias" in variable.path  # but for the last: batch normalisation takes it away
        assert is_inert or np.abs(variable.numpy() - other.numpy()).max() > 1e-4, variable.path
