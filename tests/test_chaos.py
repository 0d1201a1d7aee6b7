"""The small campaigns, the machinery that makes them, and the page that is made of the large ones."""

from __future__ import annotations

import errno
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from chaos import page, records, scenes, watch
from chaos.campaigns import ALL, CAMPAIGNS
from chaos.cuts import ARRAYS, SORTS, arrays
from chaos.lab import Lab
from chaos.late_files import LateFiles
from chaos.losses import Call, Disk
from chaos.machine import Ground, machine_on, without_pictures
from chaos.records import Campaign, Outcome, Record, carry_out
from chaos.scenes import SCENES, moment
from chaos.scenes import SORTS as SORTS_OF_CALLS

ROOT = Path(__file__).resolve().parent.parent


# ---------------------------------------------------------------- campaigns


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(watch.missing_compiler()), reason="needs a C compiler")
def test_small_campaigns(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "chaos", "--small", "--folder", str(tmp_path / "lab"), "--results", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    found = page.records(tmp_path)
    assert {name: record.failures for name, record in found.items() if record.failures} == {}, done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]
    assert {name for name, record in found.items() if record.tried} == {each.name for each in ALL if each.small}


@pytest.mark.slow
def test_anything_in_any_order(tmp_path: Path) -> None:
    chosen = settings(
        max_examples=20,
        stateful_step_count=5,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with without_pictures():
        run_state_machine_as_test(machine_on(Ground.made(tmp_path)), settings=chosen)


@pytest.mark.parametrize("sort", SORTS)
def test_hostile_arrays_are_what_they_say(sort: str) -> None:
    made = SORTS[sort](np.random.default_rng(3), (200, 3))
    assert made.shape == (200, 3)
    assert np.isnan(made.astype(np.float32)).any() == (sort == "not a number")


def test_thresholds_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(Path())
    assert arrays(lab, 0, random.Random(1)).failures == []
    monkeypatch.setattr("chaos.cuts.streamed_thresholds", lambda blocks, n, tops: np.ones((len(tops), n)))
    assert len(arrays(lab, 0, random.Random(1)).failures) > ARRAYS // 2


def test_every_campaign_is_told_and_counted() -> None:
    assert len(CAMPAIGNS) == len(ALL)
    for campaign in ALL:
        assert 0 <= campaign.small <= campaign.hour <= campaign.full, campaign.name
        assert campaign.says.endswith("."), campaign.name


# ---------------------------------------------------------------- records


class Counted:
    """A campaign whose third trial fails."""

    done: ClassVar[list[tuple[int, float]]] = []

    @classmethod
    def trial(cls, lab: Lab, k: int, rnd: random.Random) -> Outcome:
        cls.done.append((k, rnd.random()))
        outcome = Outcome(tried=2, counts=Counter(even=k % 2 == 0))
        outcome.expect(k != 2, "the third", trial_number=k)
        return outcome


def counted(trials: int, results: Path, seed: int = 5, go_on: bool = False) -> Record:
    campaign = Campaign("counted", "Counted", "things", "It counts.", Counted.trial, 3, 1, 9)
    return carry_out(campaign, Lab(Path()), seed, trials, results, 1e18, lambda line: None, go_on)


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    Counted.done = []
    counted(2, tmp_path)
    record = counted(4, tmp_path)
    assert [k for k, _ in Counted.done] == [0, 1, 2, 3]
    assert (record.tried, record.right, record.next, record.counts) == (8, 7, 4, {"even": 2})
    (failure,) = record.failures
    assert failure["repeat"] == "python -m chaos counted --seed 5 --only 2"
    assert Record.read(tmp_path / "counted.json") == record
    first = Counted.done
    Counted.done = []
    counted(4, tmp_path, seed=6)
    counted(4, tmp_path)
    assert Counted.done[4:] == first, "the same seed gives the same trials, alone or in a row"


def test_results_of_another_program_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(2, tmp_path)
    monkeypatch.setattr(records, "program_digest", lambda: "another")
    assert counted(1, tmp_path).next == 1


def test_results_of_another_program_are_added_to_and_what_failed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for trials, program in ((1, "first"), (2, "second"), (3, "first"), (4, "third")):  # the third trial fails
        monkeypatch.setattr(records, "program_digest", lambda program=program: program)
        found.append(counted(trials, tmp_path, go_on=True))
    assert [record.programs for record in found] == [
        {"first": 2},
        {"first": 2, "second": 2},
        {"second": 2, "first": 4},
        {"second": 2, "first": 2, "third": 4},
    ]
    assert [(record.tried, record.right, record.next) for record in found] == [
        (2, 2, 1),
        (4, 4, 2),
        (6, 5, 3),
        (8, 7, 4),
    ]
    assert [failure["program"] for failure in found[-1].failures] == ["third"]
    assert found[-1].mended == []
    monkeypatch.setattr(records, "program_digest", lambda: "fourth")
    monkeypatch.setattr(Counted, "trial", lambda lab, k, rnd: Outcome(tried=2))
    record = counted(4, tmp_path, go_on=True)
    assert (record.tried, record.right, record.failures) == (8, 8, [])
    assert record.programs == {"second": 2, "first": 2, "third": 2, "fourth": 2}
    assert [(failure["trial"], failure["program"]) for failure in record.mended] == [(2, "third")]
    assert Record.read(tmp_path / "counted.json") == record


def test_results_of_another_format_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "counted.json").write_text('{"format_version": 1}')
    with pytest.raises(SystemExit, match=r"counted.json: format_version 1, this version reads 2. Remove the file"):
        counted(1, tmp_path)


