"""Checks of this machine: Python, packages, processor, cores, memory, open files."""

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
from swimmy_scale.cluster.local import default_workers
from swimmy_scale.cluster.resources import core_quota, usable_cores, usable_memory_bytes
from swimmy_scale.stages.memory import MIB, default_worker_bytes

DISTRIBUTION = "swimmy-scale"
INSTALL = "Install from the lock file: make setup"
# Files and connections of a driver with as many workers as a machine has cores, and some of each worker.
FEWEST_FILES, ENOUGH_FILES = 256, 1024


def check_python(version: str, requires: str) -> Finding:
    """The version of the interpreter against what the package requires."""
    if SpecifierSet(requires).contains(version, prereleases=True):
        return ok("python", f"{version}; {requires} is needed")
    return problem("python", f"{version} is too old, {requires} is needed", "Install it, and the program with it anew")


def installed_requirements() -> tuple[str, list[str]]:
    """What the installed program requires: of Python, and of packages.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        When the program is not installed, only found.
    """
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    return metadata["Requires-Python"], importlib.metadata.requires(DISTRIBUTION) or []


def check_packages(requirements: Iterable[str]) -> Finding:
    """Versions of installed packages against their lower bounds."""
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
    """Instruction sets that the kernel names; empty where it names them otherwise."""
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return set(value.split())
    return set()


def check_processor(flags: set[str], machine: str = platform.machine()) -> Finding:
    """Vector instructions, which convolutions live on."""
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
    """Cores that may be used, of those that there are; ``quota`` is the time that control groups grant."""
    text = f"{n_usable} of {n_there} may be used"
    return ok("cores", text if quota is None else f"{text}, in a control group that grants the time of {quota:g}")


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that is free, or can be made free."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def check_memory(n_workers: int, total_bytes: int, free_bytes: int) -> Finding:
    """Memory for the workers that a run would start by itself, with the default sizes."""
    stage, needed = max(default_worker_bytes().items(), key=lambda item: item[1])
    text = (
        f"{total_bytes / MIB:,.0f} MiB, {free_bytes / MIB:,.0f} MiB of it free; {stage} needs up to "
        f"{needed / MIB:,.0f} MiB"
    )
    text += " a worker process"
    if total_bytes < needed:
        return problem("memory", text, "Make score.batch_size and storage.partition_objects smaller, or ask for more")
    n_fitting = min(total_bytes, free_bytes) // needed
    if n_fitting < n_workers:
        return warning(
            "memory", f"{text}, and run would start {n_workers}", f"Give run --workers {max(int(n_fitting), 1)}"
        )
    return ok("memory", f"{text}: enough for {n_workers}")


def check_open_files(limit: int) -> Finding:
    """Files and connections that a process may have open."""
    if limit == resource.RLIM_INFINITY or limit >= ENOUGH_FILES:
        return ok("open files", "no limit" if limit == resource.RLIM_INFINITY else f"up to {limit:,} a process")
    remedy = f"Give `ulimit -n {4 * ENOUGH_FILES}` first, or ask who runs this machine"
    kind = problem if limit < FEWEST_FILES else warning
    return kind("open files", f"up to {limit:,} a process, a driver with many workers needs more", remedy)


def check_machine() -> Iterator[Finding]:
    """All checks of this machine but TensorFlow's."""
    try:
        requires_python, requirements = installed_requirements()
    except importlib.metadata.PackageNotFoundError:
        yield warning("packages", f"{DISTRIBUTION} is not installed, so nothing says what it needs", INSTALL)
    else:
        yield check_python(platform.python_version(), requires_python)
        yield check_packages(requirements)
    yield check_processor(processor_flags())
    n_cores = usable_cores()
    yield check_cores(n_cores, os.cpu_count() or n_cores, core_quota())
    yield check_memory(default_workers(), usable_memory_bytes(), available_bytes())
    yield check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
