"""How cutouts are best stored: codecs, sizes of chunks, rounded pixels; prints a table and writes JSON.

    python benchmarks/storage.py --json benchmarks/results/storage.json

The cutouts are simulated with the noise of the survey's depth, which is what a codec has to deal with. MB are those of
the pixels (10^6 bytes, before compression). Machines are shared and drift: time is that of the processor (Zarr, codec,
checksum, copies; not the disk), alternatives are timed in turn, and ratios to the default (marked *) count, not rates.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from measure import processor
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from swimmy_scale.method.bit_rounding import round_mantissa
from swimmy_scale.method.survey import HSC
from swimmy_scale.storage.cutouts import Cutouts, cutouts_layout

PARTITION_OBJECTS, CHUNK_OBJECTS = 2048, 256  # the job's defaults
FILES_BESIDE_PIXELS = len(cutouts_layout(1, HSC, {}, 1, 1, {}).variables) - 1  # a partition writes one for each


def blosc(name: str, level: int, shuffle: str = "bitshuffle") -> BloscCodec:
    """One of Blosc's codecs."""
    return BloscCodec(cname=name, clevel=level, shuffle=shuffle)  # type: ignore[arg-type]


CODECS: dict[str, list[Any]] = {
    "blosc lz4 5, bit shuffle *": [blosc("lz4", 5)],
    "none": [],
    "blosc lz4 1, bit shuffle": [blosc("lz4", 1)],
    "blosc lz4 9, bit shuffle": [blosc("lz4", 9)],
    "blosc lz4 5, byte shuffle": [blosc("lz4", 5, "shuffle")],
    "blosc zstd 1, bit shuffle": [blosc("zstd", 1)],
    "blosc zstd 3, bit shuffle": [blosc("zstd", 3)],
    "zstd 1": [ZstdCodec(level=1)],
    "zstd 3": [ZstdCodec(level=3)],
}
DEFAULT_CODEC = next(iter(CODECS.values()))
# (partition, chunk), the default first.
SIZES = [(PARTITION_OBJECTS, CHUNK_OBJECTS), *((2048, chunk) for chunk in (64, 1024)),
         *((4096, chunk) for chunk in (64, 256, 1024, 4096))]  # fmt: skip
KEPT_BITS = (7, 10, 12, 14, 16)
STEPS_A_SIGMA = (16, 64, 256)
COUNT_BITS = (10, 12)  # steps of 2^-bits count
LEVELS = {"5": 0.05, "0.3": 0.003}  # percent of the sample
SELECTING = [0, 1, 2]  # g, r, i
N_TRAINING, N_EPOCHS = 512, 3

Row = dict[str, Any]
Timings = dict[str, list[float]]


def simulated(folder: Path, n_objects: int) -> Cutouts:
    """A store of simulated cutouts, made by the program's own commands."""
    swimmy = [sys.executable, "-m", "swimmy_scale"]
    (folder / "settings.yaml").write_text("storage: {partition_objects: 4096, chunk_objects: 256}\n")
    survey = folder / "survey"
    commands = [
        [*swimmy, "simulate", survey, "--n-objects", n_objects, "--seed", 1, "--faulty-fraction", 0],
        [*swimmy, "ingest", survey / "cutouts", "--catalog", survey / "catalogue.fits", "--patch-qa",
         survey / "patch_qa.fits", "--output", folder / "bank.zarr", "--settings", folder / "settings.yaml"],
    ]  # fmt: skip
    for command in commands:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{command}\n{done.stderr}")
    return Cutouts(folder / "bank.zarr")


def create(path: Path, shape: tuple[int, ...], partition: int, chunk: int, codec: list[Any]) -> Any:
    """An array as `swimmy_scale.storage.creation` makes it, but for its codec."""
    shutil.rmtree(path, ignore_errors=True)
    array = zarr.create_array(
        str(path), shape=shape, dtype="float32", chunks=(chunk, *shape[1:]), shards=(partition, *shape[1:]),
        compressors=[*codec, Crc32cCodec()], fill_value=np.nan,
    )  # fmt: skip
    return array.with_config({"write_empty_chunks": True})


def write(array: Any, image: Any) -> None:
    """Write all cutouts, partition by partition, as tasks do."""
    step = array.shards[0]
    for lo in range(0, len(image), step):
        array[lo : lo + step] = image[lo : lo + step]


def count_step(image: Any, n_bits: int) -> Any:
    """Counts rounded to 2^-n_bits."""
    return np.ldexp(np.rint(np.ldexp(image, n_bits)), -n_bits)


def read(array: Any, step: int) -> None:
    """Read all cutouts, ``step`` at a time."""
    for lo in range(0, array.shape[0], step):
        array[lo : lo + step]


def read_rate(array: Any, step: int) -> float:
    """MB/s of a reader that has read as much before, so that its memory is there."""
    array[:step]
    spent = seconds(lambda: read(array, step))
    return float(math.prod(array.shape) * 4 / 1e6 / spent)


