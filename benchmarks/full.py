"""A whole survey on this machine: pixels -> cube -> scores -> cuts -> catalogue, with a worker killed on the way.

    python benchmarks/full.py FOLDER --json benchmarks/full.json          # 839,908 objects, as in the paper's extension
    python benchmarks/full.py FOLDER --n-objects 100000                   # a part

The survey is drawn from a bank of simulated galaxies (see ``bank.py``) and needs about 71 kB an object, so 60 GB for
all; a survey that does not fit on the disk is refused with the arithmetic. Everything else is what a user does: a
network trained by ``train`` on the bank's training class, ``run`` with a job file, ``verify``. A worker is killed while
it scores. The thresholds are compared with ``numpy.quantile`` of the scores as they lie in ``scores.zarr``. The folder
is kept: the same command again resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from measure import Measured, report, role_of, row, run_measured, swimmy

N_OBJECTS = 839_908
STORED_BYTES = 71_500  # an object, measured; 81,920 uncompressed
BANK_OBJECTS = 2048
KILL_AFTER_PARTITIONS = 20


def check_disk(folder: Path, n_objects: int) -> None:
    """Refuse a survey that the disk cannot hold, with the arithmetic."""
    needed, there = n_objects * STORED_BYTES, 0
    if (cutouts := folder / "cutouts.zarr").exists():
        there = sum(path.stat().st_size for path in cutouts.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if needed - there > free:
        raise SystemExit(
            f"{folder}: {n_objects:,} objects x {STORED_BYTES:,} bytes = {needed / 1e9:.1f} GB, of which "
            f"{there / 1e9:.1f} GB lie there already; free are {free / 1e9:.1f} GB. Give --n-objects "
            f"{(free + there) // STORED_BYTES:,} or less, or another folder."
        )


def train(folder: Path) -> Path:
    """A network for the survey, trained on the bank."""
    settings = folder / "train.yaml"
    settings.write_text(
        "sample: {use_depth: false, flags: []}\n"
        "train: {schedule: {epochs: 6, keep_from_epoch: 6, batch_size: 32, seed: 1}}\n"
    )
    run_measured(
        swimmy("train", folder / "bank/bank.zarr", "--output", folder / "models", "--settings", settings)
    )  # fmt: skip
    return folder / "models" / "selected.keras"


def write_job(folder: Path, model: Path, scorer: str) -> tuple[Path, Path]:
    """The job and the site of the run."""
    sha256 = json.loads((model.parent / "manifest.json").read_text())["files"]["selected.keras"]
    job, site = folder / "job.yaml", folder / "site.yaml"
    job.write_text(
        f"name: full\ncutouts: cutouts.zarr\nmodel: {{path: models/selected.keras, sha256: {sha256}}}\n"
        "sample: {colours: [[g, r, 1.2], [r, z, 1.0]]}\n"
    )
    site.write_text(f"swimmy-scale: {{kind: local, scorer: {scorer}}}\n")
    return job, site


class Killer:
    """Kills a worker once, while it scores."""

    def __init__(self, receipts: Path) -> None:
        self._receipts, self.killed = receipts, threading.Event()

    def __call__(self, root: int) -> None:
        """Wait for some receipts, then kill."""
        top = psutil.Process(root)
        while top.is_running() and not self.killed.wait(0.5):
            if len(list(self._receipts.glob("0*.json"))) < KILL_AFTER_PARTITIONS:
                continue
            workers = [one for one in top.children(recursive=True) if role_of(one, root) == "worker"]
            if workers:
                max(workers, key=lambda one: one.memory_info().rss).kill()
                self.killed.set()


def check_selection(run: Path) -> dict[str, Any]:
    """The summary, after its thresholds and counts were compared with NumPy's of all scores in memory."""
    import xarray

    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    with xarray.open_zarr(run / "scores.zarr") as scores, xarray.open_zarr(run / "selection.zarr") as selection:
        sample = selection["in_sample"].to_numpy()
        score, residual = scores["score"].to_numpy(), scores["residual"].to_numpy()
        bands = [str(band) for band in scores["band"].to_numpy()]
    for level, fraction in summary["levels"].items():
        chosen = np.zeros(len(sample), bool)
        for band in ("g", "r", "i"):
            k = bands.index(band)
            wanted = float(np.quantile(score[sample, k].astype(np.float64), 1.0 - fraction))
            if summary["thresholds"][level][band] != wanted:
                raise SystemExit(f"{level} {band}: threshold {summary['thresholds'][level][band]}, numpy's is {wanted}")
            chosen |= sample & (score[:, k] > wanted) & (residual[:, k] > 0)
        found = summary["selected"][level]["rows"]["any"]["sample"]["n_selected"]
        if found != int(chosen.sum()):
            raise SystemExit(f"{level}: {found} selected, numpy selects {int(chosen.sum())}")
    return summary


