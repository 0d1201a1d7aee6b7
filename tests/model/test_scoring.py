"""Blocks of a store on their way to scorers that need no network."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.network import Network
from swimmy_scale.method.survey import Survey
from swimmy_scale.model import scoring
from swimmy_scale.model.scoring import Model, Scoring, score_rows, scored_blocks
from swimmy_scale.storage.creation import create
from swimmy_scale.storage.cutouts import Cutouts, cutouts_layout
from swimmy_scale.storage.receipts import Receipt, task_name
from swimmy_scale.storage.run_directory import ledger_beside
from swimmy_scale.storage.store import write_partition

N_OBJECTS = 44
SURVEY = Survey(bands=("g", "i"), selecting_bands=("g",), cutout_size_px=16, band_divisors=(1.0, 1.0),
                min_depth_mag=(25.0, 25.0))  # fmt: skip


def empty_columns(layout, n):
    return {
        variable.name: np.zeros(layout.shape(variable, n), variable.dtype.replace("string", "U4"))
        for variable in layout.variables
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Partitions of 12, chunks of 4; an object's pixels and its seeing tell which one it is."""
    path = tmp_path_factory.mktemp("store") / "cutouts.zarr"
    layout = cutouts_layout(N_OBJECTS, SURVEY, {}, 12, 4, {"available_columns": []})
    create(path, layout)
    for partition in range(layout.n_partitions):
        rows = np.array(layout.rows(partition))
        values = empty_columns(layout, len(rows))
        values["image"] += rows[:, None, None, None].astype(np.float32)
        values["fwhm_arcsec"] += 0.5 + rows[:, None].astype(np.float32) / 100
        write_partition(path, layout, partition, values)
        ledger_beside(path, "ingest").commit(Receipt("ingest", task_name(partition), "", len(rows)))
    return Cutouts(path)


class PixelScorer:
    """Takes counts; 'scores' tell an object by its pixels, 'residuals' by its seeing."""

    def __init__(self):
        self.seen = []

    def score_counts(self, image, fwhm):
        self.seen.append((len(image), threading.current_thread().name))
        return image[:, None, :, 0, 0].copy(), np.asarray(fwhm, np.float32)[:, None].copy()


class AheadScorer(PixelScorer):
    """The same for a device: takes the second block before it gives out the scores of the first."""

    fused = True

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def score_blocks(self, blocks):
        waiting = []
        for image, fwhm, tag in blocks:
            waiting.append((tag, *self.score_counts(image, fwhm)))
            if len(waiting) > 1:
                yield waiting.pop(0)
        yield from waiting


def run(monkeypatch, store, scorer, lo, hi, usable, batch_size=None):
    monkeypatch.setattr(scoring, "scorer_for", lambda *_: scorer)
    how = Scoring((Model(Path("model.keras"), "0" * 64),), Network(2, 16), batch_size, 1)
    return score_rows(store, how, lo, hi, usable)


def assert_right(results, lo, hi, usable):
    score, residual = results
    rows = np.arange(lo, hi)
    expected = np.where(usable, rows, np.nan).astype(np.float32)
    np.testing.assert_array_equal(score, np.broadcast_to(expected[:, None, None], (hi - lo, 1, 2)))
    seeing = np.where(usable, np.float32(0.5) + rows.astype(np.float32) / 100, np.nan).astype(np.float32)
    np.testing.assert_array_equal(residual, np.broadcast_to(seeing[:, None, None], (hi - lo, 1, 2)))


@given(data=st.data(), batch_size=st.integers(1, 20), fused=st.booleans())
@settings(deadline=None, max_examples=60)
def test_every_row_gets_its_own_score(store, data, batch_size, fused):
    lo = data.draw(st.integers(0, N_OBJECTS - 1))
    hi = data.draw(st.integers(lo + 1, N_OBJECTS))
    usable = np.array(data.draw(st.lists(st.booleans(), min_size=hi - lo, max_size=hi - lo)))
    scorer = AheadScorer(batch_size) if fused else PixelScorer()
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert_right(run(monkeypatch, store, scorer, lo, hi, usable, batch_size), lo, hi, usable)


