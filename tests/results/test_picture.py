"""The picture of a run: drawn for any sample, the same bytes each time, and showing what it was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.results.histogram import ScoreHistogram, score_histogram
from swimmy_scale.results.picture import (
    _BETWEEN_IN,
    _GAP_IN,
    _HEAD_IN,
    _HISTOGRAM_IN,
    _LEFT_IN,
    _STAMP_IN,
    DPI,
    MAX_GALLERY,
    N_BINS,
    Gallery,
    _strongest,
    write_picture,
)

LEVELS = ["2sigma", "3sigma", "3.5sigma"]
THRESHOLD = np.array([[3.0] * 3, [9.0] * 3, [20.0] * 3])


def gallery_of(n_shown: int, survey: Survey = HSC) -> Gallery:
    rng = np.random.default_rng(n_shown)
    shape = (n_shown, survey.n_bands, survey.cutout_size_px, survey.cutout_size_px)
    source = rng.uniform(0, 1, shape).astype(np.float32)
    n_selecting = len(survey.selecting_bands)
    return Gallery(
        object_id=np.arange(n_shown, dtype=np.int64) + 2**62,
        label=["g&r"] * n_shown,
        score=rng.lognormal(size=(n_shown, n_selecting)).astype(np.float32),
        source=source,
        reconstruction=(source * 0.9).astype(np.float32),
    )


def sample(n_objects: int, n_bands: int = 3) -> tuple[np.ndarray, np.ndarray]:
    score = np.random.default_rng(1).lognormal(size=(n_objects, n_bands)).astype(np.float32)
    return score, score > 3


def histogram_of(score: np.ndarray, candidate: np.ndarray, threshold: np.ndarray = THRESHOLD) -> ScoreHistogram:
    return score_histogram(lambda: [(score, candidate)], threshold, N_BINS)


def drawn(path: Path, n_shown: int = 2, n_objects: int = 500, **change: object) -> np.ndarray:
    histogram = histogram_of(*sample(n_objects))
    assert write_picture(path, HSC, histogram, THRESHOLD, LEVELS, gallery_of(n_shown), **change) == path
    return imread(path)


@pytest.mark.slow
@pytest.mark.parametrize("n_shown", [0, 1, MAX_GALLERY + 3])
def test_any_number_of_candidates_can_be_drawn(tmp_path: Path, n_shown: int) -> None:
    picture = drawn(tmp_path / "page.png", n_shown)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.shape[1] == 11 * DPI
    assert picture.shape[0] > 3 * DPI
    assert picture[..., :3].std() > 0.01


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_whatever_the_readers_settings(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 20}):
        drawn(tmp_path / "b.png")
    first = (tmp_path / "a.png").read_bytes()
    assert first == (tmp_path / "b.png").read_bytes()
    assert b"tEXtSoftware" not in first
    assert b"tIME" not in first


def test_drawing_leaves_matplotlibs_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    drawn(tmp_path / "page.png", 1)
    assert dict(matplotlib.rcParams) == before


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that is written on the page from now on."""
    texts: list[str] = []
    plain = Figure.text

    def remember(figure: Figure, x: float, y: float, text: str, **style: object) -> Text:
        texts.append(text)
        return plain(figure, x, y, text, **style)

    monkeypatch.setattr(Figure, "text", remember)
    return texts


def test_simulated_data_are_labelled_in_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = written(monkeypatch)
    plain = drawn(tmp_path / "plain.png", 0)
    assert "SIMULATED DATA" not in texts
    simulated = drawn(tmp_path / "simulated.png", 0, simulated=True)
    assert "SIMULATED DATA" in texts
    rows, columns = np.nonzero(np.abs(plain - simulated).max(axis=-1) > 0.1)
    assert rows.max() < 0.7 * DPI
    assert columns.min() > 8 * DPI
    assert rows.size > 1000


def test_the_head_counts_the_sample_and_its_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = written(monkeypatch)
    drawn(tmp_path / "page.png", 0)
    _, candidate = sample(500)
    assert f"500 objects in the sample, {candidate.any(axis=1).sum()} candidates" in texts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("score", "threshold"),
    [
        (np.zeros((0, 3), np.float32), THRESHOLD),
        (np.zeros((5, 3), np.float32), THRESHOLD),
        (np.full((5, 3), np.nan, np.float32), np.zeros((3, 3))),
        (np.full((5, 3), np.inf, np.float32), np.full((3, 3), np.nan)),
        (np.ones((1, 3), np.float32), np.ones((3, 3))),
        (np.array([[1e-45] * 3, [3e38] * 3], np.float32), THRESHOLD),
    ],
)
def test_odd_samples_are_drawn_without_a_warning(tmp_path: Path, score: np.ndarray, threshold: np.ndarray) -> None:
    histogram = histogram_of(score, np.zeros(score.shape, bool), threshold)
    write_picture(tmp_path / "p.png", HSC, histogram, threshold, LEVELS, gallery_of(0))
    assert (tmp_path / "p.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    "survey",
    [
        Survey(name="one band", bands=("r",), selecting_bands=("r",), magnitude_band="r", band_divisors=(1.0,),
               min_depth_mag=(25.0,), cutout_size_px=32),
        Survey(bands=("g", "r"), selecting_bands=("g", "r"), magnitude_band="r", band_divisors=(1.0,) * 2,
               min_depth_mag=(25.0,) * 2, cutout_size_px=16),
        replace(HSC, selecting_bands=HSC.bands),
    ],
)  # fmt: skip
def test_other_surveys(tmp_path: Path, survey: Survey) -> None:
    n_selecting = len(survey.selecting_bands)
    threshold = THRESHOLD[:1, :1].repeat(n_selecting, axis=1)
    histogram = histogram_of(*sample(100, n_selecting), threshold)
    path = write_picture(tmp_path / "p.png", survey, histogram, threshold, ["top"], gallery_of(2, survey))
    assert imread(path).shape[1] == 11 * DPI


