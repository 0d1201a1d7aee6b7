"""Thresholds of hostile arrays, in memory and in a stream of blocks, against `numpy.quantile`."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from chaos.lab import Lab
from chaos.records import Outcome
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.thresholds import streamed_thresholds, thresholds

ARRAYS = 20
type Scores = npt.NDArray[np.float32]
EXTREME = np.array(
    [0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 1.1754944e-38, -1.1754944e-38, 3.4028235e38, -3.4028235e38, 1.0, -1.0],
    np.float32,
)


def _of_bits(bits: npt.NDArray[np.uint32]) -> Scores:
    values = bits.view(np.float32)
    return np.where(np.isnan(values), np.float32(1), values)


def _with_nan(values: Scores, r: np.random.Generator) -> Scores:
    """With one NaN of any of the many kinds that there are, signalling and negative ones among them."""
    bits = values.copy().view(np.uint32)
    bits[r.integers(values.shape[0]), r.integers(values.shape[1])] = r.choice(
        np.array([0xFF800001, 0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    )
    return bits.view(np.float32)


def _with(values: npt.NDArray[np.float64], value: float, where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    values[where] = value
    return values


SORTS: dict[str, Callable[[np.random.Generator, tuple[int, int]], npt.NDArray[np.floating]]] = {
    "ordinary": lambda r, shape: r.normal(size=shape),
    "many equal": lambda r, shape: r.integers(0, 3, shape).astype(np.float64),
    "all equal": lambda r, shape: np.full(shape, r.choice([0.0, -0.0, 1.0, 1e-40, 3e38, -5.0])),
    "denormal": lambda r, shape: r.integers(-50, 50, shape) * 1e-45,
    "both zeros": lambda r, shape: np.where(r.random(shape) < 0.5, 0.0, -0.0),
    "all bits": lambda r, shape: _of_bits(r.integers(0, 1 << 32, shape, np.uint32)),
    "extreme": lambda r, shape: r.choice(EXTREME, shape),
    "infinite above": lambda r, shape: _with(r.normal(size=shape), np.inf, r.random(shape) < 0.0003),
    "infinite below": lambda r, shape: _with(r.normal(size=shape), -np.inf, r.random(shape) < 0.5),
    "not a number": lambda r, shape: _with_nan(r.normal(size=shape).astype(np.float32), r),
    "long tail": lambda r, shape: r.lognormal(0, 8, shape),
    "neighbours": lambda r, shape: _of_bits(np.uint32(0x3F800000) + r.integers(0, 5, shape, np.uint32)),
    "at an edge of the count": lambda r, shape: _of_bits(
        np.uint32(0x3F800000)
        + np.uint32(0x10000) * r.integers(0, 2, shape, np.uint32)
        - r.integers(0, 2, shape, np.uint32)
    ),
    "one outlier": lambda r, shape: _with(np.ones(shape), 3e38, np.arange(shape[0])[:, None] + np.zeros(shape) == 0),
    "sorted": lambda r, shape: np.sort(r.normal(size=shape), axis=0)[:: int(r.choice([1, -1]))],
}
LENGTHS = (1, 2, 3, 4, 5, 7, 10, 19, 20, 21, 100, 333, 334, 1000, 2151, 5000)
TOPS = (1e-12, 1e-7, 0.5, 0.25, 0.1, 1 - 1e-12, 0.9999, 1 / 3, 0.07)


def arrays(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Some arrays; the first of every tenth trial is long."""
    outcome, r = Outcome(tried=ARRAYS), np.random.default_rng(rnd.getrandbits(64))
    for number in range(ARRAYS):
        sort = list(SORTS)[(k * ARRAYS + number) % len(SORTS)]
        n = 1_500_000 if k % 10 == 9 and number == 0 else int(r.choice(LENGTHS))
        with np.errstate(all="ignore"):
            score = np.ascontiguousarray(SORTS[sort](r, (n, int(r.integers(1, 6)))), np.float32)
        tops = [0.05, 0.003, 0.000465] if r.random() < 0.5 else sorted(r.choice(TOPS, 3, replace=False).tolist())[::-1]
        outcome.counts[sort] += 1
        wrong = _wrong(score, tops, np.sort(r.integers(0, n + 1, int(r.integers(0, 6)))))
        outcome.expect(not wrong, wrong, sort=sort, shape=score.shape, tops=tops)
    return outcome


def _wrong(score: Scores, tops: list[float], splits: npt.NDArray[np.int64]) -> str:
    """What is wrong with the thresholds of an array; empty if nothing."""

    def blocks() -> Iterator[Scores]:
        return iter(np.split(score, splits))

    found = [
        _attempt(lambda: thresholds(score, tops)),
        _attempt(lambda: streamed_thresholds(blocks, score.shape[1], tops)),
    ]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = np.quantile(score.astype(np.float64), 1.0 - np.array(tops), axis=0)
    if np.isnan(score).any() or not np.isfinite(expected).all():
        return "" if all(limit is None for limit in found) else "it is not refused"
    for which, limit in zip(("in memory", "in a stream"), found, strict=True):
        if limit is None:
            return f"it is refused {which}"
        if not np.array_equal(limit, expected):
            return f"numpy's quantile differs {which}: {limit.tolist()}, not {expected.tolist()}"
        if np.signbit(limit[limit == 0]).any():
            return f"a negative zero comes out {which}"
    return ""


def _attempt(make: Callable[[], npt.NDArray[np.float64]]) -> npt.NDArray[np.float64] | None:
    """What it gives; None if it refuses."""
    try:
        return make()
    except SwimmyError:
        return None
