"""The commands whose writes are disturbed: what lies there before, the command, and what must lie there at its end."""

from __future__ import annotations

import csv
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos import watch
from chaos.lab import Lab, Trial, clear, copy, differences, digest, snapshot
from chaos.losses import Call, read_journal
from chaos.records import Outcome
from chaos.watch import Kind

SORTS = (Kind.RENAME, Kind.FLUSH, Kind.WRITE, Kind.OPEN, Kind.REMOVE, Kind.MAKE_FOLDER)
OF_LETTER = {
    "W": Kind.WRITE,
    "F": Kind.FLUSH,
    "D": Kind.FLUSH,
    "R": Kind.RENAME,
    "C": Kind.OPEN,
    "S": Kind.OPEN,
    "U": Kind.REMOVE,
    "M": Kind.MAKE_FOLDER,
}
INPUTS = ("model.yaml", "train.yaml", "selected.keras")
SLURM = ("sbatch", "squeue", "scontrol", "sinfo", "sacctmgr", "scancel", "sacct")


@dataclass(frozen=True)
class Scene:
    """A command in a folder, ``RUN`` of which is ``folder/run``."""

    name: str
    words: Callable[[Lab, Path], tuple[object, ...]]
    begin: Callable[[Lab, Path], None] = lambda lab, folder: None
    ends: int = 0
    trains: bool = False

    def prepare(self, lab: Lab, folder: Path) -> None:
        """Make the folder as it is before the command."""
        clear(folder)
        folder.mkdir()
        lay_out(lab, folder)
        self.begin(lab, folder)

    def start(self, lab: Lab, folder: Path, before: Callable[[], object] = lambda: None, log: str = "log") -> Trial:
        """Give the command."""
        if self.trains:
            assert lab.has_network
        path = f"{slurm(lab)}:{os.environ['PATH']}"
        return lab.run(*self.words(lab, folder), before=before, environment={"PATH": path}, log=log)

    def finished(self, lab: Lab) -> Path:
        """The folder at the end of the command when nothing disturbs it; nobody may change it."""
        folder = lab.a_folder(f"undisturbed-{self.name}")
        if not folder.exists():
            began = time.monotonic()
            self.prepare(lab, folder)
            trial = self.start(lab, folder)
            if trial.status != self.ends:
                raise SystemExit(f"{self.name} ended with {trial.status}: {trial.text[-1500:]}")
            lab.seconds[self.name] = time.monotonic() - began
        return folder

    def seconds(self, lab: Lab) -> float:
        """How long the undisturbed command took."""
        self.finished(lab)
        return lab.seconds[self.name]

    def expected(self, lab: Lab) -> dict[str, str]:
        """All results at the end of a command that nothing disturbs."""
        if self.name not in lab.undisturbed:
            lab.undisturbed[self.name] = found_in(self.finished(lab))
        return lab.undisturbed[self.name]

    def judge(self, lab: Lab, outcome: Outcome, folder: Path, details: Mapping[str, object]) -> None:
        """Give the command again, with nothing in its way: all must be as if nothing had been before either."""
        self.compare(lab, outcome, folder, self.start(lab, folder, log="last"), details)

    def compare(self, lab: Lab, outcome: Outcome, folder: Path, last: Trial, details: Mapping[str, object]) -> None:
        """Compare what the command has left with what it leaves undisturbed, and see how it ended."""
        differ = differences(self.expected(lab), found_in(folder))
        outcome.expect(
            last.status == self.ends and not differ and not last.has_traceback,
            "the command given again does not end as the undisturbed one",
            **{"scene": self.name, "status": last.status, "differ": differ[:8], "said": last.last_line, **details},
        )


def found_in(folder: Path) -> dict[str, str]:
    """All results in a folder, and the batch scripts of a run, whose own paths do not count."""
    found = snapshot(folder / "run") if (folder / "run").exists() else {}
    for path in sorted(folder.glob("run/log/jobs/*.*")):
        if path.name != "submitted.json":
            # The jobs are named by a digest of the run's path.
            text = path.read_text(errors="replace").replace(str(folder), "FOLDER")
            found[f"log/jobs/{path.name}"] = re.sub(r"swimmy-[0-9a-f]{8}\b", "swimmy-DIGEST", text)
    for path in sorted(folder.glob("vetted/*")):
        found[f"vetted/{path.name}"] = digest(path)
    return {name: value for name, value in found.items() if ".partial" not in name}


def slurm(lab: Lab) -> Path:
    """Commands of Slurm that take every job and know of none."""
    folder = lab.place / "slurm"
    if not folder.exists():
        folder.mkdir()
        for name in SLURM:
            (folder / name).write_text("#!/bin/sh\n" + ("echo 17\n" if name == "sbatch" else ""))
            (folder / name).chmod(0o755)
    return folder


def lay_out(lab: Lab, folder: Path) -> None:
    """Put the inputs where runs in ``folder`` look for them: a run's frozen job has paths relative to the run."""
    if not (folder / "survey").exists():
        (folder / "survey").symlink_to(lab.data / "survey")
    for name in INPUTS:
        shutil.copy2(lab.data / name, folder / name)


def _finished_run(lab: Lab, folder: Path) -> None:
    copy(RUN.finished(lab) / "run", folder / "run")


