"""Cutouts as the archive delivers them, of objects whose pixels tell which one and which band they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fits_files import archive_file

from swimmy_scale.ingest.pixels.sources import build_index, expand_sources, list_source, read_rows
from swimmy_scale.method.quarantine import Fault
from swimmy_scale.method.survey import HSC, BoolArray, FloatArray, Survey

IDS = np.arange(12) + 43158172147386000
RAS = 150.0 + 0.01 * np.arange(12)
DECS = np.full(12, 2.0)


def pixels_of(row: int, band: int, n: int = 64) -> FloatArray:
    """Noise of an own seed, and the object in the middle."""
    offset = np.arange(n) - (n - 1) / 2
    source = 30 * np.exp(-(np.hypot(offset[:, None], offset) ** 2) / 18)
    return (source + np.random.default_rng([row, band]).normal(0, 0.03, (n, n))).astype(np.float32)


def cutout(row: int, band: int, image: FloatArray | None = None, n: int = 64, **cards: object) -> bytes:
    """The file of an object and band. An image that is cut off has the object where it was."""
    image = pixels_of(row, band, n) if image is None else image
    middle = (n + 1) / 2
    return archive_file(image, **{"CRVAL1": RAS[row], "CRVAL2": DECS[row], "CRPIX1": middle, "CRPIX2": middle, **cards})


def name_of(upload: str, line: int, band: str, tract: int = 9813) -> str:
    return f"{upload}/{line}-cutout-HSC-{band.upper()}-{tract}-pdr3_wide.fits"


def upload(name: str, rows: list[int], tract: int = 9813, **cards: object) -> dict[str, bytes]:
    """All files of a list of objects, whose first line is 2."""
    return {
        name_of(name, line, band, tract): cutout(row, number, **cards)
        for line, row in enumerate(rows, start=2)
        for number, band in enumerate(HSC.bands)
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


class Ingested:
    """What ingest makes of sources for the first ``n`` objects."""

    def __init__(
        self, *sources: Path, n: int = 12, tract: np.ndarray | None = None, survey: Survey = HSC, **keys: object
    ) -> None:
        listings = [list_source(path, survey) for path in expand_sources(sources)]
        self.index = build_index(listings, IDS[:n], RAS[:n], DECS[:n], survey, tract=tract, **keys)  # type: ignore[arg-type]
        self.partly_empty: BoolArray = np.ones(n, np.bool_)
        self.image, faults, self.notes, self.digest = read_rows(
            self.index, 0, IDS[:n], RAS[:n], DECS[:n], survey, None, self.partly_empty
        )
        self.faults: dict[int, Fault] = {fault.row: fault for fault in faults}

    def rows(self, n_px: int = 64) -> list[int]:
        """Rows whose pixels are those of their object in every band; all others must have a fault."""
        crop = slice((n_px - 64) // 2, (n_px - 64) // 2 + 64)
        right = []
        for row in range(len(self.image)):
            wanted = np.array([pixels_of(row, band, n_px)[crop, crop] for band in range(5)])
            if np.array_equal(self.image[row], wanted):
                right.append(row)
            else:
                assert row in self.faults, f"row {row} has pixels of something else"
        return right
