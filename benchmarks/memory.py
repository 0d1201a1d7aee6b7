"""Peak memory of workers against the bounds that a run is checked with before it starts.

    python benchmarks/memory.py --json benchmarks/results/memory.json

Each stage runs by its command with one worker process on a small simulated survey; the peak is what the kernel says
(VmHWM). A bound that is exceeded is a defect; one that is far too large turns jobs away that would fit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from measure import report, row, run_measured, swimmy

N_OBJECTS = 4096
TRAINING_OBJECTS = 1024


def main() -> None:
    """Measure ingest, training and scoring; print and write."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.method.survey import HSC
    from swimmy_scale.stages.memory import (
        ingest_memory_bytes,
        numba_memory_bytes,
        score_memory_bytes,
        train_memory_bytes,
    )

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def line(what: str, bound_bytes: int, words: list[str], output: Path) -> None:
        found, drivers = [], []
        for _ in range(options.repeat):
            shutil.rmtree(output, ignore_errors=True)
            shutil.rmtree(output.with_name(f"{output.name}.receipts"), ignore_errors=True)
            measured = run_measured(words)
            # Small stages have no workers.
            found.append((measured.peak_bytes("worker") or measured.peak_bytes("driver")) / 2**20)
            drivers.append(measured.peak_bytes("driver") / 2**20)
        bound = bound_bytes / 2**20
        more = {"driver_mib": max(drivers)}
        rows.append(row(what, "MiB", found, target=bound, met=max(found) <= bound, used=max(found) / bound, **more))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        survey, cutouts, models = folder / "survey", folder / "cutouts.zarr", folder / "models"
        run_measured(swimmy("simulate", survey, "--n-objects", N_OBJECTS, "--seed", 1, "--faulty-fraction", 0))
        for partition in (512, 2048, 4096):
            settings = folder / "ingest.yaml"
            settings.write_text(f"storage: {{partition_objects: {partition}, chunk_objects: 256}}\n")
            words = swimmy("ingest", survey / "cutouts", "--catalog", survey / "catalogue.fits", "--patch-qa",
                           survey / "patch_qa.fits", "--output", cutouts, "--settings", settings,
                           "--workers", 1)  # fmt: skip
            line(f"ingest, partitions of {partition}", ingest_memory_bytes(HSC, partition), words, cutouts)
        settings = folder / "train.yaml"
        settings.write_text(
            "sample: {use_depth: false, flags: []}\n"
            f"train: {{classes: [], max_objects: {TRAINING_OBJECTS}, n_threads: 1, "
            "schedule: {epochs: 1, keep_from_epoch: 1, batch_size: 32}}\n"
        )
        words = swimmy("train", cutouts, "--output", models, "--settings", settings, "--workers", 1)
        bound = train_memory_bytes(HSC, Network(), TRAINING_OBJECTS, 32)
        line(f"training on {TRAINING_OBJECTS} objects", bound, words, models)
        for batch in (64, 256, 512):
            settings = folder / "score.yaml"
            settings.write_text(f"score: {{batch_size: {batch}}}\n")
            scores = folder / "scores.zarr"
            words = swimmy("score", cutouts, "--model", models / "selected.keras", "--output", scores, "--settings",
                           settings, "--workers", 1, "--scorer")  # fmt: skip
            line(
                f"scoring, batches of {batch}",
                score_memory_bytes(HSC, Network(), 1, batch, 256),
                [*words, "keras"],
                scores,
            )
        bound = numba_memory_bytes(HSC, Network(), 256, 256, len(os.sched_getaffinity(0)))
        line("scoring, scorer: numba", bound, [*words, "numba"], scores)
    shares = ", ".join(f"{line['what']} {line['used']:.0%}" for line in rows)
    notes = ["target: the bound that is checked before a run", f"used of it: {shares}"]
    report("memory", rows, options.json, notes, n_objects=N_OBJECTS, repeat=options.repeat)


if __name__ == "__main__":
    main()
