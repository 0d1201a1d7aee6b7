"""What of a machine changes the last digits of scores: the instruction set, and settings that name another one."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

from swimmy_scale.method.sections import ScorerName

_LEVELS = {"AVX-512": ("avx512f",), "AVX2": ("avx2", "fma"), "AVX": ("avx",)}
_SETTINGS: dict[ScorerName, tuple[str, ...]] = {
    "keras": ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS"),
    "numba": ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS"),
}


@functools.cache
def instruction_set(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The machine and the widest vectors that its processor has, such as ``x86_64 with AVX-512``."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    level = next((name for name, needed in _LEVELS.items() if set(needed) <= set(flags)), "")
    return f"{platform.machine()} with {level}" if level else platform.machine()


def processor_of(scorer: ScorerName) -> str:
    """The instruction set, and the settings of the environment by which a scorer would use another one."""
    settings = [f"{name}={os.environ[name]}" for name in _SETTINGS[scorer] if os.environ.get(name)]
    return ", ".join([instruction_set(), *settings])
