"""The report of a run whose names are hostile, made by the program and used in a browser that is watched."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from astropy.table import Table
from browser import Browser, running_browser, unavailable_reason
from click.testing import CliRunner
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from small_networks import build_on_one_thread
from survey_runs import NETWORK, make_survey, run_serially, verify, write_job

from swimmy_scale.cli import main
from swimmy_scale.method.network import Network
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.model.files import save
from swimmy_scale.results.looking import sample_map as sample_maps
from swimmy_scale.results.looking.sample_map import sample_map
from swimmy_scale.results.marks import parse_marks
from swimmy_scale.results.report.artefact_hints import HINTS, artefact_hints
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_file
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import Selection, strangest

# Keras warns of NumPy's new copy rules inside its own code; nothing of ours is meant by it.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason())),
]
ATTACK = "</script><script>document.title = 'attacked'</script>"
CLASS = '"><img src=x onerror="document.title = 1">'
COLUMN = "<img src=x onerror=alert(1)>"
LEVELS = {"2sigma": 0.5, "3sigma": 0.1}
PAGE_SIZE = 36


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; the weights are untrained, since what is looked at is the page."""
    folder = tmp_path_factory.mktemp("reported")
    survey = make_survey(folder / "survey", 90, 0.1)
    catalogue = Table.read(survey / "catalogue.fits")
    catalogue["remark"] = [f"{ATTACK}{row}" for row in range(len(catalogue))]
    catalogue[COLUMN] = np.arange(len(catalogue)) / 8
    classes = [str(name) for name in catalogue["sample_class"]]
    catalogue["sample_class"] = [CLASS if row % 4 == 0 else name for row, name in enumerate(classes)]
    catalogue.write(survey / "catalogue.parquet")  # FITS has no such names
    sha256 = save(build_on_one_thread(Network(**NETWORK, noise=0.02), seed=1), folder / "weights.keras")
    no_cuts = {"flags": [], "colours": [], "use_depth": False, "max_magnitude": None, "min_extendedness_mag": None}
    source = {"path": str(survey / "catalogue.parquet"), "patch_qa": str(survey / "patch_qa.fits")}
    job = write_job(
        folder / "job.yaml", survey, name=ATTACK, survey={"name": ATTACK}, train=None, sample=no_cuts,
        catalogue=source | {"keep_columns": ["i_cmodel_mag", "remark", COLUMN]},
        model={"path": str(folder / "weights.keras"), "sha256": sha256, "network": NETWORK},
        select={"levels": LEVELS, "formats": ["parquet"]},
    )  # fmt: skip
    run_serially(job, folder / "run")
    result = CliRunner().invoke(main, ["report", str(folder / "run")])
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"report: (\d+) candidates\nreport: done, \1 candidates in .*\n", result.stderr)
    return folder / "run"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(started: Browser, run: Path) -> Iterator[Browser]:
    """The report, opened with nothing kept from before; afterwards no test has left a complaint or a request."""
    started.prefer()
    started.open(run / "report" / "index.html")
    started.script("localStorage.clear()")
    started.requests()
    started.open(run / "report" / "index.html")
    yield started
    assert started.complaints() == []
    assert {address.split(":")[0] for address in started.requests()} <= {"file", "data", "blob"}


class Truth:
    """What the page must show, read from the run's stores in the simplest way; rows are those of candidates."""

    def __init__(self, run: Path) -> None:
        scores, cutouts = Selection(run / "selection.zarr"), Cutouts(run / "cutouts.zarr")
        flags = scores.read("candidate")
        self.rows = np.flatnonzero(flags[:, 0].any(axis=1))
        self.flags = flags[self.rows]
        self.score = scores.read("score")[self.rows]
        self.residual = scores.read("residual")[self.rows]
        self.sample = scores.read("score")[scores.read("in_sample")]
        self.ids = [str(value) for value in scores.read("object_id")[self.rows].tolist()]
        self.known = [str(name) for name in scores.read("sample_class")[self.rows]]
        self.mag = cutouts.read("mag", 0, cutouts.n_objects)[self.rows, 2]
        rank = np.empty(len(self.rows), int)
        rank[np.searchsorted(self.rows, strangest(scores, 10_000))] = np.arange(len(self.rows))
        self.rank = rank
        counts = cutouts.images(0, cutouts.n_objects)[self.rows]
        source = preprocess(counts, cutouts.read("fwhm_arcsec", 0, cutouts.n_objects)[self.rows], cutouts.survey)
        self.hints = artefact_hints(counts, source, self.residual, cutouts.survey)

    def ordered(self, key: Any, where: Any = None) -> list[str]:
        order = sorted(range(len(self.ids)), key=lambda row: (key[row], self.rank[row]))
        return [self.ids[row] for row in order if where is None or where[row]]


@pytest.fixture(scope="module")
def truth(run: Path) -> Truth:
    return Truth(run)


def shown(browser: Browser) -> list[str]:
    """object_ids of all pages, in order."""
    return browser.script("return state.order.map((index) => ALL.id[index])")  # type: ignore[no-any-return]


def cards(browser: Browser) -> list[str]:
    """object_ids of the cards that stand in the document."""
    return [element.text for element in browser.all(".card .open")]


def status(browser: Browser) -> str:
    return browser.one("#status").text


@contextlib.contextmanager
def closing(browser: Browser) -> Iterator[None]:
    """Waits for the gallery below the dialog, which is drawn anew by an event a little after the dialog closes."""
    browser.script(
        "window.dialogClosed = false;"
        "const done = () => { window.dialogClosed = true; };"
        "document.getElementById('details').addEventListener('close', done, {once: true});"
    )
    yield
    browser.wait_until(lambda: browser.script("return window.dialogClosed"), "the dialog is closed")


