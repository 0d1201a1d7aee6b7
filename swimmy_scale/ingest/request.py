"""Upload lists for the cutout service of HSC's archive: what is asked for, in which lists, and what that amounts to.

The form of a list and its limit are those of the service's manual ("Coordinate list to upload") and of the archive's
own tool, downloadCutout.py, which sends 990 lines at a time where 1,000 images are the limit. The service counts the
lines from 1, and line 1 is the header; the name of each file begins with its line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import BoolArray, DoubleArray, IntArray, Survey
from swimmy_scale.method.words import alternatives, counted

COLUMNS = "rerun type filter tract ra dec sw sh"
TYPES = ("coadd", "coadd/bg")
LINES = 990
"""Lines of a list, as the archive's tool sends them."""
SPARE_PX = 2
"""The service cuts at whole pixels, so what it sends may lack one on a side."""
FILES_PER_SECOND = 10.0
"""A guess: it depends on the service's load and on the network."""
# As the service sends a cutout: four headers in blocks of FITS, the pixels, and the header in the tar.
_HEADER_BYTES, _BLOCK_BYTES, _TAR_BYTES = 4 * 2880, 2880, 512

ASK_AGAIN = (Code.MISSING_BAND, Code.UNREADABLE_FILE, Code.NO_IMAGE_HDU)
"""Of what is downloaded: the archive would send the same again where there is another fault."""


@dataclass(frozen=True)
class Release:
    """A release of the archive.

    Attributes
    ----------
    service : str
        Address that takes the lists.
    rerun : str
        The name of its wide layer.
    filter_name : str
        How its lists call a band: ``HSC-{}`` with a capital, or the small letter.
    most_lines : int
        More are refused.
    """

    service: str
    rerun: str
    filter_name: str
    most_lines: int

    def filter_of(self, band: str) -> str:
        """What a list calls a band."""
        return self.filter_name.format(band.upper()) if "-" in self.filter_name else self.filter_name.format(band)


_PUBLIC = "https://hsc-release.mtk.nao.ac.jp/das_cutout/{}/cgi-bin/cutout"
RELEASES = {
    "pdr3": Release(_PUBLIC.format("pdr3"), "pdr3_wide", "HSC-{}", 1000),
    "pdr2": Release(_PUBLIC.format("pdr2"), "pdr2_wide", "HSC-{}", 1000),
    "dr4": Release("https://hscdata.mtk.nao.ac.jp/das_quarry/dr4/cgi-bin/cutout", "s23b_wide", "{}", 100_000),
}
"""The releases whose service is known; dr4 is the collaboration's own."""
BANDS = ("g", "r", "i", "z", "y")


