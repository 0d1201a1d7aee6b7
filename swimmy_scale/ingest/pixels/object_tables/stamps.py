"""What the rows of an object table hold: a stamp in several bands, and which part of it is the object's cutout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from swimmy_scale.ingest.pixels.cutout_files import first_pixel
from swimmy_scale.ingest.pixels.file_names import band_of
from swimmy_scale.ingest.pixels.fits_scan import UnusableFileError
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import AnyArray, BoolArray, Survey

Region = tuple[slice, slice]
Crop = Callable[[int, int, Sequence[str]], Region]
"""The part (y, x) of a stamp of n_y x n_x pixels in these bands that is read; raises UnusableFileError."""

ZARR_BESIDE = "images.zarr"
"""Where Cutana's images lie, beside the table of their objects."""
# MultimodalUniverse takes positions from world coordinates that count from 1 and cuts where they count from 0 (its
# scripts/hsc/ and scripts/legacysurvey/build_parent_sample.py): objects lie one pixel before the middle. So it does for
# stamps of this size; an earlier version cut HSC's of 224 px around the middle of the archive's own cutouts.
OFF_MIDDLE_STAMP_PX = 160
_OFF_MIDDLE_PX = {"hsc": -1.0, "des": -1.0}


class Stamp(NamedTuple):
    """The image of one object, cropped.

    Attributes
    ----------
    bands : sequence of str
        As the file names them; empty where it does not.
    flux : ndarray, axes (band, y, x)
    good : ndarray of bool, axes (band, y, x) or (y, x), or None
        Where the survey's own mask calls a pixel good; one for all bands, or none at all.
    scale_arcsec : sequence of float
        Side of a pixel in each band; empty where the file does not say it.
    """

    bands: Sequence[str]
    flux: AnyArray
    good: BoolArray | None
    scale_arcsec: Sequence[float]


class ObjectTable(Protocol):
    """An object table that is open.

    Attributes
    ----------
    n_rows : int
    names : list of str
        Of its columns with one value a row. Among them ``fwhm_arcsec_g`` and so on where it has a FWHM a band.
    bands : sequence of str
        As the file names them, of its first row; empty where it does not.
    n_bands : int or None
        How many images a row has; None where only the rows tell.
    has_masks, simulated : bool
    unpacked_bytes : int
        Of a chunk of images, which is unpacked whole even for one row; 0 where rows are read without.
    zero_point_mag : float or None
        AB zero point of the pixels where the file states it.
    """

    n_rows: int
    has_masks: bool
    simulated: bool
    unpacked_bytes: int

    @property
    def names(self) -> Sequence[str]:
        """As above."""

    @property
    def n_bands(self) -> int | None:
        """As above."""

    @property
    def bands(self) -> Sequence[str]:
        """As above."""

    @property
    def zero_point_mag(self) -> float | None:
        """As above."""

    def close(self) -> None:
        """Close the file."""

    def column(self, name: str) -> AnyArray:
        """A column, shape (n_rows,): numbers, bools or text."""

    def stamps(self, lo: int, hi: int, crop: Crop) -> Iterator[Stamp | UnusableFileError]:
        """The stamps of rows ``lo`` to ``hi``, in their order, or why there is none; a few are in memory at a time."""


def bare_band(name: str) -> str:
    """Name of a band without its survey's: g of hsc-g."""
    return name.rpartition("-")[2]


def band_places(names: Sequence[str], survey: Survey) -> list[int]:
    """Where the bands of a stamp hold each of the survey's bands; -1 for none. Without names they are the survey's."""
    if not names:
        return list(range(survey.n_bands))
    found = [-1] * survey.n_bands
    for place, name in enumerate(names):
        band = band_of(name, survey)
        band = band_of(bare_band(name), survey) if band < 0 else band
        if band >= 0 and found[band] < 0:
            found[band] = place
    return found


def crop_for(survey: Survey) -> Crop:
    """The part of stamps that is the survey's cutout around the object.

    Stamps of MultimodalUniverse of `OFF_MIDDLE_STAMP_PX` have their objects one pixel before the middle, as its scripts
    cut them; the objects of all others are taken to lie in the middle. A stamp of the size of a cutout is taken as it
    is.
    """
    size = survey.cutout_size_px

    def crop(n_y: int, n_x: int, bands: Sequence[str]) -> Region:
        if min(n_y, n_x) < size:
            raise UnusableFileError(
                Code.WRONG_SHAPE, f"its image has {n_x} x {n_y} px (x, y), {size} x {size} are needed"
            )
        off = off_middle_px(bands) if n_y == n_x == OFF_MIDDLE_STAMP_PX else 0.0
        first = [min(max(int(first_pixel((n - 1) / 2 + off, size)), 0), n - size) for n in (n_y, n_x)]
        return slice(first[0], first[0] + size), slice(first[1], first[1] + size)

    return crop


def off_middle_px(bands: Sequence[str]) -> float:
    """How many pixels objects lie off the middle, on the average, of stamps of `OFF_MIDDLE_STAMP_PX` in these bands.

    It is the same on both axes; below 0 is before the middle.
    """
    surveys = {name.rpartition("-")[0].lower() for name in bands}
    return _OFF_MIDDLE_PX.get(surveys.pop(), 0.0) if len(surveys) == 1 else 0.0
