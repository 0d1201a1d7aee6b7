"""The paper's numbers that a run can be compared with, as data, and the verdict on the run's.

A number of the paper has a band of tolerance: the 68% interval of its counts where the paper gives them, but at least
10% of the number to each side, since networks that are trained again differ by more than counting does (appendix 1).
The run's number has the 68% interval of its counts. Where the two overlap, the number is reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from swimmy_scale.results.paper.statistics import wilson_interval

RELATIVE_TOLERANCE = 0.10
CORRELATION_TOLERANCE = 0.05
CONSTRUCTION_TOLERANCE_PERCENT = 0.1

SAME, REPRODUCED, DIFFERS, NONE = "same by construction", "reproduced", "differs", "no objects"


@dataclass(frozen=True)
class Found:
    """A measured number with its 68% interval; ``text`` is what the page shows, without the interval."""

    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class PaperNumber:
    """A number of the paper.

    Attributes
    ----------
    key : str
        Its name for programs, also that of the run's number.
    what : str
        Its name for readers.
    section : str
        Where the paper has it.
    how : str
        How the run's number is computed: from which file, and what in it.
    paper : Found
        The number and its band of tolerance.
    by_construction : bool
        Whether the method makes it what it is.
    """

    key: str
    what: str
    section: str
    how: str
    paper: Found
    by_construction: bool = False


def share(n_selected: int, n_objects: int) -> Found | None:
    """A share in percent with Wilson's 68.3% interval; None if there are no objects."""
    if not n_objects:
        return None
    low, high = wilson_interval(np.array(n_selected), np.array(n_objects))
    percent = 100.0 * n_selected / n_objects
    text = f"{n_selected:,}/{n_objects:,} = {percent:.{3 if percent < 10 else 1}f}%"
    return Found(percent, 100.0 * float(low), 100.0 * float(high), text)


def tolerated_share(n_selected: int, n_objects: int) -> Found:
    """A share of the paper, with its band of tolerance in percent."""
    found = share(n_selected, n_objects)
    assert found is not None  # noqa: S101 - the paper's own sizes
    half = RELATIVE_TOLERANCE * found.value
    return Found(found.value, min(found.low, found.value - half), max(found.high, found.value + half), found.text)


def tolerated_percent(percent: float) -> Found:
    """A percentage of the paper without its counts, with its band of tolerance."""
    return _tolerated(percent, RELATIVE_TOLERANCE * percent, f"{percent:g}%")


def _tolerated(value: float, half: float, text: str) -> Found:
    return Found(value, value - half, value + half, text)


def verdict(number: PaperNumber, found: Found | None) -> str:
    """``same by construction``, ``reproduced``, ``differs``, or ``no objects`` where there is nothing to measure.

    A number that should be the same by construction and is not, differs.
    """
    if found is None:
        return NONE
    if found.high < number.paper.low or found.low > number.paper.high:
        return DIFFERS
    return SAME if number.by_construction else REPRODUCED


# ---------------------------------------------------------------- the paper's tables

BANDS = ("g", "r", "i")
GROUPS = MappingProxyType({"sample": 49_319, "quasar": 23, "xelg": 701})
TABLE_2: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "g": (2461, 7, 263),
        "r": (2147, 3, 119),
        "i": (2455, 9, 282),
        "g&r": (391, 1, 77),
        "r&i": (385, 2, 51),
        "g&i": (418, 2, 119),
        "g&r&i": (86, 0, 26),
        "any": (5955, 14, 443),
    }
)
"""Selected of the sample, of DR16Q's quasars and of the XELGs, by band."""
TABLE_4: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"quasar": (16, 23), "type1_agn": (130, 286), "type2_agn": (74, 580), "other": (14, 49)}
)
"""Selected and all, by type of Milliquas, without DR16Q's."""
NEGATIVE = MappingProxyType({"g": 8, "r": 322, "i": 14})
"""Objects above the threshold with a residual that is not positive."""
ABOVE_THRESHOLD = 2469
EW_RATES = MappingProxyType({"g": 90.7, "r": 84.4, "i": 64.4})
"""Percent selected of XELGs with EW_band above 100 Angstrom."""
SPEARMAN = MappingProxyType({"g": -0.055, "r": 0.100, "i": 0.159})
XELG_AT_3_SIGMA = MappingProxyType({"g": 71.0, "r": 48.0, "i": 65.0})
"""Percent that are XELGs, of MPA-JHU's galaxies above 3 sigma."""
LOSS = (0.0003, 0.001)
LARGEST_CORRELATION = 0.16

