"""A run as one xarray Dataset: lazy, joined on the object, one line each for what people look up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from small_stores import DEC, OBJECT_ID, RA, N, filled, make_run

import swimmy_scale
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC
from swimmy_scale.storage.cutouts import cutouts_layout
from swimmy_scale.storage.open_run import _between, open_stores
from swimmy_scale.storage.scores import scores_layout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("dataset") / "run")


@pytest.fixture(scope="module")
def ds(run: Path) -> xarray.Dataset:
    return swimmy_scale.open_run(run)


def test_everything_of_both_stores_is_there(run: Path, ds: xarray.Dataset) -> None:
    stores = [xarray.open_zarr(run / f"{name}.zarr") for name in ("selection", "scores", "cutouts")]
    assert set(ds.variables) == set().union(*(store.variables for store in stores))
    for name in ds.variables:
        with next(store for store in stores if name in store.variables) as store:
            assert ds[name].dims == tuple("object_id" if dim == "object" else dim for dim in store[name].dims), name
            assert np.array_equal(ds[name].values, store[name].values, equal_nan=ds[name].dtype.kind == "f"), name
    assert ds.image.dims == ("object_id", "band", "y", "x")
    assert ds.object_id.dtype == np.int64
    assert ds.attrs["model_sha256"] == "ab"
    assert ds.attrs["simulated"] == 1
    assert ds.attrs["Conventions"].startswith("CF-")
    assert ds.attrs["zero_point_mag"] == 27.0
    assert "layout_sha256" not in ds.attrs


def test_variables_say_what_they_are(ds: xarray.Dataset) -> None:
    assert [name for name in ds.variables if "long_name" not in ds[name].attrs] == []
    floats = [name for name in ds.variables if ds[name].dtype.kind == "f" and name not in ds.attrs["kept_columns"]]
    assert [name for name in floats if "units" not in ds[name].attrs] == []
    assert (ds.image.attrs["units"], ds.ra.attrs["units"], ds.fwhm_arcsec.attrs["units"]) == ("count", "deg", "arcsec")


def test_dask_chunks_are_those_of_the_stores(ds: xarray.Dataset) -> None:
    assert ds.image.chunks == ((4, 4, 4, 4, 4), (5,), (64,), (64,))
    assert ds.score.chunks == ((8, 8, 4), (5,))


def test_by_object_id(ds: xarray.Dataset) -> None:
    one = ds.sel(object_id=OBJECT_ID[7], band="i")
    assert float(one.ra) == RA[7]
    assert one.image.dims == ("y", "x")
    assert np.array_equal(one.image.values, ds.image.values[7, 2])
    two = ds.sel(object_id=[OBJECT_ID[9], OBJECT_ID[3]])
    assert two.dec.values.tolist() == [DEC[9], DEC[3]]
    with pytest.raises(KeyError):
        ds.sel(object_id=5)


def test_several_objects_in_their_order(ds: xarray.Dataset) -> None:
    assert ds.swimmy.objects([OBJECT_ID[9], OBJECT_ID[3]]).dec.values.tolist() == [DEC[9], DEC[3]]
    assert ds.swimmy.objects(ds.object_id[[19, 0]]).object_id.values.tolist() == OBJECT_ID[[19, 0]].tolist()
    assert ds.swimmy.objects([]).sizes["object_id"] == 0
    for absent in (5, OBJECT_ID[-1] + 1):
        with pytest.raises(SwimmyError, match=rf"object_id {absent} is not in .*scores.zarr \(1 of 2 are not\)"):
            ds.swimmy.objects([OBJECT_ID[0], absent])


@pytest.mark.parametrize("models", [(), ("0", "1")])
def test_the_most_alike_by_scores_where_there_is_no_descriptor(tmp_path: Path, models: tuple[str, ...]) -> None:
    ds = swimmy_scale.open_run(make_run(tmp_path / "run", models))
    names = ("combined_score", "combined_residual") if models else ("score", "residual")
    score, residual = (ds[name].values.astype(float) for name in names)
    values = np.concatenate([np.log10(np.maximum(score, 1e-9)), residual], axis=1)
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    distance = np.sqrt(np.square(scaled - scaled[7]).mean(axis=1))
    expected = [row for row in np.argsort(distance, kind="stable").tolist() if row != 7][:4]
    found = ds.swimmy.like(OBJECT_ID[7], n=4)
    assert found.object_id.values.tolist() == OBJECT_ID[expected].tolist()
    np.testing.assert_allclose(found.distance.values, distance[expected], rtol=1e-4, atol=1e-6)
    assert ds.swimmy.like(OBJECT_ID[7], n=100).sizes["object_id"] == N - 1
    with pytest.raises(SwimmyError, match="object_id 5 is not in"):
        ds.swimmy.like(5)


def test_an_id_that_comes_twice_is_its_good_row(tmp_path: Path) -> None:
    object_id, code = OBJECT_ID.copy(), np.zeros(N, np.uint8)
    object_id[[4, 12, 17]] = 77
    object_id[[0, 19]] = 88
    code[[0, 4, 17, 19]] = 1
    run = make_run(tmp_path / "run")
    layout = cutouts_layout(N, HSC, {}, 8, 4, {})
    columns = {"object_id": object_id, "ra": RA, "dec": DEC, "quarantine_code": code}
    for name in ("cutouts", "scores"):
        shutil.rmtree(run / f"{name}.zarr")
    filled(layout, run / "cutouts.zarr", **columns)
    filled(scores_layout(N, layout.attrs["survey"], HSC, {}, 8, 4, {}), run / "scores.zarr", **columns)
    ds = swimmy_scale.open_run(run)
    assert (ds.sizes["object_id"], ds.attrs["n_left_out"]) == (N - 3, 3)
    assert ds.object_id.values.tolist() == object_id[np.delete(np.arange(N), [4, 17, 19])].tolist()
    assert ds.sel(object_id=[OBJECT_ID[2], 77]).dec.values.tolist() == [DEC[2], DEC[12]]
    assert ds.swimmy.objects([88]).dec.values.tolist() == [DEC[0]], "all of them are bad: the first"


def test_pandas_and_netcdf(ds: xarray.Dataset, tmp_path: Path) -> None:
    series = ds.score.sel(band="g").to_pandas()
    assert series.index.name == "object_id"
    assert series.loc[OBJECT_ID[7]] == float(ds.score[7, 0])
    frame = ds[["score", "ra"]].sel(band="i").to_dataframe()
    assert frame.loc[OBJECT_ID[3], "ra"] == RA[3]
    ds.to_netcdf(tmp_path / "run.nc")
    with xarray.open_dataset(tmp_path / "run.nc") as back:
        assert back.object_id.dtype == np.int64
        for name in ds.variables:
            assert np.array_equal(back[name].values, ds[name].values, equal_nan=ds[name].dtype.kind == "f"), name
        assert {**back.attrs} == {**ds.attrs}


@pytest.mark.parametrize(
    ("level", "band", "rows"),
    [("2sigma", None, [2, 5, 11, 19]), ("3sigma", None, [5]), ("2sigma", "r", [19]), ("3sigma", "g", [])],
)
def test_by_level(ds: xarray.Dataset, level: str, band: str | None, rows: list[int]) -> None:
    assert ds.swimmy.candidates(level, band).object_id.values.tolist() == OBJECT_ID[rows].tolist()


def test_by_level_in_plain_xarray(ds: xarray.Dataset) -> None:
    plain = ds.isel(object_id=ds.candidate.sel(level="2sigma").any("band").values)
    assert plain.identical(ds.swimmy.candidates("2sigma"))
    assert plain.candidate.dtype == bool
    assert plain.flags.dtype == np.uint32


@pytest.mark.parametrize(
    ("ra", "dec", "n_objects"),
    [
        ((359.0, 1.0), (-90, 90), 6),
        ((-1.0, 1.0), (-90, 90), 6),
        ((1.0, 359.0), (-90, 90), 14),
        ((0, 360), (-90, 90), N),
        ((356.5, 356.5), (-2, -2), 1),
        ((0, 360), (-0.5, 0.5), 4),
        ((10, 300), (-90, 90), 0),
    ],
)
def test_by_sky_box(ds: xarray.Dataset, ra: tuple, dec: tuple, n_objects: int) -> None:
    found = ds.swimmy.box(ra, dec)
    assert found.sizes["object_id"] == n_objects
    assert found.image.chunks is not None


@given(st.floats(0, 360, exclude_max=True), st.floats(-720, 720), st.floats(0, 359.9))
def test_between_goes_east(angle: float, west: float, width: float) -> None:
    offset = (angle - west) % 360
    if min(abs(offset), abs(offset - width), abs(offset - 360)) > 1e-6:
        assert bool(_between(np.array([angle]), (west, west + width))[0]) == (offset <= width)


def test_between_takes_no_missing_position() -> None:
    angles = np.array([np.nan, np.inf, 5.0, -1e-17])
    assert _between(angles, (0, 10)).tolist() == [False, False, True, True]
    assert _between(angles, (0, 360)).tolist() == [False, False, True, True]


def test_opening_reads_no_pixels_and_damage_shows_when_it_is_read(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    first, second, _ = sorted(item for item in (copy / "cutouts.zarr" / "image" / "c").rglob("*") if item.is_file())
    first.write_bytes(b"damaged")
    second.unlink()
    shutil.rmtree(copy / "scores.zarr" / "score" / "c")
    ds = swimmy_scale.open_run(copy)
    assert np.isfinite(ds.sel(object_id=OBJECT_ID[17]).image.values).all()
    for damaged in (ds.image[0], ds.image[9], ds.score):
        with pytest.raises(Exception, match=r"(?i)chunk|checksum|shard|byte"):
            damaged.compute()


def test_several_models(tmp_path: Path) -> None:
    ds = swimmy_scale.open_run(make_run(tmp_path / "run", models=("a", "b")))
    assert ds.score.dims == ("object_id", "model", "band")
    assert ds.combined_score.dims == ("object_id", "band")
    assert ds.sel(object_id=OBJECT_ID[1], model="b", band="g").score.shape == ()
    assert ds.model.attrs["long_name"] == "weight set"
    assert ds.swimmy.candidates("3sigma").sizes["object_id"] == 1


def test_the_cutouts_may_lie_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "store.zarr"
    run = make_run(tmp_path / "run", cutouts=str(elsewhere), catalogue=None, ingest=None)
    assert swimmy_scale.open_run(run).attrs["cutouts"] == str(elsewhere)
    moved = elsewhere.rename(tmp_path / "moved.zarr")
    with pytest.raises(SwimmyError, match=r"store.zarr: the cutouts of .*run are not there. Give open_run"):
        swimmy_scale.open_run(run)
    assert swimmy_scale.open_run(str(run), str(moved)).sizes["object_id"] == N


def test_without_a_selection(tmp_path: Path, run: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(copy / "selection.zarr")
    ds = swimmy_scale.open_run(copy)
    assert "threshold" not in ds
    with pytest.raises(SwimmyError, match="no selection was made yet"):
        ds.swimmy.candidates("2sigma")


def test_refused(tmp_path: Path, run: Path, ds: xarray.Dataset) -> None:
    with pytest.raises(SwimmyError, match=r"no job.yaml in it, so this is not a run directory"):
        swimmy_scale.open_run(tmp_path)
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    root = copy / "scores.zarr" / "zarr.json"
    text = root.read_text()
    root.write_text(text.replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(SwimmyError, match=r"scores.zarr: format_version 7, this version of swimmy_scale reads 1"):
        swimmy_scale.open_run(copy)
    shutil.rmtree(copy / "scores.zarr")
    with pytest.raises(SwimmyError, match=r"no scores.zarr in it: its scoring has not begun. Run `swimmy-scale run`"):
        swimmy_scale.open_run(copy)
    with pytest.raises(SwimmyError, match=r"no level '5sigma'. Choose among 2sigma, 3sigma"):
        ds.swimmy.candidates("5sigma")
    with pytest.raises(SwimmyError, match=r"no band 'u'. Choose among g, r, i, z, y"):
        ds.swimmy.candidates("2sigma", "u")
    with pytest.raises(SwimmyError, match="the smaller declination first"):
        ds.swimmy.box((0, 1), (2, 1))


def test_stores_of_other_objects_do_not_join(tmp_path: Path, run: Path) -> None:
    other = OBJECT_ID.copy()
    other[[4, 6]] = 7, 8
    filled(cutouts_layout(N, HSC, {}, 8, 4, {}), tmp_path / "other.zarr", object_id=other)
    with pytest.raises(SwimmyError) as failure:
        open_stores(run / "scores.zarr", tmp_path / "other.zarr")
    assert f"scores.zarr has object_id {OBJECT_ID[4]} in row 4, " in str(failure.value)
    assert f"{tmp_path / 'other.zarr'} has 7; 2 of 20 differ." in str(failure.value)
    filled(cutouts_layout(3, HSC, {}, 8, 4, {}), tmp_path / "short.zarr", object_id=other)
    with pytest.raises(SwimmyError, match=r"scores.zarr has 20 objects, .*short.zarr has 3"):
        open_stores(run / "scores.zarr", tmp_path / "short.zarr")


def test_importing_the_package_is_light() -> None:
    code = "import sys, swimmy_scale; sys.exit(bool({'xarray', 'numpy', 'zarr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = swimmy_scale.nonsense
