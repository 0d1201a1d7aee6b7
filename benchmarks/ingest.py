"""Ingest of cutout tars against a plain loop, side by side in one run; prints a table and writes JSON.

    python benchmarks/ingest.py --n-objects 8192 --repeat 3 --json benchmarks/results/ingest.json

Every way goes from tars of FITS files, five an object, to a Zarr store. Machines are shared and drift, so ratios count
and rates do not: each way is timed several times, in turn, in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import Held, answer_of, peak_memory_bytes, report, row

N_BANDS, SIZE_PX = 5, 64
BANK_OBJECTS, TAR_OBJECTS, PLAIN_OBJECTS = 512, 1000, 512
N_CORES = len(os.sched_getaffinity(0))
# A whole partition for each worker: memory that a process takes for the first time is slower than what it has had.
WARM_OBJECTS = 2048 * N_CORES
FASTER_BY, MEMORY_MIB = 5.0, 1024


def prepare(folder: Path, n_objects: int) -> None:
    """Tars as the archive delivers them, with the files of a bank of simulated galaxies again and again."""
    from astropy.io import fits
    from astropy.table import Table, vstack

    simulate = ["simulate", folder / "survey", "--n-objects", BANK_OBJECTS, "--seed", 1, "--faulty-fraction", 0]
    command = [sys.executable, "-m", "swimmy_scale", *(str(word) for word in simulate)]
    subprocess.run(command, capture_output=True, check=True)
    bank = cutout_files(folder / "survey" / "cutouts")
    for tars, count in (("tars", n_objects), ("warm", WARM_OBJECTS)):
        (folder / tars).mkdir()
        for lo in range(0, count, TAR_OBJECTS):
            with tarfile.open(folder / tars / f"arch-{lo:07d}.tar", "w") as tar:
                for row in range(lo, min(lo + TAR_OBJECTS, count)):
                    add_object(tar, row, bank[row % BANK_OBJECTS])
        catalogue = Table.read(folder / "survey" / "catalogue.fits")
        table = vstack([catalogue] * -(-count // BANK_OBJECTS), metadata_conflicts="silent")[:count]
        table["object_id"] = np.arange(count) + 1
        fits.table_to_hdu(table).writeto(folder / f"{tars}.fits")


def cutout_files(folder: Path) -> list[list[bytes]]:
    """The files of each object of a simulated survey, in the catalogue's order and that of the bands."""
    found: dict[tuple[int, int], bytes] = {}
    bands = {f"HSC-{band}": number for number, band in enumerate("GRIZY")}

    def take(name: str, data: bytes) -> None:
        # LINENO-cutout-HSC-G-TRACT-RERUN.fits in a tar, LINENO_TYPE_RA_DEC_TRACT_HSC-G.fits in a folder
        band = next(number for key, number in bands.items() if f"-{key}-" in name or f"_{key}.fits" in name)
        found[int(name.replace("_", "-").split("-")[0]), band] = data

    for path in sorted(folder.rglob("*")):
        if path.suffix in (".tar", ".gz"):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile():
                        take(Path(member.name).name, tar.extractfile(member).read())  # type: ignore[union-attr]
        elif path.suffix == ".fits":
            take(path.name, path.read_bytes())
    ordered = [found[key] for key in sorted(found)]
    return [ordered[at : at + N_BANDS] for at in range(0, len(ordered), N_BANDS)]


