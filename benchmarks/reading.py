"""Zarr's ways to read our shards: its default, the one that decodes where it is called, and ``zarrs``, if installed.

    python benchmarks/reading.py --json benchmarks/results/reading.json

Each way reads the same store (partitions of 2,048 objects, chunks of 256) in a process of its own, in turn with the
others. Speed is objects a second of processor time, of all threads together, with the disk's cache warm: the ways are
also asked how they treat damage, for which a faster one would be no bargain. ``pip install zarrs`` adds it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from measure import answer_of, peak_memory_bytes, report, row

PARTITION_OBJECTS, CHUNK_OBJECTS = 2048, 256  # the job's defaults
LAST_OBJECTS = 700  # of a partition that is not full
READERS = 8  # of a process that scores on a GPU
FLIPS, SINGLES, CALLS = 300, 4, 3
ZARR = f"zarr {importlib.metadata.version('zarr')}"
WAYS = {
    "default": (f"{ZARR}, its default", "zarr.core.codec_pipeline.BatchedCodecPipeline"),
    "fused": (f"{ZARR}, decoding where it is called", "zarr.core.codec_pipeline.FusedCodecPipeline"),
}
BARE = "checksum and codec alone, without Zarr"


def ways() -> dict[str, tuple[str, str]]:
    """Names and pipelines of what is installed."""
    try:
        return WAYS | {"zarrs": (f"zarrs {importlib.metadata.version('zarrs')}", "zarrs.ZarrsCodecPipeline")}
    except importlib.metadata.PackageNotFoundError:
        return WAYS


def spent(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor in all threads, that a call takes: the least of some calls."""
    found = []
    for _ in range(CALLS):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - clock, time.process_time() - processor))
    return min(one[0] for one in found), min(one[1] for one in found)


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """Call with each item and keep nothing, so that memory is used again as in scoring."""
    for item in items:
        work(item)


def make(folder: Path) -> None:
    """The store that is read: one full partition and one that is not, of galaxies with the survey's noise."""
    from bank import make_bank, make_survey

    make_bank(folder / "bank", 256)
    make_survey(folder / "bank", folder / "cutouts.zarr", PARTITION_OBJECTS + LAST_OBJECTS, 0)


def blocks(lo: int, hi: int) -> list[tuple[int, int]]:
    """Rows from ``lo`` to ``hi``, a chunk at a time, as scoring asks for them."""
    return [(first, min(first + CHUNK_OBJECTS, hi)) for first in range(lo, hi, CHUNK_OBJECTS)]


def measure(folder: Path, way: str, n_threads: int, damage: bool) -> dict[str, Any]:
    """All that is measured of one way, in a process that does nothing else."""
    zarr.config.set({"codec_pipeline.path": ways()[way][1], "threading.max_workers": n_threads})
    array: Any = zarr.open_array(str(folder / "cutouts.zarr" / "image"), mode="r")
    picked = np.random.default_rng(0).integers(0, PARTITION_OBJECTS, SINGLES).tolist()
    parts = blocks(0, PARTITION_OBJECTS)

    def read_part(part: tuple[int, int]) -> None:
        array[part[0] : part[1]]

    at_first = peak_memory_bytes()
    array[: parts[0][1]]  # so that memory and threads are there
    found: dict[str, Any] = {"block": spent(lambda: each(read_part, parts))}
    found["peak_bytes"] = peak_memory_bytes() - at_first
    found["n_threads"] = len([*Path("/proc/self/task").iterdir()])
    with ThreadPoolExecutor(READERS) as pool:
        each(Future.result, [pool.submit(read_part, part) for part in parts])  # starts the threads
        found["readers"] = spent(lambda: each(Future.result, [pool.submit(read_part, part) for part in parts]))
    found["one"] = spent(lambda: each(read_part, [(k, k + 1) for k in picked]))
    found["digest"] = hashlib.sha256(np.ascontiguousarray(array[:])).hexdigest()
    image = array[:PARTITION_OBJECTS]
    path = folder / f"written-{way}.zarr"
    written: Any = zarr.create_array(
        str(path), shape=array.shape, dtype="float32", chunks=array.chunks, shards=array.shards, fill_value=np.nan,
        compressors=array.compressors, overwrite=True,
    ).with_config({"write_empty_chunks": True})  # fmt: skip
    found["write"] = spent(lambda: written.__setitem__(slice(PARTITION_OBJECTS), image))
    found["same_file"] = shard(path, 0).read_bytes() == shard(folder / "cutouts.zarr" / "image", 0).read_bytes()
    written[PARTITION_OBJECTS:] = array[PARTITION_OBJECTS:]
    found["same_last_file"] = shard(path, 1).read_bytes() == shard(folder / "cutouts.zarr" / "image", 1).read_bytes()
    return found | (of_damage(path, parts) if damage else {})


