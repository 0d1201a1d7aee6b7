"""Whether processes of this machine would compute on a GPU, told in milliseconds and without TensorFlow."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path

# Distributions that bring what a Keras backend needs on a GPU of NVIDIA.
CUDNN = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
PLUGINS = {"tensorflow": CUDNN, "torch": CUDNN, "jax": ("jax-cuda12-plugin", "jax-cuda13-plugin")}


def gpu_files(devices: Path = Path("/dev")) -> list[str]:
    """The names of the device files of NVIDIA GPUs."""
    return sorted(path.name for path in devices.glob("nvidia[0-9]*"))


def is_hidden(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether CUDA_VISIBLE_DEVICES keeps all GPUs from this process."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    return visible is not None and visible.strip() in ("", "-1")


def visible_gpus(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that this process may use, by the names or numbers that CUDA_VISIBLE_DEVICES may list.

    Slurm and other batch systems set that variable; without it all of the machine count.
    """
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [str(number) for number, _ in enumerate(gpu_files(devices))]
    names = [name.strip() for name in listed.split(",")]
    # CUDA takes those before the first that is no GPU.
    return names[: next((at for at, name in enumerate(names) if name in ("", "-1")), len(names))]


def keras_backend(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> str:
    """The backend that Keras would load: of KERAS_BACKEND, or of the configuration file in ``home``."""
    if name := environment.get("KERAS_BACKEND"):
        return name
    folder = Path(environment.get("KERAS_HOME") or (home or Path.home()) / ".keras")
    try:
        content = json.loads((folder / "keras.json").read_text())
    except (OSError, ValueError):
        return "tensorflow"
    return str(content.get("backend", "tensorflow")) if isinstance(content, dict) else "tensorflow"


def has_libraries(backend: str) -> bool:
    """Whether the GPU's libraries are installed for a backend, by Python packages or, for cuDNN, by the system."""
    for name in PLUGINS.get(backend, ()):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return True
    return backend != "jax" and ctypes.util.find_library("cudnn") is not None


def computes_on_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether Keras would compute on a GPU here: one is there, none hides it, and its libraries are installed.

    A driver that is broken is not noticed: `doctor` tries the GPU itself.
    """
    return bool(gpu_files(devices)) and not is_hidden() and has_libraries(keras_backend())
