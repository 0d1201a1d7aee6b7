"""The report of a run with many candidates: how large it is, how long it takes to make, how fast it opens.

    python benchmarks/report.py demo/run --json benchmarks/results/report.json    # 10,000 candidates
    python benchmarks/report.py demo/run --picture docs/report.png                # a picture of the run's own report

A run of so many candidates is made of a small one that is finished: its candidates again and again, turned and
mirrored, with its scores and flags. Every picture is drawn and stored for itself, so that repeating them saves nothing;
their descriptors differ a little, so that no two lie at one place of the map.
The browser is the tests' headless Chromium, started anew with an empty profile for each opening; it needs no network.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from measure import report, row, run_measured, swimmy
from PIL import Image

from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.model.scoring import reconstructor, scoring_of
from swimmy_scale.results.composites import symmetric_limit
from swimmy_scale.results.report.tiles import ROWS_PER_SHEET, layout, rows_of_tiles, sheet
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import Cutouts, cutouts_layout
from swimmy_scale.storage.run_directory import RunDirectory
from swimmy_scale.storage.scores import BLOCK_OBJECTS, Scores, scores_layout
from swimmy_scale.storage.selection import Selection, new_selection, strangest
from swimmy_scale.storage.store import write_partition

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from browser import Browser, running_browser

OPEN_SECONDS, SIZE_MB = 2.0, 200.0
MAX_CANDIDATES = 1000
PARTITION, CHUNK = 1024, 256
USABLE = "return performance.getEntriesByName('gallery-usable')[0].startTime / 1000"
DRAWN = """
return [...document.querySelectorAll(".tile")].filter((tile) => tile.getBoundingClientRect().top < innerHeight)
  .every((tile) => tile.firstChild.complete && tile.firstChild.naturalWidth);
"""
SORT = """
const start = performance.now();
const field = document.getElementById("sort");
field.value = "score-2";
field.dispatchEvent(new Event("input", {bubbles: true}));
document.body.getBoundingClientRect();
return (performance.now() - start) / 1000;
"""
AREA = """
const start = performance.now();
setArea(ENDS.map(([low, high]) => [low + (high - low) / 4, high - (high - low) / 4]));
drawPlane();
document.body.getBoundingClientRect();
return (performance.now() - start) / 1000;
"""
ALIKE = """
setArea(null);
const start = performance.now();
showDetails(state.order[0]);
document.body.getBoundingClientRect();
return (performance.now() - start) / 1000;
"""
MAP_AND_NEAR = "return (JSON.stringify(DATA.map).length + JSON.stringify(DATA.near).length) / 1e6"
JITTER = 0.1
"""Of descriptors, as a share of the standard deviation of each feature."""


def multiply(small: Path, large: Path, n_candidates: int) -> None:
    """A run directory of so many candidates from a small finished one."""
    shutil.copytree(small, large, ignore=shutil.ignore_patterns("*.zarr", "report", "selections", "*.png", "log"))
    scores, cutouts = Scores(small / "scores.zarr"), Cutouts(small / "cutouts.zarr")
    selection = Selection(small / "selection.zarr")
    flags = selection.read("candidate")
    rows = np.flatnonzero(flags[:, 0].any(axis=1))
    if not len(rows) or scores.n_models > 1:
        raise SystemExit(f"{small}: needs candidates, and one model. Give the run of `make demo`.")
    pick = rows[np.arange(n_candidates) % len(rows)]
    turn = np.arange(n_candidates) // len(rows) % 8
    survey_attrs = cutouts.attrs["survey"]
    layout = cutouts_layout(n_candidates, cutouts.survey, cutouts.kept, PARTITION, CHUNK, {})
    fill(large / "cutouts.zarr", layout, cutouts, pick, turn)
    notes = {"model_sha256": scores.attrs.get("model_sha256"), "simulated": bool(scores.attrs.get("simulated"))}
    layout = scores_layout(
        n_candidates, survey_attrs, scores.survey, scores.kept, PARTITION, CHUNK, notes,
        kind=scores.kind, descriptors=scores.has_descriptors,
    )  # fmt: skip
    fill(large / "scores.zarr", layout, scores, pick, turn)

    def blocks(values: npt.NDArray[np.bool_]) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
        for lo in range(0, n_candidates, BLOCK_OBJECTS):
            yield lo, values[pick[lo : lo + BLOCK_OBJECTS]]

    made = large / "selection.zarr"
    with new_selection(made, Scores(large / "scores.zarr"), selection.levels, {}, {}) as large_selection:
        large_selection.fill("in_sample", blocks(selection.read("in_sample")))
        large_selection.fill("threshold", [(0, selection.read("threshold"))])
        large_selection.fill("candidate", blocks(flags))


def fill(path: Path, layout: Any, store: Any, pick: npt.NDArray[np.int64], turn: npt.NDArray[np.int64]) -> None:
    """Write every variable of a store from rows of another; object_ids become distinct, images are turned."""
    create(path, layout)
    whole = {variable.name: store.read(variable.name, 0, store.n_objects) for variable in layout.variables}
    for partition in range(layout.n_partitions):
        chosen = slice(layout.rows(partition).start, layout.rows(partition).stop)
        columns = {name: values[pick[chosen]] for name, values in whole.items()}
        columns["object_id"] = np.arange(chosen.start, chosen.stop, dtype=np.int64) + (1 << 55)
        if "descriptor" in columns:
            values = columns["descriptor"].astype(np.float64)
            noise = np.random.default_rng(partition).normal(0.0, JITTER, values.shape) * np.nanstd(values, axis=0)
            columns["descriptor"] = (values + noise).astype(np.float16)
        if "image" in columns:
            turned = [
                np.rot90(image if k < 4 else image[..., ::-1], k, (1, 2))
                for image, k in zip(columns["image"], turn[chosen].tolist(), strict=True)
            ]
            columns["image"] = np.stack(turned)
        write_partition(path, layout, partition, columns)


def opened(browser: Browser, page: Path) -> dict[str, float]:
    """Seconds until the gallery can be used, until its pictures are drawn, of another order, an area and a dialog.

    And how many MB map and neighbours take of the page.
    """
    started = time.perf_counter()
    browser.open(page)
    usable = float(browser.script(USABLE))
    browser.script("document.getElementById('gallery').scrollIntoView({behavior: 'instant'})")
    browser.wait_until(lambda: browser.script(DRAWN), "the pictures of the first page are drawn")
    drawn = time.perf_counter() - started
    scripts = {"sort": SORT, "area": AREA, "alike": ALIKE, "map and near": MAP_AND_NEAR}
    return {"usable": usable, "drawn": drawn} | {name: float(browser.script(text)) for name, text in scripts.items()}


def jpeg_changes(run: Path) -> dict[str, npt.NDArray[np.int64]]:
    """By how many of 255 levels JPEG changes the pictures of a run's own candidates, one number a colour of a pixel."""
    directory = RunDirectory(run)
    job = directory.load_job()
    selection, cutouts = Selection(directory.selection.store), Cutouts(directory.cutouts(job))
    survey, rows = selection.survey, np.sort(strangest(selection, MAX_CANDIDATES))
    fwhm = cutouts.read("fwhm_arcsec", 0, cutouts.n_objects)[rows]
    source = preprocess(cutouts.images(0, cutouts.n_objects)[rows], fwhm, survey)
    expected = reconstructor(scoring_of(directory, job, n_threads=1))(source)
    drawn = rows_of_tiles(source, expected, symmetric_limit(source - expected, survey), survey).astype(np.int64)
    stored = []
    for first in range(0, len(drawn), ROWS_PER_SHEET):
        part = drawn[first : first + ROWS_PER_SHEET].astype(np.uint8)
        with Image.open(io.BytesIO(sheet(part))) as image:
            stored.append(np.asarray(image, np.int64).reshape(part.shape))
    tiles = np.split(np.abs(np.concatenate(stored) - drawn), len(layout(survey)), axis=2)
    changes: dict[str, list[npt.NDArray[np.int64]]] = {"composites": [], "residual maps": []}
    for tile, change in zip(layout(survey), tiles, strict=True):
        changes["residual maps" if tile.kind == "residual" else "composites"].append(change.ravel())
    return {name: np.concatenate(parts) for name, parts in changes.items()}


