"""Which objects a training takes, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_stores import N, filled

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.sections import TrainSection
from swimmy_scale.method.survey import HSC
from swimmy_scale.stages.train import training_rows
from swimmy_scale.storage.cutouts import Cutouts, cutouts_layout

NO_CUTS = SampleCuts(max_fwhm_arcsec=None, use_depth=False, max_magnitude=None)
ALTERNATE = np.array(["training", "quasar"] * (N // 2), object)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    layout, path = cutouts_layout(N, HSC, {}, 8, 4, {"available_columns": []}), tmp_path / "cutouts.zarr"
    filled(layout, path, sample_class=ALTERNATE, flags=np.zeros(N, np.uint32))
    return path


def test_the_rows_are_those_of_the_classes(path: Path) -> None:
    store, section = Cutouts(path), TrainSection()
    assert training_rows(store, NO_CUTS, section, 1).tolist() == list(range(0, N, 2))
    every = section.model_copy(update={"classes": ()})
    assert training_rows(store, NO_CUTS, every, 1).tolist() == list(range(N))
    few = section.model_copy(update={"max_objects": 3})
    rows = training_rows(store, NO_CUTS, few, 1).tolist()
    assert (len(rows), rows) == (3, sorted(set(rows)))
    assert set(rows) <= set(range(0, N, 2))


def test_no_object_of_the_classes_is_refused(path: Path) -> None:
    section = TrainSection(classes=("star", "planet"))
    said = r"cutouts\.zarr: no object of class star, planet passes the sample cuts: .* or to \[\] for the whole sample"
    with pytest.raises(SwimmyError, match=said):
        training_rows(Cutouts(path), NO_CUTS, section, 1)


def test_nothing_but_quarantine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cutouts.zarr"
    filled(cutouts_layout(N, HSC, {}, 8, 4, {"available_columns": []}), path, quarantine_code=np.full(N, 5, np.uint8))
    said = r"cutouts\.zarr: all 20 objects are in quarantine: there is nothing to train on\. quarantine\.csv says why"
    with pytest.raises(SwimmyError, match=said):
        training_rows(Cutouts(path), NO_CUTS, TrainSection(), 1)
