"""Why an object is a candidate or none: the words, with the numbers that decide."""

from __future__ import annotations

import numpy as np
import pytest

from swimmy_scale.method.candidacy import of_cut, of_no_row, of_quarantined, of_scores
from swimmy_scale.method.candidates import candidates
from swimmy_scale.method.sample import FailedCut

THRESHOLD = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])


def said(score: list[float], residual: list[float]) -> str:
    values = [np.array([numbers], np.float32) for numbers in (score, residual)]
    flags = candidates(values[0], values[1], THRESHOLD, np.ones(1, np.bool_), [0, 1, 2])
    return of_scores(values[0][0], values[1][0], THRESHOLD, flags[0], ["2sigma", "3sigma"], ["g", "r", "i"])


@pytest.mark.parametrize(("score", "residual", "words"), [
    ([1.5, 0, 0], [1, 1, 1], "candidate at 2sigma in g"),
    ([15, 3, 0], [1, 1, 1], "candidate at 2sigma in g&r, at 3sigma in g"),
    ([1.5, 3, 0], [-1, 1, 1], "candidate at 2sigma in r"),
    ([0.5, 1, 2.5], [1, -1, 0], "no candidate: not above the threshold of 2sigma in any band: g (0.5, threshold 1), "
                                "r (1, threshold 2), i (2.5, threshold 3)"),
    ([1, 1, 1], [1, 1, 1], "no candidate: not above the threshold of 2sigma in any band: g (1, threshold 1), "
                           "r (1, threshold 2), i (1, threshold 3)"),
    ([1.5, 3, 0], [-0.25, 0, 1], "no candidate: above the threshold of 2sigma in g (1.5, threshold 1), but its "
                                 "residual there is not positive (-0.25); in r (3, threshold 2), but its residual "
                                 "there is not positive (0); not above it in i (0, threshold 3)"),
    ([15, 25, 35], [-1, -1, -1], "no candidate: above the threshold of 2sigma in g (15, threshold 1), but its residual "
                                 "there is not positive (-1); in r (25, threshold 2), but its residual there is not "
                                 "positive (-1); in i (35, threshold 3), but its residual there is not positive (-1)"),
])  # fmt: skip
def test_the_words_are_those_of_selection(score: list[float], residual: list[float], words: str) -> None:
    assert said(score, residual) == words


def test_numbers_that_differ_are_told_apart() -> None:
    assert "g (0.9999999, threshold 1)" in said([1 - 1e-7, 0, 0], [1, 1, 1])


def test_what_has_no_scores() -> None:
    assert of_no_row() == "no candidate: not in the catalogue of the run"
    assert of_quarantined("no_data", ()) == "no candidate: in quarantine, no_data"
    assert (
        of_quarantined("no_data", ("g: zeros", "r: zeros"))
        == "no candidate: in quarantine, no_data: g: zeros; r: zeros"
    )
    failed = [FailedCut("g-r", "g - r < 1.2", "1.5"), FailedCut("edge", "edge is False", "")]
    assert of_cut(failed) == "no candidate: not in the sample: g - r < 1.2 fails (1.5); edge is False fails"
    assert of_cut(None).endswith("cannot be told without the cutouts")
    assert of_cut([]) == "no candidate: not in the sample, by cuts other than the job's"
