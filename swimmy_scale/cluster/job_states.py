"""What became of the batch jobs of a run directory: as the queue says it, where Slurm can be asked, and their logs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.site import DRIVER
from swimmy_scale.cluster.submitted import SubmittedJob, read_submitted
from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.run_directory import LogFolder, RunDirectory

FORGOTTEN = "FORGOTTEN"
"""The state of a job that is not in the queue, and of which Slurm has no memory."""

UNKNOWN = "UNKNOWN"
"""The state of a job where Slurm cannot be asked."""

ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "STOPPED", "SIGNALING")
ENDED_BADLY = ("FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
TAIL_LINES = 8
WHY = {
    "CANCELLED": "it was cancelled",
    "TIMEOUT": "it reached its time limit",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it took more memory than it had asked for",
    "PREEMPTED": "it made room for a more urgent job",
    "BOOT_FAIL": "its node did not start",
    "DEADLINE": "it reached its deadline",
}
WAITS = {
    "launch failed requeued held": "Slurm's own prologue failed on a node (`sinfo -R`), and the job is held: give "
    "`scontrol release {id}` when the node is mended, or `scancel {id}`",
    "JobHeldUser": "its user holds it: `scontrol release {id}`",
    "JobHeldAdmin": "an administrator holds it: ask who runs the cluster",
}


@dataclass(frozen=True)
class JobState:
    """One batch job of a run."""

    what: str  # ``driver``, a group of workers, or the name of a command
    job: slurm.KnownJob
    log: Path | None  # None where there is none yet
    will_never_start: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether it waits or runs."""
        return self.job.state in ALIVE

    @property
    def failed(self) -> bool:
        """Whether it has ended otherwise than well, or nobody knows how."""
        return not self.is_alive and self.job.state != "COMPLETED"

    @property
    def _never_began(self) -> bool:
        """Whether Slurm ended it on its node before its script began, and not a user."""
        job = self.job
        at_once = job.nodes and job.start == job.end and job.exit_code in ("", "0:0")
        return bool(at_once) and job.state == "CANCELLED" and not job.ended_by and self.log is None

    @property
    def matters(self) -> bool:
        """Whether users must hear of it: of workers that are no more, only those that nobody wanted to end."""
        return self.is_alive or self.job.state in ENDED_BADLY or self._never_began

    def words(self) -> str:
        """State, reason and times in one line."""
        job = self.job
        text = f"job {job.job_id} {job.state}"
        if job.state == "PENDING":
            if self.will_never_start:
                return f"{text}: it will never start, Slurm says {job.reason}"
            when = f", expected to start at {job.start}" if job.start else ""
            hint = WAITS.get(job.reason, "").format(id=job.job_id)
            return f"{text} ({job.reason or 'not yet looked at'}{when})" + (f": {hint}" if hint else "")
        if self.is_alive:
            ends = f", its time ends at {job.end}" if job.end else ""
            return f"{text} on {job.nodes or 'a node'} since {job.start or 'now'}{ends}"
        if job.state == UNKNOWN:
            return f"job {job.job_id} was submitted; what became of it is not known here"
        if job.state == FORGOTTEN:
            return f"job {job.job_id} is in the queue no more, and Slurm has forgotten how it ended"
        return text + self._ending()

    def _ending(self) -> str:
        job = self.job
        code, _, number = job.exit_code.partition(":")
        facts = [WHY.get(job.state, "")]
        if job.ended_by:
            facts[0] += f" by user {job.ended_by}"
        if code not in ("", "0"):
            facts.append(f"exit status {code}")
        elif number not in ("", "0") and job.state == "FAILED":
            facts.append(f"killed by signal {number}")
        if job.state == "TIMEOUT" and job.time_limit:
            facts.append(f"of {job.time_limit}")
        if self._never_began:
            facts.append(f"on {job.nodes} at once and without a log: Slurm's own prologue failed there (`sinfo -R`)")
        if job.end:
            facts.append(f"ended at {job.end}")
        return ": " + ", ".join(filter(None, facts)) if any(facts) else ""

    def tail(self, n_lines: int = TAIL_LINES) -> list[str]:
        """The last lines of its log."""
        if self.log is None:
            return []
        with self.log.open("rb") as stream:
            stream.seek(max(self.log.stat().st_size - 64 * 1024, 0))
            text = stream.read().decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-n_lines:]

    def to_json(self) -> dict[str, Any]:
        """For scripts: what Slurm knows, and the end of the log of a job that failed."""
        return {
            "what": self.what,
            **asdict(self.job),
            "will_never_start": self.will_never_start,
            "log": None if self.log is None else str(self.log),
            "log_end": self.tail() if self.failed else [],
        }


@dataclass(frozen=True)
class Queue:
    """The batch jobs of a run that matter now: those that wait or run, and the last of each kind that has ended."""

    jobs: Sequence[JobState] = ()
    unanswered: str = ""  # why Slurm could not be asked, if so

    def of(self, what: str) -> list[JobState]:
        """The driver's, a group's, or a command's."""
        return [job for job in self.jobs if job.what == what]

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {"answered": not self.unanswered, "note": self.unanswered, "jobs": [job.to_json() for job in self.jobs]}

    def is_alive(self, job_id: str) -> bool | None:
        """Whether a job waits or runs; None where nobody knows."""
        states = [] if self.unanswered else [state for state in self.jobs if state.job.job_id == job_id]
        return states[-1].is_alive if states else None

    def lines(self, told_by: str = "") -> Iterator[str]:
        """In lines that people can read; ``told_by`` is the job whose end the record of progress tells already."""
        if self.unanswered:
            yield f"queue: not asked, so what follows is by the files alone: {self.unanswered}"
        for what in dict.fromkeys(state.what for state in self.jobs):
            yield from _lines_of(what, self.of(what), told_by)


