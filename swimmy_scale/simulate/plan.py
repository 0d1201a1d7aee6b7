"""What to simulate: the plan, its parts, and which object is of which kind.

Everything here is a pure function of the plan: any process can ask about any object, in any order.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.survey import HSC, BoolArray, IntArray, Survey
from swimmy_scale.simulate.population import DEMONSTRATION, Population

KINDS = (
    "normal",
    "xelg",
    "quasar",
    "type1_agn",
    "type2_agn",
    "merger",
    "artefact_zero_point",
    "artefact_saturated",
)

# Faults to plant, in the order in which they are dealt out, and the code that ingest must report for each.
FAULTS = (
    ("missing_band", Code.MISSING_BAND),
    ("wrong_shape", Code.WRONG_SHAPE),
    ("no_image_hdu", Code.NO_IMAGE_HDU),
    ("nan_pixels", Code.NOT_FINITE_PIXELS),
    ("truncated_file", Code.UNREADABLE_FILE),
    ("corrupt_file", Code.UNREADABLE_FILE),
    ("duplicate_object_id", Code.DUPLICATE_OBJECT_ID),
    ("fwhm_above_target", Code.FWHM_ABOVE_TARGET),
    ("fwhm_missing", Code.FWHM_MISSING),
)
FAULT_NAMES = tuple(name for name, _ in FAULTS)

# What a second tract, overlapping the catalogue's, has of an object: all of it; data on one side only, with NaN or
# zeros beyond; an image cut off at its edge; some bands; or all of it, where the catalogue's has zeros in one band.
OVERLAPS = ("whole", "nan_beyond", "zeros_beyond", "cut_off", "some_bands", "instead")

# The catalogue cuts of sections 2.1 and 2.2 that some objects must fail.
CUTS = ("depth", "magnitude", "flag", "extendedness", "redshift")

# The sky of `sky`: tracts stand in rings, from the first one on, and 78 patches of each tract are ordinary.
FIRST_TRACT = 9000
N_TRACTS_A_RING, N_RINGS, N_ORDINARY_PATCHES = 80, 40, 78

# First words of the random streams: one stream never serves two purposes.
STREAM_ALLOCATION, STREAM_PATCH, STREAM_OBJECT, STREAM_PIXEL, STREAM_CATALOGUE, STREAM_SPECTROSCOPY = range(6)

SmallIntArray = npt.NDArray[np.int8]


@dataclass(frozen=True)
class SimulationPlan:
    """Everything that sets a synthetic survey. The same plan gives the same bytes where libraries round alike.

    Attributes
    ----------
    n_objects : int
    seed : int
        0 or above.
    faulty_fraction : float
        Objects that ingest must quarantine, spread evenly over the kinds of `FAULTS`.
    cut_fraction : float
        Normal galaxies made to fail a catalogue cut, as a fraction of all objects, spread evenly over `CUTS`. None
        fails the depth cut of a survey without depth limits.
    xelg_fraction, quasar_fraction, type1_agn_fraction, type2_agn_fraction, merger_fraction, \
