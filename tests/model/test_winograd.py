"""The compiled convolutions against sums in float64."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.model import winograd
from swimmy_scale.model.winograd import DOUBLE, HALVE, LAST, PRODUCT_LIMIT, compiled, convolve, plan


def make(n_objects, side, n_in, n_out, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 1.0, (n_objects, side + 2, side + 2, n_in)).astype(np.float32)
    kernel = rng.normal(0.0, np.sqrt(2 / (9 * n_in)), (3, 3, n_in, n_out)).astype(np.float32)
    return x, kernel, rng.normal(0.0, 0.2, n_out).astype(np.float32)


def plain(x, kernel, bias, grow, lo, kept):
    """A convolution by its definition, and what follows it, in float64."""
    side = x.shape[1] - 2
    result = bias.astype(np.float64) + np.zeros((len(x), side, side, 1))
    for i in range(3):
        for j in range(3):
            result += x[:, i : i + side, j : j + side].astype(np.float64) @ kernel[i, j].astype(np.float64)
    if grow != LAST:
        result = np.maximum(result, 0.0)
    if grow == HALVE:
        result = result.reshape(len(x), side // 2, 2, side // 2, 2, -1).max(axis=(2, 4))
    if grow == DOUBLE:
        result = result.repeat(2, axis=1).repeat(2, axis=2)
    return result[:, lo : lo + kept, lo : lo + kept]


def run(x, kernel, bias, grow, lo, kept, pad):
    step = plan(kernel, bias, x.shape[1] - 2)
    out = np.full((len(x), kept + 2 * pad, kept + 2 * pad, len(bias)), np.nan, np.float32)
    convolve(x, step.kernel, step.bias, step.n_rows, step.row_at, step.column_at, grow, lo, pad, out)
    return step, out


@pytest.mark.parametrize(
    ("side", "n_in", "n_out", "grow", "lo", "kept", "winograd"),
    [
        (60, 5, 64, HALVE, 0, 30, True),  # the layers of the paper's network
        (28, 64, 32, HALVE, 0, 14, True),
        (12, 32, 8, HALVE, 0, 6, False),
        (4, 8, 8, DOUBLE, 1, 6, False),
        (4, 32, 64, DOUBLE, 0, 8, False),
        (6, 64, 5, LAST, 0, 6, False),
        (64, 64, 5, LAST, 0, 64, True),  # its last layer without windows
        (62, 5, 64, HALVE, 0, 31, True),  # tiles hang over the border
        (63, 5, 64, DOUBLE, 3, 121, True),
        (61, 64, 7, LAST, 0, 61, True),
        (30, 3, 400, LAST, 0, 30, True),  # one row of tiles at a time
        (8, 600, 300, DOUBLE, 1, 14, False),  # too many channels for the planes: one product, row by row
        (1, 1, 1, LAST, 0, 1, False),
    ],
)
def test_equals_the_definition(side, n_in, n_out, grow, lo, kept, winograd):
    x, kernel, bias = make(3, side, n_in, n_out)
    step, out = run(x, kernel, bias, grow, lo, kept, 0)
    assert (step.kernel.shape[0] == 36) == winograd
    np.testing.assert_allclose(out, plain(x, kernel, bias, grow, lo, kept), atol=2e-5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from([LAST, DOUBLE, HALVE]), st.data())
@settings(deadline=None, max_examples=60)
def test_any_size_equals_the_definition(side, n_in, n_out, grow, data):
    side *= 2 if grow == HALVE else 1
    full = {HALVE: side // 2, LAST: side, DOUBLE: 2 * side}[grow]
    lo = data.draw(st.integers(0, full - 1)) if grow == DOUBLE else 0
    kept = data.draw(st.integers(1, full - lo)) if grow == DOUBLE else full
    pad = data.draw(st.integers(0, 1))
    x, kernel, bias = make(2, side, n_in, n_out)
    _, out = run(x, kernel, bias, grow, lo, kept, pad)
    inner = out[:, pad : pad + kept, pad : pad + kept]
    np.testing.assert_allclose(inner, plain(x, kernel, bias, grow, lo, kept), atol=2e-5)
    assert np.isnan(out).sum() == out.size - inner.size  # the border is not touched


@pytest.mark.parametrize(("side", "n_in", "n_out"), [(60, 5, 64), (28, 64, 32), (12, 32, 8), (6, 64, 5), (64, 90, 90)])
def test_no_product_is_large_enough_for_threads(side, n_in, n_out):
    step = plan(*make(1, side, n_in, n_out)[1:], side)
    if step.kernel.shape[0] == 36:
        assert step.n_rows // 4 * ((side + 3) // 4) * n_in * n_out <= PRODUCT_LIMIT
    else:
        assert 9 * n_in * n_out <= PRODUCT_LIMIT


def test_nan_stays_in_its_object():
    x, kernel, bias = make(3, 28, 40, 40)
    x[1, 5, 5, 3] = np.nan
    _, out = run(x, kernel, bias, LAST, 0, 28, 0)
    assert np.isnan(out[1]).any()
    assert np.isfinite(out[[0, 2]]).all()


def test_a_function_that_cannot_be_kept_on_disk_is_compiled_all_the_same():
    def twice(x):
        return 2 * x

    twice.__code__ = twice.__code__.replace(co_filename="/nowhere/at_all.py")
    assert compiled(twice, keep=True)(21) == 42


@pytest.mark.parametrize("registry", [None, SimpleNamespace(), SimpleNamespace(cpu_target=SimpleNamespace())])
def test_a_numba_that_hides_its_processor_keeps_nothing_on_disk_and_says_so_once(
    registry, monkeypatch, caplog, tmp_path
):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    winograd._machine.cache_clear()
    try:
        with monkeypatch.context() as other_version:
            other_version.setitem(sys.modules, "numba.core.registry", registry)
            assert winograd._machine() is None

        def twice(x):
            return 2 * x

        function = compiled(twice, keep=True)
    finally:
        winograd._machine.cache_clear()
    assert function(21) == 42
    assert function.py_func.__name__ in function.py_func.__qualname__.split(".")
    assert not list(tmp_path.iterdir())
    assert caplog.messages == [
        f"numba {numba.__version__} does not say, where version 0.68 does, which processor it compiles for. Machine "
        "code is not kept on disk: every process compiles anew."
    ]
