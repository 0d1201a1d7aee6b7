"""Rounding of pixels to fewer mantissa bits, so that a lossless codec finds zeros to compress.

A float32 is (-1)^s 2^(e - 127) 1.m with 23 bits of m, of which the first ``n_bits`` stay. The error is relative, at
most 2^-(n_bits + 1) of the pixel, so bright cores cannot overflow as they would in short integers of a fixed step.
"""

from __future__ import annotations

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import FloatArray

MANTISSA_BITS = 23  # of a float32, without the leading 1
FEWEST_BITS, MOST_BITS = 5, 22
_INFINITY = np.uint32(0x7F800000)
_ALL_BUT_SIGN = np.uint32(0x7FFFFFFF)


def round_mantissa(values: FloatArray, n_bits: int, out: FloatArray | None = None) -> FloatArray:
    """Round floats to ``n_bits`` explicit mantissa bits, to the nearest, ties to even.

    With d = 23 - n_bits bits to drop, and b the float's bits as an integer:
    b -> (b + 2^(d - 1) - 1 + (b >> d) mod 2) with its last d bits set to 0. A carry into the exponent is right.

    Parameters
    ----------
    values : ndarray of float32, of at least one dimension
    n_bits : int
        5 to 22.
    out : ndarray of float32, shape of ``values``, optional
        Where to put the result; may be ``values`` itself.

    Returns
    -------
    ndarray of float32, shape of ``values``
        ``out``, or a new array. NaN (with its payload), infinity and every sign stay as they are. No finite value
        becomes infinite: it becomes at most the largest value that ``n_bits`` can hold.
    """
    if not FEWEST_BITS <= n_bits <= MOST_BITS or values.dtype != np.float32:
        raise SwimmyError(
            f"cannot round {values.dtype} to {n_bits} mantissa bits: need float32 and {FEWEST_BITS} to {MOST_BITS} "
            "bits. Correct keep_mantissa_bits in the storage section of the job."
        )
    result = np.empty_like(values) if out is None else out
    # One object at a time stays in the processor's cache.
    for row in range(len(values)):
        result[row : row + 1] = _rounded(values[row : row + 1], n_bits)
    return result


def _rounded(values: FloatArray, n_bits: int) -> FloatArray:
    bits = values.view(np.uint32)
    n_dropped = np.uint32(MANTISSA_BITS - n_bits)
    last_kept = np.uint32(1) << n_dropped
    magnitude = bits & _ALL_BUT_SIGN
    rounded = magnitude >> n_dropped
    rounded &= np.uint32(1)
    rounded += magnitude + ((last_kept >> np.uint32(1)) - np.uint32(1))
    rounded &= ~(last_kept - np.uint32(1))
    np.minimum(rounded, _INFINITY - last_kept, out=rounded)
    rounded |= bits & ~_ALL_BUT_SIGN
    return np.where(magnitude < _INFINITY, rounded, bits).view(np.float32)