artefact_zero_point_fraction, artefact_saturated_fraction : float
        Objects of each planted kind; all others are normal galaxies.
    training_fraction : float
        Share of the normal galaxies (and of mergers and artefacts, which a spectrum cannot tell from them) whose
        ``sample_class`` is ``training``; the rest is ``other``.
    oversize_fraction : float
        Objects whose cutouts are a pixel too large in some bands, as the archive sometimes delivers them.
    extra_hdu_fraction : float
        Objects whose files hold mask and variance as well.
    overlap_fraction : float
        Objects of which a second tract has files too, spread evenly over the kinds of `OVERLAPS`.
    repeat_fraction : float
        Objects that were requested once more, in a list of their own.
    n_objects_per_tar : int
        Objects of one part: a tar file, or the folder of saved files.
    n_objects_per_patch : int
        Consecutive catalogue rows that share a patch. HSC has about 40 galaxies with i < 20 in one.
    first_tract : int
        Where the survey begins; a survey of other tracts has other positions and ids. The sky's first is 9000.
    survey : Survey
        Its bands must be among g, r, i, z and y.
    population : Population
        Laws that objects and skies are drawn by.

    Raises
    ------
    SwimmyError
        When a value is out of range.
    """

    n_objects: int
    seed: int
    faulty_fraction: float = 0.01
    cut_fraction: float = 0.05
    xelg_fraction: float = 0.02
    quasar_fraction: float = 0.01
    type1_agn_fraction: float = 0.01
    type2_agn_fraction: float = 0.015
    merger_fraction: float = 0.03
    artefact_zero_point_fraction: float = 0.003
    artefact_saturated_fraction: float = 0.003
    training_fraction: float = 0.5
    oversize_fraction: float = 0.05
    extra_hdu_fraction: float = 0.02
    overlap_fraction: float = 0.02
    repeat_fraction: float = 0.005
    n_objects_per_tar: int = 500
    n_objects_per_patch: int = 40
    first_tract: int = FIRST_TRACT
    survey: Survey = HSC
    population: Population = DEMONSTRATION

    def __post_init__(self) -> None:
        found = (_problem(field.name, getattr(self, field.name)) for field in fields(self))
        problems = [problem for problem in found if problem]
        planted = self.faulty_fraction + self.cut_fraction + sum(self.kind_fractions[1:])
        if planted > 1.0 + 1e-9:  # a sum of fractions rounds
            problems.append(f"the planted fractions add up to {planted:.3f}, they must not exceed 1")
        unknown = [band for band in self.survey.bands if band not in tuple("grizy")]
        if unknown:
            problems.append(f"bands {unknown} have no simulated filter, known are g, r, i, z, y")
        end = FIRST_TRACT + N_TRACTS_A_RING * N_RINGS
        if not FIRST_TRACT <= self.first_tract < end:
            problems.append(f"first_tract {self.first_tract} must be between {FIRST_TRACT} and {end - 1}")
        most = (end - self.first_tract) * N_ORDINARY_PATCHES * self.n_objects_per_patch
        if not problems and self.n_objects > most:
            problems.append(
                f"n_objects {self.n_objects} with {self.n_objects_per_patch} a patch must be {most} or below"
            )
        if problems:
            raise SwimmyError(f"simulation plan: {'; '.join(problems)}. Correct these values.")

    @property
    def kind_fractions(self) -> tuple[float, ...]:
        """Fraction of all objects that are of each of `KINDS`, in this order."""
        planted = tuple(float(getattr(self, f"{kind}_fraction")) for kind in KINDS[1:])
        return (1.0 - sum(planted), *planted)

    @property
    def n_parts(self) -> int:
        """Number of tar files, the folder of saved files included."""
        return math.ceil(self.n_objects / self.n_objects_per_tar)


def _problem(name: str, value: Any) -> str:
    """What is wrong with the value of one field of a plan, or an empty string."""
    if name.endswith("_fraction") and not 0.0 <= value <= 1.0:
        return f"{name} {value} must be between 0 and 1"
    if name == "seed" and value < 0:
        return f"seed {value} must be 0 or above"
    if name.startswith("n_objects") and value < 1:
        return f"{name} {value} must be 1 or above"
    return ""


def plan_parts(plan: SimulationPlan) -> list[range]:
    """Catalogue rows of each part, a tar file or a folder; together they cover ``range(plan.n_objects)`` in order."""
    step = plan.n_objects_per_tar
    return [range(start, min(start + step, plan.n_objects)) for start in range(0, plan.n_objects, step)]


def request_name(part_index: int) -> str:
    """The archive's name for the list of lines of a part: the time of the request, here always the same."""
    return f"arch-240101-{part_index:06d}"


def generator(plan: SimulationPlan, stream: int, *words: int) -> np.random.Generator:
    """Random numbers for one purpose, which depend on the plan's seed, the stream and the words alone."""
    return np.random.default_rng(np.random.SeedSequence((plan.seed, stream, *words)))


