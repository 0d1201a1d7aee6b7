"""What an ingest takes in: the catalogue and the pixels of the job itself, and those of each addition to it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.objects import NO_OBJECT, Objects
from swimmy_scale.ingest.pixels.late_files import index_of_rows, rows_with_files_of
from swimmy_scale.ingest.pixels.rubin_psf import check_library
from swimmy_scale.ingest.pixels.sources import Index, Listing, build_index, expand_sources, list_source, tables_of
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.quarantine import Code, Fault
from swimmy_scale.method.sample import ALL_FLAGS, FLAG_NAMES, POINT_SOURCE
from swimmy_scale.method.sections import CatalogueSource, IngestSection
from swimmy_scale.method.survey import BoolArray, IntArray, Survey
from swimmy_scale.storage.layout import is_text

log = logging.getLogger("swimmy_scale")


@dataclass(frozen=True)
class Delivery:
    """What is ingested together.

    Attributes
    ----------
    name : str
        Of the addition; empty for the job's own.
    identity : str
        Digest of all that is said of it.
    catalogue : CatalogueSource
    sources : IngestSection
    late_for : IngestSection, optional
        The job's own pixels, where the addition brings files for objects of the job's own catalogue: only those of
        its objects count that have such a file, and no usable pixels yet.
    """

    name: str
    identity: str
    catalogue: CatalogueSource
    sources: IngestSection
    late_for: IngestSection | None = None

    @property
    def named(self) -> str:
        """The catalogue, or the first of the sources that it is inside of, for people."""
        return catalogue_named(self.catalogue, self.late_for or self.sources)


def catalogue_named(catalogue: CatalogueSource, section: IngestSection) -> str:
    """Where a catalogue is, for people."""
    return str(catalogue.path or next(iter(section.sources), ""))


@dataclass(frozen=True)
class Known:
    """The rows that a run has already: their ids, int64 (n,), and which of them are usable, bool (n,)."""

    object_id: IntArray
    usable: BoolArray


def read_objects(catalogue: CatalogueSource, survey: Survey, section: IngestSection) -> Objects:
    """The objects of a catalogue; without a path it is the one inside of the sources.

    Raises
    ------
    SwimmyError
        When there is no path, and the sources hold no catalogue; and as `read_catalogue` says.
    """
    # What reads tables takes half a second to import, and workers need none of it.
    from swimmy_scale.ingest.catalogue.catalogue import read_catalogue

    if catalogue.path is not None:
        inside = tables_of([catalogue.path]) if catalogue.path.exists() else []
        if catalogue.path.is_dir() and not inside:
            raise SwimmyError(f"catalogue {catalogue.path}: is a folder without object tables. Name a file.")
        return read_catalogue(catalogue, survey, inside, section.psf_from_files)
    return read_catalogue(catalogue, survey, catalogue_inside(section), section.psf_from_files)


def catalogue_inside(section: IngestSection) -> list[Path]:
    """The object tables of a section, which have their catalogue inside; without any there must be another one.

    Raises
    ------
    SwimmyError
        When there are none.
    """
    inside = [] if section.coadd else tables_of(section.sources, section.kind)
    if not inside:
        named = ", ".join(map(str, [*section.sources, *section.coadd.values()][:3]))
        raise SwimmyError(
            f"no catalogue is given, and the sources ({named}) hold none inside: only object tables do. Give the "
            "catalogue: --catalog, or catalogue.path in a job."
        )
    return inside


def listings_of(section: IngestSection, survey: Survey) -> list[Listing]:
    """What the sources of a section hold."""
    if section.coadd:
        return [list_source(str(path), survey, kind="coadd", band=band) for band, path in section.coadd.items()]
    # Threads wait for disks, and unpack gzip, at the same time. Each sets and restores Python's warning filters as it
    # goes, in any order: this context puts them back as they were.
    with warnings.catch_warnings(), ThreadPoolExecutor() as threads:
        return list(threads.map(lambda path: list_source(path, survey, section.kind), expand_sources(section.sources)))


def find_pixels(section: IngestSection, objects: Objects, survey: Survey) -> Index:
    """Where the pixels of each object lie; what the user should know of it is logged."""
    index = build_index(
        listings_of(section, survey),
        objects.object_id,
        objects.ra,
        objects.dec,
        survey,
        name_pattern=section.name_pattern,
        match_radius_arcsec=section.match_radius_arcsec,
        tract=objects.tract,
        id_column=objects.id_column,
    )
    if section.psf_from_files:
        if index.kind != "cutouts":
            raise SwimmyError(
                f"ingest.psf_from_files is for cutouts in FITS, and the sources are of kind {index.kind}. Leave it out."
            )
        check_library()
        index = replace(index, reads_psf=True)
    for warning in [*objects.warnings, *index.warnings]:
        log.warning(warning)
    return index


@dataclass(frozen=True)
class Decision:
    """Which objects of an addition stand, as decided when it was planned first; kept, because it is never taken back.

    Attributes
    ----------
    catalogue : str
        Digest of the catalogue.
    rows : tuple of int, optional
        Those that are taken; None for all.
    duplicates : tuple of (int, int)
        Rows of objects that the run has already with usable pixels, and the rows of the run that hold them.
    n_waiting : int
        Objects among those that stand which the run has in quarantine.
    """

    catalogue: str
    rows: tuple[int, ...] | None
    duplicates: tuple[tuple[int, int], ...]
    n_waiting: int

    def to_json(self) -> dict[str, Any]:
        """For the notes of the ingest."""
        rows = None if self.rows is None else list(self.rows)
        again = [list(pair) for pair in self.duplicates]
        return {"catalogue": self.catalogue, "rows": rows, "duplicates": again, "n_waiting": self.n_waiting}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """What `to_json` returned."""
        rows = None if content["rows"] is None else tuple(content["rows"])
        pairs = tuple((int(row), int(earlier)) for row, earlier in content["duplicates"])
        return cls(content["catalogue"], rows, pairs, content["n_waiting"])


@dataclass(frozen=True)
class Taken:
    """What an addition brings."""

    objects: Objects
    index: Index
    decision: Decision

    @property
    def words(self) -> str:
        """How many objects there are, and which of them the run has, for people."""
        n_again, n_waiting = len(self.decision.duplicates), self.decision.n_waiting
        said = (
            f"{len(self.objects):,} objects, {len(self.objects) - n_again - n_waiting:,} of them new, "
            f"{n_waiting:,} that are in quarantine so far"
        )
        return said + (f", {n_again:,} that the run has with usable pixels, which go to quarantine" if n_again else "")


def take_in(
    delivery: Delivery,
    survey: Survey,
    attrs: Mapping[str, Any],
    known: Callable[[], Known],
    decided: Decision | None = None,
) -> Taken:
    """The objects of an addition and where their pixels lie; ``attrs`` are those of the store that it goes to.

    An object that the run has with usable pixels is a duplicate; one that it has in quarantine stands anew. What was
    ``decided`` before counts, if the catalogue is the same.

    Raises
    ------
    SwimmyError
        When it brings nothing: no file of an object that waits for pixels. As `like_the_store` says.
    """
    own = delivery.late_for or delivery.sources
    objects = like_the_store(read_objects(delivery.catalogue, survey, own), delivery.name, attrs)
    digest = objects.digest()
    if decided is not None and decided.catalogue != digest:
        decided = None
    if delivery.late_for is None:
        decision = decided or _decide(objects, known(), digest)
        objects = _with_duplicates(objects, decision, delivery.named)
        return Taken(objects, find_pixels(delivery.sources, objects, survey), decision)
    index = find_pixels(_with_earlier(delivery.sources, delivery.late_for), objects, survey)
    if index.cube is not None:
        raise SwimmyError(
            f"addition {delivery.name!r}: a cube has the rows of one catalogue. Give that catalogue with it."
        )
    decision = decided or _decide_late(delivery, objects, index, survey, known(), digest)
    rows = np.array(decision.rows, np.int64)
    return Taken(objects.take(rows), index_of_rows(index, rows), decision)


def _decide(objects: Objects, known: Known, digest: str) -> Decision:
    order = np.flatnonzero(known.usable)
    order = order[np.argsort(known.object_id[order], kind="stable")]
    ids = known.object_id[order]
    place = np.searchsorted(ids, objects.object_id).clip(max=max(len(ids) - 1, 0))
    again = np.flatnonzero(ids[place] == objects.object_id) if len(ids) else np.zeros(0, np.int64)
    pairs = zip(again.tolist(), order[place[again]].tolist(), strict=True)
    waiting = np.isin(objects.object_id, known.object_id)
    waiting[again] = False
    waiting[[fault.row for fault in objects.faults if fault.code in NO_OBJECT]] = False
    return Decision(digest, None, tuple(pairs), int(waiting.sum()))


def _decide_late(
    delivery: Delivery, objects: Objects, index: Index, survey: Survey, known: Known, digest: str
) -> Decision:
    waiting = ~np.isin(objects.object_id, known.object_id[known.usable])
    waiting[[fault.row for fault in objects.faults]] = False
    late = {listing.path for listing in listings_of(delivery.sources, survey)}
    rows = np.flatnonzero(waiting & rows_with_files_of(index, late))
    if not len(rows):
        raise SwimmyError(
            f"addition {delivery.name!r}: none of its files is of one of the {int(waiting.sum()):,} objects of "
            f"{delivery.named} that have no usable pixels yet. For other objects give their catalogue."
        )
    return Decision(digest, tuple(rows.tolist()), (), len(rows))


def _with_earlier(late: IngestSection, earlier: IngestSection) -> IngestSection:
    """Late sources together with the earlier ones that are still there: an object may lack one band alone."""
    if late.coadd or earlier.coadd or late.kind != earlier.kind:
        return late
    there = [path for path in earlier.sources if path.exists() and path not in late.sources]
    return late.model_copy(update={"sources": (*there, *late.sources)})


def _with_duplicates(objects: Objects, decision: Decision, source: str) -> Objects:
    faults = [
        Fault(
            row,
            Code.DUPLICATE_OBJECT_ID,
            "",
            source,
            f"object_id {objects.object_id[row]} is already in row {earlier} of the run, which is kept",
        )
        for row, earlier in decision.duplicates
    ]
    return replace(objects, faults=sorted([*objects.faults, *faults], key=lambda fault: (fault.row, fault.code)))


def like_the_store(objects: Objects, name: str, attrs: Mapping[str, Any]) -> Objects:
    """The objects, with kept columns of the types that the store has.

    Raises
    ------
    SwimmyError
        When simulated objects would be mixed with observed ones, flags of the run's catalogue are missing, or a kept
        column is of a type that the store cannot hold.
    """
    if objects.simulated != bool(attrs["simulated"]):
        kinds = ("observed", "simulated")
        raise SwimmyError(
            f"addition {name!r} has {kinds[objects.simulated]} objects, and the run has {kinds[not objects.simulated]} "
            "ones. Keep them in runs of their own."
        )
    available = set(attrs["available_columns"])
    lacking = sorted((available & {*FLAG_NAMES, POINT_SOURCE}) - objects.available)
    if lacking:
        raise SwimmyError(
            f"addition {name!r}: its catalogue has no flags {', '.join(lacking)}, by which the run's sample is cut. "
            "Add these columns, or name them in its catalogue.columns."
        )
    if unknown := sorted(available - set(ALL_FLAGS) - objects.available):
        log.warning(
            "addition %r: its catalogue does not have %s, which the run's has: unknown for its objects",
            name,
            ", ".join(unknown),
        )
    if OBJECT_NAME in objects.kept and OBJECT_NAME not in attrs["kept_columns"]:
        raise SwimmyError(
            f"addition {name!r}: ids of its objects are no whole numbers of 64 bits, and all of the run's are. Keep "
            "them in runs of their own."
        )
    kept = {}
    nameless = np.full(len(objects), "", dtype=object)
    for column, wanted in attrs["kept_columns"].items():
        values = objects.kept.get(column, nameless) if column == OBJECT_NAME else objects.kept[column]
        text = is_text(values)
        if (wanted == "string") != text or (not text and not np.can_cast(values.dtype, wanted, "safe")):
            found = "text" if text else values.dtype.name
            raise SwimmyError(
                f"addition {name!r}: its column {column} is {found}, and {wanted} in the run. Give it as {wanted}; "
                "whole numbers must not have unknown values."
            )
        kept[column] = values if text else values.astype(wanted)
    return replace(objects, kept=kept)
