"""The report of a run: what its files say is gathered block by block and written as a folder for a browser."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.descriptor import nearest_of_each
from swimmy_scale.method.job import Job
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, IntArray
from swimmy_scale.model.scoring import Scoring, reconstructor, scoring_of
from swimmy_scale.results.composites import symmetric_limit
from swimmy_scale.results.histogram import ScoreCounts
from swimmy_scale.results.learning.ranking_file import read_ranking
from swimmy_scale.results.looking.embedding import check_embedding
from swimmy_scale.results.looking.sample_map import MapKind, density_picture, sample_map
from swimmy_scale.results.report.artefact_hints import HINTS, artefact_hints
from swimmy_scale.results.report.charts import charts
from swimmy_scale.results.report.further import further_objects
from swimmy_scale.results.report.page import (
    DENSITY,
    N_NEAREST,
    Candidates,
    Facts,
    QuarantineReason,
    StageTime,
    page,
)
from swimmy_scale.results.report.tiles import ROWS_PER_SHEET, layout, rows_of_tiles, sheet
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_json, make_folder, of_the_program, read_text
from swimmy_scale.storage.fresh_folders import fresh_folder
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import STAGES, RunDirectory, SelectionFolder
from swimmy_scale.storage.selection import SelectedRun, Selection, sample_thresholds, strangest

# Candidates whose pixels are in memory at once: 64 MB of cutouts, sources and reconstructions of 5 bands of 64 px.
BATCH_CANDIDATES = 16 * ROWS_PER_SHEET
IMAGES = "images"
Told = Callable[[int, int], None]


def write_report(
    selected: SelectedRun,
    output: Path | None,
    max_candidates: int,
    told: Told,
    n_threads: int = 1,
    map_kind: MapKind = "pca",
) -> tuple[Path, int, int]:
    """Make the report of a finished run, or of a selection from its scores: ``index.html`` and a folder of images.

    The same run gives the same bytes. Memory grows by some 3 kB for each candidate shown, and not with the survey.
    Beside the candidates it shows a few further objects (see `further_objects`).
    A report that is there already is replaced once the new one is complete.

    Parameters
    ----------
    output : Path, optional
        The folder to make; by default ``report`` in the folder of the selection.
    max_candidates : int
        Show at most this many, the strongest (see `selection.strangest`); the page says so where there are more.
    told : callable
        Told how many candidates are drawn, and of how many.
    n_threads : int
        Threads of the network; they change the speed only.
    map_kind : {"pca", "umap"}
        How the sample is mapped (see `sample_map`).

    Returns
    -------
    output : Path
    n_shown, n_candidates : int

    Raises
    ------
    SwimmyError
        When selection is not finished, or ``output`` exists and is not a report; when a UMAP cannot be made.
    """
    output = output or selected.folder.report
    _check(selected.folder, output)
    selection = selected.selection
    order = strangest(selection, max_candidates)
    rows = np.sort(order)
    columns = _read_rows(selection, rows)
    counts, percentile = _count_sample(selection, columns["score"])
    if map_kind == "umap":
        check_embedding(counts.n_objects)
    with fresh_folder(output) as fresh:
        make_folder(fresh / IMAGES)
        told(0, len(rows))
        scoring = scoring_of(selected.run, selected.job, n_threads)
        store = selected.cutouts
        drawn = _draw(store, scoring, rows, columns["residual"], fresh / IMAGES, told)
        further = further_objects(selected, scoring, drawn.residual_limit, fresh / IMAGES)
        ranking = read_ranking(selected.folder.ranking, selected.folder.identity())
        mapped = sample_map(selection, rows, map_kind)
        candidates = _candidates(selection, order, columns, percentile, drawn, ranking, mapped.values)
        facts = _facts(selected, counts, drawn.residual_limit, output)
        (fresh / IMAGES / DENSITY).write_bytes(density_picture(mapped.counts))
        (fresh / "index.html").write_text(page(facts, candidates, mapped, further), encoding="utf-8")
        selected.folder.forget_shown(output)
    selected.folder.keep_shown(output, [path for path in sorted(output.rglob("*")) if path.is_file()])
    return output, len(rows), counts.n_candidates


def _check(folder: SelectionFolder, output: Path) -> None:
    done = folder.ledger.read(FINISHED)
    if done is None or not folder.summary.is_file():
        raise SwimmyError(
            f"{folder.path}: candidates are not selected yet, so there is nothing to report. Finish the run with "
            f"`{typed('run')}`."
        )
    is_report = (output / "index.html").is_file() or folder.made_shown(output)
    if output.exists() and not is_report and not (output.is_dir() and not any(output.iterdir())):
        raise SwimmyError(f"{output}: exists and is not a report. Choose another --output, or remove it.")


# ---------------------------------------------------------------- numbers


def _read_rows(selection: Selection, rows: IntArray) -> dict[str, npt.NDArray[Any]]:
    """Columns of the candidates to show; ``rows`` are sorted."""
    names = ("object_id", "ra", "dec", "sample_class", "candidate", *selection.kept)
    columns = selection.at(rows, selection.score_name, selection.residual_name, *names)
    return dict(zip(("score", "residual", *names), columns, strict=True))


def _count_sample(selection: Selection, shown: FloatArray) -> tuple[ScoreCounts, DoubleArray]:
    """The histogram of the sample, and the percentage of it below each of the scores ``shown`` (m, band)."""
    n_shown, n_bands = shown.shape
    order = np.argsort(shown, axis=0, kind="stable")
    ranked = np.take_along_axis(shown, order, axis=0)
    lower = np.zeros((n_shown + 1, n_bands), np.int64)
    counts = ScoreCounts(n_bands)
    for _, (score, flags, in_sample) in selection.blocks(selection.score_name, "candidate", "in_sample"):
        score = score[in_sample]
        counts.add(score, flags[in_sample, 0])
        for band in range(n_bands):
            places = np.searchsorted(ranked[:, band], score[:, band], side="right")
            lower[:, band] += np.bincount(places, minlength=n_shown + 1)
    percentile = np.empty(shown.shape)
    share = 100.0 * np.cumsum(lower, axis=0)[:n_shown] / max(counts.n_objects, 1)
    np.put_along_axis(percentile, order, share, axis=0)
    return counts, percentile


# ---------------------------------------------------------------- images


@dataclass(frozen=True)
class Drawn:
    """Columns as in `Candidates`, and the end of the scale of the residual maps, 0 without candidates."""

    magnitude: DoubleArray
    hints: dict[str, BoolArray]
    residual_limit: float


def _draw(store: Cutouts, scoring: Scoring, rows: IntArray, residual: FloatArray, folder: Path, told: Told) -> Drawn:
    """Write the sheets of tiles. The first batch sets the residual scale of all, so that pixels are read only once."""
    survey, limit, n_sheets = store.survey, 0.0, 0
    magnitude = np.full(len(rows), np.nan)
    hints = {name: np.zeros(len(rows), np.bool_) for name in HINTS}
    if not len(rows):
        return Drawn(magnitude, hints, limit)
    reconstruction = reconstructor(scoring)
    band = survey.bands.index(survey.magnitude_band)
    for start in range(0, len(rows), BATCH_CANDIDATES):
        batch = slice(start, min(start + BATCH_CANDIDATES, len(rows)))
        counts, fwhm, mag, bits = _read_pixels(store, rows[batch])
        source = preprocess(counts, fwhm, survey)
        expected = reconstruction(source)
        limit = limit or symmetric_limit(source - expected, survey)
        magnitude[batch] = mag[:, band]
        for name, shown in artefact_hints(counts, source, residual[batch], survey, bits).items():
            hints[name][batch] = shown
        tiles = rows_of_tiles(source, expected, limit, survey)
        for first in range(0, len(tiles), ROWS_PER_SHEET):
            (folder / f"{n_sheets:05d}.jpg").write_bytes(sheet(tiles[first : first + ROWS_PER_SHEET]))
            n_sheets += 1
        told(batch.stop, len(rows))
    return Drawn(magnitude, hints, limit)


def _read_pixels(store: Cutouts, rows: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.uint32]]:
    """Counts, seeing, magnitudes and flags of sorted rows. Each chunk is read once."""
    parts = [arrays for _, arrays in store.chunks_of(rows, "image", "fwhm_arcsec", "mag", "flags")]
    image, fwhm, mag, flags = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return image, fwhm, mag, flags


# ---------------------------------------------------------------- candidates and facts


def _candidates(
    selection: Selection,
    order: IntArray,
    columns: Mapping[str, npt.NDArray[Any]],
    percentile: DoubleArray,
    drawn: Drawn,
    ranking: Mapping[int, tuple[int, float, float]],
    features: FloatArray,
) -> Candidates:
    nearest, distance = nearest_of_each(features, N_NEAREST)
    unknown = (np.nan, np.nan, np.nan)
    learnt = np.array([ranking.get(one, unknown) for one in columns["object_id"].tolist()]).reshape(-1, 3).T
    as_they_are = ("object_id", "ra", "dec", "score", "residual", "candidate")
    return Candidates(
        **{name: columns[name] for name in as_they_are},
        rank=np.argsort(order),
        known_class=[str(name) for name in columns["sample_class"]],
        percentile=percentile,
        magnitude=drawn.magnitude,
        hints=drawn.hints,
        kept={name: columns[name].tolist() for name in selection.kept},
        look_order=learnt[0],
        probability=learnt[1],
        uncertainty=learnt[2],
        nearest=nearest,
        distance=distance,
    )


def _facts(selected: SelectedRun, counts: ScoreCounts, limit: float, output: Path) -> Facts:
    run, folder, job, selection = selected.run, selected.folder, selected.job, selected.selection
    summary = folder.read_summary()
    survey, levels = selection.survey, selection.levels
    median = sample_thresholds(selection, [0.5])[0]
    select = folder.ledger.read(FINISHED)
    return Facts(
        name=job.name,
        survey=survey,
        summary=summary,
        provenance=_provenance(run.provenance),
        levels=levels,
        charts=charts(counts, survey.bands, survey.selecting_bands, median, selection.read("threshold"), levels),
        quarantine=_quarantine(run.quarantine, summary["quarantined_by_code"]),
        stage_times=list(_stage_times(run, job)),
        tiles=layout(survey),
        rows_per_sheet=ROWS_PER_SHEET,
        residual_limit=limit,
        hints=HINTS,
        n_candidates=counts.n_candidates,
        run_digest=digest_json(["report", select.identity if select else ""]),
        files=_files(run, folder, job) if output == folder.report else (),
    )


def _provenance(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _files(run: RunDirectory, folder: SelectionFolder, job: Job) -> Sequence[str]:
    candidates = [folder.candidates(kind) for kind in job.select.formats]
    of_run = (run.picture, run.quarantine, run.job_file, run.provenance) if folder.path == run.path else ()
    paths = (*candidates, folder.summary, folder.settings, *of_run)
    return [path.name for path in paths if path.is_file()]


def _quarantine(path: Path, by_code: Mapping[str, int]) -> list[QuarantineReason]:
    """How many objects are in quarantine for each reason, the most common first, with the first object of each."""
    examples: dict[str, tuple[str, str]] = {}
    if path.is_file():
        with of_the_program(path, path.parent), path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                examples.setdefault(row["code"], (row["object_id"], row["reason"]))
                if len(examples) == len(by_code):
                    break
    ordered = sorted(by_code.items(), key=lambda item: (-item[1], item[0]))
    return [QuarantineReason(code, number, *examples.get(code, ("", ""))) for code, number in ordered]


def _stage_times(run: RunDirectory, job: Job) -> Iterator[StageTime]:
    """The time from the first to the last file of each stage, as its receipts recorded them."""
    for stage in STAGES:
        ledger = run.stage_ledger(stage, job)
        done = ledger.read(FINISHED)
        if done is None:
            continue
        times = [record.mtime_ns for record in done.files.values()]
        for part in ledger.parts():
            own = [record.mtime_ns for record in part.files.values()]
            times = [min([*times, *own]), max([*times, *own])] if times or own else []
        seconds = (max(times) - min(times)) / 1e9 if times else 0.0
        yield StageTime(stage, int(done.details.get("n_tasks", 0)), done.n_objects, seconds)
