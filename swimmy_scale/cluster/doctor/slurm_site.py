"""Checks of SLURM: its commands, its controller, and what a site file asks of the queues."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.doctor.connections import check_interface
from swimmy_scale.cluster.doctor.findings import Finding, ok, problem, warning
from swimmy_scale.cluster.doctor.interpreter import check_interpreters
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.scripts import driver_script, worker_script
from swimmy_scale.cluster.site import DRIVER, JobSpec, Site, walltime_seconds
from swimmy_scale.errors import SwimmyError
from swimmy_scale.stages.memory import MIB, default_worker_bytes

COMMANDS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
ASK = "Ask who runs the cluster"
NO_MEM = "Where Slurm does not manage memory, set job-directives-skip: [--mem] in"


def check_commands(needed: bool) -> Finding:
    """Slurm's commands on this machine, which only a site of kind slurm needs."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if not missing:
        return ok("slurm", f"{', '.join(COMMANDS)} are there")
    if not needed:
        return ok("slurm", f"{', '.join(missing)} not found: runs stay on this machine")
    return problem(
        "slurm", f"{', '.join(missing)} not found", "Give the command on a login node, or load Slurm's module first"
    )


def check_controller() -> Finding:
    """Whether Slurm's controller answers."""
    try:
        lines = slurm.ping().splitlines()
    except slurm.SlurmError as error:
        return problem("controller", str(error).rstrip("."), "Ask who runs the cluster, or look at SLURM_CONF")
    up = [line for line in lines if line.rstrip().endswith("UP")]
    if not up:
        return problem("controller", "; ".join(lines) or "no answer", "Ask who runs the cluster")
    return ok("controller", up[0])


@dataclass(frozen=True)
class Limits:
    """What Slurm says of its partitions, and what could not be asked."""

    partitions: Sequence[slurm.Partition] = ()
    rules: Mapping[str, slurm.PartitionRules] = field(default_factory=dict)
    unknown: Sequence[Finding] = ()


def ask_limits() -> Limits:
    """Ask Slurm for its partitions and their rules; what it does not say is among the findings, and no failure."""
    partitions: list[slurm.Partition] = []
    rules: dict[str, slurm.PartitionRules] = {}
    unknown = []
    try:
        partitions = slurm.partitions()
    except slurm.SlurmError as error:
        unknown.append(warning("queue", f"limits of queues are not known: {str(error).rstrip('.')}", ASK))
    try:
        rules = slurm.partition_rules()
    except slurm.SlurmError as error:
        unknown.append(warning("queue", f"rules of queues are not known: {str(error).rstrip('.')}", ASK))
    return Limits(partitions, rules, unknown)


def _rows(spec: JobSpec, partitions: Sequence[slurm.Partition]) -> list[slurm.Partition]:
    if spec.queue is None:
        return [row for row in partitions if row.is_default]
    return [row for row in partitions if row.name in spec.queue.split(",")]


