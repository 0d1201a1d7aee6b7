"""Job files: what is accepted, and what errors say and where."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import pydantic
import pytest
import yaml

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, Settings, dump_job, load_job, parse_job, plain
from swimmy_scale.method.noise import FLOOR
from swimmy_scale.method.score_kind import ScoreKind

ROOT = Path(__file__).resolve().parents[2]
# Each line stands for ten of the one before.
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 30))
GOOD = """\
name: test
catalogue: {path: cat.fits, columns: {ra: RAJ2000}}
ingest:
  sources: [cutouts, more.tar]
sample:
  max_magnitude: 19.5
  colours: [[g, r, 1.1]]
train:
  schedule: {epochs: 3, keep_from_epoch: 2}
"""
MODEL = "{path: m.keras, sha256: '%s'}"
STORE = "cutouts: c.zarr\n"


def parse(text: str) -> Job:
    return parse_job(text, Path("/data/job.yaml"), Job)


def test_paths_are_relative_to_the_job_file() -> None:
    job = parse(GOOD)
    assert job.catalogue is not None
    assert job.ingest is not None
    assert job.catalogue.path == Path("/data/cat.fits")
    assert job.ingest.sources == (Path("/data/cutouts"), Path("/data/more.tar"))
    assert job.sample.colours == (("g", "r", 1.1),)
    assert job.train is not None
    assert job.train.schedule.of_run(2).seed == job.train.schedule.of_run(0).seed + 2
    assert [network.latent_filters for network in job.networks] == [8]


@pytest.mark.parametrize(
    ("more", "n_threads"),
    [
        ("", 2),
        ("  n_runs: 1\n", 2),
        ("  n_runs: 2\n", 1),
        ("  grid: {latent_filters: [4, 8]}\n", 1),
        ("  n_runs: 30\n  n_threads: 4\n", 4),
        ("  n_threads: 1\n", 1),
    ],
)
def test_several_trainings_have_one_thread_each(more: str, n_threads: int) -> None:
    """The frozen job has the number, so that a run which another machine or job file goes on with keeps it."""
    job = parse(GOOD + more)
    assert job.train is not None
    assert job.train.n_threads == n_threads
    assert yaml.safe_load(dump_job(job, Path("/elsewhere")))["train"]["n_threads"] == n_threads
    assert parse(dump_job(job, Path("/elsewhere"))) == job


def test_defaults_are_the_papers() -> None:
    job = parse(GOOD)
    assert dict(job.select.levels) == {"2sigma": 0.05, "3sigma": 0.003, "3.5sigma": 0.000465}
    assert job.survey.target_fwhm_arcsec == 1.0
    assert job.storage.keep_mantissa_bits is None, "pixels are stored as they are"
    without_sample = GOOD.replace("sample:\n  max_magnitude: 19.5\n  colours: [[g, r, 1.1]]\n", "")
    assert parse(without_sample).sample.max_magnitude == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "a job is a mapping of sections; found a list"),
        ("a: [\n", "not valid YAML"),
        ("!!python/object/apply:os.system [ls]\n", "not valid YAML.*could not determine a constructor"),
        (
            GOOD + "colour: red\n",
            r"/data/job.yaml:10: colour: no such key \(found 'red'\). In the file there are .*Correct",
        ),
        (
            GOOD.replace("max_magnitude", "max_magnitud"),
            r"job.yaml:6: sample.max_magnitud: no such key \(found 19.5\). Did you mean max_magnitude\?",
        ),
        (GOOD.replace("19.5", "bright"), r"job.yaml:6: sample.max_magnitude: .*found 'bright'"),
        (GOOD.replace("epochs: 3", "epochs: 0"), r"job.yaml:9: train.schedule: .*epochs 0 must be 1 or more"),
        (
            GOOD.replace("epochs: 3", "epoch: 3"),
            r"job.yaml:9: train.schedule.epoch: no such key \(found 3\). Did you mean epochs\?",
        ),
        (GOOD.replace("path: cat.fits", "path: 5"), r"job.yaml:2: catalogue.path: must be a path, or null, found 5"),
        (GOOD.replace("path: cat.fits", "path: c.fits, colums: 5"), r"job.yaml:2: catalogue.colums: .*found 5"),
        (
            GOOD.replace("path: cat.fits", "path: c.fits, fwhm_arcsec: {g: 99}"),
            r"catalogue.fwhm_arcsec.g: must be a number, above 0 and below 50, found 99",
        ),
        (
            GOOD.replace("path: cat.fits", "path: c.fits, fwhm_arcsec: 0.7"),
            r"catalogue.fwhm_arcsec: must be a mapping of names to numbers",
        ),
        (
            GOOD.replace("path: cat.fits", "path: c.fits, pair_radius_arcsec: -1"),
            r"pair_radius_arcsec: must be a number from 0 to 60, found -1",
        ),
        (GOOD.replace("[cutouts, more.tar]", "\n    - cutouts\n    - 5"), r"job.yaml:6: ingest.sources.1: .*found 5"),
        (
            GOOD.replace("ingest:", "ingest:\n  kind: zip"),
            r"job.yaml:4: ingest.kind: must be auto, cutouts, coadd, cube or table, found 'zip'",
        ),
        (GOOD.replace("1.1", "red"), r"job.yaml:7: sample.colours.0.2: must be a number, found 'red'"),
        (GOOD + "score: fast\n", r"job.yaml:10: score: must be a section with keys, found 'fast'"),
        (GOOD + "survey: {band: [g]}\n", r"job.yaml:10: survey.band: no such key .*Did you mean bands"),
        (GOOD + "survey: hcs\n", r"job.yaml:10: survey: no survey is called 'hcs'; there are .*Did you mean hsc\?"),
        (GOOD + "survey: {base: 5}\n", r"job.yaml:10: survey: no survey is called 5; there are hsc, .* or euclid"),
        (GOOD + "survey: {bass: hsc}\n", r"survey.bass: no such key \(found 'hsc'\). Did you mean base"),
        (
            GOOD + "select: {formats: [fits, xls]}\n",
            r"job.yaml:10: select.formats.1: must be fits, ecsv, vot or parquet, found 'xls'",
        ),
        (GOOD + "select: {levels: {}}\n", r"job.yaml:10: select: every level needs a fraction between 0 and 1"),
        (GOOD + "select: {levels: {a: .nan}}\n", r"job.yaml:10: select: every level needs a fraction"),
        (GOOD + "1: x\n", r"job.yaml:10: 1: the names of keys are text, found 1. Put it in quotes"),
        (GOOD + "name: again\n", r"^/data/job.yaml:10: name is there twice. Leave one of them.$"),
        (GOOD + "select:\n  levels: {a: 0.1,\n    a: 0.2}\n", r"job.yaml:12: a is there twice"),
        ("x: &a [*a]\n", r"job.yaml:1: x: no such key"),
        ("[" * 5000, "nested too deeply to be a job"),
        (LAUGHS, r"/data/job.yaml: its aliases \(\*name\) stand for more than 1,000,000 values\. Write out"),
        ("name: " + "9" * 5000, r"a value cannot be read: Exceeds the limit \(4300 digits\) .* 5000 digits\. Correct"),
        ("name: 2020-13-45", r"job.yaml: a value cannot be read: month must be in 1..12"),
        (
            GOOD + "select: {levels: {1 %: 0.05, 1_%: 0.01}}\n",
            "levels '1 %' and '1_%' would share the column bands_1__",
        ),
        (GOOD + "select: {formats: [fits, fits]}\n", "each once"),
        (GOOD + "select: {formats: []}\n", "one or more of fits, ecsv, vot, parquet"),
        ("", "a job is a mapping of sections; found nothing"),
        ("survey\n", "a job is a mapping of sections; found text"),
        ("a: \x00\n", "not valid YAML: unacceptable character"),
        (GOOD.replace("cutouts, more.tar", ""), r"job.yaml:3: ingest: .*give either sources or coadd"),
        (
            GOOD + "score: {batch_size: 0}\n",
            r"job.yaml:10: score.batch_size: must be a whole number, 1 or more, or null, found 0",
        ),
        (GOOD + "select: {levels: {a: 0.01, b: 0.05}}\n", r"levels go from the largest fraction to the smallest"),
        (GOOD + "select: {levels: {a: 1.5}}\n", r"every level needs a fraction between 0 and 1"),
        (GOOD + "storage: {partition_objects: 100, chunk_objects: 30}\n", r"multiple of chunk_objects \(30\)"),
        (
            GOOD + "storage: {keep_mantissa_bits: 4}\n",
            r"storage.keep_mantissa_bits: must be a whole number from 5 to 22, or null, found 4",
        ),
        (
            GOOD + "storage: {keep_mantissa_bits: 23}\n",
            r"storage.keep_mantissa_bits: must be .* from 5 to 22, or null, found 23",
        ),
        (
            GOOD + "storage: {keep_mantissa_bits: all}\n",
            r"storage.keep_mantissa_bits: must be a whole number .*found 'all'",
        ),
        (GOOD + "cutouts: c.zarr\n", r"the job: .*leave out ingest and catalogue"),
        (
            GOOD + "model: {path: m.keras, sha256: abc}\n",
            r"model.sha256: must be 64 digits .* as sha256sum prints them, found 'abc'",
        ),
        (GOOD + f"model: {{path: m.keras, sha256: '{'0' * 64}'}}\n", r"give train, or model"),
        (
            GOOD + "survey: {bands: [g, g, i, z, y]}\n",
            r"job.yaml:10: survey: survey .*must be distinct.*Correct the survey section",
        ),
        (GOOD + "format_version: 2\n", r"job.yaml:10: format_version: must be 1, found 2"),
        (GOOD.replace("[g, r, 1.1]", "[g, u, 1.1]"), r"sample cut g - u: survey .* has no band 'u'"),
        (GOOD + "score: {n_models: 0}\n", r"job.yaml:10: score.n_models: must be a whole number, 1 or more, found 0"),
        (
            GOOD + "score: {n_models: 2, one_a_run: true}\n",
            r"the job: score.n_models 2 with score.one_a_run is more than train.n_runs 1. Raise train.n_runs, or lower",
        ),
        (GOOD + "score: {n_models: 3}\n", r"the job: score.n_models 3 is more than the 2 weight sets that train keeps"),
        (
            GOOD + "select: {combine: vote}\n",
            r"job.yaml:10: select.combine: must be mean, median or rank, found 'vote'",
        ),
        (GOOD + f"models: [{MODEL % ('a' * 64)}]\n", r"give train, or model"),
        (
            STORE + f"model: {MODEL % ('a' * 64)}\nmodels: [{MODEL % ('b' * 64)}]\n",
            r"give model .* or models .*, not both",
        ),
        (
            STORE + f"models: [{MODEL % ('a' * 64)}, {MODEL % ('a' * 64)}]\n",
            r"same sha256 twice. List each weight set once",
        ),
        (
            STORE + f"models: [{MODEL % ('a' * 64)}, {MODEL % 'b'}]\n",
            r"job.yaml:2: models.1.sha256: must be 64 digits",
        ),
        (
            STORE + f"models: [{MODEL % ('a' * 64)}, {{path: n, sha256: '{'b' * 64}', network: {{noise: 0}}}}]\n",
            r"models are of different networks. Give each the same network section",
        ),
        (
            STORE + f"models: [{MODEL % ('a' * 64)}, {MODEL % ('b' * 64)}]\nscore: {{n_models: 3}}\n",
            r"score.n_models 3 chooses among the weights that train makes, and 2 are listed. Leave it out",
        ),
        (
            STORE + f"models: [{MODEL % ('a' * 64)}, {MODEL % ('b' * 64)}]\nscore: {{one_a_run: true}}\n",
            r"score.one_a_run chooses among the weights that train makes, and 2 are listed. Leave it out",
        ),
        (STORE + "models: []\n", r"the job: give train, or model for existing weights$"),
        ("name: x\n", r"give ingest and catalogue, or cutouts"),
        ("cutouts: c.zarr\n", r"the job: give train, or model for existing weights$"),
    ],
)
def test_faults_say_where_and_what(text: str, message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        parse(text)


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(SwimmyError) as caught:
        parse(GOOD.replace("19.5", "bright") + "colour: red\nscore: {batch_size: 0}\nsurvey: {cutout_size_px: 60}\n")
    lines = str(caught.value).splitlines()
    assert sorted(int(line.split(":")[1]) for line in lines) == [6, 10, 11, 12]


def test_tags_run_no_code(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for tag in (f"!!python/object/apply:os.mkdir [{victim}]", f"!!python/object/new:os.mkdir [{victim}]"):
        with pytest.raises(SwimmyError, match="could not determine a constructor for the tag"):
            parse(f"name: {tag}\n")
    assert not victim.exists()


def test_an_alias_is_no_repetition() -> None:
    job = parse(GOOD + "survey: {band_divisors: &ones [1, 1, 1, 1, 1], min_depth_mag: *ones}\n")
    assert job.survey.band_divisors == job.survey.min_depth_mag == (1.0,) * 5


def test_a_merged_key_may_be_given_again() -> None:
    text = f"models: [&one {MODEL % ('a' * 64)}, {{<<: *one, sha256: {'b' * 64}}}]\n"
    found = [(model.path.name, model.sha256[0]) for model in parse(STORE + text).models]
    assert found == [("m.keras", "a"), ("m.keras", "b")]


def test_yaml_reads_bands_and_powers_of_ten_as_people_do() -> None:
    job = parse(GOOD + "survey: {bands: [g, r, i, z, y]}\nselect: {levels: {top: 1e-3}}\n")
    assert job.survey.bands[-1] == "y", "not the boolean that YAML 1.1 has for it"
    assert job.select.levels == {"top": 0.001}


@pytest.mark.parametrize(
    "more",
    [
        "",
        "survey: {name: é, zero_point_mag: 31.4, bands: [g, r, i, z, y], stretch_alpha: 0.1}\n",
        "select: {levels: {a: 0.1, b: 0.012345678901234567}, thresholds_from: other/summary.json, formats: [fits]}\n",
        "storage: {partition_objects: 64, chunk_objects: 32}\nscore: {batch_size: 1}\n",
        "storage: {keep_mantissa_bits: 12}\n",
        "score: {kind: noise}\n",
        "score: {kind: noise, floor: 0.05}\n",
    ],
)
def test_round_trip(more: str) -> None:
    job = parse(GOOD + more)
    text = dump_job(job, Path("/elsewhere"))
    again = parse_job(text, Path("/elsewhere/job.yaml"), Job)
    assert again == job
    assert dump_job(again, Path("/elsewhere")) == text
    json.dumps(
        [
            plain(job.survey, Path("/elsewhere")),
            plain(job.sample, Path("/elsewhere")),
            plain(job.select, Path("/elsewhere")),
            plain(job.train, Path("/elsewhere")),
        ]
    )


@pytest.mark.parametrize(
    ("more", "floor"),
    [
        ("", None),
        ("score: {kind: paper}\n", None),
        ("score: {kind: noise}\n", FLOOR),
        ("score: {kind: noise, floor: 0.05}\n", 0.05),
    ],
)
def test_the_kind_of_score(more: str, floor: float | None) -> None:
    job = parse(GOOD + more)
    assert job.score.score_kind == ScoreKind(floor)
    assert yaml.safe_load(dump_job(job, Path("/elsewhere")))["score"]["kind"] == ("paper" if floor is None else "noise")


def test_a_job_is_written_complete_with_defaults() -> None:
    written = yaml.safe_load(dump_job(parse(GOOD), Path("/elsewhere")))
    assert list(written) == list(Job.model_fields)
    assert written["spectroscopy"] is None
    assert written["score"] == {
        "batch_size": None, "n_models": 1, "one_a_run": False, "kind": "paper", "floor": None, "descriptors": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("{floor: 0.1}", r"score: floor belongs to kind: noise. Set the kind, or leave the floor out"),
        ("{kind: paper, floor: 0.1}", r"floor belongs to kind: noise"),
        ("{kind: noise, floor: 0}", r"score.floor: must be a number, above 0 and 1 or less, or null, found 0"),
        ("{kind: noise, floor: 1.5}", r"score.floor: must be a number, above 0 and 1 or less, or null, found 1.5"),
        ("{kind: other}", r"score.kind: must be paper or noise, found 'other'"),
    ],
)
def test_faults_of_the_kind_of_score(score: str, message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        parse(GOOD + f"score: {score}\n")


def test_round_trip_of_no_limit() -> None:
    job = parse(GOOD + "survey: {min_depth_mag: [.nan, 25, 25, 24, 23]}\n")
    again = parse_job(dump_job(job, Path("/elsewhere")), Path("/elsewhere/job.yaml"), Job)
    assert math.isnan(again.survey.min_depth_mag[0])
    assert dump_job(again, Path("/elsewhere")) == dump_job(job, Path("/elsewhere"))


def test_all_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/job.yaml").write_text(
        "catalogue: {path: ../cat.fits, patch_qa: ~/qa.fits}\n"
        "ingest: {coadd: {g: g.fits, r: /abs/r.fits}}\n"
        f"model: {{path: m.keras, sha256: '{'a' * 64}'}}\n"
        "select: {thresholds_from: s.json}\n"
    )
    job = load_job(Path("jobs/job.yaml"), Job)
    assert job.catalogue is not None
    assert job.ingest is not None
    assert job.model is not None
    assert job.catalogue.path == tmp_path / "cat.fits"
    assert job.catalogue.patch_qa == Path("/home/me/qa.fits")
    assert job.ingest.coadd == {"g": tmp_path / "jobs/g.fits", "r": Path("/abs/r.fits")}
    assert job.model.path == tmp_path / "jobs/m.keras"
    assert job.select.thresholds_from == tmp_path / "jobs/s.json"
    store = parse_job("cutouts: c.zarr\ntrain: {}\n", tmp_path / "jobs/job.yaml", Job)
    assert store.cutouts == tmp_path / "jobs/c.zarr"


@pytest.mark.parametrize(
    ("text", "n_models", "files"),
    [
        (GOOD, 1, []),
        (GOOD + "score: {n_models: 2}\n", 2, []),
        (STORE + f"model: {MODEL % ('a' * 64)}\n", 1, ["/data/m.keras"]),
        (STORE + f"models: [{MODEL % ('a' * 64)}]\n", 1, ["/data/m.keras"]),
        (
            STORE + f"models: [{MODEL % ('a' * 64)}, {MODEL % ('b' * 64)}]\nscore: {{n_models: 2}}\n",
            2,
            ["/data/m.keras"] * 2,
        ),
        (
            GOOD.replace("keep_from_epoch: 2}", "keep_from_epoch: 2}\n  n_runs: 5")
            + "score: {n_models: 5, one_a_run: true}\n",
            5,
            [],
        ),
        (
            GOOD.replace("keep_from_epoch: 2}", "keep_from_epoch: 1}\n  n_runs: 5") + "score: {n_models: 15}\n",
            15,
            [],
        ),
    ],
)
def test_how_many_models_score(text: str, n_models: int, files: list[str]) -> None:
    job = parse(text)
    assert job.n_models == n_models
    assert [str(model.path) for model in job.weights] == files
    assert parse_job(dump_job(job, Path("/elsewhere")), Path("/elsewhere/job.yaml"), Job) == job
    assert job.select.combine == "mean"


def test_settings_ask_for_no_more_models_than_are_kept(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"the job: score.n_models 7 is more than the 6 weight sets that train keeps"):
        parse_job(
            "train: {n_runs: 3, schedule: {epochs: 2, keep_from_epoch: 1}}\nscore: {n_models: 7}\n",
            tmp_path / "s",
            Settings,
        )


def campaign(train: str, more: str = "") -> Job:
    return parse(f"{STORE}train: {{{train}}}\n{more}")


def test_a_job_without_a_campaign_evaluates_nothing() -> None:
    train = campaign("").train
    assert train is not None
    assert (train.choose, train.evaluates) == ("validation_loss", False)
    assert train.grid is train.threshold_objects is None
    assert train.known_classes == ("quasar", "xelg")
    assert train.networks == (train.network,)


@pytest.mark.parametrize(
    ("train", "evaluates"),
    [("evaluate: true", True), ("choose: known_classes", True), ("choose: validation_loss", False)],
)
def test_known_classes_are_judged_where_they_choose_or_are_asked_for(train: str, evaluates: bool) -> None:
    section = campaign(train).train
    assert section is not None
    assert section.evaluates is evaluates


def test_a_grid_is_every_combination_of_its_values() -> None:
    train = "network: {encoder_filters: [8, 8]}, n_runs: 10, grid: {latent_filters: [4, 8, 16, 32], noise: [0, 0.05]}"
    job = campaign(f"{train}, schedule: {{epochs: 25, keep_from_epoch: 10}}")
    assert job.train is not None
    found = [(section.latent_filters, section.noise) for section in job.networks]
    assert found == [(d, noise) for d in (4, 8, 16, 32) for noise in (0.0, 0.05)]
    assert {section.encoder_filters for section in job.networks} == {(8, 8)}
    assert (job.train.n_kept_epochs, job.train.n_runs) == (16, 10)
    assert parse_job(dump_job(job, Path("/elsewhere")), Path("/elsewhere/job.yaml"), Job) == job
    assert [section.noise for section in campaign("grid: {latent_filters: [4, 8]}").networks] == [0.02, 0.02]


@pytest.mark.parametrize(
    ("train", "more", "message"),
    [
        ("choose: quasars", "", r"train.choose: must be validation_loss or known_classes, found 'quasars'"),
        ("known_classes: []", "", r"known_classes are one or more classes of sample_class, each once"),
        ("known_classes: [a, b, a]", "", r"known_classes are one or more classes of sample_class, each once"),
        ("known_classes: [any]", "", r"known_classes .* none called 'any'"),
        (
            "evaluate: true, judged_level: 1sigma",
            "",
            r"train.judged_level '1sigma' is none of select.levels: 2sigma, 3sigma, 3.5sigma",
        ),
        ("threshold_objects: 0", "", r"train.threshold_objects: must be a whole number, 1 or more, or null, found 0"),
        ("grid: {}", "", r"train.grid: give values of latent_filters, of noise, or of both"),
        ("grid: {noise: [0.1, 0.1]}", "", r"train.grid: noise has a value twice"),
        ("grid: {latent_filters: [0]}", "", r"train.grid.latent_filters.0: must be a whole number, 1 or more, found 0"),
        ("grid: {noise: [2]}", "", r"train.grid.noise.0: must be a number from 0 to 1, found 2"),
        (
            "grid: {latent_filters: [4, 8]}, schedule: {epochs: 2, keep_from_epoch: 1}",
            "score: {n_models: 3}\n",
            r"score.n_models 3 is more than the 2 weight sets that train keeps of one network",
        ),
    ],
)
def test_faults_of_a_campaign(train: str, more: str, message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        campaign(train, more)


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda path: path.name)
def test_jobs_of_the_project_are_valid(path: Path) -> None:
    job = load_job(path, Job)
    assert parse_job(dump_job(job, path.parent), path, Job) == job


def test_a_job_does_not_change() -> None:
    job = parse(GOOD)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        job.name = "other"  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        job.storage.chunk_objects = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.survey.name = "other"  # type: ignore[misc]


def test_settings_take_the_sections_without_input(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("storage: {partition_objects: 64, chunk_objects: 32}\n")
    assert load_job(tmp_path / "s.yaml", Settings).storage.partition_objects == 64
    with pytest.raises(SwimmyError, match=r"catalogue: no such key\. In the file there are format_version, survey"):
        parse_job(GOOD, tmp_path / "s.yaml", Settings)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"absent.yaml: cannot read the job file \(No such file"):
        load_job(tmp_path / "absent.yaml", Job)
    with pytest.raises(SwimmyError, match=r"cannot read the job file \(it is a folder"):
        load_job(tmp_path, Job)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(SwimmyError, match=r"job.yaml: not UTF-8 text .*at byte 6\). Save it as UTF-8"):
        load_job(tmp_path / "job.yaml", Job)


ADDITIONS = """\
name: test
catalogue: {path: cat.fits, patch_qa: qa.fits, hdu: 2, columns: {ra: RAJ2000}, keep_columns: [kept]}
ingest: {sources: [cutouts], name_pattern: '(?P<object_id>[0-9]+)_(?P<band>[a-z])', match_radius_arcsec: 2.0}
train: {}
additions:
  - {name: night, catalogue: {path: more.fits, columns: {ra: RA}}, ingest: {sources: [more]}}
  - {name: coadds, catalogue: {path: more.fits, patch_qa: more_qa.fits}, ingest: {coadd: {g: g.fits}}}
  - {name: late, ingest: {sources: [late], match_radius_arcsec: 1.0}}
