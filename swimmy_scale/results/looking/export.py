"""A folder of FITS cutouts of chosen objects, with regions for DS9 and target lists beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import Columns, band_label
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import FloatArray, IntArray
from swimmy_scale.results.looking.fits_files import Cutout, write_cutout
from swimmy_scale.results.looking.objects import (
    NAMED_IDS,
    Objects,
    check_found,
    read_objects,
    rows_of,
)
from swimmy_scale.results.looking.pixels import pixels_of, reconstruction_of, source_and_reconstruction
from swimmy_scale.results.looking.target_list import sexagesimal, write_csv, write_regions
from swimmy_scale.storage.candidate_files import write_candidates
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.fresh_folders import fresh_folder
from swimmy_scale.storage.selection import SelectedRun, Selection

TARGETS = "targets"


def candidate_rows_at(selection: Selection, level: str | None) -> IntArray:
    """Rows of the candidates at a level, by default the first; int64, ascending.

    Raises
    ------
    SwimmyError
        When there is no such level, with those that there are; when there are no candidates at it.
    """
    levels = selection.levels
    if level is not None and level not in levels:
        raise SwimmyError(f"{selection.path}: no level {level!r}. Choose among {', '.join(levels)}.")
    at = levels.index(level) if level else 0
    parts = [lo + np.flatnonzero(flags[:, at].any(axis=1)) for lo, (flags,) in selection.blocks("candidate")]
    rows = np.concatenate([np.zeros(0, np.int64), *parts])
    if not len(rows):
        raise SwimmyError(
            f"{selection.path}: no object is a candidate at {levels[at]}. Choose another --level, or ids."
        )
    return rows


def rows_with_pixels(selection: Selection, object_ids: Sequence[int]) -> IntArray:
    """Rows of objects by their ids, int64, ascending.

    Raises
    ------
    SwimmyError
        When the run does not have some of them, or has no pixels of them because they are in quarantine.
    """
    rows = rows_of(selection, object_ids)
    check_found(object_ids, rows, selection.path)
    rows = np.unique(rows)
    objects = read_objects(selection, rows)
    bad = np.flatnonzero(objects.code != 0)
    if bad.size:
        named = [f"{objects.object_id[k]} ({Code(int(objects.code[k])).label})" for k in bad[:NAMED_IDS].tolist()]
        more = f" and {bad.size - NAMED_IDS} more" if bad.size > NAMED_IDS else ""
        raise SwimmyError(
            f"{selection.path}: object_id {', '.join(named)}{more} are in quarantine and have no usable pixels. "
            "Give ids of scored objects; `show` says what is wrong with these."
        )
    return rows


def write_cutouts(
    selected: SelectedRun,
    rows: IntArray,
    output: Path,
    name: str,
    told: Callable[[int, int], None],
    *,
    with_reconstruction: bool = False,
    n_threads: int = 1,
) -> list[Path]:
    """Write ``OBJECT_ID.fits`` of each object (see `write_cutout`), ``NAME.reg``, ``targets.csv`` and ``targets.fits``.

    Each chunk of the cutouts is read once, and memory does not grow with the number of objects but for their catalogue
    columns. The folder appears once it is complete.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,), ascending
        Of objects that have pixels (see `candidate_rows_at` and `rows_with_pixels`).
    output : Path
        Folder, which must not exist or be empty.
    name : str
        Of the file of regions.
    told : callable
        Told how many objects are written, and of how many.

    Returns
    -------
    list of Path
        Regions and target lists, in ``output``.

    Raises
    ------
    SwimmyError
        When ``output`` is there already and holds something, or a store cannot be read.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SwimmyError(f"{output}: exists and is not an empty folder. Choose another --output, or remove it.")
    selection, store = selected.selection, selected.cutouts
    objects = read_objects(selection, rows)
    reconstruction = reconstruction_of(selected, n_threads) if with_reconstruction else None
    simulated = selection.simulated
    zero_point = float(store.attrs.get("zero_point_mag", store.survey.zero_point_mag))
    magnitude = np.full(len(rows), np.nan, np.float32)
    band = store.survey.bands.index(store.survey.magnitude_band)
    told(0, len(rows))
    with fresh_folder(output) as folder:
        for pixels in pixels_of(store, rows):
            source = expected = None
            if reconstruction is not None:
                source, expected = source_and_reconstruction(pixels, store, reconstruction)
            magnitude[pixels.places] = pixels.mag[:, band]
            for k, place in enumerate(range(pixels.places.start, pixels.places.stop)):
                cutout = Cutout(
                    object_id=int(objects.object_id[place]),
                    name=objects.name[place],
                    ra=float(objects.ra[place]),
                    dec=float(objects.dec[place]),
                    known_class=objects.known_class[place],
                    counts=pixels.counts[k],
                    fwhm_arcsec=pixels.fwhm_arcsec[k],
                    source=None if source is None else source[k],
                    reconstruction=None if expected is None else expected[k],
                )
                path = folder / f"{cutout.object_id}.fits"
                write_cutout(path, cutout, store.survey, simulated=simulated, zero_point_mag=zero_point)
            told(pixels.places.stop, len(rows))
        targets = _targets(selection, store, objects, magnitude)
        meta = {"survey": store.survey.name, "simulated": simulated}
        write_candidates(targets, folder, meta=meta, formats=("fits",), stem=TARGETS)
        write_csv(folder / f"{TARGETS}.csv", targets)
        write_regions(folder / f"{name}.reg", targets, store.survey)
    return [output / f"{name}.reg", output / f"{TARGETS}.csv", output / f"{TARGETS}.fits"]


def _targets(selection: Selection, store: Cutouts, objects: Objects, magnitude: FloatArray) -> Columns:
    """Columns of the target list, in the order of object_id."""
    order = np.argsort(objects.object_id, kind="stable")
    ra, dec = objects.ra[order], objects.dec[order]
    hours, degrees = sexagesimal(ra, dec)
    survey, levels = selection.survey, selection.levels
    picks = survey.band_index(survey.selecting_bands)
    flags = objects.candidate[order][:, :, picks]
    level = np.zeros(len(order), dtype=f"<U{max(len(name) for name in levels)}")
    for position, name in enumerate(levels):
        level[flags[:, position].any(axis=1)] = name
    names = {OBJECT_NAME: np.array(objects.name, dtype=np.str_)[order]} if any(objects.name) else {}
    return {
        "object_id": objects.object_id[order],
        **names,
        "ra": ra,
        "dec": dec,
        "ra_hms": np.array(hours, dtype=np.str_),
        "dec_dms": np.array(degrees, dtype=np.str_),
        f"mag_{store.survey.magnitude_band}": magnitude[order],
        "level": level,
        "bands": band_label(flags[:, 0], survey.selecting_bands),
        "sample_class": np.array(objects.known_class, dtype=np.str_)[order],
        "file": np.array([f"{object_id}.fits" for object_id in objects.object_id[order].tolist()], dtype=np.str_),
    }
