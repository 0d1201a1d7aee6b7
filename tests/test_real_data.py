"""Real survey data through the whole path, or into quarantine with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy import ndimage
from survey_runs import NETWORK, call_here, run_serially, write_job

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
    with xarray.open_zarr(field / "scores.zarr") as ds:
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
    with xarray.open_zarr(tmp_path / "run" / "scores.zarr") as ds:
        positive = (ds.residual.values[:, :3] > 0).any(axis=1) & ds.in_sample.values
    assert carried["selected"]["2sigma"]["rows"]["any"]["sample"]["n_selected"] == int(positive.sum())


def test_survey_without_its_own_target_is_quarantined(shared_data: Path, tmp_path: Path) -> None:
    """With HSC's 1.0 arcsec every object of this field is above the target, so there is no sample."""
    with pytest.raises(SwimmyError, match="nothing to train on"):
        run_serially(field_job(tmp_path, shared_data, target_fwhm=1.0), tmp_path / "run")
    records = Table.read(tmp_path / "run" / "quarantine.csv", format="csv")
    assert len(records) == 40
    assert "fwhm_above_target" in set(records["code"])


@pytest.mark.parametrize(
    ("folder", "catalogue", "columns", "reason"),
    [
        ("hsc_gri_G79635", None, (), "no file for bands z, y"),
        (
            "hsc_das_format_stars",
            "star_cat_correct.fits",
            ("ra=ira", "dec=idec"),
            r"no file for bands g, r, z, y; i: the image has",
        ),
    ],
)
def test_incomplete_objects_are_quarantined(
    shared_data: Path, tmp_path: Path, folder: str, catalogue: str | None, columns: tuple[str, ...], reason: str
) -> None:
    path = tmp_path / "catalogue.csv" if catalogue is None else shared_data / folder / catalogue
    if catalogue is None:
        path.write_text("object_id,ra,dec\n79635,222.51551376,0.09749601\n")
    options = [option for column in columns for option in ("--column", column)]
    output = tmp_path / "cutouts.zarr"
    result = call_here("ingest", shared_data / folder, "--catalog", path, "--output", output, "--workers", 0, *options)
    assert result.returncode == 3, result.stderr
    records = Table.read(tmp_path / "cutouts.quarantine.csv", format="csv")
    n_objects = 1 if catalogue is None else 10
    assert len(records) == n_objects
    assert result.stdout.startswith(f"{n_objects} given = 0 ingested + {n_objects} quarantined")
    assert set(records["code"]) == {"missing_band"}
    assert all(reason in str(text) for text in records["reason"])
    with xarray.open_zarr(output) as ds:
        assert ds.sizes["object"] == n_objects
        assert (ds.quarantine_code == 5).all()
        assert bool(np.isnan(ds.image.values).all())
