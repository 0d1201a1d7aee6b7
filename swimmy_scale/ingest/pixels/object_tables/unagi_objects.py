"""HDF5 files of unagi's ``hsc_bulk_cutout``: a group an object, in it one a band, in it the HDUs of the archive's file.

``/OBJECT_ID/HSC-G/HDU0/DATA`` is the image, ``HDU1/DATA`` the mask if it holds integers; of one band alone the level of
the bands may be absent. The cards of each HDU are attributes of its group. Bands may differ by a pixel in size. There
is no catalogue in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.machine_errors import pass_on
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError, unreadable
from swimmy_scale.ingest.pixels.flux_units import AGREEMENT_MAG
from swimmy_scale.ingest.pixels.mask_planes import HSC_BITS
from swimmy_scale.ingest.pixels.object_tables.open_file import OpenFile
from swimmy_scale.ingest.pixels.object_tables.stamps import Crop, Stamp, bare_band
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray, BoolArray

_IMAGE, _MASK = "HDU0", "HDU1"
_LOOKED_AT = 8


class UnagiObjects(OpenFile):
    """An open file of unagi (see `stamps.ObjectTable`)."""

    names = ("object_id",)
    unpacked_bytes = 0

    def __init__(self, path: str) -> None:
        super().__init__(path, h5py.File(path, "r"))

    def _look(self) -> None:
        self._ids = [str(name) for name in self._file]
        self.n_rows = len(self._ids)
        # An object may lack a band.
        first = {band: group for name in self._ids[:_LOOKED_AT] for band, group in self._images(name).items()}
        if self._ids and not first:
            raise SwimmyError(
                f"{self.path}: {self._ids[0]} has no BAND/{_IMAGE}/DATA, and so is no group of an object. Write it "
                "with unagi's hsc_bulk_cutout."
            )
        self.bands: Sequence[str] = tuple(first) if "" not in first else ()
        self.n_bands = len(first)
        self.has_masks = any(_mask_of(group) is not None for group in first.values())
        self.simulated = bool(self._file.attrs.get("SIMULATE", False))
        self.zero_point_mag = next((_zero_point(group) for group in first.values()), None)

    def column(self, name: str) -> AnyArray:
        """The names of the groups, which are the objects' ids."""
        return np.array(self._ids, dtype=str)

    def stamps(self, lo: int, hi: int, crop: Crop) -> Iterator[Stamp | UnusableFileError]:
        """Stamps of rows (see `stamps.ObjectTable`), one by one: of each band the part that all bands have."""
        for row in range(lo, hi):
            try:
                yield self._stamp(self._ids[row], crop)
            except UnusableFileError as error:
                yield error
            except Exception as error:  # h5py raises several types for damaged data
                pass_on(error, self.path)
                said = " ".join(str(error).split())
                yield unreadable(f"{self._ids[row]} cannot be read ({type(error).__name__}: {said})")

    def _images(self, object_id: str) -> dict[str, Any]:
        """The group of each band that has an image, by the band's name without HSC-; empty for a single band."""
        group = self._file[object_id]
        if not isinstance(group, h5py.Group):
            return {}
        groups = {"": group} if _IMAGE in group else {bare_band(name).lower(): item for name, item in group.items()}
        return {
            band: item
            for band, item in groups.items()
            if isinstance(item, h5py.Group) and isinstance(item.get(f"{_IMAGE}/DATA"), h5py.Dataset)
        }

    def _stamp(self, object_id: str, crop: Crop) -> Stamp:
        groups = self._images(object_id)
        if not groups:
            raise UnusableFileError(Code.NO_IMAGE_HDU, f"{object_id} has no image")
        for group in groups.values():
            stated = _zero_point(group)
            usual = self.zero_point_mag
            if (stated is None) != (usual is None) or abs((stated or 0.0) - (usual or 0.0)) > AGREEMENT_MAG:
                reason = f"{object_id} has the zero point {stated}, the first objects {usual}"
                raise UnusableFileError(Code.WRONG_UNIT, reason)
        images = [group[f"{_IMAGE}/DATA"] for group in groups.values()]
        shape, first = _common(object_id, images, [image.parent.attrs for image in images])
        region = crop(*shape, ())
        places = [tuple(slice(at + a.start, at + a.stop) for at, a in zip(y_x, region, strict=True)) for y_x in first]
        flux = np.stack([image[place].astype(np.float32) for image, place in zip(images, places, strict=True)])
        good: BoolArray | None = None
        if self.has_masks:
            good = np.stack([_good(group, place) for group, place in zip(groups.values(), places, strict=True)])
        return Stamp(tuple(groups) if self.bands else (), flux, good, ())


