"""Selection: exact thresholds over the whole sample, candidate flags, the candidate catalogue, the summary."""

from __future__ import annotations

import csv
import heapq
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import candidates, high_but_negative, selection_counts
from swimmy_scale.method.ensemble import Rule
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import BoolArray
from swimmy_scale.method.thresholds import load_thresholds, thresholds_to_json
from swimmy_scale.stages.carried import CARRIED_NAME, SUMMARY_VERSION, Carried, keep_carried
from swimmy_scale.stages.combine import combine_scores, describe
from swimmy_scale.stages.engine import Poll, Task
from swimmy_scale.storage.candidate_files import write_candidates
from swimmy_scale.storage.files import digest_json, write_atomically, write_json
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.scores import (
    IN_MEMORY_OBJECTS,
    Scores,
    candidate_rows,
    sample_thresholds,
    score_kind,
    write_selection,
)

QUARANTINE_COLUMNS = ("object_id", "source", "band", "stage", "code", "reason")


class RowCount:
    """Rows that selection has gone through, in all of its passes over the scores.

    Attributes
    ----------
    n_rows : int
    """

    def __init__(self) -> None:
        self.n_rows = 0

    def add(self, n_rows: int) -> None:
        """So many more rows are done."""
        self.n_rows += n_rows


def selection_rows(scores: Scores, carried: bool, combine: Rule) -> int:
    """How many rows a selection goes through, so that its end can be foreseen."""
    n_passes = 6  # who is in the sample, flags, codes, classes, counts, candidates
    if scores.n_models > 1:
        n_passes += 2 if combine == "rank" else 1
    if not carried:
        n_passes += 1 if scores.n_objects <= IN_MEMORY_OBJECTS else 2
    return n_passes * scores.n_objects


def selection_poll(path: Path, rows: RowCount, carried: bool, combine: Rule) -> Poll:
    """The progress of a selection that counts its rows in ``rows``."""
    return Poll("rows", selection_rows(Scores(path), carried, combine), lambda: rows.n_rows)


def _flags(scores: Scores, threshold: npt.NDArray[np.float64]) -> Iterator[tuple[int, BoolArray]]:
    selecting = scores.survey.band_index(scores.survey.selecting_bands)
    for lo, (score, residual, in_sample) in scores.blocks(scores.score_name, scores.residual_name, "in_sample"):
        yield lo, candidates(score, residual, threshold, in_sample, selecting)