def add_object(tar: tarfile.TarFile, row: int, files: list[bytes]) -> None:
    """Add an object's files under the archive's names; line 2 is the catalogue's first row."""
    for band, data in zip("GRIZY", files, strict=True):
        info = tarfile.TarInfo(f"arch/{row + 2}-cutout-HSC-{band}-9000-pdr3_wide.fits")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def plain(folder: Path, n_objects: int) -> dict[str, float]:
    """One process, the way one writes it first."""
    import zarr
    from astropy.io import fits

    n_objects = min(n_objects, PLAIN_OBJECTS)
    with tempfile.TemporaryDirectory(dir=folder) as output:
        started, busy = time.perf_counter(), core_seconds()
        cube = np.empty((n_objects, N_BANDS, SIZE_PX, SIZE_PX), np.float32)
        with tarfile.open(sorted((folder / "tars").glob("*.tar"))[0]) as tar:
            for number in range(n_objects * N_BANDS):
                member = tar.next()
                with fits.open(io.BytesIO(tar.extractfile(member).read())) as hdulist:  # type: ignore[union-attr,arg-type]
                    cube[divmod(number, N_BANDS)] = hdulist[1].data[:SIZE_PX, :SIZE_PX]
        chunks = (256, *cube.shape[1:])
        zarr.create_array(Path(output, "cutouts.zarr"), shape=cube.shape, chunks=chunks, dtype=cube.dtype)[:] = cube
        seconds, busy = time.perf_counter() - started, core_seconds() - busy
        return {"rate": n_objects / seconds, "core_rate": n_objects / busy}


def stage_for(folder: Path, tars: str, output: Path) -> Any:
    """The ingest stage with the storage of a job that says nothing about it."""
    from swimmy_scale.method.sections import CatalogueSource, IngestSection, StorageSection
    from swimmy_scale.method.survey import HSC
    from swimmy_scale.stages.ingest import IngestStage
    from swimmy_scale.storage.receipts import Ledger

    catalogue = CatalogueSource(folder / f"{tars}.fits", {}, folder / "survey" / "patch_qa.fits", ())
    sources = IngestSection(sources=(folder / tars,))
    ledger = Ledger(output / "receipts", output, "ingest")
    return IngestStage(ledger, output / "cutouts.zarr", HSC, catalogue, sources, StorageSection())


def core_seconds() -> float:
    """Processor time so far of this process and of all below it that still run."""
    import psutil

    times = [process.cpu_times() for process in (psutil.Process(), *psutil.Process().children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def timed_stage(folder: Path, tars: str, pool: Any) -> float:
    """Seconds of one whole ingest, from the first look at the tars to the last receipt, by workers that are there."""
    from swimmy_scale.stages.engine import Silent, run_stage

    with tempfile.TemporaryDirectory(dir=folder) as output:
        started = time.perf_counter()
        run_stage(stage_for(folder, tars, Path(output)), pool, Silent())
        return time.perf_counter() - started


def workers(folder: Path, n_objects: int) -> dict[str, float]:
    """The ingest stage with a Dask worker a core; the workers are up and have done a partition each."""
    from swimmy_scale.cluster.local import local_workers

    with local_workers(N_CORES) as pool:
        held = Held(pool)
        timed_stage(folder, "warm", held)
        busy = core_seconds()
        seconds = timed_stage(folder, "tars", held)
        busy = core_seconds() - busy
        return {"rate": n_objects / seconds, "core_rate": n_objects / busy, "peak_mib": max(peaks_mib())}


def peaks_mib() -> Iterator[float]:
    """Largest resident memory so far of every process below this one."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(OSError):
            yield peak_memory_bytes(process.pid) / 2**20


def one_process(folder: Path, n_objects: int) -> dict[str, float]:
    """The ingest stage in this process alone, and what its time goes into."""
    from swimmy_scale.ingest.pixels import sources
    from swimmy_scale.stages import ingest, ingest_partition
    from swimmy_scale.stages.engine import SerialExecutor
    from swimmy_scale.storage import receipts, store

    timed_stage(folder, "warm", SerialExecutor())
    seconds: dict[str, float] = {}
    for module, name in (
        (ingest.IngestStage, "plan"),
        (ingest_partition, "_read_pixels"),
        (sources, "read_cutout"),
        (ingest_partition, "write_partition"),
        (store, "_reads_back"),
        (ingest_partition, "digest_columns"),
        (receipts, "digest_file"),
        (receipts, "sync_files"),
    ):
        count_seconds(module, name, seconds)
    busy = core_seconds()
    whole = timed_stage(folder, "tars", SerialExecutor())
    busy = core_seconds() - busy
    parts = {
        "catalogue, tar headers, names": seconds["plan"],
        "reading files and their SHA-256": seconds["_read_pixels"] - seconds["read_cutout"],
        "headers, pixels and their checks": seconds["read_cutout"],
        "compressing and writing": seconds["write_partition"] - seconds["_reads_back"],
        "reading back and comparing": seconds["_reads_back"],
        "SHA-256 of what was written": seconds["digest_columns"] + seconds["digest_file"],
        "fsync": seconds["sync_files"],
    }
    return {
        "rate": n_objects / whole,
        "core_rate": n_objects / busy,
        **{what: part / whole for what, part in parts.items()},
    }


def count_seconds(module: Any, name: str, seconds: dict[str, float]) -> None:
    """Have a function add the seconds that it takes to ``seconds``."""
    function = getattr(module, name)
    seconds[name] = 0.0

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] += time.perf_counter() - started

    setattr(module, name, timed)


def listing(folder: Path, n_objects: int) -> dict[str, float]:
    """The headers of all tars, which the driver reads before the first partition."""
    from swimmy_scale.ingest.pixels.sources import expand_sources, list_source
    from swimmy_scale.method.survey import HSC

    started = time.perf_counter()
    for path in expand_sources([folder / "tars"]):
        list_source(path, HSC)
    return {"rate": n_objects / (time.perf_counter() - started)}


WAYS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "plain: tarfile, astropy.io.fits, Zarr, one process": plain,
    "ingest, one process": one_process,
    f"ingest, {N_CORES} Dask workers": workers,
    "tar headers alone, one process": listing,
}


def main() -> None:
    """Prepare, time each way in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=8192)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        print(json.dumps(list(WAYS.values())[options.way](options.folder, options.n_objects)))
        return
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), options.n_objects)
        found: list[list[dict[str, float]]] = [[] for _ in WAYS]
        for _ in range(options.repeat):
            for way in range(len(WAYS)):
                # A process of its own: caches and memory of one way do not touch another.
                size = ["--n-objects", str(options.n_objects), "--folder", name]
                command = [sys.executable, __file__, "--way", str(way), *size]
                found[way].append(answer_of(command))
    print_result(found, options)