def test_a_trial_that_fails_itself_is_a_failure(tmp_path: Path) -> None:
    def trial(lab: Lab, k: int, rnd: random.Random) -> Outcome:
        raise RuntimeError("no disk")

    campaign = Campaign("broken", "Broken", "things", "It breaks.", trial, 1, 1, 1)
    record = carry_out(campaign, Lab(Path()), 1, 1, tmp_path, 1e18, lambda line: None)
    assert record.failures[0]["what"] == "the trial itself failed: RuntimeError: no disk"


# ---------------------------------------------------------------- the disk that loses


def call(kind: str, inode: int = 0, **more: Any) -> Call:
    plain = {"parent": 1, "other": 0, "offset": 0, "length": 0, "time_ns": 5, "name": "", "to": "", "data": b""}
    return Call(kind, inode, **{**plain, **more})


WRITTEN = (call("C", 7, name="new"), call("W", 7, length=4, data=b"data"))
RENAMED = (*WRITTEN, call("F", 7), call("R", 7, other=1, name="new", to="final"))


@pytest.mark.parametrize(
    ("calls", "mode", "left"),
    [
        (WRITTEN, "worst", {}),
        (WRITTEN, "all", {"new": b"data"}),
        (WRITTEN, "names", {}),
        ((*WRITTEN, call("D", 1)), "worst", {"new": b""}),
        ((*WRITTEN, call("F", 7), call("D", 1)), "worst", {"new": b"data"}),
        (RENAMED, "worst", {}),
        ((*RENAMED, call("D", 1)), "worst", {"final": b"data"}),
        (
            (*WRITTEN, call("F", 7), call("D", 1), call("R", 7, other=1, name="new", to="final")),
            "worst",
            {"new": b"data"},
        ),
        ((*RENAMED, call("D", 1), call("U", 7, name="final")), "worst", {"final": b"data"}),
        ((*RENAMED, call("D", 1), call("U", 7, name="final")), "all", {}),
        ((*RENAMED, call("D", 1), call("S", 7)), "worst", {"final": b"data"}),
        ((*RENAMED, call("D", 1), call("S", 7)), "all", {"final": b""}),
        ((call("M", 3, name="folder"), call("C", 7, parent=3, name="x"), call("D", 3)), "worst", {}),
        ((call("M", 3, name="folder"), call("D", 1)), "worst", {"folder": None}),
        # The inode of a file that is gone comes again as a folder's.
        ((*WRITTEN, call("U", 7, name="new"), call("M", 7, name="folder")), "all", {"folder": None}),
    ],
)
def test_what_a_disk_keeps(tmp_path: Path, calls: tuple[Call, ...], mode: Any, left: dict[str, bytes | None]) -> None:
    disk = Disk(1)
    disk.follow(calls)
    disk.cut_power(random.Random(1), mode)
    disk.write_to(tmp_path / "disk")
    found = {path.name: path.read_bytes() if path.is_file() else None for path in (tmp_path / "disk").iterdir()}
    assert found == left


