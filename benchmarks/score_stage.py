"""The score stage by both scorers against two simpler ways, side by side; prints a table and writes JSON.

    python benchmarks/score_stage.py --n-objects 8192 --json benchmarks/results/score_stage.json

Every way goes from stored cutouts to scores: the plain one from FITS files, the others from the same objects in Zarr.
Machines are shared and drift, so ratios count and rates do not: each way is timed several times, in turn.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bank import make_bank, make_survey
from measure import report, row, score

BANDS = ("g", "r", "i", "z", "y")
BANK_OBJECTS = 512
PLAIN_OBJECTS = 192
FULL_OBJECTS = 2048
PARTITION_OBJECTS = 2048
DESCRIBED = "score: {descriptors: true}\n"


def prepare(folder: Path, n_objects: int) -> None:
    """A bank of simulated galaxies as FITS files, a survey of them as a Zarr store, and a network."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.method.sections import StorageSection
    from swimmy_scale.model.autoencoder import build
    from swimmy_scale.model.files import save

    make_bank(folder / "bank", BANK_OBJECTS)
    storage = StorageSection(partition_objects=PARTITION_OBJECTS, chunk_objects=256)
    make_survey(folder / "bank", folder / "cutouts.zarr", n_objects, 0, storage)
    (folder / "model.sha256").write_text(save(build(Network(), seed=1), folder / "model.keras"))


def load_model(folder: Path) -> Any:
    """The full network."""
    from swimmy_scale.method.network import Network
    from swimmy_scale.model.files import load

    return load(folder / "model.keras", Network(), (folder / "model.sha256").read_text())


def plain(folder: Path, n_objects: int) -> float:
    """One process, the way one writes it first; objects a second."""
    from astropy.convolution import Gaussian2DKernel, convolve
    from astropy.io import fits

    from swimmy_scale.method.preprocess import smoothing_sigma_px
    from swimmy_scale.method.survey import HSC
    from swimmy_scale.storage.cutouts import Cutouts

    model = load_model(folder)
    sigma = smoothing_sigma_px(Cutouts(folder / "bank" / "bank.zarr").read("fwhm_arcsec", 0, BANK_OBJECTS), HSC)
    files = list(cutout_files(folder / "bank" / "survey" / "cutouts"))
    n_objects = min(n_objects, len(files) // len(BANDS))
    model.predict(np.zeros((32, 64, 64, 5), np.float32), verbose=0)
    alpha, divisors = HSC.stretch_alpha, np.array(HSC.band_divisors)[:, None, None]
    aperture = HSC.aperture()
    started = time.perf_counter()
    scores = []
    for lo in range(0, n_objects, 32):
        batch = []
        for index in range(lo, min(lo + 32, n_objects)):
            cube = []
            for band in range(len(BANDS)):
                with fits.open(io.BytesIO(files[index * len(BANDS) + band])) as hdulist:
                    pixels = hdulist[1].data[:64, :64]
                width = sigma[index, band]
                cube.append(convolve(pixels, Gaussian2DKernel(width, x_size=4 * int(2 * width + 1) + 1)))
            x = np.array(cube) * 10 ** (-0.4 * (27.0 - 19.0)) / divisors
            intensity = x.mean(axis=0)
            factor = np.arcsinh(alpha * intensity) / np.arcsinh(alpha) / intensity
            batch.append(np.clip(factor * x + HSC.stretch_beta, 0, 1))
        source = np.array(batch, np.float32).transpose(0, 2, 3, 1)
        reconstruction = model.predict(source, batch_size=32, verbose=0)
        ratio = ((source - reconstruction) / reconstruction) ** 2
        scores.append(ratio[:, aperture].sum(axis=1))
    return n_objects / (time.perf_counter() - started)


def cutout_files(folder: Path) -> list[bytes]:
    """The FITS files of a simulated survey, five an object, as its archive delivers them."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                found += [tar.extractfile(member).read() for member in tar if member.isfile()]  # type: ignore[union-attr]
        elif path.suffix == ".fits":
            found.append(path.read_bytes())
    return found


def full_network(folder: Path, n_objects: int) -> float:
    """One process: Zarr, vectorised preprocessing, ``model.predict`` of the full network; objects a second."""
    from swimmy_scale.method.anomaly import score_and_residual
    from swimmy_scale.method.preprocess import preprocess
    from swimmy_scale.storage.cutouts import Cutouts

    model, store = load_model(folder), Cutouts(folder / "cutouts.zarr")
    n_objects = min(n_objects, store.n_objects)
    model.predict(np.zeros((256, 64, 64, 5), np.float32), batch_size=256, verbose=0)
    started = time.perf_counter()
    for lo in range(0, n_objects, 256):
        hi = min(lo + 256, n_objects)
        source = preprocess(store.images(lo, hi), store.read("fwhm_arcsec", lo, hi), store.survey)
        reconstruction = model.predict(source.transpose(0, 2, 3, 1), batch_size=256, verbose=0)
        score_and_residual(source, np.ascontiguousarray(reconstruction.transpose(0, 3, 1, 2)), store.survey)
    return n_objects / (time.perf_counter() - started)


def stage(folder: Path, scorer: str, settings: str = "") -> float:
    """The score stage with a worker a core; objects a second once all workers have their model."""
    more, n_workers = ("--scorer", scorer), len(os.sched_getaffinity(0))
    return score(folder / "cutouts.zarr", folder / "model.keras", n_workers, settings, more).objects_per_second


WAYS: dict[str, tuple[str, Callable[[Path], float]]] = {
    "plain": (
        "plain: FITS, astropy.convolution, model.predict in batches of 32",
        lambda folder: plain(folder, PLAIN_OBJECTS),
    ),
    "full": (
        "Zarr, vectorised, model.predict of the full network",
        lambda folder: full_network(folder, FULL_OBJECTS),
    ),
    "keras": ("score stage, scorer: keras", lambda folder: stage(folder, "keras")),
    "numba": ("score stage, scorer: numba", lambda folder: stage(folder, "numba")),
    "keras described": ("with descriptors, scorer: keras", lambda folder: stage(folder, "keras", DESCRIBED)),
    "numba described": ("with descriptors, scorer: numba", lambda folder: stage(folder, "numba", DESCRIBED)),
}
TARGETS = (
    *(("keras", "plain", 20.0), ("keras", "full", 3.0), ("numba", "plain", 35.0)),
    *(("keras described", "keras", 0.9), ("numba described", "numba", 0.9)),
)


def main() -> None:
    """Prepare, time each way in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=16384)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        print(json.dumps(WAYS[options.way][1](options.folder)))
        return
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), options.n_objects)
        for _ in range(options.repeat):
            for way, found in rates.items():
                # A process of its own: threads, caches and memory of one way do not touch another.
                command = [sys.executable, __file__, "--way", way, "--folder", name]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(done.stderr)
                found.append(float(done.stdout.splitlines()[-1]))
    rows = [row(WAYS[way][0], "objects/s", found) for way, found in rates.items()]
    for ours, theirs, target in TARGETS:
        # Turn by turn: what the machine does besides hits both alike.
        ratios = [one / other for one, other in zip(rates[ours], rates[theirs], strict=True)]
        middle = statistics.median(ratios)
        other = WAYS[theirs][0] if theirs in ("keras", "numba") else WAYS[theirs][0].split(":")[0]
        what = f"{WAYS[ours][0]} against {other}"
        rows.append(row(what, "", ratios, ratio=middle, target=target, met=middle >= target))
    report("score_stage", rows, options.json, n_objects=options.n_objects, repeat=options.repeat)


if __name__ == "__main__":
    main()
