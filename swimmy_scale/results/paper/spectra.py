"""SDSS spectra of a run's objects, stacked: figure 15."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import DoubleArray, IntArray
from swimmy_scale.results.paper.drawing.stacks import MAX_EXAMPLES, BandSpectra, stacked_spectra
from swimmy_scale.results.paper.relations import MOST_ANOMALOUS
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.saving import Drawn, by_band
from swimmy_scale.results.paper.stacking import (
    CONTINUUM_WINDOW,
    LINE_WINDOWS,
    How,
    Spectrum,
    equivalent_width,
    good_pixels,
    rest_grid,
    stack,
    to_rest_frame,
)

MAX_UNSELECTED = 1_000
"""About this many spectra of unselected objects are stacked: every k-th of a larger number."""


def spectrum_name(plate: int, mjd: int, fiber: int) -> str:
    """Name of an SDSS spectrum's file."""
    return f"spec-{plate:04d}-{mjd:05d}-{fiber:04d}.fits"


def read_spectrum(path: Path, redshift: float | None = None) -> Spectrum:
    """An SDSS spectrum from its COADD table; if no redshift is given, it is that of SPECOBJ.

    The pipeline's line fits (SPZLINE) are not read: in broad-line quasars they are differences of huge numbers.

    Raises
    ------
    SwimmyError
        When the file is not such a spectrum.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            coadd = hdus["COADD"].data
            flux, ivar, mask = (np.asarray(coadd[name]) for name in ("flux", "ivar", "and_mask"))
            wavelength = 10.0 ** np.asarray(coadd["loglam"], np.float64)
            z = float(hdus["SPECOBJ"].data["Z"][0]) if redshift is None else redshift
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise SwimmyError(f"{path}: not a readable SDSS spectrum ({error}). Remove it, or fetch it again.") from error
    if wavelength.size < 2 or not (np.diff(wavelength) > 0).all():
        raise SwimmyError(f"{path}: its wavelengths are not ascending. Remove it, or fetch it again.")
    good = good_pixels(flux, ivar, mask)
    clean = np.where(good, flux, 0.0).astype(np.float64)
    return Spectrum(wavelength, clean, np.where(good, ivar, 0.0).astype(np.float64), good, z)


def stacked(run: RunData, folder: Path | None, how: How = "median") -> Drawn:
    """Figure 15: stacks of the most anomalous objects of each band, and of the objects that no band selects."""
    files, rows = _files(run, folder)
    grid = rest_grid()
    flux, ivar, skipped = _rest_frames(run, files, rows, grid)
    known = np.isfinite(flux).any(axis=1)
    rows, flux, ivar = rows[known], flux[known], ivar[known]
    top, selected = run.candidate(MOST_ANOMALOUS)[rows], run.selected[rows].any(axis=1)
    unselected = stack(flux[~selected], ivar[~selected], how)
    bands = run.survey.selecting_bands
    n_unselected = int((~selected).sum())
    parts = []
    for k, chosen in enumerate(top.T):
        highest = np.flatnonzero(chosen)[run.order_by_score(rows[chosen], k)][:MAX_EXAMPLES]
        found = stack(flux[chosen], ivar[chosen], how)
        parts.append(BandSpectra(found, unselected, int(chosen.sum()), n_unselected, flux[highest]))
    columns: dict[str, Any] = {"wavelength": grid}
    for name, item in (*zip(bands, (part.selected for part in parts), strict=True), ("unselected", unselected)):
        values = {"flux": item.flux, "flux_p16": item.low, "flux_p84": item.high, "n_spectra": item.n_spectra}
        columns |= {f"{key}_{name}": array for key, array in values.items()}
    objects: dict[str, Any] = {"object_id": run.object_id[rows], "redshift": run.redshift[rows]}
    objects |= by_band(bands, **{f"selected_{MOST_ANOMALOUS}": top})
    objects["selected"] = selected
    for name, window in LINE_WINDOWS.items():
        objects[f"ew_rest_{name}"] = np.array([equivalent_width(grid, item, window) for item in flux])
    meta = {
        "how": how,
        "continuum_window_angstrom": list(CONTINUUM_WINDOW),
        "n_selected": {band: part.n_selected for band, part in zip(bands, parts, strict=True)},
        "n_unselected": n_unselected,
        "skipped": skipped,
    }
    figure = stacked_spectra(grid, parts, bands, MOST_ANOMALOUS)
    return Drawn(figure, {"": columns, "objects": objects}, meta)


def _files(run: RunData, folder: Path | None) -> tuple[list[Path], IntArray]:
    """The spectra found for the objects to stack, and the rows of these objects."""
    plate, mjd, fiber = (run.counterpart(name).astype(np.int64) for name in ("plate", "mjd", "fiberid"))
    if folder is None:
        raise MissingError(
            f"{run.directory}: this needs SDSS spectra, spec-PLATE-MJD-FIBER.fits. Give --spectra FOLDER."
        )
    if not folder.is_dir():
        raise SwimmyError(f"{folder}: not there. Correct --spectra.")
    there = {path.name: path for path in folder.rglob("spec-*.fits")}
    has_name = run.in_sample & (plate >= 0) & (mjd >= 0) & (fiber >= 0) & np.isfinite(run.redshift)
    top = run.candidate(MOST_ANOMALOUS).any(axis=1)
    found: list[tuple[int, Path]] = []
    for members, limit in ((top, has_name.size), (~run.selected.any(axis=1), MAX_UNSELECTED)):
        rows = np.flatnonzero(has_name & members)
        names = {int(row): spectrum_name(plate[row], mjd[row], fiber[row]) for row in rows}
        files = [(row, there[name]) for row, name in names.items() if name in there]
        found += files[:: max(-(-len(files) // limit), 1)]
    if not found:
        raise MissingError(
            f"{folder}: none of its {len(there)} spectra is of an object of the sample that is selected at "
            f"{MOST_ANOMALOUS} or not at all. Fetch those that plate, mjd and fiberid in "
            f"{run.counterparts_path} name."
        )
    return [path for _, path in found], np.array([row for row, _ in found], np.int64)


def _rest_frames(
    run: RunData, files: list[Path], rows: IntArray, grid: DoubleArray
) -> tuple[DoubleArray, DoubleArray, dict[str, str]]:
    """Normalised spectra on the grid and their ivar, float64 (file, pixel), and why others cannot be used, by name."""
    flux, ivar = np.full((len(files), grid.size), np.nan), np.zeros((len(files), grid.size))
    skipped: dict[str, str] = {}
    for number, (path, row) in enumerate(zip(files, rows.tolist(), strict=True)):
        try:
            flux[number], ivar[number] = to_rest_frame(read_spectrum(path, float(run.redshift[row])), grid)
        except SwimmyError as error:
            skipped[path.name] = str(error)
    if len(skipped) == len(files):
        name, reason = next(iter(skipped.items()))
        raise SwimmyError(f"none of {len(files)} spectra can be used; {name}: {reason}")
    return flux, ivar, skipped
