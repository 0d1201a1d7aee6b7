"""What docs/cluster.md says to keep of a run: each row does what it says, with copies that have nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.table import Table
from survey_runs import assert_same_results, call_here, run_serially

import swimmy_scale

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
PIXELS = "image/c"
Copy = Callable[..., Path]


def named(row: str) -> list[str]:
    """The files and folders that a row of the table names, in its second column."""
    (line,) = (line for line in PAGE.read_text().splitlines() if line.startswith(f"| {row}"))
    return [name for name in re.findall(r"`([\w./]+)`", line.split("|")[2]) if name != "run"]


RESULTS = [name for name in named("read what came out") if name != "report"]
WITHOUT_PIXELS = [*RESULTS, *(name for name in named("select by other cuts") if name != PIXELS)]
WITH_PIXELS = [*WITHOUT_PIXELS, *named("make reports")]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Copy:
    """Copies what is named of the finished run, or all but what is not kept."""

    def copied(names: list[str] | None = None, but: list[str] | None = None) -> Path:
        source, target = finished / "run", tmp_path / "run"
        if names is None:
            names = [path.name for path in source.iterdir() if path.name not in (but or [])]
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_dir():
                shutil.copytree(source / name, target / name, dirs_exist_ok=True)
            else:
                shutil.copy2(source / name, target / name)
        return target

    return copied


def done(*words: object) -> None:
    result = call_here(*words)
    assert result.returncode in (0, 3), result.stderr


def test_the_results_are_plain_files(copy: Copy) -> None:
    run = copy(RESULTS)
    assert len(Table.read(run / "candidates.fits"))
    assert sorted(path.name for path in run.iterdir()) == sorted(RESULTS)


def test_without_pixels(copy: Copy, tmp_path: Path) -> None:
    run = copy(WITHOUT_PIXELS)
    shutil.rmtree(run / "cutouts.zarr" / PIXELS)
    done("select", run, "--name", "again")
    done("compare", run, run / "selections/again")
    done("tables", run, "table-2")
    again = Table.read(run / "selections/again/candidates.fits")
    assert list(again["object_id"]) == list(Table.read(run / "candidates.fits")["object_id"])
    assert swimmy_scale.open_run(run)["score"].shape[1] == 5
    assert call_here("report", run).returncode == 1, "else the next row need not be kept"


def test_with_pixels(copy: Copy, tmp_path: Path) -> None:
    run = copy(WITH_PIXELS)
    done("report", run, "--max-candidates", 2)
    done("figures", run, "stretch")
    scores = tmp_path / "again.zarr"
    model = run / "models/selected.keras"
    done("score", run / "cutouts.zarr", "--model", model, "--output", scores, "--workers", 0)
    done("select", scores, "--output", tmp_path / "selected")


def test_to_verify_and_to_run(copy: Copy, finished: Path) -> None:
    run = copy(but=named("`verify`"))
    assert "log" in named("`verify`")
    done("verify", run, "--workers", 0)
    _, workers = run_serially(finished / "job.yaml", run)
    assert workers.n_tasks == 0
    assert_same_results(run, finished / "run")


def test_pixels_come_from_their_sources(copy: Copy, finished: Path) -> None:
    gone = [*named("`verify`"), *named("the same, without")]
    assert "cutouts.zarr" in gone
    run = copy(but=gone)
    scored = (run / "receipts/score/finished.json").stat().st_mtime_ns
    run_serially(finished / "job.yaml", run)
    assert (run / "receipts/score/finished.json").stat().st_mtime_ns == scored
    assert_same_results(run, finished / "run")
    done("verify", run, "--workers", 0)
