"""The page of a run's numbers beside the paper's: what `fidelity.measure` found, as Markdown.

It says what was measured, and what each column means. It does not say why a number differs: the run cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swimmy_scale.results.paper import paper_numbers as paper
from swimmy_scale.results.paper.fidelity import Numbers, claims
from swimmy_scale.results.paper.paper_numbers import NUMBERS, Found, PaperNumber, verdict
from swimmy_scale.results.words import counted

Facts = Mapping[str, Any]
"""What `fidelity.measure` returns, or its JSON."""

SIMULATED = "**SIMULATED DATA.** Every number of ours is of a simulated survey; nothing in it was observed."
OBSERVED = "Every number of ours is of observed data."
TOLERANCE = (
    "A number of the paper has a *tolerance*: the 68% interval of its counts, but at least 10% of the number to each",
    "side, as networks that are trained again differ by more than counting does (appendix 1); for rank correlations it",
    "is 0.05. Ours has the 68% interval of its counts (Wilson). Where the two overlap it is *reproduced*.",
)
RECONSTRUCTION = (
    "A score adds up squared relative deviations over the {n} pixels of the centre (equation 6), so sqrt(score / {n})"
    " is",
    "the deviation of a pixel there. What the paper prints of its selected objects lies above its own thresholds. If",
    "its score is the mean that its section 3.2 calls it, not the sum that it writes, {n} times as much compares with",
    "ours.",
)
TRAINING_END = "The training class ends at {band} = {end:.1f}, the 99th percentile of its magnitudes."
TABLE_3_SCORES = {"g": "0.032, 0.051, 0.058", "r": "none", "i": "0.0071, 0.0079"}
"""The selected objects that the paper's table 3 prints: their scores in the band that selects them."""

VERDICT_WORDS = {
    paper.REPRODUCED: "reproduced",
    paper.DIFFERS: "different",
    paper.SAME: "the same by construction",
    paper.NONE: "of no object here",
}
GROUP_TITLES = (
    ("table-2/", "Table 2: selected in each band, of all, of the quasars and of the emission-line galaxies"),
    ("above-threshold/", "Above the threshold"),
    ("negative/", "Above the threshold, but fainter than expected"),
    ("ew-above-100/", "Emission-line galaxies with strong lines in a band"),
    ("table-4/", "Table 4: Milliquas without DR16Q"),
    ("xelg-at-3-sigma/", "The most anomalous: who they are"),
    ("spearman/", "Score and magnitude"),
    ("loss", "Training"),
)


def page(facts: Facts) -> str:
    """The page of a run; the same facts give the same page."""
    found = numbers_of(facts)
    lines = [
        "# The paper's numbers, and ours",
        "",
        f"Made by `swimmy-scale fidelity` {facts['version']} from a run of the job `{facts['job']}`.",
        "",
        SIMULATED if facts["simulated"] else OBSERVED,
        "",
        sizes(facts),
        "",
        counted_verdicts(found),
        "",
        "## What the paper finds",
        "",
        *findings(found),
        "",
        weight_sets(facts),
        "",
        "## Side by side",
        "",
        *TOLERANCE,
        *side_by_side(found),
        "",
        "## Deviations from the reconstruction",
        "",
        *reconstruction(facts),
        "",
    ]
    if (measured := facts["magnitudes"]) is not None:
        end = TRAINING_END.format(band=measured["band"], end=measured["training_end"])
        lines += ["## Selection by magnitude", "", end, "", *by_magnitude(facts), ""]
    lines += ["## The sample", "", *sample(facts)]
    return "\n".join(lines) + "\n"


def numbers_of(facts: Facts) -> Numbers:
    """The run's numbers by key."""
    return {
        key: None if number is None else Found(*(number[name] for name in ("value", "low", "high", "text")))
        for key, number in facts["numbers"].items()
    }


def table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def sizes(facts: Facts) -> str:
    """Numbers of objects, training and weights, in a few sentences."""
    train = facts["training"]
    trained = "The weights were given."
    if train is not None:
        trained = f"{counted(train['n_runs'], 'training')} of {train['epochs']} epochs"
        if train["max_objects"]:
            trained += f" on {train['max_objects']:,} galaxies, one in five of which validate"
        trained += f", seed {train['seed']}."
    return (
        f"{facts['n_objects']:,} objects in the catalogue, {facts['n_in_sample']:,} in the sample. {trained} "
        f"The digest of the weights that score begins with `{facts['model_sha256'][:16]}`."
    )


