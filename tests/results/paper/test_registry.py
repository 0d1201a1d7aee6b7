"""Figures and tables of a small run: against its stores, with and without counterparts, and by the command line."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import paper_run
import pytest
import scipy.stats
import xarray
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner, Result
from survey_runs import opened as opened_run

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError
from swimmy_scale.results.paper import pixels, relations
from swimmy_scale.results.paper.registry import FIGURES, Options, draw_figures, write_tables
from swimmy_scale.results.paper.run_data import MissingError, RunData
from swimmy_scale.results.paper.saving import Drawn, csv_bytes, ecsv_bytes, save_figure
from swimmy_scale.results.paper.tables import TABLES
from swimmy_scale.storage.run_directory import RunDirectory

pytestmark = pytest.mark.slow

BANDS = ["g", "r", "i"]
NEED_COUNTERPARTS = {"ew-cumulative", "score-ew", "sfr-mass", "stacked-spectra"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without counterparts."""
    return paper_run.make_run(tmp_path_factory.mktemp("paper"))


@pytest.fixture(scope="module")
def stored(plain: Path) -> xarray.Dataset:
    """Its scores, read as other people's scripts do."""
    with opened_run(plain) as opened:
        return opened.load()


def most_anomalous(stored: xarray.Dataset) -> int:
    flags = stored.candidate.sel(level="3sigma", band=BANDS).values.any(axis=1)
    return int(stored.object_id.values[flags][0])


def unselected(stored: xarray.Dataset) -> int:
    flags = stored.candidate.values.any(axis=(1, 2)) | ~stored.in_sample.values
    return int(stored.object_id.values[~flags][0])


