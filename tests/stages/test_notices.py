"""Notices of all partitions, added up by kind."""

from __future__ import annotations

import dataclasses
import html
import json
import logging
import shutil
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from survey_runs import call_here, run_serially, weights_of, write_job

from swimmy_scale.cli.program import WholeLines
from swimmy_scale.stages.notices import SHOWN, add_up, shown
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import RunDirectory

UNSTATED = "{} files state no zero point (FLUXMAG0, MAGZERO, PHOTZP): 27.0 mag is assumed; the first is {}"


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ([], {}),
        ([UNSTATED.format(15, "b.fits")], {UNSTATED.format(15, "b.fits"): 15}),
        (
            [UNSTATED.format(15, "b.fits"), "no column x", UNSTATED.format("1,002", "a.fits"), "no column x"],
            {UNSTATED.format("1,017", "b.fits"): 1017, "no column x": 2},
        ),
        (["2 of 3 are odd", "3 of 4 are odd"], {"2 of 3 are odd": 2, "3 of 4 are odd": 3}),
        (["27.0 mag is assumed"], {"27.0 mag is assumed": 1}),
    ],
)
def test_added_up(notes: list[str], expected: dict[str, int]) -> None:
    assert add_up(notes) == expected


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from(["files are odd", "objects are even"])), max_size=30))
def test_numbers_of_a_kind_are_added(parts: list[tuple[int, str]]) -> None:
    found = add_up(f"{number} {kind}; the first is {k}" for k, (number, kind) in enumerate(parts))
    expected = Counter[str]()
    for number, kind in parts:
        expected[kind] += number
    assert Counter({text.split(" ", 1)[1].split(";")[0]: n for text, n in found.items()}) == expected
    for text in found:
        kind, first = text.split(" ", 1)[1].split("; the first is ")
        assert int(first) == next(k for k, (_, other) in enumerate(parts) if other == kind)


def test_many_kinds_are_cut_short() -> None:
    lines = [f"kind {k}" for k in range(SHOWN + 3)]
    assert shown(dict.fromkeys(lines, 1)) == [*lines[:SHOWN], "3 more kinds of warnings; summary.json has all"]
    assert shown(dict.fromkeys(lines[:SHOWN], 1)) == lines[:SHOWN]


def test_what_is_shown_has_its_number() -> None:
    counted, odd = UNSTATED.format(15, "b.fits"), "a file of an object is not used"
    assert shown({counted: 15, odd: 1_378, "no column x": 1}) == [counted, f"{odd} (1,378 times)", "no column x"]


# ---------------------------------------------------------------- from files to the screen

N = 12


@pytest.fixture(scope="module")
def unstated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of cutouts of a dozen objects; none states its zero point."""
    folder = tmp_path_factory.mktemp("a folder whose name is so long that a line of eighty characters cannot hold it")
    rng = np.random.default_rng(1)
    table = Table({"object_id": np.arange(N), "ra": 150 + 0.01 * np.arange(N), "dec": np.full(N, 2.0)})
    for band in "grizy":
        table[f"{band}_cmodel_mag"] = np.full(N, 18.0)
        table[f"fwhm_arcsec_{band}"] = np.full(N, 0.7)
    table.write(folder / "cat.fits")
    (folder / "cutouts").mkdir()
    (folder / "settings.yaml").write_text("storage: {partition_objects: 4, chunk_objects: 2}\n")
    for row in range(N):
        for band in "GRIZY":
            image = rng.normal(100, 1, (64, 64)).astype(np.float32)
            fits.writeto(folder / "cutouts" / f"{row + 2}-cutout-HSC-{band}-9813-s21a_wide.fits", image)
    return folder


@pytest.fixture
def _screen() -> Generator[None]:
    """Log lines as the program writes them; pytest's own handlers keep `logging.basicConfig` from it."""
    log, handler = logging.getLogger("swimmy_scale"), WholeLines()
    log.addHandler(handler)
    yield
    log.removeHandler(handler)


def ingest(unstated: Path, output: Path, n_workers: int) -> str:
    done = call_here(
        "ingest", unstated / "cutouts", "--catalog", unstated / "cat.fits", "--output", output,
        "--settings", unstated / "settings.yaml", "--workers", n_workers,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def said(unstated: Path) -> str:
    """Three partitions found files, and all are one warning; the first of the first partition."""
    return UNSTATED.format(5 * N, unstated / "cutouts/2-cutout-HSC-G-9813-s21a_wide.fits")


@pytest.mark.usefixtures("_screen")
@pytest.mark.parametrize("n_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_warnings_of_cutouts_reach_the_screen(unstated: Path, tmp_path: Path, n_workers: int) -> None:
    lines = ingest(unstated, tmp_path / "c.zarr", n_workers).splitlines()
    assert said(unstated) in lines, "one line, which no width breaks"


@pytest.mark.slow
def test_a_run_says_them_on_screen_in_the_summary_and_in_the_report(
    unstated: Path, finished: Path, tmp_path: Path
) -> None:
    ingest(unstated, tmp_path / "c.zarr", 0)
    given = {"catalogue": None, "ingest": None, "cutouts": str(tmp_path / "c.zarr")}
    job = write_job(tmp_path / "job.yaml", tmp_path, **given, **weights_of(finished / "run"))
    done = call_here("run", job, "--output", tmp_path / "run", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert f"  warning: {said(unstated)}" in done.stdout.splitlines()
    assert json.loads((tmp_path / "run/summary.json").read_text())["warnings"][said(unstated)] == 5 * N
    assert call_here("report", tmp_path / "run").returncode == 0
    assert said(unstated) in html.unescape((tmp_path / "run/report/index.html").read_text())


@pytest.mark.slow
def test_scores_of_several_kinds_of_processors_are_told(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(finished / "run", tmp_path / "run", copy_function=shutil.copy2)
    run = RunDirectory(tmp_path / "run")
    receipt = run.ledger("score").read("000003")
    assert receipt is not None
    other = dataclasses.replace(receipt, details={**receipt.details, "computed_by": "another machine"})
    run.ledger("score").commit(other)
    for stage in ("score", "select"):
        run.ledger(stage).remove(FINISHED)
    summary, _ = run_serially(finished / "job.yaml", run.path)
    (said,) = [text for text in caplog.messages if "such scores differ in their last digits" in text]
    assert "32 objects by another machine" in said
    assert summary["warnings"][said] == 1


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (1, "1 file is a link and is left out; the first is a.fits"),
        (2, "2 files are a link and are left out; the first is a.fits"),
    ],
)
def test_one_is_said_as_one(number: int, line: str) -> None:
    assert shown(add_up(["1 files are a link and are left out; the first is a.fits"] * number)) == [line]
    assert shown({"1 objects state no tract": 1}) == ["1 object states no tract"]
