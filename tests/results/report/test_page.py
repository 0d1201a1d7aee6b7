"""The report's parts: tiles as NumPy makes them, charts that count what is there, a page that escapes what it shows."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from swimmy_scale.method.preprocess import flux_scale, stretch
from swimmy_scale.method.survey import HSC
from swimmy_scale.results.histogram import ScoreCounts
from swimmy_scale.results.looking.sample_map import Axis, SampleMap
from swimmy_scale.results.report.charts import HEIGHT, LEFT, RIGHT, WIDTH, charts
from swimmy_scale.results.report.page import (
    Candidates,
    Facts,
    QuarantineReason,
    StageTime,
    page,
    script_json,
    stretch_curves,
)
from swimmy_scale.results.report.tiles import Tile, layout, residual_colours, rows_of_tiles, sheet
from swimmy_scale.results.style import shown_level

SMALL = dataclasses.replace(HSC, cutout_size_px=16)
HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u2028'\"&{{ 7 * 7 }}"

# ---------------------------------------------------------------- tiles


def test_composites_are_gri_riz_izy_with_the_reddest_band_as_red() -> None:
    tiles = layout(HSC)
    assert [(tile.kind, tile.name, tile.bands) for tile in tiles[:3]] == [
        ("source", "gri", (2, 1, 0)), ("source", "riz", (3, 2, 1)), ("source", "izy", (4, 3, 2)),
    ]  # fmt: skip
    assert [tile.name for tile in tiles if tile.kind == "reconstruction"] == ["gri", "riz", "izy"]
    assert tiles[6:] == tuple(Tile("residual", band, (place,)) for place, band in enumerate("grizy"))


@pytest.mark.parametrize(("bands", "names"), [("g", ["g"]), ("gr", ["gr"]), ("gri", ["gri"]), ("griz", ["gri", "riz"])])
def test_surveys_of_other_bands_have_their_composites(bands: str, names: list[str]) -> None:
    n = len(bands)
    survey = dataclasses.replace(SMALL, bands=tuple(bands), selecting_bands=("g",), magnitude_band="g",
                                 band_divisors=(1.0,) * n, min_depth_mag=(math.nan,) * n)  # fmt: skip
    assert [tile.name for tile in layout(survey) if tile.kind == "source"] == names
    cube = np.random.default_rng(1).random((2, n, 16, 16), np.float32)
    rows = rows_of_tiles(cube, cube, 0.1, survey)
    assert rows.shape == (2, 16, 16 * len(layout(survey)), 3)
    if n < 3:
        grey = np.round(cube.mean(axis=1)[:, ::-1] * 255)
        assert np.abs(rows[:, :, :16] - grey[..., None]).max() <= 1


def test_tiles_are_the_arrays_with_north_up() -> None:
    random = np.random.default_rng(2)
    source, expected = random.uniform(0, 1, (2, 3, 5, 16, 16)).astype(np.float32)
    source[0, 2, 3, 4] = np.nan
    rows = rows_of_tiles(source, expected, 0.25, SMALL)
    assert rows.dtype == np.uint8
    for place, tile in enumerate(layout(SMALL)):
        found = rows[:, :, 16 * place : 16 * (place + 1)]
        for row, y, x in random.integers(0, (3, 16, 16), (40, 3)).tolist():
            pixel = found[row, 15 - y, x]
            if tile.kind == "residual":
                share = (float(source[row, tile.bands[0], y, x]) - float(expected[row, tile.bands[0], y, x])) / 0.25
                colour = round((min(max(share, -1), 1) + 1) * 127.5)
                assert pixel.tolist() in residual_colours()[max(colour - 1, 0) : colour + 2].tolist()
            else:
                cube = source if tile.kind == "source" else expected
                assert np.abs(pixel / 255 - [cube[row, band, y, x] for band in tile.bands]).max() <= 0.5 / 255 + 1e-6
    assert rows[0, 12, 4].tolist()[0] == 0  # NaN is black: red of gri is i
    assert rows[0, 12, 16 * 8 + 4].tolist() == residual_colours()[128].tolist()  # and white in the map of i


def test_the_residual_scale_is_symmetric() -> None:
    colours = residual_colours().astype(int)
    assert colours.shape == (256, 3)
    assert colours[0, 2] > colours[0, 0] + 50
    assert colours[-1, 0] > colours[-1, 2] + 50
    assert min(colours[127].min(), colours[128].min()) > 240


@pytest.mark.parametrize("size", [16, 24, 64])
def test_a_sheet_is_a_picture_whose_tiles_do_not_bleed(size: int) -> None:
    rows = np.zeros((3, size, size * 4, 3), np.uint8)
    rows[1, :, size : 2 * size] = 255
    data = sheet(rows)
    assert data == sheet(rows.copy())
    found = np.asarray(Image.open(io.BytesIO(data)), dtype=int)
    assert found.shape == (3 * size, 4 * size, 3)
    assert np.array_equal(found, rows.reshape(found.shape))


# ---------------------------------------------------------------- charts


def test_a_chart_shows_every_object_and_the_lines_of_figure_5() -> None:
    random = np.random.default_rng(7)
    score = np.exp(random.normal(0, 1, (5000, 5))).astype(np.float32)
    counts = ScoreCounts(5)
    median, threshold = np.quantile(score.astype(float), [0.5], axis=0)[0], np.quantile(score, [0.95, 0.997], axis=0)
    counts.add(score, score > threshold[0])
    found = charts(counts, HSC.bands, HSC.selecting_bands, median, threshold, ["2sigma", "3sigma"])
    assert [(chart.band, chart.selects) for chart in found] == list(zip("grizy", [True] * 3 + [False] * 2, strict=True))
    for band, chart in enumerate(found):
        assert (chart.n_sample, chart.n_selected) == (5000, 250)
        assert [line.name for line in chart.lines] == ["median", "2sigma", "3sigma"]
        assert [line.value for line in chart.lines] == [median[band], *threshold[:, band]]
        assert len({(line.x, line.label_y) for line in chart.lines}) == 3
        for bar in (*chart.sample, *chart.selected):
            assert bar.x >= LEFT
            assert bar.x + bar.width <= WIDTH - RIGHT + 0.01
            assert bar.top + bar.height == pytest.approx(HEIGHT - 34, abs=0.01)
        # candidates begin where the threshold's line is, in the bin that holds it
        assert chart.selected[0].x <= chart.lines[1].x <= chart.selected[0].x + chart.selected[0].width + 0.01
        assert chart.x_ticks
        assert [label for _, label in chart.y_ticks] == ["1", "10", "100"]


@pytest.mark.parametrize("score", [[], [0.0], [1e-30], [1e30], [1.0, 1.0, 1.0]])
def test_charts_of_odd_samples_can_be_drawn(score: list[float]) -> None:
    counts = ScoreCounts(1)
    values = np.array(score, np.float32).reshape(-1, 1)
    counts.add(values, values > 0.5)
    chart = charts(counts, ("g",), ("g",), np.array([0.0]), np.array([[np.inf], [1.0]]), ["a", "b"])[0]
    assert chart.n_sample == len(score)
    assert all(math.isfinite(value) for bar in chart.sample for value in dataclasses.astuple(bar))


# ---------------------------------------------------------------- the page


def candidates(n: int = 3, text: str = "quasar") -> Candidates:
    values = np.arange(n * 5, dtype=np.float32).reshape(n, 5)
    return Candidates(
        rank=np.arange(n)[::-1], object_id=(1 << 62) + np.arange(n), ra=np.full(n, 30.125),
        dec=np.full(n, -1.5), known_class=[text] * n, score=values, residual=-values,
        candidate=np.ones((n, 2, 5), np.bool_), percentile=np.full((n, 5), 99.5), magnitude=np.full(n, np.nan),
        hints={"edge": np.arange(n) == 1, "saturated": np.arange(n) > 0}, kept={text: [text, math.nan, 0.25][:n]},
        look_order=np.full(n, np.nan), probability=np.full(n, np.nan), uncertainty=np.full(n, np.nan),
        nearest=(np.arange(n)[:, None] + [1, 2]) % max(n, 1), distance=np.tile([0.25, 0.5], (n, 1)),
    )  # fmt: skip


def a_map(n: int = 3, text: str = "plain") -> SampleMap:
    axis = Axis(0.5, ((text, -0.75),), -2.0, 2.0)
    place = np.arange(2.0 * n).reshape(n, 2)
    return SampleMap(np.ones((2, 3), np.int64), (axis, axis), place, np.ones((n, 2), np.float32), 6, True)


def made(page_facts: Facts, shown: Candidates, text: str = "plain") -> str:
    return page(page_facts, shown, a_map(len(shown.object_id), text))


def facts(text: str = "plain", **changes: Any) -> Facts:
    cell = {
        "sample": {"n_selected": 3, "n_objects": 60, "percent": 5.0},
        text: {"n_selected": 0, "n_objects": 0, "percent": None},
    }
    levels = ["2sigma", text]
    summary = {
        "simulated": False, "given": 70, "scored": 69, "quarantined": 1, "in_sample": 60, "thresholds_from": text,
        "levels": dict.fromkeys(levels, 0.05),
        "thresholds": {level: dict.fromkeys("grizy", 1.5) for level in levels},
        "selected": {level: {"rows": {"g": cell, "any": cell}, "high_but_negative": {"g": 1}} for level in levels},
        "cuts": [{"name": text, "rule": text, "before": 70, "after": 60, "note": text}], "superseded": 11,
        "additions": [{"name": text, "given": 37, "scored": 35, "quarantined": 2, "superseded": 11}],
    }  # fmt: skip
    counts = ScoreCounts(5)
    drawn = charts(counts, HSC.bands, HSC.selecting_bands, np.ones(5), np.ones((2, 5)), levels)
    return dataclasses.replace(
        Facts(
            name=text, survey=dataclasses.replace(HSC, name=text), summary=summary,
            provenance={text: text, "packages": {text: text}, "stages": {text: {text: text}}}, levels=levels,
            charts=drawn, quarantine=[QuarantineReason(text, 1, "7", text)], stage_times=[StageTime(text, 1, 70, 65.0)],
            tiles=layout(HSC),
            rows_per_sheet=8, residual_limit=0.125, hints={"edge": text, "saturated": "clipped"}, n_candidates=3,
            run_digest="d" * 64, files=(text,),
        ),
        **changes,
    )  # fmt: skip


class Elements(HTMLParser):
    """All elements with their attributes, and all text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.scripts.append(data)
        else:
            self.text += data


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


