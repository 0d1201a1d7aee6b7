"""The public names: the numbers of a run, from arrays and lazy objects that a user holds."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray
from astropy.table import Table
from survey_runs import NETWORK

import swimmy_scale as ss
from swimmy_scale.storage.scores import Scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(finished: Path) -> Path:
    return finished / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> ss.Weights:
    return ss.load_model(run)


@pytest.fixture(scope="module")
def dataset(run: Path) -> xarray.Dataset:
    return ss.open_cutouts(run / "cutouts.zarr")


@pytest.fixture(scope="module")
def wanted(run: Path, dataset: xarray.Dataset) -> dict[str, np.ndarray[Any, Any]]:
    """What the run has for each object of the dataset; NaN where it is in quarantine."""
    scores = Scores(run / "scores.zarr")
    # Of rows that share an id the good one comes last here.
    order = np.argsort(scores.read("quarantine_code") == 0, kind="stable")
    place = dict(zip(scores.read("object_id")[order].tolist(), order.tolist(), strict=True))
    rows = [place[one] for one in dataset["object_id"].values.tolist()]
    return {name: scores.read(name)[rows] for name in ("score", "residual")}


def test_ten_lines_give_the_bytes_of_a_run(run: Path, tmp_path: Path) -> None:
    ds = ss.open_cutouts(run / "cutouts.zarr")
    ds = ds.merge(ss.load_model(run).score(ds.image, ds.fwhm_arcsec), combine_attrs="drop_conflicts").load()
    ds["in_sample"] = ss.sample(ds)
    threshold = ss.thresholds(ds.score[ds.in_sample], {"2sigma": 0.05, "3sigma": 0.003, "3.5sigma": 0.000465})
    table = ss.candidates(ds, threshold, ["2sigma", "3sigma", "3.5sigma"], keep_columns=["i_cmodel_mag"])
    files = ss.write_candidates(table, tmp_path)
    assert len(table) > 3
    for name, path in files.items():
        assert path.read_bytes() == (run / f"candidates.{name}").read_bytes(), name


def test_scores_are_those_of_the_run(
    model: ss.Weights, dataset: xarray.Dataset, wanted: dict[str, np.ndarray[Any, Any]]
) -> None:
    image, fwhm = dataset.image.values, dataset.fwhm_arcsec.values
    found = model.score(image, fwhm)
    assert found.score.dtype == found.residual.dtype == np.float32
    np.testing.assert_array_equal(found.score, wanted["score"])
    np.testing.assert_array_equal(found.residual, wanted["residual"])
    assert np.isnan(found.score).any(), "objects in quarantine"


@pytest.mark.parametrize("n_objects", [1, 7, 64, 1000])
def test_lazy_in_lazy_out_with_the_same_bits(
    model: ss.Weights, dataset: xarray.Dataset, wanted: dict[str, np.ndarray[Any, Any]], n_objects: int
) -> None:
    part = dataset.isel(object_id=slice(0, 40)).chunk({"object_id": n_objects, "band": 2, "y": 32})
    named = model.score(part.image, part.fwhm_arcsec)
    assert set(named) == {"score", "residual"}
    assert named.score.dims == ("object_id", "band")
    assert named.score.chunks is not None
    assert named.score.chunks[0][0] == min(n_objects, 40)
    assert named["object_id"].identical(part["object_id"])
    arrays = model.score(part.image.data, part.fwhm_arcsec.data)
    for one in (named.score, arrays.score):
        assert isinstance(getattr(one, "data", one), type(part.image.data)) or hasattr(one, "dask")
        np.testing.assert_array_equal(np.asarray(one), wanted["score"][:40])
    np.testing.assert_array_equal(np.asarray(arrays.residual), wanted["residual"][:40])


def test_a_users_own_cluster_scores_chunk_by_chunk(
    model: ss.Weights, dataset: xarray.Dataset, wanted: dict[str, np.ndarray[Any, Any]]
) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        scored = model.score(dataset.image, dataset.fwhm_arcsec).compute()
    np.testing.assert_array_equal(scored.score.values, wanted["score"])


def test_lazy_scores_need_the_memory_of_a_few_chunks(model: ss.Weights, dataset: xarray.Dataset) -> None:
    many = xarray.concat([dataset[["image", "fwhm_arcsec"]]] * 8, "object_id")
    model.score(dataset.image[:1], dataset.fwhm_arcsec[:1]).compute()
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        model.score(many.image, many.fwhm_arcsec).score.max().compute()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < many.image.nbytes / 8


def test_one_seeing_for_all_is_that_of_each(model: ss.Weights, dataset: xarray.Dataset) -> None:
    image = dataset.image[:5]
    fwhm = np.array([0.8, 0.8, 0.7, 0.8, 0.8])
    one = model.score(image.values, fwhm)
    each = model.score(image.values, np.tile(fwhm, (5, 1)))
    lazy = model.score(image, xarray.DataArray(fwhm, dims="band"))
    np.testing.assert_array_equal(one.score, each.score)
    np.testing.assert_array_equal(one.score, lazy.score.values)


@pytest.mark.parametrize("fwhm", [np.nan, 0.0, -1.0, 1.01])
def test_what_cannot_be_scored_is_nan(model: ss.Weights, dataset: xarray.Dataset, fwhm: float) -> None:
    image, seeing = dataset.image[:3].values.copy(), dataset.fwhm_arcsec[:3].values.astype(np.float64)
    seeing[1, 2] = fwhm
    image[2, 4, 0, 0] = np.inf
    score, residual = model.score(image, seeing)
    assert np.isfinite(score[0]).all() == np.isfinite(dataset.image[0].values).all()
    assert np.isnan(score[1:]).all()
    assert np.isnan(residual[1:]).all()
    assert np.isnan(model.reconstruct(image, seeing)[1:]).all()
    assert np.isnan(ss.preprocess(image, seeing)[1:]).all()


def test_a_reconstruction_and_its_source_give_the_residual(model: ss.Weights, dataset: xarray.Dataset) -> None:
    """Section 3.1: R is the sum of source - reconstruction over the aperture."""
    part = dataset.isel(object_id=np.flatnonzero(dataset.quarantine_code.values == 0)[:6])
    source, made = (function(part.image, part.fwhm_arcsec) for function in (ss.preprocess, model.reconstruct))
    assert source.dims == made.dims == part.image.dims
    inside = ss.HSC.aperture()
    difference = (source.values.astype(np.float64) - made.values) * inside
    np.testing.assert_allclose(
        difference.sum(axis=(2, 3)), model.score(part.image, part.fwhm_arcsec).residual.values, rtol=2e-4, atol=2e-4
    )


@pytest.mark.parametrize(
    ("image", "fwhm", "said"),
    [
        (np.zeros((3, 4, 64, 64)), np.ones((3, 4)), r"have shape \(3, 4, 64, 64\), survey 'HSC.* needs \(n_objects, 5"),
        (np.zeros((5, 64, 64)), np.ones(5), r"have shape \(5, 64, 64\)"),
        (np.zeros((3, 5, 64, 64)), np.ones((2, 5)), r"fwhm_arcsec has shape \(2, 5\), 3 cutouts in 5 bands need"),
        (
            xarray.DataArray(np.zeros((3, 5, 64, 64)), dims=("galaxy", "band", "y", "x")),
            xarray.DataArray(np.ones((3, 5)), dims=("object", "band")),
            "fwhm_arcsec has the axes object, band, the cutouts have galaxy and band",
        ),
    ],
)
def test_shapes_that_do_not_fit(model: ss.Weights, image: Any, fwhm: Any, said: str) -> None:
    with pytest.raises(ss.SwimmyError, match=said):
        model.score(image, fwhm)


def test_training_on_arrays(dataset: xarray.Dataset, tmp_path: Path) -> None:
    normal = dataset.isel(object_id=np.flatnonzero(dataset.sample_class.values == "training")[:48])
    settings = {"network": NETWORK, "schedule": {"epochs": 2, "keep_from_epoch": 1, "batch_size": 16, "seed": 3}}
    trained = ss.train(normal.image, normal.fwhm_arcsec, tmp_path / "weights", **settings)
    image, fwhm = normal.image[:4].values, normal.fwhm_arcsec[:4].values
    score = trained.score(image, fwhm).score
    before = {path: path.read_bytes() for path in (tmp_path / "weights").rglob("*.keras")}
    again = ss.train(normal.image.values, normal.fwhm_arcsec.values, tmp_path / "weights", **settings)
    assert {path: path.read_bytes() for path in (tmp_path / "weights").rglob("*.keras")} == before
    for loaded in (again, ss.load_model(tmp_path / "weights"), ss.load_model(tmp_path / "weights/selected.keras")):
        np.testing.assert_array_equal(loaded.score(image, fwhm).score, score)
    with pytest.raises(ss.SwimmyError, match=r"arguments of train.*epoch: no such key.*epochs"):
        ss.train(normal.image, normal.fwhm_arcsec, tmp_path / "weights", schedule={"epoch": 2})
    with pytest.raises(ss.SwimmyError, match="holds a training of other data"):
        ss.train(normal.image[:45], normal.fwhm_arcsec[:45], tmp_path / "weights", **settings)


def test_a_model_is_trusted_by_its_digest(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.keras"
    file.write_bytes((run / "models/selected.keras").read_bytes())
    with pytest.raises(ss.SwimmyError, match=r"no manifest\.json beside it records this file"):
        ss.load_model(file)
    with pytest.raises(ss.SwimmyError, match=r"its sha256 is .*, 00"):
        ss.load_model(file, sha256="00" * 32)
    with pytest.raises(ss.SwimmyError, match="neither a run directory"):
        ss.load_model(tmp_path)


def test_candidates_of_plain_arrays(run: Path, model: ss.Weights, dataset: xarray.Dataset) -> None:
    scored = model.score(dataset.image.values, dataset.fwhm_arcsec.values)
    in_sample = ss.sample(dataset).values & np.isfinite(scored.score).all(axis=1)
    table = ss.candidates(
        {
            "object_id": dataset.object_id.values, "ra": dataset.ra.values, "dec": dataset.dec.values,
            "score": scored.score, "residual": scored.residual, "in_sample": in_sample,
        },
        ss.thresholds(scored.score[in_sample]),
    )  # fmt: skip
    listed = Table.read(run / "candidates.fits")
    assert table["object_id"].tolist() == listed["object_id"].tolist()
    assert table["ra"].unit == "deg"
    assert table.meta["survey"] == ss.HSC.name


def test_runs_and_plans_from_python(finished: Path, tmp_path: Path) -> None:
    plan = ss.plan(finished / "job.yaml", n_workers=0)
    assert not plan.problems
    assert plan.prospects.n_objects == 240
    summary = ss.run(finished / "job.yaml", finished / "run", n_workers=0)
    assert summary["given"] == 240
    with pytest.raises(ss.SwimmyError, match="cannot read the job file"):
        ss.run(tmp_path / "absent.yaml", tmp_path / "run")


def test_the_public_names() -> None:
    """Listed by ``dir()``, each with a docstring, and nothing heavy is loaded for them."""
    names = [name for name in dir(ss) if name != "__version__"]
    assert names == sorted(ss._HOMES)
    assert "Any" not in dir(ss)
    for name in names:
        assert getattr(ss, name).__doc__, name
    script = (
        "import sys, swimmy_scale; dir(swimmy_scale); print(sorted({'numpy', 'xarray', 'dask'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
    script = (
        "import sys, numpy, swimmy_scale as ss; ss.preprocess(numpy.zeros((1, 5, 64, 64)), numpy.ones(5)); "
        "ss.thresholds(numpy.arange(10.0)[:, None]); print(sorted({'dask', 'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