def seconds(work: Callable[[], Any]) -> float:
    """Processor seconds that a call takes, in all threads of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compression(array: Any, image: Any) -> float:
    """Bytes of the pixels over bytes on disk."""
    folder = Path(str(array.store_path).removeprefix("file://"))
    stored: float = image.nbytes / sum(file.stat().st_size for file in (folder / "c").rglob("*") if file.is_file())
    return stored


def row(what: str, unit: str, found: list[float], base: list[float] | None, **more: float) -> Row:
    """One line of the result; ``ratio`` is to the default's median."""
    median = statistics.median(found)
    ratio = median / statistics.median(base) if base else None
    return {
        "what": what, "unit": unit, "median": median, "min": min(found), "max": max(found),
        "ratio": ratio, "target": None, "met": None, **more,
    }  # fmt: skip


def time_codecs(folder: Path, image: Any, repeat: int, prefix: str = "", names: tuple[str, ...] = ()) -> list[Row]:
    """Compression, writing and reading chunk by chunk, of every codec."""
    names = names or tuple(CODECS)
    megabytes = image.nbytes / 1e6
    rates: dict[str, Timings] = {kind: {name: [] for name in names} for kind in ("write", "read")}
    ratio: dict[str, float] = {}
    for _ in range(repeat):
        for name in names:
            array = create(folder / "codec.zarr", image.shape, PARTITION_OBJECTS, CHUNK_OBJECTS, CODECS[name])
            written = seconds(partial(write, array, image))
            ratio[name] = compression(array, image)
            rates["write"][name].append(megabytes / written)
            rates["read"][name].append(read_rate(array, CHUNK_OBJECTS))
    return [
        row(f"{prefix}{kind}: {name}", "MB/CPU s", found[name], found[names[0]], compression=ratio[name])
        for kind, found in rates.items()
        for name in names
    ]


