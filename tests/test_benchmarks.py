"""The benchmarks' shared parts, and that the page of figures is what the results say."""

from __future__ import annotations

import json
import re
import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(
    path
    for path in BENCHMARKS.glob("*.py")
    if path.stem not in {"bank", "counted", "hyrax_peer", "measure", "tests_of_before"}
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_page_is_made_of_the_results() -> None:
    import page

    assert (ROOT / "docs" / "performance.md").read_text() == page.page(page.load()), "run python benchmarks/page.py"
    for _, file in page.SERIES.values():
        assert (page.PLOTS / file).is_file()


def test_every_result_has_the_same_form() -> None:
    import page

    for name, content in page.load().items():
        assert (page.RESULTS / f"{name}.json").is_file()
        assert content["n_cores"] >= 1
        for line in content["rows"]:
            assert line["min"] <= line["median"] <= line["max"], line
            assert (line["met"] is None) == (line["target"] is None), line


def test_the_page_of_the_report_has_the_numbers_that_were_measured() -> None:
    lines = {line["what"]: line for line in json.loads((BENCHMARKS / "results" / "report.json").read_text())["rows"]}
    text = " ".join((ROOT / "docs" / "report.md").read_text().split())
    usable, drawn = (
        lines[what] for what in ("opened from disk until the gallery can be used", "and its pictures in view are drawn")
    )
    jpeg = {
        (kind, what): lines[f"what JPEG changes in {kind}: {what}"]["median"]
        for kind in ("composites", "residual maps")
        for what in ("root mean square", "99% at most", "all at most")
    }
    for shown in (
        f"takes {lines['on disk']['median']:.0f} MB",
        f"page itself is {lines['of it the page']['median']:.1f} MB",
        f"ready {usable['min']:.1f} to {usable['max']:.1f} s",
        f"in view after {drawn['min']:.1f} to {drawn['max']:.1f} s",
        f"changes composites by {jpeg['composites', 'root mean square']:.1f} of 255",
        f"residual maps by {jpeg['residual maps', 'root mean square']:.1f}",
        *(f"at most {value:.0f}" for (_, what), value in jpeg.items() if what != "root mean square"),
    ):
        assert shown in text, shown


def test_what_is_not_met_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import measure
    import page

    rows = [
        measure.row("fast", "objects/s", [3.0, 1.0, 2.0]),
        measure.row("slow", "", [0.5], ratio=0.5, target=2, met=False),
    ]
    measure.report("made_up", rows, tmp_path / "a.json", ["a note"], n_objects=7)
    printed = capsys.readouterr().out
    assert "2 (1 - 3) objects/s" in printed
    assert "target 2: NOT MET" in printed
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["n_objects"], content["notes"], content["rows"][0]["median"]) == (7, ["a note"], 2.0)
    text = page.page({"made_up": content})
    assert "| slow | 0.5x | 2 | not met |" in text
    assert "| score stage on one H200, objects a second | not measured | 50,000 | open |" in text
    assert "| fast | 2 | 1 - 3 | objects/s |  |  |" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_says_how_it_is_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(path), run_name="__main__")
    assert f"python benchmarks/{path.name}" in capsys.readouterr().out


def test_the_flops_are_those_of_the_windows() -> None:
    import floors

    # 62 -> 60 | 30 -> 28 | 14 -> 12 | 6 -> 4 | 6 -> 4 | 6 -> 4 | 8 -> 6 px: inputs, outputs and side of each layer
    layers = [(5, 64, 60), (64, 32, 28), (32, 8, 12), (8, 8, 4), (8, 32, 4), (32, 64, 4), (64, 5, 6)]
    assert floors.needed_flops() == sum(18.0 * n_in * n_out * side**2 for n_in, n_out, side in layers)


def test_the_silent_progress_has_all_that_stages_call() -> None:
    from swimmy_scale.stages.engine import Progress, Silent

    wanted = {name for name in vars(Progress) if not name.startswith("_")}
    assert wanted >= {"prepare", "start", "add", "stop"}
    assert wanted <= set(dir(Silent()))