def shard(path: Path, partition: int) -> Path:
    """The file of a partition's pixels."""
    return path / "c" / str(partition) / "0" / "0" / "0"


def of_damage(path: Path, parts: list[tuple[int, int]]) -> dict[str, Any]:
    """How many of the flipped bits are found, by readers of blocks and of single objects; and what absence gives."""
    plain = zarr.open_array(str(path), mode="r")
    strict = plain.with_config({"read_missing_chunks": False})
    file, rng = shard(path, 0), np.random.default_rng(1)
    content = file.read_bytes()
    index = 16 * len(parts) + 4
    ends = np.frombuffer(content[-index:-4], "<u8").reshape(-1, 2).sum(axis=1)
    # Half of the bits lie anywhere in the chunks; half in their checksums, in the index and in its checksum.
    sums = [int(end) - 1 - k for end in ends for k in range(4)]
    anywhere = rng.integers(0, len(content) - index, FLIPS // 2)
    elsewhere = rng.choice([*sums, *range(len(content) - index, len(content))], FLIPS - FLIPS // 2)
    found = {"flips_block": 0, "flips_one": 0}
    for place in [*anywhere.tolist(), *elsewhere.tolist()]:
        put(file, place, content[place] ^ 1 << int(rng.integers(8)))
        # Damage of the index may be of any chunk: all are read.
        chunk = int(np.searchsorted(ends, place, side="right"))
        asked = parts if chunk == len(parts) else [parts[chunk]]
        found["flips_block"] += any(bool(fails(plain, lo, hi)) for lo, hi in asked)
        found["flips_one"] += any(
            bool(fails(plain, k, k + 1)) for lo, hi in asked for k in (lo, (lo + hi) // 2, hi - 1)
        )
        put(file, place, content[place])
    failure = fails(strict, *parts[0])
    file.unlink()
    absence = not failure and bool(fails(strict, *parts[0]))
    return found | {"reads_strictly": not failure, "strictly": failure, "absence_raises": absence}


def put(file: Path, place: int, byte: int) -> None:
    """Change one byte of a file."""
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(bytes([byte]))


def fails(array: Any, lo: int, hi: int) -> str:
    """How reading some rows fails; empty where it does not."""
    try:
        array[lo:hi]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def bare(folder: Path) -> dict[str, Any]:
    """What no way through Zarr can beat: read a chunk's bytes, compare the checksum, decode into a new array."""
    import google_crc32c
    from numcodecs.blosc import decompress  # type: ignore[import-untyped]

    file = shard(folder / "cutouts.zarr" / "image", 0)
    n_chunks = PARTITION_OBJECTS // CHUNK_OBJECTS
    with file.open("rb") as stream:
        stream.seek(-16 * n_chunks - 4, os.SEEK_END)
        index = np.frombuffer(stream.read(16 * n_chunks), "<u8").reshape(-1, 2).tolist()

        def read(place: Sequence[int]) -> None:
            offset, length = place
            stream.seek(offset)
            data = stream.read(length)
            if google_crc32c.value(data[:-4]) != int.from_bytes(data[-4:], "little"):
                raise SystemExit("a chunk is damaged")
            decompress(data[:-4], np.empty((CHUNK_OBJECTS, 5, 64, 64), np.float32))

        read(index[0])
        return {"block": spent(lambda: each(read, index))}


def in_a_process(folder: Path, way: str, n_threads: int, damage: bool) -> dict[str, Any]:
    """`measure` or `bare`, with one thread for Blosc."""
    command = [sys.executable, __file__, "--measure", str(folder), "--way", way, "--threads", str(n_threads)]
    command += ["--damage"] if damage else []
    return answer_of(command, BLOSC_NTHREADS="1")  # type: ignore[no-any-return]


def rows_of(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The table: every way under each heading, compared with the default."""
    named = {way: name for way, (name, _) in ways().items()}
    rows = []
    speeds = (
        ("a partition block by block, one reader", "block", 1, PARTITION_OBJECTS),
        (f"the same with {READERS} readers", "readers", 1, PARTITION_OBJECTS),
        ("writing a partition", "write", 1, PARTITION_OBJECTS),
    )
    for what, key, clock, n in speeds:
        rates = {way: [n / one[key][clock] for one in found[way]] for way in found if key in found[way][0]}
        for way, rate in rates.items():
            ratio = statistics.median(rate) / statistics.median(rates["default"])
            rows.append(row(f"{what}: {named.get(way, BARE)}", "objects/CPU s", rate, ratio=ratio))
        if key == "readers":
            for way in named:
                clocks = [n / one[key][0] for one in found[way]]
                rows.append(row(f"on the clock, {READERS} readers: {named[way]}", "objects/s", clocks))
    found_of = "found by reading"
    values: dict[tuple[str, str], Callable[[dict[str, Any]], float]] = {
        ("one object", "CPU ms"): lambda one: 1e3 * float(one["one"][1]) / SINGLES,
        ("memory beyond the start, one reader", "MiB"): lambda one: float(one["peak_bytes"]) / 2**20,
        ("threads of the process, one reader", "threads"): lambda one: float(one["n_threads"]),
        (f"of {FLIPS} flipped bits, {found_of} blocks", "bits"): lambda one: float(one["flips_block"]),
        (f"of {FLIPS} flipped bits, {found_of} single objects", "bits"): lambda one: float(one["flips_one"]),
    }
    for (what, unit), value in values.items():
        for way, name in named.items():
            some = found[way][:1] if unit == "bits" else found[way]
            rows.append(row(f"{what}: {name}", unit, [value(one) for one in some]))
    return rows


def notes_of(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What has no number: the same values and files as the program's, and what becomes of a file that is not there."""
    notes = ["Processor time of all threads, with the files in the system's cache. Ratios are to Zarr's default."]
    for way, (name, _) in ways().items():
        one = found[way][0]
        if any(other[key] != one[key] for other in found[way] for key in ("digest", "same_file", "same_last_file")):
            raise SystemExit(f"{name} did not give the same answers each time")
        values = "the same values" if one["digest"] == found["default"][0]["digest"] else "OTHER VALUES"
        files = " and ".join(
            f"{'the same' if one[key] else 'another'} {what}"
            for key, what in (("same_file", "full file"), ("same_last_file", "last file"))
        )
        absence = "a missing file raises" if one["absence_raises"] else "A MISSING FILE DOES NOT RAISE"
        if not one["reads_strictly"]:
            absence = f"with missing chunks forbidden it cannot read at all ({one['strictly']})"
        notes.append(f"{name}: {values}; it writes {files} as the program; {absence}.")
    return notes


def main() -> None:
    """Make the store, measure in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="threads that zarrs may use")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--damage", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        with warnings.catch_warnings(action="ignore"):
            if options.way == "bare":
                one = bare(options.measure)
            else:
                one = measure(options.measure, options.way, options.threads, options.damage)
        print(json.dumps(one))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in [*ways(), "bare"]}
        for turn in range(options.repeat):
            for way, results in found.items():
                results.append(in_a_process(folder, way, options.threads, damage=turn == 0))
    report("reading", rows_of(found), options.json, notes_of(found), repeat=options.repeat)


if __name__ == "__main__":
    main()
