"""``scores.zarr``: the public names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.survey import HSC
from swimmy_scale.storage import scores
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import cutouts_layout
from swimmy_scale.storage.layout import Layout
from swimmy_scale.storage.scores import (
    Scores,
    scores_layout,
)
from swimmy_scale.storage.store import write_partition

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
    return path


def test_names(path: Path) -> None:
    assert Scores(path).survey == HSC
    with xarray.open_zarr(path) as ds:
        assert ds.score.dims == ds.residual.dims == ("object", "band")
        assert ds.score.dtype == ds.residual.dtype == np.float32
        assert ds.object_id.dims == ("object",)
        assert ds.object_id.dtype == np.int64
        assert ds.ra.dtype == ds.dec.dtype == np.float64
        assert list(ds.band.values) == list("grizy")
        assert ds.attrs["format_version"] == 1
        assert ds.attrs["model_sha256"] == "0"
        assert ds.sel(band="g").score.values.tolist() == [0.0, 5.0, 10.0, 15.0, 0.0, 5.0, 10.0]
        assert not {"in_sample", "level", "threshold", "candidate"} & set(ds.variables)
        assert {name: ds[name].attrs["units"] for name in ("ra", "dec", "score")} == {
            "ra": "deg",
            "dec": "deg",
            "score": "1",
        }


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
def test_blocks_cover_all_rows_whatever_their_size(path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(scores, "BLOCK_OBJECTS", block)
    found = list(Scores(path).blocks("object_id", "score"))
    assert [lo for lo, _ in found] == list(range(0, N, block))
    assert np.concatenate([ids for _, (ids, _) in found]).tolist() == list(range(N))


def test_scores_of_several_models(tmp_path: Path) -> None:
    survey = cutouts_layout(N, HSC, {}, 4, 2, {}).attrs["survey"]
    path = tmp_path / "scores.zarr"
    create(path, scores_layout(N, survey, HSC, {}, 4, 2, {"model_sha256": ["0", "1"]}, ("a", "b")))
    assert Scores(path).n_models == 2
    with xarray.open_zarr(path) as ds:
        assert ds.score.dims == ds.residual.dims == ("object", "model", "band")
        assert ds.model.values.tolist() == ["a", "b"]


def test_damaged_scores_are_refused(path: Path) -> None:
    (path / "score/zarr.json").unlink()
    with pytest.raises(SwimmyError, match=r"scores\.zarr: the metadata of score are damaged or missing"):
        Scores(path)