def current(browser: Browser) -> str:
    return browser.script("return document.querySelector('.card[aria-current] .open')?.textContent || ''")  # type: ignore[no-any-return]


# ---------------------------------------------------------------- what is on the page


def test_the_page_opens_and_hostile_names_are_text(browser: Browser, run: Path, truth: Truth) -> None:
    assert browser.one("h1").text == ATTACK
    assert browser.driver.title == f"Candidates of {ATTACK}"
    assert browser.one("header b").text == ATTACK
    browser.all(".open")[0].click()
    details = browser.one("#details")
    assert COLUMN in details.text
    assert ATTACK in details.text
    assert browser.script(
        "return document.images.length > 0 && [...document.images].every((i) => i.src.endsWith('.jpg'))"
    )
    assert browser.script("return document.scripts.length") == 2
    assert f"{len(truth.ids)} of {len(truth.ids)} candidates" in status(browser)
    summary = json.loads((run / "summary.json").read_text())
    figures = [element.text for element in browser.all(".figures dd")]
    assert figures[:4] == [f"{summary[name]:,}" for name in ("given", "scored", "quarantined", "in_sample")]
    assert int(figures[4]) == len(truth.ids)
    reasons = {element.text for element in browser.all("table:has(caption) th[scope=row]")}
    assert set(summary["quarantined_by_code"]) <= reasons


