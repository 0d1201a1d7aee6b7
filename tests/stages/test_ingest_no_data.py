"""The ingest stage: what it writes of objects whose pixels hold no data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import xarray as xr
from archive_files import DECS, IDS, RAS, pixels_of
from astropy.table import Table
from survey_runs import call_here

from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.sample import ALL_FLAGS, FLAG_NAMES


def test_pixels_without_data(tmp_path: Path) -> None:
    """In the aperture they are a fault, outside of it a flag."""
    image = np.array([[pixels_of(row, band) for band in range(5)] for row in range(6)])
    image[0, 4] = 0.0  # y is not covered
    image[1, 1, :, :40] = 0.0  # zeros over the middle of r
    image[2] = 0.0
    image[3, 2, 60:] = -99.0  # beyond the edge of i
    table = Table({"object_id": IDS[:6], "ra": RAS[:6], "dec": DECS[:6]})
    for band in "grizy":
        table[f"fwhm_arcsec_{band}"] = 0.7
    table.write(tmp_path / "catalogue.fits")
    np.save(tmp_path / "cube.npy", image)
    output = tmp_path / "cutouts.zarr"
    done = call_here(
        "ingest", tmp_path / "cube.npy", "--catalog", tmp_path / "catalogue.fits", "--output", output, "--workers", 0
    )
    assert done.stdout == "6 given = 3 ingested + 3 quarantined\n"
    with xr.open_zarr(output) as store:
        assert store.quarantine_code.values.tolist() == [Code.NO_DATA] * 3 + [0] * 3
        assert store.flags.values.tolist() == [0, 0, 0, 1 << len(FLAG_NAMES), 0, 0]
        assert store.flags.attrs["flag_meanings"].split() == list(ALL_FLAGS)
        assert store.attrs["available_columns"].count("partly_empty") == 1
        assert np.isnan(store.image.values[:3]).all()
        np.testing.assert_array_equal(store.image.values[3:], image[3:])
    with (tmp_path / "cutouts.quarantine.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["code"], row["band"]) for row in rows] == [("no_data", "y"), ("no_data", "r"), ("no_data", "g")]
    assert rows[0]["reason"].startswith("y: 32 of 32 pixels of the central aperture hold no data, but 0 like 4096 of")
