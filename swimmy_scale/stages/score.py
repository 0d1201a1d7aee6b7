"""Scoring: one partition of ``cutouts.zarr`` becomes the same partition of ``scores.zarr``."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

import swimmy_scale
from swimmy_scale.method.descriptor import descriptor
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.words import counted
from swimmy_scale.model.files import read_model_file
from swimmy_scale.model.scoring import Scoring, computed_by, score_rows
from swimmy_scale.stages.engine import Stage, Task, Tasks
from swimmy_scale.stages.lost_workers import LEFT_OUT_REASON, left_out, left_out_files
from swimmy_scale.storage.creation import OtherLayoutError, create
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_json, remove
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.partitions import await_partition, partition_digest, store_digest
from swimmy_scale.storage.receipts import Ledger, Parts, Receipt
from swimmy_scale.storage.scores import FORMAT_VERSION, scores_layout
from swimmy_scale.storage.store import digest_columns, write_partition

log = logging.getLogger("swimmy_scale")


@dataclass(frozen=True)
class ScoreTask(Task):
    """One partition to score; ``data_digest`` is that of its cutouts."""

    cutouts: Path
    scores: Path
    layout: Layout
    scoring: Scoring
    data_digest: str

    def seconds(self, n_threads: int) -> float:
        """See `Task.seconds`; TensorFlow is for processes of their own."""
        return self.n_objects * self.scoring.core_seconds_per_object / n_threads

    def with_threads(self, n_threads: int) -> Self:
        """See `Task.with_threads`."""
        return replace(self, scoring=replace(self.scoring, n_threads=n_threads))


def probe_score(task: ScoreTask, lo: int, hi: int) -> None:
    """Score rows ``lo`` to ``hi`` of a task, counted from its first, and write nothing."""
    await_partition(task.cutouts, task.index, task.data_digest, task.layout.n_objects)
    store, first = Cutouts(task.cutouts), task.layout.rows(task.index).start
    usable = store.read("quarantine_code", first + lo, first + hi) == 0
    skipped = [row - lo for row in left_out(task.ledger, task.name) if lo <= row < hi]
    usable[skipped] = False
    score_rows(store, task.scoring, first + lo, first + hi, usable)


def score_partition(task: ScoreTask) -> Receipt:
    """Score one partition, write it, commit its receipt.

    An object whose score is not finite is quarantined with a reason; its score is NaN.
    """
    await_partition(task.cutouts, task.index, task.data_digest, task.layout.n_objects)
    store = Cutouts(task.cutouts)
    rows = task.layout.rows(task.index)
    lo, hi = rows.start, rows.stop
    code = store.read("quarantine_code", lo, hi)
    skipped = np.array(left_out(task.ledger, task.name), dtype=np.int64)
    skipped = skipped[code[skipped] == 0]
    code[skipped] = Code.ENDED_WORKERS
    score, residual, *rings = score_rows(store, task.scoring, lo, hi, code == 0)
    failed = np.flatnonzero((code == 0) & ~np.isfinite(score + residual).all(axis=(1, 2)))
    described = dict(zip(("descriptor",), map(descriptor, rings), strict=False))
    for array in (score, residual, *described.values()):
        array[failed] = np.nan
    code[failed] = Code.SCORING_FAILED
    reasons = {int(row): "score is not finite" for row in failed} | {int(row): LEFT_OUT_REASON for row in skipped}
    object_id = store.read("object_id", lo, hi)
    values = {
        "score": score.reshape(task.layout.shape(task.layout.variable("score"), hi - lo)),
        "residual": residual.reshape(task.layout.shape(task.layout.variable("residual"), hi - lo)),
        **described,
        "object_id": object_id,
        "ra": store.read("ra", lo, hi),
        "dec": store.read("dec", lo, hi),
        "sample_class": store.read("sample_class", lo, hi),
        "quarantine_code": code,
        **{name: store.read(name, lo, hi) for name in store.kept},
    }
    names = values.get(OBJECT_NAME)
    details = {
        "n_scored": int((code == 0).sum()),
        "n_quarantined": int((code != 0).sum()),
        "computed_by": computed_by(task.scoring, store.survey),
        "quarantined": [
            [
                lo + row,
                int(object_id[row]),
                int(code[row]),
                "",
                "",
                reason,
                *([str(names[row])] if names is not None else []),
            ]
            for row, reason in sorted(reasons.items())
        ],
    }
    files = write_partition(task.scores, task.layout, task.index, values)
    files += left_out_files(task.ledger, task.name)
    return task.commit(files, digest_columns(values), details, object_id)


@dataclass(frozen=True)
class ScoreStage(Stage):
    """Scores of a whole ``cutouts.zarr``.

    With ``owned`` scores of another layout, which an earlier job made, are replaced.
    """

    ledger: Ledger
    cutouts: Path
    scores: Path
    scoring: Scoring
    owned: bool = False

    perform = staticmethod(score_partition)
    probe = staticmethod(probe_score)

    @property
    def wants_gpu(self) -> bool:
        """Only the scorer of Keras computes on a GPU."""
        return self.scoring.scorer == "keras"

    @property
    def _settings(self) -> list[Any]:
        return ["score", FORMAT_VERSION, swimmy_scale.__version__, *self.scoring.identity]

    @property
    def identity(self) -> str:
        """Digest of model, code version and the data of all partitions."""
        return digest_json([*self._settings, store_digest(self.cutouts)])

    def _layout(self, store: Cutouts) -> Layout:
        return scores_layout(
            store.n_objects,
            store.attrs["survey"],
            store.survey,
            store.kept,
            store.partition_objects,
            store.chunk_objects,
            {
                "model_sha256": self.scoring.sha256,
                "scorer": self.scoring.scorer,
                **self.scoring.kind.described,
                "simulated": bool(store.attrs.get("simulated", False)),
                # As seen from the folder of the scores, so that both can be moved together.
                "cutouts": os.path.relpath(self.cutouts, self.scores.parent),
            },
            # Models are called by their position in model_sha256: their digests change with every training.
            tuple(str(k) for k in range(len(self.scoring.models))) if len(self.scoring.models) > 1 else (),
            self.scoring.kind,
            self.scoring.descriptors,
        )

    def plan(self) -> Sequence[ScoreTask]:
        """One task a partition; creates ``scores.zarr``."""
        # A model file that does not have its digest ends the run here, before any worker is started.
        for model in self.scoring.models:
            read_model_file(model.path, model.sha256)
        store = Cutouts(self.cutouts)
        layout = self._layout(store)
        try:
            create(self.scores, layout, may_grow=True)
        except OtherLayoutError:
            if not self.owned:
                raise
            remove(self.scores)
            create(self.scores, layout)
        # The identity holds the data of this partition alone: when another one changes, this is not scored again.
        settings = digest_json(self._settings)

        def task(index: int) -> ScoreTask:
            data_digest = partition_digest(self.cutouts, index)
            return ScoreTask(
                ledger=self.ledger,
                index=index,
                identity=digest_json([settings, data_digest]),
                n_objects=len(layout.rows(index)),
                cutouts=self.cutouts,
                scores=self.scores,
                layout=layout,
                scoring=self.scoring,
                data_digest=data_digest,
            )

        return Tasks(range(layout.n_partitions), task)

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Add up what the partitions counted."""
        files = create(self.scores, self._layout(Cutouts(self.cutouts)), may_grow=True)
        parts, n_scored, n_quarantined = Parts(), 0, 0
        kinds = Counter[str]()
        for receipt in parts.count(receipts):
            n_scored += int(receipt.details["n_scored"])
            n_quarantined += int(receipt.details["n_quarantined"])
            kinds[receipt.details["computed_by"]] += receipt.n_objects
        warnings = list(self._mixed(kinds))
        for warning in warnings:
            log.warning(warning)
        return self.ledger.finish(
            self.identity,
            parts,
            files,
            {
                "n_scored": n_scored,
                "computed_by": dict(sorted(kinds.items())),
                "n_quarantined": n_quarantined,
                "warnings": warnings,
            },
        )

    def _mixed(self, kinds: Counter[str]) -> Iterator[str]:
        """What to know of scores that processors of several ``kinds`` have computed."""
        if len(kinds) > 1:
            said = ", ".join(f"{counted(number, 'objects')} by {kind}" for kind, number in sorted(kinds.items()))
            yield (
                f"{self.scores}: scored {said}; such scores differ in their last digits. For scores of one kind "
                f"remove {self.ledger.folder / self.ledger.stage} and run again where all workers are alike."
            )
