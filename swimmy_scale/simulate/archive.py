"""Cutout files as the HSC-SSP archive delivers them: FITS bytes, tar files, the folder of saved files.

The headers follow files of the archive's cutout service: HDU 0 without data and with FLUXMAG0, HDU 1 with the image,
EXTTYPE and a TAN projection whose reference point is the tract's centre, far outside the cutout.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from astropy.io import fits

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import FloatArray, Survey
from swimmy_scale.simulate import images
from swimmy_scale.simulate.galaxies import Galaxies, draw_objects
from swimmy_scale.simulate.plan import (
    FAULT_NAMES,
    OVERLAPS,
    STREAM_PIXEL,
    SimulationPlan,
    allocate,
    generator,
    plan_parts,
    request_name,
)
from swimmy_scale.simulate.sky import TRACT_CENTER_PX, Patch, patch_conditions, tract_wcs
from swimmy_scale.storage.files import remove

CUTOUT_FOLDER = "cutouts"
SAVED_FOLDER = "saved"
RERUN = "pdr3_wide"
AGAIN = "-again"
MASK_PLANES = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "SUSPECT", "NO_DATA")
"""Of the archive's masks, in order of their bits."""
BLOCK_BYTES, CARD_BYTES = 2880, 80


class _Header:
    """A FITS header that astropy writes once; from then on values are replaced in its bytes.

    Writing one with astropy takes milliseconds, and every file has two.
    """

    def __init__(self, header: fits.Header) -> None:
        self._text = header.tostring(endcard=True, padding=True).encode("ascii")
        self._place = {card.keyword: CARD_BYTES * n for n, card in enumerate(header.cards)}

    def filled(self, values: dict[str, int | float | str]) -> bytes:
        """Bytes of the header with these values, in the fixed format of the standard (columns 11 to 30)."""
        text = bytearray(self._text)
        for keyword, value in values.items():
            if isinstance(value, str):
                field = f"'{value:<8}'".ljust(20)
            else:
                field = (f"{value:.12f}" if isinstance(value, float) else f"{value}").rjust(20)
            start = self._place[keyword] + 10
            text[start : start + 20] = field.encode("ascii")
        return bytes(text)


@functools.lru_cache(maxsize=8)
def _primary_header(zero_point_mag: float) -> _Header:
    header = fits.PrimaryHDU().header
    header["FILTER"] = "x"
    header["FLUXMAG0"] = (10.0 ** (0.4 * zero_point_mag), "AB mag = 2.5*log(fluxMag0/flux)")
    header["SIMULATE"] = (True, "simulated")
    return _Header(header)


@functools.lru_cache(maxsize=16)
def _image_header(kind: str, pixel_scale_arcsec: float) -> _Header:
    pixels = np.zeros((1, 1), dtype=np.int32 if kind == "MASK" else np.float32)
    header = fits.ImageHDU(pixels).header
    header["WCSAXES"] = 2
    for axis, name in (("1", "RA---TAN"), ("2", "DEC--TAN")):
        header[f"CRPIX{axis}"] = (0.0, "Reference pixel")
        header[f"CRVAL{axis}"] = (0.0, "Value at ref. pixel (deg)")
        header[f"CTYPE{axis}"] = (name, "Type of co-ordinate")
        header[f"CUNIT{axis}"] = "deg"
        header[f"LTV{axis}"] = 0.0
    header["CD1_1"] = -pixel_scale_arcsec / 3600.0
    header["CD2_2"] = pixel_scale_arcsec / 3600.0
    header["RADESYS"] = "ICRS"
    header["INHERIT"] = True
    header["EXTTYPE"] = kind
    for number, plane in enumerate(MASK_PLANES if kind == "MASK" else ()):
        header[f"HIERARCH MP_{plane}" if len(plane) > 5 else f"MP_{plane}"] = number
    return _Header(header)


def fits_bytes(survey: Survey, band: str, tract: int, x: int, y: int, planes: dict[str, FloatArray]) -> bytes:
    """One cutout as a FITS file. Its first pixel, 0-based, is (``x``, ``y``) of the tract.

    ``planes`` are the pixels of the HDUs after the first, shape (height, width), by EXTTYPE: IMAGE, MASK, VARIANCE. A
    file without an image has none.
    """
    ra_reference, dec_reference = tract_wcs(tract, survey.pixel_scale_arcsec).wcs.crval.tolist()
    hdus = [_primary_header(survey.zero_point_mag).filled({"FILTER": band})]
    for kind, pixels in planes.items():
        values: dict[str, int | float | str] = {
            "NAXIS1": pixels.shape[1],
            "NAXIS2": pixels.shape[0],
            "CRPIX1": TRACT_CENTER_PX - x,
            "CRPIX2": TRACT_CENTER_PX - y,
            "CRVAL1": ra_reference,
            "CRVAL2": dec_reference,
            "LTV1": float(-x),
            "LTV2": float(-y),
        }
        header = _image_header(kind, survey.pixel_scale_arcsec).filled(values)
        data = pixels.astype(">i4" if kind == "MASK" else ">f4").tobytes()
        hdus += [header, data, bytes(-len(data) % BLOCK_BYTES)]
    return b"".join(hdus)


