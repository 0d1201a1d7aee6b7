"""Ingest: catalogue and pixel sources become ``cutouts.zarr``; bad objects go to quarantine."""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import swimmy_scale
from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.ingest.catalogue.objects import Objects
from swimmy_scale.ingest.pixels.sources import Index, build_index, expand_sources, list_source, read_rows
from swimmy_scale.method.bit_rounding import round_mantissa
from swimmy_scale.method.job import plain
from swimmy_scale.method.quarantine import Code, Fault, merge_faults
from swimmy_scale.method.sample import ALL_FLAGS, PARTLY_EMPTY, SampleCuts
from swimmy_scale.method.sections import (
    CatalogueSource,
    IngestSection,
    SpectroscopySection,
    StorageSection,
    TrainSection,
)
from swimmy_scale.method.survey import BoolArray, FloatArray, Survey
from swimmy_scale.method.words import counted
from swimmy_scale.stages.engine import Stage, Task, Tasks
from swimmy_scale.stages.lost_workers import LEFT_OUT_REASON, left_out
from swimmy_scale.stages.notices import add_up, shown
from swimmy_scale.stages.prospects import Prospects, prospects_of_catalogue
from swimmy_scale.stages.spectroscopy import keep_records, table_records, with_counterparts
from swimmy_scale.storage.counterparts import write_counterparts
from swimmy_scale.storage.cutouts import FORMAT_VERSION, cutouts_layout
from swimmy_scale.storage.files import digest_json, write_json
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import counterparts_beside
from swimmy_scale.storage.store import Layout, create, digest_columns, write_partition

log = logging.getLogger("swimmy_scale")

_PARTLY_EMPTY_BIT = np.uint32(1 << ALL_FLAGS.index(PARTLY_EMPTY))


@dataclass(frozen=True)
class IngestTask(Task):
    """One partition to ingest: its catalogue rows, and where their pixels lie."""

    cutouts: Path
    layout: Layout
    survey: Survey
    objects: Objects
    sources: Index
    keep_mantissa_bits: int | None = None


def ingest_partition(task: IngestTask) -> Receipt:
    """Read one partition's pixels, check them, write the partition, commit its receipt.

    Every catalogue row has its row in the store; a quarantined one has NaN pixels and its code.
    """
    objects, rows = task.objects, task.layout.rows(task.index)
    partly_empty = np.zeros(len(rows), np.bool_)
    image, faults, notes, input_sha256 = _read_pixels(task, 0, len(rows), partly_empty)
    merged = merge_faults([*objects.faults, *faults])
    code = np.zeros(len(rows), np.uint8)
    for fault in merged:
        code[fault.row - rows.start] = fault.code
    n_partly_empty = int(np.count_nonzero(partly_empty & (code == 0)))
    notes += [f"an object is {PARTLY_EMPTY}: pixels outside of its central aperture hold no data"] * n_partly_empty
    image[code != 0] = np.nan
    if task.keep_mantissa_bits is not None:
        round_mantissa(image, task.keep_mantissa_bits, out=image)
    values: dict[str, Any] = {
        "image": image,
        "object_id": objects.object_id,
        "ra": objects.ra,
        "dec": objects.dec,
        "fwhm_arcsec": objects.fwhm_arcsec,
        "mag": objects.mag,
        "psf_mag": objects.psf_mag,
        "depth_mag": objects.depth_mag,
        "flags": objects.flags | np.where(partly_empty & (code == 0), _PARTLY_EMPTY_BIT, np.uint32(0)),
        "redshift": objects.redshift,
        "sample_class": objects.sample_class,
        "quarantine_code": code,
        **objects.kept,
    }
    details = {
        "input_sha256": input_sha256,
        "n_ingested": int((code == 0).sum()),
        "n_quarantined": int((code != 0).sum()),
        "warnings": dict(Counter(notes)),
        "quarantined": [
            [f.row, int(objects.object_id[f.row - rows.start]), int(f.code), f.band, f.source, f.reason] for f in merged
        ],
    }
    files = write_partition(task.cutouts, task.layout, task.index, values)
    return task.commit(files, digest_columns(values), details, objects.object_id)


