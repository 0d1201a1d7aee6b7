"""Progress: rates, remaining times, and the lines of a log."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from swimmy_scale.cli.progress import Pace, StageProgress, Watch, describe_record, read_record
from swimmy_scale.errors import SwimmyError


def test_rate_counts_only_what_is_new() -> None:
    clock = [100.0]
    stage = StageProgress("score", "objects", 1000, 400, lambda: clock[0])
    clock[0] = 110.0
    stage.n_done = 600
    assert stage.rate == 20.0
    assert stage.describe() == "20 objects/s, 20 s left"
    stage.n_quarantined = 3
    assert stage.describe() == "20 objects/s, 20 s left, 3 quarantined"
    slow = StageProgress("train", "epochs", 25, 0, lambda: clock[0])
    clock[0] = 130.0
    slow.n_done = 2
    assert slow.describe() == "10.0 s each, 3 min 50 s left"


def watched(terminal: bool = False, **pace: Any) -> tuple[Watch, io.StringIO]:
    text = io.StringIO()
    return Watch(Console(file=text, force_terminal=terminal, width=100), Pace(**pace)), text


def test_log_has_a_line_at_the_start_and_the_end() -> None:
    watch, text = watched()
    with watch:
        watch.start("score", 100, 0)
        watch.add(100, 2)
        watch.stop("score")
        watch.start("select", 0, 0)
        watch.stop("select")
    lines = text.getvalue().splitlines()
    assert lines[0] == "score: 100 objects"
    assert lines[1].startswith("score: done, 100 objects in 0 s (")
    assert lines[1].endswith("2 quarantined)")
    assert lines[2:] == ["select: done"]


def test_planning_is_told_when_it_takes_long() -> None:
    watch, text = watched()
    with watch:
        watch.prepare("train")
        watch.start("train", 0, 0)
        watch.stop("train")
    assert text.getvalue() == "train: done\n"
    watch, text = watched(said_after_s=0.0)
    with watch:
        watch.prepare("ingest")
        deadline = time.monotonic() + 60
        while "planning" not in text.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        watch.start("ingest", 10, 0)
    assert text.getvalue().splitlines() == ["ingest: planning, reading what is already done", "ingest: 10 objects"]


def test_terminal_shows_a_bar_and_leaves_after_a_failure() -> None:
    watch, text = watched(terminal=True)

    def fail_inside() -> None:
        with watch:
            watch.start("ingest", 100, 20)
            watch.add(30)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_inside()
    show_cursor = "\x1b[?25h"
    assert "50/100" in text.getvalue()
    assert show_cursor in text.getvalue()


def test_polled_progress_is_what_is_on_disk() -> None:
    watch, text = watched()
    done = [5]
    with watch:
        watch.start("train", 25, 0, "epochs", lambda: done[0])
        done[0] = 25
        watch.stop("train")
    assert text.getvalue().splitlines()[0] == "train: 5 of 25 epochs done before"


def test_a_log_gets_a_line_a_minute_and_no_more() -> None:
    clock = [1000.0]
    # The thread that looks stays out of it.
    watch, text = watched(looks_s=3600.0, clock=lambda: clock[0])
    with watch:
        watch.start("score", 3000, 1000)
        for _ in range(20):
            clock[0] += 10.0
            watch.add(100)
        watch.stop("score")
    assert text.getvalue().splitlines() == [
        "score: 1,000 of 3,000 objects done before",
        "score: 1,600 of 3,000 objects, 10 objects/s, 2 min 20 s left",
        "score: 2,200 of 3,000 objects, 10 objects/s, 1 min 20 s left",
        "score: 2,800 of 3,000 objects, 10 objects/s, 20 s left",
        "score: done, 3,000 objects in 3 min 20 s (10 objects/s)",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stage_that_is_done_shows_no_bar(terminal: bool) -> None:
    watch, text = watched(terminal)
    with watch:
        watch.start("score", 100, 100)
        watch.stop("score")
    assert text.getvalue() == "score: done\n"


def test_names_are_not_taken_for_markup() -> None:
    watch, text = watched()
    with watch:
        watch.start("[red]score[/red]", 5, 0)
    assert text.getvalue() == "[red]score[/red]: 5 objects\n"


def test_nothing_to_report_is_no_failure() -> None:
    watch, text = watched()
    with watch:
        watch.stop("score")
        watch.add(0)
        watch.add(5)
    assert text.getvalue() == ""


GROUPS = {"cpu": {"wanted": 2, "pending": 1, "running": 1, "connected": 4, "replaced": 0}}


def test_results_are_counted_as_they_pass() -> None:
    watch, text = watched(lines_s=0.0)
    with watch:
        watch.start("simulate", 60, 0)
        assert list(watch.count(iter([10, 20, 30]), lambda size: size)) == [10, 20, 30]
        watch.stop("simulate")
        watch.start("tables", 2, 0, "tables")
        assert list(watch.count("ab")) == ["a", "b"]
        watch.stop("tables")
    lines = text.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines if " of 60 objects" in line] == [
        f"simulate: {n_done} of 60 objects" for n_done in (10, 30, 60)
    ]
    assert lines[-1].startswith("tables: done, 2 tables in ")


def test_workers_are_shown_beside_the_rate() -> None:
    watch, stream = watched(lines_s=0.0)
    watch.see_workers(lambda: GROUPS)
    with watch:
        watch.start("ingest", 100, 0)
        watch.add(50)
        watch.stop("ingest")
    assert "left; cpu 4 workers, 1 of 2 jobs pending" in stream.getvalue()


def test_the_record_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    path = tmp_path / "progress.json"
    assert read_record(path) is None
    assert list(describe_record(None)) == ["no driver has written its progress here"]
    watch, _ = watched(records_s=0.05)
    watch.see_workers(lambda: GROUPS)
    running = None
    with contextlib.suppress(SwimmyError), watch:
        watch.keep_record(path)
        watch.start("score", 1000, 200)
        watch.add(300, 7)
        for _ in range(200):
            running = read_record(path)
            if running and running.get("n_done") == 500:
                break
            time.sleep(0.05)
        raise SwimmyError("no disk")
    assert running is not None
    assert {key: running[key] for key in ("state", "job_id", "stage", "total", "n_done", "n_quarantined")} == {
        "state": "running", "job_id": "123", "stage": "score", "total": 1000, "n_done": 500, "n_quarantined": 7,
    }  # fmt: skip
    first, second, third = describe_record(running)
    assert first.startswith("driver: running, job 123 on ")
    assert second.startswith("  score: 500 of 1,000 objects, ")
    assert second.endswith(" left, 7 quarantined")
    assert third == "  cpu 4 workers, 1 of 2 jobs pending"
    old = {**running, "updated": "2026-01-01T00:00:00+00:00"}
    assert "it has not been heard of since" in "".join(describe_record(old))
    failed = read_record(path)
    assert failed is not None
    assert (failed["state"], failed["reason"]) == ("failed", "no disk")
    assert list(describe_record(failed))[1:] == ["  no disk"]


def test_a_record_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    with Watch(Console(file=io.StringIO())) as watch:
        watch.keep_record(tmp_path / "log" / "progress.json")
        time.sleep(0.1)


def test_between_stages_the_record_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    watch, _ = watched(records_s=0.05)
    with watch:
        watch.keep_record(path)
        for _ in range(3):
            path.unlink(missing_ok=True)
            for _ in range(200):
                if path.exists():
                    break
                time.sleep(0.05)
            assert path.exists()
    finished = read_record(path)
    assert finished is not None
    assert finished["state"] == "finished"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 99}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text)
    assert read_record(tmp_path / "progress.json") is None