def is_unagi(file: Any) -> bool:
    """Whether an HDF5 file has groups of objects, by the first of them."""
    group = next((file[name] for name in file), None)
    if not isinstance(group, h5py.Group):
        return False
    return any(isinstance(one, h5py.Group) and f"{_IMAGE}/DATA" in one for one in (group, *group.values()))


def _card(cards: Any, name: str) -> Any:
    """The value of a card, an attribute of one element; None where there is none."""
    value = cards.get(name)
    return None if value is None else np.ravel(value)[0]


def _zero_point(group: Any) -> float | None:
    """AB zero point by FLUXMAG0 of the image's cards or the file's first ones; None without."""
    for name in (_IMAGE, "PRIMARY"):
        flux = _card(group[name].attrs, "FLUXMAG0") if name in group else None
        if flux is not None and float(flux) > 0:
            return 2.5 * math.log10(float(flux))
    return None


def _mask_of(group: Any) -> Any:
    """The data set of the mask; None where HDU1 is none, but a variance or absent."""
    mask = group.get(f"{_MASK}/DATA")
    return mask if isinstance(mask, h5py.Dataset) and mask.dtype.kind in "iu" else None


def _good(group: Any, place: tuple[slice, ...]) -> BoolArray:
    """Where the mask of a band calls its pixels good."""
    mask = _mask_of(group)
    if mask is None:
        return np.ones([part.stop - part.start for part in place], np.bool_)
    bits, cards = 0, group[_MASK].attrs
    for name, usual in HSC_BITS.items():  # where its header does not number them otherwise
        number = _card(cards, f"MP_{name}")
        bits |= 1 << int(usual if number is None else number)
    return np.asarray((mask[place].astype(np.int64) & bits) == 0)


def _common(object_id: str, images: Sequence[Any], cards: Sequence[Any]) -> tuple[tuple[int, int], list[list[int]]]:
    """Shape of the part that all bands have, and in each band its first pixel (y, x).

    Where cards give the reference pixels, bands are laid upon each other by these; else their first pixels are, as
    MultimodalUniverse's script does it.
    """
    shapes = np.array([image.shape for image in images])
    if shapes.ndim != 2 or shapes.shape[1] != 2:
        raise UnusableFileError(Code.WRONG_SHAPE, f"{object_id} has images of shapes {[i.shape for i in images]}")
    names = [f"{name}{axis}" for name in ("CRPIX", "CRVAL") for axis in (2, 1)]
    values = [[_card(of_image, name) for name in names] for of_image in cards]
    places = np.array([[np.nan if value is None else float(value) for value in line] for line in values])
    if not np.isfinite(places).all():
        return tuple(shapes.min(axis=0).tolist()), [[0, 0] for _ in images]
    if np.abs(np.ptp(places[:, 2:], axis=0)).max() > 1e-9 or np.abs(places[:, :2] % 1 - places[0, :2] % 1).max() > 1e-3:
        raise UnusableFileError(Code.WRONG_SHAPE, f"{object_id} has bands on different grids of pixels")
    shift = np.round(places[0, :2] - places[:, :2]).astype(int)
    lo, hi = shift.max(axis=0), (shift + shapes).min(axis=0)
    return tuple((hi - lo).tolist()), (lo - shift).tolist()