# ---------------------------------------------------------------- the page


def test_the_page_is_what_its_maker_makes() -> None:
    assert page.PAGE.read_text() == page.page(page.records()), "make it again by `python -m chaos.page`"


def test_every_number_of_the_page_is_of_a_record(tmp_path: Path) -> None:
    name = ALL[0].name
    failure = {"what": "it is lost (17)", "trial": 3, "repeat": f"python -m chaos {name} --seed 8 --only 3"}
    record = Record(
        name, 8, 40, {"0a1b": 3000, "1b2c": 571}, next=12, tried=3571, right=3570, seconds=66.0, counts={"renames": 911}
    )
    record.failures = [failure]
    record.write(tmp_path / f"{name}.json")
    text = page.page(page.records(tmp_path))
    assert f"| [{ALL[0].title}](#" in text
    assert "3,571 | 3,570 | 1.1 |" in text
    assert "3,000 with program `0a1b`, 571 with program `1b2c`." in text
    assert "| renames | 911 |" in text
    assert f"| it is lost | 1 | `{failure['repeat']}` |" in text
    assert "not tried" in text


def test_results_are_readable_and_complete() -> None:
    for path in records.RESULTS.glob("*.json"):
        body = json.loads(path.read_text())
        assert body["campaign"] in CAMPAIGNS
        assert body["right"] <= body["tried"] == sum(body["programs"].values())


# ---------------------------------------------------------------- the sweep, and the file system that is late


def test_commits_are_the_calls_between_receipts() -> None:
    journal = [
        call("M", 7, name="ingest"),
        call("C", 20, name=".a.partial"),
        call("R", 20, other=7, to="000000.json"),
        call("F", 7),
        call("C", 21, name="image"),
        call("R", 22, other=3, to="zarr.json"),
        call("R", 21, other=7, to="finished.json"),
        call("F", 7),
    ]
    assert scenes.commits_of(journal) == {
        ("ingest", "000000.json"): range(1, 6),
        ("ingest", "finished.json"): range(4, 10),
    }


def test_the_sweep_meets_every_call_before_one_comes_again() -> None:
    lab = Lab(Path())
    for place, scene in enumerate(SCENES):
        lab.calls[scene.name] = {kind: 3 + place + number for number, kind in enumerate(SORTS_OF_CALLS)}
    met = [moment(lab, k) for k in range(2000)]
    for scene in SCENES:
        for kind, total in lab.calls[scene.name].items():
            numbers = [one.number for one in met if one.scene is scene and one.kind is kind]
            assert sorted(numbers[:total]) == list(range(1, total + 1)), (scene.name, kind)


def asked(files: LateFiles, mount: int, opcode: int, body: bytes, inode: int = 1) -> int:
    """The error number that a call is answered with; 0 if it succeeds."""
    return files._answer(mount, opcode, inode, body)[0]


LOOKUP, MKDIR, RMDIR = 1, 9, 11


@pytest.mark.parametrize("only_asked", [False, True])
def test_another_node_is_late(monkeypatch: pytest.MonkeyPatch, only_asked: bool) -> None:
    now = [100.0]
    monkeypatch.setattr("chaos.late_files.time.monotonic", lambda: now[0])
    files = LateFiles(2, 5.0, True, only_asked, seed=1)
    assert asked(files, 1, LOOKUP, b"seen\0") == errno.ENOENT
    for name in (b"seen\0", b"new\0"):
        assert asked(files, 0, MKDIR, bytes(8) + name) == 0
        assert asked(files, 0, LOOKUP, name) == 0, "who made it sees it"
    assert asked(files, 1, LOOKUP, b"seen\0") == errno.ENOENT
    assert asked(files, 1, LOOKUP, b"new\0") == (0 if only_asked else errno.ENOENT)
    now[0] += 5.1
    assert asked(files, 1, LOOKUP, b"seen\0") == asked(files, 1, LOOKUP, b"new\0") == 0
    assert asked(files, 0, RMDIR, b"seen\0") == 0
    assert asked(files, 1, LOOKUP, b"seen\0") == 0, "what is gone is still seen"
    now[0] += 5.1
    assert asked(files, 1, LOOKUP, b"seen\0") == errno.ENOENT
