"""The page "The second day": its commands, in their order, do what it says, and what goes wrong there is told."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from astropy.table import Table
from survey_runs import assert_same_results, call_here, opened

import swimmy_scale
from swimmy_scale.storage.files import digest_file, driver_lock

pytestmark = pytest.mark.slow
PAGE = Path(__file__).resolve().parents[1] / "docs" / "second-day.md"
SETTINGS = {"wide.yaml": "select: {levels: {2sigma: 0.2, 3sigma: 0.1}}\n"}


@pytest.fixture(scope="module")
def place(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands: a finished run, its job, and the files that the page names."""
    folder = tmp_path_factory.mktemp("second")
    shutil.copytree(finished / "run", folder / "demo/run", copy_function=shutil.copy2)
    (folder / "jobs").mkdir()
    job = (finished / "job.yaml").read_text()
    # The weights are to stay when the sample is cut.
    (folder / "jobs/demo.yaml").write_text(job)
    (folder / "stricter.yaml").write_text(job.replace("schedule:", "sample: {}\n  schedule:") + STRICTER)
    for name, text in SETTINGS.items():
        (folder / name).write_text(text)
    return folder


STRICTER = "sample: {max_magnitude: 18.7}\n"


@pytest.fixture(autouse=True)
def there(place: Path) -> Iterator[None]:
    with contextlib.chdir(place):
        yield


def commands() -> list[list[str]]:
    return [shlex.split(line[2:]) for line in PAGE.read_text().splitlines() if line.startswith("$ ")]


def test_the_commands_of_the_page(finished: Path) -> None:
    first = Path("demo/first")
    shutil.copytree("demo/run", first, copy_function=shutil.copy2)
    said = {}
    for words in commands():
        if words[1] == "simulate":
            # What the page has done until then, before the run grows.
            shutil.copytree("demo/run", "demo/before", copy_function=shutil.copy2)
        if words[0] == "mv":
            Path(words[1]).rename(words[2])
            continue
        done = call_here(*words[1:])
        assert done.returncode in (0, 3), f"{words}: {done.stderr}"
        said[" ".join(words[1:])] = done
    verified = [done.stdout for words, done in said.items() if words.startswith("verify")]
    assert verified == ["every file is as its receipt says\n"] * 4
    plan, changed = said["run stricter.yaml --output demo/run --plan"], said["run stricter.yaml --output demo/run"]
    assert "another job than before (sample.max_magnitude from 20.0 to 18.7, train.sample from" in plan.stderr
    assert "selections/earlier-1: the selection of the earlier job is kept there" in plan.stderr
    assert "score: done" in changed.stderr
    assert "score: done" in said["run moved/run/job.yaml --output moved/run"].stderr
    earlier, run, wide = (Path("moved/before") / name for name in ("selections/earlier-1", "", "selections/wide"))
    first = Path("moved/first")
    assert digest_file(earlier / "candidates.fits") == digest_file(first / "candidates.fits")
    assert (earlier / "summary.json").read_bytes() == (first / "summary.json").read_bytes()
    before, after = (set(ids(path)) for path in (earlier, run))
    compared = said["compare demo/run/selections/earlier-1 demo/run --output differences.csv"].stdout
    assert (
        f"{len(before):,} candidates at 2sigma = {len(before & after):,} in both + {len(before - after)} went"
        in compared
    )
    assert "both cut the same scores" in compared
    assert ": no candidate: not in the sample: i cmodel magnitude < 18.7 fails (" in compared
    lines = Path("differences.csv").read_text().splitlines()
    assert {int(line.split(",")[0]) for line in lines[1:]} == before ^ after
    came = json.loads(said["compare demo/run demo/run/selections/wide --json"].stdout)
    assert (came["n_both"], came["n_second"]) == (len(after), len(ids(wide)))
    carried = said[next(words for words in said if "--thresholds-from" in words)].stdout
    assert "thresholds carried over from" in carried
    assert "top" not in carried
    assert "SIMULATED" in said["tables demo/run/selections/wide table-2"].stdout
    assert swimmy_scale.open_run(wide).swimmy.candidates("2sigma").sizes["object_id"] == len(ids(wide))
    grown = yaml.safe_load(Path("moved/run/job.yaml").read_text())["additions"][0]
    assert grown["catalogue"]["path"] == "../night-2/catalogue.fits"
    added = json.loads(Path("moved/run/summary.json").read_text())["additions"]
    assert [(item["name"], item["given"]) for item in added] == [("night-2", 60)]
    assert "addition night-2: 60 objects, 60 of them new" in next(
        done.stderr for words, done in said.items() if words.endswith("--plan") and words.startswith("add")
    )
    wide_again = swimmy_scale.open_run("moved/run/selections/wide-again")
    n_first = json.loads((first / "summary.json").read_text())["given"]
    assert wide_again.sizes["object_id"] + wide_again.attrs["n_left_out"] == n_first + 60
    # The first job again: its results, byte for byte.
    assert call_here("run", "jobs/demo.yaml", "--output", "moved/before").returncode == 3
    assert_same_results(Path("moved/before"), finished / "run")


