"""What the names of cutouts say: band, and line, id or position of the object; and the catalogue rows these mean."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.pixels.uploads import Centres, Locate, rows_of_lines
from swimmy_scale.ingest.sphere import CatalogueRows
from swimmy_scale.method.survey import DoubleArray, IntArray, Survey

NameArray = npt.NDArray[np.bytes_]

_SUFFIX = re.compile(r"\.(fits|fit|fts)(\.gz|\.fz)?$", re.IGNORECASE)
_BAND = r"(?P<band>(?:HSC-)?[A-Za-z][A-Za-z0-9]{0,15})"
_DEGREES = r"[+-]?\d{1,3}(?:\.\d+)?"
# The archive's two forms: the name of a member of its tar, and of a file that its download tool saves.
_ARCHIVE_NAME = re.compile(
    rf"(?P<line>\d{{1,19}})-(?P<type>cutout|coadd|coadd[-+]bg|warp)-{_BAND}-(?P<tract>\d{{1,9}})-(?P<rerun>.+)"
)
_SAVED_NAME = re.compile(
    rf"(?P<line>\d{{1,19}})_(?P<type>[A-Za-z][A-Za-z+-]*)_(?P<ra>{_DEGREES})_(?P<dec>{_DEGREES})_(?P<tract>\d{{1,9}})_{_BAND}"
)
_ID_NAME = re.compile(rf"(?P<object_id>\d{{1,19}})[_-]{_BAND}")
_POSITION_NAME = re.compile(rf"(?P<ra>{_DEGREES})[,_](?P<dec>[+-]?\d{{1,2}}\.\d+)(?:_\d+x\d+)?_{_BAND}")
# Files of all bands: the same without one.
_ID_ALONE = re.compile(r"(?P<object_id>\d{5,19})")
# The viewer of the Legacy Surveys calls them cutout_RA_DEC.fits.
_POSITION_ALONE = re.compile(rf"(?:cutout_)?(?P<ra>{_DEGREES})[,_](?P<dec>[+-]?\d{{1,2}}\.\d+)(?:_\d+x\d+)?")
ALL_BANDS = -3
"""Band of a file whose name tells the object and no band."""
_NO_ARCHIVE_NAME = -2
Origin = tuple[int, str, str]
"""Tract, rerun and type that a name states: -1 and empty where it does not. Files of one origin belong together."""
NO_ORIGIN: Origin = (-1, "", "")
_FORMS = (_ARCHIVE_NAME, _SAVED_NAME, _ID_NAME, _POSITION_NAME, _ID_ALONE, _POSITION_ALONE)


def show_name(name: bytes) -> str:
    """A file name that can be shown anywhere, whatever its encoding."""
    return name.decode("utf-8", "backslashreplace")


def has_fits_suffix(name: str) -> bool:
    """Whether a name ends like that of a FITS file, compressed or not."""
    return _SUFFIX.search(name) is not None


def band_of(token: str, survey: Survey) -> int:
    """Position of a filter on the band axis: HSC-G, G and g are g, HSC-R2 and I2 are r and i; -1 for others."""
    name = token.lower().removeprefix("hsc-")
    for candidate in (name, name.removesuffix("2")):
        for position, band in enumerate(survey.bands):
            if candidate == band.lower():
                return position
    return -1


@dataclass
class Claims:
    """What file names say, one value a file; -1 or NaN where a name does not say it.

    ``origin`` numbers ``origins``, and ``folder`` the folders that the files lie in.
    """

    band: npt.NDArray[np.int16]
    origin: npt.NDArray[np.int32]
    folder: npt.NDArray[np.int32]
    line: IntArray
    object_id: IntArray
    ra: DoubleArray
    dec: DoubleArray
    origins: list[Origin] = field(default_factory=list)


class Assigned(NamedTuple):
    """Which object and band the files of one source hold.

    Attributes
    ----------
    rows, bands : ndarray of int64 and int16, shape (n_files,)
        -1 for none.
    origin : ndarray of int32, shape (n_files,)
        Which of ``origins`` each file is of.
    origins : list of Origin
    blind : ndarray of int32, shape (n_files,)
        Number of the folder of a file whose line number nothing confirms, else -1.
    notes : list of str
        Warnings.
    """

    rows: IntArray
    bands: npt.NDArray[np.int16]
    origin: npt.NDArray[np.int32]
    origins: list[Origin]
    blind: npt.NDArray[np.int32]
    notes: list[str]


def compile_pattern(name_pattern: str) -> re.Pattern[str]:
    """Compile a user's name pattern; refused without any group that tells the object.

    Without one for the band, each file holds all bands.
    """
    try:
        pattern = re.compile(name_pattern)
    except re.error as error:
        raise SwimmyError(f"name pattern {name_pattern!r} is not a regular expression: {error}. Correct it.") from error
    groups = set(pattern.groupindex)
    if not ({"line", "object_id"} & groups or {"ra", "dec"} <= groups):
        raise SwimmyError(
            f"name pattern {name_pattern!r} has the groups {sorted(groups)}; it needs one of line, object_id, or ra "
            "with dec; and band, where a file holds one. Write for example "
            "'(?P<object_id>[0-9]+)_(?P<band>[grizy])[.]fits'."
        )
    return pattern


def parse_names(names: NameArray, survey: Survey, name_pattern: str | None = None) -> Claims:
    """Read line, object_id, position and band from file names.

    Parameters
    ----------
    names : ndarray of bytes, shape (n_files,)
    name_pattern : str, optional
        Regular expression searched for in the whole name with its folders, in place of the known forms:

        - ``LINENO-cutout-HSC-I-TRACT-RERUN.fits``, a member of the archive's tar,
        - ``LINENO_TYPE_RA_DEC_TRACT_FILTER.fits``, as the archive's tool saves it,
        - ``OBJECTID_BAND.fits``,
        - ``RA,DEC_300x300_BAND.fits``,
        - ``OBJECTID.fits`` (of five digits and more), ``RA,DEC.fits`` and ``cutout_RA_DEC.fits``, which hold all bands.

    Returns
    -------
    Claims
        Band `ALL_BANDS` for a name that tells an object and no band; -1 for a name of unknown form, such as that of a
        PSF, and for a band that the survey lacks.
    """
    n_files = len(names)
    claims = Claims(
        band=np.full(n_files, -1, np.int16),
        origin=np.zeros(n_files, np.int32),
        folder=np.zeros(n_files, np.int32),
        line=np.full(n_files, -1, np.int64),
        object_id=np.full(n_files, -1, np.int64),
        ra=np.full(n_files, np.nan),
        dec=np.full(n_files, np.nan),
    )
    pattern = compile_pattern(name_pattern) if name_pattern else None
    tails: dict[bytes, tuple[int, Origin]] = {}
    origins: dict[Origin, int] = {NO_ORIGIN: 0}
    folders: dict[bytes, int] = {}
    for position, raw in enumerate(names.tolist()):
        folder, _, name = raw.rpartition(b"/")
        claims.folder[position] = folders.setdefault(folder, len(folders))
        line, dash, tail = name.partition(b"-")
        if pattern is None and dash and line.isdigit() and len(line) < 19:
            # After the line number the archive's names are few: they differ by band and tract only.
            if tail not in tails:
                tails[tail] = _band_of_archive_name(tail, survey)
            band, origin = tails[tail]
            if band != _NO_ARCHIVE_NAME:
                claims.line[position], claims.band[position] = int(line), band
                claims.origin[position] = origins.setdefault(origin, len(origins))
                continue
        match = pattern.search(os.fsdecode(raw)) if pattern else _match_form(raw)
        if match is None:
            continue
        groups = match.groupdict()
        claims.band[position] = band_of(groups["band"] or "", survey) if "band" in groups else ALL_BANDS
        for key in ("line", "object_id"):
            text = groups.get(key) or ""
            if text.isascii() and text.isdigit() and int(text) < 2**63:
                getattr(claims, key)[position] = int(text)
        claims.ra[position], claims.dec[position] = _degrees(groups.get("ra")), _degrees(groups.get("dec"))
        claims.origin[position] = origins.setdefault(_origin(groups), len(origins))
    claims.origins = list(origins)
    return claims


def assign_rows(
    path: str,
    names: NameArray,
    catalogue: CatalogueRows,
    survey: Survey,
    name_pattern: str | None,
    radius_arcsec: float,
    locate: Locate | None = None,
    only_source: bool = True,
) -> Assigned:
    """Row and band of each file of one source, by the rules of `index.build_index`.

    Parameters
    ----------
    locate : callable, optional
        Where the images of some of the files lie. Without it a line number counts through the whole catalogue.
    only_source : bool
        Whether there is no other source.
    """
    claims = parse_names(names, survey, name_pattern)
    blind = np.full(len(names), -1, np.int32)
    notes: list[str] = []
    by_number = catalogue.by_id(np.where((claims.line >= 2) & (claims.line < len(catalogue) + 2), -1, claims.line))
    has_position = np.isfinite(claims.ra) & np.isfinite(claims.dec)
    if (by_number >= 0).any():
        rows = catalogue.by_id(claims.line)
        notes.append(
            f"{path}: {int((rows >= 0).sum())} names have an object_id in place of the catalogue's line number; they "
            "are joined by object_id"
        )
    else:
        rows = np.where((claims.line >= 2) & (claims.line < len(catalogue) + 2), claims.line - 2, -1)
        if locate is not None:
            lined = (claims.line >= 0) & (claims.band != -1) & ~has_position
            _place_lines(claims, lined, rows, blind, catalogue, locate, radius_arcsec, only_source)
    rows = np.where(rows < 0, catalogue.by_id(claims.object_id), rows)
    check = np.flatnonzero((rows >= 0) & (claims.line >= 0) & has_position)
    astray = check[catalogue.lie_elsewhere(rows[check], claims.ra[check], claims.dec[check], radius_arcsec)]
    by_position = (rows < 0) & has_position
    by_position[astray] = True
    rows[by_position] = catalogue.by_position(claims.ra[by_position], claims.dec[by_position], radius_arcsec)
    return Assigned(rows, claims.band, claims.origin, claims.origins, blind, notes)


def _place_lines(
    claims: Claims,
    lined: npt.NDArray[np.bool_],
    rows: IntArray,
    blind: npt.NDArray[np.int32],
    catalogue: CatalogueRows,
    locate: Locate,
    radius_arcsec: float,
    only_source: bool,
) -> None:
    """Write ``rows`` and ``blind`` of the files in ``lined``, one folder after the other."""
    in_folders = np.flatnonzero(lined)
    in_folders = in_folders[np.argsort(claims.folder[in_folders], kind="stable")]
    uploads = np.split(in_folders, np.flatnonzero(np.diff(claims.folder[in_folders])) + 1) if len(in_folders) else []
    for files in uploads:

        def locate_here(numbers: IntArray, files: IntArray = files) -> Centres:
            return locate(files[numbers])

        only_one = only_source and len(uploads) == 1
        rows[files], located = rows_of_lines(claims.line[files], catalogue, locate_here, radius_arcsec, only_one)
        if not located:
            blind[files] = claims.folder[files[0]]


def _band_of_archive_name(tail: bytes, survey: Survey) -> tuple[int, Origin]:
    """Band and origin in what follows line and dash in a name.

    The band is ``_NO_ARCHIVE_NAME`` where the archive writes no such names.
    """
    match = _match_form(b"0-" + tail)
    if not match or match.re is not _ARCHIVE_NAME:
        return _NO_ARCHIVE_NAME, NO_ORIGIN
    return band_of(match["band"], survey), _origin(match.groupdict())


def _origin(groups: dict[str, str | None]) -> Origin:
    tract = groups.get("tract") or ""
    number = int(tract) if tract.isascii() and tract.isdigit() and len(tract) < 10 else -1
    return number, groups.get("rerun") or "", groups.get("type") or ""


def _match_form(raw: bytes) -> re.Match[str] | None:
    """Match of a name, without its folders and suffix, with the first of the known forms that it has."""
    stem, n_cut = _SUFFIX.subn("", os.fsdecode(raw.rsplit(b"/", 1)[-1]))
    return next(filter(None, (form.fullmatch(stem) for form in _FORMS)), None) if n_cut else None


def _degrees(text: str | None) -> float:
    """NaN for what is no number."""
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")