def _cut(position: float, origin: int, side: int) -> slice:
    """Pixels of the canvas, along one axis, of a cutout of ``side`` pixels with the object in its middle."""
    first = int(np.floor(position - (side - 1) / 2.0 + 0.5)) - origin
    return slice(first, first + side)


def object_files(
    plan: SimulationPlan, patch: Patch, objects: Galaxies, index: int, canvas: images.Canvas, rng: np.random.Generator
) -> list[tuple[str, bytes]]:
    """(Band, file bytes) of the cutouts of one object, with its planted fault.

    ``canvas`` holds the final pixels. Cutouts of some bands may be a pixel larger; the object is always within half a
    pixel of the middle.
    """
    survey, row = plan.survey, int(objects.row[index])
    allocation = allocate(plan)
    fault = FAULT_NAMES[allocation.fault[row]] if allocation.fault[row] >= 0 else ""
    bad_band = int(rng.integers(survey.n_bands))
    extra = rng.integers(0, 2, size=(survey.n_bands, 2)) * int(allocation.oversize[row])
    sides = survey.cutout_size_px + extra
    if fault == "wrong_shape":
        sides[bad_band] = survey.cutout_size_px * 5 // 8  # 40 px in place of 64
    instead = is_overlap(plan, row, "instead")
    variance = images.variance(plan, patch, canvas.image) if allocation.extra_hdus[row] else None
    files = []
    for number, band in enumerate(survey.bands):
        if fault == "missing_band" and number == bad_band:
            continue
        columns = _cut(objects.x[index], canvas.origin_x, int(sides[number, 1]))
        lines = _cut(objects.y[index], canvas.origin_y, int(sides[number, 0]))
        planes = {"IMAGE": canvas.image[number, lines, columns]}
        if variance is not None:
            planes["MASK"] = np.zeros_like(planes["IMAGE"])
            planes["VARIANCE"] = variance[number, lines, columns]
        if number == bad_band:
            planes = {**planes, "IMAGE": np.zeros_like(planes["IMAGE"])} if instead else _spoiled_planes(fault, planes)
        x, y = canvas.origin_x + columns.start, canvas.origin_y + lines.start
        data = fits_bytes(survey, band, patch.tract, x, y, planes)
        files.append((band, _spoiled_bytes(fault, data, planes, rng) if number == bad_band else data))
    return files


def is_overlap(plan: SimulationPlan, row: int, *kinds: str) -> bool:
    """Whether a second tract has this of an object."""
    overlap = int(allocate(plan).overlap[row])
    return overlap >= 0 and OVERLAPS[overlap] in kinds


