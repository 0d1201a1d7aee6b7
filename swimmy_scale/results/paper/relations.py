"""Two quantities of a run's objects against each other, and its weight sets: figures 11, 12, 13 and 16."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from swimmy_scale.method.survey import BoolArray, DoubleArray
from swimmy_scale.results.paper.drawing import relations
from swimmy_scale.results.paper.drawing.relations import ScoredPoints
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.saving import Drawn, by_band
from swimmy_scale.results.paper.statistics import kolmogorov_smirnov, spearman
from swimmy_scale.storage.weight_set_table import read_table

MAX_POINTS = 50_000
"""Most objects drawn of those that have no class and are in no band selected. All others are drawn, and the
statistics take all."""
MOST_ANOMALOUS = "3sigma"


def thinned(plain: BoolArray, max_points: int = MAX_POINTS) -> BoolArray:
    """Objects to draw: every k-th of the plain ones, so that at most ``max_points`` are left, and all others."""
    rows = np.flatnonzero(plain)
    drawn = np.ones(plain.size, np.bool_)
    drawn[rows] = False
    drawn[rows[:: max(-(-rows.size // max_points), 1)]] = True
    return drawn


def _points(run: RunData, members: BoolArray, x: DoubleArray, name: str) -> tuple[ScoredPoints, dict[str, Any]]:
    """Points to draw and their columns; ``x`` is float64 (member, band)."""
    selected, score = run.selected[members], run.score[members].astype(np.float64)
    is_xelg, is_active = run.members("xelg")[members], run.is_active[members]
    shown = thinned(~(selected.any(axis=1) | is_xelg | is_active))
    positive = score > 0
    log_score = np.log10(score, where=positive, out=np.full(score.shape, np.nan))
    points = ScoredPoints(x[shown], log_score[shown], selected[shown], is_xelg[shown], is_active[shown])
    columns: dict[str, Any] = {"object_id": run.object_id[members][shown]}
    values: dict[str, Any] = {name: points.x, "score": run.score[members][shown], "selected": points.selected}
    columns |= by_band(run.survey.selecting_bands, **values)
    columns |= {"is_xelg": points.is_xelg, "is_agn_or_quasar": points.is_active}
    return points, columns


def score_ew(run: RunData) -> Drawn:
    """Figure 11, with Spearman's rank correlation in the head of its table."""
    bands = run.survey.selecting_bands
    members = run.in_sample & run.counterpart("is_mpa_jhu").astype(np.bool_)
    width = np.stack([run.counterpart(f"ew_band_{band}")[members] for band in bands], axis=-1).astype(np.float64)
    points, columns = _points(run, members, width, "ew_band")
    score = run.score[members]
    ranks = {band: asdict(spearman(score[:, k], width[:, k])) for k, band in enumerate(bands)}
    figure = relations.score_ew(points, run.threshold, run.levels, bands)
    meta = {"n_objects": int(members.sum()), "spearman": ranks, "xelg_among_selected": _xelg_shares(run, members)}
    return Drawn(figure, {"": columns}, meta)


def _xelg_shares(run: RunData, members: BoolArray) -> dict[str, Any]:
    """How many of the selected are XELGs, by level and band (section 4.4)."""
    is_xelg, bands = run.members("xelg")[members], run.survey.selecting_bands
    return {
        level: {
            band: {"n_xelg": int((flag & is_xelg).sum()), "n_selected": int(flag.sum())}
            for band, flag in zip(bands, run.candidate(level)[members].T, strict=True)
        }
        for level in run.levels
    }


def score_magnitude(run: RunData) -> Drawn:
    """Figure 12."""
    bands = run.survey.selecting_bands
    members = run.in_sample
    mag = run.mag[members][:, run.selecting].astype(np.float64)
    if not np.isfinite(mag).any():
        raise MissingError(
            f"{run.directory}: the catalogue has no magnitudes, and this needs them. Name its columns in "
            "catalogue.columns of the job."
        )
    points, columns = _points(run, members, mag, "mag")
    found = [spearman(run.score[members][:, k], mag[:, k]) for k in range(len(bands))]
    figure = relations.score_magnitude(points, run.threshold, run.levels, bands, found)
    ranks = {band: asdict(item) for band, item in zip(bands, found, strict=True)}
    return Drawn(figure, {"": columns}, {"n_objects": int(members.sum()), "spearman": ranks})


def sfr_mass(run: RunData) -> Drawn:
    """Figure 13: MPA-JHU galaxies without quasars and active nuclei, whose masses and rates are uncertain."""
    bands = run.survey.selecting_bands
    top_level = run.candidate(MOST_ANOMALOUS)
    mass, sfr = (run.counterpart(name).astype(np.float64) for name in ("log_stellar_mass", "log_sfr"))
    members = run.in_sample & run.counterpart("is_mpa_jhu").astype(np.bool_) & ~run.is_active
    members &= np.isfinite(mass) & np.isfinite(sfr)
    mass, sfr, selected, top = mass[members], sfr[members], run.selected[members], top_level[members]
    by_mass, by_sfr = (
        [kolmogorov_smirnov(values[selected[:, k]], values[~selected[:, k]]) for k in range(len(bands))]
        for values in (mass, sfr)
    )
    shown = thinned(~selected.any(axis=1))
    columns: dict[str, Any] = {"object_id": run.object_id[members], "log_stellar_mass": mass, "log_sfr": sfr}
    columns |= by_band(bands, **{"selected": selected, f"selected_{MOST_ANOMALOUS}": top})
    meta = {
        "n_objects": int(members.sum()),
        "kolmogorov_smirnov": {
            band: {"log_stellar_mass": asdict(by_mass[k]), "log_sfr": asdict(by_sfr[k])} for k, band in enumerate(bands)
        },
    }
    figure = relations.sfr_mass(
        mass[shown], sfr[shown], selected[shown], top[shown], bands, by_mass, by_sfr, MOST_ANOMALOUS,
    )  # fmt: skip
    return Drawn(figure, {"": {name: values[shown] for name, values in columns.items()}}, meta)


def weight_sets(run: RunData) -> Drawn:
    """Figure 16."""
    path = run.files.models.table
    if not path.is_file():
        raise MissingError(
            f"{path}: not there, and this needs it. A training campaign makes it (appendix 1): run a job that judges "
            "its weight sets, in another run directory."
        )
    names = ("loss", "val_loss", "r_sel_quasar", "r_sel_xelg")
    table = read_table(path)
    number, at = (np.asarray(table[name], np.int64) for name in ("run", "epoch"))
    # Without known classes there are no rates.
    columns: dict[str, Any] = {
        name: np.ma.filled(np.ma.asarray(table[name], np.float64), np.nan)
        if name in table.colnames
        else np.full(number.size, np.nan)
        for name in names
    }
    means: dict[str, Any] = {}
    for name in names:
        means["epoch"], means[f"mean_{name}"], means[f"std_{name}"] = relations.by_epoch(at, columns[name])
    figure = relations.weight_sets(number, at, *(columns[name] for name in names))
    return Drawn(figure, {"": {"run": number, "epoch": at, **columns}, "means": means})
