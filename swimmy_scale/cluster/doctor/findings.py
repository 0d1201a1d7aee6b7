"""What a check finds: ok, a warning or a problem, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

JSON_VERSION = 1


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str  # what was checked
    state: Literal["ok", "warning", "problem"]
    text: str  # what was found, with the numbers
    remedy: str = ""  # what to do about it; empty for ``ok``

    def line(self) -> str:
        return f"{self.state:<8} {self.name:<11} {self.text}{'. ' + self.remedy if self.remedy else ''}"


def ok(name: str, text: str) -> Finding:
    return Finding(name, "ok", text)


def warning(name: str, text: str, remedy: str) -> Finding:
    """A finding of something that works less well, or perhaps not."""
    return Finding(name, "warning", text, remedy)


def problem(name: str, text: str, remedy: str) -> Finding:
    """A finding of something that will not work."""
    return Finding(name, "problem", text, remedy)


def is_fit(findings: Iterable[Finding]) -> bool:
    """Whether no finding is a problem."""
    return all(finding.state != "problem" for finding in findings)


def verdict(findings: Iterable[Finding]) -> str:
    """All findings in one line."""
    states = [finding.state for finding in findings]
    n_problems, n_warnings = states.count("problem"), states.count("warning")
    warned = f", {n_warnings} warning{'s' if n_warnings != 1 else ''}" if n_warnings else ""
    if n_problems:
        return f"not fit: {n_problems} problem{'s' if n_problems != 1 else ''}{warned}. Mend them, then look again."
    return f"fit{warned}"


def to_json(findings: Iterable[Finding]) -> dict[str, Any]:
    """All findings for scripts."""
    found = list(findings)
    return {"format_version": JSON_VERSION, "fit": is_fit(found), "checks": [asdict(finding) for finding in found]}
