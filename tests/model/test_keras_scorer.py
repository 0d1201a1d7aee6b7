"""The Keras scorer against the plain network with equation 6 in NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import like_trained

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.anomaly import score_and_residual
from swimmy_scale.method.network import Network
from swimmy_scale.method.preprocess import preprocess
from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.model import keras_scorer
from swimmy_scale.model.autoencoder import build
from swimmy_scale.model.files import save
from swimmy_scale.model.keras_scorer import Scorer
from swimmy_scale.model.numba_scorer import NumbaScorer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

TINY = Network(n_bands=2, cutout_size_px=32, encoder_filters=(6,), latent_filters=3)
TINY_SURVEY = Survey(bands=("g", "i"), selecting_bands=("g",), cutout_size_px=32, band_divisors=(1.0, 1.0),
                     min_depth_mag=(25.0, 25.0), aperture_diameter_px=4.0)  # fmt: skip


def make_cutouts(survey, n, seed=5):
    """Galaxies after the stretch; the first six are extreme."""
    rng, size = np.random.default_rng(seed), survey.cutout_size_px
    y, x = np.mgrid[:size, :size] - survey.center_px
    profile = np.exp(-np.hypot(x, y) / rng.uniform(1.0, size / 8, (n, 1, 1, 1)))
    noise = rng.normal(0.0, 0.02, (n, survey.n_bands, size, size))
    cutouts = np.clip(0.05 + rng.uniform(0.1, 1.5, (n, survey.n_bands, 1, 1)) * profile + noise, 0.0, 1.0)
    cutouts[:6] = np.array([0.0, 1.0, 0.05, 0.0, 1.0, 0.5])[: len(cutouts), None, None, None]
    cutouts[3, :, size // 2, size // 2] = 1.0
    cutouts[4, 0] = 0.0
    cutouts[5] = rng.uniform(0.0, 1.0, cutouts[5].shape)
    return cutouts.astype(np.float32)


def plain(model, cutouts, survey):
    """Equation 6 in NumPy, on the whole reconstruction by the unchanged model."""
    output = model(np.ascontiguousarray(cutouts.transpose(0, 2, 3, 1)), training=False).numpy()
    score, residual = score_and_residual(cutouts, output.transpose(0, 3, 1, 2), survey)
    return score[:, None], residual[:, None]


def paddings(scorer):
    """The paddings of a scorer's convolutions: 'valid' if it computes windows, 'same' if whole cutouts."""
    return {layer.padding for layer in scorer._model.layers if layer.name.startswith("conv2d")}


def folded_of(model):
    """The convolutions of a model, with their normalisations folded in."""
    n_layers = sum(layer.name.startswith("conv_") for layer in model.layers)
    return [keras_scorer._folded(model, index) for index in range(1, n_layers + 1)]


