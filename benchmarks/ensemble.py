"""Scoring with several weight sets in one pass against scoring with one; prints a table and writes JSON.

    python benchmarks/ensemble.py --n-objects 2048 --repeat 9 --json benchmarks/results/ensemble.json

Both go from the same stored cutouts to scores: read, match the seeing, stretch, the paper's network, equation 6. Each
has a process of its own, and they take turns, pass by pass; machines drift, so the ratio counts.
"""

from __future__ import annotations

import argparse
import contextlib
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
from measure import report, row
from score_stage import prepare

MODELS = (1, 5)
TARGET = 4.5


def prepare_models(folder: Path) -> list[str]:
    """Networks of the paper's size with weights of their own; their digests."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.model.autoencoder import build
    from swimmy_scale.model.files import save

    return [save(build(Network(), seed=seed), folder / f"model-{seed}.keras") for seed in range(max(MODELS))]


def serve(folder: Path, n_models: int, sha256s: list[str]) -> None:
    """Score all of the store with so many models whenever a line comes in; prints the wall and the CPU seconds."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.model.scoring import Model, Scoring, score_rows
    from swimmy_scale.storage.cutouts import Cutouts

    models = tuple(Model(folder / f"model-{seed}.keras", sha256s[seed]) for seed in range(n_models))
    scoring = Scoring(models, Network(), 256, len(os.sched_getaffinity(0)), "keras")
    store = Cutouts(folder / "cutouts.zarr")
    usable = store.read("quarantine_code", 0, store.n_objects) == 0
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        found, _ = score_rows(store, scoring, 0, store.n_objects, usable)
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)
        if not np.isfinite(found[usable]).all():
            raise SystemExit("scores are not finite")


def measure(folder: Path, sha256s: list[str], repeat: int) -> dict[int, list[list[float]]]:
    """Wall and CPU seconds of every pass, by number of models."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for n_models in MODELS:
            command = [sys.executable, __file__, "--models", str(n_models), "--folder", str(folder), *sha256s]
            server: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            servers[n_models] = stack.enter_context(server)
        # The first pass loads and compiles the models, which a worker does once for all of its partitions.
        passes = [{n_models: one_pass(server) for n_models, server in servers.items()} for _ in range(1 + repeat)]
        for server in servers.values():
            server.stdin.close()
    return {n_models: [found[n_models] for found in passes[1:]] for n_models in MODELS}


def one_pass(server: Any) -> list[float]:
    """Let a process score once; the wall and CPU seconds that it took."""
    server.stdin.write("\n")
    server.stdin.flush()
    line = server.stdout.readline()
    if not line:
        raise SystemExit("a scoring process has ended; its message stands above")
    seconds: list[float] = json.loads(line)
    return seconds


def print_result(seconds: dict[int, list[list[float]]], options: argparse.Namespace) -> None:
    """Print the table and write the JSON file."""
    rows = []
    for at, kind in enumerate(("wall", "CPU")):
        one, many = ([found[at] for found in seconds[n_models]] for n_models in MODELS)
        # Passes that ran one after the other met the same state of the machine.
        ratios = [b / a for a, b in zip(one, many, strict=True)]
        cost = statistics.median(ratios)
        more = {"target": TARGET, "met": cost <= TARGET} if kind == "wall" else {}
        rows += [
            row(f"1 model, {kind} time", "s", one),
            row(f"{MODELS[1]} models in one pass, {kind} time", "s", many),
            row(f"{MODELS[1]} models over 1 model, neighbouring passes, {kind} time", "", ratios, ratio=cost, **more),
        ]
    notes = [
        "a value is one pass over all objects, after a first one that loads and compiles",
        "each number of models has a process of its own; the processes take turns",
        "CPU time is steadier on a shared machine",
    ]
    report("ensemble", rows, options.json, notes, n_objects=options.n_objects, repeat=options.repeat)


def main() -> None:
    """Prepare, time each way in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("sha256s", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.models is not None:
        serve(options.folder, options.models, options.sha256s)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.n_objects)
        print_result(measure(folder, prepare_models(folder), options.repeat), options)


if __name__ == "__main__":
    main()
