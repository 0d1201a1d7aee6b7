"""The one entry point to pixels: archive cutouts, coadd images or an existing cube -> an index -> rows of the cube."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels import coadd, cube
from swimmy_scale.ingest.pixels.cutout_files import ZERO_POINT_CARDS, read_cutout
from swimmy_scale.ingest.pixels.file_names import assign_rows, decode_name, encode_name, has_fits_suffix, parse_names
from swimmy_scale.ingest.pixels.fits_scan import MAX_FILE_BYTES, Reader, UnusableFileError, open_reader
from swimmy_scale.ingest.pixels.header_patterns import HeaderPatterns
from swimmy_scale.ingest.pixels.listing import (
    Index,
    Listing,
    is_fits,
    is_tar_name,
    list_folder,
    list_tar,
    make_listing,
    tar_form,
)
from swimmy_scale.ingest.sphere import CatalogueRows, DegreeArray
from swimmy_scale.method.quarantine import Code, Fault, merge_faults
from swimmy_scale.method.survey import FloatArray, IntArray, Survey

__all__ = ["KINDS", "Index", "Listing", "build_index", "list_source", "read_rows"]

KINDS = ("auto", "cutouts", "coadd", "cube")


def list_source(path: str | Path, survey: Survey, kind: str = "auto", band: str | None = None) -> Listing:
    """Find out what one source holds, reading no pixels.

    Parameters
    ----------
    path : str or Path
        A folder, tar, FITS file or cube.
    survey : Survey
    kind : {'auto', 'cutouts', 'coadd', 'cube'}
        What it is. ``auto`` decides so:

        1. a folder with ``zarr.json``, ``.zarray`` or ``.zgroup`` in it, and a file that is HDF5 or .npy by its first
           bytes or its name, is a *cube*;
        2. any other folder, and a tar or gzipped tar, holds *cutouts*;
        3. a single FITS file whose name says which object it shows (see `matching.parse_names`) is a *cutout*;
        4. any other single FITS file is a *coadd*, and so must have a WCS.

        Say ``coadd`` for a folder of coadds.
    band : str, optional
        Band of a coadd that neither its FILTER card nor its name tells.

    Returns
    -------
    Listing

    Raises
    ------
    SwimmyError
        When the source is not there or is none of these, or a coadd or cube does not fit the survey.
    """
    if kind not in KINDS:
        raise SwimmyError(f"source {path}: kind {kind!r} is not one of {KINDS}. Choose one of those.")
    where = os.path.abspath(path)  # noqa: PTH100  (Path.absolute would keep '..')
    try:
        return _list(where, survey, kind, band)
    except OSError as error:
        raise SwimmyError(f"source {path}: {error.strerror or error}. Check the path and its permissions.") from error


def expand_sources(paths: Sequence[str | Path]) -> list[str]:
    """The sources, and behind each folder the tars that lie anywhere in it, in order of name.

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


def _list(path: str, survey: Survey, kind: str, band: str | None) -> Listing:
    is_folder = Path(path).is_dir()
    if not is_folder and not Path(path).is_file():
        raise SwimmyError(f"source {path}: there is no such file or folder. Check the path.")
    form = cube.cube_form(path)
    if kind == "cube" or (kind == "auto" and form):
        if not form:
            raise SwimmyError(f"source {path}: is no Zarr store, HDF5 or .npy file. Write the cube as one of these.")
        empty = make_listing("cube", path, "", [], [])
        return replace(empty, cube=cube.inspect_cube(path, form, survey))
    if is_folder:
        listing = list_folder(path)
        return _as_coadds(listing, survey, band) if kind == "coadd" else listing
    packed = tar_form(path)
    if packed:
        if kind == "coadd":
            raise SwimmyError(f"source {path}: coadds are not read from a tar. Unpack it.")
        return list_tar(path, packed)
    status = Path(path).stat()
    row = (encode_name(Path(path).name), 0, status.st_size, status.st_mtime_ns)
    listing = make_listing("cutouts", str(Path(path).parent), "", [row], [])
    if kind == "coadd" or (kind == "auto" and is_fits(path) and _names_no_object(listing, survey)):
        return _as_coadds(listing, survey, band)
    if kind == "auto" and not is_fits(path):
        raise SwimmyError(
            f"source {path}: is no folder, tar, FITS file or cube (Zarr, HDF5, .npy). Convert it to one of these."
        )
    return listing


