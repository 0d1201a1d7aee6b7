"""Campaigns from the job to the weights that score: judged, chosen, resumed, repaired; against weights scored alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from astropy.table import Table
from click.testing import CliRunner
from survey_runs import NETWORK, Serial, make_survey, mark, run_serially, verify, write_job

from swimmy_scale.cli import main
from swimmy_scale.cli.progress import Watch
from swimmy_scale.cluster.mapping import DaskWorkers
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, Settings, load_job
from swimmy_scale.method.network import Network
from swimmy_scale.method.sections import TrainSection
from swimmy_scale.model import scoring as scoring_module
from swimmy_scale.model.scoring import Model
from swimmy_scale.stages import standalone
from swimmy_scale.stages.engine import run_stage
from swimmy_scale.stages.evaluate import EvaluateStage, campaign_stages, evaluate_training, known_sample
from swimmy_scale.stages.memory import MIB, MemoryLimits, score_memory_bytes
from swimmy_scale.stages.run import Run
from swimmy_scale.stages.score import ScoreStage
from swimmy_scale.storage.cutouts import Cutouts
from swimmy_scale.storage.files import digest_file
from swimmy_scale.storage.receipts import FINISHED, Ledger
from swimmy_scale.storage.run_directory import ModelsFolder, RunDirectory, ledger_beside
from swimmy_scale.storage.scores import Scores
from swimmy_scale.storage.selection import Selection

# NumPy warns of its new copy rules for code inside of Keras, not for ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]

KNOWN = ("quasar", "xelg")
FRACTION = 0.3
ROOMY = MemoryLimits(1 << 40, 1 << 40, "this test", "ask for more")
# Large fractions, so that networks of two epochs do not all select the same few objects.
LEVELS = {"1sigma": FRACTION, "2sigma": 0.05}
TRAIN = {
    "network": NETWORK,
    "schedule": {"epochs": 2, "keep_from_epoch": 1, "batch_size": 16, "seed": 5},
    "grid": {"latent_filters": [3, 4], "noise": [0.05]},
    "n_threads": 1,
    "choose": "known_classes",
}
NETWORKS = [Network(encoder_filters=tuple(NETWORK["encoder_filters"]), latent_filters=d, noise=0.05) for d in (3, 4)]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_survey(tmp_path_factory.mktemp("simulated") / "survey", 160)


@pytest.fixture(scope="module")
def job(survey: Path) -> Path:
    return write_job(survey.parent / "job.yaml", survey, train=TRAIN, select={"levels": LEVELS})


@pytest.fixture(scope="module")
def reference(job: Path) -> Path:
    """Two networks of one run and two weight sets each, judged in one process."""
    run_serially(job, job.parent / "run")
    return job.parent / "run"


@pytest.fixture
def copied(reference: Path, tmp_path: Path) -> Path:
    shutil.copytree(reference, tmp_path / "run", copy_function=shutil.copy2)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def alone(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every weight set scored alone by the score stage, and what it selects, counted object by object."""
    found = []
    for k, item in enumerate(table_of(reference)):
        output = tmp_path_factory.mktemp("alone") / f"scores-{k}.zarr"
        stage = stage_of(reference, ScoreStage)
        model = Model(reference / "models" / item["file"], item["sha256"])
        alone = replace(stage.scoring, models=(model,), network=NETWORKS[item["run"]])
        with Watch() as watch:
            run_stage(replace(stage, ledger=ledger_beside(output, "score"), scores=output, scoring=alone), Serial(),
                      watch)  # fmt: skip
        in_sample = Selection(reference / "selection.zarr").read("in_sample")
        found.append(naive_counts(Scores(output), in_sample))
    return found


