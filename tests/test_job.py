"""Job files: what is accepted, and where and what the errors say."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from swimmy_scale.errors import SwimmyError
from swimmy_scale.job import Job, Settings, dump_job, load_job, parse_job

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


def parse(text: str) -> Job:
    return parse_job(text, Path("/data/job.yaml"), Job)


def test_paths_are_relative_to_the_job_file() -> None:
    job = parse(GOOD)
    assert job.catalogue is not None
    assert job.ingest is not None
    assert job.catalogue.path == Path("/data/cat.fits")
    assert job.ingest.sources == (Path("/data/cutouts"), Path("/data/more.tar"))
    assert job.sample.colours == (("g", "r", 1.1),)
    assert job.schedule(2).seed == job.schedule(0).seed + 2
    assert job.network.latent_filters == 8


def test_defaults_are_the_papers() -> None:
    job = parse(GOOD)
    assert dict(job.select.levels) == {"2sigma": 0.05, "3sigma": 0.003, "3.5sigma": 0.000465}
    assert job.survey.target_fwhm_arcsec == 1.0
    assert (
        parse(GOOD.replace("sample:\n  max_magnitude: 19.5\n  colours: [[g, r, 1.1]]\n", "")).sample.max_magnitude == 20
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "a job is a mapping of sections; found list"),
        ("a: [\n", "not valid YAML"),
        ("!!python/object/apply:os.system [ls]\n", "not valid YAML.*could not determine a constructor"),
        (GOOD + "colour: red\n", r"/data/job.yaml:10: colour: Extra inputs are not permitted, found 'red'"),
        (GOOD.replace("max_magnitude", "max_magnitud"), r"job.yaml:6: sample.max_magnitud: Unexpected keyword"),
        (GOOD.replace("19.5", "bright"), r"job.yaml:6: sample.max_magnitude: .*found 'bright'"),
        (GOOD.replace("epochs: 3", "epochs: 0"), r"epochs"),
        (GOOD.replace("cutouts, more.tar", ""), r"job.yaml:3: ingest: .*give either sources or coadd"),
        (GOOD + "score: {batch_size: 0}\n", r"job.yaml:10: score.batch_size: .*greater than or equal to 1, found 0"),
        (GOOD + "select: {levels: {a: 0.01, b: 0.05}}\n", r"levels go from the largest fraction to the smallest"),
        (GOOD + "select: {levels: {a: 1.5}}\n", r"every level needs a fraction between 0 and 1"),
        (GOOD + "storage: {partition_objects: 100, chunk_objects: 30}\n", r"multiple of chunk_objects \(30\)"),
        (GOOD + "cutouts: c.zarr\n", r"the job: .*leave out ingest and catalogue"),
        (GOOD + "model: {path: m.keras, sha256: abc}\n", r"model.sha256: String should match pattern"),
        (GOOD + f"model: {{path: m.keras, sha256: '{'0' * 64}'}}\n", r"give train, or model"),
        (
            GOOD + "survey: {bands: [g, g, i, z, y]}\n",
            r"job.yaml: survey .*must be distinct.*Correct the survey section",
        ),
        (GOOD + "format_version: 2\n", r"job.yaml:10: format_version: Input should be 1, found 2"),
        (GOOD.replace("[g, r, 1.1]", "[g, u, 1.1]"), r"sample cut g - u: survey .* has no band 'u'"),
        ("name: x\n", r"give ingest and catalogue, or cutouts"),
    ],
)
def test_faults_say_where_and_what(text: str, message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        parse(text)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SwimmyError) as caught:
        parse(GOOD + "colour: red\nscore: {batch_size: 0}\n")
    assert len(str(caught.value).splitlines()) == 2


def test_round_trip() -> None:
    job = parse(GOOD)
    assert parse_job(dump_job(job), Path("/elsewhere/job.yaml"), Job) == job


def test_a_job_does_not_change() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        parse(GOOD).name = "other"  # type: ignore[misc]


def test_settings_take_the_sections_without_input(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("storage: {partition_objects: 64, chunk_objects: 32}\n")
    assert load_job(tmp_path / "s.yaml", Settings).storage.partition_objects == 64
    with pytest.raises(SwimmyError, match="ingest: Extra inputs are not permitted"):
        parse_job(GOOD, tmp_path / "s.yaml", Settings)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=r"absent.yaml: cannot read the job file \(No such file"):
        load_job(tmp_path / "absent.yaml", Job)
