"""The benchmarks' shared parts, and that the page of figures is what the results say."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if path.stem not in {"bank", "measure"})


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
    import measure

    from swimmy_scale.stages.engine import Progress

    wanted = {name for name in vars(Progress) if not name.startswith("_")}
    assert wanted >= {"prepare", "start", "add", "stop"}
    assert wanted <= set(dir(measure.Silent()))


def test_peaks_of_all_processes_are_seen() -> None:
    import measure

    measured = measure.run_measured([sys.executable, "-c", "x = b'1' * (300 << 20); import time; time.sleep(1)"])
    assert 300 << 20 < measured.peak_bytes("driver") < 400 << 20
    assert measured.peak_bytes("worker") == 0
    with pytest.raises(SystemExit, match="no such thing"):
        measure.run_measured([sys.executable, "-c", "raise SystemExit('no such thing')"])


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
