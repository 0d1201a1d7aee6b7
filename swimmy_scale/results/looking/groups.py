"""Objects to compare candidates with: known ones, ordinary ones, those just below the cut, those too faint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.storage.selection import Selection

KINDS = ("known", "comparison", "below", "negative")
"""What groups there are, by their public names."""

MAX_CLASSES = 8
# They are of nobody's interest in particular.
ORDINARY_CLASSES = ("training", "other")


@dataclass(frozen=True)
class Group:
    """Objects of one kind.

    Attributes
    ----------
    kind : str
        One of ``KINDS``.
    title, meaning : str
        What they are, and how they were chosen.
    n_objects : int
        How many there are; not all need be among the rows.
    rows : ndarray of int64, shape (m,)
        In the order in which they were chosen.
    """

    kind: str
    title: str
    meaning: str
    n_objects: int
    rows: IntArray


class _Lowest:
    """The rows with the lowest keys of all that are added; of equal keys the lower row comes first."""

    def __init__(self, n_kept: int) -> None:
        self.n_kept, self.n_added = n_kept, 0
        self.rows, self._keys = np.zeros(0, np.int64), np.zeros(0)

    def add(self, lo: int, chosen: BoolArray, keys: DoubleArray) -> None:
        """Add those rows of a block, whose first is ``lo``, that are chosen."""
        places = np.flatnonzero(chosen)
        self.n_added += len(places)
        rows, keys = np.concatenate([self.rows, lo + places]), np.concatenate([self._keys, keys[places]])
        order = np.argsort(keys, kind="stable")[: self.n_kept]
        self.rows, self._keys = rows[order], keys[order]


def groups(selection: Selection, n_each: int, seed: int = 0, kinds: tuple[str, ...] = KINDS) -> list[Group]:
    """Objects of the sample to compare candidates with; the store is read once, and memory does not grow with it.

    Parameters
    ----------
    n_each : int
        At most this many of each group.
    seed : int
        Of the lot by which known and ordinary objects are drawn. The same seed and scores give the same objects.
    kinds : tuple of str
        Some of ``KINDS``. ``known``: a group for each class of ``sample_class`` but `ORDINARY_CLASSES`, of the
        ``MAX_CLASSES`` with most objects, candidates among them. None of the others are candidates: ``comparison`` is
        drawn from all of the sample; ``below`` are those that reach the largest share of the first level's threshold
        where their residual is positive, and exceed it in no band; ``negative`` exceed it by the largest factor,
        with a residual that is not positive.
    """
    picks = selection.survey.band_index(selection.survey.selecting_bands)
    threshold, level = selection.read("threshold")[0, picks], selection.levels[0]
    random = np.random.default_rng(seed)
    known: dict[str, _Lowest] = {}
    comparison, below, negative = (_Lowest(n_each) for _ in range(3))
    names = (selection.score_name, selection.residual_name, "in_sample", "candidate", "sample_class")
    for lo, (score, residual, in_sample, candidate, sample_class) in selection.blocks(*names):
        lot = random.random(len(score))  # drawn for every row, so that blocks of any size give the same
        others = in_sample & ~candidate.any(axis=(1, 2))
        comparison.add(lo, others, lot)
        exact, residual = score[:, picks].astype(np.float64), residual[:, picks]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = exact / threshold
        is_above, is_positive = exact > threshold, residual > 0
        reached = np.where(is_positive, share, -np.inf).max(axis=1)
        below.add(lo, others & ~is_above.any(axis=1) & is_positive.any(axis=1), -reached)
        high = np.where(is_above & ~is_positive, share, -np.inf).max(axis=1)
        negative.add(lo, others & is_above.any(axis=1), -high)
        for name in np.unique(sample_class[in_sample]).tolist():
            if name and name not in ORDINARY_CLASSES:
                known.setdefault(str(name), _Lowest(n_each)).add(lo, in_sample & (sample_class == name), lot)
    most = sorted(sorted(known), key=lambda name: -known[name].n_added)[:MAX_CLASSES]
    cut = f"the threshold of {level}"
    found = [
        *(("known", f"class {name}", "known beforehand, drawn by lot", known[name]) for name in sorted(most)),
        ("comparison", "comparison", "objects of the sample that no band selects, drawn by lot", comparison),
        ("below", "just below the cut", f"nearest below {cut}, where brighter than expected", below),
        ("negative", "high but negative", f"highest above {cut}, but not brighter than expected there", negative),
    ]
    return [Group(kind, title, words, kept.n_added, kept.rows) for kind, title, words, kept in found if kind in kinds]
