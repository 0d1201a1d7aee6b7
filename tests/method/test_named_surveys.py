"""Surveys by name: data files, whole or as the base of a job's own values."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from swimmy_scale.method import named_surveys
from swimmy_scale.method.job import Job, dump_job, parse_job
from swimmy_scale.method.named_surveys import NAMES, read_survey
from swimmy_scale.method.survey import HSC, Survey

JOB = "ingest: {sources: [pixels]}\ntrain: {}\nsample: {colours: []}\n"


def survey_of(text: str) -> Survey:
    return parse_job(f"{JOB}survey: {text}\n", Path("/data/job.yaml"), Job).survey


def test_there_is_a_file_for_each_name() -> None:
    folder = Path(named_surveys.__file__).with_name("surveys")
    assert sorted(path.stem for path in folder.glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_its_source(name: str) -> None:
    content = read_survey(name)
    assert content.keys() == {"survey", "sources"}
    values = dict(content["survey"])
    assert values.pop("name")
    assert content["sources"].keys() == values.keys()
    assert all(isinstance(source, str) and source for source in content["sources"].values())
    assert content["survey"].keys() <= {field.name for field in fields(Survey)}
    # What is left out is the method's own, and the same for all.
    method = {"cutout_size_px", "stretch_zero_point_mag", "stretch_alpha", "stretch_beta", "aperture_diameter_px"}
    own = {*method, "pixel_scale_tolerance"}
    left_out = {field.name for field in fields(Survey)} - content["survey"].keys()
    assert left_out - {"file_zero_points_mag"} == own


def test_hsc_is_what_a_job_has_without_it() -> None:
    assert survey_of("hsc") == survey_of("{base: hsc}") == survey_of("{}") == HSC


def test_own_values_stand_in_place_of_those_of_the_base() -> None:
    survey = survey_of("{base: legacy-south, name: mine, target_fwhm_arcsec: 1.4}")
    assert (survey.name, survey.target_fwhm_arcsec) == ("mine", 1.4)
    assert (survey.bands, survey.pixel_scale_arcsec, survey.zero_point_mag) == (("g", "r", "i", "z"), 0.262, 22.5)
    assert all(math.isnan(limit) for limit in survey.min_depth_mag)


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_job_says_all_values(name: str) -> None:
    """A later version of the package may know better: a run keeps what it had."""
    job = parse_job(f"{JOB}survey: {name}\n", Path("/data/job.yaml"), Job)
    text = dump_job(job, Path("/data"))
    frozen = yaml.safe_load(text)["survey"]
    assert "base" not in frozen
    assert frozen.keys() == asdict(job.survey).keys()
    again = parse_job(text, Path("/data/job.yaml"), Job).survey
    assert repr(again) == repr(job.survey)
