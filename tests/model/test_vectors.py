"""Vectors of compiled functions against NumPy, lane by lane."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import numba
import numpy as np
import pytest

from swimmy_scale.model import vectors
from swimmy_scale.model.vectors import (
    LANES,
    compiled,
    exponential,
    fma,
    larger,
    load,
    load_part,
    logarithm,
    magnitude,
    narrowed,
    put,
    root,
    smaller,
    spread,
    spread_at,
    spread_double,
    store,
    store_part,
    widened,
    zeros,
)

ROOT = vectors.__file__.removesuffix("/swimmy_scale/model/vectors.py")
PARTS = (-LANES, -1, 0, 1, LANES - 1, LANES, LANES + 1, 3 * LANES)


def numbers(n, dtype, seed=1):
    """Of all sizes and both signs."""
    rng = np.random.default_rng(seed)
    return (rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-6, 6, n)).astype(dtype)


def over_all(operation, *arrays):
    """The operation on whole vectors of arrays."""
    lanes = compiled(operation)

    @compiled
    def one(a, out):
        for k in range(0, len(a), LANES):
            store(out, k, lanes(load(a, k)))

    @compiled
    def two(a, b, out):
        for k in range(0, len(a), LANES):
            store(out, k, lanes(load(a, k), load(b, k)))

    @compiled
    def three(a, b, c, out):
        for k in range(0, len(a), LANES):
            store(out, k, lanes(load(a, k), load(b, k), load(c, k)))

    out = np.empty_like(arrays[0])
    (one, two, three)[len(arrays) - 1](*arrays, out)
    return out


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", PARTS)
def test_a_part_touches_its_lanes_alone(dtype, n):
    @compiled
    def copy(a, n, out):
        store_part(out, 3, n, load_part(a, 1, n))

    @compiled
    def copy_by_put(a, n, out):
        put(out, 3, n, load_part(a, 1, n))

    @compiled
    def fill(a, n, out):
        store(out, 3, load_part(a, 1, n))

    a, lanes = numbers(4 * LANES, dtype), min(max(n, 0), LANES)
    expected = np.full(4 * LANES, np.nan, dtype)
    expected[3 : 3 + lanes] = a[1 : 1 + lanes]
    for function in (copy, copy_by_put):
        out = np.full_like(a, np.nan)
        function(a, n, out)
        assert out.tobytes() == expected.tobytes()
    fill(a, n, out)
    expected[3 + lanes : 3 + LANES] = 0.0  # lanes that were not read
    assert out.tobytes() == expected.tobytes()


def test_a_part_at_the_end_of_an_array_does_not_read_behind_it():
    # A page that cannot be read follows the array's memory.
    code = """
import ctypes, mmap, sys, numpy as np
from tests.model.test_vectors import LANES, compiled, load_part, store_part
@compiled
def copy(a, n, out):
    store_part(out, 0, n, load_part(a, len(a) - n, n))
memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
a = np.frombuffer(memory, np.float32, mmap.PAGESIZE // 4)
a[-3:] = 1, 2, 3
out = np.zeros(LANES, np.float32)
copy(a, 3, out)
print(out[:4].tolist(), flush=True)
import os; os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "[1.0, 2.0, 3.0, 0.0]\n", done.stderr


def test_spreading():
    @compiled
    def spreading(a, out, double):
        store(out, 0, spread(a[1]))
        store(out, LANES, spread_at(a, 2))
        store(out, 2 * LANES, spread(0.1))
        store(double, 0, spread_double(0.1))

    out, double = np.empty(3 * LANES, np.float32), np.empty(LANES)
    spreading(np.array([1, 2.5, 3.25], np.float32), out, double)
    assert out.reshape(3, LANES).tolist() == [[2.5] * LANES, [3.25] * LANES, [float(np.float32(0.1))] * LANES]
    assert double.tolist() == [0.1] * LANES


@pytest.mark.parametrize("n", [1, 7, 16, 1000])
def test_zeros_start_at_a_line_of_the_cache(n):
    for memory in (zeros(n), zeros.py_func(n)):
        assert memory.dtype == np.float32
        assert memory.shape == (n,)
        assert not memory.any()
        assert memory.ctypes.data % 64 == 0
        assert memory.flags.c_contiguous


# --- arithmetic ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda a, b: a + b, np.add),
        (lambda a, b: a - b, np.subtract),
        (lambda a, b: a * b, np.multiply),
        (lambda a, b: a / b, np.divide),
        (lambda a, b: larger(a, b), np.maximum),
        (lambda a, b: smaller(a, b), np.minimum),
        (lambda a, b: magnitude(a), lambda a, b: np.abs(a)),
        (lambda a, b: root(magnitude(a)), lambda a, b: np.sqrt(np.abs(a))),
        # Two operations round twice.
        (lambda a, b: a * b + a, lambda a, b: a * b + a),
    ],
)
def test_operations_are_those_of_numpy(dtype, operation, expected):
    a, b = numbers(64 * LANES, dtype), numbers(64 * LANES, dtype, 2)
    assert over_all(operation, a, b).tobytes() == expected(a, b).tobytes()


