"""Score histograms: the same for any blocks, with the edges that NumPy gives for the whole sample in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimmy_scale.results.histogram import FINE_EDGES, MAX_WIDE_BINS, ScoreCounts, score_histogram


def odd_sample(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, 3) with NaN and zeros, and flags."""
    random = np.random.default_rng(seed)
    score = np.exp(random.normal(0, 8, (n, 3))).astype(np.float32)
    score[random.random(score.shape) < 0.1] = np.nan
    score[random.random(score.shape) < 0.1] = 0.0
    return score, random.random(score.shape) < 0.3


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 90))
def test_counts_are_the_same_for_any_blocks(seed: int, n: int, step: int) -> None:
    score, flags = odd_sample(seed, n)
    counts = ScoreCounts(3)
    for lo in range(0, n, step):
        counts.add(score[lo : lo + step], flags[lo : lo + step])
    assert counts.sample.sum(axis=1).tolist() == np.isfinite(score).sum(axis=0).tolist()
    assert counts.selected.sum(axis=1).tolist() == (np.isfinite(score) & flags).sum(axis=0).tolist()
    assert (counts.n_objects, counts.n_candidates) == (n, flags.any(axis=1).sum())
    edges = 10.0 ** FINE_EDGES[700:1300:150]
    for band in range(3):
        known = score[np.isfinite(score[:, band]), band].astype(np.float64)
        for place, edge in zip(range(700, 1300, 150), edges, strict=True):
            below = counts.sample[band, :place].sum()
            assert (known < edge * 0.999).sum() <= below <= (known < edge * 1.001).sum()


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(40, 401))
def test_a_histogram_in_blocks_is_numpys_of_the_whole_sample(seed: int, n: int, step: int) -> None:
    score, flags = odd_sample(seed, n)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for lo in range(0, n, step):
            yield score[lo : lo + step], flags[lo : lo + step]

    found = score_histogram(blocks, np.full((2, 3), 3.0), 60)
    log_score = np.log10(score, where=score > 0, out=np.full(score.shape, np.nan, np.float64), dtype=np.float64)
    known = log_score[np.isfinite(log_score)]
    low, high = np.percentile(known, [0.05, 99.95]) if known.size else (0.0, 1.0)
    high = min(high + 1.0, known.max()) if known.size else high
    edges = np.linspace(min(low, np.log10(3.0)) - 0.05, max(high, np.log10(3.0)) + 0.05, 61)
    assert found.counts.edges.tolist() == edges.tolist()
    for band, column in enumerate(log_score.T):
        inside = np.isfinite(column)
        for counts, chosen in ((found.counts.sample, inside), (found.counts.selected, inside & flags[:, band])):
            values = np.clip(column[chosen], edges[0], edges[-1])
            assert counts[band].tolist() == np.histogram(values, edges)[0].tolist()
        median = np.median(column[inside]) if inside.any() else np.nan
        assert found.log_median[band] == pytest.approx(median, rel=1e-15, nan_ok=True)


def test_the_axis_holds_every_threshold_and_stops_before_far_outliers() -> None:
    score = np.ones((10_000, 1), np.float32)
    score[0] = 1e30
    flags = np.zeros(score.shape, np.bool_)
    edges = score_histogram(lambda: [(score, flags)], np.array([[0.01], [1000.0]]), 70).counts.edges
    assert edges[0] < -2
    assert 3 < edges[-1] < 4
    assert (np.diff(edges) > 0).all()


def test_wider_bins_hold_every_object_and_every_score_named() -> None:
    score, flags = odd_sample(4, 5000)
    counts = ScoreCounts(3)
    counts.add(score, flags)
    wide = counts.widened([1e-3, 50.0, 0.0, np.inf])
    assert wide.sample.sum(axis=1).tolist() == counts.sample.sum(axis=1).tolist()
    assert wide.selected.sum(axis=1).tolist() == counts.selected.sum(axis=1).tolist()
    assert (wide.n_objects, wide.n_candidates) == (counts.n_objects, counts.n_candidates)
    assert wide.edges[0] < -3
    assert wide.edges[-1] > np.log10(50.0)
    assert len(wide.edges) <= MAX_WIDE_BINS + 4
    assert set(wide.edges) <= set(FINE_EDGES)
