"""The page: one HTML text of facts and candidates that needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined

from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, IntArray, Survey
from swimmy_scale.results.looking.sample_map import SampleMap
from swimmy_scale.results.report.charts import BOX, Chart
from swimmy_scale.results.report.further import FurtherGroup
from swimmy_scale.results.report.tiles import Tile, residual_colours
from swimmy_scale.results.style import shown_level
from swimmy_scale.results.words import duration, number

SCRIPTS = ("candidates.js", "marks.js", "looks.js", "alike.js", "gallery.js", "plane.js", "keys.js")
N_NEAREST = 24
"""Candidates that are named as most like another one."""
N_KNOTS = 65
"""Of the curves of stretches."""


DENSITY = "density.png"
"""In the folder of images."""
PLANE = {"width": 1000, "height": 640, "left": 60.0, "top": 12.8, "across": 920.0, "down": 563.2}
"""The drawing of the map and the frame in it; `style.css` has the same as shares."""


@dataclass(frozen=True)
class Candidates:
    """The candidates that the report shows, in the survey's order.

    Attributes
    ----------
    rank : ndarray of int64, shape (m,)
        0 for the one that exceeds a threshold by the largest factor.
    object_id : ndarray of int64, shape (m,)
    ra, dec : ndarray of float64, shape (m,), degrees
    known_class : sequence of str, length m
    score, residual : ndarray of float32, shape (m, band)
    candidate : ndarray of bool, shape (m, level, band)
    percentile : ndarray of float64, shape (m, band)
        Part of the sample that scores lower, in percent.
    magnitude : ndarray of float64, shape (m,), AB
        In the survey's magnitude band; NaN where unknown.
    hints : mapping of str to ndarray of bool, shape (m,)
    kept : mapping of str to sequence, length m
        Columns of the catalogue.
    look_order, probability, uncertainty : ndarray of float64, shape (m,)
        What marks taught (see `learning.ranking`): the place in the order in which to look, from 0, the probability of
        being interesting and its uncertainty. NaN where not known; all of them, if nothing was ranked.
    nearest : ndarray of int64, shape (m, k)
        Places in these columns of the candidates that are most like each one, the nearest first.
    distance : ndarray of float64, shape (m, k)
        To them (see `descriptor.nearest`).
    """

    rank: IntArray
    object_id: IntArray
    ra: DoubleArray
    dec: DoubleArray
    known_class: Sequence[str]
    score: FloatArray
    residual: FloatArray
    candidate: BoolArray
    percentile: DoubleArray
    magnitude: DoubleArray
    hints: Mapping[str, BoolArray]
    kept: Mapping[str, Sequence[Any]]
    look_order: DoubleArray
    probability: DoubleArray
    uncertainty: DoubleArray
    nearest: IntArray
    distance: DoubleArray

    @property
    def is_ranked(self) -> bool:
        """Whether marks taught anything of some of them."""
        return bool(np.isfinite(self.look_order).any())


@dataclass(frozen=True)
class QuarantineReason:
    """One reason for quarantine: how many objects, and the first of them."""

    code: str
    n_objects: int
    object_id: str
    reason: str


@dataclass(frozen=True)
class StageTime:
    """How long a stage took, from the first of its files to the last."""

    stage: str
    n_tasks: int
    n_objects: int
    seconds: float


@dataclass(frozen=True)
class Facts:
    """All that the page says, except for the candidates.

    Attributes
    ----------
    name : str
        The job's.
    summary, provenance : mapping
        The contents of ``summary.json`` and ``provenance.json``.
    tiles : sequence of Tile
        A row of a sheet.
    residual_limit : float
        The end of the scale of the residual maps.
    hints : mapping of str to str
        What each hint means.
    n_candidates : int
        Of the run; the page may show fewer.
    run_digest : str
        The browser keeps the marks under this name.
    files : sequence of str
        Names of the run's files, which lie one folder above the page; empty if the page is elsewhere.
    """

    name: str
    survey: Survey
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]
    levels: Sequence[str]
    charts: Sequence[Chart]
    quarantine: Sequence[QuarantineReason]
    stage_times: Sequence[StageTime]
    tiles: Sequence[Tile]
    rows_per_sheet: int
    residual_limit: float
    hints: Mapping[str, str]
    n_candidates: int
    run_digest: str
    files: Sequence[str]


def page(facts: Facts, candidates: Candidates, sample_map: SampleMap, further: Sequence[FurtherGroup] = ()) -> str:
    """The whole page. All text of the run is escaped; a policy in the head allows only its own script and images.

    ``sample_map`` places the candidates, in their order; its density is a picture beside the page, ``DENSITY``.
    """
    script = "\n".join(['"use strict";', *(_text(name) for name in SCRIPTS)])
    style = _text("style.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    level = partial(shown_level, space=" ")
    environment.filters |= {
        "level": level,
        "number": number,
        "duration": duration,
        "as_text": _as_text,
        "capitalize_first": _capitalized,
    }
    return environment.from_string(_text("page.html.j2")).render(
        facts=facts,
        further=further,
        sample_map=sample_map,
        density=DENSITY,
        plane=PLANE,
        stretches=stretch_curves(facts.survey),
        summary=facts.summary,
        n_shown=len(candidates.object_id),
        is_ranked=candidates.is_ranked,
        box=BOX,
        colour_stops=[f"#{r:02x}{g:02x}{b:02x}" for r, g, b in residual_colours()[:: 255 // 5].tolist()],
        classes=sorted(set(candidates.known_class) - {""}),
        data=script_json(_data(facts, candidates) | {"map": _map_data(sample_map), "near": _near_data(candidates)}),
        script=script,
        style=style,
        script_digest=_digest(script),
        style_digest=_digest(style),
    )


def script_json(value: Any) -> str:
    """JSON for a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def stretch_curves(survey: Survey) -> dict[str, tuple[str, list[float]]]:
    """Other stretches of the pictures: name, and the curve from a stored level to what is shown, both in [0, 1].

    ``linear`` undoes equation 1, as it is for equal flux in all bands; ``root`` shows the square root of that.
    """
    level = np.linspace(0.0, 1.0, N_KNOTS)
    undone = np.sinh(np.maximum(level - survey.stretch_beta, 0.0) * np.arcsinh(survey.stretch_alpha))
    linear = undone / max(float(undone[-1]), 1e-300)
    curves = {
        "faint": ("faint parts", np.sqrt(level)),
        "bright": ("bright parts", np.square(level)),
        "root": ("square root of the flux", np.sqrt(linear)),
        "linear": ("linear in the flux", linear),
        "inverted": ("inverted", 1.0 - level),
    }
    return {name: (title, [round(value, 4) for value in curve.tolist()]) for name, (title, curve) in curves.items()}


