"""The site description: where to compute, in the schema of dask-jobqueue's own YAML files.

A site file is Dask configuration. Its section ``jobqueue`` describes jobs with dask-jobqueue's keys: one for each group
of workers, under a name of your choice, and one called ``driver``. Its section ``swimmy-scale`` says how many jobs each
group has.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.keys import Form
from swimmy_scale.method.sections import ScorerChoice, ScorerName
from swimmy_scale.method.yaml_files import describe, parse, read_text
from swimmy_scale.stages.memory import MemoryLimits

MIN_MEMORY_BYTES = 1 << 30
DRIVER = "driver"
BASE = "slurm"


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def walltime_seconds(text: str) -> int:
    """Seconds of a walltime in Slurm's forms: ``m``, ``m:s``, ``h:m:s``, ``d-h``, ``d-h:m``, ``d-h:m:s``."""
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, minutes, seconds = {1: [0, *parts, 0], 2: [0, *parts], 3: parts}[len(parts)]
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds


class Section(BaseModel):
    """A part of a site file: unknown keys are errors; keys may be written with ``-`` or ``_``."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        alias_generator=AliasGenerator(validation_alias=_kebab, serialization_alias=_kebab),
    )


Walltime = Annotated[
    str,
    StringConstraints(pattern=r"^(\d+-\d{1,2}(:\d\d){0,2}|\d+(:\d\d){0,2})$"),
    Form('a time of Slurm in quotes: "90" minutes, "24:00:00" or "2-00:00:00"'),
]
# What stands unquoted in a line of the job script.
Word = Annotated[
    str, StringConstraints(pattern=r"^[^\s\"'`;&|<>\\#]+$"), Form("one word without blanks, quotes and ; & | < > #")
]
GroupName = Annotated[
    str,
    StringConstraints(pattern="^[a-z][a-z0-9-]{0,19}$"),
    Form("20 small letters, digits and dashes"),
]
Shebang = Annotated[str, StringConstraints(pattern=r"^#!/[^\n]+$"), Form("a line that starts with #!/")]


def _words(value: Any) -> Any:
    words = shlex.split(value) if isinstance(value, str) else value
    if words == [] or words == ():
        raise ValueError("names no interpreter; leave it out for the one that submits")
    return words


Interpreter = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[^\n]+$")], ...],
    BeforeValidator(_words),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    Form("a command, as a line or a list of words"),
]


class JobSpec(Section):
    """One kind of batch job, by those of dask-jobqueue's keys that a site has to choose.

    Attributes
    ----------
    queue : str, optional
        Slurm's partition. Example: ``cpu``.
    account : str, optional
        Slurm's account; null where the site has none. Example: ``galaxies``.
    cores : int
        Of a job; its processes share them, and each does one task at a time with cores / processes threads.
    processes : int
        Worker processes of a job.
    memory : size
        Of a job; each process needs 1GiB at least. Example: ``16GiB``.
    walltime : str
        Slurm's limit of time for a job.
    python : tuple of str, optional
        The interpreter on the nodes, as a line or a list of words: a path, or a command that starts it in a container;
        by default the one that submits. Example: ``apptainer exec --nv /shared/swimmy.sif python``.
    interface : str, optional
        Network interface of the workers. Example: ``ib0``.
    local_directory : str, optional
        Fast scratch of a node; may contain variables of the job. Example: ``$TMPDIR``.
    shebang : str
        First line of the job script.
    job_cpu : int, optional
        CPUs to ask Slurm for, where they are not ``cores``. Example: ``32``.
    job_mem : str, optional
        Memory to ask Slurm for, where it is not ``memory``. Example: ``64G``.
    job_script_prologue : tuple of str
        Lines before the worker starts. Example: ``[module load python/3.12]``.
    job_extra_directives : tuple of str
        #SBATCH options to add. Example: ``["--gres=gpu:a100:1"]``.
    job_directives_skip : tuple of str
        #SBATCH options to leave out, each by a part of its line. Example: ``["--mem"]``.
    worker_extra_args : tuple of str
        Further options of Dask's workers. Example: ``["--lifetime", 55m]``.
    death_timeout : float
        Seconds after which a worker that finds no scheduler leaves.
    """

    queue: Word | None = None
    account: Word | None = None
    cores: int = Field(default=1, ge=1)
    processes: int = Field(default=1, ge=1)
    memory: ByteSize = ByteSize(4 << 30)
    walltime: Walltime = "01:00:00"
    python: Interpreter | None = None
    interface: Word | None = None
    local_directory: Word | None = None
    shebang: Shebang = "#!/usr/bin/env bash"
    job_cpu: int | None = Field(default=None, ge=1)
    job_mem: Word | None = None
    job_script_prologue: tuple[str, ...] = ()
    job_extra_directives: tuple[str, ...] = ()
    job_directives_skip: tuple[str, ...] = ()
    worker_extra_args: tuple[str, ...] = ()
    death_timeout: float = Field(default=60.0, ge=10)

    @property
    def interpreter(self) -> tuple[str, ...]:
        """The words that start Python on a node."""
        return self.python or (sys.executable,)

    @property
    def qos(self) -> str | None:
        """The quality of service that its directives ask for."""
        found = re.search(r"^(?:--qos[= ]|-q)\s*(\S+)", "\n".join(self.job_extra_directives), re.MULTILINE)
        return found[1] if found else None

    @property
    def asks_memory(self) -> bool:
        """Whether its script asks Slurm for memory: not where ``job-directives-skip`` leaves ``--mem`` out."""
        return not any(part in f"#SBATCH --mem={self.job_mem or ''}" for part in self.job_directives_skip)

    @field_validator("walltime", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if isinstance(value, int):
            raise ValueError("YAML takes 24:00:00 for a number: put the walltime in quotes")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.processes > self.cores:
            raise ValueError(f"{self.processes} processes need as many cores, found cores: {self.cores}")
        if self.memory < MIN_MEMORY_BYTES * self.processes:
            raise ValueError(
                f"memory {self.memory.human_readable()} for {self.processes} processes: each needs 1GiB at least"
            )
        if walltime_seconds(self.walltime) < 60:
            raise ValueError(f"walltime {self.walltime} is less than a minute, Slurm's smallest limit")
        for line in (*self.job_extra_directives, *self.job_script_prologue, *self.worker_extra_args):
            # What follows it would be a line of its own in the job script.
            if "\n" in line or "\r" in line:
                raise ValueError(f"a line holds a line break: {line!r}; make it two")
        if any(re.match(r"--requeue\b", line) for line in self.job_extra_directives):
            raise ValueError("leave out --requeue: a worker job that is lost is replaced by a new one")
        return self


class GroupSection(Section):
    """How many worker jobs of a kind.

    Attributes
    ----------
    jobs : int
        Worker jobs. Example: ``4``.
    gpus : int
        Of a job, which has one process for each.
    """

    jobs: int = Field(ge=1)
    gpus: int = Field(default=0, ge=0)


class SiteSection(Section):
    """What dask-jobqueue has no words for.

    Attributes
    ----------
    format_version : int
        Of the file.
    kind : str
        ``local``: this machine. ``slurm``: batch jobs. Example: ``slurm``.
    workers : int, optional
        Processes on this machine; only for ``local``. By default one per core, as far as the memory goes.
        Example: ``8``.
    groups : dict of str to GroupSection
        Groups of worker jobs; only for ``slurm``. Each is described under its name in ``jobqueue``.
        Example: ``{cpu: {jobs: 4}, gpu: {jobs: 2, gpus: 1}}``.
    scorer : str
        ``keras``: TensorFlow, JAX or PyTorch, on a GPU if there is one. ``numba``: CPUs only, 1.3 to 1.9 times as fast
        there; scores differ in the last digits. ``auto``: keras where the workers that score have a GPU, else numba; a
        run keeps the one that it began with.
    scheduler_interface : str, optional
        Network interface of the driver's node that the workers reach. Example: ``ib0``.
    dashboard : bool
        Whether Dask's dashboard can be seen on the driver's node, under its loopback address. It has no password: every
        user of that node can look at it. Example: `true`.
    poll_seconds : float
        Between two questions to Slurm about the worker jobs.
    signal_seconds : int
        How long before the end of its walltime the driver stops and submits itself again.
    """

    format_version: Literal[1] = 1
    kind: Literal["local", "slurm"]
    workers: int | None = Field(default=None, ge=1)
    groups: dict[GroupName, GroupSection] = Field(default_factory=dict)
    scorer: ScorerChoice = "auto"
    scheduler_interface: Word | None = None
    dashboard: bool = False
    poll_seconds: float = Field(default=5.0, ge=0.2, le=300)
    signal_seconds: int = Field(default=120, ge=10)


class SiteFile(Section):
    """A whole site file. Keys may be written with dashes or with underscores.

    Attributes
    ----------
    swimmy_scale : SiteSection
        How many jobs each group has, and what dask-jobqueue has no words for. Example: ``{kind: local}``.
    jobqueue : dict of str to JobSpec
        One section for each group of workers, under its name, and one called ``driver``, in dask-jobqueue's keys; only
        for ``slurm``. What all jobs have in common stands in ``slurm``. Example: ``{driver: {}, cpu: {cores: 16}}``.
    """

    swimmy_scale: SiteSection
    jobqueue: dict[str, JobSpec] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_base(cls, content: Any) -> Any:
        sections = content.get("jobqueue") if isinstance(content, dict) else None
        if not isinstance(sections, dict) or not isinstance(sections.get(BASE, {}), dict):
            return content
        base = {_kebab(str(key)): value for key, value in sections.get(BASE, {}).items()}
        merged = {
            name: {**base, **{_kebab(str(key)): value for key, value in own.items()}} if isinstance(own, dict) else own
            for name, own in sections.items()
            if name != BASE
        }
        return {**content, "jobqueue": merged}


@dataclass(frozen=True)
class Group:
    """One group of workers: its number of jobs, and what each is like."""

    name: str
    jobs: int
    gpus: int
    spec: JobSpec

    @property
    def n_threads(self) -> int:
        """Threads of one worker process."""
        return self.spec.cores // self.spec.processes


@dataclass(frozen=True)
class Site:
    """A validated site."""

    path: Path  # the file that it was read from
    section: SiteSection
    driver: JobSpec
    groups: tuple[Group, ...]  # empty for ``local``

    @property
    def is_slurm(self) -> bool:
        return self.section.kind == "slurm"

    def groups_for(self, wants_gpu: bool) -> tuple[Group, ...]:
        """The groups that do a stage: with GPUs if it wants them, else without; all groups if they are of one kind."""
        chosen = tuple(group for group in self.groups if bool(group.gpus) == wants_gpu)
        return chosen or self.groups

    @property
    def on_gpu(self) -> bool:
        """Whether the groups that run the network on Keras have GPUs; False for ``local``."""
        return bool(self.groups) and all(group.gpus for group in self.groups_for(True))

    def scoring_threads(self, scorer: ScorerName) -> int:
        """Threads of a scoring process, in the group with the fewest that scores."""
        return min(group.n_threads for group in self.groups_for(scorer == "keras"))

    @property
    def memory_limits(self) -> MemoryLimits:
        """Memory of a worker process, for each kind of stage in the group with the least that does it."""

        def least(wants_gpu: bool) -> int:
            return min(int(group.spec.memory) // group.spec.processes for group in self.groups_for(wants_gpu))

        remedy = "raise memory of its jobs, or lower their processes"
        return MemoryLimits(least(False), least(True), str(self.path), remedy, self.on_gpu)


def _misfits(file: SiteFile) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where sections contradict each other: the key, and what to do."""
    site, where = file.swimmy_scale, "swimmy-scale"
    if site.kind == "local":
        for key, there in (((where, "groups"), site.groups), (("jobqueue",), file.jobqueue)):
            if there:
                yield key, "kind local has no batch jobs; leave this out, or set kind: slurm"
        return
    if site.workers is not None:
        yield (where, "workers"), "is for kind local; give kind slurm groups of jobs"
    if not site.groups:
        yield (where, "groups"), "kind slurm needs at least one group of workers"
    for name in sorted({DRIVER, *site.groups} - set(file.jobqueue)):
        yield ("jobqueue",), f"has no section {name}; describe that job there"
    for name in sorted(set(file.jobqueue) - {DRIVER, *site.groups}):
        yield ("jobqueue", name), f"belongs to no group; name it in {where}.groups, or leave it out"
    for name, group in site.groups.items():
        if name in (DRIVER, BASE):
            yield (where, "groups", name), "is not free as the name of a group; choose another"
        elif group.gpus and name in file.jobqueue and file.jobqueue[name].processes != group.gpus:
            of = "a GPU is one process" if group.gpus == 1 else f"{group.gpus} GPUs is {group.gpus} processes, one each"
            yield ("jobqueue", name, "processes"), f"a job with {of}; set it to {group.gpus}"
    driver = file.jobqueue.get(DRIVER, JobSpec())
    if walltime_seconds(driver.walltime) <= site.signal_seconds + 60:
        yield (
            ("jobqueue", DRIVER, "walltime"),
            f"{driver.walltime} leaves no time to work before its last {site.signal_seconds} s (signal-seconds)",
        )


def parse_site(text: str, path: Path) -> Site:
    """Validate the text of a site file.

    Raises
    ------
    SwimmyError
        With every fault: its line, key and value, and what is allowed.
    """
    file = parse(text, path, SiteFile, "site")
    if misfits := list(_misfits(file)):
        raise SwimmyError("\n".join(describe(text, path, where, message) for where, message in misfits))
    section = file.swimmy_scale
    groups = tuple(
        Group(name=name, jobs=group.jobs, gpus=group.gpus, spec=file.jobqueue[name])
        for name, group in section.groups.items()
    )
    return Site(path=path, section=section, driver=file.jobqueue.get(DRIVER, JobSpec()), groups=groups)


def load_site(path: Path) -> Site:
    """Read and validate a site file (see `parse_site`)."""
    return parse_site(read_text(path, "site"), path.absolute())
