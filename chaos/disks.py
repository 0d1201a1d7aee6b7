"""Disks that fail: single calls with errors, files that cannot be read, file systems that are full or read-only."""

from __future__ import annotations

import errno
import random
import re
import subprocess

from chaos import watch
from chaos.damage import SECONDS_TO_ANSWER, kinds_of_files, named, pristine, put_right, scene_of, some_file, verify
from chaos.kills import verified
from chaos.lab import Lab, Trial, copy
from chaos.records import Outcome
from chaos.scenes import RUN, Scene, moment
from chaos.watch import ENDLESS, Action, Kind

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
MIB = 1 << 20
_PATH = re.compile(r"/\S+/\S+")


def _ended(outcome: Outcome, trial: Trial, scene: Scene, details: dict[str, object]) -> None:
    """Either it went on as if nothing had been, or it says in one line what failed, and where."""
    lines = [line for line in trial.text.splitlines() if line.startswith("swimmy-scale:")]
    went_on = trial.status == scene.ends
    outcome.counts["went on" if went_on else "ended with a message"] += 1
    good = not trial.faults and (went_on or (trial.status == 1 and len(lines) == 1))
    outcome.expect(
        went_on or any(_PATH.search(line) for line in lines), "a disk error names no file", said=lines[:3], **details
    )
    outcome.expect(
        good, "a disk error ends it badly", status=trial.status, faults=trial.faults, said=lines[:3], **details
    )


def writing(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """A call fails, once or from then on, or writes less than it was given."""
    outcome, now, folder = Outcome(), moment(lab, k), lab.a_folder()
    error = ERRORS[k % len(ERRORS)]
    shortens = now.kind is Kind.WRITE and rnd.random() < 0.3
    action = Action.SHORTEN if shortens else Action.FAIL
    last = rnd.choice([now.number, ENDLESS]) if not shortens else now.number
    details = {**now.described, "error": errno.errorcode[error], "action": action.name, "for_good": last == ENDLESS}
    now.scene.prepare(lab, folder)

    def begin() -> None:
        watch.watch(folder, now.kind, action, error=error, first=now.number, last=last)

    trial = now.scene.start(lab, folder, begin)
    outcome.counts["a write cut short" if shortens else errno.errorcode[error]] += 1
    _ended(outcome, trial, now.scene, details)
    verified(lab, outcome, folder / "run", details)
    now.scene.judge(lab, outcome, folder, details)
    outcome.failures = outcome.failures[:1]
    return outcome


def reading(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """One file of a finished run cannot be read: `verify` names it, and the rest is judged as ever."""
    outcome, folder = Outcome(), lab.a_folder()
    scene = scene_of(k)
    copy(pristine(lab, scene), folder)
    run = folder / "run"
    name = some_file(kinds_of_files(run), rnd)
    other = some_file({"chunks": kinds_of_files(run)["scores.zarr: chunks"]}, rnd)
    (run / other).unlink()
    details: dict[str, object] = {"file": name, "also_deleted": other}
    outcome.counts["EIO"] += 1

    def begin() -> None:
        watch.watch(run, Kind.READ, Action.FAIL, error=errno.EIO, first=1, last=ENDLESS, only=f"/{name}")

    found = verify(lab, run, before=begin)
    said = found.last_line
    outcome.expect(name in named(found), "verify does not name a file that cannot be read", said=said, **details)
    is_receipt = name.startswith("receipts/score")
    outcome.expect(other in named(found) or is_receipt, "verify overlooks other damage", said=said, **details)
    outcome.expect(not found.faults, "verify ends badly", faults=found.faults, **details)
    trial = lab.run("verify", run, "--repair", "--workers", 0, before=begin, seconds=SECONDS_TO_ANSWER)
    outcome.expect(not trial.faults, "verify --repair ends badly", faults=trial.faults, **details)
    put_right(lab, outcome, folder, scene, by_run=False, details=details)
    outcome.failures = outcome.failures[:1]
    return outcome


def needs_tmpfs() -> str:
    """Why no small file system can be mounted here; empty if it can."""
    from chaos.power import needs_mounts

    return needs_mounts()


def full(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """A real file system runs out of blocks or of inodes, or becomes read-only; then it is large and writable."""
    outcome = Outcome()
    sort = ("blocks", "inodes", "read-only")[k % 3]
    options = {
        "blocks": f"size={rnd.randrange(MIB // 8, 12 * MIB)}",
        "inodes": f"size=64m,nr_inodes={rnd.randint(20, 320)}",
    }
    mounted = lab.place / "mounted"
    mounted.mkdir(exist_ok=True)
    folder = mounted / "folder"
    details: dict[str, object] = {"sort": sort, "options": options.get(sort, "")}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "chaos", mounted], check=True)
    try:
        RUN.prepare(lab, folder)
        if sort != "read-only":
            subprocess.run(["mount", "-o", f"remount,{options[sort]}", mounted], check=False, capture_output=True)
        trial = lab.start(*RUN.words(lab, folder))
        if sort == "read-only":
            trial.wait(rnd.uniform(0.1, RUN.seconds(lab)))
            # Files that are open for writing may stand in its way.
            subprocess.run(["mount", "-o", "remount,ro", mounted], check=False, capture_output=True)
        if trial.wait(120) is None:
            trial.kill(whole_session=True)
        outcome.counts[sort] += 1
        _ended(outcome, trial, RUN, details)
        large = "remount,rw,size=256m,nr_inodes=100000"
        subprocess.run(["mount", "-o", large, mounted], check=True)
        verified(lab, outcome, folder / "run", details)
        RUN.judge(lab, outcome, folder, details)
    finally:
        subprocess.run(["umount", "-l", mounted], check=False, capture_output=True)
    outcome.failures = outcome.failures[:1]
    return outcome
