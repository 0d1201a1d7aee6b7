"""Looks that it takes to find what is interesting: by score, at random, and by learning from marks.

    python studies/learn.py learn --weights demo/run     # learn/ is kept: run it again to resume
    python studies/learn.py --page                       # docs/learn.md, from the results alone

Each survey is scored by the weights of a run on another one, as a second field would be. The person is the truth table:
emission-line galaxies and quasars are interesting, all else is marked as artefact. Marks begin with the ten strongest
by score; after every ten marks `rank` learns anew.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, IntArray

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "studies/results/learn.json", ROOT / "docs/learn.md"
INTERESTING = ("xelg", "quasar")
GOALS = (0.5, 0.8, 0.9)
SEEDS = tuple(range(101, 111))
N_OBJECTS, STEP, FIRST_LOOKS = 8000, 10, 100
WAYS = ("score", "random", "rank", "rank by scores and residuals", "least possible")
SCOPES = {"candidates": "the candidates", "sample": "the whole sample"}
TARGETS = {"all": "both", "xelg": "emission-line galaxies", "quasar": "quasars"}


# ---------------------------------------------------------------- looking


def learnt_order(values: FloatArray, by_score: IntArray, wanted: Sequence[BoolArray]) -> list[int]:
    """Rows in the order of a person who begins by score and lets `rank` learn after every ``STEP`` marks.

    Parameters
    ----------
    values : ndarray of float32, shape (n, k)
        As `rank` takes them.
    by_score : ndarray of int64, shape (m,)
        The rows to look at, strongest first.
    wanted : sequence of ndarray of bool, shape (n,)
        What the person finds interesting, then parts of it; it ends once the last goal of each is reached.
    """
    from swimmy_scale.results.learning.learner import rank

    left = np.zeros(len(values), np.bool_)
    left[by_score] = True
    seen: list[int] = by_score[:STEP].tolist()
    goals = [math.ceil(GOALS[-1] * mask[by_score].sum()) for mask in wanted]
    while any(mask[seen].sum() < goal for mask, goal in zip(wanted, goals, strict=True)) or len(seen) < FIRST_LOOKS:
        left[seen] = False
        rows = np.array(seen, np.int64)
        more = rank(values, rows, wanted[0][rows], left).order[:STEP].tolist()
        if not more:
            break
        seen += more
    return seen


def looks(order: Sequence[int] | IntArray, wanted: BoolArray, n_wanted: int) -> list[int | None]:
    """Looks until each of ``GOALS`` of the wanted rows are found; None where they are not."""
    found = np.cumsum(wanted[np.asarray(order, np.int64)])
    places = [int(np.searchsorted(found, math.ceil(goal * n_wanted))) + 1 for goal in GOALS]
    return [place if place <= len(found) else None for place in places]


def at_random(n: int, n_wanted: int) -> list[float]:
    """The expected looks in random order: k (n + 1) / (n_wanted + 1) until the k-th."""
    return [math.ceil(goal * n_wanted) * (n + 1) / (n_wanted + 1) for goal in GOALS]


def measure(kind: Sequence[str], by_score: IntArray, features: dict[str, FloatArray]) -> dict[str, Any]:
    """Looks of every way to every target; ``kind`` (n,) is the truth, ``features`` the values by the way's name."""
    names = np.array(kind)
    targets = {"all": np.isin(names, INTERESTING), **{name: names == name for name in INTERESTING}}
    n_wanted = {name: int(mask[by_score].sum()) for name, mask in targets.items()}
    orders: dict[str, Sequence[int] | IntArray] = {"score": by_score}
    for way, values in features.items():
        orders[way] = learnt_order(values, by_score, list(targets.values()))
    artefact = np.char.startswith(names, "artefact")
    ways: dict[str, Any] = {
        way: {
            **{name: looks(order, mask, n_wanted[name]) for name, mask in targets.items()},
            "artefacts": int(artefact[np.asarray(order, np.int64)[:FIRST_LOOKS]].sum()),
        }
        for way, order in orders.items()
    }
    n = len(by_score)
    ways["random"] = {name: at_random(n, n_wanted[name]) for name in targets}
    ways["random"]["artefacts"] = float(artefact[by_score].sum()) * min(FIRST_LOOKS, n) / n
    ways["least possible"] = {name: [math.ceil(goal * n_wanted[name]) for goal in GOALS] for name in targets}
    ways["least possible"]["artefacts"] = 0
    return {"n": n, "n_wanted": n_wanted, "ways": ways}


# ---------------------------------------------------------------- surveys


def scored(folder: Path, weights: Path, seed: int, n_objects: int) -> tuple[Path, Path]:
    """A simulated survey and its run, made if they are not there."""
    import yaml

    import swimmy_scale
    from swimmy_scale.simulate import SimulationPlan, simulate

    survey, run = folder / f"s{seed}-{n_objects}", folder / f"run-{seed}-{n_objects}"
    if not (survey / "truth.fits").is_file():
        simulate(str(survey), SimulationPlan(n_objects=n_objects, seed=seed))
    job = {
        "name": f"learn-{seed}",
        "catalogue": {"path": str(survey / "catalogue.fits"), "patch_qa": str(survey / "patch_qa.fits")},
        "ingest": {"sources": [str(survey / "cutouts")]},
        "model": {"run": str(weights)},
        "score": {"descriptors": True},
    }
    path = folder / f"job-{seed}-{n_objects}.yaml"
    path.write_text(yaml.safe_dump(job))
    swimmy_scale.run(path, run, n_workers=0)
    return survey, run


