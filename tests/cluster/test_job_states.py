"""What became of batch jobs, by what a real Slurm was heard to say of such jobs, and by the files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recorded_slurm import SQUEUE, RecordedSlurm, recorded_slurm
from survey_runs import call_here

from swimmy_scale.cluster.job_states import look
from swimmy_scale.cluster.places import Places
from swimmy_scale.cluster.submitted import note_submitted
from swimmy_scale.storage.run_directory import RunDirectory


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedSlurm:
    return recorded_slurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run directory of which a driver was submitted, with one group of workers."""
    directory = RunDirectory(tmp_path / "run")
    directory.log.workers.mkdir(parents=True)
    directory.ledger("job").folder_of_stage.mkdir(parents=True)
    directory.log.jobs.mkdir()
    for name in ("driver", "cpu"):
        directory.log.script(name).touch()
    return directory


def submitted(run: RunDirectory, slurm: RecordedSlurm, *kinds: str, name: str | None = None) -> None:
    """Have the queue say these of the run's drivers, or of jobs of another name."""
    name = name or Places(run.path).tag
    rows = [SQUEUE[kind].format(name=name) for kind in kinds]
    slurm.print("squeue", "\n".join(rows))
    if name == Places(run.path).tag:
        note_submitted(run.log, "driver", name, [row.partition("|")[0] for row in rows])


def lines(run: RunDirectory) -> list[str]:
    return list(look(run).lines())


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("too long", "job 20 PENDING: it will never start, Slurm says PartitionTimeLimit"),
        ("too much", "job 12 PENDING: it will never start, Slurm says MaxMemPerLimit"),
        ("no account", "job 16 PENDING: it will never start, Slurm says Job's account not known, so it can't use this"),
        ("waits", "job 22 PENDING (Resources, expected to start at 2026-11-30T10:36:05)"),
        (
            "prologue",
            "(launch failed requeued held, expected to start at 2026-11-30T06:38:55): Slurm's own prologue failed",
        ),
        ("prologue", "give `scontrol release 27` when the node is mended, or `scancel 27`"),
        (
            "prologue of a worker",
            "it was cancelled, on c2 at once and without a log: Slurm's own prologue failed there",
        ),
        ("failed", "job 29 FAILED: exit status 7, ended at 2026-11-30T06:36:59"),
        ("killed", "job 36 FAILED: killed by signal 9, ended at"),
        ("cancelled", "job 30 CANCELLED: it was cancelled, ended at 2026-11-30T06:37:02"),
        ("cancelled before", "job 34 CANCELLED: it was cancelled, ended at 2026-11-30T06:37:02"),
        ("time limit", "job 31 TIMEOUT: it reached its time limit, of 1:00, ended at 2026-11-30T06:38:14"),
        ("node", "job 32 NODE_FAIL: its node failed, ended at 2026-11-30T06:37:02"),
        ("runs", "job 37 RUNNING on c1 since 2026-11-30T06:36:59, its time ends at 2026-11-30T18:36:59"),
        ("done", "job 24 COMPLETED: ended at 2026-11-30T06:36:06"),
    ],
)
def test_what_the_queue_says_of_a_driver(run: RunDirectory, slurm: RecordedSlurm, kind: str, words: str) -> None:
    submitted(run, slurm, kind)
    first, *more = lines(run)
    assert first.startswith("queue: driver: job ")
    assert words in first
    if "never" in words:
        number = SQUEUE[kind].partition("|")[0]
        assert more == [f"  end it with `scancel {number}`, correct the site file, and submit again"]


def test_the_end_of_the_log_of_a_driver_that_failed(run: RunDirectory, slurm: RecordedSlurm) -> None:
    submitted(run, slurm, "failed")
    assert lines(run)[1:] == ["  there is no log of it"]
    log = run.log.path / "driver-29.log"
    log.write_text("".join(f"line {number}\n" for number in range(20)) + "module: command not found\n\n")
    assert lines(run)[1] == f"  log: {log}, which ends:"
    assert lines(run)[2:] == [*(f"    line {number}" for number in range(13, 20)), "    module: command not found"]
    assert list(look(run).lines(told_by="29"))[1:] == [f"  log: {log}"], "the record says already why it ended"
    (state,) = look(run).to_json()["jobs"]
    assert (state["what"], state["state"], state["exit_code"], state["log"]) == ("driver", "FAILED", "7:0", str(log))
    assert state["log_end"][-1] == "module: command not found"


def test_a_driver_that_lives_counts_and_those_before_do_not(run: RunDirectory, slurm: RecordedSlurm) -> None:
    submitted(run, slurm, "failed", "runs")
    (line,) = lines(run)
    assert "job 37 RUNNING" in line
    queue = look(run)
    assert (queue.is_alive("37"), queue.is_alive("29")) == (True, None)
    submitted(run, slurm, "waits", "failed")
    assert "22 PENDING" in lines(run)[0], "one of a chain"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("failed", "queue: cpu: job 29 FAILED: exit status 7"),
        ("prologue of a worker", "Slurm's own prologue failed there"),
        ("waits", "queue: cpu: job 22 PENDING (Resources, expected"),
        ("cancelled", None),  # the driver gives workers back that it does not need any more
        ("done", None),
    ],
)
def test_workers(run: RunDirectory, slurm: RecordedSlurm, kind: str, words: str | None) -> None:
    submitted(run, slurm, kind, name=Places(run.path).job_name("cpu"))
    (run.log.workers / "cpu-29.log").write_text("no such interpreter\n")
    if kind == "cancelled":
        (run.log.workers / "cpu-30.log").write_text("working\n")
    said = lines(run)
    assert [words in said[0]] if words else said == []
    if kind == "failed":
        assert said[1:] == [f"  log: {run.log.workers / 'cpu-29.log'}, which ends:", "    no such interpreter"]


