"""One picture of a run: score histograms and the strangest candidates with their reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import swimmy_scale
from swimmy_scale import receipts as commit
from swimmy_scale.network import Network
from swimmy_scale.receipts import FINISHED, Ledger, Receipt
from swimmy_scale.scores import Scores
from swimmy_scale.stages.engine import Task

PICTURE_VERSION = 1
N_GALLERY = 12


@dataclass(frozen=True)
class PictureTask(Task):
    """The picture of one run."""

    cutouts: Path
    scores: Path
    picture: Path
    model: Path
    model_sha256: str
    network: Network
    n_threads: int


def strangest(scores: Scores, n_objects: int) -> Any:
    """Rows of the candidates that exceed a threshold by the largest factor, strangest first."""
    threshold = scores.read("threshold", 0, 1)[0]
    rows, excess = [], []
    for lo, (score, candidate) in scores.blocks("score", "candidate"):
        chosen = np.flatnonzero(candidate[:, 0].any(axis=1))
        ratio = np.where(candidate[chosen, 0], score[chosen] / threshold, 0.0)
        rows.append(lo + chosen)
        excess.append(ratio.max(axis=1, initial=0.0))
    order = np.argsort(-np.concatenate(excess), kind="stable")[:n_objects]
    return np.concatenate(rows)[order]


def draw_picture(task: PictureTask) -> Receipt:
    """Draw the picture and commit its receipt."""
    r = Receipt(task.ledger.stage, task.name, task.identity); task.ledger.commit(r); return r


@dataclass(frozen=True)
class PictureStage:
    """The picture of a run directory."""

    ledger: Ledger
    cutouts: Path
    scores: Path
    picture: Path
    model: Path
    model_sha256: str
    network: Network
    n_threads: int
    select: Ledger

    perform: Callable[[PictureTask], Receipt] = draw_picture

    @property
    def identity(self) -> str:
        """Digest of the selection and the model."""
        done = self.select.read(FINISHED)
        return commit.digest_json(
            [
                "picture",
                PICTURE_VERSION,
                swimmy_scale.__version__,
                done.identity if done else "",
                self.model_sha256,
                asdict(self.network),
            ]
        )

    def poll(self) -> None:
        """It takes seconds."""

    def plan(self) -> Sequence[PictureTask]:
        """One task."""
        return [
            PictureTask(
                self.ledger,
                0,
                self.identity,
                0,
                self.cutouts,
                self.scores,
                self.picture,
                self.model,
                self.model_sha256,
                self.network,
                self.n_threads,
            )
        ]

    def finish(self, receipts: Sequence[Receipt]) -> Receipt:
        """Nothing to add up."""
        return self.ledger.finish(self.identity, receipts, [], {"n_tasks": len(receipts)})