"""


def test_additions_are_described_as_the_job_is() -> None:
    job = parse(ADDITIONS)
    night, coadds, late = job.additions
    assert night.catalogue is not None
    assert night.catalogue.path == Path("/data/more.fits")
    assert (night.catalogue.patch_qa, night.catalogue.hdu) == (Path("/data/qa.fits"), None)
    assert (night.catalogue.columns, night.catalogue.keep_columns) == ({"ra": "RA"}, ("kept",))
    assert job.ingest is not None
    assert night.ingest == job.ingest.model_copy(update={"sources": (Path("/data/more"),)})
    assert (coadds.ingest.name_pattern, coadds.ingest.match_radius_arcsec) == (None, 2.0)
    assert late.catalogue is None
    assert late.ingest.match_radius_arcsec == 1.0
    # The frozen job says all of it.
    assert parse(dump_job(job, Path("/data"))) == job


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: coadds", "name: night", "additions has the same name twice. Give each its own"),
        ("columns: {ra: RA}", "keep_columns: [x]", "addition 'night' keeps other columns than catalogue.keep_columns"),
        ("train: {}", "train: {}\nspectroscopy: {sdss: s.fits}", "additions do not go with spectroscopy"),
        ("sources: [late], ", "", "additions.2.ingest: give either sources or coadd"),
        ("additions:", "additions: 3\nname2:", "additions"),
    ],
)
def test_faults_of_additions(old: str, new: str, message: str) -> None:
    assert old in ADDITIONS
    with pytest.raises(SwimmyError, match=re.escape(message)):
        parse(ADDITIONS.replace(old, new))


def test_additions_go_to_the_run_that_ingests() -> None:
    text = f"name: a\n{STORE}model: {MODEL % ('a' * 64)}\nadditions: [{{name: b, ingest: {{sources: [c]}}}}]\n"
    with pytest.raises(SwimmyError, match="additions go to the run that ingests the cutouts"):
        parse(text)
