"""The JSON schemas, held against the program's own checks by an independent validator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from survey_runs import call_here

from swimmy_scale.cluster.site import parse_site
from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, parse_job

ROOT = Path(__file__).resolve().parents[2]
JOB = """\
name: mine
catalogue: {path: cat.csv}
ingest: {sources: [pixels]}
sample: {max_magnitude: 19.5}
train: {schedule: {epochs: 3, keep_from_epoch: 2}}
"""
SITE = """\
jobqueue:
  driver: {queue: long}
  cpu: {queue: short, cores: 8, processes: 4, memory: 8GiB, walltime: "02:00:00"}
swimmy-scale: {kind: slurm, groups: {cpu: {jobs: 3}}}
"""
STORE = "cutouts: c.zarr\n"
SHA = "a" * 64


@pytest.fixture(scope="module", name="validators")
def _validators() -> dict[str, Draft202012Validator]:
    """As the user gets them."""
    found = {}
    for what in ("job", "site"):
        schema = json.loads(call_here("schema", what).stdout)
        Draft202012Validator.check_schema(schema)
        found[what] = Draft202012Validator(schema)
    return found


def program_takes(what: str, text: str) -> bool:
    try:
        parse_job(text, Path("/f.yaml"), Job) if what == "job" else parse_site(text, Path("/f.yaml"))
    except SwimmyError:
        return False
    return True


FILES = [("job", path) for path in sorted((ROOT / "jobs").glob("*.yaml"))]
FILES += [("site", path) for path in sorted((ROOT / "cluster").glob("*.yaml"))]


@pytest.mark.parametrize(("what", "path"), FILES, ids=[path.name for _, path in FILES])
def test_files_of_the_project_fit(what: str, path: Path, validators: Any) -> None:
    assert list(validators[what].iter_errors(yaml.safe_load(path.read_text()))) == []
    other = "site" if what == "job" else "job"
    assert not validators[other].is_valid(yaml.safe_load(path.read_text()))


AGREED = [
    ("job", JOB, True),
    ("job", STORE + "model: {run: ../other}\n", True),
    ("job", STORE + f"model: {{path: m.keras, sha256: {SHA}}}\n", True),
    ("job", STORE + f"model: {{path: m.keras, sha256: {SHA}, run: ../other}}\n", True),
    ("job", STORE + f"models: [{{path: m.keras, sha256: {SHA}}}]\n", True),
    ("job", JOB.replace("sample:", "sampel:"), False),
    ("job", JOB.replace("max_magnitude", "max_magnitud"), False),
    ("job", JOB.replace("19.5", "bright"), False),
    ("job", JOB.replace("19.5", "true"), False),
    ("job", JOB.replace("19.5", "null"), True),
    ("job", JOB.replace("[pixels]", "pixels"), False),
    ("job", JOB.replace("epochs: 3", "epoch: 3"), False),
    ("job", JOB.replace("epochs: 3", "epochs: 2.5"), False),
    ("job", JOB.replace("path: cat.csv", ""), True),
    ("job", JOB.replace("path: cat.csv", "path: 5"), False),
    ("job", JOB.replace("catalogue: {path: cat.csv}\n", ""), True),
    ("job", JOB.replace("ingest: {sources: [pixels]}\n", ""), False),
    ("job", JOB + "survey: hsc\n", True),
    ("job", JOB + "survey: hcs\n", False),
    ("job", JOB + "survey: {base: hsc, name: mine}\n", True),
    ("job", JOB + "survey: {base: mine}\n", False),
    ("job", JOB.replace("train: {schedule: {epochs: 3, keep_from_epoch: 2}}\n", ""), False),
    ("job", JOB.replace("19.5", "19.5, colours: [[g, r]]"), False),
    ("job", JOB.replace("19.5", "19.5, redshift: [0.1, 0.2, 0.3]"), False),
    ("job", JOB + "score: {kind: other}\n", False),
    ("job", JOB + "score: {n_models: 0}\n", False),
    ("job", JOB + "storage: {keep_mantissa_bits: 30}\n", False),
    ("job", JOB + "format_version: 2\n", False),
    ("job", STORE + "model: {}\n", False),
    ("job", STORE + "model: {path: m.keras}\n", False),
    ("job", STORE + "model: {path: m.keras, sha256: abc}\n", False),
    ("job", STORE + "model: {run: ../other, noise: 3}\n", False),
    ("job", STORE + "model: m.keras\n", False),
    ("site", SITE, True),
    ("site", "swimmy-scale: {kind: local}\n", True),
    ("site", "swimmy_scale: {kind: local, poll_seconds: 3}\n", True),
    ("site", SITE.replace("queue: short", "queue: short, job_cpu: 4"), True),
    ("site", SITE.replace("cores", "coers"), False),
    ("site", SITE.replace("kind: slurm", "kind: pbs"), False),
    ("site", SITE.replace("kind: slurm, ", ""), False),
    ("site", SITE.replace("jobs: 3", "jobs: 0"), False),
    ("site", SITE.replace("cores: 8", "cores: 8, python: apptainer exec image.sif python"), True),
    ("site", SITE.replace("cores: 8", "cores: 8, python: [apptainer, exec, image.sif, python]"), True),
    ("site", SITE.replace("cores: 8", "cores: 8, python: 3.12"), False),
    ("site", SITE.replace("jobs: 3", "jobs: 3, gpus: -1"), False),
    ("site", SITE.replace("cpu: {jobs", "CPU: {jobs"), False),
    ("site", SITE.replace("02:00:00", "2 hours"), False),
    ("site", SITE.replace("queue: short", "queue: a b"), False),
    ("site", SITE.replace("queue: short", "partition: short"), False),
    ("site", "jobqueue: {}\n", False),
]


@pytest.mark.parametrize(("what", "text", "fits"), AGREED, ids=[str(n) for n in range(len(AGREED))])
def test_schema_and_program_agree(what: str, text: str, fits: bool, validators: Any) -> None:
    assert program_takes(what, text) == fits
    found = list(validators[what].iter_errors(yaml.safe_load(text)))
    assert (not found) == fits, found


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("job", JOB.replace("keep_from_epoch: 2", "keep_from_epoch: 9")),
        ("job", JOB + STORE),
        ("job", JOB + "storage: {partition_objects: 100}\n"),
        ("job", JOB.replace("epochs: 3", "epochs: 0")),
        ("site", SITE.replace("cores: 8", "cores: 2")),
        ("site", SITE.replace("jobs: 3", "jobs: 3, gpus: 2")),
        ("site", SITE.replace("8GiB", "2GiB")),
        ("site", SITE.replace("kind: slurm", "kind: local")),
    ],
)
def test_rules_between_keys_are_the_programs_alone(what: str, text: str, validators: Any) -> None:
    """The reference page says so: if the schema learns one, the page and this table change."""
    assert not program_takes(what, text)
    assert validators[what].is_valid(yaml.safe_load(text))


def test_an_editor_is_told_what_each_key_means(validators: Any) -> None:
    for validator in validators.values():
        schema = validator.schema
        for part in [schema, *schema["$defs"].values()]:
            for name, content in part["properties"].items():
                assert len(content["description"]) > 20, name
    cuts = validators["job"].schema["$defs"]["SampleCuts"]["properties"]
    assert cuts["redshift"]["examples"] == [[0.05, 0.2]]
    assert cuts["max_magnitude"]["default"] == 20.0
