"""Pixels of a run's objects: figures 2, 6, 7, 8, 14, 17 and 19."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import band_label
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.results.paper.drawing import stamps as drawing
from swimmy_scale.results.paper.drawing.stamps import StampGroup
from swimmy_scale.results.paper.profiles import radial_profiles as profiles_of
from swimmy_scale.results.paper.profiles import ring_radius
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.saving import Drawn, by_band, joined
from swimmy_scale.results.paper.statistics import sigma_excess
from swimmy_scale.results.paper.tables import negative_flags

KNOWN = {"training": "training data", "quasar": "quasars", "xelg": "extreme emission-line galaxies"}
N_KNOWN, N_CANDIDATES = 15, 25
"""Objects that figures 6 and 7 show of each group."""
MAX_PROFILES = 500
"""Most members of a class that figure 8 averages: of a larger class, some drawn at random."""
MAX_GALLERY = 225
"""Most objects that figures 14 and 19 show of each band, as many as the paper's extension has."""
BATCH_OBJECTS = 256
"""Objects of figure 8 whose pixels are in memory at once."""
SEED = 0


def _credit(run: RunData) -> str:
    return "HSC-SSP / NAOJ" if run.survey.name.startswith("HSC") else ""


def drawn_by_lot(members: BoolArray, n_objects: int) -> IntArray:
    """At most ``n_objects`` rows of members, drawn at random, ascending; the same ones each time."""
    rows = np.flatnonzero(members)
    if rows.size > n_objects:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, n_objects, replace=False))
    return rows


def _object_columns(run: RunData, rows: IntArray) -> dict[str, Any]:
    bands = run.survey.selecting_bands
    columns = {"object_id": run.object_id[rows], "bands": band_label(run.selected[rows], bands)}
    return columns | by_band(bands, score=run.score[rows], residual=run.residual[rows])


def _stamp_figure(
    run: RunData, groups: dict[str, IntArray], bands: tuple[str, ...], n_columns: int, with_sigma: bool = False
) -> Drawn:
    """Groups of objects with their reconstructions, which one pass through the network makes."""
    rows = np.concatenate([np.zeros(0, np.int64), *groups.values()])
    source = run.source(rows)
    reconstruction = run.reconstruction(source)
    sigma = _sigma(run, rows) if with_sigma else None
    columns = {"group": np.repeat(list(groups), [part.size for part in groups.values()]), **_object_columns(run, rows)}
    if sigma is not None:
        columns |= by_band(run.survey.bands, sigma=sigma)
    ends = np.cumsum([part.size for part in groups.values()])[:-1]
    sigmas: Sequence[DoubleArray | None] = [None] * len(groups) if sigma is None else np.split(sigma, ends)
    parts = zip(groups, np.split(source, ends), np.split(reconstruction, ends), sigmas, strict=True)
    figure = drawing.stamps([StampGroup(*part) for part in parts], bands, run.survey, n_columns=n_columns)
    pixels = {"SOURCE": source, "RECONSTRUCTION": reconstruction} if rows.size else {}
    return Drawn(figure, {"": columns}, {}, pixels, _credit(run))


def _sigma(run: RunData, rows: IntArray) -> DoubleArray:
    """Sigma of each object's scores among those of the training data, or of the sample if there are none."""
    training = run.in_sample & (run.sample_class == "training")
    members = training if training.any() else run.in_sample
    blocks = run.selection.blocks(run.selection.score_name)
    reference = np.concatenate([block[members[lo : lo + len(block)]] for lo, (block,) in blocks])
    score = np.concatenate([run.selection.read(run.selection.score_name, row, row + 1) for row in rows.tolist()])
    return np.stack([sigma_excess(score[:, band], reference[:, band]) for band in range(run.survey.n_bands)], axis=-1)


def _members(run: RunData, group: str) -> BoolArray:
    members = run.in_sample & run.members(group)
    if not members.any():
        raise MissingError(
            f"{run.directory}: the sample holds no object of class {group}, and this needs some. Give the catalogue a "
            "column sample_class, or the job a section `spectroscopy:`."
        )
    return members


def stamps_known(run: RunData, group: str) -> Drawn:
    """A part of figure 6: members of one of the ``KNOWN`` classes."""
    rows = drawn_by_lot(_members(run, group), N_KNOWN)
    return _stamp_figure(run, {KNOWN[group]: rows}, run.survey.bands, N_KNOWN, with_sigma=True)


def stamps_candidates(run: RunData) -> Drawn:
    """Figure 7."""
    bands = run.survey.selecting_bands
    groups = {f"selected in {band}": drawn_by_lot(run.selected[:, k], N_CANDIDATES) for k, band in enumerate(bands)}
    return _stamp_figure(run, groups, bands, N_CANDIDATES)


