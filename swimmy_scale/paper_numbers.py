"""The paper's numbers that a run can be held against, as data, and the verdict on ours.

A number of the paper has a band of tolerance: its own 68% interval where the paper gives counts, and in any case not
less than 10% of the number to each side, since networks that are trained again differ by more than counting does
(appendix 1). Ours has the 68% interval of its counts. Where the two overlap, the number is reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from astropy.stats import binom_conf_interval

RELATIVE_TOLERANCE = 0.10
CORRELATION_TOLERANCE = 0.05
CONSTRUCTION_TOLERANCE_PERCENT = 0.1

SAME, REPRODUCED, DIFFERS, NONE = "same by construction", "reproduced", "differs", "no objects"
NOT_EXPLAINED = "not explained yet"


@dataclass(frozen=True)
class Found:
    """A measured number with its 68% interval.

    Attributes
    ----------
    value, low, high : float
    text : str
        As the page shows it, without the interval.
    """

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
        Its name for programs, also of our value.
    what : str
        Its name for readers.
    section : str
        Where the paper has it.
    how : str
        How ours is computed: the file of the run, and what of it.
    paper : Found
        The number and its band of tolerance.
    by_construction : bool
        Whether the method fixes it.
    """

    key: str
    what: str
    section: str
    how: str
    paper: Found
    by_construction: bool = False


def share(n_selected: int, n_objects: int) -> Found | None:
    """A share in percent with Wilson's 68.3% interval; None of no objects."""
    if not n_objects:
        return None
    low, high = binom_conf_interval(n_selected, n_objects, interval="wilson")
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
    half = RELATIVE_TOLERANCE * percent
    return Found(percent, percent - half, percent + half, f"{percent:g}%")


def verdict(number: PaperNumber, found: Found | None) -> str:
    """``same by construction``, ``reproduced``, ``differs``, or ``no objects`` where there is nothing to measure.

    What should be the same by construction and is not, differs.
    """
    if found is None:
        return NONE
    if found.high < number.paper.low or found.low > number.paper.high:
        return DIFFERS
    return SAME if number.by_construction else REPRODUCED


def reason(key: str) -> str:
    """Why a number differs, as far as it is known."""
    return REASONS.get(key, NOT_EXPLAINED)


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
"""Above the threshold with a residual that is not positive."""
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


def _selection_numbers() -> list[PaperNumber]:
    return [
        PaperNumber(
            f"table-2/{band}/{group}",
            f"{'any band' if band == 'any' else band}: {_GROUP_NAMES[group]}",
            "3.2, table 2",
            f"tables/table-2.ecsv, n_selected_{group} / n_objects_{group}",
            tolerated_share(counts[at], n_objects),
        )
        for at, (group, n_objects) in enumerate(GROUPS.items())
        for band, counts in TABLE_2.items()
    ]


def _threshold_numbers() -> list[PaperNumber]:
    percent = 100.0 * ABOVE_THRESHOLD / GROUPS["sample"]
    half = CONSTRUCTION_TOLERANCE_PERCENT
    text = f"{ABOVE_THRESHOLD:,}/{GROUPS['sample']:,} = {percent:.3f}%"
    above = [
        PaperNumber(
            f"above-threshold/{band}",
            f"{band}: above the threshold",
            "3.2",
            "tables/table-2.ecsv and tables/high-but-negative.ecsv: selected + negative",
            Found(percent, percent - half, percent + half, text),
            by_construction=True,
        )
        for band in BANDS
    ]
    negative = [
        PaperNumber(
            f"negative/{band}",
            f"{band}: of these with a negative residual",
            "3.2, appendix 2",
            "tables/high-but-negative.ecsv, objects with the band in `bands`",
            tolerated_share(count, ABOVE_THRESHOLD),
        )
        for band, count in NEGATIVE.items()
    ]
    return above + negative


