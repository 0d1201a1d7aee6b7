"""An ingest that has additions: they become further partitions at the end of the same store.

Full partitions of what is there stay as they are, and are known by their receipts: their sources may be gone. The last
one, if it is not full, is written again, of its own rows, which are copied first, and the first new ones. Each addition
is planned when all before it is ingested, because it depends on which objects are usable by then; so a job that has
additions from the start goes the same way as one that gains them later, and ends with the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.ingest.catalogue.objects import Objects
from swimmy_scale.ingest.pixels.sources import Index
from swimmy_scale.method.spans import Span, first_rows, spans_of
from swimmy_scale.method.survey import Survey
from swimmy_scale.stages.deliveries import Decision, Delivery, Known, Taken, find_pixels, read_objects, take_in
from swimmy_scale.stages.engine import Tasks
from swimmy_scale.stages.ingest_partition import IngestTask, Share
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_json, read_text, write_json
from swimmy_scale.storage.kept_rows import KeptRows, spans_in
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.receipts import UNREADABLE, Ledger, Receipt, task_name

BLOCK_OBJECTS = 1 << 18
STORE_ATTRS = ("simulated", "available_columns", "kept_columns")
"""What a store's attributes say of the job's own catalogue."""


@dataclass(frozen=True)
class Notes:
    """What is noted of each delivery when it is planned: the job's own, then its additions.

    An entry has ``name``, ``identity``, ``n_objects``, ``kept_columns``, ``warnings``, ``n_unmatched`` and
    ``unmatched``; the job's own ``store`` as well (see `STORE_ATTRS`), that of an addition ``decision`` (see
    `Decision`) and ``when`` (UTC).
    """

    entries: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, path: Path) -> Notes:
        """The notes of an ingest; none if there are none."""
        try:
            content = json.loads(read_text(path))
            return cls((content, *content.get("additions", ())))
        except UNREADABLE:
            return cls()

    def write(self, path: Path) -> None:
        """Write them."""
        own, additions = {**self.entries[0]}, list(self.entries[1:])
        own.pop("additions", None)
        write_json(path, {**own, **({"additions": additions} if additions else {})})

    def fitting(self, deliveries: Sequence[Delivery]) -> int:
        """How many deliveries from the first on are noted, and are still what they were."""
        number = 0
        for entry, delivery in zip(self.entries, deliveries, strict=False):
            if entry.get("identity") != delivery.identity or "n_objects" not in entry:
                break
            number += 1
        return number


def note_of(delivery: Delivery, objects: Objects, index: Index) -> dict[str, Any]:
    """The entry of a delivery."""
    return {
        "name": delivery.name,
        "identity": delivery.identity,
        "n_objects": len(objects),
        "kept_columns": list(delivery.catalogue.keep_columns),
        "warnings": [*objects.warnings, *index.warnings],
        "n_unmatched": index.n_unmatched,
        "unmatched": list(index.unmatched),
    }


@dataclass
class Growth:
    """The plan of an ingest of several deliveries, all but the last of which are ingested.

    Attributes
    ----------
    notes_path : Path
        Of `Notes`.
    deliveries : sequence of Delivery
        The job's own first.
    layout : callable
        The layout of the store for a number of objects, by `STORE_ATTRS`, and with attributes that may change.
    check_memory : callable
        Refuses pixels that would take more memory than there is.
    """

    ledger: Ledger
    cutouts: Path
    survey: Survey
    notes_path: Path
    deliveries: Sequence[Delivery]
    layout: Callable[[int, Mapping[str, Any], Mapping[str, Any]], Layout]
    check_memory: Callable[[Index], None]
    partition_objects: int
    keep_mantissa_bits: int | None = None
    _planned: dict[int, Taken] = field(default_factory=dict)

    @cached_property
    def _notes(self) -> Notes:
        return Notes.read(self.notes_path)

    @cached_property
    def _store(self) -> Cutouts:
        return Cutouts(self.cutouts)

    @cached_property
    def _attrs(self) -> Mapping[str, Any]:
        """What the store's layout takes from the job's own catalogue; noted, as the store's metadata can be damaged."""
        noted = self._notes.fitting(self.deliveries[:1]) > 0
        attrs: Mapping[str, Any] = self._notes.entries[0].get("store") or {} if noted else {}
        return attrs or {name: self._store.attrs[name] for name in STORE_ATTRS}

    @property
    def _last(self) -> int:
        """Which delivery is the new one."""
        return len(self.deliveries) - 1

    def _count(self, number: int) -> int:
        """Objects of a delivery."""
        if number < self._notes.fitting(self.deliveries[: self._last]):
            return int(self._notes.entries[number]["n_objects"])
        return len(self.taken(number).objects)

    @cached_property
    def _counts(self) -> list[int]:
        """Objects of each delivery but the last."""
        return [self._count(number) for number in range(self._last)]

    @property
    def _n_before(self) -> int:
        return sum(self._counts)

    def taken(self, number: int) -> Taken:
        """Objects and pixels of a delivery, read from its catalogue and sources once."""
        if number not in self._planned:
            delivery = self.deliveries[number]
            if number == 0:
                objects = read_objects(delivery.catalogue, self.survey, delivery.sources)
                self._planned[0] = Taken(
                    objects, find_pixels(delivery.sources, objects, self.survey), Decision("", None, (), 0)
                )
            else:
                noted = self._notes.fitting(self.deliveries) > number
                decided = Decision.from_json(self._notes.entries[number]["decision"]) if noted else None
                known = partial(self._known_before, number)
                self._planned[number] = take_in(delivery, self.survey, self._attrs, known, decided)
            self.check_memory(self._planned[number].index)
        return self._planned[number]

    def _known_before(self, number: int) -> Known:
        """The rows of all deliveries before one; nothing is written."""
        end, kept = sum(self._count(k) for k in range(number)), None
        partition, n_rows = divmod(self._n_before, self.partition_objects) if number == self._last else (0, 0)
        if n_rows and self._receipt(partition) is None:
            # It is being written again.
            kept = KeptRows.found(self.ledger, partition, n_rows)
            end -= 0 if kept is None else n_rows
        ids, codes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
        for lo in range(0, end, BLOCK_OBJECTS):
            hi = min(lo + BLOCK_OBJECTS, end)
            ids.append(self._store.read("object_id", lo, hi))
            codes.append(self._store.read("quarantine_code", lo, hi))
        if kept is not None:
            columns = kept.read_columns("object_id", "quarantine_code")
            ids.append(columns["object_id"])
            codes.append(columns["quarantine_code"])
        return Known(np.concatenate(ids), np.concatenate(codes) == 0)

    @cached_property
    def _kept(self) -> KeptRows | None:
        """The copied rows of the last partition, if it is not full; copied now if they are still in the store."""
        partition, n_rows = divmod(self._n_before, self.partition_objects)
        receipt = self._receipt(partition) if n_rows else None
        found = KeptRows.found(self.ledger, partition, n_rows) if n_rows else None
        if receipt is None or receipt.n_objects != n_rows or (found and list(found.spans) == spans_in(receipt)):
            return found
        before = self.layout(self._n_before, self._attrs, {})
        return KeptRows.copy(self.ledger, self.cutouts, before, receipt, partition)

    def _receipt(self, partition: int) -> Receipt | None:
        receipt = self.ledger.read(task_name(partition))
        return receipt if receipt is not None and self.ledger.intact(receipt) else None

    def _there(self, partition: int, spans: Sequence[Span]) -> Sequence[Mapping[str, Any]] | None:
        """What is said of the older spans of a partition that need not be read again; None if they must be."""
        older = [span for span in spans if span.delivery < self._last]
        kept = self._kept
        if kept is not None and kept.partition == partition:
            return kept.spans if self._noted(older) else None
        receipt = self._receipt(partition)
        if receipt is None or receipt.n_objects != sum(len(span) for span in spans):
            return None
        said = spans_in(receipt)
        if [one["n_objects"] for one in said] != [len(span) for span in spans] or not self._noted(older):
            return None
        return said[: len(older)]

    def _noted(self, spans: Iterable[Span]) -> bool:
        """Whether the deliveries of some spans are still what they were when they were ingested."""
        return all(span.delivery < self._notes.fitting(self.deliveries) for span in spans)

    def _share(self, span: Span, starts: Sequence[int], simulated: bool) -> Share:
        taken, delivery = self.taken(span.delivery), self.deliveries[span.delivery]
        objects, sources = taken.objects.slice(span.lo, span.hi), taken.index.slice(span.lo, span.hi)
        identity = digest_json([delivery.identity, simulated, objects.digest(), sources.fingerprint()])
        return Share(identity, starts[span.delivery], objects, sources)

    def plan(self) -> Tasks[IngestTask]:
        """The tasks of all partitions; makes the store longer, and notes the last delivery first."""
        newest = self.taken(self._last)
        counts = [*self._counts, len(newest.objects)]
        starts, size = first_rows(counts), self.partition_objects
        # Before anything changes: what is there is copied, and what is not is looked for.
        kept = self._kept
        there: dict[int, Sequence[Mapping[str, Any]]] = {}
        for partition in range(-(-self._n_before // size)):
            spans = spans_of(counts, size, partition)
            found = self._there(partition, spans)
            if found is None:
                for span in spans:
                    self.taken(span.delivery)
            else:
                there[partition] = found
        notes = self._noted_anew()
        layout = self.layout(starts[-1], self._attrs, {"additions": list(_described(notes, starts))})
        notes.write(self.notes_path)
        create(self.cutouts, layout, may_grow=True)
        simulated = bool(layout.attrs["simulated"])

        def task(partition: int) -> IngestTask:
            spans, known = spans_of(counts, size, partition), there.get(partition)
            copied = kept if kept is not None and kept.partition == partition and known is not None else None
            newer = spans if known is None else [span for span in spans if span.delivery == self._last]
            shares = [self._share(span, starts, simulated) for span in newer]
            identities = [str(one["identity"]) for one in known or ()] + [share.identity for share in shares]
            if known and copied is None and shares and self._differs(partition, identities):
                # The new rows are not those that were written, and the older ones lie in no copy: all are read again.
                shares = [self._share(span, starts, simulated) for span in spans]
                identities = [share.identity for share in shares]
            return IngestTask(
                ledger=self.ledger,
                index=partition,
                identity=identities[0] if len(identities) == 1 else digest_json(["spans", *identities]),
                n_objects=len(layout.rows(partition)),
                cutouts=self.cutouts,
                layout=layout,
                survey=self.survey,
                shares=tuple(shares),
                kept=copied,
                keep_mantissa_bits=self.keep_mantissa_bits,
            )

        return Tasks(range(layout.n_partitions), task)

    def _differs(self, partition: int, identities: Sequence[str]) -> bool:
        receipt = self._receipt(partition)
        return receipt is None or receipt.identity != digest_json(["spans", *identities])

    def _noted_anew(self) -> Notes:
        n_noted = self._notes.fitting(self.deliveries)
        entries: list[Mapping[str, Any]] = []
        for number, delivery in enumerate(self.deliveries):
            if number < n_noted and number not in self._planned:
                entries.append(self._notes.entries[number])
                continue
            taken = self.taken(number)
            entry = note_of(delivery, taken.objects, taken.index)
            if number == 0:
                entry["store"] = dict(self._attrs)
            else:
                when = self._notes.entries[number].get("when") if number < n_noted else None
                now = datetime.now(UTC).isoformat(timespec="seconds")
                entry |= {"decision": taken.decision.to_json(), "when": when or now}
            entries.append(entry)
        return Notes(tuple(entries))


def _described(notes: Notes, starts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The additions as the store's attributes tell them."""
    for number, entry in enumerate(notes.entries[1:], start=1):
        yield {"name": entry["name"], "first_row": starts[number], "n_objects": entry["n_objects"]}