_GROUP_NAMES = {"sample": "all", "quasar": "DR16Q quasars", "xelg": "XELGs"}
_TYPE_NAMES = {"quasar": "quasars", "type1_agn": "type-I AGN", "type2_agn": "type-II AGN", "other": "others"}
_SHARE_ABOVE = 100.0 * ABOVE_THRESHOLD / GROUPS["sample"]
_ABOVE = _tolerated(
    _SHARE_ABOVE, CONSTRUCTION_TOLERANCE_PERCENT, f"{ABOVE_THRESHOLD:,}/{GROUPS['sample']:,} = {_SHARE_ABOVE:.3f}%"
)


def _by_band(
    key: str, what: str, section: str, how: str, numbers: Mapping[str, Found], by_construction: bool = False
) -> list[PaperNumber]:
    """A number in each band; in ``what`` the band stands for {}."""
    return [
        PaperNumber(f"{key}/{band}", what.replace("{}", band), section, how, found, by_construction)
        for band, found in numbers.items()
    ]


NUMBERS = (
    *(
        PaperNumber(
            f"table-2/{band}/{group}",
            f"{'any band' if band == 'any' else band}: {_GROUP_NAMES[group]}",
            "3.2, table 2",
            f"tables/table-2.ecsv, n_selected_{group} / n_objects_{group}",
            tolerated_share(counts[at], n_objects),
        )
        for at, (group, n_objects) in enumerate(GROUPS.items())
        for band, counts in TABLE_2.items()
    ),
    *_by_band(
        "above-threshold",
        "{}: above the threshold",
        "3.2",
        "tables/table-2.ecsv and tables/high-but-negative.ecsv: selected + negative",
        dict.fromkeys(BANDS, _ABOVE),
        by_construction=True,
    ),
    *_by_band(
        "negative",
        "{}: of these with a negative residual",
        "3.2, appendix 2",
        "tables/high-but-negative.ecsv, objects with the band in `bands`",
        {band: tolerated_share(count, ABOVE_THRESHOLD) for band, count in NEGATIVE.items()},
    ),
    *_by_band(
        "ew-above-100",
        "{}: XELGs with EW_{} > 100 Å selected",
        "4.1, figure 9",
        "figures/ew-cumulative.ecsv, ew_band_above_100",
        {band: tolerated_percent(percent) for band, percent in EW_RATES.items()},
    ),
    *(
        PaperNumber(
            f"table-4/{kind}",
            f"{_TYPE_NAMES[kind]} of Milliquas",
            "4.2, table 4",
            "tables/table-4.ecsv, n_selected / n_objects",
            tolerated_share(*counts),
        )
        for kind, counts in TABLE_4.items()
    ),
    *_by_band(
        "xelg-at-3-sigma",
        "{}: XELGs among MPA-JHU galaxies above 3 sigma",
        "4.4",
        "figures/score-ew.ecsv, xelg_among_selected",
        {band: tolerated_percent(percent) for band, percent in XELG_AT_3_SIGMA.items()},
    ),
    *_by_band(
        "spearman",
        "{}: Spearman's rank of score and magnitude",
        "4.3, figure 12",
        "figures/score-magnitude.ecsv, spearman",
        {band: _tolerated(rho, CORRELATION_TOLERANCE, f"{rho:.3f}") for band, rho in SPEARMAN.items()},
    ),
    PaperNumber(
        "loss",
        "training loss of the kept epochs",
        "appendix 1, figure 16",
        "models/weight_sets.ecsv, smallest and largest loss",
        Found(sum(LOSS) / 2, *LOSS, f"{LOSS[0]:g} to {LOSS[1]:g}"),
    ),
)
