"""The driver of a run as a batch job: submitted, never two at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from swimmy_scale.cluster import slurm
from swimmy_scale.cluster.executors import scorer_for
from swimmy_scale.cluster.scripts import Places, driver_script, worker_scripts, write_scripts
from swimmy_scale.cluster.site import Site
from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.job import Job
from swimmy_scale.stages.run import Run, freeze_inputs
from swimmy_scale.stages.scorer_choice import kept_by_run
from swimmy_scale.storage.files import write_atomically


@dataclass(frozen=True)
class Submission:
    """A job that is to be submitted at a site."""

    job: Job
    site: Site
    run: Path  # the run directory, absolute
    n_chained: int = 1  # drivers to submit, which run one after the other

    def __post_init__(self) -> None:
        if not self.site.is_slurm:
            raise SwimmyError(
                f"{self.site.path}: kind {self.site.section.kind} has no batch jobs. Use "
                f"`{typed('run', '--site')}`, or a site file of kind slurm."
            )

    @property
    def _places(self) -> Places:
        return Places(self.run)

    def scripts(self) -> dict[Path, str]:
        """The texts of all job scripts, by the paths that they are submitted from."""
        places = self._places
        command = [self.site.driver.python or sys.executable, "-m", "swimmy_scale", "run"]
        command += [str(places.directory.job_file), "--output", str(self.run), "--site", str(places.log.site)]
        driver = driver_script(self.site, places, command, chained=self.n_chained > 1)
        return {places.log.script("driver"): driver, **worker_scripts(self.site, places)}

    def submit(self) -> list[str]:
        """Submit the drivers; their job ids.

        Raises
        ------
        SwimmyError
            When a driver of this run is in the queue or runs, when an input is missing, when Slurm refuses a job of
            the site.
        """
        places = self._places
        present = [job for job in slurm.queued(places.tag).values() if job.name == places.tag]
        if present:
            raise SwimmyError(
                f"{self.run} has a driver already: job {present[0].job_id}, {present[0].state}. Follow it with "
                f"`{typed('status', self.run)}`, or end it with `scancel --name={places.tag}` first."
            )
        scripts, site = self.scripts(), self.site
        scorer = scorer_for(site.section.scorer, kept_by_run(places.directory), site)
        run = Run(places.directory, self.job, site.scoring_threads(scorer), site.memory_limits, scorer).as_frozen()
        with places.directory.lock():
            # The stage itself looks at the catalogue, but that would be in a job that has waited in the queue.
            freeze_inputs(run, with_catalogue=True)
            write_scripts(site, places)
            write_atomically(places.log.site, site.path.read_bytes())
            write_atomically(places.log.script("driver"), scripts[places.log.script("driver")].encode())
        for script in scripts:
            try:
                slurm.submit(script, ["--test-only"])
            except slurm.SlurmError as error:
                hint = ""
                if "memory" in str(error).lower():
                    hint = " Where Slurm does not manage memory, job-directives-skip: [--mem] leaves it out."
                raise SwimmyError(f"{error}. Correct {self.site.path} and submit again.{hint}") from error
        job_ids: list[str] = []
        try:
            for _ in range(self.n_chained):
                job_ids.append(slurm.submit(places.log.script("driver")))
        except slurm.SlurmError:
            slurm.cancel(job_ids)
            raise
        return job_ids
