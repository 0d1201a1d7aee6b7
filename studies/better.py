"""Other ways than the paper's to train, to score and to choose, at the same 5% a band, on simulated surveys.

    python studies/better.py better --json studies/results/better.json     # better/ is kept: run it again to resume
    python studies/better.py --page                                          # docs/better.md, from the results alone

One survey has the paper's shares of classes: it trains, and sets the thresholds. The other one is of rare classes
alone, drawn by the same laws, and says how many of them the thresholds select. Half of it lets the known classes choose
weights; all rates are those of the other half.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from better_page import ROOT, page
from better_runs import SURVEYS, TRAININGS, Sizes, Survey, look, make_surveys, scored, train
from machine import processor

from swimmy_scale.method.survey import BoolArray, DoubleArray

RARE = ("quasar", "xelg", "type1_agn", "type2_agn")
COMMON = ("sample", "training")
KNOWN = ("quasar", "xelg")
LEVELS = {"5%": 0.05, "0.3%": 0.003}
BANDS = ("g", "r", "i", "any")
GROUPS = (5, 10)
PACKAGES = ("keras", "numba", "numpy", "tensorflow")
CHOICE_SEED = 0


# ---------------------------------------------------------------- what a way selects

Scores = dict[str, npt.NDArray[np.float32]]


def rates(scores: Scores, rare: Sequence[BoolArray], common: Sequence[BoolArray] = ()) -> DoubleArray:
    """Shares that are selected: float64 (level, group, band), of groups of the rare survey and then of the common one.

    Bands are the selecting ones, then any of them. ``scores`` has score and residual (n, band) of both surveys; the
    thresholds are the common one's.
    """
    from swimmy_scale.method.candidates import candidates
    from swimmy_scale.method.thresholds import thresholds

    threshold = thresholds(scores["score-common"], LEVELS.values())
    found = []
    for name, groups in (("rare", rare), ("common", common)):
        score, residual = scores[f"score-{name}"], scores[f"residual-{name}"]
        in_sample = np.ones(len(score), np.bool_)
        flags = candidates(score, residual, threshold, in_sample, range(score.shape[1]))
        flags = np.concatenate([flags, flags.any(axis=2, keepdims=True)], axis=2)
        found += [flags[members].mean(axis=0) for members in groups]
    return np.stack(found, axis=1)


def combined(members: Sequence[Scores], rule: str) -> Scores:
    """One score of several, as ``select.combine`` makes it."""
    from swimmy_scale.method.ensemble import mean, mean_rank, ordered

    if len(members) == 1:
        return members[0]
    result: Scores = {}
    stacks = {key: np.stack([member[key] for member in members], axis=1) for key in members[0]}
    for name in SURVEYS:
        score = stacks[f"score-{name}"]
        ranked = rule == "rank"
        result[f"score-{name}"] = mean_rank(score, ordered(stacks["score-common"])) if ranked else mean(score)
        result[f"residual-{name}"] = mean(stacks[f"residual-{name}"])
    return result


def groups_of(n_seeds: int, n: int) -> list[list[int]]:
    """Groups of ``n`` trainings: those that follow each other in a circle, so that each training is in ``n`` groups.

    They overlap, so their spread is smaller than that of independent groups. All trainings are one group.
    """
    if n >= n_seeds:
        return [list(range(n))] if n == n_seeds else []
    return [[(first + k) % n_seeds for k in range(n)] for first in range(n_seeds)]


class Comparison:
    """All trainings of one way to train, by one kind of score, and what ways to choose and combine make of them.

    Parameters
    ----------
    trainings : sequence of dict
        Of `scored`.
    surveys : dict of str to Survey
    floor : float or None
        Of the noise-aware score; None for equation 6.
    """

    def __init__(self, trainings: Sequence[dict[str, npt.NDArray[Any]]], surveys: dict[str, Survey],
                 floor: float | None) -> None:  # fmt: skip
        self._trainings = [self._of_kind(found, surveys, floor) for found in trainings]
        self._losses = [found["val_loss"] for found in trainings]
        kind = surveys["rare"].kind
        half = np.random.default_rng(CHOICE_SEED).permutation(len(kind)) % 2 == 0
        self.chooses = {name: half & (kind == name) for name in KNOWN}
        self.reports = {name: ~half & (kind == name) for name in RARE}
        normal = surveys["common"].training
        self._common = [np.ones(len(normal), np.bool_), normal]
        self._known: dict[tuple[int, int], float] = {}

    @staticmethod
    def _of_kind(found: dict[str, npt.NDArray[Any]], surveys: dict[str, Survey], floor: float | None) -> Scores:
        from swimmy_scale.method.noise import noise_score

        if floor is None:
            return found
        changed = {
            f"score-{name}": noise_score(found[f"residual-{name}"], of.source_sum, of.noise, floor)
            for name, of in surveys.items()
        }
        return found | changed

    def _set(self, seed: int, epoch: int) -> Scores:
        return {key: values[:, epoch] for key, values in self._trainings[seed].items() if key != "val_loss"}

    def _by_known(self, seed: int, epoch: int) -> float:
        """Sum over the known classes of what the choosing half has selected of them in any band (appendix 1)."""
        key = seed, epoch
        if key not in self._known:
            self._known[key] = float(rates(self._set(*key), list(self.chooses.values()))[0, :, -1].sum())
        return self._known[key]

    def _order(self, seeds: Sequence[int], choose: str) -> list[tuple[int, int]]:
        """Weight sets of these trainings, best first."""
        sets = [(seed, epoch) for seed in seeds for epoch in range(len(self._losses[seed]))]
        if choose == "known classes":
            return sorted(sets, key=lambda item: (-self._by_known(*item), self._losses[item[0]][item[1]]))
        return sorted(sets, key=lambda item: self._losses[item[0]][item[1]])

    def of_group(self, seeds: Sequence[int], choose: str, rule: str) -> DoubleArray:
        """Rates of one group of trainings: of the best weight set by ``best``, else of one of each training."""
        if rule == "best":
            members = self._order(seeds, choose)[:1]
        elif rule == "best sets":
            members = self._order(seeds, choose)[: len(seeds)]
        else:
            members = [self._order([seed], choose)[0] for seed in seeds]
        scores = combined([self._set(*item) for item in members], rule)
        return rates(scores, list(self.reports.values()), self._common)

    def ways(self) -> Iterator[tuple[dict[str, Any], DoubleArray]]:
        """Every way to choose and combine, with the rates of each of its groups: (group, level, class, band)."""
        n_seeds = len(self._trainings)
        for n, choose, rule in [
            (1, "validation loss", "best"),
            (1, "known classes", "best"),
            *((n, choose, rule) for n in GROUPS for choose, rule in (
                ("validation loss", "best"), ("known classes", "best"), ("validation loss", "mean"),
                ("validation loss", "rank"), ("validation loss", "best sets"), ("known classes", "mean"),
            )),
        ]:  # fmt: skip
            groups = groups_of(n_seeds, n)
            if groups:
                found = np.stack([self.of_group(group, choose, rule) for group in groups])
                yield {"n_runs": n, "choose": choose, "combine": rule}, found


# ---------------------------------------------------------------- results


def compare(folder: Path, sizes: Sizes, floors: Sequence[float]) -> dict[str, Any]:
    """Rates of all ways, as JSON values."""
    surveys = {name: look(folder, name) for name in SURVEYS}
    ways, of_floors = [], []
    for training in TRAININGS:
        trainings = [scored(folder, training, seed, sizes) for seed in range(sizes.n_seeds)]
        for kind, floor in (("paper", None), ("noise", floors[0])):
            for way, values in Comparison(trainings, surveys, floor).ways():
                ways.append({"training": training, "score": kind, **way, "rates": _listed(values)})
        for floor in floors:
            comparison = Comparison(trainings, surveys, floor)
            values = np.stack(
                [comparison.of_group([seed], "validation loss", "best") for seed in range(len(trainings))]
            )
            of_floors.append({"training": training, "floor": floor, "rates": _listed(values)})
    reports = Comparison(trainings, surveys, None).reports
    counts = {
        "sample": len(surveys["common"].kind),
        "chooses_and_tests": {name: int((surveys["rare"].kind == name).sum()) for name in RARE},
        "tests": {name: int(members.sum()) for name, members in reports.items()},
        "in_common": {name: int((surveys["common"].kind == name).sum()) for name in RARE},
    }
    relative = surveys["common"].noise / surveys["common"].source_sum
    noise = dict(zip("gri", np.percentile(relative, [50, 95], axis=0).T.tolist(), strict=True))
    missed = {name: misses(folder, name, surveys["common"], sizes) for name in TRAININGS}
    return {"counts": counts, "ways": ways, "floors": of_floors, "noise_over_source": noise, "misses": missed}


def misses(folder: Path, training: str, common: Survey, sizes: Sizes) -> dict[str, float]:
    """How far reconstructions of normal galaxies miss the sum over the aperture: median of |R| / Q, by band."""
    normal = common.kind == "normal"
    found = []
    for seed in range(sizes.n_seeds):
        of = scored(folder, training, seed, sizes)
        residual = of["residual-common"][:, int(np.argmin(of["val_loss"]))].astype(np.float64)
        found.append(np.median(np.abs(residual / (common.source_sum - residual))[normal], axis=0))
    return dict(zip("gri", np.mean(found, axis=0).tolist(), strict=True))


def _listed(values: DoubleArray) -> dict[str, Any]:
    """Rates by level, class and band: one number a group of trainings."""
    return {
        level: {
            name: {
                band: [round(float(x), 4) for x in values[:, k, c, b]] for b, band in enumerate(["g", "r", "i", "any"])
            }
            for c, name in enumerate([*RARE, *COMMON])
        }
        for k, level in enumerate(LEVELS)
    }


def cost(folder: Path, sizes: Sizes, n_objects: int = 512, repeat: int = 5) -> dict[str, Any]:
    """Seconds an object of both scorers on one thread with the kind ``paper``, and of the expected noise."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.method.noise import source_and_noise
    from swimmy_scale.model.files import folded_weights
    from swimmy_scale.model.numba_scorer import NumbaScorer
    from swimmy_scale.storage.cutouts import Cutouts

    store = Cutouts(folder / "common.zarr")
    n = min(n_objects, store.n_objects)
    usable = store.read("quarantine_code", 0, n) == 0
    image, fwhm = store.images(0, n)[usable], store.read("fwhm_arcsec", 0, n)[usable]
    manifest = json.loads((folder / "clean" / "manifest.json").read_text())["files"]
    network = Network(encoder_filters=sizes.filters)
    weights = folded_weights(folder / "clean" / "selected.keras", network, manifest["selected.keras"])
    scorer = NumbaScorer([weights], network, store.survey)
    scorer.score_counts(image[:64], fwhm[:64])
    seconds: list[list[float]] = []
    for _ in range(repeat):
        row = []
        for work in (scorer.score_counts, partial(source_and_noise, survey=store.survey)):
            started = time.process_time()
            work(image, fwhm)
            row.append((time.process_time() - started) / len(image))
        seconds.append(row)
    score, noise = np.median(seconds, axis=0).tolist()
    return {"score_seconds": score, "noise_seconds": noise}


