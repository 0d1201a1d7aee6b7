"""The batch jobs of a run directory by name, and where their files lie; it needs no Dask."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage.run_directory import LogFolder, RunDirectory


@dataclass(frozen=True)
class Places:
    """The batch jobs of a run directory: their names, and where their files lie."""

    run: Path  # absolute, and on the file system that nodes share

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w./+@:,=-]+", str(self.run)):
            raise SwimmyError(
                f"{self.run}: a run directory for Slurm has only letters, digits and ./+@:,=-_ in its path, because "
                "it stands in job scripts. Choose another --output."
            )

    @property
    def tag(self) -> str:
        """What the names of all jobs of this run start with."""
        return f"swimmy-{hashlib.sha256(str(self.run).encode()).hexdigest()[:8]}"

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.run)

    @property
    def log(self) -> LogFolder:
        return self.directory.log

    def job_name(self, name: str) -> str:
        """Of the jobs of a group of workers; a driver that starts or ends cancels those."""
        return f"{self.tag}-{name}"

    def command_name(self, name: str) -> str:
        """Of the job of another command."""
        return f"{self.tag}.{name}"
