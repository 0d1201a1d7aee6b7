"""One task of an ingest: a partition is read from its sources, checked and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.ingest.catalogue.objects import Objects
from swimmy_scale.ingest.pixels.sources import Index, read_rows
from swimmy_scale.method.bit_rounding import round_mantissa
from swimmy_scale.method.psf_width import fwhm_faults
from swimmy_scale.method.quarantine import Code, Fault, merge_faults
from swimmy_scale.method.sample import ALL_FLAGS, MASKED_CENTER, PARTLY_EMPTY
from swimmy_scale.method.survey import AnyArray, BoolArray, FloatArray, Survey
from swimmy_scale.stages.engine import Task
from swimmy_scale.stages.lost_workers import LEFT_OUT_REASON, left_out, left_out_files
from swimmy_scale.storage.arrivals import once_there
from swimmy_scale.storage.files import digest_json
from swimmy_scale.storage.kept_rows import KeptRows
from swimmy_scale.storage.layout import Layout, is_text
from swimmy_scale.storage.receipts import Receipt
from swimmy_scale.storage.store import digest_columns, write_partition

_PARTLY_EMPTY_BIT, _MASKED_BIT = (np.uint32(1 << ALL_FLAGS.index(name)) for name in (PARTLY_EMPTY, MASKED_CENTER))


@dataclass(frozen=True)
class Share:
    """What one delivery has in a partition: its catalogue rows, and where their pixels lie.

    Attributes
    ----------
    identity : str
        Digest of all that determines these rows of the store.
    first_row : int
        The row of the store that the delivery begins at: rows of faults and sources count from there.
    """

    identity: str
    first_row: int
    objects: Objects
    sources: Index

    def __len__(self) -> int:
        return len(self.objects)


@dataclass(frozen=True)
class IngestTask(Task):
    """One partition to ingest: rows that are there already, if any, then the shares of deliveries."""

    cutouts: Path
    layout: Layout
    survey: Survey
    shares: tuple[Share, ...]
    kept: KeptRows | None = None
    keep_mantissa_bits: int | None = None

    def places(self) -> list[tuple[int, Share]]:
        """Each share, and the place in the partition of its first row."""
        place = 0 if self.kept is None else self.kept.n_objects
        found = []
        for share in self.shares:
            found.append((place, share))
            place += len(share)
        return found


def ingest_partition(task: IngestTask) -> Receipt:
    """Read one partition's pixels, check them, write the partition, commit its receipt.

    Every catalogue row has its row in the store; a quarantined one has NaN pixels and its code.

    Raises
    ------
    SwimmyError
        When rows that were copied are not as they were.
    """
    size = task.survey.cutout_size_px
    image = np.empty((task.n_objects, task.survey.n_bands, size, size), np.float32)
    parts, details = list[dict[str, AnyArray]](), list[dict[str, Any]]()
    if task.kept is not None:
        parts.append(once_there(partial(task.kept.read, image[: task.kept.n_objects])))
        details += [dict(span["details"]) for span in task.kept.spans]
    for place, share in task.places():
        columns, found = _read_share(task, share, place, image[place : place + len(share)])
        parts.append(columns)
        details.append(found)
    values = parts[0]
    if len(parts) > 1:
        values = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    values["image"] = image
    spans = _spans(task, values, details)
    files = write_partition(task.cutouts, task.layout, task.index, values)
    files += left_out_files(task.ledger, task.name)
    # Of one delivery the receipt is as it always was.
    total = details[0] if len(spans) == 1 else {**_added_up(details), "spans": spans}
    digest = spans[0]["data_digest"] if len(spans) == 1 else digest_columns(values)
    return task.commit(files, digest, total, values["object_id"])


def _joined(columns: Sequence[AnyArray]) -> AnyArray:
    """Columns one below the other; text as objects, whatever the width of each."""
    return np.concatenate([column.astype(object) for column in columns] if is_text(columns[0]) else columns)


def _spans(task: IngestTask, values: dict[str, AnyArray], details: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the receipt says of each delivery, as `kept_rows.spans_in` returns it."""
    kept = [] if task.kept is None else list(task.kept.spans)
    known = [(span["identity"], span["n_objects"]) for span in kept]
    known += [(share.identity, len(share)) for share in task.shares]
    spans, lo = [], 0
    for (identity, n_objects), found in zip(known, details, strict=True):
        digest = digest_columns({name: column[lo : lo + n_objects] for name, column in values.items()})
        spans.append({"identity": identity, "n_objects": n_objects, "data_digest": digest, "details": found})
        lo += n_objects
    if task.kept is not None and any(
        span["data_digest"] != was["data_digest"] for span, was in zip(spans, kept, strict=False)
    ):
        raise task.kept.damaged()
    return spans


