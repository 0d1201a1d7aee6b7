"""Numbers and times as people read them."""

from __future__ import annotations

import math

from swimmy_scale.method.words import counted

__all__ = ["counted", "duration", "number"]


def number(value: float | None) -> str:
    """Whole numbers with separators, others with five digits; a dash for None and for what is not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def duration(seconds: float, digits: int = 0) -> str:
    """``1 h 02 min``, ``3 min 05 s``, ``12 s``; ``digits`` are those after the point below a minute."""
    if digits and seconds < 60:
        return f"{seconds:.{digits}f} s"
    whole = max(int(seconds + 0.5), 0)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