def naive_counts(scores: Scores, in_sample: npt.NDArray[np.bool_]) -> dict[str, Any]:
    score, residual, kind = scores.read("score"), scores.read("residual"), scores.read("sample_class").astype(str)
    cut = [np.quantile(score[in_sample, band].astype(np.float64), 1 - FRACTION) for band in range(3)]
    counts: dict[str, Any] = {"thresholds": dict(zip("gri", cut, strict=True)), "n_selected_any": 0}
    counts |= {name: {"n": 0, "g": 0, "r": 0, "i": 0, "any": 0} for name in KNOWN}
    for row in np.flatnonzero(in_sample):
        bands = [b for k, b in enumerate("gri") if float(score[row, k]) > cut[k] and residual[row, k] > 0]
        counts["n_selected_any"] += bool(bands)
        if kind[row] in KNOWN:
            counts[kind[row]]["n"] += 1
            for band in [*bands, *(["any"] if bands else [])]:
                counts[kind[row]][band] += 1
    return counts


def table_of(run: Path) -> Table:
    return Table.read(run / "models/weight_sets.ecsv", format="ascii.ecsv")


def stage_of[S](run: Path, kind: type[S]) -> S:
    stages = Run(RunDirectory(run), load_job(run / "job.yaml", Job), 1).stages()
    return next(stage for stage in stages if isinstance(stage, kind))


def evaluate_stage(run: Path, **changes: Any) -> EvaluateStage:
    return changed(stage_of(run, EvaluateStage), **changes)


def changed(stage: EvaluateStage, **changes: Any) -> EvaluateStage:
    """The stage with other settings of scoring or training, or other attributes of its own."""
    settings = stage.train.settings
    of_score = {name: changes.pop(name) for name in ("n_models", "one_a_run") if name in changes}
    of_train = {name: changes.pop(name) for name in list(changes) if name in TrainSection.model_fields}
    sections = {
        "score": settings.score.model_copy(update=of_score),
        "train": stage.train.section.model_copy(update=of_train),
    }
    train = replace(stage.train, settings=settings.model_copy(update=sections))
    return replace(stage, train=train, **changes)


def perform(stage: EvaluateStage) -> int:
    """Run a stage in this process; return the number of tasks that it did."""
    workers = Serial()
    with Watch() as watch:
        run_stage(stage, workers, watch)
    return workers.n_tasks


def evaluation_files(run: Path) -> dict[str, bytes]:
    models = run / "models"
    names = ["selected.keras", "manifest.json", "weight_sets.ecsv"]
    return {path.name: path.read_bytes() for path in [*(models / name for name in names), *models.glob("evaluation/*")]}


# ---------------------------------------------------------------- what is judged and chosen


def test_counts_are_those_of_weights_scored_alone(reference: Path, alone: list[dict[str, Any]]) -> None:
    table = table_of(reference)
    assert [(row["run"], row["epoch"]) for row in table] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    judged = [json.loads((reference / f"models/evaluation/run-0{run}.json").read_text()) for run in (0, 1)]
    details = [item for content in judged for item in content["weight_sets"]]
    for row, found, expected in zip(table, details, alone, strict=True):
        assert found["thresholds"] == expected["thresholds"]
        assert found["sha256"] == row["sha256"] == digest_file(reference / "models" / row["file"])
        assert row["n_selected_any"] == expected["n_selected_any"] > 0
        for name in KNOWN:
            assert {**found["n_selected"][name], "n": found["n_objects"][name]} == expected[name]
            assert (row[f"n_{name}"], row[f"n_selected_{name}"]) == (expected[name]["n"], expected[name]["any"])
            assert row[f"r_sel_{name}"] == expected[name]["any"] / expected[name]["n"]
    expected_meta = {"choose": "known_classes", "level": "1sigma", "fraction": FRACTION, "threshold_objects": None}
    assert expected_meta.items() <= table.meta.items()
    n_sample = int(Selection(reference / "selection.zarr").read("in_sample").sum())
    assert (table.meta["n_threshold_objects"], table.meta["bands"]) == (n_sample, ["g", "r", "i"])
    assert len({tuple(item.values()) for item in (found["thresholds"] for found in details)}) == 4


