"""Ingest: catalogue and pixel sources become ``cutouts.zarr``; bad objects go to quarantine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import swimmy_scale
from swimmy_scale.errors import SwimmyError, typed
from swimmy_scale.ingest.catalogue.objects import Objects
from swimmy_scale.ingest.pixels.sources import Index
from swimmy_scale.method.job import plain
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.sample import MASKED_CENTER, PARTLY_EMPTY, SampleCuts
from swimmy_scale.method.sections import (
    AdditionSection,
    CatalogueSource,
    IngestSection,
    SpectroscopySection,
    StorageSection,
    TrainSection,
)
from swimmy_scale.method.survey import Survey
from swimmy_scale.method.words import counted
from swimmy_scale.stages.deliveries import Delivery, catalogue_named, find_pixels, read_objects
from swimmy_scale.stages.engine import Stage, Tasks
from swimmy_scale.stages.growth import STORE_ATTRS, Growth, Notes, note_of
from swimmy_scale.stages.ingest_partition import IngestTask, Share, ingest_partition, probe_ingest
from swimmy_scale.stages.memory import MemoryLimits, check_ingest
from swimmy_scale.stages.notices import add_up, shown
from swimmy_scale.stages.prospects import Prospects, prospects_of_catalogue
from swimmy_scale.stages.spectroscopy import keep_records, table_records, with_counterparts
from swimmy_scale.storage.counterparts import write_counterparts
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import FORMAT_VERSION, Cutouts, cutouts_layout
from swimmy_scale.storage.files import digest_json
from swimmy_scale.storage.kept_rows import KeptRows
from swimmy_scale.storage.layout import Layout, column_type
from swimmy_scale.storage.receipts import FINISHED, Ledger, Parts, Receipt
from swimmy_scale.storage.run_directory import counterparts_beside

log = logging.getLogger("swimmy_scale")


@dataclass(frozen=True)
class IngestStage(Stage):
    """Ingest of a whole survey into ``cutouts.zarr``.

    ``cuts`` and ``train`` are what the job does later: an ingest of which nothing could come out then is refused.
    With ``additions`` all but the last of them are ingested already (see `growth`). ``limits`` are those of a process
    that performs a partition.
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
    additions: tuple[AdditionSection, ...] = ()
    limits: MemoryLimits | None = None

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
                *(plain(addition, self.ledger.root) for addition in self.additions),
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

    def _prospects(self, objects: Objects, index: Index | None = None) -> Prospects:
        named = catalogue_named(self.catalogue, self.sources)
        return prospects_of_catalogue(named, objects, self.survey, self.cuts, self.train, index)

    def _read_catalogue(self) -> Objects:
        return read_objects(self.catalogue, self.survey, self.sources)

    def as_begun(self) -> IngestStage:
        """The same ingest, with the kept columns that it began with: what a job names later, a selection reads."""
        kept = self._begun_with()
        if kept is None or kept == self.catalogue.keep_columns:
            return self
        catalogue = replace(self.catalogue, keep_columns=kept)
        additions = [
            addition
            if addition.catalogue is None
            else addition.model_copy(update={"catalogue": replace(addition.catalogue, keep_columns=kept)})
            for addition in self.additions
        ]
        return replace(self, catalogue=catalogue, additions=tuple(additions))

    def _begun_with(self) -> tuple[str, ...] | None:
        """Names of the columns that the store keeps; None if there is none. Either its notes or it can be damaged."""
        noted = Notes.read(self._notes).entries
        if noted and "kept_columns" in noted[0]:
            return tuple(noted[0]["kept_columns"])
        try:
            kept = Cutouts(self.cutouts).kept
            return tuple(name for name in kept if name != OBJECT_NAME or name in self.catalogue.keep_columns)
        except SwimmyError:
            return None

    @property
    def deliveries(self) -> list[Delivery]:
        """The job's own catalogue and pixels, then those of the additions, in order."""
        own = Delivery("", replace(self, additions=()).identity, self.catalogue, self.sources)
        later = []
        for addition in self.additions:
            identity = digest_json(["addition", own.identity, plain(addition, self.ledger.root)])
            late_for = self.sources if addition.catalogue is None else None
            catalogue = addition.catalogue or self.catalogue
            later.append(Delivery(addition.name, identity, catalogue, addition.ingest, late_for))
        return [own, *later]

    @property
    def n_begun(self) -> int:
        """How many of the additions are ingested, or were begun to be: by the notes of the ingest and its store."""
        noted = Notes.read(self._notes).fitting(self.deliveries) - 1
        if noted < 0 and self.cutouts.is_dir():
            noted = len(Cutouts(self.cutouts).additions)
        return min(max(noted, 0), len(self.additions))

    @property
    def added(self) -> list[dict[str, str]]:
        """Name of each addition, and when it was planned first (UTC)."""
        return [{"name": entry["name"], "when": entry["when"]} for entry in Notes.read(self._notes).entries[1:]]

    def in_order(self) -> Iterator[IngestStage]:
        """This ingest, addition by addition, from the first that may not be finished."""
        for number in range(self.n_begun if self.additions else 0, len(self.additions) + 1):
            yield replace(self, additions=self.additions[:number])

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
        index = find_pixels(self.sources, objects, self.survey)
        return self._prospects(objects, index), index, self._layout(objects, index)

    def _layout(self, objects: Objects, index: Index | None = None) -> Layout:
        kept = {name: column_type(values) for name, values in objects.kept.items()}
        of_pixels = {PARTLY_EMPTY, *({MASKED_CENTER} if index is not None and index.has_masks else ())}
        own = {"simulated": objects.simulated, "available_columns": sorted({*objects.available, *of_pixels})}
        return self._layout_of(len(objects), kept, own)

    def _layout_of(self, n_objects: int, kept: Mapping[str, str], own: Mapping[str, Any]) -> Layout:
        partition_objects, chunk_objects = self.storage.partition_objects, self.storage.chunk_objects
        bits = self.storage.keep_mantissa_bits
        return cutouts_layout(n_objects, self.survey, kept, partition_objects, chunk_objects, own, bits)

    @property
    def when_finished(self) -> str:
        """A finished ingest does not look for new files."""
        done = self.ledger.path(FINISHED)
        if self.additions:
            return "sources were not looked at again; for new files: swimmy-scale add"
        return f"sources were not looked at again; for new files: swimmy-scale add, or remove {done} first"

    def growth(self) -> Growth:
        """The plan of the last addition."""

        def layout(n_objects: int, attrs: Mapping[str, Any], notes: Mapping[str, Any]) -> Layout:
            own = {name: attrs[name] for name in ("simulated", "available_columns")}
            return replace(self._layout_of(n_objects, attrs["kept_columns"], own), notes=notes)

        partition_objects, bits = self.storage.partition_objects, self.storage.keep_mantissa_bits
        places = (self.ledger, self.cutouts, self.survey, self._notes)
        return Growth(*places, self.deliveries, layout, self.check_memory, partition_objects, bits)

    def check_memory(self, index: Index) -> None:
        """Refuse pixels that would take more memory than a process has."""
        if self.limits is not None:
            check_ingest(self.limits, self.survey, self.storage.partition_objects, index.unpacked_bytes)

    def plan(self) -> Sequence[IngestTask]:
        """Read the catalogue, find every object's pixels, create the store; one task a partition."""
        if self.additions:
            return self.growth().plan()
        objects = self._matched(self._read_catalogue())
        self._prospects(objects).check()
        index = find_pixels(self.sources, objects, self.survey)
        self._prospects(objects, index).check()
        self.check_memory(index)
        layout = self._layout(objects, index)
        create(self.cutouts, layout)
        stage_identity = self.identity

        def task(partition: int) -> IngestTask:
            rows = layout.rows(partition)
            part, sources = objects.slice(rows.start, rows.stop), index.slice(rows.start, rows.stop)
            inputs = [layout.attrs["simulated"], part.digest(), sources.fingerprint()]
            identity = digest_json([stage_identity, *inputs])
            return IngestTask(
                ledger=self.ledger,
                index=partition,
                identity=identity,
                n_objects=len(rows),
                cutouts=self.cutouts,
                layout=layout,
                survey=self.survey,
                shares=(Share(identity, 0, part, sources),),
                keep_mantissa_bits=self.storage.keep_mantissa_bits,
            )

        own = {name: layout.attrs[name] for name in STORE_ATTRS}
        Notes(({**note_of(self.deliveries[0], objects, index), "store": own},)).write(self._notes)
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
        notes = Notes.read(self._notes).entries
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
        noted = [warning for entry in notes for warning in entry["warnings"]]
        n_unmatched = sum(entry["n_unmatched"] for entry in notes)
        done = self.ledger.finish(
            self.identity,
            parts,
            [*names, *labels, self._notes, *spectra],
            {**counts, "n_unmatched_files": n_unmatched, "warnings": add_up(noted) | read},
        )
        KeptRows.forget(self.ledger)
        return done
