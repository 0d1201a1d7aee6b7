"""From marks to an order, through the commands: what each kind of marks gives, and who is most like an object."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
from astropy.table import Table
from survey_runs import call_here, run_serially, weights_of, write_job

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.descriptor import ring_of_pixel
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.results.learning.ranking_file import Ranked, read_ranking, write_ranking
from swimmy_scale.results.looking.pixels import reconstruction_of
from swimmy_scale.storage.selection import SelectedRun, Selection

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with descriptors, of the weights and cutouts of ``finished``."""
    folder = tmp_path_factory.mktemp("ranked")
    stored = {"catalogue": None, "ingest": None, "cutouts": str(finished / "run/cutouts.zarr")}
    job = write_job(folder / "job.yaml", folder, **weights_of(finished / "run"), **stored, score={"descriptors": True})
    run_serially(job, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> dict[str, list[int]]:
    """Object ids: of candidates, of others of the sample, of quarantined ones."""
    one = Selection(run / "selection.zarr")
    object_id, code, in_sample = (one.read(name) for name in ("object_id", "quarantine_code", "in_sample"))
    candidate = one.read("candidate").any(axis=(1, 2))
    alone = ~np.isin(object_id, object_id[code == 0])
    masks = {"candidate": candidate, "other": in_sample & ~candidate, "quarantined": (code != 0) & alone}
    return {name: object_id[mask].tolist() for name, mask in masks.items()}


def marks(path: Path, said: dict[int, str]) -> Path:
    lines = (f"1,{one},{mark},{'' if mark else 'look'}\n" for one, mark in said.items())
    path.write_text("format_version,object_id,mark,note\n" + "".join(lines))
    return path


def test_scores_do_not_change_with_descriptors_which_add_up_to_the_residual(run: Path, finished: Path) -> None:
    with xarray.open_zarr(run / "scores.zarr") as new, xarray.open_zarr(finished / "run/scores.zarr") as old:
        assert "descriptor" not in old
        for name in ("score", "residual"):
            assert new[name].values.tobytes() == old[name].values.tobytes()
        rings = new["descriptor"].values.astype(float).reshape(-1, 5, 3)
        np.testing.assert_allclose(rings.sum(axis=2), new["residual"].values, atol=0.02)
        assert np.array_equal(np.isnan(rings).any(axis=(1, 2)), np.isnan(new["score"].values).any(axis=1))
        assert new["descriptor"].dtype == np.float16
        assert str(new["feature"].values[0]) == "residual_g_ring_1"


def test_a_descriptor_is_what_the_pixels_say(run: Path) -> None:
    selected = SelectedRun.at(run)
    code = selected.selection.read("quarantine_code")
    row = int(np.flatnonzero(code == 0)[3])
    store = selected.cutouts
    source = preprocess(store.images(row, row + 1), store.read("fwhm_arcsec", row, row + 1), store.survey)
    left = source - reconstruction_of(selected, 1)(source)
    expected = [[left[0, band][ring_of_pixel(store.survey) == k].sum() for k in range(3)] for band in range(5)]
    found = selected.selection.scores.read("descriptor", row, row + 1)[0].reshape(5, 3)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_cutouts_in_memory_have_the_descriptors_of_the_run(run: Path) -> None:
    selected = SelectedRun.at(run)
    store, stored = selected.cutouts, selected.selection.scores.read("descriptor")
    weights, n = swimmy_scale.load_model(run), store.n_objects
    found = weights.describe(store.images(0, n), store.read("fwhm_arcsec", 0, n))
    assert found.dtype == np.float16
    is_scored = np.isfinite(stored).all(axis=1)
    assert found[is_scored].tobytes() == stored[is_scored].tobytes()
    image = xarray.DataArray(store.images(0, 8), dims=("galaxy", "band", "y", "x")).chunk({"galaxy": 3})
    named = weights.describe(image, store.read("fwhm_arcsec", 0, 8))
    assert named.dims == ("galaxy", "feature")
    assert str(named.feature.values[1]) == "residual_g_ring_2"
    np.testing.assert_array_equal(named.values, found[:8])


def test_partitions_that_are_scored_in_other_parts_have_the_same_bytes(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s.zarr"
    settings = tmp_path / "s.yaml"
    settings.write_text("score: {descriptors: true, batch_size: 16}\n")
    job = SelectedRun.at(run).job
    done = call_here("score", job.cutouts, "--model", job.weights[0].path, "--model-sha256", job.weights[0].sha256,
                     "--output", copy, "--settings", settings, "--scorer", "numba", "--workers", 2)  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    with xarray.open_zarr(copy) as one, xarray.open_zarr(run / "scores.zarr") as other:
        assert one["descriptor"].values.tobytes() == other["descriptor"].values.tobytes()


def test_rank_writes_an_order_that_the_report_takes(run: Path, rows: dict[str, list[int]], tmp_path: Path) -> None:
    some = rows["candidate"]
    said = {one: ("interesting", "artefact")[k % 2] for k, one in enumerate(some[:4])}
    given = marks(tmp_path / "m.csv", said)
    done = call_here("rank", run, "--marks", given, "-n", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "4 marks = 2 interesting + 2 artefact + left out: 0 known + 0 disputed + 0 only noted + 0 in quarantine"
    )
    assert lines[1] == f"{len(some)} ranked = 4 marked + {len(some) - 4} to look at"
    with (run / "ranked/ranking.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert sorted(int(one["object_id"]) for one in found) == some
    probability = [float(one["probability"]) for one in found]
    assert probability == sorted(probability, reverse=True)
    assert {int(one["object_id"]): one["mark"] for one in found if one["mark"]} == said
    table = Table.read(run / "ranked/ranked.fits")
    assert table["object_id"].tolist() == some, "in the order of candidates.fits"
    by_place = table["object_id"][np.argsort(table["look_order"])].tolist()
    assert by_place == [int(one["object_id"]) for one in found]
    before = (run / "ranked/ranking.csv").read_bytes()
    assert call_here("rank", run, "--marks", given).returncode == 0
    assert (run / "ranked/ranking.csv").read_bytes() == before
    assert call_here("verify", run).stderr.count("not made by the program") == 0
    report = call_here("report", run, "--output", tmp_path / "report")
    assert report.returncode == 0, report.stderr
    page = (tmp_path / "report/index.html").read_text()
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    shown = data["candidates"]
    order = np.argsort(shown["lookOrder"])
    assert [shown["id"][k] for k in order] == [one["object_id"] for one in found]
    assert '<option value="look">' in page


def test_a_ranking_of_another_selection_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ranking.csv"
    assert read_ranking(path, "a" * 64) == {}
    write_ranking(path, [Ranked(7, 0.25, 0.125, "known"), Ranked(-3, np.nan, np.nan, "")], "a" * 64)
    found = read_ranking(path, "a" * 64)
    assert found[7] == (0, 0.25, 0.125)
    assert found[-3][0] == 1
    assert np.isnan(found[-3][1])
    assert read_ranking(path, "b" * 64) == {}
    assert "made of another selection" in caplog.text
    for old, new, words in (("1,aa", "2,aa", "line 2: format_version '2' is not 1"), ("0.25", "x", "line 2: damaged")):
        (tmp_path / "odd.csv").write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(SwimmyError, match=words):
            read_ranking(tmp_path / "odd.csv", "a" * 64)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"candidate": ["interesting"]}, "all marks are interesting: no probability can be learnt"),
        ({"candidate": ["artefact", "artefact"]}, "all marks are artefact: no probability can be learnt"),
        ({"other": ["interesting", "artefact"]}, "2 marks = 1 interesting + 1 artefact"),
        (
            {"candidate": ["interesting", "known", ""], "quarantined": ["artefact"]},
            "4 marks = 1 interesting + 0 artefact + left out: 1 known + 0 disputed + 1 only noted + 1 in quarantine",
        ),
    ],
)
def test_every_kind_of_marks_has_its_answer(
    run: Path, rows: dict[str, list[int]], tmp_path: Path, said: dict[str, list[str]], words: str
) -> None:
    given = {one: mark for kind, some in said.items() for one, mark in zip(rows[kind], some, strict=False)}
    done = call_here("rank", run, "--marks", marks(tmp_path / "m.csv", given), "--output", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    assert len((tmp_path / "r/ranking.csv").read_text().splitlines()) == 1 + len(rows["candidate"])


def test_marks_that_teach_nothing_are_refused(run: Path, rows: dict[str, list[int]], tmp_path: Path) -> None:
    one = rows["candidate"][0]
    nothing, mine, hers, absent = (
        marks(tmp_path / name, said)
        for name, said in (
            ("n.csv", {one: "known"}),
            ("mine.csv", {one: "interesting"}),
            ("hers.csv", {one: "artefact"}),
            ("absent.csv", {5: "artefact"}),
        )
    )
    for given, words in (
        ([nothing], "1 marked object, and none is marked as interesting or artefact, by all who marked it, and has"),
        ([mine, hers], "1 marked object, and none is marked as interesting or artefact, by all who marked it"),
        ([mine, mine], "mine.csv: given 2 times"),
        ([absent], "object_id 5 of 1 are not in the catalogue of the run"),
    ):
        options = [word for path in given for word in ("--marks", path)]
        done = call_here("rank", run, *options, "--output", tmp_path / "r")
        assert done.returncode == 1
        assert re.search(words, done.stderr), done.stderr
    assert not (tmp_path / "r").exists()


def test_what_people_disagree_about_does_not_teach(run: Path, rows: dict[str, list[int]], tmp_path: Path) -> None:
    first, second, third = rows["candidate"][:3]
    mine = marks(tmp_path / "mine.csv", {first: "interesting", second: "artefact", third: "interesting"})
    hers = marks(tmp_path / "hers.csv", {first: "interesting", third: "artefact"})
    agreed = marks(tmp_path / "agreed.csv", {first: "interesting", second: "artefact"})
    done = call_here("rank", run, "--marks", mine, "--marks", hers, "--output", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "3 marks = 1 interesting + 1 artefact + left out: 0 known + 1 disputed + 0 only noted + 0 in quarantine"
    )
    assert lines[1] == f"object_id {third} is 'artefact' in {hers}, line 3, and 'interesting' in {mine}, line 4"
    assert lines[2] == f"{len(rows['candidate'])} ranked = 3 marked + {len(rows['candidate']) - 3} to look at"
    assert call_here("rank", run, "--marks", agreed, "--output", tmp_path / "a").returncode == 0
    found, expected = (
        {
            int(one["object_id"]): one
            for one in csv.DictReader((tmp_path / name / "ranking.csv").read_text().splitlines())
        }
        for name in ("r", "a")
    )
    assert (found[third].pop("mark"), expected[third].pop("mark")) == ("disputed", "")
    assert found == expected
    as_json = call_here("rank", run, "--marks", hers, "--marks", mine, "--output", tmp_path / "r", "--json")
    said = json.loads(as_json.stdout)
    assert (said["left_out_disputed"], len(said["disputes"])) == (1, 1)
    assert third not in [one["object_id"] for one in said["next"]]


def test_all_ranks_the_sample_and_json_says_the_same(run: Path, rows: dict[str, list[int]], tmp_path: Path) -> None:
    given = marks(tmp_path / "m.csv", {rows["candidate"][0]: "interesting", rows["other"][0]: "artefact"})
    done = call_here("rank", run, "--marks", given, "--all", "--output", tmp_path / "r", "-n", 3, "--json")
    found = json.loads(done.stdout)
    assert found["ranked"] == len(rows["candidate"]) + len(rows["other"])
    assert (found["marks"], found["interesting"], found["artefact"], found["descriptors"]) == (2, 1, 1, True)
    assert len(found["next"]) == 3
    assert not {one["object_id"] for one in found["next"]} & {rows["candidate"][0], rows["other"][0]}


def test_like_finds_what_a_plain_sort_does(run: Path, rows: dict[str, list[int]]) -> None:
    one = Selection(run / "selection.zarr")
    values, in_sample = one.read("descriptor").astype(float), one.read("in_sample")
    scaled = np.clip((values - values[in_sample].mean(axis=0)) / values[in_sample].std(axis=0), -10, 10)
    object_id = one.read("object_id")
    place = object_id.tolist().index(rows["candidate"][0])
    distance = np.sqrt(np.square(scaled - scaled[place]).mean(axis=1))
    distance[~in_sample] = np.inf
    distance[place] = np.inf
    expected = object_id[np.argsort(distance, kind="stable")[:5]].tolist()
    done = call_here("like", run, rows["candidate"][0], "-n", 5, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [item["object_id"] for item in found["like"]] == expected
    np.testing.assert_allclose([item["distance"] for item in found["like"]], np.sort(distance)[:5], rtol=1e-4)
    opened = swimmy_scale.open_run(run).swimmy.like(rows["candidate"][0], n=5)
    assert opened.object_id.values.tolist() == expected
    np.testing.assert_allclose(opened.distance.values, np.sort(distance)[:5], rtol=1e-4)
    among = json.loads(call_here("like", run, rows["candidate"][0], "-n", 4, "--candidates", "--json").stdout)
    assert all(item["is_candidate"] for item in among["like"])


def test_what_has_no_score_is_like_nothing(run: Path, rows: dict[str, list[int]]) -> None:
    one = rows["quarantined"][0]
    done = call_here("like", run, one)
    assert done.returncode == 1
    assert f"object_id {one} is in quarantine" in done.stderr
    with pytest.raises(SwimmyError, match=f"object_id {one} has no score"):
        swimmy_scale.open_run(run).swimmy.like(one)
    assert "object_id 5 of 1 are not in the catalogue" in call_here("like", run, 5).stderr


def test_a_run_without_descriptors_does_with_scores_and_says_so(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    some = Table.read(run / "candidates.fits")["object_id"].tolist()
    given = marks(tmp_path / "m.csv", {some[0]: "interesting", some[1]: "artefact"})
    assert "has no descriptors" in call_here("rank", run, "--marks", given).stdout
    like = call_here("like", run, some[0], "-n", 3)
    assert "has no descriptors" in like.stderr
    expected = [int(line.split()[1]) for line in like.stdout.splitlines()]
    assert swimmy_scale.open_run(run).swimmy.like(some[0], n=3).object_id.values.tolist() == expected
