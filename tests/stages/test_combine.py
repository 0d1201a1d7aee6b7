"""Several weight sets from the job to the catalogue: chosen, scored in one pass, combined, cut, drawn, repaired."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import xarray
from astropy.table import Table
from click.testing import CliRunner
from scipy.stats import percentileofscore
from survey_runs import (
    NETWORK,
    Serial,
    assert_same_results,
    call_here,
    make_survey,
    mark,
    run_serially,
    select,
    verify,
    write_job,
)

from swimmy_scale.cli import main
from swimmy_scale.cli.progress import Watch
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.candidates import LEVELS
from swimmy_scale.method.ensemble import Rule
from swimmy_scale.method.job import Job, Settings, load_job
from swimmy_scale.method.sample import SampleCuts
from swimmy_scale.method.sections import SelectSection
from swimmy_scale.stages import combine, picture, standalone
from swimmy_scale.stages.memory import MemoryLimits
from swimmy_scale.stages.run import Run
from swimmy_scale.stages.train import TrainStage
from swimmy_scale.storage import selection as selection_module
from swimmy_scale.storage.files import digest_file
from swimmy_scale.storage.receipts import FINISHED, Ledger
from swimmy_scale.storage.run_directory import RunDirectory, SelectionFolder
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import Selection

# NumPy warns of its new copy rules for code inside of Keras, not for ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

N_MODELS = 3
TRAIN = {
    "network": NETWORK,
    "schedule": {"epochs": 3, "keep_from_epoch": 2, "batch_size": 16, "seed": 5},
    "n_runs": 2,
    "n_threads": 1,
}
RULES: tuple[Rule, ...] = ("mean", "median", "rank")
TEXTS = {
    "mean": "mean of the anomaly score over 3 models",
    "median": "median of the anomaly score over 3 models",
    "rank": "mean over 3 models of the fraction of the sample whose anomaly score is at most the object's",
}
Values = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("simulated") / "survey")


@pytest.fixture(scope="module")
def job(survey: Path) -> Path:
    return write_job(survey.parent / "job.yaml", survey, train=TRAIN, score={"n_models": N_MODELS})


@pytest.fixture(scope="module")
def reference(job: Path) -> Path:
    """Three weight sets of four, by their mean, in one process."""
    output = job.parent / "run"
    run_serially(job, output)
    return output


@pytest.fixture
def copied(reference: Path, tmp_path: Path) -> Path:
    shutil.copytree(reference, tmp_path / "run")
    return tmp_path / "run"


def manifest_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "models/manifest.json").read_text())
    return content


def listed(run: Path, count: int = N_MODELS) -> dict[str, Any]:
    """Sections of a job that lists the weights of another run and takes its cutouts."""
    models = [
        {"path": str(run / "models" / item["file"]), "sha256": item["sha256"], "network": NETWORK}
        for item in manifest_of(run)["ensemble"][:count]
    ]
    store = {"cutouts": str(run / "cutouts.zarr"), "catalogue": None, "ingest": None, "storage": None}
    return {"train": None, "models": models, **store}


def combined(rule: Rule, score: Values, residual: Values, in_sample: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Combined score and residual, written down a second time."""
    double, difference = score.astype(np.float64), residual.astype(np.float64)
    if rule == "median":
        return np.median(double, axis=1).astype(np.float32), np.median(difference, axis=1).astype(np.float32)
    if rule == "rank":
        ranks = np.full(score.shape, np.nan)
        for model, band in np.ndindex(score.shape[1:]):
            known = np.isfinite(score[:, model, band])
            sample, values = double[in_sample, model, band], double[known, model, band]
            ranks[known, model, band] = percentileofscore(sample, values, kind="weak") / 100
        double = ranks
    return double.mean(axis=1).astype(np.float32), difference.mean(axis=1).astype(np.float32)


def selecting(rule: Rule) -> SelectSection:
    """The default selection, with one format and a rule of combination."""
    return SelectSection(formats=("fits",), combine=rule)


# ---------------------------------------------------------------- which weight sets


