"""Object tables in Parquet: MultimodalUniverse's in HATS form, whose column ``image`` is a struct of lists.

Its fields are ``flux`` and ``mask`` (True is good), each a list over bands of lists over y of lists over x, and one
value a band in ``band`` (or ``bands``), ``psf_fwhm`` in arcsec and ``scale``. The other columns are the
catalogue's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, unreadable
from swimmy_scale.ingest.pixels.object_tables.open_file import OpenFile
from swimmy_scale.ingest.pixels.object_tables.stamps import ZARR_BESIDE, Crop, Stamp, bare_band
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray

IMAGE = "image"
_BANDS = ("band", "bands")
_BATCH_OBJECTS = 16
_BUFFER_BYTES = 2**20


class ParquetObjects(OpenFile):
    """An open object table (see `stamps.ObjectTable`)."""

    zero_point_mag = None
    n_bands = None
    unpacked_bytes = 0

    def __init__(self, path: str) -> None:
        # Neither the columns of all row groups are read ahead nor that of one: of images they may take gigabytes.
        super().__init__(path, parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES))

    def _look(self) -> None:
        schema = self._file.schema_arrow
        fields = _fields(schema)
        if "flux" not in fields:
            raise SwimmyError(
                f"{self.path}: has no column {IMAGE} that is a struct with lists flux, band; its columns are "
                f"{', '.join(schema.names)}. Write it as MultimodalUniverse does."
            )
        self.n_rows = int(self._file.metadata.num_rows)
        self.has_masks = "mask" in fields
        self._band = next((name for name in _BANDS if name in fields), None)
        self._has_scale = "scale" in fields
        self.simulated = (schema.metadata or {}).get(b"SIMULATE") == b"T"
        self._columns = [name for name in plain_columns(schema) if name != IMAGE]
        self.bands = self._first_bands()
        fwhm = [f"fwhm_arcsec_{bare_band(name)}" for name in self.bands] if "psf_fwhm" in fields else []
        self._of_band = {name: band for name, band in zip(fwhm, self.bands, strict=False) if name not in self._columns}
        self.names = [*self._columns, *self._of_band]

    def _first_bands(self) -> Sequence[str]:
        """The bands of the first row that has any."""
        if self._band is None:
            return ()
        for batch in self._file.iter_batches(1024, columns=[f"{IMAGE}.{self._band}"]):
            for item in batch.column(0).to_pylist():
                if item and item[self._band]:
                    return tuple(map(str, item[self._band]))
        return ()

    def column(self, name: str) -> AnyArray:
        """A column, shape (n_rows,); a masked array where some values are unknown."""
        if name not in self._of_band:
            return read_column(self._file, name)
        wanted, found = self._of_band[name], np.full(self.n_rows, np.nan)
        row = 0
        for batch in self._file.iter_batches(4096, columns=[f"{IMAGE}.{self._band}", f"{IMAGE}.psf_fwhm"]):
            for item in batch.column(0).to_pylist():
                pairs = zip(item[self._band] or (), item["psf_fwhm"] or (), strict=False) if item else ()
                found[row] = next((np.nan if fwhm is None else fwhm for band, fwhm in pairs if band == wanted), np.nan)
                row += 1
        return found

    def stamps(self, lo: int, hi: int, crop: Crop) -> Iterator[Stamp | UnusableFileError]:
        """Stamps of rows (see `stamps.ObjectTable`).

        Only row groups that hold some are read, a few rows at a time. What lies before ``lo`` in the first is unpacked
        and left.
        """
        names = ["flux", *(["mask"] if self.has_masks else []), *([self._band] if self._band else [])]
        columns = [f"{IMAGE}.{name}" for name in (*names, *(["scale"] if self._has_scale else []))]
        start = 0
        for group in range(self._file.num_row_groups):
            n_rows = self._file.metadata.row_group(group).num_rows
            if start < hi and lo < start + n_rows:
                yield from self._of_group(group, start, max(lo, start), min(hi, start + n_rows), columns, crop)
            start += n_rows

    def _of_group(
        self, group: int, start: int, lo: int, hi: int, columns: list[str], crop: Crop
    ) -> Iterator[Stamp | UnusableFileError]:
        """Stamps of rows of one row group, which begins with row ``start``."""
        row = start
        try:
            for batch in self._file.iter_batches(_BATCH_OBJECTS, [group], columns, use_threads=False):
                if row + len(batch) > lo:
                    images = batch.column(0)
                    for k in range(max(lo - row, 0), min(hi - row, len(batch))):
                        yield self._stamp(images, k, row + k, crop)
                row += len(batch)
                if row >= hi:
                    return
        except (OSError, pa.ArrowException) as error:
            pass_on(error, self.path)
            # Pages of a Parquet column are read in order: what lies behind a damaged one is out of reach.
            reason = f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            yield from [unreadable(f"row {lost} {reason}") for lost in range(max(row, lo), hi)]

    def _stamp(self, images: Any, k: int, row: int, crop: Crop) -> Stamp | UnusableFileError:
        """The stamp of place ``k`` of a batch, row ``row`` of the file."""
        try:
            if not images.is_valid()[k].as_py():
                raise unreadable(f"row {row} has no image")
            flux = _cube(images.field("flux"), k, row, "flux")
            bands = tuple(map(str, images.field(self._band)[k].as_py() or ())) if self._band else ()
            if self._band and len(bands) != len(flux):
                raise UnusableFileError(Code.WRONG_SHAPE, f"row {row} has {len(flux)} images and {len(bands)} bands")
            _, n_y, n_x = flux.shape
            region = (..., *crop(n_y, n_x, bands))
            good = None
            if self.has_masks:
                good = _cube(images.field("mask"), k, row, "mask")
                if good.shape != flux.shape:
                    raise UnusableFileError(
                        Code.WRONG_SHAPE, f"row {row} has images of shape {flux.shape} and masks of shape {good.shape}"
                    )
                good = good[region] != 0
            scale = images.field("scale")[k].as_py() or () if self._has_scale else ()
            return Stamp(bands, flux[region], good, tuple(np.nan if one is None else one for one in scale))
        except UnusableFileError as error:
            return error


def has_images_beside(path: str) -> bool:
    """Whether the images of a Parquet file lie beside it, as Cutana writes them."""
    return Path(path).with_name(ZARR_BESIDE).is_dir() and IMAGE not in parquet.read_schema(path).names


def plain_columns(schema: Any) -> list[str]:
    """Names of the columns with one value a row."""
    return [name for name in schema.names if not pa.types.is_nested(schema.field(name).type)]


def read_column(file: Any, name: str) -> AnyArray:
    """A column of an open file, shape (n_rows,); a masked array where some values are unknown."""
    values = file.read(columns=[name]).column(0)
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        values, kind = values.cast(pa.string()), pa.string()
    fill = "" if pa.types.is_string(kind) else pa.scalar(0).cast(kind)
    found = values.fill_null(fill).to_numpy()
    return np.ma.array(found.astype(str) if pa.types.is_string(kind) else found, mask=values.is_null().to_numpy())


def _fields(schema: Any) -> list[str]:
    """Names of the fields of the images."""
    if IMAGE not in schema.names or not pa.types.is_struct(schema.field(IMAGE).type):
        return []
    kind = schema.field(IMAGE).type
    return [kind.field(k).name for k in range(kind.num_fields)]


def is_object_table(path: str) -> bool:
    """Whether a Parquet file has images, in it or beside it as Cutana writes them; False where it is damaged."""
    try:
        return "flux" in _fields(parquet.read_schema(path)) or has_images_beside(path)
    except (OSError, pa.ArrowException) as error:
        pass_on(error, path)
        return False


def _cube(lists: Any, k: int, row: int, what: str) -> AnyArray:
    """Element ``k`` of lists of lists of lists, as an array of three axes; a ragged one is refused.

    Values are shared with ``lists``, not copied, unless some are unknown: these are NaN.
    """
    lo, hi = k, k + 1
    lengths: list[int] = []
    for _ in range(3):
        lists = getattr(lists, "storage", lists)
        counts = np.diff(_offsets(lists)[lo : hi + 1])
        unknown = lists.slice(lo, hi - lo).null_count
        if unknown or not len(counts) or len(np.unique(counts)) != 1 or counts[0] == 0:
            found = "none" if unknown or not len(counts) or not counts.any() else "of several lengths"
            raise UnusableFileError(
                Code.WRONG_SHAPE, f"row {row}: lists of {what} are {found}, not images of one shape"
            )
        lengths.append(int(counts[0]))
        lo, hi = (int(end) for end in _offsets(lists)[[lo, hi]])
        lists = lists.values
    values = lists.slice(lo, hi - lo).to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf":  # bools of which some are unknown
        values = np.array([bool(value) for value in values])
    cube: AnyArray = np.asarray(values).reshape(lengths)
    return cube


def _offsets(lists: Any) -> AnyArray:
    """Where each list begins in ``values``, and where the last ends."""
    if pa.types.is_fixed_size_list(lists.type):
        return np.arange(lists.offset, lists.offset + len(lists) + 1) * int(lists.type.list_size)
    offsets: AnyArray = lists.offsets.to_numpy()
    return offsets