def _with_marks(lab: Lab, folder: Path) -> None:
    _finished_run(lab, folder)
    from astropy.table import Table

    ids = Table.read(folder / "run/candidates.ecsv")["object_id"].tolist()
    with (folder / "marks.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["format_version", "object_id", "mark", "note"])
        lines.writerows([1, object_id, "known", "seen before"] for object_id in ids[:3])


SITE = Path(__file__).resolve().parent.parent / "cluster" / "slurm-cpu.yaml"
RUN = Scene(
    "run", lambda lab, folder: ("run", folder / "model.yaml", "--output", folder / "run", "--workers", 0), ends=3
)
TRAIN = Scene(
    "run that trains",
    lambda lab, folder: ("run", folder / "train.yaml", "--output", folder / "run", "--workers", 0),
    ends=3,
    trains=True,
)
SCENES = (
    RUN,
    TRAIN,
    Scene("report", lambda lab, folder: ("report", folder / "run"), _finished_run),
    Scene(
        "marks",
        lambda lab, folder: (
            *("select", folder / "run", "--marks", folder / "marks.csv", "--output", folder / "vetted"),
        ),
        _with_marks,
    ),
    Scene(
        "submit",
        lambda lab, folder: (
            *("submit", folder / "model.yaml", "--output", folder / "run", "--site", SITE, "--unchecked"),
        ),
    ),
)


ALL = "all"
COUNTED_AS = {"finished.json": "end", ALL: "all"}


@dataclass(frozen=True)
class Moment:
    """A call of a scene's command: the ``number``-th of a kind, of ``total``.

    ``commit`` is the one that it is taken for, and ``sort`` the call's own kind, where they are known.
    """

    scene: Scene
    kind: Kind
    number: int
    total: int
    commit: tuple[str, str] | None = None
    sort: Kind | None = None

    @property
    def described(self) -> dict[str, object]:
        """For records."""
        found = {"scene": self.scene.name, "call": self.kind.name, "number": self.number, "of": self.total}
        return found | ({"commit": self.commit} if self.commit else {})

    @property
    def counted_as(self) -> str:
        """For counts."""
        if self.commit:
            return f"{self.commit[0]}: {COUNTED_AS.get(self.commit[1], 'partition')}"
        return f"{self.scene.name}: {(self.kind.name or '').lower().replace('_', ' ')}"


def calls_in(lab: Lab, scene: Scene, folder: Path) -> list[Call]:
    """All calls that the undisturbed command makes in a folder that is prepared."""
    journal = lab.place / "journal"
    journal.unlink(missing_ok=True)
    scene.start(lab, folder, before=lambda: watch.keep_journal(folder, journal))
    return read_journal(journal)


def journal_of(lab: Lab, scene: Scene) -> list[Call]:
    """The same, in a folder that is gone afterwards."""
    folder = lab.a_folder("counted")
    scene.prepare(lab, folder)
    calls = calls_in(lab, scene, folder)
    clear(folder)
    return calls


def calls_of(lab: Lab, scene: Scene) -> dict[Kind, int]:
    """How many calls of each kind the undisturbed command makes; counted once."""
    known = lab.calls.get(scene.name)
    if known is None:
        known = dict.fromkeys(SORTS, 0)
        for call in journal_of(lab, scene):
            known[OF_LETTER[call.kind]] += 1
        lab.calls[scene.name] = known
    return known


RECEIPT = re.compile(r"(\d{6}|finished)\.json")
BEHIND = 2


def commits_of(calls: list[Call]) -> dict[tuple[str, str], range]:
    """The numbers of the calls of each commit, by stage and receipt: from behind the last receipt to behind its own."""
    found, first = dict[tuple[str, str], range](), 1
    folders = {call.inode: call.name for call in calls if call.kind == "M"}
    for number, call in enumerate(calls, start=1):
        if call.kind == "R" and RECEIPT.fullmatch(call.to):
            found[folders.get(call.other, ""), call.to] = range(first, number + 1 + BEHIND)
            first = number + 1
    return found


def calls_of_commits(lab: Lab) -> list[Moment]:
    """Every call of one commit of each sort: partitions of cutouts and of scores, a training, the end of each stage.

    Then all that a report, marks and a submission call.
    """
    if not lab.commits:
        journals = {scene.name: journal_of(lab, scene) for scene in SCENES}
        run, train = commits_of(journals[RUN.name]), commits_of(journals[TRAIN.name])
        partitions = [(RUN, at, run[at]) for at in (("ingest", "000001.json"), ("score", "000001.json"))]
        training = [(TRAIN, at, span) for at, span in train.items() if at[0] == "train"]
        ends = [(RUN, at, span) for at, span in run.items() if at[1] == "finished.json"]
        whole = [(scene, (scene.name, ALL), range(1, len(journals[scene.name]) + 1)) for scene in SCENES[2:]]
        for scene, at, span in (*partitions, *training, *ends, *whole):
            sorts = [OF_LETTER[call.kind] for call in journals[scene.name]]
            lab.commits += [
                Moment(scene, watch.CHANGES, number, len(span), at, sorts[number - 1])
                for number in span
                if number <= len(sorts)
            ]
    return lab.commits


def moment(lab: Lab, k: int) -> Moment:
    """The ``k``-th moment of a sweep, which meets every call of every scene once before it meets one again.

    The kinds take turns, and the scenes by how many calls they have; neighbours in time are far from each other.
    """
    turn = (0, 2, 0, 3, 1, 0, 4, 2, 0, 3, 4, 1)
    scene = SCENES[turn[k % len(turn)]]
    counts = {kind: count for kind, count in calls_of(lab, scene).items() if count}
    kind = list(counts)[k // len(turn) % len(counts)]
    place = k // len(turn) // len(counts) * turn.count(turn[k % len(turn)]) + turn[: k % len(turn)].count(
        turn[k % len(turn)]
    )
    total = counts[kind]
    stride = next(step for step in (7919, 7907, 7901, 1) if total % step or step == 1)
    return Moment(scene, kind, 1 + place * stride % total, total)
