"""A run's numbers beside the paper's, measured from the run and from its tables and figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.method.survey import BoolArray
from swimmy_scale.results.paper import paper_numbers as paper
from swimmy_scale.results.paper import saving
from swimmy_scale.results.paper.paper_numbers import NUMBERS, Found, share, verdict
from swimmy_scale.results.paper.run_data import RunData
from swimmy_scale.results.paper.statistics import spearman
from swimmy_scale.storage.weight_set_table import read_table

FORMAT_VERSION = 1
FIGURES_NEEDED = ("ew-cumulative", "score-ew", "score-magnitude")
TABLES_NEEDED = ("table-2", "table-4", "high-but-negative")
# One training galaxy in a hundred may lie beyond the end of the training class, with a wrong magnitude, say.
TRAINING_PERCENTILE = 99.0
FEWEST_OBJECTS = 10
"""Steps in magnitude with fewer objects are left out."""
AS_BRIGHT, FAINTER = "as bright as the training class", "fainter"

Numbers = Mapping[str, Found | None]


def measure(run: RunData, version: str) -> dict[str, Any]:
    """All that the page says of a run, as JSON values.

    Returns
    -------
    dict
        ``numbers`` has a `Found` with its ``verdict`` for each key of `paper_numbers.NUMBERS`, or None where the run
        has nothing to measure. ``training``, ``weight_sets`` and ``magnitudes`` are None for a run that was given
        its weights, or has no training class. Shares are in percent.

    Raises
    ------
    SwimmyError
        When a table or figure of the run is missing, or was made of other scores than the run has now.
    """
    found = found_numbers(run)
    train = run.job.train
    return {
        "format_version": FORMAT_VERSION,
        "version": version,
        "job": run.job.name,
        "simulated": run.simulated,
        "model_sha256": str(run.selection.scores.attrs.get("model_sha256")),
        "n_objects": run.selection.n_objects,
        "n_in_sample": int(run.in_sample.sum()),
        "levels": dict(run.job.select.levels),
        "training": None
        if train is None
        else {
            "n_runs": train.n_runs,
            "epochs": train.schedule.epochs,
            "max_objects": train.max_objects,
            "seed": train.schedule.seed,
        },
        "weight_sets": weight_sets(run),
        "numbers": {
            number.key: None
            if (ours := found[number.key]) is None
            else asdict(ours) | {"verdict": verdict(number, ours)}
            for number in NUMBERS
        },
        "sample": sample(run),
        "reconstruction": reconstruction(run),
        "magnitudes": magnitudes(run),
    }


# ---------------------------------------------------------------- the paper's numbers


def found_numbers(run: RunData) -> Numbers:
    """The run's value of every number of `paper_numbers.NUMBERS`, by key; None where there is nothing to measure."""
    tables = {name: _read(run, run.folder.tables / f"{name}.ecsv") for name in TABLES_NEEDED}
    figures = {name: _read(run, run.folder.figures / f"{name}.ecsv") for name in FIGURES_NEEDED}
    found = _selected(tables["table-2"], tables["high-but-negative"])
    for row in tables["table-4"]:
        found[f"table-4/{row['type']}"] = share(int(row["n_selected"]), int(row["n_objects"]))
    above = figures["ew-cumulative"].meta["ew_band_above_100"]
    among = figures["score-ew"].meta["xelg_among_selected"].get("3sigma", {})
    ranks = figures["score-magnitude"].meta["spearman"]
    for band in paper.BANDS:
        found[f"ew-above-100/{band}"] = share(above[band]["n_selected"], above[band]["n_objects"])
        counts = among.get(band, {"n_xelg": 0, "n_selected": 0})
        found[f"xelg-at-3-sigma/{band}"] = share(counts["n_xelg"], counts["n_selected"])
        found[f"spearman/{band}"] = _correlation(ranks[band]["rho"], ranks[band]["n_objects"])
    found["loss"] = _loss(run)
    return found


def _read(run: RunData, path: Path) -> Table:
    """One of the run's tables, which must be made of the scores that the run has now."""
    remedy = f"Run `{typed('tables', run.directory)}` and `{typed('figures', run.directory)}` first."
    if not path.is_file():
        raise SwimmyError(f"{path}: not there, and the comparison needs it. {remedy}")
    try:
        table = Table.read(path, format="ascii.ecsv")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SwimmyError(f"{path}: no readable table ({error}). {remedy}") from error
    version = table.meta.get("format_version")
    if version != saving.FORMAT_VERSION:
        raise SwimmyError(
            f"{path}: its format_version is {version}, this program reads {saving.FORMAT_VERSION}. {remedy}"
        )
    if table.meta.get("model_sha256") != run.selection.scores.attrs.get("model_sha256"):
        raise SwimmyError(f"{path}: it was made of another model's scores than the run has now. {remedy}")
    return table


