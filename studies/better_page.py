"""``docs/better.md`` from ``studies/results/better.json`` alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "studies" / "results" / "better.json"

CLASSES = {"quasar": "quasars", "xelg": "XELGs", "type1_agn": "type-I AGN"}
CONTROL = {"type2_agn": "type-II AGN", "training": "ordinary, bright", "sample": "sample"}
# Ways that the page shows, as (score, choose, combine); of one training, the best weight set is one of its epochs.
SHOWN = (
    ("paper", "known classes", "best"),
    ("paper", "validation loss", "best"),
    ("paper", "validation loss", "mean"),
    ("paper", "validation loss", "rank"),
    ("paper", "validation loss", "best sets"),
    ("noise", "known classes", "best"),
    ("noise", "validation loss", "best"),
    ("noise", "validation loss", "mean"),
    ("noise", "validation loss", "rank"),
    ("noise", "validation loss", "best sets"),
)
ENOUGH = 2.0
"""Differences of more than this many errors count."""

HEAD = """\
# Better than the paper's way?

Made by `make better` (`studies/better.py`) from `studies/results/better.json`; do not edit it by hand.

**SIMULATED DATA.** Nothing here was observed. The numbers compare ways to train, to score and to choose on objects that
`swimmy-scale simulate` draws, by networks that are trained on few of them. They say which way is worth a try on real
data, not how much of the sky's quasars it finds.

The paper's way stays the default. All others are options of a job. In short:

- With known objects to choose weights by, nothing here is better than the paper's way by more than two errors at 5% a
  band, and blind training with the same choice is not worse by as much.
- Without them, the lowest validation loss of clean trainings is a poor choice. Several trainings together find
  more of the quasars and, if they are blind, most of the XELGs that labels would have found, and vary less by chance.
- Blind training loses nothing at 5% that could be measured, and one blind training finds more XELGs than a clean
  one, however its epoch is chosen.
- The noise score gains a little for the same weights.
"""

WAYS = """\
## The ways

- **Training**: *clean*, as in the paper, on the class `training`: no known quasar, emission-line galaxy or active
  nucleus. *Blind*: on the whole sample, whatever is in it (`train: {classes: []}`), which the paper names as future
  work ("completely blind").
- **Score**: *paper*, equation 6. *Noise*, the residual in units of its expected noise (`score: {kind: noise}`, below).
- **Choice**: by the *known classes*, as in the paper: the weight set that selects most of the quasars and XELGs of the
  choosing half. By the *validation loss*, without labels.
- **Combination**: the *best* weight set of all trainings; the *mean* score or the mean *rank* of one weight set of each
  training, the one of its lowest loss (`score: {n_models: 5, one_a_run: true}`); or the mean of as many of *the lowest
  losses* of all trainings, several of one training among them, which is what `score.n_models` takes without
  `one_a_run`.
"""

HOW = """\
## How it was measured

- A survey of {n_common:,} objects with the paper's shares of classes (`simulate --like paper`) trains, and its sample
  of {n_sample:,} sets the thresholds: the top 5% in each band, and a positive residual, as `select` cuts.
- A second survey of {n_rare:,} objects is of rare classes alone, drawn by the same laws, since the sample of the first
  one has {n_quasars} quasars. Half of it lets known classes choose; all rates are of the other half: {tested}.
- {n_seeds} trainings of each way to train, with seeds of their own: {n_training:,} galaxies, drawn anew for each, of
  which one in five validates, {epochs} epochs, batches of {batch_size}, the paper's network. The last {n_kept}
  epochs are kept.
- A number is a mean over trainings ± their standard deviation, in percent that is selected in any of g, r and i. With
  several trainings it is over groups that overlap, so the spread is smaller than that of independent groups. The errors
  of differences allow for this overlap, but only for means of trainings: the best of a group is the same training in
  many groups, and there the spread and the errors are too small. Differences are between the same trainings.
- {machine}; {versions}.
"""

COST = """\
## What it costs

- The noise score: {extra:.2f} ms an object and core for the expected noise, beside {score:.2f} ms for preprocessing and
  one model by the numba scorer ({more:.0f}% more). It does not grow with the number of models.
- Several models: as many trainings, and a scoring that [performance](performance.md) compares with that of one.
- Blind training: nothing.

The expected noise of the aperture's sum is small against the sum: the median of the sample (and its 95th percentile) is
{relative}. So with a floor of 2% the noise score is, for most galaxies, the relative excess of light in the aperture;
it differs from equation 6 mostly in that it sums before it squares.
"""

SWITCH = """\
## How to switch it on