# ---------------------------------------------------------------- the parts


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _as_text(value: Any) -> str:
    """Text of a value of ``provenance.json``."""
    return value if isinstance(value, str) else json.dumps(value)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _data(facts: Facts, candidates: Candidates) -> dict[str, Any]:
    """What the script shows: facts of the survey, and columns of the candidates."""
    survey, n_bands = facts.survey, facts.survey.n_bands
    weights = 1 << np.arange(n_bands)
    hints = np.zeros(len(candidates.object_id), np.int64)
    for place, name in enumerate(facts.hints):
        hints |= candidates.hints[name].astype(np.int64) << place
    return {
        "run": facts.run_digest,
        "bands": survey.bands,
        "selecting": survey.selecting_bands,
        "magnitudeBand": survey.magnitude_band,
        "levels": [shown_level(level, space=" ") for level in facts.levels],
        "tiles": [[tile.kind, tile.name] for tile in facts.tiles],
        "rowsPerSheet": facts.rows_per_sheet,
        "apertureShare": survey.aperture_diameter_px / survey.cutout_size_px,
        "cutoutArcsec": survey.cutout_size_px * survey.pixel_scale_arcsec,
        "residualLimit": facts.residual_limit,
        "hints": list(facts.hints),
        "candidates": {
            # JavaScript's numbers do not hold 64-bit integers.
            "id": [str(value) for value in candidates.object_id.tolist()],
            "ra": _rounded(candidates.ra, 10),
            "dec": _rounded(candidates.dec, 10),
            "rank": candidates.rank.tolist(),
            "knownClass": list(candidates.known_class),
            "score": [_rounded(candidates.score[:, band], 5) for band in range(n_bands)],
            "residual": [_rounded(candidates.residual[:, band], 4) for band in range(n_bands)],
            "percentile": [_rounded(candidates.percentile[:, band], 6) for band in range(n_bands)],
            "flags": [(candidates.candidate[:, level] @ weights).tolist() for level in range(len(facts.levels))],
            "magnitude": _rounded(candidates.magnitude, 5),
            "hints": hints.tolist(),
            **(_learnt(candidates) if candidates.is_ranked else {}),
            "kept": {name: [_kept(value) for value in values] for name, values in candidates.kept.items()},
        },
    }


def _learnt(candidates: Candidates) -> dict[str, list[Any]]:
    """What marks taught of each candidate; null where that is nothing."""
    places = candidates.look_order.tolist()
    return {
        "lookOrder": [None if math.isnan(place) else int(place) for place in places],
        "probability": _rounded(candidates.probability, 3),
        "uncertainty": _rounded(candidates.uncertainty, 2),
    }


def _map_data(sample_map: SampleMap) -> dict[str, Any]:
    """Where the candidates are on the map, and the ends of its axes on their scale."""
    return {
        "isLinear": sample_map.axes[0].is_linear,
        "ends": [[axis.low, axis.high] for axis in sample_map.axes],
        "place": [_rounded(sample_map.place[:, k], 5) for k in range(len(sample_map.axes))],
    }


def _near_data(candidates: Candidates) -> dict[str, Any]:
    """Who is most like each candidate: little-endian integers as base64, distances in thousandths.

    As JSON's numbers they would take thrice as much.
    """
    dtype = np.dtype("<u2") if len(candidates.nearest) <= 1 << 16 else np.dtype("<u4")
    thousandths = np.minimum(np.round(1000 * candidates.distance), np.iinfo("<u2").max)
    return {
        "number": candidates.nearest.shape[1],
        "bytes": dtype.itemsize,
        "place": base64.b64encode(candidates.nearest.astype(dtype).tobytes()).decode(),
        "distance": base64.b64encode(thousandths.astype("<u2").tobytes()).decode(),
    }


def _rounded(values: npt.NDArray[Any], digits: int) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values.tolist()]


def _kept(value: Any) -> str:
    """A value of the catalogue as text; empty for NaN and infinities."""
    if isinstance(value, float):
        return f"{value:.7g}" if math.isfinite(value) else ""
    return value if isinstance(value, str) else str(value)
