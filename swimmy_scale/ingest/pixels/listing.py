"""What lies in a folder or tar: the name, place and size of each file.

Of tars only the headers are read, and nothing is unpacked to disk.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.coadd import Coadd
from swimmy_scale.ingest.pixels.cube import Cube
from swimmy_scale.ingest.pixels.file_names import has_fits_suffix, show_name
from swimmy_scale.ingest.pixels.fits_scan import GZIP_MAGIC, MAX_FILE_BYTES
from swimmy_scale.ingest.pixels.object_tables.tables import TableFacts
from swimmy_scale.ingest.pixels.tar_headers import tar_members
from swimmy_scale.method.survey import AnyArray
from swimmy_scale.method.words import counted

# Names are kept in an array as wide as the longest.
MAX_NAME_BYTES = 512
# Beyond any file system; a header in base 256 can state more than an int64 holds.
MOST_TAR_BYTES = 2**60


@dataclass(frozen=True)
class Listing:
    """What one source holds, before it is joined to the catalogue.

    Attributes
    ----------
    kind : str
        ``cutouts``, ``coadd``, ``cube`` or ``table``.
    path : str
        The folder, tar or cube. A file's name is relative to it.
    packed : str
        ``""`` where files lie in a folder, ``"tar"`` or ``"tar.gz"`` where they are members.
    files : structured ndarray, shape (n_files,)
        In order of name. ``name``: bytes; ``offset``: int64, in the (unpacked) tar, 0 in a folder; ``size``: int64, in
        bytes; ``mtime_ns``: int64, time of the file's or tar's last change.
    notes : tuple of str
        What is wrong with the source, one sentence each.
    coadds : tuple of Coadd
        One for each file, for kind ``coadd`` only.
    cube : Cube or None
        For kind ``cube`` only.
    tables : tuple of TableFacts
        One for each file, for kind ``table`` only.
    """

    kind: str
    path: str
    packed: str
    files: AnyArray
    notes: tuple[str, ...] = ()
    coadds: tuple[Coadd, ...] = ()
    cube: Cube | None = None
    tables: tuple[TableFacts, ...] = ()


def make_listing(
    kind: str, path: str, packed: str, files: list[tuple[bytes, int, int, int]], notes: list[str]
) -> Listing:
    """A listing of files, each given by (name, offset, size, mtime_ns)."""
    kept = sorted(file for file in files if len(file[0]) <= MAX_NAME_BYTES)
    if len(kept) < len(files):
        n_too_long = len(files) - len(kept)
        notes = [*notes, f"{path}: {n_too_long} files have names longer than {MAX_NAME_BYTES} bytes and are left out"]
    width = max([1, *(len(file[0]) for file in kept)])
    fields = [("name", f"S{width}"), ("offset", np.int64), ("size", np.int64), ("mtime_ns", np.int64)]
    return Listing(kind, path, packed, np.array(kept, fields), tuple(notes))


def list_folder(path: str) -> Listing:
    """List the files of a folder and of all folders below it, without opening any.

    Tars are left out: they are sources of their own (see `sources.expand_sources`).
    """
    files: list[tuple[bytes, int, int, int]] = []
    skipped: list[str] = []

    def refuse(error: OSError) -> None:
        raise SwimmyError(f"{error.filename}: cannot be listed ({error.strerror}). Check its permissions.") from error

    for folder, folder_names, file_names in os.walk(path, onerror=refuse):
        # Links to folders could form a circle.
        links = [name for name in folder_names if Path(folder, name).is_symlink()]
        for name in links + file_names:
            full = Path(folder, name)
            try:
                status = full.stat()
            except OSError as error:
                pass_on(error)
                skipped.append(str(full))
                continue
            if not stat.S_ISREG(status.st_mode):
                skipped.append(str(full))
            elif not is_tar_name(name):
                files.append((os.fsencode(os.path.relpath(full, path)), 0, status.st_size, status.st_mtime_ns))
    notes = []
    if skipped:
        first = show_name(os.fsencode(min(skipped)))
        notes.append(
            f"{path}: {len(skipped)} entries are links to folders, special files, or unreadable, and are left out; the "
            f"first is {first}. Give a linked folder as a source of its own."
        )
    return make_listing("cutouts", path, "", files, notes)


def is_fits(path: str) -> bool:
    """Whether a file is FITS, gzipped or not, by its first bytes or its name."""
    with Path(path).open("rb") as stream:
        magic = stream.read(9)
    if magic[:2] == GZIP_MAGIC:
        try:
            with gzip.open(path) as unpacked:
                magic = unpacked.read(9)
        except (OSError, EOFError, zlib.error) as error:
            pass_on(error, path)
            return False
    # A damaged cutout is known by its name: its object is quarantined instead of the source refused.
    return magic == b"SIMPLE  =" or has_fits_suffix(Path(path).name)


def is_tar_name(name: str) -> bool:
    """Whether a file has the name of a plain or gzipped tar."""
    return name.lower().endswith((".tar", ".tar.gz", ".tgz"))


def tar_form(path: str) -> str:
    """``tar``, ``tar.gz``, or empty for another file; one packed in another way is refused.

    An empty or damaged file counts as a tar if it has the name of one.
    """
    name = Path(path).name.lower()
    with Path(path).open("rb") as stream:
        head = stream.read(512)
        packed = head[:2] == GZIP_MAGIC
        if packed:
            stream.seek(0)
            try:
                head = gzip.GzipFile(fileobj=stream).read(512)
            except (OSError, EOFError, zlib.error) as error:
                pass_on(error, path)
                head = b""
    if name.endswith((".tar.bz2", ".tar.xz", ".tar.zst", ".tbz2", ".txz")):
        raise SwimmyError(
            f"source {path}: only plain and gzipped tars are read. Unpack it with bunzip2, unxz or unzstd."
        )
    if is_tar_name(name) or _is_tar_header(head):
        return "tar.gz" if packed else "tar"
    return ""


def list_tar(path: str, packed: str) -> Listing:
    """List the members of a tar by its headers.

    Parameters
    ----------
    packed : str
        ``"tar"``, or ``"tar.gz"``, which is unpacked once in memory to find the headers.

    Returns
    -------
    Listing
        Members that are files. For a damaged or cut-off tar: those before the damage, and a note.
    """
    mtime_ns = Path(path).stat().st_mtime_ns
    files: list[tuple[bytes, int, int, int]] = []
    notes: list[str] = []
    n_others = 0
    with _open_tar(path, packed) as stream:
        try:
            for member in tar_members(stream):
                if packed == "tar.gz" and member.size > MAX_FILE_BYTES:
                    name = os.fsdecode(member.name)
                    raise tarfile.ReadError(f"member {name!r} states {member.size} bytes, too many for a cutout")
                if member.offset + member.size > MOST_TAR_BYTES:
                    raise tarfile.ReadError(f"member {os.fsdecode(member.name)!r} states {member.size} bytes")
                if member.kind == "file":
                    files.append((member.name, member.offset, member.size, mtime_ns))
                n_others += member.kind == "other"
        except Exception as error:  # on a damaged tar nearly any type
            pass_on(error, path)
            notes.append(
                f"{path}: damaged or cut off after {counted(len(files), 'members')} ({error}); only those are used. "
                "Fetch the tar again."
            )
    if n_others:
        notes.append(f"{path}: {n_others} members are links or other special files and are left out")
    return make_listing("cutouts", path, packed, files, notes)


def _is_tar_header(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _open_tar(path: str, packed: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed == "tar.gz" else Path(path).open("rb", buffering=0)