def _selected(table: Table, negative: Table) -> dict[str, Found | None]:
    """Table 2, and how many are above the thresholds."""
    found: dict[str, Found | None] = {}
    for row in table:
        band = row["band"]
        for group in paper.GROUPS:
            found[f"table-2/{band}/{group}"] = share(int(row[f"n_selected_{group}"]), int(row[f"n_objects_{group}"]))
        if band in paper.BANDS:
            n_negative = sum(band in str(bands).split("&") for bands in negative["bands"])
            n_above = int(row["n_selected_sample"]) + n_negative
            found[f"above-threshold/{band}"] = share(n_above, int(row["n_objects_sample"]))
            found[f"negative/{band}"] = share(n_negative, n_above)
    return found


def _correlation(rho: float | None, n_objects: int) -> Found | None:
    """A rank correlation with its standard error 1 / sqrt(n - 3)."""
    if rho is None or n_objects <= 3:
        return None
    error = 1.0 / math.sqrt(n_objects - 3)
    return Found(rho, rho - error, rho + error, f"{rho:.3f}")


def _loss(run: RunData) -> Found | None:
    """The range of the kept epochs' training losses; None for a run that trained nothing."""
    if not run.files.models.table.is_file():
        return None
    loss = np.asarray(read_table(run.files.models.table)["loss"], np.float64)
    low, high = float(loss.min()), float(loss.max())
    return Found(float(np.median(loss)), low, high, f"{low:.2g} to {high:.2g}")


def claims(found: Numbers) -> list[tuple[str, str, str, bool]]:
    """The paper's findings that could be measured: in words, its number, the run's, and whether the run agrees."""
    rows = []
    everybody, quasars = found["table-2/any/sample"], found["table-2/any/quasar"]
    by_key = {number.key: number for number in NUMBERS}
    for words, key, ours in (
        ("Near 12% of the sample are selected in some band", "table-2/any/sample", everybody),
        ("Near 60% of the quasars are selected", "table-2/any/quasar", quasars),
    ):
        if ours is not None:
            is_so = verdict(by_key[key], ours) == paper.REPRODUCED
            rows.append((words, by_key[key].paper.text, _with_interval(ours), is_so))
    widths = [item for band in paper.BANDS if (item := found[f"ew-above-100/{band}"]) is not None]
    if widths:
        least, most = min(paper.EW_RATES.values()), max(paper.EW_RATES.values())
        is_so = all(item.high >= least and item.low <= most for item in widths)
        words = "XELGs with EW_band > 100 Å are selected at 64 to 91%"
        rows.append((words, f"{least:g} to {most:g}%", ", ".join(f"{item.value:.1f}%" for item in widths), is_so))
    type2 = found["table-4/type2_agn"]
    if type2 is not None and everybody is not None:
        words = "Type-II AGN are selected no more often than anybody"
        numbers = f"{_with_interval(type2)} against {everybody.value:.1f}%"
        rows.append((words, "12.8% against 12.1%", numbers, type2.low <= everybody.value))
    ranks = [item for band in paper.BANDS if (item := found[f"spearman/{band}"]) is not None]
    if ranks:
        largest = max(abs(item.value) for item in ranks)
        words = f"No rank correlation of score and magnitude above {paper.LARGEST_CORRELATION:g}"
        rows.append((words, "0.159", f"{largest:.3f}", largest <= paper.LARGEST_CORRELATION))
    return rows


def _with_interval(found: Found) -> str:
    return f"{found.text} ({found.low:.1f} to {found.high:.1f})"


# ---------------------------------------------------------------- what else the run shows


def sample(run: RunData) -> list[dict[str, Any]]:
    """Table 1 and the sizes of table 4: ``what``, the ``paper``'s number and the run's ``n_objects``."""
    inside, mpa_jhu = run.in_sample, run.counterpart("is_mpa_jhu").astype(np.bool_)
    quasar = run.members("quasar")
    groups = {
        "test data": (49_319, inside),
        "in MPA-JHU": (25_714, mpa_jhu),
        "training data": (21_151, run.counterpart("sample_class") == "training"),
        "XELGs": (701, run.members("xelg")),
        "DR16Q quasars": (23, quasar),
        "other spec-z": (23_582, ~mpa_jhu & ~quasar),
    }
    kinds = run.counterpart("milliquas_type")
    for kind, (_, number) in paper.TABLE_4.items():
        groups[f"Milliquas without DR16Q: {kind}"] = (number, ~quasar & (kinds == kind))
    return [
        {"what": what, "paper": number, "n_objects": int((inside & members).sum())}
        for what, (number, members) in groups.items()
    ]


