"""What studies share with the benchmarks: the program's command line, and the name of the processor."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
from measure import processor, swimmy

__all__ = ["processor", "swimmy"]
