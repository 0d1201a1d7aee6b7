"""The page of the paper's numbers: against the paper, and against independent counts of a small run of the same job."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import xarray
import yaml
from astropy.table import Table
from click.testing import CliRunner
from survey_runs import NETWORK, opened, run_serially

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.paper import paper_numbers as paper
from swimmy_scale.results.paper.fidelity import AS_BRIGHT, claims, found_numbers, measure
from swimmy_scale.results.paper.fidelity_page import numbers_of, page
from swimmy_scale.results.paper.paper_numbers import Found, PaperNumber, share, verdict
from swimmy_scale.results.paper.registry import FIGURES, Options, draw_figures, write_tables
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.tables import TABLES
from swimmy_scale.simulate import KINDS, paper_plan, simulate, sky
from swimmy_scale.simulate import paper as preset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
STUDIES = ROOT / "studies"
BANDS = ["g", "r", "i"]


N_OBJECTS = 1400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of jobs/fidelity.yaml: 1,400 objects, among which rare
    classes are less rare than in the paper's sample, a small network and few epochs; its tables."""
    place = tmp_path_factory.mktemp("fidelity")
    plan = dataclasses.replace(paper_plan(N_OBJECTS, seed=1), quasar_fraction=0.005, xelg_fraction=0.03)
    simulate(str(place / "fidelity" / "survey"), plan)
    job = yaml.safe_load((ROOT / "jobs" / "fidelity.yaml").read_text())
    job["train"] |= {"network": NETWORK, "max_objects": 150, "n_threads": 1, "threshold_objects": 400}
    job["train"]["schedule"] |= {"epochs": 2, "keep_from_epoch": 1, "batch_size": 8}
    (place / "jobs").mkdir()
    (place / "jobs" / "fidelity.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    run_serially(place / "jobs" / "fidelity.yaml", place / "run")
    made = dict(write_tables(RunData(place / "run"), TABLES, place / "run" / "tables"))
    assert set(made) >= {"table-1", "table-2", "table-3", "table-4", "table-6", "high-but-negative"}
    assert all(isinstance(outcome, tuple) for outcome in made.values())
    return place / "run"


@pytest.fixture(scope="module")
def drawn(folder: Path) -> dict[str, object]:
    """What became of every figure; the simulated spectra are in no archive, so the one with spectra is not drawn."""
    return dict(draw_figures(RunData(folder), FIGURES, Options(), folder / "figures"))


@pytest.fixture(scope="module")
def data(folder: Path, drawn: dict[str, object]) -> RunData:
    assert "score-ew" in drawn
    return RunData(folder)


@pytest.fixture(scope="module")
def facts(data: RunData) -> dict[str, Any]:
    """What the page says of the run, as its JSON has it."""
    return json.loads(json.dumps(measure(data, "0.1.0")))


@pytest.fixture(scope="module")
def counted(folder: Path) -> dict[str, str]:
    """Counts by another way: from the stores and the counterparts, joined by object_id."""
    with opened(folder) as found:
        stored = found.load()
    matched = {int(row["object_id"]): row for row in Table.read(folder / "counterparts.fits", mask_invalid=False)}
    objects = [(i, matched.get(int(k))) for i, k in enumerate(stored.object_id.values) if stored.in_sample.values[i]]
    flags = stored.candidate.sel(level="2sigma", band=BANDS).values
    top = stored.candidate.sel(level="3sigma", band=BANDS).values
    score, residual = stored.score.sel(band=BANDS).values, stored.residual.sel(band=BANDS).values
    limit = stored.threshold.sel(level="2sigma", band=BANDS).values
    expected: dict[str, str] = {}

    def count(key: str, members: list[int], chosen: list[bool]) -> None:
        expected[key] = f"{sum(chosen)}/{len(members)}"

    groups = {
        "sample": [i for i, _ in objects],
        "quasar": [i for i, row in objects if row is not None and row["is_quasar"]],
        "xelg": [i for i, row in objects if row is not None and row["is_xelg"]],
    }
    xelgs = set(groups["xelg"])
    for group, members in groups.items():
        count(f"table-2/any/{group}", members, [bool(flags[i].any()) for i in members])
        count(f"table-2/g&i/{group}", members, [bool(flags[i][0] and flags[i][2]) for i in members])
    for kind in ("type1_agn", "type2_agn"):
        active = [(i, row) for i, row in objects if row is not None and not row["is_quasar"]]
        members = [i for i, row in active if row["milliquas_type"] == kind]
        count(f"table-4/{kind}", members, [bool(flags[i].any()) for i in members])
    for k, band in enumerate(BANDS):
        bright = [i for i in groups["xelg"] if matched[int(stored.object_id.values[i])][f"ew_band_{band}"] > 100]
        count(f"ew-above-100/{band}", bright, [bool(flags[i, k]) for i in bright])
        high = {i for i in groups["sample"] if score[i, k] > limit[k]}
        count(f"above-threshold/{band}", groups["sample"], [i in high for i in groups["sample"]])
        count(f"negative/{band}", sorted(high), [bool(residual[i, k] <= 0) for i in sorted(high)])
        strange = [i for i, row in objects if row is not None and row["is_mpa_jhu"] and top[i, k]]
        count(f"xelg-at-3-sigma/{band}", strange, [i in xelgs for i in strange])
    return expected


def test_numbers_are_what_independent_counting_gives(data: RunData, counted: dict[str, str]) -> None:
    found = found_numbers(data)
    assert set(found) >= {number.key for number in paper.NUMBERS}
    measured = {
        key: "0/0" if found[key] is None else found[key].text.split(" =")[0].replace(",", "") for key in counted
    }
    assert measured == counted
    assert sum(text != "0/0" for text in counted.values()) >= 12


def test_one_job_gives_the_papers_tables_and_figures(folder: Path, drawn: dict[str, object]) -> None:
    assert {FIGURES[name].number for name, outcome in drawn.items() if isinstance(outcome, list)} == (
        {1, 2, *range(5, 20)} - {15}
    )
    assert isinstance(drawn["stacked-spectra"], MissingError)
    for name, outcome in drawn.items():
        if isinstance(outcome, list):
            assert {path.suffix for path in outcome} >= {".png", ".pdf", ".ecsv"}
            # With so small a network nobody's score may be high and its residual negative.
            assert name == "stamps-negative" or len(Table.read(folder / "figures" / f"{name}.ecsv")) > 0, name
    for name in ("table-1", "table-2", "table-3", "table-4", "table-6"):
        assert len(Table.read(folder / "tables" / f"{name}.ecsv")) > 0, name
    sets = Table.read(folder / "figures" / "weight-sets.ecsv")
    assert len(sets) == 2 * len(set(sets["run"]))
    assert np.isfinite(sets["r_sel_quasar"]).all()


def test_figure_15_is_drawn_of_spectra(folder: Path, shared_data: Path) -> None:
    run = RunData(folder)
    drawn = FIGURES["stacked-spectra"].make(run, dataclasses.replace(Options(), spectra=shared_data / "spectra"))
    assert len(drawn.tables["objects"]["object_id"]) == 1


def test_correlations_and_losses(data: RunData, folder: Path) -> None:
    found = found_numbers(data)
    sample = data.in_sample
    for k, band in enumerate(BANDS):
        at = data.survey.bands.index(band)
        rho = scipy.stats.spearmanr(data.score[sample, k], data.mag[sample, at]).statistic
        ours = found[f"spearman/{band}"]
        assert ours is not None
        assert ours.value == pytest.approx(rho)
        assert ours.high - ours.value == pytest.approx(1 / np.sqrt(sample.sum() - 3))
    loss = Table.read(folder / "models" / "weight_sets.ecsv")["loss"]
    ours = found["loss"]
    assert ours is not None
    assert (ours.low, ours.high) == (min(loss), max(loss))


def test_deviations_and_magnitudes_are_what_independent_counting_gives(
    folder: Path, data: RunData, facts: dict[str, Any]
) -> None:
    with opened(folder) as found:
        stored = found.load()
    inside, score = stored.in_sample.values, stored.score.sel(band=BANDS).values
    flags = stored.candidate.sel(level="2sigma", band=BANDS).values
    with xarray.open_zarr(folder / "cutouts.zarr") as pixels:
        mag = pixels.mag.sel(band=BANDS).values
    assert facts["reconstruction"]["n_pixels"] == 32
    for k, band in enumerate(BANDS):
        row = facts["reconstruction"]["bands"][band]
        median = float(np.median(score[inside, k].astype(np.float64)))
        limit = float(stored.threshold.sel(level="2sigma", band=band))
        assert (row["median"], row["threshold"]) == pytest.approx((median, limit))
        assert row["median_deviation_percent"] == pytest.approx(100 * np.sqrt(median / 32))
        assert row["threshold_deviation_percent"] == pytest.approx(100 * np.sqrt(limit / 32))
    found = facts["magnitudes"]
    end = found["training_end"]
    assert end == pytest.approx(17.4, abs=0.1)
    faint = inside & (mag[:, 2] > end + 1)
    last = found["steps"][-1]
    assert (last["above"], last["up_to"], last["n_objects"]) == (pytest.approx(end + 1), None, faint.sum())
    assert last["selected_percent"]["any"] == pytest.approx(100 * flags[faint].any(axis=1).mean())
    assert last["selected_percent"]["i"] == pytest.approx(100 * flags[faint, 2].mean())
    bright = inside & (mag[:, 2] <= end)
    rho = scipy.stats.spearmanr(score[bright, 1], mag[bright, 1]).statistic
    assert found["spearman"][AS_BRIGHT]["r"] == pytest.approx(rho)


def test_command_writes_the_same_page_again_and_its_numbers(
    data: RunData, facts: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    pages, numbers = [], tmp_path / "numbers.json"
    for name in ("one.md", "other.md"):
        words = ["fidelity", str(folder), "--output", str(tmp_path / name), "--json", str(numbers)]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        pages.append((tmp_path / name).read_text())
    assert json.loads(numbers.read_text()) == facts
    assert pages[0] == pages[1] == page(facts)
    assert "**SIMULATED DATA.**" in pages[0]
    assert "job `fidelity`" in pages[0]
    assert str(folder) not in pages[0]
    differing = pages[0].count(f"| {paper.DIFFERS} |")
    assert re.search(rf"\b{differing} (is|are) different\b", pages[0])
    found = found_numbers(data)
    assert numbers_of(facts) == {number.key: found[number.key] for number in paper.NUMBERS}
    assert len(claims(numbers_of(facts))) >= 4
    assert "the paper: 0.159" in result.output
    for number in paper.NUMBERS:
        assert f"| {number.what} | {number.paper.text} |" in pages[0]


def _without_numbers(text: str) -> set[str]:
    """The lines of a page without numbers, verdicts and digests."""
    words = "|".join((paper.SAME, paper.REPRODUCED, paper.DIFFERS, paper.NONE, "yes", "no"))
    lines = [line for line in text.splitlines() if not line.startswith("Of the paper's")]
    masked = (re.sub(r"begins with `\w+`", "begins with", line) for line in lines)
    masked = (re.sub(rf"\| ({words}) \|", "| verdict |", line) for line in masked)
    return {re.sub(r"-?[\d,]*\d(\.\d+)?(e-\d+)?%?", "#", line) for line in masked}


def test_a_page_says_nothing_but_what_was_measured_on_its_run(facts: dict[str, Any]) -> None:
    """Pages of runs of other sizes, networks and findings differ in numbers, verdicts and digests alone."""
    other = json.loads((STUDIES / "results" / "fidelity_run.json").read_text())
    assert other["n_objects"] != facts["n_objects"]
    assert other["model_sha256"] != facts["model_sha256"]
    assert _without_numbers(page(other)) == _without_numbers(page(facts))


def test_the_page_of_observed_data_has_no_word_of_a_simulation(facts: dict[str, Any]) -> None:
    observed = page(facts | {"simulated": False})
    assert "observed data" in observed
    assert "simulat" not in observed.lower()
    given = facts | {"simulated": False, "training": None, "weight_sets": None, "magnitudes": None}
    given["numbers"] = given["numbers"] | {"loss": None}
    bare = page(given)
    assert "The weights were given." in bare
    assert "no weight sets were judged" in bare
    assert "training class" not in bare
    assert f"| - | - | {paper.NONE} |" in bare


@pytest.mark.parametrize("spoil", ["missing", "other model", "other format", "no table"])
def test_refuses_a_run_without_its_tables(data: RunData, folder: Path, tmp_path: Path, spoil: str) -> None:
    shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("cutouts.zarr"))
    path = tmp_path / "run" / "tables" / "table-4.ecsv"
    text = path.read_text()
    changed = {"other model": re.sub("model_sha256: .{8}", "model_sha256: 00000000", text), "no table": "nothing"}
    changed["other format"] = text.replace("format_version: 1", "format_version: 2")
    if spoil == "missing":
        path.unlink()
    else:
        path.write_text(changed[spoil])
    words = {
        "missing": "not there",
        "other format": "its format_version is 2, this program reads 1",
        "other model": "another model's scores",
        "no table": "no readable table",
    }
    with pytest.raises(SwimmyError, match=f"table-4.ecsv.*{words[spoil]}.*swimmy-scale tables"):
        found_numbers(RunData(tmp_path / "run"))


# ---------------------------------------------------------------- the paper's numbers


def test_numbers_are_consistent_among_themselves() -> None:
    """Inclusion and exclusion hold in the paper's table, and one count lies above every threshold (section 3.2)."""
    for at in range(3):
        n = {band: counts[at] for band, counts in paper.TABLE_2.items()}
        pairs = n["g&r"] + n["r&i"] + n["g&i"]
        assert n["any"] == n["g"] + n["r"] + n["i"] - pairs + n["g&r&i"]
    for band, negative in paper.NEGATIVE.items():
        assert paper.TABLE_2[band][0] + negative == paper.ABOVE_THRESHOLD
    assert len({number.key for number in paper.NUMBERS}) == len(paper.NUMBERS) == 24 + 6 + 3 + 4 + 3 + 3 + 1


def test_interval_of_a_share_is_wilsons() -> None:
    found = share(14, 23)
    assert found is not None
    expected = scipy.stats.binomtest(14, 23).proportion_ci(scipy.stats.norm.cdf(1) - scipy.stats.norm.cdf(-1), "wilson")
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high), rel=1e-6)
    assert share(0, 0) is None


