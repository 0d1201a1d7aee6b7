"""Slurm's commands that say what a real Slurm (22.05, as in `slurm_cluster`) was heard to say.

``sacct`` and ``sacctmgr`` need a database, which the throw-away Slurm has not: what those say here is put together from
their manual pages.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SINFO = r"""
cpu*|up|12:00:00|8|64000|(null)
preemptible|up|12:00:00|8|64000|(null)
gpu|up|12:00:00|8|64000|gpu:1
small|up|2:00:00|8|64000|(null)
closed|up|infinite|8|64000|(null)
drained|drain|infinite|8|64000|(null)
"""

_PARTITION = (
    "PartitionName={name} AllowGroups=ALL AllowAccounts={accounts} AllowQos={allowed} AllocNodes=ALL Default=NO "
    "QoS={qos} "
    "DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=02:00:00 "
    "MinNodes=1 LLN=NO MaxCPUsPerNode={cores} Nodes=c1 PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO "
    "OverSubscribe=NO OverTimeLimit=NONE PreemptMode=REQUEUE State=UP TotalCPUs=8 TotalNodes=1 "
    "SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode={memory} "
    "TRES=cpu=8,mem=62.50G,node=1,billing=8 "
)


def partition(
    name: str, accounts: str = "ALL", allowed: str = "ALL", qos: str = "N/A", cores: str = "UNLIMITED",
    memory: str = "UNLIMITED",
) -> str:  # fmt: skip
    """A line of ``scontrol --oneliner show partition``."""
    return _PARTITION.format(name=name, accounts=accounts, allowed=allowed, qos=qos, cores=cores, memory=memory)


PARTITIONS = "\n".join(
    [
        partition("cpu"),
        partition("gpu"),
        partition("small", cores="2", memory="2000"),
        partition("closed", accounts="stars", allowed="night"),
    ]
)

# squeue --states=all --format=%A|%T|%S|%e|%l|%N|%P|%j|%r, with the names of a run's jobs.
SQUEUE = {
    "too long": "20|PENDING|N/A|N/A|1-00:00:00||cpu|{name}|PartitionTimeLimit",
    "too much": "12|PENDING|N/A|N/A|2:00:00||small|{name}|MaxMemPerLimit",
    "no account": "16|PENDING|2026-11-30T06:36:09|N/A|UNLIMITED||closed|{name}|"
    "Job's account not known, so it can't use this partition (closed allows stars)",
    "waits": "22|PENDING|2026-11-30T10:36:05|2026-11-30T15:36:05|5:00:00||cpu|{name}|Resources",
    "prologue": "27|PENDING|2026-11-30T06:38:55|2026-11-30T18:38:55|12:00:00||cpu|{name}|launch failed requeued held",
    "prologue of a worker": "28|CANCELLED|2026-11-30T06:36:54|2026-11-30T06:36:54|12:00:00|c2|cpu|{name}|None",
    "failed": "29|FAILED|2026-11-30T06:36:59|2026-11-30T06:36:59|12:00:00|c1|cpu|{name}|NonZeroExitCode",
    "cancelled": "30|CANCELLED|2026-11-30T06:36:59|2026-11-30T06:37:02|12:00:00|c1|cpu|{name}|None",
    "cancelled before": "34|CANCELLED|2026-11-30T06:37:02|2026-11-30T06:37:02|12:00:00||cpu|{name}|BeginTime",
    "time limit": "31|TIMEOUT|2026-11-30T06:36:59|2026-11-30T06:38:14|1:00|c1|cpu|{name}|TimeLimit",
    "node": "32|NODE_FAIL|2026-11-30T06:37:00|2026-11-30T06:37:02|12:00:00|c2|cpu|{name}|NodeDown",
    "killed": "36|FAILED|2026-11-30T06:36:59|2026-11-30T06:36:59|12:00:00|c1|cpu|{name}|JobLaunchFailure",
    "runs": "37|RUNNING|2026-11-30T06:36:59|2026-11-30T18:36:59|12:00:00|c1|cpu|{name}|None",
    "done": "24|COMPLETED|2026-11-30T06:36:05|2026-11-30T06:36:06|12:00:00|c1|cpu|{name}|None",
}
EXIT_CODES = {"29": "7:0", "30": "0:15", "31": "0:15", "32": "0:15", "36": "0:9", "28": "0:0", "34": "0:0"}

_SCONTROL = """case "$*" in
  ping) echo 'Slurmctld(primary) at head is UP' ;;
  *partition) cat {folder}/partitions ;;
  *job*)
    for id; do :; done
    grep "^JobId=$id " {folder}/jobs && exit
    echo 'slurm_load_jobs error: Invalid job id specified' >&2
    exit 1 ;;
esac"""


class RecordedSlurm:
    """A folder of Slurm's commands; nothing else is on the path but the shell's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        jobs = [
            f"JobId={number} JobName=x Requeue=0 ExitCode={code} RunTime=00:00:00"
            for number, code in EXIT_CODES.items()
        ]
        (folder / "jobs").write_text("\n".join(jobs) + "\n")
        (folder / "partitions").write_text(PARTITIONS + "\n")
        self.say("scontrol", _SCONTROL.format(folder=folder))
        self.print("sinfo", SINFO.strip())
        self.say("sbatch", "echo 'sbatch: Job 1 to start at 2026-11-30T06:35:25 using 1 processors on nodes c1' >&2")
        self.print("squeue", "")
        self.say("scancel", "exit 9")
        # As the real ones are without a database.
        self.say("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
        self.say("sacctmgr", "echo 'You are not running a supported accounting_storage plugin' >&2; exit 1")

    def say(self, command: str, text: str) -> None:
        """Have a command do what a shell script says."""
        (self.folder / command).write_text(f"#!/bin/sh\n{text}\n")
        (self.folder / command).chmod(0o755)

    def print(self, command: str, text: str) -> None:
        """Have a command print a text."""
        (self.folder / f"{command}.txt").write_text(text + "\n")
        self.say(command, f"cat {self.folder / command}.txt")


def recorded_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSlurm:
    """Put such commands on the path, with those of the system that they call."""
    found = RecordedSlurm(folder)
    for name in ("cat", "grep"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return found
