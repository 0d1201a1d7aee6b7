"""What studies share: the program's command line, and the name of the processor."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any


def swimmy(*arguments: Any) -> list[str]:
    """A ``swimmy-scale`` command line of this interpreter."""
    return [sys.executable, "-m", "swimmy_scale", *(str(argument) for argument in arguments)]


def processor() -> str:
    """What the machine calls its processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