def _read_pixels(
    task: IngestTask, lo: int, hi: int, partly_empty: BoolArray
) -> tuple[FloatArray, list[Fault], list[str], str]:
    """Rows ``lo`` to ``hi`` of a task: pixels (float32, NaN for rows that are left out), faults, warnings, digest.

    The digest is that of what was read; ``partly_empty``, shape (hi - lo,), is filled (see `sources.read_rows`).
    """
    objects, first = task.objects, task.layout.rows(task.index).start
    size = task.survey.cutout_size_px
    image = np.empty((hi - lo, task.survey.n_bands, size, size), np.float32)
    skipped = [row for row in left_out(task.ledger, task.name) if lo <= row < hi]
    image[[row - lo for row in skipped]] = np.nan
    faults = [Fault(first + row, Code.ENDED_WORKERS, "", "", LEFT_OUT_REASON) for row in skipped]
    notes: list[str] = []
    digests = []
    for start, stop in pairwise([lo - 1, *skipped, hi]):
        if stop > start + 1:
            part = slice(start + 1, stop)
            _, found, said, digest = read_rows(
                task.sources.slice(first + start + 1, first + stop),
                first + start + 1,
                objects.object_id[part],
                objects.ra[part],
                objects.dec[part],
                task.survey,
                image[start + 1 - lo : stop - lo],
                partly_empty[start + 1 - lo : stop - lo],
            )
            faults += found
            notes += said
            digests.append(digest)
    return image, faults, notes, digests[0] if len(digests) == 1 else digest_json(digests)


def probe_ingest(task: IngestTask, lo: int, hi: int) -> None:
    """Read rows ``lo`` to ``hi`` of a task and write nothing."""
    _read_pixels(task, lo, hi, np.zeros(hi - lo, np.bool_))


def column_type(values: np.ndarray[Any, Any]) -> str:
    """The type in which a kept catalogue column is stored."""
    return "string" if values.dtype.kind in "TOUS" else values.dtype.name


