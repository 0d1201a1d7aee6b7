"""The doctor: each check tells health from illness, names the remedy, and leaves nothing behind."""

from __future__ import annotations

import importlib.metadata
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from expected_findings import expect

from swimmy_scale.cli import main
from swimmy_scale.cluster import executors
from swimmy_scale.cluster.doctor import checks, connections, folders, machine
from swimmy_scale.cluster.doctor.findings import Finding, is_fit, ok, problem, to_json, verdict, warning
from swimmy_scale.cluster.doctor.tensorflow_devices import check_tensorflow
from swimmy_scale.cluster.site import load_site, parse_site
from swimmy_scale.stages.memory import default_worker_bytes

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30
SITE = ROOT / "cluster" / "slurm-gpu.yaml"


# ---------------------------------------------------------------- findings


def test_verdicts() -> None:
    fine, less, ill = ok("a", "x"), warning("b", "y", "Do this"), problem("c", "z", "Do that")
    assert verdict([fine]) == "fit"
    assert verdict([fine, less]) == "fit, 1 warning"
    assert verdict([less, less, ill]).startswith("not fit: 1 problem, 2 warnings. Mend")
    assert is_fit([fine, less])
    assert not is_fit([ill])
    content = to_json([fine, ill])
    assert (content["format_version"], content["fit"]) == (1, False)
    assert content["checks"][1] == {"name": "c", "state": "problem", "text": "z", "remedy": "Do that"}
    assert ill.line() == "problem  c           z. Do that"


# ---------------------------------------------------------------- machine


@pytest.mark.parametrize(("version", "state"), [("3.12.0", "ok"), ("3.14.0b1", "ok"), ("3.11.9", "problem")])
def test_python(version: str, state: str) -> None:
    expect(machine.check_python(version, ">=3.12"), state, version, ">=3.12")


@pytest.mark.parametrize(
    ("requirements", "state", "words"),
    [
        (["numpy>=1", "click"], "ok", "all 2"),
        (["numpy>=999"], "problem", "numpy is "),
        (["numpy>=999"], "problem", ">=999 is needed"),
        (["no-such-package-at-all>=1"], "problem", "no-such-package-at-all is not installed"),
        (["no-such-package-at-all; sys_platform == 'win32'", "numpy"], "ok", "all 1"),
    ],
)
def test_packages(requirements: list[str], state: str, words: str) -> None:
    expect(machine.check_packages(requirements), state, words)


def test_a_program_that_is_not_installed() -> None:
    found = list(machine.check_machine("no-such-package-at-all"))
    expect(found[0], "warning", "is not installed", "make setup")
    assert [finding.name for finding in found] == ["packages", "processor", "cores", "memory", "open files"]


@pytest.mark.parametrize(
    ("flags", "kind", "state", "words"),
    [
        ({"avx", "avx2", "fma", "avx512f"}, "x86_64", "ok", "AVX-512"),
        ({"avx", "avx2", "fma"}, "x86_64", "ok", "AVX2"),
        ({"avx"}, "x86_64", "warning", "slower"),
        ({"sse4_2"}, "x86_64", "problem", "no AVX"),
        (set(), "aarch64", "warning", "never measured"),
    ],
)
def test_processor(flags: set[str], kind: str, state: str, words: str) -> None:
    expect(machine.check_processor(flags, kind), state, words)


