"""What TensorFlow sees, asked in another process, so that a broken GPU driver cannot end this one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from swimmy_scale.cluster.doctor.findings import Finding, ok, problem, warning
from swimmy_scale.errors import PROGRAM, interpreter

TIMEOUT_SECONDS = 120.0
ASK = (sys.executable, "-m", "swimmy_scale.cluster.doctor.seen_devices")
CHECK_DRIVER = "Check that nvidia-smi answers; to do without the GPU set CUDA_VISIBLE_DEVICES=-1"


def check_tensorflow(
    gpus: Sequence[str], command: Sequence[str] = ASK, timeout_seconds: float = TIMEOUT_SECONDS
) -> Finding:
    """Which devices TensorFlow sees, and whether they compute; the machine has ``gpus`` (see `gpus.gpu_files`)."""
    if find_spec("tensorflow") is None:
        return warning(
            "tensorflow",
            "not installed: weights that exist already can score on CPUs, nothing can be trained",
            f'Install it to train, or to score on a GPU: {interpreter()} -m pip install "{PROGRAM}[train]"',
        )
    process = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A process that waits for a driver may not die until the driver answers.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        return problem("tensorflow", f"does not start within {timeout_seconds:.0f} s", CHECK_DRIVER)
    if process.returncode:
        said = errors.strip().splitlines()
        text = f"does not start (status {process.returncode}): {said[-1] if said else 'no message'}"
        return problem("tensorflow", text, f"Install from the lock file: make setup. {CHECK_DRIVER}")
    return _judge(output, gpus)


def _judge(output: str, gpus: Sequence[str]) -> Finding:
    seen = json.loads(output.splitlines()[-1])
    broken = [device["name"] for device in seen["devices"] if not device["computes"]]
    if broken:
        return problem("tensorflow", f"{seen['version']} computes wrongly on {', '.join(broken)}", CHECK_DRIVER)
    names = [device["name"] for device in seen["devices"] if device["kind"] == "GPU"]
    if names:
        return ok("tensorflow", f"{seen['version']} sees and uses {', '.join(names)}")
    if gpus and os.environ.get("CUDA_VISIBLE_DEVICES", "") != "-1":
        return warning(
            "tensorflow",
            f"{seen['version']} sees the CPU only, and this machine has {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}",
            'Install its CUDA build: python -m pip install "tensorflow[and-cuda]"',
        )
    return ok("tensorflow", f"{seen['version']} sees the CPU; no GPU here")
