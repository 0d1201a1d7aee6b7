"""The catalogue of a survey: its objects, one a row, and what is wrong with which of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.input_table import InputTable, flag_values
from swimmy_scale.ingest.catalogue.objects import NO_OBJECT, Objects
from swimmy_scale.ingest.catalogue.pairs import pair_warnings
from swimmy_scale.ingest.catalogue.unknown_values import UnknownValues
from swimmy_scale.ingest.object_ids import NULL_WORDS, object_ids
from swimmy_scale.method.candidates import WHOLE_SAMPLE
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.psf_width import FWHM_PER_SIGMA, fwhm_faults
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.sample import ALL_FLAGS, FLAG_NAMES, NOT_PRIMARY, POINT_SOURCE, QUALITY_FLAGS
from swimmy_scale.method.sections import CatalogueSource
from swimmy_scale.method.survey import AnyArray, DoubleArray, FloatArray, IntArray, Survey

FLUX_ZERO_POINT_MAG = 31.4  # AB magnitude of 1 nJy, the flux unit of HSC's database
# Where HSC's releases and Rubin say whether an object is the primary measurement of its galaxy.
_IS_PRIMARY = ("isprimary", "detect_isprimary", "detect_is_primary")


def read_catalogue(
    source: CatalogueSource, survey: Survey, inside: Sequence[Path] = (), fwhm_may_come: bool = False
) -> Objects:
    """Read a catalogue and find what is wrong with which of its rows.

    Where ``X_isnull`` is True, as in the FITS files of HSC's archive, X is unknown; so is a value that catalogues put
    in place of an unknown one (see `sample.known`). An unknown flag counts as set. FWHM and depth come from the columns
    ``fwhm_arcsec_{band}`` and ``depth_mag_{band}``, then from ``patch_qa``; a FWHM that is still unknown comes from the
    PSF's second moments ``{band}_sdssshape_psf_shape11``, ``22``, ``12`` in arcsec^2, or as in Rubin's tables
    ``{band}_ixxPSF``, ``iyy``, ``ixy`` in pixel^2, and at last from ``source.fwhm_arcsec``.
    Units that a file declares are converted to those of `Objects`. Ids that are names are kept in ``object_name`` (see
    `method.object_names`).

    Parameters
    ----------
    inside : sequence of Path
        Object tables that hold the catalogue, in order (see `pixels.object_tables`); none where ``source.path`` is it.
    fwhm_may_come : bool
        Whether a FWHM that is unknown here may come with the pixels, and so is no fault.

    Returns
    -------
    Objects
        With faults DUPLICATE_OBJECT_ID (all rows of an id but the first), OBJECT_ID_LOST (unknown, or a float that
        may have been rounded), POSITION_MISSING, FWHM_MISSING and FWHM_ABOVE_TARGET (above
        ``survey.target_fwhm_arcsec``, section 2.1).

    Raises
    ------
    SwimmyError
        When a file is missing, unreadable, damaged, of unknown format or without rows; when a required or named
        column is missing or holds values of the wrong kind or unit; when ``patch_qa`` gives a patch twice or cannot be
        joined; when a class is called ``sample``; when ``source.fwhm_arcsec`` names a band that is not the survey's.
    """
    if source.path is None and not inside:
        raise ValueError("no catalogue")
    path = Path(source.path) if source.path is not None else common_place(inside)
    name = str(path)
    table = InputTable.read(
        path,
        _wanted_columns(survey),
        source.columns,
        ("object_id", "ra", "dec"),
        source.keep_columns,
        source.units,
        source.hdu,
        inside,
    )
    object_id, names, lost = object_ids(table.columns["object_id"])
    ra, dec = table.floats("ra", "deg"), table.floats("dec", "deg")
    unknown = UnknownValues(table.n_rows)
    mag, psf_mag = _magnitudes(table, survey, unknown)
    tract, patch = tract_and_patch(table)
    fwhm, depth = _seeing_and_depth(table, source, survey, tract, patch, unknown)
    redshift_name = "redshift" if "redshift" in table.columns else "specz_redshift"
    redshift = table.floats(redshift_name, "")
    if redshift_name in table.columns:
        redshift = unknown.nan("redshift", redshift_name, redshift)
    faults = (
        _id_faults(object_id, names, lost, name)
        + _position_faults(ra, dec, name)
        + fwhm_faults(fwhm, survey, name, fwhm_may_come)
    )
    flags = _flag_bits(table, survey)
    if lost:
        table.warnings.append(
            f"{path}: {len(lost)} of {table.n_rows} object_id are lost; write them as 64-bit integers"
        )
    table.warnings += table.conversion_warnings + unknown.warnings(path)
    table.warnings += _pairs(table, source, object_id, ra, dec, flags, faults)
    return Objects(
        object_id=object_id,
        ra=ra,
        dec=dec,
        mag=mag,
        psf_mag=psf_mag,
        fwhm_arcsec=fwhm,
        depth_mag=depth,
        flags=flags,
        redshift=redshift,
        sample_class=_classes(table),
        kept=_kept(table, source, names),
        tract=tract,
        simulated=table.simulated,
        available=_available(table, survey, fwhm, depth),
        faults=sorted(faults, key=lambda fault: (fault.row, fault.code)),
        warnings=table.warnings,
        id_column={name.lower(): theirs for name, theirs in source.columns.items()}.get("object_id", "object_id"),
    )


def common_place(paths: Sequence[Path]) -> Path:
    """The folder that holds all of some files, or the only one."""
    return paths[0] if len(paths) == 1 else Path(os.path.commonpath(paths))


def _kept(table: InputTable, source: CatalogueSource, names: AnyArray | None) -> dict[str, AnyArray]:
    """The columns that travel along: those that are asked for, and the names of objects that have some."""
    kept = {column: table.kept(column) for column in source.keep_columns}
    if names is None:
        return kept
    if OBJECT_NAME in kept:
        raise SwimmyError(
            f"{table.path}: keep_columns asks for {OBJECT_NAME}, where the ids that are no whole numbers are kept. "
            "Leave it out."
        )
    table.warnings.append(
        f"{table.path}: {np.count_nonzero(names != '')} of {table.n_rows} ids are no whole numbers of 64 bits: they "
        f"are kept as they are in {OBJECT_NAME}, and a number made of each is its object_id"
    )
    return {OBJECT_NAME: names, **kept}


def _pairs(
    table: InputTable,
    source: CatalogueSource,
    object_id: IntArray,
    ra: DoubleArray,
    dec: DoubleArray,
    flags: npt.NDArray[np.uint32],
    faults: list[Fault],
) -> list[str]:
    """What to say of objects that lie close to each other; rows that are no object of their own are left out."""
    no_object = [fault.row for fault in faults if fault.code in NO_OBJECT]
    placed_ra = ra.copy()
    placed_ra[no_object] = np.nan
    has_primary = not table.columns.keys().isdisjoint(_IS_PRIMARY)
    primary = flags & np.uint32(1 << FLAG_NAMES.index(NOT_PRIMARY)) == 0 if has_primary else None
    found = pair_warnings(object_id, placed_ra, dec, primary, source.pair_radius_arcsec)
    return [f"{table.path}: {warning}" for warning in found]


def fwhm_from_moments(xx: DoubleArray, yy: DoubleArray, xy: DoubleArray) -> DoubleArray:
    """FWHM of the circular Gaussian with the area of an elliptical one.

    FWHM = 2 sqrt(2 ln 2) (xx yy - xy^2)^(1/4)

    Parameters
    ----------
    xx, yy, xy : ndarray of float64, shape (n,), arcsec^2 or pixel^2
        Second moments.

    Returns
    -------
    ndarray of float64, shape (n,), arcsec or pixels
        NaN where a moment is NaN or the moments are not those of an ellipse.
    """
    determinant = xx * yy - xy**2
    valid = (determinant > 0) & (xx > 0)
    return FWHM_PER_SIGMA * np.where(valid, determinant, np.nan) ** 0.25


def tract_and_patch(table: InputTable) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Tract and patch of each row, int32 (n,), -1 where unknown; skymap_id is tract * 10000 + patch."""
    if "skymap_id" in table.columns and not {"tract", "patch"} <= table.columns.keys():
        skymap_id = table.integers("skymap_id")
        tract, patch = np.where(skymap_id >= 0, np.divmod(skymap_id, 10000), -1).astype(np.int32)
        return tract, patch
    return table.integers("tract"), table.integers("patch")


