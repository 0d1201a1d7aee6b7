"""The score stage on a GPU, from a store in the page cache: speed, what waits for what, agreement with a CPU.

    python benchmarks/gpu.py --json benchmarks/results/gpu.json
    KERAS_BACKEND=jax python benchmarks/gpu.py            # the same by JAX
    python benchmarks/gpu.py --allow-cpu --n-objects 2048 --partition-objects 1024 --batch-size 256    # a smoke test

Without a GPU it says so and exits with status 2. --allow-cpu runs the GPU's code on the CPU: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

BANK_OBJECTS = 512
CHUNK_OBJECTS = 256
NOISE_COUNTS = 0.03
"""Of the fresh noise that makes each cutout another one; standard deviation of a pixel."""
TARGET = 50_000.0
PEERS_UPPER_BOUND = 5_400.0
LEVELS = {"5%": 0.05, "0.3%": 0.003}


# --- data ------------------------------------------------------------------------------------------------------------


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """A small bank of simulated galaxies, many cutouts made from it, and a network trained on it for a moment."""
    from swimmy_scale.method.network import Network, Schedule
    from swimmy_scale.method.preprocess import preprocess
    from swimmy_scale.model.training import train
    from swimmy_scale.storage.creation import create
    from swimmy_scale.storage.cutouts import Cutouts, cutouts_layout

    swimmy = [sys.executable, "-m", "swimmy_scale"]
    survey = folder / "survey"
    (folder / "bank.yaml").write_text(f"storage: {{partition_objects: {BANK_OBJECTS}, chunk_objects: 256}}\n")
    call([*swimmy, "simulate", survey, "--n-objects", BANK_OBJECTS, "--seed", 1, "--faulty-fraction", 0])
    call([*swimmy, "ingest", survey / "cutouts", "--catalog", survey / "catalogue.fits", "--patch-qa",
          survey / "patch_qa.fits", "--settings", folder / "bank.yaml", "--output", folder / "bank.zarr"])  # fmt: skip
    bank = Cutouts(folder / "bank.zarr")
    notes = {"simulated": True, "available_columns": bank.attrs["available_columns"]}
    sizes = options.n_objects, bank.survey, bank.kept, options.partition_objects, CHUNK_OBJECTS
    layout = cutouts_layout(*sizes, notes)
    create(folder / "cutouts.zarr", layout)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(
            pool.map(write, [folder] * layout.n_partitions, [layout] * layout.n_partitions, range(layout.n_partitions))
        )
    source = preprocess(bank.images(0, BANK_OBJECTS), bank.read("fwhm_arcsec", 0, BANK_OBJECTS), bank.survey)
    schedule = Schedule(epochs=2, keep_from_epoch=2, seed=1)
    done = train(source, Network(), schedule, folder / "models", len(os.sched_getaffinity(0)))
    kept = done.epochs[-1]
    (folder / "model.json").write_text(json.dumps([str(done.directory / kept.file), kept.sha256]))


def write(folder: Path, layout: Any, partition: int) -> None:
    """One partition of ``cutouts.zarr`` with its receipt: the bank's objects again and again, with fresh noise."""
    from swimmy_scale.storage.cutouts import Cutouts
    from swimmy_scale.storage.receipts import Receipt, task_name
    from swimmy_scale.storage.run_directory import ledger_beside
    from swimmy_scale.storage.store import digest_columns, write_partition

    bank, rows = Cutouts(folder / "bank.zarr"), layout.rows(partition)
    which = np.arange(rows.start, rows.stop) % BANK_OBJECTS
    values = {variable.name: bank.read(variable.name, 0, BANK_OBJECTS)[which] for variable in layout.variables}
    rng = np.random.default_rng([1, partition])
    for lo in range(0, len(rows), CHUNK_OBJECTS):
        block = values["image"][lo : lo + CHUNK_OBJECTS]
        block += np.float32(NOISE_COUNTS) * rng.standard_normal(block.shape, np.float32)
    values["object_id"] = np.arange(rows.start, rows.stop) + 1
    write_partition(folder / "cutouts.zarr", layout, partition, values)
    ledger = ledger_beside(folder / "cutouts.zarr", "ingest")
    digest = digest_columns({"object_id": values["object_id"]})  # enough to tell partitions apart here
    ledger.commit(Receipt("ingest", task_name(partition), digest, n_objects=len(rows), data_digest=digest))