def weight_sets(run: RunData) -> dict[str, Any] | None:
    """How many weight sets were judged, by which rule, and what they select of the known classes, in percent."""
    if not run.files.models.table.is_file():
        return None
    table = read_table(run.files.models.table)
    rule = str(table.meta["choose"])
    rates: dict[str, Any] = {}
    for name in ("quasar", "xelg"):
        if f"r_sel_{name}" not in table.colnames:
            continue
        values = 100.0 * np.ma.filled(np.ma.asarray(table[f"r_sel_{name}"], np.float64), np.nan)
        if np.isfinite(values).any():
            chosen = values[np.asarray(table[f"chosen_by_{rule}"], np.bool_)]
            rates[name] = {"low": np.nanmin(values).item(), "high": np.nanmax(values).item(), "chosen": chosen.tolist()}
    return {"n_weight_sets": len(table), "choose": rule, "selected_percent": rates}


def reconstruction(run: RunData) -> dict[str, Any]:
    """Scores of the sample by selecting band, and how far a pixel in the centre is from its reconstruction.

    A score is a sum over the aperture's pixels of a relative deviation squared (equation 6), so
    sqrt(score / pixels) is the root mean square deviation.
    """
    n_pixels = int(run.survey.aperture().sum())
    bands = {}
    for k, band in enumerate(run.survey.selecting_bands):
        scores = {
            "median": float(np.median(run.score[run.in_sample, k].astype(np.float64))),
            "threshold": float(run.threshold[0, k]),
        }
        bands[band] = scores | {
            f"{name}_deviation_percent": 100.0 * math.sqrt(score / n_pixels) for name, score in scores.items()
        }
    return {"n_pixels": n_pixels, "bands": bands}


def training_end(run: RunData) -> float | None:
    """Magnitude, in the survey's magnitude band, at which the training class ends; None without one."""
    mag = run.reference_mag[run.in_sample & (run.sample_class == "training")].astype(np.float64)
    mag = mag[np.isfinite(mag)]
    return float(np.percentile(mag, TRAINING_PERCENTILE)) if mag.size else None


def magnitudes(run: RunData) -> dict[str, Any] | None:
    """Selection by magnitude, in steps of 1 mag to both sides of the training class' end; None without this class.

    Returns
    -------
    dict
        ``band`` and ``training_end``; ``steps``, each with ``above`` and ``up_to`` in mag, ``n_objects`` and
        ``selected_percent`` in each selecting band and in any; ``spearman``, the rank correlations of score and
        magnitude of all, and on each side of the end, by selecting band.
    """
    end = training_end(run)
    if end is None:
        return None
    mag = run.reference_mag.astype(np.float64)
    steps = []
    edges = [-np.inf, *(end + step for step in (-2.0, -1.0, 0.0, 1.0)), np.inf]
    for low, high in itertools.pairwise(edges):
        inside = run.in_sample & (mag > low) & (mag <= high)
        if inside.sum() < FEWEST_OBJECTS:
            continue
        flags = run.selected[inside]
        shares = [*flags.mean(axis=0).tolist(), float(flags.any(axis=1).mean())]
        percent = {
            name: 100.0 * share for name, share in zip([*run.survey.selecting_bands, "any"], shares, strict=True)
        }
        ends = {"above": low if np.isfinite(low) else None, "up_to": high if np.isfinite(high) else None}
        steps.append(ends | {"n_objects": int(inside.sum()), "selected_percent": percent})
    parts = {"all": run.in_sample, AS_BRIGHT: run.in_sample & (mag <= end), FAINTER: run.in_sample & (mag > end)}
    ranks = {
        words: {band: _rank(run, k, inside) for k, band in enumerate(run.survey.selecting_bands)}
        for words, inside in parts.items()
    }
    return {"band": run.survey.magnitude_band, "training_end": end, "steps": steps, "spearman": ranks}


def _rank(run: RunData, k: int, inside: BoolArray) -> float | None:
    own = run.mag[:, run.selecting[k]].astype(np.float64)
    rho = spearman(run.score[inside, k], own[inside]).rho
    return None if math.isnan(rho) else rho