def stamps_negative(run: RunData) -> Drawn:
    """Figure 17: the highest scores with a negative residual.

    In r, where appendix 2 found most of these objects; in a survey without r, in the second selecting band.
    """
    bands = run.survey.selecting_bands
    k = bands.index("r") if "r" in bands else min(1, len(bands) - 1)
    rows = _highest(run, negative_flags(run)[:, k], k, N_CANDIDATES)
    title = f"high score in {bands[k]}, but fainter than expected there"
    return _stamp_figure(run, {title: rows}, run.survey.bands, N_CANDIDATES)


def _highest(run: RunData, members: BoolArray, k: int, n_objects: int) -> IntArray:
    """Rows of the members with the highest scores in a selecting band, the highest first."""
    rows = np.flatnonzero(members)
    return rows[run.order_by_score(rows, k)][:n_objects]


def gallery(run: RunData, level: str) -> Drawn:
    """Figures 14 and 19: the highest scores in each band of those selected at a level."""
    chosen = run.candidate(level)
    bands = run.survey.selecting_bands
    titles, sources, parts = [], [], []
    for k, band in enumerate(bands):
        rows = _highest(run, chosen[:, k], k, MAX_GALLERY)
        n_all = int(chosen[:, k].sum())
        titles.append(f"{band}: {n_all:,}" + (f", the first {rows.size} shown" if n_all > rows.size else ""))
        sources.append(run.source(rows))
        parts.append({"in_band": np.full(rows.size, band), **_object_columns(run, rows)})
    figure = drawing.gallery(titles, sources, run.survey)
    return Drawn(figure, {"": joined(parts)}, {"level": level}, credit=_credit(run))


def radial_profiles(run: RunData) -> Drawn:
    """Figure 8: quasars that the first selecting band selects, and the others."""
    band, bands = run.survey.selecting_bands[0], run.survey.bands
    members = _members(run, "quasar")
    rows = drawn_by_lot(members, MAX_PROFILES)
    shape = (rows.size, len(bands), run.survey.cutout_size_px // 2)
    source, residual = np.full(shape, np.nan), np.full(shape, np.nan)
    for lo in range(0, rows.size, BATCH_OBJECTS):
        batch = slice(lo, lo + BATCH_OBJECTS)
        image = run.source(rows[batch])
        source[batch] = profiles_of(image, run.survey)
        residual[batch] = profiles_of(image - run.reconstruction(image), run.survey)
    selected, radius = run.selected[rows, 0], ring_radius(run.survey)
    figure = drawing.radial_profiles(radius, source, residual, selected, bands, f"quasars, selection in {band}")
    columns: dict[str, Any] = {"object_id": run.object_id[rows], "selected": selected}
    columns |= by_band(bands, source=source, residual=residual)
    means: dict[str, Any] = {"radius_px": radius}
    for k, name in enumerate(bands):
        for kind, flag in (("selected", selected), ("unselected", ~selected)):
            means[f"source_{kind}_{name}"] = drawing.known_mean(source[flag, k])
            means[f"residual_{kind}_{name}"] = drawing.known_mean(residual[flag, k])
    return Drawn(figure, {"": means, "objects": columns}, {"band": band, "n_members": int(members.sum())})


def stretch(run: RunData, object_id: int | None = None) -> Drawn:
    """Figure 2: the object asked for, or one of the brightest of the sample that no band selects."""
    row = _example(run, object_id)
    survey = run.survey
    counts = run.cutouts.images(row, row + 1)[0].astype(np.float64)
    linear = counts * 10.0 ** (-0.4 * (survey.zero_point_mag - survey.stretch_zero_point_mag))
    stretched = run.source(np.array([row], np.int64))[0]
    figure = drawing.stretch(linear, stretched, survey)
    columns: dict[str, Any] = {"object_id": run.object_id[[row]], "redshift": run.redshift[[row]]}
    columns |= by_band(survey.bands, mag=run.mag[[row]])
    pixels = {"LINEAR": linear.astype(np.float32), "STRETCHED": stretched}
    return Drawn(figure, {"": columns}, {}, pixels, _credit(run))


def _example(run: RunData, object_id: int | None) -> int:
    if object_id is not None:
        rows = np.flatnonzero(run.object_id == object_id)
        if rows.size != 1:
            raise SwimmyError(f"{run.directory}: object {object_id} comes {rows.size} times. Name one of its objects.")
        return int(rows[0])
    plain = np.flatnonzero(run.in_sample & ~run.selected.any(axis=1))
    if plain.size == 0:
        raise MissingError(f"{run.directory}: every object of the sample is selected. Name one by --object.")
    mag = run.reference_mag[plain]
    # Not the very brightest: they fill their cutouts.
    return int(plain[np.argsort(mag, kind="stable")[plain.size // 50]])
