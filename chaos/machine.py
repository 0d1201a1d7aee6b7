"""A state machine over a run directory: people and accidents do anything in any order, a model says what must hold.

Commands run in this process, by the real command line or the real stages; `chaos.kills` ends real processes. A step of
the machine leaves a run finished, or interrupted at one of its flushes or renames, or damaged, or without its inputs.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chaos.batches import in_a_fork
from chaos.damage import flip
from chaos.lab import Lab, clear, copy, differences, snapshot
from chaos.records import Outcome
from chaos.weights import write_model
from swimmy_scale.cli import main
from swimmy_scale.cli.progress import Watch
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, load_job
from swimmy_scale.stages.engine import SerialExecutor, Task, Work
from swimmy_scale.stages.picture import PictureTask
from swimmy_scale.stages.run import Run, run_job
from swimmy_scale.storage.files import digest_file
from swimmy_scale.storage.receipts import Receipt
from swimmy_scale.storage.run_directory import RunDirectory

N_OBJECTS = 32
VARIANTS: dict[str, dict[str, Any]] = {
    "first": {},
    "other cuts": {"sample": {"max_magnitude": 19.5}},
    "other levels": {"select": {"levels": {"1sigma": 0.16, "2sigma": 0.05}, "formats": ["ecsv"]}},
    "other weights": {"model": 2},
    "other partitions": {"storage": {"partition_objects": 8, "chunk_objects": 8}},
}
"""Changes of the job: two that select anew, one that scores anew, and one that a finished ingest refuses."""


REFUSED = "holds the cutouts of another ingest"


class Interrupted(BaseException):
    """The end of a process, as far as one can have it without ending one."""


class Disordered(SerialExecutor):
    """Performs tasks in any order, as many workers would."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def map(self, work: Work, tasks: Sequence[Task]) -> Generator[Receipt]:
        """Perform every task once."""
        for place in self._random.sample(range(len(tasks)), len(tasks)):
            yield work.perform(tasks[place])


def plain_picture(task: PictureTask) -> Receipt:
    """In place of the picture, which takes longer than all else; made of the same inputs."""
    digests = [digest_file(path) for path in sorted(task.selection.rglob("*")) if path.is_file()]
    task.picture.write_text("\n".join(digests))
    return task.commit([task.picture])