@dataclass(frozen=True)
class Asked:
    """What is asked for of every object.

    Attributes
    ----------
    bands : tuple of str
    release : str
        One of `RELEASES`.
    rerun : str
        One of the release, such as pdr3_wide.
    type : str
        ``coadd``, or ``coadd/bg`` before the sky is subtracted, which is not what the method is for.
    size_px : int
        Side of the cutouts.
    n_lines : int
        Objects of a list.
    """

    bands: tuple[str, ...]
    release: str
    rerun: str
    type: str
    size_px: int
    n_lines: int

    @property
    def file_bytes(self) -> int:
        """About how many bytes a cutout has in the tar."""
        pixels = -(-4 * self.size_px**2 // _BLOCK_BYTES) * _BLOCK_BYTES
        return _TAR_BYTES + -(-(_HEADER_BYTES + pixels) // _TAR_BYTES) * _TAR_BYTES


def asked_of(
    survey: Survey,
    bands: Sequence[str] = (),
    release: str = "pdr3",
    rerun: str | None = None,
    type: str = "coadd",  # noqa: A002
    size_px: int | None = None,
    n_lines: int = LINES,
) -> Asked:
    """What is asked for a survey: all of its bands, and cutouts that are large enough, unless it is said otherwise.

    Raises
    ------
    SwimmyError
        When a band is not the survey's or the service's; when the cutouts would be smaller than the survey's, or a list
        longer than the service takes; when a rerun would not be one word in a list.
    """
    strange = [band for band in bands or survey.bands if band not in survey.bands or band not in BANDS]
    if strange:
        both = [band for band in BANDS if band in survey.bands]
        remedy = f"Give --band with some of {', '.join(both)}." if both else "It has no pixels of this survey."
        raise SwimmyError(
            f"band {alternatives(strange, 'and')}: survey {survey.name!r} has {', '.join(survey.bands)}, and the "
            f"service {', '.join(BANDS)}. {remedy}"
        )
    most = RELEASES[release].most_lines
    if not 1 <= n_lines <= most:
        raise SwimmyError(
            f"--limit {n_lines}: a list for the service of {release} has 1 to {most:,} lines. Correct it."
        )
    size = survey.cutout_size_px + SPARE_PX if size_px is None else size_px
    if size < survey.cutout_size_px:
        raise SwimmyError(f"--size {size}: cutouts of {survey.cutout_size_px} px are needed. Ask for as many.")
    usual = RELEASES[release].rerun
    rerun = usual if rerun is None else rerun
    if not (rerun.isascii() and rerun.replace("_", "").isalnum()):
        raise SwimmyError(f"--rerun {rerun!r}: is no name of a rerun, such as {usual}. Correct it.")
    # In the survey's order, whatever the order that they are given in.
    chosen = tuple(band for band in survey.bands if not bands or band in bands)
    return Asked(chosen, release, rerun, type, size, n_lines)


class UploadList(NamedTuple):
    """One list: its name, its band, and the rows of the catalogue that are its lines, int64 (n,), ascending."""

    name: str
    band: str
    rows: IntArray


def upload_lists(wanted: BoolArray, asked: Asked) -> Iterator[UploadList]:
    """Divide what is wanted into lists: the same objects in one list a band, one list after the other.

    Lines are in the order of the catalogue, so within a list row - line never falls: where it is the same for the first
    and the last line it is for all, which ingest sees by looking into a few files (see `pixels.uploads`). One band a
    list lets the service open each of its images once.

    Parameters
    ----------
    wanted : ndarray of bool, shape (n_objects, n_bands of ``asked``)
    """
    rows = np.flatnonzero(wanted.any(axis=1))
    n_parts = -(-len(rows) // asked.n_lines)
    width = max(4, len(str(n_parts)))
    for part in range(n_parts):
        these = rows[part * asked.n_lines : (part + 1) * asked.n_lines]
        for column, band in enumerate(asked.bands):
            of_band = these[wanted[these, column]]
            if len(of_band):
                yield UploadList(f"{part + 1:0{width}d}-{band}.txt", band, of_band)


def list_text(
    upload: UploadList,
    ra: DoubleArray,
    dec: DoubleArray,
    tract: npt.NDArray[np.int32],
    asked: Asked,
    pixel_scale_arcsec: float,
) -> str:
    """The text of a list; ``ra``, ``dec`` (degrees) and ``tract`` (-1 unknown) are of the whole catalogue.

    Where the tract is known, the cutout of every band is asked for from that tract; else the service takes the one
    whose centre is nearest.
    """
    # The service takes half of the sides.
    side = f"{asked.size_px / 2 * pixel_scale_arcsec:.3f}asec"
    head = f"{asked.rerun} {asked.type} {RELEASES[asked.release].filter_of(upload.band)}"
    lines = [
        f"{head} {number if number >= 0 else 'any'} {right:.8f} {up:.8f} {side} {side}"
        for right, up, number in zip(
            ra[upload.rows].tolist(), dec[upload.rows].tolist(), tract[upload.rows].tolist(), strict=True
        )
    ]
    return "\n".join([f"#? {COLUMNS}", *lines, ""])


_SCRIPT = """\
#!/bin/sh
# Sends each list of this folder to the cutout service. What comes back is tars/NAME.tar, which is not asked for again.
# Account and password are taken from ~/.netrc:
#   machine {host} login ACCOUNT password PASSWORD
cd "$(dirname "$0")" || exit 1
mkdir -p tars || exit 1
failed=0
for list in *-*.txt; do
    name="${{list%.txt}}"
    [ -s "tars/$name.tar" ] && continue
    if curl --netrc --fail --silent --show-error --connect-timeout 60 --speed-limit 1 --speed-time 900 --retry 2 \\
        --form "list=@$list" --output "$name.part" "${{CUTOUT_SERVICE:-{service}}}"
    then
        mv "$name.part" "tars/$name.tar" || exit 1
        failed=0
    else
        echo "$list: not fetched" >&2
        rm -f "$name.part"
        failed=$((failed + 1))
        # Not one bad list, then, but the account, the network or the service.
        [ "$failed" -ge 3 ] && exit 1
    fi
done
for list in *-*.txt; do
    [ -s "tars/${{list%.txt}}.tar" ] || {{ echo "some lists are not fetched: run it again" >&2; exit 1; }}
done
echo "all lists are fetched"
"""


def download_script(asked: Asked) -> str:
    """A script for the shell that sends the lists that lie beside it, and goes on where it was stopped."""
    service = RELEASES[asked.release].service
    return _SCRIPT.format(service=service, host=service.split("/")[2])


def amount(n_files: int, n_lists: int, asked: Asked, files_per_second: float) -> str:
    """What an amount of files means, in words."""
    if not n_files:
        return "no files"
    size = n_files * asked.file_bytes
    shown = f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
    seconds = n_files / files_per_second
    long = f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:,.1f} minutes"
    return (
        f"{counted(n_files, 'files')} in {counted(n_lists, 'lists')}: about {shown}, and "
        f"{long if seconds >= 60 else 'less than a minute'} at {files_per_second:g} files a second"
    )