def test_the_best_by_the_known_classes_scores(reference: Path, alone: list[dict[str, Any]]) -> None:
    table = table_of(reference)
    sums = [sum(item[name]["any"] / item[name]["n"] for name in KNOWN) for item in alone]
    keys = [(-sums[k], row["val_loss"], row["run"], row["epoch"]) for k, row in enumerate(table)]
    best = table[keys.index(min(keys))]
    assert [row["rank_by_known_classes"] for row in table] == [1 + sorted(keys).index(key) for key in keys]
    manifest = json.loads((reference / "models/manifest.json").read_text())
    assert (manifest["selected"]["run"], manifest["selected"]["epoch"]) == (best["run"], best["epoch"])
    assert manifest["selected"]["rule"] == "highest r_sel(quasar) + r_sel(xelg) at 1sigma"
    assert manifest["selected"]["r_sel_sum"] == pytest.approx(max(sums), abs=1e-12)
    assert digest_file(reference / "models/selected.keras") == best["sha256"]
    assert Scores(reference / "scores.zarr").attrs["model_sha256"] == best["sha256"]
    assert json.loads((reference / "provenance.json").read_text())["model_sha256"] == best["sha256"]
    # The very numbers by which it was chosen come out of the selection.
    rows = json.loads((reference / "summary.json").read_text())["selected"]["1sigma"]["rows"]["any"]
    assert [rows[name]["n_selected"] for name in KNOWN] == [best[f"n_selected_{name}"] for name in KNOWN]
    assert rows["sample"]["n_selected"] == best["n_selected_any"]


def test_the_validation_loss_chooses_and_the_known_classes_only_judge(copied: Path) -> None:
    before = evaluation_files(copied)
    stage = evaluate_stage(copied, choose="validation_loss")
    assert perform(stage) == 0, "nothing is scored again for another choice"
    table = table_of(copied)
    best = table[np.argmin(table["val_loss"])]
    choice = json.loads((copied / "models/manifest.json").read_text())["selected"]
    assert (choice["run"], choice["epoch"], choice["rule"]) == (best["run"], best["epoch"], "lowest validation loss")
    assert digest_file(copied / "models/selected.keras") == best["sha256"]
    assert table.meta["choose"] == "validation_loss"
    assert evaluation_files(copied)["run-00.json"] == before["run-00.json"]


def test_several_that_score_are_the_best_of_one_network(copied: Path) -> None:
    assert perform(evaluate_stage(copied, n_models=2)) == 0
    listed = json.loads((copied / "models/manifest.json").read_text())["ensemble"]
    table = table_of(copied)
    table.sort("rank_by_known_classes")
    of_the_best = table[table["run"] == table["run"][0]]
    assert [item["sha256"] for item in listed] == list(of_the_best["sha256"])
    assert set(table["sha256"][table["chosen_by_known_classes"]]) == set(of_the_best["sha256"])
    Ledger(copied / "receipts", copied, "evaluate").remove(FINISHED)
    with pytest.raises(SwimmyError, match=r"2 weight sets were kept, and score.n_models asks for 3.*keep_from_epoch"):
        perform(evaluate_stage(copied, n_models=3))


def test_one_of_each_run_where_the_known_classes_choose(copied: Path) -> None:
    alone = evaluate_stage(copied, n_models=1)
    assert changed(alone, one_a_run=True).identity == alone.identity, "one is of one run anyway"
    several = evaluate_stage(copied, n_models=2)
    assert changed(several, one_a_run=True).identity != several.identity
    # The network of the best has one run in this grid.
    with pytest.raises(
        SwimmyError, match=r"1 weight sets of different runs were kept, .* Lower score.n_models, or raise"
    ):
        perform(changed(several, one_a_run=True))