def _class_numbers() -> list[PaperNumber]:
    numbers = [
        PaperNumber(
            f"ew-above-100/{band}",
            f"{band}: XELGs with EW_{band} > 100 Å selected",
            "4.1, figure 9",
            "figures/ew-cumulative.ecsv, ew_band_above_100",
            tolerated_percent(percent),
        )
        for band, percent in EW_RATES.items()
    ]
    numbers += [
        PaperNumber(
            f"table-4/{kind}",
            f"{_TYPE_NAMES[kind]} of Milliquas",
            "4.2, table 4",
            "tables/table-4.ecsv, n_selected / n_objects",
            tolerated_share(*counts),
        )
        for kind, counts in TABLE_4.items()
    ]
    numbers += [
        PaperNumber(
            f"xelg-at-3-sigma/{band}",
            f"{band}: XELGs among MPA-JHU galaxies above 3 sigma",
            "4.4",
            "figures/score-ew.ecsv, xelg_among_selected",
            tolerated_percent(percent),
        )
        for band, percent in XELG_AT_3_SIGMA.items()
    ]
    return numbers


def _other_numbers() -> list[PaperNumber]:
    half = CORRELATION_TOLERANCE
    numbers = [
        PaperNumber(
            f"spearman/{band}",
            f"{band}: Spearman's rank of score and magnitude",
            "4.3, figure 12",
            "figures/score-magnitude.ecsv, spearman",
            Found(rho, rho - half, rho + half, f"{rho:.3f}"),
        )
        for band, rho in SPEARMAN.items()
    ]
    loss = Found(sum(LOSS) / 2, *LOSS, f"{LOSS[0]:g} to {LOSS[1]:g}")
    numbers.append(
        PaperNumber("loss", "training loss of the kept epochs", "appendix 1, figure 16",
                    "models/weight_sets.ecsv, smallest and largest loss", loss)
    )  # fmt: skip
    return numbers


NUMBERS = (*_selection_numbers(), *_threshold_numbers(), *_class_numbers(), *_other_numbers())

