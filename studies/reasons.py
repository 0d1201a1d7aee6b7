"""Why the numbers of docs/fidelity.md differ: who is selected in a run of a simulated survey, by what it was made of.

    python studies/reasons.py fidelity/run fidelity/survey/truth.fits --json studies/results/fidelity_reasons.json

Prints one line a measurement; `fidelity_page.py` says them in words. With ``--weight-sets`` all weight sets score 5,000
objects of the sample, which takes minutes; with ``--quasars`` the run's weights score that many more quasars, drawn by
the same laws. All shares are in percent.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from machine import swimmy

from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray
from swimmy_scale.model.scoring import scoring_of
from swimmy_scale.results.paper.fidelity import training_end
from swimmy_scale.results.paper.run_data import RunData
from swimmy_scale.results.paper.statistics import spearman
from swimmy_scale.simulate import KINDS, SimulationPlan, paper_plan, simulate
from swimmy_scale.simulate.galaxies import Galaxies, draw_objects
from swimmy_scale.simulate.spectra import FILTERS
from swimmy_scale.stages.evaluate import EvaluateStage, scores_of_rows
from swimmy_scale.stages.run import Run
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.weight_set_table import read_table

GROUPS = {
    "normal": ("normal",),
    "active": ("quasar", "type1_agn"),
    "xelg": ("xelg",),
    "artefacts": ("artefact_zero_point", "artefact_saturated"),
}
BANDS = ("g", "r", "i")
PAIRS = (("g", "r"), ("r", "i"), ("g", "i"), BANDS)
# Fainter than any galaxy of the training class, and bluer than nearly all of it.
FAINT_MAG, YOUNG_PERCENT = 18.4, 80
LITTLE_EXCESS = 0.2
N_OBJECTS = 5000

Measured = dict[str, Any]


class Facts:
    """A run, and what its objects were simulated as."""

    def __init__(self, run: Path, truth: Path) -> None:
        self.data = RunData(run)
        table = Table.read(truth)
        row_of = {number: row for row, number in enumerate(table["object_id"].tolist())}
        self._truth = table[[row_of[number] for number in self.data.object_id.tolist()]]
        self.kind = self.truth("kind").astype(str)
        self.sample = self.data.in_sample
        self.selected = self.data.selected
        self.mag = self.data.reference_mag
        self.young = self.truth("young_fraction") >= YOUNG_PERCENT / 100

    def truth(self, name: str) -> npt.NDArray[Any]:
        """A column of the truth for every object of the run."""
        return np.asarray(self._truth[name])

    @functools.cached_property
    def is_mpa_jhu(self) -> BoolArray:
        """Who is in MPA-JHU."""
        known: BoolArray = self.data.counterpart("is_mpa_jhu").astype(np.bool_)
        return known

    def rates(self, members: BoolArray) -> Measured:
        """Shares of the members in the sample that any band, g, r and i select."""
        return shares(self.selected[members & self.sample])

    def composition(self, members: BoolArray) -> Measured:
        """What the members were simulated as: numbers by kind and by group of kinds."""
        kinds, counts = np.unique(self.kind[members], return_counts=True)
        by_kind = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
        by_group = {name: sum(by_kind.get(kind, 0) for kind in of) for name, of in GROUPS.items()}
        return {"n": int(members.sum()), "kinds": by_kind, "groups": by_group}


def percent(members: BoolArray) -> float | None:
    """Share of those that are true, or None."""
    return rounded(100 * members.mean()) if members.size else None


def rounded(value: Any) -> float:
    """A number as the JSON has it."""
    return round(float(value), 4)


def shares(selected: BoolArray) -> Measured:
    """How many objects there are, and the shares that any band, g, r and i select, from bool (n, band)."""
    by_band = {band: percent(selected[:, index]) for index, band in enumerate(BANDS)}
    return {"n": len(selected), "any": percent(selected.any(axis=1)), **by_band}


def between(values: npt.NDArray[Any], edges: Sequence[float]) -> Iterator[tuple[str, BoolArray]]:
    """Names and members of the bins between edges."""
    for low, high in itertools.pairwise(edges):
        yield f"{low:g} to {high:g}", (values > low) & (values <= high)


def nuclei(facts: Facts) -> Measured:
    """Quasars and type-I AGN by the percent of the light that their nuclei give, and by the dust before them."""
    light, ebv = 100 * facts.truth("nucleus_fraction"), facts.truth("nucleus_ebv")
    quasar, type1 = facts.kind == "quasar", facts.kind == "type1_agn"
    return {
        "type1_median": rounded(np.median(light[type1 & facts.sample])),
        "type1_by_light": {
            name: facts.rates(members & type1) for name, members in between(light, (0, 1, 2, 5, 10, 100))
        },
        "quasar_light": [rounded(light[quasar].min()), rounded(light[quasar].max())],
        "quasars_by_ebv": {
            name: facts.rates(members & quasar) for name, members in between(ebv, (-0.01, 0.2, 0.4, 0.6, 2.0))
        },
        "dr16q": facts.rates(facts.data.members("quasar")),
    }


def galaxies(facts: Facts) -> Measured:
    """Ordinary galaxies, type-II nuclei, and what is fainter than the training class."""
    normal = facts.kind == "normal"
    faint = facts.sample & (facts.mag > FAINT_MAG)
    training = facts.sample & (facts.data.sample_class == "training")
    chosen, end = facts.sample & facts.selected.any(axis=1), training_end(facts.data)
    return {
        "normal_in_mpa_jhu": facts.rates(normal & facts.is_mpa_jhu),
        "normal_others": facts.rates(normal & ~facts.is_mpa_jhu),
        "type2": facts.rates(facts.kind == "type2_agn"),
        "faint_mag": FAINT_MAG,
        "faint": facts.rates(faint),
        "young_percent": YOUNG_PERCENT,
        "young_faint": percent(facts.young[faint]),
        "young_faint_selected_in_i": percent(facts.young[faint & facts.selected[:, BANDS.index("i")]]),
        "young_training": percent(facts.young[training]),
        "candidates": int(chosen.sum()),
        "candidates_normal_and_fainter_than_training": (
            None if end is None else percent((normal & (facts.mag > end))[chosen])
        ),
    }


def overlaps(facts: Facts) -> Measured:
    """Who is selected in several bands."""
    found = {}
    for bands in PAIRS:
        both = facts.selected[:, [BANDS.index(band) for band in bands]].all(axis=1)
        normal = both & (facts.kind == "normal")
        found["&".join(bands)] = {
            "n": int(both.sum()),
            **{name: percent(np.isin(facts.kind[both], kinds)) for name, kinds in GROUPS.items()},
            "normal_median_mag": rounded(np.median(facts.mag[normal])) if normal.any() else None,
            "normal_young": percent(facts.young[normal]),
        }
    return found


def lines(facts: Facts) -> Measured:
    """Emission-line galaxies by redshift and by the widths in a band, and what 100 Angstrom add to a band."""
    xelg, redshift = facts.data.members("xelg") & facts.sample, facts.data.redshift
    by_redshift, by_width = {}, {}
    for name, members in between(redshift, (0.05, 0.1, 0.15, 0.2)):
        both = facts.selected[xelg & members][:, 1:].all(axis=1)
        by_redshift[name] = {**facts.rates(xelg & members), "r&i": percent(both)}
    for band in BANDS:
        width = facts.data.counterpart(f"ew_band_{band}")
        by_width[band] = {
            name: facts.rates(xelg & members) for name, members in between(width, (50, 100, 150, 250, 1000))
        }
    return {"by_redshift": by_redshift, "by_width": by_width, "added_by_100_angstrom": added_by_lines(100.0)}


def added_by_lines(width: float) -> dict[str, float]:
    """What lines of a width in Angstrom, at the peak of a simulated filter, add to a flat continuum; percent."""
    wavelength: DoubleArray = np.arange(3500.0, 11500.0)
    curves = {band: FILTERS[band].throughput(wavelength) for band in BANDS}
    return {band: rounded(100.0 * width * curve.max() / curve.sum()) for band, curve in curves.items()}


def extremes(facts: Facts) -> Measured:
    """Who lies above the threshold with a negative residual, and who of MPA-JHU above 3 sigma."""
    above = facts.sample[:, None] & (facts.data.score > facts.data.threshold[0])
    too_faint = facts.truth("r_zero_point_factor") < 1
    found: Measured = {"negative": {}, "most_anomalous": {}}
    for index, band in enumerate(BANDS):
        negative = above[:, index] & (facts.data.residual[:, index] <= 0)
        found["negative"][band] = {
            **facts.composition(negative),
            "too_faint_in_r": int((negative & too_faint).sum()),
        }
        top = facts.data.candidate("3sigma")[:, index] & facts.is_mpa_jhu
        found["most_anomalous"][band] = facts.composition(top)
    return found


def weight_sets(facts: Facts) -> Measured:
    """What every weight set makes of 5,000 objects: ranks of score and magnitude, selected, negative.

    Returns
    -------
    dict
        Smallest and largest value of all weight sets, and Spearman's rank, from set to set, of the rank of score and
        magnitude against the rate of the XELGs.
    """
    rate = {str(row["sha256"]): float(row["r_sel_xelg"]) for row in read_table(facts.data.files.models.table)}
    stage = next(
        stage for stage in Run(facts.data.files, facts.data.job, 1).stages() if isinstance(stage, EvaluateStage)
    )
    rows = np.flatnonzero(facts.sample)
    rows = np.sort(np.random.default_rng(0).choice(rows, min(N_OBJECTS, rows.size), replace=False))
    mag = facts.data.mag[rows][:, facts.data.selecting]
    rank, negative, chosen, xelgs = [], [], [], []
    for scoring in itertools.chain.from_iterable(task.passes for task in stage.plan()):
        for model, score, residual in zip(
            scoring.models, *scores_of_rows(facts.data.cutouts, scoring, rows), strict=True
        ):
            above = score > np.quantile(score, 0.95, axis=0)
            rank.append([spearman(score[:, index], mag[:, index]).rho for index in range(len(BANDS))])
            negative.append(100 * (above & (residual <= 0)).sum(axis=0) / above.sum(axis=0))
            chosen.append(100 * (above & (residual > 0)).any(axis=1).mean())
            xelgs.append(rate[model.sha256])
    ranks = np.asarray(rank)
    return {
        "n_weight_sets": len(rank),
        "n_objects": len(rows),
        "any": ends(chosen),
        "negative": {band: ends(np.asarray(negative)[:, index]) for index, band in enumerate(BANDS)},
        "spearman": {band: ends(ranks[:, index]) for index, band in enumerate(BANDS)},
        "spearman_against_xelg_rate": {
            band: rounded(spearman(ranks[:, index], np.asarray(xelgs)).rho) for index, band in enumerate(BANDS)
        },
    }


def ends(values: Any) -> list[float]:
    """The smallest and the largest."""
    return [rounded(np.min(values)), rounded(np.max(values))]


def more_quasars(facts: Facts, n_objects: int) -> Measured:
    """Quasars by what dust leaves of the excess of their nuclei in g over i, above their hosts."""
    likely = paper_plan(n_objects, seed=2, faulty_fraction=0.0)
    others: dict[str, Any] = {f"{kind}_fraction": 0.0 for kind in KINDS if kind not in ("normal", "quasar")}
    plan = replace(likely, cut_fraction=0.0, quasar_fraction=1.0, **others)
    selected, rows = _selected_of(facts, plan)
    bare = replace(plan, population=replace(plan.population, reddened_quasars=False))
    dusty, bare_objects = ([draw_objects(item, part)[0] for part in range(item.n_parts)] for item in (plan, bare))
    left = np.concatenate([_excess(one) / _excess(two) for one, two in zip(dusty, bare_objects, strict=True)])[rows]
    light = np.concatenate([item.nucleus_fraction for item in dusty])[rows]
    little = left <= LITTLE_EXCESS
    return {
        **shares(selected),
        "by_excess_left": {
            name: shares(selected[members]) for name, members in between(left, (-0.01, 0.05, 0.1, 0.2, 0.4, 1.0))
        },
        "little_excess_left": {
            **shares(selected[little]),
            "by_light": {
                name: shares(selected[members & little]) for name, members in between(100 * light, (40, 50, 60, 75))
            },
        },
    }


def _selected_of(facts: Facts, plan: SimulationPlan) -> tuple[BoolArray, IntArray]:
    """Who of another survey the run's weights and thresholds select, bool (n, band), and their rows in its plan."""
    with tempfile.TemporaryDirectory() as name:
        survey, cutouts = Path(name) / "survey", Path(name) / "cutouts.zarr"
        simulate(str(survey), plan)
        words = [survey / "cutouts", "--catalog", survey / "catalogue.fits", "--patch-qa", survey / "patch_qa.fits"]
        subprocess.run(swimmy("ingest", *words, "--output", cutouts), check=True, capture_output=True)
        store = Cutouts(cutouts)
        usable = store.read("quarantine_code", 0, store.n_objects) == 0
        score, residual = scores_of_rows(
            store, scoring_of(facts.data.files, facts.data.job, n_threads=1), np.flatnonzero(usable)
        )
        place = {number: at for at, number in enumerate(Table.read(survey / "truth.fits")["object_id"].tolist())}
        rows = [place[number] for number in store.read("object_id", 0, store.n_objects)[usable].tolist()]
    return (score[0] > facts.data.threshold[0]) & (residual[0] > 0), np.array(rows, np.int64)