def check_queue(name: str, spec: JobSpec, gpus: int, partitions: Sequence[slurm.Partition]) -> Finding:
    """What one kind of job asks for, against the limits of its queue and nodes."""
    rows, what, where = _rows(spec, partitions), f"jobs {name}", f"jobqueue.{name} of the site file"
    if not rows:
        known = ", ".join(sorted({row.name for row in partitions}))
        if spec.queue is None:
            return problem("queue", f"{what}: Slurm has no default queue", f"Set queue in {where}: one of {known}")
        return problem("queue", f"{what}: there is no queue {spec.queue}", f"Choose among {known} in {where}")
    queue = spec.queue or f"{rows[0].name} (the default)"
    if not any(row.is_up for row in rows):
        return problem("queue", f"{what}: queue {queue} is not up", "Ask who runs the cluster")
    asked = walltime_seconds(spec.walltime)
    limits = [row.walltime for row in rows if row.walltime is not None]
    if len(limits) == len(rows) and all(walltime_seconds(limit) < asked for limit in limits):
        longest = max(limits, key=walltime_seconds)
        text = f"{what}: walltime {spec.walltime} is more than the {longest} of queue {queue}"
        return problem("queue", text, f"Lower walltime in {where}: {_what_follows(name)}")
    # What is not asked for does not have to fit: some sites leave memory to nobody, and their nodes say 1 MiB.
    n_cores, memory_bytes = spec.job_cpu or spec.cores, int(spec.memory) if spec.asks_memory else 0
    asked_for = f"{n_cores} core{'s' if n_cores != 1 else ''}"
    asked_for += f" and {memory_bytes / MIB:,.0f} MiB" if memory_bytes else ""
    if not any(row.n_cores >= n_cores and row.memory_bytes >= memory_bytes for row in rows):
        largest = max(rows, key=lambda row: (row.n_cores, row.memory_bytes))
        text = (
            f"{what}: {asked_for}, but the largest node of queue {queue} has {largest.n_cores} and "
            f"{largest.memory_bytes / MIB:,.0f} MiB"
        )
        if largest.memory_bytes <= MIB and largest.n_cores >= n_cores:
            remedy = f"Slurm does not manage memory there: set job-directives-skip: [--mem] in {where}"
            return problem("queue", text, remedy)
        return problem("queue", text, f"Lower cores, processes and memory in {where}")
    most = max(_n_gpus(row.resources) for row in rows)
    if gpus and not most:
        return problem("queue", f"{what}: no node of queue {queue} has a GPU", f"Choose another queue in {where}")
    if gpus > most:
        text = f"{what}: {gpus} GPUs, but no node of queue {queue} has more than {most}"
        return problem("queue", text, f"Lower gpus of the group, and processes in {where}")
    return ok("queue", f"{what}: queue {queue} takes {asked_for}, {spec.walltime}")


def _what_follows(name: str) -> str:
    if name == DRIVER:
        return "the driver hands over to a new job before its own ends"
    return "lost time is made up for by new jobs"


def _n_gpus(resources: str) -> int:
    """GPUs of a node, by what Slurm calls its generic resources, such as ``gpu:a100:4(S:0-1)``."""
    counts = re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)", resources)
    return sum(map(int, counts)) or int("gpu" in resources)


def _fault(spec: JobSpec, queue: str, rules: slurm.PartitionRules) -> tuple[str, str] | None:
    """What a rule of a queue has against a job, and the key that would have to change."""
    n_cores, memory_bytes = spec.job_cpu or spec.cores, int(spec.memory) if spec.asks_memory else 0
    if rules.memory_bytes and memory_bytes > rules.memory_bytes:
        most = f"{rules.memory_bytes / MIB:,.0f} MiB"
        return f"{memory_bytes / MIB:,.0f} MiB are more than the {most} that queue {queue} gives a job", "memory"
    if rules.n_cores and n_cores > rules.n_cores:
        return f"{n_cores} cores are more than the {rules.n_cores} that queue {queue} gives a job", "cores"
    if spec.account and rules.accounts and spec.account not in rules.accounts:
        return f"queue {queue} takes only the accounts {', '.join(rules.accounts)}, not {spec.account}", "account"
    if spec.qos and rules.qos_allowed and spec.qos not in rules.qos_allowed:
        names = ", ".join(rules.qos_allowed)
        return f"queue {queue} takes only the QOS {names}, not {spec.qos}", "--qos of job-extra-directives"
    return None


def check_rules(name: str, spec: JobSpec, limits: Limits) -> Finding | None:
    """What one kind of job asks for, against the rules of its queues; None if one of them takes it."""
    queues = {row.name for row in _rows(spec, limits.partitions)} & set(limits.rules)
    faults = [_fault(spec, queue, limits.rules[queue]) for queue in sorted(queues)]
    if not faults or None in faults:
        return None
    text, key = next(filter(None, faults))
    return problem("queue", f"jobs {name}: {text}", f"Change {key} in jobqueue.{name} of the site file")


