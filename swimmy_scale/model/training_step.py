"""One step of training, and the loss of validation: Keras's own, or on TensorFlow the same with faster operations.

On TensorFlow two parts of the network are computed in another way than Keras computes them, equal but for rounding:

- Batch normalisation is TensorFlow's fused operation. Keras spells it out in a dozen operations, each of which carries
  the largest layer through memory.
- The last upsampling and the convolution behind it are one convolution of the small image, which has few channels and a
  smaller kernel, and whose outputs are then dealt out to the pixels.

A step takes two thirds of the time, measured on a CPU. The upsamplings before the last gain nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swimmy_scale.method.survey import FloatArray
from swimmy_scale.model.devices import keras

Step = Callable[[FloatArray], Any]
"""Takes a batch, float32 (n, y, x, band), and returns its mean squared error."""

# Rows: which of a 3-pixel kernel's rows meet the first and the second of the two small pixels that an enlarged pixel
# depends on. First for its even rows as `depth_to_space` counts them here, behind a border of one pixel, then its odd.
_TAPS = (((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)), ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)))


def training_step(model: Any) -> Step:
    """A call that changes a compiled model's weights by its optimiser, as ``model.train_on_batch`` does."""
    if keras.backend.backend() != "tensorflow":
        return lambda batch: model.train_on_batch(batch, batch)
    import tensorflow as tf

    variables = model.trainable_variables

    def step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = _loss(model, batch, training=True)
        model.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return _compiled(model, step)


def validation_step(model: Any) -> Step:
    """A call that gives the loss without noise, by the moving statistics, as ``model.test_on_batch`` does."""
    if keras.backend.backend() != "tensorflow":
        return lambda batch: model.test_on_batch(batch, batch)
    return _compiled(model, lambda batch: _loss(model, batch, training=False))


def _compiled(model: Any, function: Step) -> Step:
    """One graph for batches of any size: an epoch's last one is smaller, and tracing takes seconds."""
    import tensorflow as tf

    batch = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    compiled: Step = tf.function(function, input_signature=[batch], autograph=False)
    return compiled


def _loss(model: Any, batch: Any, training: bool) -> Any:
    import tensorflow as tf

    x = batch
    last_enlarging = [layer for layer in model.layers if isinstance(layer, keras.layers.UpSampling2D)][-1]
    layers = iter(model.layers[1:])
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            x = _normalised(layer, x, training)
        elif layer is last_enlarging:
            x = _enlarged_and_convolved(next(layers), x)
        else:
            x = layer(x, training=training)
    return tf.reduce_mean(tf.math.squared_difference(x, batch))


def _normalised(layer: Any, x: Any, training: bool) -> Any:
    """What a layer of batch normalisation does, its moving statistics included."""
    import tensorflow as tf

    statistics = {} if training else {"mean": layer.moving_mean, "variance": layer.moving_variance}
    normalised, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        x, layer.gamma, layer.beta, epsilon=layer.epsilon, is_training=training, **statistics
    )
    if training:
        # TensorFlow gives the variance of the population that the batch is a sample of, Keras keeps the batch's.
        n_values = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        of_batch = variance * ((n_values - 1.0) / n_values)
        for moving, new in ((layer.moving_mean, mean), (layer.moving_variance, of_batch)):
            moving.assign(moving * layer.momentum + new * (1.0 - layer.momentum))
    return normalised


def _enlarged_and_convolved(convolution: Any, x: Any) -> Any:
    """A 3x3 convolution, 'same', of ``x`` with each pixel repeated as 2x2.

    Each output pixel sees 2x2 pixels of ``x``; whether it is in an even or odd row and column says with which sums of
    the kernel's rows and columns. All four kinds of pixels are channels of one convolution.
    """
    import tensorflow as tf

    taps = tf.constant(_TAPS)
    kernel = tf.einsum("atk,bul,klio->tuiabo", taps, taps, tf.convert_to_tensor(convolution.kernel))
    n_in, n_out = convolution.kernel.shape[2:]
    bordered = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    kinds = tf.nn.conv2d(bordered, tf.reshape(kernel, (2, 2, n_in, 4 * n_out)), 1, "VALID")
    pixels = tf.nn.depth_to_space(kinds, 2)[:, 1:-1, 1:-1]
    return convolution.activation(pixels + tf.convert_to_tensor(convolution.bias))
