"""Threads and GPUs of a process that computes with the network, and calls that run on them while Python goes on."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.model.quiet import held_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, while TensorFlow is imported


@contextmanager
def _as_if_missing(name: str) -> Iterator[None]:
    """Inside the block a library that is not loaded yet cannot be imported."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


# Keras loads Matplotlib where it is installed: for nobody here, and in a fifth of the time until a worker can compute.
with held_stderr(), _as_if_missing("matplotlib"):
    import keras

__all__ = ["compiled_call", "configure_threads", "has_gpu", "keras"]

log = logging.getLogger("swimmy_scale")

Array = np.ndarray[Any, Any]
Fetch = Callable[[], list[Array]]


def has_gpu() -> bool:
    """Whether Keras's backend sees a GPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    import torch

    return bool(torch.cuda.is_available())


def compiled_call(model: Any) -> Callable[..., Fetch]:
    """A compiled form of a model that returns while a GPU still computes.

    JAX and TensorFlow put work on the GPU's queue and go on; PyTorch computes at once, by ``predict_on_batch``.

    Parameters
    ----------
    model : keras.Model
        Of several inputs and several outputs, built, that does no training.

    Returns
    -------
    callable
        Takes one array an input, always of the same shapes, and starts the computation. It returns a function that
        waits for the outputs and returns them as arrays. The arrays given must not change until then.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _jax_call(model)
    if backend == "tensorflow":
        return _tensorflow_call(model)

    def call(*arrays: Array) -> Fetch:
        results = model.predict_on_batch(list(arrays))
        return lambda: [np.asarray(result) for result in results]

    return call


def _jax_call(model: Any) -> Callable[..., Fetch]:
    import jax

    weights = [[variable.value for variable in group] for group in (model.trainable_variables,
                                                                    model.non_trainable_variables)]  # fmt: skip
    run = jax.jit(lambda weights, arrays: model.stateless_call(*weights, arrays, training=False)[0])

    def call(*arrays: Array) -> Fetch:
        results = run(weights, jax.device_put(list(arrays)))
        return lambda: [np.asarray(result) for result in results]

    return call


def _tensorflow_call(model: Any) -> Callable[..., Fetch]:
    import tensorflow as tf

    run = tf.function(lambda *arrays: model(list(arrays), training=False), autograph=False)

    def call(*arrays: Array) -> Fetch:
        results = run(*[tf.convert_to_tensor(array) for array in arrays])
        return lambda: [result.numpy() for result in results]

    return call


def configure_threads(n_threads: int, as_it_is: bool = False) -> None:
    """Limit TensorFlow to ``n_threads`` threads, and have every backend compute in float32 as it is written.

    Environment variables such as OMP_NUM_THREADS do not limit TensorFlow; other backends keep their number of threads.
    On a GPU, TF32 (10 bits of mantissa in place of 23) is off, and operations give the same bits each time, as far as
    the backend offers that. TensorFlow takes GPU memory as it is needed, not all at once.

    With ``as_it_is`` a process that has computed before keeps its number: right for scoring, whose results do not
    depend on it, as those of training do.

    Raises
    ------
    SwimmyError
        When TensorFlow has computed something already with another number; it cannot be changed then.
    """
    if n_threads < 1:
        raise SwimmyError(f"n_threads {n_threads} must be 1 or more.")
    if keras.backend.backend() == "jax":
        _configure_jax()
    elif keras.backend.backend() == "torch":
        _configure_torch()
    else:
        _configure_tensorflow(n_threads, as_it_is)


def _configure_jax() -> None:
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    flag, flags = "--xla_gpu_deterministic_ops=true", os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        # Read once, before the first computation.
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


def _configure_torch() -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def _configure_tensorflow(n_threads: int, as_it_is: bool) -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        # The network is a chain: a second operation never waits for a thread.
        tf.config.threading.set_inter_op_parallelism_threads(1)
        devices = tf.config.list_physical_devices("GPU")
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
        if devices:
            # float32 as it is written, and the same bits each time.
            tf.config.experimental.enable_tensor_float_32_execution(False)
            tf.config.experimental.enable_op_determinism()
        elif os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1"):
            log.warning("this job has a GPU and TensorFlow does not see it: it computes on the CPU")
    except RuntimeError as error:
        if as_it_is:
            return
        now = tf.config.threading.get_intra_op_parallelism_threads() or "its default number of"
        raise SwimmyError(
            f"TensorFlow already runs with {now} threads in this process, asked were {n_threads}. Set the number "
            "before the first use of a model, or start a new process."
        ) from error