def test_the_lowest_validation_losses_of_all_runs_are_chosen(reference: Path) -> None:
    kept = []
    for run in range(2):
        with (reference / f"models/run-{run:02d}/history.csv").open() as stream:
            rows = [(float(row["val_loss"]), run, int(row["epoch"])) for row in csv.DictReader(stream)]
        kept += [row for row in rows if row[2] >= 2]
    assert len(kept) == 4
    manifest = manifest_of(reference)
    found = [(item["val_loss"], item["run"], item["epoch"]) for item in manifest["ensemble"]]
    assert found == sorted(kept)[:N_MODELS]
    for item in manifest["ensemble"]:
        assert item["file"] == f"run-{item['run']:02d}/epoch-{item['epoch']:02d}.keras"
        assert digest_file(reference / "models" / item["file"]) == item["sha256"] == manifest["files"][item["file"]]
    assert manifest["selected"]["sha256"] == manifest["ensemble"][0]["sha256"]


def test_one_of_each_run_is_chosen(copied: Path, job: Path) -> None:
    stage = choosing(train_stage(copied, job), n_models=2, one_a_run=True)
    assert stage.identity != choosing(stage, one_a_run=False).identity
    receipts = [receipt for run in range(2) if (receipt := stage.ledger.read(f"{run:06d}")) is not None]
    stage.finish(receipts, print)
    expected = []
    for run in range(2):
        with (copied / f"models/run-{run:02d}/history.csv").open() as stream:
            rows = [(float(row["val_loss"]), run, int(row["epoch"])) for row in csv.DictReader(stream)]
        expected.append(min(row for row in rows if row[2] >= 2))
    found = [(item["val_loss"], item["run"], item["epoch"]) for item in manifest_of(copied)["ensemble"]]
    assert found == sorted(expected)
    with pytest.raises(
        SwimmyError, match=r"2 weight sets of different runs were kept.* 3. Lower score.n_models, or raise"
    ):
        choosing(stage, n_models=3).finish(receipts, print)


def train_stage(directory: Path, job: Path) -> TrainStage:
    stages = Run(RunDirectory(directory), load_job(job, Job), 1).stages()
    return next(stage for stage in stages if isinstance(stage, TrainStage))


def choosing(stage: TrainStage, **score: Any) -> TrainStage:
    """The stage with other settings of scoring."""
    settings = stage.settings
    other = settings.score.model_copy(update=score)
    return dataclasses.replace(stage, settings=settings.model_copy(update={"score": other}))


def test_another_number_of_models_trains_nothing_again(reference: Path, job: Path) -> None:
    stage = train_stage(reference, job)
    for n_models in (1, 2):
        other = choosing(stage, n_models=n_models)
        assert other.identity != stage.identity
        assert [task.identity for task in other.plan()] == [task.identity for task in stage.plan()]


def test_more_models_than_weight_sets_are_refused(copied: Path, job: Path, survey: Path, tmp_path: Path) -> None:
    other = write_job(tmp_path / "job.yaml", survey, train=TRAIN, score={"n_models": 5})
    with pytest.raises(SwimmyError, match=r"score.n_models 5 is more than the 4 weight sets that train keeps. Raise"):
        load_job(other, Job)
    stage = choosing(train_stage(copied, job), n_models=5)
    receipts = [stage.ledger.read(f"{run:06d}") for run in range(2)]
    with pytest.raises(SwimmyError, match=r"models: 4 weight sets were kept, and score.n_models asks for 5. Lower"):
        stage.finish([receipt for receipt in receipts if receipt is not None], print)


# ---------------------------------------------------------------- scores


def test_each_model_scores_as_it_does_alone(reference: Path, tmp_path: Path) -> None:
    together = Scores(reference / "scores.zarr")
    score, residual = together.read("score"), together.read("residual")
    assert score.shape == residual.shape == (together.n_objects, N_MODELS, 5)
    ensemble = manifest_of(reference)["ensemble"]
    assert together.read("model").tolist() == [str(k) for k in range(len(ensemble))]
    assert together.attrs["model_sha256"] == [item["sha256"] for item in ensemble]
    limits = MemoryLimits(1 << 40, 1 << 40, "here", "")
    for which, item in enumerate(ensemble):
        path, cutouts = reference / "models" / item["file"], reference / "cutouts.zarr"
        scoring = standalone.recorded_scoring([path], cutouts, Settings(), [], 1)
        with Watch() as watch:
            standalone.score(cutouts, scoring, tmp_path / f"{which}.zarr", Settings(), Serial(), watch, limits)
        alone = Scores(tmp_path / f"{which}.zarr")
        assert alone.n_models == 1
        assert alone.read("score").tobytes() == score[:, which].tobytes()
        assert alone.read("residual").tobytes() == residual[:, which].tobytes()
        for name in ("quarantine_code", "object_id"):
            assert alone.read(name).tobytes() == together.read(name).tobytes()
    assert len({score[:, which].tobytes() for which in range(N_MODELS)}) == N_MODELS


