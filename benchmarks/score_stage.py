"""The score stage against two simpler ways, side by side in one run; prints a table and writes JSON.

    python benchmarks/score_stage.py --n-objects 8192 --json benchmarks/score_stage.json

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

BANDS = ("g", "r", "i", "z", "y")
BANK_OBJECTS = 512
PARTITION_OBJECTS = 1024


def prepare(folder: Path, n_objects: int) -> None:
    """A bank of simulated galaxies as FITS files, the same ones again and again as a Zarr store, and a network."""
    from astropy.io import fits
    from astropy.table import Table, vstack

    swimmy = [sys.executable, "-m", "swimmy_scale"]
    bank = ["simulate", folder / "survey", "--n-objects", BANK_OBJECTS, "--seed", 1, "--faulty-fraction", 0]
    run([*swimmy, *bank])
    (folder / "bank.yaml").write_text("storage: {partition_objects: 512, chunk_objects: 256}\n")
    catalogue = folder / "survey" / "catalogue.fits"
    ingest = ["--patch-qa", folder / "survey" / "patch_qa.fits", "--settings", folder / "bank.yaml"]
    run(
        [
            *swimmy,
            "ingest",
            folder / "survey/cutouts",
            "--catalog",
            catalogue,
            "--output",
            folder / "bank.zarr",
            *ingest,
        ]
    )

    from swimmy_scale.cutouts import Cutouts

    store = Cutouts(folder / "bank.zarr")
    image = store.images(0, BANK_OBJECTS)
    repeats = -(-n_objects // BANK_OBJECTS)
    cube = np.lib.format.open_memmap(folder / "cube.npy", "w+", np.float32, (n_objects, *image.shape[1:]))
    for lo in range(0, n_objects, BANK_OBJECTS):
        cube[lo : lo + BANK_OBJECTS] = image[: n_objects - lo]
    cube.flush()
    table = vstack([Table.read(catalogue)] * repeats, metadata_conflicts="silent")[:n_objects]
    table["object_id"] = np.arange(n_objects) + 1
    fits.table_to_hdu(table).writeto(folder / "catalogue.fits")
    (folder / "settings.yaml").write_text(
        f"storage: {{partition_objects: {PARTITION_OBJECTS}, chunk_objects: 256}}\n"
        "sample: {use_depth: false, flags: [], colours: []}\n"
    )
    settings = ["--patch-qa", folder / "survey" / "patch_qa.fits", "--settings", folder / "settings.yaml"]
    run([*swimmy, "ingest", folder / "cube.npy", "--catalog", folder / "catalogue.fits",
         "--output", folder / "cutouts.zarr", *settings])  # fmt: skip
    (folder / "cube.npy").unlink()

    from swimmy_scale.autoencoder import build, save
    from swimmy_scale.network import Network

    (folder / "model.sha256").write_text(save(build(Network(), seed=1), folder / "model.keras"))


def run(command: list[Any]) -> float:
    """Run a command; seconds that it took. Status 3 says that objects are in quarantine."""
    started = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command}\n{done.stderr}")
    return time.perf_counter() - started


def load_model(folder: Path) -> Any:
    """The full network."""
    from swimmy_scale.autoencoder import load
    from swimmy_scale.network import Network

    return load(folder / "model.keras", Network(), (folder / "model.sha256").read_text())


def plain(folder: Path, n_objects: int) -> float:
    """One process, the way one writes it first; objects a second."""
    from astropy.convolution import Gaussian2DKernel, convolve
    from astropy.io import fits

    from swimmy_scale.cutouts import Cutouts
    from swimmy_scale.preprocess import smoothing_sigma_px
    from swimmy_scale.survey import HSC

    model = load_model(folder)
    sigma = smoothing_sigma_px(Cutouts(folder / "bank.zarr").read("fwhm_arcsec", 0, BANK_OBJECTS), HSC)
    files = list(cutout_files(folder / "survey" / "cutouts"))
    n_objects = min(n_objects, len(files) // len(BANDS))
    model.predict(np.zeros((32, 64, 64, 5), np.float32), verbose=0)
    alpha, divisors = HSC.stretch_alpha, np.array(HSC.band_divisors)[:, None, None]
    aperture = HSC.aperture()
    started = time.perf_counter()
    scores = []
    for lo in range(0, n_objects, 32):
        batch = []
        for row in range(lo, min(lo + 32, n_objects)):
            cube = []
            for band in range(len(BANDS)):
                with fits.open(io.BytesIO(files[row * len(BANDS) + band])) as hdulist:
                    pixels = hdulist[1].data[:64, :64]
                width = sigma[row, band]
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
    from swimmy_scale.anomaly import score_and_residual
    from swimmy_scale.cutouts import Cutouts
    from swimmy_scale.preprocess import preprocess

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


def stage(folder: Path, n_objects: int) -> float:
    """The score stage with a worker a core; objects a second between its first and its last receipt."""
    output = folder / f"scores-{time.monotonic_ns()}.zarr"
    run([sys.executable, "-m", "swimmy_scale", "score", folder / "cutouts.zarr", "--model", folder / "model.keras",
         "--model-sha256", (folder / "model.sha256").read_text(), "--output", output,
         "--settings", folder / "settings.yaml"])  # fmt: skip
    receipts = sorted(path.stat().st_mtime_ns for path in output.with_name(f"{output.name}.receipts").rglob("0*.json"))
    # Workers begin together, so as many receipts as there are workers come before the clock starts.
    n_workers = len(os.sched_getaffinity(0))
    seconds = (receipts[-1] - receipts[n_workers - 1]) / 1e9
    return PARTITION_OBJECTS * (len(receipts) - n_workers) / seconds


WAYS: dict[str, tuple[Callable[[Path, int], float], int]] = {
    "plain: FITS, astropy.convolution, model.predict in batches of 32": (plain, 192),
    "Zarr, vectorised, model.predict of the full network": (full_network, 2048),
    "score stage": (stage, 0),
}


def main() -> None:
    """Prepare, time each way in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-objects", type=int, default=16384)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        function, n_objects = list(WAYS.values())[options.way]
        print(json.dumps(function(options.folder, n_objects)))
        return
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), options.n_objects)
        rates: list[list[float]] = [[] for _ in WAYS]
        for _ in range(options.repeat):
            for way in range(len(WAYS)):
                # A process of its own: threads, caches and memory of one way do not touch another.
                command = [sys.executable, __file__, "--way", str(way), "--folder", name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rates[way].append(float(done.stdout.splitlines()[-1]))
    report(rates, options)


def report(rates: list[list[float]], options: argparse.Namespace) -> None:
    """Print the table and write the JSON file."""
    ours = statistics.median(rates[-1])
    rows = [
        {
            "way": way,
            "objects_per_second": {"median": statistics.median(found), "min": min(found), "max": max(found)},
            "score_stage_is_faster_by": ours / statistics.median(found),
        }
        for way, found in zip(WAYS, rates, strict=True)
    ]
    print(f"{'objects a second: median (min - max)':<40} ratio")
    for row in rows:
        rate = row["objects_per_second"]
        numbers = f"{rate['median']:8,.0f} ({rate['min']:,.0f} - {rate['max']:,.0f})"
        print(f"{numbers:<40} {row['score_stage_is_faster_by']:5.1f}  {row['way']}")
    if options.json:
        content = {"n_objects": options.n_objects, "n_cores": len(os.sched_getaffinity(0)), "repeat": options.repeat}
        options.json.write_text(json.dumps({**content, "ways": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