def test_processor_flags(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx avx2\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert machine.processor_flags(path) == {"fpu", "avx", "avx2"}
    path.write_text("processor : 0\nFeatures : asimd\n")
    assert machine.processor_flags(path) == set()


def test_cores() -> None:
    expect(machine.check_cores(4, 8, None), "ok", "4 of 8 may be used")
    expect(machine.check_cores(4, 8, 6.0), "ok", "4 of 8")
    expect(machine.check_cores(1, 8, 1.5), "ok", "1 of 8", "grants the time of 1.5")


def test_memory() -> None:
    needed = default_worker_bytes()
    assert max(needed.values()) == needed["TensorFlow"]
    expect(machine.check_memory(1, 64 * GIB, 3 * needed["TensorFlow"]), "ok", "enough for 1")
    expect(machine.check_memory(1, 64 * GIB, GIB), "warning", "run would start 1", "--workers 1")
    expect(machine.check_memory(2, GIB, 8 * GIB), "problem", "1,024 MiB", "TensorFlow needs up to")
    assert machine.available_bytes() > 0


def test_open_files() -> None:
    expect(machine.check_open_files(resource.RLIM_INFINITY), "ok", "no limit")
    expect(machine.check_open_files(4096), "ok", "4,096")
    expect(machine.check_open_files(512), "warning", "512", "ulimit -n 4096")
    expect(machine.check_open_files(64), "problem", "64", "ulimit -n 4096")


# ---------------------------------------------------------------- TensorFlow


def saying(text: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", text]


CPU = '{"kind": "CPU", "name": "CPU", "computes": true}'
GPU = '{"kind": "GPU", "name": "NVIDIA A100", "computes": true}'


@pytest.mark.parametrize(
    ("devices", "gpus", "state", "words"),
    [
        (CPU, [], "ok", "sees the CPU; no GPU here"),
        (f"{CPU}, {GPU}", ["nvidia0"], "ok", "sees and uses NVIDIA A100"),
        (CPU, ["nvidia0"], "warning", "this machine has 1 GPU. Install its CUDA build"),
        (f"{CPU}, {GPU.replace('true', 'false')}", ["nvidia0"], "problem", "computes wrongly on NVIDIA A100"),
    ],
)
def test_tensorflow(devices: str, gpus: list[str], state: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    answer = f'{{"version": "2.21.0", "devices": [{devices}]}}'
    expect(check_tensorflow(gpus, saying(f"print('chatter'); print('''{answer}''')")), state, "2.21.0", words)


def test_tensorflow_that_hangs_or_dies() -> None:
    began = time.monotonic()
    hanging = saying("import time; time.sleep(100)")
    expect(check_tensorflow([], hanging, timeout_seconds=0.3), "problem", "does not start within", "nvidia-smi")
    assert time.monotonic() - began < 50
    expect(check_tensorflow([], saying("raise SystemExit('no libcuda')")), "problem", "(status 1): no libcuda")
    expect(check_tensorflow([], saying("import os; os.abort()")), "problem", "(status -6)")


# ---------------------------------------------------------------- folders


class Space:
    f_frsize, f_files, f_favail = 4096, 10**6, 10**6

    def __init__(self, free_bytes: int, **other: int) -> None:
        self.f_bavail = free_bytes // 4096
        self.__dict__.update(other)


@pytest.mark.parametrize(
    ("space", "state", "words"),
    [
        (Space(100 * GIB), "ok", "100.0 GiB free"),
        (Space(5 * GIB), "warning", "Enough for a demonstration"),
        (Space(GIB // 2), "problem", "0.5 GiB free"),
        (Space(100 * GIB, f_favail=10), "warning", "only 10 more files"),
        (Space(100 * GIB, f_files=0, f_favail=0), "ok", "GiB free"),
    ],
)
def test_space(space: Any, state: str, words: str, tmp_path: Path) -> None:
    expect(folders.check_space(tmp_path, space), state, words)


def test_a_folder_that_is_fine_stays_as_it_was(tmp_path: Path) -> None:
    found = list(folders.check_folder(tmp_path / "not" / "there", must_be_shared=True))
    assert [finding.name for finding in found] == ["space", "writing", "lock", "clock", "shared"]
    assert [finding.state for finding in found[1:4]] == ["ok"] * 3
    assert str(tmp_path) in found[0].text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folders.tempfile, "TemporaryDirectory", refuse)
    _, finding = folders.check_folder(tmp_path, must_be_shared=False)
    expect(finding, "problem", f"{tmp_path}: Permission denied", "--scratch")


def test_a_disk_that_fails(tmp_path: Path) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    def forgetful(path: Path, data: bytes) -> None:
        path.write_bytes(data[:-1])

    expect(folders.check_writing(tmp_path, full), "problem", "No space left on device", "--scratch")
    expect(folders.check_writing(tmp_path, forgetful), "problem", "does not read back")


@pytest.mark.parametrize(("answers", "words"), [([False, False], "keeps nobody out"), ([True, True], "does not end")])
def test_locks_that_do_not_work(answers: list[bool], words: str, tmp_path: Path) -> None:
    expect(folders.check_lock(tmp_path, lambda path: answers.pop(0)), "problem", words, "Two drivers")


def test_a_file_system_without_locks(tmp_path: Path) -> None:
    def locked(path: Path) -> bool:
        return folders.is_locked(path, "raise OSError(37, 'No locks available')")

    expect(folders.check_lock(tmp_path, locked), "problem", "No locks available")


@pytest.mark.parametrize(
    ("ahead", "state", "words"), [(0, "ok", "agree"), (90, "warning", "90 s ahead"), (-90, "warning", "90 s behind")]
)
def test_clock(ahead: float, state: str, words: str, tmp_path: Path) -> None:
    expect(folders.check_clock(tmp_path, lambda: time.time() - ahead), state, words)


def test_file_systems(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    spaced = tmp_path / "a b"
    spaced.mkdir()
    escaped = str(spaced).replace(" ", "\\040")
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\nover {escaped} lustre rw 0 0\n")
    assert folders.file_system(tmp_path, mounts) == "nfs4"
    assert folders.file_system(spaced, mounts) == "lustre"
    assert folders.file_system(Path("/"), mounts) == "ext4"
    expect(folders.check_shared("nfs4", tmp_path), "ok", "which machines share")
    expect(folders.check_shared("ext4", tmp_path), "warning", "this machine's own disk")


# ---------------------------------------------------------------- connections


def test_this_machine_can_speak_with_itself() -> None:
    for finding in connections.check_connections():
        expect(finding, "ok")
    expect(connections.check_interface("lo", "the workers"), "ok", "127.0.0.1")


def test_connections_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    expect(connections.check_ports("192.0.2.1"), "problem", "192.0.2.1")  # an address that is nobody's
    expect(connections.check_interface("ib99", "scheduler-interface"), "warning", "ib99 of scheduler-interface")

    def forbidden(*anything: object) -> None:
        raise OSError("a download is tried")

    monkeypatch.setattr(connections.SkyCoord, "match_to_catalog_sky", forbidden)
    expect(connections.check_no_downloads(), "problem", "a download is tried")
    monkeypatch.setattr(connections.Security, "temporary", forbidden)
    expect(connections.check_tls(), "problem", "a download is tried")


# ---------------------------------------------------------------- the scorer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("swimmy-scale: {kind: local, scorer: keras}", "scores by keras, as the site file says"),
        (SITE.read_text(), "scores by keras, for a GPU"),
        ((SITE.parent / "slurm-cpu.yaml").read_text(), "scores by numba, for CPUs"),
    ],
)
def test_the_scorer_of_a_site(text: str, words: str) -> None:
    expect(checks.check_scorer(parse_site(text, Path("site.yaml"))), "ok", words)


def test_the_scorer_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu, words in ((True, "scores by keras, for a GPU"), (False, "scores by numba, for CPUs")):
        monkeypatch.setattr(executors, "computes_on_gpu", lambda gpu=gpu: gpu)
        expect(checks.check_scorer(), "ok", words)


# ---------------------------------------------------------------- the command


@pytest.mark.slow
def test_this_machine_is_looked_at_whole(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["doctor", "--scratch", str(tmp_path), "--json"])
    content = json.loads(found.stdout)
    assert found.exit_code == (0 if content["fit"] else 1)
    by_name = {check["name"]: check for check in content["checks"]}
    assert by_name["tensorflow"]["text"].startswith(importlib.metadata.version("tensorflow"))
    for name in ("writing", "lock", "ports", "TLS", "downloads"):
        assert by_name[name]["state"] == "ok", by_name[name]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("finding", "status"), [(warning("a", "b", "c"), 0), (problem("a", "b", "c"), 1)])
def test_the_command_tells_line_by_line(finding: Finding, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "examine", lambda folder, site: iter([ok("x", "y"), finding]))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == status
    assert result.stdout.splitlines() == [ok("x", "y").line(), finding.line(), verdict([ok("x", "y"), finding])]


def test_a_site_is_looked_at_after_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "check_machine", lambda: iter([]))
    monkeypatch.setattr(checks, "check_tensorflow", lambda gpus: ok("tensorflow", "x"))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    names = [finding.name for finding in checks.examine(tmp_path, load_site(SITE))]
    assert names[0] == "tensorflow"
    assert "shared" in names
    assert names[-2:] == ["slurm", "memory"]
    names = [finding.name for finding in checks.examine(tmp_path, load_site(ROOT / "cluster" / "local.yaml"))]
    assert "shared" not in names
    assert names[-1] == "slurm"