def cuts_of(run: Path) -> SampleCuts:
    return RunDirectory(run).load_job().sample


@pytest.mark.parametrize("rule", RULES)
def test_the_combined_score_is_cut(copied: Path, rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection_module, "BLOCK_OBJECTS", 100)
    output = copied / "selections" / rule
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    summary = select(copied, output, selecting(rule), cuts_of(copied))
    assert {path: path.read_bytes() for path in before} == before, "nothing but its own folder is written to"
    assert (summary["combine"], summary["n_models"]) == (rule, N_MODELS)
    assert summary["model_sha256"] == [item["sha256"] for item in manifest_of(copied)["ensemble"]]
    with xarray.open_zarr(copied / "scores.zarr") as scored, xarray.open_zarr(output / "selection.zarr") as cut:
        ds = scored.assign(cut.variables)
        in_sample = ds.in_sample.values
        score, residual = combined(rule, ds.score.values, ds.residual.values, in_sample)
        assert ds.combined_score.dims == ds.combined_residual.dims == ("object", "band")
        np.testing.assert_array_equal(ds.combined_score.values, score)
        np.testing.assert_array_equal(ds.combined_residual.values, residual)
        assert cut.attrs["combine"] == rule
        assert ds.combined_score.attrs["long_name"] == TEXTS[rule]
        threshold = np.quantile(score[in_sample].astype(np.float64), 1 - np.array([*LEVELS.values()]), axis=0)
        assert np.array_equal(ds.threshold.values, threshold)
        flags = (score[:, None] > threshold) & (residual > 0)[:, None] & in_sample[:, None, None]
        flags[:, :, 3:] = False
        assert np.array_equal(ds.candidate.values, flags)
        chosen = flags[:, 0].any(axis=1)
        object_id = ds.object_id.values[chosen]
    table = Table.read(output / "candidates.fits")
    order = np.argsort(object_id)
    assert np.asarray(table["object_id"]).tolist() == object_id[order].tolist()
    for column, values in (("score", score), ("residual", residual)):
        for at, band in enumerate("gri"):
            assert np.asarray(table[f"{column}_{band}"]).tolist() == values[chosen][order, at].tolist()
    metadata = json.loads(table.meta["METADATA"])
    assert (metadata["combine"], metadata["n_models"]) == (rule, N_MODELS)
    assert metadata["combined_score"] == TEXTS[rule]
    rows = summary["selected"]["2sigma"]["rows"]
    assert rows["any"]["sample"]["n_selected"] == len(table) > 0
    written = SelectionFolder(output).ledger.read(FINISHED)
    assert written is not None
    assert {"selection.zarr/combined_score/c/0/0", "selection.zarr/combined_residual/zarr.json"} <= set(written.files)


