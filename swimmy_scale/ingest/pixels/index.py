"""The index of a survey's pixels: which file holds each object and band, joined from listings and a catalogue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.coadd import Coadd
from swimmy_scale.ingest.pixels.cube import Cube, check_rows
from swimmy_scale.ingest.pixels.file_names import ALL_BANDS, Assigned, Origin, assign_rows, show_name
from swimmy_scale.ingest.pixels.flux_units import ZERO_POINT_CARDS
from swimmy_scale.ingest.pixels.image_places import locate_images, refuse_misfits
from swimmy_scale.ingest.pixels.listing import Listing
from swimmy_scale.ingest.pixels.ranking import Ranked, notes_of_mixed, origins_of, rank_files
from swimmy_scale.ingest.pixels.table_index import find_in_tables
from swimmy_scale.ingest.sphere import CatalogueRows
from swimmy_scale.method.survey import AnyArray, BoolArray, DoubleArray, IntArray, Survey

NO_FILE, NO_COADD_OF_BAND = -1, -2
MOST_NAMED = 1000
"""Files of no object that are named one by one; the others are counted."""


@dataclass(frozen=True)
class Index:
    """Where the bands of each object lie.

    Attributes
    ----------
    kind : str
        As in `Listing`.
    first_row : int
        Catalogue row of the first object.
    sources, packed : tuple of str
        ``path`` and ``packed`` of the listings.
    file : ndarray of int32, shape (n_objects, n_bands)
        Which of ``files`` holds the object; -1 where none does, -2 where there is no coadd of the band at all.
    source : ndarray of int32, shape (n_files,)
        Which of ``sources`` holds the file.
    files : structured ndarray, shape (n_files,)
        As in `Listing`.
    spare_cell, spare_file : ndarray of int64 and int32, shape (n_spares,)
        Further files of the same objects and bands, in case that the first has no usable data: as in `Ranked`, with
        rows from ``first_row``.
    has_all_bands : ndarray of bool, shape (n_files,)
        Whether a file holds all bands of its object, in as many images or planes.
    origin : ndarray of int32, shape (n_files,)
        Files of one number are of one tract, or coadds of one patch.
    unmatched : tuple of str
        The first `MOST_NAMED` files that belong to no object. Empty in a slice.
    n_unmatched : int
        How many there are.
    table_row : ndarray of int64, shape (n_objects,)
        For object tables: the row of ``file`` that holds the object. Empty for other kinds.
    id_column : str
        For object tables: what they call the ids of their objects.
    has_masks : bool
        For object tables: whether some file comes with masks.
    unpacked_bytes : int
        For object tables and cubes: of the largest chunk that is unpacked whole.
    reads_psf : bool
        Whether the width of the PSF is taken from files that hold it.
    warnings : tuple of str
        What the user should know. Empty in a slice.
    """

    kind: str
    first_row: int
    sources: tuple[str, ...]
    packed: tuple[str, ...]
    file: npt.NDArray[np.int32]
    source: npt.NDArray[np.int32]
    files: AnyArray
    coadds: tuple[Coadd, ...] = ()
    cube: Cube | None = None
    spare_cell: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    spare_file: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    has_all_bands: BoolArray = field(default_factory=lambda: np.empty(0, np.bool_))
    origin: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    unmatched: tuple[str, ...] = field(default=(), repr=False)
    n_unmatched: int = 0
    table_row: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    id_column: str = "object_id"
    has_masks: bool = False
    unpacked_bytes: int = 0
    reads_psf: bool = False
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.file)

    def slice(self, lo: int, hi: int) -> Index:
        """The index of catalogue rows ``lo`` to ``hi`` (exclusive), and of their files only."""
        if not self.first_row <= lo <= hi <= self.first_row + len(self):
            raise ValueError(
                f"rows {lo} to {hi} are not within {self.first_row} to {self.first_row + len(self)} of this index"
            )
        file = self.file[lo - self.first_row : hi - self.first_row]
        n_bands = self.file.shape[1]
        first_cell = (lo - self.first_row) * n_bands
        spares = slice(*np.searchsorted(self.spare_cell, [first_cell, first_cell + file.size]))
        used, renumbered = np.unique(np.append(file, self.spare_file[spares]), return_inverse=True)
        n_absent = int(np.count_nonzero(used < 0))
        used = used[n_absent:]
        renumbered = renumbered - n_absent
        spare_file = renumbered[file.size :]
        renumbered = np.where(file < 0, file, renumbered[: file.size].reshape(file.shape))
        used_sources, source = np.unique(self.source[used], return_inverse=True)
        return replace(
            self,
            first_row=lo,
            sources=tuple(self.sources[i] for i in used_sources) if self.cube is None else self.sources,
            packed=tuple(self.packed[i] for i in used_sources) if self.cube is None else self.packed,
            file=renumbered.astype(np.int32),
            source=source.astype(np.int32),
            files=self.files[used],
            coadds=tuple(self.coadds[i] for i in used) if self.coadds else (),
            spare_cell=self.spare_cell[spares] - first_cell,
            spare_file=spare_file.astype(np.int32),
            has_all_bands=self.has_all_bands[used] if len(self.has_all_bands) else self.has_all_bands,
            origin=self.origin[used] if len(self.origin) else self.origin,
            table_row=self.table_row[lo - self.first_row : hi - self.first_row],
            unmatched=(),
            n_unmatched=0,
            warnings=(),
        )

    def spares(self, cell: int) -> list[int]:
        """The spare files of one object and band, the better first."""
        first, end = np.searchsorted(self.spare_cell, [cell, cell + 1])
        return [int(number) for number in self.spare_file[first:end]]

    def fingerprint(self) -> str:
        """Identity of the input, without reading it.

        This is the SHA-256 in hex over kind, first row, and name, offset, size and time of change of the file of each
        object and band, and of its spare ones. The folder that a source lies in is not part of it.
        """
        digest = hashlib.sha256(f"{self.kind} {self.first_row} {self.file.shape}".encode())
        if self.cube is not None:
            digest.update(self.cube.state.encode())
        step = 4096
        for lo in range(0, len(self), step):
            flat = self.file[lo : lo + step].ravel()
            present = self.files[flat[flat >= 0]]
            digest.update((flat >= 0).tobytes())
            _update(digest, present)
        digest.update(self.table_row.astype("<i8").tobytes())
        if len(self.spare_cell):
            digest.update(self.spare_cell.astype("<i8").tobytes())
            _update(digest, self.files[self.spare_file])
        return digest.hexdigest()

    def path(self, file: int) -> str:
        """Path by which to open a file that lies in a folder."""
        return str(Path(self.sources[self.source[file]], os.fsdecode(bytes(self.files["name"][file]))))

    def describe(self, file: int) -> str:
        """Name of a file with its folder or tar, to show."""
        path = show_name(os.fsencode(self.sources[self.source[file]]))
        name = show_name(self.files["name"][file])
        return f"{path}:{name}" if self.packed[self.source[file]] else str(Path(path, name))


def _update(digest: Any, files: AnyArray) -> None:
    """Take names, offsets, sizes and times of change of files into a digest."""
    for column in ("offset", "size", "mtime_ns"):
        digest.update(files[column].astype("<i8").tobytes())
    digest.update(b"\0".join(files["name"].tolist()))


def build_index(
    listings: Sequence[Listing],
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    name_pattern: str | None = None,
    match_radius_arcsec: float = 1.0,
    tract: npt.NDArray[np.int32] | None = None,
    id_column: str = "object_id",
) -> Index:
    """Join what the sources hold to the rows of the catalogue.

    A file belongs to a row (1) by line number, in the archive's two name forms; (2) by object_id; (3) by position,
    nearest within the radius; in this order. The archive counts lines from 2 in each upload, so what they mean is found
    from where some of the images lie (see `uploads.rows_of_lines`). If a source has, in place of a line number, any
    number that is no line of the catalogue but one of its object_ids, all such numbers of the source are taken as
    object_ids. Where a name has a line and a position and the line's row lies elsewhere, the position decides.

    Where several files hold one row and band, they are ranked (see `ranking.rank_files`): first those of the tract, and
    rerun, that has most bands, of the catalogue's tract, of the first in order of path. The others are spare: they are
    read where the first has no usable data. Files of no row or band are kept in ``unmatched``. All this is told.

    In each band a row gets a coadd that holds its whole cutout, with spare ones likewise. A row near the edge of
    every coadd gets the one that misses least of its cutout, and a fault when it is cut out.

    Parameters
    ----------
    listings : sequence of Listing
        All of one kind; for a cube exactly one.
    object_id : ndarray of int64, shape (n,)
    ra, dec : ndarray of float64, shape (n,)
        ICRS, degrees. A row with NaN is found by line or object_id only.
    name_pattern : str, optional
        See `file_names.parse_names`.
    match_radius_arcsec : float
        Largest distance between the position in a file's name, or the middle of its image, and the catalogue's.
    tract : ndarray of int32, shape (n,), optional
        Tract of each row by the catalogue, -1 where unknown.
    id_column : str
        What object tables call the ids of their objects.

    Raises
    ------
    SwimmyError
        When there is no listing, kinds are mixed, a cube does not fit the catalogue, or the name pattern is bad. When
        no file belongs to an object, or the first files of a source have another pixel scale than the survey or units
        that cannot be converted. When several uploads have the same line numbers and nothing tells them apart.
    """
    kinds = sorted({listing.kind for listing in listings})
    if len(kinds) != 1:
        raise SwimmyError(f"the sources hold {' and '.join(kinds) or 'nothing'}: give sources of one kind in one run.")
    notes = [note for listing in listings for note in listing.notes]
    if listings[0].cube is not None:
        return _cube_index(listings, listings[0].cube, object_id, ra, dec, survey, notes)
    if kinds == ["table"]:
        return _table_index(listings, object_id, survey, notes, id_column)
    catalogue = CatalogueRows(object_id, ra, dec)
    if kinds == ["coadd"]:
        return _coadd_index(listings, catalogue, ra, dec, survey, notes)
    listings = [listing for listing in listings if len(listing.files)] or listings[:1]
    assigned = [
        assign_rows(
            listing.path,
            listing.files["name"],
            catalogue,
            survey,
            name_pattern,
            match_radius_arcsec,
            partial(locate_images, listing),
            len(listings) == 1,
        )
        for listing in listings
    ]
    for listing, source in zip(listings, assigned, strict=True):
        refuse_misfits(listing, np.flatnonzero((source.rows >= 0) & _is_of_band(source.bands)), survey)
    notes += chain.from_iterable(source.notes for source in assigned)
    return _cutout_index(listings, assigned, object_id, survey, notes, tract, name_pattern)


def _index(listings: Sequence[Listing], file: npt.NDArray[np.int32]) -> Index:
    """The files of all listings, one after the other."""
    counts = [len(listing.files) for listing in listings]
    return Index(
        kind=listings[0].kind,
        first_row=0,
        sources=tuple(listing.path for listing in listings),
        packed=tuple(listing.packed for listing in listings),
        file=file,
        source=np.repeat(np.arange(len(listings)), counts).astype(np.int32),
        files=np.concatenate([listing.files for listing in listings]),
        coadds=tuple(coadd for listing in listings for coadd in listing.coadds),
    )


def _cube_index(
    listings: Sequence[Listing],
    cube: Cube,
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    notes: list[str],
) -> Index:
    if len(listings) > 1:
        raise SwimmyError(f"{len(listings)} cubes are given, the first is {cube.path}: give one cube a run.")
    notes += check_rows(cube, object_id, ra, dec)
    if cube.zero_point_mag is None:
        notes.append(f"{cube.path}: no attribute zero_point_mag, {survey.assumed_zero_points} is assumed")
    file = np.full((len(object_id), survey.n_bands), NO_FILE, np.int32)
    return replace(_index(listings, file), cube=cube, unpacked_bytes=cube.unpacked_bytes, warnings=tuple(notes))


def _table_index(
    listings: Sequence[Listing], object_id: IntArray, survey: Survey, notes: list[str], id_column: str
) -> Index:
    """Index of object tables, whose rows hold all bands."""
    places = find_in_tables(listings, object_id, survey, id_column)
    facts = [of_file for listing in listings for of_file in listing.tables]
    index = replace(
        _index(listings, np.repeat(places.file[:, None], survey.n_bands, axis=1)),
        table_row=places.row,
        id_column=id_column,
        has_masks=any(of_file.has_masks for of_file in facts),
        unpacked_bytes=max((of_file.unpacked_bytes for of_file in facts), default=0),
    )
    # A slice keeps only the files that are used.
    return replace(
        index.slice(0, len(index)),
        unmatched=tuple(places.unmatched),
        n_unmatched=places.n_unmatched,
        warnings=(*notes, *places.notes),
    )


def _cutout_index(
    listings: Sequence[Listing],
    assigned: Sequence[Assigned],
    object_id: IntArray,
    survey: Survey,
    notes: list[str],
    tract: npt.NDArray[np.int32] | None,
    name_pattern: str | None,
) -> Index:
    """Index of files whose rows and bands are known."""
    n_objects, n_bands = len(object_id), survey.n_bands
    index = _index(listings, np.full((n_objects, n_bands), NO_FILE, np.int32))
    rows = np.concatenate([source.rows for source in assigned])
    bands = np.concatenate([source.bands for source in assigned])
    numbers: dict[Origin, int] = {}
    origin = np.concatenate(
        [
            np.array([numbers.setdefault(one, len(numbers)) for one in source.origins], np.int32)[source.origin]
            for source in assigned
        ]
    )
    tracts = np.array([one[0] for one in numbers], np.int32)
    matched = np.flatnonzero((rows >= 0) & _is_of_band(bands))
    if len(rows) and not len(matched):
        raise _nothing_fits(index, rows, bands, name_pattern)
    _refuse_repeated_lines(index, assigned, rows, bands, n_bands)
    rank = np.unique([os.fsencode(path) for path in index.sources], return_inverse=True)[1]
    # In order of path: the files of each source are in order of name.
    order = matched[np.argsort(rank[index.source[matched]], kind="stable")]
    # A file of all bands stands in the cell of each.
    repeats = np.where(bands[order] == ALL_BANDS, n_bands, 1)
    of_band = np.where(bands[order] == ALL_BANDS, 0, bands[order]).astype(np.int64)
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    order, of_band = np.repeat(order, repeats), np.repeat(of_band, repeats) + within
    cell = rows[order] * n_bands + of_band
    stated = tracts[origin[order]]
    is_preferred = np.zeros(len(order), np.bool_) if tract is None else (stated == tract[rows[order]]) & (stated >= 0)
    ranked = rank_files(order, cell, origin[order].astype(np.int64), is_preferred, n_objects, n_bands)
    notes += _notes_of_origins(ranked, origin, tracts, object_id, tract)
    lost = np.flatnonzero((rows < 0) | ~_is_of_band(bands))
    unmatched = tuple(index.describe(int(i)) for i in lost[:MOST_NAMED])
    if len(lost):
        notes.append(_note_of_lost(unmatched, len(lost), len(rows), int((~_is_of_band(bands[lost])).sum())))
    index = replace(
        index,
        file=ranked.first,
        spare_cell=ranked.spare_cell,
        spare_file=ranked.spare_file,
        origin=origin,
        has_all_bands=bands == ALL_BANDS,
    )
    # A slice keeps only the files that are used.
    return replace(index.slice(0, len(index)), unmatched=unmatched, n_unmatched=len(lost), warnings=tuple(notes))


def _nothing_fits(index: Index, rows: IntArray, bands: npt.NDArray[np.int16], name_pattern: str | None) -> SwimmyError:
    """The error for files of which none belongs to an object and band."""
    n_files, first = len(rows), index.describe(0)
    if _is_of_band(bands).any():
        first = index.describe(int(np.argmax(_is_of_band(bands))))
        return SwimmyError(
            f"none of {n_files} files belongs to an object of the catalogue, such as {first}: no line number, "
            "object_id or position fits. Give the catalogue that the files were requested with."
        )
    if (rows >= 0).any():
        return SwimmyError(
            f"none of {n_files} files is in a band of the survey, such as {first}. Name the bands of the files in "
            "survey.bands."
        )
    how = "has a name of a known form" if name_pattern is None else f"has a name that fits {name_pattern!r}"
    return SwimmyError(
        f"none of {n_files} files {how}, such as {first}. Say with ingest.name_pattern, in the job or the settings, "
        "what the names tell, for example '(?P<object_id>[0-9]+)_(?P<band>[grizy])[.]fits'."
    )


def _is_of_band(bands: npt.NDArray[np.int16]) -> BoolArray:
    return np.asarray((bands >= 0) | (bands == ALL_BANDS))


def _note_of_lost(unmatched: Sequence[str], n_lost: int, n_files: int, n_no_band: int) -> str:
    more = ", ..." if n_lost > 3 else ""
    return (
        f"{n_lost} of {n_files} files belong to no object of the catalogue or no band of the survey "
        f"({n_lost - n_no_band} to no object, {n_no_band} to no band): {', '.join(unmatched[:3])}{more}"
    )


def _refuse_repeated_lines(
    index: Index, assigned: Sequence[Assigned], rows: IntArray, bands: npt.NDArray[np.int16], n_bands: int
) -> None:
    """Refuse line numbers that several uploads use, where no image says which object it shows."""
    blind = np.concatenate([source.blind for source in assigned])
    files = np.flatnonzero((blind >= 0) & (rows >= 0) & _is_of_band(bands))
    upload = np.unique(np.stack([index.source[files], blind[files]]), axis=1, return_inverse=True)[1].ravel()
    if len(files) == 0 or upload.max() == 0:
        return
    cell = rows[files] * n_bands + np.maximum(bands[files], 0)
    _, first, which = np.unique(cell, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(upload != upload[first][which])
    if len(repeated):
        one, other = files[first[which[repeated[0]]]], files[repeated[0]]
        raise SwimmyError(
            f"{index.describe(int(one))} and {index.describe(int(other))} have the same line number, as the archive "
            f"counts lines anew in each upload, and no image says where it lies ({len(repeated)} files). Fetch the "
            "cutouts again with their world coordinates, or name each file OBJECTID_BAND.fits."
        )


def _notes_of_origins(
    ranked: Ranked,
    origin: npt.NDArray[np.int32],
    tracts: npt.NDArray[np.int32],
    object_id: IntArray,
    tract: npt.NDArray[np.int32] | None,
) -> list[str]:
    """What to say of objects with files of several tracts, or of another one than the catalogue's."""
    notes = notes_of_mixed(ranked.first, origin, object_id)
    of_object = origins_of(ranked.first, origin)
    if len(ranked.spare_cell):
        notes.append(
            f"{len(ranked.spare_cell)} files are spare: another file holds the same object and band. They are read "
            "where that one has no usable data"
        )
    if tract is not None and len(tracts):
        stated = np.where(of_object >= 0, tracts[np.maximum(of_object, 0)], -1)
        other = np.flatnonzero(((stated >= 0) & (stated != tract[:, None]) & (tract[:, None] >= 0)).any(axis=1))
        if len(other):
            notes.append(
                f"{len(other)} objects have files of another tract than the catalogue's, whose files lack bands or are "
                f"not there; the first is object_id {object_id[other[0]]}"
            )
    return notes