def counted_verdicts(found: Numbers) -> str:
    """How many of the paper's numbers have each verdict."""
    verdicts = [verdict(number, found[number.key]) for number in NUMBERS]
    counts = ", ".join(
        f"{n} {'is' if n == 1 else 'are'} {words}"
        for name, words in VERDICT_WORDS.items()
        if (n := verdicts.count(name))
    )
    return f"Of the paper's {len(NUMBERS)} numbers {counts}."


def findings(found: Numbers) -> list[str]:
    """The paper's findings, and whether they came out."""
    rows = [(*texts, "yes" if came_out else "no") for *texts, came_out in claims(found)]
    return table(("finding", "the paper", "ours", "came out"), rows)


def weight_sets(facts: Facts) -> str:
    """How much the weight sets differ, in a sentence."""
    sets = facts["weight_sets"]
    if sets is None:
        return "The weights come from elsewhere: no weight sets were judged."
    parts = [
        f"{rates['low']:.1f} to {rates['high']:.1f}% of the {words}"
        for name, words in (("quasar", "quasars"), ("xelg", "XELGs"))
        if (rates := sets["selected_percent"].get(name))
    ]
    judged = f" They select {' and '.join(parts)}." if parts else ""
    rule = sets["choose"].replace("_", " ")
    return f"One of {sets['n_weight_sets']} weight sets scores, chosen by {rule}.{judged}"


def side_by_side(found: Numbers) -> list[str]:
    """Each number of the paper with its tolerance, the run's with its interval, and the verdict."""
    lines = []
    for start, title in GROUP_TITLES:
        members = [number for number in NUMBERS if number.key.startswith(start)]
        ours_from = members[0].how.split(",")[0]
        lines += ["", f"### {title}", "", f"Section {members[0].section}. Ours: {ours_from}.", ""]
        rows = [_row(number, found[number.key]) for number in members]
        lines += table(("what", "the paper", "tolerance", "ours", "68% interval", "verdict"), rows)
    return lines


def _row(number: PaperNumber, found: Found | None) -> list[str]:
    tolerance = _interval(number.key, number.paper)
    ours, interval = ("-", "-") if found is None else (found.text, _interval(number.key, found))
    return [number.what, number.paper.text, tolerance, ours, interval, verdict(number, found)]


def _interval(key: str, found: Found) -> str:
    digits = {"spearman": 3, "loss": 5}.get(key.split("/")[0], 3 if found.value < 10 else 1)
    return f"{found.low:.{digits}f} to {found.high:.{digits}f}"


def reconstruction(facts: Facts) -> list[str]:
    """Scores of the sample and thresholds, as deviations of a pixel."""
    measured = facts["reconstruction"]
    head = ("band", "median score", "as deviation", "threshold", "as deviation", "selected in the paper's table 3")
    rows = [
        (
            band,
            f"{row['median']:.2g}",
            f"{row['median_deviation_percent']:.1f}%",
            f"{row['threshold']:.2g}",
            f"{row['threshold_deviation_percent']:.1f}%",
            TABLE_3_SCORES.get(band, "none"),
        )
        for band, row in measured["bands"].items()
    ]
    return [*(line.format(n=measured["n_pixels"]) for line in RECONSTRUCTION), "", *table(head, rows)]


def by_magnitude(facts: Facts) -> list[str]:
    """Selection by magnitude, and the ranks of score and magnitude on each side of the training class' end."""
    measured = facts["magnitudes"]
    bands = list(facts["reconstruction"]["bands"])
    rows = []
    for step in measured["steps"]:
        shares = [f"{step['selected_percent'][name]:.1f}%" for name in (*bands, "any")]
        rows.append((_magnitudes(measured["band"], step), f"{step['n_objects']:,}", *shares))
    ranks = [
        (words, *("-" if rho is None else f"{rho:.3f}" for rho in by_band.values()))
        for words, by_band in measured["spearman"].items()
    ]
    return [
        *table(("magnitude", "objects", *bands, "any band"), rows),
        "",
        "Spearman's rank of score and magnitude in these parts of the sample:",
        "",
        *table(("objects", *bands), ranks),
    ]


def _magnitudes(band: str, step: Mapping[str, Any]) -> str:
    if step["up_to"] is None:
        return f"{band} > {step['above']:.1f}"
    if step["above"] is None:
        return f"{band} up to {step['up_to']:.1f}"
    return f"{band} = {step['above']:.1f} to {step['up_to']:.1f}"


def sample(facts: Facts) -> list[str]:
    """Table 1, the paper's and ours."""
    rows = []
    for row in facts["sample"]:
        expected = row["paper"] * facts["n_in_sample"] / paper.GROUPS["sample"]
        ours = f"{row['n_objects']:,} (at the paper's share {expected:,.0f})"
        rows.append((row["what"], f"{row['paper']:,}", ours))
    return table(("table 1 and 4", "the paper", "ours"), rows)
