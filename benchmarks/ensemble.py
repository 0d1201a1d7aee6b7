"""Scoring with several weight sets in one pass against scoring with one; prints a table and writes JSON.

    python benchmarks/ensemble.py --n-objects 2048 --repeat 3 --json benchmarks/ensemble.json

Both go from the same stored cutouts to scores in one process: read, match the seeing, stretch, the paper's network,
equation 6. Each runs in a process of its own, in turn; machines drift, so the ratio counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from score_stage import prepare

MODELS = (1, 5)
PASSES = 2
TARGET = 4.5


def prepare_models(folder: Path) -> list[str]:
    """Networks of the paper's size with weights of their own; their digests."""
    from swimmy_scale.autoencoder import build, save
    from swimmy_scale.network import Network

    return [save(build(Network(), seed=seed), folder / f"model-{seed}.keras") for seed in range(max(MODELS))]


def score(folder: Path, n_models: int, sha256s: list[str]) -> float:
    """Score all of the store with so many models; seconds, the least of a few passes after a first one."""
    from swimmy_scale.cutouts import Cutouts
    from swimmy_scale.network import Network
    from swimmy_scale.stages.scoring import Model, Scoring, score_rows

    models = tuple(Model(folder / f"model-{seed}.keras", sha256s[seed]) for seed in range(n_models))
    scoring = Scoring(models, Network(), 256, len(os.sched_getaffinity(0)))
    store = Cutouts(folder / "cutouts.zarr")
    usable = store.read("quarantine_code", 0, store.n_objects) == 0
    seconds = []
    for _ in range(1 + PASSES):
        started = time.perf_counter()
        found, _ = score_rows(store, scoring, 0, store.n_objects, usable)
        seconds.append(time.perf_counter() - started)
    if not np.isfinite(found[usable]).all():
        raise SystemExit("scores are not finite")
    # The first pass loads and compiles the models, which a worker does once for all of its partitions.
    return min(seconds[1:])


def measure(folder: Path, sha256s: list[str], repeat: int) -> dict[int, list[float]]:
    """Seconds of every process, by number of models."""
    seconds: dict[int, list[float]] = {n_models: [] for n_models in MODELS}
    for _ in range(repeat):
        for n_models in MODELS:
            command = [sys.executable, __file__, "--models", str(n_models), "--folder", str(folder), *sha256s]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds[n_models].append(float(done.stdout.splitlines()[-1]))
    return seconds


def row(what: str, unit: str, values: list[float], ratio: float | None = None, target: float | None = None) -> Any:
    """One line of the result."""
    return {
        "what": what,
        "unit": unit,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "ratio": ratio,
        "target": target,
        "met": None if ratio is None or target is None else ratio <= target,
    }


def report(seconds: dict[int, list[float]], options: argparse.Namespace) -> None:
    """Print the table and write the JSON file."""
    one, many = (seconds[n_models] for n_models in MODELS)
    # Processes that ran one after the other met the same state of the machine.
    ratios = [b / a for a, b in zip(one, many, strict=True)]
    cost = statistics.median(ratios)
    rows = [
        row("score_rows with 1 model", "s", one),
        row(f"score_rows with {MODELS[1]} models in one pass", "s", many, cost, TARGET),
        row("ratio of neighbouring processes", "1", ratios, cost, TARGET),
        row("1 model", "objects/s", [options.n_objects / value for value in one]),
        row(f"{MODELS[1]} models", "objects/s", [options.n_objects / value for value in many]),
    ]
    for item in rows:
        ratio = "" if item["ratio"] is None else f"{item['ratio']:.2f} times one model, at most {TARGET}"
        print(
            f"{item['median']:10.3f} ({item['min']:.3f} - {item['max']:.3f}) {item['unit']:<10} {item['what']}  {ratio}"
        )
    if options.json:
        content = {
            "benchmark": "ensemble",
            "n_cores": len(os.sched_getaffinity(0)),
            "n_objects": options.n_objects,
            "repeat": options.repeat,
            "rows": rows,
            "notes": [
                f"each value is the least of {PASSES} passes over all objects in a process of its own, after a pass "
                "that loads and compiles",
                "ratio is the median over pairs of neighbouring processes",
            ],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Prepare, time each way in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("sha256s", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.models is not None:
        print(score(options.folder, options.models, options.sha256s))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.n_objects)
        report(measure(folder, prepare_models(folder), options.repeat), options)


if __name__ == "__main__":
    main()