@pytest.mark.parametrize(
    "text", [HOSTILE, "<b>bold</b>", '" onmouseover="alert(1)', "javascript:alert(1)", "\x00\ufffe"]
)
def test_text_of_the_run_stays_text(text: str) -> None:
    plain, hostile = (
        Elements(made(facts(), candidates(text="plain"))),
        Elements(made(facts(text), candidates(text=text), text)),
    )
    assert [tag for tag, _ in hostile.found] == [tag for tag, _ in plain.found]
    assert [sorted(attributes) for _, attributes in hostile.found] == [sorted(attrs) for _, attrs in plain.found]
    assert hostile.text.count(text.strip("\x00")) >= 15
    assert "49" not in html.unescape(hostile.text)  # nothing of it is a template


@pytest.mark.slow
@given(st.dictionaries(st.text(), st.lists(st.text() | st.integers() | st.none())))
def test_data_cannot_leave_its_element(value: Any) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")
    assert text.isascii()


def test_additions_are_told_where_there_are_any() -> None:
    cells = re.findall(r'<th scope="row">night-2</th>(.*?)</tr>', made(facts("night-2"), candidates()), re.S)
    assert [re.findall(r">(\d+)<", cell) for cell in cells if ">37<" in cell] == [["37", "35", "2", "11"]]
    summary = {key: value for key, value in facts().summary.items() if key != "additions"}
    assert "Added later" not in made(facts(summary=summary), candidates())