def test_a_project_that_is_moved_goes_on_where_it_was(finished: Path, tmp_path: Path) -> None:
    """Relative paths of the job, an ingest and a scoring that were stopped, another place: nothing is done twice."""
    project = tmp_path / "project"
    shutil.copytree(finished / "survey", project / "survey", copy_function=shutil.copy2)
    (project / "jobs").mkdir()
    text = (finished / "job.yaml").read_text().replace(str(finished / "survey"), "../survey")
    assert "../survey/catalogue.fits" in text
    (project / "jobs/job.yaml").write_text(text)
    job, run = "jobs/job.yaml", project / "run"
    assert call_here("run", project / job, "--output", run).returncode == 3
    assert "/" + str(project).strip("/") not in (run / "job.yaml").read_text()
    for stage, parts in (("ingest", ("000001", "000004")), ("score", ("000002",))):
        for part in (*parts, "finished"):
            (run / f"receipts/{stage}/{part}.json").unlink()
    moved = project.rename(tmp_path / "elsewhere")
    before = {path: path.stat().st_mtime_ns for path in (moved / "run/receipts").rglob("0*.json")}
    assert call_here("run", moved / job, "--output", moved / "run").returncode == 3
    after = {path: path.stat().st_mtime_ns for path in (moved / "run/receipts").rglob("0*.json")}
    again = sorted(f"{path.parent.name} {path.stem}" for path in after if before.get(path) != after[path])
    assert again == ["ingest 000001", "ingest 000004", "score 000002"]
    assert call_here("verify", moved / "run").returncode == 0
    for name in ("candidates.fits", "candidates.ecsv", "candidates.vot", "candidates.parquet"):
        assert (moved / "run" / name).read_bytes() == (finished / "run" / name).read_bytes(), name
    # The same files named by absolute paths are the same job.
    (moved / "jobs/absolute.yaml").write_text(text.replace("../survey", str(moved / "survey")))
    done = call_here("run", moved / "jobs/absolute.yaml", "--output", moved / "run", "--plan")
    assert "another job than before" not in done.stderr
    assert "ingest: done" in call_here("run", moved / "jobs/absolute.yaml", "--output", moved / "run").stderr


def test_cutouts_that_went_elsewhere(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run, copy_function=shutil.copy2)
    pixels = (run / "cutouts.zarr").rename(tmp_path / "pixels.zarr")
    for words in (["report", run], ["figures", run, "redshift-histogram"], ["select", run, "--name", "x"]):
        refused = call_here(*words)
        assert refused.returncode == 1, words
        done = call_here(*words, "--cutouts", pixels)
        assert done.returncode in (0, 3), (words, done.stderr)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_colleague_s_run_is_only_read(finished: Path, tmp_path: Path) -> None:
    """Verified, selected from and shown, with not one file written to."""
    before = everything(finished / "run")
    assert call_here("verify", finished / "run").returncode == 0
    (tmp_path / "s.yaml").write_text(SETTINGS["wide.yaml"] + STRICTER)
    done = call_here("select", finished / "run", "--settings", tmp_path / "s.yaml", "--output", tmp_path / "mine")
    assert done.returncode == 3, done.stderr
    assert call_here("verify", tmp_path / "mine").returncode == 0
    assert call_here("report", tmp_path / "mine").returncode == 0
    assert call_here("compare", finished / "run", tmp_path / "mine").returncode == 0
    assert call_here("figures", tmp_path / "mine", "score-histograms").returncode == 0
    assert {path.name for path in (tmp_path / "mine").iterdir()} >= {"report", "figures", "selection.zarr", "receipts"}
    assert everything(finished / "run") == before
    again = call_here("select", finished / "run", "--settings", tmp_path / "s.yaml", "--output", finished / "run")
    assert again.returncode == 1
    assert "a run directory, whose own selection belongs to its job" in again.stderr


