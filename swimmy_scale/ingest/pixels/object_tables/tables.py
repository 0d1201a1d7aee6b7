"""Object tables as sources of pixels: which files are some, which objects they hold, and reading their cutouts."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.object_ids import object_ids
from swimmy_scale.ingest.pixels.cutout_files import scale_into, zero_point_factor
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError
from swimmy_scale.ingest.pixels.object_tables import hdf5_objects
from swimmy_scale.ingest.pixels.object_tables.stamps import (
    OFF_MIDDLE_STAMP_PX,
    ZARR_BESIDE,
    Crop,
    ObjectTable,
    Stamp,
    band_places,
    crop_for,
    off_middle_px,
)
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.survey import BoolArray, FloatArray, IntArray, Survey
from swimmy_scale.method.words import counted

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")
PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
_ID_NAMES = ("objectid", "objid", "coaddobjectid")
MOST_NAMED = 20
"""Damaged files that one error names."""


@dataclass(frozen=True)
class TableFacts:
    """What is known of a file of objects before its rows are read.

    Attributes
    ----------
    n_rows : int
    bands : tuple of str
        As the file names them, of its first row; empty where it does not.
    has_masks, states_zero_point : bool
    unpacked_bytes : int
        Of a chunk, which is unpacked whole even for one row; 0 where rows are read without.
    """

    n_rows: int
    bands: tuple[str, ...]
    has_masks: bool
    states_zero_point: bool
    unpacked_bytes: int = 0


def table_form(path: str) -> str:
    """``hdf5`` or ``parquet`` by a file's first bytes, else by its name; empty for neither."""
    with Path(path).open("rb") as stream:
        magic = stream.read(8)
    name = Path(path).name.lower()
    if magic == b"\x89HDF\r\n\x1a\n" or name.endswith(HDF5_SUFFIXES):
        return "hdf5"
    return "parquet" if magic[:4] == b"PAR1" or name.endswith(PARQUET_SUFFIXES) else ""


def is_object_table(path: str) -> bool:
    """Whether a file has images with ids and positions beside them."""
    form = table_form(path)
    if form == "hdf5":
        return hdf5_objects.is_object_table(path)
    return form == "parquet" and _parquet_objects().is_object_table(path)


def _parquet_objects() -> Any:
    """The module of Parquet's tables; other workers need not load its library."""
    from swimmy_scale.ingest.pixels.object_tables import parquet_objects

    return parquet_objects


def _open_parquet(path: str) -> Any:
    """A table in Parquet, open, whose images lie in it or beside it."""
    objects = _parquet_objects()
    if objects.has_images_beside(path):
        from swimmy_scale.ingest.pixels.object_tables.cutana_objects import CutanaObjects

        return CutanaObjects(path)
    return objects.ParquetObjects(path)


def change_of(path: str) -> tuple[int, int]:
    """Size in bytes, and time of the last change in ns, of a file and of what lies beside it with its images."""
    beside = Path(path).with_name(ZARR_BESIDE)
    files = [Path(path), *(beside.rglob("*") if path.lower().endswith(PARQUET_SUFFIXES) and beside.is_dir() else ())]
    status = [file.stat() for file in files if file.is_file()]
    return sum(one.st_size for one in status), max((one.st_mtime_ns for one in status), default=0)


def is_table_name(name: bytes) -> bool:
    """Whether a file of a folder may be an object table, by its path in it.

    Names that begin with ``_`` or a dot, and those of HATS that are no partition of its data, are not.
    """
    base = name.rpartition(b"/")[2]
    of_hats = base in (b"data_thumbnail.parquet", b"point_map.fits")
    suffixes = tuple(suffix.encode() for suffix in (*HDF5_SUFFIXES, *PARQUET_SUFFIXES))
    return base.lower().endswith(suffixes) and not base.startswith((b"_", b".")) and not of_hats


@contextmanager
def open_table(path: str) -> Iterator[ObjectTable]:
    """An object table, open; SwimmyError where it cannot be opened or is none, OSError where the machine fails."""
    try:
        form = table_form(path)
    except OSError as error:
        pass_on(error, path)
        raise SwimmyError(f"{path}: {error.strerror or error}. Check the path and its permissions.") from None
    if not form:
        raise SwimmyError(f"{path}: is no HDF5 or Parquet file. Leave it out.")
    try:
        table: ObjectTable = hdf5_objects.open_hdf5(path) if form == "hdf5" else _open_parquet(path)
    except SwimmyError:
        raise
    except Exception as error:  # each library raises its own types for a damaged file
        pass_on(error, path)
        reason = " ".join(str(error).split())[:300]
        raise SwimmyError(
            f"{path}: cannot be opened as {form} ({type(error).__name__}: {reason}). Fetch the file again, or leave it "
            "out."
        ) from None
    try:
        yield table
    finally:
        table.close()