def measured(run: Path, truth: Path) -> dict[str, Any]:
    """What `measure` says of a run, for each of ``SCOPES``."""
    from astropy.table import Table

    from swimmy_scale.method.descriptor import features, standardise
    from swimmy_scale.storage.descriptors import read_features
    from swimmy_scale.storage.selection import Selection, strangest

    selection = Selection(run / "selection.zarr")
    table = Table.read(truth)
    kinds = dict(zip(table["object_id"].tolist(), table["kind"].tolist(), strict=True))
    kind = [str(kinds[one]) for one in selection.read("object_id").tolist()]
    known = read_features(selection)
    score, residual = selection.read("score"), selection.read("residual")
    plain = features(score, residual, None)
    standardise(plain, known.in_sample)
    ways = {"rank": known.values, "rank by scores and residuals": plain}
    orders = {
        "candidates": strangest(selection, selection.n_objects),
        "sample": _by_strength(selection.read("threshold")[0], score, residual, known.in_sample),
    }
    return {name: measure(kind, order, ways) for name, order in orders.items()}


def _by_strength(threshold: DoubleArray, score: FloatArray, residual: FloatArray, in_sample: BoolArray) -> IntArray:
    """Rows of the sample, those first that reach the largest share of a threshold of g, r or i, if brighter there."""
    share = np.where(residual > 0, score / threshold, 0.0)[:, :3].max(axis=1)
    rows = np.flatnonzero(in_sample)
    return rows[np.argsort(-share[rows], kind="stable")]


# ---------------------------------------------------------------- the page


def page(content: dict[str, Any]) -> str:
    """The page, of the results alone."""
    surveys, step = content["surveys"], content["step"]
    lines = [
        "# How many looks",
        "",
        "Made by `python studies/learn.py --page` from `studies/results/learn.json`; all of it is simulated.",
        "",
        f"{len(surveys)} surveys of {content['n_objects']:,} objects, scored by the weights of a run on another.",
        "The person is the truth table: emission-line galaxies and quasars are interesting, all else becomes",
        f"an artefact. Marks begin with the {step} strongest by score; after every {step} more, `rank` learns",
        "([learn from marks](looking.md#learn-from-marks)). Numbers are means and standard deviations of the surveys.",
        "",
    ]
    for scope, words in SCOPES.items():
        parts = [survey[scope] for survey in surveys]
        lines += [f"## Where {words} {'are' if scope == 'candidates' else 'is'} looked at", ""]
        there = ", ".join(f"{_mean([p['n_wanted'][name] for p in parts])} {TARGETS[name]}" for name in INTERESTING)
        lines += [f"{_mean([p['n'] for p in parts])} objects, among them {there}. Looks until so many are found:", ""]
        head = [f"{goal:.0%} of {said}" for said in TARGETS.values() for goal in GOALS]
        lines += [f"| order | {' | '.join(head)} | artefacts in the first {FIRST_LOOKS} |"]
        lines += ["|---" * (len(head) + 2) + "|"]
        for way in WAYS:
            cells = [_mean([p["ways"][way][name][k] for p in parts]) for name in TARGETS for k in range(len(GOALS))]
            lines.append(f"| {way} | {' | '.join(cells)} | {_mean([p['ways'][way]['artefacts'] for p in parts])} |")
        ratio = {
            (one, other): np.mean([p["ways"][one]["all"][2] / p["ways"][other]["all"][2] for p in parts])
            for one, other in (("rank", "least possible"), ("rank", "score"), ("least possible", "score"))
        }
        lines += [
            "",
            f"To 90% of both, `rank` takes {ratio['rank', 'least possible']:.2f} times the least possible looks, and "
            f"{ratio['rank', 'score']:.2f} times those by score; the least possible is "
            f"{ratio['least possible', 'score']:.2f} times those by score.",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def main() -> None:
    """Measure, or make the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--weights", type=Path, default=ROOT / "demo/run", help="a run, whose weights score")
    parser.add_argument("--n-objects", type=int, default=N_OBJECTS, help="of each survey")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="make docs/learn.md of the results")
    options = parser.parse_args()
    if options.folder is not None:
        folder = options.folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        make = partial(scored, folder, options.weights.absolute(), n_objects=options.n_objects)
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")) as pool:
            made = list(pool.map(make, SEEDS))
        surveys = [
            {"seed": seed, **measured(run, survey / "truth.fits")}
            for seed, (survey, run) in zip(SEEDS, made, strict=True)
        ]
        content = {"n_objects": options.n_objects, "step": STEP, "surveys": surveys}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.page:
        PAGE.write_text(page(json.loads(options.json.read_text())))


if __name__ == "__main__":
    main()
