"""What TensorFlow sees, as JSON. This runs as a program of its own, which a broken GPU driver may end or hang."""

from __future__ import annotations

import json
from typing import Any

from swimmy_scale.model.quiet import held_stderr

SIDE = 64


def seen() -> dict[str, Any]:
    """TensorFlow's version, and its devices, each with whether it multiplies two matrices rightly."""
    with held_stderr():
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            # Others may use it, too.
            tf.config.experimental.set_memory_growth(gpu, True)
        devices = []
        for physical, logical in zip(tf.config.list_physical_devices(), tf.config.list_logical_devices(), strict=False):
            details = tf.config.experimental.get_device_details(physical) if physical.device_type == "GPU" else {}
            with tf.device(logical.name):
                product = tf.linalg.matmul(tf.ones((SIDE, SIDE)), tf.ones((SIDE, SIDE))).numpy()
            devices.append(
                {
                    "kind": physical.device_type,
                    "name": details.get("device_name", physical.device_type),
                    "computes": bool((product == SIDE).all()),
                }
            )
    return {"version": tf.__version__, "devices": devices}


if __name__ == "__main__":
    print(json.dumps(seen()))  # noqa: T201
