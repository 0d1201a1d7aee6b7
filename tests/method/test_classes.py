"""Classes of the spectroscopic sample and table 1."""

from __future__ import annotations

import numpy as np
import pytest

from swimmy_scale.method.classes import SAMPLE_CLASSES, Classes, is_agn_candidate, table_1


def classes(*rows: tuple[int, ...]) -> Classes:
    """Rows of (in MPA-JHU, XELG, quasar, AGN candidate), and perhaps (undecided)."""
    return Classes(*np.array([[*row, 0][:5] for row in rows], np.bool_).reshape(-1, 5).T)


@pytest.mark.parametrize(
    ("row", "name", "training"),
    [
        ((1, 0, 0, 0, 1), "", False),
        ((1, 0, 0, 0), "training", True),
        ((1, 1, 0, 0), "xelg", False),
        ((1, 0, 0, 1), "agn_candidate", False),
        ((0, 0, 1, 0), "quasar", False),
        ((1, 0, 1, 0), "quasar", False),
        ((1, 1, 1, 0), "quasar", False),  # an XELG that is a quasar as well
        ((1, 1, 0, 1), "xelg", False),
        ((1, 1, 1, 1), "quasar", False),
        ((0, 0, 0, 0), "other", False),
    ],
)
def test_first_class_that_holds_names_an_object(row: tuple[int, ...], name: str, training: bool) -> None:
    found = classes(row)
    assert found.sample_class.tolist() == [name]
    assert name in (*SAMPLE_CLASSES, "")
    assert found.is_training.tolist() == [training]


def test_overlap_is_kept() -> None:
    found = classes((1, 1, 1, 0))
    assert found.is_xelg[0]
    assert found.is_quasar[0]


@pytest.mark.parametrize(
    ("bptclass", "expected"), [(-1, False), (1, False), (2, False), (3, True), (4, True), (5, True)]
)
def test_agn_candidates_are_classes_from_3(bptclass: int, expected: bool) -> None:
    assert is_agn_candidate(np.array([bptclass], np.int16)).tolist() == [expected]


def test_table_1_by_hand() -> None:
    found = classes(
        *((1, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 0), (0, 0, 1, 0), (1, 0, 0, 1), (0, 0, 0, 0)),
        *((1, 0, 0, 0, 1), (1, 0, 0, 0)),
    )
    in_sample = np.array([True] * 8 + [False])
    rows = dict(table_1(found, in_sample))
    assert list(rows.values()) == [8, 6, 2, 2, 1, 1, 2, 1, 1]
    parts = ("(1) SDSS MPA-JHU", "(3) DR16Q quasars", "(4) Other spec-z (SDSS & GAMA)")
    assert rows["Test data"] == sum(rows[label] for label in parts) - rows["in (1) and (3) both"]


def test_numbers_of_the_paper_add_up_as_the_table_says() -> None:
    # Table 1: 49 319 = 25 714 + 23 + 23 582, so no quasar of the paper is counted in MPA-JHU as well.
    n = {"mpa": 25714, "quasar": 23, "other": 23582}
    mpa = np.repeat([True, False, False], list(n.values()))
    quasar = np.repeat([False, True, False], list(n.values()))
    xelg, agn = np.zeros(len(mpa), np.bool_), np.zeros(len(mpa), np.bool_)
    xelg[:701] = True
    agn[701 : 25714 - 21151] = True
    expected = [49319, 25714, 21151, 701, 25714 - 21151 - 701, 0, 23, 23582, 0]
    undecided = np.zeros(len(mpa), np.bool_)
    assert [number for _, number in table_1(Classes(mpa, xelg, quasar, agn, undecided))] == expected


def test_empty_classes_and_no_objects_are_zeros() -> None:
    assert {number for label, number in table_1(classes((0, 0, 0, 0))) if label[0] == "(" and label[1] != "4"} == {0}
    assert [number for _, number in table_1(classes())] == [0] * 9
    assert classes().sample_class.tolist() == []