def _coadd_index(
    listings: Sequence[Listing],
    catalogue: CatalogueRows,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    notes: list[str],
) -> Index:
    n_objects, n_bands = len(ra), survey.n_bands
    absent = np.full((n_objects, n_bands), NO_FILE, np.int32)
    present = {coadd.band for listing in listings for coadd in listing.coadds}
    absent[:, [band for band in range(n_bands) if band not in present]] = NO_COADD_OF_BAND
    index = _index(listings, absent)
    grids: dict[object, int] = {}
    origin = np.array([grids.setdefault(coadd.grid, len(grids)) for coadd in index.coadds], np.int32)
    missing = np.full(absent.shape, np.iinfo(np.int64).max)
    cut_off = absent.copy()
    files, cells = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for i in sorted(range(len(index.files)), key=index.describe):
        coadd = index.coadds[i]
        rows = catalogue.near(*coadd.sky.footprint(coadd.shape))
        _, _, lacks, inside = coadd.place(ra[rows], dec[rows], survey.cutout_size_px)
        better = inside & (lacks < missing[rows, coadd.band])
        cut_off[rows[better], coadd.band] = i
        missing[rows[better], coadd.band] = lacks[better]
        whole = rows[inside & (lacks == 0)]
        files.append(np.full(len(whole), i))
        cells.append(whole * n_bands + coadd.band)
    file, cell = np.concatenate(files), np.concatenate(cells)
    nowhere = np.zeros(len(file), np.bool_)
    ranked = rank_files(file, cell, origin[file].astype(np.int64), nowhere, n_objects, n_bands)
    first = np.where(ranked.first >= 0, ranked.first, cut_off)
    used = np.union1d(first[first >= 0], ranked.spare_file)
    unmatched = tuple(index.describe(int(i)) for i in np.setdiff1d(np.arange(len(index.files)), used))
    if unmatched:
        notes.append(f"{len(unmatched)} of {len(index.files)} coadds hold no object: {', '.join(unmatched[:3])}")
    if len({coadd.band for coadd in index.coadds}) < len(index.coadds):
        # With one coadd a band there is nothing to choose.
        notes += notes_of_mixed(first, origin, catalogue.object_id)
    n_unstated = sum(coadd.zero_point_mag is None for coadd in index.coadds)
    if n_unstated:
        notes.append(
            f"{n_unstated} coadds state no zero point ({', '.join(ZERO_POINT_CARDS)}): "
            f"{survey.assumed_zero_points} is assumed"
        )
    index = replace(index, file=first, spare_cell=ranked.spare_cell, spare_file=ranked.spare_file, origin=origin)
    # A slice keeps only the files that are used.
    return replace(index.slice(0, len(index)), unmatched=unmatched, n_unmatched=len(unmatched), warnings=tuple(notes))