def test_the_policy_names_what_the_page_runs_and_nothing_else() -> None:
    text = made(facts(), candidates())
    assert text.startswith("<!doctype html>\n<html lang")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    assert policy.startswith("default-src 'none'; img-src 'self' file: data:;")
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind in ("style", "script"):
        content = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.S)
        assert content
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    elements = Elements(text)
    assert not [attributes for _, attributes in elements.found if "style" in attributes]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    sources = [attributes.get("src") or attributes.get("href") for tag, attributes in elements.found if tag != "a"]
    assert {source for source in sources if source} == {"data:,", "images/density.png"}


def test_object_ids_and_unknown_values_survive_json() -> None:
    found = data_of(made(facts(), candidates()))["candidates"]
    assert found["id"] == ["4611686018427387904", "4611686018427387905", "4611686018427387906"]
    assert found["magnitude"] == [None] * 3
    assert found["kept"] == {"quasar": ["quasar", "", "0.25"]}
    assert found["hints"] == [0, 3, 2]
    assert found["flags"] == [[31] * 3] * 2
    assert found["score"][4] == [4.0, 9.0, 14.0]


def test_neighbours_and_places_on_the_map_are_what_was_found() -> None:
    found = data_of(made(facts(), candidates()))
    near = found["near"]
    assert (near["number"], near["bytes"]) == (2, 2)
    assert np.frombuffer(base64.b64decode(near["place"]), "<u2").reshape(3, 2).tolist() == [[1, 2], [2, 0], [0, 1]]
    assert np.frombuffer(base64.b64decode(near["distance"]), "<u2").tolist() == [250, 500] * 3
    place = [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    assert found["map"] == {"isLinear": False, "ends": [[-2.0, 2.0]] * 2, "place": place}


def test_the_page_says_what_a_map_shows() -> None:
    shown = candidates()
    by_components = a_map()
    axis = Axis(math.nan, (), -2.0, 8.0, is_linear=True)
    by_umap = dataclasses.replace(by_components, axes=(axis, axis), n_sample=84_000, kind="umap")
    said = page(facts(), shown, by_umap)
    assert data_of(said)["map"]["isLinear"] is True
    assert "how many of 6 objects, evenly chosen among the 84,000 of the sample, lie in each cell" in said
    for words in ("The axes have no meaning of their own", "distances between groups, the sizes of groups"):
        assert words in said
        assert words not in page(facts(), shown, by_components)
    assert "of the variance" not in said
    assert "nan" not in said.split('<section id="sample-map"')[1].split("</section>")[0]
    whole = page(facts(), shown, dataclasses.replace(by_components, n_sample=6))
    assert "how many of the 6 objects of the sample lie in each cell" in whole
    assert "50% of the variance" in whole


def test_a_linear_stretch_undoes_equation_1() -> None:
    flux = np.geomspace(1e-3, 0.5, 64 * 64).reshape(1, 1, 64, 64)
    counts = np.broadcast_to(flux, (1, 5, 64, 64)) / flux_scale(HSC).reshape(-1, 1, 1)
    stored = stretch(np.ascontiguousarray(counts, np.float32), HSC)[0, 0]
    curves = {name: curve for name, (_, curve) in stretch_curves(HSC).items()}
    shown = np.interp(stored, np.linspace(0, 1, len(curves["linear"])), curves["linear"])
    np.testing.assert_allclose(shown / shown[-1, -1], flux[0, 0] / flux[0, 0, -1, -1], rtol=0.01, atol=2e-4)
    for curve in curves.values():
        assert {min(curve), max(curve)} == {0.0, 1.0}


def test_the_page_says_what_it_leaves_out() -> None:
    assert "strongest of" not in made(facts(), candidates())
    text = made(facts(n_candidates=12_345), candidates())
    assert "The 3 strongest of 12,345 candidates are shown" in text
    assert "SIMULATED" not in text
    summary = {**facts().summary, "simulated": True}
    assert "SIMULATED DATA" in made(facts(summary=summary), candidates())


def test_a_run_without_candidates_quarantine_provenance_or_cuts_has_its_page() -> None:
    bare = facts(quarantine=[], provenance={}, stage_times=[], files=(), n_candidates=0)
    summary = {name: value for name, value in bare.summary.items() if name != "cuts"}
    text = made(dataclasses.replace(bare, summary=summary), candidates(0))
    assert data_of(text)["candidates"]["id"] == []
    assert "provenance.json is missing" in text


def test_every_field_has_a_label_and_every_table_a_caption() -> None:
    text = made(facts(), candidates())
    elements = Elements(text)
    assert text.count("<table>") == text.count("<caption>") > 5
    labels = {attributes["for"] for tag, attributes in elements.found if tag == "label" and "for" in attributes}
    inside = re.findall(r"<label>(?:(?!</label>).)*?<(?:input|select)[^>]* id=\"([^\"]+)\"", text, re.S)
    fields = {attributes["id"] for tag, attributes in elements.found if tag in {"input", "select"}}
    assert fields == {*inside} | (labels & fields)
    assert all("aria-labelledby" in attributes for tag, attributes in elements.found if tag == "dialog")
    assert all(attributes.get("type") for tag, attributes in elements.found if tag == "button")


def test_levels_as_people_read_them() -> None:
    assert [shown_level(name, " ") for name in ("3.5sigma", "top")] == ["3.5 σ", "top"]
