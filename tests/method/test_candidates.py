"""Candidate flags held to a plain loop, and table 2's counts held to the paper."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method import candidates


def test_levels_are_the_papers() -> None:
    assert dict(candidates.LEVELS) == {"2sigma": 0.05, "3sigma": 0.003, "3.5sigma": 0.000465}
    assert list(candidates.LEVELS) == ["2sigma", "3sigma", "3.5sigma"]


def naive_candidates(score, residual, threshold, in_sample, selecting) -> np.ndarray:
    flags = np.zeros((len(score), len(threshold), score.shape[1]), bool)
    for n, level, band in np.ndindex(flags.shape):
        high = float(score[n, band]) > float(threshold[level, band])
        flags[n, level, band] = high and residual[n, band] > 0 and in_sample[n] and band in selecting
    return flags


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_candidates_and_the_rejected(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.choice(np.array([0, 1, 2, 3, np.nan, np.inf], np.float32), (30, 5))
    residual = rng.choice(np.array([-1, 0, 1, np.nan], np.float32), (30, 5))
    threshold = rng.choice([0.0, 1.0, 2.5], (3, 5))
    in_sample = rng.random(30) < 0.7
    flags = candidates.candidates(score, residual, threshold, in_sample, [0, 1, 2])
    assert flags.dtype == bool
    assert np.array_equal(flags, naive_candidates(score, residual, threshold, in_sample, (0, 1, 2)))
    rejected = candidates.high_but_negative(score, residual, threshold, in_sample)
    kept = naive_candidates(score, (residual <= 0).astype(float), threshold, in_sample, range(5))
    assert np.array_equal(rejected, kept)


@pytest.mark.parametrize(("offset", "selected"), [(-1e-12, True), (0.0, False), (1e-12, False)])
def test_the_threshold_is_compared_in_float64(offset: float, selected: bool) -> None:
    """A threshold between two float32 is not rounded to one of them, and an equal score is not above it."""
    score = np.array([[0.1]], np.float32)
    threshold = np.array([[float(score[0, 0]) + offset]])
    flags = candidates.candidates(score, np.ones_like(score), threshold, np.ones(1, bool), [0])
    assert flags.tolist() == [[[selected]]]


@pytest.mark.parametrize(
    ("residual", "threshold", "in_sample"),
    [
        (np.ones((2, 1)), np.ones((1, 2)), 2),
        (np.ones((2, 2)), np.ones((1, 3)), 2),
        (np.ones((2, 2)), np.ones((1, 2)), 3),
    ],
)
def test_candidates_refuse_shapes_that_do_not_fit(residual, threshold, in_sample) -> None:
    args = (np.ones((2, 2), np.float32), residual.astype(np.float32), threshold, np.ones(in_sample, bool))
    with pytest.raises(SwimmyError, match="do not fit"):
        candidates.candidates(*args, [0])
    with pytest.raises(SwimmyError, match="do not fit"):
        candidates.high_but_negative(*args)


def test_high_but_negative_at_the_threshold() -> None:
    threshold = np.array([[0.1]])
    just = np.float32(0.1)  # a little more than 0.1
    score = np.array([just, np.float32(0.09), np.float32(0.2), np.float32(0.2), np.nan, 0.3, 0.3], np.float32)[:, None]
    residual = np.array([-1, -1, 0, 1, -1, np.nan, -1], np.float32)[:, None]
    in_sample = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    found = candidates.high_but_negative(score, residual, threshold, in_sample)
    assert found[:, 0, 0].tolist() == [True, False, True, *[False] * 4]
    exact = candidates.high_but_negative(
        np.full((1, 1), 0.5, np.float32), np.zeros((1, 1), np.float32), np.array([[0.5]]), np.ones(1, bool)
    )
    assert not exact.any()  # a tie is not above


# ---------------------------------------------------------------- table 2

TABLE_2 = {
    "sample": (49_319, {"g": 2461, "r": 2147, "i": 2455, "g&r": 391, "r&i": 385, "g&i": 418, "g&r&i": 86, "any": 5955}),
    "quasar": (23, {"g": 7, "r": 3, "i": 9, "g&r": 1, "r&i": 2, "g&i": 2, "g&r&i": 0, "any": 14}),
    "xelg": (701, {"g": 263, "r": 119, "i": 282, "g&r": 77, "r&i": 51, "g&i": 119, "g&r&i": 26, "any": 443}),
}
# Printed with the table, in percent.
PERCENT = {
    ("sample", "g"): 4.990,
    ("sample", "r"): 4.353,
    ("sample", "i"): 4.978,
    ("sample", "any"): 12.07,
    ("quasar", "any"): 61,
    ("xelg", "any"): 63.2,
}


def flags_of(rows: dict[str, int], n_objects: int) -> np.ndarray:
    """Flags of n_objects with exactly these counts, from the numbers selected in exactly each combination."""
    all_three = rows["g&r&i"]
    gr, ri, gi = (rows[pair] - all_three for pair in ("g&r", "r&i", "g&i"))
    exactly = {
        (1, 1, 1): all_three,
        (1, 1, 0): gr,
        (0, 1, 1): ri,
        (1, 0, 1): gi,
        (1, 0, 0): rows["g"] - gr - gi - all_three,
        (0, 1, 0): rows["r"] - gr - ri - all_three,
        (0, 0, 1): rows["i"] - gi - ri - all_three,
    }
    flags = np.zeros((n_objects, 3), bool)
    filled = np.concatenate([np.tile(np.array(bits, bool), (count, 1)) for bits, count in exactly.items()])
    flags[: len(filled)] = filled
    return flags


def test_table_2_of_the_paper() -> None:
    quasar, xelg = (flags_of(TABLE_2[name][1], TABLE_2[name][0]) for name in ("quasar", "xelg"))
    rest_rows = {
        row: count - TABLE_2["quasar"][1][row] - TABLE_2["xelg"][1][row] for row, count in TABLE_2["sample"][1].items()
    }
    rest = flags_of(rest_rows, 49_319 - 23 - 701)
    outside = np.ones((100, 3), bool)
    flags = np.concatenate([quasar, xelg, rest, outside])
    is_quasar, is_xelg = np.arange(len(flags)) < 23, (np.arange(len(flags)) >= 23) & (np.arange(len(flags)) < 724)
    in_sample = np.arange(len(flags)) < 49_319
    order = np.random.default_rng(0).permutation(len(flags))
    counts = candidates.selection_counts(
        flags[order], ("g", "r", "i"), {"quasar": is_quasar[order], "xelg": is_xelg[order]}, in_sample[order]
    )
    assert list(counts) == ["g", "r", "i", "g&r", "r&i", "g&i", "g&r&i", "any"]
    for group, (n_objects, rows) in TABLE_2.items():
        for row, n_selected in rows.items():
            cell = counts[row][group]
            assert (cell["n_selected"], cell["n_objects"]) == (n_selected, n_objects)
            assert cell["percent"] == pytest.approx(100 * n_selected / n_objects)
    for (group, row), percent in PERCENT.items():
        assert counts[row][group]["percent"] == pytest.approx(
            percent, abs=0.5 if percent == 61 else 0.05 if percent > 5 else 0.0005
        )
    json.dumps(counts)


@given(hnp.arrays(bool, st.tuples(st.integers(0, 40), st.just(3))))
def test_counts_obey_inclusion_and_exclusion(flags: np.ndarray) -> None:
    n = {row: cell["sample"]["n_selected"] for row, cell in candidates.selection_counts(flags, ("g", "r", "i")).items()}
    assert n["any"] == n["g"] + n["r"] + n["i"] - n["g&r"] - n["r&i"] - n["g&i"] + n["g&r&i"]


@pytest.mark.parametrize(
    ("bands", "rows"),
    [
        ("g", "g any"),
        ("gr", "g r g&r any"),
        ("griz", "g r i z g&r r&i i&z g&i r&z g&z g&r&i r&i&z g&r&z g&i&z g&r&i&z any"),
    ],
)
def test_rows_of_other_surveys(bands: str, rows: str) -> None:
    assert list(candidates.selection_counts(np.ones((2, len(bands)), bool), tuple(bands))) == rows.split()


def test_an_empty_group_has_no_percentage() -> None:
    counts = candidates.selection_counts(np.ones((2, 1), bool), ("g",), {"quasar": np.zeros(2, bool)})
    assert counts["g"]["quasar"] == {"n_selected": 0, "n_objects": 0, "percent": None}


@pytest.mark.parametrize(
    ("flags", "groups", "text"),
    [
        (np.ones((2, 2), bool), {}, r"shape \(2, 2\), bands \('g',\) need \(n, 1\)"),
        (np.ones((2, 1), bool), {"xelg": np.ones(3, bool)}, r"'xelg' has shape \(3,\)"),
        (np.ones((2, 1), bool), {"sample": np.ones(2, bool)}, "a name other than 'sample'"),
    ],
)
def test_selection_counts_refuse(flags, groups, text) -> None:
    with pytest.raises(SwimmyError, match=text):
        candidates.selection_counts(flags, ("g",), groups)


@given(hnp.arrays(bool, st.tuples(st.integers(0, 20), st.just(3))))
def test_band_labels(flags: np.ndarray) -> None:
    expected = ["&".join(np.array(["g", "r", "i"])[row]) for row in flags]
    assert candidates.band_label(flags, ("g", "r", "i")).tolist() == expected


def test_band_labels_refuse_other_bands() -> None:
    with pytest.raises(SwimmyError, match=r"need \(n, 2\)"):
        candidates.band_label(np.ones((4, 3), bool), ("g", "r"))
