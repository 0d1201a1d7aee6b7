"""3x3 convolutions on a CPU, compiled by numba, with what follows each: bias, ReLU, halving or doubling.

They are computed by Winograd's minimal filtering (Lavin & Gray 2016, arXiv:1509.09308), F(4x4, 3x3), with a quarter of
the multiplications. For a tile d of 6 x 6 pixels and a kernel g,

    4 x 4 outputs = A^T [ sum over input channels of (G g G^T) * (B^T d B) ] A,

where * multiplies element by element. Tiles are computed in groups, of whatever objects they are, and ``LANES`` output
channels at a time, so that what is needed again is in the processor's cache. The sum over input channels has the same
order wherever a tile lies in its group and however many lanes a vector has: an object's result depends neither on the
others nor, to the last bit, on the processor.
"""

# Numba infers the types when it compiles.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swimmy_scale.method.survey import FloatArray
from swimmy_scale.model.vectors import (
    LANES,
    compiled,
    fma,
    larger,
    load,
    load_part,
    put,
    spread,
    spread_at,
    store,
    zeros,
)

HALVE, LAST, DOUBLE = -1, 1, 2

_G = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
) / 24  # fmt: skip
_AT_ONCE = 12
"""Tiles that are multiplied together: with a register for each, the processor can start operations without waiting."""
_SUMMED = 64
"""Input channels that are summed one after the other; such sums are then added. It keeps the rounding errors small."""
_GROUP_TILES = 24
"""Tiles that are transformed together, a multiple of ``_AT_ONCE``: their elements stay in the cache."""


@dataclass(frozen=True)
class Convolution:
    """One convolution in the form that `convolve` takes.

    Attributes
    ----------
    kernel : ndarray of float32, shape (n_blocks, 36, n_in, LANES)
        G g G^T. A block is ``LANES`` output channels; those that are missing in the last one are zeros.
    bias : ndarray of float32, shape (n_out,)
    """

    kernel: FloatArray
    bias: FloatArray


