"""Two selections side by side: which candidates came, which went, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.survey import BoolArray, IntArray
from swimmy_scale.results.looking.objects import NO_ROW, Answer, answers_by_id
from swimmy_scale.storage.scores import BLOCK_OBJECTS, Scores
from swimmy_scale.storage.selection import FORMAT_VERSION, SelectedRun
from swimmy_scale.storage.store import n_rows, open_group, read_rows

COLUMNS = ("object_id", "ra", "dec", "change", "known_class", "kind", "reason")
"""Of each difference; `OBJECT_NAME` follows where some objects have names."""
GONE = "its scores there are no longer there"
KINDS = ("not in the catalogue", "in quarantine", "not in the sample", "not above the threshold",
         "not brighter than expected", GONE)  # fmt: skip
"""Why an object is a candidate of one selection and not of the other."""


@dataclass(frozen=True)
class Difference:
    """A candidate of one of two selections.

    Attributes
    ----------
    change : str
        ``came``: of the second one alone; ``went``: of the first alone.
    kind : str
        One of `KINDS`: what holds of it in the selection of which it is no candidate.
    answer : Answer
        What is said of it there.
    of : Answer
        What is said of it where it is a candidate; None where its scores are no longer there.
    """

    change: str
    kind: str
    answer: Answer
    of: Answer | None

    @property
    def known(self) -> Answer:
        """What is said of it where it is a candidate, or else where it is none."""
        return self.of or self.answer

    @property
    def name(self) -> str:
        """Its id as the catalogue has it, if that is no number; empty otherwise."""
        return self.known.name or self.answer.name

    def row(self) -> tuple[Any, ...]:
        """The values of `COLUMNS`."""
        known = self.known
        place = [None if np.isnan(value) else value for value in (known.ra, known.dec)]
        return (self.answer.object_id, *place, self.change, known.known_class, self.kind, self.answer.words)


@dataclass(frozen=True)
class Comparison:
    """Two selections at one level.

    Attributes
    ----------
    level : str
    n_first, n_second, n_both : int
        Candidates of the first, of the second, and of both.
    same_scores : bool
        Whether both cut the same scores, so that only cuts and thresholds can differ.
    thresholds : mapping
        By band, the two thresholds.
    differences : sequence of Difference
        Those that went, then those that came, each by object_id.
    """

    level: str
    n_first: int
    n_second: int
    n_both: int
    same_scores: bool
    thresholds: Mapping[str, tuple[float, float]]
    differences: Sequence[Difference]

    def counts(self, change: str) -> Counter[str]:
        """How many came or went for each reason."""
        return Counter(item.kind for item in self.differences if item.change == change)

    def table(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Names of columns, and a row for each difference."""
        if not any(item.name for item in self.differences):
            return COLUMNS, [item.row() for item in self.differences]
        return (*COLUMNS, OBJECT_NAME), [(*item.row(), item.name) for item in self.differences]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        columns, rows = self.table()
        return {
            "level": self.level,
            "n_first": self.n_first,
            "n_second": self.n_second,
            "n_both": self.n_both,
            "same_scores": self.same_scores,
            "thresholds": {band: list(pair) for band, pair in self.thresholds.items()},
            **{change: dict(self.counts(change)) for change in ("went", "came")},
            "differences": [dict(zip(columns, row, strict=True)) for row in rows],
        }


def compare(first: SelectedRun, second: SelectedRun, level: str | None = None) -> Comparison:
    """Compare the candidates of two selections, by object_id.

    Parameters
    ----------
    level : str, optional
        By default the first level that both have.

    Raises
    ------
    SwimmyError
        When they do not have the level in common, or a store is damaged.
    """
    one, other = _Stored(first), _Stored(second)
    shared = [name for name in one.levels if name in other.levels]
    chosen = level or next(iter(shared), None)
    if chosen is None or chosen not in shared:
        raise SwimmyError(
            f"{first.folder.path} selects at {', '.join(one.levels)}, {second.folder.path} at "
            f"{', '.join(other.levels)}: {'no level in common' if level is None else f'not both at {level}'}. Choose "
            f"{'selections that have one' if not shared else 'among ' + ', '.join(shared)}."
        )
    before, after = one.candidates(chosen), other.candidates(chosen)
    went, came = np.setdiff1d(before, after), np.setdiff1d(after, before)
    limits = [dict(zip(item.bands, item.threshold[item.levels.index(chosen)].tolist(), strict=True))
              for item in (one, other)]  # fmt: skip
    selecting = Scores(first.run.scores).survey.selecting_bands
    return Comparison(
        chosen,
        before.size,
        after.size,
        np.intersect1d(before, after).size,
        one.scores_digest == other.scores_digest,
        {band: (limits[0][band], limits[1][band]) for band in selecting if band in limits[0] and band in limits[1]},
        [
            *_differences("went", chosen, went, of=one, there=other),
            *_differences("came", chosen, came, of=other, there=one),
        ],
    )


class _Stored:
    """A selection as far as it can be read without its scores."""

    def __init__(self, selected: SelectedRun) -> None:
        self.selected = selected
        path = selected.folder.store
        self.group = open_group(path, FORMAT_VERSION)
        self.scores_digest = self.group.attrs.get("scores_digest")
        self.n_objects = n_rows(self.group, "object_id")
        self.levels, self.bands = ([str(name) for name in read_rows(self.group, axis, 0, None)]
                                   for axis in ("level", "band"))  # fmt: skip
        self.threshold = read_rows(self.group, "threshold", 0, None)

    def candidates(self, level: str) -> IntArray:
        """object_ids of the candidates at a level, sorted."""
        at, parts = self.levels.index(level), [np.zeros(0, np.int64)]
        for lo in range(0, self.n_objects, BLOCK_OBJECTS):
            hi = min(lo + BLOCK_OBJECTS, self.n_objects)
            flags: BoolArray = read_rows(self.group, "candidate", lo, hi)[:, at].any(axis=1)
            parts.append(read_rows(self.group, "object_id", lo, hi)[flags])
        return np.unique(np.concatenate(parts))

    def answers(self, object_ids: IntArray) -> list[Answer] | None:
        """What is said of objects; None where the scores are no longer there."""
        return answers_by_id(self.selected, object_ids.tolist()) if self.selected.has_scores else None


def _differences(change: str, level: str, object_ids: IntArray, of: _Stored, there: _Stored) -> list[Difference]:
    if not object_ids.size:
        return []
    known, said = of.answers(object_ids), there.answers(object_ids)
    plain = [Answer(object_id, NO_ROW, GONE) for object_id in object_ids.tolist()]
    return [
        Difference(change, GONE if said is None else _kind(answer, level), answer, known[k] if known else None)
        for k, answer in enumerate(said or plain)
    ]


def _kind(answer: Answer, level: str) -> str:
    """Why an object is no candidate at a level, in one of `KINDS`."""
    if answer.row == NO_ROW:
        return KINDS[0]
    if answer.code:
        return KINDS[1]
    if not answer.in_sample:
        return KINDS[2]
    is_above = any(numbers["score"] > numbers[level] for numbers in (answer.bands or {}).values())
    return KINDS[4] if is_above else KINDS[3]
