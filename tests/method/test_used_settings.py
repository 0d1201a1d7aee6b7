"""Settings of a command: what it does not use is told or refused, and its help names the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from survey_runs import call_here

from swimmy_scale.errors import SwimmyError
from swimmy_scale.method.job import Job, Settings, load_job, load_settings
from swimmy_scale.method.used_settings import USED_BY, USED_BY_EVALUATION, words_for_used

COMMANDS = [name for name in USED_BY if " " not in name]
SECTIONS: dict[str, Any] = {
    "survey": {"name": "x"},
    "sample": {"max_magnitude": 19.0},
    "train": {"n_runs": 2},
    "score": {"batch_size": 9},
    "select": {"combine": "median"},
    "storage": {"partition_objects": 512},
}
USES = {
    "ingest": {"survey", "storage"},
    "train": {"sample", "train"},
    "score": {"score"},
    "select": {"sample", "select"},
    "classify": {"survey", "sample"},
    "request": {"survey"},
}
# The file may be that of a later command too; what an earlier one should have known comes too late.
TOO_LATE = {
    "ingest": set(),
    "train": {"survey", "storage"},
    "score": {"survey", "storage", "train"},
    "select": {"survey", "storage", "train", "score"},
    "classify": set(),
    "request": set(),
}


def write(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("section", list(SECTIONS))
def test_a_section_is_used_or_told_or_refused(tmp_path: Path, command: str, section: str) -> None:
    path = write(tmp_path / "s.yaml", format_version=1, **{section: SECTIONS[section]})
    said: list[str] = []
    if section not in TOO_LATE[command]:
        assert load_settings(path, command, said.append) == load_job(path, Settings)
        if section in USES[command]:
            assert said == []
        else:
            (line,) = said
            assert re.search(rf"s\.yaml:[23]: {section}.*: {command} does not use it, .* do(es)?$", line)
        return
    with pytest.raises(SwimmyError, match=rf"s\.yaml:[23]: {section}.*: {command} does not use it.*Leave it out\."):
        load_settings(path, command)


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        (
            "select",
            {"survey": {"name": "x"}},
            r"s.yaml:1: survey: select does not use it, request, classify and ingest do",
        ),
        ("score", {"score": {"kind": "noise", "one_a_run": True}}, r"s.yaml:3: score.one_a_run: score .*, train does;"),
        ("score", {"train": {"n_runs": 2}}, r"train.n_runs: score .* uses score \(n_models, .*train \(network"),
        ("select --marks", {"select": {"combine": "mean"}}, r"select.combine: select --marks .* select \(formats\)"),
    ],
)
def test_what_is_said(tmp_path: Path, command: str, content: dict[str, Any], message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        load_settings(write(tmp_path / "s.yaml", **content), command)


def test_an_evaluation_uses_more(tmp_path: Path) -> None:
    content = {"train": {"evaluate": True}, "score": {"kind": "noise", "floor": 0.1}, "select": {"levels": {"a": 0.1}}}
    assert load_settings(write(tmp_path / "s.yaml", **content), "train").score.kind == "noise"
    content["train"] = {}
    said: list[str] = []
    load_settings(write(tmp_path / "s.yaml", **content), "train", said.append)
    assert [line.split(": ")[1] for line in said] == ["score.kind", "score.floor", "select"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_what_is_used(command: str) -> None:
    text = " ".join(call_here(command, "--help").stdout.split())
    assert f"sections of a job file: {words_for_used(command)}." in text


def test_every_name_is_one_of_a_section() -> None:
    for name in {name for names in USED_BY.values() for name in names} | set(USED_BY_EVALUATION):
        section, _, key = name.partition(".")
        kind = type(getattr(Settings.model_validate({"train": {}}), section))
        assert not key or key in kind.model_fields, name


STORED = {"cutouts": "c.zarr", "train": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**STORED, "storage": {"partition_objects": 512}}, "scores take its partitions; leave out storage"),
        ({**STORED, "select": {"combine": "rank"}}, "select.combine rank is for several models, and one scores"),
        (
            {**STORED, "train": {"judged_level": "2sigma"}},
            "judged_level say how weights are judged, and nothing judges",
        ),
        ({**STORED, "train": {"threshold_objects": 9}}, "threshold_objects say how weights are judged"),
        ({**STORED, "train": {"known_classes": ["quasar"]}}, "known_classes say how .* Set evaluate: true or choose"),
        (
            {"catalogue": {"path": "c"}, "ingest": {"coadd": {"g": "g.fits"}, "name_pattern": "x"}, "train": {}},
            "name_pattern is for names of cutout files",
        ),
        (
            {"catalogue": {"path": "c"}, "ingest": {"coadd": {"g": "g.fits"}, "kind": "cube"}, "train": {}},
            "coadd gives images of coadds, and kind says cube",
        ),
    ],
)
def test_what_a_job_would_not_use_is_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(SwimmyError, match=message):
        load_job(write(tmp_path / "job.yaml", **content), Job)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("classify", "c.fits", "--sdss", "s.fits", "--mpa-jhu-widths", "rest", "--output", "o"), "--mpa-jhu names"),
        (("figures", "run", "stretch", "--spectra", "s"), "--spectra is for the figure stacked-spectra"),
        (("figures", "run", "stacked-spectra", "--object", "1"), "--object is for the figure stretch"),
    ],
)
def test_options_that_are_not_used_are_refused(words: tuple[str, ...], message: str) -> None:
    done = call_here(*words)
    assert done.returncode == 2
    assert message in done.stderr