def test_some_objects_set_the_thresholds_and_all_of_the_known_classes_count(
    reference: Path, tmp_path: Path, alone: list[dict[str, Any]]
) -> None:
    stage = evaluate_stage(reference, threshold_objects=40, ledger=Ledger(tmp_path / "receipts", tmp_path, "evaluate"))
    task = replace(stage.plan()[1], output=tmp_path / "run-01.json")
    details = evaluate_training(task).details["judgements"]
    sample = known_sample(Cutouts(reference / "cutouts.zarr"), task.judged)
    assert int(sample.sets_thresholds.sum()) == 40
    again = known_sample(Cutouts(reference / "cutouts.zarr"), task.judged)
    assert np.array_equal(again.rows, sample.rows)
    scores = Selection(reference / "selection.zarr")
    kind, in_sample = scores.read("sample_class").astype(str), scores.read("in_sample")
    assert in_sample[sample.rows].all()
    assert set(np.flatnonzero(in_sample & np.isin(kind, KNOWN))) <= set(sample.rows.tolist())
    assert len(sample.rows) < 0.5 * scores.n_objects, "few enough to be packed into batches"
    chosen = json.loads((reference / "models/manifest.json").read_text())["selected"]["sha256"]
    for found, whole in zip(details, alone[2:], strict=True):
        assert found["n_threshold_objects"] == 40
        assert found["thresholds"] != whole["thresholds"]
        assert found["n_objects"] == {name: whole[name]["n"] for name in KNOWN}
        if found["sha256"] == chosen:
            score = scores.read("score")[sample.rows[sample.sets_thresholds], :3].astype(np.float64)
            assert list(found["thresholds"].values()) == np.quantile(score, 1 - FRACTION, axis=0).tolist()


def test_more_than_there_are_is_the_whole_sample(reference: Path) -> None:
    stage = evaluate_stage(reference, threshold_objects=10_000)
    sample = known_sample(Cutouts(reference / "cutouts.zarr"), stage.plan()[0].judged)
    in_sample = Selection(reference / "selection.zarr").read("in_sample")
    assert np.array_equal(sample.rows, np.flatnonzero(in_sample))
    assert sample.sets_thresholds.all()


# ---------------------------------------------------------------- what cannot be judged


def test_no_known_class_is_found_before_anything_is_trained(reference: Path, tmp_path: Path) -> None:
    store = {"cutouts": str(reference / "cutouts.zarr"), "catalogue": None, "ingest": None, "storage": None}
    train = {**TRAIN, "known_classes": ["lens", "ring"]}
    job = write_job(tmp_path / "job.yaml", tmp_path, **store, train=train)
    message = r"no object of the known classes lens, ring is in the sample of \d+ \(.*xelg \d+\).*train.known_classes"
    with pytest.raises(SwimmyError, match=message):
        run_serially(job, tmp_path / "run")
    assert not (tmp_path / "run/models").exists()


def test_one_empty_class_is_nan_and_the_other_chooses(copied: Path) -> None:
    perform(evaluate_stage(copied, known_classes=("lens", "xelg")))
    table = table_of(copied)
    assert np.isnan(table["r_sel_lens"]).all()
    assert np.array_equal(table["r_sel_sum"], table["r_sel_xelg"])
    choice = json.loads((copied / "models/manifest.json").read_text())["selected"]
    assert choice["rule"] == "highest r_sel(xelg) at 1sigma"
    assert list(choice["r_sel"]) == ["xelg"]


def test_memory_is_checked_before_anything_is_trained(copied: Path) -> None:
    limits = MemoryLimits(100 * MIB, 100 * MIB, "this test", "ask for more")
    stage = evaluate_stage(copied, limits=limits)
    stage.check()  # what is finished needs no memory
    stage.ledger.remove(FINISHED)
    with pytest.raises(SwimmyError, match=r"evaluating a weight set on \d+ objects needs .* train.threshold_objects"):
        stage.check()


def test_more_passes_give_the_same_bytes(copied: Path, reference: Path) -> None:
    survey = Cutouts(reference / "cutouts.zarr").survey
    enough = score_memory_bytes(survey, NETWORKS[1], 1, 256, 16) + 10 * MIB
    assert perform(evaluate_stage(copied, scorer="keras")) == 2, "of another scorer nothing counts"
    before = evaluation_files(copied)
    limits = MemoryLimits(0, enough, "this test", "ask for more")
    stage = evaluate_stage(copied, scorer="keras", limits=limits)
    Ledger(copied / "receipts", copied, "evaluate").remove("000001")
    assert [len(task.passes) for task in stage.plan()] == [2, 2]
    assert perform(stage) == 1, "the other run was judged in one pass, and counts"
    assert evaluation_files(copied) == before
    assert evaluation_files(reference).keys() == before.keys()


