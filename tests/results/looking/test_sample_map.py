"""The map of a sample: the principal components of scikit-learn, drawn as NumPy counts them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from swimmy_scale.results.looking import sample_map as maps
from swimmy_scale.results.looking.sample_map import N_COLUMNS, N_ROWS, Axis, density_picture, sample_map
from swimmy_scale.storage import selection as module
from swimmy_scale.storage.descriptors import names_of_features, read_features
from swimmy_scale.storage.selection import Selection, strangest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("block_objects", [1 << 18, 17])
def test_a_sample_lies_where_its_principal_components_say(
    finished: Path, monkeypatch: pytest.MonkeyPatch, block_objects: int
) -> None:
    monkeypatch.setattr(module, "BLOCK_OBJECTS", block_objects)
    selection = Selection(finished / "run/selection.zarr")
    known, rows = read_features(selection), np.sort(strangest(selection, 10))
    found = sample_map(selection, rows)
    sample = known.values[known.in_sample].astype(float)
    assert found.n_sample == len(sample) == found.counts.sum()
    assert found.counts.shape == (N_ROWS, N_COLUMNS)
    np.testing.assert_allclose(found.values, known.values[rows], rtol=1e-4, atol=1e-5)
    reference = PCA(2, svd_solver="full").fit(sample)
    for k, axis in enumerate(found.axes):
        sign = np.sign(reference.components_[k][np.abs(reference.components_[k]).argmax()])
        places = sample @ reference.components_[k] * sign
        np.testing.assert_allclose(found.place[:, k], places[np.flatnonzero(known.in_sample).searchsorted(rows)],
                                   rtol=1e-3, atol=1e-4)  # fmt: skip
        assert axis.share == pytest.approx(reference.explained_variance_ratio_[k], rel=1e-5)
        assert axis.low < np.arcsinh(places.min())
        assert axis.high > np.arcsinh(places.max())
        edges = np.linspace(axis.low, axis.high, (N_COLUMNS, N_ROWS)[k] + 1)
        expected = np.histogram(np.arcsinh(places), edges)[0]
        assert np.abs(found.counts.sum(axis=k) - expected).sum() <= 2  # an object on an edge may change its cell
        names = names_of_features(selection)
        largest = names[int(np.abs(reference.components_[k]).argmax())]
        assert axis.weights[0][0] == largest
        assert axis.weights[0][1] > 0
        assert [axis.place(np.sinh(end)) for end in (axis.low, axis.high)] == pytest.approx([0, 1])
        assert 0 in axis.ticks


@pytest.mark.parametrize("n_drawn", [40, 1 << 20])
@pytest.mark.parametrize("block_objects", [1 << 18, 17])
def test_a_umap_is_made_of_the_candidates_and_an_even_choice_of_the_sample(
    finished: Path, monkeypatch: pytest.MonkeyPatch, n_drawn: int, block_objects: int
) -> None:
    selection = Selection(finished / "run/selection.zarr")
    known, rows = read_features(selection), np.sort(strangest(selection, 10))
    sample = np.flatnonzero(known.in_sample)
    given: list[np.ndarray] = []

    def stand_in(values: np.ndarray) -> np.ndarray:
        given.append(values)
        return values[:, :2].astype(float)

    monkeypatch.setattr(module, "BLOCK_OBJECTS", block_objects)
    monkeypatch.setattr(maps, "N_DRAWN", n_drawn)
    monkeypatch.setattr(maps, "embedded", stand_in)
    found = sample_map(selection, rows, "umap")
    n_counted = min(n_drawn, len(sample))
    drawn = [int(sample[k * len(sample) // n_counted]) for k in range(n_counted)]
    assert n_counted == len(set(drawn))
    fitted = sorted({*drawn, *rows.tolist()})
    np.testing.assert_allclose(given[0], known.values[fitted], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.values, given[0][[fitted.index(row) for row in rows]])
    np.testing.assert_array_equal(found.place, found.values[:, :2])
    assert (found.kind, found.n_sample, found.n_counted) == ("umap", len(sample), n_counted)
    across, up = found.axes
    edges = np.linspace(across.low, across.high, N_COLUMNS + 1)
    places = np.sort(given[0][[fitted.index(row) for row in drawn]][:, 0].astype(float))
    assert np.abs(found.counts.sum(axis=0) - np.histogram(places, edges)[0]).sum() <= 2
    for k, axis in enumerate((across, up)):
        assert axis.is_linear
        assert axis.low < given[0][:, k].min()
        assert axis.high > given[0][:, k].max()


def test_a_linear_axis_has_linear_ticks() -> None:
    axis = Axis(np.nan, (), -4.0, 16.0, is_linear=True)
    assert axis.ticks == [0, 5, 10, 15]
    assert [axis.place(value) for value in (-4.0, 1.0, 16.0)] == [0.0, 0.25, 1.0]


def test_the_density_is_a_picture_of_the_counts() -> None:
    counts = np.array([[0, 1, 1000], [5, 0, 0]])
    data = density_picture(counts)
    assert data == density_picture(counts.copy())
    opacity = np.asarray(Image.open(io.BytesIO(data)).getchannel("A"))
    assert opacity[::-1][counts == 0].tolist() == [0, 0, 0]
    assert opacity[1].tolist()[1] >= 40  # the first row of the counts is the lowest of the picture
    assert opacity[1].tolist()[2] == 255
    assert opacity[0].tolist()[0] > opacity[1].tolist()[1]
    assert not np.asarray(Image.open(io.BytesIO(density_picture(np.zeros((2, 2), int)))).getchannel("A")).any()