def _wanted_columns(survey: Survey) -> dict[str, str]:
    """Our name of every column that has a meaning, and the kind that it is read as."""
    wanted = {"object_id": "text", "ra": "angle", "dec": "angle", "sample_class": "text"}
    wanted |= {"redshift": "float", "specz_redshift": "float"}
    wanted |= dict.fromkeys(("tract", "patch", "skymap_id"), "text")
    wanted |= dict.fromkeys((*QUALITY_FLAGS, *_IS_PRIMARY), "flag")
    for band in survey.bands:
        wanted |= {f"{band}_{flag}": "flag" for flag in QUALITY_FLAGS}
        for name in ("cmodel_mag", "cmodel_flux", *(f"sdssshape_psf_shape{axes}" for axes in ("11", "22", "12"))):
            wanted[f"{band}_{name}"] = "float"
        wanted |= {f"fwhm_arcsec_{band}": "float", f"depth_mag_{band}": "float"}
        wanted |= {f"{band}_i{axes}psf": "float" for axes in ("xx", "yy", "xy")}
    wanted |= {f"{survey.magnitude_band}_psfflux_{kind}": "float" for kind in ("mag", "flux")}
    return wanted | {_extendedness(survey): "float"}


def _extendedness(survey: Survey) -> str:
    """The column that says whether an object is extended, 1, or a point source, 0."""
    return f"{survey.magnitude_band}_extendedness_value"