def test_weights_that_were_changed_are_refused(copied: Path) -> None:
    Ledger(copied / "receipts", copied, "evaluate").remove(FINISHED)
    stage = evaluate_stage(copied)
    (copied / "models/run-01/epoch-01.keras").write_bytes(b"other weights")
    with pytest.raises(SwimmyError, match=r"run-01/epoch-01.keras: its sha256 is .* was recorded"):
        stage.plan()


class Broken:
    """Gives an object a score of its first pixel, and the brightest quasar one that is not finite in the last band."""

    batch_size = 16

    def __init__(self, fused: bool, bad: float) -> None:
        self.fused, self.bad = fused, bad

    def score_counts(self, image: Any, fwhm: Any) -> tuple[Any, Any]:
        score = np.repeat(image[:, None, :, 0, 0], 2, axis=1)
        score[score[:, 0, 0] == self.bad, 1, 4] = np.inf
        return score, np.ones_like(score)

    def score_blocks(self, blocks: Any) -> Iterator[Any]:
        return ((tag, *self.score_counts(image, fwhm)) for image, fwhm, tag in blocks)


@pytest.mark.parametrize("fused", [True, False])
def test_an_object_without_a_finite_score_counts_nowhere(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    store = Cutouts(reference / "cutouts.zarr")
    stage = evaluate_stage(reference, ledger=Ledger(tmp_path / "receipts", tmp_path, "evaluate"))
    task = replace(stage.plan()[0], output=tmp_path / "run-00.json")
    sample = known_sample(store, task.judged)
    pixel = store.images(0, store.n_objects)[:, :, 0, 0][sample.rows]
    bad = pixel[np.flatnonzero(sample.members["quasar"])[0], 0]
    monkeypatch.setattr(scoring_module, "scorer_for", lambda *_: Broken(fused, bad))
    whole, broken = evaluate_training(task).details["judgements"]
    n_quasars = int(sample.members["quasar"].sum())
    assert (whole["n_objects"]["quasar"], broken["n_objects"]["quasar"]) == (n_quasars, n_quasars - 1)
    for found, rows in ((whole, slice(None)), (broken, pixel[:, 0] != bad)):
        assert found["n_threshold_objects"] == len(pixel[rows])
        cut = np.quantile(pixel[rows, :3].astype(np.float64), 1 - FRACTION, axis=0)
        assert list(found["thresholds"].values()) == cut.tolist()
        assert found["n_selected_any"] == int((pixel[rows, :3] > cut).any(axis=1).sum())


# ---------------------------------------------------------------- resumed and repaired


def test_only_what_has_no_receipt_is_done_again(copied: Path, reference: Path, job: Path) -> None:
    ledger = Ledger(copied / "receipts", copied, "evaluate")
    ledger.remove(FINISHED)
    ledger.remove("000001")
    (copied / "models/evaluation/run-01.json").write_text("half of a fi")
    (copied / "models/selected.keras").unlink()
    untouched = (copied / "models/evaluation/run-00.json").stat().st_mtime_ns
    assert {row["stage"]: row["finished"] for row in RunDirectory(copied).status()}["evaluate"] is False
    _, workers = run_serially(job, copied)
    assert workers.n_tasks == 1
    assert (copied / "models/evaluation/run-00.json").stat().st_mtime_ns == untouched
    assert evaluation_files(copied) == evaluation_files(reference)
    assert verify(copied) == []


def test_run_again_does_nothing(reference: Path, job: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (reference / "models").rglob("*")}
    assert run_serially(job, reference)[1].n_tasks == 0
    assert {path: path.stat().st_mtime_ns for path in (reference / "models").rglob("*")} == before
    rows = {row["stage"]: row for row in RunDirectory(reference).status()}
    assert list(rows) == ["ingest", "train", "evaluate", "score", "select", "picture"]
    assert rows["evaluate"] == {"stage": "evaluate", "finished": True, "n_tasks": 2, "n_objects": 0, "n_quarantined": 0}


@pytest.mark.parametrize(
    ("name", "stage", "n_tasks"),
    [
        ("models/evaluation/run-00.json", "evaluate", 1),
        ("models/weight_sets.ecsv", "evaluate", 0),
        ("models/selected.keras", "evaluate", 0),
        (f"receipts/train/{FINISHED}.json", "train", 0),
    ],
)
def test_damage_is_found_and_repaired(
    copied: Path, reference: Path, job: Path, name: str, stage: str, n_tasks: int
) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 16
    (copied / name).write_bytes(data)
    assert [(item.path, item.stage) for item in verify(copied)] == [(name, stage)]
    mark(copied)
    assert run_serially(job, copied)[1].n_tasks == n_tasks
    assert evaluation_files(copied) == evaluation_files(reference)
    assert verify(copied) == []


def test_dask_gives_the_same_bytes(copied: Path, reference: Path) -> None:
    before = evaluation_files(copied)
    shutil.rmtree(copied / "receipts/evaluate")
    shutil.rmtree(copied / "models/evaluation")

    options: dict[str, Any] = {"processes": False, "dashboard_address": None}
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        Watch() as watch,
    ):
        run_stage(evaluate_stage(copied), DaskWorkers(client, lambda: 1), watch)
    assert evaluation_files(copied) == before == evaluation_files(reference)


