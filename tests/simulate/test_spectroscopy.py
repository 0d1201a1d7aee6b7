"""Simulated tables of spectra have the published columns and agree with the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.stats import spearmanr

from swimmy_scale.ingest.spectroscopy.matching import find_counterparts
from swimmy_scale.method.sections import MpaJhuSection, SpectroscopySection
from swimmy_scale.simulate import SimulationPlan
from swimmy_scale.simulate.galaxies import draw_objects
from swimmy_scale.simulate.spectroscopy import TABLES, spec_obj_id, write_spectroscopy
from swimmy_scale.simulate.tables import catalogue_columns, truth_columns
from swimmy_scale.storage.counterparts import Counterparts

PLAN = SimulationPlan(
    600, seed=4, xelg_fraction=0.05, quasar_fraction=0.05, type1_agn_fraction=0.05, type2_agn_fraction=0.05,
    n_objects_per_tar=600,
)  # fmt: skip

Columns = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def drawn() -> tuple[Columns, Columns]:
    objects, _ = draw_objects(PLAN, 0)
    catalogue = catalogue_columns(PLAN, 0, objects)
    return catalogue, truth_columns(PLAN, objects, catalogue)


@pytest.fixture(scope="module")
def folder(drawn: tuple[Columns, Columns], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survey")
    write_spectroscopy(path, PLAN, *drawn)
    return path / "spectroscopy"


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, fits.FITS_rec]:
    return {name: fits.getdata(folder / f"{name}.fits", 1) for name in TABLES}


@pytest.fixture(scope="module")
def found(drawn: tuple[Columns, Columns], folder: Path) -> tuple[Counterparts, np.ndarray]:
    """Counterparts of all objects, and the row of the truth for each."""
    catalogue, _ = drawn
    rows = np.arange(len(catalogue["ra"]))
    section = SpectroscopySection(
        sdss=folder / "specObj.fits",
        gama=folder / "GAMA.fits",
        mpa_jhu=MpaJhuSection(**{name: folder / f"galSpec{name.title()}.fits" for name in ("info", "line", "extra")}),
        dr16q=folder / "DR16Q.fits",
        milliquas=folder / "milliquas.fits",
    )
    usable = np.ones(len(rows), np.bool_)
    counterparts, simulated, _ = find_counterparts(rows, catalogue["ra"], catalogue["dec"], usable, section)
    assert simulated
    return counterparts, counterparts.object_id


def test_every_object_with_a_redshift_has_it_from_the_tables(
    drawn: tuple[Columns, Columns], found: tuple[Counterparts, np.ndarray]
) -> None:
    counterparts, rows = found
    redshift = drawn[0]["specz_redshift"]
    known = np.isfinite(counterparts.redshift)
    assert set(rows[known].tolist()) == set(np.flatnonzero(np.isfinite(redshift)).tolist())
    np.testing.assert_allclose(counterparts.redshift[known], redshift[rows[known]], atol=6e-4)
    assert set(counterparts.redshift_source[known].tolist()) == {"SDSS", "GAMA"}


def test_widths_are_the_truths_within_their_errors(
    drawn: tuple[Columns, Columns], found: tuple[Counterparts, np.ndarray]
) -> None:
    counterparts, rows = found
    truth = drawn[1]
    plain = np.isin(truth["kind"][rows], ["normal", "xelg", "type2_agn"]) & counterparts.is_mpa_jhu
    assert np.count_nonzero(plain) > 200
    for group, n_lines in (("oii", 2), ("hb_oiii", 3), ("ha_nii", 3)):
        error = 0.4 * 10.0 ** (0.15 * (truth["i_mag"][rows] - 17.5)) * np.sqrt(n_lines)
        pull = ((getattr(counterparts, f"ew_{group}") - truth[f"ew_{group}"][rows]) / error)[plain]
        known = np.isfinite(pull)
        assert 0.9 < known.mean() < 1.0  # some lines are masked, some spectra unreliable
        assert abs(np.mean(pull[known])) < 0.25
        assert 0.85 < np.std(pull[known]) < 1.15


def test_classes_come_out_of_the_tables(drawn: tuple[Columns, Columns], found: tuple[Counterparts, np.ndarray]) -> None:
    counterparts, rows = found
    kind = drawn[1]["kind"][rows]
    measured = np.isfinite(counterparts.ew_hb_oiii + counterparts.ew_ha_nii + counterparts.ew_oii)
    assert counterparts.is_xelg[(kind == "xelg") & measured].mean() > 0.95
    # Ordinary galaxies stay below 90 Angstrom: only noise can make an XELG of one.
    assert not counterparts.is_xelg[np.isin(kind, ["normal", "merger"])].mean() > 0.005
    assert set(kind[counterparts.is_quasar].tolist()) == {"quasar"}
    assert 0.4 < counterparts.is_quasar[kind == "quasar"].mean() < 0.6
    assert counterparts.is_agn_candidate[kind == "type2_agn"].mean() > 0.95
    # Composites and the like among the normal galaxies of MPA-JHU; in table 1 they are 3,862 of 25,714.
    normal = (kind == "normal") & counterparts.is_mpa_jhu
    assert 0.05 < counterparts.is_agn_candidate[normal].mean() < 0.2
    assert 0.4 < counterparts.is_mpa_jhu.mean() < 0.7
    types = {
        name: set(counterparts.milliquas_type[kind == name].tolist()) for name in ("quasar", "type1_agn", "type2_agn")
    }
    assert types == {"quasar": {"quasar"}, "type1_agn": {"type1_agn", ""}, "type2_agn": {"type2_agn", ""}}


def test_quasars_of_dr16q_have_the_brighter_nuclei(
    drawn: tuple[Columns, Columns], found: tuple[Counterparts, np.ndarray]
) -> None:
    counterparts, rows = found
    truth = {name: values[rows] for name, values in drawn[1].items()}
    nucleus = truth["i_mag"] - 2.5 * np.log10(np.maximum(truth["nucleus_fraction"], 1e-9))
    quasars = truth["kind"] == "quasar"
    assert nucleus[quasars & counterparts.is_quasar].max() <= nucleus[quasars & ~counterparts.is_quasar].min()


def test_masses_and_rates_follow_the_main_sequence(
    drawn: tuple[Columns, Columns], found: tuple[Counterparts, np.ndarray]
) -> None:
    counterparts, rows = found
    mass, rate = counterparts.log_stellar_mass, counterparts.log_sfr
    known = np.isfinite(mass) & np.isfinite(rate)
    assert 0.9 < known[counterparts.is_mpa_jhu].mean() < 1.0
    assert 8.0 < np.quantile(mass[known], 0.02) < np.quantile(mass[known], 0.98) < 12.0
    young = drawn[1]["young_fraction"][rows]
    forming, passive = known & (young > 0.35) & (young < 0.84), known & (young < 0.25)
    assert spearmanr(mass[forming], rate[forming]).statistic > 0.5
    offset = rate - (0.76 * mass - 7.64)
    assert abs(np.median(offset[forming])) < 0.15
    assert np.median(offset[passive]) < -0.9


def test_tables_have_published_columns_and_belong_together_by_row(tables: dict[str, fits.FITS_rec]) -> None:
    assert {"PLUG_RA", "PLUG_DEC", "Z", "ZWARNING", "CLASS", "SPECPRIMARY"} <= set(tables["specObj"].names)
    assert {"SPECID", "RA", "DEC", "Z", "NQ"} <= set(tables["GAMA"].names)
    assert {"OIII_5007_EQW", "OIII_5007_EQW_ERR", "SPECOBJID"} <= set(tables["galSpecLine"].names)
    info = tables["galSpecInfo"]
    assert len({len(tables[name]) for name in ("specObj", "galSpecInfo", "galSpecLine", "galSpecExtra")}) == 1
    measured = info["PLATEID"] > 0
    assert np.count_nonzero(~measured) > 0
    assert set(info["SPECOBJID"][~measured].tolist()) == {-1}
    ids = np.array([int(text) for text in tables["specObj"]["SPECOBJID"]])
    np.testing.assert_array_equal(info["SPECOBJID"][measured], ids[measured])
    assert (tables["galSpecLine"]["H_ALPHA_EQW_ERR"][~measured] < 0).all()
    assert (tables["galSpecExtra"]["LGM_TOT_P50"][~measured] == -9999).all()


def test_identifier_is_sdsss_own() -> None:
    # Spectrum 0266-51602-0107 of the archive.
    assert spec_obj_id(*(np.array([value]) for value in (266, 51602, 107)))[0] == 299518814033307648


def test_tables_hold_what_real_ones_do(tables: dict[str, fits.FITS_rec]) -> None:
    spectra, lines = tables["specObj"], tables["galSpecLine"]
    assert set(spectra["ZWARNING"][spectra["SPECPRIMARY"] == 0].tolist()) == {4}
    assert (tables["GAMA"]["NQ"] < 3).any()
    measured = tables["galSpecInfo"]["PLATEID"] > 0
    assert (lines["H_ALPHA_EQW_ERR"][measured] < 0).any()  # masked lines
    assert (lines["NII_6548_EQW"] > 50).any()  # broken fits of broad lines
    assert (tables["DR16Q"]["DEC"] > 20).sum() == 20  # sources that are not in the catalogue


def test_same_plan_gives_the_same_bytes(drawn: tuple[Columns, Columns], folder: Path, tmp_path: Path) -> None:
    write_spectroscopy(tmp_path, PLAN, *drawn)
    assert {path.stem for path in (tmp_path / "spectroscopy").iterdir()} == set(TABLES)
    for name in TABLES:
        assert (tmp_path / "spectroscopy" / f"{name}.fits").read_bytes() == (folder / f"{name}.fits").read_bytes()
        assert fits.getheader(folder / f"{name}.fits", 1)["SIMULATE"] is True
