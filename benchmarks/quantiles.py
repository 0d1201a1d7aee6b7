"""Exact thresholds of more scores than fit in memory, against ``numpy.partition`` of what does.

    python benchmarks/quantiles.py --n-scores 1000000000 --json benchmarks/quantiles.json

Scores of one band lie in a file and are streamed twice, block by block; the same file is also only read, which is as
fast as any program could be that reads it twice. The file is 4 bytes a score and is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import answer_of, peak_memory_bytes, report, row

BLOCK = 1 << 18
FRACTIONS = (0.05, 0.003, 0.0005)
MEMORY_GROWTH_MIB = 64
FEW_SCORES = 100_000_000


def write_scores(path: Path, n_scores: int) -> None:
    """Heavy-tailed scores in a raw file."""
    rng = np.random.default_rng(1)
    with path.open("wb") as stream:
        for lo in range(0, n_scores, 1 << 22):
            np.exp(2.0 * rng.standard_normal(min(1 << 22, n_scores - lo), np.float32)).tofile(stream)


def blocks(path: Path) -> Iterator[Any]:
    """The scores, float32 (m, 1), block by block."""
    with path.open("rb") as stream:
        while (block := np.fromfile(stream, np.float32, BLOCK)).size:
            yield block[:, None]


def streamed(path: Path) -> dict[str, Any]:
    """Thresholds in two passes, and how much memory that took beyond the interpreter's own."""
    from swimmy_scale.method.thresholds import streamed_thresholds

    before = peak_memory_bytes()
    started = time.perf_counter()
    found = streamed_thresholds(lambda: blocks(path), 1, FRACTIONS)
    seconds = time.perf_counter() - started
    grown = peak_memory_bytes() - before
    return {"seconds": seconds, "grown_mib": grown / 2**20, "found": found[:, 0].tolist()}


def partitioned(path: Path) -> dict[str, Any]:
    """The order statistics by ``numpy.partition``, everything in memory."""
    score = np.fromfile(path, np.float32)
    ranks = sorted({int(np.floor((1.0 - fraction) * (score.size - 1))) + k for fraction in FRACTIONS for k in (0, 1)})
    started = time.perf_counter()
    np.partition(score, ranks)
    return {"seconds": time.perf_counter() - started, "quantiles": [
        float(np.quantile(score.astype(np.float64), 1.0 - fraction)) for fraction in FRACTIONS
    ]}  # fmt: skip


def only_read(path: Path) -> dict[str, Any]:
    """Reading the file twice and nothing else."""
    started = time.perf_counter()
    for _ in range(2):
        for _ in blocks(path):
            pass
    return {"seconds": time.perf_counter() - started}


WAYS = {function.__name__: function for function in (streamed, partitioned, only_read)}


def main() -> None:
    """Write the scores, time each way in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-scores", type=int, default=FEW_SCORES)
    parser.add_argument("--n-in-memory", type=int, default=50_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        print(json.dumps(WAYS[options.way[0]](Path(options.way[1]))))
        return
    with tempfile.TemporaryDirectory(dir=".") as name:
        small, large = Path(name) / "small", Path(name) / "large"
        write_scores(small, options.n_in_memory)
        write_scores(large, options.n_scores)
        turns = [("streamed", small), ("partitioned", small), ("streamed", large), ("only_read", large)]
        found: dict[tuple[str, Path], list[dict[str, Any]]] = {turn: [] for turn in turns}
        for _ in range(options.repeat):
            for way, path in turns:
                command = [sys.executable, __file__, "--way", way, str(path)]
                found[way, path].append(answer_of(command))
    one, other, large_run, reading = (found[turn] for turn in turns)
    if one[0]["found"] != other[0]["quantiles"]:
        raise SystemExit(f"streamed thresholds {one[0]['found']} are not numpy's {other[0]['quantiles']}")
    n, n_large = options.n_in_memory, options.n_scores
    slower = sorted(a["seconds"] / b["seconds"] for a, b in zip(one, other, strict=True))[len(one) // 2]
    reads = sorted(a["seconds"] / b["seconds"] for a, b in zip(large_run, reading, strict=True))[len(one) // 2]
    grown = [each["grown_mib"] for each in large_run]
    rows = [
        row(f"numpy.partition of {n:,} in memory", "Mscores/s", [n / 1e6 / each["seconds"] for each in other]),
        row(f"streamed, two passes, {n:,} from a file", "Mscores/s", [n / 1e6 / each["seconds"] for each in one],
            ratio=slower, target=2, met=slower <= 2),
        row(f"streamed, two passes, {n_large:,} from a file", "s", [each["seconds"] for each in large_run]),
        row(f"only reading the {n_large:,} twice", "s", [each["seconds"] for each in reading], ratio=reads),
        row(f"memory that {n_large:,} took", "MiB", grown, target=MEMORY_GROWTH_MIB,
            met=max(grown) <= MEMORY_GROWTH_MIB),
    ]  # fmt: skip
    notes = ["ratio of the second row: its time over numpy.partition's; of the fourth: streaming over only reading"]
    # The few of every day do not replace the many.
    name = "quantiles" if n_large <= FEW_SCORES else "quantiles_many"
    report(name, rows, options.json, notes, n_scores=n_large, repeat=options.repeat)


if __name__ == "__main__":
    main()
