"""The throw-away Slurm that other tests run on: it behaves as a real cluster, and leaves nothing behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import Slurm, SlurmCommandError, running_slurm, unavailable_reason

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason())),
]

SLEEP = "#!/bin/sh\nexec sleep 300\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm) -> Iterator[Slurm]:
    """The cluster with healthy nodes and an empty queue."""
    cluster.heal()
    yield cluster
    cluster.heal()
    cluster.drain()


def wait_for_state(slurm: Slurm, job_id: str, state: str) -> None:
    slurm.wait_until(lambda: slurm.job_state(job_id) == state, f"job {job_id} is {state}", timeout_s=30)


def test_all_nodes_come_up(slurm: Slurm) -> None:
    assert {node: slurm.node_state(node) for node in ("c1", "c2", "c3", "g1")} == dict.fromkeys(
        ("c1", "c2", "c3", "g1"), "idle"
    )


def test_a_job_runs_and_its_output_appears(slurm: Slurm) -> None:
    job_id = slurm.submit("#!/bin/sh\necho on $SLURMD_NODENAME\n", "--partition=cpu", "--job-name=speaks | up")
    wait_for_state(slurm, job_id, "COMPLETED")
    assert (slurm.folder / f"slurm-{job_id}.out").read_text() == f"on {slurm.job_node(job_id)}\n"
    assert (job_id, "speaks | up", "COMPLETED", slurm.job_node(job_id)) in slurm.jobs("COMPLETED")


def test_a_gpu_serves_one_job_at_a_time(slurm: Slurm) -> None:
    script = "#!/bin/sh\necho gpu $CUDA_VISIBLE_DEVICES\nexec sleep 300\n"
    first, second = (slurm.submit(script, "--partition=gpu", "--gres=gpu:1") for _ in range(2))
    output = slurm.folder / f"slurm-{first}.out"
    slurm.wait_until(lambda: output.exists() and output.read_text() == "gpu 0\n", "the first job has the GPU")
    assert slurm.job_state(second) == "PENDING"
    slurm.cancel(first)
    wait_for_state(slurm, second, "RUNNING")


def test_an_unknown_partition_is_refused(slurm: Slurm) -> None:
    with pytest.raises(SlurmCommandError, match=r"(?i)invalid partition"):
        slurm.submit(SLEEP, "--partition=nosuch")


def test_a_node_set_down_loses_its_job_and_comes_back(slurm: Slurm) -> None:
    job_id = slurm.submit(SLEEP, "--no-requeue")
    wait_for_state(slurm, job_id, "RUNNING")
    node = slurm.job_node(job_id)
    slurm.set_node(node, "down", "test")
    wait_for_state(slurm, job_id, "NODE_FAIL")
    slurm.set_node(node, "resume")
    slurm.wait_until(lambda: slurm.node_state(node) == "idle", f"{node} is idle again")


def test_a_crashed_node_loses_its_job_and_is_healed(slurm: Slurm) -> None:
    script = "#!/bin/sh\nsleep 300 &\nwait\n"
    crashes, goes_on = (slurm.submit(script, "--no-requeue", f"--nodelist={node}") for node in ("c1", "c2"))
    # on each node: slurmd, the step's daemon, the shell and its child
    slurm.wait_until(lambda: all(len(slurm.node_processes(node)) >= 4 for node in ("c1", "c2")), "both jobs run")
    slurm.crash_node("c1")
    slurm.heal()
    wait_for_state(slurm, crashes, "NODE_FAIL")
    assert slurm.job_state(goes_on) == "RUNNING"
    assert len(slurm.node_processes("c2")) >= 4


def test_starting_a_running_cluster_changes_nothing(slurm: Slurm) -> None:
    before = slurm.processes()
    began = time.monotonic()
    slurm.start()
    assert time.monotonic() - began < 5
    assert slurm.processes() == before


def test_a_second_cluster_in_a_long_folder_leaves_nothing(slurm: Slurm, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("path" * 20)
    neighbours = slurm.processes()
    with running_slurm(folder, {"CPU_NODES": "1", "GPU_NODES": "0"}) as second:
        job_id = second.submit("#!/bin/sh\ntrap '' TERM\nsetsid sleep 300 &\nsleep 300 & wait\n")
        wait_for_state(second, job_id, "RUNNING")
        run_folder = (folder / "run").resolve()
        # Slurm says RUNNING before the node has started the step's daemon, the shell and its children.
        node = second.job_node(job_id)
        second.wait_until(lambda: len(second.node_processes(node)) >= 5, "the job and its child in another session run")
        assert not set(second.processes()) & set(neighbours)
    assert second.processes() == {}
    assert not run_folder.exists()
    second.stop()
    assert slurm.processes() == neighbours
