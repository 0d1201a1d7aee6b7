"""``cutouts.zarr``: the public names, types and units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.quarantine import Code
from swimmy_scale.method.sample import ALL_FLAGS, SampleCuts
from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.storage import cutouts
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import Cutouts, SampleRule, cutouts_layout, survey_from_attrs
from swimmy_scale.storage.scores import scores_layout
from swimmy_scale.storage.store import write_partition

CONTRACT = {
    "image": (("object", "band", "y", "x"), "float32", "count"),
    "object_id": (("object",), "int64", None),
    "ra": (("object",), "float64", "deg"),
    "dec": (("object",), "float64", "deg"),
    "fwhm_arcsec": (("object", "band"), "float32", "arcsec"),
    "mag": (("object", "band"), "float32", "mag(AB)"),
    "psf_mag": (("object",), "float32", "mag(AB)"),
    "depth_mag": (("object", "band"), "float32", "mag(AB)"),
    "redshift": (("object",), "float64", "1"),
    "quarantine_code": (("object",), "uint8", None),
    "flags": (("object",), "uint32", None),
}


def test_names_types_and_units(tmp_path: Path) -> None:
    layout = cutouts_layout(10, HSC, {"z_spec": "float64"}, 4, 2, {"simulated": True, "available_columns": []})
    create(tmp_path / "cutouts.zarr", layout)
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
        assert ds.attrs["zero_point_mag"] == 27.0
        assert ds.attrs["pixel_scale_arcsec"] == 0.168
        assert ds.attrs["units"] == "count"
        assert ds.attrs["survey"]["name"] == "HSC-SSP wide"
        assert ds.sizes == {"object": 10, "band": 5, "y": 64, "x": 64}
        assert set(ds.variables) == {*CONTRACT, "sample_class", "band", "z_spec"}
        assert set(ds.coords) == {"object_id", "ra", "dec", "band"}
        assert ds.flags.attrs["flag_masks"] == [2**bit for bit in range(len(ALL_FLAGS))]
        assert len(ds.flags.attrs["flag_meanings"].split()) == len(ALL_FLAGS)
        assert ds.quarantine_code.attrs["flag_values"] == list(range(len(Code) + 1))
        assert ds.flags.attrs["flag_meanings"].split()[0] == "pixelflags_edge"
        assert ds.quarantine_code.attrs["flag_meanings"].split()[5] == "missing_band"


def test_rounded_pixels_say_so(tmp_path: Path) -> None:
    name = "_QuantizeBitRoundNumberOfSignificantBits"
    for path, n_bits in ((tmp_path / "all.zarr", None), (tmp_path / "12.zarr", 12)):
        create(path, cutouts_layout(5, HSC, {}, 4, 2, {}, n_bits))
        with xarray.open_zarr(path) as ds:
            assert ds.image.attrs.get(name) == n_bits
            assert not [other for other in ds.variables if other != "image" and name in ds[other].attrs]
    with pytest.raises(SwimmyError, match="was made with other settings"):
        create(tmp_path / "all.zarr", cutouts_layout(5, HSC, {}, 4, 2, {}, 12))


def test_opened_store_knows_its_survey(tmp_path: Path) -> None:
    survey = Survey(name="other", pixel_scale_arcsec=0.2, stretch_alpha=1000.0)
    attrs = {"simulated": False, "available_columns": ["mag_g"]}
    create(tmp_path / "c.zarr", cutouts_layout(5, survey, {}, 4, 2, attrs))
    store = Cutouts(tmp_path / "c.zarr")
    assert (store.survey, store.n_objects, store.partition_objects, store.chunk_objects) == (survey, 5, 4, 2)
    with pytest.raises(SwimmyError, match="no valid survey description"):
        survey_from_attrs({"survey": {"colour": "red"}}, Path("x.zarr"))


@pytest.mark.parametrize(
    "name",
    [
        *("ra", "image", "sample_class", "quarantine_code", "band", "y", "level"),  # its own
        *("score", "residual", "in_sample", "threshold", "candidate", "model", "combined_score"),  # of scores.zarr
        *("bands", "score_g", "residual_i"),  # of the candidate catalogue
    ],
)
def test_kept_columns_do_not_replace_ours(name: str) -> None:
    with pytest.raises(SwimmyError, match=rf"keep_columns: {name} would replace a variable.*rename it"):
        cutouts_layout(1, HSC, {name: "float64"}, 4, 2, {})


@pytest.mark.parametrize("name", ["", ".", "..", " ", "a/b", "../x", "zarr.json"])
def test_kept_columns_that_cannot_be_arrays_are_refused(name: str) -> None:
    with pytest.raises(SwimmyError, match=r"cannot name an array\. Leave it out"):
        cutouts_layout(1, HSC, {name: "float64"}, 4, 2, {})


def test_depth_limits_come_from_the_patches_known_in_each_band(tmp_path: Path) -> None:
    from small_stores import filled  # here, because another test imports this file in a bare process

    depths = 25.0 + np.arange(20, dtype=np.float32) / 8
    by_object = np.repeat(np.stack([depths] * 5, axis=1), 3, axis=0)  # three objects a patch: each patch counts once
    by_object[:, 4] = np.nan
    by_object[:9, 0] = 99.0
    layout = cutouts_layout(60, Survey(cutout_size_px=16), {}, 32, 8, {"available_columns": ["depth_mag_g"]})
    filled(layout, tmp_path / "c.zarr", depth_mag=by_object)
    rule = SampleRule.of(Cutouts(tmp_path / "c.zarr"), SampleCuts(depth_percentile=10.0))
    expected = [np.percentile(depths[3:], 10), *[np.percentile(depths, 10)] * 3, np.nan]
    np.testing.assert_allclose(rule.min_depth_mag, expected)


def test_a_cut_by_masks_is_made_where_one_raised_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from small_stores import filled

    monkeypatch.setattr(cutouts, "_FLAGS_AT_ONCE", 16)
    layout = cutouts_layout(60, Survey(cutout_size_px=16), {}, 32, 8, {"available_columns": ["mag_g"]})
    masked = np.uint32(1 << ALL_FLAGS.index("masked_center"))
    for name, row, bits, wanted in (
        ("masked", 59, masked, ("mag_g", "masked_center")),
        ("other flags", 30, ~masked, ("mag_g",)),
    ):
        flags = np.zeros(60, np.uint32)
        flags[row] = bits
        filled(layout, tmp_path / name, flags=flags)
        store = Cutouts(tmp_path / name)
        assert SampleRule.of(store, SampleCuts()).available == wanted
        assert SampleRule.of(store, SampleCuts(flags=())).available == ("mag_g",)


def test_kept_columns_come_back_in_both_stores(tmp_path: Path) -> None:
    survey = Survey(cutout_size_px=16)
    kept = {"mag(AB)": "float32", "é name": "string", "tract": "int64", "good": "bool"}
    layout = cutouts_layout(3, survey, kept, 2, 1, {})
    create(tmp_path / "c.zarr", layout)
    rng = np.random.default_rng(0)
    for partition in range(2):
        n = len(layout.rows(partition))
        values: dict[str, Any] = {
            variable.name: np.array(["é"] * n, dtype=object)
            if variable.dtype == "string"
            else rng.integers(0, 2, layout.shape(variable, n)).astype(variable.dtype)
            for variable in layout.variables
        }
        values["image"][0] = np.nan
        write_partition(tmp_path / "c.zarr", layout, partition, values)
    store = Cutouts(tmp_path / "c.zarr")
    assert store.kept == kept
    assert store.read("é name", 0, 3).tolist() == ["é"] * 3
    assert {name: store.read(name, 0, 3).dtype.kind for name in kept} == dict(zip(kept, "fUib", strict=True))
    images = store.images(1, 3)
    assert (images.shape, images.dtype) == ((2, 5, 16, 16), np.float32)
    assert np.isnan(images[1]).all()
    create(tmp_path / "s.zarr", scores_layout(3, store.attrs["survey"], survey, kept, 2, 1, {}))
    with xarray.open_zarr(tmp_path / "s.zarr") as ds:
        assert set(kept) <= set(ds.variables)


@pytest.mark.parametrize("key", ["partition_objects", "chunk_objects", "kept_columns", "survey"])
def test_a_store_without_its_attributes_is_refused(tmp_path: Path, key: str) -> None:
    path = tmp_path / "c.zarr"
    create(path, cutouts_layout(5, HSC, {}, 4, 2, {}))
    root = json.loads((path / "zarr.json").read_text())
    del root["attributes"][key]
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(SwimmyError, match=rf"c\.zarr: .*{key}.*Ingest it again"):
        Cutouts(path)


def test_a_store_without_its_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.zarr"
    create(path, cutouts_layout(5, HSC, {}, 4, 2, {}))
    (path / "image/zarr.json").write_text("{}")
    with pytest.raises(SwimmyError, match=r"c\.zarr: the metadata of image are damaged or missing"):
        Cutouts(path)
