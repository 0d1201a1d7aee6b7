"""Vectors of float32 and float64 numbers for functions that numba compiles, and the compiling itself.

A vector has ``LANES`` numbers: one register of the processor in float32, two in float64. numba has no such type, and
its compiler turns only simple loops into vectors by itself. Every operation rounds once; a multiplication and an
addition become one operation only where `fma` says so. So each lane's result is the same on every processor, however
wide its registers, to the last bit.

    >>> @compiled
    ... def add_twice(x, y):            # x += 2 y
    ...     for i in range(0, len(x), LANES):
    ...         n = len(x) - i          # more than LANES is taken as LANES
    ...         put(x, i, n, fma(spread(2.0), load_part(y, i, n), load_part(x, i, n)))

Positions in arrays are not checked.
"""

# Numba infers the types when it compiles.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import contextlib
import functools
import operator
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import models, overload, register_model

from swimmy_scale import __version__
from swimmy_scale.errors import SwimmyError

try:
    # numba promises none of these names, and has no others for the same.
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.core.registry import cpu_target
    from numba.np.arrayobj import make_array

    _TRIPLE, _PROCESSOR, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
except (ImportError, AttributeError) as error:
    raise SwimmyError(
        f"numba {numba.__version__} has not all that the numba scorer is made of, as version 0.68 has ({error}). "
        "Install numba 0.68."
    ) from error

LANES = next((n for feature, n in (("+avx512f", 16), ("+avx", 8)) if feature in _FEATURES.split(",")), 4)
"""Numbers in a vector: as many float32 numbers as one of the processor's registers holds."""


_LINE = 16
"""float32 numbers in a line of the cache."""


def _machine() -> str:
    """Digest of all that the machine code depends on: the processor, and the sources with compiled functions."""
    folder = Path(__file__).parent
    parts = [repr((__version__, _TRIPLE, _PROCESSOR, _FEATURES)).encode()]
    for name in ("vectors.py", "winograd.py", "numba_scorer.py"):
        with contextlib.suppress(OSError):
            parts.append((folder / name).read_bytes())
    return f"{zlib.crc32(b''.join(parts)):08x}"


_MACHINE = _machine()


def compiled(function: Callable[..., Any], keep: bool = False) -> Any:
    """Have numba compile a function at its first call. The interpreter's lock is released while it runs.

    ``keep`` keeps the machine code on disk for other processes: beside the source, or where NUMBA_CACHE_DIR says. Where
    neither can be written, every process compiles anew.
    """
    jit = functools.partial(numba.njit, error_model="numpy", nogil=True)
    if keep:
        # numba numbers its files, and two unlike machines that start at once may choose the same number: one would then
        # load the other's code. With processor and sources in the name they write different files. numba itself sees
        # a change in the file of ``function`` alone, and not one in another module that it calls.
        function.__qualname__ += f"_{_MACHINE}"
        with contextlib.suppress(RuntimeError):
            return jit(function, cache=True)
    return jit(function, forceinline=True)


