"""How the score stage scales: with workers, batch and chunk size, and its cost against the number of objects.

    python benchmarks/scaling.py --json benchmarks/results/scaling.json

Every point is the score stage as a user starts it, on a survey drawn from a bank (see ``bank.py``). The largest survey
of the last series needs 7 GB of disk; the full run (``full.py``) adds the point of 839,908 objects.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from bank import make_bank, make_survey
from measure import report, row, score

BATCHES = (32, 64, 256, 512)
CHUNKS = (64, 256, 1024)
PARTITION_OBJECTS = 1024
# Its stages always have workers; by numba surveys of these sizes are scored without (see `startup.py`).
KERAS = ("--scorer", "keras")


def line(series: str, x: int, what: str, scored: list[Any], **more: Any) -> dict[str, Any]:
    """One point of a series: a rate, or of the series ``objects`` the whole cost."""
    rates = [one.seconds if series == "objects" else one.objects_per_second for one in scored]
    driver = max(one.measured.peak_bytes("driver") for one in scored) / 2**20
    worker = max(one.measured.peak_bytes("worker") for one in scored) / 2**20
    return row(
        what,
        "s" if series == "objects" else "objects/s",
        rates,
        series=series,
        x=x,
        driver_mib=driver,
        worker_mib=worker,
        **more,
    )


def main() -> None:
    """Draw the surveys, score them, print and write."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.method.sections import StorageSection
    from swimmy_scale.model.autoencoder import build
    from swimmy_scale.model.files import save

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=12_288)
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the surveys lie meanwhile")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    n, cores, turns = options.n_objects, len(os.sched_getaffinity(0)), range(options.repeat)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_bank(folder / "bank", 512)
        model = folder / "model.keras"
        save(build(Network(), seed=1), model)

        def survey(n_objects: int, chunk_objects: int = 256, partition_objects: int = PARTITION_OBJECTS) -> Path:
            path = folder / f"{n_objects}-{chunk_objects}-{partition_objects}.zarr"
            if not path.exists():
                storage = StorageSection(partition_objects=partition_objects, chunk_objects=chunk_objects)
                make_survey(folder / "bank", path, n_objects, cores, storage)
            return path

        for workers in sorted({1, cores // 2 or 1, cores}):
            found = [score(survey(n), model, workers, more=KERAS) for _ in turns]
            rows.append(line("workers", workers, f"{workers} workers", found))
        for batch in BATCHES:
            found = [score(survey(n), model, cores, f"score: {{batch_size: {batch}}}\n", KERAS) for _ in turns]
            rows.append(line("batch", batch, f"batches of {batch} objects", found))
        for chunk in CHUNKS:
            found = [score(survey(n, chunk), model, cores, more=KERAS) for _ in turns]
            rows.append(line("chunk", chunk, f"chunks of {chunk} objects", found))
        number = options.largest
        sizes = []
        while number >= 10:
            sizes.append(number)
            number //= 10
        for number in reversed(sizes):
            found = [score(survey(number, partition_objects=2048), model, cores, more=KERAS) for _ in turns]
            seconds = [one.seconds for one in found]
            rows.append(line("objects", number, f"{number:,} objects", found, seconds=min(seconds)))
    notes = [
        f"cost of {one['x']:,} objects: {one['seconds']:.1f} s with the start of the program and its workers; "
        f"driver {one['driver_mib']:.0f} MiB"
        for one in rows
        if one["series"] == "objects"
    ]
    report("scaling", rows, options.json, notes, n_objects=n, repeat=options.repeat)


if __name__ == "__main__":
    main()
