"""A job with `score: {kind: noise}` that trains without clean labels: its scores, what says so, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from astropy.table import Table
from click.testing import CliRunner
from survey_runs import NETWORK, assert_same_results, call_here, make_survey, opened, run_serially, verify, write_job

from swimmy_scale.cli import main
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.noise import FLOOR, noise_score, source_and_noise
from swimmy_scale.method.score_kind import EQUATION_6
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import Selection

# NumPy warns of its new copy rules for code inside of Keras, not for ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

TRAIN = {
    "network": NETWORK,
    "schedule": {"epochs": 2, "keep_from_epoch": 1, "batch_size": 16, "seed": 5},
    "n_threads": 1,
    "classes": [],
    "choose": "known_classes",
    "known_classes": ["training", "other"],
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("simulated") / "survey", 120)


@pytest.fixture(scope="module")
def reference(survey: Path) -> Path:
    """Trained on the whole sample, scored by two weight sets in units of noise, in this process."""
    job = write_job(survey.parent / "job.yaml", survey, train=TRAIN, score={"kind": "noise", "n_models": 2})
    run_serially(job, survey.parent / "serial")
    return survey.parent / "serial"


def with_weights_of(run: Path) -> dict[str, Any]:
    """Sections of a job that scores the same cutouts by the same weights."""
    listed = json.loads((run / "models/manifest.json").read_text())["ensemble"]
    models = [
        {"path": str(run / "models" / item["file"]), "sha256": item["sha256"], "network": NETWORK} for item in listed
    ]
    return {"train": None, "models": models, "catalogue": None, "ingest": None, "cutouts": str(run / "cutouts.zarr")}


def test_the_score_is_made_of_the_residual_and_the_cutouts_own_noise(reference: Path) -> None:
    scores, store = Scores(reference / "scores.zarr"), Cutouts(reference / "cutouts.zarr")
    usable = store.read("quarantine_code", 0, 120) == 0
    expected = source_and_noise(store.images(0, 120)[usable], store.read("fwhm_arcsec", 0, 120)[usable], store.survey)
    found, residual = scores.read("score"), scores.read("residual")
    assert found[usable].tobytes() == noise_score(residual[usable], *expected, FLOOR).tobytes()
    assert np.isnan(found[~usable]).all()
    assert np.isfinite(found[usable]).all()
    assert usable.sum() < 120


def test_all_that_is_written_says_which_score_it_is(reference: Path) -> None:
    kind = {"kind": "noise", "floor": FLOOR}
    with opened(reference) as ds:
        assert ds.attrs["score"] == kind
        assert ds.score.attrs["long_name"] == "absolute residual in units of its expected noise"
    for name in ("summary.json", "provenance.json"):
        assert json.loads((reference / name).read_text())["score"] == kind, name
    said = Table.read(reference / "candidates.ecsv")
    assert said.meta["score"] == kind
    assert said["score_g"].description == "Anomaly score in g (residual in units of its expected noise)"
    field = pq.read_schema(reference / "candidates.parquet").field("score_r")
    assert b"units of its expected noise" in field.metadata[b"description"]
    assert Table.read(reference / "models/weight_sets.ecsv").meta["score"] == kind


def test_the_whole_sample_trains_whatever_is_in_it(reference: Path) -> None:
    receipt = json.loads((reference / "receipts/train/000000.json").read_text())
    assert receipt["details"]["n_training_objects"] == json.loads((reference / "summary.json").read_text())["in_sample"]
    assert len(set(Scores(reference / "scores.zarr").read("sample_class").astype(str))) > 2


def test_weights_are_judged_by_the_same_score(reference: Path) -> None:
    """With all of the sample as known classes, the share that is selected is that of the run's own thresholds."""
    judged = json.loads((reference / "models/evaluation/run-00.json").read_text())["weight_sets"]
    listed = json.loads((reference / "models/manifest.json").read_text())["ensemble"]
    scores = Selection(reference / "selection.zarr")
    sample, score = scores.read("in_sample"), scores.read("score")
    for place, item in enumerate(listed):
        (found,) = [one for one in judged if one["sha256"] == item["sha256"]]
        for band in ("g", "r", "i"):
            values = score[sample, place, "gri".index(band)].astype(np.float64)
            assert found["thresholds"][band] == np.quantile(values, 0.95)