In a job, or in the settings of a single stage; each is independent of the others:

```yaml
train:
  classes: []            # blind: the whole sample trains
  n_runs: 5
score:
  kind: noise            # default: paper
  n_models: 5            # several weight sets, in one pass over the pixels
  one_a_run: true        # the best one of each training
select:
  combine: rank          # default: mean
```

`score.floor` is the floor of the noise score, 0.02 by default. A run with `kind: noise` says so in the attributes of
`scores.zarr`, in `summary.json`, `provenance.json` and in the header of the candidate files. Thresholds of one kind, or
of one floor, are refused for scores of another.

## The noise score

In each band, with the sums over the central aperture,

    score = |sum(source - reconstruction)| / sqrt(V + (floor * sum(reconstruction))^2)

V is the variance that the noise of the pixels gives to the sum of the source. The noise of a pixel is 1.4826 times the
median absolute deviation of the cutout's outer frame (4 of 64 pixels wide). It is carried through the PSF match, where
the variance of a linear kernel is the sum of its squared weights, and through the stretch by its derivative, the other
bands included (`method/noise.py` has the formula). A test compares it with the scatter of simulated cutouts: they
agree within 5%.

The floor is needed because a source and its reconstruction differ by more than noise: the network's own error grows
with the source, and without a floor the brightest galaxies would be the most anomalous. The residual must be positive
to select, as before.
"""

LIMITS = """\
## Limits

- Simulated galaxies, few for training, and few trainings. Nothing here was tried on observed cutouts.
- The training is short: 12 epochs on 800 galaxies. The networks miss the sum over the aperture of an ordinary galaxy by
  12 to 22%, most of them alike, which is far more than the noise. With longer training all ways may come closer.
- Most simulated quasars are easy, although dust leaves their nuclei any colour from a quasar's own to that of the
  host. The {n_quasars} in the sample of the first survey have no dust before them, nor have the type-I AGN, of which
  all ways find about half, those with the brighter nuclei.
- In the simulated survey XELGs and AGN belong to the bright main sample. The column "ordinary, bright" is of ordinary
  galaxies that do, too: were rare classes found for their brightness, it would rise with them.
- Blind and clean training differ in more than labels: the whole sample is fainter than the training class.
- The rates of all ways are of the same objects, so their counting errors (about 3 percentage points at 50%) are shared:
  differences are known better than rates.
- The noise of a cutout's own outer pixels has no photon noise of the galaxy in it, and for galaxies that fill the
  cutout it is too large. Pixels of real coadds are correlated by resampling; the noise score takes them as independent,
  so V is then too small by a factor that is about the same for all objects.
- Known classes choose here by hundreds of objects. The paper has 23 quasars; its choice is noisier.
- One floor was chosen before any result was known. The table of floors shows what others do; to choose the best of it
  would be to choose by the test.
"""


def load() -> dict[str, Any]:
    """The result."""
    content: dict[str, Any] = json.loads(RESULT.read_text())
    return content


def find(content: Mapping[str, Any], training: str, score: str, n_runs: int, choose: str, combine: str) -> Any:
    """One way of the result, or None."""
    wanted = {"training": training, "score": score, "n_runs": n_runs, "choose": choose, "combine": combine}
    return next((way for way in content["ways"] if all(way[key] == value for key, value in wanted.items())), None)


def values_of(way: Mapping[str, Any], level: str, group: str, band: str = "any") -> npt.NDArray[np.float64]:
    """Percent of a group, one number a group of trainings."""
    return 100.0 * np.asarray(way["rates"][level][group][band])


def spread(values: npt.NDArray[np.float64]) -> str:
    """Mean and standard deviation over the groups of trainings."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def difference(
    values: npt.NDArray[np.float64], others: npt.NDArray[np.float64], n_runs: int, n_seeds: int
) -> tuple[float, float]:
    """Mean of the differences between two ways with the same trainings, and its error; NaN where there is one group.

    Groups of several trainings overlap: n of N each. The variance among groups of a mean over their trainings is
    that of independent ones times (1 - n / N) N / (N - 1); there are N / n independent ones.
    """
    moved = values - others
    if len(moved) == 1:
        return float(moved[0]), math.nan
    shrunk = 1.0 if n_runs == 1 else (1.0 - n_runs / n_seeds) * n_seeds / (n_seeds - 1.0)
    return float(moved.mean()), float(moved.std(ddof=1) / math.sqrt(shrunk * n_seeds / n_runs))


