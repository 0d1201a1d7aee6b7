"""A copy of the rows of a store's last partition, if it is not full, while it is written again with more rows.

Pixels may be gone from where they were ingested from, and a partition that is being written is not whole: so its rows
are copied first, and the copy goes when the ingest that needs it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import AnyArray, FloatArray
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import FORMAT_VERSION, Cutouts
from swimmy_scale.storage.files import parse_checked, read_text, remove, sync_files, with_checksum, write_json
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.receipts import UNREADABLE, Ledger, Receipt
from swimmy_scale.storage.store import open_group, read_rows, write_partition

KEPT_VERSION = 1
FOLDER = "last-partition"


def spans_in(receipt: Receipt) -> list[dict[str, Any]]:
    """What a partition's receipt says of each delivery that it holds rows of, in order.

    Each has ``identity``, ``n_objects``, ``data_digest`` and the ``details`` of a partition. A partition of one
    delivery says it of the whole.
    """
    spans: list[dict[str, Any]] | None = receipt.details.get("spans")
    if spans is not None:
        return spans
    return [
        {
            "identity": receipt.identity,
            "n_objects": receipt.n_objects,
            "data_digest": receipt.data_digest,
            "details": dict(receipt.details),
        }
    ]


@dataclass(frozen=True)
class KeptRows:
    """The copied rows of one partition.

    Attributes
    ----------
    folder : Path
        Holds the copy, a store of these rows alone, and what is known of it.
    partition, n_objects : int
        Which one, and how many rows it has.
    spans : sequence of dict
        As `spans_in` returns them.
    """

    folder: Path
    partition: int
    n_objects: int
    spans: Sequence[Mapping[str, Any]]

    @staticmethod
    def folder_of(ledger: Ledger) -> Path:
        """Where the copy of an ingest lies: among its receipts."""
        return ledger.folder / FOLDER

    @classmethod
    def found(cls, ledger: Ledger, partition: int, n_objects: int) -> KeptRows | None:
        """The copy of so many rows of a partition, or None if it is not there."""
        folder = cls.folder_of(ledger)
        try:
            content = parse_checked(read_text(folder / "rows.json"), KEPT_VERSION)
            kept = cls(folder, content["partition"], content["n_objects"], content["spans"])
        except UNREADABLE:
            return None
        return kept if (kept.partition, kept.n_objects) == (partition, n_objects) else None

    @classmethod
    def copy(cls, ledger: Ledger, cutouts: Path, layout: Layout, receipt: Receipt, partition: int) -> KeptRows:
        """Copy the rows of a partition that its receipt vouches for.

        Raises
        ------
        SwimmyError
            When rows are damaged.
        """
        kept = cls(cls.folder_of(ledger), partition, receipt.n_objects, spans_in(receipt))
        cls.forget(ledger)
        store, first = Cutouts(cutouts), partition * layout.partition_objects
        own = replace(layout, n_objects=receipt.n_objects, notes={})
        create(kept._store, own)
        columns = {v.name: store.read(v.name, first, first + receipt.n_objects) for v in layout.variables}
        sync_files(write_partition(kept._store, own, 0, columns), kept.folder)
        body = {"partition": partition, "n_objects": receipt.n_objects, "spans": [dict(one) for one in kept.spans]}
        write_json(kept.folder / "rows.json", with_checksum({"format_version": KEPT_VERSION, **body}))
        return kept

    @staticmethod
    def forget(ledger: Ledger) -> None:
        """Remove the copy, what is known of it first."""
        folder = KeptRows.folder_of(ledger)
        remove(folder / "rows.json")
        remove(folder)

    @property
    def _store(self) -> Path:
        return self.folder / "rows.zarr"

    def read_columns(self, *names: str) -> dict[str, AnyArray]:
        """Some variables."""
        group = open_group(self._store, FORMAT_VERSION)
        return {name: read_rows(group, name, 0, None) for name in names}

    def read(self, image: FloatArray) -> dict[str, AnyArray]:
        """All variables but the pixels, which go to ``image``, float32 (n_objects, band, y, x)."""
        group = open_group(self._store, FORMAT_VERSION)
        step = int(group.attrs["chunk_objects"])  # type: ignore[arg-type]
        for lo in range(0, self.n_objects, step):
            image[lo : lo + step] = read_rows(group, "image", lo, min(lo + step, self.n_objects))
        labels = ("image", "band")
        return self.read_columns(*sorted(name for name in group.array_keys() if name not in labels))

    def damaged(self) -> SwimmyError:
        """The error for rows that are not those that were copied."""
        return SwimmyError(
            f"{self.folder}: the copied rows of partition {self.partition} are not those that were copied. Remove "
            "this folder and run again: they are read from the sources anew."
        )
