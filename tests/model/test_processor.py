"""What a machine is called whose last digits may differ from another's."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from swimmy_scale.model.processor import instruction_set, processor_of

MACHINE = platform.machine()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("fpu sse2 avx avx2 fma avx512f avx512bw", f"{MACHINE} with AVX-512"),
        ("fpu sse2 avx avx2 fma", f"{MACHINE} with AVX2"),
        ("fpu sse2 avx avx2", f"{MACHINE} with AVX"),
        ("fpu sse2 avx512fp16", MACHINE),
    ],
)
def test_the_widest_vectors(tmp_path: Path, flags: str, said: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: X\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert instruction_set(tmp_path / "cpuinfo") == said


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert instruction_set(tmp_path / "absent") == MACHINE


def test_settings_that_change_the_digits_belong_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS", "DNNL_MAX_CPU_ISA", "NUMBA_CPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    plain = processor_of("keras")
    assert plain == instruction_set()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert processor_of("keras") == f"{plain}, ONEDNN_MAX_CPU_ISA=SSE41, XLA_FLAGS=--xla_cpu_enable_fast_math=true"
    assert processor_of("numba") == plain
