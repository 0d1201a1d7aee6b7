"""Real survey data through the whole path, or into quarantine with a reason."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy import ndimage
from survey_runs import NETWORK, call_here, opened, run_serially, write_job

from swimmy_scale.errors import SwimmyError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

PIXEL_SCALE_ARCSEC = 0.3
SEEING_PX = {"g": 2.9, "r": 2.8, "i": 3.2, "z": 3.4, "y": 3.5}


def field_with_wcs(source: Path, folder: Path) -> dict[str, str]:
    """Copies of the coadds with a TAN WCS and a zero point of counts as equation 1 expects them."""
    folder.mkdir()
    paths = {}
    for band in "grizy":
        with fits.open(source / f"{band}.fits.fz") as hdulist:
            data = hdulist[1].data
            header = fits.Header()
            header["MAGZERO"] = hdulist[1].header["MAGZERO"]
        header.update(
            CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRPIX1=650.5, CRPIX2=650.5, CRVAL1=180.0, CRVAL2=0.0,
            CD1_1=-PIXEL_SCALE_ARCSEC / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=PIXEL_SCALE_ARCSEC / 3600, FILTER=band,
        )  # fmt: skip
        paths[band] = str(folder / f"{band}.fits.fz")
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header)]).writeto(paths[band])
    return paths


def bright_positions(path: str, n_objects: int) -> np.ndarray:
    """Pixel positions (x, y) of the brightest peaks of a smoothed image, some of them near its edges."""
    with fits.open(path) as hdulist:
        smooth = ndimage.gaussian_filter(np.nan_to_num(hdulist[1].data.astype(np.float64)), 2.0)
    peaks = (ndimage.maximum_filter(smooth, 25) == smooth) & (smooth > 0)
    y, x = np.nonzero(peaks)
    order = np.argsort(-smooth[y, x])[:n_objects]
    return np.stack([x[order], y[order]], axis=1).astype(float)


def field_job(folder: Path, shared_data: Path, target_fwhm: float = 1.2) -> Path:
    paths = field_with_wcs(shared_data / "kids_viking_quadrant", folder / "coadds")
    positions = bright_positions(paths["i"], 40)
    with fits.open(paths["i"]) as hdulist:
        ra, dec = WCS(hdulist[1].header).all_pix2world(positions, 0).T
    table = Table({"ID": np.arange(1, len(ra) + 1, dtype=np.int64), "RAJ2000": ra, "DEJ2000": dec})
    for band, seeing in SEEING_PX.items():
        table[f"fwhm_arcsec_{band}"] = np.full(len(ra), seeing * PIXEL_SCALE_ARCSEC)
    table.write(folder / "catalogue.ecsv")
    return write_job(
        folder / "job.yaml",
        folder,
        survey={
            "name": "KiDS and VIKING",
            "pixel_scale_arcsec": PIXEL_SCALE_ARCSEC,
            "target_fwhm_arcsec": target_fwhm,
        },
        catalogue={
            "path": "catalogue.ecsv",
            "columns": {"object_id": "ID", "ra": "RAJ2000", "dec": "DEJ2000"},
        },
        ingest={"coadd": {band: f"coadds/{band}.fits.fz" for band in "grizy"}},
        sample={"max_fwhm_arcsec": target_fwhm},
        train={
            "network": NETWORK,
            "schedule": {"epochs": 2, "keep_from_epoch": 1, "batch_size": 4},
            "classes": [],
            "n_threads": 1,
        },
    )


@pytest.fixture(scope="module")
def field(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run of a field of coadds."""
    folder = tmp_path_factory.mktemp("field")
    run_serially(field_job(folder, shared_data), folder / "run")
    return folder / "run"


def test_kids_field_to_a_catalogue(field: Path) -> None:
    summary = json.loads((field / "summary.json").read_text())
    assert summary["given"] == 40 == summary["scored"] + summary["quarantined"]
    assert set(summary["quarantined_by_code"]) <= {"position_outside", "not_finite_pixels"}
    assert summary["quarantined_by_code"]["position_outside"] > 0
    assert summary["scored"] > 20
    assert summary["survey"] == "KiDS and VIKING"
    assert not summary["simulated"]
    assert {cut["note"] for cut in summary["cuts"] if cut["name"] == "magnitude"} == {"no data"}
    table = Table.read(field / "candidates.fits")
    assert 0 < len(table) == summary["selected"]["2sigma"]["rows"]["any"]["sample"]["n_selected"]
    with opened(field) as ds:
        assert int(np.isfinite(ds.score.values).all(axis=1).sum()) == summary["scored"]
        sample = ds.score.values[ds.in_sample.values].astype(np.float64)
        assert np.array_equal(ds.threshold.values[0], np.quantile(sample, 0.95, axis=0))


