"""The measurements behind the reasons that docs/fidelity.md gives: who is selected in a run of a simulated survey.

    python benchmarks/reasons.py fidelity/run fidelity/survey/truth.fits

Prints one line a measurement; `paper_numbers.py` says them in words. With ``--weight-sets`` all weight
sets score 5,000 objects of the sample, which takes minutes; with ``--quasars`` the run's weights score so many more
quasars, drawn by the same laws.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from measure import swimmy

from swimmy_scale.method.survey import BoolArray
from swimmy_scale.model.scoring import scoring_of
from swimmy_scale.results.paper.fidelity import correlation_rows, training_end
from swimmy_scale.results.paper.run_data import RunData
from swimmy_scale.results.paper.statistics import spearman
from swimmy_scale.simulate import KINDS, SimulationPlan, paper_plan, simulate
from swimmy_scale.simulate.galaxies import Galaxies, draw_objects
from swimmy_scale.stages.evaluate import EvaluateStage, scores_of_rows
from swimmy_scale.stages.run import Run
from swimmy_scale.storage.cutouts import Cutouts

ACTIVE, ARTEFACTS = ("quasar", "type1_agn"), ("artefact_zero_point", "artefact_saturated")
BANDS = ("g", "r", "i")
PAIRS = (("g", "r"), ("r", "i"), ("g", "i"), BANDS)
# Fainter than any galaxy of the training class, and bluer than nearly all of it.
FAINT_MAG, YOUNG = 18.4, 0.8
N_OBJECTS = 5000


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
        self.any_band = self.selected.any(axis=1)
        self.mag = self.data.reference_mag

    def truth(self, name: str) -> npt.NDArray[Any]:
        """A column of the truth for every object of the run."""
        return np.asarray(self._truth[name])

    @functools.cached_property
    def is_mpa_jhu(self) -> BoolArray:
        """Who is in MPA-JHU."""
        known: BoolArray = self.data.counterpart("is_mpa_jhu").astype(np.bool_)
        return known

    def rates(self, members: BoolArray) -> str:
        """Shares of the members in the sample that any band, g, r and i select."""
        chosen = members & self.sample
        return shares(self.selected[chosen])

    def composition(self, members: BoolArray) -> str:
        """What the members were simulated as."""
        kinds, counts = np.unique(self.kind[members], return_counts=True)
        parts = [f"{kind} {count}" for kind, count in zip(kinds, counts, strict=True)]
        return f"{int(members.sum())}: " + ", ".join(parts)


def percent(members: BoolArray) -> str:
    """Share of those that are true; ``-`` of nobody."""
    return f"{100 * members.mean():.1f}%" if members.size else "-"


def median(values: npt.NDArray[Any]) -> str:
    """Median to two digits; ``-`` of nothing."""
    return f"{np.median(values):.2f}" if values.size else "-"


def shares(selected: BoolArray) -> str:
    """How many objects there are, and the shares that any band, g, r and i select, from bool (n, band)."""
    by_band = [f"{band} {percent(selected[:, index])}" for index, band in enumerate(BANDS)]
    return f"{len(selected)}: any band {percent(selected.any(axis=1))}, {', '.join(by_band)}"


def between(values: npt.NDArray[Any], edges: Sequence[float]) -> Iterator[tuple[str, BoolArray]]:
    """Names and members of the bins between edges."""
    for low, high in itertools.pairwise(edges):
        yield f"{low:g} to {high:g}", (values > low) & (values <= high)


def nuclei(facts: Facts) -> Iterator[str]:
    """Quasars and type-I AGN by what their nuclei give, and by the dust before them."""
    share, ebv = facts.truth("nucleus_fraction"), facts.truth("nucleus_ebv")
    quasar, type1 = facts.kind == "quasar", facts.kind == "type1_agn"
    for label, members in between(share, (0.0, 0.01, 0.02, 0.05, 0.1, 1.0)):
        yield f"type-I, nucleus {label}: {facts.rates(members & type1)}"
    yield f"median nucleus of type-I: {median(100 * share[type1 & facts.sample])}%"
    for label, members in between(ebv, (-0.01, 0.2, 0.4, 0.6, 2.0)):
        yield f"quasars, E(B-V) {label}: {facts.rates(members & quasar)}"
    yield f"E(B-V) of quasars: median {median(ebv[quasar])}, largest {ebv[quasar].max(initial=0.0):.2f}"
    yield f"DR16Q quasars: {facts.rates(facts.data.members('quasar'))}"


def galaxies(facts: Facts) -> Iterator[str]:
    """Ordinary galaxies and type-II nuclei."""
    normal = facts.kind == "normal"
    yield f"normal in MPA-JHU: {facts.rates(normal & facts.is_mpa_jhu)}"
    yield f"normal, others: {facts.rates(normal & ~facts.is_mpa_jhu)}"
    yield f"type-II: {facts.rates(facts.kind == 'type2_agn')}"
    young = facts.truth("young_fraction") >= YOUNG
    faint = facts.sample & (facts.mag > FAINT_MAG)
    in_i = faint & facts.selected[:, BANDS.index("i")]
    yield f"i > {FAINT_MAG}: {facts.rates(faint)}"
    yield f"young: of i > {FAINT_MAG} {percent(young[faint])}, of these selected in i {percent(young[in_i])}"
    training = facts.sample & (facts.data.sample_class == "training")
    yield f"young of the training class: {percent(young[training])}"
    some, end = facts.sample & facts.any_band, training_end(facts.data)
    if end is not None:
        far = normal & (facts.mag > end)
        yield f"candidates: {some.sum()}, of them normal and fainter than the training class {percent(far[some])}"


def overlaps(facts: Facts) -> Iterator[str]:
    """Who is selected in several bands."""
    young = facts.truth("young_fraction") >= YOUNG
    for bands in PAIRS:
        both = facts.selected[:, [BANDS.index(band) for band in bands]].all(axis=1)
        normal = both & (facts.kind == "normal")
        groups = {"normal": ["normal"], "active": ACTIVE, "xelg": ["xelg"], "artefacts": ARTEFACTS}
        shares = [f"{name} {percent(np.isin(facts.kind[both], kinds))}" for name, kinds in groups.items()]
        yield f"{'&'.join(bands)}: {both.sum()}, {', '.join(shares)}"
        yield f"{'&'.join(bands)}, normal ones: median i {median(facts.mag[normal])}, young {percent(young[normal])}"


def lines(facts: Facts) -> Iterator[str]:
    """Emission-line galaxies by redshift and by the widths in a band."""
    xelg, redshift = facts.data.members("xelg") & facts.sample, facts.data.redshift
    for label, members in between(redshift, (0.05, 0.1, 0.15, 0.2)):
        both = facts.selected[xelg & members][:, 1:].all(axis=1)
        yield f"XELGs, z {label}: {facts.rates(xelg & members)}; r&i {percent(both)}"
    for index, band in enumerate(BANDS):
        width = facts.data.counterpart(f"ew_band_{band}")
        for label, members in between(width, (50.0, 100.0, 150.0, 250.0, 1000.0)):
            chosen = xelg & members
            rate = percent(facts.selected[chosen, index])
            yield f"XELGs, EW_{band} {label}: {chosen.sum()}, selected in {band} {rate}"


def extremes(facts: Facts) -> Iterator[str]:
    """Who lies above the threshold with a negative residual, and who of MPA-JHU above 3 sigma."""
    above = facts.sample[:, None] & (facts.data.score > facts.data.threshold[0])
    wrong_r = facts.truth("r_zero_point_factor")
    for index, band in enumerate(BANDS):
        negative = above[:, index] & (facts.data.residual[:, index] <= 0)
        too_faint = int((negative & (wrong_r < 1)).sum())
        yield f"{band}, negative: {facts.composition(negative)}; too faint in r {too_faint}"
        top = facts.data.candidate("3sigma")[:, index] & facts.is_mpa_jhu
        yield f"{band}, MPA-JHU above 3 sigma: {facts.composition(top)}"


def magnitudes(facts: Facts) -> Iterator[str]:
    """Ranks of score and magnitude."""
    for name, *ranks in correlation_rows(facts.data):
        yield f"Spearman, {name}: {', '.join(f'{band} {rank}' for band, rank in zip(BANDS, ranks, strict=True))}"


def weight_sets(facts: Facts) -> Iterator[str]:
    """What every weight set makes of 5,000 objects: ranks of score and magnitude, selected, negative."""
    table = Table.read(facts.data.files.models.table)
    rate = {str(row["sha256"]): float(row["r_sel_xelg"]) for row in table}
    quasar = np.asarray(table["r_sel_quasar"])
    low, high = min(rate.values()), max(rate.values())
    yield f"weight sets: {len(table)}, quasars {quasar.min():.3f} to {quasar.max():.3f}, XELGs {low:.3f} to {high:.3f}"
    stage = next(
        stage for stage in Run(facts.data.files, facts.data.job, 1).stages() if isinstance(stage, EvaluateStage)
    )
    rows = np.flatnonzero(facts.sample)
    rows = np.sort(np.random.default_rng(0).choice(rows, min(N_OBJECTS, rows.size), replace=False))
    mag = facts.data.mag[rows][:, facts.data.selecting]
    found: dict[str, list[Any]] = {name: [] for name in ("rank", "negative", "any")}
    xelgs = []
    for scoring in itertools.chain.from_iterable(task.passes for task in stage.plan()):
        for model, score, residual in zip(
            scoring.models, *scores_of_rows(facts.data.cutouts, scoring, rows), strict=True
        ):
            above = score > np.quantile(score, 0.95, axis=0)
            found["rank"].append([spearman(score[:, index], mag[:, index]).rho for index in range(len(BANDS))])
            found["negative"].append((above & (residual <= 0)).sum(axis=0) / above.sum(axis=0))
            found["any"].append([(above & (residual > 0)).any(axis=1).mean()])
            xelgs.append(rate[model.sha256])
    for name, values in found.items():
        ends = zip(np.min(values, axis=0), np.max(values, axis=0), strict=True)
        yield f"{name}: " + ", ".join(f"{low:.3f} to {high:.3f}" for low, high in ends)
    for index, band in enumerate(BANDS):
        rank = spearman(np.asarray(found["rank"])[:, index], np.asarray(xelgs)).rho
        yield f"from set to set, the rank in {band} against the XELGs' rate: {rank:.2f}"


def more_quasars(facts: Facts, n_objects: int) -> Iterator[str]:
    """Quasars by what dust leaves of the excess of their nuclei in g over i, above their hosts."""
    likely = paper_plan(n_objects, seed=2, faulty_fraction=0.0)
    others: dict[str, Any] = {f"{kind}_fraction": 0.0 for kind in KINDS if kind not in ("normal", "quasar")}
    plan = replace(likely, cut_fraction=0.0, quasar_fraction=1.0, **others)
    selected, rows = _selected_of(facts, plan)
    bare = replace(plan, population=replace(plan.population, reddened_quasars=False))
    dusty, bare_objects = ([draw_objects(item, part)[0] for part in range(item.n_parts)] for item in (plan, bare))
    left = np.concatenate([_excess(one) / _excess(two) for one, two in zip(dusty, bare_objects, strict=True)])[rows]
    share = np.concatenate([item.nucleus_fraction for item in dusty])[rows]
    yield f"more quasars, {shares(selected)}"
    for label, members in between(left, (-0.01, 0.05, 0.1, 0.2, 0.4, 1.0)):
        yield f"more quasars, excess left {label}: {shares(selected[members])}"
    for label, members in between(share, (0.4, 0.5, 0.6, 0.75)):
        yield f"more quasars, excess left to 0.2, nucleus {label}: {shares(selected[members & (left <= 0.2)])}"


def _selected_of(facts: Facts, plan: SimulationPlan) -> tuple[BoolArray, npt.NDArray[np.int64]]:
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


def _excess(objects: Galaxies) -> npt.NDArray[np.float64]:
    """Magnitudes by which g is above i in the nucleus, beyond the host."""
    contrast = objects.nucleus / (objects.disk + objects.bulge)
    return np.asarray(2.5 * np.log10(contrast[:, 0] / contrast[:, 2]))


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--weight-sets", action="store_true")
    parser.add_argument("--quasars", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    facts = Facts(arguments.run, arguments.truth)
    for measure in (nuclei, galaxies, overlaps, lines, extremes, magnitudes):
        for line in measure(facts):
            print(line)
    if arguments.weight_sets:
        for line in weight_sets(facts):
            print(line)
    if arguments.quasars:
        for line in more_quasars(facts, arguments.quasars):
            print(line)


if __name__ == "__main__":
    main()
