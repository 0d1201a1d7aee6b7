"""One picture of a run: score histograms and the strangest candidates with their reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

import swimmy_scale
from swimmy_scale import receipts as commit
from swimmy_scale.cutouts import Cutouts
from swimmy_scale.cuts import band_label
from swimmy_scale.preprocess import preprocess
from swimmy_scale.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.scores import Scores
from swimmy_scale.stages.engine import Task
from swimmy_scale.stages.scoring import Scoring
from swimmy_scale.survey import BoolArray, FloatArray

if TYPE_CHECKING:
    from swimmy_scale.figures.page import Gallery

PICTURE_VERSION = 2
MAX_HISTOGRAM_OBJECTS = 1_000_000


@dataclass(frozen=True)
class PictureTask(Task):
    """The picture of one run."""

    cutouts: Path
    scores: Path
    picture: Path
    scoring: Scoring


def strangest(scores: Scores, n_objects: int) -> npt.NDArray[np.int64]:
    """Rows of the candidates that exceed a threshold of the first level by the largest factor.

    Only bands that select a candidate count for it. Memory does not grow with the survey.

    Returns
    -------
    ndarray of int64, shape (m,), m at most ``n_objects``
        Strangest first; of equal ones, the lower row first.
    """
    threshold = scores.read("threshold", 0, 1)[0]
    rows, excess = np.zeros(0, np.int64), np.zeros(0, np.float64)
    for lo, (score, candidate) in scores.blocks(scores.score_name, "candidate"):
        chosen = np.flatnonzero(candidate[:, 0].any(axis=1))
        # A carried threshold may be 0; every score above it is then infinitely strange.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(candidate[chosen, 0], score[chosen] / threshold, 0.0)
        rows = np.concatenate([rows, lo + chosen])
        excess = np.concatenate([excess, ratio.max(axis=1, initial=0.0)])
        order = np.argsort(-excess, kind="stable")[:n_objects]
        rows, excess = rows[order], excess[order]
    return rows


def _step(scores: Scores) -> int:
    """One of every so many objects is drawn: all of them up to ``MAX_HISTOGRAM_OBJECTS``."""
    return max(-(-scores.n_objects // MAX_HISTOGRAM_OBJECTS), 1)


def _sample(scores: Scores) -> tuple[FloatArray, BoolArray]:
    """Scores and first-level flags of the sample, a column for each selecting band.

    Of a survey of more than ``MAX_HISTOGRAM_OBJECTS`` every k-th object of each block, so that memory is
    bounded; the picture then says so.
    """
    step = _step(scores)
    selecting = scores.survey.band_index(scores.survey.selecting_bands)
    score_parts = [np.zeros((0, len(selecting)), np.float32)]
    flag_parts = [np.zeros((0, len(selecting)), np.bool_)]
    for _, (score, candidate, in_sample) in scores.blocks(scores.score_name, "candidate", "in_sample"):
        rows = np.flatnonzero(in_sample)[::step]
        score_parts.append(score[rows][:, selecting])
        flag_parts.append(candidate[rows, 0][:, selecting])
    return np.concatenate(score_parts), np.concatenate(flag_parts)


def _gallery(task: PictureTask, scores: Scores) -> Gallery:
    """The strangest candidates with their reconstructions."""
    # Matplotlib is a fifth of the time that a process takes to start, and only this one draws.
    from swimmy_scale.figures.page import MAX_GALLERY, Gallery

    rows = strangest(scores, MAX_GALLERY).tolist()
    store, survey = Cutouts(task.cutouts), scores.survey
    selecting = survey.band_index(survey.selecting_bands)
    size = survey.cutout_size_px
    source = np.zeros((len(rows), survey.n_bands, size, size), np.float32)
    for index, row in enumerate(rows):
        fwhm = store.read("fwhm_arcsec", row, row + 1)
        source[index : index + 1] = preprocess(store.images(row, row + 1), fwhm, store.survey)
    reconstruction = reconstructor(task.scoring)(source) if rows else source
    flags = np.array([scores.read("candidate", row, row + 1)[0, 0, selecting] for row in rows], dtype=np.bool_)
    score = np.array([scores.read(scores.score_name, row, row + 1)[0, selecting] for row in rows], dtype=np.float32)
    return Gallery(
        object_id=np.array([scores.read("object_id", row, row + 1)[0] for row in rows], dtype=np.int64),
        label=band_label(flags.reshape(len(rows), len(selecting)), survey.selecting_bands).tolist(),
        score=score.reshape(len(rows), len(selecting)),
        source=source,
        reconstruction=reconstruction,
    )


def reconstructor(scoring: Scoring) -> Callable[[FloatArray], FloatArray]:
    """What the network makes of a source; of several models the mean, in float64 as `ensemble.mean` takes it."""
    # Keras takes seconds to import: only processes that need the network pay for it.
    from swimmy_scale.autoencoder import load
    from swimmy_scale.devices import configure_threads
    from swimmy_scale.scorer import Reconstructor

    configure_threads(scoring.n_threads, as_it_is=True)
    single = [Reconstructor(load(model.path, scoring.network, model.sha256)) for model in scoring.models]

    def reconstruction(source: FloatArray) -> FloatArray:
        total = np.zeros(source.shape, np.float64)
        for one in single:
            total += one(source)
        mean: FloatArray = (total / len(single)).astype(np.float32)
        return mean

    return reconstruction


def draw_picture(task: PictureTask) -> Receipt:
    """Draw the picture and commit its receipt."""
    from swimmy_scale.figures.page import candidate_page

    scores = Scores(task.scores)
    score, candidate = _sample(scores)
    candidate_page(
        task.picture,
        scores.survey,
        score,
        candidate,
        scores.read("threshold")[:, scores.survey.band_index(scores.survey.selecting_bands)],
        [str(level) for level in scores.read("level")],
        _gallery(task, scores),
        simulated=bool(scores.attrs.get("simulated", False)),
        every=_step(scores),
    )
    receipt = Receipt(
        stage=task.ledger.stage,
        name=task.name,
        identity=task.identity,
        files=task.ledger.record_files([task.picture]),
    )
    task.ledger.commit(receipt)
    return receipt


@dataclass(frozen=True)
class PictureStage:
    """The picture of a run directory."""

    ledger: Ledger
    cutouts: Path
    scores: Path
    picture: Path
    scoring: Scoring
    select: Ledger

    perform: Callable[[PictureTask], Receipt] = draw_picture
    probe: Callable[[Any, int, int], None] | None = None
    wants_gpu: ClassVar[bool] = True
    when_finished: ClassVar[str] = ""

    @property
    def identity(self) -> str:
        """Digest of the selection and the models."""
        done = self.select.read(FINISHED)
        return commit.digest_json(
            [
                "picture",
                PICTURE_VERSION,
                swimmy_scale.__version__,
                done.identity if done else "",
                *self.scoring.identity,
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
                self.scoring,
            )
        ]

    def finish(self, receipts: Iterable[Receipt]) -> Receipt:
        """Nothing to add up."""
        return self.ledger.finish(self.identity, Parts.of(receipts), [])