def other_tract_files(
    plan: SimulationPlan, patch: Patch, objects: Galaxies, index: int, canvas: images.Canvas
) -> list[tuple[str, bytes]]:
    """(Band, file bytes) of what a second tract has of one object; nothing where none overlaps.

    Its pixels are those of the first tract: the sky is the same, and the truth does not depend on which one is used.
    """
    survey, row = plan.survey, int(objects.row[index])
    if allocate(plan).overlap[row] < 0:
        return []
    side = survey.cutout_size_px
    columns = _cut(objects.x[index], canvas.origin_x, side)
    lines = _cut(objects.y[index], canvas.origin_y, side)
    bands = survey.bands[: survey.n_bands // 2 + 1] if is_overlap(plan, row, "some_bands") else survey.bands
    files = []
    for band in bands:
        image = canvas.image[survey.bands.index(band), lines, columns].copy()
        if is_overlap(plan, row, "nan_beyond", "zeros_beyond"):
            image[:, side // 2 - 4 :] = np.nan if is_overlap(plan, row, "nan_beyond") else 0.0
        if is_overlap(plan, row, "cut_off"):
            image = image[:, : side * 3 // 4]
        x, y = canvas.origin_x + columns.start, canvas.origin_y + lines.start
        files.append((band, fits_bytes(survey, band, patch.tract, x, y, {"IMAGE": image})))
    return files


def _spoiled_planes(fault: str, planes: dict[str, FloatArray]) -> dict[str, FloatArray]:
    if fault == "no_image_hdu":
        return {}
    if fault == "nan_pixels":
        image = planes["IMAGE"].copy()
        middle_y, middle_x = (side // 2 for side in image.shape)
        image[middle_y - 1 : middle_y + 2, middle_x - 1 : middle_x + 2] = np.nan
        return planes | {"IMAGE": image}
    return planes


def _spoiled_bytes(fault: str, data: bytes, planes: dict[str, FloatArray], rng: np.random.Generator) -> bytes:
    if fault == "truncated_file":
        # Cut behind the headers: such a rest of a broken transfer looks whole until its pixels are counted.
        return data[: 2 * BLOCK_BYTES + min(int(rng.integers(1000, 9000)), planes["IMAGE"].nbytes - 1)]
    if fault == "corrupt_file":
        return rng.bytes(len(data))
    return data


@dataclass(frozen=True)
class Target:
    """Where a part is written, relative to the survey's directory, and how: as "tar", "tar.gz" or "folder".

    ``request`` is the folder inside the tar.
    """

    path: str
    form: str
    request: str

    def file_name(self, line: int, band: str, ra: float, dec: float, tract: int, again: str = "") -> str:
        """Name of one cutout: in a tar as the service gives it, in a folder as its download tool does.

        ``again`` is behind the name of the request where that is another one.
        """
        if self.form == "folder":
            folder = f"{self.request}{again}/" if again else ""
            return f"{folder}{line}_coadd_{ra:.5f}_{dec:+.5f}_{tract}_HSC-{band.upper()}.fits"
        return f"{self.request}{again}/{line}-cutout-HSC-{band.upper()}-{tract}-{RERUN}.fits"


def part_target(plan: SimulationPlan, part_index: int) -> Target:
    """Where a part goes: the last of two or more is a folder, the last but one of three or more a gzipped tar."""
    request = request_name(part_index)
    if plan.n_parts >= 2 and part_index == plan.n_parts - 1:
        return Target(f"{CUTOUT_FOLDER}/{SAVED_FOLDER}", "folder", request)
    if plan.n_parts >= 3 and part_index == plan.n_parts - 2:
        return Target(f"{CUTOUT_FOLDER}/{request}.tar.gz", "tar.gz", request)
    return Target(f"{CUTOUT_FOLDER}/{request}.tar", "tar", request)


@dataclass(frozen=True)
class PartReceipt:
    """What one part has written; ``size_bytes`` is that of the tar file, or of all files in the folder.

    It is not kept on disk: an interrupted simulation starts again.
    """

    part_index: int
    n_objects: int
    n_files: int
    size_bytes: int


def write_part(directory: str, plan: SimulationPlan, part_index: int) -> PartReceipt:
    """Draw one part and write its cutouts: a tar file or a folder under ``directory/cutouts``.

    The bytes depend on the plan and ``part_index`` alone, so parts can be written in any order and by any process. A
    part appears under its name only when it is complete, in place of what had that name.
    """
    if not 0 <= part_index < plan.n_parts:
        raise SwimmyError(f"simulation plan: there is no part {part_index}. Give 0 to {plan.n_parts - 1}.")
    target = part_target(plan, part_index)
    final = Path(directory, target.path)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished = final.with_name(f".{final.name}.unfinished")
    remove(unfinished)
    n_files = 0
    with _open_target(unfinished, target.form) as write:
        for name, data in _part_files(plan, part_index, target):
            write(name, data)
            n_files += 1
    remove(final)
    unfinished.rename(final)
    files = final.rglob("*") if target.form == "folder" else [final]
    size_bytes = sum(file.stat().st_size for file in files if file.is_file())
    return PartReceipt(part_index, len(plan_parts(plan)[part_index]), n_files, size_bytes)


def _part_files(plan: SimulationPlan, part_index: int, target: Target) -> Iterator[tuple[str, bytes]]:
    """(Name, bytes) of the cutouts of a part, object by object; the files of a second request come last."""
    objects, neighbours = draw_objects(plan, part_index)
    rng = generator(plan, STREAM_PIXEL, part_index)
    again: list[tuple[str, bytes]] = []
    n_again = 0
    for index in range(len(objects.row)):
        patch = patch_conditions(plan, int(objects.tract[index]), int(objects.patch_index[index]))
        canvas = images.draw_noiseless(plan, patch, objects, index, neighbours)
        image = images.add_noise(plan, patch, canvas.image, rng)
        images.add_artefact(plan, objects, index, image, float(rng.uniform(0.15, 0.4)))
        final = images.Canvas(image, canvas.origin_x, canvas.origin_y)
        # Each part is a list of its own. The archive counts its lines from 1, and line 1 is the header.
        ra, dec = objects.ra[index], objects.dec[index]
        files = object_files(plan, patch, objects, index, final, rng)
        for band, data in files:
            yield target.file_name(index + 2, band, ra, dec, patch.tract), data
        for band, data in other_tract_files(plan, patch, objects, index, final):
            yield target.file_name(index + 2, band, ra, dec, patch.tract - 1), data
        if allocate(plan).repeated[objects.row[index]]:
            n_again += 1
            again += [(target.file_name(n_again + 1, band, ra, dec, patch.tract, AGAIN), data) for band, data in files]
    yield from again


@contextlib.contextmanager
def _open_target(path: Path, form: str) -> Iterator[Callable[[str, bytes], object]]:
    """A function that writes one named file into a new folder or tar file."""
    if form == "folder":
        path.mkdir()

        def write(name: str, data: bytes) -> None:
            file = path / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data)

        yield write
        return
    with path.open("wb") as raw, contextlib.ExitStack() as stack:
        stream: IO[bytes] = raw
        if form == "tar.gz":
            # The gzip header gets no time and no name: the same plan gives the same bytes.
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0)
            stream = cast("IO[bytes]", stack.enter_context(packed))
        tar = stack.enter_context(tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT))

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
            # TarFile would keep every member it has written.
            cast("Any", tar).members = []

        yield add
