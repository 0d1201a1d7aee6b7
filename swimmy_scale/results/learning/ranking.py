"""From marks to the order in which to look at the candidates, or at all of a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.survey import AnyArray, BoolArray, IntArray
from swimmy_scale.method.thresholds import thresholds_to_json
from swimmy_scale.method.words import counted
from swimmy_scale.results.learning.learner import Ranking, rank
from swimmy_scale.results.learning.ranking_file import Ranked, write_ranking
from swimmy_scale.results.looking.objects import check_found, rows_of
from swimmy_scale.results.marks import ARTEFACT, DISPUTED, INTERESTING, KNOWN, Mark, agreed, disputes, read_opinions
from swimmy_scale.storage.candidate_files import write_candidates
from swimmy_scale.storage.descriptors import SampleFeatures, read_features
from swimmy_scale.storage.selection import SelectedRun, Selection, candidate_rows

ADDED = ("probability", "uncertainty", "look_order", "mark")
STEM = "ranked"


@dataclass(frozen=True)
class Learning:
    """What was learnt from, and what it gave.

    Attributes
    ----------
    counts : dict of str to int
        ``marks`` = ``interesting`` + ``artefact`` + ``left_out_known`` + ``left_out_disputed`` +
        ``left_out_only_noted`` + ``left_out_quarantined``.
    has_descriptors : bool
        Whether descriptors were learnt from, or scores and residuals alone.
    ranked : list of Ranked
        All that were ranked, the first to be looked at first.
    files : list of Path
    disputes : list of str
        Who says what of each object that is disputed.
    """

    counts: dict[str, int]
    has_descriptors: bool
    ranked: list[Ranked]
    files: list[Path]
    disputes: list[str]

    @property
    def has_probability(self) -> bool:
        """Whether both kinds of marks were there to learn from."""
        return bool(self.counts[INTERESTING] and self.counts[ARTEFACT])

    @property
    def unseen(self) -> list[Ranked]:
        """Those without a mark, in the order in which to look at them."""
        return [one for one in self.ranked if not one.mark]


def write_ranked(
    selected: SelectedRun, marks_paths: Sequence[Path], output: Path | None, whole_sample: bool
) -> Learning:
    """Learn from marks, and write ``ranking.csv`` and ``ranked.*``: the candidates with columns of `ADDED`.

    Parameters
    ----------
    marks_paths : sequence of Path
        As `select --marks` takes them. Interesting ones are told from artefacts; what is marked as known, only
        noted, or disputed between files, says nothing of that and is left out. Objects need not be candidates.
    output : Path, optional
        The folder of the files; by default ``ranked`` in that of the selection, where `write_report` looks for
        ``ranking.csv``.
    whole_sample : bool
        Rank every object of the sample, and not the candidates alone.

    Raises
    ------
    SwimmyError
        When the marks cannot be read, a file is given twice, they name objects that the run does not have, or none of
        them can be learnt from; when the catalogue has a column of the name of an added one.
    """
    selection = selected.selection
    said = read_opinions(marks_paths)
    marks = agreed(said)
    known = read_features(selection)
    rows, is_interesting, counts = _lessons(selection, marks, known, selected.folder.path)
    wanted = known.in_sample if whole_sample else known.is_candidate
    ranking = rank(known.values, rows, is_interesting, wanted)
    object_id = selection.read("object_id")
    names = selection.read(OBJECT_NAME)[ranking.order].tolist() if OBJECT_NAME in selection.kept else None
    ranked = [
        Ranked(one, probability, uncertainty, marks[one].mark if one in marks else "", str(name))
        for one, probability, uncertainty, name in zip(
            object_id[ranking.order].tolist(),
            ranking.probability[ranking.order].tolist(),
            ranking.uncertainty[ranking.order].tolist(),
            names or [""] * len(ranking.order),
            strict=True,
        )
    ]
    folder = output or selected.folder.ranked
    path = folder / selected.folder.ranking.name
    columns = _columns(selection, known, ranking, marks, object_id)
    meta = {
        "survey": selection.survey.name,
        "simulated": selection.simulated,
        **selection.kind.described,
        "learnt_from": counts,
        "thresholds": thresholds_to_json(selection.read("threshold"), selection.survey.bands, selection.levels),
    }
    files = write_candidates(columns, folder, meta=meta, formats=selected.job.select.formats, stem=STEM)
    write_ranking(path, ranked, selected.folder.identity())
    return Learning(counts, known.has_descriptors, ranked, [path, *files.values()], disputes(said))


def _lessons(
    selection: Selection, marks: Mapping[int, Mark], known: SampleFeatures, path: Path
) -> tuple[IntArray, BoolArray, dict[str, int]]:
    """Rows that can be learnt from, whether each is interesting, and what became of all marks."""
    ids = list(marks)
    rows = rows_of(selection, ids)
    check_found(ids, rows, path)
    said = np.array([marks[object_id].mark for object_id in ids], dtype=np.str_)
    teaches = (said == INTERESTING) | (said == ARTEFACT)
    usable = teaches & np.isfinite(known.values[rows]).all(axis=1) if ids else teaches
    counts = {
        "marks": len(ids),
        INTERESTING: int((usable & (said == INTERESTING)).sum()),
        ARTEFACT: int((usable & (said == ARTEFACT)).sum()),
        "left_out_known": int((said == KNOWN).sum()),
        "left_out_disputed": int((said == DISPUTED).sum()),
        "left_out_only_noted": int((said == "").sum()),
        "left_out_quarantined": int((teaches & ~usable).sum()),
    }
    if not usable.any():
        raise SwimmyError(
            f"{path}: {counted(len(ids), 'marked object')}, and none is marked as interesting or artefact, by all who "
            "marked it, and has a score. Mark some of each in the report, export the marks, and give that file."
        )
    return rows[usable], (said == INTERESTING)[usable], counts


def _columns(
    selection: Selection, known: SampleFeatures, ranking: Ranking, marks: Mapping[int, Mark], object_id: AnyArray
) -> dict[str, AnyArray]:
    """Columns of the candidates, and what was learnt of each."""
    columns = candidate_rows(selection, selection.levels)
    clashes = sorted(set(ADDED) & set(columns))
    if clashes:
        raise SwimmyError(
            f"{selection.path}: the catalogue has a column {clashes[0]!r} of its own, and the ranking needs that name. "
            "Rename it in the catalogue, then run again."
        )
    candidates = np.flatnonzero(known.is_candidate)
    row_of = dict(zip(object_id[candidates].tolist(), candidates.tolist(), strict=True))
    ids = columns["object_id"].tolist()
    rows = np.array([row_of[one] for one in ids], np.int64)
    place = np.zeros(len(object_id), np.int64)
    place[ranking.order] = np.arange(1, len(ranking.order) + 1)
    mark = np.array([marks[one].mark if one in marks else "" for one in ids], dtype=np.str_)
    learnt = (ranking.probability[rows], ranking.uncertainty[rows], place[rows], mark)
    return columns | dict(zip(ADDED, learnt, strict=True))


def count_lines(learning: Learning) -> list[str]:
    """What was learnt from, in words whose numbers add up."""
    counts = learning.counts
    left_out = {"known": KNOWN, "disputed": DISPUTED, "only_noted": "only noted", "quarantined": "in quarantine"}
    left = [f"{counts[f'left_out_{name}']:,} {words}" for name, words in left_out.items()]
    taught = f"{counts[INTERESTING]:,} interesting + {counts[ARTEFACT]:,} artefact"
    lines = [f"{counted(counts['marks'], 'mark')} = {taught} + left out: {' + '.join(left)}"]
    if not learning.has_probability:
        kind = INTERESTING if counts[INTERESTING] else ARTEFACT
        order = "nearest to them first" if counts[INTERESTING] else "farthest from them first"
        lines.append(f"all marks are {kind}: no probability can be learnt, the order is by likeness, {order}")
    if not learning.has_descriptors:
        lines.append(
            "scores.zarr has no descriptors: learnt from scores and residuals alone; with score: {descriptors: true} "
            "in the job fewer looks are needed"
        )
    return lines