def _excess(objects: Galaxies) -> DoubleArray:
    """Magnitudes by which g is above i in the nucleus, beyond the host."""
    contrast = objects.nucleus / (objects.disk + objects.bulge)
    return np.asarray(2.5 * np.log10(contrast[:, 0] / contrast[:, 2]))


def measure(facts: Facts, with_weight_sets: bool, n_quasars: int) -> Measured:
    """All of it; what was not asked for is None."""
    return {
        "study": "reasons",
        "job": facts.data.job.name,
        "model_sha256": str(facts.data.selection.scores.attrs.get("model_sha256")),
        "nuclei": nuclei(facts),
        "galaxies": galaxies(facts),
        "overlaps": overlaps(facts),
        "lines": lines(facts),
        **extremes(facts),
        "weight_sets": weight_sets(facts) if with_weight_sets else None,
        "more_quasars": more_quasars(facts, n_quasars) if n_quasars else None,
    }


def flat(value: Any, name: str = "") -> Iterator[str]:
    """One line a measurement: its names, and what it is."""
    if isinstance(value, Mapping) and any(isinstance(item, Mapping) for item in value.values()):
        for key, item in value.items():
            yield from flat(item, f"{name}, {key}" if name else key)
    elif isinstance(value, Mapping):
        yield f"{name}: " + ", ".join(f"{key} {item}" for key, item in value.items())
    else:
        yield f"{name}: {value}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--weight-sets", action="store_true")
    parser.add_argument("--quasars", type=int, default=0, metavar="N")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    content = measure(Facts(options.run, options.truth), options.weight_sets, options.quasars)
    for line in flat(content):
        print(line)
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
