"""Selection: the sample, exact thresholds over all of it, candidate flags, the candidate catalogue, the summary.

It writes nothing but its own folder, so that several selections can be made from the same scores.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import swimmy_scale
from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.candidates import candidates, high_but_negative, selection_counts
from swimmy_scale.method.job import Settings, dump_job
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.sample import CutCount, SampleCuts, merge_counts
from swimmy_scale.method.sections import SelectSection
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.method.thresholds import load_thresholds, thresholds_to_json
from swimmy_scale.stages.additions import added
from swimmy_scale.stages.carried_thresholds import SUMMARY_VERSION, Carried, keep_carried, scores_made_of
from swimmy_scale.stages.combine import check_combine, combined, describe
from swimmy_scale.stages.engine import Count, Stage, Task
from swimmy_scale.stages.later_columns import KeptColumns
from swimmy_scale.stages.sample import nothing_passes, sample_counts
from swimmy_scale.storage.cutouts import Cutouts, SampleRule, check_kept
from swimmy_scale.storage.files import digest_json, write_atomically, write_json
from swimmy_scale.storage.quarantine_file import write_quarantine
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import SelectionFolder, cutouts_ledger, scores_ledger
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import (
    IN_MEMORY_OBJECTS,
    Selection,
    candidate_rows,
    files_of,
    new_selection,
    sample_thresholds,
)

# What every selection reads all rows for.
PASSES = ("cuts and quarantine_code", "candidate flags", "known classes", "counts", "candidates")


def selection_count(scores: Scores, section: SelectSection) -> Count:
    """How the progress of a selection is counted: in rows, over all its passes."""
    n_passes = len(PASSES)
    if scores.n_models > 1:
        n_passes += 3 if section.combine == "rank" else 2
    if section.thresholds_from is None:
        n_passes += 1 if scores.n_objects <= IN_MEMORY_OBJECTS else 2
    return Count("rows", n_passes * scores.n_objects)


class _Sample:
    """Applies the cuts, and keeps what they leave and what is in quarantine."""

    def __init__(self, cutouts: Cutouts, cuts: SampleCuts) -> None:
        self._cutouts, self._rule = cutouts, SampleRule.of(cutouts, cuts)
        self._counts: list[list[CutCount]] = []
        self.quarantined, self.n_objects = Counter[str](), 0

    def blocks(self, selection: Selection) -> Iterator[tuple[int, BoolArray]]:
        """Which objects are in the sample, block by block."""
        for lo, (code, object_id) in selection.blocks("quarantine_code", "object_id"):
            if not np.array_equal(self._cutouts.read("object_id", lo, lo + len(code)), object_id):
                raise SwimmyError(
                    f"{self._cutouts.path}: other objects than those of {selection.scores.path}, which were scored. "
                    "Give the cutouts that were scored, or score these."
                )
            in_sample, found = self._rule.apply(self._cutouts, lo, lo + len(code), code == 0)
            self._counts.append(found)
            self.n_objects += int(np.count_nonzero(in_sample))
            values, counts = np.unique(code[code != 0], return_counts=True)
            self.quarantined.update({Code(int(v)).label: int(n) for v, n in zip(values, counts, strict=True)})
            yield lo, np.asarray(in_sample)

    @property
    def cuts(self) -> list[CutCount]:
        """What every cut leaves."""
        return merge_counts(self._counts)


def _flags(selection: Selection, threshold: DoubleArray) -> Iterator[tuple[int, BoolArray]]:
    selecting = selection.survey.band_index(selection.survey.selecting_bands)
    names = (selection.score_name, selection.residual_name, "in_sample")
    for lo, (score, residual, in_sample) in selection.blocks(*names):
        yield lo, candidates(score, residual, threshold, in_sample, selecting)


def _selected(selection: Selection, levels: Sequence[str], threshold: DoubleArray, n_sample: int) -> dict[str, Any]:
    """The rows of table 2 for each level, added up block by block so that memory does not grow with the survey."""
    selecting = list(selection.survey.selecting_bands)
    picks = selection.survey.band_index(selecting)
    known_blocks = selection.blocks("sample_class")
    classes = sorted({str(name) for _, (known,) in known_blocks for name in np.unique(known)} - {""})
    negative, above = (np.zeros((len(levels), len(selecting)), np.int64) for _ in range(2))
    rows: list[dict[str, dict[str, Any]]] = [{} for _ in levels]
    names = (selection.score_name, selection.residual_name, "in_sample", "sample_class", "candidate")
    for _, (score, residual, in_sample, known, candidate) in selection.blocks(*names):
        negative += high_but_negative(score, residual, threshold, in_sample)[:, :, picks].sum(axis=0)
        above += _n_above(score[in_sample][:, picks], threshold[:, picks])
        groups = {name: known == name for name in classes}
        for k in range(len(levels)):
            _add_counts(rows[k], selection_counts(candidate[:, k, picks], selecting, groups, in_sample))

    def by_band(values: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(selecting, values, strict=True))

    return {
        level: {
            "rows": rows[k],
            "high_but_negative": by_band(negative[k].tolist()),
            "percent_above": by_band((100.0 * above[k] / n_sample).tolist()),
        }
        for k, level in enumerate(levels)
    }


def _n_above(score: DoubleArray, threshold: DoubleArray) -> IntArray:
    """Number of scores (n, band) above each threshold (level, band): int64 (level, band)."""
    return np.array([np.count_nonzero(score > limit, axis=0) for limit in threshold], dtype=np.int64)


def _add_counts(total: dict[str, dict[str, Any]], part: Mapping[str, Mapping[str, Any]]) -> None:
    """Add one block's table to ``total``."""
    for row, counts in part.items():
        for group, count in counts.items():
            cell = total.setdefault(row, {}).setdefault(group, {"n_selected": 0, "n_objects": 0})
            cell["n_selected"] += count["n_selected"]
            cell["n_objects"] += count["n_objects"]
            cell["percent"] = 100.0 * cell["n_selected"] / cell["n_objects"] if cell["n_objects"] else None


