"""Folders that appear whole, and what is left of those whose writers were killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage import files, fresh_folders
from swimmy_scale.storage.fresh_folders import fresh_folder, is_being_written, making
from swimmy_scale.storage.run_directory import RunDirectory

WRITES = """
import sys, time
from pathlib import Path
from swimmy_scale.storage.fresh_folders import fresh_folder

with fresh_folder(Path(sys.argv[1])) as fresh:
    (fresh / "index.html").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_of(output: Path) -> list[Path]:
    return list(output.parent.glob(".*.partial"))


def writer(output: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WRITES, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_it_takes_the_place_of_what_was_there_once_it_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "new" / "re[po]rt"
    for content in ("one", "two"):
        with fresh_folder(output) as fresh:
            (fresh / content).write_text(content)
        assert names(output) == [content]
    with pytest.raises(FileNotFoundError), fresh_folder(output) as fresh:
        (fresh / "three" / "four").touch()
    assert names(output) == ["two"]
    assert names(output.parent) == ["re[po]rt"]


def test_all_is_flushed_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    output, sync = tmp_path / "report", files.sync_path

    def note(path: Path) -> None:
        assert not output.exists() or path == tmp_path
        flushed.append(path.name)
        sync(path)

    for module in (files, fresh_folders):
        monkeypatch.setattr(module, "sync_path", note)
    with fresh_folder(output) as fresh:
        (fresh / "images").mkdir()
        (fresh / "images" / "1.jpg").touch()
        flushed.clear()
    assert flushed[:3] == ["1.jpg", "images", "report"]
    assert flushed[-1] == tmp_path.name


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    output = tmp_path / "report"
    process = writer(output)
    try:
        (place,) = left_of(output)
        assert is_being_written(place)
        (tmp_path / "receipts").mkdir()
        RunDirectory(tmp_path).sweep()
        with fresh_folder(output) as fresh:
            (fresh / "index.html").write_text("whole")
        assert left_of(output) == [place]
    finally:
        process.kill()
        process.communicate()
    assert not is_being_written(place)
    with fresh_folder(output) as fresh:
        assert not place.exists()
        (fresh / "index.html").write_text("newer")
    assert (output / "index.html").read_text() == "newer"
    assert left_of(output) == []


@pytest.mark.parametrize(("age", "stays"), [(10, True), (7200, False)])
def test_a_folder_without_a_lock_is_left_for_a_while(tmp_path: Path, age: int, stays: bool) -> None:
    place, of_another = tmp_path / ".report.x.partial", tmp_path / ".reports.x.partial"
    for path in (place, of_another):
        path.mkdir()
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    fresh_folders.remove_left_over(tmp_path / "report")
    assert place.exists() == stays
    assert of_another.exists()


def test_what_somebody_removes_meanwhile_is_told_in_one_line(tmp_path: Path) -> None:
    fresh, path = tmp_path / ".selection.zarr.x.partial", tmp_path / "selection.zarr"
    said = rf"{fresh.name}: somebody has removed it while .* may work on {tmp_path}\. See that none does"
    with pytest.raises(SwimmyError, match=said), making(fresh, path):
        raise KeyError("object_id")
    fresh.mkdir()
    with pytest.raises(KeyError), making(fresh, path):
        raise KeyError("object_id")
    assert not fresh.exists()
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"), making(fresh, path):
        raise OSError(28, "No space left on device")
