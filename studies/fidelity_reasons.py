"""Why the numbers of docs/fidelity.md differ from the paper's: sentences whose numbers are measured, never typed.

A reason names the numbers that it explains, and what must hold for it to be said at all. One whose measurement is not
there, or whose premise does not hold, is not said: the number then is not explained yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swimmy_scale.results.paper import paper_numbers as paper
from swimmy_scale.results.paper.paper_numbers import NUMBERS

NOT_EXPLAINED = "not explained yet"

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Reason:
    """Why some numbers differ.

    Attributes
    ----------
    keys : tuple of str
        Of `paper_numbers.NUMBERS`.
    text : str
        With fields in braces, see `fields`.
    holds : callable
        Whether the measurements bear it out.
    """

    keys: tuple[str, ...]
    text: str
    holds: Callable[[Fields], bool]


def _table_2(group: str, *bands: str) -> tuple[str, ...]:
    return tuple(f"table-2/{band}/{group}" for band in bands)


def _overlap(bands: str) -> Reason:
    of = f"why[overlaps][{bands}]"
    text = (
        f"By what they were simulated as, {{{of}[normal]:.0f}}% of these objects are normal galaxies, "
        f"{{{of}[active]:.0f}}% quasars or type-I AGN, {{{of}[xelg]:.0f}}% XELGs and {{{of}[artefacts]:.0f}}% "
        "artefacts. Most of the normal ones are fainter and bluer than nearly all of the training class "
        f"({{run[magnitudes][band]}} = {{{of}[normal_median_mag]:.3g}} in the median; young stars give "
        f"{{why[galaxies][young_percent]}}% or more of the light of {{{of}[normal_young]:.0f}}% of them, and of "
        "{why[galaxies][young_training]:.0f}% of that class): their centres are reconstructed too faint in all bands "
        "at once"
    )

    def holds(at: Fields) -> bool:
        found = at["why"]["overlaps"][bands]
        fainter = found["normal_median_mag"] > at["run"]["magnitudes"]["training_end"]
        return bool(fainter and found["normal_young"] > 50 > at["why"]["galaxies"]["young_training"])

    return Reason(_table_2("sample", bands), text, holds)


REASONS = (
    *(_overlap(bands) for bands in ("g&r", "r&i", "g&i", "g&r&i")),
    Reason(
        _table_2("sample", "any"),
        "In each band as many are selected as in the paper, but more of them in two bands; see g&r. The "
        "{why[weight_sets][n_weight_sets]} weight sets select {why[weight_sets][any][0]:.1f} to "
        "{why[weight_sets][any][1]:.1f}% of {why[weight_sets][n_objects]:,} objects",
        lambda at: all(at["verdict"][key] == paper.REPRODUCED for key in _table_2("sample", *paper.BANDS)),
    ),
    Reason(
        _table_2("quasar", *(band for band in paper.TABLE_2 if band != "any")),
        "See any band. Of the {why[more_quasars][n]} more {why[more_quasars][g]:.0f}% are selected in g, "
        "{why[more_quasars][r]:.0f}% in r and {why[more_quasars][i]:.0f}% in i; of those that keep less than a "
        "twentieth of the excess it is {no_excess[g]:.0f}, {no_excess[r]:.0f} and {no_excess[i]:.0f}%: without a "
        "colour of the nucleus r is the least, as in the paper",
        lambda at: at["no_excess"]["r"] < min(at["no_excess"]["g"], at["no_excess"]["i"]),
    ),
    Reason(
        (*_table_2("quasar", "any"), "table-4/quasar"),
        "The nuclei of ours give {why[nuclei][quasar_light][0]:.0f} to {why[nuclei][quasar_light][1]:.0f}% of the "
        "light in i, and dust leaves them any colour between a quasar's and their host's. Of {why[more_quasars][n]} "
        "more of ours {why[more_quasars][any]:.0f}% are selected: {much_excess[any]:.0f}% of those that keep 40% or "
        "more of their excess in g over the host, and still {why[more_quasars][little_excess_left][any]:.0f}% of those "
        "that keep less than a fifth, so the network does not make the core itself. The paper's missed quasars have "
        "clear nuclei in i and no excess in g, and are reconstructed well (4.1); how bright the nuclei are, or how "
        "many had faded since their spectra, its text does not say",
        lambda at: at["why"]["more_quasars"]["little_excess_left"]["any"] > 50,
    ),
    Reason(
        _table_2("xelg", "g", "r", "i", "any"),
        "Weight sets are chosen by this rate: the {run[weight_sets][n_weight_sets]} of this run select "
        "{sets[xelg][low]:.0f} to {sets[xelg][high]:.0f}%, and the one with {sets[xelg][chosen][0]:.0f}% was chosen. "
        "All of them select {quasars_low} to {quasars_high} of {quasars} quasars, so the XELGs choose; the paper's "
        "choice has both to weigh",
        lambda at: (
            at["sets"]["xelg"]["chosen"] == [at["sets"]["xelg"]["high"]]
            and _range(at["sets"]["quasar"]) < _range(at["sets"]["xelg"])
        ),
    ),
    Reason(
        _table_2("xelg", "g&r", "r&i", "g&i", "g&r&i"),
        "As for any band: the weights were chosen by the XELGs. At z > 0.1, where [OIII] is in r and Hα in i, "
        "{lines_in_both[0]:.0f} to {lines_in_both[1]:.0f}% are selected in both, at lower redshifts "
        "{why[lines][by_redshift][0.05 to 0.1][r&i]:.0f}%; [OIII] + Hβ is {preset[ratio][0]:.1f} to "
        "{preset[ratio][1]:.1f} times Hα + [NII] here, a range of ours",
        lambda at: at["lines_in_both"][0] > at["why"]["lines"]["by_redshift"]["0.05 to 0.1"]["r&i"],
    ),
    Reason(
        ("ew-above-100/g",),
        "Selected are {why[lines][by_width][g][100 to 150][g]:.0f}% of EW_g from 100 to 150 Å, "
        "{why[lines][by_width][g][150 to 250][g]:.0f}% to 250 Å and {why[lines][by_width][g][250 to 1000][g]:.0f}% "
        "above: 100 Å add {why[lines][added_by_100_angstrom][g]:.0f}% to the band, and the threshold is a deviation of "
        "{deviation[g]:.1f}%",
        lambda at: at["why"]["lines"]["added_by_100_angstrom"]["g"] < at["deviation"]["g"],
    ),
    Reason(
        ("negative/g",),
        "Of {why[negative][g][n]} objects {why[negative][g][kinds][artefact_zero_point]} are simulated errors of the "
        "zero point of r, which change the mean of the bands and so all of them: {preset[zero_point]:g}% of the "
        "objects have one, by assumption. Among the weight sets it is {why[weight_sets][negative][g][0]:.0f} to "
        "{why[weight_sets][negative][g][1]:.0f}% of {why[weight_sets][n_objects]:,} objects",
        lambda at: _most(at, "negative", "g", "artefact_zero_point"),
    ),
    Reason(
        ("negative/r",),
        "The paper takes these for errors of the zero point. {why[negative][r][too_faint_in_r]} of "
        "{why[negative][r][n]} are such here: {preset[too_faint_in_r]:g}% of the objects are too faint in r, by "
        "assumption. The paper's number needs {preset[too_faint_needed]:.2f}%",
        lambda at: 2 * at["why"]["negative"]["r"]["too_faint_in_r"] > at["why"]["negative"]["r"]["n"],
    ),
    Reason(
        ("negative/i",),
        "{why[negative][i][kinds][artefact_saturated]} of {why[negative][i][n]} are simulated saturated cores, which "
        "are {preset[saturated]:g}% of the objects by assumption; the paper gives no number",
        lambda at: _most(at, "negative", "i", "artefact_saturated"),
    ),
    Reason(
        ("table-4/type1_agn",),
        "By the luminosities that are assumed, half of the nuclei give over {why[nuclei][type1_median]:.0f}% of the "
        "light, and no dust is before them. Selected are {why[nuclei][type1_by_light][1 to 2][any]:.0f}% of those "
        "between 1 and 2%, {why[nuclei][type1_by_light][2 to 5][any]:.0f}% between 2 and 5%, "
        "{why[nuclei][type1_by_light][5 to 10][any]:.0f}% between 5 and 10% and "
        "{why[nuclei][type1_by_light][10 to 100][any]:.0f}% above; the paper does not say how much its own give",
        lambda at: (
            at["why"]["nuclei"]["type1_by_light"]["1 to 2"]["any"]
            < at["why"]["nuclei"]["type1_by_light"]["2 to 5"]["any"]
        ),
    ),
    Reason(
        ("table-4/type2_agn",),
        "Lines of at most {preset[type2_width]:.0f} Å add at most {type2_adds:.1f}% to a band of a flat spectrum, and "
        "the threshold is a deviation of {least_deviation:.1f} to {most_deviation:.1f}%. All of ours are in MPA-JHU, "
        "where {why[galaxies][normal_in_mpa_jhu][any]:.1f}% of the normal galaxies are selected; "
        "{why[galaxies][normal_others][any]:.1f}% of the others are",
        lambda at: at["type2_adds"] < at["least_deviation"],
    ),
    Reason(
        ("table-4/other",),
        "Simulated others are normal galaxies, and are selected as often; the paper's are BL Lac objects or quasar "
        "candidates",
        lambda at: (
            at["run"]["numbers"]["table-4/other"]["low"]
            <= at["run"]["numbers"]["table-2/any/sample"]["value"]
            <= at["run"]["numbers"]["table-4/other"]["high"]
        ),
    ),
    Reason(
        ("xelg-at-3-sigma/g",),
        "Of {top[g][n]} objects {top[g][kinds][type1_agn]} are type-I AGN and {top[g][kinds][quasar]} quasars, whose "
        "blue nuclei add more to g than lines do",
        lambda at: _most(at, "most_anomalous", "g", "type1_agn"),
    ),
    Reason(
        ("xelg-at-3-sigma/r",),
        "Of {top[r][n]} objects {top[r][groups][artefacts]} are simulated artefacts (wrong zero points, saturated "
        "cores) and {top[r][groups][active]} AGN or quasars",
        lambda at: 2 * at["top"]["r"]["groups"]["artefacts"] > at["top"]["r"]["n"],
    ),
    Reason(
        ("xelg-at-3-sigma/i",),
        "{top[i][n]} objects, as saturated cores fill the top {top_percent:g}%, and their residual is negative: "
        "{top[i][kinds][xelg]} of them are XELGs",
        lambda at: _most(at, "negative", "i", "artefact_saturated"),
    ),
    Reason(
        ("spearman/g",),
        "Weight sets differ by more than this: over the {why[weight_sets][n_weight_sets]} it is "
        "{why[weight_sets][spearman][g][0]:.2f} to {why[weight_sets][spearman][g][1]:.2f} on "
        "{why[weight_sets][n_objects]:,} objects. As bright as the training class, brighter objects have higher scores "
        "here ({as_bright[g]:.2f}), and among the fainter ones there is no trend ({fainter[g]:.2f})",
        lambda at: at["as_bright"]["g"] < -0.1 and abs(at["fainter"]["g"]) < 0.1,
    ),
    Reason(
        ("spearman/i",),
        "Weight sets differ by more than this: over the {why[weight_sets][n_weight_sets]} it is "
        "{why[weight_sets][spearman][i][0]:.2f} to {why[weight_sets][spearman][i][1]:.2f} on "
        "{why[weight_sets][n_objects]:,} objects. From set to set it falls with the rate of the XELGs, which are "
        "bright (rank correlation {why[weight_sets][spearman_against_xelg_rate][i]:.2f}), and the chosen set has the "
        "highest rate; the paper chooses from 480. What is fainter than the training class is reconstructed worse: of "
        "the objects at i > {why[galaxies][faint_mag]:g} {why[galaxies][faint][i]:.0f}% are selected in i. "
        "{why[galaxies][young_faint_selected_in_i]:.0f}% of these have {why[galaxies][young_percent]}% of their light "
        "from young stars or more, of all at that magnitude {why[galaxies][young_faint]:.0f}%",
        lambda at: (
            at["why"]["weight_sets"]["spearman_against_xelg_rate"]["i"] < 0
            and at["sets"]["xelg"]["chosen"] == [at["sets"]["xelg"]["high"]]
            and at["why"]["galaxies"]["young_faint_selected_in_i"] > at["why"]["galaxies"]["young_faint"]
        ),
    ),
)


def _range(rates: Mapping[str, float]) -> float:
    return rates["high"] - rates["low"]


def _most(at: Fields, where: str, band: str, kind: str) -> bool:
    """Whether more than half of those in a band were simulated as one kind."""
    found = at["why"][where][band]
    return bool(2 * found["kinds"][kind] > found["n"])


def fields(run: Mapping[str, Any], why: Mapping[str, Any], preset: Mapping[str, Any]) -> Fields:
    """What reasons are made of.

    Parameters
    ----------
    run : mapping
        The numbers of the run, as `swimmy-scale fidelity --json` writes them.
    why : mapping
        The measurements of `reasons.py`.
    preset : mapping
        What the simulated survey assumes.

    Returns
    -------
    mapping
        The three, and what follows from them. What was not measured is not there.
    """
    at: dict[str, Any] = {"run": run, "why": why, "preset": preset, "sets": run["weight_sets"]["selected_percent"]}
    found = {
        number.key: paper.NONE if (ours := run["numbers"][number.key]) is None else ours["verdict"]
        for number in NUMBERS
    }
    quasars = next(row["n_objects"] for row in run["sample"] if row["what"] == "DR16Q quasars")
    deviation = {band: row["threshold_deviation_percent"] for band, row in run["reconstruction"]["bands"].items()}
    both = [why["lines"]["by_redshift"][name]["r&i"] for name in ("0.1 to 0.15", "0.15 to 0.2")]
    added = [why["lines"]["added_by_100_angstrom"][band] for band in paper.BANDS]
    left = (why["more_quasars"] or {}).get("by_excess_left", {})
    return at | {
        "verdict": found,
        "quasars": quasars,
        "quasars_low": round(at["sets"]["quasar"]["low"] * quasars / 100),
        "quasars_high": round(at["sets"]["quasar"]["high"] * quasars / 100),
        "deviation": deviation,
        "least_deviation": min(deviation.values()),
        "most_deviation": max(deviation.values()),
        "lines_in_both": sorted(share for share in both if share is not None),
        "type2_adds": max(added) * preset["type2_width"] / 100,
        "no_excess": left.get("-0.01 to 0.05"),
        "much_excess": left.get("0.4 to 1"),
        "top": why["most_anomalous"],
        "top_percent": 100 * run["levels"]["3sigma"],
        "as_bright": run["magnitudes"]["spearman"]["as bright as the training class"],
        "fainter": run["magnitudes"]["spearman"]["fainter"],
    }


def reason(key: str, at: Fields) -> str:
    """Why a number differs, or that it is not explained yet."""
    for item in REASONS:
        if key in item.keys:
            try:
                if item.holds(at):
                    return item.text.format(**at)
            except (IndexError, KeyError, TypeError):  # not measured
                pass
    return NOT_EXPLAINED