def test_a_sample_cut_by_settings_is_that_of_a_job(finished: Path, tmp_path: Path) -> None:
    """`select` with other cuts gives the bytes of a run with them."""
    job = yaml.safe_load((finished / "job.yaml").read_text())
    job["sample"], job["train"]["sample"] = {"max_magnitude": 18.7}, {}
    shutil.copytree(finished / "run", tmp_path / "run", copy_function=shutil.copy2)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert call_here("run", tmp_path / "job.yaml", "--output", tmp_path / "run").returncode == 3
    (tmp_path / "s.yaml").write_text(STRICTER)
    words = ["--settings", tmp_path / "s.yaml", "--output", tmp_path / "out"]
    assert call_here("select", finished / "run", *words).returncode == 3
    for name in ("candidates.fits", "candidates.vot", "candidates.ecsv", "candidates.parquet", "summary.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name


def test_two_selections_at_once_into_one_folder(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with driver_lock(tmp_path / "mine" / "receipts"):
        done = call_here("select", finished / "run", "--output", tmp_path / "mine")
    assert done.returncode == 1
    assert "mine is in use by process" in done.stderr


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda run: (run / "receipts/score/finished.json").unlink(), "score: not finished"),
        (lambda run: shutil.rmtree(run / "receipts/picture"), "picture: not finished"),
        (lambda run: (run / "receipts/job/finished.json").unlink(), "job: not finished"),
        (lambda run: shutil.rmtree(run / "receipts/provenance"), "provenance: not finished"),
        (lambda run: (run / "scores.zarr/score/c/9").mkdir(), None),
        (lambda run: (run / "scores.zarr/score/c/9").write_text("stray"), "scores.zarr/score/c/9: unexpected"),
        (lambda run: (run / "models/notes.txt").write_text("mine"), "models/notes.txt: unexpected"),
        (
            lambda run: (run / "receipts/score/000001.json").write_bytes(
                (run / "receipts/score/000002.json").read_bytes()
            ),
            "receipts/score/000001.json: the receipt is that of score 000002",
        ),
        (
            lambda run: ((run / "candidates.fits").unlink(), (run / "candidates.fits").mkdir()),
            "candidates.fits: not a file",
        ),
        (
            lambda run: os.truncate(run / "cutouts.zarr/image/c/0/0/0/0", 1000),
            "cutouts.zarr/image/c/0/0/0/0: 1000 bytes",
        ),
    ],
)
def test_verify_says_the_same_each_time_and_repair_mends_it(
    finished: Path, tmp_path: Path, damage: Callable[[Path], Any], line: str | None
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run, copy_function=shutil.copy2)
    damage(run)
    before = everything(run)
    first, second = (call_here("verify", run) for _ in range(2))
    assert everything(run) == before
    assert (first.returncode, first.stdout) == (second.returncode, second.stdout)
    if line is None:
        assert first.returncode == 0
        return
    assert first.returncode == 1
    assert line in first.stdout
    repaired = call_here("verify", run, "--repair")
    if "unexpected" in line:
        assert "Remove what is unexpected, unless it is yours" in first.stderr
        return
    assert repaired.returncode == 3, repaired.stderr
    assert call_here("verify", run).stdout == "every file is as its receipt says\n"
    assert_same_results(run, finished / "run")


def test_a_damaged_selection_beside_the_run_is_made_again(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run, copy_function=shutil.copy2)
    (tmp_path / "s.yaml").write_text(SETTINGS["wide.yaml"])
    assert call_here("select", run, "--settings", tmp_path / "s.yaml", "--name", "wide").returncode == 3
    wide = run / "selections/wide"
    whole = {name: value[1] for name, value in everything(wide).items() if "receipts" not in name}
    for path in (wide / "selection.yaml", wide / "candidates.vot", run / "candidates.vot"):
        path.write_text("damaged")
    found = call_here("verify", run)
    assert sorted(line.split(": ")[0] for line in found.stdout.splitlines()) == [
        "candidates.vot", "selections/wide/candidates.vot", "selections/wide/selection.yaml"
    ]  # fmt: skip
    repaired = call_here("verify", run, "--repair", "--json")
    assert repaired.returncode == 3
    assert len(json.loads(repaired.stdout)["damaged"]) == 3, "one document, of what was found"
    assert {name: value[1] for name, value in everything(wide).items() if "receipts" not in name} == whole
    assert call_here("verify", run).returncode == 0