def print_result(found: list[list[dict[str, float]]], options: argparse.Namespace) -> None:
    """Print the table and write the JSON file."""
    rates = [[one["rate"] for one in ones] for ones in found]
    # Ways that were timed one after the other saw the same machine.
    ratios = [statistics.median(np.divide(rate, rates[0])) for rate in rates]
    rows = []
    for ways, (way, rate, ratio) in enumerate(zip(WAYS, rates, ratios, strict=True)):
        more = {"target": FASTER_BY, "met": bool(ratio >= FASTER_BY)} if WAYS[way] is workers else {}
        rows.append(row(way, "objects/s", rate, ratio=float(ratio) if ways else None, **more))
    # Neighbours on the machine take time from all ways, but not from what a way does with the time that it gets.
    core_rates = [[one["core_rate"] for one in ones] for ones in found[:3]]
    for ways, (way, rate) in enumerate(zip(WAYS, core_rates, strict=False)):
        ratio = statistics.median(np.divide(rate, core_rates[0]))
        rows.append(row(f"{way}: a busy core's second", "objects/core-s", rate, ratio=float(ratio) if ways else None))
    peaks = [one["peak_mib"] for one in found[2]]
    met = max(peaks) <= MEMORY_MIB
    rows.append(row("largest resident memory of a Dask worker", "MiB", peaks, target=MEMORY_MIB, met=met))
    parts = {what: statistics.median(one[what] for one in found[1]) for what in found[1][0] if "rate" not in what}
    shares = ", ".join(f"{what} {part:.0%}" for what, part in sorted(parts.items(), key=lambda item: -item[1]))
    busy = statistics.median(one["rate"] / one["core_rate"] for one in found[1])
    notes = [
        f"ratio is to the plain loop, which reads {PLAIN_OBJECTS} objects; ingest checks, digests and commits as well",
        f"where the time of one process goes: {shares}",
        f"what bounds it: one process keeps a core busy for {busy:.0%} of its time; the rest is waiting for the disk "
        "and for a core that others use",
    ]
    report("ingest", rows, options.json, notes, n_objects=options.n_objects, repeat=options.repeat)


if __name__ == "__main__":
    main()
