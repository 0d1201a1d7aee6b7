"""Slurm's own commands: to submit jobs, look at them and cancel them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swimmy_scale.errors import SwimmyError

TIMEOUT_SECONDS = 60.0
# Reasons of squeue for which a pending job will never start.
HOPELESS = re.compile(
    "BadConstraints|InvalidAccount|InvalidQOS|PartitionNodeLimit|PartitionTimeLimit"
    "|.*MaxWallDurationPerJobLimit|.*MaxCpuPerJobLimit|.*MaxMemoryPerJob|.*MaxGRESPerJob|DependencyNeverSatisfied"
)
# What Slurm's commands say when the fault is not the caller's.
BUSY = re.compile(
    "Unable to contact slurm controller|Socket timed out|Transport endpoint|Zero Bytes|[Tt]ry again"
    "|Resource temporarily unavailable|Slurm temporarily unable|Connection (refused|reset|timed out)"
)
UNLIMITED = ("infinite", "UNLIMITED", "n/a")


class SlurmError(SwimmyError):
    """A Slurm command failed."""


class SlurmBusyError(SlurmError):
    """Slurm did not answer, but may in a moment."""


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
        return self.state == "PENDING" and HOPELESS.fullmatch(self.reason) is not None


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


def _call(*command: str) -> str:
    # A job's own settings must not apply to the jobs that are submitted from inside it.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_"))
    }
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=environment, check=False
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
    return done.stdout


def submit(script: Path, options: Sequence[str] = ()) -> str:
    """Submit a job script and return its job id; if Slurm refuses it, a SlurmError says what Slurm said."""
    try:
        return _call("sbatch", "--parsable", *options, str(script)).strip().split(";")[0]
    except SlurmError as error:
        raise type(error)(f"{error} ({script})") from error


def queued(prefix: str) -> dict[str, QueuedJob]:
    """This user's jobs that wait or run and whose names start with ``prefix``, by job id."""
    lines = _call("squeue", "--noheader", "--user", str(os.getuid()), "--format", "%A|%j|%T|%r").splitlines()
    jobs = (QueuedJob(*(part.strip() for part in line.split("|", 3))) for line in lines if line.count("|") >= 3)
    return {job.job_id: job for job in jobs if job.name.startswith(prefix)}


def cancel(job_ids: Iterable[str]) -> None:
    """Cancel jobs; it is no error if some have already ended."""
    ids = sorted(set(job_ids))
    if ids:
        _call("scancel", "--quiet", *ids)


def partitions() -> list[Partition]:
    """Slurm's partitions, one item for each kind of node in each."""
    found = []
    for line in _call("sinfo", "--noheader", "--exact", "--format=%P|%a|%l|%c|%m|%G").splitlines():
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


def ping() -> str:
    """The state of Slurm's controllers, one line each."""
    return _call("scontrol", "ping").strip()
