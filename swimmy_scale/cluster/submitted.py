"""A note of the batch jobs that were submitted for a run directory: Slurm forgets them minutes after their end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from swimmy_scale.storage.files import read_text, write_json
from swimmy_scale.storage.run_directory import LogFolder

FORMAT_VERSION = 1
MOST_NOTED = 100
"""The latest are kept."""


@dataclass(frozen=True)
class SubmittedJob:
    """A job that was submitted by a command of ours, not by another job."""

    what: str  # ``driver``, or the name of a command
    job_id: str
    name: str  # which Slurm knows it by
    submitted: str  # when, in UTC


def read_submitted(log: LogFolder) -> list[SubmittedJob]:
    """All that were noted, the earliest first; none where there is no note that can be read."""
    try:
        content = json.loads(read_text(log.submitted))
        if content["format_version"] != FORMAT_VERSION:
            return []
        return [SubmittedJob(**job) for job in content["jobs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def note_submitted(log: LogFolder, what: str, name: str, job_ids: Iterable[str]) -> None:
    """Add jobs to the note."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    jobs = [*read_submitted(log), *(SubmittedJob(what, job_id, name, now) for job_id in job_ids)]
    write_json(log.submitted, {"format_version": FORMAT_VERSION, "jobs": [asdict(job) for job in jobs[-MOST_NOTED:]]})