def test_a_cpu_sees_only_what_can_be_used_and_a_device_whole_blocks(store, monkeypatch):
    usable = np.ones(24, bool)
    usable[[1, 2, 9]] = False
    usable[16:24] = False
    cpu, device = PixelScorer(), AheadScorer(8)
    assert_right(run(monkeypatch, store, cpu, 0, 24, usable, 8), 0, 24, usable)
    assert_right(run(monkeypatch, store, device, 0, 24, usable), 0, 24, usable)
    assert [n for n, _ in cpu.seen] == [6, 7]
    assert [n for n, _ in device.seen] == [8, 8]


@pytest.mark.slow
@given(data=st.data(), batch_size=st.integers(1, 20), fused=st.booleans())
@settings(deadline=None, max_examples=40)
def test_few_rows_are_brought_together_into_whole_batches(store, data, batch_size, fused):
    usable = np.array(data.draw(st.lists(st.booleans(), min_size=N_OBJECTS, max_size=N_OBJECTS)))
    scorer = AheadScorer(batch_size) if fused else PixelScorer()
    how = Scoring((Model(Path("model.keras"), "0" * 64),), Network(2, 16), batch_size, 1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(scoring, "scorer_for", lambda *_: scorer)
        blocks = list(scored_blocks(store, how, 0, N_OBJECTS, usable, pack=True))
    whole, rest = divmod(int(usable.sum()), batch_size)
    assert [n for n, _ in scorer.seen] == [batch_size] * whole + [rest] * bool(rest)
    rows = np.flatnonzero(usable)
    found = [np.concatenate([np.zeros(0), *(block[k].reshape(len(block[0]), -1)[:, 0] for block in blocks)])
             for k in range(3)]  # fmt: skip
    np.testing.assert_array_equal(found[0], rows)
    np.testing.assert_array_equal(found[1], rows)
    np.testing.assert_array_equal(found[2].astype(np.float32), np.float32(0.5) + rows.astype(np.float32) / 100)


def test_nothing_to_score(store, monkeypatch):
    for scorer in (PixelScorer(), AheadScorer(8)):
        score, _ = run(monkeypatch, store, scorer, 0, 24, np.zeros(24, bool))
        assert np.isnan(score).all()
        assert scorer.seen == []


@pytest.mark.parametrize("fused", [True, False])
def test_memory_is_bounded_by_the_blocks_ahead(store, monkeypatch, fused):
    """Counts the blocks that are read before the first one is scored."""
    started = []
    images = store.images
    monkeypatch.setattr(store, "images", lambda lo, hi: started.append((lo, hi)) or images(lo, hi))

    class Slow(AheadScorer):
        def score_counts(self, image, fwhm):
            if not self.seen:
                self.n_read = len(started)
            return super().score_counts(image, fwhm)

    scorer = Slow(4)
    scorer.fused = fused
    run(monkeypatch, store, scorer, 0, N_OBJECTS, np.ones(N_OBJECTS, bool))
    assert scorer.n_read <= 1 + scoring.BLOCKS_AHEAD
    assert sorted(started) == [(lo, lo + 4) for lo in range(0, N_OBJECTS, 4)]


@pytest.mark.parametrize("fused", [True, False])
def test_damage_in_a_reader_reaches_the_caller(store, monkeypatch, fused):
    def broken(lo, hi):
        raise SwimmyError(f"image[{lo}:{hi}] is damaged")

    monkeypatch.setattr(store, "images", broken)
    with pytest.raises(SwimmyError, match=r"image\[0:4\] is damaged"):
        run(monkeypatch, store, AheadScorer(4) if fused else PixelScorer(), 0, 24, np.ones(24, bool), 4)


@pytest.mark.parametrize(("scorer", "least", "most"), [("numba", 1e-4, 1e-2), ("keras", 1e9, np.inf)])
def test_only_numba_is_quick_enough_for_small_stages(scorer, least, most):
    one, five = (
        Scoring((Model(Path("model.keras"), "0" * 64),) * number, Network(), None, 1, scorer) for number in (1, 5)
    )
    assert least <= one.core_seconds_per_object <= most
    assert five.core_seconds_per_object == 5 * one.core_seconds_per_object


@pytest.mark.parametrize(
    ("said", "scorer"),
    [("CPU (numba)", "numba"), ("CPU (numba, x86_64)", "numba"), ("CPU (keras, x86_64)", "keras"), ("GPU", "keras")],
)
def test_a_scorer_is_known_by_what_it_says(said, scorer):
    assert scoring.scorer_that(said) == scorer
