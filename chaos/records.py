"""What a campaign is, and the JSON that keeps how far it is: seeded, written as it goes, and resumed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaos.lab import Lab

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "chaos" / "results"
FORMAT_VERSION = 2
SECONDS_BETWEEN_WRITES = 5.0


@dataclass
class Outcome:
    """What one trial came to.

    Attributes
    ----------
    tried : int
        How many things were tried: a trial may be a batch.
    failures : list of dict
        One for each that went wrong: ``what``, and whatever helps to understand it.
    counts : Counter
        How many of each sort were tried, and how they ended.
    """

    tried: int = 1
    failures: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def expect(self, good: bool, what: str, **details: Any) -> bool:
        """Note a failure unless ``good``."""
        if not good:
            self.failures.append({"what": what, **details})
        return good


@dataclass(frozen=True)
class Campaign:
    """A way to try the program, and how often.

    Attributes
    ----------
    name : str
    title, unit : str
        For the page: a heading, and what is counted.
    says : str
        For the page: what is done, and what must hold then.
    trial : callable
        Does trial ``k`` of a lab, by a generator of random numbers of its own.
    hour, small : int
        Trials of `make chaos` and of `make test`.
    full : int
        Trials of the whole count.
    needs : callable
        Why it cannot be done on this machine; empty if it can.
    """

    name: str
    title: str
    unit: str
    says: str
    trial: Callable[[Lab, int, random.Random], Outcome]
    hour: int
    small: int
    full: int
    needs: Callable[[], str] = lambda: ""


@cache
def program_digest() -> str:
    """Digest of the program's sources, twelve digits: results are of one program."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "swimmy_scale").rglob("*")):
        if path.suffix in (".py", ".j2", ".css", ".js"):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@dataclass
class Record:
    """How far a campaign is, as its JSON file says it.

    ``next`` is the first trial that is not done, ``wanted`` the number of trials asked for, ``right`` those tried that
    did not fail. ``programs`` are the digests of the versions that were tried, the last one last, each with what it had
    to stand. ``mended`` are failures of earlier versions whose trials were right with a later one. ``skipped`` says why
    nothing could be tried here.
    """

    campaign: str
    seed: int
    wanted: int
    programs: dict[str, int] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    next: int = 0
    tried: int = 0
    right: int = 0
    seconds: float = 0.0
    skipped: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    mended: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record in a file, or None if there is none; ends with a message if another version has written it."""
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        if found.get("format_version") != FORMAT_VERSION:
            raise SystemExit(
                f"{path}: format_version {found.get('format_version')!r}, this version reads {FORMAT_VERSION}. "
                "Remove the file, and the campaign begins anew."
            )
        return cls(**found)

    def write(self, path: Path) -> None:
        """Write it, so that a reader sees the old one or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        body = {**asdict(self), "counts": dict(sorted(self.counts.items()))}
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(body, indent=1, default=str) + "\n")
        part.replace(path)

    def is_of(self, seed: int, program: str, go_on: bool) -> bool:
        """Whether more trials may be added: of the same seed and program, or to those of another one."""
        return self.seed == seed and (go_on or [program] == list(self.programs)[-1:])

    def take_back(self, k: int) -> None:
        """Forget a trial that failed, so that it can be added once more."""
        failed = [failure for failure in self.failures if failure["trial"] == k]
        n_tried = failed[0]["of"]
        self.failures = [failure for failure in self.failures if failure["trial"] != k]
        self.mended += failed
        self.tried -= n_tried
        self.right -= n_tried - min(len(failed), n_tried)
        self.programs[failed[0]["program"]] -= n_tried

    def add(self, outcome: Outcome, k: int, program: str) -> None:
        """Add a trial up."""
        self.next = max(self.next, k + 1)
        self.tried += outcome.tried
        self.programs[program] = self.programs.pop(program, 0) + outcome.tried
        self.right += outcome.tried - min(len(outcome.failures), outcome.tried)
        self.counts = dict(Counter(self.counts) + outcome.counts)
        again = f"python -m chaos {self.campaign} --seed {self.seed} --only {k}"
        found = {"trial": k, "of": outcome.tried, "program": program, "repeat": again}
        self.failures += [{**failure, **found} for failure in outcome.failures]
        if outcome.failures:
            self.mended = [failure for failure in self.mended if failure["trial"] != k]


def numbers_of(campaign: Campaign, seed: int, k: int) -> random.Random:
    """The random numbers of one trial: they depend on no other trial, so each can be repeated alone."""
    return random.Random(f"{campaign.name} {seed} {k}")


def carry_out(
    campaign: Campaign,
    lab: Lab,
    seed: int,
    wanted: int,
    results: Path,
    deadline: float,
    say: Callable[[str], None],
    go_on: bool = False,
) -> Record:
    """Do the trials of a campaign that are not done yet, until a time of the monotonic clock; returns its record.

    A record of another seed or another program begins anew; with ``go_on`` one adds to that of another program, and
    tries first what failed with that.
    """
    path, program = results / f"{campaign.name}.json", program_digest()
    record = Record.read(path)
    if record is None or not record.is_of(seed, program, go_on):
        record = Record(campaign.name, seed, wanted)
    record.wanted, record.skipped = max(wanted, record.next), campaign.needs()
    written = began = time.monotonic()
    before = record.seconds
    again = sorted({failure["trial"] for failure in record.failures if failure["program"] != program})
    while not record.skipped and (again or record.next < wanted) and time.monotonic() < deadline:
        k, is_again = (again.pop(0), True) if again else (record.next, False)
        try:
            outcome = campaign.trial(lab, k, numbers_of(campaign, seed, k))
        except Exception as error:  # a fault of the campaign itself is a failure that somebody must look at
            outcome = Outcome(failures=[{"what": f"the trial itself failed: {type(error).__name__}: {error}"}])
        if is_again:
            record.take_back(k)
        record.add(outcome, k, program)
        record.seconds = round(before + time.monotonic() - began, 1)
        for failure in outcome.failures:
            say(f"{campaign.name} {k}: {json.dumps(failure, default=str)[:700]}")
        if time.monotonic() - written > SECONDS_BETWEEN_WRITES:
            record.write(path)
            written = time.monotonic()
    record.write(path)
    return record