def take_picture(run: Path, path: Path) -> None:
    """The summary and the first candidates of a run's own report, some of them marked."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_measured(swimmy("report", run, "--output", folder / "report"))
        with running_browser(folder / "browser") as browser:
            browser.prefer()
            browser.open(folder / "report" / "index.html")
            browser.one("body").send_keys("j1jj3")
            # What is folded up leaves room for the gallery.
            browser.script("document.querySelectorAll('#summary > details').forEach((d) => { d.open = false; })")
            browser.script("document.activeElement.blur(); scrollTo({top: 0, behavior: 'instant'})")
            browser.picture(folder / "page.png", 1280, 2640)
        with Image.open(folder / "page.png") as image:
            # Six bits a colour look the same and take two thirds of the bytes.
            image.convert("RGB").point(lambda value: value & 0xFC | value >> 6).save(path, optimize=True)


def main() -> None:
    """Make the run, its report, open it, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run, such as demo/run")
    parser.add_argument("--n-candidates", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="take a picture, and measure nothing")
    options = parser.parse_args()
    if options.picture:
        take_picture(options.run.absolute(), options.picture)
        return
    with tempfile.TemporaryDirectory() as name:
        large = Path(name) / "run"
        multiply(options.run.absolute(), large, options.n_candidates)
        made = run_measured(swimmy("report", large, "--max-candidates", options.n_candidates))
        files = [path for path in (large / "report").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        page = large / "report" / "index.html"
        text = page.stat().st_size / 1e6
        times = []
        for k in range(options.repeat):
            with running_browser(Path(name) / f"browser-{k}") as browser:
                times.append(opened(browser, page))
    usable = [one["usable"] for one in times]
    rows = [
        row("opened from disk until the gallery can be used", "s", usable, target=OPEN_SECONDS,
            met=max(usable) < OPEN_SECONDS),
        row("and its pictures in view are drawn", "s", [one["drawn"] for one in times]),
        row("another order of all candidates", "s", [one["sort"] for one in times]),
        row("an area of the map: its candidates, and all dots drawn", "s", [one["area"] for one in times]),
        row("a candidate opened, with those most like it", "s", [one["alike"] for one in times]),
        row("on disk", "MB", [size], target=SIZE_MB, met=size < SIZE_MB),
        row("of it the page", "MB", [text]),
        row("of the page the map and the neighbours", "MB", [one["map and near"] for one in times]),
        row("files", "", [len(files)]),
        row("made by the program", "s", [made.seconds]),
        *(
            row(f"what JPEG changes in {name}: {what}", "of 255", [float(value)])
            for name, change in jpeg_changes(options.run.absolute()).items()
            for what, value in (
                ("root mean square", np.sqrt(np.mean(change**2))),
                ("99% at most", np.percentile(change, 99)),
                ("all at most", change.max()),
            )
        ),
        row("peak memory of the program", "MiB", [made.peak_bytes("driver") / 2**20]),
    ]  # fmt: skip
    notes = [f"{options.n_candidates:,} candidates, {1e3 * size / options.n_candidates:.1f} kB each on disk"]
    report("report", rows, options.json, notes, n_candidates=options.n_candidates)


if __name__ == "__main__":
    main()
