"""``selection.zarr``: the public names, whole or not at all, and read together with its scores."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from small_stores import LEVELS, OBJECT_ID, N, flags, make_run
from survey_runs import make_scores, write_selection

from swimmy_scale.errors import SwimmyError
from swimmy_scale.storage import selection as selection_module
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import SelectedRun, Selection, model_block_objects, new_selection

IN_SAMPLE = np.arange(N) % 4 > 0
THRESHOLD = np.arange(10, dtype=np.float64).reshape(2, 5)
VALUES: dict[str, Any] = {"in_sample": IN_SAMPLE, "threshold": THRESHOLD, "candidate": flags()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "run")
    write_selection(folder / "scores.zarr", LEVELS, **VALUES)
    return folder


def everything(path: Path) -> dict[Path, bytes]:
    return {item.relative_to(path): item.read_bytes() for item in path.rglob("*") if item.is_file()}


def test_it_opens_alone(run: Path) -> None:
    with xarray.open_zarr(run / "selection.zarr") as ds:
        assert ds.candidate.dims == ("object", "level", "band")
        assert ds.threshold.dims == ("level", "band")
        assert (ds.threshold.dtype, ds.candidate.dtype, ds.in_sample.dtype) == (np.float64, np.bool_, np.bool_)
        assert ds.object_id.values.tolist() == OBJECT_ID.tolist()
        assert "object_id" in ds.coords
        assert float(ds.threshold.sel(level="3sigma", band="g")) == 5.0
        assert np.array_equal(ds.candidate.values, flags())
        assert np.array_equal(ds.in_sample.values, IN_SAMPLE)
        assert ds.attrs["format_version"] == 1
        assert ds.attrs["scores"] == "scores.zarr"
        assert [name for name in ds.data_vars if "long_name" not in ds[name].attrs] == []


def test_thresholds_that_are_nan_stay_nan(run: Path) -> None:
    """Bands that never select have none."""
    threshold = np.where(np.arange(5) < 3, THRESHOLD, np.nan)
    write_selection(run / "scores.zarr", LEVELS, **{**VALUES, "threshold": threshold})
    made = Selection(run / "selection.zarr", run / "scores.zarr")
    assert np.array_equal(made.read("threshold"), threshold, equal_nan=True)


def test_a_full_disk_names_the_store(run: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, usual[1]))
        with pytest.raises(OSError, match="File too large") as caught:
            write_selection(run / "scores.zarr", LEVELS, **VALUES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert str(caught.value.filename).startswith(str(run))
    assert not list(run.glob(".*.partial"))
    write_selection(run / "scores.zarr", LEVELS, **VALUES)


def test_scores_are_not_touched_and_another_selection_takes_the_place(run: Path) -> None:
    first, scores = everything(run / "selection.zarr"), everything(run / "scores.zarr")
    other = write_selection(
        run / "scores.zarr", ["top"], in_sample=IN_SAMPLE, threshold=THRESHOLD[:1], candidate=flags()[:, :1]
    )
    assert other.levels == ["top"]
    assert everything(run / "selection.zarr") != first
    write_selection(run / "scores.zarr", LEVELS, **VALUES)
    assert everything(run / "selection.zarr") == first
    assert everything(run / "scores.zarr") == scores


def refill(run: Path, **values: Any) -> None:
    with new_selection(run / "selection.zarr", Scores(run / "scores.zarr"), LEVELS, {}, {}) as made:
        for name, whole in values.items():
            made.fill(name, [(0, whole)])


def test_a_failure_leaves_what_was_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(run)
    with pytest.raises(KeyError, match="no_such"):
        refill(run, in_sample=IN_SAMPLE, no_such=IN_SAMPLE)
    assert everything(run) == before
    monkeypatch.setattr(Selection, "read", lambda _, name, lo, hi: OBJECT_ID if name == "object_id" else ~IN_SAMPLE)
    with pytest.raises(SwimmyError, match=r"in_sample\[0:20\] does not read back as it was written. Check the disk"):
        refill(run, in_sample=IN_SAMPLE)
    assert everything(run) == before


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_blocks_cover_all_rows_whatever_their_size(run: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(selection_module, "BLOCK_OBJECTS", block)
    selection, score = Selection(run / "selection.zarr"), Scores(run / "scores.zarr").read("score")
    found = list(selection.blocks("object_id", "in_sample"))
    assert [lo for lo, _ in found] == list(range(0, N, block))
    assert np.concatenate([ids for _, (ids, _) in found]).tolist() == OBJECT_ID.tolist()
    assert np.array_equal(np.concatenate(list(selection.sample_scores())), score[IN_SAMPLE])


def test_of_several_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection_module, "BLOCK_OBJECTS", 6)
    assert model_block_objects(2) == 3
    run = make_run(tmp_path / "run", ("a", "b"))
    values = np.arange(N * 5, dtype=np.float32).reshape(N, 5)
    values[2] = np.nan
    names = {"combined_score": "a score", "combined_residual": "a residual"}
    with new_selection(run / "selection.zarr", Scores(run / "scores.zarr"), LEVELS, names, {}) as made:
        for name, whole in (VALUES | {"combined_score": values, "combined_residual": -values}).items():
            made.fill(name, [(lo, whole[lo : lo + 3]) for lo in range(0, len(whole), 3)])
    found = Selection(run / "selection.zarr")
    assert (found.n_models, found.score_name, found.residual_name) == (2, "combined_score", "combined_residual")
    np.testing.assert_array_equal(found.read("combined_score"), values)
    with xarray.open_zarr(run / "selection.zarr") as ds:
        assert ds.combined_residual.dims == ("object", "band")
        assert ds.combined_score.attrs == {"units": "1", "long_name": "a score"}
    assert len(list((run / "selection.zarr/combined_score/c").glob("*/0"))) == 7


def test_the_run_of_a_selection(run: Path, tmp_path: Path) -> None:
    folder = SelectionFolder(run / "selections" / "strict")
    shutil.copytree(run / "selection.zarr", folder.store)
    with pytest.raises(SwimmyError, match=r"selections/strict/scores.zarr: not there, and .*strict/selection.zarr is"):
        Selection(folder.store)
    with new_selection(folder.store, Scores(run / "scores.zarr"), LEVELS, {}, {}) as made:
        for name, values in VALUES.items():
            made.fill(name, [(0, values)])
    assert made.attrs["scores"] == "../../scores.zarr"
    (run / "receipts/job").mkdir(parents=True)
    assert SelectedRun.at(folder.path) == SelectedRun(RunDirectory(run), folder)
    assert SelectedRun.at(run) == SelectedRun(RunDirectory(run), SelectionFolder(run))
    # All of it moves together.
    moved = run.rename(tmp_path / "moved")
    assert SelectedRun.at(moved / "selections/strict").run == RunDirectory(moved)
    assert np.array_equal(Selection(moved / "selections/strict/selection.zarr").read("candidate"), flags())
    with pytest.raises(SwimmyError, match="no receipts folder"):
        SelectedRun.at(tmp_path)


def test_scores_of_other_objects_are_refused(run: Path, tmp_path: Path) -> None:
    make_scores(tmp_path / "scores.zarr", [[1.0] * 5] * 3, [""] * 3, THRESHOLD)
    with pytest.raises(SwimmyError, match=r"selection.zarr has 20 objects, .*scores.zarr has 3: they do not belong"):
        Selection(run / "selection.zarr", tmp_path / "scores.zarr")
