"""Ask the archive's cutout service for a catalogue: lists of all files, or of those that a download lacks."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.objects import NO_OBJECT, Objects
from swimmy_scale.ingest.pixels.sources import file_faults
from swimmy_scale.ingest.request import ASK_AGAIN, Asked, amount, asked_of, download_script, list_text, upload_lists
from swimmy_scale.method.object_names import OBJECT_NAME
from swimmy_scale.method.quarantine import Fault
from swimmy_scale.method.sections import CatalogueSource, IngestSection
from swimmy_scale.method.survey import BoolArray, Survey
from swimmy_scale.stages.deliveries import find_pixels, read_objects
from swimmy_scale.storage.files import read_text, write_atomically, write_json
from swimmy_scale.storage.quarantine_file import csv_line

__all__ = ["MISSING", "SCRIPT", "Asked", "Requested", "amount", "asked_of", "write_request"]

FORMAT_VERSION = 1
RECORD, SCRIPT, MISSING = "request.json", "download.sh", "missing.csv"
COLUMNS = ("object_id", "band", "code", "asked_again", "reason", "source")
READ_ROWS = 256
"""Objects whose downloaded pixels are in memory at once."""

Told = Callable[[int, int], None]
"""Is told how many objects are looked at, and of how many."""


@dataclass
class Requested:
    """What was written.

    Attributes
    ----------
    n_objects : int
        That are asked for.
    left_out : dict of str to int
        Rows of the catalogue that are not, by their code: ingest would put them in quarantine whatever came.
    n_files, n_lists : int
        What the lists ask for.
    n_usable : int, optional
        Files that were downloaded and are usable; None where nothing was looked at.
    missing, unusable : dict of str to int
        Files by their code: those that are asked for again, and those that cannot be used and would come the same.
    """

    n_objects: int
    left_out: dict[str, int]
    n_files: int = 0
    n_lists: int = 0
    n_usable: int | None = None
    missing: dict[str, int] = field(default_factory=dict)
    unusable: dict[str, int] = field(default_factory=dict)


def write_request(
    catalogue: CatalogueSource,
    survey: Survey,
    asked: Asked,
    output: Path,
    downloaded: Sequence[Path] = (),
    told: Told = lambda n_done, total: None,
) -> Requested:
    """Write the upload lists for a catalogue into a folder, with a script that sends them.

    Parameters
    ----------
    output : Path
        Gets ``0001-g.txt`` and so on, ``download.sh``, ``request.json``, which says what is asked for, and, with
        ``downloaded``, ``missing.csv``. The same request gives the same bytes.
    downloaded : sequence of Path
        Folders and tars with what has come: only what they lack, or have damaged, is asked for.

    Raises
    ------
    SwimmyError
        When the folder holds the lists of another request, or files of somebody else; when no row of the catalogue can
        be asked for; and as `read_objects` and `build_index` say.
    """
    objects = read_objects(catalogue, survey, IngestSection(sources=tuple(downloaded) or (output,)))
    given = [fault for fault in objects.faults if fault.code in NO_OBJECT]
    wanted = np.ones((len(objects), len(asked.bands)), np.bool_)
    wanted[[fault.row for fault in given]] = False
    done = Requested(int(wanted.any(axis=1).sum()), _by_code(given))
    if not done.n_objects:
        raise SwimmyError(
            f"catalogue {catalogue.path}: none of its {len(objects)} rows can be asked for ({_counts(done.left_out)}). "
            "Correct their ids and positions."
        )
    record = _options(asked, survey, catalogue, bool(downloaded))
    # What is known to differ is told before a long look.
    _check_output(output, record)
    with tempfile.TemporaryFile() as noted:
        if downloaded:
            _look(objects, survey, asked, wanted, downloaded, done, noted, told)
        record |= {"n_files": int(wanted.sum()), "sha256": _digest(objects, wanted)}
        _check_output(output, record)
        # It stands before the lists: a folder whose writing was stopped is known, and the same request goes on.
        write_json(output / RECORD, record)
        _write_lists(objects, survey, asked, wanted, output, done)
        if downloaded:
            noted.seek(0)
            write_atomically(output / MISSING, noted)
    return done


def _look(
    objects: Objects,
    survey: Survey,
    asked: Asked,
    wanted: BoolArray,
    downloaded: Sequence[Path],
    done: Requested,
    noted: IO[bytes],
    told: Told,
) -> None:
    """Find what is missing in what is downloaded: ``wanted`` is then what is to be asked for again.

    Counts go to ``done``, and the lines of ``missing.csv`` to ``noted``: of a download that is just begun they would
    fill the memory.
    """
    # What the catalogue lacks for the cuts is told when it is ingested.
    index = find_pixels(IngestSection(sources=tuple(downloaded)), replace(objects, warnings=[]), survey)
    if index.kind != "cutouts":
        raise SwimmyError(
            f"--downloaded {downloaded[0]}: holds no cutouts, but what ingest takes for a {index.kind}. Give the "
            "folder or the tars that the service sent."
        )
    has_names = OBJECT_NAME in objects.kept
    noted.write(csv_line((*COLUMNS, OBJECT_NAME) if has_names else COLUMNS))
    missing, unusable = Counter[str](), Counter[str]()
    is_asked = wanted.copy()
    wanted[:] = False
    for lo in range(0, len(objects), READ_ROWS):
        hi = min(lo + READ_ROWS, len(objects))
        for fault in file_faults(index.slice(lo, hi), objects.ra[lo:hi], objects.dec[lo:hi], survey):
            if fault.band not in asked.bands or not is_asked[fault.row].any():
                continue
            again = fault.code in ASK_AGAIN
            (missing if again else unusable)[fault.code.label] += 1
            wanted[fault.row, asked.bands.index(fault.band)] = again
            object_id, said = int(objects.object_id[fault.row]), "yes" if again else "no"
            values = (object_id, fault.band, fault.code.label, said, fault.reason, fault.source)
            noted.write(csv_line((*values, *(objects.name_of(fault.row) or [""])) if has_names else values))
        told(hi, len(objects))
    done.missing, done.unusable = dict(sorted(missing.items())), dict(sorted(unusable.items()))
    done.n_usable = int(is_asked.sum()) - missing.total() - unusable.total()


def _by_code(faults: Iterable[Fault]) -> dict[str, int]:
    return dict(sorted(Counter(fault.code.label for fault in faults).items()))


def _counts(by_code: dict[str, int]) -> str:
    return ", ".join(f"{code} {count:,}" for code, count in by_code.items())


def _options(asked: Asked, survey: Survey, catalogue: CatalogueSource, again: bool) -> dict[str, Any]:
    """What is asked for of every object, for the record."""
    return {
        "format_version": FORMAT_VERSION,
        "catalogue": Path(catalogue.path or "").name,
        **asdict(asked),
        "bands": list(asked.bands),
        "pixel_scale_arcsec": survey.pixel_scale_arcsec,
        "of": "missing files" if again else "all files",
    }


def _digest(objects: Objects, wanted: BoolArray) -> str:
    """SHA-256 in hex over the objects that are asked for, and which of their files."""
    digest = hashlib.sha256()
    rows = np.flatnonzero(wanted.any(axis=1))
    for values, kind in ((objects.object_id, "<i8"), (objects.ra, "<f8"), (objects.dec, "<f8"), (objects.tract, "<i4")):
        digest.update(values[rows].astype(kind).tobytes())
    digest.update(np.packbits(wanted[rows]).tobytes())
    return digest.hexdigest()


def _check_output(output: Path, record: dict[str, Any]) -> None:
    """Refuse a folder that holds the lists of another request, or anything else."""
    if not output.is_dir() or not any(output.iterdir()):
        return
    path = output / RECORD
    if not path.exists():
        raise SwimmyError(f"{output}: holds files, and no {RECORD} of an earlier request. Choose a new folder.")
    try:
        found = json.loads(read_text(path))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise SwimmyError(f"{path}: is no record of a request ({error}). Choose a new folder.") from error
    changed = [key for key in record if found.get(key) != record[key]]
    # Its name says nothing of what is in it.
    if set(changed) <= {"catalogue"}:
        return
    named = [f"{key} {found.get(key)!r}, now {record[key]!r}" for key in changed if key not in ("sha256", "catalogue")]
    differs = "; ".join(named) or "other objects, positions or missing files, though as many"
    raise SwimmyError(
        f"{output}: holds the lists of another request ({differs}). Choose a new folder: what was fetched by those "
        "lists can be given as --downloaded."
    )


def _write_lists(
    objects: Objects, survey: Survey, asked: Asked, wanted: BoolArray, output: Path, done: Requested
) -> None:
    for upload in upload_lists(wanted, asked):
        text = list_text(upload, objects.ra, objects.dec, objects.tract, asked, survey.pixel_scale_arcsec)
        _write(output / upload.name, text)
        done.n_files += len(upload.rows)
        done.n_lists += 1
    if done.n_lists:
        _write(output / SCRIPT, download_script(asked))


def _write(path: Path, text: str) -> None:
    """Write a file that is not there yet, as it should be."""
    try:
        if read_text(path) == text:
            return
    except (OSError, ValueError):
        pass
    write_atomically(path, text.encode())
