"""The paper's tables: counted by hand and by loops, and printed as the paper prints them."""

from __future__ import annotations

import numpy as np
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.paper.tables import (
    candidate_table,
    milliquas_table,
    printed_candidate_table,
    printed_milliquas_table,
    printed_selection_table,
    selection_table,
)

BANDS = ("g", "r", "i")
ROWS = ["g", "r", "i", "g&r", "r&i", "g&i", "g&r&i", "any"]


def flags(*labels: str) -> np.ndarray:
    return np.array([[band in label for band in BANDS] for label in labels])


def test_table_2_counts_an_object_in_each_of_its_classes() -> None:
    candidate = flags("g", "gr", "gri", "", "i", "g")
    in_sample = np.array([1, 1, 1, 1, 1, 0], bool)
    groups = {"quasar": np.array([1, 1, 0, 0, 0, 1], bool), "xelg": np.array([0, 1, 1, 1, 0, 0], bool)}
    table = selection_table(candidate, BANDS, groups, in_sample)
    assert table["band"].tolist() == ROWS
    assert table["n_selected_sample"].tolist() == [3, 2, 2, 2, 1, 1, 1, 4]
    assert table["n_selected_quasar"].tolist() == [2, 1, 0, 1, 0, 0, 0, 2]
    assert table["n_selected_xelg"].tolist() == [2, 2, 1, 2, 1, 1, 1, 2]
    assert table["n_objects_quasar"].tolist() == [2] * 8
    assert table["percent_xelg"][0] == pytest.approx(200 / 3)


def test_table_2_is_printed_as_in_the_paper() -> None:
    """The paper's own first rows: 2461 (4.990%) of 49 319, 7 (30%) of 23, 263 (37.5%) of 701; and the total."""
    counts = {"sample": (49_319, [2461, 5955]), "quasar": (23, [7, 14]), "xelg": (701, [263, 443]), "none": (0, [0, 0])}
    columns: dict[str, np.ndarray] = {"band": np.array(["g", "any"])}
    for name, (size, numbers) in counts.items():
        columns[f"n_selected_{name}"], columns[f"n_objects_{name}"] = np.array(numbers), np.array([size, size])
        columns[f"percent_{name}"] = np.array([100 * k / size if size else np.nan for k in numbers])
    head, rows = printed_selection_table(columns)
    assert head == ["band", "sample\n(N=49,319)", "quasar\n(N=23)", "xelg\n(N=701)", "none\n(N=0)"]
    assert rows[0] == ["g", "2,461 (4.990%)", "7 (30.43%)", "263 (37.52%)", "0 (-)"]
    assert rows[1] == ["Total", "5,955 (12.07%)", "14 (60.87%)", "443 (63.20%)", "0 (-)"]


def lists() -> dict[str, np.ndarray]:
    score = np.array([[0.00076, 0.00982, 0.00708], [9, 9, 9], [0.05678, 0.05687, 0.37663]], np.float32)
    return candidate_table(
        np.array([2**62 + 1, 5, 36411444245320355]),
        np.array([30.58684, 1.0, 30.59056]),
        np.array([-5.99814, 1.0, -6.67457]),
        score,
        flags("i", "", "gri"),
        BANDS,
        -score,
    )


def test_lists_hold_the_flagged_objects_by_identifier() -> None:
    table = lists()
    assert list(table) == [
        "object_id",
        "ra",
        "dec",
        "bands",
        *(f"{n}_{b}" for n in ("score", "residual") for b in BANDS),
    ]
    assert table["object_id"].tolist() == [36411444245320355, 2**62 + 1]
    assert table["bands"].tolist() == ["g&r&i", "i"]
    assert table["residual_i"].tolist() == (-table["score_i"]).tolist()


def test_lists_are_printed_as_in_the_paper() -> None:
    head, rows = printed_candidate_table(lists(), 1)
    assert head == ["ID", "R.A. [deg]", "Dec. [deg]", "Band", "S(g), S(r), S(i)"]
    assert rows[0] == ["36411444245320355", "30.59056", "-6.67457", "g&r&i", "(0.05678, 0.05687, 0.37663)"]
    assert rows[1:] == [["..."] * 5]
    assert len(printed_candidate_table(lists())[1]) == 2
    assert len(printed_candidate_table(lists(), 2)[1]) == 2


def test_an_empty_list_is_a_list() -> None:
    table = candidate_table(np.arange(2), np.zeros(2), np.zeros(2), np.zeros((2, 3), np.float32), flags("", ""), BANDS)
    assert all(values.shape == (0,) for values in table.values())
    assert printed_candidate_table(table, 5)[1] == []


def test_lists_refuse_what_does_not_fit() -> None:
    with pytest.raises(SwimmyError, match=r"flags have shape \(1, 3\), need \(2, 3\)"):
        candidate_table(np.arange(2), np.zeros(2), np.zeros(2), np.zeros((2, 3), np.float32), flags("g"), BANDS)


def test_table_4_leaves_out_dr16q() -> None:
    kind = np.array(["quasar", "quasar", "type1_agn", "type2_agn", "other", "", "type2_agn", ""])
    is_quasar = np.array([1, 0, 0, 0, 0, 0, 0, 1], bool)
    in_sample = np.array([1, 1, 1, 1, 1, 1, 0, 1], bool)
    candidate = flags("g", "gi", "r", "", "", "g", "g", "i")
    table = milliquas_table(kind, is_quasar, candidate, BANDS, in_sample)
    assert table["type"].tolist() == ["quasar", "type1_agn", "type2_agn", "other", "total", "sample"]
    assert table["n_objects"].tolist() == [1, 1, 1, 1, 4, 5]
    assert table["n_selected_g"].tolist() == [1, 0, 0, 0, 1, 2]
    assert table["n_selected_r"].tolist() == [0, 1, 0, 0, 1, 1]
    assert table["n_selected_i"].tolist() == [1, 0, 0, 0, 1, 1]
    assert table["n_selected"].tolist() == [1, 1, 0, 0, 2, 3]
    assert table["percent"].tolist() == [100, 100, 0, 0, 50, 60]
    head, rows = printed_milliquas_table(table)
    assert head == ["", "sample\n(N=5)", "g\n(2)", "r\n(1)", "i\n(1)", "total\n(3)"]
    assert [row[0] for row in rows] == ["quasar", "Type-I AGN", "Type-II AGN", "Others", "total"]
    assert rows[-1][1:] == ["4", "1", "1", "1", "2"]


def test_table_4_of_nobody_has_no_percentages() -> None:
    table = milliquas_table(np.zeros(0, "U9"), np.zeros(0, bool), np.zeros((0, 3), bool), BANDS, np.zeros(0, bool))
    assert np.isnan(table["percent"]).all()
    assert table["n_objects"].tolist() == [0] * 6
