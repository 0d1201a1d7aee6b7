"""Progress: rates, remaining times, and the lines of a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from swimmy_scale import progress
from swimmy_scale.progress import StageProgress, Watch, duration
from swimmy_scale.receipts import Receipt
from swimmy_scale.stages.engine import Poll


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (59.5, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (90000, "25 h 00 min"),
        (-1, "0 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_rate_counts_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stage = StageProgress("score", "objects", 1000, 400)
    clock[0] = 110.0
    stage.n_done = 600
    assert stage.rate == 20.0
    assert stage.describe() == "20 objects/s, 20 s left"
    stage.n_quarantined = 3
    assert stage.describe() == "20 objects/s, 20 s left, 3 quarantined"
    slow = StageProgress("train", "epochs", 25, 0)
    clock[0] = 130.0
    slow.n_done = 2
    assert slow.describe() == "10.0 s each, 3 min 50 s left"


def watched(terminal: bool) -> tuple[Watch, io.StringIO]:
    text = io.StringIO()
    return Watch(Console(file=text, force_terminal=terminal, width=100)), text


def test_log_has_a_line_at_the_start_and_the_end() -> None:
    watch, text = watched(terminal=False)
    with watch:
        watch.start("score", 100, 0)
        watch.advance(Receipt("score", "000000", "id", n_objects=100, details={"n_quarantined": 2}))
        watch.stop("score")
        watch.start("select", 0, 0)
        watch.stop("select")
    lines = text.getvalue().splitlines()
    assert lines[0] == "score: 100 objects"
    assert lines[1].startswith("score: done, 100 objects in 0 s (")
    assert lines[1].endswith("2 quarantined)")
    assert lines[2:] == ["select: done"]


def test_terminal_shows_a_bar_and_leaves_after_a_failure() -> None:
    watch, text = watched(terminal=True)

    def fail_inside() -> None:
        with watch:
            watch.start("ingest", 100, 20)
            watch.advance(Receipt("ingest", "000000", "id", n_objects=30))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_inside()
    show_cursor = "\x1b[?25h"
    assert "50/100" in text.getvalue()
    assert show_cursor in text.getvalue()


def test_polled_progress_is_what_is_on_disk() -> None:
    watch, text = watched(terminal=False)
    done = [5]
    with watch:
        watch.start("train", 0, 0, Poll("epochs", 25, lambda: done[0]))
        done[0] = 25
        watch.stop("train")
    assert text.getvalue().splitlines()[0] == "train: 5 of 25 epochs done before"


def test_a_log_gets_a_line_a_minute_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 3600.0)  # the looking thread stays out of it
    watch, text = watched(terminal=False)
    with watch:
        watch.start("score", 3000, 1000)
        for _ in range(20):
            clock[0] += 10.0
            watch.advance(Receipt("score", "000000", "id", n_objects=100))
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
    watch, text = watched(terminal=False)
    with watch:
        watch.start("[red]score[/red]", 5, 0)
    assert text.getvalue() == "[red]score[/red]: 5 objects\n"


def test_nothing_to_report_is_no_failure() -> None:
    watch, text = watched(terminal=False)
    with watch:
        watch.stop("score")
        watch.advance(Receipt("score", "000000", "id"))
        watch.add(5)
    assert text.getvalue() == ""
