"""``cutouts.zarr``: the public names, types and units."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray

from swimmy_scale.cutouts import Cutouts, create_cutouts, cutouts_layout, survey_from_attrs
from swimmy_scale.errors import SwimmyError
from swimmy_scale.survey import HSC, Survey

CONTRACT = {
    "image": (("object", "band", "y", "x"), "float32", "count"),
    "object_id": (("object",), "int64", None),
    "ra": (("object",), "float64", "deg"),
    "dec": (("object",), "float64", "deg"),
    "fwhm_arcsec": (("object", "band"), "float32", "arcsec"),
    "mag": (("object", "band"), "float32", "mag(AB)"),
    "quarantine_code": (("object",), "uint8", None),
    "flags": (("object",), "uint32", None),
}


def test_names_types_and_units(tmp_path: Path) -> None:
    layout = cutouts_layout(10, HSC, {"z_spec": "float64"}, 4, 2, {"simulated": True, "available_columns": []})
    create_cutouts(tmp_path / "cutouts.zarr", layout)
    with xarray.open_zarr(tmp_path / "cutouts.zarr") as ds:
        for name, (dims, dtype, units) in CONTRACT.items():
            assert ds[name].dims == dims
            assert ds[name].dtype == dtype
            assert ds[name].attrs.get("units") == units
        assert ds.image.attrs["zero_point_mag"] == 27.0
        assert ds.image.attrs["pixel_scale_arcsec"] == 0.168
        assert list(ds.band.values) == list("grizy")
        assert ds.z_spec.dtype == "float64"
        assert ds.attrs["format_version"] == 1
        assert ds.flags.attrs["flag_meanings"].split()[0] == "pixelflags_edge"
        assert ds.quarantine_code.attrs["flag_meanings"].split()[5] == "missing_band"


def test_opened_store_knows_its_survey(tmp_path: Path) -> None:
    survey = Survey(name="other", pixel_scale_arcsec=0.2, stretch_alpha=1000.0)
    attrs = {"simulated": False, "available_columns": ["mag_g"]}
    create_cutouts(tmp_path / "c.zarr", cutouts_layout(5, survey, {}, 4, 2, attrs))
    store = Cutouts(tmp_path / "c.zarr")
    assert (store.survey, store.n_objects, store.partition_objects, store.chunk_objects) == (survey, 5, 4, 2)
    with pytest.raises(SwimmyError, match="no valid survey description"):
        survey_from_attrs({"survey": {"colour": "red"}}, Path("x.zarr"))


@pytest.mark.parametrize("name", ["ra", "image", "band", "level"])
def test_kept_columns_do_not_replace_ours(name: str) -> None:
    with pytest.raises(SwimmyError, match=rf"keep_columns: {name} would replace a variable"):
        cutouts_layout(1, HSC, {name: "float64"}, 4, 2, {})
