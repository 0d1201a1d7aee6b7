"""Bit rounding, held to exact rational arithmetic."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.bit_rounding import FEWEST_BITS, MOST_BITS, round_mantissa

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
n_bits_range = st.integers(FEWEST_BITS, MOST_BITS)


def exact(value: float, n_bits: int) -> float:
    """The nearest multiple of the value's step; Python rounds ties of fractions to even."""
    if not math.isfinite(value) or value == 0.0:
        return value
    exponent = max(math.frexp(value)[1] - 1, -126)  # below 2^-126 all floats have the same step
    step = Fraction(2) ** (exponent - n_bits)
    rounded = round(Fraction(value) / step) * step
    largest = (2 - Fraction(1, 2**n_bits)) * 2**127
    return math.copysign(float(min(abs(rounded), largest)), value)


def pattern(value: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", value))[0])


@given(value=st.floats(width=32, allow_nan=False), n_bits=n_bits_range)
@example(value=LARGEST, n_bits=5)
@example(value=-LARGEST, n_bits=22)
@example(value=SMALLEST, n_bits=12)
@example(value=-0.0, n_bits=12)
@example(value=math.inf, n_bits=12)
@example(value=1.0 + 2.0**-8, n_bits=7)  # ties go to the even neighbour, below and above
@example(value=1.0 + 3 * 2.0**-8, n_bits=7)
@example(value=2.0 - 2.0**-23, n_bits=10)  # the carry makes the next power of two
def test_nearest_and_even(value: float, n_bits: int) -> None:
    found = round_mantissa(np.array([value], np.float32), n_bits)
    assert found.dtype == np.float32
    assert pattern(float(found[0])) == pattern(exact(value, n_bits))


@given(bits=st.integers(0, 2**32 - 1), n_bits=n_bits_range)
def test_what_is_left(bits: int, n_bits: int) -> None:
    value = np.array([bits], np.uint32).view(np.float32)
    found = round_mantissa(value, n_bits)
    if np.isnan(value[0]) or np.isinf(value[0]):
        assert found.view(np.uint32)[0] == bits, "even the payload of NaN stays"
        return
    assert np.isfinite(found[0])
    assert found.view(np.uint32)[0] % 2 ** (23 - n_bits) == 0
    assert np.signbit(found[0]) == np.signbit(value[0])
    assert round_mantissa(found, n_bits).tobytes() == found.tobytes(), "rounding again changes nothing"
    if 2.0**-126 <= abs(float(value[0])) < 2.0**127:
        assert abs(float(found[0]) - float(value[0])) <= 2.0 ** -(n_bits + 1) * abs(float(value[0]))


@given(
    values=hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0), elements=st.floats(width=32)),
    n_bits=n_bits_range,
)
def test_any_shape_in_place_or_not(values: np.ndarray, n_bits: int) -> None:
    before = values.tobytes()
    found = round_mantissa(values, n_bits)
    assert values.tobytes() == before
    one_by_one = [round_mantissa(value.reshape(1), n_bits)[0] for value in values.ravel()]
    assert found.tobytes() == np.array(one_by_one, np.float32).tobytes()
    assert found.shape == values.shape
    for same in (values[::-1].copy()[::-1], values.copy()):
        assert round_mantissa(same, n_bits, out=same) is same
        assert same.tobytes() == found.tobytes()


@pytest.mark.parametrize(
    ("dtype", "n_bits", "message"),
    [
        (
            "float32",
            4,
            "cannot round float32 to 4 mantissa bits: need float32 and 5 to 22 bits.*Correct keep_mantissa_bits",
        ),
        ("float32", 23, "to 23 mantissa bits"),
        ("float64", 12, "cannot round float64"),
        (">f4", 12, "cannot round >f4"),
    ],
)
def test_what_cannot_be_rounded_is_refused(dtype: str, n_bits: int, message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        round_mantissa(np.ones(2, dtype), n_bits)
