"""Ingest of a job with tables of spectra: what reaches the store, the file beside it, and when it is made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from survey_runs import Serial, mark, verification, verify, write_job

import swimmy_scale
from swimmy_scale.cli import main
from swimmy_scale.cli.progress import Watch
from swimmy_scale.errors import SwimmyError
from swimmy_scale.ingest.catalogue.catalogue import read_catalogue
from swimmy_scale.method.job import Job, dump_job, load_job, plain
from swimmy_scale.simulate import SimulationPlan, simulate
from swimmy_scale.stages.engine import run_stage
from swimmy_scale.stages.ingest import IngestStage
from swimmy_scale.stages.run import Run, check_inputs
from swimmy_scale.stages.spectroscopy import matched_rows
from swimmy_scale.storage.counterparts import read_counterparts
from swimmy_scale.storage.cutouts import FORMAT_VERSION, Cutouts
from swimmy_scale.storage.files import digest_json
from swimmy_scale.storage.receipts import FINISHED
from swimmy_scale.storage.run_directory import RunDirectory

SECTION = {
    "sdss": "spectroscopy/specObj.fits",
    "gama": "spectroscopy/GAMA.fits",
    "mpa_jhu": {name: f"spectroscopy/galSpec{name.title()}.fits" for name in ("info", "line", "extra")},
    "dr16q": "spectroscopy/DR16Q.fits",
    "milliquas": "spectroscopy/milliquas.fits",
}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    simulate(str(folder), SimulationPlan(n_objects=60, seed=3, faulty_fraction=0.25, n_objects_per_tar=30))
    return folder


@pytest.fixture
def own_survey(survey: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(survey, tmp_path / "own"))


def stage_of(folder: Path, run: Path, section: dict[str, Any] | None = SECTION) -> IngestStage:
    path = write_job(folder / "job.yaml", folder, **({"spectroscopy": section} if section else {}))
    job = load_job(path, Job)
    assert job.ingest is not None
    assert job.catalogue is not None
    ledger = Run(RunDirectory(run), job, 1).ledger("ingest")
    return IngestStage(
        ledger, run / "cutouts.zarr", job.survey, job.catalogue, job.ingest, job.storage, job.spectroscopy
    )


def ingest(stage: IngestStage) -> int:
    """Run the stage; return the number of tasks that it did."""
    workers = Serial()
    with Watch() as watch:
        run_stage(stage, workers, watch)
    return workers.n_tasks


@pytest.fixture(scope="module")
def done(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("done") / "run"
    ingest(stage_of(survey, run))
    return run


def test_redshifts_and_classes_of_the_store_are_those_of_the_counterparts(survey: Path, done: Path) -> None:
    store, counterparts = Cutouts(done / "cutouts.zarr"), read_counterparts(done / "counterparts.fits")
    job = load_job(survey / "job.yaml", Job)
    assert job.catalogue is not None
    usable = matched_rows(read_catalogue(job.catalogue, job.survey))
    row = counterparts.rows_of(store.read("object_id", 0, 60))
    row[~usable] = -1
    assert np.count_nonzero(~usable) > 0
    known = row >= 0
    assert np.count_nonzero(known) == len(counterparts) > 50
    redshift, names = store.read("redshift", 0, 60), store.read("sample_class", 0, 60).astype(str)
    np.testing.assert_array_equal(redshift[known], counterparts.redshift[row[known]])
    np.testing.assert_array_equal(names[known], counterparts.sample_class[row[known]])
    assert np.isnan(redshift[~known]).all()
    assert set(names[~known].tolist()) == {""}
    assert "redshift" in store.attrs["available_columns"]


def test_receipt_protects_the_file_and_a_damaged_one_is_made_again(own_survey: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ingest(stage_of(own_survey, run))
    path = run / "counterparts.fits"
    whole = path.read_bytes()
    done = stage_of(own_survey, run).ledger.read(FINISHED)
    assert done is not None
    assert "counterparts.fits" in done.files
    path.write_bytes(whole[:-1] + b"\x01")
    assert [damage.path for damage in verify(run)] == ["counterparts.fits"]
    mark(run)
    assert ingest(stage_of(own_survey, run)) == 0  # no partition is done again
    assert path.read_bytes() == whole
    assert verification(run).damage == []


def test_finished_ingest_needs_its_tables_no_more_and_changed_ones_are_matched_again(
    own_survey: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert ingest(stage_of(own_survey, run)) == 2
    before = stage_of(own_survey, run).identity
    moved = own_survey / "spectroscopy" / "DR16Q.fits"
    content = moved.read_bytes()
    moved.unlink()
    assert stage_of(own_survey, run).identity == before
    assert ingest(stage_of(own_survey, run)) == 0
    # The same bytes at another time are the same table; other bytes are another.
    moved.write_bytes(content)
    assert ingest(stage_of(own_survey, run)) == 0
    moved.write_bytes(content.replace(b"DR16Q", b"DR17Q"))
    assert stage_of(own_survey, run).identity != before
    assert ingest(stage_of(own_survey, run)) == 2


def test_without_the_section_nothing_is_different(survey: Path, tmp_path: Path) -> None:
    stage = stage_of(survey, tmp_path / "run", None)
    expected = ["ingest", FORMAT_VERSION, swimmy_scale.__version__]
    expected += [
        plain(part, stage.ledger.root) for part in (stage.survey, stage.catalogue, stage.sources, stage.storage)
    ]
    assert stage.identity == digest_json(expected)
    assert yaml.safe_load(dump_job(load_job(survey / "job.yaml", Job), Path("/elsewhere")))["spectroscopy"] is None
    ingest(stage)
    assert not (tmp_path / "run" / "counterparts.fits").exists()
    assert sorted(path.name for path in (tmp_path / "run" / "receipts").iterdir()) == ["ingest", "ingest.notes.json"]
    own = Cutouts(tmp_path / "run" / "cutouts.zarr").read("sample_class", 0, 60).astype(str)
    assert set(own.tolist()) <= {"training", "other", "xelg", "quasar", "agn_candidate"}


def test_job_with_the_section_is_frozen_with_it(survey: Path, done: Path) -> None:
    job = load_job(write_job(survey / "job.yaml", survey, spectroscopy=SECTION), Job)
    assert job.spectroscopy is not None
    assert all(path.is_absolute() for path in job.spectroscopy.paths)
    assert yaml.safe_load(dump_job(job, Path("/elsewhere")))["spectroscopy"]["match_radius_arcsec"] == 1.0


def test_missing_table_is_told_before_anything_is_done(survey: Path, tmp_path: Path) -> None:
    section = {**SECTION, "gama": "spectroscopy/absent.fits"}
    job = load_job(write_job(survey / "absent.yaml", survey, spectroscopy=section), Job)
    with pytest.raises(SwimmyError, match=r"absent\.fits: not there\. Correct the path in the job file"):
        check_inputs(Run(RunDirectory(tmp_path / "run"), job, 1))
    with pytest.raises(SwimmyError, match=r"absent\.fits: not there"):
        stage_of(survey, tmp_path / "run", section).identity  # noqa: B018


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"match_radius_arcsec": 1.0}, "give one table at least"),
        ({"sdss": "a.fits", "match_radius_arcsec": 0}, "must be a number, above 0 and 3600 or less, found 0"),
        ({"mpa_jhu": {"info": "a.fits", "line": "b.fits"}}, "extra"),
        ({"sdss": "a.fits", "boss": "b.fits"}, "boss"),
    ],
)
def test_faulty_section_is_refused(section: dict[str, Any], message: str, survey: Path, tmp_path: Path) -> None:
    with pytest.raises(SwimmyError, match=message):
        load_job(write_job(tmp_path / "job.yaml", survey, spectroscopy=section), Job)


def test_section_beside_a_store_is_refused(survey: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path / "job.yaml", survey, spectroscopy=SECTION, catalogue=None, ingest=None, cutouts="c.zarr")
    with pytest.raises(SwimmyError, match="leave out spectroscopy"):
        load_job(path, Job)


def test_classify_prints_table_1(survey: Path, done: Path, tmp_path: Path) -> None:
    tables = survey / "spectroscopy"
    mpa_jhu = [str(tables / f"galSpec{name}.fits") for name in ("Info", "Line", "Extra")]
    arguments = [
        "classify", str(survey / "catalogue.fits"), "--patch-qa", str(survey / "patch_qa.fits"),
        "--sdss", str(tables / "specObj.fits"), "--gama", str(tables / "GAMA.fits"), "--mpa-jhu", *mpa_jhu,
        "--dr16q", str(tables / "DR16Q.fits"), "--milliquas", str(tables / "milliquas.fits"),
        "--output", str(tmp_path / "counterparts.fits"),
    ]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "counterparts.fits").read_bytes() == (done / "counterparts.fits").read_bytes()
    numbers = {}
    for line in result.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("│┃ ").split("│")]
        if len(cells) == 2 and cells[1].isdigit():
            numbers[cells[0]] = int(cells[1])
    assert list(numbers) == [
        "Test data", "(1) SDSS MPA-JHU", "(1-1) Training data", "(1-2) XELGs", "(1-3) AGN candidates (BPTCLASS >= 3)",
        "(1) whose class is unknown", "(3) DR16Q quasars", "(4) Other spec-z (SDSS & GAMA)", "in (1) and (3) both",
    ]  # fmt: skip
    total, mpa, training, *_, quasars, others, both = numbers.values()
    assert total == mpa + quasars + others - both
    assert 0 < training < mpa < total < 60
    assert "0.05 < redshift < 0.2" in result.stderr
    # The catalogue, and seven tables: all were counted.
    assert "classify: done, 8 files in " in result.stderr


def test_classify_without_a_table_is_a_wrong_usage(survey: Path, tmp_path: Path) -> None:
    arguments = ["classify", str(survey / "catalogue.fits"), "--output", str(tmp_path / "c.fits")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "give one table at least" in result.output


def test_warning_of_the_run_says_where_redshifts_come_from(done: Path) -> None:
    notes = json.loads((done / "receipts" / "ingest.notes.json").read_text())
    assert any("counterparts within 1 arcsec, not the catalogue's" in warning for warning in notes["warnings"])