# ---------------------------------------------------------------- what is drawn


def stamp_center(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """RGB in the middle of one stamp of the gallery."""
    half = (_STAMP_IN - _GAP_IN) / 2
    y = _HEAD_IN + _HISTOGRAM_IN + _BETWEEN_IN + row * _STAMP_IN + half
    x = _LEFT_IN + column * _STAMP_IN + half
    return picture[round(y * DPI), round(x * DPI), :3]


def test_each_residual_lies_in_its_own_row_and_an_excess_is_red(tmp_path: Path) -> None:
    gallery = gallery_of(2)
    gallery.reconstruction[:] = 0.4
    gallery.source[:] = 0.4
    gallery.source[0, 1, 24:40, 24:40] = 0.9  # r of the first: an excess
    gallery.source[1, 2, 24:40, 24:40] = 0.1  # i of the second: a lack
    gallery.source[:, 3:] = 1.0  # z and y are not shown
    histogram = histogram_of(*sample(100))
    picture = imread(write_picture(tmp_path / "p.png", HSC, histogram, THRESHOLD, LEVELS, gallery))
    for column, planted_row in ((0, 3), (1, 4)):
        for row in (2, 3, 4):
            red, green, blue = stamp_center(picture, row, column)
            if row != planted_row:
                assert min(red, green, blue) > 0.95
            elif column == 0:
                assert red > 0.3
                assert max(green, blue) < 0.15
            else:
                assert blue > 0.6
                assert blue - red > 0.3
    # In the composites r is green and i is red; they are shown as they are.
    assert stamp_center(picture, 0, 0) == pytest.approx([0.4, 0.9, 0.4], abs=0.01)
    assert stamp_center(picture, 0, 1) == pytest.approx([0.1, 0.4, 0.4], abs=0.01)
    assert stamp_center(picture, 1, 0) == pytest.approx([0.4, 0.4, 0.4], abs=0.01)


@pytest.mark.parametrize(
    ("label", "score", "lowest", "expected"),
    [
        ("g&r&i", [6.0, 4.0, 3.0], [3.0, 1.0, 1.0], "r 4"),
        ("g&i", [6.0, 4.0, 3.0], [3.0, 1.0, 1.0], "i 3"),
        ("g", [6.0, 4.0, 3.0], [3.0, 1.0, 1.0], "g 6"),
        ("g&i", [6.0, 4.0, 3.0], [3.0, 1.0, 0.0], "i 3"),
        ("g&r", [np.inf, 4.0, 3.0], [3.0, 1.0, 1.0], "g inf"),
        ("r&i", [0.0, 4.0, 4.0], [0.0, 1.0, 1.0], "r 4"),
    ],
)
def test_the_score_shown_is_that_of_the_strongest_selecting_band(
    label: str, score: list[float], lowest: list[float], expected: str
) -> None:
    gallery = replace(gallery_of(1), label=[label], score=np.array([score], np.float32))
    assert _strongest(HSC, gallery, np.array([lowest, [99.0] * 3])) == [expected]


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"histogram": histogram_of(np.ones((5, 5), np.float32), np.zeros((5, 5), bool), np.ones((3, 5)))},
            r"histogram has shape \(5,\), needs \(3,\)",
        ),
        ({"threshold": THRESHOLD[:2]}, r"threshold has shape \(2, 3\), needs \(3, 3\)"),
        ({"gallery": replace(gallery_of(2), label=["g"])}, r"label has shape \(1,\)"),
        ({"gallery": replace(gallery_of(2), score=np.ones((2, 5), np.float32))}, r"gallery's score has shape"),
        (
            {"gallery": replace(gallery_of(2), source=np.ones((2, 64, 64, 5), np.float32))},
            r"source has shape \(2, 64, 64, 5\), needs \(2, 5, 64, 64\) for survey 'HSC-SSP wide'",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, change: dict, text: str) -> None:
    given = {
        "histogram": histogram_of(*sample(5)),
        "threshold": THRESHOLD,
        "levels": LEVELS,
        "gallery": gallery_of(2),
    }
    with pytest.raises(SwimmyError, match=text):
        write_picture(tmp_path / "p.png", HSC, **{**given, **change})
    assert list(tmp_path.iterdir()) == []
