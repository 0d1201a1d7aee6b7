"""Threads and GPUs of a process that computes with the network."""

from __future__ import annotations

import logging
import os

from swimmy_scale.errors import SwimmyError
from swimmy_scale.quiet import held_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, while TensorFlow is imported

with held_stderr():
    import keras

__all__ = ["configure_threads", "keras"]

log = logging.getLogger("swimmy_scale")


def configure_threads(n_threads: int, as_it_is: bool = False) -> None:
    """Limit TensorFlow to ``n_threads`` threads. Does nothing for another backend, or when it is so already.

    Environment variables such as OMP_NUM_THREADS do not limit it. GPU memory is taken as it is needed, not all at
    once. With ``as_it_is`` a process that has computed before keeps its number: right for scoring, whose results
    do not depend on it, as those of training do.

    Raises
    ------
    SwimmyError
        When TensorFlow has computed something already with another number; it cannot be changed then.
    """
    if n_threads < 1:
        raise SwimmyError(f"n_threads {n_threads} must be 1 or more.")
    if keras.backend.backend() != "tensorflow":
        return
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