def _selected(scores: Scores, levels: Sequence[str], threshold: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Table 2's rows for each level, added up block by block so that memory does not grow with the survey."""
    selecting = list(scores.survey.selecting_bands)
    picks = scores.survey.band_index(selecting)
    classes = sorted({str(name) for _, (known,) in scores.blocks("sample_class") for name in np.unique(known)} - {""})
    negative = np.zeros((len(levels), len(selecting)), np.int64)
    rows: list[dict[str, dict[str, Any]]] = [{} for _ in levels]
    names = (scores.score_name, scores.residual_name, "in_sample", "sample_class", "candidate")
    for _, (score, residual, in_sample, known, candidate) in scores.blocks(*names):
        negative += high_but_negative(score, residual, threshold, in_sample)[:, picks]
        groups = {name: known == name for name in classes}
        for k in range(len(levels)):
            _add_counts(rows[k], selection_counts(candidate[:, k, picks], selecting, groups, in_sample))
    return {
        level: {
            "rows": rows[k],
            "high_but_negative": dict(zip(selecting, negative[k].tolist(), strict=True)),
        }
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
    output: Path,
    levels: Mapping[str, float],
    formats: Sequence[str],
    carried: Carried | None = None,
    details: Mapping[str, Any] | None = None,
    combine: Rule = "mean",
    rows: RowCount | None = None,
) -> tuple[dict[str, Any], list[Path]]:
    """Apply the cuts to ``scores.zarr`` and write candidates and summary.

    Parameters
    ----------
    path : Path
        ``scores.zarr``; gets ``level``, ``threshold`` and ``candidate``, and where it holds several models
        ``combined_score`` and ``combined_residual``, from which all else is made.
    output : Path
        Folder for ``candidates.*`` and ``summary.json``.
    levels : mapping of str to float
        Level to fraction, most common first.
    carried : Carried, optional
        Thresholds of another run; else they come from this sample.
    details : mapping, optional
        More for the summary, such as the counts of the sample cuts.
    combine : str
        How scores of several models become one (see `swimmy_scale.method.ensemble`); without effect for one model.
    rows : RowCount, optional
        Counts what is done, of `selection_rows`.

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
    rows = rows or RowCount()
    scores = Scores(path, rows.add)
    names, bands = tuple(levels), list(scores.survey.bands)
    n_in_sample = sum(int(in_sample.sum()) for _, (in_sample,) in scores.blocks("in_sample"))
    if n_in_sample == 0:
        n_usable = sum(int((code == 0).sum()) for _, (code,) in scores.blocks("quarantine_code"))
        raise SwimmyError(
            f"{path}: none of {n_usable} usable objects passed the sample cuts, so there is nothing to select from. "
            "Relax the cuts of the job's sample section."
            if n_usable
            else f"{path}: all {scores.n_objects} objects are in quarantine, so there is nothing to select from. "
            "quarantine.csv says why."
        )
    ensemble = {"n_models": scores.n_models, "combine": combine} if scores.n_models > 1 else {}
    kind = score_kind(scores.noise_floor)
    if carried is not None:
        carried.check(scores.n_models, combine, scores.noise_floor)
    combined_files = combine_scores(path, combine, rows.add)
    if carried is None:
        threshold = sample_thresholds(scores, list(levels.values()))
    else:
        threshold = load_thresholds(carried.summary, bands, names)
    files = write_selection(path, names, threshold, _flags(scores, threshold))
    scores = Scores(path, rows.add)
    quarantined: Counter[str] = Counter()
    for _, (code,) in scores.blocks("quarantine_code"):
        values, counts = np.unique(code[code != 0], return_counts=True)
        quarantined.update({Code(int(v)).label: int(n) for v, n in zip(values, counts, strict=True)})
    summary = {
        "format_version": SUMMARY_VERSION,
        "simulated": bool(scores.attrs.get("simulated", False)),
        "survey": scores.survey.name,
        "model_sha256": scores.attrs.get("model_sha256"),
        **ensemble,
        **kind,
        "given": scores.n_objects,
        "scored": scores.n_objects - quarantined.total(),
        "quarantined": quarantined.total(),
        "quarantined_by_code": dict(sorted(quarantined.items())),
        "in_sample": n_in_sample,
        "levels": dict(levels),
        "thresholds": thresholds_to_json(threshold, bands, names),
        "thresholds_from": "this sample" if carried is None else carried.thresholds_from,
        "selected": _selected(scores, names, threshold),
        **(details or {}),
    }
    meta = {key: summary[key] for key in ("survey", "simulated", *ensemble, *kind, "thresholds")}
    # The catalogue calls them score and residual, whatever they are made of.
    meta |= describe(combine, scores.n_models) if ensemble else {}
    written = write_candidates(candidate_rows(scores, names), output, meta=meta, formats=tuple(formats))
    write_json(output / "summary.json", summary)
    return summary, [*combined_files, *files, *(Path(item) for item in written.values()), output / "summary.json"]


def quarantine_records(ledgers: Iterable[Ledger]) -> Iterator[list[Any]]:
    """Every quarantined object of finished stages, in catalogue order: rows of `QUARANTINE_COLUMNS`."""
    merged = heapq.merge(*(_records(ledger) for ledger in ledgers), key=lambda item: item[0])
    return (record for _, record in merged)


def _records(ledger: Ledger) -> Iterator[tuple[int, list[Any]]]:
    for receipt in ledger.parts():
        found = sorted(receipt.details.get("quarantined", []), key=lambda item: int(item[0]))
        for row, object_id, code, band, source, reason in found:
            yield row, [object_id, source, band, ledger.stage, Code(code).label, reason]


def write_quarantine(path: Path, ledgers: Iterable[Ledger]) -> None:
    """Write ``quarantine.csv``, atomically; only its header where nothing is quarantined."""
    write_atomically(path, map(_csv_line, itertools.chain([QUARANTINE_COLUMNS], quarantine_records(ledgers))))


def _csv_line(values: Sequence[Any]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()


def _no_task(task: Task) -> Receipt:
    raise SwimmyError(f"{task.ledger.stage} has no tasks")


@dataclass(frozen=True)
class SelectStage:
    """Selection in a run directory; all of it is the finish."""

    ledger: Ledger
    scores: Path
    output: Path
    levels: Mapping[str, float]
    formats: tuple[str, ...]
    thresholds_from: Path | None
    combine: Rule
    n_models: int
    ingest: Ledger
    score: Ledger
    rows: RowCount = field(default_factory=RowCount, compare=False)

    perform: Callable[[Any], Receipt] = _no_task
    probe: Callable[[Any, int, int], None] | None = None
    wants_gpu: ClassVar[bool] = False
    when_finished: ClassVar[str] = ""

    @property
    def _copy(self) -> Path:
        return self.output / CARRIED_NAME

    def _carried(self) -> Carried | None:
        return keep_carried(self.thresholds_from, self._copy) if self.thresholds_from else None

    @property
    def identity(self) -> str:
        """Digest of the scores, the levels, the carried thresholds, and how several models are combined."""
        done = self.score.read(FINISHED)
        carried = self._carried()
        return digest_json(
            [
                "select",
                SUMMARY_VERSION,
                swimmy_scale.__version__,
                done.data_digest if done else "",
                list(self.levels.items()),
                self.formats,
                carried.summary["thresholds"] if carried else None,
                *([self.combine] if self.n_models > 1 else []),
            ]
        )

    def poll(self) -> Poll:
        """Rows that the finish has gone through."""
        return selection_poll(self.scores, self.rows, self.thresholds_from is not None, self.combine)

    def plan(self) -> Sequence[Task]:
        """No tasks."""
        return []

    def finish(self, receipts: Iterable[Receipt]) -> Receipt:
        """Select, write the catalogue, ``summary.json`` and ``quarantine.csv``."""
        score, ingest = self.score.read(FINISHED), self.ingest.read(FINISHED)
        if score is None:
            raise SwimmyError(f"{self.scores}: scoring is not finished. Run the job again.")
        details = {
            "cuts": score.details["cuts"],
            "unmatched_files": int(ingest.details.get("n_unmatched_files", 0)) if ingest else 0,
            "warnings": dict(ingest.details.get("warnings", {})) if ingest else {},
        }
        summary, files = select(
            self.scores, self.output, self.levels, self.formats, self._carried(), details, self.combine, self.rows
        )
        write_quarantine(self.output / "quarantine.csv", [self.ingest, self.score])
        if summary["given"] != summary["scored"] + summary["quarantined"]:
            raise SwimmyError(f"{self.output}: counts do not reconcile: {summary}. Run `swimmy-scale verify`.")
        files = [*files, self.output / "quarantine.csv", *([self._copy] if self.thresholds_from else [])]
        return self.ledger.finish(self.identity, Parts.of(receipts), files)