@dataclass(frozen=True)
class SelectStage(Stage):
    """A selection from scores: it has no tasks, the finish does all the work.

    Attributes
    ----------
    ledger : Ledger
        That of ``folder``.
    folder : SelectionFolder
        The only place that it writes to.
    scores, cutouts : Path
        The scores, and the store that they were made of, whose columns the cuts look at.
    cuts : SampleCuts
    section : SelectSection
    n_models : int
        Of the scores.
    columns : KeptColumns, optional
        The columns of the catalogue that candidates have; by default those of the scores.
    quarantine : Path, optional
        Where the run of which this is the own selection lists its quarantined objects.
    """

    ledger: Ledger
    folder: SelectionFolder
    scores: Path
    cutouts: Path
    cuts: SampleCuts
    section: SelectSection
    n_models: int
    columns: KeptColumns | None = None
    quarantine: Path | None = None

    @property
    def _scored(self) -> Receipt | None:
        """The receipt that closes the scoring; None before its end, or where none lies with the scores."""
        return scores_ledger(self.scores).read(FINISHED)

    def _carried(self) -> Carried | None:
        original = self.section.thresholds_from
        return keep_carried(original, self.folder.carried_thresholds) if original else None

    @property
    def identity(self) -> str:
        """Digest of scores, of what the cuts look at, the cuts, levels and formats, and the carried thresholds."""
        done, carried = self._scored, self._carried()
        return digest_json(
            [
                *("select", SUMMARY_VERSION, swimmy_scale.__version__),
                # It holds the digests of the cutouts as well.
                done.data_digest if done else "",
                asdict(self.cuts),
                list(self.section.levels.items()),
                self.section.formats,
                [carried.summary, self.section.thresholds_of_another_model] if carried else None,
                self.section.combine if self.n_models > 1 else None,
                *([self.columns.names] if self.columns is not None else []),
            ]
        )

    def check(self) -> None:
        """Check that the cuts leave a sample, before hours go into its scores.

        Raises
        ------
        SwimmyError
            When they leave none, the memory does not suffice to combine the scores of several models, or a kept column
        that the cutouts lack is not to be had.
        """
        store = Cutouts(self.cutouts)
        if self.columns is not None and self.ledger.valid(FINISHED, self.identity) is None:
            check_kept(self.columns.missing(store.kept), store.survey.bands)
            self.columns.read(store.kept)
        check_combine(self.section.combine, self.n_models, store.n_objects, self.cutouts)
        if self._scored is None and (problem := nothing_passes(sample_counts(store, self.cuts))):
            raise SwimmyError(f"{self.cutouts}: {problem}")

    def count(self) -> Count:
        """Rows that the finish goes through."""
        return selection_count(Scores(self.scores), self.section)

    def plan(self) -> Sequence[Task]:
        """No tasks."""
        return []

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Select, write the store, the catalogue and ``summary.json``; the run's own also ``quarantine.csv``.

        Raises
        ------
        SwimmyError
            When the sample is empty, the other run's thresholds do not fit, or ranks do not fit in memory.
        """
        score, ingest = scores_ledger(self.scores).sound(FINISHED), cutouts_ledger(self.cutouts)
        done = ingest.sound(FINISHED)
        details = {
            "unmatched_files": done.details["n_unmatched_files"] if done else 0,
            "warnings": (done.details["warnings"] if done else {})
            | dict.fromkeys(score.details["warnings"] if score else [], 1),
        }
        carried = self._carried()
        summary, files = self._select(score, carried, details, add)
        if summary["given"] != summary["scored"] + summary["quarantined"]:
            raise SwimmyError(f"{self.folder.path}: counts do not reconcile: {summary}. Run `{typed('verify')}`.")
        if self.quarantine is not None:
            write_quarantine(self.quarantine, [ingest, scores_ledger(self.scores)])
            files.append(self.quarantine)
        files += [self.folder.carried_thresholds] if carried else []
        # The receipt says how it was made, so that this is known if its own files are damaged.
        return self.ledger.finish(self.identity, Parts.of(receipts), files, self._details)

    @property
    def _details(self) -> dict[str, Any]:
        made = {"settings": self._settings, "scores": os.path.relpath(self.scores, self.folder.path)}
        return made if self.columns is None else {**made, "kept_columns": list(self.columns.names)}

    @property
    def _settings(self) -> str:
        return dump_job(Settings(sample=self.cuts, select=self.section), self.folder.path, {"sample", "select"})

    def _select(
        self, scored: Receipt | None, carried: Carried | None, details: Mapping[str, Any], add: Callable[[int], None]
    ) -> tuple[dict[str, Any], list[Path]]:
        scores, section = Scores(self.scores), self.section
        check_combine(section.combine, scores.n_models, scores.n_objects, scores.path)
        levels, bands = tuple(section.levels), list(scores.survey.bands)
        if carried is not None:
            carried.check(scores.n_models, section.combine, scores.kind)
            carried.check_levels(section.levels)
            if not section.thresholds_of_another_model:
                carried.check_model(scores.attrs.get("model_sha256"), scores.attrs.get("scorer"))
        combining = describe(section.combine, scores.n_models) if scores.n_models > 1 else {}
        if section.combine != "mean" and not combining:
            raise SwimmyError(
                f"{scores.path}: holds the scores of one model, and select.combine {section.combine} is for several. "
                "Leave it out."
            )
        made_of = scores_made_of(scores.n_models, section.combine, scores.kind)
        sample = _Sample(Cutouts(self.cutouts), self.cuts)
        attrs = {**made_of, "scores_digest": scored.data_digest if scored else ""}
        later = self.columns.read(scores.kept) if self.columns is not None else None
        types = later.types if later is not None else {}
        names = () if self.columns is None else self.columns.names_beside(scores.kept)
        if self.columns is not None and names != tuple(scores.kept):
            known = {**scores.kept, **types}
            attrs["kept_columns"] = {name: known[name] for name in names}
        with new_selection(self.folder.store, scores, levels, combining, attrs, add, types) as selection:
            selection.fill("in_sample", sample.blocks(selection))
            if later is not None:
                later.fill(selection)
            if problem := nothing_passes(sample.cuts):
                raise SwimmyError(f"{scores.path}: {problem}")
            for name, blocks in combined(selection, section.combine):
                selection.fill(name, blocks)
            if carried is None:
                threshold = sample_thresholds(selection, list(section.levels.values()))
            else:
                threshold = load_thresholds(carried.summary, bands, levels)
            selection.fill("threshold", [(0, threshold)])
            selection.fill("candidate", _flags(selection, threshold))
        selection = Selection(self.folder.store, scores.path, add)
        quarantined = sample.quarantined
        summary = {
            "format_version": SUMMARY_VERSION,
            "simulated": selection.simulated,
            "survey": scores.survey.name,
            "model_sha256": scores.attrs.get("model_sha256"),
            "scorer": scores.attrs.get("scorer"),
            **made_of,
            "given": scores.n_objects,
            "scored": scores.n_objects - quarantined.total(),
            "quarantined": quarantined.total(),
            "quarantined_by_code": dict(sorted(quarantined.items())),
            **added(Cutouts(self.cutouts), selection),
            "in_sample": sample.n_objects,
            "levels": dict(section.levels),
            "thresholds": thresholds_to_json(threshold, bands, levels),
            "thresholds_from": "this sample" if carried is None else carried.thresholds_from,
            "selected": _selected(selection, levels, threshold, sample.n_objects),
            "cuts": [asdict(count) for count in sample.cuts],
            **details,
        }
        meta = {key: summary[key] for key in ("survey", "simulated", *made_of, "thresholds")}
        # The columns are called score and residual, whatever they are made of: their meaning stands here.
        meta |= combining
        # What writes tables takes half a second to import, and workers need none of it.
        from swimmy_scale.storage.candidate_files import write_candidates

        written = write_candidates(
            candidate_rows(selection, levels), self.folder.path, meta=meta, formats=section.formats
        )
        write_json(self.folder.summary, summary)
        write_atomically(self.folder.settings, self._settings.encode())
        return summary, [*files_of(self.folder.store), *written.values(), self.folder.summary, self.folder.settings]
