"""``cutouts.zarr``: the survey's cutouts in counts, with the catalogue beside them; and who is in the sample."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.sample import (
    ALL_FLAGS,
    KNOWN_RANGES,
    MASKED_CENTER,
    CutCount,
    FailedCut,
    SampleColumns,
    SampleCuts,
    apply_cuts,
    depth_percentile,
    failed_cuts,
    known,
)
from swimmy_scale.method.survey import HSC, AnyArray, BoolArray, FloatArray, IntArray, Survey
from swimmy_scale.storage.layout import Layout, Variable
from swimmy_scale.storage.store import n_rows, open_group, read_rows

FORMAT_VERSION = 1
# Names that coordinates have, or that kept columns would meet in ``scores.zarr`` and in the candidate catalogue.
RESERVED = {
    *("band", "y", "x", "level", "model", "score", "residual", "combined_score", "combined_residual"),
    *("in_sample", "threshold", "candidate", "bands"),
}


CUT_VARIABLES = ("mag", "psf_mag", "fwhm_arcsec", "depth_mag", "flags", "redshift")
_FLAGS_AT_ONCE = 2**20
UNKNOWN_DEPTH = KNOWN_RANGES["depth_mag"][0]

OBJECT_VARIABLES = (
    Variable("object_id", ("object",), "int64", {"long_name": "identifier in the catalogue"}),
    Variable("ra", ("object",), "float64", {"units": "deg", "long_name": "right ascension (ICRS)"}),
    Variable("dec", ("object",), "float64", {"units": "deg", "long_name": "declination (ICRS)"}),
)
CLASS_VARIABLE = Variable("sample_class", ("object",), "string", {"long_name": "class known beforehand, if any"})
CODE_VARIABLE = Variable(
    "quarantine_code",
    ("object",),
    "uint8",
    {
        "long_name": "reason for quarantine, 0 for none",
        "flag_values": [0, *(int(code) for code in Code)],
        "flag_meanings": " ".join(["none", *(code.label for code in Code)]),
    },
)


def _variables(
    kept: Mapping[str, str], survey: Survey = HSC, keep_mantissa_bits: int | None = None
) -> tuple[Variable, ...]:
    flags = {
        "long_name": "flags raised in any band",
        "flag_masks": [1 << bit for bit in range(len(ALL_FLAGS))],
        "flag_meanings": " ".join(ALL_FLAGS),
    }
    image = {
        "units": "count",
        "long_name": "cutout as delivered",
        "zero_point_mag": survey.zero_point_mag,
        "pixel_scale_arcsec": survey.pixel_scale_arcsec,
    }
    if keep_mantissa_bits is not None:
        image["_QuantizeBitRoundNumberOfSignificantBits"] = keep_mantissa_bits  # netCDF's name for it
    by_band = ("object", "band")
    return (
        Variable("image", (*by_band, "y", "x"), "float32", image),
        *OBJECT_VARIABLES,
        Variable("fwhm_arcsec", by_band, "float32", {"units": "arcsec", "long_name": "PSF FWHM"}),
        Variable("mag", by_band, "float32", {"units": "mag(AB)", "long_name": "cmodel magnitude"}),
        Variable("psf_mag", ("object",), "float32", {"units": "mag(AB)", "long_name": "PSF magnitude"}),
        Variable("depth_mag", by_band, "float32", {"units": "mag(AB)", "long_name": "5-sigma PSF limiting magnitude"}),
        Variable("flags", ("object",), "uint32", flags),
        Variable("redshift", ("object",), "float64", {"units": "1", "long_name": "spectroscopic redshift"}),
        CLASS_VARIABLE,
        CODE_VARIABLE,
        *(Variable(name, ("object",), dtype, {"long_name": "from the catalogue"}) for name, dtype in kept.items()),
    )


def check_kept(names: Iterable[str], bands: Sequence[str]) -> None:
    """Refuse kept columns with the name of one of our own variables or columns, or one that no Zarr array can have."""
    by_band = {f"{name}_{band}" for name in ("score", "residual") for band in bands}
    clashes = sorted(set(names) & ({variable.name for variable in _variables({})} | RESERVED | by_band))
    if clashes:
        raise SwimmyError(
            f"catalogue.keep_columns: {', '.join(clashes)} would replace a variable of the same name. "
            "Leave it out, or rename it in the catalogue."
        )
    strange = sorted(name for name in names if not name.strip(". ") or "/" in name or name == "zarr.json")
    if strange:
        raise SwimmyError(
            f"catalogue.keep_columns: {', '.join(map(repr, strange))} cannot name an array. "
            "Leave it out, or rename it in the catalogue."
        )


def cutouts_layout(
    n_objects: int,
    survey: Survey,
    kept: Mapping[str, str],
    partition_objects: int,
    chunk_objects: int,
    attrs: Mapping[str, Any],
    keep_mantissa_bits: int | None = None,
) -> Layout:
    """Layout of ``cutouts.zarr``.

    Parameters
    ----------
    kept : mapping of str to str
        Catalogue columns that travel along, with their types.
    attrs : mapping
        More group attributes, such as the columns that the catalogue has.
    keep_mantissa_bits : int, optional
        Mantissa bits to which pixels are rounded before they are written.

    Raises
    ------
    SwimmyError
        When a kept column has the name of one of the program's own variables or columns, or one that no Zarr array
        can have.
    """
    check_kept(kept, survey.bands)
    size = survey.cutout_size_px
    return Layout(
        n_objects=n_objects,
        partition_objects=partition_objects,
        chunk_objects=chunk_objects,
        sizes={"band": survey.n_bands, "y": size, "x": size},
        variables=_variables(kept, survey, keep_mantissa_bits),
        labels={"band": survey.bands},
        attrs={
            "format_version": FORMAT_VERSION,
            "title": "cutouts",
            "survey": asdict(survey),
            "units": "count",
            "zero_point_mag": survey.zero_point_mag,
            "pixel_scale_arcsec": survey.pixel_scale_arcsec,
            "kept_columns": dict(kept),
            **attrs,
        },
    )


def survey_from_attrs(attrs: Mapping[str, Any], path: Path) -> Survey:
    """The survey that a store was made for, which its attributes must describe."""
    try:
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in attrs["survey"].items()
        }
        return Survey(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise SwimmyError(f"{path}: no valid survey description ({error}). Ingest it again.") from error


@dataclass(frozen=True)
class Addition:
    """Rows of a store that were added to it: from ``first_row`` on, ``n_objects`` of them."""

    name: str
    first_row: int
    n_objects: int


class Cutouts:
    """An existing ``cutouts.zarr``, opened for reading.

    Attributes
    ----------
    path : Path
    survey : Survey
    n_objects : int
    partition_objects, chunk_objects : int
        Rows of a partition, and of a chunk of its pixels.
    kept : dict of str to str
        Catalogue columns that travel along, with their types.
    additions : tuple of Addition
        What was added to the objects that the store began with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group: zarr.Group = open_group(path, FORMAT_VERSION)
        self.attrs = attrs = dict[str, Any](self.group.attrs)
        self.survey = survey_from_attrs(attrs, path)
        try:
            self.partition_objects = int(attrs["partition_objects"])
            self.chunk_objects = int(attrs["chunk_objects"])
            self.kept: dict[str, str] = dict(attrs["kept_columns"])
            self.additions = tuple(Addition(**item) for item in attrs.get("additions", ()))
        except (KeyError, ValueError, TypeError) as error:
            raise SwimmyError(f"{path}: its attributes are damaged ({error}). Ingest it again.") from error
        self.n_objects = n_rows(self.group, "image")

    @classmethod
    def without_additions(cls, path: Path) -> Cutouts:
        """A store as if nothing had been added to it: what training and evaluation see.

        Weights are made once, of what the job itself names: were they made anew with every addition, no score and no
        threshold would remain.
        """
        store = cls(path)
        if store.additions:
            store.n_objects = store.additions[0].first_row
        return store

    def read(self, name: str, lo: int, hi: int) -> AnyArray:
        """Rows of one variable (see `store.read_rows`)."""
        return read_rows(self.group, name, lo, hi)

    def images(self, lo: int, hi: int) -> FloatArray:
        """Cutouts ``lo`` to ``hi``: float32 (object, band, y, x), counts, NaN where quarantined."""
        return self.read("image", lo, hi).astype(np.float32, copy=False)

    def partitions(self) -> Iterator[tuple[int, int]]:
        """First row and end of every partition, in order."""
        return self._ranges(self.partition_objects)

    def has_flag(self, name: str) -> bool:
        """Whether the flag of this name is raised for some object."""
        bit = np.uint32(1 << ALL_FLAGS.index(name))
        return any(bool((self.read("flags", lo, hi) & bit).any()) for lo, hi in self._ranges(_FLAGS_AT_ONCE))

    def _ranges(self, step: int) -> Iterator[tuple[int, int]]:
        return ((lo, min(lo + step, self.n_objects)) for lo in range(0, self.n_objects, step))

    def chunks_of(self, rows: IntArray, *names: str) -> Iterator[tuple[slice, tuple[AnyArray, ...]]]:
        """The named variables of some rows, ascending, chunk by chunk: each chunk is read once, and one is in memory.

        Yields the places in ``rows``, and an array of each variable, in the order of ``names``.
        """
        chunks, first = np.unique(rows // self.chunk_objects, return_index=True)
        for _, start, stop in zip(chunks, first, [*first[1:], len(rows)], strict=True):
            lo, inside = int(rows[start]), rows[start:stop] - rows[start]
            yield (
                slice(int(start), int(stop)),
                tuple(self.read(name, lo, lo + int(inside[-1]) + 1)[inside] for name in names),
            )

    def sources(self, rows: IntArray) -> FloatArray:
        """Preprocessed cutouts of some rows, as the network takes them; each chunk is read once.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Ascending.

        Returns
        -------
        ndarray of float32, shape (n, band, y, x)
            In [0, 1]; NaN where quarantined.
        """
        size = self.survey.cutout_size_px
        cubes = np.empty((len(rows), self.survey.n_bands, size, size), np.float32)
        for lo, hi in self._ranges(self.chunk_objects):
            first, end = np.searchsorted(rows, [lo, hi])
            if first < end:
                part = rows[first:end] - lo
                fwhm = self.read("fwhm_arcsec", lo, hi)[part]
                cubes[first:end] = preprocess(self.images(lo, hi)[part], fwhm, self.survey)
        return cubes


def with_patches(patches: FloatArray, depth_mag: FloatArray) -> FloatArray:
    """Depths of patches, float32 (patch, band), and those of more objects, float32 (n, band); each once."""
    # Not NaN: rows with NaN are never alike. A patch counts in each band where its depth is known.
    depth = np.where(known("depth_mag", depth_mag), depth_mag, np.float32(UNKNOWN_DEPTH))
    return np.unique(np.concatenate([patches, depth]), axis=0)


def depth_limits(cuts: SampleCuts, n_bands: int, depth_mag: Iterable[FloatArray]) -> tuple[float, ...] | None:
    """Depth limits, one a band, if the cuts set them by a percentile of the patches; else None, and nothing is read.

    Patches are told apart by their depths, float32 (n, band) of some objects each: a patch counts once, however many
    objects it has.
    """
    if cuts.depth_percentile is None:
        return None
    patches = functools.reduce(with_patches, depth_mag, np.zeros((0, n_bands), np.float32))
    return tuple(depth_percentile(patches, cuts.depth_percentile).tolist())


@dataclass(frozen=True)
class SampleRule:
    """What decides which objects are in the sample, the same for every partition.

    Attributes
    ----------
    available : tuple of str
        Columns that the catalogue has, as `sample.column_names` calls them.
    min_depth_mag : tuple of float, optional
        Depth limits, one a band, in place of the survey's.
    """

    cuts: SampleCuts
    available: tuple[str, ...]
    min_depth_mag: tuple[float, ...] | None = None

    @classmethod
    def of(cls, store: Cutouts, cuts: SampleCuts) -> SampleRule:
        """The rule for a store; reads all depths if the limits are a percentile of them.

        Only reading the pixels tells whether files have masks: the cut by them is made where one of them raised a flag.
        """
        available = set(store.attrs["available_columns"])
        if MASKED_CENTER in set(cuts.flags) - available and store.has_flag(MASKED_CENTER):
            available.add(MASKED_CENTER)
        depths = (store.read("depth_mag", lo, hi) for lo, hi in store.partitions())
        limits = depth_limits(cuts, store.survey.n_bands, depths)
        return cls(cuts, tuple(sorted(map(str, available))), limits)

    def apply(self, store: Cutouts, lo: int, hi: int, usable: BoolArray) -> tuple[BoolArray, list[CutCount]]:
        """Which of the rows ``lo`` to ``hi`` are in the sample, and the counts of the cuts (see `apply_cuts`)."""
        columns = SampleColumns(usable=usable, **{name: store.read(name, lo, hi) for name in CUT_VARIABLES})
        return apply_cuts(columns, self.cuts, store.survey, self.available, self.min_depth_mag)

    def failed(self, store: Cutouts, rows: IntArray) -> list[list[FailedCut]]:
        """The cuts that some rows, ascending, fail (see `failed_cuts`)."""
        failed: list[list[FailedCut]] = []
        for _, (code, *values) in store.chunks_of(rows, "quarantine_code", *CUT_VARIABLES):
            columns = SampleColumns(usable=code == 0, **dict(zip(CUT_VARIABLES, values, strict=True)))
            failed += failed_cuts(columns, self.cuts, store.survey, self.available, self.min_depth_mag)
        return failed