def time_sizes(folder: Path, image: Any, repeat: int) -> list[Row]:
    """Reading of whole partitions, as scoring does it, and of single objects; for every size of chunk."""
    picked = np.random.default_rng(0).integers(0, len(image), 4).tolist()
    arrays = {}
    for partition, chunk in SIZES:
        array = create(folder / f"{partition}-{chunk}.zarr", image.shape, partition, chunk, DEFAULT_CODEC)
        write(array, image)
        arrays[partition, chunk] = array
    ways: dict[str, tuple[str, Callable[[Any], float]]] = {
        "whole partitions": ("MB/CPU s", lambda a: read_rate(a, a.chunks[0])),
        "one object": ("CPU ms", lambda a: seconds(lambda: [a[k : k + 1] for k in picked]) * 1e3 / len(picked)),
    }
    found: dict[str, dict[tuple[int, int], list[float]]] = {way: {size: [] for size in SIZES} for way in ways}
    for _ in range(repeat):
        for way, (_, measure) in ways.items():
            for size, array in arrays.items():
                found[way][size].append(measure(array))
    rows = [
        row(f"read {way}: partition {size[0]}, chunk {size[1]}{' *' * (size == SIZES[0])}", unit,
            found[way][size], found[way][SIZES[0]],
            files_a_million_objects=(1 + FILES_BESIDE_PIXELS) * -(-1_000_000 // size[0]))
        for way, (unit, _) in ways.items()
        for size in SIZES
    ]  # fmt: skip
    for partition, chunk in SIZES:
        shutil.rmtree(folder / f"{partition}-{chunk}.zarr")
    return rows


def sky_step(image: Any, n_steps: int) -> Any:
    """Round to multiples of a power of two, at least ``n_steps`` to each cutout's sky noise; float32.

    sigma = 1.4826 median|x - median(x)| over the cutout's border of 8 px.
    """
    border = np.ones(image.shape[2:], bool)
    border[8:-8, 8:-8] = False
    sky = image[:, :, border]
    sigma = 1.4826 * np.median(np.abs(sky - np.median(sky, axis=2, keepdims=True)), axis=2)
    exponent = np.floor(np.log2(sigma / n_steps)).astype(np.int32)[:, :, None, None]
    return np.ldexp(np.rint(np.ldexp(image, -exponent)), exponent)


def trained_scorer(folder: Path, source: Any, normal: Any) -> Any:
    """A scorer whose network was trained for a few epochs on normal galaxies of the bank."""
    from swimmy_scale.method.network import Network, Schedule
    from swimmy_scale.model.files import load
    from swimmy_scale.model.keras_scorer import Scorer
    from swimmy_scale.model.training import train

    schedule = Schedule(epochs=N_EPOCHS, keep_from_epoch=N_EPOCHS, seed=1)
    cubes = source[np.flatnonzero(normal)[:N_TRAINING]]
    last = train(cubes, Network(), schedule, folder / "model", len(os.sched_getaffinity(0))).epochs[-1]
    return Scorer(load(folder / "model" / last.file, Network(), last.sha256), Network(), HSC)


def score_all(scorer: Any, image: Any, fwhm: Any) -> tuple[Any, Any]:
    """Scores and residuals through the program's own preprocessing."""
    from swimmy_scale.method.preprocess import preprocess

    found = [scorer.score(preprocess(image[lo : lo + 256], fwhm[lo : lo + 256], HSC))
             for lo in range(0, len(image), 256)]  # fmt: skip
    score, residual = (np.concatenate(part) for part in zip(*found, strict=True))
    return score, residual


def selected(score: Any, residual: Any) -> Any:
    """Candidate flags (object, level, band) at the whole bank's own thresholds."""
    from swimmy_scale.method.candidates import candidates
    from swimmy_scale.method.thresholds import thresholds

    everyone = np.ones(len(score), bool)
    return candidates(score, residual, thresholds(score, LEVELS.values()), everyone, SELECTING)


def effect_of_rounding(folder: Path, image: Any, store: Cutouts, repeat: int) -> list[Row]:
    """What rounded pixels save and what they do to scores and selections."""
    from swimmy_scale.method.preprocess import preprocess

    fwhm = store.read("fwhm_arcsec", 0, len(image))
    source = preprocess(image, fwhm, HSC)
    scorer = trained_scorer(folder, source, store.read("sample_class", 0, len(image)) == "training")
    del source
    exact, residual = score_all(scorer, image, fwhm)
    wanted = selected(exact, residual)
    ways: dict[str, Callable[[], Any]] = {
        **{f"{n} mantissa bits": partial(round_mantissa, image, n) for n in KEPT_BITS},
        **{f"steps of sky noise / {n}": partial(sky_step, image, n) for n in STEPS_A_SIGMA},
        **{f"steps of 2^-{n} count": partial(count_step, image, n) for n in COUNT_BITS},
    }
    rows = []
    for way, rounding in ways.items():
        rounded = rounding()
        array = create(folder / "rounded.zarr", image.shape, PARTITION_OBJECTS, CHUNK_OBJECTS, DEFAULT_CODEC)
        write(array, rounded)
        score, residual = score_all(scorer, rounded, fwhm)
        change = np.abs(score - exact)[:, SELECTING] / exact[:, SELECTING]
        differ = (selected(score, residual) != wanted).any(axis=2).sum(axis=0)
        rate = statistics.median(read_rate(array, CHUNK_OBJECTS) for _ in range(repeat))
        rows.append(
            row(f"relative change of scores: {way}", "1", change.ravel().tolist(), None,
                percentile_99=float(np.percentile(change, 99)), compression=compression(array, rounded),
                read_mb_per_cpu_s=rate,
                **{f"selected_otherwise_at_{name}_percent": int(count)
                   for name, count in zip(LEVELS, differ, strict=True)})
        )  # fmt: skip
    for name, count in zip(LEVELS, wanted.any(axis=2).sum(axis=0), strict=True):
        rows.append(row(f"selected at {name} percent in g, r or i", "objects", [float(count)], None))
    return rows


def told(part: str) -> None:
    """Say what is measured now."""
    print(f"{time.strftime('%H:%M:%S')} {part}", file=sys.stderr)


def main() -> None:
    """Simulate, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told("a simulated survey")
        store = simulated(folder, options.n_objects)
        image = store.images(0, store.n_objects)
        partition = image[:PARTITION_OBJECTS]
        told("codecs")
        rows = time_codecs(folder, partition, options.repeat)
        at_12 = ("blosc lz4 5, bit shuffle *", "blosc zstd 1, bit shuffle", "zstd 1")
        rows += time_codecs(folder, round_mantissa(partition, 12), options.repeat, "12 bits, ", at_12)
        told("sizes of chunks")
        rows += time_sizes(folder, image, options.repeat)
        rounding = [seconds(lambda: round_mantissa(partition, 12)) for _ in range(options.repeat)]
        rows.append(
            row("rounding to 12 bits", "MB/CPU s", [partition.nbytes / 1e6 / spent for spent in rounding], None)
        )
        told("effect of rounding")
        rows += effect_of_rounding(folder, image, store, options.repeat)
    notes = [
        "MB of pixels before compression, a second of processor time; every codec is followed by CRC-32C.",
        f"Scores are of a network trained for {N_EPOCHS} epochs on {N_TRAINING} simulated normal galaxies, in g, r, i.",
        "Median, min and max of a change of scores are over objects and bands.",
        "Steps of sky noise: the largest power of two that is no larger than that part of the cutout's noise.",
        "selected_otherwise: objects whose flag differs in g, r or i, each bank cut at its own thresholds.",
    ]
    report(rows, notes, options)


def report(rows: list[Row], notes: list[str], options: argparse.Namespace) -> None:
    """Print the table and write the JSON file."""
    standard = set(row("", "", [0.0], None))
    for found in rows:
        more = ", ".join(f"{key} {value:.4g}" for key, value in found.items() if key not in standard)
        ratio = f"{found['ratio']:5.2f}" if found["ratio"] is not None else "     "
        spread = f"{found['median']:9.4g} ({found['min']:.4g} - {found['max']:.4g}) {found['unit']}"
        print(f"{found['what']:<60} {spread:<36} {ratio}  {more}")
    print("\n".join(notes))
    if options.json:
        content = {
            "benchmark": "storage",
            "n_cores": len(os.sched_getaffinity(0)),
            "processor": processor(),
            "n_objects": options.n_objects,
            "repeat": options.repeat,
            "rows": rows,
            "notes": notes,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
