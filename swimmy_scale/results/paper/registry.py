"""The figures and tables by name; how they are made and saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.words import alternatives, known_names
from swimmy_scale.results.paper import pixels, rates, relations, spectra
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.saving import Drawn, save_figure, save_table
from swimmy_scale.results.paper.stacking import How
from swimmy_scale.results.paper.tables import TABLES, TITLES, Printed


@dataclass(frozen=True)
class Options:
    """What a user may choose: the folder of SDSS spectra, how they are stacked, and the object of figure 2."""

    spectra: Path | None = None
    how: How = "median"
    object_id: int | None = None


@dataclass(frozen=True)
class Kind:
    """A figure: its number in the paper, a line about it, and the function that makes it."""

    number: int
    line: str
    make: Callable[[RunData, Options], Drawn]


def _kind(number: int, line: str, make: Callable[[RunData], Drawn]) -> Kind:
    return Kind(number, line, lambda run, _: make(run))


def _stamps(group: str, words: str) -> Kind:
    line = f"{words}: source, reconstruction, residuals"
    return _kind(6, line, lambda run: pixels.stamps_known(run, group))


FIGURES: Mapping[str, Kind] = MappingProxyType(
    {
        "redshift-histogram": _kind(1, "redshifts of all, of the sample, with MPA-JHU", rates.redshift_histogram),
        "stretch": Kind(
            2, "one object in each band, linear and stretched", lambda run, given: pixels.stretch(run, given.object_id)
        ),
        "score-histograms": _kind(5, "scores of sample and candidates, with thresholds", rates.score_histograms),
        "stamps-training": _stamps("training", "training data"),
        "stamps-quasar": _stamps("quasar", "quasars"),
        "stamps-xelg": _stamps("xelg", "XELGs"),
        "stamps-candidates": _kind(7, "candidates of each band", pixels.stamps_candidates),
        "radial-profiles": _kind(8, "profiles of quasars, selected and not", pixels.radial_profiles),
        "ew-cumulative": _kind(9, "EW_band of XELGs, selected and not; selection rate", rates.ew_cumulative),
        "selection-rate-redshift": _kind(10, "selection rate by redshift", rates.selection_rate_redshift),
        "score-ew": _kind(11, "score against EW_band", relations.score_ew),
        "score-magnitude": _kind(12, "score against magnitude, Spearman's rank", relations.score_magnitude),
        "sfr-mass": _kind(13, "star formation rate against stellar mass, KS tests", relations.sfr_mass),
        "gallery": _kind(14, "the most anomalous at 3 sigma", lambda run: pixels.gallery(run, "3sigma")),
        "stacked-spectra": Kind(
            15,
            "SDSS spectra, stacked in the rest frame (--spectra)",
            lambda run, given: spectra.stacked(run, given.spectra, given.how),
        ),
        "weight-sets": _kind(16, "loss and selection rates of all weight sets", relations.weight_sets),
        "stamps-negative": _kind(17, "high scores with a negative residual", pixels.stamps_negative),
        "redshift-colour-cut": _kind(18, "redshifts before and after the colour cut", rates.redshift_colour_cut),
        "gallery-extension": _kind(19, "the most anomalous at 3.5 sigma", lambda run: pixels.gallery(run, "3.5sigma")),
    }
)


def _made[Maker, Made](
    names: Iterable[str], makers: Mapping[str, Maker], noun: str, make: Callable[[Maker], Made]
) -> Iterator[tuple[str, Made | MissingError]]:
    """What is made by each name, or why it cannot be made of this run; refuses unknown names."""
    chosen = list(names)
    unknown = [name for name in chosen if name not in makers]
    if unknown:
        there = known_names(unknown, list(makers), f"{noun}s", "There are")
        raise SwimmyError(f"no {noun} is called {alternatives(unknown)}. {there} Give no name for all of them.")
    for name in chosen:
        try:
            yield name, make(makers[name])
        except MissingError as error:
            yield name, error


def _meta(run: RunData, **facts: Any) -> dict[str, Any]:
    sha256 = run.selection.scores.attrs.get("model_sha256")
    return {**facts, "survey": run.survey.name, "simulated": run.simulated, "model_sha256": sha256}


def draw_figures(
    run: RunData, names: Iterable[str], options: Options, folder: Path
) -> Iterator[tuple[str, list[Path] | MissingError]]:
    """Draw and save figures one by one.

    Yields
    ------
    name : str
    outcome : list of Path or MissingError
        The files, or why this figure cannot be drawn of this run; the others still can.

    Raises
    ------
    SwimmyError
        When a file of the run is damaged, or a name is unknown.
    """
    written: list[Path] = []
    for name, drawn in _made(names, FIGURES, "figure", lambda kind: kind.make(run, options)):
        if isinstance(drawn, MissingError):
            yield name, drawn
        else:
            paths = save_figure(drawn, name, folder, _meta(run, figure=name, paper_figure=FIGURES[name].number))
            written += paths
            yield name, paths
    run.folder.keep_shown(folder, written)


def write_tables(
    run: RunData, names: Iterable[str], folder: Path
) -> Iterator[tuple[str, tuple[Printed, list[Path]] | MissingError]]:
    """Make and save tables one by one, as `draw_figures` does; also gives what is printed of each."""
    written: list[Path] = []
    for name, made in _made(names, TABLES, "table", lambda table: table(run)):
        if isinstance(made, MissingError):
            yield name, made
        else:
            columns, printed = made
            paths = save_table(columns, name, folder, _meta(run, table=name, title=TITLES[name]))
            written += paths
            yield name, (printed, paths)
    run.folder.keep_shown(folder, written)
