"""What is to be added to a run, and what would come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.job import Job
from swimmy_scale.method.job_paths import absolute_paths, written_as
from swimmy_scale.stages.run import Run
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import RunDirectory, cutouts_ledger


@dataclass(frozen=True)
class Addable:
    """A run directory that something can be added to, and its job."""

    directory: RunDirectory
    job: Job

    @classmethod
    def at(cls, path: Path) -> Addable:
        """The run directory at ``path``.

        Raises
        ------
        SwimmyError
            When it is none, when it reads the cutouts of another one, takes tables of spectra, or is not ingested.
        """
        directory = RunDirectory.existing(path)
        job = directory.frozen_job() or directory.load_job()
        if job.cutouts is not None:
            owner = cutouts_ledger(job.cutouts).root
            raise SwimmyError(
                f"{path} reads {job.cutouts}, which it did not ingest. Add to the run that did ({owner}), then give "
                "this run's job again: it scores what is new."
            )
        if job.spectroscopy is not None:
            raise SwimmyError(
                f"{path}: its job has a section spectroscopy, and additions would not be matched. Run a job of all "
                "objects in another --output."
            )
        if directory.ledger("ingest").read(FINISHED) is None and not job.additions:
            raise SwimmyError(
                f"{path}: its ingest is not finished. Finish it first: "
                f"`{typed('run', directory.job_file, '--output', path)}`"
            )
        return cls(directory, job)

    def with_addition(
        self, catalogue: Path | None, patch_qa: Path | None, sources: Sequence[Path], name: str | None
    ) -> tuple[Job, bool]:
        """The job with one addition more, and whether it is new; one that the run has not finished is not.

        Relative paths are relative to the working directory, and stay relative in the run's job.
        """
        section: dict[str, object] = {"ingest": {"sources": [str(path) for path in sources]}}
        if catalogue is not None:
            section["catalogue"] = {"path": str(catalogue), **({"patch_qa": str(patch_qa)} if patch_qa else {})}
        additions = self.job.additions
        if additions and not Run(self.directory, self.job, 1).is_finished("picture"):
            again = self._extended(additions[:-1], {"name": name or additions[-1].name, **section})
            if again.additions == additions:
                return self.job, False
            raise SwimmyError(
                f"{self.directory.path}: the addition {additions[-1].name} is not finished. Finish it first: "
                f"`{typed('run', self.directory.job_file, '--output', self.directory.path)}`"
            )
        name = name or f"addition-{len(additions) + 1}"
        if any(name == addition.name for addition in additions):
            raise SwimmyError(f"{self.directory.path}: there is an addition {name} already. Give another --name.")
        return self._extended(additions, {"name": name, **section}), True

    def _extended(self, before: Sequence[object], section: dict[str, object]) -> Job:
        content = self.job.model_dump(mode="json")
        content["additions"] = [*content["additions"][: len(before)], section]
        # All other paths are absolute by now, and are relative to the run's job if they were given so.
        return written_as(absolute_paths(Job.model_validate(content), Path.cwd()), self.job)

    def look_ahead(self, job: Job) -> str:
        """What the last addition of a job brings, in words; nothing is written.

        Raises
        ------
        SwimmyError
            When a path is not there, nothing of it is new, or it does not fit the run.
        """
        ingest, addition = Run(self.directory, job, 1).ingest, job.additions[-1]
        named = addition.catalogue.path if addition.catalogue else None
        paths = [*addition.ingest.sources, *([named] if named else [])]
        if missing := [str(path) for path in paths if not path.exists()]:
            raise SwimmyError(f"{', '.join(missing)}: not there. Correct the path.")
        if ingest is None:
            raise SwimmyError(f"{self.directory.path}: its job has no ingest. Add to the run that has.")
        taken = ingest.growth().taken(len(job.additions))
        if len(taken.decision.duplicates) == len(taken.objects):
            raise SwimmyError(
                f"{ingest.deliveries[-1].named}: all {len(taken.objects):,} objects are in the run with "
                "usable pixels. There is nothing to add."
            )
        return f"addition {addition.name}: {taken.words}"