def _per_band(table: InputTable, pattern: str, survey: Survey, unit: str) -> DoubleArray:
    return np.stack([table.floats(pattern.format(band), unit) for band in survey.bands], axis=1)


def _known_per_band(
    table: InputTable, pattern: str, survey: Survey, unit: str, kind: str, unknown: UnknownValues
) -> DoubleArray:
    """Columns of a table, (n_rows, band); NaN where unknown."""
    values = _per_band(table, pattern, survey, unit)
    for column, band in enumerate(survey.bands):
        name = pattern.format(band)
        if name in table.columns:
            values[:, column] = unknown.nan(kind, name, values[:, column])
    return values


def _classes(table: InputTable) -> npt.NDArray[np.object_]:
    classes = table.strings("sample_class")
    classes[np.isin(classes.astype(str), NULL_WORDS)] = ""
    reserved = np.flatnonzero(classes == WHOLE_SAMPLE)
    if len(reserved):
        raise SwimmyError(
            f"{table.path} row {reserved[0]}: sample_class {WHOLE_SAMPLE!r} names the whole sample in tables of "
            "candidates. Give that class another name."
        )
    return classes


def _available(table: InputTable, survey: Survey, fwhm: FloatArray, depth: FloatArray) -> frozenset[str]:
    """Names of what the catalogue knows, see `Objects.available`."""
    sources: dict[str, tuple[str, ...]] = {flag: _flag_columns(flag, survey) for flag in FLAG_NAMES}
    sources |= {f"mag_{band}": (f"{band}_cmodel_mag", f"{band}_cmodel_flux") for band in survey.bands}
    sources["psf_mag"] = (f"{survey.magnitude_band}_psfflux_mag", f"{survey.magnitude_band}_psfflux_flux")
    sources[POINT_SOURCE] = (_extendedness(survey),)
    sources["redshift"] = ("redshift", "specz_redshift")
    names = {name for name, columns in sources.items() if table.columns.keys() & set(columns)}
    for what, values in (("fwhm_arcsec", fwhm), ("depth_mag", depth)):
        known = ~np.isnan(values).all(axis=0)
        names |= {f"{what}_{band}" for band, is_known in zip(survey.bands, known, strict=True) if is_known}
    return frozenset(names)