def print_ways(content: dict[str, Any]) -> None:
    """The rates in any band at the first level, as a table."""
    level = next(iter(LEVELS))
    for way in content["ways"]:
        name = " / ".join(str(way[key]) for key in ("training", "score", "n_runs", "choose", "combine"))
        cells = []
        for group in [*RARE, *COMMON]:
            values = np.array(way["rates"][level][group]["any"]) * 100
            spread = f"+-{values.std(ddof=1):4.1f}" if len(values) > 1 else "      "
            cells.append(f"{group} {values.mean():5.1f}{spread}")
        print(f"{name:<52} {'  '.join(cells)}")


def main() -> None:
    """Make, train, score, compare; print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--page", action="store_true", help="write docs/better.md from the results, and measure nothing"
    )
    for name, default in asdict(Sizes()).items():
        if name != "filters":
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    options = parser.parse_args()
    if options.page:
        (ROOT / "docs" / "better.md").write_text(page())
        return
    if options.folder is None:
        parser.error("give the folder that surveys and weights go to")
    sizes = Sizes(**{name: getattr(options, name) for name in asdict(Sizes()) if name != "filters"})
    measure(options.folder, sizes, options.json)


def measure(folder: Path, sizes: Sizes, path: Path | None) -> dict[str, Any]:
    """All of it; what is in ``folder`` is not done again."""
    from swimmy_scale.method.noise import FLOOR

    folder.mkdir(exist_ok=True)
    make_surveys(folder, sizes)
    train(folder, sizes)
    content = {
        "benchmark": "better",
        "n_cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "sizes": asdict(sizes),
        "seeds": [1, sizes.n_seeds],
        "levels": LEVELS,
        "floor": FLOOR,
        **compare(folder, sizes, (FLOOR, FLOOR / 4, FLOOR / 2, FLOOR * 2, FLOOR * 5)),
        "cost": cost(folder, sizes),
    }
    print_ways(content)
    if path is not None:
        path.write_text(json.dumps(content) + "\n")
    return content


if __name__ == "__main__":
    main()
