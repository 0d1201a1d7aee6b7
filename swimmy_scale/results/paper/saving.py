"""The files of a figure or a table; the same input gives the same bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table
from matplotlib.figure import Figure

from swimmy_scale.results.style import file_bytes, label_origin
from swimmy_scale.storage.candidate_files import on_one_line
from swimmy_scale.storage.files import write_atomically

FORMAT_VERSION = 1
Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Drawn:
    """A figure with the numbers that it shows.

    Attributes
    ----------
    tables : mapping of str to columns
        By suffix of the file's name, which is empty for the main one.
    meta : mapping
        Facts about them, as JSON values.
    pixels : mapping of str to ndarray
        Images that no other file of the run has, by the name of their HDU.
    credit : str
        Whose pixels it shows, unless they are simulated.
    """

    figure: Figure
    tables: Mapping[str, Columns]
    meta: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    credit: str = ""


def save_figure(drawn: Drawn, name: str, folder: Path, meta: Mapping[str, Any]) -> list[Path]:
    """Write ``NAME.png``, ``NAME.pdf``, ``NAME.ecsv``, and further ``NAME-SUFFIX.ecsv`` and ``NAME.fits``."""
    label_origin(drawn.figure, bool(meta["simulated"]), drawn.credit)
    files = {f"{name}.{kind}": file_bytes(drawn.figure, kind) for kind in ("png", "pdf")}
    for suffix, columns in drawn.tables.items():
        files[f"{name}-{suffix}.ecsv" if suffix else f"{name}.ecsv"] = ecsv_bytes(columns, {**meta, **drawn.meta})
    if drawn.pixels:
        files[f"{name}.fits"] = fits_bytes(drawn.pixels, meta)
    return _written(folder, files)


def save_table(columns: Columns, name: str, folder: Path, meta: Mapping[str, Any]) -> list[Path]:
    """Write ``NAME.ecsv`` and ``NAME.csv``."""
    return _written(folder, {f"{name}.ecsv": ecsv_bytes(columns, meta), f"{name}.csv": csv_bytes(columns)})


def _written(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    for file, data in files.items():
        write_atomically(folder / file, data)
    return [folder / file for file in files]


def by_band(bands: Sequence[str], **values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Columns ``NAME_BAND`` of arrays of shape (n, band), those of the first band first."""
    return {f"{name}_{band}": array[:, k] for k, band in enumerate(bands) for name, array in values.items()}


def joined(parts: Sequence[Columns]) -> dict[str, npt.NDArray[Any]]:
    """The rows of tables with the same columns, one below the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ecsv_bytes(columns: Columns, meta: Mapping[str, Any]) -> bytes:
    """An ECSV table with ``format_version`` and other facts in its head."""
    table = Table({name: on_one_line(np.asarray(values)) for name, values in columns.items()}, copy=False)
    table.meta.update({"format_version": FORMAT_VERSION, **plain(meta)})
    stream = io.StringIO(newline="")
    table.write(stream, format="ascii.ecsv")
    return stream.getvalue().encode()


def csv_bytes(columns: Columns) -> bytes:
    """A plain CSV table; unknown numbers are empty."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*(np.asarray(values) for values in columns.values()), strict=True):
        writer.writerow("" if isinstance(value, np.floating) and np.isnan(value) else value for value in row)
    return stream.getvalue().encode()


def fits_bytes(pixels: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> bytes:
    """Images as HDUs of one FITS file."""
    primary = fits.PrimaryHDU()
    primary.header["FORMATV"] = (FORMAT_VERSION, "format version")
    primary.header["SIMULATE"] = (bool(meta.get("simulated", False)), "simulated")
    hdus = [fits.ImageHDU(np.ascontiguousarray(values), name=name) for name, values in pixels.items()]
    stream = io.BytesIO()
    fits.HDUList([primary, *hdus]).writeto(stream)
    return stream.getvalue()


def plain(value: Any) -> Any:
    """A value in Python's own types; NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and np.isnan(value) else value
