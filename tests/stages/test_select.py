"""How far a selection is: it goes through as many rows as were foreseen, whatever it has to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_stores import N, make_run

from swimmy_scale.cli import main
from swimmy_scale.stages import select as select_module
from swimmy_scale.stages.carried import read_carried
from swimmy_scale.stages.select import RowCount, select, selection_poll
from swimmy_scale.storage import scores as scores_module
from swimmy_scale.storage.scores import Scores

LEVELS = {"2sigma": 0.2, "3sigma": 0.1}


@pytest.mark.parametrize(
    ("models", "rule", "streamed", "n_passes"),
    [((), "mean", False, 7), ((), "mean", True, 8), (("a", "b"), "mean", False, 8), (("a", "b"), "rank", True, 10)],
)
def test_the_rows_are_those_that_were_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: tuple, rule: str, streamed: bool, n_passes: int
) -> None:
    monkeypatch.setattr(scores_module, "BLOCK_OBJECTS", 8)
    if streamed:
        monkeypatch.setattr(select_module, "IN_MEMORY_OBJECTS", 0)
        monkeypatch.setattr(select_module.sample_thresholds, "__defaults__", (0,))
    path, rows = make_run(tmp_path / "run", models) / "scores.zarr", RowCount()
    poll = selection_poll(path, rows, False, rule)
    assert (poll.unit, poll.total, poll.count()) == ("rows", n_passes * N, 0)
    select(path, tmp_path / "out", LEVELS, ("fits",), combine=rule, rows=rows)
    assert poll.count() == poll.total


def test_carried_thresholds_take_a_pass_less(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run") / "scores.zarr"
    select(path, tmp_path / "out", LEVELS, ("fits",))
    carried, rows = read_carried(tmp_path / "out" / "summary.json"), RowCount()
    poll = selection_poll(path, rows, True, "mean")
    select(path, tmp_path / "again", LEVELS, ("fits",), carried, rows=rows)
    assert poll.count() == poll.total == 6 * N


def test_rows_are_counted_as_blocks_are_done(tmp_path: Path) -> None:
    seen: list[int] = []
    scores = Scores(make_run(tmp_path / "run") / "scores.zarr", seen.append)
    blocks = scores.blocks("score", block_objects=8)
    next(blocks)
    assert seen == []
    next(blocks)
    assert seen == [8]
    assert len(list(blocks)) == 1
    assert seen == [8, 8, 4]


def test_the_command_says_how_far_it_is(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run") / "scores.zarr"
    result = CliRunner().invoke(main, ["select", str(path), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    first, last = result.stderr.splitlines()
    assert first == "select: 140 rows"
    assert re.fullmatch(r"select: done, 140 rows in \d+ s \(.*\)", last)