def test_many_workers_are_told_in_a_line(run: RunDirectory, slurm: RecordedSlurm) -> None:
    row = SQUEUE["runs"].format(name=Places(run.path).job_name("cpu"))
    waits = SQUEUE["waits"].format(name=Places(run.path).job_name("cpu"))
    slurm.print("squeue", "\n".join([row, row.replace("37|", "38|"), row.replace("37|", "39|"), waits]))
    first, second = lines(run)
    assert first.endswith("2026-11-30T18:36:59, and 2 more")
    assert second.startswith("queue: cpu: job 22 PENDING")


def test_a_driver_that_slurm_has_forgotten(run: RunDirectory, slurm: RecordedSlurm) -> None:
    submitted(run, slurm, "failed")
    slurm.print("squeue", "")
    assert lines(run)[0] == "queue: driver: job 29 is in the queue no more, and Slurm has forgotten how it ended"
    # It had submitted itself again, which only its successor's log tells.
    (run.log.path / "driver-41.log").write_text("killed\n")
    assert "job 41 is in the queue no more" in lines(run)[0]
    assert lines(run)[2:] == ["    killed"]


@pytest.mark.parametrize(
    ("state", "code", "words"),
    # As the manual page of sacct has it; a real one needs a database.
    [
        ("CANCELLED by 1000", "0:0", "CANCELLED: it was cancelled by user 1000, ended at"),
        ("TIMEOUT", "0:0", "TIMEOUT: it reached its time limit, of 12:00:00, ended at"),
        ("OUT_OF_MEMORY", "0:125", "OUT_OF_MEMORY: it took more memory than it had asked for, ended at"),
        ("FAILED", "1:0", "FAILED: exit status 1, ended at"),
    ],
)
def test_accounting_remembers(run: RunDirectory, slurm: RecordedSlurm, state: str, code: str, words: str) -> None:
    submitted(run, slurm, "failed")
    slurm.print("squeue", "")
    row = "29|{}|2026-11-30T06:36:59|2026-11-30T07:36:59|12:00:00|c1|cpu|{}|None|{}"
    slurm.print("sacct", row.format(state, Places(run.path).tag, code))
    assert words in lines(run)[0]
    slurm.print("sacct", row.format(state, "somebody-elses", code))
    assert "Slurm has forgotten" in lines(run)[0], "a job of that number at another cluster is not ours"


def test_a_machine_without_slurm_goes_by_the_files(run: RunDirectory, slurm: RecordedSlurm) -> None:
    submitted(run, slurm, "runs")
    (slurm.folder / "squeue").unlink()
    log = run.log.path / "driver-37.log"
    log.write_text("ingest: 5 of 10 objects\n")
    said = lines(run)
    assert said[0].startswith("queue: not asked, so what follows is by the files alone: squeue: not found")
    assert said[1:] == [
        "queue: driver: job 37 was submitted; what became of it is not known here",
        f"  log: {log}, which ends:",
        "    ingest: 5 of 10 objects",
    ]
    queue = look(run)
    assert queue.is_alive("37") is None
    assert queue.to_json()["answered"] is False


def test_a_run_that_never_had_batch_jobs_asks_nobody(tmp_path: Path, slurm: RecordedSlurm) -> None:
    slurm.say("squeue", "exit 1")
    assert lines(RunDirectory(tmp_path)) == []


def test_a_run_that_was_moved_keeps_its_jobs(run: RunDirectory, slurm: RecordedSlurm) -> None:
    submitted(run, slurm, "runs")
    moved = RunDirectory(run.path.rename(run.path.parent / "elsewhere"))
    assert "job 37 RUNNING" in lines(moved)[0]
    # Nor is a path in the way that job scripts could not hold.
    moved = RunDirectory(moved.path.rename(run.path.parent / "my run"))
    assert "job 37 RUNNING" in lines(moved)[0]


# ---------------------------------------------------------------- the command


def record(**changes: Any) -> str:
    content = {
        "format_version": 1, "state": "running", "reason": "", "updated": "2026-11-30T06:37:00+00:00", "host": "c1",
        "process_id": 5, "job_id": "29", "workers": {}, **changes,
    }  # fmt: skip
    return json.dumps(content)


@pytest.mark.parametrize(
    ("kind", "content", "present", "absent"),
    [
        ("too long", None, "it will never start", "no driver has written"),
        ("failed", None, "which ends:", "no driver has written"),
        ("failed", record(), "driver: ended without a word, job 29 on c1", "driver: running"),
        ("failed", record(state="failed", reason="no disk"), "  no disk", "which ends"),
        ("runs", record(job_id="37"), "it has not been heard of since", "ended without a word"),
        ("runs", record(job_id="5"), "driver: running, job 5", "ended without a word"),  # of an allocation, not ours
    ],
)
def test_status(
    run: RunDirectory, slurm: RecordedSlurm, kind: str, content: str | None, present: str, absent: str
) -> None:
    submitted(run, slurm, kind)
    (run.log.path / "driver-29.log").write_text("Traceback\n")
    if content is not None:
        run.log.progress.write_text(content)
    done = call_here("status", run.path)
    assert done.returncode == 0
    assert present in done.stdout
    assert absent not in done.stdout
    told = json.loads(call_here("status", run.path, "--json").stdout)
    assert (told["driver"] is None) == (content is None)
    assert [job["state"] for job in told["queue"]["jobs"]] == [SQUEUE[kind].split("|")[1]]
