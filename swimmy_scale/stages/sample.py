"""The sample: which scored objects pass the cuts, written beside their scores.

It is a stage of its own so that other cuts score nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sample import CutCount, SampleCuts, merge_counts
from swimmy_scale.method.survey import BoolArray
from swimmy_scale.stages.engine import Count, Stage, Task
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.files import digest_json
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import store_digest
from swimmy_scale.storage.scores import BLOCK_OBJECTS, Scores, write_sample

SAMPLE_VERSION = 1


def sample_counts(store: Cutouts, cuts: SampleCuts) -> list[CutCount]:
    """What every cut leaves of the objects of a store that are not in quarantine.

    Raises
    ------
    SwimmyError
        When the cuts need what the catalogue does not have.
    """
    rule, counts = SampleRule.of(store, cuts), list[list[CutCount]]()
    for lo in range(0, store.n_objects, BLOCK_OBJECTS):
        hi = min(lo + BLOCK_OBJECTS, store.n_objects)
        counts.append(rule.apply(store, lo, hi, store.read("quarantine_code", lo, hi) == 0)[1])
    return merge_counts(counts)


def nothing_passes(counts: Sequence[CutCount]) -> str:
    """What is wrong with cuts that leave no object, and with which of them; empty if they leave one."""
    usable, *cuts = counts
    if usable.after == 0:
        return (
            f"all {usable.before:,} objects are in quarantine, so there is nothing to score. quarantine.csv says why."
        )
    last = next((cut for cut in cuts if cut.after == 0), None)
    if last is None:
        return ""
    return (
        f"none of {usable.after:,} usable objects passed the sample cuts: of {last.before:,} that were left, none "
        f"passed {last.rule!r}. Relax the cuts of the job's sample section."
    )


@dataclass(frozen=True)
class SampleStage(Stage):
    """``in_sample`` of a ``scores.zarr``: it has no tasks, the finish does all the work.

    ``score`` holds the receipts of the scores.
    """

    ledger: Ledger
    cutouts: Path
    scores: Path
    cuts: SampleCuts
    score: Ledger

    @property
    def identity(self) -> str:
        """Digest of the cuts, of what they look at, and of the objects that could be scored."""
        done = self.score.read(FINISHED)
        scored = done.data_digest if done else ""
        given = [asdict(self.cuts), store_digest(self.cutouts), scored]
        return digest_json(["sample", SAMPLE_VERSION, swimmy_scale.__version__, *given])

    def check(self) -> None:
        """Check that the cuts leave a sample, before hours go into its scores."""
        if self.score.read(FINISHED) is not None:
            return
        store = Cutouts(self.cutouts)
        if problem := nothing_passes(sample_counts(store, self.cuts)):
            raise SwimmyError(f"{self.cutouts}: {problem}")

    def count(self) -> Count:
        """Rows that the finish goes through."""
        return Count("rows", Cutouts(self.cutouts).n_objects)

    def plan(self) -> Sequence[Task]:
        """No tasks."""
        return []

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Apply the cuts to every object that has a score, and add up what each leaves."""
        store, scores, counts = Cutouts(self.cutouts), Scores(self.scores, add), list[list[CutCount]]()
        rule = SampleRule.of(store, self.cuts)

        def applied() -> Iterator[tuple[int, BoolArray]]:
            for lo, (code,) in scores.blocks("quarantine_code"):
                in_sample, found = rule.apply(store, lo, lo + len(code), code == 0)
                counts.append(found)
                yield lo, np.asarray(in_sample)

        files = write_sample(self.scores, applied())
        return self.ledger.finish(
            self.identity, Parts.of(receipts), files, {"cuts": [asdict(count) for count in merge_counts(counts)]}
        )
