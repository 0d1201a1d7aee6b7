"""The survey: bands, cutout size, pixel scale, zero points, stretch, aperture and depth limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


SurveyName = Literal["hsc", "legacy-south", "des", "rubin", "panstarrs", "kids-viking", "euclid"]
"""Surveys of which the package has a file (see `named_surveys`)."""


@dataclass(frozen=True)
class Survey:
    """Validated description of a survey. The defaults are HSC-SSP wide, as the paper uses it.

    Attributes
    ----------
    base : str
        Only in files: the survey by name from which all come that are left out. Example: ``legacy-south``.
    name : str
        For people.
    bands : tuple of str
        Names of the bands, in the order of the cube's band axis.
    selecting_bands : tuple of str
        Bands that may select a candidate; the others are scored only (section 3.2).
    magnitude_band : str
        Band of the magnitude and extendedness cuts (section 2.2).
    cutout_size_px : int
        Side of a cutout; a multiple of 8, as the network halves it three times.
    pixel_scale_arcsec : float
        Side of a pixel.
    pixel_scale_tolerance : float
        By what fraction of it the pixels of files may be larger or smaller; the PSF match scales with it.
    zero_point_mag : float
        AB zero point of the counts that are stored, to which those of all files are brought. It is assumed of a file
        that states none, unless `file_zero_points_mag` says another.
    file_zero_points_mag : tuple of float, one a band or none
        AB zero point that is assumed of files that state none, where it differs between bands. Example: ``[0, 30]``.
    stretch_zero_point_mag : float
        Zero point to which counts are brought before the stretch (section 2.3).
    target_fwhm_arcsec : float
        FWHM to which every band is smoothed (section 2.3).
    band_divisors : tuple of float, one a band
        Divisors of the flux: z* = z / 1.2 and y* = y / 1.5 in the paper (section 2.3).
    stretch_alpha, stretch_beta : float
        alpha and beta of equation 1.
    aperture_diameter_px : float
        Diameter of the central circle A' of equation 6.
    min_depth_mag : tuple of float, one a band
        Patches with a shallower 5-sigma PSF limiting magnitude are not in the sample (section 2.1); NaN for no limit.
    """

    # Pydantic reads this: a misspelt key in a job file is an error, not a silent default.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    __keys_of_files__: ClassVar[dict[str, Any]] = {"base": SurveyName}

    name: str = "HSC-SSP wide"
    bands: tuple[str, ...] = ("g", "r", "i", "z", "y")
    selecting_bands: tuple[str, ...] = ("g", "r", "i")
    magnitude_band: str = "i"
    cutout_size_px: int = 64
    pixel_scale_arcsec: float = 0.168
    zero_point_mag: float = 27.0
    stretch_zero_point_mag: float = 19.0
    target_fwhm_arcsec: float = 1.0
    band_divisors: tuple[float, ...] = (1.0, 1.0, 1.0, 1.2, 1.5)
    stretch_alpha: float = math.exp(10.0)
    stretch_beta: float = 0.05
    aperture_diameter_px: float = 6.0
    min_depth_mag: tuple[float, ...] = (25.82, 25.49, 25.23, 24.47, 23.59)
    pixel_scale_tolerance: float = 0.02
    file_zero_points_mag: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n_bands = len(self.bands)
        problems = []
        if n_bands == 0 or len(set(self.bands)) != n_bands:
            problems.append(f"bands must be distinct and not empty, found {', '.join(self.bands) or 'none'}")
        for name in ("band_divisors", "min_depth_mag", "file_zero_points_mag"):
            if len(getattr(self, name)) != n_bands and (self.file_zero_points_mag or name != "file_zero_points_mag"):
                problems.append(f"{name} has {len(getattr(self, name))} values for {n_bands} bands")
        for band in (*self.selecting_bands, self.magnitude_band):
            if band not in self.bands:
                problems.append(f"band {band!r} is none of bands: {', '.join(self.bands)}")
        if self.cutout_size_px < 16 or self.cutout_size_px % 8:
            problems.append(f"cutout_size_px {self.cutout_size_px} must be a multiple of 8, at least 16")
        if not 0 <= self.pixel_scale_tolerance < 1:
            problems.append(f"pixel_scale_tolerance {self.pixel_scale_tolerance} must be 0 or above, and below 1")
        for name in ("pixel_scale_arcsec", "target_fwhm_arcsec", "stretch_alpha"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                problems.append(f"{name} {getattr(self, name)} must be positive")
        for name in ("zero_point_mag", "stretch_zero_point_mag", "stretch_beta"):
            if not math.isfinite(getattr(self, name)):
                problems.append(f"{name} {getattr(self, name)} must be finite")
        if not all(map(math.isfinite, self.file_zero_points_mag)):
            problems.append(
                f"file_zero_points_mag must be finite, found {', '.join(map(str, self.file_zero_points_mag))}"
            )
        if not self.selecting_bands or len(set(self.selecting_bands)) != len(self.selecting_bands):
            found = ", ".join(self.selecting_bands) or "none"
            problems.append(f"selecting_bands must be distinct and not empty, found {found}")
        if not all(math.isfinite(divisor) and divisor > 0 for divisor in self.band_divisors):
            problems.append(f"band_divisors must be positive, found {', '.join(map(str, self.band_divisors))}")
        if not 0 < self.aperture_diameter_px <= self.cutout_size_px:
            problems.append(
                f"aperture_diameter_px {self.aperture_diameter_px} must lie within {self.cutout_size_px} px"
            )
        if problems:
            raise SwimmyError(f"survey {self.name!r}: {'; '.join(problems)}. Correct the survey section of the job.")

    @property
    def n_bands(self) -> int:
        return len(self.bands)

    @property
    def assumed_zero_points_mag(self) -> tuple[float, ...]:
        """AB zero point that is assumed of files that state none, one a band."""
        return self.file_zero_points_mag or (self.zero_point_mag,) * self.n_bands

    @property
    def assumed_zero_points(self) -> str:
        """The same for people: ``27.0 mag``, or ``0.0 mag in u, g and 30.0 mag in Z, Y``."""
        assumed = self.assumed_zero_points_mag
        values = sorted(set(assumed), key=assumed.index)
        if len(values) == 1:
            return f"{values[0]} mag"
        bands = {value: [b for b, one in zip(self.bands, assumed, strict=True) if one == value] for value in values}
        return " and ".join(f"{value} mag in {', '.join(bands[value])}" for value in values)

    @property
    def center_px(self) -> float:
        """Position of the object on both axes, in 0-based pixels: the geometric centre."""
        return (self.cutout_size_px - 1) / 2.0

    def band_index(self, bands: Sequence[str]) -> list[int]:
        """Positions of ``bands`` on the band axis."""
        return [self.bands.index(band) for band in bands]

    def aperture(self) -> BoolArray:
        """Mask of the central aperture A' of equation 6.

        Returns
        -------
        ndarray of bool, shape (cutout_size_px, cutout_size_px), axes (y, x)
            True where the pixel's centre lies within half of ``aperture_diameter_px`` of the cutout's geometric
            centre: 32 pixels for the paper's 6 px.
        """
        offset = np.arange(self.cutout_size_px) - self.center_px
        inside: BoolArray = np.hypot(offset[:, None], offset[None, :]) <= self.aperture_diameter_px / 2.0
        return inside

    def aperture_range(self) -> tuple[int, int]:
        """First row of the central aperture, and the one after its last; the same for columns."""
        rows = np.flatnonzero(self.aperture().any(axis=1))
        return int(rows[0]), int(rows[-1]) + 1


HSC = Survey()


def check_cube(image: npt.NDArray[np.generic], survey: Survey) -> None:
    """Refuse an array whose shape is not (n, n_bands, cutout_size_px, cutout_size_px) of this survey."""
    expected = (survey.n_bands, survey.cutout_size_px, survey.cutout_size_px)
    if image.ndim != 4 or image.shape[1:] != expected:
        raise SwimmyError(
            f"cutouts have shape {image.shape}, survey {survey.name!r} needs (n_objects, {expected[0]}, {expected[1]}, "
            f"{expected[2]}). Check the survey's bands and cutout_size_px."
        )


def check_source(source: FloatArray, first: int = 0) -> BoolArray:
    """Which cutouts hold a NaN pixel, bool (n,), of preprocessed ones; a value outside of [0, 1] is refused.

    ``first`` is the number of the first cutout in the message.
    """
    lowest, highest = source.min(axis=(1, 2, 3)), source.max(axis=(1, 2, 3))
    outside = (lowest < 0.0) | (highest > 1.0)
    if outside.any():
        index = int(np.argmax(outside))
        raise SwimmyError(
            f"cutout {first + index} has values from {lowest[index]} to {highest[index]}, outside [0, 1]. "
            "Preprocess the counts first."
        )
    return np.isnan(lowest)
