"""The numba scorer against the whole network in float64, and against the Keras scorer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.anomaly import score_and_residual
from swimmy_scale.method.descriptor import ring_of_pixel
from swimmy_scale.method.network import Network
from swimmy_scale.method.preprocess import preprocess, smoothing_sigma_px
from swimmy_scale.method.survey import HSC, Survey
from swimmy_scale.model.numba_reconstructor import NumbaReconstructor
from swimmy_scale.model.numba_scorer import NumbaScorer, prepare
from swimmy_scale.model.winograd import convolve

TINY = Network(n_bands=2, cutout_size_px=32, encoder_filters=(6,), latent_filters=3)
TINY_SURVEY = Survey(bands=("g", "i"), selecting_bands=("g",), cutout_size_px=32, band_divisors=(1.0, 1.2),
                     min_depth_mag=(25.0, 25.0), aperture_diameter_px=4.0)  # fmt: skip


def survey_of(n_bands):
    """Cutouts of 24 px in so many bands."""
    bands, divisors, depths = tuple("grizyu"[:n_bands]), (1.1,) * n_bands, (25.0,) * n_bands
    return Survey(bands=bands, selecting_bands=("g",), magnitude_band="g", cutout_size_px=24, band_divisors=divisors,
                  min_depth_mag=depths, aperture_diameter_px=3.0)  # fmt: skip


def make_weights(network, seed, gain=1.0):
    """Weights that keep the signal's size from layer to layer, as those of a trained network do."""
    rng, filters = np.random.default_rng(seed), (network.n_bands, *network.convolution_filters)
    return [
        (
            rng.normal(0.0, gain * np.sqrt(2 / (9 * n_in)), (3, 3, n_in, n_out)).astype(np.float32),
            rng.normal(0.0, 0.1, n_out).astype(np.float32),
        )
        for n_in, n_out in pairwise(filters)
    ]