def test_thresholds_of_another_model_or_level_are_refused(finished: Path, tmp_path: Path) -> None:
    summary = json.loads((finished / "run/summary.json").read_text())
    other, levels = tmp_path / "other.json", tmp_path / "levels.json"
    other.write_text(json.dumps({**summary, "model_sha256": "ab" * 32}))
    levels.write_text(json.dumps({**summary, "levels": {**summary["levels"], "2sigma": 0.07}}))
    words = ["select", finished / "run", "--output", tmp_path / "out"]
    refused = call_here(*words, "--thresholds-from", other)
    assert refused.returncode == 1
    assert "other.json: its thresholds cut scores of the model abababababab..., and here they would cut those of" in (
        refused.stderr
    )
    assert "--thresholds-of-another-model" in refused.stderr
    taken = call_here(*words, "--thresholds-from", other, "--thresholds-of-another-model")
    assert taken.returncode == 3
    assert f"thresholds carried over from {other}" in taken.stdout
    by_band = json.loads((tmp_path / "out/summary.json").read_text())["selected"]["2sigma"]["percent_above"]
    with opened(finished / "run") as ds:
        score = ds.score.values[ds.in_sample.values]
        share = 100 * (score > ds.threshold.values[0]).mean(axis=0)
    assert list(by_band.values()) == pytest.approx(share[:3].tolist())
    assert f"({by_band['g']:.3g}%)" in taken.stdout
    refused = call_here(*words, "--thresholds-from", levels)
    assert "levels.json: its level 2sigma is the top 0.07 of its sample, and select.levels says 0.05" in refused.stderr


def test_a_selection_from_scores_that_were_made_again(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run, copy_function=shutil.copy2)
    job = yaml.safe_load((finished / "job.yaml").read_text()) | {
        "score": {"kind": "noise"},
        "select": {"levels": {"2sigma": 0.2}},
    }
    (tmp_path / "noise.yaml").write_text(yaml.safe_dump(job))
    assert call_here("run", tmp_path / "noise.yaml", "--output", run).returncode == 3
    earlier = run / "selections/earlier-1"
    refused = call_here("report", earlier)
    assert refused.returncode == 1
    assert "a selection from scores that" in refused.stderr
    assert "swimmy-scale select" in refused.stderr
    compared = call_here("compare", earlier, run)
    assert compared.returncode == 0, compared.stderr
    assert "they cut different scores" in compared.stdout
    assert "its scores there are no longer there" in compared.stdout
    assert call_here("verify", run).returncode == 0


@pytest.mark.parametrize("name", ["selection.zarr/threshold/zarr.json", "candidates.fits"])
def test_a_damaged_selection_is_not_kept_as_a_good_one(finished: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run, copy_function=shutil.copy2)
    damaged = run / name
    content, status = bytearray(damaged.read_bytes()), damaged.stat()
    content[200] ^= 0x80
    damaged.write_bytes(content)
    os.utime(damaged, ns=(status.st_atime_ns, status.st_mtime_ns))
    job = yaml.safe_load((finished / "job.yaml").read_text()) | {"select": {"levels": {"2sigma": 0.2}}}
    (tmp_path / "wider.yaml").write_text(yaml.safe_dump(job))
    words = ("run", tmp_path / "wider.yaml", "--output", run)
    refused = call_here(*words)
    assert refused.returncode == 1
    assert f"{damaged}: damaged, and it belongs to the selection of the job before" in refused.stderr
    assert f"swimmy-scale verify {run} --repair" in refused.stderr
    # What a run leaves that dies while it copies.
    shutil.copytree(finished / "run/selection.zarr", run / "selections/.earlier-1.partial/selection.zarr")
    (run / "selections/.earlier-1.partial/summary.json").touch()
    assert call_here("verify", run, "--repair").returncode == 3
    assert call_here(*words).returncode == 3
    kept = run / "selections/earlier-1" / name
    assert digest_file(kept) == digest_file(finished / "run" / name)


def ids(folder: Path) -> list[int]:
    return [int(value) for value in Table.read(folder / "candidates.fits")["object_id"]]
