"""Selection: exact thresholds over the whole sample, candidate flags, the candidate catalogue, the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import swimmy_scale
from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.candidates import candidates, high_but_negative, selection_counts
from swimmy_scale.method.ensemble import Rule
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.sections import SelectSection
from swimmy_scale.method.survey import BoolArray, DoubleArray
from swimmy_scale.method.thresholds import load_thresholds, thresholds_to_json
from swimmy_scale.stages.carried_thresholds import SUMMARY_VERSION, Carried, keep_carried, scores_made_of
from swimmy_scale.stages.combine import combine_scores, describe
from swimmy_scale.stages.engine import Count, Stage, Task
from swimmy_scale.storage.files import digest_json, write_json
from swimmy_scale.storage.quarantine_file import write_quarantine
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder
from swimmy_scale.storage.scores import (
    IN_MEMORY_OBJECTS,
    Scores,
    candidate_rows,
    sample_thresholds,
    write_selection,
)

# What every selection reads all rows for.
PASSES = ("in_sample and quarantine_code", "candidate flags", "known classes", "counts", "candidates")


def selection_count(path: Path, carried: bool, combine: Rule) -> Count:
    """How the progress of a selection is counted: in rows, over all its passes."""
    scores, n_passes = Scores(path), len(PASSES)
    if scores.n_models > 1:
        n_passes += 2 if combine == "rank" else 1
    if not carried:
        n_passes += 1 if scores.n_objects <= IN_MEMORY_OBJECTS else 2
    return Count("rows", n_passes * scores.n_objects)


def _flags(scores: Scores, threshold: DoubleArray) -> Iterator[tuple[int, BoolArray]]:
    selecting = scores.survey.band_index(scores.survey.selecting_bands)
    for lo, (score, residual, in_sample) in scores.blocks(scores.score_name, scores.residual_name, "in_sample"):
        yield lo, candidates(score, residual, threshold, in_sample, selecting)


def _selected(scores: Scores, levels: Sequence[str], threshold: DoubleArray) -> dict[str, Any]:
    """The rows of table 2 for each level, added up block by block so that memory does not grow with the survey."""
    selecting = list(scores.survey.selecting_bands)
    picks = scores.survey.band_index(selecting)
    classes = sorted({str(name) for _, (known,) in scores.blocks("sample_class") for name in np.unique(known)} - {""})
    negative = np.zeros((len(levels), len(selecting)), np.int64)
    rows: list[dict[str, dict[str, Any]]] = [{} for _ in levels]
    names = (scores.score_name, scores.residual_name, "in_sample", "sample_class", "candidate")
    for _, (score, residual, in_sample, known, candidate) in scores.blocks(*names):
        negative += high_but_negative(score, residual, threshold, in_sample)[:, :, picks].sum(axis=0)
        groups = {name: known == name for name in classes}
        for k in range(len(levels)):
            _add_counts(rows[k], selection_counts(candidate[:, k, picks], selecting, groups, in_sample))
    return {
        level: {"rows": rows[k], "high_but_negative": dict(zip(selecting, negative[k].tolist(), strict=True))}
        for k, level in enumerate(levels)
    }


def _add_counts(total: dict[str, dict[str, Any]], part: Mapping[str, Mapping[str, Any]]) -> None:
    """Add one block's table to ``total``."""
    for row, counts in part.items():
        for group, count in counts.items():
            cell = total.setdefault(row, {}).setdefault(group, {"n_selected": 0, "n_objects": 0})
            cell["n_selected"] += count["n_selected"]
            cell["n_objects"] += count["n_objects"]
            cell["percent"] = 100.0 * cell["n_selected"] / cell["n_objects"] if cell["n_objects"] else None


