"""An existing cube of cutouts in Zarr, HDF5 or .npy, axes (object, band, y, x); row i is the catalogue's row i."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.cube_objects import check_objects
from swimmy_scale.ingest.pixels.cutout_files import scale_into, zero_point_factor
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, whatever_it_raises
from swimmy_scale.ingest.pixels.flux_units import AGREEMENT_MAG, zero_point_of_unit
from swimmy_scale.ingest.pixels.zarr_chunks import check_whole
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, Survey

WRITE_AGAIN = "Write it again."
ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


@dataclass(frozen=True)
class Cube:
    """A cube, as far as it must be known to read its rows.

    Attributes
    ----------
    form : str
        ``zarr``, ``hdf5`` or ``npy``.
    dataset : str
        Name of the array in its group or file; empty for an array alone.
    shape : tuple of int
        (object, band, y, x).
    zero_point_mag : float or None
        The array's attribute of that name.
    state : str
        SHA-256 in hex over the names, sizes and times of change of the cube's files.
    unpacked_bytes : int
        Of a chunk, as `unpacked_bytes_of` says.
    """

    path: str
    form: str
    dataset: str
    shape: tuple[int, int, int, int]
    zero_point_mag: float | None
    state: str
    unpacked_bytes: int = 0


def cube_form(path: str) -> str:
    """``zarr``, ``hdf5`` or ``npy`` if the name or first bytes are those of a cube, else empty."""
    where = Path(path)
    if where.is_dir():
        return "zarr" if any((where / mark).is_file() for mark in ZARR_MARKS) else ""
    with where.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith(b"\x93NUMPY") or where.suffix == ".npy":
        return "npy"
    if magic == b"\x89HDF\r\n\x1a\n" or where.suffix.lower() in HDF5_SUFFIXES:
        return "hdf5"
    return ""


def inspect_cube(path: str, form: str, survey: Survey) -> Cube:
    """Read a cube's metadata and check that it fits the survey.

    Raises
    ------
    SwimmyError
        When it cannot be opened, has no 4-D array of numbers or several without one called image, its axes are not
        (object, band, y, x), its bands are not the survey's, or its cutouts are smaller than ``cutout_size_px``.
    """
    with _open(path, form) as node:
        arrays = _datasets(node)
        four_d = sorted(name for name, array in arrays.items() if array.ndim == 4)
        name = "image" if "image" in four_d else (four_d[0] if len(four_d) == 1 else None)
        if name is None:
            found = ", ".join(f"{key or 'array'} {array.shape}" for key, array in sorted(arrays.items())) or "nothing"
            raise SwimmyError(
                f"cube {path}: needs one array of axes (object, band, y, x), called image if there are several; "
                f"it has {found}. Rename or reshape one."
            )
        array = arrays[name]
        _check_axes(path, array, survey)
        _check_bands(path, arrays, survey)
        attributes = dict(getattr(array, "attrs", {}))
        zero_point_mag = zero_point_of_attributes(path, attributes)
        _check_pixel_scale(path, attributes, survey)
        n_objects, n_bands, n_y, n_x = map(int, array.shape)
        of_chunk = unpacked_bytes_of(array)
    return Cube(path, form, name, (n_objects, n_bands, n_y, n_x), zero_point_mag, _state(path), of_chunk)


def unpacked_bytes_of(array: Any) -> int:
    """Size of a chunk of an array in Zarr or HDF5, which is unpacked whole even for one row; 0 without chunks."""
    chunks = getattr(array, "chunks", None)
    is_plain = isinstance(array, h5py.Dataset) and not array.id.get_create_plist().get_nfilters()
    return 0 if chunks is None or is_plain else math.prod(chunks) * int(array.dtype.itemsize)


def check_rows(cube: Cube, object_id: IntArray, ra: DoubleArray, dec: DoubleArray) -> list[str]:
    """Check that a cube has as many rows as the catalogue, and its objects (see `cube_objects.check_objects`)."""
    if cube.shape[0] != len(object_id):
        raise SwimmyError(
            f"cube {cube.path}: {cube.shape[0]} objects for {len(object_id)} rows of the catalogue; row i of one must "
            "be row i of the other. Give the catalogue that the cube was made from."
        )
    with _open(cube.path, cube.form) as node:
        return check_objects(cube.path, node, object_id, ra, dec)


def read_cube(
    cube: Cube, lo: int, n_rows: int, survey: Survey, out: FloatArray, partly_empty: BoolArray
) -> tuple[list[Fault], list[bytes]]:
    """Read rows of a cube, cut around their middle to the survey's size.

    Parameters
    ----------
    lo, n_rows : int
        First row, and how many.
    out : ndarray of float32, shape (n_rows, n_bands, cutout_size_px, cutout_size_px)
        Receives counts at the survey's zero point.
    partly_empty : ndarray of bool, shape (n_rows,)
        Receives True where pixels outside of the central aperture hold no data.

    Returns
    -------
    faults : list of Fault
        NOT_FINITE_PIXELS and NO_DATA, one a band; UNREADABLE_FILE where a row's chunk is damaged or missing. Their
        rows count from ``lo``.
    digests : list of bytes, one for each row
        SHA-256 of the row's pixels; empty for an unreadable row.
    """
    size = survey.cutout_size_px
    y, x = ((length - size) // 2 for length in cube.shape[2:])
    scales = [zero_point_factor(cube.zero_point_mag, survey, band) for band in range(survey.n_bands)]
    faults: list[Fault] = []
    digests = [b""] * n_rows
    with _open(cube.path, cube.form) as node:
        for row, pixels in enumerate(_rows(_datasets(node)[cube.dataset], lo, n_rows)):
            if isinstance(pixels, Exception):
                reason = f"row {row} cannot be read: {type(pixels).__name__}: {pixels}"
                faults.append(Fault(row, Code.UNREADABLE_FILE, "", cube.path, reason))
                continue
            digests[row] = hashlib.sha256(np.ascontiguousarray(pixels)).digest()
            for band, plane in enumerate(pixels[:, y : y + size, x : x + size]):
                try:
                    with whatever_it_raises():
                        partly_empty[row] |= scale_into(plane, scales[band], out[row, band], survey)
                except UnusableFileError as error:
                    faults.append(
                        Fault(row, error.code, survey.bands[band], cube.path, f"{survey.bands[band]}: {error}")
                    )
    return faults, digests


@contextmanager
def _open(path: str, form: str) -> Iterator[Any]:
    """The Zarr node, HDF5 file or mapped array."""
    with ExitStack() as stack:
        try:
            if form == "zarr":
                node: Any = zarr.open(path, mode="r")
            elif form == "hdf5":
                node = stack.enter_context(h5py.File(path, "r"))
                # A damaged list of what is in it is only seen when it is read.
                list(node.items())
            else:
                node = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # each library raises its own types for a damaged file
            if _remedy(error) == WRITE_AGAIN:
                pass_on(error, path)
            raise SwimmyError(
                f"cube {path}: cannot be opened as {form} ({type(error).__name__}: {error}). {_remedy(error)}"
            ) from None
        yield node


def _remedy(error: Exception) -> str:
    """What to do about a cube that cannot be opened."""
    said = str(error)
    if isinstance(error, BlockingIOError):
        return "Another program has it open for writing: wait until it has closed the file."
    if "lock" in said and "No locks available" in said:
        return "The file system has no locks: set HDF5_USE_FILE_LOCKING=FALSE."
    if "h5clear" in said:
        return "A program that wrote it has not closed it: if none does any more, run `h5clear -s` on the file."
    if isinstance(error, PermissionError):
        return "Check its permissions."
    return WRITE_AGAIN


def _datasets(node: Any) -> dict[str, Any]:
    """Arrays at the top level of a group, by name; an array alone has the empty name."""
    # By default a missing chunk of Zarr's is read as its fill value.
    if isinstance(node, zarr.Group):
        return {str(name): array.with_config({"read_missing_chunks": False}) for name, array in node.arrays()}
    if isinstance(node, zarr.Array):
        return {"": node.with_config({"read_missing_chunks": False})}
    if isinstance(node, h5py.File):
        return {str(name): item for name, item in node.items() if isinstance(item, h5py.Dataset)}
    return {"": node}


def _check_axes(path: str, array: Any, survey: Survey) -> None:
    shape, size, n_bands = array.shape, survey.cutout_size_px, survey.n_bands
    if np.dtype(array.dtype).kind not in "fiu":
        raise SwimmyError(f"cube {path}: holds {array.dtype}, not numbers. Write it as float32.")
    if shape[1] != n_bands:
        remedy = f"Its second axis must be the {n_bands} bands {survey.bands}; name the cube's own bands in the job."
        if shape[3] == n_bands:
            remedy = "The bands come last: write numpy.moveaxis(image, -1, 1)."
        elif shape[0] == n_bands:
            remedy = "The bands come first: write numpy.moveaxis(image, 0, 1)."
        raise SwimmyError(f"cube {path}: shape {shape} is not (object, band, y, x). {remedy}")
    if min(shape[2:]) < size:
        raise SwimmyError(
            f"cube {path}: cutouts of {shape[3]} x {shape[2]} px (x, y) are smaller than the {size} x {size} px that "
            f"survey {survey.name!r} needs. Cut them larger."
        )


def zero_point_of_attributes(path: str, attributes: dict[str, Any]) -> float | None:
    """AB zero point by the attributes zero_point_mag, and units or BUNIT; None where there is none."""
    stated = attributes.get("zero_point_mag")
    try:
        zero_point_mag = None if stated is None else float(stated)
    except (TypeError, ValueError):
        zero_point_mag = float("nan")
    if zero_point_mag is not None and not abs(zero_point_mag) <= 60:
        raise SwimmyError(f"cube {path}: zero_point_mag {stated!r} is not a zero point. Correct the attribute.")
    unit = next((attributes[name] for name in ("units", "unit", "BUNIT") if name in attributes), "")
    try:
        by_unit = zero_point_of_unit(
            str(unit.decode() if isinstance(unit, bytes) else unit), zero_point_mag is not None
        )
    except UnusableFileError as error:
        raise SwimmyError(f"cube {path}: {error}.") from None
    if by_unit is not None and zero_point_mag is not None and abs(by_unit - zero_point_mag) > AGREEMENT_MAG:
        raise SwimmyError(
            f"cube {path}: its unit {unit!r} has the zero point {by_unit:.3f} mag, zero_point_mag is {zero_point_mag}. "
            "Correct the attribute that does not hold."
        )
    return by_unit if zero_point_mag is None else zero_point_mag


def _check_pixel_scale(path: str, attributes: dict[str, Any], survey: Survey) -> None:
    stated = attributes.get("pixel_scale_arcsec")
    if stated is not None and not abs(float(stated) / survey.pixel_scale_arcsec - 1.0) <= survey.pixel_scale_tolerance:
        raise SwimmyError(
            f"cube {path}: pixel_scale_arcsec is {stated}, the survey's is {survey.pixel_scale_arcsec}. Set the "
            "survey's in the job to the cube's."
        )


def _check_bands(path: str, arrays: dict[str, Any], survey: Survey) -> None:
    band = arrays.get("band")
    if band is None or band.ndim != 1:
        return
    names = tuple(item.decode() if isinstance(item, bytes) else str(item) for item in np.asarray(band[...]).tolist())
    if names != survey.bands:
        raise SwimmyError(
            f"cube {path}: its bands are {names}, the survey's are {survey.bands}. Name the job's bands in its order."
        )


def _state(path: str) -> str:
    where = Path(path)
    files = [where]
    if where.is_dir():
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SwimmyError(f"cube {path}: {file} is not a plain file. Write the cube again, or remove it.")
        name = os.fsencode(os.path.relpath(file, where))
        digest.update(b"%s\0%d %d\n" % (name, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def _rows(array: Any, lo: int, n_rows: int) -> Iterator[AnyArray | Exception]:
    """Rows from ``lo`` on, read in blocks of about 64 MiB; where a block fails, row by row, with the error in place."""
    step = max(1, 2**26 // max(math.prod(array.shape[1:]) * array.dtype.itemsize, 1))
    for first in range(lo, lo + n_rows, step):
        last = min(first + step, lo + n_rows)
        try:
            check_whole(array, first, last)
            rows: list[AnyArray | Exception] = list(np.asarray(array[first:last]))
        except Exception as error:  # each library raises its own types for a damaged chunk
            pass_on(error)
            rows = [_row(array, row) for row in range(first, last)]
        yield from rows


def _row(array: Any, row: int) -> AnyArray | Exception:
    try:
        check_whole(array, row, row + 1)
        return np.asarray(array[row])
    except Exception as error:  # as above
        pass_on(error)
        return error
