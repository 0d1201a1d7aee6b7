"""Whether Keras would compute on a GPU of this machine, by files, variables and installed packages."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import distributed
import pytest

from swimmy_scale.cluster import gpus, own_gpu
from swimmy_scale.cluster.scripts import OWN_GPU
from swimmy_scale.errors import SwimmyError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "KERAS_BACKEND", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (folder / name).touch()
    return folder


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have just these distributions installed."""

    def version(name: str) -> str:
        if name not in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_gpu_files(devices: Path) -> None:
    assert gpus.gpu_files(devices) == ["nvidia0", "nvidia1"]


@pytest.mark.parametrize(
    ("visible", "hidden"), [(None, False), ("", True), ("-1", True), (" ", True), ("0", False), ("0,1", False)]
)
def test_what_hides_gpus(visible: str | None, hidden: bool) -> None:
    assert gpus.is_hidden({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == hidden


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (None, ["0", "1"]),
        ("", []),
        ("-1", []),
        ("3, 5", ["3", "5"]),
        ("2,-1,4", ["2"]),
        ("GPU-8932f937,MIG-7f1c", ["GPU-8932f937", "MIG-7f1c"]),
    ],
)
def test_gpus_of_a_process(devices: Path, listed: str | None, names: list[str]) -> None:
    assert gpus.visible_gpus({} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}, devices) == names


@pytest.mark.parametrize(
    ("name", "kept"), [("gpu-123-0", "3"), ("my-gpu-9-1", "5"), ("gpu-123", "3,5"), ("cpu", "3,5")]
)
def test_each_of_several_workers_keeps_one(monkeypatch: pytest.MonkeyPatch, name: str, kept: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    own_gpu.dask_setup(SimpleNamespace(name=name))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == kept


def test_there_may_be_fewer_gpus_than_workers() -> None:
    with pytest.raises(
        SwimmyError, match=r"worker 2 of this node has no GPU of its own: there are 2 \(3, 5\). Set gpus"
    ):
        own_gpu.keep_one(2, ["3", "5"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listed", "told"), [("GPU-aa,MIG-bb", ""), ("7", "worker 1 of this node has no GPU of its own")]
)
def test_workers_of_a_job_with_two_gpus(tmp_path: Path, listed: str, told: str) -> None:
    """The command of the job script, with Dask's own worker processes."""
    options = ["--name", "gpu-7", "--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--death-timeout", "30"]
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, *options,
             "--preload", OWN_GPU, "--local-directory", str(tmp_path)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": listed}, stdout=log, stderr=log,
        ) as process,
    ):  # fmt: skip
        try:
            if told:
                assert process.wait(60) != 0
                assert told in (tmp_path / "log").read_text()
                return
            client.wait_for_workers(2, timeout=60)
            seen = client.run(lambda dask_worker: (dask_worker.name, os.environ["CUDA_VISIBLE_DEVICES"]))
            assert sorted(seen.values()) == [("gpu-7-0", "GPU-aa"), ("gpu-7-1", "MIG-bb")]
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("config", "environment", "backend"),
    [
        (None, {}, "tensorflow"),
        ('{"backend": "jax"}', {}, "jax"),
        ('{"backend": "jax"}', {"KERAS_BACKEND": "torch"}, "torch"),
        ('{"floatx": "float32"}', {}, "tensorflow"),
        ("[]", {}, "tensorflow"),
        ("not json", {}, "tensorflow"),
    ],
)
def test_the_backend_is_that_of_keras(
    tmp_path: Path, config: str | None, environment: dict[str, str], backend: str
) -> None:
    if config is not None:
        (tmp_path / ".keras").mkdir()
        (tmp_path / ".keras" / "keras.json").write_text(config)
    assert gpus.keras_backend(environment, tmp_path) == backend
    assert gpus.keras_backend({"KERAS_HOME": str(tmp_path / ".keras"), **environment}, Path("/none")) == backend


@pytest.mark.parametrize(
    ("backend", "installed", "there"),
    [
        ("tensorflow", (), False),
        ("tensorflow", ("nvidia-cudnn-cu12",), True),
        ("torch", ("nvidia-cudnn-cu13",), True),
        ("jax", ("nvidia-cudnn-cu12",), False),
        ("jax", ("jax-cuda12-plugin",), True),
    ],
)
def test_libraries_of_a_backend(
    monkeypatch: pytest.MonkeyPatch, backend: str, installed: tuple[str, ...], there: bool
) -> None:
    install(monkeypatch, *installed)
    assert gpus.has_libraries(backend) == there


def test_libraries_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.setattr(ctypes.util, "find_library", {"cudnn": "libcudnn.so.9"}.get)
    assert gpus.has_libraries("tensorflow")
    assert not gpus.has_libraries("jax"), "JAX needs its plugin"


def test_a_gpu_its_libraries_and_nothing_that_hides_it(
    monkeypatch: pytest.MonkeyPatch, devices: Path, tmp_path: Path
) -> None:
    install(monkeypatch, "nvidia-cudnn-cu12")
    assert gpus.computes_on_gpu(devices)
    assert not gpus.computes_on_gpu(tmp_path / "none")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not gpus.computes_on_gpu(devices)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    install(monkeypatch)
    assert not gpus.computes_on_gpu(devices)
