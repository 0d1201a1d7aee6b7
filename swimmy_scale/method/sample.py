"""The cuts that make the sample: patch, magnitude, flags, extendedness, redshift and colours (section 2)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import BoolArray, DoubleArray, FloatArray, Survey
from swimmy_scale.method.words import alternatives, known_names

QUALITY_FLAGS = (
    "pixelflags_edge",
    "pixelflags_interpolatedcenter",
    "pixelflags_saturatedcenter",
    "pixelflags_crcenter",
    "pixelflags_bad",
    "sdssshape_flag",
    "pixelflags_bright_objectcenter",
    "mask_brightstar_halo",
    "mask_brightstar_ghost",
    "mask_brightstar_blooming",
)
"""Quality flags of section 2.2."""

NOT_PRIMARY = "not_primary"
"""The flag of objects that are not the survey's primary measurement of their galaxy: tracts and patches overlap."""

FLAG_NAMES = (*QUALITY_FLAGS, NOT_PRIMARY)
"""Bit k of a ``flags`` column: name k is raised, in any band if it is of bands. The order is public."""

PARTLY_EMPTY, MASKED_CENTER, POINT_SOURCE = "partly_empty", "masked_center", "point_source"
ALL_FLAGS = (*FLAG_NAMES, PARTLY_EMPTY, MASKED_CENTER, POINT_SOURCE)
"""The quality flags, then what pixels say: some beyond the aperture hold no data; their mask calls one in it bad. And
what the column ``i_extendedness_value`` says, which stands for PSF magnitudes where there are none."""

NO_DATA = "no data"

_BRIGHT_TO_FAINT = dict.fromkeys(("fwhm_arcsec", "depth_mag", "mag", "psf_mag"), (0.0, 50.0))
KNOWN_RANGES = {**_BRIGHT_TO_FAINT, "redshift": (-1.0, 20.0)}
"""Between which values, both exclusive, a column of the cuts says something. Beyond lie the numbers by which catalogues
mark an unknown value: -99, 99, -999, 9999, or 0 for a magnitude."""


