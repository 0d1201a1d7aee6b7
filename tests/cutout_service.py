"""A stand-in of the archive's cutout service, after its manual: a list that is posted is answered by a tar.

It is written from the manual ("Coordinate list to upload", "Limitations") and from what the archive's own tool expects,
and shares nothing with what writes the lists.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from astropy.table import Table

MOST_IMAGES = 1000
FILTERS = {"HSC-G": "g", "HSC-R": "r", "HSC-I": "i", "HSC-Z": "z", "HSC-Y": "y"}
COLUMNS = {"rerun", "type", "filter", "tract", "ra", "dec", "sw", "sh", "image", "mask", "variance"}
ACCOUNT, PASSWORD = "astronomer", "sesame"
Key = tuple[int, str, int]
"""Row of the catalogue, band, tract."""


class RefusedError(Exception):
    """The list has a flaw: the service sends nothing."""


def parsed(text: str) -> list[dict[str, str]]:
    """The lines of a list, in their order."""
    first, *lines = text.splitlines()
    if not first.startswith("#?"):
        raise RefusedError("no column descriptor")
    columns = first.removeprefix("#?").split("#")[0].split()
    if not {"ra", "dec", "sw", "sh"} <= set(columns) <= COLUMNS:
        raise RefusedError(f"columns {columns}")
    if len(lines) > MOST_IMAGES:
        raise RefusedError(f"{len(lines)} images")
    found = []
    for number, line in enumerate(lines, start=2):
        values = line.split("#")[0].split()
        if len(values) != len(columns):
            raise RefusedError(f"line {number}: {len(values)} values")
        found.append(dict(zip(columns, values, strict=True)))
    return found


def arcsec(text: str) -> float:
    """An angle with its suffix; a bare number is in degrees."""
    match = re.fullmatch(r"([0-9.e+-]+)(deg|amin|arcmin|asec|arcsec|)", text)
    if match is None:
        raise RefusedError(f"angle {text}")
    return float(match[1]) * {"asec": 1, "arcsec": 1, "amin": 60, "arcmin": 60}.get(match[2], 3600)


class CutoutService:
    """Sends the files of a survey.

    Attributes
    ----------
    files : dict of Key to bytes
    lost : callable
        Says of a file whether the service fails to send it.
    n_lists, n_images : int
        What it was asked for.
    """

    def __init__(self, files: dict[Key, bytes], ra: np.ndarray, dec: np.ndarray, rerun: str = "pdr3_wide") -> None:
        self.files, self._ra, self._dec, self._rerun = files, ra, dec, rerun
        self.lost: Callable[[int, str], bool] = lambda row, band: False
        self.n_lists = self.n_images = 0
        self._tracts: dict[tuple[int, str], list[int]] = {}
        for row, band, tract in sorted(files):
            self._tracts.setdefault((row, band), []).append(tract)

    @classmethod
    def of_survey(cls, folder: Path, n_objects_per_tar: int) -> CutoutService:
        """The files of a simulated survey: of each part the first request alone, whose lines are its objects."""
        files: dict[Key, bytes] = {}
        sources = sorted((folder / "cutouts").iterdir(), key=lambda path: (path.is_dir(), path.name))
        for part, source in enumerate(sources):
            for name, data in _members(source):
                match = re.fullmatch(
                    r"(?:arch[^/]*[0-9]/)?(\d+)(?:-cutout-HSC-([A-Z])-(\d+)-\w+|_coadd_.+_(\d+)_HSC-([A-Z]))\.fits",
                    name,
                )
                if match:
                    row = part * n_objects_per_tar + int(match[1]) - 2
                    files[row, (match[2] or match[5]).lower(), int(match[3] or match[4])] = data
        catalogue = Table.read(folder / "catalogue.fits")
        return cls(files, np.array(catalogue["ra"]), np.array(catalogue["dec"]))

    def answer(self, text: str) -> bytes:
        """The tar for a list; the files of lines that it has no image for are left out in silence."""
        lines = parsed(text)
        self.n_lists += 1
        self.n_images += len(lines)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for number, line in enumerate(lines, start=2):
                if line.get("filter") not in FILTERS or line.get("rerun") != self._rerun or line["type"] != "coadd":
                    raise RefusedError(f"line {number}: {line}")
                if arcsec(line["sw"]) < 32 * 0.168 or arcsec(line["sh"]) < 32 * 0.168:
                    raise RefusedError(f"line {number}: too small")
                found = self._find(float(line["ra"]), float(line["dec"]), FILTERS[line["filter"]], line["tract"])
                if found is None:
                    continue
                tract, data = found
                member = tarfile.TarInfo(
                    f"arch-260101-{self.n_lists:06d}/{number}-cutout-{line['filter']}-{tract}-{self._rerun}.fits"
                )
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return packed.getvalue()

    def _find(self, ra: float, dec: float, band: str, tract: str) -> tuple[int, bytes] | None:
        away = np.hypot((self._ra - ra) * np.cos(np.radians(dec)), self._dec - dec) * 3600
        row = int(np.argmin(away))
        tracts = [number for number in self._tracts.get((row, band), []) if tract in ("any", str(number))]
        if away[row] > 0.01 or not tracts or self.lost(row, band):
            return None
        return tracts[-1], self.files[row, band, tracts[-1]]


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        yield from ((path.name, path.read_bytes()) for path in sorted(source.glob("*.fits")))
        return
    with tarfile.open(source) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            yield member.name, stream.read()


@contextlib.contextmanager
def served(service: CutoutService) -> Iterator[str]:
    """The address of a server that asks for account and password, and answers lists."""
    secret = base64.b64encode(f"{ACCOUNT}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Authorization") != f"Basic {secret}":
                self._send(401, b"who are you?")
                return
            form = BytesParser(policy=HTTP).parsebytes(
                f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body
            )
            (part,) = form.iter_parts()
            try:
                assert part.get_param("name", header="content-disposition") == "list"
                self._send(200, service.answer(part.get_payload(decode=True).decode()))
            except RefusedError as error:
                self._send(400, str(error).encode())

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *words: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/das_cutout/pdr3/cgi-bin/cutout"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
