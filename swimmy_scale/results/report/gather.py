"""The report of a run: what its files say, gathered block by block, and a folder that opens in a browser."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.method.survey import FloatArray
from swimmy_scale.model.scoring import Scoring, reconstructor, scoring_of
from swimmy_scale.results.report.artefact_hints import HINTS, artefact_hints
from swimmy_scale.results.report.histogram import ScoreCounts, charts
from swimmy_scale.results.report.page import Candidates, Facts, QuarantineReason, Span, page
from swimmy_scale.results.report.tiles import ROWS_PER_SHEET, layout, residual_limit, rows_of_tiles, sheet
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_json
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import STAGES, RunDirectory
from swimmy_scale.storage.scores import Scores, sample_thresholds, strangest

# Candidates whose pixels are in memory at once: 64 MB of cutouts, sources and reconstructions of 5 bands of 64 px.
BATCH_CANDIDATES = 16 * ROWS_PER_SHEET
IMAGES = "images"


def write_report(
    run: RunDirectory, output: Path, max_candidates: int, told: Callable[[int, int], None], n_threads: int = 1
) -> tuple[int, int]:
    """Make the report of a finished run: ``index.html`` and a folder of images.

    The same run gives the same bytes. Memory grows with the candidates shown, by some 2 kB each, and not with the
    survey. What is there already is replaced once the new report is whole.

    Parameters
    ----------
    run : RunDirectory
    output : Path
        The folder to make.
    max_candidates : int
        The strongest so many are shown (see `scores.strangest`); the page says so where there are more.
    told : callable
        Told how many candidates are drawn, and of how many.
    n_threads : int
        Threads of the network; they change the speed only.

    Returns
    -------
    n_shown, n_candidates : int

    Raises
    ------
    SwimmyError
        When selection is not finished, or ``output`` is there and is no report.
    """
    _check(run, output)
    job = run.load_job()
    scores = Scores(run.scores)
    order = strangest(scores, max_candidates)
    candidates = _candidates(scores, order)
    counts = _count_sample(scores, candidates)
    output.parent.mkdir(parents=True, exist_ok=True)
    # A name that `run` sweeps away if this process is killed.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.", suffix=".partial") as name:
        folder = Path(name) / output.name
        (folder / IMAGES).mkdir(parents=True)
        told(0, len(order))
        scoring = scoring_of(run, job, n_threads)
        limit = _draw(Cutouts(run.cutouts(job)), scoring, scores, candidates, folder / IMAGES, told)
        text = page(_facts(run, job, scores, counts, limit, output), candidates)
        (folder / "index.html").write_text(text, encoding="utf-8")
        shutil.rmtree(output, ignore_errors=True)
        folder.replace(output)
    return len(order), int(_n_candidates(scores))


def _check(run: RunDirectory, output: Path) -> None:
    done = run.ledger("select").read(FINISHED)
    if done is None or not run.selection.summary.is_file():
        raise SwimmyError(
            f"{run.path}: candidates are not selected yet, so there is nothing to report. Finish it with "
            "`swimmy-scale run`."
        )
    if output.exists() and not ((output / "index.html").is_file() or (output.is_dir() and not any(output.iterdir()))):
        raise SwimmyError(f"{output}: is there and is not a report. Choose another --output, or remove it.")


# ---------------------------------------------------------------- numbers


def _candidates(scores: Scores, order: npt.NDArray[np.int64]) -> Candidates:
    """Columns of the candidates to show, in the order of their rows."""
    rows = np.sort(order)
    names = ("object_id", "ra", "dec", "sample_class", "candidate", *scores.kept)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in (*names, "score", "residual")}
    for lo, arrays in scores.blocks(scores.score_name, scores.residual_name, *names):
        block = dict(zip(("score", "residual", *names), arrays, strict=True))
        inside = rows[(rows >= lo) & (rows < lo + len(block["score"]))] - lo
        for name, values in block.items():
            parts[name].append(values[inside])
    columns = {name: np.concatenate(part) for name, part in parts.items() if part}
    rank = np.empty(len(rows), np.int64)
    rank[np.searchsorted(rows, order)] = np.arange(len(rows))
    n_shown, n_bands = len(rows), scores.survey.n_bands
    return Candidates(
        rows=rows,
        rank=rank,
        object_id=columns["object_id"],
        ra=columns["ra"],
        dec=columns["dec"],
        known_class=[str(name) for name in columns["sample_class"]],
        score=columns["score"],
        residual=columns["residual"],
        candidate=columns["candidate"],
        percentile=np.full((n_shown, n_bands), np.nan),
        magnitude=np.full(n_shown, np.nan),
        hints={name: np.zeros(n_shown, np.bool_) for name in HINTS},
        kept={name: columns[name].tolist() for name in scores.kept},
    )


def _n_candidates(scores: Scores) -> int:
    return sum(int(flags[:, 0].any(axis=1).sum()) for _, (flags,) in scores.blocks("candidate"))


def _count_sample(scores: Scores, candidates: Candidates) -> ScoreCounts:
    """Histograms of the sample, and into ``candidates`` the share of the sample that scores lower than each."""
    n_shown, n_bands = candidates.score.shape
    order = np.argsort(candidates.score, axis=0, kind="stable")
    ranked = np.take_along_axis(candidates.score, order, axis=0)
    lower = np.zeros((n_shown + 1, n_bands), np.int64)
    counts, n_sample = ScoreCounts(n_bands), 0
    for _, (score, flags, in_sample) in scores.blocks(scores.score_name, "candidate", "in_sample"):
        score, flags = score[in_sample], flags[in_sample, 0]
        counts.add(score, flags)
        n_sample += len(score)
        for band in range(n_bands):
            places = np.searchsorted(ranked[:, band], score[:, band], side="right")
            lower[:, band] += np.bincount(places, minlength=n_shown + 1)
    share = 100.0 * np.cumsum(lower, axis=0)[:n_shown] / max(n_sample, 1)
    np.put_along_axis(candidates.percentile, order, share, axis=0)
    return counts


# ---------------------------------------------------------------- images


def _draw(
    store: Cutouts,
    scoring: Scoring,
    scores: Scores,
    candidates: Candidates,
    folder: Path,
    told: Callable[[int, int], None],
) -> float:
    """Write the sheets of tiles; fills in magnitudes and hints.

    Returns the end of the residual scale: the first batch sets it for all, so that one pass over the pixels is enough.
    """
    survey, limit = scores.survey, 0.0
    if not len(candidates.rows):
        return limit
    magnitude = survey.bands.index(survey.magnitude_band)
    reconstruction = reconstructor(scoring)
    n_sheets = 0
    for batch in batched(range(len(candidates.rows)), BATCH_CANDIDATES):
        chosen = slice(batch[0], batch[-1] + 1)
        counts, fwhm, mag = _read(store, candidates.rows[chosen])
        source = preprocess(counts, fwhm, survey)
        expected = reconstruction(source)
        limit = limit or residual_limit(source - expected, survey)
        candidates.magnitude[chosen] = mag[:, magnitude]
        for name, flags in artefact_hints(counts, source, candidates.residual[chosen], survey).items():
            candidates.hints[name][chosen] = flags
        rows = rows_of_tiles(source, expected, limit, survey)
        for first in range(0, len(rows), ROWS_PER_SHEET):
            (folder / f"{n_sheets:05d}.jpg").write_bytes(sheet(rows[first : first + ROWS_PER_SHEET]))
            n_sheets += 1
        told(chosen.stop, len(candidates.rows))
    return limit


def _read(store: Cutouts, rows: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Counts, seeing and magnitudes of sorted rows; each chunk is read once."""
    parts: list[list[FloatArray]] = [[], [], []]
    for chunk in np.unique(rows // store.chunk_objects).tolist():
        inside = rows[rows // store.chunk_objects == chunk]
        first, stop = int(inside[0]), int(inside[-1]) + 1
        for part, name in zip(parts, ("image", "fwhm_arcsec", "mag"), strict=True):
            part.append(store.read(name, first, stop)[inside - first])
    image, fwhm, mag = (np.concatenate(part) for part in parts)
    return image, fwhm, mag


# ---------------------------------------------------------------- facts


def _facts(run: RunDirectory, job: Job, scores: Scores, counts: ScoreCounts, limit: float, output: Path) -> Facts:
    summary = run.read_summary()
    survey, levels = scores.survey, [str(level) for level in scores.read("level")]
    median = sample_thresholds(scores, [0.5])[0]
    select = run.ledger("select").read(FINISHED)
    return Facts(
        name=job.name,
        survey=survey,
        summary=summary,
        provenance=_provenance(run.provenance),
        levels=levels,
        charts=charts(counts, survey.bands, survey.selecting_bands, median, scores.read("threshold"), levels),
        faults=_faults(run.quarantine, summary["quarantined_by_code"]),
        spans=list(_spans(run, job)),
        tiles=layout(survey),
        rows_per_sheet=ROWS_PER_SHEET,
        residual_limit=limit,
        hints=HINTS,
        n_candidates=_n_candidates(scores),
        run_digest=digest_json(["report", select.identity if select else ""]),
        files=_files(run, job) if output == run.report else (),
    )


def _provenance(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _files(run: RunDirectory, job: Job) -> Sequence[str]:
    candidates = [run.selection.candidates(kind) for kind in job.select.formats]
    paths = (*candidates, run.picture, run.selection.summary, run.quarantine, run.job_file, run.provenance)
    return [path.name for path in paths if path.is_file()]


def _faults(path: Path, by_code: Mapping[str, int]) -> list[QuarantineReason]:
    """How many objects are in quarantine for each reason, the most common first, with the first as an example."""
    examples: dict[str, tuple[str, str]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                examples.setdefault(row["code"], (row["object_id"], row["reason"]))
                if len(examples) == len(by_code):
                    break
    ordered = sorted(by_code.items(), key=lambda item: (-item[1], item[0]))
    return [QuarantineReason(code, number, *examples.get(code, ("", ""))) for code, number in ordered]


def _spans(run: RunDirectory, job: Job) -> Iterator[Span]:
    """From the first to the last file of each stage, by the times that its receipts recorded."""
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
        yield Span(stage, int(done.details.get("n_tasks", 0)), done.n_objects, seconds)