@pytest.fixture(scope="module")
def full(plain: Path, stored: xarray.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with counterparts and weight sets; one candidate and one other have spectra."""
    path = tmp_path_factory.mktemp("full") / "run"
    shutil.copytree(plain, path)
    with_spectra = (most_anomalous(stored), unselected(stored))
    paper_run.add_counterparts(path, plain.parent / "survey", with_spectra)
    return path


@pytest.fixture(scope="module")
def data(full: Path) -> RunData:
    return RunData(full)


def made(data: RunData, name: str, **options: object) -> Drawn:
    return FIGURES[name].make(data, replace(Options(), **options))


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# ---------------------------------------------------------------- tables


def test_table_2_is_what_the_stores_and_the_counterparts_say(data: RunData, stored: xarray.Dataset) -> None:
    columns, _ = TABLES["table-2"](data)
    flags = stored.candidate.sel(level="2sigma", band=BANDS).values
    table = Table.read(data.directory / "counterparts.fits")
    for group in ("quasar", "xelg"):
        members = set(np.asarray(table["object_id"])[np.asarray(table[f"is_{group}"])].tolist())
        inside = [
            i
            for i, number in enumerate(stored.object_id.values)
            if int(number) in members and stored.in_sample.values[i]
        ]
        assert columns[f"n_objects_{group}"].tolist() == [len(inside)] * 8
        for row, label in enumerate(columns["band"].tolist()):
            names = BANDS if label == "any" else label.split("&")
            combine = any if label == "any" else all
            expected = sum(combine(bool(flags[i, BANDS.index(name)]) for name in names) for i in inside)
            assert columns[f"n_selected_{group}"][row] == expected
    summary = json.loads((data.directory / "summary.json").read_text())["selected"]["2sigma"]["rows"]
    assert columns["n_selected_sample"].tolist() == [row["sample"]["n_selected"] for row in summary.values()]


def test_table_2_without_counterparts_counts_by_class(plain: Path) -> None:
    columns, (head, _) = TABLES["table-2"](RunData(plain))
    summary = json.loads((plain / "summary.json").read_text())["selected"]["2sigma"]["rows"]
    for group in ("quasar", "xelg", "training", "other", "agn_candidate"):
        assert columns[f"n_selected_{group}"].tolist() == [row[group]["n_selected"] for row in summary.values()]
    assert [name.split("\n")[0] for name in head] == [
        "band",
        "sample",
        "quasar",
        "xelg",
        "agn_candidate",
        "other",
        "training",
    ]


def test_lists_agree_with_the_catalogue_and_the_summary(data: RunData) -> None:
    catalogue = Table.read(data.directory / "candidates.fits")
    table_3, _ = TABLES["table-3"](data)
    first = np.asarray(catalogue["bands"]).astype(str) != ""
    assert table_3["object_id"].tolist() == catalogue["object_id"][first].tolist()
    assert table_3["bands"].tolist() == np.asarray(catalogue["bands"]).astype(str)[first].tolist()
    assert table_3["score_i"].tolist() == catalogue["score_i"][first].tolist()
    table_6, _ = TABLES["table-6"](data)
    top = np.asarray(catalogue["bands_3p5sigma"]).astype(str)
    assert table_6["bands"].tolist() == top[top != ""].tolist()
    negative, _ = TABLES["high-but-negative"](data)
    counts = json.loads((data.directory / "summary.json").read_text())["selected"]["2sigma"]["high_but_negative"]
    found = {band: sum(band in label.split("&") for label in negative["bands"].tolist()) for band in BANDS}
    assert found == counts
    assert sum(counts.values()) > 0


def test_table_1_counts_counterparts_in_the_sample(data: RunData) -> None:
    columns, (_, printed) = TABLES["table-1"](data)
    table = Table.read(data.directory / "counterparts.fits")
    inside = np.isin(np.asarray(table["object_id"]), data.object_id[data.in_sample])
    mpa_jhu, quasar = (np.asarray(table[name]).astype(bool) & inside for name in ("is_mpa_jhu", "is_quasar"))
    numbers = dict(zip(columns["data"].tolist(), columns["n_objects"].tolist(), strict=True))
    assert numbers["Test data"] == data.in_sample.sum()
    assert numbers["(1) SDSS MPA-JHU"] == mpa_jhu.sum() > 0
    assert numbers["(3) DR16Q quasars"] == quasar.sum() > 0
    assert numbers["in (1) and (3) both"] == (mpa_jhu & quasar).sum()
    assert printed[0] == ["Test data", f"{data.in_sample.sum():,}"]


def test_table_4_counts_types(data: RunData) -> None:
    columns, _ = TABLES["table-4"](data)
    kinds = data.counterpart("milliquas_type")
    expected = [int(((kinds == kind) & data.in_sample & ~data.members("quasar")).sum())
                for kind in ("quasar", "type1_agn", "type2_agn", "other")]  # fmt: skip
    assert columns["n_objects"].tolist()[:4] == expected
    assert columns["n_objects"][4] == sum(expected)


def test_tables_are_written_as_ecsv_and_csv(data: RunData, tmp_path: Path) -> None:
    for name, outcome in write_tables(data, TABLES, tmp_path):
        assert not isinstance(outcome, MissingError)
        table = Table.read(tmp_path / f"{name}.ecsv")
        assert table.meta["format_version"] == 1
        assert table.meta["simulated"] is True
        with (tmp_path / f"{name}.csv").open(newline="") as stream:
            head, *rows = csv.reader(stream)
        assert head == table.colnames
        assert len(rows) == len(table)
        if "object_id" in head:
            assert [int(row[0]) for row in rows] == table["object_id"].tolist()


# ---------------------------------------------------------------- figures against the stores


def test_score_histograms_count_the_sample_and_its_candidates(data: RunData, stored: xarray.Dataset) -> None:
    drawn = made(data, "score-histograms")
    numbers, lines = drawn.tables[""], drawn.tables["lines"]
    for band in BANDS:
        score = stored.score.sel(band=band).values[stored.in_sample.values]
        assert numbers[f"n_sample_{band}"].sum() == score.size
        assert numbers[f"n_candidates_{band}"].sum() == stored.candidate.sel(level="2sigma", band=band).values.sum()
        low, high = numbers["log_score_low"][30], numbers["log_score_high"][30]
        inside = (np.log10(score.astype(float)) >= low) & (np.log10(score.astype(float)) < high)
        assert numbers[f"n_sample_{band}"][30] == inside.sum()
        assert lines[f"score_{band}"][0] == np.median(score.astype(float))
        assert lines[f"score_{band}"][1:].tolist() == stored.threshold.sel(band=band).values.tolist()


def test_redshifts_are_those_of_the_counterparts(data: RunData, plain: Path) -> None:
    table = Table.read(data.directory / "counterparts.fits")
    known = dict(zip(table["object_id"].tolist(), table["redshift"].tolist(), strict=True))
    assert data.redshift.tolist() == [known[int(number)] for number in data.object_id]
    numbers, alone = made(data, "redshift-histogram").tables[""], made(RunData(plain), "redshift-histogram").tables[""]
    expected, _ = np.histogram(
        data.redshift[data.in_sample], np.append(numbers["redshift_low"], numbers["redshift_high"][-1])
    )
    assert numbers["n_sample"].tolist() == expected.tolist()
    assert (numbers["n_sample_mpa_jhu"] <= numbers["n_sample"]).all()
    assert (numbers["n_sample"] <= numbers["n_spectroscopic"]).all()
    assert "n_sample_mpa_jhu" not in alone


def test_the_colour_cut_is_judged_on_objects_with_a_redshift(data: RunData) -> None:
    drawn = made(data, "redshift-colour-cut")
    mag = dict(zip("grizy", data.mag.T.astype(float), strict=True))
    kept = data.bright & (mag["g"] - mag["r"] < 1.2) & (mag["r"] - mag["z"] < 1.0)
    inside = (data.redshift > 0.05) & (data.redshift < 0.2)
    assert drawn.meta["completeness"] == (kept & inside).sum() / (data.bright & inside).sum()
    assert drawn.meta["removal_rate"] == 1 - (kept & ~inside).sum() / (data.bright & ~inside).sum()
    assert drawn.meta["outlier_fraction"] == (kept & ~inside).sum() / kept.sum()
    assert drawn.tables[""]["n_kept"].sum() == kept.sum()


def test_numbers_of_a_scatter_are_what_is_drawn(data: RunData) -> None:
    drawn = made(data, "score-magnitude")
    table = drawn.tables[""]
    for axes, band in zip(drawn.figure.axes, BANDS, strict=True):
        marks = [line for line in axes.lines if line.get_linestyle() == "None"]
        points = np.concatenate([line.get_xydata() for line in marks])
        expected = np.stack([table[f"mag_{band}"], np.log10(table[f"score_{band}"].astype(float))], axis=1)
        np.testing.assert_array_equal(points[np.lexsort(points.T)], expected[np.lexsort(expected.T)])
    assert len(table["object_id"]) == data.in_sample.sum()


def test_a_scatter_of_many_is_thinned_but_shows_all_that_count() -> None:
    plain = np.arange(1000) % 10 != 0
    drawn = relations.thinned(plain, 100)
    assert drawn[~plain].all()
    assert drawn[plain].sum() == 100
    assert relations.thinned(plain, 900).all()
    assert relations.thinned(np.zeros(0, bool)).size == 0


def test_widths_are_unknown_for_those_that_have_none(data: RunData) -> None:
    table = Table.read(data.directory / "counterparts.fits", mask_invalid=False)
    known = dict(zip(table["object_id"].tolist(), table["ew_band_g"].tolist(), strict=True))
    found = data.counterpart("ew_band_g")
    np.testing.assert_array_equal(found, np.array([known[int(number)] for number in data.object_id], np.float32))
    assert np.isnan(found).any()
    drawn = made(data, "ew-cumulative")
    for band in BANDS:
        width = data.counterpart(f"ew_band_{band}")[data.in_sample & data.members("xelg")]
        part = drawn.tables[""]["band"] == band
        assert part.sum() == np.unique(width[np.isfinite(width)]).size
        assert drawn.meta["ew_band_above_100"][band]["n_objects"] == (width > 100).sum()


def test_figure_13_leaves_out_active_nuclei(data: RunData) -> None:
    drawn = made(data, "sfr-mass")
    kinds = data.counterpart("milliquas_type")
    members = data.in_sample & data.counterpart("is_mpa_jhu") & (kinds == "") & ~data.members("quasar")
    assert drawn.tables[""]["object_id"].tolist() == data.object_id[members].tolist()
    test = drawn.meta["kolmogorov_smirnov"]["i"]["log_sfr"]
    assert test["n_first"] + test["n_second"] == members.sum()


def test_figure_11_says_how_many_of_the_most_anomalous_are_xelgs(data: RunData, stored: xarray.Dataset) -> None:
    shares = made(data, "score-ew").meta["xelg_among_selected"]["3sigma"]
    is_mpa_jhu, is_xelg = data.counterpart("is_mpa_jhu"), data.counterpart("is_xelg")
    for band in BANDS:
        flags = stored.candidate.sel(level="3sigma", band=band).values & is_mpa_jhu
        assert shares[band] == {"n_xelg": (flags & is_xelg).sum(), "n_selected": flags.sum()}
    assert sum(share["n_xelg"] for share in shares.values()) > 0


def test_sigmas_are_those_of_the_training_data(data: RunData, stored: xarray.Dataset) -> None:
    drawn = made(data, "stamps-xelg").tables[""]
    training = stored.in_sample.values & (stored.sample_class.values == "training")
    for band in "gz":
        score = stored.score.sel(band=band).values
        for object_id, sigma in zip(drawn["object_id"].tolist(), drawn[f"sigma_{band}"].tolist(), strict=True):
            own = score[stored.object_id.values == object_id][0]
            p = (1 + (score[training] >= own).sum()) / (1 + training.sum())
            assert sigma == pytest.approx(scipy.stats.norm.isf(p / 2))


def test_profiles_are_of_the_quasars_and_their_scores_fit(data: RunData) -> None:
    drawn = made(data, "radial-profiles")
    assert (
        drawn.tables["objects"]["object_id"].tolist()
        == data.object_id[data.in_sample & data.members("quasar")].tolist()
    )
    means, objects = drawn.tables[""], drawn.tables["objects"]
    chosen = objects["selected"]
    assert chosen.any()
    np.testing.assert_allclose(means["source_selected_g"], objects["source_g"][chosen].mean(axis=0))
    offset = np.arange(64) - 31.5
    first = np.hypot(offset[:, None], offset[None, :]) < 1
    source = data.source(np.flatnonzero(data.in_sample & data.members("quasar")))
    np.testing.assert_allclose(objects["source_i"][:, 0], source[:, 2][:, first].mean(axis=1), rtol=1e-5)


def test_stamps_are_the_scores_own_pixels(data: RunData) -> None:
    """Equation 6 of the saved pixels gives the stored score."""
    drawn = made(data, "stamps-candidates")
    source, other = (drawn.pixels[name].astype(float) for name in ("SOURCE", "RECONSTRUCTION"))
    offset = np.arange(64) - 31.5
    inside = np.hypot(offset[:, None], offset[None, :]) <= 3.0
    for k, band in enumerate(BANDS):
        score = (((source[:, k] - other[:, k]) / other[:, k])[:, inside] ** 2).sum(axis=1)
        np.testing.assert_allclose(drawn.tables[""][f"score_{band}"], score, rtol=1e-3)
    negative = made(data, "stamps-negative").tables[""]
    assert (negative["residual_r"] <= 0).all()
    assert (np.diff(negative["score_r"]) <= 0).all()
    wanted = ((data.score > data.threshold[0]) & (data.residual <= 0) & data.in_sample[:, None])[:, 1]
    assert set(negative["object_id"].tolist()) <= set(data.object_id[wanted].tolist())
    assert len(negative["object_id"]) == min(wanted.sum(), pixels.N_CANDIDATES) > 0


def test_galleries_hold_the_candidates_of_their_level_strangest_first(data: RunData, stored: xarray.Dataset) -> None:
    for name, level in (("gallery", "3sigma"), ("gallery-extension", "3.5sigma")):
        table = made(data, name).tables[""]
        for band in BANDS:
            part = table["in_band"] == band
            flags = stored.candidate.sel(level=level, band=band).values
            assert set(table["object_id"][part].tolist()) == set(stored.object_id.values[flags].tolist())
            assert (np.diff(table[f"score_{band}"][part]) <= 0).all()


def test_the_example_of_figure_2_can_be_chosen(data: RunData) -> None:
    chosen = int(data.object_id[data.in_sample][3])
    assert made(data, "stretch", object_id=chosen).tables[""]["object_id"].tolist() == [chosen]
    with pytest.raises(SwimmyError, match="object 17 comes 0 times"):
        made(data, "stretch", object_id=17)


def test_a_lot_is_the_same_each_time() -> None:
    members = np.ones(100, bool)
    rows = pixels.drawn_by_lot(members, 7)
    assert rows.tolist() == pixels.drawn_by_lot(members, 7).tolist() == sorted(set(rows.tolist()))
    assert rows.size == 7
    assert pixels.drawn_by_lot(members[:3], 7).tolist() == [0, 1, 2]


def test_weight_sets_are_drawn_as_they_are(data: RunData) -> None:
    drawn = made(data, "weight-sets")
    table = paper_run.weight_sets()
    assert drawn.tables[""]["r_sel_xelg"] == pytest.approx(np.asarray(table["r_sel_xelg"]))
    last = np.asarray(table["epoch"]) == 25
    assert drawn.tables["means"]["mean_val_loss"][-1] == pytest.approx(np.asarray(table["val_loss"])[last].mean())


def test_weight_sets_without_known_classes_have_losses_alone(data: RunData, tmp_path: Path) -> None:
    other = RunData(data.directory)
    other.files = RunDirectory(tmp_path)
    (tmp_path / "models").mkdir()
    table = paper_run.weight_sets()["run", "epoch", "loss", "val_loss"]
    table.write(tmp_path / "models" / "weight_sets.ecsv", format="ascii.ecsv")
    drawn = made(other, "weight-sets")
    assert drawn.tables[""]["loss"] == pytest.approx(np.asarray(table["loss"]))
    assert np.isnan(drawn.tables[""]["r_sel_xelg"]).all()
    assert "not known" in [text.get_text() for text in drawn.figure.axes[1].texts]


# ---------------------------------------------------------------- figure 15


def test_real_spectra_are_stacked_selected_and_not(data: RunData, shared_data: Path, stored: xarray.Dataset) -> None:
    drawn = made(data, "stacked-spectra", spectra=shared_data / "spectra")
    objects, numbers = drawn.tables["objects"], drawn.tables[""]
    assert objects["object_id"].tolist() == [most_anomalous(stored), unselected(stored)]
    assert objects["selected"].tolist() == [True, False]
    assert drawn.meta["n_unselected"] == 1
    assert objects["ew_rest_ha_nii"][0] == pytest.approx(39, rel=0.15)
    assert 40 < objects["ew_rest_ha_nii"][1] < 150
    # A stack of one is that spectrum: Halpha of the star-forming galaxy stands where it belongs.
    band = next(name for name, n in drawn.meta["n_selected"].items() if n)
    around = (numbers["wavelength"] > 6400) & (numbers["wavelength"] < 6700)
    peak = numbers["wavelength"][around][np.nanargmax(numbers[f"flux_{band}"][around])]
    assert peak == pytest.approx(6564.6, abs=4)
    mean = made(data, "stacked-spectra", spectra=shared_data / "spectra", how="mean").tables[""]
    np.testing.assert_allclose(mean["flux_unselected"], numbers["flux_unselected"])


def coadd(path: Path, flux: np.ndarray) -> None:
    """A spectrum in SDSS's format, as made by this test."""
    n = flux.size
    columns = [
        fits.Column("flux", "E", array=flux),
        fits.Column("loglam", "E", array=3.58 + 1e-4 * np.arange(n)),
        fits.Column("ivar", "E", array=np.ones(n)),
        fits.Column("and_mask", "J", array=np.zeros(n, np.int32)),
    ]
    redshift = fits.BinTableHDU.from_columns([fits.Column("Z", "E", array=[0.1])], name="SPECOBJ")
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="COADD"), redshift]).writeto(path)


