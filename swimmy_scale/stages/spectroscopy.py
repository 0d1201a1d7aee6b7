"""Counterparts in tables of spectra, for ingest and for `classify`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.objects import NO_OBJECT, Objects
from swimmy_scale.method.classes import Classes, table_1
from swimmy_scale.method.job_paths import located
from swimmy_scale.method.sample import CutCount, SampleColumns, SampleCuts, apply_cuts
from swimmy_scale.method.sections import CatalogueSource, SpectroscopySection
from swimmy_scale.method.survey import BoolArray, IntArray, Survey
from swimmy_scale.method.words import counted
from swimmy_scale.storage.counterparts import Counterparts, write_counterparts
from swimmy_scale.storage.files import digest_file, read_text, write_json
from swimmy_scale.storage.receipts import FileRecord

log = logging.getLogger("swimmy_scale")

PAPER_CUTS = SampleCuts(redshift=(0.05, 0.2), colours=())
"""Cuts of the paper's test data (sections 2.1 and 2.2)."""


def with_counterparts(
    objects: Objects, section: SpectroscopySection, files_done: Callable[[int], None] = lambda n_files: None
) -> tuple[Objects, Counterparts, bool]:
    """A catalogue with the redshifts and classes of its counterparts in place of its own.

    An object without a counterpart has no redshift and no class then. Returns the counterparts as well, and whether
    any of the tables says that it is simulated.

    Raises
    ------
    SwimmyError
        When a table cannot be read or lacks a column.
    """
    # What reads tables takes half a second to import, and workers need none of it.
    from swimmy_scale.ingest.spectroscopy.matching import find_counterparts

    usable = matched_rows(objects)
    counterparts, simulated, notes = find_counterparts(
        objects.object_id, objects.ra, objects.dec, usable, section, files_done
    )
    row = _rows_of(counterparts, objects)
    changed = replace(
        objects,
        redshift=np.append(counterparts.redshift, np.nan)[row],
        sample_class=np.append(counterparts.sample_class, "")[row].astype(object),
        available=objects.available | {"redshift"},
        warnings=[
            *objects.warnings,
            *notes,
            f"redshifts and classes are those of {counted(len(counterparts), 'counterparts')} within "
            f"{section.match_radius_arcsec:g} arcsec, not the catalogue's",
        ],
    )
    return changed, counterparts, simulated


def matched_rows(objects: Objects) -> BoolArray:
    """Which rows of a catalogue can have a counterpart: the first with its id, at a known position; shape (n,)."""
    usable = np.ones(len(objects), np.bool_)
    usable[[fault.row for fault in objects.faults if fault.code in NO_OBJECT]] = False
    return usable


def _rows_of(counterparts: Counterparts, objects: Objects) -> IntArray:
    """The row of each object's counterpart, int64 (n,); -1 without one, which picks the default appended to values."""
    return np.where(matched_rows(objects), counterparts.rows_of(objects.object_id), -1)


def table_records(paths: Iterable[Path], known: Path, root: Path) -> dict[str, FileRecord]:
    """Size, time and digest of tables, by their paths as a file in ``root`` has them (see `job_paths.located`).

    A table is not read again if ``known``, written by `keep_records`, has its size and time. For a table that is gone
    the record of ``known`` counts, so that a finished ingest does not need its tables any more.

    Raises
    ------
    SwimmyError
        When a table is gone and ``known`` has no record of it.
    """
    try:
        recorded = {path: FileRecord(**record) for path, record in json.loads(read_text(known)).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        recorded = {}
    records = {}
    for path in paths:
        record = recorded.get(located(path, root))
        try:
            status = path.stat()
        except FileNotFoundError:
            if record is None:
                raise SwimmyError(f"{path}: not there. Correct the path in the job file.") from None
        else:
            if record is None or (status.st_size, status.st_mtime_ns) != (record.size_bytes, record.mtime_ns):
                record = FileRecord(status.st_size, status.st_mtime_ns, digest_file(path))
        records[located(path, root)] = record
    return records


def keep_records(records: dict[str, FileRecord], known: Path) -> None:
    """Write what `table_records` returned."""
    write_json(known, {path: asdict(record) for path, record in records.items()})


def classify(
    catalogue: CatalogueSource,
    section: SpectroscopySection,
    survey: Survey,
    cuts: SampleCuts,
    output: Path,
    told: Callable[[int, int], None],
) -> tuple[list[tuple[str, int]], list[CutCount]]:
    """Match a catalogue, write ``counterparts.fits`` and count the classes of the objects that pass the cuts.

    ``told`` is given the number of files read, and that of all files.

    Returns
    -------
    table : list of (str, int)
        Rows of table 1 (see `classes.table_1`).
    cut_counts : list of CutCount
        The objects before and after each cut.

    Raises
    ------
    SwimmyError
        When a table cannot be read or lacks a column, or the cuts need what the catalogue does not have.
    """
    from swimmy_scale.ingest.catalogue.catalogue import read_catalogue
    from swimmy_scale.ingest.pixels.sources import tables_of

    n_read, n_files = 0, 1 + len(section.paths)

    def read(n_more: int) -> None:
        nonlocal n_read
        n_read += n_more
        told(n_read, n_files)

    read(0)
    objects = read_catalogue(catalogue, survey, tables_of([catalogue.path]) if catalogue.path else ())
    read(1)
    objects, counterparts, simulated = with_counterparts(objects, section, read)
    columns = SampleColumns(
        usable=matched_rows(objects),
        fwhm_arcsec=objects.fwhm_arcsec,
        depth_mag=objects.depth_mag,
        mag=objects.mag,
        psf_mag=objects.psf_mag,
        flags=objects.flags,
        redshift=objects.redshift,
    )
    for warning in objects.warnings:
        log.warning(warning)
    in_sample, cut_counts = apply_cuts(columns, cuts, survey, objects.available)
    write_counterparts(output, counterparts, simulated)
    row = _rows_of(counterparts, objects)
    classes = Classes(**{name: np.append(held, False)[row] for name, held in vars(counterparts.classes).items()})
    return table_1(classes, in_sample), cut_counts
