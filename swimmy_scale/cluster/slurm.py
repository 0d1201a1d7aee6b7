"""Slurm's own commands: to submit jobs, look at them and cancel them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from swimmy_scale.errors import SwimmyError

TIMEOUT_SECONDS = 60.0
# Reasons of squeue for which a pending job will never start.
HOPELESS = re.compile(
    "BadConstraints|InvalidAccount|InvalidQOS|PartitionNodeLimit|PartitionTimeLimit|PartitionConfig|MaxMemPerLimit"
    "|AccountNotAllowed|QOSNotAllowed|.* so it can't use this partition .*"
    "|.*MaxWallDurationPerJobLimit|.*MaxCpuPerJobLimit|.*MaxMemoryPerJob|.*MaxGRESPerJob|DependencyNeverSatisfied"
)
# What Slurm's commands say when the fault is not the caller's.
BUSY = re.compile(
    "Unable to contact slurm controller|Socket timed out|Transport endpoint|Zero Bytes|[Tt]ry again"
    "|Resource temporarily unavailable|Slurm temporarily unable|Connection (refused|reset|timed out)"
)
UNLIMITED = ("infinite", "UNLIMITED", "n/a", "N/A", "NONE", "ALL", "(null)", "Unknown", "None", "")
# What sbatch says of a script that it was only asked about.
WOULD_START = re.compile(r"to start at (\S+)")


class SlurmError(SwimmyError):
    """A Slurm command failed."""


class SlurmBusyError(SlurmError):
    """Slurm did not answer, but may in a moment."""


def is_hopeless(state: str, reason: str) -> bool:
    """Whether a job that waits for this reason will never start."""
    return state == "PENDING" and HOPELESS.fullmatch(reason) is not None


@dataclass(frozen=True)
class QueuedJob:
    """A job that waits in the queue or runs."""

    job_id: str
    name: str
    state: str  # such as PENDING, RUNNING, COMPLETING
    reason: str  # why it is pending

    @property
    def is_running(self) -> bool:
        return self.state not in ("PENDING", "CONFIGURING")

    @property
    def is_hopeless(self) -> bool:
        """Whether it will never start."""
        return is_hopeless(self.state, self.reason)


@dataclass(frozen=True)
class KnownJob:
    """What Slurm knows of a job: one that waits, runs, or has ended. Empty texts are what it does not know."""

    job_id: str
    name: str
    state: str  # such as PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT
    reason: str  # why it waits, or has ended
    start: str = ""  # when it began, or is expected to, as Slurm says it
    end: str = ""
    nodes: str = ""
    partition: str = ""
    time_limit: str = ""
    exit_code: str = ""  # of a job that has ended, as status:signal
    ended_by: str = ""  # the number of the user who cancelled it, which only accounting knows


@dataclass(frozen=True)
class Partition:
    """Nodes of one kind in one partition (queue); cores, memory and resources are those of each node."""

    name: str
    is_default: bool  # whether it takes the jobs that name no partition
    is_up: bool
    walltime: str | None  # the longest that it allows, or None without a limit
    n_cores: int
    memory_bytes: int
    resources: str  # generic ones, such as gpu:a100:4; may be empty


@dataclass(frozen=True)
class PartitionRules:
    """What a partition asks of jobs beyond the size of its nodes; None or empty is no rule."""

    memory_bytes: int | None  # the most that a job may take of a node
    n_cores: int | None  # the same for cores
    accounts: tuple[str, ...]  # those that may use it
    qos_allowed: tuple[str, ...]
    qos: str | None  # whose limits hold for all its jobs


def _call(*command: str, stdin: str | None = None) -> tuple[str, str]:
    # A job's own settings must not apply to the jobs that are submitted from inside it.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_"))
    }
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=environment,
            check=False,
            # A terminal's Ctrl-C is for us: an sbatch that it ended might have submitted a job that nobody knows.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise SlurmError(
            f"{command[0]}: not found. Give the command on a machine that has Slurm's commands."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmBusyError(
            f"{command[0]}: no answer from Slurm in {TIMEOUT_SECONDS:.0f} s. Is slurmctld up?"
        ) from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        kind = SlurmBusyError if BUSY.search(said) else SlurmError
        raise kind(f"{command[0]} failed with status {done.returncode}: {said}")
    return done.stdout, done.stderr


def _output(*command: str) -> str:
    return _call(*command)[0]


def submit(script: Path, options: Sequence[str] = ()) -> str:
    """Submit a job script and return its job id; if Slurm refuses it, a SlurmError says what Slurm said."""
    try:
        return _output("sbatch", "--parsable", *options, str(script)).strip().split(";")[0]
    except SlurmError as error:
        raise type(error)(f"{error} ({script})") from error


def queued(prefix: str) -> dict[str, QueuedJob]:
    """This user's jobs that wait or run and whose names start with ``prefix``, by job id."""
    lines = _output("squeue", "--noheader", "--user", str(os.getuid()), "--format", "%A|%j|%T|%r").splitlines()
    jobs = (QueuedJob(*(part.strip() for part in line.split("|", 3))) for line in lines if line.count("|") >= 3)
    return {job.job_id: job for job in jobs if job.name.startswith(prefix)}


