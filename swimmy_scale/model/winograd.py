"""3x3 convolutions on a CPU, compiled by numba, with what follows each: bias, ReLU, halving or doubling.

Large convolutions are computed by Winograd's minimal filtering (Lavin & Gray 2016, arXiv:1509.09308), F(4x4, 3x3),
with a quarter of the multiplications. For a tile d of 6 x 6 pixels and a kernel g,

    4 x 4 outputs = A^T [ sum over input channels of (G g G^T) * (B^T d B) ] A,

where * multiplies element by element. For each of the 36 elements, the sums over channels for all tiles are one product
of matrices. A small convolution is one product of matrices: patches of pixels times the kernel.

Each object is computed on its own, by products of the same shapes, so its result cannot depend on the others. No
product has more than ``PRODUCT_LIMIT`` multiplications, unless a kernel alone has more weights. OpenBLAS, which numba
takes from SciPy, computes such small products in the calling thread, whatever OPENBLAS_NUM_THREADS says.

The functions take arrays and fill arrays, but `compiled` may keep their machine code on disk for the next process.
"""

# Numba infers the types when it compiles.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import contextlib
import functools
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from swimmy_scale import __version__
from swimmy_scale.method.survey import FloatArray, IntArray

log = logging.getLogger("swimmy_scale")

PRODUCT_LIMIT = 64**3
HALVE, LAST, DOUBLE = -1, 1, 2

_G = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
) / 24  # fmt: skip
_TWO, _FOUR, _FIVE, _EIGHT = (np.float32(value) for value in (2, 4, 5, 8))
_PLANE = 4096
"""The most floats of each of the 36 elements that are computed together, so that all planes stay in the cache."""
_STEP = _PLANE + 16
"""Distance between planes. As a constant it tells the compiler that they do not overlap, so that it uses vectors. The
16 keeps them out of the same sets of the cache."""
_DIRECT_BELOW = 500_000
"""With fewer multiplications than this, the transforms cost more than they save."""
_PATCH_FLOATS = 65_536


@functools.cache
def _machine() -> str | None:
    """Names version and processor that code is compiled for; None, with one warning a process, where numba hides it."""
    try:
        # No public name: what numba itself tells kept machine code apart by.
        from numba.core.registry import cpu_target

        processor = cpu_target.target_context.codegen().magic_tuple()
    except (ImportError, AttributeError):
        log.warning(
            "numba %s does not say, where version 0.68 does, which processor it compiles for. Machine code is not kept "
            "on disk: every process compiles anew.",
            numba.__version__,
        )
        return None
    return f"{zlib.crc32(repr((__version__, processor)).encode()):08x}"


def compiled(function: Callable[..., Any], keep: bool = False) -> Callable[..., Any]:
    """Have numba compile a function at its first call. The interpreter's lock is released while it runs.

    ``keep`` keeps the machine code on disk for other processes: beside the source, or where NUMBA_CACHE_DIR says. Where
    neither can be written, or numba does not say which processor it is for, every process compiles anew.
    """
    # Contraction fuses a multiplication with an addition. The rest of fastmath is off, since NaN must stay NaN.
    jit = functools.partial(numba.njit, fastmath={"contract"}, error_model="numpy", nogil=True)
    machine = _machine() if keep else None
    if machine is not None:
        # numba numbers its files, and two unlike machines that start at once may choose the same number: one would then
        # load the other's code. With version and processor in the name they write different files.
        function.__qualname__ += f"_{machine}"
        with contextlib.suppress(RuntimeError):
            return jit(function, cache=True)
    return jit(function)


@dataclass(frozen=True)
class Convolution:
    """One convolution in the form that `convolve` takes.

    Attributes
    ----------
    kernel : ndarray of float32, shape (36, n_in, n_out) or (1, 9 n_in, n_out)
        G g G^T for Winograd's algorithm, or the kernel itself for one product.
    bias : ndarray of float32, shape (n_out,)
    n_rows : int
        Output rows that are computed together.
    row_at, column_at : ndarray of int64
        Output (y, x) of those rows lies at ``row_at[y] + column_at[x]`` of the working memory.
    """

    kernel: FloatArray
    bias: FloatArray
    n_rows: int
    row_at: IntArray
    column_at: IntArray