def _names_no_object(listing: Listing, survey: Survey) -> bool:
    claims = parse_names(listing.names, survey)
    return bool((claims.line[0] < 0) and (claims.object_id[0] < 0) and np.isnan(claims.ra[0]))


def _as_coadds(listing: Listing, survey: Survey, band: str | None) -> Listing:
    """Keep the FITS files of a listing and read their headers."""
    keep = [i for i, name in enumerate(listing.names.tolist()) if has_fits_suffix(decode_name(name))]
    if not keep and len(listing.names) == 1:
        keep = [0]
    if not keep:
        raise SwimmyError(f"source {listing.path}: holds no FITS file. Give the folder with the coadd images.")
    paths = [str(Path(listing.path, decode_name(name))) for name in listing.names[keep].tolist()]
    return replace(
        listing,
        kind="coadd",
        names=listing.names[keep],
        offset=listing.offset[keep],
        size=listing.size[keep],
        mtime_ns=listing.mtime_ns[keep],
        coadds=tuple(coadd.inspect_coadd(path, survey, band) for path in paths),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Index


def build_index(
    listings: Sequence[Listing],
    object_id: IntArray,
    ra: DegreeArray,
    dec: DegreeArray,
    survey: Survey,
    name_pattern: str | None = None,
    match_radius_arcsec: float = 1.0,
) -> Index:
    """Join what the sources hold to the catalogue's rows.

    Parameters
    ----------
    listings : sequence of Listing
        All of one kind, and one alone for a cube.
    object_id : ndarray of int64, shape (n,)
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees. A row with NaN is found by line or object_id only.
    survey : Survey
    name_pattern : str, optional
        See `matching.parse_names`.
    match_radius_arcsec : float
        Largest distance between the position in a file's name and the catalogue's.

    Returns
    -------
    Index
        A file belongs to a row (1) by line number, row = LINENO - 2, in the archive's two name forms; (2) by
        object_id; (3) by position, nearest within the radius; in this order. A number in place of a line that is
        no line of the catalogue but one of its object_ids is an object_id, and then the numbers of that source all
        are, as far as the catalogue knows them. Where a name has a line and a position and the row is elsewhere,
        the position decides, with a warning. Of two files for one row and band the first in order of path is
        taken, with a warning. Files of no row or band are kept in ``unmatched``, with a warning.

    Raises
    ------
    SwimmyError
        When there is no listing, kinds are mixed, a cube does not fit the catalogue, or the name pattern is bad.
    """
    kinds = sorted({listing.kind for listing in listings})
    if len(kinds) != 1:
        raise SwimmyError(f"the sources hold {' and '.join(kinds) or 'nothing'}: give sources of one kind in one run.")
    notes = [note for listing in listings for note in listing.notes]
    first = listings[0]
    if first.cube is not None:
        if len(listings) > 1:
            raise SwimmyError(f"{len(listings)} cubes are given, the first is {first.path}: give one cube a run.")
        cube.check_rows(first.cube, object_id)
        if first.cube.zero_point_mag is None:
            notes.append(f"{first.path}: no attribute zero_point_mag, {survey.zero_point_mag} mag is assumed")
        member = np.full((len(object_id), survey.n_bands), -1, np.int32)
        return replace(_index(listings, member), cube=first.cube, warnings=tuple(notes))
    catalogue = CatalogueRows(object_id, ra, dec)
    if kinds == ["coadd"]:
        return _coadd_index(listings, catalogue, ra, dec, survey, notes)
    pairs = [
        assign_rows(listing.path, listing.names, catalogue, survey, name_pattern, match_radius_arcsec)
        for listing in listings
    ]
    rows = np.concatenate([pair[0] for pair in pairs])
    bands = np.concatenate([pair[1] for pair in pairs])
    notes += [note for pair in pairs for note in pair[2]]
    return _cutout_index(listings, rows, bands, len(object_id), survey, notes)


def _index(listings: Sequence[Listing], member: npt.NDArray[np.int32]) -> Index:
    counts = [len(listing.names) for listing in listings]
    return Index(
        kind=listings[0].kind,
        first_row=0,
        sources=tuple(listing.path for listing in listings),
        packed=tuple(listing.packed for listing in listings),
        member=member,
        source=np.repeat(np.arange(len(listings)), counts).astype(np.int32),
        names=np.concatenate([listing.names for listing in listings]),
        offset=np.concatenate([listing.offset for listing in listings]),
        size=np.concatenate([listing.size for listing in listings]),
        mtime_ns=np.concatenate([listing.mtime_ns for listing in listings]),
        coadds=tuple(image for listing in listings for image in listing.coadds),
    )


def _cutout_index(
    listings: Sequence[Listing],
    rows: IntArray,
    bands: npt.NDArray[np.int16],
    n_objects: int,
    survey: Survey,
    notes: list[str],
) -> Index:
    member = np.full((n_objects, survey.n_bands), -1, np.int32)
    index = _index(listings, member)
    matched = np.flatnonzero((rows >= 0) & (bands >= 0))
    rank = np.unique([encode_name(path) for path in index.sources], return_inverse=True)[1]
    order = matched[np.lexsort((index.names[matched], rank[index.source[matched]]))]
    cell = rows[order] * survey.n_bands + bands[order]
    cells, firsts = np.unique(cell, return_index=True)
    member.ravel()[cells] = order[firsts]
    if len(cells) < len(order):
        taken = np.zeros(len(order), np.bool_)
        taken[firsts] = True
        extra = int(order[np.flatnonzero(~taken)[0]])
        used = int(member.ravel()[cell[~taken][0]])
        notes.append(
            f"{len(order) - len(cells)} files are second ones for their object and band and are not used: "
            f"{index.describe(extra)} is the first, {index.describe(used)} is used"
        )
    lost = np.setdiff1d(np.arange(len(rows)), matched)
    unmatched = tuple(index.describe(int(i)) for i in lost)
    if unmatched:
        more = ", ..." if len(unmatched) > 3 else ""
        notes.append(
            f"{len(unmatched)} of {len(rows)} files belong to no object of the catalogue and band of the survey: "
            f"{', '.join(unmatched[:3])}{more}"
        )
    # A slice keeps only the files that are used.
    return replace(index.slice(0, len(index)), unmatched=unmatched, warnings=tuple(notes))


def _coadd_index(
    listings: Sequence[Listing],
    catalogue: CatalogueRows,
    ra: DegreeArray,
    dec: DegreeArray,
    survey: Survey,
    notes: list[str],
) -> Index:
    """Give each object and band the first coadd, in order of path, that holds its whole cutout.

    An object near the edge of every coadd gets the one that misses least of it, and a fault when it is cut out.
    """
    member = np.full((len(ra), survey.n_bands), -1, np.int32)
    present = {image.band for listing in listings for image in listing.coadds}
    member[:, [band for band in range(survey.n_bands) if band not in present]] = -2
    index = _index(listings, member)
    missing = np.full(member.shape, np.iinfo(np.int64).max)
    for i in sorted(range(len(index.names)), key=index.describe):
        image = index.coadds[i]
        rows = catalogue.near(*image.footprint)
        first_y, first_x, inside = image.first_pixels(ra[rows], dec[rows], survey.cutout_size_px)
        lacks = image.missing_px(first_y, first_x, survey.cutout_size_px)
        better = inside & (lacks < missing[rows, image.band])
        member[rows[better], image.band] = i
        missing[rows[better], image.band] = lacks[better]
    unused = sorted(set(range(len(index.names))) - set(member.ravel().tolist()))
    unmatched = tuple(index.describe(i) for i in unused)
    if unmatched:
        notes.append(f"{len(unmatched)} of {len(index.names)} coadds hold no object: {', '.join(unmatched[:3])}")
    absent = [image for image in index.coadds if image.zero_point_mag is None]
    if absent:
        notes.append(
            f"{len(absent)} coadds state no zero point ({', '.join(ZERO_POINT_CARDS)}): "
            f"{survey.zero_point_mag} mag is assumed"
        )
    # A slice keeps only the files that are used.
    return replace(index.slice(0, len(index)), unmatched=unmatched, warnings=tuple(notes))


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def read_rows(
    index: Index,
    lo: int,
    object_id: IntArray,
    ra: DegreeArray,
    dec: DegreeArray,
    survey: Survey,
    out: FloatArray | None = None,
) -> tuple[FloatArray, list[Fault], list[str], str]:
    """Read the pixels of all of an index's rows.

    Parameters
    ----------
    index : Index
        Of these rows alone: ``index.slice(lo, hi)``.
    lo : int
        Catalogue row of the first.
    object_id, ra, dec : ndarray of int64, float64, float64, shape (n,)
        Of these rows; ICRS, degrees.
    survey : Survey
    out : ndarray of float32, shape (n, n_bands, cutout_size_px, cutout_size_px), optional
        To write into.

    Returns
    -------
    image : ndarray of float32, axes (object, band, y, x)
        Counts at the survey's zero point: as delivered, times 10**(0.4 (survey - file)) where a file states another
        zero point. All NaN for an object with a fault, finite for every other.
    faults : list of Fault
        One for each object at fault, rows counted from the catalogue's start.
    warnings : list of str
    digest : str
        SHA-256 in hex over the SHA-256 of each object's and band's bytes, in order of row and band.

    Raises
    ------
    SwimmyError
        When a cube cannot be opened. Cutouts and coadds that cannot be read are faults.
    ValueError
        When index, ``lo``, arrays and ``out`` do not belong together.
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
    if index.cube is not None:
        faults, digests = cube.read_cube(index.cube, lo, len(index), survey, out)
        warnings: list[str] = []
    elif index.kind == "coadd":
        faults, warnings, digests = _read_coadds(index, ra, dec, survey, out)
    else:
        faults, warnings, digests = _read_cutouts(index, ra, dec, survey, out)
    faults = [replace(fault, row=lo + fault.row) for fault in merge_faults(faults)]
    for fault in faults:
        out[fault.row - lo] = np.nan
    digest = hashlib.sha256(b"".join(item or bytes(32) for item in digests))
    return out, faults, warnings, digest.hexdigest()


def _missing_bands(index: Index, survey: Survey, value: int, what: str) -> list[Fault]:
    """MISSING_BAND for each object with bands of this value in ``member``."""
    faults = []
    for row in np.flatnonzero((index.member == value).any(axis=1)).tolist():
        bands = [survey.bands[i] for i in np.flatnonzero(index.member[row] == value)]
        named = bands[0] if len(bands) == 1 else ""
        plural = "s" if len(bands) > 1 else ""
        faults.append(Fault(row, Code.MISSING_BAND, named, "", f"no {what} for band{plural} {', '.join(bands)}"))
    return faults


def _read_cutouts(
    index: Index, ra: DegreeArray, dec: DegreeArray, survey: Survey, out: FloatArray
) -> tuple[list[Fault], list[str], list[bytes]]:
    faults = _missing_bands(index, survey, -1, "file")
    digests = [b""] * index.member.size
    cell = {member: cell for cell, member in enumerate(index.member.ravel().tolist()) if member >= 0}
    unstated: list[int] = []
    patterns = HeaderPatterns()
    for member, data in _stream(index):
        row, band = divmod(cell[member], survey.n_bands)
        try:
            if isinstance(data, UnusableFileError):
                raise data
            digests[cell[member]] = hashlib.sha256(data).digest()
            if not read_cutout(data, float(ra[row]), float(dec[row]), survey, out[row, band], patterns):
                unstated.append(member)
        except UnusableFileError as fault:
            reason = f"{survey.bands[band]}: {fault}"
            faults.append(Fault(row, fault.code, survey.bands[band], index.describe(member), reason))
    warnings = []
    if unstated:
        warnings.append(
            f"{len(unstated)} files state no zero point ({', '.join(ZERO_POINT_CARDS)}): {survey.zero_point_mag} mag "
            f"is assumed; the first is {index.describe(min(unstated))}"
        )
    return faults, warnings, digests


def _stream(index: Index) -> Iterator[tuple[int, bytes | UnusableFileError]]:
    """Bytes of every file of an index, each source from its front to its end."""
    for source, (path, packed) in enumerate(zip(index.sources, index.packed, strict=True)):
        members = np.flatnonzero(index.source == source)
        members = members[np.argsort(index.offset[members], kind="stable")]
        if not packed:
            for member in members.tolist():
                yield member, _whole_file(str(Path(path, decode_name(bytes(index.names[member])))))
            continue
        with ExitStack() as stack:
            read: Reader | UnusableFileError
            try:
                read, _ = stack.enter_context(open_reader(path))
                if packed == "tar.gz":
                    read = _gzip_reader(stack.enter_context(gzip.GzipFile(path)))
            except UnusableFileError as fault:
                read = fault
            for member in members.tolist():
                yield member, _tar_member(read, int(index.offset[member]), int(index.size[member]))


def _whole_file(path: str) -> bytes | UnusableFileError:
    try:
        with open_reader(path) as (read, status):
            return _tar_member(read, 0, status.st_size)
    except UnusableFileError as fault:
        return fault


def _tar_member(read: Reader | UnusableFileError, offset: int, size: int) -> bytes | UnusableFileError:
    """The bytes of a file, or of a file in a tar, whole."""
    if isinstance(read, UnusableFileError):
        return read
    if size > MAX_FILE_BYTES:
        return UnusableFileError(Code.UNREADABLE_FILE, f"{size} bytes are above the limit of {MAX_FILE_BYTES}")
    try:
        data = read(offset, size)
    except UnusableFileError as fault:
        return fault
    if len(data) < size:
        return UnusableFileError(Code.UNREADABLE_FILE, f"cut off: {len(data)} of {size} bytes are there")
    return data


def _gzip_reader(stream: gzip.GzipFile) -> Reader:
    def read(offset: int, length: int) -> bytes:
        try:
            stream.seek(offset)
            return stream.read(length)
        except (OSError, EOFError, zlib.error) as error:
            raise UnusableFileError(Code.UNREADABLE_FILE, f"damaged gzip: {error}") from None

    return read


def _read_coadds(
    index: Index, ra: DegreeArray, dec: DegreeArray, survey: Survey, out: FloatArray
) -> tuple[list[Fault], list[str], list[bytes]]:
    faults = _missing_bands(index, survey, -2, "coadd")
    digests = [b""] * index.member.size
    has_position = np.isfinite(ra) & np.isfinite(dec)
    for row, band in np.argwhere(index.member == -1).tolist():
        if not has_position[row]:
            faults.append(Fault(row, Code.POSITION_MISSING, "", "", "no RA and Dec to cut the object out at"))
            continue
        reason = f"{survey.bands[band]}: RA {ra[row]:.6f}, Dec {dec[row]:.6f} is in no coadd of this band"
        faults.append(Fault(row, Code.POSITION_OUTSIDE, survey.bands[band], "", reason))
    for member, image in enumerate(index.coadds):
        rows = np.flatnonzero(index.member[:, image.band] == member)
        path = str(Path(index.sources[index.source[member]], decode_name(bytes(index.names[member]))))
        found, read = coadd.cut_out(path, index.describe(member), image, rows, ra, dec, survey, out)
        faults += [replace(fault, reason=f"{fault.band}: {fault.reason}") for fault in found]
        for row, digest in read.items():
            digests[row * survey.n_bands + image.band] = digest
    return faults, [], digests