def test_a_spectrum_that_cannot_be_used_is_left_out_and_named(data: RunData, tmp_path: Path) -> None:
    coadd(tmp_path / "spec-0266-51602-0107.fits", np.ones(3800))
    (tmp_path / "spec-0332-52367-0639.fits").write_text("broken")
    drawn = made(data, "stacked-spectra", spectra=tmp_path)
    assert list(drawn.meta["skipped"]) == ["spec-0332-52367-0639.fits"]
    assert len(drawn.tables["objects"]["object_id"]) == 1
    coadd_path = tmp_path / "spec-0266-51602-0107.fits"
    coadd_path.unlink()
    coadd(coadd_path, -np.ones(3800))
    with pytest.raises(SwimmyError, match="none of 2 spectra can be used"):
        made(data, "stacked-spectra", spectra=tmp_path)


@pytest.mark.parametrize(
    ("folder", "error", "text"),
    [(None, MissingError, "Give --spectra FOLDER"), ("absent", SwimmyError, "Correct --spectra"),
     (".", MissingError, "none of its 0 spectra is of an object")],
)  # fmt: skip
def test_missing_spectra_are_told(
    data: RunData, tmp_path: Path, folder: str | None, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        made(data, "stacked-spectra", spectra=None if folder is None else tmp_path / folder)


# ---------------------------------------------------------------- what is not there


def test_without_counterparts_all_other_figures_can_be_made(plain: Path) -> None:
    data = RunData(plain)
    for name in NEED_COUNTERPARTS:
        with pytest.raises(MissingError, match=r"counterparts.fits: not there.* section `spectroscopy:`"):
            made(data, name)
    for name in ("redshift-histogram", "score-magnitude", "selection-rate-redshift", "redshift-colour-cut", "gallery"):
        assert made(data, name).tables[""]
    with pytest.raises(MissingError, match=r"weight_sets.ecsv: not there"):
        made(data, "weight-sets")


def test_damaged_tables_are_told(full: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(full, run)
    (run / "models" / "weight_sets.ecsv").write_text("nonsense")
    with pytest.raises(SwimmyError, match="no readable table of weight sets"):
        made(RunData(run), "weight-sets")
    path = run / "counterparts.fits"
    whole = path.read_bytes()
    for damaged in (whole.replace(b"SDSS", b"SDST", 1), whole[:-2880], b"nonsense"):
        path.write_bytes(damaged)
        with pytest.raises(SwimmyError, match=r"counterparts.fits: not a readable table of counterparts"):
            made(RunData(run), "score-ew")
    (run / "summary.json").unlink()
    with pytest.raises(SwimmyError, match="candidates are not selected yet"):
        RunData(run)


def test_tables_of_another_format_version_are_refused(full: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(full, run)
    sets = run / "models" / "weight_sets.ecsv"
    sets.write_text(sets.read_text().replace("format_version: 1", "format_version: 2"))
    with pytest.raises(SwimmyError, match=r"weight_sets.ecsv: format_version 2, this program reads 1"):
        made(RunData(run), "weight-sets")
    with fits.open(run / "counterparts.fits", mode="update", checksum=True) as hdus:
        hdus[1].header["format_version"] = 2
        hdus[1].add_checksum()
    with pytest.raises(SwimmyError, match=r"counterparts.fits: its format_version is 2, this program reads 1"):
        made(RunData(run), "score-ew")


def test_a_column_that_the_counterparts_do_not_have_is_told(data: RunData) -> None:
    with pytest.raises(MissingError, match=r"counterparts.fits: it has no column ew_band_u"):
        data.counterpart("ew_band_u")


def test_a_level_that_the_job_does_not_have_is_told(data: RunData) -> None:
    with pytest.raises(MissingError, match=r"selects at 2sigma, 3sigma, 3.5sigma and not at 5sigma"):
        data.candidate("5sigma")


# ---------------------------------------------------------------- files


def test_files_of_a_figure(data: RunData, tmp_path: Path) -> None:
    names = ["selection-rate-redshift", "stamps-quasar"]
    for name, outcome in draw_figures(data, names, Options(), tmp_path):
        assert isinstance(outcome, list)
        assert {path.name for path in outcome} >= {f"{name}.png", f"{name}.pdf", f"{name}.ecsv"}
    assert (tmp_path / "stamps-quasar.png").read_bytes().startswith(b"\x89PNG")
    pdf = (tmp_path / "stamps-quasar.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 1
    table = Table.read(tmp_path / "selection-rate-redshift.ecsv")
    meta = {key: table.meta[key] for key in ("format_version", "figure", "paper_figure", "simulated")}
    assert meta == {"format_version": 1, "figure": names[0], "paper_figure": 10, "simulated": True}
    with fits.open(tmp_path / "stamps-quasar.fits") as hdus:
        assert hdus["SOURCE"].data.shape == hdus["RECONSTRUCTION"].data.shape
        assert hdus[0].header["SIMULATE"] is True


def test_a_saved_figure_says_that_it_is_simulated(data: RunData, tmp_path: Path) -> None:
    drawn = made(data, "stretch")
    save_figure(drawn, "stretch", tmp_path, {"simulated": data.simulated})
    assert [item.get_text() for item in drawn.figure.texts] == ["SIMULATED DATA"]
    assert drawn.credit == "HSC-SSP / NAOJ"
    save_figure(drawn, "stretch", tmp_path, {"simulated": False})
    assert [item.get_text() for item in drawn.figure.texts] == ["HSC-SSP / NAOJ"]


def test_every_figure_of_the_paper_has_its_name() -> None:
    assert sorted({kind.number for kind in FIGURES.values()}) == [1, 2, *range(5, 20)]


def test_tables_hold_what_ecsv_and_csv_can_say() -> None:
    columns = {"a": np.array([1.5, np.nan]), "b": np.array(["x", ""]), "c": np.array([True, False])}
    assert csv_bytes(columns) == b"a,b,c\n1.5,x,True\n,,False\n"
    meta = {"nested": {"p": np.float64(np.nan), "n": np.int64(3)}, "list": (np.float32(0.5),)}
    text = ecsv_bytes(columns, meta).decode()
    assert ecsv_bytes(columns, meta).decode() == text
    assert Table.read(text, format="ascii.ecsv").meta["nested"] == {"p": None, "n": 3}


# ---------------------------------------------------------------- the command line


def test_list_needs_no_run() -> None:
    result = run_command("figures", "--list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(FIGURES)
    assert "figure 15: SDSS spectra, stacked" in result.stdout
    assert run_command("figures").exit_code == 2


def test_figures_by_name(full: Path, tmp_path: Path) -> None:
    result = run_command("figures", full, "redshift-histogram", "--output", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("figures: 1 figure\nfigures: done, 1 figure in ")
    assert result.stdout.split() == ["redshift-histogram", str(tmp_path / "redshift-histogram.png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"redshift-histogram.{kind}" for kind in ("ecsv", "pdf", "png")
    ]


def test_what_is_asked_for_by_name_and_is_not_there_fails_in_one_line(plain: Path, tmp_path: Path) -> None:
    result = run_command("figures", plain, "score-ew", "--output", tmp_path)
    assert result.exit_code == 1
    _, _, line = result.stderr.splitlines()  # how far it is, that it is done
    assert line.startswith("swimmy-scale: no score-ew: ")
    assert run_command("tables", plain, "table-4", "--output", tmp_path).exit_code == 1
    result = run_command("figures", plain, "nonsense")
    assert result.exit_code == 1
    assert "no figure is called nonsense. There are 1" in result.stderr
    assert "not a run directory" in run_command("figures", tmp_path).stderr


def test_tables_are_printed_and_written_beside_the_run(plain: Path) -> None:
    result = run_command("tables", plain)
    assert result.exit_code == 0, result.stderr
    first, last, *lines = result.stderr.splitlines()
    assert first == "tables: 6 tables"
    assert last.startswith("tables: done, 6 tables in ")
    assert [line.partition(": no ")[2].partition(":")[0] for line in lines] == ["table-1", "table-4"]
    assert "SIMULATED data" in result.stdout
    assert "Table 2: galaxies selected as anomalies" in result.stdout
    assert sorted(path.stem for path in (plain / "tables").glob("*.csv")) == [
        "high-but-negative",
        "table-2",
        "table-3",
        "table-6",
    ]


@pytest.mark.parametrize("name", ["figures", "tables"])
def test_help_has_an_example(name: str) -> None:
    assert f"swimmy-scale {name}" in run_command(name, "--help").output.split("Example:")[1]
