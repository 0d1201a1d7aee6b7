"""The picture of a run: which candidates are the strangest, what the sample is, and a run without candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from survey_runs import make_scores

from swimmy_scale.method.network import Network
from swimmy_scale.method.survey import HSC
from swimmy_scale.model.scoring import Model, Scoring
from swimmy_scale.results.picture import sample_histogram
from swimmy_scale.stages.picture import PictureTask, draw_picture
from swimmy_scale.storage import scores as scores_module
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import cutouts_layout
from swimmy_scale.storage.receipts import Ledger
from swimmy_scale.storage.selection import Selection, strangest

# Columns g r i z y. The first level's thresholds are 1, 2, 4; z and y never select.
SCORE = [
    [3.0, 0.0, 0.0, 0.0, 0.0],  # 3 times
    [0.0, 8.0, 0.0, 0.0, 0.0],  # 4 times
    [0.5, 1.0, 2.0, 0.0, 0.0],  # no candidate
    [9.0, 0.0, 12.0, 0.0, 0.0],  # g has a negative residual: 3 times in i, a tie with row 0
    [2.0, 4.5, 0.0, 0.0, 0.0],  # 2.25 times
    [3.0, 0.0, 0.0, 99.0, 0.0],  # 3 times, a tie again
    [np.nan] * 5,  # quarantined
    [0.0, 0.0, 20.0, 0.0, 0.0],  # 5 times
]
FLAG = ["g", "r", "", "i", "gr", "g", "", "i"]
THRESHOLD = np.array([[1.0, 2.0, 4.0, 1.0, 1.0], [50.0] * 5])


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    return make_scores(tmp_path_factory.mktemp("picture") / "scores.zarr", SCORE, FLAG, THRESHOLD)


@pytest.mark.parametrize("block", [1, 3, 8, 1 << 18])
@pytest.mark.parametrize("n_objects", [0, 1, 3, 4, 12])
def test_strangest_first_and_ties_by_row(
    scores: Selection, monkeypatch: pytest.MonkeyPatch, n_objects: int, block: int
) -> None:
    monkeypatch.setattr(scores_module, "BLOCK_OBJECTS", block)
    rows = strangest(scores, n_objects)
    assert rows.tolist() == [7, 1, 0, 3, 5, 4][:n_objects]
    assert rows.dtype == np.int64


def test_scores_above_a_threshold_of_zero_and_infinite_scores_lead(tmp_path: Path) -> None:
    score = [[5.0, 0, 0, 0, 0], [0, 0.1, 0, 0, 0], [0, 0, np.inf, 0, 0], [9.0, 0.2, 0, 0, 0]]
    threshold = np.array([[1.0, 0.0, 1.0, 1.0, 1.0], [50.0] * 5])
    scores = make_scores(tmp_path / "scores.zarr", score, ["g", "r", "i", "gr"], threshold)
    assert strangest(scores, 12).tolist() == [1, 2, 3, 0]


def test_only_the_first_level_counts(tmp_path: Path) -> None:
    scores = make_scores(tmp_path / "scores.zarr", SCORE, FLAG, THRESHOLD[::-1])
    assert strangest(scores, 2).tolist() == [7, 3]  # 20 / 50 and 12 / 50


def test_no_candidates_and_no_objects(tmp_path: Path) -> None:
    assert strangest(make_scores(tmp_path / "a.zarr", SCORE, [""] * 8, THRESHOLD), 12).tolist() == []
    assert strangest(make_scores(tmp_path / "b.zarr", [], [], THRESHOLD), 12).tolist() == []


@pytest.mark.parametrize("block", [1, 3, 1 << 18])
def test_the_histogram_counts_the_whole_sample(scores: Selection, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(scores_module, "BLOCK_OBJECTS", block)
    found = sample_histogram(scores)
    known = np.array(SCORE)[[row for row in range(8) if row != 6], :3]
    assert (found.counts.n_objects, found.counts.n_candidates) == (7, 6)
    assert found.counts.sample.sum(axis=1).tolist() == (known > 0).sum(axis=0).tolist()
    assert found.counts.selected.sum(axis=1).tolist() == [sum(band in flags for flags in FLAG) for band in "gri"]
    medians = [np.median(np.log10(column[column > 0])) for column in known.T]
    assert found.log_median == pytest.approx(medians, rel=1e-15)


def task(folder: Path) -> PictureTask:
    return PictureTask(
        ledger=Ledger(folder / "receipts", folder, "picture"),
        index=0,
        identity="identity",
        n_objects=0,
        cutouts=folder / "cutouts.zarr",
        selection=folder / "selection.zarr",
        picture=folder / "candidates.png",
        scoring=Scoring((Model(folder / "absent.keras", "0"),), Network(), 8, 1),
        selected="selection",
    )


@pytest.mark.slow
def test_a_run_without_candidates_has_its_picture_and_needs_no_model(tmp_path: Path) -> None:
    create(tmp_path / "cutouts.zarr", cutouts_layout(8, HSC, {}, 8, 4, {}))
    make_scores(tmp_path / "scores.zarr", SCORE, [""] * 8, THRESHOLD)
    receipt = draw_picture(task(tmp_path))
    first = (tmp_path / "candidates.png").read_bytes()
    assert imread(tmp_path / "candidates.png").shape[2] == 4
    assert list(receipt.files) == ["candidates.png"]
    ledger = task(tmp_path).ledger
    assert ledger.valid("000000", "identity") == receipt
    draw_picture(task(tmp_path))
    assert (tmp_path / "candidates.png").read_bytes() == first
    (tmp_path / "candidates.png").write_bytes(b"")
    assert ledger.valid("000000", "identity") is None
