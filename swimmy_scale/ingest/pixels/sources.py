"""Where pixels come from: the one entry point to archive cutouts, coadd images and existing cubes.

`list_source` and `expand_sources` find out what the sources hold, `build_index` (in `index`) joins that to the
catalogue, and `read_rows` reads the pixels of an index's rows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels import coadd, cube
from swimmy_scale.ingest.pixels.contents import contents
from swimmy_scale.ingest.pixels.cutout_files import Found, read_cutout
from swimmy_scale.ingest.pixels.file_names import ALL_BANDS, has_fits_suffix, parse_names
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, whatever_it_raises
from swimmy_scale.ingest.pixels.flux_units import ZERO_POINT_CARDS
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns
from swimmy_scale.ingest.pixels.index import NO_COADD_OF_BAND, NO_FILE, Index, build_index
from swimmy_scale.ingest.pixels.listing import (
    Listing,
    is_fits,
    is_tar_name,
    list_folder,
    list_tar,
    make_listing,
    tar_form,
)
from swimmy_scale.ingest.pixels.object_tables.tables import (
    TableRows,
    change_of,
    inspect_tables,
    is_object_table,
    is_table_name,
    read_table_rows,
)
from swimmy_scale.ingest.pixels.spares import read_best
from swimmy_scale.ingest.pixels.table_index import table_paths
from swimmy_scale.method.quarantine import Code, Fault, merge_faults
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, IntArray, Survey

__all__ = [
    "KINDS",
    "Index",
    "Listing",
    "build_index",
    "expand_sources",
    "file_faults",
    "list_source",
    "read_rows",
    "tables_of",
]

KINDS = ("auto", "cutouts", "coadd", "cube", "table")


def expand_sources(paths: Sequence[str | Path]) -> list[str]:
    """The sources, and after each folder the tars that lie anywhere in it, in order of name.

    Returns
    -------
    list of str
        For `list_source`, one after the other. A folder's own listing leaves its tars out.
    """
    expanded = []
    for path in paths:
        expanded.append(str(path))
        if Path(path).is_dir() and not cube.cube_form(str(path)):
            expanded += sorted(str(item) for item in Path(path).rglob("*") if is_tar_name(item.name))
    return expanded


def list_source(path: str | Path, survey: Survey, kind: str = "auto", band: str | None = None) -> Listing:
    """Find out what one source holds, reading no pixels.

    Parameters
    ----------
    path : str or Path
        A folder, tar, FITS file, cube or object table.
    kind : {'auto', 'cutouts', 'coadd', 'cube', 'table'}
        What it is. ``auto`` decides:

        1. an HDF5 or Parquet file whose rows have images, object_ids and positions is an object *table*, and so is a
           folder with such files in it, at any depth, and with no FITS files;
        2. a folder with ``zarr.json``, ``.zarray`` or ``.zgroup`` in it, and a file that is HDF5 or .npy by its first
           bytes or its name, is a *cube*;
        3. any other folder, and a tar or gzipped tar, holds *cutouts*;
        4. a single FITS file whose name says which object it shows (see `file_names.parse_names`) is a *cutout*;
        5. any other single FITS file is a *coadd*, and so must have a WCS.

        A folder of coadds needs ``coadd``.
    band : str, optional
        Band of a coadd whose FILTER card and name do not tell it.

    Raises
    ------
    SwimmyError
        When the source does not exist or is none of these, or a coadd or cube does not fit the survey.
    """
    if kind not in KINDS:
        raise SwimmyError(f"source {path}: kind {kind!r} is not one of {KINDS}. Choose one of those.")
    where = os.path.abspath(path)  # noqa: PTH100  (Path.absolute would keep '..')
    try:
        return _list(where, survey, kind, band)
    except OSError as error:
        raise SwimmyError(f"source {path}: {error.strerror or error}. Check the path and its permissions.") from error


def read_rows(
    index: Index,
    lo: int,
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    out: FloatArray | None = None,
    partly_empty: BoolArray | None = None,
    masked: BoolArray | None = None,
    fwhm_arcsec: FloatArray | None = None,
) -> tuple[FloatArray, list[Fault], list[str], str]:
    """Read the pixels of all rows of an index.

    Parameters
    ----------
    index : Index
        Of these rows alone: ``index.slice(lo, hi)``.
    lo : int
        Catalogue row of the first.
    object_id, ra, dec : ndarray of int64, float64, float64, shape (n,)
        Of these rows; ICRS, degrees.
    out : ndarray of float32, shape (n, n_bands, cutout_size_px, cutout_size_px), optional
        Array to write into.
    partly_empty : ndarray of bool, shape (n,), optional
        Receives whether pixels of an object outside of the central aperture hold no data.
    masked : ndarray of bool, shape (n,), optional
        Receives whether a mask that comes with the pixels calls one in the central aperture bad, in any band.
    fwhm_arcsec : ndarray of float32, shape (n, n_bands), optional
        Receives the FWHM of the PSF that files hold, if ``index.reads_psf``; NaN where there is none.

    Returns
    -------
    image : ndarray of float32, axes (object, band, y, x)
        Counts at the survey's zero point: as delivered, times 10**(0.4 (survey - file)) where a file states another
        zero point. All NaN for an object with a fault, finite for every other.
    faults : list of Fault
        One for each object at fault, rows counted from the catalogue's start.
    warnings : list of str
        What the user should know of the files that were read.
    digest : str
        SHA-256 in hex over the SHA-256 of each object's and band's bytes, in order of row and band.

    Raises
    ------
    SwimmyError
        When a cube cannot be opened. Cutouts and coadds that cannot be read are faults.
    """
    shape = (len(index), survey.n_bands, survey.cutout_size_px, survey.cutout_size_px)
    if lo != index.first_row or not len(index) == len(object_id) == len(ra) == len(dec):
        raise ValueError(
            f"row {lo} and {len(object_id)} objects for an index of {len(index)} rows from {index.first_row}"
        )
    if out is None:
        out = np.empty(shape, np.float32)
    if out.shape != shape or out.dtype != np.float32:
        raise ValueError(f"out is {out.dtype} of shape {out.shape}, float32 of {shape} is needed")
    out[...] = np.nan
    empty = np.zeros(len(index), np.bool_) if partly_empty is None else partly_empty
    empty[...] = False
    bad = np.zeros(len(index), np.bool_) if masked is None else masked
    bad[...] = False
    warnings: list[str] = []
    if index.cube is not None:
        faults, digests = cube.read_cube(index.cube, lo, len(index), survey, out, empty)
    elif index.kind == "table":
        faults, digests = _read_tables(index, object_id, survey, TableRows(out, empty, bad))
        faults += _missing_bands(index, survey, NO_FILE, "row of the object tables")
    else:
        widths = np.empty(index.file.shape, np.float32) if fwhm_arcsec is None else fwhm_arcsec
        faults, warnings, digests = _read_files(index, ra, dec, survey, out, empty, bad, widths)
        if index.kind == "coadd":
            faults += _missing_bands(index, survey, NO_COADD_OF_BAND, "coadd") + _without_coadd(index, ra, dec, survey)
        else:
            faults += _missing_bands(index, survey, NO_FILE, "file")
    faults = [replace(fault, row=lo + fault.row) for fault in merge_faults(faults)]
    for fault in faults:
        out[fault.row - lo] = np.nan
    digest = hashlib.sha256(b"".join(item or bytes(32) for item in digests))
    return out, faults, warnings, digest.hexdigest()


def file_faults(index: Index, ra: DoubleArray, dec: DoubleArray, survey: Survey) -> list[Fault]:
    """What is wrong with the cutout files of each object and band; for an index of cutouts, or a slice of one.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees, of its rows.

    Returns
    -------
    list of Fault
        One for each object and band without usable pixels, in this order, rows counted from the catalogue's start:
        MISSING_BAND where there is no file, else why the best of its files cannot be used.
    """
    pixels = np.empty((len(index), survey.n_bands, survey.cutout_size_px, survey.cutout_size_px), np.float32)
    widths = np.empty(index.file.shape, np.float32)
    empty, masked = np.zeros((2, len(index)), np.bool_)
    faults, _, _ = _read_files(index, ra, dec, survey, pixels, empty, masked, widths)
    faults += [
        Fault(row, Code.MISSING_BAND, survey.bands[band], "", f"{survey.bands[band]}: no file")
        for row, band in np.argwhere(index.file == NO_FILE).tolist()
    ]
    faults.sort(key=lambda fault: (fault.row, survey.bands.index(fault.band)))
    return [replace(fault, row=index.first_row + fault.row) for fault in faults]


# ---- listing


def _list(path: str, survey: Survey, kind: str, band: str | None) -> Listing:
    is_folder = Path(path).is_dir()
    if not is_folder and not Path(path).is_file():
        raise SwimmyError(f"source {path}: there is no such file or folder. Check the path.")
    if kind == "table" or (kind == "auto" and not is_folder and is_object_table(path)):
        return _as_tables(path, survey)
    form = cube.cube_form(path)
    if kind == "cube" or (kind == "auto" and form):
        if not form:
            raise SwimmyError(f"source {path}: is no Zarr store, HDF5 or .npy file. Write the cube as one of these.")
        empty = make_listing("cube", path, "", [], [])
        return replace(empty, cube=cube.inspect_cube(path, form, survey))
    if is_folder:
        listing = list_folder(path)
        if kind == "auto" and _holds_tables(listing):
            return _as_tables(path, survey)
        return _as_coadds(listing, survey, band) if kind == "coadd" else listing
    packed = tar_form(path)
    if packed:
        if kind == "coadd":
            raise SwimmyError(f"source {path}: coadds are not read from a tar. Unpack it.")
        return list_tar(path, packed)
    status = Path(path).stat()
    file = (os.fsencode(Path(path).name), 0, status.st_size, status.st_mtime_ns)
    listing = make_listing("cutouts", str(Path(path).parent), "", [file], [])
    if kind == "coadd" or (kind == "auto" and is_fits(path) and _names_no_object(listing, survey)):
        return _as_coadds(listing, survey, band)
    if kind == "auto" and not is_fits(path):
        raise SwimmyError(
            f"source {path}: is no folder, tar, FITS file or cube (Zarr, HDF5, .npy). {_how_to_convert(path)}"
        )
    return listing


def _holds_tables(listing: Listing) -> bool:
    """Whether a folder has object tables in it, and no FITS files."""
    names = listing.files["name"].tolist()
    if any(has_fits_suffix(os.fsdecode(name)) for name in names):
        return False
    return any(is_object_table(str(Path(listing.path, os.fsdecode(name)))) for name in names if is_table_name(name))


def _as_tables(path: str, survey: Survey) -> Listing:
    """The object tables of a source, whose metadata are read here."""
    where = Path(path)
    if where.is_dir():
        listing = list_folder(path)
        listing = replace(
            listing, files=listing.files[[is_table_name(name) for name in listing.files["name"].tolist()]]
        )
    else:
        status = where.stat()
        file = (os.fsencode(where.name), 0, status.st_size, status.st_mtime_ns)
        listing = make_listing("table", str(where.parent), "", [file], [])
    if not len(listing.files):
        raise SwimmyError(f"source {path}: holds no HDF5 or Parquet file. Give the folder with the object tables.")
    paths = table_paths(listing)
    listing = replace(listing, kind="table", tables=inspect_tables(paths, survey))
    for place, one in enumerate(paths):
        listing.files["size"][place], listing.files["mtime_ns"][place] = change_of(one)
    return listing


def tables_of(paths: Sequence[str | Path], kind: str = "auto") -> list[Path]:
    """The object tables that sources are, or hold; none where they are of another kind.

    Raises
    ------
    SwimmyError
        When a source does not exist.
    """
    found: list[Path] = []
    for path in paths:
        where = Path(os.path.abspath(path))  # noqa: PTH100  (Path.absolute would keep '..')
        if where.is_dir():
            listing = list_folder(str(where))
            if kind == "table" or (not cube.cube_form(str(where)) and _holds_tables(listing)):
                found += [where / os.fsdecode(n) for n in listing.files["name"].tolist() if is_table_name(n)]
        elif not where.is_file():
            raise SwimmyError(f"source {path}: there is no such file or folder. Check the path.")
        elif kind == "table" or is_object_table(str(where)):
            found.append(where)
    return found


def _how_to_convert(path: str) -> str:
    """What to do with a file that is no source."""
    with Path(path).open("rb") as stream:
        is_zip = stream.read(4) == b"PK\x03\x04"
    if is_zip and path.lower().endswith(".npz"):
        return "Write the array in this .npz to HDF5 or Zarr, with its object_id, or to .npy."
    if is_zip:
        return "Unpack this zip, and give the folder."
    return "Convert it to one of these."


def _names_no_object(listing: Listing, survey: Survey) -> bool:
    """Whether the name of the first file tells no object."""
    claims = parse_names(listing.files["name"], survey)
    # One with a position alone may as well be a coadd.
    return bool(
        claims.band[0] == ALL_BANDS or ((claims.line[0] < 0) and (claims.object_id[0] < 0) and np.isnan(claims.ra[0]))
    )


def _as_coadds(listing: Listing, survey: Survey, band: str | None) -> Listing:
    """The FITS files of a listing as coadds, whose headers are read here."""
    names = [os.fsdecode(name) for name in listing.files["name"].tolist()]
    keep = [i for i, name in enumerate(names) if has_fits_suffix(name)]
    if not keep and len(names) == 1:
        keep = [0]
    if not keep:
        raise SwimmyError(f"source {listing.path}: holds no FITS file. Give the folder with the coadd images.")
    coadds = tuple(coadd.inspect_coadd(str(Path(listing.path, names[i])), survey, band) for i in keep)
    return replace(listing, kind="coadd", files=listing.files[keep], coadds=coadds)


# ---- reading


def _missing_bands(index: Index, survey: Survey, absent: int, what: str) -> list[Fault]:
    """MISSING_BAND for each object with bands that are ``absent`` in ``index.file``."""
    faults = []
    for row in np.flatnonzero((index.file == absent).any(axis=1)).tolist():
        bands = [survey.bands[i] for i in np.flatnonzero(index.file[row] == absent)]
        named = bands[0] if len(bands) == 1 else ""
        plural = "s" if len(bands) > 1 else ""
        faults.append(Fault(row, Code.MISSING_BAND, named, "", f"no {what} for band{plural} {', '.join(bands)}"))
    return faults


def _read_files(
    index: Index,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    out: FloatArray,
    partly_empty: BoolArray,
    masked: BoolArray,
    fwhm_arcsec: FloatArray,
) -> tuple[list[Fault], list[str], list[bytes]]:
    """Faults, warnings, and the SHA-256 of what was read for each object and band, empty where nothing was."""
    read = _read_cutouts if index.kind == "cutouts" else _read_coadds
    taken = read_best(index, partial(read, index, ra, dec, survey), out)
    faults = []
    unstated = set()
    without_psf, without_mask = [], []
    fwhm_arcsec[...] = np.nan
    digests = [b""] * index.file.size
    for cell, found in enumerate(taken.found):
        row, band = divmod(cell, survey.n_bands)
        if found is None:
            continue
        file, name = int(taken.file[row, band]), survey.bands[band]
        digests[cell] = found.digest
        partly_empty[row] |= found.partly_empty
        masked[row] |= found.masked
        fwhm_arcsec[row, band] = found.fwhm_arcsec
        without_psf += [(file, found.psf_fault)] if found.psf_fault else []
        without_mask += [(file, found.mask_unused)] if found.mask_unused else []
        if found.error is not None:
            faults.append(Fault(row, found.error.code, name, index.describe(file), f"{name}: {found.error}"))
        elif not found.states_zero_point:
            unstated.add(file)
    warnings = taken.notes
    for what, unused in (("PSF", without_psf), ("mask", without_mask)):
        if unused:
            file, reason = min(unused)
            warnings.append(f"{len(unused)} files have a {what} that is not used; {index.describe(file)}: {reason}")
    if unstated:
        warnings.append(
            f"{len(unstated)} files state no zero point ({', '.join(ZERO_POINT_CARDS)}): "
            f"{survey.assumed_zero_points} is assumed; the first is {index.describe(min(unstated))}"
        )
    return faults, warnings, digests


def _read_tables(index: Index, object_id: IntArray, survey: Survey, into: TableRows) -> tuple[list[Fault], list[bytes]]:
    """Faults, and the SHA-256 of what was read for each object, from object tables, one file after the other."""
    for file in np.unique(index.file[:, 0][index.file[:, 0] >= 0]).tolist():
        places = np.flatnonzero(index.file[:, 0] == file)
        places = places[np.argsort(index.table_row[places], kind="stable")]
        rows = index.table_row[places]
        read_table_rows(index.path(file), rows, object_id[places], index.id_column, places, survey, into)
    return into.faults, into.digests


def _read_cutouts(
    index: Index,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    files: IntArray,
    cells: IntArray,
    planes: Callable[[int], FloatArray],
) -> list[Found]:
    """Read cutout files, each source from front to end."""
    found = [Found()] * len(files)
    # A file of all bands is read for several cells.
    places_of: dict[int, list[int]] = {}
    for place, file in enumerate(files.tolist()):
        places_of.setdefault(file, []).append(place)
    patterns = HeaderPatterns()
    for source, (path, packed) in enumerate(zip(index.sources, index.packed, strict=True)):
        wanted = np.unique(files[index.source[files] == source])
        for file, load in contents(path, packed, index.files, wanted):
            places, digest = places_of[file], b""
            try:
                with whatever_it_raises():
                    data = load()
                digest = hashlib.sha256(data).digest()
            except UnusableFileError as error:
                for place in places:
                    found[place] = Found(error)
                continue
            for place in places:
                row, band = divmod(int(cells[place]), survey.n_bands)
                at, all_bands = (float(ra[row]), float(dec[row])), bool(index.has_all_bands[file])
                try:
                    with whatever_it_raises():
                        one = read_cutout(data, *at, survey, planes(place), patterns, band, all_bands, index.reads_psf)
                    found[place] = one._replace(digest=digest)
                except UnusableFileError as error:
                    found[place] = Found(error, digest=digest)
    return found


def _read_coadds(
    index: Index,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    files: IntArray,
    cells: IntArray,
    planes: Callable[[int], FloatArray],
) -> list[Found]:
    """Cut objects out of coadds, one coadd after the other."""
    found = [Found()] * len(files)
    for file in np.unique(files).tolist():
        places = np.flatnonzero(files == file)
        rows = cells[places] // survey.n_bands

        def plane(k: int, places: IntArray = places) -> FloatArray:
            return planes(int(places[k]))

        cut = coadd.cut_out(index.path(file), index.coadds[file], ra[rows], dec[rows], survey, plane)
        for place, one in zip(places.tolist(), cut, strict=True):
            found[place] = one
    return found


def _without_coadd(index: Index, ra: DoubleArray, dec: DoubleArray, survey: Survey) -> list[Fault]:
    """Faults of objects that lie in no coadd, or have no position."""
    faults = []
    has_position = np.isfinite(ra) & np.isfinite(dec)
    for row, band in np.argwhere(index.file == NO_FILE).tolist():
        if not has_position[row]:
            faults.append(Fault(row, Code.POSITION_MISSING, "", "", "no RA and Dec to cut the object out at"))
            continue
        reason = f"{survey.bands[band]}: RA {ra[row]:.6f}, Dec {dec[row]:.6f} is in no coadd of this band"
        faults.append(Fault(row, Code.POSITION_OUTSIDE, survey.bands[band], "", reason))
    return faults