def _added_up(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The details of a partition of several deliveries."""
    warnings = Counter[str]()
    for found in details:
        warnings.update(found["warnings"])
    return {
        "input_sha256": digest_json([found["input_sha256"] for found in details]),
        "n_ingested": sum(found["n_ingested"] for found in details),
        "n_quarantined": sum(found["n_quarantined"] for found in details),
        "warnings": dict(warnings),
        "quarantined": [item for found in details for item in found["quarantined"]],
    }


def _read_share(
    task: IngestTask, share: Share, place: int, image: FloatArray
) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    """Columns and details of a share, whose pixels go to ``image``."""
    objects, n_rows, first = share.objects, len(share), share.sources.first_row
    found = _ReadRows.of(task.survey, n_rows)
    faults, notes, input_sha256 = _read_pixels(task, share, place, 0, image, found)
    partly_empty, masked, fwhm_arcsec = found.partly_empty, found.masked, objects.fwhm_arcsec
    if share.sources.reads_psf:
        fwhm_arcsec = np.where(np.isnan(fwhm_arcsec), found.fwhm_arcsec, fwhm_arcsec)
        notes += ["an object has the FWHM of the PSF in its files"] * int(
            np.isfinite(found.fwhm_arcsec).any(axis=1).sum()
        )
        wrong = fwhm_faults(fwhm_arcsec, task.survey, "")
        faults += [replace(fault, row=first + fault.row) for fault in wrong]
    merged = merge_faults([*objects.faults, *faults])
    code = np.zeros(n_rows, np.uint8)
    for fault in merged:
        code[fault.row - first] = fault.code
    partly_empty, masked = partly_empty & (code == 0), masked & (code == 0)
    empty_word = f"an object is {PARTLY_EMPTY}: pixels outside of its central aperture hold no data"
    masked_word = f"an object is {MASKED_CENTER}: its mask calls a pixel of the central aperture bad"
    notes += [empty_word] * int(partly_empty.sum()) + [masked_word] * int(masked.sum())
    bits = np.where(partly_empty, _PARTLY_EMPTY_BIT, np.uint32(0)) | np.where(masked, _MASKED_BIT, np.uint32(0))
    image[code != 0] = np.nan
    if task.keep_mantissa_bits is not None:
        round_mantissa(image, task.keep_mantissa_bits, out=image)
    columns: dict[str, AnyArray] = {
        "object_id": objects.object_id,
        "ra": objects.ra,
        "dec": objects.dec,
        "fwhm_arcsec": fwhm_arcsec,
        "mag": objects.mag,
        "psf_mag": objects.psf_mag,
        "depth_mag": objects.depth_mag,
        "flags": objects.flags | bits,
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
            [
                *(share.first_row + f.row, int(objects.object_id[f.row - first]), int(f.code), f.band, f.source),
                *(f.reason, *objects.name_of(f.row - first)),
            ]
            for f in merged
        ],
    }
    return columns, details


@dataclass(frozen=True)
class _ReadRows:
    """What is read beside the pixels, one value or a value a band for each row (see `sources.read_rows`)."""

    partly_empty: BoolArray
    masked: BoolArray
    fwhm_arcsec: FloatArray

    @classmethod
    def of(cls, survey: Survey, n_rows: int) -> _ReadRows:
        """For rows of which nothing is known."""
        partly_empty, masked = np.zeros((2, n_rows), np.bool_)
        return cls(partly_empty, masked, np.full((n_rows, survey.n_bands), np.nan, np.float32))


def _read_pixels(
    task: IngestTask, share: Share, place: int, lo: int, image: FloatArray, beside: _ReadRows
) -> tuple[list[Fault], list[str], str]:
    """Read as many rows of a share, from its row ``lo`` on, as ``image`` holds; faults, warnings, digest.

    The pixels are float32, NaN for rows that are left out. The digest is that of what was read; ``beside`` is filled.
    ``place`` is that of the share's first row in the partition.
    """
    objects, first, hi = share.objects, share.sources.first_row, lo + len(image)
    skipped = [row - place for row in left_out(task.ledger, task.name) if lo <= row - place < hi]
    image[[row - lo for row in skipped]] = np.nan
    faults = [Fault(first + row, Code.ENDED_WORKERS, "", "", LEFT_OUT_REASON) for row in skipped]
    notes: list[str] = []
    digests = []
    for start, stop in pairwise([lo - 1, *skipped, hi]):
        if stop > start + 1:
            part = slice(start + 1, stop)
            _, found, said, digest = read_rows(
                share.sources.slice(first + start + 1, first + stop),
                first + start + 1,
                objects.object_id[part],
                objects.ra[part],
                objects.dec[part],
                task.survey,
                image[start + 1 - lo : stop - lo],
                beside.partly_empty[start + 1 - lo : stop - lo],
                beside.masked[start + 1 - lo : stop - lo],
                beside.fwhm_arcsec[start + 1 - lo : stop - lo],
            )
            faults += found
            notes += said
            digests.append(digest)
    return faults, notes, digests[0] if len(digests) == 1 else digest_json(digests)


def probe_ingest(task: IngestTask, lo: int, hi: int) -> None:
    """Read rows ``lo`` to ``hi`` of a task and write nothing; rows that are there already end nobody."""
    size = task.survey.cutout_size_px
    for place, share in task.places():
        begin, end = max(lo, place), min(hi, place + len(share))
        if begin < end:
            image = np.empty((end - begin, task.survey.n_bands, size, size), np.float32)
            _read_pixels(task, share, place, begin - place, image, _ReadRows.of(task.survey, end - begin))
