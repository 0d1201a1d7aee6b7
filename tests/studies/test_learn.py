"""Looks until what is interesting is found: the counting against plain loops, a small loop, and the page."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "studies"))


def test_looks_are_counted_to_the_one_that_reaches_the_goal() -> None:
    import learn

    wanted = np.array([False, True, True, False, True, True, False, True])
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    expected = []
    for goal in learn.GOALS:
        found = n_looks = 0
        while found < math.ceil(goal * 5):
            found += bool(wanted[order[n_looks]])
            n_looks += 1
        expected.append(n_looks)
    assert learn.looks(order, wanted, 5) == expected == [5, 7, 8]
    assert learn.looks(order[:4], wanted, 5) == [None, None, None]


def test_looks_at_random_are_those_of_many_shuffles() -> None:
    import learn

    rng, wanted = np.random.default_rng(1), np.arange(60) < 12
    found = [learn.looks(rng.permutation(60), wanted, 12) for _ in range(4000)]
    np.testing.assert_allclose(np.mean(found, axis=0), learn.at_random(60, 12), rtol=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_learning_needs_fewer_looks_than_the_score(seed: int) -> None:
    """A regression of the loop: classes that a line parts, and a score that says little of them."""
    import learn

    rng = np.random.default_rng(seed)
    kind = np.array(["normal"] * 240 + ["artefact_saturated"] * 20 + ["xelg"] * 30 + ["quasar"] * 10)
    values = rng.normal(size=(300, 15)).astype(np.float32)
    values[kind == "xelg", :2] += 3
    values[kind == "quasar", 1:3] += 4
    values[kind == "artefact_saturated", 0] -= 5
    by_score = np.argsort(-(rng.normal(size=300) + np.isin(kind, learn.INTERESTING)), kind="stable")
    found = learn.measure(kind.tolist(), by_score, {"rank": values})
    assert (found["n"], found["n_wanted"]) == (300, {"all": 40, "xelg": 30, "quasar": 10})
    ways = found["ways"]
    assert ways["least possible"]["all"][2] == 36 <= ways["rank"]["all"][2] <= 60
    assert ways["rank"]["all"][2] < 0.4 * ways["score"]["all"][2]
    assert ways["rank"]["artefacts"] <= ways["score"]["artefacts"]


def test_the_page_is_what_its_maker_makes() -> None:
    import learn

    content = json.loads(learn.RESULTS.read_text())
    assert len(content["surveys"]) == len({one["seed"] for one in content["surveys"]}) >= 10
    assert learn.PAGE.read_text() == learn.page(content), "run python studies/learn.py --page"