def plan(kernel: FloatArray, bias: FloatArray, side: int) -> Convolution:
    """Choose the algorithm of a convolution and transform its kernel.

    Parameters
    ----------
    kernel : ndarray of float32, shape (3, 3, n_in, n_out)
    bias : ndarray of float32, shape (n_out,)
    side : int
        Side of the output, px.
    """
    n_in, n_out = kernel.shape[2:]
    n_across = (side + 3) // 4
    pixel = np.arange(side + 3)
    tile_rows = min(_PLANE // (n_across * max(n_in, n_out)), PRODUCT_LIMIT // (n_across * n_in * n_out))
    if tile_rows < 1 or side * side * kernel.size < _DIRECT_BELOW:
        # An even number of rows, for the halving.
        n_rows = min(side + side % 2, max(1, _PATCH_FLOATS // (side * 9 * n_in) // 2) * 2)
        flat = np.array(kernel.reshape(1, 9 * n_in, n_out), np.float32)
        return Convolution(flat, np.array(bias, np.float32), n_rows, pixel * (side * n_out), pixel * n_out)
    transformed = np.einsum("ai,ijkl,bj->abkl", _G, kernel.astype(np.float64), _G)
    elements = np.array(transformed.reshape(36, n_in, n_out), np.float32, order="C")
    row_at = pixel % 4 * (4 * _STEP) + pixel // 4 * (n_across * n_out)
    column_at = pixel % 4 * _STEP + pixel // 4 * n_out
    return Convolution(elements, np.array(bias, np.float32), 4 * tile_rows, row_at, column_at)


@compiled
def _b(a, b, c, d, e, f):
    """B^T times a column."""
    p, q, r, s = e - _FOUR * c, d - _FOUR * b, e - c, _TWO * (d - b)
    return _FOUR * a - _FIVE * c + e, p + q, p - q, r + s, r - s, _FOUR * b - _FIVE * d + f


@compiled
def _a(a, b, c, d, e, f):
    """A^T times a column."""
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + _TWO * s, p + _FOUR * r, q + _EIGHT * s + f


@compiled
def _b_column(planes, i):
    """`_b` of one column of the 6 x 6 elements, which lies in every sixth plane."""
    return _b(planes[i], planes[i + 6 * _STEP], planes[i + 12 * _STEP], planes[i + 18 * _STEP],
              planes[i + 24 * _STEP], planes[i + 30 * _STEP])  # fmt: skip


@compiled
def _a_column(planes, i):
    """`_a` of one column of the 6 x 6 elements, which lies in every sixth plane."""
    return _a(planes[i], planes[i + 6 * _STEP], planes[i + 12 * _STEP], planes[i + 18 * _STEP],
              planes[i + 24 * _STEP], planes[i + 30 * _STEP])  # fmt: skip


@compiled
def _put6(planes, i, row):
    planes[i], planes[i + _STEP], planes[i + 2 * _STEP] = row[0], row[1], row[2]
    planes[i + 3 * _STEP], planes[i + 4 * _STEP], planes[i + 5 * _STEP] = row[3], row[4], row[5]


@compiled
def _put4(planes, i, row):
    planes[i], planes[i + _STEP], planes[i + 2 * _STEP], planes[i + 3 * _STEP] = row[0], row[1], row[2], row[3]


@compiled
def _transform_tiles(planes, n):
    """d -> B^T d B of ``n`` tiles and channels, in place: element (i, j) lies in plane 6 i + j."""
    for i in range(n):
        # The compiler uses vectors only if all is read before anything is written, and not with the columns in one
        # tuple.
        a = _b_column(planes, i)
        b = _b_column(planes, i + _STEP)
        c = _b_column(planes, i + 2 * _STEP)
        d = _b_column(planes, i + 3 * _STEP)
        e = _b_column(planes, i + 4 * _STEP)
        f = _b_column(planes, i + 5 * _STEP)
        _put6(planes, i, _b(a[0], b[0], c[0], d[0], e[0], f[0]))
        _put6(planes, i + 6 * _STEP, _b(a[1], b[1], c[1], d[1], e[1], f[1]))
        _put6(planes, i + 12 * _STEP, _b(a[2], b[2], c[2], d[2], e[2], f[2]))
        _put6(planes, i + 18 * _STEP, _b(a[3], b[3], c[3], d[3], e[3], f[3]))
        _put6(planes, i + 24 * _STEP, _b(a[4], b[4], c[4], d[4], e[4], f[4]))
        _put6(planes, i + 30 * _STEP, _b(a[5], b[5], c[5], d[5], e[5], f[5]))


@compiled
def _transform_products(planes, n):
    """m -> A^T m A of ``n`` tiles and channels, in place: output (i, j) ends up in plane 4 i + j."""
    for i in range(n):
        a = _a_column(planes, i)
        b = _a_column(planes, i + _STEP)
        c = _a_column(planes, i + 2 * _STEP)
        d = _a_column(planes, i + 3 * _STEP)
        e = _a_column(planes, i + 4 * _STEP)
        f = _a_column(planes, i + 5 * _STEP)
        _put4(planes, i, _a(a[0], b[0], c[0], d[0], e[0], f[0]))
        _put4(planes, i + 4 * _STEP, _a(a[1], b[1], c[1], d[1], e[1], f[1]))
        _put4(planes, i + 8 * _STEP, _a(a[2], b[2], c[2], d[2], e[2], f[2]))
        _put4(planes, i + 12 * _STEP, _a(a[3], b[3], c[3], d[3], e[3], f[3]))


@compiled
def _copy(source, target):
    for k in range(len(source)):
        target[k] = source[k]


@compiled
def _winograd(pixels, kernel, top, bottom, tiles, products):
    """Rows ``top`` to ``bottom`` of a convolution, left in ``products`` as `_transform_products` orders them."""
    side, n_in, n_out = pixels.shape[0], pixels.shape[2], kernel.shape[2]
    n_across = (side + 1) // 4
    n_tiles = (bottom - top + 3) // 4 * n_across
    at = 0
    for y in range(top, bottom, 4):
        for x in range(0, 4 * n_across, 4):
            for i in range(6):
                # A tile may reach over the border, but no output that is used depends on what is there.
                row = pixels[min(y + i, side - 1)]
                for j in range(6):
                    pixel, start = row[min(x + j, side - 1)], (6 * i + j) * _STEP + at
                    _copy(pixel, tiles[start : start + n_in])
            at += n_in
    _transform_tiles(tiles, n_tiles * n_in)
    for plane in range(36):
        element = tiles[plane * _STEP : plane * _STEP + n_tiles * n_in].reshape(n_tiles, n_in)
        product = products[plane * _STEP : plane * _STEP + n_tiles * n_out].reshape(n_tiles, n_out)
        np.dot(element, kernel[plane], product)
    _transform_products(products, n_tiles * n_out)


@compiled
def _direct(pixels, kernel, top, bottom, patches, products):
    """The same, pixel after pixel, as one product of matrices: each pixel's 3 x 3 x n_in inputs times the kernel."""
    side, n_in = pixels.shape[0] - 2, pixels.shape[2]
    n_inputs, n_out = kernel.shape[1], kernel.shape[2]
    n_pixels = (bottom - top) * side
    start = 0
    for y in range(top, bottom):
        for x in range(side):
            for i in range(3):
                for j in range(3):
                    _copy(pixels[y + i, x + j], patches[start : start + n_in])
                    start += n_in
    at_once = max(1, PRODUCT_LIMIT // (n_inputs * n_out))
    for start in range(0, n_pixels, at_once):
        stop = min(start + at_once, n_pixels)
        patch = patches[start * n_inputs : stop * n_inputs].reshape(stop - start, n_inputs)
        np.dot(patch, kernel[0], products[start * n_out : stop * n_out].reshape(stop - start, n_out))


@compiled
def _pixel(products, start, n_out):
    return products[start : start + n_out]


def _convolve(x, kernel, bias, n_rows, row_at, column_at, grow, lo, pad, out):
    """Convolve all objects and write the window that the next layer needs.

    Parameters
    ----------
    x : ndarray of float32, shape (n, side + 2, side + 2, n_in)
        With its border, which is zeros for 'same' padding.
    kernel, bias, n_rows, row_at, column_at
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
    n_out, side, kept = kernel.shape[2], x.shape[1] - 2, out.shape[1] - 2 * pad
    winograd = kernel.shape[0] == 36
    floor = np.float32(-np.inf if grow == LAST else 0.0)
    products = np.empty(36 * _STEP if winograd else n_rows * side * n_out, np.float32)
    inputs = np.empty(36 * _STEP if winograd else n_rows * side * kernel.shape[1], np.float32)
    for index in range(x.shape[0]):
        for top in range(0, side, n_rows):
            bottom = min(top + n_rows, side)
            if winograd:
                _winograd(x[index], kernel, top, bottom, inputs, products)
            else:
                _direct(x[index], kernel, top, bottom, inputs, products)
            if grow == HALVE:
                for y in range(top // 2, bottom // 2):
                    upper, lower = row_at[2 * y - top], row_at[2 * y + 1 - top]
                    for column in range(kept):
                        left, right = column_at[2 * column], column_at[2 * column + 1]
                        a, b = _pixel(products, upper + left, n_out), _pixel(products, upper + right, n_out)
                        c, d = _pixel(products, lower + left, n_out), _pixel(products, lower + right, n_out)
                        target = out[index, pad + y, pad + column]
                        for k in range(n_out):
                            target[k] = max(max(max(a[k], b[k]), max(c[k], d[k])) + bias[k], floor)
            else:
                for y in range(max(0, grow * top - lo), min(kept, grow * bottom - lo)):
                    for column in range(kept):
                        at = row_at[(y + lo) // grow - top] + column_at[(column + lo) // grow]
                        value, target = _pixel(products, at, n_out), out[index, pad + y, pad + column]
                        for k in range(n_out):
                            target[k] = max(value[k] + bias[k], floor)


convolve = compiled(_convolve, keep=True)