def test_streamed_thresholds_cut_the_combined_score(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swimmy_scale.stages.select.sample_thresholds.__defaults__", (0,))
    select(copied, copied / "selections/mean", selecting("mean"), cuts_of(copied))
    one, other = (Selection(path / "selection.zarr").read("threshold") for path in (copied, copied / "selections/mean"))
    assert one.tobytes() == other.tobytes()


def test_one_model_knows_nothing_of_combining(reference: Path, tmp_path: Path) -> None:
    summary, _ = run_serially(write_job(tmp_path / "job.yaml", tmp_path, **listed(reference, 1)), tmp_path / "run")
    assert not (tmp_path / "run/selection.zarr/combined_score").exists()
    assert not {"combine", "n_models"} & set(summary)
    assert summary["model_sha256"] == manifest_of(reference)["ensemble"][0]["sha256"]
    for rule in set(RULES) - {"mean"}:
        with pytest.raises(
            SwimmyError, match=f"holds the scores of one model, and select.combine {rule} is for several"
        ):
            select(tmp_path / "run", tmp_path / "out", selecting(rule))
    assert not (tmp_path / "out/selection.zarr").exists()


# ---------------------------------------------------------------- the same bytes, resumed and repaired


def test_dask_gives_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    job = write_job(tmp_path / "job.yaml", tmp_path, **listed(reference), score={"batch_size": 7})
    result = call_here("run", job, "--output", tmp_path / "run", "--workers", 2)
    assert result.returncode == 3, result.stderr
    assert_same_results(tmp_path / "run", reference)
    for name in ("combined_score", "combined_residual"):
        one, other = (Selection(run / "selection.zarr").read(name) for run in (tmp_path / "run", reference))
        assert one.tobytes() == other.tobytes()
    provenance = json.loads((tmp_path / "run/provenance.json").read_text())
    assert provenance["model_sha256"] == [item["sha256"] for item in manifest_of(reference)["ensemble"]]


def test_run_again_does_nothing(reference: Path, job: Path) -> None:
    before = (reference / "summary.json").stat().st_mtime_ns
    assert run_serially(job, reference)[1].n_tasks == 0
    assert (reference / "summary.json").stat().st_mtime_ns == before


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("selection.zarr/combined_score/c/0/0", flip),
        ("selection.zarr/combined_residual/c/0/0", Path.unlink),
        ("selection.zarr/combined_score/zarr.json", flip),
        ("selection.zarr/combined_residual/zarr.json", Path.unlink),
        ("scores.zarr/model/zarr.json", flip),
        ("scores.zarr/score/c/3/0/0", flip),
        ("scores.zarr/score/zarr.json", Path.unlink),
        ("scores.zarr/zarr.json", flip),
        ("models/run-01/epoch-03.keras", Path.unlink),
    ],
)
def test_damage_is_found_and_repaired(
    copied: Path, reference: Path, job: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(copied / name)
    assert [item.path for item in verify(copied)] == [name]
    mark(copied)
    run_serially(job, copied)
    assert verify(copied) == []
    assert_same_results(copied, reference)
    for variable in ("combined_score", "combined_residual"):
        one, other = (Selection(run / "selection.zarr").read(variable) for run in (copied, reference))
        assert one.tobytes() == other.tobytes()


def test_a_selection_that_fails_leaves_the_one_before_it(
    copied: Path, reference: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(copied / "receipts", copied, "select")
    ledger.remove(FINISHED)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("swimmy_scale.stages.select._flags", fail)
    with pytest.raises(OSError, match="no space left"):
        run_serially(job, copied)
    assert (copied / "selection.zarr/candidate").exists()
    assert not list(copied.glob(".selection*"))
    monkeypatch.undo()
    run_serially(job, copied)
    assert verify(copied) == []
    assert_same_results(copied, reference)


# ---------------------------------------------------------------- what is refused


def test_ranks_that_do_not_fit_in_memory(
    copied: Path, survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combine, "RANKED_OBJECTS", 3 * 240 - 1)
    message = (
        r"ranks of 240 objects and 3 models .* and 239 objects is the limit .* Set select.combine to mean or median"
    )
    with pytest.raises(SwimmyError, match=r"scores.zarr: " + message):
        select(copied, copied / "selections/rank", selecting("rank"), cuts_of(copied))
    job = write_job(
        tmp_path / "job.yaml", survey, train=TRAIN, score={"n_models": N_MODELS}, select={"combine": "rank"}
    )
    with pytest.raises(SwimmyError, match=r"cutouts.zarr: " + message):
        run_serially(job, tmp_path / "refused")
    assert not (tmp_path / "refused/models").exists(), "before anything is trained"
    monkeypatch.setattr(combine, "RANKED_OBJECTS", 3 * 240)
    select(copied, copied / "selections/rank", selecting("rank"), cuts_of(copied))


@pytest.mark.parametrize(
    ("n_models", "rule", "message"),
    [
        (3, "median", "its thresholds cut the mean of 3 models, and here they would cut the median of 3 models. Give"),
        (2, "mean", "its thresholds cut the mean of 3 models, and here they would cut the mean of 2 models"),
        (1, "mean", "its thresholds cut the mean of 3 models, and here they would cut scores of one model"),
    ],
)
def test_thresholds_of_another_ensemble_are_refused(
    reference: Path, tmp_path: Path, n_models: int, rule: Rule, message: str
) -> None:
    section = {"combine": rule, "thresholds_from": str(reference / "summary.json")}
    job = write_job(tmp_path / "job.yaml", tmp_path, **listed(reference, n_models), select=section)
    with pytest.raises(SwimmyError, match=message):
        run_serially(job, tmp_path / "run")
    assert not (tmp_path / "run/scores.zarr").exists(), "before any work"


def test_thresholds_of_the_same_ensemble_are_carried(reference: Path, copied: Path, tmp_path: Path) -> None:
    section = {"thresholds_from": str(copied / "summary.json")}
    job = write_job(tmp_path / "job.yaml", tmp_path, **listed(reference), select=section)
    summary, _ = run_serially(job, tmp_path / "other")
    assert summary["thresholds"] == json.loads((copied / "summary.json").read_text())["thresholds"]
    # The run's own copy knows whose thresholds they are, when the other run is gone.
    (copied / "summary.json").unlink()
    Ledger(tmp_path / "other/receipts", tmp_path / "other", "select").remove(FINISHED)
    assert run_serially(job, tmp_path / "other")[0] == summary
    ranked = selecting("rank").model_copy(update={"thresholds_from": tmp_path / "other/summary.json"})
    with pytest.raises(SwimmyError, match="would cut the rank of 3 models"):
        select(tmp_path / "other", tmp_path / "x", ranked)


# ---------------------------------------------------------------- the picture, the command line


def test_the_picture_shows_the_mean_reconstruction(reference: Path, job: Path) -> None:
    scoring = Run(RunDirectory(reference), load_job(job, Job), 1).scoring
    source = np.random.default_rng(1).random((3, 5, 64, 64), np.float32)
    expected = np.zeros((3, 64, 64, 5), np.float64)
    for model in scoring.models:
        expected += keras.models.load_model(model.path).predict(source.transpose(0, 2, 3, 1), verbose=0)
    found = picture.reconstructor(scoring)(source)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2) / N_MODELS, atol=1e-6)
    assert (reference / "candidates.png").stat().st_size > 0