def name_of(way: Mapping[str, Any]) -> str:
    """A way in words."""
    if way["n_runs"] == 1:
        how = f"1 training, its epoch by {way['choose']}"
    elif way["combine"] == "best":
        how = f"best of {way['n_runs']} trainings by {way['choose']}"
    elif way["combine"] == "best sets":
        how = f"mean of the {way['n_runs']} lowest losses of {way['n_runs']} trainings"
    else:
        how = f"{way['combine']} of {way['n_runs']} trainings"
    return f"{way['training']}, {way['score']}, {how}"


def shown(content: Mapping[str, Any], n_runs: Sequence[int]) -> list[Any]:
    """The ways that the page shows, in its order."""
    found = [
        find(content, training, score, n, choose, combine)
        for n in n_runs
        for training in ("clean", "blind")
        for score, choose, combine in SHOWN
    ]
    return [way for way in found if way is not None]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def rates_table(content: Mapping[str, Any], level: str, n_runs: Sequence[int]) -> list[str]:
    """Rates in any band, one way a row."""
    groups = {**CLASSES, **CONTROL}
    rows = [
        [name_of(way), *(spread(values_of(way, level, group)) for group in groups)] for way in shown(content, n_runs)
    ]
    return table(["training, score, weights", *groups.values()], rows)


Pair = tuple[float, float]


def against(content: Mapping[str, Any], level: str, way: Any, base: Any) -> dict[str, Pair]:
    """A way less another one with as many trainings: by group, percentage points and their error.

    Runs of one training are the same ones in both. Those of different trainings are independent, and the seed that
    they share changes nothing.
    """
    n_seeds, groups = content["sizes"]["n_seeds"], [*CLASSES, "training", "sample"]
    return {
        group: difference(values_of(way, level, group), values_of(base, level, group), way["n_runs"], n_seeds)
        for group in groups
    }


def cell(pair: Pair) -> str:
    """A difference as text; in bold where it is `ENOUGH` errors away from 0."""
    value, error = pair
    if math.isnan(error):
        return f"{value:+.1f}"
    text = f"{value:+.1f} ± {error:.1f}"
    return f"**{text}**" if matters(pair) else text


def matters(pair: Pair) -> bool:
    """Whether a difference is `ENOUGH` errors away from 0, and more than one object."""
    return abs(pair[0]) > max(ENOUGH * pair[1], 0.5)


def against_table(content: Mapping[str, Any], level: str, n_runs: int, choose: str) -> list[str]:
    """Ways against the best weight set, clean and by equation 6, that the same knowledge chooses."""
    base = find(content, "clean", "paper", n_runs, choose, "best")
    ways = [way for way in shown(content, [n_runs]) if way is not base]
    if choose == "validation loss":
        ways = [way for way in ways if way["choose"] == choose]
    rows = [[name_of(way), *map(cell, against(content, level, way, base).values())] for way in ways]
    return table([f"against: {name_of(base)}", *CLASSES.values(), "ordinary, bright", "sample"], rows)


def kinds_table(content: Mapping[str, Any], level: str, n_runs: Sequence[int]) -> list[str]:
    """The noise score against equation 6, by the same weights or those that the same rule chooses."""
    rows = []
    for way in shown(content, n_runs):
        if way["score"] == "noise":
            base = find(content, way["training"], "paper", way["n_runs"], way["choose"], way["combine"])
            name = name_of(way).replace(", noise", "")
            rows.append([name, *map(cell, against(content, level, way, base).values())])
    return table(["noise against paper", *CLASSES.values(), "ordinary, bright", "sample"], rows)


def bands_table(content: Mapping[str, Any], level: str, n_runs: int) -> list[str]:
    """Rates by band of the ways that need no labels to choose, clean training."""
    rows = []
    for way in shown(content, [n_runs]):
        if way["training"] == "clean" and way["choose"] == "validation loss" and way["combine"] in ("best", "mean"):
            cells = [spread(values_of(way, level, group, band)) for group in CLASSES for band in ("g", "r", "i")]
            rows.append([name_of(way), *cells])
    header = [f"{words} {band}" for words in CLASSES.values() for band in ("g", "r", "i")]
    return table(["training, score, weights", *header], rows)


def floors_table(content: Mapping[str, Any], level: str) -> list[str]:
    """Rates of single trainings by floor."""
    rows = [
        [
            line["training"],
            f"{line['floor']:g}",
            *(spread(values_of(line, level, group)) for group in [*CLASSES, "training", "sample"]),
        ]
        for line in sorted(content["floors"], key=lambda line: (line["training"] != "clean", line["floor"]))
    ]
    return table(["training", "floor", *CLASSES.values(), "ordinary, bright", "sample"], rows)