def test_fma_rounds_once():
    a, b = numbers(64 * LANES, np.float32), numbers(64 * LANES, np.float32, 2)
    c = -(a * b)  # what is left is the rounding of the product, exact in float64
    exact = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
    assert over_all(lambda a, b, c: fma(a, b, c), a, b, c).tolist() == exact.tolist()
    for a, b, left in ((1.0 + 2.0**-30, 1.0 - 2.0**-30, -(2.0**-60)), (3.0, 1.0 / 3.0, -(2.0**-54))):
        whole = [np.full(LANES, value) for value in (a, b, -1.0)]
        assert over_all(lambda a, b, c: fma(a, b, c), *whole).tolist() == [left] * LANES


def test_nan_of_the_second_is_kept():
    a, b = np.zeros(LANES, np.float32), np.full(LANES, np.nan, np.float32)
    for operation in (lambda a, b: larger(a, b), lambda a, b: smaller(a, b)):
        assert np.isnan(over_all(operation, a, b)).all()
        assert over_all(operation, b, a).tolist() == a.tolist()


def test_both_precisions():
    @compiled
    def there_and_back(a, out, double):
        wide = widened(load(a, 0))
        store(double, 0, wide * wide)
        store(out, 0, narrowed(wide * wide))

    a, out, double = numbers(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES)
    there_and_back(a, out, double)
    exact = a.astype(np.float64) ** 2
    assert double.tolist() == exact.tolist()
    assert out.tolist() == exact.astype(np.float32).tolist()


# --- logarithm and exponential ---------------------------------------------------------------------------------------


def test_logarithm():
    n = 4096 * LANES
    near_one, far = np.linspace(0.5, 2.0, n), np.geomspace(1e-300, 1e300, n)
    steps = np.nextafter(np.sqrt(2.0) * 2.0 ** np.arange(-8.0, LANES - 8.0), [[0.0], [np.inf]])  # where e changes
    for a in (near_one, far, 1.0 + np.geomspace(1e-15, 0.1, n), *steps):
        np.testing.assert_allclose(over_all(lambda a: logarithm(a), a), np.log(a), rtol=1e-10, atol=0)
    assert over_all(lambda a: logarithm(a), np.ones(LANES)).tolist() == [0.0] * LANES


def test_exponential():
    a = np.linspace(-699.9, 699.9, 4096 * LANES)
    np.testing.assert_allclose(over_all(lambda a: exponential(a), a), np.exp(a), rtol=1e-11)
    tiny = np.geomspace(1e-18, 1.0, 4096 * LANES)
    np.testing.assert_allclose(over_all(lambda a: exponential(a), -tiny), np.exp(-tiny), rtol=1e-11)
    assert over_all(lambda a: exponential(a), np.zeros(LANES)).tolist() == [1.0] * LANES


# --- compiling -------------------------------------------------------------------------------------------------------


def test_a_function_that_cannot_be_kept_on_disk_is_compiled_all_the_same():
    def twice(x):
        return 2 * x

    twice.__code__ = twice.__code__.replace(co_filename="/nowhere/at_all.py")
    assert compiled(twice, keep=True)(21) == 42


@pytest.mark.slow
def test_machine_code_of_other_sources_is_not_taken(tmp_path):
    package, cache = tmp_path / "swimmy_scale", tmp_path / "cache"
    shutil.copytree(f"{ROOT}/swimmy_scale", package, ignore=shutil.ignore_patterns("__pycache__"))
    # Smaller than what scores, and so compiled sooner.
    (package / "model" / "larger_one.py").write_text("""
import numpy as np
from swimmy_scale.model.vectors import LANES, compiled, larger, load, store

def _write_larger(a, b, out):
    store(out, 0, larger(load(a, 0), load(b, 0)))

write_larger = compiled(_write_larger, keep=True)
""")
    code = """
import numpy as np
from swimmy_scale.model.larger_one import LANES, write_larger
out = np.empty(LANES, np.float32)
write_larger(np.ones(LANES, np.float32), np.zeros(LANES, np.float32), out)
print(*set(out.tolist()))
"""

    def result():
        environment = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(cache), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert result() == 1.0
    # `larger` is of another module than the function that is kept.
    path = package / "model" / "vectors.py"
    path.write_text(path.read_text().replace('builder.fcmp_ordered(">"', 'builder.fcmp_ordered("<"'))
    assert result() == 0.0
    assert len(list(cache.rglob("*.nbc"))) == 2


@pytest.mark.parametrize("registry", ["None", "types.SimpleNamespace(cpu_target=None)"])
def test_a_numba_without_what_vectors_are_made_of_is_named(registry):
    program = (
        f"import numba, sys, types; sys.modules['numba.core.registry'] = {registry}; import swimmy_scale.model.vectors"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(rf"SwimmyError: numba {numba.__version__} has not .* Install numba 0.68", done.stderr), done.stderr