@dataclass(frozen=True)
class Allocation:
    """What every object of the survey is.

    Attributes
    ----------
    kind : ndarray of int8, shape (n_objects,)
        Index into `KINDS`.
    fault : ndarray of int8, shape (n_objects,)
        Index into `FAULTS`, or -1.
    cut : ndarray of int8, shape (n_objects,)
        Index into `CUTS` of the cut that the object is made to fail, or -1.
    id_row : ndarray of int64, shape (n_objects,)
        Row whose object_id the object has: its own row, except for duplicates.
    oversize, extra_hdus : ndarray of bool, shape (n_objects,)
        Whether cutouts are too large in some bands, and whether files hold mask and variance.
    overlap : ndarray of int8, shape (n_objects,)
        Index into `OVERLAPS`, or -1.
    repeated : ndarray of bool, shape (n_objects,)
        Whether the object was requested twice.
    """

    kind: SmallIntArray
    fault: SmallIntArray
    cut: SmallIntArray
    id_row: IntArray
    oversize: BoolArray
    extra_hdus: BoolArray
    overlap: SmallIntArray
    repeated: BoolArray


@functools.lru_cache(maxsize=2)
def allocate(plan: SimulationPlan) -> Allocation:
    """Deal out kinds, faults and cuts over the survey: exact counts, random places.

    Dealt like a deck of cards, rare kinds occur in small surveys too, and the plan alone sets how many there are. It
    takes 20 ns per object, so every process deals for itself.
    """
    rng = generator(plan, STREAM_ALLOCATION)
    n = plan.n_objects
    edges = np.rint(np.cumsum(plan.kind_fractions[1:]) * n).astype(np.int64)
    kind = ((np.searchsorted(edges, rng.permutation(n), side="right") + 1) % len(KINDS)).astype(np.int8)

    fault = np.full(n, -1, np.int8)
    faulty = rng.permutation(n)[: round(plan.faulty_fraction * n)]
    fault[faulty] = np.arange(len(faulty)) % len(FAULTS)
    id_row = _pair_duplicates(fault)

    cut = np.full(n, -1, np.int8)
    plain = rng.permutation(np.flatnonzero((kind == 0) & (fault < 0)))[: round(plan.cut_fraction * n)]
    cut[plain] = np.arange(len(plain)) % len(CUTS)
    oversize = rng.permutation(n) < round(plan.oversize_fraction * n)
    extra_hdus = rng.permutation(n) < round(plan.extra_hdu_fraction * n)
    overlap = np.full(n, -1, np.int8)
    sound = rng.permutation(np.flatnonzero(fault < 0))
    overlapping = sound[: round(plan.overlap_fraction * n)]
    overlap[overlapping] = np.arange(len(overlapping)) % len(OVERLAPS)
    repeated = np.zeros(n, np.bool_)
    repeated[sound[::-1][: round(plan.repeat_fraction * n)]] = True
    return Allocation(kind, fault, cut, id_row, oversize, extra_hdus, overlap, repeated)


def is_of_kind(kind: SmallIntArray, *names: str) -> BoolArray:
    """Whether each object is of one of these `KINDS`; bool, shape of ``kind``."""
    return np.isin(kind, [KINDS.index(name) for name in names])


def _pair_duplicates(fault: SmallIntArray) -> IntArray:
    """Row whose object_id each row has: a duplicate has that of a good row before it.

    ``fault`` is changed in place where no good row comes first, because ingest keeps the first row of an object_id.
    """
    id_row = np.arange(len(fault), dtype=np.int64)
    duplicate = FAULT_NAMES.index("duplicate_object_id")
    rows, good = np.flatnonzero(fault == duplicate), np.flatnonzero(fault < 0)
    if len(rows) and not len(good):
        fault[rows] = FAULT_NAMES.index("corrupt_file")
        return id_row
    if len(rows) and rows[0] < good[0]:
        # The first duplicate and the first good row change places: a good row now precedes every duplicate.
        fault[rows[0]], fault[good[0]] = -1, duplicate
        rows, good = np.flatnonzero(fault == duplicate), np.flatnonzero(fault < 0)
    id_row[rows] = good[np.searchsorted(good, rows) - 1]
    return id_row