def make_counts(survey, n, seed=5):
    """Galaxies with sky noise, and their seeing; the first eight are extreme."""
    rng, size = np.random.default_rng(seed), survey.cutout_size_px
    y, x = np.mgrid[:size, :size] - survey.center_px
    profile = np.exp(-np.hypot(x, y) / rng.uniform(1.0, size / 8, (n, 1, 1, 1)))
    counts = 10 ** rng.uniform(-1, 3, (n, survey.n_bands, 1, 1)) * profile
    counts = (counts + rng.normal(0.0, 0.3, counts.shape)).astype(np.float32)
    extreme = [0.0, 1e-30, -1e-3, 3.4e38, -3.4e38, 1e6, 1e-3, -0.5]
    for row, value in enumerate(extreme[:n]):
        counts[row] = np.float32(value)
    if n > 5:
        counts[5] *= rng.normal(0.0, 1.0, counts[5].shape)
    fwhm = rng.uniform(0.35, survey.target_fwhm_arcsec, (n, survey.n_bands))
    fwhm[: n // 3 : 2] = survey.target_fwhm_arcsec
    return counts, fwhm


def plain(weights, source, network, survey):
    """Equation 6 on the whole reconstruction, by the definition of a convolution and in float64."""
    x = source.transpose(0, 2, 3, 1).astype(np.float64)
    for index, (kernel, bias) in enumerate(weights, start=1):
        size = x.shape[1]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = ((i, j, padded[:, i : i + size, j : j + size]) for i in range(3) for j in range(3))
        x = sum(part @ kernel[i, j].astype(np.float64) for i, j, part in shifted) + bias
        if index == len(weights):
            break
        x = np.maximum(x, 0.0)
        if index <= network.n_levels:
            x = x.reshape(len(x), size // 2, 2, size // 2, 2, -1).max(axis=(2, 4))
        else:
            x = x.repeat(2, axis=1).repeat(2, axis=2)
    return score_and_residual(source, expit(x).transpose(0, 3, 1, 2), survey)


def assert_close(result, expected):
    np.testing.assert_allclose(result[0], expected[0], rtol=5e-5, atol=1e-8)
    np.testing.assert_allclose(result[1], expected[1], rtol=5e-5, atol=5e-5)


def bytes_of(result):
    return [part.tobytes() for part in result]


@pytest.fixture(scope="module")
def tiny_weights():
    return make_weights(TINY, 2)


@pytest.fixture(scope="module")
def tiny_scorers(tiny_weights):
    return {size: NumbaScorer([tiny_weights], TINY, TINY_SURVEY, size) for size in (1, 7, 64)}


# --- preprocessing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "survey",
    [
        HSC,
        TINY_SURVEY,
        replace(TINY_SURVEY, stretch_alpha=0.3, stretch_beta=0.0),
        replace(TINY_SURVEY, pixel_scale_arcsec=0.02),  # the kernel is wider than the cutout
        replace(TINY_SURVEY, pixel_scale_arcsec=0.005),  # several times as wide
        replace(TINY_SURVEY, cutout_size_px=16),
        replace(TINY_SURVEY, cutout_size_px=40),
        replace(HSC, cutout_size_px=72),
        survey_of(1),
        survey_of(4),
        survey_of(6),
    ],
)
def test_prepared_cutouts_are_those_of_preprocess(survey):
    counts, fwhm = make_counts(survey, 20)
    size = survey.cutout_size_px
    for lo, pad in ((0, 1), (3, 0)):
        out = np.full((20, size - 2 * lo + 2 * pad, size - 2 * lo + 2 * pad, survey.n_bands), np.nan, np.float32)
        assert not prepare(counts, smoothing_sigma_px(fwhm, survey), survey, lo, pad, out).any()
        inner = out[:, pad : len(out[0]) - pad, pad : len(out[0]) - pad].transpose(0, 3, 1, 2)
        expected = preprocess(counts, fwhm, survey)[:, :, lo : size - lo, lo : size - lo]
        # Where bands of both signs cancel in I, float32 holds fewer digits of x / I.
        np.testing.assert_allclose(inner[5], expected[5], rtol=0, atol=3e-5)
        np.testing.assert_allclose(np.delete(inner, 5, 0), np.delete(expected, 5, 0), rtol=0, atol=1e-6)
        assert np.isnan(out).sum() == out.size - inner.size


# --- scores ----------------------------------------------------------------------------------------------------------


def test_the_papers_network_scores_like_the_plain_one():
    network = Network()
    weights = [make_weights(network, seed, gain) for seed, gain in ((1, 1.0), (2, 0.5), (3, 1.3))]
    counts, fwhm = make_counts(HSC, 16)
    scorer = NumbaScorer(weights, network, HSC)
    assert scorer.windowed
    score, residual = scorer.score_counts(counts, fwhm)
    assert score.dtype == residual.dtype == np.float32
    assert score.shape == residual.shape == (16, 3, 5)
    source = preprocess(counts, fwhm, HSC)
    for index, model in enumerate(weights):
        assert_close((score[:, index], residual[:, index]), plain(model, source, network, HSC))


@pytest.mark.parametrize(
    ("network", "survey", "windowed"),
    [
        (TINY, TINY_SURVEY, True),
        (TINY, replace(TINY_SURVEY, aperture_diameter_px=20.0), False),
        (replace(TINY, cutout_size_px=16), replace(TINY_SURVEY, cutout_size_px=16), False),
        (replace(TINY, encoder_filters=()), replace(TINY_SURVEY, aperture_diameter_px=7.0), True),
        (replace(TINY, encoder_filters=(4, 5)), TINY_SURVEY, False),
        (replace(TINY, encoder_filters=(70, 50)), TINY_SURVEY, False),
        (replace(TINY, encoder_filters=(33, 90), cutout_size_px=72), replace(TINY_SURVEY, cutout_size_px=72), True),
        (Network(n_bands=1, cutout_size_px=24, encoder_filters=(3,), latent_filters=1), survey_of(1), True),
        (Network(n_bands=3, cutout_size_px=24, encoder_filters=(17,), latent_filters=2), survey_of(3), True),
        (Network(n_bands=4, cutout_size_px=24, encoder_filters=(8,), latent_filters=16), survey_of(4), True),
        (Network(n_bands=6, cutout_size_px=24, encoder_filters=(9, 7), latent_filters=15), survey_of(6), False),
    ],
)
def test_any_network_scores_like_the_plain_one(network, survey, windowed):
    weights = make_weights(network, 4)
    counts, fwhm = make_counts(survey, 20)
    scorer = NumbaScorer([weights], network, survey, 8)
    assert scorer.windowed == windowed
    score, residual = scorer.score_counts(counts, fwhm)
    assert_close((score[:, 0], residual[:, 0]), plain(weights, preprocess(counts, fwhm, survey), network, survey))


@pytest.mark.slow
def test_a_trained_model_scores_like_keras(one_thread, tmp_path):
    from small_networks import like_trained

    from swimmy_scale.model.files import folded_weights, save
    from swimmy_scale.model.keras_scorer import Scorer

    network = Network()
    model = like_trained(network, 6)
    weights = folded_weights(tmp_path / "a.keras", network, save(model, tmp_path / "a.keras"))
    counts, fwhm = make_counts(HSC, 30)
    score, residual = NumbaScorer([weights], network, HSC).score_counts(counts, fwhm)
    expected = Scorer([model], network, HSC, 16).score(preprocess(counts, fwhm, HSC))
    np.testing.assert_allclose(score, expected[0], rtol=5e-5, atol=1e-8)
    np.testing.assert_allclose(residual, expected[1], rtol=1e-4, atol=1e-4)


def test_a_reconstruction_that_underflows_gives_a_finite_score(tiny_weights):
    last = (np.zeros_like(tiny_weights[-1][0]), np.full(2, -800.0, np.float32))
    counts, fwhm = make_counts(TINY_SURVEY, 9)
    score, residual = NumbaScorer([[*tiny_weights[:-1], last]], TINY, TINY_SURVEY).score_counts(counts, fwhm)
    source = preprocess(counts, fwhm, TINY_SURVEY)
    expected = score_and_residual(source, np.zeros_like(source), TINY_SURVEY)
    assert np.isfinite(score).all()
    np.testing.assert_allclose(score[:, 0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(residual[:, 0], expected[1], rtol=1e-5)


@pytest.mark.parametrize("diameter", [4.0, 20.0])
def test_rings_are_those_of_the_whole_reconstruction_and_change_no_score(tiny_weights, diameter):
    survey = replace(TINY_SURVEY, aperture_diameter_px=diameter)
    counts, fwhm = make_counts(survey, 20)
    counts[11, 0, 3, 3] = np.nan
    models = [tiny_weights, make_weights(TINY, 9)]
    *pair, rings = NumbaScorer(models, TINY, survey, 8, rings=True).score_counts(counts, fwhm)
    assert bytes_of(pair) == bytes_of(NumbaScorer(models, TINY, survey, 8).score_counts(counts, fwhm))
    assert rings.shape == (20, 2, 2, 3)
    assert np.isnan(rings[11]).all()
    good = np.delete(np.arange(20), 11)
    source = preprocess(counts[good], fwhm[good], survey)
    for index, model in enumerate(models):
        left = source - NumbaReconstructor(model, TINY)(source)
        expected = [left[:, :, ring_of_pixel(survey) == k].sum(axis=2) for k in range(3)]
        np.testing.assert_allclose(rings[good, index], np.stack(expected, axis=-1), rtol=1e-4, atol=1e-4)


# --- an object on its own --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.sampled_from([1, 7, 64]))
@settings(deadline=None, max_examples=25)
def test_bytes_do_not_depend_on_the_split(tiny_scorers, sizes, batch_size):
    counts, fwhm = (array[: sum(sizes)] for array in make_counts(TINY_SURVEY, 120))
    cuts = np.cumsum(sizes)[:-1]
    parts = [
        tiny_scorers[batch_size].score_counts(*part)
        for part in zip(np.split(counts, cuts), np.split(fwhm, cuts), strict=True)
    ]
    joined = [np.concatenate([part[which] for part in parts]) for which in (0, 1)]
    assert bytes_of(joined) == bytes_of(tiny_scorers[7].score_counts(counts, fwhm))


@pytest.mark.parametrize(
    ("network", "survey"), [(Network(), HSC), (TINY, replace(TINY_SURVEY, aperture_diameter_px=20.0))]
)
def test_bytes_do_not_depend_on_order_batch_or_threads(network, survey):
    models = [make_weights(network, seed) for seed in (3, 4)]
    counts, fwhm = make_counts(survey, 23)
    expected = NumbaScorer(models, network, survey).score_counts(counts, fwhm)
    for options in ((1, 1), (7, 1), (64, 1), (2, 3), (5, 2)):
        assert bytes_of(NumbaScorer(models, network, survey, *options).score_counts(counts, fwhm)) == bytes_of(expected)
    order = np.random.default_rng(0).permutation(23)
    mixed = NumbaScorer(models[1:], network, survey).score_counts(counts[order], fwhm[order])
    assert bytes_of(mixed) == bytes_of([part[order][:, 1:] for part in expected])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [(1, 0, 31), (0, 16, 16), (slice(None), slice(None), slice(None))])
def test_bad_pixels_make_their_object_nan_and_disturb_no_other(tiny_scorers, value, where):
    counts, fwhm = make_counts(TINY_SURVEY, 10)
    expected = tiny_scorers[7].score_counts(counts, fwhm)
    for row in (2, 8):
        counts[(row, *where)] = value
    others = [0, 1, 3, 4, 5, 6, 7, 9]
    for got, want in zip(tiny_scorers[7].score_counts(counts, fwhm), expected, strict=True):
        assert np.isnan(got[[2, 8]]).all()
        assert got[others].tobytes() == want[others].tobytes()


def test_threads_share_a_scorer(tiny_scorers):
    counts, fwhm = make_counts(TINY_SURVEY, 60)
    expected = bytes_of(tiny_scorers[7].score_counts(counts, fwhm))
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(bytes_of(tiny_scorers[7].score_counts(counts, fwhm))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_any_memory_is_taken_and_left_as_it_is(tiny_scorers):
    counts, fwhm = make_counts(TINY_SURVEY, 12)
    expected = bytes_of(tiny_scorers[7].score_counts(counts, fwhm))
    frozen, before = counts.copy(), counts.copy()
    frozen.flags.writeable = False
    for given_counts in (np.asfortranarray(counts), frozen, counts.astype(">f4"), counts):
        assert bytes_of(tiny_scorers[7].score_counts(given_counts, fwhm.astype(np.float64))) == expected
    assert counts.tobytes() == before.tobytes()


def test_no_objects(tiny_scorers):
    result = tiny_scorers[7].score_counts(np.empty((0, 2, 32, 32), np.float32), np.empty((0, 2)))
    assert [part.shape for part in result] == [(0, 1, 2), (0, 1, 2)]


# --- other machines --------------------------------------------------------------------------------------------------

SCRIPT = """
import json, resource, sys, threading, numpy as np
from tests.model.test_numba_scorer import HSC, Network, NumbaScorer, make_counts, make_weights
scorer = NumbaScorer([make_weights(Network(), 1)], Network(), HSC)
counts, fwhm = make_counts(HSC, 24)
scorer.score_counts(counts[:1], fwhm[:1])
def used(who):
    times = resource.getrusage(who)
    return times.ru_utime + times.ru_stime
before = used(resource.RUSAGE_SELF), used(resource.RUSAGE_THREAD)
for _ in range(10):
    result = scorer.score_counts(counts, fwhm)
process, thread = used(resource.RUSAGE_SELF) - before[0], used(resource.RUSAGE_THREAD) - before[1]
loaded = [name for name in ("keras", "tensorflow", "h5py") if name in sys.modules]
import swimmy_scale.model.files, swimmy_scale.model.scoring
loaded += [name for name in ("keras", "tensorflow") if name in sys.modules]
print(json.dumps([process, thread, loaded, [part.tolist() for part in result]]))
"""


def in_another_process(**environment):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
def test_one_thread_is_one_thread_and_nothing_heavy_is_loaded():
    process, thread, loaded, _ = in_another_process(OPENBLAS_NUM_THREADS="4", OMP_NUM_THREADS="4")
    assert loaded == []
    assert process <= 1.05 * thread + 0.02


@pytest.mark.slow
def test_a_processor_without_avx512_gives_the_same_bytes_and_its_own_files(tmp_path):
    counts, fwhm = make_counts(HSC, 24)
    here = NumbaScorer([make_weights(Network(), 1)], Network(), HSC).score_counts(counts, fwhm)
    features = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2"
    there = in_another_process(
        NUMBA_CPU_NAME="x86-64-v3",
        NUMBA_CPU_FEATURES=features,
        NUMBA_CACHE_DIR=str(tmp_path),
    )[3]
    assert bytes_of(np.array(part, np.float32) for part in there) == bytes_of(here)
    names = [path.name for path in tmp_path.rglob("*.nbc")]
    assert len(names) == 3
    assert not any(convolve.py_func.__qualname__ in name for name in names)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(tiny_scorers, tiny_weights):
    counts, fwhm = make_counts(TINY_SURVEY, 6)
    with pytest.raises(SwimmyError, match=r"cutouts have shape \(6, 1, 32, 32\)"):
        tiny_scorers[7].score_counts(counts[:, :1], fwhm)
    with pytest.raises(SwimmyError, match=r"6 cutouts but 5 rows of fwhm_arcsec\. Give one row for each"):
        tiny_scorers[7].score_counts(counts, fwhm[:5])
    with pytest.raises(SwimmyError, match=r"object at row 3, band i: FWHM 1\.5 arcsec"):
        tiny_scorers[7].score_counts(counts, np.where(np.arange(12).reshape(6, 2) == 7, 1.5, fwhm))
    with pytest.raises(SwimmyError, match="the network takes 2 bands of 32 px, survey 'HSC-SSP wide' has 5"):
        NumbaScorer([tiny_weights], TINY, HSC)
    with pytest.raises(SwimmyError, match="there is no model"):
        NumbaScorer([], TINY, TINY_SURVEY)


@pytest.mark.parametrize(
    ("options", "match"), [({"batch_size": 0}, "batch_size 0 must be 1"), ({"n_threads": -1}, "n_threads -1 must be 1")]
)
def test_bad_numbers_are_refused(tiny_weights, options, match):
    with pytest.raises(SwimmyError, match=match):
        NumbaScorer([tiny_weights], TINY, TINY_SURVEY, **options)


def test_weights_that_do_not_fit_are_refused(tiny_weights):
    other = make_weights(replace(TINY, latent_filters=4), 1)
    with pytest.raises(SwimmyError, match=r"model 1: kernels and biases have shapes .*Give the network that"):
        NumbaScorer([tiny_weights, other], TINY, TINY_SURVEY)
    with pytest.raises(SwimmyError, match="model 0: kernels and biases"):
        NumbaScorer([tiny_weights[:-1]], TINY, TINY_SURVEY)
    broken = [(kernel.copy(), bias.copy()) for kernel, bias in tiny_weights]
    broken[2][1][0] = np.nan
    with pytest.raises(SwimmyError, match=r"model 1 has weights that are NaN or infinite\. Train it again"):
        NumbaScorer([tiny_weights, broken], TINY, TINY_SURVEY)