def assert_equal_to_plain(result, expected):
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(result[1], expected[1], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def tiny_model():
    return like_trained(TINY, 2)


@pytest.fixture(scope="module")
def tiny_scorers(tiny_model):
    return {size: Scorer([tiny_model], TINY, TINY_SURVEY, size) for size in (1, 7, 64, 256)}


# --- scores ----------------------------------------------------------------------------------------------------------


def test_the_papers_network_scores_like_the_plain_one():
    network = Network()
    for seed in (1, 2):
        model, cutouts = like_trained(network, seed), make_cutouts(HSC, 16, seed)
        scorer = Scorer([model], network, HSC, 16)
        assert paddings(scorer) == {"valid"}
        result = scorer.score(cutouts)
        assert result[0].dtype == result[1].dtype == np.float32
        assert_equal_to_plain(result, plain(model, cutouts, HSC))


@pytest.mark.parametrize(
    ("network", "survey", "padding"),
    [
        (TINY, TINY_SURVEY, "valid"),
        (TINY, replace(TINY_SURVEY, aperture_diameter_px=20.0), "same"),
        (replace(TINY, cutout_size_px=16), replace(TINY_SURVEY, cutout_size_px=16), "same"),
        (replace(TINY, encoder_filters=()), replace(TINY_SURVEY, aperture_diameter_px=7.0), "valid"),
        (replace(TINY, encoder_filters=(4, 5)), TINY_SURVEY, "same"),
    ],
)
def test_windows_and_whole_reconstruction_score_alike(network, survey, padding):
    model, cutouts = like_trained(network, 4), make_cutouts(survey, 20)
    scorer = Scorer([model], network, survey, 8)
    assert paddings(scorer) == {padding}
    assert_equal_to_plain(scorer.score(cutouts), plain(model, cutouts, survey))


@pytest.mark.parametrize("fused", [False, True])
def test_rings_add_up_to_the_residual_and_change_no_score(fused, tiny_model):
    rng = np.random.default_rng(3)
    image = rng.normal(1.0, 2.0, (10, 2, 32, 32)).astype(np.float32)
    image[4, 1, 0, 0] = np.inf
    fwhm = rng.uniform(0.4, 0.9, (10, 2))
    plain_pair = Scorer([tiny_model, tiny_model], TINY, TINY_SURVEY, 4, fused).score_counts
    score, residual, rings = Scorer([tiny_model, tiny_model], TINY, TINY_SURVEY, 4, fused, True).score_counts(
        image, fwhm
    )
    if not fused:
        image[4] = np.nan
    expected = plain_pair(image, fwhm)
    np.testing.assert_array_equal(score, expected[0])
    np.testing.assert_array_equal(residual, expected[1])
    assert rings.shape == (10, 2, 2, 3)
    np.testing.assert_allclose(rings.sum(axis=3), residual, rtol=1e-4, atol=1e-5)
    numba = NumbaScorer([folded_of(tiny_model)], TINY, TINY_SURVEY, rings=True).score_counts(image, fwhm)
    np.testing.assert_allclose(rings[:, 0], numba[2][:, 0], rtol=1e-4, atol=1e-4)


def test_a_reconstruction_that_underflows_gives_a_finite_score():
    model = build(TINY, 0)
    weights = model.get_weights()
    weights[-1] = np.full(2, -200.0, np.float32)
    weights[-2] = np.zeros_like(weights[-2])
    model.set_weights(weights)
    cutouts = make_cutouts(TINY_SURVEY, 8)
    result = Scorer([model], TINY, TINY_SURVEY, 8).score(cutouts)
    assert np.isfinite(result[0]).all()
    assert_equal_to_plain(result, plain(model, cutouts, TINY_SURVEY))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_bytes_do_not_depend_on_the_batch_size(tiny_scorers, batch_size):
    cutouts = make_cutouts(TINY_SURVEY, 70)
    expected = tiny_scorers[256].score(cutouts)
    for got, want in zip(tiny_scorers[batch_size].score(cutouts), expected, strict=True):
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("batch_size", [2, 13, 14, 28, 32, 49])
def test_bytes_do_not_depend_on_the_place_in_a_batch(batch_size):
    """With the paper's network, for every place in a full batch and for a batch of one."""
    model, cutouts = like_trained(Network(), 3), make_cutouts(HSC, 9)[6:]
    alone = Scorer([model], Network(), HSC, 1).score(cutouts)
    scorer = Scorer([model], Network(), HSC, batch_size)
    for index, cutout in enumerate(cutouts):
        for got, want in zip(scorer.score(np.stack([cutout] * batch_size)), alone, strict=True):
            assert {row.tobytes() for row in got} == {want[index].tobytes()}


def test_bytes_of_the_papers_network_do_not_depend_on_the_batch_size():
    model, cutouts = like_trained(Network(), 3), make_cutouts(HSC, 9)
    results = [Scorer([model], Network(), HSC, size).score(cutouts) for size in (1, 7, 64)]
    for score, residual in results[1:]:
        assert score.tobytes() == results[0][0].tobytes()
        assert residual.tobytes() == results[0][1].tobytes()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.sampled_from([7, 64]))
@settings(deadline=None, max_examples=15)
def test_bytes_do_not_depend_on_the_split(tiny_scorers, sizes, batch_size):
    cutouts = make_cutouts(TINY_SURVEY, 120)[: sum(sizes)]
    scorer = tiny_scorers[batch_size]
    parts = [scorer.score(part) for part in np.split(cutouts, np.cumsum(sizes)[:-1])]
    for which, whole in enumerate(scorer.score(cutouts)):
        assert np.concatenate([part[which] for part in parts]).tobytes() == whole.tobytes()