def _magnitudes(table: InputTable, survey: Survey, unknown: UnknownValues) -> tuple[FloatArray, FloatArray]:
    """CModel magnitudes (n, band) and the PSF magnitude (n,); mag = 31.4 - 2.5 log10(flux / nJy)."""
    names = [*(f"{band}_cmodel" for band in survey.bands), f"{survey.magnitude_band}_psfflux"]
    mags = np.full((table.n_rows, len(names)), np.nan)
    converted, missing = [], []
    for column, name in enumerate(names):
        if f"{name}_mag" in table.columns:
            mags[:, column] = unknown.nan("mag", f"{name}_mag", table.floats(f"{name}_mag", "mag"))
        elif f"{name}_flux" in table.columns:
            flux = table.floats(f"{name}_flux", "nJy")
            mag = FLUX_ZERO_POINT_MAG - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
            mags[:, column] = unknown.nan("mag", f"{name}_flux", mag, shown=flux)
            converted.append(f"{name}_flux")
        else:
            missing.append(f"{name}_mag")
    if converted:
        table.warnings.append(f"{table.path}: magnitudes come from {', '.join(converted)}, in nJy (zero point 31.4)")
    if missing:
        table.warnings.append(f"{table.path}: no column {', '.join(missing)}: these magnitudes are unknown")
    mags = mags.astype(np.float32)
    return mags[:, :-1].copy(), mags[:, -1].copy()


def _flag_bits(table: InputTable, survey: Survey) -> npt.NDArray[np.uint32]:
    """Bits of FLAG_NAMES and `POINT_SOURCE`, (n,). An unknown flag is not known to be good, so it counts as set."""
    bits = np.zeros(table.n_rows, np.uint32)
    absent, unknown_counts = [], {}
    for bit, flag in enumerate(FLAG_NAMES):
        names = [name for name in _flag_columns(flag, survey) if name in table.columns]
        if not names:
            absent.append(flag if flag != NOT_PRIMARY else f"{flag} (isprimary)")
        for name in names:
            is_set, unknown = flag_values(table.path, name, table.columns[name])
            is_set = ~is_set if flag == NOT_PRIMARY else is_set
            bits |= np.where(is_set | unknown, np.uint32(1 << bit), np.uint32(0))
            if unknown.any():
                unknown_counts[name] = int(unknown.sum())
    if _extendedness(survey) in table.columns:
        is_point = ~(table.floats(_extendedness(survey)) > 0.5)
        bits |= np.where(is_point, np.uint32(1 << ALL_FLAGS.index(POINT_SOURCE)), np.uint32(0))
    if absent:
        table.warnings.append(f"{table.path}: no column for the flags {', '.join(absent)}: they are taken as not set")
    if unknown_counts:
        counts = ", ".join(f"{name} ({count})" for name, count in unknown_counts.items())
        table.warnings.append(f"{table.path}: unknown values of flags are taken as set: {counts}")
    return bits


def _flag_columns(flag: str, survey: Survey) -> tuple[str, ...]:
    """Names of the columns that a flag may have."""
    return _IS_PRIMARY if flag == NOT_PRIMARY else (flag, *(f"{band}_{flag}" for band in survey.bands))


