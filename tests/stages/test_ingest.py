"""What `ingest` makes of catalogues as people have them: from the file to who is in the sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from survey_runs import call_here

from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.survey import HSC
from swimmy_scale.storage.cutouts import Cutouts, SampleRule
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import ledger_beside

FIRST_ID = 43158172147386000


def catalogue(n: int) -> Table:
    """Galaxies that pass every cut."""
    rows = np.arange(n)
    table = Table({"object_id": FIRST_ID + rows, "ra": 150.0 + rows / 100, "dec": np.full(n, 2.0)})
    for k, band in enumerate(HSC.bands):
        table[f"fwhm_arcsec_{band}"] = np.full(n, 0.7, np.float32)
        table[f"{band}_cmodel_mag"] = np.full(n, 18 - 0.2 * k, np.float32)
    table["i_psfflux_mag"] = np.full(n, 18.5, np.float32)
    return table


def ingest(folder: Path, n: int, *options: str) -> tuple[Cutouts, list[str]]:
    """The store that the command makes of ``cat.fits`` and a cube of noise, and the warnings in its receipt."""
    np.save(folder / "cube.npy", np.random.default_rng(1).normal(size=(n, 5, 64, 64)).astype(np.float32))
    output = folder / "cutouts.zarr"
    words = ["ingest", folder / "cube.npy", "--catalog", folder / "cat.fits", "--output", output, "--workers", "0"]
    done = call_here(*words, *options)
    assert done.returncode == 0, done.stderr
    receipt = ledger_beside(output, "ingest").read(FINISHED)
    assert receipt is not None
    return Cutouts(output), list(receipt.details["warnings"])


def in_sample(store: Cutouts) -> list[bool]:
    n = store.n_objects
    rule = SampleRule.of(store, SampleCuts())
    return rule.apply(store, 0, n, store.read("quarantine_code", 0, n) == 0)[0].tolist()


def test_marks_of_unknown_magnitudes(tmp_path: Path) -> None:
    table = catalogue(8)
    for row, value in ((1, -99), (2, -999), (7, 99)):
        table["i_cmodel_mag"][row] = value
    table["r_cmodel_mag"][3], table["z_cmodel_mag"][4], table["g_cmodel_mag"][5] = 99, -99, -99
    table["i_psfflux_mag"][6] = 99
    table.write(tmp_path / "cat.fits")
    store, warnings = ingest(tmp_path, len(table))
    assert in_sample(store) == [True] + [False] * 7
    assert any("of 8 rows: g_cmodel_mag 1, such as -99; r_cmodel_mag 1" in warning for warning in warnings)


def test_one_galaxy_in_two_tracts(tmp_path: Path) -> None:
    table = catalogue(6)
    table["ra"][3], table["dec"][3] = table["ra"][0], table["dec"][0] + 0.02 / 3600
    table["isprimary"] = [True, True, True, False, True, True]
    table.write(tmp_path / "cat.fits")
    store, warnings = ingest(tmp_path, len(table))
    assert in_sample(store) == [True, True, True, False, True, True]
    assert any("1 pair of objects closer than 0.5 arcsec" in warning for warning in warnings)


def test_options_that_describe_a_catalogue(tmp_path: Path) -> None:
    table = catalogue(3)
    table["alpha"] = np.radians(table["ra"])
    table.remove_columns(["ra", *(f"fwhm_arcsec_{band}" for band in HSC.bands)])
    card = fits.BinTableHDU(Table({"Field Header Card": ["SIMPLE = T"]}), name="LDAC_IMHEAD")
    hdus = [card, fits.BinTableHDU(table, name="OBJECTS"), fits.BinTableHDU(table, name="LDAC_OBJECTS")]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "cat.fits")
    options = ["--hdu", "3", "--column", "ra=alpha", "--unit", "ra=rad", "--pair-radius", "60"]
    seeing = [word for band in HSC.bands for word in ("--fwhm", f"{band}=0.75")]
    store, warnings = ingest(tmp_path, 3, *options, *seeing)
    np.testing.assert_allclose(store.read("ra", 0, 3), [150.0, 150.01, 150.02], rtol=1e-14)
    assert (store.read("fwhm_arcsec", 0, 3) == np.float32(0.75)).all()
    assert in_sample(store) == [True] * 3
    assert any("0.75 in g for 3, 0.75 in r for 3" in warning for warning in warnings)
    assert any("2 pairs of objects closer than 60 arcsec" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--fwhm=g", "'g' is not of the form BAND=ARCSEC"),
        ("--fwhm=g=wide", "'wide' is no number"),
        ("--fwhm=g=99", "need arcsec between 0 and 50"),
        ("--unit=rad", "'rad' is not of the form OURS=UNIT"),
        ("--column=ra", "'ra' is not of the form OURS=THEIRS"),
        ("--pair-radius=-1", "must be a number, 0 or more and 60 or less, found '-1'"),
    ],
)
def test_options_of_a_wrong_form(option: str, message: str, tmp_path: Path) -> None:
    done = call_here("ingest", "cube.npy", "--catalog", "c.fits", "--output", tmp_path / "o.zarr", option)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
