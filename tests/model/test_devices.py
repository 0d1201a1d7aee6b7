"""Threads of a process that runs the network."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from small_networks import TINY

from swimmy_scale.errors import SwimmyError
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.devices import configure_threads

# Keras takes seconds to load.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("n_threads", [0, 2])
def test_threads_cannot_change_after_first_use(one_thread, n_threads):
    build(TINY)
    configure_threads(1)
    with pytest.raises(SwimmyError, match=r"n_threads 0 must be 1|already runs with 1 threads .* and 2 were asked for"):
        configure_threads(n_threads)


LOADED = """
import sys
from swimmy_scale.model.devices import keras
assert keras.backend.backend() == "tensorflow"
print(*sorted({"pandas", "jax", "matplotlib"} & set(sys.modules)))
import numpy, pandas, jax
from keras.src.trainers.data_adapters.array_slicing import can_slice_array
table = pandas.DataFrame({"a": [1.0, 2.0]})
print(can_slice_array(table), can_slice_array(table["a"]), can_slice_array({}), jax.jit(lambda x: x + 1)(2))
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(table, table["a"], verbose=0, validation_split=0.5)
"""


def test_keras_loads_neither_pandas_nor_jax_on_the_side() -> None:
    """Who loads them later has both, and Keras knows tables of pandas."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", LOADED], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["", "True True False 3"], done.stderr
    assert done.returncode == 0, done.stderr


def test_what_is_loaded_already_stays() -> None:
    code = "import sys, pandas, jax; import swimmy_scale.model.devices; print(sys.modules['pandas'] is pandas, jax.jit)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True <")
