"""Histograms and selection rates of a run: figures 1, 5, 9, 10 and 18."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from swimmy_scale.method.emission_lines import FILTERS, throughput
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.results.histogram import score_histogram
from swimmy_scale.results.paper.drawing import distributions
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.saving import Drawn, by_band, joined
from swimmy_scale.results.paper.statistics import binned_rates, colour_cut_quality, cumulative_rates, rate_above

REDSHIFT_RANGE = (0.05, 0.2)
"""Of the paper's sample; a job's own redshift cut takes its place."""
BRIGHT_LINE_ANGSTROM = 100.0
N_SCORE_BINS = 60
# Lines that figure 10 follows, the strongest of each group: wavelengths in air, Angstrom.
FOLLOWED_LINES = {"Hα": 6562.80, "[OIII]": 5006.84, "[OII]": 3727.42}


def known_redshifts(run: RunData) -> BoolArray:
    """Objects with a spectroscopic redshift, bool (object,); raises `MissingError` where there are none."""
    known: BoolArray = np.isfinite(run.redshift)
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


def _counts(redshift: DoubleArray, edges: DoubleArray) -> IntArray:
    return np.histogram(redshift, edges)[0].astype(np.int64)


def redshift_histogram(run: RunData) -> Drawn:
    """Figure 1."""
    known = known_redshifts(run) & run.bright
    redshift = run.redshift
    groups = {"spectroscopic redshift": known, "sample": known & run.in_sample}
    if run.has_counterparts:
        groups["sample with MPA-JHU"] = groups["sample"] & run.counterpart("is_mpa_jhu").astype(np.bool_)
    edges = _edges(redshift[known])
    counts = {name: _counts(redshift[flag], edges) for name, flag in groups.items()}
    columns: dict[str, Any] = {"redshift_low": edges[:-1], "redshift_high": edges[1:]}
    names = ("n_spectroscopic", "n_sample", "n_sample_mpa_jhu")
    columns |= dict(zip(names, counts.values(), strict=False))
    return Drawn(distributions.redshift_histogram(edges, counts), {"": columns})


def score_histograms(run: RunData) -> Drawn:
    """Figure 5."""
    score, selected = run.score[run.in_sample], run.selected[run.in_sample]
    counts = score_histogram(lambda: [(score, selected)], run.threshold, N_SCORE_BINS).counts
    median = np.array([np.median(column) if column.size else np.nan for column in score.T.astype(np.float64)])
    bands = run.survey.selecting_bands
    columns: dict[str, Any] = {"log_score_low": counts.edges[:-1], "log_score_high": counts.edges[1:]}
    columns |= by_band(bands, n_sample=counts.sample.T, n_candidates=counts.selected.T)
    lines: dict[str, Any] = {"line": np.array(["median", *run.levels])}
    lines |= by_band(bands, score=np.vstack([median, run.threshold]))
    figure = distributions.score_histograms(counts, median, run.threshold, run.levels, bands)
    return Drawn(figure, {"": columns, "lines": lines})


def ew_cumulative(run: RunData) -> Drawn:
    """Figure 9."""
    bands = run.survey.selecting_bands
    members = run.in_sample & run.members("xelg")
    widths = {band: run.counterpart(f"ew_band_{band}")[members].astype(np.float64) for band in bands}
    selected = run.selected[members]
    rates = {band: cumulative_rates(widths[band], selected[:, k]) for k, band in enumerate(bands)}
    parts = [
        {
            "band": np.full(rate.value.size, band),
            "ew_band": rate.value,
            "n_selected_above": rate.n_selected,
            "n_unselected_above": rate.n_unselected,
            "selected": rate.selected,
            "unselected": rate.unselected,
            "selection_rate": rate.rate,
        }
        for band, rate in rates.items()
    ]
    meta = {}
    for k, band in enumerate(bands):
        n_selected, n_bright = rate_above(widths[band], selected[:, k], BRIGHT_LINE_ANGSTROM)
        share = n_selected / n_bright if n_bright else None
        meta[band] = {"n_selected": n_selected, "n_objects": n_bright, "rate": share}
    figure = distributions.ew_cumulative(rates, BRIGHT_LINE_ANGSTROM)
    return Drawn(figure, {"": joined(parts)}, {f"ew_band_above_{BRIGHT_LINE_ANGSTROM:g}": meta})


def selection_rate_redshift(run: RunData) -> Drawn:
    """Figure 10."""
    bands = run.survey.selecting_bands
    members = known_redshifts(run) & run.in_sample
    low, high = run.job.sample.redshift or REDSHIFT_RANGE
    edges = np.linspace(low, high, 16)
    rates = binned_rates(run.redshift[members], run.selected[members], edges)
    grid = np.linspace(low, high, 151)
    lines = {
        name: np.stack([_throughput(band, rest * (1.0 + grid)) for band in bands], axis=-1)
        for name, rest in FOLLOWED_LINES.items()
    }
    columns: dict[str, Any] = {"redshift_low": edges[:-1], "redshift_high": edges[1:], "n_objects": rates.n_objects}
    curves: dict[str, Any] = {"redshift": grid}
    columns |= by_band(bands, n_selected=rates.n_selected, rate=rates.rate, rate_low=rates.low, rate_high=rates.high)
    names = ("throughput_h_alpha", "throughput_oiii", "throughput_oii")
    curves |= by_band(bands, **dict(zip(names, lines.values(), strict=True)))
    figure = distributions.selection_rate_redshift(edges, rates, bands, grid, lines)
    return Drawn(figure, {"": columns, "throughput": curves})


def _throughput(band: str, wavelength: DoubleArray) -> DoubleArray:
    """NaN for bands that are not HSC's: their curves are not known, and nothing is drawn."""
    return throughput(band, wavelength) if band in FILTERS else np.full(wavelength.shape, np.nan)


def redshift_colour_cut(run: RunData) -> Drawn:
    """Figure 18, and the three numbers of appendix 3."""
    known, redshift = known_redshifts(run) & run.bright, run.redshift
    colours = run.job.sample.colours or SampleCuts().colours
    kept = known & run.passes(replace(run.job.sample, redshift=None, colours=colours))
    limits = run.job.sample.redshift or REDSHIFT_RANGE
    quality = colour_cut_quality(redshift[known], kept[known], limits)
    rule = " and ".join(f"{first} − {second} < {limit:g}" for first, second, limit in colours)
    edges = _edges(redshift[known])
    n_objects, n_kept = (_counts(redshift[flag], edges) for flag in (known, kept))
    shares = {name: getattr(quality, name) for name in ("completeness", "removal_rate", "outlier_fraction")}
    words = (f"{limits[0]:g} < z < {limits[1]:g} kept", "other z removed", "other z among the kept")
    texts = [f"{what}: {_percent(share)}" for what, share in zip(words, shares.values(), strict=True)]
    columns = {"redshift_low": edges[:-1], "redshift_high": edges[1:], "n_objects": n_objects, "n_kept": n_kept}
    meta = {"colours": [list(colour) for colour in colours], "redshift": list(limits), **shares, **vars(quality)}
    counts = {"spectroscopic redshift": n_objects, rule: n_kept}
    figure = distributions.redshift_colour_cut(edges, counts, limits, texts)
    return Drawn(figure, {"": columns}, meta)


def _percent(fraction: float) -> str:
    return "-" if np.isnan(fraction) else f"{100 * fraction:.1f}%"
