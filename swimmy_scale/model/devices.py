"""Threads and GPUs of a process that runs the network, and model calls that return while a GPU still computes."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError, check_installed
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.model.quiet import held_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, on import


@contextmanager
def _as_if_missing(name: str) -> Iterator[None]:
    """Make the import of a library fail inside the block, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


class _TypeOfPandas(type):
    """A class that stands for the one of its name in pandas: nothing is of it before somebody has loaded pandas."""

    def __instancecheck__(cls, value: object) -> bool:
        pandas = sys.modules.get("pandas")
        return pandas is not None and isinstance(value, getattr(pandas, cls.__name__))


@contextmanager
def _stand_in_for_pandas() -> Iterator[None]:
    """Inside the block ``import pandas`` gives two classes to compare types with, unless pandas is loaded already.

    Keras loads it only to know whether what it is to train on is a table; that works as before, in either order.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = stand_in = ModuleType("pandas")
    for name in ("Series", "DataFrame"):
        setattr(stand_in, name, _TypeOfPandas(name, (), {}))
    try:
        yield
    finally:
        del sys.modules["pandas"]


class _JaxForItsBackends(MetaPathFinder):
    """Says that JAX is missing until one of Keras's backends that compute with it is being loaded.

    Elsewhere TensorFlow Lite and a callback of Keras load it, to be ready for models of JAX.
    """

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Refuse JAX, or leave it and all else to the other finders."""
        if fullname == "jax" and not {"keras.src.backend.jax", "keras.src.backend.numpy"} & sys.modules.keys():
            raise ModuleNotFoundError("JAX is loaded for Keras's backends that need it", name=fullname)


@contextmanager
def _jax_for_its_backends() -> Iterator[None]:
    finder = _JaxForItsBackends()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """All that is loaded stays, and looking through it again and again would take a tenth of the time."""
    usual = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if usual:
            gc.enable()


check_installed("training, or scoring by Keras,", "train", "keras")
# Nothing here needs what Keras and TensorFlow load on the side: it takes a third of a worker's time to start.
with (
    held_stderr(),
    _as_if_missing("matplotlib"),
    _stand_in_for_pandas(),
    _jax_for_its_backends(),
    _without_garbage_collection(),
):
    import keras

__all__ = ["compiled_call", "configure_threads", "has_gpu", "jit_compile", "keras"]

log = logging.getLogger("swimmy_scale")

Fetch = Callable[[], list[AnyArray]]


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


def jit_compile() -> bool:
    """Whether Keras should compile with XLA: JAX needs it, TensorFlow on a CPU is a quarter slower with it."""
    return bool(keras.backend.backend() == "jax")


def compiled_call(model: Any) -> Callable[..., Fetch]:
    """Compile a model into a call that returns while a GPU still computes.

    JAX and TensorFlow queue the work on the GPU and return; PyTorch, which is not tested, computes within the call.

    Parameters
    ----------
    model : keras.Model
        Built, with several inputs and several outputs. It is called for inference only.

    Returns
    -------
    callable
        Takes one array for each input, always of the same shapes, and starts the computation. It returns a function
        that waits for the outputs and returns them as arrays. The arrays given must not change until then.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _jax_call(model)
    if backend == "tensorflow":
        return _tensorflow_call(model)

    def call(*arrays: AnyArray) -> Fetch:
        results = model.predict_on_batch(list(arrays))
        return lambda: [np.asarray(result) for result in results]

    return call


def _jax_call(model: Any) -> Callable[..., Fetch]:
    import jax

    groups = (model.trainable_variables, model.non_trainable_variables)
    weights = [[variable.value for variable in group] for group in groups]
    run = jax.jit(lambda weights, arrays: model.stateless_call(*weights, arrays, training=False)[0])

    def call(*arrays: AnyArray) -> Fetch:
        results = run(weights, jax.device_put(list(arrays)))
        return lambda: [np.asarray(result) for result in results]

    return call


def _tensorflow_call(model: Any) -> Callable[..., Fetch]:
    import tensorflow as tf

    run = tf.function(lambda *arrays: model(list(arrays), training=False), autograph=False)

    def call(*arrays: AnyArray) -> Fetch:
        results = run(*[tf.convert_to_tensor(array) for array in arrays])
        return lambda: [result.numpy() for result in results]

    return call


def configure_threads(n_threads: int, as_it_is: bool = False) -> None:
    """Limit TensorFlow to ``n_threads`` threads, and have every backend compute in full float32.

    Environment variables such as OMP_NUM_THREADS do not limit TensorFlow; other backends keep their number of threads.
    On a GPU, TF32 (10 bits of mantissa in place of 23) is off, and operations give the same bits each time, as far as
    the backend offers that. TensorFlow takes GPU memory as it needs it, not all at once.

    With ``as_it_is`` a process that has already computed keeps the number it has: scores do not depend on it, training
    does.

    Raises
    ------
    SwimmyError
        When TensorFlow has already computed with another number: it cannot be changed then.
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
        # XLA reads it once, before the first computation.
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
        # The network is a chain of operations: no two of them could run side by side.
        tf.config.threading.set_inter_op_parallelism_threads(1)
        devices = tf.config.list_physical_devices("GPU")
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
        if devices:
            # Full float32, and the same bits each time.
            tf.config.experimental.enable_tensor_float_32_execution(False)
            tf.config.experimental.enable_op_determinism()
        elif os.environ.get("CUDA_VISIBLE_DEVICES", "-1") not in ("", "-1"):
            log.warning("this job has a GPU and TensorFlow does not see it: it computes on the CPU")
    except RuntimeError as error:
        if as_it_is:
            return
        now = tf.config.threading.get_intra_op_parallelism_threads() or "its default number of"
        raise SwimmyError(
            f"TensorFlow already runs with {now} threads in this process, and {n_threads} were asked for. Set the "
            "number before the first use of a model, or start a new process."
        ) from error