def inspect_tables(paths: Sequence[str], survey: Survey) -> tuple[TableFacts, ...]:
    """Open each file and check that it fits the survey.

    Raises
    ------
    SwimmyError
        When some cannot be opened, are cut off, or have rows of different numbers: all are named, as nobody knows which
        objects are in them. When one lacks a band of the survey, or its stamps are too small.
    """
    facts, wrong = [], []
    for path in paths:
        try:
            with open_table(path) as table:
                _check_bands(path, table, survey)
                stated = table.zero_point_mag is not None
                of_chunk = table.unpacked_bytes
                facts.append(TableFacts(table.n_rows, tuple(table.bands), table.has_masks, stated, of_chunk))
        except SwimmyError as error:
            wrong.append(str(error))
    if wrong:
        more = f"\n... and {counted(len(wrong) - MOST_NAMED, 'files')} more" if len(wrong) > MOST_NAMED else ""
        raise SwimmyError("\n".join(wrong[:MOST_NAMED]) + more)
    return tuple(facts)


def _check_bands(path: str, table: ObjectTable, survey: Survey) -> None:
    if table.n_rows and not table.bands and table.n_bands not in (None, survey.n_bands):
        raise SwimmyError(
            f"{path}: has {counted(table.n_bands or 0, 'images')} an object and does not name their bands, and survey "
            f"{survey.name!r} has {', '.join(survey.bands)}. Name the bands of the data in survey.bands, in order."
        )
    missing = [name for name, place in zip(survey.bands, band_places(table.bands, survey), strict=True) if place < 0]
    if table.n_rows and missing:
        raise SwimmyError(
            f"{path}: has the bands {', '.join(table.bands)}, and survey {survey.name!r} needs {', '.join(missing)} as "
            "well. Name the bands of the data in survey.bands, or take a survey that has them."
        )


def notes_of(paths: Sequence[str], facts: Sequence[TableFacts], survey: Survey) -> list[str]:
    """What the user should know of files that fit."""
    notes = []
    unnamed = [path for path, of_file in zip(paths, facts, strict=True) if of_file.n_rows and not of_file.bands]
    if unnamed:
        notes.append(
            f"{unnamed[0]}: nothing in {'it' if len(unnamed) == 1 else counted(len(unnamed), 'such files')} names the "
            f"bands: they are assumed to be {', '.join(survey.bands)}, in this order"
        )
    unstated = [
        path for path, of_file in zip(paths, facts, strict=True) if of_file.n_rows and not of_file.states_zero_point
    ]
    if unstated:
        notes.append(
            f"{unstated[0]}: no zero point in {'it' if len(unstated) == 1 else counted(len(unstated), 'such files')}: "
            f"{survey.assumed_zero_points} is assumed"
        )
    off = [of_file for of_file in facts if off_middle_px(of_file.bands)]
    if off:
        notes.append(
            f"objects of MultimodalUniverse's stamps of {OFF_MIDDLE_STAMP_PX} px lie "
            f"{-off_middle_px(off[0].bands):g} px before the middle on both axes, as its scripts cut them: the cutouts "
            "are taken around the objects. Those of stamps of another size are taken to lie in the middle"
        )
    empty = [path for path, of_file in zip(paths, facts, strict=True) if not of_file.n_rows]
    if empty:
        notes.append(
            f"{empty[0]}: {counted(len(empty), 'files')} of the source {'have' if len(empty) > 1 else 'has'} no row"
        )
    return notes


def ids_in(path: str, id_column: str = "object_id") -> IntArray:
    """The ids of a file's rows, int64, by `object_ids`; -1 for those that are lost."""
    with open_table(path) as table:
        return _ids(path, table, id_column)


def _ids(path: str, table: ObjectTable, id_column: str) -> IntArray:
    plain = {re.sub("[^a-z0-9]", "", name.lower()): name for name in reversed(table.names)}
    named = next((name for name in table.names if name.lower() == id_column.lower()), None)
    name = named or next((plain[name] for name in _ID_NAMES if name in plain), None)
    if name is None:
        raise SwimmyError(
            f"{path}: no column {id_column} says which objects it holds; it has {', '.join(sorted(table.names)[:12])}. "
            "Say which it is with --column object_id=NAME (catalogue.columns in a job)."
        )
    return object_ids(np.ma.asarray(table.column(name)))[0]


@dataclass
class TableRows:
    """Where what is read of rows goes; arrays of shape (n, ...).

    Attributes
    ----------
    out : ndarray of float32, axes (object, band, y, x)
        Counts at the survey's zero point.
    partly_empty, masked : ndarray of bool
        Whether pixels outside of the aperture hold no data; whether the file's mask calls one in it bad.
    faults : list of Fault
    digests : list of bytes
        SHA-256 of what was read for each object.
    """

    out: FloatArray
    partly_empty: BoolArray
    masked: BoolArray
    faults: list[Fault] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.digests = [b""] * len(self.out)