def select(
    path: Path,
    output: SelectionFolder,
    section: SelectSection,
    carried: Carried | None = None,
    details: Mapping[str, Any] | None = None,
    add: Callable[[int], None] = lambda n_rows: None,
) -> tuple[dict[str, Any], list[Path]]:
    """Cut the sample of a ``scores.zarr`` at its thresholds; write candidates and summary.

    ``level``, ``threshold`` and ``candidate`` are added to the store. With several models ``combined_score`` and
    ``combined_residual`` are added first, and all else is made from them.

    Parameters
    ----------
    carried : Carried, optional
        Thresholds of another run; by default they come from this sample.
    details : mapping, optional
        More entries of the summary, such as the counts of the sample cuts.
    add : callable
        Told of rows that are done, out of those of `selection_count`.

    Returns
    -------
    dict
        The summary.
    list of Path
        The files written.

    Raises
    ------
    SwimmyError
        When the sample is empty, the other run's thresholds do not fit, or ranks do not fit in memory.
    """
    scores, names = Scores(path, add), tuple(section.levels)
    n_in_sample, quarantined = _count_objects(scores)
    if carried is not None:
        carried.check(scores.n_models, section.combine, scores.kind)
    files = combine_scores(path, section.combine, add)
    if carried is None:
        threshold = sample_thresholds(scores, list(section.levels.values()))
    else:
        threshold = load_thresholds(carried.summary, list(scores.survey.bands), names)
    files += write_selection(path, names, threshold, _flags(scores, threshold))
    scores = Scores(path, add)
    made_of = scores_made_of(scores.n_models, section.combine, scores.kind)
    summary = {
        "format_version": SUMMARY_VERSION,
        "simulated": bool(scores.attrs.get("simulated", False)),
        "survey": scores.survey.name,
        "model_sha256": scores.attrs.get("model_sha256"),
        **made_of,
        "given": scores.n_objects,
        "scored": scores.n_objects - quarantined.total(),
        "quarantined": quarantined.total(),
        "quarantined_by_code": dict(sorted(quarantined.items())),
        "in_sample": n_in_sample,
        "levels": dict(section.levels),
        "thresholds": thresholds_to_json(threshold, list(scores.survey.bands), names),
        "thresholds_from": "this sample" if carried is None else carried.thresholds_from,
        "selected": _selected(scores, names, threshold),
        **(details or {}),
    }
    meta = {key: summary[key] for key in ("survey", "simulated", *made_of, "thresholds")}
    if scores.n_models > 1:
        # The columns are called score and residual, whatever they are made of: their meaning stands here.
        meta |= describe(section.combine, scores.n_models)
    # What writes tables takes half a second to import, and workers need none of it.
    from swimmy_scale.storage.candidate_files import write_candidates

    written = write_candidates(candidate_rows(scores, names), output.path, meta=meta, formats=section.formats)
    write_json(output.summary, summary)
    return summary, [*files, *written.values(), output.summary]


def _count_objects(scores: Scores) -> tuple[int, Counter[str]]:
    """The number of objects in the sample, which must not be empty, and in quarantine for each reason."""
    n_in_sample, n_usable, quarantined = 0, 0, Counter[str]()
    for _, (in_sample, code) in scores.blocks("in_sample", "quarantine_code"):
        n_in_sample += int(in_sample.sum())
        n_usable += int((code == 0).sum())
        values, counts = np.unique(code[code != 0], return_counts=True)
        quarantined.update({Code(int(v)).label: int(n) for v, n in zip(values, counts, strict=True)})
    if n_in_sample == 0:
        raise SwimmyError(
            f"{scores.path}: none of {n_usable} usable objects passed the sample cuts, so there is nothing to select "
            "from. Relax the cuts of the job's sample section."
            if n_usable
            else f"{scores.path}: all {scores.n_objects} objects are in quarantine, so there is nothing to select "
            "from. quarantine.csv says why."
        )
    return n_in_sample, quarantined


@dataclass(frozen=True)
class SelectStage(Stage):
    """Selection in a run directory: it has no tasks, the finish does all the work.

    ``ingest`` holds the receipts of the ingest that made the run's cutouts.
    """

    ledger: Ledger
    run: RunDirectory
    ingest: Ledger
    section: SelectSection
    n_models: int

    def _carried(self) -> Carried | None:
        original = self.section.thresholds_from
        return keep_carried(original, self.run.selection.carried_thresholds) if original else None

    @property
    def identity(self) -> str:
        """Digest of scores and sample, the levels, the carried thresholds, and how several models are combined."""
        done, sample = (self.run.ledger(stage).read(FINISHED) for stage in ("score", "sample"))
        carried = self._carried()
        return digest_json(
            [
                "select",
                SUMMARY_VERSION,
                swimmy_scale.__version__,
                done.data_digest if done else "",
                sample.identity if sample else "",
                list(self.section.levels.items()),
                self.section.formats,
                carried.summary["thresholds"] if carried else None,
                self.section.combine if self.n_models > 1 else None,
            ]
        )

    def count(self) -> Count:
        """Rows that the finish goes through."""
        return selection_count(self.run.scores, self.section.thresholds_from is not None, self.section.combine)

    def plan(self) -> Sequence[Task]:
        """No tasks."""
        return []

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Select, write the catalogue, ``summary.json`` and ``quarantine.csv``."""
        run, sample, ingest = self.run, self.run.ledger("sample").read(FINISHED), self.ingest.read(FINISHED)
        score = run.ledger("score").read(FINISHED)
        if sample is None or score is None:
            raise SwimmyError(f"{run.scores}: the sample is not finished. Run the job again.")
        details = {
            "cuts": sample.details["cuts"],
            "unmatched_files": ingest.details["n_unmatched_files"] if ingest else 0,
            "warnings": (ingest.details["warnings"] if ingest else {}) | dict.fromkeys(score.details["warnings"], 1),
        }
        carried = self._carried()
        summary, files = select(run.scores, run.selection, self.section, carried, details, add)
        write_quarantine(run.quarantine, [self.ingest, run.ledger("score")])
        if summary["given"] != summary["scored"] + summary["quarantined"]:
            raise SwimmyError(f"{run.path}: counts do not reconcile: {summary}. Run `{typed('verify', run.path)}`.")
        files += [run.quarantine, *([run.selection.carried_thresholds] if carried else [])]
        return self.ledger.finish(self.identity, Parts.of(receipts), files)