@dataclass(frozen=True)
class SampleCuts:
    """Conditions for an object to be in the sample; None, False or an empty list switches a cut off.

    Attributes
    ----------
    max_fwhm_arcsec : float or None
        Patches with a wider PSF in any band are cut (section 2.1).
    use_depth : bool
        Patches shallower than the survey's ``min_depth_mag`` in any band are cut (section 2.1).
    depth_percentile : float or None
        Take the depth limits from this percentile of the patch table instead. Example: ``5``.
    max_magnitude : float or None
        cmodel magnitude in the survey's magnitude band must be smaller (section 2.2).
    flags : tuple of str
        Those of ``ALL_FLAGS`` that must be False; by default all but ``partly_empty`` and ``point_source``.
    min_extendedness_mag : float or None
        PSF - cmodel magnitude, in the magnitude band, must be larger (section 2.2); without PSF magnitudes the
        column ``i_extendedness_value`` of that band must be 1.
    redshift : tuple of two floats or None
        Exclusive lower and upper limit; those of the example make the paper's spectroscopic sample (section 2.2).
        Example: ``[0.05, 0.2]``.
    colours : tuple of (band, band, float)
        cmodel magnitude of the first band minus that of the second must be smaller (appendix 3).
    """

    # Pydantic reads this: a misspelt key in a job file is an error, not a silent default.
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    max_fwhm_arcsec: float | None = 1.0
    use_depth: bool = True
    depth_percentile: float | None = None
    max_magnitude: float | None = 20.0
    flags: tuple[str, ...] = (*FLAG_NAMES, MASKED_CENTER)
    min_extendedness_mag: float | None = 0.2
    redshift: tuple[float, float] | None = None
    colours: tuple[tuple[str, str, float], ...] = (("g", "r", 1.2), ("r", "z", 1.0))

    def __post_init__(self) -> None:
        problems = []
        for name in ("max_fwhm_arcsec", "max_magnitude", "min_extendedness_mag"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                problems.append(f"{name} {value} must be a finite number")
        if self.max_fwhm_arcsec is not None and self.max_fwhm_arcsec <= 0:
            problems.append(f"max_fwhm_arcsec {self.max_fwhm_arcsec} must be positive")
        if self.depth_percentile is not None and not 0 < self.depth_percentile < 100:
            problems.append(f"depth_percentile {self.depth_percentile} must lie between 0 and 100")
        if unknown := [name for name in self.flags if name not in ALL_FLAGS]:
            there = known_names(unknown, ALL_FLAGS, "flags", "There are").rstrip(".?")
            problems.append(f"no flag is called {alternatives(unknown)}. {there}")
        if len(set(self.flags)) != len(self.flags):
            problems.append(f"flags has {next(name for name in self.flags if self.flags.count(name) > 1)} twice")
        if self.redshift is not None and not self.redshift[0] < self.redshift[1]:
            low, high = self.redshift
            problems.append(f"redshift must go from a smaller to a larger value, found {low:g} to {high:g}")
        for first, second, limit in self.colours:
            if first == second or not math.isfinite(limit):
                problems.append(f"colour {first} - {second} < {limit} needs two bands and a finite number")
        if problems:
            raise SwimmyError(f"sample cuts: {'; '.join(problems)}. Correct the sample section of the job.")


@dataclass(frozen=True)
class SampleColumns:
    """The values of n objects that the cuts look at; NaN, or outside of `KNOWN_RANGES`, where unknown.

    Attributes
    ----------
    usable : ndarray of bool, shape (n,)
        False for quarantined objects.
    fwhm_arcsec : ndarray of float32, shape (n, band)
        PSF FWHM of the object's patch.
    depth_mag : ndarray of float32, shape (n, band)
        5-sigma PSF limiting magnitude of the object's patch.
    mag : ndarray of float32, shape (n, band)
        cmodel AB magnitude.
    psf_mag : ndarray of float32, shape (n,)
        PSF magnitude in the survey's magnitude band.
    flags : ndarray of uint32, shape (n,)
        Bit k is ``ALL_FLAGS[k]``, raised in any band.
    redshift : ndarray of float64, shape (n,)
    """

    usable: BoolArray
    fwhm_arcsec: FloatArray
    depth_mag: FloatArray
    mag: FloatArray
    psf_mag: FloatArray
    flags: npt.NDArray[np.uint32]
    redshift: DoubleArray


@dataclass(frozen=True)
class CutCount:
    """Numbers of objects before and after one cut; all fields are plain JSON values.

    Attributes
    ----------
    name : str
        "scored", "seeing", "depth", "magnitude", a flag's name, "extendedness", "redshift" or a colour, "g-r".
    rule : str
        What the cut asks, in words.
    before, after : int
        Objects before and after it.
    unknown : int
        Those among the objects that it cut whose value is unknown.
    note : str
        "no data" where the catalogue lacks the column, so that the cut was skipped; else empty.
    """

    name: str
    rule: str
    before: int
    after: int
    note: str = ""
    unknown: int = 0


@dataclass(frozen=True)
class FailedCut:
    """A cut that one object fails.

    Attributes
    ----------
    name, rule : str
        As of `CutCount`.
    value : str
        The object's value, or "unknown"; of cuts in several bands that of each band, "g 1.12, r unknown". Empty for
        flags.
    """

    name: str
    rule: str
    value: str


@dataclass(frozen=True)
class _Test:
    """One cut, ready to apply; ``passed`` is None where the catalogue has no data for it.

    ``known`` says where the value is known; None where it always is. ``value`` (n,) or (n, band) is what is cut, NaN
    where unknown; None for flags. ``bands`` are those of its second axis.
    """

    name: str
    rule: str
    passed: BoolArray | None
    note: str = ""
    known: BoolArray | None = None
    value: npt.NDArray[np.floating] | None = None
    bands: tuple[str, ...] = ()

    def shown_value(self, row: int) -> str:
        """The value of one object as people read it."""
        if self.value is None:
            return ""
        shown = ["unknown" if math.isnan(value) else f"{value:.6g}" for value in np.atleast_1d(self.value[row])]
        named = zip(self.bands or ("",), shown, strict=True)
        return ", ".join(f"{band} {text}".strip() for band, text in named)


def known(name: str, values: npt.NDArray[np.floating]) -> BoolArray:
    """Whether values of a column of `KNOWN_RANGES` are known, and no NaN or mark of an unknown one; their shape."""
    low, high = KNOWN_RANGES[name]
    inside: BoolArray = (values > low) & (values < high)
    return inside


def column_names(survey: Survey) -> tuple[str, ...]:
    """Columns that the cuts can use, as ``available`` of `apply_cuts` names them.

    They are ``fwhm_arcsec_g`` ..., ``depth_mag_g`` ..., ``mag_g`` ... for each band, ``psf_mag``, ``redshift``, and
    each of ``FLAG_NAMES``.
    """
    by_band = tuple(f"{name}_{band}" for name in ("fwhm_arcsec", "depth_mag", "mag") for band in survey.bands)
    return (*by_band, "psf_mag", "redshift", *FLAG_NAMES)


def check_cuts(cuts: SampleCuts, survey: Survey) -> None:
    """Refuse colour cuts in bands that the survey does not have."""
    for first, second, _ in cuts.colours:
        for band in (first, second):
            if band not in survey.bands:
                raise SwimmyError(
                    f"sample cut {first} - {second}: survey {survey.name!r} has no band {band!r}, only "
                    f"{', '.join(survey.bands)}. Set colours in the sample section of the job."
                )


def apply_cuts(
    columns: SampleColumns,
    cuts: SampleCuts,
    survey: Survey,
    available: Collection[str],
    min_depth_mag: Sequence[float] | None = None,
) -> tuple[BoolArray, list[CutCount]]:
    """Apply the cuts one after the other, in the paper's order (sections 2.1 and 2.2, appendix 3).

    The order is: scored, seeing and depth of the patch, magnitude, each flag, extendedness, redshift, each colour. An
    object whose value is unknown (see `known`) fails the cut that needs it, and is counted. A cut is skipped, and says
    so, where the whole catalogue lacks its column; no partition can tell that on its own, so the caller does.

    Parameters
    ----------
    columns : SampleColumns
        Any part of the catalogue.
    available : collection of str
        Columns of `column_names` that the catalogue has.
    min_depth_mag : sequence of float, one a band, optional
        Depth limits in place of the survey's, NaN for no limit; required where ``cuts.depth_percentile`` is set.

    Returns
    -------
    in_sample : ndarray of bool, shape (n,)
    counts : list of CutCount
        One for each cut that is switched on. `merge_counts` adds up those of several parts.

    Raises
    ------
    SwimmyError
        When a colour names an unknown band, or the depth limits are missing.
    """
    in_sample = np.ones(columns.usable.shape[0], dtype=np.bool_)
    counts = []
    for test in _checked_tests(columns, cuts, survey, available, min_depth_mag):
        before, n_unknown = int(np.count_nonzero(in_sample)), 0
        if test.passed is not None:
            n_unknown = 0 if test.known is None else int(np.count_nonzero(in_sample & ~test.known))
            in_sample &= test.passed
        after = int(np.count_nonzero(in_sample))
        counts.append(CutCount(test.name, test.rule, before, after, test.note, n_unknown))
    return in_sample, counts


def failed_cuts(
    columns: SampleColumns,
    cuts: SampleCuts,
    survey: Survey,
    available: Collection[str],
    min_depth_mag: Sequence[float] | None = None,
) -> list[list[FailedCut]]:
    """All the cuts that each object fails, in the order of `apply_cuts`, whose arguments and errors these are.

    Returns
    -------
    list of list of FailedCut
        One list for each object; an empty one for an object of the sample.
    """
    failed: list[list[FailedCut]] = [[] for _ in range(columns.usable.shape[0])]
    for test in _checked_tests(columns, cuts, survey, available, min_depth_mag):
        if test.passed is not None:
            for row in np.flatnonzero(~test.passed).tolist():
                failed[row].append(FailedCut(test.name, test.rule, test.shown_value(row)))
    return failed


def merge_counts(parts: Sequence[Sequence[CutCount]]) -> list[CutCount]:
    """Add up the counts of several parts of a catalogue, in the order of the cuts; empty without parts."""
    if not parts:
        return []
    total = list(parts[0])
    for part in parts[1:]:
        if [_kind(cut) for cut in part] != [_kind(cut) for cut in total]:
            raise SwimmyError(
                f"parts were cut differently: {[cut.name for cut in total]} and {[cut.name for cut in part]}. "
                "Apply the same cuts to every part."
            )
        total = [
            replace(
                cut,
                before=cut.before + more.before,
                after=cut.after + more.after,
                unknown=cut.unknown + more.unknown,
            )
            for cut, more in zip(total, part, strict=True)
        ]
    return total


def depth_percentile(depth_mag: npt.NDArray[np.floating], percent: float = 5.0) -> DoubleArray:
    """Depth limits from a table of patches: the bottom percentile in each band (section 2.1).

    Parameters
    ----------
    depth_mag : ndarray of float, shape (patch, band)
        5-sigma PSF limiting magnitude, one row a patch. Unknown ones (see `known`) are ignored.
    percent : float
        Within (0, 100); the paper takes 5.

    Returns
    -------
    ndarray of float64, shape (band,)
        NaN, for no limit, where no patch has a depth in the band.
    """
    if depth_mag.ndim != 2 or not 0 < percent < 100:
        raise SwimmyError(
            f"depth table of shape {depth_mag.shape} at {percent}%: need (n_patches, n_bands) and a percentage "
            "between 0 and 100."
        )
    limits = np.full(depth_mag.shape[1], np.nan)
    for band in range(depth_mag.shape[1]):
        depths = depth_mag[known("depth_mag", depth_mag[:, band]), band].astype(np.float64)
        if depths.size:
            limits[band] = np.percentile(depths, percent)
    return limits


def _kind(cut: CutCount) -> CutCount:
    """The cut without its numbers."""
    return replace(cut, before=0, after=0, unknown=0)


def _unknown_as_nan(columns: SampleColumns) -> SampleColumns:
    values = {name: getattr(columns, name) for name in KNOWN_RANGES}
    nan = {name: np.where(known(name, held), held, held.dtype.type(np.nan)) for name, held in values.items()}
    return replace(columns, **nan)


def _checked_tests(
    columns: SampleColumns,
    cuts: SampleCuts,
    survey: Survey,
    available: Collection[str],
    min_depth_mag: Sequence[float] | None,
) -> Iterator[_Test]:
    """The cuts that are switched on, once the arguments of `apply_cuts` are found to fit together."""
    check_cuts(cuts, survey)
    _check_columns(columns, survey)
    unknown = sorted(set(available) - {*column_names(survey), *ALL_FLAGS})
    if unknown:
        raise SwimmyError(f"available columns {', '.join(unknown)} are unknown. Name them as column_names() does.")
    limits = _depth_limits(cuts, survey, min_depth_mag)
    return _tests(_unknown_as_nan(columns), cuts, survey, set(available), limits)


def _tests(
    columns: SampleColumns, cuts: SampleCuts, survey: Survey, available: set[str], limits: Sequence[float] | None
) -> Iterator[_Test]:
    """The cuts that are switched on, in the paper's order."""
    yield _Test("scored", "not quarantined", columns.usable)
    yield from _patch_tests(columns, cuts, survey, available, limits)
    magnitude_band = survey.magnitude_band
    mag = columns.mag[:, survey.bands.index(magnitude_band)]
    if cuts.max_magnitude is not None:
        rule = f"{magnitude_band} cmodel magnitude < {cuts.max_magnitude:g}"
        yield _test("magnitude", rule, mag, mag < cuts.max_magnitude, {f"mag_{magnitude_band}"} <= available)
    for name in [one for one in cuts.flags if one not in (MASKED_CENTER, POINT_SOURCE) or one in available]:
        clear = _clear(columns, name)
        rule = "isprimary is True" if name == NOT_PRIMARY else f"{name} is False"
        yield _Test(name, rule, *((clear,) if name in available else (None, NO_DATA)))
    if cuts.min_extendedness_mag is not None:
        rule = f"{magnitude_band} PSF - cmodel magnitude > {cuts.min_extendedness_mag:g}"
        excess = _difference(columns.psf_mag, mag)
        if POINT_SOURCE in available and "psf_mag" not in available:
            rule = f"{magnitude_band}_extendedness_value > 0.5, as there are no PSF magnitudes"
            yield _Test("extendedness", rule, _clear(columns, POINT_SOURCE))
        else:
            present = {"psf_mag", f"mag_{magnitude_band}"} <= available
            yield _test("extendedness", rule, excess, excess > cuts.min_extendedness_mag, present)
    if cuts.redshift is not None:
        low, high = cuts.redshift
        passed = (columns.redshift > low) & (columns.redshift < high)
        rule = f"{low:g} < redshift < {high:g}"
        yield _test("redshift", rule, columns.redshift, passed, "redshift" in available)
    for first, second, limit in cuts.colours:
        colour = _difference(*(columns.mag[:, survey.bands.index(band)] for band in (first, second)))
        present = {f"mag_{first}", f"mag_{second}"} <= available
        yield _test(f"{first}-{second}", f"{first} - {second} < {limit:g}", colour, colour < limit, present)


def _clear(columns: SampleColumns, flag: str) -> BoolArray:
    return np.asarray((columns.flags >> np.uint32(ALL_FLAGS.index(flag))) & np.uint32(1) == 0)


def _patch_tests(
    columns: SampleColumns, cuts: SampleCuts, survey: Survey, available: set[str], limits: Sequence[float] | None
) -> Iterator[_Test]:
    """Seeing and depth must hold in every band; only bands without data are skipped."""
    if cuts.max_fwhm_arcsec is not None:
        rule = f"PSF FWHM <= {cuts.max_fwhm_arcsec:g} arcsec in every band"
        fwhm, bands = columns.fwhm_arcsec, list(survey.bands)
        yield _all_bands("seeing", rule, fwhm, fwhm <= cuts.max_fwhm_arcsec, "fwhm_arcsec", bands, survey, available)
    if limits is not None:
        limited = [band for band, limit in zip(survey.bands, limits, strict=True) if math.isfinite(limit)]
        if not limited:
            if cuts.depth_percentile is not None:
                yield _Test("depth", f"5-sigma depth >= percentile {cuts.depth_percentile:g}", None, NO_DATA)
            return
        values = columns.depth_mag
        passed = np.ones(values.shape, np.bool_)
        for band in survey.band_index(limited):
            # A Python float compares in the column's own precision, so a depth equal to the limit passes.
            passed[:, band] = values[:, band] >= float(limits[band])
        shown = ", ".join(f"{band} {limits[survey.bands.index(band)]:.2f}" for band in limited)
        rule = f"5-sigma depth >= {shown} mag"
        yield _all_bands("depth", rule, values, passed, "depth_mag", limited, survey, available)


def _all_bands(
    name: str,
    rule: str,
    values: FloatArray,
    passed: BoolArray,
    column: str,
    bands: list[str],
    survey: Survey,
    available: set[str],
) -> _Test:
    present = [band for band in bands if f"{column}_{band}" in available]
    if not present:
        return _Test(name, rule, None, NO_DATA)
    absent = [band for band in bands if band not in present]
    note = f"{NO_DATA} in {', '.join(absent)}" if absent else ""
    shown = values[:, (picks := survey.band_index(present))]
    return _Test(name, rule, passed[:, picks].all(axis=1), note, ~np.isnan(shown).any(axis=1), shown, tuple(present))


def _test(name: str, rule: str, value: npt.NDArray[np.floating], passed: BoolArray, present: bool) -> _Test:
    """A cut of one value an object, NaN where unknown, which compares False with everything."""
    return _Test(name, rule, passed, "", ~np.isnan(value), value) if present else _Test(name, rule, None, NO_DATA)


def _difference(first: FloatArray, second: FloatArray) -> DoubleArray:
    """first - second in float64; NaN where either is unknown."""
    return first.astype(np.float64) - second.astype(np.float64)


def _depth_limits(cuts: SampleCuts, survey: Survey, min_depth_mag: Sequence[float] | None) -> Sequence[float] | None:
    if not cuts.use_depth:
        return None
    if min_depth_mag is None and cuts.depth_percentile is not None:
        raise SwimmyError(
            f"depth_percentile is {cuts.depth_percentile:g}, but no depth limits were computed. Give the patch table."
        )
    limits = survey.min_depth_mag if min_depth_mag is None else [float(limit) for limit in min_depth_mag]
    if len(limits) != survey.n_bands:
        raise SwimmyError(f"{len(limits)} depth limits for {survey.n_bands} bands. Give one for each band.")
    return limits


def _check_columns(columns: SampleColumns, survey: Survey) -> None:
    n_objects = columns.usable.shape[0]
    for field in fields(columns):
        by_band = field.name in ("fwhm_arcsec", "depth_mag", "mag")
        expected = (n_objects, survey.n_bands) if by_band else (n_objects,)
        found = getattr(columns, field.name).shape
        if found != expected:
            raise SwimmyError(f"column {field.name} has shape {found}, needs {expected}.")
    if columns.flags.dtype.kind not in "iu":
        raise SwimmyError(f"column flags is {columns.flags.dtype}, needs the integer bit mask of FLAG_NAMES.")
