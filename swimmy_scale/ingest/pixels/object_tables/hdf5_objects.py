"""Object tables in HDF5: MultimodalUniverse's shards, GalaxiesML, and files like these.

All datasets lie at the top level and have a row for each object: ``image_array``, ``image_flux`` or ``image``, axes
(object, band, y, x); in MultimodalUniverse's also ``image_band``, ``image_mask`` (True is good), ``image_psf_fwhm`` in
arcsec and ``image_scale``; and the columns of the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.cube import unpacked_bytes_of, zero_point_of_attributes
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, unreadable
from swimmy_scale.ingest.pixels.object_tables.open_file import OpenFile
from swimmy_scale.ingest.pixels.object_tables.stamps import Crop, Stamp, bare_band
from swimmy_scale.ingest.pixels.object_tables.unagi_objects import UnagiObjects, is_unagi
from swimmy_scale.method.survey import AnyArray

IMAGES = ("image_array", "image_flux", "image")
"""Names of the images, the first that is there."""
_BLOCK_BYTES = 2**26


class Hdf5Objects(OpenFile):
    """An open object table (see `stamps.ObjectTable`)."""

    def __init__(self, path: str) -> None:
        super().__init__(path, h5py.File(path, "r"))

    def _look(self) -> None:
        sets: dict[str, Any] = {str(name): item for name, item in self._file.items() if isinstance(item, h5py.Dataset)}
        images: Any = next((sets[name] for name in IMAGES if name in sets and sets[name].ndim == 4), None)
        if images is None:
            found = ", ".join(f"{name} {item.shape}" for name, item in sorted(sets.items())) or "nothing"
            raise SwimmyError(
                f"{self.path}: has no images of axes (object, band, y, x) called {', '.join(IMAGES)}, only {found}. "
                "Rename or reshape them."
            )
        self._images = images
        self.n_rows, self.n_bands = int(images.shape[0]), int(images.shape[1])
        self.unpacked_bytes = unpacked_bytes_of(images)
        self._columns = {name: item for name, item in sets.items() if item.ndim == 1 and item.dtype.kind in "biufSO"}
        about: dict[str, Any] = {
            name: sets[name] for name in ("image_band", "image_mask", "image_psf_fwhm", "image_scale") if name in sets
        }
        wrong = [
            f"{name} {item.shape[0]}"
            for name, item in {**self._columns, **about}.items()
            if item.shape[0] != self.n_rows
        ]
        if wrong:
            raise SwimmyError(
                f"{self.path}: has {self.n_rows} images, but other numbers of rows in {', '.join(sorted(wrong))}: it "
                "was not written to its end. Fetch the file again."
            )
        if self._images.dtype.kind not in "fiu":
            raise SwimmyError(f"{self.path}: its images hold {self._images.dtype}, not numbers. Write float32.")
        self._mask = _mask_of(self.path, about.get("image_mask"), self._images.shape)
        self.has_masks = self._mask is not None
        self._scale: Any
        self._band: Any
        self._fwhm: Any
        self._scale, self._band, self._fwhm = (about.get(f"image_{name}") for name in ("scale", "band", "psf_fwhm"))
        self.simulated = bool(self._file.attrs.get("SIMULATE", False))
        self.zero_point_mag = zero_point_of_attributes(self.path, dict(self._images.attrs))
        self._bands = self._read_bands(0, 1)[0] if self.n_rows else ()
        fwhm = [f"fwhm_arcsec_{bare_band(name)}" for name in self._bands] if self._fwhm is not None else []
        self._of_band = {name: band for name, band in zip(fwhm, self._bands, strict=False) if name not in self._columns}
        self.names = [*self._columns, *self._of_band]

    @property
    def bands(self) -> Sequence[str]:
        return self._bands

    def _read_bands(self, lo: int, hi: int) -> list[tuple[str, ...]]:
        """Names of the bands of some rows; empty where the file has none."""
        if self._band is None:
            return [()] * (hi - lo)
        names = _text(self._band[lo:hi])
        return [tuple(row) for row in (names if names.ndim == 2 else np.tile(names, (hi - lo, 1))).tolist()]

    def column(self, name: str) -> AnyArray:
        """A column, shape (n_rows,)."""
        if name in self._of_band:
            fwhm = np.asarray(self._fwhm[...], np.float64)
            is_band = _text(self._band[...]) == self._of_band[name]
            return np.where(is_band.any(axis=1), fwhm[np.arange(self.n_rows), is_band.argmax(axis=1)], np.nan)
        dataset = self._columns[name]
        return _text(dataset[...]) if dataset.dtype.kind in "SO" else np.asarray(dataset[...])

    def stamps(self, lo: int, hi: int, crop: Crop) -> Iterator[Stamp | UnusableFileError]:
        """Stamps of rows (see `stamps.ObjectTable`), read in blocks of whole chunks of at most about 64 MiB."""
        _, n_bands, n_y, n_x = self._images.shape
        try:
            y, x = crop(n_y, n_x, self._bands)
        except UnusableFileError as error:
            yield from [error] * (hi - lo)
            return
        # Axes of a chunk are all as long as the file's writer liked: blocks that begin with a chunk unpack it once.
        chunk = self._images.chunks[0] if self._images.chunks else 1
        of_row = n_bands * (y.stop - y.start) * (x.stop - x.start) * self._images.dtype.itemsize
        step = max(_BLOCK_BYTES // max(of_row, 1) // chunk, 1) * chunk
        if step * of_row > 4 * _BLOCK_BYTES:
            step = max(_BLOCK_BYTES // of_row, 1)
        for first in (lo, *range((lo // step + 1) * step, hi, step)):
            yield from self._block(first, min((first // step + 1) * step, hi), (y, x))

    def _block(self, lo: int, hi: int, region: tuple[slice, slice]) -> list[Stamp | UnusableFileError]:
        """Stamps of rows; one by one where they cannot be read together."""
        try:
            flux = np.asarray(self._images[lo:hi, :, region[0], region[1]])
            good = None if self._mask is None else np.asarray(self._mask[(slice(lo, hi), ..., *region)]) != 0
            bands = self._read_bands(lo, hi)
            scale = None if self._scale is None else np.asarray(self._scale[lo:hi], np.float64).reshape(hi - lo, -1)
        except Exception as error:  # h5py raises several types for a damaged chunk
            pass_on(error, self.path)
            if hi - lo > 1:
                return [one for row in range(lo, hi) for one in self._block(row, row + 1, region)]
            return [unreadable(f"row {lo} cannot be read ({type(error).__name__}: {' '.join(str(error).split())})")]
        return [
            Stamp(bands[k], flux[k], None if good is None else good[k], () if scale is None else scale[k].tolist())
            for k in range(hi - lo)
        ]


def is_object_table(path: str) -> bool:
    """Whether an HDF5 file has images, and ids and positions of their objects, or is unagi's; False if damaged."""
    try:
        with h5py.File(path, "r") as file:
            names = {str(name).lower() for name in file}
            image = next((file[name] for name in IMAGES if name in file), None)
            has_images = isinstance(image, h5py.Dataset) and image.ndim == 4
            return (has_images and {"object_id", "ra", "dec"} <= names) or is_unagi(file)
    except Exception as error:  # h5py raises several types for a damaged file; another reader says what is wrong
        if "lock" not in str(error):
            pass_on(error, path)
        return False


def open_hdf5(path: str) -> Hdf5Objects | UnagiObjects:
    """An HDF5 file of either form, open."""
    with h5py.File(path, "r") as file:
        unagi = is_unagi(file)
    return UnagiObjects(path) if unagi else Hdf5Objects(path)


def _mask_of(path: str, mask: Any, shape: Sequence[int]) -> Any:
    """The dataset of masks where it belongs to the images."""
    if mask is None:
        return None
    if tuple(mask.shape) not in (tuple(shape), (shape[0], *shape[2:])) or mask.dtype.kind not in "biu":
        raise SwimmyError(
            f"{path}: image_mask is {mask.dtype} of shape {mask.shape}; need one value for each pixel of images of "
            f"shape {tuple(shape)}, or one for all their bands. Correct it, or leave it out."
        )
    return mask


def _text(values: Any) -> AnyArray:
    """Text of any kind as NumPy's fixed-width one."""
    array = np.asarray(values)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "O":
        plain = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.ravel()]
        return np.array(plain, dtype=str).reshape(array.shape)
    return array.astype(str)