def read_table_rows(
    path: str, rows: IntArray, object_id: IntArray, id_column: str, places: IntArray, survey: Survey, into: TableRows
) -> None:
    """Read rows of one file to ``places``.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Ascending.
    object_id : ndarray of int64, shape (n,)
        The objects that these rows held when the file was listed.
    places : ndarray of int64, shape (n,)
        Of each row in the arrays of ``into``.
    """

    def fault(place: int, code: Code, reason: str, band: str = "") -> None:
        into.faults.append(Fault(place, code, band, path, reason))

    try:
        with open_table(path) as table:
            ids = _ids(path, table, id_column)
            there = rows < len(ids)
            there[there] = ids[rows[there]] == object_id[there]
            for k in np.flatnonzero(~there).tolist():
                fault(int(places[k]), Code.UNREADABLE_FILE, f"row {rows[k]} no longer holds object_id {object_id[k]}")
            crop = crop_for(survey)
            scales = [zero_point_factor(table.zero_point_mag, survey, band) for band in range(survey.n_bands)]
            for k, stamp in _wanted(table, rows, np.flatnonzero(there), crop):
                if isinstance(stamp, UnusableFileError):
                    fault(int(places[k]), stamp.code, str(stamp))
                else:
                    _take(stamp, int(places[k]), scales, survey, into, path)
    except SwimmyError as error:
        done = {one.row for one in into.faults} | {place for place, digest in enumerate(into.digests) if digest}
        for place in set(places.tolist()) - done:
            fault(place, Code.UNREADABLE_FILE, str(error))


def _wanted(
    table: ObjectTable, rows: IntArray, wanted: IntArray, crop: Crop
) -> Iterator[tuple[int, Stamp | UnusableFileError]]:
    """Places in ``rows`` and their stamps; rows that lie close together are read in one go."""
    gaps = np.flatnonzero(np.diff(rows[wanted]) > 8) + 1
    for group in np.split(wanted, gaps) if len(wanted) else []:
        lo, hi = int(rows[group[0]]), int(rows[group[-1]]) + 1
        places_of: dict[int, list[int]] = {}
        for place in group.tolist():  # an object that the catalogue has twice has one row here
            places_of.setdefault(int(rows[place]), []).append(place)
        for row, stamp in enumerate(table.stamps(lo, hi, crop), start=lo):
            yield from ((place, stamp) for place in places_of.get(row, ()))


def _take(stamp: Stamp, place: int, scales: Sequence[np.float32], survey: Survey, into: TableRows, path: str) -> None:
    """Put a stamp into its place, band by band in the survey's order."""
    digest = hashlib.sha256(np.ascontiguousarray(stamp.flux))
    if stamp.good is not None:
        digest.update(np.packbits(stamp.good).tobytes())
    into.digests[place] = digest.digest()
    for band, (name, number) in enumerate(zip(survey.bands, band_places(stamp.bands, survey), strict=True)):
        problem = _problem(stamp, number, name, survey)
        if problem is None:
            try:
                into.partly_empty[place] |= scale_into(stamp.flux[number], scales[band], into.out[place, band], survey)
            except UnusableFileError as error:
                problem = error
        if problem is not None:
            into.faults.append(Fault(place, problem.code, name, path, f"{name}: {problem}"))
        elif stamp.good is not None:
            good = stamp.good[number] if stamp.good.ndim == 3 else stamp.good
            into.masked[place] |= not bool(good[_aperture(survey)].all())


def _problem(stamp: Stamp, number: int, name: str, survey: Survey) -> UnusableFileError | None:
    """Why a band of a stamp cannot be read, by what is known before."""
    if not 0 <= number < len(stamp.flux):
        found = f"its bands are {', '.join(stamp.bands)}" if stamp.bands else f"it has {len(stamp.flux)} images"
        return UnusableFileError(Code.MISSING_BAND, f"no image of band {name}: {found}")
    if len(stamp.scale_arcsec) > number:
        scale, wanted = stamp.scale_arcsec[number], survey.pixel_scale_arcsec
        if not abs(scale / wanted - 1.0) <= survey.pixel_scale_tolerance:
            return UnusableFileError(
                Code.WRONG_PIXEL_SCALE,
                f"its pixels are {scale:.4g} arcsec, survey.pixel_scale_arcsec is {wanted:g} and pixel_scale_tolerance "
                f"{survey.pixel_scale_tolerance:g}",
            )
    return None


@functools.lru_cache(maxsize=4)
def _aperture(survey: Survey) -> BoolArray:
    return survey.aperture()
