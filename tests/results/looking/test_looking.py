"""Objects of a finished run through the commands: what is said of each, pictures, FITS cutouts; read by astropy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from PIL import Image
from survey_runs import call_here

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.results.looking import drawing
from swimmy_scale.results.looking.export import candidate_rows_at, write_cutouts
from swimmy_scale.results.looking.objects import answers_by_id, rows_of
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.selection import SelectedRun, Selection

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(finished: Path) -> Path:
    return finished / "run"


@pytest.fixture(scope="module")
def scores(run: Path) -> Selection:
    return Selection(run / "selection.zarr")


@pytest.fixture(scope="module")
def ids(scores: Selection) -> dict[str, list[int]]:
    """Objects by what is to be said of them, found in the simplest way."""
    code, in_sample, object_id = (scores.read(name) for name in ("quarantine_code", "in_sample", "object_id"))
    score, residual = (scores.read(name)[:, :3].astype(float) for name in ("score", "residual"))
    above = (score > scores.read("threshold")[0, :3]).any(axis=1)
    candidate = scores.read("candidate").any(axis=(1, 2))
    others = in_sample & ~candidate
    unique = np.isin(object_id, object_id[code == 0], invert=True)
    chosen = {
        "quarantined": (code != 0) & unique, "cut": (code == 0) & ~in_sample, "candidate": candidate,
        "below": others & ~above, "negative": others & above,
    }  # fmt: skip
    assert all(mask.any() for mask in chosen.values())
    assert (residual[chosen["negative"]].min(axis=1) <= 0).all()
    return {name: object_id[mask].tolist() for name, mask in chosen.items()}


def test_show_says_of_each_object_why(run: Path, ids: dict[str, list[int]], scores: Selection) -> None:
    words = [str(some[0]) for some in ids.values()]
    done = call_here("show", run, *words, 7, "--json")
    assert done.returncode == 0, done.stderr
    found = {item["object_id"]: item for item in json.loads(done.stdout)}
    assert list(found) == [*map(int, words), 7]
    said = [item["answer"] for item in found.values()]
    starts = ["no candidate: in quarantine, ", "no candidate: not in the sample: ", "candidate at 2sigma in ",
              "no candidate: not above the threshold of 2sigma in any band: ",
              "no candidate: above the threshold of 2sigma in ", "no candidate: not in the catalogue"]  # fmt: skip
    assert [text.startswith(start) for text, start in zip(said, starts, strict=True)] == [True] * 6
    one = found[ids["below"][0]]
    row = scores.read("object_id").tolist().index(one["object_id"])
    assert one["bands"]["r"]["score"] == float(scores.read("score")[row, 1])
    assert one["bands"]["r"]["3sigma"] == scores.read("threshold")[1, 1]
    assert one["bands"]["r"]["residual"] == float(scores.read("residual")[row, 1])
    assert found[ids["quarantined"][0]]["bands"]["g"]["score"] is None
    reasons = Table.read(run / "quarantine.csv")
    mask = reasons["object_id"] == ids["quarantined"][0]
    assert str(reasons["reason"][mask][0]) in said[0]
    plain = call_here("show", run, *words, 7).stdout
    assert all(text in plain for text in said)


def test_every_cut_that_show_names_took_objects_out(run: Path, ids: dict[str, list[int]]) -> None:
    said = answers_by_id(SelectedRun.at(run), ids["cut"])
    summary = json.loads((run / "summary.json").read_text())
    # An object may fail several cuts; the counts of the summary are those of the first.
    first = [cut["rule"] for cut in summary["cuts"][1:] for _ in range(cut["before"] - cut["after"])]
    named = [answer.words.split("sample: ")[1].split(" fails")[0] for answer in said]
    assert sorted(named) == sorted(first)


def test_without_its_cutouts_a_run_can_still_be_asked(run: Path, ids: dict[str, list[int]], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=lambda folder, names: {"cutouts.zarr"} & set(names))
    done = call_here("show", copy, ids["cut"][0], ids["candidate"][0])
    assert done.returncode == 0
    assert "not in the sample; which cut took it out cannot be told without the cutouts" in done.stdout
    assert f"{ids['candidate'][0]}" in done.stdout


def test_show_draws_what_has_pixels(run: Path, ids: dict[str, list[int]], tmp_path: Path) -> None:
    asked = [ids["candidate"][0], ids["below"][0], ids["quarantined"][0]]
    words = ["show", run, *asked, "--group", "negative", "--number", 2]
    done = call_here(*words, "--output", tmp_path / "one.png")
    assert done.returncode == 0, done.stderr
    assert "== high but negative: 2 of " in done.stdout
    assert f"swimmy-scale: {asked[2]} has no pixels to draw" in done.stderr
    first = (tmp_path / "one.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.height > 400
    call_here(*words, "--output", tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == first
    call_here(*words, "--output", tmp_path / "each")
    names = {path.name for path in (tmp_path / "each").iterdir()}
    assert len(names) == 4
    assert {f"{asked[0]}.png", f"{asked[1]}.png"} <= names


def test_one_picture_has_room_for_a_few(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MAX_IN_ONE", 3)
    done = call_here("show", run, "--group", "comparison", "--number", 4, "--output", tmp_path / "x.png")
    assert done.returncode == 1
    assert "x.png: 4 objects are too many for one picture, which has room for 3. Give a folder" in done.stderr


# ---------------------------------------------------------------- cutouts


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "cutouts"
    done = call_here("cutouts", run, "--candidates", "--reconstruction", "--output", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{folder}: ")
    return folder


def test_pixels_are_those_of_the_store_and_the_wcs_leads_to_the_object(
    run: Path, scores: Selection, exported: Path
) -> None:
    store = Cutouts(run / "cutouts.zarr")
    rows = np.flatnonzero(scores.read("candidate")[:, 0].any(axis=1))
    assert {path.name for path in exported.glob("*.fits")} == {
        "targets.fits", *(f"{scores.read('object_id')[row]}.fits" for row in rows)
    }  # fmt: skip
    for row in rows.tolist():
        object_id = int(scores.read("object_id", row, row + 1)[0])
        place = SkyCoord(*(scores.read(name, row, row + 1)[0] for name in ("ra", "dec")), unit="deg")
        counts, fwhm = store.images(row, row + 1)[0], store.read("fwhm_arcsec", row, row + 1)[0]
        with fits.open(exported / f"{object_id}.fits") as hdus:
            hdus.verify("exception")
            assert [hdu.name for hdu in hdus[1::4]] == list("grizy")
            for k, band in enumerate("grizy"):
                image, header = hdus[band].data, hdus[band].header
                assert image.dtype.newbyteorder("=") == np.float32
                assert image.astype(np.float32).tobytes() == counts[k].tobytes()
                assert (header["OBJ_ID"], header["OBJECT"]) == (object_id, str(object_id))
                assert (header["BUNIT"], header["MAGZERO"], header["BAND"]) == ("count", 27.0, band)
                assert header["FWHM"] == fwhm[k]
                assert header["SIMULATE"]
                wcs = WCS(header)
                assert wcs.wcs.radesys == "ICRS"
                x, y = wcs.world_to_pixel(place)
                assert (float(x), float(y)) == pytest.approx((31.5, 31.5), abs=1e-6)
                assert proj_plane_pixel_scales(wcs) * 3600 == pytest.approx([0.168, 0.168])
                north, east = wcs.pixel_to_world(31.5, 41.5), wcs.pixel_to_world(21.5, 31.5)
                assert place.position_angle(north).wrap_at("180d").deg == pytest.approx(0, abs=0.01)
                assert place.position_angle(east).deg == pytest.approx(90, abs=0.01)
                assert place.separation(north).arcsec == pytest.approx(1.68, rel=1e-6)
    source = preprocess(counts[None], fwhm[None], store.survey)[0]
    with fits.open(exported / f"{object_id}.fits") as hdus:
        assert np.array_equal(hdus["r_SOURCE"].data, source[1])
        residual = hdus["r_SOURCE"].data.astype(np.float32) - hdus["r_RECONSTRUCTION"].data.astype(np.float32)
        assert np.array_equal(hdus["r_RESIDUAL"].data, residual)
        aperture = residual[store.survey.aperture()].sum(dtype=np.float64)
        stored = float(scores.read("residual", rows[-1], rows[-1] + 1)[0, 1])
        assert aperture == pytest.approx(stored, rel=1e-3, abs=1e-4)


def test_target_lists_and_regions_name_every_file(exported: Path, run: Path) -> None:
    wanted = Table.read(run / "candidates.fits")
    for name in ("targets.csv", "targets.fits"):
        table = Table.read(exported / name)
        assert list(table["object_id"]) == list(wanted["object_id"])
        assert np.array_equal(table["ra"], wanted["ra"])
        assert np.array_equal(table["dec"], wanted["dec"])
        assert [str(level).strip() for level in table["level"]] == [str(level).strip() for level in wanted["level"]]
        sky = SkyCoord(table["ra_hms"], table["dec_dms"], unit=("hourangle", "deg"))
        assert sky.separation(SkyCoord(wanted["ra"], wanted["dec"], unit="deg")).mas.max() < 1.0
        assert all((exported / str(file).strip()).is_file() for file in table["file"])
        assert np.allclose(table["mag_i"], wanted["i_cmodel_mag"], atol=1e-4)
    regions = (exported / "candidates.reg").read_text().splitlines()[3:]
    assert [int(line.split("text={")[1].split("}")[0]) for line in regions] == list(wanted["object_id"])


def test_ids_and_levels_choose(run: Path, ids: dict[str, list[int]], scores: Selection, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"{ids['below'][0]}\n{ids['cut'][0]}\n")
    done = call_here("cutouts", run, ids["negative"][0], "--ids", tmp_path / "ids.txt", "--output", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    names = {f"{ids[kind][0]}.fits" for kind in ("below", "cut", "negative")}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names | {"objects.reg", "targets.csv", "targets.fits"}
    rows = np.flatnonzero(scores.read("candidate")[:, 1].any(axis=1))
    done = call_here("cutouts", run, "--level", "3sigma", "--output", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "b").glob("[0-9]*.fits"))) == len(rows)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_what_cannot_be_cut_out_is_named(run: Path, ids: dict[str, list[int]], tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").touch()
    good, bad = ids["below"][0], ids["quarantined"][0]
    for words, status, message in (
        ([good, 7, 8], 1, "object_id 7, 8 of 3 are not in the catalogue of the run. Check the ids"),
        (range(1, 9), 1, "object_id 1, 2, 3, 4, 5 and 3 more of 8 are not in the catalogue"),
        ([good, bad], 1, f"object_id {bad} ("),
        (["--level", "9sigma"], 1, "no level '9sigma'. Choose among 2sigma, 3sigma"),
        (["1e5"], 1, "ID: '1e5' is not an object_id"),
        ([], 2, "name objects either by --candidates or --level, or by ids or --ids"),
        (["--candidates", good], 2, "name objects either by"),
        ([good, "--output", tmp_path / "kept"], 1, "kept: exists and is not an empty folder. Choose another --output"),
    ):
        output = () if "--output" in words else ("--output", tmp_path / "out")
        done = call_here("cutouts", run, *words, *output)
        assert (done.returncode, message in done.stderr) == (status, True), done.stderr
    assert not (tmp_path / "out").exists()
    for words, message in ((["show", run], "name objects: by their ids"), (["show", run, good, "--seed", 3], "--seed")):
        done = call_here(*words)
        assert (done.returncode, message in done.stderr) == (2, True)


def test_each_chunk_is_read_once_and_one_at_a_time(
    run: Path, scores: Selection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []
    real = Cutouts.read

    def watched(self: Cutouts, name: str, lo: int, hi: int):
        if name == "image":
            read.append((lo, hi))
        return real(self, name, lo, hi)

    monkeypatch.setattr(Cutouts, "read", watched)
    rows = candidate_rows_at(scores, None)
    told: list[tuple[int, int]] = []
    write_cutouts(SelectedRun.at(run), rows, tmp_path / "out", "candidates", lambda *done: told.append(done))
    size = Cutouts(run / "cutouts.zarr").chunk_objects
    assert [lo // size for lo, _ in read] == sorted({row // size for row in rows.tolist()})
    assert all(lo // size == (hi - 1) // size for lo, hi in read)
    assert told[-1] == (len(rows), len(rows))


def test_of_an_id_that_comes_twice_the_usable_row_is_taken(scores: Selection) -> None:
    object_id, code = scores.read("object_id"), scores.read("quarantine_code")
    values, counts = np.unique(object_id, return_counts=True)
    twice = values[counts > 1]
    for one, row in zip(twice.tolist(), rows_of(scores, twice.tolist()).tolist(), strict=True):
        assert object_id[row] == one
        assert code[row] == code[object_id == one].min()
    assert rows_of(scores, [7, int(object_id[3]), 7, int(object_id[3])]).tolist() == [-1, 3, -1, 3]


def test_a_run_without_a_selection_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "receipts/job").mkdir(parents=True)
    with pytest.raises(SwimmyError, match=r"candidates are not selected yet\. Finish the run"):
        getattr(SelectedRun.at(tmp_path), "selection")  # noqa: B009
