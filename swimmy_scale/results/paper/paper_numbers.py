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

# Measured by benchmarks/reasons.py on the survey of 50,000 objects that docs/fidelity.md shows, with its truth; on
# 5,000 of its objects where it says so.
_QUASAR = (
    "The nuclei of ours give 40 to 75% of the light in i, and dust leaves them any colour between a quasar's and their "
    "host's. Of 600 more of ours 98% are selected: all that keep 40% or more of their excess in g over the host, and "
    "still 92% of those that keep less than a fifth, so the network does not make the core itself. The paper's missed "
    "quasars have clear nuclei in i and no excess in g, and are reconstructed well (4.1); how bright the nuclei are, "
    "or how many had faded since their spectra, its text does not say"
)
_QUASAR_BANDS = (
    "See any band. Of the 600 more 87% are selected in g, 69% in r and 81% in i; of those that keep less than a "
    "twentieth of the excess it is 71, 20 and 63%: without a colour of the nucleus r is the least, as in the paper"
)
_TYPE1 = (
    "By the luminosities that are assumed, half of the nuclei give over 4% of the light, and no dust is before them. "
    "Selected are 66% of those between 1 and 2%, 92% between 2 and 5%, and all above; the paper does not say how much "
    "its own give"
)
_TYPE2 = (
    "Lines of at most 20 Å add at most 1.4% to a band, and the threshold is a deviation of 8 to 13%. All of ours are "
    "in MPA-JHU, where 4.9% of the normal galaxies are selected; 10.6% of the others are"
)
_OTHERS = (
    "Simulated others are normal galaxies, and are selected as often; the paper's are BL Lac objects or quasar "
    "candidates"
)
_ANY = (
    "In each band as many are selected as in the paper, but more of them in two bands; see g&r. The 32 weight sets "
    "select 6.7 to 12.1% of 5,000 objects"
)
_XELG = (
    "Weight sets are chosen by this rate: the 32 of this run select 23 to 92%, and the one with 92% was chosen. All of "
    "them select 20 to 22 of 22 quasars, so the XELGs choose; the paper's choice has both to weigh"
)
_XELG_BANDS = (
    "As for any band: the weights were chosen by the XELGs. At z > 0.1, where [OIII] is in r and Hα in i, 39 to 46% "
    "are selected in both, at lower redshifts 11%; [OIII] + Hβ is 0.2 to 1.9 times Hα + [NII] here, a range of ours"
)
_XELG_G = (
    "Selected are 50% of EW_g from 100 to 150 Å, 70% to 250 Å and 88% above: 100 Å add 7% to the band, and the "
    "threshold is a deviation of 13%"
)
_NEGATIVE_G = (
    "Of 80 objects 53 are simulated errors of the zero point of r, which change the mean of the bands and so all of "
    "them: 0.3% of the objects have one, by assumption. Among the weight sets it is 0 to 92% of 5,000 objects"
)
_NEGATIVE_R = (
    "The paper takes these for errors of the zero point. 76 of 78 are such here: 0.15% of the objects are too faint "
    "in r, by assumption. The paper's number needs 0.65%"
)
_NEGATIVE_I = (
    "All 149 are simulated saturated cores, which are 0.3% of the objects by assumption; the paper gives no number"
)
_TOP_G = "Of 126 objects 120 are type-I AGN and 3 quasars, whose blue nuclei add more to g than lines do"
_TOP_R = "Of 92 objects 71 are simulated artefacts (wrong zero points, saturated cores) and 19 AGN or quasars"
_TOP_I = "9 objects, as saturated cores fill the top 0.3%, and their residual is negative: all 9 are XELGs"
_SPEARMAN_G = (
    "Weight sets differ by more than this: over the 32 it is -0.65 to 0.50 on 5,000 objects. As bright as the "
    "training class, brighter objects have higher scores here (-0.27), and among the fainter ones there is no trend "
    "(0.02)"
)
_SPEARMAN_I = (
    "Weight sets differ by more than this: over the 32 it is 0.30 to 0.73 on 5,000 objects. From set to set it falls "
    "with the rate of the XELGs, which are bright (rank correlation -0.76), and the chosen set has the highest rate; "
    "the paper chooses from 480. What is fainter than the training class is reconstructed worse: of the objects at i > "
    "18.4 12% are selected in i. Half of these have 80% of their light from young stars or more, of all at that "
    "magnitude 30%"
)
_OVERLAP = (
    "By what they were simulated as, {} of these objects are normal galaxies, {} quasars or type-I AGN, {} XELGs and "
    "{} artefacts. Most of the normal ones are fainter and bluer than nearly all of the training class (i = 19 in the "
    "median; young stars give 80% or more of the light of {} of them, and of 6% of that class): their centres are "
    "reconstructed too faint in all bands at once"
)

REASONS: Mapping[str, str] = MappingProxyType(
    {f"table-2/{band}/quasar": _QUASAR_BANDS for band in TABLE_2}
    | {"table-2/any/quasar": _QUASAR, "table-4/quasar": _QUASAR, "table-4/type1_agn": _TYPE1}
    | {"table-4/type2_agn": _TYPE2, "table-4/other": _OTHERS}
    | {"table-2/any/sample": _ANY}
    | {"table-2/g&r/sample": _OVERLAP.format("47%", "25%", "9%", "15%", "85%")}
    | {"table-2/r&i/sample": _OVERLAP.format("72%", "9%", "17%", "no", "75%")}
    | {"table-2/g&i/sample": _OVERLAP.format("48%", "21%", "25%", "5%", "91%")}
    | {"table-2/g&r&i/sample": _OVERLAP.format("60%", "27%", "12%", "no", "92%")}
    | {f"table-2/{band}/xelg": _XELG if "&" not in band else _XELG_BANDS for band in TABLE_2}
    | {"ew-above-100/g": _XELG_G}
    | {"negative/g": _NEGATIVE_G, "negative/r": _NEGATIVE_R, "negative/i": _NEGATIVE_I}
    | {"xelg-at-3-sigma/g": _TOP_G, "xelg-at-3-sigma/r": _TOP_R, "xelg-at-3-sigma/i": _TOP_I}
    | {"spearman/g": _SPEARMAN_G, "spearman/i": _SPEARMAN_I}
)
"""Why a number differs, by its key. What is not here is not explained yet, and the page says so."""
