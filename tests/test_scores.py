"""``scores.zarr``: the public names, and the selection that is added to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray

from swimmy_scale.cutouts import cutouts_layout
from swimmy_scale.scores import Scores, scores_layout, write_selection
from swimmy_scale.store import Layout, create, write_partition
from swimmy_scale.survey import HSC, BoolArray

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
                "in_sample": np.arange(n) > 0,
                "sample_class": np.array([""] * n, dtype=object),
                "quarantine_code": np.zeros(n, np.uint8),
            },
        )
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
        assert "candidate" not in ds
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