def call(command: list[Any]) -> None:
    """Run a command; status 3 says that objects are in quarantine."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command}\n{done.stderr}")


# --- measured, each in a process of its own --------------------------------------------------------------------------


def device() -> str | None:
    """Name of the GPU that Keras's backend sees."""
    from swimmy_scale.model.devices import has_gpu, keras

    if not has_gpu():
        return None
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpu = tf.config.list_physical_devices("GPU")[0]
        name = tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
    elif backend == "jax":
        import jax

        name = jax.devices()[0].device_kind
    else:
        import torch

        name = torch.cuda.get_device_name()
    return f"{name} ({backend})"


class Watched:
    """A scorer that takes down for how long its callers wait for pixels and for results, in seconds of all threads."""

    def __init__(self, scorer: Any) -> None:
        self.batch_size, self.fused, self.score_counts = scorer.batch_size, scorer.fused, scorer.score_counts
        self._scorer, self._lock = scorer, threading.Lock()
        self.seconds = {"pixels": 0.0, "results": 0.0}

    def score_blocks(self, blocks: Iterator[Any]) -> Iterator[Any]:
        """As the scorer's own."""
        spent = dict.fromkeys(self.seconds, 0.0)
        yield from timed(spent, "results", self._scorer.score_blocks(timed(spent, "pixels", iter(blocks))))
        with self._lock:
            for what, seconds in spent.items():
                self.seconds[what] += seconds


def timed(spent: dict[str, float], what: str, items: Iterator[Any]) -> Iterator[Any]:
    """The items; what the caller waits for them is added to ``spent``. Pixels are waited for inside of results."""
    while True:
        before, started = spent["pixels"], time.perf_counter()
        item = next(items, None)
        nested = spent["pixels"] - before if what == "results" else 0.0
        spent[what] += time.perf_counter() - started - nested
        if item is None:
            return
        yield item