def test_dask_gives_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("score: {kind: noise}\n")
    for n_workers in (0, 2):
        words = ["--scorer", "numba", "--workers", n_workers, "--settings", settings]
        model = reference / "models/selected.keras"
        done = call_here(
            "score", reference / "cutouts.zarr", "--model", model, "--output", tmp_path / f"{n_workers}.zarr", *words
        )
        assert done.returncode == 3, done.stderr
    one, other = Scores(tmp_path / "0.zarr"), Scores(tmp_path / "2.zarr")
    for name in ("score", "residual", "object_id", "quarantine_code"):
        assert one.read(name).tobytes() == other.read(name).tobytes(), name
    assert one.attrs == other.attrs
    assert verify(tmp_path / "2.zarr") == []


def test_the_batch_size_changes_no_byte(reference: Path, tmp_path: Path) -> None:
    score = {"kind": "noise", "batch_size": 7}
    run_serially(
        write_job(tmp_path / "job.yaml", tmp_path, score=score, **with_weights_of(reference)), tmp_path / "run"
    )
    assert_same_results(tmp_path / "run", reference)
    assert verify(tmp_path / "run") == []


def test_both_scorers_and_the_command_line(reference: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("score: {kind: noise, floor: 0.1}\nsample: {colours: []}\n")
    found = {}
    for scorer in ("keras", "numba"):
        path = tmp_path / f"{scorer}.zarr"
        words = ["score", reference / "cutouts.zarr", "--model", reference / "models/selected.keras", "--workers", 0,
                 "--output", path, "--scorer", scorer, "--settings", settings]  # fmt: skip
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 3, done.output
        found[scorer] = Scores(path)
        assert found[scorer].kind.noise_floor == 0.1
    theirs, ours = found["keras"].read("score"), found["numba"].read("score")
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    assert not np.array_equal(ours, theirs, equal_nan=True)
    words = ["select", tmp_path / "keras.zarr", "--output", tmp_path / "s", "--thresholds-from",
             reference / "summary.json"]  # fmt: skip
    refused = CliRunner().invoke(main, [str(word) for word in words])
    assert refused.exit_code == 1
    assert "cut noise scores with the floor 0.02, and here they would cut noise scores with the floor 0.1" in (
        refused.output
    )


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ({}, "cut noise scores with the floor 0.02, and here they would cut scores of equation 6"),
        ({"kind": "noise", "floor": 0.5}, "the floor 0.02, and here they would cut noise scores with the floor 0.5"),
    ],
)
def test_thresholds_of_another_score_are_refused(
    reference: Path, tmp_path: Path, score: dict[str, Any], message: str
) -> None:
    select = {"thresholds_from": str(reference / "summary.json")}
    job = write_job(tmp_path / "job.yaml", tmp_path, score=score, select=select, **with_weights_of(reference))
    with pytest.raises(SwimmyError, match=message + r".* Give the summary.json of a run with the same score.kind"):
        run_serially(job, tmp_path / "run")
    assert not (tmp_path / "run/scores.zarr").exists(), "before any work"


def test_the_kind_decides_what_is_scored_again(reference: Path, tmp_path: Path) -> None:
    """By equation 6 the same weights give the same residuals and other scores, and nothing names a kind."""
    job = write_job(tmp_path / "job.yaml", tmp_path, **with_weights_of(reference))
    run_serially(job, tmp_path / "run")
    plain, noisy = Scores(tmp_path / "run/scores.zarr"), Scores(reference / "scores.zarr")
    assert plain.read("residual").tobytes() == noisy.read("residual").tobytes()
    assert not np.array_equal(plain.read("score"), noisy.read("score"), equal_nan=True)
    assert plain.kind == EQUATION_6
    assert yaml.safe_load((tmp_path / "run/job.yaml").read_text())["score"]["floor"] is None
    for name in ("summary.json", "provenance.json", "scores.zarr/zarr.json"):
        text = (tmp_path / "run" / name).read_text()
        assert "floor" not in text, name
        assert '"noise"' not in text, name
    run_serially(write_job(job, tmp_path, score={"kind": "noise"}, **with_weights_of(reference)), tmp_path / "run")
    assert Scores(tmp_path / "run/scores.zarr").read("score").tobytes() == noisy.read("score").tobytes()
