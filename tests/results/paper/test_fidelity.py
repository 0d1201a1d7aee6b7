"""The page of the paper's numbers: against the paper, and against independent counts of a small run of the same job."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import xarray
import yaml
from astropy.table import Table
from click.testing import CliRunner
from survey_runs import NETWORK, run_serially

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.paper import fidelity as causes
from swimmy_scale.results.paper import paper_numbers as paper
from swimmy_scale.results.paper.fidelity import claims, found_numbers, page
from swimmy_scale.results.paper.paper_numbers import Found, PaperNumber, share, verdict
from swimmy_scale.results.paper.registry import FIGURES, Options, draw_figures, write_tables
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.tables import TABLES
from swimmy_scale.simulate import KINDS, paper_plan, simulate, sky
from swimmy_scale.simulate import paper as preset

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "docs" / "fidelity.md"
BANDS = ["g", "r", "i"]


N_OBJECTS = 5000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of jobs/fidelity.yaml: 5,000 objects, a small network and few epochs; its tables."""
    place = tmp_path_factory.mktemp("fidelity")
    simulate(str(place / "fidelity" / "survey"), paper_plan(N_OBJECTS, seed=1))
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
def counted(folder: Path) -> dict[str, str]:
    """Counts by another way: from the stores and the counterparts, joined by object_id."""
    with xarray.open_zarr(folder / "scores.zarr") as opened:
        stored = opened.load()
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


def test_what_the_run_shows_of_causes_is_what_independent_counting_gives(folder: Path, data: RunData) -> None:
    with xarray.open_zarr(folder / "scores.zarr") as opened:
        stored = opened.load()
    inside, score = stored.in_sample.values, stored.score.sel(band=BANDS).values
    flags = stored.candidate.sel(level="2sigma", band=BANDS).values
    with xarray.open_zarr(folder / "cutouts.zarr") as opened:
        mag = opened.mag.sel(band=BANDS).values
    for k, row in enumerate(causes.reconstruction_rows(data)):
        median = float(np.median(score[inside, k]))
        assert float(row[1]) == pytest.approx(median, rel=0.06)
        assert float(row[2].rstrip("%")) == pytest.approx(100 * np.sqrt(median / 32), rel=0.06)
        limit = float(stored.threshold.sel(level="2sigma", band=BANDS[k]))
        assert float(row[3]) == pytest.approx(limit, rel=0.06)
    end = causes.training_end(data)
    assert end is not None
    assert end == pytest.approx(17.4, abs=0.1)
    faint = inside & (mag[:, 2] > end + 1)
    *_, last = causes.magnitude_rows(data)
    assert last[1] == f"{faint.sum():,}"
    assert last[-1] == f"{100 * flags[faint].any(axis=1).mean():.1f}%"
    bright = inside & (mag[:, 2] <= end)
    rho = scipy.stats.spearmanr(score[bright, 1], mag[bright, 1]).statistic
    assert float(causes.correlation_rows(data)[1][2]) == pytest.approx(rho, abs=6e-4)


def test_command_writes_the_same_page_again_and_says_simulated(data: RunData, folder: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("one.md", "other.md"):
        result = CliRunner().invoke(main, ["fidelity", str(folder), "--output", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        pages.append((tmp_path / name).read_text())
    assert pages[0] == pages[1] == page(data, "0.1.0")
    assert "**SIMULATED DATA.**" in pages[0]
    assert "job `fidelity`" in pages[0]
    assert str(folder) not in pages[0]
    differing = pages[0].count(f"| {paper.DIFFERS} |")
    assert re.search(rf"\b{differing} (is|are) different\b", pages[0])
    assert len(claims(found_numbers(data))) >= 4
    assert "the paper: 0.159" in result.output
    for number in paper.NUMBERS:
        found = found_numbers(data)[number.key]
        assert f"| {number.what} | {number.paper.text} |" in pages[0]
        if verdict(number, found) == paper.DIFFERS:
            why = pages[0].split("## What differs, and why")[1]
            assert f"| {number.what} | {number.section} | {paper.reason(number.key)} |" in why


@pytest.mark.parametrize("spoil", ["missing", "other model", "no table"])
def test_refuses_a_run_without_its_tables(data: RunData, folder: Path, tmp_path: Path, spoil: str) -> None:
    shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("cutouts.zarr"))
    path = tmp_path / "run" / "tables" / "table-4.ecsv"
    text = path.read_text()
    changed = {"other model": re.sub("model_sha256: .{8}", "model_sha256: 00000000", text), "no table": "nothing"}
    if spoil == "missing":
        path.unlink()
    else:
        path.write_text(changed[spoil])
    words = {"missing": "not there", "other model": "another model's scores", "no table": "no readable table"}
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
    assert set(paper.REASONS) <= {number.key for number in paper.NUMBERS}


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


def test_a_difference_without_a_reason_says_so() -> None:
    assert paper.reason("no such key") == "not explained yet"


def test_committed_page_has_the_papers_numbers() -> None:
    text = COMMITTED.read_text()
    for number in paper.NUMBERS:
        (line,) = re.findall(rf"^\| {re.escape(f'{number.what} | {number.paper.text}')} \| .*$", text, re.MULTILINE)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[5] in (paper.SAME, paper.REPRODUCED, paper.DIFFERS, paper.NONE)
        if cells[5] == paper.DIFFERS:
            assert f"| {number.what} | {number.section} | {paper.reason(number.key)} |" in text
    assert "**SIMULATED DATA.**" in text


def test_measurements_behind_the_reasons(
    folder: Path, counted: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import reasons

    truth = folder.parent / "fidelity" / "survey" / "truth.fits"
    monkeypatch.setattr("sys.argv", ["reasons.py", str(folder), str(truth), "--weight-sets", "--quasars", "12"])
    reasons.main()
    facts = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())

    def of(key: str) -> tuple[int, int]:
        selected, members = counted[key].split("/")
        return int(selected), int(members)

    selected, members = of("table-2/any/quasar")
    assert facts["DR16Q quasars"].startswith(f"{members}: any band {100 * selected / members:.1f}%")
    wide = [facts[f"XELGs, EW_g {label}"].split(", ")[0] for label in ("100 to 150", "150 to 250", "250 to 1000")]
    assert sum(map(int, wide)) == of("ew-above-100/g")[1]
    for band in BANDS:
        assert facts[f"{band}, negative"].startswith(f"{of(f'negative/{band}')[0]}: ")
        assert facts[f"{band}, MPA-JHU above 3 sigma"].startswith(f"{of(f'xelg-at-3-sigma/{band}')[1]}: ")
    assert "more quasars, 12" in facts
    left = [
        facts[key].split(": ")[0]
        for key in facts
        if key.startswith("more quasars, excess left") and "," not in key[13:]
    ]
    assert sum(map(int, left)) == 12
    # All of a small sample is drawn, so the weight sets' ranks hold that of the one that scores.
    for shown, found in zip(facts["Spearman, all"].split(", "), facts["rank"].split(", "), strict=True):
        low, high = found.split(" to ")
        assert float(low) <= float(shown.split(" ")[1]) <= float(high)


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