def check_qos(name: str, spec: JobSpec, limits: Limits) -> Finding | None:
    """The walltime of one kind of job against the limit of its QOS, and of its queue's; None if it keeps to them."""
    where = f"jobqueue.{name} of the site file"
    by_queue = {
        row.name: limits.rules[row.name].qos for row in _rows(spec, limits.partitions) if row.name in limits.rules
    }
    asked = [spec.qos, *(by_queue.values() if len(by_queue) == 1 else ())]
    for qos in dict.fromkeys(filter(None, asked)):
        try:
            longest = slurm.longest_by_qos(qos)
        except slurm.SlurmError as error:
            text = f"jobs {name}: the limits of QOS {qos} are not known: {str(error).rstrip('.')}"
            return warning("queue", text, ASK)
        if longest is not None and walltime_seconds(longest) < walltime_seconds(spec.walltime):
            text = f"jobs {name}: walltime {spec.walltime} is more than the {longest} of QOS {qos}"
            return problem("queue", text, f"Lower walltime in {where}: {_what_follows(name)}")
    return None


def check_script(name: str, script: str) -> tuple[Finding | None, str]:
    """Whether Slurm takes a job script, which it is only asked about; and when it expects to start such a job."""
    try:
        return None, slurm.would_start(script)
    except slurm.SlurmBusyError as error:
        text = f"jobs {name}: Slurm could not be asked whether it takes them: {str(error).rstrip('.')}"
        return warning("queue", text, "Try again"), ""
    except slurm.SlurmError as error:
        where = f"jobqueue.{name} of the site file"
        hint = f". {NO_MEM} {where}" if "memory" in str(error).lower() else ""
        return problem("queue", f"jobs {name}: {str(error).rstrip('.')}", f"Correct {where}{hint}"), ""


def check_jobs(site: Site, scripts: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Slurm would start each kind of job of a site: by its limits, and by its own word on the script.

    Slurm takes jobs that can never start, and lets them wait: so its limits are compared here as well.

    Parameters
    ----------
    scripts : mapping
        The text of each kind's job script, by the names of the kinds.
    """
    limits = ask_limits()
    yield from limits.unknown
    kinds = {DRIVER: (site.driver, 0), **{group.name: (group.spec, group.gpus) for group in site.groups}}
    for name, script in scripts.items():
        spec, gpus = kinds[name]
        found = check_queue(name, spec, gpus, limits.partitions) if limits.partitions else None
        if found is not None and found.state != "ok":
            yield found
            continue
        faults, start = list(filter(None, [check_rules(name, spec, limits)])), ""
        if not faults:
            refused, start = check_script(name, script)
            faults = list(filter(None, [check_qos(name, spec, limits), refused]))
        yield from faults
        if not faults:
            text = found.text if found is not None else f"jobs {name}: Slurm takes them"
            yield ok("queue", f"{text}; the next would start at {start}" if start else text)


def check_task_memory(site: Site) -> Finding:
    """The memory of a worker process against what stages need with the default sizes."""
    limits = site.memory_limits
    given = {"ingest": limits.reader_bytes, "scoring": limits.reader_bytes, "TensorFlow": limits.network_bytes}
    for stage, needed in default_worker_bytes().items():
        if given[stage] < needed:
            text = f"{stage} needs up to {needed / MIB:,.0f} MiB a process, {site.path} gives it "
            return problem("memory", f"{text}{given[stage] / MIB:,.0f} MiB", "Raise memory, or lower processes")
    each = ", ".join(f"{size / MIB:,.0f} MiB for {stage}" for stage, size in given.items())
    return ok("memory", f"a worker process has {each}")


def check_site(site: Site, folder: Path) -> Iterator[Finding]:
    """All checks of a site of kind slurm, for a run directory ``folder``."""
    commands = check_commands(needed=True)
    yield commands
    yield check_task_memory(site)
    yield from check_interpreters(site)
    named = {f"jobqueue.{group.name}.interface": group.spec.interface for group in site.groups}
    named["swimmy-scale.scheduler-interface"] = site.section.scheduler_interface
    for whose, name in named.items():
        if name:
            yield check_interface(name, whose)
    if commands.state != "ok":
        return
    controller = check_controller()
    yield controller
    if controller.state != "ok":
        return
    try:
        places = Places(folder.absolute())
    except SwimmyError as error:
        yield problem("folder", str(error).rstrip("."), "Choose another --scratch")
        return
    scripts = {group.name: worker_script(group, places) for group in site.groups}
    # In place of the program itself: Slurm does not look at it.
    yield from check_jobs(site, {DRIVER: driver_script(site, places, ["true"], chained=False), **scripts})
