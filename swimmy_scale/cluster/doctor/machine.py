"""Checks of this machine: Python, its packages, processor, cores, memory, open files."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from swimmy_scale.cluster.doctor.findings import Finding, ok, problem, warning
from swimmy_scale.cluster.executors import default_workers
from swimmy_scale.cluster.resources import ControlGroups, usable_cores, usable_memory_bytes
from swimmy_scale.stages.memory import MIB, default_worker_bytes

DISTRIBUTION = "swimmy-scale"
INSTALL = "Install from the lock file: make setup"
# A driver has files open and connections to as many workers as a machine has cores; each worker has some.
FEWEST_FILES, ENOUGH_FILES = 256, 1024


def check_python(version: str, requires: str) -> Finding:
    """The interpreter's version against what the program requires."""
    if SpecifierSet(requires).contains(version, prereleases=True):
        return ok("python", f"{version}; {requires} is needed")
    return problem("python", f"{version} is too old, {requires} is needed", "Install it, and the program with it anew")


def installed_requirements(distribution: str = DISTRIBUTION) -> tuple[str, list[str]]:
    """The versions of Python, and of packages, that the program requires; PackageNotFoundError if not installed."""
    metadata = importlib.metadata.metadata(distribution)
    return metadata["Requires-Python"], importlib.metadata.requires(distribution) or []


def check_packages(requirements: Iterable[str]) -> Finding:
    """The versions of installed packages against their lower bounds."""
    wrong, n_right = [], 0
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            n_right += 1
        else:
            wrong.append(f"{requirement.name} is {found}, {requirement.specifier} is needed")
    if wrong:
        return problem("packages", "; ".join(wrong), INSTALL)
    return ok("packages", f"all {n_right} that are needed are installed and new enough")


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The processor's instruction sets as Linux names them on x86; empty on other processors."""
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return set(value.split())
    return set()


def check_processor(flags: set[str], machine: str = platform.machine()) -> Finding:
    """The vector instructions, which decide the speed of convolutions."""
    if machine not in ("x86_64", "AMD64"):
        return warning("processor", f"{machine}: scoring was never measured on it", "Compare a small run's scores")
    if "avx" not in flags:
        return problem("processor", "no AVX, which TensorFlow is built for", "Use a machine that was made after 2011")
    if "avx2" not in flags or "fma" not in flags:
        return warning(
            "processor", "AVX, but not AVX2 and FMA: scoring is several times slower", "Use a newer machine, or a GPU"
        )
    return ok("processor", f"{machine} with {'AVX-512' if 'avx512f' in flags else 'AVX2'}")


def check_cores(n_usable: int, n_there: int, quota: float | None) -> Finding:
    """The cores that a run may use; ``quota`` is the time that the control group grants, in cores."""
    text = f"{n_usable} of {n_there} may be used"
    return ok("cores", text if quota is None else f"{text}; the control group grants the time of {quota:g}")


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that is free or can be freed."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def check_memory(n_workers: int, total_bytes: int, free_bytes: int) -> Finding:
    """The memory for the workers that a run starts unless it is told otherwise, with the default sizes.

    A run obeys the control group by itself; it does not know how much of the memory others use.
    """
    stage, needed = max(default_worker_bytes().items(), key=lambda item: item[1])
    text = (
        f"{total_bytes / MIB:,.0f} MiB, {free_bytes / MIB:,.0f} MiB of it free; {stage} needs up to "
        f"{needed / MIB:,.0f} MiB a worker process"
    )
    if total_bytes < needed:
        return problem("memory", text, "Make score.batch_size and storage.partition_objects smaller, or ask for more")
    n_fitting = free_bytes // needed
    if n_fitting < n_workers:
        return warning(
            "memory", f"{text}, and run would start {n_workers}", f"Give run --workers {max(int(n_fitting), 1)}"
        )
    return ok("memory", f"{text}: enough for {n_workers}")


def check_open_files(limit: int) -> Finding:
    """How many files and connections a process may have open."""
    if limit == resource.RLIM_INFINITY or limit >= ENOUGH_FILES:
        return ok("open files", "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit:,} a process")
    remedy = f"Give `ulimit -n {4 * ENOUGH_FILES}` first, or ask who runs this machine"
    kind = problem if limit < FEWEST_FILES else warning
    return kind("open files", f"up to {limit:,} a process, a driver with many workers needs more", remedy)


def check_machine(distribution: str = DISTRIBUTION) -> Iterator[Finding]:
    """All checks of this machine but TensorFlow's."""
    try:
        requires_python, requirements = installed_requirements(distribution)
    except importlib.metadata.PackageNotFoundError:
        yield warning("packages", f"{distribution} is not installed, so nothing says what it needs", INSTALL)
    else:
        yield check_python(platform.python_version(), requires_python)
        yield check_packages(requirements)
    yield check_processor(processor_flags())
    n_cores = usable_cores()
    yield check_cores(n_cores, os.cpu_count() or n_cores, ControlGroups().n_cores)
    total_bytes = usable_memory_bytes()
    yield check_memory(default_workers(n_cores, total_bytes), total_bytes, min(total_bytes, available_bytes()))
    yield check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
