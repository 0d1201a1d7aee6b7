"""Histograms and selection rates of a run: figures 1, 5, 9, 10 and 18."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.method.emission_lines import FILTERS, throughput
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.survey import DoubleArray
from swimmy_scale.results.histogram import score_histogram
from swimmy_scale.results.paper.drawing import distributions
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.saving import Drawn
from swimmy_scale.results.paper.statistics import (
    CumulativeRates,
    binned_rates,
    colour_cut_quality,
    cumulative_rates,
    rate_above,
)

REDSHIFT_RANGE = (0.05, 0.2)
"""Of the paper's sample; a job's own redshift cut goes before it."""
BRIGHT_LINE_ANGSTROM = 100.0
N_SCORE_BINS = 60
# Of lines that figure 10 follows: wavelengths in air, the strongest of each group.
FOLLOWED_LINES = {"Hα": 6562.80, "[OIII]": 5006.84, "[OII]": 3727.42}


def known_redshifts(run: RunData) -> npt.NDArray[np.bool_]:
    """Who has a spectroscopic redshift, bool (object,).

    Raises
    ------
    MissingError
        When nobody has.
    """
    known: npt.NDArray[np.bool_] = np.isfinite(run.redshift)
    if not known.any():
        raise MissingError(
            f"{run.directory}: no object has a spectroscopic redshift, and this needs them. Give the catalogue "
            "a column specz_redshift, or the job a section `spectroscopy:`."
        )
    return known


def _edges(redshift: DoubleArray) -> DoubleArray:
    """Bins of 0.01 from 0 to beyond the last redshift; far outliers above 1 stay off the axis."""
    top = float(redshift.max(initial=0.0))
    top = top if top <= 1.0 else max(1.0, float(np.percentile(redshift, 99.5)))
    n_tenths = max(int(np.ceil(top * 10.0 + 1e-9)), 3)
    edges: DoubleArray = np.linspace(0.0, n_tenths / 10.0, 10 * n_tenths + 1)
    return edges


def redshift_histogram(run: RunData) -> Drawn:
    """Figure 1."""
    known = known_redshifts(run) & run.bright
    redshift = run.redshift
    groups = {"spectroscopic redshift": known, "sample": known & run.in_sample}
    if run.has_counterparts:
        groups["sample with MPA-JHU"] = groups["sample"] & run.counterpart("is_mpa_jhu").astype(np.bool_)
    edges = _edges(redshift[known])
    counts = {name: np.histogram(redshift[flag], edges)[0].astype(np.int64) for name, flag in groups.items()}
    columns: dict[str, Any] = {"redshift_low": edges[:-1], "redshift_high": edges[1:]}
    names = ("n_spectroscopic", "n_sample", "n_sample_mpa_jhu")
    columns |= dict(zip(names, counts.values(), strict=False))
    figure = distributions.redshift_histogram(edges, counts, simulated=run.simulated)
    return Drawn(figure, {"": columns})


def score_histograms(run: RunData) -> Drawn:
    """Figure 5."""
    score, selected = run.score[run.in_sample], run.selected[run.in_sample]
    counts = score_histogram(lambda: [(score, selected)], run.threshold, N_SCORE_BINS).counts
    median = np.array([np.median(column) if column.size else np.nan for column in score.T.astype(np.float64)])
    bands = run.survey.selecting_bands
    columns: dict[str, Any] = {"log_score_low": counts.edges[:-1], "log_score_high": counts.edges[1:]}
    for k, band in enumerate(bands):
        columns |= {f"n_sample_{band}": counts.sample[k], f"n_candidates_{band}": counts.selected[k]}
    lines: dict[str, Any] = {"line": np.array(["median", *run.levels])}
    lines |= {f"score_{band}": np.append(median[k], run.threshold[:, k]) for k, band in enumerate(bands)}
    figure = distributions.score_histograms(counts, median, run.threshold, run.levels, bands, simulated=run.simulated)
    return Drawn(figure, {"": columns, "lines": lines})


def ew_cumulative(run: RunData) -> Drawn:
    """Figure 9."""
    bands = run.survey.selecting_bands
    members = run.in_sample & run.members("xelg")
    widths = {band: run.counterpart(f"ew_band_{band}")[members].astype(np.float64) for band in bands}
    selected = run.selected[members]
    rates: dict[str, CumulativeRates] = {}
    parts, meta = [], {}
    for k, band in enumerate(bands):
        rates[band] = cumulative_rates(widths[band], selected[:, k])
        n_selected, n_bright = rate_above(widths[band], selected[:, k], BRIGHT_LINE_ANGSTROM)
        meta[band] = {"n_selected": n_selected, "n_objects": n_bright,
                      "rate": n_selected / n_bright if n_bright else None}  # fmt: skip
        rate = rates[band]
        part: dict[str, Any] = {"band": np.full(rate.value.size, band), "ew_band": rate.value}
        part |= {"n_selected_above": rate.n_selected, "n_unselected_above": rate.n_unselected}
        part |= {"selected": rate.selected, "unselected": rate.unselected, "selection_rate": rate.rate}
        parts.append(part)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    figure = distributions.ew_cumulative(rates, BRIGHT_LINE_ANGSTROM, simulated=run.simulated)
    return Drawn(figure, {"": columns}, {f"ew_band_above_{BRIGHT_LINE_ANGSTROM:g}": meta})


def selection_rate_redshift(run: RunData) -> Drawn:
    """Figure 10."""
    bands = run.survey.selecting_bands
    members = known_redshifts(run) & run.in_sample
    low, high = run.cuts.redshift or REDSHIFT_RANGE
    edges = np.linspace(low, high, 16)
    rates = binned_rates(run.redshift[members], run.selected[members], edges)
    grid = np.linspace(low, high, 151)
    lines = {
        name: np.stack([_throughput(band, rest * (1.0 + grid)) for band in bands], axis=-1)
        for name, rest in FOLLOWED_LINES.items()
    }
    columns: dict[str, Any] = {"redshift_low": edges[:-1], "redshift_high": edges[1:], "n_objects": rates.n_objects}
    curves: dict[str, Any] = {"redshift": grid}
    for k, band in enumerate(bands):
        columns |= {f"n_selected_{band}": rates.n_selected[:, k], f"rate_{band}": rates.rate[:, k]}
        columns |= {f"rate_low_{band}": rates.low[:, k], f"rate_high_{band}": rates.high[:, k]}
        for name, key in zip(lines, ("h_alpha", "oiii", "oii"), strict=True):
            curves[f"throughput_{key}_{band}"] = lines[name][:, k]
    figure = distributions.selection_rate_redshift(edges, rates, bands, grid, lines, simulated=run.simulated)
    return Drawn(figure, {"": columns, "throughput": curves})


def _throughput(band: str, wavelength: DoubleArray) -> DoubleArray:
    """Of bands that are not HSC's nothing is known, and nothing is drawn."""
    return throughput(band, wavelength) if band in FILTERS else np.full(wavelength.shape, np.nan)