@compiled
def zeros(n):
    """``n`` float32 zeros, placed so that vectors from multiples of ``LANES`` on lie within one line of the cache."""
    memory = np.zeros(n + _LINE, np.float32)
    # Memory starts at whole numbers.
    skipped = -(memory.ctypes.data // 4) % _LINE
    return memory[skipped : skipped + n]


# ---------------------------------------------------------------- the type


def intrinsic(function: Callable[..., Any]) -> Any:
    """A function of numba's types that returns its signature and what writes its code."""
    return numba_intrinsic(function)


class _Vector(types.Type):
    """numba's type of a vector."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        super().__init__(name=f"vector of {LANES} {element}")


_SINGLE, _DOUBLE = _Vector(types.float32), _Vector(types.float64)
_LLVM = {_SINGLE: ir.VectorType(ir.FloatType(), LANES), _DOUBLE: ir.VectorType(ir.DoubleType(), LANES)}
_BITS = {_SINGLE: ir.VectorType(ir.IntType(32), LANES), _DOUBLE: ir.VectorType(ir.IntType(64), LANES)}
_SUFFIX = {_SINGLE: f"v{LANES}f32", _DOUBLE: f"v{LANES}f64"}


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager, vector):
        super().__init__(manager, vector, _LLVM[vector])


def _filled(builder, vector, scalar):
    """All lanes the same."""
    start = builder.insert_element(ir.Constant(_LLVM[vector], ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(start, ir.Constant(_LLVM[vector], ir.Undefined), everywhere)


def _constant(vector, value):
    kind = _LLVM[vector]
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * LANES)


def _integers(vector, value):
    kind = _BITS[vector]
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * LANES)


def _call(builder, name, result, *arguments):
    """A call of one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


# ---------------------------------------------------------------- memory


def _pointer(context, builder, array_type, array, at, kind=None):
    pointer = builder.gep(make_array(array_type)(context, builder, array).data, [at], inbounds=True)
    return pointer if kind is None else builder.bitcast(pointer, kind.as_pointer())


def _first_lanes(builder, n):
    """Which lanes are below ``n``."""
    several = ir.VectorType(ir.IntType(32), LANES)
    start = builder.insert_element(
        ir.Constant(several, ir.Undefined), builder.trunc(n, several.element), ir.Constant(several.element, 0)
    )
    limit = builder.shuffle_vector(start, ir.Constant(several, ir.Undefined), ir.Constant(several, [0] * LANES))
    return builder.icmp_signed("<", ir.Constant(several, list(range(LANES))), limit)


def _kind(array):
    """The vector of an array's numbers."""
    return _SINGLE if array.dtype == types.float32 else _DOUBLE


def _alignment(array):
    return array.dtype.bitwidth // 8


@intrinsic
def load(typing, array, at):
    """``LANES`` numbers of an array of one dimension, float32 or float64, from position ``at`` on."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], _LLVM[_kind(array)])
        return builder.load(pointer, align=_alignment(array))

    return _kind(array)(array, types.intp), generate


@intrinsic
def load_part(typing, array, at, n):
    """The same of the first ``n`` lanes; the others are 0, and their memory is not touched."""

    def generate(context, builder, signature, arguments):
        kind = _kind(array)
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], _LLVM[kind])
        align, mask = ir.Constant(ir.IntType(32), _alignment(array)), _first_lanes(builder, arguments[2])
        name = f"llvm.masked.load.{_SUFFIX[kind]}.p0"
        return _call(builder, name, _LLVM[kind], pointer, align, mask, _constant(kind, 0.0))

    return _kind(array)(array, types.intp, types.intp), generate


@intrinsic
def store(typing, array, at, value):
    """Write all lanes to an array of one dimension, from position ``at`` on."""

    def generate(context, builder, signature, arguments):
        array, at, value = arguments
        pointer = _pointer(context, builder, signature.args[0], array, at, value.type)
        builder.store(value, pointer, align=_alignment(signature.args[0]))
        return context.get_dummy_value()

    return types.void(array, types.intp, _kind(array)), generate


@intrinsic
def store_part(typing, array, at, n, value):
    """Write the first ``n`` lanes; other memory is not touched."""

    def generate(context, builder, signature, arguments):
        array, at, n, value = arguments
        pointer = _pointer(context, builder, signature.args[0], array, at, value.type)
        align, mask = ir.Constant(ir.IntType(32), _alignment(signature.args[0])), _first_lanes(builder, n)
        name = f"llvm.masked.store.{_SUFFIX[signature.args[3]]}.p0"
        _call(builder, name, ir.VoidType(), value, pointer, align, mask)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, _kind(array)), generate


@compiled
def put(array, at, n, value):
    """The same; faster on processors whose masked stores are slow, where ``n`` is mostly ``LANES`` or more."""
    if n >= LANES:
        store(array, at, value)
    else:
        store_part(array, at, n, value)


@intrinsic
def spread(typing, value):
    """A float32 vector with ``value`` in all lanes."""
    return _SINGLE(types.float32), lambda context, builder, _, arguments: _filled(builder, _SINGLE, arguments[0])


@intrinsic
def spread_double(typing, value):
    """A float64 vector with ``value`` in all lanes."""
    return _DOUBLE(types.float64), lambda context, builder, _, arguments: _filled(builder, _DOUBLE, arguments[0])


@intrinsic
def spread_at(typing, array, at):
    """A float32 vector with ``array[at]`` in all lanes."""

    def generate(context, builder, signature, arguments):
        return _filled(builder, _SINGLE, builder.load(_pointer(context, builder, signature.args[0], *arguments)))

    return _SINGLE(array, types.intp), generate


# ---------------------------------------------------------------- arithmetic


def _two(instruction):
    """An intrinsic of two vectors of one type."""

    @intrinsic
    def apply(typing, a, b):
        if isinstance(a, _Vector) and a == b:
            return a(a, b), lambda context, builder, _, arguments: getattr(builder, instruction)(*arguments)
        return None

    return apply


def _as_operator(symbol, instruction):
    apply = _two(instruction)

    @overload(symbol, inline="always")
    def operate(a, b):
        if isinstance(a, _Vector) and a == b:
            return lambda a, b: apply(a, b)
        return None


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _as_operator(_symbol, _instruction)


@intrinsic
def fma(typing, a, b, c):
    """a b + c, rounded once."""

    def generate(context, builder, signature, arguments):
        vector = signature.return_type
        return _call(builder, f"llvm.fma.{_SUFFIX[vector]}", _LLVM[vector], *arguments)

    return a(a, b, c), generate


@intrinsic
def larger(typing, a, b):
    """The larger one; ``b`` where either is NaN."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), generate


@intrinsic
def smaller(typing, a, b):
    """The smaller one; ``b`` where either is NaN."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered("<", *arguments), *arguments)

    return a(a, b), generate


@intrinsic
def root(typing, a):
    """The square root."""

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.sqrt.{_SUFFIX[a]}", _LLVM[a], *arguments)

    return a(a), generate


@intrinsic
def magnitude(typing, a):
    """The absolute value."""

    def generate(context, builder, signature, arguments):
        return _call(builder, f"llvm.fabs.{_SUFFIX[a]}", _LLVM[a], *arguments)

    return a(a), generate


@intrinsic
def widened(typing, a):
    """float32 to float64."""
    return _DOUBLE(_SINGLE), lambda context, builder, _, arguments: builder.fpext(arguments[0], _LLVM[_DOUBLE])


@intrinsic
def narrowed(typing, a):
    """float64 to float32, rounded."""
    return _SINGLE(_DOUBLE), lambda context, builder, _, arguments: builder.fptrunc(arguments[0], _LLVM[_SINGLE])


# ---------------------------------------------------------------- logarithm and exponential

_ROOT_HALF = 0x3FE6A09E667F3BCD
"""The bits of sqrt(1/2) in float64."""
_ONE = 0x3FF0000000000000
_LARGE = 0x4330000000000000
"""The bits of 2^52, whose last bits count ones."""


@intrinsic
def _exponent(typing, a):
    """e of a = 2^e m, for m of `_mantissa`; float64, above 0 and normal."""

    def generate(context, builder, signature, arguments):
        shifted = builder.add(builder.bitcast(arguments[0], _BITS[_DOUBLE]), _integers(_DOUBLE, _ONE - _ROOT_HALF))
        counted = builder.or_(builder.lshr(shifted, _integers(_DOUBLE, 52)), _integers(_DOUBLE, _LARGE))
        return builder.fsub(builder.bitcast(counted, _LLVM[_DOUBLE]), _constant(_DOUBLE, 2.0**52 + 1023))

    return _DOUBLE(_DOUBLE), generate


@intrinsic
def _mantissa(typing, a):
    """m of a = 2^e m, sqrt(1/2) <= m < sqrt(2)."""

    def generate(context, builder, signature, arguments):
        shifted = builder.add(builder.bitcast(arguments[0], _BITS[_DOUBLE]), _integers(_DOUBLE, _ONE - _ROOT_HALF))
        fraction = builder.and_(shifted, _integers(_DOUBLE, 2**52 - 1))
        return builder.bitcast(builder.add(fraction, _integers(_DOUBLE, _ROOT_HALF)), _LLVM[_DOUBLE])

    return _DOUBLE(_DOUBLE), generate


@intrinsic
def _power_of_two(typing, a):
    """2^a of whole float64 numbers, -1022 <= a <= 1023."""

    def generate(context, builder, signature, arguments):
        # 2^52 + 2^51 + a has a in its last bits, whatever its sign.
        counted = builder.fadd(arguments[0], _constant(_DOUBLE, 1.5 * 2.0**52 + 1023))
        bits = builder.shl(builder.bitcast(counted, _BITS[_DOUBLE]), _integers(_DOUBLE, 52))
        return builder.bitcast(bits, _LLVM[_DOUBLE])

    return _DOUBLE(_DOUBLE), generate


_LOG_2 = float(np.log(2.0))
_LOG_2_LOW = 2.3190468138462996e-17
"""ln 2 - _LOG_2."""
_INVERSE_LOG_2 = float(1.0 / np.log(2.0))
_ROUNDING = 1.5 * 2.0**52
"""A number that is added and subtracted to round to whole numbers."""


@compiled
def logarithm(a):
    """ln a of float64, above 0 and normal, with a relative error below 1e-10.

    a = 2^e m gives ln a = e ln 2 + ln m, and ln m = 2 artanh(s) = 2 (s + s^3 / 3 + s^5 / 5 + ...) of s = (m - 1) /
    (m + 1). |s| < 0.172, so what follows after s^11 / 11 is below 6e-11 of the sum.
    """
    m, one = _mantissa(a), spread_double(1.0)
    s = (m - one) / (m + one)
    square = s * s
    series = fma(square, spread_double(1.0 / 11.0), spread_double(1.0 / 9.0))
    series = fma(square, series, spread_double(1.0 / 7.0))
    series = fma(square, series, spread_double(1.0 / 5.0))
    series = fma(square, series, spread_double(1.0 / 3.0))
    series = fma(square, series, one)
    return fma(_exponent(a), spread_double(_LOG_2), (s + s) * series)


@compiled
def exponential(a):
    """e^a of float64, -700 < a < 700, with a relative error below 1e-11.

    a = n ln 2 + r gives e^a = 2^n e^r, and e^r = 1 + r + r^2 / 2! + ... |r| < 0.35, so what follows after r^9 / 9! is
    below 1e-11 of the sum.
    """
    rounding = spread_double(_ROUNDING)
    n = fma(a, spread_double(_INVERSE_LOG_2), rounding) - rounding
    r = fma(n, spread_double(-_LOG_2_LOW), fma(n, spread_double(-_LOG_2), a))
    series = fma(r, spread_double(1.0 / 362880.0), spread_double(1.0 / 40320.0))
    series = fma(r, series, spread_double(1.0 / 5040.0))
    series = fma(r, series, spread_double(1.0 / 720.0))
    series = fma(r, series, spread_double(1.0 / 120.0))
    series = fma(r, series, spread_double(1.0 / 24.0))
    series = fma(r, series, spread_double(1.0 / 6.0))
    series = fma(r, series, spread_double(0.5))
    series = fma(r, series, spread_double(1.0))
    return fma(r, series, spread_double(1.0)) * _power_of_two(n)