@pytest.mark.parametrize("value", [np.nan, "all"])
def test_nan_objects_have_nan_scores_and_disturb_no_other(tiny_scorers, value):
    cutouts = make_cutouts(TINY_SURVEY, 10)
    expected = tiny_scorers[7].score(cutouts)
    if value == "all":
        cutouts[[2, 8]] = np.nan
    else:
        cutouts[[2, 8], 1, 0, 31] = np.nan
    for got, want in zip(tiny_scorers[7].score(cutouts), expected, strict=True):
        assert np.isnan(got[[2, 8]]).all()
        others = [0, 1, 3, 4, 5, 6, 7, 9]
        assert got[others].tobytes() == want[others].tobytes()


def test_threads_share_a_scorer(tiny_scorers):
    cutouts = make_cutouts(TINY_SURVEY, 30)
    expected = tiny_scorers[7].score(cutouts)[0].tobytes()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(tiny_scorers[7].score(cutouts)[0].tobytes())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_several_models_score_in_one_pass_as_each_does_alone(tiny_scorers, tiny_model):
    models = [tiny_model, like_trained(TINY, 8), like_trained(TINY, 9)]
    cutouts = make_cutouts(TINY_SURVEY, 20)
    scorer = Scorer(models, TINY, TINY_SURVEY, 7)
    assert scorer.n_models == 3
    together = scorer.score(cutouts)
    assert together[0].shape == together[1].shape == (20, 3, 2)
    for which, model in enumerate(models):
        for got, want in zip(together, Scorer([model], TINY, TINY_SURVEY, 7).score(cutouts), strict=True):
            assert got[:, [which]].tobytes() == want.tobytes()


def test_counts_are_preprocessed_once_and_scored(tiny_scorers):
    rng = np.random.default_rng(3)
    image = rng.normal(2.0, 5.0, (9, 2, 32, 32)).astype(np.float32)
    image[4, 1, 2, 3] = np.inf
    fwhm = rng.uniform(0.5, 0.9, (9, 2))
    expected = tiny_scorers[7].score(preprocess(image, fwhm, TINY_SURVEY))
    for got, want in zip(tiny_scorers[7].score_counts(image, fwhm), expected, strict=True):
        assert got.tobytes() == want.tobytes()
        assert np.isnan(got).all(axis=(1, 2)).tolist() == [row == 4 for row in range(9)]


# --- counts to scores in one call ------------------------------------------------------------------------------------


def make_counts(survey, n, seed=4):
    """Counts and seeing of faint and bright galaxies; the second has a pixel that is not finite."""
    rng, size = np.random.default_rng(seed), survey.cutout_size_px
    y, x = np.mgrid[:size, :size] - survey.center_px
    profile = np.exp(-np.hypot(x, y) / rng.uniform(1.0, size / 8, (n, 1, 1, 1)))
    image = 10.0 ** rng.uniform(-1, 3, (n, 1, 1, 1)) * rng.uniform(0.3, 1.0, (n, survey.n_bands, 1, 1)) * profile
    image = (image + rng.normal(0.0, 0.05, image.shape)).astype(np.float32)
    image[1, 0, 3, 3] = np.nan
    return image, rng.uniform(0.4, survey.target_fwhm_arcsec, (n, survey.n_bands)).astype(np.float32)


def assert_fused_is_close(fused, unfused):
    """As close as the documentation promises: to 1e-4 of a score; a residual sums pixels that agree to 2e-6."""
    np.testing.assert_allclose(fused[0], unfused[0], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(fused[1], unfused[1], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def fused_scorer(tiny_model):
    return Scorer([tiny_model, like_trained(TINY, 8)], TINY, TINY_SURVEY, 7, fused=True)


def test_fused_scores_are_those_of_numpy_and_network(fused_scorer, tiny_model):
    image, fwhm = make_counts(TINY_SURVEY, 40)
    unfused = Scorer([tiny_model, like_trained(TINY, 8)], TINY, TINY_SURVEY, 7, fused=False)
    result = fused_scorer.score_counts(image, fwhm)
    assert result[0].shape == result[1].shape == (40, 2, 2)
    assert result[0].dtype == result[1].dtype == np.float32
    assert np.isnan(result[0]).all(axis=(1, 2)).tolist() == [row == 1 for row in range(40)]
    assert_fused_is_close(result, unfused.score_counts(image, fwhm))


def test_fused_scores_of_the_papers_network():
    model, (image, fwhm) = like_trained(Network(), 3), make_counts(HSC, 20)
    results = [Scorer([model], Network(), HSC, 8, fused).score_counts(image, fwhm) for fused in (True, False)]
    assert_fused_is_close(*results)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6))
