"""What a test expects of a finding of the doctor."""

from __future__ import annotations

from swimmy_scale.cluster.doctor.findings import Finding


def expect(finding: Finding, state: str, *words: str) -> None:
    """One line, with these words, and a remedy unless all is well."""
    line = finding.line()
    assert finding.state == state, line
    assert "\n" not in line
    assert all(word in line for word in words), line
    assert bool(finding.remedy) == (state != "ok"), line