@pytest.mark.parametrize(
    ("low", "high", "by_construction", "expected"),
    [
        (8.0, 9.0, False, "reproduced"),
        (5.0, 8.9, False, "differs"),
        (11.1, 12.0, False, "differs"),
        (10.0, 10.0, True, "same by construction"),
        (12.0, 12.0, True, "differs"),
    ],
)
def test_verdicts(low: float, high: float, by_construction: bool, expected: str) -> None:
    number = PaperNumber("key", "what", "1", "how", Found(10.0, 9.0, 11.0, "10%"), by_construction)
    assert verdict(number, Found((low + high) / 2, low, high, "ours")) == expected
    assert verdict(number, None) == "no objects"


# ---------------------------------------------------------------- the page of the documentation


def test_reasons_are_measured_and_the_documentations_page_is_made_of_them(
    folder: Path, facts: dict[str, Any], counted: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(STUDIES))
    import fidelity_page
    import reasons

    truth, path = folder.parent / "fidelity" / "survey" / "truth.fits", tmp_path / "fidelity_reasons.json"
    words = ["reasons.py", str(folder), str(truth), "--weight-sets", "--quasars", "12", "--json", str(path)]
    monkeypatch.setattr("sys.argv", words)
    reasons.main()
    found = json.loads(path.read_text())

    def of(key: str) -> tuple[int, int]:
        selected, members = counted[key].split("/")
        return int(selected), int(members)

    selected, members = of("table-2/any/quasar")
    assert found["nuclei"]["dr16q"]["n"] == members
    assert found["nuclei"]["dr16q"]["any"] == pytest.approx(100 * selected / members, abs=1e-3)
    widths = found["lines"]["by_width"]["g"]
    wide = [widths[name]["n"] for name in ("100 to 150", "150 to 250", "250 to 1000")]
    assert sum(wide) == of("ew-above-100/g")[1]
    for band in BANDS:
        assert found["negative"][band]["n"] == of(f"negative/{band}")[0]
        assert found["most_anomalous"][band]["n"] == of(f"xelg-at-3-sigma/{band}")[1]
    assert found["more_quasars"]["n"] == 12
    assert sum(part["n"] for part in found["more_quasars"]["by_excess_left"].values()) == 12
    # All of a small sample is drawn, so the weight sets' ranks hold that of the one that scores.
    for band, rank in facts["magnitudes"]["spearman"]["all"].items():
        low, high = found["weight_sets"]["spearman"][band]
        assert low - 1e-4 <= rank <= high + 1e-4
    (tmp_path / "fidelity_run.json").write_text(json.dumps(facts))
    output = tmp_path / "page.md"
    monkeypatch.setattr("sys.argv", ["fidelity_page.py", "--results", str(tmp_path), "--output", str(output)])
    fidelity_page.main()
    assert f"{N_OBJECTS:,} objects in the catalogue" in output.read_text()