def plan(kernel: FloatArray, bias: FloatArray) -> Convolution:
    """Transform the kernel of a convolution, float32 of shape (3, 3, n_in, n_out)."""
    n_in, n_out = kernel.shape[2:]
    n_blocks = -(-n_out // LANES)
    transformed = np.zeros((36, n_in, n_blocks * LANES))
    transformed[:, :, :n_out] = np.einsum("ai,ijkl,bj->abkl", _G, kernel.astype(np.float64), _G).reshape(36, n_in, -1)
    blocks = zeros.py_func(transformed.size).reshape(n_blocks, 36, n_in, LANES)
    blocks[:] = transformed.reshape(36, n_in, n_blocks, LANES).transpose(2, 0, 1, 3)
    return Convolution(blocks, np.array(bias, np.float32))


@compiled
def _b(a, b, c, d, e, f):
    """B^T times a column."""
    two, four, less_four, less_five = spread(2.0), spread(4.0), spread(-4.0), spread(-5.0)
    p, q, r, s = fma(less_four, c, e), fma(less_four, b, d), e - c, two * (d - b)
    return fma(four, a, fma(less_five, c, e)), p + q, p - q, r + s, r - s, fma(four, b, fma(less_five, d, f))


@compiled
def _a(a, b, c, d, e, f):
    """A^T times a column."""
    two, four, eight = spread(2.0), spread(4.0), spread(8.0)
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, fma(two, s, q), fma(four, r, p), fma(eight, s, q) + f


@compiled
def _load6(array, at, step):
    return (load(array, at), load(array, at + step), load(array, at + 2 * step), load(array, at + 3 * step),
            load(array, at + 4 * step), load(array, at + 5 * step))  # fmt: skip


@compiled
def _store6(array, at, step, column):
    store(array, at, column[0])
    store(array, at + step, column[1])
    store(array, at + 2 * step, column[2])
    store(array, at + 3 * step, column[3])
    store(array, at + 4 * step, column[4])
    store(array, at + 5 * step, column[5])


@compiled
def _add6(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5]


@compiled
def _transform_rows(pixels, first, top, left, side, n_in, out, at, step):
    """B^T d of one tile, whose pixels of all channels make six rows of numbers; what lies beyond the right is 0."""
    n = min(6, side - left) * n_in
    start = first + left * n_in
    zero = start + top * side * n_in
    one = start + min(top + 1, side - 1) * side * n_in
    two = start + min(top + 2, side - 1) * side * n_in
    three = start + min(top + 3, side - 1) * side * n_in
    four = start + min(top + 4, side - 1) * side * n_in
    five = start + min(top + 5, side - 1) * side * n_in
    for k in range(0, 6 * n_in, LANES):
        column = _b(load_part(pixels, zero + k, n - k), load_part(pixels, one + k, n - k),
                    load_part(pixels, two + k, n - k), load_part(pixels, three + k, n - k),
                    load_part(pixels, four + k, n - k), load_part(pixels, five + k, n - k))  # fmt: skip
        _store6(out, at + k, step, column)


@compiled
def _transform_columns(rows, at, step, n_in, elements, start):
    """(B^T d) B of one tile; element (i, j) of all channels comes after 6 i + j others."""
    for i in range(6):
        # The last vector of an element reaches over the next one, which is therefore written later: the last channels
        # first, and elements and tiles in ascending order.
        for k in range((n_in - 1) // LANES * LANES, -1, -LANES):
            a, b, c, d, e, f = _load6(rows, at + i * step + k, n_in)
            _store6(elements, start + 6 * i * n_in + k, n_in, _b(a, b, c, d, e, f))


@compiled
def _multiply(elements, start, step, kernel, first, n, products, to, more):
    """Sum over ``n`` input channels, of one of the 36 elements, ``_AT_ONCE`` tiles and ``LANES`` output channels.

    ``step`` is the distance between tiles; ``more`` adds the sums to those that are there.
    """
    a = b = c = d = e = f = g = h = i = j = k = m = spread(0.0)
    for channel in range(n):
        weight, at = load(kernel, first + channel * LANES), start + channel
        a = fma(spread_at(elements, at), weight, a)
        b = fma(spread_at(elements, at + step), weight, b)
        c = fma(spread_at(elements, at + 2 * step), weight, c)
        d = fma(spread_at(elements, at + 3 * step), weight, d)
        e = fma(spread_at(elements, at + 4 * step), weight, e)
        f = fma(spread_at(elements, at + 5 * step), weight, f)
        g = fma(spread_at(elements, at + 6 * step), weight, g)
        h = fma(spread_at(elements, at + 7 * step), weight, h)
        i = fma(spread_at(elements, at + 8 * step), weight, i)
        j = fma(spread_at(elements, at + 9 * step), weight, j)
        k = fma(spread_at(elements, at + 10 * step), weight, k)
        m = fma(spread_at(elements, at + 11 * step), weight, m)
    other, after = to + 216 * LANES, 36 * LANES
    if more:
        a, b, c, d, e, f = _add6(_load6(products, to, after), (a, b, c, d, e, f))
        g, h, i, j, k, m = _add6(_load6(products, other, after), (g, h, i, j, k, m))
    _store6(products, to, after, (a, b, c, d, e, f))
    _store6(products, other, after, (g, h, i, j, k, m))


@compiled
def _a_rows(products, at):
    """`_a` along the rows of the 6 x 6 elements, for one column."""
    a, b, c, d, e, f = _load6(products, at, 6 * LANES)
    return _a(a, b, c, d, e, f)


@compiled
def _outputs(products, at):
    """A^T m A of one tile: four rows of four pixels."""
    a = _a_rows(products, at)
    b = _a_rows(products, at + LANES)
    c = _a_rows(products, at + 2 * LANES)
    d = _a_rows(products, at + 3 * LANES)
    e = _a_rows(products, at + 4 * LANES)
    f = _a_rows(products, at + 5 * LANES)
    return (_a(a[0], b[0], c[0], d[0], e[0], f[0]), _a(a[1], b[1], c[1], d[1], e[1], f[1]),
            _a(a[2], b[2], c[2], d[2], e[2], f[2]), _a(a[3], b[3], c[3], d[3], e[3], f[3]))  # fmt: skip


@compiled
def _put_halved(upper, lower, bias, out, first, row, kept, y, x, n_out, n):
    """The largest of each 2 x 2 pixels of two rows of four pixels, to (y, x) and (y, x + 1)."""
    zero = spread(0.0)
    at = first + (y * row + x) * n_out
    if y < kept and x < kept:
        largest = larger(larger(upper[0], upper[1]), larger(lower[0], lower[1]))
        put(out, at, n, larger(zero, largest + bias))
    if y < kept and x + 1 < kept:
        largest = larger(larger(upper[2], upper[3]), larger(lower[2], lower[3]))
        put(out, at + n_out, n, larger(zero, largest + bias))


@compiled
def _finish(row, bias, grow, pixels, at):
    """Bias and, but for the last layer, ReLU of a row of four pixels."""
    for i in range(4):
        value = row[i] + bias
        store(pixels, (at + i) * LANES, larger(spread(0.0), value) if grow == DOUBLE else value)


@compiled
def _put_grown(pixels, grow, lo, kept, out, first, row, y, x, n_out, n):
    """The window's part of 4 x 4 pixels from (y, x) on, each ``grow`` times on both axes."""
    for i in range(16):
        value = load(pixels, i * LANES)
        top, left = grow * (y + i // 4) - lo, grow * (x + i % 4) - lo
        for to_y in range(max(0, top), min(kept, top + grow)):
            for to_x in range(max(0, left), min(kept, left + grow)):
                put(out, first + (to_y * row + to_x) * n_out, n, value)


@compiled
def _multiply_all(elements, n_tiles, n_in, kernel, block, products):
    """The sums over all input channels, of all elements and tiles, for one block of output channels."""
    for element in range(36):
        weights = (36 * block + element) * n_in * LANES
        if n_in <= _SUMMED:  # said apart, this is compiled to a faster loop
            for t in range(0, n_tiles, _AT_ONCE):
                at = 36 * t + element
                _multiply(elements, at * n_in, 36 * n_in, kernel, weights, n_in, products, at * LANES, False)
        else:
            for channel in range(0, n_in, _SUMMED):
                n = min(_SUMMED, n_in - channel)
                for t in range(0, n_tiles, _AT_ONCE):
                    at = 36 * t + element
                    _multiply(elements, at * n_in + channel, 36 * n_in, kernel, weights + channel * LANES, n,
                              products, at * LANES, channel > 0)  # fmt: skip


def _convolve(x, kernel, bias, grow, lo, pad, out):
    """Convolve all objects and write the window that the next layer needs.

    Parameters
    ----------
    x : ndarray of float32, shape (n, side + 2, side + 2, n_in)
        With its border, which is zeros for 'same' padding.
    kernel, bias
        Of a `Convolution`.
    grow : int
        HALVE: ReLU, then the largest of each 2 x 2 pixels; ``side`` is even. DOUBLE: ReLU, then each pixel twice on
        both axes. LAST: neither.
    lo : int
        First row and column to write, after the doubling; 0 otherwise.
    pad : int
        Border of ``out``, which is left as it is.
    out : ndarray of float32, shape (n, kept + 2 pad, kept + 2 pad, n_out)
        Filled from row and column ``lo`` on.
    """
    side, n_in, n_out, row = x.shape[1], x.shape[3], len(bias), out.shape[1]
    kept = row - 2 * pad
    across = (side + 1) // 4
    n_tiles = x.shape[0] * across * across
    group, step = _GROUP_TILES, 6 * n_in + LANES
    rows, elements = zeros(group * 6 * step), zeros(group * 36 * n_in + LANES)
    products, pixels = zeros(36 * group * LANES), zeros(16 * LANES)
    from_x, kernels, to_out = x.reshape(-1), kernel.reshape(-1), out.reshape(-1)
    for start in range(0, n_tiles, group):
        n_here = min(group, n_tiles - start)
        for t in range(n_here):
            index, tile = divmod(start + t, across * across)
            top, left = 4 * (tile // across), 4 * (tile % across)
            _transform_rows(from_x, index * side * side * n_in, top, left, side, n_in, rows, 6 * step * t, step)
        for t in range(n_here):
            _transform_columns(rows, 6 * step * t, step, n_in, elements, t * 36 * n_in)
        for block in range(kernel.shape[0]):
            _multiply_all(elements, n_here, n_in, kernels, block, products)
            channel = block * LANES
            n = min(LANES, n_out - channel)
            addend = load_part(bias, channel, n)
            for t in range(n_here):
                index, tile = divmod(start + t, across * across)
                y, x_at = 4 * (tile // across), 4 * (tile % across)
                first = ((index * row + pad) * row + pad) * n_out + channel
                a, b, c, d = _outputs(products, t * 36 * LANES)
                if grow == HALVE:
                    _put_halved(a, b, addend, to_out, first, row, kept, y // 2, x_at // 2, n_out, n)
                    _put_halved(c, d, addend, to_out, first, row, kept, y // 2 + 1, x_at // 2, n_out, n)
                else:
                    _finish(a, addend, grow, pixels, 0)
                    _finish(b, addend, grow, pixels, 4)
                    _finish(c, addend, grow, pixels, 8)
                    _finish(d, addend, grow, pixels, 12)
                    _put_grown(pixels, grow, lo, kept, to_out, first, row, y, x_at, n_out, n)


convolve = compiled(_convolve, keep=True)
