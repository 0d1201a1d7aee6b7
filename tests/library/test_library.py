"""The public names: the numbers of a run, from arrays and lazy objects that a user holds."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray
from astropy import units
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


NAMED = ("galaxy", "band", "y", "x")


def _named(dims: tuple[str, ...] = NAMED, **coords: Any) -> xarray.DataArray:
    return xarray.DataArray(np.zeros([{"band": 5}.get(name, 64 if name in "yx" else 3) for name in dims]), coords, dims)


def _seeing(*dims: str, **coords: Any) -> xarray.DataArray:
    return xarray.DataArray(np.ones([{"band": 5}.get(name, 3) for name in dims]), coords, dims)


@pytest.mark.parametrize(
    ("image", "fwhm", "said"),
    [
        (np.zeros((3, 4, 64, 64)), np.ones((3, 4)), r"have shape \(3, 4, 64, 64\), survey 'HSC.* needs \(n_objects, 5"),
        (np.zeros((5, 64, 64)), np.ones(5), r"have shape \(5, 64, 64\)"),
        (dask.array.zeros((5, 64, 64)), np.ones(5), r"have shape \(5, 64, 64\)"),
        (np.zeros((3, 5, 64, 64)), np.ones((2, 5)), r"fwhm_arcsec has shape \(2, 5\), 3 cutouts in 5 bands need"),
        (dask.array.zeros((3, 5, 64, 64)), np.ones((2, 5)), r"fwhm_arcsec has shape \(2, 5\), 3 cutouts"),
        (_named(), 0.8, r"fwhm_arcsec has shape \(\), 3 cutouts"),
        (_named(), _seeing("object", "band"), "has the axes object, band, the cutouts have galaxy and band"),
        (_named(), np.ones((2, 5)), r"fwhm_arcsec has shape \(2, 5\), 3 cutouts"),
        (_named(("galaxy", "band", "x", "y")), np.ones(5), "axes galaxy, band, x, y, need band, y, x as the last"),
        (_named(band=list("yzirg")), np.ones(5), "cutouts: the bands are y, z, i, r, g by the coordinate band"),
        (_named(), _seeing("band", band=list("ugriz")), "fwhm_arcsec: the bands are u, g, r, i, z by the"),
        (np.zeros((3, 5, 64, 64)), _seeing("band", band=list("ugriz")), "fwhm_arcsec: the bands are u, g, r, i, z"),
        (_named(galaxy=[1, 2, 3]), _seeing("galaxy", "band", galaxy=[3, 2, 1]), "of other objects .* in another order"),
        (dask.array.zeros((3, 5, 64, 64))[dask.array.ones(3) > 0], np.ones(5), r"Call image\.compute_chunk_sizes"),
        (np.zeros((3, 5, 64, 64), object), np.ones(5), "the cutouts: of type object, need real numbers"),
        (np.zeros((3, 5, 64, 64), complex), np.ones(5), "the cutouts: of type complex128, need real numbers"),
        (_named().astype(str), np.ones(5), "the cutouts: of type <U.*, need real numbers"),
        ([[1, 2], [3]], np.ones(5), "the cutouts: no array of numbers"),
        (np.zeros((3, 5, 64, 64)), None, "fwhm_arcsec: of type object"),
        (np.zeros((3, 5, 64, 64)) * units.Jy, np.ones(5), "in the unit Jy, need counts of the survey's zero point"),
        (np.zeros((3, 5, 64, 64)), np.ones(5) * units.pixel, "fwhm_arcsec: in the unit pix, need arcsec"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(model: ss.Weights, image: Any, fwhm: Any, said: str) -> None:
    with pytest.raises(ss.SwimmyError, match=said):
        model.score(image, fwhm)


def test_numbers_of_all_kinds_are_those_of_plain_arrays(model: ss.Weights, dataset: xarray.Dataset) -> None:
    """A unit is converted, what is masked is NaN, and the type, order of bytes and memory layout do not count."""
    image, fwhm = dataset.image[:4].values, dataset.fwhm_arcsec[:4].values.astype(np.float64)
    wanted = model.score(image, fwhm).score
    hidden = np.zeros(image.shape, bool)
    hidden[1, 2, 3, 4] = True
    kinds = [
        (image.astype(">f8"), fwhm.astype(">f8")),
        (np.asfortranarray(image), fwhm.tolist()),
        (image * units.count, (fwhm / 3600) * units.deg),
        (np.ma.masked_array(image, hidden), np.ma.masked_array(fwhm)),
        (dask.array.from_array(np.ma.masked_array(image, hidden), chunks=(3, 2, 64, 9)), dask.array.from_array(fwhm)),
    ]
    for k, (pixels, seeing) in enumerate(kinds):
        found = np.asarray(model.score(pixels, seeing).score)
        lost = [1] if k > 2 else []
        assert np.isnan(found[lost]).all()
        # A degree is no whole number of bits of an arcsec.
        np.testing.assert_allclose(np.delete(found, lost, 0), np.delete(wanted, lost, 0), rtol=1e-4 if k == 2 else 0)
    assert model.score(image[:0], fwhm[:0]).score.shape == (0, 5)


def test_descriptors_have_the_coordinates_that_fit(model: ss.Weights, dataset: xarray.Dataset) -> None:
    """The cutouts of a run name their bands, which descriptors do not have."""
    part = dataset.isel(object_id=slice(0, 4))
    found = model.describe(part.image, part.fwhm_arcsec)
    assert found.dims == ("object_id", "feature")
    assert set(found.coords) == {"object_id", "ra", "dec", "feature"}
    np.testing.assert_array_equal(found.values, model.describe(part.image.values, part.fwhm_arcsec.values))


def test_a_survey_by_its_name(dataset: xarray.Dataset) -> None:
    image, fwhm = dataset.image[:2].values, dataset.fwhm_arcsec[:2].values
    np.testing.assert_array_equal(ss.preprocess(image, fwhm, "hsc"), ss.preprocess(image, fwhm))
    with pytest.raises(ss.SwimmyError, match=r"the argument survey.* no survey is called 'hcs'"):
        ss.preprocess(image, fwhm, "hcs")


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
    recorded = ss.load_model(run).scoring
    with pytest.raises(ss.SwimmyError, match=r"does not hold weights of .* Give the job's network"):
        ss.load_model(file, recorded.models[0].sha256)
    assert ss.load_model(file, recorded.models[0].sha256, network=NETWORK).scoring.network == recorded.network
    with pytest.raises(ss.SwimmyError, match="neither a run directory"):
        ss.load_model(tmp_path)
    with pytest.raises(ss.SwimmyError, match=r"absent\.keras: no such file or folder"):
        ss.load_model(tmp_path / "absent.keras")
    with pytest.raises(ss.SwimmyError, match=r"no scorer is called 'fast'.*keras, numba"):
        ss.load_model(run, scorer="fast")  # type: ignore[arg-type]


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


OBJECTS = {
    "object_id": np.arange(4), "ra": np.ones(4), "dec": np.ones(4), "score": np.arange(20.0).reshape(4, 5),
    "residual": np.ones((4, 5)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"object_id": np.arange(4) + 0.5}, "object_id: float64 is not what it needs: whole numbers"),
        ({"object_id": np.full(4, 2**63 + 5, np.uint64)}, "object_id: uint64 is not"),
        ({"object_id": np.array(list("abcd"))}, "object_id: <U1 is not"),
        ({"object_id": np.ma.masked_array(np.arange(4), [0, 1, 0, 0])}, "none of them masked"),
        ({"ra": np.ones(3)}, r"ra has shape \(3,\), 4 scores need \(4,\)"),
        ({"dec": np.ones(4) * units.mag}, "dec: in the unit mag, need deg"),
        ({"score": np.ones((4, 2, 5))}, "Combine those of several models first"),
        ({"residual": np.ones((3, 5))}, r"residual \(3, 5\).* do not fit"),
        ({"in_sample": np.ones(3, bool)}, r"in_sample is bool of shape \(3,\), need bool of shape \(4,\)"),
        ({"in_sample": np.array(["False"] * 4)}, "in_sample is <U5"),
        ({"note": np.ma.masked_array(np.arange(4), [0, 1, 0, 0])}, "column 'note' is masked in 1 of 4 rows"),
    ],
)
def test_columns_that_do_not_fit(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ss.SwimmyError, match=said):
        ss.candidates(
            {**OBJECTS, **changed}, np.zeros((1, 5)), ["a"], keep_columns=["note"] if "note" in changed else []
        )


def test_what_is_masked_is_unknown_in_a_catalogue(tmp_path: Path) -> None:
    first = np.arange(4) == 0
    objects = {
        **OBJECTS,
        "ra": np.full(4, 60.0) * units.arcmin,
        "score": np.ma.masked_array(OBJECTS["score"], np.outer(first, np.ones(5, bool))),
        "in_sample": np.ma.masked_array(np.ones(4, bool), np.arange(4) == 1),
        "z": np.ma.masked_array(np.ones(4), np.arange(4) == 2),
    }
    table = ss.candidates(objects, np.zeros((1, 5)), "a", keep_columns=["z"])
    assert table["object_id"].tolist() == [2, 3]
    assert table["ra"].tolist() == [1.0, 1.0]
    table["note"] = np.ma.masked_array(["x", "y"], [True, False])
    written = Table.read(ss.write_candidates(table, tmp_path, ["parquet"])["parquet"])
    assert np.isnan(np.ma.filled(written["z"], np.nan)).tolist() == [True, False]
    assert [str(one) for one in np.ma.filled(written["note"], "")] == ["", "y"]
    assert len(ss.candidates({name: values[:0] for name, values in OBJECTS.items()}, np.zeros((1, 5)), ["a"])) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ss.candidates({"score": np.ones((4, 5))}, np.zeros((1, 5))), "the objects have no residual"),
        (lambda: ss.candidates(OBJECTS, np.full((1, 5), np.nan), ["a"]), "threshold holds a NaN"),
        (lambda: ss.thresholds(np.ones((4, 5), object)), "score: of type object, need real numbers"),
        (lambda: ss.thresholds(np.ones((4, 5)), ["2sigma"]), "top fractions of the levels: of type <U6"),
        (lambda: ss.sample(xarray.Dataset()), "the sample is cut by the variables quarantine_code, mag"),
        (lambda: ss.write_candidates(Table(OBJECTS), __file__), "a file, and candidates are written to a folder"),
        (lambda: ss.plan("job.yaml", n_workers=-1), "n_workers -1 is not a whole number from 0 on"),
        (lambda: ss.run("job.yaml", "run", n_workers=1, site="site.yaml"), r"site\.yaml says how many itself"),
    ],
)  # fmt: skip
def test_mistakes_are_told(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(ss.SwimmyError, match=said):
        call()


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