def _lines_of(what: str, states: Sequence[JobState], told_by: str) -> Iterator[str]:
    waiting = [state for state in states if state.job.state == "PENDING"]
    running = [state for state in states if state.is_alive and state not in waiting]
    # A group may have hundreds of jobs, and they wait for the same reasons.
    for some in filter(None, (running, waiting)):
        more = f", and {len(some) - 1:,} more" if len(some) > 1 else ""
        yield f"queue: {what}: {some[0].words()}{more}"
        if some[0].will_never_start:
            yield f"  end it with `scancel {some[0].job.job_id}`, correct the site file, and submit again"
        if some[0].log is not None:
            yield f"  log: {some[0].log}"
    if not running and not waiting:
        yield f"queue: {what}: {states[-1].words()}"
        if states[-1].failed:
            yield from _end_of_log(states[-1], tell=states[-1].job.job_id != told_by)


def _end_of_log(state: JobState, tell: bool) -> Iterator[str]:
    if state.log is None:
        yield "  there is no log of it"
        return
    lines = state.tail() if tell else []
    yield f"  log: {state.log}" + (", which ends:" if lines else "")
    yield from (f"    {line}" for line in lines)


# ---------------------------------------------------------------- where jobs are found


def _kinds(directory: RunDirectory, noted: Sequence[SubmittedJob]) -> dict[str, str]:
    """What the jobs of a run are for, by the names that Slurm may know them by."""
    commands = {job.what for job in noted}
    tags = {job.name.partition(".")[0] for job in noted}
    # Of a driver that nobody submitted: that of `run --site`.
    with contextlib.suppress(SwimmyError):
        tags.add(Places(directory.path.absolute()).tag)
    kinds: dict[str, str] = {}
    for tag in sorted(tags):
        kinds[tag] = DRIVER
        for name in sorted(path.stem for path in directory.log.jobs.glob("*.sh")):
            if name != DRIVER:
                kinds[f"{tag}.{name}" if name in commands else f"{tag}-{name}"] = name
    return kinds


def _log_of(log: LogFolder, what: str, job_id: str) -> Path | None:
    names = (log.path / f"{what}-{job_id}.log", log.workers / f"{what}-{job_id}.log")
    return next((path for path in names if path.is_file()), None)


def _last_by_files(log: LogFolder, what: str, noted: Sequence[SubmittedJob]) -> str | None:
    """The number of a kind's last job, by the note and by the names of logs."""
    ids = {job.job_id for job in noted if job.what == what}
    ids |= {path.stem.removeprefix(f"{what}-") for path in log.path.glob(f"{what}-*.log")}
    return max(filter(str.isdecimal, ids), key=int, default=None)


def look(directory: RunDirectory) -> Queue:
    """The batch jobs of a run directory; none if it never had any.

    Slurm is asked for those in the queue and those that have ended lately; its accounting, where there is one, for the
    last driver and the last of each command before that. Where Slurm cannot be asked, such as on another machine, the
    note of submissions and the logs are all.
    """
    log = directory.log
    if not log.jobs.is_dir():
        return Queue()
    noted = read_submitted(log)
    kinds, known, unanswered = _kinds(directory, noted), [], ""
    try:
        known = [job for job in slurm.known_jobs(kinds) if job.name in kinds]
    except slurm.SlurmError as error:
        unanswered = str(error)
    states = []
    for what in dict.fromkeys(kinds.values()):
        names = [name for name in kinds if kinds[name] == what]
        jobs = [job for job in known if job.name in names]
        last = _last_by_files(log, what, noted)
        if last is not None and all(int(job.job_id) < int(last) for job in jobs):
            jobs.append(_remembered(last, names, unanswered))
        jobs = [job for job in jobs if job.state in ALIVE] or jobs[-1:]
        states += [_state(log, what, job) for job in jobs]
    ours = {DRIVER, *(job.what for job in noted)}
    return Queue([state for state in states if state.what in ours or state.matters], unanswered)


def _remembered(job_id: str, names: Sequence[str], unanswered: str) -> slurm.KnownJob:
    """A job that is in the queue no more, by Slurm's accounting if there is one and it is this Slurm's job."""
    if not unanswered:
        with contextlib.suppress(slurm.SlurmError):
            found = [job for job in slurm.accounted_jobs([job_id]) if job.name in names]
            if found:
                return found[-1]
    return slurm.KnownJob(job_id, "", UNKNOWN if unanswered else FORGOTTEN, "")


def _state(log: LogFolder, what: str, job: slurm.KnownJob) -> JobState:
    if not job.exit_code and job.state not in (*ALIVE, "COMPLETED", FORGOTTEN, UNKNOWN):
        with contextlib.suppress(slurm.SlurmError):
            job = replace(job, exit_code=slurm.exit_code(job.job_id))
    return JobState(what, job, _log_of(log, what, job.job_id), slurm.is_hopeless(job.state, job.reason))
