"""SIGKILL at random moments, and at every kind of system call of a commit; then the same command again."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path

from chaos import watch
from chaos.lab import ENDS_WELL, Lab, Trial, kill, processes, session_of
from chaos.records import Outcome
from chaos.scenes import RUN, TRAIN, Moment, calls_of_commits, moment
from chaos.watch import Action

MOST_KILLS = 6
SHORTEST_S = 0.02


def verified(lab: Lab, outcome: Outcome, run: Path, details: Mapping[str, object]) -> None:
    """What was committed before a kill is there: `verify` finds no damage, though much is not finished."""
    if not any((run / "receipts").glob("*/*.json")):
        # Nothing is committed, so nothing says what its bytes should be.
        return
    outcome.counts["verified in between"] += 1
    found = lab.run("verify", run, "--workers", 0, "--json", log="verify")
    held = found.status == 1 and "in use by" in found.text
    damaged = [] if held else (found.document or {"damaged": ["no answer"]})["damaged"]
    outcome.expect(
        not damaged and not found.faults,
        "verify finds damage after a kill",
        said=damaged[:3] or found.faults,
        **details,
    )


# ---------------------------------------------------------------- at random moments


def in_one_process(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """A run without workers, killed again and again; every third trains."""
    outcome, folder = Outcome(tried=0), lab.a_folder()
    scene = TRAIN if k % 3 == 2 else RUN
    scene.prepare(lab, folder)
    history: list[float] = []
    details = {"scene": scene.name, "pauses": history}
    for _ in range(rnd.randint(1, MOST_KILLS)):
        pause = rnd.uniform(SHORTEST_S, scene.seconds(lab) * rnd.choice([0.3, 1.0]))
        trial = lab.start(*scene.words(lab, folder))
        if trial.wait(pause) is not None:
            break
        trial.kill()
        trial.wait()
        outcome.tried += 1
        outcome.counts["driver of a run in one process"] += 1
        history.append(round(pause, 3))
        if rnd.random() < 0.15:
            verified(lab, outcome, folder / "run", details)
    scene.judge(lab, outcome, folder, details)
    outcome.tried = max(outcome.tried, 1)
    return outcome


def with_workers(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """A run with two workers: of the driver, which has the scheduler and the nannies, a worker, or all."""
    outcome, folder = Outcome(tried=0), lab.a_folder()
    RUN.prepare(lab, folder)
    history: list[str] = []
    details = {"history": history}
    words = (*RUN.words(lab, folder)[:-1], 2)
    for _ in range(rnd.randint(1, 3)):
        trial = lab.start(*words)
        pause = rnd.uniform(SHORTEST_S, RUN.seconds(lab) + 3.0)
        if trial.wait(pause) is not None:
            break
        victim = _kill_one(trial, rnd.choice(["driver", "worker", "worker", "all"]), rnd)
        history.append(f"{victim} after {pause:.2f} s")
        outcome.tried += 1
        outcome.counts[f"{victim} of a run with workers"] += 1
        if victim == "worker":
            _sits_out(trial, outcome, details)
            break
        trial.wait()
        # Workers of a killed driver end by themselves; a new driver may come before they have.
        if rnd.random() < 0.5:
            _wait_for_orphans(trial, outcome, details)
    RUN.compare(lab, outcome, folder, lab.run(*words, log="last"), details)
    outcome.tried = max(outcome.tried, 1)
    return outcome


def _kill_one(trial: Trial, victim: str, rnd: random.Random) -> str:
    """Kill; says whom, as there may be no worker yet."""
    children = [child for child, parent, _ in processes() if parent == trial.process_id]
    if victim == "all":
        trial.kill(whole_session=True)
    elif victim == "worker" and children:
        kill(rnd.choice(children))
    else:
        victim = "driver"
        trial.kill()
    return victim


def _sits_out(trial: Trial, outcome: Outcome, details: Mapping[str, object]) -> None:
    """A driver whose worker died goes on, or says in one line why not."""
    if trial.wait(120) is None:
        trial.kill(whole_session=True)
        trial.wait()
        outcome.expect(False, "it hangs after a worker was killed", **details)
        return
    if trial.status not in ENDS_WELL:
        outcome.counts["driver that gave up after a worker was killed"] += 1
        outcome.expect(
            not trial.faults,
            "it ends badly after a worker was killed",
            faults=trial.faults,
            said=trial.text[-2500:],
            **details,
        )


def _wait_for_orphans(trial: Trial, outcome: Outcome, details: Mapping[str, object]) -> None:
    began = time.monotonic()
    while session_of(trial.process_id):
        if time.monotonic() - began > 60:
            outcome.expect(False, "workers live on after their driver was killed", **details)
            trial.kill(whole_session=True)
            return
        time.sleep(0.1)


# ---------------------------------------------------------------- at a system call


def _ends_at(
    lab: Lab, outcome: Outcome, folder: Path, now: Moment, rnd: random.Random
) -> tuple[Trial, dict[str, object]]:
    """A command that ends before or within a call; and what to say of it."""
    action = rnd.choice([Action.KILL_BEFORE, Action.KILL_WITHIN])
    now.scene.prepare(lab, folder)
    trial = now.scene.start(lab, folder, lambda: watch.watch(folder, now.kind, action, first=now.number))
    outcome.counts[now.counted_as] += 1
    outcome.counts["killed before the command was done"] += trial.status == -9
    return trial, {**now.described, "action": action.name}


def at_commits(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Before or within each call of commits, one after the other; from the first again when all are done."""
    every, outcome, folder = calls_of_commits(lab), Outcome(), lab.a_folder()
    now = every[k % len(every)]
    _, details = _ends_at(lab, outcome, folder, now, rnd)
    now.scene.judge(lab, outcome, folder, details)
    return outcome


def at_calls(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Before or within one call of a command, all of them one after the other, as far as the count goes."""
    outcome, now, folder = Outcome(), moment(lab, k), lab.a_folder()
    trial, details = _ends_at(lab, outcome, folder, now, rnd)
    if trial.status == -9 and rnd.random() < 0.25:
        # A second time, while it resumes.
        again = details["again"] = rnd.randint(1, 200)
        action = Action[str(details["action"])]
        now.scene.start(lab, folder, lambda: watch.watch(folder, watch.CHANGES, action, first=again))
    if k % 5 == 0:
        verified(lab, outcome, folder / "run", details)
    now.scene.judge(lab, outcome, folder, details)
    return outcome
