"""What the cuts of a sample leave, told before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence

from swimmy_scale.method.sample import CutCount, SampleCuts, merge_counts
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.scores import BLOCK_OBJECTS


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
