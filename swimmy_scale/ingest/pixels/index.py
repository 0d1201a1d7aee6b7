"""The index of a survey's pixels: which file holds each object and band, joined from listings and a catalogue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.coadd import Coadd
from swimmy_scale.ingest.pixels.cube import Cube, check_rows
from swimmy_scale.ingest.pixels.cutout_files import ZERO_POINT_CARDS
from swimmy_scale.ingest.pixels.file_names import assign_rows, show_name
from swimmy_scale.ingest.pixels.listing import Listing
from swimmy_scale.ingest.sphere import CatalogueRows
from swimmy_scale.method.survey import AnyArray, DoubleArray, IntArray, Survey

NO_FILE, NO_COADD_OF_BAND = -1, -2


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
    unmatched : tuple of str
        Files that belong to no object. Empty in a slice.
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
    unmatched: tuple[str, ...] = field(default=(), repr=False)
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
        used, renumbered = np.unique(file, return_inverse=True)
        n_absent = int(np.count_nonzero(used < 0))
        used = used[n_absent:]
        renumbered = np.where(file < 0, file, renumbered.reshape(file.shape) - n_absent)
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
            unmatched=(),
            warnings=(),
        )

    def fingerprint(self) -> str:
        """Identity of the input, without reading it.

        This is the SHA-256 in hex over kind, first row, and name, offset, size and time of change of the file of each
        object and band. The folder that a source lies in is not part of it.
        """
        digest = hashlib.sha256(f"{self.kind} {self.first_row} {self.file.shape}".encode())
        if self.cube is not None:
            digest.update(self.cube.state.encode())
        step = 4096
        for lo in range(0, len(self), step):
            flat = self.file[lo : lo + step].ravel()
            present = self.files[flat[flat >= 0]]
            digest.update((flat >= 0).tobytes())
            for column in ("offset", "size", "mtime_ns"):
                digest.update(present[column].astype("<i8").tobytes())
            digest.update(b"\0".join(present["name"].tolist()))
        return digest.hexdigest()

    def path(self, file: int) -> str:
        """Path by which to open a file that lies in a folder."""
        return str(Path(self.sources[self.source[file]], os.fsdecode(bytes(self.files["name"][file]))))

    def describe(self, file: int) -> str:
        """Name of a file with its folder or tar, to show."""
        path = show_name(os.fsencode(self.sources[self.source[file]]))
        name = show_name(self.files["name"][file])
        return f"{path}:{name}" if self.packed[self.source[file]] else str(Path(path, name))


def build_index(
    listings: Sequence[Listing],
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    name_pattern: str | None = None,
    match_radius_arcsec: float = 1.0,
) -> Index:
    """Join what the sources hold to the rows of the catalogue.

    A file belongs to a row (1) by line number, row = LINENO - 2, in the archive's two name forms; (2) by object_id;
    (3) by position, nearest within the radius; in this order. If a source has, in place of a line number, any number
    that is no line of the catalogue but one of its object_ids, all such numbers of the source are taken as object_ids.
    Where a name has a line and a position and the line's row lies elsewhere, the position decides, with a warning.
    Where several files hold one row and band, the first in order of path is taken, with a warning. Files of no row or
    band are kept in ``unmatched``, with a warning.

    In each band a row gets the first coadd, in order of path, that holds its whole cutout. A row near the edge of
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
        Largest distance between the position in a file's name and the catalogue's.

    Raises
    ------
    SwimmyError
        When there is no listing, kinds are mixed, a cube does not fit the catalogue, or the name pattern is bad.
    """
    kinds = sorted({listing.kind for listing in listings})
    if len(kinds) != 1:
        raise SwimmyError(f"the sources hold {' and '.join(kinds) or 'nothing'}: give sources of one kind in one run.")
    notes = [note for listing in listings for note in listing.notes]
    if listings[0].cube is not None:
        return _cube_index(listings, listings[0].cube, object_id, survey, notes)
    catalogue = CatalogueRows(object_id, ra, dec)
    if kinds == ["coadd"]:
        return _coadd_index(listings, catalogue, ra, dec, survey, notes)
    found = [
        assign_rows(listing.path, listing.files["name"], catalogue, survey, name_pattern, match_radius_arcsec)
        for listing in listings
    ]
    rows, bands, said = zip(*found, strict=True)
    notes += chain(*said)
    return _cutout_index(listings, np.concatenate(rows), np.concatenate(bands), len(object_id), survey, notes)


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
    listings: Sequence[Listing], cube: Cube, object_id: IntArray, survey: Survey, notes: list[str]
) -> Index:
    if len(listings) > 1:
        raise SwimmyError(f"{len(listings)} cubes are given, the first is {cube.path}: give one cube a run.")
    check_rows(cube, object_id)
    if cube.zero_point_mag is None:
        notes.append(f"{cube.path}: no attribute zero_point_mag, {survey.zero_point_mag} mag is assumed")
    file = np.full((len(object_id), survey.n_bands), NO_FILE, np.int32)
    return replace(_index(listings, file), cube=cube, warnings=tuple(notes))


def _cutout_index(
    listings: Sequence[Listing],
    rows: IntArray,
    bands: npt.NDArray[np.int16],
    n_objects: int,
    survey: Survey,
    notes: list[str],
) -> Index:
    """Index of files whose rows and bands, shape (n_files,), are known; -1 for none."""
    file = np.full((n_objects, survey.n_bands), NO_FILE, np.int32)
    index = _index(listings, file)
    matched = np.flatnonzero((rows >= 0) & (bands >= 0))
    rank = np.unique([os.fsencode(path) for path in index.sources], return_inverse=True)[1]
    order = matched[np.lexsort((index.files["name"][matched], rank[index.source[matched]]))]
    cell = rows[order] * survey.n_bands + bands[order]
    cells, firsts = np.unique(cell, return_index=True)
    file.ravel()[cells] = order[firsts]
    if len(cells) < len(order):
        first_extra = np.setdiff1d(np.arange(len(order)), firsts)[0]
        extra, used = int(order[first_extra]), int(file.ravel()[cell[first_extra]])
        notes.append(
            f"{len(order) - len(cells)} files are not used because another holds the same object and band; the first "
            f"of them is {index.describe(extra)}, {index.describe(used)} is used instead"
        )
    lost = np.setdiff1d(np.arange(len(rows)), matched)
    unmatched = tuple(index.describe(int(i)) for i in lost)
    if unmatched:
        more = ", ..." if len(unmatched) > 3 else ""
        notes.append(
            f"{len(unmatched)} of {len(rows)} files belong to no object of the catalogue or no band of the survey: "
            f"{', '.join(unmatched[:3])}{more}"
        )
    # A slice keeps only the files that are used.
    return replace(index.slice(0, len(index)), unmatched=unmatched, warnings=tuple(notes))


def _coadd_index(
    listings: Sequence[Listing],
    catalogue: CatalogueRows,
    ra: DoubleArray,
    dec: DoubleArray,
    survey: Survey,
    notes: list[str],
) -> Index:
    file = np.full((len(ra), survey.n_bands), NO_FILE, np.int32)
    present = {coadd.band for listing in listings for coadd in listing.coadds}
    file[:, [band for band in range(survey.n_bands) if band not in present]] = NO_COADD_OF_BAND
    index = _index(listings, file)
    missing = np.full(file.shape, np.iinfo(np.int64).max)
    for i in sorted(range(len(index.files)), key=index.describe):
        coadd = index.coadds[i]
        rows = catalogue.near(*coadd.sky.footprint(coadd.shape))
        _, _, lacks, inside = coadd.place(ra[rows], dec[rows], survey.cutout_size_px)
        better = inside & (lacks < missing[rows, coadd.band])
        file[rows[better], coadd.band] = i
        missing[rows[better], coadd.band] = lacks[better]
    unmatched = tuple(index.describe(int(i)) for i in np.setdiff1d(np.arange(len(index.files)), file))
    if unmatched:
        notes.append(f"{len(unmatched)} of {len(index.files)} coadds hold no object: {', '.join(unmatched[:3])}")
    n_unstated = sum(coadd.zero_point_mag is None for coadd in index.coadds)
    if n_unstated:
        notes.append(
            f"{n_unstated} coadds state no zero point ({', '.join(ZERO_POINT_CARDS)}): "
            f"{survey.zero_point_mag} mag is assumed"
        )
    # A slice keeps only the files that are used.
    return replace(index.slice(0, len(index)), unmatched=unmatched, warnings=tuple(notes))