# ---------------------------------------------------------------- the survey


def test_survey_has_the_papers_shares() -> None:
    plan = paper_plan(preset.N_TEST_DATA, seed=2)
    n = {kind: round(f * preset.N_TEST_DATA) for kind, f in zip(KINDS, plan.kind_fractions, strict=True)}
    assert n["xelg"] == 701
    assert n["quasar"] == 46
    assert n["type1_agn"] * 0.85 == pytest.approx(286, abs=1)
    assert n["type2_agn"] * 0.8 + n["normal"] * 0.004 == pytest.approx(580, abs=5)
    by_lines = n["xelg"] + n["type1_agn"] + n["type2_agn"]
    ordinary = n["normal"] + n["merger"] + n["artefact_zero_point"] + n["artefact_saturated"]
    assert by_lines + 0.2 * n["quasar"] + plan.training_fraction * ordinary == pytest.approx(25_714, abs=5)


def test_survey_is_as_bright_and_deep_as_asked(folder: Path) -> None:
    survey = folder.parent / "fidelity" / "survey"
    truth, patches = Table.read(survey / "truth.fits"), Table.read(survey / "patch_qa.fits")
    catalogue = Table.read(survey / "catalogue.fits")
    kept = np.asarray(truth["cut"]).astype(str) == ""
    mag, sample_class = np.asarray(truth["i_mag"])[kept], np.asarray(catalogue["sample_class"]).astype(str)[kept]
    assert mag.min() >= 14.0 - 1e-6
    assert mag.max() <= 19.4 + 1e-6
    assert mag.min() < 16.0
    assert (mag[np.isin(sample_class, ["training", "xelg", "agn_candidate"])] < 17.4 + 1e-6).all()
    assert (mag[sample_class == "other"] >= 17.4 - 1e-6).all()
    widths = np.max([truth[name] for name in ("ew_oii", "ew_hb_oiii", "ew_ha_nii")], axis=0)
    xelg = np.asarray(truth["kind"]).astype(str) == "xelg"
    assert ((widths[xelg] >= 100) & (widths[xelg] <= 500)).all()
    assert (widths[~xelg] <= 90).all()
    for band, limit in zip("grizy", (25.82, 25.49, 25.23, 24.47, 23.59), strict=True):
        # Patch 6,8 of every tract is the one that is too shallow.
        assert patches[f"{band}mag_psf_depth"][patches["patch"] != 608].min() >= limit


def test_depths_of_the_paper_have_its_limits_as_their_fifth_percentile() -> None:
    plan = paper_plan(10, seed=1)
    for band, limit in zip(plan.survey.bands, plan.survey.min_depth_mag, strict=True):
        scatter = sky._depth_scatter(plan, np.array([sky.MEDIAN_DEPTH_MAG[name] for name in plan.survey.bands]))
        z = (limit - sky.MEDIAN_DEPTH_MAG[band]) / scatter[plan.survey.bands.index(band)]
        assert scipy.stats.norm.cdf(z) == pytest.approx(0.05)
    usual = dataclasses.replace(plan, population=sky.SimulationPlan(1, 0).population)
    assert (sky._depth_scatter(usual, np.zeros(5)) == 0.15).all()