@pytest.mark.slow
def test_peaks_of_all_processes_are_seen() -> None:
    import measure

    measured = measure.run_measured([sys.executable, "-c", "x = b'1' * (300 << 20); import time; time.sleep(1)"])
    assert 300 << 20 < measured.peak_bytes("driver") < 400 << 20
    assert measured.peak_bytes("worker") == 0
    with pytest.raises(SystemExit, match="no such thing"):
        measure.run_measured([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.slow
def test_a_survey_from_the_bank_can_be_scored_and_verified(tmp_path: Path) -> None:
    """Twice the same survey has the same bytes, and no two of its objects the same pixels."""
    from bank import make_bank, make_survey
    from small_networks import build_on_one_thread
    from survey_runs import verify

    from swimmy_scale.method.network import Network
    from swimmy_scale.method.sections import StorageSection
    from swimmy_scale.model.files import save
    from swimmy_scale.storage.cutouts import Cutouts

    make_bank(tmp_path / "bank", 16)
    storage = StorageSection(partition_objects=32, chunk_objects=16)
    for name in ("a", "b"):
        make_survey(tmp_path / "bank", tmp_path / f"{name}.zarr", 80, 0, storage)
        assert verify(tmp_path / f"{name}.zarr") == []
    one, other = (Cutouts(tmp_path / f"{name}.zarr").images(0, 80) for name in ("a", "b"))
    assert one.tobytes() == other.tobytes()
    assert len(np.unique(one[:, 2].reshape(80, -1).std(axis=1))) == 80
    import measure

    settings = "train: {network: {encoder_filters: [4, 4], latent_filters: 2}}\n"
    save(build_on_one_thread(Network(encoder_filters=(4, 4), latent_filters=2), seed=1), tmp_path / "model.keras")
    scored = measure.score(tmp_path / "a.zarr", tmp_path / "model.keras", 1, settings, ("--scorer", "keras"))
    assert scored.objects_per_second > 0
    assert scored.measured.peak_bytes("worker") > 0
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize(
    ("name", "row", "band"),
    [
        ("2-cutout-HSC-G-9000-pdr3_wide.fits", 0, "G"),
        ("991-cutout-HSC-Y-10054-pdr3_wide.fits", 989, "Y"),
        ("17_coadd_30.12345_-1.50000_9000_HSC-R.fits", 15, "R"),
    ],
)
def test_names_of_delivered_cutouts_tell_row_and_band(name: str, row: int, band: str) -> None:
    import peers

    assert peers.row_and_band(name) == (row, band)


@pytest.mark.parametrize("name", ["psf.fits", "2-cutout-I-9000-pdr3_wide.fits"])
def test_names_that_tell_no_row_or_band_are_refused(name: str) -> None:
    import peers

    with pytest.raises(SystemExit, match="has no line number or no band"):
        peers.row_and_band(name)


def test_both_programs_read_the_files_of_a_survey_for_peers(tmp_path: Path) -> None:
    """Names are those that each expects, pixels those that were delivered, and the peer's catalogue lists them all."""
    import peers
    from astropy.io import fits
    from astropy.table import Table

    from swimmy_scale.ingest.pixels.file_names import parse_names
    from swimmy_scale.method.survey import HSC

    survey = peers.make_survey(tmp_path / "even", 6, 0, oversize=False)
    catalogue = Table.read(survey.catalogue)
    names = sorted(path.name for path in survey.files.iterdir())
    assert len(names) == 6 * 5
    claims = parse_names(np.array(names, "S"), HSC)
    assert sorted(claims.line) == sorted(list(catalogue["object_id"]) * 5)  # the id, in the place of the line
    assert sorted(claims.band) == sorted([0, 1, 2, 3, 4] * 6)
    table = Table.read(survey.file_table)
    assert sorted(table["filename"]) == names
    for object_id, band, name in table:
        assert re.fullmatch(rf"{object_id}_.*_{band}\.fits", name)  # Hyrax takes 17 digits and the filter
        assert len(str(object_id)) == 17
        assert fits.getdata(survey.files / name).shape == (64, 64)
    assert peers.n_unequal(survey) == 0
    uneven = peers.make_survey(tmp_path / "uneven", 20, 0)
    ids = Table.read(uneven.catalogue)["object_id"]
    shapes = [{fits.getdata(path).shape for path in uneven.files.glob(f"{one}_*")} for one in ids]
    assert peers.n_unequal(uneven) == sum(len(one) > 1 for one in shapes) == 1
    before = survey.file_table.stat().st_mtime_ns
    assert peers.make_survey(tmp_path / "even", 6) == survey
    assert survey.file_table.stat().st_mtime_ns == before


def test_starting_and_running_are_told_apart() -> None:
    import peers

    # 5 s to start and 10 objects a second; the second turn with many objects is at 5 a second
    seconds = {(100, 0): 15.0, (100, 1): 15.0, (1000, 0): 105.0, (1000, 1): 195.0}
    found = [peers.Timed("a", n, turn, taken, 2 * taken, 1.0) for (n, turn), taken in seconds.items()]
    running, start = peers.once_running(found, "seconds")["a"]
    assert running == [10.0, 5.0]
    assert start == pytest.approx(15.0 - 100 / 7.5)
    assert peers.rates(found, "core_seconds")["a", 1000] == pytest.approx([1000 / 210, 1000 / 390])


def test_an_interrupted_measurement_goes_on_unless_the_program_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peers

    class Counting:
        scorer = ""
        performed: ClassVar[list[tuple[str, int, int]]] = []

        def perform(self, way: str, n_objects: int, turn: int) -> peers.Timed:
            if len(self.performed) == 5:
                raise KeyboardInterrupt
            self.performed.append((way, n_objects, turn))
            return peers.Timed(way, n_objects, turn, 1.0, 1.0, 1.0, "keras" if way == peers.OURS else "")

    repeat, record = {10: 1, 20: 1}, tmp_path / "measured.json"
    with pytest.raises(KeyboardInterrupt):
        peers.measure_all(Counting(), record, repeat)
    first, Counting.performed[:] = [*Counting.performed], []
    bench = Counting()
    found = peers.measure_all(bench, record, repeat)
    assert bench.scorer == "keras"  # what the first run found, for the site file of the other scorer
    assert [*first, *Counting.performed] == [(one.way, one.n_objects, one.turn) for one in found]
    assert (len(first), len(found), len({(one.way, one.n_objects) for one in found})) == (5, 8, 8)
    monkeypatch.setattr(peers, "program_digest", lambda: "another")
    Counting.performed[:] = []
    with pytest.raises(KeyboardInterrupt):
        peers.measure_all(Counting(), record, repeat)
    assert Counting.performed == first


def test_ratios_are_to_the_faster_setting_of_the_peer() -> None:
    import peers

    taken = {peers.HYRAX: 10.0, peers.HYRAX_READERS: 8.0, peers.OURS: 4.0, peers.OURS_OTHER: 2.0}
    scorer = {peers.OURS: "keras", peers.OURS_OTHER: "numba"}
    found = [
        peers.Timed(way, n, turn, n * one / 10, n * one / 10, 7.0, scorer.get(way, ""))
        for way, one in taken.items()
        for n in (100, 1000)
        for turn in range(2)
    ]
    lines = {line["what"]: line for line in peers.rows_of(found, 2)}
    assert lines["Hyrax infer, 2 reading processes: 100 objects"]["ratio"] is None
    assert lines["Hyrax infer: 1,000 objects"]["ratio"] == pytest.approx(0.8)
    ours = lines["swimmy-scale run (scorer: keras, the default): once running"]
    assert (ours["median"], ours["ratio"]) == (pytest.approx(2.5), pytest.approx(2.0))
    assert lines["swimmy-scale run, scorer: numba: by processor time, 100 objects"]["ratio"] == pytest.approx(4.0)


def test_the_settings_of_the_peer_are_what_was_meant(tmp_path: Path) -> None:
    import hyrax_peer

    path = hyrax_peer.write_settings(
        tmp_path / "hyrax.toml",
        tmp_path / "files",
        tmp_path / "files.fits",
        tmp_path,
        n_readers=3,
        weights=tmp_path / "w",
    )
    settings = tomllib.loads(path.read_text())
    data = settings["data_request"]["infer"]["data"]
    assert (data["dataset_class"], data["data_location"]) == ("FitsImageDataset", str(tmp_path / "files"))
    assert settings["data_set"] == {
        "filter_catalog": str(tmp_path / "files.fits"),
        "crop_to": [64, 64],
        "use_cache": False,
    }
    assert settings["data_loader"] == {"batch_size": 512, "num_workers": 3}
    assert settings["optimizer"]["name"] in settings
    assert settings["infer"]["model_weights_file"] == str(tmp_path / "w")


def test_the_stand_in_crops_around_the_middle() -> None:
    import hyrax_peer

    names: dict[str, Any] = {}
    exec(hyrax_peer.STAND_IN, names)  # noqa: S102  (it is written into the peer's environment)
    image = np.arange(5 * 67 * 66).reshape(5, 67, 66)
    transform = names["Compose"]([names["CenterCrop"](size=(64, 64)), names["Lambda"](np.negative)])
    # 3 rows too many: 1.5 rounds to the even 2, as torchvision's round() does
    assert (transform(image) == -image[:, 2:66, 1:65]).all()
    with pytest.raises(ValueError, match="smaller than the crop"):
        names["CenterCrop"]((68, 64))(image)