@dataclass
class Ground:
    """A folder with a survey and the jobs, and what an undisturbed run of each leaves."""

    folder: Path
    runner: CliRunner = field(default_factory=CliRunner)
    expected: dict[str, dict[str, str]] = field(default_factory=dict)
    number: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def made(cls, folder: Path) -> Ground:
        """Make all that is needed, while nothing is in the way."""
        ground = cls(folder)
        words = ("simulate", folder / "survey", "--n-objects", N_OBJECTS, "--seed", 1, "--faulty-fraction", 0.1)
        assert ground.call(*words, "--workers", 0).exit_code == 0
        for name, sections in VARIANTS.items():
            weights = folder / f"weights-{sections.get('model', 1)}.keras"
            write_model(weights, seed=sections.get("model", 1))
            content: dict[str, Any] = {
                "name": "machine",
                "catalogue": {"path": "survey/catalogue.fits", "patch_qa": "survey/patch_qa.fits"},
                "ingest": {"sources": ["survey/cutouts"]},
                "storage": {"partition_objects": 16, "chunk_objects": 8},
                "select": {"formats": ["ecsv"]},
            }
            content |= sections
            content["model"] = {
                "path": weights.name,
                "sha256": digest_file(weights),
                "network": {"encoder_filters": [8, 8], "latent_filters": 4},
            }
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        for name in VARIANTS:
            ground.what_is_expected(name)
        return ground

    @classmethod
    def kept(cls, folder: Path) -> Ground:
        """The ground in a folder, made by whoever comes first: histories leave it as it was, if they do not fail."""
        said = folder / "expected.json"
        if said.exists():
            return cls(folder, expected=json.loads(said.read_text()))
        clear(folder)
        folder.mkdir()
        ground = cls.made(folder)
        said.write_text(json.dumps(ground.expected))
        return ground

    def call(self, *words: object) -> Any:
        """Give a command in this process; no command may end with an exception."""
        done = self.runner.invoke(main, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def run(self, name: str, run: Path) -> Any:
        """Run a job."""
        return self.call("run", self.folder / f"{name}.yaml", "--output", run, "--workers", 0)

    def what_is_expected(self, name: str) -> dict[str, str]:
        """What an undisturbed run of a job leaves, but for what it may find there already."""
        if name not in self.expected:
            run = self.folder / f"run-{next(self.number)}"
            assert self.run(name, run).exit_code == 3
            self.expected[name] = results(run)
            copy(run, self.folder / f"undisturbed {name}")
            shutil.rmtree(run)
        return self.expected[name]

    def finished(self, name: str) -> Path:
        """A run that nothing has disturbed."""
        self.what_is_expected(name)
        return self.folder / f"undisturbed {name}"


def results(run: Path) -> dict[str, str]:
    """All results, but for selections of earlier jobs, which a run keeps."""
    return {name: value for name, value in snapshot(run).items() if not name.startswith("selections/")}


@contextmanager
def interrupted_at(number: int) -> Iterator[None]:
    """End the work at the n-th flush or rename."""
    left = itertools.count(-number)

    def counted(usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if next(left) == -1:
                raise Interrupted
            return usual(*arguments, **more)

        return call

    with mock.patch.object(os, "fsync", counted(os.fsync)), mock.patch.object(Path, "replace", counted(Path.replace)):
        yield


class RunMachine(RuleBasedStateMachine):
    """A run directory, what was done to it, and what must hold.

    Attributes
    ----------
    ground : Ground
        Set on a subclass.
    """

    ground: Ground

    def __init__(self) -> None:
        super().__init__()
        self.run_path = self.ground.folder / f"run-{next(self.ground.number)}"
        # The job that the directory was last given, and whether the run of it came to its end.
        self.variant, self.is_finished = "first", False
        # Files that are not as they were, by name; and whether pixels can be read.
        self.damaged: set[str] = set()
        self.has_inputs = True

    def teardown(self) -> None:
        """Leave nothing."""
        self._bring_inputs()
        shutil.rmtree(self.run_path, ignore_errors=True)

    def _bring_inputs(self) -> None:
        self.has_inputs = True
        survey, kept = self.ground.folder / "survey", self.ground.folder / "away"
        if kept.exists():
            kept.rename(survey)

    # ------------------------------------------------------------ what may be done

    @initialize(finished=st.booleans())
    def begin(self, finished: bool) -> None:
        """Half of all begin with a finished run."""
        if finished:
            copy(self.ground.finished("first"), self.run_path)
            self.is_finished = True

    @rule()
    def run(self) -> None:
        """The same command again."""
        self._after_run(self.ground.run(self.variant, self.run_path).exit_code)

    @rule(variant=st.sampled_from(list(VARIANTS)))
    def run_another_job(self, variant: str) -> None:
        """A run of a job that may differ."""
        done = self.ground.run(variant, self.run_path)
        if done.exit_code == 1 and REFUSED in done.output:
            assert (variant == "other partitions") != (self.variant == "other partitions"), done.output
            return
        if self._takes_over(variant):
            self.variant, self.is_finished = variant, False
        self._after_run(done.exit_code)

    @rule(seed=st.integers(0, 99))
    def run_in_any_order(self, seed: int) -> None:
        """Tasks in another order, as with other workers."""
        job = load_job(self.ground.folder / f"{self.variant}.yaml", Job)
        try:
            with Watch() as watch:
                run_job(Run(RunDirectory(self.run_path), job, 1), Disordered(seed), watch)
            code = 3
        except SwimmyError:
            code = 1
        self._after_run(code)

    @rule(number=st.integers(1, 60))
    def interrupt(self, number: int) -> None:
        """A run that ends somewhere in the middle."""
        try:
            with interrupted_at(number):
                code = self.ground.run(self.variant, self.run_path).exit_code
        except Interrupted:
            self.is_finished = False
            self._forget_what_came_back(self._differing())
            return
        self._after_run(code)

    @precondition(lambda self: self._files())
    @rule(seed=st.integers(0, 1 << 32), sort=st.sampled_from(["flip", "high bit", "cut off", "delete", "empty"]))
    def damage(self, seed: int, sort: str) -> None:
        """Something befalls one file."""
        rnd = random.Random(seed)
        name = rnd.choice(self._files())
        path = self.run_path / name
        if sort in ("flip", "high bit"):
            flip(path, rnd, only_high=sort == "high bit")
        elif sort == "delete":
            path.unlink()
        else:
            os.truncate(path, 0 if sort == "empty" else rnd.randrange(max(path.stat().st_size, 1)))
        self.damaged.add(name)

    @rule()
    def verify(self) -> None:
        """It names all that is damaged, and complains of nothing else in a finished run."""
        if not (self.run_path / "receipts").is_dir():
            return
        before = snapshot(self.run_path)
        done = self.ground.call("verify", self.run_path, "--workers", 0)
        assert snapshot(self.run_path) == before, "verify has changed something"
        if self.is_finished and not self.damaged:
            assert done.exit_code == 0, done.output
        if self.damaged:
            assert done.exit_code == 1, f"verify overlooks {self.damaged}"
        if self.is_finished and not any("receipts/" in name for name in self.damaged):
            unnamed = [name for name in self.damaged if f"{name}:" not in done.output and self._has_a_receipt(name)]
            assert not unnamed, f"verify does not name {unnamed}: {done.output}"

    @rule()
    def repair(self) -> None:
        """`verify --repair`: everything comes back, if its inputs are there."""
        if not (self.run_path / "receipts").is_dir():
            return
        code = self.ground.call("verify", self.run_path, "--repair", "--workers", 0).exit_code
        if code == 0:
            assert not self.damaged, "verify --repair finds nothing to do"
            self._must_be_whole()
        elif code == 3:
            self.damaged.clear()
            self.is_finished = True
            self._must_be_whole()
        else:
            assert not self.has_inputs or not (self.run_path / "job.yaml").exists(), "verify --repair fails"
            self.is_finished = False

    @precondition(lambda self: self.has_inputs)
    @rule()
    def remove_inputs(self) -> None:
        """Somebody makes room: finished ingests need their inputs no more."""
        (self.ground.folder / "survey").rename(self.ground.folder / "away")
        self.has_inputs = False

    @precondition(lambda self: not self.has_inputs)
    @rule()
    def bring_inputs_back(self) -> None:
        """They are there again."""
        self._bring_inputs()

    @precondition(lambda self: self.run_path.exists())
    @rule(keeps_times=st.booleans())
    def go_on_with_a_copy(self, keeps_times: bool) -> None:
        """The directory is copied, with or without the times of its files, and work goes on in the copy."""
        target = self.ground.folder / f"run-{next(self.ground.number)}"
        shutil.copytree(self.run_path, target, copy_function=shutil.copy2 if keeps_times else shutil.copyfile)
        shutil.rmtree(self.run_path)
        self.run_path = target

    # ------------------------------------------------------------ what must hold

    @invariant()
    def status_answers(self) -> None:
        """Whatever state it is in."""
        if (self.run_path / "receipts").is_dir():
            assert self.ground.call("status", self.run_path).exit_code in (0, 1)

    def _has_a_receipt(self, name: str) -> bool:
        """Not what lies in an earlier selection that a repair has begun to make again, and could not."""
        selection = name.split("/")[:2]
        return selection[0] != "selections" or Path(self.run_path, *selection, "receipts/select/finished.json").exists()

    def _files(self) -> list[str]:
        """Files that may be damaged: of a finished run all but the logs."""
        return sorted(name for name in snapshot(self.run_path)) if self.is_finished else []

    def _takes_over(self, variant: str) -> bool:
        """Whether the directory has this job now, by its frozen job."""
        frozen = RunDirectory(self.run_path).frozen_job() if (self.run_path / "receipts").is_dir() else None
        asked = load_job(self.ground.folder / f"{variant}.yaml", Job)

        def said(job: Job) -> list[Any]:
            return [job.sample, job.select, job.storage, [model.sha256 for model in job.weights]]

        return frozen is not None and said(frozen) == said(asked)

    def _after_run(self, code: int) -> None:
        if code == 3:
            self.is_finished = True
            # A run looks at sizes and times, `verify` at every byte: flips may still be there.
            differ = self._differing()
            strange = differ - self.damaged
            assert not strange or self.damaged, f"the run is not as the undisturbed one: {sorted(strange)}"
            self._forget_what_came_back(differ)
        else:
            # It may refuse what is damaged, or miss its inputs; else it has no reason to fail.
            assert code == 1, code
            assert self.damaged or not self.has_inputs, "run fails without a reason"
            self.is_finished = False

    def _differing(self) -> set[str]:
        """Results that are not as those of an undisturbed run, by name."""
        expected = self.ground.what_is_expected(self.variant)
        return {name.lstrip("+-") for name in differences(expected, results(self.run_path))}

    def _forget_what_came_back(self, differ: set[str]) -> None:
        """A run has made some files whole again, before it was interrupted if it was."""
        # What lies in selections of earlier jobs no run looks at.
        self.damaged = {name for name in self.damaged if name in differ or name.startswith("selections/")}

    def _must_be_whole(self) -> None:
        if self.is_finished and not self.damaged:
            differ = differences(self.ground.what_is_expected(self.variant), results(self.run_path))
            assert not differ, f"it is not as the undisturbed one: {differ}"


def machine_on(ground: Ground) -> type[RunMachine]:
    """The machine for Hypothesis, on a ground."""
    return type("RunMachineHere", (RunMachine,), {"ground": ground})


@contextmanager
def without_pictures() -> Iterator[None]:
    """Let the stage that draws be quick."""
    from swimmy_scale.stages.picture import PictureStage

    with mock.patch.object(PictureStage, "perform", staticmethod(plain_picture)):
        yield


EXAMPLES, STEPS, SECONDS = 2, 50, 400.0


def try_examples(ground: Ground, n_examples: int, n_steps: int, number: int) -> None:
    """Let Hypothesis choose steps, by a seed; raises what does not hold, with the steps that lead there."""
    chosen = settings(
        max_examples=n_examples,
        stateful_step_count=n_steps,
        deadline=None,
        database=None,
        # Shrinking takes minutes for each failure, and fifty steps can be read.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(machine_on(ground)), settings=chosen)


def told(error: Exception) -> str:
    """What a history breaks, and the steps that lead there."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


def histories(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """Two histories of up to fifty steps, each on a ground that is the same for all."""
    number, folder = rnd.getrandbits(32), lab.a_folder("ground")

    def check(_: int) -> tuple[list[str], str]:
        try:
            with without_pictures():
                try_examples(Ground.kept(folder), EXAMPLES, STEPS, number)
        except Exception as error:
            several = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
            return [told(each) for each in several], "a history that fails"
        return [], f"up to {STEPS} steps"

    outcome = in_a_fork(1, check, SECONDS)
    outcome.tried = EXAMPLES
    if outcome.failures:
        clear(folder)
    return outcome
