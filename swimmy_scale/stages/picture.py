"""The stage that draws ``candidates.png``: score histograms and the strangest candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

import swimmy_scale
from swimmy_scale.method.candidates import band_label
from swimmy_scale.model.scoring import Scoring, reconstructor
from swimmy_scale.stages.engine import Stage, Task
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_json
from swimmy_scale.storage.partitions import await_cutouts
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.selection import Selection, strangest

if TYPE_CHECKING:
    from swimmy_scale.results.picture import Gallery

PICTURE_VERSION = 5


@dataclass(frozen=True)
class PictureTask(Task):
    """What the picture of a run is made of; ``selected`` is the identity of the selection."""

    cutouts: Path
    selection: Path
    picture: Path
    scoring: Scoring
    selected: str

    def seconds(self, n_threads: int) -> float:
        """See `Task.seconds`."""
        return 1.0

    def with_threads(self, n_threads: int) -> Self:
        """See `Task.with_threads`."""
        return replace(self, scoring=replace(self.scoring, n_threads=n_threads))


def _gallery(task: PictureTask, selection: Selection) -> Gallery:
    """The strangest candidates with their reconstructions."""
    # Importing Matplotlib is a fifth of the time that a process takes to start, and only this one draws.
    from swimmy_scale.results.picture import MAX_GALLERY, Gallery

    strange = strangest(selection, MAX_GALLERY)
    rows, place = np.sort(strange), np.argsort(np.argsort(strange))
    selecting = selection.survey.band_index(selection.survey.selecting_bands)
    columns = selection.at(rows, "object_id", "candidate", selection.score_name)
    object_id, flags, score = (values[place] for values in columns)
    source = Cutouts(task.cutouts).sources(rows)[place]
    reconstruction = reconstructor(task.scoring)(source) if len(rows) else source
    return Gallery(
        object_id=object_id,
        label=band_label(flags[:, 0, selecting], selection.survey.selecting_bands).tolist(),
        score=score[:, selecting],
        source=source,
        reconstruction=reconstruction,
    )


def draw_picture(task: PictureTask) -> Receipt:
    """Draw the picture and commit its receipt."""
    from swimmy_scale.results.picture import sample_histogram, write_picture

    replace(task.ledger, stage="score").await_all()
    replace(task.ledger, stage="select").await_all(lambda receipt: receipt.identity == task.selected)
    await_cutouts(task.cutouts)
    selection = Selection(task.selection)
    write_picture(
        task.picture,
        selection.survey,
        sample_histogram(selection),
        selection.read("threshold")[:, selection.survey.band_index(selection.survey.selecting_bands)],
        selection.levels,
        _gallery(task, selection),
        simulated=selection.simulated,
    )
    return task.commit([task.picture])


@dataclass(frozen=True)
class PictureStage(Stage):
    """The picture of a run directory, drawn by one task once the stage of the ledger ``select`` is finished.

    The models of ``scoring`` reconstruct the gallery's cutouts.
    """

    ledger: Ledger
    cutouts: Path
    selection: Path
    picture: Path
    scoring: Scoring
    select: Ledger

    perform = staticmethod(draw_picture)

    @property
    def wants_gpu(self) -> bool:
        """It needs none, but the workers that have scored are there already."""
        return self.scoring.scorer == "keras"

    @property
    def identity(self) -> str:
        """Digest of the selection and the models."""
        version = swimmy_scale.__version__
        return digest_json(["picture", PICTURE_VERSION, version, self._selected, *self.scoring.identity])

    @property
    def _selected(self) -> str:
        done = self.select.read(FINISHED)
        return done.identity if done else ""

    def plan(self) -> Sequence[PictureTask]:
        """One task."""
        of_run = (self.cutouts, self.selection, self.picture, self.scoring, self._selected)
        return [PictureTask(self.ledger, 0, self.identity, 0, *of_run)]

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Close the stage; the only file is that of its task."""
        return self.ledger.finish(self.identity, Parts.of(receipts), [])
