"""The driver of a run as a batch job: submitted, never two at once. And other commands as batch jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.doctor.findings import Finding
from swimmy_scale.cluster.doctor.interpreter import check_interpreters
from swimmy_scale.cluster.doctor.slurm_site import check_jobs
from swimmy_scale.cluster.executors import scorer_for
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.scripts import command_script, driver_script, worker_script, write_scripts
from swimmy_scale.cluster.site import DRIVER, Group, Site
from swimmy_scale.cluster.submitted import note_submitted
from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.job import Job
from swimmy_scale.stages.run import Run, freeze_inputs
from swimmy_scale.stages.scorer_choice import kept_by_run
from swimmy_scale.storage.files import write_atomically

log = logging.getLogger("swimmy_scale")


def check_batch(site: Site) -> None:
    """Raise a SwimmyError unless a site has batch jobs."""
    if not site.is_slurm:
        raise SwimmyError(
            f"{site.path}: kind {site.section.kind} has no batch jobs. Use a site file of kind slurm, or give the "
            f"command on this machine: `{typed('run', '--site')}`, others without --site."
        )


def refuse_problems(site: Site, findings: Iterable[Finding], unchecked: bool) -> None:
    """Raise a SwimmyError that names every problem that is found, or only tell them if ``unchecked``.

    Warnings, such as of what Slurm could not be asked, are told and no failure.
    """
    problems = []
    for found in findings:
        if found.state == "problem" and not unchecked:
            problems.append(f"  {found.text}. {found.remedy}")
        elif found.state != "ok":
            log.warning(f"{found.state}: {found.text}. {found.remedy}")
    if problems:
        lines = "\n".join(problems)
        raise SwimmyError(
            f"{site.path}: jobs of this site would never start, so nothing was submitted:\n{lines}\n"
            f"Correct {site.path} and submit again; --unchecked submits all the same."
        )


@dataclass(frozen=True)
class Submission:
    """A job that is to be submitted at a site."""

    job: Job
    site: Site
    run: Path  # the run directory, absolute
    n_chained: int = 1  # drivers to submit, which run one after the other
    unchecked: bool = False  # whether a problem that the checks find is only told
    try_left_out: bool = False  # whether objects that ended workers are tried again

    def __post_init__(self) -> None:
        check_batch(self.site)

    @property
    def _places(self) -> Places:
        return Places(self.run)

    def scripts(self) -> dict[str, str]:
        """The texts of all job scripts, by the names of their kinds: the driver, and each group of workers."""
        places, site = self._places, self.site
        command = [*site.driver.interpreter, "-m", "swimmy_scale", "run", str(places.directory.job_file)]
        command += ["--output", str(self.run), "--site", str(places.log.site)]
        driver = driver_script(site, places, command, chained=self.n_chained > 1)
        return {DRIVER: driver, **{group.name: worker_script(group, places) for group in site.groups}}

    def printed(self) -> dict[Path, str]:
        """The same, by the paths that they are submitted from."""
        return {self._places.log.script(name): text for name, text in self.scripts().items()}

    def submit(self) -> list[str]:
        """Submit the drivers; their job ids.

        Raises
        ------
        SwimmyError
            When a driver of this run is in the queue or runs, when jobs of the site would never start, when an input is
            missing, when Slurm refuses a job. Nothing is written then.
        """
        places = self._places
        present = [job for job in slurm.queued(places.tag).values() if job.name == places.tag]
        if present:
            raise SwimmyError(
                f"{self.run} has a driver already: job {present[0].job_id}, {present[0].state}. Follow it with "
                f"`{typed('status', self.run)}`, or end it with `scancel --name={places.tag}` first."
            )
        scripts, site = self.scripts(), self.site
        refuse_problems(site, _found(site, scripts), self.unchecked)
        scorer = scorer_for(site.section.scorer, kept_by_run(places.directory), site)
        run = Run(places.directory, self.job, site.scoring_threads(scorer), site.memory_limits, scorer).as_frozen()
        with places.directory.lock():
            # The stage itself looks at the catalogue, but that would be in a job that has waited in the queue.
            freeze_inputs(run, with_catalogue=True, try_left_out=self.try_left_out)
            write_scripts(site, places)
            write_atomically(places.log.site, site.path.read_bytes())
            write_atomically(places.log.script(DRIVER), scripts[DRIVER].encode())
        job_ids: list[str] = []
        try:
            for _ in range(self.n_chained):
                job_ids.append(slurm.submit(places.log.script(DRIVER)))
        except slurm.SlurmError:
            slurm.cancel(job_ids)
            raise
        note_submitted(places.log, DRIVER, places.tag, job_ids)
        return job_ids


def _found(site: Site, scripts: Mapping[str, str]) -> Iterable[Finding]:
    yield from check_interpreters(site)
    yield from check_jobs(site, scripts)


@dataclass(frozen=True)
class CommandJob:
    """A command of the program that is to be done by one job of a site, on a node without a GPU if it has such.

    Its script, its log and the note of its submission lie in the log of ``folder``.
    """

    site: Site
    folder: Path  # absolute: the run directory that the command reads, or what it makes
    name: str  # of the command, such as report
    arguments: Sequence[str]  # with absolute paths

    def __post_init__(self) -> None:
        check_batch(self.site)

    @property
    def _group(self) -> Group:
        return self.site.groups_for(wants_gpu=False)[0]

    def script(self) -> str:
        """The text of its job script."""
        words = [*self._group.spec.interpreter, "-m", "swimmy_scale", self.name, *self.arguments]
        return command_script(self._group, Places(self.folder), self.name, words)

    def submit(self) -> str:
        """Submit it; the job id.

        Raises
        ------
        SwimmyError
            When it would never start, or Slurm refuses it. Nothing is written then.
        """
        places, script = Places(self.folder), self.script()
        refuse_problems(self.site, _found(self.site, {self._group.name: script}), unchecked=False)
        write_atomically(places.log.script(self.name), script.encode())
        job_id = slurm.submit(places.log.script(self.name))
        note_submitted(places.log, self.name, places.command_name(self.name), [job_id])
        return job_id
