"""Checks of SLURM: its commands, its controller, and what a site file asks of the queues."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.doctor.connections import check_interface
from swimmy_scale.cluster.doctor.findings import Finding, ok, problem, warning
from swimmy_scale.cluster.site import JobSpec, Site, walltime_seconds
from swimmy_scale.stages.memory import MIB, default_worker_bytes

COMMANDS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")


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
        return problem("queue", text, f"Lower walltime in {where}: lost time is made up for by new jobs")
    # What is not asked for does not have to fit: some sites leave memory to nobody, and their nodes say 1 MiB.
    n_cores, memory_bytes = spec.job_cpu or spec.cores, int(spec.memory) if spec.asks_memory else 0
    asked_for = f"{n_cores} cores" + (f" and {memory_bytes / MIB:,.0f} MiB" if memory_bytes else "")
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
    if gpus and not any("gpu" in row.resources for row in rows):
        return problem("queue", f"{what}: no node of queue {queue} has a GPU", f"Choose another queue in {where}")
    return ok("queue", f"{what}: queue {queue} takes {asked_for}, {spec.walltime}")


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


def check_interpreter(path: str) -> Finding:
    """The interpreter that the site file names for the nodes."""
    if os.access(path, os.X_OK) and not Path(path).is_dir():
        return ok("interpreter", f"{path} is there")
    return warning("interpreter", f"{path} is not on this machine", "Check that the nodes have it")


def check_site(site: Site) -> Iterator[Finding]:
    """All checks of a site of kind slurm."""
    commands = check_commands(needed=True)
    yield commands
    yield check_task_memory(site)
    jobs = {"driver": (site.driver, 0), **{group.name: (group.spec, group.gpus) for group in site.groups}}
    yield from map(check_interpreter, sorted({spec.python for spec, _ in jobs.values() if spec.python}))
    named = {f"jobqueue.{name}.interface": spec.interface for name, (spec, _) in jobs.items() if name != "driver"}
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
        partitions = slurm.partitions()
    except slurm.SlurmError as error:
        yield problem("queue", str(error).rstrip("."), "Ask who runs the cluster")
        return
    for name, (spec, gpus) in jobs.items():
        yield check_queue(name, spec, gpus, partitions)