def redshift_colour_cut(run: RunData) -> Drawn:
    """Figure 18, and the three numbers of appendix 3."""
    known = known_redshifts(run) & run.bright
    colours = run.cuts.colours or SampleCuts().colours
    kept = known & run.passes(replace(run.cuts, redshift=None, colours=colours))
    limits = run.cuts.redshift or REDSHIFT_RANGE
    quality = colour_cut_quality(run.redshift[known], kept[known], limits)
    rule = " and ".join(f"{first} − {second} < {limit:g}" for first, second, limit in colours)
    edges = _edges(run.redshift[known])
    counts = {
        "spectroscopic redshift": np.histogram(run.redshift[known], edges)[0].astype(np.int64),
        rule: np.histogram(run.redshift[kept], edges)[0].astype(np.int64),
    }
    shares = {
        "completeness": quality.completeness,
        "removal_rate": quality.removal_rate,
        "outlier_fraction": quality.outlier_fraction,
    }
    low, high = limits
    texts = [
        f"{low:g} < z < {high:g} kept: {_percent(quality.completeness)}",
        f"other z removed: {_percent(quality.removal_rate)}",
        f"other z among the kept: {_percent(quality.outlier_fraction)}",
    ]
    columns = {
        "redshift_low": edges[:-1],
        "redshift_high": edges[1:],
        "n_objects": counts["spectroscopic redshift"],
        "n_kept": counts[rule],
    }
    meta = {"colours": [list(colour) for colour in colours], "redshift": list(limits), **shares, **vars(quality)}
    figure = distributions.redshift_colour_cut(edges, counts, limits, texts, simulated=run.simulated)
    return Drawn(figure, {"": columns}, meta)


def _percent(fraction: float) -> str:
    return "-" if np.isnan(fraction) else f"{100 * fraction:.1f}%"