def _seeing_and_depth(
    table: InputTable,
    source: CatalogueSource,
    survey: Survey,
    tract: npt.NDArray[np.int32],
    patch: npt.NDArray[np.int32],
    unknown: UnknownValues,
) -> tuple[FloatArray, FloatArray]:
    """FWHM in arcsec and depth in mag, both (n, band)."""
    fwhm = _known_per_band(table, "fwhm_arcsec_{}", survey, "arcsec", "fwhm_arcsec", unknown)
    depth = _known_per_band(table, "depth_mag_{}", survey, "mag", "depth_mag", unknown)
    if source.patch_qa is not None:
        path = Path(source.patch_qa)
        patch_fwhm, patch_depth = _join_patch_qa(path, survey, tract, patch, table)
        fwhm = np.where(np.isnan(fwhm), patch_fwhm, fwhm)
        depth = np.where(np.isnan(depth), patch_depth, depth)
    moments = [_per_band(table, "{}_sdssshape_psf_shape" + axes, survey, "arcsec2") for axes in ("11", "22", "12")]
    in_pixels = [_per_band(table, f"{{}}_i{axes}psf", survey, "pix2") for axes in ("xx", "yy", "xy")]
    moments_fwhm = fwhm_from_moments(*moments)
    moments_fwhm = np.where(
        np.isnan(moments_fwhm), survey.pixel_scale_arcsec * fwhm_from_moments(*in_pixels), moments_fwhm
    )
    from_moments = np.isnan(fwhm) & ~np.isnan(moments_fwhm)
    fwhm = np.where(from_moments, moments_fwhm, fwhm)
    if from_moments.any():
        counts = ", ".join(f"{b} ({c})" for b, c in zip(survey.bands, from_moments.sum(axis=0), strict=True) if c)
        table.warnings.append(f"{table.path}: FWHM comes from the PSF's second moments in bands {counts}")
    fwhm = _with_fwhm_of_the_job(fwhm, table, source, survey)
    shallow = [band for band, unknown in zip(survey.bands, np.isnan(depth).all(axis=0), strict=True) if unknown]
    if shallow:
        table.warnings.append(f"{table.path}: the depth is unknown in bands {', '.join(shallow)}")
    return fwhm.astype(np.float32), depth.astype(np.float32)


def _with_fwhm_of_the_job(fwhm: DoubleArray, table: InputTable, source: CatalogueSource, survey: Survey) -> DoubleArray:
    """FWHM in arcsec (n, band), with the one that the job states in a band where there is no other."""
    strange = sorted(set(source.fwhm_arcsec) - set(survey.bands))
    if strange:
        raise SwimmyError(
            f"fwhm_arcsec names the bands {', '.join(strange)}; survey {survey.name!r} has {', '.join(survey.bands)}. "
            "Correct fwhm_arcsec in the catalogue section of the job."
        )
    stated = np.array([source.fwhm_arcsec.get(band, np.nan) for band in survey.bands])
    filled = np.isnan(fwhm) & ~np.isnan(stated)
    counts = dict(zip(survey.bands, filled.sum(axis=0).tolist(), strict=True))
    taken = [f"{value:g} in {band} for {counts[band]}" for band, value in source.fwhm_arcsec.items() if counts[band]]
    if taken:
        table.warnings.append(
            f"{table.path}: fwhm_arcsec of the job stands for what nothing else gives: {', '.join(taken)}"
        )
    unused = [band for band in source.fwhm_arcsec if not counts[band]]
    if unused:
        table.warnings.append(
            f"{table.path}: fwhm_arcsec of the job is not used in {', '.join(unused)}: all objects have a measured one"
        )
    return np.where(filled, stated, fwhm)


