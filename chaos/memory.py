"""Peaks of a process of its own, as the kernel counts them, against the bounds that `plan` declares for the stages."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table, vstack

from chaos.lab import Lab
from chaos.records import Outcome
from chaos.scenes import RUN

MIB = 1 << 20
SECONDS = 600.0
SECONDS_BETWEEN_LOOKS = 0.02
BANDS = "GRIZY"


@dataclass(frozen=True)
class Case:
    """Inputs that may take much memory; ``make`` changes the job and what lies around it."""

    name: str
    make: Callable[[Path, dict[str, Any]], None]
    job: str = "model.yaml"


def _plain(folder: Path, job: dict[str, Any]) -> None:
    """The survey as it is."""


def _own_cutouts(folder: Path, job: dict[str, Any], contents: Callable[[int], bytes]) -> None:
    """Cutout files for the first 32 rows of the catalogue."""
    table = Table.read(folder / "survey/catalogue.fits")[:32]
    table.write(folder / "few.fits")
    (folder / "files").mkdir()
    for row in range(len(table)):
        for band in BANDS:
            (folder / "files" / f"{row + 2}-cutout-HSC-{band}-9000-pdr3_wide.fits").write_bytes(contents(row))
    job["catalogue"]["path"] = str(folder / "few.fits")
    job["ingest"]["sources"] = [str(folder / "files")]


def _image(size: int) -> bytes:
    """A FITS file; noise does not compress."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(size).normal(0, 0.1, (size, size)).astype(np.float32)
    fits.PrimaryHDU(pixels, fits.Header([("FLUXMAG0", 6.3e10)])).writeto(stream)
    return stream.getvalue()


def _large_file(folder: Path, job: dict[str, Any]) -> None:
    small, large = _image(64), _image(7000)
    _own_cutouts(folder, job, lambda row: large if row == 3 else small)


def _packed_zeros(folder: Path, job: dict[str, Any]) -> None:
    small = _image(64)
    zeros = gzip.compress(small, 1) + gzip.compress(bytes(1 << 30), 1)
    _own_cutouts(folder, job, lambda row: zeros if row == 3 else small)


def _long_headers(folder: Path, job: dict[str, Any]) -> None:
    data = _image(64)
    end = data.index(b"END" + b" " * 77)
    cards = b"".join(b"K%07d=%21d" % (number, number) + b" " * 50 for number in range(50_000))
    header = data[:end] + cards + b"END" + b" " * 77
    whole = header + b" " * (-len(header) % 2880) + data[2880 * (end // 2880 + 1) :]
    _own_cutouts(folder, job, lambda row: whole)


def _many_rows(folder: Path, job: dict[str, Any], n_rows: int, n_columns: int, name: str = "many.fits") -> None:
    table = Table.read(folder / "survey/catalogue.fits")
    table = vstack([table] * (n_rows // len(table)), metadata_conflicts="silent")
    table["object_id"][:] = np.arange(1, len(table) + 1)
    r = np.random.default_rng(1)
    for number in range(n_columns):
        table[f"more_{number:03d}"] = r.random(len(table))
    table.write(folder / name)
    # Pixels of so many would take all disks: none has any, and the run ends when it has found that out.
    job["catalogue"]["path"] = str(folder / name)


def _coadd(folder: Path, job: dict[str, Any]) -> None:
    size = 4000
    table = Table.read(folder / "survey/catalogue.fits")[:64]
    r = np.random.default_rng(3)
    table["ra"][:], table["dec"][:] = (centre + r.uniform(-0.06, 0.06, len(table)) for centre in (150.5, 2.5))
    table.write(folder / "coadd.fits")
    scale = 0.168 / 3600
    cards = [("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRVAL1", 150.5), ("CRVAL2", 2.5), ("CRPIX1", size / 2)]
    cards += [("CRPIX2", size / 2), ("CD1_1", -scale), ("CD1_2", 0.0), ("CD2_1", 0.0), ("CD2_2", scale)]
    cards += [("FLUXMAG0", 6.3e10)]
    pixels = np.random.default_rng(1).normal(0, 0.1, (size, size)).astype(np.float32)
    compressed = fits.CompImageHDU(pixels, fits.Header(cards), compression_type="RICE_1", quantize_level=16)
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(folder / "patch-g.fits")
    for band in "rizy":
        os.link(folder / "patch-g.fits", folder / f"patch-{band}.fits")
    job["catalogue"]["path"] = str(folder / "coadd.fits")
    job["ingest"] = {"coadd": {band: str(folder / f"patch-{band}.fits") for band in "grizy"}}


CASES = (
    Case("a small survey", _plain),
    Case("a small survey, with training", _plain, "train.yaml"),
    Case("a cutout file of 187 MiB", _large_file),
    Case("a file of 1 MiB that unpacks to 1 GiB", _packed_zeros),
    Case("headers of 4 MB", _long_headers),
    Case("200,000 rows", lambda folder, job: _many_rows(folder, job, 200_000, 0)),
    Case("50,000 rows of 270 columns", lambda folder, job: _many_rows(folder, job, 50_000, 200)),
    Case("compressed coadds of 4,000 px", _coadd),
    Case(
        "50,000 rows of 270 columns, gzipped",
        lambda folder, job: _many_rows(folder, job, 50_000, 200, "many.fits.gz"),
    ),
)


def peaks(lab: Lab, k: int, rnd: random.Random) -> Outcome:
    """One case: the peak when the ingest is finished against its bound, and the peak of all against the largest."""
    case, folder = CASES[k % len(CASES)], lab.a_folder()
    outcome = Outcome()
    RUN.prepare(lab, folder)
    job = yaml.safe_load((folder / case.job).read_text())
    case.make(folder, job)
    path = folder / "memory.yaml"
    path.write_text(yaml.safe_dump(job))
    plan = lab.run("plan", path, "--json", log="plan")
    outcome.counts[case.name] += 1
    if plan.document is None:
        outcome.expect(False, "plan has no answer", case=case.name, said=plan.last_line)
        return outcome
    bounds = {stage["stage"]: stage["memory_bytes"] for stage in plan.document["stages"]}
    found = _measured([str(path), "--output", str(folder / "run"), "--workers", "0"], folder / "run")
    for what, peak, bound in (
        ("ingest", found["ingest"], bounds["ingest"]),
        ("all stages", found["all stages"], max(bounds.values())),
    ):
        details = {"case": case.name, "peak_mib": peak // MIB, "bound_mib": bound // MIB}
        outcome.expect(peak <= bound, f"{what} takes more than its bound", **details)
        outcome.counts[f"{case.name}: {what}, {peak // MIB} of {bound // MIB} MiB"] += 1
    outcome.failures = outcome.failures[:1]
    return outcome


def _measured(words: list[str], run: Path) -> dict[str, int]:
    """Peak resident bytes of ``swimmy-scale run``, when its ingest was finished and at its end."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [sys.executable, "-m", "swimmy_scale", "run", *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end, peak, of_ingest = time.monotonic() + SECONDS, 0, 0
    finished = run / "receipts/ingest/finished.json"
    while process.poll() is None and time.monotonic() < end:
        peak = max(peak, _peak(process.pid))
        if not of_ingest and finished.exists():
            of_ingest = peak
        time.sleep(SECONDS_BETWEEN_LOOKS)
    process.kill()
    process.wait()
    return {"ingest": of_ingest or peak, "all stages": peak}


def _peak(process_id: int) -> int:
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