def test_every_picture_is_the_tile_of_its_candidate(browser: Browser, run: Path, truth: Truth) -> None:
    browser.all(".open")[5].click()
    loaded = "return [...document.querySelectorAll('#details figure img')].every((i) => i.complete && i.naturalWidth)"
    browser.wait_until(lambda: browser.script(loaded), "the pictures are loaded")
    images = browser.all("#details figure img")
    assert len(images) == 11
    place = truth.ids.index(browser.one("#details h2").text)
    assert images[0].get_attribute("src").endswith(f"images/{place // 8:05d}.jpg")
    # Its tile fills the frame: the sheet is as much larger as it has tiles, and shifted by whole tiles.
    boxes = browser.script(
        "return [...document.querySelectorAll('#details figure .tile')].map((frame) => {"
        "const f = frame.getBoundingClientRect(), i = frame.firstChild.getBoundingClientRect();"
        "return [(i.left - f.left) / f.width, (i.top - f.top) / f.height, i.width / f.width, i.height / f.height]})"
    )
    n_rows = min(8, len(truth.ids) - place // 8 * 8)
    expected = [[-tile, -(place % 8), 11, n_rows] for tile in range(11)]
    assert np.allclose(boxes, expected, atol=0.02)
    alts = [image.get_attribute("alt") for image in images]
    assert alts[0] == f"source in gri of {truth.ids[place]}"
    assert alts[-1] == f"residual map in y of {truth.ids[place]}"


def test_scores_stand_with_their_percentile(browser: Browser, truth: Truth) -> None:
    browser.all(".open")[0].click()
    row = truth.ids.index(browser.one("#details h2").text)
    lines = [
        [cell.text for cell in line.find_elements("css selector", "th, td")]
        for line in browser.all("#details tbody tr")
    ]
    for band, line in enumerate(lines[:5]):
        lower = 100 * np.mean(truth.sample[:, band] < truth.score[row, band])
        assert line[0] == "grizy"[band]
        assert float(line[1]) == pytest.approx(truth.score[row, band], rel=0.01)
        assert float(line[2]) == pytest.approx(lower, abs=0.001)
        assert float(line[3]) == pytest.approx(truth.residual[row, band], rel=0.01)


def test_links_lead_out_and_are_not_followed_by_themselves(browser: Browser, run: Path) -> None:
    browser.all(".open")[0].click()
    links = {link.text.removesuffix(" ↗"): link for link in browser.all("#details .links a")}
    assert list(links) == ["hscMap", "Legacy Survey", "SIMBAD", "NED"]
    scores = Scores(run / "scores.zarr")
    row = scores.read("object_id").tolist().index(int(browser.one("#details h2").text))
    ra, dec = float(scores.read("ra")[row]), float(scores.read("dec")[row])
    # hscMap keeps its view as JSON behind the #, angles in radians.
    place = json.loads(unquote(links["hscMap"].get_attribute("href").split("#/?_=")[1]))["view"]
    assert (place["a"], place["d"]) == pytest.approx((math.radians(ra), math.radians(dec)), abs=1e-9)
    assert place["fovy"] == pytest.approx(math.radians(2 * 64 * 0.168 / 3600))
    for link in links.values():
        address = link.get_attribute("href")
        assert address.startswith("https://")
        assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer", "_blank")
        for angle in (ra, dec):
            assert any(str(value)[:9] in address for value in (angle, math.radians(angle)))


def test_the_policy_holds_and_the_watch_would_see_what_breaks_it(started: Browser, run: Path) -> None:
    started.open(run / "report" / "index.html")
    started.requests()
    assert started.complaints() == []
    started.script(
        "const place = document.getElementById('cards');"
        'place.innerHTML = \'<img src=x onerror="document.title = 1"><p style="color: red">\';'
        "const script = document.createElement('script'); script.textContent = 'document.title = 2';"
        "place.append(script);"
        "new Image().src = 'http://127.0.0.1:9/beacon.png';"
        "fetch('http://127.0.0.1:9/data').catch(() => 0);"
    )
    refused: list[str] = []

    def three_kinds() -> bool:
        refused.extend(started.complaints())
        return all(any(kind in text for text in refused) for kind in ("inline event handler", "beacon.png", "9/data"))

    started.wait_until(three_kinds, "the policy's refusals are in the console")
    assert started.driver.title == f"Candidates of {ATTACK}"
    assert "http://127.0.0.1:9/beacon.png" in started.requests()  # that it was tried is seen; it was not sent


def test_further_objects_are_shown_apart_and_cannot_be_marked(browser: Browser, run: Path, truth: Truth) -> None:
    titles = [element.text for element in browser.all("#further summary")]
    assert [title.split(":")[0] for title in titles[-3:]] == ["Comparison", "Just below the cut", "High but negative"]
    assert any(title.startswith(f"Class {CLASS}:") for title in titles)
    assert browser.script("return document.querySelectorAll('#further button, #further [data-index]').length") == 0
    browser.script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.script("document.querySelectorAll('#further img').forEach((i) => { i.loading = 'eager'; })")
    loaded = "return [...document.querySelectorAll('#further img')].every((i) => i.complete && i.naturalWidth === 192)"
    browser.wait_until(lambda: browser.script(loaded), "the pictures are loaded")
    scores = Scores(run / "scores.zarr")
    known = dict(zip(map(str, scores.read("object_id").tolist()), scores.read("sample_class"), strict=True))
    for details in browser.all("#further details"):
        title = details.find_element("css selector", "summary").text
        ids = [element.text for element in details.find_elements("css selector", "li b")]
        words = [element.text for element in details.find_elements("css selector", "li > p:last-child")]
        assert 0 < len(ids) <= 24
        for object_id, text in zip(ids, words, strict=True):
            assert text.startswith("Candidate at" if object_id in truth.ids else "No candidate:")
            if title.startswith("Class "):
                assert title.startswith(f"Class {known[object_id]}:")
            else:
                assert object_id not in truth.ids


# ---------------------------------------------------------------- sort and filter


def test_sorted_by_strength_score_magnitude_and_id(browser: Browser, truth: Truth) -> None:
    assert shown(browser) == truth.ordered(truth.rank)
    for band in range(5):
        browser.choose("sort", f"score-{band}")
        assert shown(browser) == truth.ordered(-truth.score[:, band])
    browser.choose("sort", "magnitude")
    assert shown(browser) == truth.ordered(truth.mag)
    browser.choose("sort", "id")
    assert shown(browser) == sorted(truth.ids, key=int)
    assert cards(browser) == shown(browser)[:PAGE_SIZE]


def test_filtered_by_level_band_class_magnitude_hint_and_text(browser: Browser, truth: Truth) -> None:
    middle = float(np.median(truth.mag))
    known = np.array(truth.known)
    cases: list[tuple[dict[str, str], Any]] = [
        ({"level": "1"}, truth.flags[:, 1].any(axis=1)),
        ({"band": "0"}, truth.flags[:, 0, 0]),
        ({"band": "2", "level": "1"}, truth.flags[:, 1, 2]),
        ({"class": f"={CLASS}"}, known == CLASS),
        ({"class": "-"}, known == ""),
        ({"mag-max": f"{middle:.2f}"}, truth.mag <= float(f"{middle:.2f}")),
        ({"mag-min": f"{middle:.2f}", "mag-max": "19.5"}, (truth.mag >= float(f"{middle:.2f}")) & (truth.mag <= 19.5)),
        ({"hint": "none"}, ~np.array(list(truth.hints.values())).any(axis=0)),
        ({"text": truth.ids[3]}, np.array(truth.ids) == truth.ids[3]),
        ({"text": "ONERROR"}, known == CLASS),
        ({"text": "no such object"}, np.zeros(len(known), bool)),
        *(({"hint": str(place)}, truth.hints[name]) for place, name in enumerate(HINTS)),
    ]
    for fields, where in cases:
        browser.one("#filters [type=reset]").click()
        browser.wait_until(lambda: len(shown(browser)) == len(truth.ids), "the filters are cleared")
        for name, value in fields.items():
            browser.choose(name, value)
        assert shown(browser) == truth.ordered(truth.rank, where), fields
        assert status(browser).startswith(f"{np.count_nonzero(where)} of {len(truth.ids)} candidates")
    assert sum(np.count_nonzero(where) not in (0, len(truth.ids)) for _, where in cases) >= 8


def test_pages_hold_what_is_visible_only(browser: Browser, truth: Truth) -> None:
    assert len(truth.ids) > PAGE_SIZE
    assert cards(browser) == shown(browser)[:PAGE_SIZE]
    assert not browser.one("#page-back").is_enabled()
    browser.script("document.getElementById('page-next').click()")
    assert cards(browser) == shown(browser)[PAGE_SIZE : 2 * PAGE_SIZE]
    assert status(browser).endswith(f"showing {PAGE_SIZE + 1} to {min(2 * PAGE_SIZE, len(truth.ids))}")
    assert browser.one("#page-back").is_enabled()


def test_other_colours_and_maps_of_the_cards(browser: Browser) -> None:
    browser.choose("composite", "izy")
    browser.choose("map", "4")
    captions = [element.text for element in browser.all(".card")[0].find_elements("css selector", "figcaption")]
    assert captions == ["izy", "reconstruction", "residual y"]


# ---------------------------------------------------------------- looking


def test_composites_are_stretched_brightened_and_enlarged_with_scale_and_compass(browser: Browser) -> None:
    def looks() -> list[str]:
        of = "return [...document.querySelectorAll('.card:first-child .tile')].map((e) => getComputedStyle(e).filter)"
        return browser.script(of)[:3]  # type: ignore[no-any-return]

    def picture_of(css: str) -> Image.Image:
        return Image.open(io.BytesIO(browser.one(css).screenshot_as_png)).convert("RGB")

    assert looks() == ["none"] * 3
    browser.wait_until(lambda: np.asarray(picture_of(".card .tile"), float).std() > 1, "the picture is drawn")
    plain = np.asarray(picture_of(".card .tile"), float)
    browser.choose("stretch", "inverted")
    assert looks() == ['url("#stretch-inverted")', 'url("#stretch-inverted")', "none"]  # maps have a scale
    np.testing.assert_allclose(
        np.asarray(picture_of(".card .tile"), float)[9:-9, 9:-9], 255 - plain[9:-9, 9:-9], atol=1
    )
    browser.choose("stretch", "")
    browser.choose("brightness", "150")
    browser.choose("contrast", "200")
    assert looks()[0] == "brightness(1.5) contrast(2)"
    browser.one("#filters [type=reset]").click()
    browser.wait_until(lambda: looks()[0] == "none", "pictures are as they were")
    browser.all(".open")[3].click()
    choice = browser.one("#enlarged")
    assert choice.get_attribute("value") == "0"
    sky = browser.one(".enlarged .sky")
    assert sky.get_attribute("aria-label") == "Scale bar of 2 arcsec; north is up, east is left"
    widths = browser.script(
        "const bar = document.querySelector('.sky path').getAttribute('d').match(/h([\\d.]+)/)[1];"
        "const wide = (css) => document.querySelector(css).getBoundingClientRect().width;"
        "return [Number(bar) / 100, wide('.enlarged .tile'), wide('#details figure .tile')]"
    )
    assert widths[0] == pytest.approx(2 / (64 * 0.168))
    assert widths[1] > 2 * widths[2]
    choice.send_keys("residual y")
    browser.press(Keys.TAB)
    browser.one("#details .next").click()
    assert browser.one(".enlarged img").get_attribute("alt").startswith("residual map in y of ")


def test_more_like_this_is_what_the_command_says(browser: Browser, run: Path, truth: Truth) -> None:
    order = shown(browser)
    browser.one("body").send_keys("jj")
    browser.press(Keys.ENTER)
    words = ["like", str(run), order[1], "-n", "24", "--candidates", "--json"]
    expected = json.loads(CliRunner().invoke(main, words).stdout)["like"]
    ids = [str(one["object_id"]) for one in expected]
    buttons = browser.all("#details .alike")
    assert [button.get_attribute("title") for button in buttons] == ids
    names = [button.accessible_name for button in buttons[:2]]
    assert names == [f"Candidate {one['object_id']}, distance {one['distance']:.2f}" for one in expected[:2]]
    buttons[0].send_keys(Keys.ENTER)
    assert browser.one("#details h2").text == ids[0]
    with closing(browser):
        browser.press(Keys.ESCAPE)
    assert current(browser) == ids[0]
    browser.press("m")
    like = json.loads(CliRunner().invoke(main, ["like", str(run), ids[0], "--candidates", "--json"]).stdout)["like"]
    assert shown(browser) == [ids[0], *(str(one["object_id"]) for one in like)]
    assert status(browser).startswith(f"25 of {len(order)} candidates like {ids[0]}")
    assert current(browser) == ids[0]
    browser.choose("mark", "known")  # filters act on them as well
    assert shown(browser) == []
    browser.choose("mark", "")
    browser.one("#like-off").click()
    assert shown(browser) == order
    assert not browser.one("#like-off").is_displayed()


def test_a_umap_has_linear_axes_and_an_area_of_it_is_chosen(
    browser: Browser, run: Path, truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_maps, "embedded", lambda values: values[:, :2].astype(float))
    result = CliRunner().invoke(main, ["report", str(run), "--map", "umap", "--output", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    browser.open(tmp_path / "report" / "index.html")
    assert "The axes have no meaning of their own" in browser.one("#sample-map").text
    place = sample_map(Selection(run / "selection.zarr"), truth.rows, "umap").place
    middle = np.median(place, axis=0)
    browser.choose("area-left", str(middle[0]))
    browser.choose("area-top", str(middle[1]))
    inside = (place[:, 0] >= middle[0]) & (place[:, 1] <= middle[1])
    found = browser.script("return [DATA.map.ends[0], state.area[0]]")
    assert found == [[pytest.approx(found[0][0]), pytest.approx(found[0][1])], [middle[0], found[0][1]]]
    assert 0 < inside.sum() < len(place)
    clear = (np.abs(place - middle) > 1e-3).all(axis=1)  # the page has five digits
    on_page = np.array([one in set(shown(browser)) for one in truth.ids])
    assert np.array_equal(on_page[clear], inside[clear])


def test_an_area_of_the_map_is_chosen_by_mouse_keys_and_fields(
    browser: Browser, run: Path, truth: Truth, tmp_path: Path
) -> None:
    selection = Selection(run / "selection.zarr")
    place = np.arcsinh(sample_map(selection, truth.rows).place)

    def inside() -> list[str]:
        area = np.array(browser.script("return state.area"))
        return truth.ordered(truth.rank, ((place >= area[:, 0]) & (place <= area[:, 1])).all(axis=1))

    browser.script("document.getElementById('plane').scrollIntoView({block: 'center', behavior: 'instant'})")
    plane = browser.one("#plane")
    corner = (round(0.42 * plane.size["width"]), round(-0.4 * plane.size["height"]))
    drag = ActionChains(browser.driver).move_to_element_with_offset(plane, *corner).click_and_hold()
    drag.move_to_element(plane).release().perform()
    assert 0 < len(shown(browser)) < len(truth.ids)
    assert shown(browser) == inside()
    assert " in the area" in status(browser)
    fields = {name: float(browser.one(f"#area-{name}").get_attribute("value")) for name in ("left", "right")}
    assert fields["left"] < fields["right"]
    browser.script("document.getElementById('export-ids').click()")
    (tmp_path / "ids.csv").write_text(browser.saved("ids.csv"), newline="")
    exported = Table.read(tmp_path / "ids.csv")
    assert exported.colnames == ["object_id", "ra", "dec", "map_1", "map_2"]
    assert list(map(str, exported["object_id"])) == shown(browser)
    row = truth.ids.index(str(exported["object_id"][0]))
    np.testing.assert_allclose(np.arcsinh([exported["map_1"][0], exported["map_2"][0]]), place[row], rtol=1e-3)
    said = CliRunner().invoke(main, ["show", str(run), "--ids", str(tmp_path / "ids.csv")])
    assert said.exit_code == 0, said.output
    # By the keyboard alone: around a candidate, wider, moved, gone.
    browser.script("document.getElementById('area-off').click()")
    assert len(shown(browser)) == len(truth.ids)
    browser.one("body").send_keys("jj")
    wanted = current(browser)
    browser.script("document.getElementById('plane').focus()")
    browser.press(Keys.ENTER)
    assert wanted in shown(browser)
    few = shown(browser)
    browser.press(Keys.SHIFT + Keys.ARROW_RIGHT * 3 + Keys.ARROW_UP * 3 + Keys.NULL)
    assert set(few) < set(shown(browser)) or few == truth.ordered(truth.rank)
    before = browser.script("return state.area")
    browser.press(Keys.ARROW_LEFT)
    after = browser.script("return state.area")
    assert after[0][0] < before[0][0]
    assert after[0][1] - after[0][0] == pytest.approx(before[0][1] - before[0][0])
    assert shown(browser) == inside()
    browser.press(Keys.ESCAPE)
    assert len(shown(browser)) == len(truth.ids)
    # By the fields, which a screen reader reaches; an empty one is the end of the map.
    middle = float(np.sinh(np.median(place[:, 0])))
    browser.one("#area-left").send_keys(f"{middle:.3f}")
    assert shown(browser) == truth.ordered(truth.rank, place[:, 0] >= np.arcsinh(float(f"{middle:.3f}")))
    browser.one("#filters [type=reset]").click()
    browser.wait_until(lambda: len(shown(browser)) == len(truth.ids), "everything is cleared")
    # A click on a dot opens its candidate.
    drawn = browser.script(
        "document.getElementById('plane').scrollIntoView({block: 'center', behavior: 'instant'});"
        "const [box, all] = ['dots', 'plane'].map((id) => document.getElementById(id).getBoundingClientRect());"
        "const at = [0, 1].map((k) => (PLACES[k][3] - ENDS[k][0]) / SPAN[k]);"
        "return [box.left + at[0] * box.width - all.left - all.width / 2,"
        " box.top + (1 - at[1]) * box.height - all.top - all.height / 2]"
    )
    ActionChains(browser.driver).move_to_element_with_offset(plane, *map(round, drawn)).click().perform()
    assert browser.one("#details h2").text == truth.ids[3]


# ---------------------------------------------------------------- marks and keys


def test_marks_by_keys_are_exported_kept_and_make_the_vetted_catalogue(
    browser: Browser, run: Path, truth: Truth, tmp_path: Path
) -> None:
    order = shown(browser)
    body = browser.one("body")
    body.send_keys("j", "1", "j", "2", Keys.ARROW_RIGHT, "3", "j", "1", "1")  # the fourth takes its mark back
    assert current(browser) == order[3]
    browser.press("k")
    assert current(browser) == order[2]
    browser.press(Keys.ENTER)
    browser.one("#note").send_keys('=HYPERLINK("x"), "quoted", 2 and j')
    with closing(browser):
        browser.one("#details .close").click()
    assert current(browser) == order[2]
    browser.all(".open")[4].click()
    browser.one("#note").send_keys("a note alone")
    counted = "1 interesting, 1 artefact, 1 known, 1 only noted"
    assert browser.one("#mark-counts").text == counted
    browser.one("#details .close").click()
    browser.open(run / "report" / "index.html")
    assert browser.one("#mark-counts").text == counted
    pressed = [element.text for element in browser.all(".card [aria-pressed=true]")]
    assert pressed == ["Interesting", "Artefact", "Known"]
    browser.choose("mark", "artefact")
    assert shown(browser) == [order[1]]
    browser.choose("mark", "noted")
    assert shown(browser) == [order[4]]
    browser.choose("mark", "none")
    assert shown(browser) == [one for one in order if one not in {*order[:3], order[4]}]
    browser.one("#export").click()
    text = browser.saved("marks.csv")
    assert text.splitlines()[0] == "format_version,object_id,mark,note,tags"
    assert "\"'=HYPERLINK(" in text
    found = parse_marks(io.StringIO(text, newline=""), "marks.csv")
    assert {str(key): mark[:2] for key, mark in found.items()} == {
        order[0]: ("interesting", ""), order[1]: ("artefact", ""),
        order[2]: ("known", '=HYPERLINK("x"), "quoted", 2 and j'), order[4]: ("", "a note alone"),
    }  # fmt: skip
    (tmp_path / "marks.csv").write_text(text, newline="")
    words = ["select", str(run), "--marks", str(tmp_path / "marks.csv"), "--output", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:2] == [
        f"{len(truth.ids)} candidates = {len(truth.ids) - 1} vetted + 1 artefact",
        f"{len(truth.ids)} candidates = 1 interesting + 1 artefact + 1 known + 1 only noted + "
        f"{len(truth.ids) - 4} without mark or note",
    ]
    vetted = Table.read(tmp_path / "vetted.parquet")
    noted = {str(row["object_id"]): str(row["mark_note"]) for row in vetted if row["mark_note"]}
    assert noted == {order[2]: '=HYPERLINK("x"), "quoted", 2 and j', order[4]: "a note alone"}
    assert [str(value) for value in vetted["object_id"]] == sorted({*truth.ids} - {order[1]}, key=int)
    assert verify(run) == []


def test_marks_teach_the_order_of_the_next_report_and_stay(
    browser: Browser, run: Path, truth: Truth, tmp_path: Path
) -> None:
    order = shown(browser)
    wanted = set(truth.ordered(truth.residual[:, 1])[::2])  # the person's taste
    assert browser.one("#sort").get_attribute("value") == "rank"
    for one in order[:20]:
        browser.one("body").send_keys("j", "1" if one in wanted else "2")
    browser.press("t")
    browser.press("arc")
    with closing(browser):
        browser.press(Keys.ESCAPE)
    counted = browser.one("#mark-counts").text
    assert not counted.startswith("0 interesting")
    browser.script("document.getElementById('export').click()")
    (tmp_path / "marks.csv").write_text(browser.saved("marks.csv"), newline="")
    for words in (["rank", run, "--marks", tmp_path / "marks.csv"], ["report", run]):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 0, result.output
    try:
        with (run / "ranked/ranking.csv").open() as stream:
            learnt = [row["object_id"] for row in csv.DictReader(stream)]
        browser.open(run / "report" / "index.html")
        assert browser.one("#sort").get_attribute("value") == "look"
        assert shown(browser) == learnt
        assert learnt != order
        assert browser.one("#mark-counts").text == counted, "nothing of the marks is lost"
        assert browser.script("return marks.item(arguments[0]).tags", order[19]) == ["arc"]
        assert browser.one("#progress-text").text == f"20 of {len(order)} marked"
        assert "interesting 0." in browser.one(".card:last-child .facts + .facts").text
        browser.choose("sort", "rank")
        assert shown(browser) == order
    finally:
        shutil.rmtree(run / "ranked")
        assert CliRunner().invoke(main, ["report", str(run)]).exit_code == 0


def test_marks_go_on_are_undone_and_have_tags(browser: Browser, run: Path, truth: Truth, tmp_path: Path) -> None:
    order, n = shown(browser), len(truth.ids)
    assert not browser.one("#undo").is_enabled()
    browser.one("body").send_keys("g")
    browser.one("#go-on").click()
    browser.press("gj")  # a box to tick takes no letters: keys act
    browser.press("121")
    assert current(browser) == order[3]
    assert browser.one("#progress-text").text == f"3 of {n} marked"
    assert browser.one("#progress").get_attribute("value") == "3"
    browser.press("u")
    assert current(browser) == order[2]
    assert status(browser) == f"undone: {order[2]} is without a mark"
    assert browser.one("#mark-counts").text == "1 interesting, 1 artefact, 0 known, 0 only noted"
    browser.press("t")
    assert browser.one("#details h2").text == order[2]
    browser.press("=lens, <b>; blue; blue")
    with closing(browser):
        browser.press(Keys.ESCAPE)
    assert current(browser) == order[2]
    tags = [element.text for element in browser.all(".card .tags span")]
    assert tags == ["=lens", "<b>", "blue"]
    browser.choose("tag", "=<b>")
    assert shown(browser) == [order[2]]
    browser.choose("tag", "")
    browser.choose("mark", "noted")
    assert shown(browser) == [order[2]]
    browser.choose("mark", "")
    browser.script("document.getElementById('export').click()")
    text = browser.saved("marks.csv")
    assert f"2,{order[2]},,,'=lens; <b>; blue\r\n" in text
    found = parse_marks(io.StringIO(text, newline=""), "marks.csv")
    assert found[int(order[2])].tags == ("=lens", "<b>", "blue")
    browser.one("body").send_keys(Keys.CONTROL, "z", Keys.NULL)
    assert browser.all(".card .tags") == []  # what was typed is one change
    browser.one("body").send_keys("uuu")
    assert browser.one("#progress-text").text == f"0 of {n} marked"
    assert not browser.one("#undo").is_enabled()
    (tmp_path / "marks.csv").write_text(text, newline="")
    browser.one("#import").send_keys(str(tmp_path / "marks.csv"))
    browser.wait_until(lambda: "marks and notes of 3 objects read" in status(browser), "the file is read")
    assert [element.text for element in browser.all(".card .tags span")] == ["=lens", "<b>", "blue"]
    browser.one("#undo").click()
    assert status(browser) == "undone: marks of 3 objects"
    assert browser.one("#mark-counts").text == "0 interesting, 0 artefact, 0 known, 0 only noted"
    browser.open(run / "report" / "index.html")
    assert browser.one("#go-on").is_selected(), "kept with the theme"


def test_marks_are_read_back_whole_or_not_at_all(browser: Browser, truth: Truth, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(
        f'format_version,object_id,mark,note\r\n1,{truth.ids[2]},known,"\'-a\nb"\r\n1,{truth.ids[0]},artefact,\r\n'
    )
    bad.write_text(good.read_text() + "1,7,known,\n")
    browser.one("#import").send_keys(str(bad))
    browser.wait_until(lambda: browser.one("#message").text, "the file is refused")
    assert (
        "bad.csv, line 5: object_id 7 is not among these candidates. No mark was read" in browser.one("#message").text
    )
    assert browser.one("#mark-counts").text == "0 interesting, 0 artefact, 0 known, 0 only noted"
    assert not browser.one("#export").is_enabled()
    bad.write_text(good.read_text() + f"1,{truth.ids[1]},,\n")
    browser.one("#import").send_keys(str(bad))
    browser.wait_until(lambda: "has no mark, note or tag" in browser.one("#message").text, "the file is refused")
    good.write_text(good.read_text() + f"1,{truth.ids[4]},,only a note\n")
    browser.one("#import").send_keys(str(good))
    browser.wait_until(lambda: "marks and notes of 3 objects read" in status(browser), "the file is read")
    assert browser.one("#mark-counts").text == "0 interesting, 1 artefact, 1 known, 1 only noted"
    assert not browser.one("#message").is_displayed()
    browser.one("#export").click()
    found = parse_marks(io.StringIO(browser.saved("marks.csv"), newline=""), "marks.csv")
    assert found[int(truth.ids[2])].note == "-a\nb"
    assert found[int(truth.ids[4])][:2] == ("", "only a note")


def test_marks_of_two_tabs_are_all_kept(browser: Browser, run: Path, truth: Truth) -> None:
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    browser.prefer()
    browser.open(run / "report" / "index.html")
    browser.script("marks.change(arguments[0], {mark: 'known'})", truth.ids[0])
    second = browser.driver.current_window_handle
    browser.driver.switch_to.window(first)
    try:
        browser.wait_until(lambda: ", 1 known," in browser.one("#mark-counts").text, "the other tab's mark is here")
        browser.script("marks.change(arguments[0], {mark: 'artefact'})", truth.ids[1])
        kept = browser.script("return localStorage.getItem(marks.key)")
        assert truth.ids[0] in kept
        assert truth.ids[1] in kept
    finally:
        browser.driver.switch_to.window(second)
        browser.driver.close()
        browser.driver.switch_to.window(first)


def test_keys_reach_everything_and_can_be_turned_off(browser: Browser, truth: Truth) -> None:
    order = shown(browser)
    browser.one("body").send_keys("j" * (PAGE_SIZE + 1))
    assert current(browser) == order[PAGE_SIZE]  # over to the second page
    browser.press("k")
    assert current(browser) == order[PAGE_SIZE - 1]
    browser.press("/")
    browser.press("j1?")  # text, not keys
    assert browser.one("#text").get_attribute("value") == "j1?"
    assert browser.one("#mark-counts").text.startswith("0 interesting")
    browser.one("#filters [type=reset]").click()
    browser.wait_until(lambda: len(shown(browser)) == len(order), "the filters are cleared")
    browser.one("body").send_keys("j")
    browser.press(Keys.ENTER)
    assert browser.one("#details h2").text == order[0]
    browser.press("j")
    assert browser.one("#details h2").text == order[1]
    browser.press("2")
    assert browser.one("#details [aria-pressed=true]").text == "Artefact"
    with closing(browser):
        browser.press(Keys.ESCAPE)
    assert not browser.one("#details").is_displayed()
    assert browser.script("return document.activeElement.dataset.index") == str(browser.script("return state.order[1]"))
    browser.press(Keys.ENTER)
    with closing(browser):
        browser.script("closeDetails(); step(1)")
    assert current(browser) == order[2]
    browser.press(Keys.ENTER)
    browser.script("showDetails(state.order.at(-1))")  # by a candidate that looks like it
    with closing(browser):
        browser.press(Keys.ESCAPE)
    assert browser.script("return document.activeElement.textContent").count(order[-1]), "its page is shown"
    browser.press(Keys.ENTER)
    with closing(browser):
        browser.press("/")
    assert browser.script("return document.activeElement.id") == "text"
    browser.script("document.activeElement.blur()")
    browser.press("?")
    assert browser.one("#help").is_displayed()
    browser.one("#keys-on").click()
    browser.one("#help .close").click()
    browser.one("body").send_keys("3")
    assert browser.one("#mark-counts").text == "0 interesting, 1 artefact, 0 known, 0 only noted"


# ---------------------------------------------------------------- for every reader


def test_dark_light_and_paper(browser: Browser, run: Path) -> None:
    def paper() -> str:
        return browser.script("return getComputedStyle(document.body).backgroundColor")  # type: ignore[no-any-return]

    light = paper()
    browser.prefer("dark")
    dark = paper()
    assert light != dark
    browser.one("#theme").click()  # always light
    assert paper() == light
    browser.open(run / "report" / "index.html")
    assert paper() == light
    browser.one("#theme").click()
    browser.prefer("light")
    assert paper() == dark
    assert browser.one("#theme").get_attribute("aria-label") == "Colours: dark"
    browser.prefer(media="print")
    assert paper() == "rgb(255, 255, 255)"
    assert not any(browser.one(css).is_displayed() for css in ("#filters", ".pager", ".card .buttons", ".top nav"))
    assert browser.one(".card .tile").is_displayed()
    # As wide as a sheet of paper: three pictures of one size, and nothing of where the keyboard was.
    browser.one("body").send_keys("j")
    sheet = {"width": 700, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sheet)
    widths = browser.script(
        "return [...document.querySelectorAll('.card .tile')].slice(0, 9).map((e) => e.getBoundingClientRect().width)"
    )
    assert max(widths) - min(widths) < 1
    assert browser.script("return getComputedStyle(document.querySelector('[aria-current]')).boxShadow") == "none"
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.prefer()


# What stands outside of an element, except for what scrolls inside of its own frame.
OUTSIDE = """
const [frame, left, right] = arguments[0] === null ? [document.body, 0, document.documentElement.clientWidth]
  : (({ left, right }) => [document.getElementById(arguments[0]), left, right])
    (document.getElementById(arguments[0]).getBoundingClientRect());
return [...frame.querySelectorAll("*")].filter((e) => {
  const box = e.getBoundingClientRect();
  return box.width && (box.right > right + 0.5 || box.left < left - 0.5) && !e.closest(".scroll > *, .tile, .skip");
}).map((e) => `${e.tagName}#${e.id}.${e.className} ${e.textContent.trim().slice(0, 30)}`);
"""


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568)])
def test_nothing_is_wider_than_a_small_screen(browser: Browser, run: Path, width: int, height: int) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.open(run / "report" / "index.html")
        browser.script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert browser.script(OUTSIDE, None) == []
        assert browser.script("return [document.scrollingElement.scrollWidth, innerWidth]") == [width, width]
        assert browser.script("return document.querySelectorAll('table:not(.scroll > table)').length") == 0
        for name, button in (("details", ".open"), ("help", "#show-help")):
            browser.script("document.querySelector(arguments[0]).click()", button)
            assert browser.script(OUTSIDE, name) == []
            box = browser.script("return document.getElementById(arguments[0]).getBoundingClientRect().toJSON()", name)
            assert box["left"] >= 0
            assert box["right"] <= width
            assert box["top"] >= 0
            assert box["bottom"] <= height
            fits = "const d = document.getElementById(arguments[0]); return d.scrollWidth <= d.clientWidth"
            assert browser.script(fits, name)
            browser.script("document.getElementById(arguments[0]).close()", name)
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const over = (top, below) => top.slice(0, 3).map((v, k) => v * (top[3] ?? 1) + below[k] * (1 - (top[3] ?? 1)));
const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const ground = (e) => e === null ? [255, 255, 255]
  : over(parse(getComputedStyle(e).backgroundColor), ground(e.parentElement));
const low = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.checkVisibility() || e.closest("[disabled], .hidden, .skip, script, title, option")) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(parse(e instanceof SVGElement ? style.fill : style.color)), light(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(`${e.tagName} ${e.className} ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
}
return low;
"""


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_has_the_contrast_of_level_aa(browser: Browser, colours: str) -> None:
    browser.prefer(colours)
    browser.script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.one("body").send_keys("j123")
    for button in browser.all(".card .buttons")[1].find_elements("css selector", "button"):
        browser.script("arguments[0].click()", button)
        assert browser.script(CONTRAST) == []
    browser.script("marks.change(ALL.id[0], {tags: ['lens']}); refresh(); document.querySelector('.open').click()")
    assert browser.script(CONTRAST) == []


def test_a_screen_reader_finds_names_headings_and_news(browser: Browser) -> None:
    def tree() -> list[tuple[str, str]]:
        found = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in found if not node["ignored"]]

    browser.all(".open")[0].click()
    inside = tree()  # of the dialog alone, which is modal
    with closing(browser):
        browser.one("#details .close").click()
    nodes = tree()
    needs = {"button", "link", "combobox", "searchbox", "spinbutton", "textbox", "image", "img", "dialog", "article",
             "table", "list", "navigation", "search"}  # fmt: skip
    assert [role for role, name in (*nodes, *inside) if role in needs and not name.strip()] == []
    assert {("list", "More like this"), ("combobox", "Enlarged"), ("textbox", "Note, exported with the mark or alone"),
            ("image", "Scale bar of 2 arcsec; north is up, east is left")} <= set(inside)  # fmt: skip
    assert any(name.startswith("Tags of your own") for _, name in inside)
    roles = {role for role, _ in nodes}
    assert {"application", "progressbar", "slider", "checkbox"} <= roles
    names = {name for _, name in nodes}
    assert {"Map of the sample, to choose an area", "axis 1 from", "axis 1 to", "Go on after a mark", "Undo", "Stretch",
            "Export ids", "Remove the area"} <= names  # fmt: skip
    assert {"main", "banner", "navigation", "search", "article", "status", "table", "columnheader"} <= roles
    repeated = (
        "const all = [...document.querySelectorAll('[id]')].map((e) => e.id); return all.length - new Set(all).size"
    )
    assert browser.script(repeated) == 0
    levels = [int(element.tag_name[1]) for element in browser.all("main h2, main h3, h1")]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert browser.one("#status").get_attribute("aria-live") == "polite"
    browser.one("body").send_keys("j")
    outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


# ---------------------------------------------------------------- the command


def test_the_same_run_gives_the_same_bytes_and_a_cap_is_said(run: Path, tmp_path: Path, truth: Truth) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}

    first = digests(run / "report")
    assert CliRunner().invoke(main, ["report", str(run)]).exit_code == 0
    assert digests(run / "report") == first
    assert [path.name for path in run.glob(".*")] == []
    words = ["report", str(run), "--max-candidates", "9", "--output", str(tmp_path / "few")]
    result = CliRunner().invoke(main, words)
    assert f"the strongest 9 of {len(truth.ids)} candidates" in result.output
    text = (tmp_path / "few" / "index.html").read_text()
    assert f"The 9 strongest of {len(truth.ids)} candidates are shown" in text
    assert all(object_id in text for object_id in truth.ordered(truth.rank)[:9])
    assert truth.ordered(truth.rank)[9] not in text.split('id="further"')[0]
    sheets = [name for name in sorted(digests(tmp_path / "few")) if "further" not in name]
    assert sheets == ["images/00000.jpg", "images/00001.jpg", "images/density.png", "index.html"]


@pytest.mark.parametrize(("words", "message"), [
    (["report", "{folder}"], "no receipts folder, so this is not a run directory"),
    (["report", "{run}", "--output", "{folder}"], "exists and is not a report. Choose another --output"),
])  # fmt: skip
def test_what_is_no_run_and_what_is_no_report_is_left_alone(
    run: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    result = CliRunner().invoke(main, [word.format(run=run, folder=tmp_path) for word in words])
    assert result.exit_code == 1
    assert message in result.stderr
    assert (tmp_path / "mine.txt").read_text() == "kept"
