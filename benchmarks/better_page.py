"""``docs/better.md`` from ``benchmarks/results/better.json`` alone."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "better.json"


def page() -> str:
    return ""