# ---------------------------------------------------------------- a grid, and training alone


def train_alone(cutouts: Path, models: Path, limits: MemoryLimits = ROOMY, **train: Any) -> tuple[Any, int]:
    """Receipt and number of tasks of `train` in this process."""
    content = {"train": {**TRAIN, **train}, "select": {"levels": LEVELS}}
    models.with_suffix(".yaml").write_text(yaml.safe_dump(content))
    workers = Serial()
    with Watch() as watch:
        settings = load_job(models.with_suffix(".yaml"), Settings)
        return standalone.train(cutouts, models, settings, workers, watch, limits), workers.n_tasks


def test_every_run_has_its_network_and_seed(reference: Path, tmp_path: Path) -> None:
    train = {**TRAIN, "n_runs": 2, "choose": "validation_loss", "grid": {"latent_filters": [4, 8], "noise": [0, 0.1]}}
    settings = Settings.model_validate({"train": train})
    models = ModelsFolder(tmp_path)
    (stage,) = campaign_stages(
        settings, reference / "cutouts.zarr", models, lambda name: Ledger(tmp_path, tmp_path, name), 1
    )
    found = [(t.folder.name, t.network.latent_filters, t.network.noise, t.schedule.seed) for t in stage.plan()]
    combinations = [(4, 0.0), (4, 0.0), (4, 0.1), (4, 0.1), (8, 0.0), (8, 0.0), (8, 0.1), (8, 0.1)]
    assert found == [(f"run-{run:02d}", *values, 5 + run) for run, values in enumerate(combinations)]
    assert len({task.identity for task in stage.plan()}) == 8


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (
            {"n_models": 2, "one_a_run": True},
            r"score.n_models 2 with score.one_a_run is more than train.n_runs 1. Raise",
        ),
        ({"n_models": 17}, r"score.n_models 17 is more than the 16 weight sets that train keeps. Raise train.n_runs"),
    ],
)
def test_too_few_weight_sets_by_default_are_refused_before_training(
    reference: Path, tmp_path: Path, score: dict[str, Any], message: str
) -> None:
    settings = Settings.model_validate({"score": score})
    models = ModelsFolder(tmp_path)
    stages = campaign_stages(
        settings, reference / "cutouts.zarr", models, lambda name: Ledger(tmp_path, tmp_path, name), 1
    )
    with pytest.raises(SwimmyError, match=message):
        list(stages)


