"""Files of a run that are no longer what they were: a message with the remedy, and all is made again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from survey_runs import assert_same_results, verification

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages import train
from swimmy_scale.storage.files import of_the_program, read_text
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import RunDirectory


def called(*words: object) -> Result:
    """A command, which must end by itself."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def not_utf8(path: Path) -> None:
    """Change a byte, and neither size nor time."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[5] = 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    (path / "below").mkdir(parents=True)


def gone(path: Path) -> None:
    path.unlink()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "job.yaml": not_utf8,
    "summary.json": not_utf8,
    "quarantine.csv": not_utf8,
    "provenance.json": fifo,
    "scorer.json": folder,
    "selection.yaml": fifo,
    "models/manifest.json": folder,
    "models/run-00/identity.txt": not_utf8,
    "models/run-00/history.csv": not_utf8,
    "models/run-00/history.json": fifo,
    "candidates.ecsv": folder,
    "receipts/ingest.notes.json": fifo,
    "receipts/ingest/000001.json": fifo,
    "cutouts.zarr/zarr.json": gone,
    "cutouts.zarr/ra/zarr.json": fifo,
    "scores.zarr/zarr.json": fifo,
}


@pytest.mark.slow
def test_every_damaged_file_is_made_again(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    for name, damage in DAMAGE.items():
        damage(run / name)
    for words in (["status", run], ["show", run, "1"], ["report", run], ["compare", run, finished / "run"],
                  ["select", run, "--name", "again"], ["verify", run, "--workers", "0"]):  # fmt: skip
        called(*words)
    repaired = called("verify", run, "--repair", "--workers", "0")
    assert repaired.exit_code == 3, repaired.stderr
    assert verification(run).is_sound
    assert_same_results(run, finished / "run")
    for name in DAMAGE:
        if not name.startswith("receipts"):
            assert (run / name).read_bytes() == (finished / "run" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("damage", [fifo, folder])
def test_what_is_no_file_in_place_of_a_chunk_lets_nothing_wait(
    finished: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    names = [
        "cutouts.zarr/image/c/1/0/0/0",
        "cutouts.zarr/ra/c/0",
        "scores.zarr/score/c/2/0",
        "selection.zarr/level/c/0",
    ]
    names += ["models/selected.keras"]
    for name in names:
        damage(run / name)
    assert {item.path for item in verification(run).damage} >= set(names)
    for words in (["show", run, "1"], ["report", run], ["select", run, "--name", "again"]):
        assert called(*words).exit_code == 1
    assert called("verify", run, "--repair", "--workers", "0").exit_code == 3
    assert verification(run).is_sound
    assert_same_results(run, finished / "run")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["ingest", "score"])
def test_a_forged_digest_is_not_taken_over(finished: Path, tmp_path: Path, stage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    ledger = RunDirectory(run).ledger(stage)
    before = ledger.read("000001")
    assert before is not None
    ledger.commit(replace(before, data_digest="0" * 64))
    (found,) = verification(run).damage
    assert (found.stage, found.name) == (stage, FINISHED)
    assert called("verify", run, "--repair", "--workers", "0").exit_code == 3
    assert verification(run).is_sound
    again = ledger.read("000001")
    assert again is not None
    assert again.data_digest == before.data_digest
    assert_same_results(run, finished / "run")


@pytest.mark.slow
def test_reports_and_tables_have_receipts_and_are_made_again_by_their_own_commands(
    finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    for words in (["report", run], ["tables", run, "high-but-negative"], ["tables", run, "table-2"]):
        assert called(*words).exit_code == 0
    assert verification(run).is_sound
    pages = {path: path.read_bytes() for path in (run / "report").rglob("*.html")}
    for name in ("report/index.html", "tables/high-but-negative.csv"):
        (run / name).unlink()
    not_utf8(run / "tables/table-2.ecsv")
    damaged = {"report/index.html", "tables/high-but-negative.csv", "tables/table-2.ecsv"}
    assert {item.path for item in verification(run).damage} == damaged
    repaired = called("verify", run, "--repair", "--workers", "0")
    assert repaired.exit_code == 1
    assert f"report {run}`, `" in repaired.stderr
    assert f"tables {run}`." in repaired.stderr
    assert {item.path for item in verification(run).damage} == damaged
    for words in (["report", run], ["tables", run]):
        assert called(*words).exit_code == 0
    assert verification(run).is_sound
    assert {path: path.read_bytes() for path in pages} == pages
    (run / "report/index.html").unlink()
    said = called("verify", run, "--workers", "0").stderr
    assert "1 damaged, missing or unreadable. Reports, figures and tables are made again by their own" in said
    shutil.rmtree(run / "report")
    assert verification(run).is_sound, "who removes a report misses none"


@pytest.mark.slow
def test_a_training_vouches_for_nothing_that_is_damaged_or_not_its_own(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    older, latest = sorted((run / "models/run-00").glob("state-*"))
    not_utf8(older)
    (run / "models/run-00/notes.txt").write_text("mine")
    assert called("verify", run, "--repair", "--workers", "0").exit_code == 3
    assert verification(run).unexpected == ["models/run-00/notes.txt"]
    assert verification(run).damage == []
    assert not older.exists()
    assert latest.exists()
    assert_same_results(run, finished / "run")


@pytest.mark.slow
def test_the_metadata_of_a_store_come_back_though_nothing_says_that_they_are_missing(
    finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    for name in ("cutouts.zarr/zarr.json", "scores.zarr/zarr.json"):
        (run / name).unlink()
    assert called("run", finished / "job.yaml", "--output", run, "--workers", "0").exit_code == 3
    for name in ("cutouts.zarr/zarr.json", "scores.zarr/zarr.json"):
        assert (run / name).read_bytes() == (finished / "run" / name).read_bytes(), name
    assert verification(run).is_sound


@pytest.mark.parametrize("damage", [not_utf8, fifo, folder, gone])
@pytest.mark.parametrize("name", ["job.yaml", "summary.json"])
def test_what_is_read_names_the_file_and_the_remedy(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    run = RunDirectory(tmp_path)
    (tmp_path / name).write_text('{"format_version": 1}')
    damage(tmp_path / name)
    with pytest.raises(SwimmyError, match=rf"{name}: missing or damaged \(.*verify {tmp_path} --repair`\.$"):
        (run.load_job if name == "job.yaml" else run.read_summary)()


def test_a_pipe_is_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(OSError, match="not a plain file"):
        read_text(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "y")
    with pytest.raises(MemoryError), of_the_program(tmp_path / "y", tmp_path):
        raise MemoryError


@pytest.mark.parametrize(
    ("lies_there", "stays"), [(b"mine", True), (b"another's", False), (None, False), ("a folder", True)]
)
def test_a_training_is_thrown_away_only_if_it_is_anothers(
    tmp_path: Path, lies_there: bytes | str | None, stays: bool
) -> None:
    """What cannot be read is written again: each state says whose it is."""
    state = tmp_path / "run-00" / "state-001.npz"
    state.parent.mkdir()
    state.write_bytes(b"an hour of training")
    started = state.with_name("identity.txt")
    if isinstance(lies_there, bytes):
        started.write_bytes(lies_there)
    elif lies_there is not None:
        started.mkdir()
    assert train._begin(state.parent, b"mine") == started
    assert started.read_bytes() == b"mine"
    assert state.exists() == stays