def _join_patch_qa(
    path: Path, survey: Survey, tract: npt.NDArray[np.int32], patch: npt.NDArray[np.int32], catalogue: InputTable
) -> tuple[DoubleArray, DoubleArray]:
    """Seeing in arcsec and depth in mag of each object's patch, both (n, band); NaN where ``patch_qa`` has none."""
    if (tract < 0).all() or (patch < 0).all():
        raise SwimmyError(
            f"catalogue {catalogue.path} has no tract and patch to join {path} by. Name them with --column "
            "tract=THEIRS and --column patch=THEIRS, or leave patch_qa out."
        )
    wanted = dict.fromkeys(("tract", "patch", "skymap_id"), "text")
    wanted |= {f"{band}{what}": "float" for band in survey.bands for what in ("seeing", "mag_psf_depth")}
    qa = InputTable.read(path, wanted)
    names = ", ".join(f"{band}seeing" for band in survey.bands)
    if not any(f"{band}seeing" in qa.columns for band in survey.bands):
        raise SwimmyError(f"patch_qa {path} has none of the columns {names}. Rename its columns to these.")
    qa_tract, qa_patch = tract_and_patch(qa)
    if (qa_tract < 0).any() or (qa_patch < 0).any():
        row = int(np.argmax((qa_tract < 0) | (qa_patch < 0)))
        raise SwimmyError(f"patch_qa {path} row {row}: tract or patch is unknown. Fill both in, or drop the row.")
    key = qa_tract.astype(np.int64) << 32 | qa_patch
    order = np.argsort(key, kind="stable")
    repeated = np.flatnonzero(np.diff(key[order]) == 0)
    if repeated.size:
        first, second = (int(order[repeated[0] + i]) for i in (0, 1))
        raise SwimmyError(
            f"patch_qa {path} gives tract {qa_tract[first]} patch {qa_patch[first]} twice, in rows {first} and "
            f"{second}. Leave one row a patch."
        )
    wanted_key = np.where((tract >= 0) & (patch >= 0), tract.astype(np.int64) << 32 | patch, -1)
    row = order[np.searchsorted(key, wanted_key, sorter=order).clip(max=len(key) - 1)]
    found = (key[row] == wanted_key)[:, None]
    unknown = UnknownValues(qa.n_rows)
    seeing = _known_per_band(qa, "{}seeing", survey, "arcsec", "fwhm_arcsec", unknown)
    depth = _known_per_band(qa, "{}mag_psf_depth", survey, "mag", "depth_mag", unknown)
    catalogue.warnings += qa.warnings + qa.conversion_warnings + unknown.warnings(path)
    return np.where(found, seeing[row], np.nan), np.where(found, depth[row], np.nan)


def _id_faults(object_id: IntArray, names: AnyArray | None, lost: Mapping[int, str], source: str) -> list[Fault]:
    """Faults of lost ids, and of rows that repeat the id of an earlier one."""
    faults = [Fault(row, Code.OBJECT_ID_LOST, "", source, reason) for row, reason in lost.items()]
    good = np.setdiff1d(np.arange(len(object_id)), np.fromiter(lost, np.int64, len(lost)), assume_unique=True)
    _, first, inverse = np.unique(object_id[good], return_index=True, return_inverse=True)
    first_row = good[first[inverse]]
    for row, earlier in zip(good[good != first_row].tolist(), first_row[good != first_row].tolist(), strict=True):
        shown = str(object_id[row]) if names is None else str(names[row]) or str(object_id[row])
        reason = f"object_id {shown} is already in row {earlier}, which is kept"
        if names is not None and names[row] != names[earlier]:
            reason = f"object_id {shown} has the same number, {object_id[row]}, as row {earlier}, which is kept"
        faults.append(Fault(row, Code.DUPLICATE_OBJECT_ID, "", source, reason))
    return faults


def _position_faults(ra: DoubleArray, dec: DoubleArray, source: str) -> list[Fault]:
    """Faults of positions that are unknown (NaN compares False) or not on the sphere."""
    bad = ~((ra >= 0) & (ra <= 360) & (dec >= -90) & (dec <= 90))
    need = "need ra in 0..360 deg and dec in -90..90 deg"
    return [
        Fault(row, Code.POSITION_MISSING, "", source, f"position is ra {ra[row]}, dec {dec[row]}; {need}")
        for row in np.flatnonzero(bad).tolist()
    ]
