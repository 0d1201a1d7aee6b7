"""``scores.zarr``: the public names, and the selection that is added to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC, BoolArray
from swimmy_scale.storage import scores
from swimmy_scale.storage.cutouts import cutouts_layout
from swimmy_scale.storage.scores import (
    Scores,
    model_block_objects,
    scores_layout,
    write_combined,
    write_sample,
    write_selection,
)
from swimmy_scale.storage.store import Layout, create, write_partition

N = 7


def layout() -> Layout:
    survey = cutouts_layout(N, HSC, {}, 4, 2, {}).attrs["survey"]
    return scores_layout(N, survey, HSC, {}, 4, 2, {"model_sha256": "0", "simulated": True})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scores.zarr"
    create(path, layout())
    for partition in range(2):
        rows = layout().rows(partition)
        n = len(rows)
        values = np.arange(n * 5, dtype=np.float32).reshape(n, 5)
        write_partition(
            path,
            layout(),
            partition,
            {
                "score": values,
                "residual": -values,
                "object_id": np.arange(rows.start, rows.stop),
                "ra": np.zeros(n),
                "dec": np.zeros(n),
                "sample_class": np.array([""] * n, dtype=object),
                "quarantine_code": np.zeros(n, np.uint8),
            },
        )
    write_sample(path, [(0, np.arange(N) % 4 > 0)])
    return path


def flags(n_levels: int) -> Iterator[tuple[int, BoolArray]]:
    for lo in (0, 4):
        n = min(4, N - lo)
        yield lo, np.arange(n * n_levels * 5).reshape(n, n_levels, 5) % 3 == 0


def test_names_before_selection(path: Path) -> None:
    with xarray.open_zarr(path) as ds:
        assert ds.score.dims == ds.residual.dims == ("object", "band")
        assert ds.score.dtype == ds.residual.dtype == np.float32
        assert ds.in_sample.dtype == np.bool_
        assert ds.in_sample.dims == ds.object_id.dims == ("object",)
        assert ds.object_id.dtype == np.int64
        assert ds.ra.dtype == ds.dec.dtype == np.float64
        assert list(ds.band.values) == list("grizy")
        assert ds.attrs["format_version"] == 1
        assert ds.attrs["model_sha256"] == "0"
        assert ds.sel(band="g").score.values.tolist() == [0.0, 5.0, 10.0, 15.0, 0.0, 5.0, 10.0]
        assert not {"level", "threshold", "candidate"} & set(ds.variables)
        assert {name: ds[name].attrs["units"] for name in ("ra", "dec", "score")} == {
            "ra": "deg",
            "dec": "deg",
            "score": "1",
        }


def test_selection_is_added_and_replaced(path: Path) -> None:
    threshold = np.arange(15, dtype=np.float64).reshape(3, 5)
    files = write_selection(path, ("2sigma", "3sigma", "3.5sigma"), threshold, flags(3))
    before = {file: file.read_bytes() for file in files}
    assert write_selection(path, ("2sigma", "3sigma", "3.5sigma"), threshold, flags(3)) == files
    assert {file: file.read_bytes() for file in files} == before
    with xarray.open_zarr(path) as ds:
        assert ds.candidate.dims == ("object", "level", "band")
        assert ds.threshold.dims == ("level", "band")
        assert ds.threshold.dtype == np.float64
        assert float(ds.threshold.sel(level="3sigma", band="g")) == 5.0
        expected = np.concatenate([block for _, block in flags(3)])
        assert np.array_equal(ds.candidate.values, expected)
    write_selection(path, ("top",), threshold[:1], flags(1))
    with xarray.open_zarr(path) as ds:
        assert list(ds.level.values) == ["top"]
        assert ds.candidate.shape == (N, 1, 5)
    assert create(path, layout())
    with xarray.open_zarr(path) as ds:
        assert "candidate" in ds, "making the store again must not hide the selection"


def test_sample_scores_are_the_samples(path: Path) -> None:
    (block,) = Scores(path).sample_scores()
    assert block.shape == (5, 5)
    assert Scores(path).survey == HSC


def everything(path: Path) -> dict[Path, bytes]:
    return {item: item.read_bytes() for item in path.rglob("*") if item.is_file()}


def test_selection_touches_nothing_but_its_own(path: Path) -> None:
    before = everything(path)
    files = write_selection(path, ("a", "b"), np.full((2, 5), np.nan), flags(2))
    after = everything(path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == set(files), "what it says it wrote is what it wrote"
    assert set(before) <= set(after)
    assert Scores(path).read("threshold").shape == (2, 5)
    assert np.isnan(Scores(path).read("threshold")).all()


def test_selection_is_the_same_after_another_one(path: Path) -> None:
    threshold = np.arange(15, dtype=np.float64).reshape(3, 5)
    write_selection(path, ("a", "b", "c"), threshold, flags(3))
    first = everything(path)
    write_selection(path, ("other",), threshold[:1], flags(1))
    assert everything(path) != first
    write_selection(path, ("a", "b", "c"), threshold, flags(3))
    assert everything(path) == first


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
def test_blocks_cover_all_rows_whatever_their_size(path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(scores, "BLOCK_OBJECTS", block)
    found = list(Scores(path).blocks("object_id", "in_sample"))
    assert [lo for lo, _ in found] == list(range(0, N, block))
    assert np.concatenate([ids for _, (ids, _) in found]).tolist() == list(range(N))
    sample = np.concatenate(list(Scores(path).sample_scores()))
    assert sample[:, 0].tolist() == [5.0, 10.0, 15.0, 5.0, 10.0]


def test_no_candidate_at_all_is_still_on_disk(path: Path) -> None:
    nothing = iter([(0, np.zeros((N, 1, 5), dtype=bool))])
    files = write_selection(path, ("top",), np.zeros((1, 5)), nothing)
    assert path / "candidate/c/0/0/0" in files
    assert not Scores(path).read("candidate").any()


def test_scores_of_several_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "BLOCK_OBJECTS", 6)
    survey = cutouts_layout(N, HSC, {}, 4, 2, {}).attrs["survey"]
    path = tmp_path / "scores.zarr"
    create(path, scores_layout(N, survey, HSC, {}, 4, 2, {"model_sha256": ["0", "1"]}, ("a", "b")))
    found = Scores(path)
    assert (found.n_models, found.score_name, found.residual_name) == (2, "combined_score", "combined_residual")
    assert model_block_objects(2) == 3
    write_selection(path, ("top",), np.zeros((1, 5)), flags(1))
    before = everything(path)
    values = np.arange(N * 5, dtype=np.float32).reshape(N, 5)
    values[2] = np.nan
    files = write_combined(
        path,
        {"combined_score": "a score", "combined_residual": "a residual"},
        iter([(lo, values[lo : lo + 3], -values[lo : lo + 3]) for lo in range(0, N, 3)]),
        {"combine": "mean"},
    )
    after = everything(path)
    assert set(files) == set(after) - set(before)
    assert {item.relative_to(path).parts[0] for item in set(before) - set(after)} == {"level", "threshold", "candidate"}
    write_selection(path, ("top",), np.zeros((1, 5)), flags(1))
    with xarray.open_zarr(path) as ds:
        assert ds.score.dims == ("object", "model", "band")
        assert ds.combined_score.dims == ds.combined_residual.dims == ("object", "band")
        np.testing.assert_array_equal(ds.combined_score.values, values)
        np.testing.assert_array_equal(ds.combined_residual.values, -values)
        assert ds.combined_score.dtype == np.float32
        assert ds.combined_score.attrs == {"units": "1", "long_name": "a score", "combine": "mean"}
    assert len(list((path / "combined_score/c").glob("*/0"))) == 3


def test_damaged_scores_are_refused(path: Path) -> None:
    (path / "score/zarr.json").unlink()
    with pytest.raises(SwimmyError, match=r"scores\.zarr: the metadata of score are damaged or missing"):
        Scores(path)