@dataclass(frozen=True)
class IngestStage(Stage):
    """Ingest of a whole survey into ``cutouts.zarr``.

    ``cuts`` and ``train`` are what the job does later: an ingest of which nothing could come out then is refused.
    """

    ledger: Ledger
    cutouts: Path
    survey: Survey
    catalogue: CatalogueSource
    sources: IngestSection
    storage: StorageSection
    spectroscopy: SpectroscopySection | None = None
    cuts: SampleCuts | None = None
    train: TrainSection | None = None

    perform = staticmethod(ingest_partition)
    probe = staticmethod(probe_ingest)

    @property
    def identity(self) -> str:
        """Digest of survey, catalogue and source descriptions, tables of spectra and the code version."""
        return digest_json(
            [
                "ingest",
                FORMAT_VERSION,
                swimmy_scale.__version__,
                *(plain(part, self.ledger.root) for part in (self.survey, self.catalogue, self.sources, self.storage)),
                *self._spectroscopy_identity,
            ]
        )

    @property
    def _spectroscopy_identity(self) -> list[Any]:
        if self.spectroscopy is None:
            return []
        records = table_records(self.spectroscopy.paths, self._tables, self.ledger.root)
        digests = {path: record.sha256 for path, record in records.items()}
        return [plain(self.spectroscopy, self.ledger.root), digests]

    @property
    def _tables(self) -> Path:
        """The digests of the tables of spectra when they were matched."""
        return self.ledger.note_path("tables")

    @property
    def _notes(self) -> Path:
        """What was noticed before the first partition: warnings, and files of no object."""
        return self.ledger.note_path("notes")

    def _find_pixels(self, objects: Objects) -> Index:
        section = self.sources
        if section.coadd:
            listings = [list_source(str(p), self.survey, kind="coadd", band=band) for band, p in section.coadd.items()]
        else:
            kind = section.kind
            # Threads wait for disks, and unpack gzip, at the same time. Each sets and restores Python's warning filters
            # as it goes, in any order: this context puts them back as they were.
            with warnings.catch_warnings(), ThreadPoolExecutor() as threads:
                listings = list(
                    threads.map(lambda path: list_source(path, self.survey, kind), expand_sources(section.sources))
                )
        index = build_index(
            listings,
            objects.object_id,
            objects.ra,
            objects.dec,
            self.survey,
            name_pattern=section.name_pattern,
            match_radius_arcsec=section.match_radius_arcsec,
            tract=objects.tract,
        )
        for warning in [*objects.warnings, *index.warnings]:
            log.warning(warning)
        return index

    def _prospects(self, objects: Objects, index: Index | None = None) -> Prospects:
        return prospects_of_catalogue(self.catalogue.path, objects, self.survey, self.cuts, self.train, index)

    def _read_catalogue(self) -> Objects:
        # What reads tables takes half a second to import, and workers need none of it.
        from swimmy_scale.ingest.catalogue.catalogue import read_catalogue

        return read_catalogue(self.catalogue, self.survey)

    def check_catalogue(self) -> None:
        """Refuse a catalogue of which nothing could come out; it alone is read, and nothing is written."""
        objects = self._read_catalogue()
        self._layout(objects)
        # Tables of spectra take minutes to read: the stage itself looks at the classes that they give.
        (self if self.spectroscopy is None else replace(self, cuts=None, train=None))._prospects(objects).check()

    def look_ahead(self) -> tuple[Prospects, Index, Layout]:
        """What would come out, where the pixels lie and how they would be stored; nothing is written."""
        objects = self._read_catalogue()
        if self.spectroscopy is not None:
            objects, _, _ = with_counterparts(objects, self.spectroscopy)
        index = self._find_pixels(objects)
        return self._prospects(objects, index), index, self._layout(objects)

    def _layout(self, objects: Objects) -> Layout:
        return cutouts_layout(
            len(objects),
            self.survey,
            {name: column_type(values) for name, values in objects.kept.items()},
            self.storage.partition_objects,
            self.storage.chunk_objects,
            {"simulated": objects.simulated, "available_columns": sorted({*objects.available, PARTLY_EMPTY})},
            self.storage.keep_mantissa_bits,
        )

    @property
    def when_finished(self) -> str:
        """A finished ingest does not look for new files."""
        return f"sources were not looked at again; for new files remove {self.ledger.path(FINISHED)} first"

    def plan(self) -> Sequence[IngestTask]:
        """Read the catalogue, find every object's pixels, create the store; one task a partition."""
        objects = self._matched(self._read_catalogue())
        layout = self._layout(objects)
        self._prospects(objects).check()
        index = self._find_pixels(objects)
        self._prospects(objects, index).check()
        create(self.cutouts, layout)
        stage_identity = self.identity

        def task(partition: int) -> IngestTask:
            rows = layout.rows(partition)
            part, sources = objects.slice(rows.start, rows.stop), index.slice(rows.start, rows.stop)
            inputs = [layout.attrs["simulated"], part.digest(), sources.fingerprint()]
            return IngestTask(
                ledger=self.ledger,
                index=partition,
                identity=digest_json([stage_identity, *inputs]),
                n_objects=len(rows),
                cutouts=self.cutouts,
                layout=layout,
                survey=self.survey,
                objects=part,
                sources=sources,
                keep_mantissa_bits=self.storage.keep_mantissa_bits,
            )

        write_json(
            self._notes,
            {
                "warnings": [*objects.warnings, *index.warnings],
                "n_unmatched": index.n_unmatched,
                "unmatched": list(index.unmatched),
            },
        )
        return Tasks(range(layout.n_partitions), task)

    def _matched(self, objects: Objects) -> Objects:
        """The catalogue with redshifts and classes from tables of spectra, if any; writes ``counterparts.fits``."""
        if self.spectroscopy is None:
            return objects
        keep_records(table_records(self.spectroscopy.paths, self._tables, self.ledger.root), self._tables)
        objects, counterparts, simulated = with_counterparts(objects, self.spectroscopy)
        write_counterparts(counterparts_beside(self.cutouts), counterparts, simulated)
        return objects

    def finish(self, receipts: Iterable[Receipt], add: Callable[[int], None]) -> Receipt:
        """Add up what the partitions counted; given = ingested + quarantined."""
        notes = json.loads(self._notes.read_text())
        found = Counter[str]()
        parts, counts = Parts(), Counter(n_ingested=0, n_quarantined=0)
        for receipt in parts.count(receipts):
            counts.update({key: int(receipt.details[key]) for key in counts})
            found.update(receipt.details["warnings"])
        if parts.n_objects != counts.total():
            raise SwimmyError(
                f"{self.cutouts}: {counted(parts.n_objects, 'objects')} given, but {dict(counts)}. "
                f"Run `{typed('verify')}`."
            )
        read = add_up(found.elements())
        # What was noticed before is said by then.
        for notice in shown(read):
            log.warning(notice)
        names = sorted(self.cutouts.rglob("zarr.json"))
        labels = sorted(item for item in (self.cutouts / "band" / "c").rglob("*") if item.is_file())
        spectra = [] if self.spectroscopy is None else [self._tables, counterparts_beside(self.cutouts)]
        return self.ledger.finish(
            self.identity,
            parts,
            [*names, *labels, self._notes, *spectra],
            {**counts, "n_unmatched_files": notes["n_unmatched"], "warnings": add_up(notes["warnings"]) | read},
        )