def test_thresholds_carried_over(field: Path, tmp_path: Path) -> None:
    shutil.copytree(field, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    lowered = {level: dict.fromkeys(by_band, 0.0) for level, by_band in summary["thresholds"].items()}
    (tmp_path / "other.json").write_text(json.dumps({**summary, "thresholds": lowered}))
    result = call_here(
        "select", tmp_path / "run" / "scores.zarr", "--output", tmp_path / "all", "--thresholds-from",
        tmp_path / "other.json",
    )  # fmt: skip
    assert result.returncode == 3, result.stderr
    carried = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert carried["thresholds"] == lowered
    with opened(tmp_path / "run") as ds:
        positive = (ds.residual.values[:, :3] > 0).any(axis=1) & ds.in_sample.values
    assert carried["selected"]["2sigma"]["rows"]["any"]["sample"]["n_selected"] == int(positive.sum())


def test_a_survey_without_its_own_target_is_refused(shared_data: Path, tmp_path: Path) -> None:
    """With HSC's 1.0 arcsec every object of this field is above the target, which the catalogue alone tells."""
    with pytest.raises(
        SwimmyError, match=r"all 40 objects would be in quarantine: 40 fwhm_above_target \(PSF FWHM is 1"
    ):
        run_serially(field_job(tmp_path, shared_data, target_fwhm=1.0), tmp_path / "run")
    assert not (tmp_path / "run/cutouts.zarr").exists()


STARS = ("star_cat_correct.fits", "--column", "ra=ira", "--column", "dec=idec")


@pytest.mark.parametrize(
    ("folder", "catalogue", "bands", "reason"),
    [
        ("hsc_gri_G79635", ("catalogue.csv",), "grizy", r"all 1 .* missing_band \(no pixels in bands z, y\)"),
        ("hsc_das_format_stars", STARS, "grizy", r"all 10 .* missing_band \(no pixels in bands g, r, z, y\)"),
        ("hsc_das_format_stars", STARS, "", r"all 10 .* fwhm_missing \(no PSF FWHM in g, r, i, z, y: no column"),
    ],
)
def test_data_of_which_nothing_would_come_out_are_refused(
    shared_data: Path, tmp_path: Path, folder: str, catalogue: tuple[str, ...], bands: str, reason: str
) -> None:
    (tmp_path / "catalogue.csv").write_text("object_id,ra,dec\n79635,222.51551376,0.09749601\n")
    name, *options = catalogue
    path = tmp_path / name if name == "catalogue.csv" else shared_data / folder / name
    seeing = [option for band in bands for option in ("--fwhm", f"{band}=0.8")]
    words = ("--catalog", path, "--output", tmp_path / "c.zarr", "--workers", 0, *options, *seeing)
    result = call_here("ingest", shared_data / folder, *words)
    assert result.returncode == 1
    assert re.search(reason, result.stderr), result.stderr
    assert not (tmp_path / "c.zarr").exists()


def test_stamps_that_are_too_small_are_quarantined(shared_data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "i.yaml"
    settings.write_text("survey: {bands: [i], selecting_bands: [i], band_divisors: [1], min_depth_mag: [25]}\n")
    folder, output, (name, *options) = shared_data / "hsc_das_format_stars", tmp_path / "cutouts.zarr", STARS
    words = ("--catalog", folder / name, "--output", output, "--workers", 0, *options, "--fwhm", "i=0.8")
    result = call_here("ingest", folder, *words, "--settings", settings)
    assert result.returncode == 3, result.stderr
    assert result.stdout.startswith("10 given = 0 ingested + 10 quarantined")
    records = Table.read(tmp_path / "cutouts.quarantine.csv", format="csv")
    assert list(records["code"]) == 10 * ["wrong_shape"]
    assert all(
        re.search(r"the image has \d+ x \d+ px \(x, y\), 64 x 64 are needed", str(text)) for text in records["reason"]
    )
    with xarray.open_zarr(output) as ds:
        assert ds.sizes["object"] == 10
        assert (ds.quarantine_code > 0).all()
        assert bool(np.isnan(ds.image.values).all())
