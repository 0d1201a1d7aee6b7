"""Batches of ESA's Cutana: ``images_metadata.parquet``, and ``images.zarr`` beside it, whose image i is of row i.

The array ``images`` has axes (object, y, x, channel). Nothing names the channels: they are taken to be the survey's
bands. Cutana's default are pixels that are stretched for display; these are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pyarrow import parquet

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.cube import unpacked_bytes_of
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, unreadable
from swimmy_scale.ingest.pixels.object_tables.open_file import OpenFile
from swimmy_scale.ingest.pixels.object_tables.parquet_objects import plain_columns, read_column
from swimmy_scale.ingest.pixels.object_tables.stamps import ZARR_BESIDE, Crop, Stamp
from swimmy_scale.ingest.pixels.zarr_chunks import check_whole
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray

ARRAY = "images"
_ID, _SCALE = "source_id", "pixel_scale_arcsec_per_pixel"
# A pixel of 0.1 Jy is of 11.4 mag.
_BRIGHT_JY = 0.1
_KEEP = "Let Cutana write normalisation_method 'none' and data_type 'float32'"


class CutanaObjects(OpenFile):
    """An open batch (see `stamps.ObjectTable`)."""

    bands = ()
    has_masks = False
    zero_point_mag = None

    def __init__(self, path: str) -> None:
        super().__init__(path, parquet.ParquetFile(path))

    def _look(self) -> None:
        where = Path(self.path).with_name(ZARR_BESIDE)
        images: Any = zarr.open_group(where, mode="r").get(ARRAY)
        if not isinstance(images, zarr.Array) or images.ndim != 4:
            raise SwimmyError(f"{where}: has no array {ARRAY} of axes (object, y, x, channel). Write it with Cutana.")
        # By default a missing chunk is read as its fill value.
        self.unpacked_bytes = unpacked_bytes_of(images)
        self._images: Any = images.with_config({"read_missing_chunks": False})
        self.n_rows, self.n_bands = int(self._file.metadata.num_rows), int(images.shape[3])
        if images.shape[0] != self.n_rows:
            raise SwimmyError(
                f"{self.path}: has {self.n_rows} rows, and {where} {images.shape[0]} images: it was not written to its "
                "end. Cut them out again."
            )
        if images.dtype.kind != "f":
            raise SwimmyError(
                f"{where}: its pixels are {images.dtype}, stretched for display, which cannot be undone. {_KEEP}."
            )
        schema = self._file.schema_arrow
        columns = plain_columns(schema)
        self._id = _ID if _ID in columns and "object_id" not in columns else ""
        self.names = ["object_id" if name == self._id else name for name in columns]
        self.simulated = (schema.metadata or {}).get(b"SIMULATE") == b"T"

    def column(self, name: str) -> AnyArray:
        """A column, shape (n_rows,); ``source_id`` is called ``object_id``."""
        return read_column(self._file, self._id if name == "object_id" and self._id else name)

    def stamps(self, lo: int, hi: int, crop: Crop) -> Iterator[Stamp | UnusableFileError]:
        """Stamps of rows (see `stamps.ObjectTable`), chunk by chunk, which Cutana makes of up to 1.8 GB."""
        _, n_y, n_x, _ = self._images.shape
        try:
            y, x = crop(n_y, n_x, ())
            scale = np.asarray(self.column(_SCALE), np.float64) if _SCALE in self.names else None
        except UnusableFileError as error:
            yield from [error] * (hi - lo)
            return
        step = int(self._images.chunks[0])
        for first in (lo, *range((lo // step + 1) * step, hi, step)):
            last = min((first // step + 1) * step, hi)
            try:
                check_whole(self._images, first, last)
                block = np.moveaxis(np.asarray(self._images[first:last, y, x]), 3, 1)
            except Exception as error:  # Zarr raises several types for a damaged chunk
                pass_on(error, self.path)
                said = f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
                yield from [unreadable(f"row {row} {said}") for row in range(first, last)]
                continue
            for row, flux in enumerate(block, start=first):
                scales = () if scale is None else (float(scale[row]),) * self.n_bands
                yield _stretched(row, flux) or Stamp((), flux, None, scales)


def _stretched(row: int, flux: AnyArray) -> UnusableFileError | None:
    """The fault of an image that is stretched for display: from 0 to 1, with no pixel below."""
    lowest, highest = float(flux.min()), float(flux.max())
    if lowest >= 0 and _BRIGHT_JY < highest <= 1:
        return UnusableFileError(
            Code.WRONG_UNIT, f"row {row}: its pixels go from {lowest:g} to {highest:g}, stretched for display. {_KEEP}"
        )
    return None