def verdicts(content: Mapping[str, Any], level: str, n_runs: int) -> list[str]:
    """What wins and what does not, in sentences that the numbers make."""
    lines = []
    for choose, words in (("known classes", "With labels to choose by"), ("validation loss", "Without labels")):
        base = find(content, "clean", "paper", n_runs, choose, "best")
        ways = [way for way in shown(content, [n_runs]) if way is not base]
        if choose == "validation loss":
            ways = [way for way in ways if way["choose"] == choose]
        lines += [f"**{words}**, against: {name_of(base)}.", ""]
        lines += [_verdict(content, level, ways, base, group, named) for group, named in CLASSES.items()]
        lines.append("")
    lines += ["**The noise score against equation 6**, by the same weights, those of each training's lowest loss:", ""]
    for training in ("clean", "blind"):
        pair = [find(content, training, score, 1, "validation loss", "best") for score in ("noise", "paper")]
        moved = against(content, level, *pair)
        cells = ", ".join(f"{named} {cell(moved[group])}" for group, named in CLASSES.items())
        lines.append(f"- {training} training: {cells} points.")
    return [*lines, ""]


def _verdict(content: Mapping[str, Any], level: str, ways: Sequence[Any], base: Any, group: str, named: str) -> str:
    found = [(way, against(content, level, way, base)[group]) for way in ways]
    better = [item for item in found if matters(item[1]) and item[1][0] > 0]
    worse = [item for item in found if matters(item[1]) and item[1][0] < 0]
    text = f"- {named}: it selects {spread(values_of(base, level, group))}%. Of {len(ways)} other ways {len(better)}"
    text += f" select more and {len(worse)} fewer, by more than {ENOUGH:g} errors."
    if better:
        way, (value, error) = max(better, key=lambda item: item[1][0])
        text += f" The most: {name_of(way)}, {value:+.1f} ± {error:.1f} points."
    return text


def how(content: Mapping[str, Any]) -> list[str]:
    """What was measured, in words."""
    sizes, counts, packages = content["sizes"], content["counts"], content["packages"]
    tested = {**CLASSES, "type2_agn": "type-II AGN"}
    facts = {
        **sizes,
        "n_sample": counts["sample"],
        "n_quasars": counts["in_common"]["quasar"],
        "tested": ", ".join(f"{counts['tests'][group]} {words}" for group, words in tested.items()),
        "n_kept": sizes["epochs"] - sizes["keep_from_epoch"] + 1,
        "machine": f"{content['n_cores']} cores of {content['processor']}",
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    return [HOW.format(**facts)]


def costs(content: Mapping[str, Any]) -> list[str]:
    """What the ways cost."""
    cost, noise = content["cost"], content["noise_over_source"]
    score, extra = (1000.0 * cost[f"{name}_seconds"] for name in ("score", "noise"))
    relative = ", ".join(f"{band} {100 * noise[band][0]:.2f}% ({100 * noise[band][1]:.2f}%)" for band in noise)
    return [COST.format(score=score, extra=extra, more=100.0 * extra / score, relative=relative)]


def page(content: Mapping[str, Any] | None = None) -> str:
    """The page."""
    content = load() if content is None else content
    several = [n for n in (5, 10) if any(way["n_runs"] == n for way in content["ways"])]
    most = several[0] if several else 1
    first, second = list(content["levels"])[:2]
    lines = [HEAD, f"## What wins at {first} a band", "", *verdicts(content, first, most), WAYS, *how(content)]
    lines += [f"## Completeness at {first} a band", "", *rates_table(content, first, [1, *several])]
    lines += ["### Against the paper's way", "", "Percentage points; bold: more than 2 errors.", ""]
    lines += against_table(content, first, most, "known classes")
    lines += [
        "### Against the best that is chosen without labels",
        "",
        *against_table(content, first, most, "validation loss"),
    ]
    lines += ["### The noise score against equation 6", "", *kinds_table(content, first, [1, most])]
    lines += ["### By band", "", *bands_table(content, first, most)]
    lines += [f"## Completeness at {second} a band", "", *rates_table(content, second, [most])]
    lines += ["Against the paper's way:", "", *against_table(content, second, most, "known classes")]
    lines += ["## Other floors", "", f"One training, its epoch by the validation loss, {first} a band:", ""]
    limits = LIMITS.format(n_quasars=content["counts"]["in_common"]["quasar"])
    lines += [*floors_table(content, first), *costs(content), SWITCH, limits]
    return "\n".join(lines).rstrip("\n") + "\n"