def would_start(script: str) -> str:
    """When Slurm expects to start a job of this script, whose text it is asked about; empty if it does not say.

    Nothing is submitted. If Slurm refuses the job, a SlurmError says what it said; it takes some that would wait for
    ever, such as those that ask for more time than a partition gives.
    """
    said = WOULD_START.search("".join(_call("sbatch", "--test-only", stdin=script)))
    return said[1] if said else ""


def _known(*fields: str) -> KnownJob:
    job_id, state, start, end, limit, nodes, partition, name, reason = (
        "" if field.strip() in UNLIMITED else field.strip() for field in fields
    )
    return KnownJob(job_id, name, state, reason, start, end, nodes, partition, limit)


def known_jobs(names: Iterable[str]) -> list[KnownJob]:
    """Jobs of these names, whoever submitted them, that wait, run, or ended minutes ago; the latest last."""
    wanted = ",".join(sorted(names))
    lines = _output(
        "squeue", "--noheader", "--states=all", f"--name={wanted}", "--format=%A|%T|%S|%e|%l|%N|%P|%j|%r"
    ).splitlines()
    return sorted(
        (_known(*line.split("|", 8)) for line in lines if line.count("|") >= 8), key=lambda job: int(job.job_id)
    )


def exit_code(job_id: str) -> str:
    """How a job ended, as status:signal; empty if Slurm has forgotten it, as it does after some minutes."""
    try:
        found = re.search(r"\sExitCode=(\S+)", _output("scontrol", "--oneliner", "show", "job", job_id))
    except SlurmBusyError:
        raise
    except SlurmError:
        return ""
    return found[1] if found else ""


def accounted_jobs(job_ids: Iterable[str]) -> list[KnownJob]:
    """Jobs as Slurm's accounting remembers them, for years; a SlurmError where there is none."""
    fields = "JobIDRaw,State,Start,End,Timelimit,NodeList,Partition,JobName,Reason,ExitCode"
    lines = _output(
        "sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={','.join(job_ids)}", f"--format={fields}"
    ).splitlines()
    found = []
    for line in lines:
        if line.count("|") == fields.count(","):
            job_id, state, *others, code = line.split("|")
            state, _, who = state.partition(" by ")
            found.append(replace(_known(job_id, state, *others), exit_code=code, ended_by=who))
    return found


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs; it is no error if some have already ended."""
    ids = sorted(set(job_ids))
    if ids:
        _output("scancel", "--quiet", *ids)


def partitions() -> list[Partition]:
    """Slurm's partitions, one item for each kind of node in each."""
    found = []
    for line in _output("sinfo", "--noheader", "--exact", "--format=%P|%a|%l|%c|%m|%G").splitlines():
        try:
            name, state, walltime, n_cores, mib, resources = (part.strip() for part in line.split("|", 5))
            found.append(
                Partition(
                    name=name.removesuffix("*"),
                    is_default=name.endswith("*"),
                    is_up=state == "up",
                    walltime=None if walltime in UNLIMITED else walltime,
                    n_cores=int(n_cores),
                    memory_bytes=int(mib) << 20,
                    resources="" if resources == "(null)" else resources,
                )
            )
        except ValueError as error:
            raise SlurmError(f"sinfo: cannot read its line {line!r} ({error}). Is this Slurm's own sinfo?") from error
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _words(text: str) -> tuple[str, ...]:
    return () if text in UNLIMITED else tuple(text.split(","))


def partition_rules() -> dict[str, PartitionRules]:
    """What each partition asks of jobs, by its name."""
    found = {}
    for line in _output("scontrol", "--oneliner", "show", "partition").splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        mib, qos = _number(fields.get("MaxMemPerNode", "")), fields.get("QoS", "")
        found[fields.get("PartitionName", "")] = PartitionRules(
            memory_bytes=None if mib is None else mib << 20,
            n_cores=_number(fields.get("MaxCPUsPerNode", "")),
            accounts=_words(fields.get("AllowAccounts", "")),
            qos_allowed=_words(fields.get("AllowQos", "")),
            qos=None if qos in UNLIMITED else qos,
        )
    return found


def longest_by_qos(name: str) -> str | None:
    """The longest walltime that a QOS allows, or None without a limit; a SlurmError if there is no such QOS."""
    output = _output("sacctmgr", "--noheader", "--parsable2", "show", "qos", name, "format=Name,MaxWall").strip()
    if not output:
        raise SlurmError(f"there is no QOS {name}")
    walltime = output.splitlines()[0].partition("|")[2].strip()
    return None if walltime in UNLIMITED else walltime


def ping() -> str:
    """The state of Slurm's controllers, one line each."""
    return _output("scontrol", "ping").strip()
