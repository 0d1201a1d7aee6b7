"""The map of a sample: the principal components of scikit-learn, drawn as NumPy counts them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from swimmy_scale.results.looking.sample_map import N_COLUMNS, N_ROWS, density_picture, sample_map
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