def stage(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The score stage in this process, ``repeat`` times: rates, and shares of its tasks' time."""
    import swimmy_scale.model.keras_scorer
    from swimmy_scale.method.network import Network
    from swimmy_scale.model import scoring
    from swimmy_scale.stages.engine import SerialExecutor, Silent, run_stage
    from swimmy_scale.stages.score import ScoreStage
    from swimmy_scale.storage.cutouts import Cutouts
    from swimmy_scale.storage.run_directory import ledger_beside
    from swimmy_scale.storage.scores import Scores

    if options.allow_cpu:
        swimmy_scale.model.keras_scorer.has_gpu = lambda: True  # type: ignore[attr-defined]
    path, sha256 = json.loads((folder / "model.json").read_text())
    n_threads = len(os.sched_getaffinity(0))
    how = scoring.Scoring((scoring.Model(Path(path), sha256),), Network(), options.batch_size, n_threads, "keras")
    store = Cutouts(folder / "cutouts.zarr")
    scorer = Watched(scoring.scorer_for(how, store.survey))
    scoring.scorer_for = lambda *_: scorer  # type: ignore[assignment]
    # Compiled before the clock starts: once a worker's life, not once a survey's worth of seconds.
    scorer.score_counts(store.images(0, 1), store.read("fwhm_arcsec", 0, 1))
    rates, shares = [], []
    for repeat in range(options.repeat):
        scorer.seconds = dict.fromkeys(scorer.seconds, 0.0)
        output = folder / f"scores-{repeat}.zarr"
        work = ScoreStage(ledger_beside(output, "score"), store.path, output, how)
        started = time.perf_counter()
        run_stage(work, SerialExecutor(), Silent())
        seconds = time.perf_counter() - started
        rates.append(store.n_objects / seconds)
        shares.append({what: spent / seconds for what, spent in scorer.seconds.items()})
    np.save(folder / "device.npy", Scores(output).read("score", 0, options.n_compared))
    return {"rates": rates, "shares": shares, "batch_size": scorer.batch_size}


def on_cpu(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Scores of the first objects by NumPy and TensorFlow on the CPU, against those of the device."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.method.thresholds import thresholds
    from swimmy_scale.model.devices import configure_threads
    from swimmy_scale.model.files import load
    from swimmy_scale.model.keras_scorer import Scorer
    from swimmy_scale.storage.cutouts import Cutouts

    configure_threads(len(os.sched_getaffinity(0)))
    path, sha256 = json.loads((folder / "model.json").read_text())
    store = Cutouts(folder / "cutouts.zarr")
    scorer = Scorer([load(Path(path), Network(), sha256)], Network(), store.survey, fused=False)
    n_compared = min(options.n_compared, store.n_objects)
    bounds = [(lo, min(lo + CHUNK_OBJECTS, n_compared)) for lo in range(0, n_compared, CHUNK_OBJECTS)]
    blocks = ((store.images(*rows), store.read("fwhm_arcsec", *rows), rows) for rows in bounds)
    want = np.concatenate([arrays[0][:, 0] for _, *arrays in scorer.score_blocks(blocks)])
    got = np.load(folder / "device.npy").reshape(want.shape)
    if not np.isfinite([got, want]).all():
        raise SystemExit("a score is not finite")
    differ = {}
    for name, fraction in LEVELS.items():
        chosen = [score > thresholds(score, [fraction])[0] for score in (got, want)]
        differ[name] = int((chosen[0] != chosen[1]).any(axis=1).sum())
    return {"relative": float((np.abs(got - want) / want).max()), "differ": differ, "n_compared": n_compared}


STEPS = {"prepare": prepare, "stage": stage, "cpu": on_cpu}


def step(name: str, options: argparse.Namespace, folder: Path) -> Any:
    """What a step returns, from a process of its own."""
    environment = dict(os.environ)
    if name in ("prepare", "cpu"):
        environment |= {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, __file__, *sys.argv[1:], "--step", name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"step {name} failed with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


# --- result ----------------------------------------------------------------------------------------------------------


def row(what: str, unit: str, values: list[float], target: float | None = None, least: bool = True) -> dict[str, Any]:
    """One line of the result; ``least`` says whether the target is a lower bound."""
    median = statistics.median(values)
    met = None if target is None else bool(median >= target if least else median <= target)
    ratio = None if not target else median / target
    return {"what": what, "unit": unit, "median": median, "min": min(values), "max": max(values), "ratio": ratio,
            "target": target, "met": met}  # fmt: skip


def result(name: str | None, run: dict[str, Any], cpu: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The whole result, as it is written."""
    shares = {what: [share[what] for share in run["shares"]] for what in ("pixels", "results")}
    rest = [1.0 - pixels - results for pixels, results in zip(*shares.values(), strict=True)]
    rows = [
        row("score stage, end to end", "objects/s", run["rates"], TARGET),
        row("score stage, against the peer's upper bound", "objects/s", run["rates"], PEERS_UPPER_BOUND),
        row("share of a task's time waiting for pixels", "1", shares["pixels"]),
        row("share of a task's time for copies to the device and waiting for its results", "1", shares["results"]),
        row("share of a task's time for all else (columns, writing, receipts)", "1", rest),
        row("largest relative difference of a score to the CPU's", "1", [cpu["relative"]], 1e-4, least=False),
        *(
            row(f"objects whose {level} selection differs from the CPU's", "objects", [float(count)])
            for level, count in cpu["differ"].items()
        ),
    ]
    notes = [
        f"{len(os.sched_getaffinity(0))} cores, partitions of {options.partition_objects} objects, "
        f"batches of {run['batch_size']}, {options.repeat} runs; "
        "the compilation is not in the time.",
        f"Scores compared with NumPy and TensorFlow on the CPU for {cpu['n_compared']} objects.",
    ]
    if name is None:
        notes.append("Computed on a CPU: a test of the program, not a measurement of a GPU.")
        for line in rows:
            line["met"] = None
    return {"benchmark": "gpu", "device": name, "n_objects": options.n_objects, "rows": rows, "notes": notes}


def main() -> None:
    """Prepare, measure, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=262_144, help="82 kB each, on disk and in the page cache")
    parser.add_argument("--partition-objects", type=int, default=16_384)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--n-compared", type=int, default=8192, help="objects that are scored on the CPU as well")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--allow-cpu", action="store_true", help="run the GPU's code on a CPU where there is no GPU")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--directory", type=Path, help="where the data go for the time of the run")
    parser.add_argument("--step", choices=["device", *STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "device":
        print(json.dumps(device()))
        return
    if options.step:
        print(json.dumps(STEPS[options.step](options.folder, options)))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        name = step("device", options, Path(folder))
        if name is None and not options.allow_cpu:
            print("no GPU: Keras's backend sees none, so there is nothing to measure (docs/gpu.md)", file=sys.stderr)
            raise SystemExit(2)
        step("prepare", options, Path(folder))
        run = step("stage", options, Path(folder))
        found = result(name, run, step("cpu", options, Path(folder)), options)
    for line in found["rows"]:
        target = "" if line["target"] is None else f"  target {line['target']:,g}"
        numbers = f"{line['median']:12,.5g} ({line['min']:,.5g} - {line['max']:,.5g})"
        print(f"{numbers:<44} {line['unit']:<10} {line['what']}{target}")
    print("\n".join(found["notes"]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