@settings(deadline=None, max_examples=15)
@pytest.mark.parametrize("fused", [True, False])
def test_blocks_come_in_order_and_bytes_do_not_depend_on_them(fused_scorer, tiny_scorers, fused, sizes):
    scorer = fused_scorer if fused else tiny_scorers[7]
    image, fwhm = (part[: sum(sizes)] for part in make_counts(TINY_SURVEY, 120))
    edges = np.cumsum(sizes)[:-1]
    blocks = list(zip(np.split(image, edges), np.split(fwhm, edges), enumerate(sizes), strict=True))
    parts = list(scorer.score_blocks(blocks))
    assert [tag for tag, *_ in parts] == list(enumerate(sizes))
    assert [len(score) for _, score, _ in parts] == sizes
    for which, whole in enumerate(scorer.score_counts(image, fwhm), start=1):
        assert np.concatenate([part[which] for part in parts]).tobytes() == whole.tobytes()


def test_fused_models_score_as_each_does_alone(fused_scorer, tiny_model):
    image, fwhm = make_counts(TINY_SURVEY, 20)
    together = fused_scorer.score_counts(image, fwhm)
    for which, model in enumerate([tiny_model, like_trained(TINY, 8)]):
        alone = Scorer([model], TINY, TINY_SURVEY, 7, fused=True).score_counts(image, fwhm)
        for got, want in zip(together, alone, strict=True):
            assert got[:, [which]].tobytes() == want.tobytes()


def test_the_next_batch_is_started_before_results_are_fetched(fused_scorer, monkeypatch):
    events, start = [], fused_scorer._start

    def watched(*arrays):
        number, fetch = sum(what == "start" for what, _ in events), start(*arrays)
        events.append(("start", number))
        return lambda: events.append(("fetch", number)) or fetch()

    monkeypatch.setattr(fused_scorer, "_start", watched)
    image, fwhm = make_counts(TINY_SURVEY, 21)
    fused_scorer.score_counts(image, fwhm)
    assert events == [("start", 0), ("start", 1), ("fetch", 0), ("start", 2), ("fetch", 1), ("fetch", 2)]


def test_whole_blocks_are_not_copied(fused_scorer, monkeypatch):
    given_arrays, start = [], fused_scorer._start
    monkeypatch.setattr(fused_scorer, "_start", lambda *arrays: given_arrays.append(arrays[0]) or start(*arrays))
    image, fwhm = make_counts(TINY_SURVEY, 17)
    fused_scorer.score_counts(image, fwhm)
    assert [np.shares_memory(array, image) for array in given_arrays] == [True, True, False]
    assert all(array.shape == (7, 2, 32, 32) for array in given_arrays)


def test_threads_share_a_fused_scorer(fused_scorer):
    image, fwhm = make_counts(TINY_SURVEY, 30)
    expected = fused_scorer.score_counts(image, fwhm)[0].tobytes()
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda _: fused_scorer.score_counts(image, fwhm)[0].tobytes(), range(8))
    assert list(results) == [expected] * 8


def test_fused_refuses_what_does_not_fit(fused_scorer):
    image, fwhm = make_counts(TINY_SURVEY, 5)
    with pytest.raises(SwimmyError, match=r"cutouts have shape \(5, 1, 32, 32\)"):
        fused_scorer.score_counts(image[:, :1], fwhm)
    with pytest.raises(SwimmyError, match="5 cutouts but 4 rows of fwhm_arcsec"):
        fused_scorer.score_counts(image, fwhm[:4])
    with pytest.raises(SwimmyError, match=r"FWHM 9.0 arcsec must be above 0"):
        fused_scorer.score_counts(image, fwhm * 0 + 9)


def test_defaults_follow_the_device(tiny_model, monkeypatch):
    for gpu, batch_size in ((False, 256), (True, 2048)):
        monkeypatch.setattr(keras_scorer, "has_gpu", lambda gpu=gpu: gpu)
        found = Scorer([tiny_model], TINY, TINY_SURVEY)
        assert (found.fused, found.batch_size) == (gpu, batch_size)


