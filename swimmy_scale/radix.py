"""Exact order statistics of float32 scores in constant memory, by counting the halves of their bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.survey import FloatArray

DoubleArray = npt.NDArray[np.float64]
CountArray = npt.NDArray[np.int64]

N_BINS = 1 << 16
"""Bins of one pass: it looks at half of a float32's bits."""


_SIGN = 0x8000
_INFINITY = 0x7F80
_KEY_OF_ZERO = 0x8000
# Upper halves in the order of their keys: negative numbers backwards, then positive ones.
_UPPER_OF_KEY = np.concatenate([np.arange(N_BINS - 1, _SIGN - 1, -1), np.arange(_SIGN)])


class RadixCount:
    """Counts of scores by half of their bits; two passes give any order statistic exactly.

    A float32 maps to a uint32 key of the same order: the sign bit is set for positive numbers, all bits
    are flipped for negative ones. The first pass counts the upper 16 bits of the keys; that shows which
    upper half holds a wanted rank. The second pass counts the lower 16 bits below these upper halves
    only. Counts are integers, so any split of the sample and any order of the parts give the same result.

    Parameters
    ----------
    n_bands : int
    upper : ndarray of int64, shape (band, n_upper), optional
        Upper halves that a second pass looks below, -1 where there is none. None for a first pass.

    Attributes
    ----------
    n_objects : int
        Objects added so far.
    n_nan : ndarray of int64, shape (band,)
        NaN among them; they are counted nowhere else.
    counts : ndarray of int64, shape (band, n_upper, 65536); n_upper is 1 in the first pass
    """

    def __init__(self, n_bands: int, upper: CountArray | None = None) -> None:
        if upper is not None and (upper.ndim != 2 or upper.shape[0] != n_bands):
            raise SwimmyError(
                f"upper halves have shape {upper.shape}, a count of {n_bands} bands needs ({n_bands}, n_upper)."
            )
        self.upper = None if upper is None else upper.astype(np.int64)
        self.n_objects = 0
        self.n_nan = np.zeros(n_bands, dtype=np.int64)
        self.counts = np.zeros((n_bands, 1 if upper is None else upper.shape[1], N_BINS), dtype=np.int64)

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return int(self.counts.shape[0])

    def add(self, score: FloatArray) -> None:
        """Count a block of scores, float32, shape (m, band); m may be 0.

        Raises
        ------
        SwimmyError
            When the block is not float32 or not of this shape.
        """
        if score.ndim != 2 or score.shape[1] != self.n_bands:
            raise SwimmyError(f"scores have shape {score.shape}, need (n_objects, {self.n_bands}).")
        if score.dtype != np.float32:
            raise SwimmyError(f"scores are {score.dtype}, the count reads float32. Give them as they were stored.")
        self.n_objects += score.shape[0]
        for band in range(self.n_bands):
            bits = np.ascontiguousarray(score[:, band]).view(np.uint32)
            if self.upper is None:
                self._add_first(band, bits)
            else:
                self._add_second(band, bits)

    def _add_first(self, band: int, bits: npt.NDArray[np.uint32]) -> None:
        # Counting bits as they are and putting the counts in order costs a fifth of mapping every score to its key.
        found = np.bincount(np.right_shift(bits, 16, dtype=np.int64), minlength=N_BINS)
        n_nan = 0
        for infinity in (_INFINITY, _INFINITY | _SIGN):
            # Infinity shares its upper half with some NaN; those above it are NaN throughout.
            n_nan += int(found[infinity + 1 : (infinity | 0x7FFF) + 1].sum())
            found[infinity + 1 : (infinity | 0x7FFF) + 1] = 0
            if found[infinity]:
                n_infinite = int(np.count_nonzero(bits == np.uint32(infinity << 16)))
                n_nan += int(found[infinity]) - n_infinite
                found[infinity] = n_infinite
        if found[_SIGN]:
            n_negative_zeros = int(np.count_nonzero(bits == np.uint32(_SIGN << 16)))
            found[_SIGN] -= n_negative_zeros
            found[0] += n_negative_zeros
        self.n_nan[band] += n_nan
        self.counts[band, 0] += found[_UPPER_OF_KEY]

    def _add_second(self, band: int, bits: npt.NDArray[np.uint32]) -> None:
        high = (bits >> np.uint32(16)).astype(np.uint16)
        for slot, upper in enumerate(self.upper[band] if self.upper is not None else ()):
            if upper < 0:
                continue
            # The few that share an upper half with NaN or with the other zero are told apart by their keys.
            near = high == _UPPER_OF_KEY[upper]
            if upper == _KEY_OF_ZERO:
                near |= high == _SIGN
            key = _ordered_key(bits[near].view(np.float32))
            low = key[key >> np.uint32(16) == upper] & np.uint32(0xFFFF)
            self.counts[band, slot] += np.bincount(low, minlength=N_BINS)
        self.n_nan[band] += np.count_nonzero((bits & np.uint32(0x7FFFFFFF)) > np.uint32(_INFINITY << 16))

    def merge(self, other: RadixCount) -> None:
        """Add the counts of another part of the sample.

        Raises
        ------
        SwimmyError
            When the two do not count the same thing: other bands, another pass, other upper halves.
        """
        if self.counts.shape != other.counts.shape or not _same_upper(self.upper, other.upper):
            raise SwimmyError(
                f"cannot merge radix counts of shapes {self.counts.shape} and {other.counts.shape}: they belong to "
                "different passes or samples. Start the second pass of every part from the same first pass."
            )
        self.n_objects += other.n_objects
        self.n_nan += other.n_nan
        self.counts += other.counts

    def to_arrays(self) -> dict[str, CountArray]:
        """The whole state as int64 arrays, to be stored or sent; ``from_arrays`` takes it back."""
        arrays = {"n_objects": np.array(self.n_objects, dtype=np.int64), "n_nan": self.n_nan, "counts": self.counts}
        if self.upper is not None:
            arrays["upper"] = self.upper
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, CountArray]) -> RadixCount:
        """A counter with the state that ``to_arrays`` gave; its arrays are copies.

        Raises
        ------
        SwimmyError
            When an array is missing or its shape does not fit the others.
        """
        missing = [name for name in ("n_objects", "n_nan", "counts") if name not in arrays]
        if missing:
            raise SwimmyError(f"radix count lacks {', '.join(missing)}. Count this part again.")
        counter = cls(int(arrays["n_nan"].size), arrays.get("upper"))
        if arrays["counts"].shape != counter.counts.shape:
            raise SwimmyError(
                f"radix count has counts of shape {arrays['counts'].shape}, needs {counter.counts.shape}. "
                "Count this part again."
            )
        counter.n_objects = int(arrays["n_objects"])
        counter.n_nan += arrays["n_nan"]
        counter.counts += arrays["counts"]
        return counter

    def refine(self, ranks: Sequence[int]) -> RadixCount:
        """The empty second pass that finds these ranks (from 0) of this complete first pass.

        Raises
        ------
        SwimmyError
            When a rank lies outside the sample, or this is a second pass already.
        """
        if self.upper is not None:
            raise SwimmyError("this radix count is a second pass already. Refine a first pass.")
        wanted = np.asarray(ranks, dtype=np.int64)
        n_numbers = self.n_objects - int(self.n_nan.max())
        if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= n_numbers:
            raise SwimmyError(f"ranks {wanted.tolist()} must lie within 0 and {n_numbers - 1}, one at least.")
        found = [np.unique(_bin_of(self.counts[band, 0], wanted)) for band in range(self.n_bands)]
        upper = np.full((self.n_bands, max(item.size for item in found)), -1, dtype=np.int64)
        for band, item in enumerate(found):
            upper[band, : item.size] = item
        return RadixCount(self.n_bands, upper)


