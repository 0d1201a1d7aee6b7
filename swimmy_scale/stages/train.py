"""Training: weights from the training class of the sample, and the choice of the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Settings
from swimmy_scale.method.network import Network, Schedule
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.sections import TrainSection
from swimmy_scale.method.survey import IntArray
from swimmy_scale.method.weight_sets import by_validation_loss
from swimmy_scale.method.words import counted
from swimmy_scale.stages.choice import MANIFEST_VERSION, Choice, kept_weight_sets
from swimmy_scale.stages.engine import Count, Stage, Task
from swimmy_scale.stages.lost_workers import clear_attempts
from swimmy_scale.stages.memory import MemoryLimits, train_memory_bytes
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.files import digest_json, read_bytes, remove, write_atomically
from swimmy_scale.storage.partitions import await_cutouts, digest_without_additions
from swimmy_scale.storage.receipts import Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import ModelsFolder


def _begin(folder: Path, identity: bytes) -> Path:
    """Keep what is in the folder of a training if it has this identity; what belongs to other data or settings goes.

    Returns
    -------
    Path
        The file that holds the identity.
    """
    started = folder / "identity.txt"
    try:
        if read_bytes(started) == identity:
            return started
    except OSError as error:
        # Hours of training are not thrown away where it cannot be read: each state says whose it is.
        is_ours = not isinstance(error, FileNotFoundError)
    else:
        is_ours = False
    if not is_ours:
        remove(folder)
    write_atomically(started, identity)
    return started


@dataclass(frozen=True)
class TrainTask(Task):
    """One training: a network, and a schedule with a seed of its own."""

    cutouts: Path
    folder: Path
    network: Network
    schedule: Schedule
    cuts: SampleCuts
    section: TrainSection


def training_rows(store: Cutouts, cuts: SampleCuts, section: TrainSection, seed: int) -> IntArray:
    """Rows of the sample to train on, int64 (n,), ascending: those of the given classes, or all if none is given.

    Raises
    ------
    SwimmyError
        When there is no such object.
    """
    parts = list(_trainable_rows(store, cuts, section.classes))
    rows = np.concatenate([np.zeros(0, np.int64), *(part for part, _ in parts)])
    if rows.size == 0:
        if not any(n_usable for _, n_usable in parts):
            raise SwimmyError(
                f"{store.path}: all {counted(store.n_objects, 'objects')} are in quarantine: there is nothing to train "
                "on. quarantine.csv says why."
            )
        classes = ", ".join(section.classes) or "any"
        raise SwimmyError(
            f"{store.path}: no object of class {classes} passes the sample cuts: there is nothing to train on. Set "
            "train.classes to classes of the catalogue's sample_class, or to [] for the whole sample."
        )
    if section.max_objects is not None and rows.size > section.max_objects:
        rows = np.sort(np.random.default_rng(seed).choice(rows, section.max_objects, replace=False))
    return rows


def _trainable_rows(store: Cutouts, cuts: SampleCuts, classes: tuple[str, ...]) -> Iterator[tuple[IntArray, int]]:
    """The rows of each partition that can be trained on, and the number of its objects that are not in quarantine."""
    rule = SampleRule.of(store, cuts)
    for lo, hi in store.partitions():
        usable = store.read("quarantine_code", lo, hi) == 0
        wanted, _ = rule.apply(store, lo, hi, usable)
        if classes:
            wanted = wanted & np.isin(store.read("sample_class", lo, hi).astype(str), classes)
        yield lo + np.flatnonzero(wanted), int(usable.sum())


def perform_training(task: TrainTask) -> Receipt:
    """Perform one training, from its last finished epoch on, and commit its receipt."""
    from swimmy_scale.model.devices import configure_threads
    from swimmy_scale.model.training import sound_states, train

    n_threads = task.section.n_threads
    configure_threads(n_threads)
    await_cutouts(task.cutouts)
    store = Cutouts.without_additions(task.cutouts)
    rows = training_rows(store, task.cuts, task.section, task.schedule.seed)
    started = _begin(task.folder, task.identity.encode())
    result = train(
        store.sources(rows),
        task.network,
        task.schedule,
        task.folder,
        n_threads,
        # Losing a worker after an epoch is no sign of a fault: the next worker goes on from there.
        on_epoch=lambda _: clear_attempts(task.ledger, task.name),
    )
    # Nothing else that lies there is vouched for.
    made = [started, task.folder / "history.csv", task.folder / "history.json", *sound_states(task.folder)]
    made += [task.folder / record.file for record in result.epochs if record.file]
    return task.commit(
        sorted(made),
        digest_json([record.sha256 for record in result.epochs if record.file]),
        {"n_training_objects": len(rows), "epochs": [asdict(record) for record in result.epochs]},
    )


@dataclass(frozen=True)
class TrainStage(Stage):
    """All trainings of a job; and the choice of the weight sets that score, unless an evaluation follows.

    The weight sets with the lowest validation losses over all trainings and kept epochs are chosen; of equal losses
    the one of the lower training, then of the lower epoch. With a grid all are of the network of the best one.
    """

    ledger: Ledger
    cutouts: Path
    models: ModelsFolder
    settings: Settings
    limits: MemoryLimits | None = None

    perform = staticmethod(perform_training)
    wants_gpu = True
    own_cores = False  # trainings are few and long, and the job says how many threads each has

    @property
    def section(self) -> TrainSection:
        """The settings of training; settings of a single stage may leave all of it to the defaults."""
        return self.settings.train or TrainSection()

    @property
    def cuts(self) -> SampleCuts:
        """The cuts of the objects to train on."""
        return self.section.cuts(self.settings.sample)

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """The networks, of which each is trained ``n_runs`` times; one network without a grid."""
        survey = Cutouts.without_additions(self.cutouts).survey
        return tuple(sizes.for_survey(survey) for sizes in self.section.networks)

    @property
    def network_of_training(self) -> tuple[Network, ...]:
        """The network of every training: all trainings of one network, then those of the next."""
        return tuple(network for network in self.networks for _ in range(self.section.n_runs))

    @property
    def is_grid(self) -> bool:
        """Whether there are several networks."""
        return len(self.networks) > 1

    @property
    def identity(self) -> str:
        """Digest of what the weights depend on, and of how they are chosen."""
        score = self.settings.score
        choice = "chosen later" if self.section.evaluates else [score.n_models, score.one_a_run and score.n_models > 1]
        return digest_json([self._training, choice])

    @property
    def _training(self) -> str:
        """Digest of what the weights depend on alone, so that another choice does not train again."""
        section = self.section
        return digest_json(
            [
                "train",
                MANIFEST_VERSION,
                swimmy_scale.__version__,
                digest_without_additions(self.cutouts),
                [asdict(network) for network in self.networks],
                asdict(section.schedule),
                section.n_runs,
                asdict(self.cuts),
                section.classes,
                section.max_objects,
                # TensorFlow adds gradients up in another order with other threads: they are part of the result.
                section.n_threads,
            ]
        )

    def count(self) -> Count:
        """Epochs finished, from the histories that the trainings write."""

        def seen() -> int:
            return sum(max(path.read_bytes().count(b"\n") - 1, 0) for path in self.models.histories() if path.is_file())

        return Count("epochs", len(self.network_of_training) * self.section.schedule.epochs, seen)

    def _check_memory(self) -> None:
        if self.limits is None:
            return
        store, section = Cutouts.without_additions(self.cutouts), self.section
        n_objects = sum(len(rows) for rows, _ in _trainable_rows(store, self.cuts, section.classes))
        n_objects = min(n_objects, section.max_objects or n_objects)
        needed = max(
            train_memory_bytes(store.survey, network, n_objects, section.schedule.batch_size)
            for network in self.networks
        )
        remedy = "Lower train.max_objects and run again"
        self.limits.check(f"training on {counted(n_objects, 'objects')}", needed, self.wants_gpu, remedy)

    def plan(self) -> Sequence[TrainTask]:
        """One task for each training, each with a seed of its own; their memory is checked first."""
        self._check_memory()
        self.models.keep_only(len(self.network_of_training))
        identity = self._training
        return [
            TrainTask(
                ledger=self.ledger,
                index=index,
                identity=digest_json([identity, index]),
                n_objects=0,
                cutouts=self.cutouts,
                folder=self.models.training(index),
                network=network,
                schedule=self.section.schedule.of_run(index),
                cuts=self.cuts,
                section=self.section,
            )
            for index, network in enumerate(self.network_of_training)
        ]

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Copy the weights of the lowest validation loss to ``selected.keras``; write the manifest.

        With a grid the table of weight sets is written as well. An evaluation by earlier settings is removed.
        """
        receipts = list(receipts)
        if self.section.evaluates:
            return self.ledger.finish(self.identity, Parts.of(receipts), [])
        remove(self.models.evaluations)
        remove(self.models.table)
        score = self.settings.score
        choice = Choice(self.models, score, self.is_grid)
        kept = kept_weight_sets(self.models, receipts, self.network_of_training)
        files, details = choice.write(kept, by_validation_loss(kept), {"rule": "lowest validation loss"})
        if self.is_grid:
            meta = {"choose": "validation_loss", "n_models": score.n_models, "one_a_run": score.one_a_run}
            files.append(choice.write_table(kept, (), (), meta))
        return self.ledger.finish(self.identity, Parts.of(receipts), files, details)