def test_score_and_select_by_the_command_line(reference: Path, tmp_path: Path) -> None:
    ensemble = manifest_of(reference)["ensemble"]
    models = [reference / "models" / item["file"] for item in ensemble]
    settings = tmp_path / "settings.yaml"
    settings.write_text("score: {n_models: 2}")
    (tmp_path / "select.yaml").write_text("select: {combine: median}")

    def invoke(*arguments: object) -> Any:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    score = ("score", reference / "cutouts.zarr", "--output", tmp_path / "scores.zarr", "--workers", 0)
    two = ("--model", models[1], "--model", models[0])
    assert invoke(*score, *two, "--settings", settings).exit_code == 3
    together = Scores(tmp_path / "scores.zarr")
    reversed_order = Scores(reference / "scores.zarr").read("score")[:, [1, 0]]
    assert together.read("score").tobytes() == reversed_order.tobytes()
    assert invoke("verify", tmp_path / "scores.zarr").exit_code == 0
    selected = invoke(
        "select", tmp_path / "scores.zarr", "--output", tmp_path / "s", "--settings", tmp_path / "select.yaml"
    )
    assert selected.exit_code == 3, selected.stderr
    assert json.loads((tmp_path / "s/summary.json").read_text())["combine"] == "median"
    digests = ("--model-sha256", ensemble[1]["sha256"])
    refused = invoke(*score, *two, *digests)
    assert refused.exit_code == 2
    assert "--model-sha256 comes once for each --model, in the same order" in refused.stderr
    swapped = invoke(*score, *two, "--model-sha256", ensemble[0]["sha256"], *digests)
    assert swapped.exit_code == 1
    assert f"its sha256 is {ensemble[1]['sha256']}, {ensemble[0]['sha256']} was recorded" in swapped.stderr
    assert "these weights are given twice" in invoke(*score, "--model", models[0], *two).stderr
    third = invoke(*score, "--model", models[2], *two, "--settings", settings)
    assert "the settings say score.n_models 2, and 3 models are given. Repeat --model" in third.stderr


def test_models_of_different_networks_are_refused(reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference / "models", tmp_path / "models")
    manifest = manifest_of(reference)
    manifest["network"]["latent_filters"] = 8
    (tmp_path / "models/manifest.json").write_text(json.dumps(manifest))
    first, second = (item["file"] for item in manifest["ensemble"][:2])
    paths = [reference / "models" / first, tmp_path / "models" / second]
    with pytest.raises(
        SwimmyError, match=r"keras: its network is .*latent_filters=8.* that of .* is .*score with this"
    ):
        standalone.recorded_scoring(paths, reference / "cutouts.zarr", Settings(), [], 1)
