"""Several commands at once on one run directory, and locks that somebody has left, or removed."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

from chaos.lab import ENDS_WELL, Lab, Trial
from chaos.records import Outcome
from chaos.scenes import RUN

IN_USE = "in use by"


def race(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """One of several sorts of races; whoever does not come first says so, and the run is as if there had been one."""
    outcome, folder = Outcome(), lab.a_folder()
    sort = SORTS[k % len(SORTS)]
    RUN.prepare(lab, folder)
    details: dict[str, object] = {"race": sort.__name__.strip("_")}
    outcome.counts[str(details["race"]).replace("_", " ")] += 1
    sort(lab, outcome, folder, rnd, details)
    if k % 2:
        RUN.judge(lab, outcome, folder, details)
    outcome.failures = outcome.failures[:1]
    return outcome


def _done(outcome: Outcome, trial: Trial, details: dict[str, object], may_wait: bool = True) -> bool:
    """Whether a driver came to its end; one that did not must say who holds the run."""
    if trial.wait(120) is None:
        trial.kill(whole_session=True)
    refused = trial.status == 1 and IN_USE in trial.text and may_wait
    good = trial.status in ENDS_WELL or refused
    outcome.expect(good and not trial.faults, "a driver ends badly", said=trial.text[-400:], **details)
    return trial.status in ENDS_WELL


def _drivers(lab: Lab, outcome: Outcome, folder: Path, rnd: random.Random, details: dict[str, object]) -> None:
    """Two or three drivers, at once or a little later."""
    trials = []
    for number in range(rnd.choice([2, 2, 3])):
        time.sleep(rnd.choice([0.0, rnd.uniform(0, RUN.seconds(lab))]) if number else 0)
        trials.append(lab.start(*RUN.words(lab, folder), log=f"driver-{number}"))
    done = [_done(outcome, trial, details) for trial in trials]
    outcome.expect(any(done), "no driver came to the end", **details)


def _driver_and_readers(
    lab: Lab, outcome: Outcome, folder: Path, rnd: random.Random, details: dict[str, object]
) -> None:
    """A driver, and commands that look at the run meanwhile."""
    driver = lab.start(*RUN.words(lab, folder), log="driver")
    while driver.wait(rnd.uniform(0, 0.5)) is None:
        words = rnd.choice([("status",), ("verify",), ("report",), ("show",), ("status", "--json")])
        if (folder / "run/job.yaml").exists():
            more = ("1",) if words[0] == "show" else ()
            reader = lab.run(words[0], folder / "run", *more, *words[1:], log="reader", seconds=60)
            outcome.expect(not reader.faults, f"{words[0]} ends badly", faults=reader.faults, **details)
            if words[0] == "status":
                outcome.expect(reader.status == 0, "status fails", said=reader.last_line, **details)
    for name in ("report", "receipts/report"):
        shutil.rmtree(folder / "run" / name, ignore_errors=True)
    # A verification holds the directory for a moment: the driver waits for it.
    _done(outcome, driver, details, may_wait=False)


def _driver_after_a_kill(
    lab: Lab, outcome: Outcome, folder: Path, rnd: random.Random, details: dict[str, object]
) -> None:
    """A driver is killed, and another begins in the same moment."""
    first = lab.start(*RUN.words(lab, folder), log="first")
    first.wait(rnd.uniform(0.05, RUN.seconds(lab)))
    first.kill()
    second = lab.start(*RUN.words(lab, folder), log="second")
    _done(outcome, second, details, may_wait=False)
    first.wait()


def _left_lock(lab: Lab, outcome: Outcome, folder: Path, rnd: random.Random, details: dict[str, object]) -> None:
    """Files of a lock whose owner is long gone, or that hold anything at all."""
    log = folder / "run/log"
    log.mkdir(parents=True)
    (log / "driver.lock").write_text(rnd.choice(["", "1", "lock"]))
    said = ["{", "[]", "null", "", json.dumps({"host": "elsewhere", "process_id": 1}), json.dumps({"host": 1})]
    (log / "driver.json").write_text(rnd.choice(said))
    _done(outcome, lab.start(*RUN.words(lab, folder)), details, may_wait=False)


def _lock_removed(lab: Lab, outcome: Outcome, folder: Path, rnd: random.Random, details: dict[str, object]) -> None:
    """Somebody removes the logs, or the lock itself, while a driver works, and another one begins.

    Either may stop then, with a message; what they leave can be gone on with.
    """
    run = folder / "run"
    first = lab.start(*RUN.words(lab, folder), log="first")
    first.wait(rnd.uniform(0.3, RUN.seconds(lab)))
    was_running = first.status is None
    shutil.rmtree(run / "log", ignore_errors=True)
    if rnd.random() < 0.5:
        for lock in run.rglob("driver.lock"):
            lock.unlink(missing_ok=True)
    second = lab.start(*RUN.words(lab, folder), log="second")
    for trial in (first, second):
        if trial.wait(120) is None:
            trial.kill(whole_session=True)
        outcome.expect(not trial.faults, "a driver without its lock ends badly", said=trial.text[-400:], **details)
    both = first.status in ENDS_WELL and second.status in ENDS_WELL
    outcome.counts["two drivers at work without a lock"] += was_running and both
    RUN.judge(lab, outcome, folder, details)


SORTS = (_drivers, _driver_and_readers, _drivers, _driver_after_a_kill, _left_lock, _lock_removed)