def order_statistics(first: RadixCount, second: RadixCount, ranks: Sequence[int]) -> DoubleArray:
    """The scores at the given ranks of the ascending sample, in every band.

    Parameters
    ----------
    first : RadixCount
        First pass over the whole sample.
    second : RadixCount
        Second pass over the same sample, started by ``first.refine(ranks)``.
    ranks : sequence of int, length n_ranks
        From 0.

    Returns
    -------
    ndarray of float64, shape (n_ranks, band)
        Each is one of the sample's float32 scores; -0.0 is given as 0.0.

    Raises
    ------
    SwimmyError
        When the second pass was not started for these ranks, or did not see the sample of the first.
    """
    if not _same_upper(second.upper, first.refine(ranks).upper) or second.upper is None:
        raise SwimmyError("the second radix count was not started for these ranks. Start it with refine().")
    wanted = np.asarray(ranks, dtype=np.int64)
    found = np.empty((wanted.size, first.n_bands), dtype=np.float64)
    for band in range(first.n_bands):
        total = first.counts[band, 0]
        _check_same_sample(first, second, band)
        upper = _bin_of(total, wanted)
        before = np.cumsum(total)[upper] - total[upper]
        slot = np.searchsorted(second.upper[band][second.upper[band] >= 0], upper)
        low = [
            int(np.searchsorted(np.cumsum(second.counts[band, place]), rank, side="right"))
            for place, rank in zip(slot, wanted - before, strict=True)
        ]
        found[:, band] = _score_of_key((upper << 16 | np.array(low, dtype=np.int64)).astype(np.uint32))
    return found


def _ordered_key(score: FloatArray) -> npt.NDArray[np.uint32]:
    """uint32 keys that sort as the scores do; NaN are left out and -0.0 counts as +0.0."""
    bits = np.ascontiguousarray(score[~np.isnan(score)]).view(np.uint32)
    bits = np.where(bits == 0x80000000, np.uint32(0), bits)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(0x80000000))


def _score_of_key(key: npt.NDArray[np.uint32]) -> FloatArray:
    """The scores whose keys these are: the inverse of ``_ordered_key``."""
    bits = np.where(key >> np.uint32(31), key & np.uint32(0x7FFFFFFF), ~key)
    return bits.view(np.float32)


def _bin_of(count: CountArray, ranks: CountArray) -> CountArray:
    """Bin in which each rank falls."""
    return np.searchsorted(np.cumsum(count), ranks, side="right").astype(np.int64)


def _same_upper(left: CountArray | None, right: CountArray | None) -> bool:
    return left is right or (left is not None and right is not None and np.array_equal(left, right))


def _check_same_sample(first: RadixCount, second: RadixCount, band: int) -> None:
    """The rank is meaningless when the scores changed under our feet: compare what both passes counted."""
    uppers = second.upper[band] if second.upper is not None else np.empty(0, dtype=np.int64)
    expected = [first.counts[band, 0, upper] if upper >= 0 else 0 for upper in uppers]
    if first.n_objects != second.n_objects or second.counts[band].sum(axis=1).tolist() != expected:
        raise SwimmyError(
            f"the scores of band {band} (from 0) changed between the two passes: {first.n_objects} objects, then "
            f"{second.n_objects}. Let nothing write the scores meanwhile, and start again."
        )
