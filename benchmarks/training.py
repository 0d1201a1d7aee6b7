"""Training against ``model.fit`` of the same network: galaxies a second.

    python benchmarks/training.py --repeat 3 --json benchmarks/results/training.json
    python benchmarks/training.py --before ../older    # also a checkout of an older version, which has a .venv

All train the paper's network with its noise, in batches of 32, on the same galaxies, of which a fifth validates after
each epoch; the first epoch, in which TensorFlow builds its graph, does not count. The galaxies are random numbers: the
time does not depend on what they show. Ways are timed in turn, each in a process of its own. Equal numbers of threads
are compared by processor time, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import of_checkout, report, row

EPOCHS = 3  # those after the first are timed
VALIDATION = 0.2
NOTES = (
    "Galaxies trained on; that a quarter as many validate after each epoch is in the time.",
    "A core: in a second of processor time, of one training. Two cores: in a second, of all trainings that run.",
    "`model.fit` trains the same Keras model, noise included; ours also writes weights and optimiser state each epoch.",
)


def galaxies(n_objects: int) -> Any:
    """Cubes of random numbers in [0, 1], float32 (object, band, y, x)."""
    return np.random.default_rng(1).random((n_objects, 5, 64, 64), np.float32)


class Clock:
    """Wall and processor time at the end of each epoch."""

    def __init__(self) -> None:
        self._ends: list[tuple[float, float]] = []

    def __call__(self, *_: Any, **__: Any) -> None:
        """An epoch ends."""
        self._ends.append((time.perf_counter(), time.process_time()))

    def rates(self, n_objects: int) -> list[float]:
        """Galaxies trained on in a second, and in one of processor time, after the first epoch."""
        n_trained = round(n_objects * (1 - VALIDATION)) * (len(self._ends) - 1)
        return [n_trained / (last - first) for first, last in zip(self._ends[0], self._ends[-1], strict=True)]


def ours(n_objects: int, n_threads: int) -> list[float]:
    """`train` as a job calls it, with its checks, and the state on disk after each epoch."""
    try:
        networks = importlib.import_module("swimmy_scale.method.network")
        training = importlib.import_module("swimmy_scale.model.training")
    except ModuleNotFoundError:  # a version from before the modules were grouped
        networks = importlib.import_module("swimmy_scale.network")
        training = importlib.import_module("swimmy_scale.autoencoder")

    clock = Clock()
    schedule = networks.Schedule(epochs=EPOCHS, keep_from_epoch=EPOCHS, batch_size=32, validation_fraction=VALIDATION)
    with tempfile.TemporaryDirectory() as folder:
        training.train(galaxies(n_objects), networks.Network(), schedule, Path(folder), n_threads, on_epoch=clock)
    return clock.rates(n_objects)


def fit(n_objects: int, n_threads: int) -> list[float]:
    """``model.fit`` of the same network."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.model.autoencoder import build
    from swimmy_scale.model.devices import configure_threads, keras

    configure_threads(n_threads)
    source = np.ascontiguousarray(galaxies(n_objects).transpose(0, 2, 3, 1))
    model, clock = build(Network(), seed=0), Clock()
    model.compile("adam", "mse", jit_compile=False)  # with XLA it is slower on a CPU
    seen = keras.callbacks.LambdaCallback(on_epoch_end=clock)
    how = {"batch_size": 32, "epochs": EPOCHS, "validation_split": VALIDATION, "verbose": 0, "callbacks": [seen]}
    model.fit(source, source, **how)
    return clock.rates(n_objects)


def start(way: str, n_objects: int, n_threads: int, checkout: Path | None = None) -> subprocess.Popen[str]:
    """One training, in a process of this version or of the one in another checkout."""
    python, environment = sys.executable, dict(os.environ)
    if checkout is not None:
        python, environment = of_checkout(checkout)
    words = [python, __file__, "--way", way, "--n-objects", str(n_objects), "--threads", str(n_threads)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(*processes: subprocess.Popen[str]) -> tuple[float, float]:
    """Their galaxies a second together, and of one in a second of processor time."""
    found = []
    for process in processes:
        stdout, stderr = process.communicate()
        if process.returncode:
            raise SystemExit(stderr)
        found.append(json.loads(stdout.splitlines()[-1]))
    wall, processor = zip(*found, strict=True)
    return sum(wall), statistics.mean(processor)


OURS, OLDER = "training", "training, the older version"
FIT = "model.fit"
TWO = "2 trainings at once, 1 thread each"


def ways(n_objects: int, before: Path | None) -> dict[str, Callable[[], tuple[float, float]]]:
    """What is timed, by its name."""

    def one(way: str, n_threads: int, checkout: Path | None = None) -> Callable[[], tuple[float, float]]:
        return lambda: ended(start(way, n_objects, n_threads, checkout))

    found = {}
    for n_threads in (1, 2):
        threads = f"{n_threads} thread{'s' if n_threads > 1 else ''}"
        found[f"{FIT}, {threads}"] = one("fit", n_threads)
        found[f"{OURS}, {threads}"] = one("ours", n_threads)
        if before is not None:
            found[f"{OLDER}, {threads}"] = one("ours", n_threads, before)
    return found | {TWO: lambda: ended(start("ours", n_objects, 1), start("ours", n_objects, 1))}


def ratios(rates: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Turn by turn, as what the machine does besides hits neighbours alike."""
    pairs = [
        (f"{OURS}, 1 thread", f"{FIT}, 1 thread", 1.3),
        (f"{OURS}, 2 threads", f"{FIT}, 2 threads", 1.3),
        (TWO, f"{OURS}, 2 threads", None),  # by wall time, which other work on the machine changes
        (f"{OURS}, 1 thread", f"{OLDER}, 1 thread", None),
        (f"{OURS}, 2 threads", f"{OLDER}, 2 threads", None),
    ]
    lines = []
    for one, other, target in pairs:
        if other not in rates:
            continue
        clock = int(one != TWO)
        values = [mine[clock] / theirs[clock] for mine, theirs in zip(rates[one], rates[other], strict=True)]
        middle = statistics.median(values)
        goal = {} if target is None else {"target": target, "met": middle >= target}
        lines.append(row(f"{one}, against {other}", "", values, ratio=middle, **goal))
    return lines


def main() -> None:
    """Time each way in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=800)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--before", type=Path, help="A checkout of an older version, with its .venv.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", choices=["ours", "fit"], help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        print(json.dumps((ours if options.way == "ours" else fit)(options.n_objects, options.threads)))
        return
    timed = ways(options.n_objects, options.before)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in timed}
    for _ in range(options.repeat):
        for name, found in rates.items():
            found.append(timed[name]())
    rows = [row(f"{name}: a core", "galaxies/s", [core for _, core in found]) for name, found in rates.items()]
    both = {name: found for name, found in rates.items() if "1 thread" not in name or name == TWO}
    rows += [row(f"{name}: two cores", "galaxies/s", [wall for wall, _ in found]) for name, found in both.items()]
    facts = {"n_objects": options.n_objects, "repeat": options.repeat}
    report("training", [*rows, *ratios(rates)], options.json, NOTES, **facts)


if __name__ == "__main__":
    main()
