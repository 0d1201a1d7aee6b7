"""Training: the sample's training class becomes weights; the best of them are selected."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network, Schedule
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.weight_sets import by_validation_loss
from swimmy_scale.stages.attempts import clear_attempts
from swimmy_scale.stages.choice import MANIFEST_VERSION, Choice, kept_weight_sets, run_folder, several
from swimmy_scale.stages.engine import Poll, Task
from swimmy_scale.stages.memory import MemoryLimits, train_memory_bytes
from swimmy_scale.storage.cutouts import Cutouts, SampleRule, training_cubes
from swimmy_scale.storage.files import digest_json, write_atomically
from swimmy_scale.storage.receipts import Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import store_digest


@dataclass(frozen=True)
class TrainTask(Task):
    """One training run."""

    cutouts: Path
    folder: Path
    network: Network
    schedule: Schedule
    cuts: SampleCuts
    classes: tuple[str, ...]
    max_objects: int | None
    n_threads: int


def training_rows(
    store: Cutouts, cuts: SampleCuts, classes: tuple[str, ...], max_objects: int | None, seed: int
) -> Any:
    """Rows to train on: in the sample, of the given classes; all of the sample when none is given.

    Returns
    -------
    ndarray of int64, shape (n,)
        Ascending.

    Raises
    ------
    SwimmyError
        When there is no such object.
    """
    chosen, n_usable = [], 0
    for part, n_usable_of_part in _candidate_rows(store, cuts, classes):
        chosen.append(part)
        n_usable += n_usable_of_part
    rows = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    if rows.size == 0:
        if n_usable == 0:
            raise SwimmyError(
                f"{store.path}: all {store.n_objects} objects are in quarantine: there is nothing to train on. "
                "quarantine.csv says why."
            )
        raise SwimmyError(
            f"{store.path}: no object of class {', '.join(classes) or 'any'} passes the sample cuts: there is nothing "
            "to train on. Set train.classes to classes of the catalogue's sample_class, or to [] for the whole sample."
        )
    if max_objects is not None and rows.size > max_objects:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_objects, replace=False))
    return rows


def _candidate_rows(store: Cutouts, cuts: SampleCuts, classes: tuple[str, ...]) -> Iterator[tuple[Any, int]]:
    """Of each partition the rows that may be trained on, and how many can be used at all."""
    rule = SampleRule.of(store, cuts)
    for lo in range(0, store.n_objects, store.partition_objects):
        hi = min(lo + store.partition_objects, store.n_objects)
        usable = store.read("quarantine_code", lo, hi) == 0
        wanted, _ = rule.apply(store, lo, hi, usable)
        if classes:
            wanted = wanted & np.isin(store.read("sample_class", lo, hi).astype(str), classes)
        yield lo + np.flatnonzero(wanted), int(usable.sum())


def train_run(task: TrainTask) -> Receipt:
    """Train one run, going on after its last finished epoch, and commit its receipt."""
    from swimmy_scale.model.devices import configure_threads
    from swimmy_scale.model.training import train

    configure_threads(task.n_threads)
    store = Cutouts(task.cutouts)
    rows = training_rows(store, task.cuts, task.classes, task.max_objects, task.schedule.seed)
    started = task.folder / "identity.txt"
    if not started.is_file() or started.read_text() != task.identity:
        # What is there belongs to other data or settings: it must not be continued.
        shutil.rmtree(task.folder, ignore_errors=True)
        write_atomically(started, task.identity.encode())
    result = train(
        training_cubes(store, rows),
        task.network,
        task.schedule,
        task.folder,
        task.n_threads,
        # A worker that is lost after an epoch is no sign of a fault: the next one goes on from there.
        on_epoch=lambda _: clear_attempts(task.ledger, task.name),
    )
    kept = [record for record in result.epochs if record.file]
    receipt = Receipt(
        stage=task.ledger.stage,
        name=task.name,
        identity=task.identity,
        n_objects=task.n_objects,
        data_digest=digest_json([record.sha256 for record in kept]),
        files=task.ledger.record_files(sorted(path for path in task.folder.iterdir() if path.is_file())),
        details={
            "n_training_objects": len(rows),
            "epochs": [asdict(record) for record in result.epochs],
        },
    )
    task.ledger.commit(receipt)
    return receipt


@dataclass(frozen=True)
class TrainStage:
    """All training runs of a job, and the choice of ``selected.keras`` and of the weight sets that score.

    Attributes
    ----------
    networks : tuple of Network
        Each is trained ``n_runs`` times; one where there is no grid.
    n_models : int
        Weight sets that score: those of the lowest validation losses over all runs and kept epochs; of equal losses
        the one of the lower run, then epoch. With a grid, of the network of the lowest one.
    one_a_run : bool
        Whether these are of different runs.
    chooses : bool
        False leaves the choice to the evaluation that follows.
    """

    ledger: Ledger
    cutouts: Path
    models: Path
    networks: tuple[Network, ...]
    schedule: Schedule
    n_runs: int
    cuts: SampleCuts
    classes: tuple[str, ...]
    max_objects: int | None
    n_threads: int
    limits: MemoryLimits | None = None
    n_models: int = 1
    one_a_run: bool = False
    chooses: bool = True

    perform: Callable[[TrainTask], Receipt] = train_run
    probe: Callable[[Any, int, int], None] | None = None
    wants_gpu: ClassVar[bool] = True
    when_finished: ClassVar[str] = ""

    @property
    def identity(self) -> str:
        """Digest of what the weights depend on, and of how many are chosen where it is not one."""
        if not self.chooses:
            return digest_json([self._training, "chosen later"])
        if self.n_models == 1:
            return self._training
        return digest_json([self._training, *several(self.n_models, self.one_a_run)])

    @property
    def network_of_run(self) -> tuple[Network, ...]:
        """The network of every run: all runs of one network, then those of the next."""
        return tuple(network for network in self.networks for _ in range(self.n_runs))

    @property
    def _training(self) -> str:
        """Digest of the training data, network, schedule, cuts and code version: the choice trains nothing again."""
        return digest_json(
            [
                "train",
                MANIFEST_VERSION,
                swimmy_scale.__version__,
                store_digest(self.cutouts),
                asdict(self.networks[0]) if len(self.networks) == 1 else [asdict(item) for item in self.networks],
                asdict(self.schedule),
                self.n_runs,
                asdict(self.cuts),
                self.classes,
                self.max_objects,
                # TensorFlow adds gradients up in another order with other threads: they are part of the result.
                self.n_threads,
            ]
        )

    def poll(self) -> Poll:
        """Epochs finished, from the histories that the runs write."""

        def count() -> int:
            n_lines = 0
            for history in self.models.glob("run-*/history.csv"):
                n_lines += max(len(history.read_text().splitlines()) - 1, 0)
            return n_lines

        return Poll("epochs", len(self.network_of_run) * self.schedule.epochs, count)

    def _check_memory(self) -> None:
        if self.limits is None:
            return
        store = Cutouts(self.cutouts)
        n_objects = sum(len(rows) for rows, _ in _candidate_rows(store, self.cuts, self.classes))
        n_objects = min(n_objects, self.max_objects or n_objects)
        needed = max(
            train_memory_bytes(store.survey, network, n_objects, self.schedule.batch_size) for network in self.networks
        )
        remedy = "Lower train.max_objects in a new run, which takes this store by `cutouts:`"
        self.limits.check(f"training on {n_objects} objects", needed, self.wants_gpu, remedy)

    def plan(self) -> Sequence[TrainTask]:
        """One task a run, each with a seed of its own.

        Raises
        ------
        SwimmyError
            When there is more to train on than a process has memory for.
        """
        self._check_memory()
        identity = self._training
        return [
            TrainTask(
                ledger=self.ledger,
                index=run,
                identity=digest_json([identity, run]),
                n_objects=0,
                cutouts=self.cutouts,
                folder=self.models / run_folder(run),
                network=network,
                schedule=self.schedule.of_run(run),
                cuts=self.cuts,
                classes=self.classes,
                max_objects=self.max_objects,
                n_threads=self.n_threads,
            )
            for run, network in enumerate(self.network_of_run)
        ]

    def finish(self, receipts: Iterable[Receipt]) -> Receipt:
        """Copy the kept weights of the lowest validation loss to ``selected.keras``; write the manifest.

        With a grid the table of weight sets is written, too.

        Raises
        ------
        SwimmyError
            When fewer weight sets were kept than are to score.
        """
        receipts = list(receipts)
        if not self.chooses:
            return self.ledger.finish(self.identity, Parts.of(receipts), [])
        is_grid = len(self.networks) > 1
        choice = Choice(self.models, self.n_models, is_grid, self.one_a_run)
        kept = kept_weight_sets(receipts, self.network_of_run)
        files, details = choice.write(kept, by_validation_loss(kept), {"rule": "lowest validation loss"})
        if is_grid:
            meta = {"choose": "validation_loss", "n_models": self.n_models, "one_a_run": self.one_a_run}
            files.append(choice.write_table(kept, (), (), meta))
        return self.ledger.finish(self.identity, Parts.of(receipts), files, details)