BY_JAX = """
import sys
from pathlib import Path
import numpy as np
from swimmy_scale.model.files import load
from swimmy_scale.model.devices import configure_threads, keras
from swimmy_scale.model.keras_scorer import Scorer
from swimmy_scale.method.survey import HSC
from swimmy_scale.method.network import Network

assert keras.backend.backend() == "jax"
configure_threads(1)
folder, sha256 = sys.argv[1:]
image, fwhm = (np.load(f"{folder}/{name}.npy") for name in ("image", "fwhm"))
model = load(Path(folder) / "model.keras", Network(), sha256)
for fused in (True, False):
    scorer = Scorer([model], Network(), HSC, 8, fused)
    found = scorer.score_counts(image, fwhm)
    blocks = [(image[:5], fwhm[:5], "first"), (image[5:], fwhm[5:], "rest")]
    tags, *parts = zip(*scorer.score_blocks(blocks))
    assert tags == ("first", "rest")
    assert all(a.tobytes() == np.concatenate(b).tobytes() for a, b in zip(found, parts))
    np.save(f"{folder}/jax_{fused}.npy", found)
assert "tensorflow" not in sys.modules
"""


def test_jax_scores_like_tensorflow(tmp_path):
    pytest.importorskip("jax")
    model, (image, fwhm) = like_trained(Network(), 3), make_counts(HSC, 20)
    sha256 = save(model, tmp_path / "model.keras")
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "fwhm.npy", fwhm)
    # Keras converts its variables in a way that NumPy 2 warns about.
    quiet = "ignore:__array__ implementation:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", quiet, "-c", BY_JAX, str(tmp_path), sha256],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = Scorer([model], Network(), HSC, 8, fused=False).score_counts(image, fwhm)
    for fused in (True, False):
        score, residual = np.load(tmp_path / f"jax_{fused}.npy")
        np.testing.assert_allclose(score, expected[0], rtol=5e-5, atol=1e-8)
        np.testing.assert_allclose(residual, expected[1], rtol=5e-5, atol=5e-5)


# --- other promises --------------------------------------------------------------------------------------------------


def test_no_objects(tiny_scorers):
    empty = np.empty((0, 2, 32, 32), np.float32)
    assert [result.shape for result in tiny_scorers[7].score(empty)] == [(0, 1, 2), (0, 1, 2)]


def test_any_memory_layout_is_taken(tiny_scorers):
    cutouts = make_cutouts(TINY_SURVEY, 9)
    assert (tiny_scorers[7].score(np.asfortranarray(cutouts))[0] == tiny_scorers[7].score(cutouts)[0]).all()


@pytest.mark.parametrize("value", [-0.001, 1.001, np.inf, -np.inf])
def test_values_outside_0_to_1_are_refused(tiny_scorers, value):
    cutouts = make_cutouts(TINY_SURVEY, 10)
    cutouts[9, 1, 0, 0] = value
    with pytest.raises(SwimmyError, match=r"cutout 9 has values from .* outside \[0, 1\]"):
        tiny_scorers[7].score(cutouts)


def test_what_does_not_fit_is_refused(tiny_scorers, tiny_model):
    with pytest.raises(SwimmyError, match=r"cutouts have shape \(3, 1, 32, 32\)"):
        tiny_scorers[7].score(make_cutouts(TINY_SURVEY, 6)[:3, :1])
    with pytest.raises(SwimmyError, match="the network takes 2 bands of 32 px, survey 'HSC-SSP wide' has 5"):
        Scorer([tiny_model], TINY, HSC)
    with pytest.raises(SwimmyError, match="batch_size 0 must be 1 or more"):
        Scorer([tiny_model], TINY, TINY_SURVEY, 0)
    broken = build(TINY, 0)
    broken.set_weights([value * np.float32("nan") for value in broken.get_weights()])
    with pytest.raises(SwimmyError, match="weights that are NaN or infinite"):
        Scorer([broken], TINY, TINY_SURVEY)
    negative = build(TINY, 0)
    layer = next(layer for layer in negative.layers if hasattr(layer, "moving_variance"))
    layer.moving_variance.assign(-5 * np.ones(layer.moving_variance.shape))
    with pytest.raises(SwimmyError, match="batch normalisations of a negative variance"):
        Scorer([negative], TINY, TINY_SURVEY)