# Measured on the survey of 50,000 objects that docs/fidelity.md shows, with its truth.
_QUASAR = (
    "Every simulated quasar's nucleus gives 40 to 75% of its light in i. All nuclei above 10% are selected, 91% of "
    "those between 5 and 10%, 64% between 2 and 5%, 5% between 1 and 2%. The paper's missed quasars lack an excess in "
    "the nucleus, and some may have faded (4.1): none of ours is like that"
)
_QUASAR_BANDS = (
    "A nucleus above 20% of the light is always selected in g and r, so bands go together; the quasars' have 40% or "
    "more"
)
_TYPE1 = (
    "By the luminosities that are assumed, half of the nuclei give over 4% of the light. Selected are 64% of those "
    "between 2 and 5%, 91% between 5 and 10%, and all above; the paper does not say how much its own give"
)
_TYPE2 = (
    "Lines of at most 20 Å add at most 1.4% to a band, and the threshold is a deviation of 17 to 21%. AGN with lines "
    "are in MPA-JHU here, where normal galaxies are selected at 0.3 to 0.6%; most that are selected in our sample are "
    "fainter"
)
_OTHERS = (
    "Simulated others are normal galaxies, and are selected as often; the paper's are BL Lac objects or quasar "
    "candidates"
)
_ANY = (
    "More objects are selected in two bands than in the paper, and 45% of those above the threshold in g have a "
    "negative residual; see both there"
)
_G = "As many are above the threshold as in the paper, but 45% of them with a negative residual; see there"
_R = "As many are above the threshold as in the paper, but only 0.8% of them with a negative residual; see there"
_XELG = (
    "Weight sets are chosen by this rate; the 32 of this run select 24 to 98%, and the one with 98% was chosen. It is "
    "not one that reconstructs well: its validation loss is 0.0009, the smallest is 0.0003"
)
_XELG_BANDS = (
    "As for any band: the weights were chosen by the XELGs. Bands go together since the weaker of [OIII] and Hα has "
    "0.5 to 1 times the width of the stronger, a law of ours"
)
_XELG_R = "74% of those with EW_r from 50 to 100 Å are selected, 94% to 150 Å and 98 to 100% above; see any band"
_XELG_I = (
    "Selected are 24% of EW_i from 100 to 150 Å, 54% to 250 Å and 98% above: 100 Å add 7% to the band, and the "
    "threshold is a deviation of 21%"
)
_NEGATIVE_G = (
    "Of 1,100 objects 1,064 are normal galaxies, most of them red (young stars give 12% of the light in the median, "
    "49% in all) and faint (i = 19.0), beyond the training class. In nine of the weight sets it was 7 to 66%"
)
_NEGATIVE_R = (
    "The paper takes these for errors of the zero point. All 19 here are such; 0.3% of the objects have one, by "
    "assumption. 96% of all objects have a positive residual in r: their centres are reconstructed too faint"
)
_NEGATIVE_I = (
    "All 112 are simulated saturated cores, which are 0.3% of the objects by assumption; the paper gives no number"
)
_TOP_G = "Of 108 objects 88 are type-I AGN and 8 quasars, whose nuclei add more to g than lines do; XELGs are 12"
_TOP_R = "Of 85 objects 55 are simulated artefacts: wrong zero points and saturated cores, 0.3% of all objects each"
_TOP_I = "Of 49 objects 47 are XELGs and 2 quasars: no simulated artefact raises i, and a nucleus adds little there"
_SPEARMAN = (
    "Of normal galaxies 0.3 and 0.6% are selected in the two magnitudes above the end of the training class, 5.0 and "
    "18% in the two below: what is fainter is reconstructed worse. In eight weight sets with smaller validation "
    "losses the rank was -0.35 to 0.19 for those as bright as the class, in all three bands, and 0.16 to 0.84 for the "
    "fainter"
)
_SPEARMAN_R = (
    "Weight sets differ by more than this: among nine of this run it was 0.00 to 0.56 on 3,000 other objects; and see i"
)
_OVERLAP = (
    "Of these objects {} are XELGs, {} quasars or type-I AGN and {} artefacts. The two strongest lines of an XELG are "
    "about as wide here, and a nucleus' light is in all bands"
)

REASONS: Mapping[str, str] = MappingProxyType(
    {f"table-2/{band}/quasar": _QUASAR_BANDS for band in TABLE_2}
    | {"table-2/any/quasar": _QUASAR, "table-4/quasar": _QUASAR, "table-4/type1_agn": _TYPE1}
    | {"table-4/type2_agn": _TYPE2, "table-4/other": _OTHERS}
    | {"table-2/any/sample": _ANY, "table-2/g/sample": _G, "table-2/r/sample": _R}
    | {"table-2/g&r/sample": _OVERLAP.format("29%", "25%", "10%")}
    | {"table-2/r&i/sample": _OVERLAP.format("38%", "8%", "none")}
    | {"table-2/g&i/sample": _OVERLAP.format("57%", "14%", "5%")}
    | {"table-2/g&r&i/sample": "Of 234 objects 130 are XELGs; see g&r"}
    | {f"table-2/{band}/xelg": _XELG if "&" not in band else _XELG_BANDS for band in TABLE_2}
    | {"ew-above-100/r": _XELG_R, "ew-above-100/i": _XELG_I}
    | {"negative/g": _NEGATIVE_G, "negative/r": _NEGATIVE_R, "negative/i": _NEGATIVE_I}
    | {"xelg-at-3-sigma/g": _TOP_G, "xelg-at-3-sigma/r": _TOP_R, "xelg-at-3-sigma/i": _TOP_I}
    | {"spearman/g": _SPEARMAN, "spearman/r": _SPEARMAN_R, "spearman/i": _SPEARMAN}
)
"""Why a number differs, by its key. What is not here is not explained yet, and the page says so."""
