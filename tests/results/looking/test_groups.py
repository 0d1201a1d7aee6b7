"""Groups to compare candidates with, beside a plain choice over the whole store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from survey_runs import LEVELS, make_scores

from swimmy_scale.method.survey import HSC
from swimmy_scale.results.looking import groups as module
from swimmy_scale.results.looking.groups import KINDS, groups

N, PICKS = 60, HSC.band_index(HSC.selecting_bands)
THRESHOLD = np.full((len(LEVELS), 5), 2.0)


class InMemory:
    """Columns that are read as those of a store are, in blocks of a given size."""

    def __init__(self, block: int, seed: int = 4) -> None:
        random = np.random.default_rng(seed)
        self.survey, self.n_objects, self.block = HSC, N, block
        self.score_name, self.residual_name = "score", "residual"
        score, residual = random.uniform(0, 2.2, (2, N, 5)).astype(np.float32)
        residual -= np.float32(1.1)
        in_sample = random.random(N) < 0.8
        flags = in_sample[:, None, None] & ((score > 2) & (residual > 0))[:, None, :] & np.array([True, False])[:, None]
        flags[:, :, [3, 4]] = False
        classes = np.array(["", "quasar", "xelg", "training", "other"])[random.integers(0, 5, N)]
        self.columns = {"score": score, "residual": residual, "in_sample": in_sample, "candidate": flags,
                        "sample_class": classes, "threshold": THRESHOLD, "level": np.array(LEVELS)}  # fmt: skip

    @property
    def levels(self) -> list[str]:
        return list(LEVELS)

    def read(self, name: str, lo: int = 0, hi: int | None = None):
        return self.columns[name][lo:hi]

    def blocks(self, *names: str):
        for lo in range(0, N, self.block):
            yield lo, tuple(self.columns[name][lo : lo + self.block] for name in names)


@pytest.mark.parametrize("block", [1, 7, 60])
def test_groups_are_what_a_plain_choice_gives_in_blocks_of_any_size(block: int) -> None:
    store = InMemory(block)
    found = {group.title: group for group in groups(store, 5, 3)}
    assert list(found) == ["class quasar", "class xelg", "comparison", "just below the cut", "high but negative"]
    score, residual = (store.columns[name][:, PICKS].astype(float) for name in ("score", "residual"))
    in_sample, candidate = store.columns["in_sample"], store.columns["candidate"].any(axis=(1, 2))
    lot = np.random.default_rng(3).random(N)

    def first(rows: list[int], key: dict[int, float]) -> list[int]:
        return sorted(rows, key=lambda row: (key[row], row))[:5]

    by_lot = dict(enumerate(lot))
    others = [row for row in range(N) if in_sample[row] and not candidate[row]]
    below = [row for row in others if not (score[row] > 2).any() and (residual[row] > 0).any()]
    reach = {row: -max(s for s, r in zip(score[row], residual[row], strict=True) if r > 0) for row in below}
    negative = [row for row in others if (score[row] > 2).any()]
    high = {row: -max(s for s in score[row] if s > 2) for row in negative}
    for title, members, key in (
        ("comparison", others, by_lot), ("just below the cut", below, reach), ("high but negative", negative, high),
        *((f"class {name}", [row for row in range(N) if in_sample[row] and store.columns["sample_class"][row] == name],
           by_lot) for name in ("quasar", "xelg")),
    ):  # fmt: skip
        assert found[title].n_objects == len(members) > 0
        assert found[title].rows.tolist() == first(members, key), title
    assert not any(candidate[found[title].rows].any() for title in list(found)[2:])


def test_another_seed_draws_others_and_kinds_can_be_chosen() -> None:
    one, same, other = (groups(InMemory(60), 5, seed, ("comparison",))[0].rows.tolist() for seed in (1, 1, 2))
    assert one == same != other
    assert [group.kind for group in groups(InMemory(60), 5)] == ["known", *KINDS]


def test_only_the_largest_classes_have_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLASSES", 1)
    store = InMemory(60)
    classes = store.columns["sample_class"][store.columns["in_sample"]]
    most = max(("quasar", "xelg"), key=lambda name: (classes == name).sum())
    assert [group.title for group in groups(store, 5, 0, ("known",))] == [f"class {most}"]


def test_a_real_store_and_a_threshold_of_zero(tmp_path: Path) -> None:
    made = make_scores(tmp_path / "s.zarr", [[0.0] * 5, [1.0] * 5], ["", "g"], np.zeros((len(LEVELS), 5)))
    found = {group.kind: group.rows.tolist() for group in groups(made, 5)}
    assert found == {"comparison": [0], "below": [], "negative": []}