def stage_seconds(run: Path) -> dict[str, float]:
    """From the first to the last receipt of the scoring, which is how long it took without starting."""
    times = sorted(path.stat().st_mtime for path in (run / "receipts" / "score").glob("0*.json"))
    return {"score": times[-1] - times[0], "partitions": float(len(times))}


def rows_of(
    made: Measured, ran: Measured, verified: Measured, run: Path, options: argparse.Namespace, resumed: bool
) -> list[Any]:
    """The lines of the result."""
    n, seconds = options.n_objects, stage_seconds(run)
    size = sum(path.stat().st_size for path in (options.folder / "cutouts.zarr").rglob("*") if path.is_file())
    rate = n * (seconds["partitions"] - 1) / seconds["partitions"] / seconds["score"]
    lines = [
        *([] if resumed else [("drawing the survey and writing the cube", "s", made.seconds)]),
        ("the whole run: scores, cuts, catalogue, picture", "s", ran.seconds),
        ("of it from the first to the last scored partition", "s", seconds["score"]),
        ("scored, a worker killed and started again meanwhile", "objects/s", rate),
        ("verify: every byte read and compared", "s", verified.seconds),
        ("peak memory of a worker", "MiB", ran.peak_bytes("worker") / 2**20),
        ("peak memory of the driver", "MiB", ran.peak_bytes("driver") / 2**20),
        ("cube on disk", "GB", size / 1e9),
        ("cube on disk, of its pixels", "%", 100 * size / (n * 81_920)),
    ]
    return [row(what, unit, [value]) for what, unit, value in lines]


def main() -> None:
    """Make the survey, run, kill, verify, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n-objects", type=int, default=N_OBJECTS)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scorer", choices=("keras", "numba"), default="keras")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = options.folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    check_disk(folder, options.n_objects)
    resumed = (folder / "cutouts.zarr").exists()
    arguments = [folder / "bank", folder / "cutouts.zarr", options.n_objects, options.workers]
    made = run_measured([sys.executable, str(Path(__file__).with_name("bank.py")), *map(str, arguments)])
    job, site = write_job(folder, train(folder), options.scorer)
    run = folder / f"run-{options.scorer}"
    killer = Killer(run / "receipts" / "score")
    started = time.time()
    ran = run_measured(swimmy("run", job, "--output", run, "--site", site), killer)
    killer.killed.set()
    if sum(peak.role == "worker" for peak in ran.peaks.values()) <= options.workers:
        raise SystemExit("no worker was killed: the run had ended, or was finished before. Remove its run directory.")
    verified = run_measured(swimmy("verify", run))
    summary = check_selection(run)
    counts = {key: summary[key] for key in ("given", "scored", "quarantined", "in_sample")}
    selected = {level: content["rows"]["any"]["sample"]["n_selected"] for level, content in summary["selected"].items()}
    notes = [
        f"{counts['given']:,} given = {counts['scored']:,} scored + {counts['quarantined']:,} quarantined; "
        f"{counts['in_sample']:,} in the colour-selected sample",
        f"selected in any of g, r, i: {selected}; thresholds and counts are numpy's of all scores",
        f"peaks: {sorted((peak.role, peak.memory_bytes >> 20) for peak in ran.peaks.values())} MiB",
        f"a worker was killed while it scored ({time.strftime('%Y-%m-%d', time.gmtime(started))})",
    ]
    facts = {"n_objects": options.n_objects, "n_workers": options.workers, "scorer": options.scorer}
    name = "full" if options.scorer == "keras" else "full_numba"
    report(name, rows_of(made, ran, verified, run, options, resumed), options.json, notes, **facts, **counts)


if __name__ == "__main__":
    main()
