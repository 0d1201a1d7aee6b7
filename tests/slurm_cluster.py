"""A throw-away but real Slurm for tests: cluster/throwaway-slurm from Python, and ways to break it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).resolve().parent.parent / "cluster" / "throwaway-slurm"
DAEMONS = ("slurmctld", "slurmd", "munged")
OTHER_CLUSTER = re.compile(r"SLURM|SBATCH|SINFO|SQUEUE|SCANCEL|SCONTROL|SRUN|SALLOC")


def unavailable_reason() -> str | None:
    """Why no throw-away Slurm can run here, for `pytest.skip`; None where one can run, or has to."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return None
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    missing = [name for name in DAEMONS if shutil.which(name, path=search) is None]
    if not missing:
        return None
    return f"{', '.join(missing)} not installed, and only root on a Debian-like system can install them"


class Job(NamedTuple):
    """One row of squeue."""

    job_id: str
    name: str
    state: str
    node: str


class SlurmCommandError(RuntimeError):
    """A Slurm command failed; the message holds what it said."""


class Slurm:
    """A single-machine Slurm that lives in `folder`.

    `settings` are the environment variables of cluster/throwaway-slurm/up, such as CPU_NODES="2".
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder.resolve()
        self.settings = settings

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        """The environment for commands and programs that should use this cluster."""
        inherited = {name: value for name, value in os.environ.items() if not OTHER_CLUSTER.match(name)}
        return inherited | {"SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Starts the cluster, or brings a running one back into order."""
        self._script("up", timeout_s=280)

    def stop(self) -> None:
        self._script("down", timeout_s=60)

    def heal(self) -> None:
        """Brings back nodes that crashed or were set down."""
        self.start()

    def _script(self, name: str, timeout_s: float) -> None:
        environment = self.environment() | self.settings
        command = [str(SCRIPTS / name), str(self.folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == 0, f"{name} failed with {done.returncode}:\n{done.stderr[-6000:]}"

    def command(self, *words: str, stdin: str = "") -> str:
        """Output of a Slurm command that runs in `folder`."""
        done = subprocess.run(
            words,
            env=self.environment(),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise SlurmCommandError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    # --- jobs ---

    def submit(self, script: str, *sbatch_arguments: str) -> str:
        """Submits a batch script and returns the job's id; its output goes to folder/slurm-ID.out."""
        return self.command("sbatch", "--parsable", *sbatch_arguments, stdin=script).split(";")[0]

    def jobs(self, state: str | None = None) -> list[Job]:
        """Jobs of the queue; of the given state (or states, or "all"), also those that ended."""
        states = [] if state is None else ["--states", state]
        lines = self.command("squeue", "--noheader", "--array", *states, "--format=%A|%T|%N|%j").splitlines()
        rows = [line.split("|", maxsplit=3) for line in lines]
        return [Job(job_id, name, job_state, node) for job_id, job_state, node, name in rows]

    def job_state(self, job_id: str) -> str:
        return self._job_field(job_id, "JobState")

    def job_node(self, job_id: str) -> str:
        """The node where the job runs or ran; "(null)" before it started."""
        return self._job_field(job_id, "NodeList")

    def _job_field(self, job_id: str, field: str) -> str:
        text = self.command("scontrol", "--oneliner", "show", "job", job_id)
        found = re.search(rf"(?:^|\s){field}=(\S+)", text)
        assert found, f"no {field} in: {text}"
        return found[1]

    def cancel(self, job_id: str) -> None:
        self.command("scancel", job_id)

    def drain(self) -> None:
        """Cancels all jobs and waits until the queue is empty."""
        if ids := {job.job_id for job in self.jobs()}:
            self.command("scancel", *ids)
        self.wait_until(lambda: not self.jobs(), "the queue is empty", timeout_s=30)

    # --- nodes ---

    def node_state(self, node: str) -> str:
        return self.command("sinfo", "--noheader", "--nodes", node, "--format=%T").splitlines()[0]

    def set_node(self, node: str, state: str, reason: str = "test") -> None:
        """Sets a node's state; "down" ends its jobs, "resume" takes it back."""
        reasons = [] if state.lower() == "resume" else [f"reason={reason}"]
        self.command("scontrol", "update", f"nodename={node}", f"state={state}", *reasons)

    def crash_node(self, node: str) -> None:
        """Kills a node's daemons and all job processes on it at once, as a power cut does."""
        for _ in range(3):  # a process that was just being started escapes the first look
            for pid in self.node_processes(node):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        assert not (left := self.node_processes(node)), f"still alive on {node}: {left}"

    def node_processes(self, node: str) -> list[int]:
        """Slurm's daemons on a node, then the processes of its jobs."""
        log = str(self.folder / "log" / f"slurmd-{node}.log")
        variables = {f"SLURMD_NODENAME={node}", f"SLURM_CONF={self.conf}"}
        daemons = [pid for pid, words in _processes() if words.startswith("slurm") and log in _open_files(pid)]
        jobs = [pid for pid, _ in _processes() if variables <= _environ(pid)]
        return daemons + [pid for pid in jobs if pid not in daemons]

    def processes(self) -> dict[int, str]:
        """Every living process of this cluster, with its command line."""
        paths = (str(self.conf), *([str(run.resolve())] if (run := self.folder / "run").exists() else []))
        logs = str(self.folder / "log")
        ours = {f"SLURM_CONF={self.conf}"}

        def belongs(pid: int, words: str) -> bool:
            if re.match(r"\S*(slurm|munged)", words):
                return any(path in words for path in paths) or any(file.startswith(logs) for file in _open_files(pid))
            variables = _environ(pid)
            return ours <= variables and any(entry.startswith("SLURMD_NODENAME=") for entry in variables)

        return {pid: words for pid, words in _processes() if belongs(pid, words)}

    # --- waiting ---

    def wait_until(self, predicate: Callable[[], object], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s: {what}\n{self._overview()}")
            time.sleep(0.2)

    def _overview(self) -> str:
        try:
            return self.command("squeue", "--long") + "\n" + self.command("sinfo", "--long", "--Node")
        except SlurmCommandError as error:
            return str(error)


@contextlib.contextmanager
def running_slurm(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Slurm]:
    """A started cluster in `folder`, stopped at the end."""
    slurm = Slurm(folder, **(settings or {}))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


# A process can end between any two looks at it, and one that ended but was not reaped has empty files.


def _processes() -> list[tuple[int, str]]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    words = [(pid, _read(pid, "cmdline").replace("\0", " ").strip()) for pid in pids]
    return [(pid, line) for pid, line in words if line]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _environ(pid: int) -> set[str]:
    return set(_read(pid, "environ").split("\0"))


def _open_files(pid: int) -> set[str]:
    names = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                names.add(str(entry.readlink()))
    return names
