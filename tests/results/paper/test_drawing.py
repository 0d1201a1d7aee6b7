"""The paper's figures from arrays: what is drawn is what was given, in the same bytes each time; odd input as well."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import StepPatch

from swimmy_scale.method.survey import HSC
from swimmy_scale.results.histogram import ScoreCounts
from swimmy_scale.results.paper.drawing import distributions, relations, stacks, stamps
from swimmy_scale.results.paper.drawing.relations import ScoredPoints
from swimmy_scale.results.paper.stacking import rest_grid, stack
from swimmy_scale.results.paper.statistics import Correlation, binned_rates, cumulative_rates, kolmogorov_smirnov
from swimmy_scale.results.style import (
    DPI,
    WIDTH_IN,
    file_bytes,
    label_origin,
    paper_style,
    shown_level,
    shown_probability,
)

BANDS = ("g", "r", "i")
LEVELS = ["2sigma", "3sigma", "3.5sigma"]
THRESHOLD = np.array([[0.1] * 3, [1.0] * 3, [3.0] * 3])
SMALL = replace(HSC, cutout_size_px=16)
EDGES = np.linspace(0, 1, 11)
Draw = Callable[[int], Figure]


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def points(n: int) -> ScoredPoints:
    random = rng()
    is_xelg, is_active = np.arange(n) % 5 == 0, np.arange(n) % 7 == 0
    log_score = random.normal(-1, 1, (n, 3))
    return ScoredPoints(10 ** random.normal(1, 1, (n, 3)), log_score, log_score > -0.5, is_xelg, is_active)


def histogram(n: int) -> Figure:
    count = np.histogram(rng().uniform(size=n), EDGES)[0]
    return distributions.redshift_histogram(EDGES, {"all": count, "sample": count // 2, "MPA": count // 3})


def colour_cut(n: int) -> Figure:
    count = np.histogram(rng().uniform(size=n), EDGES)[0]
    return distributions.redshift_colour_cut(EDGES, {"all": count, "cut": count // 2}, (0.05, 0.2), ["a", "b"])


def score_histograms(n: int) -> Figure:
    counts = ScoreCounts(3, EDGES - 2)
    counts.sample += rng().integers(1, 50, (3, 10)) * min(n, 1)
    counts.selected += counts.sample // 3
    median = np.full(3, 0.01) if n else np.full(3, np.nan)
    return distributions.score_histograms(counts, median, THRESHOLD, LEVELS, BANDS)


def ew_cumulative(n: int) -> Figure:
    width, chosen = rng().gamma(2, 60, n), rng().uniform(size=n) < 0.6
    return distributions.ew_cumulative({band: cumulative_rates(width, chosen) for band in BANDS}, 100.0)


def selection_rate(n: int) -> Figure:
    z, chosen = rng().uniform(size=n), rng().uniform(size=(n, 3)) < 0.1
    curves = {name: np.full((10, 3), 0.5) for name in ("Hα", "[OIII]", "[OII]")}
    rates = binned_rates(z, chosen, EDGES)
    return distributions.selection_rate_redshift(EDGES, rates, BANDS, EDGES[1:], curves)


def score_ew(n: int) -> Figure:
    return relations.score_ew(points(n), THRESHOLD, LEVELS, BANDS)


def score_magnitude(n: int) -> Figure:
    found = [Correlation(-0.055, 0.001, n), Correlation(0.1, 0.2, n), Correlation(np.nan, np.nan, n)]
    return relations.score_magnitude(points(n), THRESHOLD, LEVELS, BANDS, found)


def sfr_mass(n: int) -> Figure:
    mass, sfr, chosen = rng().normal(10, 1, n), rng().normal(size=n), rng().uniform(size=(n, 3)) < 0.3
    tests = [kolmogorov_smirnov(mass[chosen[:, k]], mass[~chosen[:, k]]) for k in range(3)]
    return relations.sfr_mass(mass, sfr, chosen, chosen & (mass > 10)[:, None], BANDS, tests, tests, "3sigma")


def weight_sets(n: int) -> Figure:
    run, epoch = np.arange(n) // 4, np.arange(n) % 4
    return relations.weight_sets(run, epoch, *(rng().uniform(size=(4, n))))


def stamp_sheet(n: int) -> Figure:
    cube = rng().uniform(size=(n, 5, 16, 16)).astype(np.float32)
    group = stamps.StampGroup("some", cube, cube * np.float32(0.9), np.full((n, 5), 2.7))
    return stamps.stamps([group, replace(group, sigma=None)], BANDS, SMALL, n_columns=15)


def gallery(n: int) -> Figure:
    cube = rng().uniform(size=(n, 5, 16, 16)).astype(np.float32)
    return stamps.gallery(["g: 1", "r: 2", "i: 3"], [cube, cube[:1], cube[:0]], SMALL)


def profiles(n: int) -> Figure:
    values = rng().normal(size=(2, n, 5, 8))
    chosen = np.arange(n) % 3 == 0
    return stamps.radial_profiles(np.arange(8) + 0.5, *values, chosen, HSC.bands, "quasars")


def stretch(n: int) -> Figure:
    linear = rng().normal(size=(5, 16, 16)) * n
    return stamps.stretch(linear, np.full((5, 16, 16), 0.3, np.float32), SMALL)


def spectra(n: int) -> Figure:
    grid = rest_grid(4790, 5100)
    flux = 1 + 0.1 * rng().normal(size=(n, grid.size))
    found = stack(flux, np.ones_like(flux))
    part = stacks.BandSpectra(found, found, n, n, flux)
    return stacks.stacked_spectra(grid, [part] * 3, BANDS, "3sigma")


DRAWN: dict[str, Draw] = {
    draw.__name__: draw
    for draw in (histogram, colour_cut, score_histograms, ew_cumulative, selection_rate, score_ew, score_magnitude,
                 sfr_mass, weight_sets, stamp_sheet, gallery, profiles, stretch, spectra)
}  # fmt: skip
each_figure = pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)


def texts(figure: Figure) -> list[str]:
    return [item.get_text() for item in figure.findobj(matplotlib.text.Text)]


@each_figure
@pytest.mark.parametrize("n_objects", [0, 1])
def test_nobody_and_a_single_object_are_drawn_without_a_warning(draw: Draw, n_objects: int) -> None:
    figure = draw(n_objects)
    assert "SIMULATED DATA" not in texts(figure)
    if n_objects:
        return  # the layout is that of many, which other tests draw
    with paper_style():
        figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        assert min(box.width * width, box.height * height) > 0.05  # inches: nothing has collapsed
    assert width == WIDTH_IN


@each_figure
def test_simulated_data_are_labelled(draw: Draw) -> None:
    figure = draw(8)
    label_origin(figure, simulated=True, credit="someone")
    assert texts(figure).count("SIMULATED DATA") == 1
    assert "someone" not in texts(figure)


def test_observed_pixels_are_credited() -> None:
    figure = stamp_sheet(2)
    label_origin(figure, simulated=False, credit="HSC-SSP / NAOJ")
    assert "HSC-SSP / NAOJ" in texts(figure)
    assert "SIMULATED DATA" not in texts(figure)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [ew_cumulative, score_ew, sfr_mass, stamp_sheet, spectra])
def test_a_pdf_is_one_page_without_a_date(draw: Draw) -> None:
    pdf = file_bytes(draw(8), "pdf")
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    assert b"CreationDate" not in pdf


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_whatever_the_readers_settings() -> None:
    for draw, kind in ((score_magnitude, "pdf"), (stamp_sheet, "png")):
        first = file_bytes(draw(30), kind)
        with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "lines.linewidth": 9}):
            assert file_bytes(draw(30), kind) == first


def test_pictures_have_print_size() -> None:
    picture = imread(io.BytesIO(file_bytes(histogram(60), "png")))[..., :3]
    assert picture.shape[:2] == (3 * DPI, WIDTH_IN * DPI)
    assert picture.std() > 0.02


def test_histograms_draw_the_counts_given() -> None:
    figure = histogram(500)
    count = np.histogram(rng().uniform(size=500), EDGES)[0]
    filled = [patch for patch in figure.axes[0].patches if isinstance(patch, StepPatch) and patch.get_fill()]
    for patch, expected in zip(filled, (count, count // 2, count // 3), strict=True):
        assert patch.get_data().values.tolist() == expected.tolist()
    assert f"all ({count.sum():,})" in texts(figure)


def test_every_object_is_a_mark_of_its_kind_in_its_panel() -> None:
    given = points(200)
    figure = relations.score_ew(given, THRESHOLD, LEVELS, BANDS)
    for k, axes in enumerate(figure.axes):
        marks = {}
        for line in axes.lines:
            if line.get_linestyle() == "None":
                kind = (line.get_marker(), to_hex(line.get_color()) == matplotlib.colors.to_hex("#c4c6cb"))
                marks.setdefault(line.get_marker(), []).append((kind, line.get_xydata()))
        chosen = given.selected[:, k]
        for marker, member in (("^", given.is_xelg), ("x", given.is_active)):
            (_, unselected), (_, selected) = marks[marker]
            np.testing.assert_array_equal(unselected, np.stack([given.x, given.log_score])[:, member & ~chosen, k].T)
            np.testing.assert_array_equal(selected, np.stack([given.x, given.log_score])[:, member & chosen, k].T)
        limits = sorted(float(line.get_ydata()[0]) for line in axes.lines if line.get_linestyle() != "None")
        np.testing.assert_allclose(limits, np.log10(THRESHOLD[:, k]))


def test_figure_12_prints_rho_and_p() -> None:
    assert {"ρ = -0.055, p < 0.01", "ρ = 0.100, p = 0.20", "ρ = nan, p unknown"} <= set(texts(score_magnitude(10)))


def test_profiles_draw_means_of_both_kinds() -> None:
    figure = profiles(9)
    values = rng().normal(size=(2, 9, 5, 8))
    chosen = np.arange(9) % 3 == 0
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() > 1]
    np.testing.assert_allclose(thick[0].get_ydata(), values[0, ~chosen, 0].mean(axis=0))
    np.testing.assert_allclose(thick[1].get_ydata(), values[0, chosen, 0].mean(axis=0))
    assert {"not selected (6)", "selected (3)"} <= set(texts(figure))


def test_unknown_rings_do_not_spoil_the_mean() -> None:
    mean = stamps.known_mean(np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan]]))
    np.testing.assert_array_equal(mean, [2.0, 4.0, np.nan])


def test_stamps_stand_in_their_places_with_up_upwards_and_excess_red() -> None:
    cube = np.full((2, 5, 16, 16), 0.5, np.float32)
    other = cube.copy()
    other[1, 1, 6:10, 6:10] = 0.1  # the second has an excess in r
    cube[0, 2, 15, 0] = 1.0  # a red pixel in the upper left corner of the first
    figure = stamps.stamps([stamps.StampGroup("", cube, other)], BANDS, SMALL, n_columns=8)
    canvas = figure.axes[0].images[0].get_array()
    step = 16 + 3
    assert canvas[0, 0].tolist() == pytest.approx([1.0, 0.5, 0.5])
    assert canvas[15, 0].tolist() == pytest.approx([0.5, 0.5, 0.5])
    middle = canvas[3 * step + 8, step + 8]  # residual in r of the second
    assert middle[0] > middle[2] + 0.2
    for row in (2, 4):
        assert canvas[row * step + 8, step + 8].min() > 0.95


def test_composites_of_figure_2_are_of_neighbouring_bands() -> None:
    stretched = np.broadcast_to(np.linspace(0.1, 0.9, 5, dtype=np.float32)[:, None, None], (5, 16, 16))
    figure = stamps.stretch(np.ones((5, 16, 16)), stretched, SMALL)
    canvas = figure.axes[2].images[0].get_array()
    assert canvas[0, 0].tolist() == pytest.approx([0.5, 0.3, 0.1])  # i, r, g
    assert canvas[0, 2 * 19].tolist() == pytest.approx([0.9, 0.7, 0.5])  # y, z, i
    assert {"gri", "riz", "izy"} <= set(texts(figure))


def test_main_sequence_is_renzinis_and_pengs() -> None:
    assert relations.main_sequence(np.array([10.0])) == pytest.approx(-0.04)


def test_means_over_runs_leave_out_what_is_unknown() -> None:
    epochs, mean, deviation = relations.by_epoch(np.array([10, 11, 10, 12]), np.array([1.0, 5.0, 3.0, np.nan]))
    assert epochs.tolist() == [10, 11, 12]
    np.testing.assert_array_equal(mean, [2.0, 5.0, np.nan])
    np.testing.assert_array_equal(deviation, [1.0, 0.0, np.nan])


@pytest.mark.parametrize(
    ("p", "text"), [(0.001, "p < 0.01"), (0.01, "p = 0.01"), (0.5, "p = 0.50"), (np.nan, "p unknown")]
)
def test_probabilities_are_printed_as_the_paper_does(p: float, text: str) -> None:
    assert shown_probability(p) == text


def test_levels_are_printed_with_their_letter() -> None:
    assert [shown_level(name) for name in ("3.5sigma", "top")] == ["3.5σ", "top"]