def test_the_network_of_the_best_scores(reference: Path) -> None:
    table = table_of(reference)
    assert [row["latent_filters"] for row in table] == [3, 3, 4, 4]
    best = table[np.argmin(table["rank_by_known_classes"])]
    scoring = Run(RunDirectory(reference), load_job(reference / "job.yaml", Job), 1).scoring
    assert (scoring.sha256, scoring.network) == (best["sha256"], NETWORKS[best["run"]])
    for run, network in enumerate(NETWORKS):
        history = json.loads((reference / f"models/run-0{run}/history.json").read_text())
        assert Network.from_json(history["network"]) == network
    # A file that is given to `score` brings its network along.
    for name, run in (("run-00/epoch-01.keras", 0), ("run-01/epoch-02.keras", 1), ("selected.keras", best["run"])):
        path = reference / "models" / name
        assert standalone.recorded_model(path, reference / "cutouts.zarr", Settings(), None) == (
            NETWORKS[run],
            digest_file(path),
        )


def test_the_largest_network_of_a_grid_must_fit(reference: Path, tmp_path: Path) -> None:
    limits = MemoryLimits(8000 * MIB, 8000 * MIB, "this test", "ask for more")
    train = {"choose": "validation_loss", "grid": {"latent_filters": [4, 100_000]}}
    with pytest.raises(SwimmyError, match=r"training on \d+ objects needs up to .* gives it 8,000 MiB"):
        train_alone(reference / "cutouts.zarr", tmp_path / "models", limits, **train)


def test_training_alone_chooses_by_the_same_rules(copied: Path) -> None:
    before, cutouts, models = evaluation_files(copied), copied / "cutouts.zarr", copied / "models"
    # `train` writes what a run directory has, except for the place of the receipts.
    for stage in ("train", "evaluate"):
        shutil.copytree(copied / "receipts" / stage, copied / "models.receipts" / stage)
    Ledger(copied / "models.receipts", copied, "evaluate").remove("000000")
    done, n_tasks = train_alone(cutouts, models)
    assert (done.details["selected"]["rule"], n_tasks) == ("highest r_sel(quasar) + r_sel(xelg) at 1sigma", 1)
    assert evaluation_files(copied) == before
    assert verify(models) == []
    done, n_tasks = train_alone(cutouts, models, choose="validation_loss")
    assert (done.details["selected"]["rule"], n_tasks) == ("lowest validation loss", 0)
    assert verify(models) == [], "the earlier evaluation no longer vouches for files that were written again"
    table = table_of(copied)
    assert "chosen_by_known_classes" not in table.colnames
    shown = CliRunner().invoke(main, ["weight-sets", str(models)])
    assert shown.exit_code == 0, shown.output
    assert "4 weight sets, chosen by validation_loss" in shown.output
    assert "r_sel" not in shown.output
    assert digest_file(models / "selected.keras") == table["sha256"][np.argmin(table["val_loss"])]


# ---------------------------------------------------------------- the command


def test_the_table_on_the_terminal(reference: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["weight-sets", str(reference)])
    assert shown.exit_code == 0, shown.output
    table = table_of(reference)
    best = table[np.argmin(table["rank_by_known_classes"])]
    first = next(line for line in shown.output.splitlines() if re.match(r"\W+1 ", line))
    assert f"{best['val_loss']:.6f}" in first
    assert "known_classes" in first
    assert "4 weight sets, chosen by known_classes, judged at 1sigma of" in shown.output
    assert re.search(r"latent space dimension d\W+3, 4 ", shown.output)
    short = CliRunner().invoke(main, ["weight-sets", str(reference), "--rows", "1"])
    assert "3 more, see --rows and --csv" in short.output
    assert CliRunner().invoke(main, ["weight-sets", str(reference / "models")]).output == shown.output
    rows = CliRunner().invoke(main, ["weight-sets", str(reference), "--csv"]).output.splitlines()
    assert len(rows) == 5
    assert rows[0].split(",") == table.colnames
    refused = CliRunner().invoke(main, ["weight-sets", str(tmp_path)])
    assert refused.exit_code == 1
    assert "train.evaluate" in refused.output
